"""Comparisons: of data with what a table or a query has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dataloader import comparing
from dataloader.api.signatures import with_options
from dataloader.database import engine as engines
from dataloader.database.addresses import hide_url
from dataloader.errors import PlanError
from dataloader.options import LoadOptions
from dataloader.sources.base import reading_once
from dataloader.sources.opening import open_data

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dataloader.display.state import View
    from dataloader.reading.query import Params
    from dataloader.report import Comparison
    from dataloader.sources.selection import Columns


@with_options()
async def compare(
    data: object,
    query_or_table: str | sa.Table | sa.Select[Any],
    params: Params | None = None,
    *,
    key: str | Sequence[str] | None = None,
    columns: Columns | None = None,
    assume_timezone: str | None = None,
    max_rows: int = 1_000,
    engine: AsyncEngine | str | URL | None = None,
    progress: str | View = "auto",
) -> Comparison:
    """Compare data with a table or a query, row by row by a key, exactly. Nothing is written.

    The data is converted to the types of the table's columns as a load would do it, and a value that does not fit is
    an error as there. Then values are equal if the database holds them for equal: in a numeric column 1.10 is 1.1, in
    a text column it is not; the same moment in two time zones is one moment; NULL is not ``''``, and is NULL; JSON is
    compared without its blanks. Every row of both sides is read once. Both sides wait on disk in 64 parts where they
    have more than 64 MB, so that memory grows with the largest part.

    Parameters
    ----------
    data : DataFrame, Arrow table, dict of columns, or paths
        What `load_dataframe` takes, or `load_files`.
    query_or_table, params
        As in `read_dataframe`.
    key : str, list of str or None
        The columns by which rows are paired. None: the primary key, else the only unique key. Two rows of one side
        with one key are an error; a key with NULL is like no other.
    columns : list of str, dict or None
        Which columns of the data are compared; a dict gives each its name in the table. None: all.
    assume_timezone : str or None
        As in `load_dataframe`.
    max_rows : int
        How many rows or cells of each kind are kept for the frames; all are counted.
    engine, progress
        As in `read_dataframe`.

    Returns
    -------
    Comparison
        Counts, and the frames ``only_here``, ``only_there`` and ``differences``.

    Raises
    ------
    PlanError
        When it is not clear by which key, several rows have one, or an argument cannot be used.
    ValidationError
        When a value of the data does not fit the table's column.
    ReadError, ConnectionFailed
        As in `read_dataframe`.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    >>> data = {"id": [1, 2], "price": [1.5, 2.5]}
    >>> report = asyncio.run(dl.load_dataframe(data, "prices", engine=url, progress="none"))
    >>> found = asyncio.run(dl.compare(data | {"price": [1.5, 3.0]}, "prices", key="id", engine=url, progress="none"))
    >>> found.equal, found.different, found.differences.loc[0, "theirs"]
    (False, 1, '2.5')
    """
    if isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 0:
        raise PlanError(f"max_rows={max_rows!r} is no number of rows", hint="Give an integer from 0 on.")
    given = {"on_conflict": "update", "key": key, "columns": columns, "assume_timezone": assume_timezone}
    chosen = LoadOptions.of({**given, "progress": progress, "engine": hide_url(engine)})
    found = engines.resolve(chosen.engine)
    opening = asyncio.to_thread(open_data, data, chosen.reading)
    async with reading_once(data), contextlib.aclosing(await opening) as source:
        asked: dict[str, Any] = {"key": chosen.key, "zone": assume_timezone, "most": max_rows, "progress": progress}
        return await comparing.compare(source, query_or_table, params, found, **asked)
