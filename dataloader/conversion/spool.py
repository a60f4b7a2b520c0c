"""A spool: objects that are kept for later, in memory up to a bound and beyond it on disk."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from dataloader.errors import LoadError

SPOOLED_BYTES = 16 << 20
"""How much of a spool stays in memory."""


class Spool:
    """Keeps objects by their number; the file has no name, so that it is gone with the spool or the process."""

    def __init__(
        self, content: bytes = b"", offsets: Sequence[int] = (), unpicklable: dict[int, object] | None = None
    ) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES)
        weakref.finalize(self, self._file.close)
        self._file.write(content)
        self._offsets = list(offsets)
        self._unpicklable = dict(unpicklable or {})
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Any]:
        return map(self.read, range(len(self)))

    def __reduce__(self) -> tuple[type[Spool], tuple[bytes, list[int], dict[int, object]]]:
        with self._lock:
            self._file.seek(0)
            return Spool, (self._file.read(), self._offsets, self._unpicklable)

    def add(self, item: object) -> int:
        """Keep an object; returns its number.

        Raises
        ------
        LoadError
            When the folder for temporary files is full.
        """
        with self._lock:
            try:
                offset = self._file.seek(0, os.SEEK_END)
                self._file.write(self._pickled(item))
                self._file.flush()
            except OSError as error:
                what = f"what was refused cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}"
                raise LoadError(what, hint="Make room there, or name another folder in TMPDIR.") from error
            self._offsets.append(offset)
            return len(self._offsets) - 1

    def _pickled(self, item: object) -> bytes:
        """A label of the caller's index may be an object that cannot be pickled; such ones stay in memory."""
        try:
            return pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        except Exception:
            self._unpicklable[len(self)] = item
            return b""

    def read(self, number: int) -> Any:
        """An object that was kept."""
        if number in self._unpicklable:
            return self._unpicklable[number]
        with self._lock:
            self._file.seek(self._offsets[number])
            return pickle.load(self._file)  # only what this process has written
