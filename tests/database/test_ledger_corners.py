"""What few loads meet in a ledger: rows that another has edited, tables that are gone, loads of another kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.ledger import owners
from tests.conftest import execute, fetch
from tests.database import test_kept_rejects as rejects
from tests.database.test_ledger import CHUNK_ROWS, COMMITTED, ROWS, batches, command, interrupted, load, numbers, url_of

pytestmark = pytest.mark.any_version


@pytest.mark.parametrize("options", ["not json", "[1]", '{"made": 5}'])
async def test_a_load_is_continued_whatever_another_has_made_of_its_options(
    database: AsyncEngine, options: str
) -> None:
    await interrupted(database, load_id="May")
    await execute(database, f"UPDATE dataloader_loads SET options = '{options}'".replace(":", r"\:"))
    assert (await load(database, load_id="May", resume=True)).loaded == ROWS - COMMITTED
    assert await numbers(database) == list(range(ROWS))


async def test_a_target_that_is_no_name_is_shown_and_not_continued(database: AsyncEngine) -> None:
    await interrupted(database, load_id="May")
    await execute(database, "UPDATE dataloader_loads SET target = 'a.b.c.d'")
    done = await command("resume", "May", "--yes", "--to", url_of(database))
    assert (done.returncode, "its target is 'a.b.c.d'" in done.stderr) == (1, True)
    assert (await dl.load_history(database))["target"].tolist() == ["a.b.c.d"]


async def test_a_stream_is_not_taken_for_a_frame_that_is_unfinished(database: AsyncEngine) -> None:
    frame = {"id": [*range(CHUNK_ROWS * 2), 5_000]}  # which only the database refuses
    await execute(database, "CREATE TABLE orders (id bigint CHECK (id < 1000))")
    with pytest.raises(dl.WriteError):
        await dl.load_dataframe(frame, "orders", engine=database, commit="chunk", chunk_rows=CHUNK_ROWS, workers=1)
    assert (await load(database, source=batches(start=100), commit="chunk")).loaded == ROWS
    assert await numbers(database) == [*range(CHUNK_ROWS * 2), *range(100, 100 + ROWS)]


async def test_the_rows_that_were_refused_are_counted_where_their_table_is_gone(database: AsyncEngine) -> None:
    await rejects.make(database)
    await rejects.interrupted(database, 50)
    await execute(database, "DROP TABLE dataloader_rejects")
    report = await rejects.load(database, resume=True)
    assert report.already_rejected == 6
    # Those that only the database refused.
    assert "the ledger does not hold 3 rows that earlier runs rejected" in str(report)


async def test_a_load_that_may_reject_no_more_goes_on_where_nobody_knows_what_it_has_rejected(
    database: AsyncEngine,
) -> None:
    await execute(database, "CREATE TABLE orders (id bigint CHECK (id <> 5))")
    await interrupted(database, load_id="May", on_invalid="reject")
    await execute(database, "DROP TABLE dataloader_rejects")
    report = await load(database, load_id="May", resume=True)
    assert (report.already_rejected, report.loaded) == (1, ROWS - COMMITTED)
    assert "the ledger does not hold 1 row that earlier runs rejected" in str(report)


async def test_a_ledger_that_is_none_of_ours_is_left_when_its_table_is_replaced(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE dataloader_loads (id bigint)", "INSERT INTO dataloader_loads VALUES (1)")
    for _ in range(2):
        await dl.load_dataframe({"id": [1]}, "orders", engine=database, if_exists="replace")
    assert await fetch(database, "SELECT id FROM dataloader_loads") == [(1,)]


async def test_new_files_of_a_table_that_no_ledger_can_watch_are_refused(postgres: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    await execute(postgres, "CREATE UNLOGGED TABLE orders (id bigint)")
    with pytest.raises(dl.PlanError, match=r"only_new= needs the ledger: .*UNLOGGED"):
        await dl.load_files(tmp_path, "orders", engine=postgres, only_new=True)
    assert await fetch(postgres, "SELECT id FROM orders") == []


async def test_a_file_that_another_load_has_brought_since_the_plan_is_not_loaded_twice(
    postgres: AsyncEngine, tmp_path: Path
) -> None:
    """Both have planned, and wait for the table; the file's row is there, of another size, from an earlier day."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    given: dict[str, Any] = {"engine": postgres, "only_new": True, "on_conflict": "update", "key": "id"}
    await execute(postgres, "CREATE TABLE orders (id bigint PRIMARY KEY)")
    await dl.load_files(tmp_path, "orders", **given)
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    async with postgres.begin() as other:
        await other.exec_driver_sql("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        both = [asyncio.create_task(dl.load_files(tmp_path, "orders", **given)) for _ in range(2)]
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while await fetch(postgres, waiting) != [(2,)]:  # noqa: ASYNC110 - the loads have planned
            await asyncio.sleep(0.01)
    ends = await asyncio.gather(*both, return_exceptions=True)
    (refused,) = (end for end in ends if not isinstance(end, dl.LoadReport))
    assert isinstance(refused, dl.CheckpointError)
    assert "a.csv" in str(refused)
    assert await fetch(postgres, "SELECT id FROM orders ORDER BY id") == [(1,), (2,)]


async def shard(database: AsyncEngine, number: int, source: Any = None, **options: Any) -> dl.LoadReport:
    given = {"engine": database, "shard": (number, 2), "load_id": "june", "progress": "none", **options}
    return await dl.load_batches(batches(start=100 * number) if source is None else source, "orders", **given)


async def test_a_load_of_shards_is_not_resumed_as_one(database: AsyncEngine) -> None:
    await shard(database, 1)
    done = await command("resume", "june", "--yes", "--to", url_of(database))
    assert done.returncode == 1
    assert "'june' is loaded in 2 shards" in done.stderr
    assert "Run each of them again" in done.stderr
    assert await numbers(database) == list(range(100, 100 + ROWS))


async def test_a_shard_whose_load_is_forgotten_meanwhile_says_so(database: AsyncEngine) -> None:
    async def forgotten() -> AsyncIterator[pa.RecordBatch]:
        for number, batch in enumerate(batches()):
            if number == 3:
                await execute(database, "DELETE FROM dataloader_loads WHERE load_id = 'june'")
            yield batch

    with pytest.raises(dl.CheckpointError, match="'june' was forgotten while shard 1 of 2 of 'june' was loaded"):
        await shard(database, 1, forgotten(), chunk_rows=CHUNK_ROWS)


async def test_a_shard_is_loaded_whatever_another_has_made_of_the_options_of_its_twin(
    database: AsyncEngine, tmp_path: Path
) -> None:
    (tmp_path / "1.csv").write_text("id\n1\n")
    (tmp_path / "2.csv").write_text("id\n2\n")
    given: dict[str, Any] = {"engine": database, "load_id": "june", "progress": "none"}
    await dl.load_files(tmp_path / "1.csv", "orders", shard=(1, 2), **given)
    await execute(database, "UPDATE dataloader_loads SET options = 'not json' WHERE load_id = 'june [1/2]'")
    await dl.load_files(tmp_path / "2.csv", "orders", shard=(2, 2), **given)
    assert await numbers(database) == [1, 2]


def test_where_a_process_is_not_told_apart_by_its_kernel_it_is_by_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither macOS nor Windows has Linux' files of it."""

    def missing(_path: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr("os.readlink", missing)
    owners._pids.cache_clear()
    try:
        with owners.claim_ownership() as owner:
            assert owner.pids == ""
            assert owners.read_owner(str(owner)).is_alive(1_000_000)  # type: ignore[union-attr]
    finally:
        owners._pids.cache_clear()
