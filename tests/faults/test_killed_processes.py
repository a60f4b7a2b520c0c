"""Processes and servers that are killed or frozen in the middle of a load: no row is lost, none is there twice.

Short in CI. `DATALOADER_FAULTS=full` loads a million rows each time, and kills 200 processes that load into
PostgreSQL, 40 that load into SQLite, and 20 servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import FULL, execute, fetch
from tests.faults.processes import Ending, LoaderProcess, Nursery, Order, batches, open_nursery, until

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

ROWS = 1_000_000 if FULL else 200_000
CHUNKS = 50
SEEDS = range(10) if FULL else range(1)
CLIENT_KILLS = {"postgresql": 20 if FULL else 8, "sqlite": 4}
"""For each seed."""
MOST_KILLS = 8
"""Of one load in one transaction, which begins anew each time."""
SERVER_KILLS = 2
"""For each seed."""
RACES = range(5) if FULL else range(1)
KINDS_THAT_RACE = ["postgresql", "sqlite"] if FULL else ["postgresql"]
UNHURRIED = {"pause": 0.03, "rows": ROWS // 4, "chunk_rows": ROWS // 4 // CHUNKS}
"""A load that lasts 1.5 s on a fast machine too: long enough for another one to meet it."""
PAUSES = (0.03, 0.1, 0.5)
"""After each chunk, until two loads meet: on a machine that is busy with others, one may be done before the other."""
TABLE = "CREATE TABLE orders (id bigint, note text, amount double precision)"
AT_ONCE_SECONDS = 4.0
"""Less than the 5 s for which a chunk's transaction waits for a lock."""
ROUNDS = 2
LOADER = """
import asyncio, sys
import dataloader as dl

def rows():
    for number in range(10_000_000):
        if number == 30_000:
            print("loading", flush=True)
        yield {"id": number, "note": "x" * 40}

asyncio.run(dl.load_rows(rows(), "orders", engine=sys.argv[1], if_exists=sys.argv[2], commit="load", chunk_rows=5_000))
"""


@pytest.mark.parametrize("if_exists", ["append", "truncate", "replace"])
async def test_a_killed_load_leaves_the_old_rows(database: AsyncEngine, if_exists: str) -> None:
    await execute(database, "CREATE TABLE orders (id bigint, note text, old int)")
    await execute(database, "INSERT INTO orders VALUES (1, NULL, NULL)")
    url = database.url.render_as_string(hide_password=False)
    for number in range(ROUNDS):
        command = [sys.executable, "-c", LOADER, url, if_exists]
        loader = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert loader.stdout is not None
        assert await loader.stdout.readline() == b"loading\n"
        await asyncio.sleep(0.2 * number)
        assert loader.returncode is None, "the load had ended before it was killed"
        loader.kill()
        await loader.wait()
        assert await fetch(database, "SELECT id, old FROM orders") == [(1, None)]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with open_nursery() as opened:
        yield opened


def order_for(engine: AsyncEngine, table: str, **options: Any) -> Order:
    """A load in chunks, by two workers where the database can have them."""
    workers = {"workers": 2} if engine.dialect.name == "postgresql" else {}
    url = engine.url.render_as_string(hide_password=False)
    return Order(url, table, ROWS, ROWS // CHUNKS, options={"resume": True, **workers, **options})


def varied(order: Order, moments: random.Random) -> Order:
    """The same load of a named file, so to speak, of a frame in memory, or of a generator."""
    named = replace(order, options={**order.options, "load_id": f"nightly {order.table}"})
    return moments.choice([order, named, replace(order, loader="dataframe")])


async def contents(engine: AsyncEngine, table: str) -> tuple[Any, ...]:
    """How many rows there are, how many different ids, and a hash of everything whatever the order of the rows."""
    if engine.dialect.name == "postgresql":
        hashed = "CAST(sum(CAST(hashtextextended(CAST(t AS text), 0) AS numeric)) AS text)"
        return (await fetch(engine, f"SELECT count(*), count(DISTINCT id), {hashed} FROM {table} t"))[0]
    rows = await fetch(engine, f"SELECT * FROM {table} ORDER BY id")
    return len(rows), len({row[0] for row in rows}), hashlib.sha256(repr(rows).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Clean:
    """A load that nothing disturbed: its contents, and the seconds that it took once it had begun to load."""

    contents: tuple[Any, ...]
    seconds: float


async def load_clean(nursery: Nursery, engine: AsyncEngine, order: Order) -> Clean:
    """Load the same rows into the table `clean`."""
    order = replace(order, table="clean", pause=0)
    async with nursery.loader(order) as loader:
        await loader.loading()
        before = time.perf_counter()
        assert_loaded(await loader.ended(), order, loaded=order.rows)
        seconds = time.perf_counter() - before
    clean = Clean(await contents(engine, "clean"), seconds)
    assert clean.contents[:2] == (order.rows, order.rows)
    return clean


def assert_loaded(ending: Ending, order: Order, loaded: int | None = None) -> None:
    """All rows are there, and so many of them are new."""
    assert ending.what == "loaded", ending
    assert ending.loaded + ending.already_loaded == order.rows, ending
    assert loaded in {None, ending.loaded}, ending


async def assert_exact(engine: AsyncEngine, order: Order, clean: Clean) -> None:
    """The table is as after the clean load, and the ledger says so."""
    assert await contents(engine, order.table) == clean.contents
    entered = "SELECT state, chunks, rows, loaded FROM dataloader_loads WHERE target LIKE :target"
    entry = ("finished", CHUNKS, order.rows, order.rows)
    assert await fetch(engine, entered, target=f"%{order.table}") == [entry]


async def killed_until_done(nursery: Nursery, order: Order, moments: random.Random, seconds: float, most: int) -> int:
    """Kill a load at random moments and go on with it until it is done; how many kills hit it before its end."""
    kills = 0
    while True:
        async with nursery.loader(order) as loader:
            await loader.loading()
            if kills == most or await loader.has_ended_within(moments.uniform(0, seconds)):
                assert_loaded(await loader.ended(), order)
                return kills
            kills += await loader.kill()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_load_that_is_killed_and_resumed_until_it_is_done_is_exact(
    nursery: Nursery, database: AsyncEngine, seed: int
) -> None:
    moments = random.Random(seed)
    clean = await load_clean(nursery, database, order_for(database, "clean"))
    left, number = CLIENT_KILLS[database.dialect.name], 0
    while left:
        order = varied(order_for(database, f"orders_{number}"), moments)
        left -= await killed_until_done(nursery, order, moments, clean.seconds, left)
        await assert_exact(database, order, clean)
        await execute(database, f"DROP TABLE {order.table}")
        number += 1


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_load_with_a_name_in_one_transaction_is_there_as_a_whole_or_not_at_all(
    nursery: Nursery, database: AsyncEngine, seed: int
) -> None:
    """However often it is killed, and whenever: the ledger knows it from the moment on that its rows are there.

    At chosen moments in `test_killed_whole_loads`, so that here half of the kills are enough.
    """
    moments = random.Random(seed)
    rows = ROWS // 4
    options = {"resume": True, "commit": "auto"}
    order = replace(order_for(database, "orders"), rows=rows, chunk_rows=rows // 10, loader="dataframe")
    clean = await load_clean(nursery, database, order)
    left, number = CLIENT_KILLS[database.dialect.name] // 2, 0
    while left > 0:
        number += 1
        await execute(database, TABLE)
        order = replace(order, options={**options, "load_id": f"whole {number}"})
        for _ in range(MOST_KILLS):
            async with nursery.loader(order) as loader:
                await loader.loading()
                if await loader.has_ended_within(moments.uniform(0, clean.seconds * 1.2)):
                    break
                left -= await loader.kill()
            assert await seen_at_once(database, order) in {(0, 0, 0, 0), (rows, rows, 1, 1)}
        async with nursery.loader(order) as loader:
            ending = await loader.ended()
        assert_loaded(ending, order)
        assert await contents(database, "orders") == clean.contents
        await execute(database, "DROP TABLE orders")


async def seen_at_once(engine: AsyncEngine, order: Order) -> tuple[int, ...]:
    """How many rows and ids there are, and loads of that name, finished ones and all.

    In one statement: the server may still commit what a process has sent that is gone.
    """
    loads = "SELECT count(*) FROM dataloader_loads WHERE load_id = :load_id"
    finished = f"{loads} AND state = 'finished' AND chunks = 10 AND loaded = :rows"
    rows = "SELECT count(*) FROM orders), (SELECT count(DISTINCT id) FROM orders"
    query = f"SELECT ({rows}), ({finished}), ({loads})"
    return tuple((await fetch(engine, query, load_id=order.options["load_id"], rows=order.rows))[0])


@pytest.mark.parametrize("resume", [True, None])
async def test_of_two_processes_with_one_name_and_one_transaction_one_loads(
    nursery: Nursery, database: AsyncEngine, resume: bool | None
) -> None:
    moments = random.Random(1)
    rows = ROWS // 4
    await execute(database, TABLE)
    for number in range(3):
        options = {"resume": resume, "commit": "auto", "load_id": f"at once {number}"}
        order = replace(order_for(database, "orders"), rows=rows, loader="dataframe", options=options)
        async with nursery.loader(order) as first, nursery.loader(order) as second:
            await asyncio.sleep(moments.uniform(0, 0.02))
            endings = await first.ended(), await second.ended()
        assert_one_was_told(*endings, order, finished=True)
        counted = await fetch(database, "SELECT count(*), count(DISTINCT id) FROM orders")
        assert counted == [(rows * (number + 1), rows)]


def kill_server(server: embedded.Server) -> None:
    """SIGKILL all its processes, the first of which is stopped before so that it starts no more."""
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
    postmaster.suspend()
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


class OwnServer:
    """A server of a test's own, which keeps what it has committed when it is killed."""

    def __init__(self, folder: Path) -> None:
        self._start = functools.partial(embedded.start, folder / "pg", embedded.find_binaries())
        self._server = self._start()
        self.engine = open_engine(self._server.url)

    async def kill_and_start(self) -> None:
        await asyncio.to_thread(kill_server, self._server)
        await asyncio.to_thread(self._start)


@pytest.fixture
async def own_server(server_folder: Path) -> AsyncIterator[OwnServer]:
    own = OwnServer(server_folder)
    assert await fetch(own.engine, "SHOW fsync") == [("on",)]
    yield own
    await own.engine.dispose()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_load_goes_on_by_itself_when_its_server_is_killed_and_started_again(
    nursery: Nursery, own_server: OwnServer, seed: int
) -> None:
    moments = random.Random(seed)
    clean = await load_clean(nursery, own_server.engine, order_for(own_server.engine, "clean"))
    left, number = SERVER_KILLS, 0
    while left:
        order = order_for(own_server.engine, f"orders_{number}")
        async with nursery.loader(order) as loader:
            await loader.loading()
            while left and not await loader.has_ended_within(moments.uniform(0, clean.seconds)):
                await own_server.kill_and_start()
                left -= 1
            assert_loaded(await loader.ended(), order, loaded=ROWS)
        await assert_exact(own_server.engine, order, clean)
        number += 1


def end_backend(engine: AsyncEngine, pid: int) -> None:
    """Have the server end a connection, and return when its goodbye and its end are on their way."""
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)


@pytest.mark.parametrize("turns", range(5) if FULL else (0, 2, 4))
@pytest.mark.parametrize("statement", ["INSERT INTO .*dataloader_chunks", "UPDATE .*dataloader_loads"])
async def test_a_connection_that_the_server_ends_between_two_statements_is_replaced(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch, statement: str, turns: int
) -> None:
    """After so many turns of the loop asyncpg has read nothing, the goodbye, or the end too: each fails differently."""
    order = replace(order_for(postgres, "orders"), rows=5_000, chunk_rows=100)
    send, ended = PreparedStatement.fetch, list[str]()

    async def send_later(self: Any, *values: Any, **options: Any) -> Any:
        if not ended and re.search(statement, self.get_query(), re.DOTALL):
            ended.append(self.get_query())
            end_backend(postgres, self._connection.get_server_pid())
            for _ in range(turns):
                await asyncio.sleep(0)
        return await send(self, *values, **options)

    monkeypatch.setattr(PreparedStatement, "fetch", send_later)
    options = {**order.options, "commit": "chunk", "chunk_rows": order.chunk_rows}
    report = await dl.load_batches(batches(order), "orders", engine=postgres, **options)
    assert ended, "the load sent no such statement"
    assert report.loaded == order.rows
    assert (await contents(postgres, "orders"))[:2] == (order.rows, order.rows)


async def came_after(engine: AsyncEngine) -> bool:
    """Whether two loads did not meet, on a machine that was too busy: the ledger is then emptied for another try."""
    query = "SELECT started_at, last_commit_at FROM dataloader_loads ORDER BY started_at"
    loads = await fetch(engine, query)
    if len(loads) < 2 or loads[1][0] < loads[0][1]:
        return False
    await execute(engine, "DELETE FROM dataloader_chunks", "DELETE FROM dataloader_loads")
    return True


def assert_one_was_told(one: Ending, other: Ending, order: Order, *, finished: bool = False) -> None:
    """Of two that were to load the same, one did, and the other was told who does, or that it is done."""
    winner, told = (one, other) if one.loaded else (other, one)
    assert_loaded(winner, order, loaded=order.rows)
    if told.what == "loaded":
        assert order.options["resume"] is True
        assert_loaded(told, order, loaded=0)
    else:
        assert told.what == "CheckpointError", told
        assert (" is finished" if finished else f"process {winner.pid} ") in told.text


@pytest.mark.parametrize("race", RACES)
@pytest.mark.parametrize("resume", [True, None])
@pytest.mark.parametrize("start", ["together", "in the middle"])
@pytest.mark.parametrize("database", KINDS_THAT_RACE, indirect=True)
async def test_of_two_processes_that_load_the_same_one_does(
    nursery: Nursery, database: AsyncEngine, start: str, resume: bool | None, race: int
) -> None:
    moments = random.Random(race)
    order = replace(order_for(database, "orders", resume=resume), **UNHURRIED)
    for pause in PAUSES:
        order = replace(order, pause=pause)
        await execute(database, "DROP TABLE IF EXISTS orders", TABLE)
        async with nursery.loader(order) as first:
            if start == "in the middle":
                await first.loading()
            await asyncio.sleep(moments.uniform(0, 0.02 if start == "together" else 0.5))
            async with nursery.loader(order) as second:
                endings = await first.ended(), await second.ended()
        if not await came_after(database):
            break
    assert_one_was_told(*endings, order)
    await assert_exact(database, order, await load_clean(nursery, database, order))


@pytest.mark.parametrize("race", RACES)
async def test_of_two_processes_that_would_both_make_the_table_one_does(
    nursery: Nursery, database: AsyncEngine, race: int
) -> None:
    moments = random.Random(race)
    order = replace(order_for(database, "orders"), **UNHURRIED)
    for pause in PAUSES:
        order = replace(order, pause=pause)
        await execute(database, "DROP TABLE IF EXISTS orders")
        async with nursery.loader(order) as first:
            await asyncio.sleep(moments.uniform(0, 0.02))
            async with nursery.loader(order) as second:
                endings = await first.ended(), await second.ended()
        if not await came_after(database):
            break
    assert_one_was_told(*endings, order)
    await assert_exact(database, order, await load_clean(nursery, database, order))


IN_TRANSACTION = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL
    AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""


async def freeze_between_chunks(loader: LoaderProcess, database: AsyncEngine) -> None:
    """In a transaction it would keep others waiting for its locks, until their limit of two minutes."""
    await loader.freeze()
    while await fetch(database, IN_TRANSACTION) != [(0,)]:
        loader.thaw()
        await asyncio.sleep(0.01)
        await loader.freeze()


@pytest.mark.serial
@pytest.mark.parametrize("race", RACES)
async def test_a_frozen_process_keeps_its_load_until_it_is_killed(
    nursery: Nursery, postgres: AsyncEngine, race: int
) -> None:
    moments = random.Random(race)
    order = replace(order_for(postgres, "orders"), **UNHURRIED)
    async with nursery.loader(order) as frozen:
        await frozen.loading()
        await asyncio.sleep(moments.uniform(0.2, 0.5))
        await freeze_between_chunks(frozen, postgres)
        for resume in (True, None, False):
            async with nursery.loader(replace(order, options={**order.options, "resume": resume})) as refused:
                ending = await refused.ended()
            assert ending.what == "CheckpointError", ending
            assert f"process {frozen.pid} " in ending.text
        assert await frozen.kill(), "the load had ended before it was frozen"
    before = time.perf_counter()
    async with nursery.loader(replace(order, pause=0)) as heir:
        ending = await heir.ended()
    assert time.perf_counter() - before < AT_ONCE_SECONDS
    assert_loaded(ending, order)
    assert 0 < ending.already_loaded < order.rows
    await assert_exact(postgres, order, await load_clean(nursery, postgres, order))


async def test_a_killed_process_that_nobody_has_buried_gives_its_load_up(postgres: AsyncEngine) -> None:
    order = replace(order_for(postgres, "orders"), **UNHURRIED)
    with open_nursery(buries=False) as leaving:
        async with leaving.loader(order) as killed:
            await killed.loading()
            assert await killed.kill()
            assert psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE
            async with leaving.loader(replace(order, pause=0)) as heir:
                assert_loaded(await heir.ended(), order)


HELD_COMMIT = (
    TABLE,
    "CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 "
    "AS $$BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END$$",
    "CREATE CONSTRAINT TRIGGER held AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED "
    f"FOR EACH ROW WHEN (NEW.id = {ROWS // 8}) EXECUTE FUNCTION held()",
)
"""One chunk in the middle of an unhurried load is in its commit until a lock is given up."""
COMMITTING = """SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'COMMIT%' AND wait_event = 'advisory'"""


class HeldCommit:
    """Keeps the lock for which the commit waits, until it is released."""

    def __init__(self, engine: AsyncEngine) -> None:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._keeper = psycopg.connect(url, autocommit=True)
        self._keeper.execute("SELECT pg_advisory_lock(1)")

    def close(self) -> None:
        self._keeper.close()

    def is_reached(self) -> bool:
        return self._keeper.execute(COMMITTING).fetchone() is not None

    def release(self) -> None:
        """Let the commit go on, and wait for its end."""
        self._keeper.execute("SELECT pg_advisory_unlock(1)")
        while self.is_reached():
            time.sleep(0.001)


@pytest.fixture
async def held_commit(nursery: Nursery, postgres: AsyncEngine) -> AsyncIterator[tuple[Order, HeldCommit]]:
    """An order whose process was killed during a commit: the server carries on with it, and its client is gone."""
    await execute(postgres, *HELD_COMMIT)
    order = replace(order_for(postgres, "orders"), **UNHURRIED)
    with contextlib.closing(HeldCommit(postgres)) as commit:
        async with nursery.loader(order) as loader:
            await until(commit.is_reached)
            assert await loader.kill()
        assert commit.is_reached()
        yield replace(order, pause=0), commit


async def test_a_commit_that_outlives_its_process_counts_once(
    nursery: Nursery, postgres: AsyncEngine, held_commit: tuple[Order, HeldCommit]
) -> None:
    order, commit = held_commit
    async with nursery.loader(order) as heir:
        await asyncio.sleep(0.5)
        commit.release()
        assert_loaded(await heir.ended(), order)
    await assert_exact(postgres, order, await load_clean(nursery, postgres, order))


async def test_a_commit_that_outlives_its_process_may_end_while_the_ledger_is_read(
    nursery: Nursery, postgres: AsyncEngine, held_commit: tuple[Order, HeldCommit]
) -> None:
    """Not between the load's totals and its chunks, which would be taken for edited: the reader waits for it."""
    order, commit = held_commit

    def release(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if re.search(r"SELECT.*FROM \S*dataloader_chunks", statement, re.DOTALL):
            commit.release()

    sa.event.listen(postgres.sync_engine, "before_cursor_execute", release)
    waiting = asyncio.get_running_loop().call_later(1, commit.release)
    options = {**order.options, "commit": "chunk", "chunk_rows": order.chunk_rows}
    report = await dl.load_batches(batches(order), "orders", engine=postgres, **options)
    waiting.cancel()
    assert report.loaded + report.already_loaded == order.rows
    await assert_exact(postgres, order, await load_clean(nursery, postgres, order))
