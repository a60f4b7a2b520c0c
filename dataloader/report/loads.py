"""What a load did."""

from __future__ import annotations

import datetime as dt
import html
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataloader.conversion.violations import by_column, summary
from dataloader.display.cells import show_unless_shown
from dataloader.display.html import GOOD, WARNING, details, headline, panel, sparkline, table, text_color
from dataloader.display.state import Sample, rates
from dataloader.errors import LoadError
from dataloader.formatting import duration, fitted, pace, quantity, size
from dataloader.rejects import Rejects
from dataloader.report.frames import Returned, rejects_frame

if TYPE_CHECKING:
    import pandas as pd

SHOWN_COLUMNS = 50
_EXPECTED = {"PostgreSQL takes rows fastest by binary COPY", "only PostgreSQL has COPY"}
"""Reasons for a method that surprise nobody."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class LoadReport:
    """What a load did. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    source, table, database : str
        What was loaded, into which table of which database.
    read : int
        Rows that the source gave.
    loaded : int
        Rows that the database stored: `inserted` and `updated`.
    updated : int
        Rows of the table that took over what the data says, with ``on_conflict="update"``.
    unchanged : int
        Rows that the table had already, just so; they were not written again.
    ignored : int
        Rows that gave way to another one with their key: in the table, with ``on_conflict="ignore"``, or in the data.
    deleted : int
        Rows of the table that `delete_rows` or `sync_table` has deleted.
    missing : int
        Rows whose key is not in the table, where `update_rows` or `delete_rows` was to find it.
    verified : bool
        Whether the rows were read back, and found to be those that were sent, before they were committed.
    dry_run : bool
        Whether all of it was rolled back, so that the counts are what would have been.
    preview : tuple of str
        Of a dry run that merges: the first rows that would change, with each value before and after, or be deleted.
    action : {'load', 'update', 'delete', 'sync'}
        What was done: by a loader, `update_rows`, `delete_rows` or `sync_table`.
    rejected : int
        Rows that were refused and kept aside, see `rejects`.
    skipped : int
        Rows that were sent, and are not in the count that the database gave back: a trigger or rule dropped them, or
        put them elsewhere.
    chunks : int
        Chunks that were written.
    nbytes : int
        Bytes that were sent.
    seconds : float
        From the call to the commit.
    method, reason : str
        How the rows were written, and why so.
    already_loaded : int
        Rows that earlier runs of a resumed load had committed; they are not in `read`.
    load_id : str or None
        The load's name in the ledger, None for one that was committed in one transaction.
    warnings : tuple of str
        What was done otherwise than asked for.
    pace : tuple of (float, int)
        Seconds since the call, and rows written by then: after each chunk, or about a hundred samples of a
        longer load.
    already_rejected : int
        How many of the `already_loaded` rows were refused; they are in `rejects`, and not in `rejected`.
    loaded_before : datetime or None
        When the same rows were loaded into the same table before: by this process, or by a load that the table's
        ledger knows. One of the `warnings` says how to load them once.
    columns : tuple of (str, str)
        Name and type of each column of the table that was loaded.
    created : bool
        Whether the load made the table.
    first_rows : tuple of tuple of str
        The first five rows that were loaded, as text.
    passed_over : int
        With ``only_new=True``: how many files were not read, because the table's ledger knows them as loaded.
    shards : tuple of (int, int, int) or None
        Which shard it was, of how many, and how many of them were finished with it.
    parts : tuple of LoadReport
        Of a load by the workers of a cluster: the report of each partition, in their order.
    rejected_rows, returned_rows : Rejects, Returned
        What `rejects` and `returned` are made of; much of it waits on disk, and goes with the report.

    Raises
    ------
    LoadError
        When the numbers do not add up: ``read = loaded + unchanged + ignored + missing + rejected + skipped`` must
        hold, with `deleted` too for `delete_rows`.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> report = asyncio.run(dl.load_dataframe({"id": [1, 2]}, "t", engine="sqlite:///:memory:", progress="none"))
    >>> print(report)  # doctest: +ELLIPSIS
    2 rows loaded from dict of columns into t of SQLite :memory: in ... s (... rows/s, insert)
    """

    source: str
    table: str
    database: str
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
    already_loaded: int = 0
    load_id: str | None = None
    warnings: tuple[str, ...] = ()
    pace: tuple[Sample, ...] = field(default=(), repr=False)
    already_rejected: int = 0
    updated: int = 0
    unchanged: int = 0
    ignored: int = 0
    deleted: int = 0
    missing: int = 0
    action: str = "load"
    dry_run: bool = False
    verified: bool = False
    preview: tuple[str, ...] = ()
    loaded_before: dt.datetime | None = None
    columns: tuple[tuple[str, str], ...] = ()
    created: bool = False
    first_rows: tuple[tuple[str, ...], ...] = field(default=(), repr=False, compare=False)
    passed_over: int = 0
    shards: tuple[int, int, int] | None = None
    parts: tuple[LoadReport, ...] = field(default=(), repr=False, compare=False)
    returned_rows: Returned = field(default_factory=Returned, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = self.deleted if self.action == "delete" else 0
        kept = self.unchanged + self.ignored + self.missing
        if self.read != self.loaded + found + kept + self.rejected + self.skipped:
            raise LoadError(f"the numbers do not add up: {self._accounts}", hint="Count the table's rows, report this.")

    @property
    def inserted(self) -> int:
        """Rows that the table has more."""
        return self.loaded - self.updated

    @property
    def rows_per_second(self) -> float:
        """Rows loaded per second of the whole load."""
        return self.loaded / self.seconds if self.seconds else 0.0

    @property
    def rejects(self) -> pd.DataFrame:
        """The rejected rows: their own values, to the last digit, and what was wrong.

        Four columns are added: ``reject_row`` (position in the source, from 0), ``reject_column``,
        ``reject_reason`` and ``reject_problem``. The index is that of the source's DataFrame, else
        the row's position. Correct the values and load the frame again: a table that lacks the four columns
        gets the others.
        """
        return rejects_frame(self.rejected_rows)

    @property
    def returned(self) -> pd.DataFrame:
        """What ``returning=`` asked for, one row for each that is stored, in the order of the source.

        The index is that of the source, else the row's place in it. With ``on_conflict`` the column ``inserted`` says
        whether the row is new; rows of the source that gave way to another one with their key are left out.
        """
        return self.returned_rows.frame()

    def rejects_to(self, path: str | os.PathLike[str]) -> None:
        """Write the rejected rows to a file.

        Parameters
        ----------
        path : str or path
            ``.parquet`` keeps every value as it is, ``.jsonl`` every number and text; bytes and dates before
            Christ, which JSON does not have, are spelled as PostgreSQL does. ``.csv`` is for a spreadsheet: a
            text that it would run as a formula gets an apostrophe in front, which `load_files` takes away again
            where the file has the four columns. Correct the values and load the file.

        Raises
        ------
        PlanError
            When the path ends in anything else.
        """
        self.rejected_rows.write(path)

    @property
    def _text(self) -> str:
        text = (
            f"{self._outcome} of {self.database} in {self.seconds:.2f} s ({pace(self.rows_per_second)}, {self.method}"
            f"{', verified' if self.verified else ''})"
        )
        return f"{'dry run, rolled back: ' if self.dry_run else ''}{text}{self._more()}"

    def __str__(self) -> str:
        return fitted(self._text)

    __repr__ = __str__

    @property
    def _outcome(self) -> str:
        if self.action == "update":
            return f"{quantity(self.updated, 'row')} updated from {self.source} in {self.table}"
        if self.action == "delete":
            return f"{quantity(self.deleted, 'row')} deleted by {self.source} from {self.table}"
        deleted = f" and {quantity(self.deleted, 'row')} deleted" if self.action == "sync" else ""
        return f"{quantity(self.loaded, 'row')} loaded{deleted} from {self.source} into {self.table}"

    @property
    def _accounts(self) -> str:
        loaded = f"{self.loaded:,} loaded"
        if self.action == "delete":
            loaded = f"{self.deleted:,} deleted"
        elif self.updated:
            loaded = f"{self.inserted:,} inserted + {self.updated:,} updated"
        merged = {"unchanged": self.unchanged, "ignored": self.ignored, "missing": self.missing}
        others = merged | {"rejected": self.rejected, "skipped": self.skipped}
        return f"{self.read:,} read = {loaded}" + "".join(f" + {n:,} {what}" for what, n in others.items() if n)

    @property
    def _notes(self) -> list[str]:
        notes = [f"{quantity(self.passed_over, 'file')} passed over: loaded before"] if self.passed_over else []
        if self.shards is not None and self.shards[2]:
            notes.append("shard {} of {}; {} of them finished".format(*self.shards))
        if self.already_loaded:
            rejected = f", {self.already_rejected:,} of them as rejects" if self.already_rejected else ""
            notes.append(f"an earlier run committed {quantity(self.already_loaded, 'row')}{rejected}")
        return [*notes, *self.warnings]

    @property
    def _reasons(self) -> str:
        return summary(self.rejected_rows.findings.counts)

    def _more(self) -> str:
        others = self.missing or self.rejected or self.skipped or self.updated or self.unchanged or self.ignored
        accounts = f"\n{self._accounts}" if others else ""
        accounts += "".join(f"\n  {line}" for line in self.preview)
        accounts += "".join(f"\n{note}" for note in self._notes)
        return accounts + (f"\nrejected: {self._reasons}; see report.rejects" if self._reasons else "")

    def _ipython_display_(self) -> None:
        show_unless_shown(self)

    def _repr_html_(self) -> str:
        title = f"<code>{html.escape(f'{self.source} → {self.table}')}</code>"
        color, word = (GOOD, "✓") if not self.rejected else (WARNING, "✓" if self.loaded else "✗")
        word = "dry run, rolled back:" if self.dry_run else word
        new = " · new table" if self.created else ""
        notes = "".join(f'<div style="{text_color(WARNING)}">{html.escape(note)}</div>' for note in self._notes)
        return panel(
            headline(color, word, f"<b>{self._counted}</b> · {title}{new} · {duration(self.seconds)}"),
            self._refusals(),
            notes,
            *(f"<div>{html.escape(line)}</div>" for line in self.preview),
            details(table(self._facts), self._sparkline()),
            self._sample(),
        )

    def _refusals(self) -> str:
        """Why rows were rejected, by column."""
        found = by_column(self.rejected_rows.findings.counts)
        if not found:
            return ""
        return table(found, head=("column", "values", "reasons")) + "<div>see <code>report.rejects</code></div>"

    @property
    def _counted(self) -> str:
        """What became of the rows, for the headline."""
        merged = self.updated or self.unchanged or self.ignored or self.missing
        counts = {
            "inserted": self.inserted if merged else 0,
            "updated": self.updated,
            "deleted": self.deleted,
            "unchanged": self.unchanged,
            "ignored": self.ignored,
            "missing": self.missing,
            "rejected": self.rejected,
        }
        told = [f"{count:,} {what}" for what, count in counts.items() if count]
        return " · ".join(told if merged or self.action == "delete" else [quantity(self.loaded, "row"), *told])

    @property
    def _facts(self) -> list[tuple[str, str]]:
        """What few people ask for."""
        why = "" if self.reason in _EXPECTED else f", because {self.reason}"
        heights = rates(self.pace)
        peak = f", peak {pace(max(heights))}" if heights else ""
        facts = [
            ("rows", self._accounts),
            ("database", self.database),
            ("speed", f"{pace(self.rows_per_second)}{peak}"),
            ("method", f"{self.method}{why}"),
            *([("verified", "read back before the commit, and equal")] if self.verified else []),
            ("sent", f"{size(self.nbytes)} in {quantity(self.chunks, 'chunk')}"),
        ]
        if self.parts:
            seconds = [one.seconds for one in self.parts]
            each = f"{duration(min(seconds))} to {duration(max(seconds))} each"
            facts.append(("partitions", f"{len(self.parts):,}, {each}"))
        return facts if self.load_id is None else [*facts, ("load_id", self.load_id)]

    def _sparkline(self) -> str:
        heights = rates(self.pace)
        return sparkline(heights) if heights else ""

    def _sample(self) -> str:
        """The columns with their types, and the first rows."""
        if not self.first_rows:
            return ""
        names, kinds = zip(*self.columns[:SHOWN_COLUMNS], strict=True)
        more = len(self.columns) - SHOWN_COLUMNS
        left = f"<div>... and {quantity(more, 'more column')}</div>" if more > 0 else ""
        return table([row[:SHOWN_COLUMNS] for row in self.first_rows], head=names, kinds=kinds) + left
