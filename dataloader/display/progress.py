"""The display of a running load: which view fits where the process runs, and the heartbeat that keeps it current."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from dataloader.display.cells import ipython_shell
from dataloader.display.state import Cancel, NoView, Result, State, View
from dataloader.formatting import duration, quantity

R = TypeVar("R", bound=Result)

TICK_SECONDS = 0.1
"""The heartbeat draws, and wakes the loop: without it a kernel's stop button waits for the statement's end."""
LOG_SECONDS = 30.0
LOG_STEPS = 10
VARIABLE = "DATALOADER_PROGRESS"
NUMBERS_COLUMNS = 58
"""What a terminal's bar needs beside its label: without room for them it would show the label alone."""
LEAST_LABEL = 20


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
    """A bar in a terminal, in one line of it: a bar that is wrapped leaves a line behind with every update."""

    interval = TICK_SECONDS

    def open(self, state: State, _cancel: Cancel | None) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - only a terminal needs it

        self._bar: Any = tqdm(desc=_fitting(state.label), bar_format="{desc}", dynamic_ncols=True)
        self.update(state)

    def update(self, state: State) -> None:
        self._bar.desc, self._bar.total = _fitting(state.label), state.total
        share = "" if state.total is None else "{percentage:3.0f}%|{bar}| "
        self._bar.bar_format = f"{{desc}}: {share}{_numbers(state)}"
        self._bar.n = state.rows
        self._bar.refresh()

    def close(self, state: State) -> None:
        self.update(state)
        self._bar.close()


def _numbers(state: State) -> str:
    """Rows, rate and time while it loads; else rows, time and what it does."""
    rows = quantity(state.rows, "row")
    if state.phase == "loading":
        left = state.remaining
        return f"{rows} · {state.pace} · {duration(state.seconds) if left is None else f'{duration(left)} left'}"
    rate = f"{state.pace} · " if state.has_ended else ""
    return f"{rows} · {rate}{duration(state.seconds)} · {state.phase}"


def _fitting(label: str) -> str:
    """A label with its beginning and its end, so that there is room for the numbers."""
    room = max(LEAST_LABEL, shutil.get_terminal_size().columns - NUMBERS_COLUMNS)
    return label if len(label) <= room else f"{label[: room // 2]}…{label[1 + room // 2 - room :]}"


LAZY_VIEWS = {
    "widget": ("dataloader.display.jupyter", "WidgetView"),
    "html": ("dataloader.display.jupyter", "HtmlView"),
    "marimo": ("dataloader.display.marimo", "MarimoView"),
    "marimo thread": ("dataloader.display.marimo", "ThreadView"),
}
"""Views that need a library of the front end, which is imported with them."""


def choose_view(asked: str | View, *, in_other_thread: bool = False) -> View:
    """The view of ``progress=``; for ``auto`` the one that fits where this process runs.

    Parameters
    ----------
    in_other_thread : bool
        Whether another thread than this one will draw it.
    """
    if not isinstance(asked, str):
        return asked
    name = os.environ.get(VARIABLE, "auto") if asked == "auto" else asked
    if name == "auto":
        name = _view_of_this_process()
    if name == "marimo" and in_other_thread:
        name = "marimo thread"
    if name in LAZY_VIEWS:
        module, kind = LAZY_VIEWS[name]
        view: View = getattr(importlib.import_module(module), kind)()
        return view
    views: dict[str, type[View]] = {"text": TextView, "log": LogView}
    return views.get(name, NoView)()


def _view_of_this_process() -> str:
    """Read from what is imported already: nothing is imported to find out."""
    running_in_marimo = getattr(sys.modules.get("marimo"), "running_in_notebook", None)
    if running_in_marimo is not None and running_in_marimo():
        return "marimo"
    if getattr(ipython_shell(), "kernel", None) is not None:
        return "widget" if _has_ipywidgets() else "html"
    return "text" if sys.stderr.isatty() else "log"


def _has_ipywidgets() -> bool:
    try:
        importlib.import_module("ipywidgets")
    except ImportError:
        return False
    return True


def _receives_clicks() -> bool:
    """Whether a click arrives before the cell has ended: from ipykernel 7 on, and while the cell awaits."""
    version: tuple[Any, ...] = getattr(sys.modules.get("ipykernel"), "version_info", (0,))
    return version >= (7,) and threading.current_thread() is threading.main_thread()


class Progress:
    """Keeps a view up to date while a load runs; a view that fails is dropped, the load continues."""

    def __init__(self, label: str, total: int | None, asked: str | View, position: object = "") -> None:
        self.state: State = getattr(asked, "state", None) or State(label)  # of a load in the background
        self.state.begin(label, total, position)
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
        if not (error is None and self.state.has_ended):
            self.state.end(error)
        with self._safely():
            self._view.close(self.state)

    def _canceller(self) -> Cancel | None:
        """A click may arrive in another thread, and must wake the loop; None where none arrives in time."""
        task = asyncio.current_task()
        if task is None or not _receives_clicks():
            return None
        return functools.partial(task.get_loop().call_soon_threadsafe, task.cancel)

    def phase(self, name: str) -> None:
        self.state.phase = name

    def stop(self) -> None:
        """Show at once that it was stopped."""
        self.state.finish("stopped")
        with self._safely():
            self._view.close(self.state)
        self._view = NoView()

    def succeed(self, make: Callable[[], R], phase: str = "done") -> R:
        """Stop the clock, and have the report that is made then take the bar's place."""
        self.state.finish(phase)
        result = make()
        self.state.result = result
        return result

    async def wait_while_paused(self) -> None:
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
    def _safely(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._view = NoView()
