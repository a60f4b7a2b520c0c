"""A load under way: what was decided, and what has been done so far, whichever worker did it."""

from __future__ import annotations

import datetime as dt
import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dataloader.database.backends import backend_for
from dataloader.errors import CheckpointError, DataLoaderError, SourceFailed, left_words, say_committed
from dataloader.formatting import quantity
from dataloader.loading.pacing import Pace
from dataloader.loading.reruns import ContentDigest
from dataloader.rejects import Rejects, first_rows
from dataloader.report import LoadReport, Returned
from dataloader.sources.cuts import UNCUT
from dataloader.writers import writer_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.conversion.violations import Violation
    from dataloader.database.backends import Backend
    from dataloader.database.driver_errors import Refusal
    from dataloader.database.schema import Fingerprint
    from dataloader.display.progress import Progress
    from dataloader.ledger.checkpoint import Checkpoint, LedgerLoad
    from dataloader.loading.chunks import Chunk
    from dataloader.loading.storage import StoreResult
    from dataloader.options import LoadOptions
    from dataloader.plan import LoadPlan
    from dataloader.sources.base import Source
    from dataloader.writers import Writer, Written


SHOWN_ROWS = 5
_COUNTED = ("loaded", "updated", "unchanged", "ignored", "deleted", "missing")
"""What became of rows, by its name here and in the report."""


class LoadExecution:
    """What everything that carries out a load has in common, and its counts.

    Attributes
    ----------
    borrowed : AsyncConnection or None
        The caller's own connection, in whose transaction everything is done.
    returned : Returned
        The values that the database has returned of rows.
    ledger_load : LedgerLoad or None
        The load in the ledger.
    committed : dict of int to Checkpoint
        The chunks that earlier runs have committed: they are compared, and not encoded.
    read, chunks, nbytes : int
        What this run has read and sent.
    loaded, updated, unchanged, ignored, deleted, missing : int
        What became of it, as in `LoadReport`.
    already_rejected : int
        How many rows of `rejects` an earlier run has rejected.
    content : ContentDigest
        Of all the chunks, also of those that earlier runs have committed.
    fingerprint : Fingerprint or None
        The table as it is in this load, once it has rows to be remembered.
    loaded_before : datetime or None
        When the same rows were loaded into the same table before, where that is known.
    finished_shards : int
        How many shards of the load are finished with this one.
    cuts : Cuts
        Where a stream is cut into chunks.
    recognized : object or None
        The ledger's row of a load that is not named and begins with the rows of this stream.
    refused_late : Refusal or None
        Why rows were refused when all of them were written.
    pace : Pace or None
        How fast rows may be sent, where that is limited.
    """

    finished_shards = 0
    cuts = UNCUT
    recognized: Any = None
    refused_late: Refusal | None = None

    def __init__(
        self,
        engine: AsyncEngine,
        source: Source,
        plan: LoadPlan,
        options: LoadOptions,
        progress: Progress,
        *,
        borrowed: AsyncConnection | None = None,
    ) -> None:
        self.engine, self.borrowed = engine, borrowed
        self.source, self.plan, self.options, self.progress = source, plan, options, progress
        self.returned = Returned(plan.returning, source.labels)
        self.backend = backend_for(engine.dialect)
        self.pace = None if options.max_rows_per_second is None else Pace(options.max_rows_per_second)
        progress.state.most_per_second = options.max_rows_per_second
        self.writer: Writer = writer_for(plan, self.backend)
        self.rejects = Rejects(options.max_rejects, source.rows)
        self.ledger_load: LedgerLoad | None = None
        self.committed: dict[int, Checkpoint] = {}
        self.read = self.chunks = self.nbytes = self.already_rejected = 0
        self.loaded = self.updated = self.unchanged = self.ignored = self.deleted = self.missing = 0
        self.content = ContentDigest()
        self.fingerprint: Fingerprint | None = None
        self.loaded_before: dt.datetime | None = None
        self._first_rows: tuple[tuple[str, ...], ...] = ()
        self._sampled = math.inf
        self.warnings = [*plan.warnings, *_fewer_workers(plan, options, self.backend)]

    def take_up(self, load: LedgerLoad) -> None:
        """Take in what earlier runs have committed of the load."""
        self.ledger_load = load
        self.committed.update(load.committed)
        self.progress.state.resume_from(load.rows)
        self.progress.state.keeps_rows = True

    def add(self, chunk: Chunk, stored: StoreResult) -> None:
        """Count a chunk that was stored, and show it."""
        self.content.add(chunk.number, chunk.digest)
        self.read += chunk.rows
        self.ignored += chunk.left_out
        self.count(stored.written)
        self.chunks += 1
        self.nbytes += chunk.nbytes
        if chunk.number < self._sampled:
            self._sampled, self._first_rows = chunk.number, first_rows(chunk.converted.batch, SHOWN_ROWS)
        self.progress.state.advance(chunk.rows, chunk.nbytes, self._reject(chunk, stored.violations))

    def count(self, written: Written) -> None:
        """Count what became of rows."""
        self.loaded += written.stored
        self.updated += written.updated
        self.unchanged += written.unchanged
        self.ignored += written.ignored
        self.deleted += written.deleted
        self.missing += written.missing

    def recall(self, chunk: Chunk, violations: Sequence[Violation]) -> None:
        """Take in what an earlier run has rejected."""
        rejected = self._reject(chunk, violations)
        self.already_rejected += rejected
        self.progress.state.rejected += rejected

    def _reject(self, chunk: Chunk, violations: Sequence[Violation]) -> int:
        state = self.progress.state
        if violations and state.first_rejected is None:
            state.first_rejected = str(violations[0])
        return self.rejects.add(chunk.batch, chunk.first_row, violations)

    @property
    def _accounted(self) -> int:
        """How many rows that were read are known to be stored, there already, or of no effect."""
        deleted = self.deleted if self.options.action == "delete" else 0  # else they are none of the source
        return self.loaded + self.unchanged + self.ignored + self.missing + deleted

    def say_what_is_committed(self, error: BaseException, *, in_doubt: bool) -> None:
        """Put into words what an interrupted load has left, and how to resume it."""
        error = error.error if isinstance(error, SourceFailed) else error
        load = self.ledger_load
        rows = 0 if load is None else load.loaded + self.loaded
        has_written_nothing = isinstance(error, CheckpointError) and not self.chunks
        if load is None or not (rows or in_doubt) or has_written_nothing:
            return
        target, is_beside = self.plan.table.name, self.plan.filled != self.plan.table.name
        where = f"committed beside {target}, which keeps its old rows" if is_beside else "committed"
        if isinstance(error, DataLoaderError):
            say_committed(error, rows, self.resume_call(load), in_doubt=in_doubt, where=where)
        else:
            error.add_note(left_words(rows, self.resume_call(load), in_doubt=in_doubt, where=where))

    def resume_call(self, load: LedgerLoad) -> str:
        """The call that continues the load."""
        options, table = self.options, self.plan.table.name.spelled
        same = "" if options.chunk_rows is None else f", chunk_rows={options.chunk_rows}"
        named = f"load_id={load.load_id!r}, resume=True"
        if options.shard is not None:  # resumed by its own name, the load would not count it
            named = f"load_id={options.load_id!r}, shard={options.shard}"
        call = f"await {self.source.loader}(..., {table!r}, {named}{same})"
        return f"{call}, or: python -m dataloader resume {shlex.quote(load.load_id)}" if self.source.paths else call

    def in_own_words(self, error: DataLoaderError) -> None:
        """Call the table by its own name in an error about the one that is filled beside it."""
        if self.plan.replacement is not None:
            error.what = self.plan.replacement.in_own_words(error.what, self.plan.table.name)

    def report(self) -> LoadReport:
        """What was done."""
        plan, load = self.plan, self.ledger_load
        rejected = len(self.rejects) - self.already_rejected
        if not (self.read or self.source.rows == 0 or (load is not None and load.rows)):
            self.warnings.append(f"{self.source.name} yielded no row")
        return LoadReport(
            source=plan.source,
            table=str(plan.table.name),
            database=plan.database,
            read=self.read,
            **{name: getattr(self, name) for name in _COUNTED},
            action=self.options.action,
            dry_run=plan.dry_run,
            preview=tuple(getattr(self.writer, "preview", ())),
            rejected=rejected,
            skipped=self.read - self._accounted - rejected,
            chunks=self.chunks,
            nbytes=self.nbytes,
            seconds=self.progress.state.seconds,
            method=plan.method,
            reason=plan.reason,
            rejected_rows=self.rejects,
            already_loaded=0 if load is None else load.rows,
            load_id=None if load is None else load.load_id,
            warnings=tuple(self.warnings),
            pace=self.progress.state.throughput.samples,
            already_rejected=0 if load is None else load.rejected,
            loaded_before=self.loaded_before,
            **self._sample(),
        )

    def _sample(self) -> dict[str, Any]:
        """What the report shows of the table and the source: its columns, first rows, and files that are not read."""
        columns = tuple((one.name, str(one.target)) for one in self.plan.columns)
        return {
            "columns": columns,
            "created": self.plan.creates_table,
            "first_rows": self._first_rows,
            "returned_rows": self.returned,
            "passed_over": self.source.passed_over,
            "shards": None if self.options.shard is None else (*self.options.shard, self.finished_shards),
            "verified": self.options.verify,
        }


def _fewer_workers(plan: LoadPlan, options: LoadOptions, backend: Backend) -> list[str]:
    asked = options.workers or 1
    if asked <= plan.workers:
        return []
    why = backend.one_writer or "the pool has no more"
    if plan.merge is not None and plan.merge.within is not None:
        why = "the source is read chunk by chunk, and of rows with one key in different chunks the order decides"
    why = "one transaction has one connection" if plan.commit == "load" else why
    return [f"{quantity(plan.workers, 'worker')} instead of {asked}: {why}"]
