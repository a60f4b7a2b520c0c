"""Rows that are updated, deleted or synchronized by their key. They go the way of a load, with another ending.

What the three have in common is said of `update_rows`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Unpack, cast, get_type_hints

from dataloader.api.signatures import with_options
from dataloader.errors import PlanError
from dataloader.loading import pipeline
from dataloader.options import CommonOptions, LoadOptions, MergeOptions, SyncOptions
from dataloader.sources.base import reading_once
from dataloader.sources.opening import open_data

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dataloader.report import LoadReport


@with_options(MergeOptions)
async def update_rows(
    data: object,
    table: str | sa.Table,
    key: str | Sequence[str] | None = None,
    *,
    update_columns: Sequence[str] | None = None,
    **options: Unpack[MergeOptions],
) -> LoadReport:
    """Update the rows of a table that the data has, by their key; nothing is inserted.

    All in one transaction. A row in which nothing differs is not written again; one whose key is not in the table is
    counted as ``report.missing``.

    Parameters
    ----------
    data : DataFrame, Arrow table, dict of columns, or paths
        What `load_dataframe` takes, or `load_files`: the key's columns, and those that are updated.
    key : str, list of str or None
        The columns of a unique key. None: the primary key, else the only unique key.
    update_columns : list of str or None
        What is updated; None: every column of the data that is not in the key.
    table, **options
        As in `load_dataframe`; what is about a table that is created, about several transactions or about conflicts
        is none of its options.

    Returns
    -------
    LoadReport
        With `updated`, `unchanged` and `missing`.

    Raises
    ------
    PlanError
        When there is no such table, or it is not clear by which key; and what `load_dataframe` raises.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> async def example(engine):
    ...     await dl.load_dataframe({"id": [1, 2], "v": ["a", "b"]}, "t", on_conflict="update", key="id", engine=engine)
    ...     report = await dl.update_rows({"id": [2, 3], "v": ["c", "d"]}, "t", engine=engine)
    ...     await engine.dispose()
    ...     return report
    >>> report = asyncio.run(example(dl.connect("sqlite:///:memory:")))
    >>> report.updated, report.missing
    (1, 1)
    """
    return await _by_key(data, table, options, MergeOptions, action="update", key=key, update_columns=update_columns)


@with_options(CommonOptions)
async def delete_rows(
    data: object, table: str | sa.Table, key: str | Sequence[str] | None = None, **options: Unpack[CommonOptions]
) -> LoadReport:
    """Delete the rows of a table that the data has, by their key. All in one transaction.

    Parameters
    ----------
    data, table, key, **options
        As in `update_rows`; only the key's columns are read of the data.

    Returns
    -------
    LoadReport
        With `deleted`, and `missing` for the keys that are not in the table.

    Raises
    ------
    PlanError
        As `update_rows`.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> async def example(engine):
    ...     await dl.load_dataframe({"id": [1, 2], "v": ["a", "b"]}, "t", on_conflict="update", key="id", engine=engine)
    ...     report = await dl.delete_rows({"id": [2, 3]}, "t", engine=engine)
    ...     await engine.dispose()
    ...     return report
    >>> report = asyncio.run(example(dl.connect("sqlite:///:memory:")))
    >>> report.deleted, report.missing
    (1, 1)
    """
    return await _by_key(data, table, options, CommonOptions, action="delete", key=key)


@with_options(SyncOptions)
async def sync_table(
    data: object,
    table: str | sa.Table,
    key: str | Sequence[str] | None = None,
    *,
    within: str | Mapping[str, Any] | None = None,
    max_deletes: float = 0.5,
    **options: Unpack[SyncOptions],
) -> LoadReport:
    """Make a table have the rows of the data: insert, update where something differs, delete what the data lacks.

    All in one transaction: the data is staged, and compared with the table by its key.

    Parameters
    ----------
    data, table, key, **options
        As in `update_rows`, with `override_identity` and `sync_sequence` as in `load_dataframe`;
        ``on_invalid='reject'`` is refused, because a rejected row would be deleted.
    within : str, dict or None
        The part of the table that the data stands for; other rows stay as they are, and data outside of it is an
        error. A dict gives columns their values, ``{"day": date(2024, 5, 17)}``; a str is a condition in SQL, which
        is sent as it is. None: the whole table.
    max_deletes : float
        The largest share of the rows of that part that may be deleted: data that is not complete is more often the
        reason. With more nothing is written, and the error says what would have been deleted.

    Returns
    -------
    LoadReport
        With `inserted`, `updated`, `unchanged` and `deleted`.

    Raises
    ------
    PlanError
        When more would be deleted than `max_deletes` allows, or rows are outside of `within`; else as `update_rows`.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> async def example(engine):
    ...     await dl.load_dataframe({"id": [1, 2], "v": ["a", "b"]}, "t", on_conflict="update", key="id", engine=engine)
    ...     report = await dl.sync_table({"id": [2, 3], "v": ["b", "c"]}, "t", engine=engine)
    ...     await engine.dispose()
    ...     return report
    >>> report = asyncio.run(example(dl.connect("sqlite:///:memory:")))
    >>> report.inserted, report.unchanged, report.deleted
    (1, 1, 1)
    """
    if not 0 <= max_deletes <= 1:
        raise PlanError(f"max_deletes must be a share from 0 to 1, got {max_deletes!r}", hint="Pass a share, like 0.1.")
    if options.get("on_invalid") == "reject":
        hint = "Correct the rows first: validate() finds them."
        raise PlanError("sync_table with on_invalid='reject' would delete the rows that are rejected", hint=hint)
    return await _by_key(
        data, table, options, SyncOptions, action="sync", key=key, within=within, max_deletes=max_deletes
    )


async def _by_key(data: object, table: str | sa.Table, options: CommonOptions, kind: type, **asked: Any) -> LoadReport:
    """Carry out what is no load, but goes its way; `kind` has the names of its options."""
    given, names = cast(dict[str, Any], options), get_type_hints(kind)
    known = {one.name for one in fields(LoadOptions)}
    for name in given:
        if name in known and name not in names:
            what = f"{asked['action']}_{'table' if asked['action'] == 'sync' else 'rows'} has no option {name}="
            raise PlanError(what, hint="Leave it out: all is done in one transaction, in a table that is there.")
    given |= {"on_conflict": "update", "key": asked.pop("key"), "update_columns": asked.pop("update_columns", None)}
    chosen = replace(LoadOptions.of(given), **asked)
    async with (
        reading_once(data),
        contextlib.aclosing(await asyncio.to_thread(open_data, data, chosen.reading)) as source,
    ):
        return await pipeline.load(source, table, chosen)
