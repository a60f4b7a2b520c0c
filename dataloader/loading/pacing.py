"""Pacing: a load that must not take all that the server has waits between its chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """A budget of rows per second, which all workers of a load share.

    A chunk may begin when the rows before it have had their time: what the server took for them counts, and a load
    that was slower for a while does not hurry afterwards.

    Parameters
    ----------
    rows_per_second : float
        The most rows that are begun in a second, on the average.
    clock : callable or None
        Tells the time in seconds; None: the loop's.
    """

    def __init__(self, rows_per_second: float, clock: Callable[[], float] | None = None) -> None:
        self._rows_per_second = rows_per_second
        self._clock = clock or asyncio.get_running_loop().time
        self._next = 0.0

    def reserve(self, rows: int) -> float:
        """Take the time of so many rows, and return in how many seconds it begins.

        >>> pace = Pace(100, clock=lambda: 0.0)
        >>> pace.reserve(50), pace.reserve(50), pace.reserve(10)
        (0.0, 0.5, 1.0)
        """
        now = self._clock()
        begin = max(now, self._next)
        self._next = begin + rows / self._rows_per_second
        return begin - now

    async def wait(self, rows: int) -> None:
        """Wait until so many rows may be sent."""
        await asyncio.sleep(self.reserve(rows))
