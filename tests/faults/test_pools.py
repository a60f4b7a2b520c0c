"""The caller's own engine: whatever its pool and whatever happens to a load, the pool is afterwards as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.loading import workers as loading_workers
from tests.conftest import execute, fetch

pytestmark = pytest.mark.slow

ROWS, CHUNK_ROWS = 500, 100
OTHERS = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'mine' AND pid <> pg_backend_pid()"""
by_workers = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
async def made(postgres_url: sa.URL, postgres: AsyncEngine) -> AsyncIterator[Callable[..., AsyncEngine]]:
    """Makes engines as a caller does who has never heard of `connect`, for a database with an empty table."""
    engines: list[AsyncEngine] = []
    await execute(postgres, "CREATE TABLE orders (id bigint)")

    def make(**options: Any) -> AsyncEngine:
        named = {"server_settings": {"application_name": "mine"}}
        engines.append(create_async_engine(postgres_url, connect_args=named, **options))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.dispose()


async def load(engine: AsyncEngine, **options: Any) -> dl.LoadReport:
    """Load by chunks, unless told otherwise, from a source that rests once after two chunks."""

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        for start in range(0, ROWS, CHUNK_ROWS):
            if start == 2 * CHUNK_ROWS:
                resting.set()
                await going_on.wait()
            yield pa.record_batch({"id": pa.array(range(start, start + CHUNK_ROWS))})

    resting, going_on = options.pop("events", (asyncio.Event(), asyncio.Event()))
    given: dict[str, Any] = {"commit": "chunk", "chunk_rows": CHUNK_ROWS, **options}
    return await dl.load_batches(batches(), "orders", engine=engine, **given)


async def terminated_while_resting(engine: AsyncEngine, postgres: AsyncEngine, **options: Any) -> Any:
    """What a load returns or raises whose backends are all terminated while its source rests."""
    resting, going_on = asyncio.Event(), asyncio.Event()
    loading = asyncio.create_task(load(engine, events=(resting, going_on), **options))
    await asyncio.wait_for(resting.wait(), 20)
    await asyncio.sleep(0.05)
    assert (await fetch(postgres, OTHERS))[0][0] > 0
    going_on.set()
    return (await asyncio.gather(loading, return_exceptions=True))[0]


async def assert_pool_is_sound(engine: AsyncEngine) -> None:
    """Every connection of the pool answers the caller's next query."""
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    connections = [await engine.connect() for _ in range(3)]
    for connection in connections:
        await connection.execute(sa.text("SELECT 1"))
        await connection.close()


@by_workers
async def test_a_lost_connection_leaves_the_callers_pool_and_the_chunk_is_tried_on_a_new_one(
    workers: int, made: Callable[..., AsyncEngine], postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading_workers, "RETRY_SECONDS", 5)
    report = await terminated_while_resting(engine := made(), postgres, workers=workers)
    assert getattr(report, "loaded", report) == ROWS
    await assert_pool_is_sound(engine)
    assert await fetch(postgres, "SELECT count(*), count(DISTINCT id) FROM orders") == [(ROWS, ROWS)]


async def test_a_load_in_one_transaction_that_loses_its_connection_leaves_the_callers_pool_sound(
    made: Callable[..., AsyncEngine], postgres: AsyncEngine
) -> None:
    error = await terminated_while_resting(engine := made(), postgres, commit="load")
    assert isinstance(error, dl.ConnectionLost), error
    await assert_pool_is_sound(engine)
    assert await fetch(postgres, "SELECT count(*) FROM orders") == [(0,)]


async def test_a_load_begins_though_every_pooled_connection_was_lost_since(
    made: Callable[..., AsyncEngine], postgres: AsyncEngine
) -> None:
    """As after a server's restart; the pool is SQLAlchemy's, which does not test what it gives out."""
    engine = made()
    await assert_pool_is_sound(engine)
    assert await fetch(postgres, OTHERS) == [(3,)]
    await asyncio.sleep(0.05)
    report = await dl.load_dataframe({"id": [1, 2]}, "orders", engine=engine)
    assert report.loaded == 2
    await assert_pool_is_sound(engine)


POOLS: dict[str, tuple[dict[str, Any], int]] = {
    "the default": ({}, 2),
    "none": ({"poolclass": sa.NullPool}, 2),
    "of one": ({"pool_size": 1, "max_overflow": 0}, 1),
    "of one, and one more": ({"pool_size": 1, "max_overflow": 1}, 2),
    "without a limit": ({"pool_size": 0}, 2),
    "static": ({"poolclass": sa.StaticPool}, 1),
    "one at a time": ({"poolclass": sa.AssertionPool}, 1),
}


@pytest.mark.parametrize("rows", ["kept", "refused"])
@pytest.mark.parametrize(("options", "workers"), POOLS.values(), ids=POOLS)
async def test_a_load_has_as_many_workers_as_the_pool_gives_connections(
    options: dict[str, Any], workers: int, rows: str, made: Callable[..., AsyncEngine], postgres: AsyncEngine
) -> None:
    if rows == "refused":
        await execute(postgres, "ALTER TABLE orders ADD CHECK (id <> 150)")
    engine, asked = made(**options), {"commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": 2}
    plan = await dl.plan_load({"id": range(ROWS)}, "orders", engine=engine, **asked)
    assert plan.workers == workers
    report = await dl.load_dataframe({"id": range(ROWS)}, "orders", engine=engine, on_invalid="reject", **asked)
    missing = rows == "refused"
    assert (report.loaded, report.rejected, len(report.warnings)) == (ROWS - missing, missing, 2 - workers)
    assert await fetch(postgres, "SELECT count(*), count(DISTINCT id) FROM orders") == [(ROWS - missing,) * 2]
    async with engine.connect() as connection:
        assert not (await connection.get_raw_connection()).driver_connection.is_in_transaction()


async def test_one_connection_for_everybody_survives_its_end(
    made: Callable[..., AsyncEngine], postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading_workers, "RETRY_SECONDS", 5)
    engine = made(poolclass=sa.StaticPool)
    assert (await terminated_while_resting(engine, postgres)).loaded == ROWS
    assert await fetch(engine, "SELECT count(*), count(DISTINCT id) FROM orders") == [(ROWS, ROWS)]
