"""Views in a cell of Jupyter: HTML, and where ipywidgets is there a live bar with a Cancel button."""

from __future__ import annotations

import collections
import contextlib
from typing import Any

from IPython import display as ipython_display

from dataloader.display.cells import current_cell, note_shown
from dataloader.display.html import ProgressSnapshot, bar, panel
from dataloader.display.state import Cancel, State

with contextlib.suppress(ImportError):  # WidgetView is then not chosen
    import ipywidgets

KEPT = 20
"""A page that was reloaded during a load shows the widget alone, so that the latest stay as they ended."""
_PICTURE = {"flex": "1 1 400px", "min_width": "0", "max_width": "640px", "margin": "0"}
"""Where there is no room beside it, the buttons go below: a narrow bar would be a line higher with every number."""
_BUTTON = {"width": "92px", "height": "26px", "margin": "0 0 0 6px"}
_display: Any = ipython_display.display
_ended: collections.deque[ipywidgets.Widget] = collections.deque()


class HtmlView:
    """HTML that is replaced: for kernels without ipywidgets."""

    interval = 0.25

    def open(self, state: State, _cancel: Cancel | None) -> None:
        self._cell = current_cell()
        self._handle: Any = _display(ProgressSnapshot(state), display_id=True)

    def update(self, state: State) -> None:
        self._handle.update(ProgressSnapshot(state))

    def close(self, state: State) -> None:
        self._handle.update(ProgressSnapshot(state))
        if state.result is not None:
            note_shown(state.result, self._cell)


class WidgetView:
    """A live bar of ipywidgets, with buttons: the same HTML as the static one beside them, so that nothing jumps.

    At the end static HTML replaces it, as JupyterLab does not save a widget's state.
    """

    interval = 0.1
    _buttons: ipywidgets.HBox | None = None

    def open(self, state: State, cancel: Cancel | None) -> None:
        self._cell = current_cell()
        self._picture = ipywidgets.HTML(layout=_PICTURE)
        controls = [self._controls(state, cancel)]
        layout = {"flex_flow": "row wrap", "align_items": "flex-start", "overflow": "visible"}
        self._box = box = ipywidgets.HBox([self._picture, *controls], layout=layout)
        box.add_class("dataloader-progress")
        self.update(state)
        bundle = {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": box.model_id,
            },
            "text/plain": str(state),
        }
        self._handle: Any = _display(bundle, raw=True, display_id=True)

    def _controls(self, state: State, cancel: Cancel | None) -> ipywidgets.Widget:
        """Buttons where their clicks arrive, else advice."""
        if cancel is None:
            return ipywidgets.HTML("Interrupt the kernel to cancel")
        self._pause = ipywidgets.Button(description="Pause", icon="pause", layout=_BUTTON)
        self._pause.on_click(lambda _: self._pause_or_resume(state))
        self._cancel = ipywidgets.Button(description="Cancel", icon="stop", layout=_BUTTON)
        self._cancel.on_click(lambda _: self._cancel_once(cancel))
        self._buttons = ipywidgets.HBox([self._pause, self._cancel], layout={"flex": "0 0 auto", "overflow": "visible"})
        return self._buttons

    def _pause_or_resume(self, state: State) -> None:
        state.is_paused = not state.is_paused
        self.update(state)

    def _cancel_once(self, cancel: Cancel) -> None:
        self._cancel.disabled, self._cancel.description = True, "Cancelling…"
        cancel()

    def update(self, state: State) -> None:
        if self._buttons is not None:
            self._pause.layout.display = None if state.can_pause else "none"
            self._pause.disabled = state.phase not in {"loading", "paused"}
            self._pause.description, self._pause.icon = ("Resume", "play") if state.is_paused else ("Pause", "pause")
            self._cancel.disabled = self._cancel.disabled or state.phase == "committing"
        self._picture.value = panel(bar(state))

    def close(self, state: State) -> None:
        snapshot = ProgressSnapshot(state)
        if self._buttons is not None:
            self._buttons.layout.display = "none"
        self._picture.layout.max_width = None
        self._picture.value = snapshot._repr_html_()
        self._handle.update(snapshot)
        if state.result is not None:
            note_shown(state.result, self._cell)
        _keep(self._box)


def _keep(box: ipywidgets.Widget) -> None:
    """Keep the widget of a load that has ended, and close the oldest."""
    if box not in _ended:
        _ended.append(box)
    while len(_ended) > KEPT:
        _close(_ended.popleft())


def _close(widget: ipywidgets.Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
