"""What a load did, as text and as HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass

from dataloader.errors import LoadError


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
        Rows that were refused and kept aside.
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

    def __post_init__(self) -> None:
        if self.read != self.loaded + self.rejected + self.skipped:
            what = f"{self.read} rows were read, but {self.loaded} + {self.rejected} + {self.skipped} accounted for"
            raise LoadError(what, hint="Count the table's rows, and report this.")

    @property
    def rows_per_second(self) -> float:
        """Rows loaded per second of the whole load."""
        return self.loaded / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        rows = "1 row" if self.loaded == 1 else f"{self.loaded:,} rows"
        text = (
            f"{rows} loaded from {self.source} into {self.table} of {self.place} "
            f"in {self.seconds:.2f} s ({self.rows_per_second:,.0f} rows/s, {self.method})"
        )
        return text + self._accounts()

    __repr__ = __str__

    def _accounts(self) -> str:
        if not (self.rejected or self.skipped):
            return ""
        return f"\n{self.read:,} read = {self.loaded:,} loaded + {self.rejected:,} rejected + {self.skipped:,} skipped"

    def _repr_html_(self) -> str:
        facts = (
            (
                "rows",
                f"{self.read:,} read = {self.loaded:,} loaded + {self.rejected:,} rejected + {self.skipped:,} skipped",
            ),
            ("time", f"{self.seconds:.2f} s, {self.rows_per_second:,.0f} rows/s"),
            ("method", f"{self.method}, because {self.reason}"),
            ("sent", f"{self.nbytes / 1e6:,.1f} MB in {self.chunks:,} chunks"),
        )
        rows = "".join(
            f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in facts
        )
        title = f"{self.source} → {self.table}"
        return (
            '<div style="font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;max-width:640px">'
            f'<b style="color:#2e7d32">loaded</b> <code>{html.escape(title)}</code> of {html.escape(self.place)}'
            f"<table>{rows}</table></div>"
        )
