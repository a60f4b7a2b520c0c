"""Streams of record batches, from a blocking or an async iterable, become a Source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from dataloader.errors import PlanError, SchemaMismatch
from dataloader.sources.base import ArrowSource, Rechunker, Source, check_names, rechunk
from dataloader.sources.tables import open_dataframe


@dataclass(frozen=True, slots=True)
class AsyncBatchSource(Source):
    """An asynchronous stream of batches, the caller's own; `first` is the one that was read for its schema."""

    first: pa.RecordBatch
    rest: AsyncIterator[pa.RecordBatch]

    async def chunks(self, chunk_rows: int) -> AsyncGenerator[pa.RecordBatch]:
        rechunker = Rechunker(chunk_rows)
        for chunk in rechunker.add(self.first):
            yield chunk
        async for batch in self.rest:
            for chunk in rechunker.add(_fitting(batch, self.schema)):
                yield chunk
        for chunk in rechunker.rest():
            yield chunk


def open_batches(batches: object) -> ArrowSource:
    """Open record batches that come from a blocking iterable or reader."""
    if isinstance(batches, pa.RecordBatchReader) or hasattr(batches, "__arrow_c_stream__"):
        return open_dataframe(batches)
    if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, Mapping)):
        hint = "Pass a RecordBatchReader, or an iterable or async iterable of RecordBatch."
        raise PlanError(f"expected a stream of record batches, got {type(batches).__name__}", hint=hint)
    reading = iter(batches)
    first = _first_batch(next(reading, None))
    schema = first.schema
    check_names(schema.names)
    stream = _all_fitting([first], reading, schema)
    return ArrowSource("stream of batches", schema, None, lambda size: rechunk(stream, size), loader="load_batches")


def _all_fitting(first: list[pa.RecordBatch], rest: Iterator[object], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches of a stream; `first` is let go of like the others."""
    yield first.pop()
    for batch in rest:
        yield _fitting(batch, schema)


async def open_async_batches(batches: AsyncIterable[pa.RecordBatch]) -> AsyncBatchSource:
    """Open record batches that come from an async iterable; its first batch is read for the schema."""
    reading = aiter(batches)
    first = _first_batch(await anext(reading, None))
    check_names(first.schema.names)
    return AsyncBatchSource("stream of batches", first.schema, None, first, reading, loader="load_batches")


def _first_batch(batch: object | None) -> pa.RecordBatch:
    if batch is None:
        hint = "Pass at least one batch, which may have no rows, or a RecordBatchReader, which has a schema."
        raise PlanError("the stream has no batch, so its columns are unknown", hint=hint)
    return _as_batch(batch)


def _fitting(batch: object, schema: pa.Schema) -> pa.RecordBatch:
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
