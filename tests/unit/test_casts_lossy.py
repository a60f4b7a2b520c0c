"""casts="lossy": what the column does not keep is rounded as PostgreSQL rounds it, or cut; all else is refused."""

from __future__ import annotations

import datetime
import decimal
import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataloader.conversion.column_types import arrow_type, parse_type
from dataloader.conversion.converter import Converted, Converter
from dataloader.conversion.rules import ColumnPlan, cast_rule, column_plan

UTC = datetime.UTC
WIDE = decimal.Context(prec=400)


def converted(values: pa.Array, sql: str, dialect: str = "postgresql") -> Converted:
    target = parse_type(sql, dialect)
    found, chosen = cast_rule(values.type, target), arrow_type(target, values.type)
    verdict = found.verdict if found.loses is None else "lossy"
    plan = ColumnPlan("c", values.type, target, chosen or pa.string(), chosen is None, verdict)
    return Converter((plan,))(pa.RecordBatch.from_arrays([values], names=["c"]), 0)


def kept(values: pa.Array, sql: str, dialect: str = "postgresql") -> list[Any]:
    found = converted(values, sql, dialect)
    assert found.violations == []
    return found.batch["c"].to_pylist()


def reasons(values: pa.Array, sql: str, dialect: str = "postgresql") -> list[tuple[int, str]]:
    return [(one.row, one.reason) for one in converted(values, sql, dialect).violations]


def rounded(value: Decimal, scale: int) -> Decimal:
    """As PostgreSQL rounds a numeric: half away from zero."""
    return value.quantize(Decimal(1).scaleb(-scale), decimal.ROUND_HALF_UP, WIDE)


MOMENT = datetime.datetime(2024, 5, 17, 10, 30, 15, 987654)
ROUNDED: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "float into integer, half to even": (
        pa.array([0.5, 1.5, 2.5, -0.5, -2.5, None]),
        "integer",
        [0, 2, 2, 0, -2, None],
    ),
    "float into integer": (pa.array([3.7, -3.7, 3.2, 1e-300]), "integer", [4, -4, 3, 0]),
    "float16 into integer": (pa.array(np.array([2.5, 3.5], "float16")), "integer", [2, 4]),
    "decimal into integer, half away from zero": (
        pa.array([Decimal("0.5"), Decimal("2.5"), Decimal("-2.5"), Decimal("-0.4"), None]),
        "integer",
        [1, 3, -3, 0, None],
    ),
    "decimal into numeric, half away from zero": (
        pa.array([Decimal("0.12345"), Decimal("-0.12345"), Decimal("0.12344"), None]),
        "numeric(12,4)",
        [Decimal("0.1235"), Decimal("-0.1235"), Decimal("0.1234"), None],
    ),
    "float into numeric as repr shows it": (
        pa.array([1.00005, 0.12345, 2.675, 0.1, -1.5, None]),
        "numeric(12,4)",
        [Decimal(text) for text in ("1.0001", "0.1235", "2.675", "0.1", "-1.5")] + [None],
    ),
    "float32 into numeric as repr shows it": (pa.array([0.1], pa.float32()), "numeric(12,1)", [Decimal("0.1")]),
    "text into numeric": (
        pa.array(["0.12345", " -0.12345 ", "1e-3", "1", None]),
        "numeric(12,4)",
        [Decimal(text) for text in ("0.1235", "-0.1235", "0.001", "1")] + [None],
    ),
    "decimal into money": (pa.array([Decimal("3.755")]), "money", [Decimal("3.76")]),
    "float64 into real": (pa.array([0.1, 16777217.0, 1e-50, None]), "real", [np.float32(0.1), 16777216.0, 0.0, None]),
    "integer into double": (pa.array([2**53 + 1, None]), "double precision", [2.0**53, None]),
    "integer into real": (pa.array([2**24 + 1]), "real", [2.0**24]),
    "decimal into double": (pa.array([Decimal("0.12345678901234567890")]), "double precision", [0.12345678901234568]),
    "text into double": (
        pa.array(["0.12345678901234567890", "1e-400"]),
        "double precision",
        [0.12345678901234568, 0.0],
    ),
    "text into real": (pa.array(["0.1"]), "real", [np.float32(0.1)]),
    "text into integer, half away from zero": (
        pa.array(["3.7", " -2.5 ", "1e3", "+1.4", "2147483646.6", "1.0", None]),
        "integer",
        [4, -3, 1000, 1, 2147483647, 1, None],
    ),
    "text into timestamp": (
        pa.array(["2024-01-01 10:00:00.123456789", "1965-01-01T10:00:00.9999999", "2024-01-01", None]),
        "timestamp",
        [
            datetime.datetime(2024, 1, 1, 10, 0, 0, 123456),
            datetime.datetime(1965, 1, 1, 10, 0, 0, 999999),
            datetime.datetime(2024, 1, 1),
            None,
        ],
    ),
    "text into timestamp(0)": (
        pa.array(["1965-01-01 10:00:00.9999999"]),
        "timestamp(0)",
        [datetime.datetime(1965, 1, 1, 10)],
    ),
    "aware text into timestamptz(3)": (
        pa.array(["2024-01-01 10:00:00.987654321+02:00"]),
        "timestamptz(3)",
        [datetime.datetime(2024, 1, 1, 8, 0, 0, 987000, UTC)],
    ),
    "text into time": (pa.array(["10:30:15.9876543"]), "time", [datetime.time(10, 30, 15, 987654)]),
    "text with a time of day into date": (
        pa.array(["2024-01-01 10:00", "1969-12-31T23:59:59.9", "2024-01-01"]),
        "date",
        [datetime.date(2024, 1, 1), datetime.date(1969, 12, 31), datetime.date(2024, 1, 1)],
    ),
    "time of day into date": (
        pa.array([MOMENT, datetime.datetime(1969, 12, 31, 23, 59), datetime.datetime(1969, 12, 31), None]),
        "date",
        [MOMENT.date(), datetime.date(1969, 12, 31), datetime.date(1969, 12, 31), None],
    ),
    "nanoseconds into timestamp": (
        pa.array([1_999, None], pa.timestamp("ns")),
        "timestamp",
        [datetime.datetime(1970, 1, 1, 0, 0, 0, 1), None],
    ),
    "nanoseconds into timestamptz": (
        pa.array([1_999], pa.timestamp("ns", "Asia/Tokyo")),
        "timestamptz",
        [datetime.datetime(1970, 1, 1, 0, 0, 0, 1, UTC)],
    ),
    "microseconds into timestamp(3)": (pa.array([MOMENT]), "timestamp(3)", [MOMENT.replace(microsecond=987000)]),
    "aware into timestamp": (
        pa.array([MOMENT.replace(tzinfo=UTC), None], pa.timestamp("us", "Asia/Tokyo")),
        "timestamp",
        [MOMENT, None],
    ),
    "aware nanoseconds into timestamp(0)": (
        pa.array([1_999_999_999], pa.timestamp("ns", "Asia/Tokyo")),
        "timestamp(0)",
        [datetime.datetime(1970, 1, 1, 0, 0, 1)],
    ),
    "nanoseconds into time": (pa.array([1_999], pa.time64("ns")), "time", [datetime.time(0, 0, 0, 1)]),
    "microseconds into time(0)": (pa.array([MOMENT.time()]), "time(0)", [datetime.time(10, 30, 15)]),
    "nanoseconds into interval": (
        pa.array([1_999], pa.duration("ns")),
        "interval",
        [datetime.timedelta(microseconds=1)],
    ),
    "microseconds into interval(0)": (
        pa.array([1_999_999], pa.duration("us")),
        "interval(0)",
        [datetime.timedelta(seconds=1)],
    ),
}


@pytest.mark.parametrize(("values", "sql", "expected"), ROUNDED.values(), ids=ROUNDED)
def test_what_the_column_does_not_keep_is_rounded_or_cut(values: pa.Array, sql: str, expected: list[Any]) -> None:
    assert kept(values, sql) == expected


REFUSED: dict[str, tuple[pa.Array, str, str]] = {
    "above integer": (pa.array([2147483648.0]), "integer", "range"),
    "rounded above smallint": (pa.array([32767.5]), "smallint", "range"),
    "decimal rounded above smallint": (pa.array([Decimal("32767.5")]), "smallint", "range"),
    "decimal below bigint": (pa.array([Decimal(-(2**63) - 1)]), "bigint", "range"),
    "integer above smallint": (pa.array([40000]), "smallint", "range"),
    "NaN into integer": (pa.array([math.nan]), "integer", "nan"),
    "infinity into integer": (pa.array([-math.inf]), "integer", "nan"),
    "NaN into numeric": (pa.array([math.nan]), "numeric(12,4)", "nan"),
    "infinity into numeric": (pa.array([math.inf]), "numeric(12,4)", "nan"),
    "NaN in text into numeric": (pa.array(["NaN"]), "numeric(12,4)", "nan"),
    "float rounded above numeric": (pa.array([99999999.99995]), "numeric(12,4)", "range"),
    "decimal rounded above numeric": (pa.array([Decimal("99999999.99995")]), "numeric(12,4)", "range"),
    "text rounded above numeric": (pa.array(["-99999999.99995"]), "numeric(12,4)", "range"),
    "above money": (pa.array([Decimal("92233720368547758.075")]), "money", "range"),
    "word into numeric": (pa.array(["many"]), "numeric(12,4)", "syntax"),
    "word into double": (pa.array(["many"]), "double precision", "syntax"),
    "float above real": (pa.array([1e39]), "real", "range"),
    "text above double": (pa.array(["1e400"]), "double precision", "range"),
    "decimal above real": (pa.array([Decimal(10**40)], pa.decimal256(50, 0)), "real", "range"),
    "a fraction in text above integer": (pa.array(["2147483647.5"]), "integer", "range"),
    "2 into bool": (pa.array([2]), "boolean", "range"),
    "too many characters": (pa.array(["abcd"]), "varchar(3)", "length"),
    "NUL": (pa.array(["a\0b"]), "text", "nul"),
    "no JSON": (pa.array(["{"]), "jsonb", "syntax"),
    "a year after all of PostgreSQL's": (pa.array([2**62], pa.timestamp("ms")), "timestamp", "range"),
    "an aware year after all of PostgreSQL's": (pa.array([2**62], pa.timestamp("ms", "UTC")), "timestamp", "range"),
    "a duration beyond interval": (pa.array([2**62], pa.duration("s")), "interval", "range"),
    "an offset in text into timestamp": (pa.array(["2024-01-01 00:00:00+02"]), "timestamp", "zone"),
    "an aware moment's text into date": (pa.array(["2024-01-01 10:00:00Z"]), "date", "syntax"),
    "no time of day in text into date": (pa.array(["2024-01-01 25:00"]), "date", "syntax"),
}


@pytest.mark.parametrize(("values", "sql", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_rounding_does_not_make_fit_is_refused(values: pa.Array, sql: str, reason: str) -> None:
    assert reasons(values, sql) == [(0, reason)]


def test_a_label_that_the_enum_lacks_is_refused() -> None:
    plan = ColumnPlan("c", pa.string(), parse_type("mood", "postgresql", ("sad",)), pa.string(), False, "lossy")
    found = Converter((plan,))(pa.record_batch({"c": ["sad", "Sad", None]}), 0)
    assert [(one.row, one.reason) for one in found.violations] == [(1, "label")]


def test_nan_in_sqlite_is_refused() -> None:
    assert reasons(pa.array([0.5, math.nan, None, 0.25]), "REAL", "sqlite") == [(1, "nan")]
    assert reasons(pa.array([math.nan]), "NUMERIC", "sqlite") == [(0, "nan")]


def test_values_that_do_not_fit_are_found_among_those_that_are_rounded() -> None:
    values = pa.array([0.5, 1e10, None, math.nan, 2.5, -1e10, 3.5])
    found = converted(values, "integer")
    assert sorted((one.row, one.reason) for one in found.violations) == [(1, "range"), (3, "nan"), (5, "range")]
    assert found.batch["c"].to_pylist() == [0, None, 2, 4]
    assert found.rows.tolist() == [0, 2, 4, 6]


FINITE = st.floats(allow_nan=False, allow_infinity=False)
PRICES = st.decimals(-(10**9), 10**9, places=6).map(float)


@settings(deadline=None)
@given(st.one_of(FINITE, PRICES, st.integers(-(10**5), 10**5).map(lambda number: number / 2)))
def test_a_float_becomes_the_nearest_integer_or_is_out_of_range(value: float) -> None:
    if -(2**31) <= round(value) < 2**31:
        assert kept(pa.array([value]), "integer") == [round(value)]
    else:
        assert reasons(pa.array([value]), "integer") == [(0, "range")]


def assert_rounded(values: pa.Array, meant: Decimal, precision: int, scale: int) -> None:
    expected = rounded(meant, scale)
    if abs(expected) < Decimal(10) ** (precision - scale):
        assert kept(values, f"numeric({precision},{scale})") == [expected]
    else:
        assert reasons(values, f"numeric({precision},{scale})") == [(0, "range")]


SIZES = st.sampled_from([(12, 4), (5, 0), (38, 10), (3, 3), (20, 2), (60, 10)])


@settings(deadline=None)
@given(st.one_of(PRICES, FINITE), SIZES)
@example(1e-50, (12, 4))
@example(5e-324, (12, 4))
@example(1e39, (45, 2))
@example(2.5, (5, 0))
@example(1.00005, (12, 4))
def test_a_float_becomes_the_rounded_decimal_that_repr_shows(value: float, size: tuple[int, int]) -> None:
    assert_rounded(pa.array([value]), Decimal(repr(value)), *size)


@settings(deadline=None)
@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(0, 38), SIZES)
@example(5 * 10**34, 35, (38, 10))
def test_a_decimal_is_rounded_half_away_from_zero(digits: int, scale: int, size: tuple[int, int]) -> None:
    value = Decimal(digits).scaleb(-scale, WIDE)
    assert_rounded(pa.array([value], pa.decimal128(38, scale)), value, *size)


@settings(deadline=None)
@given(st.integers(-(10**76) + 1, 10**76 - 1), st.integers(0, 76), SIZES)
@example(int("1" * 50), 50, (12, 4))
@example(int("1" * 53), 3, (60, 10))
@example(1, 60, (12, 4))
def test_a_number_in_text_is_rounded_half_away_from_zero(digits: int, scale: int, size: tuple[int, int]) -> None:
    value = Decimal(digits).scaleb(-scale, WIDE)
    assert_rounded(pa.array([format(value, "f")]), value, *size)


@settings(deadline=None)
@given(st.integers(-(10**20), 10**20), st.integers(0, 20))
def test_a_decimal_becomes_the_integer_nearest_to_it(digits: int, scale: int) -> None:
    value = Decimal(digits).scaleb(-scale, WIDE)
    expected = int(rounded(value, 0))
    if -(2**31) <= expected < 2**31:
        assert kept(pa.array([value], pa.decimal128(38, scale)), "integer") == [expected]
    else:
        assert reasons(pa.array([value], pa.decimal128(38, scale)), "integer") == [(0, "range")]


def nearest_real(value: int) -> float:
    """The float32 nearest to an integer, ties to the even one."""
    below = struct.unpack("f", struct.pack("f", float(value)))[0]
    near = [below, *(float(np.nextafter(np.float32(below), np.float32(end))) for end in (-math.inf, math.inf))]
    return min(near, key=lambda one: (abs(int(one) - value), struct.unpack("I", struct.pack("f", one))[0] & 1))


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
@example(2**60 + 2**36 + 1)
@example(2**24 + 1)
def test_an_integer_becomes_the_nearest_real(value: int) -> None:
    assert kept(pa.array([value], pa.int64()), "real") == [nearest_real(value)]
    assert kept(pa.array([Decimal(value)], pa.decimal128(38, 0)), "real") == [nearest_real(value)]


@settings(deadline=None)
@given(st.one_of(st.decimals(-(10**15), 10**15, places=20), FINITE.map(repr).map(Decimal)))
def test_a_number_becomes_the_nearest_double(value: Decimal) -> None:
    assert kept(pa.array([format(value, "f")]), "double precision") == [float(value)]


TICKS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@settings(deadline=None)
@given(
    st.integers(-(2**62), 2**62), st.sampled_from([("timestamp", "us"), ("timestamp(3)", "ms"), ("timestamp(0)", "s")])
)
@example(-1, ("timestamp", "us"))
@example(-1_500_000_000, ("timestamp(0)", "s"))
@example(1_999, ("timestamp", "us"))
@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_a_moment_is_cut_to_the_one_before_it_and_never_moved_on(
    zone: str | None, nanoseconds: int, column: tuple[str, str]
) -> None:
    sql, unit = column
    values = pa.array([nanoseconds], pa.timestamp("ns", zone))
    (cut,) = converted(values, sql).batch["c"].cast(pa.int64()).to_pylist()
    assert cut == nanoseconds // TICKS[unit]


@settings(deadline=None)
@given(st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)))
def test_a_moment_becomes_its_day(moment: datetime.datetime) -> None:
    assert kept(pa.array([moment]), "date") == [moment.date()]


@settings(deadline=None)
@given(
    st.integers(-(2**62), 2**62), st.sampled_from([("interval", 10**3), ("interval(3)", 10**6), ("interval(0)", 10**9)])
)
def test_a_duration_is_cut_towards_zero(nanoseconds: int, column: tuple[str, int]) -> None:
    sql, ticks = column
    (cut,) = converted(pa.array([nanoseconds], pa.duration("ns")), sql).batch["c"].cast(pa.int64()).to_pylist()
    assert cut == int(math.copysign(abs(nanoseconds) // ticks, nanoseconds))


@settings(deadline=None)
@given(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)))
def test_an_aware_moment_without_its_zone_is_the_clock_of_utc(moment: datetime.datetime) -> None:
    values = pa.array([moment.replace(tzinfo=UTC)], pa.timestamp("us", "America/New_York"))
    assert kept(values, "timestamp") == [moment]


@pytest.mark.parametrize("values", [["2024-07-01 10:00:00.9876543"], ["2024-07-01 08:00:00.9876543Z"]])
def test_text_of_an_assumed_zone_is_cut_too(values: list[str]) -> None:
    target = parse_type("timestamptz(3)", "postgresql")
    plan = column_plan(pa.field("c", pa.string()), target, True, "lossy", "Europe/Berlin")
    found = Converter((plan,))(pa.record_batch({"c": values}), 0)
    assert found.batch["c"].to_pylist() == [datetime.datetime(2024, 7, 1, 8, 0, 0, 987000, UTC)]


def test_a_moment_of_an_assumed_zone_is_cut_as_its_plan_says() -> None:
    values = pa.array([1_999], pa.timestamp("ns"))
    target = parse_type("timestamptz", "postgresql")
    plan = column_plan(pa.field("c", values.type), target, True, "lossy", "UTC")
    assert "gives up fractions of a second" in plan.checks
    found = Converter((plan,))(pa.record_batch({"c": values}), 0)
    assert found.batch["c"].to_pylist() == [datetime.datetime(1970, 1, 1, 0, 0, 0, 1, UTC)]
