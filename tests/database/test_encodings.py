"""Client and server encodings other than UTF-8: a text arrives as it is, or is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch

BY: dict[str, dict[str, Any]] = {
    "copy": {"method": "copy"},
    "csv": {"method": "copy", "dtype": {"v": sa.Text(), "n": sa.dialects.postgresql.TSQUERY()}},
    "insert": {"method": "insert"},
    "chunks": {"commit": "chunk"},
    "rejects": {"on_invalid": "reject"},
}
NAMES = {"table": "tä€", "column": "sü€"}


SPOKEN = {
    "LATIN1": ("asyncpg", {"server_settings": {"client_encoding": "LATIN1"}}),
    "EUC_JP": ("asyncpg", {"server_settings": {"client_encoding": "EUC_JP"}}),
    "SQL_ASCII": ("asyncpg", {"server_settings": {"client_encoding": "SQL_ASCII"}}),
    "LATIN1 by psycopg": ("psycopg", {"client_encoding": "LATIN1"}),
}


@pytest.fixture(params=SPOKEN)
async def engine(request: pytest.FixtureRequest, postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """An engine whose sessions have another client encoding."""
    driver, arguments = SPOKEN[request.param]
    engine = create_async_engine(postgres_url.set(drivername=f"postgresql+{driver}"), connect_args=arguments)
    yield engine
    await engine.dispose()


async def test_a_session_s_encoding_changes_neither_values_nor_names(
    engine: AsyncEngine, postgres: AsyncEngine
) -> None:
    before = await fetch(engine, "SHOW client_encoding")
    for number, (way, options) in enumerate(BY.items()):
        if engine.dialect.driver != "asyncpg" and options.get("method") == "copy":
            continue
        data = {NAMES["column"]: ["Mü€", "\N{SNOWMAN}"]} | ({"v": ["ß", "é"], "n": ["ä", "ö"]} if way == "csv" else {})
        table = f"{NAMES['table']}{number}"
        for _ in range(2):  # into a new table, and into one that is there
            report = await dl.load_dataframe(data, table, engine=engine, **options)
            assert report.loaded == 2
        query = f'SELECT "{NAMES["column"]}" FROM "{table}"'
        assert await fetch(postgres, query) == [("Mü€",), ("\N{SNOWMAN}",)] * 2
    assert await fetch(engine, "SHOW client_encoding") == before != [("UTF8",)]


async def test_a_validation_asks_for_keys_in_any_session_s_encoding(engine: AsyncEngine, postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v text PRIMARY KEY)", "INSERT INTO t VALUES ('€')")
    report = await dl.validate({"v": ["€", "ü"]}, "t", engine=engine, unique=True)
    assert [(one.row, one.reason) for one in report.violations] == [(0, "exists")]


@pytest.fixture
async def database_of(postgres: AsyncEngine) -> AsyncIterator[Any]:
    """Makes an engine for a new database with an encoding of its own."""
    made: list[tuple[str, AsyncEngine]] = []

    async def on_admin(statement: str) -> None:
        async with postgres.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql(statement)

    async def database_of(encoding: str) -> AsyncEngine:
        name = f"of_{encoding.lower()}"
        await on_admin(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        made.append((name, open_engine(postgres.url.set(database=name))))
        return made[-1][1]

    yield database_of
    for name, engine in made:
        await engine.dispose()
        await on_admin(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_database_of_bytes_keeps_texts_in_utf_8(database_of: Any) -> None:
    engine = await database_of("SQL_ASCII")
    for options in ({"method": "copy"}, {"method": "insert"}):
        await dl.load_dataframe({"v": ["Mü€"]}, "t", engine=engine, if_exists="replace", **options)
        assert await fetch(engine, "SELECT v, encode(v::bytea, 'hex') FROM t") == [("Mü€", "Mü€".encode().hex())]


async def test_a_database_of_latin_1_refuses_what_it_lacks_by_its_row(database_of: Any) -> None:
    engine = await database_of("LATIN1")
    for options in ({"method": "copy"}, {"method": "insert"}, {"commit": "chunk"}):
        with pytest.raises(dl.WriteError, match='no equivalent in encoding "LATIN1"') as raised:
            await dl.load_dataframe({"v": ["Mü", "Mü€"]}, "t", engine=engine, if_exists="append", **options)
        assert raised.value.row == 1
    await dl.load_dataframe({"v": ["Mü", "Mü€"]}, "t", engine=engine, on_invalid="reject")
    assert await fetch(engine, "SELECT v, length(v) FROM t") == [("Mü", 2)]
