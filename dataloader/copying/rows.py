"""Rows that are read and loaded: values are decoded, checked against their column and encoded anew."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from dataloader.loading import pipeline
from dataloader.reading.stream import Reading
from dataloader.sources.batches import AsyncBatchSource, open_async_batches
from dataloader.sources.selection import select
from dataloader.sources.tables import open_reader

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dataloader.copying.survey import Original
    from dataloader.options import LoadOptions
    from dataloader.report import LoadReport
    from dataloader.sources.base import Source

LOADER = "copy_table"


async def copy(original: Original, to: str | sa.Table, options: LoadOptions, *, spools: bool) -> LoadReport:
    """Load what is read, a few batches behind it.

    Parameters
    ----------
    spools : bool
        Whether all is read into a temporary file first.
    """
    reading = Reading(original.engine, original.statement, original.label, "none")
    async with (_spooled if spools else _streamed)(original, reading) as source:
        chosen = source if options.columns is None else select(source, options.columns)
        return await pipeline.load(chosen, to, options)


@dataclass(frozen=True, slots=True)
class _ReadSource(AsyncBatchSource):
    """What a query gives."""

    _: KW_ONLY
    reading: AsyncGenerator[pa.RecordBatch]

    async def aclose(self) -> None:
        await self.reading.aclose()


@contextlib.asynccontextmanager
async def _streamed(original: Original, reading: Reading) -> AsyncIterator[Source]:
    async with contextlib.aclosing(reading.batches()) as batches:
        opened = await open_async_batches(batches)
        told: dict[str, Any] = {
            "loader": LOADER,
            "position": reading.about,
            "facts": original.facts,
            "reading": batches,
        }
        yield _ReadSource(original.name, opened.schema, None, opened.stream, **told)


@contextlib.asynccontextmanager
async def _spooled(original: Original, reading: Reading) -> AsyncIterator[Source]:
    with tempfile.TemporaryFile(prefix="dataloader-") as file:
        async with contextlib.aclosing(reading.batches()) as batches:
            rows = await _keep(batches, file)
        file.seek(0)
        source = open_reader(pa.ipc.open_stream(file), rows, original.name)
        async with contextlib.aclosing(replace(source, loader=LOADER, facts=original.facts)) as opened:
            yield opened


async def _keep(batches: AsyncIterator[pa.RecordBatch], file: IO[bytes]) -> int:
    rows, writer = 0, None
    async for batch in batches:
        if writer is None:
            writer = pa.ipc.new_stream(file, batch.schema)
        await asyncio.to_thread(writer.write_batch, batch)
        rows += batch.num_rows
    assert writer is not None  # there is at least one batch
    writer.close()
    return rows
