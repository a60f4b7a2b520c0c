"""What a table has that is lost when it is dropped and created again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataloader.database.backends import backend_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName


async def losses(connection: AsyncConnection, name: TableName) -> dict[str, list[str]]:
    return await backend_for(connection.dialect).losses(connection, name)
