"""Casts: the values of a source type become a carrier, each unchanged or refused.

Arrow's checked casts where they do; our own where Arrow would round, overflow or drop a part in silence.
A cast that fails says which values it refuses, by `Unfit`, or leaves that to the halving in `convert`.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.types import DECIMAL128_DIGITS, DECIMAL256_DIGITS
from dataloader.conversion.violations import Unfit

Cast = Callable[[pa.Array, pa.DataType], pa.Array]

_AWAY_FROM_ZERO = "half_towards_infinity"
_EXACT_FLOAT_INTEGERS = 2.0**53
NUMBER_TEXT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
PLAIN_NUMBER = r"(?i)^(-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?|nan|-?inf(inity)?)$"
"""As a number is written that is nothing else: 007, +5 and 0x1F may be codes."""
WHOLE = r"^[+-]?\d+$"
NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"
ZONED = r"\d\d:?\d\d(:?\d\d(\.\d+)?)?\s*(Z|[+-]\d\d(:?\d\d)?)$"
FINER_THAN_MICROSECONDS = r"\.\d{6}\d*[1-9]"


def refuse(reason: str, bad: pa.Array, problem: str = "") -> None:
    """Raise `Unfit` if any of `bad` is true."""
    if pc.any(bad).as_py():
        raise Unfit(reason, bad, problem)


def check_not_infinite(values: pa.Array) -> pa.Array:
    """DuckDB keeps an infinity as the greatest number of microseconds; Arrow has no word for it."""
    greatest = pc.max(values.cast(pa.int64()))
    if greatest.as_py() == 2**63 - 1:
        problem = "it is infinity, which Arrow's times do not have"
        refuse("range", pc.equal(values.cast(pa.int64()), greatest), problem)
    return values


def arrow_cast(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return values.cast(carrier, safe=True)


def _diagnosed(diagnose: Callable[[pa.Array, pa.DataType], None]) -> Cast:
    """Arrow's checked cast; where it fails, `diagnose` says which values, all at once."""

    def cast(values: pa.Array, carrier: pa.DataType) -> pa.Array:
        try:
            return values.cast(carrier, safe=True)
        except pa.ArrowInvalid:
            diagnose(values, carrier)
            raise

    return cast


def _bounds(carrier: pa.DataType) -> tuple[int, int]:
    return -(2 ** (carrier.bit_width - 1)), 2 ** (carrier.bit_width - 1) - 1


def _integer_range(values: pa.Array, carrier: pa.DataType) -> None:
    wide = values.cast(pa.decimal128(20, 0))
    low, high = (pa.scalar(decimal.Decimal(bound), wide.type) for bound in _bounds(carrier))
    refuse("range", pc.or_(pc.less(wide, low), pc.greater(wide, high)))


def _float_range(values: pa.Array, carrier: pa.DataType) -> None:
    values = values.cast(pa.float64())
    refuse("nan", pc.invert(pc.is_finite(values)))
    refuse("fraction", pc.not_equal(pc.trunc(values), values))
    low, high = _bounds(carrier)
    refuse("range", pc.or_(pc.less(values, float(low)), pc.greater_equal(values, float(high + 1))))


def float_to_integer(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """Arrow refuses whole floats beyond 2**53 too, though each is one integer."""
    try:
        return values.cast(carrier, safe=True)
    except pa.ArrowInvalid:
        _float_range(values, carrier)
        return values.cast(carrier, safe=False)


def _rounded_float_to_integer(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return float_to_integer(pc.round(values.cast(pa.float64()), round_mode="half_to_even"), carrier)


def _text_to_integer_problems(values: pa.Array, _carrier: pa.DataType) -> None:
    refuse("nan", pc.match_substring_regex(values, NOT_FINITE))
    whole = pc.match_substring_regex(values, WHOLE)
    refuse("fraction", pc.and_(pc.invert(whole), pc.match_substring_regex(values, NUMBER_TEXT)))
    refuse("syntax", pc.invert(whole))


def _must_have_room(values: pa.Array, carrier: pa.DataType) -> None:
    """Arrow's rescaling of decimals overflows in silence, so the digits before the point are counted first."""
    room = carrier.precision - carrier.scale
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is None or max(abs(bounds["min"]), abs(bounds["max"])) < 10**room:
        return
    scale = getattr(values.type, "scale", 0)
    wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, scale))
    limit = pa.scalar(decimal.Decimal(10**room), wide.type)
    refuse("range", pc.greater_equal(pc.abs(wide), limit), f"it has more than {room} digits before the point")


def _integer_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    wide = values.cast(pa.decimal128(20, 0))
    _must_have_room(wide, carrier)
    # Arrow asks for 19 + scale digits before it looks at a value; through 20 digits it looks.
    return wide.cast(carrier, safe=True)


def _decimal_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    _must_have_room(values, carrier)
    try:
        return values.cast(carrier, safe=True)
    except pa.ArrowInvalid:
        _must_keep_digits(values, carrier.scale)
        raise


def _must_keep_digits(values: pa.Array, scale: int, reason: str = "digits") -> None:
    if values.type.scale > scale:
        rounded = pc.round(values, ndigits=scale, round_mode="towards_zero")
        refuse(reason, pc.not_equal(rounded, values), f"it has more than {scale} digits after the point")


def _rounded_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    if values.type.scale > carrier.scale:
        wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, values.type.scale))
        values = pc.round(wide, ndigits=carrier.scale, round_mode=_AWAY_FROM_ZERO)
    return _decimal_to_decimal(values, carrier)


def _decimal_to_integer(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    _must_keep_digits(values, 0, "fraction")
    whole = values.cast(pa.decimal256(DECIMAL256_DIGITS, 0), safe=True)
    _must_have_room(whole, pa.decimal128(20, 0))
    narrow = whole.cast(pa.decimal128(20, 0))
    low, high = (pa.scalar(decimal.Decimal(bound), narrow.type) for bound in _bounds(carrier))
    refuse("range", pc.or_(pc.less(narrow, low), pc.greater(narrow, high)))
    # Arrow takes 20 digits for too many before it looks at a value; as text it looks.
    return narrow.cast(pa.string()).cast(carrier, safe=True)


def _rounded_decimal_to_integer(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    if values.type.scale > 0:
        wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, values.type.scale))
        values = pc.round(wide, ndigits=0, round_mode=_AWAY_FROM_ZERO)
    return _decimal_to_integer(values, carrier)


def _text_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """Arrow reads decimals from text right as long as no intermediate overflows; most columns are far from it."""
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    is_short = longest + carrier.scale <= DECIMAL128_DIGITS
    if is_short and not pc.any(pc.match_substring(values, "e", ignore_case=True)).as_py():
        return _diagnosed(_text_to_decimal_problems)(values, carrier)
    return _long_text_to_decimal(values, carrier)


def _text_to_decimal_problems(values: pa.Array, carrier: pa.DataType) -> None:
    refuse("nan", pc.match_substring_regex(values, NOT_FINITE))
    refuse("syntax", pc.invert(pc.match_substring_regex(values, NUMBER_TEXT)))
    room = carrier.precision - carrier.scale
    too_large = pc.greater_equal(pc.abs(values.cast(pa.float64())), 10.0**room)
    refuse("range", too_large, f"it has more than {room} digits before the point")


def _long_text_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    room = carrier.precision - carrier.scale
    refuse("nan", pc.match_substring_regex(values, NOT_FINITE))
    refuse("syntax", pc.invert(pc.match_substring_regex(values, NUMBER_TEXT)))
    floats = values.cast(pa.float64())
    too_large = pc.greater_equal(pc.abs(floats), 10.0**room * 2)
    refuse("range", too_large, f"it has more than {room} digits before the point")
    wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, carrier.scale), safe=True)
    vanished = pc.and_(pc.equal(wide, pa.scalar(0, wide.type)), pc.not_equal(floats, 0.0))
    refuse("digits", vanished, f"it has more than {carrier.scale} digits after the point")
    return _decimal_to_decimal(wide, carrier)


def _rounded_text_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    try:
        return _text_to_decimal(values, carrier)
    except (Unfit, pa.ArrowInvalid):
        _text_to_decimal_problems(values, carrier)
    unit, many = decimal.Decimal(1).scaleb(-carrier.scale), decimal.Context(prec=2_000, rounding=decimal.ROUND_HALF_UP)
    rounded = [
        None if text is None else decimal.Decimal(text).quantize(unit, context=many) for text in values.to_pylist()
    ]
    limit = decimal.Decimal(10) ** (carrier.precision - carrier.scale)
    refuse("range", pa.array([one is not None and abs(one) >= limit for one in rounded], pa.bool_()))
    return pa.array(rounded, carrier)


def _float_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """A float means the decimal that repr() shows.

    Division of two exact floats is correctly rounded: if whole / 10**scale gives the float back, then
    whole is the nearest decimal's digits. Six times faster than Arrow's cast, which rounds besides.
    """
    if values.type.equals(pa.float64()) and pa.types.is_decimal128(carrier):
        floats = values.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore", over="ignore"):
            power = 10.0**carrier.scale
            whole = np.rint(floats * power)
            limit = min(_EXACT_FLOAT_INTEGERS, 10.0**carrier.precision)
            exact = (whole / power == floats) & (np.abs(whole) < limit)
        if exact.all() or (exact | values.is_null().to_numpy(zero_copy_only=False)).all():
            return _decimals(whole, values, carrier)
    return _text_to_decimal(values.cast(pa.string()), carrier)


def _decimals(whole: np.ndarray, values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """Decimals of these digits, null where `values` are: sixteen bytes each, the lower half first."""
    halves = np.empty((len(whole), 2), np.int64)
    halves[:, 0] = np.nan_to_num(whole) if values.null_count else whole
    halves[:, 1] = halves[:, 0] >> 63
    validity = pc.is_valid(values).buffers()[1] if values.null_count else None
    return pa.Array.from_buffers(carrier, len(whole), [validity, pa.py_buffer(halves)])


def _rounded_float_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return _rounded_text_to_decimal(values.cast(pa.string()), carrier)


def _narrow_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    wide = values.cast(pa.float64())
    narrow = wide.cast(carrier)
    _must_not_overflow(wide, narrow)
    _must_equal(narrow.cast(pa.float64()), wide, "digits")
    return narrow


def _rounded_integer_to_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return values.cast(carrier, safe=False)


def _rounded_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    wide = values.cast(pa.float64(), safe=False)
    narrow = wide.cast(carrier)
    _must_not_overflow(wide, narrow)
    return narrow


def _must_not_overflow(wide: pa.Array, narrow: pa.Array) -> None:
    refuse("range", pc.and_(pc.is_inf(narrow), pc.is_finite(wide)))


def _integer_to_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    try:
        return values.cast(carrier, safe=True)
    except pa.ArrowInvalid:
        # Whole numbers beyond 2**53 are floats too where their low bits are zero.
        floats = values.cast(carrier, safe=False)
        back = floats.cast(pa.float64()).cast(pa.decimal256(DECIMAL256_DIGITS, 0))
        _must_equal(back, values.cast(back.type), "digits")
        return floats


def _decimal_to_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """A decimal fits a float that shows the same digits again; Arrow's own cast is not correctly rounded."""
    floats = values.cast(pa.string()).cast(pa.float64())
    digits = _text_to_decimal(floats.cast(pa.string()), pa.decimal256(DECIMAL256_DIGITS, max(values.type.scale, 0)))
    _must_equal(digits, values.cast(digits.type), "digits")
    return floats if carrier.equals(pa.float64()) else _narrow_float(floats, carrier)


def _rounded_decimal_to_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return _parsed_floats(values.cast(pa.string()), carrier)


def text_to_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """A number in text fits a float that shows its digits again, at its shortest or with all that it has."""
    floats = _parsed_floats(values, carrier)
    shortest = floats.cast(pa.string())
    differing = pc.fill_null(pc.not_equal(shortest, values.cast(pa.string())), False)
    digits = 17 if carrier.equals(pa.float64()) else 9
    columns = (column.filter(differing).to_pylist() for column in (values, shortest, floats))
    kept = iter([shows(text, short, f"{number:.{digits}g}") for text, short, number in zip(*columns, strict=True)])
    refuse("digits", pa.array([bool(odd) and not next(kept) for odd in differing.to_pylist()], pa.bool_()))
    return floats


def _parsed_floats(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    def diagnose(values: pa.Array, _carrier: pa.DataType) -> None:
        number = pc.or_(pc.match_substring_regex(values, NUMBER_TEXT), pc.match_substring_regex(values, NOT_FINITE))
        refuse("syntax", pc.invert(number))

    floats = _diagnosed(diagnose)(values, carrier)
    refuse("range", pc.and_(pc.is_inf(floats), pc.match_substring_regex(values, r"\d")))
    return floats


def shows(text: str, *shown: str) -> bool:
    """Whether one of the texts has the very number of `text`."""
    number = decimal.Decimal(text)
    return number.is_nan() or any(number == decimal.Decimal(one) for one in shown)


def _timestamp_to_date(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    dates = values.cast(carrier)
    _must_equal(dates.cast(values.type), values, "time")
    return dates


def _must_equal(back: pa.Array, values: pa.Array, reason: str) -> None:
    """Compare what would be stored with what was given; NaN equals NaN, as a value that is kept."""
    other = pc.not_equal(back, values)
    if pa.types.is_floating(values.type):
        other = pc.and_not(other, pc.and_(pc.is_nan(back), pc.is_nan(values)))
    refuse(reason, other)


def _finer_unit(values: pa.Array, carrier: pa.DataType) -> None:
    finer_by = _UNITS.index(carrier.unit) - _UNITS.index(values.type.unit)
    if finer_by > 0:
        limit = (2**63 - 1) // 1000**finer_by
        counts = values.cast(pa.int64())
        refuse("range", pc.or_(pc.greater(counts, limit), pc.less(counts, -limit)))
        return
    coarse = values.cast(carrier, safe=False)
    _must_equal(coarse.cast(values.type, safe=False), values, "nanoseconds")


def _cut_seconds(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """Cut fractions of a second, to the moment before; a coarser unit may overflow a finer one, and is checked."""
    finer_by = _UNITS.index(values.type.unit) - _UNITS.index(carrier.unit)
    if finer_by <= 0 or not pa.types.is_timestamp(values.type):
        return values.cast(carrier, safe=finer_by <= 0)
    counts = pc.fill_null(values.cast(pa.int64()), 0).to_numpy() // 1000**finer_by
    return pa.array(counts, mask=values.is_null().to_numpy(zero_copy_only=False)).cast(carrier)


_UNITS = ("s", "ms", "us", "ns")


def _without_zone(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return _cut_seconds(values.cast(pa.timestamp(values.type.unit)), carrier)


def _cut_time_of_day(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return values.cast(carrier, safe=False)


def _integer_to_bool(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is not None and (bounds["min"] < 0 or bounds["max"] > 1):
        zero, one = (pa.scalar(number, values.type) for number in (0, 1))
        refuse("range", pc.or_(pc.less(values, zero), pc.greater(values, one)), "only 0 and 1 are booleans")
    return values.cast(carrier)


def _text_to_moment_problems(values: pa.Array, carrier: pa.DataType) -> None:
    refuse("nanoseconds", pc.match_substring_regex(values, FINER_THAN_MICROSECONDS))
    zoned = pc.match_substring_regex(values, ZONED)
    if carrier.tz is None:
        refuse("zone", zoned, "it has an offset from UTC, and the column has no time zone")
    else:
        clock = pc.match_substring_regex(values, r"^\s*\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?\s*$")
        refuse("zone", clock, "it has no offset from UTC: pass assume_timezone")


def _text_to_time(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    moments = pc.binary_join_element_wise("1970-01-01", values.cast(pa.string()), " ")
    try:
        return moments.cast(pa.timestamp("us")).cast(pa.time64("us")).cast(carrier, safe=True)
    except pa.ArrowInvalid:
        refuse("nanoseconds", pc.match_substring_regex(values, FINER_THAN_MICROSECONDS))
        raise


def _reading_without(pattern: str, rest: str = "") -> Callable[[Cast], Cast]:
    """What is left out of a text that is refused as it is, and read again; most texts have none of it."""

    def wrap(cast: Cast) -> Cast:
        def reading(values: pa.Array, carrier: pa.DataType) -> pa.Array:
            try:
                return cast(values, carrier)
            except (Unfit, pa.ArrowInvalid):
                shorter = pc.replace_substring_regex(values, pattern, rest)
                if shorter.equals(values):
                    raise
                return cast(shorter, carrier)

        return reading

    return wrap


trimmed = _reading_without(r"^\s+|\s+$")
_without_midnight = _reading_without(r"[ T]00:00(:00(\.0+)?)?$")
_without_zeros = _reading_without(r"(:\d\d)(?:\.0+|(\.\d*?[1-9])0+)(\D|$)", r"\1\2\3")
"""PostgreSQL reads a number between spaces too; a fraction of a second may have zeros that the column does not keep."""


EXACT: dict[tuple[str, str], Cast] = {
    ("int", "int"): _diagnosed(_integer_range),
    ("int", "float"): _integer_to_float,
    ("int", "decimal"): _integer_to_decimal,
    ("int", "bool"): _integer_to_bool,
    ("float", "int"): float_to_integer,
    ("float", "decimal"): _float_to_decimal,
    ("float", "float"): _narrow_float,
    ("decimal", "decimal"): _decimal_to_decimal,
    ("decimal", "int"): _decimal_to_integer,
    ("decimal", "float"): _decimal_to_float,
    ("string", "int"): trimmed(_diagnosed(_text_to_integer_problems)),
    ("string", "decimal"): trimmed(_text_to_decimal),
    ("string", "float"): trimmed(text_to_float),
    ("string", "date"): _without_midnight(arrow_cast),
    ("string", "time"): _without_zeros(_text_to_time),
    ("string", "timestamp"): _without_zeros(_diagnosed(_text_to_moment_problems)),
    ("string", "timestamptz"): _without_zeros(_diagnosed(_text_to_moment_problems)),
    ("date", "date"): _timestamp_to_date,
    ("timestamp", "date"): _timestamp_to_date,
    ("timestamp", "timestamp"): _diagnosed(_finer_unit),
    ("timestamptz", "timestamptz"): _diagnosed(_finer_unit),
    ("time", "time"): _diagnosed(_finer_unit),
    ("duration", "duration"): _diagnosed(_finer_unit),
}
"""Casts by family of source and carrier that keep every value or refuse it; for the others Arrow's own does."""

LOSSY: dict[tuple[str, str], Cast] = {
    ("float", "int"): _rounded_float_to_integer,
    ("decimal", "int"): _rounded_decimal_to_integer,
    ("float", "decimal"): _rounded_float_to_decimal,
    ("decimal", "decimal"): _rounded_decimal,
    ("string", "decimal"): trimmed(_rounded_text_to_decimal),
    ("float", "float"): _rounded_float,
    ("int", "float"): _rounded_integer_to_float,
    ("decimal", "float"): _rounded_decimal_to_float,
    ("string", "float"): trimmed(_parsed_floats),
    ("timestamp", "date"): _cut_time_of_day,
    ("timestamp", "timestamp"): _cut_seconds,
    ("timestamptz", "timestamptz"): _cut_seconds,
    ("timestamptz", "timestamp"): _without_zone,
    ("time", "time"): _cut_seconds,
    ("duration", "duration"): _cut_seconds,
}
"""Casts for casts="lossy": they round or cut what the column does not keep, and refuse what is out of its range."""
