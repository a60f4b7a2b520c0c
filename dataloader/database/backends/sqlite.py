"""SQLite: one file, one writer, a catalog of pragmas, and transactions that have to be begun by hand."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
import tenacity
from sqlalchemy.dialects import sqlite as dialect

from dataloader.conversion.column_types import ColumnType, parse_type
from dataloader.conversion.dialects import SQLITE
from dataloader.conversion.types import SQLITE_EXACT_DIGITS
from dataloader.database.backends import sqlite_check as checking
from dataloader.database.backends import sqlite_merge as merging
from dataloader.database.backends import sqlite_reading as reading
from dataloader.database.backends.base import DRY_RUN, Backend, Fingerprints, driver_of
from dataloader.database.backends.borrowing import KEPT, keep
from dataloader.database.backends.merging import key_terms
from dataloader.database.schema import (
    SQLITE_SCHEMA,
    Column,
    Fingerprint,
    Merge,
    Merged,
    MergeTarget,
    Replaceable,
    TableName,
    TableRights,
    TableSchema,
    grouped,
)
from dataloader.errors import LoadError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.database.backends.reading import Receiver, Statement

BUSY_SECONDS = 30
"""How long another program's transaction is waited for."""
WAL_TRIES, WAL_SECONDS = 20, 0.01
TURN_SECONDS = 30.0
"""How long another load into a database in memory is waited for, or a read of it: it has but one connection."""
LOOK_SECONDS = 0.005
_OURS = "dataloader"
"""The mark of a connection that has our settings, until the first transaction that writes."""
_turns: weakref.WeakKeyDictionary[sa.Pool, threading.Lock] = weakref.WeakKeyDictionary()
_STAGED_KEY = "dataloader_staged_key"
_KEPT_KEYS = TableName("temp", "dataloader_kept")


class SQLite(Backend):
    """SQLite through aiosqlite, which is one thread for each connection."""

    title = "SQLite"
    most_columns = 2_000  # it may have been compiled for more
    folds_case = True
    row_number = "INTEGER"
    verify_obstacle = None
    wire_obstacle = "SQLite is no server: it runs inside this process, and nothing goes over a wire"
    unsigned_type = sa.BigInteger()
    exact_digits = SQLITE_EXACT_DIGITS
    untyped = frozenset({"duration", "interval"})
    inserts = "values"
    ledger_obstacle = experimental = None
    creates_in_transaction = True
    merge_obstacle = None
    staging = TableName("temp", "dataloader_staged")
    one_writer = "SQLite has one writer"
    refilled = "see the old rows until the commit, and then the new ones"
    cursors_hold_locks = True  # until the garbage collector finds the cursor of a cancelled statement
    now = sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now")  # finer than the second that CURRENT_TIMESTAMP knows
    moment_type = sa.Text()
    connect_arguments: ClassVar[dict[str, Any]] = {"timeout": BUSY_SECONDS}
    check = checking.check

    def describe_url(self, url: URL) -> str:
        return f"{self.title} {url.database or ':memory:'}"

    def is_missing(self, url: URL) -> bool:
        """Whether SQLite would make the file: without its folder it says so itself."""
        path = self.file_of(url)
        return path is not None and not path.exists() and path.parent.exists()

    def file_of(self, url: URL) -> Path | None:
        """The file that a URL means; None: a database in memory."""
        name = str(url.database or ":memory:")
        return None if ":memory:" in name else Path(name.removeprefix("file:").partition("?")[0])

    def is_in_memory(self, engine: AsyncEngine) -> bool:
        return isinstance(engine.sync_engine.pool, sa.StaticPool)

    async def take_turn(self, engine: AsyncEngine) -> Callable[[], None] | None:
        """In memory, where one load's transaction would be the other's too."""
        if not self.is_in_memory(engine):
            return None
        lock = _turns.setdefault(engine.sync_engine.pool, threading.Lock())  # loops in other threads share it
        for _ in range(int(TURN_SECONDS / LOOK_SECONDS)):
            if lock.acquire(blocking=False):
                return lock.release
            await asyncio.sleep(LOOK_SECONDS)
        what = f"another load or read has used the only connection of {self.describe_url(engine.url)}"
        hint = "Wait for it, or use a file, which can be read and written at once: sqlite:///file.db."
        raise LoadError(f"{what} for {TURN_SECONDS:g} s", hint=hint, committed_rows=0)

    def configure_engine(self, engine: AsyncEngine, arguments: dict[str, Any], url: URL) -> None:
        sa.event.listen(engine.sync_engine, "connect", _set_up)

    def prepare_connection(self, connection: AsyncConnection) -> None:
        """Have SQLAlchemy keep the connection whose statement is cancelled.

        It would close it, and SQLite keep its locks until the garbage collector finds the statement. But the driver's
        thread carries out in turn what it is told, whoever waits for it: a rollback or a close after the statement.
        """
        if not sa.event.contains(self.dialect, "handle_error", keep):
            sa.event.listen(self.dialect, "handle_error", keep)
        assert connection.sync_connection is not None
        connection.sync_connection.execution_options(**{KEPT: True})

    async def begin(self, connection: AsyncConnection) -> None:
        """Begin by hand, because the sqlite3 module opens no transaction before DDL.

        Another writer is waited for on the loop, not in the driver's thread, where no cancel would reach the wait.
        """
        if (await driver_of(connection)).in_transaction:
            return
        patience = (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar_one()
        await connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        try:
            if connection.sync_connection is not None and not connection.sync_connection.get_execution_options().get(
                DRY_RUN
            ):
                await _write_ahead(connection)
            await _begin_when_free(connection)
        finally:
            await connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience}")

    async def read(self, connection: AsyncConnection, statement: Statement, receiver: Receiver) -> None:
        self.limit_sql(statement.timeout)
        await reading.read(await driver_of(connection), statement, receiver)

    async def read_back(self, connection: AsyncConnection, statement: Statement, receiver: Receiver) -> None:
        await reading.read(await driver_of(connection), statement, receiver)

    async def has_ended(self, connection: AsyncConnection) -> bool:
        """As RAISE(ROLLBACK) in a trigger does."""
        return not (await driver_of(connection)).in_transaction

    async def describe(self, connection: AsyncConnection, name: TableName) -> TableSchema | None:
        found = await _described(connection, name)
        return None if found is None else await _with_references(connection, found)

    async def qualify(self, connection: AsyncConnection, name: TableName) -> TableName:
        return TableName(name.schema or SQLITE_SCHEMA, name.name)

    async def place(self, connection: AsyncConnection) -> str | None:
        """The file, by whatever name; what is in memory belongs to its connection."""
        query = "SELECT file FROM pragma_database_list WHERE name = 'main'"
        file = (await connection.exec_driver_sql(query)).scalar_one()
        if not file:
            return f"in memory: {id(await driver_of(connection))}"
        found = await asyncio.to_thread(os.stat, file)
        return f"{found.st_dev}:{found.st_ino}"

    async def losses(self, connection: AsyncConnection, name: TableName) -> dict[str, list[str]]:
        query = sa.text(_LOSSES.format(schema=self.quote(name.schema or "").replace(":", r"\:")))
        return grouped(await connection.execute(query, {"schema": name.schema, "name": name.name}))

    def fingerprints(self, name: TableName, columns: Sequence[str]) -> Fingerprints:
        return _Fingerprints(self, name, columns)

    async def has_row_count(self, connection: AsyncConnection, name: TableName, rows: int) -> bool:
        counting = f"SELECT count(*) FROM (SELECT 1 FROM {self.quote_table(name)} LIMIT {rows})"
        return bool((await connection.exec_driver_sql(counting)).scalar_one() == rows)

    async def unique_keys(self, connection: AsyncConnection, name: TableName) -> list[tuple[str, ...]]:
        rows = (await connection.execute(_KEYS, {"name": name.name, "schema": name.schema})).all()
        named = {key: [row.name for row in rows if row.key == key] for key in dict.fromkeys(row.key for row in rows)}
        return [tuple(names) for names in named.values() if None not in names]

    async def merge_target(self, connection: AsyncConnection, table: TableSchema) -> MergeTarget:
        keys = await merging.unique_keys(connection, table.name)
        master = f"{self.quote(table.name.schema or SQLITE_SCHEMA)}.sqlite_master"
        sql = f"SELECT EXISTS (SELECT 1 FROM {master} WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE)"
        has_triggers = bool((await connection.exec_driver_sql(sql, (table.name.name,))).scalar_one())
        return MergeTarget(keys, None if table.kind == "table" else f"it is a {table.kind}", has_triggers)

    async def replaceable(self, connection: AsyncConnection, table: TableSchema) -> Replaceable:
        keys = (await self.merge_target(connection, table)).keys
        primary = next((key.columns for key in keys if key.is_primary), ())
        named = (await connection.execute(_INDEXES, {"name": table.name.name, "schema": table.name.schema})).all()
        indexes = [tuple(json.loads(columns)) for (columns,) in named]
        uniques = tuple(key.columns for key in keys if key.refused is None)
        return Replaceable(
            True, beside_refused=self.one_writer, primary_key=primary, indexes=(primary, *indexes), uniques=uniques
        )

    async def stage(self, connection: AsyncConnection, merge: Merge) -> None:
        """The columns take the affinity of the table's, and so the values the form in which the table holds them."""
        columns = ", ".join(map(self.quote, merge.columns))
        made = f"CREATE TABLE {self.quote_table(self.staging)} AS SELECT {columns}"
        await connection.exec_driver_sql(f"{made} FROM {self.quote_table(merge.table)} WHERE false")

    async def know_staged(self, connection: AsyncConnection, merge: Merge) -> None:
        """SQLite makes no index by itself for what is asked of each row."""
        index = f"{self.quote(self.staging.name)} ({key_terms(merge, self.quote)})"
        await connection.exec_driver_sql(f"CREATE INDEX temp.{_STAGED_KEY} ON {index}")

    def _differs(self, merge: Merge, ours: str, theirs: str) -> str:
        names = map(self.quote, merge.updated)
        return f"NOT ({' AND '.join(_is_same(f'{ours}.{name}', f'{theirs}.{name}') for name in names)})"

    async def _keep_staged(self, connection: AsyncConnection, merge: Merge) -> str:
        """A copy of the keys: what changes nothing is taken out of the temporary table."""
        kept, key = self.quote_table(_KEPT_KEYS), ", ".join(map(self.quote, merge.key))
        given = f"SELECT {key} FROM {self.quote_table(self.staging)} ORDER BY {self.order}"
        await connection.exec_driver_sql(f"CREATE TABLE {kept} AS {given}")
        return kept

    async def _drop_kept(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(f"DROP TABLE {self.quote_table(_KEPT_KEYS)}")

    async def _insert_or_update(self, connection: AsyncConnection, merge: Merge, staged: int) -> Merged:
        """What changes nothing is taken out first: a trigger before INSERT would fire for it, and SQLite not tell."""
        table, given, same = self._joined(merge)
        columns, key = ", ".join(map(self.quote, merge.columns)), key_terms(merge, self.quote)
        there = f"EXISTS (SELECT 1 FROM {table} AS target WHERE {same}"
        alike = f"{there} AND NOT {self._differs(merge, 'target', 'given')})" if merge.updated else f"{there})"
        left = await connection.exec_driver_sql(f"DELETE FROM {given} AS given WHERE {alike}")
        found = await connection.exec_driver_sql(f"SELECT count(*) FROM {given} AS given WHERE {there})")
        known = found.scalar_one()
        values = ", ".join(f"{self.quote(name)} = excluded.{self.quote(name)}" for name in merge.updated)
        stored = await connection.exec_driver_sql(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {given} WHERE true ORDER BY rowid "
            f"ON CONFLICT ({key}) DO {f'UPDATE SET {values}' if values else 'NOTHING'}"
        )
        inserted = min(staged - left.rowcount - known, stored.rowcount)
        return Merged(inserted, stored.rowcount - inserted, left.rowcount)

    def existing_keys_query(
        self, values: list[list[Any]], types: Sequence[ColumnType], parent: sa.TableClause
    ) -> tuple[sa.Select[Any], dict[str, Any]]:
        """The columns' affinity turns the texts into what they are compared with."""
        asked = sa.func.json_each(sa.bindparam("keys")).table_valued("key", "value", name="asked")
        equal = [
            column == sa.func.json_extract(asked.c.value, f"$[{number}]") for number, column in enumerate(parent.c)
        ]
        rows = list(zip(*values, strict=True))
        return sa.select(asked.c.key).where(sa.exists().where(*equal).select_from(parent)), {"keys": json.dumps(rows)}

    async def table_rights(
        self, connection: AsyncConnection, names: Sequence[str], schema: str | None = None, target: str | None = None
    ) -> list[TableRights]:
        """Whoever can write to the file may do everything."""
        if schema not in {None, SQLITE_SCHEMA}:
            return []
        rows: Any = await connection.exec_driver_sql(
            "SELECT lower(m.name), c.name FROM main.sqlite_master m, pragma_table_info(m.name, 'main') c"
            " WHERE m.type IN ('table', 'view')"
        )
        there: dict[str, list[str]] = {name: [] for name in names}
        for name, column in rows:
            if name in there:
                there[name].append(column)
        return [TableRights(SQLITE_SCHEMA, name, columns=columns) for name, columns in there.items() if columns]

    def insert_or_skip(self, table: sa.Table) -> Any:
        return dialect.insert(table).on_conflict_do_nothing()


class _Fingerprints(Fingerprints):
    """Asked for apart, because no function of SQLite's tells it; the root page stands for the table."""

    def __init__(self, backend: SQLite, name: TableName, columns: Sequence[str]) -> None:
        self._name = name
        self._columns = [*columns]
        self._page = (
            f"SELECT rootpage FROM {backend.quote(name.schema or '')}.sqlite_master WHERE lower(name) = lower(?)"
        )

    async def take(self, connection: AsyncConnection) -> Fingerprint | None:
        table = await _described(connection, self._name)
        page = (await connection.exec_driver_sql(self._page, (self._name.name,))).scalar_one_or_none()
        if table is None:
            return None
        loaded = set(map(table.key, self._columns))
        shown = ", ".join(f"{one.name} {one.type.sql}" for one in table.columns if table.key(one.name) in loaded)
        return Fingerprint(str(page), "", "p", shown)


def _set_up(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
    except BaseException:  # the pool of SQLAlchemy 2.0 would leave it open
        connection.close()
        raise
    cursor.close()
    record.info[_OURS] = True


async def _write_ahead(connection: AsyncConnection) -> None:
    """Make the file of one of our SQLite engines WAL, before something is written; a busy one keeps its own mode.

    The busy timeout must be 0: SQLite would wait for a reader at every try.
    """
    assert connection.sync_connection is not None
    tries = WAL_TRIES if connection.sync_connection.info.pop(_OURS, False) else 0
    for _ in range(tries):
        try:
            await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:  # of which there are kinds
                raise
            await asyncio.sleep(WAL_SECONDS)


def _is_locked(error: BaseException) -> bool:
    return "database is locked" in str(error)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_locked),
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(BUSY_SECONDS),
    reraise=True,
)
async def _begin_when_free(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _described(connection: AsyncConnection, name: TableName) -> TableSchema | None:
    name = TableName(name.schema or SQLITE_SCHEMA, name.name)  # or a temporary table would be found first
    statement = f"PRAGMA {_quoted(connection, name.schema)}.table_xinfo({_quoted(connection, name.name)})"
    rows = (await connection.exec_driver_sql(statement)).all()
    if not rows:
        return None
    query = _FACTS.format(schema=_quoted(connection, name.schema))
    facts = (await connection.exec_driver_sql(query, (name.schema, name.name))).first()
    numbered = facts is not None and not facts.keyed and len([row for row in rows if row.pk]) == 1
    strict = facts is not None and bool(_STRICT.search(facts.sql or ""))
    columns = tuple(_column(row, numbered, strict) for row in rows if row.hidden != 1)
    if facts is not None and facts.type == "view":
        return TableSchema(name, columns, "view", unwatched=f"{name} is a view", folds=True)
    return TableSchema(name, columns, folds=True)


_FACTS = """SELECT type, sql, EXISTS (SELECT 1 FROM pragma_index_list(m.name, ?) WHERE origin = 'pk') AS keyed
FROM {schema}.sqlite_master m WHERE lower(name) = lower(?) AND type IN ('table', 'view')"""
"""An INTEGER PRIMARY KEY is the rowid, which SQLite gives, where there is no index for it."""
_STRICT = re.compile(r"\)[^)]*\bSTRICT\b[^)]*$", re.IGNORECASE)


async def _with_references(connection: AsyncConnection, found: TableSchema) -> TableSchema:
    """With its foreign keys, as far as this connection has SQLite check them."""
    query = _REFERENCES.format(schema=_quoted(connection, found.name.schema))
    names = {"name": found.name.name, "schema": found.name.schema}
    row = (await connection.execute(sa.text(query), names)).one()
    unchecked = f"PRAGMA foreign_keys is off in this engine: SQLite does not check those of {found.name}"
    return replace(found, referrers=row.referrers, warnings=(unchecked,) if row.unchecked else ())


_REFERENCES = """SELECT CASE WHEN foreign_keys THEN (
    SELECT group_concat(DISTINCT m.name) FROM {schema}.sqlite_master m, pragma_foreign_key_list(m.name, :schema) f
    WHERE m.type = 'table' AND lower(f."table") = lower(:name) AND lower(m.name) <> lower(:name)
) END AS referrers, NOT foreign_keys AND EXISTS (SELECT 1 FROM pragma_foreign_key_list(:name, :schema)) AS unchecked
FROM pragma_foreign_keys"""


_LOSSES = """
SELECT 'primary key' AS what, name FROM pragma_table_info(:name, :schema) WHERE pk > 0
UNION ALL SELECT 'not null of', name FROM pragma_table_info(:name, :schema) WHERE "notnull"
UNION ALL SELECT 'default of', name FROM pragma_table_info(:name, :schema) WHERE dflt_value IS NOT NULL
UNION ALL SELECT 'generated column', name FROM pragma_table_xinfo(:name, :schema) WHERE hidden IN (2, 3)
UNION ALL SELECT 'foreign key', "from" FROM pragma_foreign_key_list(:name, :schema)
UNION ALL SELECT 'unique', c.name FROM pragma_index_list(:name, :schema) i, pragma_index_info(i.name, :schema) c
          WHERE i.origin = 'u'
UNION ALL SELECT 'index', name FROM pragma_index_list(:name, :schema) WHERE origin = 'c'
UNION ALL SELECT 'trigger', name FROM {schema}.sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(:name)
"""


def _is_same(ours: str, theirs: str) -> str:
    """Whether two values are stored alike: a collation calls texts equal that differ, and 1 is 1.0 without a type."""
    return f"{ours} IS {theirs} COLLATE BINARY AND typeof({ours}) = typeof({theirs})"


_INDEXES = sa.text("""
SELECT (SELECT json_group_array(name) FROM pragma_index_info(i.name, :schema))
FROM pragma_index_list(:name, :schema) AS i WHERE NOT i.partial
""")

_KEYS = sa.text("""
SELECT 'the primary key' AS key, name, pk AS position FROM pragma_table_info(:name, :schema) WHERE pk > 0
UNION ALL
SELECT i.name, c.name, c.seqno FROM pragma_index_list(:name, :schema) AS i, pragma_index_info(i.name, :schema) AS c
WHERE i."unique" AND NOT i.partial AND i.origin <> 'pk'
ORDER BY key, position
""")
"""SQLAlchemy's reflection reads the CREATE statement, and misses a UNIQUE that stands behind a type with a length."""


def _column(row: Any, numbered: bool, strict: bool) -> Column:
    rowid = bool(row.pk) and numbered and row.type.upper() == "INTEGER"
    required = bool(row.notnull or row.pk)
    untyped = not row.type or (strict and row.type.upper() == "ANY")
    return Column(
        row.name,
        ColumnType("any", "any", dialect=SQLITE) if untyped else parse_type(row.type, "sqlite"),
        nullable=rowid or not required,
        has_default=rowid or row.dflt_value is not None,
        generated=row.hidden in {2, 3},
    )


def _quoted(connection: AsyncConnection, name: str | None) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name or "")
