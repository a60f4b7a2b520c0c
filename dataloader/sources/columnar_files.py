"""Parquet, ORC and Arrow IPC files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from dataloader.sources.base import CHUNK_BYTES
from dataloader.sources.formats import PART_BYTES, READ_BYTES, Format, no_rows
from dataloader.sources.paths import File

SAMPLED_ROWS = 100
"""So many rows of an ORC file tell how many are read at once."""


def _parquet_schema(file: File) -> pa.Schema:
    with file.random_access() as opened:
        return pa.parquet.ParquetFile(opened).schema_arrow


def _parquet_rows(file: File) -> int:
    with file.random_access() as opened:
        metadata = pa.parquet.ParquetFile(opened).metadata
        if file.part is None:
            return int(metadata.num_rows)
        return sum(metadata.row_group(number).num_rows for number in file.part)


def _parquet_parts(file: File) -> list[File]:
    """A Parquet file as its row groups, of which those that are small stay together."""
    with file.random_access() as opened:
        metadata = pa.parquet.ParquetFile(opened).metadata
        sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    starts, room = [0], PART_BYTES
    for number, size in enumerate(sizes):
        if room < size and number > starts[-1]:
            starts.append(number)
            room = PART_BYTES
        room -= size
    ranges = itertools.pairwise([*starts, len(sizes)])
    return [replace(file, part=range(*one)) for one in ranges] if len(starts) > 1 else [file]


def _parquet_batches(file: File, chunk_rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    with file.random_access() as opened:
        # Without a buffer size a whole row group is read at once, which may be the whole file.
        reader = pa.parquet.ParquetFile(opened, pre_buffer=False, buffer_size=READ_BYTES)
        columns = None if set(reader.schema_arrow.names) <= set(names) else names
        # Every thread that decodes keeps a heap of its own, and mimalloc gives back nothing by itself: 40 MB together.
        for batch in reader.iter_batches(
            batch_size=_parquet_rows_at_once(reader, chunk_rows),
            row_groups=file.part,
            columns=columns,
            use_threads=False,
        ):
            yield batch
            pa.default_memory_pool().release_unused()


def _parquet_rows_at_once(reader: pa.parquet.ParquetFile, chunk_rows: int) -> int:
    metadata = reader.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((one.total_byte_size // max(one.num_rows, 1) for one in groups), default=0)
    return min(chunk_rows, max(1, CHUNK_BYTES // max(widest, 1)))


def _ipc_reader(opened: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The file format, which has an index at its end, or else the stream format."""
    try:
        reader = pa.ipc.open_file(opened)
    except pa.ArrowInvalid:
        opened.seek(0)
        stream = pa.ipc.open_stream(opened)
        return stream.schema, iter(stream)
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _ipc_schema(file: File) -> pa.Schema:
    with file.random_access() as opened:
        return _ipc_reader(opened)[0]


def _ipc_batches(file: File, _chunk_rows: int, _names: list[str]) -> Iterator[pa.RecordBatch]:
    with file.random_access() as opened:
        yield from _ipc_reader(opened)[1]


def _orc_fragment(opened: Any) -> Any:
    from pyarrow import dataset  # noqa: PLC0415 - slow to import, and for ORC alone: orc.ORCFile reads whole stripes

    return dataset.OrcFileFormat().make_fragment(opened)


def _orc_schema(file: File) -> pa.Schema:
    with file.random_access() as opened:
        return _orc_fragment(opened).physical_schema


def _orc_rows(file: File) -> int:
    with file.random_access() as opened:
        return int(_orc_fragment(opened).count_rows())


def _orc_batches(file: File, chunk_rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    with file.random_access() as opened:
        fragment = _orc_fragment(opened)
        first = fragment.head(SAMPLED_ROWS, columns=names)
        fitting = CHUNK_BYTES * first.num_rows // max(first.nbytes, 1)
        size = max(1, min(chunk_rows, fitting or chunk_rows))
        yield from fragment.to_batches(columns=names, batch_size=size, batch_readahead=1, use_threads=False)


PARQUET = Format(_parquet_schema, _parquet_rows, _parquet_batches, parts=_parquet_parts)
IPC = Format(_ipc_schema, no_rows, _ipc_batches)
ORC = Format(_orc_schema, _orc_rows, _orc_batches)
