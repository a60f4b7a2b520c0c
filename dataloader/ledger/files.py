"""The files of a ledger: which ones are in the table, entered in the transaction that brings their rows.

A file is claimed before its rows, by its path: of two loads that find it new at the same time, one gets it. The row of
a file names the load by chunks that it belongs to until that is finished; then it counts as loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from dataloader.database import locks
from dataloader.errors import CheckpointError, PlanError
from dataloader.formatting import quantity
from dataloader.ledger.entries import FILES, files_table
from dataloader.ledger.trust import refusal
from dataloader.sources.known import FileContent, KnownFiles

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends import Backend
    from dataloader.database.schema import Fingerprint, TableName, TableSchema
    from dataloader.options import LoadOptions
    from dataloader.plan import LoadPlan

_AT_ONCE = 500


class FileLedger:
    """The files that are loaded into a plan's table. Every method runs in the caller's transaction."""

    def __init__(self, plan: LoadPlan, backend: Backend, *, anew: bool) -> None:
        self._name = plan.table.name
        self._creates = plan.creates_table
        self._backend = backend
        self._anew = anew
        self._files = files_table(plan.table.name.schema)
        self._fingerprints = backend.fingerprints(plan.table.name, [column.name for column in plan.columns])

    async def claim(self, connection: AsyncConnection, contents: Sequence[FileContent], load_id: str | None) -> None:
        """Enter files, before their rows, as loaded by this transaction or, with a name, by the load when it finishes.

        Raises
        ------
        CheckpointError
            When another load has one of them.
        """
        await self._prepare(connection)
        now = _identity(await self._fingerprints.take(connection))
        files = self._files.c
        of_another = sa.true() if self._creates else files.table_id != now
        gone = files.target == self._name.spelled, files.load_id.is_(None), of_another
        await connection.execute(sa.delete(self._files).where(*gone))
        fixed = {"target": self._name.spelled, "table_id": now, "load_id": load_id, "loaded_at": self._backend.now}
        for start in range(0, len(contents), _AT_ONCE):
            some = {one.key: one for one in contents[start : start + _AT_ONCE]}
            known = await self._take_over(connection, some, fixed)
            await self._insert(connection, [one for key, one in some.items() if key not in known], fixed)

    async def _take_over(
        self, connection: AsyncConnection, contents: dict[str, FileContent], fixed: dict[str, Any]
    ) -> set[str]:
        """Change the rows of files that the ledger has already, and return their paths."""
        files, target = self._files.c, self._name.spelled
        query = sa.select(self._files).where(files.target == target, files.path.in_(contents)).with_for_update()
        found = (await connection.execute(query)).all()
        for row in found:
            one = contents[row.path]
            self._check_free(row, one, fixed["load_id"])
            mine = sa.update(self._files).where(files.target == target, files.path == row.path)
            await connection.execute(mine.values(**fixed, size=one.size, digest=one.digest))
        return {row.path for row in found}

    async def _insert(self, connection: AsyncConnection, new: list[FileContent], fixed: dict[str, Any]) -> None:
        if not new:
            return
        rows = [{**fixed, "path": one.key, "size": one.size, "digest": one.digest} for one in new]
        entering = self._backend.insert_or_skip(self._files).values(rows).returning(self._files.c.path)
        entered = set((await connection.execute(entering)).scalars())
        if taken := [one.key for one in new if one.key not in entered]:
            raise _taken(taken[0])

    def _check_free(self, row: Any, content: FileContent, load_id: str | None) -> None:
        """Whether a file that the ledger knows is this load's to load."""
        if row.load_id is not None and row.load_id != load_id:
            hint = f"Continue it with load_id={row.load_id!r}, resume=True and the same files, or forget it."
            what = f"{content.key} belongs to the load {row.load_id!r}, which is not finished"
            raise CheckpointError(what, hint=hint, committed_rows=0)
        is_there = row.load_id is None and not self._anew
        if is_there and content.is_as_in(FileContent(row.path, row.size, row.digest)):
            raise _taken(content.key)

    async def finish(self, connection: AsyncConnection, load_id: str) -> None:
        """Enter that the files of a load are loaded."""
        mine = sa.update(self._files).where(self._files.c.load_id == load_id)
        await connection.execute(mine.values(load_id=None, loaded_at=self._backend.now))

    async def _prepare(self, connection: AsyncConnection) -> None:
        """Make the table if it is missing; one process at a time does that."""
        if await _is_there(connection, self._backend, self._name):
            return
        await self._backend.advisory_lock(connection, locks.ENTERING)
        if not await _is_there(connection, self._backend, self._name):
            await connection.execute(CreateTable(self._files))


async def _is_there(connection: AsyncConnection, backend: Backend, name: TableName) -> bool:
    why = await refusal(connection, (FILES,), (FILES,), name)
    if why is not None:
        raise PlanError(f"only_new= needs the ledger: {why}", hint="Leave only_new= out.", committed_rows=0)
    return any(one.name for one in await backend.table_rights(connection, (FILES,), name.schema))


def _identity(table: Fingerprint | None) -> str:
    """What tells a table from a later one of its name; SQLite's root page changes with every VACUUM."""
    return table.table if table is not None and table.files else ""


def _taken(path: str) -> CheckpointError:
    what = f"{path} was loaded by another process meanwhile"
    return CheckpointError(what, hint="Load the files again: those that are loaded are passed over.", committed_rows=0)


async def read_known(
    connection: AsyncConnection, table: TableSchema, backend: Backend, options: LoadOptions
) -> KnownFiles:
    """The files that are loaded into a table, as far as its ledger knows.

    Raises
    ------
    PlanError
        When there can be no ledger.
    CheckpointError
        When the files were loaded into another table of that name.
    """
    obstacle = backend.ledger_obstacle or table.unwatched
    if obstacle:
        raise PlanError(f"only_new= needs the ledger: {obstacle}", hint="Leave only_new= out.")
    if options.resume is False or not await _is_there(connection, backend, table.name):
        return KnownFiles({}, may_change=True)
    files = files_table(table.name.schema)
    loaded = files.c.target == table.name.spelled, files.c.load_id.is_(None)
    rows = (await connection.execute(sa.select(files).where(*loaded))).all()
    now = _identity(await backend.fingerprints(table.name, [table.columns[0].name]).take(connection))
    if gone := [row for row in rows if row.table_id != now]:
        what = f"{table.name} was dropped and created again since {quantity(len(gone), 'file')} went into it"
        hint = "Pass resume=False to load all files, once the table holds none of their rows."
        raise CheckpointError(what, hint=hint, committed_rows=0)
    known = {row.path: FileContent(row.path, row.size, row.digest) for row in rows}
    return KnownFiles(known, may_change=options.on_conflict != "error")
