"""The blocks of Python in the pages of docs/ run as they are written; those of scaling.md in test_shards and others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute
from tests.pages import ROOT, python_blocks, run_block

ELSEWHERE = {"scaling.md"}
PAGES = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if python_blocks(path)]
ORDERS = pd.DataFrame(
    {
        "id": [107, 108, 109],
        "amount": [19.5, 150.0, 300.0],
        "status": ["new", "paid", "paid"],
        "day": ["2026-05-01", "2026-05-02", None],
    }
)


@pytest.fixture
async def names(
    postgres: AsyncEngine, sqlite: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """What the pages speak of: orders in two schemas and in a file, a frame, two databases."""
    monkeypatch.chdir(tmp_path)
    url = postgres.url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATALOADER_URL", url)
    await execute(postgres, "CREATE SCHEMA sales")
    for table in ("orders", "sales.orders"):
        await dl.load_dataframe(ORDERS, table, engine=postgres, primary_key="id")
    ORDERS.to_csv("orders.csv", index=False)
    fresh = pd.DataFrame({"id": [10], "amount": [1.0], "status": ["new"], "day": ["2026-05-03"]})
    return {
        "dl": dl,
        "sa": sa,
        "pd": pd,
        "df": fresh,
        "engine": postgres,
        "prod": url,
        "local": sqlite,
        "day": "2026-05-01",
    }


@pytest.mark.any_version
@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
async def test_the_blocks_of_a_page_run_in_order(page: str, names: dict[str, object]) -> None:
    blocks = python_blocks(ROOT / "docs" / page)
    try:
        for block in blocks:
            await run_block(block, names, page)
    finally:
        for value in names.values():
            if isinstance(value, AsyncEngine):
                await value.dispose()


def test_pages_with_blocks_are_found() -> None:
    assert {"comparing.md", "copying.md", "index.md", "reading.md", "servers.md"} < set(PAGES)
