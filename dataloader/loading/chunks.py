"""Chunks: the source's batches, converted, digested and encoded in a thread, one ahead of who writes them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pyarrow as pa

from dataloader.conversion.converter import Converted, Converter
from dataloader.display.cells import show_own_frames
from dataloader.errors import DataLoaderError, SourceFailed
from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad, rows_of, source_changed
from dataloader.ledger.digest import chunk_digest
from dataloader.rejects import Findings
from dataloader.sources.cuts import UNCUT, Cuts
from dataloader.sync import end_task, in_thread
from dataloader.transactions import BUFFER_BYTES, BUFFER_SECONDS, ONE_TRANSACTION_ROWS

if TYPE_CHECKING:
    from dataloader.plan import LoadPlan
    from dataloader.sources.base import Source
    from dataloader.writers import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows ready to be sent: where they stand in the source, as they came, as converted, and as encoded.

    Attributes
    ----------
    digest : str
        See `chunk_digest`.
    encoded : object
        What the writer sends; None for a chunk that is only compared, because it is committed already.
    left_out : int
        How many of its rows gave way to another row of the source with their key.
    """

    number: int
    first_row: int
    batch: pa.RecordBatch
    converted: Converted
    digest: str
    encoded: Any
    nbytes: int
    left_out: int = 0

    @property
    def rows(self) -> int:
        return int(self.batch.num_rows)

    @property
    def checkpoint(self) -> Checkpoint:
        """Its checkpoint, if the database refuses none of its rows."""
        rejected = rows_of(self.converted.violations)
        return Checkpoint(self.number, self.first_row, self.rows, self.rows - rejected, rejected, self.digest)


async def read_chunks(
    batches: AsyncGenerator[tuple[pa.RecordBatch, int]],
    label: Callable[[int], object],
    plan: LoadPlan,
    writer: Writer,
    *,
    committed: Container[int] = (),
    numbered: Mapping[int, int] | None = None,
    distinct: Callable[[Converted], Converted] | None = None,
) -> AsyncGenerator[Chunk]:
    """Convert, digest and encode each batch of the source in a thread.

    Parameters
    ----------
    label : callable
        Gives the label of the row at a position.
    committed : container of int
        The chunks that are not encoded, because they are only compared; it may grow meanwhile.
    numbered : mapping of int to int
        The numbers of the chunks that begin at these positions, as earlier runs have numbered them.
    distinct : callable or None
        Takes out of a chunk the rows that give way to another one with their key.

    Raises
    ------
    SourceFailed
        Carrying the source's own error, or a ValidationError where the plan keeps no rejects.
    """
    convert, number_of = Converter(plan.columns, label), _numbering(numbered or {})

    def make(batch: pa.RecordBatch, first_row: int) -> Chunk:
        converted, number = convert(batch, first_row), number_of(first_row)
        fitting = converted.batch.num_rows
        converted = converted if distinct is None else distinct(converted)
        digest = chunk_digest(converted.batch, converted.violations)
        encoded, nbytes = (None, 0) if number in committed else writer.encode(converted.batch)
        left_out = fitting - converted.batch.num_rows
        return Chunk(number, first_row, batch, converted, digest, encoded, nbytes, left_out)

    async with contextlib.aclosing(map_in_thread(batches, make)) as chunks:
        async for chunk in chunks:
            if chunk.converted.violations and not plan.keeps_rejects:
                findings = Findings()
                findings.add(chunk.converted.violations)
                raise SourceFailed(findings.error())
            yield chunk
            del chunk


def _numbering(known: Mapping[int, int]) -> Callable[[int], int]:
    """Gives the number of each chunk in turn; between those that are known there may be fewer than before."""
    numbers = itertools.count()

    def number_of(first_row: int) -> int:
        nonlocal numbers
        if first_row in known:
            numbers = itertools.count(known[first_row])
        return next(numbers)

    return number_of


async def read_batches(
    source: Source, chunk_rows: int, cuts: Cuts = UNCUT
) -> AsyncGenerator[tuple[pa.RecordBatch, int]]:
    """Read the source: each batch with the position of its first row.

    Raises
    ------
    SourceFailed
        Carrying the source's own error past the translation of the driver's.
    """
    first_row = 0
    try:
        async with contextlib.aclosing(source.chunks(chunk_rows, cuts)) as batches:
            async for batch in batches:
                rows = batch.num_rows
                yield batch, first_row
                first_row += rows
                del batch
    except Exception as error:
        if not isinstance(error, DataLoaderError):
            show_own_frames(error)
        raise SourceFailed(error) from error


async def map_in_thread(
    batches: AsyncGenerator[tuple[pa.RecordBatch, int]], work: Callable[[pa.RecordBatch, int], T]
) -> AsyncGenerator[T]:
    """Yield what `work` makes of each batch and the position of its first row, in a thread."""
    async with contextlib.aclosing(batches):
        async for batch, first_row in batches:
            yield await in_thread(work, batch, first_row)
            del batch


@contextlib.contextmanager
def source_errors() -> Iterator[None]:
    """Let the source's own errors out of what has carried them past the translation of the driver's."""
    try:
        yield
    except SourceFailed as failed:
        raise failed.error from failed.error.__cause__


async def prefetch(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Yield `items`, the next one being made while the last one is used: never more than two exist."""
    making = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await making) is not None:
            # Begun before the item is handed on: while the database takes it, the next one is converted in a thread.
            making = asyncio.ensure_future(anext(items, None))
            yield item
            del item
    finally:
        if not making.done():
            await end_task(making)
        elif not making.cancelled():
            making.exception()  # looked at, or asyncio complains that nobody did
        await items.aclose()


class SharedIterator(Generic[T]):
    """Items that several workers take, each the next one."""

    def __init__(self, items: AsyncGenerator[T]) -> None:
        self._items = items
        self._taking = asyncio.Lock()

    async def take(self) -> T | None:
        """The next item, None when there are no more."""
        async with self._taking:
            return await anext(self._items, None)


async def fill_buffer(batches: AsyncGenerator[tuple[pa.RecordBatch, int]]) -> tuple[list[Any], bool]:
    """The first batches of a source whose row count is unknown, and whether they are all of it.

    They are more than one transaction takes, by rows, bytes or the seconds that they took, or they are all.
    """
    buffered: list[tuple[pa.RecordBatch, int]] = []
    rows, size, began = 0, 0, time.monotonic()
    async for batch, first_row in batches:
        buffered.append((batch, first_row))
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows > ONE_TRANSACTION_ROWS or size > BUFFER_BYTES or time.monotonic() - began >= BUFFER_SECONDS:
            return buffered, False
    return buffered, True


async def take_first(items: AsyncGenerator[T]) -> list[T]:
    """The first item, if there is one."""
    first = await anext(items, None)
    return [] if first is None else [first]


async def prepend(first: list[T], rest: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """What was taken already, and then the rest."""
    while first:
        yield first.pop(0)
    async for item in rest:
        yield item
        del item


async def skip_committed(
    chunks: AsyncGenerator[Chunk], load: LedgerLoad, compared: Callable[[Chunk, Checkpoint], Awaitable[None]]
) -> AsyncGenerator[Chunk]:
    """Yield the chunks that are not committed yet, once those that are have proved to be the same.

    Chunks between committed ones, as many as there were workers, wait for the last of them: a source that has
    changed is refused before anything is written.

    Parameters
    ----------
    compared : callable
        Is given each committed chunk that is the same.

    Raises
    ------
    SourceChanged
        Naming the first chunk that differs.
    """
    last, seen = max(load.committed, default=-1), 0
    waiting: list[Chunk] = []
    async for chunk in chunks:
        seen = chunk.number + 1
        if chunk.number in load.committed:
            load.committed[chunk.number].check(chunk.checkpoint)
            await compared(chunk, load.committed[chunk.number])
        elif load.finished:
            raise source_changed(chunk.number, f"{chunk.rows:,} rows after the last one of the finished load")
        else:
            waiting.append(chunk)
        del chunk
        while waiting and seen > last:
            yield waiting.pop(0)
    if seen <= last:
        raise source_changed(seen, "which was committed, is not in it any more")
