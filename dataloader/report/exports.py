"""What an export did."""

from __future__ import annotations

import html
from dataclasses import dataclass

from dataloader.display.cells import show_unless_shown
from dataloader.display.html import GOOD, details, headline, panel, table
from dataloader.formatting import duration, fitted, pace, quantity, size


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class ExportReport:
    """What `export` did. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    source, database : str
        The table or query, and the database that it was read from.
    path : str
        The file.
    rows : int
        Rows that were read and written.
    nbytes : int
        The size of the file, in bytes.
    seconds : float
        From the call to the whole file.
    format : {'csv', 'parquet', 'arrow', 'jsonl'}
        What the file is.
    columns : tuple of (str, str)
        Name and Arrow type of each column that was read.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> folder = tempfile.mkdtemp()
    >>> url = f"sqlite:///{folder}/shop.db"
    >>> report = asyncio.run(dl.load_dataframe({"id": [1, 2]}, "orders", engine=url, progress="none"))
    >>> asyncio.run(dl.export("orders", f"{folder}/orders.csv", engine=url, progress="none")).rows
    2
    """

    source: str
    database: str
    path: str
    rows: int
    nbytes: int
    seconds: float
    format: str
    columns: tuple[tuple[str, str], ...] = ()

    @property
    def rows_per_second(self) -> float:
        """Rows per second of the whole export."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def _text(self) -> str:
        told = f"{quantity(self.rows, 'row')} of {self.source} exported from {self.database} to {self.path}"
        return f"{told} ({size(self.nbytes)}) in {self.seconds:.2f} s ({pace(self.rows_per_second)})"

    def __str__(self) -> str:
        return fitted(self._text)

    __repr__ = __str__

    def _ipython_display_(self) -> None:
        show_unless_shown(self)

    def _repr_html_(self) -> str:
        title = f"<code>{html.escape(f'{self.source} → {self.path}')}</code>"
        facts = [("database", self.database), ("speed", pace(self.rows_per_second)), ("format", self.format)]
        counted = f"<b>{quantity(self.rows, 'row')} · {size(self.nbytes)}</b>"
        columns = table(self.columns, head=("column", "type"))
        return panel(
            headline(GOOD, "✓", f"{counted} · {title} · {duration(self.seconds)}"), details(table(facts), columns)
        )
