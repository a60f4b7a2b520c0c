"""Both sides, kept in parts by their key: rows with one key meet in one part, and a part fits into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.comparing.columns import KEY, ROW, Compared
from dataloader.conversion.hashing import text_hashes
from dataloader.errors import PlanError

PARTS = 64
MEMORY_BYTES = 64 << 20
"""So much of both sides stays in memory; from there on they wait on disk."""


class Partitions:
    """The rows of both sides; use it in a ``with``, for its files.

    >>> with Partitions(pa.schema([("key", pa.string())])) as kept:
    ...     kept.add(0, pa.record_batch({"key": ["a", "b"]}))
    ...     sum(ours.num_rows for ours, _ in kept.parts())
    2
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._waiting: list[list[list[pa.RecordBatch]]] = [[[] for _ in range(PARTS)] for _ in range(2)]
        self._files: dict[tuple[int, int], tuple[IO[bytes], Any]] = {}
        self._nbytes = 0

    def __enter__(self) -> Partitions:
        return self

    def __exit__(self, *_: object) -> None:
        for file, _ in self._files.values():
            file.close()

    def add(self, side: int, batch: pa.RecordBatch) -> None:
        """Add rows of a side: 0 are ours, 1 theirs."""
        parts = text_hashes(batch.column(KEY)) % np.uint64(PARTS)
        order = np.argsort(parts, kind="stable")
        sorted_rows = batch.take(pa.array(order))
        ends = np.searchsorted(parts[order], np.arange(PARTS + 1, dtype=np.uint64))
        for part in np.flatnonzero(np.diff(ends)).tolist():
            rows = sorted_rows.slice(ends[part], ends[part + 1] - ends[part])
            self._waiting[side][part].append(rows)
        self._nbytes += sorted_rows.nbytes
        if self._nbytes > MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        for side, parts in enumerate(self._waiting):
            for part, batches in enumerate(parts):
                if batches:
                    table = pa.Table.from_batches(batches).combine_chunks()
                    self._writer(side, part).write_table(table)
                    batches.clear()
        self._nbytes = 0

    def _writer(self, side: int, part: int) -> Any:
        if (side, part) not in self._files:
            file = tempfile.TemporaryFile(prefix="dataloader-")
            self._files[side, part] = file, pa.ipc.new_stream(file, self._schema)
        return self._files[side, part][1]

    def parts(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """The parts, each with the rows of both sides."""
        for part in range(PARTS):
            yield self._part(0, part), self._part(1, part)

    def _part(self, side: int, part: int) -> pa.Table:
        batches = self._waiting[side][part]
        if (side, part) in self._files:
            file, writer = self._files[side, part]
            writer.close()
            file.seek(0)
            batches = [*pa.ipc.open_stream(file), *batches]
        return pa.Table.from_batches(batches, self._schema).combine_chunks()


@dataclass(slots=True)
class Differences:
    """What was found, all of it counted and the first rows kept.

    Attributes
    ----------
    most : int
        How many rows and cells of each kind are kept.
    by_column : dict of str to int
        How many cells differ.
    """

    asked: Compared
    most: int
    same: int = 0
    different: int = 0
    counts: list[int] = field(default_factory=lambda: [0, 0])
    alone: list[list[pa.Table]] = field(default_factory=lambda: [[], []])
    cells: list[pa.Table] = field(default_factory=list)
    by_column: dict[str, int] = field(default_factory=dict)

    def add(self, ours: pa.Table, theirs: pa.Table) -> None:
        """Compare a part.

        Raises
        ------
        PlanError
            When two rows of one side have the same key.
        """
        sides = ours, theirs
        for table, name in zip(sides, ("the data", "the table"), strict=True):
            self._check_unique(table, name)
        found = pc.index_in(ours[KEY], theirs[KEY], skip_nulls=True)
        for side, (table, other) in enumerate((sides, sides[::-1])):
            missing = pc.or_(pc.is_null(table[KEY]), pc.invert(pc.is_in(table[KEY], other[KEY], skip_nulls=True)))
            self._keep_alone(side, table.filter(missing))
        is_there = pc.is_valid(found)
        self._compare(ours.filter(is_there), theirs.take(found.filter(is_there)))

    def _check_unique(self, table: pa.Table, name: str) -> None:
        counts = pc.value_counts(table[KEY].combine_chunks())
        twice = counts.filter(pc.and_(pc.greater(counts.field(1), 1), pc.is_valid(counts.field(0))))
        if len(twice):
            at = pc.index(table[KEY], twice[0]["values"]).as_py()
            values = ", ".join(
                f"{self.asked.shown[one]}={table[str(one)][at].as_py()}" for one in range(self.asked.keys)
            )
            raise PlanError(f"several rows of {name} have the key {values}", hint="Name a unique key with key=.")

    def _keep_alone(self, side: int, rows: pa.Table) -> None:
        left = self.most - sum(one.num_rows for one in self.alone[side])
        self.counts[side] += rows.num_rows
        if left > 0 and rows.num_rows:
            self.alone[side].append(rows.slice(0, left))

    def _compare(self, ours: pa.Table, theirs: pa.Table) -> None:
        differs = np.zeros(ours.num_rows, bool)
        for at in range(self.asked.keys, len(self.asked.names)):
            a, b = ours[str(at)], theirs[str(at)]
            unlike = pc.or_(pc.fill_null(pc.not_equal(a, b), False), pc.xor(pc.is_null(a), pc.is_null(b)))
            mask = unlike.combine_chunks().to_numpy(zero_copy_only=False)
            if mask.any():
                differs |= mask
                self._keep_cells(at, ours.filter(unlike), theirs.filter(unlike))
        self.different += int(differs.sum())
        self.same += int((~differs).sum())

    def _keep_cells(self, at: int, ours: pa.Table, theirs: pa.Table) -> None:
        name = self.asked.shown[at]
        self.by_column[name] = self.by_column.get(name, 0) + ours.num_rows
        left = self.most - sum(one.num_rows for one in self.cells)
        if left <= 0:
            return
        ours, theirs = ours.slice(0, left), theirs.slice(0, left)
        key = {self.asked.shown[one]: ours[str(one)] for one in range(self.asked.keys)}
        cells = [*key.values(), ours[ROW], pa.array([name] * ours.num_rows), ours[str(at)], theirs[str(at)]]
        self.cells.append(pa.table(cells, [*key, ROW, "column", "ours", "theirs"]))

    def frames(self) -> tuple[pa.Table, pa.Table, pa.Table]:
        """Rows only here, rows only there, and cells: what is kept of them."""
        named = [ROW, *self.asked.shown]
        empty = pa.table([pa.array([], pa.int64()), *[pa.array([], pa.string())] * len(self.asked.names)], named)
        here, there = (
            pa.concat_tables([empty, *(one.drop_columns([KEY]).rename_columns(named) for one in kept)])
            for kept in self.alone
        )
        return here, there.drop_columns([ROW]), pa.concat_tables(self.cells) if self.cells else _no_cells(self.asked)


def _no_cells(asked: Compared) -> pa.Table:
    names = [*asked.shown[: asked.keys], ROW, "column", "ours", "theirs"]
    return pa.table([pa.array([], pa.int64() if name == ROW else pa.string()) for name in names], names)
