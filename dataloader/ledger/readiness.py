"""Whether a database is ready for loads, as this engine reaches it: asked before anything is written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dataloader.database import engine as engines
from dataloader.database.backends.checking import Finding
from dataloader.database.schema import TableName
from dataloader.database.session import Session
from dataloader.errors import LoadError
from dataloader.formatting import quantity
from dataloader.ledger import trust
from dataloader.ledger.entries import EVERY_TABLE, needed
from dataloader.plan import WORKERS
from dataloader.report import CheckReport

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_ANY = TableName(None, "orders")
"""Stands for a table where none was named: whether there can be a ledger depends on its schema."""


async def check(engine: AsyncEngine, table: TableName | None, workers: int | None) -> CheckReport:
    """Look at the connection, the server, the pool, and what the role may do."""
    session = Session(engine, table or _ANY, reads_only=True)

    async def look(session: Session) -> list[Finding]:
        async with session.reading() as connection:
            is_ours = engines.made_of(engine) is not None
            found = await session.backend.check(connection, engine, table, is_ours=is_ours)
            return [
                *found,
                await _pool(connection, session, engine, workers or WORKERS),
                await _ledger(connection, session, table or _ANY),
            ]

    try:
        findings = await session.run(look)
    except LoadError as error:
        findings = [Finding("problem", "connection", error.what, error.advice)]
    return CheckReport(database=engines.describe_url(engine), findings=tuple(findings))


async def _pool(connection: AsyncConnection, session: Session, engine: AsyncEngine, workers: int) -> Finding:
    """The pool against the workers and against what the server has left; this connection is one of the pool's."""
    if session.backend.one_writer is not None:
        return Finding("ok", "pool", f"one worker: {session.backend.one_writer}")
    most, limits = engines.connections_of(engine), await session.backend.free_connections(connection)
    gives = "any number of connections" if math.isinf(most) else f"up to {quantity(int(most), 'connection')}"
    free = math.inf if limits is None else limits[0] + 1
    has = "" if limits is None else f"; the server has {limits[0]:,} free of {limits[1]:,}"
    says = f"the pool gives out {gives}, {quantity(workers, 'worker')} need as many{has}"
    if workers > free:
        remedy = f"Use workers={free:g}, close idle connections, or raise max_connections or the role's limit."
        return Finding("problem", "pool", says, remedy)
    if workers > most:
        return Finding("note", "pool", says, f"Make it larger: connect(url, pool_size={workers}).")
    if not math.isinf(most) and most > free:
        return Finding("note", "pool", says, "A smaller pool (pool_size=, max_overflow=) leaves the server some.")
    return Finding("ok", "pool", says)


async def _ledger(connection: AsyncConnection, session: Session, table: TableName) -> Finding:
    """Whether loads can be committed chunk by chunk, and be resumed."""
    backend = session.backend
    name = await backend.qualify(connection, table)
    wanted = needed(keeps_rejects=False)
    why = backend.ledger_obstacle or await trust.refusal(connection, EVERY_TABLE, wanted, name)
    if why is None:
        return Finding("ok", "ledger", "loads can be committed chunk by chunk, and be resumed")
    return Finding("note", "ledger", f"loads are one transaction each: {why}", "Nothing, if no load has to be resumed.")
