"""Memory stays flat while millions of rows are read, exported or compared, however slowly they are wanted."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database import embedded
from tests.conftest import FULL, execute, new_database

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

FEW = 1_000_000 if FULL else 300_000
MANY = 10_000_000 if FULL else 1_500_000
WAYS = ("batches", "t.parquet", "compare", *(("t.csv", "t.csv.gz", "t.arrow", "t.jsonl") if FULL else ()))
MOST_BYTES = 40 << 20
"""Less than the rows between the few and the many, 57 bytes each; what is kept ahead fills meanwhile, 5 to 26 MB."""
GIVING_BACK = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
"""Else the allocators of Arrow and glibc keep for each thread what it had, up to 100 MB by chance."""
QUERY = (
    "SELECT n, n + 0.5::float8 AS f, md5(n::text) AS s, now() AS t FROM (SELECT generate_series(1, {rows}) AS n) AS q"
)
LARGE = 200_000_000 if FULL else 40_000_000
"""The bytes of one value, which can only be sent and received as a whole."""
TIMES = {
    "text": {"read": 5, "t.parquet": 11, "t.csv": 5, "t.jsonl": 6, "copy": 2.5, "copy by rows": 6},
    "bytea": {"read": 10, "t.parquet": 11, "t.csv": 12, "copy": 2.5, "copy by rows": 10},
}
"""So many times its own size may be in memory at once: what the driver has received and hands on, what Arrow parses and
makes of it, and what a writer encodes; bytes travel as text, which has twice as many."""
MEASURE = """
import asyncio, json, sys, threading, time
import psutil
import dataloader as dl

query, few, many, way, path, url = sys.argv[1:]
process, peak, is_over = psutil.Process(), 0, False

def watch():
    global peak
    while not is_over:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.005)

async def read(rows, path):
    query_of = query.replace("{rows}", str(rows))
    if way == "compare":
        await dl.export(query_of, path + ".parquet", engine=url, progress="none", if_exists="replace")
        found = await dl.compare(path + ".parquet", query_of, key="n", engine=url, progress="none")
        assert not found.count_only_here and not found.count_only_there
        return found.rows_there
    if way == "batches":
        return sum([batch.num_rows async for batch in dl.read_batches(query_of, engine=url, progress="none")])
    return (await dl.export(query_of, path, engine=url, progress="none", if_exists="replace")).rows

async def main():
    global is_over
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        await read(int(few), path)
        before = peak
        print(json.dumps([await read(int(many), path), peak - before]))
    finally:
        is_over = True

asyncio.run(main())
"""

MEASURE_ONE = """
import asyncio, json, sys, threading, time
import psutil
import sqlalchemy as sa
import dataloader as dl

way, path, url, target = sys.argv[1:]
process, peak, is_over = psutil.Process(), 0, False

def watch():
    global peak
    while not is_over:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.002)

async def work(table, path):
    if way == "read":
        await dl.read_dataframe(table, engine=url, progress="none", as_="arrow")
    elif way.startswith("copy"):
        dtype = {"n": sa.BigInteger()} if way == "copy by rows" else None
        await dl.copy_table(table, table, source=url, engine=target, progress="none", dtype=dtype)
    else:
        await dl.export(table, path, engine=url, progress="none", if_exists="replace")

async def main():
    global is_over, peak
    await work("small", path)  # what is imported
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        time.sleep(0.1)
        before, peak = process.memory_info().rss, 0
        await work("large", path)
        print(json.dumps(peak - before))
    finally:
        is_over = True

asyncio.run(main())
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_memory_does_not_grow_with_the_result(postgres_url: sa.URL, tmp_path: Path, way: str) -> None:
    command = [sys.executable, "-c", MEASURE, QUERY, str(FEW), str(MANY), way, str(tmp_path / way), plain(postgres_url)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | GIVING_BACK)
    count, growth = json.loads(shown.stdout)
    print(f"{way}: {growth / (1 << 20):.0f} MB more for {count:,} rows")
    assert count == MANY
    assert growth < MOST_BYTES


def plain(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False).replace("+asyncpg", "")


@pytest.fixture
def target(server: embedded.Server, admin: psycopg.Connection) -> Iterator[str]:
    """The URL of another new database."""
    with new_database(server, admin) as url:
        yield plain(url)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "way"), [(kind, way) for kind, ways in TIMES.items() for way in (ways if FULL else ("read", "copy"))]
)
async def test_a_large_value_is_in_memory_a_few_times(
    target: str, postgres: AsyncEngine, tmp_path: Path, kind: str, way: str
) -> None:
    value = f"repeat('x', {LARGE})" if kind == "text" else f"convert_to(repeat('x', {LARGE}), 'SQL_ASCII')"
    await execute(
        postgres,
        f"CREATE TABLE small AS SELECT 1 AS n, CAST('x' AS {kind}) AS a",
        f"CREATE TABLE large AS SELECT 1 AS n, {value} AS a",
    )
    arguments = (way, str(tmp_path / way), plain(postgres.url), target)
    shown = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEASURE_ONE, *arguments, stdout=asyncio.subprocess.PIPE
    )
    growth = json.loads((await shown.communicate())[0])
    print(f"{kind}, {way}: {growth / LARGE:.2f} times {LARGE:,} bytes")
    assert growth < TIMES[kind][way] * LARGE
