"""Rows as the texts by which a database would tell them apart: for comparing, whatever brought them."""

from __future__ import annotations

import decimal
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.column_types import family
from dataloader.conversion.converter import Converted, Converter
from dataloader.conversion.rules import ColumnPlan, column_plan
from dataloader.database.keys import comparable

if TYPE_CHECKING:
    from dataloader.conversion.column_types import ColumnType


class TextConverter:
    """Makes batches into what can be compared.

    Parameters
    ----------
    names : sequence of str
        The columns that are taken, by their names in `schema`.
    types : sequence of ColumnType
        Those of the table's columns.
    """

    def __init__(
        self, schema: pa.Schema, names: Sequence[str], types: Sequence[ColumnType], zone: str | None = None
    ) -> None:
        fields = [schema.field(name) for name in names]
        self._names = list(names)
        self.plans = tuple(column_plan(one, kind, True, "exact", zone) for one, kind in zip(fields, types, strict=True))
        self._convert = Converter(self.plans)

    def __call__(self, batch: pa.RecordBatch, first_row: int = 0) -> tuple[list[pa.Array], Converted]:
        """The texts of each column, of the rows that fit their columns."""
        converted = self._convert(batch.select(self._names), first_row)
        return texts_of(converted.batch, self.plans), converted


def texts_of(converted: pa.RecordBatch, plans: Sequence[ColumnPlan]) -> list[pa.Array]:
    """The texts of converted values, the same for values that the database finds equal."""
    return [_text(values, plan) for values, plan in zip(converted.columns, plans, strict=True)]


def read_by_server(plans: Sequence[ColumnPlan]) -> dict[int, ColumnType]:
    """The columns of texts that the server reads, and writes in a way of its own: 10.0.0.1/32 is 10.0.0.1 to it.

    See `Backend.as_written`.
    """
    columns = ((at, one.target, family(one.source) == "string") for at, one in enumerate(plans))
    return {at: kind for at, kind, is_text in columns if kind.element is None and _is_read(kind, is_text=is_text)}


def unsettled_array(plans: Sequence[ColumnPlan]) -> str | None:
    """A column of arrays whose elements the server may write in another way than they are sent."""
    arrays = ((one, one.target.element) for one in plans)
    read = (one for one, kind in arrays if kind is not None and (family(one.source) == "string" or _is_odd(kind)))
    return next((one.name for one in read), None)


def _is_odd(element: ColumnType) -> bool:
    is_of_extension = element.row.has_own_operators  # or an enum
    return not is_of_extension and _is_read(element, is_text=True)


def _is_read(kind: ColumnType, *, is_text: bool) -> bool:
    return bool(kind.row.rewritten) and (is_text or kind.row.arrow is None)


def _text(values: pa.Array, plan: ColumnPlan) -> pa.Array:
    texts = comparable(values, plan).cast(pa.string())
    if pa.types.is_duration(values.type):  # as an interval of months, days and the rest
        texts = pc.binary_join_element_wise("0 mons 0 days ", texts, "")
    return _documents(texts) if plan.target.row.keeps_json else texts


def _documents(texts: pa.Array) -> pa.Array:
    """JSON as a database compares it: blanks and the order of keys do not count, and 1.10 is 1.1."""
    return pa.array([None if one is None else _document(one) for one in texts.to_pylist()], pa.string())


def _document(text: str) -> str:
    return json.dumps(json.loads(text, parse_float=_number, parse_int=_number), sort_keys=True)


def _number(digits: str) -> str:
    """A number as a text that no text of a document is."""
    number = decimal.Decimal(digits)
    return f"\0{number.normalize(_EXACT) if number else 0}"


_EXACT = decimal.Context(prec=decimal.MAX_PREC, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
