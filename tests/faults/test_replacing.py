"""A table that is replaced: killed at any moment, it has its old rows or the new ones; its readers wait for a moment.

Short in CI. `DATALOADER_FAULTS=full` kills 50 processes, and reads over a million rows.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import FULL, execute, fetch
from tests.faults.processes import Nursery, Order, open_nursery

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(1800 if FULL else 120)]

ROWS = 1_000_000 if FULL else 40_000
KILLS = 25 if FULL else 2
"""For each way."""
OLD = 1_000
LONGEST_WAIT = 0.1 if FULL else 5.0
"""In CI other tests use the machine too, and a load of its few rows takes no longer than a wait that they cause."""
DUTIES = (
    "CREATE TABLE orders (id bigint PRIMARY KEY, note text, amount double precision)",
    "CREATE INDEX by_note ON orders (note)",
    "COMMENT ON TABLE orders IS 'kept'",
    f"INSERT INTO orders SELECT -n, 'old' FROM generate_series(1, {OLD}) n",
)
STATE = """SELECT count(*), min(id), max(id), obj_description(CAST('orders' AS regclass)),
    (SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'orders') FROM orders"""
BEFORE = (OLD, -OLD, -1, "kept", "by_note orders_pkey")
AFTER = (ROWS, 0, ROWS - 1, "kept", "by_note orders_pkey")
BESIDE = "SELECT count(*) FROM pg_class WHERE relname LIKE 'dataloader_new%'"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with open_nursery() as opened:
        yield opened


async def made(engine: AsyncEngine, way: str) -> None:
    view = ["CREATE VIEW v AS SELECT id FROM orders"] if way == "move" else []
    await execute(engine, "DROP TABLE IF EXISTS orders CASCADE", *DUTIES, *view)


@pytest.mark.parametrize("way", ["swap", "move"])
async def test_a_replace_that_is_killed_leaves_the_old_rows_or_the_new_ones_and_can_be_continued(
    nursery: Nursery, postgres: AsyncEngine, way: str
) -> None:
    moments = random.Random(way)
    url = postgres.url.render_as_string(hide_password=False)
    options: dict[str, Any] = {"if_exists": "replace", "workers": 2}
    seconds, kills, done = 5.0, 0, 0
    while not done or kills < KILLS:
        await made(postgres, way)
        while (await fetch(postgres, STATE))[0] == BEFORE:
            commit = moments.choice(["chunk", "chunk", "load"]) if done else "chunk"
            chosen = {**options, "commit": commit, "resume": True if commit == "chunk" else None}
            order = Order(url, "orders", ROWS, ROWS // 20, options=chosen)
            async with nursery.loader(order) as loader:
                await loader.loading()
                began = time.perf_counter()
                if done and not await loader.has_ended_within(moments.uniform(0, seconds)):
                    kills += await loader.kill()
                else:
                    ending = await loader.ended()
                    assert (ending.what, ending.loaded + ending.already_loaded) == ("loaded", ROWS), ending
                    seconds = seconds if done else time.perf_counter() - began
        assert await fetch(postgres, STATE) == [AFTER]
        done += 1
    options = {"engine": postgres, "if_exists": "replace", "commit": "chunk"}
    await dl.load_dataframe({"id": [1], "note": ["x"], "amount": [1.0]}, "orders", **options)
    assert await fetch(postgres, BESIDE) == [(0,)]
    assert await fetch(postgres, "SELECT count(*) FROM dataloader_loads WHERE state <> 'finished'") == [(0,)]


READER = """
import json, sys, time
import psycopg

host, user, database, level, query = sys.argv[1:]
seen, longest, idle = [], 0.0, 0.0
with psycopg.connect(host=host, user=user, dbname=database) as connection:
    connection.isolation_level = psycopg.IsolationLevel[level]
    print("reading", flush=True)
    end = None
    while end is None or time.monotonic() < end:
        with connection.transaction():
            before = time.perf_counter()
            connection.execute("SELECT 1 FROM pg_class LIMIT 1")
            asked = time.perf_counter()
            first = connection.execute(query).fetchone()
            longest, idle = max(longest, time.perf_counter() - asked), max(idle, asked - before)
            again = connection.execute(query).fetchone()
        if [first, again] not in seen[-1:]:
            seen.append([first, again])
        time.sleep(0.001)
        if end is None and connection.execute("SELECT to_regclass('done')").fetchone()[0]:
            end = time.monotonic() + 0.1
        connection.rollback()
print(json.dumps([seen, longest, idle]), flush=True)
"""


@asynccontextmanager
async def reading(engine: AsyncEngine, level: str, query: str) -> AsyncIterator[list[Any]]:
    """A process that reads until there is a table `done`: what it saw and how long it waited at most."""
    where = [str(engine.url.query["host"]), str(engine.url.username), str(engine.url.database)]
    command = [sys.executable, "-c", READER, *where, level, query]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"reading\n"
    told: list[Any] = []
    yield told
    told += json.loads(await process.stdout.readline())
    await process.wait()


@pytest.mark.parametrize("commit", ["load", "chunk"])
@pytest.mark.parametrize("way", ["swap", "move"])
async def test_readers_see_old_or_new_rows_and_wait_for_the_swap_for_a_moment(
    postgres: AsyncEngine, way: str, commit: Any
) -> None:
    await made(postgres, way)
    data = {"id": np.arange(ROWS), "note": np.array(["x"] * ROWS, object), "amount": np.arange(ROWS) / 8}
    one = "SELECT (SELECT note FROM orders WHERE id = -1), (SELECT note FROM orders WHERE id = 1)"
    every = "SELECT count(*), min(note) FROM orders"
    asking = [(level, query) for level in ("READ_COMMITTED", "REPEATABLE_READ") for query in (one, every)]
    async with (
        reading(postgres, *asking[0]) as first,
        reading(postgres, *asking[1]) as second,
        reading(postgres, *asking[2]) as third,
        reading(postgres, *asking[3]) as fourth,
    ):
        await asyncio.sleep(0.2)
        await dl.load_dataframe(data, "orders", engine=postgres, if_exists="replace", commit=commit)
        await execute(postgres, "CREATE TABLE done (id bigint)")
    for told, (level, query) in zip((first, second, third, fourth), asking, strict=True):
        seen, longest, idle = told
        of_one, of_all = (["old", None], [None, "x"], [None, None]), ([OLD, "old"], [ROWS, "x"], [0, None])
        old, new, empty = of_one if query == one else of_all
        assert seen[0] == [old, old]
        assert seen[-1] == [new, new]
        if (way, commit, level) == ("swap", "chunk", "REPEATABLE_READ"):  # some of the new rows, as the plan says
            seen = [pair for pair in seen if pair[0] != pair[1] or pair[0][-1] != "x"]
        between = [old, new] if level == "READ_COMMITTED" else [old, new, empty]
        assert all(pair[0] in between and pair[1] in between for pair in seen), seen
        if level == "REPEATABLE_READ":
            assert all(pair[0] == pair[1] for pair in seen), seen
        waits = f"longest wait {longest * 1000:.0f} ms, of another query {idle * 1000:.0f} ms"
        print(f"{way} {commit} {level} {query[:12]}: {waits}")
        if way == "swap" and query == one:
            assert longest < LONGEST_WAIT + idle
