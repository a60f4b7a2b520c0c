"""A dialect that the package does not know, over a real file: what works, and what is refused before it writes.

It keeps its word as MySQL does: DDL commits what was done before, and cannot be rolled back.
"""

from __future__ import annotations

import datetime as dt
import re
import socket
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.backends import backend_for
from dataloader.database.connection_errors import failure
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


@pytest.mark.parametrize("place", ["db.example.com/shop", "db.example.com:3307/shop", "db.example.com"])
def test_a_host_that_is_unknown_is_named_alone(place: str) -> None:
    error = socket.gaierror(-2, "Name or service not known")
    said = failure([error], None, str(error), f"mysql {place}")
    assert str(said).startswith("the host name db.example.com is unknown")


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


# What works as it does anywhere.


async def test_a_plan_says_that_it_is_an_experiment(other: AsyncEngine) -> None:
    plan = str(await dl.plan_load(NEW, "t", engine=other))
    assert "experimental: its loads are tested on no real server" in plan
    assert "a table that is created may stay after a load that failed" in plan
    assert "in one transaction, because only PostgreSQL and SQLite can hold the ledger" in plan
    assert await untouched(other)


async def test_rows_are_added_or_take_the_place_of_others(other: AsyncEngine) -> None:
    await dl.load_dataframe(NEW, "t", engine=other)
    assert await rows(other) == [*ROWS, (3, "three"), (4, None)]
    await dl.load_dataframe(NEW, "t", engine=other, if_exists="truncate")
    assert await rows(other) == [(3, "three"), (4, None)]


@pytest.mark.parametrize("if_exists", ["append", "truncate"])
async def test_a_load_that_is_refused_leaves_the_rows_that_were_there(other: AsyncEngine, if_exists: Any) -> None:
    with pytest.raises(dl.WriteError, match=r"row 1: column 'id': .* UNIQUE constraint failed"):
        await dl.load_dataframe({"id": [3, 3]}, "t", engine=other, if_exists=if_exists)
    assert await untouched(other)


async def test_a_stream_is_loaded_in_one_transaction(other: AsyncEngine) -> None:
    batches = pa.table({"id": range(10, 30)}).to_batches(max_chunksize=3)
    report = await dl.load_batches(batches, "t", engine=other, chunk_rows=5)
    assert report.loaded == 20
    assert await rows(other) == [*ROWS, *((number, None) for number in range(10, 30))]


async def test_a_batch_that_fails_in_the_middle_of_a_stream_leaves_nothing(other: AsyncEngine) -> None:
    batches = pa.table({"id": [*range(10, 30), 2]}).to_batches(max_chunksize=3)
    with pytest.raises(dl.WriteError, match="row 20"):
        await dl.load_batches(batches, "t", engine=other, chunk_rows=5)
    assert await untouched(other)


async def test_rows_that_do_not_fit_are_rejected_and_the_others_loaded(other: AsyncEngine) -> None:
    data = {"id": [3, "x", 2, 5], "name": ["c", "not a number", "there already", "e"]}
    report = await dl.load_dataframe(data, "t", engine=other, on_invalid="reject")
    assert (report.loaded, report.rejected) == (2, 2)
    assert report.rejects["name"].tolist() == ["not a number", "there already"]
    assert await rows(other) == [*ROWS, (3, "c"), (5, "e")]


async def test_a_column_that_the_table_lacks_is_added(other: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [3], "more": [1.5]}, "t", engine=other, evolve="add")
    assert await rows(other) == [(1, "one", None), (2, "two", None), (3, None, 1.5)]


async def test_a_computed_column_and_a_default_need_no_values(other: AsyncEngine) -> None:
    made = "CREATE TABLE k (id int NOT NULL, a int NOT NULL DEFAULT 3, g int GENERATED ALWAYS AS (a + 1))"
    await execute(other, made)
    await dl.load_dataframe({"id": [1]}, "k", engine=other)
    assert await rows(other, "k") == [(1, 3, 4)]
    with pytest.raises(dl.SchemaMismatch, match="required by the table but not in the source: 'id'"):
        await dl.load_dataframe({"a": [1]}, "k", engine=other)


async def test_what_is_read_is_what_is_there(other: AsyncEngine, tmp_path: Path) -> None:
    assert (await dl.read_dataframe("t", engine=other)).values.tolist() == [[1, "one"], [2, "two"]]
    asked = "SELECT name FROM t WHERE id = $1 AND name <> 'a:b\\c'"
    assert (await dl.read_dataframe(asked, [2], engine=other)).values.tolist() == [["two"]]
    batches = [batch async for batch in dl.read_batches("t", engine=other)]
    assert pa.Table.from_batches(batches).to_pydict() == {"id": [1, 2], "name": ["one", "two"]}
    await dl.export("t", tmp_path / "t.csv", engine=other)
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == ["1,one", "2,two"]


async def test_a_query_that_writes_is_rolled_back(other: AsyncEngine) -> None:
    assert len(await dl.read_dataframe("DELETE FROM t RETURNING id", engine=other)) == 2
    assert await untouched(other)


async def test_a_query_that_is_wrong_is_an_error_of_ours(other: AsyncEngine) -> None:
    with pytest.raises(dl.ReadError, match="no such table: nowhere"):
        await dl.read_dataframe("SELECT * FROM nowhere", engine=other)


async def test_rows_are_copied_there_and_back(other: AsyncEngine, database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE source (id bigint, name text)", "INSERT INTO source VALUES (7, 'seven')")
    await dl.copy_table("source", "t", source=database, engine=other)
    await dl.copy_table("source", "fresh", source=database, engine=other)
    await dl.copy_table("t", "target", source=other, engine=database)
    assert await rows(other) == [*ROWS, (7, "seven")]
    assert await rows(other, "fresh") == [(7, "seven")]
    assert await rows(database, "target") == [*ROWS, (7, "seven")]


async def test_data_is_validated_and_compared(other: AsyncEngine) -> None:
    report = await dl.validate({"id": [1, "x"]}, "t", engine=other)
    assert [(one.row, one.column) for one in report.violations] == [(1, "id")]
    found = await dl.compare({"id": [1, 3], "name": ["one", "three"]}, "t", engine=other, key="id")
    assert (found.count_only_here, found.count_only_there, found.same) == (1, 1, 1)
    assert await untouched(other)


async def test_a_check_says_how_it_is_connected_and_that_loads_are_one_transaction(other: AsyncEngine) -> None:
    report = await dl.check(other, "t")
    assert report.ok
    assert ("ok", "connection", "connected by aiosqlite", "") in report.findings
    assert any(one.topic == "ledger" and "one transaction each" in one.says for one in report.findings)


async def test_there_is_no_history_where_there_can_be_no_ledger(other: AsyncEngine) -> None:
    assert (await dl.load_history(other)).empty


async def test_a_dead_connection_is_told_from_one_that_works(other: AsyncEngine) -> None:
    async with other.connect() as connection:
        assert await backend_for(other.dialect).is_working(connection, None)


# What is not there is refused before anything is written.

MERGED = "rows cannot be merged into t: only PostgreSQL and SQLite merge rows by a key"
LEDGER = "only PostgreSQL and SQLite can hold the ledger"
NO_KEYS = "keys cannot be looked up in thirdparty. Leave unique= and foreign_keys= out"
REFUSED: dict[str, tuple[Callable[[AsyncEngine], Awaitable[object]], str]] = {
    "by chunks": (lambda e: dl.load_dataframe(NEW, "t", engine=e, commit="chunk"), f"by chunk: {LEDGER}"),
    "with a name": (lambda e: dl.load_dataframe(NEW, "t", engine=e, load_id="May"), "Leave load_id='May' out"),
    "resumed": (lambda e: dl.load_dataframe(NEW, "t", engine=e, resume=True), "Leave resume=True out"),
    "a shard": (lambda e: dl.load_dataframe(NEW, "t", engine=e, shard=(1, 2), load_id="May"), LEDGER),
    "upsert": (lambda e: dl.load_dataframe(NEW, "t", engine=e, on_conflict="update", key="id"), MERGED),
    "skip": (lambda e: dl.load_dataframe(NEW, "t", engine=e, on_conflict="ignore"), MERGED),
    "upsert into a new table": (
        lambda e: dl.load_dataframe(NEW, "fresh", engine=e, on_conflict="update", key="id", primary_key="id"),
        "cannot be merged into fresh",
    ),
    "update": (lambda e: dl.update_rows(NEW, "t", "id", engine=e), MERGED),
    "delete": (lambda e: dl.delete_rows({"id": [1]}, "t", "id", engine=e), MERGED),
    "sync": (lambda e: dl.sync_table(NEW, "t", "id", engine=e), MERGED),
    "returning": (lambda e: dl.load_dataframe(NEW, "t", engine=e, returning="id"), "t can return no values"),
    "verified": (lambda e: dl.load_dataframe(NEW, "t", engine=e, verify=True), "Leave verify= out, and compare"),
    "by COPY": (lambda e: dl.load_dataframe(NEW, "t", engine=e, method="copy"), "only PostgreSQL has COPY"),
    "unique keys": (lambda e: dl.validate(NEW, "t", engine=e, unique=True), NO_KEYS),
    "given keys": (lambda e: dl.validate(NEW, "t", engine=e, unique=["id"]), NO_KEYS),
    "foreign keys": (lambda e: dl.validate({"t": [1]}, "child", engine=e, foreign_keys=True), NO_KEYS),
    "compared by no key": (lambda e: dl.compare(NEW, "t", engine=e), "Name its columns with key="),
    "a time limit": (lambda e: dl.read_dataframe("t", engine=e, statement_timeout=3), "this is thirdparty"),
}


@pytest.mark.parametrize(("call", "says"), REFUSED.values(), ids=REFUSED)
async def test_what_needs_more_than_sql_is_refused_with_a_way_out(
    other: AsyncEngine, call: Callable[[AsyncEngine], Awaitable[object]], says: str
) -> None:
    if says is NO_KEYS:
        await execute(other, "CREATE TABLE child (t bigint REFERENCES t (id))")
    before = await tables(other)
    with pytest.raises(dl.PlanError, match=re.escape(says)):
        await call(other)
    assert (await tables(other), await rows(other)) == (before, ROWS)


async def test_a_column_that_is_too_narrow_is_not_widened(other: AsyncEngine) -> None:
    await execute(other, "CREATE TABLE names (name varchar(3))")
    with pytest.raises(dl.PlanError, match="only PostgreSQL changes the types of columns"):
        await dl.load_dataframe({"name": ["too long"]}, "names", engine=other, evolve="widen")
    assert await rows(other, "names") == []


async def test_files_are_not_known_by_their_content_without_a_ledger(other: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n3\n")
    with pytest.raises(dl.PlanError, match=f"only_new= needs the ledger: {LEDGER}"):
        await dl.load_files(tmp_path / "a.csv", "t", engine=other, only_new=True)
    assert await untouched(other)


def test_the_wire_of_another_protocol_is_not_shown(other: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="the wire cannot be shown: only PostgreSQL's protocol"), dl.wire(other):
        pass


@pytest.mark.parametrize("zone", [None, dt.UTC], ids=["naive", "aware"])
async def test_moments_that_the_driver_makes_are_read_as_moments(other: AsyncEngine, zone: dt.timezone | None) -> None:
    sqlite3.register_converter("moment", lambda raw: dt.datetime.fromisoformat(raw.decode()))
    making = open_engine(other.url.update_query_dict({"detect_types": str(sqlite3.PARSE_DECLTYPES)}))
    moment = MOMENT.replace(tzinfo=zone)
    await execute(making, "CREATE TABLE k (at moment)", f"INSERT INTO k VALUES (NULL), ('{moment}')")
    found = await dl.read_dataframe("k", engine=making, as_="arrow")
    await making.dispose()
    assert found["at"].type == pa.timestamp("us", "UTC" if zone else None)
    assert found["at"].to_pylist() == [None, moment]
