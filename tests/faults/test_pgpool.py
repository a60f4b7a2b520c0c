"""Loads through pgpool, which gives a connection a session of its own, and gives it to others afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database import engine as engines
from tests.conftest import enterable_folder, execute, fetch
from tests.database.conftest import free_port
from tests.faults.loads import by_method, slow_trigger, until_idle
from tests.faults.test_pgbouncer import CHUNK_ROWS, WRITING, assert_exact, load, until_committed, until_it_listens

pytestmark = [pytest.mark.slow, pytest.mark.any_version]


def find_pgpool() -> str:
    """The program; without one CI fails, and a newcomer's tests go on without these."""
    found = shutil.which("pgpool", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("the tests of pgpool need apt-get install pgpool2")
    return str(found)


@pytest.fixture(scope="module")
def pgpool(server: embedded.Server) -> Iterator[int]:
    """The port of a pgpool before the server."""
    program, port = find_pgpool(), free_port()
    with enterable_folder() as folder:
        settings = {
            "backend_clustering_mode": "raw",
            "backend_hostname0": server.url.query["host"],
            "backend_port0": "5432",
            "backend_flag0": "DISALLOW_TO_FAILOVER",
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "pcp_port": str(free_port()),
            "unix_socket_directories": str(folder),
            "pcp_socket_dir": str(folder),
            "wd_ipc_socket_dir": str(folder),
            "pid_file_name": str(folder / "pgpool.pid"),
            "logdir": str(folder),
            "work_dir": str(folder),
            "num_init_children": "16",
            "failover_on_backend_error": "off",
        }
        (folder / "pgpool.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        (folder / "pcp.conf").touch()
        folder.chmod(0o777)
        command = [program, "-n", "-f", folder / "pgpool.conf", "-F", folder / "pcp.conf"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **server.account) as running:
            until_it_listens(port)
            yield port
            running.terminate()


@pytest.fixture
async def pooled(pgpool: int, postgres_url: sa.URL, postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    await execute(postgres, "CREATE TABLE orders (id bigint PRIMARY KEY, note text)")
    engine = engines.open_engine(postgres_url.set(host="127.0.0.1", port=pgpool, query={}))
    yield engine
    await engine.dispose()


@by_method
async def test_a_load_passes_pgpool(method: str, pooled: AsyncEngine, postgres: AsyncEngine) -> None:
    await assert_exact(postgres, await load(pooled, method=method))
    for if_exists in ("truncate", "replace"):
        await assert_exact(postgres, await load(pooled, method=method, commit="load", if_exists=if_exists))
    assert (await dl.plan_load({"id": [1]}, "orders", engine=pooled)).notes == ()


async def test_a_cancelled_load_behind_pgpool_settles_and_is_resumed(
    pooled: AsyncEngine, postgres: AsyncEngine
) -> None:
    await execute(postgres, *slow_trigger(every=50, seconds=0.01))
    loading = asyncio.create_task(load(pooled, resume=True))
    await until_committed(postgres, 3 * CHUNK_ROWS)
    loading.cancel()
    await asyncio.wait({loading}, timeout=20)
    assert loading.cancelled()
    await until_idle(postgres)
    await assert_exact(postgres, await load(pooled, resume=True))


async def test_a_chunk_whose_backend_behind_pgpool_was_terminated_is_tried_again(
    pooled: AsyncEngine, postgres: AsyncEngine
) -> None:
    await execute(postgres, *slow_trigger(every=50, seconds=0.01))
    loading, terminated = asyncio.create_task(load(pooled)), 0
    while terminated < 2 and not loading.done():
        terminated += len(await fetch(postgres, WRITING, query="COPY%orders%"))
        await asyncio.sleep(0.02)
    assert terminated
    await assert_exact(postgres, await asyncio.wait_for(loading, 60))
