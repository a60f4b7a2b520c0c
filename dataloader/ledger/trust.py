"""Trust: whose tables may be a schema's ledger. Somebody else's triggers and policies would run with our rights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataloader.database.backends import backend_for
from dataloader.database.schema import TableName
from dataloader.ledger.entries import FILES, LOADS, files_table, ledger_tables

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableRights


async def refusal(
    connection: AsyncConnection, names: Sequence[str], needed: Sequence[str], target: TableName
) -> str | None:
    """Why there cannot be a ledger beside the target, None if there can.

    Each of its tables that is there must be trusted, and those that are needed must be usable, or may be created.
    """
    found = await backend_for(connection.dialect).table_rights(connection, names, target.schema, target.name)
    distrusted = next(filter(None, map(distrust, found)), None)
    if distrusted or not found:  # no such schema: the DDL says so better
        return distrusted
    if (other := next(filter(None, map(other_columns, found)), None)) is not None:
        return f"{other} (finish its loads with the version that began them, and drop the ledger's tables)"
    there = [one for one in found if one.name in needed]
    if all(one.usable for one in there) and (len(there) == len(needed) or found[0].may_create):
        return None
    what = "may not use the ledger's tables" if there else "may not create the ledger's tables"
    return (
        f"the role {found[0].role} {what} in schema {target.schema} "
        f"(an administrator runs what `python -m dataloader grants {target.schema}.TABLE {found[0].role}` prints)"
    )


def distrust(found: TableRights, *, of_others: bool = False) -> str | None:
    """Why a ledger's table is not to be trusted: it could carry out somebody else's functions with our role's rights.

    Parameters
    ----------
    of_others : bool
        Whether it may belong to somebody else than this role, the target's owner or a superuser.
    """
    if found.name is None:
        return None
    reasons = (
        (not found.is_table, "is not a table"),
        (not (found.is_ours or of_others), f"belongs to {found.owner}"),
        (found.is_unlogged, "is UNLOGGED, so that a crash of the server empties it"),
        (found.has_policies, "has row-level security"),
        (found.has_rules, "has rules"),
        (bool(found.foreign_owners), f"has a trigger of {', '.join(found.foreign_owners)}"),
    )
    why = next((why for holds, why in reasons if holds), None)
    if why is None:
        return None
    return (
        f"{found.schema}.{found.name} {why}, and only a plain table of this role, of the target's owner or of a "
        "superuser is trusted to be its ledger (an administrator drops it, or sees to that)"
    )


def is_ledger(found: TableRights) -> bool:
    """Whether a table is this version's table of loads by its columns: it may be the caller's own, of that name."""
    return set(ledger_tables(found.schema)[0].c.keys()) <= set(found.columns)


def other_columns(found: TableRights) -> str | None:
    """That a table of loads or files has other columns than the ledger's, None if it has not."""
    is_files = found.name == FILES and not set(files_table(found.schema).c.keys()) <= set(found.columns)
    if not is_files and (found.name != LOADS or is_ledger(found)):
        return None
    return f"{found.name} in schema {found.schema} has other columns than this version's ledger"
