"""Keys: what only the table's rows can tell. Each question is one query for many rows, never one per row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dataloader.conversion.text import to_text
from dataloader.database.backends.operators import OWN_OPERATORS
from dataloader.database.schema import SQLITE_SCHEMA, TableName, cast_from_text, unnest
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.conversion.rules import ColumnPlan

BETWEEN = "\x1f"
"""Joins the parts of a key; a control character that keys do not contain."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to a row of another table."""

    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]


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
        parts = [_comparable(batch.column(column.name), column) for column in columns]
        self.joined: pa.Array = parts[0] if len(columns) == 1 else pc.binary_join_element_wise(*parts, BETWEEN)
        self.which = pc.fill_null(self.joined.dictionary_encode().indices, -1).to_numpy()
        used = np.flatnonzero(self.which >= 0)
        _, first = np.unique(self.which[used], return_index=True)
        self.distinct = [part.take(pa.array(used[first])).to_pylist() for part in parts]


def _comparable(values: pa.Array, column: ColumnPlan) -> pa.Array:
    """The text of a value, the same for values that the database finds equal."""
    texts = to_text(values, column.target)
    if column.target.kind in {"numeric", "number"}:
        return pc.replace_substring_regex(texts, r"(\.\d*?[1-9])0+$|\.0+$", r"\1")
    return pc.utf8_rtrim(texts, " ") if column.target.kind == "bpchar" else texts


async def unique_keys(connection: AsyncConnection, name: TableName) -> list[tuple[str, ...]]:
    """The columns of the primary key and of every unique constraint and index that holds for all rows."""
    if connection.dialect.name == "sqlite":
        rows = (await connection.execute(_SQLITE_KEYS, {"name": name.name, "schema": name.schema})).all()
        named = {key: [row.name for row in rows if row.key == key] for key in dict.fromkeys(row.key for row in rows)}
        return [tuple(names) for names in named.values() if None not in names]
    if connection.dialect.name != "postgresql":
        raise _not_asked(connection)
    found = await connection.execute(_POSTGRES_KEYS, {"name": _quoted(connection, name)})
    return list(dict.fromkeys(tuple(names) for (names,) in found))


_NAMES = """ARRAY(SELECT CAST(a.attname AS pg_catalog.text) FROM pg_catalog.unnest({0}) WITH ORDINALITY k (number, n)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = {1} AND a.attnum = k.number WHERE k.n <= {2} ORDER BY k.n)"""
"""The names of numbered columns of a table, the first few; SQLAlchemy's reflection calls functions without a schema."""
_POSTGRES_KEYS = sa.text(f"""
SELECT {_NAMES.format("i.indkey", "i.indrelid", "i.indnkeyatts")}
FROM pg_catalog.pg_index i
WHERE i.indrelid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass)
  AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, i.indexrelid
""")
_SQLITE_KEYS = sa.text("""
SELECT 'the primary key' AS key, name, pk AS position FROM pragma_table_info(:name, :schema) WHERE pk > 0
UNION ALL
SELECT i.name, c.name, c.seqno FROM pragma_index_list(:name, :schema) AS i, pragma_index_info(i.name, :schema) AS c
WHERE i."unique" AND NOT i.partial AND i.origin <> 'pk'
ORDER BY key, position
""")
"""SQLAlchemy's reflection reads the CREATE statement, and misses a UNIQUE that stands behind a type with a length."""


async def foreign_keys(connection: AsyncConnection, name: TableName) -> list[ForeignKey]:
    """The table's foreign keys, also those to itself."""
    if connection.dialect.name == "postgresql":
        found = await connection.execute(_POSTGRES_FOREIGN_KEYS, {"name": _quoted(connection, name)})
        return [ForeignKey(tuple(one[0]), TableName(one[1], one[2]), tuple(one[3])) for one in found]

    def inspect(plain: sa.Connection) -> list[ForeignKey]:
        return [
            ForeignKey(
                tuple(one["constrained_columns"]),
                TableName(one["referred_schema"] or name.schema, one["referred_table"]),
                tuple(one["referred_columns"]),
            )
            for one in sa.inspect(plain).get_foreign_keys(name.name, schema=name.schema)
        ]

    return await connection.run_sync(inspect)


_POSTGRES_FOREIGN_KEYS = sa.text(f"""
SELECT {_NAMES.format("c.conkey", "c.conrelid", "pg_catalog.cardinality(c.conkey)")}, n.nspname, p.relname,
       {_NAMES.format("c.confkey", "c.confrelid", "pg_catalog.cardinality(c.confkey)")}
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_class p ON p.oid = c.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
WHERE c.conrelid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass) AND c.contype = 'f'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint u WHERE u.oid = c.conparentid AND u.conrelid = c.conrelid)
ORDER BY c.conname
""")
"""A key to a partitioned table has a copy for each of its partitions."""


async def check_at_once(connection: AsyncConnection, table: TableName) -> None:
    """Have PostgreSQL check keys at every statement that it would check at the commit.

    What may depend on later rows stays deferred: foreign keys to the table itself, and constraint triggers.
    """
    name = _quoted(connection, table)
    found = await connection.execute(_DEFERRED, {"name": name})
    names = [constraint for (constraint,) in found]
    if names:
        await connection.exec_driver_sql(f"SET CONSTRAINTS {', '.join(names)} IMMEDIATE")


_DEFERRED = sa.text("""
SELECT pg_catalog.format('%I.%I', n.nspname, c.conname)
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
WHERE c.conrelid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass) AND c.condeferrable
  AND (c.contype IN ('p', 'u', 'x') OR c.contype = 'f' AND c.confrelid <> c.conrelid)
""")


def _quoted(connection: AsyncConnection, table: TableName) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    return ".".join(quote(part) for part in (table.schema, table.name) if part is not None)


async def may_read(connection: AsyncConnection, table: TableName) -> bool:
    """Whether this role may ask PostgreSQL for the rows of `table`."""
    asked = sa.func.pg_catalog.has_table_privilege(_quoted(connection, table), "SELECT")
    return bool(await connection.scalar(sa.select(asked)))


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
        found[await _found(connection, keys.distinct, keys.columns, table, names)] = True
    answer: np.ndarray = found[keys.which]
    return answer


async def _found(
    connection: AsyncConnection,
    values: list[list[Any]],
    columns: Sequence[ColumnPlan],
    table: TableName,
    names: Sequence[str],
) -> list[int]:
    """The positions of the keys that the table has."""
    asking = {"postgresql": _ask_postgres, "sqlite": _ask_sqlite}.get(connection.dialect.name)
    if asking is None:
        raise _not_asked(connection)
    statement, parameters = asking(values, columns, table, names)
    own = {OWN_OPERATORS: any(column.target.kind == "other" for column in columns)}
    found = await connection.execute(statement, parameters, execution_options=own)
    return [int(position) for (position,) in found]


def _not_asked(connection: AsyncConnection) -> PlanError:
    hint = "Leave unique= and foreign_keys= out: the database checks them when the rows are loaded."
    return PlanError(f"keys cannot be looked up in {connection.dialect.name}", hint=hint)


def _ask_postgres(
    values: list[list[Any]], columns: Sequence[ColumnPlan], table: TableName, names: Sequence[str]
) -> tuple[sa.Select[Any], dict[str, Any]]:
    texts = postgresql.ARRAY(sa.Text())
    parameters = {f"k{number}": part for number, part in enumerate(values)}
    arrays = [sa.bindparam(name, type_=texts) for name in parameters]
    asked = unnest(arrays).table_valued(*parameters, with_ordinality="n", name="asked").render_derived()
    parent = _table(table, names)
    equal = [
        parent.c[name] == cast_from_text(asked.c[key], column.target)
        for name, key, column in zip(names, parameters, columns, strict=True)
    ]
    return sa.select(asked.c.n - 1).where(sa.exists().where(*equal).select_from(parent)), parameters


def _ask_sqlite(
    values: list[list[Any]], _columns: Sequence[ColumnPlan], table: TableName, names: Sequence[str]
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The columns' affinity turns the texts into what they are compared with."""
    asked = sa.func.json_each(sa.bindparam("keys")).table_valued("key", "value", name="asked")
    parent = _table(table, names)
    equal = [parent.c[name] == sa.func.json_extract(asked.c.value, f"$[{number}]") for number, name in enumerate(names)]
    rows = list(zip(*values, strict=True))
    return sa.select(asked.c.key).where(sa.exists().where(*equal).select_from(parent)), {"keys": json.dumps(rows)}


def _table(table: TableName, names: Sequence[str]) -> sa.TableClause:
    schema = None if table.schema in {None, SQLITE_SCHEMA} else sa.quoted_name(table.schema, True)
    columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, True)) for name in names]
    return sa.table(sa.quoted_name(table.name, True), *columns, schema=schema)
