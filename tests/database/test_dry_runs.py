"""A dry run does everything and rolls it back: the report says what would have been, and nothing has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

ALL = "SELECT id, v FROM t ORDER BY id"
BEFORE = [(1, "a"), (2, "b"), (3, None)]
DATA = {"id": [2, 3, 4], "v": ["b", "x", "y"]}


@pytest.fixture
async def table(database: AsyncEngine) -> AsyncEngine:
    await execute(database, "CREATE TABLE t (id integer PRIMARY KEY, v text)")
    await execute(database, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)")
    return database


async def test_an_update_is_counted_and_shown_and_rolled_back(table: AsyncEngine) -> None:
    report = await dl.load_dataframe(DATA, "t", engine=table, on_conflict="update", dry_run=True)
    assert (report.inserted, report.updated, report.unchanged) == (1, 1, 1)
    assert report.preview == ("id 3: v NULL → 'x'",)
    assert str(report).startswith("dry run, rolled back: 2 rows loaded")
    assert "id 3: v NULL → &#x27;x&#x27;" in report._repr_html_()
    assert await fetch(table, ALL) == BEFORE


@pytest.mark.parametrize("if_exists", ["append", "truncate", "replace"])
async def test_a_load_is_rolled_back_with_its_ddl(table: AsyncEngine, if_exists: Any) -> None:
    report = await dl.load_dataframe({"id": [9], "v": ["z"]}, "t", engine=table, if_exists=if_exists, dry_run=True)
    assert (report.loaded, report.dry_run) == (1, True)
    assert await fetch(table, ALL) == BEFORE


async def test_a_table_that_would_be_created_is_not_there(database: AsyncEngine) -> None:
    assert (await dl.load_dataframe(DATA, "new", engine=database, dry_run=True)).loaded == 3
    with pytest.raises(sa.exc.DBAPIError):
        await fetch(database, "SELECT 1 FROM new")


async def test_what_is_refused_is_refused_as_by_the_load(table: AsyncEngine) -> None:
    with pytest.raises(dl.WriteError):
        await dl.load_dataframe(DATA, "t", engine=table, dry_run=True)
    report = await dl.load_dataframe(DATA, "t", engine=table, on_invalid="reject", dry_run=True)
    assert (report.loaded, report.rejected) == (1, 2)
    assert await fetch(table, ALL) == BEFORE


async def test_what_a_sync_would_delete_is_shown(table: AsyncEngine) -> None:
    report = await dl.sync_table({"id": [2, 3], "v": ["b", "x"]}, "t", engine=table, dry_run=True)
    assert (report.updated, report.unchanged, report.deleted) == (1, 1, 1)
    assert report.preview == ("id 1: deleted", "id 3: v NULL → 'x'")
    assert await fetch(table, ALL) == BEFORE


async def test_only_the_first_changes_are_shown(table: AsyncEngine) -> None:
    await execute(table, *(f"INSERT INTO t VALUES ({number}, 'n')" for number in range(10, 40)))
    data = {"id": list(range(10, 40)), "v": ["m"] * 30}
    report = await dl.load_dataframe(data, "t", engine=table, on_conflict="update", dry_run=True, chunk_rows=7)
    assert report.updated == 30
    assert report.preview == tuple(f"id {number}: v 'n' → 'm'" for number in range(10, 20))


async def test_many_rows_are_rolled_back_as_a_whole(table: AsyncEngine) -> None:
    rows = ({"id": number, "v": "n"} for number in range(100, 200))
    report = await dl.load_rows(rows, "t", engine=table, chunk_rows=10, dry_run=True)
    assert (report.loaded, report.chunks) == (100, 10)
    assert await fetch(table, ALL) == BEFORE


@pytest.mark.parametrize("options", [{"commit": "chunk"}, {"load_id": "x"}, {"resume": True}], ids=str)
async def test_a_dry_run_has_no_checkpoints(table: AsyncEngine, options: Any) -> None:
    with pytest.raises(dl.PlanError, match="a dry run is rolled back as a whole"):
        await dl.load_dataframe(DATA, "t", engine=table, dry_run=True, **options)


async def test_a_sequence_that_has_advanced_is_named(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id serial PRIMARY KEY, v text)")
    report = await dl.load_dataframe({"v": ["a"]}, "t", engine=postgres, dry_run=True)
    assert report.warnings == ("the sequence public.t_id_seq has advanced: no rollback sets it back",)
    options: Any = {"dry_run": True, "sync_sequence": True}
    assert (await dl.load_dataframe({"id": [1], "v": ["a"]}, "t", engine=postgres, **options)).warnings == ()


async def test_a_sqlite_file_is_neither_made_nor_changed(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    url = f"sqlite:///{path}"
    assert (await dl.load_dataframe(DATA, "t", engine=url, dry_run=True)).loaded == 3
    assert not path.exists()
    await dl.load_dataframe(DATA, "t", engine=url)
    before = path.read_bytes()
    await dl.load_dataframe(DATA, "u", engine=f"{url}?timeout=5", dry_run=True)
    assert path.read_bytes() == before


async def test_the_plan_says_that_all_is_rolled_back(table: AsyncEngine) -> None:
    plan = str(await dl.plan_load(DATA, "t", engine=table, on_conflict="update", dry_run=True))
    assert "in one transaction, which is rolled back" in plan
