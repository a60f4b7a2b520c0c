"""Streams that can be read once: a second reading is refused, and the end of a load closes them."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sized
from typing import Any

from dataloader.errors import PlanError
from dataloader.sync import finish_despite_cancel

CLOSE_SECONDS = 0.5
"""How long a step of a stream that is under way is waited for; it is closed when that step ends."""
_LOOK_SECONDS = 0.01

_read: dict[int, weakref.ref[Any]] = {}
"""What was read, by its id for as long as it lives."""


def is_stream(data: object) -> bool:
    """Whether it can be read once: what gives itself as its iterator."""
    return isinstance(data, (Iterator, AsyncIterator))


@contextlib.asynccontextmanager
async def taken(data: object) -> AsyncIterator[None]:
    """Read a stream once; a generator is closed afterwards, whatever came of it.

    Raises
    ------
    PlanError
        When it was read before.
    """
    take(data)
    try:
        yield
    finally:
        if isinstance(data, AsyncGenerator):
            await finish_despite_cancel(data.aclose(), CLOSE_SECONDS)
        elif isinstance(data, Generator):
            await closed(data)


def take(data: object) -> None:
    """Refuse a stream that was read before, and remember one that is read now.

    Raises
    ------
    PlanError
        When it was read before.
    """
    if not is_stream(data):
        return
    if _was_read(data) or getattr(data, "gi_frame", data) is None or getattr(data, "ag_frame", data) is None:
        raise _read_before(data)
    _remember(data)


def check(data: object, has_rows: bool) -> None:
    """Refuse what gives no row now and gave some before, though its kind does not say that it can be read once.

    Raises
    ------
    PlanError
        When that is so.
    """
    if is_stream(data) or isinstance(data, Sized):
        return
    if has_rows:
        _remember(data)
    elif _was_read(data):
        raise _read_before(data)


def _remember(data: object) -> None:
    key = id(data)
    with contextlib.suppress(TypeError):  # a list's iterator and its like: they cannot be told from later ones
        _read[key] = weakref.ref(data, lambda _: _read.pop(key, None))


def _was_read(data: object) -> bool:
    known = _read.get(id(data))
    return known is not None and known() is data


def _read_before(data: object) -> PlanError:
    hint = "It can be read once: make it anew for every load and validation."
    return PlanError(f"the {type(data).__name__} has been read already", hint=hint, committed_rows=0)


async def closed(*streams: Any) -> None:
    """Close generators and readers, one after another; a step under way in a thread is waited for, but not for long."""
    if streams:
        await finish_despite_cancel(asyncio.to_thread(close, *streams), CLOSE_SECONDS)


def close(*streams: Any) -> None:
    """Close generators and readers; one that another thread is reading, when its step has ended."""
    for stream in streams:
        with contextlib.suppress(Exception):  # of the caller's own cleaning up: the load has its outcome already
            _close(stream)


def _close(stream: Any) -> None:
    while True:
        try:
            stream.close()
        except ValueError as error:
            if str(error) != "generator already executing":
                raise
        else:
            return
        time.sleep(_LOOK_SECONDS)
