"""The short form of `python benchmarks/rejects.py`: the rejected rows are exactly the planted ones."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

pytestmark = pytest.mark.any_version

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def planting(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "rejects.py"))


async def test_planted_rows_of_eight_kinds_are_rejected_and_no_other(
    postgres: AsyncEngine, planting: dict[str, Any]
) -> None:
    planted, reasons = planting["plant"](planting["make_orders"](60_000), 80)
    assert sorted(set(reasons.values())) == sorted({reason for _, reason, _ in planting["BAD"]})
    await planting["prepare"](postgres)
    await planting["load_rejecting"](postgres, planted, reasons)
