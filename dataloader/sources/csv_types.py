"""The types of the columns that a CSV file is made into: a number only where it gives every field back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.inference import DECIMAL_ROOM, SPELLED
from dataloader.conversion.numeric import NUMBER_TEXT, WRITTEN_DECIMAL, WRITTEN_INTEGER

_COMMA_NUMBER = r"^[+-]?\d+,\d+$"
_ISO_DAY = r"^\d{4}-\d\d-\d\d$"
_ISO_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?"
_CLOCK = r"^\d\d:\d\d:\d\d$"
_DAY = r"^\d{1,2}([/.-])\d{1,2}[/.-](\d{4}|\d\d)$"
_ODDITIES = (
    (r"^[+-]?0\d", "has a leading zero"),
    (r"^\+", "has a plus sign"),
    (r"^[+-]?0[xX]", "is hexadecimal"),
    (r"^[+-]?(\d+\.?\d*|\.\d+)[eE]", "has an exponent"),
    (r"(?i)^[+-]?(nan|inf|infinity)$", "is no finite number"),
    (r"^\s|\s$", "has spaces around it"),
)


def field_of(name: str, texts: pa.ChunkedArray, decimal: str) -> pa.Field:
    """The column as it is created for these texts, and why it is text where it looks like something else."""
    present = texts.drop_null()
    told = {**SPELLED, **({b"decimal": b","} if decimal == "," else {})}
    if not len(present):
        return pa.field(name, pa.null(), metadata=told)
    numbers = pc.replace_substring(present, ",", ".") if decimal == "," and _all(present, _NO_POINT) else present
    for kind in (_integer, _decimal):
        if (found := kind(numbers)) is not None:
            return pa.field(name, found, metadata=told)
    for pattern, found in _KINDS:
        if _all(present, pattern) and (found := _castable(present, found)) is not None:
            return pa.field(name, found, metadata=told)
    doubt = _doubt(present, decimal) if pc.any(_begins(present.slice(0, FIRST))).as_py() else ""
    return pa.field(name, pa.string(), metadata={**told, **({b"doubt": doubt.encode()} if doubt else {})})


_NO_POINT = r"^[^.]*$"
_KINDS: tuple[tuple[str, pa.DataType], ...] = (
    (r"(?i)^(true|false)$", pa.bool_()),
    (_ISO_DAY, pa.date32()),
    (_ISO_TIME + "$", pa.timestamp("us")),
    (_ISO_TIME + r"(Z|[+-]\d\d(:?\d\d)?)$", pa.timestamp("us", "UTC")),
    (_CLOCK, pa.time32("s")),
)


FIRST = 500
"""So many texts tell a kind that a column is not of; only where they do not, all of them are looked at."""


def _all(texts: pa.ChunkedArray, pattern: str) -> bool:
    if not pc.all(pc.match_substring_regex(texts.slice(0, FIRST), pattern)).as_py():
        return False
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _castable(texts: pa.ChunkedArray, wanted: pa.DataType) -> pa.DataType | None:
    try:
        texts.cast(wanted)
    except pa.ArrowException:
        return None
    return wanted


def _integer(texts: pa.ChunkedArray) -> pa.DataType | None:
    if not _all(texts, WRITTEN_INTEGER):
        return None
    return _castable(texts, pa.int64()) or _castable(texts, pa.decimal128(DECIMAL_ROOM[-1], 0))


def _decimal(texts: pa.ChunkedArray) -> pa.DataType | None:
    """As many decimal places as the longest has, and room for more digits before the point."""
    if not _all(texts, WRITTEN_DECIMAL):
        return None
    points = pc.find_substring(texts, ".")
    lengths = pc.binary_length(texts)
    scale = pc.max(pc.if_else(pc.less(points, 0), 0, pc.subtract(pc.subtract(lengths, points), 1))).as_py()
    before = pc.max(pc.if_else(pc.less(points, 0), lengths, points)).as_py()
    precision = next((room for room in DECIMAL_ROOM if before + scale <= room), None)
    if precision is None or _is_uneven(texts, scale):
        return None
    return pa.decimal128(precision, scale)


def _is_uneven(texts: pa.ChunkedArray, scale: int) -> bool:
    """Whether 1.1 and 1.10 may be different: versions, for example, where trailing zeros are not those of a scale."""
    trailing = pc.match_substring_regex(texts, r"\.\d+0$")
    full = pc.match_substring_regex(texts, rf"\.\d{{{scale}}}$")
    return bool(pc.any(trailing).as_py() and not pc.all(full).as_py())


def _begins(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether a text begins like a number or a day."""
    return pc.match_substring_regex(texts, r"(?i)^\s*[+-]?([\d.]|nan|inf)")


def _doubt(texts: pa.ChunkedArray, decimal: str) -> str:
    """Why a column is text, though most of it looks like numbers or days; empty if it does not."""

    def looks(pattern: str) -> Any:
        return pc.match_substring_regex(texts, pattern)

    commas = looks(_COMMA_NUMBER)
    if decimal != "," and pc.all(pc.or_(commas, looks(NUMBER_TEXT))).as_py() and pc.any(commas).as_py():
        field = texts.filter(commas)[0].as_py()
        return f"{field!r} can have a decimal comma or a thousands separator; csv={{'decimal': ','}} says the former"
    if pc.all(looks(_DAY)).as_py():
        return f"{texts[0].as_py()!r} can be read as day and month in either order; write it as YYYY-MM-DD"
    numbers = looks(r"(?i)^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$|^[+-]?0x[0-9a-f]+$|^[+-]?(nan|inf|infinity)$")
    if pc.sum(pc.cast(numbers, pa.int64())).as_py() * 2 <= len(texts):
        return ""
    for pattern, what in _ODDITIES:
        if pc.any(odd := looks(pattern)).as_py():
            return f"{texts.filter(odd)[0].as_py()!r} {what}, which a number would not give back"
    if _all(texts, WRITTEN_DECIMAL) and pc.any(odd := looks(r"\.\d+0$")).as_py():
        return f"{texts.filter(odd)[0].as_py()!r} has a zero at its end, which a number would not give back"
    odd = pc.invert(numbers)
    return f"{texts.filter(odd)[0].as_py()!r} is not a number" if pc.any(odd).as_py() else "the digits are too many"
