"""Sources over files: CSV, Parquet, Arrow IPC, JSON lines and sheets, by path, glob, list or URL."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from dataloader.conversion.arrow_errors import in_words
from dataloader.conversion.inference import varying
from dataloader.errors import LoadError, PlanError, SchemaMismatch
from dataloader.formatting import quantity
from dataloader.sources.base import ArrowSource, check_names, rechunk
from dataloader.sources.folders import partition_fields, with_partitions
from dataloader.sources.formats import Format
from dataloader.sources.kinds import Kind, kind_name, kind_of
from dataloader.sources.known import FileContent, KnownFiles, contents_of
from dataloader.sources.paths import File, Listing, OpenFile, Paths, listed
from dataloader.sources.selection import WHOLE, Reading, selected
from dataloader.sources.sizing import about_rows
from dataloader.sources.urls import cause, hidden


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


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that is known to be readable: how it is read, its own columns and its rows if it knows them.

    Attributes
    ----------
    filename : str or None
        The column in which it is named.
    told : str
        How its kind was found out, where its name does not say it.
    """

    file: File
    kind: Kind
    format: Format
    schema: pa.Schema
    rows: int | None
    filename: str | None = None
    told: str = ""

    def batches(self, chunk_rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Its rows, of the columns that are asked for: its own, those of its path and its name."""
        own = [name for name in names if name in self.schema.names] or self.schema.names[:1]
        for batch in self.format.batches(self.file, chunk_rows, own):
            whole = with_partitions(batch, self.file)
            if self.filename is not None:
                whole = whole.append_column(self.filename, pa.repeat(self.file.given, whole.num_rows))
            yield whole.select(names)


def open_files(paths: Paths, reading: Reading = WHOLE, known: KnownFiles | None = None) -> ArrowSource:
    """Open files as one source; columns are those of the first file, matched by name in the others.

    Parameters
    ----------
    known : KnownFiles or None
        Those that are passed over, because they are loaded already. If all are, the first one tells the columns.

    Raises
    ------
    PlanError
        When a path or glob matches no readable file, or a file's kind is unknown.
    SchemaMismatch
        When a file does not have the columns of the first one.
    """
    return open_listing(listing_of(paths, reading), reading, known)


def listing_of(paths: Paths, reading: Reading) -> Listing:
    """The files that the paths stand for."""
    return listed(paths, functools.partial(kind_name, given=reading.format))


def open_listing(listing: Listing, reading: Reading = WHOLE, known: KnownFiles | None = None) -> ArrowSource:
    """Open files that were found, as `open_files` does."""
    found, contents = (listing, ()) if known is None else _new_ones(listing, known)
    opened = [_opened(file, reading) for file in found.files or listing.files[:1]]
    files = opened if found.files else []
    offered = _with_filename(_offered(opened), opened[0])
    counts = [one.rows for one in files]
    rows = None if None in counts else sum(count for count in counts if count is not None)
    name = opened[0].file.name if len(listing.files) == 1 else f"{len(files) or len(listing.files)} files"
    before = [one.format.lines_before(one.file) if one.format.lines_before else 0 for one in files]
    are_whole = rows is None and all(file.part is None for file in found.files)
    about = about_rows(found.files, counts, before) if are_whole else None
    position = FilePosition(list(found.files), about)
    names = selected(offered.names, reading.columns, name)
    told: dict[str, Any] = {
        "paths": _paths_again(found, reading),
        "position": position,
        "about": about,
        "facts": (*found.facts, *_facts(opened)),
        "contents": contents,
        "passed_over": len(listing.files) - len(found.files),
    }
    schema = pa.schema([offered.field(one) for one in names])
    reads = functools.partial(_chunks, files, contents, names, position)
    return ArrowSource(name, schema, rows, reads, loader="load_files", **told)


def listings_of_parts(listing: Listing, reading: Reading) -> list[Listing]:
    """Files as parts that can be read apart from each other, in their order: each file, or pieces of a large one.

    Raises
    ------
    PlanError
        When one can be read once, and here.
    """
    if any(isinstance(file, OpenFile) for file in listing.files):
        hint = "Pass its path, or load it without client=."
        raise PlanError("the workers cannot read what is open in this process", hint=hint)
    parts = []
    for file in listing.files:
        with _unreadable(file):
            how = kind_of(file, reading.format)[0].open(file, reading)
            parts += [file] if how.parts is None else how.parts(file)
    single = [replace(one, _opened=[]) for one in parts]  # an open stream cannot be sent
    return [Listing((one,), (one.path,), (one.given,)) for one in single]


def _chunks(
    files: list[OpenedFile],
    contents: tuple[FileContent, ...],
    names: list[str],
    position: FilePosition,
    chunk_rows: int,
) -> Iterator[pa.RecordBatch]:
    def parts() -> Iterator[pa.RecordBatch]:
        for position.number, one in enumerate(files, start=1):
            for batch in _read(one, chunk_rows, names):
                position.rows += batch.num_rows
                yield batch
            if contents:
                contents[position.number - 1].check()

    return rechunk(parts(), chunk_rows)


def _new_ones(found: Listing, known: KnownFiles) -> tuple[Listing, tuple[FileContent, ...]]:
    """The files that are not known, and what is in them."""
    looked_at = [(file, content) for file, content in zip(found.files, contents_of(found.files), strict=True)]
    new = [(file, content) for file, content in looked_at if not known.has(content)]
    files, contents = tuple(file for file, _ in new), tuple(content for _, content in new)
    again = () if any(file.partitions for file in files) else tuple(file.path for file in files)
    passed_over = len(found.files) - len(files)
    told = f"{quantity(passed_over, 'file')} of {len(found.files):,} passed over, which the ledger knows as loaded"
    facts = (*found.facts, ("only_new", told))
    return Listing(files, again, tuple(file.given for file in files) if again else (), facts), contents


def _paths_again(found: Listing, reading: Reading) -> tuple[str, ...]:
    """The paths for who continues the load in another process; none for URLs, which may hold a secret."""
    if not all(file.is_local and file.part is None for file in found.files):
        return ()
    return found.again if reading.filename is None else found.as_given  # under other paths it would have other values


def _offered(files: list[OpenedFile]) -> pa.Schema:
    """The columns of the first file, those of its path behind its own; all files must have them."""
    fields = partition_fields(one.file for one in files)
    schemas = [
        pa.schema([*one.schema, *(fields[name] for name, _ in one.file.partitions if name not in one.schema.names)])
        for one in files
    ]
    for one, schema in zip(files, schemas, strict=True):
        _check_columns(one.file, schema, files[0].file, schemas[0])
    return pa.schema([_common(name, schemas) for name in schemas[0].names])


def _with_filename(offered: pa.Schema, first: OpenedFile) -> pa.Schema:
    name = first.filename
    if name in offered.names:
        hint = f"Pass another name: filename={f'{name}_'!r}."
        raise PlanError(f"{first.file.name} has a column {name!r}, which filename= would add", hint=hint)
    return offered if name is None else offered.append(pa.field(name, pa.string()))


def _common(name: str, schemas: list[pa.Schema]) -> pa.Field:
    """The column of the first file; that its type is another one in a later file is told."""
    field = schemas[0].field(name)
    varies = any(one.field(name).type != field.type for one in schemas)
    return varying(field) if varies else field


def _facts(files: list[OpenedFile]) -> tuple[tuple[str, str], ...]:
    """How the files are written, where it had to be found out; the same of several is said once."""
    found: dict[str, list[str]] = {}
    for one in files:
        if one.format.facts is not None and (told := one.format.facts(one.file)):
            found.setdefault(told, []).append(one.file.name)
    written = [(names[0] if len(files) > 1 else files[0].kind.name, told) for told, names in found.items()]
    return (*(("format", one.told) for one in files if one.told), *written)


def _check_sheets(file: File, kind: Kind, reading: Reading) -> None:
    """Refuse options that would say nothing."""
    for name in ("sheet", "cells"):
        if kind.name != "excel" and getattr(reading, name) is not None:
            raise PlanError(f"{name}= is for spreadsheets, and {file.name} is none", hint=f"Leave {name}= out.")


def _opened(file: File, reading: Reading) -> OpenedFile:
    with _unreadable(file):
        kind, told = kind_of(file, reading.format)
        _check_sheets(file, kind, reading)
        how = kind.open(file, reading)
        opened = OpenedFile(file, kind, how, how.schema(file), how.rows(file), reading.filename, told)
        file.rewind()
    check_names(opened.schema.names)
    return opened


@contextlib.contextmanager
def _unreadable(file: File) -> Iterator[None]:
    """Say which file it is that cannot be read."""
    try:
        yield
    except Exception as error:
        if not file.fails_by(error):
            raise
        hint = "Check that the file is complete, may be read, and is what its name says."
        what = f"{file.place} cannot be read: {hidden(in_words(error))}"
        raise PlanError(what, hint=hint) from cause(error)


def _check_columns(file: File, schema: pa.Schema, first: File, expected: pa.Schema) -> None:
    differing = sorted(set(schema.names) ^ set(expected.names))
    if differing:
        facts = f"{file.name} has {', '.join(schema.names)}; {first.name} has {', '.join(expected.names)}"
        hint = f"Load them separately, or make them agree on: {', '.join(differing)}."
        raise SchemaMismatch(f"the files do not have the same columns: {facts}", hint=hint)


def _read(one: OpenedFile, chunk_rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from one.batches(chunk_rows, names)
        one.file.finish()
    except Exception as error:
        if not one.file.fails_by(error):
            raise
        hint = "Correct or replace the file and load again."
        what = f"{one.file.place} cannot be read further: {hidden(in_words(error))}"
        raise LoadError(what, hint=hint, committed_rows=0) from cause(error)
    finally:
        one.file.rewind()
