"""Words and numbers as people read them. Needs the standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def quantity(number: int, noun: str, total: int | None = None) -> str:
    """A number of things in words.

    >>> quantity(1, "chunk")
    '1 chunk'
    >>> quantity(1, "row", total=2_000)
    '1 of 2,000 rows'
    """
    of = "" if total is None else f" of {total:,}"
    return f"{number:,}{of} {noun}{'' if 1 == (number if total is None else total) else 's'}"


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


def printable(text: str) -> str:
    """The text as a terminal shows it: names in a database or of a file may hold escapes that would command it."""
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)


def closest(given: object, known: Iterable[object]) -> str | None:
    """The name that was probably meant, whatever its case.

    >>> closest("Nmae", ["id", "name"])
    'name'
    """
    by_folded = {name.casefold(): name for name in known if isinstance(name, str)}
    found = difflib.get_close_matches(str(given).casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def did_you_mean(given: object, known: Sequence[object]) -> str:
    """A hint that names what was probably meant, and what there is."""
    close = closest(given, known)
    return f"{f'Did you mean {close!r}? ' if close else ''}The choices are: {', '.join(map(str, known))}."


def one_line(error: Exception) -> str:
    """An error's message in one line, without the full stop."""
    return " ".join(str(error).split()).rstrip(".")
