"""How fast the ways to insert rows are, into the reader's own table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.api.loads import load_dataframe
from dataloader.api.signatures import with_options
from dataloader.database import engine as engines
from dataloader.database.addresses import hide_url
from dataloader.database.schema import parse_table_name
from dataloader.errors import PlanError
from dataloader.formatting import one_line
from dataloader.options import LoadOptions
from dataloader.report import Method, MethodComparison
from dataloader.sources.tables import open_dataframe, to_row_dicts

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

SINGLE_ROWS = 1_000
"""So many rows at most are inserted by a statement for each: they take about a millisecond apiece."""
SHOWN_ERROR = 200


@with_options()
async def compare_methods(
    data: object,
    table: str | sa.Table,
    *,
    rows: int = 20_000,
    rounds: int = 3,
    engine: AsyncEngine | str | URL | None = None,
) -> MethodComparison:
    """Measure the ways to insert rows into your own table, one after the other. Nothing is kept.

    All of it happens in one transaction, which is rolled back; in a table that is missing, and is made in it as
    `load_dataframe` would make it. A statement for each row, SQLAlchemy's executemany, its insertmanyvalues (with
    RETURNING), and dataloader with INSERT and by the method that it chooses. Each is given the rows in the form that
    it takes, dicts or Arrow, and making that form is not measured; what it does with them is: converting, checking,
    sending. The table is locked as any load locks it, for as long as this takes, and sequences advance.

    Parameters
    ----------
    data : DataFrame, Arrow table or dict of columns
        What `load_dataframe` takes.
    table : str or Table
        As in `load_dataframe`.
    rows : int
        How many of its first rows are inserted; of those a statement for each inserts 1,000 at most.
    rounds : int
        How often each way is measured.
    engine
        As in `load_dataframe`.

    Returns
    -------
    MethodComparison
        For each way its rows per second, or why it fails.

    Raises
    ------
    PlanError
        When there are no rows, or an argument cannot be used.
    DataLoaderError
        As `load_dataframe` raises them, where the table cannot be made.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> found = asyncio.run(dl.compare_methods({"id": range(1_000)}, "orders", engine=url))
    >>> found.to_frame()["method"].tolist()  # doctest: +NORMALIZE_WHITESPACE
    ['a statement for each row', 'executemany', 'insertmanyvalues', "dataloader, method='insert'", 'dataloader']
    """
    for option, value in {"rows": rows, "rounds": rounds}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PlanError(f"{option}={value!r} cannot be used", hint="Give an integer from 1 on.")
    found = engines.resolve(LoadOptions.of({"engine": hide_url(engine)}).engine)
    batch = await asyncio.to_thread(_first, data, rows)
    name = parse_table_name(table)
    async with found.connect() as connection:
        await load_dataframe(batch.slice(0, 0), table, connection=connection, progress="none")
        target = await connection.run_sync(
            lambda one: sa.Table(name.name, sa.MetaData(), schema=name.schema, autoload_with=one)
        )
        methods = [
            await _measured(connection, label, work, given, rounds)
            for label, work, given in _ways(connection, table, target, batch)
        ]
        await connection.rollback()
    return MethodComparison(table=str(name), database=engines.describe_url(found), methods=tuple(methods))


def _first(data: object, rows: int) -> pa.RecordBatch:
    batch = next(open_dataframe(data).batches(rows), None)
    if batch is None or not batch.num_rows:
        raise PlanError("there are no rows to insert", hint="Pass a frame that has rows.")
    return batch


def _ways(
    connection: AsyncConnection, table: str | sa.Table, target: sa.Table, batch: pa.RecordBatch
) -> list[tuple[str, Callable[[], Awaitable[object]], int]]:
    """Each way to insert the rows: its name, its work, and how many rows that inserts."""
    (dicts,) = to_row_dicts(batch, chunk_rows=batch.num_rows)
    statement, first = sa.insert(target), next(iter(target.columns))

    async def one_by_one() -> None:
        for row in dicts[:SINGLE_ROWS]:
            await connection.execute(statement, row)

    async def many_values() -> None:
        (await connection.execute(statement.returning(first), dicts)).all()

    def ours(**options: Any) -> Callable[[], Awaitable[object]]:
        return lambda: load_dataframe(batch, table, connection=connection, progress="none", **options)

    return [
        ("a statement for each row", one_by_one, min(len(dicts), SINGLE_ROWS)),
        ("executemany", lambda: connection.execute(statement, dicts), len(dicts)),
        ("insertmanyvalues", many_values, len(dicts)),
        ("dataloader, method='insert'", ours(method="insert"), len(dicts)),
        ("dataloader", ours(), len(dicts)),
    ]


async def _measured(
    connection: AsyncConnection, name: str, work: Callable[[], Awaitable[object]], rows: int, rounds: int
) -> Method:
    """Run one way so many times, each in a savepoint of its own that is rolled back."""
    seconds: list[float] = []
    for _ in range(rounds):
        savepoint = await connection.begin_nested()
        try:
            before = time.perf_counter()
            await work()
            seconds.append(time.perf_counter() - before)
        except Exception as error:  # that a way cannot take these rows is what was to be found out
            return Method(name, rows, error=_why(error))
        finally:
            await savepoint.rollback()
    return Method(name, rows, tuple(seconds))


def _why(error: Exception) -> str:
    """An error in one line; of SQLAlchemy's it is the driver's own that says it."""
    orig = error.orig if isinstance(error, sa.exc.DBAPIError) else None
    named = next(one for one in (getattr(orig, "__cause__", None), orig, error) if isinstance(one, Exception))
    return f"{type(named).__name__}: {one_line(named)}"[:SHOWN_ERROR]
