"""Reports of loads and validations: numbers that add up, as text, as HTML and as frames."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dataloader.conversion.violations import REASONS, Violation, Violations
from dataloader.database.backends.checking import Finding
from dataloader.display.html import BAD, GOOD, UNDER_WAY, WARNING, Color, table, text_color
from dataloader.errors import LoadError
from dataloader.rejects import Findings, Rejects
from dataloader.report import CheckReport, LoadReport, ValidationReport


def report(**facts: Any) -> LoadReport:
    given: dict[str, Any] = {
        "source": "DataFrame",
        "table": "orders",
        "database": "SQLite shop.db",
        "read": 2000,
        "loaded": 2000,
        "rejected": 0,
        "skipped": 0,
        "chunks": 2,
        "nbytes": 3_200_000,
        "seconds": 0.5,
        "method": "insert",
        "reason": "only PostgreSQL has COPY",
    }
    return LoadReport(**given | facts)


def test_a_report_says_what_was_loaded_where_and_how_fast() -> None:
    expected = "2,000 rows loaded from DataFrame into orders of SQLite shop.db in 0.50 s (4.0 k rows/s, insert)"
    assert str(report()) == repr(report()) == expected


def test_one_row_is_no_plural() -> None:
    text = str(report(read=1, loaded=1, already_loaded=1))
    assert text.startswith("1 row loaded from DataFrame")
    assert text.endswith("\nan earlier run committed 1 row")


def test_rows_that_were_not_stored_are_accounted_for_with_their_reasons() -> None:
    rejects = Rejects(findings=Findings(counts={("amount", "digits"): 200, (None, "refused"): 100}))
    text = str(report(loaded=1500, rejected=300, skipped=200, rejected_rows=rejects))
    accounts, reasons = text.splitlines()[1:]
    assert accounts == "2,000 read = 1,500 loaded + 300 rejected + 200 skipped"
    assert reasons == "rejected: 200 in 'amount' (digits), 100 (refused); see report.rejects"


def test_rows_that_were_only_skipped_have_no_reasons() -> None:
    text = str(report(loaded=1500, skipped=500))
    assert text.endswith("\n2,000 read = 1,500 loaded + 500 skipped")


@pytest.mark.parametrize("facts", [{"read": 2001}, {"loaded": 1999}, {"rejected": 1}, {"skipped": 1}], ids=str)
def test_numbers_that_do_not_add_up_are_an_error(facts: dict[str, int]) -> None:
    with pytest.raises(LoadError, match="do not add up"):
        report(**facts)


def test_a_load_that_took_no_time_has_no_rate() -> None:
    assert report(seconds=0.0).rows_per_second == 0.0


def test_mathjax_leaves_reports_alone() -> None:
    shown = [one._repr_html_() for one in (report(), validated(), validated(violation(1)))]
    assert all(one.startswith('<div class="mathjax_ignore tex2jax_ignore"') for one in shown)


def test_html_has_the_facts_of_the_text() -> None:
    shown = report(loaded=1500, rejected=300, skipped=200)._repr_html_()
    facts = ("DataFrame", "orders", "SQLite shop.db", "2,000 read = 1,500 loaded + 300 rejected + 200 skipped")
    assert all(fact in shown for fact in facts)
    assert "✓</b> <b>1,500 rows · 300 rejected</b> · " in shown
    assert "0.50 s" in shown
    assert "3.0 k rows/s" in shown
    assert "3.2 MB in 2 chunks" in shown


def test_html_draws_how_fast_the_chunks_went() -> None:
    shown = report(pace=((0.0, 0), (1.0, 1500), (2.0, 2000)))._repr_html_()
    assert "<svg" in shown
    assert "peak 1.5 k rows/s" in shown
    assert "<svg" not in report()._repr_html_()


def test_html_shows_the_columns_with_their_types_and_the_first_rows() -> None:
    shown = report(columns=(("id", "BIGINT"), ("<i>", "TEXT")), first_rows=(("1", "<b>"), ("2", "NULL")))._repr_html_()
    for text in ("BIGINT", "&lt;i&gt;", "&lt;b&gt;", "NULL"):
        assert f">{text}<" in shown


def test_a_method_that_surprises_nobody_has_no_reason() -> None:
    assert "because" not in report()._repr_html_()
    assert "insert, because it was requested" in report(reason="it was requested")._repr_html_()


@pytest.mark.parametrize("fact", ["source", "table", "database", "reason"])
def test_html_escapes_what_comes_from_outside(fact: str) -> None:
    shown = report(**{fact: "<script>alert(1)</script>"})._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_html_names_the_reasons_of_the_rejects() -> None:
    rejects = Rejects(findings=Findings(counts={("<b>", "digits"): 300}))
    shown = report(loaded=1700, rejected=300, rejected_rows=rejects)._repr_html_()
    assert all(f">{text}</td>" in shown for text in ("&lt;b&gt;", "300", REASONS["digits"][0]))
    assert "<code>report.rejects</code>" in shown
    assert "report.rejects" not in report()._repr_html_()


def violation(
    row: int, reason: str = "digits", column: str | None = "amount", label: object = None, value: str = "0.12345"
) -> Violation:
    return Violation(row, label, column, value, "numeric(12,4)", reason, *REASONS[reason])


def validated(*violations: Violation, read: int = 2000, **facts: str) -> ValidationReport:
    named = {"source": "DataFrame", "table": "orders", "database": "SQLite shop.db"} | facts
    return ValidationReport(read=read, violations=Violations(violations), **named)  # type: ignore[arg-type]


def test_a_validation_without_violations_says_that_all_rows_fit() -> None:
    found = validated()
    assert (found.ok, found.counts, found.invalid_rows) == (True, {}, 0)
    assert str(found) == repr(found) == "2,000 rows of DataFrame fit orders of SQLite shop.db"


def test_a_validation_with_violations_lists_them_under_their_counts() -> None:
    found = validated(violation(3), violation(3, "null", "id"), violation(7, label="A-7"))
    headline, *lines = str(found).split("\n")
    assert (found.ok, found.invalid_rows) == (False, 2)
    assert headline == (
        "2 of 2,000 rows of DataFrame do not fit orders of SQLite shop.db: 2 in 'amount' (digits), 1 in 'id' (null)"
    )
    assert lines == [f"  {one}" for one in found.violations]
    assert lines[2].startswith("  row 7 ('A-7'), column 'amount': 0.12345 does not fit numeric(12,4): ")
    assert repr(found) == str(found)


@pytest.mark.parametrize(("number", "more"), [(10, None), (11, "1"), (5010, "5,000")])
def test_a_validation_shows_ten_violations_and_counts_the_others(number: int, more: str | None) -> None:
    found = validated(*map(violation, range(number)), read=10_000)
    lines = str(found).split("\n")
    assert lines[0].startswith(f"{number:,} of 10,000 rows")
    assert lines[1:11] == [f"  {one}" for one in found.violations[:10]]
    assert lines[11:] == ([] if more is None else [f"  ... and {more} more, see .frame"])
    assert (more is not None) == (f"... and {more} more, see" in found._repr_html_())


def test_counts_of_a_validation_begin_with_the_most_frequent_kind() -> None:
    found = validated(violation(1, "null"), violation(2), violation(3), violation(4, "exists", None))
    assert list(found.counts.items()) == [(("amount", "digits"), 2), (("amount", "null"), 1), ((None, "exists"), 1)]


def test_the_frame_of_a_validation_has_every_violation_with_all_its_facts() -> None:
    violations = [violation(row, label=f"r{row}") for row in range(25)]
    frame = validated(*violations).frame
    names = ["row", "label", "column", "value", "target", "reason", "problem", "suggestion"]
    assert frame.columns.tolist() == names
    assert [tuple(row) for row in frame.itertuples(index=False)] == [tuple(one) for one in violations]


def test_the_frame_of_a_validation_without_violations_has_the_columns_too() -> None:
    frame = validated().frame
    assert (len(frame), frame.columns.tolist()) == (0, list(Violation._fields))


def test_html_of_a_validation_has_the_counts_and_the_first_violations() -> None:
    shown = validated(violation(3), violation(7, "null", None, label="A-7"))._repr_html_()
    cells = [f'">{text}</td>' for text in ("3", "7 (A-7)", "amount", REASONS["digits"][0], "0.12345", "1")]
    assert "invalid</b> 2 of 2,000 rows of DataFrame do not fit <code>orders</code> of SQLite shop.db" in shown
    assert [cell for cell in cells if cell not in shown] == []
    assert REASONS["digits"][0] in shown
    assert "None" not in shown


def test_html_of_a_validation_without_violations_is_one_line() -> None:
    shown = validated()._repr_html_()
    assert "valid</b> 2,000 rows of DataFrame fit <code>orders</code> of SQLite shop.db" in shown
    assert "<table" not in shown


EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize("violations", [(), (violation(1),)], ids=["valid", "invalid"])
@pytest.mark.parametrize("fact", ["source", "table", "database"])
def test_html_of_a_validation_escapes_what_it_looked_at(fact: str, violations: tuple[Violation, ...]) -> None:
    shown = validated(*violations, **{fact: EVIL})._repr_html_()
    assert EVIL not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("fact", ["label", "column", "value", "target", "reason", "problem", "suggestion"])
def test_html_of_a_validation_escapes_what_is_in_the_data(fact: str) -> None:
    shown = validated(violation(1)._replace(**{fact: EVIL}))._repr_html_()
    assert EVIL not in shown
    assert "&lt;script&gt;" in shown


def test_a_column_of_numbers_is_to_the_right_under_its_name_and_one_of_texts_is_not() -> None:
    shown = table([("a", "1,000.5", "1"), ("b", "NULL", "x")], head=("name", "amount", "code"))
    cells = re.findall(r"text-align:(\w+)[^>]*>([^<]*)<", shown)
    right = {text for side, text in cells if side == "right"}
    assert right == {"amount", "1,000.5", "NULL"}


@pytest.mark.parametrize("color", [GOOD, WARNING, BAD, UNDER_WAY])
def test_a_color_that_a_filter_of_styles_lets_through_stands_before_the_one_of_the_theme(color: Color) -> None:
    plain, themed = text_color(color).split(";")
    assert re.fullmatch(r"color:#[0-9a-f]{6}", plain)
    assert "var(--jp-" in themed


def test_a_check_shows_remedies_only_where_there_are_some() -> None:
    fine, bad = Finding("ok", "pool", "enough"), Finding("problem", "rights", "none", "Grant them.")
    assert "remedy" not in CheckReport(database="shop", findings=(fine,))._repr_html_()
    shown = CheckReport(database="shop", findings=(fine, bad))._repr_html_()
    assert ">remedy<" in shown
    assert ">Grant them.<" in shown
