"""Data that is a table or the paths of files, opened as what it is."""

from __future__ import annotations

from typing import Any

from dataloader.sources import files, tables
from dataloader.sources.base import ArrowSource


def open_data(data: Any) -> ArrowSource:
    """Open what `load_dataframe` or `load_files` takes."""
    return files.open_files(data) if files.are_paths(data) else tables.open_dataframe(data)
