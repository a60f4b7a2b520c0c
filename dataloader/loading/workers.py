"""Workers: they share a load's chunks, each on a connection of its own, as many as there are connections for.

Whoever stores chunks does so by `store_chunks`, the load in one transaction as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import tenacity

from dataloader.database.driver_errors import refusal_of
from dataloader.database.session import Session
from dataloader.errors import LoadError, WriteError
from dataloader.formatting import quantity
from dataloader.ledger.checkpoint import rows_of
from dataloader.ledger.entries import TABLES
from dataloader.loading.storage import ChunkStore, StoreResult
from dataloader.sync import together
from dataloader.writers import Written

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.watchdog import Watchdog
    from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad
    from dataloader.ledger.ledger import Ledger
    from dataloader.loading.chunks import Chunk, SharedIterator
    from dataloader.loading.execution import LoadExecution

RETRY_SECONDS = 120.0
"""How long a chunk is tried again after a transient error."""
CHUNK_SECONDS = 1800.0
"""How long one attempt may take, whatever progress it shows."""
LOCK_SECONDS = 5.0
"""How long a chunk's transaction waits for a lock before it ends, and is tried again."""
EXTRA_SECONDS = 2.0
"""How long a connection beyond the first is waited for: without it the load runs with fewer."""


async def store_chunks(
    execution: LoadExecution, chunks: SharedIterator[Chunk], store: Callable[[Chunk], Awaitable[None]]
) -> None:
    """Store one chunk after the other, waiting while the load is paused."""
    while (chunk := await chunks.take()) is not None:
        await execution.progress.wait_while_paused()
        if execution.pace is not None:  # between two chunks: no transaction is open where each has its own
            await execution.pace.wait(chunk.rows)
        await store(chunk)
        execution.rejects.check()
        del chunk  # or it would live on while the next one is waited for


class WorkerPool:
    """Stores chunks by several workers; the load needs the first one, the others if there is room for them."""

    def __init__(self, execution: LoadExecution, ledger: Ledger, load: LedgerLoad) -> None:
        self._execution = execution
        self._workers = [Worker(execution, ledger, load) for _ in range(execution.plan.workers)]
        self._missing = 0
        self._is_under_way = asyncio.Event()
        self._connecting = asyncio.Lock()

    @property
    def in_doubt(self) -> bool:
        """Whether there may be a chunk in the table that is not counted."""
        return any(worker.session.in_doubt for worker in self._workers)

    @property
    def has_lost(self) -> bool:
        """Whether a worker's last connection was lost, or had to be cut."""
        return any(worker.session.has_lost for worker in self._workers)

    async def store(self, chunks: SharedIterator[Chunk]) -> None:
        """Store the chunks, each worker the next one; the first error stops them all."""
        await together(*(self._work(worker, chunks) for worker in self._workers))

    async def _work(self, worker: Worker, chunks: SharedIterator[Chunk]) -> None:
        try:
            if await self._is_connected(worker):
                await store_chunks(self._execution, chunks, worker.store)
        finally:
            await worker.session.close()

    async def _is_connected(self, worker: Worker) -> bool:
        """Whether there is a connection for the worker: the first one insists, and is served first."""
        if worker is self._workers[0]:
            await retrying()(worker.session.connect)
            self._is_under_way.set()
            return True
        await self._is_under_way.wait()
        try:
            async with self._connecting:  # two at once at a role's limit, and PostgreSQL refuses both
                await worker.session.connect(limit=EXTRA_SECONDS)
        except LoadError as error:
            self._missing += 1
            running, planned = len(self._workers) - self._missing, len(self._workers)
            self._execution.warnings.append(
                f"running with {quantity(running, 'worker')} instead of {planned}: {error.what}"
            )
            return False
        return True


class Worker:
    """Stores one chunk after the other, each claimed in the transaction of its rows.

    Attributes
    ----------
    session : Session
        Holds one connection from the first chunk to the last; a lost one is replaced.
    """

    def __init__(self, execution: LoadExecution, ledger: Ledger, load: LedgerLoad) -> None:
        self._execution = execution
        self._ledger = ledger
        self._load = load
        self._written: StoreResult | None = None
        self._committed: StoreResult | None = None
        self.session = Session(execution.engine, execution.plan.table.name, *TABLES, is_kept=True)

    async def store(self, chunk: Chunk) -> None:
        """Commit a chunk and count it, trying again for a while after a transient error.

        It is counted too when the worker was cancelled while the commit was under way, and that succeeded.
        Savepoints take time, so there are none until the database has refused a row without naming it.
        """
        self._written = self._committed = None
        try:
            await self._retry(chunk, names_rows=False)
        except WriteError as error:
            if error.row is not None or refusal_of(error) is None:
                raise
            await self._retry(chunk, names_rows=True)
        finally:
            self._count(chunk)

    def _count(self, chunk: Chunk) -> None:
        if self._committed is not None:
            self._execution.add(chunk, self._committed)

    async def _retry(self, chunk: Chunk, *, names_rows: bool) -> None:
        async def commit(session: Session) -> None:
            self._committed = await self._commit(chunk, names_rows, session)

        await retrying()(self.session.run, commit, limit=CHUNK_SECONDS, first_row=chunk.first_row)

    async def _commit(self, chunk: Chunk, names_rows: bool, session: Session) -> StoreResult:
        """The claim first, then the rows, then the count: whatever ends it in between, the chunk is stored once."""
        execution, ledger, load, claimed = self._execution, self._ledger, self._load, chunk.checkpoint
        opening = session.backend.opening_sql(LOCK_SECONDS, execution.plan.filled)
        async with session.transaction(*opening, is_last=False) as connection:
            # Waits for an earlier try whose outcome is unknown: the unique key is free once that has rolled back.
            known = await ledger.claim(connection, load, claimed)
            if known is not None:
                known.check(claimed)
                return self._written or StoreResult(Written(known.loaded))
            store = ChunkStore(connection, execution, names_rows=names_rows)
            await store.prepare()
            self._written = written = await store.store(chunk, session.watchdog)
            await enter_stored(ledger, load, connection, (chunk, claimed), written, session.watchdog)
        return written


async def enter_stored(  # noqa: PLR0917 - what was stored, and where that is entered
    ledger: Ledger,
    load: LedgerLoad,
    connection: AsyncConnection,
    entered: tuple[Chunk, Checkpoint],
    stored: StoreResult,
    watchdog: Watchdog,
) -> None:
    """Enter what became of a chunk that was claimed by its checkpoint, in the transaction of its rows."""
    (chunk, claimed), violations = entered, stored.violations
    await ledger.keep(connection, load, claimed, batch=chunk.batch, violations=violations, watchdog=watchdog)
    counted = replace(claimed, loaded=stored.written.stored, rejected=rows_of(violations))
    await ledger.count(connection, load, claimed, counted)


def retrying() -> tenacity.AsyncRetrying:
    """Try again after a transient error, longer and longer apart, inside a budget."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, LoadError) and error.is_transient),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
        stop=tenacity.stop_after_delay(RETRY_SECONDS),
        reraise=True,
    )
