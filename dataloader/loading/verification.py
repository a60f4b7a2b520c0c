"""Verification: what a load has written is read back in its own transaction, and compared before it is committed.

How many rows there are is compared, and the sum of a hash of each, of 64 bits: their order does not count.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from dataloader.conversion.hashing import row_hashes
from dataloader.database.backends.reading import Statement
from dataloader.database.texts import TextConverter, read_by_server, texts_of, unsettled_array
from dataloader.errors import PlanError, WriteError
from dataloader.formatting import quantity

if TYPE_CHECKING:
    import pyarrow as pa

    from dataloader.database.backends import Backend
    from dataloader.database.session import Session
    from dataloader.display.progress import Progress
    from dataloader.loading.chunks import Chunk
    from dataloader.loading.storage import StoreResult
    from dataloader.options import LoadOptions
    from dataloader.plan import LoadPlan


def check_verifiable(plan: LoadPlan, backend: Backend, options: LoadOptions) -> None:
    """Refuse to verify what could not be proved.

    Raises
    ------
    PlanError
        Saying why.
    """
    obstacle = backend.verify_obstacle
    if options.on_conflict != "error":
        obstacle = "rows that are merged are not told from those that were there"
    elif options.connection is not None:
        obstacle = "in the caller's own transaction its rows are not told from those that it has written before"
    elif plan.table.kind not in {"table", "partitioned table"}:
        obstacle = f"{plan.table.name} is a {plan.table.kind}, whose rows do not say who wrote them"
    elif (name := unsettled_array(plan.columns)) is not None:
        obstacle = f"the server may write the elements of column {name!r} in another way than they are sent"
    if obstacle is not None:
        hint = "Leave verify= out, and compare afterwards: await compare(data, table)."
        raise PlanError(f"the load cannot be verified: {obstacle}", hint=hint)


class Verification:
    """Sums up what is sent, and compares it with what is there."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._read_by_server = read_by_server(plan.columns)
        self._sent = self._before = (0, 0)

    async def begin(self, session: Session) -> None:
        """Sum up the rows that are there already, where they are not told from those of the load."""
        if session.backend.own_rows is None and not (self._plan.creates_table or self._plan.clears_table):
            self._before = await self._read(session)

    async def add(self, session: Session, chunk: Chunk, stored: StoreResult) -> None:
        """Take in the rows of a chunk that the database has taken."""
        refused = [one.row for one in stored.violations]
        texts = await asyncio.to_thread(texts_of, chunk.converted.batch, self._plan.columns)
        texts = await session.backend.as_written(session.connection, texts, self._read_by_server, inside=True)
        self._sent = _plus(self._sent, await asyncio.to_thread(self._summed, texts, chunk.converted.rows, refused))

    def _summed(self, texts: list[pa.Array], rows: np.ndarray, refused: list[int]) -> tuple[int, int]:
        return _sum(row_hashes(texts)[~np.isin(rows, refused)])

    async def check(self, session: Session, progress: Progress) -> None:
        """Read the rows back.

        Raises
        ------
        WriteError
            When they are not those that were sent.
        """
        progress.phase("verifying")
        rows, digest = await self._read(session)
        progress.phase("committing")
        rows, digest = rows - self._before[0], (digest - self._before[1]) % (1 << 64)
        if (rows, digest) == self._sent:
            return
        table, sent = self._plan.table.name, self._sent[0]
        what = f"{quantity(sent, 'row')} of the load were written to {table}, and {rows:,} are there"
        if rows == sent:
            what = f"the {quantity(rows, 'row')} of the load in {table} have other values than were written"
        hint = "A trigger or a rule may change rows. Load without verify=, then await compare(data, table) shows which."
        raise WriteError(f"the verification failed: {what}", hint=hint, committed_rows=0)

    async def _read(self, session: Session) -> tuple[int, int]:
        backend, names = session.backend, [column.name for column in self._plan.columns]
        text = f"SELECT {', '.join(map(backend.quote, names))} FROM {backend.quote_table(self._plan.table.name)}"
        text += "" if backend.own_rows is None else f" WHERE {backend.own_rows}"
        receiver = _Summing(session, self._plan)
        session.watchdog.suspend_timeout()  # all rows may be looked through before the first one comes
        await backend.read_back(session.connection, Statement(text), receiver)
        session.watchdog.reset_timeout()
        return receiver.sum


class _Summing:
    """Takes the rows that are read back."""

    def __init__(self, session: Session, plan: LoadPlan) -> None:
        self._session = session
        self._plan = plan
        self._texts: TextConverter | None = None
        self.sum = (0, 0)

    def describe(self, schema: pa.Schema, _about_rows: int | None) -> None:
        names = schema.names
        self._texts = TextConverter(schema, names, [column.target for column in self._plan.columns])

    async def put(self, batch: pa.RecordBatch, _nbytes: int) -> None:
        self._session.watchdog.reset_timeout()
        self.sum = _plus(self.sum, await asyncio.to_thread(self._summed, batch))

    def _summed(self, batch: pa.RecordBatch) -> tuple[int, int]:
        assert self._texts is not None
        texts, converted = self._texts(batch)
        rows, digest = _sum(row_hashes(texts))
        return rows + len({one.row for one in converted.violations}), digest

    def answered(self) -> None:
        self._session.watchdog.reset_timeout()

    def begun(self, _session: object) -> None: ...


def _sum(hashes: np.ndarray) -> tuple[int, int]:
    return len(hashes), int(hashes.sum(dtype=np.uint64))


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], (one[1] + other[1]) % (1 << 64)
