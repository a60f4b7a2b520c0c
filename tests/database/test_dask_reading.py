"""A table or a query as a Dask DataFrame: every row in one partition, with the types of a read as a whole."""

from __future__ import annotations

import asyncio
import datetime as dt
import pickle
import subprocess
import sys
import textwrap
import uuid
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.distributed import dask_reading
from tests.conftest import execute
from tests.database.conftest import PLANTED

pytestmark = [pytest.mark.any_version]

ROWS = 1_000
DAY = dt.datetime(2024, 1, 1)
KEYS: dict[str, tuple[str, Any]] = {
    "integers": ("bigint", lambda number: number - 500),
    "texts": ("varchar(20)", lambda number: f"{'aAbBäÄ'[number % 6]}' {number}\\"),
    "dates with several rows each": ("date", lambda number: (DAY + dt.timedelta(days=number // 90)).date()),
    "times": ("timestamp", lambda number: DAY + dt.timedelta(microseconds=number)),
    "numbers": ("numeric(12, 2)", lambda number: f"{number}.25"),
    "few values, and none": ("integer", lambda number: None if number % 10 == 7 else number % 3),
    "no value": ("integer", lambda _: None),
    "one value": ("integer", lambda _: 7),
}


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_reading, "PART_BYTES", 2_000)


async def read(engine: Any, query: str = "orders", params: Any = None, **options: Any) -> Any:
    return await dl.read_dataframe(query, params, engine=engine, as_="dask", **options)


async def computed(frame: Any) -> pd.DataFrame:
    return await asyncio.to_thread(frame.compute, scheduler="threads")


async def load_orders(engine: AsyncEngine, rows: int = ROWS) -> None:
    data = {"id": range(rows), "note": [f"n{number}" for number in range(rows)], "pieces": [1, None] * (rows // 2)}
    await dl.load_dataframe(pd.DataFrame(data), "orders", engine=engine, primary_key="id", progress="none")


async def test_a_table_is_read_by_ranges_of_its_primary_key(database: AsyncEngine) -> None:
    await load_orders(database)
    found = await read(database)
    assert found.npartitions > 10
    whole = await dl.read_dataframe("orders", engine=database, dtype_backend="pyarrow", progress="none")
    together = await computed(found)
    pd.testing.assert_frame_equal(together.sort_values("id").reset_index(drop=True), whole)
    assert [*found.dtypes] == [*together.dtypes]
    longest = await asyncio.to_thread(found.map_partitions(len).compute, scheduler="threads")
    assert max(longest) <= 2 * min(longest[:-1])


@pytest.mark.parametrize("name", KEYS)
async def test_a_column_of_any_type_divides_the_rows(database: AsyncEngine, name: str) -> None:
    kind, value_of = KEYS[name]
    await execute(database, f"CREATE TABLE orders (id bigint, k {kind})")
    rows = pd.DataFrame({"id": range(ROWS), "k": [value_of(number) for number in range(ROWS)]}, dtype=object)
    await dl.load_dataframe(rows, "orders", engine=database, progress="none")
    found = await read(database, index="k")
    assert sorted((await computed(found))["id"]) == list(range(ROWS))
    assert found.index.name == "k"
    assert found.npartitions == 1 if name in {"no value", "one value"} else found.npartitions > 2


async def test_a_uuid_and_two_columns_divide_them_as_well(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE orders (a uuid, b integer, id bigint, PRIMARY KEY (a, b))")
    ids = [uuid.uuid5(uuid.NAMESPACE_URL, str(number // 7)) for number in range(ROWS)]
    rows = {"a": ids, "b": [number % 7 for number in range(ROWS)], "id": range(ROWS)}
    await dl.load_dataframe(pd.DataFrame(rows), "orders", engine=postgres, progress="none")
    found = await read(postgres)
    assert found.npartitions > 5
    assert sorted((await computed(found))["id"]) == list(range(ROWS))


async def test_a_query_with_parameters_and_columns_is_read_so(database: AsyncEngine) -> None:
    await load_orders(database)
    query = "SELECT id, note, id % 2 AS odd FROM orders WHERE id >= :least -- and more;\n;"
    found = await read(database, query, {"least": 100}, index="id", columns=["id", "odd"])
    together = await computed(found)
    assert sorted(together.index) == list(range(100, ROWS))
    assert [*together.columns] == ["odd"]
    assert (await computed(found["odd"].sum())) == 450


async def test_an_empty_table_is_one_empty_partition(database: AsyncEngine) -> None:
    await load_orders(database, 0)
    found = await read(database)
    assert found.npartitions == 1
    assert len(await computed(found)) == 0


async def test_each_call_reads_anew(database: AsyncEngine) -> None:
    """A scheduler gives what it still holds under the same key."""
    await load_orders(database)
    first, second = await read(database), await read(database)
    assert not {*first.__dask_keys__()} & {*second.__dask_keys__()}


async def test_decimals_and_days_stay_what_they_are_and_numbers_without_a_limit_are_refused(
    postgres: AsyncEngine,
) -> None:
    await execute(
        postgres,
        "CREATE TABLE orders (id bigint PRIMARY KEY, price numeric(30, 20), day date, n numeric)",
        "INSERT INTO orders SELECT i, i / 10.0 + 1e-20, '2024-01-01', i FROM generate_series(1, 1000) AS i",
    )
    found = await read(postgres, columns=["price", "day"])
    assert found.npartitions > 5
    together = await computed(found)
    assert str(together["price"].sum()) == "50050.00000000000000001000"
    assert {*together["day"]} == {dt.date(2024, 1, 1)}
    with pytest.raises(dl.PlanError, match=r"the digits of column 'n' are not limited.*CAST\(n AS numeric\(38, 6\)\)"):
        await read(postgres)


async def test_what_cannot_be_read_so_is_refused_at_once(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE heap (id bigint)")
    refused: list[tuple[Any, type[dl.DataLoaderError], str]] = [
        (read(postgres, "heap"), dl.PlanError, "heap has no primary key whose ranges could be partitions.*index='id'"),
        (read(postgres, "SELECT 1 AS n"), dl.PlanError, "SELECT 1 AS n has no primary key"),
        (read(postgres, "heap", index="no"), dl.ReadError, "no"),
        (read(postgres, "heap", dtype_backend="numpy_nullable"), dl.PlanError, "of dtype_backend='pyarrow'"),
        (read(postgres, "heap", index=["id"]), dl.PlanError, "takes one column as index="),
        (read(postgres, "heap", index="id", max_rows=7), dl.PlanError, "max_rows= and as_='dask' exclude each other"),
        (read("sqlite:///:memory:"), dl.PlanError, "cannot reach a database in this process's memory"),
        (read(postgres, "missing"), dl.ReadError, "missing"),
        (read(postgres, "heap", index="id", statement_timeout=-1), dl.PlanError, "statement_timeout=-1"),
        (read(postgres, "heap", index="id", progress="loud"), dl.PlanError, "loud"),
    ]
    for call, kind, match in refused:
        with pytest.raises(kind, match=match):
            await call
    async with postgres.connect() as connection:
        with pytest.raises(dl.PlanError, match="connection= and as_='dask' exclude each other"):
            await dl.read_dataframe("heap", connection=connection, as_="dask", index="id")


async def test_a_password_goes_along_and_is_not_shown(guarded_port: int) -> None:
    url = sa.URL.create("postgresql", "kim", PLANTED, "127.0.0.1", guarded_port, "postgres")
    found = await read(url, "SELECT n FROM generate_series(1, 1000) AS n", index="n")
    assert len(await computed(found)) == ROWS
    shown = [repr(found), str(found.dask), str(dict(found.dask)), repr(found._repr_html_())]
    assert not [text for text in shown if "s3cret" in text]
    assert "s3cret" in str(pickle.dumps(dict(found.dask)))


def test_without_dask_the_error_names_the_extra() -> None:
    code = """
        import asyncio, sys
        import dataloader as dl
        sys.modules["dask"] = None
        try:
            asyncio.run(dl.read_dataframe("orders", engine="sqlite:///:memory:", as_="dask"))
        except dl.PlanError as error:
            print(error)
        """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == (
        'a cluster needs dask, which is not installed. Install it: pip install "notebook-dataloader[dask]".'
    )
