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
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

ROWS = {"id": [1, 2]}
url = make_url(sys.argv[1])
engine = dl.connect(url) if sys.argv[2] == "ours" else create_async_engine(url)
other = create_async_engine(url)

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
WAYS_OUT = "Pass an engine of connect(url), or the URL, or stay in its loop: await, or run(..., nested=True), there."


def script(url: sa.URL, code: str, whose: str = "ours") -> list[str]:
    """Run code in a process of its own, where patching and forking harm nobody; the lines that it prints."""
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(code), url.render_as_string(hide_password=False), whose]
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
    (said,) = script(postgres.url, code, "the caller's own")
    assert "belongs to another event loop" in said
    assert said.endswith(WAYS_OUT)
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(2,)]


@pytest.mark.parametrize("code", USED_ELSEWHERE.values(), ids=USED_ELSEWHERE)
async def test_an_engine_of_connect_that_another_loop_uses_has_one_like_it_in_this_one(
    postgres: AsyncEngine, code: str
) -> None:
    """Its connections are closed with the loop: those of the process's own, for run(), live on."""
    more = """
        async def backends():
            sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dataloader'"
            async with other.connect() as connection:
                for _ in range(200):  # the server ends a backend some time after its client has closed the connection
                    if (left := (await connection.exec_driver_sql(sql)).scalar_one()) == EXPECTED:
                        break
                    await asyncio.sleep(0.01)
            print(left)
            await other.dispose()
        asyncio.run(backends())
        """
    expected = 0 if "dl." not in code else 1
    more = textwrap.dedent(more).replace("EXPECTED", str(expected))
    said, left = script(postgres.url, textwrap.dedent(code) + more)
    assert (said, left) == ("None", str(expected))
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(4,)]


async def test_both_ways_out_work(postgres: AsyncEngine) -> None:
    code = """
        async def main():
            await load()
            beside = await asyncio.to_thread(dl.run, load(url))
            print(beside.loaded, dl.run(load(), nested=True).loaded, await awaited())
        asyncio.run(main())
        """
    assert script(postgres.url, code, "the caller's own") == ["2 2 2"]
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
    said, loaded = script(postgres.url, code, "the caller's own")
    assert said.endswith(WAYS_OUT)
    assert loaded == "2"
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(4,)]
