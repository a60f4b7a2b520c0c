"""Check: what is done to a column, chosen once for the type in which the source brings it: a cast, then checks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion import numeric, temporal, text
from dataloader.conversion.casts import Cast, Check, refuse
from dataloader.conversion.column_types import ColumnType, arrow_type, family, plain
from dataloader.conversion.mixed import StringType
from dataloader.conversion.rules import IMPOSSIBLE, RULES, CastRule, ColumnPlan, cast_rule, rule_between
from dataloader.conversion.temporal import ZONED
from dataloader.conversion.types import CUT_IN_SILENCE, TYPES

_TIMESTAMP = pa.timestamp("us")
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


def unwrapped(values: pa.Array) -> pa.Array:
    """The values in a form that has every cast: encodings and views undone, narrow numbers widened."""
    unwrap = next((unwrap for is_wrapped, unwrap in _WRAPPED if is_wrapped(values.type)), None)
    return values if unwrap is None else unwrap(values)


def _without_runs(values: pa.Array) -> pa.Array:
    """Arrow decodes runs of plain types only, but it can say which run a value is in."""
    runs = pa.array(np.arange(len(values.values)))
    which = pa.RunEndEncodedArray.from_arrays(values.run_ends, runs).slice(values.offset, len(values))
    return taken(unwrapped(values.values), pc.run_end_decode(which))


def taken(values: pa.Array, indices: pa.Array) -> pa.Array:
    """Arrow's take; from types that it does not take from, like maps and lists of views, row by row."""
    try:
        return values.take(indices)
    except pa.ArrowException:
        nothing = pa.nulls(1, values.type)
        rows = [nothing if index is None else values.slice(index, 1) for index in indices.to_pylist()]
        return pa.concat_arrays(rows) if rows else values.slice(0, 0)


_WRAPPED: tuple[tuple[Callable[[pa.DataType], bool], Check], ...] = (
    (pa.types.is_dictionary, lambda values: taken(unwrapped(values.dictionary), values.indices)),
    (pa.types.is_run_end_encoded, lambda values: unwrapped(_without_runs(values))),
    (lambda kind: isinstance(kind, (pa.JsonType, StringType)), lambda values: unwrapped(values.storage)),
    (lambda kind: isinstance(kind, pa.Bool8Type), lambda values: values.storage.cast(pa.bool_())),
    (pa.types.is_string_view, lambda values: values.cast(pa.string())),
    (pa.types.is_binary_view, lambda values: values.cast(pa.binary())),
    (pa.types.is_float16, lambda values: values.cast(pa.float32())),
    (
        lambda kind: pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind),
        lambda values: values.cast(pa.decimal128(values.type.precision, values.type.scale)),
    ),
)


def steps_for(source: pa.DataType, column: ColumnPlan, is_decoded: bool = False) -> Check:
    """The cast and the checks for a column that comes as the unwrapped type `source`.

    Decoded are the parts of JSON documents, in which a text is a string, and lists that are kept as JSON.
    """
    wanted = column.arrow_type
    cast = _cast_for(source, column) if _is_planned(source, column) else _refuse_all
    if is_decoded:
        cast = _array_text_cast(column.target) if column.target.element is not None else text.nested_to_json
        source = pa.list_(source)
    checks = list(_checks(source, column))
    can_be_infinite = pa.types.is_timestamp(source) and source.unit == "us"

    def steps(values: pa.Array) -> pa.Array:
        converted = cast(temporal.check_not_infinite(values) if can_be_infinite else values, wanted)
        for check in checks:
            converted = check(converted)
        return converted

    return steps


def _is_planned(source: pa.DataType, column: ColumnPlan) -> bool:
    """Whether the plan allows values of this type; a zone is dropped or assumed only where it says so."""
    planned = plain(column.source)
    if source.equals(planned) or (column.zone is not None and family(source) in {"timestamp", "string"}):
        return True
    if pa.types.is_timestamp(source) and pa.types.is_timestamp(column.arrow_type):
        says_so = column.is_lossy and family(planned) == "timestamptz"
        return (source.tz is None) == (column.arrow_type.tz is None) or says_so
    if _reads_any_number(column) and family(source) in {"int", "float", "decimal"}:
        return True
    if TYPES[column.target.kind].keeps_kinds and family(source) != family(planned):
        return bool(column.arrow_type == arrow_type(column.target, source))  # or a text would become what it looks like
    return cast_rule(plain(source), column.target) is not IMPOSSIBLE


def _reads_any_number(column: ColumnPlan) -> bool:
    """Whether numbers of every type travel as text that SQLite's writer reads."""
    return bool(column.target.row.reads_numbers and pa.types.is_string(column.arrow_type))


def _refuse_all(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """For a type that no plan allows and that a later batch of a stream brings all the same."""
    refuse("type", values.is_valid(), f"{values.type} does not match the column's type")
    return pa.nulls(len(values), wanted)


def _cast_for(source: pa.DataType, column: ColumnPlan) -> Cast:
    offered = family(source) or ""
    rule = rule_between(offered, source, column.target, column.arrow_type)
    special = _special_cast(offered, source, column)
    return special or _chosen(rule, column.is_lossy)


def _special_cast(offered: str, source: pa.DataType, column: ColumnPlan) -> Cast | None:
    """Casts that take more than the two types to choose."""
    target = column.target
    if offered == "uuid" and target.sql.upper() == "CHAR(32)":
        return text.uuid_to_hex
    if offered == "interval" and target.kind == "interval":
        return temporal.interval_to_text(6 if target.precision is None else target.precision)
    if target.element is not None and offered in {"list", "string"}:
        return _array_cast(source, target) if offered == "list" else _array_text_cast(target)
    if offered in {"timestamp", "string"} and column.zone is not None:
        return zoned_cast(column.zone, is_lossy=column.is_lossy)
    if offered == "string" and target.kind == "datetime" and pa.types.is_string(column.arrow_type):
        return _canonical_timestamps(_check_years(target, _TIMESTAMP))
    return None


def _array_cast(source: pa.DataType, target: ColumnType) -> Cast:
    """Elements are converted as columns of their own, so that an array is as exact as a scalar."""
    element, inner = plain(source.value_type), target.element
    assert inner is not None
    between = inner.row.delimiter
    if family(element) == "list":
        return text.list_to_array(lambda values: _array_cast(element, target)(values, pa.string()), text.bare, between)
    column = ColumnPlan("element", element, inner, element_arrow_type(source, target), True, "checked")
    convert = steps_for(unwrapped(pa.nulls(0, element)).type, column)
    return text.list_to_array(lambda values: inner.to_text(convert(unwrapped(values))), text.quoted, between)


_DIMENSIONS = r"^\s*\[\s*[-+]?\d+\s*:"
"""How an array literal begins that says where its indices start; others begin with a brace."""


def _array_text_cast(target: ColumnType) -> Cast:
    """The server reads its own array literals; JSON arrays are lists, whose elements are converted one by one."""

    def cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
        literals = values.cast(wanted)
        is_json = pc.and_not(pc.match_substring_regex(values, r"^\s*\["), pc.match_substring_regex(values, _DIMENSIONS))
        if not pc.any(is_json).as_py():
            return literals
        lists = text.json_to_lists(pc.if_else(is_json, values, None))
        for depth in {_depth(one) for one in lists if one is not None}:
            kind = functools.reduce(lambda inner, _: pa.list_(inner), range(depth), pa.string())
            same = pa.array([one if one is not None and _depth(one) == depth else None for one in lists], kind)
            literals = pc.if_else(same.is_valid(), _array_cast(kind, target)(same, wanted), literals)
        return literals

    return cast


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def element_arrow_type(source: pa.DataType, target: ColumnType) -> pa.DataType:
    """The Arrow type in which the elements of lists travel into an array."""
    assert target.element is not None
    return arrow_type(target.element, plain(source.value_type)) or pa.string()


_UTC = RULES["timestamptz", "timestamptz"]
_READ_TIMESTAMP = RULES["string", "timestamp"]


def zoned_cast(zone: str, *, is_lossy: bool = False) -> Cast:
    """Naive times mean the clock of `zone`; those with an offset keep it."""
    read, in_utc = _chosen(_READ_TIMESTAMP, is_lossy), _chosen(_UTC, is_lossy)

    def assumed(values: pa.Array, wanted: pa.DataType) -> pa.Array:
        first = pc.assume_timezone(values, zone, ambiguous="earliest", nonexistent="earliest")
        last = pc.assume_timezone(values, zone, ambiguous="latest", nonexistent="latest")
        refuse("zone", pc.not_equal(first, last), f"it is ambiguous or does not exist in {zone}")
        return in_utc(first, wanted)

    def cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
        if pa.types.is_timestamp(values.type):
            return assumed(values, wanted)
        aware, naive = _parsed_timestamps(values, read)
        return pc.coalesce(in_utc(aware, wanted), assumed(naive, wanted))

    return cast


def _chosen(rule: CastRule, is_lossy: bool) -> Cast:
    return rule.lossy if is_lossy and rule.lossy else rule.exact


def _parsed_timestamps(values: pa.Array, read: Cast) -> tuple[pa.Array, pa.Array]:
    """The times in text that have an offset from UTC, and those that have none."""
    has_offset = pc.match_substring_regex(values, ZONED)
    aware = read(pc.if_else(has_offset, values, None), pa.timestamp("us", "UTC"))
    return aware, read(pc.if_else(has_offset, None, values), _TIMESTAMP)


def _canonical_timestamps(check: Check) -> Cast:
    """SQLite keeps times as text, with an offset or without: each in one form, so that they compare."""

    def cast(values: pa.Array, _wanted: pa.DataType) -> pa.Array:
        aware, naive = _parsed_timestamps(values, _READ_TIMESTAMP.exact)
        check(aware)
        check(naive)
        return pc.coalesce(text.to_text(aware), text.to_text(naive))

    return cast


def _checks(source: pa.DataType, column: ColumnPlan) -> Iterator[Check]:
    """What the Arrow type holds and the column does not."""
    offered, target, row, wanted = family(source), column.target, TYPES[column.target.kind], column.arrow_type
    if pa.types.is_string(wanted):
        yield from _checks_of_text(offered, target)
    if offered == "string":
        yield from row.read_checks
    if offered == "string" and target.element is not None:
        yield from target.element.row.read_checks + target.element.row.element_checks
    yield from row.value_checks
    if pa.types.is_floating(wanted) and not row.keeps_nan:
        yield numeric.check_not_nan
    if _reads_any_number(column) and offered in {"int", "float", "decimal"}:
        yield text.check_read_numbers
    if pa.types.is_date(wanted) or pa.types.is_timestamp(wanted):
        yield _check_years(target, wanted)
    if pa.types.is_time(wanted):
        yield temporal.check_between(0, 86_400 * _PER_SECOND[wanted.unit])


def _checks_of_text(offered: str | None, target: ColumnType) -> Iterator[Check]:
    is_free, row = offered in {"string", "list", "nested"}, TYPES[target.kind]
    if offered == "string":
        yield text.check_unicode
    yield from CUT_IN_SILENCE.get(target.sql, ())
    if is_free and not target.dialect.keeps_nul:
        yield text.check_nul
    if target.length is not None:
        yield text.check_characters(target.length)
    if target.labels:
        yield text.check_labels(target.labels)
    if offered == "string":
        yield from row.text_checks
    if is_free:
        yield from row.json_checks
    if target.dialect.has_affinities:
        yield from row.json_checks_by_affinity


def _check_years(target: ColumnType, wanted: pa.DataType) -> Check:
    """The years that the database's dates can have."""
    if pa.types.is_date(wanted):
        return temporal.check_between(*target.dialect.days)
    first, end = target.dialect.timestamps
    divisor = _PER_SECOND["us"] // _PER_SECOND[wanted.unit]
    return temporal.check_between(first // divisor, -(-end // divisor))
