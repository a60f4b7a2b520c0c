"""Dask: the workers of a cluster load partitions and files, each row once; with one plan, one bar and one report."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from distributed import Client, LocalCluster
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.distributed import dask_reading
from dataloader.sources import columnar_files, csv_parts
from tests.conftest import execute, fetch
from tests.database.conftest import PLANTED

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

ROWS, COUNT = 1_000, 10
FRAME = pd.DataFrame({"id": range(ROWS), "note": [f"n{number}" for number in range(ROWS)]})


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two processes."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "30s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as started,
    ):
        yield started


@pytest.fixture(autouse=True)
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        yield connected


def partitions(frame: pd.DataFrame = FRAME, count: int = COUNT) -> Any:
    return dd.from_pandas(frame, npartitions=count)


async def load(engine: Any, data: Any = None, table: str = "orders", **options: Any) -> dl.LoadReport:
    data = partitions() if data is None else data
    return await dl.load_dataframe(data, table, engine=engine, **{"progress": "none"} | options)


async def ids(engine: AsyncEngine) -> list[int]:
    return [number for (number,) in await fetch(engine, "SELECT id FROM orders ORDER BY id")]


async def test_every_partition_is_loaded_once_and_reported(database: AsyncEngine) -> None:
    report = await load(database)
    assert (report.loaded, report.read, report.created, len(report.parts)) == (ROWS, ROWS, True, COUNT)
    assert report.source == "Dask DataFrame (10 partitions)"
    assert [part.loaded for part in report.parts] == [ROWS // COUNT] * COUNT
    assert str(report).count("\n") == 0
    assert "10, " in report._repr_html_()
    assert await ids(database) == list(range(ROWS))


async def test_a_load_that_is_run_again_by_its_name_adds_nothing_and_in_other_partitions_is_refused(
    database: AsyncEngine,
) -> None:
    await load(database, load_id="june")
    again = await load(database, load_id="june", if_exists="append")
    assert (again.loaded, again.already_loaded) == (0, ROWS)
    with pytest.raises(dl.CheckpointError, match="begun with shards=10, and shard 1 of 9 of 'june' has shards=9"):
        await load(database, partitions(count=9), load_id="june")
    assert len(await ids(database)) == ROWS


async def test_a_table_is_emptied_once_and_the_same_data_without_a_name_is_loaded_again(postgres: AsyncEngine) -> None:
    await load(postgres)
    await load(postgres, if_exists="truncate")
    assert await ids(postgres) == list(range(ROWS))
    report = await load(postgres)
    assert not report.warnings
    assert len(await ids(postgres)) == 2 * ROWS


async def test_objects_have_the_types_that_the_first_rows_have(postgres: AsyncEngine) -> None:
    frame = FRAME.assign(tags=pd.Series([["a", "b"]] * ROWS, dtype=object))
    with dask.config.set({"dataframe.convert-string": False}):
        await load(postgres, partitions(frame))
    await load(postgres, frame, table="plain")
    query = "SELECT DISTINCT pg_typeof(tags)::text, tags::text FROM "
    assert await fetch(postgres, f"{query} orders") == await fetch(postgres, f"{query} plain")


async def test_a_value_that_does_not_fit_stops_the_load_and_the_error_names_the_partition(
    postgres: AsyncEngine,
) -> None:
    await execute(postgres, "CREATE TABLE orders (id int, note varchar(4))")
    wrong = FRAME.assign(note=FRAME["note"].where(FRAME["id"] != 555, "too long"))
    with pytest.raises(dl.ValidationError, match=r"^partition 6 of 10: row 55 \(555\), column 'note'") as caught:
        await load(postgres, partitions(wrong), load_id="june")
    committed = caught.value.committed_rows
    assert committed == len(await ids(postgres)) <= ROWS - 100
    assert "load_id='june'" in str(caught.value.resume_call)
    report = await load(postgres, partitions(FRAME), load_id="june")
    assert (report.loaded, report.already_loaded) == (ROWS - committed, committed)
    assert await ids(postgres) == list(range(ROWS))


async def test_rejects_of_all_partitions_are_gathered_by_their_place_in_the_whole(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE orders (id int, note varchar(4))")
    wrong = [5, 250, 251, 999]
    note = FRAME["note"].where(~FRAME["id"].isin(wrong), "too long")
    report = await load(
        postgres, partitions(FRAME.assign(note=note).set_index(pd.RangeIndex(7_000, 7_000 + ROWS))), on_invalid="reject"
    )
    assert (report.loaded, report.rejected) == (ROWS - 4, 4)
    assert report.rejects["reject_row"].tolist() == wrong
    assert report.rejects.index.tolist() == [7_000 + number for number in wrong]
    with pytest.raises(dl.ValidationError, match="4 rows cannot be loaded, and max_rejects=3 allows fewer"):
        await load(postgres, partitions(FRAME.assign(note=note)), on_invalid="reject", max_rejects=3)


async def test_a_cancel_rolls_the_workers_back_and_the_load_is_continued_by_its_name(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE orders (id int, note text)",
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END$$",
        "CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    loading = asyncio.create_task(load(postgres, load_id="june"))
    for _ in range(600):
        if len(rows := await ids(postgres)) >= 200:
            break
        await asyncio.sleep(0.02)
    before = time.perf_counter()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await loading
    assert time.perf_counter() - before < 5
    rows = await ids(postgres)
    assert 200 <= len(rows) < ROWS
    assert f"{len(rows)} rows are committed; continue with" in caught.value.__notes__[0]
    await asyncio.sleep(0.5)
    assert await ids(postgres) == rows, "a worker is still at it"
    report = await load(postgres, load_id="june")
    assert (report.loaded, report.already_loaded) == (ROWS - len(rows), len(rows))
    assert await ids(postgres) == list(range(ROWS))


async def test_a_partition_that_cannot_be_computed_stops_the_load(postgres: AsyncEngine) -> None:
    def broken(frame: pd.DataFrame) -> pd.DataFrame:
        if 300 in frame["id"].tolist():
            raise ZeroDivisionError("of the user's own")
        return frame

    data = partitions().map_partitions(broken, meta=FRAME.iloc[:0])
    with pytest.raises(dl.LoadError, match=r"partition 4 of 10 was not loaded: ZeroDivisionError: of the user's own"):
        await load(postgres, data)


async def test_a_client_that_lives_in_the_loop_does_as_well(postgres: AsyncEngine, cluster: LocalCluster) -> None:
    async with Client(cluster.scheduler_address, asynchronous=True) as own:
        report = await load(postgres, client=own)
    assert report.loaded == ROWS
    assert await ids(postgres) == list(range(ROWS))


async def test_a_load_in_the_background_is_done_by_the_cluster(postgres_url: sa.URL, postgres: AsyncEngine) -> None:
    report = await dl.start_load(partitions(), "orders", engine=postgres_url, progress="none")
    assert report.loaded == ROWS
    assert await ids(postgres) == list(range(ROWS))


async def test_files_are_shards_and_large_ones_of_parquet_several(
    postgres: AsyncEngine, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar_files, "PART_BYTES", 2_000)
    for year in (2024, 2025):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        rows = FRAME[FRAME["id"] % 2 == year % 2]
        pa.parquet.write_table(
            pa.Table.from_pandas(rows, preserve_index=False), folder / "a.parquet", row_group_size=100
        )
    report = await dl.load_files(tmp_path, "orders", engine=postgres, client=client, filename="file", progress="none")
    assert (report.loaded, len(report.parts)) == (ROWS, 10)
    assert report.source == "2 files (10 partitions)"
    assert await ids(postgres) == list(range(ROWS))
    found = await fetch(postgres, "SELECT year, count(*), count(DISTINCT file) FROM orders GROUP BY year ORDER BY year")
    assert found == [(2024, 500, 1), (2025, 500, 1)]


async def test_a_large_csv_file_is_several_shards_and_a_row_is_named_by_its_line(
    postgres: AsyncEngine, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_parts, "PART_BYTES", 2_000)
    lines = [f'{number},"a note\nof two lines"\n' for number in range(ROWS)]
    lines[700] = "700,a,b\n"
    (tmp_path / "a.csv").write_text("id,note\n" + "".join(lines))
    loading = {"engine": postgres, "client": client, "on_invalid": "reject", "progress": "none"}
    report = await dl.load_files(tmp_path / "a.csv", "orders", **loading)
    assert (report.loaded, report.rejected) == (ROWS - 1, 1)
    assert len(report.parts) > 10
    (rejected,) = report.rejects.to_dict("records")
    assert rejected["reject_row"] == 700
    assert rejected["reject_problem"] == "line 1,402 has 3 fields, and not 2"
    found = await fetch(postgres, "SELECT count(*), count(DISTINCT id), min(note), max(note) FROM orders")
    assert found == [(ROWS - 1, ROWS - 1, *["a note\nof two lines"] * 2)]


async def test_a_file_whose_texts_its_number_would_not_give_back_is_refused(
    postgres: AsyncEngine, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,code\n1,7\n2,8\n")
    (tmp_path / "b.csv").write_text("id,code\n3,007\n")
    refused = "partition 2 of 2: row 0, column 'code': '007' does not fit bigint"
    with pytest.raises(dl.ValidationError, match=refused) as caught:
        await dl.load_files(tmp_path, "orders", engine=postgres, client=client, progress="none")
    assert str(caught.value.resume_call).startswith("await load_files(")


async def test_what_the_workers_cannot_do_is_refused_before_anything_is_sent(
    postgres: AsyncEngine, client: Client, tmp_path: Path
) -> None:
    refused: list[tuple[Any, str]] = [
        (load("sqlite:///:memory:"), "cannot reach a database in this process's memory"),
        (load(create_async_engine(postgres.url)), "which connect[(][)] has not made"),
        (load(postgres, client=7), "client= must be a distributed.Client, got int"),
        (load(postgres, {"id": [1]}, client=client), "client= is for Dask DataFrames"),
        (load(postgres, if_exists="replace"), "shard= and if_exists='replace' exclude each other"),
        (dl.plan_load(partitions(), "orders", engine=postgres), "load_dataframe loads it"),
        (dl.update_rows(partitions(), "orders", key="id", engine=postgres), "load_dataframe loads it"),
    ]
    for call, match in refused:
        with pytest.raises(dl.PlanError, match=match):
            await call
    (tmp_path / "a.csv").write_text("id\n1\n")
    with (tmp_path / "a.csv").open("rb") as opened:
        with pytest.raises(dl.PlanError, match="cannot read what is open in this process"):
            await dl.load_files(opened, "orders", engine=postgres, client=client, progress="none")
    assert await fetch(postgres, "SELECT to_regclass('orders')") == [(None,)]


async def test_a_password_reaches_the_workers_and_is_shown_nowhere(
    client: Client, guarded_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = f"postgresql://kim:wr0ng-s3cret@127.0.0.1:{guarded_port}/postgres"
    with pytest.raises(dl.ConnectionFailed) as caught:
        await load(wrong)
    shown = [repr(caught.value), str(caught.value)]
    url = sa.URL.create("postgresql", "kim", PLANTED, "127.0.0.1", guarded_port, "postgres")
    sound = partitions()
    data = sound.map_partitions(lambda frame: frame.assign(id="x"), meta=sound._meta)
    with pytest.raises(dl.DataLoaderError) as refused:
        await load(url, data, table="guarded_orders")
    shown += [str(refused.value), str(client.get_worker_logs()), str(client.cluster.get_logs()), *capfd.readouterr()]
    assert not [text for text in shown if "s3cret" in text]


async def test_a_table_that_is_read_by_a_cluster_is_loaded_by_it(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dl.load_dataframe(FRAME, "orders", engine=postgres, primary_key="id", progress="none")
    monkeypatch.setattr(dask_reading, "PART_BYTES", 2_000)
    found = await dl.read_dataframe("orders", engine=postgres, as_="dask")
    report = await load(postgres, found[found["id"] >= 100], table="copies")
    assert (report.loaded, len(report.parts)) == (ROWS - 100, found.npartitions)
    missing = await fetch(postgres, "SELECT id FROM orders EXCEPT SELECT id FROM copies")
    assert sorted(missing) == [(number,) for number in range(100)]


async def test_without_a_cluster_the_error_says_how_to_start_one(postgres: AsyncEngine, client: Client) -> None:
    client.close()
    with pytest.raises(dl.PlanError, match=r"there is no cluster.*Client\(\)"):
        await load(postgres)


def test_without_the_extra_the_error_names_it() -> None:
    code = """
        import asyncio, sys
        import dataloader as dl
        assert not {"dask", "distributed", "ray"} & set(sys.modules)
        sys.modules["distributed"] = None
        kind = type("DataFrame", (), {"__module__": "dask.dataframe.core"})
        try:
            asyncio.run(dl.load_dataframe(kind(), "orders", engine="sqlite:///:memory:"))
        except dl.PlanError as error:
            print(error)
        """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == (
        'a cluster needs distributed, which is not installed. Install it: pip install "notebook-dataloader[dask]".'
    )


async def test_the_examples_in_the_docs_do_what_they_say(
    postgres_url: sa.URL,
    postgres: AsyncEngine,
    client: Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = Path(__file__).parents[2] / "docs" / "scaling.md"
    loading, reading = (one for one in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "dask" in one)
    for number in range(4):
        rows = range(250 * number, 250 * (number + 1))
        data = pa.table({"id": list(rows), "pieces": [row % 5 for row in rows]})
        pa.parquet.write_table(data, tmp_path / f"{number}.parquet")
    engine = dl.connect(postgres_url)
    names: dict[str, Any] = {}
    exec(loading, names)
    exec(reading, names)
    await names["load"](str(tmp_path), client)
    counted = await asyncio.to_thread((await names["per_pieces"]()).compute)
    await engine.dispose()
    assert sorted(counted) == [200] * 5
    assert capsys.readouterr().out.startswith("600 rows loaded from Dask DataFrame (4 partitions) into")
    counts = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM all_orders)"
    assert await fetch(postgres, counts) == [(600, 1_000)]
