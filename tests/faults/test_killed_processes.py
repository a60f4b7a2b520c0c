"""A process that is killed in the middle of a load leaves the table as it was."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.conftest import execute, fetch

ROUNDS = 2
LOADER = """
import asyncio, sys
import dataloader as dl

def rows():
    for number in range(10_000_000):
        if number == 30_000:
            print("loading", flush=True)
        yield {"id": number, "note": "x" * 40}

asyncio.run(dl.load_rows(rows(), "orders", engine=sys.argv[1], if_exists=sys.argv[2], commit="load", chunk_rows=5_000))
"""


@pytest.mark.parametrize("if_exists", ["append", "truncate", "replace"])
async def test_a_killed_load_leaves_the_old_rows(database: AsyncEngine, if_exists: str) -> None:
    await execute(database, "CREATE TABLE orders (id bigint, note text, old int)")
    await execute(database, "INSERT INTO orders VALUES (1, NULL, NULL)")
    url = database.url.render_as_string(hide_password=False)
    for number in range(ROUNDS):
        command = [sys.executable, "-c", LOADER, url, if_exists]
        loader = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert loader.stdout is not None
        assert await loader.stdout.readline() == b"loading\n"
        await asyncio.sleep(0.2 * number)
        assert loader.returncode is None, "the load had ended before it was killed"
        loader.kill()
        await loader.wait()
        assert await fetch(database, "SELECT id, old FROM orders") == [(1, None)]
