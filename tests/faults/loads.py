"""What the tests of faults load, how they slow a server down, and how they wait for what no event tells of."""

from __future__ import annotations

import asyncio
import os
import random

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

ROWS, CHUNK_ROWS = 20_000, 2_000
NOTE = "x" * 1_000
OPEN = """SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND state <> 'idle' AND backend_type = 'client backend'"""  # not autovacuum

by_method = pytest.mark.parametrize("method", ["copy", "insert"])
by_workers = pytest.mark.parametrize("workers", [1, 2])


def slow_trigger(*, every: int = 100, seconds: float) -> tuple[str, str]:
    """Statements that make the server slower than the client: then the writer is paused, as with most real tables."""
    return (
        "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN IF NEW.id % {every} = 0 THEN PERFORM pg_sleep({seconds}); END IF; RETURN NEW; END$$",
        "CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()",
    )


def orders() -> pa.Table:
    return pa.table({"id": pa.array(range(ROWS)), "note": pa.array([NOTE] * ROWS)})


def seeded() -> random.Random:
    """Random moments; the seed is printed where a test fails, and may be given."""
    seed = int(os.environ.get("DATALOADER_SEED") or random.randrange(2**32))
    print(f"DATALOADER_SEED={seed}")
    return random.Random(seed)


async def load(engine: AsyncEngine, workers: int, **options: object) -> dl.LoadReport:
    given = {"engine": engine, "commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": workers, **options}
    return await dl.load_dataframe(orders(), "orders", **given)


async def assert_exact(direct: AsyncEngine, report: dl.LoadReport) -> None:
    """Every row is there once and whole, and the report and the ledger say so."""
    content = "count(*), count(DISTINCT id), min(id), max(id), count(*) FILTER (WHERE note = :note)"
    expected = [(ROWS, ROWS, 0, ROWS - 1, ROWS)]
    assert await fetch(direct, f"SELECT {content} FROM orders", note=NOTE) == expected
    assert report.loaded + report.already_loaded == ROWS
    ledger = await fetch(direct, "SELECT load_id, state, rows, loaded, chunks FROM dataloader_loads")
    assert ledger == [(report.load_id, "finished", ROWS, ROWS, ROWS // CHUNK_ROWS)]
    summed = "SELECT count(*), sum(rows), sum(loaded) FROM dataloader_chunks"
    assert await fetch(direct, summed) == [(ROWS // CHUNK_ROWS, ROWS, ROWS)]


async def start_anew(direct: AsyncEngine) -> None:
    await execute(
        direct,
        "DROP TABLE IF EXISTS orders, dataloader_loads, dataloader_chunks",
        "CREATE TABLE orders (id bigint, note text)",
    )


async def committed_rows(watcher: AsyncEngine) -> int:
    """How many rows the ledger counts, 0 before there is one."""
    if await fetch(watcher, "SELECT to_regclass('dataloader_loads')") == [(None,)]:
        return 0
    return int((await fetch(watcher, "SELECT coalesce(sum(loaded), 0) FROM dataloader_loads"))[0][0])


async def until_committed(watcher: AsyncEngine, rows: int) -> int:
    """Wait until the ledger counts so many rows, and return how many it counts."""
    for _ in range(3_000):
        if (counted := await committed_rows(watcher)) >= rows:
            return counted
        await asyncio.sleep(0.005)
    raise AssertionError(f"no {rows} rows were committed")


async def until_idle(onlooker: AsyncEngine, *, but: int = 0) -> None:
    """No backend may keep a transaction: it would keep its locks."""
    await until_none(onlooker, OPEN, but=but)


async def until_none(onlooker: AsyncEngine, backends: str, *, but: int = 0) -> None:
    """The server ends a backend some time after its client has closed the connection."""
    for _ in range(200):
        if len(shown := await fetch(onlooker, backends)) == but:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(shown)} backends are there, not {but}: {shown}")
