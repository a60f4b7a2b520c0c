"""connection=: a load inside the caller's own transaction, which is theirs to commit and usable whatever happened."""

from __future__ import annotations

import asyncio
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

import dataloader as dl
from tests.conftest import execute, fetch

DATA = {"id": [1, 2], "v": ["a", "b"]}
COUNT = "SELECT count(*) FROM t"


@pytest.fixture
async def table(database: AsyncEngine) -> AsyncEngine:
    await execute(database, "CREATE TABLE t (id integer CONSTRAINT t_key PRIMARY KEY, v text)")
    return database


async def count(connection: AsyncConnection, sql: str = COUNT) -> Any:
    return (await connection.execute(sa.text(sql))).scalar_one()


async def test_nothing_is_committed_before_the_caller_commits(table: AsyncEngine) -> None:
    async with table.connect() as connection:
        report = await dl.load_dataframe(DATA, "t", connection=connection)
        assert report.loaded == await count(connection) == 2
        await connection.rollback()
    assert await fetch(table, COUNT) == [(0,)]
    async with table.begin() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (9, 'z')"))
        await dl.load_dataframe(DATA, "t", connection=connection)
    assert await fetch(table, COUNT) == [(3,)]


async def test_a_first_statement_that_is_a_load_is_rolled_back_too(table: AsyncEngine) -> None:
    """SQLite commits when a savepoint outside of a transaction is released."""
    async with table.connect() as connection:
        await dl.load_dataframe(DATA, "t", connection=connection)
    assert await fetch(table, COUNT) == [(0,)]


@pytest.mark.parametrize("on_invalid", ["raise", "reject"])
async def test_a_refused_load_leaves_the_transaction_usable(table: AsyncEngine, on_invalid: Any) -> None:
    async with table.begin() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (2, 'z')"))
        loading = dl.load_dataframe(DATA, "t", connection=connection, on_invalid=on_invalid)
        if on_invalid == "raise":
            with pytest.raises(dl.WriteError) as raised:
                await loading
            if table.dialect.name == "postgresql":
                assert (raised.value.sqlstate, raised.value.constraint) == ("23505", "t_key")
        else:
            assert (await loading).rejected == 1
        await connection.execute(sa.text("INSERT INTO t VALUES (3, 'y')"))
    assert await fetch(table, "SELECT id FROM t ORDER BY id") == [
        (number,) for number in ([2, 3] if on_invalid == "raise" else [1, 2, 3])
    ]


async def test_a_value_that_does_not_fit_leaves_the_transaction_usable(table: AsyncEngine) -> None:
    async with table.begin() as connection:
        with pytest.raises(dl.ValidationError):
            await dl.load_dataframe({"id": ["x"], "v": ["a"]}, "t", connection=connection)
        with pytest.raises(dl.PlanError):
            await dl.load_dataframe({"nothing": ["x"]}, "t", connection=connection)
        await dl.load_dataframe(DATA, "t", connection=connection)
    assert await fetch(table, COUNT) == [(2,)]


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_a_cancelled_load_leaves_the_transaction_usable(postgres: AsyncEngine, method: Any) -> None:
    slow = "BEGIN IF NEW.id % 100 = 0 THEN PERFORM pg_sleep(0.002); END IF; RETURN NEW; END"
    await execute(
        postgres,
        "CREATE TABLE t (id integer, v text)",
        f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $${slow}$$",
        "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    frame = pd.DataFrame({"id": range(300_000), "v": "x" * 100})
    async with postgres.begin() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (-1, 'mine')"))
        for wait in (0.02, 0.1, 0.3):
            loading = asyncio.create_task(dl.load_dataframe(frame, "t", connection=connection, method=method))
            await asyncio.wait({loading}, timeout=wait)
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            assert await count(connection) == 1
    assert await fetch(postgres, COUNT) == [(1,)]


async def test_what_the_transaction_has_made_is_found(database: AsyncEngine) -> None:
    async with database.connect() as connection:
        await connection.execute(sa.text("CREATE TABLE new (id integer PRIMARY KEY, v text)"))
        assert (await dl.plan_load(DATA, "new", connection=connection)).exists
        assert (await dl.validate(DATA, "new", connection=connection)).ok
        for how in ("update", "ignore"):
            await dl.load_dataframe(DATA, "new", connection=connection, on_conflict=how)  # type: ignore[call-overload,misc]
        assert (await dl.delete_rows({"id": [1]}, "new", connection=connection)).deleted == 1
        assert await count(connection, "SELECT count(*) FROM new") == 1
        await connection.rollback()


async def test_a_temporary_table_is_loaded(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE tmp (other integer)")
    async with postgres.begin() as connection:
        await connection.execute(sa.text("CREATE TEMPORARY TABLE tmp (id integer, v text)"))
        assert (await dl.load_dataframe(DATA, "tmp", connection=connection)).loaded == 2
        assert await count(connection, "SELECT count(*) FROM pg_temp.tmp") == 2
    assert await fetch(postgres, "SELECT count(*) FROM public.tmp") == [(0,)]
    assert (await dl.load_dataframe({"other": [1]}, "tmp", engine=postgres)).loaded == 1


async def test_tables_are_replaced_and_emptied_inside_of_it(table: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [7], "v": ["old"]}, "t", engine=table)
    async with table.connect() as connection:
        for if_exists in ("truncate", "replace"):
            await dl.load_dataframe(DATA, "t", connection=connection, if_exists=if_exists)  # type: ignore[call-overload,misc]
            assert await count(connection) == 2
        await connection.rollback()
    assert await fetch(table, "SELECT v FROM t") == [("old",)]


@pytest.mark.parametrize("how", ["ignore", "update"])
async def test_no_temporary_table_is_left_in_it(database: AsyncEngine, how: Any) -> None:
    await dl.load_dataframe({"id": [1], "v": ["a"]}, "t", engine=database, primary_key="id")
    names = "SELECT name FROM sqlite_temp_master WHERE type = 'table'"
    if database.dialect.name == "postgresql":
        names = "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
    async with database.connect() as connection:
        for options in ({"returning": ["id"]}, {}):
            data = {"id": [1, 2], "v": ["b", "c"]}
            await dl.load_dataframe(data, "t", connection=connection, on_conflict=how, **options)  # type: ignore[arg-type]
        await dl.sync_table({"id": [1], "v": ["b"]}, "t", connection=connection)
        assert (await connection.exec_driver_sql(names)).all() == []


async def test_an_orm_session_has_a_connection(table: AsyncEngine) -> None:
    async with AsyncSession(table) as session:
        await session.execute(sa.text("INSERT INTO t VALUES (9, 'z')"))
        await dl.load_dataframe(DATA, "t", connection=session)
        await session.commit()
    assert await fetch(table, COUNT) == [(3,)]


async def test_the_settings_of_the_transaction_are_as_they_were(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer, v text)")
    names = ["client_encoding", "array_nulls", "intervalstyle", "quote_all_identifiers", "lock_timeout", "search_path"]
    settings = sa.select(*map(sa.func.current_setting, names))
    async with postgres.connect() as connection:
        for statement in (
            "SET LOCAL lock_timeout = 777",
            "SET intervalstyle = iso_8601",
            "SET LOCAL array_nulls = off",
        ):
            await connection.execute(sa.text(statement))
        before = (await connection.execute(settings)).one()
        await dl.load_dataframe(DATA, "t", connection=connection)
        with pytest.raises(dl.ValidationError):
            await dl.load_dataframe({"id": ["x"]}, "t", connection=connection)
        assert (await connection.execute(settings)).one() == before


async def test_a_deferred_constraint_stays_deferred(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE p (id integer PRIMARY KEY)")
    await execute(postgres, "CREATE TABLE t (id integer REFERENCES p DEFERRABLE INITIALLY DEFERRED, v text)")
    async with postgres.begin() as connection:
        for on_invalid in ("raise", "reject"):
            await dl.load_dataframe({"id": [1]}, "t", connection=connection, on_invalid=on_invalid)  # type: ignore[call-overload,misc]
        await connection.execute(sa.text("INSERT INTO p VALUES (1)"))
    assert await fetch(postgres, COUNT) == [(2,)]


async def test_a_dry_run_inside_of_it_is_rolled_back_alone(table: AsyncEngine) -> None:
    async with table.begin() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (9, 'z')"))
        assert (await dl.load_dataframe(DATA, "t", connection=connection, dry_run=True)).loaded == 2
        assert await count(connection) == 1


async def test_through_another_driver_it_is_the_same(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer PRIMARY KEY, v text)")
    engine = dl.connect(postgres.url.set(drivername="postgresql+psycopg"))
    async with engine.connect() as connection:
        await dl.load_dataframe(DATA, "t", connection=connection)
        with pytest.raises(dl.WriteError):
            await dl.load_dataframe(DATA, "t", connection=connection)
        assert await count(connection) == 2
        await connection.rollback()
        assert await count(connection) == 0
    await engine.dispose()


async def test_a_connection_that_commits_every_statement_is_refused(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer, v text)")
    async with postgres.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(dl.DataLoaderError, match="commits every statement at once"):
            await dl.load_dataframe(DATA, "t", connection=connection)
    assert await fetch(postgres, COUNT) == [(0,)]


@pytest.mark.parametrize("options", [{"commit": "chunk"}, {"load_id": "x"}, {"resume": True}], ids=str)
async def test_there_are_no_checkpoints_inside_of_it(table: AsyncEngine, options: Any) -> None:
    async with table.connect() as connection:
        with pytest.raises(dl.PlanError, match="part of the caller's own"):
            await dl.load_dataframe(DATA, "t", connection=connection, **options)


async def test_what_is_no_connection_is_refused_in_words(table: AsyncEngine) -> None:
    with pytest.raises(
        dl.PlanError, match="connection= must be an AsyncConnection or an AsyncSession, got AsyncEngine"
    ):
        await dl.load_dataframe(DATA, "t", connection=table)  # type: ignore[typeddict-item]
    async with table.connect() as connection:
        with pytest.raises(dl.PlanError, match="both engine= and connection="):
            await dl.load_dataframe(DATA, "t", engine=table, connection=connection)
        with pytest.raises(dl.PlanError, match="a load in the background has a loop of its own"):
            dl.start_load(DATA, "t", connection=connection)


WRITES: dict[str, Any] = {
    "COPY": (dl.load_dataframe, {}),
    "COPY as text": (dl.load_dataframe, {"data": {"id": [7, 7], "v": ["a", "b"], "box": ["(1,1),(0,0)"] * 2}}),
    "INSERT": (dl.load_dataframe, {"method": "insert"}),
    "rejects": (dl.load_dataframe, {"on_invalid": "reject", "max_rejects": 0, "commit": "load"}),
    "an upsert": (dl.load_dataframe, {"on_conflict": "update", "key": "id", "data": {"id": [1, 2], "v": ["a", "a"]}}),
    "returning": (dl.load_dataframe, {"returning": "id"}),
    "update_rows": (dl.update_rows, {"data": {"id": [1, 2], "v": ["x", "y"]}, "update_columns": "v"}),
    "sync_table": (dl.sync_table, {"data": {"id": [1, 2], "v": ["c", "c"]}}),
}


@pytest.mark.parametrize(("function", "options"), WRITES.values(), ids=WRITES)
async def test_a_refusal_keeps_sqlalchemy_s_class_its_sqlstate_and_its_constraint(
    database: AsyncEngine, function: Any, options: dict[str, Any]
) -> None:
    box = ", box box" if database.dialect.name == "postgresql" else ", box text"
    await execute(
        database,
        f"CREATE TABLE t (id integer CONSTRAINT t_key PRIMARY KEY, v text CONSTRAINT t_v UNIQUE{box})",
        "INSERT INTO t (id, v) VALUES (1, 'p'), (2, 'q')",
    )
    given = {"data": {"id": [7, 7], "v": ["y", "z"]}, **options}
    if function is dl.update_rows:
        given["data"]["v"] = ["q", "r"]
    async with database.connect() as connection:
        with pytest.raises((dl.WriteError, dl.ValidationError)) as raised:
            await function(given.pop("data"), "t", connection=connection, **given)
        assert await count(connection) == 2
    causes, error = [], raised.value
    while error is not None:
        causes.append(error)
        error = error.__cause__
    if isinstance(raised.value, dl.WriteError):
        assert any(isinstance(one, sa.exc.IntegrityError) for one in causes), causes
        if database.dialect.name == "postgresql":
            named = (
                "t_key" if given.get("method") or (function is dl.load_dataframe and not options.get("key")) else "t_v"
            )
            assert (raised.value.sqlstate, raised.value.constraint) == ("23505", named)
    else:
        assert "max_rejects" in options


async def test_a_deferred_constraint_that_fails_at_the_end_is_named(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer CONSTRAINT t_key UNIQUE DEFERRABLE INITIALLY DEFERRED, v text)")
    data = {"id": [1, 1], "v": ["a", "b"]}
    for options in ({}, {"commit": "chunk"}):
        with pytest.raises(dl.WriteError) as raised:
            await dl.load_dataframe(data, "t", engine=postgres, **options)
        assert (raised.value.sqlstate, raised.value.constraint) == ("23505", "t_key")
        assert isinstance(raised.value.__cause__, sa.exc.IntegrityError)
    with pytest.raises(sa.exc.IntegrityError):
        async with postgres.begin() as connection:
            await dl.load_dataframe(data, "t", connection=connection)
    assert await fetch(postgres, COUNT) == [(0,)]
