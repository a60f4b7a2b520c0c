"""Rejects: the rows that were refused, as they came, with the reasons; and files of them."""

from __future__ import annotations

import bisect
import contextlib
import datetime
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dataloader.conversion.mixed import MixedType, is_decoded, mixed_objects, mixed_parts, unconvertible
from dataloader.conversion.spool import Spool
from dataloader.conversion.steps import taken, unwrapped
from dataloader.conversion.text import to_text
from dataloader.conversion.violations import (
    REJECT_COLUMNS,
    SHOWN_CHARACTERS,
    SHOWN_VIOLATIONS,
    WIDENING,
    Counts,
    Violation,
    cut,
    summary,
)
from dataloader.errors import PlanError, ValidationError
from dataloader.formatting import quantity

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
        first = self.first[0]
        typed = "choose types with dtype=, " if any("dtype=" in one.suggestion for one in self.first) else ""
        wider = dict.fromkeys(one.suggestion.partition(WIDENING)[2].rstrip(".") for one in self.first)
        widened = "; ".join(filter(None, wider))
        widening = f" Or {WIDENING}{widened}." if widened else ""
        hint = hint or f"Correct the source, {typed}or load the rest with on_invalid='reject'.{widening}"
        if self.total == 1 and not headline:
            what = str(first)
            hint = first.suggestion
        else:
            headline = headline or f"{self.total:,} values do not fit: {summary(self.counts)}"
            more = [f"... and {self.total - len(self.first):,} more"] if self.total > len(self.first) else []
            what = "\n  ".join([headline, *map(str, self.first), *more])
        return ValidationError(what, hint=hint, committed_rows=0, violations=self.first, counts=self.counts)


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
    rows : int or None
        How many rows the source has, where it is known.
    """

    limit: int | float | None = None
    rows: int | None = None
    findings: Findings = field(default_factory=Findings)
    kinds: dict[str, dict[pa.DataType, None]] = field(default_factory=dict)
    _parts: Spool = field(default_factory=Spool)
    _order: list[tuple[int, int]] = field(default_factory=list)
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def parts(self) -> Iterator[Part]:
        """The rows of each chunk, in the order of the source."""
        return (self._parts.read(number) for _, number in self._order)

    def add(self, batch: pa.RecordBatch, first_row: int, violations: Sequence[Violation]) -> int:
        """Keep the rows of `batch` that have violations; returns how many."""
        if not violations:
            return 0
        self.findings.add(violations)
        rows, reasons, labels = refused_rows(batch, first_row, violations)
        for name, values in zip(REJECT_COLUMNS, reasons, strict=True):
            rows = _with(rows, name, values)
        for one in rows.schema:
            self.kinds.setdefault(one.name, {})[one.type] = None
        bisect.insort(self._order, (first_row, self._parts.add(Part(first_row, rows, labels))))
        self._count += rows.num_rows
        return int(rows.num_rows)

    def join(self, later: Rejects, first_row: int) -> None:
        """Take in those of a part of the source, which begins at a row of the whole."""
        first = [one._replace(row=one.row + first_row) for one in later.findings.first]
        self.findings.join(Findings(first, {**later.findings.counts}))
        for name, kinds in later.kinds.items():
            self.kinds.setdefault(name, {}).update(kinds)
        name = REJECT_COLUMNS[0]
        for part in later.parts():
            rows = _with(part.rows, name, pc.add(part.rows.column(name), first_row))
            moved = Part(part.first_row + first_row, rows, part.labels)
            bisect.insort(self._order, (moved.first_row, self._parts.add(moved)))
        self._count += len(later)

    def check(self, read: int | None = None, more: Sequence[Violation] = ()) -> None:
        """Refuse to continue with more rejects than allowed.

        Parameters
        ----------
        read : int or None
            How many rows the source turned out to have.
        more : sequence of Violation
            Of a chunk that is not among the rejects yet.

        Raises
        ------
        ValidationError
            Showing the first violations and all counts.
        """
        count = len(self) + len({one.row for one in more})
        if count <= self._most(self.rows if read is None else read):
            return
        findings = Findings([*self.findings.first], {**self.findings.counts})
        findings.add(more)
        headline = f"{quantity(count, 'row')} cannot be loaded, and max_rejects={self.limit} allows fewer: "
        hint = "Correct the source, or allow more rejects."
        raise findings.error(headline + summary(findings.counts), hint)

    def most(self) -> float:
        """How many more may come, as far as that can be said now."""
        return self._most(self.rows) - len(self)

    def _most(self, rows: int | None) -> float:
        if self.limit is None or (isinstance(self.limit, float) and rows is None):
            return math.inf
        return self.limit * (rows or 0) if isinstance(self.limit, float) else self.limit

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write them, chunk by chunk, to a file whose suffix says how."""
        _WRITERS[check_suffix(path)](self, Path(path))


Reasons = tuple[pa.Array, pa.Array, pa.Array, pa.Array]
"""The values of `REJECT_COLUMNS`."""


def refused_rows(
    batch: pa.RecordBatch, first_row: int, violations: Sequence[Violation]
) -> tuple[pa.RecordBatch, Reasons, list[object]]:
    """The rows of a batch that have violations, with what is wrong with each, and their labels."""
    by_row = {row: list(group) for row, group in itertools.groupby(sorted(violations, key=_row_of), key=_row_of)}
    rows = _taken(batch, [row - first_row for row in by_row])
    columns, reasons, problems = zip(*map(_joined, by_row.values()), strict=True)
    texts = (pa.array(part, pa.string()) for part in (columns, reasons, problems))
    return rows, (pa.array(list(by_row), pa.int64()), *texts), [group[0].label for group in by_row.values()]


def columns_of(parts: Sequence[Part]) -> dict[str, pa.ChunkedArray | list[Any]]:
    """Every column by name; as Python values where its parts differ in type."""
    names = dict.fromkeys(name for part in parts for name in part.rows.schema.names)
    return {name: _whole([part.rows.column(name) for part in parts]) for name in names}


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


def first_rows(batch: pa.RecordBatch, count: int) -> tuple[tuple[str, ...], ...]:
    """The first rows of a batch as text to be shown."""
    columns = [_texts(_beginnings(values)).to_pylist() for values in batch.slice(0, count).columns]
    return tuple(tuple("NULL" if one is None else cut(one) for one in row) for row in zip(*columns, strict=True))


def _beginnings(values: pa.Array) -> pa.Array:
    """Texts and bytes without what is not shown of them: one of 200 MB would hold up the event loop for two seconds."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return pc.utf8_slice_codeunits(values, 0, SHOWN_CHARACTERS + 1)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return pc.binary_slice(values, 0, SHOWN_CHARACTERS + 1)
    return values


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
    return [value for part in parts for value in mixed_objects(part)]


def is_within_python(values: pa.ChunkedArray) -> bool:
    """Whether Python has all of the values; its years go from 1 to 9999."""
    try:
        values.to_pylist()
    except (OverflowError, ValueError):
        return False
    return True


def python_values(values: pa.ChunkedArray) -> list[Any]:
    """Python's own objects, or strings where Python does not have them."""
    whole = values.combine_chunks()
    return values.to_pylist() if is_within_python(values) else _texts(whole).to_pylist()  # type: ignore[no-any-return]


_LONG = {"s": "seconds", "ms": "milliseconds"}
"""Units of which more fit in Arrow's durations than in its microseconds and Python's timedelta."""


def _texts(values: pa.Array) -> pa.Array:
    """A column as text."""
    values = values if isinstance(values.type, MixedType) else unwrapped(values)
    if isinstance(values.type, (pa.BaseExtensionType, MixedType)):
        return pa.array([None if one is None else _text_of(one) for one in mixed_objects(values)], pa.string())
    if pa.types.is_nested(values.type):
        return pa.array([None if one is None else _json(one) for one in _python(values)], pa.string())
    try:
        return to_text(values)
    except pa.ArrowException:  # Arrow has no text for it
        if pa.types.is_duration(values.type) and values.type.unit in _LONG:  # Python may not have it either
            return pc.binary_join_element_wise(values.cast(pa.int64()).cast(pa.string()), _LONG[values.type.unit], " ")
        return pa.array([None if one is None else _text_of(one) for one in values.to_pylist()], pa.string())


def _python(values: pa.Array) -> list[Any]:
    """Nested values as Python's objects; what Python does not have as text, and maps whose keys repeat as pairs."""
    kind = values.type
    for maps in ("strict", None):
        with contextlib.suppress(KeyError, OverflowError, ValueError):
            return values.to_pylist(maps_as_pydicts=maps)  # type: ignore[no-any-return]  # of Arrow
    if pa.types.is_struct(kind):
        rows = zip(*map(_python, values.flatten()), strict=True)
        fields = [one.name for one in kind]
        objects = [dict(zip(fields, row, strict=True)) for row in rows]
        return [one if valid else None for one, valid in zip(objects, values.is_valid().to_pylist(), strict=True)]
    if not pa.types.is_nested(kind):
        return _texts(values).to_pylist()  # type: ignore[no-any-return]  # of Arrow
    return [_python(one.values) if one.is_valid else None for one in values]


def _text_of(value: Any) -> str:
    """A value as the databases read it; half a character by its number, as no file can hold it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, datetime.timedelta):
        return f"{value // datetime.timedelta(microseconds=1)} microseconds"
    if isinstance(value, (dict, list)):
        return _json(value)
    return str(value).encode(errors="backslashreplace").decode()


def _json(value: Any) -> str:
    """JSON, of whatever there is; half a character escaped."""
    text = json.dumps(_plain(value), ensure_ascii=False, default=_text_of)
    return text if text.isprintable() or _is_unicode(text) else json.dumps(_plain(value), default=_text_of)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """A value whose numbers JSON has; NaN and infinity as text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _text_of(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):  # whose elements are of one kind
        kept = str if any(map(_is_not_finite, value)) else _plain
        return [kept(one) if isinstance(one, float) else _plain(one) for one in value]
    return str(value) if _is_not_finite(value) else value


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def json_rows(rows: pa.RecordBatch) -> list[str]:
    """Each row as a JSON object: numbers and strings as they are, what JSON has no word for as text."""
    names = [f"{_json(name)}: " for name in rows.schema.names]
    columns = [map(name.__add__, json_values(values)) for name, values in zip(names, rows.columns, strict=True)]
    return [f"{{{', '.join(row)}}}" for row in zip(*columns, strict=True)]


def json_values(values: pa.Array) -> list[str]:
    """Each value in JSON."""
    kind = values.type
    if isinstance(kind, MixedType) and is_decoded(kind):  # its documents are documents, and its strings are not
        parts = mixed_parts(values)
        parts = [part.storage if isinstance(part.type, pa.JsonType) else json_values(part) for part in parts]
        columns = [*parts, [_json(one) for one in unconvertible(values)[0]]]
        rows = zip(*(map(str, column) for column in columns), strict=True)
        return [next((one for one in row if one not in {"None", "null"}), "null") for row in rows]
    is_known = pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind)
    if is_known or pa.types.is_float64(kind) or isinstance(kind, MixedType):
        return [_json(one) for one in mixed_objects(values)]
    if pa.types.is_nested(kind):
        return [_json(one) for one in _python(values)]
    return [_json(one) for one in _texts(values).to_pylist()]


def _write_csv(rejects: Rejects, path: Path) -> None:
    """A text that a spreadsheet would run as a formula gets an apostrophe; a number does not."""
    names = list(rejects.kinds) or list(REJECT_COLUMNS)
    schema = pa.schema([pa.field(name, pa.string()) for name in names])
    with pa.csv.CSVWriter(path, schema, write_options=pa.csv.WriteOptions(quoting_style="all_valid")) as file:
        for part in rejects.parts():
            arrays = [_without_formulas(_texts(part.rows.column(name))) for name in names]
            file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _without_formulas(texts: pa.Array) -> pa.Array:
    formula = pc.match_substring_regex(texts, _FORMULA)
    number = pc.match_substring_regex(texts, _NUMBER)
    harmless = pc.binary_join_element_wise("'", texts, "")
    return pc.if_else(pc.and_not(formula, number), harmless, texts)


def _write_jsonl(rejects: Rejects, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for part in rejects.parts():
            file.writelines(f"{row}\n" for row in json_rows(part.rows))


def _write_parquet(rejects: Rejects, path: Path) -> None:
    """A column whose chunks differ in type is text, and lists of a fixed size are lists."""
    from pyarrow import parquet  # noqa: PLC0415 - only who writes such a file needs it

    kinds = rejects.kinds or {name: {pa.string(): None} for name in REJECT_COLUMNS}
    plain = {name: next(iter(types)) if len(types) == 1 else pa.string() for name, types in kinds.items()}
    schema = pa.schema([(name, parquet_type(kind)) for name, kind in plain.items()])
    with parquet.ParquetWriter(path, schema) as file:
        for part in rejects.parts():
            columns = [(part.rows.column(one.name), one.type) for one in schema]
            arrays = [in_parquet(values, kind) for values, kind in columns]
            file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def parquet_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a file has the column: before pyarrow 26, nulls among lists of a fixed size cannot be read."""
    from pyarrow import parquet  # noqa: PLC0415 - as above

    if pa.types.is_fixed_size_list(kind):
        kind = pa.list_(kind.value_field)
    try:
        parquet.ParquetWriter(pa.BufferOutputStream(), pa.schema([pa.field("v", kind)])).close()
    except (pa.ArrowException, OSError):
        return pa.string()
    return pa.string() if isinstance(kind, MixedType) or "fixed_size_list" in str(kind) else kind


def in_parquet(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in the type that `parquet_type` gives."""
    if values.type == kind:
        return values
    if not pa.types.is_list(kind):
        return _texts(values)
    # A cast would keep the elements of nulls, which cannot be written before pyarrow 26.
    sizes = (values.type.list_size * valid for valid in values.is_valid().to_pylist())
    offsets = pa.array(itertools.accumulate(sizes, initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, values.flatten(), kind, mask=values.is_null())


_WRITERS: dict[str, Callable[[Rejects, Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
