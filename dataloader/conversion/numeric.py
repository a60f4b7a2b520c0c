"""Casts and checks of numbers."""

from __future__ import annotations

import decimal
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.casts import Cast, diagnosed, mask, must_equal, reading_without, refuse
from dataloader.conversion.violations import InvalidValues

DECIMAL128_DIGITS = 38
DECIMAL256_DIGITS = 76
_AWAY_FROM_ZERO = "half_towards_infinity"
_EXACT_FLOAT_INTEGERS = 2.0**53
NUMBER_TEXT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
PLAIN_NUMBER = r"(?i)^(-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?|nan|-?inf(inity)?)$"
"""As a number is written that is nothing else: 007, +5 and 0x1F may be codes."""
WRITTEN_INTEGER = r"^(-?[1-9]\d*|0)$"
WRITTEN_DECIMAL = r"^(-?[1-9]\d*(\.\d+)?|0(\.\d+)?|-0\.\d*[1-9]\d*)$"
"""As a number is written that a number gives back."""
WHOLE = r"^[+-]?\d+$"
NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"
_NUMBERS = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def _bounds(wanted: pa.DataType) -> tuple[int, int]:
    return -(2 ** (wanted.bit_width - 1)), 2 ** (wanted.bit_width - 1) - 1


def integer_range(values: pa.Array, wanted: pa.DataType) -> None:
    wide = values.cast(pa.decimal128(20, 0))
    low, high = (pa.scalar(decimal.Decimal(bound), wide.type) for bound in _bounds(wanted))
    refuse("range", pc.or_(pc.less(wide, low), pc.greater(wide, high)))


def _float_range(values: pa.Array, wanted: pa.DataType) -> None:
    values = values.cast(pa.float64())
    refuse("nan", pc.invert(pc.is_finite(values)))
    refuse("fraction", pc.not_equal(pc.trunc(values), values))
    low, high = _bounds(wanted)
    refuse("range", pc.or_(pc.less(values, float(low)), pc.greater_equal(values, float(high + 1))))


float_to_integer = diagnosed(_float_range)


def rounded_float_to_integer(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return float_to_integer(pc.round(values.cast(pa.float64()), round_mode="half_to_even"), wanted)


def without_ends(cast: Cast) -> Cast:
    """Read +5 and 1.0 as the integers that they are."""
    return reading_without(r"^(\s*)\+(\d)", r"\1\2")(reading_without(r"(\d)\.0*(\s*)$", r"\1\2")(cast))


def text_to_integer_problems(values: pa.Array, _wanted: pa.DataType) -> None:
    refuse("nan", pc.match_substring_regex(values, NOT_FINITE))
    whole = pc.match_substring_regex(values, WHOLE)
    number = pc.and_(pc.invert(whole), pc.match_substring_regex(values, NUMBER_TEXT))
    has_exponent = pc.match_substring(values, "e", ignore_case=True)
    refuse("fraction", pc.and_not(number, has_exponent))
    refuse("syntax", pc.and_(number, has_exponent), "it has an exponent, which an integer is written without")
    refuse("syntax", pc.invert(whole))


def rounded_text_to_integer(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return decimal_to_integer(rounded_text_to_decimal(values, pa.decimal128(20, 0)), wanted)


def check_written(texts: pa.Array) -> pa.Array:
    """Texts of a column that was made for numbers: what a number does not give back is refused.

    Few texts are odd, so the bytes are looked at first: four times faster than the expression.
    """
    if _may_be_odd(texts):
        odd = pc.invert(pc.match_substring_regex(texts, WRITTEN_DECIMAL))
        refuse("syntax", odd, "the column was made for numbers, and a number would not give it back: dtype= decides")
    return texts


def _may_be_odd(texts: pa.Array) -> bool:
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    starts, ends = bounds[:-1], bounds[1:]
    present = ends > starts
    if not present.any():
        return bool(pc.any(pc.equal(texts, "")).as_py())
    starts, ends = starts[present], ends[present]
    characters = np.frombuffer(data, np.uint8)
    if characters[bounds[0] : bounds[-1]].max() > ord("9"):
        return True
    first, last = characters[starts], characters[ends - 1]
    second = characters[np.minimum(starts + 1, ends - 1)]
    led_by_zero = (first == ord("0")) & (ends - starts > 1) & (second != ord("."))
    odd = led_by_zero | (first < ord("-")) | ((first == ord("-")) & (second == ord("0"))) | (last < ord("0"))
    return bool(odd.any() or (first == ord(".")).any())


def read_decimal_comma(texts: pa.Array) -> pa.Array:
    """Numbers with a decimal comma as they are written with a point; a point in them could separate thousands."""
    refuse("syntax", pc.match_substring(texts, "."), "it has a point where the file has decimal commas")
    return pc.replace_substring(texts, ",", ".", max_replacements=1)


def _must_have_room(values: pa.Array, wanted: pa.DataType) -> None:
    """Arrow's rescaling of decimals overflows in silence, so the digits before the point are counted first."""
    room = wanted.precision - wanted.scale
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is None or max(abs(bounds["min"]), abs(bounds["max"])) < 10**room:
        return
    scale = getattr(values.type, "scale", 0)
    wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, scale))
    limit = pa.scalar(decimal.Decimal(10**room), wide.type)
    refuse("range", pc.greater_equal(pc.abs(wide), limit), f"it has more than {room} digits before the point")


def integer_to_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    wide = values.cast(pa.decimal128(20, 0))
    _must_have_room(wide, wanted)
    # Arrow asks for 19 + scale digits before it looks at a value; through 20 digits it looks.
    return wide.cast(wanted, safe=True)


_rescaled = diagnosed(lambda values, wanted: _must_keep_digits(values, wanted.scale))


def decimal_to_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    _must_have_room(values, wanted)
    return _rescaled(values, wanted)


def _must_keep_digits(values: pa.Array, scale: int, reason: str = "digits") -> None:
    if values.type.scale > scale:
        rounded: Any = pa.scalar(decimal.Decimal(0), values.type)
        if values.type.precision + scale > values.type.scale:  # Arrow rounds to no fewer than one digit
            rounded = pc.round(values, ndigits=scale, round_mode="towards_zero")
        refuse(reason, pc.not_equal(rounded, values), f"it has more than {scale} decimal places")


def rounded_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    if values.type.scale > wanted.scale:
        wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, values.type.scale))
        values = pc.round(wide, ndigits=wanted.scale, round_mode=_AWAY_FROM_ZERO)
    return decimal_to_decimal(values, wanted)


def decimal_to_integer(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    _must_keep_digits(values, 0, "fraction")
    whole = values.cast(pa.decimal256(DECIMAL256_DIGITS, 0), safe=True)
    _must_have_room(whole, pa.decimal128(20, 0))
    narrow = whole.cast(pa.decimal128(20, 0))
    low, high = (pa.scalar(decimal.Decimal(bound), narrow.type) for bound in _bounds(wanted))
    refuse("range", pc.or_(pc.less(narrow, low), pc.greater(narrow, high)))
    # Arrow takes 20 digits for too many before it looks at a value; as text it looks.
    return narrow.cast(pa.string()).cast(wanted, safe=True)


def rounded_decimal_to_integer(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    if values.type.scale > 0:
        wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, values.type.scale))
        values = pc.round(wide, ndigits=0, round_mode=_AWAY_FROM_ZERO)
    return decimal_to_integer(values, wanted)


def text_to_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Arrow reads decimals from text right as long as no intermediate overflows; most columns are far from it."""
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    is_short = longest + wanted.scale <= DECIMAL128_DIGITS
    if is_short and not pc.any(pc.match_substring(values, "e", ignore_case=True)).as_py():
        return diagnosed(_text_to_decimal_problems)(values, wanted)
    return _long_text_to_decimal(values, wanted)


def _text_to_decimal_problems(values: pa.Array, wanted: pa.DataType) -> None:
    refuse("nan", pc.match_substring_regex(values, NOT_FINITE))
    refuse("syntax", pc.invert(pc.match_substring_regex(values, NUMBER_TEXT)))
    room = wanted.precision - wanted.scale
    too_large = pc.greater_equal(pc.abs(values.cast(pa.float64())), 10.0**room)
    refuse("range", too_large, f"it has more than {room} digits before the point")


def _long_text_to_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    room = wanted.precision - wanted.scale
    refuse("nan", pc.match_substring_regex(values, NOT_FINITE))
    refuse("syntax", pc.invert(pc.match_substring_regex(values, NUMBER_TEXT)))
    floats = values.cast(pa.float64())
    too_large = pc.greater_equal(pc.abs(floats), 10.0**room * 2)
    refuse("range", too_large, f"it has more than {room} digits before the point")
    wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, wanted.scale), safe=True)
    vanished = pc.and_(pc.equal(wide, pa.scalar(0, wide.type)), pc.not_equal(floats, 0.0))
    refuse("digits", vanished, f"it has more than {wanted.scale} decimal places")
    return decimal_to_decimal(wide, wanted)


def rounded_text_to_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    try:
        return text_to_decimal(values, wanted)
    except (InvalidValues, pa.ArrowInvalid):
        _text_to_decimal_problems(values, wanted)
    unit, many = decimal.Decimal(1).scaleb(-wanted.scale), decimal.Context(prec=2_000, rounding=decimal.ROUND_HALF_UP)
    rounded = [
        None if text is None else decimal.Decimal(text).quantize(unit, context=many) for text in values.to_pylist()
    ]
    limit = decimal.Decimal(10) ** (wanted.precision - wanted.scale)
    refuse("range", pa.array([one is not None and abs(one) >= limit for one in rounded], pa.bool_()))
    return pa.array(rounded, wanted)


def float_to_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """A float means the decimal that repr() shows.

    Division of two exact floats is correctly rounded: if whole / 10**scale gives the float back, then
    whole is the nearest decimal's digits. Six times faster than Arrow's cast, which rounds besides.
    """
    if values.type.equals(pa.float64()) and pa.types.is_decimal128(wanted):
        floats = values.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore", over="ignore"):
            power = 10.0**wanted.scale
            whole = np.rint(floats * power)
            limit = min(_EXACT_FLOAT_INTEGERS, 10.0**wanted.precision)
            exact = (whole / power == floats) & (np.abs(whole) < limit)
        if exact.all() or (exact | values.is_null().to_numpy(zero_copy_only=False)).all():
            return _decimals(whole, values, wanted)
    return text_to_decimal(values.cast(pa.string()), wanted)


def _decimals(whole: np.ndarray, values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Decimals of these digits, null where `values` are: sixteen bytes each, the lower half first."""
    halves = np.empty((len(whole), 2), np.int64)
    halves[:, 0] = np.nan_to_num(whole) if values.null_count else whole
    halves[:, 1] = halves[:, 0] >> 63
    validity = pc.is_valid(values).buffers()[1] if values.null_count else None
    return pa.Array.from_buffers(wanted, len(whole), [validity, pa.py_buffer(halves)])


def rounded_float_to_decimal(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return rounded_text_to_decimal(values.cast(pa.string()), wanted)


def narrow_float(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    wide = values.cast(pa.float64())
    narrow = wide.cast(wanted)
    _must_not_overflow(wide, narrow)
    must_equal(narrow.cast(pa.float64()), wide, "digits")
    return narrow


def rounded_integer_to_float(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return values.cast(wanted, safe=False)


def rounded_float(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    wide = values.cast(pa.float64(), safe=False)
    narrow = wide.cast(wanted)
    _must_not_overflow(wide, narrow)
    return narrow


def _must_not_overflow(wide: pa.Array, narrow: pa.Array) -> None:
    refuse("range", pc.and_(pc.is_inf(narrow), pc.is_finite(wide)))


def integer_to_float(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    try:
        return values.cast(wanted, safe=True)
    except pa.ArrowInvalid:
        # Whole numbers beyond 2**53 are floats too where their low bits are zero.
        floats = values.cast(wanted, safe=False)
        back = floats.cast(pa.float64()).cast(pa.decimal256(DECIMAL256_DIGITS, 0))
        must_equal(back, values.cast(back.type), "digits")
        return floats


def decimal_to_float(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """A decimal fits a float that shows the same digits again; Arrow's own cast is not correctly rounded."""
    floats = values.cast(pa.string()).cast(pa.float64())
    digits = text_to_decimal(floats.cast(pa.string()), pa.decimal256(DECIMAL256_DIGITS, max(values.type.scale, 0)))
    must_equal(digits, values.cast(digits.type), "digits")
    return floats if wanted.equals(pa.float64()) else narrow_float(floats, wanted)


def rounded_decimal_to_float(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return parsed_floats(values.cast(pa.string()), wanted)


def text_to_float(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """A number in text fits a float that shows its digits again, at its shortest or with all that it has."""
    floats = parsed_floats(values, wanted)
    shortest = floats.cast(pa.string())
    differing = pc.fill_null(pc.not_equal(shortest, values.cast(pa.string())), False)
    digits = 17 if wanted.equals(pa.float64()) else 9
    columns = (column.filter(differing).to_pylist() for column in (values, shortest, floats))
    kept = iter([shows(text, short, f"{number:.{digits}g}") for text, short, number in zip(*columns, strict=True)])
    refuse("digits", pa.array([bool(odd) and not next(kept) for odd in differing.to_pylist()], pa.bool_()))
    return floats


def parsed_floats(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    def diagnose(values: pa.Array, _wanted: pa.DataType) -> None:
        number = pc.or_(pc.match_substring_regex(values, NUMBER_TEXT), pc.match_substring_regex(values, NOT_FINITE))
        refuse("syntax", pc.invert(number))

    floats = diagnosed(diagnose)(values, wanted)
    refuse("range", pc.and_(pc.is_inf(floats), pc.match_substring_regex(values, r"\d")))
    return floats


def shows(text: str, *shown: str) -> bool:
    """Whether one of the texts has the very number of `text`."""
    number = decimal.Decimal(text)
    return number.is_nan() or any(number == decimal.Decimal(one) for one in shown)


def has_more_digits(text: str) -> bool:
    numbers = _NUMBERS.findall(text)
    return not all(shows(number, repr(float(number)), f"{float(number):.17g}") for number in numbers)


def integer_to_bool(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is not None and (bounds["min"] < 0 or bounds["max"] > 1):
        zero, one = (pa.scalar(number, values.type) for number in (0, 1))
        refuse("range", pc.or_(pc.less(values, zero), pc.greater(values, one)), "only 0 and 1 are booleans")
    return values.cast(wanted)


def check_money(amounts: pa.Array) -> pa.Array:
    """PostgreSQL keeps money as a 64-bit count of its smallest unit."""
    limit = decimal.Decimal(2**63 - 1).scaleb(-amounts.type.scale)
    bounds = pc.min_max(amounts).as_py()
    if bounds["min"] is not None and max(bounds["max"], -bounds["min"]) > limit:
        refuse("range", pc.greater(pc.abs(amounts), pa.scalar(limit, amounts.type)))
    return amounts


def check_not_nan(values: pa.Array) -> pa.Array:
    refuse("nan", pc.is_nan(values), "the database has no NaN, and NULL is another value")
    return values


def check_float_digits(texts: pa.Array) -> pa.Array:
    """Geometric types keep float8 coordinates: every number must be one that a float8 shows."""
    refuse("digits", mask(texts, has_more_digits))
    return texts
