"""What is too wide, too deep or too long is refused in words, before it has taken time or memory."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.conversion.inference import MOST_LEVELS
from dataloader.database.backends import backend_for
from dataloader.sources import csv_files, json_files
from dataloader.sources.rows import open_rows
from tests.conftest import execute, fetch


def wide(count: int) -> dict[str, list[int]]:
    return {f"c{number}": [1] for number in range(count)}


@pytest.mark.slow
async def test_a_table_can_have_as_many_columns_as_the_database_takes_and_no_more(database: AsyncEngine) -> None:
    most = backend_for(database.dialect).most_columns
    table = pa.table(wide(most)).cast(pa.schema([(f"c{number}", pa.int16()) for number in range(most)]))
    assert (await dl.load_dataframe(table, "t", engine=database)).loaded == 1
    for name in ("t", "new"):
        with pytest.raises(dl.PlanError, match=f"has {most + 1:,} columns, and a table can have {most:,}"):
            await dl.load_dataframe(pa.table(wide(most + 1)), name, engine=database)


WIDE: dict[str, Callable[[int, Path], Any]] = {
    "pandas": lambda count, _: pd.DataFrame(wide(count)),
    "polars": lambda count, _: pl.DataFrame(wide(count)),
    "dict": lambda count, _: wide(count),
    "csv": lambda count, folder: written(folder / "x.csv", ",".join(wide(count)) + "\n" + "1," * (count - 1) + "1\n"),
    "json lines": lambda count, folder: written(folder / "x.jsonl", json.dumps(wide(count)) + "\n"),
}


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("make", WIDE.values(), ids=WIDE)
async def test_a_source_of_many_columns_is_refused_by_the_plan(
    sqlite: AsyncEngine, tmp_path: Path, make: Callable[[int, Path], Any]
) -> None:
    with pytest.raises(dl.PlanError, match=r"has 2,500 columns, and a table can have 2,000"):
        await dl.plan_load(make(2_500, tmp_path), "t", engine=sqlite)


@pytest.mark.slow
async def test_twenty_thousand_columns_are_refused_in_linear_time(sqlite: AsyncEngine, tmp_path: Path) -> None:
    with pytest.raises(dl.PlanError, match="has 20,000 columns"):  # it took minutes where each was looked for in all
        await dl.load_files(WIDE["csv"](20_000, tmp_path), "t", engine=sqlite)
    await execute(sqlite, "CREATE TABLE t (a INT)")
    with pytest.raises(dl.PlanError, match="has 20,000 columns"):
        await dl.load_dataframe(pa.table(wide(20_000)), "t", engine=sqlite)


def nested(levels: int, kind: str) -> str:
    opening, closing = ("[", "]") if kind == "lists" else ('{"a":', "}")
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize("kind", ["lists", "dicts"])
@pytest.mark.parametrize("levels", [MOST_LEVELS, 900, 100_000])
async def test_a_deep_line_is_refused_by_its_number(
    sqlite: AsyncEngine, tmp_path: Path, levels: int, kind: str
) -> None:
    path = written(tmp_path / "x.jsonl", f'{{"a": 1}}\n\n{{"a": {nested(levels, kind)}}}\n')
    with pytest.raises(dl.PlanError, match=f"line 3 is nested more than {MOST_LEVELS} levels deep") as raised:
        await dl.load_files(path, "t", engine=sqlite)
    assert "flatten it" in str(raised.value)


@pytest.mark.parametrize("kind", ["lists", "dicts"])
async def test_a_line_that_is_just_not_too_deep_is_loaded(postgres: AsyncEngine, tmp_path: Path, kind: str) -> None:
    text = nested(MOST_LEVELS - 1, kind)
    assert (await dl.load_files(written(tmp_path / "x.jsonl", f'{{"a": {text}}}\n'), "t", engine=postgres)).loaded == 1
    [(stored,)] = await fetch(postgres, "SELECT a FROM t")
    assert stored == json.loads(text)


async def test_a_line_with_many_short_lists_is_not_deep(sqlite: AsyncEngine, tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", json.dumps({"a": [[one] for one in range(1000)]}) + "\n")
    assert (await dl.load_files(path, "t", engine=sqlite)).loaded == 1


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 300, 900, 20_000])
async def test_deep_rows_of_python_are_refused_by_column(levels: int) -> None:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    with pytest.raises(dl.UnsupportedType, match=r"column 'a' has values that are nested more than"):
        await open_rows([{"a": 1}, {"a": value}], None)
    while isinstance(value, list):  # deeper than Python can free by itself
        value = value.pop()


async def test_a_small_file_that_unpacks_to_one_long_line_takes_bounded_memory(
    sqlite: AsyncEngine, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": "') + gzip.compress(b"x" * 10_000_000, 1) * 30)
    tracemalloc.start()
    try:
        with pytest.raises(dl.PlanError, match="line 2 is longer than 33,554,432 characters"):
            await dl.load_files(path, "t", engine=sqlite)
        assert tracemalloc.get_traced_memory()[1] < 4 * json_files.LINE_CHARACTERS
    finally:
        tracemalloc.stop()


async def test_long_lines_are_read_some_at_once_and_all_arrive(
    sqlite: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "BLOCK_CHARACTERS", 1_000)
    path = written(tmp_path / "x.jsonl", "".join(f'{{"a": {n}, "b": "{"x" * 300}"}}\n' for n in range(50)))
    assert [len(block) for block in json_files.json_blocks(io.BytesIO(path.read_bytes()))] == [4] * 12 + [2]
    assert (await dl.load_files(path, "t", engine=sqlite)).loaded == 50
    assert await fetch(sqlite, "SELECT count(DISTINCT a), min(a), max(a) FROM t") == [(50, 0, 49)]


async def test_a_later_line_that_is_too_long_is_refused_with_nothing_written(
    sqlite: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "LINE_CHARACTERS", 1_000)
    lines = "".join(f'{{"a": {number}}}\n' for number in range(20_000))
    path = written(tmp_path / "x.jsonl", f'{lines}{{"a": "{"x" * 1_000}"}}\n')
    with pytest.raises(dl.LoadError, match="line 20,001 is longer than 1,000 characters"):
        await dl.load_files(path, "t", engine=sqlite, commit="load")
    assert await fetch(sqlite, "SELECT name FROM sqlite_schema WHERE name = 't'") == []


@pytest.mark.parametrize("rows", ["", "1\n" * 200_000], ids=["first", "later"])
async def test_a_long_row_of_a_csv_is_refused_in_words(
    sqlite: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str
) -> None:
    monkeypatch.setattr(csv_files, "ROW_BYTES", (1 << 20, 1 << 22))
    path = written(tmp_path / "x.csv", f'a\n{rows}"{"x" * 12_000_000}"\n')
    with pytest.raises(dl.DataLoaderError, match="a row is longer than 4,194,304 bytes") as raised:
        await dl.load_files(path, "t", engine=sqlite, commit="load")
    assert "every quote" in str(raised.value)
    assert "block size" not in str(raised.value)
