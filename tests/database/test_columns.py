"""Loads of some columns, under names that may be new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.options import LoadOptions

ROWS = [{"Order ID": 1, "amount": 1.5, "odd": 1 + 2j}, {"Order ID": 2, "amount": 2.5, "odd": 3j}]
SELECTED = {"amount": "amount", "Order ID": "id"}
SIMPLE = {name: [row[name] for row in ROWS] for name in ("Order ID", "amount")} | {"note": ["a", "b"]}


async def stored(engine: AsyncEngine) -> tuple[list[str], list[tuple[Any, ...]]]:
    async with engine.connect() as connection:
        result = await connection.execute(sa.text("SELECT * FROM t ORDER BY id"))
        return list(result.keys()), [tuple(row) for row in result]


async def later(items: list[Any]) -> Any:
    for item in items:
        yield item


def file_of(folder: Path, suffix: str) -> Path:
    path, frame = folder / f"rows{suffix}", pd.DataFrame(SIMPLE)
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == ".arrow":
        pa.feather.write_feather(pa.table(SIMPLE), path)
    else:
        pa.parquet.write_table(pa.table(SIMPLE), path)
    return path


SOURCES = {
    "pandas": lambda **o: dl.load_dataframe(pd.DataFrame(ROWS), "t", **o),
    "pandas with an index": lambda **o: dl.load_dataframe(pd.DataFrame(ROWS).set_index("Order ID"), "t", **o),
    "polars": lambda **o: dl.load_dataframe(
        pl.DataFrame(SIMPLE | {"odd": pl.Series([object(), object()], dtype=pl.Object)}), "t", **o
    ),
    "Arrow": lambda **o: dl.load_dataframe(pa.table(SIMPLE), "t", **o),
    "dict": lambda **o: dl.load_dataframe({name: [row[name] for row in ROWS] for name in ROWS[0]}, "t", **o),
    "batches": lambda **o: dl.load_batches(iter(pa.table(SIMPLE).to_batches()), "t", **o),
    "async batches": lambda **o: dl.load_batches(later(pa.table(SIMPLE).to_batches()), "t", **o),
    "dicts": lambda **o: dl.load_rows(iter(ROWS), "t", **o),
    "async dicts": lambda **o: dl.load_rows(later(ROWS), "t", **o),
}


@pytest.mark.parametrize("load", SOURCES.values(), ids=SOURCES)
async def test_the_selected_columns_arrive_renamed_in_their_order(database: AsyncEngine, load: Any) -> None:
    await load(engine=database, columns=SELECTED)
    assert await stored(database) == (["amount", "id"], [(1.5, 1), (2.5, 2)])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".arrow", ".parquet"])
async def test_files_give_the_selected_columns(database: AsyncEngine, tmp_path: Path, suffix: str) -> None:
    path = file_of(tmp_path, suffix)
    await dl.load_files(path, "t", engine=database, columns=SELECTED)
    names, rows = await stored(database)
    assert (names, [(float(amount), key) for amount, key in rows]) == (["amount", "id"], [(1.5, 1), (2.5, 2)])
    plan = await dl.plan_load(path, "t", engine=database, columns=["Order ID", "amount"], if_exists="replace")
    assert [column.name for column in plan.columns] == ["Order ID", "amount"]
    assert (await dl.validate(path, "t", engine=database, columns=SELECTED)).ok


@pytest.mark.parametrize("load", [*SOURCES.values()], ids=SOURCES)
async def test_a_column_that_is_not_there_is_named_with_what_was_meant(database: AsyncEngine, load: Any) -> None:
    with pytest.raises(dl.PlanError, match="'amout'") as raised:
        await load(engine=database, columns=["amout"])
    assert "Did you mean 'amount'?" in raised.value.hint


async def test_tuples_are_named_and_cannot_be_renamed(database: AsyncEngine) -> None:
    await dl.load_rows([(1, "a")], "t", engine=database, columns=["id", "v"])
    assert await stored(database) == (["id", "v"], [(1, "a")])
    with pytest.raises(dl.PlanError, match="tuples have no names"):
        await dl.load_rows([(1, "a")], "t", engine=database, columns={"a": "id", "b": "v"})


@pytest.mark.parametrize("columns", ["id", [], {}, 5, ["a", "a"], {"a": "x", "b": "x"}, {"a": 1}])
def test_columns_that_are_no_selection_are_refused(columns: Any) -> None:
    with pytest.raises(dl.PlanError, match="columns="):
        LoadOptions.of({"columns": columns})


async def test_an_interrupted_load_continues_with_the_same_columns(database: AsyncEngine) -> None:
    def rows(count: int) -> Any:
        yield from ({"a": number, "b": number} for number in range(count))
        if count < 30_000:
            raise OSError("gone")

    chosen: Any = {"engine": database, "columns": {"a": "id"}, "chunk_rows": 5_000, "load_id": "x"}
    with pytest.raises(OSError, match="gone"):
        await dl.load_rows(rows(25_000), "t", **chosen)
    report = await dl.load_rows(rows(30_000), "t", resume=True, **chosen)
    assert report.already_loaded > 0
    assert await stored(database) == (["id"], [(number,) for number in range(30_000)])
