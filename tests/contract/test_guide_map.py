"""docs/guide_map.md and the tests that prove it name each other."""

from __future__ import annotations

import ast
import collections
from pathlib import Path

import pytest

from tests.guide import Entry, entries

TESTS = Path(__file__).parents[1] / "database" / "test_guide.py"


def fixtures_of_tests() -> dict[str, list[str]]:
    found = [
        node for node in ast.parse(TESTS.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {node.name: [one.arg for one in node.args.args] for node in found if node.name.startswith("test_")}


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.title)
def test_an_entry_says_theirs_ours_and_what_is_true_and_its_line_is_run_by_its_test(entry: Entry) -> None:
    fixtures = fixtures_of_tests()
    assert [part.removesuffix("s") for part in entry.parts] == ["Their", "Our", "True", "Test"]
    assert len(entry.lines) == 1
    assert [test for test in entry.tests if test not in fixtures] == []
    assert any("ours" in fixtures[test] for test in entry.tests)


def test_each_test_of_the_guide_has_one_entry() -> None:
    named = collections.Counter(test for entry in entries() for test in entry.tests)
    assert named == dict.fromkeys(fixtures_of_tests(), 1)
    assert len(named) > 40
