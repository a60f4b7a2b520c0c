"""What a kind of file is to those who read it: its columns, its rows if it knows them, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa

from dataloader.sources.paths import File

READ_BYTES = 1 << 20
PART_BYTES = 128 << 20
"""How much a part of a file has that several processes read, before compression."""


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of file is read: columns, rows if it knows them, batches of some columns, how it is written.

    Attributes
    ----------
    lines_before : callable or None
        Gives the number of lines of a text file that are no rows: its header, and what stands before it.
    parts : callable or None
        Gives the file as parts that can be read apart from each other, in their order; None where there are none.
    """

    schema: Callable[[File], pa.Schema]
    rows: Callable[[File], int | None]
    batches: Callable[[File, int, list[str]], Iterable[pa.RecordBatch]]
    facts: Callable[[File], str] | None = None
    lines_before: Callable[[File], int] | None = None
    parts: Callable[[File], list[File]] | None = None


def no_rows(_file: File) -> None:
    return None
