"""Shards in processes of their own, killed at random until all are done: every row is there once.

Short in CI. `DATALOADER_FAULTS=full` does it twenty times, with eight processes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database.engine import open_engine
from tests.conftest import FULL, fetch
from tests.faults.processes import Nursery, Order, open_nursery

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

SEEDS = range(20) if FULL else range(1)
PROCESSES = 8 if FULL else 3
SHARDS, ROWS, CHUNK_ROWS = 2 * PROCESSES, 10_000, 1_000
"""Rows of a shard."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with open_nursery() as opened:
        yield opened


def shard(engine: AsyncEngine, number: int, count: int = SHARDS, **options: object) -> Order:
    url = engine.url.render_as_string(hide_password=False)
    options = {"shard": (number, count), "load_id": "june", **options}
    return Order(url, "orders", ROWS, CHUNK_ROWS, start=(number - 1) * ROWS, pause=0.01, options=options)


async def until_done(nursery: Nursery, order: Order, moments: random.Random, kills: int) -> int:
    """Kill a shard's process now and then and run it again until it is done; how many kills hit it."""
    hits = 0
    while True:
        async with nursery.loader(order) as loader:
            if kills and not await loader.has_ended_within(moments.uniform(0, 0.5)):
                kills -= 1
                hits += await loader.kill()
                continue
            ending = await loader.ended()
            assert ending.what == "loaded", ending
            assert ending.loaded + ending.already_loaded == ROWS
            return hits


async def contents(engine: AsyncEngine) -> list[tuple[object, ...]]:
    return await fetch(engine, "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM orders")


@pytest.mark.parametrize("seed", SEEDS)
async def test_shards_that_are_killed_until_all_are_done_are_exact(
    nursery: Nursery, database: AsyncEngine, seed: int
) -> None:
    moments = random.Random(seed)
    left = list(range(1, SHARDS + 1))
    moments.shuffle(left)
    hits: list[int] = []

    async def work() -> None:
        while left:
            hits.append(await until_done(nursery, shard(database, left.pop()), moments, moments.randrange(3)))

    await asyncio.gather(*(work() for _ in range(PROCESSES)))
    assert sum(hits), "no kill has hit a load before its end"
    rows = SHARDS * ROWS
    assert await contents(database) == [(rows, rows, 0, rows - 1)]
    whole = "SELECT state, chunks, rows, loaded FROM dataloader_loads WHERE load_id = 'june'"
    assert await fetch(database, whole) == [("finished", rows // CHUNK_ROWS, rows, rows)]


async def test_twins_of_a_shard_in_two_processes_are_loaded_once(nursery: Nursery, database: AsyncEngine) -> None:
    order = shard(database, 1)
    async with nursery.loader(order) as one, nursery.loader(order) as twin:
        endings = [await one.ended(), await twin.ended()]
    assert sorted(ending.loaded for ending in endings) == [0, ROWS], endings
    assert await contents(database) == [(ROWS, ROWS, 0, ROWS - 1)]


async def test_a_shard_whose_process_is_frozen_is_waited_for(nursery: Nursery, postgres: AsyncEngine) -> None:
    """It may go on at any moment: whoever took its place would race with it."""
    order = replace(shard(postgres, 1), pause=0.1)
    async with nursery.loader(order) as one:
        await one.loading()
        await one.freeze()
        async with nursery.loader(order) as twin:
            assert not await twin.has_ended_within(1)
            assert await one.kill()
            ending = await twin.ended()
    assert ending.what == "loaded", ending
    assert await contents(postgres) == [(ROWS, ROWS, 0, ROWS - 1)]


async def test_no_more_connections_are_open_than_all_shards_may_have(nursery: Nursery, postgres: AsyncEngine) -> None:
    most, shards, sampled = 4, 6, []
    watching = open_engine(postgres.url)

    async def sample() -> None:
        query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
        while True:
            sampled.append((await fetch(watching, query))[0][0])
            await asyncio.sleep(0.02)

    async def one(number: int) -> None:
        order = replace(shard(postgres, number, shards, max_connections=most), pause=0.1)  # all of them overlap
        async with nursery.loader(order) as loader:
            assert (await loader.ended()).what == "loaded"

    await postgres.dispose()
    sampling = asyncio.create_task(sample())
    await asyncio.gather(*(one(number) for number in range(1, shards + 1)))
    sampling.cancel()
    await watching.dispose()
    assert 1 < max(sampled) <= most
    assert await contents(postgres) == [(shards * ROWS, shards * ROWS, 0, shards * ROWS - 1)]
