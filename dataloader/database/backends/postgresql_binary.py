"""Rows of a binary COPY become Arrow, whole columns at a time.

The rows of a block follow one another, and each says its length field by field, so where one begins is known when the
one before it was read. Here it is guessed by what a row begins with, and proven: where every row ends the next one
begins, from the first byte to the last.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataloader.conversion.text import HEX_DIGITS
from dataloader.database.backends.postgresql_arrow import Described, ReadColumn, finished, no_place
from dataloader.errors import ReadError

Numbers = npt.NDArray[Any]
Valid = npt.NDArray[np.bool_] | None
"""Which values are not NULL; None where all are."""

_HEADER_BYTES = 19
_TRAILER = b"\xff\xff"
_LENGTH = 4
_STEP_BYTES = 1 << 22
"""So much is looked through at once: a row may have hundreds of megabytes."""
_MOST_AHEAD = 8
"""So many columns are taken at once. Where one of them is NULL, the others have to be taken again."""
_DAY = 86_400_000_000
_EPOCH = dt.date(2000, 1, 1)
_FIRST_DAY, _LAST_DAY = (dt.date.min - _EPOCH).days, (dt.date.max - _EPOCH).days
_SINCE_1970 = (_EPOCH - dt.date(1970, 1, 1)).days
_INTERVAL = np.dtype([("microseconds", ">i8"), ("days", ">i4"), ("months", ">i4")])
_UUID_PLACES = [*range(8), *range(9, 13), *range(14, 18), *range(19, 23), *range(24, 36)]


class _Refused(Exception):
    """A value that Arrow cannot express: the row in its block, what it is, and why."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A type whose values have one length.

    Attributes
    ----------
    sent : numpy.dtype
        As what they are sent.
    parts : callable
        Makes of them what the text of COPY would be parsed as.
    """

    sent: np.dtype[Any]
    parts: Callable[[Numbers, Valid], list[pa.Array]]


def _array(kind: pa.DataType, values: Numbers, valid: Valid) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [_bits(valid), pa.py_buffer(values)])


def _bits(valid: Valid) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _plain(sent: str, kind: pa.DataType) -> _Fixed:
    """Numbers, of which a float is moved as an integer, so that each NaN stays the one that it is."""
    native = np.dtype(sent).newbyteorder("<")
    return _Fixed(np.dtype(sent), lambda values, valid: [_array(kind, values.astype(native), valid)])


def _bools(values: Numbers, valid: Valid) -> list[pa.Array]:
    bits = np.packbits(values != 0, bitorder="little")
    return [pa.Array.from_buffers(pa.bool_(), len(values), [_bits(valid), pa.py_buffer(bits)])]


def _since(sent: str, kind: pa.DataType, limits: tuple[int, int], shift: int, shown: Callable[[int], str]) -> _Fixed:
    """Moments and times, from a first to a last one, beside which those are that Arrow's readers do not know."""
    first, last = limits
    native = np.dtype(sent).newbyteorder("<")

    def parts(values: Numbers, valid: Valid) -> list[pa.Array]:
        numbers = values.astype(native)
        if valid is not None:
            numbers[~valid] = 0
        if len(numbers) and not first <= numbers.min() <= numbers.max() <= last:
            row = int(np.flatnonzero((numbers < first) | (numbers > last))[0])
            raise _Refused(row, shown(int(numbers[row])), "it is out of range")
        numbers += shift
        return [_array(kind, numbers, valid)]

    return _Fixed(np.dtype(sent), parts)


def _date_shown(days: int) -> str:
    """A date as PostgreSQL writes it.

    >>> _date_shown(-746117), _date_shown(2**31 - 1), _date_shown(0)
    ('0044-03-15 BC', 'infinity', '2000-01-01')
    """
    if abs(days) >= (1 << 31) - 1:
        return "-infinity" if days < 0 else "infinity"
    return _with_era(days, "")


def _moment_shown(microseconds: int) -> str:
    """A moment as PostgreSQL writes it.

    >>> _moment_shown(2**63 - 1), _moment_shown(500_000), _moment_shown(-(2**63))
    ('infinity', '2000-01-01 00:00:00.5', '-infinity')
    """
    if not -(1 << 63) < microseconds < (1 << 63) - 1:
        return "-infinity" if microseconds < 0 else "infinity"
    days, rest = divmod(microseconds, _DAY)
    return _with_era(days, f" {_time_shown(rest)}")


def _with_era(days: int, time: str) -> str:
    day = str(np.datetime64(days + _SINCE_1970, "D"))
    if not day.startswith("-"):
        return f"{day}{time}"
    year, rest = day[1:].split("-", 1)
    return f"{int(year) + 1:04}-{rest}{time} BC"


def _time_shown(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    whole = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{whole}.{fraction:06}".rstrip("0") if fraction else whole


def _intervals(values: Numbers, valid: Valid) -> list[pa.Array]:
    days, months = (values[name].astype("<i4") for name in ("days", "months"))
    return [
        _array(pa.int32(), months, valid),
        _array(pa.int32(), days, valid),
        _array(pa.int64(), values["microseconds"].astype("<i8"), valid),
    ]


def _uuids(values: Numbers, valid: Valid) -> list[pa.Array]:
    count = len(values)
    texts = np.full((count, 36), ord("-"), np.uint8)
    octets = np.frombuffer(np.ascontiguousarray(values), np.uint8).reshape(count, 16)
    texts[:, _UUID_PLACES] = HEX_DIGITS[octets].view(np.uint8).reshape(count, 32)
    offsets = np.arange(0, 36 * count + 1, 36, dtype=np.int32)
    return [pa.Array.from_buffers(pa.string(), count, [_bits(valid), pa.py_buffer(offsets), pa.py_buffer(texts)])]


_MOMENT = _since(
    ">i8",
    pa.timestamp("us"),
    (_FIRST_DAY * _DAY, (_LAST_DAY + 1) * _DAY - 1),
    _SINCE_1970 * _DAY,
    _moment_shown,
)
_FIXED = {
    "bool": _Fixed(np.dtype("u1"), _bools),
    "int2": _plain(">u2", pa.int16()),
    "int4": _plain(">u4", pa.int32()),
    "int8": _plain(">u8", pa.int64()),
    "oid": _plain(">u4", pa.uint32()),
    "float4": _plain(">u4", pa.float32()),
    "float8": _plain(">u8", pa.float64()),
    "date": _since(">i4", pa.date32(), (_FIRST_DAY, _LAST_DAY), _SINCE_1970, _date_shown),
    "time": _since(">i8", pa.time64("us"), (0, _DAY - 1), 0, _time_shown),
    "timestamp": _MOMENT,
    "timestamptz": _MOMENT,
    "interval": _Fixed(_INTERVAL, _intervals),
    "uuid": _Fixed(np.dtype("V16"), _uuids),
}
_LONG = {
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "json"), pa.string()),
    "bytea": pa.binary(),
}
"""Types whose bytes are their text, in the encoding of the session; and bytes."""


class _Kind(NamedTuple):
    """How a column is sent: as values of one length, or as the bytes of such an array."""

    fixed: _Fixed | None
    long: pa.DataType

    @property
    def nbytes(self) -> int:
        """With the length before it."""
        assert self.fixed is not None
        return _LENGTH + self.fixed.sent.itemsize


def _kind(one: Described) -> _Kind | None:
    """How the server sends values of this type in binary, None where nobody reads that here."""
    if one.is_array:
        return None
    if one.labels:
        return _Kind(None, pa.string())
    fixed, long = _FIXED.get(one.type), _LONG.get(one.type)
    return None if fixed is None and long is None else _Kind(fixed, long)


def gains(columns: Sequence[Described]) -> bool:
    """Whether a binary COPY of these columns is read, and faster than text: numbers or times are among them."""
    kinds = [_kind(one) for one in columns]
    return all(kinds) and any(one is not None and one.fixed for one in kinds)


def _ahead(kinds: Sequence[_Kind]) -> int:
    return sum(one.nbytes for one in takewhile(lambda one: one.fixed, kinds))


class BinaryDecoder:
    """Makes batches of the bytes of a binary COPY.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the batches.
    format : str
        What COPY is asked for.
    selects : list of tuple
        The column at a position of the schema, and how it is asked for, where ``{}`` is the column: those of one
        length come first, as they are taken all at once.
    """

    format = "binary"

    def __init__(self, described: Sequence[Described], columns: Sequence[ReadColumn]) -> None:
        kinds = [found for one in described if (found := _kind(one)) is not None]
        order = sorted(range(len(kinds)), key=lambda at: kinds[at].fixed is None)
        self.schema = pa.schema([column.field for column in columns])
        self.selects = [(at, "{}") for at in order]
        self._columns, self._order = columns, order
        self._kinds = [kinds[at] for at in order]
        self._ahead = [_ahead(self._kinds[at : at + _MOST_AHEAD]) for at in range(len(order))]
        self._beginning = _Beginning(self._kinds)
        self._rows, self._has_begun = 0, False

    def decode(self, data: bytes) -> pa.RecordBatch | None:
        """A batch of whole rows; None where there is none.

        Raises
        ------
        ReadError
            When a value has no place in its column's type.
        """
        begin, self._has_begun = 0 if self._has_begun else _HEADER_BYTES, True
        if _ends_at(data, begin):
            return None
        starts = self._beginning.find(data, begin)
        if not len(starts) or starts[0] != begin:
            raise _unread("no row begins where one should")
        while True:
            fields, ends = self._fields(data, starts)
            proven = _proven(data, starts, ends)
            if proven is None:
                break
            starts = starts[proven]
        arrays: list[pa.Array] = [None] * len(fields)
        for at, kind, field in zip(self._order, self._kinds, fields, strict=True):
            arrays[at] = self._array(self._columns[at], kind, field, data)
        self._rows += len(starts)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _fields(self, data: bytes, starts: Numbers) -> tuple[list[_Field], Numbers]:
        """What each column is in the rows that begin there, and where these end."""
        walk = _Walk(data, starts)
        known = zip(self._kinds, self._ahead, strict=True)
        fields = [walk.long() if one.fixed is None else walk.fixed(one.fixed.sent, ahead) for one, ahead in known]
        return fields, walk.at

    def _array(self, column: ReadColumn, kind: _Kind, field: _Field, data: bytes) -> pa.Array:
        try:
            if kind.fixed is None:
                parts = [_texts(kind.long, field, data)]
                if kind.long == column.field.type:
                    return parts[0]
            else:
                parts = kind.fixed.parts(field.values, field.valid)
        except _Refused as error:
            row, value, why = error.args
            raise no_place(column.field, self._rows + row, value, why) from error
        return finished(column, parts, self._rows)


class _Field(NamedTuple):
    """A column in each row of a block: its values, or where they begin and end."""

    values: Numbers
    ends: Numbers
    valid: Valid


class _Walk:
    """Goes from field to field, in all rows at once.

    Attributes
    ----------
    at : numpy.ndarray
        Where the next field of each row begins.
    """

    def __init__(self, data: bytes, starts: Numbers) -> None:
        self._data = data
        self._before = starts + 2
        self._taken: Numbers | None = None
        self._offset = 0

    @property
    def at(self) -> Numbers:
        return self._before + self._offset

    def fixed(self, sent: np.dtype[Any], ahead: int) -> _Field:
        """The next field; so many bytes from there on are such fields, which are taken at once while none is NULL."""
        if self._taken is None or self._offset == self._taken.itemsize:
            self._move(0)
            self._taken = _taken(self._data, np.minimum(self._before, len(self._data)), ahead)
        taken, offset = self._taken, self._offset
        shape, strides = (len(taken),), (taken.itemsize,)
        lengths: Numbers = np.ndarray(shape, "<i4", taken, offset, strides)
        values: Numbers = np.ndarray(shape, sent, taken, offset + _LENGTH, strides)
        valid = lengths == _swapped(sent.itemsize, "i4")
        self._offset += _LENGTH
        if valid.all():
            self._offset += sent.itemsize
            return _Field(values, values, None)
        self._move(sent.itemsize * valid)
        return _Field(values, values, valid)

    def long(self) -> _Field:
        """The next field, of any length."""
        at = np.minimum(self.at, len(self._data))
        lengths = _taken(self._data, at, _LENGTH).view(">i4").astype(np.int64)
        valid = lengths >= 0
        starts = at + _LENGTH
        ends = starts + np.maximum(lengths, 0)
        self._before, self._offset, self._taken = ends, 0, None
        return _Field(starts, ends, None if valid.all() else valid)

    def _move(self, count: Numbers | int) -> None:
        self._before, self._offset, self._taken = self.at + count, 0, None


class _Beginning:
    """What every row begins with: how many fields it has, and the lengths of the first ones, which never change."""

    def __init__(self, kinds: Sequence[_Kind]) -> None:
        widths = [one.fixed.sent.itemsize for one in kinds[:2] if one.fixed is not None]
        parts = [("count", "<u2"), ("first", "<i4"), ("value", f"V{widths[0]}"), ("second", "<i4")]
        self._type = np.dtype(parts[: 2 * len(widths)])
        self._count = _swapped(len(kinds), "u2")
        self._lengths = [_swapped(width, "i4") for width in widths]
        low, high = len(kinds) & 0xFF, len(kinds) >> 8
        self._offset, self._byte = (1, low) if low else (0, high)
        self.nbytes = self._type.itemsize

    def find(self, data: bytes, begin: int) -> Numbers:
        """Where rows may begin: at each place where one does, and maybe at others."""
        octets = np.frombuffer(data, np.uint8)[self._offset :]
        steps = [(at, octets[at : at + _STEP_BYTES]) for at in range(begin, len(octets), _STEP_BYTES)]
        found_in = [np.flatnonzero(step == self._byte) + at for at, step in steps]
        places = np.concatenate([np.empty(0, np.int64), *found_in])
        found = _taken(data, places, self.nbytes).view(self._type)
        is_one = (found["count"] == self._count) & ((found["first"] == self._lengths[0]) | (found["first"] == -1))
        if len(self._lengths) > 1:
            is_null = (found["first"] == -1) | (found["second"] == -1)
            is_one &= is_null | (found["second"] == self._lengths[1])
        rows: Numbers = places[is_one]
        return rows


def _taken(data: bytes, places: Numbers, nbytes: int) -> Numbers:
    """So many bytes from each place on, and zeros behind the end."""
    last = len(data) - nbytes
    if last < 0:
        return _taken(data + bytes(nbytes), places, nbytes)
    taken = _everywhere(data, nbytes)[np.minimum(places, last)]
    behind = np.flatnonzero(places > last)
    if len(behind):
        taken[behind] = _everywhere(data[last + 1 :] + bytes(nbytes), nbytes)[places[behind] - last - 1]
    return taken


def _everywhere(data: bytes, nbytes: int) -> Numbers:
    """So many bytes from each byte on, without a copy."""
    return np.ndarray((len(data) - nbytes + 1,), f"V{nbytes}", data, strides=(1,))


def _swapped(number: int, kind: str) -> int:
    """What a number of the wire is when it is read without swapping its bytes."""
    return int(np.array(number, f">{kind}").view(f"<{kind}"))


def _ends_at(data: bytes, at: int) -> bool:
    """Whether no row follows: nothing, or what ends the COPY."""
    return at == len(data) or data[at : at + len(_TRAILER) + 1] == _TRAILER


def _proven(data: bytes, starts: Numbers, ends: Numbers) -> Numbers | None:
    """Which of the rows are some, as the first is; None where all are: each begins where the one before it ends."""
    broken = np.flatnonzero(ends[:-1] != starts[1:])
    if not len(broken) and _ends_at(data, ends[-1]):
        return None
    is_row, at = np.zeros(len(starts), np.bool_), 0
    for last in [*broken.tolist(), len(starts) - 1]:
        if last < at:
            continue
        is_row[at : last + 1] = True
        at = int(np.searchsorted(starts, ends[last]))
        if at >= len(starts) or starts[at] != ends[last]:
            if _ends_at(data, ends[last]):
                return is_row
            break
    raise _unread("a row has no end")


def _unread(why: str) -> ReadError:
    return ReadError(f"what the server sent cannot be read: {why}", hint="Report it, with the query.")


def _texts(kind: pa.DataType, field: _Field, data: bytes) -> pa.Array:
    """The bytes between the places as an array: that of all places, of which every other one is taken."""
    count = len(field.values)
    offsets = np.empty(2 * count + 1, np.int32)
    offsets[0:-1:2], offsets[1::2], offsets[-1] = field.values, field.ends, field.ends[-1]
    everything = pa.Array.from_buffers(pa.binary(), 2 * count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    values = everything.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32)))
    found = pa.Array.from_buffers(pa.binary(), count, [_bits(field.valid), *values.buffers()[1:]])
    try:
        return found.cast(kind)
    except pa.ArrowInvalid as error:
        raise _unread(str(error)) from error
