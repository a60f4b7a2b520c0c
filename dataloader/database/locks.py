"""PostgreSQL's locks: how long they are waited for, and who holds the one that could not be had."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import tenacity

from dataloader.database.driver_errors import LITERAL, shown_text, sqlstate_of, translate
from dataloader.database.engine import describe_url
from dataloader.errors import ReadError, WriteError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName

LIMIT_SECONDS = 120.0
"""How long a lock is waited for in all."""
TRY_SECONDS = 0.5
"""How long a statement that locks a table waits at once: every later SELECT waits behind a TRUNCATE that waits."""
PAUSE_SECONDS = (0.1, 0.5)
"""Between two tries the others proceed."""
HOLDING_SECONDS = 5.0
"""How long a load that has a table to itself, so that nobody can read it, waits for a lock on a row of another one."""
ENTERING = 0x64_6C_6F_61_64
"""The advisory lock under which a load enters the ledger: two processes must not enter the same one at once."""
_LOCKED = "55P03"
_QUERY_CHARACTERS = 80
_STRENGTHS = (
    "AccessExclusiveLock",
    "ExclusiveLock",
    "ShareRowExclusiveLock",
    "ShareLock",
    "RowExclusiveLock",
    "RowShareLock",
)
_WEAK = ("ShareUpdateExclusiveLock", "AccessShareLock")
"""Modes that only a statement like TRUNCATE has to wait for."""

_HOLDERS = sa.text("""
WITH RECURSIVE part (oid) AS (
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = ANY (CAST(:names AS pg_catalog.text[]))
      AND (n.nspname = :schema OR CAST(:schema AS pg_catalog.text) IS NULL)
  UNION
    SELECT below.oid FROM part, LATERAL (
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = part.oid
      UNION ALL
        SELECT d.refobjid FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_depend d
            ON d.classid = CAST('pg_catalog.pg_rewrite' AS pg_catalog.regclass) AND d.objid = r.oid
            AND d.refclassid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
        WHERE r.ev_class = part.oid
    ) below (oid)
), wanted (oid) AS (
    SELECT oid FROM part
  UNION
    SELECT k.confrelid FROM pg_catalog.pg_constraint k JOIN part ON k.conrelid = part.oid WHERE k.contype = 'f'
)
SELECT CASE WHEN c.oid IS NULL THEN 'the ledger' ELSE n.nspname || '.' || c.relname END AS held,
       a.pid, a.usename, a.application_name, a.state, a.query, p.gid,
       pg_catalog.to_char(COALESCE(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') AS since
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
    AND x.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
LEFT JOIN pg_catalog.pg_class c ON l.locktype = 'relation' AND c.oid = l.relation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.granted AND (l.pid <> pg_catalog.pg_backend_pid() OR l.pid IS NULL)
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND (l.relation = ANY (SELECT oid FROM wanted) AND l.mode <> ALL (:harmless)
       OR l.locktype = 'advisory'
          AND l.classid = CAST(:high AS pg_catalog.oid) AND l.objid = CAST(:low AS pg_catalog.oid))
  AND COALESCE(a.xact_start < (pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => :seconds)), true)
ORDER BY pg_catalog.array_position(:strengths, l.mode), a.xact_start LIMIT 10
""").bindparams(
    sa.bindparam("names", type_=sa.ARRAY(sa.Text)),
    sa.bindparam("harmless", type_=sa.ARRAY(sa.Text)),
    sa.bindparam("strengths", list(_STRENGTHS), type_=sa.ARRAY(sa.Text)),
    sa.bindparam("high", ENTERING >> 32, type_=sa.BigInteger),
    sa.bindparam("low", ENTERING & 0xFFFF_FFFF, type_=sa.BigInteger),
)
"""Who has held a lock on the tables, their partitions, what a view shows, or what they refer to, since before the try
began: who waits for a row cannot be told which, so it is the sessions that have written, the strongest lock first."""


def trying(seconds: float) -> tenacity.AsyncRetrying:
    """Try again for so long what finds a table locked."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda error: sqlstate_of(error) == _LOCKED),
        wait=tenacity.wait_random(*PAUSE_SECONDS),
        stop=tenacity.stop_after_delay(seconds),
        reraise=True,
    )


@contextlib.asynccontextmanager
async def naming_holders(
    connection: AsyncConnection | None, table: TableName, *beside: str, exclusive: bool = False
) -> AsyncIterator[None]:
    """Say who holds the lock that was waited for in vain: a block around a transaction, which has ended by then.

    Parameters
    ----------
    connection : AsyncConnection or None
        Who is asked; None: nobody, in a transaction of the caller's.
    *beside : str
        Other tables of its schema for which the transaction may have waited.
    exclusive : bool
        Whether the table itself had to be had alone, so that mere readers were in the way.

    Raises
    ------
    WriteError
        In place of PostgreSQL's lock_not_available, which does not even say which lock it was.
    """
    try:
        yield
    except Exception as error:
        is_of_another = isinstance(error, ReadError)  # what is copied has waited, on a connection of its own
        if sqlstate_of(error) != _LOCKED or connection is None or is_of_another:
            raise
        refused = error if isinstance(error, WriteError) else translate(error, describe_url(connection.engine))
        refused.what += f": {await _holders(connection, table, beside, exclusive)}"
        raise refused from error.__cause__ if refused is error else error


async def _holders(connection: AsyncConnection, table: TableName, beside: Sequence[str], exclusive: bool) -> str:
    asked = {
        "schema": table.schema,
        "names": [table.name, *beside],
        "harmless": list(() if exclusive else _WEAK),
        "seconds": TRY_SECONDS,
    }
    try:
        await connection.rollback()
        rows = (await connection.execute(_HOLDERS, asked)).all()
        await connection.rollback()
    except sa.exc.DBAPIError:  # the answer would only be a comfort
        rows = []
    held = {row.pid or row.gid: f"{row.held} is held by {_shown(row)}" for row in rows}
    return "; ".join([*held.values()][:3]) or f"{table} is held by another session"


def _shown(row: Any) -> str:
    if row.pid is None:
        return f"the prepared transaction {row.gid!r} (since {row.since})"
    facts = [f"user {row.usename}", f"application {row.application_name or 'unknown'}"]
    facts += [f"since {row.since}"] if row.since else []
    facts += [row.state] if row.state else []
    query = shown_text(LITERAL.sub("'***'", row.query or ""))
    query = query if len(query) <= _QUERY_CHARACTERS else f"{query[: _QUERY_CHARACTERS - 1]}…"
    return f"pid {row.pid} ({', '.join(map(shown_text, facts))}): {query}"
