"""A load with a name that is one transaction: the ledger knows it, by rows that this very transaction writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from dataloader.database import locks
from dataloader.database.session import Session
from dataloader.errors import ConnectionLost
from dataloader.ledger import owners
from dataloader.ledger.checkpoint import edited
from dataloader.ledger.entries import TABLES
from dataloader.ledger.ledger import Ledger
from dataloader.loading.targets import Ledgered, OneTransaction, request_of
from dataloader.loading.workers import enter_stored

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.watchdog import Watchdog
    from dataloader.ledger.ledger import Request
    from dataloader.ledger.owners import Owner
    from dataloader.loading.chunks import Chunk
    from dataloader.loading.execution import LoadExecution
    from dataloader.loading.storage import ChunkStore, StoreResult
    from dataloader.loading.synchronizing import SyncStore


class _Known(Exception):
    """Another load of that name was committed meanwhile."""


class EnteredTransaction(OneTransaction):
    """One transaction for all of it, the load's row in the ledger included: that is claimed first, as a chunk's is.

    So of two processes one loads; the other one waits, and finds the load finished. Only the ledger's tables are made
    before, in a transaction of their own: others do not wait for these until the load has ended.
    """

    _beside = TABLES

    def __init__(self, execution: LoadExecution) -> None:
        super().__init__(execution)
        self._ledger = Ledger(execution.plan, execution.backend)
        self._request: Request
        self._owner: Owner

    async def store(self, first: list[Chunk], rest: AsyncGenerator[Chunk]) -> None:
        """Store the chunks, and commit; or compare them with those that a load of that name has committed."""
        execution = self._execution
        self._request = request_of(execution, first)
        ledgered = Ledgered(execution)
        await ledgered.prepare()
        with owners.claim_ownership() as self._owner:
            try:
                await super().store(first, rest)
                return
            except _Known:
                execution.ledger_load = None
            except ConnectionLost as error:
                if error.committed_rows is None and execution.ledger_load is not None:
                    raise in_doubt(error, execution.resume_call(execution.ledger_load)) from error.__cause__
                raise
            finally:
                owners.let_go(self._owner)  # the ledger names it no more: rolled back, or finished
        await ledgered.store(first, rest)

    def _opening(self, session: Session) -> Sequence[str]:
        return session.backend.opening_sql(locks.LIMIT_SECONDS)

    async def _enter(self, session: Session, connection: AsyncConnection) -> None:
        execution = self._execution
        for statement in session.backend.lock_table_sql(execution.plan.filled):
            await connection.exec_driver_sql(statement)
        load = await self._ledger.claim_load(connection, self._request, self._owner)
        if load is None:
            raise _Known
        execution.ledger_load = load

    async def _store_chunk(
        self, connection: AsyncConnection, into: SyncStore | ChunkStore, chunk: Chunk, watchdog: Watchdog
    ) -> StoreResult:
        load = self._execution.ledger_load
        assert load is not None
        claimed = chunk.checkpoint
        if await self._ledger.claim(connection, load, claimed) is not None:
            raise edited(load, f"it has chunk {chunk.number} of a load that it does not know")
        stored = await super()._store_chunk(connection, into, chunk, watchdog)
        await enter_stored(self._ledger, load, connection, (chunk, claimed), stored, watchdog)
        return stored

    async def _finish(self, connection: AsyncConnection) -> None:
        execution, load = self._execution, self._execution.ledger_load
        assert load is not None
        await self._ledger.finish(connection, load)
        if execution.loaded:
            execution.loaded_before = await self._ledger.loaded_before(connection, load)


def in_doubt(error: ConnectionLost, call: str) -> ConnectionLost:
    """The error of a commit whose reply was lost, with the call that finds out whether it has succeeded."""
    hint = f"The commit was under way. {call} loads the rows unless they are there."
    told = ConnectionLost(error.what, hint=hint)
    told.resume_call = call
    return told
