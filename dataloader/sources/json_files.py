"""JSON lines."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dataloader.conversion.documents import row_of
from dataloader.conversion.inference import MOST_LEVELS, VARYING, depth
from dataloader.conversion.mixed import as_strings
from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.sources.formats import Format, no_rows
from dataloader.sources.paths import File, TooLarge
from dataloader.sources.rows import PEEKED_ROWS, batch_of_rows

LINE_CHARACTERS = 1 << 25
"""The longest line of a JSON file that is read: it takes about eight times as much memory."""
BLOCK_CHARACTERS = 1 << 25
"""Lines of a JSON file that are read at once, where they are long."""


def _json_schema(file: File) -> pa.Schema:
    with file.stream() as stream:
        first = next(json_blocks(stream), None)
    if first is None:
        raise EOFError("it has no rows")
    return pa.schema([field.with_metadata(VARYING) for field in _json_batch(first, None, 0).schema])


def _json_batches(file: File, _chunk_rows: int, _names: list[str]) -> Iterator[pa.RecordBatch]:
    keys, first_row = tuple(_json_schema(file).names), 0
    with file.stream() as stream:
        for block in json_blocks(stream):
            yield _json_batch(block, keys, first_row)
            first_row += len(block)


def _json_batch(rows: list[Any], keys: tuple[str, ...] | None, first_row: int) -> pa.RecordBatch:
    batch = batch_of_rows(rows, keys, first_row)
    if set(REJECT_COLUMNS) <= set(batch.schema.names):  # a text of theirs is what it was: a document, where it was one
        return batch
    return pa.RecordBatch.from_arrays(list(map(as_strings, batch.columns)), names=batch.schema.names)


def json_blocks(stream: Any) -> Iterator[list[Any]]:
    """Lists of objects. Arrow's own reader turns strings into times and long numbers into floats."""
    block: list[Any] = []
    size, text = 0, io.TextIOWrapper(stream, encoding="utf-8")
    for number, line in enumerate(iter(functools.partial(text.readline, LINE_CHARACTERS), ""), start=1):
        if len(line) == LINE_CHARACTERS and line[-1] != "\n":
            raise TooLarge(f"line {number:,} is longer than {LINE_CHARACTERS:,} characters: split it into rows")
        if line.isspace():
            continue
        block.append(_json_row(line, number))
        size += len(line)
        if len(block) == PEEKED_ROWS or size > BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _json_row(line: str, number: int) -> Any:
    levels = line.count("[") + line.count("{")
    try:
        row = row_of(line)
        levels = depth(row) if levels > MOST_LEVELS else levels
    except RecursionError:  # so deep that it was not read
        row = None
    if levels > MOST_LEVELS:
        what = f"line {number:,} is nested more than {MOST_LEVELS} levels deep"
        raise TooLarge(f"{what}: flatten it, or keep its inner part as a string")
    return row


JSON_LINES = Format(_json_schema, no_rows, _json_batches)
