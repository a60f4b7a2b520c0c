"""Batches of any size are cut into chunks of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


class Cutter:
    """Cuts batches of any size into chunks of one size, without copying what already fits.

    Where the types change from batch to batch, and at the end, a chunk is shorter.
    """

    def __init__(self, chunk_rows: int) -> None:
        self._chunk_rows = chunk_rows
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def cut(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        if self._waiting and not self._waiting[0].schema.equals(batch.schema):
            yield from self.rest()
        while self._rows + batch.num_rows >= self._chunk_rows:
            missing = self._chunk_rows - self._rows
            yield from self._flush(batch.slice(0, missing))
            batch = batch.slice(missing)
        if batch.num_rows:
            self._waiting.append(batch)
            self._rows += batch.num_rows

    def rest(self) -> Iterator[pa.RecordBatch]:
        if self._rows:
            yield from self._flush()

    def _flush(self, *last: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        parts = [*self._waiting, *last]
        self._waiting, self._rows = [], 0
        yield from joined(parts)


def joined(parts: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
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


def cut_all(batches: Iterable[pa.RecordBatch], chunk_rows: int) -> Iterator[pa.RecordBatch]:
    """Cut a blocking stream of batches into chunks."""
    cutter = Cutter(chunk_rows)
    for batch in batches:
        yield from cutter.cut(batch)
    yield from cutter.rest()
