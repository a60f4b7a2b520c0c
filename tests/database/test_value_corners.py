"""What few values meet: documents deeper than Python goes, times inside of lists, rows that no disk has room for."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

DEPTH = 100_000
READ_AT_ONCE = 20_000
"""More rows than are read before the types are known."""
DEEP = "[" * DEPTH + "]" * DEPTH
MOMENT = datetime.datetime(2026, 11, 29, 10, 30)
AWARE = MOMENT.replace(tzinfo=datetime.UTC)
FINE = pd.Timestamp("2026-11-29 10:30:00.000000001")


async def test_a_document_that_is_deeper_than_python_goes_is_sqlite_s_to_keep(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE t (v json)")
    assert (await dl.load_dataframe({"v": [DEEP]}, "t", engine=sqlite)).loaded == 1
    assert await fetch(sqlite, "SELECT v FROM t") == [(DEEP,)]


@pytest.mark.parametrize("kind", ["json", "jsonb"])
async def test_a_document_that_is_deeper_than_the_server_goes_is_its_to_refuse(
    postgres: AsyncEngine, kind: str
) -> None:
    await execute(postgres, f"CREATE TABLE t (v {kind})")
    with pytest.raises(dl.WriteError, match=r"row 0: column 'v': .*stack depth limit exceeded"):
        await dl.load_dataframe({"v": [DEEP]}, "t", engine=postgres)
    assert await fetch(postgres, "SELECT v FROM t") == []


LISTS: dict[str, tuple[list[Any], str, list[Any]]] = {
    "of times": ([MOMENT, MOMENT], "timestamp[]", [MOMENT, MOMENT]),
    "of times with a zone": ([AWARE, None], "timestamptz[]", [AWARE, None]),
    "of lists of times": ([[MOMENT], [MOMENT]], "timestamp[]", [[MOMENT], [MOMENT]]),
    "of times of which some have a zone": (
        [MOMENT, AWARE],
        "jsonb",
        ["2026-11-29T10:30:00", "2026-11-29T10:30:00+00:00"],
    ),
    "of times with nanoseconds": ([FINE], "jsonb", ["2026-11-29T10:30:00.000000001"]),
    "of times and dates": ([MOMENT, MOMENT.date()], "jsonb", ["2026-11-29T10:30:00", "2026-11-29"]),
}


@pytest.mark.parametrize(("given", "kind", "stored"), LISTS.values(), ids=LISTS)
async def test_a_list_keeps_each_of_its_times_as_it_is(
    postgres: AsyncEngine, given: list[Any], kind: str, stored: list[Any]
) -> None:
    await execute(postgres, f"CREATE TABLE t (v {kind})")
    await dl.load_dataframe({"v": [given]}, "t", engine=postgres)
    assert await fetch(postgres, "SELECT v FROM t") == [(stored,)]


LOST: dict[str, tuple[list[Any], str, str]] = {
    "a zone": (
        [MOMENT, AWARE],
        "timestamp[]",
        "an element: it has an offset from UTC, and the column has no time zone",
    ),
    "no zone": ([MOMENT, AWARE], "timestamptz[]", "an element: it has no offset from UTC: pass assume_timezone"),
    "nanoseconds": ([FINE], "timestamp[]", "an element: it is more precise than the column"),
}


@pytest.mark.parametrize(("given", "kind", "problem"), LOST.values(), ids=LOST)
async def test_a_list_with_a_time_that_an_array_would_change_is_refused(
    postgres: AsyncEngine, given: list[Any], kind: str, problem: str
) -> None:
    await execute(postgres, f"CREATE TABLE t (v {kind})")
    with pytest.raises(dl.ValidationError, match=problem):
        await dl.load_dataframe({"v": [given]}, "t", engine=postgres)
    assert await fetch(postgres, "SELECT v FROM t") == []


@pytest.mark.parametrize("kind", ["m8[h]", "M8[h]"])
async def test_hours_of_numpy_that_are_too_many_for_seconds_are_refused(database: AsyncEngine, kind: str) -> None:
    with pytest.raises(dl.UnsupportedType, match=r"column 'v' has .*a time is out of the range of 64 bits"):
        await dl.load_dataframe({"v": np.array([2**62], kind)}, "t", engine=database)


async def test_a_text_is_not_read_as_the_number_that_an_untyped_column_has_begun_with(sqlite: AsyncEngine) -> None:
    """A stream whose types change: 007 and 7 are two values, and SQLite's column keeps either."""

    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"v": number} for number in range(READ_AT_ONCE))
        yield {"v": "007"}

    await execute(sqlite, "CREATE TABLE t (v)")
    report = await dl.load_rows(rows(), "t", engine=sqlite, chunk_rows=1_000, on_invalid="reject")
    assert report.rejects[["v", "reject_reason"]].to_numpy().tolist() == [["007", "type"]]
    assert await fetch(sqlite, "SELECT count(*), max(v), min(typeof(v)) FROM t") == [
        (READ_AT_ONCE, READ_AT_ONCE - 1, "integer")
    ]


async def test_rejects_that_no_disk_has_room_for_end_the_load(
    database: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(
        database, "CREATE TABLE t (v smallint)" if database.name == "postgresql" else "CREATE TABLE t (v int)"
    )
    monkeypatch.setattr("dataloader.conversion.spool.SPOOLED_BYTES", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    data = {"v": [1, 2**65, 3]}
    with pytest.raises(dl.LoadError, match=r"what was refused cannot be kept in .*gone: No such file") as caught:
        await dl.load_dataframe(data, "t", engine=database, on_invalid="reject")
    assert "name another folder in TMPDIR" in str(caught.value)
    assert await fetch(database, "SELECT v FROM t") == []
