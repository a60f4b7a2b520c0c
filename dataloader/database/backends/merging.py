"""The seam of merging: rows of a temporary table are inserted, update those that are there, or delete them."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from dataloader.conversion.temporal import ZONED
from dataloader.conversion.violations import cut
from dataloader.database.backends.operators import OWN_OPERATORS
from dataloader.database.schema import Merged, MergeTarget, TableName
from dataloader.errors import LoadError, PlanError

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.schema import Merge, TableSchema


class Merging:
    """What a backend does with rows that have a key.

    The table is called ``target`` in its statements, the temporary one ``given``.
    """

    if TYPE_CHECKING:
        dialect: Dialect

        def check_text(self, text: str, what: str, *, hint: str) -> None: ...
        def quote(self, name: str) -> str: ...
        def quote_table(self, name: TableName) -> str: ...

    order: ClassVar[str] = "rowid"
    """The column of the temporary table that tells the order of its rows."""
    functions: ClassVar[str] = ""
    """What stands before the name of a function."""
    position: ClassVar[str] = "rowid"
    """The column of any table that tells where a row is, in the order in which they were written."""
    among: ClassVar[str] = "IN"
    """The operator that finds a value among those of a query."""
    staging: ClassVar[TableName] = TableName(None, "dataloader_staged")
    """The temporary table whose rows are merged."""
    merge_obstacle: ClassVar[str | None] = "only PostgreSQL and SQLite merge rows by a key"
    """Why rows cannot be merged by a key, None if they can."""

    def escaped(self, sql: str) -> str:
        """The caller's SQL, in which no driver finds the place of a parameter."""
        return sql.replace("%", "%%") if self.dialect.identifier_preparer._double_percents else sql

    def literal(self, value: object, kind: ColumnType) -> str:
        """What makes a condition of the name of a column of a type: that it has the value."""
        try:
            plain = _plain(value)
            if plain is None:
                return "IS NULL"
            if kind.row.has_zone and _is_naive(plain):
                what = f"the value {cut_repr(plain)} of within= has no offset from UTC, and its column has a time zone"
                raise PlanError(
                    what, hint="Say what it means: datetime(2024, 5, 17, tzinfo=ZoneInfo('Europe/Berlin'))."
                )
            if isinstance(plain, str):
                self.check_text(plain, f"the value {cut_repr(plain)} of within=", hint="No row can have it.")
            if isinstance(plain, (float, decimal.Decimal)) and not math.isfinite(plain):
                raise NotImplementedError
            spelled = sa.literal(plain).compile(dialect=self.dialect, compile_kwargs={"literal_binds": True})
        except (sa.exc.CompileError, pa.ArrowException, NotImplementedError, AttributeError) as error:
            what = f"the {type(value).__name__} {cut_repr(value)} cannot be written as SQL"
            raise PlanError(what, hint="Write the condition as SQL: within=\"day = '2024-05-17'\".") from error
        return f"= {spelled}"

    async def merge_target(self, connection: AsyncConnection, table: TableSchema) -> MergeTarget:
        """What is to be known of a table before rows are merged into it."""
        return MergeTarget(refused=self.merge_obstacle)

    async def stage(self, connection: AsyncConnection, merge: Merge) -> None:
        """Make the empty temporary table, with columns of the table's own types."""
        raise NotImplementedError

    async def unstage(self, connection: AsyncConnection) -> None:
        """Drop the temporary table."""
        await connection.exec_driver_sql(f"DROP TABLE {self.quote_table(self.staging)}")

    async def merge(self, connection: AsyncConnection, merge: Merge, staged: int) -> Merged:
        """Merge the rows of the temporary table, of which there are so many."""
        if merge.action == "insert":
            return await self._insert_or_update(connection, merge, staged)
        return await (self._delete if merge.action == "delete" else self._update)(connection, merge, staged)

    async def _delete(self, connection: AsyncConnection, merge: Merge, staged: int) -> Merged:
        table, given, same = self._joined(merge)
        await self.know_staged(connection, merge)
        there = None
        if merge.looks_first:  # a trigger may keep rows, which then are not missing
            sql = f"SELECT {self.functions}count(*) FROM {given} AS given "
            sql += f"WHERE EXISTS (SELECT 1 FROM {table} AS target WHERE {same})"
            there = (await connection.exec_driver_sql(sql)).scalar_one()
        sql = f"DELETE FROM {table} AS target WHERE EXISTS (SELECT 1 FROM {given} AS given WHERE {same})"
        deleted = (await connection.exec_driver_sql(sql)).rowcount
        return Merged(deleted=deleted, missing=staged - (deleted if there is None else there))

    async def _update(self, connection: AsyncConnection, merge: Merge, staged: int) -> Merged:
        table, given, same = self._joined(merge)
        differs = self._differs(merge, "target", "given") if merge.updated else "false"
        changed = f"{self.functions}count(CASE WHEN {differs} THEN 1 END)"
        sql = f"SELECT {self.functions}count(*), {changed} FROM {given} AS given JOIN {table} AS target ON {same}"
        counted: Any = (await connection.exec_driver_sql(sql)).one()
        there, differing = counted
        values = ", ".join(f"{self.quote(name)}=given.{self.quote(name)}" for name in merge.updated)
        sql = f"UPDATE {table} AS target SET {values} FROM {given} AS given WHERE {same} AND {differs}"
        updated = (await connection.exec_driver_sql(sql)).rowcount if differing else 0
        return Merged(updated=updated, left=there - differing, missing=staged - there)

    async def know_staged(self, connection: AsyncConnection, merge: Merge) -> None:
        """Let the database find the rows of the temporary table by their key, now that they are all there."""

    async def count_others(self, connection: AsyncConnection, merge: Merge, within: str) -> tuple[int, int]:
        """How many rows of the table a condition holds for, and how many of them the temporary table does not have."""
        table, given, same = self._joined(merge)
        those = f"SELECT {self.functions}count(*) FROM {table} AS target WHERE {within}"
        there = f"EXISTS (SELECT 1 FROM {given} AS given WHERE {same})"
        sql = f"SELECT ({those}), ({those} AND NOT {there})"  # as a condition it is a join, as a value a loop
        found: Any = (await connection.exec_driver_sql(sql, execution_options={OWN_OPERATORS: True})).one()
        return int(found[0]), int(found[1])

    async def delete_others(self, connection: AsyncConnection, merge: Merge, within: str) -> int:
        """Delete the rows of the table that a condition holds for, and that the temporary table does not have."""
        table, given, same = self._joined(merge)
        there = f"EXISTS (SELECT 1 FROM {given} AS given WHERE {same})"
        sql = f"DELETE FROM {table} AS target WHERE {within} AND NOT {there}"
        return (await connection.exec_driver_sql(sql, execution_options={OWN_OPERATORS: True})).rowcount

    async def count_outside(self, connection: AsyncConnection, within: str) -> int:
        """How many rows of the temporary table a condition does not hold for."""
        sql = (
            f"SELECT {self.functions}count(*) FROM {self.quote_table(self.staging)} WHERE NOT COALESCE({within}, false)"
        )
        return int((await connection.exec_driver_sql(sql, execution_options={OWN_OPERATORS: True})).scalar_one())

    def _joined(self, merge: Merge) -> tuple[str, str, str]:
        """The table, the temporary one, and the condition under which rows of them have the same key."""
        return self.quote_table(merge.table), self.quote_table(self.staging), same_key(merge, self.quote)

    async def some_others(self, connection: AsyncConnection, merge: Merge, within: str, most: int) -> list[str]:
        """The keys of some of those rows, as text."""
        table, given, same = self._joined(merge)
        key = ", ".join(f"target.{self.quote(name)}" for name in merge.key)
        there = f"EXISTS (SELECT 1 FROM {given} AS given WHERE {same})"
        sql = f"SELECT {key} FROM {table} AS target WHERE {within} AND NOT {there} ORDER BY {key} LIMIT {most}"
        found = await connection.exec_driver_sql(sql, execution_options={OWN_OPERATORS: True})
        return [", ".join(map(str, row)) for row in found]

    async def merge_returning(
        self, connection: AsyncConnection, merge: Merge, staged: int
    ) -> tuple[Merged, Sequence[Any]]:
        """Merge, and return the wanted values of each row that was given, in the order of the rows.

        With a key each row is followed by whether it was inserted, and not there before.

        Raises
        ------
        LoadError
            When a row cannot be found again: a trigger has dropped or changed it, or its key is NULL.
        """
        if not merge.key:
            return Merged(staged), await self._insert_returning(connection, merge, staged)
        table, given, same = self._joined(merge)
        there = f"EXISTS (SELECT 1 FROM {table} AS target WHERE {same})"
        sql = f"SELECT NOT {there} FROM {given} AS given ORDER BY given.{self.order}"
        asked = await connection.exec_driver_sql(sql)
        new = [bool(is_new) for (is_new,) in _fetched(asked)]
        kept = await self._keep_staged(connection, merge)
        merged = await self.merge(connection, merge, staged)
        wanted = ", ".join(f"target.{self.quote(name)}" for name in merge.returning)
        sql = f"SELECT {wanted} FROM {kept} AS given JOIN {table} AS target ON {same} ORDER BY given.{self.order}"
        found = _fetched(await connection.exec_driver_sql(sql))
        await self._drop_kept(connection)
        _check_found(len(found), staged, "have NULL in their key, or another one since a trigger has changed them")
        return merged, [(*row, is_new) for row, is_new in zip(found, new, strict=True)]

    async def _insert_returning(self, connection: AsyncConnection, merge: Merge, staged: int) -> Sequence[Any]:
        """Both databases return rows in the order in which they are inserted, and insert them as they are sorted."""
        columns, names = (", ".join(map(self.quote, some)) for some in (merge.columns, merge.returning))
        table, given, _ = self._joined(merge)
        selected = f"{overriding(merge)}SELECT {columns} FROM {given} ORDER BY {self.order}"
        sql = f"INSERT INTO {table} ({columns}) {selected} RETURNING {names}"
        rows = _fetched(await connection.exec_driver_sql(sql))
        _check_found(len(rows), staged, "were dropped by a trigger or a rule")
        return rows

    async def _keep_staged(self, connection: AsyncConnection, merge: Merge) -> str:
        """The name of a table that has the staged keys in their order, after the merge as well."""
        return self.quote_table(self.staging)

    async def _drop_kept(self, connection: AsyncConnection) -> None:
        """Drop that, where it is a table of its own."""

    async def changed_cells(self, connection: AsyncConnection, merge: Merge, most: int) -> list[str]:
        """What would change in some of the rows that are there: the key, and each value before and after."""
        if not merge.updated:
            return []
        table, given, same = self._joined(merge)
        names = [*merge.key, *merge.updated]
        columns = [f"{one}.{self.quote(name)}" for one in ("target", "given") for name in names]
        sql = f"SELECT {', '.join(columns)} FROM {given} AS given JOIN {table} AS target ON {same}"
        sql += f" WHERE {self._differs(merge, 'target', 'given')} ORDER BY {', '.join(columns[: len(merge.key)])}"
        found = await connection.exec_driver_sql(f"{sql} LIMIT {most}")
        return [_shown(merge, row[: len(names)], row[len(names) :]) for row in found]

    async def repeated(self, connection: AsyncConnection, merge: Merge) -> list[tuple[int, str]]:
        """Of two rows of the temporary table with one key their places among all, and their keys; none if all differ.

        The rows are in the order in which they were written.
        """
        staging, key, terms = self._keyed(merge)
        known = self._is_known(merge)
        several = f"SELECT 1 FROM {staging} WHERE {known} GROUP BY {terms} HAVING {self.functions}count(*) > 1 LIMIT 1"
        if (await connection.exec_driver_sql(several)).first() is None:
            return []
        counted = (
            f"SELECT {key}, {self.functions}row_number() OVER (ORDER BY {self.position}) AS dataloader_place, "
            f"{self.functions}count(*) OVER (PARTITION BY {terms}) AS dataloader_alike FROM {staging}"
        )
        sql = f"SELECT dataloader_place, {key} FROM ({counted}) AS counted WHERE dataloader_alike > 1 AND {known}"
        found = await connection.exec_driver_sql(f"{sql} ORDER BY {terms}, dataloader_place LIMIT 2")
        return [(row[0] - 1, ", ".join(map(str, row[1:]))) for row in found]

    async def leave_out_repeated(self, connection: AsyncConnection, merge: Merge, *, keep: str) -> int:
        """Of rows of the temporary table with one key leave the ``first`` or ``last`` there; how many were not left."""
        staging, _, terms = self._keyed(merge)
        order = f"{self.position} {'ASC' if keep == 'first' else 'DESC'}"
        number = f"{self.functions}row_number() OVER (PARTITION BY {terms} ORDER BY {order})"
        those = f"FROM {staging} WHERE {self._is_known(merge)}"
        ranked = f"SELECT {self.position} AS place, {number} AS number {those}"
        those = f"SELECT place FROM ({ranked}) AS ranked WHERE number > 1"
        sql = f"DELETE FROM {staging} WHERE {self.position} {self.among} ({those})"
        return (await connection.exec_driver_sql(sql)).rowcount

    def _keyed(self, merge: Merge) -> tuple[str, str, str]:
        """The temporary table, the columns of the key, and what rows with one key have in common."""
        return self.quote_table(self.staging), ", ".join(map(self.quote, merge.key)), key_terms(merge, self.quote)

    def _is_known(self, merge: Merge) -> str:
        """The condition that a key can equal another."""
        if merge.by.equates_nulls:
            return "true"
        return " AND ".join(f"{self.quote(name)} IS NOT NULL" for name in merge.key)

    async def _insert_or_update(self, connection: AsyncConnection, merge: Merge, staged: int) -> Merged:
        raise NotImplementedError

    def _differs(self, merge: Merge, ours: str, theirs: str) -> str:
        """The condition that something differs in what is updated, to the last digit."""
        raise NotImplementedError


def key_terms(merge: Merge, quote: Callable[[str], str]) -> str:
    """The columns of the key with the collations by which its index compares them."""
    collations = merge.by.collations or ("",) * len(merge.key)
    return ", ".join(quote(name) + collation for name, collation in zip(merge.key, collations, strict=True))


def same_key(merge: Merge, quote: Callable[[str], str]) -> str:
    """The condition under which rows of the table and of the temporary one have the same key, as its index has it."""
    key, many = merge.by, len(merge.key)
    collations = key.collations or ("",) * many
    pairs = [
        (f"target.{quote(name)}", f"given.{quote(name)}{collation}")
        for name, collation in zip(merge.key, collations, strict=True)
    ]
    if key.equates_nulls:  # as whole rows are compared; nothing else is a join of many rows
        ours, theirs = (f"CAST(ROW({', '.join(side)}) AS pg_catalog.record)" for side in zip(*pairs, strict=True))
        return f"{ours} = {theirs}"
    operators = key.operators or ("=",) * many
    return " AND ".join(f"{ours} {equals} {theirs}" for (ours, theirs), equals in zip(pairs, operators, strict=True))


def _plain(value: Any) -> object:
    """A value of NumPy or pandas as Python's, and None for one that is missing, as loads take it."""
    if type(value).__module__.partition(".")[0] in {"numpy", "pandas"}:
        value = pa.array(np.asarray([value]), from_pandas=True)[0].as_py()
    if hasattr(value, "to_pydatetime") and not value.nanosecond:
        value = value.to_pydatetime()
    return None if isinstance(value, (float, decimal.Decimal)) and math.isnan(value) else value


def _is_naive(value: object) -> bool:
    """Whether the zone of the session would decide which moment is meant."""
    if isinstance(value, str):
        return re.search(ZONED, value.strip()) is None
    return isinstance(value, dt.date) and getattr(value, "tzinfo", None) is None


def overriding(merge: Merge) -> str:
    """What an INSERT says between its columns and its rows, where those bring numbers that the database would give."""
    return "OVERRIDING SYSTEM VALUE " if merge.overriding else ""


def _fetched(result: sa.CursorResult[Any]) -> Sequence[Any]:
    """All rows as the driver has them: SQLAlchemy would make an object of each on the loop, 0.1 s for 50,000."""
    rows = result.cursor.fetchall()
    result.close()
    return rows


def _check_found(found: int, staged: int, what: str) -> None:
    if found != staged:
        problem = f"{abs(staged - found):,} of {staged:,} rows {what}, so that returning= cannot tell their values"
        raise LoadError(problem, hint="Load without returning=.", committed_rows=0)


def _shown(merge: Merge, before: Sequence[Any], after: Sequence[Any]) -> str:
    key = ", ".join(f"{name} {value}" for name, value in zip(merge.key, before, strict=False))
    at = len(merge.key)
    cells = zip(merge.updated, map(cut_repr, before[at:]), map(cut_repr, after[at:]), strict=True)
    return f"{key}: " + ", ".join(f"{name} {old} → {new}" for name, old, new in cells if old != new)


def cut_repr(value: object) -> str:
    """A value as it is shown."""
    return "NULL" if value is None else cut(repr(value) if isinstance(value, (str, bytes)) else str(value))
