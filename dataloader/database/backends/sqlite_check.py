"""What is looked at of a SQLite file before loads: one line each, with what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataloader.database.backends.checking import Finding
from dataloader.formatting import size

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

LEAST_BYTES = 100_000_000
"""With less room than this on its disk the next load may fill it."""


async def check(backend: Any, connection: object, engine: AsyncEngine, table: object, **_: bool) -> list[Finding]:
    """What there is to say of a file, or of a database in memory."""
    path = None if backend.is_in_memory(engine) else backend.file_of(engine.url)
    return await asyncio.to_thread(lambda: [*_looked_at(path)])


def _looked_at(path: Path | None) -> Iterator[Finding]:
    """The file, its rights, its journal, its lock and its disk; None: a database in memory."""
    yield Finding("ok", "connection", f"SQLite {sqlite3.sqlite_version}")
    if path is None:
        yield Finding(
            "note", "file", "in memory: it ends with the engine", "Name a file to keep it: sqlite:///file.db."
        )
        return
    yield from _rights(path)
    if path.exists():
        yield from _file(path)
    room = shutil.disk_usage(path.parent).free
    if room < LEAST_BYTES:
        yield Finding("problem", "disk", f"{size(room)} are free for {path.name}", "Make room before the next load.")
    else:
        yield Finding("ok", "disk", f"{size(room)} are free")


def _rights(path: Path) -> Iterator[Finding]:
    remedy = "Have the rights of the file and of its folder changed: SQLite keeps its journal beside the file."
    if not os.access(path.parent, os.W_OK | os.X_OK):
        yield Finding("problem", "file", f"the folder {path.parent} may not be written to", remedy)
    elif not path.exists():
        yield Finding("ok", "file", f"{path} is not there yet: the first load makes it")
    elif not os.access(path, os.W_OK):
        yield Finding("problem", "file", f"{path} may not be written to", remedy)
    else:
        yield Finding("ok", "file", f"{path} may be written to")


def _file(path: Path) -> Iterator[Finding]:
    """What SQLite says of it; no lock is waited for."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as database:
        try:
            journal = database.execute("PRAGMA journal_mode").fetchone()[0]
            if journal == "wal":
                yield Finding("ok", "journal", "WAL: it can be read while it is written")
            else:
                says = f"the journal is {journal}: readers and a load wait for each other; a load makes it WAL"
                yield Finding(
                    "note", "journal", says, "Load by an engine of connect(url), or PRAGMA journal_mode = WAL."
                )
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            remedy = "Another program has the file open, in a transaction: end it there. A load waits for it for 30 s."
            yield Finding("problem", "lock", str(error), remedy)
        except sqlite3.DatabaseError as error:
            yield Finding("problem", "file", str(error), "Check the path, or take the file from a backup.")
        else:
            yield Finding("ok", "lock", "nobody is writing to it")
