"""Data that is compared with a table: what is only here, only there, or differs, to the last digit."""

from __future__ import annotations

import asyncio
import datetime as dt
import zoneinfo
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.comparing import partitions
from tests.conftest import execute, fetch
from tests.database.test_copies import until

DATA = {"id": [1, 2, 3, 4], "name": ["a", "", None, "d"], "price": [Decimal("1.10"), Decimal(2), None, Decimal(4)]}


async def load(engine: AsyncEngine, data: Any = None, **options: Any) -> None:
    await dl.load_dataframe(data or DATA, "t", engine=engine, primary_key="id", **options)


async def test_rows_and_cells_that_differ_are_counted_and_shown(database: AsyncEngine) -> None:
    await load(database)
    ours = {
        "id": [2, 3, 4, 5],
        "name": [None, None, "D", "e"],
        "price": [Decimal("2.00"), Decimal(3), Decimal(4), None],
    }
    found = await dl.compare(ours, "t", engine=database)
    assert (found.rows_here, found.rows_there, found.same, found.different) == (4, 4, 0, 3)
    assert (found.count_only_here, found.count_only_there, found.equal, found.key) == (1, 1, False, ("id",))
    assert found.by_column == {"name": 2, "price": 1}
    assert found.only_here[["row", "id", "name"]].to_numpy().tolist() == [[3, "5", "e"]]
    assert found.only_there[["id", "name"]].to_numpy().tolist() == [["1", "a"]]
    cells = found.differences.sort_values(["column", "id"])
    assert cells[["id", "row", "column"]].to_numpy().tolist() == [["2", 0, "name"], ["4", 2, "name"], ["3", 1, "price"]]
    assert cells["ours"].isna().tolist() == [True, False, False]
    assert cells["theirs"].isna().tolist() == [False, False, True]
    assert cells["theirs"].tolist()[:2] == ["", "d"]  # NULL is not ''
    assert "1 row only here, 1 row only there, 3 rows differ, 0 rows equal" in str(found)
    assert "only here" in found._repr_html_()
    assert "NULL" in found._repr_html_()


async def test_what_was_loaded_is_equal(database: AsyncEngine) -> None:
    await load(database)
    found = await dl.compare(DATA, "t", engine=database)
    assert (found.equal, found.same, len(found.differences), len(found.only_here)) == (True, 4, 0, 0)
    assert "equals t of" in str(found)
    assert "equal" in found._repr_html_()


EQUAL: dict[str, tuple[str, str, Any, bool]] = {
    "digits of a number": ("numeric", "1.1", Decimal("1.10"), True),
    "digits of a text": ("text", "'1.1'", "1.10", False),
    "last digit": ("numeric", "12345678901234567890.1", Decimal("12345678901234567890.2"), False),
    "a moment in another zone": (
        "timestamptz",
        "'2024-05-01 12:00+02'",
        dt.datetime(2024, 5, 1, 6, tzinfo=zoneinfo.ZoneInfo("America/New_York")),
        True,
    ),
    "a microsecond": (
        "timestamptz",
        "'2024-05-01 12:00:00.000001+00'",
        dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC),
        False,
    ),
    "blanks and order of a document": ("jsonb", '\'{"b": [1.10], "a": null}\'', {"a": None, "b": [1.1]}, True),
    "a number and a text in a document": ("jsonb", "'[1]'", ["1"], False),
    "floats": ("float8", "0.30000000000000004", 0.3, False),
    "NaN": ("numeric", "'NaN'", Decimal("NaN"), False),  # which pandas and its like mean as missing
    "an array": ("int[]", "'{1,NULL}'", [1, None], True),
    "blanks at the end": ("char(3)", "'a'", "a", True),
}


@pytest.mark.parametrize(("kind", "theirs", "ours", "is_equal"), EQUAL.values(), ids=EQUAL)
async def test_values_are_equal_where_the_database_holds_them_for_equal(
    postgres: AsyncEngine, kind: str, theirs: str, ours: Any, is_equal: bool
) -> None:
    async with postgres.begin() as connection:
        await connection.exec_driver_sql(f"CREATE TABLE t (id int PRIMARY KEY, v {kind})")
        await connection.exec_driver_sql(f"INSERT INTO t VALUES (1, {theirs})")
    found = await dl.compare({"id": [1], "v": [ours]}, "t", engine=postgres)
    assert (found.equal, found.different) == (is_equal, 0 if is_equal else 1)


async def test_a_query_is_compared_by_a_key_that_is_named_and_other_columns_are_told(database: AsyncEngine) -> None:
    await load(database)
    ours = {"Number": [1, 4], "name": ["a", "d"]}
    columns = {"Number": "id", "name": "name"}
    query = "SELECT id, name, price FROM t WHERE id > :least"
    found = await dl.compare(ours, query, {"least": 1}, key="id", columns=columns, engine=database)
    assert (found.same, found.count_only_here, found.count_only_there) == (1, 1, 2)
    assert found.not_compared == ("price",)
    assert "not compared: price" in str(found)


async def test_the_parts_of_a_key_are_told_apart_whatever_is_in_them(database: AsyncEngine) -> None:
    parts = [("x\x1fy", "z"), ("x", "y\x1fz"), ("x\x1e1y", "z"), ("x\x1e", "\x1fz"), ("x\x1e\x1f", "z"), ("x", "y")]
    data = {"a": [a for a, _ in parts], "b": [b for _, b in parts], "n": [*range(len(parts))]}
    await dl.load_dataframe(data, "t", engine=database, primary_key=["a", "b"])
    assert (await dl.compare(data, "t", engine=database)).equal
    data["n"] = data["n"][::-1]
    assert (await dl.load_dataframe(data, "t", engine=database, on_conflict="update")).updated == 6
    assert (await dl.compare(data, "t", engine=database)).equal


async def test_it_is_said_why_rows_cannot_be_paired(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id int, n int)", "INSERT INTO t VALUES (1, 1), (1, 2), (2, NULL)")
    with pytest.raises(dl.PlanError, match="has no unique key"):
        await dl.compare({"id": [1]}, "t", engine=database)
    with pytest.raises(dl.PlanError, match="several rows of the table have the key id=1"):
        await dl.compare({"id": [1]}, "t", engine=database, key="id")
    with pytest.raises(dl.PlanError, match="several rows of the data have the key id=2, n=3"):
        await dl.compare({"id": [2, 2], "n": [3, 3]}, "t", engine=database, key=["id", "n"])
    with pytest.raises(dl.SchemaMismatch, match="'nn'"):
        await dl.compare({"id": [1], "nn": [1]}, "t", engine=database, key="id")
    with pytest.raises(dl.SchemaMismatch, match="'n' is not in the data"):
        await dl.compare({"id": [1]}, "t", engine=database, key="n")
    with pytest.raises(dl.ValidationError, match="'x'"):
        await dl.compare({"id": ["x"]}, "t", engine=database, key="id")
    with pytest.raises(dl.ReadError, match="nowhere"):
        await dl.compare({"id": ["x"]}, "nowhere", engine=database, key="id")
    found = await dl.compare({"id": [2], "n": [None]}, "t", engine=database, key=["id", "n"])
    assert (found.same, found.count_only_here, found.count_only_there) == (0, 1, 3)  # NULL is like no other key


@pytest.mark.parametrize("memory", [1 << 26, 20_000, 150_000])
async def test_many_rows_are_compared_in_parts_that_wait_on_disk(
    database: AsyncEngine, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(partitions, "MEMORY_BYTES", memory)
    monkeypatch.setattr("dataloader.comparing.comparison.CHUNK_ROWS", 3_000)
    numbers = np.arange(20_000)
    await load(database, pa.table({"id": numbers, "n": numbers * 3, "name": [f"n{one}" for one in numbers]}))
    frame = pd.DataFrame({"id": numbers[::-1] + 10, "n": (numbers[::-1] + 10) * 3})
    frame.loc[frame["id"] % 100 == 50, "n"] += 1
    found = await dl.compare(frame, "t", engine=database, max_rows=7)
    assert (found.count_only_here, found.count_only_there, found.different, found.same) == (10, 10, 200, 19_790)
    assert (len(found.only_here), len(found.only_there), len(found.differences)) == (7, 7, 7)
    cells = found.differences
    assert (cells["ours"].astype(int) - cells["theirs"].astype(int)).tolist() == [1] * 7
    assert frame["id"].iloc[cells["row"].astype(int)].tolist() == cells["id"].astype(int).tolist()


async def test_a_cancel_ends_the_query(postgres: AsyncEngine) -> None:
    endless = "SELECT n FROM (SELECT generate_series(1, 100000000) AS n) AS t"
    comparing = asyncio.ensure_future(dl.compare({"n": [1]}, endless, key="n", engine=postgres))
    active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
    await until(postgres, active, 1)
    comparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(comparing, 1)
    await until(postgres, active, 0)
    assert await fetch(postgres, "SELECT count(*) FROM pg_tables WHERE tablename = 't'") == [(0,)]
