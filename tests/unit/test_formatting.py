"""What is printed, in lines of a terminal: broken between words, and the rest of a line hangs under it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dataloader.database.backends.checking import Finding
from dataloader.formatting import aligned, fitted, terminal_columns, wrapped
from dataloader.report import CheckReport, ExportReport
from tests.unit.test_plan import column, planned, table
from tests.unit.test_report import report, validated, violation

NAME = "a_column_with_a_name_of_sixty_three_characters_as_in_postgresql"
LONG = "/data/" + "a_folder_with_a_long_name/" * 4 + "orders.parquet"
"""A word that is longer than a line."""
DATABASE = f"PostgreSQL {NAME} at a.server.example.com:5432/shop as somebody"
WIDE = table(*(column(f"{name}{at}", "numeric(12, 4)") for name in (NAME[:-1], "b") for at in range(3)), name=NAME)
TEXTS = pa.schema([(one.name, pa.string()) for one in WIDE.columns])
WARNING = f"{NAME} is NULL in 3 rows, because the source has no such column, and the table gives no value for it"
CHANGED = f"{NAME}=7: amount 1.50 → 2.50, customer_reference 'C-000001' → 'C-000002', status 'open' → 'shipped'"
GRANT = Finding("problem", "rights", f"the role may not INSERT into {NAME}", f"GRANT INSERT ON {NAME} TO somebody;")
PRINTED = {
    "plan": planned(TEXTS, WIDE, target=NAME, rows=600_000, on_invalid="reject", commit="chunk"),
    "new_table": planned(TEXTS, None, target=NAME),
    "load": report(source=LONG, database=DATABASE, warnings=(WARNING,), updated=1, preview=(CHANGED,), verified=True),
    "validation": validated(*(violation(at, column=NAME) for at in range(12)), source=LONG, database=DATABASE),
    "check": CheckReport(database=DATABASE, findings=(GRANT,)),
    "export": ExportReport(source=NAME, database=DATABASE, path=LONG, rows=3, nbytes=7, seconds=0.5, format="parquet"),
}
"""Something of each kind, with long names and long reasons."""


@pytest.fixture
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How wide the terminal is."""
    width = getattr(request, "param", 80)
    monkeypatch.setattr("dataloader.formatting.terminal_columns", lambda: width)
    return int(width)


@pytest.mark.parametrize("columns", [40, 80, 132], indirect=True)
@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED)
def test_no_line_is_wider_than_the_terminal_but_for_a_single_word(printed: object, columns: int) -> None:
    wide = [line for line in str(printed).split("\n") if len(line) > columns]
    assert [line for line in wide if len(line.split()) > 1] == []
    assert repr(printed) == str(printed)


@pytest.mark.parametrize("columns", [40, 80, 132], indirect=True)
@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED)
def test_no_word_is_broken_and_none_is_lost(printed: object, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = str(printed)
    monkeypatch.setattr("dataloader.formatting.terminal_columns", lambda: 10_000)
    assert found.split() == str(printed).split()
    assert "\n" in found


def test_the_rest_of_a_line_hangs_under_it(columns: int) -> None:
    told = "1,000 rows loaded from orders.csv into orders of PostgreSQL 18 at 127.0.0.1:5432/shop in 0.48 s (fast)"
    assert fitted(f"{told}\nverified").split("\n") == [
        "1,000 rows loaded from orders.csv into orders of PostgreSQL 18 at",
        "  127.0.0.1:5432/shop in 0.48 s (fast)",
        "verified",
    ]
    assert fitted(f"  chunks: {'up_to ' * 14}").split("\n")[1].startswith("    up_to")


def test_the_rest_of_a_row_hangs_under_its_second_column_and_a_long_name_has_a_line_of_its_own(columns: int) -> None:
    verdict = f"string → TEXT  (checked: {', '.join(['nul characters'] * 5)})"
    assert fitted("\n".join(aligned([("id", "exact"), ("name", verdict), (NAME, verdict)]))).split("\n") == [
        "  id    exact",
        "  name  string → TEXT  (checked: nul characters, nul characters, nul characters,",
        "        nul characters, nul characters)",
        f"  {NAME}",
        "    string → TEXT  (checked: nul characters, nul characters, nul characters, nul",
        "    characters, nul characters)",
    ]


@pytest.mark.parametrize("number", ["0.48 s", "63.0 k rows/s", "7 rows/s", "12.3 MB", "1 problem"])
def test_a_number_keeps_its_unit(number: str, columns: int) -> None:
    for before in range(columns - len(number) - 1, columns + 1):
        assert number in fitted(f"{'x' * before} {number} and more")


def test_a_call_can_still_be_copied(columns: int) -> None:
    call = "await load_files(..., 'a table with spaces in its name', load_id='the load of May', resume=True)"
    assert "'a table with spaces in its name'," in wrapped(f"{'x' * 30} {call}")


@pytest.mark.parametrize(("variable", "found"), [("132", 132), ("20", 40), ("nonsense", 80)])
def test_the_terminal_says_how_wide_it_is_and_80_columns_are_taken_where_none_does(
    variable: str, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", variable)
    monkeypatch.setattr("sys.__stdout__", None)
    assert terminal_columns() == found
