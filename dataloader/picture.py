"""A load's progress as static HTML and text: what a saved notebook keeps."""

from __future__ import annotations

import html

from dataloader.progress import State

NO_MATHEMATICS = "mathjax_ignore tex2jax_ignore"
"""Classes whose text MathJax leaves alone, of version 3 and 2: two prices in dollars are no formula."""
GOOD, WARNING, BAD = (
    f"var(--jp-{name}-color1,{colour})"
    for name, colour in (("success", "#2e7d32"), ("warn", "#b26a00"), ("error", "#c62828"))
)
"""The front end's own colours, light or dark, where it has some."""
_COLOURS = {"done": GOOD, "cancelled": WARNING, "failed": BAD}
_FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;max-width:640px"


class Picture:
    """A state as static HTML and text: what the saved notebook keeps."""

    def __init__(self, state: State) -> None:
        self._text = str(state)
        colour = _COLOURS.get(state.phase, "#1565c0")
        self._html = (
            f'<div class="{NO_MATHEMATICS}" style="{_FONT}">'
            f'<div><b style="color:{colour}">{html.escape(state.phase)}</b> '
            f"<code>{html.escape(state.label)}</code></div>"
            '<div style="background:rgba(127,127,127,.25);height:6px;border-radius:3px;overflow:hidden">'
            f'<div style="width:{filled(state):.1%};height:6px;background:{colour}"></div></div>'
            f"<div>{numbers(state)}</div>"
            + (f"<div>{first_rejected(state)}</div>" if state.first_rejected else "")
            + (f'<div style="color:{colour}">{html.escape(state.error)}</div>' if state.error else "")
            + "</div>"
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
    of = "" if state.total is None else f" of {state.total:,}"
    runs = not state.has_ended
    parts = [
        str(state.part) if runs else "",
        quantity(state.rows, "row", of),
        f"{state.rejected:,} rejected" if state.rejected else "",
        f"{state.rate:,.0f} rows/s",
        quantity(state.chunks, "chunk"),
        size(state.nbytes),
        f"{state.seconds:.1f} s",
        f"{state.remaining:.0f} s left" if runs and state.remaining is not None else "",
    ]
    return " · ".join(filter(None, parts))


def first_rejected(state: State) -> str:
    """What is wrong with the first row that was rejected, where one was."""
    return "" if state.first_rejected is None else f"first rejected: {html.escape(state.first_rejected)}"


def quantity(number: int, noun: str, of: str = "") -> str:
    """A number of things in words.

    >>> quantity(1, "chunk")
    '1 chunk'
    >>> quantity(1, "row", of=" of 2,000")
    '1 of 2,000 rows'
    """
    return f"{number:,}{of} {noun}{'' if number == 1 and not of else 's'}"


def size(nbytes: float) -> str:
    """A number of bytes as people read it.

    >>> size(999), size(304_000), size(12_345_678)
    ('999 B', '304.0 kB', '12.3 MB')
    """
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} GB"
