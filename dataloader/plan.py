"""LoadPlan: source columns x table x options -> every decision of a load. Pure: no I/O."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dataloader.conversion.rules import ColumnPlan, column_plan
from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.database import ddl, merging, replacing
from dataloader.database.numbering import NOTHING, Numbered, numbered
from dataloader.database.schema import TableName, TableSchema
from dataloader.display.html import panel, table
from dataloader.errors import PlanError, SchemaMismatch
from dataloader.formatting import closest, quantity
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
    source : str
        What is loaded.
    rows : int or None
        How many rows, None if the source does not know.
    database : str
        The database.
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
    creates_table : bool
        Whether the load makes the table.
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
    exists : bool
        Whether the table is there already.
    about : int or None
        How many rows there are, to judge by the size of the files.
    in_memory : bool
        Whether the source can be checked before its first chunk is committed.
    buffers : bool
        Whether the load is one transaction after all, if the source turns out to be small.
    dry_run : bool
        Whether all of it is rolled back.
    source_facts : tuple of (str, str)
        What was found out about the source.
    numbers : Numbered
        What is done about numbers that the rows bring, and the database would give.
    merge : MergePlan or None
        How rows are merged by their key; None: they are inserted, and a key that is there is an error.
    replacement : Replacement or None
        How the rows of a table that stays are replaced.
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
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    exists: bool = False
    merge: merging.MergePlan | None = None
    numbers: Numbered = NOTHING
    dry_run: bool = False
    in_memory: bool = False
    buffers: bool = False
    about: int | None = None
    source_facts: tuple[tuple[str, str], ...] = ()
    replacement: replacing.Replacement | None = None

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
    def transactions(self) -> str:
        if self.dry_run:
            return "one transaction, which is rolled back"
        if self.commit == "load":
            return f"one transaction, because {self.commit_reason}: every row is there, or none"
        workers = quantity(self.workers, "worker")
        return f"one transaction for each, with a checkpoint, because {self.commit_reason}; {workers}"

    @property
    def on_invalid(self) -> str:
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
    def _waiting(self) -> list[str]:
        """Who has to wait: a table that gets columns is locked until the transaction of that is committed."""
        adds = any(statement.startswith("ALTER TABLE") for statement in self.statements)
        until = "the load" if self.commit == "load" else "that"
        return (
            [f"others wait for {self.table.name} from when it gets columns until {until} is committed"] if adds else []
        )

    @property
    def _facts(self) -> list[tuple[str, str]]:
        return [
            *self.source_facts,
            ("method", f"{self.method}, because {self.reason}"),
            ("chunks", f"up to {quantity(self.chunk_rows, 'row')} each, in {self.transactions}"),
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

    def __str__(self) -> str:
        width = max((len(column.name) for column in self.columns), default=0)
        lines = [f"load {self.source} ({self._size}) into {self.table.name} of {self.database}"]
        lines += [f"  {c.name:<{width}}  {c.source} → {c.target}  ({_verdict(c)})" for c in self.columns]
        lines += [f"  first: {' '.join(statement.split())}" for statement in self.statements]
        lines += [f"  {name}: {fact}" for name, fact in self._facts]
        return "\n".join(lines)

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
    backend, offered = database.backend, _offered(info, target, found, options, database.backend)
    prepared = ddl.prepare(offered, target, found, options, backend)
    table, definition, replaces = prepared.table, prepared.definition, prepared.replacement
    merge = _merge(options, table, offered, info, backend)
    is_made = definition is not None and target.definition is None
    columns = _columns(offered, prepared, options, merge, is_made=is_made)
    numbers = numbered(table, [one.name for one in columns], options, merge)
    method, reason = _method(options.method, columns, _written(table, replaces), backend)
    committing = choose_commit(options, info, commit_obstacle(options, table, database, replaces))
    return LoadPlan(
        source=info.name,
        **_counted(info),
        database=database.name,
        table=table,
        columns=columns,
        **_replacing(replaces, prepared, columns, info, options, backend, by_chunk=committing["commit"] == "chunk"),
        method=method,
        reason=reason,
        chunk_rows=options.chunk_rows or CHUNK_ROWS[method],
        creates_table=definition is not None,
        **_asked(options, found),
        **committing,
        workers=_workers(options, database, info) if committing["commit"] == "chunk" else 1,
        warnings=(*prepared.warnings, *_doubts(offered, options, is_made=is_made), *numbers.warnings),
        numbers=numbers,
        merge=merge,
    )


def _written(table: TableSchema, replaces: replacing.Replacement | None) -> TableSchema:
    """The table as COPY finds it: one that is filled beside has no rules and no policies."""
    is_beside = replaces is not None and replaces.way in replacing.WAYS
    return replace(table, copy_refused=None) if is_beside else table


def _replacing(  # noqa: PLR0917 - all that is decided by then
    replaces: replacing.Replacement | None,
    prepared: ddl.Prepared,
    columns: tuple[ColumnPlan, ...],
    info: SourceInfo,
    options: LoadOptions,
    backend: Backend,
    *,
    by_chunk: bool,
) -> dict[str, Any]:
    """How the rows of a table that stays are replaced, and the statements with which the load begins."""
    if replaces is None:
        return {"statements": prepared.statements}
    chosen = replaces.named(prepared.table.name, info.name, options.load_id, by_chunk=by_chunk)
    statements = chosen.statements(prepared.table, [column.name for column in columns], backend)
    return {"statements": statements, "replacement": chosen}


def _asked(options: LoadOptions, found: TableSchema | None) -> dict[str, Any]:
    """What follows from the options and the table alone."""
    clears = options.if_exists in {"truncate", "replace"}
    known = {"exists": found is not None}
    return {"keeps_rejects": options.on_invalid == "reject", "clears_table": clears, "dry_run": options.dry_run} | known


def _merge(
    options: LoadOptions, table: TableSchema, offered: pa.Schema, info: SourceInfo, backend: Backend
) -> merging.MergePlan | None:
    if options.on_conflict == "error" and options.returning is None:
        return None
    chunk_rows = options.chunk_rows or CHUNK_ROWS["insert" if backend.copy_obstacle else "copy"]
    within = None if info.in_memory else chunk_rows
    return merging.plan_merge(options, table, offered.names, within, backend)


def _offered(
    info: SourceInfo, target: Target, found: TableSchema | None, options: LoadOptions, backend: Backend
) -> pa.Schema:
    """The columns to load."""
    _check_target(found, options)
    backend.check_width(info.name, len(info.schema), found)
    offered = _without_reasons(info.schema, target, found)
    for name in offered.names:
        backend.check_name(name, "column name")
    backend.check_case(offered.names)
    if not offered.names:
        raise PlanError(f"{info.name} is without columns", hint="Pass a source with at least one column.")
    return offered


def _check_target(found: TableSchema | None, options: LoadOptions) -> None:
    if found is None:
        if options.action != "load":
            raise PlanError("there is no such table", hint="Load the rows first: load_dataframe(data, table).")
        return
    if options.if_exists == "fail":
        hint = "Choose if_exists='append', 'truncate' or 'replace', or another table."
        raise PlanError(f"the table {found.name} exists already", hint=hint)
    ddl.check(found, options.if_exists)


def _columns(
    offered: pa.Schema, prepared: ddl.Prepared, options: LoadOptions, merge: merging.MergePlan | None, *, is_made: bool
) -> tuple[ColumnPlan, ...]:
    table = prepared.table
    if merge is not None and merge.merge.action == "delete":
        offered = pa.schema([offered.field(name) for name in merge.merge.key])
    _check_columns(offered.names, prepared, inserts=merge is None or merge.merge.action == "insert")
    by_name = {table.key(column.name): column for column in table.columns}
    pairs = [(field, by_name[table.key(field.name)]) for field in offered]
    made = set(offered.names) - set(options.dtype or ()) if is_made else set()
    shared = (options.casts, options.assume_timezone)
    return tuple(
        column_plan(field, column.type, column.nullable, *shared, is_created=field.name in made)
        for field, column in pairs
    )


def _doubts(offered: pa.Schema, options: LoadOptions, *, is_made: bool) -> tuple[str, ...]:
    """Why columns are made text that look like something else, or might have been something else."""
    doubts = {one.name: (one.metadata or {}).get(b"doubt", b"").decode() for one in offered}
    return tuple(
        f"column {name!r} is made text: {doubt}. dtype= gives it a type"
        for name, doubt in doubts.items()
        if is_made and doubt and name not in (options.dtype or {})
    )


def _workers(options: LoadOptions, database: Database, info: SourceInfo) -> int:
    connections = database.connections if database.backend.one_writer is None else 1
    if options.on_conflict != "error" and not info.in_memory:
        return 1  # of rows with one key in different chunks, which one counts must not depend on who is faster
    return int(min(options.workers or WORKERS, connections))


def _without_reasons(schema: pa.Schema, target: Target, found: TableSchema | None) -> pa.Schema:
    """Rejects that come again bring the reasons of their refusal; those are not data, or the table has them."""
    if not set(REJECT_COLUMNS) <= set(schema.names):
        return schema
    table = found if target.definition is None else target.definition
    left_out = set(REJECT_COLUMNS) - {column.name for column in (() if table is None else table.columns)}
    return pa.schema([field for field in schema if field.name not in left_out])


def _check_columns(offered: list[str], prepared: ddl.Prepared, *, inserts: bool) -> None:
    table = prepared.table
    known = {table.key(column.name): column for column in table.columns}
    brought = {table.key(name): name for name in offered}
    unknown = [name for key, name in brought.items() if key not in known]
    missing = [column.name for key, column in known.items() if inserts and column.required and key not in brought]
    generated = [column.name for key, column in known.items() if column.generated and key in brought]
    if not (unknown or missing or generated):
        return
    problems = [
        f"{problem}: {', '.join(map(repr, names))}"
        for problem, names in (
            ("not in the table", unknown),
            ("required by the table but not in the source", missing),
            ("computed by the database", generated),
        )
        if names
    ]
    facts = f"source: {', '.join(offered)}; table: {', '.join(column.name for column in table.columns)}"
    raise SchemaMismatch(
        f"the columns do not match {table.name} ({facts}). {'; '.join(problems)}",
        hint=_columns_hint(unknown, generated, prepared),
    )


def _columns_hint(unknown: list[str], generated: list[str], prepared: ddl.Prepared) -> str:
    meant = [(closest(name, (column.name for column in prepared.table.columns)), name) for name in unknown]
    asked = [f"{close!r} instead of {name!r}" for close, name in meant if close]
    hints = [f"Did you mean {', '.join(asked)}?"] if asked else []
    if generated:
        hints.append(f"Drop {', '.join(map(repr, generated))} from the source: the database fills it in.")
    return " ".join(hints) or prepared.add_hint or "Rename, add or drop columns of the source so that they agree."


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


def _counted(info: SourceInfo) -> dict[str, Any]:
    """What the plan tells of a source's rows."""
    return {"rows": info.rows, "about": info.about, "in_memory": info.in_memory}
