"""Cells with an error in the binary files of Excel, .xls and .xlsb, which are records, each with its kind and size."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree

Cells = Iterator[tuple[int, int, str]]
"""The row, the column and the text of each."""
TEXTS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}
_CODES = re.escape(bytes(TEXTS))
_BOF, _EOF, _SHEET, _FORMULA, _ERROR = 0x0809, 0x000A, 0x0085, 0x0006, 0x0205
_BIFF8 = 0x0600
_XLS_ERROR = re.compile(
    rb"\x05\x02\x08\x00.{6}[" + _CODES + rb"]\x01|\x06\x00..{7}\x02.[" + _CODES + rb"].{3}\xff\xff", re.DOTALL
)
_XLSB_ROW, _XLSB_ERROR, _XLSB_FORMULA, _XLSB_SHEET = 0, 3, 11, 156
_XLSB_CELL = re.compile(
    rb"(?:\x03\x09|\x0b(?:[\x09-\x7f]|[\x80-\xff][\x01-\x7f])).[\x00-\x3f]\x00\x00..\x00.[" + _CODES + rb"]", re.DOTALL
)
"""What an error looks like. Other bytes may too: then the records are read for nothing, which takes a while."""


def xls_errors(content: bytes, sheet: str) -> Cells | None:
    """The cells of a sheet of an .xls; None where they cannot be told."""
    try:
        import olefile  # type: ignore[import-untyped]  # noqa: PLC0415 - an optional library
    except ImportError:
        return None
    with olefile.OleFileIO(io.BytesIO(content)) as ole:
        if not ole.exists("Workbook"):  # Excel 5 and before
            return None
        book = ole.openstream("Workbook").read()
    if struct.unpack_from("<HHH", book)[::2] != (_BOF, _BIFF8):
        return None
    start = next((start for name, start in _xls_sheets(book) if name == sheet), None)
    return None if start is None else _xls_cells(book, start)


def _xls_records(book: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """The kind, the place and the size of each record up to the end of a part, without those of charts in it."""
    depth = 0
    while at + 4 <= len(book):
        kind, size = struct.unpack_from("<HH", book, at)
        depth += (kind == _BOF) - (kind == _EOF)
        if not depth:
            return
        if depth == 1:
            yield kind, at + 4, size
        at += 4 + size


def _xls_sheets(book: bytes) -> Iterator[tuple[str, int]]:
    for kind, at, _ in _xls_records(book, 0):
        if kind == _SHEET:
            start, _, length, is_wide = struct.unpack_from("<IHBB", book, at)
            size, encoding = (2 * length, "utf-16-le") if is_wide & 1 else (length, "latin-1")
            yield book[at + 8 : at + 8 + size].decode(encoding), start


def _xls_cells(book: bytes, start: int) -> Cells:
    if _XLS_ERROR.search(book, start) is None:
        return
    for kind, at, _ in _xls_records(book, start):
        if kind == _ERROR:
            row, column, _, code, is_error = struct.unpack_from("<HHHBB", book, at)
        elif kind == _FORMULA:
            row, column, _, what, _, code, _, _, _, mark = struct.unpack_from("<HHHBBBBBBH", book, at)
            is_error = what == 2 and mark == 0xFFFF
        else:
            continue
        if is_error:
            yield row, column, TEXTS.get(code, "")


def xlsb_errors(archive: zipfile.ZipFile, sheet: str) -> Cells:
    """The cells of a sheet of an .xlsb."""
    key = next((key for name, key in _xlsb_sheets(archive.read("xl/workbook.bin")) if name == sheet), None)
    links = ElementTree.fromstring(archive.read("xl/_rels/workbook.bin.rels"))
    part = next((one.get("Target", "") for one in links if one.get("Id") == key), "")
    content = archive.read(part.lstrip("/") if part.startswith("/") else f"xl/{part}")
    if _XLSB_CELL.search(content) is None:
        return
    row = 0
    for kind, at, _ in _xlsb_records(content):
        if kind == _XLSB_ROW:
            (row,) = struct.unpack_from("<I", content, at)
        elif kind in {_XLSB_ERROR, _XLSB_FORMULA}:
            column, _, code = struct.unpack_from("<IIB", content, at)
            yield row, column, TEXTS.get(code, "")


def _xlsb_records(content: bytes) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at < len(content):
        kind = content[at]
        at += 1
        if kind & 0x80:
            kind, at = kind & 0x7F | content[at] << 7, at + 1
        size = shift = 0
        while True:
            size, shift, at = size | (content[at] & 0x7F) << shift, shift + 7, at + 1
            if not content[at - 1] & 0x80:
                break
        yield kind, at, size
        at += size


def _xlsb_sheets(book: bytes) -> Iterator[tuple[str, str]]:
    """The name of each sheet, and that of its part."""
    for kind, at, _ in _xlsb_records(book):
        if kind == _XLSB_SHEET:
            texts, place = [], at + 8
            for _ in range(2):
                (length,) = struct.unpack_from("<I", book, place)
                texts.append(book[place + 4 : place + 4 + 2 * length].decode("utf-16-le"))
                place += 4 + 2 * length
            yield texts[1], texts[0]
