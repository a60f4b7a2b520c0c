"""JSON: an object on each line, or an array of objects, which is read piece by piece too."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from dataloader.conversion.documents import NotJson, row_at, row_of
from dataloader.conversion.inference import MOST_LEVELS, depth, varying
from dataloader.conversion.mixed import as_strings
from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.errors import PlanError
from dataloader.sources.formats import READ_BYTES, Format, no_rows
from dataloader.sources.paths import File, TooLarge
from dataloader.sources.rows import PEEKED_ROWS, batch_of_rows

LINE_CHARACTERS = 1 << 25
"""The longest row of a JSON file that is read: it takes about eight times as much memory."""
BLOCK_CHARACTERS = 1 << 25
"""Rows of a JSON file that are read at once, where they are long."""
_SPACE = re.compile(r"[ \t\n\r]*")
_CUT = 32
"""Where a text was cut, the decoder stops no further than this from its end, except in a string."""

SizedRows = Iterator[tuple[Any, int]]
"""Rows, and how many characters each has."""
Blocks = Callable[[Any], Iterator[list[Any]]]
"""Reads a stream as lists of rows."""


def json_blocks(stream: Any) -> Iterator[list[Any]]:
    """Lists of the objects on the lines of a stream."""
    return _blocks(_lines(io.TextIOWrapper(stream, encoding="utf-8-sig")))


def array_blocks(stream: Any, read_characters: int = READ_BYTES) -> Iterator[list[Any]]:
    """Lists of the objects in an array, of which no more than one block is in memory."""
    return _blocks(_elements(io.TextIOWrapper(stream, encoding="utf-8-sig"), read_characters))


def _blocks(rows: SizedRows) -> Iterator[list[Any]]:
    """Rows by the block. Arrow's own reader turns strings into times and long numbers into floats."""
    block: list[Any] = []
    size = 0
    for row, characters in rows:
        block.append(row)
        size += characters
        if len(block) == PEEKED_ROWS or size > BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _lines(text: io.TextIOWrapper) -> SizedRows:
    for number, line in enumerate(iter(functools.partial(text.readline, LINE_CHARACTERS), ""), start=1):
        if len(line) == LINE_CHARACTERS and line[-1] != "\n":
            raise TooLarge(f"line {number:,} is longer than {LINE_CHARACTERS:,} characters: split it into rows")
        if not line.isspace():
            with _deep(f"line {number:,}"):
                row = _object_of(line, number)
            _check_depth(row, line, f"line {number:,}")
            yield row, len(line)


def _object_of(line: str, number: int) -> dict[str, Any]:
    try:
        row = row_of(line)
    except json.JSONDecodeError as error:
        found = f"{error.msg} at character {error.pos + 1:,}"
        is_array = number == 1 and line.lstrip().startswith("[")
        why = "an array begins there; call the file .json" if is_array else found
    else:
        if isinstance(row, dict):
            return row
        why = "an array; call the file .json" if isinstance(row, list) and number == 1 else f"{line.strip()[:_CUT]}"
    raise NotJson(f"line {number:,} is not a JSON object, as every line of it must be: {why}")


@contextlib.contextmanager
def _deep(where: str) -> Iterator[None]:
    """Refuse what is so deep that it was not read."""
    try:
        yield
    except RecursionError:
        raise _too_deep(where) from None


def _check_depth(row: Any, written: str, where: str) -> None:
    if written.count("[") + written.count("{") > MOST_LEVELS and depth(row) > MOST_LEVELS:
        raise _too_deep(where)


def _too_deep(where: str) -> TooLarge:
    what = f"{where} is nested more than {MOST_LEVELS} levels deep"
    return TooLarge(f"{what}: flatten it, or keep its inner part as a string")


class _Text:
    """A text that is read as it is needed; `at` is the position in the part of it that is here."""

    def __init__(self, text: io.TextIOWrapper, read_characters: int) -> None:
        self._text, self._least = text, read_characters
        self.here, self.at = "", 0

    def more(self) -> bool:
        """Read on: as much again as is here, so that a long row is not decoded too often."""
        rest = self.here[self.at :]
        more = self._text.read(max(self._least, len(rest)))
        self.here, self.at = rest + more, 0
        return bool(more)

    def next_character(self) -> str:
        """The next one that is no space, which stays; empty at the end."""
        while True:
            found = _SPACE.match(self.here, self.at)
            self.at = self.at if found is None else found.end()
            if self.at < len(self.here) or not self.more():
                return self.here[self.at : self.at + 1]


def _elements(file: io.TextIOWrapper, read_characters: int) -> SizedRows:
    text = _Text(file, read_characters)
    _take(text, "[", "the array")
    for number in itertools.count(1):
        if text.next_character() == "]" and number == 1:
            break
        yield _element(text, number)
        if text.next_character() == "]":
            break
        _take(text, ",", f"row {number:,}")
    text.at += 1
    if text.next_character():
        raise NotJson("there is more after the end of the array")


def _take(text: _Text, wanted: str, before: str) -> None:
    if (found := text.next_character()) != wanted:
        raise NotJson(f"{before} is followed by {found!r}" if found else f"it ends within {before}: it is not complete")
    text.at += 1


def _element(text: _Text, number: int) -> tuple[Any, int]:
    where = f"row {number:,}"
    if (found := text.next_character()) not in {"{", ""}:
        hint = "Write an array of objects, as pandas does with df.to_json(path, orient='records')."
        raise PlanError(f"{where} of a JSON array is no object: it begins with {found!r}", hint=hint)
    while True:
        try:
            with _deep(where):
                row, end = row_at(text.here, text.at)
        except json.JSONDecodeError as error:
            _read_on(text, error, where)
        else:
            written, text.at = text.here[text.at : end], end
            _check_depth(row, written, where)
            return row, len(written)


def _read_on(text: _Text, error: json.JSONDecodeError, where: str) -> None:
    """Read more of a row of which only the beginning is here; else the error is its own."""
    is_cut = error.msg.startswith("Unterminated string") or len(text.here) - error.pos <= _CUT
    if not is_cut:
        raise NotJson(f"{where} is not JSON: {error.msg} after {text.here[text.at : error.pos][-_CUT:]!r}") from None
    if len(text.here) - text.at > LINE_CHARACTERS:
        raise TooLarge(f"{where} is longer than {LINE_CHARACTERS:,} characters")
    if not text.more():
        raise NotJson(f"it ends within {where}: it is not complete") from None


def _is_array(stream: Any) -> bool:
    """Whether a file called .json is an array; else it must have an object on each line.

    Raises
    ------
    PlanError
        When it is a single object, whose rows are somewhere in it or not at all.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")
    if next(filter(str.strip, iter(functools.partial(text.read, 1), "")), "[") != "{":
        return True  # or it is refused for what it is not
    try:
        row = row_of("{" + text.readline(LINE_CHARACTERS))
        lines = iter(functools.partial(text.readline, LINE_CHARACTERS), "")
        has_rows = isinstance(row, dict) and next(filter(str.strip, lines), "").lstrip()[:1] == "{"
    except (ValueError, RecursionError):
        has_rows = False
    if not has_rows:
        hint = "Load the rows in it with load_rows(json.load(file)['...'], table); pandas writes an array with "
        raise PlanError("it is one JSON object, and no array of objects", hint=f"{hint}to_json(orient='records').")
    return False


def _blocks_of(file: File) -> Blocks:
    with file.stream() as stream:
        return array_blocks if _is_array(stream) else json_blocks


def _json_facts(file: File) -> str:
    return "an object on each line, and no array" if _blocks_of(file) is json_blocks else ""


def _schema(blocks_of: Callable[[File], Blocks], file: File) -> pa.Schema:
    blocks = blocks_of(file)
    with file.stream() as stream:
        first = next(blocks(stream), None)
    if first is None:
        raise EOFError("it has no rows")
    return pa.schema(map(varying, _json_batch(first, None, 0).schema))


def _batches(
    blocks_of: Callable[[File], Blocks], file: File, _chunk_rows: int, _names: list[str]
) -> Iterator[pa.RecordBatch]:
    keys, first_row, blocks = tuple(_schema(blocks_of, file).names), 0, blocks_of(file)
    with file.stream() as stream:
        for block in blocks(stream):
            yield _json_batch(block, keys, first_row)
            first_row += len(block)


def _json_batch(rows: list[Any], keys: tuple[str, ...] | None, first_row: int) -> pa.RecordBatch:
    batch = batch_of_rows(rows, keys, first_row)
    if set(REJECT_COLUMNS) <= set(batch.schema.names):  # a text of theirs is what it was: a document, where it was one
        return batch
    return pa.RecordBatch.from_arrays(list(map(as_strings, batch.columns)), names=batch.schema.names)


def _format(blocks_of: Callable[[File], Blocks], facts: Callable[[File], str] | None = None) -> Format:
    return Format(functools.partial(_schema, blocks_of), no_rows, functools.partial(_batches, blocks_of), facts)


JSON_LINES = _format(lambda _file: json_blocks)
JSON = _format(_blocks_of, _json_facts)
