"""Properties of loads: what comes back is what was given, however it is cut, and nothing but our errors escapes.

Values come from hypothesis, many to a load. DATALOADER_EXAMPLES=10 makes ten times as many loads.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import os
import struct
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

Values = st.SearchStrategy[Any]

DAY = 86_400_000_000
MOST_VALUES = 150
ROWS = st.integers(1, 60)


def examples(count: int) -> settings:
    """So many examples, the same ones in every run; the database is emptied by each example itself."""
    return settings(
        max_examples=max(1, int(count * float(os.environ.get("DATALOADER_EXAMPLES", "1")))),
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def lists_of(values: Values, most: int = MOST_VALUES) -> Values:
    """Lists, of which one value in some is missing."""
    return st.lists(st.one_of(st.none(), values, values, values), max_size=most)


def numbers(digits: int, scale: int) -> Values:
    whole = st.integers(-(10**digits) + 1, 10**digits - 1)
    return whole.map(lambda one: Decimal(one).scaleb(-scale, Context(prec=100)))


def moments(first: int, last: int, unit: int = 1) -> Values:
    """Whole numbers of a unit, more of them near the epoch than there would be otherwise."""
    return st.one_of(st.integers(first // unit + 1, last // unit), st.integers(-(10**6), 10**6)).map(
        lambda one: one * unit
    )


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
LABELS = ["", "NULL", "it's", "a,b", '"', "\\.", "😀"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
FIRST_YEAR, LAST_YEAR = -719_162, 2_932_896
FIRST_DAY, LAST_DAY = -2_440_588, 2_145_031_948
FIRST_MOMENT, LAST_MOMENT = FIRST_DAY * DAY, 9_223_371_331_200_000_000 - 1


# How the server shows what it stored, so that Python can read it.


@dataclass(frozen=True)
class Shown:
    """An expression whose text has the whole value, and how to read it; `key` makes values comparable."""

    sql: str
    read: Callable[[str], Any]
    key: Callable[[Any], Any] = lambda value: value


async def stored(postgres: AsyncEngine, shown: Shown, table: str = "t") -> list[Any]:
    """The column as text, in hexadecimal on the wire so that no codec has a say."""
    query = f"SELECT encode(convert_to(({shown.sql})::text, 'UTF8'), 'hex') FROM {table} ORDER BY id"
    texts = [None if one is None else bytes.fromhex(one).decode() for (one,) in await fetch(postgres, query)]
    return [None if text is None else shown.key(shown.read(text)) for text in texts]


AS_BOOLEAN = Shown("v", lambda text: text == "true")
AS_INTEGER = Shown("v", int)
AS_FLOAT = Shown("v", float, repr)
AS_SINGLE = Shown("v", lambda text: float(np.float32(text)), repr)
AS_NUMBER = Shown("v", Decimal)
AS_TEXT = Shown("v", str)
AS_PADDED = Shown("v", str, lambda text: text.rstrip(" "))
AS_BYTES = Shown("encode(v, 'hex')", bytes.fromhex)
AS_DAYS = Shown("v - DATE '1970-01-01'", int)
AS_TIME = Shown("extract(epoch FROM v) * 1000000", lambda text: int(Decimal(text)))
AS_PARTS = Shown(
    "concat_ws(' ', extract(year FROM v) * 12 + extract(month FROM v), extract(day FROM v),"
    " (extract(hour FROM v) * 60 + extract(minute FROM v)) * 60000000 + extract(microsecond FROM v))"
    " || CASE WHEN v IS NULL THEN NULL ELSE '' END",
    lambda text: tuple(int(Decimal(part)) for part in text.split()),
)
AS_UUID = Shown("v", uuid.UUID)
AS_JSON = Shown("v", json.loads)
AS_ARRAY = Shown("array_to_json(v)", json.loads)


# Every Arrow type, in a table that is made for it.


@dataclass(frozen=True)
class Trip:
    """An Arrow type, the values that it may have, and how PostgreSQL shows them. `build` makes Arrow's value of ours.

    `back` makes our value of SQLite's; None where SQLite has no such type.
    """

    kind: pa.DataType
    values: Values
    shown: Shown
    build: Callable[[Any], Any] = lambda value: value
    back: Callable[[Any], Any] | None = lambda value: value

    def array(self, values: list[Any]) -> pa.Array:
        return array_of([None if value is None else self.build(value) for value in values], self.kind)


def array_of(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, array_of(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    if pa.types.is_run_end_encoded(kind):
        ends = pa.array(range(1, len(values) + 1), pa.int32())
        return pa.RunEndEncodedArray.from_arrays(ends, pa.array(values, kind.value_type))
    return pa.array(values, kind)


def sqlite_json(value: str | float) -> Any:
    """A column of type JSON makes numbers of texts that are numbers."""
    return json.loads(value) if isinstance(value, str) else value


def integers(kind: pa.DataType) -> Trip:
    bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return Trip(kind, st.integers(low, high), AS_INTEGER)


def floats(kind: pa.DataType, width: int) -> Trip:
    """SQLite has no NaN, and keeps a negative zero as zero."""
    shown = AS_FLOAT if width == 64 else AS_SINGLE
    return Trip(kind, st.floats(width=width), shown, back=lambda value: repr(float(value)))


def decimals(kind: pa.DataType) -> Trip:
    return Trip(kind, numbers(kind.precision, kind.scale), AS_NUMBER, back=lambda value: Decimal(str(value)))


def timestamps(kind: pa.DataType, unit: int, first: int = FIRST_MOMENT, last: int = LAST_MOMENT) -> Trip:
    build = (lambda us: us * 1000) if kind.unit == "ns" else (lambda us: us // unit)
    return Trip(kind, moments(first, last, unit), AS_TIME, build, sqlite_moment)


def spans(kind: pa.DataType, unit: int) -> Trip:
    room = 2**62 // 1000 // (1000 if kind.unit == "ns" else 1)
    build = (lambda us: us * 1000) if kind.unit == "ns" else (lambda us: us // unit)
    return Trip(kind, moments(-room, room, unit), AS_TIME, build, None)


def per(unit: int) -> Callable[[int], int]:
    return lambda number: number * unit


def sqlite_moment(text: str) -> int:
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def sqlite_day(text: str) -> int:
    return datetime.date.fromisoformat(text).toordinal() - datetime.date(1970, 1, 1).toordinal()


def sqlite_time(text: str) -> int:
    time = datetime.time.fromisoformat(text)
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond


NS = 2**63 // 1000 - 1
TRIPS = [
    Trip(pa.bool_(), st.booleans(), AS_BOOLEAN, back=bool),
    Trip(pa.bool8(), st.booleans(), AS_BOOLEAN, int, bool),
    *map(integers, (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    floats(pa.float16(), 16),
    floats(pa.float32(), 32),
    floats(pa.float64(), 64),
    *map(decimals, (pa.decimal32(5, 2), pa.decimal64(15, 15), pa.decimal128(12, 4), pa.decimal128(38, 10))),
    *map(decimals, (pa.decimal256(50, 20), pa.decimal256(76, 0), pa.decimal128(9, -2))),
    *(Trip(kind, TEXTS, AS_TEXT) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    Trip(pa.dictionary(pa.int16(), pa.string()), TEXTS, AS_TEXT),
    Trip(pa.run_end_encoded(pa.int32(), pa.int64()), st.integers(-9, 9), AS_INTEGER),
    *(Trip(kind, st.binary(max_size=40), AS_BYTES) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
    Trip(pa.binary(3), st.binary(min_size=3, max_size=3), AS_BYTES),
    Trip(pa.date32(), st.integers(FIRST_DAY, LAST_DAY), AS_DAYS, back=sqlite_day),
    Trip(pa.date64(), st.integers(FIRST_DAY, LAST_DAY), AS_DAYS, lambda days: days * 86_400_000, sqlite_day),
    Trip(pa.time32("s"), st.integers(0, 86_399).map(per(10**6)), AS_TIME, lambda us: us // 10**6, sqlite_time),
    Trip(pa.time32("ms"), st.integers(0, 86_399_999).map(per(1_000)), AS_TIME, lambda us: us // 1000, sqlite_time),
    Trip(pa.time64("us"), st.integers(0, DAY - 1), AS_TIME, back=sqlite_time),
    Trip(pa.time64("ns"), st.integers(0, DAY - 1), AS_TIME, lambda us: us * 1000, sqlite_time),
    timestamps(pa.timestamp("s"), 1_000_000),
    timestamps(pa.timestamp("ms"), 1_000),
    timestamps(pa.timestamp("us"), 1),
    timestamps(pa.timestamp("ns"), 1, -NS, NS),
    timestamps(pa.timestamp("us", "UTC"), 1),
    timestamps(pa.timestamp("ms", "America/New_York"), 1_000),
    timestamps(pa.timestamp("ns", "Asia/Kolkata"), 1, -NS, NS),
    spans(pa.duration("s"), 1_000_000),
    spans(pa.duration("us"), 1),
    spans(pa.duration("ns"), 1),
    Trip(
        pa.month_day_nano_interval(),
        st.tuples(st.integers(-(10**5), 10**5), st.integers(-(10**6), 10**6), st.integers(-(2**50), 2**50)),
        AS_PARTS,
        lambda parts: (parts[0], parts[1], parts[2] * 1000),
        None,
    ),
    Trip(pa.uuid(), st.uuids(), AS_UUID, lambda one: one.bytes, uuid.UUID),
    Trip(pa.json_(), JSON, AS_JSON, json.dumps, sqlite_json),
    Trip(
        pa.list_(pa.int64()),
        st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=5),
        AS_JSON,
        back=json.loads,
    ),
    Trip(pa.large_list(pa.string()), st.lists(st.one_of(st.none(), TEXTS), max_size=5), AS_JSON, back=json.loads),
    Trip(
        pa.list_view(pa.int32()),
        st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=5),
        AS_JSON,
        back=json.loads,
    ),
    Trip(pa.list_(pa.bool_(), 2), st.lists(st.booleans(), min_size=2, max_size=2), AS_JSON, back=json.loads),
    Trip(
        pa.struct({"a": pa.float64(), "b": pa.list_(pa.string())}),
        st.fixed_dictionaries(
            {"a": st.floats(allow_nan=False, allow_infinity=False), "b": st.lists(TEXTS, max_size=2)}
        ),
        Shown("v", json.loads, lambda value: {**value, "a": float(value["a"])}),
        back=json.loads,
    ),
    Trip(
        pa.map_(pa.string(), pa.int64()),
        st.dictionaries(TEXTS, st.integers(-9, 9), max_size=3),
        AS_JSON,
        lambda one: list(one.items()),
        json.loads,
    ),
    Trip(pa.null(), st.none(), AS_TEXT),
]


def table_of(values: pa.Array, first: int = 0) -> pa.Table:
    return pa.table({"id": pa.array(range(first, first + len(values)), pa.int32()), "v": values})


def keyed(values: list[Any], shown: Shown) -> list[Any]:
    return [None if value is None else shown.key(value) for value in values]


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: str(trip.kind))
@examples(8)
@given(data=st.data())
async def test_a_created_table_gives_back_what_was_loaded(
    postgres: AsyncEngine, trip: Trip, method: Any, data: st.DataObject
) -> None:
    values = data.draw(lists_of(trip.values))
    rows = data.draw(ROWS)
    options: Any = {"engine": postgres, "if_exists": "replace", "chunk_rows": rows, "method": method}
    report = await dl.load_dataframe(table_of(trip.array(values)), "t", **options)
    assert (report.read, report.loaded, report.method) == (len(values), len(values), method)
    assert await stored(postgres, trip.shown) == keyed(values, trip.shown)


ON_SQLITE = [trip for trip in TRIPS if trip.back is not None]


def keeps_on_sqlite(trip: Trip, value: Any) -> bool:
    """SQLite has four-digit years, 63 bits and no NaN."""
    if pa.types.is_date(trip.kind):
        return FIRST_YEAR <= value <= LAST_YEAR
    if pa.types.is_timestamp(trip.kind):
        return FIRST_YEAR * DAY <= value < (LAST_YEAR + 1) * DAY
    if pa.types.is_floating(trip.kind):
        return not math.isnan(value)
    return not pa.types.is_uint64(trip.kind) or bool(value < 2**63)


@pytest.mark.parametrize("trip", ON_SQLITE, ids=lambda trip: str(trip.kind))
@examples(8)
@given(data=st.data())
async def test_sqlite_gives_back_what_was_loaded_or_refuses_what_it_cannot_keep(
    sqlite: AsyncEngine, trip: Trip, data: st.DataObject
) -> None:
    kept = st.just(trip.values.filter(lambda value: keeps_on_sqlite(trip, value)))
    values = data.draw(lists_of(data.draw(st.one_of(kept, kept, st.just(trip.values)))))
    bad = [row for row, value in enumerate(values) if value is not None and not keeps_on_sqlite(trip, value)]
    options: Any = {"engine": sqlite, "if_exists": "replace", "chunk_rows": data.draw(ROWS)}
    loading = dl.load_dataframe(table_of(trip.array(values)), "t", **options)
    if bad:
        await refused_at(loading, bad[0])
        return
    await loading
    assert trip.back is not None
    found = [None if one is None else trip.back(one) for (one,) in await fetch(sqlite, "SELECT v FROM t ORDER BY id")]
    assert without_sign_of_zero(found) == without_sign_of_zero(keyed(values, trip.shown))


def without_sign_of_zero(values: list[Any]) -> list[Any]:
    return ["0.0" if value == "-0.0" else value for value in values]


async def refused_at(loading: Any, row: int) -> None:
    with pytest.raises(dl.ValidationError) as caught:
        await loading
    assert (caught.value.row, caught.value.column) == (row, "v")


# Arrow types into columns that are there already: what fits is stored, and the first value that does not is named.


@dataclass(frozen=True)
class Target:
    """A column's type, what is offered to it, and which of the values fit; the others must be refused."""

    sql: str
    trip: Trip
    fits: Callable[[Any], bool]


def within(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: math.isfinite(value) and value == int(value) and low <= value <= high


def has_digits(value: Any, room: int, scale: int) -> bool:
    """Whether a number keeps its digits in numeric(room + scale, scale)."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    exact = Fraction(repr(value) if isinstance(value, float) else value)
    return abs(exact) < 10**room and (exact * 10**scale).denominator == 1


def is_single(value: float) -> bool:
    with np.errstate(over="ignore"):
        return math.isnan(value) or float(np.float32(value)) == value


def mostly(usual: Values, odd: Values) -> Values:
    """Few enough of the odd that a list without any of them is likely."""
    return st.integers(0, 60).flatmap(lambda number: odd if number == 60 else usual)


WHOLE_FLOATS = st.integers(-(2**15), 2**15 - 1).map(float)
PRICES = numbers(8, 2).map(float)
ENUM = "mood"
TARGETS = [
    Target(
        "smallint",
        Trip(pa.int64(), mostly(st.integers(-(2**15), 2**15 - 1), st.integers(-(2**63), 2**63 - 1)), AS_INTEGER),
        within(-(2**15), 2**15 - 1),
    ),
    Target(
        "integer",
        Trip(pa.uint64(), mostly(st.integers(0, 2**31 - 1), st.integers(0, 2**64 - 1)), AS_INTEGER),
        within(0, 2**31 - 1),
    ),
    Target("smallint", Trip(pa.float64(), mostly(WHOLE_FLOATS, st.floats()), AS_INTEGER), within(-(2**15), 2**15 - 1)),
    Target(
        "bigint",
        Trip(pa.decimal128(25, 2), mostly(st.integers(-(2**63), 2**63 - 1).map(Decimal), numbers(25, 2)), AS_INTEGER),
        within(-(2**63), 2**63 - 1),
    ),
    Target(
        "integer",
        Trip(
            pa.string(),
            mostly(st.integers(-(2**31), 2**31 - 1).map(str), st.sampled_from(["x", "", "1.5", "2147483648"])),
            Shown("v", str),
        ),
        lambda text: text not in {"x", "", "1.5", "2147483648"},
    ),
    Target("real", Trip(pa.float64(), mostly(st.floats(width=32), st.floats()), AS_SINGLE), is_single),
    Target(
        "double precision",
        Trip(
            pa.int64(), mostly(st.integers(-(2**53), 2**53), st.integers(-(2**63), 2**63 - 1)), Shown("v", float, float)
        ),
        lambda one: int(float(one)) == one,
    ),
    Target(
        "numeric(12,4)",
        Trip(
            pa.float64(),
            mostly(PRICES, st.floats()),
            Shown("v", Decimal, lambda one: Decimal(repr(one)) if isinstance(one, float) else one),
        ),
        lambda one: has_digits(one, 8, 4),
    ),
    Target(
        "numeric(12,4)",
        Trip(pa.decimal128(38, 10), mostly(numbers(12, 4), numbers(38, 10)), AS_NUMBER),
        lambda one: has_digits(one, 8, 4),
    ),
    Target(
        "numeric(12,4)",
        Trip(pa.int64(), mostly(st.integers(-(10**8) + 1, 10**8 - 1), st.integers(-(2**63), 2**63 - 1)), AS_NUMBER),
        lambda one: has_digits(one, 8, 4),
    ),
    Target(
        "numeric(50,20)",
        Trip(pa.decimal256(76, 30), mostly(numbers(50, 20), numbers(76, 30)), AS_NUMBER),
        lambda one: has_digits(one, 30, 20),
    ),
    Target(
        "numeric",
        Trip(
            pa.float64(),
            st.floats(allow_infinity=False, allow_nan=False),
            Shown("v", Decimal, lambda one: Decimal(repr(one)) if isinstance(one, float) else one),
        ),
        lambda one: True,
    ),
    Target(
        "money",
        Trip(pa.decimal128(30, 4), mostly(numbers(15, 2), numbers(30, 4)), Shown("v::numeric", Decimal)),
        lambda one: has_digits(one, 18, 2) and -(2**63) < one * 100 < 2**63,
    ),
    Target("text", Trip(pa.string(), mostly(TEXTS, st.just("a\0b")), AS_TEXT), lambda text: "\0" not in text),
    Target(
        "varchar(5)",
        Trip(pa.large_string(), mostly(TEXTS.map(lambda text: text[:5]), TEXTS), AS_TEXT),
        lambda text: len(text) <= 5,
    ),
    Target(
        "char(5)",
        Trip(pa.string_view(), mostly(TEXTS.map(lambda text: text[:5]), TEXTS), AS_PADDED),
        lambda text: len(text) <= 5,
    ),
    Target("text", Trip(pa.int64(), st.integers(-(2**63), 2**63 - 1), Shown("v", int)), lambda one: True),
    Target(ENUM, Trip(pa.string(), mostly(st.sampled_from(LABELS), TEXTS), AS_TEXT), lambda text: text in LABELS),
    Target(
        "uuid",
        Trip(pa.string(), mostly(st.uuids().map(str), st.sampled_from(["", "x", "0" * 31])), AS_TEXT),
        lambda text: len(text) == 36,
    ),
    Target(
        "boolean",
        Trip(
            pa.int8(), mostly(st.integers(0, 1), st.integers(-128, 127)), Shown("v", lambda text: int(text == "true"))
        ),
        within(0, 1),
    ),
    Target(
        "date",
        Trip(pa.date32(), mostly(st.integers(FIRST_DAY, LAST_DAY), st.integers(-(2**31), 2**31 - 1)), AS_DAYS),
        within(FIRST_DAY, LAST_DAY),
    ),
    Target(
        "date",
        Trip(
            pa.timestamp("us"),
            mostly(st.integers(-(10**6), 10**6).map(lambda days: days * DAY), moments(FIRST_MOMENT, 2**60)),
            Shown("(v - DATE '1970-01-01')::bigint * 86400000000", int),
        ),
        lambda us: us % DAY == 0,
    ),
    Target(
        "time",
        Trip(
            pa.time64("ns"),
            mostly(st.integers(0, DAY - 1).map(lambda us: us * 1000), st.integers(0, DAY * 1000 - 1)),
            Shown("extract(epoch FROM v) * 1000000000", lambda text: int(Decimal(text))),
        ),
        lambda ns: ns % 1000 == 0,
    ),
    Target(
        "timestamp",
        Trip(pa.timestamp("us"), mostly(moments(FIRST_MOMENT, LAST_MOMENT), st.integers(-(2**63), 2**63 - 1)), AS_TIME),
        within(FIRST_MOMENT, LAST_MOMENT),
    ),
    Target(
        "timestamp(3)",
        Trip(pa.timestamp("us"), mostly(moments(FIRST_MOMENT, 2**60, 1000), moments(FIRST_MOMENT, 2**60)), AS_TIME),
        lambda us: us % 1000 == 0,
    ),
    Target(
        "timestamptz",
        Trip(
            pa.timestamp("ns", "Europe/Berlin"),
            mostly(moments(-NS, NS).map(lambda us: us * 1000), st.integers(-NS, NS)),
            Shown("extract(epoch FROM v) * 1000000000", lambda text: int(Decimal(text))),
        ),
        lambda ns: ns % 1000 == 0,
    ),
    Target(
        "interval",
        Trip(
            pa.duration("ns"),
            mostly(moments(-NS, NS).map(lambda us: us * 1000), st.integers(-NS, NS)),
            Shown("extract(epoch FROM v) * 1000000000", lambda text: int(Decimal(text))),
        ),
        lambda ns: ns % 1000 == 0,
    ),
    Target(
        "integer[]",
        Trip(
            pa.list_(pa.int64()),
            mostly(
                st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=5),
                st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
            ),
            AS_ARRAY,
        ),
        lambda one: all(n is None or -(2**31) <= n < 2**31 for n in one),
    ),
    Target(
        "varchar(3)[]",
        Trip(
            pa.large_list(pa.string()),
            mostly(
                st.lists(st.one_of(st.none(), TEXTS.map(lambda text: text[:3])), max_size=5),
                st.lists(TEXTS, max_size=3),
            ),
            AS_ARRAY,
        ),
        lambda one: all(n is None or len(n) <= 3 for n in one),
    ),
    Target(
        "text[]",
        Trip(pa.list_(pa.string()), st.lists(st.one_of(st.none(), TEXTS, st.just("NULL")), max_size=5), AS_ARRAY),
        lambda one: True,
    ),
    Target(
        "double precision[]",
        Trip(
            pa.list_(pa.float64()),
            st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
            Shown("array_to_json(v)", json.loads, lambda one: list(map(float, one))),
        ),
        lambda one: True,
    ),
]


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.sql} from {target.trip.kind}")
@examples(8)
@given(data=st.data())
async def test_what_fits_a_column_is_stored_and_the_first_value_that_does_not_is_named(
    postgres: AsyncEngine, target: Target, method: Any, data: st.DataObject
) -> None:
    values = data.draw(lists_of(target.trip.values))
    bad = [row for row, value in enumerate(values) if value is not None and not target.fits(value)]
    await make_target(postgres, target.sql)
    options: Any = {"engine": postgres, "method": method, "chunk_rows": data.draw(ROWS)}
    loading = dl.load_dataframe(table_of(target.trip.array(values)), "t", **options)
    if bad:
        await refused_at(loading, bad[0])
        assert await stored(postgres, target.trip.shown) == []
        return
    await loading
    assert await stored(postgres, target.trip.shown) == keyed(values, target.trip.shown)


async def make_target(postgres: AsyncEngine, sql: str) -> None:
    labels = ", ".join("'" + label.replace("'", "''") + "'" for label in LABELS)
    await execute(
        postgres, "DROP TABLE IF EXISTS t", f"DROP TYPE IF EXISTS {ENUM}", f"CREATE TYPE {ENUM} AS ENUM ({labels})"
    )
    await execute(postgres, f"CREATE TABLE t (id integer, v {sql})")


# However a source is cut, the rows are the same.

MIXED = {
    "number": integers(pa.int64()),
    "price": decimals(pa.decimal128(12, 4)),
    "text": Trip(pa.string(), TEXTS, AS_TEXT),
    "label": Trip(pa.dictionary(pa.int16(), pa.string()), st.sampled_from(LABELS), AS_TEXT),
    "run": Trip(pa.run_end_encoded(pa.int32(), pa.int64()), st.integers(0, 1), AS_INTEGER),
    "moment": timestamps(pa.timestamp("us"), 1, 0, 2**51),
    "object": Trip(pa.list_(pa.int64()), st.lists(st.integers(-9, 9), max_size=3), AS_JSON),
}


@examples(25)
@given(data=st.data(), rows=ROWS, parts=ROWS)
async def test_parts_loaded_one_after_the_other_are_the_whole_however_they_are_cut(
    database: AsyncEngine, data: st.DataObject, rows: int, parts: int
) -> None:
    count = data.draw(st.integers(0, MOST_VALUES))
    columns = {
        name: trip.array(data.draw(st.lists(st.one_of(st.none(), trip.values), min_size=count, max_size=count)))
        for name, trip in MIXED.items()
    }
    whole = pa.table({"id": pa.array(range(count), pa.int32()), **columns})
    cut = data.draw(st.integers(0, count))
    method: Any = data.draw(st.sampled_from(["auto", "insert"]))
    await execute(database, "DROP TABLE IF EXISTS whole", "DROP TABLE IF EXISTS parts")
    await dl.load_dataframe(whole, "whole", engine=database, chunk_rows=rows, method=method)
    for part in (whole.slice(0, cut), whole.slice(cut)):
        await dl.load_dataframe(part, "parts", engine=database, chunk_rows=parts)
    names = ", ".join(f'CAST("{name}" AS text)' for name in whole.column_names)
    queries = [f"SELECT {names} FROM {table} ORDER BY id" for table in ("whole", "parts")]
    first, second = [await fetch(database, query) for query in queries]
    assert len(first) == count
    assert first == second


@examples(25)
@given(values=lists_of(TEXTS), rows=ROWS, batches=st.lists(st.integers(0, 40), max_size=8))
async def test_a_stream_of_batches_of_any_size_is_stored_in_its_order(
    database: AsyncEngine, values: list[str | None], rows: int, batches: list[int]
) -> None:
    whole = table_of(pa.array(values, pa.string())).combine_chunks()
    cuts = [0, *(min(sum(batches[:end]), len(values)) for end in range(1, len(batches) + 1)), len(values)]
    parts = [whole.slice(start, end - start) for start, end in itertools.pairwise(cuts)]
    empty = pa.RecordBatch.from_pylist([], whole.schema)
    stream = [batch for part in parts for batch in part.to_batches() or [empty]] or [empty]
    await execute(database, "DROP TABLE IF EXISTS t")  # a stream without rows would not replace it
    await dl.load_batches(stream, "t", engine=database, chunk_rows=rows)
    assert await fetch(database, "SELECT v FROM t ORDER BY id") == [(value,) for value in values]


# Whatever comes in, nothing but our own errors comes out, and what was refused left nothing behind.

ZONES = st.sampled_from(
    [None, datetime.UTC, zoneinfo.ZoneInfo("Europe/Berlin"), datetime.timezone(datetime.timedelta(hours=5))]
)
KINDS: list[Values] = [
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=[]), max_size=8),
    st.binary(max_size=8),
    st.binary(max_size=8).map(bytearray),
    st.decimals(),
    st.just(Decimal("sNaN")),
    st.dates(),
    st.datetimes(timezones=ZONES, allow_imaginary=True),
    st.times(timezones=ZONES),
    st.timedeltas(),
    st.uuids(),
    st.fractions(),
    st.complex_numbers(),
    st.lists(st.one_of(st.none(), st.integers(), st.floats(), TEXTS), max_size=3),
    st.dictionaries(st.one_of(TEXTS, st.integers()), st.one_of(st.none(), st.integers(), st.floats()), max_size=3),
    st.tuples(st.integers(), TEXTS),
    st.sets(st.integers(), max_size=3),
    JSON,
    st.builds(object),
    st.sampled_from(
        [np.int8(-1), np.uint64(2**64 - 1), np.float32(0.1), np.datetime64("2024-01-01T00:00:00.000000001")]
    ),
    st.sampled_from([np.datetime64("NaT", "s"), np.timedelta64(1, "D"), np.str_("x"), np.bytes_(b"x"), np.bool_(True)]),
    st.sampled_from(
        [pd.NA, pd.NaT, pd.Timestamp.max, pd.Timestamp("2024-01-01", tz="UTC"), pd.Timedelta(1), pd.Interval(0, 1)]
    ),
    st.sampled_from([pd.Period("2024-01"), range(3), int, ..., zoneinfo.ZoneInfo("UTC"), 1e400, -0.0]),
]
ANYTHING = st.one_of(KINDS)
COLUMNS = st.one_of(st.lists(ANYTHING, max_size=8), st.sampled_from(KINDS).flatmap(lambda kind: lists_of(kind, 8)))
SQL = " ".join(
    """boolean; smallint; bigint; real; double precision; numeric; numeric(10,2); money; text; varchar(3); char(2);
    bytea; date; time; time(0); timestamp; timestamp(3); timestamptz; interval; uuid; json; jsonb; mood; integer[];
    text[]; numeric(4,1)[]; timestamptz[]; inet; int4range; bit(3); point""".split()
).split("; ")
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["insert", "auto"]),
        "casts": st.just("lossy"),
        "on_invalid": st.just("reject"),
        "assume_timezone": st.just("Europe/Berlin"),
        "chunk_rows": st.integers(1, 5),
    },
)


def source_of(column: list[Any], shape: str) -> Any:
    if shape == "pandas":
        return pd.DataFrame({"id": range(len(column)), "v": pd.Series(column, dtype=object)})
    return {"id": list(range(len(column))), "v": column}


async def assert_only_our_errors(engine: AsyncEngine, loading: Any) -> None:
    """Carry out the load; anything that is not ours escapes and fails the test."""
    try:
        report = await loading
    except dl.DataLoaderError:
        assert await fetch(engine, "SELECT count(*) FROM t") == [(0,)]
    else:
        assert await fetch(engine, "SELECT count(*) FROM t") == [(report.loaded,)]
        assert report.read == report.loaded + report.rejected


@examples(250)
@given(column=COLUMNS, sql=st.sampled_from(SQL), shape=st.sampled_from(["pandas", "dict"]), options=OPTIONS)
async def test_objects_of_any_kind_are_stored_or_refused_by_our_own_errors(
    postgres: AsyncEngine, column: list[Any], sql: str, shape: str, options: dict[str, Any]
) -> None:
    await make_target(postgres, sql)
    await assert_only_our_errors(postgres, dl.load_dataframe(source_of(column, shape), "t", engine=postgres, **options))


@examples(150)
@given(column=COLUMNS, shape=st.sampled_from(["pandas", "dict", "rows"]), options=OPTIONS)
async def test_objects_of_any_kind_make_a_table_or_an_error_of_ours(
    database: AsyncEngine, column: list[Any], shape: str, options: dict[str, Any]
) -> None:
    await execute(database, "DROP TABLE IF EXISTS t", "CREATE TABLE t (other integer)")
    rows = [{"id": row, "v": value} for row, value in enumerate(column)]
    chosen: dict[str, Any] = {"engine": database, "if_exists": "replace", **options}
    if shape == "rows":
        await assert_only_our_errors(database, dl.load_rows(rows, "t", columns=["id", "v"], **chosen))
    else:
        await assert_only_our_errors(database, dl.load_dataframe(source_of(column, shape), "t", **chosen))


def wrapped(array: pa.Array, how: str) -> pa.Array:
    """The values, or some, inside another type."""
    count = len(array)
    offsets = pa.array(range(count + 1), pa.int32())
    wrappers: dict[str, Callable[[], pa.Array]] = {
        "alone": lambda: array,
        "list": lambda: pa.ListArray.from_arrays(offsets, array),
        "list of lists": lambda: pa.ListArray.from_arrays(offsets, pa.ListArray.from_arrays(offsets, array)),
        "struct": lambda: pa.StructArray.from_arrays([array], names=["a"]),
        "dictionary": lambda: pa.DictionaryArray.from_arrays(offsets[:-1], array),
        "runs": lambda: pa.RunEndEncodedArray.from_arrays(offsets[1:], array),
        "union": lambda: pa.UnionArray.from_dense(pa.array([0] * count, pa.int8()), offsets[:-1], [array]),
        "opaque": lambda: pa.ExtensionArray.from_storage(pa.opaque(array.type, "it", "me"), array),
        "map": lambda: pa.MapArray.from_arrays(offsets, pa.array(map(str, range(count)), pa.string()), array),
    }
    return wrappers[how]()


WRAPPERS = ["alone", "list", "list of lists", "struct", "dictionary", "runs", "union", "opaque", "map"]


@pytest.mark.parametrize("how", WRAPPERS)
@examples(60)
@given(data=st.data(), sql=st.sampled_from(SQL), options=OPTIONS)
async def test_any_arrow_type_is_stored_or_refused_by_our_own_errors(
    postgres: AsyncEngine, how: str, data: st.DataObject, sql: str, options: dict[str, Any]
) -> None:
    trip = data.draw(st.sampled_from([one for one in TRIPS if not can_not_be(one.kind, how)]))
    array = wrapped(trip.array(data.draw(lists_of(trip.values, 8))), how)
    await make_target(postgres, sql)
    await assert_only_our_errors(postgres, dl.load_dataframe(table_of(array), "t", engine=postgres, **options))


def can_not_be(kind: pa.DataType, how: str) -> bool:
    """Arrow has no runs of runs, and no dictionary of a dictionary."""
    encoded = pa.types.is_run_end_encoded(kind) or pa.types.is_dictionary(kind)
    return encoded and how in {"runs", "dictionary", "opaque"}


@examples(60)
@given(data=st.data(), sql=st.sampled_from(SQL), method=st.sampled_from(["auto", "insert"]))
async def test_bytes_that_are_no_text_are_refused_by_our_own_errors(
    postgres: AsyncEngine, data: st.DataObject, sql: str, method: Any
) -> None:
    raw = pa.array(data.draw(lists_of(st.binary(max_size=6), 8)), pa.binary())
    array = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    await make_target(postgres, sql)
    await assert_only_our_errors(postgres, dl.load_dataframe(table_of(array), "t", engine=postgres, method=method))


def test_the_keys_tell_values_apart_that_python_takes_for_equal() -> None:
    assert AS_FLOAT.key(0.0) != AS_FLOAT.key(-0.0)
    assert AS_FLOAT.key(math.nan) == AS_FLOAT.key(struct.unpack("<d", b"\1\0\0\0\0\0\xf8\xff")[0])
    assert not has_digits(0.00001, 8, 4)
    assert has_digits(Decimal("99999999.9999"), 8, 4)
