"""The ledger: what has been committed of each load, in tables beside the target, in the rows' own transactions.

Before its rows a chunk is claimed: the chunk's row is inserted, or it is there already. So a chunk is
stored once whatever happens: after a lost reply to a commit, the claim waits for the transaction in doubt and
then tells; of two processes, one gets it. The last statement before the commit counts the chunk in the load's
row, if that still names the same owner.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from dataloader.conversion.violations import REJECT_COLUMNS, Violation
from dataloader.database import locks
from dataloader.database.schema import Fingerprint
from dataloader.errors import CheckpointError, PlanError
from dataloader.ledger.beside import drop_beside, settle_in, table_beside
from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad, sealed, source_changed, unsealed
from dataloader.ledger.entries import (
    EVERY_TABLE,
    MADE,
    TOTALS,
    aware,
    exists,
    forget_load,
    is_running,
    is_same_beginning,
    is_shard,
    ledger_tables,
    needed,
    select_loads,
    unreadable,
)
from dataloader.ledger.lookup import committed_chunks, locked_load
from dataloader.ledger.owners import Owner
from dataloader.ledger.refusals import (
    not_asked_to_resume,
    readable,
    refuse_other_chunks,
    refuse_running,
    table_changed,
)
from dataloader.ledger.shards import refuse_whole
from dataloader.ledger.trust import refusal
from dataloader.rejects import json_rows, refused_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends import Backend
    from dataloader.database.watchdog import Watchdog
    from dataloader.plan import LoadPlan

KEPT_ROWS = 1_000
"""So many rejects are sent at once."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a load asks of the ledger.

    Attributes
    ----------
    load_id : str or None
        The caller's name for it.
    source_digest : str
        The digest of its first rows, by which an unnamed load is found again.
    options : dict
        The loader and its options, for who continues it.
    whole : str or None
        The name of the load that it is a shard of.
    replaces : bool
        Whether its rows are committed beside the table, whose rows they replace in the end.
    """

    load_id: str | None
    resume: bool | None
    source_digest: str
    options: Mapping[str, Any]
    if_exists: str = "append"
    replaces: bool = False
    whole: str | None = None


class Ledger:
    """The ledger beside a plan's table.

    Every method runs in the caller's transaction.
    """

    def __init__(self, plan: LoadPlan, backend: Backend) -> None:
        self._plan = plan
        self._target = plan.table.name.spelled
        self._backend = backend
        self._loads, self._chunks, self._rejects = loads, chunks, _ = ledger_tables(plan.table.name.schema)
        self._columns = [column.name for column in plan.columns]
        self._fingerprints = backend.fingerprints(plan.filled, self._columns)
        entered = backend.insert_or_skip(chunks).values({name: sa.bindparam(name) for name in chunks.c.keys()})
        self._claim = backend.prepare(entered.returning(self._fingerprints.column))
        added = {
            name: loads.c[name] + sa.bindparam(f"more_{name}") for name in ("chunks", "rows", "loaded", "rejected")
        }
        mine = sa.update(loads).where(loads.c.load_id == sa.bindparam("load"), loads.c.owner == sa.bindparam("by"))
        self._count = backend.prepare(mine.values(**added, last_commit_at=self._backend.now).returning(loads.c.load_id))
        self._finish = backend.prepare(mine.values(state="finished").returning(loads.c.load_id))

    async def owned(self, connection: AsyncConnection, owner: Owner) -> LedgerLoad | None:
        """The load that this owner has entered already, in a commit whose reply was lost."""
        await self.prepare(connection)
        query = sa.select(self._loads.c.load_id).where(self._loads.c.owner == str(owner))
        load_id = (await connection.execute(query)).scalar_one_or_none()
        return None if load_id is None else await self._locked(connection, load_id, owner)

    async def begin(
        self, connection: AsyncConnection, request: Request, owner: Owner, make: Callable[[], Awaitable[None]]
    ) -> LedgerLoad:
        """Enter a load, or take up an unfinished one, after the plan's DDL.

        Parameters
        ----------
        make : callable
            Carries out the DDL; a table beside the target is there when a load is taken up that fills it.

        Raises
        ------
        CheckpointError
            When it would lose rows or store some twice; see the classes below it.
        """
        if not request.replaces:
            await make()
        found = await self._find(connection, request)
        if found is not None:
            self._check(found)
            if _is_continued(request, found):
                return await self._take_up(connection, request, found, owner)
            await self._forget(connection, found)
        if request.replaces:
            await self._drop_others(connection)
            await make()
        elif request.if_exists != "append" and not self._plan.creates_table:
            hint = "Leave resume=True out: no load of this data is known that it could continue."
            raise PlanError(f"the table {self._plan.table.name} exists already", hint=hint, committed_rows=0)
        load = await self._new_load(connection, request, owner)
        await connection.execute(sa.insert(self._loads).values(self._entry(load, request)))
        return load

    async def claim_load(self, connection: AsyncConnection, request: Request, owner: Owner) -> LedgerLoad | None:
        """Enter a named load in the transaction of its rows; None if one of that name is there, which `begin` judges.

        Waits for another transaction that has entered it and is still open.
        """
        if request.resume is False and (found := await self._find(connection, request)) is not None:
            self._check(found)
            await self._forget(connection, found)
        load = await self._new_load(connection, request, owner)
        entering = self._backend.insert_or_skip(self._loads).values(self._entry(load, request))
        entered = await connection.execute(entering.returning(self._loads.c.load_id))
        return load if entered.scalar_one_or_none() is not None else None

    async def _new_load(self, connection: AsyncConnection, request: Request, owner: Owner) -> LedgerLoad:
        now = await self.fingerprint(connection)
        if request.replaces:
            now = replace(now, beside=self._plan.filled.name)
        return LedgerLoad(request.load_id or f"{self._plan.table.name.name}-{owner.token[:8]}", owner, now)

    def _check(self, found: Any) -> None:
        """Whether a load that is known may be taken up or forgotten."""
        refuse_whole(found)
        self._check_target(found)
        refuse_running(found)

    async def _forget(self, connection: AsyncConnection, found: Any) -> None:
        await drop_beside(connection, found, self._plan.table.name)
        await forget_load(connection, self._loads.schema, found.load_id)

    async def fingerprint(self, connection: AsyncConnection) -> Fingerprint:
        """The table as it is, which is there by now."""
        now = await self._fingerprints.take(connection)
        assert now is not None
        return now

    async def prepare(self, connection: AsyncConnection) -> None:
        """Make the tables that are missing; one process at a time gets past this.

        They are looked for first: IF NOT EXISTS would want the right to create them even where they exist, and would
        take whatever somebody else has put there since.
        """
        names = needed(keeps_rejects=self._plan.keeps_rejects)
        await self._backend.advisory_lock(connection, locks.ENTERING)
        why = await refusal(connection, EVERY_TABLE, names, self._plan.table.name)
        if why is not None:
            raise CheckpointError(f"the load cannot use its ledger: {why}", hint="", committed_rows=0)
        there = {one.name for one in await self._backend.table_rights(connection, names, self._loads.schema)}
        for table in (self._loads, self._chunks, self._rejects):
            if table.name in set(names) - there:
                await connection.execute(CreateTable(table))

    async def _find(self, connection: AsyncConnection, request: Request) -> Any:
        """The row of the load that the request means, None if it is a new one."""
        loads, query = self._loads.c, select_loads(self._loads)
        if request.load_id is not None:
            found = (await connection.execute(query.where(loads.load_id == request.load_id))).one_or_none()
            return found if found is None or request.resume is False else readable(found)
        here = (await connection.execute(query.where(loads.target == self._target))).all()
        mine = request.source_digest
        same = [row for row in here if row.source_digest == mine or is_same_beginning(row.source_digest, mine)]
        for row in same:
            asked = request.resume is True and (not request.replaces or await self._is_there(connection, row))
            if row.state == "unfinished" or asked:
                return readable(row)
        here = [row for row in here if unreadable(row) is None]
        await self._settle_others(connection, request, here)
        return None

    async def _is_there(self, connection: AsyncConnection, found: Any) -> bool:
        """Whether a finished load is still what the table has: else its rows are replaced like any others."""
        now = await self._backend.fingerprints(self._plan.table.name, self._columns).take(connection)
        return now is not None and Fingerprint(**json.loads(readable(found).fingerprint)).changes(now) is None

    async def _drop_others(self, connection: AsyncConnection) -> None:
        """Forget what other loads have left unfinished beside the table: its rows are about to be others."""
        query = select_loads(self._loads).where(self._loads.c.target == self._target)
        for row in (await connection.execute(query)).all():
            if table_beside(row, self._plan.table.name) is not None:
                refuse_running(row)
                await self._forget(connection, row)

    async def _settle_others(self, connection: AsyncConnection, request: Request, here: Sequence[Any]) -> None:
        """Refuse data that may well be meant to continue another load; resume=False forgets that one."""
        if request.replaces:
            return
        for row in here:
            other = row.source == self._plan.source and row.state == "unfinished" and row.chunks > 0
            if not other or row.source_digest == row.load_id or is_shard(row) or is_running(row):
                continue
            if request.resume is not False:
                refuse_other_chunks(row, self._plan)
                raise source_changed(0, f"its first rows are not those of the unfinished load {row.load_id!r}")
            await forget_load(connection, self._loads.schema, row.load_id)

    def _check_target(self, found: Any) -> None:
        if found.target != self._target:
            hint = "Pass another load_id."
            raise CheckpointError(
                f"the load {found.load_id!r} goes into {found.target}, not {self._target}", hint=hint, committed_rows=0
            )

    async def _take_up(self, connection: AsyncConnection, request: Request, found: Any, owner: Owner) -> LedgerLoad:
        if request.resume is None and (found.chunks or found.state == "finished"):
            raise not_asked_to_resume(found, self._plan.rows)
        refuse_other_chunks(found, self._plan)
        load = await self._locked(connection, found.load_id, owner)
        at = self._fingerprints
        if load.finished:  # what was filled beside the table is in it by now
            at = self._backend.fingerprints(self._plan.table.name, self._columns)
        self._check_table(load, await at.take(connection))
        stay = 0 if self._plan.merge is not None else load.loaded  # a row that was updated is counted again
        if not await self._backend.has_row_count(connection, self._plan.table.name, stay):
            raise table_changed(self._target, "has fewer rows than were committed", load.load_id)
        if not load.finished:
            taken = sa.update(self._loads).where(self._loads.c.load_id == load.load_id)
            await connection.execute(taken.values(owner=str(owner), last_commit_at=self._backend.now))
        return load

    async def _locked(self, connection: AsyncConnection, load_id: str, owner: Owner) -> LedgerLoad:
        """The load as it is once nobody can commit a chunk of it any more: all count in the row that is locked here."""
        query = sa.select(self._loads).where(self._loads.c.load_id == load_id).with_for_update()
        found = (await connection.execute(query)).one()
        load = locked_load(found, owner)
        load.committed = await committed_chunks(connection, self._loads.schema, found, load)
        return load

    def _entry(self, load: LedgerLoad, request: Request) -> dict[str, Any]:
        return {
            "load_id": load.load_id,
            "target": self._target,
            "source": self._plan.source,
            "source_digest": request.whole or request.load_id or request.source_digest,
            "chunk_rows": self._plan.chunk_rows,
            "fingerprint": json.dumps(asdict(load.fingerprint)),
            "options": json.dumps(
                {**request.options, MADE: [one.name for one in self._plan.columns if one.is_created]}
            ),
            "owner": str(load.owner),
            "state": "unfinished",
            **dict.fromkeys(TOTALS, 0),
            "started_at": self._backend.now,
            "last_commit_at": self._backend.now,
        }

    async def claim(self, connection: AsyncConnection, load: LedgerLoad, chunk: Checkpoint) -> Checkpoint | None:
        """Enter a chunk as committed; if it is so already, return its checkpoint.

        Waits for another transaction that has entered it and is still open.

        Raises
        ------
        CheckpointError
            When the table, which must be locked, is not the one that the load began with.
        """
        entered = await self._claim.fetch(connection, load_id=load.load_id, **sealed(load, chunk))
        if entered:
            taken = entered[0][0]
            self._check_table(load, Fingerprint(*taken) if taken else await self._fingerprints.take(connection))
            return None
        columns = [self._chunks.c[name] for name in Checkpoint.__slots__]
        query = sa.select(*columns).where(self._chunks.c.load_id == load.load_id, self._chunks.c.chunk == chunk.chunk)
        return unsealed(load, (await connection.execute(query)).one())

    def _check_table(self, load: LedgerLoad, now: Fingerprint | None) -> None:
        change = "is gone" if now is None else load.fingerprint.changes(now)
        if change is not None:
            raise table_changed(self._target, change, load.load_id)

    async def keep(
        self,
        connection: AsyncConnection,
        load: LedgerLoad,
        chunk: Checkpoint,
        *,
        batch: pa.RecordBatch,
        violations: Sequence[Violation],
        watchdog: Watchdog,
    ) -> None:
        """Keep the rows of a chunk that were refused: as they stand in `batch`, the source's, and why."""
        if not violations:
            return
        rows, reasons, _ = await asyncio.to_thread(refused_rows, batch, chunk.first_row, violations)
        fixed = {"load_id": load.load_id, "chunk": chunk.chunk}
        for start in range(0, rows.num_rows, KEPT_ROWS):
            values = await asyncio.to_thread(json_rows, rows.slice(start, KEPT_ROWS))
            told = [*(part.slice(start, KEPT_ROWS).to_pylist() for part in reasons), values]
            columns = {name: list(map(_storable, one)) for name, one in zip(_KEPT, told, strict=True)}
            await connection.execute(*self._backend.insert_rows_query(self._rejects, fixed, columns))
            watchdog.reset_timeout()

    async def kept(self, connection: AsyncConnection, load: LedgerLoad, chunk: int) -> Sequence[Any]:
        """Which rows of a committed chunk were refused, and why, as far as the ledger knows."""
        if not await exists(connection, self._rejects):
            return []
        columns, mine = (
            self._rejects.c,
            sa.and_(self._rejects.c.load_id == load.load_id, self._rejects.c.chunk == chunk),
        )
        query = sa.select(*(columns[name] for name in REJECT_COLUMNS)).where(mine).order_by(columns.reject_row)
        return (await connection.execute(query)).all()

    async def count(
        self, connection: AsyncConnection, load: LedgerLoad, claimed: Checkpoint, stored: Checkpoint
    ) -> None:
        """Count a chunk that was claimed and written in the load's row: the last statement before the commit.

        Parameters
        ----------
        stored : Checkpoint
            The chunk with the rows that are really in the table.

        Raises
        ------
        CheckpointError
            When another process has taken the load over.
        """
        if stored != claimed:
            mine = sa.and_(self._chunks.c.load_id == load.load_id, self._chunks.c.chunk == claimed.chunk)
            await connection.execute(sa.update(self._chunks).where(mine).values(sealed(load, stored)))
        sizes = (1, stored.rows, stored.loaded, stored.rejected)
        more = {f"more_{name}": size for name, size in zip(TOTALS, sizes, strict=True)}
        _check_owned(load, await self._count.fetch(connection, load=load.load_id, by=str(load.owner), **more))

    async def finish(self, connection: AsyncConnection, load: LedgerLoad) -> None:
        """Enter that the load is complete."""
        _check_owned(load, await self._finish.fetch(connection, load=load.load_id, by=str(load.owner)))
        if self._plan.filled != self._plan.table.name:
            await self._settle_in(connection, load)

    async def is_finished(self, connection: AsyncConnection, load: LedgerLoad) -> bool:
        """Whether it is entered already that the load is complete."""
        query = sa.select(self._loads.c.state).where(self._loads.c.load_id == load.load_id).with_for_update()
        return (await connection.execute(query)).scalar_one_or_none() == "finished"

    async def _settle_in(self, connection: AsyncConnection, load: LedgerLoad) -> None:
        found = (await connection.execute(sa.select(self._loads).where(self._loads.c.load_id == load.load_id))).one()
        committed = await committed_chunks(connection, self._loads.schema, found, load)
        now = await self._backend.fingerprints(self._plan.table.name, self._columns).take(connection)
        assert now is not None
        await settle_in(connection, (self._loads, self._chunks), load, [*committed.values()], now)

    async def loaded_before(self, connection: AsyncConnection, load: LedgerLoad) -> dt.datetime | None:
        """When a load of exactly the same chunks into the same table was finished, None if none is known."""
        if self._plan.merge is not None:
            return None
        loads, mine, chunks = self._loads.c, self._loads.alias().c, self._chunks.c
        finished = (loads.target == self._target, loads.state == "finished", loads.load_id != load.load_id)
        as_many = (loads[name] == mine[name] for name in TOTALS)
        found = await connection.execute(
            select_loads(self._loads).where(mine.load_id == load.load_id, *finished, *as_many)
        )
        content = sa.select(chunks.chunk, chunks.digest).order_by(chunks.chunk)
        for one in found.all():
            if unreadable(one) or Fingerprint(**json.loads(one.fingerprint)).changes(load.fingerprint):
                continue  # the table is another one now, or was emptied
            ours, others = [
                [(row.chunk, str(row.digest).partition(" ")[0]) for row in await connection.execute(asked)]
                for asked in (content.where(chunks.load_id == name) for name in (load.load_id, one.load_id))
            ]
            is_there = await self._backend.has_row_count(connection, self._plan.table.name, 2 * one.loaded)
            if ours == others and is_there:
                return aware(one.last_commit_at)
        return None

    async def release(self, connection: AsyncConnection, load: LedgerLoad) -> None:
        """Enter that nobody runs the load any more; this process may live on for long."""
        mine = sa.update(self._loads).where(self._loads.c.owner == str(load.owner), self._loads.c.state == "unfinished")
        await connection.execute(mine.values(owner=None))


def _is_continued(request: Request, found: Any) -> bool:
    """Whether a load that is known is taken up; one that has changed nothing of its table is begun anew."""
    if request.replaces and request.resume is None and found.state == "unfinished":
        return False
    return request.resume is not False


_KEPT = (*REJECT_COLUMNS, "reject_values")


def _storable(value: Any) -> Any:
    """PostgreSQL's text has no NUL."""
    return value.replace("\0", "\\0") if isinstance(value, str) else value


def _check_owned(load: LedgerLoad, updated: Sequence[Any]) -> None:
    if not updated:
        what = f"another process has taken the load {load.load_id!r} over, or it was forgotten"
        raise CheckpointError(what, hint="The chunk was not written. Let the other process finish.")
