"""Python values become an Arrow array, without the changes that Arrow's own inference makes in silence.

Left alone it drops the time of a datetime after a date, takes a naive time for UTC after an aware one,
encodes a text after bytes, and cuts the nanoseconds of pandas' Timestamp.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from dataloader.errors import UnsupportedType

REFUSALS = (pa.ArrowException, ValueError, TypeError, OverflowError)
"""What inference raises for values that one Arrow type cannot hold."""
DECIMAL_ROOM = (15, 38)
"""Digits for decimals whose type is not declared: what SQLite keeps exactly, else what Arrow's decimal128 holds."""

_TIMES = {"datetime", "Timestamp"}
_JSON_KINDS = {"dict", "list", "NoneType", "NAType", "float"}
"""Kinds of a column of dicts; a float can only be NaN, for a missing one."""
_STRANGERS = (
    ({"date"}, _TIMES),
    ({"bytes", "bytearray"}, {"str"}),
    ({"timedelta", "Timedelta"}, {"int"}),
)
"""Kinds of which Arrow would turn one into the other."""


def inferred(name: str, values: Any) -> pa.Array:
    """The values as an Arrow array of the type that holds them all.

    Parameters
    ----------
    name : str
        The column, for the error.
    values : sequence, NumPy or Arrow array, pandas Series
        None, NaN, NaT and NA are null.

    Raises
    ------
    UnsupportedType
        When no type holds them all unchanged.
    """
    try:
        return array_of(values)
    except REFUSALS as error:
        hint = "Give it one type, for example with .astype(str), or set the values that differ to None."
        what = f"column {name!r} has values that do not go together: {one_line(error)}"
        raise UnsupportedType(what, hint=hint) from error


def array_of(values: Any) -> pa.Array:
    """Infer the type; whatever does not go together raises one of `REFUSALS`."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)) or str(getattr(values, "dtype", "object")) != "object":
        return pa.array(values, from_pandas=True)
    kinds = {kind.__name__ for kind in set(map(type, values))}
    _check_together(kinds, values)
    if kinds & {"Timestamp", "Timedelta"} and any(map(_nanoseconds, values)):
        return pa.array(values, type=_with_nanoseconds(pa.array(values, from_pandas=True).type), from_pandas=True)
    if "dict" in kinds and kinds <= _JSON_KINDS:
        return _as_json(values)
    array = _with_room(pa.array(_wide_integers(values, kinds), from_pandas=True))
    return _as_json(values) if "list" in kinds and "struct" in str(array.type) else array


def _check_together(kinds: set[str], values: Any) -> None:
    for some, others in _STRANGERS:
        if kinds & some and kinds & others:
            raise TypeError(f"there are both {min(kinds & some)} and {min(kinds & others)}")
    if "time" in kinds and any(isinstance(one, datetime.time) and one.tzinfo is not None for one in values):
        raise TypeError("a time of day with a zone depends on the date")
    if kinds & _TIMES:
        zones = {one.tzinfo is None for one in values if isinstance(one, datetime.datetime) and not _is_nat(one)}
        if len(zones) > 1:
            raise TypeError("some times have a zone and some have none")


def _as_json(values: Any) -> pa.Array:
    """Dicts as JSON: one Arrow struct for all of them would give each the keys of the others."""
    texts = pa.array([None if _is_missing(one) else to_json(one) for one in values], pa.string())
    return pa.ExtensionArray.from_storage(pa.json_(), texts)


def to_json(value: object) -> str:
    """JSON text; dates and exact numbers become texts, NaN is refused."""
    return json.dumps(value, default=_json_scalar, allow_nan=False, ensure_ascii=False)


def _json_scalar(value: Any) -> Any:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if hasattr(value, "item"):  # a NumPy scalar
        return value.item()
    raise TypeError(f"JSON has no {type(value).__name__}")


def _is_missing(value: object) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def _is_nat(value: object) -> bool:
    return type(value).__name__ == "NaTType"  # pandas' missing time, which is a datetime without a zone


def _nanoseconds(value: Any) -> int:
    return getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0) or 0


def _with_nanoseconds(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("ns", kind.tz) if pa.types.is_timestamp(kind) else pa.duration("ns")


def _wide_integers(values: Sequence[Any], kinds: set[str]) -> Sequence[Any]:
    """Integers of more than 64 bits travel as decimals."""
    if not kinds <= {"int", "NoneType"} or all(one is None or -(2**63) <= one < 2**63 for one in values):
        return values
    return [None if one is None else decimal.Decimal(one) for one in values]


def _with_room(array: pa.Array) -> pa.Array:
    """Decimals that are Python objects show only the digits of today: a table made for them needs room."""
    if not pa.types.is_decimal(array.type):
        return array
    precision = next((room for room in DECIMAL_ROOM if array.type.precision <= room), None)
    return array if precision is None else array.cast(pa.decimal128(precision, array.type.scale))


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
