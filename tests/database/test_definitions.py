"""SQLAlchemy's definitions: what a Table, a type of dtype= and an engine's options say is done, or refused by name."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from tests.conftest import execute, fetch

pytestmark = pytest.mark.filterwarnings("ignore:.*inherit_schema:DeprecationWarning")


class Reversed(sa.types.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> Any:
        return value[::-1]


class Wide(sa.types.TypeDecorator[str]):
    """Only chooses a type."""

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(sa.String(40))


class Point(sa.types.UserDefinedType[Any]):
    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "text"

    def bind_expression(self, bindvalue: Any) -> Any:
        return sa.func.upper(bindvalue)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


def a_table(*columns: sa.Column[Any], **options: Any) -> sa.Table:
    return sa.Table("t", sa.MetaData(), *columns, **options)


CHANGING = {
    "a decorator": Reversed(),
    "an array of decorated texts": sa.ARRAY(Reversed),
    "a variant": sa.Text().with_variant(Reversed(), "postgresql", "sqlite"),
    "an expression": Point(),
    "a pickle": sa.PickleType(),
}


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("kind", CHANGING.values(), ids=CHANGING)
async def test_a_type_that_changes_values_in_python_is_refused_by_name(
    postgres: AsyncEngine, kind: Any, exists: bool
) -> None:
    if exists:
        await execute(postgres, "CREATE TABLE t (id integer, secret text)")
    name = type(kind).__name__ if not isinstance(kind, (sa.ARRAY, sa.Text)) else "Reversed"
    with pytest.raises(dl.UnsupportedType, match=f"'secret'.* {name} .*in Python"):
        await dl.plan_load({"secret": ["x"]}, a_table(sa.Column("secret", kind)), engine=postgres)
    with pytest.raises(dl.UnsupportedType, match=f"'secret'.* {name} .*in Python"):
        await dl.plan_load({"secret": ["x"]}, "t", engine=postgres, dtype={"secret": kind})
    table = a_table(sa.Column("id", sa.Integer), sa.Column("secret", kind))
    assert await dl.plan_load({"id": [1]}, table, engine=postgres, if_exists="append")


async def test_a_type_that_only_chooses_a_type_is_taken(database: AsyncEngine) -> None:
    table = a_table(sa.Column("v", Wide), sa.Column("d", sa.Boolean), sa.Column("j", sa.JSON))
    for _ in range(2):
        await dl.load_dataframe({"v": ["x"], "d": [True], "j": [{"a": 1}]}, table, engine=database)
    assert len(await fetch(database, "SELECT * FROM t")) == 2


DEFAULTS = {
    "a value": {"default": "new"},
    "a function": {"default": lambda: "new"},
    "an expression": {"default": sa.func.now()},
    "a sequence": {"default": sa.Sequence("s")},
}


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("options", DEFAULTS.values(), ids=DEFAULTS)
async def test_a_default_that_only_sqlalchemy_knows_is_refused_by_name(
    database: AsyncEngine, options: Any, exists: bool
) -> None:
    if exists:
        await execute(database, "CREATE TABLE t (id integer, v text)")
    table = a_table(sa.Column("id", sa.Integer), sa.Column("v", sa.Text, **options))
    with pytest.raises(dl.SchemaMismatch, match=r"'v'.*default=.*server_default"):
        await dl.load_dataframe({"id": [1]}, table, engine=database)
    await dl.load_dataframe({"id": [1], "v": ["x"]}, table, engine=database)
    assert await fetch(database, "SELECT v FROM t") == [("x",)]


async def test_a_default_that_the_database_knows_too_is_the_database_s(database: AsyncEngine) -> None:
    table = a_table(sa.Column("id", sa.Integer), sa.Column("v", sa.Text, default="new", server_default="new"))
    await dl.load_dataframe({"id": [1]}, table, engine=database)
    assert await fetch(database, "SELECT v FROM t") == [("new",)]


async def test_the_sequence_of_a_server_default_is_created(postgres: AsyncEngine) -> None:
    numbers = sa.Sequence("s", start=7)
    key = sa.Column("id", sa.Integer, numbers, server_default=numbers.next_value(), primary_key=True)
    await dl.load_dataframe({"v": ["x"]}, a_table(key, sa.Column("v", sa.Text)), engine=postgres)
    assert await fetch(postgres, "SELECT id FROM t") == [(7,)]


async def test_a_column_goes_by_its_name_and_not_by_its_key(database: AsyncEngine) -> None:
    table = a_table(sa.Column("id", sa.Integer, key="number"), info={"of": "ours"})
    for _ in range(2):
        await dl.load_dataframe({"id": [1]}, table, engine=database)
    assert await fetch(database, "SELECT id FROM t") == [(1,), (1,)]


async def test_a_name_whose_case_sqlalchemy_would_not_quote_is_refused(postgres: AsyncEngine) -> None:
    for table in (
        a_table(sa.Column("Id", sa.Integer, quote=False)),
        sa.Table("T", sa.MetaData(), sa.Column("id", sa.Integer), quote=False),
    ):
        with pytest.raises(dl.PlanError, match="quote=False"):
            await dl.plan_load({"Id" if table.name == "t" else "id": [1]}, table, engine=postgres)


async def test_the_schema_of_the_metadata_is_the_table_s(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE SCHEMA mine")
    table = sa.Table("t", sa.MetaData(schema="mine"), sa.Column("id", sa.Integer))
    await dl.load_dataframe({"id": [1]}, table, engine=postgres)
    assert await fetch(postgres, "SELECT id FROM mine.t") == [(1,)]


async def test_a_table_that_is_created_unlogged_keeps_no_checkpoints(postgres: AsyncEngine) -> None:
    table = a_table(sa.Column("id", sa.Integer), prefixes=["UNLOGGED"])
    with pytest.raises(dl.PlanError, match=r"chunk by chunk.*UNLOGGED"):
        await dl.load_dataframe({"id": [1]}, table, engine=postgres, commit="chunk")


async def test_dtype_is_checked_where_the_table_exists_and_a_difference_is_noticed(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer, v text)")
    options: Any = {"engine": database, "dtype": {"v": sa.Numeric(12, 4)}}
    report = await dl.load_dataframe({"id": [1], "v": ["x"]}, "t", **options)
    assert any(
        "'v' is text, not NUMERIC(12, 4)" in notice.lower().replace("numeric", "NUMERIC") for notice in report.warnings
    )
    with pytest.raises(dl.PlanError, match="Did you mean 'id'"):
        await dl.load_dataframe({"id": [1]}, "t", engine=database, dtype={"idd": sa.Integer})


# The types that have a name in the database

ENUM = ["x", "y"]


async def labels(postgres: AsyncEngine, name: str) -> list[tuple[str, ...]]:
    query = f"""SELECT n.nspname, e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
        JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typname = '{name}' ORDER BY e.enumsortorder"""
    return await fetch(postgres, query)


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("table", ["t", "sales.t"])
async def test_an_enum_is_created_with_its_table_in_its_schema(postgres: AsyncEngine, table: str, method: Any) -> None:
    await execute(postgres, "CREATE SCHEMA sales")
    options: Any = {"engine": postgres, "method": method, "dtype": {"v": sa.Enum("x", "it's", name="Kind of")}}
    for if_exists in ("append", "append", "replace"):
        await dl.load_dataframe({"v": ["x", "it's"]}, table, if_exists=if_exists, **options)
    schema = "sales" if "." in table else "public"
    assert await labels(postgres, "Kind of") == [(schema, "x"), (schema, "it's")]
    assert await fetch(postgres, f"SELECT v::text FROM {table}") == [("x",), ("it's",)]
    with pytest.raises(dl.ValidationError, match="'z'"):
        await dl.load_dataframe({"v": ["z"]}, table, **options)


async def test_an_enum_is_rolled_back_with_its_table(postgres: AsyncEngine) -> None:
    with pytest.raises(dl.ValidationError):
        await dl.load_dataframe({"v": ["z"]}, "t", engine=postgres, dtype={"v": sa.Enum(*ENUM, name="e")})
    assert await labels(postgres, "e") == []


async def test_an_enum_that_exists_is_used(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TYPE e AS ENUM ('x', 'y', 'z')")
    table = a_table(sa.Column("v", sa.Enum(*ENUM, name="e")), sa.Column("w", postgresql.ENUM(*ENUM, name="e")))
    await dl.load_dataframe({"v": ["x"], "w": ["y"]}, table, engine=postgres)
    assert len(await labels(postgres, "e")) == 3


NAMED: dict[str, tuple[Any, Any]] = {
    "an enum of Python's": (sa.Enum(Color, name="e"), "RED"),
    "postgresql's own enum": (postgresql.ENUM(*ENUM, name="e"), "x"),
    "an array of an enum": (sa.ARRAY(sa.Enum(*ENUM, name="e")), ["x", "y"]),
    "a domain": (postgresql.DOMAIN("e", sa.Integer, check="VALUE > 0"), 1),
    "a domain over an enum": (postgresql.DOMAIN("d", sa.Enum(*ENUM, name="e")), "x"),
    "a decorated enum": (type("D", (sa.TypeDecorator,), {"impl": sa.Enum(*ENUM, name="e"), "cache_ok": True})(), "x"),
    "a variant": (sa.String(9).with_variant(sa.Enum(*ENUM, name="e"), "postgresql"), "x"),
    "an enum in another schema": (sa.Enum(*ENUM, name="e", schema="sales"), "x"),
    "an enum without a type": (sa.Enum(*ENUM, name="e", native_enum=False, create_constraint=True), "x"),
    "an array of texts": (sa.ARRAY(sa.String(5)), ["x"]),
    "a type of text search": (postgresql.TSQUERY(), "a & b"),
}


@pytest.mark.parametrize("commit", ["load", "chunk"])
@pytest.mark.parametrize(("kind", "value"), NAMED.values(), ids=NAMED)
async def test_a_column_of_a_named_type_is_created_and_filled(
    postgres: AsyncEngine, kind: Any, value: Any, commit: Any
) -> None:
    await execute(postgres, "CREATE SCHEMA sales")
    table = a_table(sa.Column("v", kind))
    for target, options in ((table, {}), ("by_dtype", {"dtype": {"v": kind}})):
        for _ in range(2):
            await dl.load_dataframe({"v": [value]}, target, engine=postgres, commit=commit, **options)
    assert await fetch(postgres, "SELECT count(v) FROM t UNION ALL SELECT count(v) FROM by_dtype") == [(2,), (2,)]


async def test_an_enum_is_a_text_with_a_check_on_sqlite(sqlite: AsyncEngine) -> None:
    kind = sa.Enum(*ENUM, name="e", create_constraint=True)
    await dl.load_dataframe({"v": ["x"], "b": [True]}, "t", engine=sqlite, dtype={"v": kind})
    with pytest.raises(dl.WriteError, match="CHECK"):
        await dl.load_dataframe({"v": ["z"], "b": [True]}, "t", engine=sqlite)


async def test_an_enum_without_a_name_is_refused_in_words(postgres: AsyncEngine) -> None:
    with pytest.raises(dl.UnsupportedType, match=r"'v'.*requires a name"):
        await dl.plan_load({"v": ["x"]}, "t", engine=postgres, dtype={"v": sa.Enum(*ENUM)})


async def test_loads_at_once_that_create_one_enum_all_succeed(postgres: AsyncEngine) -> None:
    kind = {"v": sa.Enum(*ENUM, name="e")}
    options: Any = {"engine": postgres, "dtype": kind}
    await asyncio.gather(*(dl.load_dataframe({"v": ["x"]}, f"t{n}", **options) for n in range(4)))
    assert len(await labels(postgres, "e")) == 2


# The options of an engine


@pytest.fixture
async def tenant(postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine whose tables without a schema are in tenant_a, and where a means b, and b means c."""
    await execute(postgres, *(f"CREATE SCHEMA {name}" for name in ("tenant_a", "a", "b", "c")))
    names = {None: "tenant_a", "a": "b", "b": "c"}
    engine = create_async_engine(postgres.url)
    yield engine.execution_options(schema_translate_map=names)
    await engine.dispose()


@pytest.mark.parametrize("options", [{}, {"method": "insert"}, {"commit": "chunk"}, {"on_invalid": "reject"}], ids=str)
@pytest.mark.parametrize(("given", "meant"), [("t", "tenant_a"), ("a.t", "b"), ("b.t", "c"), ("c.t", "c")])
async def test_a_schema_is_the_one_that_the_engine_translates_it_to(
    postgres: AsyncEngine, tenant: AsyncEngine, given: str, meant: str, options: Any
) -> None:
    await execute(postgres, "CREATE TABLE public.t (v bigint)")
    schema, _, name = given.rpartition(".")
    table = sa.Table(name, sa.MetaData(), sa.Column("v", sa.BigInteger), schema=schema or None)
    for target, if_exists in ((given, "append"), (table, "append"), (table, "replace"), (given, "truncate")):
        chosen = options if if_exists == "append" else {}
        await dl.load_dataframe({"v": [1, 2]}, target, engine=tenant, if_exists=if_exists, **chosen)
        await dl.validate({"v": [1]}, target, engine=tenant, unique=True)
    where = "SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r'"
    found = await fetch(postgres, f"{where} AND nspname !~ '^(pg_|information_schema)' AND relname ~ '^(t|data.*)$'")
    assert {schema for schema, name in found} == {meant, "public"}
    assert await fetch(postgres, "SELECT count(*) FROM public.t") == [(0,)]
    assert await fetch(postgres, f"SELECT count(*) FROM {meant}.t") == [(2,)]


async def test_what_a_table_refers_to_is_in_the_translated_schema_as_well(
    postgres: AsyncEngine, tenant: AsyncEngine
) -> None:
    await execute(postgres, "CREATE TABLE b.parents (id bigint PRIMARY KEY)", "INSERT INTO b.parents VALUES (1)")
    metadata = sa.MetaData()
    sa.Table("parents", metadata, sa.Column("id", sa.BigInteger, primary_key=True), schema="a")
    parent = sa.Column("parent", sa.BigInteger, sa.ForeignKey("a.parents.id"))
    table = sa.Table("t", metadata, parent, sa.Column("e", sa.Enum(*ENUM, name="e", schema="b")))
    await dl.load_dataframe({"parent": [1], "e": ["x"]}, table, engine=tenant)
    assert await fetch(postgres, "SELECT parent, e::text FROM tenant_a.t") == [(1, "x")]
    assert await labels(postgres, "e") == [("c", "x"), ("c", "y")]


async def test_an_engine_that_only_reads_stores_nothing(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v bigint)")
    engine = postgres.execution_options(postgresql_readonly=True)
    for commit in ("load", "chunk"):
        with pytest.raises(dl.WriteError, match="read-only"):
            await dl.load_dataframe({"v": [1]}, "t", engine=engine, commit=commit)
    assert await fetch(postgres, "SELECT * FROM t") == []
