"""What a running load shows: one state, and views of it for a terminal and for a log."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from dataloader.display.pace import Pace
from dataloader.errors import left_by
from dataloader.formatting import printable, quantity

TICK_SECONDS = 0.1
"""The heartbeat draws, and wakes the loop: without it a kernel's stop button waits for the statement's end."""
RECENT_SECONDS = 5.0
ETA_SECONDS = 0.5
"""Before that an estimate would only jump."""
LOG_SECONDS = 30.0
LOG_STEPS = 10
VARIABLE = "DATALOADER_PROGRESS"


class State:
    """What a view may show of a load: numbers and words, no display code."""

    def __init__(self, label: str, total: int | None, part: object = "") -> None:
        self.label = printable(label)
        self.total = total
        self.part = part
        self.is_paused = False
        self.rows = 0
        self.rejected = 0
        self.nbytes = 0
        self.chunks = 0
        self.error: str | None = None
        self.first_rejected: str | None = None
        self._phase = "planning"
        self._earlier = 0
        self._marks: collections.deque[tuple[float, int]] = collections.deque([(0.0, 0)])
        self._started = time.perf_counter()
        self._seconds: float | None = None
        self.pace = Pace(0.0, 0)

    def begin(self, label: str, total: int | None, part: object) -> None:
        """The source is open."""
        self.label, self.total, self.part = printable(label), total, part
        self._phase = "planning"

    def go_on(self, rows: int) -> None:
        """Begin after rows that an earlier run has committed: they are there, and took no time."""
        self.rows = self._earlier = rows
        self._marks = collections.deque([(self.seconds, rows)])
        self.pace = Pace(self.seconds, rows)

    def advance(self, rows: int, nbytes: int, rejected: int = 0) -> None:
        self.rows += rows
        self.nbytes += nbytes
        self.rejected += rejected
        self.chunks += 1
        self._marks.append((self.seconds, self.rows))
        self.pace.add(self.seconds, self.rows)
        while len(self._marks) > 2 and self.seconds - self._marks[1][0] > RECENT_SECONDS:
            self._marks.popleft()

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
        since, rows = self._marks[0] if self._seconds is None else (0.0, self._earlier)
        return (self.rows - rows) / (self.seconds - since) if self.seconds > since else 0.0

    @property
    def fraction(self) -> float | None:
        return min(1.0, self.rows / self.total) if self.total else None

    @property
    def remaining(self) -> float | None:
        """Seconds to the end, None while nobody can tell."""
        can_tell = self.total and self.rate and self.seconds > ETA_SECONDS
        return max(0, self.total - self.rows) / self.rate if self.total and can_tell else None

    def __str__(self) -> str:
        share = "" if self.fraction is None else f"{self.fraction:.0%} "
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        rows = quantity(self.rows, "row", self.total)
        text = f"{self.label}: {self.phase} {share}{rows}{rejected} in {self.seconds:.1f} s"
        return f"{text} ({self.rate:,.0f} rows/s)" + (f" - {self.error}" if self.error else "")


Cancel = Callable[[], None]
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


class LogView:
    """One line for each tenth of the rows or half minute: short in a log of CI, cron or papermill."""

    interval = TICK_SECONDS

    def open(self, state: State, _cancel: Cancel | None) -> None:
        self._step, self._printed = 0, state.seconds

    def update(self, state: State) -> None:
        step = int((state.fraction or 0.0) * LOG_STEPS)
        if (self._step < step < LOG_STEPS) or state.seconds - self._printed > LOG_SECONDS:
            self._step, self._printed = step, state.seconds
            self.close(state)

    def close(self, state: State) -> None:
        sys.stderr.write(f"{state}\n")
        sys.stderr.flush()


class TextView:
    """A bar in a terminal."""

    interval = TICK_SECONDS

    def open(self, state: State, _cancel: Cancel | None) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - only a terminal needs it

        self._bar: Any = tqdm(total=state.total, desc=state.label, unit=" rows", unit_scale=True)

    def update(self, state: State) -> None:
        self._bar.desc, self._bar.total = state.label, state.total
        self._bar.set_postfix_str(state.phase, refresh=False)
        self._bar.update(state.rows - self._bar.n)

    def close(self, state: State) -> None:
        self.update(state)
        self._bar.close()


_ELSEWHERE = {
    "widget": ("dataloader.display.jupyter", "WidgetView"),
    "html": ("dataloader.display.notebook", "HtmlView"),
    "marimo": ("dataloader.display.marimo", "MarimoView"),
    "marimo thread": ("dataloader.display.marimo", "ThreadView"),
}
"""Views that need a library of the front end, which is imported with them."""


def choose_view(asked: str | View, *, apart: bool = False) -> View:
    """The view of ``progress=``; for ``auto`` the one that fits where this process runs.

    Parameters
    ----------
    apart : bool
        Whether another thread than this one will draw it.
    """
    if not isinstance(asked, str):
        return asked
    name = os.environ.get(VARIABLE, "auto") if asked == "auto" else asked
    if name == "auto":
        name = _surroundings()
    if name == "marimo" and apart:
        name = "marimo thread"
    if name in _ELSEWHERE:
        module, kind = _ELSEWHERE[name]
        view: View = getattr(importlib.import_module(module), kind)()
        return view
    views: dict[str, type[View]] = {"text": TextView, "log": LogView}
    return views.get(name, NoView)()


def _surroundings() -> str:
    """Where this process runs, read from what is imported already."""
    if getattr(sys.modules.get("marimo"), "running_in_notebook", bool)():
        return "marimo"
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is not None:
        return "widget" if _importable("ipywidgets") else "html"
    return "text" if sys.stderr.isatty() else "log"


def _importable(name: str) -> bool:
    with contextlib.suppress(ImportError):
        __import__(name)
        return True
    return False


def _hears_clicks() -> bool:
    """Whether a click arrives before the cell has ended: from ipykernel 7 on, and while the cell awaits."""
    version: tuple[Any, ...] = getattr(sys.modules.get("ipykernel"), "version_info", (0,))
    return version >= (7,) and threading.current_thread() is threading.main_thread()


class Progress:
    """Keeps a view up to date while a load runs; a view that fails is dropped, the load goes on."""

    def __init__(self, label: str, total: int | None, asked: str | View, part: object = "") -> None:
        self.state: State = getattr(asked, "state", None) or State(label, total, part)  # of a load in the background
        self.state.begin(label, total, part)
        self._asked = asked
        self._view: View = NoView()
        self._drawn = 0.0
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        with self._safely():
            self._view = choose_view(self._asked)
            self._view.open(self.state, self._canceller())
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
        self.state.end(error)
        with self._safely():
            self._view.close(self.state)

    def _canceller(self) -> Cancel | None:
        """A click may arrive in another thread, and must wake the loop; None where it would not be heard."""
        if not _hears_clicks():
            return None
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel() -> None:
            loop.call_soon_threadsafe(task.cancel)

        return cancel

    def phase(self, name: str) -> None:
        self.state.phase = name

    async def turn(self) -> None:
        """Wait while the load is paused."""
        while self.state.is_paused:  # noqa: ASYNC110 - which any thread may set
            await asyncio.sleep(TICK_SECONDS)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.state.seconds - self._drawn >= self._view.interval:
                self._drawn = self.state.seconds
                with self._safely():
                    self._view.update(self.state)

    @contextlib.contextmanager
    def _safely(self) -> Any:
        try:
            yield
        except Exception:
            self._view = NoView()
