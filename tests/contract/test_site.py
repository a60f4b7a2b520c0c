"""The site has every page and every public name, and Markdown beside them; `.ci/run` builds it."""

from __future__ import annotations

import re
import runpy
from typing import Any

import pytest

import dataloader as dl
from tests.pages import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "make_site.py"))


def test_every_page_is_in_the_contents_once() -> None:
    contents = re.findall(r"^```\{toctree\}\n(?::.*\n)+\n((?:.+\n)+)```", (DOCS / "index.md").read_text(), re.MULTILINE)
    named = "".join(contents).split()
    pages = [path.stem for path in DOCS.glob("*.md") if path.stem != "index"]
    assert sorted(named) == sorted([*pages, "CHANGELOG", "CONTRIBUTING", "notebooks/*"])


def test_every_public_name_is_in_the_reference_once() -> None:
    named = re.findall(
        r"^\.\. auto(?:class|function|exception):: dataloader\.(\w+)$",
        (DOCS / "reference.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(named) == sorted(dl.__all__)


def test_ci_builds_the_site_and_checks_the_spelling() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "docs/make_site.py" in script
    assert "codespell" in script


def test_links_into_the_repository_lead_to_pages_of_the_site(maker: dict[str, Any]) -> None:
    linked = maker["linked"]
    assert (
        linked("[a](../notebooks/01_a.ipynb), [b](docs/reading.md#in-a-cell)")
        == "[a](notebooks/01_a.ipynb), [b](reading.md#in-a-cell)"
    )
    assert linked("[c](https://example.com/docs/x.md)") == "[c](https://example.com/docs/x.md)"


def test_a_notebook_as_markdown_has_its_code_and_what_it_printed(maker: dict[str, Any]) -> None:
    text = maker["markdown"](ROOT / "notebooks" / "01_quickstart.ipynb")
    assert text.startswith("# From a DataFrame to a table in five minutes\n")
    assert (
        '```python\ndl.connect("sqlite:///quickstart.db")\n```\n\n```text\n<AsyncEngine: SQLite quickstart.db>\n```'
        in text
    )


def test_the_reference_as_markdown_has_the_docstrings(maker: dict[str, Any]) -> None:
    text = maker["markdown"](DOCS / "reference.md")
    assert re.search(r"^### load_dataframe\(data.*if_exists", text, re.MULTILINE)
    assert "resume : bool or None" in text
    assert "eval-rst" not in text


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_has_a_title_and_says_in_a_sentence_what_it_is(path: Any, maker: dict[str, Any]) -> None:
    text = path.read_text()
    assert text.startswith(f"# {maker['title'](text)}\n")
    assert 20 < len(maker["summary"](text)) < 250


@pytest.mark.parametrize(
    "tag", ['<script src="https://cdn.example/x.js">', "<link rel='stylesheet' href='//fonts.example/a'>"]
)
def test_a_page_that_would_fetch_something_is_found(tag: str, maker: dict[str, Any]) -> None:
    assert maker["FETCHED"].search(tag)
    assert not maker["FETCHED"].search('<script src="_static/x.js"></script><a href="https://example.com">')
