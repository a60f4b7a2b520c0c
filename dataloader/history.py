"""The ledgers of a database, read by people: what was loaded, what is unfinished, and what a role needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import CreateTable

from dataloader import engine as engines
from dataloader import locks
from dataloader.errors import CheckpointError, PlanError
from dataloader.guard import Lifeline, guarded
from dataloader.ledger import LOADS, TABLES, forget_load, is_running, ledger_tables
from dataloader.locks import naming_holders
from dataloader.schema import SQLITE_SCHEMA, TableName
from dataloader.transactions import settle, transaction
from dataloader.translation import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

SHOWN = (
    "load_id",
    "target",
    "source",
    "state",
    "chunks",
    "rows",
    "loaded",
    "rejected",
    "chunk_rows",
    "started_at",
    "seen_at",
)
"""What is shown of a load, besides whether it is running."""

_SCHEMAS = sa.text("""
SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND c.relkind = 'r' AND pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 1
""")


@dataclass(frozen=True, slots=True)
class Entry:
    """A load in a ledger: what is shown of it, the schema of the ledger, and the call that began it."""

    shown: dict[str, Any]
    schema: str
    call: dict[str, Any]

    @property
    def load_id(self) -> str:
        return str(self.shown["load_id"])


async def read_history(engine: AsyncEngine) -> list[Entry]:
    """Every load of the database's ledgers, the newest first."""
    entries: list[Entry] = await _under_guard(engine, _entries)
    return entries


async def entry_of(engine: AsyncEngine, load_id: str) -> Entry:
    """One load.

    Raises
    ------
    CheckpointError
        When no ledger has it.
    """
    found = [entry for entry in await read_history(engine) if entry.load_id == load_id]
    if not found:
        hint = "`python -m dataloader history` shows those that there are."
        raise CheckpointError(f"no ledger of {engines.place_of(engine)} has a load {load_id!r}", hint=hint)
    return found[0]


async def forget(engine: AsyncEngine, load_id: str) -> Entry:
    """Take a load out of its ledger; its rows stay in the table.

    Raises
    ------
    CheckpointError
        When no ledger has it, or it is running.
    """
    entry = await entry_of(engine, load_id)
    if entry.shown["running"]:
        raise CheckpointError(f"the load {load_id!r} is running", hint="Nothing was changed. End it first.")

    await _under_guard(engine, lambda connection: forget_load(connection, entry.schema, load_id), writes=True)
    return entry


async def _under_guard(
    engine: AsyncEngine, work: Callable[[AsyncConnection], Coroutine[Any, Any, Any]], *, writes: bool = False
) -> Any:
    async def connected(line: Lifeline) -> Any:
        line.progress()
        opened = engines.connected(engine) if writes else engines.reading(engine)
        async with (
            opened as connection,
            naming_holders(connection, TableName(None, LOADS), *TABLES),
            transaction(connection) if writes else connection.begin(),
        ):
            line.hold(await engines.driver_of(connection))
            await settle(connection, locks.LIMIT_SECONDS)
            return await work(connection)

    with translated(engines.place_of(engine)):
        return await guarded(connected)


async def _entries(connection: AsyncConnection) -> list[Entry]:
    rows = [(schema, row) for schema in await _schemas(connection) for row in await _loads(connection, schema)]
    rows.sort(key=lambda one: one[1].started_at, reverse=True)
    return [
        Entry({name: getattr(row, name) for name in SHOWN} | {"running": is_running(row)}, schema, json.loads(row.call))
        for schema, row in rows
    ]


async def _loads(connection: AsyncConnection, schema: str) -> Any:
    loads, *_ = ledger_tables(schema)
    return (await connection.execute(sa.select(loads, sa.func.current_timestamp().label("now")))).all()


async def _schemas(connection: AsyncConnection) -> list[str]:
    """The schemas that have a ledger."""
    if connection.dialect.name == "postgresql":
        return list((await connection.execute(_SCHEMAS, {"name": LOADS})).scalars())
    if connection.dialect.name == "sqlite":
        found = await connection.exec_driver_sql("SELECT 1 FROM main.sqlite_master WHERE name = ?", (LOADS,))
        return [SQLITE_SCHEMA] if found.first() else []
    return []


def grants(table: TableName, role: str) -> str:
    """The SQL with which an administrator of PostgreSQL lets a role load into a table, and resume.

    Raises
    ------
    PlanError
        When the table comes without its schema.
    """
    if table.schema is None:
        raise PlanError(f"the table {table} has no schema", hint="Name it like sales.orders, or public.orders.")
    # A driver's own dialect would double every % for its parameters.
    dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
    quote = dialect.identifier_preparer.quote
    ledger = ledger_tables(table.schema)
    creating = [str(CreateTable(one, if_not_exists=True).compile(dialect=dialect)).strip() for one in ledger]
    names = ", ".join(f"{quote(table.schema)}.{quote(one.name)}" for one in ledger)
    granting = [
        f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {quote(role)}",
        f"GRANT INSERT ON {quote(table.schema)}.{quote(table.name)} TO {quote(role)}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {quote(role)}",
    ]
    return "".join(f"{statement};\n" for statement in [*creating, *granting])
