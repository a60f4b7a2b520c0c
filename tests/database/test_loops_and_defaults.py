"""Engines that nobody holds: those of loops that have ended, and those that a later connect() has replaced."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import threading
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.backends import sqlite as sqlite_backend
from dataloader.database.engine import dispose_all, resolve
from tests.conftest import execute, fetch

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dataloader' AND pid <> pg_backend_pid()"
ROUNDS = 8


def loading(engine: object = None) -> Coroutine[Any, Any, dl.LoadReport]:
    return dl.load_dataframe({"id": [1]}, "t", engine=engine)  # type: ignore[typeddict-item]


def by_hand(work: Coroutine[Any, Any, Any]) -> None:
    """As code from before asyncio.run() does."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(work)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def assert_backends(url: sa.URL, count: int) -> None:
    """The server ends a backend some time after its client has closed the connection."""
    engine = sa.ext.asyncio.create_async_engine(
        url, connect_args={"server_settings": {"application_name": "dataloader"}}
    )
    for _ in range(200):
        if (found := await fetch(engine, BACKENDS)) == [(count,)]:
            break
        await asyncio.sleep(0.01)
    await engine.dispose()
    assert found == [(count,)]


@pytest.mark.slow
@pytest.mark.parametrize("given", ["url", "default"])
@pytest.mark.parametrize("run", [asyncio.run, by_hand])
def test_loops_that_have_ended_leave_no_backend_behind(
    given: str, run: Callable[[Any], Any], postgres_url: sa.URL, recwarn: pytest.WarningsRecorder
) -> None:
    engine = postgres_url if given == "url" else dl.connect(postgres_url) and None
    for _ in range(ROUNDS):
        run(loading(engine))
    asyncio.run(assert_backends(postgres_url, 0))
    gc.collect()
    assert [str(one.message) for one in recwarn] == []


def test_loops_that_have_ended_leave_no_thread_of_sqlite_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in range(ROUNDS):
        asyncio.run(loading(f"sqlite:///{tmp_path / 'loops.db'}"))
    assert threading.active_count() == before


def test_a_database_in_memory_outlives_the_loop_that_filled_it() -> None:
    engine = dl.connect("sqlite:///:memory:")
    for _ in range(2):
        asyncio.run(loading())
    assert asyncio.run(fetch(engine, "SELECT count(*) FROM t")) == [(2,)]
    asyncio.run(engine.dispose())


def test_an_engine_is_used_again_once_its_loop_has_ended(postgres_url: sa.URL) -> None:
    """Also by a call that is given the engine, and for a loop that was closed without a word."""
    engine = dl.connect(postgres_url)

    async def used() -> AsyncEngine:
        await loading()
        await loading(engine)
        return resolve(None)

    for _ in range(2):
        assert asyncio.run(used()) is engine
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(used()) is engine
    loop.close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        assert asyncio.run(used()) is engine
        gc.collect()
    asyncio.run(assert_backends(postgres_url, 0))


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "server settings": (
        {"connect_args": {"server_settings": {"application_name": "one"}}},
        {"connect_args": {"server_settings": {"application_name": "two"}}},
    ),
    "a limit of time": ({"connect_args": {"command_timeout": 60}}, {"connect_args": {"command_timeout": 0.01}}),
    "the pool's size": ({"pool_size": 3}, {"pool_size": 4}),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_the_last_connect_counts_with_its_options(
    options: tuple[dict[str, Any], dict[str, Any]], postgres_url: sa.URL
) -> None:
    for chosen in options:
        engine = dl.connect(postgres_url, **chosen)
        assert resolve(None) is engine


async def test_a_second_connect_with_another_search_path_loads_there(
    postgres_url: sa.URL, postgres: AsyncEngine
) -> None:
    await execute(postgres, "CREATE SCHEMA one", "CREATE SCHEMA two")
    for schema in ("one", "two"):
        dl.connect(postgres_url, connect_args={"server_settings": {"search_path": schema}})
        assert (await loading()).loaded == 1
        assert await fetch(postgres, f"SELECT count(*) FROM {schema}.t") == [(1,)]


async def test_the_callers_listeners_are_heard_in_every_loop(postgres_url: sa.URL) -> None:
    """In the one that uses the engine first, and in those beside it, which get a pool of their own."""
    engine, heard = dl.connect(postgres_url), list[str]()
    sa.event.listen(engine.sync_engine, "connect", lambda *_: heard.append("connect"))
    sa.event.listen(engine.sync_engine, "begin", lambda *_: heard.append("begin"))
    await loading()
    assert {"connect", "begin"} == set(heard)
    heard.clear()
    assert (await asyncio.to_thread(dl.run, loading())).loaded == 1
    assert {"connect", "begin"} == set(heard)
    await asyncio.to_thread(dl.run, dispose_all())


async def test_an_engine_that_was_replaced_is_disposed_of_when_it_is_not_in_use(postgres_url: sa.URL) -> None:
    former = dl.connect(postgres_url)
    await loading()
    async with former.connect() as connection:
        for _ in range(3):
            dl.connect(postgres_url)
            await loading()
        assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1
    assert former.pool.checkedin() == 1  # type: ignore[attr-defined]
    await assert_backends(postgres_url, 2)
    await loading()
    await asyncio.sleep(0.2)
    await assert_backends(postgres_url, 1)
    assert await fetch(former, "SELECT count(*) FROM t") == [(5,)]
    await former.dispose()


@pytest.mark.parametrize("given", ["engine", "default"])
async def test_a_database_in_memory_is_the_same_in_two_loops_that_run(given: str) -> None:
    engine = dl.connect("sqlite:///:memory:")
    which = engine if given == "engine" else None
    await loading(which)
    await asyncio.to_thread(dl.run, loading(which))
    assert await fetch(engine, "SELECT count(*) FROM t") == [(2,)]
    await engine.dispose()


async def test_loads_and_reads_of_a_database_in_memory_take_turns() -> None:
    """They share its connection: one's transaction was the other's, and its rollback took rows that were reported."""
    engine = dl.connect("sqlite:///:memory:")
    counts = [30_000, 500, 70_000, 10, 20_000]

    async def load(number: int) -> int:
        await asyncio.sleep(number * 0.02)
        data = {"id": list(range(counts[number]))}
        await dl.load_dataframe(data, f"t{number}", commit="chunk" if number % 2 else "auto", progress="none")
        return len(await dl.read_dataframe(f"t{number}", progress="none"))

    assert await asyncio.gather(*map(load, range(len(counts)))) == counts
    assert [len(await dl.read_dataframe(f"t{number}", progress="none")) for number in range(len(counts))] == counts
    await engine.dispose()


async def test_a_load_while_a_database_in_memory_is_read_says_that_it_has_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite_backend, "TURN_SECONDS", 0.2)
    engine = dl.connect("sqlite:///:memory:")
    await dl.load_dataframe({"id": list(range(400_000))}, "t", progress="none")
    said = "the only connection of SQLite :memory: for 0.2 s. Nothing was written. Wait for it"
    async with contextlib.aclosing(dl.read_batches("t", progress="none")) as batches:
        async for batch in batches:
            with pytest.raises(dl.LoadError, match=re.escape(said)):
                await dl.load_dataframe(batch, "u", progress="none")
            break
    assert (await dl.load_dataframe({"id": [1]}, "u", progress="none")).loaded == 1
    await engine.dispose()
