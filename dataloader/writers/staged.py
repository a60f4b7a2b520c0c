"""Merging: another writer fills a temporary table, and one statement merges it into the plan's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataloader.writers.base import Writer, Written

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends import Backend
    from dataloader.database.schema import Merge
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

    def encode(self, batch: pa.RecordBatch) -> tuple[Any, int]:
        encoded, nbytes = self._filler.encode(batch)
        return (batch.num_rows, encoded), nbytes

    async def write(self, connection: AsyncConnection, encoded: tuple[int, Any], watchdog: Watchdog) -> Written:
        rows, sent = encoded
        await self._backend.stage(connection, self._merge)
        await self._filler.write(connection, sent, watchdog)
        merged = await self._backend.merge(connection, self._merge, rows)
        watchdog.reset_timeout()
        stored = merged.inserted + merged.updated
        if self._merge.updated:
            return Written(stored, merged.updated, unchanged=merged.left)
        return Written(stored, ignored=merged.left)
