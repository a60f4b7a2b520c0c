"""README's blocks run as they are written."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

import dataloader as dl
from tests.notebook.kernels import Kernel
from tests.pages import ROOT, python_blocks, run_call

README = (ROOT / "README.md").read_text()
BLOCKS = python_blocks(ROOT / "README.md")
RECIPES = dict(re.findall(r"^\| (.+?) \| `(.+)` \|$", (ROOT / "docs" / "recipes.md").read_text(), re.MULTILINE))
COMMANDS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


INTRODUCTION = README.partition("\n## ")[0]
PROMISED = (
    "1000 rows in",
    "row 1, column 'qty': 3.7 does not fit INTEGER: it has a fractional part. Nothing was",
    "row 1, column 'qty': 'many' does not fit",
    "orders_new",
    "1000 rows in the background",
    "1 inserted, 1 updated",
    "0 new rows, 3 were there",
)
"""What the blocks print, the first time and every other time."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader is who has the repository and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATALOADER_URL", raising=False)
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    return tmp_path


@pytest.mark.slow
@pytest.mark.any_version
def test_the_python_blocks_run_in_order_in_one_kernel_twice(folder: Path, server_folder: Path) -> None:
    with Kernel(DATALOADER_PG_FOLDER=str(server_folder), DATALOADER_PROGRESS="none", PYTHONPATH=str(ROOT)) as kernel:
        for _ in range(2):
            cells = [kernel.run(block) for block in BLOCKS]
            assert [cell.traceback for cell in cells if cell.error] == []
            printed = "".join(cell.text for cell in cells)
            assert [promise for promise in PROMISED if promise not in printed] == []
            assert "Warning" not in printed


def test_the_reader_gets_to_the_first_heading_in_two_minutes() -> None:
    prose = re.sub(r"^```.*?^```", "", INTRODUCTION, flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) <= 350
    assert "columns=" in prose
    assert len(re.findall("^```python", INTRODUCTION, re.MULTILINE)) >= 6


def test_ci_runs_the_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert len(COMMANDS) == 2
    assert "readme_command 1" in script
    assert "readme_command 2" in script


def prepare(folder: Path) -> dict[str, object]:
    """The files and names that the recipes speak of."""
    shutil.copy(folder / "sample_data" / "orders.csv", folder / "orders.csv")
    (folder / "export.csv").write_bytes("id;name;amount\n1;M\u00fcller;1,50\n".encode("cp1252"))
    (folder / "places.csv").write_text("zip,name\n01234,Here\n")
    (folder / "tomorrow.csv").write_text(
        "id,customer_id,amount,status,created_at\n1001,1,2.5,new,2024-09-09T19:08:56Z\n"
    )
    sheet = pd.DataFrame([[None, None, None], [None, "id", "n"], [None, 1, 2], [None, 3, 4]])
    sheet.to_excel(folder / "report.xlsx", sheet_name="May", header=False, index=False)
    (folder / "parts").mkdir()
    shutil.copy(folder / "sample_data" / "orders.parquet", folder / "parts" / "1.parquet")
    with sqlite3.connect(folder / "dataloader.db") as database:
        database.executescript(
            "CREATE TABLE prices (id BIGINT PRIMARY KEY, amount DOUBLE);"
            "CREATE TABLE invoices (id INTEGER PRIMARY KEY, amount DOUBLE);"
            "CREATE TABLE lines (id BIGINT, invoice BIGINT REFERENCES invoices (id));"
        )
    database.close()
    df = pd.DataFrame({"id": [1, 2, 3], "amount": [19.99, 5.0, None]})
    lines = pd.DataFrame({"id": [1, 2], "invoice": [1, 77]})
    return {"dl": dl, "sa": sa, "pd": pd, "df": df, "lines": lines, "day": "2026-05-01"}


@pytest.mark.any_version
async def test_every_recipe_is_one_call_that_does_it(folder: Path) -> None:
    names = prepare(folder)
    engine = names["engine"] = dl.connect()
    found: dict[str, object] = {}
    async with engine.connect() as connection:
        names["result"] = await connection.execute(sa.text("SELECT 1 AS one, 'x' AS text"))
        found["query"] = await run_call(RECIPES.pop("The result of a query, from any database"), names)
    async with engine.begin() as connection:
        names["connection"] = connection
        found["transaction"] = await run_call(RECIPES.pop("Several tables in one transaction"), names)
    RECIPES.pop("From a shell")  # see README's first command
    for task, call in RECIPES.items():
        found[task] = await run_call(call, names)
    await names["job"]  # type: ignore[misc]
    await engine.dispose()
    loads = {task: report.loaded for task, report in found.items() if isinstance(report, dl.LoadReport)}
    assert [task for task, loaded in loads.items() if not loaded] == ["Insert only rows that are new", UNDONE]
    assert len(loads) > 17
    with sqlite3.connect(folder / "dataloader.db") as database:
        assert database.execute("SELECT * FROM export").fetchall() == [(1, "M\u00fcller", 1.5)]
        assert database.execute("SELECT zip FROM places").fetchall() == [("01234",)]
        assert database.execute("SELECT id, invoice FROM lines").fetchall() == [(1, 1)]
        assert database.execute("SELECT * FROM report").fetchall() == [(1, 2), (3, 4)]
        assert database.execute("SELECT count(*) FROM prices").fetchall() == [(0,)]
    database.close()


UNDONE = "Undo what a load with a key brought"


def test_every_link_leads_to_a_file() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not target.startswith("http") and not (ROOT / target).exists()] == []
