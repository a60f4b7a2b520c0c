"""Make docs/types.md again from the type table: python docs/make_types.py. A test keeps the page up to date."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from dataloader.conversion import dialects
from dataloader.conversion.column_types import ColumnType, parse_type, plain
from dataloader.conversion.rules import cast_rule

PAGE = Path(__file__).with_name("types.md")
UNITS = ("s", "ms", "us", "ns")
ARROW_TYPES: tuple[pa.DataType, ...] = (
    pa.null(),
    pa.bool_(),
    pa.bool8(),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.decimal32(9, 4), pa.decimal64(18, 4), pa.decimal128(38, 4), pa.decimal256(76, 4)),
    *(pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())),
    pa.run_end_encoded(pa.int32(), pa.string()),
    *(pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(16)),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.timestamp(unit, "UTC") for unit in UNITS),
    *(pa.duration(unit) for unit in UNITS),
    pa.month_day_nano_interval(),
    pa.uuid(),
    pa.json_(),
    *(kind(pa.int32()) for kind in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)),
    pa.list_(pa.int32(), 2),
    pa.struct([("a", pa.int32())]),
    pa.map_(pa.string(), pa.int32()),
    pa.dense_union([pa.field("a", pa.int32())]),
)
POSTGRESQL = (
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(12,4)", "money"),
    *("text", "character varying(32)", "character(32)", "citext", "bytea", "uuid", "json", "jsonb", "xml"),
    *("date", "time", "time with time zone", "timestamp", "timestamp with time zone", "interval", "interval(3)"),
    *("inet", "cidr", "macaddr", "macaddr8", "bit(3)", "bit varying(3)", "tsvector", "point", "polygon", "circle"),
    *("int4range", "numrange", "tstzrange", "integer[]", "text[]", "numeric(10,2)[]", "timestamp with time zone[]"),
)
SQLITE = (
    *("BOOLEAN", "INTEGER", "REAL", "NUMERIC", "NUMERIC(12,4)", "TEXT", "VARCHAR(32)", "BLOB"),
    *("DATE", "TIME", "DATETIME", "JSON", "UUID", "STRING"),
)
INTRODUCTION = """# Types

Which Arrow type fits which column, and what happens to its values. Made from the type table by
`python docs/make_types.py`.

* **exact**: every value fits.
* **checked**: every value is checked, and refused if it would change. The third column says what is checked.
* **lossy**: something is always lost, so it needs `casts="lossy"`. The last column says what is given up; where a
  checked pair has something there, `casts="lossy"` rounds or cuts it instead of refusing the value.
* Pairs that are not listed are **impossible**: the plan refuses them by name.

pandas and polars columns have the Arrow type that they turn into; Python objects (Decimal, date, datetime, timedelta,
UUID, dict, list, bytes, bool with None) that of their values. NULL fits every column that takes it. A naive
`timestamp` goes into `timestamp with time zone` with `assume_timezone=`. A domain is the type under it, an enum is text
that is one of its labels, and any type that is not listed is read by the server from text.

On SQLite the name of a type decides. NUMERIC, DECIMAL(20,4), NUMBER, MONEY, CURRENCY and the like take numbers, also
from the text of a CSV file: integers of 64 bits and what a double shows with the same digits, so that `1.10` comes back
as 1.1; other text is refused by its row. STRING and other names that SQLite does not know keep text, but for what it
would store as a number that is shown in another way, like `007`. A column without a type, ANY in a STRICT table and the
columns of FTS5 keep everything as it comes, and the fields of a CSV file as their text. JSONB is text, like JSON.
"""


def targets() -> Iterator[tuple[str, ColumnType]]:
    yield from (("PostgreSQL", parse_type(sql, "postgresql")) for sql in POSTGRESQL)
    yield "PostgreSQL", parse_type("mood (an enum)", "postgresql", labels=("sad", "happy"))
    yield from (("SQLite", parse_type(sql, "sqlite")) for sql in SQLITE)
    yield "SQLite", ColumnType("any", "no type, or ANY in a STRICT table", dialect=dialects.SQLITE)


def section(target: ColumnType) -> str:
    """One column type: a line for each group of Arrow types that fare alike."""
    cells = [(str(source), cast_rule(plain(source), target)) for source in ARROW_TYPES]
    possible = [(name, found) for name, found in cells if found.verdict != "impossible"]
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for name, found in possible:
        grouped.setdefault((found.verdict, found.checks, found.loses or ""), []).append(f"`{name}`")
    lines = [f"### {target}", "", '| Arrow | verdict | checks | `casts="lossy"` gives up |', "|---|---|---|---|"]
    lines += [f"| {', '.join(names)} | {' | '.join(words)} |" for words, names in grouped.items()]
    return "\n".join([*lines, ""])


def page() -> str:
    parts = [INTRODUCTION]
    for database, group in itertools.groupby(targets(), key=lambda one: one[0]):
        parts.append(f"## {database}\n")
        parts += [section(target) for _, target in group]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
