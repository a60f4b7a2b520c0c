"""Validation: every row of a source is looked at, in its chunks, and nothing is written."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from dataloader.conversion.converter import Converter
from dataloader.database import engine as engines
from dataloader.database import locks
from dataloader.database.driver_errors import translated
from dataloader.database.transactions import settle
from dataloader.database.watchdog import Watchdog, guarded
from dataloader.display.progress import Progress
from dataloader.loading.chunks import ahead, in_threads
from dataloader.loading.inspection import Inspection, Unique
from dataloader.loading.planning import decide
from dataloader.options import Target
from dataloader.report import ValidationReport

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dataloader.options import LoadOptions
    from dataloader.sources.base import Source


async def validate(
    source: Source, table: str | sa.Table, options: LoadOptions, unique: Unique, foreign_keys: bool
) -> ValidationReport:
    """Look at every row."""
    engine = engines.resolve(options.engine)
    name = Target.of(table, engine.dialect.name).name
    async with Progress(f"{source.name} → {name}", source.rows, options.progress, source.position) as progress:
        with translated(engines.place_of(engine)):
            decided = await decide(engine, source, table, options)
            progress.phase("checking")
            inspection = Inspection(decided, source.label)
            await guarded(
                lambda watchdog: _inspect(engine, source, inspection, unique, foreign_keys, progress, watchdog)
            )
            violations = await asyncio.to_thread(inspection.violations)
    return ValidationReport(decided.source, str(decided.table.name), decided.place, inspection.read, violations)


async def _inspect(  # noqa: PLR0917 - the source, the questions, and who watches
    engine: AsyncEngine,
    source: Source,
    inspection: Inspection,
    unique: Unique,
    foreign_keys: bool,
    progress: Progress,
    watchdog: Watchdog,
) -> None:
    watchdog.reset_timeout()
    async with (
        engines.reading(engine) as connection,
        locks.naming_holders(connection, inspection.plan.table.name),
        connection.begin(),
    ):
        watchdog.watch(await engines.driver_of(connection))
        await settle(connection, locks.LIMIT_SECONDS)
        await inspection.prepare(connection, unique, foreign_keys)
        watchdog.suspend_timeout()
        convert = Converter(inspection.plan.columns, source.label)
        converting = in_threads(source, inspection.plan.chunk_rows, lambda batch, row: (batch, convert(batch, row)))
        async with contextlib.aclosing(ahead(converting)) as looked_at:
            async for batch, converted in looked_at:
                watchdog.reset_timeout()
                await inspection.add(connection, converted, batch.num_rows)
                watchdog.suspend_timeout()
                progress.state.advance(batch.num_rows, batch.nbytes)
