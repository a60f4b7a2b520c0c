"""The one loop: source ─chunks─▶ convert ─▶ encode ─▶ writer ─▶ database. The only file that sees both ends."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dataloader import catalog, owners
from dataloader import engine as engines
from dataloader.checkpoint import Run, resumed
from dataloader.chunks import Chunk, Chunks, Shared, ahead, beginning, chained
from dataloader.digest import chunk_digest
from dataloader.errors import NOTHING_WRITTEN, CheckpointError, DataLoaderError, LoadError, SourceFailed, WriteError
from dataloader.guard import Lifeline, guarded
from dataloader.ledger import Ledger, Request
from dataloader.look import refuse_invalid
from dataloader.planning import decide
from dataloader.progress import Progress
from dataloader.rejects import Rejects
from dataloader.report import LoadReport
from dataloader.sources import ArrowSource
from dataloader.storing import Stored, Storing
from dataloader.tasks import seen_through
from dataloader.transactions import transaction
from dataloader.translation import translated
from dataloader.worker import EXTRA_SECONDS, Job, Worker, committing, retried, retrying
from dataloader.writers import Writer, writer_for

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.options import LoadOptions
    from dataloader.owners import Owner
    from dataloader.plan import LoadPlan
    from dataloader.sources import Source

RECOGNISED_ROWS = 1_000
"""A load that is not named is recognised by so many of its first rows."""


RELEASE_SECONDS = 5.0
PATIENCE_SECONDS = 0.4
"""How long a load that has failed or was cancelled tries to tell the ledger so, and is waited for meanwhile."""


@dataclass(slots=True)
class Tally:
    """What a load has done so far."""

    rejects: Rejects
    read: int = 0
    loaded: int = 0
    chunks: int = 0
    nbytes: int = 0
    notices: list[str] = field(default_factory=list)

    def add(self, chunk: Chunk, stored: Stored) -> None:
        self.read += chunk.rows
        self.loaded += stored.rows
        self.chunks += 1
        self.nbytes += chunk.nbytes
        self.rejects.add(chunk.batch, chunk.first_row, stored.violations)


async def load(source: Source, table: str | sa.Table, options: LoadOptions) -> LoadReport:
    """Plan a load and carry it out, in one transaction or chunk by chunk."""
    engine = engines.resolve(options.engine)
    async with Progress(f"{source.name} → {table}", source.rows, options.progress) as progress:
        with translated(engines.place_of(engine)):
            plan = await decide(engine, source, table, options)
            if isinstance(source, ArrowSource) and source.in_memory and not plan.rejects:
                progress.phase("checking")
                await refuse_invalid(source, plan)
            progress.phase("loading")
            loading = Loading(engine, source, plan, options, progress)
            await (loading.at_once() if plan.commit == "load" else loading.by_chunks())
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
        self._tally = Tally(Rejects(options.max_rejects))
        self._run: Run | None = None
        self._workers: list[Worker] = []
        self._notice_fewer_workers()

    def _notice_fewer_workers(self) -> None:
        asked, planned = self._options.workers or 1, self._plan.workers
        if asked > planned:
            why = "one transaction has one connection" if self._plan.commit == "load" else "SQLite has one writer"
            self._tally.notices.append(f"{planned} worker instead of {asked}: {why}")

    async def at_once(self) -> None:
        """One transaction for all of it: every row is there, or none."""
        async with contextlib.aclosing(ahead(self._making(digests=False).made())) as chunks:
            await guarded(lambda line: self._in_one_transaction(chunks, line))

    async def by_chunks(self) -> None:
        """A transaction for each chunk, with its checkpoint, by several workers."""
        making = self._making(digests=True)
        async with contextlib.aclosing(ahead(making.made())) as made:
            first, is_all = await beginning(made, self._plan.chunk_rows)
            chunks = chained(first, made)
            if is_all and self._options.commit == "auto" and not self._options.is_named:
                await guarded(lambda line: self._in_one_transaction(chunks, line))
                return
            with owners.owning() as owner, self._naming_the_locked_table():
                await self._resumably(making, chunks, self._request(first), owner)

    @contextlib.contextmanager
    def _naming_the_locked_table(self) -> Iterator[None]:
        """The server says that it waited for a lock, and not for which."""
        try:
            yield
        except WriteError as error:
            if error.sqlstate == "55P03":
                error.what += f": {self._plan.table.name} is held by another session"
            raise

    async def _in_one_transaction(self, chunks: AsyncGenerator[Chunk], line: Lifeline) -> None:
        """The table as planned, every chunk, the commit."""
        line.progress()
        with translated(self._place, in_doubt=lambda: line.is_last):
            async with engines.connected(self._engine) as connection, transaction(connection):
                line.hold(await engines.driver_of(connection))
                await catalog.prepare(connection, self._plan)
                storing = Storing(connection, self._writer, self._plan, self._source.label, self._tally.rejects)
                await storing.prepare()
                line.rest()
                async for chunk in chunks:
                    line.progress()
                    with translated(self._place, first_row=chunk.first_row):
                        stored = await storing.store(chunk, line)
                    line.rest()
                    self._count(chunk, stored)
                    self._tally.rejects.check(self._source.rows)
                self._tally.rejects.check(self._tally.read)
                self._progress.phase("committing")
                line.commit()

    async def _resumably(self, making: Chunks, chunks: AsyncGenerator[Chunk], request: Request, owner: Owner) -> None:
        ledger = Ledger(self._plan, self._engine.dialect)
        run = await retried(lambda line: self._entered(ledger, request, owner, line))
        self._run, making.committed = run, run.committed
        self._progress.state.advance(run.rows, 0)
        try:
            job = Job(self._engine, self._plan, ledger, run, self._writer, self._source.label, self._tally.rejects)
            async with contextlib.aclosing(resumed(chunks, run)) as rest:
                await self._share(Shared(rest), job)
            self._tally.rejects.check(self._tally.read)
            self._progress.phase("finishing")
            if not run.finished:
                await retried(lambda line: self._finished(ledger, run, line))
        except BaseException as error:
            self._say_what_is_committed(error)
            if not any(worker.has_lost for worker in self._workers):
                await self._release(ledger, run)
            raise

    async def _entered(self, ledger: Ledger, request: Request, owner: Owner, line: Lifeline) -> Run:
        """The load in the ledger and the table as planned, in one transaction."""
        async with committing(self._engine, line) as connection:
            run = await ledger.owned(connection, owner)
            if run is None:
                await catalog.prepare(connection, await self._without_what_is_done(connection))
                run = await ledger.begin(connection, request, owner)
        return run

    async def _without_what_is_done(self, connection: AsyncConnection) -> LoadPlan:
        """The plan, without its DDL where another process has made the table meanwhile."""
        plan = self._plan
        is_there = plan.creates and await catalog.describe(connection, plan.table.name) is not None
        return replace(plan, statements=()) if is_there and self._options.if_exists == "append" else plan

    async def _finished(self, ledger: Ledger, run: Run, line: Lifeline) -> None:
        async with committing(self._engine, line) as connection:
            await ledger.finish(connection, run)

    async def _release(self, ledger: Ledger, run: Run) -> None:
        """Let other processes go on with the load though this one lives on; who is cancelled hardly waits for that."""

        async def releasing(line: Lifeline) -> None:
            async with committing(self._engine, line) as connection:
                await ledger.release(connection, run)

        await seen_through(guarded(releasing, limit=RELEASE_SECONDS), PATIENCE_SECONDS)

    async def _share(self, chunks: Shared[Chunk], job: Job) -> None:
        """Have the chunks committed by as many workers as there are connections for."""
        self._workers = [Worker(job) for _ in range(self._plan.workers)]
        first_has_its_connection = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(self._work(worker, chunks, first_has_its_connection))
        except BaseExceptionGroup as failed:
            error = failed.exceptions[0]
            raise error from error.__cause__

    async def _work(self, worker: Worker, chunks: Shared[Chunk], first_has_its_connection: asyncio.Event) -> None:
        try:
            if worker is self._workers[0]:
                await retrying()(worker.connect)
                first_has_its_connection.set()
            else:
                await first_has_its_connection.wait()
                if not await self._is_connected(worker):
                    return
            while (chunk := await chunks.take()) is not None:
                await self._commit(worker, chunk)
                del chunk  # or it would live on while the next one is waited for
        finally:
            await worker.close()

    async def _commit(self, worker: Worker, chunk: Chunk) -> None:
        try:
            await worker.commit(chunk)
        finally:
            if worker.committed is not None:
                self._count(chunk, worker.committed)
        self._tally.rejects.check(self._source.rows)

    async def _is_connected(self, worker: Worker) -> bool:
        """Whether there is a connection for one more worker."""
        try:
            await worker.connect(EXTRA_SECONDS)
        except LoadError as error:
            self._tally.notices.append(f"a worker less than the {self._plan.workers} planned: {error.what}")
            return False
        return True

    def _making(self, *, digests: bool) -> Chunks:
        return Chunks(self._source, self._plan, self._writer, digests=digests)

    def _count(self, chunk: Chunk, stored: Stored) -> None:
        self._tally.add(chunk, stored)
        self._progress.state.advance(chunk.rows, chunk.nbytes)

    def _request(self, first: list[Chunk]) -> Request:
        head = first[0].converted.batch.slice(0, RECOGNISED_ROWS) if first else None
        options = self._options
        recognised_by = "" if head is None else chunk_digest(head)
        call = {"loader": self._source.loader, "paths": self._source.paths, **options.call}
        return Request(options.load_id, options.resume, recognised_by, call)

    def _say_what_is_committed(self, error: BaseException) -> None:
        """Put into words what an interrupted load has left, and how it goes on."""
        error = error.error if isinstance(error, SourceFailed) else error
        run = self._run
        rows = 0 if run is None else run.loaded + self._tally.loaded
        has_written_nothing = isinstance(error, CheckpointError) and not self._tally.chunks
        if run is None or not rows or has_written_nothing:
            return
        words = f"{rows:,} rows are committed; go on with {self._continuation(run)}"
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
        return LoadReport(
            source=plan.source,
            table=str(plan.table.name),
            place=plan.place,
            read=tally.read,
            loaded=tally.loaded,
            rejected=len(tally.rejects),
            skipped=tally.read - tally.loaded - len(tally.rejects),
            chunks=tally.chunks,
            nbytes=tally.nbytes,
            seconds=self._progress.state.seconds,
            method=plan.method,
            reason=plan.reason,
            rejected_rows=tally.rejects,
            earlier=0 if run is None else run.rows,
            load_id=None if run is None else run.load_id,
            notices=tuple(tally.notices),
        )
