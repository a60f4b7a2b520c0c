"""Cells of a spreadsheet with an error, like #N/A: calamine gives them as empty ones."""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from typing import IO
from xml.etree import ElementTree

from dataloader.sources.binary_errors import xls_errors, xlsb_errors

Errors = dict[int, dict[int, str]]
"""The texts of cells with errors, by row and column."""
_BLOCK = 1 << 20
_CELL, _TABLE = b't="e"', b'value-type="error"'
UNNAMED = "#ERROR!"


def errors_in(content: bytes, sheet: str) -> Errors | None:
    """Find the cells of one sheet with an error; None where they cannot be told from empty ones.

    To read them costs more than to read the sheet: it is done only where the bytes say that there may be one.
    """
    try:
        cells = _cells(content, sheet)
        if cells is None:
            return None
        found: Errors = defaultdict(dict)
        for row, column, text in cells:
            found[row][column] = text or UNNAMED
    except (struct.error, IndexError, KeyError, UnicodeError):  # a binary file that is not as it should be
        return None
    return found


def _cells(content: bytes, sheet: str) -> Iterator[tuple[int, int, str]] | None:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return xls_errors(content, sheet)
    archive = zipfile.ZipFile(io.BytesIO(content))
    parts = set(archive.namelist())
    if "xl/workbook.bin" in parts:
        return xlsb_errors(archive, sheet)
    is_xlsx = "xl/workbook.xml" in parts
    part, mark = (_part_of(archive, sheet), _CELL) if is_xlsx else ("content.xml", _TABLE)
    if part not in parts or not _has(archive, part, mark):
        return iter(())
    return (_xlsx_errors if is_xlsx else _ods_errors)(archive.open(part), sheet)


def _has(archive: zipfile.ZipFile, part: str, mark: bytes) -> bool:
    with archive.open(part) as opened:
        end = b""
        while block := opened.read(_BLOCK):
            if mark in end + block:
                return True
            end = block[-len(mark) :]
    return False


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str:
    """Where the cells of a sheet are in an .xlsx; nowhere, if it is made otherwise."""
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    for one in book.iterfind("{*}sheets/{*}sheet"):
        if one.get("name") == sheet:
            key = next((value for name, value in one.items() if name.endswith("}id")), None)
            links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
            target = next((link.get("Target", "") for link in links if link.get("Id") == key), "")
            return posixpath.normpath(posixpath.join("/xl", target)).lstrip("/")
    return ""


def _xlsx_errors(opened: IO[bytes], sheet: str) -> Iterator[tuple[int, int, str]]:
    row, column = -1, -1
    for event, element in ElementTree.iterparse(opened, ("start", "end")):
        name = element.tag.rpartition("}")[2]
        if event == "start" and name == "row":
            row, column = int(element.get("r", row + 2)) - 1, -1
        elif event == "start" and name == "c":
            column = _column(element.get("r", "")) if element.get("r") else column + 1
        elif event == "end" and name == "c":
            if element.get("t") == "e":
                yield row, column, element.findtext("{*}v", "")
        elif event == "end" and name == "row":
            element.clear()


def _column(cell: str) -> int:
    number = 0
    for letter in filter(str.isalpha, cell.upper()):
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _ods_errors(opened: IO[bytes], sheet: str) -> Iterator[tuple[int, int, str]]:
    table, row = "", 0
    for event, element in ElementTree.iterparse(opened, ("start", "end")):
        name = element.tag.rpartition("}")[2]
        if event == "start" and name == "table":
            table, row = _attribute(element, "name"), 0
        elif event == "end" and name == "table-row":
            times = int(_attribute(element, "number-rows-repeated") or 1)
            if table == sheet:
                for column, text in _row_errors(element):
                    yield from ((row + number, column, text) for number in range(times))
            row += times
            element.clear()


def _row_errors(row: ElementTree.Element) -> Iterator[tuple[int, str]]:
    column = 0
    for cell in row:
        times = int(_attribute(cell, "number-columns-repeated") or 1)
        if any(name.endswith("calcext:1.0}value-type") and value == "error" for name, value in cell.items()):
            text = "".join(cell.itertext()).strip()
            yield from ((column + number, text) for number in range(times))
        column += times


def _attribute(element: ElementTree.Element, name: str) -> str:
    return next((value for key, value in element.items() if key.rpartition("}")[2] == name), "")
