"""Data that is a table or the paths of files, opened as what it is."""

from __future__ import annotations

from typing import Any

from dataloader.sources import paths, tables
from dataloader.sources.base import Source
from dataloader.sources.known import KnownFiles
from dataloader.sources.selection import WHOLE, Reading, select


def open_data(data: Any, reading: Reading = WHOLE, known: KnownFiles | None = None) -> Source:
    """Open what `load_dataframe` or `load_files` takes; of files those that are not known."""
    columns = reading.columns
    source = open_files(data, reading, known) if paths.are_paths(data) else tables.open_dataframe(data, columns)
    return source if columns is None else select(source, columns)


def open_files(data: Any, reading: Reading, known: KnownFiles | None) -> Source:
    """Open files, those that are not known."""
    from dataloader.sources import files  # noqa: PLC0415 - the readers of all kinds take 0.02 s, only for files

    return files.open_files(data, reading, known)
