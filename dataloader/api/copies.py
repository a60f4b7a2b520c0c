"""Copies: of a table or a query, from any database into a table of any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from dataloader import copying
from dataloader.api.signatures import with_options
from dataloader.database.addresses import hide_url
from dataloader.options import LoadOptions, Options

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dataloader.reading.query import Params
    from dataloader.report import LoadReport


@with_options(Options)
async def copy_table(
    query_or_table: str | sa.Table | sa.Select[Any],
    to: str | sa.Table,
    params: Params | None = None,
    *,
    source: AsyncEngine | str | URL | None = None,
    **options: Unpack[Options],
) -> LoadReport:
    """Copy a table, or what a query gives, into a table of this or another database.

    All in one transaction: every row is there, or none. A table that is missing is created with the columns, types,
    NOT NULL and primary key of the original, and with enums that are missing; indexes, foreign keys, defaults and
    checks are not copied. Between two PostgreSQL servers where the types are equal, the bytes of a binary COPY are
    passed on as they are; else every value is read, checked against its column and loaded. Memory is flat.

    Parameters
    ----------
    query_or_table, params
        What is copied, as in `read_dataframe`.
    to : str or sqlalchemy.Table
        The table to copy into, as in `load_dataframe`.
    source : AsyncEngine, URL or None
        Where it is copied from; None: as for `engine`.
    engine : AsyncEngine, URL or None
        Where it is copied to; None: what `connect` set, else ``$DATALOADER_URL``, else ``dataloader.db``.
    commit, load_id, resume
        With ``commit='chunk'``, `load_id` or `resume` each chunk is committed with a checkpoint, and a copy that was
        ended anywhere is continued. The rows of the original are then read in the order of its primary key, from the
        first one on, and compared with what is committed: changes there since are an error that names the chunk. A
        query, and a table without a primary key, have no such order, and are refused.
    **options
        As in `load_dataframe`, with the same meaning; ``columns`` chooses and renames the original's columns.

    Returns
    -------
    LoadReport
        As of a load; its `reason` says whether bytes were passed on.

    Raises
    ------
    PlanError
        When a table would be copied onto itself, or the options and the two tables do not go together.
    ReadError
        When the original cannot be read: nothing was written.
    ValidationError, WriteError, ConnectionLost, LoadCancelled, asyncio.CancelledError
        As in `load_dataframe`. Both servers' statements have ended then.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> shop = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> archive = f"sqlite:///{tempfile.mkdtemp()}/archive.db"
    >>> report = asyncio.run(dl.load_dataframe({"id": [1, 2, 3]}, "orders", engine=shop, progress="none"))
    >>> query = "SELECT id FROM orders WHERE id > :last"
    >>> copied = dl.copy_table(query, "new_orders", {"last": 1}, source=shop, engine=archive, progress="none")
    >>> asyncio.run(copied).loaded
    2
    """
    source = hide_url(source)
    return await copying.copy(query_or_table, to, params, source, LoadOptions.of(options))
