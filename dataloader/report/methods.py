"""How fast each way to insert rows was."""

from __future__ import annotations

import html
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataloader.display.cells import show_unless_shown
from dataloader.display.html import GOOD, headline, panel, table
from dataloader.formatting import aligned, duration, fitted, pace, quantity
from dataloader.report.frames import table_frame

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Method:
    """One way to insert rows, and how long it took.

    Attributes
    ----------
    rows : int
        How many rows it was given.
    seconds : tuple of float
        Of each round; empty where it failed.
    error : str
        Why it failed, in one line.
    """

    name: str
    rows: int
    seconds: tuple[float, ...] = ()
    error: str = ""

    @property
    def rate(self) -> float:
        """Rows per second, by the median; 0 where it failed."""
        return self.rows / statistics.median(self.seconds) if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class MethodComparison:
    """What `compare_methods` has measured. Printed as text; shown as HTML in a notebook.

    Attributes
    ----------
    table, database : str
        Where the rows went, in a transaction that was rolled back.
    methods : tuple of Method
        In the order in which they were run; `name`, `rows`, `seconds` of each round, `rate` in rows per second, and
        `error`.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> found = asyncio.run(dl.compare_methods({"id": range(1_000)}, "orders", engine=url))
    >>> sorted(found.rates) == sorted(one.name for one in found.methods)
    True
    """

    table: str
    database: str
    methods: tuple[Method, ...]

    @property
    def rates(self) -> dict[str, float]:
        """Rows per second of each method that worked."""
        return {one.name: one.rate for one in self.methods if one.seconds}

    def to_frame(self) -> pd.DataFrame:
        """The methods as a frame.

        Returns
        -------
        pandas.DataFrame
            A row for each: ``method``, ``rows``, ``seconds`` (the median of its rounds), ``rate`` in rows per second,
            and ``error``.
        """
        import pyarrow as pa  # noqa: PLC0415 - a report is imported where nothing has been loaded yet

        medians = [statistics.median(one.seconds) if one.seconds else None for one in self.methods]
        columns = {
            "method": [one.name for one in self.methods],
            "rows": [one.rows for one in self.methods],
            "seconds": pa.array(medians, pa.float64()),
            "rate": [one.rate for one in self.methods],
            "error": [one.error for one in self.methods],
        }
        return table_frame(pa.table(columns))

    @property
    def _text(self) -> str:
        lines = aligned([(name, " · ".join(filter(None, shown))) for name, *shown in self._rows])
        return "\n".join([f"Into {self.table} of {self.database}, rolled back:", *lines])

    def __str__(self) -> str:
        return fitted(self._text)

    __repr__ = __str__

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        """Of each method its name, rate, how many times the slowest's that is, and what was measured."""
        slowest = min(self.rates.values(), default=1.0)
        return [
            (one.name, pace(one.rate), f"{one.rate / slowest:,.1f} x", self._measured(one))
            if one.seconds
            else (one.name, "fails", "", one.error)
            for one in self.methods
        ]

    @staticmethod
    def _measured(one: Method) -> str:
        return f"{quantity(one.rows, 'row')} in {duration(statistics.median(one.seconds))}"

    def _ipython_display_(self) -> None:
        show_unless_shown(self)

    def _repr_html_(self) -> str:
        where = f"<code>{html.escape(self.table)}</code> of {html.escape(self.database)}"
        return panel(
            headline(GOOD, "compared", f"{len(self.methods)} ways to insert rows into {where} · rolled back"),
            table(self._rows, head=("method", "rate", "of the slowest", "measured")),
        )
