"""Keys that the database compares in its own way: rows are found as its index finds them, and no two are one unseen."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch


class Case(NamedTuple):
    """A table with one row, by whose key `same` and `again` find it, and `other` does not.

    Attributes
    ----------
    needs : str
        What the server must have.
    """

    database: str
    statements: tuple[str, ...]
    old: Any
    same: Any
    again: Any
    other: Any
    needs: str = ""


CITEXT = "CREATE EXTENSION citext"
ANN = ("Ann", "ann", "ANN", "bob")
TEXT = "CREATE TABLE t (k text, v integer)"
IGNORING_CASE = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
CASES = {
    "citext": Case("postgres", (CITEXT, "CREATE TABLE t (k citext PRIMARY KEY, v integer)"), *ANN),
    "citext that no search path finds": Case(
        "postgres",
        ("CREATE SCHEMA far", f"{CITEXT} SCHEMA far", "CREATE TABLE t (k far.citext PRIMARY KEY, v integer)"),
        *ANN,
    ),
    "a domain over citext": Case(
        "postgres",
        (CITEXT, "CREATE DOMAIN email AS citext", "CREATE TABLE t (k email PRIMARY KEY, v integer)"),
        *ANN,
    ),
    "a column whose collation ignores case": Case(
        "postgres", (IGNORING_CASE, "CREATE TABLE t (k text COLLATE ci PRIMARY KEY, v integer)"), *ANN, needs="ICU"
    ),
    "an index whose collation ignores case": Case(
        "postgres", (IGNORING_CASE, TEXT, "CREATE UNIQUE INDEX i ON t (k COLLATE ci)"), *ANN, needs="ICU"
    ),
    "interval": Case(
        "postgres", ("CREATE TABLE t (k interval PRIMARY KEY, v integer)",), "1 day", "24:00:00", "PT24H", "25:00:00"
    ),
    "jsonb": Case(
        "postgres", ("CREATE TABLE t (k jsonb PRIMARY KEY, v integer)",), '{"a": 1}', '{"a":1.0}', '{"a":1.00}', "{}"
    ),
    "inet": Case(
        "postgres",
        ("CREATE TABLE t (k inet PRIMARY KEY, v integer)",),
        "::1",
        "::1/128",
        "0:0:0:0:0:0:0:1",
        "::2",
    ),
    "numeric[]": Case(
        "postgres", ("CREATE TABLE t (k numeric[] PRIMARY KEY, v integer)",), "{1}", "{1.0}", "{1.00}", "{2}"
    ),
    "NULL that equals NULL": Case(
        "postgres",
        ("CREATE TABLE t (k text UNIQUE NULLS NOT DISTINCT, v integer)",),
        None,
        None,
        None,
        "",
        needs="NULLS NOT DISTINCT",
    ),
    "a column without case": Case("sqlite", ("CREATE TABLE t (k text COLLATE NOCASE PRIMARY KEY, v integer)",), *ANN),
    "a table without rowid": Case(
        "sqlite", ("CREATE TABLE t (k text COLLATE NOCASE PRIMARY KEY, v integer) WITHOUT ROWID",), *ANN
    ),
    "a column without blanks at the end": Case(
        "sqlite", ("CREATE TABLE t (k text COLLATE RTRIM PRIMARY KEY, v integer)",), "Ann", "Ann ", "Ann  ", "ann"
    ),
    "an index without case": Case("sqlite", (TEXT, "CREATE UNIQUE INDEX i ON t (k COLLATE NOCASE)"), *ANN),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def reached(request: pytest.FixtureRequest, case: Case) -> AsyncEngine:
    engine: AsyncEngine = request.getfixturevalue(case.database)
    return engine


@pytest.fixture
async def engine(reached: AsyncEngine, case: Case) -> AsyncEngine:
    """With the table and its row."""
    if case.needs == "ICU" and not await fetch(reached, "SELECT 1 FROM pg_collation WHERE collname = 'de-x-icu'"):
        pytest.skip("the server was built without ICU")
    if case.needs and await fetch(reached, "SELECT 1 WHERE current_setting('server_version_num') < '150000'"):
        pytest.skip("needs PostgreSQL 15")
    await execute(reached, *case.statements)
    await dl.load_dataframe(rows_of(case.old), "t", engine=reached)
    return reached


def rows_of(*keys: Any) -> pa.Table | dict[str, list[Any]]:
    values = [*range(1, len(keys) + 1)]
    return {"k": [*keys], "v": [10 * one for one in values]}


async def values_of(engine: AsyncEngine) -> list[int]:
    return [value for (value,) in await fetch(engine, "SELECT v FROM t ORDER BY v")]


async def test_a_row_is_found_as_the_index_finds_it(engine: AsyncEngine, case: Case) -> None:
    options: Any = {"engine": engine, "progress": "none"}
    report = await dl.load_dataframe(rows_of(case.other, case.same), "t", on_conflict="update", **options)
    assert (report.inserted, report.updated, await values_of(engine)) == (1, 1, [10, 20])
    report = await dl.load_dataframe(rows_of(case.again), "t", on_conflict="ignore", **options)
    assert (report.inserted, report.ignored) == (0, 1)
    report = await dl.load_dataframe(rows_of(case.again), "t", on_conflict="ignore", returning=["v"], **options)
    assert report.returned.to_dict("list") == {"v": [20], "inserted": [False]}
    report = await dl.update_rows(rows_of(case.again), "t", **options)
    assert (report.updated, report.missing) == (1, 0)
    report = await dl.sync_table(rows_of(case.again), "t", **options)
    assert (report.inserted, report.unchanged, report.deleted) == (0, 1, 1)
    report = await dl.delete_rows(rows_of(case.other, case.same), "t", **options)
    assert (report.deleted, report.missing) == (1, 1)


@pytest.mark.parametrize("verb", [dl.load_dataframe, dl.update_rows, dl.delete_rows, dl.sync_table])
async def test_rows_of_the_source_that_the_database_takes_for_one_are_an_error_that_names_them(
    engine: AsyncEngine, case: Case, verb: Any
) -> None:
    data = rows_of(case.other, case.same, case.again)
    options: Any = {"on_conflict": "update"} if verb is dl.load_dataframe else {}
    error = (
        pytest.raises(dl.PlanError, match="several rows of the source have the key")
        if verb is dl.sync_table
        else pytest.raises(dl.ValidationError, match=r"row 2, column 'k': .* row 1 has the same key")
    )
    with error:
        await verb(data, "t", engine=engine, progress="none", **options)
    assert await values_of(engine) == [10]


@pytest.mark.parametrize(("how", "after"), [("update", [10, 30]), ("ignore", [10, 20])])
async def test_the_one_counts_that_the_caller_chooses(
    engine: AsyncEngine, case: Case, how: Any, after: list[int]
) -> None:
    data = rows_of(case.other, case.same, case.again)
    await execute(engine, "DELETE FROM t")
    chosen: Any = {"update": "last", "ignore": "first"}[how]
    report = await dl.load_dataframe(data, "t", engine=engine, on_conflict=how, duplicates=chosen, progress="none")
    assert (report.inserted, report.ignored, await values_of(engine)) == (2, 1, after)


async def test_a_choice_against_the_order_of_the_rows_is_refused_where_only_the_database_finds_keys_equal(
    sqlite: AsyncEngine,
) -> None:
    await execute(sqlite, *CASES["a column without case"].statements)
    with pytest.raises(dl.PlanError, match="only the database knows which values of k are equal"):
        await dl.load_dataframe(rows_of(*ANN), "t", engine=sqlite, on_conflict="update", duplicates="first")


async def test_negative_zero_is_the_same_key_as_zero(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (k double precision PRIMARY KEY, v integer)")
    with pytest.raises(dl.ValidationError, match=r"row 1, column 'k': .* row 0 has the same key"):
        await dl.load_dataframe(rows_of(0.0, -0.0), "t", engine=database, on_conflict="update")


MANY = {
    "NULL that equals NULL": "CREATE TABLE t (a integer, k text, v integer, UNIQUE NULLS NOT DISTINCT (a, k))",
    "citext": "CREATE TABLE t (a integer, k citext, v integer, UNIQUE (a, k))",
    "without case": "CREATE TABLE t (a integer, k text COLLATE NOCASE, v integer, UNIQUE (a, k))",
}


@pytest.fixture(params=MANY)
def with_many(request: pytest.FixtureRequest) -> tuple[AsyncEngine, str]:
    return request.getfixturevalue("sqlite" if request.param == "without case" else "postgres"), request.param


async def test_many_such_rows_are_found_at_once(with_many: tuple[AsyncEngine, str]) -> None:
    engine, kind = with_many
    await execute(engine, *([CITEXT] if kind == "citext" else []), MANY[kind])
    many = pa.table({"a": [1] * 30_000, "k": [f"key {number}" for number in range(30_000)], "v": [0] * 30_000})
    async with asyncio.timeout(30):  # two seconds; where each row was looked for among all, a minute
        await dl.load_dataframe(many, "t", engine=engine, progress="none", on_conflict="update")
        report = await dl.sync_table(many.slice(5_000), "t", engine=engine, progress="none")
        assert (report.unchanged, report.deleted) == (25_000, 5_000)
        assert (await dl.update_rows(many, "t", engine=engine, progress="none")).missing == 5_000
        assert (await dl.delete_rows(many, "t", engine=engine, progress="none")).missing == 5_000


async def test_a_primary_key_that_forbids_overlaps_is_refused(postgres: AsyncEngine) -> None:
    if await fetch(postgres, "SELECT 1 WHERE current_setting('server_version_num') < '180000'"):
        pytest.skip("needs PostgreSQL 18")
    await execute(
        postgres,
        "CREATE EXTENSION btree_gist",
        "CREATE TABLE t (id integer, at int4range, v text, PRIMARY KEY (id, at WITHOUT OVERLAPS))",
    )
    with pytest.raises(dl.PlanError, match=r"primary key \(id, at\), but it forbids overlaps"):
        await dl.load_dataframe({"id": [1], "at": ["[1,2)"], "v": ["a"]}, "t", engine=postgres, on_conflict="update")
