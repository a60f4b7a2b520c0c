"""What comes in: every kind of table and stream of rows becomes the same rows, in order, in exact chunks."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import gc
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloader.conversion.column_types import ColumnType
from dataloader.conversion.converter import Converter
from dataloader.conversion.mixed import MixedType, mixed_objects, mixed_parts, unconvertible
from dataloader.conversion.rules import ColumnPlan
from dataloader.errors import DataLoaderError, PlanError, SchemaMismatch, UnsupportedType
from dataloader.sources import rows as row_streams
from dataloader.sources.base import Source, rechunk
from dataloader.sources.batches import open_async_batches
from dataloader.sources.rows import RowSource, open_rows
from dataloader.sources.tables import (
    open_batches,
    open_dataframe,
    open_reader,
    to_row_dicts,
    to_tuples,
)

NOON = datetime.datetime(2024, 5, 17, 12)
EAST = datetime.timezone(datetime.timedelta(hours=2))


async def chunks(source: Source, chunk_rows: int = 1000) -> list[pa.RecordBatch]:
    return [chunk async for chunk in source.chunks(chunk_rows)]


async def rows_of(source: Source, chunk_rows: int = 1000) -> list[dict[str, Any]]:
    return [row for chunk in await chunks(source, chunk_rows) for row in chunk.to_pylist()]


async def frame_rows(data: object, chunk_rows: int = 2) -> list[dict[str, Any]]:
    return await rows_of(open_dataframe(data), chunk_rows)


def as_json(chunk: pa.RecordBatch, column: str) -> list[Any]:
    """What a JSON column would store of the chunk."""
    plan = ColumnPlan(column, chunk[column].type, ColumnType("jsonb", "jsonb"), pa.string(), False, "checked")
    converted = Converter((plan,))(chunk.select([column]), 0)
    return [json.loads(one) for one in converted.batch[column].to_pylist()]


@st.composite
def layouts(draw: st.DrawFn) -> list[pa.RecordBatch]:
    """Batches of any sizes, empty ones too, whose values count up."""
    sizes = draw(st.lists(st.integers(0, 9), max_size=12))
    numbers = iter(range(sum(sizes)))
    kinds = draw(st.sampled_from(["plain", "dictionary"]))
    arrays = [pa.array([next(numbers) for _ in range(size)], pa.int64()) for size in sizes]
    arrays = [array.dictionary_encode() for array in arrays] if kinds == "dictionary" else arrays
    return [pa.record_batch({"n": array}) for array in arrays]


@settings(deadline=None)
@given(layouts(), st.integers(1, 12))
def test_cutting_keeps_rows_and_order_and_gives_exact_chunks(batches: list[pa.RecordBatch], chunk_rows: int) -> None:
    cut = list(rechunk(batches, chunk_rows))
    total = sum(batch.num_rows for batch in batches)
    assert [row["n"] for chunk in cut for row in chunk.to_pylist()] == list(range(total))
    whole, rest = divmod(total, chunk_rows)
    assert [chunk.num_rows for chunk in cut] == [chunk_rows] * whole + [rest] * (rest > 0)


def test_a_chunk_that_is_one_batch_already_is_not_copied() -> None:
    batch = pa.record_batch({"n": [1, 2, 3]})
    (cut,) = rechunk([batch], 3)
    assert cut["n"].buffers()[1].address == batch["n"].buffers()[1].address


def test_cutting_pulls_only_the_batches_that_a_chunk_needs() -> None:
    pulled = []

    def reading() -> Iterator[pa.RecordBatch]:
        for number in range(10):
            pulled.append(number)
            yield pa.record_batch({"n": [number]})

    cutting = rechunk(reading(), 3)
    next(cutting)
    assert pulled == [0, 1, 2]


async def test_a_numpy_frame_gives_its_values_and_null_for_missing_ones() -> None:
    frame = pd.DataFrame(
        {
            "i": np.array([1, 2, 3], "int32"),
            "f": [0.5, np.nan, 1.5],
            "t": [pd.Timestamp("2024-01-02 03:04:05.000006"), pd.NaT, pd.Timestamp("1969-12-31")],
            "b": [True, False, True],
        }
    )
    source = open_dataframe(frame)
    assert (source.name, source.rows) == ("DataFrame", 3)
    assert source.schema.types == [pa.int32(), pa.float64(), pa.timestamp(frame["t"].dt.unit), pa.bool_()]
    rows = await rows_of(source, 2)
    assert [list(row.values()) for row in rows] == [
        [1, 0.5, datetime.datetime(2024, 1, 2, 3, 4, 5, 6), True],
        [2, None, None, False],
        [3, 1.5, datetime.datetime(1969, 12, 31), True],
    ]


@pytest.mark.parametrize(
    ("series", "kind", "values"),
    [
        (pd.Series([2**53 + 1, pd.NA], dtype="Int64"), pa.int64(), [2**53 + 1, None]),
        (pd.Series([True, pd.NA], dtype="boolean"), pa.bool_(), [True, None]),
        (pd.Series(["a", None]), None, ["a", None]),
        (pd.Series(["a", None], dtype="string"), None, ["a", None]),
        (pd.Series(["a", None, "b"], dtype=object), pa.string(), ["a", None, "b"]),
        (pd.Series([None, np.nan, pd.NA], dtype=object), pa.null(), [None] * 3),
        (pd.Series([1, None, np.nan], dtype=object), pa.int64(), [1, None, None]),
        (pd.Series([decimal.Decimal("0.1"), None], dtype=object), None, [decimal.Decimal("0.1"), None]),
        (pd.Series([1, None], dtype=pd.ArrowDtype(pa.int8())), pa.int8(), [1, None]),
        (pd.Series([1.5, None], dtype=pd.ArrowDtype(pa.float32())), pa.float32(), [1.5, None]),
        (pd.Series([[1], None], dtype=object), pa.list_(pa.int64()), [[1], None]),
        (pd.to_timedelta(pd.Series([1, None]), unit="s"), None, [datetime.timedelta(seconds=1), None]),
        (pd.Series(pd.to_datetime(["2024-05-17 12:00+02:00"], utc=True)), None, [NOON.replace(tzinfo=EAST)]),
    ],
    ids=[
        "nullable integer",
        "nullable boolean",
        "text",
        "nullable text",
        "objects",
        "nothing but missing",
        "integers and None",
        "decimals",
        "arrow integer",
        "arrow float",
        "lists",
        "timedelta",
        "aware",
    ],
)
async def test_a_pandas_column_of_any_dtype_keeps_its_values(
    series: pd.Series[Any], kind: pa.DataType | None, values: list[Any]
) -> None:
    source = open_dataframe(pd.DataFrame({"c": series}))
    assert kind is None or source.schema.field("c").type == kind
    assert [row["c"] for row in await rows_of(source, 1)] == values


async def test_a_categorical_gives_its_values_in_every_chunk() -> None:
    values = ["b", None, "a", "b", "c"]
    source = open_dataframe(pd.DataFrame({"c": pd.Categorical(values, categories=["c", "b", "a"])}))
    assert [row["c"] for row in await rows_of(source, 2)] == values
    assert pa.types.is_dictionary(source.schema.field("c").type)


async def test_the_type_of_an_object_column_comes_from_all_its_rows() -> None:
    frame = pd.DataFrame({"c": pd.Series([None, None, 1, 2.5], dtype=object)})
    assert open_dataframe(frame).schema.field("c").type == pa.float64()
    assert [row["c"] for row in await frame_rows(frame)] == [None, None, 1.0, 2.5]


@pytest.mark.parametrize("values", [[object()], [1j], [None, object(), 1j]], ids=["object", "complex", "both"])
def test_objects_that_no_type_holds_are_refused_by_column(values: list[Any]) -> None:
    with pytest.raises(UnsupportedType, match=r"column 'odd'"):
        open_dataframe(pd.DataFrame({"fine": range(len(values)), "odd": pd.Series(values, dtype=object)}))


MIXED: dict[str, tuple[list[Any], list[pa.DataType], list[str | None]]] = {
    "text among integers": ([1, "a", None, 2], [pa.int64(), pa.string()], [None] * 4),
    "integers among texts": (["a", 1, "b", 2, "c"], [pa.string(), pa.int64()], [None] * 5),
    "bool and integer": ([True, 5], [pa.bool_(), pa.int64()], [None] * 2),
    "bool among floats": ([0.5, True, 1.5], [pa.float64(), pa.bool_()], [None] * 3),
    "bytes among integers": ([5, b"x", 6], [pa.int64(), pa.binary()], [None] * 3),
    "integer among dates": ([NOON.date(), NOON.date(), 5], [pa.date32(), pa.int64()], [None] * 3),
    "dates among naive moments": ([NOON, NOON.date(), NOON], [pa.timestamp("us"), pa.date32()], [None] * 3),
    "an aware moment among naive ones": (
        [NOON, NOON, NOON.replace(tzinfo=EAST)],
        [pa.timestamp("us"), pa.timestamp("us", "+02:00")],
        [None] * 3,
    ),
    "three kinds": ([1, "a", NOON, 2, "b", 3], [pa.int64(), pa.string(), pa.timestamp("us")], [None] * 6),
    "an object among integers": ([1, 1j, 2], [pa.int64()], [None, "type", None]),
    "half a character in a text": (["a", "b\ud800"], [pa.string()], [None, "encoding"]),
}


@pytest.mark.parametrize(("values", "kinds", "reasons"), MIXED.values(), ids=MIXED)
async def test_objects_of_several_kinds_are_kept_apart_by_kind_the_most_frequent_first(
    values: list[Any], kinds: list[pa.DataType], reasons: list[str | None]
) -> None:
    source = open_dataframe(pd.DataFrame({"odd": pd.Series(values, dtype=object)}))
    (chunk,) = await chunks(source)
    parts = [part.to_pylist() for part in mixed_parts(chunk["odd"])]
    assert source.schema.field("odd").type == chunk["odd"].type == MixedType(tuple(kinds))
    assert unconvertible(chunk["odd"])[1] == reasons
    for at, (value, reason) in enumerate(zip(values, reasons, strict=True)):
        held = [part[at] for part in parts if part[at] is not None]
        assert held == ([] if value is None or reason is not None else [value])
        assert not held or type(held[0]) is type(value)
    assert mixed_objects(chunk["odd"]) == [str(one) if isinstance(one, complex) else one for one in values]


async def test_dicts_that_json_cannot_hold_are_kept_apart_from_those_that_it_can() -> None:
    values = [{"a": 1}, {"a": float("nan")}, 5, {"b": 2}]
    (chunk,) = await chunks(open_dataframe(pd.DataFrame({"odd": pd.Series(values, dtype=object)})))
    dicts, numbers = mixed_parts(chunk["odd"])
    assert [one and json.loads(one) for one in dicts.to_pylist()] == [{"a": 1}, None, None, {"b": 2}]
    assert numbers.to_pylist() == [None, None, 5, None]
    assert unconvertible(chunk["odd"]) == ([None, "{'a': nan}", None, None], [None, "nan", None, None])


async def test_objects_of_several_kinds_keep_their_rows_in_every_chunk() -> None:
    values = [number if number % 3 else f"odd {number}" for number in range(10)]
    source = open_dataframe(pd.DataFrame({"c": pd.Series(values, dtype=object)}))
    found = [mixed_objects(chunk["c"]) for chunk in await chunks(source, 4)]
    assert found == [values[:4], values[4:8], values[8:]]


@pytest.mark.parametrize("values", [[1, "a"], [NOON, NOON.date()], ["a", "\ud800"]], ids=["text", "date", "half"])
def test_rows_of_python_values_are_the_values_that_were_given_or_an_error(values: list[Any]) -> None:
    frame = pd.DataFrame({"c": pd.Series(values, dtype=object)})
    try:
        dicts, tuples = list(to_row_dicts(frame)), list(to_tuples(frame))
    except DataLoaderError:
        return
    assert dicts == [[{"c": value} for value in values]]
    assert tuples == [[(value,) for value in values]]


async def test_integers_of_more_than_64_bits_keep_their_digits() -> None:
    frame = pd.DataFrame({"c": pd.Series([2**70, None, 1], dtype=object)})
    assert [row["c"] for row in await frame_rows(frame)] == [2**70, None, 1]


MIXED_TIMES = {
    "naive and aware": [NOON, NOON.replace(tzinfo=EAST)],
    "aware and naive": [NOON.replace(tzinfo=EAST), NOON],
    "date and datetime": [NOON.date(), NOON],
    "datetime and date": [NOON, NOON.date()],
}


@pytest.mark.parametrize("values", MIXED_TIMES.values(), ids=MIXED_TIMES)
async def test_mixed_dates_and_times_are_kept_apart_and_never_shifted(values: list[Any]) -> None:
    (chunk,) = await chunks(open_dataframe(pd.DataFrame({"c": pd.Series(values, dtype=object)})))
    first, second = (part.to_pylist() for part in mixed_parts(chunk["c"]))
    assert (first, second) == ([values[0], None], [None, values[1]])
    assert mixed_objects(chunk["c"]) == values


def test_a_time_of_day_with_an_offset_is_refused() -> None:
    with pytest.raises(UnsupportedType, match="a time of day with a zone depends on the date"):
        open_dataframe(pd.DataFrame({"c": pd.Series([NOON.time().replace(tzinfo=EAST)], dtype=object)}))


async def test_an_unnamed_index_is_not_written() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=[10, 20])
    assert await frame_rows(frame) == [{"a": 1}, {"a": 2}]


async def test_a_named_index_is_written_as_the_first_column() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index([10, 20], name="id"))
    assert await frame_rows(frame) == [{"id": 10, "a": 1}, {"id": 20, "a": 2}]


async def test_the_named_levels_of_a_multi_index_are_written() -> None:
    index = pd.MultiIndex.from_tuples([("x", 1, 0), ("y", 2, 0), ("x", 2, 0)], names=["k", "n", None])
    rows = await frame_rows(pd.DataFrame({"a": [1, 2, 3]}, index=index))
    assert rows == [{"k": "x", "n": 1, "a": 1}, {"k": "y", "n": 2, "a": 2}, {"k": "x", "n": 2, "a": 3}]


async def test_an_index_with_repeated_labels_does_not_repeat_rows() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=pd.Index([7, 7, 7], name="id"))
    assert await frame_rows(frame) == [{"id": 7, "a": 1}, {"id": 7, "a": 2}, {"id": 7, "a": 3}]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]], columns=["1", 1]),
        pd.DataFrame({"a": [1]}, index=pd.Index([1], name="a")),
        pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]),
        {"1": [1], 1: [2]},
    ],
    ids=["pandas", "text and number", "index and column", "arrow", "dict"],
)
def test_columns_of_the_same_name_are_refused(frame: object) -> None:
    with pytest.raises(PlanError, match=r"same name: (a|1)\."):
        open_dataframe(frame)


def test_a_label_of_several_levels_is_refused_with_the_way_to_join_it() -> None:
    frame = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")]))
    with pytest.raises(PlanError, match=r"\('a', 'b'\).*'_'\.join"):
        open_dataframe(frame)


def test_a_label_that_is_a_number_becomes_text() -> None:
    assert open_dataframe(pd.DataFrame({2024: [1], "a": [2]})).schema.names == ["2024", "a"]
    assert open_dataframe({2024: [1], "a": [2]}).schema.names == ["2024", "a"]


async def test_a_frame_without_rows_keeps_its_columns() -> None:
    source = open_dataframe(pd.DataFrame({"a": pd.Series([], dtype="int64"), "b": pd.Series([], dtype=object)}))
    assert source.schema.names == ["a", "b"]
    assert (source.rows, await chunks(source)) == (0, [])


class StreamOnly:
    """What any library offers that speaks Arrow's stream protocol and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class ArrayOnly:
    """What a library offers that exports one batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        exported: tuple[object, object] = self._batch.__arrow_c_array__(requested_schema)
        return exported


COLUMNS = {"a": [1, 2, 3, 4, 5], "b": ["x", None, "z", "x", "y"]}
TABLE = pa.table(COLUMNS)
IN_PIECES = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 0), TABLE.slice(1, 4)])
TABLES: dict[str, tuple[Callable[[], object], str, int | None]] = {
    "polars": (lambda: pl.DataFrame(COLUMNS), "DataFrame", 5),
    "polars in pieces": (lambda: pl.concat([pl.DataFrame(TABLE[:2]), pl.DataFrame(TABLE[2:])]), "DataFrame", 5),
    "arrow table": (lambda: TABLE, "Arrow table", 5),
    "arrow table in pieces": (lambda: IN_PIECES, "Arrow table", 5),
    "record batch": (lambda: TABLE.to_batches()[0], "Arrow table", 5),
    "record batch reader": (IN_PIECES.to_reader, "Arrow stream", None),
    "stream protocol": (lambda: StreamOnly(IN_PIECES), "StreamOnly", None),
    "array protocol": (lambda: ArrayOnly(TABLE.to_batches()[0]), "ArrayOnly", 5),
    "dict of lists": (lambda: COLUMNS, "dict of columns", 5),
    "dict of arrays": (
        lambda: {"a": np.array(COLUMNS["a"]), "b": pd.Series(COLUMNS["b"], dtype=object)},
        "dict of columns",
        5,
    ),
    "dict of arrow arrays": (lambda: {"a": pa.array(COLUMNS["a"]), "b": IN_PIECES["b"]}, "dict of columns", 5),
    "pandas": (lambda: pd.DataFrame(COLUMNS), "DataFrame", 5),
}


@pytest.mark.parametrize(("make", "name", "known"), TABLES.values(), ids=TABLES)
async def test_a_table_of_any_kind_gives_its_rows_in_exact_chunks(
    make: Callable[[], object], name: str, known: int | None
) -> None:
    source = open_dataframe(make())
    assert (source.name, source.rows, source.schema.names) == (name, known, ["a", "b"])
    cut = await chunks(source, 2)
    assert [chunk.num_rows for chunk in cut] == [2, 2, 1]
    assert [row for chunk in cut for row in chunk.to_pylist()] == TABLE.to_pylist()


@pytest.mark.parametrize("name", ["polars", "arrow table", "pandas", "dict of lists", "array protocol"])
async def test_a_table_in_memory_can_be_read_again(name: str) -> None:
    source = open_dataframe(TABLES[name][0]())
    source_again = open_dataframe(TABLES[name][0]())
    assert await rows_of(source) == await rows_of(source_again)


def test_a_frame_that_was_opened_for_a_plan_can_be_opened_again() -> None:
    frame = pl.DataFrame(COLUMNS)
    open_dataframe(frame)
    assert [row for rows in to_row_dicts(frame) for row in rows] == TABLE.to_pylist()


async def test_polars_categoricals_and_decimals_keep_their_values() -> None:
    frame = pl.DataFrame(
        {"c": pl.Series(["x", None, "y"], dtype=pl.Categorical), "d": [decimal.Decimal("0.10")] * 3},
    )
    assert [tuple(row.values()) for row in await frame_rows(frame)] == [
        ("x", decimal.Decimal("0.10")),
        (None, decimal.Decimal("0.10")),
        ("y", decimal.Decimal("0.10")),
    ]


async def test_dictionaries_that_differ_between_batches_are_joined() -> None:
    batches = [pa.record_batch({"c": pa.array(values).dictionary_encode()}) for values in (["a", "b"], ["c", "a"])]
    source = open_dataframe(pa.Table.from_batches(batches))
    assert [chunk["c"].to_pylist() for chunk in await chunks(source, 3)] == [["a", "b", "c"], ["a"]]


def test_columns_of_a_dict_that_differ_in_length_are_listed() -> None:
    with pytest.raises(PlanError, match="a has 2, b has 1"):
        open_dataframe({"a": [1, 2], "b": [1]})


def test_a_dict_of_scalars_is_refused_by_column() -> None:
    with pytest.raises(PlanError, match="'a'"):
        open_dataframe({"a": 1, "b": 2})


def test_a_dict_of_texts_is_not_a_table_of_letters() -> None:
    with pytest.raises(PlanError, match="'name'"):
        open_dataframe({"name": "Ada", "city": "Ulm"})


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ([{"a": 1}], "load_rows"),
        (((1, 2),), "load_rows"),
        ((row for row in [{"a": 1}]), "load_rows"),
        ("orders.csv", "load_files"),
        (Path("orders.csv"), "load_files"),
        (pd.Series([1, 2], name="a"), "to_frame"),
        (pl.Series("a", [1, 2]), "to_frame"),
        (5, "Pass a DataFrame"),
        (None, "Pass a DataFrame"),
        (pa.array([1, 2]), "Give it a name"),
        (pa.chunked_array([[1, 2]]), "Give it a name"),
    ],
    ids=[
        "list",
        "tuple",
        "generator",
        "text",
        "path",
        "pandas series",
        "polars series",
        "number",
        "None",
        "arrow array",
        "chunked array",
    ],
)
def test_what_is_not_a_table_is_refused_with_what_to_do(data: object, hint: str) -> None:
    with pytest.raises(PlanError, match=hint):
        open_dataframe(data)


def test_record_batches_are_read_from_any_iterable() -> None:
    source = open_batches(iter(IN_PIECES.to_batches()))
    assert (source.schema.names, source.rows) == (["a", "b"], None)
    assert [row for chunk in source.batches(2) for row in chunk.to_pylist()] == TABLE.to_pylist()


def test_a_reader_without_batches_still_has_columns() -> None:
    source = open_batches(pa.RecordBatchReader.from_batches(TABLE.schema, []))
    assert (source.schema.names, list(source.batches(2))) == (["a", "b"], [])


def test_a_reader_of_known_length_says_so() -> None:
    assert open_reader(TABLE.to_reader(), 5).rows == 5


def test_only_the_first_batch_is_read_to_open_a_stream() -> None:
    pulled = []

    def reading() -> Iterator[pa.RecordBatch]:
        for number in range(5):
            pulled.append(number)
            yield pa.record_batch({"n": [number]})

    source = open_batches(reading())
    assert pulled == [0]
    next(source.batches(2))
    assert pulled == [0, 1]


@pytest.mark.parametrize("data", [5, "text", b"bytes", {"a": [1]}, None])
def test_what_is_no_stream_of_batches_is_refused(data: object) -> None:
    with pytest.raises(PlanError, match="expected a stream of record batches, got "):
        open_batches(data)


def test_a_stream_without_any_batch_is_refused() -> None:
    with pytest.raises(PlanError, match="columns are unknown"):
        open_batches(iter([]))


def test_a_stream_of_something_else_is_refused_at_its_first_and_at_a_later_item() -> None:
    with pytest.raises(PlanError, match="must yield record batches, got dict"):
        open_batches([{"a": 1}])
    later = open_batches([TABLE.to_batches()[0], TABLE])
    with pytest.raises(PlanError, match="must yield record batches, got Table"):
        list(later.batches(5))


async def agen(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def test_record_batches_are_read_from_an_async_iterable() -> None:
    source = await open_async_batches(agen(*IN_PIECES.to_batches()))
    cut = await chunks(source, 2)
    assert [chunk.num_rows for chunk in cut] == [2, 2, 1]
    assert [row for chunk in cut for row in chunk.to_pylist()] == TABLE.to_pylist()


async def test_an_async_stream_without_batches_or_of_something_else_is_refused() -> None:
    with pytest.raises(PlanError, match="columns are unknown"):
        await open_async_batches(agen())
    with pytest.raises(PlanError, match="must yield record batches, got Table"):
        await open_async_batches(agen(TABLE))
    later = await open_async_batches(agen(TABLE.to_batches()[0], 5))
    with pytest.raises(PlanError, match="must yield record batches, got int"):
        await chunks(later, 5)


SWAPPED = [pa.record_batch({"a": [1, 2], "b": [10, 20]}), pa.record_batch({"b": [30, 40], "a": [3, 4]})]
RENAMED = [pa.record_batch({"a": [1, 2], "b": [10, 20]}), pa.record_batch({"a": [3, 4], "c": [30, 40]})]


async def opened_stream(kind: str, batches: list[pa.RecordBatch]) -> Source:
    return open_batches(iter(batches)) if kind == "iterable" else await open_async_batches(agen(*batches))


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 10])
@pytest.mark.parametrize("kind", ["iterable", "async"])
async def test_a_batch_with_its_columns_in_another_order_never_swaps_values(kind: str, chunk_rows: int) -> None:
    source = await opened_stream(kind, SWAPPED)
    try:
        cut = await chunks(source, chunk_rows)
    except DataLoaderError:
        return
    assert all(chunk.schema.names == ["a", "b"] for chunk in cut)
    assert [row for chunk in cut for row in chunk.to_pylist()] == [
        {"a": number, "b": number * 10} for number in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("chunk_rows", [2, 3])
@pytest.mark.parametrize("kind", ["iterable", "async"])
async def test_a_batch_with_other_columns_is_refused(kind: str, chunk_rows: int) -> None:
    source = await opened_stream(kind, RENAMED)
    with pytest.raises(DataLoaderError):
        await chunks(source, chunk_rows)


@pytest.mark.parametrize("chunk_rows", [2, 3])
@pytest.mark.parametrize("kind", ["iterable", "async"])
async def test_batches_whose_types_differ_keep_their_values_or_are_refused(kind: str, chunk_rows: int) -> None:
    source = await opened_stream(kind, [pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": [2.5, 3.5]})])
    try:
        rows = await rows_of(source, chunk_rows)
    except DataLoaderError:
        return
    assert [row["a"] for row in rows] == [1, 2, 2.5, 3.5]


async def opened(rows: object, columns: list[str] | None = None) -> RowSource:
    return await open_rows(rows, columns)


async def test_dicts_give_every_key_of_the_first_rows_and_null_where_one_lacks_it() -> None:
    source = await opened([{"a": 1}, {"b": "x", "a": 2}])
    assert (source.schema.names, source.rows) == (["a", "b"], 2)
    assert await rows_of(source) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


async def test_tuples_with_columns_give_rows() -> None:
    assert await rows_of(await opened(iter([(1, "x"), [2, None]]), ["a", "b"])) == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": None},
    ]


class Pydantic:
    """As much of a pydantic model as is read."""

    model_fields: ClassVar = {"id": None, "v": None}

    def __init__(self, id: int, v: str) -> None:
        self.id, self.v = id, v


def sqlite_row(id: int, v: str) -> object:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute("SELECT ? AS v, ? AS id", (v, id)).fetchone()


def sqlalchemy_row(id: int, v: str) -> object:
    with sa.create_engine("sqlite://", poolclass=sa.NullPool).connect() as connection:
        return connection.execute(sa.select(sa.literal(v).label("v"), sa.literal(id).label("id"))).one()


NAMED: dict[str, Callable[..., object]] = {
    "namedtuple": collections.namedtuple("Pair", "id v"),
    "namedtuple of another order": collections.namedtuple("Other", "v id"),
    "dataclass": dataclasses.make_dataclass("Data", [("v", str), ("id", int)]),
    "dataclass with slots": dataclasses.make_dataclass("Slotted", [("v", str), ("id", int)], slots=True),
    "attrs": attrs.make_class("Attrs", ["v", "id"]),
    "pydantic": Pydantic,
    "sqlite3.Row": sqlite_row,
    "SQLAlchemy's Row": sqlalchemy_row,
}


@pytest.mark.parametrize("columns", [None, ["id", "v"], ["v", "id"]], ids=["none", "in order", "in another order"])
@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
async def test_objects_with_fields_go_by_name_whatever_the_order_and_whatever_else_comes(
    named: Callable[..., object], columns: list[str] | None
) -> None:
    pairs = [named(id=1, v="a"), {"v": "b", "id": 2}, NAMED["namedtuple of another order"](id=3, v="c")]
    found = await rows_of(await opened(pairs, columns))
    assert sorted((row["id"], row["v"]) for row in found) == [(1, "a"), (2, "b"), (3, "c")]
    assert await rows_of(await opened(agen(*pairs), columns)) == found


async def test_a_field_that_is_no_column_is_refused_and_not_put_in_the_place_of_another() -> None:
    with pytest.raises(SchemaMismatch, match="no row of the first 1 has the key 'key'"):
        await opened([NAMED["namedtuple"](id=1, v="a")], ["key", "v"])


async def test_namedtuples_after_tuples_are_refused_or_go_by_name() -> None:
    with pytest.raises(PlanError, match="row 1"):
        await opened([(1, "a"), NAMED["namedtuple of another order"](id=2, v="b")], ["id", "v"])


async def test_a_row_with_two_fields_of_one_name_is_refused() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT 1 AS id, 2 AS id").fetchall()
    with pytest.raises(PlanError, match="same name: id"):
        await opened(rows)


async def test_columns_choose_the_order_of_dicts() -> None:
    source = await opened([{"a": 1, "b": 2}], ["b", "a", "c"])
    assert [list(row.items()) for row in await rows_of(source)] == [[("b", 2), ("a", 1), ("c", None)]]


async def test_dicts_keyed_by_numbers_give_their_values() -> None:
    assert await rows_of(await opened([{1: "x", 2: "y"}])) == [{"1": "x", "2": "y"}]


async def test_an_async_generator_gives_rows() -> None:
    source = await opened(agen({"a": 1}, {"a": 2}))
    assert (source.rows, await rows_of(source)) == (None, [{"a": 1}, {"a": 2}])


@pytest.mark.parametrize(
    ("rows", "columns", "problem"),
    [
        ([(1, 2, 3)], ["a", "b"], r"row 0 has 3 values for 2 columns"),
        ([(1, 2), (1,)], ["a", "b"], r"row 1 has 1 values for 2 columns"),
    ],
    ids=["too long", "too short"],
)
async def test_a_row_that_does_not_have_the_columns_is_named(rows: list[Any], columns: list[str], problem: str) -> None:
    with pytest.raises(SchemaMismatch, match=problem):
        await opened(rows, columns)


@pytest.mark.parametrize(
    ("rows", "columns", "problem"),
    [
        ([(1, 2)], None, "no column names: expected dicts, got tuple"),
        ([], None, "no rows"),
        (iter([]), None, "no rows"),
        ("text", None, "expected a stream of rows, got str"),
        ({"a": 1}, None, "expected a stream of rows, got dict"),
        (5, None, "expected a stream of rows, got int"),
        ([5], ["a"], "row 0 must be a tuple or list, got int"),
        (["text"], ["a", "b", "c", "d"], "row 0 must be a tuple or list, got str"),
        ([(1, 2)], ["a", "a"], "same name: a"),
        ([{"a": 1}, None], None, "row 1 must be a dict like the first, got NoneType"),
    ],
)
async def test_what_are_no_rows_is_refused(rows: object, columns: list[str] | None, problem: str) -> None:
    with pytest.raises(PlanError, match=problem):
        await opened(rows, columns)


async def test_an_empty_stream_with_columns_has_no_chunks() -> None:
    source = await opened([], ["a", "b"])
    assert (source.schema.names, await chunks(source)) == (["a", "b"], [])


@pytest.mark.parametrize(
    "rows",
    [[("x", "y"), {"a": "p", "b": "q"}], [{"a": "x", "b": "y"}, ("p", "q")]],
    ids=["tuple first", "dict first"],
)
async def test_dicts_mixed_with_tuples_keep_their_values_or_are_refused(rows: list[Any]) -> None:
    try:
        kept = await rows_of(await opened(rows, ["a", "b"]))
    except DataLoaderError:
        return
    assert kept == [{"a": "x", "b": "y"}, {"a": "p", "b": "q"}]


async def test_missing_values_in_rows_are_null() -> None:
    source = await opened([{"f": 0.5, "i": 1}, {"f": float("nan"), "i": None}, {"f": None, "i": pd.NA}])
    assert (await rows_of(source))[1:] == [{"f": None, "i": None}] * 2


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("kind", ["list", "async"])
async def test_rows_come_in_exact_chunks_whatever_was_peeked(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int, kind: str
) -> None:
    monkeypatch.setattr(row_streams, "PEEKED_ROWS", 3)
    rows = [{"n": number} for number in range(11)]
    cut = await chunks(await opened(rows if kind == "list" else agen(*rows)), chunk_rows)
    whole, rest = divmod(11, chunk_rows)
    assert [chunk.num_rows for chunk in cut] == [chunk_rows] * whole + [rest] * (rest > 0)
    assert [row for chunk in cut for row in chunk.to_pylist()] == rows


async def test_rows_are_pulled_no_further_than_one_block_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_streams, "PEEKED_ROWS", 4)
    pulled = []

    def reading() -> Iterator[dict[str, int]]:
        for number in range(100):
            pulled.append(number)
            yield {"n": number}

    source = await opened(reading())
    assert len(pulled) == 4
    stream = source.chunks(2)
    await anext(stream)
    assert len(pulled) <= 8
    await anext(stream)
    assert len(pulled) <= 8


async def test_an_error_of_the_callers_generator_passes_through() -> None:
    def reading() -> Iterator[dict[str, int]]:
        yield {"n": 1}
        raise KeyError("the API is down")

    with pytest.raises(KeyError, match="the API is down"):
        await opened(reading())


async def test_the_error_of_a_later_row_names_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_streams, "PEEKED_ROWS", 2)
    short = await opened([(1, 2)] * 5 + [(1,)], ["a", "b"])
    with pytest.raises(SchemaMismatch, match="row 5 has 1 values"):
        await chunks(short, 2)
    unknown = await opened([{"a": 1}] * 5 + [{"b": 1}])
    with pytest.raises(SchemaMismatch, match="row 5 has the unknown key 'b'"):
        await chunks(unknown, 4)


async def test_a_later_value_of_another_kind_is_judged_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_streams, "PEEKED_ROWS", 2)
    mixed = await opened([{"a": 1}] * 4 + [{"a": 1}, {"a": "x"}])
    *before, last = await chunks(mixed, 2)
    assert [chunk["a"].to_pylist() for chunk in before] == [[1, 1], [1, 1]]
    assert mixed_objects(last["a"]) == [1, "x"]
    plan = ColumnPlan("a", pa.int64(), ColumnType("int8", "bigint"), pa.int64(), False, "exact")
    converted = Converter((plan,))(last, 4)
    assert [(one.row, one.value, one.reason) for one in converted.violations] == [(5, "'x'", "syntax")]
    assert (converted.batch["a"].to_pylist(), converted.rows.tolist()) == ([1], [4])


@pytest.mark.parametrize(
    ("before", "after", "target"),
    [
        (1, "x", ColumnType("int8", "bigint")),
        (NOON, NOON.replace(tzinfo=EAST), ColumnType("timestamp", "timestamp")),
        (NOON.date(), NOON, ColumnType("date", "date")),
    ],
    ids=["texts after integers", "aware after naive", "moments after dates"],
)
async def test_a_value_of_the_planned_kind_fits_wherever_the_chunks_are_cut(
    monkeypatch: pytest.MonkeyPatch, before: Any, after: Any, target: ColumnType
) -> None:
    monkeypatch.setattr(row_streams, "PEEKED_ROWS", 2)
    source = await opened([{"c": before}] * 4 + [{"c": after}] * 2)
    kind = source.schema.field("c").type
    convert = Converter((ColumnPlan("c", kind, target, kind, False, "checked"),))
    _, later = await chunks(source, 3)
    converted = convert(later, 3)
    assert [one.row for one in converted.violations] == [4, 5]
    assert converted.batch["c"].to_pylist() == [before]


DRIFTS: dict[str, tuple[Any, Any]] = {
    "integer, then fraction": (1, 2.5),
    "integer, then decimal fraction": (1, decimal.Decimal("2.5")),
    "integer, then text": (1, "x"),
    "text, then integer": ("x", 1),
    "bool, then integer": (True, 5),
    "integer, then bool": (5, True),
    "float, then a large integer": (0.5, 2**53 + 1),
    "float, then a long decimal": (0.5, decimal.Decimal("0.1234567890123456789")),
    "short decimal, then longer": (decimal.Decimal("0.1"), decimal.Decimal("0.12345")),
    "nothing, then text": (None, "x"),
    "date, then datetime": (NOON.date(), NOON),
    "datetime, then date": (NOON, NOON.date()),
    "naive, then aware": (NOON, NOON.replace(tzinfo=EAST)),
    "aware, then naive": (NOON.replace(tzinfo=EAST), NOON),
    "list, then longer list": ([1], [1, 2.5]),
}


@pytest.mark.parametrize(("before", "after"), DRIFTS.values(), ids=DRIFTS)
async def test_rows_of_another_type_than_the_first_keep_their_values_or_are_refused(
    monkeypatch: pytest.MonkeyPatch, before: Any, after: Any
) -> None:
    monkeypatch.setattr(row_streams, "PEEKED_ROWS", 2)
    source = await opened([{"c": before}] * 2 + [{"c": after}] * 2)
    try:
        rows = await rows_of(source, 2)
    except DataLoaderError:
        return
    found = [
        json.loads(row["c"]) if isinstance(before, list) and isinstance(row["c"], str) else row["c"] for row in rows
    ]
    assert found == [before, before, after, after]


async def test_a_nested_key_that_the_first_rows_lack_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_streams, "PEEKED_ROWS", 2)
    source = await opened([{"c": {"a": 1}}] * 2 + [{"c": {"a": 1, "b": 2}}] * 2)
    try:
        _, later = await chunks(source, 2)
    except DataLoaderError:
        return
    assert as_json(later, "c") == [{"a": 1, "b": 2}] * 2


def test_row_dicts_come_in_lists_of_python_values() -> None:
    frame = pd.DataFrame({"i": np.array([1, 2, 3], "int16"), "f": [0.5, np.nan, 1.5], "t": [pd.NaT, NOON, NOON]})
    lists = list(to_row_dicts(frame, chunk_rows=2))
    assert [len(rows) for rows in lists] == [2, 1]
    assert lists[0] == [{"i": 1, "f": 0.5, "t": None}, {"i": 2, "f": None, "t": NOON}]
    assert type(lists[0][0]["i"]) is int


def test_tuples_come_in_the_order_of_the_columns() -> None:
    assert list(to_tuples({"b": [1, 2, 3], "a": ["x", None, "z"]}, chunk_rows=2)) == [
        [(1, "x"), (2, None)],
        [(3, "z")],
    ]


def test_the_streams_of_an_empty_table_are_empty() -> None:
    assert (list(to_row_dicts({"a": []})), list(to_tuples({"a": []}))) == ([], [])


def test_row_dicts_are_made_one_list_at_a_time() -> None:
    pulled = []

    def reading() -> Iterator[pa.RecordBatch]:
        for number in range(5):
            pulled.append(number)
            yield pa.record_batch({"n": [number]})

    reader = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), reading())
    assert next(to_row_dicts(reader, chunk_rows=1)) == [{"n": 0}]
    assert pulled == [0]
    gc.collect()


def test_a_frame_with_repeated_names_has_no_row_dicts() -> None:
    with pytest.raises(PlanError, match="same name"):
        list(to_row_dicts(pd.DataFrame([[1, 2]], columns=["a", "a"])))
