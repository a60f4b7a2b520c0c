"""Between tasks, threads and callers that are not async: `run`, and tasks that outlive or follow who waits for them.

Synchronous code shares one loop in one thread for the whole process, so that pools live on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import math
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from types import CoroutineType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.1
"""The wait is sliced, so that Ctrl-C and a kernel's stop button get through on every platform."""
SETTLE_SECONDS = 10.0


class _Background:
    """The loop and the process that it belongs to: a fork has the variable, but not the thread."""

    lock = threading.Lock()
    loop: asyncio.AbstractEventLoop | None = None
    pid: int | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """The process's loop in a daemon thread, started at the first call."""
    with _Background.lock:
        if _Background.loop is None or _Background.pid != os.getpid():
            _Background.loop, _Background.pid = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_Background.loop.run_forever, daemon=True, name="dataloader").start()
        return _Background.loop


class Running(Generic[T]):
    """A coroutine on the background loop.

    Attributes
    ----------
    outcome : concurrent.futures.Future
        What it returns or raises, SystemExit and asyncio.CancelledError included.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._task: asyncio.Task[None] | None = None
        self._loop = background_loop()
        self._loop.call_soon_threadsafe(self._begin, coroutine)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(_settle(coroutine, self.outcome))

    def cancel(self) -> None:
        """Cancel it, from whatever thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        assert self._task is not None  # it was begun first
        self._loop.call_soon(self._task.cancel)  # after its first step: a task that never ran would tell no outcome


def run(coroutine: Coroutine[Any, Any, T], *, nested: bool = False) -> T:
    """Run a loader, or any coroutine, from synchronous code and return its result.

    Works in scripts, in IPython, in a notebook cell and inside a running loop: the coroutine runs on
    a loop of its own in a background thread, the same for every call, and the caller waits. When the
    wait is interrupted (Ctrl-C, a kernel's stop button), the coroutine is cancelled and has rolled
    back before KeyboardInterrupt propagates.

    Parameters
    ----------
    coroutine : coroutine
        For example ``load_dataframe(df, "orders")``.
    nested : bool
        True runs it on the caller's own running loop, which nest-asyncio2 patches for it: only for
        an engine that this loop has used already, because an engine belongs to one loop.

    Returns
    -------
    object
        What the coroutine returns.

    Raises
    ------
    RuntimeError
        When it is called from the background thread itself, which would wait for ever.
    TypeError
        When it is given no coroutine. What the coroutine raises is raised as it is.

    Examples
    --------
    >>> import dataloader as dl
    >>> report = dl.run(dl.load_dataframe({"id": [1]}, "numbers", engine="sqlite:///:memory:", progress="none"))
    >>> report.loaded
    1
    """
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(f"run() takes a coroutine, like load_dataframe(df, 'orders'), not a {type(coroutine).__name__}")
    if nested:
        return _run_nested(coroutine)
    if is_background():
        coroutine.close()
        raise RuntimeError("run() was called from a coroutine that run() runs: await the coroutine instead")
    running = Running(coroutine)
    try:
        while not concurrent.futures.wait([running.outcome], timeout=SLICE_SECONDS).done:
            pass
    except BaseException as interrupt:
        running.cancel()
        if concurrent.futures.wait([running.outcome], timeout=SETTLE_SECONDS).done:
            _say_what_was_left(interrupt, running.outcome.exception())
        raise
    return running.outcome.result()


def _say_what_was_left(interrupt: BaseException, ended: BaseException | None) -> None:
    """Let the interrupt tell, in a notebook in one line, what the load said when it was cancelled."""
    for note in getattr(ended, "__notes__", ()):
        interrupt.add_note(note)
    if hasattr(ended, "_render_traceback_"):
        interrupt._render_traceback_ = ended._render_traceback_  # type: ignore[attr-defined,union-attr]  # IPython's


def is_background() -> bool:
    """Whether this is the background loop, where nothing may wait for it."""
    return _running_loop() is background_loop()


async def _settle(coroutine: Coroutine[Any, Any, T], outcome: concurrent.futures.Future[T]) -> None:
    """Hand over what the coroutine returns or raises: SystemExit too, which would end the loop's thread."""
    try:
        outcome.set_result(await coroutine)
    except BaseException as error:
        outcome.set_exception(error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _run_nested(coroutine: Coroutine[Any, Any, T]) -> T:
    loop = _running_loop()
    if loop is None:
        return run(coroutine)
    import nest_asyncio2  # noqa: PLC0415 - it patches the loop, so it is touched only when asked for

    nest_asyncio2.apply(loop)
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    task = loop.create_task(_settle(coroutine, outcome))
    with _interrupt_cancels(task) as interrupts:
        loop.run_until_complete(task)
    if interrupts:
        _say_what_was_left(interrupts[0], outcome.exception())
        raise interrupts[0]
    return outcome.result()


@contextlib.contextmanager
def _interrupt_cancels(task: asyncio.Task[None]) -> Iterator[list[KeyboardInterrupt]]:
    """Where signals arrive: the first is kept and cancels the task, as one raised here would leave the task behind."""
    interrupts: list[KeyboardInterrupt] = []

    def interrupt(_number: int, _frame: object) -> None:
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(KeyboardInterrupt())
        task.get_loop().call_soon_threadsafe(task.cancel)

    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    earlier = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, earlier)


class Call(Coroutine[Any, Any, T]):
    """A coroutine that says in a notebook that it was not awaited, in place of its address.

    >>> async def load(): ...
    >>> call = Call(load())
    >>> call
    <load() has not started: write await load(...)>
    >>> call.close()
    """

    __slots__ = ("__name__", "__qualname__", "_coroutine")

    def __init__(self, coroutine: CoroutineType[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.__name__, self.__qualname__ = coroutine.__name__, coroutine.__qualname__

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __repr__(self) -> str:
        name = self.__name__
        if inspect.getcoroutinestate(self._coroutine) == inspect.CORO_CREATED:
            return f"<{name}() has not started: write await {name}(...)>"
        return f"<{name}() was awaited>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("cr_", "_")):  # asyncio and debuggers read a coroutine's own
            return getattr(self._coroutine, name)
        called = self.__name__
        raise AttributeError(f"{called}() was not awaited, so it has no {name!r}: write await {called}(...)")


under_way: set[asyncio.Task[Any]] = set()
"""Asyncio alone would forget them."""


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """`asyncio.to_thread` for what takes much memory: neither arguments nor result stay behind in the pool.

    Its thread holds a call until it gets the GIL again, which on a busy machine is after the next chunk was made.
    """
    held: list[Any] = [work, arguments]
    del work, arguments
    await asyncio.to_thread(_replace_by_result, held)
    result: T = held.pop()
    return result


def _replace_by_result(held: list[Any]) -> None:
    held.append(held.pop(0)(*held.pop(0)))


async def finish_despite_cancel(work: Coroutine[Any, Any, T], seconds: float = math.inf) -> asyncio.Task[T]:
    """Begin `work` as a task and wait for its end, but no longer than `seconds`; then it continues by itself.

    Cancels are forgotten meanwhile: the caller raises its own error afterwards. What the work raises is in the
    task, and nobody need look at it.
    """
    task, _ = await _finished(work, seconds)
    return task


async def finish_before_cancel(work: Coroutine[Any, Any, Any]) -> None:
    """Begin `work` as a task, wait for its end, and raise the cancel that came meanwhile.

    For a caller who goes on afterwards: a cancel that is forgotten there would never end it.
    """
    _, cancel = await _finished(work, math.inf)
    if cancel is not None:
        raise cancel


async def _finished(
    work: Coroutine[Any, Any, T], seconds: float
) -> tuple[asyncio.Task[T], asyncio.CancelledError | None]:
    """The task when it has ended or the time is up, and the cancel that came meanwhile."""
    task, cancel = start_task(work), None
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while not task.done() and clock() < end:
        try:
            await asyncio.wait({task}, timeout=None if math.isinf(end) else end - clock())
        except asyncio.CancelledError as error:
            cancel = error
    return task, cancel


def start_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin `work` as a task that continues by itself; what it raises is in the task, and nobody need look at it."""
    task = asyncio.create_task(work)
    under_way.add(task)
    task.add_done_callback(_ended)
    return task


async def finish_under_way(seconds: float) -> None:
    """Wait for what continues by itself in this loop, but no longer than `seconds`."""
    this, loop = asyncio.current_task(), asyncio.get_running_loop()
    if others := {one for one in under_way if one is not this and one.get_loop() is loop}:
        await asyncio.wait(others, timeout=seconds)


async def end_task(task: asyncio.Future[Any]) -> None:
    """Cancel a task that is not done, and wait for its end; nobody need look at what it raises."""
    task.cancel()
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):  # one more; the first one is on its way
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did


async def await_and_propagate_cancel(task: asyncio.Task[Any]) -> int:
    """Wait for a task, cancelling it whenever the caller is cancelled, and return how often that was.

    Where the task succeeds nevertheless, the cancels are forgotten.
    """
    cancels = 0
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancels += 1
            task.cancel()
    caller = asyncio.current_task()
    if caller is not None and not task.cancelled() and task.exception() is None:
        for _ in range(cancels):
            caller.uncancel()
    return cancels


def _ended(task: asyncio.Task[Any]) -> None:
    under_way.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Do several things at once: the first error cancels the others, and is raised as it is when they have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failed:
        error = failed.exceptions[0]
    else:
        return
    raise error from error.__cause__  # in the handler it would get the group as context, and IPython show a traceback
