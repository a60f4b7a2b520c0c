"""Widening: the source is looked through for what does not fit its columns, and which types would take it."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from dataloader.columns import spelled_as_in
from dataloader.conversion.rules import ColumnPlan, column_plan
from dataloader.conversion.widening import Widths, type_for, wider
from dataloader.errors import PlanError
from dataloader.loading.chunks import read_batches, source_errors
from dataloader.plan import CHUNK_ROWS
from dataloader.sync import in_thread

if TYPE_CHECKING:
    import pyarrow as pa

    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.schema import Column, TableSchema
    from dataloader.options import LoadOptions
    from dataloader.sources.base import Source


async def needed_types(source: Source, found: TableSchema, options: LoadOptions) -> dict[str, ColumnType]:
    """The types that columns of a table need for a source, by name.

    What can be read twice is read once for it; of a stream only the types are known.
    """
    spelled = spelled_as_in(found, source.schema.names)
    known = {found.key(column.name): column for column in found.columns}
    pairs = [(one, known[key]) for one in source.schema if (key := found.key(spelled.get(one.name, one.name))) in known]
    narrow = [(field, column) for field, column in pairs if wider(column.type, numbered=column.counted)]
    if not source.in_memory and source.loader != "load_files":
        told = {column.name: type_for(column.type, one.type, numbered=column.counted) for one, column in narrow}
        return {name: kind for name, kind in told.items() if kind is not None and kind != found.column(name).type}
    planned = [(field, column, plan) for field, column in narrow if (plan := _plan(field, column, options)) is not None]
    refusing = [
        (plan, column.counted, functools.partial(_planned, field, column, options))
        for field, column, plan in planned
        if plan.can_refuse
    ]
    return await _looked_through(source, Widths(refusing), options) if refusing else {}


async def _looked_through(source: Source, widths: Widths, options: LoadOptions) -> dict[str, ColumnType]:
    rows = options.chunk_rows or CHUNK_ROWS["copy"]
    with source_errors():
        async with contextlib.aclosing(read_batches(source, rows)) as batches:
            async for batch, first_row in batches:
                await in_thread(widths.add, batch, first_row)
    return widths.needed


def _planned(field: pa.Field, column: Column, options: LoadOptions, kind: ColumnType) -> ColumnPlan:
    made = column_plan(field.with_name(column.name), kind, column.nullable, options.casts, options.assume_timezone)
    return made.taking_from(field.name)


def _plan(field: pa.Field, column: Column, options: LoadOptions) -> ColumnPlan | None:
    try:
        return _planned(field, column, options, column.type)
    except PlanError:  # the plan says so
        return None
