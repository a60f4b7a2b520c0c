"""Shards on the workers of a cluster, whichever engine runs them: what is sent there, and what comes back of it.

A worker loads a shard by the very same pipeline as any process. What is stored once, who waits, and who continues what
was interrupted is decided by the ledger alone; so an engine may retry, move and double its tasks as it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from dataloader.database import engine as engines
from dataloader.database.addresses import Address
from dataloader.errors import DataLoaderError, LoadCancelled, PlanError
from dataloader.formatting import quantity
from dataloader.loading import pipeline
from dataloader.options import LoadOptions
from dataloader.sources import files
from dataloader.sources.selection import select

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dataloader.display.state import State
    from dataloader.report import LoadReport
    from dataloader.sources.base import Source
    from dataloader.sources.paths import Paths

REPORT_SECONDS = 1.0
"""How often a worker says how far its shard is."""
SETTLE_SECONDS = 5.0
"""How long a stop waits for the loads that it has cancelled."""
ON_A_WORKER = ("engine", "progress", "client")
"""Options that every process has its own of."""

Tell = Callable[[int, int, int], None]
"""Takes the number of a shard, and how many of its rows were stored and rejected by now."""


class Order:
    """What every worker is told of a load; it has the database's password, and does not show it.

    Parameters
    ----------
    count : int
        How many shards there are.
    opening : callable
        Makes a source of what a shard is given.
    """

    def __init__(
        self, table: str | sa.Table, options: dict[str, Any], count: int, opening: Callable[[Any], Source]
    ) -> None:
        if not count:
            raise PlanError("there are no partitions to be loaded", hint="Load data that has one at least.")
        checked = LoadOptions.of({**options})
        self.token = uuid.uuid4().hex
        self.load_id = str(options.get("load_id") or f"{getattr(table, 'name', table)}-{self.token[:8]}")
        self.count = count
        self.table = table
        self._opening = opening
        self._made = made_of(checked.engine)
        self._options = {name: value for name, value in options.items() if name not in ON_A_WORKER}

    def __repr__(self) -> str:
        return f"<{quantity(self.count, 'shard')} of {self.load_id!r}>"

    def options(self, number: int, engine: Any) -> dict[str, Any]:
        """The options of a shard."""
        shard = {"load_id": self.load_id, "shard": (number, self.count)}
        return {"workers": 1, **self._options, **shard, "engine": engine}

    async def load(self, number: int, data: Any, view: Any) -> LoadReport:
        """Load a shard, by an engine of its own."""
        engine = engines.open_engine(*self._made)
        try:
            chosen = LoadOptions.of({**self.options(number, engine), "progress": view})
            async with contextlib.aclosing(await asyncio.to_thread(self._opening, data)) as source:
                selected = source if chosen.columns is None else select(source, chosen.columns)
                return await pipeline.load(selected, self.table, chosen)
        finally:
            await engine.dispose()


async def order_of_files(
    paths: Paths, table: str | sa.Table, options: dict[str, Any]
) -> tuple[Order, str, Callable[[], Awaitable[Source]], list[Any]]:
    """The order for a load of files: it, what they are called, how all of them are opened, and its shards' parts."""
    reading = LoadOptions.of({**options}).reading
    opening = functools.partial(files.open_listing, reading=reading)
    listing = await asyncio.to_thread(files.listing_of, paths, reading)
    parts = await asyncio.to_thread(files.listings_of_parts, listing, reading)
    whole = functools.partial(asyncio.to_thread, opening, listing)
    return Order(table, options, len(parts), opening), quantity(len(listing.files), "file"), whole, parts


def made_of(engine: Any) -> tuple[Address, dict[str, Any]]:
    """Of what the workers can make the engine."""
    known = engine.engine if isinstance(engine, Address) and engine.engine is not None else engine
    made = (known, {}) if isinstance(known, Address) else engines.made_of(known)
    if made is None:
        hint = "Pass a URL, or the engine that connect(url, ...) returns."
        raise PlanError("the workers cannot connect as this engine does, which connect() has not made", hint=hint)
    return made


class _Telling:
    """A view of a shard's progress that tells the caller of it."""

    interval = REPORT_SECONDS

    def __init__(self, number: int, tell: Tell) -> None:
        self._number = number
        self._tell = tell

    def open(self, _state: State, _cancel: object) -> None: ...

    def update(self, state: State) -> None:
        self._tell(self._number, state.rows, state.rejected)

    def close(self, state: State) -> None: ...


_running: dict[str, set[asyncio.Task[LoadReport]]] = {}
_stopped: set[str] = set()
"""Orders by their tokens: a task of one that was stopped may begin afterwards."""


def load_shard(order: Order, number: int, data: Any, tell: Tell) -> LoadReport:
    """Load a shard on a worker, in the thread that its engine has chosen for it.

    Raises
    ------
    DataLoaderError
        Naming the shard.
    """

    async def load() -> LoadReport:
        task = asyncio.ensure_future(order.load(number, data, _Telling(number, tell)))
        running = _running.setdefault(order.token, set())
        running.add(task)
        if order.token in _stopped:  # looked at when the task can be found: it may be stopped at the same time
            task.cancel()
        try:
            return await task
        finally:
            running.discard(task)
            if not running:
                _running.pop(order.token, None)

    try:
        return asyncio.run(load())
    except asyncio.CancelledError:
        hint = "The chunk that it was at is rolled back."
        raise LoadCancelled(f"partition {number} of {order.count} was stopped", hint=hint) from None
    except DataLoaderError as error:
        error.what = f"partition {number} of {order.count}: {error.what}"
        raise


async def stop(token: str) -> None:
    """Stop the shards that this worker is loading, and wait until they are rolled back."""
    _stopped.add(token)
    for task in [*_running.get(token, ())]:
        task.get_loop().call_soon_threadsafe(task.cancel)
    until = time.monotonic() + SETTLE_SECONDS
    while _running.get(token) and time.monotonic() < until:  # noqa: ASYNC110 - other threads empty it
        await asyncio.sleep(0.02)
    _running.pop(token, None)
