"""Loads in JupyterLab and Notebook 7, in a real browser: what an analyst sees, presses, saves and opens again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, async_playwright, expect

from tests.notebook.lab import ARGUMENTS, HOST, PAGES, TOKEN, Notebook, jupyter, write_notebook
from tests.notebook.looks import FULL, NARROW, WIDE, assert_readable

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.serial]

ROOT = Path(__file__).parents[2]
BATCHES, BATCH_ROWS = 50, 1_000
ROWS = BATCHES * BATCH_ROWS
HEIGHT = 900
BEGIN = f"""
import asyncio, time
import pyarrow as pa
import dataloader as dl
%load_ext dataloader

def batch(number):
    return pa.record_batch({{"id": range(number * {BATCH_ROWS}, (number + 1) * {BATCH_ROWS})}})

async def slow_batches():
    for number in range({BATCHES}):
        await asyncio.sleep(0.05)
        yield batch(number)

def batches_in_a_thread():
    for number in range({BATCHES}):
        time.sleep(0.05)
        yield batch(number)

def broken():
    yield batch(0)
    raise OSError("the disk is gone: /data/a_folder_with_a_long_name/of_orders/2026-01.parquet could not be read")

def slow_reader():
    return pa.RecordBatchReader.from_batches(batch(0).schema, batches_in_a_thread())
"""
LOAD = f"await dl.load_batches(slow_batches(), 'orders', commit='chunk', chunk_rows={BATCH_ROWS}, resume=True)"
JOB = f"job = dl.start_load(slow_reader(), 'orders', commit='chunk', chunk_rows={BATCH_ROWS})"
FAILING = {
    "option": f"await dl.load_batches([batch(0)], 'few', if_exist='replace', chunk_rows={BATCH_ROWS})",
    "source": "await dl.load_batches(broken(), 'a_table_whose_name_takes_all_the_63_bytes_that_postgresql_allows')",
    "printed": "print(await dl.plan_load(pa.table([[1]], ['id']), 'few'))",
}
FEW = f"await dl.load_batches([batch(0)], 'few', commit='chunk', chunk_rows={BATCH_ROWS})"
FRAME_ROWS = 2_000_000
FRAME = f"""
import pandas as pd
import dataloader as dl

orders = pd.DataFrame({{"id": range({FRAME_ROWS})}})
orders["amount"] = orders["id"] % 10_000 / 100
"""

Opener = Callable[..., Awaitable[Notebook]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What JupyterLab serves."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab(chromium: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where JupyterLab has the pages of notebooks; its kernels import the package beside these tests."""
    program = getattr(request, "param", "jupyterlab")
    environment = {"PYTHONPATH": str(ROOT), "DATALOADER_PROGRESS": "auto", "DATALOADER_URL": "sqlite:///dataloader.db"}
    with jupyter(folder, program, PYDEVD_DISABLE_FILE_VALIDATION="1", **environment) as address:
        yield f"{address}/{PAGES[program]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[BrowserContext]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield await browser.new_context(viewport={"width": 1200, "height": HEIGHT}, device_scale_factor=2)
        await browser.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Where screenshots are kept."""
    kept = Path(os.environ.get("DATALOADER_ARTIFACTS") or tmp_path)
    kept.mkdir(parents=True, exist_ok=True)
    return kept


@pytest.fixture
def place(folder: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of the test's notebook and database."""
    return folder / re.sub(r"\W+", "_", request.node.name)


@pytest_asyncio.fixture(loop_scope="module")
async def open_notebook(lab: str, place: Path, browser: BrowserContext, artifacts: Path) -> AsyncIterator[Opener]:
    """Opens a notebook of some cells; at the end nothing has gone wrong in the page, and nothing has left it."""
    page = await browser.new_page()
    notebook = Notebook(page, f"{lab}/{place.name}/loads.ipynb?token={TOKEN}&reset")

    async def opened(*cells: str, width: int | None = None) -> Notebook:
        if width is not None:
            await page.set_viewport_size({"width": width, "height": HEIGHT})
        write_notebook(place / "loads.ipynb", *cells)
        await notebook.open()
        await notebook.run(0)
        return notebook

    yield opened
    await notebook.screenshot(artifacts / f"{place.name}.png")
    await notebook.shut_down()
    await page.close()
    assert notebook.hosts == {HOST}
    assert notebook.errors == []


def stored(place: Path) -> tuple[int, int]:
    """How many rows the table holds, and how many different ones."""
    with contextlib.closing(sqlite3.connect(place / "dataloader.db")) as connection:
        rows, different = connection.execute("SELECT count(*), count(DISTINCT id) FROM orders").fetchone()
    return int(rows), int(different)


async def assert_moves(notebook: Notebook, number: int) -> None:
    """Between two looks rows have come to the live widget."""
    before = await notebook.until_rows(number, 1)
    await asyncio.sleep(0.5)
    await expect(notebook.bar(number)).to_be_visible()
    assert await notebook.until_rows(number, 1) > before


async def assert_static(notebook: Notebook, number: int, phase: str) -> None:
    """The live widget has given way to HTML."""
    await expect(notebook.output(number).locator(".jupyter-widgets")).to_have_count(0)
    assert phase in await notebook.text(number)


async def test_the_bar_moves_while_a_cell_loads_and_static_html_takes_its_place(
    open_notebook: Opener, place: Path
) -> None:
    notebook = await open_notebook(BEGIN, LOAD)
    await notebook.start(1)
    await assert_moves(notebook, 1)
    assert not await notebook.has_ended(1)
    await notebook.until_ended(1)
    await assert_static(notebook, 1, f"✓ {ROWS:,} rows · ")
    assert (await notebook.text(1)).count(f"{ROWS:,} rows") == 1
    assert stored(place) == (ROWS, ROWS)


@pytest.mark.parametrize("button", ["Cancel", "■"], ids=["cancel", "stop"])
async def test_a_button_ends_a_cell_without_a_traceback_and_the_cell_run_again_loads_the_rest(
    button: str, open_notebook: Opener, place: Path
) -> None:
    notebook = await open_notebook(BEGIN, LOAD)
    await notebook.start(1)
    await notebook.until_rows(1, 5 * BATCH_ROWS)
    assert await (notebook.cancel(1) if button == "Cancel" else notebook.stop(1)) < 1
    await assert_static(notebook, 1, "cancelled")
    there, _ = stored(place)
    assert 0 < there < ROWS
    error = await notebook.error(1)
    assert f"{there:,} rows are committed; continue with await load_batches(" in " ".join(error.split())
    assert "Traceback" not in error
    assert max(map(len, error.split("\n"))) <= 80
    assert f"an earlier run committed {there:,} rows" in await notebook.run(1)
    assert stored(place) == (ROWS, ROWS)


async def test_a_background_load_moves_on_while_another_cell_blocks(open_notebook: Opener, place: Path) -> None:
    notebook = await open_notebook(BEGIN, JOB, "time.sleep(2)", "(await job).loaded")
    await notebook.run(1)
    await notebook.start(2)
    await assert_moves(notebook, 1)
    assert not await notebook.has_ended(2)
    await notebook.until_shown(1, f"✓ {ROWS:,} rows")
    await assert_static(notebook, 1, "✓")
    assert (await notebook.run(3)).endswith(str(ROWS))
    assert stored(place) == (ROWS, ROWS)


async def test_a_saved_notebook_shows_its_results_when_it_is_opened_without_its_kernel(
    open_notebook: Opener, place: Path
) -> None:
    numbers = LOADED, BEGUN, AWAITED, CANCELLED = 1, 2, 3, 4
    notebook = await open_notebook(BEGIN, FEW, JOB, "await job", LOAD.replace("orders", "others"))
    for number in (LOADED, BEGUN, AWAITED):
        await notebook.run(number)
    await notebook.start(CANCELLED)
    await notebook.until_rows(CANCELLED, 1)
    await notebook.cancel(CANCELLED)
    shown = {number: await notebook.text(number) for number in numbers}
    await notebook.save()
    await notebook.shut_down()
    await notebook.open()
    for number, text in shown.items():
        await expect(notebook.output(number)).to_have_text(text, use_inner_text=True)
    for number, phase in {LOADED: "✓", BEGUN: "✓", AWAITED: "✓", CANCELLED: "cancelled"}.items():
        await assert_static(notebook, number, phase)
    assert "widget-view" not in (place / "loads.ipynb").read_text()


async def test_the_bar_of_a_frame_fills_and_gives_way_to_the_report(
    open_notebook: Opener, place: Path, artifacts: Path
) -> None:
    """README's pictures."""
    notebook = await open_notebook(FRAME, 'await dl.load_dataframe(orders, "orders")')
    await notebook.start(1)
    await notebook.until_filled(1, 0.4)
    await notebook.picture(1, artifacts / "notebook_loading.png")
    await notebook.until_ended(1)
    await notebook.picture(1, artifacts / "notebook_done.png")
    await assert_static(notebook, 1, "✓")
    assert stored(place) == (FRAME_ROWS, FRAME_ROWS)


async def test_errors_and_texts_stay_in_their_cells_on_a_narrow_page(open_notebook: Opener) -> None:
    notebook = await open_notebook(BEGIN, *FAILING.values(), LOAD, width=NARROW)
    await notebook.hide_files()
    for number, name in enumerate(FAILING, start=1):
        await notebook.run(number)
        await assert_readable(notebook.output(number), name, f"lab_{NARROW}")
    last = len(FAILING) + 1
    await notebook.start(last)
    await assert_moves(notebook, last)
    await assert_readable(notebook.output(last), "bar", f"lab_{NARROW}")
    await notebook.cancel(last)
    await assert_readable(notebook.output(last), "cancelled", f"lab_{NARROW}")


@pytest.mark.parametrize("lab", ["notebook"], indirect=True)
@pytest.mark.parametrize("width", [NARROW, *([WIDE] if FULL else [])])
async def test_a_load_in_notebook_7_shows_its_bar_is_cancelled_and_ends_with_its_report(
    width: int, open_notebook: Opener, place: Path
) -> None:
    notebook = await open_notebook(BEGIN, LOAD, width=width)
    await notebook.start(1)
    await assert_moves(notebook, 1)
    await assert_readable(notebook.output(1), "bar", f"notebook_{width}")
    assert await notebook.cancel(1) < 1
    await assert_static(notebook, 1, "cancelled")
    await assert_readable(notebook.output(1), "cancelled", f"notebook_{width}")
    assert "rows are committed; continue with" in " ".join((await notebook.error(1)).split())
    await notebook.run(1)
    await assert_static(notebook, 1, "✓")
    await assert_readable(notebook.output(1), "report", f"notebook_{width}")
    assert stored(place) == (ROWS, ROWS)
