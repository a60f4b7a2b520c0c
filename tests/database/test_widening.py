"""Columns that are too narrow for the data: refused with the ALTER TABLE that would do, or given more room."""

from __future__ import annotations

import asyncio
import datetime
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

BIG, HUGE = 1 << 40, (1 << 63) + 1


class Case(NamedTuple):
    before: str
    there: str
    data: Any
    after: str
    rewrites: bool


CASES = {
    "a larger integer": ("integer", "1", [BIG], "bigint", True),
    "one that smallint does not reach": ("smallint", "1", [70_000], "integer", True),
    "beyond bigint": ("bigint", "1", np.array([HUGE], "uint64"), "numeric(20,0)", True),
    "more digits before the point": ("numeric(4,2)", "1.25", [Decimal("12345.5")], "numeric(7,2)", False),
    "more digits after it": ("numeric(4,2)", "1.25", [Decimal("1.125")], "numeric(5,3)", True),
    "a float's digits": ("numeric(4,2)", "1.25", [123.0625], "numeric(7,4)", True),
    "a double": ("real", "0.5", [0.1], "double precision", True),
    "a longer text": ("varchar(3)", "'abc'", ["abcdef"], "text", False),
    "microseconds": (
        "timestamp(0)",
        "'2024-05-17 10:00:00'",
        [pd.Timestamp("2024-05-17 10:00:00.000001")],
        "timestamp without time zone",
        False,
    ),
}
cases = pytest.mark.parametrize("case", [Case(*one) for one in CASES.values()], ids=CASES)
TYPE = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'v'"


async def type_of(engine: AsyncEngine) -> str:
    return str((await fetch(engine, TYPE))[0][0])


@cases
async def test_a_column_gets_the_room_that_the_data_need(postgres: AsyncEngine, case: Case) -> None:
    before, there, data, after, rewrites = case
    await execute(postgres, f"CREATE TABLE t (v {before})", f"INSERT INTO t VALUES ({there})")
    old = await fetch(postgres, "SELECT v::text, relfilenode FROM t, pg_class WHERE oid = 't'::regclass")
    plan = await dl.plan_load({"v": data}, "t", engine=postgres, evolve=("add", "widen"))
    statement = f'ALTER TABLE public."t" ALTER COLUMN "v" TYPE {after}'.replace("public", '"public"')
    assert statement in plan.statements
    told = "all its rows and indexes are written anew for v" if rewrites else "no row is written anew"
    assert f"until the load is committed; {told}" in str(plan)
    assert await type_of(postgres) != after
    report = await dl.load_dataframe({"v": data}, "t", engine=postgres, evolve="widen")
    assert (report.loaded, await type_of(postgres)) == (1, after)
    new = await fetch(postgres, "SELECT v::text, relfilenode FROM t, pg_class WHERE oid = 't'::regclass LIMIT 1")
    assert (old[0][1] != new[0][1]) is rewrites
    assert await fetch(postgres, f"SELECT count(*) FROM t WHERE v = {there}") == [(1,)]
    again = await dl.plan_load({"v": data}, "t", engine=postgres, evolve="widen")
    assert not any("ALTER" in one for one in again.statements)


@cases
async def test_without_that_the_error_has_the_statement(postgres: AsyncEngine, case: Case) -> None:
    before, there, data, *_ = case
    await execute(postgres, f"CREATE TABLE t (v {before})", f"INSERT INTO t VALUES ({there})")
    with pytest.raises(dl.ValidationError) as caught:
        await dl.load_dataframe({"v": data}, "t", engine=postgres)
    hint = caught.value.hint
    assert "evolve='widen'" in hint
    await execute(postgres, hint[hint.index("ALTER TABLE") :].rstrip("."))
    assert (await dl.load_dataframe({"v": data}, "t", engine=postgres)).loaded == 1


async def test_of_several_values_all_statements_are_named(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v integer, w varchar(2))")
    with pytest.raises(dl.ValidationError) as caught:
        await dl.load_dataframe({"v": [BIG, BIG], "w": ["a", "abc"]}, "t", engine=postgres)
    assert caught.value.hint.count("ALTER TABLE") == 2


async def test_what_fits_changes_no_type(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v integer, w varchar(3), x numeric(4,2))")
    data = {"v": [1, 2], "w": ["a", "b"], "x": [1.5, 2.25]}
    plan = await dl.plan_load(data, "t", engine=postgres, evolve="widen")
    assert not any("TYPE" in one for one in plan.statements)
    assert "meanwhile" not in str(plan)


async def test_what_no_type_takes_is_refused_and_nothing_is_changed(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v integer)")
    with pytest.raises(dl.ValidationError):
        await dl.load_dataframe({"v": [BIG, None, 3.7]}, "t", engine=postgres, evolve="widen")
    assert await type_of(postgres) == "integer"


MIXED: dict[str, tuple[str, list[Any], str, list[Any]]] = {
    "integers and their texts": ("integer", [1, "2", BIG], "bigint", [1, 2, BIG]),
    "fractions and texts": (
        "numeric(4,1)",
        ["1.5", 12345, 1.575],
        "numeric(8,3)",
        [Decimal("1.5"), 12345, Decimal("1.575")],
    ),
    "texts and numbers": ("varchar(3)", ["abc", 12345, 1.5], "text", ["abc", "12345", "1.5"]),
}


@pytest.mark.parametrize(("before", "data", "after", "stored"), MIXED.values(), ids=MIXED)
async def test_values_of_several_kinds_get_the_room_that_each_of_them_needs(
    postgres: AsyncEngine, before: str, data: list[Any], after: str, stored: list[Any]
) -> None:
    await execute(postgres, f"CREATE TABLE t (v {before})")
    report = await dl.load_dataframe({"v": data}, "t", engine=postgres, evolve="widen")
    assert (report.loaded, await type_of(postgres)) == (3, after)
    assert [one for (one,) in await fetch(postgres, "SELECT v FROM t")] == stored


@pytest.mark.parametrize("names", ["v", "vx", "vg"])
async def test_what_no_room_helps_is_refused_as_it_is_without_widening(postgres: AsyncEngine, names: str) -> None:
    """A date in an integer, a column that the table lacks, one that the database computes."""
    await execute(postgres, "CREATE TABLE t (v integer, g integer GENERATED ALWAYS AS (1) STORED)")
    data = {name: [datetime.date(2026, 1, 1)] for name in names}
    told = []
    for options in ({}, {"evolve": "widen"}):
        with pytest.raises((dl.UnsupportedType, dl.SchemaMismatch)) as caught:
            await dl.load_dataframe(data, "t", engine=postgres, **options)  # type: ignore[arg-type]
        told.append(str(caught.value))
    assert told[0] == told[1]


async def test_files_are_looked_through_and_streams_judged_by_their_types(
    postgres: AsyncEngine, tmp_path: Path
) -> None:
    await execute(postgres, "CREATE TABLE t (v integer)")
    (tmp_path / "x.csv").write_text(f"v\n1\n{BIG}\n")
    assert (await dl.load_files(tmp_path / "x.csv", "t", engine=postgres, evolve="widen")).loaded == 2
    await execute(postgres, "DROP TABLE t", "CREATE TABLE t (v integer)")
    batches = (pa.record_batch({"v": [one]}) for one in (1, BIG))
    report = await dl.load_batches(batches, "t", engine=postgres, evolve="widen")
    assert (report.loaded, await type_of(postgres)) == (2, "bigint")


@pytest.mark.parametrize("options", [{}, {"commit": "chunk", "chunk_rows": 1}, {"if_exists": "truncate"}])
async def test_rows_that_are_there_stay_and_a_failed_load_changes_no_type(postgres: AsyncEngine, options: Any) -> None:
    await execute(postgres, "CREATE TABLE t (v integer CHECK (v > 0), w text)", "INSERT INTO t VALUES (7)")
    data = {"v": [BIG, 2], "w": ["a", "b"]}
    await dl.load_dataframe(data, "t", engine=postgres, evolve="widen", **options)
    left = [] if options.get("if_exists") else [7]
    assert sorted(v for (v,) in await fetch(postgres, "SELECT v FROM t")) == sorted([*left, *data["v"]])
    await execute(postgres, "DROP TABLE t", "CREATE TABLE t (v integer CHECK (v > 0))")
    if "commit" not in options:
        with pytest.raises(dl.WriteError):
            await dl.load_dataframe({"v": [BIG, -1]}, "t", engine=postgres, evolve="widen", **options)
        assert await type_of(postgres) == "integer"


async def test_rows_are_merged_into_a_column_with_more_room(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id smallint PRIMARY KEY, v integer)", "INSERT INTO t VALUES (1, 1)")
    data = {"id": [1, 70_000], "v": [BIG, 2]}
    report = await dl.load_dataframe(data, "t", engine=postgres, on_conflict="update", evolve="widen")
    assert (report.updated, report.inserted) == (1, 1)


OBSTACLES = {
    "a view": ("CREATE VIEW w AS SELECT v FROM t", "the view w depends on it"),
    "a materialized view": ("CREATE MATERIALIZED VIEW w AS SELECT v FROM t", "the materialized view w depends on it"),
    "a policy": ("CREATE POLICY p ON t USING (v > 0)", "policy p on table t depends on it"),
    "a trigger": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END' |"
        "CREATE TRIGGER g BEFORE UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "trigger g on table t depends on it",
    ),
    "a generated column": ("ALTER TABLE t ADD COLUMN g bigint GENERATED ALWAYS AS (v * 2) STORED", "depends on it"),
    "inheritance": (
        "DROP TABLE t; CREATE TABLE s (v integer); CREATE TABLE t () INHERITS (s)",
        "it comes from s",
    ),
    "partitions": (
        "DROP TABLE t; CREATE TABLE t (v integer) PARTITION BY RANGE (v);CREATE TABLE t1 PARTITION OF t DEFAULT",
        "rows are in partitions by it in t",
    ),
    "a domain": ("CREATE DOMAIN d AS integer; DROP TABLE t; CREATE TABLE t (v d)", "its type is the domain d"),
    "a type": ("CREATE TYPE y AS (v integer); DROP TABLE t; CREATE TABLE t OF y", "the table is of the type y"),
}


@pytest.mark.parametrize(("statements", "why"), OBSTACLES.values(), ids=OBSTACLES)
async def test_a_type_that_cannot_be_changed_is_refused_with_the_reason(
    postgres: AsyncEngine, statements: str, why: str
) -> None:
    await execute(postgres, "CREATE TABLE t (v integer)", *re.split(r"[;|] *(?=CREATE|DROP)", statements))
    problem = r"^column 'v' of public\.t is integer, the data need bigint, and its type cannot be changed: .*"
    with pytest.raises(dl.PlanError, match=problem + why):
        await dl.plan_load({"v": [BIG]}, "t", engine=postgres, evolve="widen")
    if "domain" not in why:  # which it would drop in silence
        with pytest.raises(sa.exc.DBAPIError, match="cannot alter"):
            await execute(postgres, "ALTER TABLE t ALTER COLUMN v TYPE bigint")
    assert (await dl.load_dataframe({"v": [1]}, "t", engine=postgres, evolve="widen")).loaded == 1


async def test_a_type_that_got_more_room_meanwhile_is_not_narrowed(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v integer)", "INSERT INTO t VALUES (1)")
    async with postgres.connect() as connection:
        await connection.exec_driver_sql("ALTER TABLE t ALTER COLUMN v TYPE numeric(20,5)")
        await connection.exec_driver_sql("INSERT INTO t VALUES (1.5)")
        loading = asyncio.ensure_future(dl.load_dataframe({"v": [BIG]}, "t", engine=postgres, evolve="widen"))
        await asyncio.sleep(0.5)
        await connection.commit()
    with pytest.raises(dl.SchemaMismatch, match="Run the load again"):
        await loading
    assert await fetch(postgres, "SELECT count(*) FROM t WHERE v = 1.5") == [(1,)]
    assert await type_of(postgres) == "numeric(20,5)"


async def test_two_loads_that_widen_the_same_column_both_succeed(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v integer)")
    loads = [dl.load_dataframe({"v": [BIG + n]}, "t", engine=postgres, evolve="widen") for n in range(2)]
    assert [report.loaded for report in await asyncio.gather(*loads)] == [1, 1]


async def test_sqlite_says_that_it_cannot(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE t (v numeric(4,2))")
    assert (await dl.load_dataframe({"v": [1.25]}, "t", engine=sqlite, evolve="widen")).loaded == 1
    with pytest.raises(dl.PlanError, match="its type cannot be changed: only PostgreSQL"):
        await dl.load_dataframe({"v": [12345.5]}, "t", engine=sqlite, evolve="widen")
