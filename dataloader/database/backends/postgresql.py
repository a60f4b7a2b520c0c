"""PostgreSQL, through any driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from dataloader.database.backends.base import Backend
from dataloader.database.backends.operators import pin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

SPEAKING = "SET LOCAL client_encoding = 'UTF8'"
"""COPY's bytes are UTF-8, and asyncpg's statements, whatever the session's encoding is."""


class PostgreSQL(Backend):
    """PostgreSQL as SQLAlchemy reaches it; asyncpg has a file of its own."""

    title = "PostgreSQL"
    port = "5432"

    def opened(self, connection: AsyncConnection) -> None:
        sa.event.listen(connection.sync_connection, "before_cursor_execute", pin, retval=True)

    async def begin(self, connection: AsyncConnection) -> None:
        await super().begin(connection)
        await connection.exec_driver_sql(SPEAKING)

    async def settle(self, connection: AsyncConnection, lock_seconds: float) -> None:
        settings = {"lock_timeout": f"{lock_seconds * 1000:.0f}", "client_encoding": "UTF8"}
        calls = (sa.func.pg_catalog.set_config(name, value, True) for name, value in settings.items())
        await connection.execute(sa.select(*calls))

    async def check_deferred(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
