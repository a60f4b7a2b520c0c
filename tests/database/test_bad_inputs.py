"""A catalogue of bad inputs: one bad row among good ones, on each path, and what is said of it.

Every case is loaded three times: with the default, which refuses the whole; with `on_invalid="reject"`, which keeps the
bad row aside; and not at all, by `validate`. What is stored is read as text that the database made. In CI a case is
refused on one path and rejected on the next; with `DATALOADER_FAULTS=full` both on each.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import math
import os
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

FULL = os.environ.get("DATALOADER_FAULTS") == "full"
ROWS, BAD = 7, 4
"""How many rows a case has, and which is bad: chunks of three put it inside the second. The last row brings NULL."""
PATHS = ("copy", "insert", "sqlite")
OBJECTS = None
"""In place of an Arrow type: the values come as Python objects in a DataFrame."""


@dataclass(frozen=True, slots=True)
class No:
    """A path to which a case does not apply."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What few cases need.

    Attributes
    ----------
    by : str
        Who refuses the row: ``value`` (we do, before anything is sent), ``server``, or ``plan`` (nothing of it fits).
    stored, quoted : list of str
        The good values as PostgreSQL shows them and as SQLite quotes them, where that is not obvious.
    setup, after : tuple of str
        Statements before and after the table is made.
    also : str
        What follows the columns in CREATE TABLE.
    blames : tuple
        The columns that may be named; None: nobody can know.
    nulls : bool
        Whether the last row may bring NULL.
    asked : str
        The reason that `validate` gives when it is asked to look at keys.
    copy : No
        Why COPY does not apply, where INSERT does.
    options : dict
        Of the load.
    """

    by: str = "value"
    stored: list[str] | None = None
    quoted: list[str] | None = None
    setup: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    also: str = ""
    blames: tuple[str | None, ...] = ("v",)
    nulls: bool = True
    asked: str | None = None
    copy: No | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A bad input: the column's DDL on both databases, how the values come, and what is wrong with one of them."""

    postgres: str | No
    sqlite: str | No
    values: pa.DataType | None
    good: list[Any]
    bad: Any
    reason: str
    more: Options = field(default_factory=Options)

    @property
    def reasons(self) -> list[str]:
        return self.reason.split("|")

    def on(self, path: str) -> str | No:
        if path == "copy" and self.more.copy is not None:
            return self.more.copy
        return self.sqlite if path == "sqlite" else self.postgres

    def blamed(self, path: str) -> set[str | None]:
        """The columns that may be named: of an INSERT's casts PostgreSQL does not say which one failed."""
        nobody = {None} if path == "insert" and self.more.by != "value" else set()
        return {*self.more.blames, *nobody}

    def column(self, with_bad: bool) -> list[Any]:
        """The column's values, row by row."""
        good = list(itertools.islice(itertools.cycle(self.good), ROWS - 1))
        if self.more.nulls:
            good[-1] = None
        column = [*good[:BAD], self.bad, *good[BAD:]]
        return column if with_bad else column[:BAD] + column[BAD + 1 :]

    def data(self, with_bad: bool = True) -> Any:
        """What is loaded; the ids are ten times the positions."""
        ids = [10 * row for row in range(ROWS) if with_bad or row != BAD]
        if self.values is OBJECTS:
            return pd.DataFrame({"id": ids, "v": pd.Series(self.column(with_bad), dtype=object)})
        return pa.table({"id": pa.array(ids, pa.int32()), "v": made(self.column(with_bad), self.values)})

    def shown(self, path: str) -> list[tuple[int, str | None]]:
        """The good rows as the database shows them."""
        given = self.more.quoted if path == "sqlite" else self.more.stored
        show = quoted_by_sqlite if path == "sqlite" else shown_by_postgres
        texts = itertools.cycle(given or [show(value) for value in self.good if value is not None])
        absent = "NULL" if path == "sqlite" else None
        values = self.column(with_bad=False)
        ids = [10 * row for row in range(ROWS) if row != BAD]
        return [(one, absent if value is None else next(texts)) for one, value in zip(ids, values, strict=True)]


def made(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.DictionaryType):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


def shown_by_postgres(value: Any) -> str:
    """A value as PostgreSQL writes it."""
    if isinstance(value, datetime.datetime):
        utc = value if value.tzinfo is None else value.astimezone(datetime.UTC)
        return utc.isoformat(" ").replace("+00:00", "+00")
    shown = {
        bool: lambda: str(value).lower(),
        float: lambda: repr(value).removesuffix(".0"),
        bytes: lambda: f"\\x{value.hex()}",
        dict: lambda: json.dumps(value),
    }.get(type(value), lambda: str(value))
    return shown()


def quoted_by_sqlite(value: Any) -> str:
    """A value as SQLite's quote() writes it: a text looks otherwise than a number."""
    if isinstance(value, (datetime.datetime, datetime.time)):
        return f"'{value.isoformat(*' ' * isinstance(value, datetime.datetime), timespec='microseconds')}'"
    shown = {
        bool: lambda: str(int(value)),
        int: lambda: str(value),
        float: lambda: repr(value),
        bytes: lambda: f"X'{value.hex().upper()}'",
        dict: lambda: f"'{json.dumps(value)}'",
    }.get(type(value), lambda: f"'{value}'")
    return shown()


ONLY_64_BITS = No("SQLite's integers have 64 bits, whatever the column is called")
ONLY_FLOAT8 = No("SQLite's REAL has 64 bits")
NO_SUCH_TYPE = No("SQLite has no such type")
NO_LIMIT = No("SQLite keeps any length and any NUL")
NO_PRECISION = No("SQLite keeps six digits of a second in every column")
NO_ZONES = No("a DATETIME of SQLite takes times with and without a zone")
SERVER_KEEPS_NAN = No("PostgreSQL keeps a NaN")
SERVER_KEEPS_IT = No("PostgreSQL keeps it")
SERVER_READS_IT = No("PostgreSQL decides, see its own case")

SMALL = [1, -32_768, 32_767]
MIDDLE = [1, -(2**31), 2**31 - 1]
BIG = [1, -(2**63), 2**63 - 1]
TEXTS = ["a", "ü", "😀"]
NUMBER_TEXTS = ["1", "-32768", "32767"]
NUMBERS_OF_TEXT: dict[str, Any] = {"quoted": NUMBER_TEXTS}
MONEY: dict[str, Any] = {"stored": ["1.0000", "-0.5000"], "quoted": ["1", "-0.5"]}
DAY, LEAP_DAY = datetime.date(1970, 1, 1), datetime.date(2024, 2, 29)
MOMENT, NOON = datetime.datetime(2024, 2, 29, 12, 30), datetime.datetime(1970, 1, 1, 12)
AWARE = [MOMENT.replace(tzinfo=datetime.UTC), NOON.replace(tzinfo=datetime.UTC)]
QUOTED_AWARE = ["'2024-02-29 12:30:00.000000+00:00'", "'1970-01-01 12:00:00.000000+00:00'"]
MOMENT_TEXTS = ["2024-02-29 12:30:00", "1970-01-01T12:00:00"]
OF_MOMENT_TEXTS: dict[str, Any] = {
    "stored": ["2024-02-29 12:30:00", "1970-01-01 12:00:00"],
    "quoted": ["'2024-02-29 12:30:00.000000'", "'1970-01-01 12:00:00.000000'"],
}
CLOCK = [datetime.time(0), datetime.time(12, 30, 15, 250_000)]
OF_CLOCK: dict[str, Any] = {"stored": ["00:00:00", "12:30:15.25"]}
SPANS = [datetime.timedelta(hours=1), datetime.timedelta(microseconds=-1)]
OF_SPANS: dict[str, Any] = {"stored": ["01:00:00", "-00:00:00.000001"]}
ONE_UUID = "12345678-1234-5678-1234-567812345678"
JSONS = ['{"a": 1}', "[]", "null"]
BERLIN = {"assume_timezone": "Europe/Berlin"}
OF_BERLIN: dict[str, Any] = {"stored": ["2024-02-29 11:30:00+00", "1970-01-01 11:00:00+00"], "options": BERLIN}
MOOD = ("CREATE TYPE mood AS ENUM ('so, so', 'it''s')",)
MOODS = ["so, so", "it's"]
PARENTS = ("CREATE TABLE p (a integer PRIMARY KEY)", "INSERT INTO p VALUES (1), (2), (3)")
PAIRS = (
    "CREATE TABLE p (a integer, b integer, PRIMARY KEY (a, b))",
    f"INSERT INTO p VALUES {', '.join(f'({10 * row}, {row})' for row in range(ROWS) if row != BAD)}",
)
LIST = pa.list_
LONG = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(200))
"""12,800 characters that do not compress: an index takes a third of a page."""


def server(**more: Any) -> Options:
    """A row that only the server refuses."""
    return Options(by="server", **more)


def unnamed(**more: Any) -> Options:
    """A row that only the server refuses, for a reason that is no column's."""
    return Options(by="server", blames=("v", None), **more)


def plan(**more: Any) -> Options:
    """A column that is refused as a whole."""
    return Options(by="plan", **more)


def raising(kind: str) -> str:
    return f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.v = 13 THEN RAISE EXCEPTION 'thirteen, <b>of all</b>' {kind}; END IF; RETURN NEW; END $$"""


MAKE_TRIGGER = "CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()"

CASES: dict[str, Case] = {
    # integers
    "int2 above its range": Case("smallint", ONLY_64_BITS, pa.int64(), SMALL, 2**15, "range"),
    "int2 below its range": Case("smallint", ONLY_64_BITS, pa.int32(), SMALL, -(2**15) - 1, "range"),
    "int4 above its range": Case("integer", ONLY_64_BITS, pa.int64(), MIDDLE, 2**31, "range"),
    "int4 below its range": Case("integer", ONLY_64_BITS, pa.int64(), MIDDLE, -(2**31) - 1, "range"),
    "int4 of uint32": Case("integer", ONLY_64_BITS, pa.uint32(), [0, 2**31 - 1], 2**32 - 1, "range"),
    "int8 of uint64": Case("bigint", "BIGINT", pa.uint64(), [0, 2**63 - 1], 2**63, "range"),
    "int2 of uint64": Case("smallint", ONLY_64_BITS, pa.uint64(), [0, 2**15 - 1], 2**64 - 1, "range"),
    "int8 of a huge Python int": Case("bigint", "INTEGER", OBJECTS, BIG, 2**70, "range"),
    "int8 of a Python int just below": Case("bigint", "INTEGER", OBJECTS, BIG, -(2**63) - 1, "range"),
    "int2 of text above its range": Case("smallint", ONLY_64_BITS, pa.string(), NUMBER_TEXTS, "32768", "range"),
    "int4 of text above its range": Case("integer", ONLY_64_BITS, pa.string(), NUMBER_TEXTS, "2147483648", "range"),
    "int8 of text above its range": Case(
        "bigint", "INTEGER", pa.string(), NUMBER_TEXTS, str(2**63), "range", Options(**NUMBERS_OF_TEXT)
    ),
    "int8 of text far below its range": Case(
        "bigint", "INTEGER", pa.large_string(), NUMBER_TEXTS, f"-{'9' * 60}", "range", Options(**NUMBERS_OF_TEXT)
    ),
    "int4 of a decimal above its range": Case(
        "integer", ONLY_64_BITS, pa.decimal128(20, 2), [Decimal("7.00")], Decimal(2**31), "range", Options(stored=["7"])
    ),
    "int8 of a decimal above its range": Case(
        "bigint",
        "INTEGER",
        pa.decimal128(38, 0),
        [Decimal(2**63 - 1)],
        Decimal(2**63),
        "range",
        Options(quoted=[str(2**63 - 1)]),
    ),
    "int8 of a decimal of fifty digits": Case(
        "bigint",
        "INTEGER",
        pa.decimal256(60, 2),
        [Decimal(7)],
        Decimal(10**50),
        "range",
        Options(stored=["7"], quoted=["7"]),
    ),
    "int2 of a float above its range": Case("smallint", ONLY_64_BITS, pa.float64(), [1.0, 32_767.0], 4e4, "range"),
    "int4 of a float above its range": Case("integer", ONLY_64_BITS, pa.float64(), [1.0, -7.0], 2.0**31, "range"),
    "int4 of a small float above its range": Case("integer", ONLY_64_BITS, pa.float32(), [1.0, -7.0], 3e9, "range"),
    "int8 of a float above its range": Case(
        "bigint", "INTEGER", pa.float64(), [1.0, -7.0], 2.0**63, "range", Options(quoted=["1", "-7"])
    ),
    "int8 of a huge float": Case(
        "bigint", "INTEGER", pa.float64(), [1.0, -7.0], -1e300, "range", Options(quoted=["1", "-7"])
    ),
    "int of a fraction": Case(
        "integer", "INTEGER", pa.float64(), [1.0, -7.0], 3.7, "fraction", Options(quoted=["1", "-7"])
    ),
    "int of a tiny fraction": Case(
        "bigint", "INT", pa.float64(), [1.0, -7.0], 5e-324, "fraction", Options(quoted=["1", "-7"])
    ),
    "int of half a small float": Case(
        "smallint", "SMALLINT", pa.float32(), [1.0, -7.0], 0.5, "fraction", Options(quoted=["1", "-7"])
    ),
    "int of a fraction as decimal": Case(
        "integer",
        "INTEGER",
        pa.decimal128(9, 2),
        [Decimal("7.00")],
        Decimal("3.70"),
        "fraction",
        Options(stored=["7"], quoted=["7"]),
    ),
    "int of a fraction as text": Case(
        "integer", "INTEGER", pa.string(), NUMBER_TEXTS, "3.7", "fraction", Options(**NUMBERS_OF_TEXT)
    ),
    "int of text with an exponent": Case(
        "integer", "INTEGER", pa.string(), NUMBER_TEXTS, "1e3", "syntax|fraction", Options(**NUMBERS_OF_TEXT)
    ),
    "int of NaN": Case("integer", "INTEGER", pa.float64(), [1.0, -7.0], math.nan, "nan", Options(quoted=["1", "-7"])),
    "int of infinity": Case(
        "integer", "INTEGER", pa.float64(), [1.0, -7.0], math.inf, "nan|range", Options(quoted=["1", "-7"])
    ),
    "int8 of minus infinity": Case(
        "bigint", "BIGINT", pa.float32(), [1.0, -7.0], -math.inf, "nan|range", Options(quoted=["1", "-7"])
    ),
    "int of the text NaN": Case(
        "integer", "INTEGER", pa.string(), NUMBER_TEXTS, "NaN", "nan|syntax", Options(**NUMBERS_OF_TEXT)
    ),
    "int of a word": Case("integer", "INTEGER", pa.string(), NUMBER_TEXTS, "abc", "syntax", Options(**NUMBERS_OF_TEXT)),
    "int of an empty text": Case(
        "integer", "INTEGER", pa.string(), NUMBER_TEXTS, "", "syntax", Options(**NUMBERS_OF_TEXT)
    ),
    "int of text with a comma": Case(
        "integer", "INTEGER", pa.string(), NUMBER_TEXTS, "1,000", "syntax", Options(**NUMBERS_OF_TEXT)
    ),
    "int of text with an underscore": Case(
        "integer", "INTEGER", pa.string(), NUMBER_TEXTS, "1_000", "syntax", Options(**NUMBERS_OF_TEXT)
    ),
    "int of other digits": Case(
        "integer", "INTEGER", pa.string(), NUMBER_TEXTS, "٣", "syntax", Options(**NUMBERS_OF_TEXT)
    ),
    # booleans
    "bool of 2": Case(
        "boolean", "BOOLEAN", pa.int64(), [1, 0], 2, "range", Options(stored=["true", "false"], quoted=["1", "0"])
    ),
    "bool of a word": Case(
        "boolean", "BOOLEAN", pa.string(), ["true", "false"], "maybe", "syntax", Options(quoted=["1", "0"])
    ),
    "bool of the text 2": Case(
        "boolean", "BOOLEAN", pa.string(), ["true", "false"], "2", "syntax|range", Options(quoted=["1", "0"])
    ),
    # floats
    "float4 of a float of more digits": Case("real", ONLY_FLOAT8, pa.float64(), [0.5, -1.25], 0.1, "digits"),
    "float4 of a float above its range": Case("real", ONLY_FLOAT8, pa.float64(), [0.5, -1.25], 1e300, "range"),
    "float4 of a float below its range": Case("real", ONLY_FLOAT8, pa.float64(), [0.5, 0.0], 1e-300, "digits|range"),
    "float4 of a big int": Case("real", ONLY_FLOAT8, pa.int64(), [1, 2], 2**24 + 1, "digits"),
    "float4 of a decimal of more digits": Case(
        "real",
        ONLY_FLOAT8,
        pa.decimal128(12, 2),
        [Decimal("0.50")],
        Decimal("16777217.01"),
        "digits",
        Options(stored=["0.5"]),
    ),
    "float4 of text of more digits": Case("real", ONLY_FLOAT8, pa.string(), ["0.1", "0.5"], "0.123456789012", "digits"),
    "float4 of text above its range": Case("real", ONLY_FLOAT8, pa.string(), ["0.1", "0.5"], "1e39", "range"),
    "float8 of a big int": Case(
        "double precision", "REAL", pa.int64(), [1, 2], 2**53 + 1, "digits", Options(quoted=["1.0", "2.0"])
    ),
    "float8 of a big uint64": Case(
        "double precision", "DOUBLE", pa.uint64(), [1, 2], 2**64 - 1, "digits", Options(quoted=["1.0", "2.0"])
    ),
    "float8 of a long decimal": Case(
        "double precision",
        "REAL",
        pa.decimal128(21, 20),
        [Decimal("0.5")],
        Decimal("0.12345678901234567891"),
        "digits",
        Options(stored=["0.5"], quoted=["0.5"]),
    ),
    "float8 of long text": Case(
        "double precision",
        "REAL",
        pa.string(),
        ["0.1", "0.5"],
        "0.12345678901234567891",
        "digits",
        Options(quoted=["0.1", "0.5"]),
    ),
    "float8 of text above its range": Case(
        "double precision", "REAL", pa.string(), ["0.1", "0.5"], "-1e400", "range", Options(quoted=["0.1", "0.5"])
    ),
    "float8 of a word": Case(
        "double precision", "REAL", pa.string(), ["0.1", "0.5"], "abc", "syntax", Options(quoted=["0.1", "0.5"])
    ),
    "float8 of text with a comma": Case(
        "double precision", "FLOAT", pa.string(), ["0.1", "0.5"], "0,5", "syntax", Options(quoted=["0.1", "0.5"])
    ),
    "float8 of NaN": Case(SERVER_KEEPS_NAN, "REAL", pa.float64(), [0.1, 0.5], math.nan, "nan"),
    # numeric
    "numeric of a float of more digits": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.float64(), [1.0, -0.5], 0.00001, "digits", Options(**MONEY)
    ),
    "numeric of a float that only looks short": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.float64(), [1.0, -0.5], 0.1 + 0.2, "digits", Options(**MONEY)
    ),
    "numeric of an int above its range": Case(
        "numeric(12,4)",
        "NUMERIC(12,4)",
        pa.int64(),
        [1, 99_999_999],
        10**8,
        "range",
        Options(stored=["1.0000", "99999999.0000"], quoted=["1", "99999999"]),
    ),
    "numeric of a decimal of more digits": Case(
        "numeric(12,4)",
        "NUMERIC(12,4)",
        pa.decimal128(20, 6),
        [Decimal(1), Decimal("-0.5")],
        Decimal("1.000001"),
        "digits",
        Options(**MONEY),
    ),
    "numeric of a decimal above its range": Case(
        "numeric(12,4)",
        "NUMERIC(12,4)",
        pa.decimal128(20, 6),
        [Decimal(1), Decimal("-0.5")],
        Decimal(-(10**8)),
        "range",
        Options(**MONEY),
    ),
    "numeric of a decimal that overflows when it is rescaled": Case(
        "numeric(38,20)",
        No("SQLite's NUMERIC keeps 15 digits"),
        pa.decimal128(38, 0),
        [Decimal(1)],
        Decimal(17 * 10**36),
        "range",
        Options(stored=[f"1.{'0' * 20}"]),
    ),
    "numeric of text of more digits": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.string(), ["1", "-0.50"], "1.00005", "digits", Options(**MONEY)
    ),
    "numeric of text above its range": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.string(), ["1", "-0.50"], "123456789", "range", Options(**MONEY)
    ),
    "numeric of text that is no number": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.string(), ["1", "-0.50"], "1.2.3", "syntax", Options(**MONEY)
    ),
    "numeric of text with a currency": Case(
        "numeric(12,4)", "DECIMAL(12,4)", pa.string(), ["1", "-0.50"], "$5", "syntax", Options(**MONEY)
    ),
    "numeric of text with a tiny exponent": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.string(), ["1", "-0.50"], "1e-30", "digits", Options(**MONEY)
    ),
    "numeric of text with a huge exponent": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.string(), ["1", "-0.50"], "1e30", "range", Options(**MONEY)
    ),
    "numeric of NaN": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.float64(), [1.0, -0.5], math.nan, "nan", Options(**MONEY)
    ),
    "numeric of infinity": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.float64(), [1.0, -0.5], -math.inf, "nan|range", Options(**MONEY)
    ),
    "numeric of a huge float": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.float64(), [1.0, -0.5], 1e300, "range", Options(**MONEY)
    ),
    "numeric of the text NaN": Case(
        "numeric(12,4)", "NUMERIC(12,4)", pa.string(), ["1", "-0.50"], "nan", "nan|syntax", Options(**MONEY)
    ),
    "numeric without places of half": Case(
        "numeric(5)", "NUMERIC(5)", pa.float64(), [1.0, -7.0], 1.5, "digits|fraction", Options(quoted=["1", "-7"])
    ),
    "numeric of uint64": Case("numeric(19,0)", "NUMERIC(15,0)", pa.uint64(), [1, 7], 2**64 - 1, "range"),
    "numeric of fifty digits above its range": Case(
        "numeric(50,10)",
        NO_PRECISION,
        pa.decimal256(60, 10),
        [Decimal("1.5")],
        Decimal(10**45),
        "range",
        Options(stored=["1.5000000000"]),
    ),
    "numeric of fifty digits of text above its range": Case(
        "numeric(50,10)", NO_PRECISION, pa.string(), ["1.5"], "9" * 41, "range", Options(stored=["1.5000000000"])
    ),
    "numeric without limits of a word": Case(
        "numeric",
        No("SQLite's NUMERIC takes no text"),
        pa.string(),
        ["1.50", "1e3"],
        "abc",
        "syntax|refused",
        Options(by="either", stored=["1.50", "1000"]),
    ),
    "number of twenty digits": Case(
        SERVER_KEEPS_IT,
        "NUMERIC",
        pa.decimal128(20, 10),
        [Decimal("0.5")],
        Decimal("1234567890.0123456789"),
        "digits|range",
        Options(quoted=["0.5"]),
    ),
    "number of uint64": Case(SERVER_KEEPS_IT, "NUMERIC", pa.uint64(), [1, 2**63 - 1], 2**63, "range|digits"),
    "number of NaN": Case(SERVER_KEEPS_NAN, "NUMERIC", pa.float64(), [0.5, -1.25], math.nan, "nan"),
    # money
    "money above its range": Case(
        "money",
        NO_SUCH_TYPE,
        pa.decimal128(20, 2),
        [Decimal("1.50")],
        Decimal("92233720368547758.08"),
        "range",
        Options(stored=["$1.50"]),
    ),
    "money below its range": Case(
        "money",
        NO_SUCH_TYPE,
        pa.decimal128(20, 2),
        [Decimal("1.50")],
        Decimal("-92233720368547758.09"),
        "range",
        Options(stored=["$1.50"]),
    ),
    "money of a tenth of a cent": Case(
        "money", NO_SUCH_TYPE, pa.float64(), [1.5], 0.001, "digits", Options(stored=["$1.50"])
    ),
    "money of a word": Case("money", NO_SUCH_TYPE, pa.string(), ["1.50"], "much", "syntax", Options(stored=["$1.50"])),
    # text
    "text with NUL": Case("text", NO_LIMIT, pa.string(), TEXTS, "a\0b", "nul"),
    "text that is NUL": Case("text", NO_LIMIT, pa.large_string(), TEXTS, "\0", "nul"),
    "text with NUL in a dictionary": Case("text", NO_LIMIT, pa.dictionary(pa.int8(), pa.string()), TEXTS, "\0", "nul"),
    "varchar with NUL": Case("varchar(10)", NO_LIMIT, pa.string(), TEXTS, "a\0b", "nul"),
    "char with NUL": Case("char(1)", NO_LIMIT, pa.string(), TEXTS, "\0", "nul"),
    "varchar that is too long": Case("varchar(3)", NO_LIMIT, pa.string(), ["abc", ""], "abcd", "length"),
    "varchar of too many characters of two bytes": Case("varchar(3)", NO_LIMIT, pa.string(), ["äöü"], "äöüß", "length"),
    "varchar of too many characters of four bytes": Case(
        "varchar(3)", NO_LIMIT, OBJECTS, ["😀😀😀", "漢字"], "😀😀😀😀", "length"
    ),
    "varchar of combining characters": Case(
        "varchar(3)", NO_LIMIT, pa.string_view(), ["e\u0301e"], "e\u0301e\u0301", "length"
    ),
    "varchar with a blank too many, which PostgreSQL would cut": Case(
        "varchar(3)", NO_LIMIT, pa.string(), ["abc", "a  "], "abc ", "length"
    ),
    "char that is too long": Case("char(3)", NO_LIMIT, pa.string(), ["abc", "😀😀😀"], "😀😀😀😀", "length"),
    "char with a blank too many": Case("char(3)", NO_LIMIT, pa.string(), ["abc"], "abc ", "length"),
    "varchar of a long number": Case("varchar(3)", NO_LIMIT, pa.int64(), [1, 999], 1000, "length"),
    "text of half a character": Case("text", "TEXT", OBJECTS, TEXTS, "a\ud800", "encoding"),
    "varchar of half a character": Case("varchar(9)", "VARCHAR(9)", OBJECTS, TEXTS, "\udfff", "encoding"),
    "enum of half a character": Case("mood", NO_SUCH_TYPE, OBJECTS, MOODS, "\ud800", "encoding", Options(setup=MOOD)),
    # enums
    "enum of an unknown label": Case("mood", NO_SUCH_TYPE, pa.string(), MOODS, "sad", "label", Options(setup=MOOD)),
    "enum of another case": Case("mood", NO_SUCH_TYPE, pa.string(), MOODS, "IT'S", "label", Options(setup=MOOD)),
    "enum of an empty text": Case("mood", NO_SUCH_TYPE, OBJECTS, MOODS, "", "label", Options(setup=MOOD)),
    "enum of a blank too many": Case("mood", NO_SUCH_TYPE, pa.string(), MOODS, "it's ", "label", Options(setup=MOOD)),
    "enum of an unknown label in a dictionary": Case(
        "mood", NO_SUCH_TYPE, pa.dictionary(pa.int32(), pa.string()), MOODS, "sad", "label", Options(setup=MOOD)
    ),
    "enum with NUL": Case("mood", NO_SUCH_TYPE, pa.string(), MOODS, "it's\0", "label|nul", Options(setup=MOOD)),
    "domain over an enum of an unknown label": Case(
        "feeling",
        NO_SUCH_TYPE,
        pa.string(),
        MOODS,
        "sad",
        "label|refused",
        Options(by="either", setup=(*MOOD, "CREATE DOMAIN feeling AS mood")),
    ),
    # uuids
    "uuid of a word": Case("uuid", "UUID", pa.string(), [ONE_UUID], "x", "syntax"),
    "uuid of a digit too few": Case("uuid", "UUID", pa.string(), [ONE_UUID], ONE_UUID[:-1], "syntax"),
    "uuid of a wrong digit": Case("uuid", "UUID", OBJECTS, [ONE_UUID], ONE_UUID.replace("8", "g"), "syntax"),
    # json
    "json of NaN": Case("json", "JSON", pa.string(), JSONS, '{"a": NaN}', "syntax|nan"),
    "json with a comma at the end": Case("json", "JSON", pa.string(), JSONS, '{"a": 1,}', "syntax"),
    "jsonb with a comma at the end": Case("jsonb", No("there is one JSON"), pa.string(), JSONS, "[1,]", "syntax"),
    "json with Python's quotes": Case("jsonb", "JSON", pa.string(), JSONS, "{'a': 1}", "syntax"),
    "json of a number of more digits than SQLite keeps": Case(
        SERVER_KEEPS_IT,
        "JSON",
        pa.string(),
        ['{"a": 12345678901234567890.5}', "1.5", "7"],
        "12345678901234567890.5",
        "digits|range",
        Options(quoted=["'{\"a\": 12345678901234567890.5}'", "1.5", "7"]),
    ),
    "json of a number beyond SQLite's": Case(SERVER_KEEPS_IT, "JSON", pa.string(), JSONS, "1e400", "digits|range"),
    "json of an empty text": Case("jsonb", "JSON", pa.string(), JSONS, "", "syntax"),
    "json of two values": Case("json", "JSON", pa.string(), JSONS, "{} {}", "syntax"),
    "json with a line break in a text": Case("json", "JSON", pa.string(), JSONS, '"a\nb"', "syntax"),
    "json with NUL": Case("json", "JSON", pa.string(), JSONS, '"a\0"', "syntax|nul"),
    "jsonb with an escaped NUL": Case("jsonb", No("SQLite keeps JSON as text"), pa.string(), JSONS, '"\\u0000"', "nul"),
    "jsonb with half a character": Case(
        "jsonb", No("SQLite keeps JSON as text"), pa.string(), JSONS, '["\\ud800"]', "encoding|syntax"
    ),
    "jsonb of a number beyond numeric": Case(
        "jsonb", No("SQLite keeps JSON as text"), pa.string(), JSONS, "1e200000", "refused|range", Options(by="either")
    ),
    "json of a dict with NaN": Case("jsonb", "JSON", OBJECTS, [{"a": 1}, {}], {"a": math.nan}, "nan|type"),
    "json of a dict with NUL": Case(
        "jsonb", No("SQLite keeps any NUL"), OBJECTS, [{"a": "b"}, {}], {"a": "\0"}, "nul|type"
    ),
    "json of a list with NaN": Case(
        "jsonb",
        "JSON",
        LIST(pa.float64()),
        [[0.5], []],
        [math.nan],
        "nan",
        Options(stored=["[0.5]", "[]"], quoted=["'[0.5]'", "'[]'"]),
    ),
    # binary
    "bytes into text": Case("text", "TEXT", pa.binary(), [b"a"], b"\xff", "type", plan()),
    "text into bytea": Case(
        "bytea", "BLOB", pa.string(), ["\\x61"], "b", "syntax", Options(stored=["\\x61"], quoted=["X'61'"])
    ),
    # dates
    "date that does not exist": Case("date", "DATE", pa.string(), ["2024-02-29"], "2023-02-29", "syntax"),
    "date with the day first": Case("date", "DATE", pa.string(), ["2024-02-29"], "29.02.2024", "syntax"),
    "date with the month first": Case("date", "DATE", pa.string(), ["2024-02-29"], "02/03/2024", "syntax"),
    "date of an empty text": Case("date", "DATE", pa.string(), ["2024-02-29"], "", "syntax"),
    "date of a word that moves": Case("date", "DATE", pa.string(), ["2024-02-29"], "today", "syntax"),
    "date of a time of day": Case(
        "date",
        "DATE",
        pa.timestamp("us"),
        [datetime.datetime(2024, 2, 29)],
        MOMENT,
        "time",
        Options(stored=["2024-02-29"], quoted=["'2024-02-29'"]),
    ),
    "date of a nanosecond": Case(
        "date",
        "DATE",
        pa.timestamp("ns"),
        [0],
        1,
        "time|nanoseconds",
        Options(stored=["1970-01-01"], quoted=["'1970-01-01'"]),
    ),
    "date beyond PostgreSQL's": Case("date", SERVER_READS_IT, pa.date32(), [DAY, LEAP_DAY], 2_145_042_906, "range"),
    "date before PostgreSQL's": Case("date", SERVER_READS_IT, pa.date32(), [DAY, LEAP_DAY], -2_440_589, "range"),
    "date beyond SQLite's": Case(SERVER_KEEPS_IT, "DATE", pa.date32(), [DAY, LEAP_DAY], 2_932_897, "range"),
    "date before SQLite's": Case(SERVER_KEEPS_IT, "DATE", pa.date32(), [DAY, LEAP_DAY], -719_163, "range"),
    "time into date": Case("date", "DATE", pa.time64("us"), [CLOCK[0]], CLOCK[1], "type", plan()),
    "int into date": Case("date", "DATE", pa.int64(), [1], 20_240_229, "type", plan()),
    # timestamps
    "timestamp that does not exist": Case(
        "timestamp", "DATETIME", pa.string(), MOMENT_TEXTS, "2024-02-30 10:00:00", "syntax", Options(**OF_MOMENT_TEXTS)
    ),
    "timestamp of a word that moves": Case(
        "timestamp", "DATETIME", pa.string(), MOMENT_TEXTS, "tomorrow", "syntax", Options(**OF_MOMENT_TEXTS)
    ),
    "timestamp of infinity": Case(
        "timestamp", "TIMESTAMP", pa.string(), MOMENT_TEXTS, "infinity", "syntax", Options(**OF_MOMENT_TEXTS)
    ),
    "timestamp of 25 hours": Case(
        "timestamp", "DATETIME", pa.string(), MOMENT_TEXTS, "2024-02-29 25:00:00", "syntax", Options(**OF_MOMENT_TEXTS)
    ),
    "timestamp of text with nanoseconds": Case(
        "timestamp",
        "DATETIME",
        pa.string(),
        MOMENT_TEXTS,
        "2024-02-29 12:30:00.0000001",
        "nanoseconds",
        Options(**OF_MOMENT_TEXTS),
    ),
    "timestamp of nanoseconds": Case(
        "timestamp",
        "DATETIME",
        pa.timestamp("ns"),
        [0, 1000],
        1,
        "nanoseconds",
        Options(
            stored=["1970-01-01 00:00:00", "1970-01-01 00:00:00.000001"],
            quoted=["'1970-01-01 00:00:00.000000'", "'1970-01-01 00:00:00.000001'"],
        ),
    ),
    "timestamp of pandas' nanoseconds": Case(
        "timestamp",
        "DATETIME",
        OBJECTS,
        [pd.Timestamp(MOMENT)],
        pd.Timestamp("2024-02-29 12:30:00.000000001"),
        "nanoseconds",
    ),
    "timestamptz of nanoseconds": Case(
        "timestamptz",
        "DATETIME",
        pa.timestamp("ns", "UTC"),
        [0],
        -1,
        "nanoseconds",
        Options(stored=["1970-01-01 00:00:00+00"], quoted=["'1970-01-01 00:00:00.000000+00:00'"]),
    ),
    "timestamp of whole seconds of a fraction": Case(
        "timestamp(0)", NO_PRECISION, pa.timestamp("us"), [MOMENT, NOON], MOMENT.replace(microsecond=1), "nanoseconds"
    ),
    "timestamptz of milliseconds of a microsecond": Case(
        "timestamptz(3)", NO_PRECISION, pa.timestamp("us", "UTC"), AWARE, AWARE[0].replace(microsecond=1), "nanoseconds"
    ),
    "timestamp beyond PostgreSQL's": Case(
        "timestamp", "DATETIME", pa.timestamp("s"), [MOMENT, NOON], 9_224_318_016_000, "range"
    ),
    "timestamp before PostgreSQL's": Case(
        "timestamp", "DATETIME", pa.timestamp("us"), [MOMENT, NOON], -2_440_589 * 86_400_000_000, "range"
    ),
    "timestamp of seconds that overflow microseconds": Case(
        "timestamp", "DATETIME", pa.timestamp("s"), [MOMENT, NOON], 10**15, "range"
    ),
    "timestamptz beyond PostgreSQL's": Case(
        "timestamptz",
        "DATETIME",
        pa.timestamp("s", "UTC"),
        AWARE,
        9_224_318_016_000,
        "range",
        Options(quoted=QUOTED_AWARE),
    ),
    "timestamp beyond SQLite's": Case(
        SERVER_KEEPS_IT, "DATETIME", pa.timestamp("us"), [MOMENT, NOON], 253_402_300_800_000_000, "range"
    ),
    "timestamp before SQLite's": Case(
        SERVER_KEEPS_IT, "DATETIME", pa.timestamp("s"), [MOMENT, NOON], -62_135_596_801, "range"
    ),
    "date of text before PostgreSQL's": Case(
        "date", "DATE", pa.string(), ["2024-02-29"], "-4714-01-01", "range|syntax"
    ),
    # zones
    "naive into timestamptz": Case("timestamptz", NO_ZONES, pa.timestamp("us"), [MOMENT], NOON, "zone", plan()),
    "aware into timestamp": Case("timestamp", NO_ZONES, pa.timestamp("us", "UTC"), AWARE, AWARE[0], "zone", plan()),
    "text without an offset into timestamptz": Case(
        "timestamptz",
        NO_ZONES,
        pa.string(),
        ["2024-02-29T12:30:00+02:00"],
        "2024-02-29T12:30:00",
        "zone",
        Options(stored=["2024-02-29 10:30:00+00"]),
    ),
    "text with an offset into timestamp": Case(
        "timestamp",
        NO_ZONES,
        pa.string(),
        MOMENT_TEXTS,
        "2024-02-29T12:30:00+02:00",
        "zone",
        Options(**OF_MOMENT_TEXTS),
    ),
    "text with a Z into timestamp": Case(
        "timestamp", NO_ZONES, pa.string(), MOMENT_TEXTS, "2024-02-29 12:30:00Z", "zone", Options(**OF_MOMENT_TEXTS)
    ),
    "time that does not exist in Berlin": Case(
        "timestamptz",
        NO_ZONES,
        pa.timestamp("us"),
        [MOMENT, NOON],
        datetime.datetime(2024, 3, 31, 2, 30),
        "zone",
        Options(**OF_BERLIN),
    ),
    "time that occurs twice in Berlin": Case(
        "timestamptz",
        NO_ZONES,
        pa.timestamp("s"),
        [MOMENT, NOON],
        datetime.datetime(2024, 10, 27, 2, 30),
        "zone",
        Options(**OF_BERLIN),
    ),
    "text that does not exist in Berlin": Case(
        "timestamptz", NO_ZONES, pa.string(), MOMENT_TEXTS, "2024-03-31 02:00:00", "zone", Options(**OF_BERLIN)
    ),
    "text that occurs twice in Berlin": Case(
        "timestamptz", NO_ZONES, pa.string(), MOMENT_TEXTS, "2024-10-27 02:59:59", "zone", Options(**OF_BERLIN)
    ),
    "text that is no time in Berlin": Case(
        "timestamptz", NO_ZONES, pa.string(), MOMENT_TEXTS, "noon", "syntax", Options(**OF_BERLIN)
    ),
    "nanoseconds in Berlin": Case(
        "timestamptz",
        NO_ZONES,
        pa.timestamp("ns"),
        [0],
        1,
        "nanoseconds",
        Options(stored=["1969-12-31 23:00:00+00"], options=BERLIN),
    ),
    # times of day and spans
    "time of 24 hours and a half": Case(
        "time", "TIME", pa.string(), ["12:30:00"], "24:30:00", "syntax|range", Options(quoted=["'12:30:00.000000'"])
    ),
    "time of a word": Case(
        "time", "TIME", pa.string(), ["12:30:00"], "noon", "syntax", Options(quoted=["'12:30:00.000000'"])
    ),
    "time of text with nanoseconds": Case(
        "time",
        "TIME",
        pa.string(),
        ["12:30:00"],
        "12:30:00.0000001",
        "nanoseconds",
        Options(quoted=["'12:30:00.000000'"]),
    ),
    "time of nanoseconds": Case("time", "TIME", pa.time64("ns"), CLOCK, 1, "nanoseconds", Options(**OF_CLOCK)),
    "time of whole seconds of a fraction": Case(
        "time(0)", NO_PRECISION, pa.time64("us"), [CLOCK[0]], CLOCK[1], "nanoseconds"
    ),
    "interval of nanoseconds": Case(
        "interval", NO_SUCH_TYPE, pa.duration("ns"), [*SPANS], 1, "nanoseconds", Options(**OF_SPANS)
    ),
    "interval of milliseconds of a microsecond": Case(
        "interval(3)", NO_SUCH_TYPE, pa.duration("us"), SPANS[:1], SPANS[1], "nanoseconds", Options(stored=["01:00:00"])
    ),
    "interval of months and nanoseconds": Case(
        "interval",
        NO_SUCH_TYPE,
        pa.month_day_nano_interval(),
        [(1, 2, 3000)],
        (0, 0, 1),
        "nanoseconds",
        Options(stored=["1 mon 2 days 00:00:00.000003"]),
    ),
    "interval of text with nanoseconds": Case(
        "interval", NO_SUCH_TYPE, pa.string(), ["01:00:00"], "0.0000001 s", "nanoseconds"
    ),
    # objects of several kinds
    "word among ints": Case("integer", "INTEGER", OBJECTS, [1, 2, 3], "four", "type|syntax"),
    "dict among ints": Case("integer", "INTEGER", OBJECTS, [1, 2, 3], {"a": 1}, "type|syntax"),
    "bytes among texts": Case("text", "TEXT", OBJECTS, TEXTS, b"a", "type"),
    "text among bytes": Case("bytea", "BLOB", OBJECTS, [b"a", b"\xff"], "a", "syntax"),
    "long int among texts": Case("varchar(3)", NO_LIMIT, OBJECTS, TEXTS, 1234, "length|type"),
    "bool among dates": Case("date", "DATE", OBJECTS, [DAY, LEAP_DAY], True, "type"),
    "object among texts": Case("text", "TEXT", OBJECTS, TEXTS, object, "type"),
    "list among ints": Case("integer", "INTEGER", OBJECTS, [1, 2, 3], [4], "type"),
    "span among ints": Case("bigint", "INTEGER", OBJECTS, [1, 2, 3], datetime.timedelta(1), "type"),
    "date among ints": Case("bigint", "INTEGER", OBJECTS, [1, 2, 3], LEAP_DAY, "type"),
    "object among ints": Case("integer", "INTEGER", OBJECTS, [1, 2, 3], object, "type"),
    "complex among floats": Case("double precision", "REAL", OBJECTS, [0.5, 0.25], 1j, "type"),
    "word among floats": Case("double precision", "REAL", OBJECTS, [0.5, 0.25], "n/a", "type|syntax"),
    "word among decimals": Case(
        "numeric(12,4)", "NUMERIC(12,4)", OBJECTS, [Decimal(1), Decimal("-0.5")], "n/a", "type|syntax", Options(**MONEY)
    ),
    "word among dates": Case("date", "DATE", OBJECTS, [DAY, LEAP_DAY], "n/a", "type|syntax"),
    "int among dates": Case("date", "DATE", OBJECTS, [DAY, LEAP_DAY], 7, "type"),
    "float among dates": Case("date", "DATE", OBJECTS, [DAY, LEAP_DAY], 45_351.5, "type"),
    "zero among datetimes": Case("timestamp", "DATETIME", OBJECTS, [MOMENT, NOON], 0, "type"),
    "zero among pandas' times": Case("timestamp", "DATETIME", OBJECTS, [pd.Timestamp(MOMENT)], 0, "type"),
    "decimal among aware times": Case(
        "timestamptz", "DATETIME", OBJECTS, AWARE, Decimal(7), "type", Options(quoted=QUOTED_AWARE)
    ),
    "int among times of day": Case("time", "TIME", OBJECTS, CLOCK, 7, "type", Options(**OF_CLOCK)),
    "float among spans": Case("interval", NO_SUCH_TYPE, OBJECTS, SPANS, 0.5, "type", Options(**OF_SPANS)),
    "uuid among ints": Case("bigint", "INTEGER", OBJECTS, [1, 2, 3], uuid.UUID(int=5), "type"),
    "bool among floats": Case("double precision", "REAL", OBJECTS, [0.5, 0.25], True, "type"),
    "NumPy's uint64 among floats": Case(
        "double precision", "REAL", OBJECTS, [0.5, 0.25], np.uint64(2**64 - 1), "type|digits"
    ),
    "time of day among dates": Case("date", "DATE", OBJECTS, [DAY, LEAP_DAY], CLOCK[1], "type"),
    "datetime among dates": Case("date", "DATE", OBJECTS, [DAY, LEAP_DAY], MOMENT, "type|time"),
    "aware among naive": Case("timestamp", "DATETIME", OBJECTS, [MOMENT, NOON], AWARE[0], "type|zone"),
    "naive among aware": Case(
        "timestamptz", "DATETIME", OBJECTS, AWARE, MOMENT, "type|zone", Options(quoted=QUOTED_AWARE)
    ),
    "object among dicts": Case("jsonb", "JSON", OBJECTS, [{"a": 1}, {}], object, "type"),
    # arrays
    "array with an element too large": Case(
        "integer[]", NO_SUCH_TYPE, LIST(pa.int64()), [[1, 2], []], [1, 2**31], "range", Options(stored=["{1,2}", "{}"])
    ),
    "array of objects with an element too large": Case(
        "smallint[]", NO_SUCH_TYPE, OBJECTS, [[1, None], []], [2**15], "range", Options(stored=["{1,NULL}", "{}"])
    ),
    "array with a fraction": Case(
        "integer[]", NO_SUCH_TYPE, LIST(pa.float64()), [[1.0], []], [2.5], "fraction", Options(stored=["{1}", "{}"])
    ),
    "array with NaN among integers": Case(
        "bigint[]", NO_SUCH_TYPE, LIST(pa.float64()), [[1.0], []], [2.0, math.nan], "nan", Options(stored=["{1}", "{}"])
    ),
    "array with NUL": Case(
        "text[]",
        NO_SUCH_TYPE,
        LIST(pa.string()),
        [["a", "NULL", None]],
        ["a\0"],
        "nul",
        Options(stored=['{a,"NULL",NULL}']),
    ),
    "array with a long element": Case(
        "varchar(3)[]", NO_SUCH_TYPE, LIST(pa.string()), [["äöü"]], ["abcd"], "length", Options(stored=["{äöü}"])
    ),
    "array with more digits": Case(
        "numeric(5,2)[]", NO_SUCH_TYPE, LIST(pa.float64()), [[0.5]], [0.001], "digits", Options(stored=["{0.50}"])
    ),
    "array of dates with one that does not exist": Case(
        "date[]",
        NO_SUCH_TYPE,
        LIST(pa.string()),
        [["2024-02-29"]],
        ["2023-02-29"],
        "syntax",
        Options(stored=["{2024-02-29}"]),
    ),
    "array that is ragged": Case(
        "integer[]",
        NO_SUCH_TYPE,
        LIST(LIST(pa.int64())),
        [[[1, 2], [3, 4]]],
        [[1, 2], [3]],
        "refused|syntax|type",
        Options(by="either", stored=["{{1,2},{3,4}}"]),
    ),
    "array of objects that is ragged": Case(
        "integer[]",
        NO_SUCH_TYPE,
        OBJECTS,
        [[[1, 2], [3, 4]]],
        [[1, 2], [3]],
        "refused|syntax|type",
        Options(by="either", stored=["{{1,2},{3,4}}"]),
    ),
    "array of text that is not closed": Case(
        "integer[]", NO_SUCH_TYPE, pa.string(), ["{1,2}"], "{1,2", "refused|syntax", Options(by="either")
    ),
    "array of text with a word": Case(
        "integer[]", NO_SUCH_TYPE, pa.string(), ["{1,2}"], "{a}", "refused|syntax", Options(by="either")
    ),
    "int among lists": Case("integer[]", NO_SUCH_TYPE, OBJECTS, [[1], [2]], 3, "type", Options(stored=["{1}", "{2}"])),
    "list with a word among lists of ints": Case(
        "integer[]", NO_SUCH_TYPE, OBJECTS, [[1], [2]], ["x"], "type|syntax", Options(stored=["{1}", "{2}"])
    ),
    # texts that only PostgreSQL can read
    "inet": Case("inet", NO_SUCH_TYPE, pa.string(), ["10.0.0.1/8", "::1/128"], "300.1.1.1", "refused|syntax", server()),
    "cidr with bits of a host": Case(
        "cidr", NO_SUCH_TYPE, pa.string(), ["10.0.0.0/8"], "10.1.0.0/8", "refused|syntax", server()
    ),
    "macaddr": Case("macaddr", NO_SUCH_TYPE, pa.string(), ["08:00:2b:01:02:03"], "08:00", "refused|syntax", server()),
    "bit of another length": Case("bit(3)", NO_SUCH_TYPE, pa.string(), ["101"], "10", "refused|length", server()),
    "bit of another digit": Case("bit(3)", NO_SUCH_TYPE, pa.string(), ["101"], "102", "refused|syntax", server()),
    "varbit that is too long": Case("varbit(3)", NO_SUCH_TYPE, pa.string(), ["10"], "1010", "refused|length", server()),
    "range that ends before it begins": Case(
        "int4range", NO_SUCH_TYPE, pa.string(), ["[1,5)"], "[5,1)", "refused|syntax", server()
    ),
    "range of a word": Case("tsrange", NO_SUCH_TYPE, pa.string(), ["empty"], "[a,b)", "refused|syntax", server()),
    "tsvector": Case("tsvector", NO_SUCH_TYPE, pa.string(), ["'a' 'b'"], "'a", "refused|syntax", server()),
    "tsquery": Case("tsquery", NO_SUCH_TYPE, pa.string(), ["'a' & 'b'"], "a &", "refused|syntax", server()),
    "point": Case("point", NO_SUCH_TYPE, pa.string(), ["(1,2)"], "(1,", "refused|syntax", server()),
    "point of more digits": Case(
        "point", NO_SUCH_TYPE, pa.string(), ["(0.1,2)"], "(0.12345678901234567891,2)", "digits"
    ),
    "oid": Case("oid", NO_SUCH_TYPE, pa.string(), ["4294967295"], "4294967296", "refused|range", server()),
    "timetz": Case("timetz", NO_SUCH_TYPE, pa.string(), ["12:00:00+02"], "25:00+02", "refused|syntax", server()),
    "interval": Case("interval", NO_SUCH_TYPE, pa.string(), ["01:00:00"], "an age", "refused|syntax", server()),
    "jsonpath": Case("jsonpath", NO_SUCH_TYPE, pa.string(), ['$."a"'], "$.", "refused|syntax", server()),
    "text with NUL into inet": Case("inet", NO_SUCH_TYPE, pa.string(), ["10.0.0.1/8"], "::1\0", "nul"),
    "text that its index cannot hold": Case(
        "text",
        No("SQLite's indexes hold any length"),
        pa.string(),
        ["a", "b"],
        LONG,
        "refused",
        unnamed(after=("CREATE INDEX i ON t (v)",)),
    ),
    # NULL
    "NOT NULL": Case("integer NOT NULL", "INTEGER NOT NULL", pa.int64(), [1, 2], None, "null", Options(nulls=False)),
    "NOT NULL with a default": Case(
        "integer NOT NULL DEFAULT 7",
        "INTEGER NOT NULL DEFAULT 7",
        pa.int64(),
        [1, 2],
        None,
        "null",
        Options(nulls=False),
    ),
    "NOT NULL of pandas' NaN": Case(
        "double precision NOT NULL", "REAL NOT NULL", OBJECTS, [0.5, 0.25], math.nan, "null", Options(nulls=False)
    ),
    "NOT NULL of pandas' NaT": Case(
        "timestamp NOT NULL",
        "DATETIME NOT NULL",
        OBJECTS,
        [pd.Timestamp(MOMENT)],
        pd.NaT,
        "null",
        Options(nulls=False),
    ),
    "NOT NULL of text": Case(
        "text NOT NULL", "TEXT NOT NULL", pa.string(), ["", "a"], None, "null", Options(nulls=False)
    ),
    "NOT NULL of an array": Case(
        "integer[] NOT NULL",
        NO_SUCH_TYPE,
        LIST(pa.int64()),
        [[], [1]],
        None,
        "null",
        Options(nulls=False, stored=["{}", "{1}"]),
    ),
    "NULL in a primary key": Case(
        "integer PRIMARY KEY",
        "TEXT PRIMARY KEY NOT NULL",
        pa.string(),
        list("123456"),
        None,
        "null",
        Options(nulls=False),
    ),
    "domain that is NOT NULL": Case(
        "filled",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        None,
        "null",
        Options(nulls=False, setup=("CREATE DOMAIN filled AS integer NOT NULL",)),
    ),
    "CHECK that it is not NULL": Case(
        "integer CHECK (v IS NOT NULL)",
        "INTEGER CHECK (v IS NOT NULL)",
        pa.int64(),
        [1, 2],
        None,
        "check",
        unnamed(nulls=False),
    ),
    # constraints and triggers
    "domain's check": Case(
        "positive",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        -1,
        "check",
        unnamed(setup=("CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",)),
    ),
    "domain over a domain's check": Case(
        "few",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        11,
        "check",
        unnamed(
            setup=(
                "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
                "CREATE DOMAIN few AS positive CHECK (VALUE < 10)",
            )
        ),
    ),
    "domain over a length": Case(
        "word",
        NO_SUCH_TYPE,
        pa.string(),
        ["abc"],
        "abcd",
        "length",
        Options(setup=("CREATE DOMAIN word AS varchar(3)",)),
    ),
    "CHECK": Case("integer CHECK (v > 0)", "INTEGER CHECK (v > 0)", pa.int64(), [1, 2], -1, "check", unnamed()),
    "CHECK of two columns": Case(
        "integer", "INTEGER", pa.int64(), [1, 2], 100, "check", unnamed(also=", CHECK (v < id + 50)")
    ),
    "CHECK that calls a function": Case(
        "text CHECK (v = lower(v))", "TEXT CHECK (v = lower(v))", pa.string(), ["a", "b"], "C", "check", unnamed()
    ),
    "CHECK that divides by zero": Case(
        "integer CHECK (100 / v > 0)",
        No("SQLite's division by zero is NULL"),
        pa.int64(),
        [1, 2],
        0,
        "refused|check",
        unnamed(),
    ),
    "UNIQUE against the table": Case(
        "integer UNIQUE",
        "INTEGER UNIQUE",
        pa.int64(),
        list(range(1, 7)),
        77,
        "unique",
        server(after=("INSERT INTO t VALUES (-1, 77)",), asked="exists"),
    ),
    "UNIQUE inside a chunk": Case(
        "integer UNIQUE", "INTEGER UNIQUE", pa.int64(), [1, 2, 3, 4, 5, 6], 4, "unique", server(asked="duplicate")
    ),
    "UNIQUE across chunks": Case(
        "text UNIQUE", "TEXT UNIQUE", pa.string(), list("abcdef"), "a", "unique", server(asked="duplicate")
    ),
    "UNIQUE of char, where blanks do not count": Case(
        "char(3) UNIQUE",
        No("SQLite's blanks count"),
        pa.string(),
        [f"{c}  " for c in "abcdef"],
        "a",
        "unique",
        server(asked="duplicate", stored=list("abcdef")),
    ),
    "UNIQUE of numeric, where zeros do not count": Case(
        "numeric UNIQUE",
        "NUMERIC(12,4) UNIQUE",
        pa.string(),
        ["1.5", "2", "3", "4", "5", "6"],
        "1.50",
        "unique",
        server(asked="duplicate", quoted=["1.5", "2", "3", "4", "5", "6"]),
    ),
    "primary key against the table": Case(
        "integer PRIMARY KEY",
        "INTEGER PRIMARY KEY",
        pa.int64(),
        list(range(1, 7)),
        77,
        "unique",
        server(after=("INSERT INTO t VALUES (-1, 77)",), asked="exists", nulls=False),
    ),
    "primary key of text": Case(
        "text PRIMARY KEY",
        "TEXT PRIMARY KEY NOT NULL",
        pa.string(),
        list("abcdef"),
        "c",
        "unique",
        server(asked="duplicate", nulls=False),
    ),
    "primary key of uuids in two spellings": Case(
        "uuid PRIMARY KEY",
        No("SQLite keeps one spelling"),
        pa.string(),
        [f"{row}2345678-1234-5678-1234-567812345678" for row in range(6)],
        "{12345678123456781234567812345678}",
        "unique",
        server(asked="duplicate", nulls=False),
    ),
    "key of two columns": Case(
        "integer",
        "INTEGER",
        pa.int64(),
        [1, 2],
        9,
        "unique",
        server(
            after=(f"INSERT INTO t VALUES ({10 * BAD}, 9)",), also=", UNIQUE (id, v)", asked="exists", blames=("id, v",)
        ),
    ),
    "unique index": Case(
        "text",
        "TEXT",
        pa.string(),
        list("abcdef"),
        "b",
        "unique",
        server(after=("CREATE UNIQUE INDEX one ON t (v)",), asked="duplicate"),
    ),
    "unique index of an expression": Case(
        "text",
        "TEXT",
        pa.string(),
        list("abcdef"),
        "B",
        "unique",
        unnamed(after=("CREATE UNIQUE INDEX one ON t (lower(v))",)),
    ),
    "unique index of some rows": Case(
        "integer",
        "INTEGER",
        pa.int64(),
        [0, 0, 1, 0, 0, 0],
        1,
        "unique",
        unnamed(after=("CREATE UNIQUE INDEX one ON t (v) WHERE v > 0",), nulls=False),
    ),
    "unique key in which NULLs are equal": Case(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [None, 1, 2, 3, 4, 5],
        None,
        "unique",
        server(also=", UNIQUE NULLS NOT DISTINCT (v)", nulls=False),
    ),
    "partition that does not exist": Case(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        77,
        "check|refused",
        unnamed(
            nulls=False,
            after=(
                "DROP TABLE t",
                "CREATE TABLE t (id integer, v integer) PARTITION BY RANGE (v)",
                "CREATE TABLE part PARTITION OF t FOR VALUES FROM (0) TO (10)",
            ),
        ),
    ),
    "foreign key": Case(
        "integer REFERENCES p",
        "INTEGER REFERENCES p",
        pa.int64(),
        [1, 2, 3],
        4,
        "foreign_key",
        unnamed(setup=PARENTS, asked="foreign_key"),
    ),
    "foreign key from text": Case(
        "integer REFERENCES p (a)",
        "INTEGER REFERENCES p (a)",
        pa.string(),
        ["1", "2", "3"],
        "04",
        "foreign_key",
        unnamed(setup=PARENTS, asked="foreign_key", quoted=["1", "2", "3"]),
    ),
    "foreign key of two columns": Case(
        "integer",
        "INTEGER",
        pa.int64(),
        [0, 1, 2, 3, 5, 6],
        4,
        "foreign_key",
        Options(
            by="server",
            setup=PAIRS,
            also=", FOREIGN KEY (id, v) REFERENCES p (a, b)",
            asked="foreign_key",
            blames=("id, v", None),
            nulls=False,
        ),
    ),
    "trigger that raises": Case(
        "integer", NO_SUCH_TYPE, pa.int64(), [1, 2], 13, "refused", unnamed(setup=(raising(""),), after=(MAKE_TRIGGER,))
    ),
    "trigger that raises with a code of its own": Case(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        13,
        "refused",
        unnamed(setup=(raising("USING ERRCODE = 'SHOP1'"),), after=(MAKE_TRIGGER,)),
    ),
    "trigger that raises as a check would": Case(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        13,
        "check|refused",
        unnamed(setup=(raising("USING ERRCODE = 'check_violation'"),), after=(MAKE_TRIGGER,)),
    ),
    "trigger that raises after the row": Case(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        13,
        "refused",
        unnamed(setup=(raising(""),), after=(MAKE_TRIGGER.replace("BEFORE", "AFTER"),)),
    ),
    "SQLite's trigger that aborts": Case(
        NO_SUCH_TYPE,
        "INTEGER",
        pa.int64(),
        [1, 2],
        13,
        "refused",
        unnamed(
            after=(
                "CREATE TRIGGER r BEFORE INSERT ON t WHEN NEW.v = 13 BEGIN SELECT RAISE(ABORT, '<b>thirteen</b>'); END",
            )
        ),
    ),
    "SQLite's trigger that fails": Case(
        NO_SUCH_TYPE,
        "INTEGER",
        pa.int64(),
        [1, 2],
        13,
        "refused",
        unnamed(
            after=("CREATE TRIGGER r AFTER INSERT ON t WHEN NEW.v = 13 BEGIN SELECT RAISE(FAIL, 'thirteen'); END",)
        ),
    ),
    "exclusion constraint": Case(
        "int4range",
        NO_SUCH_TYPE,
        pa.string(),
        [f"[{row},{row + 1})" for row in range(6)],
        "[3,4)",
        "refused|unique",
        unnamed(also=", EXCLUDE USING gist (v WITH &&)"),
    ),
    "view's check": Case(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        -1,
        "refused|check",
        unnamed(
            copy=No("COPY cannot write to a view"),
            nulls=False,
            after=("ALTER TABLE t RENAME TO base", "CREATE VIEW t AS SELECT * FROM base WHERE v > 0 WITH CHECK OPTION"),
        ),
    ),
    "generated column": Case(
        "integer GENERATED ALWAYS AS (id + 1) STORED", "INTEGER AS (id + 1) STORED", pa.int64(), [1], 2, "type", plan()
    ),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A database and the way into it."""

    engine: AsyncEngine
    path: str

    async def make(self, case: Case) -> None:
        column = case.on(self.path)
        table = f"CREATE TABLE t (id integer, v {column}{case.more.also})"
        await execute(self.engine, *case.more.setup, table, *case.more.after)

    async def load(self, data: Any, **options: Any) -> dl.LoadReport:
        method = "insert" if self.path == "sqlite" else self.path
        report = await dl.load_dataframe(data, "t", engine=self.engine, method=method, chunk_rows=3, **options)
        assert report.method == method
        return report

    async def validate(self, data: Any, **options: Any) -> dl.ValidationReport:
        return await dl.validate(data, "t", engine=self.engine, chunk_rows=3, **options)

    async def rows(self) -> list[tuple[Any, ...]]:
        """The table as the database writes it."""
        if self.path == "sqlite":
            return await fetch(self.engine, "SELECT id, quote(v) FROM t ORDER BY id")
        async with self.engine.connect() as connection:
            await connection.execute(sa.text("SET LOCAL TIME ZONE 'UTC'"))
            found = await connection.execute(sa.text("SELECT id, CAST(v AS text) FROM t ORDER BY id"))
            return [tuple(row) for row in found]


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    engine: AsyncEngine = request.getfixturevalue("sqlite" if request.param == "sqlite" else "postgres")
    if request.param == "sqlite":
        sa.event.listen(engine.sync_engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys = ON"))
    return Place(engine, request.param)


PARAMS = [
    pytest.param(path, case, id=f"{name}-{path}")
    for name, case in CASES.items()
    for path in PATHS
    if not isinstance(case.on(path), No)
]
DATABASES = [param for param in PARAMS if param.values[0] != "copy"]
REFUSED, REJECTED = (PARAMS, PARAMS) if FULL else (PARAMS[::2], PARAMS[1::2])


def assert_is_named(error: dl.DataLoaderError, case: Case) -> None:
    """A refused load says which row and column it is about; the server does not always know the column."""
    if isinstance(error, dl.ValidationError):
        assert case.more.by in {"value", "either"}
        assert (error.row, error.column) == (BAD, "v")
        assert error.reason in case.reasons
        assert [(one.row, one.column) for one in error.violations] == [(BAD, "v")]
        assert error.counts == {("v", error.reason): 1}
        assert f"row {BAD}, column 'v'" in str(error)
        return
    assert isinstance(error, dl.WriteError)
    assert case.more.by in {"server", "either"}
    assert error.row == BAD
    assert error.column in {*case.more.blames, None}
    assert f"row {BAD}" in str(error)


@pytest.mark.parametrize(("place", "case"), REFUSED, indirect=["place"])
async def test_by_default_the_bad_row_is_named_and_nothing_is_written(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    with pytest.raises(dl.DataLoaderError) as caught:
        await place.load(case.data(), **case.more.options)
    assert await place.rows() == before
    if case.more.by == "plan":
        assert isinstance(caught.value, dl.PlanError)
        assert "'v'" in str(caught.value)
        return
    assert_is_named(caught.value, case)
    assert (await place.load(case.data(with_bad=False), **case.more.options)).loaded == ROWS - 1
    assert sorted(await place.rows()) == sorted(before + case.shown(place.path))


@pytest.mark.parametrize(("place", "case"), REJECTED, indirect=["place"])
async def test_the_bad_row_is_kept_aside_and_the_good_ones_are_loaded(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    if case.more.by == "plan":
        with pytest.raises(dl.PlanError, match="'v'"):
            await place.load(case.data(), on_invalid="reject", **case.more.options)
        assert await place.rows() == before
        return
    report = await place.load(case.data(), on_invalid="reject", **case.more.options)
    assert sorted(await place.rows()) == sorted(before + case.shown(place.path))
    assert (report.read, report.loaded, report.rejected, report.skipped) == (ROWS, ROWS - 1, 1, 0)
    rejects = report.rejects
    assert rejects.index.tolist() == [BAD]
    assert rejects.columns.tolist() == ["id", "v", "reject_row", "reject_column", "reject_reason", "reject_problem"]
    assert (rejects["id"].tolist(), rejects["reject_row"].tolist()) == ([10 * BAD], [BAD])
    column, reason, problem = (rejects[f"reject_{name}"].iloc[0] for name in ("column", "reason", "problem"))
    assert (None if pd.isna(column) else column) in case.blamed(place.path)
    assert reason in case.reasons
    assert problem
    assert_is_original(rejects["v"], case)
    assert f"{10 * BAD}" in str(rejects)


def assert_is_original(rejected: pd.Series[Any], case: Case) -> None:
    """The rejected value is the one that came; one of another kind than its column may be shown as text."""
    if case.values is not OBJECTS:
        returned, given = pa.array(rejected), decoded(made([case.bad], case.values))
        if pa.types.is_temporal(given.type) and pa.types.is_string(returned.type):
            assert case.reason == "range"  # Python has no such date, so it is shown as text
            return
        assert decoded(returned).type == given.type
        assert decoded(returned).to_string() == given.to_string()
    elif case.bad is None or pd.api.types.is_scalar(case.bad):
        assert pd.isna(rejected.iloc[0]) == pd.isna(case.bad)
        assert str(rejected.iloc[0]) in {str(case.bad), printable(case.bad)} or pd.isna(case.bad)
    else:
        value = rejected.iloc[0]
        assert value == case.bad or value in {str(case.bad), repr(case.bad)} or json.loads(value) == case.bad


def printable(value: object) -> str:
    """A value as text that can be encoded."""
    text = value if isinstance(value, str) else repr(value)
    return text.encode(errors="backslashreplace").decode()


def decoded(values: pa.Array) -> pa.Array:
    """Without a dictionary or views, which pandas does not show."""
    if pa.types.is_dictionary(values.type):
        return values.cast(values.type.value_type)
    return values.cast(pa.string()) if pa.types.is_string_view(values.type) else values


@pytest.mark.parametrize(("place", "case"), DATABASES, indirect=["place"])
async def test_validate_finds_the_bad_row_and_writes_nothing(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    if case.more.by == "plan":
        with pytest.raises(dl.PlanError, match="'v'"):
            await place.validate(case.data(), **case.more.options)
        assert await place.rows() == before
        return
    report = await place.validate(case.data(), **case.more.options)
    assert await place.rows() == before
    assert report.read == ROWS
    assert len(report.frame) == len(report.violations)
    assert str(report)
    found = [(one.row, one.column) for one in report.violations]
    assert found in {"value": [[(BAD, "v")]], "server": [[]], "either": [[(BAD, "v")], []]}[case.more.by]
    assert {one.reason for one in report.violations} <= set(case.reasons)
    assert report.ok == (not found)
    assert (await place.validate(case.data(with_bad=False), **case.more.options)).ok


ASKED = [param for param in DATABASES if param.values[1].more.asked is not None]


@pytest.mark.parametrize(("place", "case"), ASKED, indirect=["place"])
async def test_validate_finds_a_bad_key_when_it_is_asked_to_look(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    report = await place.validate(case.data(), unique=True, foreign_keys=True, **case.more.options)
    assert [(one.row, one.reason) for one in report.violations] == [(BAD, case.more.asked)]
    assert report.violations[0].column in case.more.blames
    assert await place.rows() == before
    good = await place.validate(case.data(with_bad=False), unique=True, foreign_keys=True, **case.more.options)
    assert good.ok


@pytest.mark.parametrize("path", PATHS)
def test_the_catalogue_has_sixty_cases_on_each_path(path: str) -> None:
    assert sum(not isinstance(case.on(path), No) for case in CASES.values()) >= 60
