"""Loads in marimo: what its cells show when they have run, and in a browser while they run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.notebook.lab import HOST, free_port, serving
from tests.notebook.looks import FULL, NARROW, WIDE, assert_readable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROWS = 200_000
BEGIN = f"""
import pathlib
import time
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
import dataloader as dl

frame = pd.DataFrame({{"id": range({ROWS})}})
few = frame[:1_000]
"""
CELLS = {
    "kept": "report = await dl.load_dataframe(frame, 'kept')",
    "two": "await dl.load_dataframe(few, 'first')\nawait dl.load_dataframe(frame, 'second')\nNone",
    "shown": "await dl.load_dataframe(frame, 'shown')",
    "run": "dl.run(dl.load_dataframe(frame, 'run'))",
    "job": "job = dl.start_load(frame, 'job')",
    "awaited": "await job",
    "plan": "await dl.plan_load(frame, 'plan')",
    "valid": "report\nawait dl.validate({'id': ['x']}, 'kept', progress='none')",
    "failed": "await dl.load_dataframe({'id': ['x']}, 'failed', dtype={'id': sa.Integer()})",
}
MILLISECONDS = 20_000
SLOW = """
def until_it_is_enough():
    while not pathlib.Path("enough").exists():
        time.sleep(0.02)
        yield pa.record_batch({"id": range(1_000)})

reader = pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), until_it_is_enough())
job = dl.start_load(reader, "job", engine="sqlite:///job.db", chunk_rows=1_000)
"""
MANY = 10_000_000
STOPPED = f"""
job
many = pd.DataFrame({{"id": range({MANY})}})
await dl.load_dataframe(many, "many <i>", commit="chunk", chunk_rows=1_000)  # a minute: longer than all waits
"""

LONG = "a_column_with_a_name_of_sixty_three_characters_as_in_postgresql"
APP = {
    "report": CELLS["kept"],
    "two": CELLS["two"],
    "plan": f"await dl.plan_load(few.rename(columns={{'id': '{LONG}'}}), '{LONG}')",
    "rejects": (
        f"await dl.load_dataframe({{'id': ['1', 'x'], '{LONG}': ['a', 'b']}}, 'messy', "
        f"dtype={{'id': sa.Integer(), '{LONG}': sa.Numeric(10, 2)}}, on_invalid='reject')"
    ),
    "valid": CELLS["valid"],
    "bar": SLOW.replace('"job"', f'"{LONG}"'),
}
PAGES = [("light", NARROW), ("dark", WIDE), *([("dark", NARROW), ("light", WIDE)] if FULL else [])]


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of marimo's, which is a Python file."""
    bodies = (f"@app.cell\nasync def _():\n{textwrap.indent(cell, '    ')}\n" for cell in cells)
    path.write_text("\n\n".join(["import marimo\n\napp = marimo.App()", *bodies, "app.run()"]))


def environment(folder: Path) -> dict[str, str]:
    """That of a marimo whose settings are its own, and whose kernels choose the view."""
    own = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATALOADER_")}
    return kept | own | {"DATALOADER_URL": f"sqlite:///{folder}/loads.db"}


def marimo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    environ = environment(folder)
    return subprocess.run(command, check=False, env=environ, cwd=folder, capture_output=True, text=True, timeout=60)


def stored(folder: Path, table: str, file: str = "loads.db") -> int:
    with contextlib.closing(sqlite3.connect(folder / file)) as connection:
        return int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marimo")


@pytest.fixture(scope="module")
def shown(folder: Path) -> dict[str, Any]:
    """The cells of a notebook that marimo has run: their outputs, and what is in their consoles."""
    write_notebook(folder / "loads.py", BEGIN, *CELLS.values())
    marimo(folder, "-m", "marimo", "export", "session", "loads.py")
    session = json.loads((folder / "__marimo__" / "session" / "loads.py.json").read_text())
    return dict(zip(CELLS, session["cells"][1:], strict=True))


def output(cell: dict[str, Any]) -> str:
    return "".join(cell["outputs"][0]["data"].values())


def console(cell: dict[str, Any]) -> str:
    return "".join(line["text"] for line in cell["console"])


@pytest.mark.parametrize("name", ["kept", "job"])
def test_a_cell_shows_how_its_load_ended_and_writes_nothing_to_its_console(
    name: str, shown: dict[str, Any], folder: Path
) -> None:
    assert f">✓</b> <b>{ROWS:,} rows</b> · <code>DataFrame → " in output(shown[name])
    assert console(shown[name]) == ""
    assert stored(folder, name) == ROWS


def test_a_cell_of_two_loads_shows_both(shown: dict[str, Any]) -> None:
    assert re.findall(r">✓</b> <b>[\d,]+ rows</b> · <code>DataFrame → (\w+)", output(shown["two"])) == [
        "first",
        "second",
    ]


@pytest.mark.parametrize("name", ["shown", "run", "awaited"])
def test_a_report_takes_the_place_of_the_bar(name: str, shown: dict[str, Any]) -> None:
    assert output(shown[name]).count(f"<b>{ROWS:,} rows</b>") == 1


def test_a_plan_and_a_validation_are_shown_as_html(shown: dict[str, Any]) -> None:
    assert "<table" in output(shown["plan"])
    assert ">invalid</b> 1 of 1 row of" in output(shown["valid"])


def test_a_load_that_fails_leaves_its_error_in_the_cell(shown: dict[str, Any]) -> None:
    assert "row 0, column 'id': 'x' does not fit INTEGER" in shown["failed"]["outputs"][0]["evalue"]


def test_a_notebook_run_as_a_script_logs_as_any_script_does(folder: Path) -> None:
    write_notebook(folder / "script.py", BEGIN, CELLS["kept"].replace("'kept'", "'script'"))
    ran = marimo(folder, "script.py")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert all(line.startswith("DataFrame → script: ") for line in ran.stderr.splitlines())
    assert f"done 100% {ROWS:,} of {ROWS:,} rows" in ran.stderr
    assert stored(folder, "script") == ROWS


@contextlib.contextmanager
def opened(how: str, folder: Path, settings: str, *cells: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """marimo's editor, or an app, with a notebook that runs as soon as it is opened."""
    write_notebook(folder / "slow.py", BEGIN, *cells)
    path = folder / "config" / "marimo" / "marimo.toml"
    path.parent.mkdir(parents=True)
    path.write_text(settings)
    address = f"http://{HOST}:{(port := free_port())}"
    command = [sys.executable, "-m", "marimo", how, "slow.py", f"--port={port}", f"--host={HOST}"]
    command += ["--headless", "--no-token", *options]
    with serving(command, folder / "log", f"{address}/health", cwd=folder, env=environment(folder)):
        yield address


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The editor."""
    settings = "[runtime]\nauto_instantiate = true\n"
    with opened("edit", tmp_path, settings, SLOW, STOPPED, options=("--skip-update-check",)) as address:
        yield address


@pytest.fixture
def app(tmp_path: Path) -> Iterator[str]:
    """The notebook as those see it who read its results alone; marimo shows them no error of a cell."""
    with opened("run", tmp_path, '[display]\ntheme = "system"\n', *APP.values()) as address:
        yield address


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    page = await browser.new_page(viewport={"width": 1100, "height": 1200})
    yield page
    if kept := os.environ.get("DATALOADER_ARTIFACTS"):
        await page.screenshot(path=Path(kept) / "marimo.png")


async def rows_in(bar: Locator) -> int:
    await bar.wait_for(timeout=MILLISECONDS)
    return number_of(r"([\d,]+)(?: of [\d,]+)? rows", await bar.inner_text())


def number_of(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None
    return int(found[1].replace(",", ""))


async def test_the_bars_move_and_stop_ends_a_cell_that_says_what_is_committed(
    address: str, page: Page, tmp_path: Path
) -> None:
    await page.goto(address)
    many = page.get_by_text(re.compile(rf"[1-9][\d,]* of {MANY:,} rows"))
    job = page.get_by_text(re.compile(r"^[1-9][\d,]* rows ·"))
    before = await rows_in(many), await rows_in(job)
    await asyncio.sleep(1)
    assert await rows_in(many) > before[0]
    assert await rows_in(job) > before[1]
    await expect(page.get_by_text("loading DataFrame → many <i>")).to_be_visible()
    await page.get_by_test_id("interrupt-button").click()
    told = page.get_by_text(
        re.compile(r"rows are committed; continue with await load_dataframe")
    ).first  # also in the console, in time
    await told.wait_for(timeout=MILLISECONDS)
    rows = number_of(r"([\d,]+) rows are committed", await told.inner_text())
    assert 0 < rows < MANY
    assert stored(tmp_path, "many <i>") == rows
    (tmp_path / "enough").touch()
    done = page.get_by_text(re.compile(r"✓ [\d,]+ rows · Arrow stream → job"))
    rows = await rows_in(done)
    assert stored(tmp_path, "job", "job.db") == rows > 0


async def test_an_app_can_be_read_and_a_bar_of_unknown_length_moves(app: str, page: Page) -> None:
    await page.goto(app)
    await page.get_by_text(re.compile(r"^[1-9][\d,]* rows · .*/s")).wait_for(timeout=MILLISECONDS)
    outputs = page.locator(".output-area").filter(has_text=re.compile(r"\w"))
    assert await outputs.count() == len(APP)
    bar = outputs.last.get_by_role("progressbar")
    assert len({await bar.screenshot() for _ in range(5)}) > 1
    for theme, width in PAGES:
        await page.emulate_media(color_scheme=theme)
        await page.set_viewport_size({"width": width, "height": 900})
        for number, name in enumerate(APP):
            await assert_readable(outputs.nth(number), name, f"marimo_{theme}_{width}", blocks=1 + (name == "two"))
