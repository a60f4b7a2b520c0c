"""The ledger beside the table: who may use it, what it shows, and how people work with it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.cli import main
from dataloader.database.engine import open_engine
from dataloader.ledger.entries import FILES, TABLES
from dataloader.ledger.ledger import Ledger
from tests.conftest import Broken, execute, fetch

pytestmark = [pytest.mark.slow, pytest.mark.any_version, pytest.mark.usefixtures("long_sources")]

ROWS, CHUNK_ROWS, COMMITTED = 60, 10, 30
LEDGER = ("dataloader_loads", "dataloader_chunks")
HISTORY = ["load_id", "target", "source", "state", "chunks", "rows", "loaded", "rejected", "chunk_rows"]
TIMES = ["started_at", "last_commit_at", "running"]
Snapshot = list[list[tuple[Any, ...]]]


RUNNER = CliRunner(**({"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}))
"""Before click 8.2 the two outputs are one, unless it is told."""


def batches(rows: int = ROWS, breaks: bool = False, start: int = 0) -> Iterator[pa.RecordBatch]:
    for first in range(start, start + rows, CHUNK_ROWS):
        yield pa.record_batch({"id": list(range(first, first + CHUNK_ROWS))})
    if breaks:
        raise Broken


def load(database: AsyncEngine, table: str = "orders", **options: Any) -> Any:
    """A load of sixty numbers in six chunks."""
    options = {"chunk_rows": CHUNK_ROWS, "workers": 1, "source": batches()} | options
    return dl.load_batches(options.pop("source"), table, engine=database, **options)


async def interrupted(database: AsyncEngine, table: str = "orders", **options: Any) -> None:
    """Leave a load of thirty rows behind."""
    with pytest.raises(Broken):
        await load(database, table, source=batches(COMMITTED, breaks=True), **options)


async def numbers(database: AsyncEngine, table: str = "orders") -> list[int]:
    return [number for (number,) in await fetch(database, f"SELECT id FROM {table} ORDER BY id")]


async def tables(database: AsyncEngine, schema: str | None = None) -> list[str]:
    async with database.connect() as connection:
        return await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names(schema))


async def ledger(database: AsyncEngine, schema: str = "") -> Snapshot:
    prefix = f"{schema}." if schema else ""
    return [await fetch(database, f"SELECT * FROM {prefix}{table} ORDER BY 1, 2") for table in LEDGER]


def url_of(database: AsyncEngine) -> str:
    return database.url.render_as_string(hide_password=False)


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    root = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATALOADER_")}
    return subprocess.run(
        [sys.executable, "-m", "dataloader", *arguments],
        env=kept | {"PYTHONPATH": root},
        cwd=cwd or root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def another_process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, *arguments, cwd=cwd)


def invoke(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    with contextlib.chdir(cwd or Path.cwd()):
        done = RUNNER.invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


async def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a thread of this process, which takes a tenth of the time."""
    return await asyncio.to_thread(invoke, *arguments, cwd=cwd)


@pytest.fixture
async def clerk(postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """A role that may write into sales.orders, and nothing else."""
    await execute(
        postgres,
        "DROP ROLE IF EXISTS loader_role",
        "CREATE ROLE loader_role LOGIN",
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id bigint)",
        "GRANT USAGE ON SCHEMA sales TO loader_role",
        "GRANT INSERT ON sales.orders TO loader_role",
    )
    engine = open_engine(postgres.url.set(username="loader_role"))
    yield engine
    await engine.dispose()
    await execute(postgres, "DROP OWNED BY loader_role", "DROP ROLE loader_role")


async def grant(postgres: AsyncEngine, table: str = "sales.orders", role: str = "loader_role") -> str:
    """What an administrator does: run what `grants` prints."""
    done = await command("grants", table, role)
    assert done.returncode == 0, done.stderr
    await execute(postgres, *filter(str.strip, done.stdout.split(";\n")))
    return done.stdout


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_rows_get_ids_in_the_order_of_the_source_inside_of_a_chunk_and_by_one_worker_in_all(
    postgres: AsyncEngine, workers: int, method: Any
) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY, row bigint)")
    data = {"row": list(range(2_000))}
    await dl.load_dataframe(data, "t", engine=postgres, commit="chunk", chunk_rows=100, workers=workers, method=method)
    rows = [row for (row,) in await fetch(postgres, "SELECT row FROM t ORDER BY id")]
    chunks = [[row for row in rows if row // 100 == chunk] for chunk in range(20)]
    assert chunks == [sorted(chunk) for chunk in chunks]
    assert workers > 1 or rows == sorted(rows)


@pytest.mark.parametrize("asked", [{"commit": "chunk"}, {"resume": True}, {"load_id": "May"}])
async def test_a_role_without_a_ledger_is_told_what_it_lacks(
    postgres: AsyncEngine, clerk: AsyncEngine, asked: Any
) -> None:
    with pytest.raises(dl.PlanError) as raised:
        await load(clerk, "sales.orders", **asked)
    for part in ("loader_role", "sales", "grants"):
        assert part in str(raised.value)
    assert await numbers(postgres, "sales.orders") == []
    assert await tables(postgres, "sales") == ["orders"]


async def test_a_role_without_a_ledger_loads_in_one_transaction(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    report = await load(clerk, "sales.orders")
    assert (report.loaded, report.load_id) == (ROWS, None)
    assert await numbers(postgres, "sales.orders") == list(range(ROWS))
    assert await tables(postgres, "sales") == ["orders"]
    with pytest.raises(Broken):
        await load(clerk, "sales.orders", source=batches(breaks=True))
    assert len(await numbers(postgres, "sales.orders")) == ROWS


async def test_a_plan_names_the_missing_grant(clerk: AsyncEngine) -> None:
    plan = await dl.plan_load({"id": list(range(500_001))}, "sales.orders", engine=clerk)
    assert plan.commit == "load"
    assert "loader_role" in plan.commit_reason
    assert "sales" in plan.commit_reason
    assert plan.commit_reason in str(plan)


async def test_the_grants_are_enough_to_load_and_to_resume(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await grant(postgres)
    await interrupted(clerk, "sales.orders", commit="chunk")
    with pytest.raises(dl.UnfinishedLoad):
        await load(clerk, "sales.orders")
    report = await load(clerk, "sales.orders", resume=True, workers=2)
    assert (report.already_loaded, report.loaded) == (COMMITTED, ROWS - COMMITTED)
    assert await numbers(postgres, "sales.orders") == list(range(ROWS))
    assert (await load(clerk, "sales.orders", resume=True)).loaded == 0
    assert (await dl.load_history(clerk))["loaded"].tolist() == [ROWS]


async def test_the_grants_are_enough_to_begin_anew_and_to_forget(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await grant(postgres)
    await interrupted(clerk, "sales.orders")
    report = await load(clerk, "sales.orders", resume=False)
    assert (report.already_loaded, report.loaded) == (0, ROWS)
    done = await command("forget", report.load_id, "--to", url_of(clerk))
    assert done.returncode == 0, done.stderr
    assert (await dl.load_history(clerk)).empty


async def test_the_grants_are_enough_for_rejects(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await grant(postgres)
    await execute(postgres, "ALTER TABLE sales.orders ADD CHECK (id <> 33)")
    report = await load(clerk, "sales.orders", on_invalid="reject")
    assert (report.loaded, report.rejected) == (ROWS - 1, 1)


async def test_the_grants_may_be_given_twice(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    assert await grant(postgres) == await grant(postgres)
    assert (await load(clerk, "sales.orders")).load_id is not None


async def test_the_grants_run_as_they_are_printed_whatever_the_names_contain(postgres: AsyncEngine) -> None:
    schema, role = 'sch%(a)s:"b;', "ro%%le 'x':y"
    quoted_schema, quoted_role = (postgres.dialect.identifier_preparer.quote(name) for name in (schema, role))
    table = f'{quoted_schema}."100%"'
    done = await command("grants", table, role)
    assert done.returncode == 0, done.stderr
    driver = await asyncpg.connect(host=postgres.url.query["host"], user="postgres", database=postgres.url.database)
    await driver.execute(f"CREATE ROLE {quoted_role}; CREATE SCHEMA {quoted_schema}; CREATE TABLE {table} (id bigint)")
    try:
        await driver.execute(done.stdout)
        asked = "SELECT table_name FROM information_schema.role_table_grants WHERE grantee = $1 GROUP BY 1 ORDER BY 1"
        granted = [row[0] for row in await driver.fetch(asked, role)]
    finally:
        await driver.execute(f"DROP SCHEMA {quoted_schema} CASCADE; DROP ROLE {quoted_role}")
        await driver.close()
    assert granted == ["100%", *sorted([*TABLES, FILES])]


async def test_the_grants_give_nothing_but_what_a_load_needs(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await grant(postgres)
    query = """SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)
        FROM information_schema.role_table_grants WHERE grantee = 'loader_role' GROUP BY 1 ORDER BY 1"""
    ledger_rights = "DELETE INSERT SELECT UPDATE"
    expected = [
        ("dataloader_chunks", ledger_rights),
        ("dataloader_files", ledger_rights),
        ("dataloader_loads", ledger_rights),
        ("dataloader_rejects", ledger_rights),
        ("orders", "INSERT"),
    ]
    assert await fetch(postgres, query) == expected
    query = "SELECT has_schema_privilege('loader_role', 'sales', 'CREATE')"
    assert await fetch(postgres, query) == [(False,)]


@pytest.mark.parametrize("rights", ["SELECT", "SELECT, INSERT", "INSERT, UPDATE", "SELECT, INSERT, UPDATE"])
async def test_with_some_of_the_grants_a_load_is_refused_or_works(
    postgres: AsyncEngine, clerk: AsyncEngine, rights: str
) -> None:
    await load(postgres, "sales.others", commit="chunk")
    await execute(postgres, *(f"GRANT {rights} ON sales.{table} TO loader_role" for table in LEDGER))
    if rights == "SELECT, INSERT, UPDATE":
        assert (await load(clerk, "sales.orders", commit="chunk")).loaded == ROWS
        return
    with pytest.raises(dl.PlanError, match="loader_role"):
        await load(clerk, "sales.orders", commit="chunk")
    assert (await load(clerk, "sales.orders")).load_id is None


async def test_a_role_that_may_create_tables_makes_its_ledger(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    await execute(postgres, "GRANT CREATE ON SCHEMA sales TO loader_role")
    await interrupted(clerk, "sales.mine")
    report = await load(clerk, "sales.mine", resume=True)
    assert (report.already_loaded, report.loaded) == (COMMITTED, ROWS - COMMITTED)


@pytest.mark.parametrize("schema", ["sales", '"My ""Sales"" of \'May\'"', '"Größe"', '"select"', '"100 %"', '"a:b"'])
async def test_the_ledger_is_in_the_schema_of_the_table_whatever_its_name(postgres: AsyncEngine, schema: str) -> None:
    async with postgres.begin() as connection:
        await connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    table = f'{schema}."Ord""ers, ""of"" \'May\'"'
    await interrupted(postgres, table, load_id="May")
    assert (await load(postgres, table, load_id="May", resume=True)).loaded == ROWS - COMMITTED
    async with postgres.connect() as connection:
        stored = await connection.exec_driver_sql(f"SELECT id FROM {table} ORDER BY id")
        assert [number for (number,) in stored] == list(range(ROWS))
        kept = await connection.exec_driver_sql(f"SELECT load_id, state FROM {schema}.dataloader_loads")
        assert [tuple(row) for row in kept] == [("May", "finished")]
    assert await tables(postgres) == []
    history = await dl.load_history(postgres)
    assert history["load_id"].tolist() == ["May"]
    done = await command("forget", "May", "--to", url_of(postgres))
    assert done.returncode == 0, done.stderr
    assert (await dl.load_history(postgres)).empty


async def test_the_grants_quote_hostile_names(postgres: AsyncEngine, clerk: AsyncEngine) -> None:
    schema, table, role = '"My Sales"', '"Ord""ers"', 'Loader "X"'
    quoted_role = '"Loader ""X"""'
    await execute(postgres, f"DROP ROLE IF EXISTS {quoted_role}", f"CREATE ROLE {quoted_role} LOGIN")
    engine = open_engine(postgres.url.set(username=role))
    try:
        await execute(postgres, f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.{table} (id bigint)")
        await grant(postgres, f"{schema}.{table}", role)
        await interrupted(engine, f"{schema}.{table}")
        report = await load(engine, f"{schema}.{table}", resume=True)
        assert report.loaded == ROWS - COMMITTED
    finally:
        await engine.dispose()
        await execute(postgres, f"DROP OWNED BY {quoted_role}", f"DROP ROLE {quoted_role}")


def test_the_grants_want_a_schema() -> None:
    done = run("grants", "orders", "loader_role")
    assert done.returncode != 0
    assert "schema" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("table", ['"Ord""ers"', '"it\'s"', '"select"', '"Größe 100 %"', '"a:b"', '"a?b"'])
async def test_hostile_table_names_are_told_apart(database: AsyncEngine, table: str) -> None:
    await interrupted(database, table)
    await interrupted(database, "orders")
    assert (await load(database, table, resume=True)).already_loaded == COMMITTED
    async with database.connect() as connection:
        stored = await connection.exec_driver_sql(f"SELECT id FROM {table} ORDER BY id")
        assert [number for (number,) in stored] == list(range(ROWS))
    assert sorted((await dl.load_history(database))["state"]) == ["finished", "unfinished"]


async def test_names_that_differ_in_their_case_only_are_two_tables(postgres: AsyncEngine) -> None:
    await interrupted(postgres, "orders")
    await interrupted(postgres, '"Orders"')
    for table in ("orders", '"Orders"'):
        assert (await load(postgres, table, resume=True)).already_loaded == COMMITTED
        assert await numbers(postgres, table) == list(range(ROWS))


async def test_a_table_without_and_with_its_schema_is_one_table(database: AsyncEngine) -> None:
    schema = {"postgresql": "public", "sqlite": "main"}[database.dialect.name]
    await interrupted(database, "orders")
    report = await load(database, f"{schema}.orders", resume=True)
    assert (report.already_loaded, report.loaded) == (COMMITTED, ROWS - COMMITTED)
    assert await numbers(database) == list(range(ROWS))


async def test_one_transaction_makes_no_ledger(database: AsyncEngine) -> None:
    await load(database, commit="load")
    assert await tables(database) == ["orders"]


async def test_one_transaction_leaves_the_ledger_as_it_is(database: AsyncEngine) -> None:
    await interrupted(database)
    before = await ledger(database)
    await load(database, commit="load", resume=False)  # else refused: some of its rows are there
    await dl.load_dataframe({"id": [1]}, "orders", engine=database)
    assert await ledger(database) == before


async def test_a_plan_makes_no_ledger(database: AsyncEngine) -> None:
    await dl.plan_load({"id": [1]}, "orders", engine=database, commit="chunk", load_id="May")
    assert await tables(database) == []


async def test_a_database_without_loads_has_an_empty_history(database: AsyncEngine) -> None:
    history = await dl.load_history(database)
    assert isinstance(history, pd.DataFrame)
    assert history.columns.tolist() == [*HISTORY, *TIMES]
    assert history.empty
    assert await tables(database) == []


async def test_the_history_shows_the_newest_load_first(database: AsyncEngine) -> None:
    await load(database, "first", load_id="z")
    await load(database, "second", load_id="a")
    await interrupted(database, "third", load_id="m")
    history = await dl.load_history(database)
    assert history.columns.tolist() == [*HISTORY, *TIMES]
    assert history["load_id"].tolist() == ["m", "a", "z"]
    assert [one.rpartition(".")[2] for one in history["target"]] == ["third", "second", "first"]
    whole = ["stream of batches", "finished", ROWS // CHUNK_ROWS, ROWS, ROWS, 0, CHUNK_ROWS]
    part = ["stream of batches", "unfinished", COMMITTED // CHUNK_ROWS, COMMITTED, COMMITTED, 0, CHUNK_ROWS]
    assert history[HISTORY[2:]].to_numpy().tolist() == [part, whole, whole]
    assert history["running"].tolist() == [False] * 3
    assert (history["started_at"] <= history["last_commit_at"]).all()


async def test_the_history_is_that_of_the_default_engine_too(sqlite: AsyncEngine) -> None:
    await load(sqlite, load_id="May")
    engine = dl.connect(sqlite.url)
    assert (await dl.load_history())["load_id"].tolist() == ["May"]
    assert (await dl.load_history(url_of(engine)))["load_id"].tolist() == ["May"]


async def test_the_history_of_several_schemas_is_one(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE SCHEMA sales")
    await load(postgres, "orders", load_id="here")
    await load(postgres, "sales.orders", load_id="there")
    history = await dl.load_history(postgres)
    assert history["load_id"].tolist() == ["there", "here"]
    assert history["target"].tolist() == ["sales.orders", "public.orders"]


async def test_the_command_line_shows_the_history(database: AsyncEngine) -> None:
    to = ("--to", url_of(database))
    empty = await command("history", *to)
    assert (empty.returncode, empty.stderr) == (0, "")
    assert "no load" in empty.stdout
    await load(database, load_id="loaded in May")
    await interrupted(database, "bills", load_id="loaded in June")
    done = await command("history", *to)
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == [*HISTORY, *TIMES]
    assert len(lines) == 2
    assert "loaded in June" in done.stdout
    assert "unfinished" in done.stdout


async def test_what_was_forgotten_leaves_its_rows(database: AsyncEngine, tmp_path: Path) -> None:
    await interrupted_files(database, tmp_path, "--load-id", "May")
    await load(database, "bills", load_id="June")
    done = await command("forget", "May", "--to", url_of(database))
    assert done.returncode == 0, done.stderr
    assert "35 rows" in done.stdout
    assert await numbers(database) == list(range(35))
    assert (await dl.load_history(database))["load_id"].tolist() == ["June"]
    assert await fetch(database, "SELECT DISTINCT load_id FROM dataloader_chunks") == [("June",)]
    assert (await load(database, load_id="May", resume=True)).already_loaded == 0


@pytest.mark.parametrize("verb", ["forget", "resume"])
async def test_a_load_that_nobody_knows_is_an_error(database: AsyncEngine, verb: str) -> None:
    for _ in range(2):
        done = await command(verb, "May", "--to", url_of(database))
        assert done.returncode == 1
        assert "'May'" in done.stderr
        assert "Traceback" not in done.stderr
        await load(database, "orders", load_id="June", resume=True)


@contextlib.asynccontextmanager
async def running(database: AsyncEngine) -> AsyncIterator[asyncio.Task[Any]]:
    """A load of this process that waits for its source, half-way; it goes on in the end."""
    going_on = asyncio.Event()

    async def slow() -> Any:
        for number, batch in enumerate(batches()):
            if number == COMMITTED // CHUNK_ROWS:
                await going_on.wait()
            yield batch

    loading = asyncio.create_task(load(database, source=slow(), load_id="May"))
    try:
        for _ in range(500):
            with contextlib.suppress(sa.exc.DBAPIError):
                if await fetch(database, "SELECT rows FROM dataloader_loads") == [(COMMITTED,)]:
                    break
            await asyncio.sleep(0.01)
        yield loading
    finally:
        going_on.set()
        await asyncio.wait({loading})


@pytest.mark.parametrize("verb", ["forget", "resume"])
async def test_a_running_load_is_left_alone(database: AsyncEngine, tmp_path: Path, verb: str) -> None:
    async with running(database) as loading:
        assert (await dl.load_history(database))["running"].tolist() == [True]
        done = await another_process(verb, "May", "--to", url_of(database))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
    assert loading.result().loaded == ROWS
    assert (await dl.load_history(database))[["state", "running"]].to_numpy().tolist() == [["finished", False]]


def make_files(folder: Path) -> list[str]:
    """Three files of twenty numbers, each with a fraction and a time without its zone."""
    for part in range(3):
        lines = [f"{number},{number}.5,2024-05-01 00:00:{number:02}\n" for number in range(part * 20, part * 20 + 20)]
        (folder / f"part {part}.csv").write_text("id,amount,seen\n" + "".join(lines))
    return [f"part {part}.csv" for part in range(3)]


async def stop_at(database: AsyncEngine, number: int) -> None:
    """From now on the database refuses a number."""
    if database.dialect.name == "postgresql":
        await execute(database, f"ALTER TABLE orders ADD CONSTRAINT stop CHECK (id <> {number})")
    else:
        what = "BEGIN SELECT RAISE(ABORT, 'stopped'); END"
        await execute(database, f"CREATE TRIGGER stop BEFORE INSERT ON orders WHEN NEW.id = {number} {what}")


async def let_through(database: AsyncEngine) -> None:
    how = "ALTER TABLE orders DROP CONSTRAINT stop" if database.dialect.name == "postgresql" else "DROP TRIGGER stop"
    await execute(database, how)


async def interrupted_files(database: AsyncEngine, folder: Path, *options: str, run: Any = command) -> str:
    """Leave a load of three files behind that ended in the second one; returns its name."""
    zoned = "timestamptz" if database.dialect.name == "postgresql" else "timestamp"
    await execute(database, f"CREATE TABLE orders (id bigint, amount double precision, seen {zoned})")
    await stop_at(database, 35)
    zone = ("--assume-timezone", "Europe/Berlin") if database.dialect.name == "postgresql" else ()
    where = ("orders", "--to", url_of(database), "--chunk-rows", "7", "--workers", "1", *zone, *options)
    where += ("--commit", "chunk")
    done = await run("load", *make_files(folder), *where, cwd=folder)
    assert done.returncode == 1
    assert "35 rows are committed" in done.stderr
    await let_through(database)
    ((load_id,),) = await fetch(database, "SELECT load_id FROM dataloader_loads")
    return str(load_id)


@pytest.mark.parametrize("options", [(), ("--load-id", "May")], ids=["unnamed", "named"])
async def test_files_are_resumed_by_the_command_line_alone(database: AsyncEngine, tmp_path: Path, options: Any) -> None:
    load_id = await interrupted_files(database, tmp_path, *options, run=another_process)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = await another_process("resume", load_id, "--yes", "--to", url_of(database), cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "25 rows" in done.stdout
    assert "an earlier run committed 35 rows" in done.stdout
    stored = await fetch(database, "SELECT id, amount FROM orders ORDER BY id")
    assert stored == [(number, number + 0.5) for number in range(ROWS)]
    if database.dialect.name == "postgresql":
        hours = await fetch(
            database, "SELECT DISTINCT extract(hour FROM seen AT TIME ZONE 'Europe/Berlin') FROM orders"
        )
        assert hours == [(0,)]
    again = await command("resume", load_id, "--yes", "--to", url_of(database))
    assert again.returncode == 0, again.stderr
    assert "finished" in again.stdout
    assert len(await numbers(database)) == ROWS


async def test_files_are_resumed_with_the_options_of_their_load(database: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps({"id": n + 0.25}) + "\n" for n in range(ROWS)))
    await execute(database, "CREATE TABLE orders (id integer)")
    await stop_at(database, 45)
    options = ("--casts", "lossy", "--method", "insert", "--chunk-rows", "7", "--commit", "chunk")
    done = await command("load", str(tmp_path / "orders.jsonl"), "orders", "--to", url_of(database), *options)
    assert "rows are committed" in done.stderr
    await let_through(database)
    ((load_id,),) = await fetch(database, "SELECT load_id FROM dataloader_loads")
    done = await command("resume", load_id, "--yes", "--to", url_of(database))
    assert done.returncode == 0, done.stderr
    assert await numbers(database) == list(range(ROWS))


@pytest.mark.parametrize("verb", ["resume", "forget"])
@pytest.mark.parametrize("is_told", [True, False], ids=["the ledger is told", "the ledger cannot be told"])
async def test_a_load_that_failed_in_a_notebook_is_not_running(
    database: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, is_told: bool
) -> None:
    """The process lives on, as a notebook's kernel does; its load has ended, and others may go on with it."""

    async def gone(*_: object) -> None:
        raise ConnectionError("a server that is too slow, or gone")

    if not is_told:
        monkeypatch.setattr(Ledger, "release", gone)
    await execute(database, "CREATE TABLE orders (id bigint, amount double precision, seen text)")
    await stop_at(database, 35)
    paths = [str(tmp_path / name) for name in make_files(tmp_path)]
    with pytest.raises(dl.WriteError):
        await dl.load_files(paths, "orders", engine=database, chunk_rows=7, load_id="May")
    await let_through(database)
    asked = ("--yes",) if verb == "resume" else ()
    done = await another_process(verb, "May", *asked, "--to", url_of(database))
    assert done.returncode == 0, done.stderr


async def test_files_that_changed_are_not_resumed(database: AsyncEngine, tmp_path: Path) -> None:
    load_id = await interrupted_files(database, tmp_path)
    before = await numbers(database)
    path = tmp_path / "part 0.csv"
    path.write_text(path.read_text().replace("13.5", "13.25"))
    done = await command("resume", load_id, "--yes", "--to", url_of(database))
    assert done.returncode == 1
    assert "chunk 1" in done.stderr
    path.unlink()
    done = await command("resume", load_id, "--yes", "--to", url_of(database))
    assert done.returncode == 1
    assert "part 0.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert await numbers(database) == before


async def test_the_same_command_again_goes_on_when_it_is_told_to(database: AsyncEngine, tmp_path: Path) -> None:
    await interrupted_files(database, tmp_path)
    zone = ("--assume-timezone", "Europe/Berlin") if database.dialect.name == "postgresql" else ()
    again = ("load", "part *.csv", "orders", "--chunk-rows", "7", "--to", url_of(database), *zone)
    refused = await command(*again, cwd=tmp_path)
    assert refused.returncode == 1
    assert "--resume" in refused.stderr
    assert len(await numbers(database)) == 35
    done = await command(*again, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert await numbers(database) == list(range(ROWS))


@pytest.mark.parametrize("loader", ["load_dataframe", "load_batches", "load_rows"])
async def test_what_is_in_memory_is_resumed_where_it_is(database: AsyncEngine, loader: str) -> None:
    await execute(database, "CREATE TABLE orders (id bigint)")
    await stop_at(database, 35)
    data: Any = {
        "load_dataframe": {"id": list(range(ROWS))},
        "load_batches": batches(),
        "load_rows": ({"id": number} for number in range(ROWS)),
    }[loader]
    options: Any = {"engine": database, "commit": "chunk", "chunk_rows": CHUNK_ROWS, "load_id": "May", "workers": 1}
    with pytest.raises(dl.WriteError):
        await getattr(dl, loader)(data, "orders", **options)
    done = await command("resume", "May", "--yes", "--to", url_of(database))
    assert done.returncode == 1
    for part in (loader, "load_id='May'", "resume=True"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert len(await numbers(database)) == COMMITTED


async def test_many_first_loads_make_the_ledger_together(database: AsyncEngine) -> None:
    other = open_engine(database.url)
    try:
        reports = await asyncio.gather(
            *(load((database, other)[n % 2], f"orders_{n}", commit="chunk", load_id=f"load {n}") for n in range(10))
        )
    finally:
        await other.dispose()
    assert [report.loaded for report in reports] == [ROWS] * 10
    for number in range(10):
        assert await numbers(database, f"orders_{number}") == list(range(ROWS))
    history = await dl.load_history(database)
    assert sorted(history["load_id"]) == [f"load {number}" for number in range(10)]
    assert set(history["state"]) == {"finished"}


async def test_many_loads_of_one_name_are_one_load(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE orders (id bigint)")
    outcomes = await asyncio.gather(*(load(database, load_id="May") for _ in range(5)), return_exceptions=True)
    reports = [one for one in outcomes if isinstance(one, dl.LoadReport)]
    others = [one for one in outcomes if not isinstance(one, dl.LoadReport)]
    assert [report.loaded for report in reports] == [ROWS]
    assert all(isinstance(one, dl.CheckpointError) for one in others), others
    assert await numbers(database) == list(range(ROWS))


async def test_a_table_of_the_callers_that_is_called_like_the_ledger_is_not_written_to(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE dataloader_loads (id bigint)", "CREATE TABLE orders (id bigint)")
    with pytest.raises(dl.DataLoaderError):
        await load(database, commit="chunk")
    assert await numbers(database) == []
    assert await fetch(database, "SELECT * FROM dataloader_loads") == []
