"""A load that was interrupted in any chunk goes on there: every row of the source is in the table once."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextlib
import gzip
import itertools
import json
import os
import random
import sqlite3
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.backends import backend_for
from dataloader.database.engine import open_engine
from dataloader.options import LoadOptions, Target
from dataloader.plan import make_plan
from dataloader.transactions import Database, SourceInfo
from tests.conftest import FULL, Broken, execute, fetch

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("long_sources")]

ROWS, CHUNK_ROWS = 120, 10
ROUNDS, CANCELS, BREAKS = (150, 200, 300) if FULL else (8, 25, 40)
SEED = int(os.environ.get("DATALOADER_SEED", "4"))
ORDERS = "CREATE TABLE orders (id bigint, name text, amount double precision)"
TOTALS = "SELECT chunks, rows, loaded, rejected, state FROM dataloader_loads WHERE target LIKE '%orders'"


def columns(rows: int = ROWS, start: int = 0) -> dict[str, list[Any]]:
    numbers = range(start, start + rows)
    names = [None if number % 7 == 0 else f"name {number}" for number in numbers]
    return {"id": list(numbers), "name": names, "amount": [number / 4 for number in numbers]}


def expected(rows: int = ROWS) -> list[tuple[Any, ...]]:
    return list(zip(*columns(rows).values(), strict=True))


def dicts(rows: int = ROWS) -> Iterator[dict[str, Any]]:
    for id_, name, amount in expected(rows):
        yield {"id": id_, "name": name, "amount": amount}


async def async_dicts() -> AsyncIterator[dict[str, Any]]:
    for row in dicts():
        yield row


def batches(rows: int = ROWS, sizes: Iterable[int] = (7,), breaks_at: int | None = None) -> Iterator[pa.RecordBatch]:
    """The orders in batches of these sizes, again and again; a source that breaks gives no row from there on."""
    whole, start = pa.record_batch(columns(rows)), 0
    end = rows if breaks_at is None else min(rows, breaks_at)
    for size in itertools.cycle(sizes):
        if start >= end:
            break
        yield whole.slice(start, min(size, end - start))
        start += min(size, end - start)
    if breaks_at is not None:
        raise Broken("the source broke")


async def async_batches() -> AsyncIterator[pa.RecordBatch]:
    for batch in batches():
        yield batch


def csv_file(folder: Path, name: str = "orders.csv", rows: int = ROWS, start: int = 0) -> Path:
    lines = [f"{i},{n or ''},{a}\n" for i, n, a in zip(*columns(rows, start).values(), strict=True)]
    content = "".join(["id,name,amount\n", *lines]).encode()
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def parquet_file(folder: Path) -> Path:
    pyarrow.parquet.write_table(pa.table(columns()), folder / "orders.parquet", row_group_size=17)
    return folder / "orders.parquet"


def arrow_file(folder: Path) -> Path:
    pyarrow.feather.write_feather(pa.table(columns()), folder / "orders.arrow", chunksize=13)
    return folder / "orders.arrow"


def jsonl_file(folder: Path) -> Path:
    (folder / "orders.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dicts()))
    return folder / "orders.jsonl"


def three_files(folder: Path) -> str:
    for number in range(3):
        csv_file(folder, f"part {number}.csv", ROWS // 3, number * ROWS // 3)
    return str(folder / "part *.csv")


KINDS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "pandas": (dl.load_dataframe, lambda _: pd.DataFrame(columns())),
    "polars": (dl.load_dataframe, lambda _: pl.DataFrame(columns())),
    "arrow table": (dl.load_dataframe, lambda _: pa.table(columns())),
    "dict of columns": (dl.load_dataframe, lambda _: columns()),
    "batches": (dl.load_batches, lambda _: batches()),
    "async batches": (dl.load_batches, lambda _: async_batches()),
    "rows": (dl.load_rows, lambda _: dicts()),
    "async rows": (dl.load_rows, lambda _: async_dicts()),
    "csv": (dl.load_files, csv_file),
    "csv.gz": (dl.load_files, lambda folder: csv_file(folder, "orders.csv.gz")),
    "parquet": (dl.load_files, parquet_file),
    "arrow file": (dl.load_files, arrow_file),
    "jsonl": (dl.load_files, jsonl_file),
    "three files": (dl.load_files, three_files),
}


def definition() -> sa.Table:
    kinds = {"id": sa.BigInteger, "name": sa.Text, "amount": sa.Double}
    return sa.Table("orders", sa.MetaData(), *(sa.Column(name, kind) for name, kind in kinds.items()))


def load(kind: str, folder: Path, engine: AsyncEngine, **options: Any) -> Any:
    loader, make = KINDS[kind]
    options = {"chunk_rows": CHUNK_ROWS, "table": "orders"} | options
    return loader(make(folder), engine=engine, **options)


async def stop_at(database: AsyncEngine, table: str, condition: str) -> None:
    """From now on the database refuses rows, until `let_through`."""
    if database.dialect.name == "postgresql":
        await execute(
            database,
            "CREATE OR REPLACE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'stopped'; END$$",
            f"CREATE TRIGGER stop BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION stop()",
        )
    else:
        what = "BEGIN SELECT RAISE(ABORT, 'stopped'); END"
        await execute(database, f"CREATE TRIGGER stop BEFORE INSERT ON {table} WHEN {condition} {what}")


async def let_through(database: AsyncEngine, table: str) -> None:
    await execute(database, f"DROP TRIGGER stop{f' ON {table}' if database.dialect.name == 'postgresql' else ''}")


async def stored(database: AsyncEngine, table: str = "orders") -> list[tuple[Any, ...]]:
    return await fetch(database, f"SELECT id, name, amount FROM {table} ORDER BY id")


async def totals(database: AsyncEngine) -> list[tuple[Any, ...]]:
    return await fetch(database, TOTALS)


async def has_ledger(database: AsyncEngine) -> bool:
    async with database.connect() as connection:
        return bool(await connection.run_sync(lambda sync: sa.inspect(sync).has_table("dataloader_loads")))


async def cancelled_at(loading: asyncio.Task[Any], database: AsyncEngine, chunks: int) -> asyncio.CancelledError:
    """Cancel a load as soon as the ledger shows so many chunks, and return its very error."""
    while not loading.done():
        with contextlib.suppress(sa.exc.DBAPIError):  # the ledger is not there yet
            if any(row[0] >= chunks for row in await totals(database)):
                break
        await asyncio.sleep(0.001)
    assert not loading.done(), "the load had ended before it was cancelled"
    loading.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await loading
    return raised.value


async def half_loaded(database: AsyncEngine, row: int = 55, rows: int = ROWS, **options: Any) -> str:
    """Leave orders behind whose load ended at a row; returns the load's name."""
    await execute(database, ORDERS)
    options = {"commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": 1} | options
    with pytest.raises(Broken):
        await dl.load_batches(batches(rows, breaks_at=row), "orders", engine=database, **options)
    (load_id,) = (await fetch(database, "SELECT load_id FROM dataloader_loads"))[0]
    return str(load_id)


async def check_resumed(database: AsyncEngine, report: Any, committed: int) -> None:
    """The numbers of a resumed load add up, in the report and in the ledger, and the rows are there once."""
    assert await stored(database) == expected()
    assert (report.already_loaded, report.loaded, report.read) == (committed, ROWS - committed, ROWS - committed)
    assert await totals(database) == [(ROWS // CHUNK_ROWS, ROWS, ROWS, 0, "finished")]
    query = "SELECT chunk, first_row, rows, loaded, rejected FROM dataloader_chunks WHERE load_id = :name ORDER BY 1"
    chunks = await fetch(database, query, name=report.load_id)
    assert chunks == [(n, n * CHUNK_ROWS, CHUNK_ROWS, CHUNK_ROWS, 0) for n in range(ROWS // CHUNK_ROWS)]


async def check_said_again(kind: str, folder: Path, database: AsyncEngine, load_id: str) -> None:
    """Resumed once more, a finished load reports that nothing is left."""
    again = await load(kind, folder, database, resume=True)
    assert (again.loaded, again.read, again.already_loaded, again.load_id) == (0, 0, ROWS, load_id)
    assert await stored(database) == expected()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_load_that_was_interrupted_in_any_chunk_is_resumed_exactly(
    database: AsyncEngine, tmp_path: Path, kind: str
) -> None:
    row = random.Random(f"{SEED} {kind} {database.dialect.name}").randrange(2 * CHUNK_ROWS, ROWS)
    print("the row that stops it:", row)
    await execute(database, ORDERS)
    await stop_at(database, "orders", f"NEW.id = {row}")
    with pytest.raises(dl.WriteError, match="stopped") as raised:
        await load(kind, tmp_path, database, commit="chunk")
    ((chunks, *rows, state),) = await totals(database)
    committed = chunks * CHUNK_ROWS
    assert (rows, state) == ([committed, committed, 0], "unfinished")
    assert row // CHUNK_ROWS - 1 <= chunks < ROWS // CHUNK_ROWS
    assert len(await stored(database)) == committed
    assert f"{committed} rows are committed" in raised.value.hint
    await let_through(database, "orders")
    report = await load(kind, tmp_path, database, resume=True)
    await check_resumed(database, report, committed)
    await check_said_again(kind, tmp_path, database, report.load_id)


@pytest.mark.parametrize("table", ["created", "defined"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_load_that_makes_its_table_is_resumed_exactly(
    database: AsyncEngine, tmp_path: Path, kind: str, table: str
) -> None:
    chunk = random.Random(f"{SEED} {kind} {table}").randrange(2, ROWS // CHUNK_ROWS)
    print("the chunk that stops it:", chunk)
    await dl.load_dataframe({"id": [1]}, "others", engine=database, commit="chunk")
    await stop_at(database, "dataloader_chunks", f"NEW.chunk = {chunk}")
    target: Any = "orders" if table == "created" else definition()
    with pytest.raises(dl.WriteError, match="stopped"):
        await load(kind, tmp_path, database, table=target, commit="chunk")
    committed = len(await stored(database))
    assert [row[:2] for row in await totals(database)] == [(committed // CHUNK_ROWS, committed)]
    assert 0 < committed < ROWS
    await let_through(database, "dataloader_chunks")
    report = await load(kind, tmp_path, database, table=target, resume=True)
    await check_resumed(database, report, committed)


@pytest.mark.parametrize("kind", ["pandas", "batches", "async rows", "three files"])
async def test_a_cancelled_load_says_how_to_go_on_and_does(database: AsyncEngine, tmp_path: Path, kind: str) -> None:
    slower = {"chunk_rows": 2}
    loading = asyncio.create_task(load(kind, tmp_path, database, commit="chunk", **slower))
    error = await cancelled_at(loading, database, 3)
    ((chunks, rows, *_),) = await totals(database)
    assert len(await stored(database)) == rows == chunks * 2
    ((load_id,),) = await fetch(database, "SELECT load_id FROM dataloader_loads")
    (note,) = error.__notes__
    assert f"{rows} rows are committed" in note
    assert f"load_id={load_id!r}" in note
    assert "resume=True" in note
    assert "chunk_rows=2" in note
    report = await load(kind, tmp_path, database, load_id=load_id, resume=True, **slower)
    assert (report.already_loaded, report.loaded, report.load_id) == (rows, ROWS - rows, load_id)
    assert await stored(database) == expected()


async def test_the_error_of_a_source_says_what_is_committed(database: AsyncEngine) -> None:
    await execute(database, ORDERS)
    loading = dl.load_batches(batches(breaks_at=55), "orders", engine=database, chunk_rows=CHUNK_ROWS, workers=1)
    with pytest.raises(Broken) as raised:
        await loading
    ((_, rows, *_),) = await totals(database)
    (note,) = raised.value.__notes__
    assert f"{rows} rows are committed" in note
    assert "resume=True" in note


async def test_a_value_that_does_not_fit_in_a_late_chunk_says_what_is_committed(database: AsyncEngine) -> None:
    await execute(database, ORDERS)

    def late() -> Iterator[pa.RecordBatch]:
        yield from batches()
        yield pa.record_batch({"id": ["x"], "name": ["no number"], "amount": [0.5]})

    with pytest.raises(dl.ValidationError) as raised:
        await dl.load_batches(late(), "orders", engine=database, chunk_rows=CHUNK_ROWS, workers=1)
    ((_, rows, *_),) = await totals(database)
    assert len(await stored(database)) == rows > 0
    assert f"{rows} rows are committed" in raised.value.hint
    assert "Nothing was written" not in str(raised.value)


async def test_any_split_chunk_size_and_number_of_workers_gives_the_same_rows(database: AsyncEngine) -> None:
    print("seed:", SEED)
    for number in range(ROUNDS):
        choose, table = random.Random(f"{SEED} {number}"), f"orders_{number}"
        rows, chunk_rows = choose.randrange(1, 250), choose.choice([1, 3, 10, 64, 1000])
        report, earlier, breaks = None, 0, 0
        while report is None:
            breaks_at = choose.randrange(rows + 1) if breaks < 3 else None
            source = batches(rows, [choose.randrange(1, 40) for _ in range(9)], breaks_at)
            options = {"chunk_rows": chunk_rows, "workers": choose.randrange(1, 5), "resume": True}
            try:
                report = await dl.load_batches(source, table, engine=database, **options)
            except Broken:
                breaks += 1
                if await exists(database, table):
                    earlier = len(await stored(database, table))
        facts = f"round {number}: {rows} rows in chunks of {chunk_rows}"
        assert await stored(database, table) == expected(rows), facts
        assert (report.already_loaded, report.loaded, report.read) == (earlier, rows - earlier, rows - earlier), facts


async def exists(database: AsyncEngine, table: str) -> bool:
    async with database.connect() as connection:
        return bool(await connection.run_sync(lambda sync: sa.inspect(sync).has_table(table)))


BAD = {3: "x", 17: "1.5", 18: "", 42: "x", 61: "-5", 62: "-6", 88: "x", 89: "-7", 119: "99999999999999999999"}
"""The ids that do not fit, by row: those of a minus the database refuses."""


def messy(breaks_at: int | None = None) -> Iterator[pa.RecordBatch]:
    for batch in batches(breaks_at=breaks_at, sizes=(CHUNK_ROWS,)):
        ids = [BAD.get(row, str(row)) for row in batch.column("id").to_pylist()]
        yield batch.set_column(0, "id", pa.array(ids))


@pytest.mark.parametrize("workers", [1, 2])
async def test_rejects_are_counted_once_over_both_runs_in_the_order_of_the_source(
    database: AsyncEngine, workers: int
) -> None:
    await execute(database, "CREATE TABLE orders (id integer CHECK (id >= 0), name text, amount double precision)")
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS, "workers": workers, "on_invalid": "reject"}
    with pytest.raises(Broken):
        await dl.load_batches(messy(breaks_at=65), "orders", **options)
    ((chunks, rows, loaded, rejected, state),) = await totals(database)
    in_chunks = await fetch(database, "SELECT chunk, rows, loaded, rejected FROM dataloader_chunks ORDER BY chunk")
    refused = [sum(row // CHUNK_ROWS == chunk for row in BAD) for chunk in range(ROWS // CHUNK_ROWS)]
    assert in_chunks == [(n, CHUNK_ROWS, CHUNK_ROWS - refused[n], refused[n]) for n, *_ in in_chunks]
    assert (chunks, rows, loaded + rejected, state) == (len(in_chunks), chunks * CHUNK_ROWS, rows, "unfinished")
    report = await dl.load_batches(messy(), "orders", resume=True, **options)
    committed = {chunk for chunk, *_ in in_chunks}
    left = [row for row in BAD if row // CHUNK_ROWS not in committed]
    assert report.rejects["reject_row"].tolist() == list(BAD)
    assert (report.rejected, report.already_rejected) == (len(left), rejected) == (len(BAD) - rejected, rejected)
    assert report.read == report.loaded + report.rejected == ROWS - rows
    assert await stored(database) == [row for row in expected() if row[0] not in BAD]
    total = [(ROWS // CHUNK_ROWS, ROWS, ROWS - len(BAD), len(BAD), "finished")]
    assert await totals(database) == total
    again = await dl.load_batches(messy(), "orders", resume=True, **options)
    assert (again.loaded, again.read, again.rejected, again.already_rejected) == (0, 0, 0, len(BAD))
    assert again.rejects["reject_row"].tolist() == list(BAD)
    assert await totals(database) == total


async def test_rejects_are_in_the_order_of_the_source_though_its_first_chunk_is_committed_last(
    postgres: AsyncEngine,
) -> None:
    await execute(
        postgres,
        ORDERS.replace("bigint", "integer CHECK (id >= 0)"),
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END$$",
        "CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW WHEN (NEW.id = 0) EXECUTE FUNCTION slow()",
    )
    options: Any = {"chunk_rows": CHUNK_ROWS, "workers": 2, "on_invalid": "reject", "commit": "chunk"}
    report = await dl.load_batches(messy(), "orders", engine=postgres, **options)
    assert report.rejects["reject_row"].tolist() == list(BAD)


HALF_A_MILLION = {500_000: "load", 500_001: "chunk"}


@pytest.mark.parametrize(("rows", "commit"), HALF_A_MILLION.items())
async def test_half_a_million_known_rows_are_the_most_of_one_transaction(
    database: AsyncEngine, rows: int, commit: str
) -> None:
    plan = await dl.plan_load({"id": np.zeros(rows, np.int8)}, "orders", engine=database)
    assert plan.commit == commit
    assert f"{rows:,} rows" in str(plan)
    assert "500,000" in str(plan)


async def test_who_asks_for_a_resumable_load_gets_one(database: AsyncEngine) -> None:
    plan = await dl.plan_load(columns(), "orders", engine=database, resume=True)
    assert plan.commit == "chunk"
    assert "can be resumed" in str(plan)


@pytest.mark.parametrize("resume", [None, True, False])
@pytest.mark.parametrize(("rows", "commit"), [(500_000, "load"), (500_001, "chunk")])
async def test_with_a_name_it_is_one_transaction_up_to_as_many_rows_as_without(
    database: AsyncEngine, rows: int, commit: str, resume: bool | None
) -> None:
    data = {"id": np.zeros(rows, np.int8)}
    plan = await dl.plan_load(data, "orders", engine=database, load_id="May", resume=resume)
    assert (plan.commit, plan.is_entered) == (commit, commit == "load")
    assert ("one transaction, with its row in the ledger" in str(plan)) == plan.is_entered


@pytest.mark.parametrize("asked", ["load", "chunk"])
async def test_what_the_caller_decides_is_done(database: AsyncEngine, asked: Any) -> None:
    plan = await dl.plan_load(columns(), "orders", engine=database, commit=asked)
    assert (plan.commit, plan.commit_reason) == (asked, "it was requested")


@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
async def test_a_table_that_is_emptied_first_is_loaded_in_one_transaction(
    database: AsyncEngine, if_exists: Any
) -> None:
    await execute(database, ORDERS.replace("(", "(lost text, ", 1))  # so that a replace makes it anew
    big = {"id": np.zeros(500_001, np.int8)}
    plan = await dl.plan_load(big, "orders", engine=database, if_exists=if_exists)
    assert plan.commit == "load"
    assert f"if_exists='{if_exists}'" in str(plan)
    for asked in ({"commit": "chunk"}, {"resume": True}, {"load_id": "May"}):
        with pytest.raises(dl.PlanError, match=f"if_exists='{if_exists}'"):
            await dl.load_dataframe(columns(), "orders", engine=database, if_exists=if_exists, **asked)


async def test_an_unlogged_table_is_loaded_in_one_transaction(postgres: AsyncEngine) -> None:
    await execute(postgres, ORDERS.replace("TABLE", "UNLOGGED TABLE"))
    plan = await dl.plan_load({"id": np.zeros(500_001, np.int8)}, "orders", engine=postgres)
    assert plan.commit == "load"
    assert "UNLOGGED" in str(plan)
    for asked in ({"commit": "chunk"}, {"resume": True}, {"load_id": "May"}):
        with pytest.raises(dl.PlanError, match="UNLOGGED"):
            await dl.load_dataframe(columns(), "orders", engine=postgres, **asked)


def test_a_database_without_a_ledger_is_loaded_in_one_transaction() -> None:
    offer = SourceInfo("Arrow stream", pa.schema([("id", pa.int64())]), None)
    mysql: Any = Database(backend_for(MySQLDialect_asyncmy()), "MySQL")
    assert make_plan(offer, Target.of("orders", mysql.backend), None, LoadOptions.of({}), mysql).commit == "load"
    with pytest.raises(dl.PlanError, match="only PostgreSQL and SQLite can hold the ledger"):
        make_plan(offer, Target.of("orders", mysql.backend), None, LoadOptions.of({"commit": "chunk"}), mysql)


@pytest.mark.parametrize("asked", [{"resume": True}, {"load_id": "May", "if_exists": "truncate"}])
async def test_one_transaction_cannot_be_resumed(database: AsyncEngine, asked: Any) -> None:
    with pytest.raises(dl.PlanError, match="commit='load'"):
        await dl.load_dataframe(columns(), "orders", engine=database, commit="load", **asked)
    assert not await has_ledger(database)


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2"])
async def test_a_number_of_workers_that_is_none_is_refused(database: AsyncEngine, workers: Any) -> None:
    with pytest.raises(dl.PlanError, match="workers must be a count, got "):
        await dl.load_dataframe(columns(), "orders", engine=database, workers=workers)


async def test_one_transaction_has_one_worker_and_says_so(database: AsyncEngine) -> None:
    report = await dl.load_dataframe(columns(), "orders", engine=database, workers=3)
    assert len(report.warnings) == 1
    assert "1 worker instead of 3" in report.warnings[0]
    assert report.warnings[0] in str(report)


@pytest.mark.parametrize("workers", [None, 1, 2, 3])
async def test_as_many_workers_as_asked_for_or_a_notice(database: AsyncEngine, workers: Any) -> None:
    options: Any = {"engine": database, "commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": workers}
    plan = await dl.plan_load(columns(), "orders", **options)
    report = await dl.load_dataframe(columns(), "orders", **options)
    is_sqlite = database.dialect.name == "sqlite"
    assert plan.workers == (1 if is_sqlite else workers or 2)
    assert len(report.warnings) == int(is_sqlite and (workers or 1) > 1), report.warnings
    assert await stored(database) == expected()


async def test_a_small_pool_gives_fewer_workers_and_the_load_goes_on(postgres: AsyncEngine) -> None:
    engine = dl.connect(postgres.url, pool_size=2, max_overflow=0, pool_timeout=0.05)
    report = await dl.load_dataframe(columns(), "orders", engine=engine, commit="chunk", chunk_rows=1, workers=4)
    assert report.loaded == ROWS
    assert await stored(postgres) == expected()
    assert report.warnings, "nobody was told of the missing workers"
    await engine.dispose()


async def test_a_server_that_gives_one_connection_only_is_enough(postgres: AsyncEngine) -> None:
    await execute(postgres, "DROP ROLE IF EXISTS porter", "CREATE ROLE porter LOGIN CONNECTION LIMIT 1")
    await execute(postgres, "GRANT CREATE, USAGE ON SCHEMA public TO porter")
    engine = open_engine(postgres.url.set(username="porter"))
    try:
        report = await dl.load_dataframe(columns(), "orders", engine=engine, commit="chunk", chunk_rows=2, workers=3)
        assert report.loaded == ROWS
        assert report.warnings, "nobody was told of the missing workers"
    finally:
        await engine.dispose()
        await execute(postgres, "DROP OWNED BY porter", "DROP ROLE porter")


async def test_an_unfinished_load_is_not_begun_again_by_mistake(database: AsyncEngine) -> None:
    load_id = await half_loaded(database)
    before = await fetch(database, "SELECT * FROM dataloader_loads")
    ((_, rows, *_),) = await totals(database)
    with pytest.raises(dl.UnfinishedLoad) as raised:
        await dl.load_batches(batches(), "orders", engine=database, chunk_rows=CHUNK_ROWS)
    assert raised.value.load_id == load_id
    for part in (f"{rows} ", "resume=True", "resume=False", load_id):
        assert part in str(raised.value)
    assert await fetch(database, "SELECT * FROM dataloader_loads") == before
    assert len(await stored(database)) == rows


async def test_a_load_from_the_beginning_forgets_the_unfinished_one(database: AsyncEngine) -> None:
    old = await half_loaded(database)
    await execute(database, "DELETE FROM orders")
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS}
    report = await dl.load_batches(batches(), "orders", resume=False, **options)
    assert (report.already_loaded, report.loaded) == (0, ROWS)
    assert report.load_id != old
    assert await stored(database) == expected()
    assert await totals(database) == [(ROWS // CHUNK_ROWS, ROWS, ROWS, 0, "finished")]
    assert await fetch(database, "SELECT count(*) FROM dataloader_chunks") == [(ROWS // CHUNK_ROWS,)]


async def test_a_load_from_the_beginning_may_come_in_other_chunks(database: AsyncEngine) -> None:
    await half_loaded(database)
    await execute(database, "DELETE FROM orders")
    await dl.load_batches(batches(), "orders", engine=database, chunk_rows=7, resume=False)
    assert await stored(database) == expected()
    assert [row[1:] for row in await totals(database)] == [(ROWS, ROWS, 0, "finished")]


@pytest.mark.parametrize("if_exists", ["fail", "truncate", "replace"])
@pytest.mark.parametrize("named", [{"load_id": "May"}, {}], ids=["named", "unnamed"])
async def test_a_load_goes_on_whatever_is_to_be_done_with_a_table_that_exists(
    database: AsyncEngine, if_exists: Any, named: Any
) -> None:
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS, "workers": 1} | named
    first = (
        "fail" if if_exists == "fail" else "append"
    )  # the others are one transaction, of which nothing would be left
    with pytest.raises(Broken):
        await dl.load_batches(batches(breaks_at=55), "orders", if_exists=first, **options)
    committed = len(await stored(database))
    options["if_exists"] = if_exists
    if if_exists == "fail":
        with pytest.raises(dl.UnfinishedLoad, match=f"{committed} .* committed"):
            await dl.load_batches(batches(), "orders", **options)
    for earlier in (committed, ROWS):
        report = await dl.load_batches(batches(), "orders", resume=True, **options)
        assert (report.already_loaded, report.loaded) == (earlier, ROWS - earlier)
        assert await stored(database) == expected()


@pytest.mark.parametrize("named", [{"load_id": "May"}, {}], ids=["named", "unnamed"])
async def test_a_load_that_made_its_table_checks_the_rest_as_it_began(
    database: AsyncEngine, named: Any, tmp_path: Path
) -> None:
    """A number would not give back '007': a table of somebody else's takes it as 7, and this one refuses it."""
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("".join(["code\n", *(f"{number}\n" for number in range(ROWS))]))
    options: Any = {"engine": database, "commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": 1} | named
    for wrong in ("x", "007"):
        second.write_text(f"code\n1\n{wrong}\n")
        with pytest.raises(dl.ValidationError, match=f"'{wrong}' does not fit (BIGINT|bigint).*made for numbers"):
            await dl.load_files([first, second], "orders", resume=True, **options)
    second.write_text("code\n1\n7\n")
    await dl.load_files([first, second], "orders", resume=True, **options)
    assert await fetch(database, "SELECT count(*), sum(code) FROM orders") == [(ROWS + 2, sum(range(ROWS)) + 8)]


@pytest.mark.parametrize("if_exists", ["fail", "truncate"])
async def test_other_data_is_no_reason_to_add_to_a_table_that_exists(database: AsyncEngine, if_exists: Any) -> None:
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS}
    await dl.load_batches(batches(), "orders", **options)
    others = iter([pa.record_batch(columns(60, start=1000))])
    with pytest.raises(dl.PlanError, match="exists already"):
        await dl.load_batches(others, "orders", resume=True, if_exists=if_exists, **options)
    assert await stored(database) == expected()


async def test_a_load_that_is_not_known_is_begun(database: AsyncEngine) -> None:
    report = await dl.load_dataframe(columns(), "orders", engine=database, resume=True, chunk_rows=CHUNK_ROWS)
    assert (report.already_loaded, report.loaded) == (0, ROWS)
    assert await stored(database) == expected()


async def test_the_same_data_may_be_loaded_again_once_its_load_is_finished(database: AsyncEngine) -> None:
    options: Any = {"engine": database, "commit": "chunk", "chunk_rows": CHUNK_ROWS}
    first = await dl.load_dataframe(columns(), "orders", **options)
    second = await dl.load_dataframe(columns(), "orders", **options)
    assert (second.already_loaded, second.loaded) == (0, ROWS)
    assert first.load_id != second.load_id
    assert await stored(database) == sorted(expected() * 2, key=lambda row: row[0])


async def test_the_same_data_may_go_into_two_tables(database: AsyncEngine) -> None:
    await half_loaded(database)
    report = await dl.load_batches(batches(), "bills", engine=database, chunk_rows=CHUNK_ROWS)
    assert (report.already_loaded, report.loaded) == (0, ROWS)
    assert await stored(database, "bills") == expected()


async def test_a_named_load_is_found_by_its_name(database: AsyncEngine) -> None:
    await half_loaded(database, load_id="orders of May")
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS, "load_id": "orders of May"}
    with pytest.raises(dl.UnfinishedLoad) as raised:
        await dl.load_batches(batches(), "orders", **options)
    assert raised.value.load_id == "orders of May"
    report = await dl.load_batches(batches(), "orders", resume=True, **options)
    assert report.load_id == "orders of May"
    assert report.already_loaded + report.loaded == ROWS
    assert await stored(database) == expected()


async def test_a_named_load_that_is_finished_is_not_loaded_twice(database: AsyncEngine) -> None:
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS, "load_id": "orders of May"}
    await dl.load_dataframe(columns(), "orders", **options)
    with pytest.raises(dl.CheckpointError, match="finished") as raised:
        await dl.load_dataframe(columns(), "orders", **options)
    assert not isinstance(raised.value, dl.UnfinishedLoad)
    report = await dl.load_dataframe(columns(), "orders", resume=True, **options)
    assert (report.loaded, report.read, report.already_loaded, report.load_id) == (0, 0, ROWS, "orders of May")
    assert await stored(database) == expected()


async def test_a_named_load_that_is_finished_can_be_begun_again(database: AsyncEngine) -> None:
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS, "load_id": "orders of May"}
    await dl.load_dataframe(columns(), "orders", **options)
    report = await dl.load_dataframe(columns(), "orders", resume=False, **options)
    assert (report.loaded, report.already_loaded) == (ROWS, 0)
    assert [row[1:] for row in await totals(database)] == [(ROWS, ROWS, 0, "finished")]


async def test_two_names_are_two_loads(database: AsyncEngine) -> None:
    for name in ("May", "June"):
        report = await dl.load_dataframe(columns(), "orders", engine=database, load_id=name, resume=True)
        assert (report.loaded, report.load_id) == (ROWS, name)
    assert len(await stored(database)) == 2 * ROWS


async def test_a_load_in_one_transaction_has_no_name(database: AsyncEngine) -> None:
    report = await dl.load_dataframe(columns(), "orders", engine=database)
    assert (report.load_id, report.already_loaded, report.warnings) == (None, 0, ())


@pytest.mark.parametrize("load_id", ["", "  ", "a\x00b", 5])
async def test_a_load_id_that_is_no_name_is_refused(database: AsyncEngine, load_id: Any) -> None:
    with pytest.raises(dl.PlanError, match="load_id must be a name, got "):
        await dl.load_dataframe(columns(), "orders", engine=database, load_id=load_id)


@pytest.mark.parametrize("load_id", ["it's", 'a "name"', "größer", "'; DROP TABLE orders; --", "x" * 500, "%s :a"])
async def test_a_load_id_may_be_any_text(database: AsyncEngine, load_id: str) -> None:
    report = await dl.load_dataframe(columns(), "orders", engine=database, load_id=load_id, chunk_rows=CHUNK_ROWS)
    assert report.load_id == load_id
    again = await dl.load_dataframe(
        columns(), "orders", engine=database, load_id=load_id, chunk_rows=CHUNK_ROWS, resume=True
    )
    assert (again.loaded, again.already_loaded) == (0, ROWS)


@pytest.mark.parametrize("kind", ["batches", "async batches", "rows", "async rows", "csv", "three files"])
async def test_a_stream_of_one_transaction_leaves_no_ledger(
    database: AsyncEngine, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataloader.loading.chunks.ONE_TRANSACTION_ROWS", ROWS)
    report = await load(kind, tmp_path, database, chunk_rows=ROWS + 1)
    assert (report.loaded, report.load_id) == (ROWS, None)
    assert not await has_ledger(database)
    assert await stored(database) == expected()


async def test_a_stream_that_breaks_in_its_first_chunk_leaves_nothing(database: AsyncEngine) -> None:
    with pytest.raises(Broken) as raised:
        await dl.load_batches(batches(breaks_at=55), "orders", engine=database, chunk_rows=ROWS)
    assert not hasattr(raised.value, "__notes__")
    assert not await exists(database, "orders")
    assert not await has_ledger(database)


async def test_a_short_stream_of_a_named_load_is_kept_in_the_ledger(database: AsyncEngine) -> None:
    for loaded in (ROWS, 0):
        report = await dl.load_batches(batches(), "orders", engine=database, load_id="May", resume=True)
        assert (report.loaded, report.load_id) == (loaded, "May")


@pytest.mark.parametrize("resume", [None, True, False])
async def test_an_empty_source_is_a_finished_load(database: AsyncEngine, resume: Any) -> None:
    empty = pa.schema([("id", pa.int64()), ("name", pa.string()), ("amount", pa.float64())]).empty_table()
    options: Any = {"engine": database, "commit": "chunk", "resume": resume}
    report = await dl.load_dataframe(empty, "orders", **options)
    assert (report.read, report.loaded, report.already_loaded) == (0, 0, 0)
    assert await stored(database) == []
    assert await totals(database) == [(0, 0, 0, 0, "finished")]
    assert (await dl.load_dataframe(empty, "orders", **options)).loaded == 0


async def test_a_source_that_ends_with_a_chunk_is_loaded_and_confirmed(database: AsyncEngine) -> None:
    for loaded in (CHUNK_ROWS, 0):
        source = batches(CHUNK_ROWS)
        report = await dl.load_batches(source, "orders", engine=database, chunk_rows=CHUNK_ROWS, resume=True)
        assert report.loaded == loaded
    assert await stored(database) == expected(CHUNK_ROWS)


class Alive:
    """Batches whose memory is counted: how many are alive, and how many there were at most."""

    def __init__(self) -> None:
        self.now = self.most = self.made = 0

    def _gone(self) -> None:
        self.now -= 1

    def batch(self) -> pa.RecordBatch:
        values = np.arange(self.made * CHUNK_ROWS, (self.made + 1) * CHUNK_ROWS)
        weakref.finalize(values, self._gone)  # Arrow holds the array as long as any slice of its column lives
        self.now, self.made = self.now + 1, self.made + 1
        self.most = max(self.most, self.now)
        return pa.record_batch({"id": pa.array(values)})

    def batches(self, count: int) -> Iterator[pa.RecordBatch]:
        for _ in range(count):
            yield self.batch()


def test_the_batches_that_are_counted_are_not_copies() -> None:
    alive = Alive()
    part = alive.batch().slice(3, 2)
    assert alive.now == 1
    del part
    assert alive.now == 0


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_no_more_chunks_than_workers_and_one_are_alive(database: AsyncEngine, workers: int) -> None:
    alive = Alive()
    options: Any = {"chunk_rows": CHUNK_ROWS, "workers": workers, "commit": "chunk"}
    report = await dl.load_batches(alive.batches(40), "ids", engine=database, **options)
    assert report.loaded == 40 * CHUNK_ROWS
    writers = 1 if database.dialect.name == "sqlite" else workers
    assert alive.most <= writers + 1


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_a_database_that_waits_makes_the_source_wait(postgres: AsyncEngine, workers: int) -> None:
    await execute(postgres, "CREATE TABLE ids (id bigint)")
    await dl.load_dataframe({"id": [1]}, "others", engine=postgres, commit="chunk")
    alive = Alive()
    options: Any = {"chunk_rows": CHUNK_ROWS, "workers": workers}
    async with postgres.connect() as blocker, blocker.begin():
        await blocker.execute(sa.text("LOCK TABLE dataloader_chunks IN EXCLUSIVE MODE"))
        loading = asyncio.create_task(dl.load_batches(alive.batches(40), "ids", engine=postgres, **options))
        await asyncio.sleep(0.6)
        assert not loading.done()
        assert alive.made <= workers + 1
    assert (await loading).loaded == 40 * CHUNK_ROWS


@pytest.fixture
def slow_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose threads do not get to let go of a call that is done, as on a machine that is busy."""
    run = concurrent.futures.thread._WorkItem.run  # type: ignore[attr-defined]

    def slowly(item: Any) -> None:
        run(item)
        time.sleep(0.02)

    monkeypatch.setattr("concurrent.futures.thread._WorkItem.run", slowly)


@pytest.mark.usefixtures("slow_pool")
@pytest.mark.parametrize("workers", [1, 2])
async def test_chunks_that_are_only_compared_are_not_kept(database: AsyncEngine, workers: int) -> None:
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS, "workers": workers, "resume": True}
    await dl.load_batches(Alive().batches(40), "ids", **options)
    alive = Alive()
    report = await dl.load_batches(alive.batches(40), "ids", **options)
    assert (report.loaded, alive.made) == (0, 40)
    assert alive.most <= workers + 1


def is_free(database: AsyncEngine) -> bool:
    """Whether the database can be written to: no connection of an ended load holds SQLite's lock."""
    if database.dialect.name == "postgresql":
        return True
    connection = sqlite3.connect(str(database.url.database), timeout=10)
    try:
        connection.execute("BEGIN IMMEDIATE")
        return True
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()


async def test_many_interruptions_by_cancel_lose_no_row_and_store_none_twice(database: AsyncEngine) -> None:
    choose, report, cancels = random.Random(f"{SEED} cancels"), None, 0
    print("seed:", SEED)
    options: Any = {"engine": database, "chunk_rows": 2, "resume": True}
    while report is None:
        workers = choose.randrange(1, 4)
        loading = asyncio.create_task(dl.load_batches(batches(sizes=(5,)), "orders", workers=workers, **options))
        await asyncio.wait({loading}, timeout=choose.random() * 0.1 if cancels < CANCELS else None)
        loading.cancel()
        await asyncio.wait({loading})
        if loading.cancelled():
            cancels += 1
            assert is_free(database), f"after cancel {cancels} a connection holds the database"
            assert checked_out(database) == 0
        else:
            report = loading.result()
    assert await stored(database) == expected()
    assert report.already_loaded + report.loaded == ROWS


def checked_out(database: AsyncEngine) -> int:
    return int(database.sync_engine.pool.checkedout())  # type: ignore[attr-defined]


async def test_a_source_that_breaks_while_workers_connect_leaves_no_connection_behind(postgres: AsyncEngine) -> None:
    await execute(postgres, ORDERS)
    options: Any = {"chunk_rows": 4, "workers": 4, "resume": True}
    for number in range(BREAKS):
        engine = open_engine(postgres.url)
        with pytest.raises(Broken):
            await dl.load_batches(batches(breaks_at=4 + number % 17), "orders", engine=engine, **options)
        assert checked_out(engine) == 0, f"round {number}"
        await engine.dispose()


async def test_cancels_leave_no_open_transaction_in_the_pool(postgres: AsyncEngine) -> None:
    """A connection that comes back to the pool in a transaction is of no use to whoever takes it next."""
    choose = random.Random(f"{SEED} pool")
    print("seed:", SEED)
    options: Any = {"engine": postgres, "chunk_rows": 4, "workers": 3, "resume": False}
    for number in range(2 * BREAKS):
        loading = asyncio.create_task(dl.load_batches(batches(), "orders", **options))
        await asyncio.wait({loading}, timeout=choose.random() * 0.06)
        loading.cancel()
        await asyncio.wait({loading})
        for _ in range(3):
            async with postgres.connect() as connection:
                assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1, f"round {number}"
