"""A dialect that the package does not know, over a real file: what works, and what is refused before it writes.

It keeps its word as MySQL does: DDL commits what was done before, and cannot be rolled back.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.backends import backend_for
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

ROWS = [(1, "one"), (2, "two")]
"""What the table `t` has before each test."""
NEW = {"id": [3, 4], "name": ["three", None]}


class ThirdParty(SQLiteDialect_aiosqlite):
    """SQLAlchemy's dialect of SQLite under another name, whose transactions begin by hand and end with DDL."""

    name = "thirdparty"
    supports_statement_cache = True
    ischema_names: ClassVar[dict[str, Any]] = {**SQLiteDialect_aiosqlite.ischema_names, "UUID": sa.UUID}

    def create_connect_args(self, url: sa.URL) -> Any:
        arguments, options = super().create_connect_args(url)
        return arguments, {**options, "isolation_level": None}

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        raise NotImplementedError

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN")

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        is_ddl = re.match(r"\s*(CREATE|ALTER|DROP)\b", statement)
        if is_ddl:
            cursor.execute("COMMIT")
        super().do_execute(cursor, statement, parameters, context)
        if is_ddl:
            cursor.execute("BEGIN")


registry.register("thirdparty.aiosqlite", __name__, ThirdParty.__name__)


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine of the unknown dialect, whose database has the table `t`."""
    engine = open_engine(sa.make_url(f"thirdparty+aiosqlite:///{tmp_path / 'other.db'}"))
    await execute(engine, "CREATE TABLE t (id bigint PRIMARY KEY, name text)")
    await execute(engine, "INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    yield engine
    await engine.dispose()


async def tables(engine: AsyncEngine) -> list[str]:
    return [name for (name,) in await fetch(engine, "SELECT name FROM sqlite_master WHERE type = 'table'")]


async def rows(engine: AsyncEngine, table: str = "t") -> list[tuple[Any, ...]]:
    return await fetch(engine, f"SELECT * FROM {table}")


async def untouched(engine: AsyncEngine) -> bool:
    return (await tables(engine), await rows(engine)) == (["t"], ROWS)


# Where it is.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("thirdparty+aiosqlite:////data/shop.db", "thirdparty /data/shop.db"),
        ("mysql+asyncmy://kim:secret@db.example.com/shop", "mysql db.example.com/shop"),
        ("mysql+asyncmy://kim:secret@db.example.com:3307/shop", "mysql db.example.com:3307/shop"),
        ("mysql+asyncmy://db.example.com", "mysql db.example.com"),
        ("mysql+asyncmy://", "mysql"),
    ],
    ids=["a file", "no port", "a port", "no database", "nothing"],
)
def test_a_database_is_called_what_its_url_says(url: str, shown: str) -> None:
    assert backend_for(ThirdParty()).describe_url(sa.make_url(url)) == shown


# Values.

MOMENT = dt.datetime(2024, 5, 17, 8, 30, 15, 678901)
ID = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
STORED: dict[str, tuple[Any, Any]] = {
    "bigint": (2**53 + 1, 2**53 + 1),
    "double": (0.1, 0.1),
    "text": ("ü\n'%s :id \\", "ü\n'%s :id \\"),
    "boolean": (True, 1),
    "blob": (b"\0\xff", b"\0\xff"),
    "date": (MOMENT.date(), "2024-05-17"),
    "time": (MOMENT.time(), "08:30:15.678901"),
    "timestamp": (MOMENT, "2024-05-17 08:30:15.678901"),
    "datetime": (MOMENT, "2024-05-17 08:30:15.678901"),
    "json": ({"a": [1, None]}, '{"a": [1, null]}'),
    "uuid": (ID, str(ID)),
}
"""Values by the type of their column, and what is then in the file."""


@pytest.mark.parametrize("kind", STORED)
async def test_values_are_stored_as_they_came(other: AsyncEngine, kind: str) -> None:
    await execute(other, f"CREATE TABLE kept (v {kind})")
    value, stored = STORED[kind]
    report = await dl.load_dataframe({"v": [value, None]}, "kept", engine=other)
    assert (report.loaded, report.method) == (2, "insert")
    assert await rows(other, "kept") == [(stored,), (None,)]


@pytest.mark.parametrize("kind", [one for one in STORED if one not in {"timestamp", "uuid"}])
async def test_a_table_is_made_that_takes_the_values(other: AsyncEngine, kind: str) -> None:
    value, stored = STORED[kind]
    await dl.load_dataframe({"v": [value, None]}, "made", engine=other)
    assert await rows(other, "made") == [(stored,), (None,)]


async def test_a_text_is_read_as_the_moment_that_its_column_takes(other: AsyncEngine) -> None:
    await execute(other, "CREATE TABLE kept (v datetime)")
    await dl.load_dataframe({"v": ["2024-05-17 08:30:15.5"]}, "kept", engine=other)
    assert await rows(other, "kept") == [("2024-05-17 08:30:15.500000",)]


# What must be rolled back is refused where DDL is not.


@pytest.mark.parametrize("data", [NEW, {"other": [1]}, {"id": [3, 3]}], ids=["same columns", "others", "a key twice"])
async def test_a_table_is_not_replaced_where_its_rows_would_be_lost_if_the_load_failed(
    other: AsyncEngine, data: dict[str, Any]
) -> None:
    lost = "t cannot be replaced: thirdparty may commit DROP TABLE at once, and a failed load lose its rows"
    with pytest.raises(dl.PlanError, match=f"{lost}.*if_exists='truncate'"):
        await dl.load_dataframe(data, "t", engine=other, if_exists="replace", primary_key=next(iter(data)))
    assert await untouched(other)


async def test_a_missing_table_is_made_by_a_replace(other: AsyncEngine) -> None:
    await dl.load_dataframe(NEW, "fresh", engine=other, if_exists="replace")
    assert await rows(other, "fresh") == [(3, "three"), (4, None)]


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("fresh", {}, "fresh cannot be a dry run: thirdparty may commit CREATE TABLE at once.*Create the table first"),
        ("t", {"if_exists": "replace"}, "t cannot be replaced"),
        ("t", {"evolve": "add"}, "t cannot be a dry run: thirdparty may commit ALTER TABLE at once.*Add the columns"),
    ],
    ids=["a new table", "another table", "another column"],
)
async def test_a_dry_run_that_would_leave_something_is_refused(
    other: AsyncEngine, table: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(dl.PlanError, match=says):
        await dl.load_dataframe({**NEW, "more": [1, 2]}, table, engine=other, dry_run=True, **options)
    assert await untouched(other)


@pytest.mark.parametrize("options", [{}, {"if_exists": "truncate"}], ids=["appended", "emptied first"])
async def test_a_dry_run_into_a_table_that_is_there_leaves_it_as_it_was(
    other: AsyncEngine, options: dict[str, Any]
) -> None:
    report = await dl.load_dataframe(NEW, "t", engine=other, dry_run=True, **options)
    assert (report.loaded, report.dry_run) == (2, True)
    assert await untouched(other)


async def test_the_callers_own_transaction_is_not_ended_by_a_table_that_a_load_creates(other: AsyncEngine) -> None:
    async with other.connect() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (9, 'mine')"))
        with pytest.raises(dl.PlanError, match=r"CREATE TABLE fresh cannot be part of .* may commit both at once"):
            await dl.load_dataframe(NEW, "fresh", connection=connection)
        await connection.rollback()
    assert await untouched(other)


async def test_the_callers_own_transaction_goes_on_after_a_load_that_was_refused(other: AsyncEngine) -> None:
    async with other.begin() as connection:
        with pytest.raises(dl.WriteError, match="row 1: column 'id'"):
            await dl.load_dataframe({"id": [3, 2]}, "t", connection=connection)
        await dl.load_dataframe(NEW, "t", connection=connection)
    assert await rows(other) == [*ROWS, (3, "three"), (4, None)]


async def test_what_was_measured_into_a_missing_table_does_not_stay(other: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="Create the table first"):
        await dl.compare_methods(NEW, "fresh", engine=other)
    assert len((await dl.compare_methods(NEW, "t", engine=other)).methods) == 5
    assert await untouched(other)
