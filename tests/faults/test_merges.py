"""Loads that merge by a key, beside each other, cancelled and killed: the table ends as a dict would."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import FULL, execute, fetch
from tests.faults.loads import seeded

RUNS = 20 if FULL else 2
CANCELS = 40 if FULL else 4
ROWS = 4_000
CHUNK_ROWS = 100


async def _meddle(engine: AsyncEngine, choose: random.Random, done: asyncio.Event) -> int:
    """Another program's transactions on the same rows, in any order; PostgreSQL may end one to resolve a deadlock."""
    ended = 0
    while not done.is_set():
        keys = choose.sample(range(ROWS), 20)
        with contextlib.suppress(sa.exc.DBAPIError):
            async with engine.begin() as connection:
                for key in keys:
                    await connection.execute(sa.text("UPDATE t SET c = c + 1 WHERE id = :key"), {"key": key})
            ended += 1
        await asyncio.sleep(0)
    return ended


@pytest.mark.slow
async def test_four_workers_in_opposite_orders_beside_another_writer_end_in_no_deadlock(postgres: AsyncEngine) -> None:
    choose = seeded()
    await execute(postgres, "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int DEFAULT 0)")
    await execute(postgres, f"INSERT INTO t SELECT g, 0, 0, 0 FROM generate_series(0, {ROWS // 2}) g")
    for run in range(1, RUNS + 1):
        done = asyncio.Event()
        up = pd.DataFrame({"id": range(ROWS), "a": run})
        down = pd.DataFrame({"id": range(ROWS - 1, -1, -1), "b": run})
        options: Any = {"engine": postgres, "on_conflict": "update", "commit": "chunk", "chunk_rows": CHUNK_ROWS}
        meddling = asyncio.create_task(_meddle(postgres, choose, done))
        reports = await asyncio.gather(
            *(
                dl.load_dataframe(one, "t", workers=4, load_id=f"{run} {name}", **options)
                for one, name in ((up, "up"), (down, "down"))
            )
        )
        done.set()
        assert await meddling
        assert [report.loaded for report in reports] == [ROWS, ROWS]
        found = await fetch(postgres, "SELECT count(*), min(a), max(a), min(b), max(b) FROM t")
        assert found == [(ROWS, run, run, run, run)]


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_merge_that_is_cancelled_and_resumed_ends_as_if_it_had_not_been(
    database: AsyncEngine, workers: int
) -> None:
    choose = seeded()
    await execute(database, "CREATE TABLE t (id integer PRIMARY KEY, v integer)")
    await execute(database, "INSERT INTO t VALUES (1, -1), (2, 2), (99999, 0)")
    data = {"id": list(range(ROWS)), "v": list(range(ROWS))}
    options: Any = {"engine": database, "on_conflict": "update", "commit": "chunk", "chunk_rows": CHUNK_ROWS}
    cancels = 0
    while True:
        loading = asyncio.create_task(
            dl.load_dataframe(data, "t", load_id="m", resume=True, workers=workers, **options)
        )
        await asyncio.wait({loading}, timeout=choose.random() * 0.2 if cancels < CANCELS else None)
        if loading.done():
            break
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
        cancels += 1
    await loading
    history = await dl.load_history(database)
    assert history["state"].tolist() == ["finished"]
    assert history["loaded"].tolist() == [ROWS - 1]  # one was there just so
    assert await fetch(database, "SELECT count(*), sum(v) FROM t") == [(ROWS + 1, sum(range(ROWS)))]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40 if FULL else 6))
async def test_merges_in_any_order_leave_what_a_dict_holds(database: AsyncEngine, seed: int) -> None:
    choose, model = random.Random(seed), dict[int, tuple[Any, Any]]()
    await execute(database, "CREATE TABLE t (id integer PRIMARY KEY, v text, w integer)")
    for _ in range(12):
        how = choose.choice(["update", "ignore", "update v"])
        rows = [(choose.randrange(30), choose.choice(["a", "b", None]), choose.choice([1, 2, None])) for _ in range(10)]
        keep: Any = choose.choice(["first", "last"])
        frame = pd.DataFrame(rows, columns=["id", "v", "w"]).astype({"v": object, "w": "Int64"})
        merging: Any = {"on_conflict": how.split()[0], "duplicates": keep, "chunk_rows": choose.choice([3, None])}
        if how == "update v":
            merging["update_columns"] = ["v"]
        given = {key: (v, w) for key, v, w in (rows if keep == "last" else reversed(rows))}
        before = dict(model)
        for key, (v, w) in given.items():
            if key not in model:
                model[key] = (v, w)
            elif how != "ignore":
                model[key] = (v, w if how == "update" else model[key][1])
        report = await dl.load_dataframe(
            frame, "t", engine=database, commit=choose.choice(["load", "chunk"]), **merging
        )
        assert dict((key, (v, w)) for key, v, w in await fetch(database, "SELECT id, v, w FROM t")) == model
        changed = [key for key in given if key in before and before[key] != model[key]]
        new = [key for key in given if key not in before]
        assert (report.inserted, report.updated) == (len(new), len(changed))
        left = len(given) - len(new) - len(changed)
        expected = (0, left) if how == "ignore" else (left, 0)
        assert (report.unchanged, report.ignored - (len(rows) - len(given))) == expected
