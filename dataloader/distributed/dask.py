"""Dask: the partitions of a DataFrame are loaded by the workers that hold them.

The only file that knows Dask. Its scheduler may run a task again or on another worker; the ledger stores it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import dask
import distributed

from dataloader.distributed.shards import Order, load_shard, order_of_files, stop
from dataloader.distributed.together import Together, load_together, not_loaded
from dataloader.errors import DataLoaderError, PlanError
from dataloader.sources.tables import open_dataframe
from dataloader.sync import finish_despite_cancel

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dataloader.report import LoadReport
    from dataloader.sources.base import Source
    from dataloader.sources.paths import Paths

STOP_SECONDS = 10.0
SAMPLED_ROWS = 10_000
"""So many rows of the first partition tell the types of columns of Python objects."""


async def load(frame: Any, table: str | sa.Table, options: dict[str, Any]) -> LoadReport:
    """Load a Dask DataFrame: as many shards as it has partitions."""
    client = _client(options)
    opening = functools.partial(open_dataframe, columns=options.get("columns"))
    partitions = await asyncio.to_thread(frame.to_delayed)

    async def sample() -> Source:
        """Rows that tell the types of the columns; none where their types are known without."""
        if not any(kind == object for kind in frame._meta.dtypes):  # noqa: E721 - of numpy
            return opening(frame._meta)
        first = frame.partitions[0].map_partitions(lambda rows: rows.head(SAMPLED_ROWS), meta=frame._meta)
        return opening(await _called(client, client.compute(first).result))

    order = Order(table, options, len(partitions), opening)
    return await load_together(order, options, "Dask DataFrame", sample, _Load(client, order, partitions).store)


async def load_paths(paths: Paths, table: str | sa.Table, options: dict[str, Any]) -> LoadReport:
    """Load files: as many shards as there are files, or parts of about 128 MB in large ones."""
    client = _client(options)
    order, name, whole, parts = await order_of_files(paths, table, options)
    return await load_together(order, options, name, whole, _Load(client, order, parts).store)


def _client(options: dict[str, Any]) -> Any:
    """The client that is asked for, or the one that there is."""
    given = options.pop("client", None)
    if given is not None and not isinstance(given, distributed.Client):
        raise PlanError(f"client= must be a distributed.Client, got {type(given).__name__}", hint="Pass Client(...).")
    with contextlib.suppress(ValueError):
        client = given or distributed.default_client()
        if client.status in {"running", "connecting", "newly-created"}:
            return client
    hint = "Start a cluster first: from dask.distributed import Client; client = Client()."
    raise PlanError("there is no cluster whose workers could load this, or its client is closed", hint=hint)


async def _called(client: Any, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a method of a client's, which waits unless the client lives in this loop."""
    if client.asynchronous:
        found = method(*arguments, **options)
        return await found if inspect.isawaitable(found) else found
    try:
        return await asyncio.to_thread(method, *arguments, **options)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Dask has a CancelledError of its own, which the thread has made asyncio's.
        raise ConnectionError("Dask's client has cancelled the call") from None


class _Load:
    """One load by the workers of a cluster."""

    def __init__(self, client: Any, order: Order, parts: Sequence[Any]) -> None:
        self._client = client
        self._called = functools.partial(_called, client)
        self._order = order
        self._parts = parts
        self._topic = f"dataloader-{order.token}"

    async def store(self, together: Together) -> None:
        """Have the shards stored; the first error stops those that are under way."""
        loop, ended = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def tell(event: tuple[Any, tuple[int, int, int]]) -> None:
            loop.call_soon_threadsafe(together.tell, *event[1])

        futures: dict[Any, int] = {}  # as long as they are not known, the workers refuse what was sent
        await self._called(self._client.subscribe_topic, self._topic, tell)
        try:
            futures = await self._submitted()
            for future in futures:
                future.add_done_callback(lambda done: loop.call_soon_threadsafe(ended.put_nowait, done))
            for _ in futures:
                future = await ended.get()
                together.add(futures[future], *await self._result(future, futures[future]))
        except BaseException:
            await finish_despite_cancel(self._stop([*futures]), STOP_SECONDS)
            raise
        finally:
            await finish_despite_cancel(self._called(self._client.unsubscribe_topic, self._topic), STOP_SECONDS)

    async def _submitted(self) -> dict[Any, int]:
        """The futures of the shards, with their numbers."""
        loading = dask.delayed(functools.partial(_load_on_worker, self._order, self._topic), pure=False)
        name = f"load-{self._order.token[:8]}"
        shards = [loading(*one, dask_key_name=f"{name}-{one[0]}") for one in enumerate(self._parts, start=1)]
        futures = await asyncio.to_thread(self._client.compute, shards)
        return {future: number for number, future in enumerate(futures, start=1)}

    async def _result(self, future: Any, number: int) -> tuple[LoadReport, str]:
        """The report of a shard that has ended, and its worker; or what it has raised."""
        try:
            return cast("tuple[LoadReport, str]", await self._called(future.result))
        except DataLoaderError:
            raise
        except Exception as error:
            raise not_loaded(number, self._order, error) from error

    async def _stop(self, futures: list[Any]) -> None:
        """Take back what is not begun, and have the workers roll back the rest; without a scheduler nothing can be."""
        if self._client.status != "running":
            return
        await self._called(self._client.cancel, futures)
        await self._called(self._client.run, stop, self._order.token, on_error="ignore")


def _load_on_worker(order: Order, topic: str, number: int, part: Any) -> tuple[LoadReport, str]:
    worker = distributed.get_worker()
    return load_shard(order, number, part, lambda *told: worker.log_event(topic, told)), worker.address
