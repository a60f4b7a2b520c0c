"""Inspection: what `validate` gathers while it looks at the rows, and asks of the table."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.converter import Converted
from dataloader.conversion.rules import ColumnPlan
from dataloader.conversion.violations import REASONS, Violation, Violations, cut
from dataloader.database import keys
from dataloader.database.backends import backend_for
from dataloader.errors import PlanError
from dataloader.plan import LoadPlan
from dataloader.report import ValidationReport

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import ForeignKey

REPEATED_ROWS = 10_000
"""So many repeated keys are Python's objects at once."""
Unique = bool | Sequence[str]
Columns = tuple[ColumnPlan, ...]


@dataclass(slots=True)
class Seen:
    """The keys of one unique key that the data has brought so far, and in which rows."""

    columns: Columns
    joined: list[pa.Array] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)

    def add(self, converted: Converted) -> keys.Keys:
        """Take in the keys of a chunk."""
        asked = keys.Keys(converted.batch, self.columns)
        self.joined.append(asked.joined)
        self.rows.append(converted.rows)
        return asked

    def repeated(self) -> Iterator[tuple[int, str]]:
        """The rows whose key an earlier row has, with the key."""
        if not self.rows:
            return
        every = pa.table({"key": pa.chunked_array(self.joined), "row": np.concatenate(self.rows)}).drop_null()
        first = every.group_by("key").aggregate([("row", "min")])["row_min"]
        later = every.filter(pc.invert(pc.is_in(every["row"], value_set=first)))
        for part in later.to_batches(REPEATED_ROWS):
            yield from zip(part["row"].to_pylist(), part["key"].to_pylist(), strict=True)


class Inspection:
    """Gathers the violations of all rows: of their values, and of keys where that is asked for.

    Parameters
    ----------
    plan : LoadPlan
        What the load would do.
    label : callable
        Gives a row's label by its position.
    """

    def __init__(self, plan: LoadPlan, label: Callable[[int], object]) -> None:
        self.plan = plan
        self.read = 0
        self._label = label
        self._found = Violations()
        self._unique: list[Seen] = []
        self._merged: Seen | None = None
        self._foreign: list[tuple[Columns, ForeignKey]] = []

    async def prepare(self, connection: AsyncConnection, unique: Unique, foreign_keys: bool) -> None:
        """Learn the table's keys, as far as they are asked for."""
        loaded = {self.plan.table.key(column.name): column for column in self.plan.columns}
        spelled = {one.name: self.plan.table.key(one.name) for one in self.plan.table.columns}
        known = {name: loaded[key] for name, key in spelled.items() if key in loaded}
        table_is_there = not self.plan.creates_table
        if self.plan.merge is not None and self.plan.merge.is_an_error:
            self._merged = Seen(_named(self.plan.merge.merge.key, {one.name: one for one in self.plan.columns}))
        if not isinstance(unique, bool):
            self._unique.append(
                Seen(_named(unique, {name: one for one in self.plan.columns for name in (one.name, one.taken_from)}))
            )
        elif unique and table_is_there:
            found = await backend_for(connection.dialect).unique_keys(connection, self.plan.table.name)
            self._unique += [Seen(_named(key, known)) for key in found if set(key) <= set(known)]
        if foreign_keys and table_is_there:
            for key in await backend_for(connection.dialect).foreign_keys(connection, self.plan.table.name):
                if set(key.columns) <= set(known) and key.parent != self.plan.table.name:
                    self._foreign.append((_named(key.columns, known), key))

    async def add(self, connection: AsyncConnection, converted: Converted, read: int) -> None:
        """Take in a chunk's violations, and ask the database about its keys."""
        self.read += read
        found = [*converted.violations]
        if self._merged is not None:  # a key that is in the table is none of its concerns
            await asyncio.to_thread(self._merged.add, converted)
        for seen in self._unique:
            asked = await asyncio.to_thread(seen.add, converted)
            if not self.plan.clears_table:
                names = [column.name for column in seen.columns]
                there = await keys.present(connection, asked, self.plan.table.name, names)
                there &= asked.joined.is_valid().to_numpy(zero_copy_only=False)
                found += self._note("exists", seen.columns, asked, converted, there)
        for columns, key in self._foreign:
            asked = await asyncio.to_thread(keys.Keys, converted.batch, columns)
            there = await keys.present(connection, asked, key.parent, key.parent_columns)
            found += self._note("foreign_key", columns, asked, converted, ~there)
        self._found.extend(sorted(found, key=_row_of))

    def _note(
        self, reason: str, columns: Columns, asked: keys.Keys, converted: Converted, bad: np.ndarray
    ) -> Iterator[Violation]:
        for offset in np.flatnonzero(bad).tolist():
            row, key = int(converted.rows[offset]), asked.joined[offset].as_py()
            yield key_violation(row, self._label(row), columns, key, reason)

    def report(self, violations: Violations) -> ValidationReport:
        """What was found."""
        return ValidationReport(
            source=self.plan.source,
            table=str(self.plan.table.name),
            database=self.plan.database,
            read=self.read,
            violations=violations,
        )

    def violations(self) -> Violations:
        """All of them, by row; a row that is both in the table and repeated is told as both."""
        every = [*self._unique, *([] if self._merged is None else [self._merged])]
        if not every:
            return self._found
        return Violations(heapq.merge(self._found, *map(self._repeated, every), key=_row_of))

    def _repeated(self, seen: Seen) -> Iterator[Violation]:
        for row, key in seen.repeated():
            yield key_violation(row, self._label(row), seen.columns, key, "duplicate")


def _row_of(violation: Violation) -> int:
    return violation.row


def _named(names: Sequence[str], known: dict[str, ColumnPlan]) -> Columns:
    unknown = [name for name in names if name not in known]
    if unknown or not names or isinstance(names, str):
        hint = f"Pass True, or a list of some of the source's columns: {', '.join(known)}."
        raise PlanError(f"unique={names!r} does not name columns of the source", hint=hint)
    return tuple(known[name] for name in names)


def key_violation(row: int, label: object, columns: Columns, key: str, reason: str) -> Violation:
    """A row whose key is wrong, in the shape of a wrong value."""
    problem, suggestion = REASONS[reason]
    names = ", ".join(column.name for column in columns)
    target = ", ".join(str(column.target) for column in columns)
    return Violation(row, label, names, cut(key.replace(keys.BETWEEN, ", ")), target, reason, problem, suggestion)
