"""A table that is dropped and created again with other types, on one engine: nothing remembers the old ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.loading import pipeline
from tests.conftest import execute, fetch

pytestmark = pytest.mark.any_version

PAIRS: tuple[tuple[str, str, list[Any], list[str]], ...] = (
    ("integer", "bigint", [1, -7], ["1", "-7"]),
    ("bigint", "real", [1, 16777216], ["1", "1.6777216e+07"]),
    ("double precision", "bigint", [2.0, -3.0], ["2", "-3"]),
    ("double precision", "numeric(12,4)", [0.1, 2.5], ["0.1000", "2.5000"]),
    ("numeric(12,4)", "numeric(10,2)", [0.5, 2.25], ["0.50", "2.25"]),
    ("text", "uuid", ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]),
    ("text", "jsonb", ['{"b":1,"a":2}'], ['{"a": 2, "b": 1}']),
    ("json", "text", ["[1,  2]"], ["[1,  2]"]),
    ("text", "date", ["2024-02-29"], ["2024-02-29"]),
    ("timestamp", "text", ["2024-02-29 10:00:00"], ["2024-02-29 10:00:00"]),
    ("time", "interval", ["10:00:00"], ["10:00:00"]),
    ("text", "inet", ["10.0.0.1"], ["10.0.0.1/32"]),
    ("integer[]", "text[]", ["{1,2}"], ["{1,2}"]),
    ("smallint", "boolean", [1, 0], ["true", "false"]),
)


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize(
    ("first", "second", "values", "texts"), PAIRS, ids=[f"{one} to {two}" for one, two, *_ in PAIRS]
)
async def test_the_types_of_the_present_table_decide(  # noqa: PLR0917 - what is created, loaded and read
    postgres: AsyncEngine, method: Any, first: str, second: str, values: list[Any], texts: list[str]
) -> None:
    table = pa.table({"id": list(range(len(values))), "v": values})
    for kind in (first, second, first, second):
        await execute(postgres, "DROP TABLE IF EXISTS t", f"CREATE TABLE t (id integer, v {kind})")
        await dl.load_dataframe(table, "t", engine=postgres, method=method)
    stored = await fetch(postgres, "SELECT CAST(v AS text) FROM t ORDER BY id")
    assert [one for (one,) in stored] == texts


@pytest.mark.parametrize("on_invalid", ["raise", "reject"])
@pytest.mark.parametrize(
    "alter",
    [
        "ALTER TABLE t ALTER COLUMN v TYPE numeric(12,4) USING v",
        "ALTER TABLE t ALTER COLUMN v TYPE bigint",
        "ALTER TABLE t ALTER COLUMN v TYPE double precision",
        "ALTER TABLE t ALTER COLUMN v TYPE text",
    ],
)
async def test_a_type_that_changes_while_the_source_is_read_is_refused_or_respected(
    postgres: AsyncEngine, alter: str, on_invalid: Any
) -> None:
    """The change comes after the plan and before the first row: what is stored is what was given, or nothing is."""
    await execute(postgres, "CREATE TABLE t (id integer, v integer)")
    started = asyncio.Event()

    async def batches() -> Any:
        yield pa.record_batch({"id": pa.array([], pa.int64()), "v": pa.array([], pa.int64())})
        started.set()
        await asyncio.sleep(0.05)
        yield pa.record_batch({"id": [1, 2], "v": [3, 4]})

    loading = asyncio.create_task(dl.load_batches(batches(), "t", engine=postgres, on_invalid=on_invalid))
    await started.wait()
    altering = asyncio.create_task(execute(postgres, alter))
    outcome = (await asyncio.gather(loading, return_exceptions=True))[0]
    await altering
    stored = [float(one) for (one,) in await fetch(postgres, "SELECT CAST(v AS text) FROM t ORDER BY id")]
    if isinstance(outcome, BaseException):
        assert isinstance(outcome, dl.SchemaMismatch), outcome
        assert stored == []
    else:
        assert stored == [3, 4]


LATE = {
    "type": "ALTER TABLE t ALTER COLUMN v TYPE bigint",
    "size": "ALTER TABLE t ALTER COLUMN n TYPE numeric(6,1)",
    "length": "ALTER TABLE t ALTER COLUMN s TYPE varchar(2)",
    "created again": "DROP TABLE t; CREATE TABLE t (v bigint, n numeric(8,4), s varchar(10))",
}


@pytest.mark.parametrize("statements", LATE.values(), ids=LATE)
@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_a_table_that_is_altered_between_the_plan_and_the_first_row_is_refused(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch, statements: str, method: Any
) -> None:
    await execute(postgres, "CREATE TABLE t (v integer, n numeric(8,4), s varchar(10))")
    decided = pipeline.decide

    async def decided_and_altered(*arguments: Any) -> Any:
        plan = await decided(*arguments)
        await execute(postgres, *statements.split(";"))
        return plan

    monkeypatch.setattr("dataloader.loading.pipeline.decide", decided_and_altered)
    with pytest.raises(dl.SchemaMismatch, match="not as planned"):
        await dl.load_dataframe({"v": [1], "n": [1.25], "s": ["abc"]}, "t", engine=postgres, method=method)
    assert await fetch(postgres, "SELECT * FROM t") == []
