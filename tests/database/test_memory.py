"""A source is streamed: the memory of a load does not grow with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

MEGABYTES = 48
LOADER = """
import asyncio, resource, sys
import dataloader as dl

def rows(count):
    return ({"id": number, "note": "x" * 60} for number in range(count))

async def main(source, url):
    for count in (50_000, 1_000_000):
        if source == "rows":
            await dl.load_rows(rows(count), "t", engine=url, if_exists="replace", progress="none")
        else:
            await dl.load_files(f"{count}.{source}", "t", engine=url, if_exists="replace", progress="none")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.fixture(scope="module")
def big_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("big")
    for count in (50_000, 1_000_000):
        table = pa.table({"id": range(count), "note": ["x" * 60] * count})
        pyarrow.csv.write_csv(table, folder / f"{count}.csv")
        pyarrow.parquet.write_table(table, folder / f"{count}.parquet", row_group_size=50_000)
    return folder


@pytest.mark.parametrize("source", ["rows", "csv", "parquet"])
def test_twenty_times_the_rows_need_no_more_memory(database: AsyncEngine, big_files: Path, source: str) -> None:
    command = [sys.executable, "-c", LOADER, source, database.url.render_as_string(hide_password=False)]
    shown = subprocess.run(command, cwd=big_files, check=True, capture_output=True, text=True)
    small, large = map(int, shown.stdout.split())
    assert large - small < MEGABYTES
