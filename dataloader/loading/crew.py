"""The crew: workers that share a load's chunks, as many of them as there are connections for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dataloader.errors import LoadError
from dataloader.loading.worker import EXTRA_SECONDS, Job, Worker, retrying

if TYPE_CHECKING:
    from dataloader.loading.chunks import Chunk, Shared
    from dataloader.loading.tally import Tally


class Crew:
    """Commits chunks by several workers; the load needs the first one, the others if there is room for them."""

    def __init__(self, job: Job, tally: Tally) -> None:
        self._workers = [Worker(job) for _ in range(job.plan.workers)]
        self._tally = tally
        self._is_under_way = asyncio.Event()
        self._connecting = asyncio.Lock()

    @property
    def in_doubt(self) -> bool:
        """Whether there may be a chunk in the table that is not counted."""
        return any(worker.in_doubt for worker in self._workers)

    @property
    def has_lost(self) -> bool:
        """Whether a worker's last connection was lost, or had to be cut."""
        return any(worker.has_lost for worker in self._workers)

    async def commit(self, chunks: Shared[Chunk]) -> None:
        """Commit the chunks, each worker the next one; the first error stops them all."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(self._work(worker, chunks))
        except BaseExceptionGroup as failed:
            error = failed.exceptions[0]
            raise error from error.__cause__

    async def _work(self, worker: Worker, chunks: Shared[Chunk]) -> None:
        try:
            if not await self._is_connected(worker):
                return
            while (chunk := await chunks.take()) is not None:
                await self._tally.progress.wait_while_paused()
                await self._commit(worker, chunk)
                del chunk  # or it would live on while the next one is waited for
        finally:
            await worker.close()

    async def _is_connected(self, worker: Worker) -> bool:
        """Whether there is a connection for the worker: the first one insists, and is served first."""
        if worker is self._workers[0]:
            await retrying()(worker.connect)
            self._is_under_way.set()
            return True
        await self._is_under_way.wait()
        try:
            async with self._connecting:  # two at once at a role's limit, and PostgreSQL refuses both
                await worker.connect(EXTRA_SECONDS)
        except LoadError as error:
            self._tally.notices.append(f"a worker less than the {len(self._workers)} planned: {error.what}")
            return False
        return True

    async def _commit(self, worker: Worker, chunk: Chunk) -> None:
        try:
            await worker.commit(chunk)
        finally:
            if worker.committed is not None:
                self._tally.add(chunk, worker.committed)
        self._tally.rejects.check()
