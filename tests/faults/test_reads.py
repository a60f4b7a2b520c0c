"""Reads that are cut off or frozen: they end in a moment, and so does the server's statement."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import engine as engines
from dataloader.database import watchdog
from dataloader.reading import vigil
from tests.conftest import fetch
from tests.faults.loads import OPEN
from tests.faults.proxy import Message, Proxy

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

ROWS = "SELECT n, repeat('x', 200) AS filler FROM (SELECT generate_series(1, 100000000) AS n) AS t"
QUERIES = (ROWS, "SELECT pg_sleep(60)", f"SELECT max(filler) FROM ({ROWS}) AS t")


def entries(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


async def until_idle(direct: AsyncEngine) -> float:
    """Wait until no other session does anything, and tell for how long that was."""
    began = time.perf_counter()
    async with asyncio.timeout(20):
        while await fetch(direct, OPEN):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    return time.perf_counter() - began


@pytest.fixture
async def net(postgres_url: sa.URL) -> AsyncIterator[tuple[Proxy, AsyncEngine]]:
    """A network, and an engine behind it."""
    async with Proxy.before(postgres_url) as proxy:
        engine = engines.open_engine(proxy.url(postgres_url))
        yield proxy, engine
        proxy.thaw()
        await engine.dispose()


def cancel_request(message: Message) -> bool:
    return message.kind == "CancelRequest"


@pytest.mark.parametrize("query", QUERIES)
async def test_a_cancel_whose_request_is_lost_ends_the_statement_with_its_connection(
    net: tuple[Proxy, AsyncEngine], postgres: AsyncEngine, query: str
) -> None:
    proxy, engine = net
    trap = proxy.at(cancel_request, "reset")
    task = asyncio.create_task(dl.read_dataframe(query, engine=engine, as_="arrow"))
    while not await fetch(postgres, OPEN):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    began = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    took = time.perf_counter() - began
    assert trap.sprung.is_set() or query == ROWS  # whose rows may have been at hand
    assert took + await until_idle(postgres) < 2
    assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def copying(message: Message) -> bool:
    return message.sql.startswith("COPY")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "SILENT_SECONDS", 0.4)
    monkeypatch.setattr(vigil, "ANSWER_SECONDS", 0.6)
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.5)  # which is none of a read


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("act", ["freeze", "freeze the reply"])
async def test_a_frozen_network_is_noticed_before_the_first_row(net: tuple[Proxy, AsyncEngine], act: Any) -> None:
    proxy, engine = net
    trap = proxy.at(copying, act)
    began = time.perf_counter()
    with pytest.raises(dl.ReadError, match="does not answer on another connection either"):
        await dl.read_dataframe("SELECT pg_sleep(60)", engine=engine)
    assert trap.sprung.is_set()
    assert time.perf_counter() - began < 8
    assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.usefixtures("impatient")
async def test_a_network_that_freezes_amid_the_rows_is_noticed(net: tuple[Proxy, AsyncEngine], tmp_path: Path) -> None:
    proxy, engine = net
    task = asyncio.create_task(dl.export(ROWS, tmp_path / "t.csv", engine=engine))
    while not entries(tmp_path):  # noqa: ASYNC110 - of an export nothing is heard meanwhile
        await asyncio.sleep(0.01)
    proxy.flowing.clear()
    with pytest.raises(dl.ReadError, match="does not answer"):
        await asyncio.wait_for(task, 8)
    assert entries(tmp_path) == []


@pytest.mark.usefixtures("impatient")
async def test_a_query_that_thinks_is_left_alone(net: tuple[Proxy, AsyncEngine]) -> None:
    _, engine = net
    asked = []
    is_working = type(engines.backend_for(engine.dialect)).is_working

    async def counted(*arguments: Any) -> bool:
        asked.append(await is_working(*arguments))
        return asked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engines.backend_for(engine.dialect)), "is_working", counted)
        assert len(await dl.read_dataframe("SELECT pg_sleep(2.5)", engine=engine)) == 1
    assert len(asked) >= 2
    assert all(asked)


def mute(proxy: Proxy) -> None:
    """Have the client hear nothing more over the connections that there are."""
    for link in proxy.links:
        link.is_mute = True


@pytest.mark.usefixtures("impatient")
async def test_a_session_that_the_server_no_longer_has_is_noticed(
    net: tuple[Proxy, AsyncEngine], postgres: AsyncEngine
) -> None:
    """Its end is said to nobody, as where a firewall has forgotten the connection."""
    proxy, engine = net
    began = time.perf_counter()
    task = asyncio.create_task(dl.read_dataframe("SELECT pg_sleep(61)", engine=engine))
    query = "query LIKE 'COPY%pg_sleep(61)%' AND pid <> pg_backend_pid()"
    while not (found := await fetch(postgres, f"SELECT pid FROM pg_stat_activity WHERE {query}")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    mute(proxy)
    await fetch(postgres, "SELECT pg_terminate_backend(:pid)", pid=found[0][0])
    with pytest.raises(dl.ReadError, match="does not work on the query any more"):
        await task
    assert time.perf_counter() - began < 8


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
async def test_an_export_whose_session_is_ended_leaves_no_file(
    postgres: AsyncEngine, postgres_url: sa.URL, tmp_path: Path, name: str
) -> None:
    engine = engines.open_engine(postgres_url)
    task = asyncio.create_task(dl.export(ROWS, tmp_path / name, engine=engine))
    while not entries(tmp_path):  # noqa: ASYNC110 - of an export nothing is heard meanwhile
        await asyncio.sleep(0.01)
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid()"
    )
    assert await fetch(postgres, ending) == [(True,)]
    with pytest.raises(dl.ReadError, match=r"the connection to PostgreSQL .* was lost"):
        await task
    assert entries(tmp_path) == []
    assert (await dl.export("SELECT 1 AS n", tmp_path / name, engine=engine)).rows == 1
    await engine.dispose()


async def test_a_server_that_ends_the_session_is_said_in_words(postgres: AsyncEngine, postgres_url: sa.URL) -> None:
    engine = engines.open_engine(postgres_url)
    task = asyncio.create_task(dl.read_dataframe(ROWS, engine=engine, as_="arrow"))
    await asyncio.sleep(random.uniform(0.3, 0.6))
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid()"
    )
    assert await fetch(postgres, ending) == [(True,)]
    with pytest.raises(dl.ReadError, match=r"the connection to PostgreSQL .* was lost") as caught:
        await task
    assert "Read again" in caught.value.hint
    await engine.dispose()
