"""docs/servers.md shows the backends as they are."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_matrix_is_what_the_backends_say() -> None:
    made = runpy.run_path(str(DOCS / "make_servers.py"))
    text = (DOCS / "servers.md").read_text(encoding="utf-8")
    assert text == made["page"](text), "run python docs/make_servers.py"


def test_every_backend_that_the_tests_do_not_meet_is_experimental() -> None:
    made = runpy.run_path(str(DOCS / "make_servers.py"))
    backends = {name: made["backend_for"](make()) for name, make in made["DIALECTS"].items()}
    assert [name for name, backend in backends.items() if backend.experimental] == ["another async driver"]
