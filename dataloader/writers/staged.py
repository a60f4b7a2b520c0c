"""Merging: another writer fills a temporary table, and one statement merges it into the plan's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataloader.writers.base import Writer, Written

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends import Backend
    from dataloader.database.schema import Merge, Merged
    from dataloader.database.watchdog import Watchdog


class StagedWriter:
    """Merges chunks by their key.

    The temporary table is made and dropped for each chunk: it lives in the chunk's transaction, which may be tried
    again on another connection, and behind a pooler in another session.

    Parameters
    ----------
    filler : Writer
        Writes into the temporary table.
    """

    def __init__(self, filler: Writer, merge: Merge, backend: Backend) -> None:
        self._filler = filler
        self._merge = merge
        self._backend = backend
        self._staged = 0

    def encode(self, batch: pa.RecordBatch) -> tuple[Any, int]:
        encoded, nbytes = self._filler.encode(batch)
        return (batch.num_rows, encoded), nbytes

    async def write(self, connection: AsyncConnection, encoded: tuple[int, Any], watchdog: Watchdog) -> Written:
        rows, sent = encoded
        await self._backend.stage(connection, self._merge)
        await self._filler.write(connection, sent, watchdog)
        merged = await self._backend.merge(connection, self._merge, rows)
        await self._backend.unstage(connection)
        watchdog.reset_timeout()
        return written(merged, self._merge)


class StagingWriter(StagedWriter):
    """Stages chunks, until all of them are there; `merge` is called then, in the same transaction."""

    async def write(self, connection: AsyncConnection, encoded: tuple[int, Any], watchdog: Watchdog) -> Written:
        rows, sent = encoded
        await self._filler.write(connection, sent, watchdog)
        self._staged += rows
        return Written()

    async def begin(self, connection: AsyncConnection) -> None:
        """Make the temporary table."""
        self._staged = 0
        await self._backend.stage(connection, self._merge)

    async def merge(self, connection: AsyncConnection) -> Written:
        """Merge what is staged."""
        merged = await self._backend.merge(connection, self._merge, self._staged)
        await self._backend.unstage(connection)
        return written(merged, self._merge)


def written(merged: Merged, merge: Merge) -> Written:
    """What became of the rows that were merged."""
    unchanged, ignored = (merged.left, 0) if merge.action == "update" or merge.updated else (0, merged.left)
    stored = merged.inserted + merged.updated
    return Written(stored, merged.updated, unchanged, ignored, merged.deleted, merged.missing)
