"""Casts and checks of dates, times, timestamps and intervals."""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.casts import Cast, must_equal, reading_without, refuse

ZONED = r"\d\d:?\d\d(:?\d\d(\.\d+)?)?\s*(Z|[+-]\d\d(:?\d\d)?)$"
FINER_THAN_MICROSECONDS = r"\.\d{6}\d*[1-9]"
DAY = 86_400_000_000
FIRST_DAY, LAST_DAY = -2_440_588, 2_145_042_905
"""4714-11-24 BC and 5874897-12-31: https://www.postgresql.org/docs/current/datatype-datetime.html"""
FIRST_TIMESTAMP, END_OF_TIMESTAMPS = FIRST_DAY * DAY, 2**63
"""The same day; an int64 of microseconds since 1970 ends before PostgreSQL's time does."""
FIRST_YEAR, END_OF_YEARS = -719_162, 2_932_897
"""0001-01-01 and 10000-01-01: SQLite keeps dates as text, and four digits are a year."""


def check_not_infinite(values: pa.Array) -> pa.Array:
    """DuckDB keeps an infinity as the greatest number of microseconds; Arrow has no word for it."""
    greatest = pc.max(values.cast(pa.int64()))
    if greatest.as_py() == 2**63 - 1:
        problem = "it is infinity, which can only be loaded as text"
        refuse("range", pc.equal(values.cast(pa.int64()), greatest), problem)
    return values


def timestamp_to_date(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    dates = values.cast(wanted)
    must_equal(dates.cast(values.type), values, "time")
    return dates


def finer_unit(values: pa.Array, wanted: pa.DataType) -> None:
    finer_by = _UNITS.index(wanted.unit) - _UNITS.index(values.type.unit)
    if finer_by > 0:
        limit = (2**63 - 1) // 1000**finer_by
        counts = values.cast(pa.int64())
        refuse("range", pc.or_(pc.greater(counts, limit), pc.less(counts, -limit)))
    else:
        coarse = values.cast(wanted, safe=False)
        must_equal(coarse.cast(values.type, safe=False), values, "nanoseconds")


def cut_seconds(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Cut fractions of a second, to the moment before; a coarser unit may overflow a finer one, and is checked."""
    finer_by = _UNITS.index(values.type.unit) - _UNITS.index(wanted.unit)
    if finer_by <= 0 or not pa.types.is_timestamp(values.type):
        return values.cast(wanted, safe=finer_by <= 0)
    counts = pc.fill_null(values.cast(pa.int64()), 0).to_numpy() // 1000**finer_by
    return pa.array(counts, mask=values.is_null().to_numpy(zero_copy_only=False)).cast(wanted)


_UNITS = ("s", "ms", "us", "ns")
_DIGITS = {"s": 0, "ms": 3, "us": 6}


def without_zone(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return cut_seconds(values.cast(pa.timestamp(values.type.unit)), wanted)


def cut_time_of_day(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return values.cast(wanted, safe=False)


def text_to_timestamp_problems(values: pa.Array, wanted: pa.DataType) -> None:
    refuse("nanoseconds", pc.match_substring_regex(values, FINER_THAN_MICROSECONDS))
    zoned = pc.match_substring_regex(values, ZONED)
    if wanted.tz is None:
        refuse("zone", zoned, "it has an offset from UTC, and the column has no time zone")
    else:
        clock = pc.match_substring_regex(values, r"^\s*\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?\s*$")
        refuse("zone", clock, "it has no offset from UTC: pass assume_timezone")


def cut_text(cast: Cast) -> Cast:
    """Cut the fractions of a second in text that the column does not keep, where it is refused as it is."""

    def cutting(values: pa.Array, wanted: pa.DataType) -> pa.Array:
        digits = _DIGITS[wanted.unit]
        kept = rf"(:\d\d\.\d{{{digits}}})\d+" if digits else r"(:\d\d)\.\d+"
        return reading_without(kept, r"\1")(cast)(values, wanted)

    return cutting


def text_to_date_problems(values: pa.Array, _wanted: pa.DataType) -> None:
    refuse("time", pc.match_substring_regex(values, r"^\s*\d{4}-\d\d-\d\d" + _CLOCK))


def text_to_time(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    moments = pc.binary_join_element_wise("1970-01-01", values.cast(pa.string()), " ")
    try:
        return moments.cast(pa.timestamp("us")).cast(pa.time64("us")).cast(wanted, safe=True)
    except pa.ArrowInvalid:
        refuse("nanoseconds", pc.match_substring_regex(values, FINER_THAN_MICROSECONDS))
        raise


_CLOCK = r"[ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?\s*$"
without_clock = reading_without(_CLOCK)
without_midnight = reading_without(r"[ T]00:00(:00(\.0+)?)?$")
without_zeros = reading_without(r"(:\d\d)(?:\.0+|(\.\d*?[1-9])0+)(\D|$)", r"\1\2\3")
"""PostgreSQL reads a number between spaces too; a fraction of a second may have zeros that the column does not keep."""


def spelled_time(values: pa.Array) -> pa.Array:
    """Arrow counts a year 0, signs the years before it, and gives up after 32767; PostgreSQL knows BC and goes on."""
    values = values.cast(pa.date32()) if pa.types.is_date64(values.type) else values
    texts = values.cast(pa.string())
    odd = pc.match_substring_regex(texts, "^(-|0000-|<)")
    if not pc.any(odd).as_py():
        return texts
    unit = "D" if pa.types.is_date(values.type) else values.type.unit
    counts = values.cast(pa.int32() if unit == "D" else pa.int64()).to_pylist()
    spelled = zip(texts.to_pylist(), counts, odd.to_pylist(), strict=True)
    return pa.array([_spelled(count, unit) if is_odd else text for text, count, is_odd in spelled], pa.string())


def _spelled(count: int, unit: str) -> str:
    return _before_christ(str(np.int64(count).astype(f"datetime64[{unit}]")).replace("T", " "))


def _before_christ(text: str) -> str:
    if not text.startswith(("-", "0000-")):
        return text
    year, rest = re.match(r"(-?\d+)(.*)", text).groups()  # type: ignore[union-attr]  # Arrow wrote it
    return f"{1 - int(year):04d}{rest} BC"


def spelled_interval(value: Any) -> str:
    microseconds = decimal.Decimal(value.nanoseconds).scaleb(-3).normalize()
    return f"{value.months} mons {value.days} days {microseconds:f} microseconds"


def check_between(low: int, end: int) -> Callable[[pa.Array], pa.Array]:
    """Dates, times and moments as numbers: from `low` to before `end`."""

    def check(values: pa.Array) -> pa.Array:
        numbers = values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())
        bounds = pc.min_max(numbers).as_py()
        if bounds["min"] is not None and (bounds["min"] < low or bounds["max"] >= end):
            wide = numbers.cast(pa.int64())
            refuse("range", pc.or_(pc.less(wide, low), pc.greater(wide, end - 1)))
        return values

    return check


def check_microseconds(texts: pa.Array) -> pa.Array:
    refuse("nanoseconds", pc.match_substring_regex(texts, FINER_THAN_MICROSECONDS))
    return texts


def interval_to_text(digits: int) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    """Months, days and nanoseconds are three numbers to PostgreSQL as well, which keeps `digits` of a second."""
    unit = 10 ** (9 - min(digits, 6))

    def cast(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
        parts = values.to_pylist()
        refuse("nanoseconds", pa.array([one is not None and one.nanoseconds % unit != 0 for one in parts], pa.bool_()))
        spelled = [
            None if one is None else f"{one[0]} mons {one[1]} days {one[2] // 1000} microseconds" for one in parts
        ]
        return pa.array(spelled, pa.string())

    return cast
