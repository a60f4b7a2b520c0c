"""The one catalogue of values: what a column of a database and of Arrow holds, and which values of it are bad, and why.

It is iterated by the unit tests, which only convert, and by the database tests, which load.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

OBJECTS = None
"""In place of an Arrow type: the values come as Python objects in a DataFrame."""


@dataclass(frozen=True, slots=True)
class No:
    """A database or path to which a column does not apply."""

    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column's DDL on both databases, how its values come, and good ones.

    Attributes
    ----------
    by : str
        Who refuses a bad value: ``value`` (we do, before anything is sent), ``server``, ``either``, or ``plan``
        (nothing of the column fits).
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

    postgres: str | No
    sqlite: str | No
    kind: pa.DataType | None
    good: list[Any]
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

    def on(self, path: str) -> str | No:
        """The column's DDL by ``copy``, ``insert`` or ``sqlite``."""
        if path == "copy" and self.copy is not None:
            return self.copy
        return self.sqlite if path == "sqlite" else self.postgres

    def is_converted(self, dialect: str) -> bool:
        """Whether our conversion alone refuses its bad values, so that no database is needed."""
        return (
            self.by == "value"
            and self.kind is not OBJECTS
            and isinstance(self.on(dialect), str)
            and self.setup in ((), MOOD)
        )

    def array(self, values: list[Any]) -> pa.Array:
        """The values as they come; objects are not an array yet."""
        if isinstance(self.kind, pa.DictionaryType):
            return pa.array(values, self.kind.value_type).dictionary_encode()
        return pa.array(values, self.kind)

    def shown(self, path: str) -> list[str]:
        """The good values as the database shows them."""
        given = self.quoted if path == "sqlite" else self.stored
        show = quoted_by_sqlite if path == "sqlite" else shown_by_postgres
        return given or [show(value) for value in self.good if value is not None]


Bad = dict[str, tuple[Any, str]]
"""By a name: a value that does not fit, and the reason, or several with | between them."""


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
LIST = pa.list_
LONG = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(200))
"""12,800 characters that do not compress: an index takes a third of a page."""
UNNAMED: dict[str, Any] = {"by": "server", "blames": ("v", None)}
"""A row that only the server refuses, for a reason that is no column's."""

BAD_VALUES: dict[Column, Bad] = {
    # integers
    Column("smallint", ONLY_64_BITS, pa.int64(), SMALL): {
        "int2 above its range": (2**15, "range"),
        "int2 far above its range": (40_000, "range"),
    },
    Column("smallint", ONLY_64_BITS, pa.int32(), SMALL): {"int2 below its range": (-(2**15) - 1, "range")},
    Column("integer", ONLY_64_BITS, pa.int64(), MIDDLE): {
        "int4 above its range": (2**31, "range"),
        "int4 below its range": (-(2**31) - 1, "range"),
    },
    Column("integer", ONLY_64_BITS, pa.uint32(), [0, 2**31 - 1]): {"int4 of uint32": (2**32 - 1, "range")},
    Column("bigint", "BIGINT", pa.uint64(), [0, 2**63 - 1]): {"int8 of uint64": (2**63, "range")},
    Column("smallint", ONLY_64_BITS, pa.uint64(), [0, 2**15 - 1]): {"int2 of uint64": (2**64 - 1, "range")},
    Column("bigint", "INTEGER", OBJECTS, BIG): {
        "int8 of a huge Python int": (2**70, "range"),
        "int8 of a Python int just below": (-(2**63) - 1, "range"),
    },
    Column("smallint", ONLY_64_BITS, pa.string(), NUMBER_TEXTS): {
        "int2 of text above its range": ("32768", "range"),
        "int2 of text far above its range": ("40000", "range"),
    },
    Column("integer", ONLY_64_BITS, pa.string(), NUMBER_TEXTS): {
        "int4 of text above its range": ("2147483648", "range")
    },
    Column("bigint", "INTEGER", pa.string(), NUMBER_TEXTS, **NUMBERS_OF_TEXT): {
        "int8 of text above its range": (str(2**63), "range")
    },
    Column("bigint", "INTEGER", pa.large_string(), NUMBER_TEXTS, **NUMBERS_OF_TEXT): {
        "int8 of text far below its range": (f"-{'9' * 60}", "range")
    },
    Column("integer", ONLY_64_BITS, pa.decimal128(12, 0), [Decimal(1)]): {
        "int4 of a whole decimal above its range": (Decimal(2**31), "range")
    },
    Column("integer", ONLY_64_BITS, pa.decimal128(20, 2), [Decimal("7.00")], stored=["7"]): {
        "int4 of a decimal above its range": (Decimal(2**31), "range")
    },
    Column("bigint", "INTEGER", pa.decimal128(38, 0), [Decimal(2**63 - 1)], quoted=[str(2**63 - 1)]): {
        "int8 of a decimal above its range": (Decimal(2**63), "range")
    },
    Column("bigint", "INTEGER", pa.decimal256(60, 2), [Decimal(7)], stored=["7"], quoted=["7"]): {
        "int8 of a decimal of fifty digits": (Decimal(10**50), "range")
    },
    Column("smallint", ONLY_64_BITS, pa.float64(), [1.0, 32_767.0]): {
        "int2 of a float above its range": (4e4, "range")
    },
    Column("integer", ONLY_64_BITS, pa.float64(), [1.0, -7.0]): {
        "int4 of a float above its range": (2.0**31, "range"),
        "int4 of a float far above its range": (1e10, "range"),
    },
    Column("integer", ONLY_64_BITS, pa.float32(), [1.0, -7.0]): {
        "int4 of a small float above its range": (3e9, "range")
    },
    Column("bigint", "INTEGER", pa.float64(), [1.0, -7.0], quoted=["1", "-7"]): {
        "int8 of a float above its range": (2.0**63, "range"),
        "int8 of a huge float": (-1e300, "range"),
        "int8 of a float of twenty digits": (1e19, "range"),
        "int8 of infinity": (math.inf, "nan"),
    },
    Column("integer", "INTEGER", pa.float64(), [1.0, -7.0], quoted=["1", "-7"]): {
        "int of a fraction": (3.7, "fraction"),
        "int of one and a half": (1.5, "fraction"),
        "int of NaN": (math.nan, "nan"),
        "int of infinity": (math.inf, "nan|range"),
    },
    Column("bigint", "INT", pa.float64(), [1.0, -7.0], quoted=["1", "-7"]): {
        "int of a tiny fraction": (5e-324, "fraction")
    },
    Column("smallint", "SMALLINT", pa.float32(), [1.0, -7.0], quoted=["1", "-7"]): {
        "int of half a small float": (0.5, "fraction")
    },
    Column("integer", "INTEGER", pa.float16(), [np.float16(3)], stored=["3"], quoted=["3"]): {
        "int of a fraction as half float": (np.float16(3.5), "fraction")
    },
    Column("integer", "INTEGER", pa.decimal128(5, 1), [Decimal("3.0")], stored=["3"], quoted=["3"]): {
        "int of a fraction as decimal of one place": (Decimal("3.7"), "fraction")
    },
    Column("integer", "INTEGER", pa.large_string(), NUMBER_TEXTS, **NUMBERS_OF_TEXT): {
        "int of a fraction as large string": ("3.7", "fraction")
    },
    Column("integer", "INTEGER", pa.decimal128(9, 2), [Decimal("7.00")], stored=["7"], quoted=["7"]): {
        "int of a fraction as decimal": (Decimal("3.70"), "fraction")
    },
    Column("integer", "INTEGER", pa.string(), NUMBER_TEXTS, **NUMBERS_OF_TEXT): {
        "int of a fraction as text": ("3.7", "fraction"),
        "int of text with an exponent": ("1e3", "syntax|fraction"),
        "int of the text NaN": ("NaN", "nan|syntax"),
        "int of a word": ("abc", "syntax"),
        "int of another word": ("many", "syntax"),
        "int of an empty text": ("", "syntax"),
        "int of text with a comma": ("1,000", "syntax"),
        "int of text with an underscore": ("1_000", "syntax"),
        "int of other digits": ("٣", "syntax"),
    },
    Column("bigint", "BIGINT", pa.float32(), [1.0, -7.0], quoted=["1", "-7"]): {
        "int8 of minus infinity": (-math.inf, "nan|range")
    },
    Column("integer", "INTEGER", pa.decimal128(2, 1), [Decimal("7.0")], stored=["7"], quoted=["7"]): {
        "int of a fraction as short decimal": (Decimal("3.7"), "fraction")
    },
    # booleans
    Column("boolean", "BOOLEAN", pa.int64(), [1, 0], stored=["true", "false"], quoted=["1", "0"]): {
        "bool of 2": (2, "range"),
        "bool of -1": (-1, "range"),
    },
    Column("boolean", "BOOLEAN", pa.int8(), [1, 0], stored=["true", "false"], quoted=["1", "0"]): {
        "bool of a short 2": (2, "range")
    },
    Column("boolean", "BOOLEAN", pa.string(), ["true", "false"], quoted=["1", "0"]): {
        "bool of a word": ("maybe", "syntax"),
        "bool of the text 2": ("2", "syntax|range"),
    },
    # floats
    Column("real", ONLY_FLOAT8, pa.float64(), [0.5, -1.25]): {
        "float4 of a float of more digits": (0.1, "digits"),
        "float4 of a float above its range": (1e300, "range"),
    },
    Column("real", ONLY_FLOAT8, pa.float64(), [0.5, 0.0]): {
        "float4 of a float below its range": (1e-300, "digits|range")
    },
    Column("real", ONLY_FLOAT8, pa.int64(), [1, 2]): {"float4 of a big int": (2**24 + 1, "digits")},
    Column("real", ONLY_FLOAT8, pa.decimal128(12, 2), [Decimal("0.50")], stored=["0.5"]): {
        "float4 of a decimal of more digits": (Decimal("16777217.01"), "digits")
    },
    Column("real", ONLY_FLOAT8, pa.string(), ["0.1", "0.5"]): {
        "float4 of text of more digits": ("0.123456789012", "digits"),
        "float4 of text above its range": ("1e39", "range"),
        "float4 of text of a big int": ("16777217", "digits"),
    },
    Column("double precision", "REAL", pa.int64(), [1, 2], quoted=["1.0", "2.0"]): {
        "float8 of a big int": (2**53 + 1, "digits")
    },
    Column("double precision", "DOUBLE", pa.uint64(), [1, 2], quoted=["1.0", "2.0"]): {
        "float8 of a big uint64": (2**64 - 1, "digits")
    },
    Column("double precision", "REAL", pa.decimal128(21, 20), [Decimal("0.5")], stored=["0.5"], quoted=["0.5"]): {
        "float8 of a long decimal": (Decimal("0.12345678901234567891"), "digits"),
        "float8 of a decimal that ends in 0": (Decimal("0.12345678901234567890"), "digits"),
    },
    Column("double precision", "REAL", pa.string(), ["0.1", "0.5"], quoted=["0.1", "0.5"]): {
        "float8 of long text": ("0.12345678901234567891", "digits"),
        "float8 of text above its range": ("-1e400", "range"),
        "float8 of text beyond the largest": ("1e400", "range"),
        "float8 of text below the smallest": ("1e-400", "digits"),
        "float8 of text of a big int": ("9007199254740993", "digits"),
        "float8 of a word": ("abc", "syntax"),
        "float8 of text with a comma and 5": ("1,5", "syntax"),
    },
    Column("double precision", "FLOAT", pa.string(), ["0.1", "0.5"], quoted=["0.1", "0.5"]): {
        "float8 of text with a comma": ("0,5", "syntax")
    },
    Column(SERVER_KEEPS_NAN, "REAL", pa.float64(), [0.1, 0.5]): {"float8 of NaN": (math.nan, "nan")},
    Column("real", ONLY_FLOAT8, pa.decimal128(1, 1), [Decimal("0.5")]): {
        "float4 of a decimal tenth": (Decimal("0.1"), "digits")
    },
    Column("double precision", "REAL", pa.decimal128(18, 9), [Decimal("0.5")], stored=["0.5"], quoted=["0.5"]): {
        "float8 of a decimal of 18 digits": (Decimal("123456789.123456789"), "digits")
    },
    Column("double precision", "REAL", pa.decimal128(16, 0), [Decimal(1)], stored=["1"], quoted=["1.0"]): {
        "float8 of a big decimal": (Decimal(2**53 + 1), "digits")
    },
    # numeric
    Column("numeric(12,4)", "NUMERIC(12,4)", pa.float64(), [1.0, -0.5], **MONEY): {
        "numeric of a float of more digits": (0.00001, "digits"),
        "numeric of a float of five digits": (0.12345, "digits"),
        "numeric of a float that only looks short": (0.1 + 0.2, "digits"),
        "numeric of NaN": (math.nan, "nan"),
        "numeric of infinity": (-math.inf, "nan"),
        "numeric of plus infinity": (math.inf, "nan"),
        "numeric of a float of nine digits before the point": (123456789.0, "range"),
        "numeric of a huge float": (1e300, "range"),
    },
    Column(
        "numeric(12,4)",
        "NUMERIC(12,4)",
        pa.int64(),
        [1, 99_999_999],
        stored=["1.0000", "99999999.0000"],
        quoted=["1", "99999999"],
    ): {
        "numeric of an int above its range": (10**8, "range"),
        "numeric of an int of nine digits": (123456789, "range"),
    },
    Column("numeric(12,4)", "NUMERIC(12,4)", pa.decimal128(20, 6), [Decimal(1), Decimal("-0.5")], **MONEY): {
        "numeric of a decimal of more digits": (Decimal("1.000001"), "digits"),
        "numeric of a decimal above its range": (Decimal(-(10**8)), "range"),
    },
    Column(
        "numeric(38,20)",
        No("SQLite's NUMERIC keeps 15 digits"),
        pa.decimal128(38, 0),
        [Decimal(1)],
        stored=[f"1.{'0' * 20}"],
    ): {"numeric of a decimal that overflows when it is rescaled": (Decimal(17 * 10**36), "range")},
    Column("numeric(12,4)", "NUMERIC(12,4)", pa.string(), ["1", "-0.50"], **MONEY): {
        "numeric of text of more digits": ("1.00005", "digits"),
        "numeric of text of five digits": ("0.12345", "digits"),
        "numeric of text of five digits by its exponent": ("1e-5", "digits"),
        "numeric of the text of NaN": ("NaN", "nan"),
        "numeric of text with a comma": ("1,5", "syntax"),
        "numeric of text above its range": ("123456789", "range"),
        "numeric of text that is no number": ("1.2.3", "syntax"),
        "numeric of text with a tiny exponent": ("1e-30", "digits"),
        "numeric of text with a huge exponent": ("1e30", "range"),
        "numeric of the text NaN": ("nan", "nan|syntax"),
    },
    Column("numeric(12,4)", "DECIMAL(12,4)", pa.string(), ["1", "-0.50"], **MONEY): {
        "numeric of text with a currency": ("$5", "syntax")
    },
    Column("numeric(5)", "NUMERIC(5)", pa.float64(), [1.0, -7.0], quoted=["1", "-7"]): {
        "numeric without places of half": (1.5, "digits|fraction")
    },
    Column("numeric(19,0)", "NUMERIC(15,0)", pa.uint64(), [1, 7]): {"numeric of uint64": (2**64 - 1, "range")},
    Column("numeric(50,10)", NO_PRECISION, pa.decimal256(60, 10), [Decimal("1.5")], stored=["1.5000000000"]): {
        "numeric of fifty digits above its range": (Decimal(10**45), "range")
    },
    Column("numeric(50,10)", NO_PRECISION, pa.string(), ["1.5"], stored=["1.5000000000"]): {
        "numeric of fifty digits of text above its range": ("9" * 41, "range")
    },
    Column(
        "numeric",
        No("SQLite's NUMERIC takes no text"),
        pa.string(),
        ["1.50", "1e3"],
        by="either",
        stored=["1.50", "1000"],
    ): {"numeric without limits of a word": ("abc", "syntax|refused")},
    Column(SERVER_KEEPS_IT, "NUMERIC", pa.decimal128(20, 10), [Decimal("0.5")], quoted=["0.5"]): {
        "number of twenty digits": (Decimal("1234567890.0123456789"), "digits|range")
    },
    Column(SERVER_KEEPS_IT, "NUMERIC", pa.uint64(), [1, 2**63 - 1]): {"number of uint64": (2**63, "range|digits")},
    Column(SERVER_KEEPS_NAN, "NUMERIC", pa.float64(), [0.5, -1.25]): {"number of NaN": (math.nan, "nan")},
    Column(
        "numeric(12,4)", "NUMERIC(12,4)", pa.decimal128(20, 2), [Decimal("1.50")], stored=["1.5000"], quoted=["1.5"]
    ): {"numeric of a decimal of nine digits before the point": (Decimal("123456789.00"), "range")},
    Column(
        "numeric(12,4)",
        "NUMERIC(12,4)",
        pa.decimal128(9, 5),
        [Decimal("0.12340")],
        stored=["0.1234"],
        quoted=["0.1234"],
    ): {"numeric of a decimal whose last digit is not 0": (Decimal("0.12345"), "digits")},
    Column("money", NO_SUCH_TYPE, pa.decimal128(25, 2), [Decimal("1.00")], stored=["$1.00"]): {
        "money above its range by far": (Decimal(10**17), "range")
    },
    Column(
        "numeric(12,4)", "NUMERIC(12,4)", pa.decimal128(5, 5), [Decimal("0.5")], stored=["0.5000"], quoted=["0.5"]
    ): {"numeric of a decimal of five digits": (Decimal("0.12345"), "digits")},
    # money
    Column("money", NO_SUCH_TYPE, pa.decimal128(20, 2), [Decimal("1.50")], stored=["$1.50"]): {
        "money above its range": (Decimal("92233720368547758.08"), "range"),
        "money below its range": (Decimal("-92233720368547758.09"), "range"),
    },
    Column("money", NO_SUCH_TYPE, pa.float64(), [1.5], stored=["$1.50"]): {
        "money of a tenth of a cent": (0.001, "digits")
    },
    Column("money", NO_SUCH_TYPE, pa.string(), ["1.50"], stored=["$1.50"]): {"money of a word": ("much", "syntax")},
    # text
    Column("text", NO_LIMIT, pa.string(), TEXTS): {"text with NUL": ("a\0b", "nul")},
    Column("text", NO_LIMIT, pa.large_string(), TEXTS): {"text that is NUL": ("\0", "nul")},
    Column("text", NO_LIMIT, pa.dictionary(pa.int8(), pa.string()), TEXTS): {
        "text with NUL in a dictionary": ("\0", "nul")
    },
    Column("varchar(10)", NO_LIMIT, pa.string(), TEXTS): {"varchar with NUL": ("a\0b", "nul")},
    Column("char(1)", NO_LIMIT, pa.string(), TEXTS): {"char with NUL": ("\0", "nul")},
    Column("varchar(3)", NO_LIMIT, pa.string(), ["abc", ""]): {"varchar that is too long": ("abcd", "length")},
    Column("varchar(3)", NO_LIMIT, pa.string(), ["äöü"]): {
        "varchar of too many characters of two bytes": ("äöüß", "length")
    },
    Column("varchar(3)", NO_LIMIT, OBJECTS, ["😀😀😀", "漢字"]): {
        "varchar of too many characters of four bytes": ("😀😀😀😀", "length")
    },
    Column("varchar(3)", NO_LIMIT, pa.string_view(), ["e\u0301e"]): {
        "varchar of combining characters": ("e\u0301e\u0301", "length")
    },
    Column("varchar(3)", NO_LIMIT, pa.string(), ["abc", "a  "]): {
        "varchar with a blank too many, which PostgreSQL would cut": ("abc ", "length")
    },
    Column("char(3)", NO_LIMIT, pa.string(), ["abc", "😀😀😀"]): {"char that is too long": ("😀😀😀😀", "length")},
    Column("char(3)", NO_LIMIT, pa.string(), ["abc"]): {
        "char with a blank too many": ("abc ", "length"),
        "char of four letters": ("abcd", "length"),
    },
    Column("char(3)", NO_LIMIT, pa.int64(), [123]): {"char of a number with a sign": (-123, "length")},
    Column("varchar(3)", NO_LIMIT, pa.int64(), [1, 999]): {
        "varchar of a long number": (1000, "length"),
        "varchar of another long number": (1234, "length"),
    },
    Column("char(3)", NO_LIMIT, pa.large_string(), ["abc"]): {
        "char of four letters in a large string": ("abcd", "length")
    },
    Column("text", "TEXT", OBJECTS, TEXTS): {
        "text of half a character": ("a\ud800", "encoding"),
        "bytes among texts": (b"a", "type"),
        "object among texts": (object, "type"),
    },
    Column("varchar(9)", "VARCHAR(9)", OBJECTS, TEXTS): {"varchar of half a character": ("\udfff", "encoding")},
    Column("mood", NO_SUCH_TYPE, OBJECTS, MOODS, setup=MOOD): {
        "enum of half a character": ("\ud800", "encoding"),
        "enum of an empty text": ("", "label"),
    },
    # enums
    Column("mood", NO_SUCH_TYPE, pa.string(), MOODS, setup=MOOD): {
        "enum of another word": ("fine", "label"),
        "enum of an unknown label": ("sad", "label"),
        "enum of another case": ("IT'S", "label"),
        "enum of a blank too many": ("it's ", "label"),
        "enum with NUL": ("it's\0", "label|nul"),
    },
    Column("mood", NO_SUCH_TYPE, pa.dictionary(pa.int32(), pa.string()), MOODS, setup=MOOD): {
        "enum of an unknown label in a dictionary": ("sad", "label")
    },
    Column("feeling", NO_SUCH_TYPE, pa.string(), MOODS, by="either", setup=(*MOOD, "CREATE DOMAIN feeling AS mood")): {
        "domain over an enum of an unknown label": ("sad", "label|refused")
    },
    # uuids
    Column("uuid", "UUID", pa.string(), [ONE_UUID]): {
        "uuid of a word": ("x", "syntax"),
        "uuid of its beginning": ("6ba7b810", "syntax"),
        "uuid of a digit too few": (ONE_UUID[:-1], "syntax"),
    },
    Column("uuid", "UUID", OBJECTS, [ONE_UUID]): {"uuid of a wrong digit": (ONE_UUID.replace("8", "g"), "syntax")},
    # json
    Column("json", "JSON", pa.string(), JSONS): {
        "json of NaN": ('{"a": NaN}', "syntax|nan"),
        "json with a comma at the end": ('{"a": 1,}', "syntax"),
        "json of two values": ("{} {}", "syntax"),
        "json that is not closed": ("{", "syntax"),
        "json of the word NaN": ("NaN", "syntax"),
        "json with a line break in a text": ('"a\nb"', "syntax"),
        "json with NUL": ('"a\0"', "syntax|nul"),
    },
    Column("jsonb", No("there is one JSON"), pa.string(), JSONS): {"jsonb with a comma at the end": ("[1,]", "syntax")},
    Column("jsonb", "JSON", pa.string(), JSONS): {
        "json with Python's quotes": ("{'a': 1}", "syntax"),
        "json of an empty text": ("", "syntax"),
        "jsonb that is not closed": ("{", "syntax"),
    },
    Column(
        SERVER_KEEPS_IT,
        "JSON",
        pa.string(),
        ['{"a": 12345678901234567890.5}', "1.5", "7"],
        quoted=["'{\"a\": 12345678901234567890.5}'", "1.5", "7"],
    ): {"json of a number of more digits than SQLite keeps": ("12345678901234567890.5", "digits|range")},
    Column(SERVER_KEEPS_IT, "JSON", pa.string(), JSONS): {
        "json of a number beyond SQLite's": ("1e400", "digits|range")
    },
    Column("jsonb", No("SQLite keeps JSON as text"), pa.string(), JSONS): {
        "jsonb with an escaped NUL": ('"\\u0000"', "nul"),
        "jsonb with half a character": ('["\\ud800"]', "encoding|syntax"),
        "jsonb of half a character": ('"\\ud800"', "encoding"),
    },
    Column("jsonb", No("SQLite keeps JSON as text"), pa.string(), JSONS, by="either"): {
        "jsonb of a number beyond numeric": ("1e200000", "refused|range")
    },
    Column("jsonb", "JSON", OBJECTS, [{"a": 1}, {}]): {
        "json of a dict with NaN": ({"a": math.nan}, "nan|type"),
        "object among dicts": (object, "type"),
    },
    Column("jsonb", No("SQLite keeps any NUL"), OBJECTS, [{"a": "b"}, {}]): {
        "json of a dict with NUL": ({"a": "\0"}, "nul|type")
    },
    Column("jsonb", "JSON", LIST(pa.float64()), [[0.5], []], stored=["[0.5]", "[]"], quoted=["'[0.5]'", "'[]'"]): {
        "json of a list with NaN": ([math.nan], "nan")
    },
    Column("json", "JSON", LIST(pa.float64()), [[0.5], []], stored=["[0.5]", "[]"], quoted=["'[0.5]'", "'[]'"]): {
        "json of a list with infinity": ([math.inf], "nan")
    },
    Column("jsonb", "JSON", pa.struct({"a": pa.float64()}), [{"a": 0.5}]): {
        "json of a struct with NaN": ({"a": math.nan}, "nan")
    },
    Column("jsonb", "JSON", LIST(pa.binary()), [[]], stored=["[]"], quoted=["'[]'"]): {
        "json of a list with bytes": ([b"x"], "type")
    },
    # binary
    Column("text", "TEXT", pa.binary(), [b"a"], by="plan"): {"bytes into text": (b"\xff", "type")},
    Column("bytea", "BLOB", pa.string(), ["\\x61"], stored=["\\x61"], quoted=["X'61'"]): {
        "text into bytea": ("b", "syntax")
    },
    # dates
    Column("date", "DATE", pa.string(), ["2024-02-29"]): {
        "date that does not exist": ("2023-02-29", "syntax"),
        "date with the day first": ("29.02.2024", "syntax"),
        "date with the month first": ("02/03/2024", "syntax"),
        "date of an empty text": ("", "syntax"),
        "date of a word that moves": ("today", "syntax"),
        "date of text with a time of day": ("2024-05-17 10:30:00", "time"),
        "date of text before PostgreSQL's": ("-4714-01-01", "range|syntax"),
    },
    Column(
        "date",
        "DATE",
        pa.timestamp("us"),
        [datetime.datetime(2024, 2, 29)],
        stored=["2024-02-29"],
        quoted=["'2024-02-29'"],
    ): {
        "date of a time of day": (MOMENT, "time"),
        "date of a time of day with microseconds": (datetime.datetime(2024, 5, 17, 10, 30, 15, 123_456), "time"),
        "date of noon": (datetime.datetime(2024, 1, 1, 12), "time"),
        "date of a time of day before 1970": (datetime.datetime(1969, 12, 31, 1), "time"),
    },
    Column("date", "DATE", pa.timestamp("ns"), [0], stored=["1970-01-01"], quoted=["'1970-01-01'"]): {
        "date of a nanosecond": (1, "time|nanoseconds")
    },
    Column("date", SERVER_READS_IT, pa.date32(), [DAY, LEAP_DAY]): {
        "date beyond PostgreSQL's": (2_145_042_906, "range"),
        "date before PostgreSQL's": (-2_440_589, "range"),
        "date of the first day": (-(2**31), "range"),
    },
    Column(SERVER_KEEPS_IT, "DATE", pa.date32(), [DAY, LEAP_DAY]): {
        "date beyond SQLite's": (2_932_897, "range"),
        "date before SQLite's": (-719_163, "range"),
    },
    Column("date", "DATE", pa.time64("us"), [CLOCK[0]], by="plan"): {"time into date": (CLOCK[1], "type")},
    Column("date", "DATE", pa.int64(), [1], by="plan"): {"int into date": (20_240_229, "type")},
    # timestamps
    Column("timestamp", "DATETIME", pa.string(), MOMENT_TEXTS, **OF_MOMENT_TEXTS): {
        "timestamp that does not exist": ("2024-02-30 10:00:00", "syntax"),
        "timestamp of a word that moves": ("tomorrow", "syntax"),
        "timestamp of 25 hours": ("2024-02-29 25:00:00", "syntax"),
        "timestamp of text with nanoseconds": ("2024-02-29 12:30:00.0000001", "nanoseconds"),
        "timestamp of text with nine digits": ("2024-05-17 10:30:15.123456789", "nanoseconds"),
        "timestamp of text with nine digits at midnight": ("2024-01-01 00:00:00.123456789", "nanoseconds"),
        "timestamp of a word that moves back": ("yesterday", "syntax"),
    },
    Column("timestamp", "TIMESTAMP", pa.string(), MOMENT_TEXTS, **OF_MOMENT_TEXTS): {
        "timestamp of infinity": ("infinity", "syntax")
    },
    Column(
        "timestamp",
        "DATETIME",
        pa.timestamp("ns"),
        [0, 1000],
        stored=["1970-01-01 00:00:00", "1970-01-01 00:00:00.000001"],
        quoted=["'1970-01-01 00:00:00.000000'", "'1970-01-01 00:00:00.000001'"],
    ): {
        "timestamp of nanoseconds": (1, "nanoseconds"),
        "timestamp of a thousand and one nanoseconds": (1001, "nanoseconds"),
    },
    Column("timestamp", "DATETIME", OBJECTS, [pd.Timestamp(MOMENT)]): {
        "timestamp of pandas' nanoseconds": (pd.Timestamp("2024-02-29 12:30:00.000000001"), "nanoseconds"),
        "zero among pandas' times": (0, "type"),
    },
    Column("timestamptz", NO_ZONES, pa.timestamp("ns", "Asia/Tokyo"), [0], stored=["1970-01-01 00:00:00+00"]): {
        "timestamptz of nanoseconds in Tokyo": (1, "nanoseconds")
    },
    Column(
        "timestamptz",
        "DATETIME",
        pa.timestamp("ns", "UTC"),
        [0],
        stored=["1970-01-01 00:00:00+00"],
        quoted=["'1970-01-01 00:00:00.000000+00:00'"],
    ): {"timestamptz of nanoseconds": (-1, "nanoseconds")},
    Column("timestamp(0)", NO_PRECISION, pa.timestamp("us"), [MOMENT, NOON]): {
        "timestamp of whole seconds of a fraction": (MOMENT.replace(microsecond=1), "nanoseconds"),
        "timestamp of whole seconds of a microsecond": (datetime.datetime(1970, 1, 1, 0, 0, 0, 1), "nanoseconds"),
        "timestamp of whole seconds of microseconds": (
            datetime.datetime(2024, 5, 17, 10, 30, 15, 123_456),
            "nanoseconds",
        ),
    },
    Column("timestamptz(3)", NO_PRECISION, pa.timestamp("us", "UTC"), AWARE): {
        "timestamptz of milliseconds of a microsecond": (AWARE[0].replace(microsecond=1), "nanoseconds")
    },
    Column("timestamp", "DATETIME", pa.timestamp("s"), [MOMENT, NOON]): {
        "timestamp beyond PostgreSQL's": (9_224_318_016_000, "range"),
        "timestamp of seconds that overflow microseconds": (10**15, "range"),
        "timestamp of seconds that overflow by far": (2**60, "range"),
    },
    Column("timestamp", "DATETIME", pa.timestamp("us"), [MOMENT, NOON]): {
        "timestamp before PostgreSQL's": (-2_440_589 * 86_400_000_000, "range"),
        "timestamp of the first microsecond": (-(2**63) + 1, "range"),
    },
    Column("timestamptz", "DATETIME", pa.timestamp("s", "UTC"), AWARE, quoted=QUOTED_AWARE): {
        "timestamptz beyond PostgreSQL's": (9_224_318_016_000, "range")
    },
    Column(SERVER_KEEPS_IT, "DATETIME", pa.timestamp("us"), [MOMENT, NOON]): {
        "timestamp beyond SQLite's": (253_402_300_800_000_000, "range")
    },
    Column(SERVER_KEEPS_IT, "DATETIME", pa.timestamp("s"), [MOMENT, NOON]): {
        "timestamp before SQLite's": (-62_135_596_801, "range")
    },
    Column("timestamp(3)", NO_PRECISION, pa.timestamp("us"), [MOMENT, NOON]): {
        "timestamp of milliseconds of a microsecond": (
            datetime.datetime(2024, 5, 17, 10, 30, 15, 123_456),
            "nanoseconds",
        )
    },
    # zones
    Column("timestamptz", NO_ZONES, pa.timestamp("us"), [MOMENT], by="plan"): {
        "naive into timestamptz": (NOON, "zone")
    },
    Column("timestamp", NO_ZONES, pa.timestamp("us", "UTC"), AWARE, by="plan"): {
        "aware into timestamp": (AWARE[0], "zone")
    },
    Column("timestamptz", NO_ZONES, pa.string(), ["2024-02-29T12:30:00+02:00"], stored=["2024-02-29 10:30:00+00"]): {
        "text with a T and no offset into timestamptz": ("2024-01-01T00:00:00", "zone"),
        "text of midnight without an offset into timestamptz": ("2024-01-01 00:00:00", "zone"),
        "text without an offset into timestamptz": ("2024-02-29T12:30:00", "zone"),
        "text with a blank and no offset into timestamptz": ("2024-05-17 10:30:15", "zone"),
    },
    Column("timestamp", NO_ZONES, pa.string(), MOMENT_TEXTS, **OF_MOMENT_TEXTS): {
        "text with a T and an offset into timestamp": ("2024-01-01T00:00:00+01:00", "zone"),
        "text with a short offset into timestamp": ("2024-01-01 00:00:00+02", "zone"),
        "text with an offset into timestamp": ("2024-02-29T12:30:00+02:00", "zone"),
        "text with an offset and a blank into timestamp": ("2024-05-17 10:30:15+02:00", "zone"),
        "text with a Z into timestamp": ("2024-02-29 12:30:00Z", "zone"),
    },
    Column("timestamptz", NO_ZONES, pa.timestamp("us"), [MOMENT, NOON], **OF_BERLIN): {
        "time that does not exist in Berlin": (datetime.datetime(2024, 3, 31, 2, 30), "zone"),
        "microseconds that occur twice in Berlin": (datetime.datetime(2024, 10, 27, 2, 30), "zone"),
    },
    Column("timestamptz", NO_ZONES, pa.timestamp("s"), [MOMENT, NOON], **OF_BERLIN): {
        "time that occurs twice in Berlin": (datetime.datetime(2024, 10, 27, 2, 30), "zone")
    },
    Column(
        "timestamptz",
        NO_ZONES,
        pa.string(),
        ["2024-10-27 02:30:00+01:00"],
        stored=["2024-10-27 01:30:00+00"],
        options=BERLIN,
    ): {"text of half past two that occurs twice in Berlin": ("2024-10-27 02:30:00", "zone")},
    Column("timestamptz", NO_ZONES, pa.string(), MOMENT_TEXTS, **OF_BERLIN): {
        "text that does not exist in Berlin": ("2024-03-31 02:00:00", "zone"),
        "text that occurs twice in Berlin": ("2024-10-27 02:59:59", "zone"),
        "text that is no time in Berlin": ("noon", "syntax"),
    },
    Column("timestamptz", NO_ZONES, pa.timestamp("ns"), [0], stored=["1969-12-31 23:00:00+00"], options=BERLIN): {
        "nanoseconds in Berlin": (1, "nanoseconds")
    },
    # times of day and spans
    Column("time", "TIME", pa.string(), ["12:30:00"], quoted=["'12:30:00.000000'"]): {
        "time of 24 hours and a half": ("24:30:00", "syntax|range"),
        "time of a word": ("noon", "syntax"),
        "time of 25 hours": ("25:00", "syntax"),
        "time of text with an offset": ("10:00:00+02:00", "syntax"),
        "time of text with nanoseconds": ("12:30:00.0000001", "nanoseconds"),
    },
    Column("time", "TIME", pa.time64("ns"), CLOCK, **OF_CLOCK): {"time of nanoseconds": (1, "nanoseconds")},
    Column("time(0)", NO_PRECISION, pa.time64("us"), [CLOCK[0]]): {
        "time of whole seconds of a fraction": (CLOCK[1], "nanoseconds"),
        "time of whole seconds of microseconds": (datetime.time(10, 30, 15, 123_456), "nanoseconds"),
        "time of whole seconds of a microsecond": (datetime.time(1, 0, 0, 1), "nanoseconds"),
    },
    Column("interval", NO_SUCH_TYPE, pa.duration("s"), SPANS[:1], stored=["01:00:00"]): {
        "interval of seconds that overflow": (2**62, "range")
    },
    Column("interval", NO_SUCH_TYPE, pa.duration("ns"), [*SPANS], **OF_SPANS): {
        "interval of nanoseconds": (1, "nanoseconds")
    },
    Column("interval(3)", NO_SUCH_TYPE, pa.duration("us"), SPANS[:1], stored=["01:00:00"]): {
        "interval of milliseconds of a microsecond": (SPANS[1], "nanoseconds")
    },
    Column(
        "interval", NO_SUCH_TYPE, pa.month_day_nano_interval(), [(1, 2, 3000)], stored=["1 mon 2 days 00:00:00.000003"]
    ): {
        "interval of months and nanoseconds": ((0, 0, 1), "nanoseconds"),
        "interval of months, days and nanoseconds": ((1, 2, 3), "nanoseconds"),
    },
    Column("interval", NO_SUCH_TYPE, pa.string(), ["01:00:00"]): {
        "interval of text with nanoseconds": ("0.0000001 s", "nanoseconds")
    },
    # objects of several kinds
    Column("integer", "INTEGER", OBJECTS, [1, 2, 3]): {
        "word among ints": ("four", "type|syntax"),
        "dict among ints": ({"a": 1}, "type|syntax"),
        "list among ints": ([4], "type"),
        "object among ints": (object, "type"),
    },
    Column("bytea", "BLOB", OBJECTS, [b"a", b"\xff"]): {"text among bytes": ("a", "syntax")},
    Column("varchar(3)", NO_LIMIT, OBJECTS, TEXTS): {"long int among texts": (1234, "length|type")},
    Column("date", "DATE", OBJECTS, [DAY, LEAP_DAY]): {
        "bool among dates": (True, "type"),
        "word among dates": ("n/a", "type|syntax"),
        "int among dates": (7, "type"),
        "float among dates": (45_351.5, "type"),
        "time of day among dates": (CLOCK[1], "type"),
        "datetime among dates": (MOMENT, "type|time"),
    },
    Column("bigint", "INTEGER", OBJECTS, [1, 2, 3]): {
        "span among ints": (datetime.timedelta(1), "type"),
        "date among ints": (LEAP_DAY, "type"),
        "uuid among ints": (uuid.UUID(int=5), "type"),
    },
    Column("double precision", "REAL", OBJECTS, [0.5, 0.25]): {
        "complex among floats": (1j, "type"),
        "word among floats": ("n/a", "type|syntax"),
        "bool among floats": (True, "type"),
        "NumPy's uint64 among floats": (np.uint64(2**64 - 1), "type|digits"),
    },
    Column("numeric(12,4)", "NUMERIC(12,4)", OBJECTS, [Decimal(1), Decimal("-0.5")], **MONEY): {
        "word among decimals": ("n/a", "type|syntax")
    },
    Column("timestamp", "DATETIME", OBJECTS, [MOMENT, NOON]): {
        "zero among datetimes": (0, "type"),
        "aware among naive": (AWARE[0], "type|zone"),
    },
    Column("timestamptz", "DATETIME", OBJECTS, AWARE, quoted=QUOTED_AWARE): {
        "decimal among aware times": (Decimal(7), "type"),
        "naive among aware": (MOMENT, "type|zone"),
    },
    Column("time", "TIME", OBJECTS, CLOCK, **OF_CLOCK): {"int among times of day": (7, "type")},
    Column("interval", NO_SUCH_TYPE, OBJECTS, SPANS, **OF_SPANS): {"float among spans": (0.5, "type")},
    # arrays
    Column("integer[]", NO_SUCH_TYPE, LIST(pa.int64()), [[1, 2], []], stored=["{1,2}", "{}"]): {
        "array with an element too large": ([1, 2**31], "range")
    },
    Column("smallint[]", NO_SUCH_TYPE, OBJECTS, [[1, None], []], stored=["{1,NULL}", "{}"]): {
        "array of objects with an element too large": ([2**15], "range")
    },
    Column("integer[]", NO_SUCH_TYPE, LIST(pa.float64()), [[1.0], []], stored=["{1}", "{}"]): {
        "array with a fraction": ([2.5], "fraction")
    },
    Column("bigint[]", NO_SUCH_TYPE, LIST(pa.float64()), [[1.0], []], stored=["{1}", "{}"]): {
        "array with NaN among integers": ([2.0, math.nan], "nan")
    },
    Column("text[]", NO_SUCH_TYPE, LIST(pa.string()), [["a", "NULL", None]], stored=['{a,"NULL",NULL}']): {
        "array with NUL": (["a\0"], "nul"),
        "array with nothing but NUL": (["a", "\0"], "nul"),
    },
    Column("varchar(3)[]", NO_SUCH_TYPE, LIST(pa.string()), [["äöü"]], stored=["{äöü}"]): {
        "array with a long element": (["abcd"], "length")
    },
    Column("numeric(5,2)[]", NO_SUCH_TYPE, LIST(pa.float64()), [[0.5]], stored=["{0.50}"]): {
        "array with more digits": ([0.001], "digits")
    },
    Column("date[]", NO_SUCH_TYPE, LIST(pa.string()), [["2024-02-29"]], stored=["{2024-02-29}"]): {
        "array of dates with one that does not exist": (["2023-02-29"], "syntax")
    },
    Column(
        "integer[]", NO_SUCH_TYPE, LIST(LIST(pa.int64())), [[[1, 2], [3, 4]]], by="either", stored=["{{1,2},{3,4}}"]
    ): {"array that is ragged": ([[1, 2], [3]], "refused|syntax|type")},
    Column("integer[]", NO_SUCH_TYPE, OBJECTS, [[[1, 2], [3, 4]]], by="either", stored=["{{1,2},{3,4}}"]): {
        "array of objects that is ragged": ([[1, 2], [3]], "refused|syntax|type")
    },
    Column("integer[]", NO_SUCH_TYPE, pa.string(), ["{1,2}"], by="either"): {
        "array of text that is not closed": ("{1,2", "refused|syntax"),
        "array of text with a word": ("{a}", "refused|syntax"),
    },
    Column("integer[]", NO_SUCH_TYPE, OBJECTS, [[1], [2]], stored=["{1}", "{2}"]): {
        "int among lists": (3, "type"),
        "list with a word among lists of ints": (["x"], "type|syntax"),
    },
    # texts that only PostgreSQL can read
    Column("inet", NO_SUCH_TYPE, pa.string(), ["10.0.0.1/8", "::1/128"], by="server"): {
        "inet": ("300.1.1.1", "refused|syntax")
    },
    Column("cidr", NO_SUCH_TYPE, pa.string(), ["10.0.0.0/8"], by="server"): {
        "cidr with bits of a host": ("10.1.0.0/8", "refused|syntax")
    },
    Column("macaddr", NO_SUCH_TYPE, pa.string(), ["08:00:2b:01:02:03"], by="server"): {
        "macaddr": ("08:00", "refused|syntax")
    },
    Column("bit(3)", NO_SUCH_TYPE, pa.string(), ["101"], by="server"): {
        "bit of another length": ("10", "refused|length"),
        "bit of another digit": ("102", "refused|syntax"),
    },
    Column("varbit(3)", NO_SUCH_TYPE, pa.string(), ["10"], by="server"): {
        "varbit that is too long": ("1010", "refused|length")
    },
    Column("int4range", NO_SUCH_TYPE, pa.string(), ["[1,5)"], by="server"): {
        "range that ends before it begins": ("[5,1)", "refused|syntax")
    },
    Column("tsrange", NO_SUCH_TYPE, pa.string(), ["empty"], by="server"): {
        "range of a word": ("[a,b)", "refused|syntax")
    },
    Column("tsvector", NO_SUCH_TYPE, pa.string(), ["'a' 'b'"], by="server"): {"tsvector": ("'a", "refused|syntax")},
    Column("tsquery", NO_SUCH_TYPE, pa.string(), ["'a' & 'b'"], by="server"): {"tsquery": ("a &", "refused|syntax")},
    Column("point", NO_SUCH_TYPE, pa.string(), ["(1,2)"], by="server"): {"point": ("(1,", "refused|syntax")},
    Column("point", NO_SUCH_TYPE, pa.string(), ["(0.1,2)"]): {
        "point of more digits": ("(0.12345678901234567891,2)", "digits"),
        "point of a few more digits": ("(1.12345678901234567,2)", "digits"),
    },
    Column("oid", NO_SUCH_TYPE, pa.string(), ["4294967295"], by="server"): {"oid": ("4294967296", "refused|range")},
    Column("timetz", NO_SUCH_TYPE, pa.string(), ["12:00:00+02"], by="server"): {
        "timetz": ("25:00+02", "refused|syntax")
    },
    Column("interval", NO_SUCH_TYPE, pa.string(), ["01:00:00"], by="server"): {
        "interval": ("an age", "refused|syntax")
    },
    Column("jsonpath", NO_SUCH_TYPE, pa.string(), ['$."a"'], by="server"): {"jsonpath": ("$.", "refused|syntax")},
    Column("inet", NO_SUCH_TYPE, pa.string(), ["10.0.0.1/8"]): {"text with NUL into inet": ("::1\0", "nul")},
    Column(
        "text",
        No("SQLite's indexes hold any length"),
        pa.string(),
        ["a", "b"],
        **UNNAMED,
        after=("CREATE INDEX i ON t (v)",),
    ): {"text that its index cannot hold": (LONG, "refused")},
}
