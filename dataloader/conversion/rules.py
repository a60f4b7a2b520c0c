"""What happens to a source type in a column type: exact, checked, lossy or impossible, and how.

`cell` is one cell of the type table; `docs/types.md` shows them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from dataloader.conversion.inference import SPELLED
from dataloader.conversion.mixed import MixedType
from dataloader.conversion.types import DECIMAL256_DIGITS, TYPES, ColumnType, carrier, family, plain
from dataloader.errors import UnsafeCast, UnsupportedType


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the type table: what happens to the values of a source type in a column type.

    Attributes
    ----------
    verdict : str
        ``exact``: every value fits. ``checked``: each value is looked at, and refused if it would change.
        ``lossy``: something is always lost. ``impossible``: no value fits.
    how : str
        What is looked at, or how the value is made.
    loses : str or None
        What ``casts="lossy"`` gives up; None: nothing, it refuses the same values as ``exact``.
    """

    verdict: str
    how: str = ""
    loses: str | None = None


IMPOSSIBLE = Cell("impossible")


def cell(source: pa.DataType, target: ColumnType) -> Cell:
    """Look up what happens to values of the plain type `source` in a column of type `target`."""
    offered = family(source)
    if offered == "null":
        return Cell("exact", "only NULL")
    if offered not in TYPES[target.kind].accepts or not _is_storable(source, target):
        return IMPOSSIBLE
    chosen = carrier(target, source) or pa.string()
    if keeps_every_value(source, chosen, target):
        return Cell("exact", _HOW.get((offered, target.kind), ""))
    pair = (offered, target.kind)
    if pair == ("timestamptz", "timestamp"):
        return Cell("lossy", "range, nanoseconds", "the time zone: UTC's clock is kept")
    if offered == "string" and _is_rounded_by_the_server(target):
        return Cell("lossy", "read by the server", "what the server rounds or cuts when it reads the text")
    how = _HOW.get(pair) or _HOW_OF_KIND.get(target.kind) or _HOW_OF_FAMILY.get(offered or "", "")
    return Cell("checked", how, _LOSES.get((offered or "", family(chosen) or "")))


def _is_storable(source: pa.DataType, target: ColumnType) -> bool:
    if target.kind == "array" and family(source) == "list":
        assert target.element is not None
        element = plain(source.value_type)
        inner = target if family(element) == "list" else target.element
        return cell(element, inner).verdict in {"exact", "checked"}
    precision, scale = target.precision or 0, target.scale or 0
    return precision <= DECIMAL256_DIGITS and 0 <= scale <= max(precision, 0)


def _is_rounded_by_the_server(target: ColumnType) -> bool:
    """Whether PostgreSQL's reading of text rounds or cuts in silence what does not fit."""
    element = target.element
    limited = element is not None and (element.is_limited or element.kind == "money")
    return limited or (target.kind in {"interval", "moments"} and target.is_limited)


def keeps_every_value(source: pa.DataType, chosen: pa.DataType, target: ColumnType) -> bool:
    """Whether no value of `source` can be refused by `chosen`, so that nothing needs a look."""
    if target.kind in _ALWAYS_CHECKED or target.length is not None:
        return False
    if family(source) == "string" and target.kind in {"number", "loose"}:
        return False
    if pa.types.is_date(chosen) or pa.types.is_timestamp(chosen):
        return False
    if pa.types.is_floating(chosen) and not target.keeps_nan:
        return False
    if pa.types.is_string(chosen) and family(source) in {"string", "list", "nested"}:
        return family(source) == "string" and target.keeps_nul
    return source.equals(chosen) or _widens(source, chosen)


_ALWAYS_CHECKED = (
    "other",
    "enum",
    "xml",
    "array",
    "geometric",
    "moments",
    "json",
    "jsonb",
    "datetime",
    "time",
    "money",
)


def _widens(source: pa.DataType, chosen: pa.DataType) -> bool:
    if (family(source), family(chosen)) in _ALWAYS_FIT:
        return True
    if family(source) != family(chosen):
        return pa.types.is_decimal(chosen) and _fits_decimal(source, chosen)
    return _WIDENS.get(family(source) or "", _never)(source, chosen)


def _never(_source: pa.DataType, _chosen: pa.DataType) -> bool:
    return False


def _always(_source: pa.DataType, _chosen: pa.DataType) -> bool:
    return True


def _fits_integer(source: pa.DataType, chosen: pa.DataType) -> bool:
    return bool(source.bit_width + pa.types.is_unsigned_integer(source) <= chosen.bit_width)


def _fits_float(source: pa.DataType, chosen: pa.DataType) -> bool:
    return bool(source.bit_width <= chosen.bit_width)


def _fits_decimal(source: pa.DataType, chosen: pa.DataType) -> bool:
    if pa.types.is_integer(source):
        return bool(chosen.precision - chosen.scale >= _INTEGER_DIGITS[source.bit_width])
    if not pa.types.is_decimal(source) or source.scale > chosen.scale:
        return False
    return bool(source.precision - source.scale <= chosen.precision - chosen.scale)


_SHOWN = ("bool", "int", "float", "decimal", "uuid")
_ALWAYS_FIT = {("bool", "int"), ("uuid", "binary"), *((shown, "string") for shown in _SHOWN)}
_INTEGER_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
_WIDENS: dict[str, Callable[[pa.DataType, pa.DataType], bool]] = {
    "int": _fits_integer,
    "float": _fits_float,
    "decimal": _fits_decimal,
    "string": _always,
    "binary": _always,
}
"""Within a family of Arrow types: when the second holds every value of the first."""

_FRACTIONS = "digits after the point"
_DIGITS = "digits that the column does not keep"
_SECONDS = "fractions of a second that the column does not keep"
_LOSES = {
    ("float", "int"): _FRACTIONS,
    ("decimal", "int"): _FRACTIONS,
    ("float", "decimal"): _DIGITS,
    ("decimal", "decimal"): _DIGITS,
    ("string", "decimal"): _DIGITS,
    ("float", "float"): _DIGITS,
    ("decimal", "float"): _DIGITS,
    ("string", "float"): _DIGITS,
    ("int", "float"): _DIGITS,
    ("timestamp", "date"): "the time of day",
    ("timestamp", "timestamp"): _SECONDS,
    ("timestamptz", "timestamptz"): _SECONDS,
    ("time", "time"): _SECONDS,
    ("duration", "duration"): _SECONDS,
}
"""What casts="lossy" gives up, by family of the source and of the carrier."""

_READ = "read by the server"
_HOW = {
    ("bool", "int2"): "0 and 1",
    ("bool", "int4"): "0 and 1",
    ("bool", "int8"): "0 and 1",
    ("int", "bool"): "0 and 1 only",
    ("int", "float4"): "digits",
    ("int", "float8"): "digits",
    ("float", "float4"): "digits, range",
    ("decimal", "float4"): "digits, range",
    ("decimal", "float8"): "digits, range",
    ("string", "bool"): "true, false, 1, 0",
    ("float", "numeric"): "shortest decimal form; range, digits, NaN",
    ("timestamp", "date"): "midnight only, range",
    ("string", "uuid"): "syntax",
    ("string", "number"): "syntax, range, digits",
    ("string", "loose"): "a number in another spelling",
    ("string", "bytea"): "hexadecimal, like \\x00ff",
    ("string", "json"): "syntax",
    ("string", "jsonb"): "syntax, NUL",
    ("list", "array"): "each element as its type",
    ("interval", "interval"): "nanoseconds",
    ("string", "interval"): _READ + "; nanoseconds",
    ("nested", "json"): "as JSON; NaN",
    ("nested", "jsonb"): "as JSON; NaN, NUL",
    ("list", "json"): "as JSON; NaN",
    ("list", "jsonb"): "as JSON; NaN, NUL",
}
_HOW_OF_KIND = {
    "text": "NUL",
    "varchar": "characters, NUL",
    "bpchar": "characters, NUL",
    "enum": "labels",
    "xml": _READ,
    "geometric": _READ + "; digits",
    "moments": _READ + "; nanoseconds",
    "other": _READ,
    "array": _READ,
    "numeric": "range, digits",
    "money": "range, digits",
    "number": "range, digits, NaN",
    "loose": "range, digits, NaN",
    "any": "range, NaN",
    "real": "digits, NaN",
}
_HOW_OF_FAMILY = {
    "int": "range",
    "float": "fraction, range, NaN",
    "decimal": "fraction, range, digits",
    "string": "syntax, range, digits",
    "date": "range",
    "time": "range, nanoseconds",
    "timestamp": "range, nanoseconds",
    "timestamptz": "range, nanoseconds",
    "duration": "nanoseconds",
}
"""What is looked at, by the pair, else by the column's kind, else by the source's family."""


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What happens to one column.

    Attributes
    ----------
    source : pyarrow.DataType
        What the source offers.
    target : ColumnType
        What the table holds.
    carrier : pyarrow.DataType
        The Arrow type in which the values travel.
    as_text : bool
        Whether the values travel as text that the server reads.
    verdict : str
        ``exact``: every value fits. ``checked``: each value is looked at, and refused if it would change.
        ``lossy``: something is given up, because ``casts="lossy"`` allows it.
    how : str
        What is looked at, or what is given up.
    nullable : bool
        Whether the table takes NULL.
    zone : str or None
        The time zone that a naive time is taken to mean.
    """

    name: str
    source: pa.DataType
    target: ColumnType
    carrier: pa.DataType
    as_text: bool
    verdict: str
    how: str = ""
    nullable: bool = True
    zone: str | None = None

    @property
    def is_lossy(self) -> bool:
        return self.verdict == "lossy"

    @property
    def can_refuse(self) -> bool:
        """Whether there are values that it does not take."""
        return self.verdict != "exact" or not self.nullable

    @property
    def looks(self) -> str:
        """What is looked at in every value."""
        return "; ".join(filter(None, (self.how, "" if self.nullable else "not null")))


def column_plan(
    offered: pa.Field, target: ColumnType, nullable: bool, casts: str, assume_timezone: str | None
) -> ColumnPlan:
    """Decide what happens to a column of the source.

    Raises
    ------
    UnsafeCast
        For a naive timestamp into timestamptz, and for what always loses something.
    UnsupportedType
        For any other pair that the type table does not have.
    """
    if offered.metadata == SPELLED and target.kind in {"number", "loose", "any"}:
        offered = offered.with_type(pa.string())  # SQLite would store it as it is spelled
    is_json = isinstance(offered.type, pa.JsonType)  # lists whose elements differ in kind are JSON
    source = pa.list_(pa.string()) if is_json and target.kind == "array" else plain(offered.type)
    zone = assume_timezone if _may_be_naive(source, target) else None
    found = _decided(offered.name, source, target, casts, zone)
    chosen = carrier(target, source)
    as_text = chosen is None or pa.types.is_decimal256(chosen)
    chosen = pa.string() if chosen is None else chosen
    verdict, how = found.verdict, f"taken as the clock of {zone}; {found.how}" if zone else found.how
    if isinstance(offered.type, MixedType):
        verdict, how = {"exact": "checked"}.get(verdict, verdict), f"values of several kinds; {how}".rstrip("; ")
    return ColumnPlan(offered.name, offered.type, target, chosen, as_text, verdict, how, nullable, zone)


def _may_be_naive(source: pa.DataType, target: ColumnType) -> bool:
    return target.kind == "timestamptz" and family(source) in {"timestamp", "string"}


def _decided(name: str, source: pa.DataType, target: ColumnType, casts: str, zone: str | None) -> Cell:
    """The type table's cell, as far as casts= and assume_timezone= allow it."""
    found = cell(source if zone is None or family(source) == "string" else pa.timestamp(source.unit, zone), target)
    what = f"column {name!r}: {source} cannot be stored as {target}"
    if found.verdict == "impossible" and (family(source), target.kind) == ("timestamp", "timestamptz"):
        hint = "Say what the times mean: assume_timezone='Europe/Berlin', or df[c] = df[c].dt.tz_localize('UTC')."
        raise UnsafeCast(what, hint=hint)
    if found.verdict == "impossible":
        raise UnsupportedType(what, hint="Convert the column in the source, for example to text, or change the table.")
    if found.verdict == "lossy" and casts == "exact":
        clock = "df[c] = df[c].dt.tz_convert('UTC').dt.tz_localize(None), or " if target.kind == "timestamp" else ""
        hint = f"Convert it in the source, {clock}allow it with casts='lossy'."
        raise UnsafeCast(f"{what} without losing {found.loses}", hint=hint)
    if casts == "lossy" and found.loses is not None:
        return Cell("lossy", f"gives up {found.loses}", found.loses)
    return found
