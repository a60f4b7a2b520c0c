"""Synchronizing: the whole source is staged, what the table has beside it is deleted, and the rest merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataloader.errors import PlanError
from dataloader.formatting import quantity
from dataloader.loading.storage import ChunkStore
from dataloader.writers.staged import StagingWriter

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import Merge
    from dataloader.loading.execution import LoadExecution
    from dataloader.writers import Written

SHOWN_KEYS = 5


class SyncStore(ChunkStore):
    """Puts chunks into a temporary table; in the end the table is made to have the same rows."""

    def __init__(self, connection: AsyncConnection, execution: LoadExecution) -> None:
        super().__init__(connection, execution, names_rows=False)
        assert isinstance(execution.writer, StagingWriter)
        self._staging = execution.writer

    async def prepare(self) -> None:
        await super().prepare()
        await self._staging.begin(self._connection)

    async def finish(self) -> Written:
        """Delete first: a row may take over the value of another unique column from one that goes.

        Raises
        ------
        PlanError
            When too much would be deleted, or rows of the source are outside of what is compared.
        """
        plan, backend, connection = self._plan.merge, self._backend, self._connection
        assert plan is not None
        assert plan.others is not None
        merge, within = plan.merge, plan.others
        name = self._plan.table.name
        await backend.know_staged(connection, merge)
        await self._check_repeated(merge)
        if outside := await backend.count_outside(connection, within):
            what = f"{quantity(outside, 'row')} of the source are outside of within={within}"
            raise PlanError(what, hint="Correct within=, or leave them out of the source.", committed_rows=0)
        all_rows, gone = await backend.count_others(connection, merge, within)
        if gone > plan.max_deletes * all_rows:
            keys = await backend.some_others(connection, merge, within, SHOWN_KEYS)
            more = ", ..." if gone > len(keys) else ""
            what = (
                f"{quantity(gone, 'row', all_rows)} of {name} are not in the source and would be deleted, more than "
                f"max_deletes={plan.max_deletes:g} allows: {', '.join(merge.key)} {'; '.join(keys)}{more}"
            )
            hint = "Check that the source is complete, then pass a larger share, like max_deletes=1.0."
            raise PlanError(what, hint=hint, committed_rows=0)
        if gone and self._plan.dry_run:
            keys = await backend.some_others(connection, merge, within, SHOWN_KEYS)
            self._staging.preview += [f"{', '.join(merge.key)} {key}: deleted" for key in keys]
        deleted = await self._delete(gone) if gone else 0
        written = await self._staging.merge(connection)
        self._check_lost(written)
        return written._replace(deleted=deleted)

    async def _check_repeated(self, merge: Merge) -> None:
        if repeated := await self._backend.repeated(self._connection, merge):
            key = " and ".join(dict.fromkeys(key for _, key in repeated))
            what = f"several rows of the source have the key {key} ({', '.join(merge.key)})"
            raise PlanError(what, hint="Drop the rows that do not count.", committed_rows=0)

    def _check_lost(self, written: Written) -> None:
        """A table without some of the source's rows is not synchronized."""
        kept = written.unchanged + written.ignored  # of a table that has nothing but its key
        if lost := self._staging.staged - written.stored - kept:
            name = self._plan.table.name
            what = f"a trigger drops or keeps {quantity(lost, 'row')} of {name}, which would differ from the source's"
            raise PlanError(what, hint="Disable the trigger, or leave them out of the source.", committed_rows=0)

    async def _delete(self, gone: int) -> int:
        plan, backend, connection = self._plan.merge, self._backend, self._connection
        assert plan is not None
        assert plan.others is not None
        deleted = await backend.delete_others(connection, plan.merge, plan.others)
        if deleted < gone and (kept := (await backend.count_others(connection, plan.merge, plan.others))[1]):
            name, it = self._plan.table.name, "it" if kept == 1 else "them"
            what = f"a trigger keeps {quantity(kept, 'row')} of {name}, though the source does not have {it}"
            hint = "Disable the trigger, or leave such rows out of what is compared (within=)."
            raise PlanError(what, hint=hint, committed_rows=0)
        return deleted
