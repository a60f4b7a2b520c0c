"""Sheets of Excel and LibreOffice: every cell arrives, and which sheet is meant is never guessed."""

from __future__ import annotations

import datetime as dt
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.sources.files import open_files
from dataloader.sources.selection import Reading
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

NOON, DAY = dt.datetime(2024, 1, 2, 12, 30), dt.date(2024, 1, 2)
ROWS = [
    ["id", "amount", "seen", "day", "at", "ok", "zip", "empty", 2024],
    [1, 1.1, NOON, DAY, dt.time(3, 4), True, "00501", None, 5],
    [2, 2, dt.datetime(2024, 1, 3), DAY, dt.time(5, 6, 7), False, None, None, None],
]


def book(path: Path, **sheets: list[list[Any]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def rows_of(path: Path, **reading: Any) -> list[dict[str, Any]]:
    return [row for batch in open_files(path, Reading(**reading)).batches(100) for row in batch.to_pylist()]


async def test_every_kind_of_cell_arrives(database: AsyncEngine, tmp_path: Path) -> None:
    report = await dl.load_files(book(tmp_path / "a.xlsx", Orders=ROWS), "t", engine=database)
    assert report.loaded == 2
    async with database.connect() as connection:
        columns = await connection.run_sync(lambda sync: sa.inspect(sync).get_columns("t"))
        found = (await connection.execute(sa.text('SELECT id, amount, zip, "2024" FROM t ORDER BY id'))).all()
    assert [tuple(row) for row in found] == [(1, 1.1, "00501", 5), (2, 2.0, None, None)]
    kinds = {column["name"]: type(column["type"].as_generic()) for column in columns}
    assert (kinds["id"], kinds["day"], kinds["seen"]) == (sa.BigInteger, sa.Date, sa.DateTime)
    (first, second) = rows_of(tmp_path / "a.xlsx")
    assert (first["seen"], first["day"], first["at"], first["ok"]) == (NOON, DAY, dt.time(3, 4), True)
    assert second["seen"] == dt.datetime(2024, 1, 3)


async def test_a_sheet_meets_the_types_of_its_table(database: AsyncEngine, tmp_path: Path) -> None:
    await execute(database, "CREATE TABLE t (id INTEGER, code VARCHAR(9), amount NUMERIC(9, 2))")
    path = book(tmp_path / "a.xlsx", One=[["id", "code", "amount"], [1, "007", 1.1], [2, "008", 2]])
    await dl.load_files(path, "t", engine=database)
    rows = await fetch(database, "SELECT id, code, amount FROM t ORDER BY id")
    assert [(key, code, float(amount)) for key, code, amount in rows] == [(1, "007", 1.1), (2, "008", 2.0)]
    path = book(tmp_path / "bad.xlsx", One=[["id", "code", "amount"], [3, "009", 1], [3.5, "010", 1]])
    with pytest.raises(dl.ValidationError, match="row 1, column 'id'"):
        await dl.load_files(path, "t", engine=database)


def test_the_sheet_is_chosen_or_the_only_one_with_rows(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", Empty=[], One=[["id"], [1]], Two=[["id"], [2]])
    for asked in ("Two", 2, -1):
        assert rows_of(path, sheet=asked) == [{"id": 2}]
    with pytest.raises(dl.PlanError, match="several sheets") as raised:
        open_files(path)
    assert "'One', 'Two'" in raised.value.hint
    with pytest.raises(dl.PlanError, match="no sheet 'Tow'") as raised:
        open_files(path, Reading(sheet="Tow"))
    assert "Did you mean 'Two'?" in raised.value.hint
    assert rows_of(book(tmp_path / "b.xlsx", Empty=[], One=[["id"], [1]])) == [{"id": 1}]


RANGES = {
    "B3:C4": [{"id": 1, "v": "a"}],
    "B3:C": [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}],
    "$B$3:$C$5": [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}],
    "c3:c9": [{"v": "a"}, {"v": "b"}],
}


@pytest.mark.parametrize("cells", RANGES)
def test_a_range_has_its_names_in_its_first_row(tmp_path: Path, cells: str) -> None:
    rows = [["Report", None, None], [], [None, "id", "v"], [None, 1, "a"], [None, 2, "b"]]
    assert rows_of(book(tmp_path / "a.xlsx", One=rows), cells=cells) == RANGES[cells]


WRONG = {
    "a column without a name": ([["id", None], [1, 2]], {}, "column 2 .* no name"),
    "no range": ([["id"], [1]], {"cells": "B"}, "cells='B' is not a range"),
    "an empty range": ([["id"], [1]], {"cells": "F7:G9"}, "is empty"),
    "a name that repeats": ([["id", "id"], [1, 2]], {}, "same name: id"),
}


@pytest.mark.parametrize(("rows", "reading", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_no_table_is_refused(tmp_path: Path, rows: list[list[Any]], reading: Any, problem: str) -> None:
    with pytest.raises(dl.PlanError, match=problem):
        open_files(book(tmp_path / "a.xlsx", One=rows), Reading(**reading))


def test_a_file_that_is_no_workbook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("id\n1\n")
    with pytest.raises(dl.PlanError, match="cannot be read"):
        open_files(tmp_path / "a.xlsx")


async def test_options_of_sheets_are_refused_elsewhere(database: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(dl.PlanError, match="sheet= is for spreadsheets"):
        await dl.load_files(tmp_path / "a.csv", "t", engine=database, sheet="One")
    with pytest.raises(dl.PlanError, match="cells= is for files"):
        await dl.load_dataframe({"id": [1]}, "t", engine=database, cells="A1:B2")


def test_a_sheet_of_libreoffice_is_read(tmp_path: Path) -> None:
    cell = '<table:table-cell office:value-type="{kind}" {value}><text:p>{text}</text:p></table:table-cell>'
    row = "<table:table-row>{}</table:table-row>".format
    text = lambda value: cell.format(kind="string", value="", text=value)  # noqa: E731
    number = lambda value: cell.format(kind="float", value=f'office:value="{value}"', text=value)  # noqa: E731
    content = (
        '<?xml version="1.0" encoding="UTF-8"?><office:document-content '
        'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
        'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.2"><office:body>'
        '<office:spreadsheet><table:table table:name="One">'
        f"{row(text('id') + text('v'))}{row(number(1) + text('a'))}{row(number(2) + text('b'))}"
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(tmp_path / "a.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        manifest = 'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"'
        archive.writestr("META-INF/manifest.xml", f"<manifest:manifest {manifest}></manifest:manifest>")
        archive.writestr("content.xml", content)
    assert rows_of(tmp_path / "a.ods") == [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]
