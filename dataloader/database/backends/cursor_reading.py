"""A query's rows from a cursor: Python values, which a column's declared type or its first values make Arrow."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import itertools
import math
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataloader.conversion.column_types import ColumnType
from dataloader.database.backends.reading import BATCH_ROWS, JSON, UNSETTLED, Receiver, positions
from dataloader.errors import ReadError

FIRST_ROWS = 4_096
FIRST_STEP_ROWS, STEP_ROWS = 64, 1_024
"""So many rows are fetched at most before it is looked at how long they are."""
BATCH_BYTES = 4 << 20
"""A batch is full once its texts and bytes are so long, as read from PostgreSQL."""
TURN_SECONDS = 0.1
"""A thread that owns a cursor reads no longer than that before it is heard of."""
_SHOWN = 40
_ZONED = re.compile(r"(?:Z|[+-]\d\d(?::?\d\d)?)$")
_TIME = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?")
_NUMBER = re.compile(
    r"[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE
)
_MOST_DIGITS = 38
Run = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of a column become Arrow.

    Attributes
    ----------
    arrow : pyarrow.DataType
        What they become.
    taken : frozenset of type
        The Python types that are meant.
    prepare : callable or None
        Makes of a value what Arrow takes.
    read : bool
        Whether the values are texts that Arrow reads.
    spells : bool
        Whether Arrow reads the shortest spelling of numbers, where none of them is a text.
    settles : bool
        Whether the digits are found out when the whole result is there.
    """

    arrow: pa.DataType
    taken: frozenset[type]
    prepare: Callable[[Any], Any] | None = None
    read: bool = False
    spells: bool = False
    settles: bool = False

    @property
    def is_short(self) -> bool:
        """Whether no value is long."""
        return not (pa.types.is_string(self.arrow) or pa.types.is_binary(self.arrow))

    def array(self, values: Sequence[Any]) -> pa.Array:
        """The values as an array.

        Raises
        ------
        ValueError, TypeError
            When one is none of this type.
        """
        if (found := self._inferred(values)) is not None:
            return found
        types = set(map(type, values))
        if not types <= self.taken | {type(None)}:
            raise TypeError("a value of another type")
        if self.spells and str not in types:  # a fifth of the time of as many decimals
            texts = [None if value is None else str(value) for value in values]
            return pa.array(texts, pa.string()).cast(self.arrow)
        if self.prepare is not None:
            values = [None if value is None else self.prepare(value) for value in values]
        if self.read:
            return pa.array(values, pa.string()).cast(self.arrow)
        return pa.array(values, self.arrow)

    def _inferred(self, values: Sequence[Any]) -> pa.Array | None:
        """The values as an array, None unless Arrow finds by itself what they are: half the time of looking at each."""
        sent = pa.string() if self.read else self.arrow
        if self.prepare is not None or sent not in _INFERRED:
            return None
        try:
            found = pa.array(values)
        except (ValueError, TypeError, OverflowError):
            return None
        if found.type != sent:
            return None
        return found.cast(self.arrow) if self.read else found


_INFERRED = (pa.int64(), pa.float64(), pa.string())
"""What Arrow finds only where all values are of that type: bytes among texts are bytes to it."""


def _boolean(value: int) -> bool:
    if value not in {0, 1}:
        raise ValueError("neither 0 nor 1")
    return bool(value)


def _time(text: str) -> dt.time:
    if not _TIME.fullmatch(text):  # Python would drop a seventh digit
        raise ValueError("no time of day")
    return dt.time.fromisoformat(text)


def _exact(value: float | str) -> decimal.Decimal:
    """A float by its shortest spelling, as loads store it."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):  # Python would take blanks, 1_000 and other digits
        raise ValueError("no number")
    return decimal.Decimal(repr(value) if isinstance(value, float) else value)


def _digits(value: float | str) -> str:
    text = str(value)
    if type(value) is not str and "e" not in text and "n" not in text:
        return text
    return format(_exact(value), "f")


_NUMBERS = frozenset({int, float, str})
_TEXT = Kind(pa.string(), frozenset({str}))
_INTEGER = Kind(pa.int64(), frozenset({int}))
_FLOAT = Kind(pa.float64(), frozenset({float, int}))
_BYTES = Kind(pa.binary(), frozenset({bytes}))
_MOMENT = Kind(pa.timestamp("us"), frozenset({str}), read=True)
_ZONED_MOMENT = Kind(pa.timestamp("us", "UTC"), frozenset({str}), read=True)
_STORED = {
    "datetime": _MOMENT,
    "int8": _INTEGER,
    "real": _FLOAT,
    "bytea": _BYTES,
    "bool": Kind(pa.bool_(), frozenset({int}), _boolean),
    "date": Kind(pa.date32(), frozenset({str}), read=True),
    "time": Kind(pa.time64("us"), frozenset({str}), _time),
    "number": Kind(pa.string(), _NUMBERS, _digits, settles=True),
    **dict.fromkeys(("text", "varchar", "bpchar", "json", "uuid"), _TEXT),
}
_FOUND: tuple[tuple[frozenset[type], Kind], ...] = (
    (frozenset({bool}), Kind(pa.bool_(), frozenset({bool}))),
    (frozenset({int}), _INTEGER),
    (frozenset({float, int}), _FLOAT),
    (frozenset({str}), _TEXT),
    (frozenset({bytes}), _BYTES),
    (frozenset({decimal.Decimal}), Kind(pa.string(), frozenset({decimal.Decimal}), "{:f}".format, settles=True)),
    (frozenset({dt.date}), Kind(pa.date32(), frozenset({dt.date}))),
    (frozenset({dt.time}), Kind(pa.time64("us"), frozenset({dt.time}))),
    (frozenset({dt.timedelta}), Kind(pa.duration("us"), frozenset({dt.timedelta}))),
    (frozenset({uuid.UUID}), Kind(pa.string(), frozenset({uuid.UUID}), str)),
)


def kind_of(declared: ColumnType | None, values: Sequence[Any], name: str) -> Kind:
    """How a column becomes Arrow: by its declared type, else by its first values.

    Raises
    ------
    ReadError
        When they are of several types.
    """
    if declared is not None and declared.scale is not None:
        digits, scale = declared.precision or _MOST_DIGITS, declared.scale
        return Kind(pa.decimal128(max(digits, scale), scale), _NUMBERS, _exact, spells=True)
    known = None if declared is None else _STORED.get(declared.kind)
    if known is _MOMENT:
        first = next((value for value in values if value is not None), "")
        return _ZONED_MOMENT if isinstance(first, str) and _ZONED.search(first[10:]) else _MOMENT
    if known is not None:
        return known
    types = frozenset(map(type, values)) - {type(None)}
    if types == {dt.datetime}:
        aware = next(value for value in values if value is not None).tzinfo is not None
        return Kind(pa.timestamp("us", "UTC" if aware else None), types)
    if not types:
        return _TEXT
    found = next((kind for meant, kind in _FOUND if types <= meant), None)
    if found is None:
        what = f"column {name!r} has values of several types: {', '.join(sorted(one.__name__ for one in types))}"
        raise ReadError(what, hint=_as_one_type(name), column=name)
    return found


def _as_one_type(name: str) -> str:
    return f"Read it as one type: CAST({name} AS TEXT), or leave the other rows out."


class CursorReading:
    """Makes batches of the rows of a cursor, in a thread, and hands them on.

    The rows come in steps. Each becomes Arrow at once, while its values are in the processor's cache.
    """

    def __init__(self, names: Sequence[str], declared: Sequence[ColumnType | None], wanted: Sequence[str] | None):
        self._positions = positions(names, wanted)
        self._names = [names[at] for at in self._positions]
        self._declared = [declared[at] for at in self._positions]
        self._width = len(names)
        self._ignored = sorted({*range(len(names))} - {*self._positions})
        self._kinds: list[Kind] = []
        self._long: list[int] = []
        self._schema: pa.Schema | None = None
        self._first: list[list[Any]] = [[] for _ in self._positions]
        self._parts: list[list[pa.Array]] = []
        self._step, self._most = FIRST_STEP_ROWS, FIRST_ROWS
        self._rows = self._count = self._nbytes = 0
        self._is_over = False

    async def hand_on(self, fetch: Callable[[int], Any], receiver: Receiver) -> None:
        """Hand on all rows; `fetch` gives the next ones."""

        async def fill() -> None:
            size = self._next_size()
            rows = await fetch(size)
            await asyncio.to_thread(self._add, rows, size)

        await self._hand_on(fill, asyncio.to_thread, receiver)

    async def hand_on_from(self, rows: Iterator[Any], run: Run, receiver: Receiver) -> None:
        """Hand on all rows of a cursor that belongs to one thread; `run` carries out a function there."""

        def fill() -> None:
            until = time.monotonic() + TURN_SECONDS
            while self._has_room() and time.monotonic() < until:
                size = self._next_size()
                self._add(itertools.islice(rows, size), size)

        await self._hand_on(lambda: run(fill), run, receiver)

    async def _hand_on(self, fill: Callable[[], Awaitable[None]], run: Run, receiver: Receiver) -> None:
        while not self._is_over or self._schema is None:
            while self._has_room():
                await fill()
                receiver.answered()
            if not self._count and self._schema is not None:
                return
            is_first, batch = self._schema is None, await run(self._taken)
            if is_first:
                receiver.describe(batch.schema, None)
            await receiver.put(batch, batch.nbytes)

    def _has_room(self) -> bool:
        return not self._is_over and self._count < self._most and self._nbytes < BATCH_BYTES

    def _next_size(self) -> int:
        return min(self._step, self._most - self._count)

    def _add(self, rows: Iterable[Any], size: int) -> None:
        """Take the next rows, of which so many were asked for."""
        values = list(itertools.chain.from_iterable(rows))
        columns = [values[at :: self._width] for at in self._positions]
        count = len(values) // max(self._width, 1)
        self._is_over = count < size
        if self._schema is None:
            self._nbytes += sum(map(sys.getsizeof, values))
            for first, new in zip(self._first, columns, strict=True):
                first.extend(new)
        else:
            self._nbytes += sum(sum(map(sys.getsizeof, values[at :: self._width])) for at in self._ignored)
            self._convert(columns, count)
        self._count += count
        self._step = max(1, min(STEP_ROWS, 4 * size, BATCH_BYTES * self._count // (self._nbytes + 1)))

    def _convert(self, columns: Sequence[Sequence[Any]], count: int) -> None:
        known = zip(self._kinds, columns, self._names, strict=True)
        arrays = [_array(kind, values, name, self._rows) for kind, values, name in known]
        self._nbytes += sum(arrays[at].get_total_buffer_size() for at in self._long)  # nbytes takes 70 times as long
        self._parts.append(arrays)
        self._rows += count

    def _taken(self) -> pa.RecordBatch:
        """What was added since the last one; of the first one it is found out what the columns are."""
        if self._schema is None:
            self._begin()
        arrays = [pa.concat_arrays(parts) for parts in zip(*self._parts, strict=True)]
        self._parts, self._count, self._nbytes, self._most = [], 0, 0, BATCH_ROWS
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _begin(self) -> None:
        known = zip(self._declared, self._first, self._names, strict=True)
        self._kinds = [kind_of(declared, values, name) for declared, values, name in known]
        fields = [
            pa.field(name, kind.arrow, metadata=_metadata(kind, declared))
            for name, kind, declared in zip(self._names, self._kinds, self._declared, strict=True)
        ]
        self._long = [at for at, kind in enumerate(self._kinds) if not kind.is_short]
        self._convert(self._first, self._count)
        self._schema, self._first = pa.schema(fields), []


def limited(fetch: Callable[[int], Awaitable[Any]], most: int | None) -> Callable[[int], Awaitable[Any]]:
    """A `fetch` that gives no more than so many rows in all."""
    left = math.inf if most is None else most

    async def next_rows(size: int) -> Any:
        nonlocal left
        rows = await fetch(int(min(size, left))) if left else []
        left -= len(rows)
        return rows

    return next_rows


def _metadata(kind: Kind, declared: ColumnType | None) -> dict[bytes, bytes] | None:
    if kind.settles:
        return {UNSETTLED: b""}
    return {JSON: b""} if declared is not None and declared.row.keeps_json else None


def _array(kind: Kind, values: Sequence[Any], name: str, first_row: int) -> pa.Array:
    try:
        return kind.array(values)
    except (ValueError, TypeError, OverflowError) as error:
        at = next((at for at, one in enumerate(values) if not _fits(kind, one)), 0)
        shown = repr(values[at])
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
        row = first_row + at
        what = f"row {row:,}, column {name!r}: {shown} has no place in Arrow's {kind.arrow}"
        raise ReadError(what, hint=_as_one_type(name), column=name, value=shown, row=row) from error


def _fits(kind: Kind, value: Any) -> bool:
    try:
        kind.array([value])
    except (ValueError, TypeError, OverflowError):
        return False
    return True
