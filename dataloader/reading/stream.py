"""A query under way: a task that reads, and who wants its batches, which is never more than a few behind it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from dataloader.database import engine as engines
from dataloader.database import sqlstates
from dataloader.database.schema import TableName
from dataloader.database.session import Session
from dataloader.display.progress import Progress
from dataloader.errors import ConnectionFailed, ConnectionLost, LoadError, ReadError, WriteError, shown_as
from dataloader.reading.vigil import Vigil
from dataloader.sync import await_and_propagate_cancel, finish_before_cancel

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.database.backends.reading import Statement
    from dataloader.display.state import View

QUEUED = 2
"""How many batches wait for who wants them."""
_STANDBY = (
    "Read again; if the server is a standby, read from its primary, or have max_standby_streaming_delay raised or "
    "hot_standby_feedback turned on there."
)
_HINTS = {
    "42P01": "Check the name: 'orders' or 'sales.orders', written as in the database.",
    "42703": "Check the names of the columns.",
    "42501": "Ask for the privilege SELECT on it.",
    "25006": "A read changes nothing: carry out what writes by engine.begin().",
    "55P03": "What the query reads was locked for too long: read again when that has ended.",
    "57014": "A time limit of the server ended it: raise statement_timeout, or ask for less.",
    "40001": _STANDBY,
    "40P01": _STANDBY,
}
CONFLICTS = frozenset({"40001", "40P01"})
"""A standby ends what is in the way of its primary's changes; whoever asks anew is in nobody's way."""
ATTEMPTS = 3
_PAUSE_SECONDS = 0.2


class _About:
    """How many rows the planner expects, for the bar."""

    about_rows: float | None = None

    def __str__(self) -> str:
        return "" if self.about_rows is None else f"of about {self.about_rows:,.0f} rows"


class Sink(Protocol):
    """Takes the batches of a query."""

    async def take(self, batch: pa.RecordBatch) -> None:
        """Take a batch, and wait while there is no room for another."""

    async def finish(self, progress: Progress) -> None:
        """There are no more."""


class _Queue:
    """The batches that wait for who wants them."""

    def __init__(self) -> None:
        self.batches: collections.deque[pa.RecordBatch] = collections.deque()
        self.has_more = asyncio.Event()
        self._has_room = asyncio.Event()

    def next(self) -> pa.RecordBatch:
        self._has_room.set()
        return self.batches.popleft()

    async def take(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.has_more.set()
        while len(self.batches) >= QUEUED:
            self._has_room.clear()
            await self._has_room.wait()

    async def finish(self, progress: Progress) -> None:
        progress.state.total = progress.state.rows


class Reading:
    """A query whose rows are read.

    Parameters
    ----------
    label : str
        What it is called.
    asked : str or View
        The ``progress=`` of the caller.
    borrowed : AsyncConnection or None
        The caller's own, in whose transaction the query is carried out.
    settles : bool
        Whether the whole result is kept: then what is found out of it is marked in the schema.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        statement: Statement,
        label: str,
        asked: str | View,
        *,
        settles: bool = False,
        borrowed: AsyncConnection | None = None,
    ) -> None:
        self._engine = engine
        self._statement = statement
        self.label = label
        self._asked = asked
        self._settles = settles
        self._borrowed = borrowed
        self._vigil: Vigil | None = None
        self._schema: pa.Schema | None = None
        self._about = _About()
        self._has_put = self._is_unwanted = False
        self._progress: Progress | None = None

    @property
    def database(self) -> str:
        """The database as it may be shown."""
        return engines.describe_url(self._engine)

    @property
    def about(self) -> object:
        """How many rows there are about, and that in words, once it is known: for the bar of who wants the batches."""
        return self._about

    async def batches(self) -> AsyncGenerator[pa.RecordBatch]:
        """The batches, at least one. However this ends, the server's statement has ended by then.

        Raises
        ------
        ReadError
            When the database refuses the query, a value has no place in Arrow, or somebody pressed Cancel.
        """
        queue, is_cancelled = _Queue(), False
        reading = asyncio.create_task(self._read(queue))
        reading.add_done_callback(lambda _: queue.has_more.set())
        try:
            while queue.batches or not reading.done():
                if queue.batches:
                    yield queue.next()
                else:
                    queue.has_more.clear()
                    await queue.has_more.wait()
            self._end(reading)
        except asyncio.CancelledError as error:
            is_cancelled = True
            shown_as(error, "Interrupted: the query was ended")
            raise
        finally:
            self._is_unwanted = not is_cancelled
            reading.cancel()
            await finish_before_cancel(_settled(reading))

    def show_stopped(self) -> None:
        """Have the display say that nobody wants more, if it shows the query as running; the query ends soon."""
        if self._progress is not None and not self._progress.state.has_ended and self._is_own_loop():
            self._progress.stop()

    def _is_own_loop(self) -> bool:
        """Whether this is where the query runs: the garbage collector works in any thread."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    async def into(self, sink: Sink) -> None:
        """Have a sink take all batches, at least one.

        Raises
        ------
        ReadError
            As in `batches`, and what the sink raises.
        """
        reading = asyncio.create_task(self._read(sink))
        cancels = await await_and_propagate_cancel(reading)
        if cancels and reading.cancelled():
            error = asyncio.CancelledError()
            shown_as(error, "Interrupted: the query was ended")
            raise error
        self._end(reading)

    def _end(self, reading: asyncio.Task[None]) -> None:
        if reading.cancelled():
            raise ReadError("the read was cancelled", hint="The server has ended the query; run it again.")
        reading.result()

    async def _read(self, sink: Sink) -> None:
        self._sink, self._loop = sink, asyncio.get_running_loop()
        async with Progress(self.label, self._statement.max_rows, self._asked, self._about) as progress:
            self._progress, state = progress, progress.state
            state.keeps_rows, state.outcome, state.total, state.can_pause = True, "read", None, False
            table = TableName(None, self.label)
            session = Session(self._engine, table, reads_only=True, borrowed=self._borrowed)
            progress.phase("reading")
            try:
                await self._run(session)
                await sink.finish(progress)
            except asyncio.CancelledError as error:
                if not self._is_unwanted:
                    error.add_note("The server has ended the query")  # which the bar says
                    raise
                state.finish("stopped")

    async def _carry_out(self, session: Session) -> None:
        session.watchdog.suspend_timeout()  # a query may think for as long as it likes
        async with Vigil(self._engine, session.watchdog) as self._vigil:
            await session.backend.read(session.connection, self._statement, self)
            if not self._has_put and self._schema is not None:
                await self.put(_empty(self._schema), 0)

    async def _run(self, session: Session) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._attempt(session)
                return
            except ReadError as error:
                if (
                    attempt == ATTEMPTS
                    or error.sqlstate not in CONFLICTS
                    or self._has_put
                    or self._borrowed is not None
                ):
                    raise
            await asyncio.sleep(attempt * _PAUSE_SECONDS)

    async def _attempt(self, session: Session) -> None:
        with given_up_in_words(lambda: self._vigil), as_read_errors():
            await session.run(self._carry_out)

    def describe(self, schema: pa.Schema, about_rows: int | None) -> None:
        self._schema = schema if self._settles else pa.schema([one.remove_metadata() for one in schema])
        if about_rows is not None and self._statement.max_rows is not None:
            about_rows = min(about_rows, self._statement.max_rows)
        self._about.about_rows = about_rows

    def answered(self) -> None:
        if self._vigil is not None:
            self._vigil.heard()

    def begun(self, session: object) -> None:
        assert self._vigil is not None
        self._vigil.session = session
        self._vigil.heard()

    async def put(self, batch: pa.RecordBatch, nbytes: int) -> None:
        assert self._schema is not None
        assert self._progress is not None
        assert self._vigil is not None
        self._has_put = True
        self._progress.state.advance(batch.num_rows, nbytes)
        self._vigil.suspend()
        await self._sink.take(
            batch if self._settles else pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
        )
        self._vigil.heard()


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], one.type) for one in schema], schema=schema)


async def _settled(reading: asyncio.Task[None]) -> None:
    await asyncio.wait({reading})
    if not reading.cancelled():
        reading.exception()  # looked at, or asyncio complains that nobody did


@contextlib.contextmanager
def given_up_in_words(vigil: Callable[[], Vigil | None]) -> Iterator[None]:
    """Say why a connection was ended, where a vigil has ended it."""
    try:
        yield
    except ReadError as error:
        if (kept := vigil()) is None or kept.reason is None:
            raise
        hint = "Read again when the server answers."
        raise ReadError(f"the connection was given up: {kept.reason}", hint=hint) from error


@contextlib.contextmanager
def as_read_errors() -> Iterator[None]:
    """Say of what a load would not finish that a read did not."""
    try:
        yield
    except ConnectionFailed:
        raise
    except LoadError as error:
        sqlstate = error.sqlstate if isinstance(error, WriteError) else None
        known = _HINTS.get(sqlstate or "") or sqlstates.remedy_of(sqlstate or "", "read again")
        hint = known or "Correct what the message names, and read again."
        for words, alike in (("no such table", "42P01"), ("no such column", "42703")):  # of SQLite
            hint = _HINTS[alike] if words in error.what else hint
        if isinstance(error, ConnectionLost):
            hint = "Read again when the server answers."
        column = error.column if isinstance(error, WriteError) else None
        raise ReadError(error.what, hint=hint, sqlstate=sqlstate, column=column) from error.__cause__
