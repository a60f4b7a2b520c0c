"""Conversion: a batch of the source becomes a batch of the plan's Arrow types, without the rows that do not fit.

A cast that fails is tried on halves until the single bad values are found; `InvalidValues` names them at once.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion import numeric
from dataloader.conversion.casts import Check
from dataloader.conversion.column_types import family
from dataloader.conversion.mixed import MixedType, StringType, is_decoded, mixed_objects, mixed_parts, unconvertible
from dataloader.conversion.numeric import NUMBER_TEXT, PLAIN_NUMBER
from dataloader.conversion.rules import ColumnPlan
from dataloader.conversion.steps import element_arrow_type, steps_for, taken, unwrapped
from dataloader.conversion.types import FAMILIES, TYPES
from dataloader.conversion.violations import REASONS, InvalidValues, Violation, cut, shown

_REFUSALS = (pa.ArrowException, ValueError, OverflowError, decimal.InvalidOperation)
"""What a cast raises for a value that does not fit. Any other error is a defect of ours, and no fault of the value."""


class InvalidValue(NamedTuple):
    """A value that was refused: its place in the array, and why."""

    offset: int
    reason: str
    problem: str


@dataclass(frozen=True, slots=True)
class Converted:
    """A chunk after conversion.

    Attributes
    ----------
    batch : pyarrow.RecordBatch
        The rows that fit, in the plan's Arrow types.
    rows : numpy.ndarray
        Their positions in the source.
    violations : list of Violation
        What does not fit, by row.
    """

    batch: pa.RecordBatch
    rows: np.ndarray
    violations: list[Violation]


class Converter:
    """Turns batches of the source into batches whose columns have the plan's Arrow types.

    Parameters
    ----------
    columns : tuple of ColumnPlan
        They are taken from a batch by name.
    label : callable
        Gives a row's label by its position.
    """

    def __init__(self, columns: tuple[ColumnPlan, ...], label: Callable[[int], object] = lambda _row: None) -> None:
        self._columns = [ColumnConverter(column) for column in columns]
        self._schema = pa.schema([pa.field(column.name, column.arrow_type) for column in columns])
        self._label = label

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> Converted:
        """Convert a batch whose first row is the source's row `first_row`."""
        arrays, violations = [], []
        for convert in self._columns:
            values = batch.column(convert.column.spelled or convert.column.name)
            converted, invalid = convert(values)
            arrays.append(converted)
            violations += [self._violation(convert.column, values, one, first_row) for one in invalid]
        whole = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        rows = np.arange(first_row, first_row + batch.num_rows)
        if not violations:
            return Converted(whole, rows, [])
        fits = np.ones(batch.num_rows, bool)
        fits[[one.row - first_row for one in violations]] = False
        violations.sort(key=lambda one: one.row)
        return Converted(whole.filter(pa.array(fits)), rows[fits], violations)

    def _violation(self, column: ColumnPlan, values: pa.Array, one: InvalidValue, first_row: int) -> Violation:
        row = first_row + one.offset
        value = shown_of(values, one.offset)
        target, suggestion = str(column.target), column.suggestion(one.reason)
        return Violation(row, self._label(row), column.taken_from, value, target, one.reason, one.problem, suggestion)


def _decoded(source: pa.DataType) -> pa.DataType:
    """The type of the values; for Arrow, runs are nested."""
    is_encoded = pa.types.is_run_end_encoded(source) or pa.types.is_dictionary(source)
    return _decoded(source.value_type) if is_encoded else source


def shown_of(values: pa.Array, offset: int) -> str:
    """The repr of one value of a source's column."""
    one = values.slice(offset, 1)
    if isinstance(one.type, MixedType):
        return cut(repr(mixed_objects(one)[0]))
    return shown(unwrapped(one)[0])


class ColumnConverter:
    """Converts one column; the steps are chosen once for each type in which the source brings it."""

    def __init__(self, column: ColumnPlan) -> None:
        self.column = column
        self._steps: dict[tuple[pa.DataType, bool], Check] = {}

    def __call__(self, values: pa.Array) -> tuple[pa.Array, list[InvalidValue]]:
        """The plan's array, NULL where a value is refused, and the refusals."""
        converted, invalid = self._mixed(values) if isinstance(values.type, MixedType) else self._plain(values)
        if converted.null_count and not self.column.nullable:
            known = {one.offset for one in invalid}
            nulls = np.flatnonzero(converted.is_null().to_numpy(zero_copy_only=False)).tolist()
            invalid += [InvalidValue(offset, "null", REASONS["null"][0]) for offset in nulls if offset not in known]
        return converted, invalid

    def _mixed(self, values: pa.Array) -> tuple[pa.Array, list[InvalidValue]]:
        """Each value is judged by its own kind, whatever stands around it."""
        invalid = [
            InvalidValue(offset, code, problem or REASONS[code][0])
            for offset, reason in enumerate(unconvertible(values)[1])
            if reason is not None
            for code, _, problem in [reason.partition("|")]
        ]
        arrays = []
        for given in mixed_parts(values):
            part, odd = self._without_odd(given, values.type.whole) if len(values.type.kinds) > 1 else (given, [])
            converted, found = self._plain(part)
            invalid += odd
            arrays.append(converted)
            invalid += found
        return pc.coalesce(*arrays), invalid

    def _without_odd(self, part: pa.Array, whole: pa.DataType) -> tuple[pa.Array, list[InvalidValue]]:
        """Refuse what would change its kind with its value: 00123 among numbers, True among numbers."""
        kinds, wanted = {family(part.type), family(whole)}, family(self.column.arrow_type)
        if kinds == {"bool", "int"} and wanted in {"bool", "int"}:
            odd, reason = part.is_valid(), "type"
        elif family(part.type) == "string" and wanted in {"int", "float", "decimal"}:
            odd, reason = pc.invert(pc.match_substring_regex(part, PLAIN_NUMBER)), "syntax"
        else:
            return part, []
        offsets = np.flatnonzero(pc.fill_null(odd, False).to_numpy(zero_copy_only=False)).tolist()
        return _without(part, offsets), [InvalidValue(offset, reason, REASONS[reason][0]) for offset in offsets]

    def _plain(self, values: pa.Array) -> tuple[pa.Array, list[InvalidValue]]:
        is_decoded = self._is_decoded(values.type)
        values = unwrapped(values)
        steps = self._steps_for(values.type, is_decoded)
        try:
            return steps(values), []
        except (InvalidValues, *_REFUSALS):
            found: list[InvalidValue] = []
            _sift(steps, values, 0, found, _default_reason(values.type, self.column))
            kept = _without(values, [one.offset for one in found])
            if kept.null_count == len(kept):  # Arrow may have no such cast at all
                return pa.nulls(len(kept), self.column.arrow_type), found
            return steps(kept), found

    def _is_decoded(self, source: pa.DataType) -> bool:
        """Whether values are parts of JSON documents; the plan says what a text is, wherever the chunks are cut."""
        keeps_json, source, planned = (
            TYPES[self.column.target.kind].keeps_json,
            _decoded(source),
            _decoded(self.column.source),
        )
        if not keeps_json or isinstance(source, pa.JsonType):
            return self.column.target.element is not None and isinstance(source, pa.JsonType)
        return is_decoded(planned) or isinstance(source, StringType)

    def _steps_for(self, source: pa.DataType, is_decoded: bool = False) -> Check:
        if (source, is_decoded) not in self._steps:
            self._steps[source, is_decoded] = _read_first(
                steps_for(source, self.column, is_decoded), source, self.column
            )
        return self._steps[source, is_decoded]


def _read_first(steps: Check, source: pa.DataType, column: ColumnPlan) -> Check:
    """The steps after those that are for texts which stand for numbers."""
    if not pa.types.is_string(source) or family(column.arrow_type) not in {"int", "float", "decimal"}:
        return steps
    reads = [numeric.read_decimal_comma] if column.decimal == "," else []
    reads += [numeric.check_written] if column.is_made_for_text else []

    def read(values: pa.Array) -> pa.Array:
        for one in reads:
            values = one(values)
        return steps(values)

    return read if reads else steps


def _without(values: pa.Array, offsets: Sequence[int]) -> pa.Array:
    """The values with NULL at the offsets."""
    kept = np.zeros(len(values), bool)
    kept[list(offsets)] = True
    return taken(values, pa.array(np.arange(len(values)), mask=kept))


def _sift(
    steps: Check, values: pa.Array, start: int, found: list[InvalidValue], default: Callable[[pa.Array], str]
) -> None:
    """Find every value that `steps` refuses: those that it names at once, the others by halving."""
    while True:
        try:
            steps(values)
            return
        except InvalidValues as invalid:
            offsets = np.flatnonzero(pc.fill_null(invalid.bad, False).to_numpy(zero_copy_only=False)).tolist()
            found += [InvalidValue(start + offset, invalid.reason, invalid.problem) for offset in offsets]
            values = _without(values, offsets)
        except _REFUSALS:
            if len(values) == 1:
                reason = default(values)
                found.append(InvalidValue(start, reason, REASONS[reason][0]))
                return
            middle = len(values) // 2
            _sift(steps, values.slice(0, middle), start, found, default)
            _sift(steps, values.slice(middle), start + middle, found, default)
            return


def _default_reason(source: pa.DataType, column: ColumnPlan) -> Callable[[pa.Array], str]:
    """The reason of a refusal that Arrow raised: for text by what it looks like, else by the types."""
    if family(source) == "list" and column.target.element is not None:
        element = replace(column, target=column.target.element, arrow_type=element_arrow_type(source, column.target))
        inner = _default_reason(unwrapped(pa.nulls(0, source.value_type)).type, element)
        return lambda value: inner(unwrapped(pc.list_flatten(value)))
    offered, wanted = family(source) or "", family(column.arrow_type)

    def reason(value: pa.Array) -> str:
        if wanted == "decimal" and (offered != "string" or pc.match_substring_regex(value, NUMBER_TEXT)[0].as_py()):
            return "digits"
        if offered == "string":
            is_number = wanted in {"int", "float"} and pc.match_substring_regex(value, NUMBER_TEXT)[0].as_py()
            return "range" if is_number else "syntax"
        return FAMILIES[offered].reason if offered else "range"

    return reason
