"""Reads, exports and copies that are cancelled at random moments: nothing of them is left, anywhere, a second later."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database import engine as engines
from dataloader.reading import stream
from tests.conftest import FULL, execute, fetch, new_database
from tests.faults.loads import OPEN, seeded

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

CANCELS = 100 if FULL else 5
"""For each way out of each database."""
MOST_SECONDS = 1.0
_ROWS = "SELECT n, repeat('x', 200) AS filler FROM (SELECT generate_series(1, 100000000) AS n) AS t"
_COUNTED = (
    "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
    "SELECT n, (SELECT max(filler) FROM small) AS filler FROM c"
)
QUERIES = {
    "postgresql": (
        _ROWS,
        "SELECT 1 AS n, CAST(pg_sleep(60) AS text) AS filler",
        f"SELECT 1 AS n, max(filler) AS filler FROM ({_ROWS}) AS t",
        f"SELECT * FROM ({_ROWS}) AS t ORDER BY md5(filler || n) LIMIT 10",
        f"SELECT n + 0.1 AS n, filler FROM ({_ROWS}) AS t",
    ),
    "sqlite": (
        _COUNTED,
        f"SELECT max(n) AS n, filler FROM ({_COUNTED})",
        f"SELECT * FROM ({_COUNTED}) WHERE n < 0",
        f"SELECT * FROM ({_COUNTED}) ORDER BY random() LIMIT 10",
        f"SELECT n + 0.1 AS n, filler FROM ({_COUNTED})",
    ),
}
"""Rows without end, a query that thinks, one that gathers, one that sorts, and numbers whose digits are known late."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows come from and go to."""

    source: AsyncEngine
    folder: Path
    postgres: AsyncEngine
    sqlite: AsyncEngine

    @property
    def is_server(self) -> bool:
        return self.source.dialect.name == "postgresql"


Way = Callable[[str, Place], Awaitable[Any]]


async def _frame(query: str, place: Place) -> None:
    await dl.read_dataframe(query, engine=place.source, as_="arrow")


async def _batches(query: str, place: Place) -> None:
    async for _ in dl.read_batches(query, engine=place.source):
        await asyncio.sleep(0.01)


def _export(name: str) -> Way:
    async def export(query: str, place: Place) -> None:
        await dl.export(query, place.folder / name, engine=place.source)

    return export


async def _copy(query: str, place: Place) -> None:
    """By bytes where both are PostgreSQL."""
    await dl.copy_table(query, "t", source=place.source, engine=place.postgres)


async def _copy_rows(query: str, place: Place) -> None:
    await dl.copy_table(query, "t", source=place.source, engine=place.postgres, dtype={"n": sa.Numeric})


async def _copy_to_sqlite(query: str, place: Place) -> None:
    await dl.copy_table(query, "t", source=place.source, engine=place.sqlite)


WAYS: dict[str, Way] = {
    "read_dataframe": _frame,
    "read_batches": _batches,
    **{f"export to {name}": _export(name) for name in ("t.parquet", "t.csv.gz", "t.arrow", "t.jsonl")},
    "copy_table": _copy,
    "copy_table by rows": _copy_rows,
    "copy_table to SQLite": _copy_to_sqlite,
}
SHORT = ("read_dataframe", "read_batches", "export to t.parquet", "copy_table", "copy_table to SQLite")


@pytest.fixture(params=["postgresql", "sqlite"])
async def place(
    request: pytest.FixtureRequest,
    server: embedded.Server,
    admin: psycopg.Connection,
    postgres_url: sa.URL,
    tmp_path: Path,
) -> AsyncIterator[Place]:
    (tmp_path / "files").mkdir()
    source_url = postgres_url
    if request.param == "sqlite":
        source_url = sa.make_url(f"sqlite+aiosqlite:///{tmp_path / 'source.db'}")
    with new_database(server, admin) as other:
        source, target = engines.open_engine(source_url), engines.open_engine(other)
        sqlite = engines.open_engine(sa.make_url(f"sqlite+aiosqlite:///{tmp_path / 'target.db'}"))
        if request.param == "sqlite":
            await execute(
                source,
                "CREATE TABLE small (filler text)",
                "INSERT INTO small VALUES (hex(zeroblob(100)))",
            )
        await execute(sqlite, "CREATE TABLE kept (n integer)")
        yield Place(source, tmp_path / "files", target, sqlite)
        for engine in (source, target, sqlite):
            await engine.dispose()


def _is_locked(engine: AsyncEngine) -> bool:
    """Whether somebody still reads or writes a SQLite file."""
    path = str(engine.url.database)
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            connection.execute("BEGIN EXCLUSIVE")
            connection.rollback()
        except sqlite3.OperationalError:
            return True
        finally:
            connection.rollback()
    return False


async def _is_at_rest(place: Place, onlooker: AsyncEngine) -> bool:
    """Whether no server and no thread of ours does anything."""
    worked = time.process_time()
    await asyncio.sleep(0.02)
    if time.process_time() - worked > 0.015:
        return False
    is_open = [await fetch(one, OPEN) for one in (onlooker, place.postgres)]
    return not any(is_open) and not _is_locked(place.sqlite) and (place.is_server or not _is_locked(place.source))


async def _until_at_rest(place: Place, onlooker: AsyncEngine) -> float:
    began = time.perf_counter()
    async with asyncio.timeout(20):
        while not await _is_at_rest(place, onlooker):
            pass
    return time.perf_counter() - began


async def _assert_nothing_is_left(place: Place) -> None:
    assert [*place.folder.iterdir()] == []
    assert await fetch(place.postgres, "SELECT to_regclass('t')") == [(None,)]
    assert await fetch(place.sqlite, "SELECT name FROM sqlite_master") == [("kept",)]
    for engine in (place.source, place.postgres, place.sqlite):
        assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def _assert_usable(place: Place) -> None:
    """At once, in the same engines."""
    async with asyncio.timeout(5):
        for engine in (place.source, place.postgres, place.sqlite):
            assert (await dl.read_dataframe("SELECT 1 AS n", engine=engine))["n"].tolist() == [1]


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when batches are being closed, which takes a while."""
    has_begun, settled = asyncio.Event(), stream._settled

    async def slowly(reading: asyncio.Task[None]) -> None:
        has_begun.set()
        await asyncio.sleep(0.2)
        await settled(reading)

    monkeypatch.setattr(stream, "_settled", slowly)
    return has_begun


async def first_batch_and_wait(place: Place) -> None:
    async with contextlib.aclosing(dl.read_batches(_ROWS, engine=place.source)) as batches:
        async for _ in batches:
            break
    await asyncio.sleep(60)


async def columns_and_copy(place: Place) -> None:
    """It reads no row first, to learn of which types the columns are."""
    await _copy(QUERIES["postgresql"][1], place)


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
@pytest.mark.parametrize("work", [first_batch_and_wait, columns_and_copy])
async def test_a_cancel_is_not_forgotten_while_batches_are_being_closed(
    work: Callable[[Place], Coroutine[Any, Any, None]], place: Place, postgres: AsyncEngine, closing: asyncio.Event
) -> None:
    task = asyncio.create_task(work(place))
    await closing.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    await _until_at_rest(place, postgres)
    await _assert_nothing_is_left(place)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS if FULL else SHORT)
async def test_a_cancel_at_a_random_moment_leaves_nothing_anywhere_within_a_second(
    way: str, place: Place, postgres: AsyncEngine
) -> None:
    moments, slowest = seeded(), (0.0, 0.0, "")
    queries = QUERIES[place.source.dialect.name]
    await _assert_usable(place)
    for number in range(CANCELS):
        query = queries[number % len(queries)]
        task = asyncio.ensure_future(WAYS[way](query, place))
        await asyncio.sleep(moments.uniform(0, 0.6))
        began = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = time.perf_counter() - began
        left = await _until_at_rest(place, postgres)
        slowest = max(slowest, (took + left, left, query))
        await _assert_nothing_is_left(place)
        await _assert_usable(place)
    print(f"{way} from {place.source.dialect.name}: the slowest of {CANCELS} cancels took {slowest}")
    assert slowest[0] < MOST_SECONDS, slowest
