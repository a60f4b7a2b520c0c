"""Words and numbers as people read them. Needs the standard library only."""

from __future__ import annotations

import difflib
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

SHOWN_COLUMNS = 80
"""How wide errors are shown: JupyterLab, and a terminal, break longer lines wherever they end."""
LEAST_COLUMNS, WIDEST_NAME = 40, 28
_HEAD = re.compile(r" +\S+(?: \S+)* {2,}(?=\S)")
"""The first column of an indented line: what stands before two spaces or more."""
_UNIT = re.compile(r"(?<=\d) (?=[A-Za-z]{1,12}\b)|(?<=\d [kMG]) (?=rows/s)")
"""Between a number and its unit, or what it counts."""
_CALL, _QUOTED = re.compile(r"await \w+\([^\n]*\)"), re.compile(r"await |'[^']*'")


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
    ('999 B', '304 kB', '12.3 MB')
    """
    return _scaled(nbytes, ("B", "kB", "MB", "GB"))


def pace(rate: float) -> str:
    """Rows per second as people read them.

    >>> pace(7.2), pace(15_400), pace(1_881_022)
    ('7 rows/s', '15.4 k rows/s', '1.9 M rows/s')
    """
    return f"{_scaled(rate, ('', 'k', 'M', 'G'))} rows/s".replace("  ", " ")


def duration(seconds: float) -> str:
    """A time in three digits.

    >>> duration(0.064), duration(12.34), duration(1234)
    ('0.06 s', '12.3 s', '1,234 s')
    """
    digits = 2 if seconds < 10 else 1 if seconds < 100 else 0
    return f"{seconds:,.{digits}f} s"


def _scaled(number: float, units: Sequence[str]) -> str:
    """Three digits at most, and a unit; numbers below 1,000 are whole."""
    power = 0
    while number >= 999.5 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    digits = 1 if power and number < 99.95 else 0
    return f"{number:,.{digits}f} {units[power]}".rstrip()


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


def wrapped(text: str, columns: int = SHOWN_COLUMNS, *, under: str = "") -> str:
    """Text in lines that break between words; a call in it can still be copied and run.

    Parameters
    ----------
    under : str
        What the further lines of a line without an indent begin with. Those of an indented one stand under its
        second column, or a little to the right.
    """
    kept = _CALL.sub(lambda call: _QUOTED.sub(lambda found: found[0].replace(" ", "\0"), call[0]), text)
    kept = _UNIT.sub("\0", kept)
    return "\n".join(_filled(line, columns, under) for line in kept.split("\n")).replace("\0", " ")


def aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Names, and beside them what is said of each; a name of unusual length pushes aside what is said of it alone.

    >>> aligned([("id", "exact"), ("name", "checked")])
    ['  id    exact', '  name  checked']
    """
    width = max((len(name) for name, _ in rows if len(name) <= WIDEST_NAME), default=0)
    return [f"  {name:<{width}}  {text}" for name, text in rows]


def fitted(text: str) -> str:
    """Text that is printed, in lines that fit the terminal; 80 columns where it is unknown."""
    return wrapped(text, terminal_columns(), under="  ")


def terminal_columns() -> int:
    return max(LEAST_COLUMNS, shutil.get_terminal_size().columns)


def _filled(line: str, columns: int, under: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    under = f"{indent}  " if indent else under
    head = _HEAD.match(line) if len(line) > columns else None
    if head is not None and len(head[0]) <= columns // 2:
        under = " " * len(head[0])
    elif head is not None and " " not in head[0].strip():  # a long name has a line of its own
        return f"{head[0].rstrip()}\n{_lines(under + line[head.end() :], columns, under)}"
    return _lines(line, columns, under)


def _lines(line: str, columns: int, under: str) -> str:
    return textwrap.fill(line, columns, subsequent_indent=under, break_long_words=False, break_on_hyphens=False)
