"""Where streams are cut into chunks before these are full: after some seconds, and where they were cut before."""

from __future__ import annotations

import asyncio
import bisect
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TypeVar

from dataloader.sync import end_task

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How often whoever waits for a stream is given what has come."""


class Cuts:
    """Where a stream is cut.

    A load that is continued compares what is committed, and so it is cut there where those chunks begin and end; by
    time only after the last of them.

    Parameters
    ----------
    seconds : float
        How long a row waits for its chunk to become full.

    Attributes
    ----------
    numbers : dict of int to int
        The numbers of the committed chunks, by the position of their first row.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self.numbers: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._starts: list[int] = []
        self._end = 0

    def follow(self, chunks: Mapping[int, tuple[int, int]]) -> None:
        """Cut where the committed chunks are: for each number the position of its first row, and how many it has."""
        self.numbers = {start: number for number, (start, _) in chunks.items()}
        self._committed = dict(chunks.values())
        self._starts = sorted(self._committed)
        self._end = max((start + rows for start, rows in chunks.values()), default=0)

    def is_followed(self, chunks: Mapping[int, tuple[int, int]]) -> bool:
        """Whether the stream is cut where these chunks are."""
        return all(self._committed.get(start) == rows for start, rows in chunks.values())

    def is_committed(self, row: int) -> bool:
        """Whether a committed chunk begins there."""
        return row in self._committed

    def most(self, row: int, chunk_rows: int) -> int:
        """How many rows a chunk has that begins there, if its bytes allow it."""
        if not self._starts:
            return chunk_rows
        if row in self._committed:
            return self._committed[row]
        after = bisect.bisect_right(self._starts, row)
        return chunk_rows if after == len(self._starts) else min(chunk_rows, self._starts[after] - row)

    def is_due(self, row: int, since: float) -> bool:
        """Whether a chunk that begins there, and whose first row came then, is to wait for no more rows."""
        return row >= self._end and time.monotonic() - since >= self.seconds


UNCUT = Cuts()


def taken(got: list[T]) -> list[T]:
    """What is in the list, to which a thread may append meanwhile."""
    there = got[:]
    del got[: len(there)]
    return there


async def arriving(
    fill: Callable[[list[T]], Awaitable[bool]], take: Callable[[list[T]], list[T]] = taken
) -> AsyncGenerator[list[T]]:
    """Yield what comes as it comes, and every so often an empty list where nothing does.

    Parameters
    ----------
    fill : callable
        Appends items to a list, one by one, until they are as many as it likes; returns whether there may be more. What
        it has appended is yielded meanwhile, and before the error that it raises.
    take : callable
        Takes them out of the list.
    """
    got: list[T] = []
    has_more = True
    while has_more:
        filling = asyncio.ensure_future(fill(got))
        try:
            while not (await asyncio.wait({filling}, timeout=LOOK_SECONDS))[0]:
                yield take(got)
        finally:
            await end_task(filling)
        yield take(got)
        has_more = filling.result()
