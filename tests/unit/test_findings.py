"""A column's converter finds every value that does not fit, wherever it is, with the right reason."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloader.conversion.column_types import arrow_type, parse_type
from dataloader.conversion.converter import ColumnConverter, InvalidValue
from dataloader.conversion.inference import mixed_array
from dataloader.conversion.rules import ColumnPlan, cast_rule
from dataloader.conversion.violations import REASONS

MOMENT = datetime.datetime(2024, 5, 17, 10, 30, 15, 123456)
DAY = datetime.datetime(2024, 5, 17)


@dataclass(frozen=True, slots=True)
class Case:
    """A value that fits a column, and one that does not."""

    reason: str
    good: Any
    bad: Any
    source: pa.DataType
    sql: str
    zone: str | None = None
    dialect: str = "postgresql"


CASES: dict[str, Case] = {
    "integer out of range": Case("range", 1, 40_000, pa.int64(), "smallint"),
    "unsigned out of range": Case("range", 1, 2**63, pa.uint64(), "bigint"),
    "float out of range": Case("range", 1.0, 1e10, pa.float64(), "integer"),
    "decimal out of range": Case("range", Decimal(1), Decimal(2**31), pa.decimal128(12, 0), "integer"),
    "number in text out of range": Case("range", "1", "40000", pa.string(), "smallint"),
    "number that is no bool": Case("range", 1, 2, pa.int8(), "boolean"),
    "integer of too many digits": Case("range", 1, 123_456_789, pa.int64(), "numeric(12,4)"),
    "float of too many digits before the point": Case("range", 1.5, 123_456_789.0, pa.float64(), "numeric(12,4)"),
    "text of too many digits before the point": Case("range", "1.5", "123456789", pa.string(), "numeric(12,4)"),
    "decimal of too many digits before the point": Case(
        "range", Decimal("1.50"), Decimal("123456789.00"), pa.decimal128(20, 2), "numeric(12,4)"
    ),
    "huge float into real": Case("range", 0.5, 1e300, pa.float64(), "real"),
    "text beyond double": Case("range", "0.5", "1e400", pa.string(), "double precision"),
    "money out of range": Case("range", Decimal("1.00"), Decimal(10**17), pa.decimal128(25, 2), "money"),
    "year out of range": Case("range", 0, 2**60, pa.timestamp("s"), "timestamp"),
    "year out of range in microseconds": Case("range", 0, -(2**63) + 1, pa.timestamp("us"), "timestamp"),
    "date out of range": Case("range", 0, -(2**31), pa.date32(), "date"),
    "duration out of range": Case("range", 0, 2**62, pa.duration("s"), "interval"),
    "fraction of a float": Case("fraction", 3.0, 3.7, pa.float64(), "integer"),
    "fraction of a half float": Case("fraction", np.float16(3), np.float16(3.5), pa.float16(), "integer"),
    "fraction of a decimal": Case("fraction", Decimal("3.0"), Decimal("3.7"), pa.decimal128(5, 1), "integer"),
    "fraction in text": Case("fraction", "3", "3.7", pa.large_string(), "integer"),
    "digits of a float": Case("digits", 0.1234, 0.12345, pa.float64(), "numeric(12,4)"),
    "digits of a decimal": Case("digits", Decimal("0.12340"), Decimal("0.12345"), pa.decimal128(9, 5), "numeric(12,4)"),
    "digits in text": Case("digits", "0.1234", "0.12345", pa.string(), "numeric(12,4)"),
    "digits in text with an exponent": Case("digits", "1e-4", "1e-5", pa.string(), "numeric(12,4)"),
    "digits that real lacks": Case("digits", 0.5, 0.1, pa.float64(), "real"),
    "digits that double lacks": Case("digits", 2**53, 2**53 + 1, pa.int64(), "double precision"),
    "digits of text that double lacks": Case("digits", "0.1", "9007199254740993", pa.string(), "double precision"),
    "digits that a point lacks": Case("digits", "(1,2)", "(1.12345678901234567,2)", pa.string(), "point"),
    "nanoseconds": Case("nanoseconds", 1000, 1001, pa.timestamp("ns"), "timestamp"),
    "nanoseconds of an aware moment": Case("nanoseconds", 1000, 1, pa.timestamp("ns", "Asia/Tokyo"), "timestamptz"),
    "nanoseconds of a time": Case("nanoseconds", 1000, 1, pa.time64("ns"), "time"),
    "nanoseconds of a duration": Case("nanoseconds", 1000, 1, pa.duration("ns"), "interval"),
    "nanoseconds of an interval": Case(
        "nanoseconds", (1, 2, 3000), (1, 2, 3), pa.month_day_nano_interval(), "interval"
    ),
    "nanoseconds in text": Case(
        "nanoseconds", "2024-01-01 00:00:00.5", "2024-01-01 00:00:00.123456789", pa.string(), "timestamp"
    ),
    "milliseconds": Case("nanoseconds", DAY, MOMENT, pa.timestamp("us"), "timestamp(0)"),
    "time of day": Case("time", DAY, MOMENT, pa.timestamp("us"), "date"),
    "NaN into integer": Case("nan", 1.0, math.nan, pa.float64(), "integer"),
    "infinity into numeric": Case("nan", 1.0, -math.inf, pa.float64(), "numeric(12,4)"),
    "NaN in text": Case("nan", "1", "NaN", pa.string(), "numeric(12,4)"),
    "NaN into SQLite": Case("nan", 0.5, math.nan, pa.float64(), "REAL", dialect="sqlite"),
    "NaN in a struct": Case("nan", {"a": 0.5}, {"a": math.nan}, pa.struct({"a": pa.float64()}), "jsonb"),
    "characters": Case("length", "abc", "abcd", pa.string(), "varchar(3)"),
    "characters of a number": Case("length", 123, -123, pa.int64(), "char(3)"),
    "NUL": Case("nul", "ab", "a\0b", pa.string(), "text"),
    "NUL in jsonb": Case("nul", '"a"', '"\\u0000"', pa.string(), "jsonb"),
    "NUL in a list": Case("nul", ["a"], ["a", "\0"], pa.list_(pa.string()), "text[]"),
    "half a character in jsonb": Case("encoding", '"a"', '"\\ud800"', pa.string(), "jsonb"),
    "label": Case("label", "ok", "fine", pa.string(), "mood"),
    "no JSON": Case("syntax", "{}", "{", pa.string(), "json"),
    "no number": Case("syntax", "1", "many", pa.string(), "integer"),
    "no number for numeric": Case("syntax", "1", "1,5", pa.string(), "numeric(12,4)"),
    "no number for double": Case("syntax", "1", "1,5", pa.string(), "double precision"),
    "no bool": Case("syntax", "true", "maybe", pa.string(), "boolean"),
    "no date": Case("syntax", "2024-02-29", "2023-02-29", pa.string(), "date"),
    "no time": Case("syntax", "10:30", "25:00", pa.string(), "time"),
    "no moment": Case("syntax", "2024-02-29 10:30:00", "yesterday", pa.string(), "timestamp"),
    "no uuid": Case("syntax", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810", pa.string(), "uuid"),
    "element out of range": Case("range", [1, None], [1, 2**31], pa.list_(pa.int64()), "integer[]"),
    "offset where none is kept": Case(
        "zone", "2024-01-01 00:00:00", "2024-01-01 00:00:00+02", pa.string(), "timestamp"
    ),
    "no offset": Case("zone", "2024-01-01 00:00:00+02:00", "2024-01-01 00:00:00", pa.string(), "timestamptz"),
    "a time that occurs twice": Case(
        "zone", DAY, datetime.datetime(2024, 10, 27, 2, 30), pa.timestamp("us"), "timestamptz", "Europe/Berlin"
    ),
    "a time that never occurs": Case(
        "zone", DAY, datetime.datetime(2024, 3, 31, 2, 30), pa.timestamp("us"), "timestamptz", "Europe/Berlin"
    ),
    "a time in text that occurs twice": Case(
        "zone", "2024-10-27 02:30:00+01:00", "2024-10-27 02:30:00", pa.string(), "timestamptz", "Europe/Berlin"
    ),
}
ELSEWHERE = {"duplicate", "exists", "foreign_key", "unique", "check", "refused"}
"""Reasons that only the rows or the database know."""


def column_of(case: Case, **facts: Any) -> ColumnPlan:
    target = parse_type(case.sql, case.dialect, ("sad", "ok") if case.sql == "mood" else ())
    chosen = arrow_type(target, case.source)
    verdict = "checked" if case.zone else cast_rule(case.source, target).verdict
    plan = ColumnPlan("c", case.source, target, chosen or pa.string(), chosen is None, verdict, zone=case.zone)
    return replace(plan, **facts)


def found_in(case: Case, values: pa.Array, **facts: Any) -> tuple[list[Any], list[InvalidValue]]:
    converted, faults = ColumnConverter(column_of(case, **facts))(values)
    assert len(converted) == len(values)
    return converted.to_pylist(), sorted(faults)


def assert_found(case: Case, values: pa.Array, bad: list[int], missing: list[int]) -> None:
    """The bad ones are named and null, the missing ones are null, all others are what a good one becomes."""
    ((good,), nothing) = found_in(case, pa.array([case.good], case.source))
    converted, faults = found_in(case, values)
    assert (nothing, good is None) == ([], False)
    assert [(fault.offset, fault.reason) for fault in faults] == [(at, case.reason) for at in bad]
    assert all(fault.problem for fault in faults)
    assert converted == [None if at in {*bad, *missing} else good for at in range(len(values))]


def array_of(case: Case, pattern: str) -> pa.Array:
    """Values by letters: a good one, a bad one, and null."""
    return pa.array([{"g": case.good, "b": case.bad, "-": None}[letter] for letter in pattern], case.source)


def places(pattern: str, letter: str) -> list[int]:
    return [at for at, one in enumerate(pattern) if one == letter]


PATTERNS = (
    "b",
    "bb",
    "gb",
    "bg",
    "g-b",
    "b-g-b",
    "gggbggg-b-ggb",
    "-b-b-b-",
    "bbbbgbbbb",
    "g" * 63 + "b" + "-" * 3 + "b",
)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_bad_value_is_found_with_its_reason_wherever_it_is(case: Case) -> None:
    for pattern in PATTERNS:
        assert_found(case, array_of(case, pattern), places(pattern, "b"), places(pattern, "-"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_good_values_and_nulls_are_no_findings(case: Case) -> None:
    for pattern in ("", "-", "g", "--", "g-g", "-" * 9 + "g"):
        assert_found(case, array_of(case, pattern), [], places(pattern, "-"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_lies_under_a_slice_is_not_looked_at(case: Case) -> None:
    whole = "bbb" + "gb-gb" + "bb"
    for start, length in ((3, 5), (3, 1), (4, 2), (6, 3), (9, 0)):
        part = whole[start : start + length]
        assert_found(case, array_of(case, whole).slice(start, length), places(part, "b"), places(part, "-"))


def with_hidden(values: pa.Array, hidden: list[int]) -> pa.Array:
    """The same memory, with some values declared null: what is under them stays there."""
    bits = np.ones(len(values), bool)
    bits[hidden] = False
    validity = pa.py_buffer(np.packbits(bits, bitorder="little").tobytes())
    return pa.Array.from_buffers(values.type, len(values), [validity, *values.buffers()[1:]])


HIDEABLE = {name: case for name, case in CASES.items() if not pa.types.is_nested(case.source)}


@pytest.mark.parametrize("case", HIDEABLE.values(), ids=HIDEABLE)
def test_garbage_under_a_null_is_not_a_value(case: Case) -> None:
    values = array_of(case, "gbbgbgb")
    assert_found(case, with_hidden(values, [1, 4]), [2, 6], [1, 4])
    assert_found(case, with_hidden(values, [1, 2, 4, 6]), [], [1, 2, 4, 6])
    assert_found(case, with_hidden(values, [1, 4]).slice(1), [1, 5], [0, 3])


WRAPPED: dict[str, Callable[[pa.Array], pa.Array]] = {
    "dictionary": lambda values: values.dictionary_encode(),
    "slice of a dictionary": lambda values: pa.concat_arrays([values[:3], values]).dictionary_encode()[3:],
    "dictionary with unused bad values": lambda values: pa.DictionaryArray.from_arrays(
        pa.array([None if not one.is_valid else at for at, one in enumerate(values)], pa.int32()), values
    ),
    "runs": lambda values: in_runs(values[:]),
    "slice of runs": lambda values: in_runs(pa.concat_arrays([values[:3], values]))[3:],
}


def in_runs(values: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(values) + 1), pa.int32()), values)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("case", HIDEABLE.values(), ids=HIDEABLE)
def test_bad_values_of_encoded_columns_are_found_by_row(case: Case, wrap: Callable[[pa.Array], pa.Array]) -> None:
    if pa.types.is_interval(case.source) or pa.types.is_float16(case.source):
        return  # Arrow does not encode them
    assert_found(case, wrap(array_of(case, "gb-gbb")), [1, 4, 5], [2])


def test_a_dictionary_whose_bad_values_no_row_has_is_fine() -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0, None, 0]), pa.array(["abc", "abcd"]))
    assert found_in(CASES["characters"], values) == (["abc", None, "abc"], [])


@settings(deadline=None, max_examples=50)
@given(st.text("gb-", max_size=200), st.sampled_from(sorted(CASES)))
def test_any_pattern_of_good_bad_and_missing_values_is_found(pattern: str, name: str) -> None:
    case = CASES[name]
    assert_found(case, array_of(case, pattern), places(pattern, "b"), places(pattern, "-"))


def test_a_few_bad_values_among_many_are_found_without_a_look_at_each() -> None:
    case, looks = CASES["no date"], 0
    values = pa.array([case.bad if at in {777, 40_000} else case.good for at in range(50_000)], case.source)
    convert = ColumnConverter(column_of(case))
    steps = convert._steps_for(values.type)

    def counted(part: pa.Array) -> pa.Array:
        nonlocal looks
        looks += 1
        return steps(part)

    convert._steps[values.type] = counted
    _, faults = convert(values)
    assert sorted(fault.offset for fault in faults) == [777, 40_000]
    assert looks < 200


def test_values_that_are_bad_in_several_ways_have_each_their_reason() -> None:
    case = replace(CASES["float of too many digits before the point"])
    values = pa.array([1.5, math.nan, 0.12345, None, 1e9, -math.inf, 0.00001, 1e300, 5e-324, 2.5])
    converted, faults = found_in(case, values)
    assert [(fault.offset, fault.reason) for fault in faults] == [
        (1, "nan"),
        (2, "digits"),
        (4, "range"),
        (5, "nan"),
        (6, "digits"),
        (7, "range"),
        (8, "digits"),
    ]
    assert converted == [Decimal("1.5"), None, None, None, None, None, None, None, None, Decimal("2.5")]


SPACED = {
    "integer": (" 5 ", "integer"),
    "numeric": (" 1.5 ", "numeric(12,4)"),
    "numeric with an exponent": (" 1e1 ", "numeric(12,4)"),
    "double": (" 1.5 ", "double precision"),
}


@pytest.mark.parametrize(("text", "sql"), SPACED.values(), ids=SPACED)
def test_a_number_between_spaces_fits_or_is_no_number_but_has_not_too_many_digits(text: str, sql: str) -> None:
    case = Case("syntax", "1", text, pa.string(), sql)
    _, faults = found_in(case, pa.array([text]))
    assert [fault.reason for fault in faults] in ([], ["syntax"])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_column_that_takes_no_null_names_every_null_and_every_bad_value(case: Case) -> None:
    pattern = "g-gb-b"
    _, faults = found_in(case, array_of(case, pattern), nullable=False)
    wanted = [(1, "null"), (3, case.reason), (4, "null"), (5, case.reason)]
    assert [(fault.offset, fault.reason) for fault in faults] == wanted


MIXED: dict[str, tuple[list[Any], str, list[Any], list[tuple[int, str]]]] = {
    "texts among integers": (
        [1, "a", None, 40_000, "b", "7", "40000"],
        "smallint",
        [1, None, None, None, None, 7, None],
        [(1, "syntax"), (3, "range"), (4, "syntax"), (6, "range")],
    ),
    "integers among texts": (["a", 5, 12345, "b"], "varchar(3)", ["a", "5", None, "b"], [(2, "length")]),
    "dates among integers": ([1, DAY.date(), 2], "bigint", [1, None, 2], [(1, "type")]),
    "half a character": (
        ["a", "\ud800", None, "abcd"],
        "varchar(3)",
        ["a", None, None, None],
        [(1, "encoding"), (3, "length")],
    ),
    "a NaN in a dict": ([{"a": 1}, {"a": math.nan}, None], "jsonb", ['{"a": 1}', None, None], [(1, "nan")]),
    "a time of day among dates": ([DAY.date(), DAY, MOMENT], "date", [DAY.date(), DAY.date(), None], [(2, "time")]),
    "a naive moment among aware ones": (
        [DAY.replace(tzinfo=datetime.UTC), DAY, DAY.replace(tzinfo=datetime.UTC)],
        "timestamptz",
        [DAY.replace(tzinfo=datetime.UTC), None, DAY.replace(tzinfo=datetime.UTC)],
        [(1, "type")],
    ),
}


def mixed_column(values: pa.Array, sql: str, **facts: Any) -> ColumnPlan:
    source = values.type.kinds[0]
    return column_of(Case("type", None, None, getattr(source, "storage_type", source), sql), **facts)


@pytest.mark.parametrize("nullable", [True, False], ids=["nullable", "not null"])
@pytest.mark.parametrize(("values", "sql", "kept", "expected"), MIXED.values(), ids=MIXED)
def test_objects_of_several_kinds_are_each_judged_by_their_own(
    values: list[Any], sql: str, kept: list[Any], expected: list[tuple[int, str]], nullable: bool
) -> None:
    mixed = mixed_array(values)
    nulls = [] if nullable else [(at, "null") for at, one in enumerate(values) if one is None]
    for start in (0, 1):
        converted, faults = ColumnConverter(mixed_column(mixed, sql, nullable=nullable))(mixed.slice(start))
        wanted = sorted((at - start, reason) for at, reason in expected + nulls if at >= start)
        assert sorted((fault.offset, fault.reason) for fault in faults) == wanted
        assert converted.to_pylist() == kept[start:]


@pytest.mark.parametrize(("sql", "dialect"), [("timestamp", "postgresql"), ("DATETIME", "sqlite")])
def test_an_aware_moment_among_naive_ones_does_not_lose_its_zone_unasked(sql: str, dialect: str) -> None:
    aware = MOMENT.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5)))
    mixed = mixed_array([DAY, DAY, aware])
    source = mixed.type.kinds[0]
    column = column_of(Case("type", None, None, source, sql, dialect=dialect))
    converted, faults = ColumnConverter(column)(mixed)
    assert [fault.offset for fault in faults] == [2]
    assert converted.to_pylist() == [DAY, DAY, None]


def test_a_type_that_the_plan_did_not_see_refuses_every_value_and_no_null() -> None:
    case = CASES["integer out of range"]
    _, faults = found_in(case, pa.array([DAY, None, DAY]))
    assert [(fault.offset, fault.reason) for fault in faults] == [(0, "type"), (2, "type")]


def test_every_reason_that_a_value_can_have_is_planted_here() -> None:
    planted = {case.reason for case in CASES.values()} | {"null", "type", "encoding"}
    assert planted == set(REASONS) - ELSEWHERE
