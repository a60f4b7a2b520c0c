"""The kinds of files that are read, each known by the end of a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dataloader.errors import PlanError
from dataloader.sources.columnar_files import IPC, ORC, PARQUET
from dataloader.sources.csv_files import csv_format
from dataloader.sources.formats import Format
from dataloader.sources.json_files import JSON, JSON_LINES
from dataloader.sources.paths import File
from dataloader.sources.selection import Reading
from dataloader.sources.sheets import SHEETS, sheet_format


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of files.

    Attributes
    ----------
    packed : tuple of str
        What may follow the end of the name, for files that are compressed.
    """

    name: str
    suffixes: tuple[str, ...]
    open: Callable[[File, Reading], Format]
    packed: tuple[str, ...] = ()

    def is_of(self, name: str) -> bool:
        """Whether a file of this name is of this kind."""
        lower = name.lower()
        return any(lower.removesuffix(end).endswith(self.suffixes) for end in ("", *self.packed))


KINDS = (
    Kind("csv", (".csv", ".tsv", ".txt"), lambda _, reading: csv_format(reading.csv), (".gz", ".zst", ".bz2", ".zip")),
    Kind("parquet", (".parquet",), lambda _file, _reading: PARQUET),
    Kind("orc", (".orc",), lambda _file, _reading: ORC),
    Kind("arrow", (".arrow", ".feather"), lambda _file, _reading: IPC),
    Kind("jsonl", (".jsonl", ".ndjson"), lambda _file, _reading: JSON_LINES, (".gz",)),
    Kind("json", (".json",), lambda _file, _reading: JSON, (".gz",)),
    Kind("sheet", SHEETS, sheet_format),
)


def kind_name(name: str) -> str | None:
    """What kind of file has this name, None if it is unknown."""
    return next((kind.name for kind in KINDS if kind.is_of(name)), None)


def kind_of(file: File) -> Kind:
    """What kind of file it is.

    Raises
    ------
    PlanError
        When its name does not say.
    """
    for kind in KINDS:
        if kind.is_of(file.name):
            return kind
    known = ", ".join(suffix for kind in KINDS for suffix in kind.suffixes)
    hint = f"Rename it, or load a file that ends in one of: {known} (.csv.gz and .jsonl.gz too)."
    raise PlanError(f"the kind of {file.name!r} is unknown", hint=hint)
