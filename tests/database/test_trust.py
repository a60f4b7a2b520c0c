"""A ledger that somebody else has prepared: nothing of theirs is carried out, read or believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.engine import open_engine
from dataloader.ledger import TABLES
from tests.conftest import execute, fetch
from tests.database.test_ledger import batches, load

ROLES = ("mallory", "analyst", "owner")
GROUND = (
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
    "CREATE TABLE calls (role name)",
    "GRANT INSERT, SELECT ON calls TO PUBLIC",
    "CREATE SCHEMA sales",
    "GRANT ALL ON SCHEMA sales TO PUBLIC",
    "CREATE TABLE sales.orders (id bigint)",
    "ALTER TABLE sales.orders OWNER TO owner",
    "GRANT ALL ON sales.orders TO PUBLIC",
)
"""A schema in which everybody may create: the default of PostgreSQL 14 for public."""
CALL = "INSERT INTO public.calls VALUES (current_user)"
TRIGGER = (
    f"CREATE FUNCTION sales.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {CALL}; RETURN NEW; END $$",
    *(
        f"CREATE TRIGGER t BEFORE INSERT ON sales.{table} FOR EACH ROW EXECUTE FUNCTION sales.trap()"
        for table in TABLES
    ),
)
POLICY = (
    f"CREATE FUNCTION sales.trap() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {CALL}; RETURN true; END $$",
    *(f"CREATE POLICY p ON sales.{table} USING (sales.trap()) WITH CHECK (sales.trap())" for table in TABLES),
    *(f"ALTER TABLE sales.{table} ENABLE ROW LEVEL SECURITY" for table in TABLES),
)
RULE = tuple(f"CREATE RULE r AS ON INSERT TO sales.{table} DO ALSO {CALL}" for table in TABLES)
VIEW = (
    f"CREATE FUNCTION sales.trap() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {CALL}; RETURN true; END $$",
    *(f"ALTER TABLE sales.{table} RENAME TO old_{table}" for table in TABLES),
    *(f"CREATE VIEW sales.{table} AS SELECT * FROM sales.old_{table} WHERE sales.trap()" for table in TABLES),
    *(f"GRANT ALL ON sales.{table} TO PUBLIC" for table in TABLES),
)


@pytest.fixture
async def roles(postgres: AsyncEngine) -> AsyncIterator[dict[str, AsyncEngine]]:
    """The engines of a stranger, of who loads, and of who owns the table; and the superuser's."""
    await execute(postgres, *(f"DROP ROLE IF EXISTS {role}" for role in ROLES))
    await execute(postgres, *(f"CREATE ROLE {role} LOGIN" for role in ROLES), *GROUND)
    engines = {role: open_engine(postgres.url.set(username=role)) for role in ROLES}
    yield engines | {"superuser": postgres}
    for engine in engines.values():
        await engine.dispose()
    await execute(postgres, *(f"DROP OWNED BY {role} CASCADE" for role in ROLES), *(f"DROP ROLE {r}" for r in ROLES))


async def make_ledger(engine: AsyncEngine, *statements: str) -> None:
    """A ledger of this role's in the schema, for everybody, and what it does to it."""
    await load(engine, "sales.others", commit="chunk", on_invalid="reject")
    await execute(engine, *(f"GRANT ALL ON sales.{table} TO PUBLIC" for table in TABLES), *statements)


LEDGERS = {"table": (), "trigger": TRIGGER, "policy": POLICY, "rule": RULE, "view": VIEW}


@pytest.mark.parametrize(
    ("loader", "kind"), [*(("analyst", kind) for kind in LEDGERS), ("superuser", "trigger"), ("superuser", "view")]
)
async def test_a_ledger_of_a_stranger_is_not_used(roles: Any, loader: str, kind: str) -> None:
    await make_ledger(roles["mallory"], *LEDGERS[kind])
    with pytest.raises(dl.PlanError, match=r"sales\.dataloader_rejects (belongs to mallory|is not a table)"):
        await load(roles[loader], "sales.orders", commit="chunk")
    report = await load(roles[loader], "sales.orders")
    assert (report.loaded, report.load_id) == (60, None)
    assert await fetch(roles["superuser"], "SELECT * FROM calls") == []


@pytest.mark.parametrize(
    ("statements", "has"),
    [(TRIGGER, "a trigger of mallory"), (POLICY, "row-level security"), (RULE, "rules")],
    ids=["trigger", "policy", "rule"],
)
async def test_a_trap_stays_one_when_the_ledger_changes_hands(
    roles: Any, statements: tuple[str, ...], has: str
) -> None:
    await make_ledger(roles["mallory"], *statements)
    await execute(roles["superuser"], *(f"ALTER TABLE sales.{table} OWNER TO owner" for table in TABLES))
    with pytest.raises(dl.PlanError, match=f"has {has}"):
        await load(roles["analyst"], "sales.orders", commit="chunk")
    assert await fetch(roles["superuser"], "SELECT * FROM calls") == []


@pytest.mark.parametrize("owner", ["owner", "superuser", "analyst"])
async def test_a_ledger_of_the_tables_owner_a_superuser_or_the_role_is_used(roles: Any, owner: str) -> None:
    await make_ledger(roles[owner])
    assert (await load(roles["analyst"], "sales.orders", commit="chunk")).load_id is not None


async def test_a_ledger_that_a_stranger_made_since_the_plan_is_not_used(roles: Any) -> None:
    async def slow() -> Any:
        yield pa.record_batch({"id": [1]})  # it is read before the plan is made
        await make_ledger(roles["mallory"], *TRIGGER)
        for batch in batches():
            yield batch

    with pytest.raises(dl.CheckpointError, match="belongs to mallory"):
        await load(roles["analyst"], "sales.orders", source=slow(), commit="chunk")
    assert await fetch(roles["superuser"], "SELECT role::text FROM calls UNION SELECT id::text FROM sales.orders") == []
