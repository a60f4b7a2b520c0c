"""What a load did and what a validation found, as text, as HTML and as DataFrames."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dataloader.errors import LoadError
from dataloader.pace import Mark, drawn, rates
from dataloader.picture import BAD, GOOD, NO_MATHEMATICS, quantity, size
from dataloader.rejects import Rejects, is_within_python, python_values
from dataloader.violations import REJECT_COLUMNS, SHOWN_VIOLATIONS, Counts, Violation, counted, cut, summary

if TYPE_CHECKING:
    import pandas as pd

_FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    source, table, place : str
        What was loaded, into which table of which database.
    read : int
        Rows that the source gave.
    loaded : int
        Rows that the database stored.
    rejected : int
        Rows that were refused and kept aside, see `rejects`.
    skipped : int
        Rows that the database took and did not store, because a trigger or rule dropped them.
    chunks : int
        Chunks that were written.
    nbytes : int
        Bytes that were sent.
    seconds : float
        Time from the call to the commit.
    method, reason : str
        How the rows were written, and why so.
    earlier : int
        Rows that an earlier run of a resumed load had committed; they are not in `read`.
    load_id : str or None
        The load's name in the ledger, None for one that was committed in one transaction.
    notices : tuple of str
        What was done otherwise than asked for.
    pace : tuple of (float, int)
        Seconds since the call, and rows written by then: after each chunk, or at about a hundred moments of a load
        of more.

    Raises
    ------
    LoadError
        When the numbers do not add up: ``read = loaded + rejected + skipped`` must hold.

    Examples
    --------
    >>> report = LoadReport("DataFrame", "orders", "SQLite shop.db", 2, 2, 0, 0, 1, 64, 0.5, "insert", "...")
    >>> print(report)
    2 rows loaded from DataFrame into orders of SQLite shop.db in 0.50 s (4 rows/s, insert)
    """

    source: str
    table: str
    place: str
    read: int
    loaded: int
    rejected: int
    skipped: int
    chunks: int
    nbytes: int
    seconds: float
    method: str
    reason: str
    rejected_rows: Rejects = field(default_factory=Rejects, repr=False, compare=False)
    earlier: int = 0
    load_id: str | None = None
    notices: tuple[str, ...] = ()
    pace: tuple[Mark, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.read != self.loaded + self.rejected + self.skipped:
            what = f"{self.read} rows were read, but {self.loaded} + {self.rejected} + {self.skipped} accounted for"
            raise LoadError(what, hint="Count the table's rows, and report this.")

    @property
    def rows_per_second(self) -> float:
        """Rows loaded per second of the whole load."""
        return self.loaded / self.seconds if self.seconds else 0.0

    @property
    def rejects(self) -> pd.DataFrame:
        """The rejected rows: their own values, to the last digit, and what was wrong.

        Four columns are added: ``reject_row`` (position in the source, from 0), ``reject_column``,
        ``reject_reason`` and ``reject_problem``. The index is that of the source's DataFrame, else
        the row's position. Correct the values and load the frame again: the four columns are left out.
        """
        return _frame(self.rejected_rows)

    def rejects_to(self, path: str | os.PathLike[str]) -> None:
        """Write the rejected rows to a file.

        Parameters
        ----------
        path : str or path
            ``.parquet`` keeps every value as it is, ``.jsonl`` every number and text; bytes and dates before
            Christ, which JSON does not have, are spelled as PostgreSQL does. ``.csv`` is for a spreadsheet: a
            text that it would run as a formula gets an apostrophe in front.

        Raises
        ------
        PlanError
            When the path ends in anything else.
        """
        self.rejected_rows.write(path)

    def __str__(self) -> str:
        rows = "1 row" if self.loaded == 1 else f"{self.loaded:,} rows"
        text = (
            f"{rows} loaded from {self.source} into {self.table} of {self.place} "
            f"in {self.seconds:.2f} s ({self.rows_per_second:,.0f} rows/s, {self.method})"
        )
        return text + self._more()

    __repr__ = __str__

    @property
    def _accounts(self) -> str:
        return f"{self.read:,} read = {self.loaded:,} loaded + {self.rejected:,} rejected + {self.skipped:,} skipped"

    @property
    def _all_notices(self) -> list[str]:
        earlier = [f"{self.earlier:,} rows were committed by an earlier run"] if self.earlier else []
        return [*earlier, *self.notices]

    @property
    def _reasons(self) -> str:
        return summary(self.rejected_rows.findings.counts)

    def _more(self) -> str:
        accounts = f"\n{self._accounts}" if self.rejected or self.skipped else ""
        accounts += "".join(f"\n{notice}" for notice in self._all_notices)
        return accounts + (f"\nrejected: {self._reasons}; see report.rejects" if self.rejected else "")

    def _repr_html_(self) -> str:
        facts = [
            ("rows", self._accounts),
            ("time", f"{self.seconds:.2f} s, {self.rows_per_second:,.0f} rows/s"),
            ("method", f"{self.method}, because {self.reason}"),
            ("sent", f"{size(self.nbytes)} in {quantity(self.chunks, 'chunk')}"),
        ]
        if self.rejected:
            facts.insert(1, ("rejected", f"{self._reasons}; see report.rejects"))
        facts += [("note", notice) for notice in self._all_notices]
        if self.load_id is not None:
            facts.append(("load_id", self.load_id))
        rows = "".join(
            f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in facts
        )
        title = f"{self.source} → {self.table}"
        return (
            f'<div class="{NO_MATHEMATICS}" style="{_FONT};max-width:640px">'
            f'<b style="color:{GOOD}">loaded</b> <code>{html.escape(title)}</code> of {html.escape(self.place)}'
            f"<table>{rows}</table>{self._picture_of_pace()}</div>"
        )

    def _picture_of_pace(self) -> str:
        heights = rates(self.pace)
        return f"<div>{drawn(heights)}{max(heights):,.0f} rows/s at most</div>" if heights else ""


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What `validate` found; nothing was written. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    source, table, place : str
        What was looked at, and for which table of which database.
    read : int
        Rows that the source gave.
    violations : tuple of Violation
        Every value that does not fit, by row.

    Examples
    --------
    >>> report = ValidationReport("DataFrame", "orders", "SQLite shop.db", 2, ())
    >>> report.ok
    True
    >>> print(report)
    2 rows of DataFrame fit orders of SQLite shop.db
    """

    source: str
    table: str
    place: str
    read: int
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        """Whether every row fits."""
        return not self.violations

    @property
    def counts(self) -> Counts:
        """How many violations there are of each (column, reason), most first."""
        return counted(self.violations)

    @property
    def invalid_rows(self) -> int:
        """How many rows have at least one violation."""
        return len({one.row for one in self.violations})

    @property
    def frame(self) -> pd.DataFrame:
        """The violations, one to a row: row, label, column, value, target, reason, problem, suggestion."""
        import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

        return pd.DataFrame(list(self.violations), columns=list(Violation._fields))

    def __str__(self) -> str:
        where = f"{self.table} of {self.place}"
        if self.ok:
            return f"{self.read:,} rows of {self.source} fit {where}"
        more = len(self.violations) - SHOWN_VIOLATIONS
        lines = [
            f"{self.invalid_rows:,} of {self.read:,} rows of {self.source} do not fit {where}: {summary(self.counts)}",
            *(f"  {one}" for one in self.violations[:SHOWN_VIOLATIONS]),
            *([f"  ... and {more:,} more, see .frame"] if more > 0 else []),
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        where = f"<code>{html.escape(self.table)}</code> of {html.escape(self.place)}"
        source = html.escape(self.source)
        if self.ok:
            fits = f"{self.read:,} rows of {source} fit {where}"
            return f'<div class="{NO_MATHEMATICS}" style="{_FONT}"><b style="color:{GOOD}">valid</b> {fits}</div>'
        counts = [(column or "", reason, f"{count:,}") for (column, reason), count in self.counts.items()]
        first = [
            (one.row, _label(one), one.column or "", one.value, one.target, one.problem, one.suggestion)
            for one in self.violations[:SHOWN_VIOLATIONS]
        ]
        more = len(self.violations) - SHOWN_VIOLATIONS
        return (
            f'<div class="{NO_MATHEMATICS}" style="{_FONT}"><b style="color:{BAD}">invalid</b> '
            f"{self.invalid_rows:,} of {self.read:,} rows of {source} do not fit {where}"
            + _html_table(("column", "reason", "count"), counts)
            + _html_table(("row", "label", "column", "value", "type", "problem", "suggestion"), first)
            + (f"<div>... and {more:,} more, see <code>.frame</code></div>" if more > 0 else "")
            + "</div>"
        )


def _label(violation: Violation) -> str:
    return "" if violation.label is None or violation.label == violation.row else cut(str(violation.label))


def _html_table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f'<th style="text-align:left">{name}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{html.escape(str(cell))}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _frame(rejects: Rejects) -> pd.DataFrame:
    """Arrow's types keep what NumPy's would change: a large integer beside a NULL, a decimal, nanoseconds."""
    import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

    columns = {name: _series(pd, values) for name, values in rejects.columns().items()}
    if not columns:
        return pd.DataFrame(columns=list(REJECT_COLUMNS))
    frame = pd.DataFrame(columns)
    if any(label is not None for label in rejects.labels):
        frame.index = pd.Index(rejects.labels)
    else:
        frame.index = pd.Index(frame["reject_row"].to_numpy())
    return frame


def history_frame(loads: Iterable[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """The loads of a ledger as a DataFrame."""
    import pandas as pd  # noqa: PLC0415 - only who asks for a frame needs pandas

    return pd.DataFrame(list(loads), columns=list(columns))


def _series(pd: Any, values: pa.ChunkedArray | list[Any]) -> Any:
    """A column of Arrow's type, or of Python objects where pandas does not know that type."""
    if isinstance(values, list):
        return pd.Series(values, dtype=object)
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_interval(kind) or not is_within_python(values):
        return pd.Series(python_values(values), dtype=object)
    return pd.Series(pd.arrays.ArrowExtensionArray(values))
