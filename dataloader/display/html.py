"""Static HTML, which a saved notebook keeps: a load's progress, and the panels, tables and colors of reports."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from dataloader.display.state import UNSUCCESSFUL, State
from dataloader.formatting import duration, quantity, size

NO_MATHEMATICS = "mathjax_ignore tex2jax_ignore"
"""Classes whose text MathJax leaves alone, of version 3 and 2: two prices in dollars are no formula."""


class Color(NamedTuple):
    """A color of the front end's theme; `plain` can be read on white and on black, with a contrast of 4 or more.

    JupyterLab leaves out what it does not know of the styles of a notebook that somebody else has run, `themed` among
    them: the plain one stands before it wherever there is a color.
    """

    plain: str
    themed: str


GOOD, WARNING, BAD, UNDER_WAY = (
    Color(plain, f"var(--jp-{name}-color1,{color})")
    for name, plain, color in (
        ("success", "#35863a", "#2e7d32"),
        ("warn", "#b26a00", "#b26a00"),
        ("error", "#dd3a35", "#c62828"),
        ("info", "#1e78d0", "#1565c0"),
    )
)
_COLORS = {"done": GOOD, "checked": GOOD, "cancelled": WARNING, "failed": BAD}
_FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5"
_STYLE = f"{_FONT};overflow-wrap:break-word;overflow-wrap:anywhere"
"""The second is for a widget, whose width is that of its longest word else; the filter lets the first one through."""
_CELL = "padding:2px 8px 2px 0;vertical-align:top"
_WHOLE, _BROKEN = "white-space:nowrap", "overflow-wrap:break-word;min-width"
_PROSE = {"value": 8} | dict.fromkeys(["problem", "checks", "reasons", "found", "remedy", "statement"], 16)
"""Columns whose lines may be broken, and the least width in em: names and types are not, and no word is."""
_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?")
_SMALL = "font-weight:normal;font-size:12px;opacity:.75"
BAR_STYLE = "max-width:640px"
_WIDTH, _HEIGHT = 240, 32
"""Of a sparkline, in pixels."""


def panel(*parts: str) -> str:
    """Parts of HTML as one output."""
    return f'<div class="{NO_MATHEMATICS}" style="{_STYLE}">{"".join(parts)}</div>'


def text_color(color: Color) -> str:
    """A style for text: the theme's color is too pale on white, or too dark on black, so the text's is mixed in."""
    return f"color:{color.plain};color:color-mix(in srgb,{color.themed} 55%,currentColor)"


def headline(color: Color, word: str, rest: str) -> str:
    """What happened, in color, and to what, which is HTML."""
    return f'<div><b style="{text_color(color)}">{html.escape(word)}</b> {rest}</div>'


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = (), kinds: Sequence[str] = ()) -> str:
    """Rows in a table that is scrolled by itself where it is too wide; columns of numbers are to the right.

    Without a head the first cell of each row is its name. The kinds stand under the head, in small print.
    """
    lines = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    columns = list(zip(*lines, strict=True)) or [()] * len(head)
    widths = [_PROSE.get(name) for name in head] if head else [None, 16]
    styles = [_style(width, cells) for width, cells in zip(widths, columns, strict=bool(head))]
    first = "td" if head else "th"
    names = "".join(
        _cell("th", name, style, under=kind) for name, style, kind in zip_longest(head, styles, kinds, fillvalue="")
    )
    body = "".join(
        f"<tr>{''.join(_cell('td' if at else first, cell, styles[at]) for at, cell in enumerate(line))}</tr>"
        for line in lines
    )
    return (
        '<div style="overflow-x:auto"><table style="font-size:inherit;border-collapse:collapse;margin:4px 0">'
        + (f"<thead><tr>{names}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def _style(width: int | None, cells: Sequence[str]) -> str:
    """How a column is set: prose in several lines, all else in one, numbers to the right."""
    if width is not None:
        return f"text-align:left;{_BROKEN}:{width}em"
    are_numbers = all(_NUMBER.fullmatch(one) for one in cells if one != "NULL")
    return f"text-align:{'right' if cells and are_numbers else 'left'};{_WHOLE}"


def _cell(kind: str, cell: str, style: str, *, under: str = "") -> str:
    small = f'<br><span style="{_SMALL}">{html.escape(under)}</span>' if under else ""
    return f'<{kind} style="{_CELL};{style}">{html.escape(cell)}{small}</{kind}>'


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
    if state.phase in UNSUCCESSFUL and not (state.keeps_rows and state.rows):
        title += f" · {state.left} · {duration(state.seconds)}"
        return headline(color, state.phase, title) + why
    first = f"<div>{first_rejected(state)}</div>" if state.first_rejected else ""
    whole = headline(color, state.phase, title) + _filled_bar(state, color) + f"<div>{numbers(state)}</div>"
    return f'<div style="{BAR_STYLE}">{whole}{first}{why}</div>'


def _filled_bar(state: State, color: Color) -> str:
    """Of unknown length it moves by itself, as the browser draws it: with marimo's styles it would stand still."""
    if state.fraction is None and not state.has_ended:
        style = f"all:revert;display:block;width:100%;height:6px;accent-color:{color.themed}"
        return f'<progress class="dataloader-bar" style="{style}"></progress>'
    share = float(state.phase == "done") if state.fraction is None else state.fraction
    return (
        '<div style="background:rgba(127,127,127,.25);height:6px;border-radius:3px;overflow:hidden">'
        f'<div class="dataloader-bar" style="width:{share:.1%};height:6px;background:{color.plain};'
        f'background:{color.themed}"></div></div>'
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
