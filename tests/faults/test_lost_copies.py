"""Copies whose network freezes on either side: an error in words, nothing half, and the other side's statement ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.copying import pipe
from dataloader.database import embedded, watchdog
from dataloader.database import engine as engines
from dataloader.reading import vigil
from tests.conftest import execute, fetch, new_database
from tests.faults.loads import OPEN
from tests.faults.proxy import Proxy
from tests.faults.test_reads import ROWS

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

COLUMNS = {"by bytes": "n int, filler text", "by rows": "n bigint, filler text"}
by_way = pytest.mark.parametrize("way", COLUMNS)


@dataclass(frozen=True, slots=True)
class End:
    """A database: an engine behind a network, and one that goes past it."""

    net: Proxy
    engine: AsyncEngine
    direct: AsyncEngine


@pytest.fixture
async def ends(server: embedded.Server, admin: psycopg.Connection) -> AsyncIterator[tuple[End, End]]:
    """Where rows come from, and where they go."""
    with new_database(server, admin) as source, new_database(server, admin) as target:
        async with Proxy.before(source) as one, Proxy.before(target) as two:
            made = [
                End(net, engines.open_engine(net.url(url)), engines.open_engine(url))
                for net, url in ((one, source), (two, target))
            ]
            yield made[0], made[1]
            for end in made:
                end.net.thaw()
                await end.engine.dispose()
                await end.direct.dispose()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "SILENT_SECONDS", 0.4)
    monkeypatch.setattr(vigil, "ANSWER_SECONDS", 0.8)
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 1.5)


async def copying(ends: tuple[End, End], way: str, query: str) -> asyncio.Task[dl.LoadReport]:
    """A copy whose rows, if it has any, are under way."""
    source, target = ends
    await execute(target.direct, f"CREATE TABLE t ({COLUMNS[way]})")
    task = asyncio.ensure_future(dl.copy_table(query, "t", source=source.engine, engine=target.engine))
    async with asyncio.timeout(20):
        ends_copying = ends if query == ROWS else (source,)
        for end in ends_copying:
            while not await fetch(end.direct, f"SELECT 1 FROM ({OPEN}) AS o WHERE query LIKE 'COPY%'"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert not task.done()
    return task


async def assert_nothing_is_left(ends: tuple[End, End]) -> None:
    for end in ends:
        end.net.thaw()
        assert end.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        for end in ends:
            while await fetch(end.direct, OPEN):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.02)
    source, target = ends
    assert await fetch(target.direct, "SELECT count(*) FROM t") == [(0,)]
    report = await dl.copy_table("SELECT 1 AS n, 'x' AS filler", "t", source=source.engine, engine=target.engine)
    assert report.loaded == 1  # in the same engines


@by_way
@pytest.mark.parametrize("query", [ROWS, "SELECT 1 AS n, CAST(pg_sleep(60) AS text) AS filler"])
async def test_a_network_that_freezes_before_the_source_is_noticed(ends: tuple[End, End], way: str, query: str) -> None:
    task, began = await copying(ends, way, query), time.perf_counter()
    ends[0].net.flowing.clear()
    with pytest.raises(dl.ReadError, match="does not answer on another connection either"):
        await asyncio.wait_for(task, 15)
    print(f"noticed after {time.perf_counter() - began:.1f} s")
    assert await fetch(ends[1].direct, OPEN) == []
    await assert_nothing_is_left(ends)


@by_way
async def test_a_network_that_freezes_before_the_destination_is_noticed(ends: tuple[End, End], way: str) -> None:
    task = await copying(ends, way, ROWS)
    ends[1].net.flowing.clear()
    with pytest.raises(dl.ConnectionLost, match="no progress"):
        await asyncio.wait_for(task, 15)
    async with asyncio.timeout(2):
        while await fetch(ends[0].direct, OPEN):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
    await assert_nothing_is_left(ends)


async def test_a_query_that_thinks_between_its_rows_is_left_alone(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a database may take to accept rows."""
    monkeypatch.setattr(pipe, "PIECE_BYTES", 1)
    source, target = ends
    await execute(target.direct, f"CREATE TABLE t ({COLUMNS['by bytes']})")
    long = "repeat('x', 20000)"  # so that the server sends it before it thinks
    query = f"SELECT n, {long} || pg_sleep(CASE n WHEN 9 THEN 3 ELSE 0 END) AS filler FROM generate_series(1, 9) n"
    report = await dl.copy_table(query, "t", source=source.engine, engine=target.engine)
    assert (report.loaded, report.reason) == (9, pipe.REASON)
