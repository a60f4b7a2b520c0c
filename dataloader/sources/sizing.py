"""How many rows files have that do not say it, to judge by their sizes and the length of their first lines."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Protocol

SAMPLED_BYTES = 1 << 20
TEXT = (".csv", ".jsonl", ".ndjson")


class SizedFile(Protocol):
    """A file, as far as its size matters."""

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def is_local(self) -> bool: ...


def about_rows(files: Sequence[SizedFile], counts: Sequence[int | None]) -> int | None:
    """How many rows there are; None where some file is remote, compressed or no plain file of text."""
    total = 0
    for file, count in zip(files, counts, strict=True):
        rows = _lines(file) if count is None else count
        if rows is None:
            return None
        total += rows
    return total


def _lines(file: SizedFile) -> int | None:
    if not (file.is_local and file.name.lower().endswith(TEXT)):
        return None
    with open(os.fsencode(file.path), "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            return None
        sample = opened.read(SAMPLED_BYTES)
    lines = sample.count(b"\n")
    return lines if len(sample) == found.st_size else max(lines, 1) * found.st_size // max(len(sample), 1)
