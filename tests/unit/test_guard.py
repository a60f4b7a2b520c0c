"""Work that ends, fails, hangs or will not be stopped, and its connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest

from dataloader.database import watchdog
from dataloader.database.watchdog import Watchdog, guarded
from dataloader.errors import ConnectionLost, LoadError
from dataloader.sync import finish_despite_cancel

pytestmark = pytest.mark.serial


class Connection:
    """As much of a driver's connection as the guard knows."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[object], None]] = []
        self.terminated = 0

    def add_termination_listener(self, listener: Callable[[object], None]) -> None:
        self.listeners.append(listener)

    def remove_termination_listener(self, listener: Callable[[object], None]) -> None:
        self.listeners.remove(listener)

    def end(self) -> None:
        for listener in list(self.listeners):
            listener(self)

    def terminate(self) -> None:
        self.terminated += 1
        self.end()


class Interruptible:
    """A connection that can only be interrupted, like that of a file."""

    def __init__(self) -> None:
        self.interrupted = 0

    async def interrupt(self) -> None:
        self.interrupted += 1
        raise RuntimeError("nothing to interrupt")


class Failed(Exception):
    """What the work raises."""


@pytest.fixture
def connection() -> Connection:
    return Connection()


async def cancelled_soon(task: asyncio.Task[object]) -> float:
    """Let the task begin, cancel it, and return the seconds until it ended as cancelled."""
    await asyncio.sleep(0.02)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - started


async def test_the_result_of_work_that_finishes_is_returned(connection: Connection) -> None:
    async def work(watchdog: Watchdog) -> int:
        watchdog.watch(connection)
        await asyncio.sleep(0.01)
        return 42

    assert await guarded(work) == 42
    assert (connection.listeners, connection.terminated) == ([], 0)


async def test_the_error_of_work_passes_through(connection: Connection) -> None:
    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        raise Failed

    with pytest.raises(Failed):
        await guarded(work)
    assert (connection.listeners, connection.terminated) == ([], 0)


async def test_work_that_ends_is_noticed_at_once() -> None:
    async def work(_watchdog: Watchdog) -> None:
        await asyncio.sleep(0)

    started = time.monotonic()
    await guarded(work)
    assert time.monotonic() - started < 0.05


async def test_work_that_hangs_when_its_connection_ends_is_stopped(connection: Connection) -> None:
    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        asyncio.get_running_loop().call_later(0.02, connection.end)
        await asyncio.Event().wait()

    started = time.monotonic()
    with pytest.raises(ConnectionLost, match=r"the connection was lost\. Nothing was written"):
        await guarded(work)
    assert time.monotonic() - started < 0.5
    assert connection.listeners == []


async def test_work_that_notices_the_end_says_it_in_its_own_words(connection: Connection) -> None:
    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        connection.end()
        await asyncio.sleep(0.02)
        raise Failed("the server said why")

    with pytest.raises(Failed, match="the server said why"):
        await guarded(work)


async def test_work_that_fails_while_it_is_stopped_is_the_cause_of_the_loss(connection: Connection) -> None:
    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        connection.end()
        try:
            await asyncio.Event().wait()
        finally:
            raise Failed

    with pytest.raises(ConnectionLost) as lost:
        await guarded(work)
    assert isinstance(lost.value.__cause__, Failed)


async def test_a_cancelled_load_has_cleaned_up_before_the_caller_goes_on(connection: Connection) -> None:
    cleaned = []

    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.append("rolled back")

    assert await cancelled_soon(asyncio.create_task(guarded(work))) < 0.4
    assert (cleaned, connection.terminated, connection.listeners) == (["rolled back"], 0, [])


async def test_work_that_swallows_a_cancel_loses_its_connection_within_a_second(connection: Connection) -> None:
    swallowed = []

    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        swallowed.append("once")
        await asyncio.Event().wait()

    assert await cancelled_soon(asyncio.create_task(guarded(work))) < 1.0
    assert (swallowed, connection.terminated, connection.listeners) == (["once"], 1, [])


async def test_a_second_cancel_meanwhile_does_not_leave_the_work_half_stopped(connection: Connection) -> None:
    cleaned = []

    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            cleaned.append("rolled back")

    task = asyncio.create_task(guarded(work))
    await asyncio.sleep(0.02)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (cleaned, connection.terminated) == (["rolled back"], 0)


async def test_work_that_can_never_be_stopped_is_an_error_and_not_a_hang(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.02)
    monkeypatch.setattr(watchdog, "SETTLE_SECONDS", 0.02)
    release = asyncio.Event()

    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    task = asyncio.create_task(guarded(work))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(LoadError, match="could not be stopped"):
        await task
    assert connection.terminated == 1
    release.set()
    await asyncio.sleep(0.02)
    assert connection.listeners == []


async def test_a_database_that_shows_no_progress_counts_as_lost(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.05)

    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        watchdog.reset_timeout()
        await asyncio.Event().wait()

    started = time.monotonic()
    with pytest.raises(ConnectionLost, match="showed no progress for"):
        await guarded(work)
    assert time.monotonic() - started < 1.0


async def test_a_database_that_keeps_accepting_has_no_limit(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.15)
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)

    async def work(watchdog: Watchdog) -> str:
        watchdog.watch(connection)
        for _ in range(8):
            watchdog.reset_timeout()
            await asyncio.sleep(0.05)
        return "done"

    assert await guarded(work) == "done"


async def test_a_source_may_take_as_long_as_it_likes(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)

    async def work(watchdog: Watchdog) -> str:
        watchdog.watch(connection)
        watchdog.reset_timeout()
        watchdog.suspend_timeout()
        await asyncio.sleep(0.3)
        return "done"

    assert await guarded(work) == "done"


async def test_work_that_finishes_while_it_is_stopped_keeps_its_result(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.05)

    async def work(watchdog: Watchdog) -> str:
        watchdog.watch(connection)
        watchdog.reset_timeout()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "committed after all"

    assert await guarded(work) == "committed after all"


async def test_a_connection_without_listeners_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.02)
    file = Interruptible()

    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(file)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    await cancelled_soon(asyncio.create_task(guarded(work)))
    assert file.interrupted == 1


async def test_a_time_limit_of_the_caller_is_kept(connection: Connection) -> None:
    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await guarded(work)
    assert connection.listeners == []


async def test_work_that_is_cancelled_from_inside_is_cancelled() -> None:
    async def work(_watchdog: Watchdog) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await guarded(work)


async def test_no_task_is_left_behind(connection: Connection) -> None:
    async def work(watchdog: Watchdog) -> None:
        watchdog.watch(connection)
        connection.end()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    with pytest.raises(ConnectionLost):
        await guarded(work)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_cancel_that_meets_finished_work_is_kept_unless_it_was_a_commit() -> None:
    async def cancelled_as_it_ends(commits: bool) -> str:
        async def work(watchdog: Watchdog) -> str:
            if commits:
                watchdog.begin_commit()
            waiting.cancel()
            return "done"

        async def wait() -> str:
            return await guarded(work)

        waiting = asyncio.create_task(wait())
        return await waiting

    assert await cancelled_as_it_ends(commits=True) == "done"
    with pytest.raises(asyncio.CancelledError):
        await cancelled_as_it_ends(commits=False)


async def test_a_cancel_just_before_a_commit_keeps_it_from_being_sent() -> None:
    """Sent and then cancelled, it would be committed and not counted."""
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sent = []

    async def work(watchdog: Watchdog) -> None:
        await answered
        watchdog.begin_commit(last=False)
        sent.append("COMMIT")
        await asyncio.sleep(0.05)

    loading = asyncio.create_task(guarded(work))
    await asyncio.sleep(0.01)
    loading.cancel()
    answered.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert sent == []


async def test_what_is_seen_through_survives_a_second_cancel_but_not_its_time() -> None:
    async def caller(seconds: float) -> bool:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return (await finish_despite_cancel(asyncio.sleep(0.1), seconds)).done()
        return False

    for seconds, is_done in ((1.0, True), (0.05, False)):
        calling = asyncio.create_task(caller(seconds))
        for _ in range(3):
            await asyncio.sleep(0.01)
            calling.cancel()
        assert await calling is is_done
