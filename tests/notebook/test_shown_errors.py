"""Errors in a live kernel: an error output of two lines, whichever way a load has gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.slow

BEGIN = """
import dataloader as dl

def batches(*numbers):
    import pyarrow as pa
    for number in numbers:
        yield pa.table({"id": [str(number)]}).to_batches()[0]

def broken():
    yield from batches(1, 2, 3)
    raise OSError("the disk is gone")

async def chunks(data, table="numbers", **options):
    return await dl.load_batches(data, table, commit="chunk", chunk_rows=1, **options)

await dl.load_dataframe({"id": [0]}, "numbers")
"""
FAILING = {
    "ValidationError": "await chunks(batches(1, 2, 'x', 4), load_id='invalid')",
    "SourceChanged": (
        "try:\n    await chunks(broken(), load_id='changed')\nexcept OSError:\n    pass\n"
        "await chunks(batches(1, 9, 3), load_id='changed', resume=True)"
    ),
    "UnfinishedLoad": ("try:\n    await chunks(broken())\nexcept OSError:\n    pass\nawait chunks(batches(1, 2, 3))"),
    "WriteError": (
        "import sqlite3\nwith sqlite3.connect('loads.db') as own:\n"
        "    own.execute('CREATE TABLE small (id INTEGER CHECK (id < 3))')\n"
        "await chunks(batches(1, 2, 3), 'small', load_id='small')"
    ),
    "PlanError": "await chunks(batches(1), 'numbers', if_exists='overwrite')",
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("errors")
    with Kernel(DATALOADER_URL=f"sqlite:///{folder}/loads.db", PYTHONPATH=str(Path(__file__).parents[2])) as kernel:
        kernel.run(f"import os; os.chdir({str(folder)!r})")
        assert kernel.run(BEGIN).error is None
        yield kernel


@pytest.mark.parametrize(("error", "code"), FAILING.items(), ids=FAILING)
def test_an_error_of_a_load_by_chunks_is_two_lines_and_no_traceback(error: str, code: str, kernel: Kernel) -> None:
    cell = kernel.run(code)
    assert cell.error == error
    assert cell.traceback[0].startswith(f"{error}: ")
    assert len([line for line in cell.traceback if not line.startswith("The whole traceback")]) == 2
    assert "Traceback" not in cell.text


def test_an_error_of_the_source_is_an_error_output_as_well(kernel: Kernel) -> None:
    cell = kernel.run("await chunks(broken(), load_id='broken')")
    assert cell.error == "OSError"
    assert "Traceback" not in cell.text
    assert "committed; continue with" in "".join(cell.traceback)


NOT_AWAITED = "load_dataframe() has not started: write await load_dataframe(...)"


@pytest.mark.parametrize(
    "code",
    ["dl.load_dataframe({'id': [1]}, 'forgotten')", "call = dl.load_dataframe({'id': [1]}, 'forgotten')\ncall"],
    ids=["last line", "name"],
)
def test_a_load_that_nobody_awaited_says_so_in_its_cell(code: str, kernel: Kernel) -> None:
    cell = kernel.run(code)
    assert cell.error is None
    assert NOT_AWAITED in kernel.text_of(cell)


def test_the_result_of_a_load_that_nobody_awaited_says_what_to_write(kernel: Kernel) -> None:
    cell = kernel.run("report = dl.load_dataframe({'id': [1]}, 'forgotten')\nreport.loaded")
    assert "load_dataframe() was not awaited, so it has no 'loaded': write await" in cell.traceback[-1]


def test_an_engine_says_in_its_cell_what_it_connects_to(kernel: Kernel) -> None:
    cell = kernel.run("dl.connect('postgresql://ada:S3CRET@db.example.com/shop')")
    assert kernel.text_of(cell) == "<AsyncEngine: PostgreSQL db.example.com:5432/shop as ada>"
