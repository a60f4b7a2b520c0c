"""Files of every kind become the rows that are in them, streamed, or an error that names the file."""

from __future__ import annotations

import collections
import datetime
import gzip
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pytest

from dataloader.conversion.column_types import ColumnType
from dataloader.conversion.converter import Converter
from dataloader.conversion.mixed import MixedType, mixed_objects, unconvertible
from dataloader.conversion.rules import ColumnPlan
from dataloader.errors import DataLoaderError, LoadError, PlanError, SchemaMismatch
from dataloader.sources.files import open_files
from dataloader.sources.paths import are_paths

TABLE = pa.table({"id": [1, 2, 3], "name": ["x", None, "z"]})
CSV = "id,name\n1,x\n2,\n3,z\n"
JSONL = "".join(json.dumps(row) + "\n" for row in TABLE.to_pylist())


def rows_of(paths: Any, chunk_rows: int = 2) -> list[dict[str, Any]]:
    return [row for chunk in open_files(paths).batches(chunk_rows) for row in chunk.to_pylist()]


def as_text(paths: Any, column: str) -> list[str | None]:
    """What a text column would store of the files."""
    texts: list[str | None] = []
    for chunk in open_files(paths).batches(100):
        plan = ColumnPlan(column, chunk[column].type, ColumnType("text", "text"), pa.string(), False, "checked")
        texts += Converter((plan,))(chunk.select([column]), 0).batch[column].to_pylist()
    return texts


def as_given(values: pa.Array) -> list[str]:
    """The values as text, whether they have one type or each its own."""
    objects = mixed_objects(values) if isinstance(values.type, MixedType) else values.to_pylist()
    return [str(value) for value in objects]


def write_arrow_stream(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_arrow_file(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.csv": lambda path: path.write_text(CSV),
    "rows.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.encode())),
    "ROWS.CSV": lambda path: path.write_text(CSV),
    "rows.parquet": lambda path: pa.parquet.write_table(TABLE, path, row_group_size=2),
    "rows.arrow": lambda path: write_arrow_file(TABLE, path),
    "stream.arrow": lambda path: write_arrow_stream(TABLE, path),
    "rows.feather": lambda path: pa.feather.write_feather(TABLE, path),
    "rows.jsonl": lambda path: path.write_text(JSONL),
    "rows.ndjson": lambda path: path.write_text(JSONL),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(JSONL.encode())),
    "rows.json": lambda path: path.write_text(json.dumps(TABLE.to_pylist(), indent=2)),
    "lines.json": lambda path: path.write_text(JSONL),
    "rows.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(TABLE.to_pylist()).encode())),
    "rows.orc": lambda path: pa.orc.write_table(TABLE, path),
}


def texts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: None if value is None else str(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
def test_a_file_of_every_kind_gives_its_rows_in_exact_chunks(
    tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    write(tmp_path / name)
    source = open_files(tmp_path / name)
    assert (source.name, source.schema.names) == (name, ["id", "name"])
    assert source.schema.field("id").type == pa.int64()
    cut = list(source.batches(2))
    assert [chunk.num_rows for chunk in cut] == [2, 1]
    assert texts([row for chunk in cut for row in chunk.to_pylist()]) == texts(TABLE.to_pylist())


def test_the_rows_of_parquet_are_known_and_those_of_csv_are_not(tmp_path: Path) -> None:
    for name in ("rows.parquet", "rows.csv"):
        WRITERS[name](tmp_path / name)
    assert open_files(tmp_path / "rows.parquet").rows == 3
    assert open_files([tmp_path / "rows.parquet"] * 2).rows == 6
    assert open_files(tmp_path / "rows.csv").rows is None
    assert open_files([tmp_path / "rows.parquet", tmp_path / "rows.csv"]).rows is None


def test_a_glob_is_read_in_the_order_of_the_names(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        (tmp_path / f"part-{number}.csv").write_text(f"id\n{number}\n")
    assert [row["id"] for row in rows_of(str(tmp_path / "part-*.csv"))] == ["1", "2", "3"]
    assert open_files(str(tmp_path / "part-*.csv")).name == "3 files"


def test_a_list_is_read_in_its_own_order(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"part-{number}.csv").write_text(f"id\n{number}\n")
    assert [row["id"] for row in rows_of([tmp_path / "part-2.csv", str(tmp_path / "part-1.csv")])] == ["2", "1"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "part[1].csv").write_text("id\n1\n")
    assert rows_of(str(tmp_path / "part[1].csv")) == [{"id": "1"}]


def test_a_file_url_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two words.csv"
    path.write_text(CSV)
    assert len(rows_of(path.as_uri())) == 3


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet", "rows.jsonl"])
def test_a_url_that_only_fsspec_knows_is_read(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    folder = f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").pipe(f"{folder}/{name}", (tmp_path / name).read_bytes())
    assert texts(rows_of(f"{folder}/{name}")) == texts(TABLE.to_pylist())
    assert len(rows_of(f"{folder}/*{name[4:]}")) == 3


@pytest.mark.parametrize("name", [b"caf\xe9", "\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode()])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".jsonl"])
def test_a_file_is_read_whatever_the_bytes_of_its_name_are(tmp_path: Path, name: bytes, suffix: str) -> None:
    """In the locale C Python takes every byte beyond ASCII for a lone surrogate, as it does here with latin 1."""
    WRITERS[f"rows{suffix}"](tmp_path / f"rows{suffix}")
    path = tmp_path / os.fsdecode(name + suffix.encode())
    (tmp_path / f"rows{suffix}").rename(path)
    assert texts(rows_of(path)) == texts(TABLE.to_pylist())
    source = open_files(path)
    assert source.name == name.decode(errors="backslashreplace") + suffix
    assert source.paths == (str(path),)


def test_an_empty_csv_field_is_null_and_a_quoted_one_is_an_empty_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,name\n1,\n2,""\n3,NA\n4,NULL\n5,null\n6,nan\n7,#N/A\n')
    assert [row["name"] for row in rows_of(path)] == [None, "", "NA", "NULL", "null", "nan", "#N/A"]


def test_the_digits_of_a_csv_are_kept_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c\n007,1.10,12345678901234567890.123456789\n")
    source = open_files(path)
    assert source.schema.types == [pa.string(), pa.decimal128(15, 2), pa.decimal128(38, 9)]
    assert rows_of(path) == [{"a": "007", "b": "1.10", "c": "12345678901234567890.123456789"}]


def test_csv_quotes_and_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfid,name\r\n1,"a, ""b"""\r\n2,"two\nlines"\r\n')
    assert rows_of(path) == [{"id": "1", "name": 'a, "b"'}, {"id": "2", "name": "two\nlines"}]


def test_a_csv_with_line_ends_inside_of_quotes_is_read_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    text = "line\n" * 300
    path.write_text("id,name\n" + "".join(f'{number},"{text}"\n' for number in range(3000)))
    read = rows_of(path, 1000)
    assert [row["id"] for row in read] == [str(number) for number in range(3000)]
    assert {row["name"] for row in read} == {text}


def test_a_csv_with_a_header_only_has_columns_and_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,name\n")
    assert open_files(path).schema.names == ["id", "name"]
    assert rows_of(path) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "arrow"])
def test_columns_in_another_order_are_matched_by_name(tmp_path: Path, suffix: str) -> None:
    first, second = (tmp_path / f"{name}.{suffix}" for name in "ab")
    one, two = pa.table({"a": [1], "b": [2]}), pa.table({"b": [20], "a": [10]})
    for path, table in ((first, one), (second, two)):
        if suffix == "csv":
            pa.csv.write_csv(table, path)
        elif suffix == "parquet":
            pa.parquet.write_table(table, path)
        elif suffix == "jsonl":
            path.write_text(json.dumps(table.to_pylist()[0]) + "\n")
        else:
            write_arrow_file(table, path)
    assert texts(rows_of([first, second])) == texts([{"a": 1, "b": 2}, {"a": 10, "b": 20}])


def test_files_with_different_columns_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,x\n")
    (tmp_path / "b.csv").write_text("id,nom\n1,x\n")
    with pytest.raises(SchemaMismatch, match=r"b\.csv has id, nom; a\.csv has id, name.*name, nom"):
        open_files([tmp_path / "a.csv", tmp_path / "b.csv"])


FIRST_AND_SECOND: dict[str, tuple[pa.Table, pa.Table]] = {
    "widths": (pa.table({"a": pa.array([1, 2, 3], pa.int32())}), pa.table({"a": [2**40, 5, 6]})),
    "integer and float": (pa.table({"a": [1, 2, 3]}), pa.table({"a": [2.5, 3.5, 4.5]})),
    "nothing and text": (pa.table({"a": pa.nulls(3)}), pa.table({"a": ["x", "y", "z"]})),
    "nullable and not": (
        pa.table({"a": [1, 2, 3]}),
        pa.table({"a": [4, 5, 6]}, schema=pa.schema([pa.field("a", pa.int64(), nullable=False)])),
    ),
    "written by pandas": (
        pa.Table.from_pandas(pd.DataFrame({"a": [1, 2, 3]})),
        pa.Table.from_pandas(pd.DataFrame({"a": [4, 5]})),
    ),
    "dictionary and text": (pa.table({"a": pa.array(["x"] * 3).dictionary_encode()}), pa.table({"a": ["y"] * 3})),
}


@pytest.mark.parametrize("chunk_rows", [3, 2])
@pytest.mark.parametrize(("first", "second"), FIRST_AND_SECOND.values(), ids=FIRST_AND_SECOND)
def test_parquet_files_whose_types_differ_keep_every_value(
    tmp_path: Path, first: pa.Table, second: pa.Table, chunk_rows: int
) -> None:
    for name, table in (("a", first), ("b", second)):
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
    assert rows_of(str(tmp_path / "*.parquet"), chunk_rows) == first.to_pylist() + second.to_pylist()


REFUSED: dict[str, tuple[str, bytes | None, str]] = {
    "missing": ("missing.csv", None, "there is no file"),
    "no match": ("*.csv", None, "no file matches"),
    "empty folder": ("", None, "no file in the folder"),
    "unknown suffix": ("rows.docx", b"x", "kind of 'rows.docx' is unknown"),
    "no suffix": ("rows", b"x", "kind of 'rows' is unknown"),
    "empty csv": ("rows.csv", b"", "rows.csv cannot be read"),
    "empty parquet": ("rows.parquet", b"", "rows.parquet cannot be read"),
    "empty arrow": ("rows.arrow", b"", "rows.arrow cannot be read"),
    "empty jsonl": ("rows.jsonl", b"", "rows.jsonl cannot be read"),
    "no gzip": ("rows.csv.gz", b"id\n1\n", "rows.csv.gz cannot be read"),
    "no json": ("rows.jsonl", b"id,name\n1,x\n", "rows.jsonl cannot be read"),
    "repeated column": ("rows.csv", b"id,id\n1,2\n", "same name: id"),
}


@pytest.mark.parametrize(("name", "content", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_read_is_refused_before_the_load(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=problem):
        open_files(str(tmp_path / name))


@pytest.mark.parametrize("paths", ["", b"rows.csv", [""], []], ids=["empty", "bytes", "list of empty", "empty list"])
def test_what_is_no_path_is_refused(paths: Any) -> None:
    with pytest.raises(PlanError):
        open_files(paths)


@pytest.mark.parametrize("url", ["nowhere://bucket/rows.csv", "memory://nothing/rows.csv", "memory://nothing/*.csv"])
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(PlanError):
        open_files(url)


def test_a_url_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        open_files((tmp_path / "missing.csv").as_uri())


@pytest.mark.parametrize("keep", [4, 40, 0.5, 0.99])
@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.feather"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    with pytest.raises(PlanError, match=f"{name} cannot be read"):
        open_files(path)


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.jsonl.gz"])
@pytest.mark.parametrize("lost", [1, 8, 1000])
def test_a_compressed_file_that_was_cut_off_is_refused_and_not_taken_for_shorter(
    tmp_path: Path, name: str, lost: int
) -> None:
    line = '{"id": %d}\n' if "json" in name else "%d\n"
    text = "".join(line % number for number in range(20_000))
    path = tmp_path / name
    path.write_bytes(gzip.compress(("" if "json" in name else "id\n").encode() + text.encode())[:-lost])
    with pytest.raises(DataLoaderError, match=name):
        rows_of(path, 1000)


def test_an_arrow_stream_that_was_cut_off_fails_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    write_arrow_stream(pa.table({"a": list(range(10_000))}), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(LoadError, match=r"rows\.arrow cannot be read further"):
        rows_of(path, 1000)


@pytest.mark.parametrize("row", ["3,z,more", "3"], ids=["too many", "too few"])
def test_a_csv_row_with_the_wrong_number_of_fields_is_passed_on_as_refused(tmp_path: Path, row: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{CSV}{row}\n4,y\n")
    (chunk,) = open_files(path).batches(100)
    texts, reasons = unconvertible(chunk["id"])
    assert texts == [None, None, None, row, None]
    assert reasons[3] is not None
    assert reasons[3].startswith("fields|line 5 has ")
    assert mixed_objects(chunk["id"])[-1] == "4"


def test_a_csv_that_is_not_utf8_is_read_in_the_encoding_that_the_plan_shows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("name\nÄpfel\n".encode("latin-1"))
    assert rows_of(path) == [{"name": "Äpfel"}]
    assert "encoding cp1252 (line 2 has the byte 0xC4" in open_files(path).facts[0][1]


def test_utf8_with_one_damaged_line_is_refused_with_the_option_that_decides(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("name\nÄpfel\n".encode() + "Äpfel\n".encode("latin-1"))
    with pytest.raises(DataLoaderError, match=r"rows\.csv cannot be read further: it is not UTF-8.*encoding"):
        rows_of(path)


def test_the_first_chunk_of_a_large_csv_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    line = "1," + "x" * 997 + "\n"
    path.write_text("id,name\n" + line * 150_000 + "2,x,too many\n")
    before = pa.total_allocated_bytes()
    reading = open_files(path).batches(1000)
    assert next(reading).num_rows == 1000
    time.sleep(0.2)
    assert pa.total_allocated_bytes() - before < 60e6, "Arrow reads 32 blocks of a megabyte ahead, and no more"
    last = collections.deque(reading, maxlen=1).pop()
    assert unconvertible(last["id"])[1][-1] == "fields|line 150,002 has 3 fields, and not 2"


def test_a_large_parquet_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    numbers = np.random.default_rng(1).integers(0, 2**60, 5_000_000)
    pa.parquet.write_table(pa.table({"a": numbers}), path, row_group_size=100_000, use_dictionary=False)
    before, most = pa.total_allocated_bytes(), 0
    for _ in open_files(path).batches(10_000):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < path.stat().st_size / 4


def test_the_next_file_is_opened_when_the_one_before_it_is_read(tmp_path: Path) -> None:
    for name in "ab":
        pa.parquet.write_table(TABLE, tmp_path / f"{name}.parquet")
    reading = open_files([tmp_path / "a.parquet", tmp_path / "b.parquet"]).batches(3)
    assert next(reading).to_pylist() == TABLE.to_pylist()
    (tmp_path / "b.parquet").unlink()
    with pytest.raises(LoadError, match=r"b\.parquet cannot be read further"):
        next(reading)


@pytest.mark.parametrize(
    "text",
    ["2024-01-02", "2024-01-02 10:30:00", "2024-01-02T10:30:00Z", "2024-01-02T10:30"],
)
def test_a_text_of_a_jsonl_file_that_looks_like_a_moment_keeps_its_characters(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": text}) + "\n")
    assert as_text(path, "a") == [text]


@pytest.mark.parametrize(
    "lines",
    [["9223372036854775809"], ["9007199254740993", "0.5"], ["12345678901234567890.5"]],
    ids=["above int64", "large integer and fraction", "twenty digits"],
)
def test_a_number_of_a_jsonl_file_keeps_its_digits_or_is_refused(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"a": {line}}}\n' for line in lines))
    try:
        (chunk,) = open_files(path).batches(len(lines))
    except DataLoaderError:
        return
    assert as_given(chunk["a"]) == lines


def test_a_key_that_a_jsonl_file_brings_late_is_kept_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    early = '{"a": 1, "pad": "' + "x" * 1000 + '"}\n'
    path.write_text(early * 3000 + '{"a": 2, "b": 3}\n')
    try:
        last = rows_of(path, 1000)[-1]
    except DataLoaderError:
        return
    assert last["b"] == 3


def test_a_jsonl_file_with_nested_values_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": {"b": [1, 2]}}\n{"a": null}\n')
    assert rows_of(path) == [{"a": '{"b": [1, 2]}'}, {"a": None}]
    assert open_files(path).schema.field("a").type == pa.json_()


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    when = datetime.datetime(2024, 5, 17, 12, tzinfo=datetime.UTC)
    table = pa.table({"t": pa.array([when, None]), "f": pa.array([math.inf, None]), "l": [[1], None]})
    pa.parquet.write_table(table, path)
    assert open_files(path).schema.types == table.schema.types
    assert rows_of(path) == table.to_pylist()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("rows.csv", True),
        (Path("rows.csv"), True),
        (["a.csv", Path("b.csv")], True),
        ([], False),
        ([{"a": 1}], False),
        ({"a": [1]}, False),
        (TABLE, False),
    ],
    ids=["text", "path", "list", "empty list", "rows", "columns", "table"],
)
def test_paths_are_told_from_tables(data: object, expected: bool) -> None:
    assert are_paths(data) is expected


async def test_a_source_of_several_files_says_which_one_is_read(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("id\n1\n2\n")
    source = open_files(f"{tmp_path}/*.csv")
    assert str(source.position) == ""
    parts = [str(source.position) async for _ in source.chunks(2)]
    assert parts == ["file 1 of 3", "file 2 of 3", "file 3 of 3"]
    alone = open_files(tmp_path / "0.csv")
    assert {str(alone.position) async for _ in alone.chunks(2)} == {""}
