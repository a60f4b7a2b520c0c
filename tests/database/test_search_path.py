"""Operators and functions of a stranger, first in the search_path: none of them is called by anything of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database import engine as engines
from dataloader.database import locks
from dataloader.database.engine import open_engine
from dataloader.database.schema import TableName
from dataloader.ledger import history
from dataloader.ledger.entries import TABLES
from tests.conftest import execute, fetch

PLANTED = """DO $$
DECLARE made record; number int := 0;
BEGIN
    CREATE TEMP TABLE kinds ON COMMIT DROP AS SELECT unnest(ARRAY['name', 'text', 'varchar', 'bpchar', '"char"', 'oid',
        'int2', 'int4', 'int8', 'numeric', 'bool', 'regclass', 'timestamptz', 'date', 'uuid'])::regtype AS kind;
    FOR made IN
        SELECT oprname AS name, oprleft::regtype AS a, oprright::regtype AS b, oprresult::regtype AS c FROM pg_operator
        WHERE oprname IN ('=', '<>', '<', '>', '<=', '>=', '+', '-', '&', '||', '~~')
            AND oprleft IN (SELECT kind FROM kinds) AND oprright IN (SELECT kind FROM kinds)
        UNION SELECT '=', kind, kind, 'bool' FROM kinds
        UNION SELECT '=', 'varchar', 'text', 'bool' UNION SELECT '=', 'text', 'varchar', 'bool'
        UNION SELECT '=', 'name', 'varchar', 'bool' UNION SELECT '||', 'name', 'text', 'text'
        UNION SELECT '||', 'regclass', 'text', 'text' UNION SELECT '||', 'text', 'oid', 'text'
    LOOP
        number := number + 1;
        EXECUTE format('CREATE FUNCTION public.op%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L',
            number, made.a, made.b, made.c, 'BEGIN RETURN NULL; END');
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.op%s)',
            made.name, made.a, made.b, number);
    END LOOP;
    FOR made IN
        SELECT DISTINCT proname AS name, pg_get_function_identity_arguments(oid) AS a FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND provariadic = 0 AND proname IN ('now', 'clock_timestamp',
            'has_table_privilege', 'has_schema_privilege', 'pg_advisory_xact_lock', 'current_schema', 'current_setting',
            'current_schemas', 'format_type', 'row_security_active', 'pg_partition_tree', 'scale', 'set_config',
            'pg_get_userbyid', 'pg_get_constraintdef', 'pg_backend_pid', 'pg_relation_is_updatable', 'max', 'min')
            AND pg_get_function_identity_arguments(oid) !~ '(any|OUT |"char"\\[)'
        UNION VALUES ('count', 'oid'), ('count', 'text'), ('bool_and', 'bool'), ('bool_or', 'bool'),
            ('unnest', 'int2vector'), ('unnest', 'int2[]'), ('unnest', 'text[]'), ('unnest', 'text[], text[]'),
            ('array_agg', 'text'), ('array_agg', 'name'), ('string_agg', 'text, text'), ('aclexplode', 'aclitem[]'),
            ('generate_subscripts', 'int2vector, int'), ('array_position', 'name[], name'), ('cardinality', 'int2[]'),
            ('format', 'text'), ('format', 'text, text'), ('format', 'text, name, name')
    LOOP
        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS %L',
            made.name, made.a, 'BEGIN RETURN NULL; END');
    END LOOP;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
END $$"""
"""Nobody else may carry them out, so that a statement which has chosen one fails though it may never come to it."""
GROUND = (
    "GRANT ALL ON SCHEMA public TO loader",
    "SET ROLE loader",
    "CREATE TABLE parents (code varchar(9), kind int, PRIMARY KEY (code, kind))",
    "INSERT INTO parents SELECT 'p' || n, 1 FROM generate_series(0, 8) n",
    """CREATE TABLE orders (id bigint UNIQUE, code varchar(9), kind int, price numeric(9,2),
        FOREIGN KEY (code, kind) REFERENCES parents DEFERRABLE)""",
    "RESET ROLE",
)
CODES = [f"p{number % 10}" for number in range(40)]
"""One in ten has no parent."""


def orders(rows: int = 40, breaks: bool = False) -> Any:
    for start in range(0, rows, 10):
        ids, codes = list(range(start, start + 10)), CODES[start : start + 10]
        yield pa.record_batch({"id": ids, "code": codes, "kind": [1] * 10, "price": [1.5] * 10})
    if breaks:
        raise RuntimeError


@pytest.fixture(params=["asyncpg", "psycopg"])
async def waylaid(request: pytest.FixtureRequest, postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine before whose pg_catalog comes a schema full of traps; set last, or the driver itself would step in."""
    await execute(postgres, "DROP ROLE IF EXISTS loader", "CREATE ROLE loader LOGIN", *GROUND)
    async with postgres.begin() as connection:
        await connection.exec_driver_sql(PLANTED)
    if request.param == "asyncpg":
        engine = open_engine(postgres.url.set(username="loader"))
    else:
        engine = create_async_engine(postgres.url.set(drivername="postgresql+psycopg", username="loader"))

    @sa.event.listens_for(engine.sync_engine, "connect")
    def set_path(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SET search_path = public, pg_catalog")
        cursor.close()
        connection.commit()

    yield engine
    await engine.dispose()
    await execute(
        postgres, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "DROP OWNED BY loader", "DROP ROLE loader"
    )


async def test_a_stranger_before_pg_catalog_is_never_called(
    waylaid: AsyncEngine, postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "TRY_SECONDS", 0.0)
    rejecting: Any = {"engine": waylaid, "chunk_rows": 10, "workers": 1, "on_invalid": "reject", "load_id": "May"}
    await dl.plan_load({"id": [1]}, "orders", engine=waylaid)
    await dl.load_dataframe({"id": [1], "day": ["x"]}, "made", engine=waylaid)
    await dl.load_dataframe({"id": [1]}, "one", engine=waylaid, method="insert")
    for added in (1, 0):
        named = await dl.load_dataframe({"id": [1]}, "one", engine=waylaid, load_id="whole", resume=True)
        assert named.loaded == added
    for if_exists in ("truncate", "replace", "append"):
        await dl.load_dataframe({"id": [1], "day": ["x"]}, "made", engine=waylaid, if_exists=if_exists)
    keys: Any = {"engine": waylaid, "unique": True, "foreign_keys": True}
    report = await dl.validate(pa.Table.from_batches(orders()), "orders", **keys)
    assert len(report.violations) == 4
    with pytest.raises(RuntimeError):
        await dl.load_batches(orders(20, breaks=True), "orders", **rejecting)
    loaded = await dl.load_batches(orders(), "orders", resume=True, **rejecting)
    assert (loaded.already_loaded, loaded.loaded) == (20, 18)
    assert len(await dl.load_history(waylaid)) == 2
    await history.forget(waylaid, "May")
    with pytest.raises(dl.WriteError, match="orders is held by pid"):
        await wait_for_a_lock(waylaid)
    assert await fetch(postgres, "SELECT count(*) FROM public.orders") == [(36,)]


async def wait_for_a_lock(engine: AsyncEngine) -> None:
    waiting = await engines.open_connection(engine)
    try:
        async with engine.connect() as holding:
            await holding.execute(sa.text("LOCK TABLE public.orders"))
            async with locks.naming_holders(waiting, TableName("public", "orders"), *TABLES):
                await waiting.execute(sa.text("LOCK TABLE public.orders NOWAIT"))
    finally:
        await engines.close(waiting)
