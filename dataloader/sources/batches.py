"""Streams of record batches, from a blocking or an async iterable, become a Source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from dataloader.errors import PlanError, SchemaMismatch
from dataloader.sources.base import ArrowSource, check_names
from dataloader.sources.cutter import Cutter, cut_all
from dataloader.sources.tables import open_dataframe


@dataclass(frozen=True, slots=True)
class AsyncBatchSource:
    """An asynchronous stream of batches; `first` is the one that was read for its schema."""

    name: str
    schema: pa.Schema
    rows: int | None
    first: pa.RecordBatch
    rest: AsyncIterator[pa.RecordBatch]
    in_memory: bool = False
    loader: str = "load_batches"
    paths: tuple[str, ...] = ()
    position: object = ""

    def label(self, _row: int) -> object:
        return None

    async def aclose(self) -> None:
        """What is read is the caller's own generator."""

    async def chunks(self, chunk_rows: int) -> AsyncGenerator[pa.RecordBatch]:
        cutter = Cutter(chunk_rows)
        for chunk in cutter.cut(self.first):
            yield chunk
        async for batch in self.rest:
            for chunk in cutter.cut(_fitting(batch, self.schema)):
                yield chunk
        for chunk in cutter.rest():
            yield chunk


def open_batches(batches: object) -> ArrowSource:
    """Open record batches that come from a blocking iterable or reader."""
    if isinstance(batches, pa.RecordBatchReader) or hasattr(batches, "__arrow_c_stream__"):
        return open_dataframe(batches)
    if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, Mapping)):
        hint = "Pass a RecordBatchReader, or an iterable or async iterable of RecordBatch."
        raise PlanError(f"a {type(batches).__name__} is not a stream of record batches", hint=hint)
    reading = iter(batches)
    first = _first_batch(next(reading, None))
    schema = first.schema
    check_names(schema.names)
    stream = _all_fitting([first], reading, schema)
    return ArrowSource("stream of batches", schema, None, lambda size: cut_all(stream, size), loader="load_batches")


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
    return AsyncBatchSource("stream of batches", first.schema, None, first, reading)


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
        raise SchemaMismatch(f"a batch has other columns than the first: {facts}", hint="Load them apart.")
    return checked.select(schema.names)


def _as_batch(batch: object) -> pa.RecordBatch:
    if not isinstance(batch, pa.RecordBatch):
        hint = "Yield pyarrow.RecordBatch objects: table.to_batches() gives them."
        raise PlanError(f"the stream yields a {type(batch).__name__}", hint=hint)
    return batch
