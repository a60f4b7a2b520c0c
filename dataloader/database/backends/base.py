"""The seam: what a backend declares of its database, and what it is asked to do.

What is written here holds for any database that SQLAlchemy knows; a backend overrides what differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa

from dataloader.errors import LoadError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class Backend:
    """One database, through one driver.

    Attributes
    ----------
    title : str or None
        What people call the database; None: as its URL does.
    port : str
        Where it listens if the URL does not say.
    connect_arguments : dict
        What the driver is given for an engine of ours, unless the caller gives it something else.
    needs_one_loop : bool
        Whether a second event loop that runs inside a connection can bring the interpreter down.
    """

    title: ClassVar[str | None] = None
    port: ClassVar[str] = ""
    connect_arguments: ClassVar[dict[str, Any]] = {}
    needs_one_loop: ClassVar[bool] = False

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    # Engines and connections

    def place(self, url: URL) -> str:
        """The database as it may be shown: its kind, host and port, without user or password; a socket is local."""
        host = url.host or next(iter(url.normalized_query.get("host", ["localhost"])))
        port = url.port or next(iter(url.normalized_query.get("port", [self.port])))
        host = "local" if host.startswith("/") else host
        return f"{self.title or url.get_backend_name()} {host}:{port}/{url.database or ''}".rstrip(":/")

    def is_missing(self, url: URL) -> bool:
        """Whether to connect would make a database that is not there."""
        return False

    def is_in_memory(self, engine: AsyncEngine) -> bool:
        """Whether the database ends with the engine's connection, which then works in any loop."""
        return False

    def configure(self, engine: AsyncEngine, arguments: dict[str, Any]) -> None:
        """Have every new connection of an engine of ours set up; `arguments` are those of its driver."""
        return None

    def opened(self, connection: AsyncConnection) -> None:
        """Take note of a connection, ours or the caller's, before something is sent on it."""
        return None

    # Transactions

    @contextlib.asynccontextmanager
    async def transaction(self, connection: AsyncConnection, *opening: str) -> AsyncIterator[None]:
        """A transaction that includes what goes past SQLAlchemy: raw COPY, and SQLite's DDL.

        Parameters
        ----------
        *opening : str
            Statements without parameters to begin with.

        Raises
        ------
        LoadError
            When the engine commits every statement at once, or its pool gives out an open transaction.
        """
        async with connection.begin():
            await self.begin(connection)
            for statement in opening:
                await connection.exec_driver_sql(statement)
            yield

    async def begin(self, connection: AsyncConnection) -> None:
        """Make sure that what SQLAlchemy has begun is a transaction."""
        if await connection.run_sync(_commits_at_once):
            hint = "Use an engine without isolation_level='AUTOCOMMIT': connect(url) makes one."
            raise LoadError("the engine commits every statement at once", hint=hint)

    async def settle(self, connection: AsyncConnection, lock_seconds: float) -> None:
        """Have the open transaction wait for no lock for longer, and speak UTF-8."""
        return None

    async def check_deferred(self, connection: AsyncConnection) -> None:
        """Have checked now what would be checked at the commit, whose waits for locks no cancel would reach."""
        return None

    async def has_ended(self, connection: AsyncConnection) -> bool:
        """Whether the database itself has ended the transaction."""
        return False

    def prepared(self, statement: sa.Executable) -> Prepared:
        """A statement that is carried out for every chunk."""
        return Prepared(statement)


class Prepared:
    """A statement that is carried out again and again, with other values."""

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement

    async def fetch(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """Its rows."""
        return (await connection.execute(self._statement, values)).all()


async def driver_of(connection: AsyncConnection) -> Any:
    """The driver's own connection: asyncpg's, aiosqlite's, ..."""
    held = connection.sync_connection
    if held is not None and not held.closed and not held.invalidated:
        return held.connection.driver_connection  # without the greenlet, of which a chunk would take seven
    return (await connection.get_raw_connection()).driver_connection


def _commits_at_once(connection: sa.Connection) -> bool:
    raw: Any = connection.connection.dbapi_connection
    try:
        return bool(connection.dialect.detect_autocommit_setting(raw))
    except NotImplementedError:  # a dialect that cannot tell
        return False
