"""The kinds of files that are read, each known by the end of a name."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from dataloader.errors import PlanError
from dataloader.sources.columnar_files import IPC, ORC, PARQUET
from dataloader.sources.csv_files import csv_format
from dataloader.sources.formats import Format
from dataloader.sources.json_files import JSON, JSON_LINES
from dataloader.sources.paths import GZIP, File
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
    Kind("excel", SHEETS, sheet_format),
)


def kind_name(name: str, given: str | None = None) -> str | None:
    """What kind of file has this name, None if it is unknown or not the one that is given."""
    found = next((kind.name for kind in KINDS if kind.is_of(name)), given)
    return found if given in {None, found} else None


def kind_of(file: File, given: str | None = None) -> tuple[Kind, str]:
    """What kind of file it is, and how that was found out where nobody has said it.

    Raises
    ------
    PlanError
        When neither its name says it nor, of a file that is not local, its beginning.
    """
    by_name = given or kind_name(file.name)
    found = by_name or (None if file.is_local else _by_beginning(file))
    for kind in KINDS:
        if kind.name == found:
            return kind, "" if by_name else f"{found}, by its beginning; format= decides"
    known = ", ".join(suffix for kind in KINDS for suffix in kind.suffixes)
    hint = f"Say what it is (format='csv'), or name it with one of: {known} (.csv.gz and .jsonl.gz too)."
    raise PlanError(f"the kind of {file.name!r} is unknown", hint=hint)


_MAGIC = (
    (b"PAR1", "parquet"),
    (b"ORC", "orc"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"\xd0\xcf\x11\xe0", "excel"),
    (b"BZh", "csv"),
    (b"\x28\xb5\x2f\xfd", "csv"),
)
_HEAD = 1 << 12


def _by_beginning(file: File) -> str | None:
    """What kind an unnamed file is: by the mark that most kinds begin with, else by what the text looks like."""
    head = file.head(_HEAD)
    for mark, name in _MAGIC:
        if head.startswith(mark):
            return name
    if head.startswith(b"PK\x03\x04"):
        is_book = any(part in head for part in (b"[Content_Types].xml", b"xl/", b"mimetype"))
        return "excel" if is_book else "csv"
    if head.startswith(GZIP):
        head = zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return "json" if text[:1] in {b"{", b"["} else None if text[:1] in {b"<", b""} else "csv"
