"""The same rows into the same table again: loaded, for that may be meant, and said."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.cli import main
from dataloader.loading import reruns
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

FRAME = pd.DataFrame({"id": [1, 2, 3], "note": ["a", None, "c"]})
NOTICE = "the same 3 rows were loaded into"


async def load(engine: AsyncEngine, frame: pd.DataFrame = FRAME, table: str = "t", **options: Any) -> dl.LoadReport:
    return await dl.load_dataframe(frame, table, engine=engine, **options)


async def known(engine: AsyncEngine, *frames: pd.DataFrame, **options: Any) -> list[bool]:
    """Whether each of these loads is told that its rows were loaded before."""
    return [(await load(engine, frame, **options)).loaded_before is not None for frame in frames]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What another process knows of the loads of this one."""

    def forget() -> None:
        reruns._loads.clear()

    return forget


@pytest.mark.parametrize("commit", ["load", "chunk"])
async def test_the_same_rows_again_are_loaded_and_told(
    database: AsyncEngine, commit: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    began = dt.datetime.now().astimezone()
    first = await load(database, commit=commit)
    assert (first.loaded_before, NOTICE in str(first)) == (None, False)
    with caplog.at_level(logging.INFO, "dataloader"):
        again = await load(database, FRAME.copy(), commit=commit, progress="log")
    assert again.loaded == 3
    assert again.loaded_before is not None
    assert began - dt.timedelta(seconds=1) <= again.loaded_before <= dt.datetime.now().astimezone()
    for text in (str(again), again._repr_html_(), caplog.text, capsys.readouterr().err):
        assert NOTICE in text
    assert "load_id=" in str(again)
    assert await fetch(database, "SELECT count(*) FROM t") == [(6,)]


async def test_a_change_of_one_value_is_another_load(database: AsyncEngine) -> None:
    other = FRAME.assign(note=["a", "", "c"])
    reordered = FRAME.iloc[::-1]
    assert await known(database, FRAME, other, reordered, FRAME) == [False, False, False, True]


async def test_another_table_or_an_emptied_one_has_not_the_rows(database: AsyncEngine) -> None:
    assert await known(database, FRAME, FRAME) == [False, True]
    assert await known(database, FRAME, table="u") == [False]
    for if_exists in ("truncate", "replace"):
        assert await known(database, FRAME, if_exists=if_exists) == [False]
        assert await known(database, FRAME) == [True]
    for remake in (["DROP TABLE t"], ["DROP TABLE t", "CREATE TABLE t (id bigint, note text)"]):
        await execute(database, *remake)
        assert await known(database, FRAME, FRAME) == [False, True]


async def test_rows_that_are_merged_by_their_key_are_no_rerun(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id bigint PRIMARY KEY, note text)")
    assert await known(database, FRAME, FRAME, on_conflict="update") == [False, False]
    assert await known(database, FRAME, FRAME, on_conflict="ignore") == [False, False]


async def test_a_load_that_failed_is_not_remembered(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id bigint, note text CHECK (note <> 'c'))")
    with pytest.raises(dl.WriteError):
        await load(database)
    await execute(database, "DROP TABLE t", "CREATE TABLE t (id bigint, note text)")
    assert await known(database, FRAME, FRAME) == [False, True]


async def test_two_databases_in_memory_are_two() -> None:
    for _ in range(2):
        engine = dl.connect("sqlite:///:memory:")
        await execute(engine, "CREATE TABLE t (id bigint, note text)")
        assert await known(engine, FRAME, FRAME) == [False, True]
        await engine.dispose()


async def test_the_ledger_knows_the_loads_of_other_processes(database: AsyncEngine, forgetful: Any) -> None:
    """By all of their rows, not by the first ones; and not once the table was emptied."""
    frame = pd.DataFrame({"id": range(3_000)})
    options: dict[str, Any] = {"commit": "chunk", "chunk_rows": 1_000}
    first = await load(database, frame, **options)
    for other in (frame, pd.DataFrame({"id": range(3_500)}), pd.DataFrame({"id": [*range(2_999), 0]})):
        forgetful()
        again = await load(database, other, **options)
        assert (again.loaded_before is not None) == (other is frame)
    forgetful()
    named = await load(database, frame, load_id="by name", **options)
    assert named.loaded_before is not None
    assert first.load_id is not None
    forgetful()
    await load(database, frame.head(10), if_exists="replace")
    forgetful()
    assert await known(database, frame, **options) == [False]


async def test_a_load_with_a_name_is_not_loaded_again_and_no_rerun(database: AsyncEngine) -> None:
    """README's recipe."""
    for day, rows, already in (("Monday", 3, 0), ("Monday", 0, 3), ("Tuesday", 3, 0)):
        frame = FRAME.assign(note=day)
        report = await load(database, frame, load_id=f"sales {day}", resume=True)
        assert (report.loaded, report.already_loaded, report.loaded_before) == (rows, already, None)
    assert await fetch(database, "SELECT count(*) FROM t") == [(6,)]


async def test_a_load_that_was_resumed_is_known_as_a_whole(database: AsyncEngine) -> None:
    frame = pd.DataFrame({"id": range(3_000)})
    options: dict[str, Any] = {"commit": "chunk", "chunk_rows": 1_000, "workers": 1}
    await execute(database, "CREATE TABLE t (id bigint CHECK (id <> 2500))")
    with pytest.raises(dl.WriteError):
        await load(database, frame, load_id="halted", **options)
    report = await load(database, frame, load_id="halted", resume=True, on_invalid="reject", **options)
    assert (report.already_loaded, report.loaded, report.rejected, report.loaded_before) == (2_000, 999, 1, None)


def test_the_command_line_tells_of_a_rerun(tmp_path: Path, forgetful: Any) -> None:
    file = tmp_path / "many.csv"
    file.write_text("id\n" + "\n".join(map(str, range(30))))
    command = ["load", str(file), "t", "--to", f"sqlite:///{tmp_path / 'shop.db'}", "--commit", "chunk"]
    for told in (False, True):
        forgetful()
        ran = CliRunner().invoke(main, command)
        assert ran.exit_code == 0, ran.output
        assert ("the same 30 rows were loaded into t before" in ran.output) == told


async def test_a_dry_run_is_told_and_not_remembered(database: AsyncEngine) -> None:
    assert await known(database, FRAME, dry_run=True) == [False]
    assert await known(database, FRAME) == [False]
    assert await known(database, FRAME, dry_run=True) == [True]
