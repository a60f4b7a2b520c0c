"""Rows from one PostgreSQL to another: binary COPY on both sides, and nobody looks into the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.conversion.column_types import ColumnType, parse_type
from dataloader.database.backends.asyncpg_reading import about_rows_of, inlined, modifiers_of, session_of
from dataloader.database.backends.casting import unlimited
from dataloader.database.backends.copying import Pieces, QueryShape, ResultColumn, Taker
from dataloader.database.backends.postgresql_arrow import INTERVAL_PARTS
from dataloader.database.backends.reading import Statement, positions
from dataloader.database.schema import TableName

_COLUMNS = """
SELECT pg_catalog.format_type(t.oid, asked.modifier) AS sql, t.typtype = 'e' AS is_enum,
       CASE WHEN t.typtype = 'e' THEN ARRAY(
           SELECT CAST(n.enumlabel AS pg_catalog.text) FROM pg_catalog.pg_enum n
           WHERE n.enumtypid = t.oid ORDER BY n.enumsortorder) END AS labels,
       coalesce(e.typnamespace, t.typnamespace) = CAST('pg_catalog' AS pg_catalog.regnamespace)
           AND coalesce(e.typtype, t.typtype) IN ('b', 'r', 'm')
           AND coalesce(e.typsend, t.typsend) <> 0 AND coalesce(e.typreceive, t.typreceive) <> 0
           AND coalesce(e.typname, t.typname) NOT LIKE 'reg%'
           AND coalesce(e.typname, t.typname) NOT IN ('money', 'oid') AS is_portable
FROM ROWS FROM (pg_catalog.unnest(CAST($1 AS pg_catalog.oid[])), pg_catalog.unnest(CAST($2 AS pg_catalog.int4[])))
     WITH ORDINALITY AS asked (oid, modifier, number)
JOIN pg_catalog.pg_type t ON t.oid = asked.oid
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
ORDER BY asked.number
"""
"""Money means what the server's locale says; an oid, and what stands for one, is another server's something else. An
array of an enum has the number of its type in its bytes."""

_READS = """
WITH RECURSIVE locked (oid) AS (
    SELECT l.relation FROM pg_catalog.pg_locks l
    WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
  UNION
    SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN locked k ON k.oid OPERATOR(pg_catalog.=) i.inhrelid
)
SELECT CAST(n.nspname AS pg_catalog.text), CAST(c.relname AS pg_catalog.text)
FROM locked k JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.oid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'm', 'f'])
"""
"""What the transaction has locked to plan the query; who empties a partitioned table wants its parts."""


ASKED_TEXTS = 10_000
"""So many are asked for at once."""
_INTERVAL = "pg_catalog.format('%s mons %s days %s microseconds', {})"


async def as_written(driver: Any, texts: pa.Array, kind: ColumnType) -> pa.Array:
    """Texts as the server writes what it reads in them; an interval in its three parts, as it is read."""
    distinct = texts.unique().drop_null()
    value = f"CAST(asked.v AS {unlimited(kind)})"
    shown = f"pg_catalog.format('%s', {value})"  # as COPY writes it: a cast to text may say more
    if kind.row.rewritten == "in parts":
        shown = _INTERVAL.format(", ".join(part.format(value) for part in INTERVAL_PARTS))
    arrays = "pg_catalog.unnest(CAST($1 AS pg_catalog.text[])) WITH ORDINALITY AS asked (v, n)"
    sql = f"SELECT {shown} FROM {arrays} ORDER BY asked.n"
    written: list[str | None] = []
    for start in range(0, len(distinct), ASKED_TEXTS):
        rows = await driver.fetch(sql, distinct.slice(start, ASKED_TEXTS).to_pylist())
        written += [row[0] for row in rows]
    return pa.array(written, pa.string()).take(pc.index_in(texts, distinct))


async def describe(driver: Any, statement: Statement) -> QueryShape:
    """The columns of a query's result: of a domain the type that is stored."""
    text = await inlined(driver, statement)
    prepared = await driver.prepare(text, name="")
    attributes = prepared.get_attributes()
    types = [one.type.oid for one in attributes]
    rows = await driver.fetch(_COLUMNS, types, modifiers_of(prepared, len(types)))
    columns = tuple(
        ResultColumn(
            one.name,
            parse_type(row["sql"], "postgresql", tuple(row["labels"] or ())),
            bool(row["is_portable"] or row["is_enum"]),
        )
        for one, row in zip(attributes, rows, strict=True)
    )
    about_rows = await about_rows_of(driver, text)
    reads = frozenset(TableName(*row) for row in await driver.fetch(_READS))
    return QueryShape(columns, about_rows, reads)


async def send(driver: Any, statement: Statement, columns: Sequence[str], taker: Taker) -> int:
    """Hand on the bytes of a query's rows, in the open transaction, and return how many rows there were."""
    taker.begun(await session_of(driver))
    text = await inlined(driver, statement)
    prepared = await driver.prepare(text, name="")
    names = [one.name for one in prepared.get_attributes()]
    known = ", ".join(f"c{at}" for at in range(len(names)))
    asked = ", ".join(f"q.c{at}" for at in positions(names, columns))
    query = f"SELECT {asked} FROM (\n{text}\n) AS q ({known})"
    return _count(await driver.copy_from_query(query, output=taker.put, format="binary"))


async def receive(driver: Any, name: TableName, columns: Sequence[str], pieces: Pieces) -> int:
    """Store the bytes of rows, in the open transaction, and return how many were stored."""
    status = await driver.copy_to_table(
        name.name, schema_name=name.schema, columns=list(columns), source=pieces, format="binary"
    )
    return _count(status)


def _count(status: str) -> int:
    return int(status.removeprefix("COPY "))
