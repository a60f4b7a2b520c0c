"""Files that are in the table are passed over: tomorrow's file is appended by the same call, and no file twice."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.errors import CheckpointError, LoadError, PlanError, UnfinishedLoad, WriteError
from dataloader.ledger import history as ledgers
from dataloader.loading import planning
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

COMMITS = pytest.mark.parametrize("commit", ["load", "chunk"])
FILES = "SELECT path, size, load_id FROM dataloader_files ORDER BY path"


def write(folder: Path, *numbers: int, rows: int = 5) -> Path:
    """Files with rows of their own."""
    for number in numbers:
        ids = [str(number * 100 + row) for row in range(rows)]
        (folder / f"day{number}.csv").write_text("\n".join(["id", *ids, ""]))
    return folder


async def load(database: AsyncEngine, folder: Path, **options: Any) -> tuple[int, int]:
    """How many rows were loaded, and how many files passed over."""
    report = await dl.load_files(folder, "t", engine=database, only_new=True, **options)
    return report.loaded, report.passed_over


async def stored(database: AsyncEngine) -> list[int]:
    return [number for (number,) in await fetch(database, "SELECT id FROM t ORDER BY id")]


def ids(*numbers: int, rows: int = 5) -> list[int]:
    return [number * 100 + row for number in numbers for row in range(rows)]


@COMMITS
async def test_the_same_call_appends_the_file_of_the_next_day(
    database: AsyncEngine, tmp_path: Path, commit: Any
) -> None:
    assert await load(database, write(tmp_path, 1, 2), commit=commit, chunk_rows=3) == (10, 0)
    assert await load(database, write(tmp_path, 3), commit=commit, chunk_rows=3) == (5, 2)
    for _ in range(2):
        assert await load(database, tmp_path, commit=commit, chunk_rows=3) == (0, 3)
    assert await stored(database) == ids(1, 2, 3)
    sizes = [(str(tmp_path / f"day{number}.csv"), 23, None) for number in (1, 2, 3)]
    assert await fetch(database, FILES) == sizes


async def test_the_plan_and_the_report_say_how_many_files_are_passed_over(
    database: AsyncEngine, tmp_path: Path
) -> None:
    await load(database, write(tmp_path, 1))
    plan = await dl.plan_load(write(tmp_path, 2), "t", engine=database, only_new=True)
    assert "only_new: 1 file of 2 passed over, which the ledger knows as loaded" in str(plan)
    assert "load day2.csv" in str(plan) or "load 1 files" in str(plan)
    assert (await dl.validate(tmp_path, "t", engine=database, only_new=True)).ok
    report = await dl.load_files(tmp_path, "t", engine=database, only_new=True)
    assert "1 file passed over: loaded before" in str(report)
    assert "1 file passed over: loaded before" in report._repr_html_()
    assert await load(database, tmp_path) == (0, 2)


REFUSES_304 = "CREATE TABLE t (id INTEGER CHECK (id <> 304))"


@COMMITS
async def test_files_whose_load_failed_are_new_until_their_rows_are_there(
    database: AsyncEngine, tmp_path: Path, commit: Any
) -> None:
    await execute(database, REFUSES_304)
    with pytest.raises(WriteError):
        await load(database, write(tmp_path, 1, 2, 3), commit=commit, chunk_rows=5, workers=1)
    write(tmp_path, 3, rows=4)
    if commit == "chunk":
        assert await fetch(database, "SELECT count(*) FROM dataloader_files WHERE load_id IS NULL") == [(0,)]
        with pytest.raises(UnfinishedLoad):
            await load(database, tmp_path, commit=commit, chunk_rows=5)
        assert await load(database, write(tmp_path, 4), resume=True, chunk_rows=5) == (9, 0)
        assert await load(database, tmp_path, commit=commit) == (0, 4)
        assert await stored(database) == ids(1, 2) + ids(3, rows=4) + ids(4)
    else:
        assert await load(database, tmp_path, commit=commit) == (14, 0)
        assert await load(database, tmp_path, commit=commit) == (0, 3)
        assert await stored(database) == ids(1, 2) + ids(3, rows=4)


async def test_a_file_of_an_unfinished_load_goes_into_no_other(database: AsyncEngine, tmp_path: Path) -> None:
    await execute(database, REFUSES_304)
    with pytest.raises(WriteError):
        await load(database, write(tmp_path, 2, 3), load_id="Monday", commit="chunk", chunk_rows=5, workers=1)
    with pytest.raises(CheckpointError, match=r"day2.csv belongs to the load 'Monday', which is not finished"):
        await load(database, write(tmp_path, 1))
    assert await stored(database) == ids(2)
    await ledgers.forget(database, "Monday")
    write(tmp_path, 3, rows=4)
    assert await load(database, tmp_path) == (14, 0)


async def test_a_file_that_has_changed_is_refused_or_merged(database: AsyncEngine, tmp_path: Path) -> None:
    await execute(database, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    await load(database, write(tmp_path, 1))
    write(tmp_path, 1, rows=7)
    with pytest.raises(PlanError, match=r"day1.csv has changed since it was loaded: 23 bytes then, 31 now"):
        await load(database, tmp_path)
    assert await load(database, tmp_path, on_conflict="ignore") == (2, 0)
    assert await load(database, tmp_path) == (0, 1)
    assert await stored(database) == ids(1, rows=7)


@COMMITS
async def test_two_loads_at_once_load_every_file_once(
    postgres: AsyncEngine, tmp_path: Path, commit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(postgres, "CREATE TABLE t (id INTEGER)")
    await load(postgres, write(tmp_path, 1))
    write(tmp_path, *range(2, 30))
    both_know, reading = asyncio.Barrier(2), planning.known_files

    async def known(*arguments: Any) -> Any:
        found = await reading(*arguments)
        await both_know.wait()
        return found

    monkeypatch.setattr(planning, "known_files", known)
    both = [load(postgres, tmp_path, commit=commit, chunk_rows=10) for _ in range(2)]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    failed = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in failed] == [CheckpointError]
    monkeypatch.undo()
    await load(postgres, tmp_path)
    assert await stored(postgres) == ids(*range(1, 30))


async def test_what_is_rolled_back_is_not_known(database: AsyncEngine, tmp_path: Path) -> None:
    await execute(database, "CREATE TABLE t (id INTEGER)")
    write(tmp_path, 1)
    assert await load(database, tmp_path, dry_run=True) == (5, 0)
    async with database.connect() as connection:
        assert await load(None, tmp_path, connection=connection) == (5, 0)  # type: ignore[arg-type]
        assert await load(None, tmp_path, connection=connection) == (0, 1)  # type: ignore[arg-type]
        await connection.rollback()
    assert await load(database, tmp_path) == (5, 0)


async def test_a_table_that_was_dropped_gets_its_files_again(database: AsyncEngine, tmp_path: Path) -> None:
    await load(database, write(tmp_path, 1, 2))
    await execute(database, "DROP TABLE t")
    assert await load(database, tmp_path) == (10, 0)
    assert await load(database, tmp_path) == (0, 2)


async def test_a_table_that_was_made_anew_by_others_is_refused_until_somebody_decides(
    postgres: AsyncEngine, tmp_path: Path
) -> None:
    await load(postgres, write(tmp_path, 1, 2))
    await execute(postgres, "DROP TABLE t", "CREATE TABLE t (id bigint)")
    with pytest.raises(CheckpointError, match="t was dropped and created again since 2 files went into it"):
        await load(postgres, tmp_path)
    assert await load(postgres, tmp_path, resume=False) == (10, 0)
    assert await load(postgres, tmp_path) == (0, 2)


async def test_deleted_rows_do_not_make_a_file_new(database: AsyncEngine, tmp_path: Path) -> None:
    await load(database, write(tmp_path, 1))
    await execute(database, "DELETE FROM t")
    assert await load(database, tmp_path) == (0, 1)
    assert await load(database, tmp_path, resume=False) == (5, 0)


async def test_another_table_has_files_of_its_own(database: AsyncEngine, tmp_path: Path) -> None:
    await load(database, write(tmp_path, 1))
    report = await dl.load_files(tmp_path, "u", engine=database, only_new=True)
    assert (report.loaded, report.passed_over) == (5, 0)


async def test_a_file_that_is_written_while_it_is_loaded_is_refused(
    database: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataloader.sources import files

    reading = files._read

    def written(one: Any, *arguments: Any) -> Any:
        yield from reading(one, *arguments)
        os.utime(one.file.path, (1, 1))

    await execute(database, "CREATE TABLE t (id INTEGER)")
    monkeypatch.setattr(files, "_read", written)
    with pytest.raises(LoadError, match=r"day1.csv was changed while it was loaded"):
        await load(database, write(tmp_path, 1))
    assert await stored(database) == []


@pytest.mark.parametrize(
    ("paths", "options", "problem"),
    [
        (lambda folder: [folder / "day1.csv"] * 2, {}, "named twice"),
        (lambda _: io.BytesIO(b"id\n1\n"), {"format": "csv"}, "only_new= is for local files"),
        (lambda folder: folder, {"if_exists": "truncate"}, "takes away the rows of the files"),
    ],
)
async def test_what_cannot_be_known_is_refused(
    database: AsyncEngine, tmp_path: Path, paths: Any, options: Any, problem: str
) -> None:
    write(tmp_path, 1)
    with pytest.raises(PlanError, match=problem):
        await dl.load_files(paths(tmp_path), "t", engine=database, only_new=True, **options)


async def test_a_table_of_another_kind_is_not_taken_for_the_ledger(postgres: AsyncEngine, tmp_path: Path) -> None:
    await execute(postgres, "CREATE TABLE t (id INTEGER)", "CREATE VIEW dataloader_files AS SELECT 1 AS x")
    with pytest.raises(PlanError, match="dataloader_files is not a table"):
        await load(postgres, write(tmp_path, 1))
    assert await stored(postgres) == []


async def test_a_table_of_ones_own_with_the_name_of_the_ledger_is_left_alone(
    database: AsyncEngine, tmp_path: Path
) -> None:
    await execute(database, "CREATE TABLE dataloader_files (x INTEGER)", "INSERT INTO dataloader_files VALUES (1)")
    with pytest.raises(PlanError, match=r"dataloader_files in schema .* has other columns than this version's ledger"):
        await load(database, write(tmp_path, 1))
    assert await fetch(database, "SELECT x FROM dataloader_files") == [(1,)]
