"""Cancel and the stop button in a live kernel, while a cell loads into a table that is slow to fill."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader import engine as engines
from tests.conftest import execute, fetch
from tests.notebook.kernels import Cell, Kernel, kinds

TIMES = 20 if os.environ.get("DATALOADER_FAULTS") == "full" else 2
ROWS = 200_000
SLOW = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN IF NEW.id % 100 = 0 THEN PERFORM pg_sleep(0.01); END IF; RETURN NEW; END$$",
    "CREATE TABLE orders (id bigint)",
    "CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()",
)
BEGIN = f"""
import os
import pandas as pd
import dataloader as dl
engine = dl.connect(os.environ["DATALOADER_URL"])
frame = pd.DataFrame({{"id": range({ROWS})}})
"""
AT_ONCE = "await dl.load_dataframe(frame, 'orders', engine=engine)"
BY_CHUNKS = "await dl.load_dataframe(frame, 'orders', engine=engine, commit='chunk', chunk_rows=5_000, resume=True)"


@pytest.fixture
async def onlooker(postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """The database, with the slow table in it."""
    onlooker = engines.open_engine(postgres_url)
    await execute(onlooker, *SLOW)
    yield onlooker
    await onlooker.dispose()


@pytest.fixture
def kernel(postgres_url: sa.URL, onlooker: AsyncEngine) -> Iterator[Kernel]:
    url = postgres_url.render_as_string(hide_password=False)
    with Kernel(DATALOADER_URL=url, DATALOADER_PROGRESS="auto") as kernel:
        assert kernel.run(BEGIN).error is None
        yield kernel


def loading(kernel: Kernel, code: str) -> Cell:
    """Start a cell that loads, and let rows arrive."""
    kernel.widgets.clear()
    cell = kernel.start(code)
    kernel.until(lambda: kernel.shows("<b>loading</b>"))
    return cell


def assert_static(cell: Cell) -> None:
    """The live view has given way to what a saved notebook keeps."""
    assert [list(kinds(data)) for data in cell.displays] == [["text/html", "text/plain"]]


async def rows(onlooker: AsyncEngine) -> int:
    return int((await fetch(onlooker, "SELECT count(*) FROM orders"))[0][0])


@pytest.mark.parametrize("code", [AT_ONCE, BY_CHUNKS], ids=["at once", "by chunks"])
async def test_the_cancel_button_ends_an_awaiting_cell_in_one_line(
    code: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    for _ in range(TIMES):
        cell = loading(kernel, code)
        kernel.click("Cancel")
        assert kernel.until_ended(cell) < 1
        assert cell.error == "LoadCancelled"
        assert len(cell.traceback) == 1
        assert await said(cell, onlooker)
        assert_static(cell)
        assert kernel.run("engine.pool.checkedout()").displays[0]["text/plain"] == "0"


@pytest.mark.parametrize("code", [AT_ONCE, BY_CHUNKS], ids=["at once", "by chunks"])
async def test_the_stop_button_ends_an_awaiting_cell_in_one_line(
    code: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    for _ in range(TIMES):
        cell = loading(kernel, code)
        kernel.stop()
        assert kernel.until_ended(cell) < 1
        assert cell.error == "CancelledError"
        assert len(cell.traceback) == 1
        assert await said(cell, onlooker)
        assert_static(cell)
        assert kernel.run("engine.pool.checkedout()").displays[0]["text/plain"] == "0"


async def said(cell: Cell, onlooker: AsyncEngine) -> bool:
    """Whether the one line says what the table holds."""
    there = await rows(onlooker)
    return (f"{there:,} rows are committed; go on with" if there else "Nothing was written") in cell.traceback[0]


async def test_the_stop_button_ends_a_cell_that_waits_for_run(kernel: Kernel, onlooker: AsyncEngine) -> None:
    for _ in range(TIMES):
        cell = loading(kernel, "dl.run(dl.load_dataframe(frame, 'orders', engine=os.environ['DATALOADER_URL']))")
        kernel.stop()
        assert kernel.until_ended(cell) < 1
        assert cell.error == "KeyboardInterrupt"
        assert await rows(onlooker) == 0
        assert_static(cell)


async def test_a_cell_that_was_cancelled_finishes_the_load_when_it_is_run_again(
    kernel: Kernel, onlooker: AsyncEngine
) -> None:
    cell = loading(kernel, BY_CHUNKS)
    kernel.click("Cancel")
    kernel.until_ended(cell)
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    again = kernel.run(BY_CHUNKS)
    assert again.error is None
    found = await fetch(onlooker, "SELECT count(*), count(DISTINCT id) FROM orders")
    assert found == [(ROWS, ROWS)]
