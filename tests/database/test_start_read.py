"""Reads in the background: the cell goes on, the frame is awaited, a cancel ends the server's statement."""

from __future__ import annotations

import asyncio
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import fetch

RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE 'COPY%' AND pid <> pg_backend_pid()"
)
ENDLESS = "SELECT n, repeat('x', 200) AS filler FROM (SELECT generate_series(1, 100000000) AS n) AS t"


async def until(engine: AsyncEngine, count: int) -> None:
    async with asyncio.timeout(10):
        while await fetch(engine, RUNNING) != [(count,)]:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_a_read_goes_on_while_the_caller_blocks_its_loop(postgres: AsyncEngine, postgres_url: sa.URL) -> None:
    job = dl.start_read("SELECT n, pg_sleep(0.2) FROM generate_series(1, 2) AS n", engine=postgres_url, as_="arrow")
    assert (job.done(), job.frame) == (False, None)
    time.sleep(1.5)  # noqa: ASYNC251 - as a cell does that computes
    assert job.done()
    assert (await job).column("n").to_pylist() == [1, 2] == job.frame["n"].to_pylist()
    assert "done 100% 2 of 2 rows" in repr(job)


async def test_an_engine_that_the_caller_has_used_by_itself_reads_in_the_background_too(postgres_url: sa.URL) -> None:
    engine = dl.connect(postgres_url)
    async with engine.begin() as connection:
        assert (await dl.read_dataframe("SELECT 1 AS n", connection=connection))["n"].tolist() == [1]
    assert (await dl.start_read("SELECT 2 AS n"))["n"].tolist() == [2]
    async with engine.connect() as connection:
        assert (await connection.execute(sa.text("SELECT 3"))).scalar_one() == 3


async def test_a_cancelled_job_ends_the_servers_statement(postgres: AsyncEngine, postgres_url: sa.URL) -> None:
    job = dl.start_read(ENDLESS, engine=postgres_url)
    await until(postgres, 1)
    began = time.perf_counter()
    job.cancel()
    with pytest.raises(dl.ReadError, match="the read was cancelled"):
        await job
    assert time.perf_counter() - began < 1
    await until(postgres, 0)
    assert "cancelled" in repr(job)
    assert "The server has ended the query" in repr(job)
    assert not job.progress.can_pause


async def test_a_wait_that_is_given_up_leaves_the_job_alone(postgres: AsyncEngine, postgres_url: sa.URL) -> None:
    job = dl.start_read("SELECT 1 AS n FROM pg_sleep(0.5)", engine=postgres_url)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.ensure_future(job), 0.1)  # type: ignore[arg-type]  # it is awaitable
    assert (await job)["n"].tolist() == [1]


async def test_what_is_wrong_is_said_at_once_or_where_the_job_is_awaited(postgres_url: sa.URL) -> None:
    with pytest.raises(dl.PlanError, match="no parameter 'b'"):
        dl.start_read("SELECT 1", {"b": 1}, engine=postgres_url)
    with pytest.raises(dl.PlanError, match="as_='excel' is unknown"):
        dl.start_read("SELECT 1", engine=postgres_url, as_="excel")  # type: ignore[arg-type]
    with pytest.raises(dl.ReadError, match="nonsense"):
        await dl.start_read("SELECT nonsense", engine=postgres_url)
