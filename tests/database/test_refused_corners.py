"""What few databases, drivers and tables refuse: each is said with its place, and nothing is written."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import getpass
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import pg8000
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database.backends import backend_for
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch
from tests.database.test_checks import analyst  # noqa: F401 - a fixture

pytestmark = pytest.mark.any_version

ROWS = [(1, "a"), (2, "b")]


@pytest.fixture
async def table(database: AsyncEngine) -> AsyncEngine:
    await execute(database, "CREATE TABLE t (id bigint PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    return database


async def untouched(engine: AsyncEngine, name: str = "t") -> bool:
    return await fetch(engine, f"SELECT * FROM {name} ORDER BY 1") == ROWS


# Rows that are merged.


async def test_the_plan_says_which_of_rows_with_one_key_counts_by_a_column(table: AsyncEngine) -> None:
    plan = await dl.plan_load({"id": [1], "v": ["x"]}, "t", engine=table, on_conflict="update", order_by="v")
    assert "rows of the source with one id: the one with the greatest v counts" in str(plan)


async def test_rows_without_the_column_of_the_key_are_refused(table: AsyncEngine) -> None:
    with pytest.raises(dl.SchemaMismatch, match=r"the source has no column 'id', which the key of .*t needs"):
        await dl.update_rows({"v": ["x"]}, "t", "id", engine=table)
    assert await untouched(table)


async def test_rows_are_not_deleted_where_a_rule_might_leave_them(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    await execute(postgres, "CREATE RULE kept AS ON DELETE TO t DO INSTEAD NOTHING")
    with pytest.raises(dl.PlanError, match=r"rows cannot be deleted from public.t: it has rules for DELETE.*by SQL"):
        await dl.delete_rows({"id": [1]}, "t", engine=postgres)
    assert await untouched(postgres)


async def test_a_column_of_the_name_that_tells_which_rows_are_new_is_not_returned(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id bigint PRIMARY KEY, inserted text)")
    given: dict[str, Any] = {"engine": database, "on_conflict": "update", "returning": ["id", "inserted"]}
    with pytest.raises(dl.PlanError, match=r"returning= itself adds a column 'inserted', and .*t has one"):
        await dl.load_dataframe({"id": [1], "inserted": ["x"]}, "t", **given)
    assert await fetch(database, "SELECT * FROM t") == []


async def test_a_dry_run_that_only_adds_keys_has_no_cells_to_show(table: AsyncEngine) -> None:
    await execute(table, "CREATE TABLE k (id bigint PRIMARY KEY)", "INSERT INTO k VALUES (1)")
    report = await dl.load_dataframe({"id": [1, 2]}, "k", engine=table, on_conflict="update", dry_run=True)
    assert (report.inserted, report.updated, report.preview) == (1, 0, ())
    assert await fetch(table, "SELECT id FROM k") == [(1,)]


async def test_a_part_may_be_that_of_a_moment_of_numpy(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id bigint PRIMARY KEY, at timestamp)")
    moment = np.datetime64("2024-05-17T08:30:00", "ns")
    await dl.load_dataframe({"id": [1, 2], "at": [moment, np.datetime64("2024-05-18", "ns")]}, "t", engine=database)
    given: dict[str, Any] = {"engine": database, "within": {"at": moment}, "max_deletes": 1.0}
    report = await dl.sync_table({"id": [3], "at": [moment]}, "t", **given)
    assert (report.inserted, report.deleted) == (1, 1)
    assert await fetch(database, "SELECT id FROM t ORDER BY id") == [(2,), (3,)]


@pytest.fixture
async def no_staging(analyst: sa.URL, postgres: AsyncEngine) -> AsyncIterator[sa.URL]:  # noqa: F811
    """The URL of a role that may write to `orders`, and make no temporary table."""
    database = postgres.url.database
    await execute(postgres, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    await execute(postgres, "ALTER TABLE orders ADD PRIMARY KEY (id)", f"GRANT ALL ON orders TO {analyst.username}")
    yield analyst
    await execute(postgres, f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC")


async def test_a_role_that_may_stage_nothing_is_told_which_right_it_lacks(no_staging: sa.URL) -> None:
    with pytest.raises(dl.PlanError, match=r"rows cannot be merged into .*orders: .*GRANT TEMPORARY ON DATABASE"):
        await dl.load_dataframe({"id": [1]}, "orders", engine=no_staging, on_conflict="ignore")
    assert (await dl.load_dataframe({"id": [1]}, "orders", engine=no_staging)).loaded == 1


# Columns.


async def test_a_view_is_not_widened(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v varchar(3))", "CREATE VIEW seen AS SELECT v FROM t")
    with pytest.raises(dl.PlanError, match=r"its type cannot be changed: public.seen is a view"):
        await dl.load_dataframe({"v": ["too long"]}, "seen", engine=postgres, evolve="widen")
    assert await fetch(postgres, "SELECT * FROM t") == []


async def test_a_table_that_lacks_a_column_of_no_type_of_its_is_said_to_lack_it(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE t (id bigint)")
    data = pa.table({"id": [1], "more": pa.array([1], pa.duration("s"))})
    with pytest.raises(dl.SchemaMismatch, match="not in the table: 'more'"):
        await dl.load_dataframe(data, "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT * FROM t") == []


# Connections and drivers.


async def test_an_option_that_the_driver_has_not_is_named(postgres: AsyncEngine) -> None:
    engine = open_engine(postgres.url, {"connect_args": {"paasword": "x"}})
    with pytest.raises(dl.PlanError, match=r"the driver for PostgreSQL .* has no option 'paasword'.*connect_args="):
        await dl.load_dataframe({"id": [1]}, "t", engine=engine)
    await engine.dispose()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder is known in which nobody can make a file")
async def test_a_file_that_this_user_may_not_make_is_told_from_one_whose_folder_is_missing() -> None:
    with pytest.raises(dl.ConnectionFailed, match=r"cannot open SQLite /proc/shop.db: this user may not open it, or"):
        await dl.load_dataframe({"id": [1]}, "t", engine="sqlite:////proc/shop.db")


async def test_a_pool_that_gives_out_an_open_transaction_is_refused(postgres: AsyncEngine) -> None:
    """The plan is made by the connection that was given back first, and the load by the other one."""
    await execute(postgres, "CREATE TABLE t (id bigint)")
    careless = create_async_engine(postgres.url, pool_size=2, max_overflow=0, pool_reset_on_return=None)
    async with careless.connect() as second, careless.connect():
        driver: Any = (await second.get_raw_connection()).driver_connection
        await driver.execute("BEGIN")
    with pytest.raises(dl.LoadError, match=r"gave out a connection with an open transaction.*engine\.dispose\(\)"):
        await dl.load_dataframe({"id": [1]}, "t", engine=careless)
    await careless.dispose()
    assert await fetch(postgres, "SELECT * FROM t") == []


def test_an_engine_is_shown_to_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    engine = open_engine(sa.make_url("postgresql+asyncpg://db.example.com/shop"))
    assert repr(engine) == "<AsyncEngine: PostgreSQL db.example.com:5432/shop>"


async def test_a_driver_that_is_not_installed_is_named_with_how_to_install_it() -> None:
    with pytest.raises(dl.PlanError, match=r"the driver of mysql\+aiomysql is not installed.*pip install aiomysql"):
        dl.connect("mysql+aiomysql://kim@db.example.com/shop")


def test_an_engine_is_used_again_after_a_loop_that_was_closed_as_it_was(postgres_url: sa.URL) -> None:
    engine = open_engine(postgres_url)
    for count in (1, 2):
        loop = asyncio.new_event_loop()
        report = loop.run_until_complete(dl.load_dataframe({"id": [count]}, "t", engine=engine))
        assert report.loaded == 1
        if count == 2:
            loop.run_until_complete(engine.dispose())
        loop.close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # nobody can close the first connection
        gc.collect()


def test_the_wire_of_a_driver_that_nobody_knows_is_not_shown() -> None:
    with pytest.raises(dl.PlanError, match=r"the wire of the driver pg8000 cannot be shown.*postgresql\+psycopg://"):
        backend_for(pg8000.dialect()).login({})


async def test_a_table_of_a_file_that_is_dropped_while_it_is_loaded(sqlite: AsyncEngine) -> None:
    async def dropped() -> AsyncIterator[pa.RecordBatch]:
        for number in range(4):
            if number == 3:
                await execute(sqlite, "DROP TABLE t")
            yield pa.record_batch({"id": [number]})

    with pytest.raises(dl.DataLoaderError, match=r"the table t is gone\. \d rows are committed"):
        await dl.load_batches(dropped(), "t", engine=sqlite, commit="chunk", chunk_rows=1)
    assert await fetch(sqlite, "SELECT name FROM sqlite_master WHERE name = 't'") == []


# Reading.


async def test_a_parameter_may_be_written_with_zeros(database: AsyncEngine) -> None:
    query = "SELECT CAST($1 AS integer) + CAST($01 AS integer) AS twice"
    assert (await dl.read_dataframe(query, [21], engine=database))["twice"].tolist() == [42]


async def test_a_parameter_within_what_is_a_text_to_the_server_has_no_value(postgres_url: sa.URL) -> None:
    old = "-c standard_conforming_strings=off -c escape_string_warning=off"
    engine = open_engine(postgres_url.update_query_dict({"options": old}))
    with pytest.raises(dl.ReadError, match=r"the query has 0 parameters, and 1 values were given.*params="):
        await dl.read_dataframe(r"SELECT 'it\'s $1'", [1], engine=engine)
    await engine.dispose()


async def test_a_statement_ends_in_time_through_another_driver_too(postgres_url: sa.URL) -> None:
    engine = open_engine(postgres_url.set(drivername="postgresql+psycopg"))
    with pytest.raises(dl.DataLoaderError, match="statement timeout"):
        await dl.read_dataframe("SELECT pg_sleep(5)", engine=engine, statement_timeout=0.1)
    await engine.dispose()


async def test_a_time_is_a_parameter_as_loads_store_it(sqlite: AsyncEngine) -> None:
    time = dt.time(8, 30, 15, 5)
    await dl.load_dataframe({"id": [1], "at": [time]}, "t", engine=sqlite)
    assert (await dl.read_dataframe("SELECT id FROM t WHERE at = $1", [time], engine=sqlite))["id"].tolist() == [1]


async def test_another_schema_of_a_file_has_no_ledger(sqlite: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [1]}, "t", engine=sqlite, load_id="May")
    assert (await dl.load_history(sqlite, schema="main"))["load_id"].tolist() == ["May"]
    assert (await dl.load_history(sqlite, schema="elsewhere")).empty


@pytest.mark.parametrize(("declared", "value"), [("boolean", 2), ("time", "'08:30:00.1234567'")])
async def test_a_value_that_its_column_does_not_mean_is_shown_with_its_row(
    sqlite: AsyncEngine, declared: str, value: Any
) -> None:
    await execute(sqlite, f"CREATE TABLE t (v {declared})", f"INSERT INTO t VALUES (NULL), ({value})")
    with pytest.raises(dl.ReadError, match=f"row 1, column 'v': {value} has no place"):
        await dl.read_dataframe("t", engine=sqlite)
