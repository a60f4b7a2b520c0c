"""Where a stream is cut into chunks: what an earlier run has committed of it is cut there again, to be compared."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dataloader.conversion.converter import Converted, Converter
from dataloader.database.session import Session
from dataloader.errors import CheckpointError, ValidationError
from dataloader.ledger.digest import chunk_digest
from dataloader.ledger.entries import DIGESTED_ROWS, TABLES, beginning
from dataloader.ledger.lookup import committed_rows, loads_into
from dataloader.loading import workers
from dataloader.sources.cuts import Cuts
from dataloader.sync import in_thread
from dataloader.transactions import BUFFER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad
    from dataloader.loading.execution import LoadExecution

T = TypeVar("T")


async def find_cuts(execution: LoadExecution, distinct: Callable[[Converted], Converted] | None) -> None:
    """Find out where a stream is cut, before it is read: once an earlier run of the load has ended for certain.

    Parameters
    ----------
    distinct : callable or None
        Takes out of a chunk the rows that give way to another one with their key.
    """
    plan, options = execution.plan, execution.options
    limit = plan.chunk_seconds or math.inf
    execution.cuts = Cuts(max(limit, BUFFER_SECONDS) if plan.buffers else limit)
    if execution.ledger_load is not None:  # a shard's
        _follow(execution, execution.ledger_load.committed)
    elif _begins_anew(execution):
        return
    elif options.load_id is None:
        await _recognize(execution, distinct)
    elif options.resume:
        await _follow_load(execution, options.load_id)


def _begins_anew(execution: LoadExecution) -> bool:
    """Whether no earlier load is looked for."""
    plan, options = execution.plan, execution.options
    replaces = plan.filled != plan.table.name and options.resume is None
    is_known = plan.commit == "chunk" or plan.unfinished
    return options.resume is False or replaces or not is_known or not plan.exists


async def _recognize(execution: LoadExecution, distinct: Callable[[Converted], Converted] | None) -> None:
    """Look among the loads that are not named for one that begins with the rows of the stream."""
    plan, resume = execution.plan, execution.options.resume
    rows = plan.unfinished
    if plan.commit == "chunk":
        rows = await _asked(
            execution, lambda connection: loads_into(connection, plan.table.name, finished=bool(resume))
        )
    known: dict[int, dict[str, Any]] = {}
    for one in reversed(rows):  # the newest counts
        if (begins := beginning(one)) is not None:
            known.setdefault(begins[1], {})[begins[0]] = one
    convert = Converter(plan.columns, execution.source.label)
    for count in sorted(known):
        head = await execution.source.head(count)
        if head is None:
            continue
        converted = await in_thread(convert, head, 0)
        with contextlib.suppress(ValidationError):  # two of them have one key: no chunk began like that
            converted = converted if distinct is None else distinct(converted)
        found = known[count].get(chunk_digest(converted.batch.slice(0, DIGESTED_ROWS)))
        if found is not None:
            execution.recognized = found
            if resume:
                await _follow_load(execution, found.load_id)
            return


async def _follow_load(execution: LoadExecution, load_id: str) -> None:
    name = execution.plan.table.name
    _follow(execution, await _asked(execution, lambda connection: committed_rows(connection, name, load_id)))


def _follow(execution: LoadExecution, committed: Mapping[int, Checkpoint]) -> None:
    execution.cuts.follow(_ranges(committed))


def _ranges(committed: Mapping[int, Checkpoint]) -> dict[int, tuple[int, int]]:
    return {number: (one.first_row, one.rows) for number, one in committed.items()}


async def _asked(execution: LoadExecution, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    async def ask(session: Session) -> T:
        opening = session.backend.opening_sql(workers.LOCK_SECONDS)
        async with session.transaction(*opening, is_last=False) as connection:
            return await work(connection)

    session = Session(execution.engine, execution.plan.table.name, *TABLES, borrowed=execution.borrowed)
    return await workers.retrying()(session.run, ask)


def check_cuts(execution: LoadExecution, load: LedgerLoad) -> None:
    """Refuse to compare chunks of a stream that is cut elsewhere.

    Raises
    ------
    CheckpointError
        When another process has committed some of them since the stream was begun.
    """
    if not execution.cuts.is_followed(_ranges(load.committed)):
        what = f"another process has committed rows of the load {load.load_id!r} while this one began to read"
        hint = f"Run it again, with load_id={load.load_id!r} and resume=True."
        raise CheckpointError(what, hint=hint, committed_rows=0)
