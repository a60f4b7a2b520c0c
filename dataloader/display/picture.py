"""A load's progress as static HTML and text: what a saved notebook keeps."""

from __future__ import annotations

import html

from dataloader.display.html import BAD, GOOD, UNDER_WAY, WARNING, framed, headline, ink
from dataloader.display.progress import State
from dataloader.formatting import quantity, size

_COLOURS = {"done": GOOD, "cancelled": WARNING, "failed": BAD}


class Picture:
    """A state as static HTML and text: what the saved notebook keeps."""

    def __init__(self, state: State) -> None:
        self._text = str(state)
        colour = _COLOURS.get(state.phase, UNDER_WAY)
        self._html = framed(
            headline(colour, state.phase, f"<code>{html.escape(state.label)}</code>"),
            '<div style="background:rgba(127,127,127,.25);height:6px;border-radius:3px;overflow:hidden">'
            f'<div style="width:{filled(state):.1%};height:6px;background:{colour}"></div></div>',
            f"<div>{numbers(state)}</div>",
            f"<div>{first_rejected(state)}</div>" if state.first_rejected else "",
            f'<div style="{ink(colour)}">{html.escape(state.error)}</div>' if state.error else "",
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
    runs = not state.has_ended
    parts = [
        str(state.part) if runs else "",
        quantity(state.rows, "row", state.total),
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
