"""A small source is one transaction, also where nobody has counted its rows: all of it is there, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.loading import chunks
from tests.conftest import Broken, execute, fetch


async def test_a_file_is_sized_and_a_stream_is_read_until_it_is_known(database: AsyncEngine, tmp_path: Path) -> None:
    reader = pa.RecordBatchReader.from_batches(pa.schema([("id", pa.int64())]), [])
    plan = await dl.plan_load(reader, "orders", engine=database)
    assert (plan.commit, plan.buffers) == ("chunk", True)
    assert "the row count is unknown; one transaction for all if there are no more than 500,000 rows" in str(plan)
    path = tmp_path / "orders.csv"
    path.write_text("id\n1\n2\n")
    plan = await dl.plan_load(path, "orders", engine=database)
    assert (plan.commit, plan.buffers) == ("load", False)
    assert f"there are about {plan.about:,}, no more than 500,000 rows" in str(plan)


@pytest.mark.any_version
async def test_a_large_text_file_is_committed_by_chunks_from_its_size(database: AsyncEngine, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_text("id,name\n" + "".join(f"{number},abc\n" for number in range(600_000)))
    plan = await dl.plan_load(path, "orders", engine=database)
    assert (plan.commit, plan.buffers) == ("chunk", False)
    assert 550_000 < (plan.about or 0) < 700_000
    assert "the chunks committed before stay in the table" in plan.on_invalid


@pytest.mark.parametrize("kind", ["file", "compressed", "stream"])
async def test_a_bad_value_in_a_later_chunk_leaves_nothing_of_a_small_source(
    database: AsyncEngine, tmp_path: Path, kind: str
) -> None:
    await execute(database, "CREATE TABLE bad (id INTEGER)")
    values = ["x" if number == 150 else number for number in range(200)]
    path = tmp_path / ("rows.csv.gz" if kind == "compressed" else "rows.csv")
    pd.DataFrame({"id": values}).to_csv(path, index=False)
    chosen: Any = {"engine": database, "chunk_rows": 50}
    batches = (pa.record_batch({"id": pa.array([str(value)])}) for value in values)
    plan = await dl.plan_load(path, "bad", **chosen)
    assert plan.on_invalid.startswith("nothing is loaded")
    with pytest.raises(dl.ValidationError, match="row 150"):
        await (dl.load_batches(batches, "bad", **chosen) if kind == "stream" else dl.load_files(path, "bad", **chosen))
    async with database.connect() as connection:
        assert (await connection.execute(sa.text("SELECT count(*) FROM bad"))).scalar() == 0
    assert (await dl.load_history(database)).empty


async def test_a_stream_that_is_longer_than_one_transaction_is_committed_by_chunks(
    database: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "ONE_TRANSACTION_ROWS", 120)
    for count, loads in ((120, 0), (121, 1)):
        batches = (pa.record_batch({"id": [number]}) for number in range(count))
        report = await dl.load_batches(batches, "longer", engine=database, chunk_rows=50)
        assert (report.loaded, len(await dl.load_history(database))) == (count, loads)


ORDERS = {"id": list(range(50)), "name": [f"name {number}" for number in range(50)]}


@pytest.fixture
async def half_loaded(database: AsyncEngine) -> str:
    """A load of the orders by chunks that was ended in the middle."""

    def breaking() -> Iterator[pa.RecordBatch]:
        yield from pa.table(ORDERS).to_batches(max_chunksize=10)[:3]
        raise Broken

    await execute(database, "CREATE TABLE orders (id bigint, name varchar(20))")
    with pytest.raises(Broken):
        await dl.load_batches(breaking(), "orders", engine=database, commit="chunk", chunk_rows=10, workers=1)
    ((load_id,),) = await fetch(database, "SELECT load_id FROM dataloader_loads")
    return str(load_id)


def small(database: AsyncEngine, data: dict[str, list[Any]] = ORDERS, **options: Any) -> Any:
    return dl.load_dataframe(data, "orders", engine=database, progress="none", **options)


@pytest.mark.parametrize("options", [{}, {"chunk_rows": 10}, {"commit": "load"}], ids=str)
async def test_what_was_half_loaded_by_chunks_is_not_loaded_again_as_a_whole(
    database: AsyncEngine, half_loaded: str, options: dict[str, Any]
) -> None:
    ((before,),) = await fetch(database, "SELECT count(*) FROM orders")
    assert before > 0
    with pytest.raises(dl.UnfinishedLoad, match=r"did not finish, with .* committed") as refused:
        await small(database, **options)
    assert half_loaded in refused.value.hint
    assert await fetch(database, "SELECT count(*) FROM orders") == [(before,)]


async def test_what_was_half_loaded_is_continued_or_loaded_from_the_beginning_by_who_says_so(
    database: AsyncEngine, half_loaded: str
) -> None:
    report = await small(database, resume=True, chunk_rows=10)
    assert report.loaded + report.already_loaded == 50
    assert await fetch(database, "SELECT count(*), count(DISTINCT id) FROM orders") == [(50, 50)]
    report = await small(database)
    assert report.loaded == 50, "it is finished: once more is asked for"


async def test_other_rows_are_loaded_beside_a_half_loaded_load(database: AsyncEngine, half_loaded: str) -> None:
    ((before,),) = await fetch(database, "SELECT count(*) FROM orders")
    await small(database, {"id": [1, 2], "name": ["x", "y"]})
    await small(database, resume=False)
    assert await fetch(database, "SELECT count(*) FROM orders") == [(before + 52,)]
