"""How much is in a row, whatever batch it comes in: chunks are cut by it, and a resumed load cuts them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def row_bytes(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The bytes of the values of each row."""
    return sum((_sizes(values) for values in batch.columns), np.zeros(batch.num_rows, np.int64))


def _sizes(values: pa.Array) -> Any:
    if isinstance(values, pa.ExtensionArray):
        return _sizes(values.storage)
    measure = next((measure for is_kind, measure in _KINDS if is_kind(values.type)), _of_one_width)
    return measure(values)


def _of_dictionaries(values: pa.Array) -> Any:
    one = np.append(_sizes(values.dictionary), 0)
    return one[values.indices.cast(pa.int64()).fill_null(len(values.dictionary)).to_numpy()]


def _of_runs(values: pa.Array) -> Any:
    rows = np.arange(values.offset, values.offset + len(values))  # Arrow decodes runs of no extension type and no view
    return _sizes(values.values)[np.searchsorted(values.run_ends.to_numpy(), rows, side="right")]


def _of_views(values: pa.Array) -> Any:
    return _sizes(values.cast(_AS_LONG[values.type]))


def _of_structs(values: pa.Array) -> Any:
    return sum(map(_sizes, values.flatten()), np.zeros(len(values), np.int64))


def _of_strings(values: pa.Array) -> Any:
    return pc.binary_length(values).cast(pa.int64()).fill_null(0).to_numpy()


def _of_lists(values: pa.Array) -> Any:
    lengths = pc.list_value_length(values).cast(pa.int64()).fill_null(0).to_numpy()
    ends = np.concatenate([[0], np.cumsum(_sizes(pc.list_flatten(values)))])
    last = np.cumsum(lengths)
    return ends[last] - ends[last - lengths]


def _of_maps(values: pa.Array) -> Any:
    offsets = values.offsets.to_numpy()
    ends = np.concatenate([[0], np.cumsum(_sizes(values.keys) + _sizes(values.items))])
    return ends[offsets[1:]] - ends[offsets[:-1]]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _of_one_width(values: pa.Array) -> Any:
    try:
        width = int(values.type.bit_width) // 8
    except ValueError:  # nulls, a union, a list of views
        width = int(values.nbytes) // max(len(values), 1)
    return np.full(len(values), width, np.int64)


_AS_LONG = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
_KINDS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Any]], ...] = (
    (pa.types.is_dictionary, _of_dictionaries),
    (pa.types.is_run_end_encoded, _of_runs),
    (_AS_LONG.__contains__, _of_views),
    (pa.types.is_struct, _of_structs),
    (pa.types.is_map, _of_maps),
    (_is_list, _of_lists),
    ({pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}.__contains__, _of_strings),
)
