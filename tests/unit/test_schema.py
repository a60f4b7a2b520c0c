"""The type table: SQL spellings, SQLite's affinities, created types, names."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from dataloader.conversion.column_types import ColumnType, family, parse_type, plain
from dataloader.conversion.types import TYPES
from dataloader.database.backends import backend_for
from dataloader.database.backends.generic import type_of
from dataloader.database.definitions import created_type
from dataloader.database.schema import Column, TableName, TableSchema, parse_table_name
from dataloader.errors import PlanError, UnsupportedType

POSTGRES, SQLITE = postgresql.dialect(), sqlite.dialect()
SPELLINGS = [(spelling, kind) for kind, row in TYPES.items() for spelling in row.spellings]


def spelled(source: pa.DataType, dialect: sa.Dialect) -> str:
    """How the database will spell the column that is created for `source`."""
    return created_type("c", source, backend_for(dialect)).compile(dialect=dialect)


@pytest.mark.parametrize(("spelling", "kind"), SPELLINGS, ids=[spelling for spelling, _ in SPELLINGS])
def test_every_spelling_of_the_table_is_read_as_its_kind(spelling: str, kind: str) -> None:
    assert parse_type(spelling, "postgresql").kind == kind
    assert parse_type(spelling.upper(), "postgresql").kind == kind


def test_no_spelling_belongs_to_two_kinds() -> None:
    spellings = [spelling for spelling, _ in SPELLINGS]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("numeric(12,4)", ("numeric", 12, 4, None)),
        ("NUMERIC(12, 4)", ("numeric", 12, 4, None)),
        ("numeric(5)", ("numeric", 5, 0, None)),
        ("numeric", ("numeric", None, None, None)),
        ("numeric(3,-2)", ("numeric", 3, -2, None)),
        ("varchar(32)", ("varchar", None, None, 32)),
        ("character varying(7)", ("varchar", None, None, 7)),
        ("character varying", ("varchar", None, None, None)),
        ("character(3)", ("bpchar", None, None, 3)),
        ("char", ("bpchar", None, None, 1)),
        ("timestamp(3) with time zone", ("timestamptz", 3, None, None)),
        ("timestamp(3) without time zone", ("timestamp", 3, None, None)),
        ("TIMESTAMP(0)", ("timestamp", 0, None, None)),
        ("time(0) without time zone", ("time", 0, None, None)),
        ("float(24)", ("float4", None, None, None)),
        ("float(25)", ("float8", None, None, None)),
        ("double   precision", ("float8", None, None, None)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_parameters_of_a_postgres_type_are_read(sql: str, expected: tuple[object, ...]) -> None:
    found = parse_type(sql, "postgresql")
    assert (found.kind, found.precision, found.scale, found.length) == expected
    assert found.sql == sql


def test_bpchar_without_a_length_has_no_limit() -> None:
    """https://www.postgresql.org/docs/current/datatype-character.html: only char means char(1)."""
    assert parse_type("bpchar", "postgresql").length is None


@pytest.mark.parametrize(
    "sql",
    [
        "tsvector",
        "inet",
        '"char"',
        "bit(3)",
        "geometry(Point,4326)",
        "sales.mood",
        "",
    ],
)
def test_a_postgres_type_outside_the_table_is_left_to_the_server_to_read(sql: str) -> None:
    assert parse_type(sql, "postgresql") == ColumnType("other", sql)


@pytest.mark.parametrize(
    ("sql", "kind", "precision"),
    [
        ("time with time zone", "moments", None),
        ("time(3) with time zone", "moments", 3),
        ("tstzrange", "moments", None),
        ("interval", "interval", None),
        ("interval(3)", "interval", 3),
        ("interval day to second(3)", "interval", 3),
        ("interval year to month", "moments", 0),
    ],
)
def test_a_postgres_type_whose_times_the_server_reads_is_known_with_its_precision(
    sql: str, kind: str, precision: int | None
) -> None:
    assert parse_type(sql, "postgresql") == ColumnType(kind, sql, precision=precision)


@pytest.mark.parametrize("element", ["integer", "numeric(12,4)", "character varying(3)", "timestamp(3) with time zone"])
@pytest.mark.parametrize("brackets", ["[]", "[][]"])
def test_a_postgres_array_is_known_with_the_type_of_its_elements(element: str, brackets: str) -> None:
    found = parse_type(element + brackets, "postgresql")
    assert found == ColumnType("array", element + brackets, element=parse_type(element, "postgresql"))


def test_an_enum_is_known_by_its_labels() -> None:
    assert parse_type("sales.mood", "postgresql", ("sad", "ok")) == ColumnType(
        "enum", "sales.mood", labels=("sad", "ok")
    )


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("INTEGER", "int8"),
        ("TINYINT(1)", "int8"),
        ("UNSIGNED BIG INT", "int8"),
        ("INT(11) UNSIGNED", "int8"),
        ("CHARINT", "int8"),
        ("VARCHAR(32)", "text"),
        ("NVARCHAR(100)", "text"),
        ("VARCHAR(MAX)", "text"),
        ("CLOB", "text"),
        ("BLOB", "bytea"),
        ("REAL", "real"),
        ("FLOAT", "real"),
        ("DOUBLE PRECISION", "real"),
        ("NUMERIC", "number"),
        ("DECIMAL", "number"),
        ("NUMERIC(12,4)", "numeric"),
        ("DECIMAL(15,2)", "numeric"),
        ("NUMERIC(16,2)", "number"),
        ("DECIMAL(10,2) UNSIGNED", "number"),
        ("STRING", "loose"),
        ("", "any"),
        ("MONEY", "number"),
        ("BOOLEAN", "bool"),
        ("DATE", "date"),
        ("TIME", "time"),
        ("DATETIME", "datetime"),
        ("TIMESTAMP", "datetime"),
        ("TIMESTAMP WITH TIME ZONE", "datetime"),
        ("JSON", "json"),
    ],
)
def test_a_sqlite_declaration_has_the_affinity_that_sqlite_gives_it(sql: str, kind: str) -> None:
    """https://sqlite.org/datatype3.html#determination_of_column_affinity"""
    assert parse_type(sql, "sqlite").kind == kind


def test_sqlite_does_not_keep_to_a_declared_length() -> None:
    assert parse_type("VARCHAR(3)", "sqlite").length is None


def test_a_short_sqlite_decimal_keeps_its_parameters() -> None:
    found = parse_type("NUMERIC(12,4)", "sqlite")
    assert (found.precision, found.scale) == (12, 4)


CREATED = [
    (pa.null(), "TEXT", "TEXT"),
    (pa.bool_(), "BOOLEAN", "BOOLEAN"),
    (pa.int8(), "SMALLINT", "SMALLINT"),
    (pa.int16(), "SMALLINT", "SMALLINT"),
    (pa.int32(), "INTEGER", "INTEGER"),
    (pa.int64(), "BIGINT", "BIGINT"),
    (pa.uint8(), "SMALLINT", "SMALLINT"),
    (pa.uint16(), "INTEGER", "INTEGER"),
    (pa.uint32(), "BIGINT", "BIGINT"),
    (pa.uint64(), "NUMERIC(20, 0)", "BIGINT"),
    (pa.float16(), "REAL", "REAL"),
    (pa.float32(), "REAL", "REAL"),
    (pa.float64(), "DOUBLE PRECISION", "DOUBLE"),
    (pa.decimal32(9, 2), "NUMERIC(9, 2)", "NUMERIC(9, 2)"),
    (pa.decimal64(15, 2), "NUMERIC(15, 2)", "NUMERIC(15, 2)"),
    (pa.decimal128(12, 4), "NUMERIC(12, 4)", "NUMERIC(12, 4)"),
    (pa.decimal128(16, 4), "NUMERIC(16, 4)", "TEXT"),
    (pa.decimal256(60, 10), "NUMERIC(60, 10)", "TEXT"),
    (pa.decimal128(5, -2), "NUMERIC(7, 0)", "NUMERIC(7, 0)"),
    (pa.decimal128(3, 5), "NUMERIC(5, 5)", "NUMERIC(5, 5)"),
    (pa.string(), "TEXT", "TEXT"),
    (pa.large_string(), "TEXT", "TEXT"),
    (pa.string_view(), "TEXT", "TEXT"),
    (pa.json_(), "JSONB", "JSON"),
    (pa.binary(), "BYTEA", "BLOB"),
    (pa.large_binary(), "BYTEA", "BLOB"),
    (pa.binary_view(), "BYTEA", "BLOB"),
    (pa.binary(4), "BYTEA", "BLOB"),
    (pa.date32(), "DATE", "DATE"),
    (pa.date64(), "DATE", "DATE"),
    (pa.time32("s"), "TIME WITHOUT TIME ZONE", "TIME"),
    (pa.time64("us"), "TIME WITHOUT TIME ZONE", "TIME"),
    (pa.timestamp("ns"), "TIMESTAMP WITHOUT TIME ZONE", "DATETIME"),
    (pa.timestamp("s", "Europe/Berlin"), "TIMESTAMP WITH TIME ZONE", "DATETIME"),
    (pa.uuid(), "UUID", "CHAR(32)"),
    (pa.bool8(), "BOOLEAN", "BOOLEAN"),
    (pa.list_(pa.int64()), "JSONB", "JSON"),
    (pa.list_view(pa.int64()), "JSONB", "JSON"),
    (pa.struct([("a", pa.int64())]), "JSONB", "JSON"),
    (pa.map_(pa.string(), pa.int64()), "JSONB", "JSON"),
    (pa.dictionary(pa.int8(), pa.string()), "TEXT", "TEXT"),
    (pa.dictionary(pa.int8(), pa.decimal128(12, 4)), "NUMERIC(12, 4)", "NUMERIC(12, 4)"),
    (pa.run_end_encoded(pa.int32(), pa.int16()), "SMALLINT", "SMALLINT"),
]


@pytest.mark.parametrize(("source", "on_postgres", "on_sqlite"), CREATED, ids=[str(case[0]) for case in CREATED])
def test_a_column_is_created_that_keeps_every_value_of_its_source(
    source: pa.DataType, on_postgres: str, on_sqlite: str
) -> None:
    assert (spelled(source, POSTGRES), spelled(source, SQLITE)) == (on_postgres, on_sqlite)


@pytest.mark.parametrize("dialect", [POSTGRES, SQLITE], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("source", [case[0] for case in CREATED], ids=str)
def test_a_created_column_accepts_the_source_that_it_was_created_for(source: pa.DataType, dialect: sa.Dialect) -> None:
    target = parse_type(spelled(source, dialect), dialect.name)
    assert family(plain(source)) in TYPES[target.kind].accepts | {"null"}


def test_a_duration_is_an_interval_on_postgres_and_refused_by_name_on_sqlite() -> None:
    assert spelled(pa.duration("us"), POSTGRES) == "INTERVAL"
    with pytest.raises(UnsupportedType, match=r"'wait'.*sqlite.*duration\[us\]"):
        created_type("wait", pa.duration("us"), backend_for(SQLITE))


def test_months_days_and_nanoseconds_are_an_interval_on_postgres() -> None:
    assert spelled(pa.month_day_nano_interval(), POSTGRES) == "INTERVAL"


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        (pa.month_day_nano_interval(), SQLITE),
        (pa.opaque(pa.int64(), "geometry", "postgis"), POSTGRES),
        (pa.opaque(pa.int64(), "geometry", "postgis"), SQLITE),
    ],
    ids=["month_day_nano on sqlite", "foreign extension on postgresql", "foreign extension on sqlite"],
)
def test_a_type_that_no_column_can_keep_is_refused_by_name(source: pa.DataType, dialect: sa.Dialect) -> None:
    with pytest.raises(UnsupportedType, match=r"'place'") as refused:
        created_type("place", source, backend_for(dialect))
    assert str(source) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("orders", TableName(None, "orders")),
        ("sales.orders", TableName("sales", "orders")),
        ('sales."odd.name"', TableName("sales", "odd.name")),
        ('"odd.schema".orders', TableName("odd.schema", "orders")),
        ('"say ""hi"""', TableName(None, 'say "hi"')),
        ("Großhandel.Aufträge", TableName("Großhandel", "Aufträge")),
        ("two words", TableName(None, "two words")),
    ],
)
def test_a_table_name_is_split_at_the_dot_outside_quotes(text: str, expected: TableName) -> None:
    assert parse_table_name(text) == expected


@pytest.mark.parametrize("text", ["", ".", ".orders", "sales.", "a.b.c", 'a"b', '""', '"open', 'sales."a"b', 5, None])
def test_a_table_name_that_is_empty_or_ambiguous_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        parse_table_name(text)


def test_a_table_name_prints_with_its_schema() -> None:
    assert [str(TableName(None, "orders")), str(TableName("sales", "orders"))] == ["orders", "sales.orders"]


@pytest.mark.parametrize("name", ["n" * 63, "ä" * 31 + "n"], ids=["ascii", "two bytes each"])
def test_a_name_of_63_bytes_is_accepted_by_postgres(name: str) -> None:
    backend_for(POSTGRES).check_name(name, "column name")


@pytest.mark.parametrize("name", ["n" * 64, "ä" * 32], ids=["ascii", "two bytes each"])
def test_a_name_of_64_bytes_is_refused_where_postgres_would_cut_it(name: str) -> None:
    with pytest.raises(PlanError, match=r"the column name .* has 64 bytes"):
        backend_for(POSTGRES).check_name(name, "column name")
    backend_for(SQLITE).check_name(name, "column name")


@pytest.mark.parametrize("dialect", [POSTGRES, SQLITE])
@pytest.mark.parametrize("name", ["", "a\0b"], ids=["empty", "NUL"])
def test_an_empty_name_and_one_with_nul_are_refused_everywhere(name: str, dialect: sa.Dialect) -> None:
    with pytest.raises(PlanError, match="column name"):
        backend_for(dialect).check_name(name, "column name")


@pytest.mark.parametrize(
    ("column", "required"),
    [
        (Column("c", ColumnType("int4", "integer"), nullable=False), True),
        (Column("c", ColumnType("int4", "integer"), nullable=True), False),
        (Column("c", ColumnType("int4", "integer"), nullable=False, has_default=True), False),
        (Column("c", ColumnType("int4", "integer"), nullable=False, generated=True), False),
    ],
    ids=["not null", "nullable", "default", "generated"],
)
def test_only_a_column_without_null_default_or_generation_is_required(column: Column, required: bool) -> None:
    assert column.required is required


def test_a_column_is_found_by_its_name() -> None:
    first, second = (Column(name, ColumnType("int4", "integer")) for name in ("a", "b"))
    assert TableSchema(TableName(None, "t"), (first, second)).column("b") is second


@pytest.mark.parametrize(
    ("found", "kind", "digits", "sql"),
    [
        (mysql.DATETIME(), "timestamp", 0, "DATETIME"),
        (mysql.DATETIME(fsp=3), "timestamp", 3, "DATETIME(3)"),
        (mysql.TIMESTAMP(fsp=6), "timestamp", 6, "TIMESTAMP(6)"),
        (mysql.TIME(), "time", 0, "TIME"),
    ],
)
def test_a_moment_of_mysql_keeps_no_digits_of_a_second_that_are_not_declared(
    found: Any, kind: str, digits: int, sql: str
) -> None:
    """The server would cut the others without a word."""
    read = type_of(found, mysql.dialect())
    assert (read.kind, read.precision, read.sql) == (kind, digits, sql)
