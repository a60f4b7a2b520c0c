"""Transactions that are ones, whatever goes past SQLAlchemy: each database's backend knows how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataloader.database.backends import backend_for

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection


def transaction(connection: AsyncConnection, *opening: str) -> AbstractAsyncContextManager[None]:
    return backend_for(connection.dialect).transaction(connection, *opening)


async def settle(connection: AsyncConnection, lock_seconds: float) -> None:
    await backend_for(connection.dialect).settle(connection, lock_seconds)


async def check_deferred(connection: AsyncConnection) -> None:
    await backend_for(connection.dialect).check_deferred(connection)


async def has_ended(connection: AsyncConnection) -> bool:
    return await backend_for(connection.dialect).has_ended(connection)
