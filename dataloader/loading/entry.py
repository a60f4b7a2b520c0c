"""A load's entry in the ledger: made with the table, finished, or left to whoever goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataloader.database import catalog
from dataloader.database.driver_errors import Refusal
from dataloader.database.watchdog import Watchdog, guarded
from dataloader.ledger.checkpoint import rows_of
from dataloader.loading import worker
from dataloader.loading.storage import refused
from dataloader.loading.worker import committing, retried
from dataloader.sync import finish_despite_cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.conversion.violations import Violation
    from dataloader.ledger.checkpoint import Run
    from dataloader.ledger.ledger import Ledger, Request
    from dataloader.ledger.owners import Owner
    from dataloader.loading.chunks import Chunk
    from dataloader.plan import LoadPlan

RELEASE_SECONDS = 5.0
PATIENCE_SECONDS = 0.4
"""How long a load that has failed or was cancelled tries to tell the ledger so, and is waited for meanwhile."""


class Entry:
    """The steps of a load before its first chunk and after its last, each a transaction of its own.

    Parameters
    ----------
    label : callable
        Gives a row's label by its position.
    may_exist : bool
        Whether the load goes on where another process has made the planned table meanwhile.
    """

    def __init__(
        self, engine: AsyncEngine, plan: LoadPlan, ledger: Ledger, label: Callable[[int], object], *, may_exist: bool
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._ledger = ledger
        self._label = label
        self._may_exist = may_exist

    async def begin(self, request: Request, owner: Owner) -> Run:
        """The load in the ledger and the table as planned, in one transaction."""

        async def beginning(watchdog: Watchdog) -> Run:
            async with committing(self._engine, watchdog, self._plan.table.name) as connection:
                run = await self._ledger.owned(connection, owner)
                if run is None:
                    await self._prepare(connection, watchdog)
                    run = await self._ledger.begin(connection, request, owner)
            return run

        return await retried(beginning)

    async def _prepare(self, connection: AsyncConnection, watchdog: Watchdog) -> None:
        await catalog.prepare(
            connection,
            self._plan.table,
            self._plan.statements,
            may_exist=self._may_exist and self._plan.creates,
            lock_seconds=worker.LOCK_SECONDS,
            progress=watchdog.reset_timeout,
        )

    async def rejects(self, run: Run, chunk: Chunk) -> list[Violation]:
        """What earlier runs have found wrong with a chunk: with its values, as now, and with what the database said."""

        async def reading(watchdog: Watchdog) -> Sequence[Any]:
            async with committing(self._engine, watchdog, self._plan.table.name) as connection:
                return await self._ledger.kept(connection, run, chunk.number)

        found = chunk.converted.violations
        if run.committed[chunk.number].rejected == rows_of(found):
            return found
        wrong = {one.row for one in found}
        said = [(one[0], Refusal(one[2], one[1], "the table", one[3], None)) for one in await retried(reading)]
        return [*found, *(refused(chunk, row, why, self._label(row)) for row, why in said if row not in wrong)]

    async def finish(self, run: Run) -> None:
        """Every chunk is committed."""

        async def finishing(watchdog: Watchdog) -> None:
            async with committing(self._engine, watchdog, self._plan.table.name) as connection:
                await self._ledger.finish(connection, run)

        await retried(finishing)

    async def release(self, run: Run) -> None:
        """Let other processes go on with the load though this one lives on; who is cancelled hardly waits for that."""

        async def releasing(watchdog: Watchdog) -> None:
            async with committing(self._engine, watchdog, self._plan.table.name) as connection:
                await self._ledger.release(connection, run)

        await finish_despite_cancel(guarded(releasing, limit=RELEASE_SECONDS), PATIENCE_SECONDS)
