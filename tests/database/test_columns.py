"""Loads of some columns, under names that may be new."""

from __future__ import annotations

from decimal import Decimal
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
from tests.conftest import execute

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


MIXED = pd.DataFrame({"ID": [1, 2], "Amount": [1.5, 2.5]})


@pytest.mark.parametrize("options", [{}, {"commit": "chunk", "chunk_rows": 1}, {"method": "insert"}])
async def test_names_in_another_case_are_taken_for_the_table_s_with_a_notice(
    postgres: AsyncEngine, options: Any
) -> None:
    await execute(postgres, "CREATE TABLE t (id integer PRIMARY KEY, amount numeric(4,2))")
    notice = "the source's column 'ID' is taken for 'id' of public.t"
    assert notice in str(await dl.plan_load(MIXED, "t", engine=postgres, **options))
    report = await dl.load_dataframe(MIXED, "t", engine=postgres, **options)
    assert notice in report.warnings
    assert await stored(postgres) == (["id", "amount"], [(1, Decimal("1.50")), (2, Decimal("2.50"))])
    changed = MIXED.assign(Amount=[1.5, 3])
    merged = await dl.load_dataframe(
        changed, "t", engine=postgres, on_conflict="update", key="ID", update_columns="Amount"
    )
    assert (merged.updated, merged.unchanged) == (1, 1)
    assert (await dl.sync_table(changed[:1], "t", engine=postgres)).deleted == 1
    assert (await dl.validate(changed, "t", unique=["ID"], engine=postgres)).violations.counts == {("id", "exists"): 1}


async def test_what_is_wrong_with_them_names_the_data_s_own_columns(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer, amount integer CHECK (amount < 5))")
    data = MIXED.assign(Amount=[1.5, 7])
    report = await dl.load_dataframe(data, "t", engine=postgres, on_invalid="reject")
    assert report.rejects["reject_column"].isna().tolist() == [False, True]
    assert report.rejects["reject_column"][0] == "Amount"
    assert report.rejects["Amount"].tolist() == [1.5, 7]
    fixed = report.rejects.assign(Amount=[1, 2])
    assert (await dl.load_dataframe(fixed, "t", engine=postgres)).loaded == 2


async def test_names_of_which_several_may_be_meant_are_refused(postgres: AsyncEngine) -> None:
    await execute(postgres, 'CREATE TABLE t ("Id" integer, id integer)')
    with pytest.raises(dl.SchemaMismatch, match=r"^the source's column 'ID' may be 'Id' or 'id' of public\.t"):
        await dl.load_dataframe({"ID": [1]}, "t", engine=postgres)
    assert (await dl.load_dataframe({"ID": [1]}, "t", engine=postgres, columns={"ID": "Id"})).loaded == 1
    await execute(postgres, "CREATE TABLE u (id integer)")
    with pytest.raises(dl.SchemaMismatch, match=r"^the column 'id' of public\.u may be 'ID' or 'Id' of the source"):
        await dl.load_dataframe({"ID": [1], "Id": [2]}, "u", engine=postgres)
    with pytest.raises(dl.SchemaMismatch, match="not in the table: 'ID'"):
        await dl.load_dataframe({"ID": [1], "id": [2]}, "u", engine=postgres)


async def test_a_column_in_another_case_is_not_added(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer)")
    await dl.load_dataframe(MIXED, "t", engine=postgres, evolve=("add", "widen"))
    assert (await stored(postgres))[0] == ["id", "Amount"]
