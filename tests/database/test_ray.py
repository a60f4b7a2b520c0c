"""Ray: the tasks of a cluster load the blocks of a Dataset, each row once. It is too large for the extra `test`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch
from tests.faults.loads import slow_trigger

ray = pytest.importorskip("ray", reason="Ray is too large for the extra test: pip install -e .[ray]")
data = pytest.importorskip("ray.data")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.any_version,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ROWS, COUNT = 1_000, 10


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    path = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=path)
    yield
    ray.shutdown()


def blocks(wrong: int | None = None) -> Any:
    frame = pd.DataFrame({"id": range(ROWS), "note": [f"n{number}" for number in range(ROWS)]})
    if wrong is not None:
        frame.loc[wrong, "note"] = "too long"
    each = ROWS // COUNT
    return data.from_pandas([frame[first : first + each] for first in range(0, ROWS, each)])


async def load(engine: Any, dataset: Any = None, **options: Any) -> dl.LoadReport:
    return await dl.load_dataframe(
        blocks() if dataset is None else dataset, "orders", engine=engine, **{"progress": "none"} | options
    )


async def ids(engine: AsyncEngine) -> list[int]:
    return [number for (number,) in await fetch(engine, "SELECT id FROM orders ORDER BY id")]


async def test_every_block_is_loaded_once_and_reported(database: AsyncEngine) -> None:
    report = await load(database, load_id="june")
    assert (report.loaded, report.created, len(report.parts)) == (ROWS, True, COUNT)
    assert report.source == "Ray Dataset (10 partitions)"
    again = await load(database, load_id="june")
    assert (again.loaded, again.already_loaded) == (0, ROWS)
    assert await ids(database) == list(range(ROWS))


async def test_a_value_that_does_not_fit_stops_the_load_which_goes_on_by_its_name(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE orders (id int, note varchar(4))")
    with pytest.raises(dl.ValidationError, match=r"^partition 6 of 10: row 55, column 'note'") as caught:
        await load(postgres, blocks(555), load_id="june")
    committed = caught.value.committed_rows
    assert committed == len(await ids(postgres)) <= ROWS - 100
    report = await load(postgres, load_id="june")
    assert (report.loaded, report.already_loaded) == (ROWS - committed, committed)
    assert await ids(postgres) == list(range(ROWS))


async def test_rejects_of_all_blocks_are_gathered_by_their_place_in_the_whole(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE orders (id int, note varchar(4))")
    report = await load(postgres, blocks(555), on_invalid="reject")
    assert (report.loaded, report.rejects["reject_row"].tolist()) == (ROWS - 1, [555])


@pytest.fixture
async def slow(postgres: AsyncEngine) -> AsyncEngine:
    await execute(postgres, "CREATE TABLE orders (id int, note text)", *slow_trigger(every=1, seconds=0.002))
    return postgres


async def until_rows(engine: AsyncEngine, count: int) -> None:
    for _ in range(1_000):
        if len(await ids(engine)) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"there are no {count} rows")


async def test_a_cancel_rolls_the_tasks_back_and_the_load_is_continued_by_its_name(slow: AsyncEngine) -> None:
    loading = asyncio.create_task(load(slow, load_id="june"))
    await until_rows(slow, 200)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    rows = await ids(slow)
    assert 200 <= len(rows) < ROWS
    await asyncio.sleep(0.5)
    assert await ids(slow) == rows, "a task is still at it"
    report = await load(slow, load_id="june")
    assert (report.loaded, report.already_loaded) == (ROWS - len(rows), len(rows))


async def test_a_task_whose_process_is_killed_is_run_again_and_stored_once(slow: AsyncEngine) -> None:
    loading = asyncio.create_task(load(slow, load_id="june", chunk_rows=20))
    await until_rows(slow, 30)
    ours = psutil.Process().children(recursive=True)
    tasks = [one for one in ours if any("ray::load june" in part for part in one.cmdline())]
    tasks[0].kill()
    report = await asyncio.wait_for(loading, 90)
    assert report.loaded + report.already_loaded == ROWS
    assert await ids(slow) == list(range(ROWS))


async def test_what_a_dataset_cannot_do_is_refused(postgres: AsyncEngine) -> None:
    for call, match in [
        (load(postgres, client=7), "client= is for Dask"),
        (dl.plan_load(blocks(), "orders", engine=postgres), "load_dataframe loads it"),
    ]:
        with pytest.raises(dl.PlanError, match=match):
            await call
