"""Loads: of tables, streams, rows and files. The source is opened and handed on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack, cast

from dataloader.api.signatures import with_options
from dataloader.errors import PlanError
from dataloader.jobs import LoadJob
from dataloader.loading import pipeline, planning
from dataloader.options import LoadOptions, Options
from dataloader.report import LoadReport
from dataloader.sources import tables
from dataloader.sources.base import reading_once
from dataloader.sources.batches import open_async_batches
from dataloader.sources.opening import open_files
from dataloader.sources.others import CLUSTERS
from dataloader.sources.paths import Paths, are_paths
from dataloader.sources.rows import Row, open_rows
from dataloader.sources.selection import select

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

    from dataloader.sources.base import Source


@with_options(Options)
async def load_dataframe(data: object, table: str | sa.Table, **options: Unpack[Options]) -> LoadReport:
    """Load a table-like object into a database table: no row is lost, and none is there twice.

    Columns go by name, never by position. Every value is stored unchanged or refused by row and
    column; None, NaN, NaT and NA of pandas are NULL. A missing table is created from the columns.
    The rows are converted and encoded in a thread, a chunk ahead of the database. Up to 500,000 rows
    go in one transaction: an error, a cancel or a crash leaves the database as it was. More are
    committed chunk by chunk, each with a checkpoint in its own transaction, so that a load that was
    ended anywhere, even by a power cut, continues where it stopped: ``resume=True``.

    Parameters
    ----------
    data : DataFrame, Arrow table or dict of columns
        pandas, polars, pyarrow Table / RecordBatch / RecordBatchReader, a dict of equally long
        columns, or any object with ``__arrow_c_stream__`` or ``__arrow_c_array__`` (DuckDB, ibis, ...). A Dask
        DataFrame (extra ``dask``) or a Dataset of Ray (extra ``ray``): its partitions are loaded by the workers of its
        cluster, see `docs/scaling.md`; ``client=`` says which of Dask's.
        An unnamed pandas index is not written; a named one is, as columns. A reader is read once, and
        closed; a second load of it is an error. Later changes in place do not reach the load: a dict's columns
        are copied first, a frame shares its values (values assigned in place reach it before pandas 3, and so
        does what is written into arrays that were made a frame or an Arrow table without a copy).
    table : str or sqlalchemy.Table
        ``"orders"``, ``"sales.orders"``, or a Table, from which a missing table is created, with its
        enums, domains and sequences. What only SQLAlchemy's INSERT would do, like a TypeDecorator that changes values
        or a Python-side default, is refused. A ``schema_translate_map`` of the engine is honored.
    engine : AsyncEngine, URL or None
        Where to; None: what `connect` set, else ``$DATALOADER_URL``, else the SQLite file
        ``dataloader.db`` in the current folder.
    connection : AsyncConnection, AsyncSession or None
        The caller's own, in place of `engine`: everything is done in a savepoint of its transaction, and nothing is
        committed. Whatever happens, the transaction is usable afterwards; temporary tables can be loaded. What is
        deferred to the commit is checked by that.
    if_exists : {'append', 'fail', 'truncate', 'replace'}
        What to do with a table that exists. ``truncate`` empties it with its partitions, and leaves tables that inherit
        from it alone, in the load's own transaction: PostgreSQL has readers wait meanwhile (its manual, TRUNCATE).
        ``replace`` keeps a table whose columns the data has, with its types, indexes, grants, comments, triggers and
        policies: a table is filled beside, also chunk by chunk, and takes its place in one short transaction, or the
        rows are moved into it where something depends on it. Where the data has other columns, or types that the
        table does not take, it is dropped and created anew; the plan and the report list what it loses, and the plan
        what readers see. Neither is done for a stream or file that yields no row, or for rows that are all rejected:
        only an empty frame, table or list empties it.
    method : {'auto', 'copy', 'insert'}
        How to write. ``auto`` takes binary COPY wherever it can, and says why not.
    commit : {'auto', 'load', 'chunk'}
        ``load`` is one transaction. ``chunk`` is one for each chunk, with a checkpoint in the tables
        ``dataloader_loads`` and ``dataloader_chunks`` beside the target. ``auto`` takes ``load`` up to 500,000 rows
        and where there can be no checkpoints, and says why: text files are judged by their size, and a stream is read
        until it has more, or 33 MB, or for 10 seconds; with a `load_id` it goes by chunks, which stay if it breaks.
        By chunks, a slow stream is committed every 5 seconds, though its chunks are not full; not if `on_conflict`
        and `duplicates` have it matter which rows share a chunk: of two rows with one key, ``update`` takes the
        ``last`` and ``ignore`` the ``first`` anyway.
    chunk_rows : int or None
        Rows that are converted and sent at once; never more than `workers` + 1 chunks are in memory.
    max_rows_per_second : int or None
        How many rows are sent in a second at most, by all workers together, so that the server has room for others.
        The load waits between chunks of about a second; with ``commit='load'`` its transaction is open meanwhile, as
        the plan says. Each shard has a pace of its own.
    workers : int or None
        How many connections commit chunks at once; None: 2 on PostgreSQL. SQLite and ``commit='load'`` have one.
        With more than one, generated ids follow the source's order inside of a chunk only.
    resume : bool or None
        ``True`` continues an unfinished load of the same data into the same table, reports 0 new rows for a finished
        one, and starts one that is not known. ``None`` refuses to start beside an unfinished load. ``False`` starts
        from the first row. The data is given from its start: what is committed is compared, never sent again.
    load_id : str or None
        Names a load, so that its rows are stored once, whichever process runs it again. What is one transaction
        without a name is one with it, the ledger's rows included: unfinished, it has left nothing. Streams,
        ``truncate`` and ``replace`` go by chunks. Without a name these are known by their first 1,000 rows.
    on_invalid : {'raise', 'reject'}
        What to do with rows that do not fit. ``raise`` checks the whole source, if it is in memory, before the first
        row is committed, and shows the first ten values and all counts. ``reject`` keeps the rows in
        ``report.rejects`` and loads the others. A load by chunks, or with a `load_id`, keeps them in the table
        ``dataloader_rejects`` too, so that a resumed one reports those of all runs.
    max_rejects : int, float or None
        The most rows that may be rejected, by all runs of a load: a count, or a share between 0 and 1. With more
        the load ends, and one in one transaction has then loaded nothing.
    casts : {'exact', 'lossy'}
        ``exact`` changes no value. ``lossy`` rounds or cuts what the plan lists as lossy, such as the fraction of a
        float in an integer column; what is out of range is refused all the same.
    assume_timezone : str or None
        The time zone of times without one, for timestamptz columns: ``"Europe/Berlin"``.
    dtype : dict or None
        SQLAlchemy types by column name of the table, for a table that is created.
    primary_key, not_null : str, list of str or None
        Of a table that is created: the columns of its primary key, and those that take no NULL.
    indexes : str, list or None
        Of a table that is created: its indexes, each a column or a list of columns.
    evolve : {'add', 'widen'}, a list of both, or None
        What may be done to a table that is there; else the error has the ALTER TABLE that would do. ``add``: it gets
        the columns that it lacks. ``widen``: columns that are too narrow get a type with room for the data that keeps
        every value: integer → bigint, varchar(n) → text, numeric(p, s) → more digits, real → double precision. The
        data, or the files, are looked through for that; of a stream the types decide. Both in the load's first
        transaction, and others wait for the table until that is committed: the plan says whether its rows are written
        anew. A type is not changed where a view or something else depends on it. PostgreSQL; SQLite only adds.
    columns : list of str, dict or None
        Which columns are loaded; a dict gives each its name in the table: ``{"Order ID": "id"}``. The others are not
        converted, and need not be of a type that the database has. A name that differs from one of the table by case
        only is taken for it, with a warning.
    csv : CsvOptions, dict or None
        How CSV files are written, where it is not to be found out: ``{"delimiter": ";", "decimal": ","}``. Also
        ``encoding``, ``quote``, ``header``, ``skip`` and ``null_values``, the texts that are NULL; see `CsvOptions`.
    format, sheet, cells, filename, only_new, shard, max_connections, client
        Of files and of loads in parts: see `load_files`. `shard` and `max_connections` go with any data.
    on_conflict : {'error', 'ignore', 'update'}
        What to do with a row whose key is in the table. ``error``: the database refuses it. ``ignore``: the table's
        row stays. ``update``: it takes over the data's values; where nothing differs, to the last digit, it is not
        written again and no trigger fires. On PostgreSQL each chunk is staged by COPY and merged by one statement, in
        the order of the key.
    key : str, list of str or None
        The columns of the key. None: the primary key, else the only unique key. A table that is created gets it as
        its primary key.
    update_columns : list of str or None
        What ``on_conflict='update'`` changes; None: every column of the data that is not in the key.
    duplicates : {'error', 'first', 'last'}
        What to do with rows of the data that have one key. ``error`` names both, before anything is written, if the
        data is in memory; else within a chunk, and the plan says so. So it is where only the database knows which keys
        are equal: by a collation, as citext, an interval or JSON, or with NULL that equals NULL.
    order_by : str or None
        Of the rows of the data that have one key the one with the greatest value in this column counts, and of equal
        ones the later; NULL is the least. The data must be in memory.
    returning : str, list of str or None
        Columns of the table whose values are asked back, such as a generated key or a default: they are in
        ``report.returned``, in the order of the data and on its index. With `on_conflict` a column ``inserted`` says
        which rows are new. The load is one transaction then, and the values are kept in memory.
    verify : bool
        Whether the rows are read back in the load's transaction, before it is committed: how many there are, and a
        digest of their values, must be what was sent, else all is rolled back. PostgreSQL tells the rows of the load
        by their ``xmin``; SQLite lets nobody else write meanwhile. Refused where that proves nothing: with
        `on_conflict`, `connection` or chunks, and for views.
    override_identity : bool
        Whether the data's own numbers are stored in a column ``GENERATED ALWAYS AS IDENTITY``; else they are refused.
    sync_sequence : bool
        Whether the sequences of serial and identity columns are set past the numbers that the data has brought, so
        that none is given twice. PostgreSQL; SQLite sees to that by itself.
    dry_run : bool
        Whether everything is done in one transaction that is rolled back: the report says what would have been, with
        the first values that an update would change. Locks are taken as by the load; triggers fire.
    progress : {'auto', 'widget', 'html', 'text', 'log', 'none'}
        What to show meanwhile; ``auto`` fits the surroundings: Jupyter, marimo, a terminal or a log.

    Returns
    -------
    LoadReport
        Rows read, loaded and rejected, time, method; shown as HTML in a notebook.

    Raises
    ------
    PlanError
        When the data, the options and the table do not go together, or a stream was read already; nothing was written.
    ValidationError
        When values do not fit their columns, or more rows are rejected than `max_rejects` allows: the first ten are
        shown by row, column, value and reason, and all are counted; nothing was written.
    WriteError
        When the database refused a row or a statement; nothing was written.
    ConnectionLost
        When the server went away; `ConnectionFailed` when it was not reached or refused the login. Transient errors
        are retried for two minutes, where the ledger keeps rows from being stored twice.
    UnfinishedLoad, SourceChanged, CheckpointError
        When an earlier load is unfinished, the data or the table is not what it began with, or another process
        is loading the same; nothing was written.
    LoadCancelled, asyncio.CancelledError
        When somebody pressed Cancel, or it is cancelled: within a second everything under way is rolled back. Its note,
        and the hint of the errors above, say how many rows are committed, and the call that continues.

    Examples
    --------
    >>> import asyncio, pandas as pd, dataloader as dl
    >>> df = pd.DataFrame({"id": [1, 2], "status": ["paid", None]})
    >>> report = asyncio.run(dl.load_dataframe(df, "orders", engine="sqlite:///:memory:", progress="none"))
    >>> report.loaded
    2
    """
    if type(data).__module__.startswith(CLUSTERS):
        from dataloader.distributed import clusters  # noqa: PLC0415 - few have one

        return await clusters.load(data, table, cast(dict[str, Any], options))
    return await _load(
        data, lambda chosen: asyncio.to_thread(tables.open_dataframe, data, chosen.columns), table, options
    )


@with_options(Options)
async def load_batches(
    batches: Iterable[pa.RecordBatch] | AsyncIterable[pa.RecordBatch] | pa.RecordBatchReader,
    table: str | sa.Table,
    **options: Unpack[Options],
) -> LoadReport:
    """Load a stream of Arrow record batches, read once and never held as a whole.

    Parameters
    ----------
    batches : RecordBatchReader, or iterable or async iterable of RecordBatch
        All of one schema. A blocking iterable is read in a thread; a generator is closed at the end.
    table, **options
        As in `load_dataframe`.

    Returns
    -------
    LoadReport
        As of `load_dataframe`.

    Raises
    ------
    DataLoaderError
        As `load_dataframe` raises them. What the iterable itself raises is raised as it is.

    Examples
    --------
    >>> import asyncio, pyarrow as pa, dataloader as dl
    >>> batches = (pa.record_batch({"id": [number]}) for number in range(3))
    >>> asyncio.run(dl.load_batches(batches, "ids", engine="sqlite:///:memory:", progress="none")).loaded
    3
    """

    def opening(_chosen: LoadOptions) -> Awaitable[Source]:
        if isinstance(batches, AsyncIterable):
            return open_async_batches(batches)
        return asyncio.to_thread(tables.open_batches, batches)

    return await _load(batches, opening, table, options)


@with_options(Options)
async def load_rows(
    rows: Iterable[Row] | AsyncIterable[Row],
    table: str | sa.Table,
    **options: Unpack[Options],
) -> LoadReport:
    """Load dicts, objects with fields, or tuples with their column names, from an iterable or async iterable.

    Objects with fields are namedtuples, dataclasses, attrs, msgspec and pydantic objects (with their extra and computed
    fields), ORM objects, and the rows of SQLAlchemy, asyncpg and sqlite3. Objects inside of them become JSON.

    The first 10,000 rows, or those of the first 5 seconds, decide the columns and, for a table that is created, their
    types. A key that a dict lacks is NULL; a key that appears only later is an error: name all in `columns` if the rows
    come slowly and differ.

    Parameters
    ----------
    rows : iterable or async iterable of dict, object or tuple
        Read once, a block at a time; a blocking iterable is read in a thread; a generator is closed at the end.
        SQLAlchemy's results are such iterables, and have columns even if they are empty.
    columns : list of str or dict, optional
        As in `load_dataframe` for dicts and objects with fields, whose other keys are left out. Plain tuples need
        a list with the name of each of their values, and so does a stream that may be empty.
    table, **options
        As in `load_dataframe`.

    Returns
    -------
    LoadReport
        As of `load_dataframe`.

    Raises
    ------
    DataLoaderError
        As `load_dataframe` raises them. What the iterable itself raises is raised as it is.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> rows = ({"id": number, "name": f"n{number}"} for number in range(5))
    >>> asyncio.run(dl.load_rows(rows, "names", engine="sqlite:///:memory:", progress="none")).loaded
    5
    """
    return await _load(rows, lambda chosen: open_rows(rows, chosen.columns), table, options)


@with_options(Options)
async def load_files(paths: Paths, table: str | sa.Table, **options: Unpack[Options]) -> LoadReport:
    """Load files, streamed: one larger than memory loads too.

    CSV fields are text until they meet their column, so ``0.10`` keeps its digits in a numeric
    column; an empty field without quotes is NULL, as in PostgreSQL (its manual, COPY), and nothing else is:
    ``csv={"null_values": ["NA", ""]}`` says which are.
    A created column is numeric only if a number gives back every field: ``007``, ``+5``, ``1E5``
    and ``nan`` make it text, and the plan says why. How the file is written (delimiter, encoding,
    decimal comma, header, lines before it, compression) is found out and shown in the plan; what
    can be read in two ways is refused or stays text. A row with the wrong number of fields does
    not fit, like a value: ``on_invalid="reject"`` keeps it aside, with its line.

    Parameters
    ----------
    paths : path, folder, glob, URL, open file, or list of them
        ``.csv``/``.tsv``/``.txt``, ``.parquet``, ``.orc``, ``.arrow``/``.feather``, ``.jsonl``/``.ndjson``, and
        ``.json`` with an array of objects (or one on each line); text also gzipped, CSV also as zstd, bz2 or zip,
        whatever its name says.
        ``.xlsx``, ``.xlsm``, ``.xlsb``, ``.xls`` and ``.ods`` with the extra ``excel``: a sheet is read as a whole. A
        cell with an error is its text (``#N/A``), which only a column of text takes: elsewhere its row is refused, or
        rejected. It is NULL in an .xls older than Excel 97, as are formulas that were never calculated.
        URLs: ``https://`` with the extra ``remote``, ``s3://`` and ``gs://``, and what fsspec knows, also with a glob.
        A folder stands for all files below it, which must be of one kind; names that begin with a dot or an underscore
        are left out. ``~`` is the home folder. In the paths of a folder or a glob, folders like ``year=2024`` are
        columns: integers where every value is written as one (``05`` is not), else text;
        ``__HIVE_DEFAULT_PARTITION__`` is NULL. A file with a column of that name keeps its own, and must agree with its
        path (pyarrow.dataset 26 takes the path's value and ignores the file's).
        An open file, or anything else with a ``read`` that gives bytes, is read from where it stands. What can be read
        once (a pipe, a response) is kept in a temporary file meanwhile; a load of it is continued by passing the same
        bytes again from their start.
        Several files must have the same columns; they are read in the order given, folders and globs sorted. A row of
        CSV may have 256 MB, a row of JSON 33 million characters and 100 levels.
    format : {'csv', 'parquet', 'orc', 'arrow', 'jsonl', 'json', 'excel'}, optional
        What the files are; None: by their names, and of an open file that has none by its beginning, which the plan
        shows. In a folder it chooses the files of that kind, and those whose names say nothing.
    sheet, cells : optional
        The name of the sheet, or its position, if several are not empty; the range ("B3:F100") with the names on top.
    shard : tuple of (int, int), optional
        Which part of a load these rows are, counted from 1, and of how many: ``(3, 16)``, with `load_id` for the whole.
        Any process, anywhere, loads its part; run again or twice, it is stored once. The first one makes or empties
        the table; other options than its are refused. The load is finished when all parts are. See `docs/scaling.md`.
    max_connections : int, optional
        How many connections all shards have at once; half of what the server gives the role unless passed.
    client : distributed.Client, optional
        The Dask cluster whose workers load the files: each is a shard, and large ones of Parquet and CSV are
        several, of about 128 MB. The workers must find them under the same paths.
    only_new : bool
        Whether files are passed over that the table's ledger knows as loaded, by path, size and digest, so that the
        same call appends tomorrow's file. Every call reads all files for that, about 1 GB/s: a file that was changed
        may keep its size and, where it was copied, its time. They are entered in the table ``dataloader_files`` beside
        the target, in the transaction that brings their rows or, chunk by chunk, that finishes the load. A file that
        has changed since is an error, unless `on_conflict` merges its rows; rows that were deleted from the table do
        not make a file new. ``resume=False`` loads all files. `plan_load` shows how many are passed over, and
        ``report.passed_over``.
    filename : bool or str
        Whether a column, called ``filename`` or as it says, has the path of each row's file: as it is given, of a URL
        without user and query. ``columns=`` need not name it.
    table, **options
        As in `load_dataframe`.

    Returns
    -------
    LoadReport
        As of `load_dataframe`.

    Raises
    ------
    DataLoaderError
        As `load_dataframe` raises them. PlanError also when the files are not there, or are not of one
        kind and with the same columns; LoadError when one cannot be read to its end.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> report = asyncio.run(
    ...     dl.load_files("sample_data/orders.csv", "orders", engine="sqlite:///:memory:", progress="none")
    ... )
    >>> report.loaded
    1000
    """

    if options.get("client") is not None:
        from dataloader.distributed import clusters  # noqa: PLC0415 - few have one

        return await clusters.load_paths(paths, table, cast(dict[str, Any], options))

    async def opening(chosen: LoadOptions) -> Source:
        known = await planning.known_files(table, chosen)
        return await asyncio.to_thread(open_files, paths, chosen.reading, known)

    return await _load(paths, opening, table, options)


async def _load(
    data: object, opening: Callable[[LoadOptions], Awaitable[Source]], table: str | sa.Table, options: Options
) -> LoadReport:
    chosen = LoadOptions.of(options)
    async with reading_once(data), contextlib.aclosing(await opening(chosen)) as source:
        chosen.check_loader(source.loader)
        chosen_source = source if chosen.columns is None else select(source, chosen.columns)
        return await pipeline.load(chosen_source, table, chosen)


@with_options(Options)
def start_load(data: object, table: str | sa.Table, **options: Unpack[Options]) -> LoadJob:
    """Load in the background, on a loop of its own: the cell returns at once, and the load continues.

    What is loaded is what was given: later changes of a frame in place do not reach it (before pandas 3 it is
    copied for that, as a dict's columns always are). The source is opened in the background too.

    Parameters
    ----------
    data : DataFrame, Table, dict of columns, or paths
        As in `load_dataframe`, or in `load_files`.
    table, **options
        As in `load_dataframe`. An engine of `connect` may be in use in the caller's loop, too; one that was made
        elsewhere may not: give this load a URL then.

    Returns
    -------
    LoadJob
        Await it for the report; ``cancel``, ``pause`` and ``resume`` it.

    Raises
    ------
    PlanError
        When the options are wrong. What comes later, or an error of a source that takes long to open, is raised
        when it is awaited.

    Examples
    --------
    >>> import dataloader as dl
    >>> job = dl.start_load("sample_data/orders.csv", "orders_later", engine="sqlite:///:memory:", progress="none")
    >>> async def report_of(job):
    ...     return await job
    >>> dl.run(report_of(job)).loaded
    1000
    """
    checked = cast(dict[str, Any], options)
    if checked.get("connection") is not None:
        hint = "Await load_dataframe(..., connection=connection) instead."
        raise PlanError(
            "a load in the background has a loop of its own, in which connection= cannot be used", hint=hint
        )
    checked["engine"] = LoadOptions.of(checked).engine
    loader: Any = load_files if are_paths(data) else load_dataframe
    given, asked = tables.snapshot(data), options.pop("progress", "auto")
    what = "files" if loader is load_files else type(data).__name__
    return LoadJob(lambda view: loader(given, table, **options, progress=view), asked, what)
