"""Trust: whose tables may be a schema's ledger. Somebody else's triggers and policies would run with our rights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName


async def refusal(
    connection: AsyncConnection, names: Sequence[str], needed: Sequence[str], target: TableName
) -> str | None:
    """Why there cannot be a ledger beside the target, None if there can.

    Each of its tables that is there must be trusted, and those that are needed must be usable, or may be created.
    """
    found = await found_tables(connection, names, target.schema, target.name)
    distrusted = next(filter(None, map(distrust, found)), None)
    if distrusted or not found:  # no such schema: the DDL says so better
        return distrusted
    there = [one for one in found if one.name in needed]
    if all(one.usable for one in there) and (len(there) == len(needed) or found[0].may_create):
        return None
    what = "may not use the ledger's tables" if there else "may not create the ledger's tables"
    return (
        f"the role {found[0].role} {what} in schema {target.schema} "
        f"(an administrator runs what `python -m dataloader grants {target.schema}.TABLE {found[0].role}` prints)"
    )


async def found_tables(
    connection: AsyncConnection, names: Sequence[str], schema: str | None = None, target: str | None = None
) -> Sequence[Any]:
    """The tables of these names in one or in all of PostgreSQL's schemas, with what makes them trusted.

    A schema without them comes with the name None.
    """
    if connection.dialect.name != "postgresql":
        return []
    parameters = {"schema": schema, "target": target, "names": list(names)}
    return (await connection.execute(_FOUND, parameters)).all()


_FOUND = sa.text("""
SELECT n.nspname AS schema, c.relname AS name, current_user AS role, o.rolname AS owner, c.relkind = 'r' AS is_table,
       c.relpersistence = 'u' AS is_unlogged,
       pg_catalog.has_schema_privilege(n.oid, 'CREATE') AS may_create,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE')
           AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS may_read,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
           AND pg_catalog.has_table_privilege(c.oid, 'UPDATE') AS usable,
       o.rolsuper OR o.rolname = current_user OR COALESCE(o.oid = t.relowner, false) AS is_ours,
       c.relrowsecurity AS has_policies,
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid) AS has_rules,
       ARRAY(SELECT CAST(f.rolname AS pg_catalog.text) FROM pg_catalog.pg_trigger g
             JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid JOIN pg_catalog.pg_roles f ON f.oid = p.proowner
             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
               AND NOT (f.rolsuper OR f.rolname = current_user OR COALESCE(f.oid = t.relowner, false))) AS strangers
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = ANY (CAST(:names AS pg_catalog.text[]))
LEFT JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
LEFT JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = :target
WHERE n.nspname = COALESCE(:schema, n.nspname)
ORDER BY n.nspname, c.relname DESC
""").bindparams(
    sa.bindparam("names", type_=postgresql.ARRAY(sa.Text())),
    sa.bindparam("schema", type_=sa.Text()),
    sa.bindparam("target", type_=sa.Text()),
)


def distrust(found: Any, *, of_strangers: bool = False) -> str | None:
    """Why a ledger's table is not to be trusted: it could carry out somebody else's functions with our role's rights.

    Parameters
    ----------
    of_strangers : bool
        Whether it may belong to somebody else than this role, the target's owner or a superuser.
    """
    if found.name is None:
        return None
    reasons = (
        (not found.is_table, "is not a table"),
        (not (found.is_ours or of_strangers), f"belongs to {found.owner}"),
        (found.is_unlogged, "is UNLOGGED, so that a crash of the server empties it"),
        (found.has_policies, "has row-level security"),
        (found.has_rules, "has rules"),
        (bool(found.strangers), f"has a trigger of {', '.join(found.strangers)}"),
    )
    why = next((why for holds, why in reasons if holds), None)
    if why is None:
        return None
    return (
        f"{found.schema}.{found.name} {why}, and only a plain table of this role, of the target's owner or of a "
        "superuser is trusted to be its ledger (an administrator drops it, or sees to that)"
    )
