"""The seam of borrowing: a connection of the caller's, with a transaction of theirs, is as it was afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection

KEPT = "dataloader_keeps"
"""The execution option of a connection that outlives a cancelled statement: those of the caller's own code do not."""
BORROWED = "dataloader_borrowed"
"""What a connection's info says while it is the caller's own: then its temporary tables are tables as well."""


class Borrowing:
    """What a backend does with a connection of the caller's."""

    if TYPE_CHECKING:
        dialect: Dialect

        async def begin(self, connection: AsyncConnection) -> None: ...

    def borrow(self, connection: AsyncConnection) -> None:
        """Take note of a connection of the caller's, which has a transaction of theirs."""
        assert connection.sync_connection is not None
        connection.sync_connection.info[BORROWED] = True
        self._keep_cancelled()

    def give_back(self, connection: AsyncConnection) -> None:
        """Leave a connection of the caller's as it was."""
        if connection.sync_connection is not None and not connection.sync_connection.closed:
            connection.sync_connection.info.pop(BORROWED, None)

    def _keep_cancelled(self) -> None:
        """Have SQLAlchemy keep connections whose statement is cancelled, if they are marked: it would close them."""
        if not sa.event.contains(self.dialect, "handle_error", keep):
            sa.event.listen(self.dialect, "handle_error", keep)

    @contextlib.asynccontextmanager
    async def savepoint(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """A savepoint in the caller's own transaction, which afterwards is as it was, but for what was written."""
        await self.begin(connection)
        async with connection.begin_nested():
            yield


def keep(context: sa.ExceptionContext) -> None:
    """Listen to SQLAlchemy's handle_error: a connection that is marked stays open when its statement is cancelled."""
    connection = context.connection
    if connection is None or not isinstance(context.original_exception, asyncio.CancelledError):
        return
    if connection.get_execution_options().get(KEPT) or BORROWED in connection.info:
        context.is_disconnect = False
