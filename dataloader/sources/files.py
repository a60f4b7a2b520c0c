"""Sources over files: CSV, Parquet, Arrow IPC and JSON lines, by path, glob, list or URL; always streamed."""

from __future__ import annotations

import contextlib
import functools
import glob
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from dataloader.conversion.documents import NotJson, row_of
from dataloader.conversion.inference import MOST_LEVELS, SPELLED, depth
from dataloader.conversion.mixed import as_strings
from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.errors import DataLoaderError, LoadError, PlanError, SchemaMismatch
from dataloader.formatting import one_line
from dataloader.sources.base import CHUNK_BYTES, ArrowSource, check_names, rechunk
from dataloader.sources.rows import PEEKED_ROWS, batch_of_rows
from dataloader.sources.selection import WHOLE, Reading, selected

READ_BYTES = 1 << 20
LINE_CHARACTERS = 1 << 25
"""The longest line of a JSON file that is read: it takes about eight times as much memory."""
BLOCK_CHARACTERS = 1 << 25
"""Lines of a JSON file that are read at once, where they are long."""
_USER = re.compile(r"://[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^?#\s]*[?#]).*", re.DOTALL)
"""Signed URLs have their token in it; where one ends that is not encoded is unknown."""
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class _TooLarge(Exception):
    """A row that would take too much to read."""


_UNREADABLE = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError, NotJson, _TooLarge)


@dataclass(frozen=True, slots=True)
class File:
    """A file where it lies: a filesystem of Arrow's and the path in it."""

    filesystem: pa.fs.FileSystem
    path: str

    @property
    def name(self) -> str:
        name = PurePosixPath(_without_query(self.path)).name
        return os.fsencode(name).decode(errors="backslashreplace")  # whatever the locale takes its bytes for

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pa.fs.LocalFileSystem)

    def stream(self) -> Any:
        compression = "gzip" if self.name.lower().endswith(".gz") else None
        return self.filesystem.open_input_stream(self._spelled, compression=compression)

    def fails_by(self, error: Exception) -> bool:
        """Whether the file or its filesystem is to blame; a filesystem that is not Arrow's raises what it likes."""
        return not isinstance(error, DataLoaderError) and (isinstance(error, _UNREADABLE) or not self.is_local)

    def random_access(self) -> Any:
        return self.filesystem.open_input_file(self._spelled)

    @property
    def _spelled(self) -> str | bytes:
        """Arrow encodes a str as UTF-8, which the name of a file need not be, nor the locale."""
        return os.fsencode(self.path) if self.is_local else self.path


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of file is read: its columns, its rows if it knows them, and its batches of some columns."""

    schema: Callable[[File], pa.Schema]
    rows: Callable[[File], int | None]
    batches: Callable[[File, int, list[str]], Iterable[pa.RecordBatch]]


@dataclass(slots=True)
class FilePosition:
    """Which of several files is being read."""

    of: int
    number: int = 0

    def __str__(self) -> str:
        return f"file {self.number} of {self.of}" if self.number and self.of > 1 else ""


def are_paths(data: object) -> bool:
    """Whether `data` is what `load_files` takes, rather than a table."""
    paths = data if isinstance(data, (list, tuple)) and data else [data]
    return all(isinstance(path, (str, os.PathLike)) for path in paths)


def open_files(paths: Paths, reading: Reading = WHOLE) -> ArrowSource:
    """Open files as one source; columns are those of the first file, matched by name in the others.

    Raises
    ------
    PlanError
        When a path or glob matches no readable file, or a file's kind is unknown.
    SchemaMismatch
        When a file does not have the columns of the first one.
    """
    files = [(file, _format(file)) for file in _listed(paths)]
    described = [_described(file, kind) for file, kind in files]
    schemas, counts = [schema for schema, _ in described], [rows for _, rows in described]
    for (file, _), schema in zip(files, schemas, strict=True):
        _check_columns(file, schema, files[0][0], schemas[0])
    rows = None if None in counts else sum(count for count in counts if count is not None)
    name = files[0][0].name if len(files) == 1 else f"{len(files)} files"

    position = FilePosition(len(files))
    names = selected(schemas[0].names, reading.columns, name)
    schema = pa.schema([schemas[0].field(one) for one in names])

    def parts(chunk_rows: int) -> Iterator[pa.RecordBatch]:
        for position.number, (file, kind) in enumerate(files, start=1):
            yield from _read(file, kind, chunk_rows, names)

    def batches(chunk_rows: int) -> Iterator[pa.RecordBatch]:
        return rechunk(parts(chunk_rows), chunk_rows)

    are_local = all(file.is_local for file, _ in files)
    known = tuple(file.path for file, _ in files) if are_local else ()  # a URL may hold a secret
    return ArrowSource(name, schema, rows, batches, loader="load_files", paths=known, position=position)


def _listed(paths: Paths) -> list[File]:
    if isinstance(paths, bytes) or not isinstance(paths, (str, os.PathLike, Iterable)):
        what = f"{_hidden(repr(paths))} is not a path"
        raise PlanError(what, hint="Pass a path, a glob or a URL as text, or a list of them.")
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise PlanError("the list of files is empty", hint="Pass at least one path.")
    return [file for path in given for file in _expanded(path)]


def _expanded(path: str | os.PathLike[str]) -> list[File]:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text:
        raise PlanError(f"{_hidden(repr(path))} is not a path", hint="Pass a path, a glob or a URL as text.")
    if "://" in text:
        return _remote(text)
    if os.path.exists(text):
        return [_local(text)]
    if glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise PlanError(f"no file matches {text!r}", hint=f"The folder searched from is {os.getcwd()}.")
        return [_local(match) for match in matches]
    raise PlanError(f"there is no file {text!r}", hint=f"The folder searched from is {os.getcwd()}.")


def _local(path: str) -> File:
    if os.path.isdir(path):
        hint = f"Name the files in it, for example '{path.rstrip('/')}/*.parquet'."
        raise PlanError(f"{path!r} is a folder", hint=hint)
    return File(pa.fs.LocalFileSystem(), os.path.abspath(path))


def _remote(url: str) -> list[File]:
    """A URL of a filesystem that Arrow knows, else of one that fsspec knows."""
    with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):  # which quote the URL
        filesystem, path = pa.fs.FileSystem.from_uri(url)
        return [File(filesystem, path)]
    filesystem, matches = _fsspec(url)
    if not matches:
        raise PlanError(f"no file matches {_hidden(url)!r}", hint="Check the URL.")
    return [File(pa.fs.PyFileSystem(pa.fs.FSSpecHandler(filesystem)), match) for match in matches]


def _fsspec(url: str) -> tuple[Any, list[str]]:
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an optional library, only for URLs Arrow cannot read

        filesystem, path = url_to_fs(url)
        return filesystem, sorted(filesystem.glob(path)) if glob.has_magic(_without_query(path)) else [path]
    except Exception as error:  # of any library: each has errors of its own
        hint = "Install fsspec and the package of that filesystem, or copy the file here."
        what = f"no filesystem is known for {_hidden(url)!r}: {_hidden(one_line(error))}"
        raise PlanError(what, hint=hint) from _cause(error)


def _without_query(path: str) -> str:
    """A path as its file is called: over HTTP the whole URL is the path."""
    return path.partition("?")[0].partition("#")[0] if "://" in path else path


def _hidden(text: str) -> str:
    """A text in which no URL shows its user, its password or its query."""
    return _QUERY.sub(r"\1***", _USER.sub("://***@", text))


def _cause(error: Exception) -> Exception | None:
    """The error, if its text may be shown."""
    return error if _hidden(str(error)) == str(error) else None


def _format(file: File) -> Format:
    name = file.name.lower().removesuffix(".gz")
    for suffix, kind in FORMATS.items():
        if name.endswith(suffix):
            return kind
    hint = f"Rename it, or load a file that ends in one of: {', '.join(FORMATS)} (.csv.gz and .jsonl.gz too)."
    raise PlanError(f"the kind of {file.name!r} is unknown", hint=hint)


def _described(file: File, kind: Format) -> tuple[pa.Schema, int | None]:
    """Its columns, and its rows if it knows them."""
    try:
        schema, rows = kind.schema(file), kind.rows(file)
    except Exception as error:
        if not file.fails_by(error):
            raise
        hint = "Check that the file is complete, may be read, and is what its name says."
        what = f"{_hidden(file.path)} cannot be read: {_hidden(one_line(error))}"
        raise PlanError(what, hint=hint) from _cause(error)
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
        what = f"{_hidden(file.path)} cannot be read further: {_hidden(one_line(error))}"
        raise LoadError(what, hint=hint, committed_rows=0) from _cause(error)


def _no_rows(_file: File) -> None:
    return None


def _csv_options(types: dict[str, pa.DataType] | None = None) -> pa.csv.ConvertOptions:
    """PostgreSQL's rule for CSV: an empty field without quotes is NULL, and nothing else is."""
    return pa.csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _csv_schema(file: File) -> pa.Schema:
    """The types that the first megabyte suggests, for a table that is to be created."""
    with file.stream() as stream, _naming_long_rows(), _csv_reader(stream, _csv_options()) as reader:
        return pa.schema([field.with_metadata(SPELLED) for field in reader.schema])


def _csv_batches(file: File, _chunk_rows: int, _names: list[str]) -> Iterator[pa.RecordBatch]:
    """Read every field as text: the converter turns it into what the column wants, to the last digit."""
    names = _csv_schema(file).names
    options = _csv_options(dict.fromkeys(names, pa.string()))
    are_rejects = set(REJECT_COLUMNS) <= set(names)
    with file.stream() as stream, _naming_long_rows(), _csv_reader(stream, options) as reader:
        for batch in reader:
            yield _without_apostrophes(batch) if are_rejects else batch


_GUARDED = r"^'('*[=+\-@\t\r])"


def _without_apostrophes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The strings that a spreadsheet would run as formulas, without what a file of rejects puts in front of them."""
    arrays = [pc.replace_substring_regex(values, _GUARDED, r"\1") for values in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


@contextlib.contextmanager
def _naming_long_rows() -> Iterator[None]:
    """Arrow advises an option that is not ours."""
    try:
        yield
    except pa.ArrowInvalid as error:
        if "straddling object" not in str(error):
            raise
        hint = "check that every quote has its end, shorten the row, or load it from JSON lines or Parquet"
        raise _TooLarge(f"a row is longer than {READ_BYTES:,} bytes: {hint}") from error


def _csv_reader(stream: Any, options: pa.csv.ConvertOptions) -> pa.csv.CSVStreamingReader:
    reading = pa.csv.ReadOptions(block_size=READ_BYTES)
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    return pa.csv.open_csv(stream, read_options=reading, convert_options=options, parse_options=parsing)


def _parquet_schema(file: File) -> pa.Schema:
    with file.random_access() as opened:
        return pa.parquet.ParquetFile(opened).schema_arrow


def _parquet_rows(file: File) -> int:
    with file.random_access() as opened:
        return int(pa.parquet.ParquetFile(opened).metadata.num_rows)


def _parquet_batches(file: File, chunk_rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    with file.random_access() as opened:
        # Without a buffer size a whole row group is read at once, which may be the whole file.
        reader = pa.parquet.ParquetFile(opened, pre_buffer=False, buffer_size=READ_BYTES)
        columns = None if set(reader.schema_arrow.names) <= set(names) else names
        # Every thread that decodes keeps a heap of its own, and mimalloc gives back nothing by itself: 40 MB together.
        for batch in reader.iter_batches(
            batch_size=_parquet_rows_at_once(reader, chunk_rows), columns=columns, use_threads=False
        ):
            yield batch
            pa.default_memory_pool().release_unused()


def _parquet_rows_at_once(reader: pa.parquet.ParquetFile, chunk_rows: int) -> int:
    metadata = reader.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((one.total_byte_size // max(one.num_rows, 1) for one in groups), default=0)
    return min(chunk_rows, max(1, CHUNK_BYTES // max(widest, 1)))


def _ipc_reader(opened: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The file format, which has an index at its end, or else the stream format."""
    try:
        reader = pa.ipc.open_file(opened)
    except pa.ArrowInvalid:
        opened.seek(0)
        stream = pa.ipc.open_stream(opened)
        return stream.schema, iter(stream)
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _ipc_schema(file: File) -> pa.Schema:
    with file.random_access() as opened:
        return _ipc_reader(opened)[0]


def _ipc_batches(file: File, _chunk_rows: int, _names: list[str]) -> Iterator[pa.RecordBatch]:
    with file.random_access() as opened:
        yield from _ipc_reader(opened)[1]


def _json_schema(file: File) -> pa.Schema:
    with file.stream() as stream:
        first = next(_json_blocks(stream), None)
    if first is None:
        raise EOFError("it has no rows")
    return _json_batch(first, None, 0).schema


def _json_batches(file: File, _chunk_rows: int, _names: list[str]) -> Iterator[pa.RecordBatch]:
    keys, first_row = tuple(_json_schema(file).names), 0
    with file.stream() as stream:
        for block in _json_blocks(stream):
            yield _json_batch(block, keys, first_row)
            first_row += len(block)


def _json_batch(rows: list[Any], keys: tuple[str, ...] | None, first_row: int) -> pa.RecordBatch:
    batch = batch_of_rows(rows, keys, first_row)
    if set(REJECT_COLUMNS) <= set(batch.schema.names):  # a text of theirs is what it was: a document, where it was one
        return batch
    return pa.RecordBatch.from_arrays(list(map(as_strings, batch.columns)), names=batch.schema.names)


def _json_blocks(stream: Any) -> Iterator[list[Any]]:
    """Lists of objects. Arrow's own reader turns strings into times and long numbers into floats."""
    block: list[Any] = []
    size, text = 0, io.TextIOWrapper(stream, encoding="utf-8")
    for number, line in enumerate(iter(functools.partial(text.readline, LINE_CHARACTERS), ""), start=1):
        if len(line) == LINE_CHARACTERS and line[-1] != "\n":
            raise _TooLarge(f"line {number:,} is longer than {LINE_CHARACTERS:,} characters: split it into rows")
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
        raise _TooLarge(f"{what}: flatten it, or keep its inner part as a string")
    return row


_CSV = Format(_csv_schema, _no_rows, _csv_batches)
_PARQUET = Format(_parquet_schema, _parquet_rows, _parquet_batches)
_IPC = Format(_ipc_schema, _no_rows, _ipc_batches)
_JSON = Format(_json_schema, _no_rows, _json_batches)
FORMATS = {
    ".csv": _CSV,
    ".parquet": _PARQUET,
    ".arrow": _IPC,
    ".feather": _IPC,
    ".jsonl": _JSON,
    ".ndjson": _JSON,
}
"""The kinds of files that are read, by the end of their name."""
