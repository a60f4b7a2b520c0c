"""Tables: how a missing one is created, and how an existing one is found, matched by name and respected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.engine import open_engine
from dataloader.writers import insert
from tests.conftest import execute, fetch


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace(":", "\\:") + '"'


async def postgres_columns(postgres: AsyncEngine, table: str) -> dict[str, str]:
    query = """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
    return dict(await fetch(postgres, query, name=table))  # type: ignore[arg-type]


async def tables(database: AsyncEngine) -> list[str]:
    query = {
        "postgresql": "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    }[database.dialect.name]
    return sorted(name for (name,) in await fetch(database, query))


async def test_a_missing_table_is_created_with_sensible_types(postgres: AsyncEngine) -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "name": ["a", None],
            "kind": pd.Categorical(["x", "y"]),
            "amount": pd.array([Decimal("1.5000"), None], pd.ArrowDtype(pa.decimal128(12, 4))),
            "rate": [0.5, None],
            "paid": [True, False],
            "at": pd.to_datetime(["2024-01-01", "2024-01-02"]),
            "seen": pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("UTC"),
        }
    )
    await dl.load_dataframe(frame, "orders", engine=postgres)
    assert await postgres_columns(postgres, "orders") == {
        "id": "bigint",
        "name": "text",
        "kind": "text",
        "amount": "numeric(12,4)",
        "rate": "double precision",
        "paid": "boolean",
        "at": "timestamp without time zone",
        "seen": "timestamp with time zone",
    }


async def test_the_types_of_dtype_are_used_for_a_created_table(postgres: AsyncEngine) -> None:
    types = {"id": sa.Integer, "code": sa.String(8), "amount": sa.Numeric(12, 4), "day": sa.Date()}
    data = {"id": [1], "code": ["x"], "amount": [0.1], "day": ["2024-02-29"]}
    await dl.load_dataframe(data, "orders", engine=postgres, dtype=types)
    assert await postgres_columns(postgres, "orders") == {
        "id": "integer",
        "code": "character varying(8)",
        "amount": "numeric(12,4)",
        "day": "date",
    }
    assert await fetch(postgres, "SELECT id, code, amount::text, day::text FROM orders") == [
        (1, "x", "0.1000", "2024-02-29")
    ]


async def test_the_types_of_dtype_are_used_on_sqlite(sqlite: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [1], "code": [7]}, "orders", engine=sqlite, dtype={"code": sa.Text()})
    assert await fetch(sqlite, "SELECT id, quote(code) FROM orders") == [(1, "'7'")]


async def test_dtype_for_a_column_that_the_source_lacks_is_refused(database: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="Did you mean 'amount'"):
        await dl.load_dataframe({"amount": [1]}, "orders", engine=database, dtype={"ammount": sa.Integer()})
    assert await tables(database) == []


async def test_columns_go_by_name_and_not_by_position(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (a integer, b integer, c integer DEFAULT 9)")
    await dl.load_dataframe({"b": [2], "a": [1]}, "t", engine=database)
    assert await fetch(database, "SELECT a, b, c FROM t") == [(1, 2, 9)]


NAMES = {
    "upper case": "Amount",
    "reserved word": "select",
    "space": "the amount",
    "dot": "a.b",
    "double quote": 'a"b',
    "single quote": "it's",
    "percent": "100%",
    "percent s": "%s",
    "percent name": "%(a)s",
    "colon": "a:b",
    "colon first": ":a",
    "question mark": "is it?",
    "dollar": "$1",
    "backslash": "a\\b",
    "brackets": "a[1]",
    "parentheses": "f(x)",
    "unicode": "größe_数",
    "emoji": "😀",
    "newline": "a\nb",
    "63 bytes": "ä" * 31 + "x",
    "rowid": "rowid",
    "p0": "p0",
}


@pytest.mark.parametrize("method", ["auto", "insert"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_column_of_any_name_arrives(database: AsyncEngine, name: str, method: Any) -> None:
    data = {"id": [1, 2], name: ["x", None], "p1": [3, 4]}
    for _ in range(2):
        await dl.load_dataframe(data, "t", engine=database, method=method)
    assert await fetch(database, f"SELECT id, {quoted(name)}, p1 FROM t ORDER BY id") == [
        (1, "x", 3),
        (1, "x", 3),
        (2, None, 4),
        (2, None, 4),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "insert"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_table_of_any_name_arrives(database: AsyncEngine, name: str, method: Any) -> None:
    table = '"' + name.replace('"', '""') + '"'
    for if_exists in ("append", "append", "truncate", "replace", "append"):
        await dl.load_dataframe({"id": [1, 2]}, table, engine=database, method=method, if_exists=if_exists)
    assert await fetch(database, f"SELECT id FROM {quoted(name)} ORDER BY id") == [(1,), (1,), (2,), (2,)]


KEYWORDS = """abort action all always analyze and attach autoincrement between by cascade cast check collate commit
    conflict current deferred detach distinct do each else escape except exclude explain fail filter for glob group
    groups having if ignore immediate index indexed initially instead into is isnull join key like limit match
    materialized natural no not nothing notnull null of on others over plan pragma query raise range recursive
    references reindex release rename returning rollback row rows savepoint select set table temp then to trigger
    truncate union unique update user using vacuum values view virtual when where window with without""".split()


async def test_every_keyword_is_a_fine_name_for_a_column(database: AsyncEngine) -> None:
    await dl.load_dataframe({word: [number] for number, word in enumerate(KEYWORDS)}, "t", engine=database)
    assert await fetch(database, "SELECT * FROM t") == [tuple(range(len(KEYWORDS)))]


@pytest.mark.parametrize("word", ["nothing", "order", "user", "materialized", "table"])
async def test_a_keyword_is_a_fine_name_for_a_table(database: AsyncEngine, word: str) -> None:
    await dl.load_dataframe({"id": [1]}, word, engine=database)
    assert await fetch(database, f'SELECT id FROM "{word}"') == [(1,)]


async def test_names_that_differ_in_case_only_are_two_columns_on_postgresql(postgres: AsyncEngine) -> None:
    await dl.load_dataframe({"a": [1], "A": [2]}, "t", engine=postgres)
    assert await fetch(postgres, 'SELECT a, "A" FROM t') == [(1, 2)]


@pytest.mark.parametrize("exists", [True, False])
async def test_names_that_differ_in_case_only_are_refused_on_sqlite_before_anything_is_written(
    sqlite: AsyncEngine, exists: bool
) -> None:
    if exists:
        await execute(sqlite, "CREATE TABLE t (a integer, b integer)")
    with pytest.raises(dl.SchemaMismatch, match="'a' and 'A' have the same name on SQLite"):
        await dl.load_dataframe({"a": [1], "b": [2], "A": [3]}, "t", engine=sqlite, if_exists="replace")
    if exists:
        assert await fetch(sqlite, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("commit", ["load", "chunk"])
async def test_sqlite_finds_a_table_and_columns_written_in_another_case(sqlite: AsyncEngine, commit: Any) -> None:
    await execute(sqlite, 'CREATE TABLE "Orders" (id integer NOT NULL UNIQUE, "Name" text NOT NULL)')
    data = {"ID": [1, 2], "name": ["x", "y"]}
    report = await dl.load_dataframe(data, "orders", engine=sqlite, commit=commit)
    assert await fetch(sqlite, 'SELECT * FROM "Orders"') == [(1, "x"), (2, "y")]
    if commit == "chunk":
        again = await dl.load_dataframe(data, "orders", engine=sqlite, load_id=report.load_id, resume=True)
        assert again.already_loaded == 2
    for unique in (True, ["ID"]):
        found = await dl.validate(data, "orders", engine=sqlite, unique=unique)
        assert [one.row for one in found.violations] == [0, 1]
    rejected = await dl.load_dataframe(
        {"ID": [3, 2, None]} | {"name": ["z"] * 3}, "orders", engine=sqlite, on_invalid="reject"
    )
    assert rejected.rejects["reject_row"].tolist() == [1, 2]
    assert rejected.rejects["reject_column"].tolist() == ["ID", "ID"]


async def test_columns_that_differ_by_more_than_case_are_still_unknown_to_sqlite(sqlite: AsyncEngine) -> None:
    await execute(sqlite, 'CREATE TABLE t ("\N{LATIN SMALL LETTER U WITH DIAERESIS}" integer)')
    with pytest.raises(dl.SchemaMismatch, match="not in the table"):
        await dl.load_dataframe({"\N{LATIN CAPITAL LETTER U WITH DIAERESIS}": [1]}, "t", engine=sqlite)


ROWIDS = {
    "a rowid": ("CREATE TABLE t (id INTEGER PRIMARY KEY, v integer)", True),
    "WITHOUT ROWID": ("CREATE TABLE t (id INTEGER PRIMARY KEY, v integer) WITHOUT ROWID", False),
    "descending": ("CREATE TABLE t (id INTEGER PRIMARY KEY DESC, v integer)", False),
    "INT": ("CREATE TABLE t (id INT PRIMARY KEY NOT NULL, v integer)", False),
}


@pytest.mark.parametrize(("statement", "given"), ROWIDS.values(), ids=ROWIDS)
async def test_only_a_key_that_is_the_rowid_is_given_by_sqlite(
    sqlite: AsyncEngine, statement: str, given: bool
) -> None:
    await execute(sqlite, statement)
    if given:
        await dl.load_dataframe({"v": [7]}, "t", engine=sqlite)
        assert await fetch(sqlite, "SELECT * FROM t") == [(1, 7)]
        return
    with pytest.raises(dl.SchemaMismatch, match="required by the table but not in the source: 'id'"):
        await dl.plan_load({"v": [7]}, "t", engine=sqlite)


@pytest.mark.parametrize("what", ["column", "table"])
async def test_a_name_of_64_bytes_that_postgresql_would_cut_is_refused(postgres: AsyncEngine, what: str) -> None:
    name = "ä" * 32
    column, table = (name, "t") if what == "column" else ("id", name)
    with pytest.raises(dl.PlanError, match=f"{what} name .* has 64 bytes"):
        await dl.load_dataframe({column: [1]}, table, engine=postgres)
    assert await tables(postgres) == []


async def test_a_name_of_64_bytes_arrives_on_sqlite(sqlite: AsyncEngine) -> None:
    await dl.load_dataframe({"ä" * 32: [1]}, "x" * 64, engine=sqlite)
    assert await fetch(sqlite, f"SELECT * FROM {'x' * 64}") == [(1,)]


@pytest.mark.parametrize("name", ["", "a.b.c", '"', ".t", "s."])
async def test_a_table_name_that_cannot_be_read_is_refused(database: AsyncEngine, name: str) -> None:
    with pytest.raises(dl.PlanError, match="name"):
        await dl.load_dataframe({"id": [1]}, name, engine=database)


async def test_a_nul_in_a_name_is_refused(database: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="NUL"):
        await dl.load_dataframe({"a\0": [1]}, "t", engine=database)


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("schema", ["sales", "Sales.Old", "it's"])
async def test_a_table_in_a_schema_is_created_and_appended_to(postgres: AsyncEngine, schema: str, method: Any) -> None:
    await execute(postgres, f"CREATE SCHEMA {quoted(schema)}")
    for if_exists in ("append", "append", "truncate", "replace", "append"):
        report = await dl.load_dataframe(
            {"id": [1]}, f"{quoted(schema)}.orders", engine=postgres, method=method, if_exists=if_exists
        )
    assert report.table == f"{schema}.orders"
    assert await fetch(postgres, f"SELECT id FROM {quoted(schema)}.orders") == [(1,), (1,)]
    assert await tables(postgres) == []


async def test_a_missing_schema_is_an_error_that_says_how_to_create_it(postgres: AsyncEngine) -> None:
    with pytest.raises(dl.WriteError, match="CREATE SCHEMA"):
        await dl.load_dataframe({"id": [1]}, "nowhere.orders", engine=postgres)


async def test_a_table_in_an_attached_sqlite_database_is_found(sqlite: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [1]}, "main.orders", engine=sqlite)
    await dl.load_dataframe({"id": [2]}, "main.orders", engine=sqlite)
    assert await fetch(sqlite, "SELECT id FROM orders ORDER BY id") == [(1,), (2,)]


def orders_table(schema: str | None = None) -> sa.Table:
    return sa.Table(
        "orders",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("code", sa.String(8), nullable=False, unique=True),
        sa.Column("amount", sa.Numeric(12, 4)),
        sa.Column("state", sa.Text, server_default="new"),
        schema=schema,
    )


async def test_a_missing_sqlalchemy_table_is_created_with_its_keys_and_defaults(database: AsyncEngine) -> None:
    await dl.load_dataframe({"code": ["a", "b"], "amount": [0.1, None]}, orders_table(), engine=database)
    assert await fetch(database, "SELECT id, code, state FROM orders ORDER BY id") == [(1, "a", "new"), (2, "b", "new")]
    with pytest.raises(dl.WriteError, match=r"(?i)unique"):
        await dl.load_dataframe({"code": ["a"]}, orders_table(), engine=database)


async def test_an_existing_sqlalchemy_table_is_appended_to(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        await connection.run_sync(orders_table().create)
    await dl.load_dataframe({"code": ["a"], "id": [7]}, orders_table(), engine=database)
    assert await fetch(database, "SELECT id, code, state FROM orders") == [(7, "a", "new")]


async def test_replace_takes_the_definition_of_a_sqlalchemy_table(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE SCHEMA sales", "CREATE TABLE sales.orders (x text)")
    await dl.load_dataframe({"code": ["a"]}, orders_table("sales"), engine=postgres, if_exists="replace")
    assert await fetch(postgres, "SELECT id, code, state FROM sales.orders") == [(1, "a", "new")]


async def test_the_indexes_of_a_sqlalchemy_table_are_created_with_it(database: AsyncEngine) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("code", sa.Text, index=True))
    await dl.load_dataframe({"id": [1], "code": ["a"]}, table, engine=database)
    async with database.connect() as connection:
        indexes = await connection.run_sync(lambda sync: sa.inspect(sync).get_indexes("t"))
    assert [index["column_names"] for index in indexes] == [["code"]]


async def test_a_column_that_the_table_lacks_is_refused_with_the_near_name(database: AsyncEngine) -> None:
    await execute(database, 'CREATE TABLE t (id integer, "Amount" integer)')
    with pytest.raises(dl.SchemaMismatch, match=r"not in the table: 'amont'.*Did you mean 'Amount'"):
        await dl.load_dataframe({"id": [1], "amont": [2]}, "t", engine=database)
    assert await fetch(database, "SELECT * FROM t") == []


async def test_a_required_column_that_the_source_lacks_is_refused(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer, code text NOT NULL, state text NOT NULL DEFAULT 'new')")
    with pytest.raises(dl.SchemaMismatch, match="required by the table but not in the source: 'code'"):
        await dl.load_dataframe({"id": [1]}, "t", engine=database)


async def test_null_in_a_required_column_is_an_error_and_nothing_is_stored(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer, code text NOT NULL)")
    with pytest.raises(dl.DataLoaderError, match="code") as caught:
        await dl.load_dataframe({"id": [1, 2], "code": ["a", None]}, "t", engine=database, chunk_rows=1)
    assert "Nothing was written" in str(caught.value)
    assert await fetch(database, "SELECT * FROM t") == []


SERIALS = {
    "serial": "serial",
    "identity by default": "integer GENERATED BY DEFAULT AS IDENTITY",
    "identity always": "integer GENERATED ALWAYS AS IDENTITY",
}


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("kind", SERIALS.values(), ids=SERIALS)
async def test_numbers_that_the_database_gives_are_given(postgres: AsyncEngine, kind: str, method: Any) -> None:
    await execute(postgres, f"CREATE TABLE t (id {kind} PRIMARY KEY, name text)")
    await dl.load_dataframe({"name": ["a", "b", "c"]}, "t", engine=postgres, method=method, chunk_rows=2)
    assert await fetch(postgres, "SELECT id, name FROM t ORDER BY id") == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("kind", [SERIALS["serial"], SERIALS["identity by default"]], ids=["serial", "identity"])
@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_numbers_that_the_source_brings_are_kept(postgres: AsyncEngine, kind: str, method: Any) -> None:
    await execute(postgres, f"CREATE TABLE t (id {kind} PRIMARY KEY, name text)")
    await dl.load_dataframe({"id": [70, 71], "name": ["a", "b"]}, "t", engine=postgres, method=method)
    assert await fetch(postgres, "SELECT id FROM t ORDER BY id") == [(70,), (71,)]


async def test_both_methods_treat_an_identity_always_column_alike(postgres: AsyncEngine) -> None:
    """COPY stores the source's numbers in it, INSERT is refused: a load must not depend on the method."""
    await execute(postgres, "CREATE TABLE t (id integer GENERATED ALWAYS AS IDENTITY, name text)")
    outcomes = []
    for method in ("copy", "insert"):
        loading = dl.load_dataframe({"id": [70], "name": ["a"]}, "t", engine=postgres, method=method)
        outcomes.append(type((await asyncio.gather(loading, return_exceptions=True))[0]))
    assert outcomes[0] == outcomes[1]


async def test_the_rowid_of_sqlite_is_given(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    await dl.load_dataframe({"name": ["a", "b"]}, "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT id, name FROM t ORDER BY id") == [(1, "a"), (2, "b")]


async def test_a_generated_column_is_computed(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED)")
    await dl.load_dataframe({"a": [1, 2]}, "t", engine=database)
    assert await fetch(database, "SELECT a, b FROM t ORDER BY a") == [(1, 2), (2, 4)]


async def test_a_value_for_a_generated_column_is_refused(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED)")
    with pytest.raises(dl.SchemaMismatch, match="computed by the database: 'b'"):
        await dl.load_dataframe({"a": [1], "b": [2]}, "t", engine=database)


async def test_a_dropped_column_is_forgotten(postgres: AsyncEngine) -> None:
    await execute(
        postgres, "CREATE TABLE t (a integer, gone text NOT NULL, b integer)", "ALTER TABLE t DROP COLUMN gone"
    )
    await dl.load_dataframe({"a": [1], "b": [2]}, "t", engine=postgres)
    assert await fetch(postgres, "SELECT a, b FROM t") == [(1, 2)]


async def test_a_view_is_inserted_into_and_the_reason_is_given(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (a integer)", "CREATE VIEW v AS SELECT a FROM t")
    report = await dl.load_dataframe({"a": [1]}, "v", engine=postgres)
    assert (report.method, report.reason) == ("insert", "it is a view")
    assert await fetch(postgres, "SELECT a FROM t") == [(1,)]
    with pytest.raises(dl.PlanError, match=r"COPY cannot write to public.v: it is a view"):
        await dl.load_dataframe({"a": [1]}, "v", engine=postgres, method="copy")


@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
async def test_a_view_is_neither_truncated_nor_replaced(postgres: AsyncEngine, if_exists: Any) -> None:
    await execute(
        postgres, "CREATE TABLE t (a integer)", "INSERT INTO t VALUES (1)", "CREATE VIEW v AS SELECT a FROM t"
    )
    with pytest.raises(dl.DataLoaderError, match="not a table"):
        await dl.load_dataframe({"a": [2]}, "v", engine=postgres, if_exists=if_exists)
    assert await fetch(postgres, "SELECT a FROM v") == [(1,)]


@pytest.mark.parametrize(("name", "most"), [("STATEMENT_ROWS", 7), ("STATEMENT_BYTES", 200), ("STATEMENT_BYTES", 1)])
async def test_a_chunk_of_several_statements_is_inserted_and_counted_whole(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(insert, name, most)
    data = {"id": range(40), "name": [None if number % 3 else f"name {number}" for number in range(40)]}
    report = await dl.load_dataframe(data, "t", engine=postgres, method="insert")
    assert (report.loaded, report.chunks) == (40, 1)
    rows = list(zip(*data.values(), strict=True))
    assert await fetch(postgres, "SELECT id, name FROM t ORDER BY id") == rows


async def test_a_partitioned_table_is_copied_into(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (a integer) PARTITION BY RANGE (a)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
    )
    report = await dl.load_dataframe({"a": [5, 15]}, "t", engine=postgres)
    assert report.method == "copy"
    assert await fetch(postgres, "SELECT (SELECT a FROM t1), (SELECT a FROM t2)") == [(5, 15)]


async def test_rows_that_a_trigger_drops_are_counted_as_skipped(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (a integer)",
        """CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN IF NEW.a % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END'""",
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    report = await dl.load_dataframe({"a": [1, 2, 3]}, "t", engine=postgres)
    assert (report.read, report.loaded, report.skipped) == (3, 2, 1)


@pytest.fixture
async def clerk(postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """A role without privileges of its own."""
    await execute(postgres, "DROP ROLE IF EXISTS clerk", "CREATE ROLE clerk LOGIN")
    engine = open_engine(postgres.url.set(username="clerk"))
    yield engine
    await engine.dispose()
    await execute(postgres, "DROP OWNED BY clerk", "DROP ROLE clerk")


async def test_row_level_security_chooses_insert_with_the_reason(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (a integer)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY small ON t USING (a < 10) WITH CHECK (a < 10)",
        "GRANT USAGE ON SCHEMA public TO clerk",
        "GRANT SELECT, INSERT ON t TO clerk",
    )
    report = await dl.load_dataframe({"a": [1]}, "t", engine=clerk)
    assert (report.method, report.reason) == ("insert", "row-level security is active for this role")
    with pytest.raises(dl.WriteError, match="row-level security"):
        await dl.load_dataframe({"a": [1, 11]}, "t", engine=clerk)
    assert await fetch(postgres, "SELECT a FROM t") == [(1,)]


async def test_a_role_that_may_only_insert_can_append(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (a integer)",
        "GRANT USAGE ON SCHEMA public TO clerk",
        "GRANT INSERT ON t TO clerk",
    )
    await dl.load_dataframe({"a": [1]}, "t", engine=clerk)
    assert await fetch(postgres, "SELECT a FROM t") == [(1,)]


async def test_a_missing_privilege_is_named(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (a integer)", "GRANT USAGE ON SCHEMA public TO clerk")
    with pytest.raises(dl.WriteError, match=r"permission denied for table t.*Ask for the missing privilege"):
        await dl.load_dataframe({"a": [1]}, "t", engine=clerk)


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("exists", [True, False], ids=["existing table", "missing table"])
async def test_a_temporary_table_does_not_hijack_the_load(postgres: AsyncEngine, exists: bool, method: Any) -> None:
    one = open_engine(postgres.url)
    if exists:
        await execute(one, "CREATE TABLE public.t (a integer)")
    async with one.connect() as connection:
        await connection.execute(sa.text("CREATE TEMPORARY TABLE t (a integer)"))
        await connection.commit()
    await dl.load_dataframe({"a": [1]}, "t", engine=one, method=method)
    assert await fetch(one, "SELECT a FROM pg_temp.t") == []
    assert await fetch(one, "SELECT a FROM public.t") == [(1,)]
    await one.dispose()


@pytest.mark.parametrize("exists", [True, False], ids=["existing table", "missing table"])
async def test_a_temporary_table_does_not_hijack_the_load_on_sqlite(sqlite: AsyncEngine, exists: bool) -> None:
    if exists:
        await execute(sqlite, "CREATE TABLE t (a integer)")
    async with sqlite.connect() as connection:
        await connection.execute(sa.text("CREATE TEMPORARY TABLE t (a integer)"))
        await connection.commit()
    await dl.load_dataframe({"a": [1]}, "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT a FROM main.t") == [(1,)]


async def test_the_search_path_decides_where_an_unqualified_table_is(postgres_url: sa.URL) -> None:
    engine = dl.connect(postgres_url, connect_args={"server_settings": {"search_path": "late, early"}})
    await execute(engine, "CREATE SCHEMA early", "CREATE SCHEMA late", "CREATE TABLE early.t (a integer)")
    await dl.load_dataframe({"a": [1]}, "t", engine=engine)
    await dl.load_dataframe({"a": [2]}, "fresh", engine=engine)
    assert await fetch(engine, "SELECT a FROM early.t") == [(1,)]
    assert await fetch(engine, "SELECT a FROM late.fresh") == [(2,)]
    await execute(engine, "CREATE TABLE late.t (a integer)")
    await dl.load_dataframe({"a": [3]}, "t", engine=engine)
    assert await fetch(engine, "SELECT a FROM late.t") == [(3,)]


@pytest.mark.parametrize("commit", ["load", "chunk"])
@pytest.mark.parametrize("if_exists", ["append", "replace"])
async def test_names_that_the_server_quotes_all_change_nothing(
    postgres: AsyncEngine, commit: Any, if_exists: Any
) -> None:
    await execute(postgres, f'ALTER DATABASE "{postgres.url.database}" SET quote_all_identifiers = on')
    await postgres.dispose()
    rows = pa.table({"i": [1], "t": ["x"], "b": [b"y"], "a": [None]})
    if if_exists == "append":
        await execute(postgres, "CREATE TABLE t (i integer, t text, b bytea, a text[])")
    elif commit == "chunk":
        if_exists = "append"
    report = await dl.load_dataframe(rows, "t", engine=postgres, commit=commit, if_exists=if_exists)
    assert report.loaded == 1
    await execute(postgres, f'ALTER DATABASE "{postgres.url.database}" RESET quote_all_identifiers')
    await postgres.dispose()
    if commit == "chunk":
        again = await dl.load_dataframe(rows, "t", engine=postgres, load_id=report.load_id, resume=True)
        assert (again.loaded, again.already_loaded) == (0, 1)


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_1600_columns_arrive_on_postgresql(postgres: AsyncEngine, method: Any) -> None:
    data = {f"c{number}": pa.array([number % 2 == 0, None], pa.bool_()) for number in range(1_600)}
    await dl.load_dataframe(data, "wide", engine=postgres, method=method)
    assert await fetch(postgres, "SELECT count(c0), count(c1599), bool_or(c1598), bool_or(c1599) FROM wide") == [
        (1, 1, True, False)
    ]


async def test_1999_columns_arrive_on_sqlite(sqlite: AsyncEngine) -> None:
    data = {f"c{number}": [number, None] for number in range(1_999)}
    await dl.load_dataframe(data, "wide", engine=sqlite)
    assert await fetch(sqlite, "SELECT count(*), max(c0), max(c1998) FROM wide") == [(2, 0, 1998)]


async def test_more_columns_than_postgresql_allows_are_an_error(postgres: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="a table can have 1,600"):
        await dl.load_dataframe({f"c{number}": [True] for number in range(1_601)}, "wide", engine=postgres)


EMPTY: dict[str, Any] = {
    "pandas": pd.DataFrame({"id": pd.Series([], dtype="int64"), "name": pd.Series([], dtype="str")}),
    "arrow table": pa.schema({"id": pa.int64(), "name": pa.string()}).empty_table(),
    "arrow batch": pa.RecordBatch.from_pydict({"id": pa.array([], pa.int64()), "name": pa.array([], pa.string())}),
    "dict": {"id": pa.array([], pa.int64()), "name": pa.array([], pa.string())},
}


@pytest.mark.parametrize("method", ["auto", "insert"])
@pytest.mark.parametrize("data", EMPTY.values(), ids=EMPTY)
async def test_a_frame_without_rows_still_creates_the_table(database: AsyncEngine, data: Any, method: Any) -> None:
    report = await dl.load_dataframe(data, "t", engine=database, method=method)
    assert (report.read, report.loaded, report.chunks) == (0, 0, 0)
    await execute(database, "INSERT INTO t (id, name) VALUES (1, 'a')")
    assert await fetch(database, "SELECT id, name FROM t") == [(1, "a")]


async def test_a_stream_without_rows_creates_the_table(database: AsyncEngine) -> None:
    await dl.load_rows([], "t", columns=["id"], engine=database)
    assert await fetch(database, "SELECT id FROM t") == []


async def test_a_frame_without_rows_truncates(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer, name text)", "INSERT INTO t VALUES (1, 'a')")
    await dl.load_dataframe(EMPTY["pandas"], "t", engine=database, if_exists="truncate")
    assert await fetch(database, "SELECT * FROM t") == []


async def test_one_row_arrives(database: AsyncEngine) -> None:
    report = await dl.load_dataframe({"id": [1]}, "t", engine=database)
    assert report.loaded == 1
    assert str(report).startswith("1 row ")
    assert await fetch(database, "SELECT id FROM t") == [(1,)]


@pytest.mark.parametrize("data", [pd.DataFrame(), pd.DataFrame(index=range(3)), {}], ids=["empty", "rows", "dict"])
async def test_a_source_without_columns_cannot_make_a_table(database: AsyncEngine, data: Any) -> None:
    with pytest.raises(dl.PlanError, match="without columns"):
        await dl.load_dataframe(data, "t", engine=database)


@pytest.mark.parametrize("data", [pd.DataFrame(), pd.DataFrame(index=range(3)), {}], ids=["empty", "rows", "dict"])
async def test_a_source_without_columns_is_refused_by_an_existing_table_or_adds_nothing_wrong(
    database: AsyncEngine, data: Any
) -> None:
    await execute(database, "CREATE TABLE t (id integer DEFAULT 7)")
    loading = dl.load_dataframe(data, "t", engine=database)
    outcome = (await asyncio.gather(loading, return_exceptions=True))[0]
    assert isinstance(outcome, dl.PlanError | dl.LoadReport), repr(outcome)
    assert await fetch(database, "SELECT * FROM t") == []


async def test_columns_of_nothing_but_null_are_created_as_text(database: AsyncEngine) -> None:
    frame = pd.DataFrame({"id": [1, 2], "empty": [None, None], "nan": [float("nan")] * 2})
    await dl.load_dataframe(frame, "t", engine=database)
    assert await fetch(database, "SELECT id, empty, nan FROM t ORDER BY id") == [(1, None, None), (2, None, None)]
