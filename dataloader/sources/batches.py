"""Record batches that come one by one, and maybe slowly: whoever waits for them gets what has come."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from typing import cast

import pyarrow as pa

from dataloader.errors import PlanError, SchemaMismatch
from dataloader.sources.base import Rechunker, Source, check_names, close_in_thread
from dataloader.sources.cuts import UNCUT, Cuts, arriving, taken
from dataloader.sync import in_thread


class BatchStream:
    """Batches that may come slowly: whoever waits for them gets those that have come.

    Parameters
    ----------
    batches : iterator or async iterator of RecordBatch
        A blocking one is read in a thread.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch] | AsyncIterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._first: list[pa.RecordBatch] = []
        self._rechunker = Rechunker(1)
        self._cutting = threading.Lock()
        self._is_closed = False

    async def head(self, rows: int) -> pa.RecordBatch | None:
        """The first rows, which stay in the stream; None if it has fewer, or of more than one type."""
        if isinstance(self._batches, AsyncIterator):
            missing = rows - sum(batch.num_rows for batch in self._first)
            while missing > 0 and (batch := await anext(self._batches, None)) is not None:
                self._first.append(batch)
                missing -= batch.num_rows
        else:
            await in_thread(self._look, rows)
        rechunker = Rechunker(rows, sys.maxsize)
        head = next((chunk for batch in self._first for chunk in rechunker.add(batch)), None)
        return head if head is not None and head.num_rows == rows else None

    def _look(self, rows: int) -> None:
        missing = rows - sum(batch.num_rows for batch in self._first)
        blocking = cast("Iterator[pa.RecordBatch]", self._batches)
        while missing > 0 and not self._is_closed and (batch := next(blocking, None)) is not None:
            self._first.append(batch)
            missing -= batch.num_rows

    async def chunks(self, chunk_rows: int, cuts: Cuts) -> AsyncGenerator[pa.RecordBatch]:
        """Yield the chunks."""
        self._rechunker = Rechunker(chunk_rows, cuts=cuts)
        try:
            async with contextlib.aclosing(arriving(self._fill, self._take)) as arrived:
                async for chunks in arrived:
                    while chunks:
                        yield chunks.pop(0)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close what is read, wherever the reading stands."""
        self._is_closed = True
        if isinstance(self._batches, AsyncGenerator):
            await self._batches.aclose()
        elif isinstance(self._batches, Generator):
            await close_in_thread(self._batches)

    async def _fill(self, chunks: list[pa.RecordBatch]) -> bool:
        if not isinstance(self._batches, AsyncIterator):
            return await in_thread(self._read, chunks)
        self._cut_first(chunks)
        async for batch in self._batches:
            self._cut(batch, chunks)
            if chunks:
                return True
        chunks += self._rechunker.rest()
        return False

    def _read(self, chunks: list[pa.RecordBatch]) -> bool:
        self._cut_first(chunks)
        for batch in cast("Iterator[pa.RecordBatch]", self._batches):
            self._cut(batch, chunks)
            del batch
            if chunks or self._is_closed:
                return True
        with self._cutting:
            chunks += self._rechunker.rest()
        return False

    def _cut_first(self, chunks: list[pa.RecordBatch]) -> None:
        while self._first:
            self._cut(self._first.pop(0), chunks)

    def _cut(self, batch: pa.RecordBatch, chunks: list[pa.RecordBatch]) -> None:
        with self._cutting:
            chunks += self._rechunker.add(batch)

    def _take(self, chunks: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """The chunks that are full, and the one that has waited for long enough."""
        with self._cutting:
            if self._rechunker.is_due:
                chunks += self._rechunker.rest()
            return taken(chunks)


@dataclass(frozen=True, slots=True)
class AsyncBatchSource(Source):
    """An asynchronous stream of batches, the caller's own."""

    stream: BatchStream

    async def head(self, rows: int) -> pa.RecordBatch | None:
        return await self.stream.head(rows)

    async def chunks(self, chunk_rows: int, cuts: Cuts = UNCUT) -> AsyncGenerator[pa.RecordBatch]:
        async with contextlib.aclosing(self.stream.chunks(chunk_rows, cuts)) as chunks:
            async for batch in chunks:
                yield batch
                del batch


async def open_async_batches(batches: AsyncIterable[pa.RecordBatch]) -> AsyncBatchSource:
    """Open record batches that come from an async iterable; its first batch is read for the schema."""
    reading = aiter(batches)
    first = first_batch(await anext(reading, None))
    check_names(first.schema.names)
    stream = BatchStream(_all_fitting([first], reading, first.schema))
    return AsyncBatchSource("stream of batches", first.schema, None, stream, loader="load_batches", is_live=True)


async def _all_fitting(
    first: list[pa.RecordBatch], rest: AsyncIterator[object], schema: pa.Schema
) -> AsyncGenerator[pa.RecordBatch]:
    """The batches of a stream; `first` is let go of like the others."""
    yield first.pop()
    async for batch in rest:
        yield fitting(batch, schema)


def first_batch(batch: object | None) -> pa.RecordBatch:
    if batch is None:
        hint = "Pass at least one batch, which may have no rows, or a RecordBatchReader, which has a schema."
        raise PlanError("the stream has no batch, so its columns are unknown", hint=hint)
    return _as_batch(batch)


def fitting(batch: object, schema: pa.Schema) -> pa.RecordBatch:
    """A later batch, its columns in the order of the first one's."""
    checked = _as_batch(batch)
    if sorted(checked.schema.names) != sorted(schema.names):
        facts = f"{', '.join(checked.schema.names)} after {', '.join(schema.names)}"
        raise SchemaMismatch(f"a batch has other columns than the first: {facts}", hint="Load them separately.")
    return checked.select(schema.names)


def _as_batch(batch: object) -> pa.RecordBatch:
    if not isinstance(batch, pa.RecordBatch):
        hint = "Yield pyarrow.RecordBatch objects: table.to_batches() gives them."
        raise PlanError(f"the stream must yield record batches, got {type(batch).__name__}", hint=hint)
    return batch
