"""Tables, columns and THE type table: Arrow <-> SQL spelling <-> SQLAlchemy.

The spelling is the common language: PostgreSQL's catalog, SQLite's declarations and SQLAlchemy's
compiler all name a type by its SQL text, and `parse_type` turns that text into a `ColumnType`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dataloader.errors import PlanError, UnsupportedType

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

MICROSECOND = "us"
DECIMAL128_DIGITS = 38
DECIMAL256_DIGITS = 76
SQLITE_EXACT_DIGITS = 15
"""SQLite keeps numbers as float64; https://sqlite.org/datatype3.html promises 15 digits."""
SQLITE_SCHEMA = "main"
"""SQLite's name for the file itself, as against temporary tables and attached files."""
POSTGRES_NAME_BYTES = 63


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a column can hold: a row of the type table with its parameters.

    Attributes
    ----------
    kind : str
        The row of `TYPES`.
    sql : str
        How the database spells the type.
    precision, scale : int or None
        Decimal digits in all and after the point; for times, `precision` is the digits of a second.
    length : int or None
        The most characters that fit.
    """

    kind: str
    sql: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None

    def __str__(self) -> str:
        return self.sql

    @property
    def keeps_nan(self) -> bool:
        """Whether a NaN comes back as one; SQLite would store NULL."""
        return self.kind not in {"number", "real"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table as its catalog describes it."""

    name: str
    type: ColumnType
    nullable: bool = True
    has_default: bool = False
    generated: bool = False

    @property
    def required(self) -> bool:
        """Whether every row must bring a value."""
        return not (self.nullable or self.has_default or self.generated)


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's schema, None for the default one, and name."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema not in {None, SQLITE_SCHEMA} else self.name


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table: its qualified name and its columns.

    Attributes
    ----------
    copy_refused : str or None
        Why COPY cannot write to it, though INSERT can.
    """

    name: TableName
    columns: tuple[Column, ...]
    copy_refused: str | None = None

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One row of the type table.

    Attributes
    ----------
    arrow : pyarrow.DataType or None
        The type that carries the column to the database. None: it depends on the
        column's parameters or on the source, see `carrier`.
    accepts : frozenset of str
        The families of source types whose values can fit, see `family`.
    spellings : tuple of str
        The names of the type in SQL, lower case, without parameters.
    """

    arrow: pa.DataType | None
    accepts: frozenset[str]
    spellings: tuple[str, ...]


def _row(arrow: pa.DataType | None, accepts: str, *spellings: str) -> TypeRow:
    return TypeRow(arrow, frozenset(accepts.split()), spellings)


SCALARS = "bool int float decimal string date time timestamp timestamptz uuid nested"
NUMBERS = "int float decimal string"
TYPES: dict[str, TypeRow] = {
    "bool": _row(pa.bool_(), "bool int string", "boolean", "bool"),
    "int2": _row(pa.int16(), "bool " + NUMBERS, "smallint", "int2", "smallserial", "tinyint"),
    "int4": _row(pa.int32(), "bool " + NUMBERS, "integer", "int4", "int", "serial", "mediumint"),
    "int8": _row(pa.int64(), "bool " + NUMBERS, "bigint", "int8", "bigserial"),
    "float4": _row(pa.float32(), NUMBERS, "real", "float4"),
    "float8": _row(pa.float64(), NUMBERS, "double precision", "float8", "double", "float"),
    "numeric": _row(None, NUMBERS, "numeric", "decimal"),
    "text": _row(pa.string(), SCALARS, "text", "clob", "longtext", "mediumtext"),
    "varchar": _row(pa.string(), SCALARS, "character varying", "varchar"),
    "bpchar": _row(pa.string(), SCALARS, "character", "char", "bpchar"),
    "bytea": _row(pa.binary(), "binary", "bytea", "blob", "longblob", "varbinary"),
    "date": _row(pa.date32(), "date timestamp string", "date"),
    "time": _row(pa.time64(MICROSECOND), "time string", "time", "time without time zone"),
    "timestamp": _row(pa.timestamp(MICROSECOND), "timestamp date string", "timestamp", "timestamp without time zone"),
    "timestamptz": _row(
        pa.timestamp(MICROSECOND, "UTC"), "timestamptz string", "timestamp with time zone", "timestamptz"
    ),
    "datetime": _row(None, "timestamp timestamptz date string", "datetime"),
    "interval": _row(pa.duration(MICROSECOND), "duration", "interval"),
    "uuid": _row(pa.binary(16), "uuid string", "uuid"),
    "json": _row(pa.string(), "string nested", "json"),
    "jsonb": _row(pa.string(), "string nested", "jsonb"),
    "number": _row(None, "bool int float decimal"),
    "real": _row(pa.float64(), NUMBERS),
    "other": _row(pa.string(), "string bool int float decimal date time timestamp timestamptz uuid"),
}
"""The type table. `number` and `real` are SQLite's affinities NUMERIC and REAL; `other` is any type that the
server reads from text."""

_KINDS = {spelling: kind for kind, row in TYPES.items() for spelling in row.spellings}
_SQLITE_NAMES = ("boolean", "bool", "date", "time", "json", "uuid")
_SQLITE_AFFINITIES = (
    ("int", "int8"),
    ("char", "text"),
    ("clob", "text"),
    ("text", "text"),
    ("blob", "bytea"),
    ("real", "real"),
    ("floa", "real"),
    ("doub", "real"),
)
_SPELLING = re.compile(r"^(?P<head>[^()]+?)\s*(?:\((?P<args>[\d\s,-]+)\))?(?P<tail> with(?:out)? time zone)?$")


def parse_type(sql: str, dialect: str) -> ColumnType:
    """Read a type's SQL spelling.

    Parameters
    ----------
    sql : str
        As the catalog or SQLAlchemy's compiler spells it: ``"numeric(12,4)"``, ``"VARCHAR(32)"``.
    dialect : str
        SQLAlchemy's name of the database: ``"postgresql"``, ``"sqlite"``, ...
    """
    match = _SPELLING.match(" ".join(sql.lower().split()))
    if match is None:
        return _sqlite_type(" ".join(sql.lower().split()), [], sql) if dialect == "sqlite" else ColumnType("other", sql)
    name = match["head"] + (match["tail"] or "")
    args = [int(number) for number in match["args"].split(",")] if match["args"] else []
    if dialect == "sqlite":
        return _sqlite_type(name, args, sql)
    if name == "float" and args and args[0] <= 24:
        return ColumnType("float4", sql)
    return _with_arguments(_KINDS.get(name, "other"), args, sql)


def _with_arguments(kind: str, args: list[int], sql: str) -> ColumnType:
    if kind == "numeric" and args:
        return ColumnType(kind, sql, precision=args[0], scale=args[1] if len(args) > 1 else 0)
    if kind in {"time", "timestamp", "timestamptz"} and args:
        return ColumnType(kind, sql, precision=args[0])
    if kind == "interval" and args:
        return ColumnType("other", sql)
    if kind == "varchar" and args:
        return ColumnType(kind, sql, length=args[0])
    if kind == "bpchar":
        return ColumnType(kind, sql, length=args[0] if args else None if sql.lower() == "bpchar" else 1)
    return ColumnType(kind, sql)


def _sqlite_type(name: str, args: list[int], sql: str) -> ColumnType:
    """SQLite's own rules: a declared name we write ourselves, else the affinity by substring."""
    if name in _SQLITE_NAMES:
        return ColumnType(_KINDS[name], sql)
    if name.startswith(("datetime", "timestamp")):
        return ColumnType("datetime", sql)
    for part, kind in _SQLITE_AFFINITIES:
        if part in name:
            return ColumnType(kind, sql)
    if name in {"numeric", "decimal"} and args and args[0] <= SQLITE_EXACT_DIGITS:
        return _with_arguments("numeric", args, sql)
    return ColumnType("number", sql)


def carrier(target: ColumnType, source: pa.DataType) -> pa.DataType | None:
    """The Arrow type that carries `source` into `target`, or None if only text can."""
    if target.kind == "numeric":
        return _numeric_carrier(target, source)
    if target.kind == "number":
        return _number_carrier(source)
    if target.kind == "datetime":
        return pa.timestamp(MICROSECOND, "UTC" if family(source) == "timestamptz" else None)
    if target.kind in {"time", "timestamp", "timestamptz"} and target.precision is not None:
        return _rounded_time(target)
    return None if target.kind == "other" else TYPES[target.kind].arrow


def _numeric_carrier(target: ColumnType, source: pa.DataType) -> pa.DataType | None:
    if target.precision is not None:
        wide = target.precision > DECIMAL128_DIGITS
        return (pa.decimal256 if wide else pa.decimal128)(target.precision, target.scale or 0)
    if pa.types.is_integer(source):
        return pa.decimal128(20, 0)
    if pa.types.is_decimal(source) and source.precision <= DECIMAL128_DIGITS and source.scale >= 0:
        return pa.decimal128(source.precision, source.scale)
    return None


def _number_carrier(source: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(source):
        return pa.float64()
    if pa.types.is_decimal(source):
        return pa.decimal128(SQLITE_EXACT_DIGITS, min(max(source.scale, 0), SQLITE_EXACT_DIGITS))
    return pa.int64()


def _rounded_time(target: ColumnType) -> pa.DataType:
    """A unit no finer than the column's, so that the server has nothing to round."""
    precision = target.precision or 0
    unit = "us" if precision >= 6 else "ms" if precision >= 3 else "s"
    if target.kind == "time":
        return pa.time64(unit) if unit == "us" else pa.time32(unit)
    return pa.timestamp(unit, "UTC" if target.kind == "timestamptz" else None)


_FAMILIES = (
    (pa.types.is_null, "null"),
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
    (pa.types.is_decimal, "decimal"),
    (pa.types.is_string, "string"),
    (pa.types.is_large_string, "string"),
    (pa.types.is_string_view, "string"),
    (pa.types.is_binary, "binary"),
    (pa.types.is_large_binary, "binary"),
    (pa.types.is_binary_view, "binary"),
    (pa.types.is_fixed_size_binary, "binary"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
    (pa.types.is_duration, "duration"),
    (pa.types.is_nested, "nested"),
)


def family(source: pa.DataType) -> str | None:
    """The family of a plain source type, None if it has none."""
    if source.equals(pa.uuid()):
        return "uuid"
    if pa.types.is_timestamp(source):
        return "timestamp" if source.tz is None else "timestamptz"
    return next((name for test, name in _FAMILIES if test(source)), None)


def plain(source: pa.DataType) -> pa.DataType:
    """The type of the values: without dictionary, run-end or storage wrapping.

    An extension type that is not Arrow's own stays: its storage alone would lose its meaning.
    """
    if pa.types.is_dictionary(source) or pa.types.is_run_end_encoded(source):
        return plain(source.value_type)
    if isinstance(source, pa.JsonType):
        return plain(source.storage_type)
    return pa.bool_() if isinstance(source, pa.Bool8Type) else source


_CREATED: dict[str, TypeEngine[Any]] = {
    "null": sa.Text(),
    "bool": sa.Boolean(),
    "string": sa.Text(),
    "binary": sa.LargeBinary(),
    "date": sa.Date(),
    "time": sa.Time(),
    "timestamp": sa.DateTime(),
    "timestamptz": sa.DateTime(timezone=True),
    "duration": sa.Interval(),
    "uuid": sa.Uuid(),
    "nested": sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
}


def created_type(name: str, source: pa.DataType, dialect: Dialect) -> TypeEngine[Any]:
    """The SQLAlchemy type of a column that is created for `source`.

    Raises
    ------
    UnsupportedType
        When the database has no type that keeps the values.
    """
    if isinstance(source, pa.JsonType):
        return _CREATED["nested"]
    source = plain(source)
    kind = family(source)
    if kind == "int":
        return _created_integer(source, dialect)
    if kind == "float":
        return sa.Double() if source.equals(pa.float64()) else sa.REAL()
    if kind == "decimal":
        return _created_decimal(source, dialect)
    if kind is None or (kind == "duration" and dialect.name == "sqlite"):
        hint = "Convert the column first, for example to a number of seconds or to text."
        raise UnsupportedType(f"column {name!r}: {dialect.name} has no type for Arrow's {source}", hint=hint)
    return _CREATED[kind]


def _created_integer(source: pa.DataType, dialect: Dialect) -> TypeEngine[Any]:
    if source.equals(pa.uint64()):
        return sa.BigInteger() if dialect.name == "sqlite" else sa.Numeric(20, 0)
    bits = source.bit_width + (1 if pa.types.is_unsigned_integer(source) else 0)
    return sa.SmallInteger() if bits <= 16 else sa.Integer() if bits <= 32 else sa.BigInteger()


def _created_decimal(source: pa.DataType, dialect: Dialect) -> TypeEngine[Any]:
    precision = max(source.precision - min(source.scale, 0), source.scale)
    if dialect.name == "sqlite" and precision > SQLITE_EXACT_DIGITS:
        return sa.Text()
    return sa.Numeric(precision, max(source.scale, 0))


def check_identifier(name: str, what: str, dialect: str) -> None:
    """Refuse a name that the database would cut or choke on.

    Raises
    ------
    PlanError
        When the name is empty, contains NUL, or is longer than PostgreSQL's 63 bytes.
    """
    if not name:
        raise PlanError(f"the {what} is empty", hint="Give it a name.")
    if "\0" in name:
        raise PlanError(f"the {what} {name!r} contains a NUL character", hint="Remove it from the name.")
    size = len(name.encode(errors="surrogatepass"))
    if dialect == "postgresql" and size > POSTGRES_NAME_BYTES:
        hint = f"PostgreSQL would cut it silently: shorten it to {POSTGRES_NAME_BYTES} bytes."
        raise PlanError(f"the {what} {name!r} has {size} bytes", hint=hint)


_NAME = re.compile(r'^(?:(?P<q1>"(?:[^"]|"")+")|(?P<n1>[^".]*))(?:\.(?:(?P<q2>"(?:[^"]|"")+")|(?P<n2>[^".]*)))?$')


def parse_table_name(table: object) -> TableName:
    """Split ``"orders"``, ``"sales.orders"`` or ``'sales."odd.name"'`` into schema and name.

    Raises
    ------
    PlanError
        When the text is empty or has more than one dot outside double quotes.
    """
    if not isinstance(table, str):
        hint = "Pass its name, like 'orders' or 'sales.orders', or a sqlalchemy.Table."
        raise PlanError(f"the table is a {type(table).__name__}", hint=hint)
    match = _NAME.match(table)
    if match is None:
        hint = 'Write "schema.table", and put a name that contains a dot or a quote in double quotes.'
        raise PlanError(f"the table name {table!r} cannot be read", hint=hint)
    parts = [_unquoted(match[quoted], match[bare]) for quoted, bare in (("q1", "n1"), ("q2", "n2"))]
    first, second = parts
    if not first or second == "":
        raise PlanError(f"the table name {table!r} is empty", hint="Pass a name, like 'orders'.")
    return TableName(None, first) if second is None else TableName(first, second)


def _unquoted(quoted: str | None, bare: str | None) -> str | None:
    return bare if quoted is None else quoted[1:-1].replace('""', '"')
