"""Rows of a binary COPY are read as the server means them, whatever is in their values."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dataloader as dl
from dataloader.database.backends.postgresql_arrow import Described, read_column
from dataloader.database.backends.postgresql_binary import BinaryDecoder

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
SENT = {"int8": "!q", "int4": "!i", "int2": "!h", "float8": "!d", "bool": "!?"}
BEGINNING = b"\0\3\0\0\0\x08"
"""What a row of three columns begins with, if the first is a bigint."""

INTEGERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.just(int.from_bytes(BEGINNING, "big") << 16))
TEXTS = st.one_of(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.just("\3\x08"))
BYTES = st.one_of(
    st.binary(max_size=20),
    st.integers(1, 4).map(lambda count: BEGINNING * count),
    st.integers(0, 9).map(lambda size: BEGINNING + bytes(8) + struct.pack("!i", size) + bytes(size)),
    st.just(TRAILER),
)
OF = {
    "int8": INTEGERS,
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int2": st.sampled_from([-1, 0, 3, 8]),
    "float8": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "text": TEXTS,
    "bytea": BYTES,
}


def decoder_of(kinds: Sequence[str]) -> BinaryDecoder:
    described = [Described(f"c{at}", kind) for at, kind in enumerate(kinds)]
    return BinaryDecoder(described, [read_column(one) for one in described])


def row_of(decoder: BinaryDecoder, kinds: Sequence[str], row: Sequence[Any]) -> bytes:
    """A row as the server sends it, asked for in the decoder's order."""
    fields = []
    for at, _ in decoder.selects:
        kind, value = kinds[at], row[at]
        if value is None:
            fields.append(struct.pack("!i", -1))
            continue
        data = struct.pack(SENT[kind], value) if kind in SENT else value.encode() if kind == "text" else value
        fields.append(struct.pack("!i", len(data)) + data)
    return struct.pack("!h", len(kinds)) + b"".join(fields)


def rows_of(decoder: BinaryDecoder, blocks: Sequence[bytes]) -> list[tuple[Any, ...]]:
    batches = [decoder.decode(bytearray(block)) for block in blocks]  # as asyncpg has more than one row
    rows = [batch.to_pylist() for batch in batches if batch is not None]
    return [tuple(row.values()) for batch in rows for row in batch]


@st.composite
def results(draw: st.DrawFn) -> tuple[list[str], list[tuple[Any, ...]]]:
    kinds = draw(st.lists(st.sampled_from([*OF]), min_size=1, max_size=12))
    kinds[draw(st.integers(0, len(kinds) - 1))] = draw(st.sampled_from([*SENT]))
    values = [st.one_of(st.none(), OF[kind]) if draw(st.booleans()) else OF[kind] for kind in kinds]
    return kinds, draw(st.lists(st.tuples(*values), max_size=20))


@settings(deadline=None, max_examples=300)
@given(results(), st.integers(1, 5))
@example((["int8", "bytea", "int8"], [(1, BEGINNING, 2), (3, BEGINNING + bytes(8), 4)]), 5)
@example((["int2", "bytea"], [(3, TRAILER)]), 1)
def test_every_row_is_read_whatever_its_values_look_like(
    result: tuple[list[str], list[tuple[Any, ...]]], rows: int
) -> None:
    kinds, expected = result
    decoder = decoder_of(kinds)
    sent = [row_of(decoder, kinds, row) for row in expected]
    blocks = [b"".join(sent[at : at + rows]) for at in range(0, len(sent), rows)] or [b""]
    blocks[0] = HEADER + blocks[0]
    blocks[-1] += TRAILER
    assert rows_of(decoder, blocks) == expected


def test_values_that_look_like_rows_are_none() -> None:
    kinds = ["int8", "int8", "bytea"]
    decoder = decoder_of(kinds)
    seeming = row_of(decoder, kinds, (1, 2, b"x"))
    expected = [(n, n, seeming * (n % 4)) for n in range(2_000)]
    block = HEADER + b"".join(row_of(decoder, kinds, row) for row in expected) + TRAILER
    assert rows_of(decoder, [block]) == expected


@pytest.mark.parametrize("cut", [1, 5, 17, 68])
def test_bytes_that_are_no_whole_rows_are_refused(cut: int) -> None:
    kinds = ["int8", "text"]
    decoder = decoder_of(kinds)
    block = HEADER + row_of(decoder, kinds, (7, "seven")) * 3  # each has 23 bytes
    with pytest.raises(dl.ReadError, match="what the server sent cannot be read"):
        decoder.decode(block[:-cut])


@pytest.mark.parametrize("count", [255, 256, 257, 1_600])
def test_rows_of_many_columns_are_read(count: int) -> None:
    kinds = ["int2"] * count
    decoder = decoder_of(kinds)
    expected = [tuple(None if (at + n) % 3 else at for at in range(count)) for n in range(5)]
    block = HEADER + b"".join(row_of(decoder, kinds, row) for row in expected)
    batch = decoder.decode(block)
    assert isinstance(batch, pa.RecordBatch)
    assert [tuple(row.values()) for row in batch.to_pylist()] == expected


def test_each_nan_stays_the_one_that_it_is() -> None:
    decoder = decoder_of(["float8"])
    bits = 0x7FF0_0000_0000_0001
    block = HEADER + struct.pack("!hiQ", 1, 8, bits)
    batch = decoder.decode(block)
    assert batch is not None
    assert batch.column(0).view(pa.uint64())[0].as_py() == bits
