"""update_rows, delete_rows and sync_table: what is there is changed by its key, all at once; the rest is counted."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

TABLE = "CREATE TABLE t (id integer PRIMARY KEY, day date, v text NOT NULL)"
OLD = "INSERT INTO t VALUES (1, '2024-05-16', 'a'), (2, '2024-05-17', 'b'), (3, '2024-05-17', 'c'), (4, NULL, 'd')"
ALL = "SELECT id, v FROM t ORDER BY id"
BEFORE = [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
DAY = datetime.date(2024, 5, 17)


@pytest.fixture
async def table(database: AsyncEngine) -> AsyncEngine:
    await execute(database, TABLE, OLD)
    return database


async def test_rows_that_are_there_are_updated_and_the_others_counted(table: AsyncEngine) -> None:
    report = await dl.update_rows({"id": [2, 3, 9], "v": ["b", "x", "y"]}, "t", engine=table)
    assert (report.updated, report.unchanged, report.missing, report.inserted) == (1, 1, 1, 0)
    assert await fetch(table, ALL) == [(1, "a"), (2, "b"), (3, "x"), (4, "d")]
    assert str(report).startswith("1 row updated from dict of columns in ")


async def test_an_update_needs_no_column_but_the_key_and_what_it_changes(table: AsyncEngine) -> None:
    report = await dl.update_rows({"id": [2], "day": [None]}, "t", engine=table)
    assert report.updated == 1
    assert await fetch(table, "SELECT day, v FROM t WHERE id = 2") == [(None, "b")]


async def test_rows_that_are_there_are_deleted_and_the_others_counted(table: AsyncEngine) -> None:
    report = await dl.delete_rows({"id": [2, 9], "whatever": ["x", "y"]}, "t", engine=table)
    assert (report.deleted, report.missing, report.loaded) == (1, 1, 0)
    assert await fetch(table, ALL) == [(1, "a"), (3, "c"), (4, "d")]
    assert str(report).startswith("1 row deleted by dict of columns from ")


async def test_many_rows_are_deleted_in_one_transaction(table: AsyncEngine) -> None:
    await execute(table, "CREATE TABLE parts (t integer REFERENCES t (id))", "INSERT INTO parts VALUES (3)")
    if table.dialect.name == "sqlite":
        table = dl.connect(table.url)
    with pytest.raises(dl.WriteError):
        await dl.delete_rows({"id": [1, 2, 3]}, "t", engine=table, chunk_rows=1)
    assert await fetch(table, ALL) == BEFORE
    await table.dispose()


async def test_a_synchronized_table_has_the_rows_of_the_data(table: AsyncEngine) -> None:
    data = {"id": [2, 3, 5], "v": ["b", "x", "new"]}
    report = await dl.sync_table(data, "t", engine=table)
    assert (report.inserted, report.updated, report.unchanged, report.deleted) == (1, 1, 1, 2)
    assert await fetch(table, ALL) == [(2, "b"), (3, "x"), (5, "new")]
    assert str(report).startswith("2 rows loaded and 2 rows deleted from dict of columns into ")


WITHIN: list[Any] = [
    {"day": DAY},
    {"day": np.datetime64("2024-05-17")},
    "day = '2024-05-17'",
    "day = '2024-05-17' -- of May",
]


@pytest.mark.parametrize("within", WITHIN, ids=["dict", "value of NumPy", "SQL", "SQL with a comment"])
async def test_rows_outside_of_the_part_stay(table: AsyncEngine, within: Any) -> None:
    data = {"id": [3, 5], "day": [DAY, DAY], "v": ["c", "new"]}
    report = await dl.sync_table(data, "t", engine=table, within=within)
    assert (report.inserted, report.unchanged, report.deleted) == (1, 1, 1)
    assert await fetch(table, ALL) == [(1, "a"), (3, "c"), (4, "d"), (5, "new")]


@pytest.mark.parametrize(
    "value", [np.int64(7), np.float64(7), pd.Series([7])[0], np.bool_(True), pd.Timestamp(2024, 5, 17)]
)
async def test_a_part_may_be_that_of_a_value_of_a_frame(database: AsyncEngine, value: Any) -> None:
    frame = pd.DataFrame({"id": [1, 2], "part": [value, value]})
    await dl.load_dataframe(frame, "t", engine=database, primary_key="id")
    report = await dl.sync_table(frame[:1], "t", engine=database, within={"part": frame["part"][0]})
    assert (report.unchanged, report.deleted) == (1, 1)


NOON = datetime.datetime(2024, 5, 17, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize("value", [NOON.replace(tzinfo=None), pd.Timestamp(2024, 5, 17, 12), DAY, "2024-05-17 12:00"])
async def test_a_part_whose_moment_the_session_would_decide_is_refused(postgres: AsyncEngine, value: Any) -> None:
    zoned = pa.timestamp("us", "UTC")
    frame = pa.table({"id": [1, 2], "at": pa.array([NOON, NOON], zoned)})
    await dl.load_dataframe(frame, "t", engine=postgres, primary_key="id")
    with pytest.raises(dl.PlanError, match="has no offset from UTC, and its column has a time zone"):
        await dl.sync_table(frame[:1], "t", engine=postgres, within={"at": value})
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(2,)]
    for same in (NOON, pd.Timestamp(NOON), "2024-05-17 14:00+02"):
        report = await dl.sync_table(frame[:1], "t", engine=postgres, within={"at": same})
        assert report.unchanged == 1


@pytest.mark.parametrize("missing", [None, pd.NA, pd.NaT, float("nan")], ids=repr)
async def test_a_part_may_be_that_of_null(table: AsyncEngine, missing: Any) -> None:
    data = {"id": [5], "day": pa.array([None], pa.date32()), "v": ["new"]}
    report = await dl.sync_table(data, "t", engine=table, within={"day": missing}, max_deletes=1)
    assert report.deleted == 1
    assert await fetch(table, ALL) == [(1, "a"), (2, "b"), (3, "c"), (5, "new")]


async def test_data_outside_of_the_part_is_refused(table: AsyncEngine) -> None:
    data = {"id": [3, 5], "day": [DAY, None], "v": ["c", "new"]}
    with pytest.raises(dl.PlanError, match=r"1 row of the source are outside of within=.*Nothing was written"):
        await dl.sync_table(data, "t", engine=table, within={"day": DAY})
    assert await fetch(table, ALL) == BEFORE


@pytest.mark.parametrize("rows", [["a"], []], ids=["a few", "none"])
async def test_more_deletes_than_allowed_are_refused_with_what_would_have_gone(
    table: AsyncEngine, rows: list[str]
) -> None:
    data = pd.DataFrame({"id": pd.Series(range(1, len(rows) + 1), dtype="int64"), "v": pd.Series(rows, dtype="string")})
    gone = r"3 of 4 rows .*id 2; 3; 4" if rows else r"4 of 4 rows .*id 1; 2; 3; 4"
    with pytest.raises(dl.PlanError, match=gone + r".*max_deletes=1\.0"):
        await dl.sync_table(data, "t", engine=table)
    assert await fetch(table, ALL) == BEFORE
    assert (await dl.sync_table(data, "t", engine=table, max_deletes=1)).deleted == 4 - len(rows)


async def test_many_rows_are_found_by_their_key_and_not_one_by_one(database: AsyncEngine) -> None:
    many = pa.table({"id": range(50_000), "v": ["x"] * 50_000})
    await dl.load_dataframe(many, "t", engine=database, primary_key="id")
    async with asyncio.timeout(15):  # a second; when each row was looked for among all, 40
        report = await dl.sync_table(many.slice(10_000), "t", engine=database)
        assert (report.unchanged, report.deleted) == (40_000, 10_000)
        assert (await dl.delete_rows(many.slice(5_000), "t", engine=database)).missing == 5_000
    assert await fetch(database, "SELECT count(*) FROM t") == [(0,)]


async def test_a_file_is_synchronized_as_a_whole(table: AsyncEngine, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("id,v\n" + "".join(f"{number},v{number}\n" for number in range(2, 300)))
    report = await dl.sync_table(path, "t", engine=table, chunk_rows=7)
    assert (report.inserted, report.updated, report.deleted) == (295, 3, 1)
    assert await fetch(table, "SELECT count(*), min(id), max(id) FROM t") == [(298, 2, 299)]


async def test_a_key_that_a_file_has_in_different_chunks_is_an_error(table: AsyncEngine, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("id,v\n1,a\n2,b\n3,c\n4,d\n2,e\n")
    with pytest.raises(dl.PlanError, match=r"several rows of the source have the key 2 \(id\)"):
        await dl.sync_table(path, "t", engine=table, chunk_rows=2)
    assert await fetch(table, ALL) == BEFORE


async def test_a_value_of_another_unique_column_goes_over_to_a_new_row(table: AsyncEngine) -> None:
    await execute(table, "CREATE UNIQUE INDEX vs ON t (v)")
    report = await dl.sync_table({"id": [2, 3, 4, 7], "v": ["b", "c", "d", "a"]}, "t", key="id", engine=table)
    assert (report.inserted, report.deleted) == (1, 1)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a table that is not there": (dl.update_rows, {"table": "nowhere"}, "there is no such table"),
    "a key that is not unique": (dl.delete_rows, {"key": "v"}, r"no unique key of \(v\)"),
    "rejects": (dl.sync_table, {"on_invalid": "reject"}, "would delete the rows that are rejected"),
    "a share above one": (dl.sync_table, {"max_deletes": 2}, "max_deletes must be a share"),
    "an unknown part": (dl.sync_table, {"within": {"dya": DAY}}, "within names 'dya'.*Did you mean 'day'"),
    "a part that no row has": (dl.sync_table, {"within": {"v": "a\0"}}, "of within= contains a NUL character"),
    "a part without end": (dl.sync_table, {"within": {"id": float("inf")}}, "the float inf cannot be written as SQL"),
    "another option": (dl.update_rows, {"if_exists": "replace"}, "update_rows has no option if_exists="),
    "an inner option": (dl.load_dataframe, {"action": "delete"}, "there is no option 'action'"),
}


@pytest.mark.parametrize(("function", "options", "message"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_done_is_refused_in_words(
    table: AsyncEngine, function: Any, options: dict[str, Any], message: str
) -> None:
    data = {"id": [1], "v": ["x"]}
    with pytest.raises(dl.PlanError, match=message):
        await function(data, **{"table": "t", "engine": table, **options})
    assert await fetch(table, ALL) == BEFORE


async def test_through_another_driver_the_same_comes_out(postgres: AsyncEngine) -> None:
    await execute(postgres, TABLE, OLD)
    engine = dl.connect(postgres.url.set(drivername="postgresql+psycopg"))
    report = await dl.sync_table({"id": [2, 3, 5], "v": ["b", "100%", "n"]}, "t", engine=engine, within="v <> '50%'")
    assert (report.inserted, report.updated, report.unchanged, report.deleted) == (1, 1, 1, 2)
    assert (await dl.update_rows({"id": [5], "v": ["x"]}, "t", engine=engine)).updated == 1
    assert (await dl.delete_rows({"id": [5]}, "t", engine=engine)).deleted == 1
    await engine.dispose()


async def test_a_table_of_keys_alone_is_synchronized(table: AsyncEngine) -> None:
    await execute(table, "CREATE TABLE ids (id integer PRIMARY KEY)", "INSERT INTO ids VALUES (1), (2)")
    report = await dl.sync_table({"id": [2, 3]}, "ids", engine=table)
    assert (report.inserted, report.deleted) == (1, 1)
    assert await fetch(table, "SELECT id FROM ids ORDER BY id") == [(2,), (3,)]


async def test_rows_that_a_trigger_keeps_are_neither_deleted_nor_missing(sqlite: AsyncEngine) -> None:
    kept = "CREATE TRIGGER g BEFORE DELETE ON t WHEN OLD.id = 2 BEGIN SELECT RAISE(IGNORE); END"
    await execute(sqlite, TABLE, OLD, kept)
    report = await dl.delete_rows({"id": [1, 2, 9]}, "t", engine=sqlite)
    assert (report.deleted, report.missing, report.skipped) == (1, 1, 1)
    with pytest.raises(dl.PlanError, match="a trigger keeps 1 row of t, though the source does not have it"):
        await dl.sync_table({"id": [3, 4], "v": ["c", "d"]}, "t", engine=sqlite)


async def test_a_synchronized_table_takes_the_data_s_own_numbers(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)",
        "INSERT INTO t (v) VALUES ('a'), ('b')",
    )
    data = {"id": [2, 40], "v": ["b", "d"]}
    with pytest.raises(dl.SchemaMismatch, match="override_identity=True"):
        await dl.sync_table(data, "t", engine=postgres)
    report = await dl.sync_table(data, "t", engine=postgres, override_identity=True, sync_sequence=True)
    assert (report.inserted, report.unchanged, report.deleted) == (1, 1, 1)
    await execute(postgres, "INSERT INTO t (v) VALUES ('e')")
    assert await fetch(postgres, ALL) == [(2, "b"), (40, "d"), (41, "e")]


async def test_what_the_table_lacks_is_added_and_widened_before_rows_are_merged(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer PRIMARY KEY, v varchar(1))", "INSERT INTO t VALUES (1, 'a')")
    evolve: Any = ("add", "widen")
    report = await dl.update_rows({"id": [1], "v": ["abc"], "w": [1]}, "t", engine=postgres, evolve=evolve)
    assert report.updated == 1
    report = await dl.sync_table(
        {"id": [1 << 40], "v": ["a"], "x": [2]}, "t", engine=postgres, evolve=evolve, max_deletes=1
    )
    assert await fetch(postgres, "SELECT id, v, w, x FROM t") == [(1 << 40, "a", None, 2)]
    with pytest.raises(dl.PlanError, match="delete_rows has no option evolve="):
        await dl.delete_rows({"id": [1]}, "t", engine=postgres, evolve="add")  # type: ignore[call-arg]
