"""What is looked at of a PostgreSQL server before loads: one line each, with what to do."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.database.backends.base import driver_of
from dataloader.database.backends.checking import Finding, Level

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName

SHORT_SECONDS = 60.0
"""A statement_timeout below this may end the statement of one chunk, or the making of an index."""
_SERVER = sa.text("""
SELECT pg_catalog.current_setting('server_version') AS version, current_user AS role,
    pg_catalog.pg_backend_pid() AS pid,
    pg_catalog.current_setting('server_encoding') AS encoding, pg_catalog.pg_is_in_recovery() AS is_replica,
    pg_catalog.current_setting('default_transaction_read_only') AS read_only,
    pg_catalog.inet_server_addr() IS NULL AS is_socket, pg_catalog.host(pg_catalog.inet_server_addr()) AS address,
    (SELECT s.version FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid() AND s.ssl) AS tls
""")
_TIMEOUTS = sa.text("""
SELECT s.name, CAST(s.reset_val AS pg_catalog.int8) / 1000.0 AS seconds FROM pg_catalog.pg_settings s
WHERE s.name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout', 'transaction_timeout',
    'idle_session_timeout') AND s.reset_val <> '0' ORDER BY s.name
""")
CONNECTIONS = sa.text("""
SELECT CAST(LEAST(
        pg_catalog.current_setting('max_connections')::pg_catalog.int4
        - CASE WHEN r.rolsuper THEN 0 ELSE
            pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4
            + COALESCE(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int4, 0) END - used.server,
        CASE WHEN r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit - used.role END,
        CASE WHEN d.datconnlimit < 0 THEN NULL ELSE d.datconnlimit - used.database END
    ) AS pg_catalog.int4) AS free,
    pg_catalog.current_setting('max_connections')::pg_catalog.int4 AS most
FROM pg_catalog.pg_roles r, pg_catalog.pg_database d, (
    SELECT pg_catalog.count(*) AS server,
        pg_catalog.count(*) FILTER (WHERE a.usename = current_user) AS role,
        pg_catalog.count(*) FILTER (WHERE a.datname = pg_catalog.current_database()) AS database
    FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL
) used
WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()
""")
_SCHEMA = sa.text("""
SELECT n.nspname AS name, pg_catalog.has_schema_privilege(n.oid, 'CREATE') AS may_create,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS may_use
FROM pg_catalog.pg_namespace n
WHERE n.nspname = COALESCE(CAST(:schema AS pg_catalog.text), pg_catalog.current_schema())
""")
_TABLE = sa.text("""
SELECT c.relkind AS kind, pg_catalog.row_security_active(c.oid) AS has_policies,
    pg_catalog.has_table_privilege(c.oid, 'INSERT') AS "INSERT",
    pg_catalog.has_table_privilege(c.oid, 'SELECT') AS "SELECT",
    pg_catalog.has_table_privilege(c.oid, 'UPDATE') AS "UPDATE",
    pg_catalog.has_table_privilege(c.oid, 'TRUNCATE') AS "TRUNCATE"
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND n.nspname = COALESCE(CAST(:schema AS pg_catalog.text), pg_catalog.current_schema())
""")
_WHAT_FOR = {
    "SELECT": "on_conflict=, verify=True and update_rows",
    "UPDATE": "on_conflict='update' and update_rows",
    "TRUNCATE": "if_exists='truncate', which then deletes the rows instead if it may",
}


async def check(connection: AsyncConnection, table: TableName | None, *, is_ours: bool) -> list[Finding]:
    """The connection, the server, its time limits, and what the role may do."""
    server = (await connection.execute(_SERVER)).one()
    timeouts = (await connection.execute(_TIMEOUTS)).all()
    found = [
        Finding("ok", "connection", f"connected to PostgreSQL {server.version} as {server.role}"),
        _encryption(server),
        await _pooler(connection, server, is_ours=is_ours),
        *_state(server),
        *map(_timeout, timeouts),
        *([] if timeouts else [Finding("ok", "time limits", "the server sets none for this role")]),
    ]
    return [*found, *(await _rights(connection, table, server.role))]


def _encryption(server: Any) -> Finding:
    if server.is_socket:
        return Finding("ok", "encryption", "a local socket: nothing to encrypt")
    if server.tls:
        return Finding("ok", "encryption", f"encrypted by {server.tls}")
    if ipaddress.ip_address(server.address).is_loopback:
        return Finding("ok", "encryption", "not encrypted, and it does not leave the machine")
    remedy = "Add sslmode=require to the URL, or verify-full, which also asks who answers."
    return Finding("note", "encryption", "not encrypted: password and rows can be read on their way", remedy)


async def _pooler(connection: AsyncConnection, server: Any, *, is_ours: bool) -> Finding:
    """A pooler shows by the backend's pid, which is not the one that the connection was told."""
    driver = await driver_of(connection)
    asked = getattr(driver, "get_server_pid", None)
    told = asked() if asked is not None else getattr(getattr(driver, "info", None), "backend_pid", server.pid)
    if told == server.pid:
        return Finding("ok", "pooler", "none in between")
    if is_ours:
        says = "through a pooler: no session of the server is kept; this engine's settings are made for that"
        return Finding("note", "pooler", says, "Let the pooler have at least as many server connections as workers=.")
    says = "through a pooler, and the engine was not made by connect(): statements that are prepared by name fail"
    return Finding("problem", "pooler", says, "Use an engine of connect(url), which names none.")


def _state(server: Any) -> Iterator[Finding]:
    if server.is_replica:
        remedy = "Name the primary in the URL: several hosts, and target_session_attrs=read-write, find it."
        yield Finding("problem", "state", "the server is a replica, in recovery: nothing can be written", remedy)
    elif server.read_only == "on":
        remedy = "ALTER ROLE ... SET default_transaction_read_only = off, or connect as another role."
        yield Finding("problem", "state", "transactions are read-only (default_transaction_read_only)", remedy)
    else:
        yield Finding("ok", "state", "it can be written to")
    if server.encoding != "UTF8":
        remedy = "Make a database with ENCODING 'UTF8', or expect such values to be refused."
        says = f"the database stores texts as {server.encoding}: characters that it lacks are refused"
        yield Finding("note", "encoding", says, remedy)


_LIMITS = {
    "statement_timeout": ("ends a statement, like that of one chunk", "Raise it for the role, or load smaller chunks."),
    "idle_in_transaction_session_timeout": (
        "ends a session whose transaction waits for a slow source",
        "Load by chunks (commit='chunk'), or raise it: connect_args={'server_settings': {...}}.",
    ),
    "transaction_timeout": ("ends a longer transaction", "Load by chunks (commit='chunk'), or raise it."),
    "lock_timeout": ("is not heeded: loads wait for locks by a limit of their own", ""),
    "idle_session_timeout": ("ends idle connections of the pool", "Use an engine of connect(url): it tests them."),
}


def _timeout(limit: Any) -> Finding:
    seconds = float(limit.seconds)
    does, remedy = _LIMITS[limit.name]
    is_short = limit.name in {"statement_timeout", "transaction_timeout"} and seconds < SHORT_SECONDS
    level: Level = "problem" if is_short else "note" if remedy else "ok"
    return Finding(level, "time limits", f"{limit.name} is {seconds:g} s: it {does}", remedy)


async def _rights(connection: AsyncConnection, table: TableName | None, role: str) -> list[Finding]:
    schema = None if table is None else table.schema
    found = (await connection.execute(_SCHEMA, {"schema": schema})).one_or_none()
    if found is None and schema is None:
        remedy = f"GRANT USAGE ON SCHEMA ... TO {role}, or name the schema: 'sales.orders'."
        return [Finding("problem", "rights", f"{role} may use no schema of its search_path", remedy)]
    if found is None or not found.may_use:
        what = f"there is no schema {schema}" if found is None else f"{role} may not use the schema {found.name}"
        remedy = "Create it: CREATE SCHEMA ..." if found is None else f"GRANT USAGE ON SCHEMA {found.name} TO {role}."
        return [Finding("problem", "rights", what, remedy)]
    there = None
    if table is not None:
        there = (await connection.execute(_TABLE, {"schema": schema, "name": table.name})).mappings().one_or_none()
    if there is not None:
        return [*_table_rights(there, table, role)]
    what = f"create tables in the schema {found.name}"
    if found.may_create:
        return [Finding("ok", "rights", f"{role} may {what}")]
    remedy = f"GRANT CREATE ON SCHEMA {found.name} TO {role}, or load into a table that is there."
    return [Finding("note" if table is None else "problem", "rights", f"{role} may not {what}", remedy)]


def _table_rights(there: Any, table: TableName | None, role: str) -> Iterator[Finding]:
    if not there["INSERT"]:
        yield Finding("problem", "rights", f"{role} may not insert into {table}", f"GRANT INSERT ON {table} TO {role}.")
    else:
        yield Finding("ok", "rights", f"{role} may insert into {table}")
    lacking = [name for name in _WHAT_FOR if not there[name]]
    for name in lacking:
        yield Finding("note", "rights", f"{role} lacks {name} on {table}, for {_WHAT_FOR[name]}", f"GRANT {name} ...")
    if there["has_policies"]:
        remedy = "Load as the table's owner, or as a role with BYPASSRLS, to have COPY."
        yield Finding("note", "rights", f"{table} has row-level security: rows go in by INSERT", remedy)


async def free(connection: AsyncConnection) -> tuple[int, int]:
    """How many connections the role could still open, of how many."""
    row = (await connection.execute(CONNECTIONS)).one()
    return max(0, row.free), row.most
