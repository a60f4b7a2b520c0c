"""What happens to a source type in a column type: one rule for a pair, with the casts and the words for them.

`cast_rule` finds it. The converter casts by it, the plan prints it, and `docs/types.md` shows them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from dataloader.conversion import numeric, temporal, text
from dataloader.conversion.casts import Cast, arrow_cast, diagnosed, trimmed
from dataloader.conversion.column_types import ColumnType, arrow_type, family, plain
from dataloader.conversion.inference import IN_PANDAS, SPELLED, VARYING
from dataloader.conversion.mixed import MixedType
from dataloader.conversion.numeric import DECIMAL256_DIGITS
from dataloader.conversion.types import FAMILIES, TYPES
from dataloader.conversion.violations import OF_ITS_TYPE, ROUNDED, TOO_NARROW, suggestion
from dataloader.errors import UnsafeCast, UnsupportedType

Fits = Callable[[pa.DataType, pa.DataType], bool]


def _never(_source: pa.DataType, _wanted: pa.DataType) -> bool:
    return False


def _always(_source: pa.DataType, _wanted: pa.DataType) -> bool:
    return True


def _fits_integer(source: pa.DataType, wanted: pa.DataType) -> bool:
    return bool(source.bit_width + pa.types.is_unsigned_integer(source) <= wanted.bit_width)


def _fits_float(source: pa.DataType, wanted: pa.DataType) -> bool:
    return bool(source.bit_width <= wanted.bit_width)


INTEGER_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}


def _has_room_for_integers(source: pa.DataType, wanted: pa.DataType) -> bool:
    return bool(wanted.precision - wanted.scale >= INTEGER_DIGITS[source.bit_width])


def _has_room_for_decimals(source: pa.DataType, wanted: pa.DataType) -> bool:
    return bool(source.scale <= wanted.scale and source.precision - source.scale <= wanted.precision - wanted.scale)


@dataclass(frozen=True, slots=True)
class CastRule:
    """What happens to the values of a source type in a column type.

    Attributes
    ----------
    exact : Cast
        Keeps every value or refuses it.
    lossy : Cast or None
        For ``casts="lossy"``: rounds or cuts what the column does not keep, and refuses what is out of its range.
    loses : str or None
        What ``casts="lossy"`` gives up; None: nothing, it refuses the same values as ``exact``.
    fits : callable
        Whether every value of the source's Arrow type fits the column's.
    checks : str
        In words, what is checked, or how the value is made.
    verdict : str
        ``exact``: every value fits. ``checked``: each value is checked, and refused if it would change.
        ``lossy``: something is always lost. ``impossible``: no value fits.
    """

    exact: Cast = arrow_cast
    lossy: Cast | None = None
    loses: str | None = None
    fits: Fits = _never
    checks: str = ""
    verdict: str = "checked"


IMPOSSIBLE = CastRule(verdict="impossible")
_FRACTIONS = "the fractional part"
_DIGITS = "digits that the column does not keep"
_SECONDS = "fractions of a second that the column does not keep"
_TIME_OF_DAY = "the time of day"
_unit = diagnosed(temporal.finer_unit)
_text_to_integer = numeric.without_ends(trimmed(diagnosed(numeric.text_to_integer_problems)))
_text_to_date = temporal.without_midnight(diagnosed(temporal.text_to_date_problems))
_text_to_time = temporal.without_zeros(temporal.text_to_time)
_text_to_timestamp = temporal.without_zeros(diagnosed(temporal.text_to_timestamp_problems))
_ANY = CastRule()
_SHOWN = CastRule(fits=_always)

RULES: dict[tuple[str, str], CastRule] = {
    ("bool", "int"): CastRule(fits=_always),
    ("int", "int"): CastRule(diagnosed(numeric.integer_range), fits=_fits_integer),
    ("float", "int"): CastRule(numeric.float_to_integer, numeric.rounded_float_to_integer, _FRACTIONS),
    ("decimal", "int"): CastRule(numeric.decimal_to_integer, numeric.rounded_decimal_to_integer, _FRACTIONS),
    ("string", "int"): CastRule(_text_to_integer, trimmed(numeric.rounded_text_to_integer), _FRACTIONS),
    ("int", "bool"): CastRule(numeric.integer_to_bool),
    ("int", "float"): CastRule(numeric.integer_to_float, numeric.rounded_integer_to_float, _DIGITS),
    ("float", "float"): CastRule(numeric.narrow_float, numeric.rounded_float, _DIGITS, _fits_float),
    ("decimal", "float"): CastRule(numeric.decimal_to_float, numeric.rounded_decimal_to_float, _DIGITS),
    ("string", "float"): CastRule(trimmed(numeric.text_to_float), trimmed(numeric.parsed_floats), _DIGITS),
    ("int", "decimal"): CastRule(numeric.integer_to_decimal, fits=_has_room_for_integers),
    ("float", "decimal"): CastRule(numeric.float_to_decimal, numeric.rounded_float_to_decimal, _DIGITS),
    ("decimal", "decimal"): CastRule(
        numeric.decimal_to_decimal, numeric.rounded_decimal, _DIGITS, _has_room_for_decimals
    ),
    ("string", "decimal"): CastRule(
        trimmed(numeric.text_to_decimal), trimmed(numeric.rounded_text_to_decimal), _DIGITS
    ),
    ("date", "date"): CastRule(temporal.timestamp_to_date),
    ("timestamp", "date"): CastRule(temporal.timestamp_to_date, temporal.cut_time_of_day, _TIME_OF_DAY),
    ("string", "date"): CastRule(_text_to_date, temporal.without_clock(_text_to_date), _TIME_OF_DAY),
    ("time", "time"): CastRule(_unit, temporal.cut_seconds, _SECONDS),
    ("string", "time"): CastRule(_text_to_time, temporal.cut_text(_text_to_time), _SECONDS),
    ("timestamp", "timestamp"): CastRule(_unit, temporal.cut_seconds, _SECONDS),
    ("string", "timestamp"): CastRule(_text_to_timestamp, temporal.cut_text(_text_to_timestamp), _SECONDS),
    ("timestamptz", "timestamp"): CastRule(
        lossy=temporal.without_zone,
        loses="the time zone: UTC's clock is kept",
        checks="range, nanoseconds",
        verdict="lossy",
    ),
    ("timestamptz", "timestamptz"): CastRule(_unit, temporal.cut_seconds, _SECONDS),
    ("string", "timestamptz"): CastRule(_text_to_timestamp, temporal.cut_text(_text_to_timestamp), _SECONDS),
    ("duration", "duration"): CastRule(_unit, temporal.cut_seconds, _SECONDS),
    ("uuid", "binary"): CastRule(text.uuid_to_bytes, fits=_always),
    ("string", "binary"): CastRule(text.text_to_bytes),
    ("binary", "binary"): CastRule(fits=_always),
    ("string", "string"): CastRule(fits=_always),
    **dict.fromkeys([(shown, "string") for shown in ("bool", "int", "float", "decimal")], _SHOWN),
    ("uuid", "string"): CastRule(text.uuid_to_text, fits=_always),
    **dict.fromkeys(
        [(time, "string") for time in ("date", "time", "timestamp", "timestamptz")], CastRule(text.timestamp_to_text)
    ),
    ("list", "string"): CastRule(text.nested_to_json),
    ("nested", "string"): CastRule(text.nested_to_json),
}
"""The rules by family of the source and of the Arrow type in which values travel; for other pairs Arrow's cast does."""

_READ = "read by the server"
_CHECKS = {
    **dict.fromkeys([("bool", kind) for kind in ("int2", "int4", "int8")], "0 and 1"),
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
"""What is checked, where a pair of family and kind has more to say than the column's row or the family's."""


def cast_rule(source: pa.DataType, target: ColumnType) -> CastRule:
    """Look up what happens to values of the plain type `source` in a column of type `target`."""
    offered, row = family(source), TYPES[target.kind]
    if offered == "null":
        return CastRule(checks="only NULL", verdict="exact")
    if offered is None or offered not in row.accepts or not _is_storable(source, target):
        return IMPOSSIBLE
    wanted = arrow_type(target, source) or pa.string()
    rule = rule_between(offered, source, target, wanted)
    checks = _CHECKS.get((offered, target.kind), "")
    if _fits_always(rule.fits, offered, source, target, wanted):
        return replace(rule, verdict="exact", checks=checks, loses=None)
    if rule.verdict == "lossy":
        return rule
    if offered == "string" and _is_rounded_by_the_server(target):
        loses = "what the server rounds or cuts when it reads the text"
        return replace(rule, verdict="lossy", checks=_READ, loses=loses)
    return replace(rule, verdict="checked", checks=checks or row.checks or FAMILIES[offered].checks)


def _unchanged(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
    return values


def rule_between(offered: str, source: pa.DataType, target: ColumnType, wanted: pa.DataType) -> CastRule:
    """The rule for values of the family `offered` that come as `source` and travel as `wanted`."""
    rule, row = RULES.get((offered, family(wanted) or ""), _ANY), TYPES[target.kind]
    if offered == "string" and row.from_text is not None:
        return replace(rule, exact=row.from_text, lossy=None, loses=None)
    return replace(rule, exact=_unchanged, lossy=None) if source.equals(wanted) else rule


def _is_storable(source: pa.DataType, target: ColumnType) -> bool:
    if target.element is not None and family(source) == "list":
        element = plain(source.value_type)
        inner = target if family(element) == "list" else target.element
        return cast_rule(element, inner).verdict in {"exact", "checked"}
    precision, scale = target.precision or 0, target.scale or 0
    return precision <= DECIMAL256_DIGITS and 0 <= scale <= max(precision, 0)


def _is_rounded_by_the_server(target: ColumnType) -> bool:
    """Whether PostgreSQL's reading of text rounds or cuts in silence what does not fit."""
    if target.element is not None:
        return target.element.is_limited
    return TYPES[target.kind].rounds_text and target.is_limited


def _fits_always(fits: Fits, offered: str, source: pa.DataType, target: ColumnType, wanted: pa.DataType) -> bool:
    """Whether no value of `source` can be refused, so that nothing needs a check."""
    row = TYPES[target.kind]
    if row.always_checked or target.length is not None or (offered == "string" and row.from_text is not None):
        return False
    if pa.types.is_date(wanted) or pa.types.is_timestamp(wanted):
        return False
    if pa.types.is_floating(wanted) and not row.keeps_nan:
        return False
    if pa.types.is_string(wanted) and offered in {"string", "list", "nested"}:
        return offered == "string" and target.dialect.keeps_nul
    return source.equals(wanted) or fits(source, wanted)


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What happens to one column: `LoadPlan.columns` has one for each.

    Attributes
    ----------
    name : str
        Of the column, in the table.
    source : pyarrow.DataType
        What the source offers.
    target : ColumnType
        What the table holds.
    arrow_type : pyarrow.DataType
        The Arrow type in which the values travel.
    as_text : bool
        Whether the values travel as text that the server reads.
    verdict : str
        ``exact``: every value fits. ``checked``: each value is checked, and refused if it would change.
        ``lossy``: something is given up, because ``casts="lossy"`` allows it.
    checks : str
        What is checked in every value, or what is given up.
    nullable : bool
        Whether the table takes NULL.
    zone : str or None
        The time zone that a naive time is taken to mean.
    decimal : str
        The decimal separator of numbers in text.
    is_made_for_text : bool
        Whether the column is made for values that come as text, so that it must give each back.
    is_created : bool
        Whether the load creates the column, with a type that it chooses.
    loses : str or None
        What ``casts="lossy"`` gives up; None: nothing.
    in_pandas : bool
        Whether the values are a column of a pandas frame.
    spelled : str
        The name that the source gives it, where the table spells it in another case.
    widening : str
        The statement that would give the column room for every value of the source's type, where there is one.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> plan = asyncio.run(dl.plan_load({"price": [1.5]}, "prices", engine="sqlite:///:memory:"))
    >>> price = plan.columns[0]
    >>> price.name, str(price.source), str(price.target), price.verdict
    ('price', 'double', 'DOUBLE', 'checked')
    """

    name: str
    source: pa.DataType
    target: ColumnType
    arrow_type: pa.DataType
    as_text: bool
    verdict: str
    checks: str = ""
    nullable: bool = True
    zone: str | None = None
    decimal: str = "."
    is_made_for_text: bool = False
    is_created: bool = False
    loses: str | None = None
    in_pandas: bool = False
    spelled: str = ""
    widening: str = ""

    @property
    def taken_from(self) -> str:
        """The source's column."""
        return self.spelled or self.name

    def taking_from(self, spelled: str) -> ColumnPlan:
        """The same for a column that the source spells otherwise.

        Parameters
        ----------
        spelled : str
            The source's name for it.

        Returns
        -------
        ColumnPlan
            This one, where the names are the same.
        """
        return self if spelled == self.name else replace(self, spelled=spelled)

    @property
    def is_lossy(self) -> bool:
        """Whether something is given up, because ``casts="lossy"`` allows it."""
        return self.verdict == "lossy"

    @property
    def can_refuse(self) -> bool:
        """Whether there are values that it does not take."""
        return self.verdict != "exact" or not self.nullable

    @property
    def all_checks(self) -> str:
        """What is checked in every value, with its being there."""
        return "; ".join(filter(None, (self.checks, "" if self.nullable else "not null")))

    def suggestion(self, reason: str) -> str:
        """What to do about a value that is refused.

        Parameters
        ----------
        reason : str
            The code of why it is refused, see `Violation`.

        Returns
        -------
        str
            Only what would help this column.
        """
        ways = [_IN_PANDAS[reason].format(self)] if self.in_pandas and reason in _IN_PANDAS else []
        if self.is_created and reason in OF_ITS_TYPE:
            ways.append("choose the column's type with dtype=")
        if reason in ROUNDED and self.loses and not self.is_lossy:
            ways.append('pass casts="lossy"')
        return suggestion(reason, *ways, widening=self.widening if reason in TOO_NARROW else "")

    @property
    def _unit(self) -> str:
        return str(getattr(self.arrow_type, "unit", "us"))

    @property
    def _scale(self) -> int:
        return int(getattr(self.arrow_type, "scale", 0))


_IN_PANDAS = {
    "nanoseconds": 'use df[{0.name!r}].dt.floor("{0._unit}")',
    "time": "use df[{0.name!r}].dt.normalize()",
    "nul": "use df[{0.name!r}].str.replace(chr(0), '')",
    "fraction": "use df[{0.name!r}].round()",
    "digits": "use df[{0.name!r}].round({0._scale})",
}
"""How it is done in pandas, whose frames are called df everywhere."""


def column_plan(
    offered: pa.Field,
    target: ColumnType,
    nullable: bool,
    casts: str,
    assume_timezone: str | None,
    *,
    is_created: bool = False,
) -> ColumnPlan:
    """Decide what happens to a column of the source.

    Raises
    ------
    UnsafeCast
        For a naive timestamp into timestamptz, and for what always loses something.
    UnsupportedType
        For any other pair that the type table does not have.
    """
    told = offered.metadata or {}
    is_spelled = SPELLED.items() <= told.items()
    is_made_for_text = is_created and is_spelled
    if is_spelled and (not is_made_for_text or TYPES[target.kind].keeps_kinds):
        offered = offered.with_type(pa.string())  # whatever the texts look like, the column decides
    is_json = isinstance(offered.type, pa.JsonType)  # lists whose elements differ in kind are JSON
    source = pa.list_(pa.string()) if is_json and target.element is not None else plain(offered.type)
    zone = assume_timezone if _may_be_naive(source, target) else None
    found = _decided(offered.name, source, target, casts, zone)
    wanted = (
        None if VARYING.items() <= told.items() and _keeps_any_number(target, source) else arrow_type(target, source)
    )
    as_text = wanted is None or pa.types.is_decimal256(wanted)
    wanted = pa.string() if wanted is None else wanted
    verdict, checks = found.verdict, f"interpreted in {zone}; {found.checks}" if zone else found.checks
    if isinstance(offered.type, MixedType):
        verdict, checks = {"exact": "checked"}.get(verdict, verdict), f"values of several kinds; {checks}".rstrip("; ")
    decimal = told.get(b"decimal", b".").decode()
    in_pandas = IN_PANDAS.items() <= told.items()
    shared = (verdict, checks, nullable, zone, decimal, is_made_for_text, is_created, found.loses, in_pandas)
    return ColumnPlan(offered.name, offered.type, target, wanted, as_text, *shared)


def _keeps_any_number(target: ColumnType, source: pa.DataType) -> bool:
    """Whether a column has room for numbers that the Arrow type of the first ones has not; text has it too."""
    is_open = target.precision is None and (target.kind == "numeric" or target.row.reads_numbers)
    return is_open and family(source) in {"int", "float", "decimal"}


def _may_be_naive(source: pa.DataType, target: ColumnType) -> bool:
    return target.kind == "timestamptz" and family(source) in {"timestamp", "string"}


def _decided(name: str, source: pa.DataType, target: ColumnType, casts: str, zone: str | None) -> CastRule:
    """The rule, as far as casts= and assume_timezone= allow it."""
    found = cast_rule(source if zone is None or family(source) == "string" else pa.timestamp(source.unit, zone), target)
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
        return replace(found, verdict="lossy", checks=f"gives up {found.loses}")
    return found
