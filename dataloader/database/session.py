"""A session: a connection under the watchdog, whose errors are ours. The one way in which a load reaches a database."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from dataloader.database import engine as engines
from dataloader.database import locks
from dataloader.database.backends import backend_for
from dataloader.database.backends.base import DRY_RUN, driver_of, raise_as_sqlalchemys
from dataloader.database.driver_errors import translated
from dataloader.database.watchdog import Watchdog, guarded

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.database.schema import TableName

T = TypeVar("T")


class Session:
    """Carries out units of work, each as a task that cannot outlive its connection.

    The first unit of work opens the connection. One that fails gives it back, and the next one gets another: nobody
    can tell what a connection is worth on which something was cancelled.

    Parameters
    ----------
    table : TableName
        The table that the work is about: where a lock cannot be had, the error says who holds it.
    *beside : str
        Other tables of its schema for whose locks the work may wait.
    exclusive : bool
        Whether the work has to have the table alone, so that mere readers are in its way.
    reads_only : bool
        Whether nothing is written: SQLite would make a file that is not there, so an empty database answers.
    is_dry : bool
        Whether what is written is rolled back: nothing else of the database may change by it.
    borrowed : AsyncConnection or None
        The caller's own, with a transaction of theirs: what is done in it is done inside a savepoint, and the
        connection is theirs afterwards.
    is_kept : bool
        Whether the connection is kept from one unit of work to the next, until `close`.

    Attributes
    ----------
    backend : Backend
        What is asked of the database in its own way.
    in_doubt : bool
        Whether a commit was under way when the last unit of work was given up: it may have succeeded.
    has_lost : bool
        Whether the last connection was lost, or had to be cut.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        table: TableName,
        *beside: str,
        exclusive: bool = False,
        reads_only: bool = False,
        is_kept: bool = False,
        is_dry: bool = False,
        borrowed: AsyncConnection | None = None,
    ) -> None:
        self._engine = engine
        self.backend = backend_for(engine.dialect)
        self._table = table
        self._beside = beside
        self._exclusive = exclusive
        self._reads_only = reads_only or is_dry
        self._is_dry = is_dry
        self._borrowed = borrowed
        self._is_kept = is_kept
        self._connection: AsyncConnection | None = None
        self._end_turn: Callable[[], None] | None = None
        self._watchdog: Watchdog | None = None
        self.in_doubt = False
        self.has_lost = False

    @property
    def connection(self) -> AsyncConnection:
        """The connection, inside a unit of work."""
        assert self._connection is not None
        return self._connection

    @property
    def watchdog(self) -> Watchdog:
        """The watchdog of the present unit of work."""
        assert self._watchdog is not None
        return self._watchdog

    async def run(self, work: Callable[[Session], Awaitable[T]], *, limit: float = math.inf, first_row: int = 0) -> T:
        """Carry out a unit of work.

        Parameters
        ----------
        limit : float
            How many seconds it may take as a whole.
        first_row : int
            The position in the source of the first row that it sends.

        Raises
        ------
        DataLoaderError
            In place of whatever a driver raises; see `driver_errors`.
        asyncio.CancelledError
            When the caller was cancelled; by then the work has rolled back, or has committed.
        """
        self._watchdog = None
        database = engines.describe_url(self._engine)
        with translated(database, first_row=first_row, in_doubt=self._is_committing_the_last):
            return await guarded(lambda watchdog: self._carry_out(work, watchdog), limit=limit, database=database)

    def _is_committing_the_last(self) -> bool:
        return self._watchdog is not None and self._watchdog.is_last

    async def _carry_out(self, work: Callable[[Session], Awaitable[T]], watchdog: Watchdog) -> T:
        self._watchdog = watchdog
        watchdog.reset_timeout()
        try:
            if self._borrowed is not None:
                self._connection = self._borrowed
                self.backend.borrow(self._borrowed)
            elif self._connection is None:
                self._end_turn = await self.backend.take_turn(self._engine)
                self._connection = await engines.open_connection(self._engine, reads_only=self._reads_only)
                if self._is_dry:
                    await self._connection.execution_options(**{DRY_RUN: True})
            watchdog.watch(await driver_of(self._connection))
            asking = self._connection if self._borrowed is None else None
            async with locks.naming_holders(asking, self._table, *self._beside, exclusive=self._exclusive):
                result = await work(self)
        except BaseException as error:
            # Inside the watched task, so that a pool which waits for the server cannot hold up who cancelled it.
            await self._give_back()
            is_unanswered = self.has_lost or isinstance(error, asyncio.CancelledError)
            self.in_doubt = self.in_doubt or (watchdog.committing and is_unanswered)
            raise
        self.in_doubt = False
        if not self._is_kept:
            await self._give_back()
        return result

    async def connect(self, *, limit: float = math.inf) -> None:
        """Get the connection, for which it waits no longer than `limit` seconds.

        Raises
        ------
        LoadError
            When there is none to be had.
        """
        await self.run(_nothing, limit=limit)

    async def close(self) -> None:
        """Give the connection back to its pool."""
        await guarded(lambda _: self._give_back())

    async def _give_back(self) -> None:
        if self._borrowed is not None:
            self.backend.give_back(self._borrowed)
            return
        connection, self._connection = self._connection, None
        end_turn, self._end_turn = self._end_turn, None
        try:
            if connection is not None:
                self.has_lost = await engines.close(connection)
        finally:
            if end_turn is not None:
                end_turn()

    @contextlib.asynccontextmanager
    async def transaction(self, *opening: str, is_last: bool = True) -> AsyncIterator[AsyncConnection]:
        """A transaction that includes what goes past SQLAlchemy; see `Backend.transaction`.

        Parameters
        ----------
        is_last : bool
            Whether a cancel waits for the outcome of the commit, as long as it takes: the ledger tells that of one of
            many.
        """
        if self._borrowed is not None:
            async with self.backend.savepoint(self._borrowed):
                yield self._borrowed
            return
        try:
            async with self.backend.transaction(self.connection, *opening):
                yield self.connection
                self.watchdog.begin_commit(last=is_last)
        except Exception as error:
            raise_as_sqlalchemys(self.connection, error, "COMMIT")  # it lets out what asyncpg says of a commit
            raise

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for questions, in which no lock is waited for long."""
        if self._borrowed is not None:
            await self.backend.check_transactional(self._borrowed)
            async with self._borrowed.begin_nested() as nested:
                yield self._borrowed
                await nested.rollback()
            return
        async with self.connection.begin() as begun:
            await self.backend.configure_transaction(self.connection, locks.LIMIT_SECONDS)
            yield self.connection
            await begun.rollback()  # nothing was written: a COMMIT that is lost would look like one of the load's


async def _nothing(_session: Session) -> None:
    """What is carried out to get a connection."""
