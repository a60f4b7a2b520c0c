"""Conversions keep a value or refuse it, naming the row and why."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import math
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.dialects.sqlite import aiosqlite

from dataloader.conversion.column_types import ColumnType, parse_type
from dataloader.conversion.converter import ColumnConverter, Converter
from dataloader.conversion.rules import ColumnPlan
from dataloader.conversion.steps import unwrapped
from dataloader.conversion.text import to_text
from dataloader.conversion.types import TYPES
from dataloader.conversion.violations import cut
from dataloader.database.backends import backend_for
from dataloader.database.schema import Column, TableName, TableSchema
from dataloader.errors import UnsafeCast, ValidationError
from dataloader.plan import LoadOptions, Target, make_plan
from dataloader.rejects import Findings
from dataloader.transactions import Database, SourceInfo
from tests import values as catalogue
from tests.values import BAD_VALUES, MOODS

Decimal = decimal.Decimal
UTC = datetime.UTC
DIALECTS = {"postgresql": asyncpg.dialect(), "sqlite": aiosqlite.dialect()}


def column_type(sql: str, dialect: str) -> ColumnType:
    return parse_type(sql, dialect, ("x", *MOODS) if sql == "mood" else ())


def plans(
    dialect: str = "postgresql", options: dict[str, Any] | None = None, /, **columns: tuple[pa.DataType, str]
) -> tuple[ColumnPlan, ...]:
    """The plan of columns that are given as name=(source, SQL type of the table)."""
    offered = pa.schema([(name, source) for name, (source, _) in columns.items()])
    found = tuple(Column(name, column_type(sql, dialect)) for name, (_, sql) in columns.items())
    backend = backend_for(DIALECTS[dialect])
    offer, target = SourceInfo("rows", offered, None), Target.of("t", backend)
    table = TableSchema(TableName(None, "t"), found)
    return make_plan(offer, target, table, LoadOptions.of(options or {}), Database(backend, "here")).columns


def stored(values: pa.Array, sql: str, dialect: str = "postgresql", first_row: int = 0, **options: Any) -> list[Any]:
    (column,) = plans(dialect, options, c=(values.type, sql))
    converted = Converter((column,))(pa.RecordBatch.from_arrays([values], names=["c"]), first_row)
    if converted.violations:
        findings = Findings()
        findings.add(converted.violations)
        raise findings.error()
    assert converted.batch.column(0).type == column.arrow_type
    return converted.batch.column(0).to_pylist()


def refusal(
    values: pa.Array, sql: str, dialect: str = "postgresql", first_row: int = 0, **options: Any
) -> ValidationError:
    with pytest.raises(ValidationError) as refused:
        stored(values, sql, dialect, first_row, **options)
    return refused.value


def uuids(*values: uuid.UUID | None) -> pa.Array:
    storage = pa.array([None if one is None else one.bytes for one in values], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


SOME_UUID = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
MOMENT = datetime.datetime(2024, 5, 17, 10, 30, 15, 123456)

FITTING: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "int64 into smallint": (pa.array([32767, -32768, None]), "smallint", [32767, -32768, None]),
    "whole doubles beyond 2**53 into bigint": (
        pa.array([2.0**60, None, -(2.0**63)]),
        "bigint",
        [2**60, None, -(2**63)],
    ),
    "uint64 into bigint": (pa.array([2**63 - 1], pa.uint64()), "bigint", [2**63 - 1]),
    "uint64 into numeric": (pa.array([2**64 - 1], pa.uint64()), "numeric(20)", [2**64 - 1]),
    "int64 into bare numeric": (pa.array([-(2**63), None]), "numeric", [-(2**63), None]),
    "bool into integer": (pa.array([True, False, None]), "integer", [1, 0, None]),
    "whole float into integer": (pa.array([3.0, None, -0.0]), "integer", [3, None, 0]),
    "whole decimal into integer": (pa.array([Decimal("3.00"), None]), "integer", [3, None]),
    "text into integer": (pa.array(["12", "-3", None]), "integer", [12, -3, None]),
    "0 and 1 into bool": (pa.array([1, 0, None]), "boolean", [True, False, None]),
    "unsigned 0 and 1 into bool": (pa.array([1, 0], pa.uint64()), "boolean", [True, False]),
    "no integers into bool": (pa.array([], pa.int64()), "boolean", []),
    "text into bool": (pa.array(["true", "false", None]), "boolean", [True, False, None]),
    "float64 into real": (pa.array([0.5, None, -0.0]), "real", [0.5, None, 0.0]),
    "float16 into double": (pa.array([np.float16(1.5), None], pa.float16()), "double precision", [1.5, None]),
    "infinity into real": (pa.array([math.inf, -math.inf]), "real", [math.inf, -math.inf]),
    "int64 into double": (pa.array([2**53, None]), "double precision", [2.0**53, None]),
    "decimal into double": (pa.array([Decimal("0.10"), None]), "double precision", [0.1, None]),
    "text into double": (pa.array(["0.1", "1e10", None]), "double precision", [0.1, 1e10, None]),
    "float64 into numeric": (pa.array([0.1, 1.005, None]), "numeric(12,4)", [Decimal("0.1"), Decimal("1.005"), None]),
    "text into numeric": (pa.array(["0.1", None]), "numeric(12,4)", [Decimal("0.1000"), None]),
    "decimal into numeric": (pa.array([Decimal("0.10000")]), "numeric(12,4)", [Decimal("0.1")]),
    "float into bare numeric": (pa.array([0.1, None]), "numeric", ["0.1", None]),
    "text into bare numeric": (pa.array(["1.50", None]), "numeric", ["1.50", None]),
    "decimal into bare numeric": (pa.array([Decimal("1.50")]), "numeric", [Decimal("1.50")]),
    "decimal into wide numeric": (pa.array([Decimal("1.5")]), "numeric(60,2)", [Decimal("1.50")]),
    "midnight into date": (
        pa.array([datetime.datetime(1969, 12, 31), None]),
        "date",
        [datetime.date(1969, 12, 31), None],
    ),
    "text into date": (pa.array(["2024-02-29"]), "date", [datetime.date(2024, 2, 29)]),
    "date64 into date": (pa.array([datetime.date(2024, 2, 29)], pa.date64()), "date", [datetime.date(2024, 2, 29)]),
    "time32 into time": (pa.array([datetime.time(1, 2)], pa.time32("s")), "time", [datetime.time(1, 2)]),
    "text into time": (
        pa.array(["10:30", "10:30:15.123456", None]),
        "time",
        [datetime.time(10, 30), datetime.time(10, 30, 15, 123456), None],
    ),
    "nanoseconds into timestamp": (
        pa.array([1000, None], pa.timestamp("ns")),
        "timestamp",
        [datetime.datetime(1970, 1, 1, 0, 0, 0, 1), None],
    ),
    "date into timestamp": (pa.array([datetime.date(2024, 1, 2)]), "timestamp", [datetime.datetime(2024, 1, 2)]),
    "text into timestamp": (pa.array(["2024-05-17 10:30:15.123456"]), "timestamp", [MOMENT]),
    "offset text into timestamptz": (
        pa.array(["2024-05-17T12:30:15.123456+02:00"]),
        "timestamptz",
        [MOMENT.replace(tzinfo=UTC)],
    ),
    "berlin into timestamptz": (
        pa.array([MOMENT.replace(tzinfo=UTC)], pa.timestamp("us", "Europe/Berlin")),
        "timestamptz",
        [MOMENT.replace(tzinfo=UTC)],
    ),
    "milliseconds into timestamp(3)": (
        pa.array([MOMENT.replace(microsecond=123000)]),
        "timestamp(3)",
        [MOMENT.replace(microsecond=123000)],
    ),
    "duration into interval": (pa.array([1500], pa.duration("ms")), "interval", [datetime.timedelta(seconds=1.5)]),
    "text into uuid": (pa.array([str(SOME_UUID), SOME_UUID.hex, None]), "uuid", [SOME_UUID.bytes] * 2 + [None]),
    "uuid into uuid": (uuids(SOME_UUID, None), "uuid", [SOME_UUID.bytes, None]),
    "uuid into text": (uuids(SOME_UUID, None), "text", [str(SOME_UUID), None]),
    "int into text": (pa.array([5, None]), "text", ["5", None]),
    "decimal into text": (pa.array([Decimal("1.50")]), "text", ["1.50"]),
    "time into text": (pa.array([datetime.time(1, 2, 3)], pa.time32("s")), "text", ["01:02:03"]),
    "aware into text": (
        pa.array([MOMENT.replace(tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")),
        "text",
        ["2024-05-17 10:30:15.123456+00:00", None],
    ),
    "text of n characters": (pa.array(["äöü", "", None]), "varchar(3)", ["äöü", "", None]),
    "text view": (pa.array(["a", None], pa.string_view()), "text", ["a", None]),
    "large text": (pa.array(["a", None], pa.large_string()), "varchar(1)", ["a", None]),
    "text for the server": (pa.array(["10.0.0.1", None]), "inet", ["10.0.0.1", None]),
    "binary view": (pa.array([b"\0\xff", None], pa.binary_view()), "bytea", [b"\0\xff", None]),
    "fixed binary": (pa.array([b"\0\xff"], pa.binary(2)), "bytea", [b"\0\xff"]),
}


@pytest.mark.parametrize(("values", "sql", "expected"), FITTING.values(), ids=FITTING)
def test_a_value_that_fits_is_kept(values: pa.Array, sql: str, expected: list[Any]) -> None:
    assert stored(values, sql) == expected


REFUSED = [
    pytest.param(dialect, column, bad, reason, id=f"{name}-{dialect}")
    for column, named in BAD_VALUES.items()
    for name, (bad, reason) in named.items()
    for dialect in DIALECTS
    if column.is_converted(dialect)
]


@pytest.mark.parametrize(("dialect", "column", "bad", "reason"), REFUSED)
def test_a_value_that_would_change_is_refused_with_the_reason(
    dialect: str, column: catalogue.Column, bad: Any, reason: str
) -> None:
    sql, given = str(column.on(dialect)), column.array([*column.good, None, bad])
    error = refusal(given, sql, dialect, **column.options)
    assert (error.row, error.column) == (len(given) - 1, "c")
    assert error.reason in reason.split("|")
    assert str(error).startswith(f"row {error.row}, column 'c': {error.value} does not fit {sql}: ")
    assert "Nothing was written" in str(error)
    with contextlib.suppress(ValueError, OverflowError):  # Python has no such date
        assert error.value == cut(repr(given[-1].as_py()))


def test_nan_is_kept_in_a_float_column() -> None:
    kept = stored(pa.array([math.nan, None, 0.5]), "real")
    assert math.isnan(kept[0])
    assert kept[1:] == [None, 0.5]
    assert math.isnan(stored(pa.array([math.nan], pa.float32()), "double precision")[0])


@pytest.mark.parametrize("sql", ["REAL", "NUMERIC"])
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
def test_nan_is_refused_where_sqlite_would_store_null(sql: str, kind: pa.DataType) -> None:
    """https://sqlite.org/floatingpoint.html: SQLite turns NaN into NULL."""
    assert refusal(pa.array([0.5, None, math.nan], kind), sql, "sqlite").row == 2


@pytest.mark.parametrize(
    ("values", "sql"),
    [
        (pa.array([10**17], pa.timestamp("s")), "timestamp"),
        (pa.array([10**17], pa.duration("s")), "interval"),
    ],
    ids=["timestamp", "duration"],
)
def test_a_value_that_python_cannot_hold_is_refused_by_row_too(values: pa.Array, sql: str) -> None:
    assert refusal(values, sql).row == 0


@pytest.mark.parametrize(
    "value",
    [Decimal("2.00"), Decimal("123.00"), Decimal("-123.00")],
    ids=str,
)
@pytest.mark.parametrize(
    "source",
    [pa.decimal32(7, 2), pa.decimal64(7, 2), pa.decimal128(7, 2), pa.decimal256(7, 2), pa.decimal128(5, -2)],
    ids=str,
)
def test_a_whole_decimal_of_any_width_fits_an_integer_column(source: pa.DataType, value: Decimal) -> None:
    value = value * 100 if source.scale < 0 else value
    assert stored(pa.array([value], source), "bigint") == [int(value)]


@pytest.mark.parametrize("kind", [pa.decimal128(2, 2), pa.decimal256(76, 76)], ids=str)
@pytest.mark.parametrize(("column", "reason"), [("bigint", "fraction"), ("numeric(13,0)", "digits")])
def test_a_decimal_type_without_a_digit_before_the_point_fits_a_whole_column_where_it_is_zero(
    kind: pa.DataType, column: str, reason: str
) -> None:
    assert stored(pa.array([Decimal(0), None], kind), column) == [0, None]
    assert refusal(pa.array([Decimal("0.76")], kind), column).reason == reason


SAMPLES: dict[str, list[pa.Array]] = {
    "null": [pa.nulls(2)],
    "bool": [pa.array([True, None])],
    "int": [pa.array([1, None], kind) for kind in (pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint64())],
    "float": [pa.array([np.float16(1), None], kind) for kind in (pa.float16(), pa.float32(), pa.float64())],
    "decimal": [
        pa.array([Decimal(1), None], kind)
        for kind in (pa.decimal32(3, 1), pa.decimal64(3, 1), pa.decimal128(3, 1), pa.decimal256(3, 1))
    ],
    "date": [pa.array([datetime.date(2024, 1, 2), None], kind) for kind in (pa.date32(), pa.date64())],
    "time": [pa.array([36000, None], kind) for kind in (pa.time32("s"), pa.time64("us"), pa.time64("ns"))],
    "timestamp": [pa.array([86400000, None], pa.timestamp(unit)) for unit in ("s", "ms")]
    + [pa.array([86400000000000, None], pa.timestamp("ns"))],
    "timestamptz": [pa.array([86400000, None], pa.timestamp(unit, "Asia/Tokyo")) for unit in ("s", "ms", "us")],
    "duration": [pa.array([5000, None], pa.duration(unit)) for unit in ("s", "ns")],
    "uuid": [uuids(SOME_UUID, None)],
    "binary": [pa.array([b"x", None], kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())],
    "interval": [pa.array([(1, 2, 3000), None], pa.month_day_nano_interval())],
    "list": [pa.array([[1], None], kind(pa.int32())) for kind in (pa.list_, pa.large_list, pa.list_view)],
    "nested": [pa.array([{"a": 1}, None]), pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32()))],
}
TEXTS = {
    "bytea": "\\x00ff",
    "bool": "true",
    "int2": "1",
    "int4": "1",
    "int8": "1",
    "float4": "1",
    "float8": "1",
    "numeric": "1",
    "date": "2024-01-02",
    "time": "10:30:00",
    "timestamp": "2024-01-02 10:30:00",
    "datetime": "2024-01-02 10:30:00",
    "real": "1",
    "timestamptz": "2024-01-02 10:30:00Z",
    "uuid": str(SOME_UUID),
    "money": "1",
    "json": "1",
    "jsonb": "1",
    "number": "1",
    "geometric": "(1,2)",
    "box": "(3,4),(1,2)",
    "macaddr8": "08:00:2b:01:02:03:04:05",
}
KINDS = [(kind, "sqlite" if kind in {"number", "loose", "any", "real", "datetime"} else "postgresql") for kind in TYPES]
SPELLED = {
    "other": "inet",
    "number": "NUMERIC",
    "loose": "STRING",
    "any": "",
    "real": "REAL",
    "numeric": "numeric(20,4)",
    "datetime": "DATETIME",
    "enum": "mood",
    "array": "integer[]",
}
ACCEPTED = [
    (kind, dialect, values)
    for kind, dialect in KINDS
    for family in sorted((TYPES[kind].accepts | {"null"}) - {"string"})
    if (family, kind) != ("timestamptz", "timestamp")
    for values in SAMPLES[family]
]


@pytest.mark.parametrize(
    ("kind", "dialect", "values"), ACCEPTED, ids=[f"{values.type} into {kind}" for kind, _, values in ACCEPTED]
)
def test_every_pair_that_the_type_table_accepts_carries_an_ordinary_value(
    kind: str, dialect: str, values: pa.Array
) -> None:
    spelled = SPELLED[kind] if kind in SPELLED else TYPES[kind].spellings[0] + ("(40)" if kind == "bpchar" else "")
    kept = stored(values, spelled, dialect)
    assert (kept[0] is None, kept[1]) == (pa.types.is_null(values.type), None)


@pytest.mark.parametrize("values", SAMPLES["timestamptz"], ids=lambda values: str(values.type))
def test_a_moment_loses_its_zone_only_where_that_is_allowed(values: pa.Array) -> None:
    with pytest.raises(UnsafeCast, match="without losing the time zone"):
        stored(values, "timestamp")
    moment = values[0].as_py().astimezone(UTC).replace(tzinfo=None)
    assert stored(values, "timestamp", casts="lossy") == [moment, None]


@pytest.mark.parametrize("source", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize(
    ("kind", "dialect"),
    [(kind, dialect) for kind, dialect in KINDS if "string" in TYPES[kind].accepts],
    ids=[kind for kind in TYPES if "string" in TYPES[kind].accepts],
)
def test_text_is_read_for_every_kind_that_accepts_it(kind: str, dialect: str, source: pa.DataType) -> None:
    values = pa.array([TEXTS.get(kind, "x"), None], source)
    kept = stored(values, SPELLED[kind] if kind in SPELLED else TYPES[kind].spellings[0], dialect)
    assert kept[0] is not None
    assert kept[1] is None


def test_nested_values_become_json() -> None:
    when = datetime.date(2024, 5, 17)
    values = pa.array([{"a": [1, None], "b": "ä", "on": when, "price": Decimal("1.50")}, None])
    first, missing = stored(values, "jsonb")
    assert json.loads(first) == {"a": [1, None], "b": "ä", "on": "2024-05-17", "price": 1.5}
    assert "ä" in first
    assert missing is None


def test_a_map_becomes_a_json_object() -> None:
    values = pa.array([[("a", 1), ("b", 2)]], pa.map_(pa.string(), pa.int64()))
    assert [json.loads(one) for one in stored(values, "jsonb")] == [{"a": 1, "b": 2}]


def test_a_map_with_a_repeated_key_is_refused() -> None:
    values = pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    assert refusal(values, "jsonb").row == 0


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
@pytest.mark.parametrize(
    ("values", "problems"),
    [
        (pa.array([[datetime.timedelta(1)], None]), ["JSON has no timedelta", None]),
        (pa.array([{"a": b"\xff"}, {"a": None}]), ["JSON has no bytes", None]),
        (
            pa.array([{"a": datetime.timedelta(1), "b": 1.0}, {"b": math.nan}, {"b": 1.0}, {"b": math.inf}]),
            ["JSON has no timedelta", "it contains a NaN or an infinity", None, "it contains a NaN or an infinity"],
        ),
        (
            pa.array([[("a", 1), ("a", 2)], [("b", 1)]], pa.map_(pa.string(), pa.int32())),
            ["a key of a map occurs twice", None],
        ),
    ],
)
def test_a_value_that_is_no_json_is_refused_for_what_is_in_it(
    values: pa.Array, problems: list[str | None], dialect: str
) -> None:
    (column,) = plans(dialect, c=(values.type, "json"))
    found = {one.offset: one.problem for one in ColumnConverter(column)(values)[1]}
    assert [found.get(row) for row in range(len(values))] == problems


BAD_AT_3 = [1, None, 3, 40000, 5, 50000]
WRAPPINGS = {
    "plain": pa.array(BAD_AT_3),
    "dictionary": pa.array(BAD_AT_3).dictionary_encode(),
    "run-end": pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4, 5, 6], pa.array(BAD_AT_3)),
    "slice": pa.array([99999, *BAD_AT_3, 99999]).slice(1, 6),
    "slice of a dictionary": pa.array([99999, *BAD_AT_3, 99999]).dictionary_encode().slice(1, 6),
    "slice of runs": pa.RunEndEncodedArray.from_arrays([2, 3, 4, 5, 6, 7], pa.array(BAD_AT_3)).slice(1, 6),
    "text": pa.array([None if one is None else str(one) for one in BAD_AT_3]),
    "text view": pa.array([None if one is None else str(one) for one in BAD_AT_3], pa.string_view()),
}


@pytest.mark.parametrize("values", WRAPPINGS.values(), ids=WRAPPINGS)
def test_every_bad_row_is_named_with_its_position_in_the_source(values: pa.Array) -> None:
    error = refusal(values, "smallint", first_row=1000)
    first, last = (repr(values[at].as_py()) for at in (3, 5))
    assert (error.row, error.value, error.reason, error.counts) == (1003, first, "range", {("c", "range"): 2})
    headline, *lines = str(error).split("\n")
    assert headline == "2 values do not fit: 2 in 'c' (range)"
    assert lines[0].startswith(
        f"  row 1003, column 'c': {first} does not fit smallint: it is out of the column's range"
    )
    assert lines[1].startswith(f"  row 1005, column 'c': {last} does not fit smallint: it is out of the column's range")


@pytest.mark.parametrize("bad", range(9))
def test_a_single_bad_row_is_found_wherever_it_is(bad: int) -> None:
    values = pa.array([3.7 if position == bad else float(position) for position in range(9)])
    assert refusal(values, "integer").row == bad


def test_the_first_of_two_values_that_are_bad_in_different_ways_is_named() -> None:
    assert refusal(pa.array([1.5, 0.12345, math.nan, 1e9]), "numeric(8,4)").row == 1
    assert refusal(pa.array([1.5, math.nan, 0.12345]), "numeric(8,4)").row == 1


def test_a_long_value_is_shown_cut() -> None:
    error = refusal(pa.array(["x" * 500]), "varchar(3)")
    assert error.value == "'" + "x" * 38 + "…"


@pytest.mark.parametrize("wrapped", [pa.array(["a", None, "a"]).dictionary_encode(), pa.array(["a", None, "a"])])
def test_a_dictionary_is_measured_like_plain_text(wrapped: pa.Array) -> None:
    assert stored(wrapped, "varchar(1)") == ["a", None, "a"]


def test_a_null_inside_of_a_dictionary_is_missing() -> None:
    values = pa.DictionaryArray.from_arrays([0, 1, None], pa.array(["a", None]))
    assert stored(values, "text") == ["a", None, None]


def test_arrows_own_json_and_bool8_are_unwrapped() -> None:
    texts = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None]))
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8()))
    assert unwrapped(texts).to_pylist() == ['{"a": 1}', None]
    assert stored(texts, "jsonb") == ['{"a": 1}', None]
    assert stored(flags, "boolean") == [True, False, None]


def test_a_batch_keeps_its_columns_in_order() -> None:
    convert = Converter(plans(a=(pa.int64(), "smallint"), b=(pa.float64(), "numeric(4,2)")))
    batch = pa.record_batch({"a": [1, None], "b": [0.25, 1.5]})
    converted = convert(batch, 0).batch
    assert converted.schema.types == [pa.int16(), pa.decimal128(4, 2)]
    assert converted.to_pylist() == [{"a": 1, "b": Decimal("0.25")}, {"a": None, "b": Decimal("1.50")}]


def test_a_slice_of_a_batch_is_converted_from_its_own_rows() -> None:
    convert = Converter(plans(a=(pa.int64(), "smallint")))
    batch = pa.record_batch({"a": [1, 2, 70000, 4]})
    assert convert(batch.slice(3), 3).batch.to_pylist() == [{"a": 4}]
    converted = convert(batch.slice(1), 1)
    assert [one.row for one in converted.violations] == [2]
    assert converted.batch.to_pylist() == [{"a": 2}, {"a": 4}]
    assert converted.rows.tolist() == [1, 3]


def test_a_batch_whose_type_differs_from_the_plan_is_converted_as_it_is() -> None:
    convert = Converter(plans(a=(pa.int64(), "smallint")))
    assert convert(pa.record_batch({"a": ["12"]}), 0).batch.to_pylist() == [{"a": 12}]
    (violation,) = convert(pa.record_batch({"a": ["twelve"]}), 7).violations
    assert str(violation).startswith("row 7, column 'a': 'twelve' does not fit smallint")


def test_a_batch_whose_timestamps_lost_their_zone_is_refused() -> None:
    convert = Converter(plans(a=(pa.timestamp("us", "UTC"), "timestamptz")))
    converted = convert(pa.record_batch({"a": pa.array([MOMENT, None])}), 0)
    assert [(one.row, one.reason) for one in converted.violations] == [(0, "type")]
    assert converted.batch.to_pylist() == [{"a": None}]


def test_an_empty_batch_is_converted() -> None:
    convert = Converter(plans(a=(pa.float64(), "numeric(12,4)"), b=(pa.string(), "varchar(3)")))
    empty = pa.RecordBatch.from_pydict({"a": pa.array([], pa.float64()), "b": pa.array([], pa.string())})
    assert convert(empty, 0).batch.num_rows == 0


def test_text_of_a_moment_is_the_same_instant_in_utc() -> None:
    before_epoch = datetime.datetime(1883, 11, 18, 12, 0, 0, 1, tzinfo=UTC)
    values = pa.array([before_epoch, MOMENT.replace(tzinfo=UTC), None], pa.timestamp("us", "America/New_York"))
    texts = to_text(values).to_pylist()
    assert [one and datetime.datetime.fromisoformat(one) for one in texts] == values.to_pylist()


def test_sqlite_keeps_an_aware_and_a_naive_moment_as_they_are() -> None:
    assert stored(pa.array([MOMENT]), "DATETIME", "sqlite") == [MOMENT]
    aware = pa.array([MOMENT.replace(tzinfo=UTC)], pa.timestamp("ns", "Asia/Tokyo"))
    assert stored(aware, "DATETIME", "sqlite") == [MOMENT.replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    "values",
    [pa.array([2**63], pa.uint64()), pa.array([Decimal("1234567890123456")]), pa.array([Decimal("1.5") ** 40])],
    ids=["unsigned", "sixteen digits", "many decimal places"],
)
def test_a_number_that_sqlite_would_round_is_refused(values: pa.Array) -> None:
    assert refusal(values, "NUMERIC", "sqlite").row == 0


def exact(value: Decimal, precision: int, scale: int) -> bool:
    """Whether a numeric(precision, scale) holds the value without rounding."""
    with decimal.localcontext(prec=400):
        return value.is_finite() and value == round(value, scale) and abs(value) < Decimal(10) ** (precision - scale)


SCALED = st.sampled_from([(12, 4), (5, 0), (38, 10), (38, 38), (3, 3), (20, 2), (60, 30)])
PRICES = st.decimals(-(10**9), 10**9, places=4).map(float)


@settings(deadline=None)
@given(st.one_of(st.floats(), PRICES), SCALED)
@example(0.1, (12, 4))
@example(1e22, (38, 10))
@example(9007199254740993.0, (20, 2))
@example(0.30000000000000004, (38, 10))
@example(4.35, (20, 2))
@example(5e-324, (38, 38))
@example(3.896344801194635e-58, (12, 4))
def test_a_float_becomes_the_decimal_that_repr_shows_or_is_refused(value: float, size: tuple[int, int]) -> None:
    precision, scale = size
    meant = Decimal(repr(value))
    values = pa.array([value], pa.float64(), from_pandas=False)
    if exact(meant, precision, scale):
        assert stored(values, f"numeric({precision},{scale})") == [meant]
    else:
        assert refusal(values, f"numeric({precision},{scale})").row == 0


@settings(deadline=None)
@given(st.lists(st.one_of(PRICES, st.none(), st.floats(allow_nan=False)), min_size=1, max_size=20))
def test_a_column_of_floats_is_refused_at_its_first_inexact_value(values: list[float | None]) -> None:
    meant = [None if one is None else Decimal(repr(one)) for one in values]
    bad = [row for row, one in enumerate(meant) if one is not None and not exact(one, 14, 4)]
    array = pa.array(values, pa.float64())
    if bad:
        assert refusal(array, "numeric(14,4)").row == bad[0]
    else:
        assert stored(array, "numeric(14,4)") == meant


@settings(deadline=None)
@given(st.integers(-(2**63), 2**64 - 1), SCALED)
def test_an_integer_becomes_the_same_decimal_or_is_refused(value: int, size: tuple[int, int]) -> None:
    precision, scale = size
    values = pa.array([value], pa.int64() if value < 2**63 else pa.uint64())
    if exact(Decimal(value), precision, scale):
        assert stored(values, f"numeric({precision},{scale})") == [value]
    else:
        assert refusal(values, f"numeric({precision},{scale})").row == 0


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    with decimal.localcontext(prec=100):
        largest = 10**precision - 1
        return st.integers(-largest, largest).map(lambda digits: Decimal(digits).scaleb(-scale, decimal.Context(100)))


@settings(deadline=None)
@given(st.sampled_from([(38, 0), (28, 2), (38, 10), (76, 10), (9, 2)]), SCALED, st.data())
@example((28, 2), (38, 18), Decimal("11758885250233670376314960.26"))
def test_a_decimal_of_another_size_stays_the_same_or_is_refused(
    source: tuple[int, int], size: tuple[int, int], data: st.DataObject | Decimal
) -> None:
    value = data if isinstance(data, Decimal) else data.draw(decimals(*source))
    values = pa.array([value], (pa.decimal256 if source[0] > 38 else pa.decimal128)(*source))
    with decimal.localcontext(prec=400):
        if exact(value, *size):
            assert stored(values, f"numeric({size[0]},{size[1]})") == [value]
        else:
            assert refusal(values, f"numeric({size[0]},{size[1]})").row == 0


@settings(deadline=None)
@given(st.one_of(decimals(10, 4), decimals(30, 6), decimals(76, 0)), SCALED)
@example(Decimal("9397243665902797379453926"), (38, 18))
def test_a_number_in_text_becomes_the_same_decimal_or_is_refused(value: Decimal, size: tuple[int, int]) -> None:
    values = pa.array([format(value, "f")])
    if exact(value, *size):
        assert stored(values, f"numeric({size[0]},{size[1]})") == [value]
    else:
        assert refusal(values, f"numeric({size[0]},{size[1]})").row == 0


@settings(deadline=None)
@given(decimals(38, 4))
@example(Decimal("12.0000"))
def test_a_decimal_fits_an_integer_only_if_it_is_one(value: Decimal) -> None:
    values = pa.array([value], pa.decimal128(38, 4))
    if value == round(value) and -(2**63) <= value < 2**63:
        assert stored(values, "bigint") == [int(value)]
    else:
        assert refusal(values, "bigint").row == 0


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=12))
@example(Decimal("0.100000000000"))
@example(Decimal("9007199254740993.000000000000"))
def test_a_decimal_fits_a_double_only_if_the_double_shows_its_digits(value: Decimal) -> None:
    values = pa.array([value], pa.decimal128(38, 12))
    if Decimal(repr(float(value))) == value:
        assert stored(values, "double precision") == [float(value)]
    else:
        assert refusal(values, "double precision").row == 0


@settings(deadline=None)
@given(st.floats(width=64, allow_nan=False))
def test_a_double_fits_a_real_only_if_it_comes_back(value: float) -> None:
    narrow = pa.array([value]).cast(pa.float32())[0].as_py()
    if narrow == value:
        assert stored(pa.array([value]), "real") == [value]
    else:
        assert refusal(pa.array([value]), "real").row == 0


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3)], ids=str)
def test_bytes_are_spelled_as_postgresql_spells_them(kind: pa.DataType) -> None:
    values = pa.array([b"\x00\xff\x0a", None, b"abc", b"\x7f\x80\x09"], kind)
    spelled = ["\\x00ff0a", None, "\\x616263", "\\x7f8009"]
    for start, end in ((0, 4), (1, 3), (2, 4), (1, 2), (4, 4)):
        shown = to_text(values.slice(start, end - start))
        shown.validate(full=True)
        assert (shown.type, shown.to_pylist()) == (pa.string(), spelled[start:end])
    assert to_text(pa.array([b"", None, b"\x00" * 100_001], pa.binary())).to_pylist()[2] == "\\x" + "00" * 100_001


@pytest.mark.parametrize("seconds", [2**62, -(2**62)])
def test_a_timestamp_that_has_no_microseconds_is_refused_and_not_wrapped(seconds: int) -> None:
    assert refusal(pa.array([0, seconds], pa.timestamp("s")), "timestamp").reason == "range"


def test_a_timestamp_before_the_years_that_arrow_spells_is_text_as_postgresql_spells_it() -> None:
    values = pa.array([0, -62_200_000_000, -(10**12)], pa.timestamp("s"))
    assert stored(values, "text") == ["1970-01-01 00:00:00", "0003-12-17 14:13:20 BC", "29720-04-05 22:13:20 BC"]


def test_a_text_that_its_producer_has_not_made_of_unicode_is_refused() -> None:
    offsets = pa.array(["a", "b\u00e4", "c"]).buffers()[1]
    values = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"ab\xff\xe4c")])
    assert (refusal(values, "text").row, refusal(values, "text").reason) == (1, "encoding")


@pytest.mark.parametrize("missing", [None, 1])
def test_a_dictionary_of_a_type_that_arrow_does_not_take_from_is_unpacked(missing: int | None) -> None:
    lists = pa.array([["a"], ["b"]], pa.list_(pa.string_view()))
    found = stored(pa.DictionaryArray.from_arrays(pa.array([1, missing, 0]), lists), "text[]")
    assert found == ['{"b"}', missing and '{"b"}', '{"a"}']
