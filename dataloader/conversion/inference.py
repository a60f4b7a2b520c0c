"""Python values become an Arrow array, without the changes that Arrow's own inference makes in silence.

Left alone it drops the time of a datetime after a date, takes a naive time for UTC after an aware one,
encodes a text after bytes, and cuts the nanoseconds of pandas' Timestamp.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np
import pyarrow as pa

from dataloader.conversion.arrow_errors import in_words
from dataloader.conversion.documents import ADDRESSES, NotJson, to_json
from dataloader.conversion.mixed import MixedType
from dataloader.conversion.object_arrays import classes, parts, timestamps, to_arrow
from dataloader.errors import UnsupportedType

DECIMAL_ROOM = (15, 38)
"""Digits for decimals whose type is not declared: what SQLite keeps exactly, else what Arrow's decimal128 holds."""

SPELLED = {b"dataloader": b"spelled"}
"""The metadata of a field whose values come as texts, whatever type they suggest."""
VARYING = {b"dataloader": b"varying"}
"""The metadata of a field whose later values may be of another type than the first ones."""
_UNTYPED = {b"doubt": b"its first rows have no value"}
IN_PANDAS = {b"dataloader": b"pandas"}
"""The metadata of a field that is a column of a pandas frame."""
MOST_LEVELS = 100
"""How deep lists and dicts may be nested: an Arrow type of 900 levels took 0.9 GB, and Python ends at 1,000."""

_TIMES = {"datetime", "Timestamp"}
_GROUPS = {
    **dict.fromkeys(("int", "float", "Decimal"), "number"),
    **dict.fromkeys((f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "number"),
    **dict.fromkeys(("float16", "float32", "float64"), "number"),
    **dict.fromkeys(("bool", "bool_"), "boolean"),
    **dict.fromkeys(("str", "str_", "PurePath", *ADDRESSES), "text"),
    **dict.fromkeys(("bytes", "bytearray", "memoryview", "bytes_"), "bytes"),
    **dict.fromkeys(("datetime", "Timestamp", "datetime64"), "time"),
    **dict.fromkeys(("timedelta", "Timedelta", "timedelta64"), "duration"),
    **dict.fromkeys(("dict", "list", "tuple", "ndarray"), "nested"),
}
"""Kinds that one Arrow type holds. Arrow turns others into each other: an int among dates becomes a day of 1970, a
date and time among dates loses its time, a text among bytes is encoded, a bool among floats is 1."""
_AS_TEXT = {"PurePath", *ADDRESSES}
_NO_COLUMN = {
    **dict.fromkeys(("set", "frozenset"), ("a set has no order", "Make it a list, for example with sorted().")),
    **dict.fromkeys(
        ("complex", "complexfloating"), ("a complex number is two numbers", "Load .real and .imag as two columns.")
    ),
    "longdouble": ("a long double has more digits than any column", "Make it a float: .astype('float64')."),
    "Enum": ("an Enum has a name and a value", "Load its .name or its .value."),
    "Period": (
        "a Period is a span of time",
        "Load its start, df[c].dt.to_timestamp(), or its text, df[c].astype(str).",
    ),
    "Interval": ("an Interval is two values", "Load its .left and .right as two columns, or df[c].astype(str)."),
}
"""Kinds that no column keeps: why, and what to load instead."""
_NO_TYPE = "they have no type in common"
_MISSING = {"NoneType", "NAType", "NaTType"}
_KNOWN = {*_GROUPS, *_NO_COLUMN, *_MISSING}
_FLOATS = {"float", "float64"}
_NUMBERS = {"int", "float", "Decimal"}


class NotTogether(ValueError):
    """Values that no one Arrow type holds; `hint` says what to load instead."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint


REFUSALS = (pa.ArrowException, NotTogether, NotJson, OverflowError, UnicodeEncodeError)
"""What inference raises for values that one Arrow type cannot hold; any other error is a defect, and stays one."""


def varying(field: pa.Field) -> pa.Field:
    """The field of a stream of rows, whose first ones have been seen."""
    untyped = _UNTYPED if pa.types.is_null(field.type) else {}
    return field.with_metadata({**VARYING, **untyped, **(field.metadata or {})})


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
        what = f"column {name!r} has values that no column keeps: {in_words(error, _NO_TYPE)}"
        raise UnsupportedType(what, hint=getattr(error, "hint", None) or hint) from error


def mixed_array(values: Any) -> pa.Array:
    """Infer the type; values that do not go together are told apart by kind, in a MixedType."""
    try:
        return array_of(values)
    except REFUSALS as error:
        kinds = [_kind(value) for value in values]
        parts, lost = split_by_type(values, kinds)
        if not parts:
            raise (
                error if isinstance(error, NotTogether) else NotTogether(min(filter(None, kinds), default="?"))
            ) from error
    texts = [
        _lost_text(value, kind).encode(errors="surrogatepass") if kind in lost else None
        for value, kind in _pairs(values, kinds)
    ]
    reasons = [_REASONS.get(kind or "", "type") if kind in lost else None for kind in kinds]
    mixed = MixedType(tuple(part.type for part in parts))
    stored = [part.storage if isinstance(part.type, pa.BaseExtensionType) else part for part in parts]
    arrays = [*stored, pa.array(texts, pa.binary()), pa.array(reasons, pa.string())]
    return pa.ExtensionArray.from_storage(mixed, pa.StructArray.from_arrays(arrays, fields=list(mixed.storage_type)))


def _pairs(values: Any, kinds: list[str | None]) -> Iterator[tuple[Any, str | None]]:
    return zip(values, kinds, strict=True)


def split_by_type(values: Any, kinds: list[str | None]) -> tuple[list[pa.Array], set[str]]:
    """An array for each group of kinds that go together, most frequent first, and the kinds that no type holds."""
    waiting = [kind for kind, _ in Counter(kind for kind in kinds if kind is not None).most_common()]
    parts: list[pa.Array] = []
    lost: set[str] = set()
    while waiting:
        together: set[str] = set()
        array = None
        for kind in waiting:
            if kind in _NUMBERS and together & _NUMBERS:  # 1 among fractions is 1.0, and in text and JSON a 1
                continue
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


_REASONS = {"text that is not Unicode": "encoding", "NaN in a dict or list": "nan"}


def _kind(value: Any) -> str | None:
    """A finer kind than the type's name, so that those of one kind go together; None for a missing value."""
    if _is_missing(value) or _is_nat(value):
        return None
    name = "infinite Decimal" if _is_infinite(value) else type(value).__name__
    if isinstance(value, str):
        return name if value.isascii() or _is_unicode(value) else "text that is not Unicode"
    if isinstance(value, (datetime.datetime, datetime.time)):
        return f"{name} {'without' if value.tzinfo is None else 'with'} a zone"
    if isinstance(value, dict):
        return _without_json(value) or name
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


def _without_json(value: object) -> str | None:
    """Why a dict is no JSON."""
    try:
        to_json(value)
    except NotJson as error:
        return "NaN in a dict or list" if error.reason == "nan" else f"dict that is no JSON: {error}"
    return None


def array_of(values: Any) -> pa.Array:
    """Infer the type; whatever does not go together raises one of `REFUSALS`."""
    kind = getattr(values, "dtype", "object")
    if type(kind).__name__ == "CategoricalDtype":
        return _of_categories(getattr(values, "cat", values))
    if isinstance(values, (pa.Array, pa.ChunkedArray)) or str(kind) != "object":
        return pa.array(_known_to_arrow(values), from_pandas=True)
    return _of_objects(values)


def _of_objects(values: Any) -> pa.Array:
    if hasattr(values, "to_numpy"):  # of a Series, over which iterating takes three times as long
        values = values.to_numpy()
    elif not isinstance(values, (list, tuple, np.ndarray)):  # a deque has no slices
        values = list(values)
    kinds = _kinds(classes(values))
    if "Timestamp" in kinds and kinds <= {"Timestamp", *_MISSING} and (found := timestamps(values)) is not None:
        return found
    if kinds & _FLOATS and all(map(_is_missing, filter(_is_float, values))):
        kinds -= _FLOATS
    _check_together(kinds, values)
    if kinds & {"dict", "list", "tuple", "ndarray"}:
        return _nested(values, kinds)
    if kinds & {"Timestamp", "Timedelta"} and any(map(_has_nanoseconds, values)):
        return pa.array(values, type=_with_nanoseconds(pa.array(values, from_pandas=True).type), from_pandas=True)
    if kinds & _AS_TEXT:
        values = [None if _is_missing(one) else str(one) for one in values]
    if "Decimal" in kinds and any(map(_is_infinite, values)):
        return _infinities(values)
    return _with_room(_by_arrow(_wide_integers(_own_numbers(values, kinds), kinds)))


def _of_categories(values: Any) -> pa.Array:
    """A categorical of pandas, whose categories are a column of objects like any other."""
    codes, kept = np.asarray(values.codes), array_of(values.categories)
    indices = pa.array(codes, mask=codes < 0)
    if isinstance(kept, pa.ExtensionArray):  # no dictionary has one
        return kept.take(indices)
    kept = kept.combine_chunks() if isinstance(kept, pa.ChunkedArray) else kept
    return pa.DictionaryArray.from_arrays(indices, kept, ordered=values.ordered)


def _by_arrow(values: Any, from_pandas: bool = True) -> pa.Array:
    try:
        return to_arrow(values, from_pandas)
    except (TypeError, ValueError) as error:  # of the objects' own methods, which Arrow calls
        raise NotTogether(in_words(error, _NO_TYPE)) from error


@functools.lru_cache(1_000)
def _kind_of(cls: type) -> str:
    """The name of the nearest class that is known, else its own: an enum of texts is a text."""
    names = [base.__name__ for base in cls.__mro__]
    return next((name for name in names if name in _KNOWN), names[0])


def _kinds(classes: Set[type]) -> set[str]:
    return set(map(_kind_of, classes))


def check_class(name: str, cls: type) -> None:
    """Refuse a column whose values are of a class that no column keeps.

    Raises
    ------
    UnsupportedType
        Saying what to load instead.
    """
    if found := _NO_COLUMN.get(_kind_of(cls)):
        raise UnsupportedType(f"column {name!r} has values that no column keeps: {found[0]}", hint=found[1])


def _known_to_arrow(values: Any) -> Any:
    """NumPy's hours, minutes and days as seconds, which Arrow knows."""
    kind: Any = getattr(values, "dtype", None)
    if not hasattr(kind, "isbuiltin"):  # no array of NumPy
        return values
    _check_together(_kinds({kind.type}), ())
    if kind.kind not in {"M", "m"}:
        return values
    unit = kind.str[4:-1]
    if unit in {"s", "ms", "us", "ns"} or (kind.kind, unit) == ("M", "D"):
        return values
    with contextlib.suppress(OverflowError):  # of NumPy 2.5; earlier ones wrap around
        seconds = values.astype(f"{kind.kind}8[s]")
        if (seconds.astype(kind).view("i8") == values.view("i8")).all():
            return seconds
    raise NotTogether("a time is out of the range of 64 bits")


def _check_together(kinds: Set[str], values: Any) -> None:
    if refused := sorted(kinds & _NO_COLUMN.keys()):
        raise NotTogether(*_NO_COLUMN[refused[0]])
    groups = {_GROUPS.get(kind, kind): kind for kind in sorted(kinds - _MISSING)}  # a set's own order is of no account
    if len(groups) > 1:
        raise NotTogether(f"there are both {' and '.join(sorted(groups.values())[:2])}")
    if "time" in kinds and any(isinstance(one, datetime.time) and one.tzinfo is not None for one in values):
        raise NotTogether("a time of day with a zone depends on the date")
    if kinds & _TIMES:
        times = (one for one in values if isinstance(one, datetime.datetime) and type(one).__name__ != "NaTType")
        if len({one.tzinfo is None for one in times}) > 1:
            raise NotTogether("some times have a zone and some have none")


def _nested(values: Any, kinds: Set[str]) -> pa.Array:
    """Lists of one kind as lists; dicts and lists of several kinds as JSON, in which each value stays what it is.

    One Arrow struct for all dicts would give each the keys of the others, and a list of doubles makes 1 a 1.0.
    """
    if "dict" not in kinds and _is_of_one_kind(values):
        with contextlib.suppress(*REFUSALS):
            array = _by_arrow([None if _is_missing(one) else one for one in values], from_pandas=False)
            if "struct" not in str(array.type):
                return array
    texts = pa.array([None if _is_missing(one) else to_json(one) for one in values], pa.string())
    return pa.ExtensionArray.from_storage(pa.json_(), texts)


def _is_of_one_kind(values: Any) -> bool:
    """Whether an Arrow list keeps all elements, at every depth, as they are."""
    kinds = _kinds_inside(values) - {"list", "tuple", "ndarray", "NoneType"}
    if kinds & _NO_COLUMN.keys():
        _check_together(kinds, ())
    if kinds & _TIMES:
        elements = list(_elements(values))
        with contextlib.suppress(NotTogether):
            _check_together(kinds, elements)
            return len(kinds) == 1 and not any(map(_has_nanoseconds, elements))
        return False
    return len(kinds) <= 1 and not kinds & (_MISSING | {"object_", "dict"})


def _kinds_inside(values: Any, level: int = 1) -> set[str]:
    if level > MOST_LEVELS:
        raise RecursionError
    lists = [one for one in values if isinstance(one, (list, tuple))]
    kinds = _kinds(set().union(*(set(map(type, itertools.chain.from_iterable(part))) for part in parts(lists))))
    kinds |= _kinds({one.dtype.type for one in values if type(one).__name__ == "ndarray"})
    inner = kinds & {"list", "tuple", "ndarray"}
    return kinds | _kinds_inside(list(itertools.chain.from_iterable(lists)), level + 1) if inner else kinds


def _elements(values: Any) -> Iterator[Any]:
    for one in values:
        if isinstance(one, (list, tuple)):
            yield from _elements(one)
        else:
            yield one


def _is_infinite(value: object) -> bool:
    return isinstance(value, decimal.Decimal) and value.is_infinite()


def _infinities(values: Any) -> pa.Array:
    """As floats, which have them."""
    if not all(_is_infinite(one) or _is_missing(one) for one in values):
        raise NotTogether("some decimals are infinite and some are not")
    return pa.array([None if _is_missing(one) else float(one) for one in values], pa.float64())


def _is_float(value: object) -> bool:
    return isinstance(value, float)


def _is_missing(value: object) -> bool:
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def _is_nat(value: object) -> bool:
    return type(value).__name__ == "NaTType"  # pandas' missing time, which is a datetime without a zone


def _has_nanoseconds(value: Any) -> bool:
    nanoseconds = getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0)
    return bool(nanoseconds > 0)  # NaT's are NaN


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
    if not kinds <= {"int", "NoneType"}:
        return values
    integers = [one for one in values if isinstance(one, int)]
    if all(min(part) >= -(2**63) and max(part) < 2**63 for part in parts(integers)):
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
