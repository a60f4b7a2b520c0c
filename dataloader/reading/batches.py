"""The batches of a query for the caller's own loop, which shows as stopped as soon as nobody wants more of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from dataloader.reading.stream import Reading


class Batches(AsyncGenerator["pa.RecordBatch", None]):
    """An asynchronous generator of batches.

    One that is dropped is closed by the event loop, in a task that runs later: in a notebook when the cell has ended,
    whose display takes nothing from then on. So the display ends where the generator is dropped.

    Parameters
    ----------
    begin : callable
        Gives the query, when the first batch is asked for.
    """

    def __init__(self, begin: Callable[[], Awaitable[Reading]]) -> None:
        self._under_way: list[Reading] = []
        self._generator: Any = _batches(begin, self._under_way)

    @property
    def ag_frame(self) -> Any:
        """None when it has been read, as of any asynchronous generator."""
        return self._generator.ag_frame

    def asend(self, value: None, /) -> Coroutine[Any, Any, pa.RecordBatch]:
        sending: Coroutine[Any, Any, pa.RecordBatch] = self._generator.asend(value)
        return sending

    def athrow(self, *error: Any) -> Coroutine[Any, Any, pa.RecordBatch]:
        throwing: Coroutine[Any, Any, pa.RecordBatch] = self._generator.athrow(*error)
        return throwing

    def aclose(self) -> Coroutine[Any, Any, None]:
        closing: Coroutine[Any, Any, None] = self._generator.aclose()
        return closing

    def __del__(self) -> None:
        for reading in self._under_way:
            reading.show_stopped()


async def _batches(begin: Callable[[], Awaitable[Reading]], under_way: list[Reading]) -> AsyncGenerator[pa.RecordBatch]:
    reading = await begin()
    under_way.append(reading)
    async with contextlib.aclosing(reading.batches()) as batches:
        async for batch in batches:
            yield batch
