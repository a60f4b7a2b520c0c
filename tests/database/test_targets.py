"""Targets that are more than a plain table: partitions, foreign tables, views, rules, triggers, and their duties."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from dataloader.loading import pipeline
from tests.conftest import execute, fetch

ROWS, CHUNK_ROWS = 40, 10


@contextlib.asynccontextmanager
async def engine_of(url: sa.URL) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def linked(postgres: AsyncEngine, server: embedded.Server) -> AsyncEngine:
    """A database with a foreign server `here`, which is itself."""
    itself = f"host '{server.sockets}', dbname '{postgres.url.database}'"
    await execute(
        postgres,
        "CREATE EXTENSION postgres_fdw",
        f"CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({itself})",
        "CREATE USER MAPPING FOR postgres SERVER here OPTIONS (user 'postgres')",
    )
    return postgres


def batches(end: int, breaks: bool = False) -> Iterator[pa.RecordBatch]:
    for first in range(0, end, CHUNK_ROWS):
        yield pa.record_batch({"id": range(first, first + CHUNK_ROWS)})
    if breaks:
        raise RuntimeError("the source breaks")


FOREIGN = "FOREIGN TABLE {} SERVER here OPTIONS (table_name 'remote')"
"""What goes between CREATE and the end; {} is the name with its columns or its bounds."""
WATCHED_BY_NOBODY = {
    "an unlogged partition": (
        "CREATE TABLE t (id bigint) PARTITION BY RANGE (id)",
        "CREATE UNLOGGED TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (20)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (20) TO (40)",
    ),
    "an unlogged partition of a partition": (
        "CREATE TABLE t (id bigint) PARTITION BY RANGE (id)",
        "CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (40) PARTITION BY RANGE (id)",
        "CREATE UNLOGGED TABLE t00 PARTITION OF t0 FOR VALUES FROM (0) TO (40)",
    ),
    "a foreign partition": (
        "CREATE TABLE remote (id bigint)",
        "CREATE TABLE t (id bigint) PARTITION BY RANGE (id)",
        f"CREATE {FOREIGN.format('t0 PARTITION OF t FOR VALUES FROM (0) TO (20)')}",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (20) TO (40)",
    ),
    "a foreign table": ("CREATE TABLE remote (id bigint)", f"CREATE {FOREIGN.format('t (id bigint)')}"),
    "a view": ("CREATE TABLE base (id bigint)", "CREATE VIEW t AS SELECT * FROM base"),
    "a view on a view": (
        "CREATE UNLOGGED TABLE base (id bigint)",
        "CREATE VIEW upper AS SELECT * FROM base",
        "CREATE VIEW t AS SELECT * FROM upper",
    ),
    "a view with a trigger": (
        "CREATE TABLE base (id bigint)",
        "CREATE VIEW t AS SELECT max(id) AS id FROM base GROUP BY id",
        "CREATE FUNCTION store() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO base VALUES (NEW.id); RETURN NEW; END'",
        "CREATE TRIGGER store INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION store()",
    ),
    "a table whose rule stores elsewhere": (
        "CREATE TABLE base (id bigint)",
        "CREATE TABLE t (id bigint)",
        "CREATE RULE moved AS ON INSERT TO t DO INSTEAD INSERT INTO base VALUES (NEW.id)",
    ),
    "a parent whose trigger stores in an unlogged child": (
        "CREATE TABLE t (id bigint)",
        "CREATE UNLOGGED TABLE child () INHERITS (t)",
        "CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO child VALUES (NEW.id); RETURN NULL; END'",
        "CREATE TRIGGER route BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION route()",
    ),
}


@pytest.mark.parametrize("statements", WATCHED_BY_NOBODY.values(), ids=WATCHED_BY_NOBODY)
async def test_where_rows_could_vanish_unnoticed_the_load_is_one_transaction(
    linked: AsyncEngine, statements: tuple[str, ...]
) -> None:
    await execute(linked, *statements)
    reader = pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), batches(ROWS))
    plan = await dl.plan_load(reader, "t", engine=linked)
    assert (plan.rows, plan.commit) == (None, "load"), plan
    for asked in ({"resume": True}, {"load_id": "mine"}, {"commit": "chunk"}):
        with pytest.raises(dl.PlanError, match="cannot be committed chunk by chunk"):
            await dl.load_batches(batches(ROWS), "t", engine=linked, **asked)
    with pytest.raises(RuntimeError):
        await dl.load_batches(batches(20, breaks=True), "t", engine=linked, chunk_rows=CHUNK_ROWS)
    assert await everything(linked) == []
    report = await dl.load_batches(batches(ROWS), "t", engine=linked, chunk_rows=CHUNK_ROWS)
    assert (report.read, report.load_id) == (ROWS, None)
    assert await everything(linked) == list(range(ROWS))


async def everything(database: AsyncEngine) -> list[int]:
    """The ids in the target, or where its rule puts them."""
    behind = "SELECT id FROM base" if await is_there(database, "base") else "SELECT id FROM t"
    return sorted(number for (number,) in await fetch(database, behind))


async def is_there(database: AsyncEngine, table: str) -> bool:
    return await fetch(database, f"SELECT to_regclass('{table}') IS NOT NULL") == [(True,)]


async def test_a_view_of_sqlite_is_loaded_in_one_transaction(sqlite: AsyncEngine) -> None:
    await execute(
        sqlite,
        "CREATE TABLE base (id integer)",
        "CREATE VIEW t AS SELECT id FROM base",
        "CREATE TRIGGER store INSTEAD OF INSERT ON t BEGIN INSERT INTO base VALUES (NEW.id); END",
    )
    with pytest.raises(dl.PlanError, match=r"cannot be committed chunk by chunk: .* is a view"):
        await dl.load_batches(batches(ROWS), "t", engine=sqlite, load_id="mine")
    with pytest.raises(RuntimeError):
        await dl.load_batches(batches(20, breaks=True), "t", engine=sqlite, chunk_rows=CHUNK_ROWS)
    assert await fetch(sqlite, "SELECT * FROM base") == []


async def test_a_ledger_that_a_crash_would_empty_holds_no_checkpoint(postgres: AsyncEngine) -> None:
    await dl.load_batches(batches(ROWS), "t", engine=postgres, load_id="mine")
    await execute(postgres, "ALTER TABLE dataloader_chunks SET UNLOGGED")
    with pytest.raises(dl.PlanError, match="dataloader_chunks is UNLOGGED"):
        await dl.load_batches(batches(ROWS), "t", engine=postgres, load_id="mine", resume=True)
    report = await dl.load_batches(batches(ROWS), "t", engine=postgres)
    assert report.load_id is None


async def test_a_view_of_sqlite_that_takes_no_rows_names_a_way_out(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE base (id integer)", "CREATE VIEW t AS SELECT id FROM base")
    with pytest.raises(dl.WriteError, match="INSTEAD OF INSERT trigger"):
        await dl.load_dataframe({"id": [1]}, "t", engine=sqlite)


ROUTED = (
    "CREATE TABLE t (id bigint)",
    "CREATE TABLE child () INHERITS (t)",
    "CREATE TABLE grandchild () INHERITS (child)",
    "CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN INSERT INTO grandchild VALUES (NEW.id); RETURN NULL; END'",
    "CREATE TRIGGER route BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION route()",
)
PARTITIONED = (
    "CREATE TABLE t (id bigint) PARTITION BY RANGE (id)",
    "CREATE TABLE child PARTITION OF t FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id)",
    "CREATE TABLE grandchild PARTITION OF child FOR VALUES FROM (0) TO (100)",
)


@pytest.mark.parametrize("statements", [ROUTED, PARTITIONED], ids=["by a trigger", "partitions"])
async def test_a_part_that_was_truncated_between_two_runs_is_noticed(
    postgres: AsyncEngine, statements: tuple[str, ...]
) -> None:
    await execute(postgres, *statements)
    with pytest.raises(RuntimeError):
        await dl.load_batches(batches(20, breaks=True), "t", engine=postgres, load_id="mine", chunk_rows=CHUNK_ROWS)
    await execute(postgres, "TRUNCATE grandchild")
    with pytest.raises(dl.CheckpointError, match="was truncated"):
        await dl.load_batches(batches(ROWS), "t", engine=postgres, load_id="mine", resume=True, chunk_rows=CHUNK_ROWS)


async def test_a_child_that_no_row_can_reach_may_be_truncated_between_two_runs(postgres: AsyncEngine) -> None:
    await execute(postgres, *ROUTED[:2])
    with pytest.raises(RuntimeError):
        await dl.load_batches(batches(20, breaks=True), "t", engine=postgres, load_id="mine", chunk_rows=CHUNK_ROWS)
    await execute(postgres, "TRUNCATE child")
    await dl.load_batches(batches(ROWS), "t", engine=postgres, load_id="mine", resume=True, chunk_rows=CHUNK_ROWS)
    assert await everything(postgres) == list(range(ROWS))


NEW_PARTS = {
    "unlogged": "CREATE UNLOGGED TABLE t1 PARTITION OF t FOR VALUES FROM (20) TO (40)",
    "foreign": f"CREATE {FOREIGN.format('t1 PARTITION OF t FOR VALUES FROM (20) TO (40)')}",
}


@pytest.mark.parametrize("statement", NEW_PARTS.values(), ids=NEW_PARTS)
async def test_a_part_that_comes_during_a_load_and_cannot_be_watched_ends_it(
    linked: AsyncEngine, statement: str
) -> None:
    await execute(
        linked,
        "CREATE TABLE remote (id bigint)",
        "CREATE TABLE t (id bigint) PARTITION BY RANGE (id)",
        "CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (20)",
    )

    async def source() -> AsyncIterator[pa.RecordBatch]:
        for batch in batches(20):
            yield batch
        await execute(linked, statement)
        yield pa.record_batch({"id": range(20, 30)})

    with pytest.raises(dl.CheckpointError, match=r"(?i)unlogged|foreign"):
        await dl.load_batches(source(), "t", engine=linked, commit="chunk", chunk_rows=CHUNK_ROWS, workers=1)
    assert await fetch(linked, "SELECT count(*) FROM t1") == [(0,)]


@pytest.mark.parametrize("method", ["auto", "insert"])
async def test_a_foreign_table_is_loaded_truncated_and_refuses_by_row(linked: AsyncEngine, method: Any) -> None:
    await execute(
        linked, "CREATE TABLE remote (id bigint CHECK (id < 100))", f"CREATE {FOREIGN.format('t (id bigint)')}"
    )
    for if_exists in ("append", "truncate", "append"):
        await dl.load_dataframe({"id": [1, 2]}, "t", engine=linked, method=method, if_exists=if_exists)
    report = await dl.load_dataframe({"id": [3, 100]}, "t", engine=linked, method=method, on_invalid="reject")
    assert (report.loaded, report.rejects["id"].to_list()) == (1, [100])
    assert await fetch(linked, "SELECT id FROM remote ORDER BY id") == [(1,), (1,), (2,), (2,), (3,)]


NOT_WRITABLE = {
    "materialized view": "CREATE MATERIALIZED VIEW t AS SELECT 1 AS id",
    "view": "CREATE VIEW t AS SELECT count(*) AS id FROM pg_class",
    "foreign table": "CREATE FOREIGN TABLE t (id bigint) SERVER files OPTIONS (filename '/dev/null')",
}


@pytest.mark.parametrize("kind", NOT_WRITABLE)
async def test_what_takes_no_rows_is_refused_by_the_plan(postgres: AsyncEngine, kind: str) -> None:
    await execute(
        postgres, "CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw", NOT_WRITABLE[kind]
    )
    with pytest.raises(dl.PlanError, match=f"rows cannot be inserted into public.t: it is a {kind}"):
        await dl.plan_load({"id": [1]}, "t", engine=postgres)


@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
@pytest.mark.parametrize("kind", ["materialized view", "view"])
async def test_what_is_no_table_is_neither_truncated_nor_replaced(
    postgres: AsyncEngine, kind: str, if_exists: Any
) -> None:
    await execute(postgres, f"CREATE {kind} t AS SELECT 1 AS id")
    with pytest.raises(dl.PlanError, match=f"public.t is a {kind}, not a table"):
        await dl.plan_load({"id": [1]}, "t", engine=postgres, if_exists=if_exists)


async def test_truncate_keeps_the_rows_of_inheriting_tables(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id bigint)",
        "CREATE TABLE child () INHERITS (t)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO child VALUES (2)",
    )
    await dl.load_dataframe({"id": [3]}, "t", engine=postgres, if_exists="truncate")
    assert await fetch(postgres, "SELECT id FROM t ORDER BY id") == [(2,), (3,)]


async def test_truncate_empties_all_partitions_or_the_one_that_is_named(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        *PARTITIONED,
        "CREATE TABLE other PARTITION OF t FOR VALUES FROM (100) TO (200)",
        "INSERT INTO t VALUES (1), (101)",
    )
    await dl.load_dataframe({"id": [2]}, "grandchild", engine=postgres, if_exists="truncate")
    assert await fetch(postgres, "SELECT id FROM t ORDER BY id") == [(2,), (101,)]
    await dl.load_dataframe({"id": [3]}, "t", engine=postgres, if_exists="truncate")
    assert await fetch(postgres, "SELECT id FROM t") == [(3,)]


@pytest.mark.parametrize("part", ["child", "grandchild", "heir"])
async def test_a_part_of_another_table_is_not_made_anew(postgres: AsyncEngine, part: str) -> None:
    await execute(
        postgres,
        *PARTITIONED,
        "CREATE TABLE p (id bigint)",
        "CREATE TABLE heir () INHERITS (p)",
        "INSERT INTO t VALUES (1)",
    )
    parent = {"child": "t", "grandchild": "child", "heir": "p"}[part]
    with pytest.raises(dl.PlanError, match=f"public.{part} .*part of public.{parent}.*if_exists='truncate'"):
        await dl.load_dataframe({"other": [2]}, part, engine=postgres, if_exists="replace")
    assert await fetch(postgres, "SELECT id FROM t") == [(1,)]


@pytest.mark.parametrize("if_exists", ["truncate", "replace"])
async def test_a_table_that_others_refer_to_names_a_way_out_that_works(postgres: AsyncEngine, if_exists: Any) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id bigint PRIMARY KEY, upper bigint REFERENCES t)",
        "CREATE TABLE line (t bigint REFERENCES t)",
        "INSERT INTO t VALUES (1)",
    )
    with pytest.raises(dl.PlanError, match=r"public.line refers to it.*DELETE FROM.*if_exists='append'"):
        await dl.load_dataframe({"id": [2]}, "t", engine=postgres, if_exists=if_exists)
    await execute(postgres, "DELETE FROM t")
    await dl.load_dataframe({"id": [2]}, "t", engine=postgres, if_exists="append")
    assert await fetch(postgres, "SELECT id FROM t") == [(2,)]


async def test_a_table_that_refers_to_itself_is_truncated_and_replaced(postgres: AsyncEngine) -> None:
    await execute(
        postgres, "CREATE TABLE t (id bigint PRIMARY KEY, upper bigint REFERENCES t)", "INSERT INTO t VALUES (1)"
    )
    for if_exists in ("truncate", "replace"):
        await dl.load_dataframe({"id": [2]}, "t", engine=postgres, if_exists=if_exists)
    assert await fetch(postgres, "SELECT id FROM t") == [(2,)]


DUTIES = (
    "CREATE TABLE other (id bigint PRIMARY KEY)",
    "CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, code text NOT NULL DEFAULT 'x' UNIQUE, "
    "other bigint REFERENCES other, twice bigint GENERATED ALWAYS AS (id * 2) STORED, CHECK (id > 0)) "
    "WITH (fillfactor = 50)",
    "CREATE INDEX by_other ON t (other)",
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER watch BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
    "CREATE RULE kept AS ON DELETE TO t DO INSTEAD NOTHING",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY small ON t USING (id < 10)",
    "GRANT SELECT ON t TO clerk",
    "GRANT UPDATE (code) ON t TO PUBLIC",
    "COMMENT ON TABLE t IS 'what it is'",
    "COMMENT ON COLUMN t.code IS 'what that is'",
    "CREATE PUBLICATION shown FOR TABLE t",
    "CREATE STATISTICS both_of (dependencies) ON id, other FROM t",
    "ALTER TABLE t OWNER TO clerk",
)
LOST = (
    "primary key t_pkey",
    "not null of code, id",
    "default of code",
    "identity of id",
    "generated column twice",
    "unique t_code_key",
    "foreign key t_other_fkey",
    "check t_id_check",
    "index by_other",
    "trigger watch",
    "rule kept",
    "row-level security",
    "policy small",
    "grants to PUBLIC",
    "comments on code, the table",
    "owner clerk",
    "publication shown",
    "statistics both_of",
    "settings fillfactor=50",
    "columns other, twice",
)


async def test_what_a_replace_loses_is_in_the_plan_and_in_the_report(postgres: AsyncEngine) -> None:
    await execute(postgres, "DROP ROLE IF EXISTS clerk", "CREATE ROLE clerk", *DUTIES)
    data = {"id": [1], "code": ["a"]}
    plan = await dl.plan_load(data, "t", engine=postgres, if_exists="replace")
    report = await dl.load_dataframe(data, "t", engine=postgres, if_exists="replace")
    await execute(postgres, "DROP OWNED BY clerk", "DROP ROLE clerk", "DROP PUBLICATION IF EXISTS shown")
    (notice,) = report.warnings
    assert [lost for lost in LOST if lost not in notice] == []
    assert notice in str(plan)
    assert notice in str(report)
    again = await dl.load_dataframe(data, "t", engine=postgres, if_exists="replace")
    assert again.warnings == ()


async def test_a_partitioned_table_that_is_made_anew_loses_its_partitions(postgres: AsyncEngine) -> None:
    names = [f"part{number}" for number in range(7)]
    await execute(
        postgres,
        "CREATE TABLE t (id bigint) PARTITION BY LIST (id)",
        *(f"CREATE TABLE {name} PARTITION OF t FOR VALUES IN ({number})" for number, name in enumerate(names)),
    )
    report = await dl.load_dataframe({"id": [9], "new": [9]}, "t", engine=postgres, if_exists="replace")
    lost = "replacing public.t loses its partitions part0, part1, part2, part3, part4 and 2 more"
    assert report.warnings == (f"{lost} (it is made anew, because the table has no 'new')",)


async def test_what_a_given_table_defines_is_not_lost_by_a_replace(database: AsyncEngine) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("code", sa.Text))
    async with database.begin() as connection:
        await connection.run_sync(table.create)
    options: Any = {"if_exists": "replace", "sync_sequence": True}
    report = await dl.load_dataframe({"id": [1], "code": ["a"]}, table, engine=database, **options)
    assert report.warnings == ()


async def test_what_a_replace_loses_on_sqlite_is_said(sqlite: AsyncEngine) -> None:
    await execute(
        sqlite,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT NOT NULL DEFAULT 'x' UNIQUE, other REFERENCES other (id))",
        "CREATE INDEX by_other ON t (other)",
        "CREATE TRIGGER watch AFTER INSERT ON t BEGIN SELECT 1; END",
    )
    report = await dl.load_dataframe({"id": [1], "code": ["a"]}, "t", engine=sqlite, if_exists="replace")
    (notice,) = report.warnings
    lost = (
        "primary key id", "not null of code", "default of code", "unique code", "foreign key other", "index by_other",
        "trigger watch", "columns other",
    )  # fmt: skip
    assert [one for one in lost if one not in notice] == []
    again = await dl.load_dataframe({"id": [1], "code": ["a"]}, "t", engine=sqlite, if_exists="replace")
    assert again.warnings == ()


@pytest.mark.parametrize("what", ["ALSO", "INSTEAD"])
async def test_insert_rules_are_applied_and_copy_is_refused(postgres: AsyncEngine, what: str) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id bigint)",
        "CREATE TABLE other (id bigint)",
        f"CREATE RULE r AS ON INSERT TO t DO {what} INSERT INTO other VALUES (NEW.id)",
    )
    report = await dl.load_dataframe({"id": [1, 2]}, "t", engine=postgres)
    assert (report.method, report.loaded) == ("insert", 2)
    assert "INSERT rule" in report.reason
    assert await fetch(postgres, "SELECT count(*) FROM other") == [(2,)]
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(2 if what == "ALSO" else 0,)]
    with pytest.raises(dl.PlanError, match=r"COPY cannot write to public\.t: it has an INSERT rule"):
        await dl.load_dataframe({"id": [3]}, "t", engine=postgres, method="copy")


@pytest.mark.parametrize("statement", ["CREATE RULE r AS ON UPDATE TO t DO NOTHING", "ALTER TABLE t DISABLE RULE i"])
async def test_rules_that_no_insert_meets_are_no_obstacle_to_copy(postgres: AsyncEngine, statement: str) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint)", "CREATE RULE i AS ON INSERT TO t DO ALSO NOTHING")
    await execute(postgres, "ALTER TABLE t DISABLE RULE i", statement)
    assert (await dl.load_dataframe({"id": [1]}, "t", engine=postgres)).method == "copy"


async def test_a_rule_that_comes_between_the_plan_and_the_first_row_is_noticed(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(postgres, "CREATE TABLE t (id bigint)")
    decided = pipeline.decide

    async def decided_and_altered(*arguments: Any) -> Any:
        plan = await decided(*arguments)
        await execute(postgres, "CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING")
        return plan

    monkeypatch.setattr("dataloader.loading.pipeline.decide", decided_and_altered)
    with pytest.raises(dl.SchemaMismatch, match="INSERT rule"):
        await dl.load_dataframe({"id": [1]}, "t", engine=postgres)
    assert await fetch(postgres, "SELECT * FROM t") == []


UNREADABLE = {
    "isbn": "isbn",
    "aclitem": "aclitem",
    "generated": "isbn GENERATED ALWAYS AS (CAST('0-393-04002-X' AS isbn)) STORED",
}


@pytest.mark.parametrize("kind", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_column_of_a_type_without_a_binary_form_is_no_obstacle_though_it_is_not_loaded(
    postgres: AsyncEngine, kind: str
) -> None:
    """PostgreSQL asks every column of a table for the function that reads its binary form, loaded or not."""
    await execute(postgres, "CREATE EXTENSION isn", f"CREATE TABLE t (id bigint, day date, other {kind})")
    report = await dl.load_dataframe({"id": [1], "day": ["2024-02-29"]}, "t", engine=postgres)
    assert (report.method, report.loaded) == ("copy", 1)
    assert "as text" in report.reason
    assert "other" in report.reason
    assert await fetch(postgres, "SELECT id, CAST(day AS text) FROM t") == [(1, "2024-02-29")]


@pytest.mark.parametrize("kind", ["isbn[]", "book"])
async def test_a_type_that_is_made_of_such_leaves_copy_binary_where_it_is_not_loaded(
    postgres: AsyncEngine, kind: str
) -> None:
    await execute(
        postgres,
        "CREATE EXTENSION isn",
        "CREATE DOMAIN book AS isbn",
        f"CREATE TABLE t (id bigint, other {kind}, gone isbn)",
    )
    await execute(postgres, "ALTER TABLE t DROP COLUMN gone")
    report = await dl.load_dataframe({"id": [1]}, "t", engine=postgres)
    assert report.reason.endswith("by binary COPY")


ODD = (
    "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END'"
)
STORE_ODD = (
    "CREATE FUNCTION store() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; INSERT INTO base VALUES (NEW.id); RETURN NEW; END'"
)
DROPPING = {
    "a trigger": (
        "CREATE TABLE t (id bigint)",
        ODD,
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    ),
    "a trigger of a partition": (
        "CREATE TABLE t (id bigint) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF t DEFAULT",
        ODD,
        "CREATE TRIGGER odd BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION odd()",
    ),
    "a trigger behind a view": (
        "CREATE TABLE base (id bigint)",
        "CREATE VIEW t AS SELECT * FROM base",
        ODD,
        "CREATE TRIGGER odd BEFORE INSERT ON base FOR EACH ROW EXECUTE FUNCTION odd()",
    ),
    "a trigger of a view": (
        "CREATE TABLE base (id bigint)",
        "CREATE VIEW t AS SELECT * FROM base",
        STORE_ODD,
        "CREATE TRIGGER store INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION store()",
    ),
    "a rule": (
        "CREATE TABLE t (id bigint)",
        "CREATE RULE odd AS ON INSERT TO t WHERE NEW.id % 2 = 0 DO INSTEAD NOTHING",
    ),
}


@pytest.mark.parametrize("way", ["auto", "insert", "psycopg", "reject"])
@pytest.mark.parametrize("statements", DROPPING.values(), ids=DROPPING)
async def test_rows_that_the_target_drops_are_counted_as_skipped(
    postgres: AsyncEngine, statements: tuple[str, ...], way: str
) -> None:
    await execute(postgres, *statements)
    driver = {"psycopg": "postgresql+psycopg"}.get(way, "postgresql+asyncpg")
    options: dict[str, Any] = {"insert": {"method": "insert"}, "reject": {"on_invalid": "reject"}}.get(way, {})
    async with engine_of(postgres.url.set(drivername=driver)) as engine:
        report = await dl.load_dataframe({"id": range(5)}, "t", engine=engine, chunk_rows=2, **options)
    assert (report.read, report.loaded, report.skipped) == (5, 2, 3)
    assert await fetch(postgres, "SELECT id FROM t ORDER BY id") == [(1,), (3,)]


async def test_rows_that_a_trigger_drops_are_counted_in_the_ledger(database: AsyncEngine) -> None:
    await execute(
        database, *(DROPPING["a trigger"] if database.dialect.name == "postgresql" else SQLITE_DROPPING["a trigger"])
    )
    report = await dl.load_batches(
        batches(ROWS), "t", engine=database, method="insert", load_id="mine", chunk_rows=CHUNK_ROWS
    )
    assert (report.loaded, report.skipped) == (ROWS // 2, ROWS // 2)
    assert await fetch(database, "SELECT loaded, rows FROM dataloader_loads") == [(ROWS // 2, ROWS)]


SQLITE_DROPPING = {
    "a trigger": (
        "CREATE TABLE t (id integer)",
        "CREATE TRIGGER odd BEFORE INSERT ON t WHEN NEW.id % 2 = 0 BEGIN SELECT RAISE(IGNORE); END",
    ),
    "a trigger of a view": (
        "CREATE TABLE base (id integer)",
        "CREATE TABLE audit (id integer)",
        "CREATE VIEW t AS SELECT id FROM base",
        "CREATE TRIGGER watch INSTEAD OF INSERT ON t BEGIN INSERT INTO audit VALUES (NEW.id); END",
        "CREATE TRIGGER store INSTEAD OF INSERT ON t WHEN NEW.id % 2 BEGIN INSERT INTO base VALUES (NEW.id); END",
    ),
}


@pytest.mark.parametrize("on_invalid", ["raise", "reject"])
@pytest.mark.parametrize("statements", SQLITE_DROPPING.values(), ids=SQLITE_DROPPING)
async def test_rows_that_a_target_of_sqlite_drops_are_counted_as_skipped(
    sqlite: AsyncEngine, statements: tuple[str, ...], on_invalid: Any
) -> None:
    await execute(sqlite, *statements)
    report = await dl.load_dataframe({"id": range(5)}, "t", engine=sqlite, chunk_rows=2, on_invalid=on_invalid)
    assert (report.read, report.loaded, report.skipped) == (5, 2, 3)
    assert await fetch(sqlite, "SELECT id FROM t ORDER BY id") == [(1,), (3,)]
