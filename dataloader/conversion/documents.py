"""JSON documents: Python values as JSON text, to the last digit, and the lines of a file as Python values."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import sys
import uuid
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

_NESTED = frozenset((dict, list, tuple))
_TEXT = frozenset((str,))
_KEYS = (str, int, float, bool, type(None))
_NUMBER_MARK = f"number:{uuid.uuid4()}:"
"""Before the digits of a decimal while it is a text: Python's encoder writes no number but its own."""
_MARKED = re.compile(f'"{_NUMBER_MARK}([^"]*)"')
ADDRESSES = {f"IPv{version}{kind}" for version in (4, 6) for kind in ("Address", "Network", "Interface")}
"""The classes of ipaddress, which is not imported for them."""


class NotJson(ValueError):
    """What JSON has no word for, or what would not be in it what it was; `reason` is a code of violations."""

    def __init__(self, what: str, reason: str = "type") -> None:
        super().__init__(what)
        self.reason = reason


def to_json(value: object) -> str:
    """JSON text. Numbers keep their digits; dates, UUIDs, paths and addresses become texts.

    Raises
    ------
    NotJson
        For anything else, for a NaN, NaT, NA or infinity, and where two keys of an object would become one.
    """
    has_other_keys = isinstance(value, (dict, list, tuple)) and _has_other_keys(value)
    try:
        text = _encode(value)
    except NotJson:
        raise
    except ValueError as error:  # the encoder's own, for floats
        raise NotJson(str(error), "nan") from error
    if has_other_keys:
        _decode_strictly(text)
    return _MARKED.sub(r"\1", text) if _NUMBER_MARK in text else text


def _has_other_keys(value: Any) -> bool:
    """Whether an object has a key that is no text; texts cannot become one."""
    found = False
    if isinstance(value, dict):
        if not _TEXT.issuperset(map(type, value)):
            found = True
            if odd := [key for key in value if not isinstance(key, _KEYS)]:
                raise NotJson(f"a key of JSON is a text, and not a {type(odd[0]).__name__}")
        value = value.values()
    if _NESTED.isdisjoint(map(type, value)):
        return found
    return any([_has_other_keys(one) for one in value if isinstance(one, (dict, list, tuple))]) or found


def _scalar(value: Any) -> Any:
    name = type(value).__name__
    if name in {"NaTType", "NAType"}:
        raise NotJson("JSON has no missing value but null", "nan")
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise NotJson("JSON has no number that is not finite", "nan")
        return f"{_NUMBER_MARK}{value}"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, PurePath)) or name in ADDRESSES or name == "datetime64":
        return str(value)
    if name == "ndarray" and value.ndim:
        return list(value)
    if hasattr(value, "item") and type(value.item()) in {bool, int, float, str}:  # a NumPy scalar
        return value.item()
    raise NotJson(f"JSON has no {name}")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different, for `json.loads`.

    Raises
    ------
    NotJson
        Naming a key that repeats: Python and jsonb would keep the last value and drop the others.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise NotJson(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice in an object")
    return found


def _number(text: str) -> float | decimal.Decimal:
    """A float where it shows the very digits of the file, else a decimal."""
    number = float(text)
    return number if repr(number) == text else decimal.Decimal(text)


def _integer(text: str) -> int | decimal.Decimal:
    """Python makes no int of more than 4,300 digits, https://docs.python.org/3/library/stdtypes.html#int-max-str-digits."""
    return int(text) if len(text) <= sys.int_info.default_max_str_digits else decimal.Decimal(text)


_encode = json.JSONEncoder(default=_scalar, allow_nan=False, ensure_ascii=False).encode
_decode_strictly = json.JSONDecoder(parse_int=str, parse_float=str, object_pairs_hook=unique).decode
_row_decoder = json.JSONDecoder(parse_int=_integer, parse_float=_number, object_pairs_hook=unique)
_decode_line, _decode_at = _row_decoder.decode, _row_decoder.raw_decode


def _no_constant(name: str) -> None:
    raise ValueError(name)


_check = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant).decode
_check_strictly = json.JSONDecoder(
    parse_int=str, parse_float=str, parse_constant=_no_constant, object_pairs_hook=unique
).decode


def is_not_json(text: str) -> bool:
    return _fails(_check, text)


def is_ambiguous(text: str) -> bool:
    """Whether it is no JSON, or an object in it has a key twice; one reading finds both."""
    return _fails(_check_strictly, text)


def _fails(decode: Callable[[str], Any], text: str) -> bool:
    try:
        decode(text)
    except ValueError:
        return True
    except RecursionError:  # deeper than Python goes: the server decides
        return False
    return False


def row_of(line: str) -> Any:
    """The value of a line of JSON. In a column of its own a number is a float if it is the same one."""
    return _with_floats(_decode_line(line))


def row_at(text: str, start: int) -> tuple[Any, int]:
    """The value of JSON that begins at a position of a text, as `row_of` gives it, and where it ends."""
    row, end = _decode_at(text, start)
    return _with_floats(row), end


def _with_floats(row: Any) -> Any:
    for name, value in row.items() if isinstance(row, dict) else ():
        if type(value) is decimal.Decimal and decimal.Decimal(repr(float(value))) == value:
            row[name] = float(value)
    return row
