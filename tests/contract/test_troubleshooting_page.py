"""docs/troubleshooting.md shows the rows as they are, and what its blocks print."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

import dataloader as dl
from tests.conftest import execute
from tests.pages import ROOT, python_blocks, run_block

PAGE = ROOT / "docs" / "troubleshooting.md"


def test_the_tables_are_what_the_rows_say() -> None:
    made = runpy.run_path(str(PAGE.with_name("make_troubleshooting.py")))
    text = PAGE.read_text(encoding="utf-8")
    assert text == made["page"](text), "run python docs/make_troubleshooting.py"
    assert "{again" not in text


@pytest.mark.any_version
async def test_the_blocks_run_and_print_what_stands_below(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = dl.connect(f"sqlite:///{tmp_path / 'shop.db'}")
    await execute(engine, "CREATE TABLE orders (id integer PRIMARY KEY)")
    names: dict[str, object] = {"dl": dl, "sa": sa, "engine": engine, "df": pd.DataFrame({"id": [1, 2]})}
    explained, *others = python_blocks(PAGE)
    await run_block(explained, names)
    below = re.search(r"^```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert below is not None
    assert capsys.readouterr().out == below[1]
    for block in others:
        await run_block(block, names)
    assert len(others) == 2
    await engine.dispose()
