"""Loads that read back what they have written, and commit it only if it is what was sent."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.conversion.hashing import row_hashes, text_hashes
from tests.conftest import execute, fetch

DATA = pa.table(
    {
        "id": pa.array([1, 2, 3, 4]),
        "price": pa.array([Decimal("1.10"), None, Decimal("-0.50"), Decimal(7)], pa.decimal128(10, 2)),
        "name": ["", None, "a\nb", "ü"],
        "at": pa.array([dt.datetime(2024, 2, 29, 12, 0, 0, 1, dt.UTC), None, None, None], pa.timestamp("us", "UTC")),
        "ok": [True, False, None, True],
        "ratio": [0.1, None, 1e300, -2.5],
        "day": pa.array([dt.date(2024, 2, 29), None, None, dt.date(1, 1, 1)]),
        "raw": [b"\x00\xff", b"", None, b"x"],
    }
)
CHANGED = {
    "postgresql": (
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.id = 3 THEN NEW.name := ''c''; END IF; RETURN NEW; END'",
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    ),
    "sqlite": ("CREATE TRIGGER odd AFTER INSERT ON t WHEN NEW.id = 3 BEGIN UPDATE t SET name = 'c' WHERE id = 3; END",),
}


@pytest.mark.parametrize("options", [{}, {"if_exists": "replace"}, {"if_exists": "truncate"}, {"chunk_rows": 2}])
async def test_rows_are_read_back_whatever_was_there(database: AsyncEngine, options: dict[str, Any]) -> None:
    first = await dl.load_dataframe(DATA, "t", engine=database, verify=True)
    assert first.verified
    assert "verified" in str(first)
    assert "read back" in first._repr_html_()
    again = await dl.load_dataframe(DATA, "t", engine=database, verify=True, **options)
    assert (again.verified, again.loaded) == (True, 4)


OTHERWISE: dict[str, list[Any]] = {
    "interval": [dt.timedelta(hours=25), dt.timedelta(days=-1, microseconds=1), None],
    "interval day to second": ["1 day 2 hours", "-00:00:01.5", None],
    "inet": ["10.0.0.1/32", "10.0.0.1", "::0001"],
    "macaddr": ["08-00-2B-01-02-03", None, "08:00:2b:01:02:04"],
    "int4range": ["[1,4]", "empty", "(,)"],
    "time with time zone": ["12:00:00+02:00", "12:00+05:30", None],
    "tsvector": ["fat cat", "'cat' 'fat'", ""],
    "point": ["(1,2)", "1.0 , 2", None],
}
"""Texts that the server writes in another way than it reads them."""


@pytest.mark.parametrize("kind", OTHERWISE)
async def test_what_the_server_writes_otherwise_is_what_was_sent(postgres_url: sa.URL, kind: str) -> None:
    engine = create_async_engine(postgres_url, pool_size=1, max_overflow=0, pool_timeout=5)
    await execute(engine, f"CREATE TABLE t (id bigint PRIMARY KEY, v {kind})")
    await execute(engine, f"ALTER DATABASE {postgres_url.database} SET intervalstyle = sql_standard")
    await engine.dispose()  # whose session has the style of before
    data = {"id": [1, 2, 3], "v": OTHERWISE[kind]}
    assert (await dl.load_dataframe(data, "t", engine=engine, verify=True)).verified
    assert (await dl.compare(data, "t", engine=engine)).equal
    changed = {**data, "v": OTHERWISE[kind][::-1]}
    assert (await dl.compare(changed, "t", engine=engine)).different == 2
    await engine.dispose()


async def test_arrays_that_the_server_may_write_otherwise_are_refused(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (spans interval[])")
    with pytest.raises(dl.PlanError, match="may write the elements of column 'spans' in another way"):
        await dl.load_dataframe({"spans": [[dt.timedelta(1)]]}, "t", engine=postgres, verify=True)


async def test_rows_that_a_trigger_changes_are_not_committed(database: AsyncEngine) -> None:
    await dl.load_dataframe(DATA.slice(0, 1), "t", engine=database)
    await execute(database, *CHANGED[database.dialect.name])
    with pytest.raises(dl.WriteError, match=r"the 4 rows of the load in .*t have other values than were written"):
        await dl.load_dataframe(DATA, "t", engine=database, verify=True)
    assert await fetch(database, "SELECT count(*) FROM t") == [(1,)]
    assert not (await dl.load_dataframe(DATA, "t", engine=database)).verified


async def test_rows_that_a_trigger_drops_are_not_committed(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id bigint)",
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.id = 3 THEN RETURN NULL; END IF; RETURN NEW; END'",
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    with pytest.raises(dl.WriteError, match=r"4 rows of the load were written to public\.t, and 3 are there"):
        await dl.load_dataframe(DATA.select(["id"]), "t", engine=postgres, verify=True)
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(0,)]


async def test_a_deferred_trigger_has_fired_by_then(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id bigint)",
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN UPDATE t SET id = -3 WHERE id = 3; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER odd AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    with pytest.raises(dl.WriteError, match="other values"):
        await dl.load_dataframe(DATA.select(["id"]), "t", engine=postgres, verify=True)


async def test_rows_that_others_commit_meanwhile_are_not_taken_for_the_loads(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint)", "INSERT INTO t VALUES (0)")

    async def batches() -> Any:  # the later ones come when the load's transaction has begun to write
        for number in range(1, 7):
            yield pa.record_batch({"id": [number]})
            await asyncio.sleep(0.05)
            await execute(postgres, f"INSERT INTO t VALUES ({-number})")

    report = await dl.load_batches(batches(), "t", engine=postgres, verify=True, chunk_rows=1)
    assert (report.verified, report.loaded) == (True, 6)
    assert await fetch(postgres, "SELECT count(*), sum(id) FROM t") == [(13, 0)]


async def test_rejected_rows_are_not_expected(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (id int CHECK (id <> 3))")
    rows = [{"id": one} for one in (1, "x", 3, 4)]
    report = await dl.load_rows(rows, "t", engine=database, verify=True, on_invalid="reject")
    assert (report.verified, report.loaded, report.rejected) == (True, 2, 2)


async def test_it_is_refused_where_it_would_prove_nothing(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint PRIMARY KEY)", "CREATE VIEW v AS SELECT * FROM t")
    data = DATA.select(["id"])
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("t", "merged", {"on_conflict": "update"}),
        ("t", "chunk by chunk", {"commit": "chunk"}),
        ("t", "chunk by chunk", {"load_id": "a"}),
        ("v", "is a view", {}),
        ("t", "verify=3 is unknown", {"verify": 3}),
    ]
    for table, why, options in refused:
        with pytest.raises(dl.PlanError, match=why):
            await dl.load_dataframe(data, table, engine=postgres, **{"verify": True} | options)
    async with postgres.connect() as connection, connection.begin():
        with pytest.raises(dl.PlanError, match="caller's own transaction"):
            await dl.load_dataframe(data, "t", connection=connection, verify=True)
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(0,)]


async def test_a_copy_is_verified(postgres: AsyncEngine, sqlite: AsyncEngine) -> None:
    await dl.load_dataframe(DATA, "t", engine=postgres)
    assert (await dl.copy_table("t", "t", source=postgres, engine=sqlite, verify=True)).verified
    assert (await dl.copy_table("t", "copy", source=postgres, engine=postgres, verify=True)).verified


def test_a_hash_depends_on_every_byte_its_place_and_its_column() -> None:
    texts = ["", "a", "ab", "ba", "b", "aa", None, "\0", "\0\0", "ü"]
    assert len(set(text_hashes(pa.array(texts)).tolist())) == len(texts)
    assert text_hashes(pa.array(["x", *texts]).slice(1)).tolist() == text_hashes(pa.array(texts)).tolist()
    pairs = [("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), (None, "ab"), ("ab", None)]
    first, second = (pa.array(list(column)) for column in zip(*pairs, strict=True))
    assert len(set(row_hashes([first, second]).tolist())) == len(pairs)
