"""One engine and more than one loop: what works, what is refused and how, and what a forked process may do."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.conftest import fetch

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

BEGIN = """
import asyncio, os, sys
import dataloader as dl
from dataloader.database.engine import open_engine
from sqlalchemy import make_url

ROWS = {"id": [1, 2]}
url = make_url(sys.argv[1])
engine = open_engine(url)

def load(to=engine):
    return dl.load_dataframe(ROWS, "t", engine=to, progress="none")

async def awaited(to=engine):
    return (await load(to)).loaded

async def refused(loading):
    try:
        await loading
    except dl.LoadError as error:
        return str(error)
"""
WAYS_OUT = "Pass engine= the URL instead of the engine, or stay in its loop: await, or run(..., nested=True), there."


def script(url: sa.URL, code: str) -> list[str]:
    """Run code in a process of its own, where patching and forking harm nobody; the lines that it prints."""
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(code), url.render_as_string(hide_password=False)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


USED_ELSEWHERE = {
    "awaited, then run": """
        async def main():
            await load()
            return await refused(asyncio.to_thread(dl.run, load()))
        print(asyncio.run(main()))
        """,
    "run, then awaited": """
        dl.run(load())
        print(asyncio.run(refused(load())))
        """,
    "a background load, then awaited": """
        async def main():
            await dl.start_load(ROWS, "t", engine=engine, progress="none")
            return await refused(load())
        print(asyncio.run(main()))
        """,
    "of a loop that has ended": """
        asyncio.run(awaited())
        print(asyncio.run(refused(load())))
        """,
    "awaited, then a background load": """
        async def main():
            async def started():
                await dl.start_load(ROWS, "t", engine=engine, progress="none")
            await load()
            return await refused(started())
        print(asyncio.run(main()))
        """,
}


@pytest.mark.parametrize("code", USED_ELSEWHERE.values(), ids=USED_ELSEWHERE)
async def test_an_engine_that_another_loop_uses_is_refused_in_one_line_with_both_ways_out(
    postgres: AsyncEngine, code: str
) -> None:
    (said,) = script(postgres.url, code)
    assert "belongs to another event loop" in said
    assert said.endswith(WAYS_OUT)
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(2,)]


async def test_both_ways_out_work(postgres: AsyncEngine) -> None:
    code = """
        async def main():
            await load()
            other = await asyncio.to_thread(dl.run, load(url))
            print(other.loaded, dl.run(load(), nested=True).loaded, await awaited())
        asyncio.run(main())
        """
    assert script(postgres.url, code) == ["2 2 2"]
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(8,)]


async def test_one_connection_lives_on_from_run_to_run(postgres: AsyncEngine) -> None:
    code = """
        from sqlalchemy import text

        async def backend():
            await load(engine)
            async with engine.connect() as connection:
                return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()

        print(len({dl.run(backend()) for _ in range(3)}))
        """
    assert script(postgres.url, code) == ["1"]


@pytest.mark.parametrize("given", ["url", "None"])
async def test_a_forked_process_and_its_parent_load_side_by_side(postgres: AsyncEngine, given: str) -> None:
    """Neither touches the connections of the other."""
    code = f"""
        dl.connect(url)
        dl.run(load({given}))
        child = os.fork()
        for _ in range(20):
            dl.run(load({given}))
        if child == 0:
            os._exit(0)
        print(os.waitpid(child, 0)[1])
        """
    assert script(postgres.url, code) == ["0"]
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(2 * (1 + 20 + 20),)]


async def test_the_engine_of_the_parent_is_refused_in_a_forked_process(postgres: AsyncEngine) -> None:
    code = """
        dl.run(load())
        child = os.fork()
        if child == 0:
            print(dl.run(refused(load())), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(dl.run(load()).loaded)
        """
    said, loaded = script(postgres.url, code)
    assert said.endswith(WAYS_OUT)
    assert loaded == "2"
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(4,)]
