"""Rows as the texts by which a database would tell them apart: for comparing, whatever brought them."""

from __future__ import annotations

import decimal
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

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


def _text(values: pa.Array, plan: ColumnPlan) -> pa.Array:
    texts = comparable(values, plan).cast(pa.string())
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
