"""What needs IPython: displays in a cell's output."""

from __future__ import annotations

import sys
from typing import Any

from IPython import display as ipython_display

from dataloader.display.picture import Picture
from dataloader.display.progress import Cancel, State

_display: Any = ipython_display.display


def current_cell() -> int | None:
    """The number of the cell that is executed."""
    shell = sys.modules["IPython"].get_ipython()
    return None if shell is None else int(shell.execution_count)


class HtmlView:
    """HTML that is replaced: for kernels without ipywidgets."""

    interval = 0.25

    def open(self, state: State, _cancel: Cancel | None) -> None:
        self._handle: Any = _display(Picture(state), display_id=True)

    def update(self, state: State) -> None:
        self._handle.update(Picture(state))

    def close(self, state: State) -> None:
        self._handle.update(Picture(state))
