"""What displays have in common: their frame, tables and colours in HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

NO_MATHEMATICS = "mathjax_ignore tex2jax_ignore"
"""Classes whose text MathJax leaves alone, of version 3 and 2: two prices in dollars are no formula."""
GOOD, WARNING, BAD, UNDER_WAY = (
    f"var(--jp-{name}-color1,{colour})"
    for name, colour in (("success", "#2e7d32"), ("warn", "#b26a00"), ("error", "#c62828"), ("info", "#1565c0"))
)
"""The front end's own colours, light or dark, where it has some."""
_STYLE = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;max-width:640px"
_CELL = "padding:2px 8px 2px 0;vertical-align:top"
_WHOLE, _BROKEN = "white-space:nowrap", "min-width:4em;overflow-wrap:anywhere"


def framed(*parts: str) -> str:
    """Parts of HTML as one display."""
    return f'<div class="{NO_MATHEMATICS}" style="{_STYLE}">{"".join(parts)}</div>'


def ink(colour: str) -> str:
    """A style for text: the colour alone is too pale on white, or too dark on black, so it is mixed with the text's."""
    return f"color:color-mix(in srgb,{colour} 55%,currentColor)"


def headline(colour: str, word: str, rest: str) -> str:
    """What happened, in colour, and to what, which is HTML."""
    return f'<div><b style="{ink(colour)}">{html.escape(word)}</b> {rest}</div>'


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
