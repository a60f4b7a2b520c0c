"""The one loop: source ─chunks─▶ convert ─▶ encode ─▶ writer ─▶ database. The only file that sees both ends."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from dataloader.conversion.violations import summary
from dataloader.database import catalog, locks
from dataloader.database import engine as engines
from dataloader.database.driver_errors import translated
from dataloader.database.locks import naming_holders
from dataloader.database.transactions import check_deferred, transaction
from dataloader.database.watchdog import Watchdog, guarded
from dataloader.display.progress import Progress
from dataloader.errors import (
    NOTHING_WRITTEN,
    CheckpointError,
    ConnectionLost,
    DataLoaderError,
    LoadCancelled,
    PlanError,
    SourceFailed,
    ValidationError,
    left_by,
    shown_as,
)
from dataloader.formatting import quantity
from dataloader.ledger import owners
from dataloader.ledger.checkpoint import Checkpoint, Run
from dataloader.ledger.digest import chunk_digest
from dataloader.ledger.ledger import Ledger, Request
from dataloader.loading.chunks import Chunk, Chunks, Shared, ahead, beginning, chained, first_of, resumed
from dataloader.loading.crew import Crew
from dataloader.loading.entry import Entry
from dataloader.loading.look import refuse_invalid
from dataloader.loading.planning import decide
from dataloader.loading.storage import Storing
from dataloader.loading.tally import Tally
from dataloader.loading.worker import Job
from dataloader.options import Target
from dataloader.rejects import Rejects
from dataloader.report import LoadReport
from dataloader.sources.base import ArrowSource
from dataloader.sync import await_and_propagate_cancel
from dataloader.writers import Writer, writer_for

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.ledger.owners import Owner
    from dataloader.options import LoadOptions
    from dataloader.plan import LoadPlan
    from dataloader.sources.base import Source

RECOGNISED_ROWS = 1_000
"""A load that is not named is recognised by so many of its first rows."""


async def load(source: Source, table: str | sa.Table, options: LoadOptions) -> LoadReport:
    """Plan a load and carry it out, in a task of its own: its Cancel button stops the load and not the caller."""
    loading = asyncio.create_task(_load(source, table, options))
    cancels = await await_and_propagate_cancel(loading)
    try:
        return loading.result()
    except asyncio.CancelledError as error:
        if not cancels:
            raise LoadCancelled("the load was cancelled", hint=f"{left_by(error)}.") from None
        shown_as(error, f"Interrupted: {left_by(error)}")
        raise


async def _load(source: Source, table: str | sa.Table, options: LoadOptions) -> LoadReport:
    engine = engines.resolve(options.engine)
    name = Target.of(table, engine.dialect.name).name
    async with Progress(f"{source.name} → {name}", source.rows, options.progress, source.position) as progress:
        with translated(engines.place_of(engine)):
            plan = await decide(engine, source, table, options)
            loading = Loading(engine, source, plan, options, progress)
            if plan.commit == "load":
                await loading.at_once()
            else:
                await loading.look()
                await loading.by_chunks()
    return loading.report()


class Loading:
    """A load under way: what was decided, and what has been done so far."""

    def __init__(
        self, engine: AsyncEngine, source: Source, plan: LoadPlan, options: LoadOptions, progress: Progress
    ) -> None:
        self._engine = engine
        self._source = source
        self._plan = plan
        self._options = options
        self._progress = progress
        self._place = engines.place_of(engine)
        self._writer: Writer = writer_for(plan, engine.dialect)
        self._tally = Tally(Rejects(options.max_rejects, source.rows), progress, notices=[*plan.notices])
        self._run: Run | None = None
        self._notice_fewer_workers()

    def _notice_fewer_workers(self) -> None:
        asked, planned = self._options.workers or 1, self._plan.workers
        if asked > planned:
            why = "SQLite has one writer" if self._engine.dialect.name == "sqlite" else "the pool has no more"
            why = "one transaction has one connection" if self._plan.commit == "load" else why
            self._tally.notices.append(f"{quantity(planned, 'worker')} instead of {asked}: {why}")

    async def look(self) -> None:
        """Refuse what does not fit of a source in memory, all of it at once."""
        source = self._source
        if isinstance(source, ArrowSource) and source.in_memory and not self._plan.rejects:
            self._progress.phase("checking")
            await refuse_invalid(source, self._plan)

    async def at_once(self) -> None:
        """One transaction for all of it: every row is there, or none.

        The first chunk with a value that does not fit has ended it, and it is rolled back when the rest is looked at:
        a source whose values fit is read once.
        """
        self._progress.phase("loading")
        try:
            async with contextlib.aclosing(ahead(self._making(digests=False).made())) as made:
                with translated(self._place):
                    first = await first_of(made)  # no lock is held while a source gets going
                chunks = chained(first, made)
                await guarded(lambda watchdog: self._in_one_transaction(chunks, watchdog))
                return
        except ValidationError as error:
            refused = error
        await self.look()
        raise refused

    async def by_chunks(self) -> None:
        """A transaction for each chunk, with its checkpoint, by several workers."""
        self._progress.phase("loading")
        making = self._making(digests=True)
        async with contextlib.aclosing(ahead(making.made())) as made:
            first, is_all = await beginning(made, self._plan.chunk_rows)
            chunks = chained(first, made)
            if is_all and self._options.commit == "auto" and not self._options.is_named:
                await guarded(lambda watchdog: self._in_one_transaction(chunks, watchdog))
                return
            with owners.owning() as owner:
                await self._resumably(making, chunks, self._request(first), owner)

    async def _in_one_transaction(self, chunks: AsyncGenerator[Chunk], watchdog: Watchdog) -> None:
        """The table as planned, every chunk, the commit."""
        watchdog.reset_timeout()
        with translated(self._place, in_doubt=lambda: watchdog.is_last):
            async with self._opened() as connection:
                watchdog.watch(await engines.driver_of(connection))
                await catalog.prepare(
                    connection,
                    self._plan.table,
                    self._plan.statements,
                    may_exist=self._plan.creates and self._options.if_exists == "append",
                    empties=self._plan.empties,
                    lock_seconds=locks.LIMIT_SECONDS,
                    progress=watchdog.reset_timeout,
                )
                storing = Storing(connection, self._writer, self._plan, self._source.label, self._tally.rejects)
                await storing.prepare()
                watchdog.suspend_timeout()
                async for chunk in chunks:
                    await self._progress.wait_while_paused()
                    watchdog.reset_timeout()
                    with translated(self._place, first_row=chunk.first_row):
                        stored = await storing.store(chunk, watchdog)
                    watchdog.suspend_timeout()
                    self._tally.add(chunk, stored)
                self._tally.rejects.check(self._tally.read)
                self._refuse_emptying()
                self._progress.phase("committing")
                watchdog.reset_timeout()
                await check_deferred(connection)
                watchdog.begin_commit()

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[AsyncConnection]:
        plan = self._plan
        async with (
            engines.connected(self._engine) as connection,
            naming_holders(connection, plan.table.name, exclusive=plan.empties),
            transaction(connection),
        ):
            yield connection

    def _refuse_emptying(self) -> None:
        """An empty frame or list empties a table; a stream or file without rows may have lost them on its way."""
        tally, name = self._tally, self._plan.table.name
        is_meant = self._source.rows == 0 and self._source.loader != "load_files"
        if not self._plan.discards or is_meant or len(tally.rejects) < tally.read:
            return
        if not tally.read:
            hint = f"{NOTHING_WRITTEN}. Load rows, or pass an empty frame or list to have the table emptied."
            raise PlanError(f"{self._source.name} yielded no row, so {name} keeps its rows", hint=hint)
        headline = f"every row was rejected, so {name} keeps its rows: {summary(tally.rejects.findings.counts)}"
        raise tally.rejects.findings.error(headline, f"{NOTHING_WRITTEN}. Correct the source.")

    async def _resumably(self, making: Chunks, chunks: AsyncGenerator[Chunk], request: Request, owner: Owner) -> None:
        engine, plan, tally = self._engine, self._plan, self._tally
        ledger = Ledger(plan, engine.dialect)
        entry = Entry(engine, plan, ledger, self._source.label, may_exist=self._options.if_exists == "append")
        run = await entry.begin(request, owner)
        self._run, making.committed = run, run.committed
        self._progress.state.resume_from(run.rows)
        job = Job(engine, plan, ledger, run, self._writer, self._source.label, tally.rejects)
        crew = Crew(job, tally)

        async def compared(chunk: Chunk, committed: Checkpoint) -> None:
            if committed.rejected:
                tally.recall(chunk, await entry.rejects(run, chunk))

        try:
            async with contextlib.aclosing(resumed(chunks, run, compared)) as rest:
                first = await first_of(rest)  # compare what is committed while no worker has a connection
                tally.rejects.check()
                await crew.commit(Shared(chained(first, rest)))
            tally.rejects.check(run.rows + tally.read)
            self._progress.phase("finishing")
            if not run.finished:
                await entry.finish(run)
            if unknown := run.rejected - tally.earlier_rejected:
                tally.notices.append(f"the ledger does not hold {quantity(unknown, 'row')} that earlier runs rejected")
        except BaseException as error:
            self._say_what_is_committed(error, in_doubt=crew.in_doubt)
            if not (crew.has_lost or isinstance(error, ConnectionLost)):
                await entry.release(run)
            raise

    def _making(self, *, digests: bool) -> Chunks:
        return Chunks(self._source, self._plan, self._writer, digests=digests)

    def _request(self, first: list[Chunk]) -> Request:
        head = first[0].converted.batch.slice(0, RECOGNISED_ROWS) if first else None
        options = self._options
        recognised_by = "" if head is None else chunk_digest(head)
        call = {"loader": self._source.loader, "paths": self._source.paths, **options.call}
        return Request(options.load_id, options.resume, recognised_by, call, options.if_exists)

    def _say_what_is_committed(self, error: BaseException, *, in_doubt: bool) -> None:
        """Put into words what an interrupted load has left, and how it goes on."""
        error = error.error if isinstance(error, SourceFailed) else error
        run = self._run
        rows = 0 if run is None else run.loaded + self._tally.loaded
        has_written_nothing = isinstance(error, CheckpointError) and not self._tally.chunks
        if run is None or not (rows or in_doubt) or has_written_nothing:
            return
        there = f"{'at least ' if in_doubt else ''}{quantity(rows, 'row')} {'is' if rows == 1 else 'are'} committed"
        words = f"{there}; go on with {self._continuation(run)}"
        if isinstance(error, DataLoaderError):
            error.hint = error.hint.replace(NOTHING_WRITTEN, words)
        else:
            error.add_note(words)

    def _continuation(self, run: Run) -> str:
        """The call that continues the load."""
        chunk_rows = self._options.chunk_rows
        same = "" if chunk_rows is None else f", chunk_rows={chunk_rows}"
        table = self._plan.table.name.spelled
        call = f"await {self._source.loader}(..., {table!r}, load_id={run.load_id!r}, resume=True{same})"
        return f"{call}, or: python -m dataloader resume {shlex.quote(run.load_id)}" if self._source.paths else call

    def report(self) -> LoadReport:
        """What was done."""
        plan, tally, run = self._plan, self._tally, self._run
        rejected = len(tally.rejects) - tally.earlier_rejected
        if not (tally.read or self._source.rows == 0 or (run is not None and run.rows)):
            tally.notices.append(f"{self._source.name} yielded no row")
        return LoadReport(
            source=plan.source,
            table=str(plan.table.name),
            place=plan.place,
            read=tally.read,
            loaded=tally.loaded,
            rejected=rejected,
            skipped=tally.read - tally.loaded - rejected,
            chunks=tally.chunks,
            nbytes=tally.nbytes,
            seconds=self._progress.state.seconds,
            method=plan.method,
            reason=plan.reason,
            rejected_rows=tally.rejects,
            earlier=0 if run is None else run.rows,
            load_id=None if run is None else run.load_id,
            notices=tuple(tally.notices),
            pace=self._progress.state.throughput.samples,
            earlier_rejected=0 if run is None else run.rejected,
        )
