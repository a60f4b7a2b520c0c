"""What is known of a running load, and what a view of it is: numbers and words, no display code."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from dataloader.errors import left_by
from dataloader.formatting import pace, printable, quantity

RECENT_SECONDS = 5.0
ETA_SECONDS = 0.5
"""Before that an estimate would only jump."""
SAMPLES = 120
NEARLY_DONE = 0.99
"""No more is done of a file whose rows are estimated, before its end is seen."""
UNSUCCESSFUL = ("failed", "cancelled")

Sample = tuple[float, int]
"""Seconds since the load began, and how many rows had been written by then."""


class Throughput:
    """Samples of how fast a load goes, chunk by chunk; when there are too many, every other one goes.

    >>> throughput = Throughput(0.0, 0)
    >>> for second in range(1, 1001):
    ...     throughput.add(float(second), second * 10)
    >>> len(throughput.samples) <= SAMPLES + 1, throughput.samples[0], throughput.samples[-1]
    (True, (0.0, 0), (1000.0, 10000))
    """

    def __init__(self, seconds: float, rows: int) -> None:
        self._kept: list[Sample] = [(seconds, rows)]
        self._last: Sample = self._kept[0]
        self._stride = 1
        self._added = 0

    def add(self, seconds: float, rows: int) -> None:
        self._last = (seconds, rows)
        self._added += 1
        if self._added % self._stride == 0:
            self._kept.append(self._last)
        if len(self._kept) > SAMPLES:
            self._kept = self._kept[::2]
            self._stride *= 2

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The first one, the last one, and some in between at equal distances."""
        last = () if self._kept[-1] == self._last else (self._last,)
        return (*self._kept, *last)


def rates(samples: Sequence[Sample]) -> list[float]:
    """Rows per second in equal spans of time, as many as there were chunks: two workers commit almost at once.

    >>> rates([(0.0, 0), (1.0, 100), (2.0, 300)])
    [100.0, 200.0]
    """
    if len(samples) < 3 or samples[-1][0] <= samples[0][0]:
        return []
    seconds, rows = zip(*samples, strict=True)
    spans = np.linspace(seconds[0], seconds[-1], len(samples))
    return [float(rate) for rate in np.diff(np.interp(spans, seconds, rows)) / np.diff(spans)]


class Result(Protocol):
    """What takes a bar's place when the load has succeeded: its report."""

    def _repr_html_(self) -> str: ...


class State:
    """The state of a load as a view may show it.

    Attributes
    ----------
    result : Result or None
        The report, once there is one.
    keeps_rows : bool
        Whether rows stay in the table when the load fails; else everything is rolled back.
    outcome : str
        What became of the rows that it has counted, in a word.
    is_background : bool
        Whether the load is no cell's own, so that its error is shown nowhere but here.
    most_per_second : float or None
        How fast it may go, where that is limited.
    can_pause : bool
        Whether it can be paused, as a load can and a read cannot.
    """

    def __init__(self, label: str, total: int | None = None, position: object = "") -> None:
        self.begin(label, total, position)
        self.is_paused = False
        self.rows = 0
        self.rejected = 0
        self.nbytes = 0
        self.chunks = 0
        self.error: str | None = None
        self.notice: str | None = None
        self.first_rejected: str | None = None
        self.result: Result | None = None
        self.keeps_rows = False
        self.outcome = "committed"
        self.is_background = False
        self.most_per_second: float | None = None
        self.can_pause = True
        self.is_in_doubt = False
        self._earlier = 0
        self._recent: collections.deque[Sample] = collections.deque([(0.0, 0)])
        self._started = time.perf_counter()
        self._seconds: float | None = None
        self.throughput = Throughput(0.0, 0)

    def begin(self, label: str, total: int | None, position: object) -> None:
        """The source is open."""
        self.label, self.total, self.position = printable(label), total, position
        self._phase = "planning"

    def resume_from(self, rows: int) -> None:
        """Begin after rows that an earlier run has committed: they are there, and took no time."""
        self.rows = self._earlier = rows
        self._recent = collections.deque([(self.seconds, rows)])
        self.throughput = Throughput(self.seconds, rows)

    def advance(self, rows: int, nbytes: int, rejected: int = 0) -> None:
        self.rows += rows
        self.nbytes += nbytes
        self.rejected += rejected
        self.chunks += 1
        self._recent.append((self.seconds, self.rows))
        self.throughput.add(self.seconds, self.rows)
        while len(self._recent) > 2 and self.seconds - self._recent[1][0] > RECENT_SECONDS:
            self._recent.popleft()

    @property
    def phase(self) -> str:
        return "paused" if self.is_paused and self._phase == "loading" else self._phase

    @phase.setter
    def phase(self, name: str) -> None:
        self._phase = name

    def finish(self, phase: str, error: str | None = None) -> None:
        self.phase, self.error = phase, error
        self._seconds = self.seconds

    def end(self, error: BaseException | None) -> None:
        """Finish as the load did."""
        if error is not None and not self.keeps_rows:
            self.rows, self.is_in_doubt = 0, self._phase == "committing"
        if error is None:
            self.finish("done")
        elif isinstance(error, asyncio.CancelledError):
            self.finish("cancelled", left_by(error))
        else:
            self.finish("failed", str(error).partition("\n")[0])

    @property
    def has_ended(self) -> bool:
        return self._seconds is not None

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started if self._seconds is None else self._seconds

    @property
    def rate(self) -> float:
        """Rows per second: lately while the load runs, on the whole when it has ended."""
        since, rows = self._recent[0] if self._seconds is None else (0.0, self._earlier)
        return (self.rows - rows) / (self.seconds - since) if self.seconds > since else 0.0

    @property
    def pace(self) -> str:
        """The rate in words, with what it may be at most."""
        most = "" if self.most_per_second is None else f", at most {pace(self.most_per_second)}"
        return f"{pace(self.rate)}{most}"

    @property
    def _expected(self) -> float | None:
        """How many rows there are in all: as is known, else as the bytes of files that were read let expect."""
        about: float | None = getattr(self.position, "about_rows", None)
        return self.total or (about and max(about, self.rows / NEARLY_DONE))

    @property
    def fraction(self) -> float | None:
        """How much is done; None where it is unknown."""
        expected = self._expected
        if expected and not self.total and self._phase == "done":
            return 1.0
        return min(1.0, self.rows / expected) if expected else None

    @property
    def left(self) -> str:
        """What a load that did not succeed has left in the table, in words."""
        if self.is_in_doubt:
            return "the commit was under way"
        return (
            f"{quantity(self.rows, 'row', self.total)} {self.outcome}"
            if self.keeps_rows
            else "0 of its rows are in the table"
        )

    @property
    def remaining(self) -> float | None:
        """Seconds to the end, None while it is unknown."""
        if self.has_ended or self.is_paused or not self._expected or self.seconds <= ETA_SECONDS:
            return None
        return max(0.0, self._expected - self.rows) / self.rate if self.rate else None

    def __str__(self) -> str:
        share = "" if self.fraction is None else f"{self.fraction:.0%} "
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        said = self.error or self.notice
        said = f" - {said}" if said else ""
        if self.phase in UNSUCCESSFUL:
            return f"{self.label}: {self.phase}, {self.left}{rejected} after {self.seconds:.1f} s{said}"
        rows = quantity(self.rows, "row", self.total)
        text = f"{self.label}: {self.phase} {share}{rows}{rejected} in {self.seconds:.1f} s"
        return f"{text}{said}" if self.is_paused else f"{text} ({self.pace}){said}"


Cancel = Callable[[], object]
"""Cancels the load, from whatever thread."""


@runtime_checkable
class View(Protocol):
    """Shows a state. `interval` is the least time between two updates, in seconds."""

    interval: float

    def open(self, state: State, cancel: Cancel | None) -> None: ...
    def update(self, state: State) -> None: ...
    def close(self, state: State) -> None: ...


class NoView:
    interval = 3600.0

    def open(self, state: State, cancel: Cancel | None) -> None: ...
    def update(self, state: State) -> None: ...
    def close(self, state: State) -> None: ...
