"""THE type table: which Arrow types fit which column types, and in which Arrow type they travel there.

The spelling is the common language: PostgreSQL's catalog, SQLite's declarations and SQLAlchemy's
compiler all name a type by its SQL text, and `parse_type` turns that text into a `ColumnType`.
What happens in each cell of the table is in `verdicts`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa

from dataloader.conversion.mixed import MixedType, StringType

MICROSECOND = "us"
DECIMAL128_DIGITS = 38
DECIMAL256_DIGITS = 76
MONEY_DIGITS = 19
SQLITE_EXACT_DIGITS = 15
"""SQLite keeps numbers as float64; https://sqlite.org/datatype3.html promises 15 digits."""


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
    labels : tuple of str
        The values of an enum.
    element : ColumnType or None
        The type of an array's elements.
    dialect : str
        Whose type it is: the databases differ in NaN, NUL characters and years.
    """

    kind: str
    sql: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    labels: tuple[str, ...] = ()
    element: ColumnType | None = None
    dialect: str = field(default="postgresql", compare=False)

    def __str__(self) -> str:
        return self.sql

    @property
    def identity(self) -> str:
        """What tells it apart from other types, however it is spelled, in whichever schema it is found."""
        if self.element is not None:
            return f"{self.element.identity}[]"
        size = ",".join(str(number) for number in (self.precision, self.scale, self.length) if number is not None)
        is_named = self.kind in {"other", "enum", "geometric", "moments"}
        spelled = self.sql.rpartition(".")[2].strip('"').lower() if is_named else self.kind
        return f"{spelled}{f'({size})' if size else ''}"

    @property
    def keeps_nan(self) -> bool:
        """Whether a NaN comes back as one; SQLite would store NULL."""
        return self.kind not in {"number", "loose", "any", "real"}

    @property
    def keeps_nul(self) -> bool:
        """Whether a text may contain the character U+0000."""
        return self.dialect != "postgresql"

    @property
    def is_limited(self) -> bool:
        """Whether it has a parameter to which the server cuts or rounds a value that it reads from text."""
        return any(one is not None for one in (self.precision, self.scale, self.length))


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


SCALARS = "bool int float decimal string date time timestamp timestamptz uuid list nested"
NUMBERS = "int float decimal string"
_GEOMETRIC = ("point", "line", "lseg", "box", "path", "polygon", "circle")
_MOMENTS = ("time with time zone", "timetz", "tsrange", "tstzrange", "tsmultirange", "tstzmultirange")
TYPES: dict[str, TypeRow] = {
    "bool": _row(pa.bool_(), "bool int string", "boolean", "bool"),
    "int2": _row(pa.int16(), "bool " + NUMBERS, "smallint", "int2", "smallserial", "tinyint"),
    "int4": _row(pa.int32(), "bool " + NUMBERS, "integer", "int4", "int", "serial", "mediumint"),
    "int8": _row(pa.int64(), "bool " + NUMBERS, "bigint", "int8", "bigserial"),
    "float4": _row(pa.float32(), NUMBERS, "real", "float4"),
    "float8": _row(pa.float64(), NUMBERS, "double precision", "float8", "double", "float"),
    "numeric": _row(None, NUMBERS, "numeric", "decimal"),
    "money": _row(None, "int decimal float string", "money"),
    "text": _row(pa.string(), SCALARS, "text", "citext", "clob", "longtext", "mediumtext"),
    "varchar": _row(pa.string(), SCALARS, "character varying", "varchar"),
    "bpchar": _row(pa.string(), SCALARS, "character", "char", "bpchar"),
    "bytea": _row(pa.binary(), "binary string", "bytea", "blob", "longblob", "varbinary"),
    "date": _row(pa.date32(), "date timestamp string", "date"),
    "time": _row(pa.time64(MICROSECOND), "time string", "time", "time without time zone"),
    "timestamp": _row(
        pa.timestamp(MICROSECOND),
        "timestamp timestamptz date string",
        "timestamp",
        "timestamp without time zone",
    ),
    "timestamptz": _row(
        pa.timestamp(MICROSECOND, "UTC"), "timestamptz string", "timestamp with time zone", "timestamptz"
    ),
    "datetime": _row(None, "timestamp timestamptz date string", "datetime"),
    "interval": _row(None, "duration interval string", "interval"),
    "uuid": _row(pa.binary(16), "uuid string", "uuid"),
    "json": _row(pa.string(), "string list nested", "json"),
    "jsonb": _row(pa.string(), "string list nested", "jsonb"),
    "enum": _row(pa.string(), "string"),
    "xml": _row(pa.string(), "string", "xml"),
    "array": _row(None, "list string"),
    "geometric": _row(None, "string", *_GEOMETRIC),
    "moments": _row(None, "string", *_MOMENTS),
    "number": _row(None, "bool " + NUMBERS),
    "loose": _row(None, SCALARS + " binary"),
    "any": _row(None, SCALARS + " binary"),
    "real": _row(pa.float64(), NUMBERS),
    "other": _row(None, "string bool int float decimal date time timestamp timestamptz uuid"),
}
"""The type table. `number` and `real` are SQLite's affinities NUMERIC and REAL; `loose` is NUMERIC under a name that
does not speak of numbers, and `any` no affinity: they keep what they are given, `loose` but for texts that look like
numbers. `moments` are types in which the server reads times from text; `other` is any type that the server reads from
text."""

_KINDS = {spelling: kind for kind, row in TYPES.items() for spelling in row.spellings}
_SQLITE_NAMES = {
    **{name: _KINDS[name] for name in ("boolean", "bool", "date", "time", "json", "uuid")},
    "jsonb": "json",
    "": "any",
}
_SQLITE_NUMBERS = ("num", "dec", "money", "currency", "fixed")
"""Parts of the names by which people mean numbers, without saying INT or REAL."""
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


def parse_type(sql: str, dialect: str, labels: tuple[str, ...] = ()) -> ColumnType:
    """Read a type's SQL spelling.

    Parameters
    ----------
    sql : str
        As the catalog or SQLAlchemy's compiler spells it: ``"numeric(12,4)"``, ``"VARCHAR(32)"``.
    dialect : str
        SQLAlchemy's name of the database: ``"postgresql"``, ``"sqlite"``, ...
    labels : tuple of str
        An enum's values, as the catalog lists them.
    """
    text = " ".join(sql.lower().split())
    if labels:
        return ColumnType("enum", sql, labels=labels, dialect=dialect)
    if dialect == "postgresql" and text.endswith("[]"):
        return ColumnType("array", sql, element=parse_type(sql.rstrip("[] "), dialect))
    match = _SPELLING.match(text)
    name = text if match is None else match["head"] + (match["tail"] or "")
    args = [int(number) for number in match["args"].split(",")] if match is not None and match["args"] else []
    return _sqlite_type(name, args, sql) if dialect == "sqlite" else _sql_type(name, args, sql, dialect)


def _sql_type(name: str, args: list[int], sql: str, dialect: str) -> ColumnType:
    if name == "float" and args and args[0] <= 24:
        return ColumnType("float4", sql, dialect=dialect)
    if name == "interval day to second":
        return _with_arguments("interval", args, sql, dialect)
    if name.startswith("interval "):  # year to month and the like: the server cuts what the fields do not hold
        return ColumnType("moments", sql, precision=0, dialect=dialect)
    return _with_arguments(_KINDS.get(name, "other"), args, sql, dialect)


def _with_arguments(kind: str, args: list[int], sql: str, dialect: str) -> ColumnType:
    if kind == "numeric" and args:
        return ColumnType(kind, sql, precision=args[0], scale=args[1] if len(args) > 1 else 0, dialect=dialect)
    if kind == "money":
        return ColumnType(kind, sql, precision=MONEY_DIGITS, scale=args[0] if args else 2, dialect=dialect)
    if kind in {"time", "timestamp", "timestamptz", "interval", "moments"} and args:
        return ColumnType(kind, sql, precision=args[0], dialect=dialect)
    if kind == "varchar" and args:
        return ColumnType(kind, sql, length=args[0], dialect=dialect)
    if kind == "bpchar":
        length = args[0] if args else None if sql.lower() == "bpchar" else 1
        return ColumnType(kind, sql, length=length, dialect=dialect)
    return ColumnType(kind, sql, dialect=dialect)


def _sqlite_type(name: str, args: list[int], sql: str) -> ColumnType:
    """SQLite's own rules: a declared name we write ourselves, else the affinity by substring."""
    unknown = "number" if any(part in name for part in _SQLITE_NUMBERS) else "loose"
    kind = next((kind for part, kind in _SQLITE_AFFINITIES if part in name), unknown)
    if name in _SQLITE_NAMES:
        kind = _SQLITE_NAMES[name]
    elif name.startswith(("datetime", "timestamp")):
        kind = "datetime"
    elif kind == "number" and name in {"numeric", "decimal"} and args and args[0] <= SQLITE_EXACT_DIGITS:
        return _with_arguments("numeric", args, sql, "sqlite")
    return ColumnType(kind, sql, dialect="sqlite")


def carrier(target: ColumnType, source: pa.DataType) -> pa.DataType | None:
    """The Arrow type that carries `source` into `target`, or None if only text can."""
    if target.kind in {"numeric", "money"}:
        return _numeric_carrier(target, source)
    if target.kind in {"number", "loose", "any", "datetime"}:
        return _sqlite_carrier(target, source)
    is_time = target.kind in {"time", "timestamp", "timestamptz"} and target.precision is not None
    if is_time or (target.kind == "interval" and pa.types.is_duration(source)):
        return _rounded_time(target)
    return TYPES[target.kind].arrow


def _numeric_carrier(target: ColumnType, source: pa.DataType) -> pa.DataType | None:
    if target.precision is not None:
        wide = target.precision > DECIMAL128_DIGITS
        return (pa.decimal256 if wide else pa.decimal128)(target.precision, target.scale or 0)
    if pa.types.is_integer(source):
        return pa.decimal128(20, 0)
    if pa.types.is_decimal(source) and source.precision <= DECIMAL128_DIGITS and source.scale >= 0:
        return pa.decimal128(source.precision, source.scale)
    return None


def _sqlite_carrier(target: ColumnType, source: pa.DataType) -> pa.DataType:
    offered = family(source)
    if target.kind == "datetime" and offered != "string":
        return pa.timestamp(MICROSECOND, "UTC" if offered == "timestamptz" else None)
    if offered == "decimal" and target.kind != "any":
        return pa.decimal128(SQLITE_EXACT_DIGITS, min(max(source.scale, 0), SQLITE_EXACT_DIGITS))
    return _SQLITE_CARRIERS.get(offered or "", pa.string())


_SQLITE_CARRIERS = {
    **dict.fromkeys(("null", "bool", "int"), pa.int64()),
    "float": pa.float64(),
    "binary": pa.binary(),
}


def _rounded_time(target: ColumnType) -> pa.DataType:
    """A unit no finer than the column's, so that the server has nothing to round."""
    precision = 6 if target.precision is None else target.precision
    unit = "us" if precision >= 6 else "ms" if precision >= 3 else "s"
    if target.kind == "interval":
        return pa.duration(unit)
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
    (pa.types.is_interval, "interval"),
    (pa.types.is_struct, "nested"),
    (pa.types.is_map, "nested"),
    (pa.types.is_nested, "list"),
)


def family(source: pa.DataType) -> str | None:
    """The family of a plain source type, None if it has none."""
    if source.equals(pa.uuid()):
        return "uuid"
    if pa.types.is_union(source):
        return None
    if pa.types.is_timestamp(source):
        return "timestamp" if source.tz is None else "timestamptz"
    return next((name for test, name in _FAMILIES if test(source)), None)


def plain(source: pa.DataType) -> pa.DataType:
    """The type of the values: without dictionary, run-end or storage wrapping.

    An extension type that is not Arrow's own stays: its storage alone would lose its meaning.
    """
    if pa.types.is_dictionary(source) or pa.types.is_run_end_encoded(source):
        return plain(source.value_type)
    if isinstance(source, MixedType):
        return plain(source.whole)
    if isinstance(source, (pa.JsonType, StringType)):
        return plain(source.storage_type)
    return pa.bool_() if isinstance(source, pa.Bool8Type) else source
