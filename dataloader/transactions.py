"""Whether a load is one transaction or one for each chunk: decided by its size, its options and the database."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dataloader.database.replacing import WAYS, Replacement
from dataloader.database.schema import TableSchema
from dataloader.errors import PlanError
from dataloader.formatting import size
from dataloader.options import Commit, LoadOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.backends import Backend

ONE_TRANSACTION_ROWS = 500_000
"""Up to here a load is all or nothing unless something else is requested: it is cheap to begin again."""
CHUNK_SECONDS = 5.0
"""How long a row of a slow stream waits for its chunk to become full."""
BUFFER_BYTES, BUFFER_SECONDS = 1 << 25, 10.0
"""So much of a source whose row count is unknown is read, for so long, to know whether it has more rows than that."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source says of itself: its name, columns and number of rows, and whether it is in memory.

    Attributes
    ----------
    about : int or None
        How many rows there are, to judge by the size of files, where they are not counted.
    needs : mapping of str to ColumnType
        The types that columns of the table need for it, by name, where that was asked.
    is_live : bool
        Whether it is a stream, whose rows may come slowly.
    """

    name: str
    schema: pa.Schema
    rows: int | None
    in_memory: bool = False
    about: int | None = None
    needs: Mapping[str, ColumnType] = field(default_factory=dict)
    is_live: bool = False

    @property
    def is_sized(self) -> bool:
        """Whether it is known before the first row how many there are, if only about."""
        return self.rows is not None or self.about is not None


@dataclass(frozen=True, slots=True)
class Database:
    """What is known of the database: its backend, its name for people, and why it cannot keep a ledger.

    Attributes
    ----------
    connections : float
        How many connections the engine's pool gives out at once.
    knows_load : bool
        Whether its ledger knows a load of the name that the caller has given.
    """

    backend: Backend
    name: str
    ledger_refused: str | None = None
    connections: float = math.inf
    knows_load: bool = False


def choose_commit(
    options: LoadOptions, info: SourceInfo, obstacle: str | None, *, knows_load: bool = False
) -> dict[str, Any]:
    """When rows become visible and safe: at the end, all at once, or chunk by chunk.

    Raises
    ------
    PlanError
        When the caller asks for checkpoints and there can be none.
    """
    if obstacle is not None and (options.commit == "chunk" or options.is_named):
        hint = f"Leave {_asked(options)} out: the rows are then loaded in one transaction."
        if options.is_named:
            hint += " Delete those that an unfinished load has committed before."
        raise PlanError(f"the load cannot be committed chunk by chunk: {obstacle}", hint=hint)
    commit: Commit
    buffers = False
    if options.commit != "auto":
        commit, reason = options.commit, "it was requested"
    elif obstacle is not None:
        commit, reason = "load", obstacle
    elif options.shard is not None:
        commit, reason = "chunk", "it is shard {} of {}, and each is committed on its own".format(*options.shard)
    elif knows_load:
        commit, reason = "chunk", "the ledger knows this load, with whose chunks the rows are compared"
    elif options.is_named and not (options.may_be_whole and info.is_sized):
        unsized = "" if info.is_sized else ", and the row count is unknown"
        commit, reason = "chunk", f"a load that can be resumed was requested{unsized}"
    else:
        commit, reason, buffers = _commit_by_size(info)
    seconds = _chunk_seconds(options) if commit == "chunk" and info.is_live else None
    chosen = {"commit": commit, "commit_reason": reason, "buffers": buffers, "chunk_seconds": seconds}
    return chosen | {"is_entered": options.load_id is not None and commit == "load"}


def _asked(options: LoadOptions) -> str:
    """What the caller has passed that asks for checkpoints."""
    given = {"commit": options.commit == "chunk", "resume": options.resume, "load_id": options.load_id is not None}
    given |= {"shard": options.shard is not None, "resume": options.resume and options.shard is None}
    return " and ".join(f"{name}={getattr(options, name)!r}" for name, is_given in given.items() if is_given)


def _commit_by_size(info: SourceInfo) -> tuple[Commit, str, bool]:
    """One transaction for what is small; whether it is may be known only when it has been read."""
    rows = info.about if info.rows is None else info.rows
    if rows is None:
        limits = f"{ONE_TRANSACTION_ROWS:,} rows, {size(BUFFER_BYTES)} and {BUFFER_SECONDS:.0f} s of reading"
        return "chunk", f"the row count is unknown; one transaction for all if there are no more than {limits}", True
    there_are = "there are" if info.rows is not None else f"there are about {rows:,},"
    if rows > ONE_TRANSACTION_ROWS:
        return "chunk", f"{there_are} more than {ONE_TRANSACTION_ROWS:,} rows", False
    return "load", f"{there_are} no more than {ONE_TRANSACTION_ROWS:,} rows", False


def _chunk_seconds(options: LoadOptions) -> float:
    """How long rows of a stream wait for their chunk to become full.

    Where the outcome depends on which rows share a chunk, time has no say in it: of two rows with one key, those of one
    chunk are refused, and those of two are taken one after the other.
    """
    merges = options.on_conflict != "error"
    is_free = not merges or (options.on_conflict, options.duplicates) in {("update", "last"), ("ignore", "first")}
    return CHUNK_SECONDS if is_free else math.inf


def _as_a_whole(options: LoadOptions) -> str | None:
    """Why it is one transaction whatever is loaded."""
    if options.connection is not None:
        return "it is part of the caller's own, inside a savepoint"
    if options.returning is not None:
        return "the values that are returned come with one commit"
    if options.verify:
        return "what is verified is rolled back as a whole if it differs"
    if options.dry_run:
        return "a dry run is rolled back as a whole"
    if options.action != "load":
        done = {"update": "updated", "delete": "deleted", "sync": "compared with the table"}[options.action]
        return f"rows are {done} all at once"
    return None


def commit_obstacle(
    options: LoadOptions, table: TableSchema, database: Database, replacement: Replacement | None
) -> str | None:
    """Why the load cannot be committed chunk by chunk, None if it can."""
    if (whole := _as_a_whole(options)) is not None:
        return whole
    is_beside = replacement is not None and replacement.way in WAYS
    if options.if_exists in {"truncate", "replace"} and options.shard is None and not is_beside:
        why = "" if replacement is None or replacement.reason is None else f" ({replacement.reason})"
        return f"if_exists={options.if_exists!r} takes the old rows away in the commit that brings the new ones{why}"
    if is_beside and table.replaceable.published:
        return table.replaceable.published
    if database.backend.ledger_obstacle:
        return database.backend.ledger_obstacle
    if table.unwatched:
        return f"{table.unwatched}, where rows could vanish without the ledger's noticing"
    return database.ledger_refused
