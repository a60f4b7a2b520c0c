"""CSV files as other programs write them are read as they are meant; where they can be read in two ways, that is said.

What a program writes is known as texts: each must come back from the file, and from the type that is found for it.
"""

from __future__ import annotations

import bz2
import csv
import decimal
import gzip
import io
import itertools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from dataloader.conversion.numeric import check_written, read_decimal_comma
from dataloader.errors import PlanError
from dataloader.sources.csv_options import CsvOptions
from dataloader.sources.files import open_files
from dataloader.sources.selection import Reading

Table = dict[str, list[str | None]]
TABLES: dict[str, Table] = {
    "sales": {
        "id": ["1", "2", "3", "4"],
        "name": ["Müller", "Señor O'Neil", 'a "b"', None],
        "price": ["1.50", "22.05", "-0.75", "1000.00"],
        "day": ["2024-01-31", "2024-02-29", None, "2024-12-01"],
    },
    "codes": {
        "zip": ["01234", "00501", "99999", "10115"],
        "sku": ["1E5", "2E10", "17", "3"],
        "phone": ["+4930123", "+1555", "+33", "+7"],
        "note": ["two\nlines", "x, y; z", "tab\there", "|pipe|"],
    },
    "numbers": {
        "n": ["9223372036854775807", "-5", "0", "12"],
        "ratio": ["0.125", "3.5", "100.75", "2.25"],
        "version": ["1.1", "1.10", "1.2", "1.3"],
        "flag": ["true", "false", "true", "true"],
    },
}


@dataclass(frozen=True)
class Writer:
    """The rules by which a program writes CSV; `comma` is its decimal separator."""

    delimiter: str = ","
    encoding: str = "utf-8"
    quoting: int = csv.QUOTE_MINIMAL
    end: str = "\n"
    comma: bool = False
    before: str = ""
    null: str = ""

    def write(self, table: Table) -> bytes:
        out = io.StringIO(newline="")
        out.write(self.before)
        writer = csv.writer(out, delimiter=self.delimiter, quoting=self.quoting, lineterminator=self.end)
        writer.writerow(table)
        for row in zip(*table.values(), strict=True):
            writer.writerow([self.null if one is None else self.spelled(one) for one in row])
        return out.getvalue().encode(self.encoding, errors="strict")

    def spelled(self, text: str) -> str:
        return text.replace(".", ",") if self.comma and is_number(text) else text


def is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()


WRITERS = {
    "pandas": Writer(),
    "pandas on Windows": Writer(end="\r\n"),
    "pandas with a tab": Writer(delimiter="\t"),
    "pandas with a pipe": Writer(delimiter="|"),
    "Excel en-US": Writer(encoding="cp1252", end="\r\n"),
    "Excel en-US, UTF-8": Writer(encoding="utf-8-sig", end="\r\n"),
    "Excel de-DE": Writer(delimiter=";", encoding="cp1252", end="\r\n", comma=True),
    "Excel de-DE, UTF-8": Writer(delimiter=";", encoding="utf-8-sig", end="\r\n", comma=True),
    "Excel fr-FR": Writer(delimiter=";", encoding="latin-1", end="\r\n", comma=True),
    "Excel es-ES": Writer(delimiter=";", encoding="cp1252", end="\r\n", comma=True, before="Ventas\r\n\r\n"),
    "Excel de-CH": Writer(delimiter=";", encoding="cp1252", end="\r\n"),
    "Excel, Unicode text": Writer(delimiter="\t", encoding="utf-16", end="\r\n"),
    "Excel with sep=": Writer(delimiter=";", end="\r\n", before="sep=;\r\n", comma=True),
    "COPY CSV": Writer(),
    "COPY with a delimiter": Writer(delimiter=";"),
    "MariaDB": Writer(quoting=csv.QUOTE_NONNUMERIC),
    "write.csv": Writer(quoting=csv.QUOTE_NONNUMERIC, null="NA"),
    "write.csv2": Writer(delimiter=";", quoting=csv.QUOTE_NONNUMERIC, null="NA", comma=True),
    "a report": Writer(delimiter=";", before="Report of sales\n\n"),
    "comments": Writer(before="# made by a program\n# twice\n"),
    "old macOS": Writer(encoding="utf-16-be", delimiter=";"),
}


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("rows.csv", data)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
    "zip": zipped,
}


def by_pandas(table: Table, path: Path) -> None:
    pd.DataFrame(table).to_csv(path, index=False)


def by_duckdb(table: Table, path: Path) -> None:
    frame = pd.DataFrame(table)  # noqa: F841 - the query names it
    duckdb.sql("SELECT * FROM frame").write_csv(str(path))


CORPUS = [
    *(
        pytest.param(table, writer.write(TABLES[table]), writer, id=f"{name}: {table}")
        for name, writer in WRITERS.items()
        for table in TABLES
    ),
    *(
        pytest.param(table, pack(WRITERS[name].write(TABLES[table])), WRITERS[name], id=f"{name}, {packed}: {table}")
        for (packed, pack), name, table in itertools.product(
            PACKERS.items(), ("pandas", "Excel de-DE", "Excel, Unicode text", "write.csv"), TABLES
        )
    ),
]


@pytest.mark.parametrize(("table", "data", "writer"), CORPUS)
def test_what_a_program_has_written_comes_back(tmp_path: Path, table: str, data: bytes, writer: Writer) -> None:
    (tmp_path / "rows.csv").write_bytes(data)
    check(tmp_path / "rows.csv", TABLES[table], writer)


@pytest.mark.parametrize("write", [by_pandas, by_duckdb])
@pytest.mark.parametrize("table", TABLES)
def test_what_the_program_itself_writes_comes_back(tmp_path: Path, write: Callable[..., None], table: str) -> None:
    write(TABLES[table], tmp_path / "rows.csv")
    check(tmp_path / "rows.csv", TABLES[table], Writer())


def check(path: Path, table: Table, writer: Writer) -> None:
    source = open_files(path)
    read = pa.Table.from_batches(list(source.batches(100)))
    assert read.column_names == list(table)
    for name, texts in table.items():
        written = [writer.null if one is None else writer.spelled(one) for one in texts]
        assert [one or "" for one in read[name].to_pylist()] == written
        field = source.schema.field(name)
        is_missing = (
            not writer.null and writer.quoting == csv.QUOTE_MINIMAL
        )  # neither R's NA nor a text without letters
        if None not in texts or is_missing:
            assert str(field.type) == MEANT[name], name
        given_back(read[name].combine_chunks(), field, [writer.null if one is None else one for one in texts])


def given_back(texts: pa.Array, field: pa.Field, wanted: list[str]) -> None:
    """The type that is found gives every text back, but for the zeros of a scale that all of them have."""
    if pa.types.is_string(field.type) or pa.types.is_null(field.type):
        return
    if pa.types.is_decimal(field.type) or pa.types.is_integer(field.type):
        texts = read_decimal_comma(texts) if field.metadata.get(b"decimal") else texts
        texts = check_written(texts)
    stored = texts.cast(field.type).to_pylist()
    if pa.types.is_decimal(field.type):
        assert stored == [decimal.Decimal(one) if one else None for one in wanted]
    else:
        assert [str(one).lower() if one is not None else "" for one in stored] == wanted


MEANT = {
    **dict.fromkeys(("name", "zip", "sku", "phone", "note", "version"), "string"),
    **{"id": "int64", "n": "int64", "price": "decimal128(15, 2)", "ratio": "decimal128(15, 3)"},
    **{"day": "date32[day]", "flag": "bool"},
}
"""The type of each column of the corpus, whichever program has written it."""


def doubts() -> Iterator[tuple[str, str]]:
    """Columns that can be read in two ways, with what the plan must say of them."""
    values = {
        "either order": ["01/02/2024", "1/2/24", "03.04.2024", "05-06-2024", "12/11/2023", "31.12.1999"],
        "thousands separator": ["1,234", "22,500", "-1,000", "999,999", "1,000", "7,123"],
        "leading zero": ["007", "01234", "00", "-01", "000", "012"],
        "plus sign": ["+5", "+49301", "+1.5", "+0", "+12", "+7"],
        "exponent": ["1E5", "1e-7", "2.5E10", "1e3", "9E9", "-1E5"],
        "hexadecimal": ["0x1F", "0xff", "0x00", "0xAB", "0x7", "0x10"],
    }
    return ((what, one) for what, all_of_them in values.items() for one in all_of_them)


@pytest.mark.parametrize(("doubt", "text"), list(doubts()), ids=lambda one: one)
def test_a_column_that_can_be_read_in_two_ways_is_text_and_the_doubt_is_named(
    tmp_path: Path, doubt: str, text: str
) -> None:
    (tmp_path / "rows.csv").write_text(f"a;b\n{text};x\n{text};y\n")
    field = open_files(tmp_path / "rows.csv").schema.field("a")
    assert field.type == pa.string()
    assert doubt in field.metadata[b"doubt"].decode()


AMBIGUOUS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "two delimiters": ("a;b,c;d\n1;2,3;4\n", r"can be ',' \(2 columns\) or ';' \(3 columns\)", {"delimiter": ";"}),
    "years": ("2023,2024\n1,2\n3,4\n", "can be the header or a row", {"header": True}),
    "numbered columns": ("0,1\n5,6\n7,8\n", "can be the header or a row", {"header": True}),
    "one line of numbers": ("1,2\n", "can be the header or a row", {"header": False}),
}


@pytest.mark.parametrize(("text", "says", "option"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_file_that_can_be_read_in_two_ways_is_refused_and_the_option_decides(
    tmp_path: Path, text: str, says: str, option: dict[str, Any]
) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(PlanError, match=says) as refused:
        open_files(tmp_path / "rows.csv")
    assert next(iter(option)) in refused.value.hint
    open_files(tmp_path / "rows.csv", Reading(csv=CsvOptions(**option)))


def test_a_file_without_a_header_has_numbered_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,alice\n2,bob\n")
    source = open_files(tmp_path / "rows.csv")
    assert source.schema.names == ["column_1", "column_2"]
    assert [row for batch in source.batches(9) for row in batch.to_pylist()][1] == {"column_1": "2", "column_2": "bob"}


def test_an_empty_line_of_a_file_with_one_column_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\nx\n\ny\n")
    assert [one for batch in open_files(tmp_path / "rows.csv").batches(9) for one in batch["a"].to_pylist()] == [
        "x",
        None,
        "y",
    ]


def test_a_field_may_be_of_any_length(tmp_path: Path) -> None:
    rows = ["a,b", *(f"{number},x" for number in range(300_000)), f"1,{'y' * 3_000_000}", "2,z", "3"]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    read = list(open_files(tmp_path / "rows.csv").batches(1_000))
    texts = [one for batch in read for one in batch["b"].to_pylist()]
    assert [len(one or "") for one in texts[-4:]] == [1, 3_000_000, 1, 0]
    assert len(texts) == 300_003


@pytest.mark.parametrize("row", [0, 150_000, 299_999])
def test_ragged_rows_stand_where_they_stood_whatever_block_they_are_in(tmp_path: Path, row: int) -> None:
    rows = [f"{number},x" for number in range(300_000)]
    rows[row] = "1,2,3"
    (tmp_path / "rows.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    read = pa.concat_arrays([batch["b"] for batch in open_files(tmp_path / "rows.csv").batches(70_000)])
    assert (len(read), read.null_count, read[row].as_py()) == (300_000, 1, None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"delimeter": ";"}, "Did you mean 'delimiter'"),
        ({"delimiter": ";;"}, "one ASCII character"),
        ({"encoding": "utf-88"}, "an encoding that Python knows"),
        ({"skip": -1}, "a count of lines"),
        (";", "is not understood"),
    ],
    ids=str,
)
def test_an_option_that_is_not_understood_is_refused_by_name(given: object, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        CsvOptions.of(given)


NULLS = 'a,b,note\n1,"NA",NA\nNA,,na\n-3,2.5,\n'


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (None, [("1", "NA", "NA"), ("NA", None, "na"), ("-3", "2.5", None)]),
        ("NA", [("1", "NA", None), (None, "", "na"), ("-3", "2.5", "")]),
        (["NA", "", "na"], [("1", "NA", None), (None, None, None), ("-3", "2.5", None)]),
        ([], [("1", "NA", "NA"), ("NA", "", "na"), ("-3", "2.5", "")]),
    ],
    ids=str,
)
def test_the_fields_that_are_null_are_those_that_were_named(tmp_path: Path, given: Any, rows: list[Any]) -> None:
    (tmp_path / "x.csv").write_text(NULLS)
    options = None if given is None else CsvOptions.of({"null_values": given})
    source = open_files(tmp_path / "x.csv", Reading(csv=options))
    assert [tuple(row.values()) for batch in source.batches(10) for row in batch.to_pylist()] == rows
    assert ("NULL is" in str(source.facts)) == (given is not None)


def test_what_is_null_hides_neither_a_decimal_comma_nor_a_missing_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("5;1,5\n6;NA\nNA;2,25\n")
    source = open_files(tmp_path / "x.csv", Reading(csv=CsvOptions(null_values=["NA", ""])))
    assert "header none" in str(source.facts)
    assert "decimal ','" in str(source.facts)
    read = [batch.to_pydict() for batch in source.batches(10)]
    assert read == [{"column_1": ["5", "6", None], "column_2": ["1,5", None, "2,25"]}]
    assert source.schema.types == [pa.int64(), pa.decimal128(15, 2)]
