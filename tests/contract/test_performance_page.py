"""docs/performance.md and README's figures are those that were measured last, in full."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest

from tests.pages import ROOT

DOCS = ROOT / "docs"
PEERS = {"by ADBC": "ADBC", "`psql": "psql \\copy, 1 connection"}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    measured: dict[str, Any] = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
    return measured


def test_the_page_is_made_of_its_figures(found: dict[str, Any]) -> None:
    page = runpy.run_path(str(ROOT / "benchmarks" / "page.py"))["page"]
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == page(found), "run python benchmarks/page.py"


def test_every_case_is_measured_in_full(found: dict[str, Any]) -> None:
    files = ("cases", "small_databases", "reads", "curves")
    code = "".join((ROOT / "benchmarks" / f"{name}.py").read_text() for name in files)
    names = re.findall(r'^ {4,8}"(\w+)"(?:,$|: \w+\()', code[code.index("CASES = [") :], re.MULTILINE)
    names += re.findall(r'^CASES = \{"(\w+)"', code, re.MULTILINE)
    assert (found["form"], sorted(found["cases"])) == ("full", sorted(names))


def test_readme_tells_the_ratios_of_the_page(found: dict[str, Any]) -> None:
    """To one decimal, as one remembers them."""
    told = re.search(
        r"([\d.]+) times as fast as by ADBC, and at ([\d.]+) of the speed", (ROOT / "README.md").read_text()
    )
    assert told is not None
    ratios = {name: one["ratio"] for name, one in found["cases"]["one_transaction"]["contenders"].items()}
    assert [float(one) for one in told.groups()] == [round(ratios[name], 1) for name in PEERS.values()]
