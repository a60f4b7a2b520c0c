"""Violations: their text, their counts in words, and a reason for every refusal that the package knows."""

from __future__ import annotations

import ast
import datetime
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import dataloader
from dataloader.conversion.column_types import parse_type
from dataloader.conversion.inference import IN_PANDAS
from dataloader.conversion.rules import column_plan
from dataloader.conversion.violations import (
    BLOCK,
    REASONS,
    REJECT_COLUMNS,
    Counts,
    InvalidValues,
    Violation,
    Violations,
    cut,
    shown,
    summary,
)

SOURCES = sorted(Path(dataloader.__file__).parent.rglob("*.py"))
REASON_ARGUMENTS = {
    "refuse": 0,
    "InvalidValues": 0,
    "with_problem": 0,
    "InvalidValue": 1,
    "Family": 1,
    "must_equal": 2,
    "_must_keep_digits": 2,
    "Refusal": 0,
    "_note": 0,
    "key_violation": 4,
}
"""Which argument of a call is a reason."""
REASON_TABLES = {"_REASONS", "_SQLITE_REASONS"}
"""Dicts whose values are reasons."""


def violation(row: int = 7, label: object = None, column: str | None = "id", reason: str = "fraction") -> Violation:
    return Violation(row, label, column, "3.7", "integer", reason, *REASONS[reason])


def texts_of(node: ast.expr | None) -> Iterator[str]:
    """The texts that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*texts_of(node.body), *texts_of(node.orelse))


def reasons_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            at = REASON_ARGUMENTS.get(name)
            yield from texts_of(node.args[at] if at is not None and len(node.args) > at else None)
            named = (one.value for one in node.keywords if at is not None and one.arg == "reason")
            yield from (text for value in named for text in texts_of(value))
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in REASON_TABLES:
            yield from (text for value in getattr(node.value, "values", []) for text in texts_of(value))
        elif isinstance(node, ast.FunctionDef) and node.name in {"reason", "_must_keep_digits"}:
            returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
            yield from (text for value in [*returned, *node.args.defaults] for text in texts_of(value))


@pytest.fixture(scope="module")
def used() -> set[str]:
    return {reason for path in SOURCES for reason in reasons_in(ast.parse(path.read_text()))}


def test_every_reason_that_the_package_gives_is_explained(used: set[str]) -> None:
    assert sorted(used - set(REASONS)) == []
    assert len(used) > 15


def test_every_reason_that_is_explained_is_given_somewhere(used: set[str]) -> None:
    assert sorted(set(REASONS) - used) == []


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_in_the_documentation_of_a_violation(reason: str) -> None:
    assert f"``{reason}``" in (Violation.__doc__ or "")


@pytest.mark.parametrize(("problem", "suggestion"), REASONS.values(), ids=REASONS)
def test_a_reason_says_what_is_wrong_and_what_to_do(problem: str, suggestion: str) -> None:
    assert problem
    assert not problem.endswith(".")
    assert suggestion.endswith(".")
    assert suggestion[0].isupper()


FRAME = pa.field("c", pa.float64(), metadata=IN_PANDAS)
ADVICE: dict[str, tuple[pa.Field, str, dict[str, Any], str, str]] = {
    "what lossy casts round": (
        pa.field("c", pa.string()),
        "integer",
        {},
        "fraction",
        'Round it, make the column numeric, or pass casts="lossy".',
    ),
    "lossy casts were asked for": (
        pa.field("c", pa.string()),
        "integer",
        {"casts": "lossy"},
        "range",
        "Correct it, or give the column a wider type.",
    ),
    "what no lossy cast rounds": (pa.field("c", pa.string()), "interval", {}, "nanoseconds", "Round it."),
    "a frame of pandas": (
        FRAME,
        "numeric(8,2)",
        {},
        "digits",
        "Round it, widen the column, use df['c'].round(2), or pass casts=\"lossy\".",
    ),
    "a column that the load creates": (
        pa.field("c", pa.int64()),
        "bigint",
        {"is_created": True},
        "syntax",
        "Correct the text, set it to None, or choose the column's type with dtype=.",
    ),
}


@pytest.mark.parametrize(("offered", "sql", "options", "reason", "expected"), ADVICE.values(), ids=ADVICE)
def test_the_advice_is_only_what_would_help(
    offered: pa.Field, sql: str, options: dict[str, Any], reason: str, expected: str
) -> None:
    given = {"casts": "exact", "assume_timezone": None, **options}
    assert column_plan(offered, parse_type(sql, "postgresql"), True, **given).suggestion(reason) == expected


def test_a_violation_reads_as_a_sentence_with_row_column_value_and_type() -> None:
    assert str(violation()) == "row 7, column 'id': 3.7 does not fit integer: it has a fractional part"


@pytest.mark.parametrize(
    ("label", "where"),
    [
        (None, "row 7, "),
        (7, "row 7, "),
        (0, "row 7 (0), "),
        ("A-17", "row 7 ('A-17'), "),
        (("a", 1), "row 7 (('a', 1)), "),
        (datetime.date(2024, 1, 2), "row 7 (datetime.date(2024, 1, 2)), "),
    ],
    ids=["none", "the row itself", "another number", "text", "two levels", "date"],
)
def test_a_label_is_shown_where_it_says_more_than_the_row(label: object, where: str) -> None:
    assert str(violation(label=label)).startswith(where + "column 'id': ")


def test_a_violation_without_a_column_says_nothing_of_columns() -> None:
    assert str(violation(column=None)).startswith("row 7: 3.7 does not fit integer")


def test_counts_are_ordered_by_how_many() -> None:
    found = [violation(reason="null"), violation(column="b"), violation(column="b"), violation(column=None)]
    assert list(Violations(found).counts.items()) == [
        (("b", "fraction"), 2),
        (("id", "null"), 1),
        ((None, "fraction"), 1),
    ]


def test_violations_that_are_kept_on_disk_are_indexed_and_cut_like_a_list() -> None:
    found = [violation(row=row) for row in range(2500)]
    kept = Violations(found)
    assert [kept[index] for index in (0, 999, 1000, -1)] == [found[index] for index in (0, 999, 1000, -1)]
    for cut_out in (slice(990, 1010), slice(None, None, -700), slice(5, 5)):
        assert kept[cut_out] == found[cut_out]
    assert (repr(kept), kept == found, kept == found[1:]) == ("<2,500 violations>", True, False)
    with pytest.raises(IndexError):
        kept[2500]


def test_no_violations_have_no_counts() -> None:
    assert (Violations().counts, summary({})) == ({}, "")


def test_a_summary_names_the_most_frequent_kind_first() -> None:
    counts: Counts = {("id", "null"): 1, ("amount", "digits"): 12345, (None, "refused"): 2}
    assert summary(counts) == "12,345 in 'amount' (digits), 2 (refused), 1 in 'id' (null)"


@pytest.mark.parametrize(("kinds", "more"), [(10, ""), (11, ", and 1 more kinds"), (25, ", and 15 more kinds")])
def test_a_summary_names_ten_kinds_and_counts_the_others(kinds: int, more: str) -> None:
    text = summary({(f"c{number}", "null"): 100 - number for number in range(kinds)})
    assert text.startswith("100 in 'c0' (null), 99 in 'c1' (null)")
    assert text.endswith("91 in 'c9' (null)" + more)


@pytest.mark.parametrize("length", [0, 1, 39, 40])
def test_a_text_of_forty_characters_is_whole(length: int) -> None:
    assert cut("x" * length) == "x" * length


@pytest.mark.parametrize("length", [41, 42, 10_000])
def test_a_longer_text_is_cut_to_forty_characters_and_says_so(length: int) -> None:
    assert cut("ä" * length) == "ä" * 39 + "…"


SHOWN: dict[str, tuple[pa.Scalar, str]] = {
    "integer": (pa.scalar(7), "7"),
    "text": (pa.scalar("it's"), '"it\'s"'),
    "NUL": (pa.scalar("a\0b"), "'a\\x00b'"),
    "null": (pa.scalar(None, pa.string()), "None"),
    "long text": (pa.scalar("x" * 500), "'" + "x" * 38 + "…"),
    "date": (pa.scalar(datetime.date(2024, 1, 2)), "datetime.date(2024, 1, 2)"),
    "list": (pa.scalar([1, None]), "[1, None]"),
}


@pytest.mark.parametrize(("value", "text"), SHOWN.values(), ids=SHOWN)
def test_a_value_is_shown_as_python_would(value: pa.Scalar, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("number", [10**17, -(10**17), 2**63 - 1, -(2**63)])
@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("s"), pa.timestamp("us", "Europe/Berlin"), pa.duration("s"), pa.date64()],
    ids=str,
)
def test_a_value_that_python_cannot_hold_is_shown_with_its_number_and_type(number: int, kind: pa.DataType) -> None:
    text = shown(pa.scalar(number, pa.int64()).cast(kind, safe=False))
    assert 0 < len(text) <= 40


def test_a_refusal_names_its_own_problem_or_that_of_the_reason() -> None:
    bad = pa.array([False, True])
    assert InvalidValues("nan", bad).problem == "it is not a finite number"
    assert InvalidValues("nan", bad, "it contains a NaN").problem == "it contains a NaN"
    assert InvalidValues("nan", bad).bad is bad


def test_a_refusal_for_a_reason_that_nobody_explains_is_an_error() -> None:
    with pytest.raises(KeyError):
        InvalidValues("because", pa.array([True]))


def test_what_a_rejected_row_has_beside_its_values_is_named_alike() -> None:
    assert all(name.startswith("reject_") for name in REJECT_COLUMNS)
    assert len(set(REJECT_COLUMNS)) == 4


def test_a_label_that_cannot_be_pickled_stays_the_object_that_it_is() -> None:
    label = threading.Lock()
    violations = Violations([violation(0, label), *(violation(row) for row in range(1, BLOCK + 2))])
    assert violations[0].label is label
    assert [one.row for one in violations] == list(range(BLOCK + 2))


def test_violations_with_such_a_label_are_not_pickled_without_it() -> None:
    violations = Violations([violation(0, threading.Lock()), *(violation(row) for row in range(1, BLOCK + 2))])
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        pickle.dumps(violations)


def test_pickled_violations_are_the_same_ones() -> None:
    violations = Violations(violation(row, row + 0.5) for row in range(BLOCK + 2))
    assert pickle.loads(pickle.dumps(violations)) == violations
