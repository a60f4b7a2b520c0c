"""The entries of docs/guide_map.md: of each, the line with which this package does it, and the tests that prove it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.pages import ROOT

PAGE = ROOT / "docs" / "guide_map.md"
_LINE = re.compile(r"^\* \*\*Ours\*\*: `(.+?)`", re.MULTILINE)
_TESTS = re.compile(r"^\* \*\*Tests?\*\*: (.+(?:\n  .+)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes
    ----------
    parts : list of str
        What it has: Theirs, Ours, True and Test, each a point of a list.
    """

    title: str
    parts: list[str]
    lines: list[str]
    tests: list[str]


def entries() -> list[Entry]:
    """Those of the page, in its order."""
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return [_entry(section.partition("\n## ")[0]) for section in sections]


def _entry(section: str) -> Entry:
    title, _, body = section.partition("\n")
    named = " ".join(_TESTS.findall(body))
    parts = re.findall(r"^\* \*\*(\w+)\*\*: ", body, re.MULTILINE)
    return Entry(title, parts, _LINE.findall(body), re.findall(r"`(\w+)`", named))
