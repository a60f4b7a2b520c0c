"""Storing: a converted chunk goes into the table, and what the database refuses goes to the rejects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from dataloader.conversion.converter import shown_of
from dataloader.conversion.violations import REASONS, Violation
from dataloader.database import keys
from dataloader.database.driver_errors import Refusal, refusal_of, translate
from dataloader.database.schema import ForeignKey, folded
from dataloader.loading.duplicates import repeated_error
from dataloader.writers import RepeatedKeyError, Written
from dataloader.writers.bisect import RowBisector

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.conversion.converter import Converted
    from dataloader.conversion.rules import ColumnPlan
    from dataloader.database.watchdog import Watchdog
    from dataloader.errors import ValidationError
    from dataloader.loading.chunks import Chunk
    from dataloader.loading.execution import LoadExecution
    from dataloader.writers.staged import StagedWriter


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of a chunk: of the rows that were written, and what is wrong with the others."""

    written: Written
    violations: list[Violation] = field(default_factory=list)


class ChunkStore:
    """Puts chunks into the table, inside one transaction; where the plan keeps rejects, each row that can be stored.

    Parameters
    ----------
    execution : LoadExecution
        Where only so many rejects are allowed, the rest of a chunk is left out.
    names_rows : bool
        Whether the row that the database refuses is looked for, inside savepoints, where it does not name it.
    """

    def __init__(self, connection: AsyncConnection, execution: LoadExecution, *, names_rows: bool = True) -> None:
        self._connection = connection
        self._writer = execution.writer
        self._plan = execution.plan
        self._label = execution.source.label
        self._rejects = execution.rejects
        self._names_rows = names_rows
        self._backend = execution.backend
        self._is_ours = execution.borrowed is None
        self._returned = execution.returned
        self._bisector = RowBisector(execution.writer, connection, may_wait=not self._backend.checks_keys_late)
        self._parents: list[tuple[tuple[ColumnPlan, ...], ForeignKey]] = []

    async def prepare(self) -> None:
        """Learn the foreign keys that are checked after a whole chunk, of which no row is named."""
        if not self._plan.keeps_rejects or not self._backend.checks_keys_late:
            return
        if self._is_ours:  # of the caller's transaction nobody could tell what was deferred
            await self._backend.check_keys_immediately(self._connection, self._plan.table.name)
        known = {column.name: column for column in self._plan.columns}
        for key in await self._backend.foreign_keys(self._connection, self._plan.table.name):
            if key.parent == self._plan.table.name:
                self._bisector = RowBisector(self._writer, self._connection, may_wait=True)
            elif set(key.columns) <= set(known) and key.readable:
                self._parents.append((tuple(known[name] for name in key.columns), key))

    async def finish(self) -> Written:
        """What is done when every chunk is stored, and what became of their rows by that."""
        return Written()

    async def store(self, chunk: Chunk, watchdog: Watchdog) -> StoreResult:
        """Write a chunk.

        Raises
        ------
        WriteError
            Where the plan does not keep rejects: naming the first row that the database refuses.
        ValidationError
            Where more rows are refused than may be.
        """
        if self._plan.keeps_rejects:
            return await self._store_some(chunk, watchdog)
        try:
            return await self._store_all(chunk, watchdog)
        except RepeatedKeyError as error:
            raise self._repeated(error, chunk.converted.rows) from None

    async def _store_all(self, chunk: Chunk, watchdog: Watchdog) -> StoreResult:
        if not chunk.converted.batch.num_rows:  # all of it gave way to other rows with their key
            return StoreResult(Written())
        if not self._names_rows:
            written = await self._writer.write(self._connection, chunk.encoded, watchdog)
            return StoreResult(written or Written(chunk.rows))
        try:
            async with self._connection.begin_nested():
                written = await self._writer.write(self._connection, chunk.encoded, watchdog)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None or refusal.at is not None or await self._backend.has_ended(self._connection):
                raise
            batch = chunk.converted.batch
            found = await RowBisector(self._writer, self._connection).write(batch, chunk.encoded, watchdog, most=0)
            row = min((int(chunk.converted.rows[at]) for at in found.refused), default=None)
            raise translate(error, self._plan.database, row=row) from error
        self._note_returned([chunk.converted.rows])
        return StoreResult(written or Written(chunk.rows))

    def _repeated(self, repeated: RepeatedKeyError, rows: np.ndarray) -> ValidationError:
        """Rows that have one key as the database finds; `rows` are the places of those that were sent."""
        merge = self._plan.merge
        assert merge is not None
        first, last = (int(rows[at]) for at in repeated.rows)
        key, natural = ", ".join(merge.merge.key), merge.natural
        return repeated_error(key, repeated.key, (first, last), self._label(last), natural=natural)

    def _note_returned(self, rows: list[np.ndarray]) -> None:
        """Note what was returned of rows, for each write by their places in the source."""
        if self._returned.columns:
            writer = cast("StagedWriter", self._writer)
            for places, values in zip(rows, writer.take_returned(), strict=True):
                self._returned.add(places, values)

    async def _store_some(self, chunk: Chunk, watchdog: Watchdog) -> StoreResult:
        converted = chunk.converted
        most = self._rejects.most() - len({one.row for one in converted.violations})
        orphans = await self._orphans(converted)
        written, refused = Written(), dict[int, Refusal]()
        for rows in (np.flatnonzero(orphans), np.flatnonzero(~orphans)) if orphans.any() else (None,):
            batch, encoded = await self._some(chunk, rows)
            if batch.num_rows:
                stored = converted.rows if rows is None else converted.rows[rows]
                try:
                    found = await self._bisector.write(batch, encoded, watchdog, most - len(refused))
                except RepeatedKeyError as error:
                    raise self._repeated(error, stored) from None
                self._note_returned([stored[offsets] for offsets in found.stored])
                written = written.plus(found.written)
                refused |= {at if rows is None else int(rows[at]): why for at, why in found.refused.items()}
        violations = [self._refused(chunk, int(converted.rows[at]), why) for at, why in refused.items()]
        violations = [*converted.violations, *violations]
        self._rejects.check(more=violations)  # what is left out of a chunk must not be committed with it
        return StoreResult(written, violations)

    async def _some(self, chunk: Chunk, rows: np.ndarray | None) -> tuple[pa.RecordBatch, Any]:
        """Some rows of a chunk, encoded; None: all."""
        batch = chunk.converted.batch
        if rows is None:
            return batch, chunk.encoded
        batch = batch.take(pa.array(rows))
        encoded, _ = await asyncio.to_thread(self._writer.encode, batch)
        return batch, encoded

    async def _orphans(self, converted: Converted) -> np.ndarray:
        """The rows whose parent is missing. They are stored apart and first: the database decides, as ever."""
        orphans = np.zeros(len(converted.rows), bool)
        for columns, key in self._parents:
            asked = await asyncio.to_thread(keys.Keys, converted.batch, columns)
            orphans |= ~await keys.present(self._connection, asked, key.parent, key.parent_columns)
        return orphans

    def _refused(self, chunk: Chunk, row: int, why: Refusal) -> Violation:
        return refused(chunk, row, why, self._label(row))


def refused(chunk: Chunk, row: int, why: Refusal, label: object) -> Violation:
    """A row that the database refuses, in the shape of a wrong value."""
    names, asked = chunk.batch.schema.names, (why.column or "").split(", ")
    named = [name for name in asked if name in names] or [
        name
        for name in names
        if folded(name) in map(folded, asked)  # SQLite's, in the table's spelling
    ]
    offset = row - chunk.first_row
    value = ", ".join(shown_of(chunk.batch.column(name), offset) for name in named) or "it"
    column = ", ".join(named) or None
    suggestion = REASONS[why.reason][1]
    return Violation(row, label, column, value, why.constraint, why.reason, why.problem, suggestion)
