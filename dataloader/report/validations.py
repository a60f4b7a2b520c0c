"""What a validation found."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataloader.conversion.violations import SHOWN_VIOLATIONS, Counts, Violation, Violations, by_column, cut, summary
from dataloader.display.cells import show_unless_shown
from dataloader.display.html import BAD, GOOD, headline, panel, table
from dataloader.formatting import fitted, quantity
from dataloader.report.frames import violations_frame

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class ValidationReport:
    """What `validate` found; nothing was written. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    source, table, database : str
        What was checked, and for which table of which database.
    read : int
        Rows that the source gave.
    violations : sequence of Violation
        Every value that does not fit, by row; many of them wait on disk, and go with the report.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> report = asyncio.run(dl.validate({"id": [1, 2]}, "t", engine="sqlite:///:memory:", progress="none"))
    >>> report.ok
    True
    >>> print(report)
    2 rows of dict of columns fit t of SQLite :memory:
    """

    source: str
    table: str
    database: str
    read: int
    violations: Violations

    @property
    def ok(self) -> bool:
        """Whether every row fits."""
        return not self.violations

    @property
    def counts(self) -> Counts:
        """How many violations there are of each (column, reason), most first."""
        return self.violations.counts

    @property
    def invalid_rows(self) -> int:
        """How many rows have at least one violation."""
        return self.violations.rows

    @property
    def frame(self) -> pd.DataFrame:
        """The violations, one to a row: row, label, column, value, target, reason, problem, suggestion."""
        return violations_frame(self.violations)

    def _ipython_display_(self) -> None:
        show_unless_shown(self)

    def _outcome(self, source: str, where: str) -> str:
        if self.ok:
            return f"{quantity(self.read, 'row')} of {source} {'fits' if self.read == 1 else 'fit'} {where}"
        do = "does" if self.read == 1 else "do"
        return f"{quantity(self.invalid_rows, 'row', self.read)} of {source} {do} not fit {where}"

    @property
    def _text(self) -> str:
        what = self._outcome(self.source, f"{self.table} of {self.database}")
        if self.ok:
            return what
        more = len(self.violations) - SHOWN_VIOLATIONS
        lines = [
            f"{what}: {summary(self.counts)}",
            *(f"  {one}" for one in self.violations[:SHOWN_VIOLATIONS]),
            *([f"  ... and {more:,} more, see .frame"] if more > 0 else []),
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return fitted(self._text)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        where = f"<code>{html.escape(self.table)}</code> of {html.escape(self.database)}"
        what = self._outcome(html.escape(self.source), where)
        if self.ok:
            return panel(headline(GOOD, "valid", what))
        more = len(self.violations) - SHOWN_VIOLATIONS
        return panel(
            headline(BAD, "invalid", what),
            table(by_column(self.counts), head=("column", "values", "reasons")),
            table(map(_row_of, self.violations[:SHOWN_VIOLATIONS]), head=("row", "column", "value", "type", "problem")),
            f"<div>... and {more:,} more, see <code>.frame</code></div>" if more > 0 else "",
        )


def _row_of(violation: Violation) -> tuple[object, ...]:
    """A violation as a row of the picture; a label stands beside its row's number."""
    own = violation.label is None or violation.label == violation.row
    row = violation.row if own else f"{violation.row:,} ({cut(str(violation.label))})"
    problem = f"{violation.problem}. {violation.suggestion}"
    return row, violation.column or "", violation.value, violation.target, problem
