"""A file that has its name when it is whole, or never."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import secrets
import time
from pathlib import Path
from typing import Any

from dataloader.errors import PlanError

_STALE_SECONDS = 60.0
_NAME_CHARACTERS = 60
"""A name may have 255 bytes, and that of the file beside it has some more than its own."""


class AtomicFile:
    """A file that is written beside its place under a hidden name, and takes its place when it is whole.

    What a killed process has left there the next one for the same place takes away.

    Parameters
    ----------
    replaces : bool
        Whether it may take the place of another file.

    Raises
    ------
    OSError
        When the file cannot be made.
    """

    def __init__(self, path: Path, *, replaces: bool) -> None:
        self._path = Path(os.path.realpath(path))  # of a link to a file that file is replaced, and not the link
        self._replaces = replaces
        prefix = f".{self._path.name[:_NAME_CHARACTERS]}."
        with contextlib.suppress(OSError):  # a folder may be written and not be listed
            _take_away(self._path.parent, prefix)
        self._beside = self._path.with_name(f"{prefix}{secrets.token_hex(4)}.part")
        self._number = os.open(self._beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        _lock(self._number)
        self._is_given_up = False
        self.nbytes = 0

    def write(self, data: Any) -> int:
        """Write all of it.

        Raises
        ------
        OSError
            When the disk is full, or the file was given up.
        """
        view = memoryview(data).cast("B")
        count = len(view)
        while len(view):
            if self._is_given_up:
                raise InterruptedError("the file was given up")
            view = view[os.write(self._number, view[: 1 << 22]) :]
        self.nbytes += count
        return count

    def put(self) -> None:
        """Give it its name.

        Raises
        ------
        FileExistsError
            When there is another file by now, which must not be replaced.
        """
        os.fsync(self._number)
        if self._replaces:
            with contextlib.suppress(FileNotFoundError):
                self._beside.chmod(self._path.stat().st_mode & 0o7777)
            self._beside.replace(self._path)
        else:
            self._link()
        self.close()
        with contextlib.suppress(OSError):  # Windows opens no folder
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _link(self) -> None:
        """As a rename would replace what is there."""
        try:
            os.link(self._beside, self._path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if self._path.exists():
                raise FileExistsError(17, "File exists", str(self._path)) from None
            self._beside.rename(self._path)
        else:
            self._beside.unlink()

    def give_up(self) -> None:
        """Have whoever is writing fail, and take the file away."""
        self._is_given_up = True
        self._beside.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def stream(self) -> _Stream:
        """It for Arrow, which closes what it has written."""
        return _Stream(self)


class _Stream(io.RawIOBase):
    def __init__(self, file: AtomicFile) -> None:
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


def check_place(path: Path, *, replaces: bool) -> None:
    """Check that a file can be put there.

    Raises
    ------
    PlanError
        When there is no such folder, or there is something already.
    """
    if not path.parent.is_dir():
        raise PlanError(f"there is no folder {str(path.parent)!r}", hint="Create it, or correct the path.")
    if path.is_dir():
        raise PlanError(f"{str(path)!r} is a folder", hint="Give the name of the file as well.")
    if path.exists() and not path.is_file():
        what = f"{str(path)!r} is no regular file, and would be replaced by one"
        raise PlanError(what, hint="Choose the path of a file.")
    if path.exists() and not replaces:
        hint = "Pass if_exists='replace', or choose another name."
        raise PlanError(f"the file {str(path)!r} exists", hint=hint)


def _lock(number: int) -> bool:
    """Hold the file's lock until it is closed, and tell whether it was to be had; Windows has none of the kind."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _take_away(folder: Path, prefix: str) -> None:
    """Take away the files that nobody holds any more; a new one may not be locked yet."""
    for path in folder.iterdir():
        if not (path.name.startswith(prefix) and path.name.endswith(".part")):
            continue
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < _STALE_SECONDS:
                continue
            number = os.open(path, os.O_RDONLY)
            try:
                if _lock(number):
                    path.unlink()
            finally:
                os.close(number)
