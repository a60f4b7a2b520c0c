"""Loads of new files that are killed in the middle and run again: every row of every file is there exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch
from tests.faults.loads import seeded

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

FILES, ROWS, KILLS = 6, 3_000, 3
CALL = """
import asyncio, sys
import dataloader as dl

async def main():
    engine = dl.connect(sys.argv[1])
    print("begins", flush=True)
    options = {"commit": "chunk", "chunk_rows": 250, "resume": True, "workers": 1} if sys.argv[3] == "chunks" else {}
    report = await dl.load_files(sys.argv[2], "t", engine=engine, only_new=True, progress="none", **options)
    await engine.dispose()

asyncio.run(main())
"""


def write(folder: Path, first: int, files: int) -> None:
    for number in range(first, first + files):
        rows = range(number * ROWS, (number + 1) * ROWS)
        (folder / f"{number:03}.csv").write_text("id,name\n" + "".join(f"{row},name {row}\n" for row in rows))


def run(url: str, folder: Path, how: str, moments: random.Random, *, kills: bool) -> int | None:
    """Load what is new in a process of its own; its exit code, None if it was killed."""
    command = [sys.executable, "-c", CALL, url, str(folder), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n", process.stderr and process.stderr.read().decode()
        try:
            code = process.wait(moments.uniform(0.05, 0.5) if kills else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
        assert code == 0, process.stderr and process.stderr.read().decode()
        return code


@pytest.mark.parametrize("how", ["one transaction", "chunks"])
async def test_new_files_are_there_once_however_often_their_load_is_killed(
    database: AsyncEngine, tmp_path: Path, how: str
) -> None:
    moments, url = seeded(), database.url.render_as_string(hide_password=False)
    (folder := tmp_path / "in").mkdir()
    await execute(database, "CREATE TABLE t (id BIGINT, name TEXT)")
    write(folder, 0, FILES)
    for _ in range(KILLS):
        if run(url, folder, how, moments, kills=True) == 0:
            break
    run(url, folder, how, moments, kills=False)
    done = FILES * ROWS
    counted = "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM t"
    assert await fetch(database, counted) == [(done, done, 0, done - 1)]
    report = await dl.load_files(folder, "t", engine=database, only_new=True, progress="none")
    assert (report.loaded, report.passed_over) == (0, FILES)
