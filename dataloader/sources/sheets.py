"""Sheets of Excel and LibreOffice: .xlsx, .xlsm, .xlsb, .xls and .ods, by the extra `excel`."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.arrow_errors import in_words
from dataloader.conversion.inference import inferred, varying
from dataloader.errors import PlanError
from dataloader.formatting import did_you_mean
from dataloader.sources.formats import Format
from dataloader.sources.paths import File
from dataloader.sources.selection import Reading
from dataloader.sources.sheet_errors import Errors, errors_in

SHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_CELLS = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d+)(?::\$?([A-Za-z]{1,3})\$?(\d+)?)?")
_UNTOLD = "a cell with an error, like #N/A, is NULL: in this file it cannot be told from an empty one"
BLOCK_ROWS = 500
_EXACT = 2**53
"""Excel keeps numbers as floats: up to here each integer is one of them."""


class Sheet:
    """One sheet of a file, read as a whole at its first use: its first row has the names of the columns."""

    def __init__(self, file: File, reading: Reading) -> None:
        self._file = file
        self._name = file.name
        self._reading = reading
        self._table: pa.Table | None = None
        self._errors: dict[str, dict[int, str]] = {}
        self.tells_errors = True

    @property
    def table(self) -> pa.Table:
        """Its columns: integers where all numbers of one are whole, times where some dates have one.

        A cell with an error does not change the type of its column: it is NULL here, and its text in `batches`.

        Raises
        ------
        PlanError
            When there is no such sheet or range, or a column has no name.
        """
        if self._table is None:
            names, columns = self._columns()
            self._errors = dict(zip(names, map(_take_errors, columns), strict=True))
            arrays = [_array(name, values) for name, values in zip(names, columns, strict=True)]
            fields = [pa.field(name, one.type) for name, one in zip(names, arrays, strict=True)]
            schema = pa.schema([varying(field) if self._errors[field.name] else field for field in fields])
            self._table = pa.table(arrays, schema=schema)
        return self._table

    def batches(self, chunk_rows: int) -> Iterator[pa.RecordBatch]:
        """Its rows; the next use reads it again."""
        table, self._table = self.table, None
        first_row = 0
        for batch in table.to_batches(max_chunksize=chunk_rows):
            yield self._with_errors(batch, first_row)
            first_row += batch.num_rows

    def _with_errors(self, batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        """The batch with the texts of cells with errors, which only a column of text takes."""
        rows = range(first_row, first_row + batch.num_rows)
        for position, name in enumerate(batch.schema.names):
            here = {row: text for row, text in self._errors[name].items() if row in rows}
            if here:
                values = batch.column(position).to_pylist()
                for row, text in here.items():
                    values[row - first_row] = text
                batch = batch.set_column(position, name, inferred(name, values))
        return batch

    def _columns(self) -> tuple[list[str], list[list[Any]]]:
        rows = self._rows()
        header = next(rows, None)
        if header is None:
            raise PlanError(f"{self._where} is empty", hint="Choose another one with sheet= or cells=.")
        columns: list[list[Any]] = [[] for _ in header]
        # Fewer rows at a time than lists the garbage collector lets live before it looks through everything (700).
        while block := list(itertools.islice(rows, BLOCK_ROWS)):
            for column, more in zip(columns, zip(*block, strict=True), strict=True):
                column.extend(more)
            block.clear()
        _drop_empty_rows(columns)
        names: list[str] = []
        kept: list[list[Any]] = []
        for position, (name, values) in enumerate(zip(header, columns, strict=True), start=1):
            if name != "":
                names.append(str(int(name)) if isinstance(name, float) and name.is_integer() else str(name).strip())
                kept.append(values)
            elif any(value != "" for value in values):
                hint = "Write one into the first row, or choose a range without the column: cells='B2:F'."
                raise PlanError(f"column {position} of {self._where} has values and no name", hint=hint)
        return names, kept

    def _rows(self) -> Iterator[list[Any]]:
        """The rows of the range, from the first one that is not empty."""
        sheet, errors = self._sheet()
        if not sheet.height:
            return iter(())
        if self._reading.cells is None:
            whole = itertools.islice(sheet.iter_rows(), sheet.start[0], None)
            return _marked(whole, errors, sheet.start[0]) if errors else whole
        top, left, bottom, right = _corners(self._reading.cells)
        every = iter(sheet.to_python(skip_empty_area=False, nrows=bottom)[top:])
        rows = [row[left:right] for row in _marked(every, errors, top)]
        return iter(rows if any(map(any, rows)) else ())

    def _sheet(self) -> tuple[Any, Errors]:
        """The sheet that is meant, and where it has errors."""
        calamine = _calamine()
        with self._file.random_access() as opened:
            content = opened.read()
        try:
            book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
        except calamine.PasswordError as error:
            raise PlanError(f"{self._name} is encrypted", hint="Save it without a password.") from error
        except calamine.CalamineError as error:
            hint = "Check that the file is complete, and is what its name says."
            raise PlanError(f"{self._name} cannot be read: {in_words(error)}", hint=hint) from error
        if self._reading.sheet is None:
            self._choose_single(book)
        names, asked = book.sheet_names, self._reading.sheet
        name = names[asked] if _is_position(asked, names) else asked
        if name not in names:
            raise PlanError(f"{self._name} has no sheet {asked!r}", hint=did_you_mean(asked, names))
        with ThreadPoolExecutor(1) as beside:  # both read without the interpreter's lock
            told = beside.submit(errors_in, content, str(name))
            sheet = book.get_sheet_by_name(name)
            errors = told.result()
        self.tells_errors = errors is not None
        return sheet, errors or {}

    def _choose_single(self, book: Any) -> None:
        """Which of several sheets is meant is not guessed; empty and hidden ones do not count."""
        calamine = _calamine()
        seen = [one.name for one in book.sheets_metadata if one.visible == calamine.SheetVisibleEnum.Visible]
        filled = [name for name in seen if book.get_sheet_by_name(name).height] if len(seen) > 1 else seen
        if len(filled) > 1:
            hint = f"Choose one: sheet={filled[0]!r}. There are {', '.join(map(repr, filled))}."
            raise PlanError(f"{self._name} has several sheets", hint=hint)
        self._reading = replace(self._reading, sheet=(filled or book.sheet_names)[0])

    @property
    def _where(self) -> str:
        cells = "" if self._reading.cells is None else f", {self._reading.cells}"
        return f"{self._name}{'' if self._reading.sheet is None else f', sheet {self._reading.sheet!r}'}{cells}"


def sheet_format(file: File, reading: Reading) -> Format:
    """How one file is read: a sheet is read as a whole, and once for its columns and its rows."""
    sheet = Sheet(file, reading)
    return Format(
        lambda _file: sheet.table.schema,
        lambda _file: len(sheet.table),
        lambda _file, chunk_rows, _names: sheet.batches(chunk_rows),
        lambda _file: "" if sheet.tells_errors else _UNTOLD,
    )


class _Error(str):
    """The text of a cell with an error."""


def _marked(rows: Iterator[list[Any]], errors: Errors, first_row: int) -> Iterator[list[Any]]:
    """The rows with their errors, of which calamine says nothing."""
    for number, row in enumerate(rows, start=first_row):
        for column, text in errors.get(number, {}).items():
            if column < len(row):
                row[column] = _Error(text)
        yield row


def _take_errors(values: list[Any]) -> dict[int, str]:
    """Take the errors out of a column."""
    if _Error not in set(map(type, values)):
        return {}
    found = {row: str(value) for row, value in enumerate(values) if type(value) is _Error}
    for row in found:
        values[row] = ""
    return found


def _drop_empty_rows(columns: list[list[Any]]) -> None:
    """Take out the empty rows at the end, which were formatted once."""
    while columns and columns[0] and all(column[-1] == "" for column in columns):
        for column in columns:
            column.pop()


def _is_position(asked: object, names: list[str]) -> bool:
    return isinstance(asked, int) and -len(names) <= asked < len(names)


def _calamine() -> Any:
    try:
        import python_calamine  # noqa: PLC0415 - an optional library
    except ImportError as error:
        hint = "Install it: pip install 'notebook-dataloader[excel]'."
        raise PlanError("sheets are read by python-calamine, which is not installed", hint=hint) from error
    return python_calamine


def _corners(cells: str) -> tuple[int, int, int | None, int | None]:
    """The first row and column of a range, and those behind its last."""
    found = _CELLS.fullmatch(cells.strip()) if isinstance(cells, str) else None
    if found is None or found[2] == "0":
        hint = "Pass the first and the last cell, like cells='B3:F100', or cells='B3:F' down to the last row."
        raise PlanError(f"cells={cells!r} is not a range", hint=hint)
    left, top, right, bottom = found.groups()
    last = None if right is None else _column(right) + 1
    return int(top) - 1, _column(left), None if bottom is None else int(bottom), last


def _column(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _array(name: str, values: Sequence[Any]) -> pa.Array:
    kinds = set(map(type, values))
    if str in kinds and "" in values:
        values = [None if value == "" else value for value in values]
        kinds = set(map(type, values)) - {type(None)}
    if kinds == {float}:
        array = pa.array(values, pa.float64())
        numbers = array.drop_null()
        is_whole = pc.all(pc.and_(pc.equal(pc.trunc(numbers), numbers), pc.less_equal(pc.abs(numbers), _EXACT))).as_py()
        return array.cast(pa.int64()) if is_whole else array
    if kinds == {dt.date, dt.datetime}:
        return pa.array([_with_time(value) for value in values], pa.timestamp("us"))
    return inferred(name, list(values))


def _with_time(value: Any) -> Any:
    """A date as the moment that it begins: Excel shows both by one kind of number."""
    return dt.datetime(value.year, value.month, value.day) if type(value) is dt.date else value
