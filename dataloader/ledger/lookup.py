"""What the ledger knows of loads before one is entered: nothing is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.database.schema import Fingerprint
from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad, edited, unsealed
from dataloader.ledger.entries import TOTALS, exists, ledger_tables, select_loads, unreadable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName
    from dataloader.ledger.owners import Owner


async def find_load(connection: AsyncConnection, source: str, target: TableName, load_id: str | None) -> Any:
    """The newest load of that name, or else of that source, into a table that exists; None if none is known."""
    loads, *_ = ledger_tables(target.schema)
    if not await exists(connection, loads):
        return None
    mine = loads.c.source == source if load_id is None else loads.c.load_id == load_id
    query = select_loads(loads).where(loads.c.target == target.spelled, mine)
    return next((row for row in await connection.execute(query) if unreadable(row) is None), None)


async def loads_into(connection: AsyncConnection, target: TableName, *, finished: bool = False) -> tuple[Any, ...]:
    """The loads into a table that exists which have committed some rows and not all, or all of them too."""
    loads, *_ = ledger_tables(target.schema)
    if not await exists(connection, loads):
        return ()
    states = ("unfinished", "finished") if finished else ("unfinished",)
    mine = sa.and_(loads.c.target == target.spelled, loads.c.state.in_(states), loads.c.chunks > 0)
    return tuple(row for row in await connection.execute(select_loads(loads).where(mine)) if unreadable(row) is None)


async def committed_rows(connection: AsyncConnection, target: TableName, load_id: str) -> dict[int, Checkpoint]:
    """The committed chunks of a load, once no transaction of a process that is gone can commit another one."""
    loads, *_ = ledger_tables(target.schema)
    if not await exists(connection, loads):
        return {}
    query = sa.select(loads).where(loads.c.load_id == load_id).with_for_update()  # whoever commits counts in it
    found = (await connection.execute(query)).one_or_none()
    if found is None or unreadable(found) is not None:  # it is refused when the load is entered
        return {}
    load = locked_load(found, None)
    return await committed_chunks(connection, target.schema, found, load)


def locked_load(found: Any, owner: Owner | None) -> LedgerLoad:
    """The load of a ledger's row, without its chunks."""
    fingerprint = Fingerprint(**json.loads(found.fingerprint))
    return LedgerLoad(found.load_id, owner, fingerprint, found.state == "finished")


async def committed_chunks(
    connection: AsyncConnection, schema: str | None, found: Any, load: LedgerLoad
) -> dict[int, Checkpoint]:
    """The committed chunks, if they add up to what the load's row says.

    Raises
    ------
    CheckpointError
        When they do not.
    """
    _, chunks, _ = ledger_tables(schema)
    columns = [chunks.c[name] for name in Checkpoint.__slots__]
    query = sa.select(*columns).where(chunks.c.load_id == load.load_id)
    committed: dict[int, Checkpoint] = {}
    totals = dict.fromkeys(TOTALS, 0)

    def take(rows: Sequence[Any]) -> None:
        for row in rows:
            committed[row.chunk] = one = unsealed(load, row)
            totals["chunks"] += 1
            for name in TOTALS[1:]:
                totals[name] += getattr(one, name)

    # A hundred thousand chunks would block the loop for a second. SQLAlchemy 2.0 opens no cursor in our transactions.
    await asyncio.to_thread(take, (await connection.execute(query)).all())
    if any(totals[name] != getattr(found, name) for name in TOTALS):
        raise edited(load, "its chunks do not add up to its totals")
    return committed
