"""The picture of the packages is drawn from the imports as they are, and every file is told of."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_picture_of_the_packages_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "make_architecture.py"))
    hint = "run python docs/make_architecture.py"
    assert (DOCS / "architecture.svg").read_text(encoding="utf-8") == made["draw"](), hint


def test_every_file_is_listed_with_what_it_says_of_itself() -> None:
    made = runpy.run_path(str(DOCS / "make_architecture.py"))
    page = made["PAGE"].read_text(encoding="utf-8")
    assert page == made["listed"](), "run python docs/make_architecture.py"
    for path in made["PACKAGE"].rglob("[!_]*.py"):
        assert f"| `{path.stem}` |" in page
