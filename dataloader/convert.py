"""Per-column conversions: a batch of the source becomes a batch of the plan's carriers, or names the bad value.

Every conversion either keeps a value or raises: Arrow's checked casts where they do, our own check where
Arrow would round, overflow or drop a part in silence.
"""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.errors import UnsupportedType, ValidationError
from dataloader.infer import one_line, to_json
from dataloader.plan import ColumnPlan, check_cast
from dataloader.schema import DECIMAL128_DIGITS, DECIMAL256_DIGITS, family

Cast = Callable[[pa.Array, pa.DataType], pa.Array]

SHOWN_CHARACTERS = 40
_EXACT_FLOAT_INTEGERS = 2.0**53
_REFUSALS = (pa.ArrowException, ValueError, TypeError, KeyError, decimal.InvalidOperation)
"""What a conversion raises for a value that does not fit; Arrow's own errors and Python's."""


class Converter:
    """Turns batches of the source into batches whose columns have the plan's carriers."""

    def __init__(self, columns: tuple[ColumnPlan, ...]) -> None:
        self._columns = columns
        self._schema = pa.schema([pa.field(column.name, column.carrier) for column in columns])

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        """Convert a batch whose first row is the source's row `first_row`.

        Raises
        ------
        ValidationError
            For the first value, column by column, that would change.
        """
        arrays = [
            convert_column(column, values, first_row)
            for column, values in zip(self._columns, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def convert_column(column: ColumnPlan, values: pa.Array, first_row: int) -> pa.Array:
    """Convert one column, or raise ValidationError for its first value that does not fit."""
    values = unwrapped(values)
    if values.type.equals(column.carrier) and not _is_limited(column):
        return values
    check_cast(column.name, values.type, column.target)
    cast = _cast_for(values.type, column)
    try:
        return cast(values, column.carrier)
    except pa.ArrowNotImplementedError as error:
        what = f"column {column.name!r}: {values.type} cannot be converted for {column.target}"
        raise UnsupportedType(what, hint="Convert the column in the source, for example to text.") from error
    except _REFUSALS as error:
        raise _violation(column, cast, values, first_row, error) from error


def unwrapped(values: pa.Array) -> pa.Array:
    """The values in a form that has every cast: dictionaries and runs decoded, views and small decimals widened."""
    if pa.types.is_dictionary(values.type):
        return unwrapped(values.dictionary).take(values.indices)
    if pa.types.is_run_end_encoded(values.type):
        return unwrapped(pc.run_end_decode(values))
    if isinstance(values.type, pa.JsonType):
        return unwrapped(values.storage)
    if isinstance(values.type, pa.Bool8Type):
        return values.storage.cast(pa.bool_())
    if pa.types.is_decimal32(values.type) or pa.types.is_decimal64(values.type):
        return values.cast(pa.decimal128(values.type.precision, values.type.scale))
    view = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(values.type)
    return values if view is None else values.cast(view)


def _violation(column: ColumnPlan, cast: Cast, values: pa.Array, first_row: int, error: Exception) -> ValidationError:
    position = _first_refused(cast, values, column.carrier)
    value = _shown(values[position])
    row = first_row + position
    return ValidationError(
        f"row {row}, column {column.name!r}: {value} does not fit {column.target}",
        hint=f"Nothing was written. Correct the value or the column's type ({one_line(error)[:200]}).",
        column=column.name,
        row=row,
        value=value,
    )


def _shown(value: pa.Scalar) -> str:
    try:
        return repr(value.as_py())[:SHOWN_CHARACTERS]
    except (OverflowError, ValueError):  # a moment that Python's datetime cannot hold
        return f"{value.value} {value.type}"


def _first_refused(cast: Cast, values: pa.Array, carrier: pa.DataType) -> int:
    """Halve the column until one row is left; the first bad one is always in [low, high)."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast(values.slice(low, middle - low), carrier)
            low = middle
        except _REFUSALS:
            high = middle
    return low


def _cast_for(source: pa.DataType, column: ColumnPlan) -> Cast:
    cast = _CASTS.get((family(source) or "", _carried(column)), _arrow_cast)
    if cast is _uuid_to_text and column.target.sql.upper() == "CHAR(32)":
        cast = _uuid_to_hex
    if not _is_limited(column):
        return cast

    def cast_and_check(values: pa.Array, carrier: pa.DataType) -> pa.Array:
        length = column.target.length
        converted = cast(values, carrier)
        return _without_nan(converted) if length is None else _within(length, converted)

    return cast_and_check


def _is_limited(column: ColumnPlan) -> bool:
    """Whether the column refuses values that its carrier holds."""
    has_nan = pa.types.is_floating(column.carrier) and not column.target.keeps_nan
    return has_nan or column.target.length is not None


def _carried(column: ColumnPlan) -> str:
    return "uuid" if column.target.kind == "uuid" else family(column.carrier) or ""


def _arrow_cast(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return values.cast(carrier, safe=True)


def _within(length: int, values: pa.Array) -> pa.Array:
    longest = pc.max(pc.utf8_length(values)).as_py()
    if longest is not None and longest > length:
        raise ValueError(f"{longest} characters, and {length} are allowed")
    return values


def _without_nan(values: pa.Array) -> pa.Array:
    if pc.any(pc.is_nan(values)).as_py():
        raise ValueError("the database has no NaN, and NULL is another value")
    return values


def _must_have_room(values: pa.Array, carrier: pa.DataType) -> None:
    """Arrow's rescaling of decimals overflows in silence, so the digits before the point are counted first."""
    bounds = pc.min_max(values).as_py()
    limit = 10 ** (carrier.precision - carrier.scale)
    if bounds["min"] is not None and max(abs(bounds["min"]), abs(bounds["max"])) >= limit:
        raise ValueError(f"it has more than {carrier.precision - carrier.scale} digits before the point")


def _integer_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    _must_have_room(values, carrier)
    # Arrow asks for 19 + scale digits before it looks at a value; through 20 digits it looks.
    return values.cast(pa.decimal128(20, 0)).cast(carrier, safe=True)


def _decimal_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    _must_have_room(values, carrier)
    return values.cast(carrier, safe=True)


def _decimal_to_integer(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    whole = values.cast(pa.decimal256(DECIMAL256_DIGITS, 0), safe=True)
    _must_have_room(whole, pa.decimal128(20, 0))
    # Arrow takes 20 digits for too many before it looks at a value; as text it looks.
    return whole.cast(pa.decimal128(20, 0)).cast(pa.string()).cast(carrier, safe=True)


def _text_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """Arrow reads decimals from text right as long as no intermediate overflows; most columns are far from it."""
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if (
        longest + carrier.scale <= DECIMAL128_DIGITS
        and not pc.any(pc.match_substring(values, "e", ignore_case=True)).as_py()
    ):
        return values.cast(carrier, safe=True)
    floats = values.cast(pa.float64())
    if pc.any(pc.greater_equal(pc.abs(floats), 10.0 ** (carrier.precision - carrier.scale) * 2)).as_py():
        raise ValueError(f"it has more than {carrier.precision - carrier.scale} digits before the point")
    wide = values.cast(pa.decimal256(DECIMAL256_DIGITS, carrier.scale), safe=True)
    if pc.any(pc.and_(pc.equal(wide, pa.scalar(0, wide.type)), pc.not_equal(floats, 0.0))).as_py():
        raise ValueError("it has more digits after the point than the column keeps")
    return _decimal_to_decimal(wide, carrier)


def _float_to_decimal(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """A float means the decimal that repr() shows. Arrow's direct cast rounds, so it is only a fast path.

    Division of two exact floats is correctly rounded: if whole / 10**scale gives the float back, then
    whole is the decimal nearest to it and the cast found that one.
    """
    values = values.cast(pa.float64())
    power = 10.0**carrier.scale
    whole = pc.round(pc.multiply(values, power))
    exact = pc.and_(
        pc.equal(pc.divide(whole, power), values),
        pc.less(pc.abs(whole), _EXACT_FLOAT_INTEGERS),
    )
    if pc.all(exact).as_py() is not False:
        return values.cast(carrier, safe=True)
    return _text_to_decimal(values.cast(pa.string()), carrier)


def _narrow_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    wide = values.cast(pa.float64())
    narrow = wide.cast(carrier)
    _must_equal(narrow.cast(pa.float64()), wide, "it has more digits than the column keeps")
    return narrow


def _decimal_to_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """A decimal fits a float that shows the same digits again; Arrow's own cast is not correctly rounded."""
    floats = values.cast(pa.string()).cast(pa.float64())
    digits = _text_to_decimal(floats.cast(pa.string()), pa.decimal256(DECIMAL256_DIGITS, max(values.type.scale, 0)))
    _must_equal(digits, values.cast(digits.type), "it has more digits than the column keeps")
    return floats if carrier.equals(pa.float64()) else _narrow_float(floats, carrier)


def _text_to_float(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """A number in text fits a float that shows its digits again, at its shortest or with all that it has."""
    floats = values.cast(carrier)
    shortest = floats.cast(pa.string())
    differing = pc.not_equal(shortest, values.cast(pa.string()))
    digits = 17 if carrier.equals(pa.float64()) else 9
    columns = (column.filter(differing).to_pylist() for column in (values, shortest, floats))
    for text, short, number in zip(*columns, strict=True):
        if not _shows(text, short, f"{number:.{digits}g}"):
            raise ValueError("it has more digits than the column keeps")
    return floats


def _shows(text: str, *shown: str) -> bool:
    number = decimal.Decimal(text)
    return number.is_nan() or any(number == decimal.Decimal(one) for one in shown)


def _timestamp_to_date(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    dates = values.cast(carrier)
    _must_equal(dates.cast(values.type), values, "it has a time of day, which a date does not keep")
    return dates


def _must_equal(back: pa.Array, values: pa.Array, problem: str) -> None:
    """Compare what would be stored with what was given; NaN equals NaN, as a value that is kept."""
    same = pc.equal(back, values)
    if pa.types.is_floating(values.type):
        same = pc.or_(same, pc.and_(pc.is_nan(back), pc.is_nan(values)))
    if pc.all(same).as_py() is False:
        raise ValueError(problem)


def _integer_to_bool(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is not None and (bounds["min"] < 0 or bounds["max"] > 1):
        raise ValueError("only 0 and 1 are booleans")
    return values.cast(carrier)


def _text_to_time(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    moments = pc.binary_join_element_wise("1970-01-01", values.cast(pa.string()), " ").cast(pa.timestamp("us"))
    return moments.cast(pa.time64("us")).cast(carrier, safe=True)


def _text_to_uuid(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    texts = values.to_pylist()
    return pa.array([None if text is None else uuid.UUID(text).bytes for text in texts], carrier)


def _uuid_to_bytes(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return values.storage.cast(carrier)


def to_text(values: pa.Array) -> pa.Array:
    """Arrow's text of the values; a moment as UTC, which is twenty times faster than through its zone."""
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        utc = values.cast(pa.timestamp(values.type.unit)).cast(pa.string())
        return pc.binary_join_element_wise(utc, "+00:00", "")
    return values.cast(pa.string())


def _moment_to_text(values: pa.Array, _carrier: pa.DataType) -> pa.Array:
    return to_text(values)


def _uuid_to_text(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    return pa.array([None if one is None else str(one) for one in values.to_pylist()], carrier)


def _uuid_to_hex(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    """The form in which SQLAlchemy keeps a Uuid where the database has none."""
    return pa.array([None if one is None else one.hex for one in values.to_pylist()], carrier)


def _nested_to_json(values: pa.Array, carrier: pa.DataType) -> pa.Array:
    objects = values.to_pylist(maps_as_pydicts="strict")
    return pa.array([None if one is None else to_json(one) for one in objects], carrier)


_CASTS: dict[tuple[str, str], Cast] = {
    ("int", "decimal"): _integer_to_decimal,
    ("int", "bool"): _integer_to_bool,
    ("float", "decimal"): _float_to_decimal,
    ("decimal", "decimal"): _decimal_to_decimal,
    ("decimal", "int"): _decimal_to_integer,
    ("string", "decimal"): _text_to_decimal,
    ("string", "float"): _text_to_float,
    ("float", "float"): _narrow_float,
    ("decimal", "float"): _decimal_to_float,
    ("timestamp", "date"): _timestamp_to_date,
    ("timestamptz", "string"): _moment_to_text,
    ("string", "time"): _text_to_time,
    ("string", "uuid"): _text_to_uuid,
    ("uuid", "uuid"): _uuid_to_bytes,
    ("uuid", "string"): _uuid_to_text,
    ("nested", "string"): _nested_to_json,
}
"""Casts by family of source and carrier, where Arrow's own checked cast is missing or not checked."""
