"""A hot standby: it is read from like any server; what the primary's changes end is read again, or told; no load."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import enterable_folder, execute, fetch
from tests.faults.test_reads import entries

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

IMPATIENT = {"max_standby_streaming_delay": "0", "max_standby_archive_delay": "0", "hot_standby_feedback": "off"}
"""A query that is in the way of the primary's changes is ended at once."""

VACUUMED = 50
"""So many rows are taken away at a time."""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[sa.URL, sa.URL]]:
    """A server, and its standby, which streams what the first one writes."""
    with enterable_folder() as folder:
        settings = embedded.FAST_AND_LOOSE | {"wal_level": "replica", "autovacuum": "off"}
        primary = embedded.start(folder / "pg", embedded.find_binaries(), settings)
        copied = folder / "standby"
        copied.mkdir()
        if primary.account:
            copied.chmod(0o777)
        command = ["pg_basebackup", "-h", str(primary.sockets), "-U", "postgres", "-D", str(copied / "data"), "-R"]
        subprocess.run(
            [str(primary.binaries / command[0]), *command[1:], "-c", "fast", "-X", "stream"],
            check=True,
            cwd="/",
            **primary.account,
        )
        standby = embedded.start(copied, embedded.find_binaries(), embedded.FAST_AND_LOOSE | IMPATIENT)
        yield primary.url, standby.url


@pytest.fixture
async def engines(pair: tuple[sa.URL, sa.URL]) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine]]:
    primary, standby = open_engine(pair[0]), open_engine(pair[1])
    yield primary, standby
    await standby.dispose()
    await execute(primary, "DROP TABLE IF EXISTS t, copy CASCADE")
    await primary.dispose()


async def replayed(primary: AsyncEngine, standby: AsyncEngine) -> None:
    """Wait until the standby has all that the primary has written."""
    ((position,),) = await fetch(primary, "SELECT CAST(pg_current_wal_insert_lsn() AS text)")
    async with asyncio.timeout(20):
        query = f"SELECT pg_last_wal_replay_lsn() >= CAST('{position}' AS pg_lsn)"
        while await fetch(standby, query) != [(True,)]:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)


@pytest.fixture
async def rows(engines: tuple[AsyncEngine, AsyncEngine]) -> int:
    """How many rows there are on both."""
    primary, standby = engines
    await execute(
        primary, "CREATE TABLE t AS SELECT g AS id, repeat('x', 2000) AS filler FROM generate_series(1, 2000) g"
    )
    await replayed(primary, standby)
    return 2_000


async def vacuumed(primary: AsyncEngine) -> None:
    """Take rows away that the standby's queries may still see."""
    await execute(primary, f"DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY id LIMIT {VACUUMED})")
    async with primary.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text("VACUUM t"))


async def until_asked(standby: AsyncEngine, what: str) -> None:
    """Wait until the standby works on a query."""
    query = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE :what AND pid <> pg_backend_pid()"
    async with asyncio.timeout(20):
        while not await fetch(standby, query, what=f"COPY%{what}%"):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_a_standby_is_read_from_like_any_server(
    engines: tuple[AsyncEngine, AsyncEngine], rows: int, tmp_path: Path
) -> None:
    primary, standby = engines
    frame = await dl.read_dataframe("t", engine=standby)
    assert len(frame) == rows
    assert sum([batch.num_rows async for batch in dl.read_batches("t", engine=standby)]) == rows
    assert (await dl.export("t", tmp_path / "t.parquet", engine=standby)).rows == rows
    assert (await dl.copy_table("t", "copy", source=standby, engine=primary)).loaded == rows
    assert (await dl.compare(frame, "t", key="id", engine=standby)).equal
    assert await dl.validate(frame, "t", engine=standby)


async def test_a_query_that_is_ended_for_the_primary_before_its_first_row_is_carried_out_again(
    engines: tuple[AsyncEngine, AsyncEngine], rows: int
) -> None:
    primary, standby = engines
    query = "SELECT count(*) AS n, CAST(pg_sleep(1.5) AS text) AS slept FROM t"
    reading = asyncio.ensure_future(dl.read_dataframe(query, engine=standby))
    await until_asked(standby, "slept")
    await vacuumed(primary)
    assert (await reading)["n"].tolist() == [rows - VACUUMED]  # which the first attempt has not seen
    assert standby.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_query_that_is_ended_again_and_again_is_told_with_what_to_do(
    engines: tuple[AsyncEngine, AsyncEngine], rows: int
) -> None:
    primary, standby = engines
    reading = asyncio.ensure_future(dl.read_dataframe("SELECT id, pg_sleep(30) FROM t", engine=standby))
    async with asyncio.timeout(20):
        while not reading.done():
            await vacuumed(primary)
            await asyncio.sleep(0.1)
    with pytest.raises(dl.ReadError, match="conflict with recovery") as caught:
        await reading
    assert caught.value.sqlstate == "40001"
    assert "read from its primary" in caught.value.hint


async def test_a_query_that_has_given_rows_is_told_and_leaves_no_file(
    engines: tuple[AsyncEngine, AsyncEngine], rows: int, postgres: AsyncEngine, tmp_path: Path
) -> None:
    primary, standby = engines
    query = "SELECT id, filler, CAST(pg_sleep(0.005) AS text) AS slept FROM t"
    exporting = asyncio.ensure_future(dl.export(query, tmp_path / "t.csv", engine=standby))
    async with asyncio.timeout(20):
        while not entries(tmp_path):  # noqa: ASYNC110 - of an export nothing is heard meanwhile
            await asyncio.sleep(0.01)
    await vacuumed(primary)
    with pytest.raises(dl.ReadError, match="conflict with recovery"):
        await exporting
    assert entries(tmp_path) == []
    await execute(postgres, "CREATE TABLE copy (id integer, filler text, slept text)")
    copying = asyncio.ensure_future(dl.copy_table(query, "copy", source=standby, engine=postgres))
    await until_asked(standby, "slept")
    await asyncio.sleep(0.3)
    await vacuumed(primary)
    with pytest.raises(dl.ReadError, match="conflict with recovery") as caught:
        await copying
    assert "read from its primary" in caught.value.hint
    assert await fetch(postgres, "SELECT count(*) FROM copy") == [(0,)]


LOADS: dict[str, dict[str, Any]] = {
    "copy": {},
    "insert": {"method": "insert"},
    "by chunks": {"commit": "chunk"},
    "with a name": {"load_id": "a", "resume": True},
    "truncate": {"if_exists": "truncate"},
    "replace": {"if_exists": "replace"},
    "verified": {"verify": True},
    "dry run": {"dry_run": True},
}


@pytest.mark.parametrize("table", ["t", "new"])
@pytest.mark.parametrize("options", LOADS.values(), ids=LOADS)
async def test_a_load_into_a_standby_is_refused_in_words_before_it_has_sent_a_row(
    engines: tuple[AsyncEngine, AsyncEngine], rows: int, table: str, options: dict[str, Any]
) -> None:
    _, standby = engines
    with pytest.raises(dl.WriteError, match="The server is a standby") as caught:
        await dl.load_dataframe({"id": [1], "filler": ["x"]}, table, engine=standby, **options)
    assert caught.value.sqlstate == "25006"
    assert caught.value.committed_rows == 0
    assert standby.pool.checkedout() == 0  # type: ignore[attr-defined]
