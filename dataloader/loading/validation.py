"""Validation: every row of a source is converted and checked, and nothing is written.

`validate` reports all that it finds; `check_in_memory` refuses what does not fit before a load commits its first chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from dataloader.conversion.converter import Converted, Converter
from dataloader.database import engine as engines
from dataloader.database.backends import backend_for
from dataloader.database.session import Session
from dataloader.display.progress import Progress
from dataloader.loading.chunks import SharedIterator, map_in_thread, prefetch, read_batches, source_errors
from dataloader.loading.inspection import Inspection, Unique
from dataloader.loading.planning import decide
from dataloader.options import Target
from dataloader.rejects import Findings
from dataloader.sync import in_thread, together

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pyarrow as pa
    import sqlalchemy as sa

    from dataloader.options import LoadOptions
    from dataloader.plan import LoadPlan
    from dataloader.report import ValidationReport
    from dataloader.sources.base import Source

CHECKING_TASKS = 2
"""How many batches are converted at once: Arrow releases the GIL."""


async def validate(
    source: Source, table: str | sa.Table, options: LoadOptions, unique: Unique, foreign_keys: bool
) -> ValidationReport:
    """Check every row."""
    engine, borrowed = await engines.reach(options.engine, options.connection)
    name = Target.of(table, backend_for(engine.dialect)).name
    async with Progress(f"{source.name} → {name}", source.rows, options.progress, source.position) as progress:
        plan = await decide(engine, source, table, options, borrowed)
        progress.phase("checking")
        inspection = Inspection(plan, source.label)

        async def inspect(session: Session) -> None:
            async with session.reading() as connection:
                await inspection.prepare(connection, unique, foreign_keys)
                session.watchdog.suspend_timeout()
                async with contextlib.aclosing(_scan(source, plan)) as scanned:
                    async for batch, converted in scanned:
                        session.watchdog.reset_timeout()
                        await inspection.add(connection, converted, batch.num_rows)
                        session.watchdog.suspend_timeout()
                        progress.state.advance(batch.num_rows, batch.nbytes)

        await Session(engine, plan.table.name, reads_only=True, borrowed=borrowed).run(inspect)
        violations = await asyncio.to_thread(inspection.violations)
        return progress.succeed(lambda: inspection.report(violations), phase="checked")


def _scan(source: Source, plan: LoadPlan) -> AsyncGenerator[tuple[pa.RecordBatch, Converted]]:
    """The batches of the source as they come and as converted, one made ahead."""
    convert = Converter(plan.columns, source.label)
    return prefetch(
        map_in_thread(read_batches(source, plan.chunk_rows), lambda batch, row: (batch, convert(batch, row)))
    )


async def check_in_memory(source: Source, plan: LoadPlan) -> None:
    """Check every row of a source in memory, where the plan keeps no rejects.

    Raises
    ------
    ValidationError
        Showing the first values that do not fit, and counting all.
    """
    columns = tuple(column for column in plan.columns if column.can_refuse)
    if not (source.in_memory and columns) or plan.keeps_rejects:
        return
    convert, found = Converter(columns, source.label), dict[int, Findings]()

    async def check(batches: SharedIterator[tuple[pa.RecordBatch, int]]) -> None:
        while (taken := await batches.take()) is not None:
            batch, first_row = taken
            if violations := (await in_thread(convert, batch, first_row)).violations:
                found[first_row] = Findings()
                found[first_row].add(violations)

    with source_errors():
        async with contextlib.aclosing(read_batches(source, plan.chunk_rows)) as batches:
            shared = SharedIterator(batches)
            await together(*(check(shared) for _ in range(CHECKING_TASKS)))
    findings = Findings()
    for first_row in sorted(found):
        findings.join(found[first_row])
    if findings.first:
        raise findings.error()
