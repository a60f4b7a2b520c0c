"""CSV files: every field is a text until it meets its column."""

from __future__ import annotations

import contextlib
import functools
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.errors import PlanError
from dataloader.sources import csv_parts
from dataloader.sources.csv_dialect import Dialect, find_dialect
from dataloader.sources.csv_options import CsvOptions
from dataloader.sources.csv_ragged import RaggedRows
from dataloader.sources.csv_types import field_of
from dataloader.sources.formats import READ_BYTES, Format, no_rows
from dataloader.sources.paths import File, OpenFile, TooLarge

ROW_BYTES = (READ_BYTES, READ_BYTES << 4, READ_BYTES << 8)
"""A block holds a row at least: where the first size is too small, the next one is tried."""
WHOLE_BYTES = 1 << 23
"""The types are found out on all of a smaller file; of a larger one on parts from its beginning to its end."""
PARTS = 32
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"PK\x03\x04", "zip"))
_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".zip": "zip"}
_GUARDED = r"^'('*[=+\-@\t\r])"


@dataclass(slots=True)
class CsvFiles:
    """How CSV files are read with the options of a call; what is found out of each is found out once."""

    options: CsvOptions
    _known: dict[str, tuple[str | None, Dialect, pa.Schema]] = field(default_factory=dict)

    def schema(self, file: File) -> pa.Schema:
        """The columns, with the types that they are created with."""
        return self._found(file)[2]

    def facts(self, file: File) -> str:
        """How the file is written, where that is not the ordinary way, and what it rests on."""
        compression, dialect, _ = self._found(file)
        packed = [f"packed by {compression}"] if compression else []
        return "; ".join([*packed, *dialect.evidence])

    def lines_before(self, file: File) -> int:
        """How many lines are no rows."""
        _, dialect, _ = self._found(file)
        return dialect.skip + dialect.header

    def batches(self, file: File, _chunk_rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
        compression, dialect, schema = self._found(file)
        if file.part is not None and file.part.start:
            dialect = replace(dialect, skip=0, header=False)
        opened = functools.partial(_stream, file, compression, dialect, file.part)
        before = functools.cache(functools.partial(csv_parts.before, file))  # reads all that stands before the part
        ragged = RaggedRows(schema.names, names, dialect, opened, before)
        are_rejects = set(REJECT_COLUMNS) <= set(schema.names)
        for batch in _read(opened, schema.names, dialect, ragged):
            yield _without_apostrophes(batch) if are_rejects else batch

    def parts(self, file: File) -> list[File]:
        """Ranges of bytes of a large file, each of which begins with a row."""
        if not csv_parts.is_large(file):
            return [file]
        compression, dialect, _ = self._found(file)
        return [file] if compression else csv_parts.in_parts(file, dialect)

    def _found(self, file: File) -> tuple[str | None, Dialect, pa.Schema]:
        if file.path not in self._known:
            compression = _compression(file)
            with _unpacked(file, compression) as stream:
                head = stream.read(WHOLE_BYTES)
            if not head:
                raise EOFError("it is empty")
            dialect = find_dialect(head, file.name, self.options)
            names = _names(file, compression, dialect)
            self._known[file.path] = compression, dialect, _schema(file, compression, dialect, names, head)
        return self._known[file.path]


def csv_format(options: CsvOptions | None) -> Format:
    """How CSV files are read with the options of a call."""
    files = CsvFiles(options or CsvOptions())
    return Format(files.schema, no_rows, files.batches, files.facts, files.lines_before, files.parts)


def _compression(file: File) -> str | None:
    """By the name, or by the first bytes: a file called .csv may be packed all the same."""
    for suffix, name in _SUFFIXES.items():
        if file.name.lower().endswith(suffix) and not isinstance(file, OpenFile):
            return name
    with file.stream(None) as stream:
        head = stream.read(4)
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


@contextlib.contextmanager
def _unpacked(file: File, compression: str | None) -> Iterator[Any]:
    if compression != "zip":
        with file.stream(compression) as stream:
            yield stream
        return
    with file.random_access() as opened, _archive(opened) as archive:
        names = [one for one in archive.namelist() if not one.endswith("/") and not one.startswith("__MACOSX/")]
        if len(names) != 1:
            hint = "Unpack it, and load the files in it."
            raise PlanError(f"{file.name} is an archive of {len(names)} files, and can be loaded with one", hint=hint)
        with archive.open(names[0]) as member:
            yield pa.PythonFile(member, mode="r")


def _archive(opened: Any) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(opened)
    except zipfile.BadZipFile as error:
        raise EOFError(str(error)) from error


@contextlib.contextmanager
def _stream(file: File, compression: str | None, dialect: Dialect, part: range | None = None) -> Iterator[Any]:
    """The text as UTF-8, which Arrow reads."""
    with _unpacked(file, compression) if part is None else csv_parts.opened(file, part) as stream:
        is_utf8 = dialect.encoding.replace("_", "-").lower() in {"utf-8", "utf8", "utf-8-sig", "ascii"}
        yield stream if is_utf8 else pa.transcoding_input_stream(stream, dialect.encoding, "utf-8")


def _csv_options(dialect: Dialect, types: dict[str, pa.DataType] | None = None) -> pa.csv.ConvertOptions:
    """PostgreSQL's rule for CSV: a field without quotes that says NULL, as an empty one does, is NULL."""
    return pa.csv.ConvertOptions(
        column_types=types,
        null_values=list(dialect.nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _parsing(dialect: Dialect, columns: int, on_ragged: Callable[[Any], str] | None) -> pa.csv.ParseOptions:
    return pa.csv.ParseOptions(
        delimiter=dialect.delimiter,
        quote_char=dialect.quote or False,
        newlines_in_values=True,
        ignore_empty_lines=columns != 1,
        invalid_row_handler=on_ragged,
    )


def _reading(dialect: Dialect, block: int, ahead: bool = False) -> pa.csv.ReadOptions:
    # Threads read ahead while rows are converted; only one thread says where a row with the wrong fields stands.
    return pa.csv.ReadOptions(
        use_threads=ahead,
        block_size=block,
        skip_rows=dialect.skip,
        autogenerate_column_names=not dialect.header,
    )


def _as_read(names: list[str], dialect: Dialect) -> dict[str, pa.DataType]:
    """The columns as Arrow calls them, all of them text; one without a name has the name of its place here."""
    return dict.fromkeys([*_arrow_names(names, dialect), ""], pa.string())


def _arrow_names(names: list[str], dialect: Dialect) -> list[str]:
    return names if dialect.header else [f"f{number}" for number in range(len(names))]


def _names(file: File, compression: str | None, dialect: Dialect) -> list[str]:
    for block in ROW_BYTES:
        parsing = _parsing(dialect, 2, _skip)
        with _stream(file, compression, dialect) as stream, _naming(block):
            reading = _reading(dialect, block)
            names = list(pa.csv.open_csv(stream, reading, parsing, _csv_options(dialect)).schema.names)
            return [name if name and dialect.header else f"column_{at}" for at, name in enumerate(names, start=1)]
    raise AssertionError


def _skip(_row: Any) -> str:
    return "skip"


@contextlib.contextmanager
def _naming(block: int, ahead: bool = False) -> Iterator[None]:
    """Pass over a row that is longer than a block, where there is a larger size; Arrow's words are not ours."""
    try:
        yield
    except pa.ArrowInvalid as error:
        if ahead and "Expected" in str(error):
            return
        if "straddling object" in str(error):
            if block == ROW_BYTES[-1]:
                hint = "check that every quote has its end, or say that there are none: csv={'quote': ''}"
                raise TooLarge(f"a row is longer than {block:,} bytes: {hint}") from error
            return
        if "invalid UTF8" in str(error):
            raise TooLarge("it is not UTF-8: say what it is, like csv={'encoding': 'cp1252'}") from error
        raise


def _read(
    opened: Callable[[], Any], names: list[str], dialect: Dialect, ragged: RaggedRows
) -> Iterator[pa.RecordBatch]:
    """Every row; where one is ragged or too long for a block, those before are read again."""
    wanted, given = _csv_options(dialect, _as_read(names, dialect)), 0
    for block, ahead in ((ROW_BYTES[0], True), *((block, False) for block in ROW_BYTES)):
        ragged.begin(given)
        passed = given
        with opened() as stream, _naming(block, ahead):
            parsing = _parsing(dialect, len(names), None if ahead else ragged.add)
            reading = _reading(dialect, block, ahead)
            if not dialect.header:  # the first row may be ragged
                reading.autogenerate_column_names, reading.column_names = False, _arrow_names(names, dialect)
            with pa.csv.open_csv(stream, reading, parsing, wanted) as reader:
                for batch in reader:
                    rows = ragged.put_into(batch.rename_columns(names))
                    kept = rows.slice(min(passed, rows.num_rows))
                    passed -= rows.num_rows - kept.num_rows
                    given += kept.num_rows
                    yield kept
            if (rest := ragged.rest()) is not None:
                yield rest.slice(min(passed, rest.num_rows))
            return


def _schema(file: File, compression: str | None, dialect: Dialect, names: list[str], head: bytes) -> pa.Schema:
    tables = list(_samples(file, compression, dialect, names, head))
    columns = pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in set(names)})
    texts = (
        [columns.column(number) for number in range(len(names))]
        if tables
        else [pa.chunked_array([], pa.string())] * len(names)
    )
    return pa.schema([field_of(name, one, dialect.decimal) for name, one in zip(names, texts, strict=True)])


def _samples(
    file: File, compression: str | None, dialect: Dialect, names: list[str], head: bytes
) -> Iterator[pa.Table]:
    """The beginning or, where parts can be had, pieces up to the end; lines that were cut are left out."""
    wanted = _csv_options(dialect, _as_read(names, dialect) | dict.fromkeys(names, pa.string()))
    for number, piece in enumerate(_pieces(file, compression, dialect, head)):
        reading = _reading(dialect, max(len(piece), 1) + 1)
        if number:
            reading.skip_rows, reading.autogenerate_column_names = 0, False
            reading.column_names = names
        with contextlib.suppress(pa.ArrowInvalid):
            parsing = _parsing(dialect, len(names), _skip)
            yield pa.csv.read_csv(io.BytesIO(piece), reading, parsing, wanted).rename_columns(names)


def _pieces(file: File, compression: str | None, dialect: Dialect, head: bytes) -> Iterable[bytes]:
    is_whole = len(head) < WHOLE_BYTES
    if dialect.encoding not in {"utf-8", "utf-8-sig"}:
        head = head.decode(dialect.encoding, errors="ignore").encode()
    if is_whole:
        return [head]
    if compression or not file.is_local or not dialect.encoding.startswith("utf-8"):
        return [head[: head.rfind(b"\n") + 1]]
    return _spread(file, head)


def _spread(file: File, head: bytes) -> Iterator[bytes]:
    length = WHOLE_BYTES // PARTS
    yield head[: head.rfind(b"\n", 0, length) + 1] or head[: head.rfind(b"\n") + 1]
    with file.random_access() as opened:
        size = opened.size()
        for number in range(1, PARTS):
            opened.seek((size - length) * number // (PARTS - 1))
            piece = opened.read(length)
            end = len(piece) if number == PARTS - 1 else piece.rfind(b"\n") + 1
            yield piece[piece.find(b"\n") + 1 : end]


def _without_apostrophes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The strings that a spreadsheet would run as formulas, without what a file of rejects puts in front of them."""
    arrays = [
        pc.replace_substring_regex(values, _GUARDED, r"\1") if pa.types.is_string(values.type) else values
        for values in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
