"""Tables and streams of record batches become a Source: pandas, polars, Arrow, dicts of columns.

The only source that knows pandas.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dataloader.conversion.inference import IN_PANDAS, check_class, inferred
from dataloader.conversion.mixed import mixed_objects
from dataloader.errors import PlanError, UnsupportedType
from dataloader.sources.base import (
    CHUNK_BYTES,
    ArrowSource,
    check_names,
    check_not_exhausted,
    claim_stream,
    close_streams,
    concatenated,
    rechunk,
)
from dataloader.sources.batches import BatchStream, first_batch, fitting
from dataloader.sources.others import better_loader
from dataloader.sources.selection import Columns, selected

if TYPE_CHECKING:
    import pandas as pd


class Snapshot(dict[Any, Any]):
    """A dict of columns that nobody else can change."""


def snapshot(data: Any) -> Any:
    """The data as it is now: later changes in place do not reach it.

    A pandas frame shares its values until one of the two is changed, from pandas 3 on; a dict's columns are copied.
    """
    if _is_pandas(data):
        return data.copy(deep=_changes_in_place())
    if isinstance(data, Mapping):
        return data if isinstance(data, Snapshot) else Snapshot({name: _copied(one) for name, one in data.items()})
    if hasattr(type(data), "__copy__") and hasattr(data, "__arrow_c_stream__"):  # polars: only its columns' list
        return copy.copy(data)
    return list(data) if isinstance(data, list) else data


def _changes_in_place() -> bool:
    """Whether pandas writes into values that another frame shares, as it did before version 3."""
    pandas = sys.modules["pandas"]
    return int(pandas.__version__.partition(".")[0]) < 3


def _copied(values: Any) -> Any:
    """A column that is not read from a file in place, as a copy where it can be changed."""
    copying = getattr(values, "copy", None) or getattr(values, "__copy__", None)
    return copying() if callable(copying) and type(values).__name__ != "memmap" else values


def open_dataframe(data: object, columns: Columns | None = None) -> ArrowSource:
    """Open a table-like object: pandas, polars, pyarrow, a dict of columns, or anything that speaks Arrow.

    Raises
    ------
    PlanError
        When the object is not a table, or its column names are not unique.
    UnsupportedType
        When a column mixes types that Arrow cannot hold together.
    """
    source = _open(data, columns)
    try:
        check_names(source.schema.names)
    except PlanError:
        close_streams(*source.opened)
        raise
    return source


def _open(data: object, columns: Columns | None) -> ArrowSource:
    if _is_pandas(data):
        return _open_pandas(data, columns)
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return _open_table(data, "Arrow table")
    if isinstance(data, pa.RecordBatchReader):
        return open_reader(data, None)
    if isinstance(data, Mapping):
        return _open_table(_table_of_columns(_wanted(data, columns)), "dict of columns")
    try:
        if hasattr(data, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(_checked_polars(data, columns))
            return open_reader(reader, _known_rows(data), type(data).__name__, data)
        if hasattr(data, "__arrow_c_array__"):
            return _open_table(pa.Table.from_batches([pa.record_batch(data)]), type(data).__name__)
    except pa.ArrowInvalid as error:  # the capsule holds one column, not a table, or was read
        check_not_exhausted(data, has_rows=False)
        raise PlanError(f"expected a table, got {type(data).__name__}", hint=better_loader(data)) from error
    raise PlanError(f"expected a table, got {type(data).__name__}", hint=better_loader(data))


def _wanted(data: Mapping[Any, Any], columns: Columns | None) -> Any:
    """The columns of a dict that are selected, copied; the others are not looked at."""
    if columns is None:
        return snapshot(data)
    names = set(selected(list(map(label, data)), columns, "the dict of columns"))
    chosen = {name: values for name, values in data.items() if label(name) in names}
    return Snapshot(chosen) if isinstance(data, Snapshot) else snapshot(chosen)


def _checked_polars(data: Any, columns: Columns | None) -> Any:
    """Refuse what polars hands on as an object's address, or in a type that Arrow does not have.

    Such a column is left out if it is not selected: polars 1.3 ends the process when it hands one on.
    """
    schema = getattr(data, "schema", None)
    left_out = []
    for name, kind in schema.items() if isinstance(schema, Mapping) else ():
        found = _NOT_IN_ARROW.search(_QUOTED.sub("", str(kind)))
        if found and columns is not None and name not in columns:
            left_out.append(name)
        elif found:
            hint = "Cast the column, or load its Python objects: load_rows(df.iter_rows(named=True), table)."
            raise UnsupportedType(f"column {name!r}: Arrow has no {found[0]} of polars", hint=hint)
    return data.drop(left_out) if left_out else data


_NOT_IN_ARROW, _QUOTED = re.compile(r"\b(Object|U?Int128)\b"), re.compile(r"'[^']*'")


"""What is no table, and what to do with it."""


def _known_rows(data: object) -> int | None:
    rows = getattr(data, "num_rows", getattr(data, "height", None))
    return rows if isinstance(rows, int) else None


def _open_table(table: pa.Table, name: str) -> ArrowSource:
    def batches(chunk_rows: int) -> Iterator[pa.RecordBatch]:
        return rechunk(table.to_batches(max_chunksize=chunk_rows), chunk_rows)

    return ArrowSource(name, table.schema, table.num_rows, batches, in_memory=True)


def _table_of_columns(columns: Mapping[Any, Any]) -> pa.Table:
    names = [label(name) for name in columns]
    for name, values in zip(names, columns.values(), strict=True):
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            hint = "Pass lists or arrays of equal length, one for each column; load dicts with load_rows([...], table)."
            raise PlanError(f"column {name!r} must be a list or array, got {type(values).__name__}", hint=hint)
    arrays = [inferred(name, values) for name, values in zip(names, columns.values(), strict=True)]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        facts = ", ".join(f"{name} has {len(array)}" for name, array in zip(names, arrays, strict=True))
        raise PlanError(f"the columns differ in length: {facts}", hint="Give every column as many values.")
    return pa.Table.from_arrays(arrays, names=names)


def open_reader(
    reader: pa.RecordBatchReader, rows: int | None, name: str = "Arrow stream", given: object = None
) -> ArrowSource:
    """Open a stream of batches; `given` is what the caller has passed, of which the reader was made."""
    reading = _checked(reader, given)  # closed before the reader, which must not be closed while it is read
    told: dict[str, Any] = {"opened": (reading, reader)} | ({"is_live": True} if rows is None else {})
    return _stream(name, reader.schema, rows, reading, **told)


def _stream(
    name: str, schema: pa.Schema, rows: int | None, batches: Iterator[pa.RecordBatch], **told: Any
) -> ArrowSource:
    return ArrowSource(name, schema, rows, lambda size: rechunk(batches, size), stream=BatchStream(batches), **told)


def _checked(reader: pa.RecordBatchReader, given: object) -> Iterator[pa.RecordBatch]:
    """The reader's batches, and an error where there is none because they were read before."""
    rows = 0
    for batch in reader:
        if batch.num_rows and not rows:
            check_not_exhausted(given, has_rows=True)
        rows += batch.num_rows
        yield batch
    check_not_exhausted(given, rows > 0)


def _is_pandas(data: object) -> bool:
    pandas = sys.modules.get("pandas")
    frame = getattr(pandas, "DataFrame", None)  # missing while another thread is still importing pandas
    return frame is not None and isinstance(data, frame)


def _open_pandas(frame: Any, selection: Columns | None = None) -> ArrowSource:
    frame = frame.copy(deep=False)  # the caller may drop rows and columns meanwhile
    series = _pandas_columns(frame)
    if selection is not None:
        names = selected([name for name, _ in series], selection, "the DataFrame")
        series = [(name, one) for name, one in series if name in names]
    columns = [(name, _pandas_values(name, one)) for name, one in series]
    check_names([name for name, _ in columns])
    schema = pa.schema([pa.field(name, values.type) for name, values in columns])

    def batches(chunk_rows: int) -> Iterator[pa.RecordBatch]:
        size = _part_rows([values for _, values in columns], len(frame), chunk_rows)
        for start in range(0, len(frame), size):
            arrays = [values.part(start, start + size) for _, values in columns]
            yield from concatenated(pa.Table.from_arrays(arrays, schema=schema).to_batches())

    def chunks(chunk_rows: int) -> Iterator[pa.RecordBatch]:
        return rechunk(batches(chunk_rows), chunk_rows)

    offered = pa.schema([field.with_metadata(IN_PANDAS) for field in schema])
    return ArrowSource("DataFrame", offered, len(frame), chunks, in_memory=True, labels=frame.index)


SAMPLED_ROWS = 100


def _part_rows(columns: list[_PandasValues | _ArrowValues], rows: int, chunk_rows: int) -> int:
    """How many rows are made into Arrow at once: no more than a chunk has, as far as a few rows tell."""
    if rows <= 10 * SAMPLED_ROWS:
        return chunk_rows
    starts = (0, rows // 2, rows - SAMPLED_ROWS)
    size = sum(int(values.part(start, start + SAMPLED_ROWS).nbytes) for start in starts for values in columns)
    return min(chunk_rows, max(1, CHUNK_BYTES * len(starts) * SAMPLED_ROWS // max(size, 1)))


@dataclass(frozen=True, slots=True)
class _PandasValues:
    """A pandas column with the Arrow type that holds it, made into Arrow part by part."""

    series: Any
    type: pa.DataType
    is_sparse: bool = False

    def part(self, start: int, end: int) -> pa.Array:
        values = self.series.iloc[start:end]
        values = values.array.to_dense() if self.is_sparse else values
        return pa.array(values, type=self.type, from_pandas=True)


@dataclass(frozen=True, slots=True)
class _ArrowValues:
    """A pandas column of objects, whose type is known when all of them are made into Arrow: kept, in an eighth of the
    objects' memory, since making them twice takes longer than sending them."""

    array: pa.Array | pa.ChunkedArray

    @property
    def type(self) -> pa.DataType:
        return self.array.type

    def part(self, start: int, end: int) -> pa.Array:
        return self.array[start:end]


def _pandas_columns(frame: pd.DataFrame) -> list[tuple[str, pd.Series[Any]]]:
    """The frame's columns; a named index is one too, an unnamed one is only pandas' row label."""
    index = frame.index
    named = [
        (label(name), index.get_level_values(level).to_series(index=index))
        for level, name in enumerate(index.names)
        if name is not None
    ]
    return named + [(label(name), frame.iloc[:, position]) for position, name in enumerate(frame.columns)]


def label(name: object) -> str:
    if isinstance(name, tuple):
        hint = "Join its levels first: df.columns = ['_'.join(map(str, c)) for c in df.columns]."
        raise PlanError(f"the column label {name!r} has several levels", hint=hint)
    return str(name)


def _pandas_values(name: str, series: pd.Series[Any]) -> _PandasValues | _ArrowValues:
    """The type of a column of objects is in its values, any other's in its dtype."""
    if not _is_of_objects(series.dtype):
        kind: Any = getattr(getattr(series.dtype, "categories", None), "dtype", series.dtype)
        if not hasattr(kind, "pyarrow_dtype"):
            check_class(name, kind.type)
        is_sparse = hasattr(kind, "fill_value")
        if is_sparse and kind.subtype.kind == "O":
            return _ArrowValues(inferred(name, series.array.to_dense()))
        empty = series.iloc[:0].array.to_dense() if is_sparse else series.iloc[:0]
        return _PandasValues(series, inferred(name, empty).type, is_sparse)
    return _ArrowValues(inferred(name, series))


def _is_of_objects(kind: Any) -> bool:
    """Whether the values of a dtype of pandas, or its categories, are Python objects: any, or texts."""
    kind = getattr(getattr(kind, "categories", None), "dtype", kind)
    return str(kind) == "object" or getattr(kind, "storage", None) == "python"


def open_batches(batches: object) -> ArrowSource:
    """Open record batches that come from a blocking iterable or reader."""
    if isinstance(batches, pa.RecordBatchReader) or hasattr(batches, "__arrow_c_stream__"):
        return open_dataframe(batches)
    if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, Mapping)):
        hint = "Pass a RecordBatchReader, or an iterable or async iterable of RecordBatch."
        raise PlanError(f"expected a stream of record batches, got {type(batches).__name__}", hint=hint)
    reading = iter(batches)
    first = first_batch(next(reading, None))
    schema = first.schema
    check_names(schema.names)
    stream = _all_fitting([first], reading, schema)
    return _stream("stream of batches", schema, None, stream, loader="load_batches", is_live=True)


def _all_fitting(first: list[pa.RecordBatch], rest: Iterator[object], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches of a stream; `first` is let go of like the others."""
    yield first.pop()
    for batch in rest:
        yield fitting(batch, schema)


def to_row_dicts(data: object, *, chunk_rows: int = 2_000) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a table as lists of dicts, for ``conn.execute(insert(t), rows)``.

    Missing values (None, NaN, NaT, NA) come out as None, NumPy scalars as Python's own.

    Parameters
    ----------
    data : DataFrame, Arrow table, dict of columns, ...
        Whatever `load_dataframe` takes.
    chunk_rows : int
        Rows per list; never more than this many are Python objects at once.

    Yields
    ------
    list of dict
        At most `chunk_rows` rows, keyed by column name.

    Raises
    ------
    PlanError
        When `data` is not a table or a column name repeats.

    Examples
    --------
    >>> from dataloader import to_row_dicts
    >>> list(to_row_dicts({"id": [1, 2, 3]}, chunk_rows=2))
    [[{'id': 1}, {'id': 2}], [{'id': 3}]]
    """
    for names, rows in _object_rows(data, chunk_rows):
        yield [dict(zip(names, row, strict=True)) for row in rows]


def to_tuples(data: object, *, chunk_rows: int = 2_000) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a table as lists of tuples, for a driver's ``executemany``.

    Parameters
    ----------
    data, chunk_rows
        As in `to_row_dicts`, and so are missing values.

    Yields
    ------
    list of tuple
        At most `chunk_rows` rows, in the order of the columns.

    Raises
    ------
    PlanError
        As in `to_row_dicts`.

    Examples
    --------
    >>> from dataloader import to_tuples
    >>> list(to_tuples({"id": [1, 2], "name": ["a", None]}))
    [[(1, 'a'), (2, None)]]
    """
    for _names, rows in _object_rows(data, chunk_rows):
        yield list(rows)


def _object_rows(data: object, chunk_rows: int) -> Iterator[tuple[list[str], Iterator[tuple[Any, ...]]]]:
    claim_stream(data)
    for batch in open_dataframe(data).batches(chunk_rows):
        yield batch.schema.names, zip(*map(mixed_objects, batch.columns), strict=True)
