"""Rejects outlive the run that found them: they are kept in the ledger, in the transaction of their chunk."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.engine import open_engine
from dataloader.database.schema import TableName
from dataloader.ledger import history
from tests.conftest import Broken, execute, fetch

ROWS, CHUNK_ROWS = 60, 10
BAD = {3: "x", 17: "1.5", 25: "-5", 26: "-6", 42: "x", 48: "-7"}
"""The values that do not fit, by row; those of a minus only the database refuses."""
KEPT = "SELECT reject_row, chunk, reject_column, reject_reason FROM dataloader_rejects ORDER BY reject_row"


def rows(stop: int | None = None) -> Iterator[dict[str, Any]]:
    for row in range(ROWS):
        if row == stop:
            raise Broken
        yield {"id": row, "v": BAD.get(row, str(row))}


def batches(stop: int | None = None) -> Iterator[pa.RecordBatch]:
    for start in range(0, ROWS, CHUNK_ROWS):
        if start == stop:
            raise Broken
        yield pa.RecordBatch.from_pylist(list(rows())[start : start + CHUNK_ROWS])


async def make(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer, v integer CONSTRAINT positive CHECK (v >= 0))")


def load(database: AsyncEngine, stop: int | None = None, **options: Any) -> Any:
    known: dict[str, Any] = {"chunk_rows": CHUNK_ROWS, "workers": 1, "on_invalid": "reject", "load_id": "May"}
    return dl.load_batches(batches(stop), "t", engine=database, **(known | options))


async def interrupted(database: AsyncEngine, stop: int, **options: Any) -> None:
    with pytest.raises(Broken):
        await load(database, stop, **options)


async def numbers(database: AsyncEngine) -> list[int]:
    return [number for (number,) in await fetch(database, "SELECT id FROM t ORDER BY id")]


async def has_table(database: AsyncEngine, name: str = "dataloader_rejects") -> bool:
    async with database.connect() as connection:
        return bool(await connection.run_sync(lambda sync: sa.inspect(sync).has_table(name)))


@pytest.mark.parametrize("stop", [20, 30, 50])
async def test_the_report_of_a_resumed_load_has_the_rejects_that_one_run_would_have(
    database: AsyncEngine, stop: int
) -> None:
    await make(database)
    expected = (await load(database, load_id="at once")).rejects
    await execute(database, "DELETE FROM t")
    await interrupted(database, stop)
    report = await load(database, resume=True)
    pd.testing.assert_frame_equal(report.rejects, expected)
    earlier = sum(row < stop for row in BAD)
    assert (report.already_loaded, report.already_rejected, report.rejected) == (stop, earlier, len(BAD) - earlier)
    assert f"an earlier run committed {stop} rows, {earlier} of them as rejects" in str(report)
    assert await numbers(database) == [row for row in range(ROWS) if row not in BAD]
    again = await load(database, resume=True)
    pd.testing.assert_frame_equal(again.rejects, expected)
    assert "6 of them as rejects" in again._repr_html_()


async def test_the_rejects_of_two_runs_have_the_labels_of_the_frame(database: AsyncEngine) -> None:
    await make(database)
    frame = pd.DataFrame(list(rows())).set_axis([f"r{row}" for row in range(ROWS)])
    options: Any = {"engine": database, "chunk_rows": CHUNK_ROWS, "workers": 1, "on_invalid": "reject"}
    with pytest.raises(dl.ValidationError, match="max_rejects"):
        await dl.load_dataframe(frame, "t", load_id="May", commit="chunk", max_rejects=4, **options)
    report = await dl.load_dataframe(frame, "t", load_id="May", resume=True, **options)
    assert report.already_rejected == 4
    assert report.rejects.index.tolist() == [f"r{row}" for row in BAD]


async def test_the_ledger_has_the_rows_as_the_source_has_them_and_why(database: AsyncEngine) -> None:
    await make(database)
    await load(database)
    assert await fetch(database, KEPT) == [
        (3, 0, "v", "syntax"),
        (17, 1, "v", "fraction"),
        (25, 2, None, "check"),
        (26, 2, None, "check"),
        (42, 4, "v", "syntax"),
        (48, 4, None, "check"),
    ]
    kept = await fetch(database, "SELECT load_id, reject_problem, reject_values FROM dataloader_rejects ORDER BY 3")
    assert {load_id for load_id, *_ in kept} == {"May"}
    assert {"id": 25, "v": "-5"} in [json.loads(values) for *_, values in kept]
    assert any("positive" in problem for _, problem, _ in kept)


async def test_rejects_are_counted_against_the_limit_over_all_runs(database: AsyncEngine) -> None:
    await make(database)
    await interrupted(database, 30, max_rejects=4)
    with pytest.raises(dl.ValidationError, match="max_rejects=4") as caught:
        await load(database, resume=True, max_rejects=4)
    assert sum(caught.value.counts.values()) == 5
    with pytest.raises(dl.ValidationError, match="max_rejects=3"):
        await load(database, resume=True, max_rejects=3)
    assert len(await fetch(database, KEPT)) == 4
    report = await load(database, resume=True, max_rejects=6)
    assert (len(report.rejects), report.skipped) == (6, 0)
    assert await numbers(database) == [row for row in range(ROWS) if row not in BAD]


async def test_a_share_is_of_the_rows_of_all_runs(database: AsyncEngine) -> None:
    await make(database)
    await interrupted(database, 50, max_rejects=0.1)
    assert (await load(database, resume=True, max_rejects=0.1)).loaded == 10


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_a_chunk_with_more_rejects_than_allowed_is_not_committed_in_part(
    postgres: AsyncEngine, method: Any
) -> None:
    """What was left out when the limit was reached would be neither in the table nor among the rejects."""
    await make(postgres)
    data = {"id": list(range(10)), "v": [0, -1, 2, -3, 4, -5, 6, -7, 8, 9]}
    options: Any = {"engine": postgres, "method": method, "on_invalid": "reject", "load_id": "May"}
    with pytest.raises(dl.ValidationError, match="max_rejects=1"):
        await dl.load_dataframe(data, "t", max_rejects=1, **options)
    report = await dl.load_dataframe(data, "t", resume=True, **options)
    assert report.rejects["reject_row"].tolist() == [1, 3, 5, 7]
    assert await numbers(postgres) == [0, 2, 4, 6, 8, 9]


async def test_what_is_forgotten_leaves_no_rejects(database: AsyncEngine) -> None:
    await make(database)
    await interrupted(database, 30)
    await load(database, load_id="June")
    report = await load(database, resume=False)
    assert (report.rejected, report.already_rejected) == (6, 0)
    await history.forget(database, "May")
    assert await fetch(database, "SELECT DISTINCT load_id FROM dataloader_rejects") == [("June",)]


async def test_loads_without_rejects_have_no_table_for_them(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer, v text)")
    await interrupted(database, 30, on_invalid="raise")
    assert (await load(database, resume=True, on_invalid="raise")).loaded == 30
    assert (await load(database, resume=False, on_invalid="raise")).loaded == 60
    assert not await has_table(database)


async def test_a_ledger_of_two_tables_gets_the_third(database: AsyncEngine) -> None:
    await make(database)
    await interrupted(database, 30)
    await execute(database, "DROP TABLE dataloader_rejects")
    report = await load(database, resume=True)
    assert report.rejects["reject_row"].tolist() == [3, 17, 42, 48]
    assert "the ledger does not hold 2 rows that earlier runs rejected" in str(report)
    assert len(await fetch(database, KEPT)) == 2


async def test_first_rejects_of_many_loads_at_once_make_one_table(database: AsyncEngine) -> None:
    await make(database)
    reports = await asyncio.gather(*(load(database, load_id=f"load {number}") for number in range(4)))
    assert [report.rejected for report in reports] == [6] * 4
    assert len(await fetch(database, KEPT)) == 24


@pytest.fixture
async def clerk(postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """A role that may use a ledger of two tables, and create none."""
    await make(postgres)
    await execute(
        postgres,
        "DROP ROLE IF EXISTS rejecting_role",
        "CREATE ROLE rejecting_role LOGIN",
        "GRANT USAGE ON SCHEMA public TO rejecting_role",
        "GRANT INSERT ON t TO rejecting_role",
    )
    engine = open_engine(postgres.url.set(username="rejecting_role"))
    yield engine
    await engine.dispose()
    await execute(postgres, "DROP OWNED BY rejecting_role", "DROP ROLE rejecting_role")


async def test_a_role_that_may_not_create_the_table_is_told_so_before_anything_is_written(
    postgres: AsyncEngine, clerk: AsyncEngine
) -> None:
    await dl.load_dataframe({"id": [1]}, "other", engine=postgres, load_id="makes the ledger")
    both = "dataloader_loads, dataloader_chunks"
    await execute(postgres, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {both} TO rejecting_role")
    good = {"id": [1], "v": [1]}
    assert (await dl.load_dataframe(good, "t", engine=clerk, load_id="no rejects")).loaded == 1
    with pytest.raises(dl.PlanError, match="the ledger's tables"):
        await load(clerk)
    assert await numbers(postgres) == [1]
    granting = history.grants(TableName("public", "t"), "rejecting_role")
    await execute(postgres, *filter(str.strip, granting.split(";\n")))
    assert (await load(clerk)).rejected == 6
    assert len(await fetch(postgres, KEPT)) == 6


HARD: dict[str, tuple[str, Any]] = {
    "NUL": ("text", ["a\0b"]),
    "half a character": ("text", ["a", "b", "a\ud800"]),
    "NaN": ("float", [math.nan, 1.5]),
    "infinity": ("integer", [math.inf, 1.5]),
    "bytes": ("bytea", [b"\0\xff"]),
    "bytes among texts": ("text", ["a", "b", b"c"]),
    "NaN in a list": ("jsonb", pa.array([[math.nan, 1.5]])),
    "bytes in a dict": ("jsonb", pa.array([{"a": b"x"}])),
    "a year that Python has not": ("date", pa.array([-1_000_000], pa.date32())),
    "NaN in a dict": ("jsonb", [{"a": math.nan}, {"a": 1}]),
}


@pytest.mark.parametrize(("kind", "values"), HARD.values(), ids=HARD)
async def test_whatever_was_refused_is_kept(postgres: AsyncEngine, kind: str, values: Any) -> None:
    await execute(postgres, f"CREATE TABLE t (w integer, v {kind})")
    columns: Any = {"w": ["x"] * len(values), "v": values}
    data = pa.table(columns) if isinstance(values, pa.Array) else pd.DataFrame(columns, dtype=object)
    report = await dl.load_dataframe(data, "t", engine=postgres, on_invalid="reject", load_id="May")
    assert report.rejected == len(values)
    kept = await fetch(postgres, "SELECT reject_values FROM dataloader_rejects")
    assert [set(json.loads(text)) for (text,) in kept] == [{"w", "v"}] * len(values)
