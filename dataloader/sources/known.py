"""Files that are known by their content: the option `only_new`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import xxhash

from dataloader.errors import LoadError, PlanError

_BLOCK = 1 << 20


class LocalFile(Protocol):
    """A file, as far as it can be recognized."""

    @property
    def path(self) -> str: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file and what is in it.

    Attributes
    ----------
    state : tuple of int
        What changes when somebody writes into it.
    """

    path: str
    size: int
    digest: str
    state: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """The path as a database can store it."""
        return os.fsencode(self.path).decode(errors="backslashreplace")

    def is_as_in(self, other: FileContent) -> bool:
        """Whether both have the same content."""
        return (self.size, self.digest) == (other.size, other.digest)

    def check(self) -> None:
        """Refuse a file that was changed since its content was looked at.

        Raises
        ------
        LoadError
            Naming it.
        """
        if _state(self.path) != self.state:
            hint = "Load it again when nobody writes into it any more."
            raise LoadError(f"{self.key} was changed while it was loaded", hint=hint, committed_rows=0)


def content_of(file: LocalFile) -> FileContent:
    """Read a file for its content.

    Raises
    ------
    PlanError
        When it is not a local file.
    """
    if not file.is_local or not os.path.isfile(os.fsencode(file.path)):
        hint = "Leave only_new= out, or load copies of the files."
        raise PlanError(f"only_new= is for local files, and {file.name} is none", hint=hint)
    state, digest = _state(file.path), xxhash.xxh3_128()
    with open(os.fsencode(file.path), "rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return FileContent(file.path, state[0], digest.hexdigest(), state)


def _state(path: str) -> tuple[int, ...]:
    found = os.stat(os.fsencode(path))
    return found.st_size, found.st_mtime_ns, found.st_ino


def contents_of(files: Sequence[LocalFile]) -> list[FileContent]:
    """Read files for their contents.

    Raises
    ------
    PlanError
        When one is there twice, or is not a local file.
    """
    for path, count in Counter(file.path for file in files).items():
        if count > 1:
            raise PlanError(f"{path} is named twice", hint="Name every file once: only_new= loads it once.")
    return [content_of(file) for file in files]


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """The files that a table's ledger knows as loaded, by their paths.

    Attributes
    ----------
    may_change : bool
        Whether a file that has other content now is loaded again: its rows are merged by their keys.
    """

    contents: Mapping[str, FileContent]
    may_change: bool = False

    def has(self, content: FileContent) -> bool:
        """Whether a file was loaded before.

        Raises
        ------
        PlanError
            When the file has other content now, so that some of its rows would be there twice.
        """
        before = self.contents.get(content.key)
        if before is None or content.is_as_in(before):
            return before is not None
        if self.may_change:
            return False
        hint = "Write new rows into new files, or pass on_conflict='update' or 'ignore', which merges them by key."
        sizes = f"{before.size:,} bytes then, {content.size:,} now"
        raise PlanError(f"{content.key} has changed since it was loaded: {sizes}", hint=hint)
