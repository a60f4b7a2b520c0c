"""A table or a query as a Dask DataFrame: whoever computes a partition reads a range of a key for it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.dataframe
import pyarrow as pa

from dataloader import sync
from dataloader.copying import survey
from dataloader.database import engine as engines
from dataloader.database.backends import backend_for
from dataloader.database.backends.reading import UNSETTLED
from dataloader.distributed.shards import made_of
from dataloader.errors import PlanError
from dataloader.reading import frames
from dataloader.reading.query import table_text
from dataloader.reading.ranges import Ranges
from dataloader.reading.stream import Reading
from dataloader.sources.formats import PART_BYTES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dataloader.database.backends.reading import Statement
    from dataloader.reading.query import Params

SAMPLED_ROWS = 1_000
"""So many rows tell how long they are."""


class _Partition:
    """Reads one, in any process; it has the database's password, and does not show it.

    Attributes
    ----------
    token : str
        Of this call: a scheduler that is still holding what an earlier one has read would give it again.
    """

    def __init__(self, made: Any, label: str, index: str | None) -> None:
        self._made, self._label, self._index = made, label, index
        self.token = uuid.uuid4().hex

    def __repr__(self) -> str:
        return f"<a partition of {self._label}>"

    def __call__(self, statement: Statement) -> Any:
        return sync.run(self._read(statement))  # in whatever thread, of which a loop may be running in one

    async def _read(self, statement: Statement) -> Any:
        engine = engines.open_engine(*self._made)
        try:
            return await asyncio.to_thread(self.frame, await _batches(engine, statement, self._label))
        finally:
            await engine.dispose()

    def frame(self, batches: list[pa.RecordBatch]) -> Any:
        """The frame of a partition; Dask would make texts of Python's objects, such as decimals and dates."""
        return frames.frame_of(batches, "pandas", "pyarrow", self._index)


async def read(
    query: object,
    params: Params | None,
    given: object,
    *,
    columns: Sequence[str] | None,
    timeout: float | None,
    index: str | None,
) -> Any:
    """Make a Dask DataFrame of a table or a query; its rows are read where and when they are computed.

    Raises
    ------
    PlanError
        When there is no column that its rows could be divided by, or no process can connect like this one.
    """
    engine = engines.resolve(given)
    backend = backend_for(engine.dialect)
    if backend.is_in_memory(engine):
        raise PlanError("the workers cannot reach a database in this process's memory", hint="Pass another URL.")
    made = made_of(engine)
    found = await survey.find_original(engine, query, params, columns)
    key = _key(index, found)
    statement = replace(_with_key(found, key), timeout=timeout)
    partition = _Partition(made, found.label, index)
    first = await _batches(engine, replace(statement, max_rows=SAMPLED_ROWS), found.label)
    _check_limits(first[0].schema)
    ranges = Ranges(statement, backend.quote(key))
    starts = pa.Table.from_batches(await _batches(engine, ranges.starts(_rows(first)), found.label))
    parts = [*ranges.parts(starts.column(0).to_pylist())]
    meta = (await asyncio.to_thread(partition.frame, first)).iloc[:0]
    return dask.dataframe.from_map(partition, parts, meta=meta, label="read")


async def _batches(engine: AsyncEngine, statement: Statement, label: str) -> list[pa.RecordBatch]:
    reading = Reading(engine, statement, label, "none", settles=True)
    async with contextlib.aclosing(reading.batches()) as batches:
        return [batch async for batch in batches]


def _key(index: str | None, found: survey.Original) -> str:
    """The column by whose ranges the rows are read."""
    if index is not None:
        return index
    if not found.key:
        what = f"{found.label} has no primary key whose ranges could be partitions"
        raise PlanError(what, hint="Name a column that the rows can be divided by: index='id'.")
    return found.key[0]


def _with_key(found: survey.Original, key: str) -> Statement:
    """The query, with the column that divides it, which need not be wanted."""
    statement = found.statement
    if found.table is None or statement.columns is None or key in statement.columns:
        return statement
    return replace(statement, text=table_text(found.table.name, found.backend, [*statement.columns, key]))


def _check_limits(schema: pa.Schema) -> None:
    """Refuse numbers whose type would be another one in each partition."""
    for field in schema:
        if UNSETTLED in (field.metadata or {}):
            what = f"the digits of column {field.name!r} are not limited, so its partitions would have several types"
            hint = f"Read it with a limit: CAST({field.name} AS numeric(38, 6))."
            raise PlanError(what, hint=hint)


def _rows(first: list[pa.RecordBatch]) -> int:
    """How many rows a partition has, to judge by the first ones."""
    count, nbytes = sum(batch.num_rows for batch in first), sum(batch.nbytes for batch in first)
    return max(2, int(PART_BYTES * count // max(nbytes, 1)))
