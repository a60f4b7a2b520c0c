"""What is said of common mistakes: the cause and the way out, without the words of Arrow."""

from __future__ import annotations

import gzip
import io
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import dataloader as dl
from tests.conftest import INTERNAL

pytestmark = pytest.mark.any_version


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)


FRAME = pd.DataFrame({"id": [1]})
CALLS: dict[str, tuple[Callable[..., Any], Any, dict[str, Any], str]] = {
    "SQL": (dl.load_dataframe, "select * from orders", {}, r"It is a query: copy_table\(query, table, source=engine\)"),
    "a select": (dl.load_dataframe, sa.select(sa.text("1")), {}, r"It is a query: copy_table\("),
    "a select as rows": (dl.load_rows, sa.select(sa.text("1")), {}, r"Run it and pass its result, or copy_table\("),
    "a path": (dl.load_dataframe, "orders.csv", {}, r"load_files"),
    "a LazyFrame": (dl.load_dataframe, pl.LazyFrame({"id": [1]}), {}, r"Collect it first: data\.collect\(\)"),
    "a frame as rows": (dl.load_rows, FRAME, {}, r"stream of rows, got DataFrame\. Load it with load_dataframe"),
    "a polars frame as rows": (dl.load_rows, pl.DataFrame({"id": [1]}), {}, r"got DataFrame\. Load it with load_data"),
    "a frame as files": (dl.load_files, FRAME, {}, r"paths of files, got DataFrame\. Load it with load_dataframe"),
    "a dict as files": (dl.load_files, {"id": [1]}, {}, r"paths of files, got dict\. Load it with load_dataframe"),
    "texts as rows": (dl.load_rows, ["a", "b"], {}, r"got str\. Make each a dict"),
    "objects without fields": (dl.load_rows, [object()], {}, r"got object\. Make each a dict of its fields"),
    "tuples without names": (dl.load_rows, [(1, 2)], {}, r"got tuple\. Pass columns="),
    "objects that are no values": (
        dl.load_dataframe,
        {"p": [object()]},
        {},
        r"a value of type object, which has",
    ),
    "half a surrogate": (dl.load_dataframe, {"p": ["\ud800"]}, {}, r"not Unicode: it has half of a surrogate pair"),
    "replace with a name": (
        dl.load_dataframe,
        FRAME,
        {"if_exists": "replace", "load_id": "May"},
        r"Leave load_id='May' out: the rows",
    ),
    "replace by chunks": (
        dl.load_dataframe,
        FRAME,
        {"if_exists": "replace", "commit": "chunk"},
        r"Leave commit='chunk' out: the rows are then loaded in one transaction\.$",
    ),
}


async def said(call: Callable[..., Any], data: Any, table: Any = "orders", **options: Any) -> str:
    with pytest.raises(dl.DataLoaderError) as caught:
        await call(data, table, **({"engine": "sqlite:///:memory:", "progress": "none"} | options))
    text = str(caught.value)
    assert not INTERNAL.search(text), text
    return text


@pytest.mark.parametrize(("call", "data", "options", "expected"), CALLS.values(), ids=CALLS)
async def test_a_wrong_call_says_which_one_is_right(
    call: Callable[..., Any], data: Any, options: dict[str, Any], expected: str
) -> None:
    assert re.search(expected, await said(call, data, **options))


async def test_a_mapped_class_says_what_its_table_is() -> None:
    assert "Pass its table: Order.__table__." in await said(dl.load_dataframe, FRAME, Order)


async def test_a_cursor_of_another_thread_says_how_it_can_be_read() -> None:
    connection = sqlite3.connect(":memory:")
    cursor = connection.execute("SELECT 1")
    assert "check_same_thread=False" in await said(dl.load_rows, cursor, columns=["id"])
    connection.close()


async def test_every_column_in_another_case_is_named_with_the_right_one(tmp_path: Path) -> None:
    engine = dl.connect(f"sqlite:///{tmp_path / 'shop.db'}")
    table = sa.Table("t", sa.MetaData(), sa.Column("nmae", sa.Text), sa.Column("amuont", sa.Text))
    await dl.load_dataframe({"nmae": ["a"], "amuont": ["b"]}, table, engine=engine)
    text = await said(dl.load_dataframe, {"name": ["a"], "amount": ["b"]}, "t", engine=engine)
    assert "Did you mean 'nmae' instead of 'name', 'amuont' instead of 'amount'?" in text
    await engine.dispose()


def parquet() -> bytes:
    pyarrow.parquet.write_table(pa.table({"a": ["x" * 100] * 100}), sink := io.BytesIO())
    return sink.getvalue()


FILES: dict[str, tuple[str, bytes, str]] = {
    "no Parquet": ("a.parquet", b"id\n1\n" * 10, "it is not a Parquet file, or its end is missing"),
    "half of a Parquet": ("a.parquet", parquet()[:-20], "it is not a Parquet file, or its end is missing"),
    "an empty Parquet": ("a.parquet", b"", "it is empty"),
    "no Arrow": ("a.arrow", b"hello world, not arrow", "it is not an Arrow file, or its end is missing"),
    "no gzip": ("a.csv.gz", b"hello", "it is not compressed as its name says"),
    "half of a gzip": ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000)[:-10], "data is damaged or incomplete"),
    "no zstd": ("a.csv.zst", b"hello", "it is not compressed as its name says"),
    "no bz2": ("a.csv.bz2", b"hello", "it is not compressed as its name says"),
    "no zip": ("a.csv.zip", b"hello", "it is not a zip archive, or its end is missing"),
    "no sheet": ("a.xlsx", b"hello", "it is not a spreadsheet, or its end is missing"),
    "no CSV": ("a.csv", b"", "it is empty"),
    "an array in lines": ("a.jsonl", b'[{"a": 1},\n{"a": 2}]', "an array begins there; call the file .json"),
    "an array in one line": ("a.jsonl", b'[{"a": 1}, {"a": 2}]', "an array; call the file .json"),
    "a number in lines": ("a.jsonl", b"1\n", "line 1 is not a JSON object, as every line of it must be: 1"),
    "a bad line": ("a.jsonl", b'{"a": 1}\n{"a": }\n', "line 2 is not a JSON object, as every line of it must be"),
}


@pytest.mark.parametrize(("name", "content", "expected"), FILES.values(), ids=FILES)
async def test_a_file_that_is_not_what_its_name_says_is_told_in_words(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert expected in await said(dl.load_files, tmp_path / name)


async def test_a_place_that_cannot_be_reached_is_told_in_words() -> None:
    assert "its server cannot be reached" in await said(dl.load_files, "http://127.0.0.1:9/x.csv")


async def test_a_column_whose_first_rows_have_no_value_is_made_text_with_a_warning(tmp_path: Path) -> None:
    rows = ({"id": number, "late": None if number < 10_500 else 5} for number in range(10_600))
    report = await dl.load_rows(rows, "t", engine=f"sqlite:///{tmp_path / 't.db'}", progress="none")
    assert report.warnings == ("column 'late' is made text: its first rows have no value. dtype= gives it a type",)


async def test_values_of_a_column_that_is_created_name_the_way_to_choose_its_type() -> None:
    rows = ({"a": 1 if number < 10_500 else "x"} for number in range(10_600))
    assert "Correct the source, choose types with dtype=, or load the rest" in await said(dl.load_rows, rows)
