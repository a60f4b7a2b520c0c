"""Which columns of a source are loaded, and under which names: the option `columns`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from dataloader.errors import PlanError
from dataloader.formatting import did_you_mean
from dataloader.sources.base import Source
from dataloader.sources.csv_options import CsvOptions
from dataloader.sources.cuts import UNCUT, Cuts

Columns = Sequence[Any] | Mapping[Any, str]
"""Names, or the new name of each."""
FileFormat = Literal["csv", "parquet", "orc", "arrow", "jsonl", "json", "excel"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What of a source is read, and how: the options of that name.

    Attributes
    ----------
    filename : str or None
        The column that each row's file is named in.
    """

    columns: Columns | None = None
    csv: CsvOptions | None = None
    sheet: str | int | None = None
    cells: str | None = None
    filename: str | None = None
    format: FileFormat | None = None


WHOLE = Reading()


def renaming(columns: Columns) -> dict[Any, str]:
    """Each column that is loaded and its name in the table, in the order of the load."""
    named = columns if isinstance(columns, Mapping) else {name: name for name in columns}
    return {name: str(target) for name, target in named.items()}


def selected(names: Sequence[str], columns: Columns | None, what: str) -> list[str]:
    """The names that are selected of those that a source offers, in its own order.

    Raises
    ------
    PlanError
        When a column is selected that the source does not have.
    """
    if columns is None:
        return list(names)
    wanted = {str(name) for name in columns}
    for name in columns:
        if str(name) not in names:
            raise PlanError(f"{what} has no column {str(name)!r}", hint=did_you_mean(name, names))
    return [name for name in names if name in wanted]


@dataclass(frozen=True, slots=True)
class SelectedSource(Source):
    """Some columns of another source, under names that may be new."""

    whole: Source
    names: tuple[str, ...]

    async def aclose(self) -> None:
        await self.whole.aclose()

    async def chunks(self, chunk_rows: int, cuts: Cuts = UNCUT) -> AsyncGenerator[pa.RecordBatch]:
        reading = self.whole.chunks(chunk_rows, cuts)
        try:
            async for batch in reading:
                yield self._selected(batch)
                del batch
        finally:
            await reading.aclose()

    async def head(self, rows: int) -> pa.RecordBatch | None:
        batch = await self.whole.head(rows)
        return None if batch is None else self._selected(batch)

    def _selected(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([batch.column(name) for name in self.names], names=self.schema.names)


def select(source: Source, columns: Columns) -> Source:
    """The source with the selected columns only, in their order and under their new names.

    Raises
    ------
    PlanError
        When the source does not have one of them.
    """
    selected(source.schema.names, columns, source.name)
    chosen = {str(name): target for name, target in renaming(columns).items()}
    kinds = [source.schema.field(name).with_name(target) for name, target in chosen.items()]
    same = (
        "in_memory",
        "loader",
        "paths",
        "position",
        "about",
        "facts",
        "contents",
        "passed_over",
        "labels",
        "is_live",
    )
    told = {name: getattr(source, name) for name in same}
    return SelectedSource(source.name, pa.schema(kinds), source.rows, source, tuple(chosen), **told)
