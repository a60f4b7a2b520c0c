"""A look at a whole source in memory: before the first commit, or after what ended a load that is rolled back."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from dataloader.conversion.converter import Converter
from dataloader.rejects import Findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from dataloader.plan import LoadPlan
    from dataloader.sources.base import ArrowSource

LOOKING_THREADS = 2
"""How many go through the source together: Arrow lets the GIL go."""


async def refuse_invalid(source: ArrowSource, decided: LoadPlan) -> None:
    """Look at every row of the source.

    Raises
    ------
    ValidationError
        Showing the first values that do not fit, and counting all.
    """
    columns = tuple(column for column in decided.columns if column.can_refuse)
    if not columns:
        return
    look = Look(source.batches(decided.chunk_rows), Converter(columns, source.label))
    try:
        await asyncio.gather(*(asyncio.to_thread(look.through) for _ in range(LOOKING_THREADS)))
    finally:
        look.stop()
    findings = look.findings()
    if findings.first:
        raise findings.error()


class Look:
    """Threads that go through batches together: each takes the next one, so that all are looked at once."""

    def __init__(self, batches: Iterator[pa.RecordBatch], convert: Converter) -> None:
        self._batches = batches
        self._convert = convert
        self._taking = threading.Lock()
        self._first_row = 0
        self._stopped = False
        self._found: dict[int, Findings] = {}

    def through(self) -> None:
        """Look at batches until there are no more."""
        while not self._stopped:
            with self._taking:
                batch, first_row = next(self._batches, None), self._first_row
                self._first_row += 0 if batch is None else batch.num_rows
            if batch is None:
                return
            violations = self._convert(batch, first_row).violations
            if violations:
                self._found[first_row] = Findings()
                self._found[first_row].add(violations)

    def stop(self) -> None:
        self._stopped = True

    def findings(self) -> Findings:
        """All that was found, in the order of the rows."""
        whole = Findings()
        for first_row in sorted(self._found):
            whole.join(self._found[first_row])
        return whole
