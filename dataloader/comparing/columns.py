"""What is compared, and by which key: both sides become the texts of the table's types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dataloader.database.definitions import Shape, definition
from dataloader.database.schema import TableName
from dataloader.errors import PlanError, SchemaMismatch
from dataloader.formatting import did_you_mean

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


def types_there(known: Mapping[str, ColumnType], schema: pa.Schema, original: Original) -> dict[str, ColumnType]:
    """The types of the columns there; where no catalog tells them, those with which they would be created."""
    made = pa.schema([one for one in schema if one.name not in known])
    if not len(made):
        return dict(known)
    table = definition(made, None, TableName(None, "t"), {}, original.backend, shape=Shape())
    columns = table.schema_of(TableName(None, "t"), original.backend).columns
    return dict(known) | {one.name: one.type for one in columns}
