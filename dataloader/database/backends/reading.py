"""The seam of reading: what is asked of a database, and to whom its rows are handed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dataloader.errors import ReadError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 65_536
"""The most rows of a batch that comes from a cursor."""
JSON = b"dataloader.json"
"""The metadata of a column of JSON, as text; its value says whether the database makes sure that it is JSON."""
UNSETTLED = b"dataloader.numeric"
"""The metadata of a column of numbers, as text, whose digits are known when the whole result is."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A query.

    Attributes
    ----------
    text : str
        With its parameters as ``$1``, ``$2``, ...
    values : tuple
        What they stand for.
    columns : tuple of str or None
        Which columns of its result are wanted.
    max_rows : int or None
        How many rows are wanted.
    timeout : float or None
        How many seconds the server may take.
    """

    text: str
    values: tuple[Any, ...] = ()
    columns: tuple[str, ...] | None = None
    max_rows: int | None = None
    timeout: float | None = None


class Receiver(Protocol):
    """Takes what a query gives."""

    def describe(self, schema: pa.Schema, about_rows: int | None) -> None:
        """Take note of the columns, and of how many rows there are about, where that is known."""

    async def put(self, batch: pa.RecordBatch, nbytes: int) -> None:
        """Take a batch, and wait while nobody wants more."""

    def answered(self) -> None:
        """The database has sent something."""

    def begun(self, session: object) -> None:
        """Another connection may ask whether this session works on the query."""


def positions(names: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """Where the wanted columns are among those of the result.

    Raises
    ------
    ReadError
        When there is no such column, or there are several.
    """
    if wanted is None:
        return list(range(len(names)))
    for name in wanted:
        if (count := names.count(name)) != 1:
            what = f"the result has {'no column' if not count else f'{count} columns'} {name!r}"
            raise ReadError(what, hint=f"Its columns are: {', '.join(map(repr, names))}.", column=name)
    return [names.index(name) for name in wanted]


_TOKEN = re.compile(
    r"""
    (?P<skipped>
        (?<![\w$])[eE]'(?:[^'\\]|''|\\.)*'          # a string with escapes
      | '(?:[^']|'')*'
      | "(?:[^"]|"")*"
      | --[^\n]*
      | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
      | ::
      | \w[\w$]*                                    # a name, or a number
    )
  | \$0*(?P<number>\d+)
  | :(?P<name>[^\W\d]\w*)
  | (?P<comment>/\*)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")


def replaced(text: str, replace: Callable[[str], str | None]) -> str:
    """The text with its parameters replaced, wherever they are not within a string, a quoted name or a comment.

    Parameters
    ----------
    replace : callable
        Gives for ``1`` of ``$1``, or ``name`` of ``:name``, what takes its place; None: it stays.

    Examples
    --------
    >>> replaced("SELECT :a, ':a', x::a, $1 -- :a", {"a": "1", "1": "2"}.get)
    "SELECT 1, ':a', x::a, 2 -- :a"
    """
    parts, at = [], 0
    while (found := _TOKEN.search(text, at)) is not None:
        parts.append(text[at : found.start()])
        at = found.end()
        key = found["number"] or found["name"]
        if found["comment"]:
            at = _comment_end(text, at)
        new = None if key is None else replace(key)
        parts.append(text[found.start() : at] if new is None else new)
    return "".join([*parts, text[at:]])


def without_end(text: str) -> str:
    """The text without a semicolon at its end, and without the comments behind that: it becomes a part of another.

    Examples
    --------
    >>> without_end("SELECT ';' ; -- all\\n"), without_end("SELECT 1; SELECT 2")
    ("SELECT ';' ", 'SELECT 1; SELECT 2')
    """
    at, end = 0, None
    while at < len(text):
        found = _TOKEN.search(text, at)
        between = text[at : len(text) if found is None else found.start()]
        if end is None and ";" in between:
            end = at + between.index(";")
            between = between.partition(";")[2]
        is_comment = found is None or bool(found["comment"]) or found[0].startswith("--")
        if end is not None and (between.strip("; \t\r\n\f") or not is_comment):
            return text
        at = len(text) if found is None else found.end()
        if found is not None and found["comment"]:
            at = _comment_end(text, at)
    return text if end is None else text[:end]


def _comment_end(text: str, at: int) -> int:
    """Where a comment ends, which may have others within."""
    depth = 1
    while depth and (found := _COMMENT.search(text, at)) is not None:
        depth += 1 if found[0] == "/*" else -1
        at = found.end()
    return at if not depth else len(text)
