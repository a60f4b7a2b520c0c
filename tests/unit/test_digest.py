"""The digest of a chunk: equal for equal rows however Arrow lays them out, different for any other rows."""

from __future__ import annotations

import decimal
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dataloader.conversion.violations import Violation
from dataloader.ledger.digest import chunk_digest
from tests.conftest import FULL

EXAMPLES = 600 if FULL else 8
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def decimals(digits: int, scale: int) -> st.SearchStrategy[decimal.Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda number: decimal.Decimal(number).scaleb(-scale, CONTEXT))


CONTEXT = decimal.Context(prec=80)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
MOMENTS = st.integers(-(2**40), 2**40)
FLOATS = st.floats(allow_nan=False).map(lambda number: number + 0.0)  # -0.0 may differ from 0.0, or not
FLOATS_32 = st.floats(allow_nan=False, width=32).map(lambda number: number + 0.0)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int8(): integers(8, True),
    pa.int16(): integers(16, True),
    pa.int32(): integers(32, True),
    pa.int64(): integers(64, True),
    pa.uint8(): integers(8, False),
    pa.uint16(): integers(16, False),
    pa.uint32(): integers(32, False),
    pa.uint64(): integers(64, False),
    pa.float32(): FLOATS_32,
    pa.float64(): FLOATS,
    pa.decimal128(30, 4): decimals(30, 4),
    pa.decimal256(60, 10): decimals(60, 10),
    pa.string(): TEXTS,
    pa.large_string(): TEXTS,
    pa.binary(): st.binary(max_size=6),
    pa.large_binary(): st.binary(max_size=6),
    pa.binary(5): st.binary(min_size=5, max_size=5),
    pa.date32(): st.dates(),
    pa.date64(): st.dates(),
    pa.time32("ms"): st.integers(0, 86_399_999),
    pa.time64("us"): st.times(),
    pa.time64("ns"): st.integers(0, 86_399_999_999_999),
    pa.timestamp("s"): MOMENTS,
    pa.timestamp("us"): MOMENTS,
    pa.timestamp("us", "UTC"): MOMENTS,
    pa.timestamp("ns", "Europe/Berlin"): MOMENTS,
    pa.duration("us"): MOMENTS,
    pa.month_day_nano_interval(): st.tuples(*[st.integers(-1000, 1000)] * 3),
    pa.list_(pa.int64()): st.lists(st.none() | integers(64, True), max_size=4),
    pa.list_(pa.string()): st.lists(st.none() | TEXTS, max_size=4),
    pa.large_list(pa.float64()): st.lists(st.none() | FLOATS, max_size=4),
    pa.list_(pa.list_(pa.bool_())): st.lists(st.none() | st.lists(st.none() | st.booleans(), max_size=3), max_size=3),
    pa.list_(pa.int16(), 2): st.lists(integers(16, True), min_size=2, max_size=2),
    pa.struct([("a", pa.int32()), ("b", pa.string())]): st.fixed_dictionaries(
        {"a": st.none() | integers(32, True), "b": st.none() | TEXTS}
    ),
    pa.list_(pa.struct([("a", pa.bool_())])): st.lists(
        st.none() | st.fixed_dictionaries({"a": st.none() | st.booleans()}), max_size=3
    ),
    pa.map_(pa.string(), pa.int64()): st.lists(st.tuples(TEXTS, integers(64, True)), max_size=3),
    pa.null(): st.none(),
}
KINDS = pytest.mark.parametrize("kind", VALUES, ids=str)


def values_of(kind: pa.DataType, least: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | VALUES[kind], min_size=least, max_size=12)


def digest_of(*columns: pa.Array, names: list[str] | None = None) -> str:
    return chunk_digest(pa.record_batch(list(columns), names=names or [f"c{at}" for at in range(len(columns))]))


def test_a_digest_is_hexadecimal() -> None:
    digest = digest_of(pa.array([1, 2]))
    assert isinstance(digest, str)
    assert len(digest) >= 32
    int(digest, 16)


def test_a_batch_without_rows_has_one_too() -> None:
    assert len({digest_of(pa.array([], kind)) for kind in VALUES}) == len(VALUES)


@KINDS
@SETTINGS
@given(data=st.data())
def test_a_slice_is_the_same_as_a_copy(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(values_of(kind))
    before, after = data.draw(values_of(kind)), data.draw(values_of(kind))
    whole = pa.array([*before, *values, *after], kind)
    part = whole.slice(len(before), len(values))
    assert digest_of(part) == digest_of(pa.array(values, kind))


@KINDS
@SETTINGS
@given(data=st.data())
def test_a_slice_of_a_batch_is_the_same_as_a_copy(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(values_of(kind, least=1))
    start = data.draw(st.integers(0, len(values) - 1))
    numbers = pa.array(range(len(values)))
    whole = pa.record_batch([numbers, pa.array(values, kind)], names=["id", "v"])
    copied = pa.record_batch([pa.array(range(start, len(values))), pa.array(values[start:], kind)], names=["id", "v"])
    assert chunk_digest(whole.slice(start)) == chunk_digest(copied)


@KINDS
@SETTINGS
@given(data=st.data())
def test_combined_pieces_are_the_same_as_a_whole(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(values_of(kind))
    cut = data.draw(st.integers(0, len(values)))
    pieces = pa.chunked_array([pa.array(values[:cut], kind), pa.array(values[cut:], kind)], kind)
    combined = pa.concat_arrays(pieces.chunks)
    assert digest_of(combined) == digest_of(pa.array(values, kind))


@KINDS
@SETTINGS
@given(data=st.data())
def test_other_values_have_another_digest(kind: pa.DataType, data: st.DataObject) -> None:
    one, other = (pa.array(data.draw(values_of(kind)), kind) for _ in range(2))
    assert (digest_of(one) == digest_of(other)) == one.equals(other)


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind != pa.null()], ids=str)
@SETTINGS
@given(data=st.data())
def test_one_other_value_has_another_digest(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(values_of(kind, least=1))
    at = data.draw(st.integers(0, len(values) - 1))
    changed = [*values[:at], data.draw(st.none() | VALUES[kind]), *values[at + 1 :]]
    one, other = pa.array(values, kind), pa.array(changed, kind)
    assume(not one.equals(other))
    assert digest_of(one) != digest_of(other)


@KINDS
@SETTINGS
@given(data=st.data())
def test_other_orders_have_another_digest(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(values_of(kind, least=2))
    mixed = data.draw(st.permutations(values))
    one, other = pa.array(values, kind), pa.array(mixed, kind)
    assert (digest_of(one) == digest_of(other)) == one.equals(other)


@KINDS
def test_a_row_more_has_another_digest_even_if_it_is_null(kind: pa.DataType) -> None:
    digests = [digest_of(pa.array([None] * rows, kind)) for rows in range(4)]
    assert len(set(digests)) == 4


def with_garbage(kind: pa.DataType, filled: list[Any], valid: list[bool]) -> pa.Array:
    """An array with values under its NULLs, which nobody can see."""
    whole = pa.array(filled, kind)
    bits = np.packbits(np.array(valid), bitorder="little").tobytes()
    children = [whole.field(at) for at in range(kind.num_fields)] if pa.types.is_struct(kind) else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        children = [whole.values]
    own = whole.buffers()[1 : kind.num_buffers]
    return pa.Array.from_buffers(kind, len(valid), [pa.py_buffer(bits), *own], children=children)


CAN_BE_BUILT = [
    kind
    for kind in VALUES
    if not (pa.types.is_null(kind) or pa.types.is_map(kind) or pa.types.is_fixed_size_list(kind) or "view" in str(kind))
]


@pytest.mark.parametrize("kind", CAN_BE_BUILT, ids=str)
@SETTINGS
@given(data=st.data())
def test_what_lies_under_a_null_makes_no_difference(kind: pa.DataType, data: st.DataObject) -> None:
    filled = data.draw(st.lists(VALUES[kind], min_size=1, max_size=12))
    valid = data.draw(st.lists(st.booleans(), min_size=len(filled), max_size=len(filled)))
    array = with_garbage(kind, filled, valid)
    clean = pa.array([value if there else None for value, there in zip(filled, valid, strict=True)], kind)
    assert array.equals(clean)
    assert digest_of(array) == digest_of(clean)
    assert digest_of(array.slice(1)) == digest_of(clean.slice(1))


@pytest.mark.parametrize("kind", CAN_BE_BUILT, ids=str)
@SETTINGS
@given(data=st.data())
def test_a_validity_buffer_that_says_nothing_makes_no_difference(kind: pa.DataType, data: st.DataObject) -> None:
    filled = data.draw(st.lists(VALUES[kind], min_size=1, max_size=12))
    array = with_garbage(kind, filled, [True] * len(filled))
    plain = pa.array(filled, kind)
    assert array.buffers()[0] is not None
    assert plain.buffers()[0] is None
    assert digest_of(array) == digest_of(plain)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.large_string(), pa.list_(pa.int64())], ids=str)
def test_garbage_before_and_behind_the_offsets_makes_no_difference(kind: pa.DataType) -> None:
    long = pa.array([[9, 9], [1], [2, 3], [8]] if pa.types.is_list(kind) else ["zz", "a", "bc", "y"], kind)
    inner = pa.array([[1], [2, 3]] if pa.types.is_list(kind) else ["a", "bc"], kind)
    assert digest_of(long.slice(1, 2)) == digest_of(inner)
    assert digest_of(long.slice(2, 0)) == digest_of(inner.slice(0, 0)) == digest_of(pa.array([], kind))


def bits_behind_the_end(garbage: int) -> pa.Array:
    """Three booleans and a NULL among five that are filled up with other bits."""
    return pa.Array.from_buffers(
        pa.bool_(), 4, [pa.py_buffer(bytes([0b0111 | garbage])), pa.py_buffer(bytes([0b0101 | garbage]))]
    )


def test_the_bits_behind_the_last_row_make_no_difference() -> None:
    assert digest_of(bits_behind_the_end(0)) == digest_of(bits_behind_the_end(0b11110000))
    assert digest_of(bits_behind_the_end(0)) == digest_of(pa.array([True, False, True, None]))


TWINS: dict[str, tuple[pa.Array, pa.Array]] = {
    "letters that move": (pa.array(["ab", "c"]), pa.array(["a", "bc"])),
    "letters that move into an empty text": (pa.array(["abc", ""]), pa.array(["", "abc"])),
    "null or empty": (pa.array([None], pa.string()), pa.array([""])),
    "null or empty bytes": (pa.array([None], pa.binary()), pa.array([b""])),
    "null or an empty list": (pa.array([None], pa.list_(pa.int64())), pa.array([[]], pa.list_(pa.int64()))),
    "a null in a list": (pa.array([[None]], pa.list_(pa.int64())), pa.array([[]], pa.list_(pa.int64()))),
    "items that move": (pa.array([[1], [2]]), pa.array([[1, 2], []])),
    "items that move on": (pa.array([[1, 2], [3]]), pa.array([[1], [2, 3]])),
    "nested lists": (pa.array([[[1], [2]]]), pa.array([[[1, 2]]])),
    "empty lists in a list": (pa.array([[[1], []]]), pa.array([[[], [1]]])),
    "null or zero": (pa.array([None], pa.int64()), pa.array([0], pa.int64())),
    "null or false": (pa.array([None, True]), pa.array([False, True])),
    "nulls that move": (pa.array([1, None, 1]), pa.array([1, 1, None])),
    "a null struct or one of nulls": (
        pa.array([None], pa.struct([("a", pa.int64())])),
        pa.array([{"a": None}], pa.struct([("a", pa.int64())])),
    ),
    "names in a struct": (pa.array([{"a": 1}]), pa.array([{"b": 1}])),
    "fields that change places": (
        pa.array([{"a": 1, "b": 2}]),
        pa.array([{"a": 2, "b": 1}]),
    ),
    "signs": (pa.array([1]), pa.array([-1])),
    "the last bit of a float": (pa.array([0.1]), pa.array([np.nextafter(0.1, 1)])),
    "a number or its text": (pa.array([1]), pa.array(["1"])),
    "32 or 64 bits": (pa.array([1, 0], pa.int32()), pa.array([1], pa.int64())),
    "bytes or text": (pa.array([b"a"]), pa.array(["a"])),
    "with a zone or without": (
        pa.array([0], pa.timestamp("us", "UTC")),
        pa.array([0], pa.timestamp("us")),
    ),
    "seconds or microseconds": (pa.array([1], pa.timestamp("s")), pa.array([1], pa.timestamp("us"))),
    "another scale": (
        pa.array([decimal.Decimal("1.0")], pa.decimal128(5, 1)),
        pa.array([decimal.Decimal("0.10")], pa.decimal128(5, 2)),
    ),
    "a NUL in a text": (pa.array(["a\x00", "b"]), pa.array(["a", "\x00b"])),
    "composed or decomposed": (pa.array(["\u00e9"]), pa.array(["e\u0301"])),
    "spaces": (pa.array(["a "]), pa.array(["a"])),
}


@pytest.mark.parametrize(("one", "other"), TWINS.values(), ids=TWINS)
def test_columns_that_look_alike_have_different_digests(one: pa.Array, other: pa.Array) -> None:
    assert digest_of(one) != digest_of(other)
    number = pa.array([7] * len(one))
    assert digest_of(one, number) != digest_of(other, pa.array([7] * len(other)))


def test_columns_are_told_apart_by_order_and_name() -> None:
    one, other = pa.array([1, 2]), pa.array([3, 4])
    digests = {
        digest_of(one, other, names=["a", "b"]),
        digest_of(other, one, names=["a", "b"]),
        digest_of(one, other, names=["b", "a"]),
        digest_of(one, other, names=["ab", ""]),
        digest_of(one, other, names=["a", "B"]),
        digest_of(one, names=["a"]),
        digest_of(one, one, other, names=["a", "b", "c"]),
    }
    assert len(digests) == 7


def test_values_do_not_move_from_a_column_to_the_next() -> None:
    """All bytes in a row would be the same."""
    digests = {
        digest_of(pa.array(["ab"]), pa.array(["c"])),
        digest_of(pa.array(["a"]), pa.array(["bc"])),
        digest_of(pa.array([b"a"]), pa.array([b"bc"])),
        digest_of(pa.array([[1, 2]]), pa.array([[3]])),
        digest_of(pa.array([[1]]), pa.array([[2, 3]])),
        digest_of(pa.array([1, None]), pa.array([2, 3])),
        digest_of(pa.array([1, 2]), pa.array([None, 3])),
    }
    assert len(digests) == 7


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
def test_a_nan_is_the_same_as_itself_and_no_null(kind: pa.DataType) -> None:
    nans, nulls = pa.array([float("nan"), 1.0], kind), pa.array([None, 1.0], kind)
    assert digest_of(nans) == digest_of(pa.array([float("nan"), 1.0], kind))
    assert digest_of(nans) != digest_of(nulls)
    assert digest_of(pa.array([float("inf")], kind)) != digest_of(pa.array([float("-inf")], kind))


def test_a_batch_that_was_written_and_read_is_the_same() -> None:
    """What a worker of another process would send: the layout is Arrow's, the rows are the same."""
    choose = random.Random(4)
    texts = pa.array([choose.choice([None, "", "ab", "größer"]) for _ in range(1000)])
    batch = pa.record_batch({"t": texts, "n": pa.array([choose.choice([None, 1, 2**40]) for _ in range(1000)])})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch.slice(13, 700))
    (read,) = pa.ipc.open_stream(sink.getvalue())
    assert chunk_digest(read) == chunk_digest(batch.slice(13, 700))


def violation(row: int, value: str = "'x'", column: str | None = "a", reason: str = "syntax") -> Violation:
    return Violation(row, None, column, value, "INTEGER", reason, "it cannot be read", "Correct it.")


def test_what_did_not_fit_is_part_of_the_chunk() -> None:
    batch = pa.record_batch({"a": [1, 2]})
    found: list[list[Violation]] = [
        [],
        [violation(3)],
        [violation(4)],
        [violation(3, "'y'")],
        [violation(3, column="b")],
        [violation(3, reason="range")],
        [violation(3), violation(4)],
    ]
    assert len({chunk_digest(batch, one) for one in found}) == len(found)
    assert chunk_digest(batch, [violation(3)]) == chunk_digest(batch.slice(0), [violation(3)])


OTHER_PROCESS = """
import pyarrow as pa
from dataloader.ledger.digest import chunk_digest
print(chunk_digest(pa.record_batch({"a": [1, None], "b": ["x", ""], "c": [[1.5], None], "d": [{"e": 1}, None]})))
"""


def test_another_process_finds_the_same_digest() -> None:
    """Hash seeds differ from process to process: a digest must not depend on them."""
    root = str(Path(__file__).parents[2])
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": root}
        command = [sys.executable, "-c", OTHER_PROCESS]
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


@KINDS
def test_the_batch_is_left_as_it_was(kind: pa.DataType) -> None:
    batch = pa.record_batch([pa.array([None, None], kind), pa.array([1, None])], names=["a", "b"])
    before = batch.serialize().to_pybytes()
    chunk_digest(batch)
    assert batch.serialize().to_pybytes() == before


def test_many_rows_are_told_apart_by_one_bit() -> None:
    values = np.arange(100_000, dtype=np.int64)
    digests = {digest_of(pa.array(values))}
    for at in (0, 4_097, 65_535, 99_999):
        changed = values.copy()
        changed[at] ^= 1
        digests.add(digest_of(pa.array(changed)))
    assert len(digests) == 5


def test_an_array_that_is_stored_otherwise_is_what_it_stores() -> None:
    texts = pa.array(['{"a": 1}', None])
    documents = pa.ExtensionArray.from_storage(pa.json_(), texts)
    assert chunk_digest(pa.record_batch({"c": documents})) == chunk_digest(pa.record_batch({"c": texts}))
