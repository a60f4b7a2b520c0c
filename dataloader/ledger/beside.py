"""Loads whose rows are committed beside the table: what they leave there, and what is entered when they take over."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.database.backends import backend_for
from dataloader.database.replacing import WAYS, beside_name
from dataloader.database.schema import Fingerprint, TableName
from dataloader.ledger.checkpoint import sealed
from dataloader.ledger.entries import (
    EVERY_TABLE,
    exists,
    forget_load,
    is_running,
    ledger_tables,
    needed,
    select_loads,
    unreadable,
)
from dataloader.ledger.trust import refusal

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad


def table_beside(found: Any, target: TableName) -> TableName | None:
    """The table into which an unfinished load of a ledger's row commits its rows, None if that is its target.

    What the row says is only believed where this load would have given that name.
    """
    try:
        name = json.loads(found.fingerprint).get("beside")
    except (ValueError, TypeError, AttributeError):
        return None
    known = {beside_name(target, known_as(found), way) for way in WAYS}
    return TableName(target.schema, name) if found.state == "unfinished" and name in known else None


def known_as(found: Any) -> str:
    """What a load of a ledger's row is found by: its name, or its source where the caller gave it none."""
    return str(found.load_id if found.source_digest == found.load_id else found.source)


async def drop_beside(connection: AsyncConnection, found: Any, target: TableName) -> None:
    """Drop what a load that is forgotten has left beside its target."""
    beside = table_beside(found, target)
    if beside is not None:
        await backend_for(connection.dialect).drop(connection, [beside])


async def drop_left(connection: AsyncConnection, target: TableName) -> None:
    """Forget what loads that nobody runs have left unfinished beside a table whose rows are others by now."""
    loads, *_ = ledger_tables(target.schema)
    if backend_for(connection.dialect).ledger_obstacle or not await exists(connection, loads):
        return
    if await refusal(connection, EVERY_TABLE, needed(keeps_rejects=False), target) is not None:
        return
    query = select_loads(loads).where(loads.c.target == target.spelled, loads.c.state == "unfinished")
    for row in (await connection.execute(query)).all():
        if unreadable(row) is None and table_beside(row, target) is not None and not is_running(row):
            await drop_beside(connection, row, target)
            await forget_load(connection, target.schema, row.load_id)


async def settle_in(
    connection: AsyncConnection, tables: tuple[sa.Table, sa.Table], load: LedgerLoad, chunks: list[Checkpoint],
    now: Fingerprint,
) -> None:  # fmt: skip
    """Tie a load, and its chunks, to the table that has its rows now."""
    loads, entered = tables
    load.fingerprint = now
    mine = sa.update(loads).where(loads.c.load_id == load.load_id)
    await connection.execute(mine.values(fingerprint=json.dumps(asdict(now))))
    for one in chunks:
        row = sa.and_(entered.c.load_id == load.load_id, entered.c.chunk == one.chunk)
        await connection.execute(sa.update(entered).where(row).values(sealed(load, one)))
