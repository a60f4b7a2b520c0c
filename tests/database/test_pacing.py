"""`max_rows_per_second`: never faster, no transaction open meanwhile, and a cancel does not wait."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.display.state import State
from dataloader.loading.pacing import Pace
from tests.conftest import fetch
from tests.database.test_command_line import run

pytestmark = pytest.mark.any_version

OPEN = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'
    AND pid <> pg_backend_pid()"""


def orders(rows: int) -> dict[str, Any]:
    return {"id": range(rows)}


@pytest.mark.parametrize("commit", ["chunk", "load"])
async def test_a_load_is_never_faster(database: AsyncEngine, commit: Any) -> None:
    """Six chunks of ten rows, of which the first begins at once."""
    began = time.perf_counter()
    options: dict[str, Any] = {"chunk_rows": 10, "max_rows_per_second": 100, "commit": commit, "engine": database}
    report = await dl.load_dataframe(orders(60), "orders", **options, workers=2 if commit == "chunk" else None)
    assert time.perf_counter() - began >= 0.5
    assert report.loaded == 60


def test_workers_share_the_budget_and_nobody_makes_up_for_lost_time() -> None:
    now = 0.0
    pace = Pace(10, clock=lambda: now)
    assert [pace.reserve(10) for _ in range(3)] == [0.0, 1.0, 2.0]
    now = 60.0
    assert [pace.reserve(10) for _ in range(2)] == [0.0, 1.0], "a minute was lost, and is not made up for"


async def begun(engine: AsyncEngine, commit: str) -> asyncio.Task[dl.LoadReport]:
    """A load that has stored a chunk and waits for most of an hour."""
    await dl.load_dataframe(orders(0), "orders", engine=engine)
    loading = asyncio.create_task(
        dl.load_dataframe(
            orders(4_000),
            "orders",
            engine=engine,
            commit=commit,
            chunk_rows=1_000,
            max_rows_per_second=1,  # type: ignore[arg-type]
        )
    )
    for _ in range(1_000):
        done = (await fetch(engine, "SELECT count(*) FROM orders")) != [(0,)] if commit == "chunk" else False
        if done or (commit == "load" and await fetch(engine, OPEN) == [(1,)]):
            await asyncio.sleep(0.1)
            return loading
        await asyncio.sleep(0.01)
    raise AssertionError("nothing is stored")


@pytest.mark.parametrize(("commit", "opened", "committed"), [("chunk", 0, 1_000), ("load", 1, 0)])
async def test_a_cancel_does_not_wait(postgres: AsyncEngine, commit: str, opened: int, committed: int) -> None:
    loading = await begun(postgres, commit)
    assert await fetch(postgres, OPEN) == [(opened,)]
    loading.cancel()
    done, _ = await asyncio.wait({loading}, timeout=30)
    assert done, "it waits on"
    assert loading.cancelled()
    assert await fetch(postgres, "SELECT count(*) FROM orders") == [(committed,)]
    assert await fetch(postgres, OPEN) == [(0,)]


async def test_the_plan_and_the_bar_say_it(sqlite: AsyncEngine) -> None:
    by_chunks = str(await dl.plan_load(orders(9_000), "t", engine=sqlite, max_rows_per_second=500, commit="chunk"))
    assert "pace: at most 500 rows/s, with no transaction open between chunks" in by_chunks
    assert "up to 500 rows each" in by_chunks
    whole = str(await dl.plan_load(orders(9_000), "t", engine=sqlite, max_rows_per_second=500))
    assert "at most 500 rows/s, and the transaction is held open for 18.0 s or more; commit='chunk' would not" in whole
    assert "pace:" not in str(await dl.plan_load(orders(9_000), "t", engine=sqlite))
    state = State("orders")
    state.most_per_second = 500
    assert re.search(r"\(0 rows/s, at most 500 rows/s\)", str(state))
    with pytest.raises(dl.PlanError, match="max_rows_per_second must be a count"):
        await dl.load_dataframe(orders(1), "t", engine=sqlite, max_rows_per_second=0)


async def test_a_load_that_is_resumed_keeps_its_pace(sqlite: AsyncEngine) -> None:
    await dl.load_dataframe(orders(20), "t", engine=sqlite, load_id="may", chunk_rows=10, max_rows_per_second=10_000)
    [(options,)] = await fetch(sqlite, "SELECT options FROM dataloader_loads")
    assert '"max_rows_per_second": 10000' in options


async def test_other_loaders_are_paced_as_well(postgres: AsyncEngine) -> None:
    await dl.load_dataframe(orders(60), "orders", engine=postgres, primary_key="id")
    options: dict[str, Any] = {"engine": postgres, "chunk_rows": 10, "max_rows_per_second": 100}
    for load in (
        lambda: dl.copy_table("orders", "copies", source=postgres, **options),
        lambda: dl.delete_rows(orders(60), "orders", **options),
        lambda: dl.sync_table(orders(60), "orders", **options),
        lambda: dl.load_rows(({"id": number} for number in range(60)), "more", **options),
    ):
        began = time.perf_counter()
        report = await load()
        assert time.perf_counter() - began >= 0.5, report


def test_the_command_line_paces(tmp_path: Any) -> None:
    (tmp_path / "orders.csv").write_text("id\n" + "\n".join(map(str, range(30))))
    arguments = ("orders.csv", "orders", "--to", "sqlite:///shop.db", "--chunk-rows", "10")
    began = time.perf_counter()
    done = run(tmp_path, "load", *arguments, "--max-rows-per-second", "20")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - began >= 1
