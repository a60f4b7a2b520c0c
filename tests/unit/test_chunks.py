"""Chunks are cut by rows and by bytes, at the same rows whatever batches they come in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dataloader.sources.base import CHUNK_BYTES, Rechunker, most_bytes
from dataloader.sources.rows import open_rows
from dataloader.sources.sizes import row_bytes
from dataloader.sources.tables import open_dataframe

LENGTHS = [random.Random(3).choice([0, 1, 10, 100, 1_000]) for _ in range(2_000)]
TEXTS = ["x" * length for length in LENGTHS]
WIDE = 20_000


def in_batches(table: pa.Table, size: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(table), size):
        yield from table.slice(start, size).combine_chunks().to_batches()


def cut(table: pa.Table, size: int, chunk_bytes: int = 5_000, chunk_rows: int = 300) -> list[int]:
    rechunker = Rechunker(chunk_rows, chunk_bytes)
    chunks = [chunk for batch in in_batches(table, size) for chunk in rechunker.add(batch)]
    chunks += rechunker.rest()
    assert pa.Table.from_batches(chunks).equals(table.combine_chunks())
    return [chunk.num_rows for chunk in chunks]


TABLES = {
    "strings": pa.table({"id": range(2_000), "v": TEXTS}),
    "nulls": pa.table({"v": pa.array([text or None for text in TEXTS])}),
    "views": pa.table({"v": pa.array(TEXTS, pa.string_view())}),
    "lists": pa.table({"v": pa.array([["ab"] * (length // 10) or None for length in LENGTHS])}),
    "large lists of numbers": pa.table(
        {"v": pa.array([[1.5] * length for length in LENGTHS], pa.large_list(pa.float64()))}
    ),
    "structs": pa.table({"v": pa.array([{"a": text, "b": 1} for text in TEXTS])}),
    "documents": pa.table({"v": pa.array(TEXTS).cast(pa.binary())}),
    "fixed": pa.table({"a": range(2_000), "b": pa.array([True, None] * 1_000), "c": pa.nulls(2_000)}),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_chunks_are_cut_at_the_same_rows_whatever_batches_they_come_in(table: pa.Table) -> None:
    cuts = {size: cut(table, size) for size in (1, 7, 299, 300, 2_000)}
    assert len(set(map(tuple, cuts.values()))) == 1, cuts
    assert max(cuts[7]) <= 300


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_chunk_is_as_long_as_its_bytes_allow(table: pa.Table) -> None:
    sizes, at = row_bytes(table.combine_chunks().to_batches()[0]), 0
    for rows in cut(table, 64):
        assert rows == 1 or sizes[at : at + rows].sum() <= 5_000
        full = rows == 300 or at + rows == len(table)
        assert full or sizes[at : at + rows + 1].sum() > 5_000
        at += rows


def test_the_quick_measure_is_never_too_small() -> None:
    for table in (*TABLES.values(), pa.table({"v": pa.array(TEXTS).dictionary_encode()})):
        for batch in in_batches(table, 100):
            assert most_bytes(batch) >= row_bytes(batch).sum()


def wide_frame() -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(6_000), "v": ["x" * WIDE] * 6_000})


@pytest.mark.parametrize("kind", ["frame", "categories", "rows", "async rows"])
async def test_wide_rows_come_in_small_chunks(kind: str) -> None:
    text = "x" * WIDE

    async def later() -> Any:
        for number in range(6_000):
            yield {"id": number, "v": text}

    if kind == "rows":
        source: Any = await open_rows(({"id": number, "v": text} for number in range(6_000)), None)
    elif kind == "async rows":
        source = await open_rows(later(), None)
    else:
        frame = wide_frame()
        source = open_dataframe(frame if kind == "frame" else frame.astype({"v": "category"}))
    chunks = [chunk async for chunk in source.chunks(50_000)]
    most = CHUNK_BYTES // WIDE
    assert sum(chunk.num_rows for chunk in chunks) == 6_000
    assert most * 0.9 <= chunks[0].num_rows <= most
    assert max(chunk.num_rows for chunk in chunks) <= most
