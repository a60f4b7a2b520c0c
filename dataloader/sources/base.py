"""What every source is: record batches of the size that is asked for, and streams, which can be read once."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
    Sized,
)
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dataloader.errors import PlanError
from dataloader.sources import sizes
from dataloader.sources.cuts import UNCUT, Cuts
from dataloader.sources.known import FileContent
from dataloader.sources.streams import is_open_file
from dataloader.sync import finish_despite_cancel, in_thread

if TYPE_CHECKING:
    from dataloader.sources.batches import BatchStream

CLOSE_SECONDS = 0.5
"""How long a step of a stream that is under way is waited for; it is closed when that step ends."""
_LOOK_SECONDS = 0.01
CHUNK_BYTES = 1 << 24
"""The most of one chunk, if it has several rows. Of 60,000 rows of 20 kB, 8, 32 and 64 MB took 0.3, 0.8 and 1.2 GB, and
the same time."""

_read: dict[int, weakref.ref[Any]] = {}
"""What was read, by its id for as long as it lives."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows to load, as Arrow batches.

    Attributes
    ----------
    name : str
        What the user would call it, for plans and reports.
    schema : pyarrow.Schema
        The columns it offers. A batch has these columns; a column's type may differ from batch
        to batch where the rows do (CSV fields, dicts), and the converter answers for that.
    rows : int or None
        The row count, None if it is unknown.
    in_memory : bool
        Whether it can be read again at no cost.
    loader : str
        The function that the user called.
    paths : tuple of str
        The files that it is read from.
    position : object
        Says as a string which of several files is being read; else an empty string.
    about : int or None
        How many rows there are, to judge by the size of files; None where they are counted, or nothing is known.
    facts : tuple of (str, str)
        What was found out about it, for the plan.
    contents : tuple of FileContent
        The files that are loaded, for the ledger, where it is asked which ones are new.
    passed_over : int
        How many files the ledger knew.
    labels : sequence or None
        The labels of all rows, None where they have none.
    is_live : bool
        Whether it is a stream, whose rows may come slowly.
    """

    name: str
    schema: pa.Schema
    rows: int | None
    _: KW_ONLY
    in_memory: bool = False
    loader: str = "load_dataframe"
    paths: tuple[str, ...] = ()
    position: object = ""
    about: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    contents: tuple[FileContent, ...] = ()
    passed_over: int = 0
    labels: Sequence[object] | None = None
    is_live: bool = False

    def label(self, row: int) -> object:
        """The label of the row at a position, None where rows have none."""
        return None if self.labels is None else self.labels[row]

    def chunks(self, chunk_rows: int, cuts: Cuts = UNCUT) -> AsyncGenerator[pa.RecordBatch]:
        """Yield batches of `chunk_rows` rows; those with many bytes, before a change of types and the last of fewer.

        Parameters
        ----------
        cuts : Cuts
            Where a stream is cut as well.
        """
        raise NotImplementedError

    async def head(self, rows: int) -> pa.RecordBatch | None:
        """The first rows of a stream, which is to be read yet; None if it has fewer, or of more than one type."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close what is read, wherever the reading stands."""


@dataclass(frozen=True, slots=True)
class ArrowSource(Source):
    """A source that is read by blocking calls: each step of the reading runs in a thread."""

    batches: Callable[[int], Iterator[pa.RecordBatch]]
    _: KW_ONLY
    opened: tuple[Any, ...] = ()
    stream: BatchStream | None = None

    async def head(self, rows: int) -> pa.RecordBatch | None:
        assert self.stream is not None
        return await self.stream.head(rows)

    async def chunks(self, chunk_rows: int, cuts: Cuts = UNCUT) -> AsyncGenerator[pa.RecordBatch]:
        if self.stream is not None and cuts is not UNCUT:
            async with contextlib.aclosing(self.stream.chunks(chunk_rows, cuts)) as chunks:
                async for batch in chunks:
                    yield batch
                    del batch
            return
        reading = self.batches(chunk_rows)
        try:
            while (batch := await in_thread(next, reading, None)) is not None:
                yield batch
                del batch
        except BaseException:
            await close_in_thread(reading)
            raise

    async def aclose(self) -> None:
        await close_in_thread(*self.opened)


def check_names(names: Sequence[object]) -> None:
    """Refuse column names that are not unique.

    Raises
    ------
    PlanError
        Naming the ones that repeat.
    """
    twice = sorted(str(name) for name, count in Counter(names).items() if count > 1)
    if twice:
        hint = "Rename them, so that every column is named once."
        raise PlanError(f"the source has columns with the same name: {', '.join(twice)}", hint=hint)


def most_bytes(batch: pa.RecordBatch) -> int:
    """No less than the bytes of its values, and found at once."""
    if any(pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) for kind in batch.schema.types):
        return int(sizes.row_bytes(batch).sum())
    return int(batch.nbytes)


def fitting_rows(batch: pa.RecordBatch, most: int = CHUNK_BYTES) -> int:
    """How many of its first rows have no more bytes."""
    return int(np.searchsorted(np.cumsum(sizes.row_bytes(batch)), most, side="right"))


class Rechunker:
    """Makes batches of any size into chunks of so many rows or bytes, without copying what already fits.

    Where they are cut depends on the rows and not on the batches that they come in: a load that is resumed compares
    its chunks with those that are committed. A row with more than the bytes is a chunk of its own. Where the types
    change from batch to batch, and at the end, a chunk is shorter. A stream may be cut elsewhere as well: see `Cuts`.
    """

    def __init__(self, chunk_rows: int, chunk_bytes: int = CHUNK_BYTES, cuts: Cuts = UNCUT) -> None:
        self._chunk_rows = chunk_rows
        self._chunk_bytes = chunk_bytes
        self._cuts = cuts
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._most = self._first_row = 0
        self._since = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the rows of the chunk have waited for long enough."""
        return self._rows > 0 and self._cuts.is_due(self._first_row, self._since)

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        if self._waiting and not self._waiting[0].schema.equals(batch.schema):
            yield from self.rest()
        while (missing := self._missing(batch)) is not None:
            yield from self._flush(batch.slice(0, missing))
            batch = batch.slice(missing)
        if batch.num_rows:
            self._since = self._since if self._rows else time.monotonic()
            self._waiting.append(batch)
            self._rows += batch.num_rows
            self._most += most_bytes(batch)

    def rest(self) -> Iterator[pa.RecordBatch]:
        if self._rows:
            yield from self._flush()

    def _missing(self, batch: pa.RecordBatch) -> int | None:
        """How many of its first rows make the chunk full, None if all are too few."""
        most, is_committed = self._chunk_rows, False
        if self._cuts is not UNCUT:
            most, is_committed = self._cuts.most(self._first_row, most), self._cuts.is_committed(self._first_row)
        missing = min(most - self._rows, batch.num_rows)
        if not is_committed and self._most + most_bytes(batch.slice(0, missing)) > self._chunk_bytes:
            taken = sum(int(sizes.row_bytes(one).sum()) for one in self._waiting)
            missing = fitting_rows(batch.slice(0, missing), self._chunk_bytes - taken)
            missing = missing or (0 if self._waiting else 1)
        is_full = missing < batch.num_rows or self._rows + missing == most
        return missing if batch.num_rows and is_full else None

    def _flush(self, *last: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        parts = [one for one in (*self._waiting, *last) if one.num_rows]
        self._first_row += sum(one.num_rows for one in parts)
        self._waiting, self._rows, self._most = [], 0, 0
        yield from concatenated(parts)


def concatenated(parts: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """One batch, or several where a column has more than 2 GB of text or Arrow cannot put it together."""
    if len(parts) == 1:
        return parts
    try:
        whole: list[pa.RecordBatch] = _unified(pa.Table.from_batches(parts)).combine_chunks().to_batches()
    except pa.ArrowNotImplementedError:  # runs of an extension type, dictionaries of lists of views
        return parts
    return whole


def _unified(table: pa.Table) -> pa.Table:
    """Every column with one dictionary, or with none where Arrow cannot unify them."""
    try:
        return table.unify_dictionaries()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # of lists, or with a null among the values
        return pa.table([_decoded(column) for column in table.columns], names=table.column_names)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(column.type):
        return column
    view = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(column.type.value_type)
    kind = view or column.type.value_type  # Arrow does not take from views
    parts = [chunk.dictionary if view is None else chunk.dictionary.cast(view) for chunk in column.chunks]
    taken = [part.take(chunk.indices) for part, chunk in zip(parts, column.chunks, strict=True)]
    return pa.chunked_array(taken, kind)


def rechunk(batches: Iterable[pa.RecordBatch], chunk_rows: int) -> Iterator[pa.RecordBatch]:
    """The chunks of a blocking stream of batches."""
    rechunker = Rechunker(chunk_rows)
    for batch in batches:
        yield from rechunker.add(batch)
    yield from rechunker.rest()


def is_stream(data: object) -> bool:
    """Whether it can be read once: what gives itself as its iterator, unless it is an open file."""
    return isinstance(data, (Iterator, AsyncIterator)) and not is_open_file(data)


@contextlib.asynccontextmanager
async def reading_once(data: object) -> AsyncIterator[None]:
    """Read a stream once; a generator is closed afterwards, whatever came of it.

    Raises
    ------
    PlanError
        When it was read before.
    """
    claim_stream(data)
    try:
        yield
    finally:
        if isinstance(data, AsyncGenerator):
            await finish_despite_cancel(data.aclose(), CLOSE_SECONDS)
        elif isinstance(data, Generator):
            await close_in_thread(data)


def claim_stream(data: object) -> None:
    """Refuse a stream that was read before, and remember one that is read now.

    Raises
    ------
    PlanError
        When it was read before.
    """
    if not is_stream(data):
        return
    if _was_read(data) or getattr(data, "gi_frame", data) is None or getattr(data, "ag_frame", data) is None:
        raise _read_before(data)
    _remember(data)


def check_not_exhausted(data: object, has_rows: bool) -> None:
    """Refuse what gives no row now and gave some before, though its kind does not say that it can be read once.

    Raises
    ------
    PlanError
        When that is so.
    """
    if is_stream(data) or isinstance(data, Sized):
        return
    if has_rows:
        _remember(data)
    elif _was_read(data):
        raise _read_before(data)


def _remember(data: object) -> None:
    key = id(data)
    with contextlib.suppress(TypeError):  # a list's iterator and its like: they cannot be told from later ones
        _read[key] = weakref.ref(data, lambda _: _read.pop(key, None))


def _was_read(data: object) -> bool:
    known = _read.get(id(data))
    return known is not None and known() is data


def _read_before(data: object) -> PlanError:
    hint = "It can be read once: make it anew for every load and validation."
    return PlanError(f"the {type(data).__name__} has been read already", hint=hint, committed_rows=0)


async def close_in_thread(*streams: Any) -> None:
    """Close generators and readers, one after another; a step under way in a thread is waited for, but not for long."""
    if streams:
        await finish_despite_cancel(asyncio.to_thread(close_streams, *streams), CLOSE_SECONDS)


def close_streams(*streams: Any) -> None:
    """Close generators and readers; one that another thread is reading, when its step has ended."""
    for stream in streams:
        with contextlib.suppress(Exception):  # of the caller's own cleaning up: the load has its outcome already
            _close(stream)


def _close(stream: Any) -> None:
    while True:
        try:
            stream.close()
        except ValueError as error:
            if str(error) != "generator already executing":
                raise
        else:
            return
        time.sleep(_LOOK_SECONDS)
