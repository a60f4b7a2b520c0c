"""Bytes that pass from server to server: a binary COPY out of one into the other, in one transaction on each side.

The sender is never more than a few megabytes ahead; whichever side fails or is cancelled, the other one is stopped.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from dataloader.copying.rows import LOADER
from dataloader.database import engine as engines
from dataloader.database import locks
from dataloader.database.schema import TableName
from dataloader.database.session import Session
from dataloader.errors import ReadError
from dataloader.loading import pipeline
from dataloader.loading.targets import advance_sequences, apply_plan, check_rows, take_place
from dataloader.reading.stream import Reading, as_read_errors, given_up_in_words
from dataloader.reading.vigil import Vigil
from dataloader.sources.base import Source
from dataloader.sources.selection import renaming, select
from dataloader.sync import finish_despite_cancel

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

    from dataloader.conversion.column_types import ColumnType
    from dataloader.copying.survey import Destination, Original
    from dataloader.database.backends.copying import ResultColumn
    from dataloader.database.watchdog import Watchdog
    from dataloader.loading.execution import LoadExecution
    from dataloader.options import LoadOptions
    from dataloader.report import LoadReport

ROOM_BYTES = 4 << 20
PIECE_BYTES = 256 * 1024
SAMPLED_BYTES = 1 << 16
_HEADER_BYTES = 19
REASON = "the types are equal, so the bytes of a binary COPY pass from server to server"


def obstacle(original: Original, destination: Destination, to: object, options: LoadOptions) -> str | None:
    """Why the bytes cannot be passed on as they are, None if they can."""
    if not (original.backend.pipes and destination.backend.pipes) or original.columns is None:
        return "only PostgreSQL through asyncpg sends and takes bytes"
    if original.engine is destination.engine and engines.connections_of(original.engine) < 2:
        return "the pool has one connection"
    if not isinstance(to, str) and (destination.found is None or options.if_exists == "replace"):
        return "the table is made as its definition says"
    return _asked_for_rows(options) or _other_types(original, destination, options)


def _asked_for_rows(options: LoadOptions) -> str | None:
    asked = {
        "method=": options.method == "insert",
        "commit= by chunks": options.is_named or options.commit == "chunk",
        "on_invalid=": options.on_invalid != "raise",
        "on_conflict=": options.on_conflict != "error",
        "returning=": options.returning is not None,
        "dry_run=": options.dry_run,
        "verify=": options.verify,
        "connection=": options.connection is not None,
        "evolve=": bool(options.evolve),
        "dtype=": options.dtype is not None,
        "max_rows_per_second=": options.max_rows_per_second is not None,
    }
    given = next((name for name, is_given in asked.items() if is_given), None)
    return None if given is None else f"{given} needs the rows one by one"


def _other_types(original: Original, destination: Destination, options: LoadOptions) -> str | None:
    """Which column is of another type there, or of one whose bytes mean something to its own server only."""
    sent = _sent(original, options)
    if strange := next((name for name, one in sent.items() if not one.is_portable), None):
        return f"the bytes of column {strange!r} mean something to their own server only"
    found = destination.found
    if found is None:
        return None
    if found.copy_refused or not all(one.binary for one in found.columns):
        return "binary COPY cannot write to the table"
    types = {one.name: one.type for one in found.columns}
    known = (name for name in sent if name in types)
    other = next((name for name in known if not _are_equal(sent[name].type, types[name])), None)
    return None if other is None else f"column {other!r} is of another type"


def _sent(original: Original, options: LoadOptions) -> dict[str, ResultColumn]:
    """The columns that are sent, by their names in the copy."""
    columns = original.columns or ()
    if options.columns is None:
        return {one.name: one for one in columns}
    names = {str(name): target for name, target in renaming(options.columns).items()}
    return {names[one.name]: one for one in columns if one.name in names}


def _are_equal(ours: ColumnType, theirs: ColumnType) -> bool:
    """Enums are sent by their labels, whatever they are called."""
    return ours.labels == theirs.labels if ours.labels or theirs.labels else ours.sql == theirs.sql


async def copy(original: Original, to: str | sa.Table, options: LoadOptions) -> LoadReport:
    """Pass the bytes on, in one transaction."""
    source: Source = Source(
        original.name, await _schema(original), None, loader=LOADER, position=original.about, facts=original.facts
    )
    if options.columns is not None:
        source = select(source, options.columns)
    return await pipeline.load(source, to, options, lambda execution: _Copying(original, execution).store())


async def _schema(original: Original) -> pa.Schema:
    """What the columns would be in Arrow, by which the plan is made: nothing is carried out for it."""
    statement = replace(original.statement, max_rows=0)
    async with contextlib.aclosing(Reading(original.engine, statement, original.label, "none").batches()) as batches:
        return (await anext(batches)).schema


class _Copying:
    """A copy under way: who sends is a task of its own, beside the transaction of who receives."""

    def __init__(self, original: Original, execution: LoadExecution) -> None:
        execution.plan = replace(execution.plan, reason=REASON)
        names = [column.name for column in execution.plan.columns]
        known = {name: one.name for name, one in _sent(original, execution.options).items()}
        self._original = original
        self._execution = execution
        self._names = names
        self._asked = [known[name] for name in names]
        self._pipe = Pipe()
        self._sending: asyncio.Task[int] | None = None

    async def store(self) -> None:
        """Begin both sides, and have both ended whatever happens."""
        execution = self._execution
        session = Session(
            execution.engine, execution.plan.table.name, exclusive=execution.plan.clears_table, borrowed=None
        )
        execution.progress.phase("loading")
        self._sending = asyncio.create_task(self._send())
        try:
            await session.run(self._receive)
        finally:
            self._sending.cancel()
            await finish_despite_cancel(_settled(self._sending))

    async def _send(self) -> int:
        original, pipe = self._original, self._pipe

        async def send(session: Session) -> int:
            session.watchdog.suspend_timeout()  # a query may think for as long as it likes
            async with Vigil(original.engine, session.watchdog) as pipe.sender:
                send_rows, limit = session.backend.send_rows, locks.LIMIT_SECONDS
                return await send_rows(session.connection, original.statement, self._asked, pipe, lock_seconds=limit)

        try:
            with given_up_in_words(lambda: pipe.sender), as_read_errors():
                rows = await Session(original.engine, TableName(None, original.label), reads_only=True).run(send)
        except BaseException as error:
            pipe.end(error if isinstance(error, Exception) else _stopped())
            raise
        pipe.end()
        return rows

    async def _receive(self, session: Session) -> None:
        execution, plan = self._execution, self._execution.plan
        assert self._sending is not None
        async with session.transaction() as connection:
            await apply_plan(session, execution, locks.LIMIT_SECONDS)
            pieces = self._pieces(session.watchdog)
            stored = await session.backend.receive_rows(connection, plan.filled, self._names, pieces)
            sent = await self._sending  # which has ended, or there would be more
            self._count(sent, stored)
            check_rows(execution)
            session.watchdog.reset_timeout()
            await take_place(session, execution)
            await advance_sequences(connection, execution)
            execution.progress.phase("committing")
            session.watchdog.reset_timeout()
            await session.backend.check_deferred(connection)

    async def _pieces(self, watchdog: Watchdog) -> AsyncIterator[bytes | memoryview]:
        """The bytes, and the bar that follows them: the rows of the first ones are counted, then estimated."""
        state, first = self._execution.progress.state, FirstRows()
        async for piece in self._pipe.pieces(watchdog):
            state.advance(first.rows_of(piece), len(piece))
            yield piece

    def _count(self, sent: int, stored: int) -> None:
        execution, state = self._execution, self._execution.progress.state
        execution.read, execution.loaded, execution.chunks = sent, stored, 1
        execution.nbytes = state.nbytes
        state.total = state.rows = sent


class FirstRows:
    """Counts the rows at the beginning of a binary COPY, and estimates from there on how many are in so many bytes.

    >>> rows = FirstRows()
    >>> rows.rows_of(bytes(19) + b"\\0\\1" + b"\\0\\0\\0\\1x" + b"\\0\\1" + b"\\xff\\xff\\xff\\xff" + b"\\0")
    2
    """

    def __init__(self) -> None:
        self._rest = b""
        self._ahead = _HEADER_BYTES
        self._passed = self._fields = self._rows = 0
        self._row_bytes = 0.0

    def rows_of(self, piece: bytes | memoryview) -> int:
        """How many rows there are about in the next bytes."""
        if self._row_bytes and self._passed >= SAMPLED_BYTES:
            return int(len(piece) / self._row_bytes)
        before = self._rows
        self._count(b"".join((self._rest, piece)))
        return self._rows - before

    def _count(self, data: bytes) -> None:
        """Go from length to length; a value may end in a later piece."""
        at = self._ahead
        with contextlib.suppress(struct.error):
            while True:
                if self._fields:
                    (length,) = struct.unpack_from("!i", data, at)
                    at += 4 + max(length, 0)
                    self._fields -= 1
                else:
                    (fields,) = struct.unpack_from("!h", data, at)
                    if fields < 0:
                        break
                    at += 2
                    self._fields = fields
                if not self._fields:
                    self._rows += 1
                    self._row_bytes = (self._passed + at) / self._rows
        self._rest, self._ahead = data[at:], max(at - len(data), 0)
        self._passed += len(data) - len(self._rest)


class Pipe:
    """A few megabytes between who sends and who receives.

    Attributes
    ----------
    sender : Vigil or None
        Over who sends, whose turn it is not while there is no room.
    """

    def __init__(self) -> None:
        self.sender: Vigil | None = None
        self._parts: collections.deque[bytes] = collections.deque()
        self._nbytes = 0
        self._error: Exception | None = None
        self._has_ended = False
        self._has_more, self._has_room = asyncio.Event(), asyncio.Event()

    def begun(self, session: object) -> None:
        """Another connection may ask whether this session works on the query."""
        if self.sender is not None:
            self.sender.session = session
            self.sender.heard()

    async def put(self, data: bytes) -> None:
        """Add bytes, and wait while there are too many."""
        self._parts.append(data)
        self._nbytes += len(data)
        if self._nbytes >= PIECE_BYTES:
            self._has_more.set()
        while self._nbytes >= ROOM_BYTES:
            if self.sender is not None:
                self.sender.suspend()
            self._has_room.clear()
            await self._has_room.wait()
        if self.sender is not None:
            self.sender.heard()

    def end(self, error: Exception | None = None) -> None:
        """There is no more; with an error, what was sent is not all."""
        self._error, self._has_ended = error, True
        self._has_more.set()

    async def pieces(self, receiver: Watchdog) -> AsyncIterator[bytes | memoryview]:
        """The bytes, in pieces of some size; an error of who sends is raised here."""
        while True:
            while self._nbytes < PIECE_BYTES and not self._has_ended:
                receiver.suspend_timeout()
                self._has_more.clear()
                await self._has_more.wait()
            receiver.reset_timeout()
            if self._error is not None:
                raise self._error
            if not self._parts:
                return
            parts = [b"".join(self._parts)] if self._nbytes < 2 * ROOM_BYTES else [*self._parts]
            self._parts.clear()
            self._nbytes = 0
            self._has_room.set()
            for part in parts:  # one value may have hundreds of megabytes: the loop goes on between its pieces
                for start in range(0, len(part), ROOM_BYTES):
                    receiver.reset_timeout()
                    yield memoryview(part)[start : start + ROOM_BYTES]


def _stopped() -> ReadError:
    return ReadError("the read was cancelled", hint="Nothing was copied; copy again.")


async def _settled(task: asyncio.Task[int]) -> None:
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did
