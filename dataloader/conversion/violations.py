"""Violations: which value of which row cannot be stored, why, and what to do about it."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import pyarrow as pa

from dataloader.conversion.spool import Spool

SHOWN_CHARACTERS = 40
SHOWN_VIOLATIONS = 10
BLOCK = 1_000
"""So many violations are read from disk at once."""
REJECT_COLUMNS = ("reject_row", "reject_column", "reject_reason", "reject_problem")
"""What a rejected row has beside its own values."""

REASONS = {
    "null": ("the column does not take NULL", "Fill in the value, or drop the row."),
    "type": ("its type does not match the column's", "Convert it, or set it to None."),
    "syntax": ("it cannot be read as the column's type", "Correct the text, or set it to None."),
    "fields": ("its line has another number of fields", "Quote fields that have the delimiter in them, or correct it."),
    "range": ("it is out of the column's range", "Correct it, or give the column a wider type."),
    "fraction": ("it has a fractional part", "Round it, or make the column numeric."),
    "digits": ("it has more digits than the column keeps", "Round it, or widen the column."),
    "nanoseconds": ("it is more precise than the column", "Round it."),
    "time": ("it has a time of day", "Remove it, or make the column a timestamp."),
    "nan": ("it is not a finite number", "Set it to None, or make the column float8."),
    "length": ("it has too many characters", "Shorten it, or give the column more room."),
    "nul": ("it contains a NUL character", "Remove it."),
    "encoding": ("it is not Unicode text", "Read it with the right encoding, or correct it."),
    "label": ("it is not one of the enum's labels", "Correct it, or ALTER TYPE ... ADD VALUE."),
    "zone": ("its time zone does not fit the column", "Give the time with its offset from UTC."),
    "duplicate": ("its key occurs in an earlier row", "Drop the row, or correct its key."),
    "exists": ("its key is in the table already", "Drop the row, or correct its key."),
    "foreign_key": ("the row that it refers to does not exist", "Load the parent table first, or correct the value."),
    "unique": ("its key is in the table already, or occurs in an earlier row", "Drop the row, or correct its key."),
    "check": ("a CHECK constraint refuses it", "Correct the row, or the constraint."),
    "refused": ("the database refuses it", "Correct the row: the problem is in the database's own words."),
}
"""Reason codes: what is wrong, and what to do about it."""
ROUNDED = frozenset({"fraction", "digits", "nanoseconds", "time"})
"""What ``casts="lossy"`` rounds or cuts, where the pair of types has such a cast."""
OF_ITS_TYPE = frozenset({"type", "syntax", "range", *ROUNDED})
"""What another type of the column would do away with."""
TOO_NARROW = frozenset({"range", "digits", "length", "nanoseconds"})
"""What more room would do away with."""
_ROOM = frozenset({"give the column a wider type", "widen the column", "give the column more room"})
WIDENING = "widen the column, as evolve='widen' does: "
"""What stands before the statement that does it."""


class InvalidValues(Exception):
    """Values that a column does not take, all found at once.

    Attributes
    ----------
    reason : str
        A code of `REASONS`.
    bad : pyarrow.BooleanArray
        True where a value is refused; null counts as false.
    problem : str
        What is wrong, where there is more to say than the reason does.
    """

    def __init__(self, reason: str, bad: pa.Array, problem: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.bad = bad
        self.problem = problem or REASONS[reason][0]


class Violation(NamedTuple):
    """A value that its column does not take.

    Attributes
    ----------
    row : int
        The row's position in the source, counted from 0.
    label : object
        The row's label in the pandas index, None where there is none.
    column : str or None
        The column, or the columns of a key; None where the database did not say it.
    value : str
        The value's repr, cut at 40 characters.
    target : str
        The column's type in SQL, or the constraint that refused the row.
    reason : str
        A code: ``null``, ``type``, ``syntax``, ``range``, ``fraction``, ``digits``, ``nanoseconds``, ``time``,
        ``nan``, ``length``, ``nul``, ``encoding``, ``label``, ``zone``, ``duplicate``, ``exists``,
        ``foreign_key``, ``unique``, ``check``, ``fields`` or ``refused``.
    problem, suggestion : str
        What is wrong, and what to do about it.

    Examples
    --------
    >>> from dataloader import Violation
    >>> print(Violation(7, None, "id", "3.7", "integer", "fraction", "it has a fractional part", "Round it."))
    row 7, column 'id': 3.7 does not fit integer: it has a fractional part
    """

    row: int
    label: object
    column: str | None
    value: str
    target: str
    reason: str
    problem: str
    suggestion: str

    def __str__(self) -> str:
        label = "" if self.label is None or self.label == self.row else f" ({cut(repr(self.label))})"
        where = f"row {self.row}{label}" + ("" if self.column is None else f", column {self.column!r}")
        return f"{where}: {self.value} does not fit {self.target}: {self.problem}"


def suggestion(reason: str, *more: str, widening: str = "") -> str:
    """What to do about a value, with more ways than the reason alone has, and the statement that gives it room.

    >>> suggestion("fraction", "pass casts='lossy'")
    "Round it, make the column numeric, or pass casts='lossy'."
    """
    general = REASONS[reason][1].rstrip(".").split(", or ")
    if widening:
        general, more = [one for one in general if one not in _ROOM], (*more, f"{WIDENING}{widening}")
    *ways, last = [*general, *more]
    return f"{', '.join(ways)}{', or ' if ways else ''}{last}."


Counts = dict[tuple[str | None, str], int]


class Violations(Sequence[Violation]):
    """Any number of violations, by row: what does not fit into memory waits on disk.

    Attributes
    ----------
    rows : int
        How many rows they are about.
    """

    def __init__(self, violations: Iterable[Violation] = ()) -> None:
        self._blocks = Spool()
        self._ends: list[int] = []
        self._counts: Counter[tuple[str | None, str]] = Counter()
        self.rows = 0
        self._last_row = -1
        self.extend(violations)

    def extend(self, violations: Iterable[Violation]) -> None:
        rest = iter(violations)
        while block := list(itertools.islice(rest, BLOCK)):
            self._blocks.add(block)
            self._ends.append(len(self) + len(block))
            self._counts.update((one.column, one.reason) for one in block)
            for one in block:
                self.rows += one.row != self._last_row
                self._last_row = one.row

    @property
    def counts(self) -> Counts:
        """How many there are of each column and reason, most first."""
        return dict(self._counts.most_common())

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Violation]:
        return itertools.chain.from_iterable(self._blocks)

    @overload
    def __getitem__(self, index: int) -> Violation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Violation]: ...
    def __getitem__(self, index: int | slice) -> Violation | list[Violation]:
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return [self[position] for position in positions] if positions.step < 0 else self._between(positions)
        number = bisect.bisect_right(self._ends, positions)
        block: list[Violation] = self._blocks.read(number)
        return block[positions - self._ends[number]]

    def _between(self, positions: range) -> list[Violation]:
        return list(itertools.islice(self, positions.start, positions.stop, positions.step))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(tuple.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f"<{len(self):,} violations>"


def by_column(counts: Counts) -> list[tuple[str, int, str]]:
    """How many values of each column are wrong, and in which ways."""
    columns = dict.fromkeys(column for column, _ in counts)
    found = [(column, {why: n for (of, why), n in counts.items() if of == column}) for column in columns]
    return [(column or "", sum(ways.values()), _in_words(ways)) for column, ways in found]


def _in_words(ways: dict[str, int]) -> str:
    words = {reason: REASONS.get(reason, (reason, ""))[0] for reason in ways}
    alone = len(ways) == 1
    return "; ".join(words[reason] if alone else f"{words[reason]} ({n:,})" for reason, n in ways.items())


def summary(counts: Counts) -> str:
    """Counts in words: ``2 in 'amount' (digits), 1 in 'id' (null)``."""
    most = sorted(counts.items(), key=lambda item: -item[1])
    named = [f"{count:,} {'' if column is None else f'in {column!r} '}({reason})" for (column, reason), count in most]
    more = [f"and {len(named) - SHOWN_VIOLATIONS} more kinds"] if len(named) > SHOWN_VIOLATIONS else []
    return ", ".join(named[:SHOWN_VIOLATIONS] + more)


def shown(value: pa.Scalar) -> str:
    """A value's repr, cut at 40 characters."""
    try:
        text = repr(value.as_py())
    except (OverflowError, ValueError):  # a moment that Python's datetime cannot hold, bytes that are no text
        number = getattr(value, "value", None)
        text = f"{number} {value.type}" if isinstance(number, int) else f"a {value.type} that Python cannot show"
    return cut(text)


def cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
