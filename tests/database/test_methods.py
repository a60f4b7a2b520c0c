"""The ways to insert rows, measured on the reader's own table: each does all of its work, and nothing of it stays."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

FRAME = pd.DataFrame({"id": range(1_500), "note": ["<b>"] * 1_500})
NAMES = [
    "a statement for each row",
    "executemany",
    "insertmanyvalues",
    "dataloader, method='insert'",
    "dataloader",
]


async def test_every_way_inserts_all_its_rows_and_leaves_none(database: AsyncEngine) -> None:
    await dl.load_dataframe(FRAME.iloc[:3], "t", engine=database)
    inserted: list[int] = []

    def count(connection: Any, *_: Any) -> None:
        """Before the savepoint of each way is rolled back, its rows are there."""
        if rows := connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one() - 3:  # 0: a plan's own savepoint
            inserted.append(rows)

    sa.event.listen(database.sync_engine, "rollback_savepoint", count)
    found = await dl.compare_methods(FRAME, "t", engine=database, rounds=2)
    sa.event.remove(database.sync_engine, "rollback_savepoint", count)
    assert inserted == [1_000, 1_000, *[1_500] * 8]
    assert [one.name for one in found.methods] == NAMES
    assert [(one.rows, len(one.seconds), one.error) for one in found.methods] == [(1_000, 2, ""), *[(1_500, 2, "")] * 4]
    assert await fetch(database, "SELECT count(*) FROM t") == [(3,)]
    assert database.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_table_that_is_missing_is_missing_afterwards(database: AsyncEngine) -> None:
    found = await dl.compare_methods(FRAME, "t", engine=database, rows=10, rounds=1)
    assert found.rates.keys() == set(NAMES)
    async with database.connect() as connection:
        names = await connection.run_sync(lambda one: sa.inspect(one).get_table_names())
    assert names == []


async def test_a_way_that_cannot_take_the_rows_says_why_and_the_others_go_on(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer PRIMARY KEY, note text)", "INSERT INTO t VALUES (7, 'a')")
    found = await dl.compare_methods(FRAME, "t", engine=database, rounds=1)
    assert found.rates == {}
    assert all(re.search("unique|duplicate", one.error, re.IGNORECASE) for one in found.methods), found
    found = await dl.compare_methods(FRAME.iloc[10:], "t", engine=database, rounds=1)
    assert len(found.rates) == len(NAMES)
    assert await fetch(database, "SELECT id FROM t") == [(7,)]


async def test_a_comparison_is_shown_as_text_frame_and_html(database: AsyncEngine) -> None:
    found = await dl.compare_methods(FRAME, "a<b>", engine=database, rows=5, rounds=1)
    assert str(found).splitlines()[1].startswith("  a statement for each row ")
    assert found.to_frame()["method"].tolist() == NAMES
    assert "<code>a&lt;b&gt;</code>" in found._repr_html_()


@pytest.mark.parametrize("given", [{"rows": 0}, {"rows": True}, {"rounds": 0}, {"rounds": 1.5}])
async def test_numbers_that_cannot_be_used_are_refused(database: AsyncEngine, given: dict[str, Any]) -> None:
    with pytest.raises(dl.PlanError, match=next(iter(given))):
        await dl.compare_methods(FRAME, "t", engine=database, **given)


async def test_without_rows_there_is_nothing_to_measure(database: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="no rows"):
        await dl.compare_methods(FRAME.iloc[:0], "t", engine=database)
