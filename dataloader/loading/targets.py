"""Where a load's chunks go: into one transaction, or each into one of its own, which the ledger counts.

Both are given the chunks and store them all; an error that they raise says what is in the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from dataloader.conversion.violations import summary
from dataloader.database import catalog, locks
from dataloader.database.driver_errors import Refusal, translated
from dataloader.database.session import Session
from dataloader.errors import ConnectionLost, PlanError
from dataloader.formatting import quantity
from dataloader.ledger import owners, refusals
from dataloader.ledger.beside import drop_left
from dataloader.ledger.checkpoint import rows_of
from dataloader.ledger.digest import chunk_digest
from dataloader.ledger.entries import DIGESTED_ROWS, TABLES, beginning, digest_of_stream
from dataloader.ledger.files import FileLedger
from dataloader.ledger.ledger import Ledger, Request
from dataloader.ledger.shards import Shard, ShardedLoad
from dataloader.loading import replacing, workers
from dataloader.loading.chunks import SharedIterator, prepend, skip_committed, take_first
from dataloader.loading.cutting import check_cuts
from dataloader.loading.reruns import look_back
from dataloader.loading.storage import ChunkStore, StoreResult, refused
from dataloader.loading.synchronizing import SyncStore
from dataloader.loading.verification import Verification
from dataloader.loading.workers import WorkerPool, retrying, store_chunks
from dataloader.sync import finish_despite_cancel

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.watchdog import Watchdog
    from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad
    from dataloader.ledger.owners import Owner
    from dataloader.loading.chunks import Chunk
    from dataloader.loading.execution import LoadExecution

T = TypeVar("T")

RELEASE_SECONDS = 5.0
PATIENCE_SECONDS = 0.4
"""How long a load that has failed or was cancelled tries to tell the ledger so, and is waited for meanwhile."""


class _DryRun(Exception):
    """Rolls everything back."""


class OneTransaction:
    """One transaction for all of it: the table as planned, every chunk, the commit. Every row is there, or none."""

    _beside: tuple[str, ...] = ()
    """Tables beside the target for whose locks it may wait."""

    def __init__(self, execution: LoadExecution) -> None:
        self._execution = execution

    async def store(self, first: list[Chunk], rest: AsyncGenerator[Chunk]) -> None:
        """Store the chunks, and commit."""
        execution, plan = self._execution, self._execution.plan
        session = Session(
            execution.engine,
            plan.table.name,
            *self._beside,
            exclusive=plan.clears_table,
            is_dry=plan.dry_run,
            borrowed=execution.borrowed,
        )
        with contextlib.suppress(_DryRun):
            await session.run(lambda session: self._store(session, prepend(first, rest)))

    async def _store(self, session: Session, chunks: AsyncGenerator[Chunk]) -> None:
        execution, plan, watchdog = self._execution, self._execution.plan, session.watchdog
        async with session.transaction(*self._opening(session)) as connection:
            await apply_plan(session, execution, locks.LIMIT_SECONDS)
            await self._enter(session, connection)
            await claim_files(connection, execution, None)
            into = _store_of(connection, execution)
            await into.prepare()
            verification = Verification(plan) if execution.options.verify else None
            if verification is not None:
                await verification.begin(session)

            async def store(chunk: Chunk) -> None:
                watchdog.reset_timeout()
                with translated(plan.database, first_row=chunk.first_row):
                    stored = await self._store_chunk(connection, into, chunk, watchdog)
                if verification is not None:
                    await verification.add(session, chunk, stored)
                execution.add(chunk, stored)
                watchdog.suspend_timeout()  # the source's turn: it may take as long as it likes

            watchdog.suspend_timeout()
            await store_chunks(execution, SharedIterator(chunks), store)
            check_rows(execution)
            watchdog.reset_timeout()
            execution.count(await into.finish())
            await self._complete(session, connection, watchdog, verification)

    async def _complete(
        self, session: Session, connection: AsyncConnection, watchdog: Watchdog, verification: Verification | None
    ) -> None:
        """What is done when every row is written, up to the commit."""
        execution, plan = self._execution, self._execution.plan
        await take_place(session, execution)
        await advance_sequences(connection, execution)
        await self._finish(connection)
        execution.progress.phase("committing")
        watchdog.reset_timeout()
        if execution.borrowed is None:  # else it is for the caller to say when
            await session.backend.check_deferred(connection)
            if verification is not None:  # only now, as a trigger may be deferred
                await verification.check(session, execution.progress)
            await look_back(execution, connection)
        if plan.dry_run:
            await self._note_sequences(session)
            raise _DryRun

    def _opening(self, session: Session) -> Sequence[str]:
        """What the transaction begins with."""
        return ()

    async def _enter(self, session: Session, connection: AsyncConnection) -> None:
        """What is entered in the ledger before the first row."""

    async def _store_chunk(
        self, connection: AsyncConnection, into: SyncStore | ChunkStore, chunk: Chunk, watchdog: Watchdog
    ) -> StoreResult:
        return await into.store(chunk, watchdog)

    async def _finish(self, connection: AsyncConnection) -> None:
        """What is entered in the ledger after the last row."""

    async def _note_sequences(self, session: Session) -> None:
        plan, loaded = self._execution.plan, [column.name for column in self._execution.plan.columns]
        drawn = [one.name for one in plan.table.columns if one.has_default and one.name not in loaded]
        for name in (await session.backend.sequences(session.connection, plan.table.name, drawn)).values():
            self._execution.warnings.append(f"the sequence {name} has advanced: no rollback sets it back")


class Ledgered:
    """A transaction for each chunk, with its checkpoint in the ledger, by several workers.

    The load is entered in the ledger, in one transaction with the DDL; it is finished there after the last chunk, or
    released for whoever continues it. These are transactions of their own, and tried again.
    """

    def __init__(self, execution: LoadExecution) -> None:
        self._execution = execution
        self._ledger = Ledger(execution.plan, execution.backend)

    async def store(self, first: list[Chunk], rest: AsyncGenerator[Chunk]) -> None:
        """Store the chunks that earlier runs have not committed, each once."""
        execution = self._execution
        if (load := execution.ledger_load) is not None:  # a shard's, entered before its source was read
            await self._store(load, prepend(first, rest))
            return
        with owners.claim_ownership() as owner:
            load = await self._enter(request_of(execution, first), owner)
            await self._store(load, prepend(first, rest))

    async def prepare(self) -> None:
        """Make the ledger's tables, where they are missing."""

        async def prepare(session: Session) -> None:
            async with self._transaction(session) as connection:
                await self._ledger.prepare(connection)

        await self._retried(prepare)

    async def _enter(self, request: Request, owner: Owner) -> LedgerLoad:
        """The load in the ledger and the table as planned, in one transaction."""
        execution, ledger = self._execution, self._ledger

        async def enter(session: Session) -> LedgerLoad:
            async with self._transaction(session) as connection:
                load = await ledger.owned(connection, owner)  # by a try whose commit succeeded without an answer
                if load is None:

                    async def make() -> None:
                        await apply_plan(session, execution, workers.LOCK_SECONDS)

                    load = await ledger.begin(connection, request, owner, make)
                    if not load.finished:
                        await claim_files(connection, execution, load.load_id)
            return load

        load = await self._retried(enter)
        if execution.source.is_live:
            check_cuts(execution, load)
        execution.take_up(load)
        return load

    async def _store(self, load: LedgerLoad, chunks: AsyncGenerator[Chunk]) -> None:
        execution = self._execution
        pool = WorkerPool(execution, self._ledger, load)
        try:
            async with contextlib.aclosing(skip_committed(chunks, load, self._recall)) as rest:
                first = await take_first(rest)  # what is committed is compared while no worker has a connection
                execution.rejects.check()
                await pool.store(SharedIterator(prepend(first, rest)))
            check_rows(execution)
            execution.progress.phase("finishing")
            if not load.finished:
                await self._finish(load)
        except BaseException as error:
            execution.say_what_is_committed(error, in_doubt=pool.in_doubt)
            if not (pool.has_lost or isinstance(error, ConnectionLost)):
                await self.release(load)
            raise
        if unknown := load.rejected - execution.already_rejected:
            what = f"the ledger does not hold {quantity(unknown, 'row')} that earlier runs rejected"
            execution.warnings.append(what)

    async def _recall(self, chunk: Chunk, committed: Checkpoint) -> None:
        """Take in what earlier runs have rejected of a chunk: by its values, as now, and by what the database said."""
        self._execution.content.add(chunk.number, chunk.digest)
        if not committed.rejected:
            return
        violations = chunk.converted.violations
        if committed.rejected != rows_of(violations):
            kept = await self._retried(lambda session: self._kept(session, chunk.number))
            wrong = {one.row for one in violations}
            said = [(one[0], Refusal(one[2], one[1], "the table", one[3], None)) for one in kept]
            label = self._execution.source.label
            violations = [*violations, *(refused(chunk, row, why, label(row)) for row, why in said if row not in wrong)]
        self._execution.recall(chunk, violations)

    async def _kept(self, session: Session, chunk: int) -> Sequence[Any]:
        load = self._execution.ledger_load
        assert load is not None
        async with self._transaction(session) as connection:
            return await self._ledger.kept(connection, load, chunk)

    async def _finish(self, load: LedgerLoad) -> None:
        async def finish(session: Session) -> None:
            async with self._transaction(session) as connection:
                await take_place(session, self._execution, self._ledger)
                await advance_sequences(connection, self._execution)
                await self._ledger.finish(connection, load)
                await self._finish_whole(connection)
                if self._execution.source.contents:
                    await file_ledger(self._execution).finish(connection, load.load_id)
                await look_back(self._execution, connection)
                if self._execution.loaded and self._execution.loaded_before is None:
                    self._execution.loaded_before = await self._ledger.loaded_before(connection, load)

        await self._retried(finish)

    async def _finish_whole(self, connection: AsyncConnection) -> None:
        """Count a finished shard in the load that it is a part of."""
        execution = self._execution
        if execution.options.shard is not None:
            shard = Shard.of(execution.options)
            whole = ShardedLoad(execution.plan, shard, execution.options, execution.backend)
            execution.finished_shards = await whole.finish(connection)

    async def release(self, load: LedgerLoad) -> None:
        """Let other processes continue the load though this one lives on; best effort, 0.4 s at most."""

        async def release(session: Session) -> None:
            async with self._transaction(session) as connection:
                await self._ledger.release(connection, load)

        task = await finish_despite_cancel(self._session().run(release, limit=RELEASE_SECONDS), PATIENCE_SECONDS)
        if load.owner is not None and task.done() and not task.cancelled() and task.exception() is None:
            owners.let_go(load.owner)

    def _session(self) -> Session:
        plan = self._execution.plan
        return Session(self._execution.engine, plan.table.name, *TABLES, exclusive=plan.clears_table)

    def _transaction(self, session: Session) -> contextlib.AbstractAsyncContextManager[AsyncConnection]:
        opening = session.backend.opening_sql(workers.LOCK_SECONDS)
        return session.transaction(*opening, is_last=False)

    async def _retried(self, work: Callable[[Session], Awaitable[T]]) -> T:
        return await retrying()(self._session().run, work)


def request_of(execution: LoadExecution, first: list[Chunk]) -> Request:
    """What a load that begins with this chunk asks of the ledger."""
    options, source_digest = execution.options, _digest_of(first, DIGESTED_ROWS)
    if execution.recognized is not None:
        source_digest = execution.recognized.source_digest
    elif execution.source.is_live and first:
        source_digest = digest_of_stream(source_digest, first[0].rows)
    call = {"loader": execution.source.loader, "paths": execution.source.paths, **options.call}
    replaces = execution.plan.filled != execution.plan.table.name
    return Request(options.load_id, options.resume, source_digest, call, options.if_exists, replaces)


def _digest_of(first: list[Chunk], rows: int) -> str:
    """What a load that is not named is recognized by."""
    return chunk_digest(first[0].converted.batch.slice(0, rows)) if first else ""


def refuse_unfinished(execution: LoadExecution, first: list[Chunk]) -> None:
    """Refuse to load as a whole what an earlier load has committed a part of: those rows would be there twice.

    Raises
    ------
    CheckpointError
        Offering both ways on.
    """
    for found in execution.plan.unfinished:
        known = beginning(found)
        is_known = known is not None and known[0] == _digest_of(first, min(DIGESTED_ROWS, known[1]))
        is_recognized = execution.recognized is not None and execution.recognized.load_id == found.load_id
        if is_known or is_recognized:
            refusals.refuse_running(found)
            raise refusals.not_asked_to_resume(found, execution.plan.rows)


def _store_of(connection: AsyncConnection, execution: LoadExecution) -> SyncStore | ChunkStore:
    merge = execution.plan.merge
    syncs = merge is not None and merge.others is not None
    return SyncStore(connection, execution) if syncs else ChunkStore(connection, execution)


def check_rows(execution: LoadExecution) -> None:
    """Refuse too many rejects, and to empty a table by a source that may have lost its rows on its way.

    An empty frame or list empties a table; a stream or file without rows does not.
    """
    source, name = execution.source, execution.plan.table.name
    load = execution.ledger_load
    read = execution.read + (0 if load is None else load.rows)
    execution.rejects.check(read)
    if load is not None and load.finished:
        return
    is_meant = source.rows == 0 and source.loader != "load_files"
    if not execution.plan.discards or is_meant or len(execution.rejects) < read:
        return
    if not read:
        hint = "Load rows, or pass an empty frame or list to have the table emptied."
        raise PlanError(f"{source.name} yielded no row, so {name} keeps its rows", hint=hint, committed_rows=0)
    findings = execution.rejects.findings
    headline = f"every row was rejected, so {name} keeps its rows: {summary(findings.counts)}"
    raise findings.error(headline, "Correct the source.")


async def take_place(session: Session, execution: LoadExecution, ledger: Ledger | None = None) -> None:
    """Put what was filled beside the table in the place of its rows, once: a try's answer may have been lost."""
    plan, load = execution.plan, execution.ledger_load
    if plan.filled != plan.table.name:
        if ledger is not None and load is not None and await ledger.is_finished(session.connection, load):
            return
        await replacing.take_place(session, execution)
    if ledger is None and execution.options.if_exists == "replace":
        await drop_left(session.connection, plan.table.name)


def file_ledger(execution: LoadExecution) -> FileLedger:
    """The files of the ledger beside the load's table."""
    return FileLedger(execution.plan, execution.backend, anew=execution.options.resume is False)


async def claim_files(connection: AsyncConnection, execution: LoadExecution, load_id: str | None) -> None:
    """Enter the files whose rows come, if it was asked which ones are new."""
    if execution.source.contents:
        await file_ledger(execution).claim(connection, execution.source.contents, load_id)


async def apply_plan(session: Session, execution: LoadExecution, lock_seconds: float) -> None:
    """Carry out the plan's DDL in the session's open transaction."""
    plan = execution.plan
    await catalog.prepare(
        session.connection,
        plan.table,
        plan.statements,
        may_exist=plan.creates_table and execution.options.if_exists == "append",
        empties=plan.empties_first,
        before=plan.alteration.before if plan.alteration is not None and plan.alteration.widened else None,
        lock_seconds=lock_seconds,
        progress=session.watchdog.reset_timeout,
    )
    replacement = plan.replacement
    if replacement is not None and replacement.beside is not None:
        await session.backend.hide(session.connection, plan.table.name, replacement.beside)
        if replacement.way == "swap":
            await session.backend.dress(session.connection, plan.table.name, replacement.beside)


async def advance_sequences(connection: AsyncConnection, execution: LoadExecution) -> None:
    """Set the sequences that the plan names past the numbers that the rows have brought; a dry run leaves them."""
    plan = execution.plan
    if plan.numbers.sequences and not plan.dry_run:
        await execution.backend.advance_sequences(connection, plan.table.name, plan.numbers.sequences)
