"""Ray: the blocks of a Dataset are loaded by the cluster's tasks.

The only file that knows Ray, which runs a task again whose worker was lost; the ledger stores it once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.exceptions import RayTaskError

from dataloader.distributed.shards import Order, load_shard
from dataloader.distributed.together import Together, load_together, not_loaded
from dataloader.errors import DataLoaderError, PlanError
from dataloader.sources.tables import open_dataframe
from dataloader.sync import finish_despite_cancel

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dataloader.report import LoadReport
    from dataloader.sources.base import Source

STOP_SECONDS = 10.0
SAMPLED_ROWS = 10_000
"""So many rows of the first block tell the types of the columns."""


async def load(dataset: Any, table: str | sa.Table, options: dict[str, Any]) -> LoadReport:
    """Load a Dataset of Ray: as many shards as it has blocks."""
    if options.pop("client", None) is not None:
        raise PlanError("client= is for Dask", hint="Leave it out: a Dataset is loaded by the cluster that it is in.")
    opening = functools.partial(open_dataframe, columns=options.get("columns"))
    blocks = await asyncio.to_thread(dataset.to_arrow_refs)

    async def sample() -> Source:
        """Rows that tell the types of the columns."""
        return opening(await ray.remote(_first_rows).remote(blocks[0]))

    order = Order(table, options, len(blocks), opening)
    return await load_together(order, options, "Ray Dataset", sample, _Load(order, blocks).store)


class _Load:
    """One load by the tasks of a cluster."""

    def __init__(self, order: Order, blocks: Sequence[Any]) -> None:
        self._order = order
        self._blocks = blocks

    async def store(self, together: Together) -> None:
        """Have the shards stored; the first error stops those that are under way."""
        order = ray.put(self._order)
        loading = ray.remote(_load_on_worker).options(name=f"load {self._order.load_id}", max_retries=-1)
        shards = [loading.remote(order, *one) for one in enumerate(self._blocks, start=1)]
        results = {asyncio.ensure_future(self._result(*one)) for one in enumerate(shards, start=1)}
        try:
            for done in asyncio.as_completed(results):
                together.add(*await done)
        except BaseException:
            await finish_despite_cancel(self._stop(shards, results), STOP_SECONDS)
            raise

    async def _result(self, number: int, shard: Any) -> tuple[int, LoadReport, str]:
        """The report of a shard that has ended, and its worker; or what it has raised."""
        try:
            return number, *cast("tuple[LoadReport, str]", await shard)
        except RayTaskError as error:
            if isinstance(error.cause, DataLoaderError):
                raise error.cause from None
            raise not_loaded(number, self._order, error.cause) from error
        except Exception as error:
            raise not_loaded(number, self._order, error) from error

    async def _stop(self, shards: Sequence[Any], results: set[asyncio.Task[Any]]) -> None:
        """Have what is not begun taken back, and the rest rolled back by an interrupt, as Ctrl-C does."""
        for shard in shards:
            ray.cancel(shard)
        await asyncio.gather(*results, return_exceptions=True)


def _first_rows(block: Any) -> Any:
    return block.slice(0, SAMPLED_ROWS)


def _load_on_worker(order: Order, number: int, block: Any) -> tuple[LoadReport, str]:
    report = load_shard(order, number, block, lambda *_told: None)
    return report, cast(str, ray.get_runtime_context().get_worker_id())
