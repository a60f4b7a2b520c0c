"""Open files: every reader of one has a position of its own, and what can be read once is kept on disk meanwhile."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import tempfile
import threading
import weakref
from typing import Any, Protocol

from dataloader.errors import PlanError

_BLOCK = 1 << 20


def is_open_file(data: object) -> bool:
    """Whether it is an open file, or anything else that is read in bytes."""
    return callable(getattr(data, "read", None)) and not hasattr(data, "__arrow_c_stream__")


class Shared(Protocol):
    """The bytes of an open file for several readers, from where it stood when it was passed."""

    is_kept: bool

    def read_at(self, at: int, count: int) -> bytes:
        """So many bytes, or fewer at the end."""

    def size(self) -> int:
        """How many there are, found out by reading to the end if need be."""

    def rewind(self) -> None:
        """Leave the file where it stood, if it can."""

    def finish(self) -> None:
        """It has been loaded."""


class _Seekable:
    """A file that can be read again; afterwards it stands where it stood."""

    is_kept = False

    def __init__(self, data: Any) -> None:
        self._data, self._start = data, int(data.tell())
        self._lock = threading.Lock()

    def read_at(self, at: int, count: int) -> bytes:
        with self._lock:
            if self._data.tell() != self._start + at:  # what is packed is read from its beginning for each seek
                self._data.seek(self._start + at)
            return _read(self._data, count)

    def size(self) -> int:
        with self._lock:
            self._data.seek(0, os.SEEK_END)
            return int(self._data.tell()) - self._start

    def rewind(self) -> None:
        with self._lock, contextlib.suppress(ValueError):  # the caller has closed it
            self._data.seek(self._start)

    def finish(self) -> None:
        self.rewind()


class _Spool:
    """What has been read of a stream, in a temporary file; it does not keep the stream alive."""

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryFile(prefix="dataloader-")
        self._length, self._has_ended = 0, False
        self._lock = threading.Lock()

    @property
    def is_closed(self) -> bool:
        return self._kept.closed

    def close(self) -> None:
        self._kept.close()

    def read_at(self, at: int, count: int, data: Any) -> bytes:
        with self._lock:
            self._fetch(at + count, data)
            self._kept.seek(at)
            return self._kept.read(count)

    def size(self, data: Any) -> int:
        with self._lock:
            while not self._has_ended:
                self._fetch(self._length + _BLOCK, data)
        return self._length

    def _fetch(self, end: int, data: Any) -> None:
        self._kept.seek(self._length)
        while self._length < end and not self._has_ended:
            block = _read(data, min(_BLOCK, end - self._length))
            self._has_ended = not block
            self._length += self._kept.write(block)


class _Spooled:
    """A stream that can be read once."""

    is_kept = True

    def __init__(self, data: Any, spool: _Spool) -> None:
        self._data, self._spool = data, spool

    def read_at(self, at: int, count: int) -> bytes:
        return self._spool.read_at(at, count, self._data)

    def size(self) -> int:
        return self._spool.size(self._data)

    def rewind(self) -> None:
        """The next one to read it begins with what is kept."""

    def finish(self) -> None:
        self._spool.close()


def _read(data: Any, count: int) -> bytes:
    """So many bytes, or fewer at the end: a pipe or a socket may give fewer at a time."""
    parts: list[bytes] = []
    while count > 0 and (part := data.read(count)):
        if not isinstance(part, (bytes, bytearray, memoryview)):
            what = f"{name_of(data)} gives {type(part).__name__}, and not bytes"
            raise PlanError(what, hint="Open it in binary mode: open(path, 'rb').")
        parts.append(bytes(part))
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


_spools: dict[int, tuple[Any, _Spool]] = {}
"""The streams that were begun, each by its id for as long as it lives: a plan reads the beginning, and the load too."""


def shared(data: Any) -> Shared:
    """The bytes of an open file, for as many readers as want them.

    Raises
    ------
    PlanError
        When it is no binary file, is closed, or has been loaded and cannot be read again.
    """
    _check(data)
    if _is_seekable(data):
        return _Seekable(data)
    if id(data) not in _spools:
        _spools[id(data)] = (_reference(data), _Spool())
    _, spool = _spools[id(data)]
    if spool.is_closed:
        what = f"{name_of(data)} has been read already"
        raise PlanError(what, hint="It can be read once: open it anew for every load and validation.")
    return _Spooled(data, spool)


def _reference(data: Any) -> Any:
    key, known = id(data), _spools  # while Python ends, modules are empty

    def forget(_: Any) -> None:
        if key in known:
            known.pop(key)[1].close()

    try:
        return weakref.ref(data, forget)
    except TypeError:  # it has no weak references, and its id must stay its own
        return data


def _is_seekable(data: Any) -> bool:
    try:
        return bool(data.seekable()) and data.tell() >= 0
    except (AttributeError, OSError, ValueError):  # ValueError: it is closed
        return False


def _check(data: Any) -> None:
    name = name_of(data)
    if isinstance(data, io.StringIO):
        raise PlanError(f"{name} is text, and not bytes", hint="Pass io.BytesIO(text.encode()).")
    if isinstance(data, io.TextIOBase):
        raise PlanError(f"{name} is open as text", hint="Open it in binary mode: open(path, 'rb').")
    if inspect.iscoroutinefunction(data.read):
        hint = "Read it first and pass io.BytesIO(await file.read()), or pass its path."
        raise PlanError(f"{name} is read by an async function", hint=hint)
    if getattr(data, "closed", False) is True and id(data) not in _spools:  # a response closes itself at its end
        raise PlanError(f"{name} is closed", hint="Load it while it is open.")


def name_of(data: Any) -> str:
    """What the user would call it: the file's name, or what kind of object it is."""
    name = getattr(data, "name", None) or getattr(data, "filename", None)
    if not isinstance(name, str):
        return type(data).__name__
    name = name.partition("?")[0] if "://" in name else name
    return os.path.basename(name).strip("<>") or type(data).__name__


class Reader(io.RawIOBase):
    """One reader of an open file, with its own position."""

    def __init__(self, data: Shared) -> None:
        self._shared, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (self._shared.size() if base is None else base)
        return self._at

    def read(self, count: int | None = -1) -> bytes:
        if count is None or count < 0:
            count = self._shared.size() - self._at
        found = self._shared.read_at(self._at, count)
        self._at += len(found)
        return found
