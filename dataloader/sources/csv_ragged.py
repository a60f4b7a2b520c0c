"""Rows of a CSV file that have the wrong number of fields: they take their place among the others, to be refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from dataloader.conversion.mixed import MixedType, with_problem
from dataloader.formatting import quantity
from dataloader.sources.csv_dialect import Dialect, quoting

_MIXED = MixedType((pa.string(),))


class RaggedRows:
    """Collects them as Arrow passes over them, and puts them back.

    The first column that is loaded carries them: the text of the row, and what is wrong with it. From the first of
    them on that column has a type which can, so that chunks are not cut at each.

    Parameters
    ----------
    columns, loaded : list of str
        The columns of the file, and those of them that are loaded.
    opened : callable
        Opens the text of the file once more, to count lines.
    before : callable
        Gives how many bytes, and lines, stand before that text.
    """

    def __init__(
        self,
        columns: list[str],
        loaded: list[str],
        dialect: Dialect,
        opened: Callable[[], Any],
        before: Callable[[], tuple[int, int]],
    ) -> None:
        self._columns, self._dialect, self._opened, self._before = columns, dialect, opened, before
        self._carrier = loaded[0] if loaded else columns[0]
        self._lines: Iterator[int] | None = None
        self._counted = 0
        self._is_marked = False
        self.begin(0)

    def begin(self, given: int) -> None:
        """The file is read from its beginning, and so many rows of it are known already."""
        self._waiting: list[tuple[int, int, str]] = []
        self._next = 0
        self._lines, self._counted, self._given = None, 0, given
        self._is_marked = False

    def add(self, row: Any) -> str:
        """Arrow's handler of rows that it cannot read."""
        position = row.number - 1 - self._dialect.skip - int(self._dialect.header)
        self._waiting.append((position, row.actual_columns, row.text))
        return "skip"

    def put_into(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the rows that stand before its last one."""
        places: list[int] = []
        end = self._next + batch.num_rows
        while self._waiting and len(places) < len(self._waiting) and self._waiting[len(places)][0] < end:
            places.append(self._waiting[len(places)][0] - self._next)
            end += 1
        taken, self._waiting = self._waiting[: len(places)], self._waiting[len(places) :]
        self._next = end
        return self._merged(batch, places, taken)

    def rest(self) -> pa.RecordBatch | None:
        """Those at the end of the file."""
        if not self._waiting:
            return None
        taken, self._waiting = self._waiting, []
        nothing = pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(self._columns), names=self._columns)
        return self._merged(nothing, list(range(len(taken))), taken)

    def _merged(self, batch: pa.RecordBatch, places: list[int], rows: list[tuple[int, int, str]]) -> pa.RecordBatch:
        self._is_marked = self._is_marked or bool(rows)
        if not self._is_marked:
            return batch
        total = batch.num_rows + len(places)
        is_ragged = np.zeros(total, bool)
        is_ragged[places] = True
        indices = pa.array(np.cumsum(~is_ragged) - 1, mask=is_ragged)
        arrays = [column.take(indices) for column in batch.columns]
        number = self._columns.index(self._carrier)
        texts: list[bytes | None] = [None] * total
        reasons: list[str | None] = [None] * total
        for place, (position, fields, text) in zip(places, rows, strict=True):
            texts[place], reasons[place] = text.encode(errors="replace"), self._reason(position, fields)
        stored = [arrays[number], pa.array(texts, pa.binary()), pa.array(reasons, pa.string())]
        storage = pa.StructArray.from_arrays(stored, fields=list(_MIXED.storage_type))
        arrays[number] = pa.ExtensionArray.from_storage(_MIXED, storage)
        return pa.RecordBatch.from_arrays(arrays, names=self._columns)

    def _reason(self, position: int, fields: int) -> str:
        what = f"{self._where(position)} has {quantity(fields, 'field')}, and not {len(self._columns)}"
        return with_problem("fields", what)

    def _where(self, position: int) -> str:
        if self._lines is None:
            self._lines = self._starts()
        for line in self._lines:
            self._counted += 1
            if self._counted == position + 1:
                return f"line {line:,}"
        after, _ = self._before()
        return f"row {position:,} after byte {after:,}" if after else f"row {position:,}"

    def _starts(self) -> Iterator[int]:
        """In which line each row begins: Arrow counts rows, and a row can have several lines."""
        one = self._dialect
        _, passed = self._before()
        with self._opened() as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
            for _ in range(one.skip):
                text.readline()
            reader = csv.reader(text, delimiter=one.delimiter, **quoting(one))
            try:
                before, is_header = 0, one.header
                for fields in reader:
                    first, before = passed + one.skip + before + 1, reader.line_num
                    if fields or len(self._columns) == 1:
                        if not is_header:
                            yield first
                        is_header = False
            except csv.Error:  # a field of more than 128 kB: the rows are counted
                return
