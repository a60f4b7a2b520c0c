"""Shards on their way into a load: the first one makes the table, and none begins without a connection for it.

A shard is entered in the ledger before its source is read: so the table is as all of them need it, and who waits for a
connection, or for a twin that loads the same shard, holds no rows meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash
from sqlalchemy.pool import QueuePool

from dataloader.database.session import Session
from dataloader.errors import CheckpointError
from dataloader.ledger import owners
from dataloader.ledger.checkpoint import LedgerLoad
from dataloader.ledger.entries import TABLES
from dataloader.ledger.ledger import Ledger, Request
from dataloader.ledger.shards import Shard, ShardedLoad, WholeState
from dataloader.loading import workers
from dataloader.loading.execution import LoadExecution
from dataloader.loading.planning import decide
from dataloader.loading.targets import Ledgered, apply_plan

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.display.progress import Progress
    from dataloader.ledger.owners import Owner
    from dataloader.options import LoadOptions
    from dataloader.sources.base import Source

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: there the processes of a host ask at the same time
    fcntl = None

ASK_SECONDS = (0.5, 2.0)
"""How long a shard waits before it asks again whether there is a connection for it."""
DOOR_SECONDS = (0.02, 0.1)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What a shard has to wait for, in words; nothing where it has only to be planned again."""

    reason: str = ""


@contextlib.asynccontextmanager
async def entered(
    engine: AsyncEngine, source: Source, table: str | sa.Table, options: LoadOptions, progress: Progress
) -> AsyncIterator[LoadExecution]:
    """A shard that is entered in the ledger and belongs to this process, until the block ends."""

    async def planned() -> LoadExecution:
        plan = await decide(engine, source, table, options)
        return LoadExecution(engine, source, plan, options, progress)

    with owners.claim_ownership() as owner:
        execution = await _enter(planned, owner, f"{engine.url.render_as_string()} {options.load_id}")
        try:
            yield execution
        except BaseException:
            assert execution.ledger_load is not None
            await Ledgered(execution).release(execution.ledger_load)
            raise


async def enter_whole(
    engine: AsyncEngine, source: Source, table: str | sa.Table, options: LoadOptions, progress: Progress
) -> LoadExecution:
    """Enter the load that shards are to carry out, before any of them: the table is made by the columns of `source`."""
    plan = await decide(engine, source, table, options)
    execution = LoadExecution(engine, source, plan, options, progress)
    with owners.claim_ownership() as owner:
        await _Entry(execution, owner).enter_whole()
    return execution


async def state_of(execution: LoadExecution) -> WholeState:
    """How far the shards of a load are by now."""
    whole = ShardedLoad(execution.plan, Shard.of(execution.options), execution.options, execution.backend)

    async def look(session: Session) -> WholeState:
        async with session.reading() as connection:
            return await whole.state(connection)

    return await Session(execution.engine, execution.plan.table.name, reads_only=True).run(look)


async def _enter(planned: Callable[[], Awaitable[LoadExecution]], owner: Owner, door: str) -> LoadExecution:
    """Plan and enter until it is the shard's turn."""
    too_late = 0
    while True:
        async with _door(door):
            execution = await planned()
            entry = await _Entry(execution, owner).attempt()
        if isinstance(entry, LedgerLoad):
            execution.take_up(entry)
            return execution
        if entry.reason:
            execution.progress.phase(f"waiting {entry.reason}")
            if not execution.backend.is_in_memory(execution.engine):  # or the database would end with its connection
                await _let_go(execution.engine)
            await asyncio.sleep(random.uniform(*ASK_SECONDS))
            continue
        too_late += 1
        if too_late > 1:
            table, load_id = execution.plan.table.name, execution.options.load_id
            what = f"the table {table} is no longer as the load {load_id!r} has begun with"
            hint = "Forget the load, and begin again once the table holds none of its rows."
            raise CheckpointError(what, hint=hint, committed_rows=0)


async def _let_go(engine: AsyncEngine) -> None:
    """Close the idle connections, since who waits for one has none, unless other loads of this process have some.

    With the pool, which is replaced, theirs would be lost: given back to it later, they would never be closed.
    """
    used = engine.pool.checkedout() if isinstance(engine.pool, QueuePool) else 0
    if not used:
        await engine.dispose()


class _Entry:
    """One attempt to enter a shard, in one transaction with what the first of them does to the table."""

    def __init__(self, execution: LoadExecution, owner: Owner) -> None:
        self._execution = execution
        self._owner = owner
        self._ledger = Ledger(execution.plan, execution.backend)
        self._shard = Shard.of(execution.options)
        self._whole = ShardedLoad(execution.plan, self._shard, execution.options, execution.backend)

    async def attempt(self) -> LedgerLoad | _Waiting:
        session = _session(self._execution)
        return await workers.retrying()(session.run, self._attempt)

    async def enter_whole(self) -> None:
        """Enter the load without beginning a shard, unless it is there already."""
        await workers.retrying()(_session(self._execution).run, self._attempt_whole)

    async def _attempt_whole(self, session: Session) -> None:
        async with self._transaction(session) as connection:
            await self._ledger.owned(connection, self._owner)  # which makes the ledger's tables
            if await self._whole.find(connection) is None:
                await self._make(session, connection, is_known=False)

    async def _attempt(self, session: Session) -> LedgerLoad | _Waiting:
        execution, whole = self._execution, self._whole
        async with self._transaction(session) as connection:
            load = await self._ledger.owned(connection, self._owner)  # by a try whose answer was lost
            if load is not None:
                return load
            is_known = await whole.find(connection) is not None
            if is_known and execution.plan.changes_table:
                return _Waiting()  # somebody was first: the plan was made for a table that was not yet as it is
            await self._make(session, connection, is_known=is_known)
            waits = await whole.obstacle(connection, self._owner, execution.source.paths)
            if waits is not None:
                return _Waiting(waits)
            return await self._ledger.begin(connection, self._request, self._owner, _nothing)

    async def _make(self, session: Session, connection: AsyncConnection, *, is_known: bool) -> None:
        """Make the table as planned, or make sure that it is; and enter the load that nobody has entered."""
        await apply_plan(session, self._execution, workers.LOCK_SECONDS)
        if not is_known:
            await self._whole.enter(connection, await self._ledger.fingerprint(connection))

    def _transaction(self, session: Session) -> contextlib.AbstractAsyncContextManager[AsyncConnection]:
        return session.transaction(*session.backend.opening_sql(workers.LOCK_SECONDS), is_last=False)

    @property
    def _request(self) -> Request:
        source, options = self._execution.source, self._execution.options
        call = {"loader": source.loader, "paths": source.paths, **options.call}
        return Request(self._shard.load_id, True, "", call, whole=self._shard.whole)


async def _nothing() -> None:
    """The table is as planned by now."""


def _session(execution: LoadExecution) -> Session:
    return Session(execution.engine, execution.plan.table.name, *TABLES)


@contextlib.asynccontextmanager
async def _door(load: str) -> AsyncIterator[None]:
    """Let the processes of this host ask one at a time, so that those who wait have one connection and not one each."""
    if fcntl is None:
        yield
        return
    name = f"dataloader-{os.getuid()}-{xxhash.xxh3_64_hexdigest(load.encode())}.lock"
    # O_NOFOLLOW: the folder is everybody's, and a link there may be to a file of ours.
    file = os.open(Path(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(random.uniform(*DOOR_SECONDS))
        yield
    finally:
        os.close(file)
