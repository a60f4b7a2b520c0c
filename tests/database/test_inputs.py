"""Every kind of input arrives, on PostgreSQL and on SQLite; what arrived is read back through the server."""

from __future__ import annotations

import datetime
import gzip
import json
import math
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.sources import csv_files
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

ROWS: list[tuple[Any, ...]] = [(1, "ä", 1.5, True), (2, None, None, None), (3, "it's; \\N", -0.25, False)]
COLUMNS = ("id", "name", "amount", "paid")
ARROW = pa.table({name: list(values) for name, values in zip(COLUMNS, zip(*ROWS, strict=True), strict=True)})
SALE = namedtuple("SALE", COLUMNS)


class _Stream:
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return ARROW.__arrow_c_stream__(requested_schema)


class _Array:
    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return ARROW.to_batches()[0].__arrow_c_array__(requested_schema)


def dicts() -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def batches() -> list[pa.RecordBatch]:
    return ARROW.to_batches(max_chunksize=2)


async def as_async(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def stored(database: AsyncEngine, order: str = "id") -> list[tuple[Any, ...]]:
    rows = await fetch(database, f"SELECT id, name, amount, paid FROM sales ORDER BY {order}")
    return [(number, name, amount, None if paid is None else bool(paid)) for number, name, amount, paid in rows]


def numpy_frame() -> pd.DataFrame:
    frame = pd.DataFrame(dicts())
    return frame.astype({"id": np.int32, "amount": np.float64})


FRAMES: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(dicts()),
    "pandas numpy dtypes": numpy_frame,
    "pandas nullable dtypes": lambda: pd.DataFrame(dicts()).convert_dtypes(),
    "pandas arrow dtypes": lambda: pd.DataFrame(dicts()).convert_dtypes(dtype_backend="pyarrow"),
    "pandas object dtypes": lambda: pd.DataFrame(dicts(), dtype=object),
    "pandas category": lambda: pd.DataFrame(dicts()).astype({"name": "category"}),
    "pandas named index": lambda: pd.DataFrame(dicts()).set_index("id"),
    "pandas two named index levels": lambda: pd.DataFrame(dicts()).set_index(["id", "name"]),
    "pandas sliced with a step": lambda: pd.concat([pd.DataFrame(dicts())] * 2).sort_values("id").iloc[::2],
    "polars": lambda: pl.DataFrame(dicts()),
    "polars categorical": lambda: pl.DataFrame(dicts()).with_columns(pl.col("name").cast(pl.Categorical)),
    "arrow table": lambda: ARROW,
    "arrow table of many chunks": lambda: pa.Table.from_batches(ARROW.to_batches(max_chunksize=1)),
    "arrow record batch": lambda: ARROW.to_batches()[0],
    "arrow sliced record batch": lambda: pa.concat_tables([ARROW, ARROW]).combine_chunks().to_batches()[0].slice(3),
    "arrow reader": ARROW.to_reader,
    "arrow large and view strings": lambda: ARROW.set_column(1, "name", ARROW["name"].cast(pa.large_string())),
    "arrow dictionary": lambda: ARROW.set_column(1, "name", ARROW["name"].dictionary_encode()),
    "duckdb relation": lambda: duckdb.sql(
        """SELECT * FROM (VALUES (1, 'ä', 1.5::DOUBLE, true), (2, NULL, NULL, NULL),
        (3, 'it''s; \\N', -0.25, false)) AS sale(id, name, amount, paid)"""
    ),
    "arrow c stream": _Stream,
    "arrow c array": _Array,
    "dict of lists": ARROW.to_pydict,
    "dict of numpy and arrow": lambda: ARROW.to_pydict() | {"id": np.array([1, 2, 3]), "name": ARROW["name"]},
}


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES)
async def test_a_table_like_object_arrives(database: AsyncEngine, data: Callable[[], Any]) -> None:
    report = await dl.load_dataframe(data(), "sales", engine=database)
    assert (report.read, report.loaded) == (3, 3)
    assert await stored(database) == ROWS


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 1000])
@pytest.mark.parametrize("data", ["pandas", "arrow table of many chunks", "arrow reader", "duckdb relation"])
async def test_a_frame_arrives_in_chunks_of_any_size(database: AsyncEngine, data: str, chunk_rows: int) -> None:
    report = await dl.load_dataframe(FRAMES[data](), "sales", engine=database, chunk_rows=chunk_rows)
    assert report.chunks == -(-3 // chunk_rows)
    assert await stored(database) == ROWS


STREAMS: dict[str, Callable[[], Any]] = {
    "list": batches,
    "generator": lambda: (batch for batch in batches()),
    "reader": lambda: pa.RecordBatchReader.from_batches(ARROW.schema, batches()),
    "async generator": lambda: as_async(batches()),
    "empty batches between": lambda: [batches()[0].slice(0, 0), *batches(), batches()[0].slice(0, 0)],
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_a_stream_of_batches_arrives(database: AsyncEngine, stream: Callable[[], Any]) -> None:
    assert (await dl.load_batches(stream(), "sales", engine=database)).loaded == 3
    assert await stored(database) == ROWS


RECORDS: dict[str, tuple[Callable[[], Any], tuple[str, ...] | None]] = {
    "dicts": (dicts, None),
    "generator of dicts": (lambda: (row for row in dicts()), None),
    "async dicts": (lambda: as_async(dicts()), None),
    "dicts without the nulls": (lambda: [{k: v for k, v in row.items() if v is not None} for row in dicts()], None),
    "dicts in another order": (lambda: [dict(reversed(row.items())) for row in dicts()], None),
    "tuples": (lambda: ROWS, COLUMNS),
    "lists": (lambda: [list(row) for row in ROWS], COLUMNS),
    "generator of tuples": (lambda: iter(ROWS), COLUMNS),
    "async tuples": (lambda: as_async(ROWS), COLUMNS),
    "named tuples": (lambda: [SALE(*row) for row in ROWS], None),
}


@pytest.mark.parametrize(("rows", "columns"), RECORDS.values(), ids=RECORDS)
async def test_a_stream_of_rows_arrives(
    database: AsyncEngine, rows: Callable[[], Any], columns: tuple[str, ...] | None
) -> None:
    assert (await dl.load_rows(rows(), "sales", columns=columns, engine=database)).loaded == 3
    assert await stored(database) == ROWS


async def test_the_records_of_asyncpg_go_by_name(postgres: AsyncEngine) -> None:
    async with postgres.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        records = await driver.fetch("SELECT 'a' AS name, 1 AS id") + await driver.fetch("SELECT 2 AS id, 'b' AS name")
        twice = await driver.fetch("SELECT 1 AS id, 2 AS id")
    await dl.load_rows(records, "t", engine=postgres)
    assert await fetch(postgres, "SELECT id, name FROM t ORDER BY id") == [(1, "a"), (2, "b")]
    with pytest.raises(dl.PlanError, match="same name: id"):
        await dl.load_rows(twice, "t", engine=postgres)


async def test_more_rows_than_are_read_for_the_types_arrive_in_order(database: AsyncEngine) -> None:
    rows = ({"id": number, "half": number / 2} for number in range(25_001))
    assert (await dl.load_rows(rows, "numbers", engine=database, chunk_rows=7_000)).loaded == 25_001
    found = await fetch(database, "SELECT count(*), count(DISTINCT id), min(id), max(id), sum(half) FROM numbers")
    assert found == [(25_001, 25_001, 0, 25_000, 25_000 * 25_001 / 4)]


AWARE = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=5)))
NAIVE = datetime.datetime(2024, 1, 1, 12)
MIXED: dict[str, tuple[Any, Any]] = {
    "a fraction among integers": (1, 10_000.5),
    "a decimal fraction among integers": (1, Decimal("1.5")),
    "a time of day among dates": (NAIVE.date(), NAIVE),
    "an aware moment among naive ones": (NAIVE, AWARE),
    "a naive moment among aware ones": (AWARE, NAIVE),
    "text among bytes": (b"x", "x"),
}


@pytest.mark.parametrize(("first", "later"), MIXED.values(), ids=MIXED)
async def test_a_later_row_of_another_type_is_refused_and_not_changed(
    database: AsyncEngine, first: Any, later: Any
) -> None:
    rows = ({"id": number, "v": first if number < 10_001 else later} for number in range(10_003))
    with pytest.raises(dl.ValidationError, match="row 10001, column 'v'"):
        await dl.load_rows(rows, "t", engine=database)


NUMBERS: dict[str, tuple[Any, Any]] = {
    "a fraction among integers": (1, 1.5),
    "an integer among fractions": (1.5, 2),
    "more decimal places": (Decimal("1.25"), Decimal("0.125")),
    "a decimal among floats": (0.5, Decimal("0.25")),
    "infinity among integers": (1, math.inf),
}


@pytest.mark.parametrize(
    ("kind", "case"), [*(("rows", case) for case in NUMBERS), ("jsonl", "a fraction among integers")]
)
async def test_a_later_number_fits_a_numeric_column_whatever_the_first_ones_are(
    database: AsyncEngine, tmp_path: Path, kind: str, case: str
) -> None:
    first, later = NUMBERS[case]
    await execute(database, "CREATE TABLE t (v numeric)")
    values = [first] * 10_001 + [later]
    if kind == "rows":
        report = await dl.load_rows(({"v": value} for value in values), "t", engine=database)
    else:
        (tmp_path / "t.jsonl").write_text("".join(f'{{"v": {value}}}\n' for value in values))
        report = await dl.load_files(tmp_path / "t.jsonl", "t", engine=database)
    assert report.loaded == len(values)
    found = await fetch(database, "SELECT v, count(*) FROM t GROUP BY v ORDER BY count(*) DESC")
    assert [(float(value), count) for value, count in found] == [(float(first), 10_001), (float(later), 1)]


async def test_a_number_that_sqlite_would_change_is_refused_after_others(sqlite: AsyncEngine) -> None:
    for odd, reason in ((2**63 + 1, "digits"), (Decimal("0.12345678901234567890"), "digits")):
        await execute(sqlite, "DROP TABLE IF EXISTS t", "CREATE TABLE t (v numeric)")
        with pytest.raises(dl.ValidationError, match="row 10001, column 'v'") as caught:
            await dl.load_rows(({"v": 1 if number < 10_001 else odd} for number in range(10_002)), "t", engine=sqlite)
        assert caught.value.reason == reason


async def test_later_files_of_another_type_fit_a_numeric_column(database: AsyncEngine, tmp_path: Path) -> None:
    await execute(database, "CREATE TABLE t (v numeric)")
    pa.parquet.write_table(pa.table({"v": [1, 2]}), tmp_path / "1.parquet")
    pa.parquet.write_table(pa.table({"v": [0.5]}), tmp_path / "2.parquet")
    await dl.load_files(tmp_path / "*.parquet", "t", engine=database)
    assert [float(value) for (value,) in await fetch(database, "SELECT v FROM t ORDER BY v")] == [0.5, 1, 2]


async def test_a_later_number_among_texts_is_stored_as_its_digits(database: AsyncEngine) -> None:
    rows = ({"id": number, "v": "x" if number < 10_001 else 2**53 + 1} for number in range(10_003))
    assert (await dl.load_rows(rows, "t", engine=database)).loaded == 10_003
    assert await fetch(database, "SELECT v FROM t WHERE id >= 10000 ORDER BY id") == [("x",), *[(str(2**53 + 1),)] * 2]


UNEQUAL: dict[str, list[Any]] = {
    "date and datetime": [NAIVE.date(), NAIVE],
    "naive and aware": [NAIVE, AWARE],
    "aware and naive": [AWARE, NAIVE],
    "text and bytes": ["x", b"x"],
    "timedelta and integer": [datetime.timedelta(days=1), 1],
    "nanoseconds in a Timestamp": [pd.Timestamp("2024-01-01 00:00:00.000000001"), None],
    "time with an offset": [AWARE.timetz(), None],
    "bool and integer": [True, 2],
    "an integer beyond 2**53 and a float": [2**53 + 1, 0.5],
}


@pytest.mark.parametrize("values", UNEQUAL.values(), ids=UNEQUAL)
async def test_values_that_would_change_to_go_together_are_refused(database: AsyncEngine, values: list[Any]) -> None:
    with pytest.raises((dl.UnsupportedType, dl.ValidationError), match="column 'v'"):
        await dl.load_rows([{"v": value} for value in values], "t", engine=database)


async def test_a_later_unknown_key_is_refused(database: AsyncEngine) -> None:
    rows = ({"id": number} if number < 10_000 else {"id": number, "new": 1} for number in range(10_002))
    with pytest.raises(dl.SchemaMismatch, match=r"row 10000 has the unknown key 'new'"):
        await dl.load_rows(rows, "numbers", engine=database)


def write_csv(path: Path) -> None:
    path.write_text('id,name,amount,paid\n1,ä,1.5,true\n2,,,\n3,"it\'s; \\N",-0.25,false\n', encoding="utf-8")


def write_csv_gz(path: Path) -> None:
    write_csv(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in dicts()), encoding="utf-8")


def write_jsonl_gz(path: Path) -> None:
    write_jsonl(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def write_arrow_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, ARROW.schema) as writer:
        writer.write_table(ARROW)


FILES: dict[str, Callable[[Path], None]] = {
    "sales.csv": write_csv,
    "sales.csv.gz": write_csv_gz,
    "sales.parquet": lambda path: pa.parquet.write_table(ARROW, path),
    "sales.arrow": lambda path: pa.feather.write_feather(ARROW, path),
    "sales.feather": lambda path: pa.feather.write_feather(ARROW, path, compression="uncompressed"),
    "stream.arrow": write_arrow_stream,
    "sales.jsonl": write_jsonl,
    "sales.ndjson": write_jsonl,
    "sales.jsonl.gz": write_jsonl_gz,
}


@pytest.mark.parametrize(("name", "write"), FILES.items(), ids=FILES)
async def test_a_file_arrives(database: AsyncEngine, tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    assert (await dl.load_files(tmp_path / name, "sales", engine=database)).loaded == 3
    assert await stored(database) == ROWS


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    "paths",
    [lambda folder: str(folder / "part*"), lambda folder: sorted(folder.glob("part*"))],
    ids=["glob", "list"],
)
async def test_several_files_arrive_as_one_load(
    database: AsyncEngine, tmp_path: Path, paths: Callable[[Path], Any], suffix: str
) -> None:
    for number in range(3):
        FILES[f"sales.{suffix}"](tmp_path / f"part{number}.{suffix}")
    report = await dl.load_files(paths(tmp_path), "sales", engine=database, chunk_rows=2)
    assert (report.loaded, report.source) == (9, "3 files")
    assert await stored(database) == sorted(ROWS * 3, key=lambda row: row[0])


async def test_a_file_url_arrives(database: AsyncEngine, tmp_path: Path) -> None:
    write_csv(tmp_path / "sales.csv")
    await dl.load_files((tmp_path / "sales.csv").as_uri(), "sales", engine=database)
    assert await stored(database) == ROWS


async def test_a_file_with_its_columns_in_another_order_is_matched_by_name(
    database: AsyncEngine, tmp_path: Path
) -> None:
    pa.parquet.write_table(ARROW, tmp_path / "1.parquet")
    pa.parquet.write_table(ARROW.select(["paid", "amount", "name", "id"]), tmp_path / "2.parquet")
    await dl.load_files([tmp_path / "1.parquet", tmp_path / "2.parquet"], "sales", engine=database)
    assert await stored(database) == sorted(ROWS * 2, key=lambda row: row[0])


async def test_a_csv_of_numbers_with_leading_zeros_keeps_them_in_a_text_column(
    database: AsyncEngine, tmp_path: Path
) -> None:
    await execute(database, "CREATE TABLE places (zip text, share numeric(10,4))")
    (tmp_path / "places.csv").write_text("zip,share\n01067,0.1000\n007,12.3456\n")
    await dl.load_files(tmp_path / "places.csv", "places", engine=database)
    assert [(code, Decimal(str(share))) for code, share in await fetch(database, "SELECT zip, share FROM places")] == [
        ("01067", Decimal("0.1")),
        ("007", Decimal("12.3456")),
    ]


async def test_a_csv_of_missing_and_empty_text_keeps_them_apart(database: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text('id,word\n1,\n2,""\n3,NA\n4,NULL\n5,"a\nb"\n')
    await dl.load_files(tmp_path / "words.csv", "words", engine=database)
    assert await fetch(database, "SELECT id, word FROM words ORDER BY id") == [
        (1, None),
        (2, ""),
        (3, "NA"),
        (4, "NULL"),
        (5, "a\nb"),
    ]


async def test_a_column_whose_last_value_is_no_number_is_made_text(database: AsyncEngine, tmp_path: Path) -> None:
    lines = ["id,code", *(f"{number},{number}" for number in range(100_000)), "100000,A7"]
    (tmp_path / "codes.csv").write_text("\n".join(lines))
    plan = await dl.plan_load(tmp_path / "codes.csv", "codes", engine=database)
    assert "column 'code' is made text: 'A7' is not a number. dtype= gives it a type" in plan.warnings
    await dl.load_files(tmp_path / "codes.csv", "codes", engine=database)
    assert await fetch(database, "SELECT code FROM codes WHERE id = 100000") == [("A7",)]


@pytest.mark.parametrize("odd", ["007", "+5", "1E5", "0x1F", " 5"])
async def test_a_field_that_a_number_would_not_give_back_is_refused_where_the_column_was_made_for_numbers(
    database: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(csv_files, "WHOLE_BYTES", 1 << 12)
    lines = ["id,code", *(f"{number},{number}" for number in range(20_000))]
    lines[7_001] = f"7000,{odd}"
    (tmp_path / "codes.csv").write_text("\n".join(lines))
    with pytest.raises(dl.ValidationError, match=r"row 7000, column 'code': .*would not give it back"):
        await dl.load_files(tmp_path / "codes.csv", "codes", engine=database)


async def test_fields_meet_the_columns_of_a_table_that_is_there_whatever_they_look_like(
    database: AsyncEngine, tmp_path: Path
) -> None:
    await execute(database, "CREATE TABLE t (a integer, b integer, c varchar(9), d numeric(6, 3))")
    lines = ["a,b,c,d", *["1,2,3,4"] * 9, "1.0,+5,x,1.5"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    await dl.load_files(tmp_path / "t.csv", "t", engine=database)
    assert await fetch(database, "SELECT a, b, c, d * 2 FROM t WHERE c = 'x'") == [(1, 5, "x", 3)]


LOOKING_OTHERWISE: dict[str, tuple[str, str, str]] = {
    "a fraction after integers": ("numeric", "1.5", "1.5"),
    "a day into timestamptz": ("timestamptz", "2024-01-01", "2024-01-01 00:00:00+00"),
    "midnight into date": ("date", "2024-01-01 00:00:00", "2024-01-01"),
    "a number into an enum": ("digit", "1", "1"),
    "a number into jsonb": ("jsonb", "1", "1"),
    "a clock into interval": ("interval", "12:30:00", "12:30:00"),
    "a text into bytea": ("bytea", "\\x00ff", "\\x00ff"),
}


@pytest.mark.parametrize(("kind", "field", "stored"), LOOKING_OTHERWISE.values(), ids=LOOKING_OTHERWISE)
async def test_a_field_that_looks_like_another_type_is_taken_by_its_column(
    postgres: AsyncEngine, tmp_path: Path, kind: str, field: str, stored: str
) -> None:
    await execute(postgres, "CREATE TYPE digit AS ENUM ('1', '2')", f"CREATE TABLE t (v {kind})")
    before = ["1"] * 200_000 if kind == "numeric" else []
    (tmp_path / "T.CSV.GZ").write_bytes(gzip.compress("\n".join(["v", *before, field]).encode()))
    report = await dl.load_files(tmp_path / "T.CSV.GZ", "t", engine=postgres, assume_timezone="UTC")
    assert report.loaded == len(before) + 1
    counting = f"SELECT count(*) FROM t WHERE v::text = CAST('{stored}' AS {kind})::text"
    assert await fetch(postgres, counting) == [(1,)]


async def test_ragged_rows_are_kept_aside_with_their_lines_and_the_others_are_loaded(
    database: AsyncEngine, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text('a,b\n1,"p\nq"\n2,y,z\n3\n\n4,w\n')
    with pytest.raises(dl.ValidationError, match=r"line 4 has 3 fields, and not 2"):
        await dl.load_files(tmp_path / "t.csv", "t", engine=database)
    report = await dl.load_files(tmp_path / "t.csv", "t", engine=database, on_invalid="reject")
    assert list(report.rejects["reject_problem"]) == ["line 4 has 3 fields, and not 2", "line 5 has 1 field, and not 2"]
    assert await fetch(database, "SELECT a FROM t ORDER BY a") == [(1,), (4,)]


async def test_dates_and_moments_of_a_csv_arrive(database: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "days.csv").write_text("day,moment\n2024-02-29,2024-02-29 12:30:45\n0001-01-01,1969-12-31T23:59:59\n")
    await dl.load_files(tmp_path / "days.csv", "days", engine=database)
    rows = await fetch(database, "SELECT CAST(day AS text), CAST(moment AS text) FROM days ORDER BY 1")
    assert [(day, moment[:19]) for day, moment in rows] == [
        ("0001-01-01", "1969-12-31 23:59:59"),
        ("2024-02-29", "2024-02-29 12:30:45"),
    ]


PANDAS_COLUMNS: dict[str, tuple[Any, list[Any]]] = {
    "int8": (np.array([-128, 127], np.int8), [-128, 127]),
    "int64": (np.array([-(2**63), 2**63 - 1]), [-(2**63), 2**63 - 1]),
    "uint32": (np.array([0, 2**32 - 1], np.uint32), [0, 2**32 - 1]),
    "Int64": (pd.array([2**53 + 1, None], "Int64"), [2**53 + 1, None]),
    "int64[pyarrow]": (pd.array([2**53 + 1, None], "int64[pyarrow]"), [2**53 + 1, None]),
    "float32": (np.array([1.5, -0.25], np.float32), [1.5, -0.25]),
    "float64 with NaN": (np.array([0.1, np.nan]), [0.1, None]),
    "Float64": (pd.array([0.1, None], "Float64"), [0.1, None]),
    "boolean": (pd.array([True, None], "boolean"), [True, None]),
    "string": (pd.array(["x", None], "string"), ["x", None]),
    "string[pyarrow]": (pd.array(["x", None], "string[pyarrow]"), ["x", None]),
    "object of str": (np.array(["x", None], object), ["x", None]),
    "object of int and None": (np.array([2**53 + 1, None], object), [2**53 + 1, None]),
    "object of bytes": (np.array([b"\x00\xff", None], object), [b"\x00\xff", None]),
    "object of NaN and str": (np.array(["x", np.nan], object), ["x", None]),
    "object of NA and int": (np.array([1, pd.NA], object), [1, None]),
    "category of str": (pd.Categorical(["x", None]), ["x", None]),
    "category of int": (pd.Categorical([7, None]), [7, None]),
}


@pytest.mark.parametrize(("column", "expected"), PANDAS_COLUMNS.values(), ids=PANDAS_COLUMNS)
async def test_a_pandas_column_arrives(database: AsyncEngine, column: Any, expected: list[Any]) -> None:
    frame = pd.DataFrame({"id": [0, 1], "v": pd.Series(column)})
    await dl.load_dataframe(frame, "t", engine=database)
    assert [value for (value,) in await fetch(database, "SELECT v FROM t ORDER BY id")] == expected


MOMENTS: dict[str, tuple[Any, list[str | None]]] = {
    "datetime64[ns]": (
        pd.to_datetime(pd.Series(["2024-01-02 03:04:05.000001", None])).astype("datetime64[ns]"),
        ["2024-01-02 03:04:05.000001", None],
    ),
    "datetime64[s]": (np.array(["1901-01-02T03:04:05", "NaT"], "datetime64[s]"), ["1901-01-02 03:04:05", None]),
    "object of datetime": (
        np.array([datetime.datetime(1, 1, 1), None], object),
        ["0001-01-01 00:00:00", None],
    ),
    "object of Timestamp and NaT": (
        np.array([pd.Timestamp("2024-01-02 03:04:05"), pd.NaT], object),
        ["2024-01-02 03:04:05", None],
    ),
    "aware datetime64": (
        pd.to_datetime(pd.Series(["2024-01-02 03:04:05", None])).dt.tz_localize("Europe/Berlin"),
        ["2024-01-02 02:04:05+00", None],
    ),
    "object of date": (np.array([datetime.date(2024, 2, 29), None], object), ["2024-02-29", None]),
    "object of time": (np.array([datetime.time(23, 59, 59, 999999), None], object), ["23:59:59.999999", None]),
}


@pytest.mark.parametrize(("column", "expected"), MOMENTS.values(), ids=MOMENTS)
async def test_a_pandas_column_of_moments_arrives(
    database: AsyncEngine, column: Any, expected: list[str | None]
) -> None:
    await dl.load_dataframe(pd.DataFrame({"id": [0, 1], "v": column}), "t", engine=database)
    found = [value for (value,) in await fetch(database, "SELECT CAST(v AS text) FROM t ORDER BY id")]
    assert [_shortest(value) for value in found] == [_shortest(value) for value in expected]


def _shortest(moment: str | None) -> str | None:
    """SQLite keeps the six digits of a second, PostgreSQL's text drops the zeros; the zone is +00 or +00:00."""
    if moment is None:
        return None
    text = moment.replace("+00:00", "+00")
    body, plus, zone = text.partition("+")
    return (body.rstrip("0").rstrip(".") if "." in body else body) + plus + zone


async def test_nanoseconds_that_would_be_lost_are_refused(database: AsyncEngine) -> None:
    frame = pd.DataFrame({"v": pd.Series([0, 1], dtype="datetime64[ns]")})
    with pytest.raises(dl.ValidationError, match="row 1, column 'v'"):
        await dl.load_dataframe(frame, "t", engine=database)


NOT_TABLES: dict[str, Any] = {
    "list": [{"id": 1}],
    "path": "sales.csv",
    "series": pd.Series([1], name="id"),
    "none": None,
    "number": 7,
}


@pytest.mark.parametrize("data", NOT_TABLES.values(), ids=NOT_TABLES)
async def test_what_is_not_a_table_is_refused_with_the_loader_to_use(sqlite: AsyncEngine, data: Any) -> None:
    with pytest.raises(dl.PlanError, match=r"expected a table, got \w+\. (Load|Make|Pass)"):
        await dl.load_dataframe(data, "t", engine=sqlite)


async def test_columns_of_one_name_are_refused(sqlite: AsyncEngine) -> None:
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(dl.PlanError, match="same name: a"):
        await dl.load_dataframe(frame, "t", engine=sqlite)


async def test_a_blocking_generator_is_read_in_a_thread(sqlite: AsyncEngine) -> None:
    import threading

    threads: set[int] = set()

    def rows() -> Iterator[dict[str, int]]:
        for number in range(3):
            threads.add(threading.get_ident())
            yield {"id": number}

    await dl.load_rows(rows(), "t", engine=sqlite)
    assert threading.get_ident() not in threads
