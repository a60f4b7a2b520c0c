"""No driver call is awaited bare: the work of a load runs here as a task that cannot outlive its connection.

asyncpg's COPY and executemany wait for ever when the connection dies while the writer is paused, and
executemany can swallow a cancel. So the guard races the work against the connection's termination and a
limit without progress, and stops it by a ladder: cancel, half a second, terminate the connection, cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dataloader.errors import IN_DOUBT, ConnectionLost, LoadError
from dataloader.sync import finish_despite_cancel

T = TypeVar("T")

STALL_SECONDS = 300.0
"""How long the database may take to accept the next bytes, or to answer, before it counts as lost."""
GRACE_SECONDS = 0.5
SETTLE_SECONDS = 2.0
LOOK_SECONDS = 0.1


class Watchdog:
    """What the guard knows of the work: its connection, and by when the database must show progress."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._driver: Any = None
        self._deadline: float | None = None
        self.committing = False
        self.is_last = False
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def watch(self, driver: Any) -> None:
        """Watch a driver's connection; one without termination listeners has its time limit only."""
        self._driver = driver
        if hasattr(driver, "add_termination_listener"):
            driver.add_termination_listener(self._on_termination)

    def unwatch(self) -> None:
        if hasattr(self._driver, "remove_termination_listener"):
            self._driver.remove_termination_listener(self._on_termination)
        self._driver = None

    def reset_timeout(self) -> None:
        """The database's turn begins, or it has just accepted something: the clock starts anew."""
        self._deadline = self._loop.time() + STALL_SECONDS

    def begin_commit(self, *, last: bool = True) -> None:
        """The point of no return: from here on a cancel waits for the outcome.

        It waits as long as it takes for the last commit of a load, and but a moment for one of many, whose outcome
        the ledger tells later.
        """
        self.committing, self.is_last = True, last
        self.reset_timeout()

    def suspend_timeout(self) -> None:
        """The source's turn begins: it may take as long as it likes."""
        self._deadline = None

    def is_stalled(self) -> bool:
        return self._deadline is not None and self._loop.time() > self._deadline

    def terminate(self) -> None:
        """End the connection at once, or interrupt the statement where a connection cannot be ended."""
        if hasattr(self._driver, "terminate"):
            self._driver.terminate()
        elif hasattr(self._driver, "interrupt"):
            interrupting = self._loop.create_task(self._driver.interrupt())
            interrupting.add_done_callback(lambda task: task.cancelled() or task.exception())
        elif hasattr(self._driver, "fileno") and not self._driver.closed:
            # psycopg waits for the server's answer to a cancel, however often it is cancelled meanwhile.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._driver.fileno())) as shared:
                shared.shutdown(socket.SHUT_RDWR)

    def _on_termination(self, _driver: object) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


async def guarded(
    work: Callable[[Watchdog], Coroutine[Any, Any, T]], *, limit: float = math.inf, database: str | None = None
) -> T:
    """Run `work` to its end, or to the end of its connection, or until it is cancelled.

    A cancel that arrives during the last commit waits for it, and is forgotten when the commit succeeds: what the
    caller is told is then what the database holds.

    Parameters
    ----------
    limit : float
        How many seconds the work may take as a whole.
    database : str or None
        What it is connected to, for the error.

    Raises
    ------
    ConnectionLost
        When the connection ended or stalled, or the time was up, and the work did not notice by itself.
    asyncio.CancelledError
        When the caller was cancelled; by then the work has rolled back, or has committed one chunk more.
    """
    watchdog = Watchdog()
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    task = asyncio.create_task(work(watchdog))
    task.add_done_callback(lambda _: watchdog.unwatch())
    watched: set[asyncio.Future[Any]] = {task, watchdog.lost}
    try:
        # Polled, because the deadline moves with every piece that the database accepts: a timer would be set anew
        # four times for each megabyte.
        while not (task.done() or watchdog.lost.done() or watchdog.is_stalled() or loop.time() > end):
            await asyncio.wait(watched, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        if not watchdog.committing:
            task.cancel()  # at once: a turn of the loop later it might be committing
        if not await _committed(task, watchdog):
            await _until_stopped(task, watchdog)
            raise
        if not watchdog.is_last:
            raise
        # The last commit succeeded, so the cancel came too late: what the caller is told is what the database holds.
    if watchdog.lost.done() and not task.done():
        # The work may be about to say why in the server's own words: let it, for a moment.
        await asyncio.wait({task}, timeout=LOOK_SECONDS)
    if task.done():
        return task.result()
    return await _given_up(task, watchdog, limit, database)


async def _given_up(task: asyncio.Task[T], watchdog: Watchdog, limit: float, database: str | None) -> T:
    """Stop work that has lost its connection or its time; while it was being stopped it may succeed after all."""
    seconds = STALL_SECONDS if watchdog.is_stalled() else None if watchdog.lost.done() else limit
    await _until_stopped(task, watchdog)
    if not task.cancelled() and task.exception() is None:
        return task.result()
    hint, rows = (IN_DOUBT, None) if watchdog.is_last else ("Load again when the server answers.", 0)
    lost = "the connection was lost" if database is None else f"the connection to {database} was lost"
    what = lost if seconds is None else f"the database showed no progress for {seconds:.0f} s"
    cause = None if task.cancelled() else task.exception()
    raise ConnectionLost(what, hint=hint, committed_rows=rows) from cause


async def _committed(task: asyncio.Task[Any], watchdog: Watchdog) -> bool:
    """Wait for a commit under way; if it is the last one and succeeds, take back the caller's cancels."""
    loop, cancels = asyncio.get_running_loop(), 1
    end = math.inf if watchdog.is_last else loop.time() + GRACE_SECONDS
    while watchdog.committing and not (
        task.done() or watchdog.lost.done() or watchdog.is_stalled() or loop.time() > end
    ):
        try:
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
        except asyncio.CancelledError:
            cancels += 1
    if not (watchdog.committing and task.done()) or task.cancelled() or task.exception() is not None:
        return False
    caller = asyncio.current_task()
    for _ in range(cancels if caller is not None and watchdog.is_last else 0):
        caller.uncancel()  # type: ignore[union-attr]
    return True


async def _until_stopped(task: asyncio.Task[Any], watchdog: Watchdog) -> None:
    """Stop the work and survive further cancels meanwhile: half-stopped work would hold locks."""
    (await finish_despite_cancel(_stop(task, watchdog))).result()


async def _stop(task: asyncio.Task[Any], watchdog: Watchdog) -> None:
    # Cancelled once only: a second cancel would interrupt the rollback with which a driver answers the first.
    if not task.cancelling():
        task.cancel()
    await asyncio.wait({task}, timeout=LOOK_SECONDS if watchdog.committing else GRACE_SECONDS)
    if not task.done():
        # asyncpg's executemany swallows a cancel, and its COPY waits for a writer that is paused: without the
        # connection neither can wait any longer.
        watchdog.terminate()
        task.cancel()
        await asyncio.wait({task}, timeout=SETTLE_SECONDS)
    if not task.done():
        hint = "Restart the kernel or the process: the database ends the transaction with the connection."
        raise LoadError("the load could not be stopped", hint=hint)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did
