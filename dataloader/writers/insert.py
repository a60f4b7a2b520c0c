"""INSERT: from arrays on PostgreSQL, the driver's executemany on SQLite, and Core's on any other dialect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from dataloader.conversion.text import read_number
from dataloader.database.backends.base import driver_of, raise_as_sqlalchemys
from dataloader.database.backends.casting import cast_from_text, unnest
from dataloader.writers.base import Written

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.conversion.column_types import ColumnType
    from dataloader.conversion.rules import ColumnPlan
    from dataloader.database.watchdog import Watchdog
    from dataloader.plan import LoadPlan

STATEMENT_VALUES = 500
"""Values in one INSERT of SQLite's, which allows 32,766; beyond 500 nothing is gained."""
STATEMENT_ROWS, STATEMENT_BYTES = 10_000, 512 * 1024
"""What one INSERT of PostgreSQL's takes at most: the driver encodes it on the loop, which must not stand still."""


class ArrayWriter:
    """Writes chunks to PostgreSQL by INSERT ... SELECT from one array for each column.

    PostgreSQL tells how many rows of one statement it has stored, and of an executemany no driver does. It is twice
    as fast as well. The values travel as text: what a driver's codec does to them differs, and asyncpg asks the
    server about every array type but text[].
    """

    def __init__(self, plan: LoadPlan, dialect: Dialect) -> None:
        self._names = [f"p{position}" for position in range(len(plan.columns))]
        self._python = [_texts_for(column) for column in plan.columns]
        texts = sa.ARRAY(sa.Text(), dimensions=1)
        arrays = [sa.bindparam(name, type_=texts) for name in self._names]
        given = unnest(arrays).table_valued(*self._names, name="given").render_derived()
        values = [_read(given.c[name], column.target) for name, column in zip(self._names, plan.columns, strict=True)]
        table = _table(plan)
        insert = _Overriding if plan.numbers.overrides else sa.Insert
        inserted = insert(table).from_select(list(table.c), sa.select(*values))
        self._statement = inserted.execution_options(preserve_rowcount=True)

    def encode(self, batch: pa.RecordBatch) -> tuple[list[dict[str, Any]], int]:
        rows, size = batch.num_rows, max(1, batch.nbytes)
        step = max(1, min(STATEMENT_ROWS, rows * STATEMENT_BYTES // size))
        return [self._arrays(batch.slice(start, step)) for start in range(0, rows, step)], batch.nbytes

    def _arrays(self, batch: pa.RecordBatch) -> dict[str, Any]:
        columns = zip(self._names, self._python, batch.columns, strict=True)
        return {name: python(values) for name, python, values in columns}

    async def write(
        self, connection: AsyncConnection, encoded: list[dict[str, Any]], watchdog: Watchdog
    ) -> Written | None:
        stored = 0
        for arrays in encoded:
            stored += (await connection.execute(self._statement, arrays)).rowcount
            watchdog.reset_timeout()
        return Written(stored)


class _Overriding(sa.Insert):
    """INSERT ... OVERRIDING SYSTEM VALUE SELECT, which Core has no word for."""

    inherit_cache = True


@compiles(_Overriding)
def _overriding(insert: _Overriding, compiler: Any, **options: Any) -> str:
    columns = ", ".join(compiler.preparer.format_column(column) for column in insert.table.c)
    head = f"INSERT INTO {compiler.preparer.format_table(insert.table)} ({columns}) "
    text: str = compiler.visit_insert(insert, **options)
    assert text.startswith(head), text
    return f"{head}OVERRIDING SYSTEM VALUE {text[len(head) :]}"


class InsertWriter:
    """Writes chunks by Core's executemany."""

    def __init__(self, plan: LoadPlan, dialect: Dialect) -> None:
        self._names = [f"p{position}" for position in range(len(plan.columns))]
        self._python = [_core_values(column) for column in plan.columns]
        pairs = zip(self._names, plan.columns, strict=True)
        self._statement = _insert(plan, [sa.bindparam(name, type_=_bound(column)) for name, column in pairs])

    def encode(self, batch: pa.RecordBatch) -> tuple[list[dict[str, Any]], int]:
        columns = [python(values) for python, values in zip(self._python, batch.columns, strict=True)]
        rows = [dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True)]
        return rows, batch.nbytes

    async def write(
        self, connection: AsyncConnection, encoded: list[dict[str, Any]], watchdog: Watchdog
    ) -> Written | None:
        stored = (await connection.execute(self._statement, encoded)).rowcount
        watchdog.reset_timeout()
        return Written(stored) if connection.dialect.supports_sane_multi_rowcount else None


class SqliteWriter:
    """Writes chunks by the driver's executemany, many rows to a statement and no object for a row.

    Measured with five columns: a third faster than one row to a statement, ten times Core's executemany.
    """

    def __init__(self, plan: LoadPlan, dialect: Dialect) -> None:
        self._python = [_sqlite_values(column) for column in plan.columns]
        self._width = len(plan.columns)
        self._step = max(1, STATEMENT_VALUES // self._width) * self._width
        values: list[sa.ColumnElement[Any]] = [sa.bindparam(f"p{position}") for position in range(self._width)]
        self._head, _, self._row = str(_insert(plan, values).compile(dialect=dialect)).rpartition(" VALUES ")
        counting = sa.select(sa.func.count()).select_from(_table(plan)).compile(dialect=dialect)
        self._counting = str(counting) if plan.table.kind == "view" else None

    def encode(self, batch: pa.RecordBatch) -> tuple[list[list[Any]], int]:
        columns = [python(values) for python, values in zip(self._python, batch.columns, strict=True)]
        flat = list(itertools.chain.from_iterable(zip(*columns, strict=True)))
        return [flat[start : start + self._step] for start in range(0, len(flat), self._step)], batch.nbytes

    async def write(self, connection: AsyncConnection, encoded: list[list[Any]], watchdog: Watchdog) -> Written | None:
        driver = await driver_of(connection)
        *full, last = encoded
        before = await self._count(driver)
        stored = 0
        for statements in (full, [last]):
            if statements:
                cursor = await self._send(connection, driver, statements)
                stored += cursor.rowcount
                await cursor.close()
                watchdog.reset_timeout()
        return Written(stored if before is None else await self._count(driver) - before)

    async def _send(self, connection: AsyncConnection, driver: Any, statements: list[Any]) -> Any:
        try:
            return await driver.executemany(self._statement(len(statements[0])), statements)
        except Exception as error:
            raise_as_sqlalchemys(connection, error, f"{self._head} VALUES ...")
            raise

    async def _count(self, driver: Any) -> Any:
        """A view's rows: SQLite counts none of those that its triggers store."""
        if self._counting is None:
            return None
        (found,) = await driver.execute_fetchall(self._counting)
        return found[0]

    def _statement(self, values: int) -> str:
        return f"{self._head} VALUES {', '.join([self._row] * (values // self._width))}"


def _table(plan: LoadPlan) -> sa.TableClause:
    columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(column.name, True)) for column in plan.columns]
    return sa.table(sa.quoted_name(plan.table.name.name, True), *columns, schema=plan.table.name.schema)


def _insert(plan: LoadPlan, values: list[sa.ColumnElement[Any]]) -> sa.Insert:
    table = _table(plan)
    return sa.insert(table).values(dict(zip(table.c, values, strict=True)))


def _read(text: sa.ColumnElement[Any], target: ColumnType) -> sa.ColumnElement[Any]:
    return text if target.row.is_text else cast_from_text(text, target)


def _texts_for(column: ColumnPlan) -> Callable[[pa.Array], list[Any]]:
    return lambda values: column.target.to_text(values).to_pylist()


def _core_values(column: ColumnPlan) -> Callable[[pa.Array], list[Any]]:
    return _objects if column.target.row.to_text is None else _texts_for(column)


def _bound(column: ColumnPlan) -> Any:
    """The type by which SQLAlchemy hands the values to the driver."""
    arrow_type = column.arrow_type
    if pa.types.is_timestamp(arrow_type):
        return sa.DateTime(timezone=arrow_type.tz is not None)
    return column.target.row.bind


def _sqlite_values(column: ColumnPlan) -> Callable[[pa.Array], list[Any]]:
    arrow_type, row = column.arrow_type, column.target.row
    if row.reads_numbers and pa.types.is_string(arrow_type):
        return lambda values: [None if text is None else read_number(text) for text in values.to_pylist()]
    if pa.types.is_decimal(arrow_type) or pa.types.is_temporal(arrow_type) or row.to_text is not None:
        return _texts_for(column)
    return _objects


def _objects(values: pa.Array) -> list[Any]:
    """NumPy makes the numbers twice as fast where there is no NULL among them."""
    if values.null_count == 0 and (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return values.to_numpy().tolist()  # type: ignore[no-any-return]
    return values.to_pylist()  # type: ignore[no-any-return]
