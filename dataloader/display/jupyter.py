"""Views in a cell of Jupyter: HTML, and where ipywidgets is there a live bar with a Cancel button."""

from __future__ import annotations

import collections
import contextlib
import html
from typing import Any

from IPython import display as ipython_display

from dataloader.display.html import ProgressSnapshot, filled, first_rejected, numbers
from dataloader.display.state import Cancel, State

with contextlib.suppress(ImportError):  # WidgetView is then not chosen
    import ipywidgets

KEPT = 20
"""A page that was reloaded during a load shows the widget alone, so that the latest stay as they ended."""
_STYLES = {"done": "success", "cancelled": "warning", "failed": "danger"}
_display: Any = ipython_display.display
_ended: collections.deque[ipywidgets.Widget] = collections.deque()


class HtmlView:
    """HTML that is replaced: for kernels without ipywidgets."""

    interval = 0.25

    def open(self, state: State, _cancel: Cancel | None) -> None:
        self._handle: Any = _display(ProgressSnapshot(state), display_id=True)

    def update(self, state: State) -> None:
        self._handle.update(ProgressSnapshot(state))

    def close(self, state: State) -> None:
        self._handle.update(ProgressSnapshot(state))


class WidgetView:
    """A live ipywidgets bar. At the end static HTML replaces it: JupyterLab does not save a widget's state."""

    interval = 0.1
    _button: Any = None

    def open(self, state: State, cancel: Cancel | None) -> None:
        self._title = ipywidgets.HTML()
        self._numbers = ipywidgets.HTML()
        self._bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "100%", "height": "14px"})
        if state.total is None:
            self._bar.value, self._bar.bar_style = 1.0, "info"
        head = ipywidgets.HBox([self._title, self._cancel_control(cancel)], layout={"justify_content": "space-between"})
        self._box = box = ipywidgets.VBox([head, self._bar, self._numbers], layout={"max_width": "640px"})
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

    def _cancel_control(self, cancel: Cancel | None) -> ipywidgets.Widget:
        """A button where its clicks arrive, else advice."""
        if cancel is None:
            return ipywidgets.HTML("Interrupt the kernel to cancel")
        self._button = ipywidgets.Button(description="Cancel", icon="stop", layout={"width": "100px"})
        self._button.on_click(lambda _: self._cancel_once(cancel))
        return self._button

    def _cancel_once(self, cancel: Cancel) -> None:
        self._button.disabled, self._button.description = True, "Cancelling…"
        cancel()

    def update(self, state: State) -> None:
        if self._button is not None and state.phase == "committing":
            self._button.disabled = True
        self._title.value = f"<b>{html.escape(state.phase)}</b> <code>{html.escape(state.label)}</code>"
        self._numbers.value = "<br>".join(filter(None, (numbers(state), first_rejected(state))))
        if state.fraction is not None:
            self._bar.value, self._bar.bar_style = state.fraction, ""

    def close(self, state: State) -> None:
        self.update(state)
        if self._button is not None:
            self._button.layout.display = "none"
        self._bar.value, self._bar.bar_style = filled(state), _STYLES.get(state.phase, "")
        if state.error:
            self._numbers.value += f"<br>{html.escape(state.error)}"
        self._handle.update(ProgressSnapshot(state))
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
