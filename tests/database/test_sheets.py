"""Sheets of Excel and LibreOffice: every cell arrives, and which sheet is meant is never guessed."""

from __future__ import annotations

import base64
import datetime as dt
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.sources.files import open_files
from dataloader.sources.selection import Reading
from dataloader.sources.sheet_errors import errors_in
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
    rows = [row for batch in open_files(path, Reading(**reading)).batches(100) for row in batch.to_pylist()]
    return [{name: of_any_kind(value) for name, value in row.items()} for row in rows]


def of_any_kind(value: Any) -> Any:
    """A value of a column of several kinds is the one that is there."""
    return next((one for one in value.values() if one is not None), None) if isinstance(value, dict) else value


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


def write_ods(path: Path, *rows: list[Any] | str) -> None:
    """A sheet of LibreOffice; a text is the cells of a row behind an empty one."""

    def cell(value: Any) -> str:
        kind, given = ("string", "") if isinstance(value, str) else ("float", f'office:value="{value}"')
        return f'<table:table-cell office:value-type="{kind}" {given}><text:p>{value}</text:p></table:table-cell>'

    cells = ["<table:table-cell/>" + row if isinstance(row, str) else "".join(map(cell, row)) for row in rows]
    names = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content xmlns:office="{names}:office:1.0" '
        f'xmlns:table="{names}:table:1.0" xmlns:text="{names}:text:1.0" '
        'xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0" office:version="1.2">'
        '<office:body><office:spreadsheet><table:table table:name="One">'
        f"{''.join(f'<table:table-row>{one}</table:table-row>' for one in cells)}"
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        manifest = f'xmlns:manifest="{names}:manifest:1.0"'
        archive.writestr("META-INF/manifest.xml", f"<manifest:manifest {manifest}></manifest:manifest>")
        archive.writestr("content.xml", content)


def test_a_sheet_of_libreoffice_is_read(tmp_path: Path) -> None:
    write_ods(tmp_path / "a.ods", ["id", "v"], [1, "a"], [2, "b"])
    assert rows_of(tmp_path / "a.ods") == [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]


ERRORS = [["id", "amount", "name"], [1, 1.5, "a"], [2, "#N/A", "#REF!"], ["#DIV/0!", 2.5, None], [4, 3, "d"]]


async def test_cells_with_errors_are_rejects_of_their_columns_and_stay_texts(
    database: AsyncEngine, tmp_path: Path
) -> None:
    path = book(tmp_path / "a.xlsx", One=[["id"], [1]], Two=ERRORS)
    with pytest.raises(dl.ValidationError, match=r"row 1, column 'amount': '#N/A' does not fit"):
        await dl.load_files(path, "t", engine=database, sheet="Two")
    report = await dl.load_files(path, "t", engine=database, sheet="Two", on_invalid="reject")
    found = [(one["reject_row"], one["reject_column"]) for one in report.rejects.to_dict("records")]
    assert found == [(1, "amount"), (2, "id")]
    assert report.rejects["amount"].tolist() == ["#N/A", 2.5]
    assert await fetch(database, "SELECT id, amount, name FROM t ORDER BY id") == [(1, 1.5, "a"), (4, 3.0, "d")]


@pytest.mark.parametrize("cells", [None, "A1:C5", "B3:C9"])
def test_an_error_stands_where_it_stood_in_the_sheet(tmp_path: Path, cells: str | None) -> None:
    written = [[], [], *([None, *row] for row in ERRORS)] if cells == "B3:C9" else ERRORS
    rows = rows_of(book(tmp_path / "a.xlsx", One=written), cells=cells)
    if cells == "B3:C9":
        assert [row["id"] for row in rows] == [1, 2, "#DIV/0!", 4]
    else:
        assert [row["name"] for row in rows] == ["a", "#REF!", None, "d"]


def test_an_error_does_not_choose_the_type_of_a_column(tmp_path: Path) -> None:
    assert str(open_files(book(tmp_path / "a.xlsx", One=ERRORS)).schema.field("id").type) == "int64"


def test_an_error_of_libreoffice_is_no_empty_cell(tmp_path: Path) -> None:
    error = (
        '<table:table-cell office:value-type="string" office:string-value="" calcext:value-type="error" '
        'table:number-columns-repeated="2"><text:p>#DIV/0!</text:p></table:table-cell>'
    )
    write_ods(tmp_path / "a.ods", ["id", "v", "w"], [1, 2, 3], error, ["x", 4, 5])
    assert rows_of(tmp_path / "a.ods") == [
        {"id": 1, "v": 2, "w": 3},
        {"id": None, "v": "#DIV/0!", "w": "#DIV/0!"},
        {"id": "x", "v": 4, "w": 5},
    ]


XLS = zlib.decompress(
    base64.b85decode(
        "c-rk)O=uHA6#iy6|F-F-riE50p<vb6i+J(Ut_s?drRqTuK~s}MX`4u>2R&%D<|qiB6fcEdyi~nZMFqWi5Gr~Q1R>F5PlAGnH"
        "tTyYvzVqmG*FAme9L_E_RV`UlbJU!yZdf2QJ#I=T|ol|VWa9r5vtQEDpCK&0kwM`i+&xU;u-u?h(>55LqR-meH-RI<o&L|!l"
        "S@zV&Dsvv$%-iLOz$;LL8PkWE9U~fLP%^Y2xUTS+xsa5Z*5QP%K{v9~8|k;Q_KOt20=1htmgi6rZ+wr7aHb_lfv?63sqz;0;"
        "IdwcDy@8^odFSZ3nyZ0HHJU=FlzL%Dpen3*UeNgFtaA6^Rh?w{0GDWl(7y#ncfuGWXw(ciHGz%;z`65u6Dt_yZ;gHJA_QzBB"
        "Au`C_T%w*wGek#UUSWd08>eRMMG`A3E(I#?2ydBER%MZT2KQ=nzo)gWqWa?Tz-^o*ehwJP?&T(l82(xWkc(3pc>2-(5-NH$V"
        "M5_BnI<#<fMr>|MYaflXU+}@*RVVKzxwLfrX;0~^yNBfYp~{uy{6}{dy|e^b^5<&?{i<KxyUTdy`nA$$|Fdw{nmiD(96fhW|"
        "7o>h1u+p5!nHeI9i{D6gZ)byLy3Jzc*$mawzL{7uUawDC8W=w718USR%~sr)2}Voap7%Y?sw2?#{zdkdFwY~FfcGMFfcGMFf"
        "iDBDE*vo>!<#pewzsE?>Z|~s^&Ave~S|+&^1Lbrbm#cx`@k7#ZM=K%I`~U(8vE?$T&r#7cq`ena6n3@k?)ms{Z$E*wNX%Bh>"
        "8p)n?}ThsXZ~`yauO"
    )
)
"""The columns id and amount: 1, 2.5; 2, #N/A; 3, 4.5."""


def record(kind: int, *parts: bytes) -> bytes:
    """A record of an .xlsb."""
    body = b"".join(parts)
    head = [kind] if kind < 128 else [kind & 127 | 128, kind >> 7]
    return bytes([*head, len(body)]) + body


def wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def at(column: int) -> bytes:
    return struct.pack("<II", column, 0)


def number(column: int, value: float) -> bytes:
    return record(5, at(column), struct.pack("<d", value))


def write_xlsb(path: Path, *rows: bytes) -> None:
    """A sheet with the columns id and amount, and these rows."""
    names = record(6, at(0), wide("id")) + record(6, at(1), wide("amount"))
    cells = (record(0, struct.pack("<IIH", place, 0, 300), bytes(15)) + row for place, row in enumerate([names, *rows]))
    listed = record(156, struct.pack("<II", 0, 1), wide("rId1"), wide("S"))
    size = record(148, struct.pack("<IIII", 0, len(rows), 0, 1))
    parts = {
        "xl/workbook.bin": record(131) + record(143) + listed + record(144) + record(132),
        "xl/worksheets/sheet1.bin": record(129) + size + record(145) + b"".join(cells) + record(146) + record(130),
        "xl/_rels/workbook.bin.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Target="worksheets/sheet1.bin" Type="http://schemas.openxmlformats.org/officeDocument/'
        '2006/relationships/worksheet"/></Relationships>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("name", ["x.xls", "x.xlsb"])
async def test_an_error_in_a_binary_file_is_refused_where_its_column_is_no_text(
    sqlite: AsyncEngine, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name == "x.xls":
        path.write_bytes(XLS)
    else:
        broken = record(3, at(1), b"\x2a")
        write_xlsb(path, number(0, 1) + number(1, 2.5), number(0, 2) + broken, number(0, 3) + number(1, 4.5))
    await execute(sqlite, "CREATE TABLE t (id INTEGER, amount DOUBLE)", "CREATE TABLE u (id INTEGER, amount TEXT)")
    with pytest.raises(dl.ValidationError, match=r"row 1, column 'amount'.*#N/A"):
        await dl.load_files(path, "t", engine=sqlite)
    assert (await dl.load_files(path, "t", engine=sqlite, on_invalid="reject")).rejected == 1
    assert await fetch(sqlite, "SELECT id, amount FROM t") == [(1, 2.5), (3, 4.5)]
    await dl.load_files(path, "u", engine=sqlite)
    assert await fetch(sqlite, "SELECT amount FROM u WHERE id = 2") == [("#N/A",)]


def test_the_result_of_a_formula_may_be_an_error_and_a_number_may_look_like_one(tmp_path: Path) -> None:
    result = record(11, at(1), b"\x07", bytes(6))
    lure = struct.unpack("<d", b"\x03\x09\x00\x00\x00\x00\x00\x00")[0]  # with the next record, an error
    write_xlsb(tmp_path / "x.xlsb", number(0, lure) + number(1, 2), number(0, 2) + result)
    assert errors_in((tmp_path / "x.xlsb").read_bytes(), "S") == {2: {1: "#DIV/0!"}}
    write_xlsb(tmp_path / "y.xlsb", number(0, lure) + number(1, 2))
    assert errors_in((tmp_path / "y.xlsb").read_bytes(), "S") == {}


async def test_the_plan_says_where_errors_cannot_be_told(
    sqlite: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.xls").write_bytes(XLS)
    assert "cannot be told" not in str(await dl.plan_load(str(tmp_path / "x.xls"), "t", engine=sqlite))
    monkeypatch.setitem(sys.modules, "olefile", None)
    plan = await dl.plan_load(str(tmp_path / "x.xls"), "t", engine=sqlite)
    assert "a cell with an error, like #N/A, is NULL: in this file it cannot be told from an empty one" in str(plan)
