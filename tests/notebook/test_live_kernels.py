"""Cancel and the stop button in a live kernel, while a cell loads into a table that is slow to fill."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database import engine as engines
from tests.conftest import FULL, execute, fetch
from tests.notebook.kernels import Cell, Kernel, kinds

pytestmark = [pytest.mark.slow, pytest.mark.serial]

TIMES = 20 if FULL else 1
FOLDER = os.environ.get("DATALOADER_IPYKERNELS", "")
KERNELS = ["newest", *sorted(os.listdir(FOLDER) if FOLDER else ())]
ROOT = Path(__file__).parents[2]
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
%load_ext dataloader
frame = pd.DataFrame({{"id": range({ROWS})}})
"""
AT_ONCE = "await dl.load_dataframe(frame, 'orders', engine=engine)"
BY_CHUNKS = "await dl.load_dataframe(frame, 'orders', engine=engine, commit='chunk', chunk_rows=5_000, resume=True)"


def on_every_kernel(**codes: str) -> pytest.MarkDecorator:
    """Each code on the newest kernel, the first one on older ones too; in full each on each."""
    cases = [
        pytest.param(kernel, code, id=f"{name}-{kernel}")
        for kernel in KERNELS
        for name, code in codes.items()
        if FULL or kernel == "newest" or name == next(iter(codes))
    ]
    return pytest.mark.parametrize(("ipykernel", "code"), cases, indirect=["ipykernel"])


@pytest.fixture
async def onlooker(postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """The database, with the slow table in it."""
    onlooker = engines.open_engine(postgres_url)
    await execute(onlooker, *SLOW)
    yield onlooker
    await onlooker.dispose()


@pytest.fixture(params=KERNELS if FULL else ["newest"])
def ipykernel(request: pytest.FixtureRequest) -> str:
    """The newest, or an older one in the folder of $DATALOADER_IPYKERNELS."""
    return str(request.param)


@pytest.fixture
def kernel(ipykernel: str, postgres_url: sa.URL, onlooker: AsyncEngine) -> Iterator[Kernel]:
    url = postgres_url.render_as_string(hide_password=False)
    older = {} if ipykernel == "newest" else {"PYTHONPATH": f"{FOLDER}/{ipykernel}:{ROOT}"}
    with Kernel(DATALOADER_URL=url, DATALOADER_PROGRESS="auto", **older) as kernel:
        assert kernel.run(BEGIN).error is None
        yield kernel


def loading(kernel: Kernel, code: str) -> Cell:
    """Start a cell that loads, and let rows arrive."""
    kernel.widgets.clear()
    cell = kernel.start(code)
    kernel.until(lambda: kernel.shows(">loading</b>"))
    return cell


def assert_static(cell: Cell) -> None:
    """The live view has given way to what a saved notebook keeps."""
    assert [list(kinds(data)) for data in cell.displays] == [["text/html", "text/plain"]]


async def rows(onlooker: AsyncEngine) -> int:
    return int((await fetch(onlooker, "SELECT count(*) FROM orders"))[0][0])


async def assert_ended_in_one_line(kernel: Kernel, cell: Cell, error: str, onlooker: AsyncEngine) -> None:
    """The cell ends within a second, in one line that says what the table holds, and the pool is whole."""
    assert kernel.until_ended(cell) < 1
    assert cell.error == error
    assert len(cell.traceback) == 1
    there = await rows(onlooker)
    assert (f"{there:,} rows are committed; continue with" if there else "Nothing was written") in cell.traceback[0]
    assert_static(cell)
    assert kernel.run("engine.pool.checkedout()").displays[0]["text/plain"] == "0"


@on_every_kernel(by_chunks=BY_CHUNKS, at_once=AT_ONCE)
async def test_the_cancel_button_ends_an_awaiting_cell_in_one_line(
    code: str, ipykernel: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    """An ipykernel before 7 hears a click when the cell has ended, so there is no button, but advice."""
    if ipykernel.startswith("6"):
        cell = loading(kernel, code)
        assert not kernel.has_button("Cancel")
        assert kernel.shows("Interrupt the kernel to cancel")
        kernel.stop()
        kernel.until_ended(cell)
        return
    for _ in range(TIMES):
        cell = loading(kernel, code)
        kernel.click("Cancel")
        await assert_ended_in_one_line(kernel, cell, "LoadCancelled", onlooker)


@pytest.mark.parametrize("ipykernel", ["newest"], indirect=True)
async def test_a_click_from_a_front_end_without_subshells_is_heard_as_well(
    ipykernel: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    """That of VS Code, and of Colab. An ipykernel before 7.4 hears it when the cell has ended; ■ works there too."""
    cell = loading(kernel, AT_ONCE)
    kernel.click("Cancel", in_subshell=False)
    await assert_ended_in_one_line(kernel, cell, "LoadCancelled", onlooker)


@on_every_kernel(by_chunks=BY_CHUNKS, at_once=AT_ONCE)
async def test_the_stop_button_ends_an_awaiting_cell_in_one_line(
    code: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    for _ in range(TIMES):
        cell = loading(kernel, code)
        kernel.stop()
        await assert_ended_in_one_line(kernel, cell, "CancelledError", onlooker)


RUN = "dl.run(dl.load_dataframe(frame, 'orders', engine=os.environ['DATALOADER_URL']))"
NESTED = f"dl.run({AT_ONCE.removeprefix('await ')}, nested=True)"


@on_every_kernel(run=RUN, nested=NESTED, magic="%dataload frame orders")
async def test_the_stop_button_ends_a_cell_that_waits_for_run(code: str, kernel: Kernel, onlooker: AsyncEngine) -> None:
    for _ in range(TIMES):
        cell = loading(kernel, code)
        kernel.stop()
        assert kernel.until_ended(cell) < 1
        assert cell.error == "KeyboardInterrupt"
        assert cell.traceback == ["Interrupted. Nothing was written"]
        assert await rows(onlooker) == 0
        assert_static(cell)


async def test_a_report_stands_once_in_the_cell_of_its_load_and_again_in_another_one(
    kernel: Kernel, onlooker: AsyncEngine
) -> None:
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    cell = kernel.run(f"report = {AT_ONCE}\nreport")
    assert_static(cell)
    assert f"{ROWS:,} rows loaded from DataFrame" in kernel.text_of(cell)
    again = kernel.run("report")
    assert [list(kinds(data)) for data in again.displays] == [["text/html", "text/plain"]]
    assert again.displays[0]["text/html"] == cell.displays[0]["text/html"]


async def test_the_buttons_pause_and_resume_the_load_of_an_awaiting_cell(kernel: Kernel, onlooker: AsyncEngine) -> None:
    cell = loading(kernel, BY_CHUNKS.replace("5_000", "500"))
    kernel.click("Pause")
    kernel.until(lambda: kernel.shows(">paused</b>"))
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    before = await rows(onlooker)
    kernel.click("Resume")
    kernel.until_ended(cell)
    assert cell.error is None
    assert before < await rows(onlooker) == ROWS


BACKEND = """
import sqlalchemy as sa
async def backend(engine):
    async with engine.connect() as connection:
        return (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
own = dl.connect(os.environ["DATALOADER_URL"], pool_size=2)
"""


async def test_run_uses_one_connection_from_cell_to_cell(kernel: Kernel, onlooker: AsyncEngine) -> None:
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    kernel.run(BACKEND)
    first = kernel.run("dl.run(backend(own))")
    assert kernel.run(RUN.replace("os.environ['DATALOADER_URL']", "own")).error is None
    assert kernel.run(AT_ONCE).error is None
    again = kernel.run("dl.run(backend(own))")
    assert first.displays == again.displays != []
    assert await rows(onlooker) == 2 * ROWS


async def test_an_engine_of_the_kernels_loop_is_taken_by_run_and_by_a_nested_one(
    kernel: Kernel, onlooker: AsyncEngine
) -> None:
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    assert kernel.run(AT_ONCE).error is None
    for loading in (NESTED.replace(", nested=True", ""), NESTED):
        assert kernel.run(f"({loading}).loaded").displays[-1]["text/plain"] == str(ROWS)
    assert await rows(onlooker) == 3 * ROWS
    assert kernel.run("(await dl.load_history(engine)).empty").displays[0]["text/plain"] == "True"


@on_every_kernel(by_chunks=BY_CHUNKS)
async def test_a_cell_that_was_stopped_finishes_the_load_when_it_is_run_again(
    code: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    cell = loading(kernel, code)
    kernel.stop()
    kernel.until_ended(cell)
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    again = kernel.run(code)
    assert again.error is None
    found = await fetch(onlooker, "SELECT count(*), count(DISTINCT id) FROM orders")
    assert found == [(ROWS, ROWS)]


JOB = "job = dl.start_load(frame, 'orders', engine=os.environ['DATALOADER_URL'])"


def begun(kernel: Kernel) -> Cell:
    """A cell that has started a background load, and ended at once."""
    kernel.widgets.clear()
    cell = kernel.run(JOB)
    assert cell.error is None
    kernel.until(lambda: kernel.shows(">loading</b>"))
    return cell


@on_every_kernel(job=JOB.replace("frame", "pd.concat([frame] * 10)"))
async def test_a_background_load_moves_on_while_another_cell_blocks(
    code: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    cell = kernel.run(code)
    kernel.run("import time; time.sleep(3)")
    assert kernel.run("job.done()").displays[0]["text/plain"] == "True"
    assert await rows(onlooker) == 10 * ROWS
    assert_static(cell)
    assert kernel.run("(await job).loaded").displays[-1]["text/plain"] == str(10 * ROWS)


@pytest.mark.parametrize("way", ["click", "call"])
async def test_a_background_load_is_cancelled_by_its_button_and_by_call(
    way: str, kernel: Kernel, onlooker: AsyncEngine
) -> None:
    for _ in range(TIMES):
        cell = begun(kernel)
        if way == "click":
            kernel.click("Cancel")
        else:
            kernel.run("job.cancel()")
        assert kernel.until(lambda: "cancelled" in kernel.text_of(cell)) < 1  # noqa: B023 - called at once
        ended = kernel.run("await job")
        assert (ended.error, len(ended.traceback)) == ("LoadCancelled", 1)
        assert_static(cell)
        assert await rows(onlooker) == 0


async def test_the_stop_button_ends_the_wait_for_a_background_load_and_not_the_load(
    kernel: Kernel, onlooker: AsyncEngine
) -> None:
    begun(kernel)
    waiting = kernel.start("print('waits')\nawait job")
    kernel.until(lambda: "waits" in waiting.text)
    kernel.stop()
    assert kernel.until_ended(waiting) < 1
    assert waiting.error == "CancelledError"
    assert kernel.run("job.done()").displays[0]["text/plain"] == "False"
    kernel.run("job.cancel()")


async def test_a_paused_background_load_stores_nothing_until_it_is_resumed(
    kernel: Kernel, onlooker: AsyncEngine
) -> None:
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    begun_by_chunks = JOB.removesuffix(")") + ", commit='chunk', chunk_rows=500)"
    assert kernel.run(f"{begun_by_chunks}\njob.pause()").error is None
    kernel.until(lambda: kernel.shows(">paused</b>"))
    kernel.run("import time; time.sleep(0.5)")
    before = await rows(onlooker)
    kernel.run("import time; time.sleep(0.5)")
    assert await rows(onlooker) == before < ROWS
    assert kernel.run("job.resume()\n(await job).loaded").displays[-1]["text/plain"] == str(ROWS)
    assert await rows(onlooker) == ROWS


async def test_without_ipywidgets_the_bar_is_html(kernel: Kernel, onlooker: AsyncEngine) -> None:
    await execute(onlooker, "DROP TRIGGER slow ON orders")
    cell = kernel.run(f"import sys; sys.modules['ipywidgets'] = None\n({AT_ONCE}).loaded")
    assert cell.error is None
    assert not kernel.widgets
    assert [list(kinds(data)) for data in cell.displays] == [["text/html", "text/plain"], ["text/plain"]]
    assert f"{ROWS:,} rows loaded from DataFrame" in kernel.text_of(cell)
