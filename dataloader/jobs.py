"""Loads in the background: the cell returns at once; the load and its display continue."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from dataloader.display.cells import current_cell
from dataloader.display.html import ProgressSnapshot
from dataloader.display.progress import TICK_SECONDS, choose_view
from dataloader.display.state import State, View
from dataloader.errors import LoadCancelled, left_by
from dataloader.report import LoadReport
from dataloader.sync import Running, is_background

SHOWN_SECONDS = 0.05
"""How long `start_load` waits for its source: one that takes longer to open is shown as being opened."""


class Display:
    """The view of a load in the background, in as many cells as it is shown in, whichever thread asks.

    Attributes
    ----------
    state : State
        Of the load from its beginning on, when its source is not open yet.
    opened : threading.Event
        Set when the load is shown, well or not.
    """

    interval = TICK_SECONDS

    def __init__(self, asked: str, cancel: Callable[[], None], what: str = "") -> None:
        self.state = State(what, None)
        self.state.phase = "opening"
        self.state.is_background = True
        self.opened = threading.Event()
        self._asked = asked
        self._cancel = cancel
        self._views: list[View] = [choose_view(asked, in_other_thread=True)]
        self._drawing = threading.RLock()
        self._has_ended = False

    def open(self, state: State, _cancel: object) -> None:
        """Show the load, unless that was done: its cell may have returned before the source was open."""
        with self._drawing:
            if self.opened.is_set() or self._has_ended:
                return
            try:
                self._views[0].open(state, self._cancel)
            finally:
                self.opened.set()

    def update(self, state: State) -> None:
        self._draw(lambda view: view.update(state))

    def end(self, error: BaseException) -> None:
        """Show that the load has ended before its source was open."""
        with self._drawing:
            if self.state.has_ended:
                return
            self.state.end(error)
            if self.opened.is_set():
                self.close(self.state)
            self._has_ended = True

    def close(self, state: State) -> None:
        with self._drawing:
            self._has_ended = True
            self._draw(lambda view: view.close(state))

    def again(self, state: State) -> None:
        """Show the load in the current cell as well."""
        with self._drawing:
            view = choose_view(self._asked, in_other_thread=True)
            view.open(state, self._cancel)
            self._views.append(view)
            if self._has_ended:
                view.close(state)

    def _draw(self, draw: Callable[[View], None]) -> None:
        """Draw every view; one that fails is left out from then on."""
        with self._drawing:
            for view in tuple(self._views):
                try:
                    draw(view)
                except Exception:
                    self._views.remove(view)


class LoadJob:
    """A load in the background; made by `start_load`.

    Await it for its report. Its display keeps moving while other cells run, also those that do not await. When the
    wait is interrupted the load continues; `cancel` ends it.

    Examples
    --------
    >>> import dataloader as dl
    >>> job = dl.start_load({"id": [1, 2]}, "numbers", engine="sqlite:///:memory:", progress="none")
    >>> async def report_of(job):
    ...     return await job
    >>> dl.run(report_of(job)).loaded
    2
    >>> job.done()
    True
    """

    def __init__(self, begin: Callable[[View], Coroutine[Any, Any, LoadReport]], asked: str, what: str) -> None:
        self._cell = current_cell()
        self._display = Display(asked, self.cancel, what)
        self._running = Running(self._shown(begin))
        self._until_shown()

    async def _shown(self, begin: Callable[[View], Coroutine[Any, Any, LoadReport]]) -> LoadReport:
        try:
            return await begin(self._display)
        except BaseException as error:
            self._display.end(error)
            raise

    def _until_shown(self) -> None:
        """A display belongs to the cell only until that returns; what fails before it is shown fails here."""
        outcome, opened = self._running.outcome, self._display.opened
        end = time.monotonic() + SHOWN_SECONDS
        while not (is_background() or outcome.done() or opened.wait(SHOWN_SECONDS / 10)):
            if time.monotonic() > end:
                with contextlib.suppress(Exception):  # as everywhere, a view that fails leaves the load alone
                    self._display.open(self._display.state, None)
        if outcome.done() and not opened.is_set():
            outcome.result()

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._running.outcome.done()

    def cancel(self) -> None:
        """Stop it within a second; awaiting it then raises `LoadCancelled`, which says what is committed."""
        self._running.cancel()

    def pause(self) -> None:
        """Store no further chunk until `resume` is called. One transaction stays open meanwhile, with its locks."""
        self.progress.is_paused = True

    def resume(self) -> None:
        """Continue after `pause`."""
        self.progress.is_paused = False

    @property
    def progress(self) -> State:
        """Its phase, rows, total, rows per second, seconds."""
        return self._display.state

    @property
    def report(self) -> LoadReport | None:
        """The report, None until the load has succeeded."""
        outcome = self._running.outcome
        return outcome.result() if outcome.done() and outcome.exception() is None else None

    def __await__(self) -> Generator[Any, None, LoadReport]:
        return self._ended().__await__()

    async def _ended(self) -> LoadReport:
        while not self.done():  # noqa: ASYNC110 - in slices, or a kernel's stop button would not get through
            await asyncio.sleep(TICK_SECONDS)
        self._display.close(self.progress)  # nbclient keeps only what the current cell shows
        try:
            return self._running.outcome.result()
        except asyncio.CancelledError as error:
            raise LoadCancelled("the load was cancelled", hint=f"{left_by(error)}.") from None

    def __repr__(self) -> str:
        return str(self.progress)

    def _repr_html_(self) -> str:
        return ProgressSnapshot(self.progress)._repr_html_()

    def _ipython_display_(self) -> None:
        """Show the load once more, unless this is the very cell in which it began."""
        if current_cell() != self._cell:
            self._display.again(self.progress)
