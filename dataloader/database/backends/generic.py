"""Other databases, as SQLAlchemy knows them: experimental."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.conversion.column_types import parse_type
from dataloader.database.backends.base import Backend
from dataloader.database.schema import Column, TableName, TableSchema

if TYPE_CHECKING:
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
            parse_type(_spelled(found["type"], connection), connection.dialect.name),
            nullable=found["nullable"],
            has_default=found.get("default") is not None or bool(found.get("autoincrement")),
            generated="computed" in found,
        )
        for found in inspector.get_columns(name.name, schema=name.schema)
    )
    return TableSchema(name, columns)


def _spelled(found: Any, connection: sa.Connection) -> str:
    """A column's type; MySQL keeps no fraction of a second where none is declared."""
    sql = str(found.compile(dialect=connection.dialect))
    return f"{sql}(0)" if getattr(found, "fsp", 0) is None else sql
