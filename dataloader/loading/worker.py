"""A worker: commits one chunk after another, each claimed in the transaction of its rows."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity

from dataloader.database import catalog
from dataloader.database import engine as engines
from dataloader.database.driver_errors import refusal_of, translated
from dataloader.database.locks import naming_holders
from dataloader.database.transactions import transaction
from dataloader.database.watchdog import Watchdog, guarded
from dataloader.errors import LoadError, WriteError
from dataloader.ledger.checkpoint import rows_of
from dataloader.ledger.entries import TABLES
from dataloader.loading.storage import Stored, Storing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.database.schema import TableName
    from dataloader.ledger.checkpoint import Run
    from dataloader.ledger.ledger import Ledger
    from dataloader.loading.chunks import Chunk
    from dataloader.plan import LoadPlan
    from dataloader.rejects import Rejects
    from dataloader.writers import Writer

T = TypeVar("T")

RETRY_SECONDS = 120.0
"""How long a chunk is tried again when what ended it may pass."""
CHUNK_SECONDS = 1800.0
"""How long one attempt may take, whatever progress it shows."""
LOCK_SECONDS = 5.0
"""How long a chunk's transaction waits for a lock before it ends, and is tried again."""
EXTRA_SECONDS = 2.0
"""How long a connection beyond the first is waited for: without it the load goes on with fewer."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the workers of a load have in common."""

    engine: AsyncEngine
    plan: LoadPlan
    ledger: Ledger
    run: Run
    writer: Writer
    label: Callable[[int], object]
    rejects: Rejects


class Worker:
    """Holds one connection from its first chunk to its last; a lost one is replaced.

    Attributes
    ----------
    committed : Stored or None
        What became of the last chunk, None if it was not committed.
    in_doubt : bool
        Whether the last chunk's commit was under way when it was given up: it may have succeeded.
    has_lost : bool
        Whether the last connection was lost, or had to be cut.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._place = engines.place_of(job.engine)
        self._connection: AsyncConnection | None = None
        self._stored: Stored | None = None
        self.committed: Stored | None = None
        self.in_doubt = False
        self.has_lost = False

    async def connect(self, limit: float = math.inf) -> None:
        """Get the connection, for which it waits no longer than `limit` seconds.

        Raises
        ------
        LoadError
            When there is none to be had.
        """
        with translated(self._place):
            await guarded(self._connected, limit=limit)

    async def commit(self, chunk: Chunk) -> None:
        """Commit a chunk, trying again for a while what may pass; `committed` then tells what became of it.

        It does so too when the worker was cancelled while the commit was under way, and that succeeded.
        Savepoints take time, so there are none until the database has refused a row without naming it.
        """
        self._stored = self.committed = None
        self.in_doubt = False
        try:
            await retrying()(self._attempt, chunk, names_rows=False)
        except WriteError as error:
            if error.row is not None or refusal_of(error) is None:
                raise
            await retrying()(self._attempt, chunk, names_rows=True)

    async def close(self) -> None:
        """Give the connection back."""
        await guarded(lambda _: self._closed())

    async def _attempt(self, chunk: Chunk, *, names_rows: bool) -> None:
        with translated(self._place, first_row=chunk.first_row):
            await guarded(lambda watchdog: self._committed(chunk, names_rows, watchdog), limit=CHUNK_SECONDS)

    async def _committed(self, chunk: Chunk, names_rows: bool, watchdog: Watchdog) -> None:
        try:
            self.committed = await self._transaction(chunk, names_rows, await self._connected(watchdog), watchdog)
            self.in_doubt = False
        except BaseException as error:
            await self._closed()
            unanswered = self.has_lost or isinstance(error, asyncio.CancelledError)
            self.in_doubt = self.in_doubt or (watchdog.committing and unanswered)
            raise

    async def _transaction(
        self, chunk: Chunk, names_rows: bool, connection: AsyncConnection, watchdog: Watchdog
    ) -> Stored:
        job = self._job
        opening = catalog.opening(job.engine.dialect, LOCK_SECONDS, job.plan.table.name)
        async with naming_holders(connection, job.plan.table.name, *TABLES), transaction(connection, *opening):
            claimed = chunk.checkpoint
            known = await job.ledger.claim(connection, job.run, claimed)
            if known is not None:
                known.check(claimed)
                return self._stored or Stored(known.loaded)
            storing = Storing(connection, job.writer, job.plan, job.label, job.rejects, names_rows=names_rows)
            await storing.prepare()
            self._stored = await storing.store(chunk, watchdog)
            violations = self._stored.violations
            await job.ledger.keep(
                connection, job.run, claimed, batch=chunk.batch, violations=violations, watchdog=watchdog
            )
            stored = replace(claimed, loaded=self._stored.rows, rejected=rows_of(violations))
            await job.ledger.count(connection, job.run, claimed, stored)
            watchdog.begin_commit(last=False)
        return self._stored

    async def _connected(self, watchdog: Watchdog) -> AsyncConnection:
        watchdog.reset_timeout()
        try:
            if self._connection is None:
                self._connection = await engines.open_connection(self._job.engine)
            watchdog.watch(await engines.driver_of(self._connection))
        except BaseException:
            await self._closed()
            raise
        return self._connection

    async def _closed(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.has_lost = await engines.close(connection)


async def retried(work: Callable[[Watchdog], Coroutine[Any, Any, T]]) -> T:
    """Carry out a small transaction under the guard, trying again what may pass."""
    return await retrying()(guarded, work)


def retrying() -> tenacity.AsyncRetrying:
    """Try again what may pass, longer and longer apart, inside a budget."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, LoadError) and error.passing),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
        stop=tenacity.stop_after_delay(RETRY_SECONDS),
        reraise=True,
    )


@contextlib.asynccontextmanager
async def committing(engine: AsyncEngine, watchdog: Watchdog, table: TableName) -> AsyncIterator[AsyncConnection]:
    """A transaction on a connection of its own, whose outcome the ledger tells."""
    opening = catalog.opening(engine.dialect, LOCK_SECONDS)
    watchdog.reset_timeout()
    with translated(engines.place_of(engine)):
        async with engines.connected(engine) as connection:
            watchdog.watch(await engines.driver_of(connection))
            async with naming_holders(connection, table, *TABLES), transaction(connection, *opening):
                yield connection
                watchdog.begin_commit(last=False)
