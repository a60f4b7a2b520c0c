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
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.errors import UnsupportedType

REFUSALS = (pa.ArrowException, ValueError, TypeError, OverflowError)
"""What inference raises for values that one Arrow type cannot hold."""
DECIMAL_ROOM = (15, 38)
"""Digits for decimals whose type is not declared: what SQLite keeps exactly, else what Arrow's decimal128 holds."""

SPELLED = {b"dataloader": b"spelled"}
"""The metadata of a field whose values come as texts, whatever type they suggest."""
MOST_LEVELS = 100
"""How deep lists and dicts may be nested: an Arrow type of 900 levels took 0.9 GB, and Python ends at 1,000."""

_TIMES = {"datetime", "Timestamp"}
_JSON_KINDS = {"dict", "list", "NoneType", "NAType", "float"}
"""Kinds of a column of dicts; a float can only be NaN, for a missing one."""
_GROUPS = {
    **dict.fromkeys(("int", "float", "Decimal"), "number"),
    **dict.fromkeys((f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "number"),
    **dict.fromkeys(("float16", "float32", "float64", "longdouble"), "number"),
    **dict.fromkeys(("bool", "bool_"), "boolean"),
    **dict.fromkeys(("str", "str_"), "text"),
    **dict.fromkeys(("bytes", "bytearray", "memoryview", "bytes_"), "bytes"),
    **dict.fromkeys(("datetime", "Timestamp", "datetime64"), "time"),
    **dict.fromkeys(("timedelta", "Timedelta", "timedelta64"), "duration"),
    **dict.fromkeys(("dict", "list", "tuple", "ndarray"), "nested"),
}
"""Kinds that one Arrow type holds. Arrow turns others into each other: an int among dates becomes a day of 1970, a
date and time among dates loses its time, a text among bytes is encoded, a bool among floats is 1."""
_MISSING = {"NoneType", "NAType", "NaTType"}
_FLOATS = {"float", "float64"}


class MixedType(pa.ExtensionType):  # type: ignore[misc]  # pyarrow carries no types
    """Objects of several kinds: an array for each kind, null where a row is of another, the most frequent first.

    What no Arrow type holds is kept as text, with the reason of its refusal.
    """

    def __init__(self, kinds: tuple[pa.DataType, ...]) -> None:
        self.kinds = kinds
        stored = [getattr(kind, "storage_type", kind) for kind in kinds]
        fields = [(str(position), kind) for position, kind in enumerate(stored)]
        super().__init__(pa.struct([*fields, ("stranger", pa.binary()), ("reason", pa.string())]), "dataloader.mixed")

    def __hash__(self) -> int:
        return hash((type(self), str(self.kinds)))

    def __arrow_ext_serialize__(self) -> bytes:
        kinds = pa.schema([(str(position), kind) for position, kind in enumerate(self.kinds)])
        return bytes(kinds.serialize())

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage_type: pa.DataType, serialized: bytes) -> MixedType:
        return cls(tuple(pa.ipc.read_schema(pa.py_buffer(serialized)).types))


def mixed_parts(values: pa.Array) -> list[pa.Array]:
    """The arrays of a MixedType, one for each kind."""
    parts = [pc.struct_field(values.storage, [position]) for position in range(len(values.type.kinds))]
    return [
        pa.ExtensionArray.from_storage(kind, part) if isinstance(kind, pa.BaseExtensionType) else part
        for kind, part in zip(values.type.kinds, parts, strict=True)
    ]


def strangers(values: pa.Array) -> tuple[list[str | None], list[str | None]]:
    """What no Arrow type holds, as text, and the reason of its refusal."""
    texts = pc.struct_field(values.storage, ["stranger"]).to_pylist()
    decoded = [None if text is None else text.decode(errors="surrogatepass") for text in texts]
    return decoded, pc.struct_field(values.storage, ["reason"]).to_pylist()


def mixed_objects(values: pa.Array) -> list[Any]:
    """The objects as they came."""
    columns = [*(part.to_pylist() for part in mixed_parts(values)), strangers(values)[0]]
    return [next((one for one in row if one is not None), None) for row in zip(*columns, strict=True)]


def inferred(name: str, values: Any) -> pa.Array:
    """The values as an Arrow array of the type that holds them all, or else most of them.

    Parameters
    ----------
    name : str
        The column, for the error.
    values : sequence, NumPy or Arrow array, pandas Series
        None, NaN, NaT and NA are null.

    Raises
    ------
    UnsupportedType
        When no type holds any of them unchanged.
    """
    try:
        return mixed_array(values)
    except RecursionError as error:
        hint = "Flatten them, or give them as text."
        what = f"column {name!r} has values that are nested more than {MOST_LEVELS} levels deep"
        raise UnsupportedType(what, hint=hint) from error
    except REFUSALS as error:
        hint = "Give it one type, for example with .astype(str), or set the values that differ to None."
        what = f"column {name!r} has values that do not go together: {one_line(error)}"
        raise UnsupportedType(what, hint=hint) from error


def mixed_array(values: Any) -> pa.Array:
    """Infer the type; values that do not go together are told apart by kind, in a MixedType."""
    try:
        return array_of(values)
    except REFUSALS:
        kinds = [_kind(value) for value in values]
        parts, lost = _apart(values, kinds)
        if not parts:
            raise
    texts = [
        _lost_text(value, kind).encode(errors="surrogatepass") if kind in lost else None
        for value, kind in _pairs(values, kinds)
    ]
    reasons = [_STRANGE.get(kind or "", "type") if kind in lost else None for kind in kinds]
    mixed = MixedType(tuple(part.type for part in parts))
    stored = [part.storage if isinstance(part.type, pa.BaseExtensionType) else part for part in parts]
    arrays = [*stored, pa.array(texts, pa.binary()), pa.array(reasons, pa.string())]
    return pa.ExtensionArray.from_storage(mixed, pa.StructArray.from_arrays(arrays, fields=list(mixed.storage_type)))


def _pairs(values: Any, kinds: list[str | None]) -> Iterator[tuple[Any, str | None]]:
    return zip(values, kinds, strict=True)


def _apart(values: Any, kinds: list[str | None]) -> tuple[list[pa.Array], set[str]]:
    """An array for each group of kinds that go together, most frequent first, and the kinds that no type holds."""
    waiting = [kind for kind, _ in Counter(kind for kind in kinds if kind is not None).most_common()]
    parts: list[pa.Array] = []
    lost: set[str] = set()
    while waiting:
        together: set[str] = set()
        array = None
        for kind in waiting:
            try:
                array = array_of([value if one in together | {kind} else None for value, one in _pairs(values, kinds)])
            except REFUSALS:
                continue
            together.add(kind)
        if array is None:
            lost.update(waiting)
            return parts, lost
        whole = array_of([value if one in together else None for value, one in _pairs(values, kinds)])
        parts.append(whole)
        waiting = [kind for kind in waiting if kind not in together]
    return parts, lost


_STRANGE = {"text that is not Unicode": "encoding", "NaN in a dict or list": "nan"}


def _kind(value: Any) -> str | None:
    """A finer kind than the type's name, so that those of one kind go together; None for a missing value."""
    if _is_missing(value) or _is_nat(value):
        return None
    name = type(value).__name__
    if isinstance(value, str):
        return name if value.isascii() or _is_unicode(value) else "text that is not Unicode"
    if isinstance(value, (datetime.datetime, datetime.time)):
        return f"{name} {'without' if value.tzinfo is None else 'with'} a zone"
    if isinstance(value, dict):
        return name if _is_json(value) else "NaN in a dict or list"
    if isinstance(value, (list, tuple)):
        return f"{name} of {' and '.join(sorted({str(_kind(one)) for one in value} - {'None'}))}"
    return name


def _lost_text(value: object, kind: str | None) -> str:
    """The same in every process: an order of a set, or an object's address, would make every chunk a new one."""
    has_text = type(value).__repr__ is not object.__repr__ and "set" not in str(kind)
    return str(value) if has_text else f"a {kind}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_json(value: object) -> bool:
    try:
        to_json(value)
    except (ValueError, TypeError):
        return False
    return True


def array_of(values: Any) -> pa.Array:
    """Infer the type; whatever does not go together raises one of `REFUSALS`."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)) or str(getattr(values, "dtype", "object")) != "object":
        return pa.array(values, from_pandas=True)
    kinds = {kind.__name__ for kind in set(map(type, values))}
    if kinds & _FLOATS and all(map(_is_missing, filter(_is_float, values))):
        kinds -= _FLOATS
    _check_together(kinds, values)
    if kinds & {"Timestamp", "Timedelta"} and any(map(_nanoseconds, values)):
        return pa.array(values, type=_with_nanoseconds(pa.array(values, from_pandas=True).type), from_pandas=True)
    if "dict" in kinds and kinds <= _JSON_KINDS:
        return _as_json(values)
    array = _with_room(pa.array(_wide_integers(_own_numbers(values, kinds), kinds), from_pandas=True))
    return _as_json(values) if "list" in kinds and "struct" in str(array.type) else array


def _check_together(kinds: set[str], values: Any) -> None:
    groups = {_GROUPS.get(kind, kind): kind for kind in sorted(kinds - _MISSING)}  # a set's own order is of no account
    if len(groups) > 1:
        raise TypeError(f"there are both {' and '.join(sorted(groups.values())[:2])}")
    if (kinds | _kinds_inside(values, kinds)) & {"set", "frozenset"}:
        raise TypeError("a set has no order: make it a list, for example with sorted()")
    if "time" in kinds and any(isinstance(one, datetime.time) and one.tzinfo is not None for one in values):
        raise TypeError("a time of day with a zone depends on the date")
    if kinds & _TIMES:
        zones = {one.tzinfo is None for one in values if isinstance(one, datetime.datetime) and not _is_nat(one)}
        if len(zones) > 1:
            raise TypeError("some times have a zone and some have none")


def _kinds_inside(values: Any, kinds: Set[str], level: int = 1) -> set[str]:
    """The kinds of the elements of lists, at every depth."""
    if not kinds & {"list", "tuple"}:
        return set()
    if level > MOST_LEVELS:
        raise RecursionError
    elements = [one for value in values if isinstance(value, (list, tuple)) for one in value]
    inside = {kind.__name__ for kind in set(map(type, elements))}
    return inside | _kinds_inside(elements, inside, level + 1)


def _is_float(value: object) -> bool:
    return isinstance(value, float)


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


def _own_numbers(values: Sequence[Any], kinds: set[str]) -> Sequence[Any]:
    """NumPy's numbers as Python's where kinds differ: Arrow rounds them to each other without a check."""
    numbers = [kind for kind in kinds if _GROUPS.get(kind) == "number"]
    if len(numbers) < 2 or all(kind in {"int", "float", "Decimal"} for kind in numbers):
        return values
    return [value.item() if hasattr(value, "item") else value for value in values]


def _wide_integers(values: Sequence[Any], kinds: set[str]) -> Sequence[Any]:
    """Integers of more than 64 bits travel as decimals."""
    if not kinds <= {"int", "NoneType"} or all(-(2**63) <= one < 2**63 for one in values if isinstance(one, int)):
        return values
    return [decimal.Decimal(one) if isinstance(one, int) else None for one in values]


def _with_room(array: pa.Array) -> pa.Array:
    """Decimals that are Python objects show only the digits of today: a table made for them needs room."""
    if not pa.types.is_decimal(array.type):
        return array
    precision = next((room for room in DECIMAL_ROOM if array.type.precision <= room), None)
    return array if precision is None else array.cast(pa.decimal128(precision, array.type.scale))


def depth(value: object) -> int:
    """How deep lists and dicts are nested in a value."""
    levels, inside = 0, [value]
    while inside := [one for one in inside if isinstance(one, (dict, list, tuple))]:
        levels += 1
        inside = [part for one in inside for part in (one.values() if isinstance(one, dict) else one)]
    return levels


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
