"""A load with a name that is one transaction: its rows and what the ledger says of it are there, or neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.engine import open_engine
from dataloader.transactions import BUFFER_SECONDS
from tests.conftest import Broken, execute, fetch

pytestmark = pytest.mark.any_version

ROWS, CHUNK_ROWS = 60, 10
FRAME = pd.DataFrame({"id": range(ROWS)})
ENTERED = "SELECT load_id, state, chunks, rows, loaded, rejected FROM dataloader_loads"


def load(database: AsyncEngine, data: Any = FRAME, **options: Any) -> Any:
    known: dict[str, Any] = {"load_id": "May", "chunk_rows": CHUNK_ROWS, "progress": "none"}
    return dl.load_dataframe(data, "t", engine=database, **known | options)


def batches(count: int = ROWS, *, breaks: bool = False) -> Iterator[pa.RecordBatch]:
    yield from pa.Table.from_pandas(FRAME.head(count)).to_batches(max_chunksize=CHUNK_ROWS)
    if breaks:
        raise Broken


async def numbers(database: AsyncEngine) -> list[int]:
    return [number for (number,) in await fetch(database, "SELECT id FROM t ORDER BY id")]


async def refuse_to_finish(database: AsyncEngine) -> None:
    """Have the database refuse the last thing that a load enters in its ledger."""
    if database.dialect.name == "sqlite":
        refused = "WHEN NEW.state = 'finished' BEGIN SELECT RAISE(ABORT, 'not that'); END"
        await execute(database, f"CREATE TRIGGER refusing BEFORE UPDATE ON dataloader_loads {refused}")
        return
    await execute(
        database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not that'; END $$",
        "CREATE TRIGGER refusing BEFORE UPDATE ON dataloader_loads FOR EACH ROW WHEN (NEW.state = 'finished') "
        "EXECUTE FUNCTION refuse()",
    )


async def test_a_small_load_with_a_name_is_one_transaction_and_says_so(database: AsyncEngine) -> None:
    plan = await dl.plan_load(FRAME, "t", engine=database, load_id="May")
    assert (plan.commit, plan.is_entered, plan.workers) == ("load", True, 1)
    assert "in one transaction, with its row in the ledger, because there are no more than 500,000 rows" in str(plan)
    report = await load(database)
    assert (report.loaded, report.load_id, report.chunks) == (ROWS, "May", ROWS // CHUNK_ROWS)
    assert await fetch(database, ENTERED) == [("May", "finished", 6, ROWS, ROWS, 0)]


async def test_what_the_ledger_refuses_takes_the_rows_back(database: AsyncEngine) -> None:
    await load(database, FRAME.head(0), load_id="makes the ledger")
    await refuse_to_finish(database)
    with pytest.raises(dl.DataLoaderError, match="not that"):
        await load(database)
    assert await numbers(database) == []
    assert [name for name, *_ in await fetch(database, ENTERED)] == ["makes the ledger"]


async def test_a_row_that_the_table_refuses_takes_back_what_the_ledger_has(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id bigint CHECK (id <> 55))")
    with pytest.raises(dl.WriteError):
        await load(database)
    assert (await numbers(database), await fetch(database, ENTERED)) == ([], [])
    assert (await load(database, FRAME.head(55), resume=True)).loaded == 55


async def arriving(count: int, then: Callable[[], Awaitable[object]]) -> AsyncIterator[pa.RecordBatch]:
    for batch in batches(count):
        yield batch
    await then()


async def test_what_has_arrived_of_a_stream_with_a_name_is_seen_before_its_end_and_stays_when_it_breaks(
    database: AsyncEngine,
) -> None:
    await execute(database, "CREATE TABLE t (id bigint)")
    options: dict[str, Any] = {"engine": database, "load_id": "May", "chunk_rows": CHUNK_ROWS, "workers": 1}
    is_seen = asyncio.Event()

    async def breaks() -> None:
        await is_seen.wait()
        raise Broken

    loading = asyncio.create_task(dl.load_batches(arriving(30, breaks), "t", **options))
    async with asyncio.timeout(BUFFER_SECONDS / 2):
        while await numbers(database) != [*range(30)]:  # noqa: ASYNC110 - by another connection, which nobody tells
            await asyncio.sleep(0.02)
    assert not loading.done()
    is_seen.set()
    with pytest.raises(Broken):
        await loading
    assert await fetch(database, ENTERED) == [("May", "unfinished", 3, 30, 30, 0)]
    report = await dl.load_batches(batches(), "t", **options, resume=True)
    assert (report.loaded, report.already_loaded) == (30, 30)
    assert await numbers(database) == [*range(ROWS)]


async def test_the_plan_of_a_stream_with_a_name_says_that_it_goes_by_chunks(database: AsyncEngine) -> None:
    stream = pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), batches())
    plan = await dl.plan_load(stream, "t", engine=database, load_id="May")
    assert (plan.commit, plan.is_entered, plan.buffers) == ("chunk", False, False)
    assert plan.commit_reason == "a load that can be resumed was requested, and the row count is unknown"
    assert "rows that do not fit: the load ends, and the chunks committed before stay in the table" in str(plan)


def written(kind: str, folder: Path) -> Any:
    """The loader, and the rows in a form that it takes."""
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        FRAME.to_parquet(path)
    elif kind.startswith("csv"):
        FRAME.to_csv(path, index=False)
    if path.exists():
        return dl.load_files, path
    forms: dict[str, Any] = {"table": pa.Table.from_pandas(FRAME), "columns": {"id": [*range(ROWS)]}}
    return (dl.load_rows, FRAME.to_dict("records")) if kind == "dicts" else (dl.load_dataframe, forms[kind])


FORMS = {"table": True, "columns": True, "dicts": True, "csv": True, "parquet": True, "csv.gz": False}
"""Whether it is known before they are read how many rows there are."""


@pytest.mark.parametrize("kind", FORMS)
async def test_whatever_is_sized_is_one_transaction(database: AsyncEngine, tmp_path: Path, kind: str) -> None:
    await execute(database, "CREATE TABLE t (id bigint CHECK (id <> 55))")
    loader, data = written(kind, tmp_path)
    options: dict[str, Any] = {"engine": database, "load_id": "May", "chunk_rows": CHUNK_ROWS, "workers": 1}
    with pytest.raises(dl.WriteError) as refused:
        await loader(data, "t", **options)
    assert ("Nothing was written" in str(refused.value)) == FORMS[kind]
    stored = 0 if FORMS[kind] else 50
    assert (len(await numbers(database)), len(await fetch(database, ENTERED))) == (stored, not FORMS[kind])


@pytest.mark.parametrize("commit", ["auto", "load", "chunk"])
async def test_a_rerun_adds_nothing_however_it_is_to_be_committed(database: AsyncEngine, commit: Any) -> None:
    await load(database)
    again = await load(database, commit=commit, resume=True)
    assert (again.loaded, again.already_loaded, again.load_id) == (0, ROWS, "May")
    assert await numbers(database) == [*range(ROWS)]
    with pytest.raises(dl.CheckpointError, match=r"the load 'May' into .* is finished, with 60 of 60 rows"):
        await load(database, commit=commit)
    with pytest.raises(dl.SourceChanged, match="chunk 5"):
        await load(database, FRAME.replace(59, 0), commit=commit, resume=True)
    assert await numbers(database) == [*range(ROWS)]


async def test_who_begins_anew_has_the_old_load_forgotten_in_the_same_transaction(database: AsyncEngine) -> None:
    await load(database)
    await execute(database, "DELETE FROM t")
    await refuse_to_finish(database)
    with pytest.raises(dl.DataLoaderError, match="not that"):
        await load(database, FRAME.head(20), resume=False)
    assert await fetch(database, ENTERED) == [("May", "finished", 6, ROWS, ROWS, 0)]
    drop = "DROP TRIGGER refusing" + ("" if database.dialect.name == "sqlite" else " ON dataloader_loads")
    await execute(database, drop)
    assert (await load(database, FRAME.head(20), resume=False)).loaded == 20
    assert await fetch(database, ENTERED) == [("May", "finished", 2, 20, 20, 0)]


async def test_what_was_begun_by_chunks_is_continued_by_chunks(database: AsyncEngine) -> None:
    options: Any = {"engine": database, "load_id": "May", "chunk_rows": CHUNK_ROWS, "workers": 1}
    with pytest.raises(Broken):
        await dl.load_batches(batches(30, breaks=True), "t", commit="chunk", **options)
    plan = await dl.plan_load(FRAME, "t", engine=database, load_id="May", resume=True, chunk_rows=CHUNK_ROWS)
    assert (plan.commit, plan.commit_reason.partition(",")[0]) == ("chunk", "the ledger knows this load")
    with pytest.raises(dl.UnfinishedLoad, match="committed 30 rows chunk by chunk, so it is not one transaction"):
        await load(database, commit="load", resume=True)
    report = await load(database, resume=True)
    assert (report.loaded, report.already_loaded) == (30, 30)
    assert await numbers(database) == [*range(ROWS)]


async def test_rejects_are_kept_with_the_load(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer CHECK (id <> 14))")
    data = {"id": [*map(str, range(25)), "x"]}
    report = await load(database, data, on_invalid="reject")
    assert report.rejects["reject_row"].tolist() == [14, 25]
    kept = await fetch(database, "SELECT load_id, reject_row FROM dataloader_rejects ORDER BY reject_row")
    assert kept == [("May", 14), ("May", 25)]
    again = await load(database, data, on_invalid="reject", resume=True)
    pd.testing.assert_frame_equal(again.rejects, report.rejects)
    assert (again.already_loaded, again.already_rejected) == (26, 2)
    assert await fetch(database, ENTERED) == [("May", "finished", 3, 26, 24, 2)]


async def test_rows_that_are_merged_are_merged_once(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id bigint PRIMARY KEY, n bigint)", "INSERT INTO t VALUES (0, 0), (1, 7)")
    data = {"id": [0, 1, 2], "n": [5, 7, 6]}
    merging: dict[str, Any] = {"on_conflict": "update", "chunk_rows": 2}
    assert (await dl.plan_load(data, "t", engine=database, load_id="May", on_conflict="update")).is_entered
    report = await load(database, data, **merging)
    assert (report.inserted, report.updated, report.unchanged) == (1, 1, 1)
    await execute(database, "UPDATE t SET n = 8 WHERE id = 0")
    again = await load(database, data, **merging, resume=True)
    assert (again.loaded, again.already_loaded) == (0, 3)
    assert await fetch(database, "SELECT id, n FROM t ORDER BY id") == [(0, 8), (1, 7), (2, 6)]


async def test_a_row_that_is_refused_while_rows_are_merged_takes_the_others_back(database: AsyncEngine) -> None:
    made = "CREATE TABLE t (id bigint PRIMARY KEY, n bigint CHECK (n < 9))"
    await execute(database, made, "INSERT INTO t VALUES (0, 0)")
    with pytest.raises(dl.WriteError):
        await load(database, {"id": [0, 1, 2], "n": [5, 7, 9]}, on_conflict="update", chunk_rows=1)
    assert await fetch(database, "SELECT id, n FROM t") == [(0, 0)]
    assert await fetch(database, ENTERED) == []


async def test_too_many_rejects_take_the_rows_back_and_are_not_kept(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer CHECK (id < 50))")
    with pytest.raises(dl.ValidationError, match="max_rejects"):
        await load(database, on_invalid="reject", max_rejects=5)
    assert (await numbers(database), await fetch(database, ENTERED)) == ([], [])
    assert await fetch(database, "SELECT * FROM dataloader_rejects") == []
    report = await load(database, on_invalid="reject", resume=True)
    assert (report.loaded, len(report.rejects)) == (50, 10)


async def test_workers_that_are_asked_for_make_no_chunks_of_it(database: AsyncEngine) -> None:
    """As without a name: they share the chunks that there are."""
    for name in ("May", None):
        plan = await dl.plan_load(FRAME, "t", engine=database, load_id=name, workers=2)
        assert (plan.commit, plan.workers) == ("load", 1)
    assert (await load(database, workers=2)).loaded == ROWS
    assert await fetch(database, ENTERED) == [("May", "finished", 6, ROWS, ROWS, 0)]


@pytest.fixture
async def engines(database: AsyncEngine) -> AsyncIterator[list[AsyncEngine]]:
    """Five engines of one database, as five kernels have."""
    opened = [open_engine(database.url) for _ in range(5)]
    yield opened
    for engine in opened:
        await engine.dispose()


@pytest.mark.parametrize("makes_table", [False, True])
async def test_of_five_kernels_with_one_name_at_once_one_loads(engines: list[AsyncEngine], makes_table: bool) -> None:
    if not makes_table:
        await execute(engines[0], "CREATE TABLE t (id bigint)")
        if engines[0].dialect.name == "postgresql":  # until the others have come
            waits = "BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END"
            await execute(
                engines[0],
                f"CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ {waits} $$",
                "CREATE TRIGGER waiting AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION wait()",
            )
    reports = await asyncio.gather(*(load(engine, resume=True) for engine in engines))
    assert sorted((one.loaded, one.already_loaded) for one in reports) == [(0, ROWS)] * 4 + [(ROWS, 0)]
    assert await numbers(engines[0]) == [*range(ROWS)]
    assert await fetch(engines[0], ENTERED) == [("May", "finished", 6, ROWS, ROWS, 0)]


async def test_the_same_rows_under_another_name_are_told_of(database: AsyncEngine) -> None:
    await load(database)
    assert (await load(database, load_id="June")).loaded_before is not None
    assert len(await numbers(database)) == 2 * ROWS
