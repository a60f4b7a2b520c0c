"""The seam: what a writer must do. Two methods, one in a thread and one on the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.watchdog import Watchdog


class Written(NamedTuple):
    """What became of rows that were sent.

    Attributes
    ----------
    stored : int
        How many the database inserted or updated.
    updated : int
        How many of those took the place of a row with the same key.
    unchanged : int
        How many were there already, just as they are.
    ignored : int
        How many gave way to a row with the same key.
    deleted : int
        How many had a row with their key deleted.
    missing : int
        How many found no row with their key to update or delete.
    """

    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    ignored: int = 0
    deleted: int = 0
    missing: int = 0

    def plus(self, more: Written) -> Written:
        """The sums."""
        return Written(*map(sum, zip(self, more, strict=True)))


class RepeatedKeyError(Exception):
    """Rows that were sent have one key: as the database finds, which alone can tell.

    Attributes
    ----------
    rows : tuple of int
        The places of two of them among the rows that were sent.
    key : str
        Their key as text.
    """

    def __init__(self, rows: tuple[int, int], key: str) -> None:
        super().__init__(f"rows {rows[0]} and {rows[1]} have the key {key}")
        self.rows = rows
        self.key = key


class Writer(Protocol):
    """Puts chunks into the plan's table, inside the caller's transaction."""

    def encode(self, batch: pa.RecordBatch) -> tuple[Any, int]:
        """Turn a converted batch into what `write` sends, and its size in bytes.

        Runs in a thread, a chunk ahead of `write`; must not touch the connection.
        """

    async def write(self, connection: AsyncConnection, encoded: Any, watchdog: Watchdog) -> Written | None:
        """Send a chunk and return what became of its rows, None if the database does not say.

        Calls ``watchdog.reset_timeout()`` whenever the database has accepted something.
        """
