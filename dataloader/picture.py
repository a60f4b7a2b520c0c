"""A load's progress as static HTML and text: what a saved notebook keeps."""

from __future__ import annotations

import html

from dataloader.progress import State

NO_MATHEMATICS = "mathjax_ignore tex2jax_ignore"
"""Classes whose text MathJax leaves alone, of version 3 and 2: two prices in dollars are no formula."""
_COLOURS = {"done": "#2e7d32", "cancelled": "#b26a00", "failed": "#c62828"}
_FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;max-width:640px"


class Picture:
    """A state as static HTML and text: what the saved notebook keeps."""

    def __init__(self, state: State) -> None:
        self._text = str(state)
        colour = _COLOURS.get(state.phase, "#1565c0")
        width = 100 if state.fraction is None else 100 * state.fraction
        self._html = (
            f'<div class="{NO_MATHEMATICS}" style="{_FONT}">'
            f'<div><b style="color:{colour}">{html.escape(state.phase)}</b> '
            f"<code>{html.escape(state.label)}</code></div>"
            '<div style="background:rgba(127,127,127,.25);height:6px;border-radius:3px;overflow:hidden">'
            f'<div style="width:{width:.1f}%;height:6px;background:{colour}"></div></div>'
            f"<div>{numbers(state)}</div>"
            + (f'<div style="color:{colour}">{html.escape(state.error)}</div>' if state.error else "")
            + "</div>"
        )

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


def numbers(state: State) -> str:
    of = "" if state.total is None else f" of {state.total:,}"
    left = "" if state.remaining is None or state.error else f" · {state.remaining:.0f} s left"
    rejected = f" · {state.rejected:,} rejected" if state.rejected else ""
    rows = f"{state.rows:,}{of} rows{rejected} · {state.rate:,.0f} rows/s"
    return f"{rows} · {state.nbytes / 1e6:,.1f} MB · {state.seconds:.1f} s{'' if state.phase == 'done' else left}"
