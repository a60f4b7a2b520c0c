"""Loads through pgbouncer: nothing may depend on the server's session, which is another one in the next transaction."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.copying.pipe import REASON
from dataloader.database import embedded
from dataloader.database import engine as engines
from tests.conftest import enterable_folder, execute, fetch
from tests.database.conftest import free_port
from tests.faults.loads import by_method, slow_trigger, until_idle
from tests.faults.processes import Nursery, Order, open_nursery

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

NO_PGBOUNCER = "the tests of poolers need pgbouncer: apt-get install pgbouncer"
ROWS, CHUNK_ROWS = 2_000, 100
CONTENT = "SELECT count(*), count(DISTINCT id), sum(id), count(note) FROM orders"
WRITING = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query LIKE :query AND pid <> pg_backend_pid()"""


def find_pgbouncer() -> str:
    """The program; without one CI fails, and a newcomer's tests go on without these."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NO_PGBOUNCER)
    return str(found)


@pytest.fixture(scope="module", params=["transaction", "session"])
def pooler(request: pytest.FixtureRequest, server: embedded.Server) -> Iterator[int]:
    """The port of a pgbouncer before the server; each transaction goes to the next of its connections."""
    program, port = find_pgbouncer(), free_port()
    with enterable_folder() as folder:
        (folder / "users.txt").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.url.query['host']} port=5432\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder / 'users.txt'}\npool_mode = {request.param}\n"
            "default_pool_size = 8\nserver_round_robin = 1\n"
        )
        with subprocess.Popen(
            [program, "-q", folder / "pgbouncer.ini"], cwd=folder, stderr=subprocess.PIPE, **server.account
        ) as running:
            until_it_listens(port)
            yield port
            running.terminate()


def until_it_listens(port: int) -> None:
    for _ in range(1_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("pgbouncer does not listen")


@pytest.fixture
async def pooled(pooler: int, postgres_url: sa.URL, postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine behind pgbouncer, to a database with an empty table."""
    await execute(postgres, "CREATE TABLE orders (id bigint PRIMARY KEY, note text)")
    engine = engines.open_engine(postgres_url.set(host="127.0.0.1", port=pooler, query={}))
    connections = [await engine.connect() for _ in range(4)]
    for connection in connections:
        await connection.execute(sa.text("SELECT 1"))  # pgbouncer has as many connections as it once had transactions
    for connection in connections:
        await connection.close()
    yield engine
    await engine.dispose()


def orders(rows: int = ROWS) -> pa.Table:
    return pa.table({"id": pa.array(range(rows)), "note": pa.array(["x" * 400] * rows)})


async def load(engine: AsyncEngine, **options: Any) -> dl.LoadReport:
    given: dict[str, Any] = {"commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": 2, **options}
    return await dl.load_dataframe(orders(), "orders", engine=engine, **given)


async def assert_exact(postgres: AsyncEngine, report: dl.LoadReport) -> None:
    assert report.loaded + report.already_loaded == ROWS
    assert await fetch(postgres, CONTENT) == [(ROWS, ROWS, ROWS * (ROWS - 1) // 2, ROWS)]


async def until_committed(postgres: AsyncEngine, rows: int) -> None:
    for _ in range(2_000):
        if await fetch(postgres, "SELECT count(*) >= :rows FROM orders", rows=rows) == [(True,)]:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"no {rows} rows were committed")


@by_method
async def test_a_load_passes_a_pooler(method: str, pooled: AsyncEngine, postgres: AsyncEngine) -> None:
    """By chunks, and in one transaction."""
    await assert_exact(postgres, await load(pooled, method=method))
    for if_exists in ("truncate", "replace"):
        report = await load(pooled, method=method, commit="load", if_exists=if_exists)
        await assert_exact(postgres, report)
    assert pooled.pool.checkedout() == 0  # type: ignore[attr-defined]
    await until_idle(postgres)
    assert "through a pooler" in str(await dl.plan_load(orders(), "orders", engine=pooled))
    assert "pooler" not in str(await dl.plan_load(orders(), "orders", engine=postgres))


async def test_a_plain_engine_behind_a_pooler_is_explained(request: pytest.FixtureRequest, pooled: AsyncEngine) -> None:
    """asyncpg prepares statements by name, which pgbouncer hands to a server's session that does not know them."""
    plain = create_async_engine(pooled.url.set(drivername="postgresql+asyncpg"), pool_size=4)
    found = []
    for _ in range(20):
        try:
            async with plain.connect() as one, plain.connect() as other:
                for connection in (one, other):
                    await connection.execute(sa.text("SELECT 1"))
        except sa.exc.DBAPIError as error:
            found.append(dl.explain(error))
    await plain.dispose()
    assert bool(found) == (request.node.callspec.params["pooler"] == "transaction")
    for said in found:
        assert said.sqlstate in {"26000", "42P05"}
        assert "prepared statement" in said.cause
        assert "connect(url)" in said.remedy


async def test_a_check_sees_the_pooler(pooled: AsyncEngine, postgres: AsyncEngine) -> None:
    plain = create_async_engine(pooled.url.set(drivername="postgresql+asyncpg"))
    levels = {}
    for name, engine in {"ours": pooled, "plain": plain, "direct": postgres}.items():
        report = await dl.check(engine)
        levels[name] = next(one.level for one in report.findings if one.topic == "pooler")
    await plain.dispose()
    assert levels == {"ours": "note", "plain": "problem", "direct": "ok"}


async def test_types_that_the_driver_has_to_ask_for_pass_a_pooler(pooled: AsyncEngine, postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE DOMAIN small AS int CHECK (VALUE < 100)",
        "CREATE TABLE kinds (m mood, ms mood[], s small, j jsonb, d numeric, t timestamptz, k bigint)",
        "CREATE TABLE parents (k bigint PRIMARY KEY)",
        "ALTER TABLE kinds ADD FOREIGN KEY (k) REFERENCES parents",
        "INSERT INTO parents VALUES (1)",
    )
    row = {"m": "sad", "s": 1, "j": {"a": 1}, "d": "1.5", "t": "2024-01-01T00:00:00Z", "k": 1}
    rows = [row, row | {"m": "mad"}, row | {"s": 200}, row | {"k": 2}, row]
    for method in ("copy", "insert"):
        report = await dl.load_rows(rows, "kinds", engine=pooled, method=method, on_invalid="reject")
        assert (report.loaded, report.rejected) == (2, 3)
    await dl.validate({"m": ["sad"], "k": [1]}, "kinds", engine=pooled)


@by_method
async def test_a_cancelled_load_behind_a_pooler_settles_and_is_resumed(
    method: str, pooled: AsyncEngine, postgres: AsyncEngine
) -> None:
    await execute(postgres, *slow_trigger(every=50, seconds=0.01))
    for rows in (3 * CHUNK_ROWS, 8 * CHUNK_ROWS):
        loading = asyncio.create_task(load(pooled, method=method, resume=True))
        await until_committed(postgres, rows)
        loading.cancel()
        await asyncio.wait({loading}, timeout=20)
        assert loading.cancelled()
        assert pooled.pool.checkedout() == 0  # type: ignore[attr-defined]
        await until_idle(postgres)
    report = await load(pooled, method=method, resume=True)
    assert report.already_loaded >= 8 * CHUNK_ROWS
    await assert_exact(postgres, report)


@by_method
async def test_a_chunk_whose_backend_behind_the_pooler_was_terminated_is_tried_again(
    method: str, pooled: AsyncEngine, postgres: AsyncEngine
) -> None:
    await execute(postgres, *slow_trigger(every=50, seconds=0.01))
    loading, terminated = asyncio.create_task(load(pooled, method=method)), 0
    while terminated < 2 and not loading.done():
        query = {"copy": "COPY%orders%", "insert": "INSERT INTO%orders%"}[method]
        terminated += len(await fetch(postgres, WRITING, query=query))
        await asyncio.sleep(0.02)
    assert terminated
    await assert_exact(postgres, await asyncio.wait_for(loading, 60))
    assert pooled.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with open_nursery() as opened:
        yield opened


async def test_a_killed_load_behind_a_pooler_is_resumed(
    nursery: Nursery, pooled: AsyncEngine, postgres: AsyncEngine
) -> None:
    url = pooled.url.render_as_string(hide_password=False)
    order = Order(url, "orders", ROWS, CHUNK_ROWS, pause=0.01, options={"load_id": "killed", "resume": True})
    await execute(postgres, "DROP TABLE orders")
    async with nursery.loader(order) as process:
        await process.loading()
        await until_exists(postgres)
        await until_committed(postgres, 3 * CHUNK_ROWS)
        assert await process.kill()
    await until_idle(postgres)
    async with nursery.loader(order) as process:
        ending = await process.ended()
    assert (ending.what, ending.loaded + ending.already_loaded) == ("loaded", ROWS), ending.text
    assert ending.already_loaded >= 3 * CHUNK_ROWS
    assert await fetch(postgres, "SELECT count(*), count(DISTINCT id) FROM orders") == [(ROWS, ROWS)]


async def until_exists(postgres: AsyncEngine) -> None:
    for _ in range(2_000):
        if await fetch(postgres, "SELECT to_regclass('orders')") != [(None,)]:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("there is no table")


async def test_the_sessions_behind_a_pooler_are_left_as_they_were(pooled: AsyncEngine, postgres: AsyncEngine) -> None:
    """They are given to others: no setting, statement, temporary table or lock of ours may be left in them."""
    await load(pooled)
    await load(pooled, commit="load", method="insert", if_exists="truncate", on_invalid="reject")
    asking = """SELECT
        (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()),
        (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
        (SELECT count(*) FROM pg_settings WHERE source = 'session' AND setting <> reset_val AND name NOT IN
            ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"""
    async with pooled.connect() as connection:
        for _ in range(8):
            (row,) = await connection.execute(sa.text(asking))
            assert tuple(row) == (0, 0, 0, 0, 0)
            await connection.rollback()


async def test_a_callers_engine_that_names_statements_behind_a_pooler_is_told_what_to_do(
    pooler: int, pooled: AsyncEngine, request: pytest.FixtureRequest
) -> None:
    """A session keeps its statements, a transaction's next one does not know them."""
    engine, outcomes = create_async_engine(pooled.url), list[Any]()
    for number in range(8):
        loading = dl.load_dataframe({"id": [number]}, "orders", engine=engine)
        outcomes += await asyncio.gather(loading, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert bool(errors) == ("transaction" in request.node.name)
    for error in errors:
        assert isinstance(error, dl.LoadError)
        assert "prepared statement" in str(error)
        assert "Behind a pooler use an engine of connect(url)" in str(error)
    await engine.dispose()


async def test_an_engine_says_that_it_connects_through_a_pooler(pooled: AsyncEngine, postgres: AsyncEngine) -> None:
    assert repr(pooled).endswith(", through a pooler>")
    async with postgres.connect():
        assert "pooler" not in repr(postgres)


async def test_reads_pass_a_pooler(pooled: AsyncEngine, postgres: AsyncEngine, tmp_path: Path) -> None:
    """Its sessions go on to others, so nothing that a read sets may stay."""
    await load(pooled)
    query = "SELECT id FROM orders WHERE id < :limit ORDER BY id"
    frames = [dl.read_dataframe(query, {"limit": limit}, engine=pooled) for limit in (3, 4, 5)]
    assert [frame["id"].tolist() for frame in await asyncio.gather(*frames)] == [[0, 1, 2], [0, 1, 2, 3], [*range(5)]]
    assert (await dl.export("orders", tmp_path / "t.parquet", engine=pooled)).rows == ROWS
    for reason, options in {REASON: {}, "PostgreSQL takes": {"dtype": {"note": sa.String(400)}}}.items():
        report = await dl.copy_table("orders", "copy", source=pooled, engine=pooled, if_exists="replace", **options)
        assert (report.loaded, report.reason.startswith(reason)) == (ROWS, True)
    assert (await dl.compare(orders(), "copy", key="id", engine=pooled)).equal
    assert (await dl.load_dataframe(orders(), "checked", engine=pooled, verify=True)).verified
    endless = "SELECT n, repeat('x', 200) AS x FROM (SELECT generate_series(1, 100000000) AS n) AS t"
    copying = asyncio.create_task(dl.copy_table(endless, "endless", source=pooled, engine=pooled))
    await asyncio.sleep(0.5)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    await until_idle(postgres)
    async for _ in dl.read_batches(endless, engine=pooled):
        break
    task = asyncio.create_task(dl.read_dataframe("SELECT pg_sleep(60)", engine=pooled))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_idle(postgres)
    assert pooled.pool.checkedout() == 0  # type: ignore[attr-defined]
    settings = "SELECT current_setting('transaction_read_only'), current_setting('bytea_output')"
    assert {row for _ in range(10) for row in await fetch(pooled, settings)} == {("off", "hex")}
    assert await fetch(pooled, "SELECT current_setting('client_connection_check_interval')") == [("0",)]
