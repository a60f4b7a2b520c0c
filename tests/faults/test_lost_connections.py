"""Loads whose connection, server process or caller ends in the middle: a clear error, no hang, no rows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import engine as engines
from dataloader.database import watchdog
from dataloader.database.backends import backend_for
from dataloader.database.backends.base import driver_of
from dataloader.options import LoadOptions, Target
from dataloader.plan import make_plan
from dataloader.transactions import Database, SourceInfo
from dataloader.writers import writer_for
from tests.conftest import execute, fetch
from tests.faults.loads import by_method, slow_trigger

pytestmark = [pytest.mark.slow, pytest.mark.serial]

ROWS = 60_000
ROUNDS = 10
BACKEND = """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
    AND query LIKE :query AND state = 'active' AND pid <> pg_backend_pid()"""


def orders() -> pa.Table:
    return pa.table({"id": pa.array(range(ROWS)), "note": pa.array(["x" * 40] * ROWS)})


@pytest.fixture
async def slow(postgres: AsyncEngine) -> AsyncEngine:
    """A table whose server is slower than the client: the writer is paused, as with most real tables."""
    await execute(postgres, "CREATE TABLE orders (id bigint, note text)", *slow_trigger(seconds=0.005))
    return postgres


@pytest.fixture
async def watcher(postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    engine = engines.open_engine(postgres_url)
    yield engine
    await engine.dispose()


async def backend_of(watcher: AsyncEngine, statement: str) -> int:
    """Wait until the load's backend is busy with `statement`, and return its process id."""
    for _ in range(500):
        rows = await fetch(watcher, BACKEND, query=f"{statement}%")
        if rows:
            return int(rows[0][0])
        await asyncio.sleep(0.01)
    raise AssertionError(f"no backend ran {statement}")


async def interrupted(
    engine: AsyncEngine, watcher: AsyncEngine, method: Any, interrupt: Callable[[int], Awaitable[Any]]
) -> tuple[BaseException, float]:
    """Start a load, interrupt its backend at a random moment; what it raised, and how long that took."""
    load = asyncio.create_task(dl.load_dataframe(orders(), "orders", engine=engine, method=method, progress="none"))
    pid = await backend_of(watcher, {"copy": "COPY", "insert": "INSERT"}[method])
    await asyncio.sleep(random.random() * 0.2)
    before = time.perf_counter()
    await interrupt(pid)
    done, _ = await asyncio.wait({load}, timeout=10)
    assert done, "the load hangs"
    error = load.exception()
    assert error is not None, "the load had finished: make the table slower"
    return error, time.perf_counter() - before


async def test_a_raw_copy_as_the_first_act_survives_a_rollback(postgres: AsyncEngine) -> None:
    """The trap itself: if a driver or SQLAlchemy mends it, the extra statement can go."""
    await execute(postgres, "CREATE TABLE orders (id bigint)")
    async with postgres.connect() as connection, connection.begin() as transaction:
        driver = await driver_of(connection)
        await driver.copy_records_to_table("orders", records=[(1,)])
        await transaction.rollback()
    assert await fetch(postgres, "SELECT count(*) FROM orders") == [(1,)]


async def test_the_copy_writer_refuses_to_write_outside_a_transaction(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE orders (id bigint)")
    batch = pa.record_batch({"id": pa.array([1])})
    async with postgres.connect() as connection, connection.begin():
        found = await engines_describe(connection)
        offer, target = SourceInfo("batch", batch.schema, 1), Target.of("orders", backend_for(postgres.dialect))
        plan = make_plan(offer, target, found, LoadOptions.of({}), Database(backend_for(postgres.dialect), "here"))
    writer = writer_for(plan, backend_for(postgres.dialect))
    encoded, _ = writer.encode(batch)
    async with postgres.connect() as connection, connection.begin():
        with pytest.raises(dl.LoadError, match="would not be part of the transaction"):
            await writer.write(connection, encoded, watchdog.Watchdog())
    assert await fetch(postgres, "SELECT count(*) FROM orders") == [(0,)]


async def engines_describe(connection: Any) -> Any:
    from dataloader.database.schema import TableName

    return await backend_for(connection.dialect).describe(connection, TableName(None, "orders"))


async def test_an_error_in_a_late_chunk_rolls_the_copies_before_it_back(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE orders (id bigint CHECK (id < 5500), note text)")
    with pytest.raises(dl.WriteError) as raised:
        await dl.load_dataframe(orders(), "orders", engine=postgres, chunk_rows=1000)
    assert raised.value.row == 5500
    assert await fetch(postgres, "SELECT count(*) FROM orders") == [(0,)]


async def test_a_bare_copy_hangs_when_its_backend_is_terminated(slow: AsyncEngine, watcher: AsyncEngine) -> None:
    """The trap itself: if asyncpg mends it, the guard can be simpler."""
    encoded = b"1\tx\n" * 1_000_000

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(encoded), 65536):
            yield encoded[start : start + 65536]

    async with slow.connect() as connection:
        driver = await driver_of(connection)
        copying = asyncio.create_task(driver.copy_to_table("orders", source=pieces()))
        pid = await backend_of(watcher, "COPY")
        await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)
        done, _ = await asyncio.wait({copying}, timeout=2)
        assert not done
        copying.cancel()
        await asyncio.wait({copying})
        await connection.invalidate()


@by_method
async def test_a_terminated_backend_is_reported_within_a_second(
    slow: AsyncEngine, watcher: AsyncEngine, method: str
) -> None:
    async def terminate(pid: int) -> None:
        await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)

    for _ in range(ROUNDS):
        error, seconds = await interrupted(slow, watcher, method, terminate)
        assert isinstance(error, dl.ConnectionLost)
        assert seconds < 1
    assert await fetch(watcher, "SELECT count(*) FROM orders") == [(0,)]
    assert slow.pool.checkedout() == 0


@by_method
async def test_a_frozen_server_is_given_up_after_the_limit(
    slow: AsyncEngine, watcher: AsyncEngine, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 1.0)
    frozen: list[int] = []

    async def freeze(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        frozen.append(pid)

    try:
        error, seconds = await interrupted(slow, watcher, method, freeze)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert isinstance(error, dl.ConnectionLost)
    assert seconds < 2.5
    assert slow.pool.checkedout() == 0


@by_method
async def test_a_cancelled_load_settles_within_a_second_and_writes_nothing(
    slow: AsyncEngine, watcher: AsyncEngine, method: Any
) -> None:
    for number in range(ROUNDS):
        load = asyncio.create_task(dl.load_dataframe(orders(), "orders", engine=slow, method=method))
        await backend_of(watcher, {"copy": "COPY", "insert": "INSERT"}[method])
        await asyncio.sleep(random.random() * 0.2)
        before = time.perf_counter()
        load.cancel()
        if number % 2:
            await asyncio.sleep(0.01)
            load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert time.perf_counter() - before < 1
        assert slow.pool.checkedout() == 0
    assert await fetch(slow, "SELECT count(*) FROM orders") == [(0,)]


@pytest.fixture
async def slow_commit(postgres: AsyncEngine) -> AsyncEngine:
    """A table whose commit takes a second, by a trigger that only the last check of deferred ones brings about."""
    await execute(
        postgres,
        "CREATE TABLE orders (id bigint, note text)",
        "CREATE TABLE later ()",
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(1); RETURN NULL; END$$",
        "CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN SET CONSTRAINTS slow DEFERRED; INSERT INTO later DEFAULT VALUES; RETURN NULL; END$$",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION slow()",
        "CREATE CONSTRAINT TRIGGER defer AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION defer()",
    )
    return postgres


async def test_a_cancel_during_the_commit_waits_for_it_and_is_forgotten(
    slow_commit: AsyncEngine, watcher: AsyncEngine
) -> None:
    load = asyncio.create_task(dl.load_dataframe({"id": [1], "note": ["kept"]}, "orders", engine=slow_commit))
    await backend_of(watcher, "COMMIT")
    load.cancel()
    await asyncio.sleep(0.05)
    load.cancel()
    assert (await load).loaded == 1
    assert load.cancelling() == 0
    assert await fetch(watcher, "SELECT count(*) FROM orders") == [(1,)]


async def test_a_connection_that_is_lost_during_the_commit_leaves_the_rows_in_doubt(
    slow_commit: AsyncEngine, watcher: AsyncEngine
) -> None:
    load = asyncio.create_task(dl.load_dataframe({"id": [1], "note": ["lost"]}, "orders", engine=slow_commit))
    pid = await backend_of(watcher, "COMMIT")
    await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)
    with pytest.raises(dl.ConnectionLost, match="count them before you load again"):
        await load


async def test_a_load_with_a_name_whose_commit_is_in_doubt_tells_the_call_that_finds_out(
    slow_commit: AsyncEngine, watcher: AsyncEngine
) -> None:
    rows: Any = {"id": [1], "note": ["lost"]}
    load = asyncio.create_task(dl.load_dataframe(rows, "orders", engine=slow_commit, load_id="May"))
    pid = await backend_of(watcher, "COMMIT")
    await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)
    told = r"The commit was under way. await load_dataframe\(..., 'public.orders', load_id='May', resume=True\) loads"
    with pytest.raises(dl.ConnectionLost, match=told):
        await load
    report = await dl.load_dataframe(rows, "orders", engine=slow_commit, load_id="May", resume=True)
    assert report.loaded + report.already_loaded == 1
    assert await fetch(watcher, "SELECT count(*) FROM orders") == [(1,)]


async def test_the_pool_works_after_a_lost_connection(slow: AsyncEngine, watcher: AsyncEngine) -> None:
    async def terminate(pid: int) -> None:
        await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)

    await interrupted(slow, watcher, "copy", terminate)
    report = await dl.load_dataframe({"id": [1], "note": ["again"]}, "orders", engine=slow)
    assert report.loaded == 1


async def test_asyncpg_is_the_driver_of_these_tests(postgres: AsyncEngine) -> None:
    async with postgres.connect() as connection:
        assert isinstance(await driver_of(connection), asyncpg.Connection)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_work_that_swallows_cancels_ends_with_its_connection(postgres_url: sa.URL, driver: str) -> None:
    """As psycopg does now and then, which waits for what the server answers to a cancel."""
    url = postgres_url.set(drivername=f"postgresql+{driver}")
    engine = engines.open_engine(url).execution_options(isolation_level="AUTOCOMMIT")

    async def work(watching: watchdog.Watchdog) -> None:
        async with engine.connect() as connection:
            watching.watch(held := await driver_of(connection))
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await held.execute("SELECT pg_sleep(60)")

    working = asyncio.create_task(watchdog.guarded(work))
    await asyncio.sleep(0.2)
    working.cancel()
    done, _ = await asyncio.wait({working}, timeout=watchdog.GRACE_SECONDS + watchdog.SETTLE_SECONDS)
    assert done
    assert working.cancelled()
    assert engine.pool.checkedout() == 0
    await engine.dispose()
