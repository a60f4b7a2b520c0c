"""Exports: a file holds what the query gives, and is whole or absent, whatever happens."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.cli import main
from dataloader.reading import files, formats
from tests.conftest import execute, fetch

RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE 'COPY%' AND pid <> pg_backend_pid()"
)
ENDLESS = "SELECT n, repeat('x', 200) AS filler FROM (SELECT generate_series(1, 100000000) AS n) AS t"
NAMES = (
    *("t.csv", "t.csv.gz", "t.csv.zst", "t.parquet", "t.arrow", "t.feather"),
    *("t.jsonl", "t.jsonl.gz", "t.ndjson", "T.CSV"),
)
DATA = pa.table(
    {
        "i": pa.array([1, None, -(2**63)], pa.int64()),
        "b": pa.array([True, None, False]),
        "f": pa.array([0.1, None, 1e300]),
        "n": pa.array([Decimal("1.50"), None, Decimal("-0.25")], pa.decimal128(10, 2)),
        "tiny": pa.array([Decimal("0.0000000012"), None, Decimal(0)], pa.decimal128(15, 10)),
        "s": pa.array(["", None, 'ü,\n"\x01\\']),
        "y": pa.array([b"", None, b"\x00\xff"]),
        "d": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]),
        "t": pa.array([dt.time(0), None, dt.time(23, 59, 59, 999_999)], pa.time64("us")),
        "m": pa.array([dt.datetime(2024, 2, 29, 1, 2, 3, 4), None, dt.datetime(1969, 12, 31)], pa.timestamp("us")),
        "z": pa.array([dt.datetime(2024, 2, 29, tzinfo=dt.UTC), None, None], pa.timestamp("us", "UTC")),
        'odd, "name"': pa.array(["NULL", None, "null"]),
    }
)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("test.db"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_loads_again_as_it_was_exported(database: AsyncEngine, folder: Path, name: str) -> None:
    await dl.load_dataframe(DATA, "t", engine=database)
    report = await dl.export("t", folder / name, engine=database)
    assert (report.rows, report.nbytes) == (3, (folder / name).stat().st_size)
    assert entries(folder) == [name]
    await dl.load_dataframe(DATA.slice(0, 0), "again", engine=database)
    await dl.load_files(folder / name, "again", engine=database)
    assert (await dl.read_dataframe("again", engine=database, as_="arrow")).equals(DATA)


POSTGRES = """
SELECT ARRAY['a', NULL, ''] AS texts, ARRAY[1, NULL] AS numbers, interval '1 mon -2 days 3.000001 s' AS i,
       CAST('NaN' AS float8) AS nan, CAST('-Infinity' AS real) AS inf, 1.5::real AS r, 'a'::mood AS e,
       CAST(E'{"a":\\n 1}' AS json) AS j, 1.1::numeric AS n, CAST(NULL AS numeric) AS nothing, 'NaN'::numeric AS odd
"""


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
async def test_types_that_a_file_does_not_have_load_again(postgres: AsyncEngine, folder: Path, name: str) -> None:
    await execute(postgres, "CREATE TYPE mood AS ENUM ('a', 'b')", f"CREATE TABLE t AS {POSTGRES}")
    await execute(postgres, "CREATE TABLE again (LIKE t)")
    await dl.export("t", folder / name, engine=postgres)
    await dl.load_files(folder / name, "again", engine=postgres)
    shown = "CAST(x AS text)" if name != "t.jsonl" else "to_jsonb(x)"  # in which a document has one line
    rows = [await fetch(postgres, f"SELECT {shown} FROM {table} AS x") for table in ("t", "again")]
    assert rows[0] == rows[1]


async def test_numbers_without_a_limit_are_decimals_of_the_whole_result(
    postgres: AsyncEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataloader.database.backends.asyncpg_reading.FIRST_BYTES", 10)
    query = "SELECT CASE n WHEN 3000 THEN 12345.678 ELSE n END AS n FROM generate_series(1, 3000) AS n"
    for name, read in (("a.parquet", pq.read_table), ("a.arrow", lambda path: pa.ipc.open_file(path).read_all())):
        await dl.export(query, folder / name, engine=postgres)
        column = read(folder / name)["n"]
        assert column.type == pa.decimal128(8, 3)
        assert (column[0].as_py(), column[-1].as_py()) == (1, Decimal("12345.678"))
    await dl.export("SELECT 1.10 AS n, 'NaN'::numeric AS m", folder / "a.jsonl.zst", engine=postgres)
    assert pa.input_stream(folder / "a.jsonl.zst").read().decode() == '{"n": 1.10, "m": "NaN"}\n'


async def test_row_groups_are_not_the_servers_blocks(
    postgres: AsyncEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "SELECT n FROM generate_series(1, 300000) AS n"
    await dl.export(query, folder / "one.parquet", engine=postgres)
    monkeypatch.setattr(formats, "GROUP_BYTES", 300_000)
    await dl.export(query, folder / "some.parquet", engine=postgres)
    assert pq.ParquetFile(folder / "one.parquet").num_row_groups == 1
    assert pq.ParquetFile(folder / "some.parquet").num_row_groups > 1
    assert pq.read_table(folder / "some.parquet")["n"].to_pylist() == list(range(1, 300_001))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.zst", "t.parquet", "t.arrow"])
async def test_no_rows_are_a_file_with_the_columns(database: AsyncEngine, folder: Path, name: str) -> None:
    await dl.load_dataframe(DATA, "t", engine=database)
    assert (await dl.export("SELECT i, s FROM t WHERE i = 7", folder / name, engine=database)).rows == 0
    await dl.load_files(folder / name, "again", engine=database)
    assert (await dl.read_dataframe("again", engine=database, as_="arrow")).schema.names == ["i", "s"]


async def test_a_column_of_nulls_alone_loads_again(database: AsyncEngine, folder: Path) -> None:
    await execute(database, "CREATE TABLE t (a text)", "INSERT INTO t VALUES (NULL), (''), ('x'), (NULL)")
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        await dl.export("t", folder / name, engine=database)
        await dl.load_files(folder / name, name[2:], engine=database, dtype={"a": sa.Text()}, if_exists="replace")
        found = (await dl.read_dataframe(name[2:], engine=database, as_="arrow"))["a"].to_pylist()
        assert sorted(found, key=str) == ["", None, None, "x"], name


async def test_csv_is_as_postgresql_writes_it(postgres: AsyncEngine, folder: Path) -> None:
    query = "SELECT 1 AS a, '' AS b, NULL AS c, 'x y' AS d, E'\"q\",\\n' AS e, 1.50 AS f"
    await dl.export(query, folder / "t.csv.gz", engine=postgres)
    assert gzip.decompress((folder / "t.csv.gz").read_bytes()).decode() == 'a,b,c,d,e,f\n1,"",,x y,"""q"",\n",1.50\n'


async def test_columns_of_one_name_are_for_files_that_can_have_them(database: AsyncEngine, folder: Path) -> None:
    query = "SELECT 1 AS a, 2 AS a"
    await dl.export(query, folder / "t.csv", engine=database)
    assert (folder / "t.csv").read_text() == "a,a\n1,2\n"
    await dl.export(query, folder / "t.arrow", engine=database)
    for name in ("t.parquet", "t.jsonl"):
        with pytest.raises(dl.ReadError, match="2 columns 'a'"):
            await dl.export(query, folder / name, engine=database)
    assert entries(folder) == ["t.arrow", "t.csv"]


async def test_what_cannot_be_a_file_is_refused_before_the_query_runs(sqlite: AsyncEngine, folder: Path) -> None:
    (folder / "there.csv").write_text("mine")
    for path, options, words in (
        (folder / "there.csv", {}, "exists"),
        (folder, {"format": "csv"}, "is a folder"),
        (folder / "no" / "t.csv", {}, "no folder"),
        (folder / "t.txt", {}, "does not say the format"),
        (folder / "t.parquet.gz", {}, "not compressed as a whole"),
        (folder / "t.csv", {"format": "xml"}, "format='xml' is unknown"),
        (folder / "t.csv", {"if_exists": "append"}, "if_exists='append' is unknown"),
        (7, {}, "must be a path, got int"),
        ("/dev/null", {"format": "csv", "if_exists": "replace"}, "no regular file"),
    ):
        with pytest.raises(dl.PlanError, match=words):
            await dl.export("SELECT nonsense", path, engine=sqlite, **options)  # type: ignore[arg-type]
    assert entries(folder) == ["there.csv"]
    assert (folder / "there.csv").read_text() == "mine"


async def test_a_file_is_replaced_when_the_new_one_is_whole(sqlite: AsyncEngine, folder: Path) -> None:
    path, link = folder / "t.csv", folder / "link.csv"
    path.write_text("mine")
    path.chmod(0o640)
    link.symlink_to(path)
    with pytest.raises(dl.ReadError):
        await dl.export("SELECT nonsense", link, engine=sqlite, if_exists="replace")
    assert path.read_text() == "mine"
    await dl.export("SELECT 1 AS a", link, engine=sqlite, if_exists="replace")
    assert (path.read_text(), link.is_symlink(), path.stat().st_mode & 0o777) == ("a\n1\n", True, 0o640)
    assert entries(folder) == ["link.csv", "t.csv"]


async def test_a_file_that_another_makes_meanwhile_stays(sqlite: AsyncEngine, folder: Path) -> None:
    class Meanwhile:
        interval = 0.0

        def open(self, _state: Any, _cancel: Any) -> None:
            (folder / "t.csv").write_text("theirs")

        def update(self, _state: Any) -> None: ...
        def close(self, _state: Any) -> None: ...

    with pytest.raises(dl.ReadError, match="made by another meanwhile"):
        await dl.export("SELECT 1 AS a", folder / "t.csv", engine=sqlite, progress=Meanwhile())
    assert ((folder / "t.csv").read_text(), entries(folder)) == ("theirs", ["t.csv"])


async def none_left(engine: AsyncEngine, folder: Path) -> None:
    async with asyncio.timeout(1):
        while await fetch(engine, RUNNING) != [(0,)]:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
    assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert entries(folder) == []


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet", "t.arrow"])
async def test_a_cancelled_export_leaves_no_file(postgres: AsyncEngine, folder: Path, name: str) -> None:
    task = asyncio.create_task(dl.export(ENDLESS, folder / name, engine=postgres))
    while not entries(folder):  # noqa: ASYNC110 - of an export nothing is heard meanwhile
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - began < 1
    await none_left(postgres, folder)


async def test_numbers_that_wait_for_their_digits_do_not_hold_up_a_cancel(
    postgres: AsyncEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = formats._Parquet.write
    monkeypatch.setattr(formats, "GROUP_BYTES", 1)
    monkeypatch.setattr(formats._Parquet, "write", lambda writer, batch: (time.sleep(0.3), write(writer, batch)))
    query = "SELECT n + 0.1 AS a, n + 0.2 AS b FROM generate_series(1, 1000000) AS n"
    phases: list[str] = []

    class Cancelling:
        interval = 0.0

        def open(self, _state: Any, _cancel: Any) -> None:
            self.task = asyncio.current_task()

        def update(self, state: Any) -> None:
            phases.append(state.phase)
            if state.phase == "writing":
                self.pressed = time.perf_counter()
                self.task.cancel()  # type: ignore[union-attr]

        def close(self, state: Any) -> None:
            self.last = str(state)

    view = Cancelling()
    with pytest.raises(dl.ReadError, match="cancelled"):
        await dl.export(query, folder / "t.parquet", engine=postgres, progress=view)
    assert time.perf_counter() - view.pressed < 1
    assert phases[-1] == "writing"
    assert "cancelled" in view.last
    await none_left(postgres, folder)


async def test_a_value_that_is_refused_in_the_middle_leaves_no_file(postgres: AsyncEngine, folder: Path) -> None:
    query = "SELECT CASE n WHEN 99999 THEN 'infinity'::date ELSE now()::date END AS d FROM generate_series(1, 100000) n"
    with pytest.raises(dl.ReadError, match="infinity"):
        await dl.export(query, folder / "t.csv", engine=postgres)
    await none_left(postgres, folder)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.arrow"])
async def test_a_full_disk_is_said_and_leaves_no_file(postgres: AsyncEngine, folder: Path, name: str) -> None:
    query = "SELECT md5(n::text) AS a, n FROM generate_series(1, 1000000) AS n"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(dl.ReadError, match=r"t\.\w+(\.gz)?' could not be written: File too large") as caught:
            await dl.export(query, folder / name, engine=postgres)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "No file was left" in caught.value.hint
    await none_left(postgres, folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, which only root can mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system, and not everywhere")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("query", ["SELECT md5(n::text) AS a, n", "SELECT n + 0.1 AS a, n"], ids=["texts", "numbers"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.zst", "t.parquet", "t.arrow", "t.jsonl"])
async def test_a_disk_without_room_is_said_and_has_its_room_again(
    postgres: AsyncEngine, small_disk: Path, name: str, query: str
) -> None:
    """Numbers without a limit wait on it for their digits."""
    with pytest.raises(dl.ReadError, match=r"t\.\w+(\.zst)?' could not be written: No space left on device"):
        await dl.export(f"{query} FROM generate_series(1, 1000000) AS n", small_disk / name, engine=postgres)
    await none_left(postgres, small_disk)
    left = os.statvfs(small_disk)
    assert left.f_bfree == left.f_blocks


async def test_what_a_killed_export_leaves_the_next_one_takes_away(
    postgres: AsyncEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys, dataloader as dl; dl.run(dl.export(sys.argv[1], sys.argv[2], engine=sys.argv[3]))"
    url = postgres.url.render_as_string(hide_password=False).replace("+asyncpg", "")
    command = [sys.executable, "-c", code, ENDLESS, str(folder / "t.csv"), url]
    with subprocess.Popen(command) as process:  # noqa: ASYNC220 - it is there at once
        try:
            while not entries(folder):  # noqa: ASYNC110 - of an export nothing is heard meanwhile
                await asyncio.sleep(0.05)
            monkeypatch.setattr(files, "_STALE_SECONDS", -1.0)
            await dl.export("SELECT 1 AS a", folder / "t.csv", engine=postgres)
            (left,) = (name for name in entries(folder) if name.endswith(".part"))
        finally:
            process.send_signal(signal.SIGKILL)
    assert entries(folder) == [left, "t.csv"]  # whose was under way was left alone
    await dl.export("SELECT 2 AS a", folder / "t.csv", engine=postgres, if_exists="replace")
    assert entries(folder) == ["t.csv"]


async def test_an_export_from_a_shell_says_what_it_did(sqlite: AsyncEngine, folder: Path) -> None:
    await execute(sqlite, "CREATE TABLE t (a integer, b text)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    file, path = folder / "t.csv", str(folder / "t.csv")
    command = ["export", "SELECT * FROM t", path, "--from", f"sqlite:///{sqlite.url.database}", "--columns", "b"]

    def invoke(*more: str) -> Any:
        return CliRunner().invoke(main, [*command, *more])

    shown = await asyncio.to_thread(invoke)
    assert shown.exit_code == 0, shown.output
    assert "2 rows of SELECT * FROM t exported" in shown.output
    assert file.read_text() == "b\nx\ny\n"
    again = await asyncio.to_thread(invoke)
    assert (again.exit_code, "--if-exists replace" in again.output) == (1, True)
    replaced = await asyncio.to_thread(invoke, "--if-exists", "replace", "--max-rows", "1", "--json")
    assert json.loads(replaced.stdout) | {"seconds": 0, "database": ""} == {
        "status": "done",
        "source": "SELECT * FROM t",
        "database": "",
        "path": path,
        "rows": 1,
        "nbytes": file.stat().st_size,
        "seconds": 0,
        "format": "csv",
        "columns": [{"name": "b", "type": "string"}],
    }


async def test_json_of_sqlite_is_part_of_the_line_where_it_is_json(sqlite: AsyncEngine, folder: Path) -> None:
    await execute(sqlite, "CREATE TABLE t (j JSON)", "INSERT INTO t VALUES ('[1,\n 2]'), (NULL), ('no json')")
    await dl.export("t", folder / "t.jsonl", engine=sqlite)
    assert (folder / "t.jsonl").read_text() == '{"j": [1,  2]}\n{"j": null}\n{"j": "no json"}\n'
