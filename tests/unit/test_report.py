"""The report of a load: numbers that add up, as text and as HTML."""

from __future__ import annotations

from typing import Any

import pytest

from dataloader.errors import LoadError
from dataloader.report import LoadReport


def report(**facts: Any) -> LoadReport:
    given: dict[str, Any] = {
        "source": "DataFrame",
        "table": "orders",
        "place": "SQLite shop.db",
        "read": 2000,
        "loaded": 2000,
        "rejected": 0,
        "skipped": 0,
        "chunks": 2,
        "nbytes": 3_200_000,
        "seconds": 0.5,
        "method": "insert",
        "reason": "sqlite has no COPY",
    }
    return LoadReport(**given | facts)


def test_a_report_says_what_was_loaded_where_and_how_fast() -> None:
    expected = "2,000 rows loaded from DataFrame into orders of SQLite shop.db in 0.50 s (4,000 rows/s, insert)"
    assert str(report()) == repr(report()) == expected


def test_one_row_is_no_plural() -> None:
    assert str(report(read=1, loaded=1)).startswith("1 row loaded from DataFrame")


def test_rows_that_were_not_stored_are_accounted_for() -> None:
    text = str(report(loaded=1500, rejected=300, skipped=200))
    assert text.endswith("\n2,000 read = 1,500 loaded + 300 rejected + 200 skipped")


@pytest.mark.parametrize("facts", [{"read": 2001}, {"loaded": 1999}, {"rejected": 1}, {"skipped": 1}], ids=str)
def test_numbers_that_do_not_add_up_are_an_error(facts: dict[str, int]) -> None:
    with pytest.raises(LoadError, match="rows were read, but"):
        report(**facts)


def test_a_load_that_took_no_time_has_no_rate() -> None:
    assert report(seconds=0.0).rows_per_second == 0.0


def test_html_has_the_facts_of_the_text() -> None:
    shown = report(loaded=1500, rejected=300, skipped=200)._repr_html_()
    facts = ("DataFrame", "orders", "SQLite shop.db", "2,000 read = 1,500 loaded + 300 rejected + 200 skipped")
    assert all(fact in shown for fact in facts)
    assert "0.50 s, 3,000 rows/s" in shown
    assert "3.2 MB in 2 chunks" in shown


@pytest.mark.parametrize("fact", ["source", "table", "place", "reason"])
def test_html_escapes_what_comes_from_outside(fact: str) -> None:
    shown = report(**{fact: "<script>alert(1)</script>"})._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
