"""Where files lie: paths, globs, lists and URLs become files of a filesystem."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs

from dataloader.conversion.documents import NotJson
from dataloader.errors import DataLoaderError, PlanError
from dataloader.formatting import one_line

_USER = re.compile(r"://[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^?#\s]*[?#]).*", re.DOTALL)
"""Signed URLs have their token in it; where one ends that is not encoded is unknown."""
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class TooLarge(Exception):
    """A row that would take too much to read."""


_UNREADABLE = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError, NotJson, TooLarge)


@dataclass(frozen=True, slots=True)
class File:
    """A file where it lies: a filesystem of Arrow's and the path in it."""

    filesystem: pa.fs.FileSystem
    path: str
    _opened: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def name(self) -> str:
        name = PurePosixPath(without_query(self.path)).name
        return os.fsencode(name).decode(errors="backslashreplace")  # whatever the locale takes its bytes for

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pa.fs.LocalFileSystem)

    def stream(self, compression: str | None = "by name") -> Any:
        if compression == "by name":
            compression = "gzip" if self.name.lower().endswith(".gz") else None
        opened = self.random_access if self.size else self._sequential  # Arrow tells the position of the former only
        stream = opened()
        self._opened[:] = [stream]
        return stream if compression is None else pa.CompressedInputStream(stream, compression)

    @property
    def size(self) -> int | None:
        """In bytes: of a pipe 0; None where it is not known without asking somebody else."""
        return os.path.getsize(self._spelled) if self.is_local else None

    @property
    def bytes_read(self) -> int | None:
        """How far the stream that was opened last has been read; None where none was, or it is closed."""
        try:
            return int(self._opened[0].tell())
        except (IndexError, ValueError, OSError):
            return None

    def fails_by(self, error: Exception) -> bool:
        """Whether the file or its filesystem is to blame; a filesystem that is not Arrow's raises what it likes."""
        return not isinstance(error, DataLoaderError) and (isinstance(error, _UNREADABLE) or not self.is_local)

    def random_access(self) -> Any:
        return self.filesystem.open_input_file(self._spelled)

    def _sequential(self) -> Any:
        return self.filesystem.open_input_stream(self._spelled, compression=None)

    @property
    def _spelled(self) -> str | bytes:
        """Arrow encodes a str as UTF-8, which the name of a file need not be, nor the locale."""
        return os.fsencode(self.path) if self.is_local else self.path


def are_paths(data: object) -> bool:
    """Whether `data` is what `load_files` takes, rather than a table."""
    paths = data if isinstance(data, (list, tuple)) and data else [data]
    return all(isinstance(path, (str, os.PathLike)) for path in paths)


def listed(paths: Paths) -> list[File]:
    if isinstance(paths, bytes) or not isinstance(paths, (str, os.PathLike, Iterable)):
        what = f"{hidden(repr(paths))} is not a path"
        raise PlanError(what, hint="Pass a path, a glob or a URL as text, or a list of them.")
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise PlanError("the list of files is empty", hint="Pass at least one path.")
    return [file for path in given for file in _expanded(path)]


def _expanded(path: str | os.PathLike[str]) -> list[File]:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text:
        raise PlanError(f"{hidden(repr(path))} is not a path", hint="Pass a path, a glob or a URL as text.")
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
        raise PlanError(f"no file matches {hidden(url)!r}", hint="Check the URL.")
    return [File(pa.fs.PyFileSystem(pa.fs.FSSpecHandler(filesystem)), match) for match in matches]


def _fsspec(url: str) -> tuple[Any, list[str]]:
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an optional library, only for URLs Arrow cannot read

        filesystem, path = url_to_fs(url)
        return filesystem, sorted(filesystem.glob(path)) if glob.has_magic(without_query(path)) else [path]
    except Exception as error:  # of any library: each has errors of its own
        hint = "Install fsspec and the package of that filesystem, or copy the file here."
        what = f"no filesystem is known for {hidden(url)!r}: {hidden(one_line(error))}"
        raise PlanError(what, hint=hint) from cause(error)


def without_query(path: str) -> str:
    """A path as its file is called: over HTTP the whole URL is the path."""
    return path.partition("?")[0].partition("#")[0] if "://" in path else path


def hidden(text: str) -> str:
    """A text in which no URL shows its user, its password or its query."""
    return _QUERY.sub(r"\1***", _USER.sub("://***@", text))


def cause(error: Exception) -> Exception | None:
    """The error, if its text may be shown."""
    return error if hidden(str(error)) == str(error) else None
