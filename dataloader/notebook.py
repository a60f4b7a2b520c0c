"""Views in a notebook: a live one while the load runs, and static HTML in its place when it ends."""

from __future__ import annotations

import html
import sys
import threading
from typing import Any

import ipywidgets
from IPython import display as ipython_display

from dataloader.progress import Cancel, State

_display: Any = ipython_display.display
_COLOURS = {"done": "#2e7d32", "cancelled": "#b26a00", "failed": "#c62828"}
_FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;max-width:640px"


class Picture:
    """A state as static HTML and text: what the saved notebook keeps."""

    def __init__(self, state: State) -> None:
        self._text = str(state)
        colour = _COLOURS.get(state.phase, "#1565c0")
        width = 100 if state.fraction is None else 100 * state.fraction
        self._html = (
            f'<div style="{_FONT}"><div><b style="color:{colour}">{html.escape(state.phase)}</b> '
            f"<code>{html.escape(state.label)}</code></div>"
            '<div style="background:rgba(127,127,127,.25);height:6px;border-radius:3px;overflow:hidden">'
            f'<div style="width:{width:.1f}%;height:6px;background:{colour}"></div></div>'
            f"<div>{_numbers(state)}</div>"
            + (f'<div style="color:{colour}">{html.escape(state.error)}</div>' if state.error else "")
            + "</div>"
        )

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


def _numbers(state: State) -> str:
    of = "" if state.total is None else f" of {state.total:,}"
    left = "" if state.remaining is None or state.error else f" · {state.remaining:.0f} s left"
    return (
        f"{state.rows:,}{of} rows · {state.rate:,.0f} rows/s · {state.nbytes / 1e6:,.1f} MB · {state.seconds:.1f} s"
        f"{'' if state.phase == 'done' else left}"
    )


def _hears_clicks() -> bool:
    """Whether a click arrives before the cell has ended: from ipykernel 7 on, and while the cell awaits."""
    kernel = sys.modules.get("ipykernel")
    version: tuple[Any, ...] = getattr(kernel, "version_info", (0,))
    return version >= (7,) and threading.current_thread() is threading.main_thread()


class HtmlView:
    """HTML that is replaced: for kernels without ipywidgets."""

    interval = 0.25

    def open(self, state: State, _cancel: Cancel) -> None:
        self._handle: Any = _display(Picture(state), display_id=True)

    def update(self, state: State) -> None:
        self._handle.update(Picture(state))

    def close(self, state: State) -> None:
        self._handle.update(Picture(state))


class WidgetView:
    """A live ipywidgets bar. At the end static HTML replaces it: JupyterLab does not save a widget's state."""

    interval = 0.1
    _button: Any = None

    def open(self, state: State, cancel: Cancel) -> None:
        self._title = ipywidgets.HTML()
        self._numbers = ipywidgets.HTML()
        self._bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "100%", "height": "14px"})
        if state.total is None:
            self._bar.value, self._bar.bar_style = 1.0, "info"
        head = ipywidgets.HBox([self._title, self._way_out(cancel)], layout={"justify_content": "space-between"})
        box = ipywidgets.VBox([head, self._bar, self._numbers], layout={"max_width": "640px"})
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

    def _way_out(self, cancel: Cancel) -> ipywidgets.Widget:
        """A button where the kernel hears it while a cell runs, else advice."""
        if not _hears_clicks():
            return ipywidgets.HTML("■ stops it")
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
        self._numbers.value = _numbers(state)
        if state.fraction is not None:
            self._bar.value = state.fraction

    def close(self, state: State) -> None:
        self.update(state)
        if self._button is not None:
            self._button.layout.display = "none"
        self._handle.update(Picture(state))
