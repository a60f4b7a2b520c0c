"""Rows that come one by one: dicts, tuples or objects with fields, from any iterable, become a Source."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataloader.conversion.inference import inferred, varying
from dataloader.errors import PlanError, SchemaMismatch
from dataloader.formatting import did_you_mean
from dataloader.sources.base import (
    CHUNK_BYTES,
    Source,
    check_names,
    check_not_exhausted,
    fitting_rows,
    most_bytes,
)
from dataloader.sources.cuts import UNCUT, Cuts, arriving
from dataloader.sources.others import is_query
from dataloader.sources.selection import Columns
from dataloader.sources.tables import label
from dataloader.sync import in_thread

Row = Mapping[Any, Any] | Sequence[Any]

PEEKED_ROWS, PEEKED_SECONDS = 10_000, 5.0
"""How many rows are read to learn the columns of a stream of rows, and for how long, if there is one by then."""
STEP_ROWS = 20
"""How many more are read after a load has ended: a generator cannot be closed while it makes a row."""


@dataclass(frozen=True, slots=True)
class RowSource(Source):
    """A stream of dicts with the given keys, or of tuples; `first` are those that were read for the schema.

    Attributes
    ----------
    is_whole : bool
        Whether a dict with another key is refused; else the keys are a selection.
    """

    first: list[Row]
    rest: AsyncGenerator[list[Row]]
    keys: tuple[Any, ...]
    is_whole: bool = True

    async def aclose(self) -> None:
        await self.rest.aclose()

    async def head(self, rows: int) -> pa.RecordBatch | None:
        while len(self.first) < rows:
            if (more := await anext(self.rest, None)) is None:
                return None
            self.first.extend(more)
        return await in_thread(self._batch, self.first[:rows], 0)

    async def chunks(self, chunk_rows: int, cuts: Cuts = UNCUT) -> AsyncGenerator[pa.RecordBatch]:
        waiting, row, since = self.first, 0, time.monotonic()
        has_more = True
        while waiting or has_more:
            most, is_committed = cuts.most(row, chunk_rows), cuts.is_committed(row)
            is_full = len(waiting) >= most or not has_more or (not is_committed and _is_large(waiting))
            if is_full or (waiting and cuts.is_due(row, since)):
                batch = await in_thread(self._chunk, waiting[:most], row, is_committed)
                del waiting[: batch.num_rows]  # the first rows too: a stream is read once
                row += batch.num_rows
                yield batch
                del batch
                since = time.monotonic()  # a slow database makes no slow stream
            elif (block := await anext(self.rest, None)) is None:
                has_more = False
            else:
                since = since if waiting else time.monotonic()
                waiting += block

    def _chunk(self, rows: list[Row], first_row: int, is_committed: bool) -> pa.RecordBatch:
        """A chunk of them, or of as many as its bytes allow: its types are those of its own values."""
        batch = self._batch(rows, first_row)
        if is_committed or most_bytes(batch) <= CHUNK_BYTES:
            return batch
        fitting = max(fitting_rows(batch), 1)
        return batch if fitting == len(rows) else self._batch(rows[:fitting], first_row)

    def _batch(self, rows: list[Row], first_row: int) -> pa.RecordBatch:
        return batch_of_rows(rows, self.keys, first_row, is_whole=self.is_whole)


def batch_of_rows(
    rows: list[Row], keys: tuple[Any, ...] | None, first_row: int, *, is_whole: bool = True
) -> pa.RecordBatch:
    """Make a batch of dicts or tuples; without keys, those of the dicts are taken.

    Raises
    ------
    SchemaMismatch
        When a row has another length or an unknown key.
    UnsupportedType
        When a column's values have no type.
    """
    known = _keys(rows) if keys is None else keys
    columns = _columns_of(rows, known, first_row, is_whole=is_whole)
    names = [label(key) for key in known]
    arrays = [inferred(name, values) for name, values in zip(names, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=names)


async def open_rows(rows: object, columns: Columns | None) -> RowSource:
    """Open dicts, or tuples with their column names; the first rows are read to learn the types.

    Raises
    ------
    PlanError
        When `rows` is not a stream of dicts or tuples, or tuples come without `columns`.
    """
    if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "to_records"):
        hint = "Load it with load_dataframe(data, table)."
        raise PlanError(f"expected a stream of rows, got {type(rows).__name__}", hint=hint)
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, (Iterable, AsyncIterable)):
        hint = "Pass an iterable or async iterable of dicts, tuples or objects; load frames with load_dataframe."
        if is_query(rows):
            hint = "Run it and pass its result, or copy_table(query, table, source=engine) loads its rows."
        raise PlanError(f"expected a stream of rows, got {type(rows).__name__}", hint=hint)
    _check_result(rows)
    known = len(rows) if isinstance(rows, Sequence) else None
    blocks = _async_blocks(rows) if isinstance(rows, AsyncIterable) else _blocks(rows)
    first = await _peeked(blocks)
    check_not_exhausted(rows, has_rows=bool(first))
    columns = _columns_of_result(rows) if columns is None and not first else columns
    keys = _keys(first) if columns is None else _given_keys(first, columns)
    names = [label(key) for key in keys]
    check_names(names)
    values = _columns_of(first, keys, 0, is_whole=columns is None)
    kinds = [inferred(name, one).type for name, one in zip(names, values, strict=True)]
    fields = [pa.field(name, kind) for name, kind in zip(names, kinds, strict=True)]
    schema = pa.schema(map(varying, fields) if first else fields)
    told: dict[str, Any] = {"loader": "load_rows", "is_live": known is None}
    return RowSource("stream of rows", schema, known, first, blocks, keys, columns is None, **told)


def _check_result(rows: object) -> None:
    """Refuse SQLAlchemy's result when its rows were taken already: it looks like one of a query without rows."""
    real = getattr(rows, "_real_result", None)
    result: Any = rows if real is None else real
    if getattr(result, "_soft_closed", False) and getattr(result, "returns_rows", True):
        what = f"the {type(rows).__name__} has been read already"
        raise PlanError(what, hint="It can be read once: execute the query anew.", committed_rows=0)


def _columns_of_result(rows: object) -> Columns | None:
    """The columns of a result without rows; it is closed where a statement returns none."""
    try:
        return list(rows.keys()) if hasattr(rows, "keys") else None
    except Exception:  # SQLAlchemy's own: it has no columns then
        return None


async def _blocks(rows: Iterable[Row]) -> AsyncGenerator[list[Row]]:
    """The rows as they come, with a block for every so many, or for so many bytes."""
    reading, has_ended = iter(rows), threading.Event()

    def read(got: list[Row]) -> bool:
        count = size = 0
        while count < PEEKED_ROWS and size <= CHUNK_BYTES and not has_ended.is_set():
            taken, weight = _take(reading, min(STEP_ROWS, PEEKED_ROWS - count), got)
            if not taken:
                return False
            count, size = count + taken, size + taken * weight
        return True

    blocks: AsyncGenerator[list[Row]] = arriving(lambda got: in_thread(read, got))
    try:
        async with contextlib.aclosing(blocks):
            async for block in blocks:
                yield await _named_rows(block)
    finally:
        has_ended.set()


def _take(rows: Iterator[Row], count: int, got: list[Row]) -> tuple[int, int]:
    """Append some rows, each when it comes; how many there were, and the weight of one."""
    taken, row = 0, ()  # type: tuple[int, Row]
    try:
        for taken, row in enumerate(itertools.islice(rows, count), 1):  # noqa: B007 - the last ones count
            got.append(row)
    except Exception as error:  # sqlite3's own, or SQLAlchemy's around it
        if not isinstance(getattr(error, "orig", error), sqlite3.ProgrammingError) or "thread" not in str(error):
            raise
        hint = "Open its connection with check_same_thread=False, or pass cursor.fetchall() or result.all()."
        raise PlanError("the cursor can be read in the thread of its connection only", hint=hint) from error
    return taken, _weight(row)


async def _async_blocks(rows: AsyncIterable[Row]) -> AsyncGenerator[list[Row]]:
    reading = aiter(rows)

    async def read(got: list[Row]) -> bool:
        count = size = 0
        async for row in reading:
            size += 0 if count % STEP_ROWS else STEP_ROWS * _weight(row)
            got.append(row)
            count += 1
            if count == PEEKED_ROWS or size > CHUNK_BYTES:
                return True
        return False

    async with contextlib.aclosing(arriving(read)) as blocks:
        async for block in blocks:
            yield await _named_rows(block)


async def _named_rows(block: list[Row]) -> list[Row]:
    return block if set(map(type, block)) <= _PLAIN else await in_thread(by_name, block)


async def _peeked(blocks: AsyncGenerator[list[Row]]) -> list[Row]:
    """The first rows, by which the columns are known: so many, or those that come in time."""
    first: list[Row] = []
    began = time.monotonic()
    async for block in blocks:
        first += block
        is_late = time.monotonic() - began >= PEEKED_SECONDS
        if len(first) >= PEEKED_ROWS or (first and is_late) or _is_large(first):
            break
    return first


def _is_large(rows: list[Row]) -> bool:
    """Whether the rows fill a chunk by their bytes, as far as some of them tell."""
    return sum(map(_weight, rows[::STEP_ROWS])) * STEP_ROWS > CHUNK_BYTES


def _weight(row: Any) -> int:
    """The bytes of a row's strings; objects with fields have none that can be seen."""
    values = row.values() if isinstance(row, Mapping) else row if isinstance(row, Sequence) else ()
    return sum(len(value) for value in values if isinstance(value, (str, bytes)))


def by_name(rows: list[Any]) -> list[Row]:
    """Rows that name their fields become dicts: namedtuples, drivers' rows, dataclasses, attrs, pydantic, ORM."""
    kinds = set(map(type, rows))
    if kinds <= _PLAIN:
        return rows
    reading = {kind: _reading(kind) for kind in kinds}
    return [reading[type(row)](row) for row in rows]


_PLAIN = frozenset((dict, tuple, list))


def _reading(kind: type) -> Callable[[Any], Row]:
    """How a row of a class is read."""
    if issubclass(kind, type):  # a class in the place of its object
        return _named
    if callable(getattr(kind, "model_dump", None)):  # pydantic, with extra and computed fields
        return lambda row: row.model_dump()
    if names := _attributes(kind):
        return lambda row: {name: _plain(getattr(row, name)) for name in names}
    return _named


def _attributes(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass, of an attrs or msgspec class, or the columns of an ORM class; none for any other."""
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else kind.__attrs_attrs__
        return tuple(field.name for field in fields)
    if hasattr(kind, "__mapper__"):
        return tuple(kind.__mapper__.column_attrs.keys())
    return tuple(getattr(kind, "model_fields", ()) or getattr(kind, "__struct_fields__", ()))


def _plain(value: Any) -> Any:
    """A value, as dicts and lists where it has fields of its own: a column of JSON keeps it."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind in {list, tuple}:
        return kind(map(_plain, value))
    if kind is dict:
        return {key: _plain(one) for key, one in value.items()}
    return _reading(kind)(value) if hasattr(kind, "model_dump") or _attributes(kind) else value


_SCALARS = frozenset((type(None), bool, int, float, str, bytes))


def _named(row: Any) -> Row:
    if hasattr(row, "_fields"):  # a namedtuple, SQLAlchemy's row
        names, values = row._fields, row
        if len(row) == 1 and hasattr(type(row[0]), "__mapper__"):  # of select(User)
            return _reading(type(row[0]))(row[0])
    elif hasattr(row, "keys") and not isinstance(row, Mapping):  # asyncpg's and sqlite3's rows
        names = tuple(row.keys())
        values = [row[name] for name in names]
    else:
        return row  # type: ignore[no-any-return]  # what is no row is refused with its position
    named = dict(zip(names, values, strict=True))
    if len(named) < len(names):
        check_names(names)
    return named


def _keys(rows: list[Row]) -> tuple[Any, ...]:
    """Every key of the first rows, in the order of appearance: the first dict may lack some."""
    if not rows:
        hint = "Pass columns=[...] so that an empty stream has columns."
        raise PlanError("there are no rows, so the columns are unknown", hint=hint)
    if not isinstance(rows[0], Mapping):
        what = f"the rows have no column names: expected dicts, got {type(rows[0]).__name__}"
        raise PlanError(what, hint=_naming_hint(rows[0]))
    return tuple(dict.fromkeys(key for row in rows if isinstance(row, Mapping) for key in row))


def _naming_hint(row: object) -> str:
    if isinstance(row, Sequence) and not isinstance(row, (str, bytes)):
        return "Pass columns=[...] with the tuples' column names."
    is_value = isinstance(row, (str, bytes, int, float)) or row is None
    return "Make each a dict, like {'name': row}." if is_value else "Make each a dict of its fields."


def _given_keys(rows: list[Row], columns: Columns) -> tuple[Any, ...]:
    """The columns that the caller names: all fields of tuples, or the keys of dicts that are wanted.

    Raises
    ------
    PlanError
        When tuples would have to be renamed.
    SchemaMismatch
        When no row has one of the keys, and some have others.
    """
    if rows and not isinstance(rows[0], Mapping):
        if isinstance(columns, Mapping):
            hint = "Pass columns=[...] with the names that the tuples' values have in the table, in their order."
            raise PlanError("tuples have no names that columns={...} could change", hint=hint)
        return tuple(columns)
    offered = [key for key in (_keys(rows) if rows else ()) if key not in columns]
    for name in columns if offered else ():
        if not any(name in row for row in rows):
            hint = did_you_mean(name, offered)
            raise SchemaMismatch(f"no row of the first {len(rows):,} has the key {name!r}", hint=hint)
    return tuple(columns)


def _columns_of(rows: list[Row], keys: tuple[Any, ...], first_row: int, *, is_whole: bool) -> list[list[Any]]:
    if not rows:
        return [[] for _ in keys]
    if isinstance(rows[0], Mapping):
        known = dict.fromkeys(keys).keys() if is_whole else None  # in their order, for the error
        for offset, row in enumerate(rows):
            _check_dict(row, known, first_row + offset)
        return [[row.get(key) for row in rows] for key in keys]  # type: ignore[union-attr]
    for offset, row in enumerate(rows):
        _check_tuple(row, keys, first_row + offset)
    return [list(values) for values in zip(*rows, strict=True)]


def _check_dict(row: Row, known: KeysView[Any] | None, position: int) -> None:
    if not isinstance(row, Mapping):
        hint = "Yield dicts only."
        raise PlanError(f"row {position} must be a dict like the first, got {type(row).__name__}", hint=hint)
    if known is not None and not row.keys() <= known:
        unknown = next(key for key in row if key not in known)
        hint = f"The columns are {', '.join(map(str, known))}: drop the key, or pass columns=[...]."
        raise SchemaMismatch(f"row {position} has the unknown key {unknown!r}", hint=hint)


def _check_tuple(row: Row, keys: tuple[Any, ...], position: int) -> None:
    if isinstance(row, (str, bytes)) or not isinstance(row, Sequence):
        hint = "Yield dicts only, or tuples only, together with columns=[...]."
        raise PlanError(f"row {position} must be a tuple or list, got {type(row).__name__}", hint=hint)
    if len(row) != len(keys):
        hint = f"Give every row a value for each of: {', '.join(map(str, keys))}."
        raise SchemaMismatch(f"row {position} has {len(row)} values for {len(keys)} columns", hint=hint)
