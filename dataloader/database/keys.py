"""Keys: what only the table's rows can tell. Each question is one query for many rows, never one per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataloader.database.backends import backend_for
from dataloader.database.backends.operators import OWN_OPERATORS
from dataloader.database.schema import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.conversion.rules import ColumnPlan
    from dataloader.database.schema import TableName

BETWEEN = "\x1f"
"""Joins the parts of a key."""
_ESCAPES = (("\x1e", "\x1e0"), (BETWEEN, "\x1e1"))
"""What stands in a part for what would join it."""


class Keys:
    """The values of some columns, row by row, as a key. Making one takes a while: do it in a thread.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        Converted rows.
    columns : sequence of ColumnPlan
        The key's columns, in its order.

    Attributes
    ----------
    joined : pyarrow.Array
        One text for each row, null where a part is NULL: such a key equals none.
    which : numpy.ndarray
        For each row which of the distinct keys it has, -1 for none.
    distinct : list of list
        The parts of the distinct keys, one list for each column.
    """

    def __init__(self, batch: pa.RecordBatch, columns: Sequence[ColumnPlan]) -> None:
        self.columns = columns
        parts = [comparable(_without_negative_zero(batch.column(column.name)), column) for column in columns]
        self.joined: pa.Array = joined(parts)
        self.which = pc.fill_null(self.joined.dictionary_encode().indices, -1).to_numpy()
        used = np.flatnonzero(self.which >= 0)
        _, first = np.unique(self.which[used], return_index=True)
        self.distinct = [part.take(pa.array(used[first])).to_pylist() for part in parts]


def _without_negative_zero(values: pa.Array) -> pa.Array:
    return pc.add(values, pa.scalar(0, values.type)) if pa.types.is_floating(values.type) else values


def joined(parts: Sequence[pa.Array]) -> pa.Array:
    """The parts of each key as one text, the same for no other key; null where a part is NULL."""
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*map(_escaped, parts), BETWEEN)


def _escaped(texts: pa.Array) -> pa.Array:
    found = texts.buffers()[2]
    characters = np.frombuffer(b"" if found is None else found, np.uint8)
    for plain, escaped in _ESCAPES:
        if (characters == ord(plain)).any():
            texts = pc.replace_substring(texts, plain, escaped)
    return texts


def comparable(values: pa.Array, column: ColumnPlan) -> pa.Array:
    """The text of a value, the same for values that the database finds equal."""
    texts = column.target.to_text(values)
    equal = column.target.row.equal_text
    return texts if equal is None else pc.replace_substring_regex(texts, *equal)


async def present(connection: AsyncConnection, keys: Keys, table: TableName, names: Sequence[str]) -> np.ndarray:
    """For each row whether `table` has a row with its key in the columns `names`; a key with NULL counts as there.

    Raises
    ------
    PlanError
        When the database is neither PostgreSQL nor SQLite.
    """
    found = np.zeros(len(keys.distinct[0]) + 1, bool)
    found[-1] = True
    if len(found) > 1:
        found[await _found(connection, keys, rows_of(table, names))] = True
    answer: np.ndarray = found[keys.which]
    return answer


async def _found(connection: AsyncConnection, keys: Keys, parent: sa.TableClause) -> list[int]:
    """The positions of the distinct keys that the table has."""
    types = [column.target for column in keys.columns]
    statement, parameters = backend_for(connection.dialect).existing_keys_query(keys.distinct, types, parent)
    own = {OWN_OPERATORS: any(one.row.has_own_operators for one in types)}
    found = await connection.execute(statement, parameters, execution_options=own)
    return [int(position) for (position,) in found]
