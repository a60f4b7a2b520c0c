"""Reads inside the caller's own transaction, commands that are no queries, and limits of time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

import dataloader as dl
from tests.conftest import execute, fetch

SHOWN = (
    "transaction_read_only",
    "statement_timeout",
    "datestyle",
    "client_encoding",
    "client_connection_check_interval",
)


async def arrow(query: str, **options: Any) -> pa.Table:
    return await dl.read_dataframe(query, as_="arrow", **options)


async def settings(connection: AsyncConnection) -> list[Any]:
    return [(await connection.execute(sa.text(f"SHOW {name}"))).scalar_one() for name in SHOWN]


async def test_a_read_sees_what_its_transaction_has_written(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.text("CREATE TEMPORARY TABLE mine (a integer)"))
        await connection.execute(sa.text("INSERT INTO mine VALUES (1), (2)"))
        assert (await dl.read_dataframe("mine", connection=connection))["a"].tolist() == [1, 2]
        assert [b.num_rows async for b in dl.read_batches("SELECT a FROM mine", connection=connection)] == [2]
        await connection.execute(sa.text("INSERT INTO mine VALUES (3)"))
        assert (await dl.read_dataframe("mine", connection=connection, max_rows=3))["a"].tolist() == [1, 2, 3]


async def test_a_session_of_the_orm_reads_its_own_rows(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (a integer)")
    async with AsyncSession(database) as session:
        await session.execute(sa.text("INSERT INTO t VALUES (7)"))
        assert (await dl.read_dataframe("t", connection=session))["a"].tolist() == [7]
    assert await fetch(database, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("query", ["SELECT a FROM mine", "SELECT nonsense", "SELECT nextval('s')"])
async def test_the_transaction_is_afterwards_as_it_was(postgres: AsyncEngine, query: str) -> None:
    await execute(postgres, "CREATE SEQUENCE s", "CREATE TABLE mine (a integer)")
    async with postgres.connect() as connection:
        await connection.execute(sa.text("INSERT INTO mine VALUES (1)"))
        before = await settings(connection)
        with contextlib.suppress(dl.ReadError):
            await dl.read_dataframe(query, connection=connection, statement_timeout=9)
        assert await settings(connection) == before
        await connection.execute(sa.text("INSERT INTO mine VALUES (2)"))
        await connection.commit()
    assert await fetch(postgres, "SELECT count(*) FROM mine") == [(2,)]


async def test_a_cancelled_read_leaves_the_transaction_usable(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (a integer)")
    async with postgres.begin() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        task = asyncio.create_task(dl.read_dataframe("SELECT pg_sleep(60)", connection=connection))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await connection.execute(sa.text("INSERT INTO t VALUES (2)"))
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(2,)]


async def test_a_connection_is_refused_beside_an_engine(sqlite: AsyncEngine) -> None:
    async with sqlite.connect() as connection:
        with pytest.raises(dl.PlanError, match="both engine= and connection="):
            await dl.read_dataframe("SELECT 1", engine=sqlite, connection=connection)
    with pytest.raises(dl.PlanError, match="must be an AsyncConnection"):
        await dl.read_dataframe("SELECT 1", connection=7)  # type: ignore[arg-type]


COMMANDS = {
    "EXPLAIN SELECT 1": "QUERY PLAN",
    "-- why?\nexplain (format json) SELECT 1": "QUERY PLAN",
    "SHOW search_path": "search_path",
    "VALUES (1, 'a'), (2, 'b')": "column1",
    "TABLE pg_database": "oid",
    "(SELECT 1 AS n) UNION ALL (SELECT 2)": "n",
}


@pytest.mark.parametrize(("query", "column"), COMMANDS.items())
async def test_what_has_rows_and_is_no_select_is_read(postgres: AsyncEngine, query: str, column: str) -> None:
    table = await arrow(query, engine=postgres)
    assert table.schema.names[0] == column
    assert table.num_rows


async def test_a_command_takes_parameters_and_a_choice_of_rows(postgres: AsyncEngine) -> None:
    query = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT n FROM generate_series(1, 9) AS n WHERE n = $1 ORDER BY n"
    plan = (await dl.read_dataframe(query, [7], engine=postgres))["QUERY PLAN"]
    assert any("7" in line for line in plan)
    assert (await arrow("EXPLAIN SELECT 1 ORDER BY 1", engine=postgres, max_rows=1)).num_rows == 1
    await arrow("EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1", engine=postgres)
    assert await fetch(postgres, "SELECT to_regclass('x')") == [(None,)]


async def test_a_cursor_of_the_caller_is_read_on(postgres: AsyncEngine) -> None:
    async with postgres.begin() as connection:
        await connection.execute(sa.text("DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 9) AS n"))
        assert (await dl.read_dataframe("FETCH 4 FROM c", connection=connection))["n"].tolist() == [1, 2, 3, 4]


async def test_statement_timeout_ends_a_query_and_says_so(postgres: AsyncEngine) -> None:
    began = time.perf_counter()
    with pytest.raises(dl.ReadError, match="raise statement_timeout") as caught:
        await dl.read_dataframe("SELECT pg_sleep(60)", engine=postgres, statement_timeout=0.3)
    assert (caught.value.sqlstate, time.perf_counter() - began < 5) == ("57014", True)
    assert (await dl.read_dataframe("SHOW statement_timeout", engine=postgres)).iat[0, 0] == "0"


async def test_a_limit_that_is_none_or_not_known_is_refused(sqlite: AsyncEngine, postgres: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="is for PostgreSQL, and this is SQLite"):
        await dl.read_dataframe("SELECT 1", engine=sqlite, statement_timeout=1)
    for bad in (0, -1, float("inf"), "1"):
        with pytest.raises(dl.PlanError, match="no number of seconds"):
            await dl.read_dataframe("SELECT 1", engine=postgres, statement_timeout=bad)  # type: ignore[arg-type]
