"""Locks that others hold: they are waited for, nobody waits behind the load, and who holds them is named."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import dataloader as dl
from dataloader.database import embedded, locks, watchdog
from dataloader.database.backends.postgresql import PostgreSQL
from dataloader.database.engine import open_engine
from dataloader.loading import workers
from tests.conftest import execute, fetch

pytestmark = pytest.mark.slow

DATA = {"id": [1, 2], "v": ["x", "y"]}
SELECT = "SELECT id, v FROM t WHERE v <> 'a secret' /* long enough to be cut somewhere before its very end */"
TO_BE_HAD_ALONE = ({"if_exists": "truncate"}, {"if_exists": "replace"})
BY = ({"commit": "load"}, {"commit": "chunk", "workers": 2})


@pytest.fixture
async def holder(postgres: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A session of another application, in a transaction."""
    await execute(postgres, "CREATE TABLE t (id bigint PRIMARY KEY, v text)", "INSERT INTO t VALUES (100, 'old')")
    await dl.load_dataframe({"id": [7]}, "other", engine=postgres, commit="chunk")
    engine = open_engine(postgres.url)
    async with engine.connect() as connection, connection.begin():
        await connection.execute(sa.text("SET LOCAL application_name = 'reporting'"))
        yield connection
    await engine.dispose()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is waited for is given up soon."""
    monkeypatch.setattr(locks, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(locks, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(locks, "HOLDING_SECONDS", 0.1)
    monkeypatch.setattr(workers, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(workers, "RETRY_SECONDS", 0.2)


async def pid_of(connection: AsyncConnection) -> int:
    return int((await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one())


async def loading(engine: AsyncEngine, **options: Any) -> dl.LoadReport:
    return await dl.load_dataframe(DATA, "t", engine=engine, **options)


async def refused(engine: AsyncEngine, **options: Any) -> dl.WriteError:
    with pytest.raises(dl.WriteError) as raised:
        await loading(engine, **options)
    assert raised.value.sqlstate == "55P03"
    return raised.value


def assert_names(error: dl.WriteError, pid: int, held: str) -> None:
    when = r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    who = rf"{held} is held by pid {pid} \(user \w+, application reporting, {when}, idle in transaction\): "
    assert re.search(who, error.what), error.what
    assert "pg_terminate_backend" in error.hint


@contextlib.asynccontextmanager
async def waiting(engine: AsyncEngine, **options: Any) -> AsyncIterator[asyncio.Task[dl.LoadReport]]:
    """A load that has begun to wait for a lock."""
    task = asyncio.create_task(loading(engine, **options))
    watcher = open_engine(engine.url)
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not await fetch(watcher, query):
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    yield task
    await watcher.dispose()


@pytest.mark.parametrize("options", TO_BE_HAD_ALONE, ids=str)
async def test_nobody_else_waits_behind_a_load_that_waits_for_a_reader(
    postgres: AsyncEngine, holder: AsyncConnection, options: Any
) -> None:
    await holder.execute(sa.text(SELECT))
    other = open_engine(postgres.url)
    async with waiting(postgres, **options) as task:
        for _ in range(3):
            assert await asyncio.wait_for(fetch(other, "SELECT v FROM t"), 5) == [("old",)]
        assert not task.done()
        await holder.rollback()
        assert (await task).loaded == 2
    assert await fetch(other, "SELECT v FROM t ORDER BY id") == [("x",), ("y",)]
    await other.dispose()


@pytest.mark.parametrize("options", TO_BE_HAD_ALONE, ids=str)
async def test_nobody_waits_behind_a_load_whose_source_has_nothing_yet(
    postgres: AsyncEngine, holder: AsyncConnection, options: Any
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"id": [1], "v": ["x"]})
        started.set()
        await go_on.wait()

    task = asyncio.create_task(dl.load_batches(source(), "t", engine=postgres, chunk_rows=5, **options))
    await started.wait()
    await asyncio.sleep(0.2)
    await holder.execute(sa.text("SET LOCAL lock_timeout = 5000"))
    assert (await holder.execute(sa.text("SELECT v FROM t"))).all() == [("old",)]
    await holder.rollback()
    go_on.set()
    assert (await task).loaded == 1


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("options", TO_BE_HAD_ALONE, ids=str)
async def test_a_reader_who_stays_is_named_and_the_old_rows_are_kept(
    postgres: AsyncEngine, holder: AsyncConnection, options: Any
) -> None:
    await holder.execute(sa.text(SELECT))
    error = await refused(postgres, **options)
    assert_names(error, await pid_of(holder), "public.t")
    assert await fetch(postgres, "SELECT v FROM t") == [("old",)]


@pytest.mark.usefixtures("hasty")
async def test_the_holder_s_query_is_shown_in_80_characters_without_its_literals(
    postgres: AsyncEngine, holder: AsyncConnection
) -> None:
    await holder.execute(sa.text(SELECT))
    error = await refused(postgres, if_exists="truncate")
    query = error.what.rpartition("idle in transaction): ")[2]
    assert query == SELECT.replace("a secret", "***")[:79] + "…"


HELD = {
    "the table": ("LOCK TABLE t", "public.t"),
    "the table, against writers": ("LOCK TABLE t IN SHARE MODE", "public.t"),
    "a row": ("INSERT INTO t VALUES (2, 'theirs')", "public.t"),
}
LEDGER = {
    "the ledger's loads": ("LOCK TABLE dataloader_loads", "public.dataloader_loads"),
    "the ledger's chunks": ("LOCK TABLE dataloader_chunks IN EXCLUSIVE MODE", "public.dataloader_chunks"),
    "the right to enter the ledger": (f"SELECT pg_advisory_xact_lock({locks.ENTERING})", "the ledger"),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("options", [*BY, {"commit": "load", "on_invalid": "reject"}], ids=str)
@pytest.mark.parametrize(("statement", "held"), HELD.values(), ids=HELD)
async def test_who_holds_what_an_appending_load_waits_for_is_named(
    postgres: AsyncEngine, holder: AsyncConnection, options: Any, statement: str, held: str
) -> None:
    await holder.execute(sa.text(statement))
    error = await refused(postgres, **options)
    assert_names(error, await pid_of(holder), held)
    assert postgres.pool.checkedout() == 0
    await holder.rollback()
    assert (await loading(postgres, **options)).loaded == 2


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("options", BY[1:], ids=str)
@pytest.mark.parametrize(("statement", "held"), LEDGER.values(), ids=LEDGER)
async def test_who_holds_the_ledger_is_named(
    postgres: AsyncEngine, holder: AsyncConnection, options: Any, statement: str, held: str
) -> None:
    await holder.execute(sa.text(statement))
    assert_names(await refused(postgres, **options), await pid_of(holder), held)
    await holder.rollback()
    assert (await loading(postgres, **options)).loaded == 2


@pytest.mark.usefixtures("hasty")
async def test_who_holds_a_partition_is_named(postgres: AsyncEngine, holder: AsyncConnection) -> None:
    await execute(
        postgres,
        "DROP TABLE t",
        "CREATE TABLE t (id bigint, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF t FOR VALUES FROM (0) TO (1000)",
    )
    await holder.execute(sa.text("LOCK TABLE ONLY part"))
    for options in ({"if_exists": "truncate"}, *BY):
        assert_names(await refused(postgres, **options), await pid_of(holder), "public.part")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("options", [*BY, {"if_exists": "truncate"}], ids=str)
async def test_who_holds_a_row_that_the_new_rows_refer_to_is_named(
    postgres: AsyncEngine, holder: AsyncConnection, options: Any
) -> None:
    await execute(
        postgres,
        "CREATE TABLE parents (id bigint PRIMARY KEY)",
        "INSERT INTO parents VALUES (1), (2)",
        "ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES parents NOT VALID",
    )
    await holder.execute(sa.text("SELECT * FROM parents FOR UPDATE"))
    assert_names(await refused(postgres, **options), await pid_of(holder), "public.parents")


@pytest.mark.usefixtures("hasty")
async def test_a_prepared_transaction_that_was_left_over_is_named(server_folder: Path) -> None:
    settings = embedded.FAST_AND_LOOSE | {"max_prepared_transactions": "1"}
    engine = open_engine(embedded.start(server_folder / "pg", embedded.find_binaries(), settings).url)
    await execute(engine, "CREATE TABLE t (id bigint, v text)")
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in ("BEGIN", "LOCK TABLE t", "PREPARE TRANSACTION 'left over'"):
            await connection.exec_driver_sql(statement)
    error = await refused(engine)
    assert re.search(r"public\.t is held by the prepared transaction 'left over' \(since \d{4}-.* UTC\)", error.what)
    assert "ROLLBACK PREPARED" in error.hint
    await engine.dispose()


@pytest.mark.usefixtures("hasty")
async def test_a_lock_whose_holder_is_not_known_is_still_said_to_be_held(
    postgres: AsyncEngine, holder: AsyncConnection
) -> None:
    """A trigger of the table waits for something that only it knows."""
    await execute(
        postgres,
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(5); RETURN NEW; END'",
        "CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    )
    await holder.execute(sa.text("SELECT pg_advisory_xact_lock(5)"))
    assert "public.t is held by another session" in (await refused(postgres)).what


async def test_a_load_that_waits_for_a_lock_is_not_taken_for_a_stalled_server(
    postgres: AsyncEngine, holder: AsyncConnection, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LIMIT_SECONDS", 1.2)
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.6)
    await holder.execute(sa.text(SELECT))
    assert "is held by pid" in (await refused(postgres, if_exists="truncate")).what


@pytest.mark.parametrize("options", [*TO_BE_HAD_ALONE, *BY], ids=str)
async def test_a_load_that_is_cancelled_while_it_waits_for_a_lock_leaves_nothing(
    postgres: AsyncEngine, holder: AsyncConnection, options: Any
) -> None:
    await holder.execute(sa.text("LOCK TABLE t"))
    async with waiting(postgres, **options) as task:
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()
    assert postgres.pool.checkedout() == 0
    locked = "SELECT 1 FROM pg_locks WHERE relation = CAST('t' AS regclass) AND pid <> pg_backend_pid()"
    assert (await holder.execute(sa.text(locked))).all() == []
    await holder.rollback()
    assert (await loading(postgres, **options)).loaded == 2


async def test_a_cancel_is_heard_while_the_commit_would_wait_for_a_row(
    postgres: AsyncEngine, holder: AsyncConnection
) -> None:
    """A deferred foreign key is checked at the end."""
    await execute(
        postgres,
        "CREATE TABLE parents (id bigint PRIMARY KEY)",
        "INSERT INTO parents VALUES (1), (2)",
        "ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES parents DEFERRABLE INITIALLY DEFERRED NOT VALID",
    )
    await holder.execute(sa.text("SELECT * FROM parents FOR UPDATE"))
    async with waiting(postgres) as task:
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()
    assert await fetch(postgres, "SELECT id FROM t") == [(100,)]


async def test_a_plan_and_a_validation_wait_for_no_lock_for_ever(
    postgres: AsyncEngine, holder: AsyncConnection, hasty: None
) -> None:
    await holder.execute(sa.text("LOCK TABLE t"))
    assert (await dl.plan_load(DATA, "t", engine=postgres)).columns
    with pytest.raises(dl.WriteError, match=r"public\.t is held by pid"):
        await dl.validate(DATA, "t", engine=postgres, unique=True)


@pytest.mark.parametrize("options", BY, ids=str)
async def test_loads_that_create_one_table_at_once_all_succeed(postgres: AsyncEngine, options: Any) -> None:
    for name in ("one", "two"):
        sources = [{"id": [number, number]} for number in range(4)]
        await asyncio.gather(*(dl.load_dataframe(source, name, engine=postgres, **options) for source in sources))
        assert await fetch(postgres, f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(8, 4)]


async def test_a_table_whose_type_another_session_commits_first_is_joined(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server looks for the table and then for its type; no lock can be held in between, so a type stands in."""
    await execute(postgres, "CREATE TYPE new AS ENUM ('a')")
    execute_ddl = PostgreSQL.execute_ddl

    async def and_then_the_table(*arguments: Any) -> None:
        try:
            await execute_ddl(*arguments)
        except sa.exc.DBAPIError:
            await execute(postgres, "DROP TYPE IF EXISTS new", "CREATE TABLE new (id bigint, v text)")
            raise

    monkeypatch.setattr(PostgreSQL, "execute_ddl", and_then_the_table)
    assert (await dl.load_dataframe(DATA, "new", engine=postgres)).loaded == 2


async def test_a_type_with_the_name_of_the_table_is_said_to_be_in_the_way(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TYPE new AS ENUM ('a')")
    with pytest.raises(dl.WriteError, match=r'type "new" already exists.*Drop what has that name'):
        await dl.load_dataframe(DATA, "new", engine=postgres)


async def test_a_table_that_another_session_is_creating_is_joined_when_it_is_there(
    postgres: AsyncEngine, holder: AsyncConnection
) -> None:
    await holder.execute(sa.text("CREATE TABLE new (id bigint, v text)"))
    task = asyncio.create_task(dl.load_dataframe(DATA, "new", engine=postgres))
    await asyncio.sleep(0.2)
    assert not task.done()
    await holder.commit()
    assert (await task).loaded == 2


async def test_a_table_that_appears_meanwhile_is_refused_in_words_where_it_must_not_exist(
    postgres: AsyncEngine, holder: AsyncConnection
) -> None:
    await holder.execute(sa.text("CREATE TABLE new (id bigint, v text)"))
    task = asyncio.create_task(dl.load_dataframe(DATA, "new", engine=postgres, if_exists="fail"))
    await asyncio.sleep(0.2)
    await holder.commit()
    with pytest.raises(dl.WriteError, match=r"already exists|being created") as raised:
        await task
    assert "Another session created the table meanwhile" in raised.value.hint
    assert "pg_type" not in str(raised.value)


@pytest.mark.parametrize("if_exists", ["replace", "truncate"])
async def test_of_loads_that_make_one_table_at_once_each_succeeds_or_says_so(
    postgres: AsyncEngine, if_exists: Any
) -> None:
    options: Any = {"engine": postgres, "if_exists": if_exists}
    loads = [dl.load_dataframe({"id": [number] * 2}, "t", **options) for number in range(4)]
    outcomes = await asyncio.gather(*loads, return_exceptions=True)
    refusals = [one for one in outcomes if not isinstance(one, dl.LoadReport)]
    assert len(refusals) < len(outcomes)
    assert all("Another session created the table meanwhile" in str(one) for one in refusals), refusals
    assert await fetch(postgres, "SELECT count(*), count(DISTINCT id) FROM t") == [(2, 1)]
