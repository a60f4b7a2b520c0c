"""Sources over files: CSV, Parquet, Arrow IPC, JSON lines and sheets, by path, glob, list or URL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataloader.errors import LoadError, PlanError, SchemaMismatch
from dataloader.formatting import one_line
from dataloader.sources.base import ArrowSource, check_names, rechunk
from dataloader.sources.columnar_files import IPC, PARQUET
from dataloader.sources.csv_files import csv_format
from dataloader.sources.formats import Format
from dataloader.sources.json_files import JSON_LINES
from dataloader.sources.paths import File, Paths, cause, hidden, listed
from dataloader.sources.selection import WHOLE, Reading, selected
from dataloader.sources.sheets import SHEETS, sheet_format
from dataloader.sources.sizing import about_rows


@dataclass(slots=True)
class FilePosition:
    """Which of several files is being read, and how many rows they have in all by what has been read.

    Attributes
    ----------
    about : int or None
        So many rows are expected, by the sizes of the files and their first lines.
    rows : int
        So many have been read.
    """

    files: list[File]
    about: int | None
    number: int = 0
    rows: int = 0
    _share: float = 0.0

    def __str__(self) -> str:
        return f"file {self.number} of {len(self.files)}" if self.number and len(self.files) > 1 else ""

    @property
    def about_rows(self) -> float | None:
        """All rows, as far as they can be known: Arrow reads up to 32 MB ahead, so that sizes come first."""
        self._look()
        return self.about or (self.rows / self._share if self._share else None)

    def _look(self) -> None:
        """Note how much of the bytes is read: what it was, where a file is read again for its ragged rows."""
        read = self.files[self.number - 1].bytes_read if self.number else None
        sizes = [file.size for file in self.files] if read is not None else []
        if read is not None and None not in sizes and (total := sum(filter(None, sizes))):
            share = (sum(filter(None, sizes[: self.number - 1])) + read) / total
            self._share = max(self._share, min(1.0, share))


def open_files(paths: Paths, reading: Reading = WHOLE) -> ArrowSource:
    """Open files as one source; columns are those of the first file, matched by name in the others.

    Raises
    ------
    PlanError
        When a path or glob matches no readable file, or a file's kind is unknown.
    SchemaMismatch
        When a file does not have the columns of the first one.
    """
    files = [(file, _format(file, reading)) for file in listed(paths)]
    _check_sheets([file for file, _ in files], reading)
    described = [_described(file, kind) for file, kind in files]
    schemas, counts = [schema for schema, _ in described], [rows for _, rows in described]
    for (file, _), schema in zip(files, schemas, strict=True):
        _check_columns(file, schema, files[0][0], schemas[0])
    rows = None if None in counts else sum(count for count in counts if count is not None)
    about = None if rows is not None else about_rows([file for file, _ in files], counts)
    name = files[0][0].name if len(files) == 1 else f"{len(files)} files"

    position = FilePosition([file for file, _ in files], about)
    names = selected(schemas[0].names, reading.columns, name)
    schema = pa.schema([schemas[0].field(one) for one in names])

    def parts(chunk_rows: int) -> Iterator[pa.RecordBatch]:
        for position.number, (file, kind) in enumerate(files, start=1):
            for batch in _read(file, kind, chunk_rows, names):
                position.rows += batch.num_rows
                yield batch

    def batches(chunk_rows: int) -> Iterator[pa.RecordBatch]:
        return rechunk(parts(chunk_rows), chunk_rows)

    are_local = all(file.is_local for file, _ in files)
    known = tuple(file.path for file, _ in files) if are_local else ()  # a URL may hold a secret
    told: dict[str, Any] = {"paths": known, "position": position, "about": about, "facts": _facts(files)}
    return ArrowSource(name, schema, rows, batches, loader="load_files", **told)


def _facts(files: list[tuple[File, Format]]) -> tuple[tuple[str, str], ...]:
    """How the files are written, where it had to be found out; the same of several is said once."""
    found: dict[str, list[str]] = {}
    for file, kind in files:
        if kind.facts is not None and (told := kind.facts(file)):
            found.setdefault(told, []).append(file.name)
    return tuple((names[0] if len(files) > 1 else "csv", told) for told, names in found.items())


def _format(file: File, reading: Reading) -> Format:
    if file.name.lower().endswith(SHEETS):
        return sheet_format(file, reading)
    name = file.name.lower().removesuffix(".gz")
    for suffix, kind in FORMATS.items():
        if name.endswith(suffix):
            return kind
    if name.removesuffix(".zst").removesuffix(".bz2").removesuffix(".zip").endswith(CSV_SUFFIXES):
        return csv_format(reading.csv)
    known = ", ".join([*CSV_SUFFIXES, *FORMATS, *SHEETS])
    hint = f"Rename it, or load a file that ends in one of: {known} (.csv.gz and .jsonl.gz too)."
    raise PlanError(f"the kind of {file.name!r} is unknown", hint=hint)


def _check_sheets(files: list[File], reading: Reading) -> None:
    """Refuse options that would say nothing."""
    others = [file.name for file in files if not file.name.lower().endswith(SHEETS)]
    for name in ("sheet", "cells"):
        if others and getattr(reading, name) is not None:
            raise PlanError(f"{name}= is for spreadsheets, and {others[0]} is none", hint=f"Leave {name}= out.")


def _described(file: File, kind: Format) -> tuple[pa.Schema, int | None]:
    """Its columns, and its rows if it knows them."""
    try:
        schema, rows = kind.schema(file), kind.rows(file)
    except Exception as error:
        if not file.fails_by(error):
            raise
        hint = "Check that the file is complete, may be read, and is what its name says."
        what = f"{hidden(file.path)} cannot be read: {hidden(one_line(error))}"
        raise PlanError(what, hint=hint) from cause(error)
    check_names(schema.names)
    return schema, rows


def _check_columns(file: File, schema: pa.Schema, first: File, expected: pa.Schema) -> None:
    differing = sorted(set(schema.names) ^ set(expected.names))
    if differing:
        facts = f"{file.name} has {', '.join(schema.names)}; {first.name} has {', '.join(expected.names)}"
        hint = f"Load them separately, or make them agree on: {', '.join(differing)}."
        raise SchemaMismatch(f"the files do not have the same columns: {facts}", hint=hint)


def _read(file: File, kind: Format, chunk_rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        for batch in kind.batches(file, chunk_rows, names):
            yield batch.select(names)
    except Exception as error:
        if not file.fails_by(error):
            raise
        hint = "Correct or replace the file and load again."
        what = f"{hidden(file.path)} cannot be read further: {hidden(one_line(error))}"
        raise LoadError(what, hint=hint, committed_rows=0) from cause(error)


CSV_SUFFIXES = (".csv", ".tsv", ".txt")
FORMATS = {
    ".parquet": PARQUET,
    ".arrow": IPC,
    ".feather": IPC,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
}
"""The kinds of files that are read, by the end of their name."""
