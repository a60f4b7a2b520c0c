"""Where files lie: paths, globs, lists and URLs become files of a filesystem."""

from __future__ import annotations

import glob
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.fs

from dataloader.conversion.documents import NotJson
from dataloader.errors import DataLoaderError, PlanError
from dataloader.sources import streams, urls
from dataloader.sources.folders import LEFT_OUT, KindName, Partitions, files_below, of_one_kind, partitions_of
from dataloader.sources.urls import hidden

GZIP = b"\x1f\x8b"
OnePath = str | os.PathLike[str] | IO[bytes]
Paths = OnePath | Iterable[OnePath]


class TooLarge(Exception):
    """A row that would take too much to read."""


_UNREADABLE = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError, NotJson, TooLarge)


@dataclass(frozen=True, slots=True)
class File:
    """A file where it lies: a filesystem of Arrow's and the path in it.

    Attributes
    ----------
    given : str
        The path as the caller spelled it, without secrets.
    partitions : tuple of (str, str or None)
        The columns that its folders are.
    part : range or None
        Which row groups of a Parquet file, or bytes of a CSV file, are read; None for all.
    """

    filesystem: pa.fs.FileSystem
    path: str
    given: str = ""
    partitions: Partitions = ()
    part: range | None = None
    _opened: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def name(self) -> str:
        return shown(PurePosixPath(urls.without_query(self.path)).name)

    @property
    def place(self) -> str:
        """Where it is, for people, without secrets."""
        return hidden(self.path) if self.is_local else self.given

    @property
    def is_gzipped(self) -> bool:
        """By its name, or by its first bytes, if they can be read more than once."""
        if self.name.lower().endswith(".gz") or not self.size:
            return self.name.lower().endswith(".gz")
        with self.random_access() as opened:
            return bool(opened.read(2) == GZIP)

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pa.fs.LocalFileSystem)

    def stream(self, compression: str | None = "by name") -> Any:
        if compression == "by name":
            compression = "gzip" if self.is_gzipped else None
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

    def head(self, count: int) -> bytes:
        """Its first bytes."""
        with self.random_access() as opened:
            return bytes(opened.read(count))

    def rewind(self) -> None:
        """Leave it as it was before it was looked at."""

    def finish(self) -> None:
        """It has been read to its end."""

    def _sequential(self) -> Any:
        return self.filesystem.open_input_stream(self._spelled, compression=None)

    @property
    def _spelled(self) -> str | bytes:
        """Arrow encodes a str as UTF-8, which the name of a file need not be, nor the locale."""
        return os.fsencode(self.path) if self.is_local else self.path


@dataclass(frozen=True, slots=True)
class OpenFile(File):
    """A file that the caller has opened: what is in it is said by its bytes, whatever it is called."""

    shared: Any = None

    @property
    def is_gzipped(self) -> bool:
        return self.head(2) == GZIP

    @property
    def size(self) -> int | None:
        return None

    def head(self, count: int) -> bytes:
        return bytes(self.shared.read_at(0, count))

    def random_access(self) -> Any:
        return pa.PythonFile(streams.Reader(self.shared), mode="r")

    def rewind(self) -> None:
        self.shared.rewind()

    def finish(self) -> None:
        self.shared.finish()

    def _sequential(self) -> Any:
        return self.random_access()


def are_paths(data: object) -> bool:
    """Whether `data` is what `load_files` takes, rather than a table."""
    paths = data if isinstance(data, (list, tuple)) and data else [data]
    return all(isinstance(path, (str, os.PathLike)) or streams.is_open_file(path) for path in paths)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that paths stand for.

    Attributes
    ----------
    again : tuple of str
        Paths that stand for the same files, wherever they are called from.
    as_given : tuple of str
        The same as the caller spelled them.
    facts : tuple of (str, str)
        What was found in folders.
    """

    files: tuple[File, ...] = ()
    again: tuple[str, ...] = ()
    as_given: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def listed(paths: Paths, kind_name: KindName) -> Listing:
    """Find the files that paths, globs, folders and URLs stand for.

    Raises
    ------
    PlanError
        When one of them stands for no file.
    """
    if isinstance(paths, Mapping) or hasattr(paths, "__arrow_c_stream__") or hasattr(paths, "to_records"):
        what = f"expected paths of files, got {type(paths).__name__}"
        raise PlanError(what, hint="Load it with load_dataframe(data, table).")
    is_one = isinstance(paths, (str, os.PathLike)) or streams.is_open_file(paths)
    if isinstance(paths, bytes) or not (is_one or isinstance(paths, Iterable)):
        what = f"{hidden(repr(paths))} is not a path"
        raise PlanError(what, hint="Pass a path, a glob or a URL as text, an open file, or a list of them.")
    given: list[Any] = [paths] if is_one else list(paths)  # type: ignore[arg-type]  # it is no path
    opened = [id(path) for path in given if streams.is_open_file(path)]
    if len(set(opened)) < len(opened):
        raise PlanError("an open file is in the list twice", hint="Pass it once.")
    if not given:
        raise PlanError("the list of files is empty", hint="Pass at least one path.")
    found = [_expanded(path, kind_name) for path in given]
    return Listing(*(tuple(itertools.chain.from_iterable(getattr(one, name) for one in found)) for name in _LISTED))


_LISTED = ("files", "again", "as_given", "facts")


def _expanded(path: OnePath, kind_name: KindName) -> Listing:
    if streams.is_open_file(path):
        return _open_file(path)
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text:
        raise PlanError(f"{hidden(repr(path))} is not a path", hint="Pass a path, a glob or a URL as text.")
    if "://" in text:
        return _remote(text, kind_name)
    text = text if os.path.exists(text) else os.path.expanduser(text)
    if os.path.isdir(text):
        return _folder(text, kind_name)
    if os.path.exists(text):
        return _separate([_local(text)])
    if glob.has_magic(text):
        return _matching(text)
    raise PlanError(f"there is no file {text!r}", hint=f"The folder searched from is {os.getcwd()}.")


def _open_file(data: object) -> Listing:
    name, shared = streams.name_of(data), streams.shared(data)
    told = "it is read once, and kept in a temporary file meanwhile; to continue the load, pass it again from its start"
    facts = ((name, told),) if shared.is_kept else ()
    return Listing((OpenFile(None, name, name, shared=shared),), facts=facts)


def _separate(files: list[File]) -> Listing:
    return Listing(tuple(files), tuple(file.path for file in files), tuple(file.given for file in files))


def _together(files: list[File], given: str, whole: str, facts: tuple[tuple[str, str], ...] = ()) -> Listing:
    """Files that a folder or a glob stands for: where their paths are columns, single files would not have them."""
    if any(file.partitions for file in files):
        return Listing(tuple(files), (whole,), (given,), facts)
    return replace(_separate(files), facts=facts)


def _local(given: str, base: str | None = None) -> File:
    path = os.path.abspath(given)
    return File(pa.fs.LocalFileSystem(), path, shown(given), () if base is None else partitions_of(path, base))


def _folder(path: str, kind_name: KindName) -> Listing:
    base = os.path.abspath(path)
    known, told = of_one_kind(path, files_below(path), kind_name)
    return _together([_local(one, base) for one in known], path, base, (("folder", told),))


def _matching(pattern: str) -> Listing:
    found = sorted(glob.glob(pattern, recursive=True))
    matches = [one for one in found if not os.path.isdir(one)]
    if found and not matches:
        raise PlanError(f"{pattern!r} matches folders only", hint="Load the folder that they are in, or one of them.")
    if not matches:
        raise PlanError(f"no file matches {pattern!r}", hint=f"The folder searched from is {os.getcwd()}.")
    whole = os.path.join(glob.escape(os.getcwd()), pattern)
    base = os.path.abspath(urls.before_magic(pattern))
    return _together([_local(match, base) for match in matches], pattern, whole)


def _remote(url: str, kind_name: KindName) -> Listing:
    found = urls.found_at(url)
    if isinstance(found.filesystem, pa.fs.LocalFileSystem) and os.path.isdir(found.paths[0]):
        return _folder(found.paths[0], kind_name)
    if found.stream is not None:
        return _once(found, url)
    if found.base is not None:
        matches = [_remote_file(found.filesystem, one, url, partitions_of(one, found.base)) for one in found.paths]
        return _separate(matches)
    return _remote_files(found.filesystem, found.paths[0], url, kind_name)


def _once(found: urls.Found, url: str) -> Listing:
    """A file of which the server gives no parts."""
    given = urls.without_secrets(url)
    told = "its server gives it as a whole only: it is read once, and kept in a temporary file meanwhile"
    file = OpenFile(None, given, given, shared=streams.shared(found.stream))
    return Listing((file,), facts=((file.name, told),))


def _remote_file(filesystem: pa.fs.FileSystem, path: str, url: str, partitions: Partitions = ()) -> File:
    full = path if "://" in path else f"{url.partition('://')[0]}://{path}"
    return File(filesystem, path, urls.without_secrets(full), partitions)


def _remote_files(filesystem: pa.fs.FileSystem, path: str, url: str, kind_name: KindName) -> Listing:
    """A file, or those of a folder: whether it is one is asked for what has the name of no file that can be read."""
    name = PurePosixPath(urls.without_query(path)).name
    if kind_name(name) is not None or not urls.is_folder(filesystem, path, url):
        return _separate([_remote_file(filesystem, path, url)])
    below = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
    relative = {one.path: PurePosixPath(one.path).relative_to(path.rstrip("/")).parts for one in below if one.is_file}
    seen = sorted(one for one, parts in relative.items() if not any(part.startswith(LEFT_OUT) for part in parts))
    known, told = of_one_kind(hidden(url), seen, kind_name)
    files = [_remote_file(filesystem, one, url, partitions_of(one, path)) for one in known]
    return replace(_separate(files), facts=(("folder", told),))


def shown(path: str) -> str:
    """A path as text, whatever the locale takes its bytes for."""
    return os.fsencode(path).decode(errors="backslashreplace")
