"""A type of column with its parameters, as databases spell it, and the Arrow types of sources that it meets.

The spelling is the common language: PostgreSQL's catalog, SQLite's declarations and SQLAlchemy's
compiler all name a type by its SQL text, and `parse_type` turns that text into a `ColumnType`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa

from dataloader.conversion import text
from dataloader.conversion.dialects import POSTGRESQL, SqlDialect, dialect_of
from dataloader.conversion.mixed import MixedType, StringType
from dataloader.conversion.types import MONEY_DIGITS, SQLITE_EXACT_DIGITS, TYPES, TypeRow


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
    dialect : SqlDialect
        Whose type it is: the databases differ in NUL characters and years.
    """

    kind: str
    sql: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    labels: tuple[str, ...] = ()
    element: ColumnType | None = None
    dialect: SqlDialect = field(default=POSTGRESQL, compare=False)

    def __str__(self) -> str:
        return self.sql

    @property
    def row(self) -> TypeRow:
        """What all columns of its kind have in common."""
        return TYPES[self.kind]

    @property
    def identity(self) -> str:
        """What tells it apart from other types, however it is spelled, in whichever schema it is found."""
        if self.element is not None:
            return f"{self.element.identity}[]"
        size = ",".join(str(number) for number in (self.precision, self.scale, self.length) if number is not None)
        spelled = self.sql.rpartition(".")[2].strip('"').lower() if TYPES[self.kind].is_named else self.kind
        return f"{spelled}{f'({size})' if size else ''}"

    @property
    def is_limited(self) -> bool:
        """Whether it has a parameter to which the server cuts or rounds a value that it reads from text."""
        return any(one is not None for one in (self.precision, self.scale, self.length))

    def to_text(self, values: pa.Array) -> pa.Array:
        """Converted values as text that the database reads."""
        return (TYPES[self.kind].to_text or text.to_text)(values)


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
    return _parsed(sql, dialect_of(dialect), labels)


def _parsed(sql: str, dialect: SqlDialect, labels: tuple[str, ...] = ()) -> ColumnType:
    text = " ".join(sql.lower().split())
    if labels:
        return ColumnType("enum", sql, labels=labels, dialect=dialect)
    if dialect.has_arrays and text.endswith("[]"):
        return ColumnType("array", sql, element=_parsed(sql.rstrip("[] "), dialect))
    match = _SPELLING.match(text)
    name = text if match is None else match["head"] + (match["tail"] or "")
    args = [int(number) for number in match["args"].split(",")] if match is not None and match["args"] else []
    return (_sqlite_type if dialect.has_affinities else _sql_type)(name, args, sql, dialect)


def _sql_type(name: str, args: list[int], sql: str, dialect: SqlDialect) -> ColumnType:
    if name == "float" and args and args[0] <= 24:
        return ColumnType("float4", sql, dialect=dialect)
    if name == "interval day to second":
        return _with_arguments("interval", args, sql, dialect)
    if name.startswith("interval "):  # year to month and the like: the server cuts what the fields do not hold
        return ColumnType("moments", sql, precision=0, dialect=dialect)
    return _with_arguments(_KINDS.get(name, "other"), args, sql, dialect)


def _with_arguments(kind: str, args: list[int], sql: str, dialect: SqlDialect) -> ColumnType:
    parameters = TYPES[kind].parameters if args else ""
    if parameters == "digits":
        return ColumnType(kind, sql, precision=args[0], scale=args[1] if len(args) > 1 else 0, dialect=dialect)
    if parameters == "seconds":
        return ColumnType(kind, sql, precision=args[0], dialect=dialect)
    if parameters == "characters":
        return ColumnType(kind, sql, length=args[0], dialect=dialect)
    if kind == "money":
        return ColumnType(kind, sql, precision=MONEY_DIGITS, scale=args[0] if args else 2, dialect=dialect)
    if kind == "bpchar" and sql.lower() != "bpchar":
        return ColumnType(kind, sql, length=1, dialect=dialect)
    return ColumnType(kind, sql, dialect=dialect)


def _sqlite_type(name: str, args: list[int], sql: str, dialect: SqlDialect) -> ColumnType:
    """SQLite's own rules: a declared name we write ourselves, else the affinity by substring."""
    unknown = "number" if any(part in name for part in _SQLITE_NUMBERS) else "loose"
    kind = next((kind for part, kind in _SQLITE_AFFINITIES if part in name), unknown)
    if name in _SQLITE_NAMES:
        kind = _SQLITE_NAMES[name]
    elif name.startswith(("datetime", "timestamp")):
        kind = "datetime"
    elif kind == "number" and name in {"numeric", "decimal"} and args and args[0] <= SQLITE_EXACT_DIGITS:
        return _with_arguments("numeric", args, sql, dialect)
    return ColumnType(kind, sql, dialect=dialect)


def arrow_type(target: ColumnType, source: pa.DataType) -> pa.DataType | None:
    """The Arrow type in which `source` travels into `target`, or None if only text can."""
    found = TYPES[target.kind].arrow
    return found(target, source, family(source) or "") if callable(found) else found


_MEMBERS = (
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
    return next((name for test, name in _MEMBERS if test(source)), None)


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
