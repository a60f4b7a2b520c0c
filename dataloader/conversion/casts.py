"""Casts: the values of a source type become an Arrow type of the plan, each unchanged or refused.

Arrow's checked casts where they do; our own where Arrow would round, overflow or drop a part in silence.
A cast that fails says which values it refuses, by `InvalidValues`, or leaves that to the halving in `converter`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.violations import InvalidValues

Check = Callable[[pa.Array], pa.Array]
"""Gives back the values, or raises `InvalidValues`."""
Cast = Callable[[pa.Array, pa.DataType], pa.Array]
_SLICE_ROWS = 1_024


def refuse(reason: str, bad: pa.Array, problem: str = "") -> None:
    """Raise `InvalidValues` if any of `bad` is true."""
    if pc.any(bad).as_py():
        raise InvalidValues(reason, bad, problem)


def objects(values: pa.Array) -> Iterator[Any]:
    """Python's objects, some of them at a time: while Arrow makes them no other thread runs, nor the event loop."""
    for start in range(0, len(values), _SLICE_ROWS):
        yield from values.slice(start, _SLICE_ROWS).to_pylist()


def mask(values: pa.Array, is_bad: Callable[[Any], bool]) -> pa.Array:
    """Where a value is bad, for what Arrow cannot test."""
    return pa.array([one is not None and is_bad(one) for one in objects(values)], pa.bool_())


def mapped(values: pa.Array, function: Callable[[Any], str]) -> pa.Array:
    """The text that `function` makes of each value."""
    return pa.array([None if one is None else function(one) for one in objects(values)], pa.string())


def arrow_cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return values.cast(wanted, safe=True)


def diagnosed(diagnose: Callable[[pa.Array, pa.DataType], None]) -> Cast:
    """Arrow's checked cast; where it fails, `diagnose` says which values, all at once."""

    def cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
        try:
            return values.cast(wanted, safe=True)
        except pa.ArrowInvalid:
            diagnose(values, wanted)
            raise

    return cast


def must_equal(back: pa.Array, values: pa.Array, reason: str) -> None:
    """Compare what would be stored with what was given; NaN equals NaN, as a value that is kept."""
    other = pc.not_equal(back, values)
    if pa.types.is_floating(values.type):
        other = pc.and_not(other, pc.and_(pc.is_nan(back), pc.is_nan(values)))
    refuse(reason, other)


def reading_without(pattern: str, rest: str = "") -> Callable[[Cast], Cast]:
    """What is left out of a text that is refused as it is, and read again; most texts have none of it."""

    def wrap(cast: Cast) -> Cast:
        def reading(values: pa.Array, wanted: pa.DataType) -> pa.Array:
            try:
                return cast(values, wanted)
            except (InvalidValues, pa.ArrowInvalid):
                shorter = pc.replace_substring_regex(values, pattern, rest)
                if shorter.equals(values):
                    raise
                return cast(shorter, wanted)

        return reading

    return wrap


trimmed = reading_without(r"^\s+|\s+$")
