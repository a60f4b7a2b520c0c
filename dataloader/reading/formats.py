"""The formats of files, by their names, and what writes each batch by batch."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet

from dataloader.database.backends.reading import UNSETTLED
from dataloader.errors import PlanError, ReadError
from dataloader.formatting import did_you_mean
from dataloader.reading.files import AtomicFile
from dataloader.reading.lines import csv_header, csv_lines, json_lines
from dataloader.reading.numbers import Digits
from dataloader.rejects import in_parquet, parquet_type

GROUP_BYTES = 1 << 22
"""How much of a result is a row group of Parquet."""
FORMATS = ("csv", "parquet", "arrow", "jsonl")
_SUFFIXES = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def format_of(path: Path, given: str | None) -> tuple[str, str | None]:
    """The format of a file and its compression, by its name.

    Raises
    ------
    PlanError
        When its name does not say it, or a file of that format compresses itself.
    """
    if given is not None and given not in FORMATS:
        raise PlanError(f"format={given!r} is unknown", hint=did_you_mean(given, FORMATS))
    compression = _COMPRESSIONS.get(path.suffix.lower())
    name = path.with_suffix("") if compression else path
    kind = given or _SUFFIXES.get(name.suffix.lower())
    if kind is None:
        hint = f"End it in one of {', '.join(_SUFFIXES)}, text also in .csv.gz or .csv.zst, or pass format=."
        raise PlanError(f"the name {path.name!r} does not say the format of the file", hint=hint)
    if compression and kind not in {"csv", "jsonl"}:
        hint = f"Leave {path.suffix} out of the name."
        raise PlanError(f"a {kind} file is not compressed as a whole", hint=hint)
    return kind, compression


class Writer(Protocol):
    """Writes batches of one schema to an open file."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


def open_writer(kind: str, compression: str | None, file: AtomicFile, schema: pa.Schema, folder: Path) -> Writer:
    """What writes a file; numbers without a limit, whose digits are known at the end, wait in a nameless file.

    Parameters
    ----------
    folder : Path
        Where that is.

    Raises
    ------
    ReadError
        When such a file cannot have two columns of one name.
    """
    if kind in {"parquet", "jsonl"}:
        _check_names(schema.names, kind)
    if kind in {"csv", "jsonl"}:
        return _Lines(kind, compression, file, schema)
    opening = _Parquet if kind == "parquet" else _Arrow
    if any(UNSETTLED in (field.metadata or {}) for field in schema):
        return _Settling(lambda settled: opening(file, settled), schema, folder)
    return opening(file, pa.schema([field.remove_metadata() for field in schema]))


def _check_names(names: list[str], kind: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        what = f"the result has {names.count(twice)} columns {twice!r}, which a {kind} file cannot have"
        raise ReadError(what, hint="Name them apart: SELECT a AS a1, ...", column=twice)


class _Lines:
    def __init__(self, kind: str, compression: str | None, file: AtomicFile, schema: pa.Schema) -> None:
        self._lines = csv_lines if kind == "csv" else json_lines
        self._file: Any = file
        self._is_compressed = compression is not None
        if self._is_compressed:
            self._file = pa.CompressedOutputStream(pa.PythonFile(file.stream(), "w"), compression)
        if kind == "csv":
            self._file.write(csv_header(schema.names))

    def write(self, batch: pa.RecordBatch) -> None:
        self._file.write(self._lines(batch))

    def close(self) -> None:
        if self._is_compressed:
            self._file.close()


class _Arrow:
    def __init__(self, file: AtomicFile, schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_file(pa.PythonFile(file.stream(), "w"), schema)

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class _Parquet:
    """Batches become row groups of a size that readers like; types that a file does not have become text."""

    def __init__(self, file: AtomicFile, schema: pa.Schema) -> None:
        self._schema = pa.schema([field.with_type(parquet_type(field.type)) for field in schema])
        self._writer = pa.parquet.ParquetWriter(pa.PythonFile(file.stream(), "w"), self._schema)
        self._waiting: list[pa.RecordBatch] = []
        self._nbytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        arrays = [in_parquet(values, kind) for values, kind in zip(batch.columns, self._schema.types, strict=True)]
        self._waiting.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._nbytes += batch.nbytes
        if self._nbytes >= GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._waiting, self._nbytes = [], 0
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        self._write()
        self._writer.close()


class _Settling:
    """Keeps what is written in a file without a name until the digits of all numbers are known."""

    def __init__(self, opening: Callable[[pa.Schema], Writer], schema: pa.Schema, folder: Path) -> None:
        self._opening = opening
        self._digits = {at: Digits() for at, field in enumerate(schema) if UNSETTLED in (field.metadata or {})}
        self._kept: Any = tempfile.TemporaryFile(dir=folder)
        self._schema = schema
        self._writer = pa.ipc.new_stream(self._kept, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        for at, digits in self._digits.items():
            digits.add(batch.column(at))
        self._writer.write_batch(batch)

    def close(self) -> None:
        with contextlib.closing(self._kept):
            self._writer.close()
            self._kept.seek(0)
            kinds = [self._digits[at].type if at in self._digits else one.type for at, one in enumerate(self._schema)]
            schema = pa.schema([pa.field(one.name, kind) for one, kind in zip(self._schema, kinds, strict=True)])
            writer = self._opening(schema)
            for batch in pa.ipc.open_stream(self._kept):
                arrays = [values.cast(kind) for values, kind in zip(batch.columns, kinds, strict=True)]
                writer.write(pa.RecordBatch.from_arrays(arrays, schema=schema))
            writer.close()
