"""docs/types.md shows the type table as it is."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_table_makes() -> None:
    made = runpy.run_path(str(DOCS / "make_types.py"))
    hint = "run python docs/make_types.py"
    assert (DOCS / "types.md").read_text(encoding="utf-8") == made["page"](), hint
