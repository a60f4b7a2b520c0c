"""Loads and reads in the background: the cell returns at once; the work and its display continue."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from dataloader.display.cells import current_cell
from dataloader.display.html import ProgressSnapshot
from dataloader.display.progress import TICK_SECONDS, choose_view
from dataloader.display.state import State, View
from dataloader.errors import DataLoaderError, LoadCancelled, ReadError, left_by
from dataloader.report import LoadReport
from dataloader.sync import Running, is_background

T = TypeVar("T")

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


class _Job(Generic[T]):
    """What is done in the background."""

    def __init__(self, begin: Callable[[View], Coroutine[Any, Any, T]], asked: str, what: str) -> None:
        self._cell = current_cell()
        self._display = Display(asked, self.cancel, what)
        self._running = Running(self._shown(begin))
        self._until_shown()

    async def _shown(self, begin: Callable[[View], Coroutine[Any, Any, T]]) -> T:
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
        """Whether it has ended, well or not.

        Returns
        -------
        bool
            At once: it waits for nothing.
        """
        return self._running.outcome.done()

    def cancel(self) -> None:
        """Stop it within a second; awaiting it then raises an error that says what it has left."""
        self._running.cancel()

    @property
    def progress(self) -> State:
        """Its phase, rows, total, rows per second, seconds."""
        return self._display.state

    @property
    def _result(self) -> T | None:
        outcome = self._running.outcome
        return outcome.result() if outcome.done() and outcome.exception() is None else None

    def __await__(self) -> Generator[Any, None, T]:
        return self._ended().__await__()

    async def _ended(self) -> T:
        while not self.done():  # noqa: ASYNC110 - in slices, or a kernel's stop button would not get through
            await asyncio.sleep(TICK_SECONDS)
        self._display.close(self.progress)  # nbclient keeps only what the current cell shows
        try:
            return self._running.outcome.result()
        except asyncio.CancelledError as error:
            raise self._cancelled(error) from None

    def _cancelled(self, error: asyncio.CancelledError) -> DataLoaderError:
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self.progress)

    def _repr_html_(self) -> str:
        return ProgressSnapshot(self.progress)._repr_html_()

    def _ipython_display_(self) -> None:
        """Show the load once more, unless this is the very cell in which it began."""
        if current_cell() != self._cell:
            self._display.again(self.progress)


class LoadJob(_Job[LoadReport]):
    """A load in the background; made by `start_load`.

    Await it for its report. Its display keeps moving while other cells run, also those that do not await. When the
    wait is interrupted the load continues; `cancel` ends it, and awaiting it then raises `LoadCancelled`.

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

    def pause(self) -> None:
        """Store no further chunk until `resume` is called. One transaction stays open meanwhile, with its locks."""
        self.progress.is_paused = True

    def resume(self) -> None:
        """Continue after `pause`."""
        self.progress.is_paused = False

    @property
    def report(self) -> LoadReport | None:
        """The report, None until the load has succeeded."""
        return self._result

    def _cancelled(self, error: asyncio.CancelledError) -> DataLoaderError:
        return LoadCancelled("the load was cancelled", hint=f"{left_by(error)}.")


class ReadJob(_Job[Any]):
    """A read in the background; made by `start_read`.

    Await it for its frame. Its display keeps moving while other cells run, also those that do not await. When the
    wait is interrupted the read continues; `cancel` ends it and the server's statement, and awaiting it then raises
    `ReadError`.

    Examples
    --------
    >>> import dataloader as dl
    >>> job = dl.start_read("SELECT 1 AS n", engine="sqlite:///:memory:", progress="none")
    >>> async def frame_of(job):
    ...     return await job
    >>> dl.run(frame_of(job))["n"].tolist()
    [1]
    """

    @property
    def frame(self) -> Any:
        """The frame, None until the read has succeeded."""
        return self._result

    def _cancelled(self, error: asyncio.CancelledError) -> DataLoaderError:
        return ReadError("the read was cancelled", hint="The server has ended the query; run it again.")
