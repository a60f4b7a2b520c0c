"""Tasks that are seen through although whoever began them is cancelled, and cancelled again."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_under_way: set[asyncio.Task[Any]] = set()
"""Asyncio alone would forget them."""


async def seen_through(work: Coroutine[Any, Any, T], seconds: float = math.inf) -> asyncio.Task[T]:
    """Begin `work` as a task and wait for its end, but no longer than `seconds`; then it goes on by itself.

    Cancels are forgotten meanwhile: the caller raises its own error afterwards. What the work raises is in the
    task, and nobody need look at it.
    """
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_ended)
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while not task.done() and clock() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=None if math.isinf(end) else end - clock())
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did
