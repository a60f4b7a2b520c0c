"""Other databases, as SQLAlchemy knows them: experimental."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.conversion.column_types import ColumnType, parse_type
from dataloader.database.backends.base import Backend
from dataloader.database.schema import Column, TableName, TableSchema

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection


class Generic(Backend):
    """A database without a file of its own here, through SQLAlchemy's inspector."""

    async def describe(self, connection: AsyncConnection, name: TableName) -> TableSchema | None:
        return await connection.run_sync(_described, name)


def _described(connection: sa.Connection, name: TableName) -> TableSchema | None:
    inspector = sa.inspect(connection)
    if not inspector.has_table(name.name, schema=name.schema):
        return None
    columns = tuple(
        Column(
            found["name"],
            type_of(found["type"], connection.dialect),
            nullable=found["nullable"],
            has_default=found.get("default") is not None or bool(found.get("autoincrement")),
            generated="computed" in found,
        )
        for found in inspector.get_columns(name.name, schema=name.schema)
    )
    return TableSchema(name, columns)


def type_of(found: Any, dialect: Dialect) -> ColumnType:
    """A column's type; MySQL's moments have a number of digits of a second, and none where none is declared."""
    sql = str(found.compile(dialect=dialect))
    if not hasattr(found, "fsp"):
        return parse_type(sql, dialect.name)
    kind = "time" if isinstance(found, sa.Time) else "timestamp"
    return replace(parse_type(f"{kind}({found.fsp or 0})", dialect.name), sql=sql)
