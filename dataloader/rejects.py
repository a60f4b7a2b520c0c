"""Rejects: the rows that were refused, as they came, with the reasons; and files of them."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from dataloader.errors import PlanError, ValidationError
from dataloader.infer import MixedType, mixed_objects, to_json
from dataloader.markup import quantity
from dataloader.steps import taken, unwrapped
from dataloader.texts import to_text
from dataloader.violations import (
    REJECT_COLUMNS,
    SHOWN_VIOLATIONS,
    Counts,
    Violation,
    summary,
)

_FORMULA = r"^'*[=+\-@\t\r]"
_NUMBER = r"^[+-]?[\d.,]*\d([eE][+-]?\d+)?$"


@dataclass(slots=True)
class Findings:
    """Violations as they are found: all are counted, the first ones are kept to be shown."""

    first: list[Violation] = field(default_factory=list)
    counts: Counts = field(default_factory=dict)

    def add(self, violations: Iterable[Violation]) -> None:
        for one in violations:
            self.counts[one.column, one.reason] = self.counts.get((one.column, one.reason), 0) + 1
            if len(self.first) < SHOWN_VIOLATIONS:
                self.first.append(one)

    def join(self, later: Findings) -> None:
        """Take in what was found in later rows."""
        self.first = [*self.first, *later.first][:SHOWN_VIOLATIONS]
        for kind, count in later.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def error(self, headline: str = "", hint: str = "") -> ValidationError:
        """The error that shows them."""
        hint = hint or "Nothing was written. Correct the source, or load the rest with on_invalid='reject'."
        first = self.first[0]
        if self.total == 1 and not headline:
            what = str(first)
            hint = f"Nothing was written. {first.suggestion}"
        else:
            headline = headline or f"{self.total:,} values do not fit: {summary(self.counts)}"
            more = [f"... and {self.total - len(self.first):,} more"] if self.total > len(self.first) else []
            what = "\n  ".join([headline, *map(str, self.first), *more])
        return ValidationError(what, hint=hint, violations=self.first, counts=self.counts)


@dataclass(frozen=True, slots=True)
class Part:
    """The rejected rows of one chunk, with their reasons, and their labels."""

    first_row: int
    rows: pa.RecordBatch
    labels: list[object]


@dataclass(slots=True)
class Rejects:
    """The rejected rows of a load, in the order of the source, whichever chunk came first.

    Parameters
    ----------
    limit : int, float or None
        How many are allowed: a count, or a share of the rows.
    """

    limit: int | float | None = None
    parts: list[Part] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    def __len__(self) -> int:
        return sum(part.rows.num_rows for part in self.parts)

    @property
    def labels(self) -> list[object]:
        """The labels of all rows."""
        return [label for part in self.parts for label in part.labels]

    def add(self, batch: pa.RecordBatch, first_row: int, violations: Sequence[Violation]) -> int:
        """Keep the rows of `batch` that have violations; returns how many."""
        if not violations:
            return 0
        self.findings.add(violations)
        by_row = {row: list(group) for row, group in itertools.groupby(sorted(violations, key=_row_of), key=_row_of)}
        kept = _taken(batch, [row - first_row for row in by_row])
        reasons = [_joined(group) for group in by_row.values()]
        columns = [
            pa.array(list(by_row), pa.int64()),
            *(pa.array(part, pa.string()) for part in zip(*reasons, strict=True)),
        ]
        for name, values in zip(REJECT_COLUMNS, columns, strict=True):
            kept = _with(kept, name, values)
        part = Part(first_row, kept, [group[0].label for group in by_row.values()])
        bisect.insort(self.parts, part, key=lambda one: one.first_row)
        return len(by_row)

    def check(self, read: int | None) -> None:
        """Refuse to go on with more rejects than allowed, of `read` rows if their number is known.

        Raises
        ------
        ValidationError
            Showing the first violations and all counts.
        """
        if self.limit is None or (isinstance(self.limit, float) and read is None):
            return
        most = self.limit * (read or 0) if isinstance(self.limit, float) else self.limit
        if len(self) > most:
            headline = f"{quantity(len(self), 'row')} cannot be loaded, and max_rejects={self.limit} allows fewer: "
            hint = "Nothing was written. Correct the source, or allow more rejects."
            raise self.findings.error(headline + summary(self.findings.counts), hint)

    def most(self) -> float:
        """How many more may come, as far as that can be said now."""
        return self.limit - len(self) if isinstance(self.limit, int) else float("inf")

    def columns(self) -> dict[str, pa.ChunkedArray | list[Any]]:
        """Every column by name; as Python values where its parts differ in type."""
        names = dict.fromkeys(name for part in self.parts for name in part.rows.schema.names)
        return {name: _whole([part.rows.column(name) for part in self.parts]) for name in names}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write them to a file whose suffix says how."""
        _WRITERS[check_suffix(path)](self.columns(), Path(path))


def check_suffix(path: str | os.PathLike[str]) -> str:
    """How rejects are written to a path.

    Raises
    ------
    PlanError
        When it ends in nothing that is known.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        hint = f"End the path in one of: {', '.join(_WRITERS)}."
        raise PlanError(f"rejects cannot be written as {Path(path).name!r}", hint=hint)
    return suffix


def _row_of(violation: Violation) -> int:
    return violation.row


def _taken(batch: pa.RecordBatch, offsets: list[int]) -> pa.RecordBatch:
    indices = pa.array(offsets, pa.int64())
    return pa.RecordBatch.from_arrays([taken(column, indices) for column in batch.columns], names=batch.schema.names)


def _joined(violations: list[Violation]) -> tuple[str | None, str, str]:
    columns = [one.column for one in violations if one.column is not None]
    reasons, problems = [one.reason for one in violations], [one.problem for one in violations]
    return "; ".join(columns) or None, "; ".join(reasons), "; ".join(problems)


def _with(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    if name in batch.schema.names:
        return batch.set_column(batch.schema.get_field_index(name), name, values)
    return batch.append_column(name, values)


def _whole(parts: list[pa.Array]) -> pa.ChunkedArray | list[Any]:
    kinds = {part.type for part in parts}
    if len(kinds) == 1 and not isinstance(parts[0].type, MixedType):
        return pa.chunked_array([unwrapped(part) for part in parts])
    return [value for part in parts for value in _objects(part)]


def is_within_python(values: pa.ChunkedArray) -> bool:
    """Whether Python has all of the values; its years go from 1 to 9999."""
    try:
        values.to_pylist()
    except (OverflowError, ValueError):
        return False
    return True


def python_values(values: pa.ChunkedArray) -> list[Any]:
    """Python's own objects, or texts where Python does not have them."""
    return values.to_pylist() if is_within_python(values) else _texts(values).to_pylist()  # type: ignore[no-any-return]


def _objects(values: pa.Array) -> list[Any]:
    return mixed_objects(values) if isinstance(values.type, MixedType) else values.to_pylist()


def _texts(values: pa.ChunkedArray | list[Any]) -> pa.Array:
    """A column as text."""
    if isinstance(values, list):
        return pa.array([None if one is None else str(one) for one in values], pa.string())
    whole = values.combine_chunks()
    if pa.types.is_nested(whole.type) or isinstance(whole.type, pa.BaseExtensionType):
        return pa.array([_nested_text(one) if one.is_valid else None for one in whole], pa.string())
    return to_text(whole)


def _nested_text(value: pa.Scalar) -> str:
    try:
        return _json_text(value.as_py())
    except (OverflowError, ValueError):  # a list of moments that Python does not have
        return f"[{', '.join(map(str, to_text(unwrapped(value.values)).to_pylist()))}]"


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if not isinstance(value, (dict, list)) else to_json(value)


def _write_csv(columns: dict[str, pa.ChunkedArray | list[Any]], path: Path) -> None:
    """A text that a spreadsheet would run as a formula gets an apostrophe; a number does not."""
    arrays = [_without_formulas(_texts(values)) for values in columns.values()]
    options = pa.csv.WriteOptions(quoting_style="all_valid")
    pa.csv.write_csv(pa.Table.from_arrays(arrays, names=list(columns)), path, options)


def _without_formulas(texts: pa.Array) -> pa.Array:
    formula = pc.match_substring_regex(texts, _FORMULA)
    number = pc.match_substring_regex(texts, _NUMBER)
    harmless = pc.binary_join_element_wise("'", texts, "")
    return pc.if_else(pc.and_not(formula, number), harmless, texts)


def _write_jsonl(columns: dict[str, pa.ChunkedArray | list[Any]], path: Path) -> None:
    rows = zip(*map(_json_values, columns.values()), strict=True)
    lines = [to_json(dict(zip(columns, row, strict=True))) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _json_values(values: pa.ChunkedArray | list[Any]) -> list[Any]:
    """Numbers and texts as they are; what JSON has no word for as text."""
    if isinstance(values, list):
        return [one if isinstance(one, (str, int, dict, list, type(None))) else str(one) for one in values]
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_nested(kind):
        return values.to_pylist()  # type: ignore[no-any-return]  # of Arrow
    if pa.types.is_float64(kind):
        return [one if one is None or np.isfinite(one) else str(one) for one in values.to_pylist()]
    return _texts(values).to_pylist()  # type: ignore[no-any-return]  # of Arrow


def _write_parquet(columns: dict[str, pa.ChunkedArray | list[Any]], path: Path) -> None:
    arrays = [_texts(values) if isinstance(values, list) else values for values in columns.values()]
    pa.parquet.write_table(pa.Table.from_arrays(arrays, names=list(columns)), path)


_WRITERS: dict[str, Callable[[dict[str, pa.ChunkedArray | list[Any]], Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
