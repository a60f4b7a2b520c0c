"""What a comparison found."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataloader.display.cells import show_unless_shown
from dataloader.display.html import GOOD, WARNING, details, headline, panel, table
from dataloader.formatting import duration, fitted, quantity
from dataloader.report.frames import table_frame

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Comparison:
    """What `compare` found. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    source, table, database : str
        The data, and the table or query of which database.
    key : tuple of str
        The columns by which rows were paired.
    rows_here, rows_there : int
        The rows of the data, and of the table.
    same, different : int
        Pairs of rows in which nothing differs, or something does.
    count_only_here, count_only_there : int
        Rows whose key the other side does not have. A key with NULL is like no other.
    by_column : mapping of str to int
        How many cells differ in each column, most first.
    not_compared : tuple of str
        The columns of the table that the data does not have.
    seconds : float
        From the call to the end.
    kept_here, kept_there, kept_cells : pyarrow.Table
        What `only_here`, `only_there` and `differences` are made of; `max_rows` rows of each at most.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> report = asyncio.run(dl.load_dataframe({"id": [1, 2]}, "orders", engine=url, primary_key="id", progress="none"))
    >>> print(asyncio.run(dl.compare({"id": [2, 3]}, "orders", engine=url, progress="none")))  # doctest: +ELLIPSIS
    dict of columns differs from orders of SQLite ...: 1 row only here, 1 row only there, 0 rows differ, 1 row equal
    """

    source: str
    table: str
    database: str
    key: tuple[str, ...]
    rows_here: int
    rows_there: int
    same: int
    different: int
    count_only_here: int
    count_only_there: int
    by_column: Mapping[str, int]
    not_compared: tuple[str, ...] = ()
    seconds: float = 0.0
    kept_here: pa.Table = field(repr=False, compare=False)
    kept_there: pa.Table = field(repr=False, compare=False)
    kept_cells: pa.Table = field(repr=False, compare=False)

    @property
    def equal(self) -> bool:
        """Whether both sides have the same keys with the same values."""
        return not (self.different or self.count_only_here or self.count_only_there)

    @property
    def only_here(self) -> pd.DataFrame:
        """The rows that only the data has, as text: ``row`` is their place in it. No more than were to be kept."""
        return table_frame(self.kept_here)

    @property
    def only_there(self) -> pd.DataFrame:
        """The rows that only the table has, as text. No more than were to be kept."""
        return table_frame(self.kept_there)

    @property
    def differences(self) -> pd.DataFrame:
        """The cells that differ: their key, ``row`` in the data, ``column``, ``ours`` and ``theirs``, as text."""
        return table_frame(self.kept_cells)

    @property
    def _text(self) -> str:
        where = f"{self.table} of {self.database}"
        if self.equal:
            return f"{self.source} equals {where}: {quantity(self.same, 'row')}{self._left_out}"
        columns = "".join(f"\n  {name}: {count:,} differ" for name, count in self.by_column.items())
        return f"{self.source} differs from {where}: {self._counted}{self._left_out}{columns}"

    def __str__(self) -> str:
        return fitted(self._text)

    __repr__ = __str__

    @property
    def _counted(self) -> str:
        differ = f"{quantity(self.different, 'row')} {'differs' if self.different == 1 else 'differ'}"
        return (
            f"{quantity(self.count_only_here, 'row')} only here, {quantity(self.count_only_there, 'row')} only there, "
            f"{differ}, {quantity(self.same, 'row')} equal"
        )

    @property
    def _left_out(self) -> str:
        return f"; not compared: {', '.join(self.not_compared)}" if self.not_compared else ""

    def _ipython_display_(self) -> None:
        show_unless_shown(self)

    def _repr_html_(self) -> str:
        title = f"<code>{html.escape(f'{self.source} ↔ {self.table}')}</code>"
        color, word = (GOOD, "equal:") if self.equal else (WARNING, "different:")
        counted = quantity(self.same, "row") if self.equal else self._counted
        facts = [("database", self.database), ("key", ", ".join(self.key))]
        facts += [("not compared", ", ".join(self.not_compared))] if self.not_compared else []
        columns = [(name, f"{count:,}") for name, count in self.by_column.items()]
        return panel(
            headline(color, word, f"<b>{html.escape(counted)}</b> · {title} · {duration(self.seconds)}"),
            table(columns, head=("column", "cells that differ")) if columns else "",
            self._first("differences", self.kept_cells),
            self._first("only here", self.kept_here),
            self._first("only there", self.kept_there),
            details(table(facts)),
        )

    def _first(self, what: str, kept: pa.Table) -> str:
        if not kept.num_rows:
            return ""
        rows = [tuple(map(_shown, one.values())) for one in kept.slice(0, SHOWN_ROWS).to_pylist()]
        return f"<div>{what}</div>" + table(rows, head=kept.column_names)


def _shown(value: object) -> str:
    return "NULL" if value is None else repr(value) if isinstance(value, str) else f"{value:,}"
