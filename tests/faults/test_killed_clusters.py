"""Dask clusters whose workers, scheduler or client are killed, or whose shards run twice: each row is there once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
import pytest
import sqlalchemy as sa
from distributed import Client, LocalCluster
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import FULL, execute, fetch
from tests.database.conftest import free_port
from tests.faults.loads import seeded, slow_trigger

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

RUNS = 20 if FULL else 1
ROWS, COUNT = (20_000, 20) if FULL else (8_000, 8)
LARGE_ROWS, LARGE_COUNT = (10_000_000, 100) if FULL else (300_000, 6)
PATIENT = {
    "distributed.scheduler.allowed-failures": 100,  # a worker that is killed is no fault of its task
    "distributed.comm.timeouts.connect": "30s",
}


@contextlib.contextmanager
def two_workers() -> Iterator[LocalCluster]:
    with (
        dask.config.set(PATIENT),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as started,
    ):
        yield started


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with two_workers() as started:
        yield started


@pytest.fixture
async def slow(postgres: AsyncEngine) -> AsyncEngine:
    await execute(postgres, "CREATE TABLE orders (id bigint, note text)", *slow_trigger(seconds=0.02))
    return postgres


def frame() -> Any:
    return dd.from_pandas(pd.DataFrame({"id": range(ROWS), "note": "x" * 40}), npartitions=COUNT)


async def load(engine: AsyncEngine, client: Client, **options: Any) -> dl.LoadReport:
    options = {"chunk_rows": 250, "load_id": "june", "progress": "none"} | options
    return await dl.load_dataframe(frame(), "orders", engine=engine, client=client, **options)


async def contents(engine: AsyncEngine) -> list[tuple[Any, ...]]:
    return await fetch(engine, "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM orders")


WHOLE = [(ROWS, ROWS, 0, ROWS - 1)]


async def until_rows(engine: AsyncEngine, rows: int) -> None:
    for _ in range(3_000):
        if (await contents(engine))[0][0] >= rows:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"there are no {rows} rows")


async def test_workers_that_are_killed_at_random_leave_each_row_once(slow: AsyncEngine) -> None:
    """A cluster for each: a nanny does not replace a worker that is killed before it has come up."""
    random = seeded()
    for run in range(RUNS):
        await execute(slow, "TRUNCATE orders")
        with two_workers() as cluster, Client(cluster) as client:
            loading = asyncio.create_task(load(slow, client, load_id=f"run {run}"))
            await until_rows(slow, random.randrange(1, ROWS // 2))
            pids = await asyncio.to_thread(client.run, os.getpid)
            os.kill(random.choice([*pids.values()]), signal.SIGKILL)
            report = await asyncio.wait_for(loading, 120)
        assert report.loaded + report.already_loaded == ROWS
        assert await contents(slow) == WHOLE


async def test_shards_that_are_run_twice_at_once_are_stored_once(slow: AsyncEngine, cluster: LocalCluster) -> None:
    """As a scheduler does that takes a slow task for a lost one."""
    with Client(cluster) as one, Client(cluster, set_as_default=False) as other:
        reports = await asyncio.gather(load(slow, one), load(slow, other))
    assert sum(report.loaded for report in reports) == ROWS
    assert [report.loaded + report.already_loaded for report in reports] == [ROWS, ROWS]
    assert await contents(slow) == WHOLE


CLIENT = """
    import asyncio, sys
    import dask.dataframe as dd, pandas as pd
    from distributed import Client
    import dataloader as dl

    async def main():
        async with Client(sys.argv[1], asynchronous=True) as client:
            data = dd.from_pandas(pd.DataFrame({{"id": range({rows}), "note": "x" * 40}}), npartitions={count})
            await dl.load_dataframe(
                data, "orders", engine=sys.argv[2], client=client, chunk_rows=250, load_id="june", progress="none"
            )

    asyncio.run(main())
    """


async def test_a_load_whose_client_was_killed_is_continued_by_another(
    slow: AsyncEngine, postgres_url: sa.URL, cluster: LocalCluster
) -> None:
    code = textwrap.dedent(CLIENT.format(rows=ROWS, count=COUNT))
    url = postgres_url.render_as_string(hide_password=False)
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cluster.scheduler_address, url)
    try:
        await until_rows(slow, ROWS // 10)
    finally:
        killed.kill()
        await killed.wait()
    with Client(cluster) as client:
        report = await load(slow, client)
    assert report.already_loaded >= ROWS // 10
    assert await contents(slow) == WHOLE


class Processes:
    """A scheduler and two workers, each a process of its own."""

    def __init__(self, port: int) -> None:
        self.address = f"tcp://127.0.0.1:{port}"
        own = ["--host", "127.0.0.1", "--no-dashboard"]
        self.scheduler = self._started("scheduler", "--port", str(port), *own)
        workers = [*own, "--nthreads", "1", "--no-nanny", "--death-timeout", "60"]
        self.all = [self.scheduler, *(self._started("worker", self.address, *workers) for _ in range(2))]

    @staticmethod
    def _started(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=subprocess.DEVNULL)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.all:
            one.kill()
            one.wait()


async def test_a_load_whose_scheduler_was_killed_ends_with_an_error_and_is_continued_by_another(
    slow: AsyncEngine, cluster: LocalCluster
) -> None:
    with Processes(free_port()) as processes, Client(processes.address, timeout="60s") as client:
        loading = asyncio.create_task(load(slow, client))
        await until_rows(slow, ROWS // 10)
        processes.scheduler.kill()
        killed = time.perf_counter()
        with pytest.raises(dl.LoadError, match="load_id='june'"):
            await asyncio.wait_for(loading, 60)
        print(f"told after {time.perf_counter() - killed:.1f} s")
    print(f"closed after {time.perf_counter() - killed:.1f} s")
    with Client(cluster) as client:
        report = await load(slow, client)
    assert report.already_loaded >= ROWS // 10
    assert await contents(slow) == WHOLE


async def test_memory_of_client_and_scheduler_does_not_grow_with_the_rows(
    postgres: AsyncEngine, cluster: LocalCluster
) -> None:
    """They see reports, and no rows."""

    def rows(start: int, count: int) -> pd.DataFrame:
        return pd.DataFrame({"id": np.arange(start, start + count), "note": "x" * 40})

    each = LARGE_ROWS // LARGE_COUNT
    starts = range(0, LARGE_ROWS, each)
    data = dd.from_map(rows, starts, count=each, meta=rows(0, 0))
    process, before = psutil.Process(), psutil.Process().memory_info().rss  # the scheduler lives in it
    with Client(cluster):
        started = time.perf_counter()
        report = await dl.load_dataframe(data, "orders", engine=postgres, progress="none")
        print(f"{report.loaded:,} rows in {time.perf_counter() - started:.1f} s")
    grown = (process.memory_info().rss - before) / 2**20
    print(f"client and scheduler have grown by {grown:.0f} MB")
    assert report.loaded == LARGE_ROWS
    found = await fetch(postgres, "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM orders")
    assert found == [(LARGE_ROWS, LARGE_ROWS, 0, LARGE_ROWS - 1)]
    assert grown < 150
