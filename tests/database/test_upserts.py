"""Rows whose key is in the table: updated where something differs, left as they are, or refused; each is counted."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

TABLE = "CREATE TABLE t (id integer PRIMARY KEY, v text, n numeric)"
DATA = pd.DataFrame({"id": [2, 3, 4], "v": ["b", "changed", "new"], "n": [2, 3, 4]})
OLD = "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)"
ALL = "SELECT id, v FROM t ORDER BY id"
COMMITS = [{"commit": "load"}, {"commit": "chunk", "chunk_rows": 2}]
by_commit = pytest.mark.parametrize("options", COMMITS, ids=["one transaction", "by chunks"])


def counts(report: dl.LoadReport) -> tuple[int, ...]:
    return (report.inserted, report.updated, report.unchanged, report.ignored, report.rejected, report.skipped)


@pytest.fixture
async def table(database: AsyncEngine) -> AsyncEngine:
    await execute(database, TABLE, OLD)
    return database


@by_commit
async def test_an_update_changes_what_differs_and_inserts_what_is_new(table: AsyncEngine, options: Any) -> None:
    report = await dl.load_dataframe(DATA, "t", engine=table, on_conflict="update", **options)
    assert counts(report) == (1, 1, 1, 0, 0, 0)
    assert report.loaded == 2
    assert await fetch(table, ALL) == [(1, "a"), (2, "b"), (3, "changed"), (4, "new")]


@by_commit
async def test_an_ignore_leaves_what_is_there(table: AsyncEngine, options: Any) -> None:
    report = await dl.load_dataframe(DATA, "t", engine=table, on_conflict="ignore", **options)
    assert counts(report) == (1, 0, 0, 2, 0, 0)
    assert await fetch(table, ALL) == [(1, "a"), (2, "b"), (3, "c"), (4, "new")]


async def test_by_default_a_key_that_is_there_is_an_error(table: AsyncEngine) -> None:
    with pytest.raises(dl.WriteError):
        await dl.load_dataframe(DATA, "t", engine=table)
    assert await fetch(table, "SELECT count(*) FROM t") == [(3,)]


async def test_only_the_named_columns_are_updated(table: AsyncEngine) -> None:
    data = DATA.assign(n=[20, 30, 40])
    report = await dl.load_dataframe(data, "t", engine=table, on_conflict="update", update_columns=["n"])
    assert counts(report) == (1, 2, 0, 0, 0, 0)
    found = await fetch(table, "SELECT id, v, CAST(n AS integer) FROM t ORDER BY id")
    assert found == [(1, "a", 1), (2, "b", 20), (3, "c", 30), (4, "new", 40)]


async def test_a_source_without_some_columns_leaves_them(table: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [3], "n": [7]}, "t", engine=table, on_conflict="update")
    assert await fetch(table, "SELECT v, CAST(n AS integer) FROM t WHERE id = 3") == [("c", 7)]


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_what_is_unchanged_is_not_written_again(postgres: AsyncEngine, method: Any) -> None:
    await execute(postgres, TABLE, OLD)
    versions = "SELECT id, CAST(xmin AS text) FROM t ORDER BY id"
    before = dict(await fetch(postgres, versions))
    await dl.load_dataframe(DATA, "t", engine=postgres, on_conflict="update", method=method)
    after = dict(await fetch(postgres, versions))
    assert [key for key in before if before[key] != after[key]] == [3]


LOG = "CREATE TABLE log (what text, id integer)"
TRIGGERS = {
    "postgresql": (
        LOG,
        "CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO log VALUES (TG_OP, NEW.id); RETURN NEW; END$$",
        "CREATE TRIGGER b BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION logs()",
    ),
    "sqlite": (
        LOG,
        "CREATE TRIGGER bi BEFORE INSERT ON t BEGIN INSERT INTO log VALUES ('INSERT', NEW.id); END",
        "CREATE TRIGGER bu BEFORE UPDATE ON t BEGIN INSERT INTO log VALUES ('UPDATE', NEW.id); END",
    ),
}


@pytest.mark.parametrize("how", ["update", "ignore"])
async def test_no_trigger_fires_for_what_stays_as_it_is(table: AsyncEngine, how: Any) -> None:
    await execute(table, *TRIGGERS[table.dialect.name])
    report = await dl.load_dataframe(DATA, "t", engine=table, on_conflict=how)
    assert counts(report) == ((1, 1, 1, 0, 0, 0) if how == "update" else (1, 0, 0, 2, 0, 0))
    fired = {key for _, key in await fetch(table, "SELECT what, id FROM log")}
    assert fired == ({3, 4} if how == "update" else {4})


async def test_rows_that_a_trigger_drops_are_counted_as_skipped(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        TABLE,
        OLD,
        "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.id = 4 THEN RETURN NULL; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER b BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION drops()",
    )
    report = await dl.load_dataframe(DATA, "t", engine=postgres, on_conflict="update")
    assert (report.loaded, report.unchanged, report.skipped) == (1, 1, 1)


SAME = {
    "a numeric's digits": ("numeric", "1.0", Decimal("1.00"), "1.00"),
    "json": ("json", '{"a": 1}', '{"a":1}', '{"a":1}'),
    "jsonb": ("jsonb", '{"a": 1}', '{"a": 2}', '{"a": 2}'),
    "a float's sign of zero": ("float8", "0", -0.0, "-0"),
    "a text's case": ('text COLLATE "und-ci"', "a", "A", "A"),
    "NULL": ("text", None, "a", "a"),
    "a value that goes": ("text", "a", None, None),
}


@pytest.mark.parametrize(("kind", "old", "new", "stored"), SAME.values(), ids=SAME)
async def test_what_an_operator_calls_equal_is_updated_all_the_same(
    postgres: AsyncEngine, kind: str, old: str | None, new: Any, stored: str | None
) -> None:
    if "COLLATE" in kind and not await fetch(postgres, "SELECT 1 FROM pg_collation WHERE collprovider = 'i'"):
        pytest.skip("this build of PostgreSQL has no ICU; the oldest server in CI has")
    ci = "CREATE COLLATION \"und-ci\" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    if "COLLATE" in kind:
        try:
            await execute(postgres, ci)
        except sa.exc.DBAPIError:
            pytest.skip("this build of PostgreSQL has no ICU; the oldest server in CI has")
    given = "NULL" if old is None else f"'{old}'"
    await execute(postgres, f"CREATE TABLE t (id int PRIMARY KEY, v {kind})", f"INSERT INTO t VALUES (1, {given})")
    data = pd.DataFrame({"id": [1], "v": pd.Series([new], dtype=object)})
    for expected in ((0, 1, 0), (0, 0, 1)):
        report = await dl.load_dataframe(data, "t", engine=postgres, on_conflict="update")
        assert (report.inserted, report.updated, report.unchanged) == expected
    assert await fetch(postgres, "SELECT CAST(v AS text) FROM t") == [(stored,)]


async def test_sqlite_updates_what_a_collation_calls_equal(sqlite: AsyncEngine) -> None:
    await execute(
        sqlite, "CREATE TABLE t (id integer PRIMARY KEY, v text COLLATE NOCASE, x)", "INSERT INTO t VALUES (1, 'a', 1)"
    )
    for data, expected in (({"id": [1], "v": ["A"], "x": [1]}, 1), ({"id": [1], "v": ["A"], "x": [1.0]}, 1)):
        report = await dl.load_dataframe(data, "t", engine=sqlite, on_conflict="update")
        assert report.updated == expected
    assert await fetch(sqlite, "SELECT v, typeof(x) FROM t") == [("A", "real")]


DOUBLE = {"id": [7, 8, 7, 7], "v": ["x", "y", "z", "a"], "n": [1, 1, 3, 2]}
CHOICES = {"first": {"duplicates": "first"}, "last": {"duplicates": "last"}, "order_by": {"order_by": "n"}}


@by_commit
@pytest.mark.parametrize(("choice", "counts_for_7"), [("first", "x"), ("last", "a"), ("order_by", "z")])
async def test_of_rows_with_one_key_the_chosen_one_counts(
    table: AsyncEngine, options: Any, choice: str, counts_for_7: str
) -> None:
    report = await dl.load_dataframe(DOUBLE, "t", engine=table, on_conflict="update", **CHOICES[choice], **options)
    assert counts(report) == (2, 0, 0, 2, 0, 0)
    assert await fetch(table, "SELECT v FROM t WHERE id >= 7 ORDER BY id") == [(counts_for_7,), ("y",)]


@by_commit
@pytest.mark.parametrize("how", ["update", "ignore"])
async def test_rows_with_one_key_are_an_error_that_shows_both_before_anything_is_written(
    table: AsyncEngine, options: Any, how: Any
) -> None:
    data = {"id": [9, *range(100, 110), 9], "v": ["x"] * 12}
    with pytest.raises(
        dl.ValidationError, match=r"row 11, column 'id': 9 .*row 0 has the same key.*duplicates='first'"
    ):
        await dl.load_dataframe(data, "t", engine=table, on_conflict=how, **options)
    assert await fetch(table, "SELECT count(*) FROM t") == [(3,)]


async def test_all_keys_that_occur_twice_are_counted(table: AsyncEngine) -> None:
    with pytest.raises(dl.ValidationError, match="3,000 rows have a key that another row has") as raised:
        await dl.load_dataframe({"id": [*range(1000)] * 3}, "t", engine=table, on_conflict="update")
    assert raised.value.counts == {("id", "duplicate"): 2_000}


async def test_rows_of_a_stream_with_one_key_are_an_error_within_a_chunk(table: AsyncEngine) -> None:
    rows = ({"id": key, "v": "x"} for key in (5, 6, 5))
    with pytest.raises(dl.ValidationError, match="row 0 has the same key"):
        await dl.load_rows(rows, "t", engine=table, on_conflict="update")


async def test_of_different_chunks_of_a_stream_the_later_one_counts(table: AsyncEngine) -> None:
    """By one worker, whatever is asked for: the order decides."""
    rows = [{"id": 5, "v": f"{number}"} for number in range(20)]
    report = await dl.load_rows(iter(rows), "t", engine=table, on_conflict="update", chunk_rows=1, workers=4)
    assert (report.inserted, report.updated) == (1, 19)
    assert await fetch(table, "SELECT v FROM t WHERE id = 5") == [("19",)]
    if table.dialect.name == "postgresql":
        assert any("1 worker instead of 4" in warning for warning in report.warnings)


@pytest.mark.parametrize("choice", [{"duplicates": "first"}, {"order_by": "v"}], ids=str)
async def test_a_choice_that_needs_all_rows_is_refused_for_a_stream(table: AsyncEngine, choice: Any) -> None:
    with pytest.raises(dl.PlanError, match=r"needs the whole source in memory.*duplicates='last'"):
        await dl.load_rows(iter([{"id": 1, "v": "x"}]), "t", engine=table, on_conflict="update", **choice)


async def test_a_key_with_null_equals_none(database: AsyncEngine) -> None:
    await execute(
        database, "CREATE TABLE t (a integer, b integer, v text, UNIQUE (a, b))", "INSERT INTO t VALUES (1, NULL, 'x')"
    )
    data = {"a": [1, 1, 1], "b": pa.array([None, None, 2]), "v": ["p", "q", "r"]}
    report = await dl.load_dataframe(data, "t", engine=database, on_conflict="update")
    assert counts(report) == (3, 0, 0, 0, 0, 0)


async def test_a_table_that_is_created_gets_the_key(database: AsyncEngine) -> None:
    for expected in ((3, 0, 0, 0, 0, 0), (0, 0, 3, 0, 0, 0)):
        report = await dl.load_dataframe(DATA, "t", engine=database, on_conflict="update", key="id")
        assert counts(report) == expected
    with pytest.raises(dl.WriteError):
        await dl.load_dataframe(DATA, "t", engine=database)


async def test_a_definition_brings_its_key(database: AsyncEngine) -> None:
    definition = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.Text))
    for expected in (2, 0):
        report = await dl.load_dataframe(
            {"id": [1, 2], "v": ["a", "b"]}, definition, engine=database, on_conflict="update"
        )
        assert report.inserted == expected


KEYLESS = {
    "no key": (
        "CREATE TABLE t (id integer, v text)",
        None,
        r"needs a key.*no unique key.*CREATE UNIQUE INDEX|primary key",
    ),
    "two keys": ("CREATE TABLE t (id integer UNIQUE, v text UNIQUE)", None, r"has several: .*\(id\).*\(v\).*key="),
    "another one": (TABLE, ["v"], r"no unique key of \(v\).*primary key \(id\)"),
    "a partial one": (
        "CREATE TABLE t (id integer, v text); CREATE UNIQUE INDEX part ON t (id) WHERE v IS NOT NULL",
        ["id"],
        "'part' .*it is a partial index",
    ),
    "an expression": (
        "CREATE TABLE t (id integer, v text); CREATE UNIQUE INDEX lowers ON t (lower(v))",
        None,
        "lowers.*index of expressions",
    ),
}


@pytest.mark.parametrize(("ddl", "key", "message"), KEYLESS.values(), ids=KEYLESS)
async def test_a_table_without_a_usable_key_is_refused_with_what_it_has(
    database: AsyncEngine, ddl: str, key: Any, message: str
) -> None:
    await execute(database, *ddl.split("; "))
    with pytest.raises(dl.PlanError, match=message):
        await dl.load_dataframe({"id": [1], "v": ["a"]}, "t", engine=database, on_conflict="update", key=key)


REFUSED = {
    "deferrable": ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text)", "it is deferrable"),
    "a view": ("CREATE TABLE b (id int PRIMARY KEY, v text); CREATE VIEW t AS SELECT * FROM b", "it is a view"),
    "rules": (
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE RULE r AS ON UPDATE TO t DO ALSO SELECT 1",
        "has rules",
    ),
    "an exclusion": ("CREATE TABLE t (id int, v text, EXCLUDE USING btree (id WITH =))", "no unique key"),
}


@pytest.mark.parametrize(("ddl", "message"), REFUSED.values(), ids=REFUSED)
async def test_what_postgresql_cannot_merge_is_refused_with_the_reason(
    postgres: AsyncEngine, ddl: str, message: str
) -> None:
    await execute(postgres, *ddl.split("; "))
    with pytest.raises(dl.PlanError, match=message):
        await dl.load_dataframe({"id": [1], "v": ["a"]}, "t", engine=postgres, on_conflict="update")


async def test_a_partitioned_table_counts_as_any_other(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (3)",
        "CREATE TABLE t2 PARTITION OF t DEFAULT",
        OLD,
    )
    assert counts(await dl.load_dataframe(DATA, "t", engine=postgres, on_conflict="update")) == (1, 1, 1, 0, 0, 0)
    assert await fetch(postgres, ALL) == [(1, "a"), (2, "b"), (3, "changed"), (4, "new")]


async def test_through_another_driver_the_same_comes_out(postgres: AsyncEngine) -> None:
    await execute(postgres, TABLE, OLD)
    engine = dl.connect(postgres.url.set(drivername="postgresql+psycopg"))
    assert counts(await dl.load_dataframe(DATA, "t", engine=engine, on_conflict="update")) == (1, 1, 1, 0, 0, 0)
    await engine.dispose()


async def test_names_of_any_kind_are_merged(database: AsyncEngine) -> None:
    name = 'we"ird % ? :x'
    data = pd.DataFrame({name: [1, 2], "select": ["a", "b"]})
    for expected in ((2, 0), (0, 2)):
        report = await dl.load_dataframe(data, '"a.b"', engine=database, on_conflict="update", key=name)
        assert (report.inserted, report.updated) == expected
        data["select"] = ["c", "d"]


async def test_what_another_constraint_refuses_is_rejected(table: AsyncEngine) -> None:
    await execute(table, "CREATE UNIQUE INDEX vs ON t (v)")
    data = {"id": [3, 5, 6], "v": ["z", "a", "y"]}
    report = await dl.load_dataframe(data, "t", engine=table, on_conflict="update", key="id", on_invalid="reject")
    assert counts(report) == (1, 1, 0, 0, 1, 0)
    assert report.rejects["id"].tolist() == [5]


async def test_the_refused_row_is_named(table: AsyncEngine) -> None:
    await execute(table, "CREATE UNIQUE INDEX vs ON t (v)")
    with pytest.raises(dl.WriteError, match="row 1"):
        await dl.load_dataframe(
            {"id": [3, 5, 6], "v": ["z", "a", "y"]}, "t", engine=table, on_conflict="update", key="id"
        )
    assert await fetch(table, ALL) == [(1, "a"), (2, "b"), (3, "c")]


async def test_validate_finds_rows_with_one_key_and_none_that_is_in_the_table(table: AsyncEngine) -> None:
    report = await dl.validate({"id": [1, 2, 2]}, "t", engine=table, on_conflict="update")
    assert [(one.row, one.reason) for one in report.violations] == [(2, "duplicate")]


async def test_the_plan_says_what_is_done_with_a_key_that_is_there(table: AsyncEngine) -> None:
    plan = str(await dl.plan_load(DATA, "t", engine=table, on_conflict="update"))
    assert "a row whose id is in the table: updated in v, n, where something differs" in plan
    assert "rows of the source with one id: an error" in plan


WRONG = {
    "key": ({"key": "id"}, "key= requires on_conflict="),
    "duplicates": ({"duplicates": "last"}, "duplicates= requires on_conflict="),
    "update_columns": (
        {"on_conflict": "ignore", "update_columns": ["v"]},
        "update_columns= requires on_conflict='update'",
    ),
    "an unknown column": ({"on_conflict": "update", "update_columns": ["w"]}, "update_columns names 'w'"),
    "the key": ({"on_conflict": "update", "update_columns": ["id"]}, "part of the key"),
    "an empty key": ({"on_conflict": "update", "key": []}, "key must name columns"),
    "an unknown way": ({"on_conflict": "replace"}, "on_conflict='replace' is unknown"),
    "an unknown order": ({"on_conflict": "update", "order_by": "w"}, "order_by names 'w'"),
    "two choices": ({"on_conflict": "update", "order_by": "v", "duplicates": "last"}, "both say which"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
async def test_options_that_do_not_go_together_are_refused(table: AsyncEngine, options: Any, message: str) -> None:
    with pytest.raises(dl.PlanError, match=message):
        await dl.load_dataframe(DATA, "t", engine=table, **options)
