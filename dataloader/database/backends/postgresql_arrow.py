"""What PostgreSQL's types are in Arrow, and how COPY's text of them becomes that."""

from __future__ import annotations

import binascii
import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from dataloader.database.backends.reading import JSON, UNSETTLED
from dataloader.errors import ReadError

MOST_DIGITS, MOST_LONG_DIGITS = 38, 76
"""Of decimal128 and decimal256."""
_SHOWN = 40
_BOM = b"\xef\xbb\xbf"
_REFUSED = re.compile(
    r"In CSV column #(\d+): Row #(\d+).*?(?:invalid value|The string) '(.*)'(?: is not a valid \w+ number)?$", re.DOTALL
)
_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])


class Described(NamedTuple):
    """A column of a result as the server describes it.

    Attributes
    ----------
    type : str
        The name of its type; of an array the one of its elements.
    digits, scale : int or None
        Of a numeric column that has a limit.
    labels : tuple of str
        Of an enum.
    """

    name: str
    type: str
    is_array: bool = False
    digits: int | None = None
    scale: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """How a column is read.

    Attributes
    ----------
    field : pyarrow.Field
        What it becomes.
    select : tuple of str
        What COPY is asked for, where ``{}`` is the column: mostly the column itself.
    sent : tuple of pyarrow.DataType
        As what that is parsed.
    finish : callable
        Makes the column of what was parsed.
    """

    field: pa.Field
    select: tuple[str, ...]
    sent: tuple[pa.DataType, ...]
    finish: Callable[[Sequence[pa.Array]], pa.Array]


def read_column(one: Described) -> ReadColumn:
    """How a column of this type is read."""
    if one.is_array:
        element = _arrow_type(one)
        element = pa.string() if element is None or one.labels else element
        return ReadColumn(
            pa.field(one.name, pa.list_(element)),
            (_LISTED.replace("<elements>", _ELEMENTS.get(one.type, _TEXTS)),),
            (pa.string(),),
            lambda parts: _lists(parts[0], element),
        )
    if one.labels:
        labels = pa.array(one.labels, pa.string())
        kind = pa.dictionary(pa.int32(), pa.string(), ordered=True)
        return ReadColumn(pa.field(one.name, kind), ("{}",), (pa.string(),), lambda parts: _labels(parts[0], labels))
    if one.type in _SPECIAL:
        kind, select, sent, finish = _SPECIAL[one.type]
        return ReadColumn(pa.field(one.name, kind), select, sent, finish)
    kind = _arrow_type(one)
    if one.type in _UNLIMITED and one.digits is None:
        field = pa.field(one.name, pa.string(), metadata={UNSETTLED: b""})
        return ReadColumn(field, (_UNLIMITED[one.type],), (pa.string(),), _first)
    kind = pa.string() if kind is None else kind
    if pa.types.is_decimal256(kind):
        return ReadColumn(pa.field(one.name, kind), ("{}",), (pa.string(),), lambda parts: parts[0].cast(kind))
    metadata = {JSON: b"checked"} if one.type in {"json", "jsonb"} else None
    return ReadColumn(pa.field(one.name, kind, metadata=metadata), ("{}",), (kind,), _first)


def _arrow_type(one: Described) -> pa.DataType | None:
    """The type in Arrow, None where it is text."""
    if one.type == "numeric" and one.digits is not None:
        scale = max(one.scale, 0)
        digits = max(one.digits - min(one.scale, 0), scale)
        return decimal(digits, scale)
    return _TYPES.get(one.type)


def decimal(digits: int, scale: int) -> pa.DataType | None:
    """The smaller decimal that holds so many digits, None if none does."""
    if digits > MOST_LONG_DIGITS:
        return None
    return pa.decimal128(max(digits, 1), scale) if digits <= MOST_DIGITS else pa.decimal256(digits, scale)


_LISTED = (
    "CASE WHEN {0} IS NULL THEN NULL "
    "WHEN pg_catalog.cardinality({0}) = 0 "
    "OR pg_catalog.array_ndims({0}) = 1 AND pg_catalog.array_lower({0}, 1) = 1 "
    "THEN CAST(pg_catalog.to_json(<elements>) AS pg_catalog.text) "
    "ELSE 'x' || CAST({0} AS pg_catalog.text) END"
)
"""The elements as texts in a JSON array; one that Arrow's lists cannot express begins with an x."""
_TEXTS = "CAST({0} AS pg_catalog.text[])"
_ELEMENTS = {"bpchar": "{0}", "money": "CAST(CAST({0} AS pg_catalog.numeric[]) AS pg_catalog.text[])"}
"""As text they would lose their last blanks, and be written as the server's locale has it."""
INTERVAL_PARTS = (
    "CASE WHEN pg_catalog.isfinite({0}) THEN "
    "CAST(pg_catalog.date_part('year', {0}) * 12 + pg_catalog.date_part('month', {0}) AS pg_catalog.int4) END",
    "CASE WHEN pg_catalog.isfinite({0}) THEN CAST(pg_catalog.date_part('day', {0}) AS pg_catalog.int4) END",
    "CASE WHEN pg_catalog.isfinite({0}) THEN CAST(pg_catalog.date_part('hour', {0}) AS pg_catalog.int8) * 3600000000"
    " + CAST(pg_catalog.date_part('minute', {0}) AS pg_catalog.int8) * 60000000"
    " + CAST(pg_catalog.date_part('microseconds', {0}) AS pg_catalog.int8)"
    " WHEN NOT pg_catalog.isfinite({0}) THEN 9223372036854775807 END",
)
"""Each of them is small enough for the double that date_part gives. Since PostgreSQL 17 an interval may be infinite."""

_UNLIMITED = {"numeric": "{}", "money": "CAST({} AS pg_catalog.numeric)"}
"""Money is written as the server's locale has it."""

_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.uint32(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
}


def _first(parts: Sequence[pa.Array]) -> pa.Array:
    return parts[0]


def _zoned(parts: Sequence[pa.Array]) -> pa.Array:
    return parts[0].view(pa.timestamp("us", "UTC"))


def _bytes(parts: Sequence[pa.Array]) -> pa.Array:
    """All values at once: their digits follow one another, two for a byte."""
    digits = parts[0]
    offsets = np.frombuffer(digits.buffers()[1], np.int32)[digits.offset : digits.offset + len(digits) + 1]
    values = pa.py_buffer(b"")
    if offsets[-1] > offsets[0]:
        values = pa.py_buffer(binascii.unhexlify(memoryview(digits.buffers()[2])[offsets[0] : offsets[-1]]))
    halves = pa.py_buffer(((offsets - offsets[0]) // 2).astype(np.int32).tobytes())
    validity = None if not digits.null_count else pc.is_valid(digits).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), len(digits), [validity, halves, values])


def _intervals(parts: Sequence[pa.Array]) -> pa.Array:
    months, days, microseconds = (part.fill_null(0).to_numpy(zero_copy_only=False) for part in parts)
    most = np.iinfo(np.int64).max // 1000
    if len(microseconds) and not -most <= microseconds.min() <= microseconds.max() <= most:
        raise NoPlace("an interval", "it is infinite, or has more than 292 years of hours")
    packed = np.zeros(len(months), _INTERVAL)
    packed["months"], packed["days"], packed["nanoseconds"] = months, days, microseconds * 1000
    validity = None if not parts[0].null_count else pc.is_valid(parts[0]).buffers()[1]
    return pa.Array.from_buffers(pa.month_day_nano_interval(), len(packed), [validity, pa.py_buffer(packed.tobytes())])


def _labels(values: pa.Array, labels: pa.Array) -> pa.Array:
    found = pc.index_in(values, labels)
    if found.null_count > values.null_count:
        new = values.filter(pc.and_(pc.is_null(found), pc.is_valid(values)))[0].as_py()
        raise NoPlace(new, "the label came while the query was carried out")
    return pa.DictionaryArray.from_arrays(found, labels, ordered=True)


def _lists(values: pa.Array, element: pa.DataType) -> pa.Array:
    offsets: list[int | None] = []
    elements: list[str | None] = []
    for value in values.to_pylist():
        offsets.append(None if value is None else len(elements))
        if value is None:
            continue
        if value.startswith("x"):
            raise NoPlace(value[1:], "it has several dimensions, or does not begin at 1")
        elements += json.loads(value)
    texts = pa.array(elements, pa.string())
    return pa.ListArray.from_arrays(pa.array([*offsets, len(elements)], pa.int32()), _cast(texts, element))


class NoPlace(ValueError):
    """A value that Arrow cannot express, and why."""


def _cast(texts: pa.Array, element: pa.DataType) -> pa.Array:
    if pa.types.is_binary(element):
        return pa.array([None if one is None else bytes.fromhex(one[2:]) for one in texts.to_pylist()], element)
    if pa.types.is_time(element):
        return pa.array([None if one is None else dt.time.fromisoformat(one) for one in texts.to_pylist()], element)
    return texts if pa.types.is_string(element) else texts.cast(element)


_Special = tuple[pa.DataType, tuple[str, ...], tuple[pa.DataType, ...], Callable[[Sequence[pa.Array]], pa.Array]]
_SPECIAL: dict[str, _Special] = {
    "timestamptz": (
        _TYPES["timestamptz"],
        ("pg_catalog.timezone('UTC', {0})",),
        (pa.timestamp("us"),),
        _zoned,
    ),
    "bytea": (pa.binary(), ("pg_catalog.encode({0}, 'hex')",), (pa.string(),), _bytes),
    "interval": (pa.month_day_nano_interval(), INTERVAL_PARTS, (pa.int32(), pa.int32(), pa.int64()), _intervals),
}
"""Types that travel as something else."""


class Decoder:
    """Makes batches of the text of COPY.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the batches.
    format : str
        What COPY is asked for.
    selects : list of tuple
        The column at a position of the schema, and how it is asked for, where ``{}`` is the column.
    """

    format = "csv"

    def __init__(self, columns: Sequence[ReadColumn]) -> None:
        self.schema = pa.schema([column.field for column in columns])
        self.selects = [(at, part) for at, column in enumerate(columns) for part in column.select]
        self._columns = columns
        self._rows = 0
        self._sent = [(number, part) for number, column in enumerate(columns) for part in column.sent]
        names = [str(at) for at in range(len(self._sent))]
        self._names = names
        self._parsing = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        self._converting = csv.ConvertOptions(
            column_types={name: part for name, (_, part) in zip(names, self._sent, strict=True)},
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def decode(self, data: bytes) -> pa.RecordBatch:
        """A batch of whole rows; an empty line is a row as well, of one NULL.

        Raises
        ------
        ReadError
            When a value has no place in its column's type.
        """
        if data.startswith(_BOM):  # a value's own, of which Arrow would skip one
            data = _BOM + data
        reading = csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(data) + 1)
        try:
            table = csv.read_csv(pa.BufferReader(data), reading, self._parsing, self._converting)
        except pa.ArrowInvalid as error:
            raise self._refused(error) from error
        parts = [_one_chunk(column) for column in table.columns]
        arrays, at = [], 0
        for column in self._columns:
            arrays.append(finished(column, parts[at : at + len(column.sent)], self._rows))
            at += len(column.sent)
        self._rows += table.num_rows
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _refused(self, error: pa.ArrowInvalid) -> ReadError:
        found = _REFUSED.search(str(error))
        if found is None:
            return ReadError(f"what the server sent cannot be read: {error}", hint="Report it, with the query.")
        column = self._columns[self._sent[int(found[1])][0]]
        return no_place(column.field, self._rows + int(found[2]) - 1, found[3], "it is out of range")


def finished(column: ReadColumn, parts: Sequence[pa.Array], first_row: int) -> pa.Array:
    """The column made of its parts.

    Raises
    ------
    ReadError
        When a value has no place in its type.
    """
    try:
        return column.finish(parts)
    except ValueError as error:
        row = _first_refused(column, parts)
        shown = re.search(r"'(.*)'", str(error), re.DOTALL)
        value, why = shown[1] if shown else str(parts[0][row].as_py()), "it is out of range"
        if isinstance(error, NoPlace):
            value, why = error.args
        raise no_place(column.field, first_row + row, value, why) from error


def _first_refused(column: ReadColumn, parts: Sequence[pa.Array]) -> int:
    """The first row that cannot be made what the column is, in parts of which one cannot."""
    known, bad = 0, len(parts[0])
    while bad - known > 1:
        middle = (known + bad) // 2
        try:
            column.finish([part.slice(known, middle - known) for part in parts])
            known = middle
        except ValueError:
            bad = middle
    return known


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def no_place(field: pa.Field, row: int, value: str, why: str) -> ReadError:
    """The error that says of a value that a column has no place for it."""
    shown = value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…"
    return ReadError(
        f"row {row:,}, column {field.name!r}: {shown!r} has no place in Arrow's {field.type}: {why}",
        hint=f"Read the column as text, CAST({field.name} AS text), or leave such rows out.",
        column=field.name,
        value=shown,
        row=row,
    )
