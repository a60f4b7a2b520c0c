"""Reads: a table or a query becomes a frame, a stream of batches or a file. Nothing is written to the database."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.api.signatures import with_options
from dataloader.database import engine as engines
from dataloader.database.addresses import hide_url
from dataloader.database.backends import backend_for
from dataloader.distributed import clusters
from dataloader.errors import PlanError
from dataloader.jobs import ReadJob
from dataloader.options import check_connection, check_progress
from dataloader.reading import frames
from dataloader.reading.batches import Batches
from dataloader.reading.export import FileSink, IfFileExists
from dataloader.reading.query import Params, statement_of
from dataloader.reading.stream import Reading

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from dataloader.display.state import View
    from dataloader.report import ExportReport

Frame = Literal["pandas", "polars", "arrow", "dask"]
DtypeBackend = Literal["numpy_nullable", "pyarrow"]
FileFormat = Literal["csv", "parquet", "arrow", "jsonl"]


@with_options()
async def read_dataframe(
    query_or_table: str | sa.Table | sa.Select[Any],
    params: Params | None = None,
    *,
    engine: AsyncEngine | str | URL | None = None,
    connection: AsyncConnection | AsyncSession | None = None,
    as_: Frame = "pandas",
    dtype_backend: DtypeBackend | None = None,
    index: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    max_rows: int | None = None,
    statement_timeout: float | None = None,
    progress: str | View = "auto",
) -> Any:
    """Read a table or a query into a frame, with exact types.

    PostgreSQL sends the rows by COPY, in a transaction that can only read, and a thread makes them Arrow.
    SQLite's come from a cursor, and have the declared types of their columns. Cancel and the kernel's stop button
    end the server's statement.

    Parameters
    ----------
    query_or_table : str, sqlalchemy.Table or sqlalchemy.Select
        A table's name, ``"orders"`` or ``"sales.orders"``, written as in the database; or, where the text has
        blanks, a query.
    params : dict or list, optional
        The values of ``:name``, or of ``$1``, ``$2``, ..., in the text of a query. They never become part of its
        words: the server itself quotes them.
    engine : AsyncEngine, URL or None
        As in `load_dataframe`.
    connection : AsyncConnection or AsyncSession, optional
        One of the caller's, in whose transaction the query is carried out, inside a savepoint: it sees what that has
        written, and its temporary tables. Nothing else may be done on it meanwhile.
    as_ : {'pandas', 'polars', 'arrow', 'dask'}
        What is returned. A Dask DataFrame (extra ``dask``) has partitions of about 128 MB, ranges of `index` or else
        of the table's primary key, which are read where and when they are computed: each as it is at that time.
    dtype_backend : {'numpy_nullable', 'pyarrow'}, optional
        As in pandas. None: NumPy's types; integers among which one is missing are pandas' Int64, and not floats.
        Of a Dask DataFrame ``'pyarrow'``: it would make texts of decimals and dates that are Python's.
    index : str or list of str, optional
        The columns of the frame's index.
    columns : list of str, optional
        Which columns of the result are wanted, in this order.
    max_rows : int, optional
        How many rows are read at most.
    statement_timeout : float, optional
        After how many seconds PostgreSQL ends the query. None: what the server has set. A query that gives no row
        for long is left alone as long as the server works on it, which is asked on another connection now and then.
    progress : {'auto', 'widget', 'html', 'text', 'log', 'none'} or View
        As in `load_dataframe`. The total is the planner's estimate: about.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        ``numeric(p, s)`` is a decimal of that size. Numbers without a limit are the smallest decimal that holds all
        of the result, and text where one is NaN or infinite or has more than 76 digits. Times have microseconds, an
        enum is a categorical; JSON, ``uuid``, ``inet``, ranges and composites are text. NULL and ``''`` stay apart.
        See `docs/reading.md`.

    Raises
    ------
    ReadError
        When the database refuses the query, or a value has no place in its type: an infinite or BC date, NaN in a
        limited numeric. It names the row, the column and the value.
    PlanError
        When an argument cannot be used.
    ConnectionFailed
        When the database cannot be reached.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> data = {"id": [1, 2, 3], "status": ["paid", "new", "paid"]}
    >>> report = asyncio.run(dl.load_dataframe(data, "orders", engine=url, progress="none"))
    >>> query = "SELECT id FROM orders WHERE status = :status"
    >>> frame = asyncio.run(dl.read_dataframe(query, {"status": "paid"}, engine=url, progress="none"))
    >>> frame["id"].tolist()
    [1, 3]
    """
    frames.check_frame(as_, dtype_backend, index)
    given = _Given(engine, connection, columns, max_rows, statement_timeout, progress)
    reading = await _reading(query_or_table, params, given, settles=True)
    if as_ == "dask":
        return await _as_dask(query_or_table, params, given, index)
    async with contextlib.aclosing(reading.batches()) as batches:
        found = [batch async for batch in batches]
    return await asyncio.to_thread(frames.frame_of, found, as_, dtype_backend, index)


def read_batches(
    query_or_table: str | sa.Table | sa.Select[Any],
    params: Params | None = None,
    *,
    engine: AsyncEngine | str | URL | None = None,
    connection: AsyncConnection | AsyncSession | None = None,
    columns: Sequence[str] | None = None,
    max_rows: int | None = None,
    statement_timeout: float | None = None,
    progress: str | View = "auto",
) -> AsyncGenerator[pa.RecordBatch]:
    """Read a table or a query as record batches, in flat memory.

    The server waits while nobody asks for the next batch. However the loop over them ends, by ``break``, an error or
    a cancel, the connection is given back and the server's statement has ended.

    Parameters
    ----------
    query_or_table, params, engine, connection, columns, max_rows, statement_timeout, progress
        As in `read_dataframe`.

    Yields
    ------
    pyarrow.RecordBatch
        All of one schema, at least one, some megabytes each. Numbers without a limit are text, as their digits are
        known at the end only: ``CAST(amount AS numeric(20, 4))`` makes them decimals.

    Raises
    ------
    ReadError, PlanError, ConnectionFailed
        As in `read_dataframe`.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> report = asyncio.run(dl.load_dataframe({"id": [1, 2, 3]}, "orders", engine=url, progress="none"))
    >>> async def count():
    ...     return sum([batch.num_rows async for batch in dl.read_batches("orders", engine=url, progress="none")])
    >>> asyncio.run(count())
    3
    """
    given = _Given(engine, connection, columns, max_rows, statement_timeout, progress)
    return Batches(lambda: _reading(query_or_table, params, given, settles=False))


@with_options()
async def export(
    query_or_table: str | sa.Table | sa.Select[Any],
    path: str | os.PathLike[str],
    params: Params | None = None,
    *,
    engine: AsyncEngine | str | URL | None = None,
    connection: AsyncConnection | AsyncSession | None = None,
    columns: Sequence[str] | None = None,
    max_rows: int | None = None,
    statement_timeout: float | None = None,
    format: FileFormat | None = None,
    if_exists: IfFileExists = "fail",
    progress: str | View = "auto",
) -> ExportReport:
    """Write a table or the result of a query to a file, in flat memory.

    The file is written beside its place under a hidden name, and gets its own when it is whole and on the disk. An
    export that fails or is cancelled leaves nothing; of one that was killed the next one to the same path takes away
    what it has left.

    Parameters
    ----------
    query_or_table, params, engine, connection, columns, max_rows, statement_timeout, progress
        As in `read_dataframe`.
    path : path
        Its name says the format: ``.csv``, ``.parquet``, ``.arrow`` (or ``.feather``), ``.jsonl`` (or ``.ndjson``);
        text also compressed, as ``.csv.gz`` or ``.jsonl.zst``.
    format : {'csv', 'parquet', 'arrow', 'jsonl'}, optional
        What the file is, where its name does not say it.
    if_exists : {'fail', 'replace'}
        Whether it may take the place of another file. That one stays until the new one is whole.

    Returns
    -------
    ExportReport
        Rows, bytes and seconds; shown as HTML in a notebook.

    Raises
    ------
    ReadError
        As in `read_dataframe`, and when the file cannot be written: the disk is full, two columns of one name.
    PlanError
        When an argument cannot be used, or the file exists.
    ConnectionFailed
        When the database cannot be reached.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> folder = tempfile.mkdtemp()
    >>> url = f"sqlite:///{folder}/shop.db"
    >>> report = asyncio.run(dl.load_dataframe({"id": [1, 2, 3]}, "orders", engine=url, progress="none"))
    >>> query = "SELECT id FROM orders WHERE id > :least"
    >>> asyncio.run(dl.export(query, f"{folder}/orders.csv", {"least": 1}, engine=url, progress="none")).rows
    2
    """
    given = _Given(engine, connection, columns, max_rows, statement_timeout, progress)
    reading = await _reading(query_or_table, params, given, settles=True)
    sink = FileSink(path, format, if_exists, reading.label, reading.database)
    return await sink.run(reading)


@with_options()
def start_read(
    query_or_table: str | sa.Table | sa.Select[Any],
    params: Params | None = None,
    *,
    engine: AsyncEngine | str | URL | None = None,
    as_: Frame = "pandas",
    dtype_backend: DtypeBackend | None = None,
    index: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    max_rows: int | None = None,
    statement_timeout: float | None = None,
    progress: str = "auto",
) -> ReadJob:
    """Start a read in the background and return at once, so that other cells can run meanwhile.

    Parameters
    ----------
    query_or_table, params, as_, dtype_backend, index, columns, max_rows, statement_timeout, progress
        As in `read_dataframe`.
    engine : AsyncEngine, URL or None
        As in `start_load`.

    Returns
    -------
    ReadJob
        Await it for the frame, or ``cancel`` it.

    Raises
    ------
    PlanError
        When an argument cannot be used. What comes later is raised when the job is awaited.

    Examples
    --------
    >>> import dataloader as dl
    >>> job = dl.start_read("SELECT :n AS n", {"n": 7}, engine="sqlite:///:memory:", progress="none")
    >>> async def frame_of(job):
    ...     return await job
    >>> dl.run(frame_of(job))["n"].tolist()
    [7]
    """
    frames.check_frame(as_, dtype_backend, index)
    check_progress(progress)
    found = engines.parse_engine(hide_url(engine))
    backend = backend_for(found.dialect if isinstance(found, AsyncEngine) else found.url.get_dialect()())
    backend.limit_sql(statement_timeout)
    _, label = statement_of(query_or_table, params, backend, columns, max_rows, timeout=statement_timeout)
    options: dict[str, Any] = {"columns": columns, "max_rows": max_rows, "statement_timeout": statement_timeout}
    options |= {"as_": as_, "dtype_backend": dtype_backend, "index": index, "engine": found}
    return ReadJob(lambda view: read_dataframe(query_or_table, params, **options, progress=view), progress, label)


async def _as_dask(query: object, params: Params | None, given: _Given, index: Any) -> Any:
    for name in ("connection", "max_rows"):
        if getattr(given, name) is not None:
            hint = "Leave it out: every worker has its own connection, and reads its ranges as a whole."
            raise PlanError(f"{name}= and as_='dask' exclude each other", hint=hint)
    options = {"columns": given.columns, "timeout": given.timeout, "index": index}
    return await clusters.read(query, params, given.engine, **options)


class _Given(NamedTuple):
    """The options that all reads share."""

    engine: object
    connection: AsyncConnection | AsyncSession | None
    columns: Sequence[str] | None
    max_rows: int | None
    timeout: float | None
    progress: str | View


async def _reading(query: object, params: Params | None, given: _Given, *, settles: bool) -> Reading:
    check_progress(given.progress)
    check_connection(given._asdict())
    engine, borrowed = await engines.reach(hide_url(given.engine), given.connection)
    backend = backend_for(engine.dialect)
    statement, label = statement_of(query, params, backend, given.columns, given.max_rows, timeout=given.timeout)
    backend.limit_sql(given.timeout)
    return Reading(engine, statement, label, given.progress, settles=settles, borrowed=borrowed)
