"""Round trips of every type with its edge values. What is stored is read as text that the server made."""

from __future__ import annotations

import datetime
import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

NASTY = [
    "",
    " ",
    "plain",
    "ünïcödé",
    "😀👩‍👩‍👧",
    'it\'s "quoted"',
    "back\\slash \\n \\t",
    "tab\there",
    "line\nbreak\r\n",
    "\\N",
    "\\.",
    "NULL",
    "%s %(a)s :name $1 ?",
    "a,b;c|d",
    "{curly}",
    "x" * 10_000,
]
UUIDS = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678-1234-5678-1234-567812345678")]
US = datetime.timedelta(microseconds=1)
EPOCH = datetime.datetime(1970, 1, 1)
MOMENTS = [datetime.datetime.min, EPOCH - US, EPOCH, datetime.datetime(2024, 2, 29, 12, 30), datetime.datetime.max]
MOMENT_TEXTS = [
    "0001-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "1970-01-01 00:00:00",
    "2024-02-29 12:30:00",
    "9999-12-31 23:59:59.999999",
]
DAYS = [datetime.date.min, datetime.date(1969, 12, 31), datetime.date(2024, 2, 29), datetime.date.max]
DAY_TEXTS = ["0001-01-01", "1969-12-31", "2024-02-29", "9999-12-31"]
TIMES = [datetime.time.min, datetime.time(12, 30), datetime.time.max]
TIME_TEXTS = ["00:00:00", "12:30:00", "23:59:59.999999"]
WIDE = [Decimal("1" * 38), Decimal("-" + "9" * 38)]
FIFTY = [Decimal("1" * 40 + "." + "2" * 10), Decimal("-0.0000000001")]
FLOATS = [0.0, 0.1, -1.5, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf]
FLOAT_TEXTS = ["0", "0.1", "-1.5", "5e-324", "1.7976931348623157e+308", "NaN", "Infinity", "-Infinity"]
MONEY = [Decimal("99999999.9999"), Decimal("-99999999.9999"), Decimal("0.0001"), Decimal("0.0000")]
MONEY_TEXTS = ["99999999.9999", "-99999999.9999", "0.0001", "0.0000"]
JSON = ['{"a": 1, "b": [true, null, "ü\\n"]}', "[]", '"text"', "null", "1"]


def array(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([*values, None], kind)


def utc(values: list[datetime.datetime], zone: str = "UTC") -> pa.Array:
    return pa.array([*values, None], pa.timestamp("us")).cast(pa.timestamp("us", zone))


Case = tuple[str, pa.Array, list[str]]
BY_COPY: dict[str, Case] = {
    "bool": ("boolean", array([True, False], pa.bool_()), ["true", "false"]),
    "int2": ("smallint", array([-(2**15), 0, 2**15 - 1], pa.int16()), ["-32768", "0", "32767"]),
    "int4": ("integer", array([-(2**31), 2**31 - 1], pa.int32()), ["-2147483648", "2147483647"]),
    "int8": ("bigint", array([-(2**63), 2**63 - 1], pa.int64()), [str(-(2**63)), str(2**63 - 1)]),
    "int8 from int8": ("bigint", array([-128, 127], pa.int8()), ["-128", "127"]),
    "int8 from uint64": ("bigint", array([0, 2**63 - 1], pa.uint64()), ["0", str(2**63 - 1)]),
    "int4 from whole floats": ("integer", array([-2.0, 7.0], pa.float64()), ["-2", "7"]),
    "int4 from whole decimals": ("integer", array([Decimal("7.00")], pa.decimal128(9, 2)), ["7"]),
    "int2 from bool": ("smallint", array([True, False], pa.bool_()), ["1", "0"]),
    "float4": (
        "real",
        array([0.5, 3.4028234663852886e38, math.nan, math.inf, -math.inf], pa.float32()),
        ["0.5", "3.4028235e+38", "NaN", "Infinity", "-Infinity"],
    ),
    "float8": ("double precision", array(FLOATS, pa.float64()), FLOAT_TEXTS),
    "float8 from int": (
        "double precision",
        array([2**53, -(2**53)], pa.int64()),
        ["9.007199254740992e+15", "-9.007199254740992e+15"],
    ),
    "float8 from decimal": ("double precision", array([Decimal("0.10")], pa.decimal128(5, 2)), ["0.1"]),
    "numeric(12,4)": ("numeric(12,4)", array(MONEY, pa.decimal128(12, 4)), MONEY_TEXTS),
    "numeric(12,4) from float": (
        "numeric(12,4)",
        array([0.1, 1.005, -2.675], pa.float64()),
        ["0.1000", "1.0050", "-2.6750"],
    ),
    "numeric(12,4) from int": ("numeric(12,4)", array([99_999_999, -1], pa.int64()), ["99999999.0000", "-1.0000"]),
    "numeric(12,4) from text": (
        "numeric(12,4)",
        array(["0.10", "-99999999.9999"], pa.string()),
        ["0.1000", "-99999999.9999"],
    ),
    "numeric(12,4) from a smaller decimal": (
        "numeric(12,4)",
        array([Decimal("1.25")], pa.decimal128(5, 2)),
        ["1.2500"],
    ),
    "numeric(38,0)": ("numeric(38,0)", array(WIDE, pa.decimal128(38, 0)), ["1" * 38, "-" + "9" * 38]),
    "numeric": ("numeric", array([Decimal("1." + "1" * 37)], pa.decimal128(38, 37)), ["1." + "1" * 37]),
    "numeric from int": ("numeric", array([-(2**63), 2**63 - 1], pa.int64()), [str(-(2**63)), str(2**63 - 1)]),
    "numeric from uint64": ("numeric", array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
    "text": ("text", array(NASTY, pa.string()), NASTY),
    "text from large string": ("text", array(NASTY, pa.large_string()), NASTY),
    "text from string view": ("text", array(NASTY, pa.string_view()), NASTY),
    "text from dictionary": ("text", array(NASTY, pa.string()).dictionary_encode(), NASTY),
    "text from int": ("text", array([2**63 - 1], pa.int64()), [str(2**63 - 1)]),
    "text from decimal": ("text", array([Decimal("0.10")], pa.decimal128(5, 2)), ["0.10"]),
    "varchar(n)": (
        "varchar(8)",
        array(["", "12345678", "ääääääää", "😀"], pa.string()),
        ["", "12345678", "ääääääää", "😀"],
    ),
    "char(n)": ("char(3)", array(["abc", "ä", "😀😀😀"], pa.string()), ["abc", "ä", "😀😀😀"]),
    "bytea": ("bytea", array([b"", b"\x00\xff\\", b"'"], pa.binary()), ["\\x", "\\x00ff5c", "\\x27"]),
    "bytea from fixed size": ("bytea", array([b"\x00\x01"], pa.binary(2)), ["\\x0001"]),
    "date": ("date", array(DAYS, pa.date32()), DAY_TEXTS),
    "date from date64": ("date", array(DAYS, pa.date64()), DAY_TEXTS),
    "date from midnights": ("date", array([datetime.datetime(2024, 2, 29)], pa.timestamp("us")), ["2024-02-29"]),
    "date from text": ("date", array(DAY_TEXTS, pa.string()), DAY_TEXTS),
    "time": ("time", array(TIMES, pa.time64("us")), TIME_TEXTS),
    "time from seconds": ("time", array([datetime.time(23, 59, 59)], pa.time32("s")), ["23:59:59"]),
    "time from text": ("time", array(["00:00:00", "23:59:59.999999"], pa.string()), ["00:00:00", "23:59:59.999999"]),
    "time(3)": ("time(3)", array([datetime.time(1, 2, 3, 4000)], pa.time64("us")), ["01:02:03.004"]),
    "timestamp": ("timestamp", array(MOMENTS, pa.timestamp("us")), MOMENT_TEXTS),
    "timestamp from nanoseconds": (
        "timestamp",
        array([EPOCH - US], pa.timestamp("ns")),
        ["1969-12-31 23:59:59.999999"],
    ),
    "timestamp from seconds": ("timestamp", array([EPOCH.replace(year=1)], pa.timestamp("s")), ["0001-01-01 00:00:00"]),
    "timestamp from date": ("timestamp", array(DAYS, pa.date32()), [f"{day} 00:00:00" for day in DAY_TEXTS]),
    "timestamp from text": ("timestamp", array(MOMENT_TEXTS, pa.string()), MOMENT_TEXTS),
    "timestamp(0)": ("timestamp(0)", array([EPOCH], pa.timestamp("us")), ["1970-01-01 00:00:00"]),
    "timestamptz": ("timestamptz", utc(MOMENTS), [f"{text}+00" for text in MOMENT_TEXTS]),
    "timestamptz of a zone": (
        "timestamptz",
        utc(MOMENTS[1:4], "Europe/Berlin"),
        [f"{text}+00" for text in MOMENT_TEXTS[1:4]],
    ),
    "timestamptz from text": (
        "timestamptz",
        array(["2024-02-29T12:30:00+02:00"], pa.string()),
        ["2024-02-29 10:30:00+00"],
    ),
    "timestamptz(3)": ("timestamptz(3)", utc([EPOCH]), ["1970-01-01 00:00:00+00"]),
    "interval": (
        "interval",
        array([datetime.timedelta(days=1), -US, datetime.timedelta(hours=36, microseconds=5)], pa.duration("us")),
        ["24:00:00", "-00:00:00.000001", "36:00:00.000005"],
    ),
    "uuid": ("uuid", array([one.bytes for one in UUIDS], pa.uuid()), [str(one) for one in UUIDS]),
    "uuid from text": ("uuid", array([str(one) for one in UUIDS], pa.string()), [str(one) for one in UUIDS]),
    "text from uuid": ("text", array([one.bytes for one in UUIDS], pa.uuid()), [str(one) for one in UUIDS]),
    "json": ("json", array(JSON, pa.string()), JSON),
    "json from Arrow's json": ("json", array(JSON, pa.json_()), JSON),
    "jsonb": ("jsonb", array(JSON, pa.string()), JSON),
    "jsonb from structs": (
        "jsonb",
        array([{"a": 1, "b": ["ü"]}], pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())})),
        ['{"a": 1, "b": ["ü"]}'],
    ),
    "jsonb from maps": ("jsonb", array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), ['{"a": 1}']),
    "enum": ("mood", array(["so, so", "it's"], pa.string()), ["so, so", "it's"]),
    "enum from dictionary": ("mood", array(["it's"], pa.string()).dictionary_encode(), ["it's"]),
    "domain over int": ("whole", array([1, 2**31 - 1], pa.int64()), ["1", "2147483647"]),
    "domain over a domain": ("wholer", array([1], pa.int64()), ["1"]),
    "domain over numeric": ("price", array(MONEY, pa.decimal128(12, 4)), MONEY_TEXTS),
    "domain over text": ("word", array(NASTY[:9], pa.string()), NASTY[:9]),
}
BY_SERVER: dict[str, Case] = {
    "numeric from float": (
        "numeric",
        array([0.1, 1e22, 5e-324], pa.float64()),
        ["0.1", "1" + "0" * 22, f"{Decimal('5e-324'):f}"],
    ),
    "numeric from text": ("numeric", array(["0.10", "1" * 60], pa.string()), ["0.10", "1" * 60]),
    "numeric(50,10)": ("numeric(50,10)", array(FIFTY, pa.decimal256(50, 10)), [str(FIFTY[0]), "-0.0000000001"]),
    "numeric(50,10) from text": (
        "numeric(50,10)",
        array([f"{one:f}" for one in FIFTY], pa.string()),
        [str(FIFTY[0]), "-0.0000000001"],
    ),
    "numeric from 76 digits": ("numeric", array([Decimal("9" * 76)], pa.decimal256(76, 0)), ["9" * 76]),
    "inet": ("inet", array(["10.0.0.1", "::1"], pa.string()), ["10.0.0.1/32", "::1/128"]),
    "cidr": ("cidr", array(["10.0.0.0/8"], pa.string()), ["10.0.0.0/8"]),
    "int[] from text": ("integer[]", array(["{1,NULL,3}", "{}"], pa.string()), ["{1,NULL,3}", "{}"]),
    "int[] from lists": (
        "integer[]",
        array([[1, None, 3], []], pa.list_(pa.int64())),
        ["{1,NULL,3}", "{}"],
    ),
    "interval": ("interval", array(["1 day 00:00:01.5"], pa.string()), ["1 day 00:00:01.5"]),
    "interval from months, days and nanoseconds": (
        "interval",
        array([(14, 3, 4_000_005_000), (-1, 0, -1000)], pa.month_day_nano_interval()),
        ["1 year 2 mons 3 days 00:00:04.000005", "-1 mons -00:00:00.000001"],
    ),
    "timetz": ("timetz", array(["12:00:00+02"], pa.string()), ["12:00:00+02"]),
    "point": ("point", array(["(1,2)"], pa.string()), ["(1,2)"]),
    "int4range": ("int4range", array(["[1,5)"], pa.string()), ["[1,5)"]),
    "bit": ("bit(3)", array(["101"], pa.string()), ["101"]),
    "tsvector": ("tsvector", array(["'a' 'b'"], pa.string()), ["'a' 'b'"]),
    "oid": ("oid", array(["4294967295"], pa.string()), ["4294967295"]),
    "composite": ("pair", array(['(1,"a b")'], pa.string()), ['(1,"a b")']),
}
MAKE_TYPES = (
    "CREATE TYPE mood AS ENUM ('so, so', 'it''s')",
    "CREATE TYPE pair AS (a integer, b text)",
    "CREATE DOMAIN whole AS integer CHECK (VALUE > 0)",
    "CREATE DOMAIN wholer AS whole CHECK (VALUE < 10)",
    "CREATE DOMAIN price AS numeric(12,4)",
    "CREATE DOMAIN word AS text",
)


async def texts(postgres: AsyncEngine, column: str = "v", table: str = "t") -> list[str | None]:
    """The column as the server writes it, in hexadecimal on the wire so that no codec has a say."""
    query = f"SELECT encode(convert_to({column}::text, 'UTF8'), 'hex') FROM {table} ORDER BY id"
    async with postgres.connect() as connection:
        await connection.execute(sa.text("SET TIME ZONE 'UTC'"))
        found = (await connection.execute(sa.text(query))).scalars().all()
        await connection.rollback()
    return [None if one is None else bytes.fromhex(one).decode() for one in found]


def table_of(values: pa.Array) -> pa.Table:
    return pa.table({"id": pa.array(range(len(values)), pa.int32()), "v": values})


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize(("kind", "values", "expected"), BY_COPY.values(), ids=BY_COPY)
async def test_values_arrive_unchanged_in_a_column_made_by_hand(
    postgres: AsyncEngine, kind: str, values: pa.Array, expected: list[str], method: Any
) -> None:
    await execute(postgres, *MAKE_TYPES, f"CREATE TABLE t (id integer, v {kind})")
    report = await dl.load_dataframe(table_of(values), "t", engine=postgres, method=method, chunk_rows=3)
    assert report.method == method
    assert await texts(postgres) == [*expected, None]


@pytest.mark.parametrize("method", ["auto", "copy", "insert"])
@pytest.mark.parametrize(("kind", "values", "expected"), BY_SERVER.values(), ids=BY_SERVER)
async def test_values_that_binary_copy_cannot_carry_arrive_as_text_that_the_server_reads(
    postgres: AsyncEngine, kind: str, values: pa.Array, expected: list[str], method: Any
) -> None:
    await execute(postgres, *MAKE_TYPES, f"CREATE TABLE t (id integer, v {kind})")
    report = await dl.load_dataframe(table_of(values), "t", engine=postgres, method=method)
    as_text = "PostgreSQL takes rows fastest by COPY, here as text, in which it reads v ("
    assert report.method == ("insert" if method == "insert" else "copy")
    assert report.reason.startswith("it was requested" if method == "insert" else as_text)
    assert await texts(postgres) == [*expected, None]


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        ("interval(3)", "00:00:00.1236", "00:00:00.124"),
        ("interval year to month", "1 year 2 mons 3 days", "1 year 2 mons"),
        ("timetz(0)", "12:00:00.6+02", "12:00:01+02"),
        ("numeric(4,1)[]", "{1.25}", "{1.3}"),
        ("varchar(3)[]", "{abc}", "{abc}"),
    ],
)
async def test_text_that_the_server_might_round_in_silence_is_loaded_only_by_lossy_casts(
    postgres: AsyncEngine, kind: str, text: str, kept: str
) -> None:
    await execute(postgres, f"CREATE TABLE t (id integer, v {kind})")
    with pytest.raises(dl.UnsafeCast, match=r"column 'v'.*without losing what the server rounds or cuts"):
        await dl.load_dataframe(table_of(pa.array([text])), "t", engine=postgres)
    await dl.load_dataframe(table_of(pa.array([text])), "t", engine=postgres, casts="lossy")
    assert await texts(postgres) == [kept]


@pytest.mark.parametrize("kind", ["interval(3)", "interval(0)", "interval day to second(3)", "interval year to month"])
async def test_an_interval_that_the_server_would_round_or_cut_is_never_stored_changed(
    postgres: AsyncEngine, kind: str
) -> None:
    await execute(postgres, f"CREATE TABLE t (id integer, v {kind}, w interval)")
    values = pa.array([(14, 3, 1_234_567_000)], pa.month_day_nano_interval())
    with pytest.raises((dl.ValidationError, dl.PlanError), match="'v'"):
        await dl.load_dataframe(pa.table({"id": [1], "v": values, "w": values}), "t", engine=postgres)
    assert await fetch(postgres, "SELECT v::text, w::text FROM t") == []


async def test_an_interval_of_days_to_seconds_keeps_months_too(postgres: AsyncEngine) -> None:
    """Its fields cut what is finer than a second's digits, and nothing that is coarser."""
    await execute(postgres, "CREATE TABLE t (id integer, v interval day to second, w interval)")
    values = pa.array([(14, 3, 1_234_567_000)], pa.month_day_nano_interval())
    await dl.load_dataframe(pa.table({"id": [1], "v": values, "w": values}), "t", engine=postgres)
    assert await fetch(postgres, "SELECT v::text = w::text FROM t") == [(True,)]


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_texts_in_lists_arrive_unchanged_in_an_array(postgres: AsyncEngine, method: Any) -> None:
    await execute(postgres, "CREATE TABLE t (id integer, v text[], w text[][])")
    data = {"id": [1], "v": [[*NASTY, None]], "w": [[["a", None], ["", '{"}']]]}
    await dl.load_dataframe(data, "t", engine=postgres, method=method)
    assert await fetch(postgres, "SELECT v, w FROM t") == [([*NASTY, None], [["a", None], ["", '{"}']])]


@pytest.mark.parametrize(
    "kind",
    [
        "boolean",
        "smallint",
        "real",
        "numeric(12,4)",
        "numeric",
        "text",
        "varchar(3)",
        "char(3)",
        "bytea",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "interval",
        "uuid",
        "json",
        "jsonb",
        "mood",
        "inet",
        "integer[]",
        "whole",
        "price",
    ],
)
@pytest.mark.parametrize("method", ["auto", "insert"])
async def test_a_column_of_nothing_but_null_arrives_in_every_type(
    postgres: AsyncEngine, kind: str, method: Any
) -> None:
    await execute(postgres, *MAKE_TYPES, f"CREATE TABLE t (id integer, v {kind})")
    await dl.load_dataframe(table_of(pa.nulls(2)), "t", engine=postgres, method=method)
    assert await texts(postgres) == [None, None]


async def test_an_unknown_label_of_an_enum_is_refused_before_it_is_sent(postgres: AsyncEngine) -> None:
    await execute(postgres, *MAKE_TYPES, "CREATE TABLE t (v mood)")
    with pytest.raises(dl.ValidationError, match=r"^row 1, column 'v': 'sad' does not fit mood: .*labels") as caught:
        await dl.load_dataframe({"v": ["so, so", "sad"]}, "t", engine=postgres)
    assert (caught.value.row, caught.value.column, caught.value.reason) == (1, "v", "label")
    assert await fetch(postgres, "SELECT * FROM t") == []


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_a_value_that_breaks_a_domain_is_refused(postgres: AsyncEngine, method: Any) -> None:
    await execute(postgres, *MAKE_TYPES, "CREATE TABLE t (v wholer)")
    with pytest.raises(dl.WriteError, match="violates check constraint"):
        await dl.load_dataframe({"v": [1, 11]}, "t", engine=postgres, method=method)
    assert await fetch(postgres, "SELECT * FROM t") == []


CREATED: dict[str, tuple[pa.Array, str, list[str]]] = {
    "bool": (array([True, False], pa.bool_()), "boolean", ["true", "false"]),
    "bool8": (pa.array([True, False, None]).cast(pa.bool8()), "boolean", ["true", "false"]),
    "int8": (array([-128, 127], pa.int8()), "smallint", ["-128", "127"]),
    "uint8": (array([0, 255], pa.uint8()), "smallint", ["0", "255"]),
    "int16": (array([-(2**15), 2**15 - 1], pa.int16()), "smallint", ["-32768", "32767"]),
    "uint16": (array([2**16 - 1], pa.uint16()), "integer", ["65535"]),
    "int32": (array([-(2**31), 2**31 - 1], pa.int32()), "integer", ["-2147483648", "2147483647"]),
    "uint32": (array([2**32 - 1], pa.uint32()), "bigint", ["4294967295"]),
    "int64": (array([-(2**63), 2**63 - 1], pa.int64()), "bigint", [str(-(2**63)), str(2**63 - 1)]),
    "uint64": (array([2**64 - 1], pa.uint64()), "numeric(20,0)", [str(2**64 - 1)]),
    "float16": (array([np.float16(0.5)], pa.float16()), "real", ["0.5"]),
    "float32": (array([0.5, math.nan], pa.float32()), "real", ["0.5", "NaN"]),
    "float64": (array(FLOATS, pa.float64()), "double precision", FLOAT_TEXTS),
    "decimal32": (array([Decimal("1.25")], pa.decimal32(5, 2)), "numeric(5,2)", ["1.25"]),
    "decimal64": (array([Decimal("1.25")], pa.decimal64(15, 2)), "numeric(15,2)", ["1.25"]),
    "decimal128": (array(MONEY, pa.decimal128(12, 4)), "numeric(12,4)", MONEY_TEXTS),
    "decimal of 38 digits": (array(WIDE, pa.decimal128(38, 0)), "numeric(38,0)", ["1" * 38, "-" + "9" * 38]),
    "decimal256": (array(FIFTY, pa.decimal256(50, 10)), "numeric(50,10)", [str(FIFTY[0]), "-0.0000000001"]),
    "negative scale": (array([Decimal("1E+2")], pa.decimal128(3, -2)), "numeric(5,0)", ["100"]),
    "string": (array(NASTY, pa.string()), "text", NASTY),
    "dictionary": (array(["a", "b"], pa.string()).dictionary_encode(), "text", ["a", "b"]),
    "run-end encoded": (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", None]), "text", ["a", "a"]),
    "binary": (array([b"", b"\x00\xff"], pa.binary()), "bytea", ["\\x", "\\x00ff"]),
    "large binary": (array([b"\x00"], pa.large_binary()), "bytea", ["\\x00"]),
    "date32": (array(DAYS, pa.date32()), "date", DAY_TEXTS),
    "date64": (array(DAYS, pa.date64()), "date", DAY_TEXTS),
    "time32": (array([datetime.time(1, 2, 3)], pa.time32("ms")), "time without time zone", ["01:02:03"]),
    "time64": (array(TIMES, pa.time64("us")), "time without time zone", TIME_TEXTS),
    "time64 of nanoseconds": (
        array([datetime.time.max], pa.time64("ns")),
        "time without time zone",
        ["23:59:59.999999"],
    ),
    "timestamp": (array(MOMENTS, pa.timestamp("us")), "timestamp without time zone", MOMENT_TEXTS),
    "timestamp of nanoseconds": (
        array([EPOCH - US], pa.timestamp("ns")),
        "timestamp without time zone",
        ["1969-12-31 23:59:59.999999"],
    ),
    "timestamp of a zone": (
        utc(MOMENTS[1:4], "Asia/Tokyo"),
        "timestamp with time zone",
        [f"{text}+00" for text in MOMENT_TEXTS[1:4]],
    ),
    "duration": (array([datetime.timedelta(days=1)], pa.duration("us")), "interval", ["24:00:00"]),
    "duration of nanoseconds": (array([-US], pa.duration("ns")), "interval", ["-00:00:00.000001"]),
    "uuid": (array([one.bytes for one in UUIDS], pa.uuid()), "uuid", [str(one) for one in UUIDS]),
    "json": (array(JSON, pa.json_()), "jsonb", JSON),
    "list": (array([[1, None], []], pa.list_(pa.int64())), "jsonb", ["[1, null]", "[]"]),
    "struct": (array([{"a": "ü"}], pa.struct({"a": pa.string()})), "jsonb", ['{"a": "ü"}']),
    "null": (pa.nulls(1), "text", []),
}


@pytest.mark.parametrize("method", ["auto", "insert"])
@pytest.mark.parametrize(("values", "kind", "expected"), CREATED.values(), ids=CREATED)
async def test_a_created_column_has_a_type_that_keeps_every_value(
    postgres: AsyncEngine, values: pa.Array, kind: str, expected: list[str], method: Any
) -> None:
    await dl.load_dataframe(table_of(values), "t", engine=postgres, method=method)
    query = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'v'"
    assert await fetch(postgres, query) == [(kind,)]
    assert await texts(postgres) == [*expected, None]


ON_SQLITE: dict[str, tuple[pa.Array, str, list[str]]] = {
    "bool": (array([True, False], pa.bool_()), "BOOLEAN", ["1", "0"]),
    "int64": (array([-(2**63), 2**63 - 1], pa.int64()), "BIGINT", [str(-(2**63)), str(2**63 - 1)]),
    "uint32": (array([2**32 - 1], pa.uint32()), "BIGINT", ["4294967295"]),
    "string": (array(NASTY, pa.string()), "TEXT", [f"'{text.replace(chr(39), chr(39) * 2)}'" for text in NASTY]),
    "dictionary": (array(["a"], pa.string()).dictionary_encode(), "TEXT", ["'a'"]),
    "binary": (array([b"", b"\x00\xff"], pa.binary()), "BLOB", ["X''", "X'00FF'"]),
    "date": (array(DAYS, pa.date32()), "DATE", [f"'{text}'" for text in DAY_TEXTS]),
    "decimal of 20 digits": (
        array([Decimal("1234567890.0123456789")], pa.decimal128(20, 10)),
        "TEXT",
        ["'1234567890.0123456789'"],
    ),
    "decimal of 38 digits": (array(WIDE, pa.decimal128(38, 0)), "TEXT", [f"'{one}'" for one in WIDE]),
    "uuid": (array([UUIDS[2].bytes], pa.uuid()), "CHAR(32)", [f"'{UUIDS[2].hex}'"]),
    "struct": (array([{"a": "ü"}], pa.struct({"a": pa.string()})), "JSON", ['\'{"a": "ü"}\'']),
    "null": (pa.nulls(1), "TEXT", []),
}


@pytest.mark.parametrize(("values", "kind", "expected"), ON_SQLITE.values(), ids=ON_SQLITE)
async def test_sqlite_keeps_every_value_in_a_created_column(
    sqlite: AsyncEngine, values: pa.Array, kind: str, expected: list[str]
) -> None:
    await dl.load_dataframe(table_of(values), "t", engine=sqlite, chunk_rows=3)
    assert await fetch(sqlite, "SELECT type FROM pragma_table_info('t') WHERE name = 'v'") == [(kind,)]
    assert await fetch(sqlite, "SELECT quote(v) FROM t ORDER BY id") == [(text,) for text in [*expected, "NULL"]]


async def test_sqlite_keeps_decimals_of_fifty_digits(sqlite: AsyncEngine) -> None:
    await dl.load_dataframe(table_of(array(FIFTY, pa.decimal256(50, 10))), "t", engine=sqlite)
    rows = await fetch(sqlite, "SELECT v, typeof(v) FROM t WHERE v IS NOT NULL ORDER BY id")
    assert [(Decimal(text), kind) for text, kind in rows] == [(one, "text") for one in FIFTY]


async def test_sqlite_keeps_decimals_of_fifteen_digits_equal(sqlite: AsyncEngine) -> None:
    values = [*MONEY, Decimal("0.1000"), Decimal("12345678.9012")]
    await dl.load_dataframe(table_of(array(values, pa.decimal128(12, 4))), "t", engine=sqlite)
    for number, value in enumerate(values):
        assert await fetch(sqlite, f"SELECT printf('%.4f', v) FROM t WHERE id = {number} AND v = {value}") == [
            (f"{value:.4f}",)
        ]


async def test_sqlite_keeps_every_float(sqlite: AsyncEngine) -> None:
    numbers = [0.1, -1.5, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, 1 / 3]
    await dl.load_dataframe(table_of(pa.array(numbers)), "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT v, typeof(v) FROM t ORDER BY id") == [(one, "real") for one in numbers]


async def test_sqlite_refuses_nan_that_it_would_store_as_null(sqlite: AsyncEngine) -> None:
    with pytest.raises(dl.DataLoaderError, match="row 1, column 'v'"):
        await dl.load_dataframe(table_of(pa.array([0.5, math.nan])), "t", engine=sqlite)


async def test_sqlite_refuses_a_uint64_that_its_integers_cannot_hold(sqlite: AsyncEngine) -> None:
    kept = table_of(pa.array([0, 2**63 - 1], pa.uint64()))
    await dl.load_dataframe(kept, "t", engine=sqlite)
    with pytest.raises(dl.ValidationError, match=r"row 1, column 'v'"):
        await dl.load_dataframe(table_of(pa.array([0, 2**63], pa.uint64())), "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT v FROM t ORDER BY id") == [(0,), (2**63 - 1,)]


@pytest.mark.parametrize(
    ("values", "moments"),
    [
        (array(MOMENTS, pa.timestamp("us")), MOMENT_TEXTS),
        (utc(MOMENTS[1:4], "Europe/Berlin"), MOMENT_TEXTS[1:4]),
        (array(TIMES, pa.time64("us")), TIME_TEXTS),
    ],
    ids=["timestamp", "timestamptz", "time"],
)
async def test_sqlite_keeps_moments_as_text_that_it_and_sqlalchemy_can_read(
    sqlite: AsyncEngine, values: pa.Array, moments: list[str]
) -> None:
    await dl.load_dataframe(table_of(values), "t", engine=sqlite)
    found = await fetch(sqlite, "SELECT v, julianday(substr(v, 1, 19)) IS NULL FROM t WHERE v IS NOT NULL ORDER BY id")
    assert [text[: len(moment)] for (text, _), moment in zip(found, moments, strict=True)] == moments
    assert not any(unreadable for _, unreadable in found)
    kind = sa.Time() if pa.types.is_time(values.type) else sa.DateTime()
    async with sqlite.connect() as connection:
        query = sa.select(sa.table("t", sa.column("v", kind)).c.v)
        assert len((await connection.execute(query)).all()) == len(moments) + 1


SQLITE_BY_HAND: dict[str, tuple[str, pa.Array, list[str]]] = {
    "INTEGER": ("INTEGER", array([2**63 - 1], pa.int64()), [str(2**63 - 1)]),
    "INT from text": ("INT", array(["007"], pa.string()), ["7"]),
    "TEXT": ("TEXT", array(["0.10", "007"], pa.string()), ["'0.10'", "'007'"]),
    "VARCHAR(3)": ("VARCHAR(3)", array(["abc"], pa.string()), ["'abc'"]),
    "TEXT from int": ("TEXT", array([2**63 - 1], pa.int64()), [f"'{2**63 - 1}'"]),
    "TEXT from decimal": ("TEXT", array([Decimal("0.10")], pa.decimal128(30, 2)), ["'0.10'"]),
    "no type": ("", array([7], pa.int64()), ["7"]),
    "NUMERIC of an int": ("NUMERIC", array([2**63 - 1], pa.int64()), [str(2**63 - 1)]),
    "DECIMAL(10,2)": ("DECIMAL(10,2)", array([Decimal("12.50")], pa.decimal128(10, 2)), ["12.5"]),
    "BLOB": ("BLOB", array([b"\x00"], pa.binary()), ["X'00'"]),
    "REAL": ("REAL", array([0.5], pa.float64()), ["0.5"]),
    "DATETIME": ("DATETIME", array([EPOCH], pa.timestamp("us")), ["'1970-01-01 00:00:00.000000'"]),
    "DATE": ("DATE", array(DAY_TEXTS, pa.string()), [f"'{text}'" for text in DAY_TEXTS]),
}


@pytest.mark.parametrize(("kind", "values", "expected"), SQLITE_BY_HAND.values(), ids=SQLITE_BY_HAND)
async def test_sqlite_keeps_every_value_in_a_column_made_by_hand(
    sqlite: AsyncEngine, kind: str, values: pa.Array, expected: list[str]
) -> None:
    await execute(sqlite, f"CREATE TABLE t (id integer, v {kind})")
    await dl.load_dataframe(table_of(values), "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT quote(v) FROM t ORDER BY id") == [(text,) for text in [*expected, "NULL"]]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("NUMERIC", array([Decimal("1234567890.0123456789")], pa.decimal128(20, 10))),
        ("REAL", array([Decimal("1234567890.0123456789")], pa.decimal128(20, 10))),
        ("REAL", array([2**53 + 1], pa.int64())),
        ("DECIMAL(30,10)", array([Decimal("1234567890.0123456789")], pa.decimal128(20, 10))),
        ("INTEGER", array([1.5], pa.float64())),
        ("INTEGER", array([2**63], pa.uint64())),
    ],
    ids=str,
)
async def test_sqlite_refuses_a_value_that_its_column_would_round(
    sqlite: AsyncEngine, kind: str, values: pa.Array
) -> None:
    await execute(sqlite, f"CREATE TABLE t (id integer, v {kind})")
    with pytest.raises(dl.DataLoaderError, match="column 'v'"):
        await dl.load_dataframe(table_of(values), "t", engine=sqlite)


DIGITS = ["1.10", "-7", "007", "9223372036854775807", " 2 ", "1e3", "0.1", "12345678.25"]
NUMBERS_KEPT = ["1.1", "-7", "7", "9223372036854775807", "2", "1000", "0.1", "12345678.25"]
NUMERIC_NAMES = ["NUMERIC", "DECIMAL", "NUMBER", "MONEY", "CURRENCY", "NUMERIC(20,4)", "decimal(30)", "DEC(18,2)"]


def csv_of(path: Path, values: list[str]) -> Path:
    path.write_text("id,v\n" + "".join(f'{row},"{value}"\n' for row, value in enumerate(values)))
    return path


@pytest.mark.parametrize(
    ("kind", "way"),
    [*((kind, "file") for kind in NUMERIC_NAMES), ("NUMERIC", "frame"), ("NUMERIC", "wholes first")],
)
async def test_sqlite_takes_numbers_from_text_in_every_column_for_numbers(
    sqlite: AsyncEngine, tmp_path: Path, kind: str, way: str
) -> None:
    await execute(sqlite, f"CREATE TABLE t (id integer, v {kind})")
    values, expected = list(DIGITS), list(NUMBERS_KEPT)
    if way == "wholes first":  # where the type that a file's beginning suggests is not that of its end
        values, expected = [*map(str, range(100_000)), *values], [*map(str, range(100_000)), *expected]
    if way == "frame":
        await dl.load_dataframe(pa.table({"id": range(len(values)), "v": values}), "t", engine=sqlite)
    else:
        await dl.load_files(csv_of(tmp_path / "rows.csv", values), "t", engine=sqlite, commit="load")
    found = await fetch(sqlite, "SELECT v FROM t ORDER BY id")
    assert [f"{v:.15g}" if isinstance(v, float) else str(v) for (v,) in found] == expected
    assert await fetch(sqlite, "SELECT count(*) FROM t WHERE typeof(v) NOT IN ('integer', 'real')") == [(0,)]


NO_NUMBERS = ["1.2.3", "abc", "0x10", "nan", "inf", "12345678901234567890", "1234567890.0123456789", "1e400", ""]


@pytest.mark.parametrize("value", NO_NUMBERS)
async def test_a_text_that_a_column_for_numbers_would_keep_otherwise_is_refused_by_its_row(
    sqlite: AsyncEngine, tmp_path: Path, value: str
) -> None:
    await execute(sqlite, "CREATE TABLE t (id integer, v NUMERIC)")
    path = csv_of(tmp_path / "rows.csv", ["1.5", value, "2"])
    report = await dl.load_files(path, "t", engine=sqlite, on_invalid="reject")
    assert list(zip(report.rejects["reject_row"], report.rejects["reject_column"], strict=True)) == [(1, "v")]
    assert await fetch(sqlite, "SELECT v FROM t ORDER BY id") == [(1.5,), (2,)]


ANYTHING: dict[str, pa.Array] = {
    "text": pa.array(["1.10", "007", "x", "", "2024-01-01"]),
    "integers": pa.array([1, -(2**63)]),
    "floats": pa.array([0.5, 1e300]),
    "booleans": pa.array([True, False]),
    "bytes": pa.array([b"\x00", b"1"]),
    "decimals": pa.array([Decimal("12345678901234567890.10")]),
    "days": pa.array([datetime.date(2024, 1, 1)]),
    "uuids": pa.array([UUIDS[0].bytes], pa.uuid()),
    "dicts": pa.array([{"a": 1}]),
}
KEPT = {
    "decimals": ["12345678901234567890.10"],
    "days": ["2024-01-01"],
    "uuids": [str(UUIDS[0])],
    "dicts": ['{"a": 1}'],
}
UNTYPED = {
    "untyped": "CREATE TABLE t (id, v)",
    "ANY of a STRICT table": "CREATE TABLE t (id ANY, v ANY) STRICT",
    "FTS5": "CREATE VIRTUAL TABLE t USING fts5(id, v)",
}


@pytest.mark.parametrize("statement", UNTYPED.values(), ids=UNTYPED)
@pytest.mark.parametrize("what", ANYTHING)
async def test_a_column_of_sqlite_without_a_type_keeps_everything_as_it_comes(
    sqlite: AsyncEngine, statement: str, what: str
) -> None:
    await execute(sqlite, statement)
    values = ANYTHING[what]
    report = await dl.load_dataframe(pa.table({"id": range(len(values)), "v": values}), "t", engine=sqlite)
    assert report.loaded == len(values)
    found = [value for (value,) in await fetch(sqlite, "SELECT v FROM t ORDER BY id")]
    assert found == KEPT.get(what, values.to_pylist())
    assert [type(one) for one in found] == [int if isinstance(one, bool) else type(one) for one in found]


@pytest.mark.parametrize("kind", ["", "STRING", "ANY", "JSONB", "TEXT"])
async def test_the_fields_of_a_file_stay_text_in_a_column_of_sqlite_that_says_nothing_of_numbers(
    sqlite: AsyncEngine, tmp_path: Path, kind: str
) -> None:
    await execute(sqlite, f"CREATE TABLE t (id, v {kind})")
    texts = ['"x"', '{"a": 1.10}'] if kind == "JSONB" else ["x", "1.2.3", "2024-01-01", "0x1F", "nan"]
    await dl.load_dataframe(pa.table({"id": range(len(texts)), "v": texts}), "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT v FROM t ORDER BY id") == [(text,) for text in texts]


@pytest.mark.parametrize("text", ["007", "1.10", "1e5", "1.0", " 7", "+7", "12345678901234567890"])
async def test_a_text_that_sqlite_would_store_as_another_spelling_is_refused_by_its_row(
    sqlite: AsyncEngine, text: str
) -> None:
    await execute(sqlite, "CREATE TABLE t (id, v STRING)")
    data = pa.table({"id": [0, 1, 2, 3], "v": ["x", text, "7", "0.5"]})
    report = await dl.load_dataframe(data, "t", engine=sqlite, on_invalid="reject")
    assert list(zip(report.rejects["reject_row"], report.rejects["reject_column"], strict=True)) == [(1, "v")]
    assert await fetch(sqlite, "SELECT v FROM t ORDER BY id") == [("x",), (7,), (0.5,)]


@pytest.mark.parametrize("kind", ["jsonb", "json"])
async def test_a_text_that_is_no_json_is_named_by_its_row_in_the_source(postgres: AsyncEngine, kind: str) -> None:
    await execute(postgres, f"CREATE TABLE t (id integer, v {kind})")
    values = pa.array([*["1"] * 7, "{"])
    with pytest.raises(
        dl.ValidationError, match=f"^row 7, column 'v': '{{' does not fit {kind}: it is not JSON"
    ) as caught:
        await dl.load_dataframe(table_of(values), "t", engine=postgres, chunk_rows=3)
    assert (caught.value.row, caught.value.column, caught.value.reason) == (7, "v", "syntax")


@pytest.mark.parametrize(
    ("kind", "good", "bad"), [("inet", "::1", "::x"), ("int4range", "[1,2)", "[2,1)"), ("bit(3)", "101", "10")]
)
async def test_refused_rows_of_copy_are_named_by_row_and_column(
    postgres: AsyncEngine, kind: str, good: str, bad: str
) -> None:
    await execute(postgres, f"CREATE TABLE t (id integer, v {kind})")
    values = pa.array([*[good] * 7, bad])
    with pytest.raises(dl.WriteError, match=r"^row 7: ") as caught:
        await dl.load_dataframe(table_of(values), "t", engine=postgres, chunk_rows=3, method="copy")
    assert (caught.value.row, caught.value.column) == (7, "v")
    assert await fetch(postgres, "SELECT * FROM t") == []


async def test_text_that_is_no_unicode_is_refused(database: AsyncEngine) -> None:
    with pytest.raises(dl.DataLoaderError, match="'v'"):
        await dl.load_dataframe(pd.DataFrame({"v": pd.Series(["x", "\ud800"], dtype=object)}), "t", engine=database)


async def test_json_objects_of_differing_keys_are_stored_as_given(postgres: AsyncEngine) -> None:
    await dl.load_rows([{"id": 1, "v": {"a": 1}}, {"id": 2, "v": {"b": 2}}, {"id": 3, "v": {}}], "t", engine=postgres)
    assert await texts(postgres) == ['{"a": 1}', '{"b": 2}', "{}"]


async def test_json_without_a_value_is_refused_or_null_but_never_a_word_that_json_lacks(postgres: AsyncEngine) -> None:
    with pytest.raises(dl.ValidationError, match="row 1, column 'v'"):
        await dl.load_dataframe(table_of(pa.array([[0.5], [math.nan]])), "t", engine=postgres)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("timestamptz", array([EPOCH], pa.timestamp("us"))), ("timestamp", utc([EPOCH]))],
    ids=["naive into timestamptz", "aware into timestamp"],
)
async def test_a_moment_whose_meaning_is_open_is_refused(postgres: AsyncEngine, kind: str, values: pa.Array) -> None:
    await execute(postgres, f"CREATE TABLE t (id integer, v {kind})")
    with pytest.raises(dl.UnsafeCast, match=r"column 'v'.*df\[c\]"):
        await dl.load_dataframe(table_of(values), "t", engine=postgres)


async def test_the_sessions_time_zone_and_formats_do_not_change_a_value(postgres: AsyncEngine) -> None:
    name = (await fetch(postgres, "SELECT current_database()"))[0][0]
    await execute(
        postgres,
        f"ALTER DATABASE {name} SET TimeZone = 'Asia/Kolkata'",
        f"ALTER DATABASE {name} SET DateStyle = 'German, DMY'",
        f"ALTER DATABASE {name} SET IntervalStyle = 'sql_standard'",
        "CREATE TABLE t (id integer, d date, ts timestamp, tz timestamptz, i interval)",
    )
    await postgres.dispose()
    day, moment = datetime.date(2024, 2, 3), datetime.datetime(2024, 2, 3, 4, 5, 6)
    data = {
        "id": [1],
        "d": [day],
        "ts": [moment],
        "tz": [moment.replace(tzinfo=datetime.UTC)],
        "i": [datetime.timedelta(hours=-30)],
    }
    for method in ("copy", "insert"):
        await dl.load_dataframe(data, "t", engine=postgres, method=method)
    query = """SELECT d = DATE '2024-02-03', ts = TIMESTAMP '2024-02-03 04:05:06',
        tz = TIMESTAMPTZ '2024-02-03 04:05:06+00', i = INTERVAL '-30 hours' FROM t"""
    assert await fetch(postgres, query) == [(True, True, True, True)] * 2
