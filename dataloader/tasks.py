"""Tasks and their callers: those that are seen through whatever happens to the caller, and those that follow it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_under_way: set[asyncio.Task[Any]] = set()
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


async def seen_through(work: Coroutine[Any, Any, T], seconds: float = math.inf) -> asyncio.Task[T]:
    """Begin `work` as a task and wait for its end, but no longer than `seconds`; then it goes on by itself.

    Cancels are forgotten meanwhile: the caller raises its own error afterwards. What the work raises is in the
    task, and nobody need look at it.
    """
    task = begun(work)
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while not task.done() and clock() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=None if math.isinf(end) else end - clock())
    return task


def begun(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin `work` as a task that goes on by itself; what it raises is in the task, and nobody need look at it."""
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_ended)
    return task


async def followed(task: asyncio.Task[Any]) -> int:
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
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did
