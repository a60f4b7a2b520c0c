"""How a CSV file is written, found out from its beginning, with the evidence."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from dataloader.errors import PlanError
from dataloader.formatting import quantity
from dataloader.sources.csv_options import CsvOptions

DELIMITERS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
LINES = 1_000
CHARACTERS = 1 << 18
"""So much of the beginning is read to find out how the rest is written."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_NOT_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_SEPARATOR_LINE = re.compile(r'^"?sep=(.)"?$', re.IGNORECASE)
_VALUE = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?|\d{4}-\d\d-\d\d([T ].*)?")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_POINT = re.compile(r"[+-]?\d+\.\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_YEARS = range(1900, 2101)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written.

    Attributes
    ----------
    nulls : tuple of str
        The fields without quotes that are NULL.
    evidence : tuple of str
        What each finding rests on.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    quote: str = '"'
    decimal: str = "."
    header: bool = True
    skip: int = 0
    nulls: tuple[str, ...] = ("",)
    evidence: tuple[str, ...] = ()

    def found(self, evidence: str, **findings: object) -> Dialect:
        """The dialect with a finding."""
        return replace(self, evidence=(*self.evidence, evidence), **findings)  # type: ignore[arg-type]  # by name

    @property
    def is_ordinary(self) -> bool:
        """Whether there is nothing to tell of it."""
        return replace(self, evidence=()) == Dialect()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the beginning: the fields, and how many lines end with it."""

    fields: list[str]
    lines: int


def find_dialect(head: bytes, name: str, given: CsvOptions) -> Dialect:
    """Find out how a file is written.

    Raises
    ------
    PlanError
        When it can be read in two ways; both are named, and the option that decides.
    """
    dialect = _encoding(head, given)
    text = head[: 4 * CHARACTERS].decode(dialect.encoding, errors="replace").removeprefix("\ufeff")[:CHARACTERS]
    if given.quote is not None:
        dialect = dialect.found(f"quote {given.quote or 'none'} (requested)", quote=given.quote)
    dialect = _delimiter(text, name, dialect, given)
    rows = read_rows(text, dialect)
    dialect, rows = _skipped(rows, dialect, given)
    dialect = _nulls(dialect, given)
    rows = [*rows[:1], *(Row(_without_nulls(row.fields, dialect), row.lines) for row in rows[1:])]
    dialect = _header(rows, name, dialect, given)
    return _decimal([row.fields for row in rows[dialect.header :]], dialect, given)


def quoting(dialect: Dialect) -> dict[str, Any]:
    """What Python's reader is told of quotes."""
    return {"quotechar": dialect.quote} if dialect.quote else {"quotechar": None, "quoting": csv.QUOTE_NONE}


def read_rows(text: str, dialect: Dialect) -> list[Row]:
    """The first lines of a file, as far as they can be read."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, **quoting(dialect))
    rows: list[Row] = []
    try:
        for fields in reader:
            rows.append(Row(fields, reader.line_num))
            if len(rows) == LINES:
                return rows
    except csv.Error:  # a field of more than 128 kB: the rows before it are enough
        return rows
    return rows if not rows or text.endswith(("\n", "\r")) or len(rows) == 1 else rows[: _complete(text, rows)]


def _complete(text: str, rows: list[Row]) -> int:
    """The last line may have been cut where the beginning ends."""
    return len(rows) if len(text) < CHARACTERS else len(rows) - 1


def _encoding(head: bytes, given: CsvOptions) -> Dialect:
    if given.encoding is not None:
        return Dialect().found(f"encoding {given.encoding} (requested)", encoding=given.encoding)
    for bom, name in _BOMS:
        if head.startswith(bom):
            return Dialect().found(f"encoding {name.removesuffix('-sig')} (byte order mark)", encoding=name)
    if (zeros := _utf16(head)) is not None:
        return Dialect().found(f"encoding {zeros} (every other byte is 0)", encoding=zeros)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        if _MULTIBYTE.search(head):  # UTF-8 with a line that is damaged, which is refused where it is read
            return Dialect()
        line, byte = head.count(b"\n", 0, error.start) + 1, head[error.start]
        name = "latin-1" if _NOT_CP1252.search(head) else "cp1252"
        why = f"encoding {name} (line {line:,} has the byte 0x{byte:02X}, which is not UTF-8; csv= decides: encoding)"
        return Dialect().found(why, encoding=name)
    return Dialect()


def _utf16(head: bytes) -> str | None:
    even, odd = head[0:4096:2], head[1:4096:2]
    if len(odd) < 2 or b"\0" not in head[:4096]:
        return None
    if odd.count(0) > 0.7 * len(odd) and not even.count(0):
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > 0.7 * len(even) and not odd.count(0) else None


def _delimiter(text: str, name: str, dialect: Dialect, given: CsvOptions) -> Dialect:
    if given.delimiter is not None:
        shown = DELIMITERS.get(given.delimiter, repr(given.delimiter))
        return dialect.found(f"delimiter {shown} (requested)", delimiter=given.delimiter)
    if match := _SEPARATOR_LINE.match(text.partition("\n")[0].strip()):
        said = f"delimiter {DELIMITERS.get(match[1], repr(match[1]))} (line 1 says so)"
        return dialect.found(said, delimiter=match[1], skip=1)
    found = {one: _widths(text, replace(dialect, delimiter=one), given.skip) for one in DELIMITERS}
    clean = [one for one, widths in found.items() if widths and len(set(widths)) == 1 and widths[0] > 1]
    if len(clean) > 1:
        readings = " or ".join(f"{DELIMITERS[one]} ({found[one][0]} columns)" for one in clean)
        hint = f"Say which it is, for example csv={{'delimiter': {clean[0]!r}}}."
        raise PlanError(f"the delimiter of {name} can be {readings}", hint=hint)
    usual = "\t" if ".tsv" in name.lower() else ","
    best = clean[0] if clean else _most_regular(found) or usual
    count = len(found[best])
    many = quantity(count, "line")
    why = f"in each of the first {many}" if clean else f"in most of the first {many}"
    if not clean and not any(max(widths, default=1) > 1 for widths in found.values()):
        return replace(dialect, delimiter=best)
    return dialect.found(f"delimiter {DELIMITERS[best]} ({why})", delimiter=best)


def _widths(text: str, dialect: Dialect, skip: int | None) -> list[int]:
    """How many fields the lines have, without those before the header."""
    rows = read_rows(text, dialect)
    before = _before_header(rows) if skip is None else skip
    return [len(row.fields) for row in rows if row.fields and row.lines > before]


def _most_regular(found: dict[str, list[int]]) -> str | None:
    shares = {}
    for one, widths in found.items():
        width, count = Counter(widths).most_common(1)[0] if widths else (1, 0)
        if width > 1 and widths[0] > 1 and count * 2 > len(widths):
            shares[one] = count / len(widths)
    best = max(shares, key=lambda one: shares[one], default=None)
    return best if best is not None and list(shares.values()).count(shares[best]) == 1 else None


def _before_header(rows: list[Row]) -> int:
    """The lines before the header: comments, or a title and an empty line."""
    before = 0
    for row in rows:
        if row.fields and not row.fields[0].startswith("#"):
            break
        before = row.lines
    titled = [row for row in rows if row.lines > before][:3]
    if len(titled) == 3 and len(titled[0].fields) == 1 and not titled[1].fields and len(titled[2].fields) > 1:
        return titled[1].lines
    return before


def _skipped(rows: list[Row], dialect: Dialect, given: CsvOptions) -> tuple[Dialect, list[Row]]:
    before = given.skip if given.skip is not None else max(dialect.skip, _before_header(rows))
    after = [row for row in rows if row.lines > before and row.fields]
    if before and given.skip is not None:
        dialect = dialect.found(f"{quantity(before, 'line')} skipped (requested)", skip=before)
    elif before > dialect.skip:
        dialect = dialect.found(f"{quantity(before, 'line')} skipped (before the header)", skip=before)
    return dialect, after


def _nulls(dialect: Dialect, given: CsvOptions) -> Dialect:
    if given.null_values is None:
        return dialect
    nulls = tuple(given.null_values)
    shown = ", ".join(map(repr, nulls)) or "no field"
    return dialect.found(f"NULL is {shown} (requested)", nulls=nulls)


def _without_nulls(fields: list[str], dialect: Dialect) -> list[str]:
    """The fields of a row, those empty that are NULL: they say nothing of the others of their column."""
    return ["" if field in dialect.nulls else field for field in fields]


def _header(rows: list[Row], name: str, dialect: Dialect, given: CsvOptions) -> Dialect:
    if given.header is not None:
        return dialect.found(
            "header " + ("line (requested)" if given.header else "none (requested)"), header=given.header
        )
    if not rows or not any(map(_VALUE.fullmatch, rows[0].fields)):
        return dialect
    first, body = rows[0].fields, [row.fields for row in rows[1:] if len(row.fields) == len(rows[0].fields)]
    values = [number for number, field in enumerate(first) if _VALUE.fullmatch(field)]
    numeric = [number for number in range(len(first)) if body and all(map(_is_value, (row[number] for row in body)))]
    if body and not set(numeric) <= {*values, *(number for number, field in enumerate(first) if not field)}:
        return dialect
    if body and numeric and not _may_be_names([first[number] for number in values]):
        return dialect.found("header none (line 1 has values like those below it)", header=False)
    if body and not numeric:
        return dialect
    shown = ", ".join(first)[:60]
    what = f"the first line of {name} ({shown}) can be the header or a row"
    raise PlanError(what, hint="Say which it is: csv={'header': True} or csv={'header': False}.")


def _is_value(field: str) -> bool:
    return not field or _VALUE.fullmatch(field) is not None


def _may_be_names(values: list[str]) -> bool:
    """Years, or numbers counted from 0 or 1 as pandas and R name columns."""
    if not all(one.isdecimal() for one in values):
        return False
    numbers = list(map(int, values))
    counted = numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1))) and len(numbers) > 1
    return counted or all(one in _YEARS for one in numbers)


def _decimal(rows: list[list[str]], dialect: Dialect, given: CsvOptions) -> Dialect:
    if given.decimal is not None:
        return dialect.found(f"decimal {given.decimal!r} (requested)", decimal=given.decimal)
    width = max(map(len, rows), default=0)
    with_comma, sure = 0, 0
    for number in range(width):
        fields = [row[number] for row in rows if len(row) > number and row[number]]
        if any(_POINT.fullmatch(field) for field in fields):
            return dialect
        commas = [field for field in fields if _COMMA.fullmatch(field)]
        if commas and all(field.lstrip("+-").isdecimal() or _COMMA.fullmatch(field) for field in fields):
            with_comma += len(commas)
            sure += sum(_THOUSANDS.fullmatch(field) is None for field in commas)
    if not sure:
        return dialect
    return dialect.found(f"decimal ',' (in {quantity(with_comma, 'number')})", decimal=",")
