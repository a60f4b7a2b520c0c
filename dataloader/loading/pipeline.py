"""The one loop: source ─chunks─▶ convert ─▶ encode ─▶ writer ─▶ database. Begin reading here.

A load in one transaction and one by chunks differ in their target only: see `targets`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from dataloader.database import engine as engines
from dataloader.database.backends import backend_for
from dataloader.display.progress import Progress
from dataloader.errors import DataLoaderError, LoadCancelled, ValidationError, WriteError, left_by, shown_as
from dataloader.loading import sharding
from dataloader.loading.chunks import (
    fill_buffer,
    prefetch,
    prepend,
    read_batches,
    read_chunks,
    source_errors,
    take_first,
)
from dataloader.loading.cutting import find_cuts
from dataloader.loading.duplicates import key_filter
from dataloader.loading.entering import EnteredTransaction
from dataloader.loading.execution import LoadExecution
from dataloader.loading.planning import decide
from dataloader.loading.replacing import name_rows
from dataloader.loading.reruns import note_rerun
from dataloader.loading.targets import Ledgered, OneTransaction, refuse_unfinished
from dataloader.loading.validation import check_in_memory
from dataloader.options import Target
from dataloader.sync import await_and_propagate_cancel

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

    from dataloader.conversion.converter import Converted
    from dataloader.loading.chunks import Chunk
    from dataloader.options import LoadOptions
    from dataloader.report import LoadReport
    from dataloader.sources.base import Source


async def load(
    source: Source,
    table: str | sa.Table,
    options: LoadOptions,
    store: Callable[[LoadExecution], Awaitable[None]] | None = None,
) -> LoadReport:
    """Plan a load and carry it out.

    Parameters
    ----------
    store : callable or None
        What stores the rows, where they are not the chunks of `source`.
    """
    return await in_a_task(_load(source, table, options, store or _store))


async def in_a_task(load: Coroutine[Any, Any, LoadReport]) -> LoadReport:
    """Carry out a load in a task of its own: its Cancel button stops the load and not the caller."""
    loading = asyncio.create_task(load)
    cancels = await await_and_propagate_cancel(loading)
    try:
        return loading.result()
    except asyncio.CancelledError as error:
        if not cancels:
            raise LoadCancelled("the load was cancelled", hint=f"{left_by(error)}.") from None
        shown_as(error, f"Interrupted. {left_by(error)}")
        raise


async def _load(
    source: Source, table: str | sa.Table, options: LoadOptions, store: Callable[[LoadExecution], Awaitable[None]]
) -> LoadReport:
    engine, borrowed = await engines.reach(options.engine, options.connection)
    name = Target.of(table, backend_for(engine.dialect)).name
    async with Progress(f"{source.name} → {name}", source.rows, options.progress, source.position) as progress:
        if options.shard is not None:
            async with sharding.entered(engine, source, table, options, progress) as execution:
                return await _carry_out(execution, store)
        plan = await decide(engine, source, table, options, borrowed)
        return await _carry_out(LoadExecution(engine, source, plan, options, progress, borrowed=borrowed), store)


async def _carry_out(execution: LoadExecution, store: Callable[[LoadExecution], Awaitable[None]]) -> LoadReport:
    try:
        await store(execution)
    except DataLoaderError as error:
        execution.in_own_words(error)
        if execution.refused_late is not None and isinstance(error, WriteError):
            await name_rows(execution, execution.refused_late, error)
        raise
    note_rerun(execution)
    return execution.progress.succeed(execution.report)


async def _store(execution: LoadExecution) -> None:
    """Store every chunk of the source.

    What is committed chunk by chunk is checked before, as far as it is in memory. What is rolled back as a whole is
    not: the first value that does not fit has ended it, and the rest is checked then, so that a sound source is
    converted once.
    """
    source, plan = execution.source, execution.plan
    can_be_rolled_back = plan.commit == "load"
    if not can_be_rolled_back:
        execution.progress.phase("checking")
        await check_in_memory(source, plan)
    execution.progress.phase("loading")
    distinct = None if plan.merge is None or not plan.merge.merge.key else await key_filter(source, plan)
    if source.is_live:
        await find_cuts(execution, distinct)
    batches = read_batches(source, plan.chunk_rows, execution.cuts)
    try:
        with source_errors():
            async with contextlib.aclosing(batches):
                buffered, is_all = await fill_buffer(batches) if plan.buffers else ([], False)
                if plan.chunk_seconds is not None:
                    execution.cuts.seconds = plan.chunk_seconds
                rows = prepend(buffered, batches)
                reading = _reading(execution, rows, distinct)
                async with contextlib.aclosing(prefetch(reading)) as chunks:
                    # No lock is held while a source gets going.
                    first = await take_first(chunks)
                    await _target(execution, is_all, first).store(first, chunks)
                    return
    except ValidationError as error:
        if not can_be_rolled_back:
            raise
        refused = error
    execution.progress.phase("checking")
    await check_in_memory(source, plan)
    raise refused


def _reading(
    execution: LoadExecution,
    rows: AsyncGenerator[tuple[pa.RecordBatch, int]],
    distinct: Callable[[Converted], Converted] | None,
) -> AsyncGenerator[Chunk]:
    return read_chunks(
        rows,
        execution.source.label,
        execution.plan,
        execution.writer,
        committed=execution.committed,
        numbered=execution.cuts.numbers,
        distinct=distinct,
    )


def _target(execution: LoadExecution, is_all: bool, first: list[Chunk]) -> OneTransaction | Ledgered:
    """Where the chunks go; a source of unknown length that turns out to be short needs no checkpoint."""
    if execution.plan.commit == "load" or is_all:
        refuse_unfinished(execution, first)
        return EnteredTransaction(execution) if execution.plan.is_entered else OneTransaction(execution)
    return Ledgered(execution)
