"""Digests of chunks: equal for equal rows, however Arrow lays them out in memory.

A slice, a NULL with anything under it and a validity buffer that says nothing make no difference; the bytes of
Arrow's own IPC format would differ.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

if TYPE_CHECKING:
    from dataloader.conversion.violations import Violation


def chunk_digest(batch: pa.RecordBatch, violations: Iterable[Violation] = ()) -> str:
    """The digest of a converted chunk.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        The rows that fit, in the plan's Arrow types.
    violations : iterable of Violation
        What did not fit: where and why is part of what the chunk is.

    Returns
    -------
    str
        32 hexadecimal digits: 128 bits, so that two chunks that differ never meet by chance. It costs nothing,
        where a cryptographic one takes as long as to encode the chunk; nobody is being deceived here.
    """
    digest = xxhash.xxh3_128(struct.pack("<q", batch.num_rows))
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        digest.update(_framed(name.encode()))
        for part in _parts(values):
            digest.update(part)
    for one in violations:
        digest.update(_framed(repr((one.row, one.column, one.reason, one.value)).encode()))
    return digest.hexdigest()


def _framed(content: bytes) -> bytes:
    """With its length in front, so that two of them cannot be taken for two others."""
    return struct.pack("<q", len(content)) + content


def _parts(values: pa.Array) -> Iterator[Any]:
    """Everything that makes out an array, as bytes: its type, where it is NULL, and its values without the NULLs."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    yield _framed(str(values.type).encode())
    yield struct.pack("<qq", len(values), values.null_count)
    if values.null_count:
        yield _bytes_of(values.is_valid().cast(pa.uint8()), 1)
        values = values.drop_null()
    yield from next(parts for is_kind, parts in _KINDS if is_kind(values.type))(values)


def _booleans(values: pa.Array) -> Iterator[Any]:
    yield _bytes_of(values.cast(pa.uint8()), 1)


def _fixed(values: pa.Array) -> Iterator[Any]:
    yield _bytes_of(values, values.type.bit_width // 8)


def _bytes_of(values: pa.Array, width: int) -> Any:
    buffer = values.buffers()[1]
    return b"" if buffer is None else buffer.slice(values.offset * width, len(values) * width)


def _variable(values: pa.Array) -> Iterator[Any]:
    """Texts and bytes: their lengths, and all of them in a row."""
    lengths = pc.binary_length(values)
    yield _bytes_of(lengths, lengths.type.bit_width // 8)
    _, offsets, content = values.buffers()
    if len(values) and content is not None:
        ends = pa.Array.from_buffers(lengths.type, values.offset + len(values) + 1, [None, offsets])
        first, last = ends[values.offset].as_py(), ends[-1].as_py()
        yield content.slice(first, last - first)


def _lists(values: pa.Array) -> Iterator[Any]:
    lengths = pc.list_value_length(values)
    yield _bytes_of(lengths, lengths.type.bit_width // 8)
    yield from _parts(pc.list_flatten(values))


def _structs(values: pa.Array) -> Iterator[Any]:
    for name, field in zip(values.type.names, values.flatten(), strict=True):
        yield _framed(name.encode())
        yield from _parts(field)


def _objects(values: pa.Array) -> Iterator[Any]:
    """Types that no column's Arrow type has, value by value."""
    return itertools.chain.from_iterable([_framed(repr(one).encode())] for one in values.to_pylist())


def _is_variable(kind: pa.DataType) -> bool:
    return kind in {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind))


_KINDS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Iterator[Any]]], ...] = (
    (pa.types.is_boolean, _booleans),
    (_is_fixed, _fixed),
    (_is_variable, _variable),
    (_is_list, _lists),
    (pa.types.is_struct, _structs),
    (lambda _kind: True, _objects),
)
