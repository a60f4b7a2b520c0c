"""What is said of files in a call arrives in the table, from Python and on the command line."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.errors import PlanError
from dataloader.sources.csv_options import CsvOptions
from dataloader.sources.files import open_files
from dataloader.sources.selection import Reading
from tests.conftest import execute, fetch
from tests.database.test_resume import let_through, stop_at

pytestmark = pytest.mark.any_version


def write(folder: Path) -> Path:
    for year, rows in ((2023, "1\n2\n"), (2024, "3\n")):
        (folder / f"ds/year={year}").mkdir(parents=True)
        (folder / f"ds/year={year}/part.csv").write_text(f"id\n{rows}")
    return folder


def run(folder: Path, *arguments: str, given: bytes | None = None) -> str:
    command = [sys.executable, "-m", "dataloader", *arguments]
    ended = subprocess.run(command, cwd=folder, input=given, capture_output=True, timeout=60, check=False)
    return f"{ended.returncode} {(ended.stdout + ended.stderr).decode()}"


async def test_a_folder_arrives_with_the_columns_of_its_paths_and_the_names_of_its_files(
    database: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path))
    report = await dl.load_files("ds", "t", engine=database, filename=True)
    assert report.loaded == 3
    expected = [
        (1, 2023, "ds/year=2023/part.csv"),
        (2, 2023, "ds/year=2023/part.csv"),
        (3, 2024, "ds/year=2024/part.csv"),
    ]
    assert await fetch(database, "SELECT id, year, filename FROM t ORDER BY id") == expected
    await dl.load_files("ds", "u", engine=database, columns={"id": "key", "file": "of"}, filename="file")
    assert await fetch(database, 'SELECT key, "of" FROM u ORDER BY 1') == [(one, name) for one, _, name in expected]


async def test_the_option_for_the_file_is_refused_where_there_is_none(database: AsyncEngine) -> None:
    with pytest.raises(PlanError, match="filename= is for files"):
        await dl.load_dataframe({"id": [1]}, "t", engine=database, filename=True)


@pytest.mark.slow
def test_the_command_line_names_the_files_and_passes_over_those_that_are_loaded(tmp_path: Path) -> None:
    command = ["load", "ds", "t", "--to", "sqlite:///shop.db", "--filename", "--only-new"]
    shown = run(write(tmp_path), *command)
    assert shown.startswith("0 ")
    assert "ds/year=2024/part.csv" in shown
    assert "2 files passed over: loaded before" in run(tmp_path, *command)


@pytest.mark.slow
def test_the_command_line_reads_the_standard_input(tmp_path: Path) -> None:
    lines = b"id;amount\n" + b"".join(b"%d;1,5\n" % number for number in range(20_000))
    shown = run(tmp_path, "load", "-", "t", "--to", "sqlite:///shop.db", given=lines)
    assert shown.startswith("0 20,000 rows loaded from stdin into t")
    shown = run(tmp_path, "plan", "-", "u", "--to", "sqlite:///shop.db", "--format", "jsonl", given=b'{"id": 1}\n')
    assert "stdin: it is read once" in shown
    assert run(tmp_path, "load", "-", "u", "--to", "sqlite:///shop.db", given=b"").startswith(
        "1 error: the kind of 'stdin'"
    )


@pytest.mark.slow
def test_ctrl_c_ends_a_load_that_waits_for_its_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataloader", "load", "-", "t", "--to", "sqlite:///shop.db", "--format", "csv"]
    reads, writes = os.pipe()
    loading = subprocess.Popen(command, cwd=tmp_path, stdin=reads, stderr=subprocess.PIPE)
    try:
        os.write(writes, b"id\n1\n")
        while fcntl.ioctl(reads, termios.FIONREAD, bytes(4)) != bytes(4):  # until it has taken that, and waits for more
            assert loading.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        loading.send_signal(signal.SIGINT)
        assert loading.wait(timeout=20) == 130
    finally:
        loading.kill()
        loading.communicate()
        os.close(reads)
        os.close(writes)


@pytest.mark.parametrize("through", ["python", "command line"])
async def test_a_load_with_options_for_csv_is_resumed_with_them(
    database: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(number, None if number % 3 else number + 0.5, f"M\u00fcller|{number}") for number in range(100)]
    lines = [f"{key}|{'' if value is None else str(value).replace('.', ',')}|'{name}'" for key, value, name in rows]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="cp1252")
    await execute(database, "CREATE TABLE t (id BIGINT, v DOUBLE PRECISION, name VARCHAR(20))")
    await stop_at(database, "t", "NEW.id = 55")
    csv = {"delimiter": "|", "decimal": ",", "header": False, "encoding": "cp1252", "quote": "'"}
    names = dict(zip(columns_of("t.csv", csv), ("id", "v", "name"), strict=True))
    options: dict[str, Any] = {"csv": csv, "columns": names, "chunk_rows": 10, "workers": 1, "engine": database}
    with pytest.raises(dl.WriteError) as ended:
        await dl.load_files("t.csv", "t", commit="chunk", load_id="May", **options)
    assert ended.value.committed_rows == 50
    await let_through(database, "t")
    if through == "python":
        assert (await dl.load_files("t.csv", "t", load_id="May", resume=True, **options)).loaded == 50
    else:
        url = database.url.render_as_string(hide_password=False)
        assert "50 rows" in run(tmp_path, "resume", "May", "--to", url, "--yes")
    assert await fetch(database, "SELECT id, v, name FROM t ORDER BY id") == rows


def columns_of(path: str, csv: dict[str, Any]) -> list[str]:
    return list(open_files(path, Reading(csv=CsvOptions.of(csv))).schema.names)
