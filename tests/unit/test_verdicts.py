"""The type table: every pair of types has the verdict that its values deserve."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataloader.conversion.column_types import ColumnType, arrow_type, family, parse_type
from dataloader.conversion.converter import Converted, Converter
from dataloader.conversion.rules import IMPOSSIBLE, RULES, CastRule, ColumnPlan, cast_rule
from dataloader.conversion.types import TYPES
from dataloader.conversion.violations import REASONS

UNITS = ("s", "ms", "us", "ns")
SOURCES: list[pa.DataType] = [
    pa.null(),
    pa.bool_(),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.decimal32(9, 2), pa.decimal64(18, 0), pa.decimal128(10, 2), pa.decimal128(19, 2), pa.decimal128(38, 10)),
    *(pa.decimal128(5, -2), pa.decimal128(3, 3), pa.decimal256(50, 4), pa.decimal256(76, 0)),
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3)),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.timestamp(unit, "Europe/Berlin") for unit in UNITS),
    *(pa.duration(unit) for unit in UNITS),
    *(pa.month_day_nano_interval(), pa.uuid()),
    *(pa.list_(pa.int64()), pa.large_list(pa.string()), pa.struct({"a": pa.float64()})),
]
POSTGRES = (
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(12,4)"),
    *(
        "numeric(38,0)",
        "numeric(60,10)",
        "numeric(20,0)",
        "money",
        "text",
        "citext",
        "varchar(5)",
        "varchar",
        "char(3)",
        "bpchar",
    ),
    *("bytea", "date", "time", "time(0)", "timestamp", "timestamp(3)", "timestamptz", "timestamptz(0)", "interval"),
    *("interval(3)", "interval day to second", "uuid", "json", "jsonb", "xml", "integer[]", "text[]", "numeric(4,1)[]"),
    *("point", "box", "timetz", "timetz(3)", "tstzrange", "inet", "int4range", "macaddr8"),
)
SQLITE = ("BOOLEAN", "INTEGER", "REAL", "NUMERIC", "NUMERIC(10,2)", "DECIMAL(30,2)", "TEXT", "VARCHAR(5)", "BLOB")
SQLITE_MORE = ("DATE", "TIME", "DATETIME", "TIMESTAMP", "JSON", "UUID", "STRING", "")
TARGETS = [
    *(parse_type(sql, "postgresql") for sql in POSTGRES),
    parse_type("mood", "postgresql", ("sad", "ok")),
    *(parse_type(sql, "sqlite") for sql in (*SQLITE, *SQLITE_MORE)),
]
PAIRS = [(source, target) for target in TARGETS for source in SOURCES]


def targets_of(source: pa.DataType, *verdicts: str) -> list[ColumnType]:
    return [target for target in TARGETS if cast_rule(source, target).verdict in verdicts]


def sources_with(*verdicts: str) -> list[pa.DataType]:
    return [source for source in SOURCES if not pa.types.is_null(source) and targets_of(source, *verdicts)]


FAMILIES = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "decimal": pa.decimal128(10, 2),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "duration": pa.duration("us"),
    "interval": pa.month_day_nano_interval(),
    "uuid": pa.uuid(),
    "list": pa.list_(pa.int64()),
    "nested": pa.struct({"a": pa.int64()}),
}
NUMBERS = "float=c decimal=c string=c"
SHOWN = "bool=e int=e float=e decimal=e string=c date=c time=c timestamp=c timestamptz=c uuid=e list=c nested=c"
EXPECTED = {
    "boolean": "bool=e int=c string=c",
    "smallint": f"bool=e int=c {NUMBERS}",
    "integer": f"bool=e int=c {NUMBERS}",
    "bigint": f"bool=e int=e {NUMBERS}",
    "real": f"int=c {NUMBERS}",
    "double precision": "int=c float=e decimal=c string=c",
    "numeric": "int=e float=e decimal=e string=c",
    "numeric(12,4)": "int=c float=c decimal=e string=c",
    "money": "int=c float=c decimal=c string=c",
    "text": SHOWN,
    "varchar(5)": SHOWN.replace("=e", "=c"),
    "char(3)": SHOWN.replace("=e", "=c"),
    "bytea": "string=c binary=e",
    "date": "string=c date=c timestamp=c",
    "time": "string=c time=c",
    "timestamp": "string=c date=c timestamp=c timestamptz=l",
    "timestamptz": "string=c timestamptz=c",
    "interval": "string=c duration=e interval=c",
    "interval(3)": "string=l duration=c interval=c",
    "uuid": "string=c uuid=e",
    "json": "string=c list=c nested=c",
    "jsonb": "string=c list=c nested=c",
    "mood": "string=c",
    "xml": "string=c",
    "integer[]": "string=c list=c",
    "numeric(4,1)[]": "string=l list=c",
    "point": "string=c",
    "box": "string=c",
    "timetz": "string=c",
    "timetz(3)": "string=l",
    "inet": "bool=c int=c float=c decimal=c string=c date=c time=c timestamp=c timestamptz=c uuid=c",
    "NUMERIC": "bool=e int=e float=c decimal=e string=c",
    "REAL": f"int=c {NUMBERS}",
    "DATETIME": "string=c date=c timestamp=c timestamptz=c",
    "TEXT": SHOWN.replace("string=c", "string=e"),
}
BY_SQL = {target.sql: target for target in TARGETS}


@pytest.mark.parametrize(("sql", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_a_column_type_has_these_verdicts_and_takes_nothing_else(sql: str, expected: str) -> None:
    found = {name: cast_rule(source, BY_SQL[sql]).verdict for name, source in FAMILIES.items()}
    shown = " ".join(f"{name}={verdict[0]}" for name, verdict in found.items() if verdict != "impossible")
    assert shown == expected


def test_every_kind_of_column_is_looked_at_here() -> None:
    assert {target.kind for target in TARGETS} == set(TYPES)


def test_a_column_of_nothing_but_null_fits_everywhere() -> None:
    assert {cast_rule(pa.null(), target) for target in TARGETS} == {CastRule(checks="only NULL", verdict="exact")}


@pytest.mark.parametrize("source", [pa.opaque(pa.int64(), "geometry", "postgis"), pa.dense_union([])], ids=str)
def test_a_type_of_no_family_fits_nowhere(source: pa.DataType) -> None:
    assert {cast_rule(source, target) for target in TARGETS} == {IMPOSSIBLE}


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_verdict_is_one_of_four_and_agrees_with_the_families(source: pa.DataType) -> None:
    for target in TARGETS:
        found = cast_rule(source, target)
        assert found.verdict in {"exact", "checked", "lossy", "impossible"}
        if family(source) not in TYPES[target.kind].accepts | {"null"}:
            assert found == IMPOSSIBLE


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_verdict_says_what_is_looked_at_and_what_is_lost(source: pa.DataType) -> None:
    for target in TARGETS:
        found = cast_rule(source, target)
        assert bool(found.checks) or found.verdict in {"exact", "impossible"}, target
        assert found.loses is None or found.verdict in {"checked", "lossy"}, target
        assert found.loses is not None or found.verdict != "lossy", target


def plan_of(source: pa.DataType, target: ColumnType, verdict: str = "") -> ColumnPlan:
    found, chosen = cast_rule(source, target), arrow_type(target, source)
    as_text = chosen is None
    return ColumnPlan("c", source, target, chosen or pa.string(), as_text, verdict or found.verdict, found.checks)


def converted(values: pa.Array, target: ColumnType, verdict: str = "") -> Converted:
    plan = plan_of(values.type, target, verdict)
    return Converter((plan,))(pa.RecordBatch.from_arrays([values], names=["c"]), 0)


LOSSY = [pair for pair, rule in RULES.items() if rule.lossy is not None]


def lossy_keys(source: pa.DataType, target: ColumnType) -> tuple[str, str]:
    return family(source) or "", family(arrow_type(target, source) or pa.string()) or ""


def is_read_by_the_server(source: pa.DataType, target: ColumnType) -> bool:
    return (
        family(arrow_type(target, source) or pa.string()) == "string" and cast_rule(source, target).verdict == "lossy"
    )


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_something_is_lost_only_where_a_cast_gives_it_up_or_the_server_rounds(source: pa.DataType) -> None:
    for target in TARGETS:
        if cast_rule(source, target).loses is not None:
            assert lossy_keys(source, target) in LOSSY or is_read_by_the_server(source, target), target


@pytest.mark.parametrize("pair", LOSSY, ids=" into ".join)
def test_every_cast_that_gives_something_up_is_named_in_the_type_table(pair: tuple[str, str]) -> None:
    cells = [cast_rule(source, target) for source, target in PAIRS if lossy_keys(source, target) == pair]
    assert any(found.loses for found in cells)
    assert all(found.loses for found in cells if found.verdict == "checked")


def raw(kind: pa.DataType, low: int, high: int) -> st.SearchStrategy[pa.Scalar]:
    """Moments and times from the numbers that stand for them."""
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    return st.integers(low, high).map(lambda number: pa.scalar(number, storage).cast(kind))


PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FIRST, LAST = -62_135_596_800, 253_402_300_799
"""The seconds of the years 1 to 9999."""


def moments(kind: pa.DataType) -> st.SearchStrategy[pa.Scalar]:
    per_second, day = PER_SECOND[kind.unit], 0 if kind.tz is None else 86_400
    low, high = max((FIRST + day) * per_second, -(2**63)), min((LAST + 1 - day) * per_second - 1, 2**63 - 1)
    return raw(kind, low, high)


def decimals(kind: pa.DataType) -> st.SearchStrategy[Any]:
    largest = 10**kind.precision - 1
    context = decimal.Context(prec=100)
    return st.integers(-largest, largest).map(lambda digits: decimal.Decimal(digits).scaleb(-kind.scale, context))


def integers(kind: pa.DataType) -> st.SearchStrategy[int]:
    signed = pa.types.is_signed_integer(kind)
    return st.integers(-(2 ** (kind.bit_width - 1)) if signed else 0, 2 ** (kind.bit_width - signed) - 1)


TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["1", "-2.50", "1e5", "NaN", "true", "2024-02-29", "2024-02-29 10:30:00.5Z", "sad", "{}", "[1,2)"]),
    st.uuids().map(str),
)


def binaries(kind: pa.DataType) -> st.SearchStrategy[bytes]:
    width = kind.byte_width if pa.types.is_fixed_size_binary(kind) else None
    return st.binary(min_size=width or 0, max_size=width or 8)


SMALL = st.integers(-(2**31), 2**31 - 1)
VALUES: dict[str, Callable[[pa.DataType], st.SearchStrategy[Any]]] = {
    "bool": lambda _: st.booleans(),
    "int": integers,
    "float": lambda kind: st.floats(width=kind.bit_width),
    "decimal": decimals,
    "string": lambda _: TEXTS,
    "binary": binaries,
    "date": lambda _: st.dates(),
    "time": lambda kind: raw(kind, 0, 86_400 * PER_SECOND[kind.unit] - 1),
    "timestamp": moments,
    "timestamptz": moments,
    "duration": lambda kind: raw(kind, -(2**63), 2**63 - 1),
    "interval": lambda _: st.tuples(SMALL, SMALL, st.integers(-(2**63), 2**63 - 1)),
    "uuid": lambda _: st.uuids().map(lambda one: one.bytes),
    "list": lambda kind: st.lists(VALUES[family(kind.value_type) or ""](kind.value_type), max_size=3),
    "nested": lambda _: st.fixed_dictionaries({"a": st.floats()}),
}
"""Any value of a type, by its family; in years that have four digits."""


def arrays(kind: pa.DataType) -> st.SearchStrategy[pa.Array]:
    values = st.lists(st.one_of(VALUES[family(kind) or ""](kind), st.none()), max_size=8)
    return values.map(lambda given: pa.array(list(plain_values(kind, given)), kind, from_pandas=False))


def plain_values(kind: pa.DataType, values: list[Any]) -> Iterator[Any]:
    """Scalars stay scalars, which keep what Python's types do not hold."""
    for value in values:
        yield value.as_py() if isinstance(value, pa.Scalar) and not holds_more(kind) else value


def holds_more(kind: pa.DataType) -> bool:
    return pa.types.is_duration(kind) or getattr(kind, "unit", "") == "ns"


EXAMPLES = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])


@EXAMPLES
@given(st.data())
@pytest.mark.parametrize("source", sources_with("exact"), ids=str)
def test_a_column_that_fits_exactly_keeps_every_value(source: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(arrays(source))
    for target in targets_of(source, "exact"):
        found = converted(values, target)
        assert found.violations == []
        assert found.batch["c"].is_null().to_pylist() == values.is_null().to_pylist()
        for given_value, kept in zip(values, found.batch["c"], strict=True):
            assert same(given_value, kept, target), (target.sql, given_value, kept)


def same(given_value: pa.Scalar, kept: pa.Scalar, target: ColumnType) -> bool:
    """Whether the value that travels means the value that was given, as far as Python can compare them."""
    if target.kind == "number" and given_value.is_valid and family(given_value.type) == "string":
        return bool(
            decimal.Decimal(given_value.as_py().strip()) == decimal.Decimal(kept.as_py())
        )  # blanks do not count
    if not given_value.is_valid or pa.types.is_string(kept.type):
        return text_means(given_value, kept.as_py())
    if target.kind == "uuid":
        return bool(kept.as_py() == given_value.as_py().bytes)
    if pa.types.is_duration(kept.type) or getattr(given_value.type, "unit", "") == "ns":
        return bool(kept.cast(given_value.type).equals(given_value))
    one, other = given_value.as_py(), kept.as_py()
    if isinstance(one, decimal.Decimal) and isinstance(other, float):
        return decimal.Decimal(repr(other)) == one
    return bool(one == other) or (is_nan(given_value) and is_nan(kept))


def text_means(given_value: pa.Scalar, text: str | None) -> bool:
    """Whether a text shows a value."""
    if text is None or not given_value.is_valid:
        return text is None and not given_value.is_valid
    if holds_more(given_value.type):
        return bool(text)
    value = given_value.as_py()
    return next(shows(value, text) for kinds, shows in MEANINGS if isinstance(value, kinds))


def is_float_of(value: float, text: str) -> bool:
    return math.isnan(value) or any(
        pa.scalar(text).cast(kind).as_py() == value for kind in (pa.float64(), pa.float32())
    )


MEANINGS: tuple[tuple[type | tuple[type, ...], Callable[[Any, str], bool]], ...] = (
    (bool, lambda value, text: text == str(value).lower()),
    (float, is_float_of),
    ((int, decimal.Decimal), lambda value, text: decimal.Decimal(text) == value),
    (datetime.datetime, lambda value, text: datetime.datetime.fromisoformat(text) == value),
    (datetime.date, lambda value, text: text == value.isoformat()),
    (datetime.time, lambda value, text: datetime.time.fromisoformat(text) == value),
    (uuid.UUID, lambda value, text: uuid.UUID(text) == value),
    (str, lambda value, text: text == value),
    (object, lambda _value, text: bool(text)),
)


@pytest.mark.slow
@EXAMPLES
@given(st.data())
@pytest.mark.parametrize("source", sources_with("checked"), ids=str)
def test_a_column_that_is_checked_keeps_a_value_or_names_it(source: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(arrays(source))
    for target in targets_of(source, "checked"):
        found = converted(values, target)
        refused = [one.row for one in found.violations]
        assert sorted([*found.rows.tolist(), *refused]) == list(range(len(values))), target
        assert {one.reason for one in found.violations} <= set(REASONS)
        assert all(values[row].is_valid for row in refused)
        assert found.batch["c"].is_null().to_pylist() == [not values[row].is_valid for row in found.rows.tolist()]


SAME_MEANING = {
    *((number, kind) for number in ("bool", "int", "decimal") for kind in ("bool", "int", "float", "decimal")),
    *(("float", kind) for kind in ("int", "float")),
    *((moment, moment) for moment in ("date", "time", "timestamp", "timestamptz", "duration", "binary", "string")),
}
"""Families of source and Arrow type whose values Python compares by what they mean."""


@EXAMPLES
@given(st.data())
@pytest.mark.parametrize("source", sources_with("checked"), ids=str)
def test_a_value_that_passes_its_check_is_unchanged(source: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(arrays(source))
    for target in targets_of(source, "checked"):
        if target.kind == "datetime" and family(source) == "string":
            continue  # a moment in text is stored in one form, so that moments compare
        if lossy_keys(source, target) in SAME_MEANING and not pa.types.is_float16(source):
            found = converted(values, target)
            for row, kept in zip(found.rows.tolist(), found.batch["c"], strict=True):
                assert same(values[row], kept, target), (target.sql, values[row], kept)


def losing_targets(source: pa.DataType) -> list[ColumnType]:
    return [target for target in targets_of(source, "checked", "lossy") if cast_rule(source, target).loses]


@pytest.mark.slow
@EXAMPLES
@given(st.data())
@pytest.mark.parametrize("source", [source for source in SOURCES if losing_targets(source)], ids=str)
def test_lossy_casts_keep_what_exact_ones_keep(source: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(arrays(source))
    for target in losing_targets(source):
        exact, lossy = converted(values, target, "checked"), converted(values, target, "lossy")
        assert set(exact.rows.tolist()) <= set(lossy.rows.tolist()), target
        kept = dict(zip(lossy.rows.tolist(), lossy.batch["c"], strict=True))
        for row, value in zip(exact.rows.tolist(), exact.batch["c"], strict=True):
            assert value.equals(kept[row]) or is_nan(value), target


def is_nan(value: pa.Scalar) -> bool:
    return pa.types.is_floating(value.type) and math.isnan(value.as_py())


UNSHOWABLE = {
    "timestamp": pa.array([2**60], pa.timestamp("s")),
    "aware timestamp": pa.array([-(2**60)], pa.timestamp("us", "UTC")),
    "date": pa.array([2**30], pa.date32()),
    "time": pa.array([86_401], pa.time32("s")),
}


@pytest.mark.parametrize("sql", ["text", "varchar(60)", "inet"])
@pytest.mark.parametrize("values", UNSHOWABLE.values(), ids=UNSHOWABLE)
def test_a_moment_that_has_no_text_is_refused_and_no_words_take_its_place(values: pa.Array, sql: str) -> None:
    found = converted(values, parse_type(sql, "postgresql"))
    assert [(one.row, one.reason) for one in found.violations] == [(0, "range")]


@pytest.mark.parametrize(
    ("source", "sql", "verdict"),
    [
        (pa.list_(pa.int64()), "integer[]", "checked"),
        (pa.list_(pa.list_(pa.int64())), "integer[][]", "checked"),
        (pa.list_(pa.list_(pa.string())), "text[]", "checked"),
        (pa.large_list(pa.dictionary(pa.int32(), pa.string())), "text[]", "checked"),
        (pa.list_(pa.timestamp("us")), "timestamptz[]", "impossible"),
        (pa.list_(pa.timestamp("us", "UTC")), "timestamp[]", "impossible"),
        (pa.list_(pa.binary()), "text[]", "impossible"),
        (pa.list_(pa.int64()), "integer", "impossible"),
    ],
    ids=str,
)
def test_a_list_fits_an_array_if_its_elements_do(source: pa.DataType, sql: str, verdict: str) -> None:
    assert cast_rule(source, parse_type(sql, "postgresql")).verdict == verdict


@pytest.mark.parametrize("sql", ["numeric(3,-2)", "numeric(2,5)", "numeric(77,2)"])
@pytest.mark.parametrize("source", [pa.int64(), pa.float64(), pa.decimal128(5, 2), pa.string()], ids=str)
def test_a_numeric_that_arrow_cannot_carry_takes_nothing(source: pa.DataType, sql: str) -> None:
    assert cast_rule(source, parse_type(sql, "postgresql")) == IMPOSSIBLE
