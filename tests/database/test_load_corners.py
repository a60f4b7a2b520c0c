"""What few loads meet: keys that only the database compares, chunks that no load has entered, short streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch
from tests.database.test_ledger import ROWS, batches, interrupted, load, numbers, tables

pytestmark = [pytest.mark.any_version, pytest.mark.usefixtures("long_sources")]

ENDING = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"""


def short_stream() -> Any:
    return iter([pa.record_batch({"id": [0, 1]})])


async def test_a_stream_that_ends_before_an_unfinished_one_s_first_chunk_is_not_that_one(database: AsyncEngine) -> None:
    await interrupted(database, commit="chunk")
    with pytest.raises(dl.SourceChanged, match="its first rows are not those of the unfinished load"):
        await load(database, source=short_stream(), commit="chunk", resume=True)
    assert await numbers(database) == list(range(30))


async def test_a_stream_that_ends_before_a_finished_one_s_first_chunk_is_loaded(database: AsyncEngine) -> None:
    await load(database, commit="chunk")
    report = await load(database, source=short_stream(), commit="chunk", resume=True)
    assert (report.loaded, report.already_loaded) == (2, 0)
    assert await numbers(database) == sorted([*range(ROWS), 0, 1])


async def test_a_chunk_in_the_ledger_that_no_load_has_entered_is_not_loaded_over(database: AsyncEngine) -> None:
    given: dict[str, Any] = {"engine": database, "load_id": "May", "commit": "load"}
    await dl.load_dataframe({"id": [1, 2]}, "orders", **given)
    await execute(database, "DELETE FROM dataloader_loads")
    with pytest.raises(dl.CheckpointError, match="it has chunk 0 of a load that it does not know") as caught:
        await dl.load_dataframe({"id": [1, 2]}, "orders", **given)
    assert caught.value.committed_rows == 0
    assert await numbers(database) == [1, 2]


async def test_a_named_load_that_loses_its_connection_before_the_commit_has_written_nothing(
    postgres: AsyncEngine,
) -> None:
    """Nothing is in doubt, so that no call is named that would find it out."""

    async def rows() -> AsyncIterator[pa.RecordBatch]:
        for number, batch in enumerate(batches()):
            if number == 3:
                assert await fetch(postgres, ENDING) == [(True,)]
            yield batch

    await execute(postgres, "CREATE TABLE orders (id bigint)")
    engine = open_engine(postgres.url)
    with pytest.raises(dl.ConnectionLost, match=r"Nothing was written\. Load again when the server answers") as caught:
        await load(engine, source=rows(), load_id="May", commit="load")
    assert (caught.value.committed_rows, caught.value.resume_call) == (0, None)
    assert await numbers(postgres) == []
    assert (await load(engine, load_id="May", commit="load")).loaded == ROWS
    await engine.dispose()


SLOW = (
    "CREATE TABLE t (v integer)",
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(9); RETURN NEW; END$$",
    "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()",
)


@pytest.fixture
async def hasty(postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine whose driver waits a tenth of a second for each statement."""
    engine = create_async_engine(postgres.url, connect_args={"command_timeout": 0.1})
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_a_statement_that_the_driver_has_no_time_for_is_no_server_that_cannot_be_reached(
    postgres: AsyncEngine, hasty: AsyncEngine, method: Any
) -> None:
    await execute(postgres, *SLOW)
    with pytest.raises(dl.ConnectionLost, match="did not answer within the driver's command_timeout") as caught:
        await dl.load_dataframe({"v": [1]}, "t", engine=hasty, method=method)
    assert type(caught.value) is dl.ConnectionLost
    assert "Nothing was written. Raise command_timeout" in str(caught.value)
    assert await fetch(postgres, "SELECT v FROM t") == []


@pytest.mark.parametrize("on_invalid", ["raise", "reject"])
async def test_two_rows_with_a_key_that_only_the_database_finds_equal_are_both_named(
    database: AsyncEngine, on_invalid: Any
) -> None:
    if database.dialect.name == "postgresql":
        await execute(database, "CREATE EXTENSION citext", "CREATE TABLE t (k citext PRIMARY KEY, v integer)")
    else:
        await execute(database, "CREATE TABLE t (k text COLLATE NOCASE PRIMARY KEY, v integer)")
    data = {"k": ["Ann", "bob", "ann"], "v": [1, 2, 3]}
    with pytest.raises(dl.ValidationError, match=r"row 2, column 'k': ann .*: row 0 has the same key"):
        await dl.load_dataframe(data, "t", engine=database, on_conflict="update", on_invalid=on_invalid)
    assert await fetch(database, "SELECT k FROM t") == []


async def test_a_table_that_a_trigger_keeps_from_having_the_source_s_rows_is_not_synchronized(
    postgres: AsyncEngine,
) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id integer PRIMARY KEY, v integer)",
        "INSERT INTO t VALUES (1, 1)",
        "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
        "CREATE TRIGGER drops BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION drops()",
    )
    with pytest.raises(dl.PlanError, match=r"a trigger drops or keeps 1 row of public\.t") as caught:
        await dl.sync_table({"id": [1, 2, 3], "v": [1, 2, 3]}, "t", engine=postgres)
    assert "Nothing was written. Disable the trigger" in str(caught.value)
    assert await fetch(postgres, "SELECT id FROM t") == [(1,)]


async def test_a_shard_finds_that_its_table_is_gone_and_makes_no_new_one(database: AsyncEngine) -> None:
    given: dict[str, Any] = {"engine": database, "load_id": "june", "progress": "none"}
    await dl.load_batches(batches(), "orders", shard=(1, 2), **given)
    await execute(database, "DROP TABLE orders")
    with pytest.raises(dl.CheckpointError, match="orders is no longer as the load 'june' has begun with"):
        await dl.load_batches(batches(start=100), "orders", shard=(2, 2), **given)
    assert "orders" not in await tables(database)


@pytest.mark.parametrize("unique", [["w"], "v", []])
async def test_unique_keys_are_columns_of_the_source(database: AsyncEngine, unique: Any) -> None:
    await execute(database, "CREATE TABLE t (v integer)")
    with pytest.raises(dl.PlanError, match=r"does not name columns of the source.*some of the source's columns: v"):
        await dl.validate({"v": [1]}, "t", engine=database, unique=unique)


async def test_a_source_without_rows_repeats_no_key(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (v integer)")
    report = await dl.validate(pa.table({"v": pa.array([], pa.int64())}), "t", engine=database, unique=["v"])
    assert (report.read, len(report.violations)) == (0, 0)


async def test_a_process_forgets_the_oldest_of_very_many_loads(
    database: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataloader.loading.reruns.REMEMBERED", 2)
    await execute(database, "CREATE TABLE t (v integer)")
    for value in (1, 2, 3):
        await dl.load_dataframe({"v": [value]}, "t", engine=database)
    again = [await dl.load_dataframe({"v": [value]}, "t", engine=database) for value in (3, 1)]
    assert ["loaded into" in str(report.warnings) for report in again] == [True, False]
