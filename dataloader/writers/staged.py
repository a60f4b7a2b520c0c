"""Merging: another writer fills a temporary table, and one statement merges it into the plan's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dataloader.writers.base import RepeatedKeyError, Writer, Written

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends import Backend
    from dataloader.database.schema import Merge, Merged
    from dataloader.database.watchdog import Watchdog


PREVIEWED_ROWS = 10
"""So many rows of a dry run are shown with what would change."""


class StagedWriter:
    """Merges chunks by their key.

    The temporary table is made and dropped for each chunk: it lives in the chunk's transaction, which may be tried
    again on another connection, and behind a pooler in another session.

    Parameters
    ----------
    filler : Writer
        Writes into the temporary table.
    duplicates : str
        Which of rows counts that have one key, where only the database can tell: ``first``, ``last``, or ``error``.
    previews : bool
        Whether to look at what would change, for a dry run.

    Attributes
    ----------
    preview : list of str
        What would change in the first rows that do.
    staged : int
        How many rows wait in the temporary table to be merged.
    returned : list of sequences
        For each write that succeeded the values that are wanted of its rows.
    """

    def __init__(
        self, filler: Writer, merge: Merge, backend: Backend, *, duplicates: str = "error", previews: bool = False
    ) -> None:
        self._filler = filler
        self._merge = merge
        self._backend = backend
        self._duplicates = duplicates
        self._previews = previews
        self.staged = 0
        self.preview: list[str] = []
        self.returned: list[Sequence[Any]] = []

    def encode(self, batch: pa.RecordBatch) -> tuple[Any, int]:
        encoded, nbytes = self._filler.encode(batch)
        return (batch.num_rows, encoded), nbytes

    async def write(self, connection: AsyncConnection, encoded: tuple[int, Any], watchdog: Watchdog) -> Written:
        rows, sent = encoded
        await self._backend.stage(connection, self._merge)
        await self._filler.write(connection, sent, watchdog)
        left_out = await self._leave_out(connection) if self._merge.is_loose else 0
        rows -= left_out
        await self._look(connection)
        if self._merge.returning:
            merged, returned = await self._backend.merge_returning(connection, self._merge, rows)
            self.returned.append(returned)
        else:
            merged = await self._backend.merge(connection, self._merge, rows)
        await self._backend.unstage(connection)
        watchdog.reset_timeout()
        return written(merged, self._merge).plus(Written(ignored=left_out))

    def take_returned(self) -> list[Sequence[Any]]:
        """What the writes since the last call have returned, and are not asked for again."""
        returned, self.returned = self.returned, []
        return returned

    async def _leave_out(self, connection: AsyncConnection) -> int:
        """Leave out rows whose key another one has; how many. Of rows that are to be returned each must count."""
        if self._duplicates != "error" and not self._merge.returning:
            return await self._backend.leave_out_repeated(connection, self._merge, keep=self._duplicates)
        if found := await self._backend.repeated(connection, self._merge):
            (first, _), (last, key) = found
            raise RepeatedKeyError((first, last), key)
        return 0

    async def _look(self, connection: AsyncConnection) -> None:
        most = PREVIEWED_ROWS - len(self.preview)
        if self._previews and most > 0 and self._merge.action != "delete":
            self.preview += await self._backend.changed_cells(connection, self._merge, most)


class StagingWriter(StagedWriter):
    """Stages chunks, until all of them are there; `merge` is called then, in the same transaction."""

    async def write(self, connection: AsyncConnection, encoded: tuple[int, Any], watchdog: Watchdog) -> Written:
        rows, sent = encoded
        await self._filler.write(connection, sent, watchdog)
        self.staged += rows
        return Written()

    async def begin(self, connection: AsyncConnection) -> None:
        """Make the temporary table."""
        self.staged = 0
        await self._backend.stage(connection, self._merge)

    async def merge(self, connection: AsyncConnection) -> Written:
        """Merge what is staged."""
        await self._look(connection)
        merged = await self._backend.merge(connection, self._merge, self.staged)
        await self._backend.unstage(connection)
        return written(merged, self._merge)


def written(merged: Merged, merge: Merge) -> Written:
    """What became of the rows that were merged."""
    unchanged, ignored = (merged.left, 0) if merge.action == "update" or merge.updated else (0, merged.left)
    stored = merged.inserted + merged.updated
    return Written(stored, merged.updated, unchanged, ignored, merged.deleted, merged.missing)
