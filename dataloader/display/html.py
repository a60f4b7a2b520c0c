"""Static HTML, which a saved notebook keeps: a load's progress, and the panels, tables and colors of reports."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from dataloader.display.state import State
from dataloader.formatting import quantity, size

NO_MATHEMATICS = "mathjax_ignore tex2jax_ignore"
"""Classes whose text MathJax leaves alone, of version 3 and 2: two prices in dollars are no formula."""
GOOD, WARNING, BAD, UNDER_WAY = (
    f"var(--jp-{name}-color1,{color})"
    for name, color in (("success", "#2e7d32"), ("warn", "#b26a00"), ("error", "#c62828"), ("info", "#1565c0"))
)
"""The front end's own colors, light or dark, where it has some."""
_COLORS = {"done": GOOD, "cancelled": WARNING, "failed": BAD}
_STYLE = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;max-width:640px"
_CELL = "padding:2px 8px 2px 0;vertical-align:top"
_WHOLE, _BROKEN = "white-space:nowrap", "min-width:4em;overflow-wrap:anywhere"
_WIDTH, _HEIGHT = 240, 32
"""Of a sparkline, in pixels."""


def panel(*parts: str) -> str:
    """Parts of HTML as one output."""
    return f'<div class="{NO_MATHEMATICS}" style="{_STYLE}">{"".join(parts)}</div>'


def text_color(color: str) -> str:
    """A style for text: the color alone is too pale on white, or too dark on black, so it is mixed with the text's."""
    return f"color:color-mix(in srgb,{color} 55%,currentColor)"


def headline(color: str, word: str, rest: str) -> str:
    """What happened, in color, and to what, which is HTML."""
    return f'<div><b style="{text_color(color)}">{html.escape(word)}</b> {rest}</div>'


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Rows in a table that is scrolled by itself where it is too wide; numbers are to the right.

    Without a head the first cell of each row is its name.
    """
    names = "".join(_cell("th", name) for name in head)
    first = "td" if head else "th"
    body = "".join(f"<tr>{_cell(first, row[0])}{''.join(_cell('td', cell) for cell in row[1:])}</tr>" for row in rows)
    return (
        '<div style="overflow-x:auto"><table style="font-size:inherit;border-collapse:collapse;margin:4px 0">'
        + (f"<thead><tr>{names}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def _cell(kind: str, cell: object) -> str:
    if isinstance(cell, int):
        return f'<{kind} style="{_CELL};text-align:right">{cell:,}</{kind}>'
    lines = _WHOLE if kind == "th" else _BROKEN
    return f'<{kind} style="{_CELL};text-align:left;{lines}">{html.escape(str(cell))}</{kind}>'


def sparkline(heights: Sequence[float]) -> str:
    """An inline SVG of rates over time, in the text's own color."""
    across, up = _WIDTH / len(heights), _HEIGHT / (max(heights) or 1.0)
    steps = "".join(
        f"V{_HEIGHT - height * up:.1f}H{number * across:.1f}" for number, height in enumerate(heights, start=1)
    )
    return (
        f'<svg role="img" aria-label="rows per second over time" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none" style="width:100%;max-width:{_WIDTH}px;height:{_HEIGHT}px;display:block">'
        f'<path d="M0 {_HEIGHT}{steps}V{_HEIGHT}Z" fill="currentColor" opacity="0.35"></path></svg>'
    )


class ProgressSnapshot:
    """A state as HTML and as text."""

    def __init__(self, state: State) -> None:
        self._text = str(state)
        color = _COLORS.get(state.phase, UNDER_WAY)
        self._html = panel(
            headline(color, state.phase, f"<code>{html.escape(state.label)}</code>"),
            '<div style="background:rgba(127,127,127,.25);height:6px;border-radius:3px;overflow:hidden">'
            f'<div style="width:{filled(state):.1%};height:6px;background:{color}"></div></div>',
            f"<div>{numbers(state)}</div>",
            f"<div>{first_rejected(state)}</div>" if state.first_rejected else "",
            f'<div style="{text_color(color)}">{html.escape(state.error)}</div>' if state.error else "",
        )

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


def filled(state: State) -> float:
    """How much of the bar is full; of a load of unknown length nothing is until it is done."""
    return float(state.phase == "done") if state.fraction is None else state.fraction


def numbers(state: State) -> str:
    """Rows, rate, size and time of a load so far."""
    is_running = not state.has_ended
    parts = [
        str(state.position) if is_running else "",
        quantity(state.rows, "row", state.total),
        f"{state.rejected:,} rejected" if state.rejected else "",
        f"{state.rate:,.0f} rows/s",
        quantity(state.chunks, "chunk"),
        size(state.nbytes),
        f"{state.seconds:.1f} s",
        f"{state.remaining:.0f} s left" if is_running and state.remaining is not None else "",
    ]
    return " · ".join(filter(None, parts))


def first_rejected(state: State) -> str:
    """What is wrong with the first row that was rejected, where one was."""
    return "" if state.first_rejected is None else f"first rejected: {html.escape(state.first_rejected)}"
