"""The ledgers of a database, read by people: what was loaded, what is unfinished, and what a role needs."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from dataloader.database import engine as engines
from dataloader.database import locks
from dataloader.database.backends import backend_for
from dataloader.database.schema import SQLITE_SCHEMA, TableName, parse_table_name
from dataloader.database.session import Session
from dataloader.errors import CheckpointError, PlanError
from dataloader.formatting import quantity
from dataloader.ledger.beside import drop_beside
from dataloader.ledger.entries import (
    EVERY_TABLE,
    LOADS,
    MADE,
    TABLES,
    aware,
    files_table,
    forget_load,
    is_running,
    is_shard,
    ledger_tables,
    select_loads,
    unreadable,
)
from dataloader.ledger.shards import in_shards
from dataloader.ledger.trust import distrust, is_ledger, other_columns
from dataloader.options import CONTINUED

if TYPE_CHECKING:
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
    "last_commit_at",
)
"""What is shown of a load, besides whether it is running."""
UNREADABLE = "unreadable"
"""The state of a load whose row in the ledger no load has written like that."""

LOADERS = ("load_dataframe", "load_batches", "load_rows", "load_files")


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """A load in a ledger: what is shown of it, the ledger's schema, the call that began it, and what it is a shard of.

    Attributes
    ----------
    whole : str or None
        The name of the load that it is a shard of.
    """

    shown: dict[str, Any]
    schema: str
    options: str
    whole: str | None = None

    @property
    def load_id(self) -> str:
        return str(self.shown["load_id"])

    @property
    def loaded(self) -> str:
        """How many rows are in the table; SQLite may have anything there."""
        rows = self.shown["loaded"]
        return f"{rows:,}" if isinstance(rows, int) else repr(rows)

    @property
    def target(self) -> TableName | None:
        """The table, if it is one that this ledger is there for."""
        try:
            name = parse_table_name(self.shown["target"])
        except PlanError:
            return None
        return name if (name.schema or SQLITE_SCHEMA) == self.schema else None

    def began_with(self) -> tuple[str, list[str], dict[str, Any]]:
        """The loader, its files and its options.

        Raises
        ------
        CheckpointError
            When the ledger says something that no load has written there, or the load is one of shards.
        """
        if (common := in_shards(self.options)) is not None:
            what = f"the load {self.load_id!r} is loaded in {quantity(common['shards'], 'shard')}"
            hint = "Run each of them again: what is loaded is not loaded twice."
            raise CheckpointError(what, hint=hint)
        try:
            call = json.loads(self.options)
            loader, paths, _ = call.pop("loader"), call.pop("paths"), call.pop(MADE, ())
        except (ValueError, TypeError, AttributeError, KeyError):
            call, loader, paths = None, None, None
        listed = isinstance(paths, list) and all(isinstance(path, str) for path in paths)
        if loader not in LOADERS or not (paths is None or listed) or not set(call) <= set(CONTINUED):
            raise self._unreadable("options", self.options)
        if self.target is None:
            raise self._unreadable("target", self.shown["target"])
        if self.shown["state"] == UNREADABLE:
            raise self._unreadable("row", "as no load has written it")
        return loader, paths or [], call

    def _unreadable(self, name: str, value: object) -> CheckpointError:
        hint = f"Nothing was read. Take it out with `python -m dataloader forget {shlex.quote(self.load_id)}`."
        what = f"the load {self.load_id!r} in the ledger of {self.schema} cannot be continued: its {name} is {value!r}"
        return CheckpointError(what, hint=hint)


@dataclass(frozen=True, slots=True)
class History:
    """The loads of the ledgers that were read, the newest first, and which were not, because of whose they are."""

    records: list[LoadRecord]
    passed_over: list[str]


async def read_history(engine: AsyncEngine, schema: str | None = None) -> History:
    """Every load of a schema's ledger, or of all that belong to this role or a superuser.

    Somebody else's ledger is read where its schema is named: whoever made it could have written anything there.
    """

    async def read(session: Session) -> History:
        async with session.reading() as connection:
            return await _history(connection, schema)

    return await _session(engine, reads_only=True).run(read)


async def find_record(engine: AsyncEngine, load_id: str, schema: str | None = None) -> LoadRecord:
    """One load.

    Raises
    ------
    CheckpointError
        When no ledger has it, or several have.
    """
    history = await read_history(engine, schema)
    found = [record for record in history.records if record.load_id == load_id]
    if not found:
        hint = "`python -m dataloader history` shows those that there are."
        hint += "".join(f" Not read: {why}." for why in history.passed_over)
        raise CheckpointError(f"no ledger of {engines.describe_url(engine)} has a load {load_id!r}", hint=hint)
    if len(found) > 1:
        schemas = ", ".join(sorted(record.schema for record in found))
        hint = "Nothing was changed. Say which one is meant, with --schema."
        raise CheckpointError(f"the ledgers of several schemas have a load {load_id!r}: {schemas}", hint=hint)
    return found[0]


async def forget(engine: AsyncEngine, load_id: str, schema: str | None = None) -> LoadRecord:
    """Take a load out of its ledger; its rows stay in the table.

    Raises
    ------
    CheckpointError
        When no ledger has it, or several have, or it is running, or the ledger is not to be trusted.
    """
    record = await find_record(engine, load_id, schema)
    if record.whole is not None:
        what = f"{load_id!r} is a shard of the load {record.whole!r}, which is forgotten as a whole"
        raise CheckpointError(what, hint="Nothing was changed.")
    if record.shown["running"]:
        raise CheckpointError(f"the load {load_id!r} is running", hint="Nothing was changed. End it first.")

    async def take_out(session: Session) -> None:
        async with session.transaction(is_last=False) as connection:
            await session.backend.configure_transaction(connection, locks.LIMIT_SECONDS)
            await _forget(connection, record)

    await _session(engine, reads_only=False).run(take_out)
    return record


async def _forget(connection: AsyncConnection, record: LoadRecord) -> None:
    target = None if record.target is None else record.target.name
    found = await backend_for(connection.dialect).table_rights(connection, EVERY_TABLE, record.schema, target)
    why = next(filter(None, (distrust(one) or other_columns(one) for one in found)), None)
    if why is not None:
        raise CheckpointError(f"the load {record.load_id!r} is not forgotten: {why}", hint="Nothing was changed.")
    loads = ledger_tables(record.schema)[0]
    row = (await connection.execute(sa.select(loads).where(loads.c.load_id == record.load_id))).one_or_none()
    if row is not None and record.target is not None:
        await drop_beside(connection, row, record.target)
    await forget_load(connection, record.schema, record.load_id)


def _session(engine: AsyncEngine, *, reads_only: bool) -> Session:
    return Session(engine, TableName(None, LOADS), *TABLES, reads_only=reads_only)


async def _history(connection: AsyncConnection, schema: str | None) -> History:
    found, passed_over = await _ledgers(connection, schema)
    rows = [(one, row) for one in found for row in await connection.execute(select_loads(ledger_tables(one)[0]))]
    rows.sort(key=lambda one: str(one[1].started_at and aware(one[1].started_at)), reverse=True)
    records = [_record(one, row) for one, row in rows]
    running = {(one.schema, one.whole) for one in records if one.whole is not None and one.shown["running"]}
    for one in records:
        one.shown["running"] = one.shown["running"] or (one.schema, one.load_id) in running
    return History(records, passed_over)


def _record(schema: str, row: Any) -> LoadRecord:
    shown = {name: getattr(row, name) for name in SHOWN} | {"running": is_running(row)}
    shown = shown if unreadable(row) is None else shown | {"state": UNREADABLE}
    return LoadRecord(shown, schema, row.options, row.source_digest if is_shard(row) else None)


async def _ledgers(connection: AsyncConnection, schema: str | None) -> tuple[list[str], list[str]]:
    """The schemas whose ledgers are to be read, and why others are not."""
    backend = backend_for(connection.dialect)
    mine: list[str] = []
    passed_over: list[str] = []
    for one in await backend.table_rights(connection, (LOADS,), schema):
        if one.name is None or not one.may_read:
            continue
        why = distrust(one, of_others=schema is not None)
        if why is None:
            # Until the end its name is that of the table that was looked at.
            for statement in backend.pin_table_sql(TableName(one.schema, LOADS)):
                await connection.exec_driver_sql(statement)
            (locked,) = await backend.table_rights(connection, (LOADS,), one.schema)
            why = distrust(locked, of_others=schema is not None)
        if why is None and not is_ledger(one):
            why = f"{one.schema}.{LOADS} has other columns than a ledger"
        (mine if why is None else passed_over).append(one.schema if why is None else why)
    return mine, passed_over


def grants(table: TableName, role: str) -> str:
    """The SQL with which an administrator of PostgreSQL lets a role load into a table, and resume.

    Raises
    ------
    PlanError
        When the table comes without its schema.
    """
    if table.schema is None:
        raise PlanError(f"the table {table} has no schema", hint="Name it like sales.orders, or public.orders.")
    from sqlalchemy.dialects.postgresql.base import PGDialect  # noqa: PLC0415 - only for PostgreSQL

    # A driver's own dialect would double every % for its parameters.
    dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
    quote = dialect.identifier_preparer.quote
    ledger = (*ledger_tables(table.schema), files_table(table.schema))
    creating = [str(CreateTable(one, if_not_exists=True).compile(dialect=dialect)).strip() for one in ledger]
    names = ", ".join(f"{quote(table.schema)}.{quote(one.name)}" for one in ledger)
    granting = [
        f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {quote(role)}",
        f"GRANT INSERT ON {quote(table.schema)}.{quote(table.name)} TO {quote(role)}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {quote(role)}",
    ]
    return "".join(f"{statement};\n" for statement in [*creating, *granting])
