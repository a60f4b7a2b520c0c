"""Rejects: how many are allowed, what they look like from every kind of source, their files, and loading them again."""

from __future__ import annotations

import csv
import datetime
import json
import math
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.display.state import State
from tests.conftest import execute, fetch

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

REASONS = ["reject_row", "reject_column", "reject_reason", "reject_problem"]
BIG = 2**53 + 1
"""The first integer that a float64 does not hold."""


@pytest.fixture(autouse=True)
def checks_foreign_keys(request: pytest.FixtureRequest) -> None:
    """SQLite checks foreign keys only where it is told to."""
    if "sqlite" in request.fixturenames or "database" in request.fixturenames:
        engine: AsyncEngine = request.getfixturevalue("database" if "database" in request.fixturenames else "sqlite")
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine.sync_engine, "connect", lambda one, _: one.execute("PRAGMA foreign_keys = ON"))


@pytest.fixture(params=["copy", "insert", "sqlite"])
def path(request: pytest.FixtureRequest) -> tuple[AsyncEngine, str]:
    """Each of the three ways into a database, with its method."""
    is_sqlite = request.param == "sqlite"
    engine: AsyncEngine = request.getfixturevalue("sqlite" if is_sqlite else "postgres")
    if is_sqlite:
        sa.event.listen(engine.sync_engine, "connect", lambda one, _: one.execute("PRAGMA foreign_keys = ON"))
    return engine, "insert" if is_sqlite else request.param


def bad_at(*rows: int, of: int = 6) -> dict[str, list[Any]]:
    """Columns of which `v` is not a number at some positions; the ids are ten times the positions."""
    return {"id": [10 * row for row in range(of)], "v": ["x" if row in rows else str(row) for row in range(of)]}


def stored(*rows: int, of: int = 6) -> list[tuple[int, int]]:
    """What is in the table of `bad_at(*rows)`."""
    return [(10 * row, row) for row in range(of) if row not in rows]


async def make(engine: AsyncEngine, columns: str = "id integer, v integer", *more: str) -> None:
    await execute(engine, f"CREATE TABLE t ({columns})", *more)


async def rows_of(engine: AsyncEngine, columns: str = "id, v") -> list[tuple[Any, ...]]:
    return await fetch(engine, f"SELECT {columns} FROM t ORDER BY id")


def accounts(report: dl.LoadReport) -> tuple[int, int, int, int]:
    return report.read, report.loaded, report.rejected, report.skipped


# ---- how many are allowed


@pytest.mark.parametrize("limit", [2, 3, 0.34, 0.99], ids=str)
async def test_as_many_rejects_as_allowed_are_fine(database: AsyncEngine, limit: float) -> None:
    await make(database)
    report = await dl.load_dataframe(
        bad_at(1, 4), "t", engine=database, on_invalid="reject", max_rejects=limit, chunk_rows=2
    )
    assert accounts(report) == (6, 4, 2, 0)
    assert await rows_of(database) == stored(1, 4)


async def test_a_share_that_is_reached_exactly_is_fine(database: AsyncEngine) -> None:
    await make(database)
    report = await dl.load_dataframe(
        bad_at(1, 2, of=8), "t", engine=database, on_invalid="reject", max_rejects=0.25, chunk_rows=2
    )
    assert accounts(report) == (8, 6, 2, 0)


@pytest.mark.parametrize("limit", [0, 1, 0.01, 0.33], ids=str)
async def test_more_rejects_than_allowed_are_an_error_and_nothing_is_written(
    database: AsyncEngine, limit: float
) -> None:
    await make(database)
    with pytest.raises(dl.ValidationError, match="max_rejects") as caught:
        await dl.load_dataframe(
            bad_at(1, 4), "t", engine=database, on_invalid="reject", max_rejects=limit, chunk_rows=2
        )
    assert (caught.value.row, caught.value.column, caught.value.reason) == (1, "v", "syntax")
    assert await rows_of(database) == []
    assert (await dl.load_dataframe(bad_at(), "t", engine=database)).loaded == 6


@pytest.mark.parametrize("limit", [1, 0.33], ids=str)
async def test_the_limit_holds_for_a_stream_of_unknown_length(database: AsyncEngine, limit: float) -> None:
    await make(database)
    rows = ({"id": row, "v": "x" if row in {3, 5} else str(row)} for row in range(6))
    with pytest.raises(dl.ValidationError, match="max_rejects"):
        await dl.load_rows(
            rows, "t", engine=database, commit="load", on_invalid="reject", max_rejects=limit, chunk_rows=2
        )
    assert await rows_of(database) == []


async def test_a_share_of_a_stream_is_of_all_its_rows_and_not_of_those_read_so_far(database: AsyncEngine) -> None:
    await make(database)
    rows = ({"id": 10 * row, "v": "x" if row < 2 else str(row)} for row in range(10))
    report = await dl.load_rows(rows, "t", engine=database, on_invalid="reject", max_rejects=0.2, chunk_rows=2)
    assert accounts(report) == (10, 8, 2, 0)


async def test_rows_that_the_database_refuses_count_as_well(path: tuple[AsyncEngine, str]) -> None:
    engine, method = path
    await make(engine, "id integer, v integer CHECK (v <> 3)")
    options: dict[str, Any] = {"engine": engine, "method": method, "on_invalid": "reject", "chunk_rows": 2}
    with pytest.raises(dl.ValidationError, match="max_rejects") as caught:
        await dl.load_dataframe(bad_at(1), "t", max_rejects=1, **options)
    assert sum(caught.value.counts.values()) == 2
    assert await rows_of(engine) == []
    assert accounts(await dl.load_dataframe(bad_at(1), "t", max_rejects=2, **options)) == (6, 4, 2, 0)
    assert await rows_of(engine) == stored(1, 3)


async def test_a_row_with_two_bad_values_counts_once(database: AsyncEngine) -> None:
    await make(database, "id integer, v integer, w integer")
    data = {"id": [1, 2], "v": ["x", "1"], "w": ["y", "2"]}
    report = await dl.load_dataframe(data, "t", engine=database, on_invalid="reject", max_rejects=1)
    assert accounts(report) == (2, 1, 1, 0)


@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
async def test_too_many_rejects_leave_the_old_rows_in_place(database: AsyncEngine, if_exists: Any) -> None:
    await make(database, "id integer, v integer", "INSERT INTO t VALUES (-1, -1)")
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))
    with pytest.raises(dl.ValidationError):
        await dl.load_dataframe(
            bad_at(1), table, engine=database, on_invalid="reject", max_rejects=0, if_exists=if_exists
        )
    assert await rows_of(database) == [(-1, -1)]


# ---- from every kind of source


def positions(report: dl.LoadReport) -> tuple[list[Any], list[Any], list[Any]]:
    rejects = report.rejects
    return rejects.index.tolist(), rejects["reject_row"].tolist(), rejects["id"].tolist()


@pytest.mark.parametrize(
    "index",
    [
        list("abcdef"),
        [5, 4, 3, 2, 1, 0],
        [7, 7, 7, 7, 7, 7],
        pd.date_range("2024-01-01", periods=6),
        pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]]),
    ],
    ids=["texts", "numbers", "one label for all", "days", "two levels"],
)
async def test_rejects_have_the_labels_of_a_pandas_frame(database: AsyncEngine, index: Any) -> None:
    await make(database)
    frame = pd.DataFrame(bad_at(1, 4)).set_axis(index)
    report = await dl.load_dataframe(frame, "t", engine=database, on_invalid="reject", chunk_rows=2)
    expected = frame.iloc[[1, 4]].index
    assert positions(report) == (expected.tolist(), [1, 4], [10, 40])
    validated = await dl.validate(frame, "t", engine=database)
    assert [one.label for one in validated.violations] == expected.tolist()


async def test_a_named_index_is_a_column_and_still_the_label(database: AsyncEngine) -> None:
    await make(database)
    frame = pd.DataFrame(bad_at(4)).set_index("id")
    report = await dl.load_dataframe(frame, "t", engine=database, on_invalid="reject")
    assert positions(report) == ([40], [4], [40])
    assert await rows_of(database) == stored(4)


def as_polars(columns: dict[str, list[Any]]) -> Any:
    return pl.DataFrame(columns)


def as_arrow(columns: dict[str, list[Any]]) -> Any:
    return pa.table(columns)


def as_columns(columns: dict[str, list[Any]]) -> Any:
    return columns


def in_pieces(columns: dict[str, list[Any]]) -> Any:
    table = pa.table(columns)
    return pa.concat_tables([table.slice(0, 1), table.slice(1, 0), table.slice(1, 4), table.slice(5)])


@pytest.mark.parametrize("make_data", [as_polars, as_arrow, as_columns, in_pieces])
@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 4, 100])
async def test_rejects_of_a_frame_have_its_positions(
    database: AsyncEngine, make_data: Callable[[dict[str, list[Any]]], Any], chunk_rows: int
) -> None:
    await make(database)
    report = await dl.load_dataframe(
        make_data(bad_at(0, 3, 5)), "t", engine=database, on_invalid="reject", chunk_rows=chunk_rows
    )
    assert accounts(report) == (6, 3, 3, 0)
    assert positions(report) == ([0, 3, 5], [0, 3, 5], [0, 30, 50])
    assert report.rejects["v"].tolist() == ["x", "x", "x"]
    assert report.rejects.columns.tolist() == [*REASONS, "id", "v"]
    assert "syntax" in report.rejects.to_string()
    assert await rows_of(database) == stored(0, 3, 5)


async def test_rejects_of_csv_files_count_the_rows_of_all_files(database: AsyncEngine, tmp_path: Path) -> None:
    await make(database)
    (tmp_path / "1.csv").write_text("id,v\n0,0\n10,x\n20,2\n")
    (tmp_path / "2.csv").write_text('id,v\n30,3\n40,"=x"\n50,\n')
    report = await dl.load_files(
        [tmp_path / "1.csv", tmp_path / "2.csv"], "t", engine=database, on_invalid="reject", chunk_rows=2
    )
    assert positions(report) == ([1, 4], [1, 4], ["10", "40"])
    assert report.rejects["v"].tolist() == ["x", "=x"]
    assert await rows_of(database) == [(0, 0), (20, 2), (30, 3), (50, None)]


async def test_rejects_of_json_lines(database: AsyncEngine, tmp_path: Path) -> None:
    await make(database)
    lines = [{"id": 0, "v": "0"}, {"id": 10, "v": "x"}, {"id": 20}, {"id": 30, "v": "3"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = await dl.load_files(tmp_path / "a.jsonl", "t", engine=database, on_invalid="reject", chunk_rows=2)
    assert positions(report) == ([1], [1], [10])
    assert await rows_of(database) == [(0, 0), (20, None), (30, 3)]


def batches() -> Iterator[pa.RecordBatch]:
    table = pa.table(bad_at(0, 3, 5))
    for start, rows in ((0, 1), (1, 0), (1, 4), (5, 1)):
        yield from table.slice(start, rows).to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]


async def batches_one_by_one() -> AsyncIterator[pa.RecordBatch]:
    for batch in batches():
        yield batch


@pytest.mark.parametrize("make_stream", [batches, batches_one_by_one])
async def test_rejects_of_a_stream_of_batches(database: AsyncEngine, make_stream: Callable[[], Any]) -> None:
    await make(database)
    report = await dl.load_batches(make_stream(), "t", engine=database, on_invalid="reject", chunk_rows=4)
    assert positions(report) == ([0, 3, 5], [0, 3, 5], [0, 30, 50])
    assert await rows_of(database) == stored(0, 3, 5)


async def test_a_batch_of_another_type_is_looked_at_by_row(database: AsyncEngine) -> None:
    await make(database, "id integer, v smallint" if database.dialect.name != "sqlite" else "id integer, v boolean")
    parts: list[list[Any]] = [[0, BIG, None], ["1", "x", None]]
    stream = [
        pa.record_batch({"id": pa.array([30 * part + 10 * row for row in range(3)]), "v": parts[part]})
        for part in range(2)
    ]
    report = await dl.load_batches(stream, "t", engine=database, on_invalid="reject", chunk_rows=3)
    assert positions(report) == ([1, 4], [1, 4], [10, 40])
    assert report.rejects["v"].tolist() == [BIG, "x"]
    assert report.rejects["reject_reason"].tolist() == ["range", "syntax"]


def dicts() -> list[dict[str, Any]]:
    columns = bad_at(0, 3, 5)
    return [{"id": one, "v": other} for one, other in zip(columns["id"], columns["v"], strict=True)]


async def dicts_one_by_one() -> AsyncIterator[dict[str, Any]]:
    for row in dicts():
        yield row


@pytest.mark.parametrize("make_rows", [dicts, lambda: iter(dicts()), dicts_one_by_one], ids=["list", "iter", "async"])
async def test_rejects_of_dicts(database: AsyncEngine, make_rows: Callable[[], Any]) -> None:
    await make(database)
    report = await dl.load_rows(make_rows(), "t", engine=database, on_invalid="reject", chunk_rows=2)
    assert positions(report) == ([0, 3, 5], [0, 3, 5], [0, 30, 50])
    assert report.rejects["v"].tolist() == ["x", "x", "x"]
    assert await rows_of(database) == stored(0, 3, 5)


async def test_rejects_of_tuples(database: AsyncEngine) -> None:
    await make(database)
    rows = [tuple(row.values()) for row in dicts()]
    report = await dl.load_rows(rows, "t", columns=["id", "v"], engine=database, on_invalid="reject", chunk_rows=4)
    assert positions(report) == ([0, 3, 5], [0, 3, 5], [0, 30, 50])


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 4, 100])
async def test_the_same_rows_of_several_kinds_are_rejected_whatever_the_chunks(
    database: AsyncEngine, chunk_rows: int
) -> None:
    await make(database)
    values = [0, 1, "two", 3, None, "five", "six", "seven", 8, 9.5, 10]
    rows = [{"id": row, "v": value} for row, value in enumerate(values)]
    report = await dl.load_rows(rows, "t", engine=database, on_invalid="reject", chunk_rows=chunk_rows)
    assert report.rejects["reject_row"].tolist() == [2, 5, 6, 7, 9]
    assert [str(value) for value in report.rejects["v"]] == ["two", "five", "six", "seven", "9.5"]
    assert await rows_of(database) == [(0, 0), (1, 1), (3, 3), (4, None), (8, 8), (10, 10)]


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 100])
async def test_numbers_as_text_among_numbers_are_numbers_whatever_the_chunks(
    database: AsyncEngine, chunk_rows: int
) -> None:
    await make(database)
    values = [0, 1, "2", "3", "4", 5, 6, 7, 8]
    rows = [{"id": row, "v": value} for row, value in enumerate(values)]
    report = await dl.load_rows(rows, "t", engine=database, on_invalid="reject", chunk_rows=chunk_rows)
    assert accounts(report) == (9, 9, 0, 0)
    assert await rows_of(database) == [(row, row) for row in range(9)]


# ---- original values


MOMENT = pd.Timestamp("2024-02-29 12:30:00.123456789")
ORIGINALS: dict[str, tuple[Any, list[Any]]] = {
    "big ints beside NULL": (pa.array([BIG, None, -BIG, 2**63 - 1], pa.int64()), [BIG, None, -BIG, 2**63 - 1]),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
    "pandas' big ints": (pd.Series([BIG, None, -BIG], dtype="Int64"), [BIG, None, -BIG]),
    "Python's big ints": (pd.Series([BIG, None, 2**63 - 1], dtype=object), [BIG, None, 2**63 - 1]),
    "decimals": (pa.array([Decimal("0.10"), None], pa.decimal128(30, 2)), [Decimal("0.10"), None]),
    "Python's decimals": (
        pd.Series([Decimal("1234567890.0123456789"), None], dtype=object),
        [Decimal("1234567890.0123456789"), None],
    ),
    "decimals of 76 digits": (pa.array([Decimal("9" * 76)], pa.decimal256(76, 0)), [Decimal("9" * 76)]),
    "nanoseconds": (pd.Series([MOMENT, pd.NaT]), [MOMENT, None]),
    "nanoseconds with a zone": (
        pd.Series([MOMENT.tz_localize("Europe/Berlin"), pd.NaT]),
        [MOMENT.tz_localize("Europe/Berlin"), None],
    ),
    "spans of nanoseconds": (pd.Series([pd.Timedelta(1, "ns"), pd.NaT]), [pd.Timedelta(1, "ns"), None]),
    "floats": (pa.array([0.1, 5e-324, 1.7976931348623157e308]), [0.1, 5e-324, 1.7976931348623157e308]),
    "texts": (pa.array(["007", "", " ", None, "1e5", "NULL", "a\nb"]), ["007", "", " ", None, "1e5", "NULL", "a\nb"]),
    "categories": (pd.Series(["a", None, "b"], dtype="category"), ["a", None, "b"]),
    "bytes": (pa.array([b"\x00\xff", None]), [b"\x00\xff", None]),
    "bools beside NULL": (pa.array([True, None, False]), [True, None, False]),
    "dates": (pa.array([datetime.date(1, 1, 1), None]), [datetime.date(1, 1, 1), None]),
    "dicts": (pd.Series([{"a": 1}, {"b": [2]}, None]), [{"a": 1}, {"b": [2]}, None]),
    "lists": (pa.array([[1, None], [], None]), [[1, None], [], None]),
}


def plain(value: Any) -> Any:
    """A value as it can be compared: a missing one is None, an array a list, JSON text what it says."""
    if isinstance(value, (list, dict)) or hasattr(value, "tolist"):
        return value.tolist() if hasattr(value, "tolist") else value
    if pd.isna(value):
        return None
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value


@pytest.mark.parametrize(("values", "expected"), ORIGINALS.values(), ids=ORIGINALS)
async def test_rejects_keep_the_original_values_to_the_last_digit(
    postgres: AsyncEngine, values: Any, expected: list[Any]
) -> None:
    """The rows are rejected because of another column."""
    columns = {"v": values, "w": ["x"] * len(expected)}
    data = pd.DataFrame(columns) if isinstance(values, pd.Series) else pa.table(columns)
    report = await dl.load_dataframe(
        data, "t", engine=postgres, on_invalid="reject", chunk_rows=2, dtype={"w": sa.Integer()}
    )
    assert accounts(report) == (len(expected), 0, len(expected), 0)
    assert [plain(value) for value in report.rejects["v"]] == expected


STRANGERS: dict[str, tuple[str, Any, Any]] = {
    "half a character": ("text", "a", "a\ud800"),
    "bytes among texts": ("text", "a", b"a"),
    "text among bytes": ("bytea", b"a", "a"),
    "word among ints": ("integer", 1, "x"),
    "date among ints": ("integer", 1, datetime.date(2024, 2, 29)),
    "uuid among ints": ("integer", 1, uuid.UUID(int=5)),
    "int among dates": ("date", datetime.date(2024, 2, 29), 7),
    "decimal among dates": ("date", datetime.date(2024, 2, 29), Decimal("0.10")),
    "aware among naive": (
        "timestamp",
        datetime.datetime(2024, 1, 1),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    ),
}


@pytest.mark.parametrize(("kind", "usual", "stranger"), STRANGERS.values(), ids=STRANGERS)
async def test_a_value_of_another_kind_than_most_is_itself_in_rejects(
    postgres: AsyncEngine, kind: str, usual: Any, stranger: Any
) -> None:
    await make(postgres, f"id integer, v {kind}")
    frame = pd.DataFrame({"id": range(4), "v": pd.Series([usual, usual, stranger, usual], dtype=object)})
    report = await dl.load_dataframe(frame, "t", engine=postgres, on_invalid="reject")
    assert accounts(report) == (4, 3, 1, 0)
    assert report.rejects["v"].tolist() == [stranger]


async def test_numbers_of_csv_keep_their_spelling_in_rejects(database: AsyncEngine, tmp_path: Path) -> None:
    await make(database, "id integer, v integer, w numeric(12,4)")
    (tmp_path / "a.csv").write_text("id,v,w\n007,x,0.10\n1,2,1e2\n 8 ,y,+5\n")
    report = await dl.load_files(tmp_path / "a.csv", "t", engine=database, on_invalid="reject")
    assert report.rejects[["id", "w"]].to_numpy().tolist() == [["007", "0.10"], [" 8 ", "+5"]]


async def test_several_bad_values_of_a_row_are_one_reject_that_names_them_all(path: tuple[AsyncEngine, str]) -> None:
    engine, method = path
    await make(engine, "id integer NOT NULL, v smallint, w numeric(5,2) CHECK (w > 0)")
    data = {"id": ["1", None, "3"], "v": ["1", "x", "3"], "w": ["1", "1.005", "-1"]}
    report = await dl.load_dataframe(data, "t", engine=engine, method=method, on_invalid="reject")
    assert accounts(report) == (3, 1, 2, 0)
    first, second = report.rejects[REASONS].to_numpy().tolist()
    assert first[0] == 1
    assert first[1].split("; ") == ["id", "v", "w"]
    assert first[2].split("; ") == ["null", "syntax", "digits"]
    assert len(first[3].split("; ")) == 3
    assert (second[0], second[2]) == (2, "check")
    validated = await dl.validate(data, "t", engine=engine)
    assert [(one.row, one.column, one.reason) for one in validated.violations] == [
        (1, "id", "null"),
        (1, "v", "syntax"),
        (1, "w", "digits"),
    ]


# ---- which rows, whatever the chunks


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 4, 5, 6, 7, 100])
@pytest.mark.parametrize("bad", [(0,), (5,), (0, 5), (2, 3), (1, 2, 3, 4), (0, 1, 2, 3, 4, 5)], ids=str)
async def test_the_same_rows_are_rejected_whatever_the_chunks(
    path: tuple[AsyncEngine, str], bad: tuple[int, ...], chunk_rows: int
) -> None:
    """Odd bad rows have a bad value, even ones break a constraint that only the database checks."""
    engine, method = path
    await make(engine, "id integer, v integer CHECK (v >= 0)")
    values = [("x" if row % 2 else "-1") if row in bad else str(row) for row in range(6)]
    data = {"id": [10 * row for row in range(6)], "v": values}
    report = await dl.load_dataframe(
        data, "t", engine=engine, method=method, on_invalid="reject", chunk_rows=chunk_rows
    )
    assert accounts(report) == (6, 6 - len(bad), len(bad), 0)
    assert report.rejects["reject_row"].tolist() == list(bad)
    assert report.rejects["reject_reason"].tolist() == ["syntax" if row % 2 else "check" for row in bad]
    assert await rows_of(engine) == stored(*bad)


async def test_an_empty_frame_has_no_rejects(database: AsyncEngine, tmp_path: Path) -> None:
    await make(database)
    report = await dl.load_dataframe(
        pd.DataFrame({"id": [], "v": []}), "t", engine=database, on_invalid="reject", max_rejects=0.5
    )
    assert accounts(report) == (0, 0, 0, 0)
    assert len(report.rejects) == 0
    assert set(REASONS) <= set(report.rejects.columns)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
async def test_a_load_without_rejects_writes_a_file_all_the_same(
    database: AsyncEngine, tmp_path: Path, suffix: str
) -> None:
    await make(database)
    report = await dl.load_dataframe(bad_at(), "t", engine=database, on_invalid="reject")
    assert accounts(report) == (6, 6, 0, 0)
    assert set(REASONS) <= set(report.rejects.columns)
    report.rejects_to(tmp_path / f"rejects{suffix}")
    assert (tmp_path / f"rejects{suffix}").exists()


async def test_rows_that_a_trigger_drops_are_skipped_and_not_rejected(postgres: AsyncEngine) -> None:
    await make(
        postgres,
        "id integer, v integer CHECK (v < 5)",
        """CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.v % 2 = 1 THEN RETURN NULL; END IF; RETURN NEW; END $$""",
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    data = {"id": list(range(9)), "v": ["0", "1", "2", "x", "6", "4", "3", "7", "8"]}
    report = await dl.load_dataframe(data, "t", engine=postgres, method="copy", on_invalid="reject", chunk_rows=4)
    assert await rows_of(postgres) == [(0, 0), (2, 2), (5, 4)]
    assert accounts(report) == (9, 3, 3, 3)
    assert report.rejects["reject_row"].tolist() == [3, 4, 8]


async def test_what_a_trigger_wrote_for_a_refused_row_is_undone_and_the_rest_is_there_once(
    path: tuple[AsyncEngine, str],
) -> None:
    engine, method = path
    await make(engine, "id integer, v integer UNIQUE", "CREATE TABLE log (id integer)")
    if engine.dialect.name == "sqlite":
        await execute(engine, "CREATE TRIGGER logged BEFORE INSERT ON t BEGIN INSERT INTO log VALUES (NEW.id); END")
    else:
        await execute(
            engine,
            """CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END $$""",
            "CREATE TRIGGER logged BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION logged()",
        )
    data = {"id": list(range(7)), "v": [0, 1, 1, 3, 0, 5, 5]}
    report = await dl.load_dataframe(data, "t", engine=engine, method=method, on_invalid="reject", chunk_rows=5)
    assert accounts(report) == (7, 4, 3, 0)
    assert await fetch(engine, "SELECT id FROM log ORDER BY id") == [(0,), (1,), (3,), (5,)]


@pytest.mark.parametrize(
    "ddl",
    [
        (
            "id integer, v integer",
            "CREATE TRIGGER r BEFORE INSERT ON t WHEN NEW.v = 13 BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        ),
        ("id integer, v integer UNIQUE ON CONFLICT ROLLBACK", "INSERT INTO t VALUES (-1, 13)"),
    ],
    ids=["trigger", "constraint"],
)
@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
async def test_a_rule_of_sqlite_that_ends_the_transaction_leaves_nothing_behind(
    sqlite: AsyncEngine, ddl: tuple[str, str], chunk_rows: int
) -> None:
    """After RAISE(ROLLBACK) further statements would be committed one by one."""
    await make(sqlite, *ddl)
    before = await rows_of(sqlite)
    data = {"id": list(range(7)), "v": [0, 1, 2, 13, 4, 5, 6]}
    with pytest.raises(dl.DataLoaderError):
        await dl.load_dataframe(data, "t", engine=sqlite, on_invalid="reject", chunk_rows=chunk_rows)
    assert await rows_of(sqlite) == before


# ---- correct them and load them again


async def test_rejects_are_corrected_and_loaded_until_every_row_is_there(path: tuple[AsyncEngine, str]) -> None:
    engine, method = path
    await execute(
        engine,
        "CREATE TABLE p (a integer PRIMARY KEY)",
        "INSERT INTO p VALUES (1), (2)",
        "CREATE TABLE t (id integer PRIMARY KEY, v smallint NOT NULL CHECK (v < 100), p integer REFERENCES p)",
    )
    options: dict[str, Any] = {"engine": engine, "method": method, "on_invalid": "reject", "chunk_rows": 3}
    columns = {
        "id": [0, 1, 2, 3, 0, 5, 6, 7],
        "v": ["0", "x", "2", "300", "4", None, "6", "7"],
        "p": ["1", "1", "9", "1", "2", "2", None, "1"],
    }
    frame = pd.DataFrame(columns, index=list("abcdefgh"))
    first = await dl.load_dataframe(frame, "t", **options)
    assert accounts(first) == (8, 3, 5, 0)
    second = first.rejects
    assert second.index.tolist() == list("bcdef")
    second["id"], second["v"], second["p"] = [1, 2, 3, 4, 5], ["300", "2", "30", "4", "5"], ["1", "2", "1", "2", "2"]
    again = await dl.load_dataframe(second, "t", **options)
    assert accounts(again) == (5, 4, 1, 0)
    assert (again.rejects.index.tolist(), again.rejects["reject_row"].tolist()) == (["b"], [0])
    assert again.rejects["reject_reason"].tolist() == ["check"]
    last = await dl.load_dataframe(again.rejects.assign(v="1"), "t", **options)
    assert accounts(last) == (1, 1, 0, 0)
    assert await rows_of(engine, "id, v, p") == [
        (0, 0, 1),
        (1, 1, 1),
        (2, 2, 2),
        (3, 30, 1),
        (4, 4, 2),
        (5, 5, 2),
        (6, 6, None),
        (7, 7, 1),
    ]


BAD_VALUES: dict[str, tuple[str, list[Any]]] = {
    "half a character": ("text", ["a", "b", "\ud800"]),
    "a word among ints": ("integer", [1, 2, "x"]),
    "too large": ("smallint", [1, 2, 2**15]),
    "NUL": ("text", ["a", "b", "\0"]),
    "too long": ("varchar(3)", ["a", "b", "abcd"]),
    "bytes among texts": ("text", ["a", "b", b"c"]),
    "an aware time among naive ones": (
        "timestamp",
        [
            datetime.datetime(2024, 1, 1),
            datetime.datetime(2024, 1, 2),
            datetime.datetime(2024, 1, 3, tzinfo=datetime.UTC),
        ],
    ),
    "NaN in a dict": ("jsonb", [{"a": 1}, {}, {"a": math.nan}]),
}


@pytest.mark.parametrize(("kind", "values"), BAD_VALUES.values(), ids=BAD_VALUES)
async def test_rejects_that_nobody_corrected_are_rejected_again(
    postgres: AsyncEngine, kind: str, values: list[Any]
) -> None:
    await make(postgres, f"id integer, v {kind}")
    frame = pd.DataFrame({"id": [0, 1, 2], "v": pd.Series(values, dtype=object)})
    report = await dl.load_dataframe(frame, "t", engine=postgres, on_invalid="reject")
    assert accounts(report) == (3, 2, 1, 0)
    with pytest.raises(dl.DataLoaderError):
        await dl.load_dataframe(report.rejects, "t", engine=postgres)
    assert await fetch(postgres, "SELECT id FROM t ORDER BY id") == [(0,), (1,)]


async def test_only_all_four_columns_together_are_left_out(database: AsyncEngine) -> None:
    await make(database)
    report = await dl.load_dataframe(bad_at(1), "t", engine=database, on_invalid="reject")
    with pytest.raises(dl.SchemaMismatch, match="reject_row"):
        await dl.load_dataframe(report.rejects.assign(v="1").drop(columns="reject_reason"), "t", engine=database)
    assert await rows_of(database) == stored(1)


async def test_columns_that_are_named_like_those_of_rejects_are_data_of_their_own(database: AsyncEngine) -> None:
    await make(database, "id integer, v integer, reject_row integer, reject_reason text")
    data = {**bad_at(1), "reject_row": list(range(6)), "reject_reason": list("abcdef")}
    report = await dl.load_dataframe(data, "t", engine=database, on_invalid="reject")
    assert accounts(report) == (6, 5, 1, 0)
    assert await rows_of(database, "reject_row, reject_reason") == [
        (0, "a"),
        (2, "c"),
        (3, "d"),
        (4, "e"),
        (5, "f"),
    ]


REJECTED = "reject_row bigint, reject_column text, reject_reason text, reject_problem text"


async def some_rejects(database: AsyncEngine) -> pd.DataFrame:
    await make(database)
    rejects: pd.DataFrame = (await dl.load_dataframe(bad_at(1, 4), "t", engine=database, on_invalid="reject")).rejects
    return rejects


@pytest.mark.parametrize("suffix", ["", ".csv", ".jsonl", ".parquet"])
async def test_a_table_of_rejects_gets_the_reasons(database: AsyncEngine, tmp_path: Path, suffix: str) -> None:
    rejects = await some_rejects(database)
    await execute(database, f"CREATE TABLE kept (id integer, v text, {REJECTED})")
    if suffix:
        report = await dl.load_dataframe(bad_at(1, 4), "t", engine=database, on_invalid="reject")
        report.rejects_to(tmp_path / f"rejects{suffix}")
        await dl.load_files(tmp_path / f"rejects{suffix}", "kept", engine=database)
    else:
        await dl.load_dataframe(rejects, "kept", engine=database)
    kept = await fetch(database, "SELECT id, v, reject_row, reject_column, reject_reason FROM kept ORDER BY id")
    assert kept == [(10, "x", 1, "v", "syntax"), (40, "x", 4, "v", "syntax")]
    assert await fetch(database, "SELECT count(*) FROM kept WHERE reject_problem LIKE '%cannot be read%'") == [(2,)]


async def test_a_table_with_some_of_the_reasons_gets_those(database: AsyncEngine) -> None:
    rejects = await some_rejects(database)
    await execute(database, "CREATE TABLE kept (id integer, v text, reject_reason text)")
    await dl.load_dataframe(rejects, "kept", engine=database)
    assert await fetch(database, "SELECT v, reject_reason FROM kept") == [("x", "syntax")] * 2


async def test_a_table_that_is_made_gets_the_reasons_that_its_definition_has(database: AsyncEngine) -> None:
    rejects = await some_rejects(database)
    columns = (sa.Column(name, sa.Text) for name in ("id", "v", "reject_column", "reject_reason"))
    await dl.load_dataframe(rejects, sa.Table("kept", sa.MetaData(), *columns), engine=database)
    assert await fetch(database, "SELECT reject_column, reject_reason FROM kept") == [("v", "syntax")] * 2
    await dl.load_dataframe(rejects, "kept", engine=database, if_exists="replace")
    assert await fetch(database, "SELECT reject_column, reject_reason FROM kept") == [("v", "syntax")] * 2
    await dl.load_dataframe(rejects, "made", engine=database)
    assert (await dl.plan_load(rejects, "made", engine=database)).table.column("v").name == "v"
    assert [column.name for column in (await dl.plan_load(rejects, "made", engine=database)).columns] == ["id", "v"]


# ---- files of rejects

FILES: dict[str, tuple[str, pa.Array]] = {
    "ints": ("bigint", pa.array([BIG, -BIG, None])),
    "decimals": ("numeric(30,10)", pa.array([Decimal("1234567890.0123456789"), Decimal("-0.1"), None])),
    "decimals of 76 digits": ("numeric", pa.array([Decimal("9" * 76)], pa.decimal256(76, 0))),
    "floats": ("double precision", pa.array([0.1, -5e-324, 1e300, math.inf, math.nan, None])),
    "small floats": ("real", pa.array([0.1, -1.5e-40, None], pa.float32())),
    "bools": ("boolean", pa.array([True, False, None])),
    "texts": ("text", pa.array(["", " ", 'a,b;"c"', "a\r\nb", "\\N", "NULL", "'", "007", "-5", None, "ü😀"])),
    "dictionary": ("text", pa.array(["a", None, "a"]).dictionary_encode()),
    "dates": ("date", pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None])),
    "BC dates": ("date", pa.array([-1_000_000, 0], pa.date32())),
    "times": ("time", pa.array([datetime.time.max, None])),
    "timestamps": ("timestamp", pa.array([datetime.datetime(2024, 2, 29, 1, 2, 3, 4), None])),
    "timestamps with a zone": (
        "timestamptz",
        pa.array([datetime.datetime(2024, 10, 27, 0, 30), None]).cast(pa.timestamp("us", "Europe/Berlin")),
    ),
    "spans": ("interval", pa.array([datetime.timedelta(days=-1, microseconds=1), None])),
    "uuids": ("uuid", pa.array([uuid.UUID(int=1).bytes, None], pa.uuid())),
    "json": ("jsonb", pa.array(['{"a": [1, "ü", null]}', "null", None], pa.json_())),
    "structs": ("jsonb", pa.array([{"a": 1, "b": None}, None])),
    "lists": ("integer[]", pa.array([[1, None], [], None])),
    "lists of texts": ("text[]", pa.array([["a,b", 'c"d', "NULL", None, ""]])),
    "bytes": ("bytea", pa.array([b"\x00\xff", b"", None])),
}


WITHOUT_SPELLING = {
    ".csv": ("BC dates",),
    ".jsonl": ("BC dates",),
    ".parquet": (),
}
"""What a kind of file has no spelling for that a loader of files reads."""
WRITTEN = [
    pytest.param(*FILES[name], suffix, id=f"{name} in {suffix}")
    for suffix, lacking in WITHOUT_SPELLING.items()
    for name in FILES
    if name not in lacking
]


@pytest.mark.parametrize(("kind", "values", "suffix"), WRITTEN)
async def test_a_file_of_rejects_loads_what_the_source_would_have(
    postgres: AsyncEngine, tmp_path: Path, kind: str, values: pa.Array, suffix: str
) -> None:
    """Everything is rejected by a constraint that is then dropped; the source itself is loaded beside it."""
    data = pa.table({"id": range(len(values)), "v": values})
    await make(postgres, f"id integer CONSTRAINT no CHECK (id < 0), v {kind}", f"CREATE TABLE u (id integer, v {kind})")
    report = await dl.load_dataframe(data, "t", engine=postgres, on_invalid="reject", chunk_rows=2)
    assert report.rejected == len(values)
    file = tmp_path / f"rejects{suffix}"
    report.rejects_to(file)
    await execute(postgres, "ALTER TABLE t DROP CONSTRAINT no")
    assert (await dl.load_files(file, "t", engine=postgres)).loaded == len(values)
    await dl.load_dataframe(data, "u", engine=postgres)
    query = "SELECT id, CAST(v AS text) FROM {} ORDER BY id"
    assert await fetch(postgres, query.format("t")) == await fetch(postgres, query.format("u"))


FORMULAS = [
    "=1+1",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "-",
    "=",
    "+a",
    "'=1+1",
    "-1e",
    "--1",
    "+-1",
    "-1-1",
    "=5",
]
HARMLESS = ["a", "", "1+1", "a=1", "-5", "+5", "-1.5e-3", "-0.10", "+1.5E+10", "-.5", "ü", "a\n=1", " =1"]


async def test_a_csv_of_rejects_has_no_formulas(database: AsyncEngine, tmp_path: Path) -> None:
    texts = [*FORMULAS, *HARMLESS]
    await make(database, "id integer, v text, n numeric(12,4), x integer")
    data = pa.table(
        {
            "id": [-row for row in range(len(texts))],
            "v": texts,
            "n": pa.array([Decimal("-1.5000")] * len(texts), pa.decimal128(12, 4)),
            "x": ["=bad"] * len(texts),
        }
    )
    report = await dl.load_dataframe(data, "t", engine=database, on_invalid="reject")
    report.rejects_to(tmp_path / "rejects.csv")
    with (tmp_path / "rejects.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["v"] for row in rows[: len(FORMULAS)]] == [f"'{text}" for text in FORMULAS]
    assert [row["v"] for row in rows[len(FORMULAS) :]] == HARMLESS
    assert [row["id"] for row in rows] == [str(-row) for row in range(len(texts))]
    assert {row["n"] for row in rows} == {"-1.5000"}
    assert {row["x"] for row in rows} == {"'=bad"}
    assert {row["reject_column"] for row in rows} == {"x"}
    for row in rows:
        assert not any(cell.startswith(("=", "@", "\t", "\r")) for cell in row.values())


async def test_the_databases_words_are_no_formula_in_a_csv(postgres: AsyncEngine, tmp_path: Path) -> None:
    await make(
        postgres,
        "id integer",
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '=HYPERLINK("http://x")'; END $$""",
        "CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    report = await dl.load_dataframe({"id": [1]}, "t", engine=postgres, on_invalid="reject")
    report.rejects_to(tmp_path / "rejects.csv")
    with (tmp_path / "rejects.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["reject_problem"].startswith("'=HYPERLINK")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
async def test_other_files_of_rejects_keep_a_formula_as_it_is(
    database: AsyncEngine, tmp_path: Path, suffix: str
) -> None:
    await make(database, "id integer, v text")
    data = {"id": ["x"] * len(FORMULAS), "v": FORMULAS}
    report = await dl.load_dataframe(data, "t", engine=database, on_invalid="reject")
    report.rejects_to(tmp_path / f"rejects{suffix}")
    again = await dl.load_files(tmp_path / f"rejects{suffix}", "t", engine=database, on_invalid="reject")
    assert again.rejects["v"].tolist() == FORMULAS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
async def test_a_file_of_rejects_of_several_kinds_is_written(
    database: AsyncEngine, tmp_path: Path, suffix: str
) -> None:
    await make(database)
    values = [1, "x", 2, b"y", Decimal("0.5"), math.inf, {"a": 1}, 3, 4]
    frame = pd.DataFrame({"id": range(9), "v": pd.Series(values, dtype=object)})
    report = await dl.load_dataframe(frame, "t", engine=database, on_invalid="reject", chunk_rows=2)
    assert report.rejects["reject_row"].tolist() == [1, 3, 4, 5, 6]
    report.rejects_to(tmp_path / f"rejects{suffix}")
    again = await dl.load_files(tmp_path / f"rejects{suffix}", "t", engine=database, on_invalid="reject")
    assert again.rejects["id"].astype(int).tolist() == [1, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["rejects", "rejects.xlsx", "rejects.txt", "rejects.csv.zip"])
async def test_a_file_of_an_unknown_kind_is_refused_and_not_written(
    database: AsyncEngine, tmp_path: Path, name: str
) -> None:
    await make(database)
    report = await dl.load_dataframe(bad_at(1), "t", engine=database, on_invalid="reject")
    with pytest.raises(dl.PlanError, match=r"\.csv"):
        report.rejects_to(tmp_path / name)
    assert not (tmp_path / name).exists()


# ---- as HTML

EVIL = "<script>alert('&')</script>"


async def test_hostile_values_and_names_are_escaped_in_reports(database: AsyncEngine) -> None:
    quoted = f'"{EVIL}"'
    await execute(database, f"CREATE TABLE {quoted} (id integer, {quoted} integer CHECK ({quoted} < 5))")
    data = pd.DataFrame({"id": [1, 2, 3], EVIL: [1, EVIL, 9]}, index=[EVIL] * 3, dtype=object)
    report = await dl.load_dataframe(data, quoted, engine=database, on_invalid="reject")
    assert accounts(report) == (3, 1, 2, 0)
    validated = await dl.validate(data, quoted, engine=database)
    assert EVIL in validated.violations[0].value
    plan = await dl.plan_load(data, quoted, engine=database)
    for shown in (report, validated, plan):
        html = shown._repr_html_()
        assert "<script" not in html
        assert "&lt;script&gt;" in html


async def test_a_report_of_rejects_shows_how_many_and_why(database: AsyncEngine) -> None:
    await make(database)
    report = await dl.load_dataframe(bad_at(1, 4), "t", engine=database, on_invalid="reject")
    for text in (str(report), report._repr_html_()):
        assert "6 read = 4 loaded + 2 rejected" in text
        assert "syntax" in text or "cannot be read as" in text
        assert "report.rejects" in text


# ---- constraints that are checked late, and keys into the table itself


async def test_a_key_that_is_checked_at_the_end_of_the_statement_rejects_its_row(postgres: AsyncEngine) -> None:
    await make(postgres, "id integer, v integer UNIQUE DEFERRABLE INITIALLY IMMEDIATE")
    data = {"id": list(range(7)), "v": [0, 1, 2, 1, 4, 0, 6]}
    report = await dl.load_dataframe(data, "t", engine=postgres, on_invalid="reject", chunk_rows=5)
    assert accounts(report) == (7, 5, 2, 0)
    assert report.rejects["reject_row"].tolist() == [3, 5]
    assert report.rejects["reject_reason"].tolist() == ["unique", "unique"]


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize(
    ("constraint", "reason"),
    [("UNIQUE", "unique"), ("REFERENCES p", "foreign_key")],
)
async def test_a_constraint_that_is_checked_at_the_commit_rejects_its_row(
    postgres: AsyncEngine, constraint: str, reason: str, method: Any
) -> None:
    await execute(postgres, "CREATE TABLE p (a integer PRIMARY KEY)", "INSERT INTO p SELECT generate_series(0, 6)")
    await make(postgres, f"id integer, v integer {constraint} DEFERRABLE INITIALLY DEFERRED")
    data = {"id": list(range(7)), "v": [0, 1, 2, 1 if reason == "unique" else 99, 4, 5, 6]}
    options: dict[str, Any] = {"engine": postgres, "method": method, "chunk_rows": 2}
    with pytest.raises(dl.WriteError):
        await dl.load_dataframe(data, "t", **options)
    assert await rows_of(postgres) == []
    report = await dl.load_dataframe(data, "t", on_invalid="reject", **options)
    assert accounts(report) == (7, 6, 1, 0)
    assert report.rejects["reject_row"].tolist() == [3]
    assert report.rejects["reject_reason"].tolist() == [reason]
    assert [row[0] for row in await rows_of(postgres)] == [0, 1, 2, 4, 5, 6]


async def test_a_trigger_that_raises_at_the_commit_is_an_error_and_nothing_is_written(postgres: AsyncEngine) -> None:
    await make(
        postgres,
        "id integer, v integer",
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.v = 3 THEN RAISE EXCEPTION 'three'; END IF; RETURN NULL; END $$""",
        """CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse()""",
    )
    for on_invalid in ("raise", "reject"):
        with pytest.raises(dl.WriteError, match="three"):
            await dl.load_dataframe(bad_at(), "t", engine=postgres, on_invalid=on_invalid, chunk_rows=2)
        assert await rows_of(postgres) == []


async def test_sqlites_key_that_is_checked_at_the_commit_never_leaves_an_orphan(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE p (a integer PRIMARY KEY)", "INSERT INTO p VALUES (0), (1), (2), (4), (5)")
    await make(sqlite, "id integer, v integer REFERENCES p DEFERRABLE INITIALLY DEFERRED")
    try:
        report = await dl.load_dataframe(bad_at(), "t", engine=sqlite, on_invalid="reject", chunk_rows=2)
    except dl.WriteError:
        assert await rows_of(sqlite) == []
    else:
        assert report.rejects["reject_row"].tolist() == [3]
        assert await rows_of(sqlite) == stored(3)


UNENFORCED: dict[str, tuple[str, ...]] = {
    "a key that is not enforced": (
        "ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES p",
        "ALTER TABLE t DISABLE TRIGGER ALL",
    ),
    "a trigger that corrects the value": (
        "ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES p",
        """CREATE FUNCTION one() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.v = 77 THEN NEW.v := 1; END IF; RETURN NEW; END $$""",
        "CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION one()",
    ),
    "a trigger that makes the parent": (
        "ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES p",
        """CREATE FUNCTION one() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO p VALUES (NEW.v) ON CONFLICT DO NOTHING; RETURN NEW; END $$""",
        "CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION one()",
    ),
}


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("statements", UNENFORCED.values(), ids=UNENFORCED)
async def test_a_row_that_the_database_takes_is_never_rejected_for_its_foreign_key(
    postgres: AsyncEngine, statements: tuple[str, ...], method: Any
) -> None:
    await execute(postgres, "CREATE TABLE p (a integer PRIMARY KEY)", "INSERT INTO p VALUES (1)")
    await make(postgres, "id integer, v integer", *statements)
    data = {"id": [0, 1], "v": [1, 77]}
    report = await dl.load_dataframe(data, "t", engine=postgres, method=method, on_invalid="reject")
    assert accounts(report) == (2, 2, 0, 0)


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 100])
async def test_a_row_that_refers_to_a_rejected_row_is_rejected_too(
    path: tuple[AsyncEngine, str], chunk_rows: int
) -> None:
    engine, method = path
    await make(engine, "id integer PRIMARY KEY, v integer REFERENCES t")
    data = {"id": [0, 1, 2, 3, 4, 5, 6], "v": [None, 0, 99, 2, 1, 3, 0]}
    report = await dl.load_dataframe(
        data, "t", engine=engine, method=method, on_invalid="reject", chunk_rows=chunk_rows
    )
    assert report.rejects["reject_row"].tolist() == [2, 3, 5]
    assert report.rejects["reject_reason"].tolist() == ["foreign_key"] * 3
    assert await rows_of(engine) == [(0, None), (1, 0), (4, 1), (6, 0)]


async def test_a_row_that_refers_to_a_later_row_is_not_rejected_for_the_fault_of_a_third(
    postgres: AsyncEngine,
) -> None:
    """Without the bad row the chunk is stored: a foreign key is checked at the end of its statement."""
    await make(postgres, "id integer PRIMARY KEY, v integer REFERENCES t")
    data = {"id": [0, 1, 2, 3, 4, 5], "v": [5, 4, 99, None, None, None]}
    report = await dl.load_dataframe(data, "t", engine=postgres, method="copy", on_invalid="reject")
    assert report.rejects["reject_row"].tolist() == [2]
    assert await rows_of(postgres) == [(0, 5), (1, 4), (3, None), (4, None), (5, None)]


async def test_a_deferred_key_into_the_table_itself_lets_children_come_before_their_parents(
    postgres: AsyncEngine,
) -> None:
    await make(postgres, "id integer PRIMARY KEY, v integer REFERENCES t DEFERRABLE INITIALLY DEFERRED, w smallint")
    data = {"id": [0, 1, 2, 3, 4, 5], "v": [5, 4, 5, None, None, None], "w": [0, 0, 2**15, 0, 0, 0]}
    report = await dl.load_dataframe(data, "t", engine=postgres, on_invalid="reject", chunk_rows=2)
    assert report.rejects["reject_row"].tolist() == [2]
    assert await rows_of(postgres) == [(0, 5), (1, 4), (3, None), (4, None), (5, None)]


# ---- against a model in Python

Row = tuple[int, str | None, int | None, int | None]


def random_rows(seed: int, count: int) -> list[Row]:
    """Rows of which about half break something: a text that is no integer, CHECK, UNIQUE, a foreign key, or several."""
    chance = random.Random(seed)
    texts = ["x", "1.5", str(2**63), None, *(str(value) for value in range(0, 120, 12))]
    return [
        (
            number,
            chance.choice(texts),
            chance.choice([None, 1, 2, 3, 4, 5, 6]),
            chance.choice([None, *range(count)]),
        )
        for number in range(count)
    ]


def expected_of(rows: list[Row]) -> tuple[list[Row], dict[int, set[str]]]:
    """What is stored, and the reasons of which each other row has one."""
    kept: list[Row] = []
    refused: dict[int, set[str]] = {}
    keys: set[int | None] = {0, 1, 2}
    for row in rows:
        number, value, parent, key = row
        bad_value = {"x": "syntax", "1.5": "fraction", str(2**63): "range"}.get(value or "")
        reasons = {
            "check": value is not None and not bad_value and int(value) > 100,
            "foreign_key": parent is not None and parent > 4,
            "unique": key is not None and key in keys,
        }
        if bad_value or any(reasons.values()):
            refused[number] = {bad_value} if bad_value else {reason for reason, breaks in reasons.items() if breaks}
        else:
            kept.append(row)
            keys.add(key)
    return kept, refused


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
async def test_rejects_agree_with_a_model_where_every_chunk_breaks_every_constraint(
    path: tuple[AsyncEngine, str], chunk_rows: int, seed: int
) -> None:
    engine, method = path
    await execute(
        engine,
        "CREATE TABLE p (a integer PRIMARY KEY)",
        "INSERT INTO p VALUES (1), (2), (3), (4)",
        "CREATE TABLE t (id integer, v integer CHECK (v <= 100), p integer REFERENCES p, k integer UNIQUE)",
        "INSERT INTO t (id, k) VALUES (-1, 0), (-2, 1), (-3, 2)",
    )
    rows = random_rows(seed, 90)
    kept, refused = expected_of(rows)
    assert {reason for reasons in refused.values() for reason in reasons} == {
        "syntax",
        "fraction",
        "range",
        "check",
        "foreign_key",
        "unique",
    }
    report = await dl.load_rows(
        rows,
        "t",
        columns=["id", "v", "p", "k"],
        engine=engine,
        method=method,
        on_invalid="reject",
        chunk_rows=chunk_rows,
    )
    stored_rows = await fetch(engine, "SELECT id, v, p, k FROM t WHERE id >= 0 ORDER BY id")
    assert stored_rows == [(one, None if v is None else int(v), p, k) for one, v, p, k in kept]
    rejects = report.rejects
    assert rejects["reject_row"].tolist() == list(refused)
    assert rejects["id"].tolist() == list(refused)
    for row, reason in zip(rejects["reject_row"], rejects["reject_reason"], strict=True):
        assert reason in refused[row]
    assert accounts(report) == (90, len(kept), len(refused), 0)
    assert await fetch(engine, "SELECT count(*) FROM t WHERE id < 0") == [(3,)]


class Watching:
    """A view that keeps the state of the load."""

    interval = 3600.0

    def open(self, state: State, _cancel: object) -> None:
        self.state = state

    def update(self, state: State) -> None: ...
    def close(self, state: State) -> None: ...


async def test_the_first_rejected_row_and_the_pace_are_shown(database: AsyncEngine) -> None:
    await make(database)
    view: Any = Watching()
    options: Any = {"engine": database, "chunk_rows": 2, "on_invalid": "reject", "progress": view}
    report = await dl.load_dataframe(bad_at(3, 4, of=6), "t", **options)
    assert view.state.first_rejected.startswith("row 3, column 'v': 'x' does not fit ")
    assert [rows for _, rows in report.pace] == [0, 2, 4, 6]
    assert 0 < report.pace[-1][0] <= report.seconds


PARENTS = ("CREATE TABLE p (id integer PRIMARY KEY)", "INSERT INTO p VALUES (1), (2)")
CHILD = "CREATE TABLE t (id integer, p integer REFERENCES p (id) {})"
ORPHANS = {"id": [1, 2, 3, 4], "p": [1, 9, None, 2]}


@pytest.mark.parametrize("commit", ["load", "chunk"])
async def test_rows_without_a_parent_are_rejected_one_by_one_by_sqlite_too(sqlite: AsyncEngine, commit: Any) -> None:
    await execute(sqlite, *PARENTS, CHILD.format(""))
    with pytest.raises(dl.WriteError, match=r"row 1: .*FOREIGN KEY constraint failed"):
        await dl.load_dataframe(ORPHANS, "t", engine=sqlite, commit=commit)
    assert await fetch(sqlite, "SELECT * FROM t") == []
    report = await dl.load_dataframe(ORPHANS, "t", engine=sqlite, commit=commit, on_invalid="reject", resume=False)
    assert (report.loaded, report.rejects["reject_row"].tolist()) == (3, [1])
    assert report.rejects["reject_reason"].tolist() == ["foreign_key"]
    assert await fetch(sqlite, "SELECT id FROM t") == [(1,), (3,), (4,)]


async def test_a_deferred_foreign_key_of_sqlite_leaves_nothing_behind(sqlite: AsyncEngine) -> None:
    await execute(sqlite, *PARENTS, CHILD.format("DEFERRABLE INITIALLY DEFERRED"))
    with pytest.raises(dl.WriteError, match="FOREIGN KEY constraint failed"):
        await dl.load_dataframe(ORPHANS, "t", engine=sqlite)
    assert await fetch(sqlite, "SELECT * FROM t") == []


async def test_a_row_may_refer_to_another_row_of_the_load(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE t (id integer PRIMARY KEY, t integer REFERENCES t (id))")
    data = {"id": [1, 2, 3, 4], "t": [2, None, 9, 1]}
    report = await dl.load_dataframe(data, "t", engine=sqlite, on_invalid="reject")
    assert report.rejects["reject_row"].tolist() == [2]


@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE", "ON DELETE SET NULL"])
async def test_a_table_that_others_refer_to_is_not_emptied_on_sqlite(
    sqlite: AsyncEngine, action: str, if_exists: Any
) -> None:
    await execute(sqlite, *PARENTS, CHILD.format(action), "INSERT INTO t VALUES (1, 1)")
    with pytest.raises(dl.PlanError, match="t refers to it by a foreign key"):
        await dl.load_dataframe({"id": [5]}, "p", engine=sqlite, if_exists=if_exists)
    assert await fetch(sqlite, "SELECT * FROM t, p") == [(1, 1, 1), (1, 1, 2)]


async def test_an_engine_that_does_not_check_foreign_keys_is_left_so_and_the_plan_says_it(sqlite: AsyncEngine) -> None:
    await execute(sqlite, *PARENTS, CHILD.format(""))
    engine = create_async_engine(sqlite.url)
    report = await dl.load_dataframe(ORPHANS, "t", engine=engine)
    assert "PRAGMA foreign_keys is off" in str(report)
    assert "PRAGMA foreign_keys is off" in str(await dl.plan_load(ORPHANS, "t", engine=engine))
    assert "PRAGMA foreign_keys is off" not in str(await dl.plan_load({"id": [5]}, "p", engine=engine))
    assert await fetch(engine, "PRAGMA foreign_keys") == [(0,)]
    assert report.loaded == 4
    await engine.dispose()
