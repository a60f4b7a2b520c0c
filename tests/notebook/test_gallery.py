"""Every display as a reader of the notebook sees it: on a narrow page and a wide one, light and dark.

The notebook is run once and becomes a page of HTML without a kernel, as nbconvert makes it; a cell is one block. With
``DATALOADER_GALLERY=full`` the same notebook, which nobody has vouched for, is opened in JupyterLab as well: its styles
are filtered there. Pictures of every cell are kept in ``DATALOADER_ARTIFACTS``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from playwright.async_api import Browser, Page

from dataloader.database import embedded
from tests.conftest import new_database
from tests.notebook.gallery import BEGIN, CELLS, OF_PANDAS, RAISING
from tests.notebook.lab import KERNEL, TOKEN, jupyter
from tests.notebook.looks import FULL, NARROW, WIDE, as_page, assert_readable

if TYPE_CHECKING:
    import nbformat  # takes more than a second

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = [("light", WIDE), ("dark", NARROW), *([("light", NARROW), ("dark", WIDE)] if FULL else [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gallery")


@pytest.fixture(scope="module")
def gallery(folder: Path, server: embedded.Server, admin: psycopg.Connection) -> nbformat.NotebookNode:
    """The notebook with all its outputs; it is kept as `gallery.ipynb`."""
    import nbformat
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(code) for code in (BEGIN, *CELLS.values())]
    notebook = nbformat.v4.new_notebook(metadata=KERNEL, cells=cells)
    with new_database(server, admin) as url:
        own = {"DATALOADER_URL": url.render_as_string(), "DATALOADER_PROGRESS": "auto", "PYTHONPATH": str(ROOT)}
        client = NotebookClient(notebook, timeout=60, allow_errors=True, record_timing=False)
        client.execute(env=os.environ | own | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    notebook.metadata.pop("widgets", None)  # as JupyterLab saves it
    nbformat.write(notebook, folder / "gallery.ipynb")
    return notebook


def test_every_cell_ends_as_it_was_meant_to(gallery: nbformat.NotebookNode) -> None:
    _, *cells = gallery.cells
    failed = {
        name
        for name, cell in zip(CELLS, cells, strict=True)
        if any(output.output_type == "error" for output in cell.outputs)
    }
    assert failed == RAISING


def test_an_error_is_told_in_lines_of_a_terminal_and_shows_none_of_our_frames(gallery: nbformat.NotebookNode) -> None:
    errors = ["\n".join(one.traceback) for cell in gallery.cells for one in cell.outputs if "traceback" in one]
    assert len(errors) == len(RAISING)
    assert max(len(line) for error in errors for line in error.split("\n")) <= 80
    assert not any("/dataloader/" in error for error in errors)
    assert any("Cell In[1], line 28, in broken" in error for error in errors)


@pytest.mark.parametrize(("theme", "width"), PAGES)
async def test_a_page_of_the_notebook_can_be_read(
    theme: str, width: int, gallery: nbformat.NotebookNode, folder: Path, browser: Browser
) -> None:
    page = await browser.new_page(viewport={"width": width, "height": 900})
    await page.goto(f"file://{as_page(folder / 'gallery.ipynb', theme)}")
    cells = page.locator(".jp-Cell-outputWrapper")
    shown = [name for name, cell in zip(CELLS, gallery.cells[1:], strict=True) if cell.outputs]
    assert await cells.count() == len(shown)
    for number, name in enumerate(shown):
        if name not in OF_PANDAS:
            await assert_readable(cells.nth(number), name, f"page_{theme}_{width}")


@pytest.mark.skipif(not FULL, reason="a minute: DATALOADER_GALLERY=full")
@pytest.mark.usefixtures("gallery")
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_notebook_that_nobody_has_vouched_for_can_be_read_in_jupyterlab(
    theme: str, folder: Path, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "gallery.ipynb").write_bytes((folder / "gallery.ipynb").read_bytes())
    with jupyter(tmp_path, PYTHONPATH=str(ROOT)) as address:
        settings = tmp_path / ".jupyterlab/settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
        settings.write_text(json.dumps({"theme": f"JupyterLab {theme.title()}"}))
        for width in (WIDE, NARROW):
            page = await browser.new_page(viewport={"width": width, "height": 1000})
            await page.goto(f"{address}/doc/tree/gallery.ipynb?token={TOKEN}&reset")
            await look_at_cells(page, f"lab_{theme}_{width}")
            await page.close()


async def look_at_cells(page: Page, place: str) -> None:
    """JupyterLab draws the cells that are in view, so each is brought there."""
    await page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length", timeout=40_000)
    for number, name in enumerate(CELLS, start=1):
        await page.evaluate("at => window.jupyterapp.shell.currentWidget.content.scrollToItem(at, 'start')", number)
        cell = page.locator(f".jp-CodeCell[data-windowed-list-index='{number}'] .jp-Cell-outputArea")
        await cell.wait_for()
        if name not in OF_PANDAS:
            await assert_readable(cell, name, place)
