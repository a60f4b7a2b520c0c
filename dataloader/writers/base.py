"""The seam: what a writer must do. Two methods, one in a thread and one on the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.watchdog import Watchdog


class Writer(Protocol):
    """Puts chunks into the plan's table, inside the caller's transaction."""

    def encode(self, batch: pa.RecordBatch) -> tuple[Any, int]:
        """Turn a converted batch into what `write` sends, and its size in bytes.

        Runs in a thread, a chunk ahead of `write`; must not touch the connection.
        """

    async def write(self, connection: AsyncConnection, encoded: Any, watchdog: Watchdog) -> int | None:
        """Send a chunk and return how many rows the database stored, None if it does not say.

        Calls ``watchdog.reset_timeout()`` whenever the database has accepted something.
        """
