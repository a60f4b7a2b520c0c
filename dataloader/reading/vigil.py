"""Whether a server that says nothing still works on the query: that is asked on another connection.

A query may think for hours before its first row, so its silence has no limit. A network that is gone is silent, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database import engine as engines
from dataloader.database.backends import backend_for
from dataloader.database.driver_errors import chain

if TYPE_CHECKING:
    from dataloader.database.watchdog import Watchdog

SILENT_SECONDS = 30.0
ANSWER_SECONDS = 15.0
_OF_AN_ANSWER = 0.25
"""How much of the silence passes between two looks at it."""


class Vigil:
    """Ends the connection of a query whose server does not work on it any more, or cannot be reached.

    Attributes
    ----------
    session : object
        By what the backend finds the session again, None until it is known.
    reason : str or None
        Why the connection was ended.
    """

    def __init__(self, engine: AsyncEngine, watchdog: Watchdog) -> None:
        self._engine = engine
        self._watchdog = watchdog
        self._loop = asyncio.get_running_loop()
        self._since: float | None = self._loop.time()
        self.session: Any = None
        self.reason: str | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({self._task})

    def heard(self) -> None:
        """The server has said something, and it is its turn."""
        self._since = self._loop.time()

    def suspend(self) -> None:
        """It is the turn of who wants the rows."""
        self._since = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SILENT_SECONDS * _OF_AN_ANSWER)
            since = self._since
            if since is None or self._loop.time() - since < SILENT_SECONDS:
                continue
            reason = await self._asked()
            if self._since != since:
                continue
            if reason is not None:
                self.reason = reason
                self._watchdog.terminate()
                return
            self.heard()

    async def _asked(self) -> str | None:
        """Why there is nothing to wait for, None where the server works on it, or cannot be asked."""
        engine = _apart(self._engine)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await engines.open_connection(engine, reads_only=True)
                try:
                    is_working = await backend_for(engine.dialect).is_working(connection, self.session)
                finally:
                    await engines.close(connection)
        except TimeoutError:
            return f"the server does not answer on another connection either, for {ANSWER_SECONDS:.0f} s"
        except Exception as error:  # what the server itself says, like "too many connections", is an answer
            lost = any(isinstance(one, OSError) for one in chain(error))
            return "the server cannot be reached by another connection either" if lost else None
        return None if is_working else "the server does not work on the query any more"


def _apart(engine: AsyncEngine) -> AsyncEngine:
    """An engine like it that opens a connection of its own: all of the pool's may be in use, or cut off alike."""
    twin = copy.copy(engine.sync_engine)
    twin.pool = sa.NullPool(engine.sync_engine.pool._creator, dialect=twin.dialect)
    return AsyncEngine(twin)
