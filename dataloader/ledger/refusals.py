"""Why a load that the ledger knows is neither begun nor continued, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataloader.errors import CheckpointError, UnfinishedLoad
from dataloader.formatting import quantity
from dataloader.ledger.entries import is_running, unreadable
from dataloader.ledger.owners import shown_owner

if TYPE_CHECKING:
    from dataloader.plan import LoadPlan


def readable(found: Any) -> Any:
    name = unreadable(found)
    if name is not None:
        hint = "Correct it, or load from the beginning with resume=False once the table is empty."
        what = f"the ledger's row of the load {found.load_id!r} cannot be read: its {name} is {getattr(found, name)!r}"
        raise CheckpointError(what, hint=hint, committed_rows=0)
    return found


def table_changed(target: str, change: str, load_id: str) -> CheckpointError:
    hint = "Load from the beginning with resume=False, once the table holds none of its rows."
    return CheckpointError(
        f"the load {load_id!r} cannot continue: the table {target} {change}", hint=hint, committed_rows=0
    )


def not_asked_to_resume(found: Any, rows_in_all: int | None) -> CheckpointError:
    """The error of a load that is known to the ledger, where nobody has said whether it is to be continued."""
    rows = quantity(found.loaded, "row", rows_in_all)
    if found.state == "finished":
        what = f"the load {found.load_id!r} into {found.target} is finished, with {rows}"
        hint = "Pass resume=True to have that confirmed, or another load_id to load them again."
        return CheckpointError(what, hint=hint, committed_rows=0)
    what = f"a load of the same data into {found.target} did not finish, with {rows} committed"
    hint = (
        "Continue it with resume=True, or load from the beginning with resume=False "
        f"once the table holds none of its rows (its load_id is {found.load_id!r})."
    )
    return UnfinishedLoad(what, hint=hint, committed_rows=0, load_id=found.load_id)


def refuse_as_a_whole(found: Any) -> None:
    if found.state == "unfinished" and found.chunks:
        rows = quantity(found.loaded, "row")
        what = f"the load {found.load_id!r} has committed {rows} chunk by chunk, so it is not one transaction any more"
        hint = "Continue it with commit='chunk' and resume=True, or load from the beginning with resume=False "
        hint += "once the table holds none of its rows."
        raise UnfinishedLoad(what, hint=hint, committed_rows=0, load_id=found.load_id)


def refuse_other_chunks(found: Any, plan: LoadPlan) -> None:
    if found.chunk_rows != plan.chunk_rows:
        what = f"the load {found.load_id!r} was begun in chunks of {found.chunk_rows:,} rows, not {plan.chunk_rows:,}"
        raise CheckpointError(what, hint=f"Pass chunk_rows={found.chunk_rows}.", committed_rows=0)


def refuse_running(found: Any) -> None:
    if is_running(found):
        hint = "Wait for it, or end it: then resume=True loads what is left."
        what = f"{shown_owner(found.owner)} is loading {found.source} into {found.target} now"
        raise CheckpointError(what, hint=hint, committed_rows=0)
