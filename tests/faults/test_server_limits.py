"""The server ends a backend, runs out of something, or says no: the load goes on, or stops and can be resumed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database import engine as engines
from dataloader.loading import workers as pool
from tests.conftest import FULL, execute, fetch
from tests.faults.loads import (
    CHUNK_ROWS,
    ROWS,
    assert_exact,
    by_method,
    by_workers,
    committed_rows,
    load,
    orders,
    seeded,
    slow_trigger,
    start_anew,
    until_committed,
)

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

TERMINATIONS = 100 if FULL else 6
"""For each method."""
SMALL_DISK, LARGE_DISK = "12m", "48m"
WRITING = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
    AND query LIKE :query AND query LIKE '%orders%' AND pid <> pg_backend_pid()"""
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"


@pytest.fixture
async def watcher(postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """An engine apart from the loader's, to an empty table that is slow to fill."""
    engine = engines.open_engine(postgres_url)
    await start_slowly(engine)
    yield engine
    await engine.dispose()


async def start_slowly(watcher: AsyncEngine) -> None:
    await execute(watcher, "DROP TABLE IF EXISTS orders", "DROP FUNCTION IF EXISTS slow")
    await start_anew(watcher)
    await execute(watcher, *slow_trigger(seconds=0.002))


async def backend_of(watcher: AsyncEngine, method: str, loading: asyncio.Task[dl.LoadReport]) -> int:
    """Wait until a worker's backend is busy with rows, and return its process id."""
    for _ in range(1_000):
        assert not loading.done() or loading.result() is None, "the load had finished: make the table slower"
        rows = await fetch(watcher, WRITING, query={"copy": "COPY%", "insert": "INSERT%"}[method])
        if rows:
            return int(rows[0][0])
        await asyncio.sleep(0.003)
    raise AssertionError(f"no backend was writing by {method}")


async def finished(loading: asyncio.Task[dl.LoadReport], seconds: float = 60) -> dl.LoadReport:
    """What the load reports; an error if it hangs."""
    done, _ = await asyncio.wait({loading}, timeout=seconds)
    assert done, "the load hangs"
    return loading.result()


async def stopped(loading: asyncio.Task[dl.LoadReport], seconds: float = 60) -> dl.LoadError:
    """The error with which the load ends."""
    with pytest.raises(dl.LoadError) as raised:
        await finished(loading, seconds)
    return raised.value


async def assert_says_how_to_go_on(error: BaseException, watcher: AsyncEngine) -> None:
    """The message counts the committed rows, and names the call that continues."""
    load_id = (await fetch(watcher, "SELECT load_id FROM dataloader_loads"))[0][0]
    (rows,) = (await fetch(watcher, "SELECT count(*) FROM orders"))[0]
    assert f"{rows:,} rows are committed" in str(error)
    assert f"load_id={load_id!r}, resume=True" in str(error)


@by_workers
@by_method
async def test_a_chunk_whose_backend_was_terminated_is_tried_again(
    method: str, workers: int, postgres: AsyncEngine, watcher: AsyncEngine
) -> None:
    """Several times in the same load."""
    moments, terminated = seeded(), 0
    while terminated < TERMINATIONS // 2:
        loading = asyncio.create_task(load(postgres, workers, method=method))
        for _ in range(3):
            pid = await backend_of(watcher, method, loading)
            await asyncio.sleep(moments.random() * 0.04)
            ((landed,),) = await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)
            terminated += landed
            await asyncio.sleep(moments.random() * 0.1)
            if await committed_rows(watcher) > ROWS - 3 * CHUNK_ROWS:
                break
        await assert_exact(watcher, await finished(loading))
        assert postgres.pool.checkedout() == 0
        await start_slowly(watcher)


@by_workers
@by_method
async def test_without_patience_a_terminated_backend_is_an_error_within_a_second(
    method: str, workers: int, postgres: AsyncEngine, watcher: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments, patience = seeded(), pool.RETRY_SECONDS
    for _ in range(TERMINATIONS // 6):
        monkeypatch.setattr(pool, "RETRY_SECONDS", 0)
        loading = asyncio.create_task(load(postgres, workers, method=method))
        await until_committed(watcher, CHUNK_ROWS)
        pid = await backend_of(watcher, method, loading)
        await asyncio.sleep(moments.random() * 0.02)
        before = time.perf_counter()
        await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)
        error = await stopped(loading)
        assert time.perf_counter() - before < 1
        assert isinstance(error, dl.ConnectionLost)
        await assert_says_how_to_go_on(error, watcher)
        assert postgres.pool.checkedout() == 0
        monkeypatch.setattr(pool, "RETRY_SECONDS", patience)
        await assert_exact(watcher, await load(postgres, workers, method=method, resume=True))
        await start_slowly(watcher)


class Disk:
    """A small disk, mounted while the block runs."""

    def __init__(self, folder: Path, account: dict[str, int]) -> None:
        self.folder = folder
        self._account = account

    def __enter__(self) -> Disk:
        self.folder.mkdir()
        owner = f"uid={self._account.get('user', os.geteuid())},mode=0700"
        options = ["-o", f"size={SMALL_DISK},{owner}"]
        command = ["mount", "-t", "tmpfs", *options, "dataloader-test", str(self.folder)]
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def enlarge(self) -> None:
        subprocess.run(["mount", "-o", f"remount,size={LARGE_DISK}", str(self.folder)], check=True)


@pytest.fixture
def disk(server: embedded.Server, server_folder: Path) -> Iterator[Disk]:
    with Disk(server_folder / "disk", server.account) as mounted:
        yield mounted


@pytest.fixture
async def on_disk(disk: Disk, watcher: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """A table, and nothing else, on the small disk."""
    name = f"small_{uuid.uuid4().hex[:8]}"
    await outside_transactions(watcher, f"CREATE TABLESPACE {name} LOCATION '{disk.folder}'")
    await execute(watcher, "DROP TABLE orders", f"CREATE TABLE orders (id bigint, note text) TABLESPACE {name}")
    yield watcher
    await execute(watcher, "DROP TABLE orders")
    await outside_transactions(watcher, f"DROP TABLESPACE {name}")


async def outside_transactions(engine: AsyncEngine, statement: str) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql(statement)


@by_workers
@by_method
async def test_a_full_disk_stops_the_load_and_it_goes_on_once_there_is_room(
    method: str, workers: int, postgres: AsyncEngine, on_disk: AsyncEngine, disk: Disk
) -> None:
    error = await stopped(asyncio.create_task(load(postgres, workers, method=method)))
    assert isinstance(error, dl.WriteError)
    assert error.sqlstate == "53100"
    assert 0 < await committed_rows(on_disk) < ROWS
    await assert_says_how_to_go_on(error, on_disk)
    assert dl.explain(error).left.startswith(f"{await committed_rows(on_disk):,} rows are committed; continue with")
    with pytest.raises(sa.exc.DBAPIError) as plain:
        await execute(on_disk, "INSERT INTO orders SELECT n, repeat('x', 900) FROM generate_series(1, 100000) n")
    said = dl.explain(plain.value)
    assert (said.sqlstate, said.cause) == ("53100", "the server's disk is full")
    assert "make room" in said.remedy
    assert postgres.pool.checkedout() == 0
    disk.enlarge()
    await assert_exact(on_disk, await load(postgres, workers, method=method, resume=True))


@pytest.fixture
async def loader(postgres_url: sa.URL, watcher: AsyncEngine) -> AsyncIterator[str]:
    """A role that may do what a loader may, and no more."""
    name = f"loader_{uuid.uuid4().hex[:8]}"
    await execute(
        watcher,
        f"CREATE ROLE {name} LOGIN",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {name}",
        f"GRANT INSERT ON orders TO {name}",
    )
    yield name
    await execute(watcher, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@contextlib.asynccontextmanager
async def engine_of(url: sa.URL, **options: object) -> AsyncIterator[AsyncEngine]:
    engine = engines.connect(url, **options)
    engines.Default.address = None
    try:
        yield engine
    finally:
        await engine.dispose()


async def test_a_role_with_few_connections_loads_with_fewer_workers_and_a_notice(
    loader: str, postgres_url: sa.URL, watcher: AsyncEngine
) -> None:
    await execute(watcher, f"ALTER ROLE {loader} CONNECTION LIMIT 2")
    async with engine_of(postgres_url.set(username=loader)) as engine:
        report = await load(engine, 4)
        assert engine.pool.checkedout() == 0
    await assert_exact(watcher, report)
    assert len(report.warnings) == 2
    assert all("too many connections" in notice for notice in report.warnings)


async def test_a_small_pool_loads_with_fewer_workers_and_a_notice(postgres_url: sa.URL, watcher: AsyncEngine) -> None:
    async with engine_of(postgres_url, pool_size=1, max_overflow=1, pool_timeout=0.05) as engine:
        report = await load(engine, 3)
        assert engine.pool.checkedout() == 0
    await assert_exact(watcher, report)
    assert len(report.warnings) == 1


@pytest.mark.parametrize("resumes", [False, True], ids=["new", "resumed"])
async def test_a_role_with_one_connection_loads_with_one_worker(
    resumes: bool, loader: str, postgres_url: sa.URL, watcher: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever worker gets the connection: the other one must not give up the load when its own patience ends."""
    async with engine_of(postgres_url.set(username=loader)) as engine:
        if resumes:
            await cancelled_in_the_middle(watcher, load_slowly(engine))
        await engine.dispose()
        await execute(watcher, f"ALTER ROLE {loader} CONNECTION LIMIT 1")
        monkeypatch.setattr(pool, "RETRY_SECONDS", 0.2)
        report = await finished(asyncio.create_task(load_slowly(engine, resume=resumes or None)))
    await assert_exact(watcher, report)
    assert len(report.warnings) == 1


async def load_slowly(engine: AsyncEngine, **options: Any) -> dl.LoadReport:
    """Load from a source that takes longer to read than the server to connect."""

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        for batch in orders().to_batches(max_chunksize=CHUNK_ROWS):
            await asyncio.sleep(0.05)
            yield batch

    given = {"engine": engine, "commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": 2, **options}
    return await dl.load_batches(batches(), "orders", **given)


async def cancelled_in_the_middle(watcher: AsyncEngine, work: Coroutine[Any, Any, dl.LoadReport]) -> None:
    loading = asyncio.create_task(work)
    await until_committed(watcher, 2 * CHUNK_ROWS)
    loading.cancel()
    await asyncio.wait({loading})
    assert loading.cancelled()


async def test_a_pool_of_one_connection_is_enough(
    postgres_url: sa.URL, watcher: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0.2)
    async with engine_of(postgres_url, pool_size=1, max_overflow=0, pool_timeout=0.1) as engine:
        report = await finished(asyncio.create_task(load(engine, 2)))
    await assert_exact(watcher, report)
    assert len(report.warnings) == 1


async def test_a_server_without_a_free_connection_is_a_clear_error(
    loader: str, postgres_url: sa.URL, watcher: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is entered in the ledger: there is nothing to resume either."""
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0.5)
    await execute(watcher, f"ALTER ROLE {loader} CONNECTION LIMIT 1")
    url = postgres_url.set(username=loader)
    async with engine_of(url) as taking, engine_of(url) as engine, taking.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))
        error = await stopped(asyncio.create_task(load(engine, 2)), 10)
        assert isinstance(error, dl.ConnectionLost)
        assert "too many connections" in str(error)
    assert await committed_rows(watcher) == 0


@pytest.fixture
def small_server(server_folder: Path) -> embedded.Server:
    settings = {"max_connections": "5", "superuser_reserved_connections": "0"}
    return embedded.start(
        server_folder / "pg", embedded.find_binaries(), embedded.FAST_AND_LOOSE | settings | {"max_wal_senders": "0"}
    )


async def test_a_server_that_fills_up_in_the_middle_is_waited_for(small_server: embedded.Server) -> None:
    """A worker whose backend is terminated finds no free connection for a while."""
    async with engine_of(small_server.url) as watcher, engine_of(small_server.url) as engine:
        await start_slowly(watcher)
        loading = asyncio.create_task(load(engine, 2))
        await until_committed(watcher, CHUNK_ROWS)
        async with engine_of(small_server.url, pool_pre_ping=False) as taking, contextlib.AsyncExitStack() as taken:
            with contextlib.suppress(Exception):  # until there are no more
                for _ in range(5):
                    await taken.enter_async_context(taking.connect())
            pid = await backend_of(watcher, "copy", loading)
            await fetch(watcher, "SELECT pg_terminate_backend(:pid)", pid=pid)
            with contextlib.suppress(Exception):
                await taken.enter_async_context(taking.connect())
            await asyncio.sleep(0.5)
        report = await finished(loading)
        await assert_exact(watcher, report)
        assert engine.pool.checkedout() == 0


@contextlib.asynccontextmanager
async def locked(watcher: AsyncEngine) -> AsyncIterator[None]:
    """Another session holds the table while the block runs."""
    async with watcher.connect() as connection, connection.begin():
        await connection.execute(sa.text("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"))
        yield


@by_workers
async def test_a_table_that_is_locked_for_a_moment_is_waited_for(
    workers: int, postgres: AsyncEngine, watcher: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than one attempt waits."""
    monkeypatch.setattr(pool, "LOCK_SECONDS", 0.3)
    loading = asyncio.create_task(load(postgres, workers))
    await until_committed(watcher, CHUNK_ROWS)
    async with locked(watcher):
        before = await committed_rows(watcher)
        await asyncio.sleep(1)
        assert not loading.done()
        assert await committed_rows(watcher) == before < ROWS
    await assert_exact(watcher, await finished(loading))


@by_workers
async def test_a_table_that_is_locked_for_too_long_is_named_and_the_load_can_be_resumed(
    workers: int, postgres: AsyncEngine, watcher: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LOCK_SECONDS", 0.3)
    monkeypatch.setattr(pool, "RETRY_SECONDS", 1)
    loading = asyncio.create_task(load(postgres, workers))
    await until_committed(watcher, CHUNK_ROWS)
    async with locked(watcher):
        error = await stopped(loading, 10)
    assert isinstance(error, dl.WriteError)
    assert error.sqlstate == "55P03"
    await assert_says_how_to_go_on(error, watcher)
    assert postgres.pool.checkedout() == 0
    await assert_exact(watcher, await load(postgres, workers, resume=True))
    assert "public.orders" in error.what or "table orders" in error.what, error.what


@by_workers
@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_the_database_s_own_isolation_does_not_matter(
    level: str, workers: int, postgres: AsyncEngine, watcher: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by serialization failures that would have to be tried again."""
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0)
    setting = f"ALTER DATABASE {postgres.url.database} SET default_transaction_isolation = '{level}'"
    await execute(watcher, setting)
    assert await fetch(postgres, "SHOW default_transaction_isolation") == [(level,)]
    await assert_exact(watcher, await load(postgres, workers))


@by_workers
@pytest.mark.parametrize("sees", [True, False], ids=["sees its rows", "sees no rows"])
async def test_a_table_with_row_level_security_is_filled_by_insert_and_resumed(
    sees: bool, workers: int, loader: str, postgres_url: sa.URL, watcher: AsyncEngine
) -> None:
    await execute(
        watcher,
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY filling ON orders FOR INSERT TO {loader} WITH CHECK (id >= 0)",
        *([f"CREATE POLICY seeing ON orders FOR SELECT TO {loader} USING (true)"] if sees else []),
    )
    async with engine_of(postgres_url.set(username=loader)) as engine:
        await cancelled_in_the_middle(watcher, load(engine, workers))
        report = await load(engine, workers, resume=True)
    assert report.method == "insert"
    assert report.already_loaded > 0
    await assert_exact(watcher, report)


@by_workers
async def test_a_server_that_turns_read_only_stops_the_load_and_it_goes_on_afterwards(
    workers: int, postgres: AsyncEngine, watcher: AsyncEngine, postgres_url: sa.URL
) -> None:
    """As a failover to a standby does: the connections end, and the next ones may not write."""
    name = postgres_url.database
    async with engine_of(postgres_url.set(database="postgres")) as admin:
        loading = asyncio.create_task(load(postgres, workers))
        await until_committed(watcher, CHUNK_ROWS)
        await execute(admin, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await fetch(admin, OTHERS, name=name)
        error = await stopped(loading, 20)
        assert isinstance(error, dl.WriteError)
        assert error.sqlstate == "25006"
        await assert_says_how_to_go_on(error, watcher)
        assert postgres.pool.checkedout() == 0
        await execute(admin, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await fetch(admin, OTHERS, name=name)
    await assert_exact(watcher, await load(postgres, workers, resume=True))
