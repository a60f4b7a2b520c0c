"""SQLite's unique keys, by which rows are merged: PRAGMAs tell their columns and the collations that compare them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.database.schema import UniqueKey

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName

KEYS = sa.text("""
SELECT 'the primary key' AS key, name, pk AS position, true AS is_primary, false AS partial,
       (SELECT x.coll FROM pragma_index_list(:name, :schema) AS i, pragma_index_xinfo(i.name, :schema) AS x
        WHERE i.origin = 'pk' AND x.key AND x.cid = t.cid) AS collation
FROM pragma_table_info(:name, :schema) AS t WHERE pk > 0
UNION ALL
SELECT i.name, c.name, c.seqno, false, i.partial, c.coll
FROM pragma_index_list(:name, :schema) AS i, pragma_index_xinfo(i.name, :schema) AS c
WHERE i."unique" AND i.origin <> 'pk' AND c.key
ORDER BY key, position
""")
"""The rowid has no index, and ON CONFLICT takes no collation for it."""


async def unique_keys(connection: AsyncConnection, table: TableName) -> tuple[UniqueKey, ...]:
    """The keys of a table, the primary key first."""
    found = (await connection.execute(KEYS, {"name": table.name, "schema": table.schema})).all()
    keys = [_key([*columns]) for _, columns in itertools.groupby(found, key=lambda row: row.key)]
    return tuple(sorted(keys, key=lambda key: not key.is_primary))


def _key(columns: Sequence[Any]) -> UniqueKey:
    first, names = columns[0], tuple(one.name for one in columns if one.name is not None)
    refused = "it is an index of expressions" if len(names) < len(columns) else None
    refused = "it is a partial index" if first.partial else refused
    collations = tuple(f' COLLATE "{one.collation}"' if one.collation else "" for one in columns)
    vague = any((one.collation or "BINARY").upper() != "BINARY" for one in columns)
    return UniqueKey(names, first.is_primary, first.key, refused, collations=collations, equates_texts=vague)
