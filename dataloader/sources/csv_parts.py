"""A large CSV file as parts that are read apart from each other: where in it rows begin."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dataloader.sources.csv_dialect import Dialect
from dataloader.sources.formats import PART_BYTES
from dataloader.sources.paths import File

BLOCK_BYTES = 1 << 24
_OF_ONE_MEANING = {"utf-8", "utf-8-sig", "ascii", "cp1252", "latin-1"}
"""Encodings in which a byte that is a quote or ends a line is never a part of another character."""
_NEWLINES = b"\r\n"


class _StrayQuote(Exception):
    """A quote within a field: whether one after it opens a field or closes one cannot be counted."""


def is_large(file: File) -> bool:
    """Whether it is worth being read in parts; what is not local would be read through here to find them."""
    return file.is_local and (file.size or 0) > PART_BYTES


def in_parts(file: File, dialect: Dialect) -> list[File]:
    """A file that is not packed as ranges of bytes, each of which begins with a row; as a whole where none is sure.

    Notes
    -----
    A line may end within quotes. All quotes before it are counted, which takes as long as reading the file; a range
    that began within a field would read other rows without an error, so that a single stray quote leaves it whole.
    """
    is_ascii = (dialect.delimiter + dialect.quote).isascii()
    if not is_ascii or dialect.encoding.replace("_", "-").lower() not in _OF_ONE_MEANING:
        return [file]
    size = file.size or 0
    with file.random_access() as whole:
        try:
            starts = list(_starts(whole, dialect))
        except _StrayQuote:
            return [file]
    ranges = itertools.pairwise([0, *(one for one in starts if one < size), size])
    return [replace(file, part=range(*one)) for one in ranges] if starts else [file]


@contextlib.contextmanager
def opened(file: File, part: range) -> Iterator[Any]:
    """The bytes of a part, as they are."""
    with file.random_access() as whole:
        yield whole.get_stream(part.start, len(part))


def before(file: File) -> tuple[int, int]:
    """How many bytes, and lines, stand before the part of a file that is read."""
    left = start = file.part.start if file.part is not None else 0
    lines, last = 0, b""
    if start:
        with file.random_access() as whole:
            while block := whole.read(min(left, BLOCK_BYTES)):
                ends = last + block  # those of Windows are two characters, of which a block may have one
                lines += ends.count(b"\n") + ends.count(b"\r") - ends.count(b"\r\n") - (last == b"\r")
                left, last = left - len(block), block[-1:] if block.endswith(b"\r") else b""
    return start, lines


def _starts(whole: Any, dialect: Dialect) -> Iterator[int]:
    """Where rows begin, once in about so many bytes as a part has.

    Raises
    ------
    _StrayQuote
        When it cannot be told, from there on and before.
    """
    at = _first_field(whole, dialect)
    quotes, target, last = _Quotes(dialect), PART_BYTES, b"\n"
    while block := whole.read(BLOCK_BYTES):
        places = quotes.find(block, last)
        newline = max(target - at, 0) - 1
        while target < at + len(block) and (newline := block.find(b"\n", newline + 1)) >= 0:
            if not quotes.is_open(places, newline):
                yield at + newline + 1
                target = max(target + PART_BYTES, at + newline + 2)
                newline = max(target - at, 0) - 1
        quotes.pass_over(places)
        at, last = at + len(block), block[-1:]
    if quotes.are_open:
        raise _StrayQuote


def _first_field(whole: Any, dialect: Dialect) -> int:
    """Behind a byte order mark, and the lines that are skipped."""
    whole.seek(0)
    at = 3 if whole.read(3) == b"\xef\xbb\xbf" else 0
    for _ in range(dialect.skip):
        whole.seek(at)
        line = b""
        while b"\n" not in line and (piece := whole.read(1 << 12)):
            line += piece
        at += line.find(b"\n") + 1 or len(line)
    whole.seek(at)
    return at


class _Quotes:
    """Counts the quotes that open and close fields."""

    def __init__(self, dialect: Dialect) -> None:
        self.are_open = False
        self._quote = dialect.quote.encode()
        self._may_be_before = np.zeros(256, bool)
        self._may_be_before[[*_NEWLINES, *dialect.delimiter.encode(), *self._quote]] = True

    def find(self, block: bytes, last: bytes) -> np.ndarray:
        """Where in a block they are, of which the byte before is given; each that opens a field stands at its start."""
        if not self._quote or not block.count(self._quote):
            return np.empty(0, np.intp)
        content = np.frombuffer(block, np.uint8)
        places = np.flatnonzero(content == self._quote[0])
        opening = places[1 if self.are_open else 0 :: 2]
        before = content[opening - 1]
        if opening.size and opening[0] == 0:
            before[0] = last[0]
        if not self._may_be_before[before].all():
            raise _StrayQuote
        return places

    def is_open(self, places: np.ndarray, at: int) -> bool:
        """Whether this place in the block is within quotes."""
        return bool((int(np.searchsorted(places, at)) + self.are_open) % 2)

    def pass_over(self, places: np.ndarray) -> None:
        self.are_open = bool((places.size + self.are_open) % 2)
