"""LoadPlan: source columns x table x options -> every decision of a load. Pure: no I/O."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dataloader.columns import NOTHING, Numbered, column_plans, numbered, offered_columns
from dataloader.conversion.rules import ColumnPlan
from dataloader.database import ddl, merging, replacing
from dataloader.database.alterations import Alteration, plan_widening
from dataloader.database.definitions import Definition
from dataloader.database.schema import TableName, TableSchema
from dataloader.display.html import panel, table
from dataloader.errors import PlanError
from dataloader.formatting import aligned, duration, fitted, quantity
from dataloader.options import LoadOptions, Target
from dataloader.transactions import Database, SourceInfo, choose_commit, commit_obstacle

if TYPE_CHECKING:
    from dataloader.database.backends import Backend

CHUNK_ROWS = {"copy": 50_000, "insert": 10_000}
"""Rows per chunk where none are asked for: below it round trips show, above it only memory grows."""
WORKERS = 2
"""Two connections keep a server busy while one of them waits for a commit; more gain little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Everything that a load will do, decided and printable; making one writes nothing.

    Attributes
    ----------
    source, database : str
        What is loaded, and where to.
    rows : int or None
        How many rows, None if the source does not know.
    table : TableSchema
        The table as it will be when the rows arrive.
    columns : tuple of ColumnPlan
        One for each column of the source, in its order.
    statements : tuple of str
        The DDL that runs first, inside the load's transaction.
    method, reason : str
        ``copy`` or ``insert``, and why.
    chunk_rows : int
        Rows per chunk.
    chunk_seconds : float or None
        How many seconds a row of a stream waits for its chunk to become full; None: it is no stream.
    exists, creates_table : bool
        Whether the table is there already, and whether the load makes it.
    keeps_rejects : bool
        Whether rows that do not fit are kept aside; else the first one ends the load.
    clears_table : bool
        Whether the table's present rows go first.
    commit, commit_reason : str
        ``load``: one transaction. ``chunk``: one for each chunk, with a checkpoint. And why.
    workers : int
        How many connections write at once.
    notes : tuple of str
        What is to be known of the database and the connection: that it is experimental, or goes through a pooler.
    warnings : tuple of str
        What the table would lose.
    about : int or None
        How many rows there are, to judge by the size of the files.
    in_memory : bool
        Whether the source can be checked before its first chunk is committed.
    buffers : bool
        Whether it is one transaction after all, if the source turns out to be small.
    is_entered : bool
        Whether one transaction is entered in the ledger, too.
    dry_run : bool
        Whether all of it is rolled back.
    source_facts : tuple of (str, str)
        What was found out about the source.
    alteration : Alteration or None
        What is altered in a table that is there.
    numbers : Numbered
        What is done about numbers that the rows bring, and the database would give.
    merge : MergePlan or None
        How rows are merged by their key; None: they are inserted, and a key that is there is an error.
    unfinished : tuple
        The loads into the table that the ledger knows as unfinished, where the load would not look for them itself.
    replacement : Replacement or None
        How the rows of a table that stays are replaced.
    max_rows_per_second : int or None
        How many rows are sent in a second at most, by all workers together.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> plan = asyncio.run(dl.plan_load({"id": [1, 2]}, "ids", engine="sqlite:///:memory:"))
    >>> plan.rows, plan.creates_table, plan.method, plan.commit
    (2, True, 'insert', 'load')
    """

    source: str
    rows: int | None
    database: str
    table: TableSchema
    columns: tuple[ColumnPlan, ...]
    statements: tuple[str, ...]
    method: str
    reason: str
    chunk_rows: int
    creates_table: bool
    keeps_rejects: bool = False
    clears_table: bool = False
    commit: str = "load"
    commit_reason: str = "it is small"
    workers: int = 1
    chunk_seconds: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    exists: bool = False
    merge: merging.MergePlan | None = None
    numbers: Numbered = NOTHING
    dry_run: bool = False
    in_memory: bool = False
    buffers: bool = False
    is_entered: bool = False
    about: int | None = None
    source_facts: tuple[tuple[str, str], ...] = ()
    alteration: Alteration | None = None
    replacement: replacing.Replacement | None = None
    unfinished: tuple[Any, ...] = ()
    max_rows_per_second: int | None = None

    @property
    def filled(self) -> TableName:
        """The table into which rows are written: the target, or one beside it."""
        beside = None if self.replacement is None else self.replacement.beside
        return beside or self.table.name

    @property
    def empties_first(self) -> bool:
        """Whether the load begins by taking the old rows away, and so has the table alone until its end."""
        return self.clears_table and self.filled == self.table.name

    @property
    def returning(self) -> tuple[str, ...]:
        """The columns whose values are returned, with ``inserted`` where some rows may not be."""
        if self.merge is None or not self.merge.merge.returning:
            return ()
        return (*self.merge.merge.returning, *([merging.INSERTED] if self.merge.merge.key else []))

    @property
    def discards(self) -> bool:
        """Whether there are rows that the load takes the place of."""
        return self.clears_table and self.exists

    @property
    def changes_table(self) -> bool:
        """Whether the load makes the table, empties it, or alters it."""
        return self.creates_table or self.clears_table or self.alteration is not None

    @property
    def transactions(self) -> str:
        """In words, what is committed together, and why."""
        if self.dry_run:
            return "one transaction, which is rolled back"
        if self.commit == "load":
            entered = ", with its row in the ledger" if self.is_entered else ""
            return f"one transaction{entered}, because {self.commit_reason}: every row is there, or none"
        workers = quantity(self.workers, "worker")
        return f"one transaction for each, with a checkpoint, because {self.commit_reason}; {workers}"

    @property
    def on_invalid(self) -> str:
        """In words, what becomes of the load where rows do not fit."""
        if self.keeps_rejects:
            return "kept in report.rejects, the others are loaded"
        if self.commit == "load" or self.filled != self.table.name:
            return "nothing is loaded"
        if self.in_memory:
            return "nothing is loaded; chunks committed before a row that only the database refuses stay in the table"
        stays = "the load ends, and the chunks committed before stay in the table"
        return f"nothing is loaded from a source that is so small, else {stays}" if self.buffers else stays

    @property
    def travels_as_text(self) -> bool:
        """Whether some column needs the server to read text, so that COPY carries all of them as text."""
        return bool(_as_text(self.columns, self.table))

    @property
    def _size(self) -> str:
        if self.rows is None:
            return "an unknown number of rows" if self.about is None else f"about {quantity(self.about, 'row')}"
        return quantity(self.rows, "row")

    @property
    def _chunks(self) -> str:
        rows = f"up to {quantity(self.chunk_rows, 'row')} each"
        if self.chunk_seconds is None:
            return rows
        if math.isinf(self.chunk_seconds):
            counts = "last" if self.merge is not None and self.merge.merge.updated else "first"
            return f"{rows}, however slowly they come (duplicates={counts!r} has them committed every few seconds)"
        return f"{rows}, or what has come in {self.chunk_seconds:g} s"

    @property
    def _waiting(self) -> list[str]:
        """Who has to wait: a table that is altered is locked until the transaction of that is committed."""
        until = "the load" if self.commit == "load" else "that"
        return [] if self.alteration is None else [self.alteration.waiting(until)]

    @property
    def _pacing(self) -> list[str]:
        """How fast it may go, and for how long a single transaction is held open by that."""
        rate, rows = self.max_rows_per_second, self.rows if self.rows is not None else self.about
        if rate is None:
            return []
        if self.commit == "chunk":
            return [f"at most {rate:,} rows/s, with no transaction open between chunks"]
        held = "as long as that takes" if rows is None else f"{duration(rows / rate)} or more"
        return [f"at most {rate:,} rows/s, and the transaction is held open for {held}; commit='chunk' would not"]

    @property
    def _facts(self) -> list[tuple[str, str]]:
        return [
            *self.source_facts,
            ("method", f"{self.method}, because {self.reason}"),
            ("chunks", f"{self._chunks}, in {self.transactions}"),
            *(("pace", pacing) for pacing in self._pacing),
            ("rows that do not fit", self.on_invalid),
            *(self.merge.facts if self.merge is not None else []),
            *(self.replacement.facts if self.replacement is not None else []),
            *(("meanwhile", waiting) for waiting in self._waiting),
            *(
                ("afterwards", f"the sequence of {name} is set past its largest number")
                for name in self.numbers.sequences
            ),
            *(("database", note) for note in self.notes),
            *(("warning", warning) for warning in self.warnings),
        ]

    @property
    def _text(self) -> str:
        lines = [f"load {self.source} ({self._size}) into {self.table.name} of {self.database}"]
        lines += aligned([(c.name, f"{c.source} → {c.target}  ({_verdict(c)})") for c in self.columns])
        lines += [f"  first: {' '.join(statement.split())}" for statement in self.statements]
        lines += [f"  {name}: {fact}" for name, fact in self._facts]
        return "\n".join(lines)

    def __str__(self) -> str:
        return fitted(self._text)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        columns = [(c.name, c.source, c.target, c.verdict, c.all_checks) for c in self.columns]
        where = f"<code>{html.escape(str(self.table.name))}</code> of {html.escape(self.database)}"
        return panel(
            f"<div><b>load {html.escape(self.source)}</b> ({self._size}) into {where}</div>",
            table(columns, head=("column", "source", "table", "verdict", "checks")),
            *map(_statement, self.statements),
            table(self._facts),
        )


def _verdict(column: ColumnPlan) -> str:
    return f"{column.verdict}: {column.all_checks}" if column.all_checks else column.verdict


def _statement(sql: str) -> str:
    return f'<pre style="white-space:pre-wrap;margin:4px 0">{html.escape(sql.strip())}</pre>'


def make_plan(
    info: SourceInfo, target: Target, found: TableSchema | None, options: LoadOptions, database: Database
) -> LoadPlan:
    """Decide a load.

    Raises
    ------
    PlanError
        When the options, the source's columns and the table do not go together.
    """
    backend, known = database.backend, _known(target, found, options, database.backend)
    offered = offered_columns(info, target, found, known, backend)
    options = offered.respelled(options) if offered.spelled else options
    widening = plan_widening(found, info.needs, backend) if found is not None and info.needs else None
    prepared = ddl.prepare(offered.schema, target, found if widening is None else widening.after, options, backend)
    table, definition, replaces = prepared.table, prepared.definition, prepared.replacement
    merge = _merge(options, table, offered.schema, info, backend)
    is_made = definition is not None and target.definition is None
    columns, warnings = column_plans(offered, prepared, options, merge, backend, is_made=is_made)
    numbers = numbered(table, [one.name for one in columns], options, merge)
    committing = _committing(options, info, database, commit_obstacle(options, table, database, replaces))
    beginning = _beginning(prepared, widening, options, backend)
    if replaces is not None:
        beginning |= _replacing(replaces, committing["commit"], table, columns, info, options, backend)
    return LoadPlan(
        **_counted(info, database),
        table=table,
        columns=columns,
        **beginning,
        **_writing(options, columns, _written(table, replaces), backend),
        creates_table=definition is not None,
        **_asked(options, found),
        **committing,
        warnings=(*warnings, *numbers.warnings),
        numbers=numbers,
        merge=merge,
    )


def _written(table: TableSchema, replaces: replacing.Replacement | None) -> TableSchema:
    """The table as COPY finds it: one that is filled beside has no rules and no policies."""
    is_beside = replaces is not None and replaces.way in replacing.WAYS
    return replace(table, copy_refused=None) if is_beside else table


def _replacing(  # noqa: PLR0917 - all that is decided by then
    replaces: replacing.Replacement,
    commit: str,
    table: TableSchema,
    columns: tuple[ColumnPlan, ...],
    info: SourceInfo,
    options: LoadOptions,
    backend: Backend,
) -> dict[str, Any]:
    """How the rows of a table that stays are replaced, and the statements with which the load begins."""
    if replaces.way not in replacing.STAYING:
        return {"replacement": replaces}
    load = table.replaceable.load or options.load_id or info.name
    chosen = replaces.named(table.name, load, by_chunk=commit == "chunk")
    statements = chosen.statements(table, [column.name for column in columns], backend)
    return {"statements": statements, "replacement": chosen}


def _known(target: Target, found: TableSchema | None, options: LoadOptions, backend: Backend) -> TableSchema | None:
    """The table whose columns the source's are to be; None where it gets those of the source."""
    _check_target(found, options)
    if target.definition is not None and (found is None or options.if_exists == "replace"):
        return Definition(target.definition, target.schemas).schema_of(target.name, backend)
    return None if options.if_exists == "replace" else found


def _beginning(
    prepared: ddl.Prepared, widening: Alteration | None, options: LoadOptions, backend: Backend
) -> dict[str, Any]:
    """The DDL, and what it alters; types are changed under a lock that is taken first, or when no row is left."""
    if widening is None:
        added = Alteration(prepared.table, {}, adds=True) if prepared.adds else None
        return {"statements": prepared.statements, "alteration": added}
    doing = [widening.statements(backend), prepared.statements]
    first, then = reversed(doing) if options.if_exists == "truncate" else doing
    return {"statements": (*first, *then), "alteration": replace(widening, adds=prepared.adds)}


def _asked(options: LoadOptions, found: TableSchema | None) -> dict[str, Any]:
    """What follows from the options and the table alone."""
    clears = options.if_exists in {"truncate", "replace"}
    known = {"exists": found is not None, "max_rows_per_second": options.max_rows_per_second}
    return {"keeps_rejects": options.on_invalid == "reject", "clears_table": clears, "dry_run": options.dry_run} | known


def _merge(
    options: LoadOptions, table: TableSchema, offered: pa.Schema, info: SourceInfo, backend: Backend
) -> merging.MergePlan | None:
    if options.on_conflict == "error" and options.returning is None:
        return None
    chunk_rows = _chunk_rows(options, "insert" if backend.copy_obstacle else "copy")
    return merging.plan_merge(options, table, offered.names, chunk_rows, backend, in_memory=info.in_memory)


def _check_target(found: TableSchema | None, options: LoadOptions) -> None:
    if found is None:
        if options.action != "load":
            raise PlanError("there is no such table", hint="Load the rows first: load_dataframe(data, table).")
        return
    if options.if_exists == "fail":
        hint = "Choose if_exists='append', 'truncate' or 'replace', or another table."
        raise PlanError(f"the table {found.name} exists already", hint=hint)
    ddl.check(found, options.if_exists)


def _committing(options: LoadOptions, info: SourceInfo, database: Database, obstacle: str | None) -> dict[str, Any]:
    """When rows are committed, and by how many connections."""
    chosen = choose_commit(options, info, obstacle, knows_load=database.knows_load)
    return chosen | {"workers": _workers(options, database, info) if chosen["commit"] == "chunk" else 1}


def _workers(options: LoadOptions, database: Database, info: SourceInfo) -> int:
    connections = database.connections if database.backend.one_writer is None else 1
    if options.on_conflict != "error" and not info.in_memory:
        return 1  # of rows with one key in different chunks, which one counts must not depend on who is faster
    return int(min(options.workers or (WORKERS if options.shard is None else 1), connections))


def _writing(
    options: LoadOptions, columns: tuple[ColumnPlan, ...], table: TableSchema, backend: Backend
) -> dict[str, Any]:
    method, reason = _method(options.method, columns, table, backend)
    return {"method": method, "reason": reason, "chunk_rows": _chunk_rows(options, method)}


def _chunk_rows(options: LoadOptions, method: str) -> int:
    """Rows per chunk: those of a second where they are paced, so that the server has no bursts."""
    return options.chunk_rows or min(CHUNK_ROWS[method], options.max_rows_per_second or CHUNK_ROWS[method])


def _method(asked: str, columns: tuple[ColumnPlan, ...], table: TableSchema, backend: Backend) -> tuple[str, str]:
    obstacle = _copy_obstacle(columns, table, backend)
    if asked == "copy" and obstacle:
        hint = "Leave method='auto', which chooses insert here."
        raise PlanError(f"COPY cannot write to {table.name}: {obstacle}", hint=hint)
    if asked == "insert":
        return "insert", "it was requested"
    if obstacle:
        return "insert", obstacle
    text = _as_text(columns, table)
    if text:
        return "copy", f"PostgreSQL takes rows fastest by COPY, here as text, in which it reads {', '.join(text)}"
    return "copy", "PostgreSQL takes rows fastest by binary COPY"


def _as_text(columns: tuple[ColumnPlan, ...], table: TableSchema) -> list[str]:
    """The columns that binary COPY does not take, among them some that are not loaded."""
    text = {column.name: column.target for column in columns if column.as_text}
    text |= {column.name: column.type for column in table.columns if not column.binary}
    return [f"{name} ({kind})" for name, kind in text.items()]


def _copy_obstacle(columns: tuple[ColumnPlan, ...], table: TableSchema, backend: Backend) -> str | None:
    obstacle = backend.copy_obstacle or table.copy_refused
    if obstacle:
        return obstacle
    local = [column for column in columns if column.target.row.read_by_locale]
    if local and _as_text(columns, table):
        return f"the server's locale decides how it reads {local[0].name} ({local[0].target.kind}) from text"
    return None


def _counted(info: SourceInfo, database: Database) -> dict[str, Any]:
    """What the plan tells of the source and the database."""
    return {
        "source": info.name,
        "database": database.name,
        "rows": info.rows,
        "about": info.about,
        "in_memory": info.in_memory,
    }
