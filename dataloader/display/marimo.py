"""Views in a cell of marimo."""

from __future__ import annotations

import contextlib
import threading

import marimo

from dataloader.display.html import ProgressSnapshot
from dataloader.display.state import Cancel, State

PLACES = 100
"""marimo does not say how many outputs a cell has; the first place that is not past their end comes after them."""
DRAWN_SECONDS = 1.0
"""Drawing takes milliseconds; who awaits the load then finds it drawn."""


class MarimoView:
    """HTML that is replaced, after what the cell has put out before.

    marimo's own bars drop most updates when two of them move at once.
    """

    interval = 0.15

    def open(self, state: State, _cancel: Cancel | None) -> None:
        for self._place in range(PLACES, -1, -1):
            with contextlib.suppress(IndexError):
                return self.update(state)

    def update(self, state: State) -> None:
        marimo.output.replace_at_index(ProgressSnapshot(state), self._place)

    def close(self, state: State) -> None:
        self.update(state)


class ThreadView:
    """A MarimoView of a load in another thread: only a thread of marimo's own can draw in the cell that made it."""

    interval = 3600.0

    def __init__(self) -> None:
        self._has_ended = threading.Event()
        self._thread = marimo.Thread(target=self._draw, daemon=True)

    def open(self, state: State, _cancel: Cancel | None) -> None:
        self._state = state
        self._thread.start()

    def update(self, state: State) -> None: ...

    def close(self, state: State) -> None:
        self._has_ended.set()
        self._thread.join(DRAWN_SECONDS)

    def _draw(self) -> None:
        view = MarimoView()
        with contextlib.suppress(Exception):  # as everywhere, a view that fails leaves the load alone
            view.open(self._state, None)
            while not self._has_ended.wait(view.interval):
                if self._thread.should_exit:
                    return
                view.update(self._state)
            view.close(self._state)
