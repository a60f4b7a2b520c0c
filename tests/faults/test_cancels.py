"""Loads that are stopped, by a cancel, a time limit or Ctrl-C: they settle, say what is left, and go on exactly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import shlex
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database import engine as engines
from tests.conftest import FULL, execute, fetch
from tests.faults.loads import by_workers, seeded, slow_trigger, until_committed, until_idle, until_none

pytestmark = [pytest.mark.slow, pytest.mark.serial]

CANCELS = 100 if FULL else 8
"""For each path."""
OWN_CANCELS = 60 if FULL else 2
"""For each database and pool of a caller's own engine."""
INTERRUPTS = 10 if FULL else 2
ROWS, CHUNK_ROWS = 16_000, 1_000
NOTE = "x" * 400
FILE_ROWS = 30_000
LEFT = """SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = '' AND backend_type = 'client backend'"""
"""The connections of a caller's own engine: it has no name; nor has autovacuum."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way into a database: the writer that is chosen for it, and a table."""

    database: str
    method: str
    columns: str = "id bigint, note text"

    @property
    def has_tags(self) -> bool:
        """Whether there is a column that COPY can only send as text."""
        return "tags" in self.columns


WAYS = {
    "copy": Way("postgresql", "copy"),
    "csv copy": Way("postgresql", "copy", "id bigint, note text, tags int[]"),
    "insert": Way("postgresql", "insert"),
    "sqlite": Way("sqlite", "insert"),
}


def checked_out(engine: AsyncEngine) -> int:
    """How many connections are not back in the pool; NullPool has none to tell of."""
    return 0 if isinstance(engine.pool, sa.NullPool) else engine.pool.checkedout()  # type: ignore[attr-defined]


class Cancelling:
    """Cancels loads of one way at random moments, and looks at what is left.

    Attributes
    ----------
    seconds : float
        How long a load takes that nobody cancels.
    """

    def __init__(self, way: Way, workers: int, engine: AsyncEngine, watcher: AsyncEngine) -> None:
        self.way = way
        self.workers = workers
        self.engine = engine
        self.watcher = watcher
        self.moments = seeded()
        self.seconds = 0.0

    async def start_anew(self) -> None:
        """An empty table without a ledger, that takes its time on PostgreSQL."""
        tables = ("orders", "dataloader_loads", "dataloader_chunks")
        await execute(self.watcher, *(f"DROP TABLE IF EXISTS {name}" for name in tables))
        trigger = slow_trigger(seconds=0.001) if self.way.database == "postgresql" else ()
        await execute(self.watcher, f"CREATE TABLE orders ({self.way.columns})", *trigger)

    async def load(self) -> dl.LoadReport:
        columns = {"id": pa.array(range(ROWS)), "note": pa.array([NOTE] * ROWS)}
        if self.way.has_tags:
            columns["tags"] = pa.array([[1, 2, 3]] * ROWS, pa.list_(pa.int32()))
        return await dl.load_dataframe(
            pa.table(columns),
            "orders",
            engine=self.engine,
            method=self.way.method,
            commit="chunk",
            chunk_rows=CHUNK_ROWS,
            workers=self.workers,
            resume=True,
        )

    async def measure(self) -> None:
        """Learn how long a load takes; the first one takes longer than the others."""
        for _ in range(2):
            await self.start_anew()
            before = time.perf_counter()
            await self.assert_exact(await self.load())
            self.seconds = time.perf_counter() - before
        await self.start_anew()

    async def cancelled(self, *, twice: bool) -> bool:
        """Start or continue the load and cancel it; whether it had not finished before."""
        rows_before = await self.rows()
        loading = asyncio.create_task(self.load())
        await asyncio.sleep(self.moments.random() * self.seconds * (1 - rows_before / ROWS))
        if loading.done():
            await self.assert_exact(loading.result())
            await self.start_anew()
            return False
        before = time.perf_counter()
        loading.cancel()
        if twice:
            await asyncio.sleep(self.moments.choice([0, self.moments.random() * 0.02]))
            loading.cancel()
        done, _ = await asyncio.wait({loading}, timeout=20)
        seconds = time.perf_counter() - before
        assert done, "the load hangs"
        if not loading.cancelled() and loading.exception() is None:  # the cancel came when all was committed
            await self.assert_exact(loading.result())
            await self.start_anew()
            return False
        with pytest.raises(asyncio.CancelledError) as raised:
            await loading
        assert seconds < 1
        await self.assert_settled(raised.value, rows_before)
        return True

    async def assert_settled(self, error: asyncio.CancelledError, rows_before: int) -> None:
        """No connection or transaction is left, and what the load says of itself is so.

        The ledger is told in a transaction of its own, which a cancelled load waits for half a second at most: a
        stalled disk takes longer to commit it.
        """
        for _ in range(1_000):
            if checked_out(self.engine) == 0:
                break
            await asyncio.sleep(0.01)
        assert checked_out(self.engine) == 0
        if self.way.database == "postgresql":
            await until_idle(self.watcher)
        rows, notes = await self.rows(), getattr(error, "__notes__", [])
        assert len(notes) == 1 or (rows == rows_before and not notes)
        if notes:
            ((load_id, counted),) = await fetch(self.watcher, "SELECT load_id, loaded FROM dataloader_loads")
            assert counted == rows
            assert f"{rows:,} rows are committed" in notes[0], f"{rows} rows are there: {notes[0]}"
            assert f"load_dataframe(..., 'orders', load_id={load_id!r}, resume=True" in notes[0].replace("public.", "")

    async def rows(self) -> int:
        return int((await fetch(self.watcher, "SELECT count(*) FROM orders"))[0][0])

    async def assert_exact(self, report: dl.LoadReport) -> None:
        """Every row is there once and whole, and the report and the ledger say so."""
        tagged = " AND tags = ARRAY[1, 2, 3]" if self.way.has_tags else ""
        whole = f"count(CASE WHEN note = :note{tagged} THEN 1 END)"
        found = await fetch(
            self.watcher, f"SELECT count(*), count(DISTINCT id), max(id), {whole} FROM orders", note=NOTE
        )
        assert found == [(ROWS, ROWS, ROWS - 1, ROWS)]
        assert report.loaded + report.already_loaded == ROWS
        ledger = await fetch(self.watcher, "SELECT load_id, state, rows, loaded FROM dataloader_loads")
        assert ledger == [(report.load_id, "finished", ROWS, ROWS)]


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture
def engine(request: pytest.FixtureRequest, way: Way) -> AsyncEngine:
    engine: AsyncEngine = request.getfixturevalue({"postgresql": "postgres"}.get(way.database, way.database))
    return engine


@pytest.fixture
async def watcher(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine for the same database, apart from the loader's."""
    watcher = engines.open_engine(engine.url)
    yield watcher
    await watcher.dispose()


@by_workers
async def test_cancelled_loads_settle_within_a_second_and_go_on_exactly(
    workers: int, way: Way, engine: AsyncEngine, watcher: AsyncEngine
) -> None:
    cancelling = Cancelling(way, workers, engine, watcher)
    await cancelling.measure()
    landed = 0
    while landed < CANCELS // 2:
        landed += await cancelling.cancelled(twice=landed % 2 == 1)
    await cancelling.assert_exact(await cancelling.load())
    assert cancelling.engine.pool.checkedout() == 0


OWN_POOLS: dict[str, dict[str, Any]] = {
    "the default": {},
    "none": {"poolclass": sa.NullPool},
    "of one": {"pool_size": 1, "max_overflow": 0},
}


@pytest.mark.parametrize(
    ("way", "pool"),
    [(way, pool) for way in ("copy", "sqlite") for pool in OWN_POOLS],
    indirect=["way"],
)
async def test_loads_that_are_cancelled_leave_a_callers_own_engine_as_it_was(
    way: Way, pool: str, engine: AsyncEngine, watcher: AsyncEngine
) -> None:
    """An engine that `connect` has not made: nothing is tested, and SQLite keeps its rollback journal."""
    own = create_async_engine(engine.url, **OWN_POOLS[pool])
    cancelling = Cancelling(way, 2, own, watcher)
    await cancelling.measure()
    landed = 0
    while landed < OWN_CANCELS:
        landed += await cancelling.cancelled(twice=landed % 2 == 1)
    await cancelling.assert_exact(await cancelling.load())
    assert checked_out(own) == 0
    assert await fetch(own, "SELECT count(*) FROM orders") == [(ROWS,)]
    await own.dispose()
    if way.database == "postgresql":
        await until_none(watcher, LEFT)


@pytest.fixture(params=list(OWN_POOLS))
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A caller's own engine for a SQLite file that keeps its rollback journal: who reads keeps a writer waiting."""
    own = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'own.db'}", **OWN_POOLS[request.param])
    await execute(own, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (1), (2)")
    yield own
    await own.dispose()


@pytest.fixture
def other(own: AsyncEngine) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the file, that waits for nobody."""
    with contextlib.closing(sqlite3.connect(str(own.url.database), timeout=0)) as other:
        yield other


async def read_and_cancelled(engine: AsyncEngine) -> None:
    """Ask for what the table holds, and be cancelled as soon as the driver has the statement."""
    loop, reading = asyncio.get_running_loop(), asyncio.current_task()
    connection = await engines.open_connection(engine)
    try:
        held = connection.sync_connection
        sa.event.listen(held, "before_cursor_execute", lambda *_: loop.call_soon(reading.cancel))
        await connection.execute(sa.text("SELECT id FROM orders"))
    finally:
        await engines.close(connection)


async def test_a_cancelled_statement_leaves_no_lock_on_a_sqlite_file(
    own: AsyncEngine, other: sqlite3.Connection
) -> None:
    """SQLite has it for as long as there is a cursor: here in the frames of the error, which is at hand."""
    gc.disable()
    try:
        with pytest.raises(asyncio.CancelledError) as raised:
            await asyncio.create_task(read_and_cancelled(own))
        other.execute("BEGIN EXCLUSIVE")
    finally:
        gc.enable()
    assert raised.value.__traceback__ is not None
    other.rollback()
    assert checked_out(own) == 0
    assert await fetch(own, "SELECT count(*) FROM orders") == [(2,)]


async def test_a_sqlite_database_in_memory_outlives_a_cancelled_statement() -> None:
    own = create_async_engine("sqlite+aiosqlite://")
    await execute(own, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (1), (2)")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(read_and_cancelled(own))
    assert await fetch(own, "SELECT count(*) FROM orders") == [(2,)]
    await own.dispose()


async def test_a_load_is_cancelled_whose_commit_waits_for_a_reader(own: AsyncEngine, other: sqlite3.Connection) -> None:
    async def load() -> dl.LoadReport:
        return await dl.load_dataframe({"id": [3]}, "orders", engine=own, commit="chunk", resume=True)

    reading = other.execute("SELECT id FROM orders")
    reading.fetchone()
    committing = asyncio.Event()
    sa.event.listen(own.sync_engine, "commit", lambda _: committing.set())
    loading = asyncio.create_task(load())
    await committing.wait()
    loading.cancel()
    await asyncio.wait({loading})
    assert loading.cancelled()
    reading.close()
    assert (await load()).loaded == 1
    assert await fetch(own, "SELECT id FROM orders ORDER BY id") == [(1,), (2,), (3,)]


@pytest.fixture
async def slow(postgres: AsyncEngine) -> AsyncEngine:
    """An empty table in PostgreSQL that is slow to fill."""
    await execute(postgres, "CREATE TABLE orders (id bigint, note text)", *slow_trigger(seconds=0.001))
    return postgres


@pytest.fixture
async def onlooker(postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """An engine for the same PostgreSQL, apart from the loader's."""
    onlooker = engines.open_engine(postgres_url)
    yield onlooker
    await onlooker.dispose()


@by_workers
async def test_a_time_limit_around_a_load_is_a_timeout_error_and_the_load_goes_on(
    workers: int, slow: AsyncEngine, onlooker: AsyncEngine
) -> None:
    cancelling = Cancelling(WAYS["copy"], workers, slow, onlooker)
    with pytest.raises(TimeoutError) as raised:
        async with asyncio.timeout(0.2):
            await cancelling.load()
    assert isinstance(raised.value.__context__, asyncio.CancelledError)
    await cancelling.assert_settled(raised.value.__context__, 0)
    assert asyncio.current_task().cancelling() == 0
    await cancelling.assert_exact(await cancelling.load())


@by_workers
async def test_a_load_that_is_cancelled_while_it_waits_for_a_lock_leaves_no_transaction(
    workers: int, slow: AsyncEngine, onlooker: AsyncEngine
) -> None:
    """The pool would give the half-begun transaction to whoever asks next."""
    cancelling = Cancelling(WAYS["copy"], workers, slow, onlooker)
    loading = asyncio.create_task(cancelling.load())
    await until_committed(onlooker, CHUNK_ROWS)
    async with onlooker.connect() as holding, holding.begin():
        await holding.execute(sa.text("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"))
        await asyncio.sleep(0.2)
        before = time.perf_counter()
        loading.cancel()
        await asyncio.wait({loading}, timeout=10)
        assert loading.cancelled()
        assert time.perf_counter() - before < 1
        assert slow.pool.checkedout() == 0
        await until_idle(onlooker, but=1)
    assert await fetch(slow, "SELECT 1") == [(1,)]
    await cancelling.assert_exact(await cancelling.load())


@pytest.fixture
def big_csv(tmp_path: Path) -> Path:
    rows = {"id": pa.array(range(FILE_ROWS)), "note": pa.array([NOTE] * FILE_ROWS)}
    pa.csv.write_csv(pa.table(rows), tmp_path / "big.csv")
    return tmp_path / "big.csv"


async def command(arguments: list[str], folder: Path, url: str) -> asyncio.subprocess.Process:
    root = str(Path(__file__).parents[2])
    return await asyncio.create_subprocess_exec(
        *arguments,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": root, "DATALOADER_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_ctrl_c_prints_the_command_that_finishes_the_load(
    big_csv: Path, slow: AsyncEngine, onlooker: AsyncEngine
) -> None:
    """The command is run as it is printed, with the URL in its place: its password is not printed."""
    moments, url = seeded(), slow.url.render_as_string(hide_password=False)
    await execute(slow, slow_trigger(seconds=0.01)[0])  # so that the load outlives a busy machine's wait for its chunks
    begun = [sys.executable, "-m", "dataloader", "load", "big.csv", "orders", "--to", url, "--commit", "chunk"]
    begun += ["--chunk-rows", str(CHUNK_ROWS), "--workers", "2"]
    for number in range(INTERRUPTS):
        loading = await command(begun, big_csv.parent, url)
        await until_committed(onlooker, (1 + number % 2 * 5) * CHUNK_ROWS)
        await asyncio.sleep(moments.random() * 0.1)
        before = time.perf_counter()
        loading.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(loading.communicate(), 20)
        assert loading.returncode == 130, said.decode()
        assert time.perf_counter() - before < 2
        ((rows,),) = await fetch(onlooker, "SELECT count(*) FROM orders")
        assert f"{rows:,} rows are committed" in said.decode(), f"{rows} rows are there: {said.decode()}"
        assert url not in said.decode()
        printed = re.search(r"(?:python3? -m )?dataloader ((?:load|resume) .*)", said.decode())
        assert printed, f"no command is printed: {said.decode()}"
        given = [url if word == "URL" else word for word in shlex.split(printed[1])]
        going_on = [sys.executable, "-m", "dataloader", *given, "--yes"]  # nobody is asked
        resuming = await command(going_on, big_csv.parent, url)
        _, said = await asyncio.wait_for(resuming.communicate(), 60)
        assert resuming.returncode == 0, said.decode()
        found = await fetch(onlooker, "SELECT count(*), count(DISTINCT id), max(id), min(length(note)) FROM orders")
        assert found == [(FILE_ROWS, FILE_ROWS, FILE_ROWS - 1, len(NOTE))]
        assert await fetch(onlooker, "SELECT state, loaded FROM dataloader_loads") == [("finished", FILE_ROWS)]
        await Cancelling(WAYS["copy"], 2, slow, onlooker).start_anew()
