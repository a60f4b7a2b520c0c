"""Looks: what a load would do, what does not fit, and what the ledgers know. Nothing is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from dataloader.api.signatures import with_options
from dataloader.database import engine as engines
from dataloader.database.addresses import hide_url
from dataloader.database.schema import parse_table_name
from dataloader.ledger import history, readiness
from dataloader.loading import planning, validation
from dataloader.options import LoadOptions, Options
from dataloader.plan import LoadPlan
from dataloader.report import CheckReport, ValidationReport, history_frame
from dataloader.sources.base import is_stream, reading_once
from dataloader.sources.opening import open_data

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine


@with_options(Options)
async def plan_load(data: object, table: str | sa.Table, **options: Unpack[Options]) -> LoadPlan:
    """Decide a load and write nothing: columns with both types, DDL, method and why, transactions.

    Parameters
    ----------
    data : object
        What `load_dataframe` takes, or paths as `load_files` takes them.
    table, **options
        As in `load_dataframe`.

    Returns
    -------
    LoadPlan
        Printable, and shown as HTML in a notebook.

    Raises
    ------
    PlanError
        When the data, the options and the table do not go together: what the load itself would raise.
    ConnectionFailed
        When the database cannot be reached.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> plan = asyncio.run(dl.plan_load({"id": [1], "name": ["a"]}, "people", engine="sqlite:///:memory:"))
    >>> print(plan.method)
    insert
    >>> [str(column.target) for column in plan.columns]
    ['BIGINT', 'TEXT']
    """
    chosen = LoadOptions.of(options)
    known = await planning.known_files(table, chosen)
    source = await asyncio.to_thread(open_data, data, chosen.reading, known)
    try:
        return await planning.plan(source, table, chosen)
    finally:
        if not is_stream(data):  # a reader of the caller's own is still to be loaded
            await source.aclose()


@with_options(Options)
async def validate(
    data: object,
    table: str | sa.Table,
    *,
    unique: bool | Sequence[str] = False,
    foreign_keys: bool = False,
    **options: Unpack[Options],
) -> ValidationReport:
    """Check every value of every row, and write nothing.

    Parameters
    ----------
    data : object
        What `load_dataframe` takes, or paths as `load_files` takes them.
    unique : bool or list of str
        Whether keys are checked, in the data and against the rows of the table: those of the table's
        primary key and unique indexes, or the columns that are listed.
    foreign_keys : bool
        Whether foreign keys are checked, by one query for each key and chunk.
    table, **options
        As in `load_dataframe`.

    Returns
    -------
    ValidationReport
        Every violation with row, label, column, value, type, reason and suggestion; as text, as HTML
        in a notebook, and as a DataFrame in ``.frame``. What CHECK constraints and triggers refuse is
        not in it: only a load shows that.

    Raises
    ------
    PlanError, ConnectionFailed
        As in `plan_load`. Values that do not fit are in the report.

    Examples
    --------
    >>> import asyncio, sqlalchemy as sa, dataloader as dl
    >>> data = {"id": ["1", "2", "x"]}
    >>> table = sa.Table("ids", sa.MetaData(), sa.Column("id", sa.Integer))
    >>> print(asyncio.run(dl.validate(data, table, engine="sqlite:///:memory:", progress="none")))
    1 of 3 rows of dict of columns do not fit ids of SQLite :memory:: 1 in 'id' (syntax)
      row 2, column 'id': 'x' does not fit INTEGER: it cannot be read as the column's type
    """
    chosen = LoadOptions.of(options)
    known = await planning.known_files(table, chosen)
    async with (
        reading_once(data),
        contextlib.aclosing(await asyncio.to_thread(open_data, data, chosen.reading, known)) as source,
    ):
        return await validation.validate(source, table, chosen, unique, foreign_keys)


@with_options()
async def load_history(engine: AsyncEngine | str | URL | None = None, *, schema: str | None = None) -> Any:
    """Show what the ledgers of a database know of loads: those that were committed chunk by chunk, or have a name.

    Parameters
    ----------
    engine : AsyncEngine, URL or None
        As in `load_dataframe`.
    schema : str, optional
        The schema whose ledger is read, whoever it belongs to. None: on PostgreSQL all ledgers that belong to this
        role or to a superuser; what somebody else has put into theirs is not taken at its word.

    Returns
    -------
    pandas.DataFrame
        One row for each load, the newest first: ``load_id``, ``target``, ``source``, ``state`` (``finished``,
        ``unfinished``, or ``unreadable``: its row was edited), ``chunks``, ``rows``, ``loaded`` and ``rejected`` as
        committed, ``started_at``, ``last_commit_at`` and ``running``: whether a living process owns it.

    Raises
    ------
    ConnectionFailed
        When the database cannot be reached.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> data = {"id": list(range(100))}
    >>> report = asyncio.run(dl.load_dataframe(data, "ids", engine=url, load_id="ids of May", progress="none"))
    >>> history = asyncio.run(dl.load_history(url))
    >>> history[["load_id", "state", "rows"]].values.tolist()
    [['ids of May', 'finished', 100]]
    """
    engine = hide_url(engine)
    found = await history.read_history(engines.resolve(engine), schema)
    return history_frame([record.shown for record in found.records], [*history.SHOWN, "running"])


@with_options()
async def check(
    engine: AsyncEngine | str | URL | None = None, table: str | None = None, *, workers: int | None = None
) -> CheckReport:
    """Look whether a database is ready for loads, as this engine reaches it. Nothing is written.

    On PostgreSQL: as whom it connects, encryption, a pooler in between, whether the server is a replica or read-only,
    its time limits, the role's rights, the pool against the workers and the connections that the server has left,
    and whether loads can be resumed. On SQLite: the file's rights, its journal, who holds its lock, and the room on
    its disk.

    Parameters
    ----------
    engine : AsyncEngine, URL or None
        As in `load_dataframe`.
    table : str, optional
        The table that is to be loaded into: then the rights on it are looked at.
    workers : int, optional
        How many connections the load is to have; 2 by default.

    Returns
    -------
    CheckReport
        A line for each finding, with its remedy; ``.ok`` is False if one of them makes loads fail, as a connection
        that cannot be made does.

    Raises
    ------
    PlanError
        When the URL cannot be read, or `workers` is no count.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> print(asyncio.run(dl.check("sqlite:///:memory:")))  # doctest: +ELLIPSIS
    SQLite :memory:: 0 problems, 1 note
      ok      connection: SQLite 3...
      note    file: in memory: it ends with the engine
              Name a file to keep it: sqlite:///file.db.
      ok      pool: one worker: SQLite has one writer
      ok      ledger: loads can be committed chunk by chunk, and be resumed
    """
    engine = hide_url(engine)
    given = LoadOptions.of({"engine": engine, "workers": workers})
    name = None if table is None else parse_table_name(table)
    return await readiness.check(engines.resolve(given.engine), name, given.workers)
