"""How fast a load went, chunk by chunk: marks that stay few whatever its size, and a picture of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MARKS = 120
_WIDTH, _HEIGHT = 240, 32

Mark = tuple[float, int]
"""Seconds since the load began, and how many rows had been written by then."""


class Pace:
    """Collects marks; when there are too many, every other one goes.

    >>> pace = Pace(0.0, 0)
    >>> for second in range(1, 1001):
    ...     pace.add(float(second), second * 10)
    >>> len(pace.marks) <= MARKS + 1, pace.marks[0], pace.marks[-1]
    (True, (0.0, 0), (1000.0, 10000))
    """

    def __init__(self, seconds: float, rows: int) -> None:
        self._marks: list[Mark] = [(seconds, rows)]
        self._last: Mark = self._marks[0]
        self._stride = 1
        self._added = 0

    def add(self, seconds: float, rows: int) -> None:
        self._last = (seconds, rows)
        self._added += 1
        if self._added % self._stride == 0:
            self._marks.append(self._last)
        if len(self._marks) > MARKS:
            self._marks = self._marks[::2]
            self._stride *= 2

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The first one, the last one, and some in between at equal distances."""
        last = () if self._marks[-1] == self._last else (self._last,)
        return (*self._marks, *last)


def rates(marks: Sequence[Mark]) -> list[float]:
    """Rows per second in equal spans of time, as many as there were chunks: two workers commit almost at once.

    >>> rates([(0.0, 0), (1.0, 100), (2.0, 300)])
    [100.0, 200.0]
    """
    if len(marks) < 3 or marks[-1][0] <= marks[0][0]:
        return []
    seconds, rows = zip(*marks, strict=True)
    spans = np.linspace(seconds[0], seconds[-1], len(marks))
    return [float(rate) for rate in np.diff(np.interp(spans, seconds, rows)) / np.diff(spans)]


def drawn(heights: Sequence[float]) -> str:
    """An inline SVG of rates over time, in the text's own colour."""
    across, up = _WIDTH / len(heights), _HEIGHT / (max(heights) or 1.0)
    steps = "".join(
        f"V{_HEIGHT - height * up:.1f}H{number * across:.1f}" for number, height in enumerate(heights, start=1)
    )
    return (
        f'<svg role="img" aria-label="rows per second over time" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none" style="width:100%;max-width:{_WIDTH}px;height:{_HEIGHT}px;display:block">'
        f'<path d="M0 {_HEIGHT}{steps}V{_HEIGHT}Z" fill="currentColor" opacity="0.35"></path></svg>'
    )
