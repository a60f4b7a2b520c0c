"""Memory stays flat while millions of rows are read or exported, however slowly they are wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import FULL

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

FEW = 1_000_000
MANY = 10_000_000 if FULL else 4_000_000
WAYS = ("batches", "t.parquet", *(("t.csv", "t.csv.gz", "t.arrow", "t.jsonl") if FULL else ()))
MOST_BYTES = 64 << 20
"""Far less than the rows between the few and the many, 57 bytes each, and more than allocators keep by chance."""
QUERY = (
    "SELECT n, n + 0.5::float8 AS f, md5(n::text) AS s, now() AS t FROM (SELECT generate_series(1, {rows}) AS n) AS q"
)
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


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_memory_does_not_grow_with_the_result(postgres_url: sa.URL, tmp_path: Path, way: str) -> None:
    url = postgres_url.render_as_string(hide_password=False).replace("+asyncpg", "")
    command = [sys.executable, "-c", MEASURE, QUERY, str(FEW), str(MANY), way, str(tmp_path / way), url]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    count, growth = json.loads(shown.stdout)
    print(f"{way}: {growth / (1 << 20):.0f} MB more for {count:,} rows")
    assert count == MANY
    assert growth < MOST_BYTES
