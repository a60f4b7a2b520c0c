"""A load is one transaction: all of it or nothing, whoever reads, alters, fails or cancels meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.conversion.converter import Converter
from dataloader.database import catalog
from dataloader.database.backends import backend_for
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch

load_batches = functools.partial(dl.load_batches, commit="load")
OLD = [(100, "old"), (101, "old")]


def transaction(connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
    return backend_for(connection.dialect).transaction(connection)


def batches(count: int = 4, rows: int = 50) -> Iterator[pa.RecordBatch]:
    for start in range(0, count * rows, rows):
        yield pa.record_batch({"id": pa.array(range(1000 + start, 1000 + start + rows)), "v": ["new"] * rows})


def that_breaks() -> Iterator[pa.RecordBatch]:
    yield from batches()
    raise RuntimeError("the source broke")


def that_repeats_a_key() -> Iterator[pa.RecordBatch]:
    yield from batches()
    yield pa.record_batch({"id": [1000], "v": ["again"]})


def that_has_a_bad_value() -> Iterator[pa.RecordBatch]:
    yield from batches()
    yield pa.record_batch({"id": [2**40], "v": ["too big"]})


def that_changes_its_type() -> Iterator[pa.RecordBatch]:
    yield from batches()
    yield pa.record_batch({"id": ["x"], "v": ["no number"]})


FAILURES: dict[str, tuple[Callable[[], Iterator[pa.RecordBatch]], type[Exception]]] = {
    "the source breaks": (that_breaks, RuntimeError),
    "a key repeats": (that_repeats_a_key, dl.WriteError),
    "a value is too big": (that_has_a_bad_value, dl.DataLoaderError),
    "a batch has another type": (that_changes_its_type, dl.ValidationError),
}
MODES = ["append", "truncate", "replace"]


async def make_old(database: AsyncEngine) -> None:
    kind = "integer CHECK (id < 1000000)"
    await execute(
        database,
        f"CREATE TABLE t (id {kind} NOT NULL PRIMARY KEY, v varchar(10) DEFAULT 'x')",
        "INSERT INTO t VALUES (100, 'old'), (101, 'old')",
    )


async def rows(database: AsyncEngine) -> list[tuple[Any, ...]]:
    return await fetch(database, "SELECT CAST(id AS integer), CAST(v AS text) FROM t ORDER BY 1")


async def exists(database: AsyncEngine, table: str = "t") -> bool:
    async with database.connect() as connection:
        return bool(await connection.run_sync(lambda sync: sa.inspect(sync).has_table(table)))


def checked_out(database: AsyncEngine) -> int:
    return int(database.sync_engine.pool.checkedout())  # type: ignore[attr-defined]


@pytest.mark.parametrize("if_exists", ["append", "truncate"])
@pytest.mark.parametrize(("source", "error"), FAILURES.values(), ids=FAILURES)
async def test_an_error_in_the_last_chunk_leaves_the_old_rows(
    database: AsyncEngine, source: Any, error: type[Exception], if_exists: Any
) -> None:
    await make_old(database)
    with pytest.raises(error) as caught:
        await load_batches(source(), "t", engine=database, if_exists=if_exists, chunk_rows=50)
    assert await rows(database) == OLD
    assert checked_out(database) == 0
    if isinstance(caught.value, dl.DataLoaderError):
        assert "Nothing was written" in str(caught.value)


@pytest.mark.parametrize("source", [that_breaks, that_changes_its_type])
async def test_an_error_while_a_table_is_replaced_leaves_the_old_table(database: AsyncEngine, source: Any) -> None:
    await make_old(database)
    with pytest.raises((RuntimeError, dl.ValidationError)):
        await load_batches(source(), "t", engine=database, if_exists="replace", chunk_rows=50)
    assert await rows(database) == OLD
    await execute(database, "INSERT INTO t (id) VALUES (102)")
    assert (await rows(database))[-1] == (102, "x")
    with pytest.raises(sa.exc.IntegrityError):
        await execute(database, "INSERT INTO t (id) VALUES (102)")


@pytest.mark.parametrize("if_exists", ["append", "fail", "truncate", "replace"])
@pytest.mark.parametrize("source", [that_breaks, that_changes_its_type])
async def test_an_error_leaves_no_created_table(database: AsyncEngine, source: Any, if_exists: Any) -> None:
    with pytest.raises((RuntimeError, dl.ValidationError)):
        await load_batches(source(), "t", engine=database, if_exists=if_exists, chunk_rows=50)
    assert not await exists(database)


@pytest.mark.parametrize(("if_exists", "left"), [("append", 202), ("truncate", 200), ("replace", 200)])
async def test_the_rows_are_there_after_each_way_to_treat_a_table(
    database: AsyncEngine, if_exists: Any, left: int
) -> None:
    await make_old(database)
    report = await load_batches(batches(), "t", engine=database, if_exists=if_exists, chunk_rows=70)
    assert (report.loaded, report.chunks) == (200, 3)
    assert await fetch(database, "SELECT count(*), count(DISTINCT id) FROM t") == [(left, left)]


async def test_fail_refuses_a_table_that_exists(database: AsyncEngine) -> None:
    await make_old(database)
    with pytest.raises(dl.PlanError, match="exists already"):
        await load_batches(batches(), "t", engine=database, if_exists="fail")
    assert await rows(database) == OLD


async def test_replace_takes_the_new_columns(database: AsyncEngine) -> None:
    await make_old(database)
    await dl.load_dataframe({"other": ["x"]}, "t", engine=database, if_exists="replace")
    assert await fetch(database, "SELECT * FROM t") == [("x",)]


@pytest.mark.parametrize("if_exists", MODES)
async def test_a_reader_sees_the_old_rows_or_the_new_ones(database: AsyncEngine, if_exists: Any) -> None:
    await make_old(database)
    second_chunk, go_on = asyncio.Event(), asyncio.Event()

    async def paused() -> AsyncIterator[pa.RecordBatch]:
        for number, batch in enumerate(batches()):
            if number == 3:
                second_chunk.set()
                await go_on.wait()
            yield batch

    reader = open_engine(database.url)
    loading = asyncio.create_task(load_batches(paused(), "t", engine=database, if_exists=if_exists, chunk_rows=50))
    await second_chunk.wait()
    await asyncio.sleep(0.05)
    reading = asyncio.create_task(fetch(reader, "SELECT count(*) FROM t"))
    await asyncio.wait({reading}, timeout=0.2)
    early = reading.result() if reading.done() else None
    go_on.set()
    await loading
    new = 202 if if_exists == "append" else 200
    assert early in ([(2,)], None)
    assert await reading in ([(2,)], [(new,)])
    if if_exists == "append" or database.dialect.name == "sqlite":
        assert early == [(2,)], "the reader had to wait"
    assert await fetch(reader, "SELECT count(*) FROM t") == [(new,)]
    await reader.dispose()


@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
@pytest.mark.parametrize(("level", "seen"), [("READ COMMITTED", 200), ("REPEATABLE READ", 0), ("SERIALIZABLE", 0)])
async def test_an_older_snapshot_of_postgresql_finds_the_table_empty_as_the_docs_say(
    postgres: AsyncEngine, level: str, seen: int, if_exists: Any
) -> None:
    await make_old(postgres)
    async with postgres.connect() as reader:
        await reader.execution_options(isolation_level=level)
        await reader.execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))
        await load_batches(batches(), "t", engine=postgres, if_exists=if_exists)
        assert (await reader.execute(sa.text("SELECT count(*) FROM t"))).scalar_one() == seen
    plan = await dl.plan_load({"id": [1]}, "t", engine=postgres, if_exists=if_exists)
    assert "finds it empty" in str(plan)


async def slow_batches(count: int) -> AsyncIterator[pa.RecordBatch]:
    for batch in batches(count):
        await asyncio.sleep(0.001)
        yield batch


@pytest.mark.parametrize("if_exists", MODES)
@pytest.mark.parametrize("method", ["auto", "insert"])
async def test_a_load_that_is_cancelled_at_any_moment_leaves_nothing(
    database: AsyncEngine, if_exists: Any, method: Any
) -> None:
    await make_old(database)
    moments = random.Random(7)
    cancelled = 0
    for _ in range(8):
        loading = asyncio.create_task(
            load_batches(slow_batches(20), "t", engine=database, if_exists=if_exists, method=method, chunk_rows=50)
        )
        await asyncio.sleep(moments.uniform(0, 0.08))
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
        if loading.cancelled():
            cancelled += 1
            assert await rows(database) == OLD
        else:
            await execute(database, "DROP TABLE t")
            await make_old(database)
        assert checked_out(database) == 0
    assert cancelled
    await load_batches(batches(), "t", engine=database, if_exists=if_exists, method=method)
    assert len(await rows(database)) in {200, 202}


async def test_a_load_that_runs_out_of_time_leaves_nothing(database: AsyncEngine) -> None:
    for seconds in (0, 0.01, 0.03, 0.1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await load_batches(slow_batches(10_000), "t", engine=database, chunk_rows=50)
        assert not await exists(database)
        assert checked_out(database) == 0
    await load_batches(batches(), "t", engine=database)
    assert len(await rows(database)) == 200


async def test_a_cancelled_load_stops_while_it_waits_for_a_lock(database: AsyncEngine) -> None:
    """And its engine can be disposed of afterwards."""
    await make_old(database)
    holder = open_engine(database.url)
    async with holder.connect() as connection, transaction(connection):
        await connection.execute(sa.text("DELETE FROM t WHERE id = 100"))
        if database.dialect.name == "postgresql":
            await connection.execute(sa.text("LOCK TABLE t"))
        loading = asyncio.create_task(load_batches(batches(), "t", engine=database))
        await asyncio.sleep(0.2)
        loading.cancel()
        started = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert asyncio.get_running_loop().time() - started < 3
    assert checked_out(database) == 0
    assert await rows(database) == OLD[1:]
    await load_batches(batches(), "t", engine=database)
    assert len(await rows(database)) == 201
    await holder.dispose()
    await asyncio.wait_for(database.dispose(), 5)


ALTERATIONS = {
    "a column is dropped": ("ALTER TABLE t DROP COLUMN v",) * 2,
    "a column is renamed": ("ALTER TABLE t RENAME COLUMN v TO w",) * 2,
    "the table is dropped": ("DROP TABLE t",) * 2,
    "the table is another one": ("ALTER TABLE t RENAME TO s", "ALTER TABLE t RENAME TO s"),
}


@pytest.mark.parametrize("statements", ALTERATIONS.values(), ids=ALTERATIONS)
async def test_a_table_that_is_altered_after_the_plan_is_refused(
    database: AsyncEngine, statements: tuple[str, str | None]
) -> None:
    await execute(database, "CREATE TABLE t (id integer, v varchar(10))")
    alter = dict(zip(("postgresql", "sqlite"), statements, strict=True))[database.dialect.name]
    plan = await dl.plan_load({"id": [1], "v": ["x"]}, "t", engine=database)
    await execute(database, alter)
    with pytest.raises((dl.SchemaMismatch, sa.exc.DBAPIError), match=r"(?i)plan|exist"):
        async with database.connect() as connection, transaction(connection):
            await catalog.prepare(connection, plan.table, plan.statements)


async def test_a_table_that_another_session_is_altering_is_waited_for_and_refused(database: AsyncEngine) -> None:
    """The plan reads the committed definition; the load's lock waits for the change, and then looks again."""
    await execute(database, "CREATE TABLE t (id integer, v varchar(10))")
    other = open_engine(database.url)
    async with other.connect() as connection, transaction(connection):
        await connection.execute(sa.text("ALTER TABLE t RENAME COLUMN v TO w"))
        loading = asyncio.create_task(dl.load_dataframe({"id": [1], "v": ["x"]}, "t", engine=database))
        await asyncio.sleep(0.3)
        assert not loading.done()
    with pytest.raises(dl.SchemaMismatch, match="not as planned: v was"):
        await loading
    assert await fetch(database, "SELECT * FROM t") == []
    await other.dispose()


@pytest.mark.parametrize(
    "alter", ["ALTER TABLE t ALTER COLUMN v TYPE varchar(2)", "ALTER TABLE t ADD COLUMN w integer NOT NULL"]
)
async def test_a_postgresql_table_whose_columns_changed_after_the_plan_is_refused(
    postgres: AsyncEngine, alter: str
) -> None:
    await execute(postgres, "CREATE TABLE t (id integer, v varchar(10))")
    plan = await dl.plan_load({"id": [1], "v": ["x"]}, "t", engine=postgres)
    await execute(postgres, alter)
    with pytest.raises(dl.SchemaMismatch, match="not as planned"):
        async with postgres.connect() as connection, transaction(connection):
            await catalog.prepare(connection, plan.table, plan.statements)


async def test_a_new_column_that_needs_no_value_is_welcome(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer)")
    plan = await dl.plan_load({"id": [1]}, "t", engine=database)
    await execute(database, "ALTER TABLE t ADD COLUMN w integer NOT NULL DEFAULT 1")
    async with database.connect() as connection, transaction(connection):
        assert len((await catalog.prepare(connection, plan.table, plan.statements)).columns) == 2


async def test_a_query_that_ran_before_a_replace_runs_after_it(database: AsyncEngine) -> None:
    for value in (1, "x", 0.5):
        await dl.load_dataframe({"v": [value]}, "t", engine=database, if_exists="replace")
        assert await fetch(database, "SELECT v FROM t") == [(value,)]


async def test_a_column_that_became_narrower_meanwhile_is_refused(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint)")
    async with postgres.begin() as connection:
        await connection.execute(sa.text("ALTER TABLE t ALTER COLUMN id TYPE double precision"))
        loading = asyncio.create_task(dl.load_dataframe({"id": [1]}, "t", engine=postgres))
        await asyncio.sleep(0.3)
    with pytest.raises(dl.SchemaMismatch, match="id was"):
        await loading
    assert await fetch(postgres, "SELECT * FROM t") == []


async def test_two_loads_that_create_one_table_do_not_mix(database: AsyncEngine) -> None:
    loads = [
        load_batches(slow_batches(4), "t", engine=database, if_exists=if_exists, chunk_rows=50)
        for if_exists in ("append", "append", "fail")
    ]
    outcomes = await asyncio.gather(*loads, return_exceptions=True)
    loaded = [one for one in outcomes if isinstance(one, dl.LoadReport)]
    refused = [one for one in outcomes if isinstance(one, dl.DataLoaderError)]
    assert len(loaded) + len(refused) == 3
    assert loaded
    assert len(await rows(database)) == 200 * len(loaded)


async def test_loads_at_once_into_one_table_all_arrive(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id integer, v varchar(10))")
    await asyncio.gather(*(load_batches(batches(), "t", engine=database, chunk_rows=50) for _ in range(4)))
    assert await fetch(database, "SELECT count(*), count(DISTINCT id) FROM t") == [(800, 200)]


@pytest.fixture(params=["asyncpg", "aiosqlite", "psycopg"])
def plain_url(request: pytest.FixtureRequest) -> sa.URL:
    """A URL for an engine that a user makes without our settings."""
    if request.param == "aiosqlite":
        return sa.make_url(f"sqlite+aiosqlite:///{request.getfixturevalue('tmp_path') / 'plain.db'}")
    url: sa.URL = request.getfixturevalue("postgres_url")
    return url.set(drivername=f"postgresql+{request.param}")


@pytest.fixture
async def plain(plain_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """An engine as its user makes it: no recipe, no settings."""
    engine = create_async_engine(plain_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def autocommit(plain_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """An engine that commits every statement."""
    engine = create_async_engine(plain_url, isolation_level="AUTOCOMMIT")
    yield engine
    await engine.dispose()


async def test_a_load_through_a_plain_engine_arrives(plain: AsyncEngine) -> None:
    report = await load_batches(batches(), "t", engine=plain, chunk_rows=50)
    assert report.loaded == 200
    assert report.method == ("copy" if plain.dialect.driver == "asyncpg" else "insert")
    assert len(await rows(plain)) == 200


@pytest.mark.parametrize("if_exists", MODES)
@pytest.mark.parametrize(("source", "error"), FAILURES.values(), ids=FAILURES)
async def test_an_error_through_a_plain_engine_leaves_the_old_rows(
    plain: AsyncEngine, source: Any, error: type[Exception], if_exists: Any
) -> None:
    await make_old(plain)
    if if_exists == "replace" and error is not RuntimeError:
        source, error = that_changes_its_type, dl.ValidationError
    with pytest.raises(error):
        await load_batches(source(), "t", engine=plain, if_exists=if_exists, chunk_rows=50)
    assert await rows(plain) == OLD
    assert checked_out(plain) == 0


async def test_an_error_through_a_plain_engine_leaves_no_created_table(plain: AsyncEngine) -> None:
    with pytest.raises(RuntimeError):
        await load_batches(that_breaks(), "t", engine=plain, chunk_rows=50)
    assert not await exists(plain)


async def test_a_cancelled_load_through_a_plain_engine_leaves_nothing(plain: AsyncEngine) -> None:
    await make_old(plain)
    for seconds in (0.01, 0.03, 0.06):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await load_batches(slow_batches(10_000), "t", engine=plain, chunk_rows=50)
        assert await rows(plain) == OLD
        assert checked_out(plain) == 0


async def test_the_users_own_transactions_still_roll_back_after_a_load(plain: AsyncEngine) -> None:
    await load_batches(batches(1, 1), "t", engine=plain)
    async with plain.connect() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (1, 'mine')"))
        await connection.rollback()
    assert await rows(plain) == [(1000, "new")]


async def test_our_engines_own_transactions_roll_back_after_a_load(database: AsyncEngine) -> None:
    await load_batches(batches(1, 1), "t", engine=database)
    async with database.connect() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (1, 'mine')"))
        await connection.rollback()
    assert await rows(database) == [(1000, "new")]


async def test_an_engine_that_commits_every_statement_cannot_leave_half_a_load(autocommit: AsyncEngine) -> None:
    await make_old(autocommit)
    with pytest.raises((RuntimeError, dl.LoadError)):
        await load_batches(that_breaks(), "t", engine=autocommit, if_exists="truncate", chunk_rows=50)
    assert await rows(autocommit) == OLD


@pytest.mark.parametrize("plain_url", ["psycopg"], indirect=True)
async def test_an_autocommit_engine_is_refused_with_what_to_do(autocommit: AsyncEngine) -> None:
    with pytest.raises(dl.LoadError, match="without isolation_level='AUTOCOMMIT'"):
        await load_batches(batches(), "t", engine=autocommit)
    assert not await exists(autocommit)


async def test_a_serializable_engine_loads(postgres_url: sa.URL) -> None:
    engine = create_async_engine(postgres_url, isolation_level="SERIALIZABLE")
    assert (await load_batches(batches(), "t", engine=engine)).loaded == 200
    assert len(await rows(engine)) == 200
    await engine.dispose()


async def test_a_deferred_constraint_that_fails_at_the_commit_leaves_nothing(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED, v text)")
    with pytest.raises(dl.WriteError, match=r"(?i)duplicate key"):
        await load_batches(that_repeats_a_key(), "t", engine=postgres, chunk_rows=50)
    assert await rows(postgres) == []
    assert checked_out(postgres) == 0


async def test_a_table_that_others_refer_to_is_not_made_anew(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint, other text)", "INSERT INTO t VALUES (1, 'old')")
    await execute(postgres, "CREATE VIEW v AS SELECT id FROM t")
    with pytest.raises(dl.WriteError, match=r"if_exists='truncate'"):
        await load_batches(batches(), "t", engine=postgres, if_exists="replace")
    assert await fetch(postgres, "SELECT * FROM t") == [(1, "old")]


async def test_a_savepoint_in_sqlite_rolls_back_with_the_load(sqlite: AsyncEngine) -> None:
    async with sqlite.connect() as connection, transaction(connection):
        await connection.execute(sa.text("CREATE TABLE t (id integer)"))
        async with connection.begin_nested():
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        await connection.rollback()
    assert not await exists(sqlite)


@pytest.mark.slow
async def test_many_connections_may_make_a_new_file_together(tmp_path: Path) -> None:
    """SQLite makes it WAL for one of them and tells the others at once that it is locked, whatever they would wait."""

    async def mode_of(url: sa.URL) -> str:
        engine = open_engine(url)
        async with engine.connect() as connection, transaction(connection):
            mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one()
        await engine.dispose()
        return str(mode)

    for number in range(40):
        url = sa.make_url(f"sqlite+aiosqlite:///{tmp_path}/{number}.db")
        assert await asyncio.gather(*(mode_of(url) for _ in range(6))) == ["wal"] * 6


@pytest.mark.parametrize(("mode", "commit"), [("append", "load"), ("truncate", "load"), ("append", "chunk")])
async def test_all_values_of_a_source_in_memory_that_do_not_fit_are_counted(
    database: AsyncEngine, mode: Any, commit: Any
) -> None:
    """The first chunk has one of them, and a later one the others."""
    await execute(database, "CREATE TABLE t (id int NOT NULL)", "INSERT INTO t VALUES (7)")
    data = pa.table({"id": [0, None, *range(2, 1_000), *[None] * 30]})
    with pytest.raises(dl.ValidationError, match="31") as caught:
        await dl.load_dataframe(data, "t", engine=database, if_exists=mode, commit=commit, chunk_rows=100)
    assert len(caught.value.violations) == 10
    assert await fetch(database, "SELECT id FROM t") == [(7,)]


async def test_a_source_in_memory_that_fits_is_read_once(
    database: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = 0
    convert = Converter.__call__

    def counting(self: Converter, batch: pa.RecordBatch, first_row: int) -> Any:
        nonlocal converted
        converted += batch.num_rows
        return convert(self, batch, first_row)

    monkeypatch.setattr(Converter, "__call__", counting)
    await execute(database, "CREATE TABLE t (id int NOT NULL)")
    await dl.load_dataframe(
        pa.table({"id": [str(number) for number in range(1_000)]}), "t", engine=database, chunk_rows=100
    )
    assert converted == 1_000


async def test_what_repeats_for_every_chunk_is_prepared_once(postgres: AsyncEngine) -> None:
    """A statement without a name is parsed and planned each time: a millisecond for every chunk."""
    await execute(
        postgres,
        "CREATE TABLE orders (id bigint)",
        "CREATE TABLE known (name text, used bigint)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO known SELECT name, generic_plans + custom_plans FROM pg_prepared_statements"
        " WHERE statement LIKE '%dataloader_chunks%'; RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT ON orders EXECUTE FUNCTION note()",
    )
    rows = [{"id": number} for number in range(30)]
    await dl.load_rows(rows, "orders", engine=postgres, commit="chunk", chunk_rows=10, workers=1)
    assert await fetch(postgres, "SELECT count(DISTINCT name), array_agg(used ORDER BY used) FROM known") == [
        (1, [1, 2, 3])
    ]
