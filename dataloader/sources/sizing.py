"""How many rows files have that do not say it, to judge by their sizes and the length of some of their lines."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import BinaryIO, Protocol

SAMPLED_BYTES = 1 << 16
SAMPLES = 16
"""Spread over the file: its first lines may be shorter than the rest, or longer."""
TEXT = (".csv", ".jsonl", ".ndjson")


class SizedFile(Protocol):
    """A file, as far as its size matters."""

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def is_local(self) -> bool: ...


def about_rows(files: Sequence[SizedFile], counts: Sequence[int | None], before: Sequence[int]) -> int | None:
    """How many rows there are; None where some file is remote, compressed or no plain file of text.

    Parameters
    ----------
    before : sequence of int
        How many lines of each file are no rows.
    """
    total = 0
    for file, count, header in zip(files, counts, before, strict=True):
        rows = _lines(file) if count is None else count + header
        if rows is None:
            return None
        total += max(0, rows - header)
    return total


def _lines(file: SizedFile) -> int | None:
    if not (file.is_local and file.name.lower().endswith(TEXT)):
        return None
    with open(os.fsencode(file.path), "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            return None
        last = max(0, found.st_size - SAMPLED_BYTES)
        starts = sorted({last * number // (SAMPLES - 1) for number in range(SAMPLES)}) if last else [0]
        samples = [_read_at(opened, start) for start in starts]
    lines, sampled = sum(sample.count(b"\n") for sample in samples), sum(map(len, samples))
    if not last:
        return lines + (samples[0][-1:] not in {b"", b"\n"})
    return max(lines, 1) * found.st_size // max(sampled, 1)


def _read_at(opened: BinaryIO, start: int) -> bytes:
    opened.seek(start)
    return opened.read(SAMPLED_BYTES)
