"""A source is streamed: the memory of a load does not grow with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.conftest import FULL

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

MEGABYTES = 48
LOADER = """
import asyncio, resource, sys
import dataloader as dl

def rows(count):
    return ({"id": number, "note": "x" * 400} for number in range(count))

async def main(source, url):
    for count in (20_000, 400_000):
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
    for count in (20_000, 400_000):
        table = pa.table({"id": range(count), "note": ["x" * 400] * count})
        pyarrow.csv.write_csv(table, folder / f"{count}.csv")
        pyarrow.parquet.write_table(table, folder / f"{count}.parquet", row_group_size=20_000)
    return folder


@pytest.mark.parametrize("source", ["rows", "csv", "parquet"])
def test_twenty_times_the_rows_need_no_more_memory(database: AsyncEngine, big_files: Path, source: str) -> None:
    command = [sys.executable, "-c", LOADER, source, database.url.render_as_string(hide_password=False)]
    shown = subprocess.run(command, cwd=big_files, check=True, capture_output=True, text=True)
    small, large = map(int, shown.stdout.split())
    assert large - small < MEGABYTES


REJECTING = """
import asyncio, resource, sys
import dataloader as dl, pyarrow as pa, sqlalchemy as sa

TABLE = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))

def batches(count):
    for start in range(0, count, 2_000):
        numbers = range(start, start + 2_000)
        yield pa.record_batch({"id": list(numbers), "v": [f"{number} is wrong {'x' * 1_000}" for number in numbers]})

async def main(what, url, counts):
    options = {"engine": url, "chunk_rows": 2_000, "progress": "none"}
    for count in counts:
        if what == "load":
            load = dl.load_batches(batches(count), TABLE, on_invalid="reject", load_id=f"{count}", **options)
            report = await load
            assert report.rejected == count
            report.rejects_to("rejects.csv")
        else:
            reader = pa.RecordBatchReader.from_batches(next(batches(1)).schema, batches(count))
            report = await dl.validate(reader, TABLE, **options)
            assert report.invalid_rows == len(report.violations) == count
        assert f"{count:,}" in str(report) and report._repr_html_()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)

asyncio.run(main(sys.argv[1], sys.argv[2], [int(count) for count in sys.argv[3:]]))
"""


@pytest.mark.timeout(1_200 if FULL else 120)
@pytest.mark.parametrize(("what", "few", "many"), [("load", 14_000, 40_000), ("validate", 20_000, 90_000)])
def test_what_is_wrong_with_many_rows_needs_no_more_memory(
    sqlite: AsyncEngine, tmp_path: Path, what: str, few: int, many: int
) -> None:
    """The few are enough to fill what stays in memory."""
    counts = (str(few), str(2_000_000 if FULL else many))
    command = [sys.executable, "-c", REJECTING, what, str(sqlite.url), *counts]
    shown = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    first, last = map(int, shown.stdout.split())
    assert last - first < (MEGABYTES if FULL else 24)
