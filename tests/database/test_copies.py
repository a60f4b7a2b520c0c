"""Tables and queries that are copied from any database into any other."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.copying import pipe
from dataloader.copying.pipe import REASON
from dataloader.database import embedded, locks
from dataloader.database.backends import cursor_reading
from dataloader.database.engine import open_engine
from dataloader.database.watchdog import Watchdog
from dataloader.loading import pipeline
from tests.conftest import execute, fetch, new_database

TABLE = (
    "CREATE TYPE mood AS ENUM ('sad', 'it''s fine')",
    "CREATE TABLE people (id bigint PRIMARY KEY, mood mood, name varchar(20) NOT NULL, paid numeric(10,2), "
    "any_size numeric, born date, seen timestamptz, tags text[], document jsonb, number uuid, span interval, "
    "raw bytea)",
    "INSERT INTO people VALUES (1, 'it''s fine', 'Åsa', 1.10, 1.100, '-infinity', '4000-01-01 BC', '{a,NULL,\"\"}', "
    "'{\"a\": [1.10]}', '00000000-0000-0000-0000-000000000001', '1 year -1 second', '\\x00ff'), "
    "(2, NULL, '', NULL, 'NaN', NULL, 'infinity', NULL, NULL, NULL, NULL, '')",
)
"""With values that have no place in Arrow."""
ACTIVE = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%COPY%' AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def other(server: embedded.Server, admin: psycopg.Connection) -> AsyncIterator[AsyncEngine]:
    """An engine for another new, empty PostgreSQL database."""
    with new_database(server, admin) as url:
        engine = open_engine(url)
        yield engine
        await engine.dispose()


async def types_of(engine: AsyncEngine, table: str) -> list[tuple[Any, ...]]:
    query = "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = "
    return await fetch(engine, f"{query}'{table}'::regclass AND attnum > 0 ORDER BY attnum")


async def test_bytes_pass_between_two_servers_where_every_value_stays_even_those_without_a_place_in_arrow(
    postgres: AsyncEngine, other: AsyncEngine
) -> None:
    for statement in TABLE:
        async with postgres.begin() as connection:
            await connection.exec_driver_sql(statement)
    report = await dl.copy_table("people", "people", source=postgres, engine=other)
    assert (report.read, report.loaded, report.reason, report.created) == (2, 2, REASON, True)
    assert await types_of(other, "people") == await types_of(postgres, "people")
    text = "SELECT CAST(p AS text) FROM people p ORDER BY id"
    assert await fetch(other, text) == await fetch(postgres, text)
    with pytest.raises(dl.WriteError, match="people_pkey"):  # the primary key came along
        await dl.copy_table("people", "people", source=postgres, engine=other)
    assert len(await fetch(other, text)) == 2


async def test_a_query_is_copied_with_its_parameters_and_its_columns_under_new_names(
    postgres: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(
        postgres, "CREATE TABLE t AS SELECT g AS id, g * 2 AS twice, 'x' AS rest FROM generate_series(1, 9) g"
    )
    query = "SELECT * FROM t WHERE id > :least"
    names = {"twice": "double", "id": "number"}
    report = await dl.copy_table(query, "copy", {"least": 7}, source=postgres, engine=other, columns=names)
    assert report.reason == REASON
    assert await fetch(other, "SELECT double, number FROM copy ORDER BY 1") == [(16, 8), (18, 9)]


async def test_columns_of_other_types_are_checked_and_a_value_that_does_not_fit_is_named(
    postgres: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(
        postgres, "CREATE TABLE t AS SELECT CAST(g AS bigint) * 1000000000 AS id FROM generate_series(1, 3) g"
    )
    await execute(other, "CREATE TABLE t (id integer)")
    with pytest.raises(dl.ValidationError, match="row 2, column 'id': 3000000000 does not fit integer"):
        await dl.copy_table("t", "t", source=postgres, engine=other)
    assert await fetch(other, "SELECT * FROM t") == []
    report = await dl.copy_table("t", "t", source=postgres, engine=other, on_invalid="reject")
    assert (report.loaded, report.rejected) == (2, 1)


async def test_columns_with_the_same_words_for_other_limits_are_not_taken_for_equal(
    postgres: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(postgres, "CREATE TABLE t (n numeric(10,3))", "INSERT INTO t VALUES (1.125)")
    await execute(other, "CREATE TABLE t (n numeric(10,2))")
    with pytest.raises(dl.ValidationError, match=r"1\.125"):  # the server would round what it receives
        await dl.copy_table("t", "t", source=postgres, engine=other)


async def test_bytes_that_mean_something_to_their_own_server_only_are_read_and_loaded(
    postgres: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(postgres, "CREATE TABLE t AS SELECT CAST('pg_class' AS regclass) AS r, CAST(1.5 AS money) AS m")
    report = await dl.copy_table("t", "t", source=postgres, engine=other)
    assert report.reason != REASON
    assert await types_of(other, "t") == [("r", "regclass", False), ("m", "money", False)]
    assert await fetch(other, "SELECT CAST(r AS text), CAST(m AS numeric) FROM t") == [("pg_class", Decimal("1.5"))]


async def test_from_postgresql_to_sqlite_and_back_nothing_is_lost(
    postgres: AsyncEngine, sqlite: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id int PRIMARY KEY, big numeric, price numeric(10,2) NOT NULL, at timestamptz, ok boolean, "
        "number uuid, raw bytea)",
        "INSERT INTO t VALUES (1, 123456789012345678.10, 1.10, '2024-02-29 12:00:00.000001+02', true, "
        "'00000000-0000-0000-0000-000000000001', '\\x00'), (2, NULL, 0, NULL, NULL, NULL, NULL)",
    )
    report = await dl.copy_table("t", "t", source=postgres, engine=sqlite)
    assert (report.loaded, report.created) == (2, True)
    with pytest.raises(dl.WriteError, match="UNIQUE"):
        await dl.copy_table("t", "t", source=postgres, engine=sqlite)
    await dl.copy_table("t", "t", source=sqlite, engine=other)
    text = "SELECT id, CAST(big AS text), price, at, ok, number, raw FROM t ORDER BY id"
    assert await fetch(other, text) == await fetch(postgres, text)
    types = {name: (kind, required) for name, kind, required in await types_of(other, "t")}
    assert types["price"] == ("numeric(10,2)", True)
    assert types["number"] == ("uuid", False)
    assert types["at"] == ("timestamp with time zone", False)
    assert types["id"][1]


async def test_within_one_sqlite_file_all_is_read_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor_reading, "BATCH_ROWS", 4_096)  # else the last one is read before a chunk is full
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'own.db'}", connect_args={"timeout": 0.5})
    await dl.load_dataframe({"id": range(200_000), "n": range(200_000)}, "t", engine=engine, primary_key="id")
    options: dict[str, Any] = {"commit": "chunk", "chunk_rows": 30_000}  # a reader keeps others from committing
    report = await dl.copy_table("t", "copy", source=engine, engine=engine, **options)
    assert (report.loaded, report.chunks) == (200_000, 7)
    assert await fetch(engine, "SELECT count(*), sum(n) FROM copy") == [(200_000, 19_999_900_000)]
    await engine.dispose()


SAME = {
    "query": ("SELECT * FROM t WHERE id > 1", "t"),
    "view": ("v", "t"),
    "partitioned": ("parted", "part"),
    "partition": ("part", "parted"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
@pytest.mark.parametrize("what", SAME)
async def test_what_reads_the_table_that_is_emptied_is_read_before_and_waits_for_nobody(
    postgres: AsyncEngine, what: str, if_exists: Any
) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id bigint PRIMARY KEY, filler text)",
        "CREATE RULE nothing AS ON UPDATE TO t DO ALSO NOTHING",  # so that it is emptied where it stands
        "CREATE VIEW v AS SELECT * FROM t WHERE id > 1",
        "CREATE TABLE parted (id bigint, filler text) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (2) TO (1000000)",
        "INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 50000) g",
        "INSERT INTO parted SELECT * FROM t WHERE id > 1",
    )
    query, table = SAME[what]
    async with asyncio.timeout(20):
        report = await dl.copy_table(query, table, source=postgres, engine=postgres, if_exists=if_exists)
    assert report.loaded == 49_999
    assert await fetch(postgres, f"SELECT count(*), min(id) FROM {table}") == [(49_999, 2)]


async def test_a_query_of_other_tables_is_piped_into_one_that_is_emptied(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (born date)", "INSERT INTO t VALUES ('infinity')")
    await execute(postgres, "CREATE TABLE copy (born date)", "INSERT INTO copy VALUES ('2024-05-17')")
    query = "SELECT born FROM t"
    report = await dl.copy_table(query, "copy", source=postgres, engine=postgres, if_exists="truncate")
    assert (report.reason, await fetch(postgres, "SELECT CAST(born AS text) FROM copy")) == (REASON, [("infinity",)])


async def test_a_function_that_reads_the_emptied_table_is_an_error_and_no_endless_wait(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LIMIT_SECONDS", 1.0)
    await execute(
        postgres,
        "CREATE TABLE t (n bigint)",
        "INSERT INTO t VALUES (1)",
        "CREATE FUNCTION of_t() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT max(n) FROM t); END'",
    )
    query = "SELECT of_t() AS n FROM (SELECT pg_sleep(0.5) OFFSET 0) AS later"
    copying = dl.copy_table(query, "t", source=postgres, engine=postgres, if_exists="truncate")
    with pytest.raises(dl.ReadError, match="lock timeout"):
        await asyncio.wait_for(copying, 20)
    assert await fetch(postgres, "SELECT n FROM t") == [(1,)]


async def test_from_one_sqlite_file_to_another_and_within_one_in_memory(sqlite: AsyncEngine, tmp_path: Path) -> None:
    await dl.load_dataframe({"id": [1, 2], "name": ["a", None]}, "t", engine=sqlite)
    url = f"sqlite:///{tmp_path / 'second.db'}"
    assert (await dl.copy_table("t", "t", source=sqlite, engine=url)).loaded == 2
    assert (await dl.read_dataframe("t", engine=url, as_="arrow"))["name"].to_pylist() == ["a", None]
    memory = dl.connect("sqlite:///:memory:")
    await dl.copy_table("t", "t", source=url)
    assert (await dl.copy_table("t", "again", source=memory, engine=memory)).loaded == 2
    await memory.dispose()


async def test_a_table_is_not_copied_onto_itself_by_whatever_address(database: AsyncEngine, tmp_path: Path) -> None:
    engine = database
    await dl.load_dataframe({"id": [1]}, "t", engine=engine)
    url = engine.url
    if engine.dialect.name == "sqlite":
        await engine.dispose()  # or its rows would be beside the file, under its name
        (tmp_path / "link.db").hardlink_to(url.database)
        url = url.set(database=str(tmp_path / "link.db"))
    twin = create_async_engine(url)
    with pytest.raises(dl.PlanError, match="onto itself"):
        await dl.copy_table("t", sa.Table("t", sa.MetaData()), source=twin, engine=engine, if_exists="truncate")
    assert await fetch(engine, "SELECT count(*) FROM t") == [(1,)]
    await twin.dispose()


async def test_one_connection_is_enough_for_both_sides(postgres_url: sa.URL) -> None:
    engine = create_async_engine(postgres_url, pool_size=1, max_overflow=0)
    await dl.load_dataframe({"id": [1, 2]}, "t", engine=engine)
    assert (await dl.copy_table("t", "copy", source=engine, engine=engine)).loaded == 2
    await engine.dispose()


async def test_a_copy_by_chunks_is_continued_in_the_order_of_the_key_and_a_change_behind_it_is_refused(
    postgres: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id int PRIMARY KEY, n int)",
        "INSERT INTO t SELECT g, g FROM generate_series(100, 1, -1) g",
        "UPDATE t SET n = n WHERE id % 7 = 0",  # which moves rows to the end of the table
    )
    await execute(other, "CREATE TABLE t (id int PRIMARY KEY, n int CHECK (id <> 50))")
    options: dict[str, Any] = {"source": postgres, "engine": other, "chunk_rows": 10, "load_id": "t", "resume": True}
    with pytest.raises(
        dl.WriteError, match=r"await copy_table\(\.\.\., 'public\.t', load_id='t', resume=True, chunk_rows=10\)"
    ):
        await dl.copy_table("t", "t", **options, workers=1)
    assert await fetch(other, "SELECT count(*), max(id) FROM t") == [(40, 40)]
    await execute(other, "ALTER TABLE t DROP CONSTRAINT t_id_check")
    await execute(postgres, "UPDATE t SET n = -1 WHERE id = 15")
    with pytest.raises(dl.SourceChanged, match="chunk"):
        await dl.copy_table("t", "t", **options)
    await execute(postgres, "UPDATE t SET n = 15 WHERE id = 15")
    report = await dl.copy_table("t", "t", **options)
    assert (report.loaded, report.already_loaded) == (60, 40)
    assert await fetch(other, "SELECT count(*), sum(n) FROM t") == [(100, 5050)]


CHANGES = {
    "behind": (["UPDATE t SET n = 7 WHERE id > 20", "INSERT INTO t VALUES (31, 1)"], True),
    "deleted behind": (["DELETE FROM t WHERE id > 21"], True),
    "back again": (["UPDATE t SET n = 7 WHERE id = 3", "UPDATE t SET n = 3 WHERE id = 3"], True),
    "changed": (["UPDATE t SET n = 7 WHERE id = 3"], False),
    "deleted": (["DELETE FROM t WHERE id = 20"], False),
    "inserted": (["INSERT INTO t VALUES (0, 1)"], False),
}
"""Twenty rows are committed."""


@pytest.mark.parametrize(("changes", "is_continued"), CHANGES.values(), ids=CHANGES)
async def test_a_continued_copy_is_the_original_at_the_beginning_of_its_last_run(
    database: AsyncEngine, tmp_path: Path, changes: list[str], is_continued: bool
) -> None:
    target = dl.connect(f"sqlite:///{tmp_path / 'target.db'}")
    rows = {"id": [*range(1, 31)], "n": [*range(1, 31)]}
    await dl.load_dataframe(rows, "t", engine=database, primary_key="id")
    await execute(target, "CREATE TABLE t (id bigint PRIMARY KEY, n bigint CHECK (n <> 25))")
    options: dict[str, Any] = {"source": database, "engine": target, "chunk_rows": 10, "load_id": "a", "resume": True}
    options["commit"] = "chunk"
    with pytest.raises(dl.WriteError, match="20 rows are committed"):
        await dl.copy_table("t", "t", **options)
    await execute(database, "UPDATE t SET n = 26 WHERE n = 25", *changes)
    if is_continued:
        await dl.copy_table("t", "t", **options)
        content = "SELECT * FROM t ORDER BY id"
        assert await fetch(target, content) == await fetch(database, content)
    await execute(database, "INSERT INTO t VALUES (99, 99)")  # behind a finished copy, or one that is refused anyway
    with pytest.raises(dl.SourceChanged, match=r"chunk \d, (its \d+ rows|1 rows after the last one)"):
        await dl.copy_table("t", "t", **options)
    await target.dispose()


@pytest.mark.parametrize("option", [{"commit": "chunk"}, {"load_id": "a"}, {"resume": True}])
async def test_what_has_no_order_is_not_committed_by_chunks(database: AsyncEngine, option: dict[str, Any]) -> None:
    await execute(database, "CREATE TABLE t (id int)")
    for what, why in {"t": "has no primary key", "SELECT * FROM t": "query have no order"}.items():
        with pytest.raises(dl.PlanError, match=why):
            await dl.copy_table(what, "copy", source=database, engine=database, **option)


async def test_a_copy_has_no_shards(sqlite: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="not divided into shards"):  # each would copy all rows
        await dl.copy_table("t", "copy", source=sqlite, engine=sqlite, shard=(1, 2), load_id="a")


async def test_an_error_on_either_side_leaves_nothing(postgres: AsyncEngine, other: AsyncEngine) -> None:
    await execute(other, "CREATE TABLE t (n int CHECK (n < 150000))")
    query = "SELECT CAST(n AS int) AS n FROM generate_series(1, 200000) n"
    with pytest.raises(dl.WriteError, match="t_n_check"):
        await dl.copy_table(query, "t", source=postgres, engine=other)
    failing = "SELECT CAST(1000 / (90000 - n) AS int) AS n FROM (SELECT generate_series(1, 200000) AS n) AS t"
    with pytest.raises(dl.ReadError, match="division by zero"):
        await dl.copy_table(failing, "t", source=postgres, engine=other)
    with pytest.raises(dl.ReadError, match="nowhere"):
        await dl.copy_table("nowhere", "t", source=postgres, engine=other)
    assert await fetch(other, "SELECT count(*) FROM t") == [(0,)]
    await until(postgres, ACTIVE, 0)
    for engine in (postgres, other):
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_rows_that_a_trigger_drops_are_told(postgres: AsyncEngine, other: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t AS SELECT g AS n FROM generate_series(1, 10) g")
    await execute(
        other,
        "CREATE TABLE t (n int)",
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.n % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END'",
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    report = await dl.copy_table("t", "t", source=postgres, engine=other)
    assert (report.reason, report.read, report.loaded, report.skipped) == (REASON, 10, 5, 5)


async def test_truncate_keeps_the_rows_where_the_original_has_none(postgres: AsyncEngine, other: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (n int)")
    await execute(other, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    with pytest.raises(dl.PlanError, match=r"yielded no row, so public\.t keeps its rows"):
        await dl.copy_table("t", "t", source=postgres, engine=other, if_exists="truncate")
    assert await fetch(other, "SELECT * FROM t") == [(1,)]
    await execute(postgres, "INSERT INTO t VALUES (2)")
    await dl.copy_table("t", "t", source=postgres, engine=other, if_exists="truncate")
    assert await fetch(other, "SELECT * FROM t") == [(2,)]


async def test_replace_gives_the_table_the_rows_and_where_they_differ_the_columns_of_the_original(
    postgres: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(postgres, "CREATE TABLE t (n int PRIMARY KEY)", "INSERT INTO t VALUES (2)")
    await execute(
        other,
        "CREATE TABLE t (n int PRIMARY KEY)",
        "INSERT INTO t VALUES (1)",
        "CREATE VIEW v AS SELECT n FROM t",
    )
    report = await dl.copy_table("t", "t", source=postgres, engine=other, if_exists="replace")
    assert report.reason == REASON
    assert await fetch(other, "SELECT n FROM t UNION ALL SELECT n FROM v") == [(2,), (2,)]
    await execute(other, "DROP VIEW v")
    await execute(postgres, "DROP TABLE t", "CREATE TABLE t (n bigint NOT NULL)", "INSERT INTO t VALUES (5000000000)")
    await dl.copy_table("t", "t", source=postgres, engine=other, if_exists="replace")
    assert await fetch(other, "SELECT n FROM t") == [(5_000_000_000,)]
    assert await types_of(other, "t") == [("n", "bigint", True)]


@pytest.mark.parametrize(("kind", "is_piped"), [("int", True), ("bigint", False)])
async def test_a_column_that_the_table_there_computes_is_left_out(
    postgres: AsyncEngine, other: AsyncEngine, monkeypatch: pytest.MonkeyPatch, kind: str, is_piped: bool
) -> None:
    plans, decide = [], pipeline.decide

    async def decided(*arguments: Any) -> Any:
        plans.append(await decide(*arguments))
        return plans[-1]

    monkeypatch.setattr(pipeline, "decide", decided)
    computed = "CREATE TABLE t (id {} PRIMARY KEY, twice {} GENERATED ALWAYS AS (id * {}) STORED, note text)"
    await execute(postgres, computed.format("int", "int", 2), "INSERT INTO t (id, note) VALUES (1, 'a'), (2, 'b')")
    await execute(other, computed.format(kind, kind, 3))
    report = await dl.copy_table("t", "t", source=postgres, engine=other)
    assert (report.reason == REASON) == is_piped
    assert await fetch(other, "SELECT * FROM t ORDER BY id") == [(1, 3, "a"), (2, 6, "b")]
    assert "left out: 'twice', which public.t computes itself" in str(plans[0])
    await execute(other, "TRUNCATE t")
    options: dict[str, Any] = {"load_id": "a", "resume": True}
    assert (await dl.copy_table("t", "t", source=postgres, engine=other, **options)).loaded == 2
    with pytest.raises(dl.SchemaMismatch, match="twice"):  # who names it wants it
        await dl.copy_table("t", "t", source=postgres, engine=other, columns=["id", "twice"])


async def test_a_copy_that_is_read_before_it_is_written_is_one_transaction_with_a_name(sqlite: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [*range(30)]}, "t", engine=sqlite, primary_key="id")
    await execute(sqlite, "CREATE TABLE copy (id bigint CHECK (id <> 25))")
    options: dict[str, Any] = {"source": sqlite, "engine": sqlite, "chunk_rows": 10, "load_id": "a", "resume": True}
    with pytest.raises(dl.WriteError, match="Nothing was written"):
        await dl.copy_table("t", "copy", **options)
    assert await fetch(sqlite, "SELECT count(*) FROM copy") == [(0,)]
    await execute(sqlite, "DELETE FROM t WHERE id = 25")
    assert (await dl.copy_table("t", "copy", **options)).loaded == 29
    assert (await dl.copy_table("t", "copy", **options)).already_loaded == 29


async def test_a_column_that_sqlite_computes_is_left_out(sqlite: AsyncEngine, tmp_path: Path) -> None:
    computed = "CREATE TABLE t (id integer PRIMARY KEY, twice integer AS (id * 2) STORED, note text)"
    target = dl.connect(f"sqlite:///{tmp_path / 'target.db'}")
    await execute(sqlite, computed, "INSERT INTO t (id, note) VALUES (1, 'a')")
    await execute(target, computed)
    await dl.copy_table("t", "t", source=sqlite, engine=target)
    assert await fetch(target, "SELECT * FROM t") == [(1, 2, "a")]
    await target.dispose()


async def test_a_cancel_ends_both_statements(postgres: AsyncEngine, other: AsyncEngine) -> None:
    endless = "SELECT n, repeat('x', 200) AS filler FROM (SELECT generate_series(1, 100000000) AS n) AS t"
    for columns in ("n int, filler text", "n bigint, filler text"):  # piped, and read and loaded
        await execute(other, "DROP TABLE IF EXISTS t", f"CREATE TABLE t ({columns})")
        copying = asyncio.ensure_future(dl.copy_table(endless, "t", source=postgres, engine=other))
        await until(postgres, ACTIVE, 2)
        await asyncio.sleep(0.1)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(copying, 1)
        for engine in (postgres, other):
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await until(postgres, ACTIVE, 0)
        assert await fetch(other, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("columns", ["n int, filler text", "n bigint, filler text"], ids=["by bytes", "by rows"])
async def test_a_connection_that_is_terminated_on_either_side_is_an_error(
    columns: str, side: int, postgres: AsyncEngine, other: AsyncEngine
) -> None:
    await execute(other, f"CREATE TABLE t ({columns})")
    endless = "SELECT n, repeat('x', 200) AS filler FROM (SELECT generate_series(1, 100000000) AS n) AS t"
    copying = asyncio.ensure_future(dl.copy_table(endless, "t", source=postgres, engine=other))
    await until(postgres, ACTIVE, 2)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
    await fetch(
        postgres, f"{end} '{(postgres, other)[side].url.database}' AND query LIKE '%COPY%' AND pid <> pg_backend_pid()"
    )
    with pytest.raises((dl.ReadError, dl.ConnectionLost)) as caught:
        await asyncio.wait_for(copying, 3)
    assert isinstance(caught.value, dl.ReadError) == (side == 0)
    await until(postgres, ACTIVE, 0)
    assert await fetch(other, "SELECT count(*) FROM t") == [(0,)]
    for engine in (postgres, other):
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_the_command_copies_and_prints_the_report(postgres: AsyncEngine, tmp_path: Path) -> None:
    await execute(postgres, "CREATE TABLE t AS SELECT g AS n FROM generate_series(1, 10) g")
    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = ["copy", "SELECT * FROM t WHERE n > 8", "t", "--from", url, "--to", f"sqlite:///{tmp_path / 'x.db'}"]
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dataloader", *command, "--json", "--quiet", stdout=asyncio.subprocess.PIPE
    )
    said = json.loads((await ran.communicate())[0])
    assert (ran.returncode, said["status"], said["loaded"]) == (0, "done", 2)


def test_rows_of_a_binary_copy_are_counted_wherever_its_pieces_end() -> None:
    row = b"\x00\x02\x00\x00\x00\x01a\xff\xff\xff\xff"
    data = b"PGCOPY\n\xff\r\n\x00" + bytes(8) + row * 5 + b"\x00\x00" + b"\xff\xff"
    for size in range(1, len(data) + 1):
        first = pipe.FirstRows()
        assert sum(first.rows_of(data[at : at + size]) for at in range(0, len(data), size)) == 6


def test_rows_behind_the_first_ones_of_a_binary_copy_are_estimated_by_their_size() -> None:
    value = bytes(3_000_000)
    row = struct.pack("!hi", 1, len(value)) + value
    data, first = bytes(19) + row * 20, pipe.FirstRows()
    rows = [first.rows_of(memoryview(data)[at : at + (4 << 20)]) for at in range(0, len(data), 4 << 20)]
    assert sum(rows) in range(14, 27)
    assert rows[0] == 2


async def test_a_value_of_many_megabytes_is_handed_on_in_pieces_and_not_copied() -> None:
    """The loop has its turn between them."""
    passing, value = pipe.Pipe(), bytearray(50_000_000)
    putting = asyncio.ensure_future(passing.put(value))  # type: ignore[arg-type]  # as asyncpg hands it on
    await asyncio.sleep(0)
    passing.end()
    pieces = [piece async for piece in passing.pieces(Watchdog())]
    await putting
    assert sum(map(len, pieces)) == len(value)
    assert max(map(len, pieces)) <= 4 << 20
    assert all(piece.obj is value for piece in pieces if isinstance(piece, memoryview))


async def until(engine: AsyncEngine, query: str, wanted: int) -> None:
    for _ in range(200):
        if (await fetch(engine, query))[0][0] == wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{query} is not {wanted}")
