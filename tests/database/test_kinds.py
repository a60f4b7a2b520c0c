"""Every kind of table, and all that is done to rows: it comes out as a dict would, or is refused with the reason."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch

Rows = dict[int, str]
OLD: Rows = {1: "a", 2: "b", 3: "c"}
FILL = "INSERT INTO t (id, v) VALUES (1, 'a'), (2, 'b'), (3, 'c')"
PLAIN = "CREATE TABLE t (id integer PRIMARY KEY, v text)"
FUNCTION = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "


class Verb(NamedTuple):
    function: Any
    data: Rows
    options: dict[str, Any]
    after: Rows
    counts: dict[str, int]


NEW, CHANGED = {4: "d", 5: "e"}, {2: "x", 4: "d"}
VERBS = {
    "load": Verb(dl.load_dataframe, NEW, {}, OLD | NEW, {"loaded": 2}),
    "load with rejects": Verb(dl.load_dataframe, NEW, {"on_invalid": "reject"}, OLD | NEW, {"loaded": 2}),
    "upsert": Verb(dl.load_dataframe, CHANGED, {"on_conflict": "update"}, OLD | CHANGED, {"inserted": 1, "updated": 1}),
    "ignore": Verb(dl.load_dataframe, CHANGED, {"on_conflict": "ignore"}, CHANGED | OLD, {"inserted": 1, "ignored": 1}),
    "returning": Verb(dl.load_dataframe, NEW, {"returning": ["id", "v"]}, OLD | NEW, {"loaded": 2}),
    "upsert, returning": Verb(
        dl.load_dataframe,
        CHANGED,
        {"on_conflict": "update", "returning": ["id", "v"]},
        OLD | CHANGED,
        {"inserted": 1, "updated": 1},
    ),
    "update_rows": Verb(dl.update_rows, {2: "x", 9: "y"}, {}, OLD | {2: "x"}, {"updated": 1, "missing": 1}),
    "delete_rows": Verb(dl.delete_rows, {2: "b", 9: "y"}, {}, {1: "a", 3: "c"}, {"deleted": 1, "missing": 1}),
    "truncate": Verb(dl.load_dataframe, NEW, {"if_exists": "truncate"}, NEW, {"loaded": 2}),
    "replace": Verb(dl.load_dataframe, NEW, {"if_exists": "replace"}, NEW, {"loaded": 2}),
    "replace by chunks": Verb(
        dl.load_dataframe, NEW, {"if_exists": "replace", "commit": "chunk", "chunk_rows": 1}, NEW, {"loaded": 2}
    ),
    "sync_table": Verb(
        dl.sync_table,
        {1: "a", **CHANGED},
        {},
        {1: "a", **CHANGED},
        {"inserted": 1, "updated": 1, "unchanged": 1, "deleted": 1},
    ),
}


LOADS = ("load", "load with rejects")
CLEARING = ("truncate", "replace", "replace by chunks")
INSERTING = ("upsert", "ignore", "upsert, returning", "sync_table")
BY_KEY = (*INSERTING, "update_rows", "delete_rows")
EVERY = tuple(VERBS)
BY_CHUNKS = ("replace by chunks",)
BESIDE = {BY_CHUNKS: "this role may not create tables in the schema public"}
BY_RULES = {BY_CHUNKS: "in the commit that brings the new ones .it has rules."}
BORROWED = "it is part of the caller's own, inside a savepoint"
HEIR = "the rows of public.b stay, and are found in public.t, from which it inherits"


class Kind(NamedTuple):
    """A table, what it refuses, and what comes out of it in another way: the rows, and some counts."""

    statements: tuple[str, ...]
    refused: Mapping[tuple[str, ...], str] = MappingProxyType({})
    otherwise: Mapping[str, tuple[Rows, dict[str, Any]]] = MappingProxyType({})
    connects: str = ""


KINDS = {
    "a plain table": Kind((PLAIN, FILL)),
    "a partitioned table, by its key": Kind(
        (
            "CREATE TABLE t (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id)",
            "CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (3)",
            "CREATE TABLE t1 PARTITION OF t DEFAULT",
            FILL,
        )
    ),
    "a partitioned table, by another column": Kind(
        (
            "CREATE TABLE t (id integer, v text) PARTITION BY LIST (v)",
            "CREATE TABLE t0 PARTITION OF t FOR VALUES IN ('a', 'x')",
            "CREATE TABLE t1 PARTITION OF t DEFAULT",
            FILL,
        ),
        refused={BY_KEY: "has none: it has no unique key"},
    ),
    "a partition": Kind(
        (
            "CREATE TABLE s (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id)",
            "CREATE TABLE t PARTITION OF s FOR VALUES FROM (0) TO (100)",
            FILL,
        )
    ),
    "a generated column": Kind(
        ("CREATE TABLE t (id integer PRIMARY KEY, g integer GENERATED ALWAYS AS (id * 2) STORED, v text)", FILL)
    ),
    "an identity column": Kind(
        ("CREATE TABLE t (id integer PRIMARY KEY, n integer GENERATED ALWAYS AS IDENTITY, v text)", FILL)
    ),
    "dropped columns": Kind(
        ("CREATE TABLE t (x integer, id integer PRIMARY KEY, y integer, v text)", FILL, "ALTER TABLE t DROP x, DROP y")
    ),
    "row-level security with the right": Kind(
        (PLAIN, FILL, "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON t USING (true)"),
        connects="kim",
        refused=BESIDE,
    ),
    "row-level security that lets nothing in": Kind(
        (
            PLAIN,
            FILL,
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON t USING (true) WITH CHECK (v NOT IN ('d', 'x'))",
        ),
        connects="kim",
        refused={
            ("load", "returning", "truncate", "replace", *INSERTING, "update_rows"): "violates row-level security",
            **BESIDE,
        },
        otherwise={"load with rejects": (OLD | {5: "e"}, {"loaded": 1, "rejected": 1})},
    ),
    "row-level security that hides rows": Kind(
        (PLAIN, FILL, "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON t USING (id <> 2)"),
        connects="kim",
        refused={INSERTING: "violates row-level security policy", **BESIDE},
        otherwise={
            "update_rows": (OLD, {"updated": 0, "missing": 2}),
            "delete_rows": (OLD, {"deleted": 0, "missing": 2}),
        },
    ),
    "no right to write": Kind(
        (PLAIN, FILL), connects="eve", refused={**BESIDE, EVERY: "permission denied for table t"}
    ),
    "a view": Kind(
        ("CREATE TABLE b (id integer PRIMARY KEY, v text)", "CREATE VIEW t AS SELECT * FROM b", FILL),
        refused={("returning", *BY_KEY): "it is a view", CLEARING: "is a view, not a table"},
    ),
    "a view with a trigger": Kind(
        (
            "CREATE TABLE b (id integer PRIMARY KEY, v text)",
            "CREATE VIEW t AS SELECT DISTINCT * FROM b",
            FUNCTION + "'BEGIN INSERT INTO b VALUES (NEW.id, NEW.v); RETURN NEW; END'",
            "CREATE TRIGGER g INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
            FILL,
        ),
        refused={("returning", *BY_KEY): "it is a view", CLEARING: "is a view, not a table"},
    ),
    "a materialized view": Kind(
        ("CREATE MATERIALIZED VIEW t AS SELECT 1 AS id, 'a' AS v",), refused={EVERY: "is a materialized view"}
    ),
    "a rule that stores elsewhere": Kind(
        (
            PLAIN,
            FILL,
            "CREATE TABLE b (id integer, v text)",
            "CREATE RULE r AS ON INSERT TO t DO INSTEAD INSERT INTO b VALUES (NEW.id, NEW.v)",
        ),
        refused={("returning", *BY_KEY): "it has rules for INSERT or UPDATE", **BY_RULES},
        otherwise={
            **dict.fromkeys(("load", "load with rejects"), (OLD, {"loaded": 2})),
            **dict.fromkeys(("truncate", "replace"), ({}, {"loaded": 2})),
        },
    ),
    "a rule that writes a log": Kind(
        (
            PLAIN,
            FILL,
            "CREATE TABLE b (id integer, v text)",
            "CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO b VALUES (NEW.id, NEW.v)",
        ),
        refused={("returning", *BY_KEY): "it has rules for INSERT or UPDATE", **BY_RULES},
    ),
    "a rule against deleting": Kind(
        (PLAIN, FILL, "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING"),
        refused={("delete_rows", "sync_table"): "it has rules for DELETE", **BY_RULES},
    ),
    "a rule against updating": Kind(
        (PLAIN, FILL, "CREATE RULE r AS ON UPDATE TO t DO INSTEAD NOTHING"),
        refused={("returning", *BY_KEY): "it has rules for INSERT or UPDATE", **BY_RULES},
    ),
    "a trigger against deleting": Kind(
        (
            PLAIN,
            FILL,
            FUNCTION + "'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER g BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        ),
        refused={("sync_table",): "a trigger keeps 1 row of public.t, though the source does not have it"},
        otherwise={"delete_rows": (OLD, {"deleted": 0, "missing": 1, "skipped": 1})},
    ),
    "a trigger against updating": Kind(
        (
            PLAIN,
            FILL,
            FUNCTION + "'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        ),
        refused={("sync_table",): "a trigger drops or keeps 1 row of public.t"},
        otherwise={
            "upsert": (OLD | {4: "d"}, {"inserted": 1, "updated": 0, "skipped": 1}),
            "upsert, returning": (OLD | {4: "d"}, {"inserted": 1, "updated": 0, "skipped": 1}),
            "update_rows": (OLD, {"updated": 0, "missing": 1, "unchanged": 0, "skipped": 1}),
        },
    ),
    "a deferrable key": Kind(
        ("CREATE TABLE t (id integer PRIMARY KEY DEFERRABLE, v text)", FILL), refused={BY_KEY: "it is deferrable"}
    ),
    "a deferred key": Kind(
        ("CREATE TABLE t (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text)", FILL),
        refused={BY_KEY: "it is deferrable"},
    ),
    "a deferred foreign key": Kind(
        (
            "CREATE TABLE b (v text PRIMARY KEY)",
            "INSERT INTO b VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('x'), ('y')",
            "CREATE TABLE t (id integer PRIMARY KEY, v text REFERENCES b DEFERRABLE INITIALLY DEFERRED)",
            FILL,
        )
    ),
    "an exclusion constraint": Kind((PLAIN, FILL, "ALTER TABLE t ADD CONSTRAINT e EXCLUDE (v WITH =)")),
    "an exclusion constraint as the key": Kind(
        ("CREATE TABLE t (id integer, v text, CONSTRAINT e EXCLUDE (id WITH =))", FILL),
        refused={BY_KEY: "has none: it has no unique key"},
    ),
    "an index of an expression": Kind(
        ("CREATE TABLE t (id integer, v text)", "CREATE UNIQUE INDEX e ON t ((id + 0))", FILL),
        refused={BY_KEY: "it is an index of expressions"},
    ),
    "a partial index": Kind(
        ("CREATE TABLE t (id integer, v text)", "CREATE UNIQUE INDEX e ON t (id) WHERE id > 0", FILL),
        refused={BY_KEY: "it is a partial index"},
    ),
    "an index that is not valid": Kind(
        (
            "CREATE TABLE t (id integer, v text)",
            "CREATE UNIQUE INDEX e ON t (id)",
            FILL,
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST('e' AS regclass)",
        ),
        refused={BY_KEY: "it is not valid"},
    ),
    "an index with a column that is not of the key": Kind(
        ("CREATE TABLE t (id integer, v text)", "CREATE UNIQUE INDEX e ON t (id) INCLUDE (v)", FILL)
    ),
    "a foreign table": Kind(
        (
            "CREATE TABLE b (id integer PRIMARY KEY, v text)",
            "CREATE FOREIGN TABLE t (id integer, v text) SERVER here OPTIONS (table_name 'b')",
            FILL,
        ),
        refused={
            ("returning", *BY_KEY): "it is a foreign table",
            ("replace", "replace by chunks"): "is a foreign table, not a table",
        },
    ),
    "a foreign partition": Kind(
        (
            "CREATE TABLE b (id integer, v text)",
            "CREATE TABLE t (id integer, v text) PARTITION BY LIST (v)",
            "CREATE FOREIGN TABLE t0 PARTITION OF t FOR VALUES IN ('d', 'x') SERVER here OPTIONS (table_name 'b')",
            "CREATE TABLE t1 PARTITION OF t DEFAULT",
            FILL,
        ),
        refused={BY_KEY: "has none: it has no unique key", BY_CHUNKS: "t0 is a foreign table, where rows could vanish"},
    ),
    "a typed table": Kind(("CREATE TYPE y AS (id integer, v text)", "CREATE TABLE t OF y (PRIMARY KEY (id))", FILL)),
    "a parent that others inherit from": Kind(
        (
            PLAIN,
            "CREATE TABLE b () INHERITS (t)",
            "INSERT INTO t VALUES (1, 'a'), (3, 'c')",
            "INSERT INTO b VALUES (2, 'b')",
        ),
        refused={INSERTING: "b inherits from it"},
        otherwise=dict.fromkeys(CLEARING, ({2: "b"} | NEW, {"loaded": 2, "warnings": (HEIR,)})),
    ),
    "a parent with no rows in its heirs": Kind(
        (PLAIN, "CREATE TABLE b () INHERITS (t)", FILL), refused={INSERTING: "b inherits from it"}
    ),
    "an heir": Kind(("CREATE TABLE s (id integer, v text)", "CREATE TABLE t (PRIMARY KEY (id)) INHERITS (s)", FILL)),
    "an unlogged table": Kind(
        (PLAIN.replace("TABLE", "UNLOGGED TABLE"), FILL),
        refused={BY_CHUNKS: "t is UNLOGGED, where rows could vanish"},
    ),
    "a temporary table": Kind(
        (PLAIN.replace("TABLE", "TEMPORARY TABLE"), FILL), connects="connection", refused={BY_CHUNKS: BORROWED}
    ),
    "a temporary table that a commit empties": Kind(
        (f"{PLAIN.replace('TABLE', 'TEMPORARY TABLE')} ON COMMIT DELETE ROWS", FILL),
        connects="connection",
        refused={BY_CHUNKS: BORROWED},
    ),
    "a domain": Kind(("CREATE DOMAIN d AS text CHECK (value <> 'z')", PLAIN.replace("text", "d"), FILL)),
}


@pytest.fixture
async def postgres(postgres: AsyncEngine, server: embedded.Server) -> AsyncIterator[AsyncEngine]:
    """With a foreign server that is the server itself, and roles that are no owners."""
    itself = f"host '{server.sockets}', dbname '{postgres.url.database}'"
    await execute(
        postgres,
        "CREATE SCHEMA fdw",
        "CREATE EXTENSION postgres_fdw SCHEMA fdw",
        f"CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({itself})",
        "CREATE USER MAPPING FOR postgres SERVER here OPTIONS (user 'postgres')",
        "CREATE ROLE kim LOGIN",
        "CREATE ROLE eve LOGIN",
    )
    yield postgres
    await execute(postgres, "DROP OWNED BY kim, eve", "DROP ROLE kim, eve")


@contextlib.asynccontextmanager
async def filled(engine: AsyncEngine, kind: Kind) -> AsyncIterator[dict[str, Any]]:
    """The table with its rows, and how the call reaches it."""
    if kind.connects == "connection":
        async with engine.connect() as connection:
            for statement in kind.statements:
                await connection.exec_driver_sql(statement)
            yield {"connection": connection}
        return
    for statement in kind.statements:  # a foreign table finds what is committed
        await execute(engine, statement)
    if not kind.connects:
        yield {"engine": engine}
        return
    rights = "ALL" if kind.connects == "kim" else "SELECT"
    await execute(engine, f"GRANT {rights} ON t TO {kind.connects}")
    own = open_engine(engine.url.set(username=kind.connects))
    yield {"engine": own}
    await own.dispose()


async def rows_of(reach: dict[str, Any], engine: AsyncEngine) -> list[tuple[int, str]]:
    query = "SELECT id, v FROM t ORDER BY id"
    if "connection" in reach:
        return [tuple(row) for row in await reach["connection"].execute(sa.text(query))]  # type: ignore[misc]
    return await fetch(engine, query)


async def check(engine: AsyncEngine, kind: Kind, name: str) -> None:
    verb = VERBS[name]
    refused = next((why for verbs, why in kind.refused.items() if name in verbs), None)
    after, counts = kind.otherwise.get(name, (verb.after, verb.counts))
    data = {"id": [*verb.data], "v": [*verb.data.values()]}
    async with filled(engine, kind) as reach:
        before = await rows_of(reach, engine)
        call = verb.function(data, "t", progress="none", **reach, **verb.options)
        if refused is not None:
            with pytest.raises(dl.DataLoaderError, match=refused):
                await call
            assert await rows_of(reach, engine) == before
            return
        report = await call
        assert await rows_of(reach, engine) == sorted(after.items())
        assert {name: getattr(report, name) for name in counts} == counts
        if "returning" in verb.options and name not in kind.otherwise:
            assert list(report.returned[["id", "v"]].itertuples(index=False, name=None)) == list(verb.data.items())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_all_that_is_done_to_rows_comes_out_right_or_is_refused_with_the_reason(
    postgres: AsyncEngine, kind: Kind
) -> None:
    for name in VERBS:
        await execute(postgres, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        await execute(postgres, "GRANT USAGE ON SCHEMA public TO PUBLIC")
        await check(postgres, kind, name)
