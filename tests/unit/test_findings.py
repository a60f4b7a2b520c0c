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
from tests.values import BAD_VALUES, MOODS

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


CASES = {
    name: Case(
        reason, column.good[0], bad, column.kind, column.on(dialect), column.options.get("assume_timezone"), dialect
    )
    for column, named in BAD_VALUES.items()
    for name, (bad, reason) in named.items()
    for dialect in [one for one in ("postgresql", "sqlite") if column.is_converted(one)][:1]
    if "|" not in reason and not pa.types.is_dictionary(column.kind)
}
"""The values of which the reason is one."""
ELSEWHERE = {"duplicate", "exists", "foreign_key", "unique", "check", "refused", "fields"}
"""Reasons that only the rows, their lines or the database know."""


def column_of(case: Case, **facts: Any) -> ColumnPlan:
    target = parse_type(case.sql, case.dialect, MOODS if case.sql == "mood" else ())
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
    assert found_in(CASES["varchar that is too long"], values) == (["abc", None, "abc"], [])


@settings(deadline=None, max_examples=50)
@given(st.text("gb-", max_size=200), st.sampled_from(sorted(CASES)))
def test_any_pattern_of_good_bad_and_missing_values_is_found(pattern: str, name: str) -> None:
    case = CASES[name]
    assert_found(case, array_of(case, pattern), places(pattern, "b"), places(pattern, "-"))


def test_a_few_bad_values_among_many_are_found_without_a_look_at_each() -> None:
    case, looks = CASES["date that does not exist"], 0
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
    case = replace(CASES["numeric of a float of five digits"])
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
    case = CASES["int2 above its range"]
    _, faults = found_in(case, pa.array([DAY, None, DAY]))
    assert [(fault.offset, fault.reason) for fault in faults] == [(0, "type"), (2, "type")]


def test_every_reason_that_a_value_can_have_is_planted_here() -> None:
    planted = {case.reason for case in CASES.values()} | {"null", "type", "encoding"}
    assert planted == set(REASONS) - ELSEWHERE
