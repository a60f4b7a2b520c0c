"""Loads in a notebook that papermill runs: nobody looks on, and what is read is the notebook that it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser

from tests.notebook.lab import write_notebook
from tests.notebook.looks import NARROW, WIDE, as_page, assert_readable

if TYPE_CHECKING:
    import nbformat  # takes more than a second

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BEGIN = """
import pandas as pd
import dataloader as dl

orders = pd.DataFrame({"id": range(30_000), "customer_reference": "C-000977", "status": "shipped"})
"""
CELLS = {
    "report": "await dl.load_dataframe(orders, 'orders')",
    "named": "report = await dl.load_dataframe(orders, 'named', commit='chunk', chunk_rows=2_000)\nreport",
    "job": "job = dl.start_load(orders, 'job')\nawait job",
    "html": "await dl.load_dataframe(orders, 'html', progress='html')",
    "log": "await dl.load_dataframe(orders, 'log', progress='log')",
    "failed": "await dl.load_dataframe(orders, 'orders', if_exists='fail')",
}
"""The last one ends the run."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook that papermill wrote."""
    folder = tmp_path_factory.mktemp("papermill")
    write_notebook(folder / "loads.ipynb", BEGIN, *CELLS.values())
    own = {"DATALOADER_URL": f"sqlite:///{folder}/loads.db", "DATALOADER_PROGRESS": "auto", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "papermill", "loads.ipynb", "done.ipynb", "--no-progress-bar"]
    ran = subprocess.run(command, check=False, cwd=folder, env=os.environ | own, capture_output=True, text=True)
    assert "PlanError: the table orders exists already" in ran.stderr
    assert "/dataloader/" not in ran.stderr.partition("Exception encountered")[2]
    return folder / "done.ipynb"


@pytest.fixture(scope="module")
def cells(path: Path) -> dict[str, nbformat.NotebookNode]:
    """The cells; papermill has put others between them, which say where it stopped."""
    import nbformat

    _, *ran = (cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    return dict(zip(CELLS, ran, strict=True))


@pytest.mark.parametrize("name", ["report", "named", "job", "html"])
def test_a_cell_keeps_the_report_and_no_live_widget(name: str, cells: dict[str, nbformat.NotebookNode]) -> None:
    (output,) = cells[name].outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert "<b>30,000 rows</b>" in output.data["text/html"]


def test_a_log_is_short_and_the_report_follows_it(cells: dict[str, nbformat.NotebookNode]) -> None:
    *lines, report = cells["log"].outputs
    assert {one.name for one in lines} == {"stderr"}
    log = "".join(one.text for one in lines)
    assert "DataFrame → log: done 100% 30,000 of 30,000 rows" in log
    assert log.count("\n") <= 10
    assert "<b>30,000 rows</b>" in report.data["text/html"]


def test_an_error_is_two_lines(cells: dict[str, nbformat.NotebookNode]) -> None:
    *_, error = cells["failed"].outputs
    assert error.output_type == "error"
    told, hint = "\n".join(error.traceback).split("\n")
    assert told == "PlanError: the table orders exists already"
    assert hint.startswith("Choose if_exists=")


async def test_the_notebook_as_a_page_can_be_read(path: Path, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"file://{as_page(path)}")
    cells = page.locator(".jp-Cell-outputWrapper")
    assert await cells.count() == len(CELLS)
    assert await page.locator(".jupyter-widgets").count() == 0
    for width in (NARROW, WIDE):
        await page.set_viewport_size({"width": width, "height": 900})
        for number, name in enumerate(CELLS):
            await assert_readable(cells.nth(number), name, f"papermill_{width}")
