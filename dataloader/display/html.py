"""Static HTML, which a saved notebook keeps: a load's progress, and the panels, tables and colors of reports."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from dataloader.display.state import UNSUCCESSFUL, State
from dataloader.formatting import duration, quantity, size

NO_MATHEMATICS = "mathjax_ignore tex2jax_ignore"
"""Classes whose text MathJax leaves alone, of version 3 and 2: two prices in dollars are no formula."""
GOOD, WARNING, BAD, UNDER_WAY = (
    f"var(--jp-{name}-color1,{color})"
    for name, color in (("success", "#2e7d32"), ("warn", "#b26a00"), ("error", "#c62828"), ("info", "#1565c0"))
)
"""The front end's own colors, light or dark, where it has some."""
_COLORS = {"done": GOOD, "checked": GOOD, "cancelled": WARNING, "failed": BAD}
_STYLE = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5"
_CELL = "padding:2px 8px 2px 0;vertical-align:top"
_WHOLE, _BROKEN = "white-space:nowrap", "min-width:8em;overflow-wrap:break-word"
_PROSE = {"problem", "value", "checks", "reasons"}
"""Columns whose lines may be broken: names and types are not, and no word is."""
_SMALL = "font-weight:normal;font-size:12px;opacity:.75"
BAR_STYLE = "max-width:640px"
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


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = (), kinds: Sequence[str] = ()) -> str:
    """Rows in a table that is scrolled by itself where it is too wide; numbers are to the right.

    Without a head the first cell of each row is its name. The kinds stand under the head, in small print.
    """
    prose = [name in _PROSE for name in head] if head else [False, True]
    names = "".join(_cell("th", name, under=kind) for name, kind in zip_longest(head, kinds, fillvalue=""))
    first = "td" if head else "th"
    body = "".join(
        f"<tr>{''.join(_cell(first if not at else 'td', cell, breaks=prose[at]) for at, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return (
        '<div style="overflow-x:auto"><table style="font-size:inherit;border-collapse:collapse;margin:4px 0">'
        + (f"<thead><tr>{names}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def _cell(kind: str, cell: object, *, breaks: bool = False, under: str = "") -> str:
    if isinstance(cell, int):
        return f'<{kind} style="{_CELL};text-align:right">{cell:,}</{kind}>'
    small = f'<br><span style="{_SMALL}">{html.escape(under)}</span>' if under else ""
    lines = _BROKEN if breaks else _WHOLE
    return f'<{kind} style="{_CELL};text-align:left;{lines}">{html.escape(str(cell))}{small}</{kind}>'


def details(*parts: str) -> str:
    """Parts of HTML that are folded away until somebody asks."""
    return f'<details><summary style="{_SMALL};cursor:pointer">details</summary>{"".join(parts)}</details>'


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
    """A state as HTML and as text: the report of a load that has succeeded, else its bar."""

    def __init__(self, state: State) -> None:
        result = state.result
        self._text = str(state if result is None else result)
        self._html = panel(bar(state)) if result is None else result._repr_html_()

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


def bar(state: State) -> str:
    """The bar of a load, which a widget shows too; of one that left nothing in the table, a single line."""
    color = _COLORS.get(state.phase, UNDER_WAY)
    title = f"<code>{html.escape(state.label)}</code>"
    why = f'<div style="{text_color(color)}">{html.escape(state.error or "")}</div>' if state.is_background else ""
    if state.phase in UNSUCCESSFUL and not state.keeps_rows:
        title += f" · {state.left} · {duration(state.seconds)}"
        return headline(color, state.phase, title) + why
    first = f"<div>{first_rejected(state)}</div>" if state.first_rejected else ""
    whole = headline(color, state.phase, title) + _filled_bar(state, color) + f"<div>{numbers(state)}</div>"
    return f'<div style="{BAR_STYLE}">{whole}{first}{why}</div>'


def _filled_bar(state: State, color: str) -> str:
    """Of unknown length it moves by itself, as the browser draws it."""
    if state.fraction is None and not state.has_ended:
        style = f"display:block;width:100%;height:6px;accent-color:{color}"
        return f'<progress class="dataloader-bar" style="{style}"></progress>'
    share = float(state.phase == "done") if state.fraction is None else state.fraction
    return (
        '<div style="background:rgba(127,127,127,.25);height:6px;border-radius:3px;overflow:hidden">'
        f'<div class="dataloader-bar" style="width:{share:.1%};height:6px;background:{color}"></div></div>'
    )


def numbers(state: State) -> str:
    """Rows, rate, size and time of a load so far."""
    is_running = not state.has_ended
    rows = state.left if state.phase in UNSUCCESSFUL else quantity(state.rows, "row", state.total)
    parts = [
        f"{state.fraction:.0%}" if is_running and state.fraction is not None else "",
        str(state.position) if is_running else "",
        rows,
        f"{state.rejected:,} rejected" if state.rejected else "",
        "" if state.is_paused else state.pace,
        size(state.nbytes),
        duration(state.seconds),
        f"{duration(state.remaining)} left" if is_running and state.remaining is not None else "",
    ]
    return " · ".join(filter(None, parts))


def first_rejected(state: State) -> str:
    """What is wrong with the first row that was rejected, where one was."""
    return "" if state.first_rejected is None else f"first rejected: {html.escape(state.first_rejected)}"
