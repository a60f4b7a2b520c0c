"""Tables that a load gives their shape: keys, NOT NULL and indexes of one that it creates, columns that one lacks."""

from __future__ import annotations

import asyncio
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

DATA = pd.DataFrame({"day": ["mon", "tue"], "shop": [1, 2], "sold": [10, 20]})
BY_COMMIT = {"one transaction": {}, "by chunks": {"commit": "chunk", "chunk_rows": 1}}
by_commit = pytest.mark.parametrize("options", BY_COMMIT.values(), ids=BY_COMMIT)


async def inspected(engine: AsyncEngine, ask: str, table: str = "t") -> Any:
    async with engine.connect() as connection:
        return await connection.run_sync(lambda sync: getattr(sa.inspect(sync), ask)(table))


async def test_a_created_table_has_the_key_the_not_null_and_the_indexes_that_were_asked_for(
    database: AsyncEngine,
) -> None:
    options: Any = {"primary_key": ["day", "shop"], "not_null": "sold", "indexes": ["shop", ["sold", "day"]]}
    await dl.load_dataframe(DATA, "t", engine=database, **options)
    assert (await inspected(database, "get_pk_constraint"))["constrained_columns"] == ["day", "shop"]
    nullable = {column["name"]: column["nullable"] for column in await inspected(database, "get_columns")}
    assert nullable == {"day": False, "shop": False, "sold": False}
    indexes = {index["name"]: index["column_names"] for index in await inspected(database, "get_indexes")}
    assert indexes == {"t_shop_idx": ["shop"], "t_sold_day_idx": ["sold", "day"]}
    with pytest.raises(dl.ValidationError, match="row 0, column 'sold': None does not fit"):
        await dl.load_dataframe({"day": ["wed"], "shop": [3], "sold": [None]}, "t", engine=database, **options)
    await dl.load_dataframe(DATA.assign(day=["wed", "thu"]), "t", engine=database, **options)
    assert await fetch(database, "SELECT count(*) FROM t") == [(4,)]


async def test_a_null_in_the_first_load_is_refused_too(database: AsyncEngine) -> None:
    with pytest.raises(dl.ValidationError):
        await dl.load_dataframe({"id": [1, None]}, "t", engine=database, not_null="id")
    assert not await inspected(database, "has_table")


async def test_rows_can_be_merged_by_the_key_of_a_table_that_was_created(database: AsyncEngine) -> None:
    await dl.load_dataframe(DATA, "t", engine=database, primary_key=["day", "shop"])
    report = await dl.load_dataframe(DATA.assign(sold=[10, 21]), "t", engine=database, on_conflict="update")
    assert (report.updated, report.unchanged) == (1, 1)


async def test_a_long_name_of_an_index_fits_the_database(postgres: AsyncEngine) -> None:
    table, name = "t" * 60, "ä" * 30
    await dl.load_dataframe({name: [1]}, table, engine=postgres, indexes=name)
    (index,) = await inspected(postgres, "get_indexes", table)
    assert index["column_names"] == [name]


@pytest.mark.parametrize("option", ["primary_key", "not_null", "indexes"])
async def test_a_column_that_the_source_lacks_is_refused(database: AsyncEngine, option: str) -> None:
    options: Any = {option: "shops"}
    problem = f"^{option} names 'shops', which the source does not have. Did you mean 'shop'"
    with pytest.raises(dl.PlanError, match=problem):
        await dl.load_dataframe(DATA, "t", engine=database, **options)


async def test_columns_that_the_table_lacks_are_refused_with_what_would_add_them(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (day text)")
    with pytest.raises(dl.SchemaMismatch) as caught:
        await dl.load_dataframe(DATA, "t", engine=database)
    start = caught.value.hint.index("ALTER TABLE")
    await execute(database, *caught.value.hint[start:].split("; "))
    assert (await dl.load_dataframe(DATA, "t", engine=database)).loaded == 2


@by_commit
async def test_they_are_added_where_that_is_asked_for(database: AsyncEngine, options: Any) -> None:
    await execute(database, "CREATE TABLE t (day text)", "INSERT INTO t VALUES ('sun')")
    plan = await dl.plan_load(DATA, "t", engine=database, evolve="add", **options)
    assert [statement.partition("ADD COLUMN")[2].split()[-1].lower() for statement in plan.statements[:2]] == [
        "bigint"
    ] * 2
    assert "meanwhile: others wait for" in str(plan)
    assert len(await inspected(database, "get_columns")) == 1
    report = await dl.load_dataframe(DATA, "t", engine=database, evolve="add", **options)
    assert report.loaded == 2
    found = await fetch(database, "SELECT day, shop, sold FROM t ORDER BY day")
    assert found == [("mon", 1, 10), ("sun", None, None), ("tue", 2, 20)]
    again = await dl.load_dataframe(DATA, "t", engine=database, evolve="add", **options)
    assert again.loaded == 2
    assert "meanwhile" not in str(await dl.plan_load(DATA, "t", engine=database, evolve="add", **options))


async def test_a_load_that_fails_adds_nothing(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (day text, shop integer CHECK (shop < 2))")
    with pytest.raises(dl.WriteError):
        await dl.load_dataframe(DATA, "t", engine=database, evolve="add")
    assert [column["name"] for column in await inspected(database, "get_columns")] == ["day", "shop"]


async def test_columns_are_added_with_the_types_that_were_given(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (day text)")
    await dl.load_dataframe(DATA, "t", engine=database, evolve="add", dtype={"shop": sa.SmallInteger()})
    kinds = {column["name"]: str(column["type"]) for column in await inspected(database, "get_columns")}
    assert (kinds["shop"], kinds["sold"]) == ("SMALLINT", "BIGINT")


async def test_rows_are_merged_into_columns_that_are_added(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (day text PRIMARY KEY)", "INSERT INTO t VALUES ('mon')")
    report = await dl.load_dataframe(DATA, "t", engine=database, evolve="add", on_conflict="update")
    assert (report.inserted, report.updated) == (1, 1)
    assert await fetch(database, "SELECT day, shop, sold FROM t ORDER BY day") == [("mon", 1, 10), ("tue", 2, 20)]


async def test_two_loads_that_add_the_same_column_both_succeed(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (day text)")
    loads = [dl.load_dataframe(DATA, "t", engine=postgres, evolve="add") for _ in range(2)]
    assert [report.loaded for report in await asyncio.gather(*loads)] == [2, 2]
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(4,)]


async def test_nothing_is_added_to_a_view(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (day text)", "CREATE VIEW v AS SELECT day FROM t")
    with pytest.raises(dl.PlanError, match=r"^public\.v is a view, and no column can be added to it"):
        await dl.load_dataframe(DATA, "v", engine=postgres, evolve="add")


async def test_a_key_of_small_integers_is_made(database: AsyncEngine) -> None:
    data = pa.table({"id": pa.array([2, 1], pa.int32())})  # INTEGER, which on SQLite makes it the number of the row
    assert (await dl.load_dataframe(data, "t", engine=database, primary_key="id")).loaded == 2
