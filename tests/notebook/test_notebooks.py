"""Every notebook runs from its first cell to its last, and is kept with its outputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells_of(path: Path) -> list[Any]:
    import nbformat  # takes more than a second

    return list(nbformat.read(path, as_version=4).cells)


def results(path: Path) -> list[list[str]]:
    """For each code cell the kinds of its outputs, in order; what a cell prints may come in one piece or several."""
    cells = cells_of(path)
    return [
        [
            kind
            for output, before in zip(cell.outputs, [None, *cell.outputs], strict=False)
            if not (output.output_type == "stream" and before and before.get("name") == output.name)
            for kind in sorted(output.get("data", {output.output_type: 0}))
        ]
        for cell in cells
        if cell.cell_type == "code"
    ]


def checkout() -> set[Path]:
    """The files in which a notebook could leave something."""
    found = {*FOLDER.parent.iterdir(), *FOLDER.rglob("*"), *(FOLDER.parent / "sample_data").rglob("*")}
    return {path for path in found if not path.name.startswith((".", "__", "build"))}  # where screenshots go meanwhile


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_was_kept_with(path: Path, tmp_path: Path, server_folder: Path) -> None:
    environment = os.environ | {"DATALOADER_PG_FOLDER": str(server_folder), "DATALOADER_PROGRESS": "auto"}
    command = [sys.executable, str(FOLDER / "execute.py"), "--into", str(tmp_path), str(path)]
    before = checkout()
    subprocess.run(command, check=True, env=environment, cwd=FOLDER.parent)
    assert checkout() == before
    assert results(tmp_path / path.name) == results(path)
    assert any(results(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_kept_notebook_has_no_live_widget_and_no_error(path: Path) -> None:
    text = path.read_text()
    assert "widget-view" not in text
    assert '"output_type": "error"' not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_a_user_writes(path: Path) -> None:
    cells = [cell.source for cell in cells_of(path) if cell.cell_type == "code"]
    assert cells
    for unfit in (r"\bassert\b", r"DROP TABLE[^;]*dataloader_", r"\.__\w+__\b(?<!__name__)", r"\._\w", r"\.hint\b"):
        assert [cell for cell in cells if re.search(unfit, cell)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_needs_asks_something_and_says_what_is_next(path: Path) -> None:
    cells = cells_of(path)
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert cells[0].source.startswith("# ")
    assert len(cells[0].source) > 100
    assert [text for text in texts if re.match("## Exercises?\n", text)]
    assert [text for text in texts if "Answer" in text]
    assert cells[-1].source.startswith("## What next")
    for named in re.findall(r"`([\w/]+\.(?:ipynb|md))`", cells[-1].source):
        there = FOLDER / named if named.endswith(".ipynb") else FOLDER.parent / named
        assert there.exists(), named
