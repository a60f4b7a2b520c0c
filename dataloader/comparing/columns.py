"""What is compared, and by which key: both sides become the texts of the table's types."""

from __future__ import annotations

import decimal
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.converter import Converter
from dataloader.conversion.rules import ColumnPlan, column_plan
from dataloader.database.definitions import Shape, definition
from dataloader.database.keys import BETWEEN, comparable
from dataloader.database.schema import TableName
from dataloader.errors import PlanError, SchemaMismatch
from dataloader.formatting import did_you_mean
from dataloader.rejects import Findings

if TYPE_CHECKING:
    from dataloader.conversion.column_types import ColumnType
    from dataloader.copying.survey import Original

KEY, ROW = "key", "row"
"""The first columns of what is kept of a row; the texts follow, numbered."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The columns that both sides have.

    Attributes
    ----------
    names : tuple of (str, str)
        What each is called here and there, those of the key first.
    keys : int
        How many of them are the key.
    others : tuple of str
        The columns of the table that are not compared.
    """

    names: tuple[tuple[str, str], ...]
    keys: int
    others: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """What they are called in the report."""
        return tuple(theirs for _, theirs in self.names)


def compared(ours: Sequence[str], theirs: Sequence[str], key: Sequence[str] | None, original: Original) -> Compared:
    """Pair the columns, and find the key.

    Raises
    ------
    SchemaMismatch
        When the table lacks a column of the data, or a side one of the key.
    PlanError
        When it is not clear by which key.
    """
    table = original.table
    fold = (lambda name: name) if table is None else table.key
    there = {fold(name): name for name in theirs}
    if unknown := [name for name in ours if fold(name) not in there]:
        hint = f"Name those that are compared with columns=. {did_you_mean(unknown[0], theirs)}"
        raise SchemaMismatch(f"{original.label} has no column {unknown[0]!r}", hint=hint)
    pairs = {fold(name): (name, there[fold(name)]) for name in ours}
    wanted = [fold(name) for name in (key or _natural_key(original))]
    if missing := [name for name in wanted if name not in pairs]:
        where = "the data" if missing[0] in there else "the data and the table"
        raise SchemaMismatch(f"the key's column {missing[0]!r} is not in {where}", hint="Name another key with key=.")
    names = (*(pairs[name] for name in wanted), *(pair for name, pair in pairs.items() if name not in wanted))
    return Compared(names, len(wanted), tuple(name for fold_, name in there.items() if fold_ not in pairs))


def _natural_key(original: Original) -> tuple[str, ...]:
    usable = [one for one in original.keys if one.refused is None]
    primary = [one for one in usable if one.is_primary]
    if primary or len(usable) == 1:
        return (primary or usable)[0].columns
    listed = "; ".join(", ".join(one.columns) for one in usable)
    has = f"has several unique keys: {listed}" if usable else "has no unique key"
    raise PlanError(f"rows are compared by a key, and {original.label} {has}", hint="Name its columns with key=.")


class Texts:
    """Makes of a side's batches what is compared.

    Parameters
    ----------
    names : sequence of str
        The columns, as this side calls them.
    types : sequence of ColumnType
        Those of the table.
    """

    def __init__(
        self, schema: pa.Schema, names: Sequence[str], types: Sequence[ColumnType], keys: int, zone: str | None
    ):
        fields = [schema.field(name) for name in names]
        self._plans = tuple(_plan(one, kind, zone) for one, kind in zip(fields, types, strict=True))
        self._names = names
        self._convert = Converter(self._plans)
        self._keys = keys

    def of(self, batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        """The texts of a batch, with the key in one and the places of the rows.

        Raises
        ------
        ValidationError
            When a value has no place in the table's column.
        """
        converted = self._convert(batch.select(self._names), first_row)
        if converted.violations:
            findings = Findings()
            findings.add(converted.violations)
            raise findings.error()
        pairs = zip(converted.batch.columns, self._plans, strict=True)
        texts = [_text(values, plan) for values, plan in pairs]
        key = texts[0] if self._keys == 1 else pc.binary_join_element_wise(*texts[: self._keys], BETWEEN)
        arrays = [key, pa.array(converted.rows), *texts]
        return pa.RecordBatch.from_arrays(arrays, [KEY, ROW, *map(str, range(len(texts)))])


def _plan(offered: pa.Field, target: ColumnType, zone: str | None) -> ColumnPlan:
    return column_plan(offered, target, True, "exact", zone)


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


def types_there(known: Mapping[str, ColumnType], schema: pa.Schema, original: Original) -> dict[str, ColumnType]:
    """The types of the columns there; where no catalog tells them, those with which they would be created."""
    made = pa.schema([one for one in schema if one.name not in known])
    if not len(made):
        return dict(known)
    table = definition(made, None, TableName(None, "t"), {}, original.backend, shape=Shape())
    columns = table.schema_of(TableName(None, "t"), original.backend).columns
    return dict(known) | {one.name: one.type for one in columns}
