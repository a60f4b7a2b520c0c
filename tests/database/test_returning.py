"""Values that the database decides, asked back: in the order of the data, on its index."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

IDENTITY = {"postgresql": "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "sqlite": "integer PRIMARY KEY"}


@pytest.fixture
async def table(database: AsyncEngine) -> AsyncEngine:
    key = IDENTITY[database.dialect.name]
    await execute(database, f"CREATE TABLE t (id {key}, name text UNIQUE, v integer NOT NULL DEFAULT 7 CHECK (v > 0))")
    return database


async def stored(engine: AsyncEngine) -> dict[str, tuple[int, int]]:
    return {name: (key, v) for name, key, v in await fetch(engine, "SELECT name, id, v FROM t")}


def returned(report: dl.LoadReport) -> list[tuple[Any, ...]]:
    return list(report.returned.itertuples(name=None))


async def test_generated_keys_come_in_the_order_of_a_frame_and_on_its_index(table: AsyncEngine) -> None:
    data = pd.DataFrame({"name": ["c", "a", "b"]}, index=["x", "y", "z"])
    report = await dl.load_dataframe(data, "t", engine=table, returning=["id", "v"])
    there = await stored(table)
    assert returned(report) == [(label, *there[name]) for label, name in zip(data.index, data["name"], strict=True)]
    assert report.returned.columns.tolist() == ["id", "v"]
    assert data.join(report.returned)["id"].tolist() == [there[name][0] for name in data["name"]]


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_keys_of_many_chunks_belong_to_their_rows(postgres: AsyncEngine, method: Any) -> None:
    await execute(postgres, f"CREATE TABLE t (id {IDENTITY['postgresql']}, name text)")
    data = pa.table({"name": [f"n{number * 7919 % 1009}" for number in range(1009)]})
    report = await dl.load_dataframe(data, "t", engine=postgres, returning="id", method=method, chunk_rows=100)
    there = dict(await fetch(postgres, "SELECT name, id FROM t"))
    assert report.returned["id"].tolist() == [there[name] for name in data["name"].to_pylist()]
    assert report.returned.index.tolist() == list(range(1009))


async def test_a_stream_of_rows_returns_keys_too(table: AsyncEngine) -> None:
    rows = ({"name": f"n{number}"} for number in range(25))
    report = await dl.load_rows(rows, "t", engine=table, returning="id", chunk_rows=10)
    there = await stored(table)
    assert report.returned["id"].tolist() == [there[f"n{number}"][0] for number in range(25)]


@pytest.mark.parametrize("how", ["update", "ignore"])
async def test_with_a_key_it_says_which_rows_are_new(table: AsyncEngine, how: Any) -> None:
    await dl.load_dataframe({"name": ["a", "b"], "v": [1, 2]}, "t", engine=table)
    data = {"name": ["d", "b", "c", "a"], "v": [4, 20, 3, 1]}
    report = await dl.load_dataframe(
        data, "t", engine=table, on_conflict=how, key="name", returning=["id", "v"], chunk_rows=2
    )
    there = await stored(table)
    expected = [(row, *there[name], name in "cd") for row, name in enumerate(data["name"])]
    assert returned(report) == expected
    assert there["b"][1] == (20 if how == "update" else 2)
    assert (report.inserted, report.updated) == (2, 1 if how == "update" else 0)


async def test_many_rows_with_a_key_keep_their_order(table: AsyncEngine) -> None:
    names = [f"n{number * 7919 % 2003}" for number in range(2003)]
    await dl.load_dataframe({"name": names[::-3]}, "t", engine=table)
    options: Any = {"on_conflict": "update", "key": "name"}
    report = await dl.load_dataframe({"name": names, "v": range(1, 2004)}, "t", engine=table, returning="v", **options)
    assert report.returned["v"].tolist() == list(range(1, 2004))


async def test_rows_that_waited_for_their_parent_are_in_their_place(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer PRIMARY KEY, parent integer REFERENCES t (id), v integer)")
    data = {"id": [3, 2, 1, 9], "parent": [2, 1, None, 7], "v": [30, 20, 10, 90]}
    report = await dl.load_dataframe(data, "t", engine=database, on_invalid="reject", returning="v")
    assert returned(report) == [(0, 30), (1, 20), (2, 10)]


async def test_rejected_rows_are_left_out(table: AsyncEngine) -> None:
    data = pd.DataFrame({"name": list("abcdef"), "v": [1, 0, 3, -4, 5, 6]}, index=range(10, 70, 10))
    report = await dl.load_dataframe(data, "t", engine=table, on_invalid="reject", returning="id", chunk_rows=4)
    there = await stored(table)
    assert returned(report) == [(label, there[name][0]) for label, name in ((10, "a"), (30, "c"), (50, "e"), (60, "f"))]


async def test_rows_that_gave_way_to_others_are_left_out(table: AsyncEngine) -> None:
    data = {"name": ["a", "b", "a"], "v": [1, 2, 3]}
    options: Any = {"on_conflict": "update", "key": "name", "duplicates": "last"}
    report = await dl.load_dataframe(data, "t", engine=table, returning="v", **options)
    assert returned(report) == [(1, 2, True), (2, 3, True)]


async def test_a_load_of_no_rows_returns_an_empty_frame(table: AsyncEngine) -> None:
    data = pd.DataFrame({"name": pd.Series([], dtype="str")})
    report = await dl.load_dataframe(data, "t", engine=table, returning="id")
    assert (report.returned.columns.tolist(), len(report.returned)) == (["id"], 0)


async def test_who_asks_for_nothing_gets_nothing(table: AsyncEngine) -> None:
    report = await dl.load_dataframe({"name": ["a"]}, "t", engine=table)
    assert report.returned.empty


async def test_a_row_that_a_trigger_drops_is_an_error(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id integer, name text)",
        "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER b BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION drops()",
    )
    with pytest.raises(dl.LoadError, match=r"^1 of 3 rows were dropped by a trigger or a rule, so that returning="):
        await dl.load_dataframe({"id": [1, 2, 3]}, "t", engine=postgres, returning="name")
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(0,)]


async def test_a_key_that_is_null_cannot_be_found_again(table: AsyncEngine) -> None:
    data = pd.DataFrame({"name": ["a", None]})
    with pytest.raises(dl.LoadError, match=r"^1 of 2 rows have NULL in their key"):
        await dl.load_dataframe(data, "t", engine=table, on_conflict="update", key="name", returning="id")
    assert await stored(table) == {}


async def test_the_plan_says_what_comes_back_and_that_it_is_one_transaction(table: AsyncEngine) -> None:
    plan = await dl.plan_load({"name": ["a"]}, "t", engine=table, returning=["id", "v"])
    assert "returned: id, v of each row, in the order of the source" in str(plan)
    assert (plan.commit, plan.commit_reason) == ("load", "the values that are returned come with one commit")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"returning": "ids"}, r"returning names 'ids', which (public\.)?t does not have\. Did you mean 'id'\?"),
        ({"returning": []}, r"returning must name columns, got \[\]\."),
        ({"returning": "id", "commit": "chunk"}, r"the load cannot be committed chunk by chunk: the values that are"),
    ],
)
async def test_what_cannot_be_returned_is_refused(table: AsyncEngine, options: Any, problem: str) -> None:
    with pytest.raises(dl.PlanError, match=f"^{problem}"):
        await dl.load_dataframe({"name": ["a"]}, "t", engine=table, **options)
    assert await stored(table) == {}
