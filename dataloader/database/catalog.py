"""The target as it is: a table read from the catalog into a TableSchema, and DDL carried out."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.conversion.types import ColumnType, parse_type
from dataloader.database import ddl, locks
from dataloader.database.backends import backend_for, sqlite
from dataloader.database.driver_errors import is_name_taken
from dataloader.database.schema import SQLITE_SCHEMA, Column, TableName, TableSchema
from dataloader.errors import SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection


_PARTS = """
WITH RECURSIVE parts (oid) AS (
    SELECT c.oid
  UNION
    SELECT i.inhrelid FROM parts JOIN pg_catalog.pg_inherits i ON i.inhparent = parts.oid
    WHERE c.relkind = 'p' OR EXISTS (
        SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgtype & 7 = 7
    )
)
"""
"""The table `c` and what its rows may be in: its partitions, and its heirs where a trigger may send rows there."""

_POSTGRES_TABLE = sa.text(f"""
SELECT c.oid, n.nspname, c.relname, c.relkind, pg_catalog.row_security_active(c.oid) AS row_security,
       CASE WHEN c.relkind IN ('v', 'f')  -- of a table it would wait for whoever has that locked
           THEN pg_catalog.pg_relation_is_updatable(c.oid, true) & 8 = 8 ELSE c.relkind <> 'm' END AS insertable,
       (SELECT pg_catalog.bool_or(r.is_instead) FROM pg_catalog.pg_rewrite r
        WHERE r.ev_class = c.oid AND r.ev_type = '3' AND r.ev_enabled IN ('O', 'A')) AS has_instead_rule,
       ({_PARTS} SELECT pg_catalog.format('%s%s', p.relkind, p.relname)
        FROM parts JOIN pg_catalog.pg_class p ON p.oid = parts.oid
        WHERE p.relkind NOT IN ('r', 'p') OR p.relpersistence <> 'p' ORDER BY p.oid LIMIT 1) AS unwatched,
       (SELECT pg_catalog.format('%s.%s', m.nspname, p.relname) FROM pg_catalog.pg_inherits i
        JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace
        WHERE i.inhrelid = c.oid LIMIT 1) AS parent,
       (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%s.%s', m.nspname, r.relname), ', ')
        FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class r ON r.oid = k.conrelid
        JOIN pg_catalog.pg_namespace m ON m.oid = r.relnamespace
        WHERE k.confrelid = c.oid AND k.contype = 'f' AND r.oid <> c.oid AND NOT r.relispartition) AS referrers
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
  AND CASE WHEN CAST(:schema AS pg_catalog.text) IS NULL
      THEN n.nspname = ANY (pg_catalog.current_schemas(false)) ELSE n.nspname = :schema END
ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname)
LIMIT 1
""")
"""Temporary tables are not found: the lookup walks the search path without pg_temp."""

_POSTGRES_COLUMNS = sa.text("""
WITH RECURSIVE base (attnum, type, typmod, required) AS (
    SELECT a.attnum, a.atttypid, a.atttypmod, a.attnotnull
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = CAST(:oid AS pg_catalog.oid) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
    SELECT b.attnum, t.typbasetype, CASE WHEN b.typmod < 0 THEN t.typtypmod ELSE b.typmod END,
           b.required OR t.typnotnull
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT pg_catalog.set_config('quote_all_identifiers', 'off', true), a.attname,
       pg_catalog.format_type(b.type, b.typmod) AS type,
       b.required AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgtype & 7 = 7
       ) AS required,
       k.typreceive <> 0 AS binary,
       a.atthasdef OR a.attidentity <> '' AS has_default, a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
       CASE WHEN t.typtype = 'e' THEN ARRAY(
           SELECT CAST(e.enumlabel AS pg_catalog.text) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid
           ORDER BY e.enumsortorder
       ) END AS labels,
       CASE WHEN t.typname = 'money'
            THEN pg_catalog.scale(CAST(CAST(0 AS pg_catalog.money) AS numeric)) END AS money_digits
FROM base b
JOIN pg_catalog.pg_attribute a ON a.attrelid = CAST(:oid AS pg_catalog.oid) AND a.attnum = b.attnum
JOIN pg_catalog.pg_type k ON k.oid = a.atttypid
JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
ORDER BY b.attnum
""")
"""Domains are followed down to the type that is stored; any NOT NULL on the way counts, unless a trigger before
INSERT may fill the column. With quote_all_identifiers on the type text would be called "text"."""

_READING = (
    "SET LOCAL array_nulls = on",
    "SET LOCAL intervalstyle = postgres",
    "SET LOCAL quote_all_identifiers = off",
)
"""With array_nulls off NULL is a word, and sql_standard lets one sign count for what follows; the fingerprint's types
are spelled alike whatever the role's settings are."""

_POSTGRES_FINGERPRINT = sa.text(f"""
SELECT pg_catalog.array_cat(
    pg_catalog.array_prepend(CAST(c.oid AS pg_catalog.text), CASE WHEN c.relhassubclass THEN ({_PARTS}
        SELECT ARRAY[
            pg_catalog.string_agg(pg_catalog.format('%s:%s', p.oid, p.relfilenode), ' ' ORDER BY p.oid),
            pg_catalog.max(
                CASE WHEN p.relkind IN ('r', 'p') THEN CAST(p.relpersistence AS pg_catalog.text) ELSE 'x' END)]
        FROM parts JOIN pg_catalog.pg_class p ON p.oid = parts.oid)
    ELSE ARRAY[pg_catalog.format('%s:%s', c.oid, c.relfilenode), CAST(c.relpersistence AS pg_catalog.text)] END),
    ARRAY[(SELECT pg_catalog.string_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ', '
                                        ORDER BY a.attnum)
           FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = ANY (CAST(:columns AS pg_catalog.text[])))])
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name
""")

_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table", "p": "partitioned table"}


async def describe(connection: AsyncConnection, name: TableName) -> TableSchema | None:
    """Read a table from the catalog, None if there is none of that name."""
    if connection.dialect.name == "postgresql":
        return await _describe_postgres(connection, name)
    if connection.dialect.name == "sqlite":
        found = await sqlite.described(connection, name)
        return None if found is None else await sqlite.with_references(connection, found)
    return await connection.run_sync(_describe_inspected, name)


async def qualified(connection: AsyncConnection, name: TableName) -> TableName:
    """The name with the schema in which a table of that name would be created."""
    if name.schema is not None:
        return name
    if connection.dialect.name == "postgresql":
        return TableName((await connection.execute(sa.text("SELECT current_schema"))).scalar_one(), name.name)
    return TableName(SQLITE_SCHEMA if connection.dialect.name == "sqlite" else None, name.name)


async def _describe_postgres(connection: AsyncConnection, name: TableName) -> TableSchema | None:
    found = (await connection.execute(_POSTGRES_TABLE, {"name": name.name, "schema": name.schema})).one_or_none()
    if found is None:
        return None
    rows = await connection.execute(_POSTGRES_COLUMNS, {"oid": found.oid})
    columns = tuple(
        Column(row.attname, _postgres_type(row), not row.required, row.has_default, row.generated, row.binary)
        for row in rows
    )
    return TableSchema(
        TableName(found.nspname, found.relname),
        columns,
        kind=_KINDS.get(_text(found.relkind), "table"),
        insertable=found.insertable,
        copy_refused=_copy_refused(found),
        unwatched=_unwatched(found),
        parent=found.parent,
        referrers=found.referrers,
    )


def _copy_refused(found: Any) -> str | None:
    if _text(found.relkind) == "v":
        return "it is a view"
    if found.has_instead_rule is not None:
        return "it has an INSERT rule, which COPY does not apply"
    return "row-level security is active for this role" if found.row_security else None


def _unwatched(found: Any) -> str | None:
    if found.unwatched is not None:
        kind, name = found.unwatched[0], found.unwatched[1:]
        return f"{name} is {f'a {_KINDS[kind]}' if kind in _KINDS else 'UNLOGGED'}"
    return "an INSERT rule may store its rows elsewhere" if found.has_instead_rule else None


def _text(value: Any) -> str:
    """PostgreSQL's "char", which asyncpg gives as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _postgres_type(row: Any) -> ColumnType:
    found = parse_type(row.type, "postgresql", tuple(row.labels or ()))
    return found if row.money_digits is None else replace(found, scale=row.money_digits)


def _describe_inspected(connection: sa.Connection, name: TableName) -> TableSchema | None:
    """Any other database, through SQLAlchemy's inspector."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(name.name, schema=name.schema):
        return None
    columns = tuple(
        Column(
            found["name"],
            parse_type(found["type"].compile(dialect=connection.dialect), connection.dialect.name),
            nullable=found["nullable"],
            has_default=found.get("default") is not None or bool(found.get("autoincrement")),
            generated="computed" in found,
        )
        for found in inspector.get_columns(name.name, schema=name.schema)
    )
    return TableSchema(name, columns)


def quoted(connection: AsyncConnection, name: str | None) -> str:
    """The name as an identifier in the database's quotes, whatever it contains."""
    return connection.dialect.identifier_preparer.quote_identifier(name or "")


async def prepare(
    connection: AsyncConnection,
    table: TableSchema,
    statements: Sequence[str],
    *,
    may_exist: bool = False,
    empties: bool = False,
    lock_seconds: float = locks.LIMIT_SECONDS,
    progress: Callable[[], None] = lambda: None,
) -> TableSchema:
    """Carry out a plan's DDL in the open transaction, and make sure that the table is as planned.

    Parameters
    ----------
    table : TableSchema
        The table as planned.
    statements : sequence of str
        The DDL.
    may_exist : bool
        Whether the load goes on where another process has made the table that the DDL creates meanwhile.
    empties : bool
        Whether the DDL takes the present rows away, by a lock that nobody is to wait for long.
    lock_seconds : float
        How long a lock is waited for: by the DDL in short tries, between which nothing is locked, then by each
        statement of the transaction.
    progress : callable
        Is called before each try.

    Raises
    ------
    SchemaMismatch
        When the table was altered since the plan was made.
    """
    if connection.dialect.name == "postgresql":
        for setting in (*_READING, locks.limited(lock_seconds)):
            await connection.exec_driver_sql(setting)

    async def carry_out() -> None:
        progress()
        await _carry_out(connection, table.name, statements, may_exist=may_exist)

    await locks.trying(lock_seconds)(carry_out)
    if connection.dialect.name == "postgresql":
        longest = locks.HOLDING_SECONDS if empties else math.inf
        await connection.exec_driver_sql(locks.limited(min(lock_seconds, longest)))
    found = await describe(connection, table.name)
    if found is None:
        hint = "Nothing was written. Run the load again: it makes a new plan."
        raise SchemaMismatch(f"the table {table.name} was dropped since the plan was made", hint=hint)
    changed = _differences(table, found)
    if changed:
        hint = "Nothing was written. Run the load again: it makes a new plan."
        raise SchemaMismatch(f"the table {table.name} is not as planned: {'; '.join(changed)}", hint=hint)
    return found


async def _carry_out(
    connection: AsyncConnection, name: TableName, statements: Sequence[str], *, may_exist: bool
) -> None:
    is_there = may_exist and await describe(connection, name) is not None
    if is_there:
        statements = ddl.locking(name, connection.dialect)
    if connection.dialect.name != "postgresql":
        for statement in statements:
            await connection.exec_driver_sql(statement)
        return
    try:
        async with connection.begin_nested():
            for statement in (locks.limited(locks.TRY_SECONDS), *statements):
                await connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        if is_there or not (may_exist and is_name_taken(error)):
            raise
        if await describe(connection, name) is None:  # another thing of that name
            raise
        await _carry_out(connection, name, statements, may_exist=may_exist)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes a table the very one that a load began with.

    Attributes
    ----------
    table : str
        PostgreSQL's oid; SQLite's root page.
    files : str
        ``oid:file`` for the table and each of its parts; a TRUNCATE gives it a new file.
    persistence : str
        ``p`` permanent, ``u`` where it or a part is unlogged, ``x`` where one is foreign.
    columns : str
        The loaded columns with their types.
    """

    table: str
    files: str
    persistence: str
    columns: str

    def changes(self, now: Fingerprint) -> str | None:
        """What happened to the table since, None if it is the same; new partitions are welcome."""
        if now.table != self.table:
            return "was dropped and created again"
        if now.persistence != self.persistence:
            return _PERSISTENCE[now.persistence]
        if now.columns != self.columns:
            return f"has other columns: {now.columns} instead of {self.columns}"
        if not set(self.files.split()) <= set(now.files.split()):
            return "was truncated, or written anew as a whole (VACUUM FULL, CLUSTER)"
        return None


_PERSISTENCE = {
    "p": "was made logged",
    "u": "was made unlogged, or got a part that is",
    "x": "got a part that is a foreign table",
}


class Fingerprints:
    """Takes the fingerprint of a table, for every chunk anew.

    Parameters
    ----------
    columns : sequence of str
        The names of the loaded columns.

    Attributes
    ----------
    column : sqlalchemy.ColumnElement
        It as a column of another statement's result, to save a round trip; NULL where only `take` can tell.
    """

    def __init__(self, name: TableName, columns: Sequence[str], dialect: Dialect) -> None:
        self._name = name
        self._columns = [*columns]
        names = {"schema": self._name.schema, "name": self._name.name, "columns": self._columns}
        query = _POSTGRES_FINGERPRINT.bindparams(**names)
        self._query = backend_for(dialect).prepared(query)
        is_postgres = dialect.name == "postgresql"
        self.column = query.columns(sa.column("fingerprint")).scalar_subquery() if is_postgres else sa.null()

    async def take(self, connection: AsyncConnection) -> Fingerprint | None:
        """The fingerprint as it is now, None if there is no such table."""
        if connection.dialect.name == "postgresql":
            found = await self._query.fetch(connection)
            return Fingerprint(*found[0][0]) if found else None
        table = await sqlite.described(connection, self._name)
        master = (
            f"SELECT rootpage FROM {quoted(connection, self._name.schema)}.sqlite_master WHERE lower(name) = lower(?)"
        )
        page = (await connection.exec_driver_sql(master, (self._name.name,))).scalar_one_or_none()
        if table is None:
            return None
        loaded = set(map(table.key, self._columns))
        shown = ", ".join(f"{one.name} {one.type.sql}" for one in table.columns if table.key(one.name) in loaded)
        return Fingerprint(str(page), "", "p", shown)


async def holds(connection: AsyncConnection, name: TableName, rows: int) -> bool:
    """Whether a SQLite table has that many rows; PostgreSQL's fingerprint knows by itself, and may not be read."""
    if connection.dialect.name != "sqlite":
        return True
    table = f"{quoted(connection, name.schema)}.{quoted(connection, name.name)}"
    counting = f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {rows})"
    return bool((await connection.exec_driver_sql(counting)).scalar_one() == rows)


def opening(dialect: Dialect, lock_seconds: float, *locked: TableName) -> list[str]:
    """What a transaction begins with that the ledger vouches for: it is on the disk, and waits for no lock for long.

    It also settles how texts are read, and nobody alters the tables `locked` until it ends.
    """
    if dialect.name != "postgresql":
        return []
    return [
        *_READING,
        "SET LOCAL synchronous_commit = on",
        locks.limited(lock_seconds),
        *(statement for name in locked for statement in ddl.locking(name, dialect)),
    ]


def _differences(planned: TableSchema, found: TableSchema) -> list[str]:
    """What is new in the way of COPY or the ledger, and columns that are gone or whose type or duties changed.

    A new column that needs no value is welcome.
    """
    names = [column.name for column in itertools.chain(planned.columns, found.columns)]
    before = {planned.copy_refused, planned.unwatched}
    news = [new for new in (found.copy_refused, found.unwatched) if new is not None and new not in before]
    return news + [
        f"{name} was {_shown(planned, name)}, is {_shown(found, name)}"
        for name in dict.fromkeys(names)
        if _shown(planned, name) != _shown(found, name) and not _may_be_new(planned, found, name)
    ]


def _may_be_new(planned: TableSchema, found: TableSchema, name: str) -> bool:
    return _shown(planned, name) == "absent" and not found.column(name).required


def _shown(table: TableSchema, name: str) -> str:
    column = next((column for column in table.columns if column.name == name), None)
    if column is None:
        return "absent"
    return f"{column.type.identity}{' not null' if column.required else ''}"
