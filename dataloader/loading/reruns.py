"""Reruns: the process remembers which rows it has loaded where, so that the same ones again are not loaded silently."""

from __future__ import annotations

import datetime as dt
import logging
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from dataloader.formatting import quantity

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import Fingerprint
    from dataloader.loading.execution import LoadExecution

REMEMBERED = 10_000
"""Loads, of a process that may live for months."""
_log = logging.getLogger("dataloader")
_loads: OrderedDict[tuple[Hashable, str, str], _Load] = OrderedDict()
_in_memory: weakref.WeakKeyDictionary[sa.Engine, object] = weakref.WeakKeyDictionary()
"""What stands for a database in memory, which has no name that another one has not."""


class ContentDigest:
    """The digest of a source's chunks, in whichever order they are added."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, chunk: int, digest: str) -> None:
        self._sum = (self._sum + xxhash.xxh3_128_intdigest(f"{chunk} {digest}".encode())) % (1 << 128)

    def __str__(self) -> str:
        return f"{self._sum:032x}"


@dataclass(frozen=True, slots=True)
class _Load:
    at: dt.datetime
    rows: int
    table: Fingerprint


async def look_back(execution: LoadExecution, connection: AsyncConnection) -> None:
    """Find out, at the end of the load's last transaction, whether its rows are in the table already."""
    plan, load, known = execution.plan, execution.ledger_load, _loads.get(_key(execution))
    if not execution.loaded or (plan.merge is not None and plan.merge.merge.key) or execution.backend.ledger_obstacle:
        return
    columns = [column.name for column in plan.columns]
    of_table = execution.backend.fingerprints(plan.table.name, columns)
    execution.fingerprint = now = await of_table.take(connection) if load is None else load.fingerprint
    if plan.clears_table or plan.creates_table or known is None or now is None or known.table.changes(now):
        return
    if await execution.backend.has_row_count(connection, plan.table.name, known.rows + execution.loaded):
        execution.loaded_before = known.at


def note_rerun(execution: LoadExecution) -> None:
    """Remember a finished load; if the same rows were loaded into its table before, say so wherever it is shown."""
    if not execution.plan.dry_run and execution.borrowed is None:  # which may be rolled back
        _remember(execution)
    if execution.loaded_before is not None and execution.options.shard is None:  # which may be like another one
        _tell(execution, execution.loaded_before)


def _remember(execution: LoadExecution) -> None:
    plan, key = execution.plan, _key(execution)
    if plan.clears_table or plan.creates_table:
        for gone in [one for one in [*_loads] if one[:2] == key[:2]]:
            _loads.pop(gone, None)
    if execution.fingerprint is None:
        return
    _loads.pop(key, None)
    _loads[key] = _Load(dt.datetime.now().astimezone(), execution.loaded, execution.fingerprint)
    while len(_loads) > REMEMBERED:
        _loads.popitem(last=False)


def _tell(execution: LoadExecution, before: dt.datetime) -> None:
    rows = quantity(execution.loaded, "row") + (" was" if execution.loaded == 1 else " were")
    table, when = execution.plan.table.name, f"{before.astimezone():%Y-%m-%d %H:%M:%S}"
    notice = f"the same {rows} loaded into {table} before, at {when}"
    once = "pass load_id='a name for this data' with resume=True, or if_exists='truncate'"
    execution.progress.state.notice = notice
    execution.warnings.append(f"{notice}; to have them once, {once}")
    _log.info("%s", notice)


def _key(execution: LoadExecution) -> tuple[Hashable, str, str]:
    engine = execution.engine
    database: Hashable = str(engine.url.set(username=None, password=None))
    if execution.backend.is_in_memory(engine):
        database = _in_memory.setdefault(engine.sync_engine, object())
    return database, str(execution.plan.table.name), str(execution.content)
