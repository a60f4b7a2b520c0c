"""The counts as people read them: a table of a few columns, as text and as HTML, and a frame of all messages."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataloader.display.html import UNDER_WAY, headline, panel
from dataloader.display.html import table as html_table
from dataloader.formatting import duration, printable, quantity, size
from dataloader.wiretap.counts import Step, together

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("Parse", "Bind", "Describe", "Execute", "Close", "Flush", "Sync", "Query", "CopyData")
"""The client's messages that have a column, if there were any."""
MOST_ROWS = 12
MOST_CHARACTERS = 56
TEXT_WIDTH = 80
INDENT = " " * 40
"""Where the statements begin in text."""
_LIST = re.compile(r"\([^()]*,[^()]*\)")
_FRAME = ("statement", "sender", "message", "count", "bytes")


def summary(steps: Sequence[Step]) -> str:
    """All steps in one line."""
    whole = together("", steps)
    opened = quantity(whole.count("Startup"), "connection")
    trips = quantity(whole.round_trips, "round trip")
    sent, received = size(whole.sent_bytes), size(whole.received_bytes)
    return f"{opened}, {trips}, {sent} out, {received} in, {duration(whole.seconds)} on the wire"


def as_text(title: str, steps: Sequence[Step]) -> str:
    """Two lines for each statement, which fit a terminal of 80 columns: numbers, and how many messages of each kind."""
    lines = ["{:>11}  {:>7}  {:>7}  {:>7}  {}".format("round trips", "kB out", "kB in", "ms", "statement")]
    for one in _largest(steps):
        sizes = [f"{number:,.1f}" for number in (one.sent_bytes / 1000, one.received_bytes / 1000, one.seconds * 1000)]
        lines.append("{:>11,}  {:>7}  {:>7}  {:>7}  {}".format(one.round_trips, *sizes, _cut(one.statement)))
        counts = [f"{one.count(kind):,} {kind}" for kind in SHOWN if one.count(kind)]
        counts += [quantity(one.rows, "row") + " in"] if one.rows else []
        lines += textwrap.wrap(", ".join(counts), TEXT_WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return "\n".join([f"{title}:", f"  {summary(steps)}", *lines])


def _cut(statement: str) -> str:
    room = TEXT_WIDTH - len(INDENT)
    statement = shortened(statement)
    return statement if len(statement) <= room else f"{statement[: room - 1]}…"


def as_html(title: str, steps: Sequence[Step]) -> str:
    """The table in a notebook."""
    head, rows = _cells(steps)
    top = headline(UNDER_WAY, "wire", f"of {html.escape(title)}: {summary(steps)}")
    return panel(top, html_table(rows, head=head))


def as_frame(steps: Sequence[Step]) -> pd.DataFrame:
    """One row for each kind of message of each statement."""
    import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

    rows = [
        (step.statement, sender, one.kind, one.count, one.nbytes)
        for step in steps
        for sender, messages in (("client", step.sent), ("server", step.received))
        for one in messages.values()
    ]
    return pd.DataFrame(rows, columns=list(_FRAME))


def _cells(steps: Sequence[Step]) -> tuple[list[str], list[list[int | str]]]:
    kinds = [kind for kind in SHOWN if any(one.count(kind) for one in steps)]
    gives_rows = any(one.rows for one in steps)
    head = ["statement", *kinds, *(["rows in"] if gives_rows else []), "round trips", "kB out", "kB in", "ms"]
    rows: list[list[int | str]] = []
    for one in _largest(steps):
        sizes = [f"{number / 1000:,.1f}" for number in (one.sent_bytes, one.received_bytes)]
        counts = [*map(one.count, kinds), *([one.rows] if gives_rows else []), one.round_trips]
        rows.append([shortened(one.statement), *counts, *sizes, f"{one.seconds * 1000:,.1f}"])
    return head, rows


def _largest(steps: Sequence[Step]) -> list[Step]:
    """The steps with the most bytes in their order, and the others as one: a load asks the catalog many things."""
    if len(steps) <= MOST_ROWS:
        return [*steps]
    sizes = [one.sent_bytes + one.received_bytes for one in steps]
    largest = sorted(range(len(steps)), key=lambda at: -sizes[at])[: MOST_ROWS - 1]
    others = [one for at, one in enumerate(steps) if at not in largest]
    left = together(f"({len(others)} other statements, see .messages)", others)
    return [*(steps[at] for at in sorted(largest)), left]


def shortened(statement: str) -> str:
    """A statement in one short line: without the list of its columns, or else without its end.

    >>> shortened("INSERT INTO orders (id, customer_id, amount, status, created_at) VALUES (…)")
    'INSERT INTO orders (…) VALUES (…)'
    """
    statement = printable(statement)
    if len(statement) > MOST_CHARACTERS:
        statement = _LIST.sub("(…)", statement, count=1)
    if len(statement) <= MOST_CHARACTERS:
        return statement
    return f"{statement[: MOST_CHARACTERS - 2].rpartition(' ')[0]} …"
