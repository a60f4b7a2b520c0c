"""Python objects become Arrow arrays part by part.

Arrow keeps the GIL until all that it was given is converted: 0.06 s for a million strings, 4 s for a million decimals,
and the event loop stands still meanwhile. The parts have one type, or Arrow gets the whole.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PART_ROWS = 10_000
_MOST_BYTES = 2**31 - 1
_MOST_DIGITS = 38
_NUMBER, _ZONE = operator.attrgetter("value"), operator.attrgetter("tzinfo")
_REFUSALS = (TypeError, ValueError, OverflowError, pa.ArrowException)
_NOT_A_TIME = np.iinfo(np.int64).min
"""The number that pandas' NaT is."""


def parts(values: Any) -> Iterator[Any]:
    """The values in slices, which share their memory if they are NumPy's."""
    return (values[start : start + PART_ROWS] for start in range(0, len(values), PART_ROWS))


def classes(values: Any) -> set[type]:
    """The classes of the values."""
    return set(itertools.chain.from_iterable(set(map(type, part)) for part in parts(values)))


def to_arrow(values: Sequence[Any], from_pandas: bool) -> pa.Array:
    """What ``pa.array(values)`` gives, part by part.

    Raises
    ------
    pyarrow.ArrowException, TypeError, ValueError
        As by ``pa.array``, and what the objects' own methods raise.
    """
    if len(values) > PART_ROWS:
        with contextlib.suppress(*_REFUSALS):  # the whole may have a type, and its error says more
            return _of_one_type(values, from_pandas)
    return pa.array(values, from_pandas=from_pandas)


def _of_one_type(values: Sequence[Any], from_pandas: bool) -> pa.Array:
    """The parts' arrays, joined; ValueError if they differ in type."""
    arrays = [pa.array(values[:PART_ROWS], from_pandas=from_pandas)]
    if pa.types.is_decimal128(arrays[0].type) and not any(issubclass(one, Integral) for one in classes(values)):
        return _decimals(values, arrays[0].type, from_pandas)
    arrays += [pa.array(part, from_pandas=from_pandas) for part in parts(values[PART_ROWS:])]
    return joined(arrays)


def _decimals(values: Sequence[Any], first: pa.Decimal128Type, from_pandas: bool) -> pa.Array:
    """Decimals of the scale of the first ones: a fifth of the time in which Arrow finds out how many digits each has.

    pyarrow.ArrowInvalid if others have more digits after the point.
    """
    room = pa.decimal128(_MOST_DIGITS, first.scale)
    array = joined([pa.array(part, room, from_pandas=from_pandas) for part in parts(values)])
    ends = pc.min_max(array).as_py().values()
    digits = max(len(end.as_tuple().digits) for end in ends)
    return array.cast(pa.decimal128(max(digits, first.precision), first.scale))


def joined(arrays: list[pa.Array]) -> pa.Array | pa.ChunkedArray:
    """One array of the type of all, or ValueError; of texts of more than 2 GiB, which no array holds, its parts."""
    kinds = {array.type for array in arrays if not pa.types.is_null(array.type)} or {pa.null()}
    (kind,) = kinds
    filled = [pa.nulls(len(array), kind) if pa.types.is_null(array.type) else array for array in arrays]
    if sum(array.nbytes for array in filled) > _MOST_BYTES:
        return pa.chunked_array(filled, kind)
    return pa.concat_arrays(filled)


def timestamps(values: Sequence[Any]) -> pa.Array | None:
    """pandas' Timestamps and missing values, by the nanoseconds that each one is: a third of Arrow's time, which asks
    each for its year, its month and so on.

    None where one is out of the range of nanoseconds, which ends in 2262, and where only some have a zone.
    """
    try:
        numbers = np.concatenate([_numbers(part) for part in parts(values)])
    except OverflowError:
        return None
    missing = numbers == _NOT_A_TIME
    if missing.all() or len({zone is None for zone in map(_ZONE, itertools.compress(values, ~missing))}) > 1:
        return None
    zone = pa.array([values[missing.argmin()]]).type.tz
    micros, rest = np.divmod(numbers, 1_000)
    if rest[~missing].any():
        return pa.array(numbers, pa.timestamp("ns", zone), mask=missing)
    return pa.array(micros, pa.timestamp("us", zone), mask=missing)


def _numbers(values: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    try:
        return np.fromiter(map(_NUMBER, values), np.int64, len(values))
    except AttributeError:  # None and NA have none
        return np.fromiter((getattr(one, "value", _NOT_A_TIME) for one in values), np.int64, len(values))
