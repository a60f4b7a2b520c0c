"""The sieve: a chunk is written without the rows that only the database can refuse, found inside savepoints."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dataloader.errors import Refusal, refusal_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.guard import Lifeline
    from dataloader.writers.base import Writer

BLOCK_ROWS = 4_096
"""Where one row was refused there may be more: the rows after it go in blocks, so that little is sent again."""


@dataclass(slots=True)
class Sifted:
    """What became of a chunk: how many rows are stored, and which were refused, by their offset."""

    stored: int = 0
    refused: dict[int, Refusal] = field(default_factory=dict)


@dataclass(slots=True)
class _Part:
    start: int
    batch: pa.RecordBatch
    encoded: Any = None


async def sift(  # noqa: PLR0917 - a writer and all that its write needs
    writer: Writer,
    connection: AsyncConnection,
    batch: pa.RecordBatch,
    encoded: Any,
    line: Lifeline,
    most: float,
) -> Sifted:
    """Write a batch; where the database refuses, go on with the rows before and after, or with the halves.

    Parameters
    ----------
    batch, encoded
        The converted rows, and the same as the writer encoded them.
    most : float
        After more refusals than this the rest is left out: the load has failed.
    """
    sifted = Sifted()
    waiting = [_Part(0, batch, encoded)]
    while waiting and len(sifted.refused) <= most:
        part = waiting.pop()
        if part.encoded is None:
            part.encoded, _ = await asyncio.to_thread(writer.encode, part.batch)
        try:
            async with connection.begin_nested():
                stored = await writer.write(connection, part.encoded, line)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            if part.batch.num_rows == 1:
                sifted.refused[part.start] = refusal
            else:
                waiting += reversed(_parts(part, refusal.at))
        else:
            sifted.stored += part.batch.num_rows if stored is None else stored
    return sifted


def _parts(part: _Part, at: int | None) -> list[_Part]:
    """What is written instead: before, at and after the row that the database named, or halves if it named none."""
    rows = part.batch.num_rows
    cuts = [0, rows // 2, rows] if at is None or not 0 <= at < rows else [0, at, *range(at + 1, rows, BLOCK_ROWS), rows]
    return [
        _Part(part.start + start, part.batch.slice(start, end - start))
        for start, end in itertools.pairwise(cuts)
        if end > start
    ]
