"""Rows of the source that have one key, in a load that merges by it: an error, or one of them counts.

A source in memory is looked through as a whole before anything is written, any other chunk by chunk.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.converter import Converted, Converter
from dataloader.conversion.violations import Violation, cut
from dataloader.database.keys import BETWEEN, Keys
from dataloader.loading.chunks import read_batches, source_errors
from dataloader.rejects import Findings
from dataloader.sync import in_thread

if TYPE_CHECKING:
    from dataloader.conversion.rules import ColumnPlan
    from dataloader.database.merging import MergePlan
    from dataloader.errors import ValidationError
    from dataloader.plan import LoadPlan
    from dataloader.sources.base import Source

SHOWN_PAIRS = 10


class KeyFilter:
    """Takes out of each chunk the rows that give way to another one with their key.

    Parameters
    ----------
    left_out : numpy.ndarray or None
        Their positions in the source, in order, where they are known; None: each chunk is looked through by itself.
    """

    def __init__(self, source: Source, plan: LoadPlan, left_out: np.ndarray | None = None) -> None:
        self._rows = _KeyedRows(source, plan)
        self._left_out = left_out

    def __call__(self, converted: Converted) -> Converted:
        """The chunk without them.

        Raises
        ------
        ValidationError
            Where rows with one key are an error: showing both.
        """
        left_out = self._left_out
        if left_out is None:
            left_out = self._rows.left_out([self._rows.of(converted)])
        if not len(left_out):
            return converted
        stay = ~np.isin(converted.rows, left_out, assume_unique=True)
        if stay.all():
            return converted
        return Converted(converted.batch.filter(pa.array(stay)), converted.rows[stay], converted.violations)


async def key_filter(source: Source, plan: LoadPlan) -> KeyFilter:
    """What takes rows out of the chunks of a load that merges them.

    Raises
    ------
    ValidationError
        Where two rows of a source in memory have one key, and nothing says which one counts.
    """
    keyed = _KeyedRows(source, plan)
    if not source.in_memory:
        return KeyFilter(source, plan)
    convert, parts = Converter(keyed.columns, source.label), []

    def part(batch: pa.RecordBatch, first_row: int) -> pa.Table:
        return keyed.of(convert(batch, first_row))

    with source_errors():
        async with contextlib.aclosing(read_batches(source, plan.chunk_rows)) as batches:
            async for batch, first_row in batches:
                parts.append(await in_thread(part, batch, first_row))
    return KeyFilter(source, plan, await in_thread(keyed.left_out, parts))


@dataclass(slots=True)
class _KeyedRows:
    """The keys of rows, with their positions and what they are ordered by."""

    source: Source
    plan: LoadPlan

    @property
    def plan_of_merge(self) -> MergePlan:
        assert self.plan.merge is not None
        return self.plan.merge

    @property
    def columns(self) -> tuple[ColumnPlan, ...]:
        """Those of the key, and the one that is ordered by."""
        names = dict.fromkeys([*self.plan_of_merge.merge.key, *filter(None, [self.plan_of_merge.order_by])])
        return tuple(one for name in names for one in self.plan.columns if one.name == name)

    def of(self, converted: Converted) -> pa.Table:
        key = [one for name in self.plan_of_merge.merge.key for one in self.columns if one.name == name]
        found = {"key": Keys(converted.batch, key).joined, "row": converted.rows}
        if self.plan_of_merge.order_by is not None:
            found["by"] = converted.batch.column(self.plan_of_merge.order_by)
        return pa.table(found)

    def left_out(self, parts: list[pa.Table]) -> np.ndarray:
        """The positions of the rows that give way, in order; a key with NULL equals none."""
        if not parts:
            return np.array([], int)
        rows = (
            pa.concat_tables(parts).drop_null()
            if self.plan_of_merge.order_by is None
            else _ordered(pa.concat_tables(parts))
        )
        counts = rows.group_by("key").aggregate([("row", "count"), ("row", "min"), ("row", "max")])
        several = counts.filter(pc.greater(counts["row_count"], 1))
        if not several.num_rows:
            return np.array([], int)
        mine = rows.filter(pc.is_in(rows["key"], value_set=several["key"].combine_chunks()))
        if self.plan_of_merge.order_by is not None:
            staying = mine.group_by("key", use_threads=False).aggregate([("row", "last")])["row_last"]
        elif self.plan_of_merge.duplicates == "error":
            raise self._error(several, mine)
        else:
            staying = several["row_min" if self.plan_of_merge.duplicates == "first" else "row_max"]
        return np.setdiff1d(mine["row"].to_numpy(), staying.to_numpy())

    def _error(self, several: pa.Table, rows: pa.Table) -> ValidationError:
        findings = Findings()
        shown = several.sort_by("row_min").slice(0, SHOWN_PAIRS)
        key = ", ".join(self.plan_of_merge.merge.key)
        hint = "Say which one counts: duplicates='first', duplicates='last', or order_by= a column."
        for text, first, last in zip(*(shown[name].to_pylist() for name in ("key", "row_min", "row_max")), strict=True):
            value = text.replace(BETWEEN, ", ")
            findings.add([_repeated(key, value, (first, last), self.source.label(last), hint)])
        findings.counts[key, "duplicate"] = rows.num_rows - several.num_rows
        headline = f"{rows.num_rows:,} rows have a key that another row has" if rows.num_rows > 2 else ""
        return findings.error(headline, hint)


def repeated_error(key: str, value: str, rows: tuple[int, int], label: object, *, natural: str) -> ValidationError:
    """Two rows have one key as the database finds, which sees the source chunk by chunk; `label` is the later one's."""
    hint = f"Drop the rows that do not count, or pass duplicates={natural!r}."
    findings = Findings()
    findings.add([_repeated(key, value, rows, label, hint)])
    return findings.error("", hint)


def _repeated(key: str, value: str, rows: tuple[int, int], label: object, hint: str) -> Violation:
    problem = f"row {rows[0]} has the same key"
    return Violation(rows[1], label, key, cut(value), f"the key ({key})", "duplicate", problem, hint)


def _ordered(rows: pa.Table) -> pa.Table:
    """By what they are ordered by, NULL first, then by position; without the keys that equal none."""
    rows = rows.filter(pc.is_valid(rows["key"]))
    least, others = (rows.filter(test(rows["by"])) for test in (pc.is_null, pc.is_valid))
    order = pc.sort_indices(others, sort_keys=[("by", "ascending"), ("row", "ascending")])
    return pa.concat_tables([least, others.take(order)])
