"""A query in parts, by ranges of a column: what asks where they begin, and what asks for one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dataloader.database.backends.reading import Statement


@dataclass(frozen=True, slots=True)
class Ranges:
    """A query whose rows are divided by a column.

    Attributes
    ----------
    statement : Statement
        The query.
    key : str
        The column, quoted.
    """

    statement: Statement
    key: str

    def starts(self, rows: int) -> Statement:
        """Asks for the value of each row that has a multiple of so many before it; NULLs come last."""
        counted = f"SELECT {self.key}, row_number() OVER (ORDER BY {self.key}) AS dataloader_row FROM {self._rows}"
        text = f"SELECT {self.key} FROM ({counted} WHERE {self.key} IS NOT NULL) AS dataloader_rows"
        text = f"{text} WHERE dataloader_row % {rows} = 1 ORDER BY {self.key}"
        return replace(self.statement, text=text, columns=None, max_rows=None)

    def parts(self, starts: Sequence[Any]) -> Iterator[Statement]:
        """Each asks for the rows from a start up to the next; together they have every row, once.

        Values of which there are several rows are in one part: equal starts are one.
        """
        distinct = [start for at, start in enumerate(starts) if not at or start != starts[at - 1]]
        for at, first in enumerate(distinct or [None]):
            count = len(self.statement.values)
            conditions, values = [], []
            if at:
                conditions, values = [f"{self.key} >= ${count + 1}"], [first]
            if at + 1 < len(distinct):
                conditions.append(f"{self.key} < ${count + len(values) + 1}")
                values.append(distinct[at + 1])
            elif at:
                conditions = [f"({conditions[0]} OR {self.key} IS NULL)"]
            where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
            text = f"SELECT * FROM {self._rows}{where}"
            yield replace(self.statement, text=text, values=(*self.statement.values, *values))

    @property
    def _rows(self) -> str:
        return f"({self.statement.text.rstrip().rstrip(';')}\n) AS dataloader_rows"
