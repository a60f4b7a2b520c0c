"""Writers: each puts chunks into a table its own way. `writer_for` picks the one that the plan names.

A writer is given encoded chunks and a connection; it knows no source, no ledger and no transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dataloader.writers.base import RepeatedKeyError, Writer, Written

if TYPE_CHECKING:
    from dataloader.database.backends import Backend
    from dataloader.plan import LoadPlan

__all__ = ["RepeatedKeyError", "Writer", "Written", "writer_for"]


def writer_for(plan: LoadPlan, backend: Backend) -> Writer:
    """The writer of the plan's method, into a temporary table where rows are merged."""
    if plan.merge is None:
        return _filler_for(replace(plan, table=replace(plan.table, name=plan.filled)), backend)
    from dataloader.writers.staged import StagedWriter, StagingWriter  # noqa: PLC0415 - only for merging

    staged = replace(plan, table=replace(plan.table, name=backend.staging, kind="table"))
    kind = StagedWriter if plan.merge.others is None else StagingWriter
    filler = _filler_for(staged, backend)
    return kind(filler, plan.merge.merge, backend, duplicates=plan.merge.duplicates, previews=plan.dry_run)


def _filler_for(plan: LoadPlan, backend: Backend) -> Writer:
    """Each is imported only when it is used."""
    if plan.method == "copy":
        from dataloader.writers.copy import CopyWriter, CsvCopyWriter  # noqa: PLC0415 - pgpq is loaded only for COPY

        return CsvCopyWriter(plan) if plan.travels_as_text else CopyWriter(plan)
    from dataloader.writers.insert import ArrayWriter, InsertWriter, SqliteWriter  # noqa: PLC0415 - as above

    writers: dict[str, type[ArrayWriter | InsertWriter | SqliteWriter]]
    writers = {"arrays": ArrayWriter, "core": InsertWriter, "values": SqliteWriter}
    return writers[backend.inserts](plan, backend.dialect)
