"""A load by the workers of a cluster, as its caller sees it: one plan, one bar, one report."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dataloader.database import engine as engines
from dataloader.database.backends import backend_for
from dataloader.display.progress import Progress
from dataloader.errors import DataLoaderError, LoadError, PlanError, left_words, say_committed
from dataloader.formatting import quantity
from dataloader.loading import pipeline, sharding
from dataloader.options import LoadOptions
from dataloader.rejects import Rejects
from dataloader.sources.selection import select
from dataloader.sync import finish_despite_cancel

if TYPE_CHECKING:
    from dataloader.display.state import State
    from dataloader.distributed.shards import Order
    from dataloader.loading.execution import LoadExecution
    from dataloader.report import LoadReport
    from dataloader.sources.base import Source

SAY_SECONDS = 2.0
"""How long the ledger may take to say what an interrupted load has committed."""
SUMMED = (
    *("read", "loaded", "updated", "unchanged", "ignored", "missing", "rejected", "skipped"),
    *("chunks", "nbytes", "already_loaded", "already_rejected"),
)
"""What the report of a load has of all its shards."""


async def load_together(
    order: Order,
    options: dict[str, Any],
    name: str,
    sample: Callable[[], Awaitable[Source]],
    store: Callable[[Together], Awaitable[None]],
) -> LoadReport:
    """Enter a load, have its shards stored, and make one report of theirs.

    Parameters
    ----------
    name : str
        Of what is loaded.
    sample : callable
        Opens rows that have the columns of all of them: the table is made by these.
    store : callable
        Has every shard stored by the cluster; when it raises, no worker is at it any more.
    """
    own = {"progress": options.get("progress", "auto")}
    chosen = LoadOptions.of({**order.options(1, options.get("engine")), **own})
    return await pipeline.in_a_task(_load(order, chosen, name, sample, store))


async def _load(
    order: Order,
    options: LoadOptions,
    name: str,
    sample: Callable[[], Awaitable[Source]],
    store: Callable[[Together], Awaitable[None]],
) -> LoadReport:
    engine = _database_of(options)
    label = f"{name} → {getattr(order.table, 'name', order.table)}"
    position = Position(order.count)
    async with Progress(label, None, options.progress, position) as progress:
        async with contextlib.aclosing(await sample()) as source:
            selected = source if options.columns is None else select(source, options.columns)
            entered = await sharding.enter_whole(engine, selected, order.table, options, progress)
        progress.state.keeps_rows = True
        progress.phase("loading")
        together = Together(name, options, position, progress.state)
        try:
            await store(together)
        except BaseException as error:
            await finish_despite_cancel(_say_what_is_committed(error, entered, order, progress.state), SAY_SECONDS)
            raise
        if not (await sharding.state_of(entered)).is_finished:  # in our database: theirs may be other ones
            what = f"not every worker has written into {entered.plan.database}"
            raise LoadError(what, hint="Pass a URL that means the same database on every machine, and no local file.")
        created = entered.plan.creates_table
        return progress.succeed(lambda: together.report(created=created))


class Position:
    """How much of a load is done, and by how many workers."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: list[int] = []
        self.workers: set[str] = set()

    def __str__(self) -> str:
        on = f" on {quantity(len(self.workers), 'worker')}" if self.workers else ""
        return f"{len(self.rows):,} of {quantity(self.count, 'partition')}{on}"

    @property
    def about_rows(self) -> float | None:
        """How many rows there are, as the finished partitions let expect."""
        return sum(self.rows) / len(self.rows) * self.count if self.rows else None


class Together:
    """What has come back of the shards of a load."""

    def __init__(self, name: str, options: LoadOptions, position: Position, state: State) -> None:
        self._name = name
        self._options = options
        self._position = position
        self._state = state
        self._reports: dict[int, LoadReport] = {}
        self._told: dict[int, tuple[int, int]] = {}

    def tell(self, number: int, rows: int, rejected: int) -> None:
        """Take in how far a shard is; of one that was begun anew, no less than was told before."""
        rows_before, rejected_before = self._told.get(number, (0, 0))
        now = max(rows, rows_before), max(rejected, rejected_before)
        self._told[number] = now
        self._state.advance(now[0] - rows_before, 0, now[1] - rejected_before)

    def add(self, number: int, report: LoadReport, worker: str) -> None:
        """Take in a finished shard.

        Raises
        ------
        ValidationError
            When there are more rejects than are allowed.
        """
        self.tell(number, _rows_of(report), report.rejected + report.already_rejected)
        self._reports[number] = report
        self._position.workers.add(worker)
        self._position.rows.append(_rows_of(report))
        limit = self._options.max_rejects
        if isinstance(limit, int) and sum(len(one.rejected_rows) for one in self._reports.values()) > limit:
            self._rejects().check()

    def _in_order(self) -> Iterator[tuple[int, LoadReport]]:
        """Each report that there is, with the number of rows before its own."""
        before = 0
        for number in sorted(self._reports):
            yield before, self._reports[number]
            before += _rows_of(self._reports[number])

    def _rejects(self) -> Rejects:
        rejects = Rejects(self._options.max_rejects)
        for before, report in self._in_order():
            rejects.join(report.rejected_rows, before)
        return rejects

    def report(self, *, created: bool) -> LoadReport:
        """The report of all of them.

        Raises
        ------
        ValidationError
            When there are more rejects than are allowed.
        """
        parts = tuple(report for _, report in self._in_order())
        first, rejects = parts[0], self._rejects()
        rejects.check(sum(map(_rows_of, parts)))
        sums = {name: sum(getattr(one, name) for one in parts) for name in SUMMED}
        return replace(
            first,
            source=f"{self._name} ({quantity(len(parts), 'partition')})",
            **sums,
            seconds=self._state.seconds,
            rejected_rows=rejects,
            warnings=tuple(dict.fromkeys(warning for one in parts for warning in one.warnings)),
            pace=self._state.throughput.samples,
            load_id=self._options.load_id,
            created=created,
            loaded_before=None,
            shards=None,
            parts=parts,
        )


def _rows_of(report: LoadReport) -> int:
    return report.read + report.already_loaded


def not_loaded(number: int, order: Order, error: Exception) -> LoadError:
    """The error for a shard that was not carried out: its rows were not computed, or its worker was lost."""
    what = f"partition {number} of {order.count} was not loaded: {type(error).__name__}: {error}"
    hint = "See the log of its worker, where the rows of the partition are computed."
    return LoadError(what, hint=hint, committed_rows=0)


async def _say_what_is_committed(error: BaseException, entered: LoadExecution, order: Order, state: State) -> None:
    """Put into words what an interrupted load has left, and how to go on with it; best effort."""
    state.rows = rows = (await sharding.state_of(entered)).rows  # some may have been committed after the last word
    call = f"await {entered.source.loader}(..., {entered.plan.table.name.spelled!r}, load_id={order.load_id!r})"
    if isinstance(error, DataLoaderError):
        error.committed_rows = 0
        say_committed(error, rows, call, in_doubt=False, where="committed")
    elif rows:
        error.add_note(left_words(rows, call, in_doubt=False))


def _database_of(options: LoadOptions) -> Any:
    """The engine of the caller, whose database the workers are to reach.

    Raises
    ------
    PlanError
        When it is in this process's memory.
    """
    engine = engines.resolve(options.engine)
    if backend_for(engine.dialect).is_in_memory(engine):
        hint = "Pass the URL of a server, or of a file if all workers are on this machine."
        raise PlanError("the workers cannot reach a database in this process's memory", hint=hint)
    return engine
