"""Streams that can be read once: a second reading is refused, nothing is emptied for it, and every end closes them."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

Discarding = Literal["truncate", "replace"]
DISCARDING: list[Discarding] = ["truncate", "replace"]
MADE = ["CREATE TABLE t (a BIGINT)", "INSERT INTO t VALUES (7), (8)"]


@pytest.fixture
async def table(sqlite: AsyncEngine) -> AsyncEngine:
    """A table with rows that must not be lost."""
    await execute(sqlite, *MADE)
    return sqlite


async def stored(database: AsyncEngine) -> list[Any]:
    return [value for (value,) in await fetch(database, "SELECT a FROM t ORDER BY a")]


def batches() -> Iterator[pa.RecordBatch]:
    yield pa.record_batch({"a": [1, 2]})


async def later(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


NARROW = sa.Table("t", sa.MetaData(), sa.Column("a", sa.BigInteger))


def duckdb_reader(query: Any) -> pa.RecordBatchReader:
    names = ("to_arrow_reader", "fetch_record_batch", "fetch_arrow_reader")  # the newest first
    return getattr(query, next(name for name in names if hasattr(query, name)))(1000)


class Wrapped:
    """A stream that does not say that it can be read once."""

    def __init__(self) -> None:
        self._reader = pa.table({"a": [1, 2]}).to_reader()

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self._reader.__arrow_c_stream__(requested_schema)


class Cursor:
    """An iterable of rows that does not say that it can be read once."""

    def __init__(self) -> None:
        self._rows = iter([(1,), (2,)])

    def __iter__(self) -> Iterator[tuple[int]]:
        yield from self._rows


STREAMS: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "reader": (dl.load_dataframe, lambda: pa.table({"a": [1, 2]}).to_reader()),
    "reader of batches": (dl.load_batches, lambda: pa.table({"a": [1, 2]}).to_reader()),
    "object with a stream": (dl.load_dataframe, Wrapped),
    "duckdb reader": (dl.load_dataframe, lambda: duckdb_reader(duckdb.connect().sql("SELECT unnest([1, 2]) AS a"))),
    "generator of batches": (dl.load_batches, batches),
    "async generator of batches": (dl.load_batches, lambda: later(batches())),
    "generator of rows": (lambda *a, **o: dl.load_rows(*a, columns=["a"], **o), lambda: ((one,) for one in (1, 2))),
    "async generator of rows": (lambda *a, **o: dl.load_rows(*a, columns=["a"], **o), lambda: later([(1,), (2,)])),
    "generator of dicts": (dl.load_rows, lambda: ({"a": one} for one in (1, 2))),
    "dict reader": (dl.load_rows, lambda: csv.DictReader(io.StringIO("a\n1\n2\n"))),
    "cursor": (lambda *a, **o: dl.load_rows(*a, columns=["a"], **o), Cursor),
}


@pytest.mark.parametrize("if_exists", ["append", *DISCARDING])
@pytest.mark.parametrize(("load", "make"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_that_was_loaded_before_is_refused_and_the_rows_stay(
    table: AsyncEngine, load: Callable[..., Any], make: Callable[[], Any], if_exists: Any
) -> None:
    stream = make()
    assert (await load(stream, "t", engine=table)).loaded == 2
    with pytest.raises(dl.PlanError, match="has been read already") as raised:
        await load(stream, "t", engine=table, if_exists=if_exists)
    assert "make it anew" in str(raised.value)
    assert await stored(table) == [1, 2, 7, 8]


@pytest.mark.parametrize("make", [STREAMS["reader"][1], Wrapped], ids=["reader", "object with a stream"])
async def test_a_stream_that_was_validated_before_is_refused_and_the_rows_stay(
    table: AsyncEngine, make: Callable[[], Any]
) -> None:
    stream = make()
    assert (await dl.validate(stream, "t", engine=table)).read == 2
    with pytest.raises(dl.PlanError, match="has been read already"):
        await dl.load_dataframe(stream, "t", engine=table, if_exists="truncate")
    with pytest.raises(dl.PlanError, match="has been read already"):
        await dl.validate(stream, "t", engine=table)
    assert await stored(table) == [7, 8]


@pytest.mark.parametrize("make", [STREAMS["reader"][1], Wrapped], ids=["reader", "object with a stream"])
async def test_a_stream_that_was_planned_only_is_loaded(table: AsyncEngine, make: Callable[[], Any]) -> None:
    stream = make()
    await dl.plan_load(stream, "t", engine=table)
    assert (await dl.load_dataframe(stream, "t", engine=table)).loaded == 2


async def test_a_stream_that_a_refused_load_had_begun_to_read_is_refused(table: AsyncEngine) -> None:
    rows = ({"b": one} for one in range(3))
    with pytest.raises(dl.SchemaMismatch):
        await dl.load_rows(rows, "t", engine=table)
    with pytest.raises(dl.PlanError, match="has been read already"):
        await dl.load_rows(rows, "t", engine=table, columns=["a"])


@pytest.mark.parametrize("made", [dl.to_row_dicts, dl.to_tuples])
async def test_rows_that_were_made_into_python_objects_are_not_loaded_as_none(
    table: AsyncEngine, made: Callable[[object], Iterator[Any]]
) -> None:
    reader = pa.table({"a": [1, 2]}).to_reader()
    assert len(list(made(reader))) == 1
    with pytest.raises(dl.PlanError, match="has been read already"):
        await dl.load_dataframe(reader, "t", engine=table)


async def test_a_query_and_a_frame_are_read_as_often_as_one_likes(table: AsyncEngine) -> None:
    relation, empty = duckdb.connect().sql("SELECT 1 AS a"), duckdb.connect().sql("SELECT 1 AS a WHERE false")
    for data in (relation, empty, pl.DataFrame({"a": [1]})):
        first, second = [await dl.load_dataframe(data, "t", engine=table) for _ in range(2)]
        assert first.loaded == second.loaded


@pytest.mark.parametrize("if_exists", DISCARDING)
async def test_a_consumed_reader_leaves_the_rows_in_every_database(
    database: AsyncEngine, if_exists: Discarding
) -> None:
    await execute(database, *MADE)
    reader, rows = pa.table({"a": [1, 2]}).to_reader(), iter([(1,), (2,)])
    await dl.load_rows(rows, "other", columns=["a"], engine=database)
    await dl.validate(reader, "t", engine=database)
    with pytest.raises(dl.PlanError, match="has been read already"):
        await dl.load_dataframe(reader, "t", engine=database, if_exists=if_exists)
    with pytest.raises(dl.PlanError, match="yielded no row"):
        await dl.load_rows(rows, "t", columns=["a"], engine=database, if_exists=if_exists)
    with pytest.raises(dl.ValidationError, match="every row was rejected"):
        await dl.load_dataframe(
            {"a": [2**70]},
            NARROW if if_exists == "replace" else "t",
            engine=database,
            if_exists=if_exists,
            on_invalid="reject",
        )
    assert await stored(database) == [7, 8]


EMPTY: dict[str, Callable[[Any, Any], Any]] = {
    "iterator": lambda database, how: dl.load_rows(iter(()), "t", columns=["a"], engine=database, if_exists=how),
    "async rows": lambda database, how: dl.load_rows(later([]), "t", columns=["a"], engine=database, if_exists=how),
    "reader": lambda database, how: dl.load_dataframe(
        pa.table({"a": pa.array([], pa.int64())}).to_reader(), "t", engine=database, if_exists=how
    ),
    "query": lambda database, how: dl.load_dataframe(
        duckdb.connect().sql("SELECT 1 AS a WHERE false"), "t", engine=database, if_exists=how
    ),
}


@pytest.mark.parametrize("if_exists", DISCARDING)
@pytest.mark.parametrize("load", EMPTY.values(), ids=EMPTY)
async def test_a_stream_without_rows_does_not_empty_a_table(
    table: AsyncEngine, load: Callable[..., Any], if_exists: Discarding
) -> None:
    with pytest.raises(dl.PlanError, match=r"yielded no row, so .*t keeps its rows"):
        await load(table, if_exists)
    assert await stored(table) == [7, 8]


@pytest.mark.parametrize("if_exists", DISCARDING)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
async def test_a_file_without_rows_does_not_empty_a_table(
    table: AsyncEngine, tmp_path: Path, suffix: str, if_exists: Discarding
) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "csv":
        path.write_text("a\n")
    else:
        pyarrow.parquet.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(dl.PlanError, match="yielded no row"):
        await dl.load_files(path, "t", engine=table, if_exists=if_exists)
    assert await stored(table) == [7, 8]


KNOWN: dict[str, Any] = {
    "pandas": pd.DataFrame({"a": pd.Series([], dtype="int64")}),
    "polars": pl.DataFrame({"a": pl.Series([], dtype=pl.Int64)}),
    "arrow": pa.table({"a": pa.array([], pa.int64())}),
    "dict": {"a": pa.array([], pa.int64())},
}


@pytest.mark.parametrize("if_exists", DISCARDING)
@pytest.mark.parametrize("data", KNOWN.values(), ids=KNOWN)
async def test_an_empty_frame_empties_a_table(table: AsyncEngine, data: Any, if_exists: Discarding) -> None:
    assert (await dl.load_dataframe(data, "t", engine=table, if_exists=if_exists)).loaded == 0
    assert await stored(table) == []


async def test_an_empty_list_empties_a_table(table: AsyncEngine) -> None:
    assert (await dl.load_rows([], "t", columns=["a"], engine=table, if_exists="truncate")).loaded == 0
    assert await stored(table) == []


@pytest.mark.parametrize("if_exists", ["append", *DISCARDING])
async def test_a_stream_without_rows_is_said_to_have_none_where_nothing_is_lost(
    database: AsyncEngine, if_exists: Any
) -> None:
    report = await dl.load_rows(iter(()), "t", columns=["a"], engine=database, if_exists=if_exists)
    assert report.warnings == ("stream of rows yielded no row",)
    assert await stored(database) == []


async def test_one_row_of_many_that_fits_is_enough(table: AsyncEngine) -> None:
    data, options = {"a": ["x", "y"]}, {"engine": table, "on_invalid": "reject", "chunk_rows": 1}
    with pytest.raises(dl.ValidationError, match=r"every row was rejected, so .*t keeps its rows") as raised:
        await dl.load_dataframe(data, "t", if_exists="truncate", **options)  # type: ignore[arg-type]
    assert len(raised.value.violations) == 2
    data["a"].append("1")
    assert (await dl.load_dataframe(data, "t", if_exists="truncate", **options)).loaded == 1  # type: ignore[arg-type]


class Ends:
    """What was closed, and in which order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def rows(self, bad: int = 500) -> Iterator[dict[str, Any]]:
        try:
            for number in range(100_000):
                yield {"a": "x" if number == bad else number}
        finally:
            self.seen.append("closed")

    async def later(self, bad: int = 500) -> AsyncIterator[dict[str, Any]]:
        try:
            for number in range(100_000):
                yield {"a": "x" if number == bad else number}
        finally:
            await asyncio.sleep(0)
            self.seen.append("closed")

    def batches(self) -> Iterator[pa.RecordBatch]:
        for row in self.rows():
            yield pa.record_batch({name: [value] for name, value in row.items()})


FAILING: dict[str, Callable[[Ends, Any], Any]] = {
    "rows": lambda ends, options: dl.load_rows(ends.rows(), "t", **options),
    "async rows": lambda ends, options: dl.load_rows(ends.later(), "t", **options),
    "batches": lambda ends, options: dl.load_batches(ends.batches(), "t", **options),
    "async batches": lambda ends, options: dl.load_batches(later_batches(ends), "t", **options),
}


async def later_batches(ends: Ends) -> AsyncIterator[pa.RecordBatch]:
    rows = ends.later()
    try:
        async for row in rows:
            yield pa.record_batch({name: [value] for name, value in row.items()})
    finally:
        await rows.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("commit", ["load", "chunk"])
@pytest.mark.parametrize("stage", ["plan", "rows"])
@pytest.mark.parametrize("load", FAILING.values(), ids=FAILING)
async def test_a_load_that_fails_has_closed_its_source(
    table: AsyncEngine, load: Callable[..., Any], stage: str, commit: str
) -> None:
    ends = Ends()
    options: Any = {"engine": table, "commit": commit, "chunk_rows": 100}
    with pytest.raises(dl.DataLoaderError):
        await load(ends, options | ({"if_exists": "fail"} if stage == "plan" else {}))
    assert ends.seen == ["closed"]


@pytest.mark.parametrize("verb", [dl.load_dataframe, dl.plan_load, dl.validate])
async def test_a_failed_plan_leaves_duckdb_free_for_the_next_query(table: AsyncEngine, verb: Any) -> None:
    with duckdb.connect() as connection:
        gc.disable()
        try:
            with pytest.raises(dl.PlanError) as raised:
                await verb(connection.sql("SELECT 1 AS a"), "t", engine=table, if_exists="fail")
            assert connection.sql("SELECT 2").fetchall() == [(2,)], raised.value
        finally:
            gc.enable()


@pytest.mark.parametrize("read", [lambda query: query, duckdb_reader], ids=["relation", "reader"])
async def test_a_load_that_failed_half_way_leaves_duckdb_free(table: AsyncEngine, read: Callable[..., Any]) -> None:
    with duckdb.connect() as connection:
        query = connection.sql("SELECT CASE WHEN n = 5000 THEN 'x' ELSE '1' END AS a FROM range(100000) AS r(n)")
        with pytest.raises(dl.ValidationError) as raised:
            await dl.load_dataframe(read(query), "t", engine=table, chunk_rows=1000)
        assert connection.sql("SELECT 2").fetchall() == [(2,)], raised.value


async def test_a_plan_leaves_duckdb_free_for_the_next_query(table: AsyncEngine) -> None:
    with duckdb.connect() as connection:
        plan = await dl.plan_load(connection.sql("SELECT 1 AS a"), "t", engine=table)
        assert connection.sql("SELECT 2").fetchall() == [(2,)], plan


@pytest.mark.parametrize("kind", ["rows", "async rows"])
async def test_a_cancelled_load_has_closed_its_source(table: AsyncEngine, kind: str) -> None:
    ends = Ends()
    loading = asyncio.create_task(FAILING[kind](ends, {"engine": table, "chunk_rows": 10}))
    while not (await asyncio.sleep(0.005) or loading.done()):
        loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert ends.seen in ([], ["closed"])  # one that was not begun has nothing to close


async def test_a_source_that_hangs_is_closed_when_it_goes_on(table: AsyncEngine) -> None:
    going_on, closed, begun = threading.Event(), threading.Event(), threading.Event()

    def rows() -> Iterator[dict[str, int]]:
        try:
            for number in range(100):
                begun.set()
                going_on.wait()
                yield {"a": number}
        finally:
            closed.set()

    loading = asyncio.create_task(dl.load_rows(rows(), "t", engine=table))
    await asyncio.to_thread(begun.wait)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not closed.is_set()
    going_on.set()
    assert await asyncio.to_thread(closed.wait, 20)


async def test_the_callers_own_file_stays_open(table: AsyncEngine) -> None:
    file = io.StringIO("a\n1\nx\n")
    with pytest.raises(dl.ValidationError):
        await dl.load_rows(csv.DictReader(file), "t", engine=table)
    assert not file.closed


async def test_files_are_closed_when_their_load_fails(table: AsyncEngine, tmp_path: Path) -> None:
    import psutil

    path = tmp_path / "x.csv"
    path.write_text("a\n" + "1\n" * 3000 + "x\n" + "1\n" * 300_000)
    with pytest.raises(dl.ValidationError) as raised:
        await dl.load_files(path, "t", engine=table, chunk_rows=1000)
    assert str(path) not in {file.path for file in psutil.Process().open_files()}, raised.value
