"""The command line in a process of its own: exit codes, what it prints and where, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import fetch

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

ROWS = 250


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two CSV files of one kind, and nothing else."""
    for name, start in (("a.csv", 0), ("b.csv", ROWS)):
        lines = [f"{number},name {number},{number}.25" for number in range(start, start + ROWS)]
        (tmp_path / name).write_text("\n".join(["id,name,amount", *lines, ""]))
    return tmp_path


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATALOADER_")}
    root = str(Path(__file__).parents[2])
    return kept | {"PYTHONPATH": root, "TERM": "xterm"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dataloader", *arguments]


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment() | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def count(folder: Path, name: str = "shop.db", table: str = "orders") -> int:
    connection = sqlite3.connect(folder / name)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


def tables(folder: Path, name: str = "shop.db") -> list[str]:
    connection = sqlite3.connect(folder / name)
    try:
        return [table for (table,) in connection.execute("SELECT name FROM sqlite_master")]
    finally:
        connection.close()


def make_orders(folder: Path) -> None:
    connection = sqlite3.connect(folder / "shop.db")
    connection.execute("CREATE TABLE orders (id integer, name text, amount double)")
    connection.execute("INSERT INTO orders VALUES (-1, 'old', 0.5)")
    connection.commit()
    connection.close()


TO = ("--to", "sqlite:///shop.db")


def test_a_load_prints_the_report_and_the_first_rows(folder: Path) -> None:
    done = run(folder, "load", "a.csv", "orders", *TO)
    assert done.returncode == 0, done.stderr
    report, shown = done.stdout.split("\n\n")
    assert "250 rows" in report
    assert "SQLite shop.db" in report
    header, *rows = shown.splitlines()
    assert header.split() == ["id", "name", "amount"]
    assert [row.split() for row in rows] == [[str(n), "name", str(n), f"{n}.25"] for n in range(5)]
    assert count(folder) == ROWS


def test_log_lines_go_to_stderr_where_it_is_no_terminal(folder: Path) -> None:
    done = run(folder, "load", "a.csv", "orders", *TO)
    assert "a.csv → orders: done" in done.stderr
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plan_writes_nothing(folder: Path) -> None:
    done = run(folder, "plan", "a.csv", "orders", *TO)
    assert done.returncode == 0, done.stderr
    assert "load a.csv" in done.stdout
    assert 'CREATE TABLE main."orders"' in done.stdout
    assert tables(folder) == []


@pytest.mark.parametrize("files", [("a.csv", "b.csv"), ("*.csv",)], ids=["several files", "glob"])
def test_several_files_are_one_load(folder: Path, files: tuple[str, ...]) -> None:
    done = run(folder, "load", *files, "orders", *TO, "--chunk-rows", "70")
    assert done.returncode == 0, done.stderr
    assert "500 rows of 2 files" in done.stdout or "500 rows loaded from 2 files" in done.stdout
    assert count(folder) == 2 * ROWS


@pytest.mark.parametrize(
    ("if_exists", "code", "left"),
    [("append", 0, ROWS + 1), ("truncate", 0, ROWS), ("replace", 0, ROWS), ("fail", 1, 1)],
)
def test_if_exists_says_what_happens_to_the_table(folder: Path, if_exists: str, code: int, left: int) -> None:
    make_orders(folder)
    done = run(folder, "load", "b.csv", "orders", *TO, "--if-exists", if_exists)
    assert done.returncode == code
    assert count(folder) == left


def test_the_database_of_the_variable_is_used(folder: Path) -> None:
    assert run(folder, "load", "a.csv", "orders", DATALOADER_URL="sqlite:///variable.db").returncode == 0
    assert count(folder, "variable.db") == ROWS


def test_the_default_database_is_a_file_in_the_current_folder(folder: Path) -> None:
    assert run(folder, "load", "a.csv", "orders").returncode == 0
    assert count(folder, "dataloader.db") == ROWS


async def test_a_load_into_postgresql_prints_the_report(folder: Path, postgres_url: sa.URL, postgres: object) -> None:
    url = postgres_url.render_as_string(hide_password=False)
    done = run(folder, "load", "a.csv", "public.orders", "--to", url)
    assert done.returncode == 0, done.stderr
    assert "copy" in done.stdout
    assert await fetch(postgres, "SELECT count(*), sum(id) FROM orders") == [(250, 31125)]  # type: ignore[arg-type]


FAILURES = {
    "no such file": ("load", "none.csv", "orders"),
    "unknown kind": ("load", "notes.xyz", "orders"),
    "bad url": ("load", "a.csv", "orders", "--to", "nonsense"),
    "unreachable": ("load", "a.csv", "orders", "--to", "postgresql://u:S3CRET@127.0.0.1:1/shop"),
    "plan of no such file": ("plan", "none.csv", "orders"),
    "bad table": ("load", "a.csv", "a.b.c"),
}


@pytest.mark.parametrize("arguments", FAILURES.values(), ids=FAILURES)
def test_a_failure_is_an_error_on_stderr_without_a_traceback(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "notes.xyz").write_text("x")
    done = run(folder, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "S3CRET" not in done.stderr


def test_a_bad_value_is_named_by_row_and_nothing_is_written(folder: Path) -> None:
    make_orders(folder)
    (folder / "bad.csv").write_text("id,name,amount\n1,x,1.5\n2,y,much\n")
    done = run(folder, "load", "bad.csv", "orders", *TO)
    assert done.returncode == 1
    assert "row 1, column 'amount'" in done.stderr
    assert "Traceback" not in done.stderr
    assert count(folder) == 1


WRONG = {
    "no table": ("load", "a.csv"),
    "unknown option": ("load", "a.csv", "orders", "--fast"),
    "unknown choice": ("load", "a.csv", "orders", "--if-exists", "maybe"),
    "no rows in a chunk": ("load", "a.csv", "orders", "--chunk-rows", "0"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_a_wrong_command_exits_with_2_and_the_usage(folder: Path, arguments: tuple[str, ...]) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stderr


@pytest.mark.parametrize("arguments", [("-h",), ("load", "--help"), ("--version",)], ids=" ".join)
def test_help_and_version_exit_with_0(folder: Path, arguments: tuple[str, ...]) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def read_all(terminal: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux ends a pseudo terminal whose other side closed with EIO
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def test_a_bar_is_drawn_where_stderr_is_a_terminal(folder: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = subprocess.Popen(
        command("load", "a.csv", "orders", *TO),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = read_all(ours)
    os.close(ours)
    assert process.stdout is not None
    assert b"250 rows" in process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0
    assert "a.csv → orders" in drawn
    assert "\r" in drawn
    assert "250" in drawn


def until_it_writes(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the load holds SQLite's write lock."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        connection = sqlite3.connect(folder / "shop.db", timeout=0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        except sqlite3.OperationalError:
            return
        finally:
            connection.close()
        time.sleep(0.02)
    raise AssertionError(f"the load was never seen writing: {process.poll()}")


def test_ctrl_c_exits_with_130_and_nothing_is_written(folder: Path) -> None:
    big = "\n".join(f"{number},name {number},{number}.25" for number in range(1_500_000))
    (folder / "big.csv").write_text(f"id,name,amount\n{big}\n")
    process = subprocess.Popen(
        command("load", "big.csv", "orders", *TO, "--commit", "load"),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until_it_writes(folder, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert output == ""
    assert "nothing was written" in errors
    assert "Traceback" not in errors
    assert tables(folder) == []


def test_how_a_csv_is_written_and_the_types_of_its_columns_can_be_said(folder: Path) -> None:
    (folder / "places.csv").write_bytes("1;Málaga;01,50\n2;-;NA\n".encode("cp1250"))
    said = ("--csv-delimiter", ";", "--csv-encoding", "cp1250", "--csv-decimal", ",", "--csv-no-header")
    said += ("--csv-null", "NA", "--csv-null", "-")
    done = run(folder, "load", "places.csv", "places", *TO, *said, "--dtype", "column_3=numeric(6,2)")
    assert done.returncode == 0, done.stderr
    with contextlib.closing(sqlite3.connect(folder / "shop.db")) as connection:
        assert connection.execute("SELECT * FROM places").fetchall() == [(1, "Málaga", 1.5), (2, None, None)]
    refused = run(folder, "load", "places.csv", "places", *TO, "--dtype", "column_3=numbers")
    assert (refused.returncode, "'numbers' is not a type" in refused.stderr) == (2, True)
