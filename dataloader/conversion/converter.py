"""Conversion: a batch of the source becomes a batch of the plan's carriers, without the rows that do not fit.

A cast that fails is tried on halves until the single bad values are found; `Unfit` names them at once.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.casts import NUMBER_TEXT, PLAIN_NUMBER
from dataloader.conversion.mixed import MixedType, StringType, is_decoded, mixed_objects, mixed_parts, strangers
from dataloader.conversion.rules import ColumnPlan
from dataloader.conversion.steps import Steps, element_carrier, steps_for, taken, unwrapped
from dataloader.conversion.types import family
from dataloader.conversion.violations import REASONS, Unfit, Violation, cut, shown
from dataloader.formatting import one_line

_REFUSALS = (pa.ArrowException, ValueError, OverflowError, decimal.InvalidOperation)
"""What a cast raises for a value that does not fit. Any other error is a defect of ours, and no fault of the value."""


class Fault(NamedTuple):
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
        The rows that fit, in the plan's carriers.
    rows : numpy.ndarray
        Their positions in the source.
    violations : list of Violation
        What does not fit, by row.
    """

    batch: pa.RecordBatch
    rows: np.ndarray
    violations: list[Violation]


class Converter:
    """Turns batches of the source into batches whose columns have the plan's carriers.

    Parameters
    ----------
    columns : tuple of ColumnPlan
        They are taken from a batch by name.
    label : callable
        Gives a row's label by its position.
    """

    def __init__(self, columns: tuple[ColumnPlan, ...], label: Callable[[int], object] = lambda _row: None) -> None:
        self._columns = [ColumnConverter(column) for column in columns]
        self._schema = pa.schema([pa.field(column.name, column.carrier) for column in columns])
        self._label = label

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> Converted:
        """Convert a batch whose first row is the source's row `first_row`."""
        arrays, violations = [], []
        for convert in self._columns:
            values = batch.column(convert.column.name)
            converted, faults = convert(values)
            arrays.append(converted)
            violations += [self._violation(convert.column, values, fault, first_row) for fault in faults]
        whole = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        rows = np.arange(first_row, first_row + batch.num_rows)
        if not violations:
            return Converted(whole, rows, [])
        fits = np.ones(batch.num_rows, bool)
        fits[[one.row - first_row for one in violations]] = False
        violations.sort(key=lambda one: one.row)
        return Converted(whole.filter(pa.array(fits)), rows[fits], violations)

    def _violation(self, column: ColumnPlan, values: pa.Array, fault: Fault, first_row: int) -> Violation:
        row = first_row + fault.offset
        value = shown_of(values, fault.offset)
        suggestion = REASONS[fault.reason][1]
        target = str(column.target)
        return Violation(row, self._label(row), column.name, value, target, fault.reason, fault.problem, suggestion)


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
        self._steps: dict[tuple[pa.DataType, bool], Steps] = {}

    def __call__(self, values: pa.Array) -> tuple[pa.Array, list[Fault]]:
        """The carrier's array, NULL where a value is refused, and the refusals."""
        converted, faults = self._mixed(values) if isinstance(values.type, MixedType) else self._plain(values)
        if converted.null_count and not self.column.nullable:
            known = {fault.offset for fault in faults}
            nulls = np.flatnonzero(converted.is_null().to_numpy(zero_copy_only=False)).tolist()
            faults += [Fault(offset, "null", REASONS["null"][0]) for offset in nulls if offset not in known]
        return converted, faults

    def _mixed(self, values: pa.Array) -> tuple[pa.Array, list[Fault]]:
        """Each value is judged by its own kind, whatever stands around it."""
        faults = [
            Fault(offset, reason, REASONS[reason][0])
            for offset, reason in enumerate(strangers(values)[1])
            if reason is not None
        ]
        arrays = []
        for given in mixed_parts(values):
            part, odd = self._without_odd(given, values.type.whole)
            converted, found = self._plain(part)
            faults += odd
            arrays.append(converted)
            faults += found
        return pc.coalesce(*arrays), faults

    def _without_odd(self, part: pa.Array, whole: pa.DataType) -> tuple[pa.Array, list[Fault]]:
        """Refuse what would change its kind with its value: 00123 among numbers, True among numbers."""
        kinds, wanted = {family(part.type), family(whole)}, family(self.column.carrier)
        if kinds == {"bool", "int"} and wanted in {"bool", "int"}:
            odd, reason = part.is_valid(), "type"
        elif family(part.type) == "string" and wanted in {"int", "float", "decimal"}:
            odd, reason = pc.invert(pc.match_substring_regex(part, PLAIN_NUMBER)), "syntax"
        else:
            return part, []
        offsets = np.flatnonzero(pc.fill_null(odd, False).to_numpy(zero_copy_only=False)).tolist()
        return _without(part, offsets), [Fault(offset, reason, REASONS[reason][0]) for offset in offsets]

    def _plain(self, values: pa.Array) -> tuple[pa.Array, list[Fault]]:
        is_decoded = self._is_decoded(values.type)
        values = unwrapped(values)
        steps = self._steps_for(values.type, is_decoded)
        try:
            return steps(values), []
        except (Unfit, *_REFUSALS):
            found: list[Fault] = []
            _sift(steps, values, 0, found, _default_reason(values.type, self.column))
            kept = _without(values, [fault.offset for fault in found])
            if kept.null_count == len(kept):  # Arrow may have no such cast at all
                return pa.nulls(len(kept), self.column.carrier), found
            return steps(kept), found

    def _is_decoded(self, source: pa.DataType) -> bool:
        """Whether values are parts of JSON documents; the plan says what a text is, wherever the chunks are cut."""
        kind, source, planned = self.column.target.kind, _decoded(source), _decoded(self.column.source)
        if kind not in {"json", "jsonb"} or isinstance(source, pa.JsonType):
            return kind == "array" and isinstance(source, pa.JsonType)
        return is_decoded(planned) or isinstance(source, StringType)

    def _steps_for(self, source: pa.DataType, is_decoded: bool = False) -> Steps:
        if (source, is_decoded) not in self._steps:
            self._steps[source, is_decoded] = steps_for(source, self.column, is_decoded)
        return self._steps[source, is_decoded]


def _without(values: pa.Array, offsets: Sequence[int]) -> pa.Array:
    """The values with NULL at the offsets."""
    kept = np.zeros(len(values), bool)
    kept[list(offsets)] = True
    return taken(values, pa.array(np.arange(len(values)), mask=kept))


def _sift(steps: Steps, values: pa.Array, start: int, found: list[Fault], default: Callable[[pa.Array], str]) -> None:
    """Find every value that `steps` refuses: those that it names at once, the others by halving."""
    while True:
        try:
            steps(values)
            return
        except Unfit as unfit:
            offsets = np.flatnonzero(pc.fill_null(unfit.bad, False).to_numpy(zero_copy_only=False)).tolist()
            found += [Fault(start + offset, unfit.reason, unfit.problem) for offset in offsets]
            values = _without(values, offsets)
        except _REFUSALS as error:
            if len(values) == 1:
                reason = default(values)
                why = "" if family(values.type) == "string" else f" ({one_line(error)[:200]})"
                found.append(Fault(start, reason, REASONS[reason][0] + why))
                return
            middle = len(values) // 2
            _sift(steps, values.slice(0, middle), start, found, default)
            _sift(steps, values.slice(middle), start + middle, found, default)
            return


def _default_reason(source: pa.DataType, column: ColumnPlan) -> Callable[[pa.Array], str]:
    """The reason of a refusal that Arrow raised: for text by what it looks like, else by the types."""
    if family(source) == "list" and column.target.element is not None:
        element = replace(column, target=column.target.element, carrier=element_carrier(source, column.target))
        inner = _default_reason(unwrapped(pa.nulls(0, source.value_type)).type, element)
        return lambda value: inner(unwrapped(pc.list_flatten(value)))
    offered, wanted = family(source) or "", family(column.carrier)

    def reason(value: pa.Array) -> str:
        if wanted == "decimal" and (offered != "string" or pc.match_substring_regex(value, NUMBER_TEXT)[0].as_py()):
            return "digits"
        if offered == "string":
            is_number = wanted in {"int", "float"} and pc.match_substring_regex(value, NUMBER_TEXT)[0].as_py()
            return "range" if is_number else "syntax"
        return _REASON_OF_FAMILY.get(offered, "range")

    return reason


_REASON_OF_FAMILY = {"nested": "syntax", "list": "syntax", "decimal": "digits", "binary": "encoding"}
