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

ROWS = 10_000_000 if FULL else 1_000_000
WAYS = ("batches", "t.parquet", *(("t.csv", "t.csv.gz", "t.arrow", "t.jsonl") if FULL else ()))
MOST_BYTES = 64 << 20
QUERY = (
    "SELECT n, n + 0.5::float8 AS f, md5(n::text) AS s, now() AS t FROM (SELECT generate_series(1, {rows}) AS n) AS q"
)
MEASURE = """
import asyncio, json, sys, threading, time
import psutil
import dataloader as dl

query, rows, way, path, url = sys.argv[1:]
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
    global peak, is_over
    await read(200_000, path)
    before = process.memory_info().rss
    watching = threading.Thread(target=watch)
    watching.start()
    count = await read(int(rows), path)
    is_over = True
    watching.join()
    print(json.dumps([count, peak - before]))

asyncio.run(main())
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_memory_does_not_grow_with_the_result(postgres_url: sa.URL, tmp_path: Path, way: str) -> None:
    url = postgres_url.render_as_string(hide_password=False).replace("+asyncpg", "")
    command = [sys.executable, "-c", MEASURE, QUERY, str(ROWS), way, str(tmp_path / way), url]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    count, growth = json.loads(shown.stdout)
    print(f"{way}: {growth / (1 << 20):.0f} MB more for {count:,} rows")
    assert count == ROWS
    assert growth < MOST_BYTES
