"""Row bisection: a chunk is written without the rows that only the database can refuse, found inside savepoints."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dataloader.database.backends import backend_for
from dataloader.database.driver_errors import Refusal, refusal_of
from dataloader.writers.base import Written

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.watchdog import Watchdog
    from dataloader.writers.base import Writer

BLOCK_ROWS = 4_096
"""Where one row was refused there may be more: the rows after it go in blocks, so that little is sent again."""


@dataclass(slots=True)
class BisectResult:
    """What became of a chunk: of the rows that were written, which were refused, by offset, and which were not."""

    written: Written = field(default_factory=Written)
    refused: dict[int, Refusal] = field(default_factory=dict)
    stored: list[np.ndarray] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """Some rows of the batch: their offsets, and the rows."""

    offsets: np.ndarray
    batch: pa.RecordBatch
    encoded: Any = None


class RowBisector:
    """Writes a batch; where the database refuses, the rows before and after, or the halves.

    Parameters
    ----------
    may_wait : bool
        Whether a row may refer to another one of its batch: it is then tried again when the others are stored.
    """

    def __init__(self, writer: Writer, connection: AsyncConnection, *, may_wait: bool = False) -> None:
        self._writer = writer
        self._connection = connection
        self._may_wait = may_wait

    async def write(self, batch: pa.RecordBatch, encoded: Any, watchdog: Watchdog, most: float) -> BisectResult:
        """Write converted rows, which the writer has encoded; after more refusals than `most` the rest is left out."""
        found = BisectResult()
        first: dict[int, Refusal] = {}
        part: _Part | None = _Part(np.arange(batch.num_rows), batch, encoded)
        while part is not None:
            before = found.written
            await self._drain([part], found, watchdog, most)
            found.refused |= {offset: why for offset, why in first.items() if offset in found.refused}
            first = dict(found.refused)
            part = self._again(batch, found) if found.written != before else None
        return found

    async def _drain(self, waiting: list[_Part], found: BisectResult, watchdog: Watchdog, most: float) -> None:
        while waiting and len(found.refused) <= most:
            part = waiting.pop()
            if part.encoded is None:
                part.encoded, _ = await asyncio.to_thread(self._writer.encode, part.batch)
            try:
                async with self._connection.begin_nested():
                    written = await self._writer.write(self._connection, part.encoded, watchdog)
            except Exception as error:
                refusal = refusal_of(error)
                if refusal is None or await backend_for(self._connection.dialect).has_ended(self._connection):
                    raise
                if part.batch.num_rows > 1:
                    waiting += reversed(_parts(part, refusal.at))
                else:
                    found.refused[int(part.offsets[0])] = refusal
            else:
                found.stored.append(part.offsets)
                found.written = found.written.plus(written or Written(part.batch.num_rows))

    def _again(self, batch: pa.RecordBatch, found: BisectResult) -> _Part | None:
        """The rows whose parent was missing, and may be there by now."""
        orphans = [offset for offset, why in found.refused.items() if why.reason == "foreign_key"]
        if not (self._may_wait and orphans):
            return None
        for offset in orphans:
            del found.refused[offset]
        offsets = np.array(sorted(orphans))
        return _Part(offsets, batch.take(pa.array(offsets)))


def _parts(part: _Part, at: int | None) -> list[_Part]:
    """What is written instead: before, at and after the row that the database named, or halves if it named none."""
    rows = part.batch.num_rows
    cuts = [0, rows // 2, rows] if at is None or not 0 <= at < rows else [0, at, *range(at + 1, rows, BLOCK_ROWS), rows]
    return [
        _Part(part.offsets[start:end], part.batch.slice(start, end - start))
        for start, end in itertools.pairwise(cuts)
        if end > start
    ]
