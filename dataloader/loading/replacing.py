"""Replacing under way: the table beside is made, filled like any other, and takes the place of the old rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.converter import Converter
from dataloader.database import catalog, locks, replacing
from dataloader.database.driver_errors import Refusal, refusal_of, translate
from dataloader.database.keys import BETWEEN, Keys
from dataloader.errors import SchemaMismatch, WriteError
from dataloader.loading.chunks import read_batches, source_errors
from dataloader.sync import in_thread
from dataloader.writers import Written

if TYPE_CHECKING:
    from dataloader.database.schema import TableName
    from dataloader.database.session import Session
    from dataloader.loading.execution import LoadExecution


NAMED_ROWS = 10
"""So many rows with one key are named."""


async def take_place(session: Session, execution: LoadExecution) -> None:
    """Put what was filled beside in the place of the old rows, in the session's open transaction."""
    replacement, plan = execution.plan.replacement, execution.plan
    assert replacement is not None
    assert replacement.beside is not None
    backend, connection, watchdog = session.backend, session.connection, session.watchdog
    execution.progress.phase("replacing")
    renamed: dict[str, str] = {}
    with _named(execution, renamed):
        locking = backend.replacing_lock_sql(plan.table.name)
        await catalog.prepare(connection, plan.table, locking, progress=watchdog.reset_timeout)
        watchdog.suspend_timeout()  # an index takes its time
        if replacement.way == "swap":
            await _check_alike(session, plan.table.name, replacement.beside)
            await backend.complete(connection, plan.table.name, replacement.beside, renamed)
        await _lock(session, execution)
        if replacement.way == "swap":
            await backend.swap(connection, plan.table.name, replacement.beside, renamed)
        else:
            await _move(session, execution, replacement.beside)
    watchdog.reset_timeout()


async def _check_alike(session: Session, name: TableName, beside: TableName) -> None:
    """Refuse to lose what has been changed of a table since the one beside it was made.

    Raises
    ------
    SchemaMismatch
        Naming that.
    """
    altered = await session.backend.altered(session.connection, name, beside)
    if altered:
        what = f"the table {name} was altered while its new rows were filled beside it: {'; '.join(altered)}"
        hint = "Load again from the beginning, with resume=False where it was to be continued."
        raise SchemaMismatch(what, hint=hint, committed_rows=0)


async def _lock(session: Session, execution: LoadExecution) -> None:
    """Have the table alone: tried for short moments, between which the others proceed."""
    backend, connection, plan = session.backend, session.connection, execution.plan
    assert plan.replacement is not None
    if not plan.replacement.deletes or plan.replacement.way == "swap":

        async def lock() -> None:
            await backend.lock_alone(connection, plan.table.name, replacing.SWAP_SECONDS)

        await locks.trying(locks.LIMIT_SECONDS)(lock)
    for setting in backend.lock_timeout_sql(locks.HOLDING_SECONDS):
        await connection.exec_driver_sql(setting)


async def _move(session: Session, execution: LoadExecution, beside: TableName) -> None:
    backend, connection, plan = session.backend, session.connection, execution.plan
    assert plan.replacement is not None
    await connection.exec_driver_sql(replacing.empty_sql(plan.table, backend, deletes=plan.replacement.deletes))
    how = " OVERRIDING SYSTEM VALUE" if plan.numbers.overrides else ""
    moved = await backend.move(connection, plan.table, beside, [column.name for column in plan.columns], how)
    load = execution.ledger_load
    execution.count(Written(moved - execution.loaded - (0 if load is None else load.loaded)))


@contextlib.contextmanager
def _named(execution: LoadExecution, renamed: dict[str, str]) -> Iterator[None]:
    """Say of rows that an index or the table itself refuses how they are found, and the index by its own name."""
    try:
        yield
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        refused = translate(error, execution.plan.database)
        execution.refused_late = refusal
        if isinstance(refused, WriteError) and refused.constraint in renamed:
            own = renamed[refused.constraint]
            refused.what, refused.constraint = refused.what.replace(refused.constraint, own), own
        raise refused from error


async def name_rows(execution: LoadExecution, refusal: Refusal, error: WriteError) -> None:
    """Name the rows that the whole table's check refused, of which the database knows the key only.

    The source is read again for that, if it can be, once the transaction has ended.
    """
    rows: list[int] = []
    with contextlib.suppress(Exception):  # of a file that is gone meanwhile: what the database said stays true
        rows = await _rows_with(execution, refusal)
    if not rows:
        error.what += _shown_by(execution, refusal)
        return
    error.row = rows[-1]
    error.what = f"row {error.row}: {error.what}"
    if refusal.reason == "unique":
        others = ", ".join(map(str, rows[:-1]))
        error.what += f"; row {others} has the same key" if len(rows) == 2 else f"; rows {others} have the same key"


async def _rows_with(execution: LoadExecution, refusal: Refusal) -> list[int]:
    """The first rows with the key that was refused: of one that is there twice, two at least."""
    source, plan = execution.source, execution.plan
    known = {column.name: column for column in plan.columns}
    names = (refusal.column or "").split(", ")
    least = 2 if refusal.reason == "unique" else 1
    if refusal.key is None or not set(names) <= set(known) or not (source.in_memory or source.loader == "load_files"):
        return []
    convert, columns, found = Converter(plan.columns, source.label), [known[name] for name in names], list[int]()

    def rows_of(batch: pa.RecordBatch, first_row: int) -> list[int]:
        converted = convert(batch, first_row)
        keys = pc.replace_substring(Keys(converted.batch, columns).joined, BETWEEN, ", ")
        has_key = pc.fill_null(pc.equal(keys, refusal.key), False).to_numpy(zero_copy_only=False)
        return [int(row) for row in converted.rows[has_key]]

    with source_errors():
        async with contextlib.aclosing(read_batches(source, plan.chunk_rows)) as batches:
            async for batch, first_row in batches:
                found += await in_thread(rows_of, batch, first_row)
                if len(found) >= least:
                    break
    return found[:NAMED_ROWS] if len(found) >= least else []


def _shown_by(execution: LoadExecution, refusal: Refusal) -> str:
    """The call that shows the rows: a whole table is checked at once, of which no row is named."""
    keys = (refusal.column or "").split(", ")
    is_known = set(keys) <= {column.name for column in execution.plan.columns}
    asked = {"unique": f"unique={keys}", "foreign_key": "foreign_keys=True"}.get(refusal.reason)
    if asked is None or not is_known:
        return ""
    return f"; await validate(..., {execution.plan.table.name.spelled!r}, {asked}) shows the rows"
