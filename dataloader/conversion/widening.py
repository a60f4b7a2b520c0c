"""Widening: a column that is too narrow gets a type with room for what comes, and keeps all that is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Context, Decimal

import pyarrow as pa

from dataloader.conversion.column_types import ColumnType, family, parse_type, plain
from dataloader.conversion.converter import ColumnConverter
from dataloader.conversion.rules import INTEGER_DIGITS, ColumnPlan, cast_rule
from dataloader.conversion.steps import taken
from dataloader.conversion.violations import TOO_NARROW

_WIDER = {
    "int2": ("integer", "bigint", "numeric(20,0)"),
    "int4": ("bigint", "numeric(20,0)"),
    "int8": ("numeric(20,0)",),
    "float4": ("double precision",),
}
_TIMES = frozenset({"time", "timestamp", "timestamptz", "interval"})
_MOST_DIGITS = 1_000
"""Of PostgreSQL's numeric with a precision; without one it has more."""
_EXACT = Context(prec=1 << 17)
Remake = Callable[[ColumnType], ColumnPlan]


def wider(target: ColumnType, *, numbered: bool = False) -> list[ColumnType]:
    """PostgreSQL's types with more room that keep every value of a column, the narrowest first.

    Parameters
    ----------
    numbered : bool
        Whether a sequence numbers its rows, whose numbers are integers.
    """
    if target.kind == "varchar" and target.length is not None:
        return [_type("text")]
    if target.kind in _TIMES and target.precision is not None:
        return [_type(re.sub(r"\(\d+\)", "", target.sql))]
    if target.kind == "numeric" and target.precision is not None:
        return [_type("numeric")]
    return [_type(sql) for sql in _WIDER.get(target.kind, ()) if not (numbered and sql.startswith("numeric"))]


def type_for(target: ColumnType, source: pa.DataType, *, numbered: bool = False) -> ColumnType | None:
    """The type of a column that has room for every value of a source's type; None where no type says so."""
    source = plain(source)
    if target.kind == "numeric" and target.precision is not None and (digits := _digits_of_type(source)) is not None:
        found = [_numeric(target, *digits)]
    else:
        found = wider(target, numbered=numbered)
    if target.kind == "varchar" and family(source) == "string":
        return next(iter(found), None)
    return next((one for one in found if cast_rule(source, one).verdict == "exact"), None)


def _digits_of_type(source: pa.DataType) -> tuple[int, int] | None:
    """How many digits the values of a type have at most before and after the point."""
    if pa.types.is_integer(source):
        return INTEGER_DIGITS[source.bit_width], 0
    return (source.precision - source.scale, max(source.scale, 0)) if pa.types.is_decimal(source) else None


class Widths:
    """Finds out, batch by batch, which types columns need.

    Parameters
    ----------
    columns : sequence of (ColumnPlan, bool, Remake)
        Of each column its plan as it is, whether a sequence numbers its rows, and what plans it with another type.
    """

    def __init__(self, columns: Sequence[tuple[ColumnPlan, bool, Remake]]) -> None:
        self._widths = [_Width(*one) for one in columns]

    def add(self, batch: pa.RecordBatch, _first_row: int = 0) -> None:
        """Take in a batch."""
        for width in self._widths:
            width.add(batch)

    @property
    def needed(self) -> dict[str, ColumnType]:
        """The types of the columns that need another one, by name."""
        return {one.name: one.target for one in self._widths if one.is_wider}


class _Width:
    """What one column needs so far."""

    def __init__(self, column: ColumnPlan, numbered: bool, remake: Remake) -> None:
        self.name, self.target, self.is_wider = column.name, column.target, False
        self._taken_from = column.taken_from
        self._convert, self._remake, self._numbered = ColumnConverter(column), remake, numbered

    def add(self, batch: pa.RecordBatch) -> None:
        values = batch.column(self._taken_from)
        refused = _refused(self._convert, values)
        if not refused:
            return
        values = taken(values, pa.array(refused))
        tried = [(len(_refused(convert, values)), target, convert) for target, convert in self._wider(values)]
        least = min((count for count, _, _ in tried), default=len(refused))
        if least < len(refused):
            self.target, self._convert = next((target, convert) for count, target, convert in tried if count == least)
            self.is_wider = True

    def _wider(self, values: pa.Array) -> Iterator[tuple[ColumnType, ColumnConverter]]:
        for one in wider(self.target, numbered=self._numbered):
            convert = ColumnConverter(self._remake(one))
            if one.kind == "numeric" and self.target.kind == "numeric":
                texts = one.to_text(convert(values)[0]).drop_null().to_pylist()
                measured = _numeric(self.target, *_digits(texts))
                yield measured, ColumnConverter(self._remake(measured))
            else:
                yield one, convert


def _refused(convert: ColumnConverter, values: pa.Array) -> list[int]:
    return sorted({one.offset for one in convert(values)[1] if one.reason in TOO_NARROW})


def _digits(texts: list[str]) -> tuple[int, int]:
    """How many digits numbers have before and after the point."""
    before = after = 0
    for number in map(Decimal, texts):
        if number.is_finite():
            _, digits, exponent = number.normalize(_EXACT).as_tuple()
            assert isinstance(exponent, int)
            before, after = max(before, len(digits) + exponent), max(after, -exponent)
    return before, after


def _numeric(target: ColumnType, before: int, after: int) -> ColumnType:
    """A numeric with room for all that it has room for, and for so many digits."""
    assert target.precision is not None
    scale = max(target.scale or 0, after)
    precision = max(target.precision - (target.scale or 0), before) + scale
    return _type(f"numeric({precision},{scale})" if precision <= _MOST_DIGITS else "numeric")


def is_rewriting(before: ColumnType, after: ColumnType) -> bool:
    """Whether PostgreSQL writes a table anew for it: not where a value is stored alike in both types."""
    if before.kind in _TIMES or before.kind == "varchar":
        return False
    return before.kind != "numeric" or (after.precision is not None and after.scale != before.scale)


def _type(sql: str) -> ColumnType:
    return parse_type(sql, "postgresql")
