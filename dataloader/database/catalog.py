"""The target as it is: what its catalog says of it, and DDL carried out until it is as planned."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dataloader.database import locks
from dataloader.database.backends import backend_for
from dataloader.database.driver_errors import is_name_taken
from dataloader.errors import SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends import Backend
    from dataloader.database.schema import TableName, TableSchema


async def prepare(
    connection: AsyncConnection,
    table: TableSchema,
    statements: Sequence[str],
    *,
    may_exist: bool = False,
    empties: bool = False,
    before: TableSchema | None = None,
    lock_seconds: float = locks.LIMIT_SECONDS,
    progress: Callable[[], None] = lambda: None,
) -> TableSchema:
    """Carry out a plan's DDL in the open transaction, and make sure that the table is as planned.

    Parameters
    ----------
    table : TableSchema
        The table as planned.
    statements : sequence of str
        The DDL.
    may_exist : bool
        Whether the load continues where another process has made the table that the DDL creates meanwhile.
    empties : bool
        Whether the DDL takes the present rows away, by a lock that nobody is to wait for long.
    before : TableSchema or None
        The table as it was when the plan was made, where the DDL changes types of it. Its first statement locks it.
    lock_seconds : float
        How long a lock is waited for: by the DDL in short tries, between which nothing is locked, then by each
        statement of the transaction.
    progress : callable
        Is called before each try.

    Raises
    ------
    SchemaMismatch
        When the table was altered since the plan was made.
    """
    backend = backend_for(connection.dialect)
    await backend.execute_all(connection, (*backend.settings, *backend.lock_timeout_sql(lock_seconds)))

    async def carry_out() -> None:
        progress()
        changed = None if before is None else (before, table)
        await _carry_out(connection, backend, table.name, statements, may_exist=may_exist, before=changed)

    await locks.trying(lock_seconds)(carry_out)
    longest = locks.HOLDING_SECONDS if empties else math.inf
    await backend.execute_all(connection, backend.lock_timeout_sql(min(lock_seconds, longest)))
    return _as_planned(table, await backend.describe(connection, table.name))


def _as_planned(planned: TableSchema, found: TableSchema | None) -> TableSchema:
    differences = [] if found is None else _differences(planned, found)
    if found is not None and not differences:
        return found
    what = f"is not as planned: {'; '.join(differences)}" if differences else "was dropped since the plan was made"
    hint = "Run the load again: it makes a new plan."
    raise SchemaMismatch(f"the table {planned.name} {what}", hint=hint, committed_rows=0)


async def _carry_out(
    connection: AsyncConnection,
    backend: Backend,
    name: TableName,
    statements: Sequence[str],
    *,
    may_exist: bool,
    before: tuple[TableSchema, TableSchema] | None = None,
) -> None:
    if before is not None:
        await _carry_out_locked(connection, backend, statements, *before)
        return
    is_there = may_exist and await backend.describe(connection, name) is not None
    if is_there:
        statements = backend.lock_table_sql(name)
    try:
        await backend.execute_ddl(connection, statements, locks.TRY_SECONDS)
    except sa.exc.DBAPIError as error:
        if is_there or not (may_exist and is_name_taken(error)):
            raise
        if await backend.describe(connection, name) is None:  # another thing of that name
            raise
        await _carry_out(connection, backend, name, statements, may_exist=may_exist)


async def _carry_out_locked(
    connection: AsyncConnection, backend: Backend, statements: Sequence[str], before: TableSchema, planned: TableSchema
) -> None:
    """Change types of a table that is as it was, or changed alike meanwhile: else a change could take room away."""
    async with connection.begin_nested():
        await backend.execute_ddl(connection, statements[:1], locks.TRY_SECONDS)
        found = await backend.describe(connection, before.name)
        types = {} if found is None else {column.name: column.type.identity for column in found.columns}
        for column in before.columns:
            changed = next(one.type.identity for one in planned.columns if one.name == column.name)
            if changed != column.type.identity and types.get(column.name) not in {column.type.identity, changed}:
                _as_planned(before, found)
        await backend.execute_ddl(connection, statements[1:], locks.TRY_SECONDS)


def _differences(planned: TableSchema, found: TableSchema) -> list[str]:
    """What is new in the way of COPY or the ledger, and columns that are gone or whose type or duties changed.

    A new column that needs no value is welcome.
    """
    names = [column.name for column in itertools.chain(planned.columns, found.columns)]
    before = {planned.copy_refused, planned.unwatched}
    news = [new for new in (found.copy_refused, found.unwatched) if new is not None and new not in before]
    return news + [
        f"{name} was {_shown(planned, name)}, is {_shown(found, name)}"
        for name in dict.fromkeys(names)
        if _shown(planned, name) != _shown(found, name) and not _may_be_new(planned, found, name)
    ]


def _may_be_new(planned: TableSchema, found: TableSchema, name: str) -> bool:
    return _shown(planned, name) == "absent" and not found.column(name).required


def _shown(table: TableSchema, name: str) -> str:
    column = next((column for column in table.columns if column.name == name), None)
    if column is None:
        return "absent"
    return f"{column.type.identity}{' not null' if column.required else ''}"
