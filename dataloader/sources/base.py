"""What every source is: record batches of the size that is asked for, and what is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Callable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from dataloader.errors import PlanError
from dataloader.sources import streams
from dataloader.sync import in_thread

if TYPE_CHECKING:
    pass


class Source(Protocol):
    """Rows to load, as Arrow batches.

    Attributes
    ----------
    name : str
        What the user would call it, for plans and reports.
    schema : pyarrow.Schema
        The columns it offers. A batch has these columns; a column's type may differ from batch
        to batch where the rows do (CSV text, dicts), and the converter answers for that.
    rows : int or None
        How many rows there are, None if nobody knows.
    in_memory : bool
        Whether it can be read again at no cost.
    loader : str
        The function that the user called.
    paths : tuple of str
        The files that it is read from.
    position : object
        Says as a string which of several files is being read; else an empty string.
    """

    @property
    def name(self) -> str: ...
    @property
    def schema(self) -> pa.Schema: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def in_memory(self) -> bool: ...
    @property
    def loader(self) -> str: ...
    @property
    def paths(self) -> tuple[str, ...]: ...
    @property
    def position(self) -> object: ...

    def label(self, row: int) -> object:
        """The label of the row at a position, None where rows have none."""

    def chunks(self, chunk_rows: int) -> AsyncGenerator[pa.RecordBatch]:
        """Yield batches of exactly `chunk_rows` rows; the last one, and one before a change of types, of fewer."""

    async def aclose(self) -> None:
        """Close what is read, wherever the reading stands."""


@dataclass(frozen=True, slots=True)
class ArrowSource:
    """A source that is read by blocking calls: each step of the reading runs in a thread."""

    name: str
    schema: pa.Schema
    rows: int | None
    batches: Callable[[int], Iterator[pa.RecordBatch]]
    in_memory: bool = False
    labels: Sequence[object] | None = None
    loader: str = "load_dataframe"
    paths: tuple[str, ...] = ()
    position: object = ""
    opened: tuple[Any, ...] = ()

    def label(self, row: int) -> object:
        return None if self.labels is None else self.labels[row]

    async def chunks(self, chunk_rows: int) -> AsyncGenerator[pa.RecordBatch]:
        reading = self.batches(chunk_rows)
        try:
            while (batch := await in_thread(next, reading, None)) is not None:
                yield batch
                del batch
        except BaseException:
            await streams.closed(reading)
            raise

    async def aclose(self) -> None:
        await streams.closed(*self.opened)


def check_names(names: Sequence[object]) -> None:
    """Refuse column names that are not unique.

    Raises
    ------
    PlanError
        Naming the ones that repeat.
    """
    twice = sorted(str(name) for name, count in Counter(names).items() if count > 1)
    if twice:
        hint = "Rename them, so that every column is named once."
        raise PlanError(f"the source has columns with the same name: {', '.join(twice)}", hint=hint)
