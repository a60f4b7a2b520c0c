"""THE type table: one row for a kind of column, with all that is particular to it, one for a family of sources.

What happens to a pair of types is in `rules`; a type with its parameters is a `column_types.ColumnType`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from dataloader.conversion import numeric, temporal, text
from dataloader.conversion.casts import Cast, Check, mapped, refuse
from dataloader.conversion.numeric import DECIMAL128_DIGITS

if TYPE_CHECKING:
    from dataloader.conversion.column_types import ColumnType

MICROSECOND = "us"
MONEY_DIGITS = 19
SQLITE_EXACT_DIGITS = 15
"""SQLite keeps numbers as float64; https://sqlite.org/datatype3.html promises 15 digits."""


ArrowType = Callable[["ColumnType", pa.DataType, str], "pa.DataType | None"]
"""Finds an Arrow type from the column, the source's type and its family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow:
    """One row of the type table: what every part of the package needs to know about a kind of column.

    Attributes
    ----------
    arrow : pyarrow.DataType, callable or None
        The Arrow type in which values travel to the database, or what finds it from the column and the source.
        None: they travel as text.
    accepts : frozenset of str
        The families of source types whose values can fit, see `family`.
    spellings : tuple of str
        The names of the type in SQL, lower case, without parameters.
    parameters : str
        What the numbers behind its name count: ``digits``, ``seconds`` (the digits of one) or ``characters``.
    checks : str
        In words, what is checked in values that may not fit; empty: what their family's row says.
    always_checked : bool
        Whether even values of the same Arrow type may not fit.
    from_text : Cast or None
        How a text is read, where it is not by the Arrow type alone.
    to_text : callable or None
        How a value is written, where it is not by the Arrow type alone.
    text_checks : tuple of Check
        Asked of texts from the source.
    json_checks, json_checks_by_affinity : tuple of Check
        Asked of texts from the source and of lists and structs as JSON.
    value_checks : tuple of Check
        Asked of the Arrow values.
    read_checks, element_checks : tuple of Check
        Asked of texts that the server reads into it, and into an array of it.
    keeps_nan : bool
        Whether a NaN comes back as one; SQLite would store NULL.
    keeps_json : bool
        Whether it holds a document.
    keeps_kinds : bool
        Whether it stores values of several kinds, each as its own; SQLite's affinities do.
    reads_numbers : bool
        Whether a text in it is a number.
    rounds_text : bool
        Whether the server rounds or cuts in silence what it reads from text, where the column has a precision.
    read_by_locale : bool
        Whether the server's locale decides how a text is read.
    is_named : bool
        Whether the spelling tells types of this kind apart.
    is_text : bool
        Whether PostgreSQL stores a text as it is.
    has_own_operators : bool
        Whether the type may be an extension's, with operators in a schema of its own.
    rewritten : str
        How the server's own text of a value is asked for that it reads in several forms: ``whole`` or ``in parts``.
    delimiter : str
        What stands between the elements of an array of it.
    has_zone : bool
        Whether the zone of the session decides which moment is meant by a text that names none.
    equal_text : (str, str) or None
        A regular expression and its replacement: they make one text of values that the database finds equal.
    equal_by_text : bool
        Whether the database finds two values equal just where those texts are the same.
    bind : sqlalchemy.types.TypeEngine or None
        For Core's INSERT: a type whose Python values every driver stores unchanged.
    elsewhere : sqlalchemy.types.TypeEngine or None
        What a copy in another kind of database has, where the Arrow type of its values says too little.
    copy_arrow : pyarrow.DataType or None
        The Arrow type of its field in a binary COPY, where it is another one; decimals become a count of their unit.
    copy_type : str
        pgpq's name of the PostgreSQL type, where it is not that of the Arrow type.
    """

    arrow: pa.DataType | ArrowType | None
    accepts: frozenset[str]
    spellings: tuple[str, ...]
    parameters: str = ""
    checks: str = ""
    always_checked: bool = False
    from_text: Cast | None = None
    to_text: Callable[[pa.Array], pa.Array] | None = None
    text_checks: tuple[Check, ...] = ()
    json_checks: tuple[Check, ...] = ()
    json_checks_by_affinity: tuple[Check, ...] = ()
    value_checks: tuple[Check, ...] = ()
    read_checks: tuple[Check, ...] = ()
    element_checks: tuple[Check, ...] = ()
    keeps_nan: bool = True
    keeps_json: bool = False
    keeps_kinds: bool = False
    reads_numbers: bool = False
    rounds_text: bool = False
    read_by_locale: bool = False
    is_named: bool = False
    is_text: bool = False
    has_own_operators: bool = False
    rewritten: str = ""
    has_zone: bool = False
    delimiter: str = ","
    equal_text: tuple[str, str] | None = None
    equal_by_text: bool = True
    bind: TypeEngine[Any] | None = None
    elsewhere: TypeEngine[Any] | None = None
    copy_arrow: pa.DataType | None = None
    copy_type: str = ""


def _decimal_type(target: ColumnType, source: pa.DataType, _offered: str) -> pa.DataType | None:
    if target.precision is not None:
        wide = target.precision > DECIMAL128_DIGITS
        return (pa.decimal256 if wide else pa.decimal128)(target.precision, target.scale or 0)
    if pa.types.is_integer(source):
        return pa.decimal128(20, 0)
    if pa.types.is_decimal(source) and source.precision <= DECIMAL128_DIGITS and source.scale >= 0:
        return pa.decimal128(source.precision, source.scale)
    return None


def _time_unit(target: ColumnType) -> str:
    """A unit no finer than the column's, so that the server has nothing to round."""
    precision = 6 if target.precision is None else target.precision
    return MICROSECOND if precision >= 6 else "ms" if precision >= 3 else "s"


def _time_type(target: ColumnType, _source: pa.DataType, _offered: str) -> pa.DataType:
    unit = _time_unit(target)
    return pa.time64(unit) if unit == MICROSECOND else pa.time32(unit)


def _timestamp_type(target: ColumnType, _source: pa.DataType, _offered: str) -> pa.DataType:
    return pa.timestamp(_time_unit(target))


def _timestamptz_type(target: ColumnType, _source: pa.DataType, _offered: str) -> pa.DataType:
    return pa.timestamp(_time_unit(target), "UTC")


def _interval_type(target: ColumnType, source: pa.DataType, _offered: str) -> pa.DataType | None:
    return pa.duration(_time_unit(target)) if pa.types.is_duration(source) else None


def _datetime_type(_target: ColumnType, _source: pa.DataType, offered: str) -> pa.DataType:
    return (
        pa.string() if offered == "string" else pa.timestamp(MICROSECOND, "UTC" if offered == "timestamptz" else None)
    )


def _affinity_type(target: ColumnType, source: pa.DataType, offered: str) -> pa.DataType:
    if pa.types.is_decimal(source):
        return pa.decimal128(SQLITE_EXACT_DIGITS, min(max(source.scale, 0), SQLITE_EXACT_DIGITS))
    return _untyped(target, source, offered)


def _untyped(_target: ColumnType, _source: pa.DataType, offered: str) -> pa.DataType:
    return _STORAGE_CLASSES.get(offered, pa.string())


_STORAGE_CLASSES = {
    **dict.fromkeys(("null", "bool", "int"), pa.int64()),
    "float": pa.float64(),
    "binary": pa.binary(),
}
"""How SQLite stores a value in a column that does not say it."""


_PAIRS = [rf"[0-9a-fA-F]{{2}}{separator}?" for separator in (":", "-", r"\.")]
_MACADDR8 = rf"^\s*(?:{'|'.join(f'(?:{pair}){{{many}}}[0-9a-fA-F]{{2}}' for pair in _PAIRS for many in (5, 7))})\s*$"
"""https://www.postgresql.org/docs/current/datatype-net-types.html: separators between pairs, all the same."""


def _macaddr8(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """PostgreSQL puts FF:FE into the middle of an address of six bytes."""
    refuse("syntax", pc.invert(pc.match_substring_regex(values, _MACADDR8)))
    digits = pc.replace_substring_regex(values.cast(pa.string()), r"[\s:.-]", "")
    return text.digits_to_bytes(pc.replace_substring_regex(digits, r"^(.{6})(.{6})$", r"\1fffe\2"), wanted)


def _macaddr8_text(values: pa.Array) -> pa.Array:
    return mapped(values, lambda one: one.hex(":"))


def _row(arrow: pa.DataType | ArrowType | None, accepts: str, *spellings: str, **particulars: Any) -> TypeRow:
    return TypeRow(arrow=arrow, accepts=frozenset(accepts.split()), spellings=spellings, **particulars)


SCALARS = "bool int float decimal string date time timestamp timestamptz uuid list nested"
NUMBERS = "int float decimal string"
_READ = "read by the server"
_GEOMETRIC = ("point", "line", "lseg", "path", "polygon", "circle")
_READ_GEOMETRY: dict[str, Any] = {
    "checks": _READ + "; digits",
    "always_checked": True,
    "read_checks": (numeric.check_float_digits,),
    "is_named": True,
    "equal_by_text": False,
    "rewritten": "whole",
}
_MOMENTS = ("time with time zone", "timetz", "tsrange", "tstzrange", "tsmultirange", "tstzmultirange")
_SECONDS: dict[str, Any] = {"parameters": "seconds", "element_checks": (temporal.check_microseconds,)}
_FLOAT: dict[str, Any] = {"element_checks": (numeric.check_float_digits,)}
_TEXT: dict[str, Any] = {"is_text": True}
_NO_ZEROS = (r"(\.\d*?[1-9])0+$|\.0+$", r"\1")
_AFFINITY: dict[str, Any] = {"keeps_kinds": True, "keeps_nan": False}
TYPES: dict[str, TypeRow] = {
    "bool": _row(pa.bool_(), "bool int string", "boolean", "bool", bind=sa.Boolean()),
    "int2": _row(pa.int16(), "bool " + NUMBERS, "smallint", "int2", "smallserial", "tinyint", bind=sa.SmallInteger()),
    "int4": _row(pa.int32(), "bool " + NUMBERS, "integer", "int4", "int", "serial", "mediumint", bind=sa.Integer()),
    "int8": _row(pa.int64(), "bool " + NUMBERS, "bigint", "int8", "bigserial", bind=sa.BigInteger()),
    "float4": _row(pa.float32(), NUMBERS, "real", "float4", bind=sa.REAL(), **_FLOAT),
    "float8": _row(pa.float64(), NUMBERS, "double precision", "float8", "double", "float", bind=sa.Double(), **_FLOAT),
    "numeric": _row(
        _decimal_type,
        NUMBERS,
        "numeric",
        "decimal",
        parameters="digits",
        checks="range, digits",
        equal_text=_NO_ZEROS,
        bind=sa.Numeric(),
        elsewhere=sa.Numeric(),
    ),
    "money": _row(
        _decimal_type,
        "int decimal float string",
        "money",
        checks="range, digits",
        always_checked=True,
        value_checks=(numeric.check_money,),
        read_by_locale=True,
        copy_arrow=pa.int64(),
    ),
    "text": _row(pa.string(), SCALARS, "text", "clob", "longtext", "mediumtext", checks="NUL", **_TEXT),
    "citext": _row(pa.string(), SCALARS, "citext", checks="NUL", has_own_operators=True, equal_by_text=False, **_TEXT),
    "varchar": _row(
        pa.string(),
        SCALARS,
        "character varying",
        "varchar",
        parameters="characters",
        checks="characters, NUL",
        **_TEXT,
        elsewhere=sa.String(),
    ),
    "bpchar": _row(
        pa.string(),
        SCALARS,
        "character",
        "char",
        "bpchar",
        parameters="characters",
        checks="characters, NUL",
        equal_text=(" +$", ""),
        **_TEXT,
    ),
    "bytea": _row(pa.binary(), "binary string", "bytea", "blob", "longblob", "varbinary", bind=sa.LargeBinary()),
    "date": _row(pa.date32(), "date timestamp string", "date", bind=sa.Date()),
    "time": _row(
        _time_type, "time string", "time", "time without time zone", always_checked=True, bind=sa.Time(), **_SECONDS
    ),
    "timestamp": _row(
        _timestamp_type,
        "timestamp timestamptz date string",
        "timestamp",
        "timestamp without time zone",
        **_SECONDS,
    ),
    "timestamptz": _row(
        _timestamptz_type, "timestamptz string", "timestamp with time zone", "timestamptz", has_zone=True, **_SECONDS
    ),
    "datetime": _row(_datetime_type, "timestamp timestamptz date string", "datetime", always_checked=True),
    "interval": _row(
        _interval_type,
        "duration interval string",
        "interval",
        parameters="seconds",
        read_checks=(temporal.check_microseconds,),
        rounds_text=True,
        equal_by_text=False,  # a day is 24 hours
        rewritten="in parts",
    ),
    "uuid": _row(
        pa.binary(16),
        "uuid string",
        "uuid",
        from_text=text.text_to_uuid,
        to_text=text.bytes_to_uuid,
        elsewhere=sa.UUID(),
    ),
    "macaddr8": _row(pa.binary(8), "string", "macaddr8", checks="syntax", from_text=_macaddr8, to_text=_macaddr8_text),
    "json": _row(
        pa.string(),
        "string list nested",
        "json",
        always_checked=True,
        text_checks=(text.check_json,),
        json_checks_by_affinity=(text.check_numbers_in_json,),
        keeps_json=True,
        elsewhere=sa.JSON(),
    ),
    "jsonb": _row(
        pa.string(),
        "string list nested",
        "jsonb",
        always_checked=True,
        text_checks=(text.check_unique_keys,),
        json_checks=(text.check_jsonb,),
        keeps_json=True,
        equal_by_text=False,
        copy_type="Jsonb",
        elsewhere=sa.JSON(),
    ),
    "enum": _row(pa.string(), "string", checks="labels", always_checked=True, is_named=True),
    "xml": _row(pa.string(), "string", "xml", checks=_READ, always_checked=True),
    "array": _row(None, "list string", checks=_READ, always_checked=True, equal_by_text=False),
    "geometric": _row(None, "string", *_GEOMETRIC, **_READ_GEOMETRY),
    "box": _row(None, "string", "box", delimiter=";", **_READ_GEOMETRY),
    "moments": _row(
        None,
        "string",
        *_MOMENTS,
        parameters="seconds",
        checks=_READ + "; nanoseconds",
        always_checked=True,
        read_checks=(temporal.check_microseconds,),
        rounds_text=True,
        is_named=True,
        equal_by_text=False,
        rewritten="whole",
    ),
    "number": _row(
        _affinity_type,
        "bool " + NUMBERS,
        checks="range, digits, NaN",
        from_text=text.text_to_number,
        reads_numbers=True,
        equal_text=_NO_ZEROS,
        **_AFFINITY,
        elsewhere=sa.Numeric(),
    ),
    "loose": _row(
        _affinity_type,
        SCALARS + " binary",
        checks="range, digits, NaN",
        from_text=text.canonical_text,
        equal_by_text=False,
        **_AFFINITY,
    ),
    "any": _row(_untyped, SCALARS + " binary", checks="range, NaN", equal_by_text=False, **_AFFINITY),
    "real": _row(pa.float64(), NUMBERS, checks="digits, NaN", keeps_nan=False),
    "other": _row(
        None,
        "string bool int float decimal date time timestamp timestamptz uuid",
        checks=_READ,
        always_checked=True,
        is_named=True,
        has_own_operators=True,
        equal_by_text=False,
        rewritten="whole",
    ),
}
"""The type table. `number` and `real` are SQLite's affinities NUMERIC and REAL; `loose` is NUMERIC under a name that
does not speak of numbers, and `any` no affinity: they keep what they are given, `loose` but for texts that look like
numbers. `moments` are types in which the server reads times from text; `other` is any type that the server reads from
text."""

CUT_IN_SILENCE: dict[str, tuple[Check, ...]] = {
    "name": (text.check_bytes(63),),
    '"char"': (text.check_bytes(1),),
    **dict.fromkeys(("oid", "xid", "cid"), (text.check_not_negative,)),
}
"""PostgreSQL's own types that cut a text, or take a negative number for a large one."""


@dataclass(frozen=True, slots=True)
class Family:
    """Arrow types of one meaning.

    Attributes
    ----------
    checks : str
        In words, what is checked in its values where the column's row does not say it.
    reason : str
        Why a value is refused where Arrow's cast fails and does not say why.
    created : sqlalchemy.types.TypeEngine or None
        What a column is created as; None: it depends on the database, or on more than the family.
    """

    checks: str = ""
    reason: str = "range"
    created: TypeEngine[Any] | None = None


_TIMES = "range, nanoseconds"
FAMILIES = {
    "null": Family(created=sa.Text()),
    "bool": Family(created=sa.Boolean()),
    "int": Family("range"),
    "float": Family("fraction, range, NaN"),
    "decimal": Family("fraction, range, digits", "digits"),
    "string": Family("syntax, range, digits", created=sa.Text()),
    "binary": Family(reason="encoding", created=sa.LargeBinary()),
    "date": Family("range", created=sa.Date()),
    "time": Family(_TIMES, created=sa.Time()),
    "timestamp": Family(_TIMES, created=sa.DateTime()),
    "timestamptz": Family(_TIMES, created=sa.DateTime(timezone=True)),
    "duration": Family("nanoseconds", created=sa.Interval()),
    "interval": Family(created=sa.Interval()),
    "uuid": Family(created=sa.Uuid()),
    "nested": Family(reason="syntax"),
    "list": Family(reason="syntax"),
}
