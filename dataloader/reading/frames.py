"""A whole result as an Arrow table, or as a frame of pandas or polars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.database.backends.reading import UNSETTLED
from dataloader.errors import PlanError, ReadError
from dataloader.formatting import did_you_mean, one_line
from dataloader.reading.numbers import Digits

KINDS = ("pandas", "polars", "arrow", "dask")
_PROBED = 4_096
BACKENDS = (None, "numpy_nullable", "pyarrow")


def check_frame(as_: str, dtype_backend: str | None, index: object) -> None:
    """Check what a result is to become.

    Raises
    ------
    PlanError
        When there is no such frame.
    """
    if as_ not in KINDS:
        raise PlanError(f"as_={as_!r} is unknown", hint=did_you_mean(as_, KINDS))
    if dtype_backend not in BACKENDS:
        raise PlanError(f"dtype_backend={dtype_backend!r} is unknown", hint=did_you_mean(dtype_backend, BACKENDS))
    if as_ == "dask" and dtype_backend == "numpy_nullable":
        hint = "Leave dtype_backend= out: Dask makes texts of decimals and dates that are Python's objects."
        raise PlanError("as_='dask' has the types of dtype_backend='pyarrow'", hint=hint)
    if as_ == "dask" and not (index is None or isinstance(index, str)):
        raise PlanError("as_='dask' takes one column as index=", hint="Pass the one that the rows are divided by.")
    if as_ not in {"pandas", "dask"} and (index is not None or dtype_backend is not None):
        raise PlanError(f"{as_} has no index= or dtype_backend=", hint="Leave them out, or take as_='pandas'.")


def frame_of(
    batches: Sequence[pa.RecordBatch], as_: str, dtype_backend: str | None, index: str | Sequence[str] | None
) -> Any:
    """The batches of a whole result as one table or frame."""
    table = settled(pa.Table.from_batches(batches))
    if as_ == "arrow":
        return table
    return _polars(table) if as_ == "polars" else _pandas(table, dtype_backend, index)


def settled(table: pa.Table) -> pa.Table:
    """The table with each number's digits found out; a column with NaN, infinity or more than 76 digits stays text."""
    for at, field in enumerate(table.schema):
        if UNSETTLED in (field.metadata or {}):
            column = _as_numbers(table.column(at))
            table = table.set_column(at, pa.field(field.name, column.type), column)
    return table.cast(pa.schema([field.remove_metadata() for field in table.schema]))


def _as_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    digits = Digits()
    digits.add(texts)
    return texts.cast(digits.type)


def _polars(table: pa.Table) -> Any:
    import polars  # noqa: PLC0415 - only who asks for it has it

    try:
        return polars.from_arrow(table)
    except BaseException as error:  # polars panics, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        hint = "Take as_='arrow', or read the columns of such types as text: CAST(... AS text)."
        raise ReadError(f"polars cannot hold the result: {one_line(error)}", hint=hint) from error  # type: ignore[arg-type]


def _pandas(table: pa.Table, dtype_backend: str | None, index: str | Sequence[str] | None) -> Any:
    import pandas as pd  # noqa: PLC0415 - it takes half a second

    if dtype_backend == "pyarrow":
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    else:
        nullable = _nullable(pd)
        decimals = {at: one for at, one in enumerate(table.columns) if pa.types.is_decimal(one.type)}
        for at in decimals:
            table = table.set_column(at, table.column_names[at], pa.nulls(table.num_rows, pa.float32()))
        frame = table.to_pandas(types_mapper=nullable.get if dtype_backend else None)
        for at, column in decimals.items():
            frame.isetitem(at, _objects(column))
        if dtype_backend is None:
            _keep_integers(frame, table, nullable)
    if index is None:
        return frame
    names = [index] if isinstance(index, str) else list(index)
    if missing := [name for name in names if name not in table.column_names]:
        hint = did_you_mean(missing[0], table.column_names)
        raise ReadError(f"the result has no column {missing[0]!r} for index=", hint=hint, column=missing[0])
    return frame.set_index(index if isinstance(index, str) else names)


def _objects(decimals: pa.ChunkedArray) -> Any:
    """Decimals as Python's, one object for each number where the first ones repeat, as amounts do: each takes long."""
    probe = decimals.slice(0, _PROBED)
    if 2 * pc.count_distinct(probe).as_py() > len(probe):
        return decimals.to_pandas().to_numpy(np.object_)
    encoded = decimals.combine_chunks().dictionary_encode()
    objects = np.append(encoded.dictionary.to_pandas().to_numpy(np.object_), [None])
    return objects[encoded.indices.fill_null(len(objects) - 1).to_numpy()]


def _keep_integers(frame: Any, table: pa.Table, nullable: dict[pa.DataType, Any]) -> None:
    """Integers among which one is missing would be floats, which have no more than 53 bits."""
    for at, column in enumerate(table.columns):
        if column.null_count and pa.types.is_integer(column.type):
            frame.isetitem(at, column.to_pandas(types_mapper=nullable.get))


def _nullable(pd: Any) -> dict[pa.DataType, Any]:
    return {
        pa.bool_(): pd.BooleanDtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.float32(): pd.Float32Dtype(),
        pa.float64(): pd.Float64Dtype(),
        pa.string(): pd.StringDtype(),
    }
