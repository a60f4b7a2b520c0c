"""The comparison: both sides are read once, in flat memory, and what differs is found part by part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dataloader.comparing.columns import KEY, ROW, Compared, compared, types_there
from dataloader.comparing.partitions import Differences, Partitions
from dataloader.copying.definition import column_types
from dataloader.copying.survey import find_original
from dataloader.database import engine as engines
from dataloader.database.keys import joined
from dataloader.database.schema import TableName
from dataloader.database.session import Session
from dataloader.database.texts import TextConverter, read_by_server
from dataloader.display.progress import Progress
from dataloader.errors import LoadCancelled, shown_as
from dataloader.reading.stream import Reading, as_read_errors
from dataloader.rejects import Findings
from dataloader.report.comparisons import Comparison
from dataloader.sync import await_and_propagate_cancel

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dataloader.conversion.column_types import ColumnType
    from dataloader.copying.survey import Original
    from dataloader.display.state import View
    from dataloader.reading.query import Params
    from dataloader.sources.base import Source

CHUNK_ROWS = 50_000


async def compare(
    source: Source,
    query: object,
    params: Params | None,
    engine: AsyncEngine,
    *,
    key: Sequence[str] | None,
    zone: str | None,
    most: int,
    progress: str | View,
) -> Comparison:
    """Compare, in a task of its own: its Cancel button stops the comparison and not the caller."""
    comparing = asyncio.create_task(_compare(source, query, params, engine, key, zone, most, progress))
    cancels = await await_and_propagate_cancel(comparing)
    try:
        return comparing.result()
    except asyncio.CancelledError as error:
        if not cancels:
            raise LoadCancelled("the comparison was cancelled", hint="Nothing was written.") from None
        shown_as(error, "Interrupted: nothing was written")
        raise


async def _compare(  # noqa: PLR0917 - as the caller names them
    source: Source,
    query: object,
    params: Params | None,
    engine: AsyncEngine,
    key: Sequence[str] | None,
    zone: str | None,
    most: int,
    asked: str | View,
) -> Comparison:
    original = await find_original(engine, query, params, None, among=source.schema.names)
    async with Progress(f"{source.name} ↔ {original.label}", None, asked, original.about) as progress:
        progress.state.keeps_rows, progress.state.outcome = True, "compared"
        progress.phase("reading")
        comparing = _Comparing(source, original, progress, most)
        await comparing.run(key, zone)
        return progress.succeed(comparing.report, phase="compared")


class _Comparing:
    def __init__(self, source: Source, original: Original, progress: Progress, most: int) -> None:
        self._source = source
        self._original = original
        self._progress = progress
        self._most = most
        self._rows = [0, 0]

    async def run(self, key: Sequence[str] | None, zone: str | None) -> None:
        """Read both sides, and compare."""
        original, known = self._original, column_types(self._original)
        if known:  # else only the rows of the query tell its columns
            asked = compared(self._source.schema.names, list(known), key, original)
            original = replace(original, statement=replace(original.statement, columns=asked.shown))
        reading = Reading(original.engine, original.statement, original.label, "none")
        async with contextlib.aclosing(reading.batches()) as batches:
            first = await anext(batches)
            if not known:
                asked = compared(self._source.schema.names, first.schema.names, key, original)
            types = types_there(known, first.schema, original)
            self._found = Differences(asked, self._most)
            with Partitions(_schema(asked)) as kept:
                chosen = [types[name] for name in asked.shown]
                theirs = TextConverter(first.schema, asked.shown, chosen)
                ours = TextConverter(self._source.schema, [name for name, _ in asked.names], chosen, zone)
                await self._keep(kept, 1, theirs, _all(first, batches))
                async with contextlib.aclosing(self._source.chunks(CHUNK_ROWS)) as chunks:
                    await self._keep(kept, 0, ours, chunks)
                self._progress.phase("comparing")
                await asyncio.to_thread(self._compare, kept)

    async def _keep(
        self, kept: Partitions, side: int, texts: TextConverter, batches: AsyncIterator[pa.RecordBatch]
    ) -> None:
        read = {} if side else read_by_server(texts.plans)
        async for batch in batches:
            columns, rows = await asyncio.to_thread(_texts, texts, batch, self._rows[side])
            if read:
                columns = await self._as_written(columns, read)
            await asyncio.to_thread(self._add, kept, side, columns, rows)
            self._rows[side] += batch.num_rows
            if side:
                self._progress.state.advance(batch.num_rows, batch.nbytes)

    def _add(self, kept: Partitions, side: int, columns: list[pa.Array], rows: np.ndarray) -> None:
        kept.add(side, _keyed(columns, rows, self._found.asked.keys))

    async def _as_written(self, columns: list[pa.Array], read: Mapping[int, ColumnType]) -> list[pa.Array]:
        """Those of the data as the server would write them: the table's are read by then, and their connection free."""

        async def ask(session: Session) -> list[pa.Array]:
            return await session.backend.as_written(session.connection, columns, read, inside=False)

        name = TableName(None, self._original.label)
        with as_read_errors():
            return await Session(self._original.engine, name, reads_only=True).run(ask)

    def _compare(self, kept: Partitions) -> None:
        for ours, theirs in kept.parts():
            self._found.add(ours, theirs)

    def report(self) -> Comparison:
        """What was found."""
        found, asked = self._found, self._found.asked
        here, there, cells = found.frames()
        return Comparison(
            source=self._source.name,
            table=self._original.label,
            database=engines.describe_url(self._original.engine),
            key=asked.shown[: asked.keys],
            rows_here=self._rows[0],
            rows_there=self._rows[1],
            same=found.same,
            different=found.different,
            count_only_here=found.counts[0],
            count_only_there=found.counts[1],
            by_column=dict(sorted(found.by_column.items(), key=lambda one: -one[1])),
            not_compared=asked.others,
            seconds=self._progress.state.seconds,
            kept_here=here,
            kept_there=there,
            kept_cells=cells,
        )


def _schema(asked: Compared) -> pa.Schema:
    texts = [(str(at), pa.string()) for at in range(len(asked.names))]
    return pa.schema([(KEY, pa.string()), (ROW, pa.int64()), *texts])


def _texts(texts: TextConverter, batch: pa.RecordBatch, first_row: int) -> tuple[list[pa.Array], np.ndarray]:
    """The texts of a batch, and the places of the rows.

    Raises
    ------
    ValidationError
        When a value has no place in the table's column.
    """
    columns, converted = texts(batch, first_row)
    if converted.violations:
        findings = Findings()
        findings.add(converted.violations)
        raise findings.error()
    return columns, converted.rows


def _keyed(columns: list[pa.Array], rows: np.ndarray, keys: int) -> pa.RecordBatch:
    """The texts with the key in one, and the places of the rows."""
    return pa.RecordBatch.from_arrays(
        [joined(columns[:keys]), pa.array(rows), *columns], [KEY, ROW, *map(str, range(len(columns)))]
    )


async def _all(first: pa.RecordBatch, rest: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
    yield first
    async for batch in rest:
        yield batch
