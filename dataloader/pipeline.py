"""The one loop: source ─chunks─▶ convert ─▶ encode ─▶ writer ─▶ database. The only file that sees both ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import tenacity
from sqlalchemy.exc import SQLAlchemyError

from dataloader import catalog
from dataloader import engine as engines
from dataloader.convert import Converted, Converter
from dataloader.errors import DataLoaderError, translate
from dataloader.guard import Lifeline, guarded
from dataloader.inspection import Inspection, Unique
from dataloader.options import LoadOptions, Target
from dataloader.plan import ColumnPlan, LoadPlan, Offer, make_plan
from dataloader.progress import Progress
from dataloader.rejects import Findings, Rejects
from dataloader.report import LoadReport, ValidationReport
from dataloader.sources import ArrowSource
from dataloader.storing import Chunk, Storing
from dataloader.writers import Writer, writer_for

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dataloader.sources import Source

T = TypeVar("T")

START_SECONDS = 10.0
"""How long a server that is starting is waited for."""
LOOKING_THREADS = 2
"""How many go through a source in memory before it is sent: Arrow lets the GIL go."""


@dataclass(slots=True)
class Tally:
    """What a load has done so far."""

    rejects: Rejects
    read: int = 0
    loaded: int = 0
    chunks: int = 0
    nbytes: int = 0

    def add(self, chunk: Chunk, stored: int) -> None:
        self.read += chunk.rows
        self.loaded += stored
        self.chunks += 1
        self.nbytes += chunk.nbytes


async def load(source: Source, table: str | sa.Table, options: LoadOptions) -> LoadReport:
    """Plan a load and carry it out in one transaction."""
    engine = engines.resolve(options.engine)
    async with Progress(f"{source.name} → {table}", source.rows, options.progress) as progress:
        with translated(engine):
            decided = await _decided(engine, source, table, options)
            if isinstance(source, ArrowSource) and source.in_memory and not decided.rejects:
                progress.phase("checking")
                await _refuse_invalid(source, decided)
            progress.phase("loading")
            tally = Tally(Rejects(options.max_rejects))
            await guarded(lambda line: _write(engine, source, decided, tally, progress, line))
    return _report(decided, tally, progress.state.seconds)


async def plan(source: Source, table: str | sa.Table, options: LoadOptions) -> LoadPlan:
    """Decide a load; nothing is written."""
    engine = engines.resolve(options.engine)
    with translated(engine):
        return await _decided(engine, source, table, options)


async def validate(
    source: Source, table: str | sa.Table, options: LoadOptions, unique: Unique, foreign_keys: bool
) -> ValidationReport:
    """Look at every row; nothing is written."""
    engine = engines.resolve(options.engine)
    async with Progress(f"{source.name} → {table}", source.rows, options.progress) as progress:
        with translated(engine):
            decided = await _decided(engine, source, table, options)
            progress.phase("checking")
            inspection = Inspection(decided, source.label)
            await guarded(lambda line: _inspect(engine, source, inspection, unique, foreign_keys, progress, line))
            violations = await asyncio.to_thread(inspection.violations)
    return ValidationReport(decided.source, str(decided.table.name), decided.place, inspection.read, violations)


class _SourceFailed(Exception):
    """Carries the source's own error past the translation of the database's: both may be an OSError."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def translated(engine: AsyncEngine, first_row: int = 0, line: Lifeline | None = None) -> Iterator[None]:
    """Turn what the driver raises into our errors, with the database's place and the row's position."""
    try:
        yield
    except DataLoaderError:
        raise
    except _SourceFailed as carrying:
        raise carrying.error from carrying.error.__cause__
    except Exception as error:
        if not _is_drivers(error):
            raise
        in_doubt = line is not None and line.committing
        raise translate(error, engines.place_of(engine), first_row=first_row, in_doubt=in_doubt) from error


def _is_drivers(error: Exception) -> bool:
    """An error of SQLAlchemy, of a driver or of the network; any other is a bug and stays what it is."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    known = {"asyncpg", "aiosqlite", "sqlite3", "psycopg"}
    words = ("different loop", "connect() got an unexpected keyword argument")
    return isinstance(error, (SQLAlchemyError, OSError)) or bool(modules & known) or any(w in str(error) for w in words)


def _is_starting(error: BaseException) -> bool:
    """PostgreSQL's cannot_connect_now: it accepts connections and is not ready for them yet."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) == "57P03"


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_starting),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
    stop=tenacity.stop_after_delay(START_SECONDS),
    reraise=True,
)
async def _decided(engine: AsyncEngine, source: Source, table: str | sa.Table, options: LoadOptions) -> LoadPlan:
    """Make the plan, waiting for a server that is just starting: nothing is written, so it may be tried again."""
    return await guarded(lambda line: _plan_on(engine, source, table, options, line))


async def _plan_on(
    engine: AsyncEngine, source: Source, table: str | sa.Table, options: LoadOptions, line: Lifeline
) -> LoadPlan:
    target = Target.of(table, engine.dialect.name)
    line.progress()
    async with engine.connect() as connection:
        line.hold(await engines.driver_of(connection))
        found = await catalog.describe(connection, target.name)
        if found is None:
            target = replace(target, name=await catalog.qualified(connection, target.name))
    offer = Offer(source.name, source.schema, source.rows)
    return make_plan(offer, target, found, options, engine.dialect, engines.place_of(engine))


async def _refuse_invalid(source: ArrowSource, decided: LoadPlan) -> None:
    """Look at the whole source before its first row is sent: only one in memory can be read again at no cost."""
    columns = tuple(column for column in decided.columns if column.can_refuse)
    if not columns:
        return
    look = Look(source.batches(decided.chunk_rows), Converter(columns, source.label))
    try:
        await asyncio.gather(*(asyncio.to_thread(look.through) for _ in range(LOOKING_THREADS)))
    finally:
        look.stop()
    findings = look.findings()
    if findings.first:
        raise findings.error()


class Look:
    """Threads that go through batches together: each takes the next one, so that all are looked at once."""

    def __init__(self, batches: Iterator[pa.RecordBatch], convert: Converter) -> None:
        self._batches = batches
        self._convert = convert
        self._taking = threading.Lock()
        self._first_row = 0
        self._stopped = False
        self._found: dict[int, Findings] = {}

    def through(self) -> None:
        """Look at batches until there are no more."""
        while not self._stopped:
            with self._taking:
                batch, first_row = next(self._batches, None), self._first_row
                self._first_row += 0 if batch is None else batch.num_rows
            if batch is None:
                return
            violations = self._convert(batch, first_row).violations
            if violations:
                self._found[first_row] = Findings()
                self._found[first_row].add(violations)

    def stop(self) -> None:
        self._stopped = True

    def findings(self) -> Findings:
        """All that was found, in the order of the rows."""
        whole = Findings()
        for first_row in sorted(self._found):
            whole.join(self._found[first_row])
        return whole


async def _inspect(  # noqa: PLR0917 - the source, the questions, and who watches
    engine: AsyncEngine,
    source: Source,
    inspection: Inspection,
    unique: Unique,
    foreign_keys: bool,
    progress: Progress,
    line: Lifeline,
) -> None:
    line.progress()
    async with engine.connect() as connection:
        line.hold(await engines.driver_of(connection))
        await inspection.prepare(connection, unique, foreign_keys)
        line.rest()
        chunks = _converted(source, inspection.plan.columns, inspection.plan.chunk_rows)
        async with contextlib.aclosing(ahead(chunks)) as looked_at:
            async for _, batch, converted in looked_at:
                line.progress()
                await inspection.add(connection, converted, batch.num_rows)
                line.rest()
                progress.state.advance(batch.num_rows, batch.nbytes)


async def _write(  # noqa: PLR0917 - from the source to the commit
    engine: AsyncEngine, source: Source, decided: LoadPlan, tally: Tally, progress: Progress, line: Lifeline
) -> None:
    """One transaction: the table as planned, every chunk, the commit."""
    writer = writer_for(decided, engine.dialect)
    line.progress()
    with translated(engine, line=line):
        async with engines.transaction(engine) as connection:
            line.hold(await engines.driver_of(connection))
            await catalog.prepare(connection, decided)
            storing = Storing(connection, writer, decided, source.label, tally.rejects)
            await storing.prepare()
            line.rest()
            async with contextlib.aclosing(ahead(_chunks(source, decided, writer))) as chunks:
                async for chunk in chunks:
                    line.progress()
                    with translated(engine, chunk.first_row):
                        stored = await storing.store(chunk, line)
                    line.rest()
                    tally.add(chunk, stored)
                    tally.rejects.check(source.rows)
                    progress.state.advance(chunk.rows, chunk.nbytes)
            tally.rejects.check(tally.read)
            progress.phase("committing")
            line.commit()


async def _chunks(source: Source, decided: LoadPlan, writer: Writer) -> AsyncGenerator[Chunk]:
    """Read, convert and encode, each chunk in a thread."""
    async for first_row, batch, converted in _converted(source, decided.columns, decided.chunk_rows):
        if converted.violations and not decided.rejects:
            findings = Findings()
            findings.add(converted.violations)
            raise _SourceFailed(findings.error())
        encoded, nbytes = await asyncio.to_thread(writer.encode, converted.batch)
        yield Chunk(first_row, batch, converted, encoded, nbytes)


async def _converted(
    source: Source, columns: tuple[ColumnPlan, ...], chunk_rows: int
) -> AsyncGenerator[tuple[int, pa.RecordBatch, Converted]]:
    """Read and convert, each chunk in a thread: the position of its first row, as it came, and as converted."""
    convert = Converter(columns, source.label)
    first_row = 0
    try:
        async for batch in source.chunks(chunk_rows):
            yield first_row, batch, await asyncio.to_thread(convert, batch, first_row)
            first_row += batch.num_rows
    except Exception as error:
        raise _SourceFailed(error) from error


async def ahead(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Yield `items`, the next one being made while the last one is used: never more than two exist."""
    making = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await making) is not None:
            making = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        making.cancel()
        await asyncio.wait({making})
        if not making.cancelled():
            making.exception()  # looked at, or asyncio complains that nobody did
        await items.aclose()


def _report(decided: LoadPlan, tally: Tally, seconds: float) -> LoadReport:
    return LoadReport(
        source=decided.source,
        table=str(decided.table.name),
        place=decided.place,
        read=tally.read,
        loaded=tally.loaded,
        rejected=len(tally.rejects),
        skipped=tally.read - tally.loaded - len(tally.rejects),
        chunks=tally.chunks,
        nbytes=tally.nbytes,
        seconds=seconds,
        method=decided.method,
        reason=decided.reason,
        rejected_rows=tally.rejects,
    )
