"""Shards: parts of one load, in any order, at once or again: the table is made once, and every row is there once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.loading import sharding
from tests.conftest import execute, fetch
from tests.database.test_ledger import command, url_of

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

COUNT, ROWS = 5, 40
PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def part(number: int) -> dict[str, list[int]]:
    return {"id": list(range(ROWS * (number - 1), ROWS * number))}


async def load(engine: AsyncEngine, number: int, count: int = COUNT, **options: Any) -> dl.LoadReport:
    data = options.pop("data", part(number))
    given = {"engine": engine, "shard": (number, count), "load_id": "june", "chunk_rows": 10, "progress": "none"}
    return await dl.load_dataframe(data, options.pop("table", "orders"), **given | options)


async def ids(engine: AsyncEngine) -> list[int]:
    return [number for (number,) in await fetch(engine, "SELECT id FROM orders ORDER BY id")]


async def states(engine: AsyncEngine) -> dict[str, tuple[str, int]]:
    rows = await fetch(engine, "SELECT load_id, state, loaded FROM dataloader_loads")
    return {load_id: (state, loaded) for load_id, state, loaded in rows}


async def test_shards_in_any_order_are_one_load_that_is_finished_with_the_last(database: AsyncEngine) -> None:
    for done, number in enumerate([3, 1, 5, 2], start=1):
        report = await load(database, number)
        assert (report.loaded, report.shards) == (ROWS, (number, COUNT, done))
    assert (await states(database))["june"] == ("unfinished", 4 * ROWS)
    await load(database, 4)
    assert (await states(database))["june"] == ("finished", COUNT * ROWS)
    assert (await states(database))["june [4/5]"] == ("finished", ROWS)
    assert await ids(database) == list(range(COUNT * ROWS))


async def test_a_shard_checks_what_it_brings_as_the_one_that_made_the_table(
    database: AsyncEngine, tmp_path: Path
) -> None:
    for name, code in {"a": "7", "b": "007"}.items():
        (tmp_path / f"{name}.csv").write_text(f"code\n{code}\n")
    options: Any = {"engine": database, "load_id": "june", "progress": "none"}
    await dl.load_files(tmp_path / "a.csv", "orders", shard=(1, 2), **options)
    with pytest.raises(dl.ValidationError, match=r"'007' does not fit .* made for numbers"):
        await dl.load_files(tmp_path / "b.csv", "orders", shard=(2, 2), **options)


async def test_a_shard_that_is_run_again_adds_nothing(database: AsyncEngine) -> None:
    await load(database, 1)
    again = await load(database, 1)
    assert (again.loaded, again.already_loaded) == (0, ROWS)
    assert await ids(database) == part(1)["id"]


@pytest.mark.parametrize("if_exists", ["append", "truncate", "fail"])
async def test_shards_at_once_change_the_table_once_before_any_row(
    database: AsyncEngine, if_exists: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "fcntl", None)  # as from several hosts, which plan at the same time
    if if_exists != "fail":
        await execute(database, "CREATE TABLE orders (id bigint)", "INSERT INTO orders VALUES (-1)")
    numbers = range(1, COUNT + 1)
    await asyncio.gather(*(load(database, number, if_exists=if_exists) for number in numbers))
    old = [-1] if if_exists == "append" else []
    assert await ids(database) == [*old, *range(COUNT * ROWS)]


async def test_twins_of_a_shard_are_loaded_once(database: AsyncEngine) -> None:
    reports = await asyncio.gather(load(database, 1), load(database, 1), load(database, 2))
    assert sorted(one.loaded for one in reports) == [0, ROWS, ROWS]
    assert await ids(database) == list(range(2 * ROWS))
    await database.dispose()
    gc.collect()  # warns of connections that were not closed


async def test_a_twin_that_waits_leaves_a_database_in_memory_as_it_is() -> None:
    """Its connection is the database."""
    engine = dl.connect("sqlite:///:memory:")
    reports = await asyncio.gather(load(engine, 1), load(engine, 1))
    assert sorted(one.loaded for one in reports) == [0, ROWS]
    assert await ids(engine) == part(1)["id"]
    await engine.dispose()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"count": 6}, "was begun with shards=5, and shard 2 of 6 of 'june' has shards=6"),
        ({"casts": "lossy"}, "was begun with casts='exact', and shard 2 of 5 of 'june' has casts='lossy'"),
        ({"chunk_rows": 20}, "was begun with chunk_rows=10"),
        ({"table": "others"}, "was begun with target='"),
        ({"data": {"id": [1], "note": ["x"]}, "evolve": "add"}, "was begun with evolve=None"),
        ({"data": {"note": ["x"]}}, "was begun with columns=id, note, and shard 2 of 5 of 'june' has columns=note"),
        ({"shard": None}, "the load 'june' into "),
    ],
)
async def test_a_shard_of_another_load_is_refused_by_what_differs(
    database: AsyncEngine, options: dict[str, Any], told: str
) -> None:
    await load(database, 1, data={"id": [1], "note": ["x"]})
    with pytest.raises(dl.DataLoaderError) as refused:
        await load(database, 2, **{"data": {"id": [1], "note": ["x"]}} | options)
    assert told in str(refused.value)
    assert await ids(database) == [1]
    tables = "SELECT count(*) FROM dataloader_loads"
    assert await fetch(database, tables) == [(2,)]


async def test_a_shard_of_a_load_that_is_none_of_shards_is_refused(database: AsyncEngine) -> None:
    await load(database, 1, shard=None)
    with pytest.raises(dl.CheckpointError, match="is not loaded in shards"):
        await load(database, 2)
    assert await ids(database) == part(1)["id"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shard": (0, 4)}, "from 1 on"),
        ({"shard": (5, 4)}, "there is no shard"),
        ({"shard": "1/4"}, "there is no shard"),
        ({"load_id": None}, "a shard requires load_id="),
        ({"if_exists": "replace"}, "exclude each other"),
        ({"resume": False}, "exclude each other"),
        ({"dry_run": True}, "exclude each other"),
        ({"commit": "load"}, "commit='load' keeps no checkpoints"),
        ({"shard": None, "max_connections": 3}, "max_connections= is for shards"),
        ({"returning": "id"}, "the values that are returned come with one commit"),
    ],
)
async def test_what_a_shard_cannot_be_is_refused(sqlite: AsyncEngine, options: dict[str, Any], told: str) -> None:
    await execute(sqlite, "CREATE TABLE orders (id bigint)")
    with pytest.raises(dl.PlanError) as refused:
        await load(sqlite, 1, **options)
    assert told in str(refused.value)


async def test_files_that_another_shard_has_are_refused(database: AsyncEngine, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("id\n1\n2\n")
    given = {"engine": database, "load_id": "june", "progress": "none"}
    await dl.load_files(path, "orders", shard=(1, 2), **given)
    with pytest.raises(dl.CheckpointError, match="shard 2 of 2 of 'june' is given the files that 'june \\[1/2\\]' has"):
        await dl.load_files(path, "orders", shard=(2, 2), **given)
    assert await ids(database) == [1, 2]


async def test_rejects_of_shards_are_each_their_own(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE orders (id bigint)")
    for number in (1, 2):
        report = await load(database, number, data={"id": ["1", "x"]}, on_invalid="reject")
        assert (report.loaded, report.rejected) == (1, 1)
    assert [(await states(database))[name][1] for name in ("june [1/5]", "june [2/5]")] == [1, 1]


async def test_a_shard_that_failed_is_released_at_once(database: AsyncEngine) -> None:
    """This process lives on; whoever runs the shard again does not wait for it."""
    await execute(database, "CREATE TABLE orders (id bigint)")
    with pytest.raises(dl.ValidationError):
        await load(database, 1, data={"id": ["x"]})
    async with asyncio.timeout(5):
        assert (await load(database, 1)).loaded == ROWS


async def test_a_pool_is_closed_when_the_ledger_was_told_of_a_failure(database: AsyncEngine) -> None:
    """A slow server is not waited for before the error is raised, and its connection is not left open."""
    await execute(database, "CREATE TABLE orders (id bigint)")
    holder = create_async_engine(database.url)
    lock = {"postgresql": "SELECT * FROM dataloader_loads FOR UPDATE", "sqlite": "BEGIN IMMEDIATE"}

    async def rows() -> AsyncIterator[dict[str, int]]:
        for number in range(10):
            yield {"id": number}
        while len(await ids(database)) < 10:  # noqa: ASYNC110 - the load stores them
            await asyncio.sleep(0.05)
        await connection.exec_driver_sql(lock[database.dialect.name])
        raise OSError("the source is gone")

    async with holder.connect() as connection:
        with pytest.raises(OSError, match="is gone"):
            await dl.load_rows(rows(), "orders", engine=database, shard=(1, 2), load_id="june", chunk_rows=10)
        pool: Any = database.sync_engine.pool
        closing = asyncio.create_task(database.dispose())
        await asyncio.sleep(0.5)
    await closing
    assert (pool.checkedout(), pool.checkedin()) == (0, 0)
    await holder.dispose()


LIVES_ON = """
import asyncio, sys
import dataloader as dl

async def rows():
    for number in range(20):
        yield {"id": number}
    await asyncio.to_thread(sys.stdin.readline)
    raise OSError("the source is gone")

async def main():
    options = {"shard": (1, 5), "load_id": "june", "chunk_rows": 10, "progress": "none"}
    await dl.load_rows(rows(), "orders", engine=sys.argv[1], **options)

try:
    asyncio.run(main())
except OSError as error:
    print("failed", flush=True)
    sys.stdin.readline()
    print(*error.__notes__)
"""


async def test_a_shard_whose_end_the_ledger_could_not_be_told_is_taken_up(postgres: AsyncEngine) -> None:
    """By another process, at once, while the one that failed lives on: a worker of a cluster has other shards."""
    await load(postgres, 2)  # the ledger is there
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LIVES_ON, url_of(postgres)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while len(await ids(postgres)) == ROWS:  # noqa: ASYNC110 - another process stores them
                await asyncio.sleep(0.05)
        async with postgres.begin() as connection:
            await connection.exec_driver_sql("SELECT * FROM dataloader_loads FOR UPDATE")
            process.stdin.write(b"fail\n")
            assert await process.stdout.readline() == b"failed\n"
        async with asyncio.timeout(10):
            assert (await load(postgres, 1)).loaded == ROWS - 20
        assert process.returncode is None
        process.stdin.write(b"end\n")
        said = await process.stdout.read()
        assert b"load_rows(..., 'public.orders', load_id='june', shard=(1, 5), chunk_rows=10)" in said
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            process.kill()
        await process.wait()
    assert await ids(postgres) == list(range(2 * ROWS))


async def test_a_load_is_forgotten_with_its_shards(database: AsyncEngine) -> None:
    await load(database, 1)
    url = url_of(database)
    refused = await command("forget", "june [1/5]", "--to", url)
    assert (refused.returncode, "a shard of the load 'june'" in refused.stderr) == (1, True)
    assert (await command("forget", "june", "--to", url)).returncode == 0
    assert await states(database) == {}
    assert (await load(database, 1, count=2)).loaded == ROWS


async def test_the_command_line_loads_shards_and_resumes_one(database: AsyncEngine, tmp_path: Path) -> None:
    url = url_of(database)
    for number in (1, 2):
        path = tmp_path / f"{number}.csv"
        path.write_text(f"id\n{number}\n")
        done = await command("load", str(path), "orders", "--shard", f"{number}/2", "--load-id", "june", "--to", url)
        assert done.returncode == 0, done.stderr
    assert await ids(database) == [1, 2]
    wrong = await command("load", str(path), "orders", "--shard", "2", "--load-id", "june", "--to", url)
    assert "it is not like 3/16" in wrong.stderr
    await execute(database, "UPDATE dataloader_loads SET state = 'unfinished', owner = NULL WHERE load_id LIKE '%2/2]'")
    done = await command("resume", "june [2/2]", "--yes", "--to", url)
    assert done.returncode == 0, done.stderr
    assert (await states(database))["june [2/2]"] == ("finished", 1)
    whole = await command("resume", "june", "--yes", "--to", url)
    assert "finished" in whole.stdout
    assert await ids(database) == [1, 2]


@pytest.mark.parametrize(("language", "mark"), [("python", "ProcessPoolExecutor"), ("sh", "xargs")])
async def test_the_recipes_load_each_file_as_a_shard_and_add_nothing_when_run_again(
    postgres: AsyncEngine, tmp_path: Path, language: str, mark: str
) -> None:
    (recipe,) = (one for one in re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL) if mark in one)
    (tmp_path / "data").mkdir()
    for number in range(1, COUNT + 1):
        pa.parquet.write_table(pa.table(part(number)), tmp_path / "data" / f"{number}.parquet")
    (tmp_path / "recipe").write_text(recipe)
    program = [sys.executable, "recipe"] if language == "python" else ["sh", "recipe"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"DATALOADER_URL": url_of(postgres), "PYTHONPATH": str(PAGE.parents[1]), "PATH": path}
    for _ in range(2):
        run = await asyncio.create_subprocess_exec(
            *program, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        _, errors = await run.communicate()
        assert run.returncode == 0, errors.decode()
        assert await ids(postgres) == list(range(COUNT * ROWS))
    assert (await states(postgres))["june"] == ("finished", COUNT * ROWS)
