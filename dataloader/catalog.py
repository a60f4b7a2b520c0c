"""The target as it is: a table read from the catalog into a TableSchema, and DDL carried out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.errors import SchemaMismatch
from dataloader.schema import SQLITE_SCHEMA, Column, TableName, TableSchema
from dataloader.types import ColumnType, parse_type

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.plan import LoadPlan

_POSTGRES_TABLE = sa.text("""
SELECT c.oid, n.nspname, c.relname, c.relkind, pg_catalog.row_security_active(c.oid) AS row_security
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
  AND CASE WHEN CAST(:schema AS text) IS NULL
      THEN n.nspname = ANY (pg_catalog.current_schemas(false)) ELSE n.nspname = :schema END
ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname)
LIMIT 1
""")
"""Temporary tables are not found: the lookup walks the search path without pg_temp."""

_POSTGRES_COLUMNS = sa.text("""
WITH RECURSIVE base (attnum, type, typmod, required) AS (
    SELECT a.attnum, a.atttypid, a.atttypmod, a.attnotnull
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = CAST(:oid AS oid) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
    SELECT b.attnum, t.typbasetype, CASE WHEN b.typmod < 0 THEN t.typtypmod ELSE b.typmod END,
           b.required OR t.typnotnull
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT a.attname, pg_catalog.format_type(b.type, b.typmod) AS type,
       b.required AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgtype & 7 = 7
       ) AS required,
       a.atthasdef OR a.attidentity <> '' AS has_default, a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
       CASE WHEN t.typtype = 'e' THEN ARRAY(
           SELECT CAST(e.enumlabel AS text) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder
       ) END AS labels,
       CASE WHEN t.typname = 'money' THEN pg_catalog.scale(CAST(CAST(0 AS money) AS numeric)) END AS money_digits
FROM base b
JOIN pg_catalog.pg_attribute a ON a.attrelid = CAST(:oid AS oid) AND a.attnum = b.attnum
JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
ORDER BY b.attnum
""")
"""Domains are followed down to the type that is stored; any NOT NULL on the way counts, unless a trigger before
INSERT may fill the column."""

_READING = sa.text("SELECT set_config('array_nulls', 'on', true), set_config('intervalstyle', 'postgres', true)")
"""For this transaction: with array_nulls off NULL is a word, and sql_standard lets one sign count for what follows."""

_NOT_FOR_COPY = {"v": "it is a view", "m": "it is a materialized view", "f": "it is a foreign table"}


async def describe(connection: AsyncConnection, name: TableName) -> TableSchema | None:
    """Read a table from the catalog, None if there is none of that name."""
    if connection.dialect.name == "postgresql":
        return await _describe_postgres(connection, name)
    if connection.dialect.name == "sqlite":
        return await _describe_sqlite(connection, name)
    return await connection.run_sync(_describe_inspected, name)


async def qualified(connection: AsyncConnection, name: TableName) -> TableName:
    """The name with the schema in which a table of that name would be created."""
    if name.schema is not None:
        return name
    if connection.dialect.name == "postgresql":
        return TableName((await connection.execute(sa.text("SELECT current_schema()"))).scalar_one(), name.name)
    return TableName(SQLITE_SCHEMA if connection.dialect.name == "sqlite" else None, name.name)


async def _describe_postgres(connection: AsyncConnection, name: TableName) -> TableSchema | None:
    found = (await connection.execute(_POSTGRES_TABLE, {"name": name.name, "schema": name.schema})).one_or_none()
    if found is None:
        return None
    rows = await connection.execute(_POSTGRES_COLUMNS, {"oid": found.oid})
    columns = tuple(
        Column(row.attname, _postgres_type(row), not row.required, row.has_default, row.generated) for row in rows
    )
    refused = "row-level security is active for this role" if found.row_security else None
    kind = found.relkind.decode() if isinstance(found.relkind, bytes) else found.relkind
    return TableSchema(TableName(found.nspname, found.relname), columns, _NOT_FOR_COPY.get(kind, refused))


def _postgres_type(row: Any) -> ColumnType:
    found = parse_type(row.type, "postgresql", tuple(row.labels or ()))
    return found if row.money_digits is None else replace(found, scale=row.money_digits)


async def _describe_sqlite(connection: AsyncConnection, name: TableName) -> TableSchema | None:
    name = TableName(name.schema or SQLITE_SCHEMA, name.name)  # or a temporary table would be found first
    statement = f"PRAGMA {quoted(connection, name.schema)}.table_xinfo({quoted(connection, name.name)})"
    rows = (await connection.exec_driver_sql(statement)).all()
    keys = [row for row in rows if row.pk]
    columns = tuple(_sqlite_column(row, len(keys) == 1) for row in rows if row.hidden != 1)
    return TableSchema(name, columns) if columns else None


def _sqlite_column(row: Any, only_key: bool) -> Column:
    rowid = bool(row.pk) and only_key and row.type.upper() == "INTEGER"
    required = bool(row.notnull or row.pk)
    return Column(
        row.name,
        parse_type(row.type or "any", "sqlite"),
        nullable=rowid or not required,
        has_default=rowid or row.dflt_value is not None,
        generated=row.hidden in {2, 3},
    )


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


async def prepare(connection: AsyncConnection, plan: LoadPlan) -> TableSchema:
    """Carry out the plan's DDL in the open transaction, and make sure that the table is as planned.

    Raises
    ------
    SchemaMismatch
        When the table was altered since the plan was made.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(_READING)
    for statement in plan.statements:
        await connection.exec_driver_sql(statement)
    found = await describe(connection, plan.table.name)
    if found is None:
        hint = "Nothing was written. Run the load again: it makes a new plan."
        raise SchemaMismatch(f"the table {plan.table.name} was dropped since the plan was made", hint=hint)
    changed = _differences(plan.table, found)
    if changed:
        hint = "Nothing was written. Run the load again: it makes a new plan."
        raise SchemaMismatch(f"the table {plan.table.name} is not as planned: {'; '.join(changed)}", hint=hint)
    return found


def _differences(planned: TableSchema, found: TableSchema) -> list[str]:
    """Columns that are gone or whose type or duties changed; a new column that needs no value is welcome."""
    names = [column.name for column in itertools.chain(planned.columns, found.columns)]
    return [
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
    facts = column.type
    size = ",".join(str(number) for number in (facts.precision, facts.scale, facts.length) if number is not None)
    spelled = facts.sql if facts.kind in {"other", "enum", "array", "geometric", "moments"} else facts.kind
    return f"{spelled}{f'({size})' if size else ''}{' not null' if column.required else ''}"
