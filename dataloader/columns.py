"""Columns: which one of the source goes into which one of the table, what happens to its values, and who numbers rows.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from dataloader.conversion.rules import ColumnPlan, column_plan
from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.conversion.widening import type_for, wider
from dataloader.database.alterations import widening_sql
from dataloader.errors import PlanError, SchemaMismatch
from dataloader.formatting import closest

if TYPE_CHECKING:
    from dataloader.database.backends import Backend
    from dataloader.database.ddl import Prepared
    from dataloader.database.merging import MergePlan
    from dataloader.database.schema import Column, TableSchema
    from dataloader.options import LoadOptions, Target
    from dataloader.transactions import SourceInfo


@dataclass(frozen=True, slots=True)
class Offered:
    """The columns to load, under the table's names.

    Attributes
    ----------
    spelled : mapping of str to str
        The source's names that the table spells in another case, and its own.
    """

    schema: pa.Schema
    spelled: Mapping[str, str]

    def respelled(self, options: LoadOptions) -> LoadOptions:
        """The options that name columns of the source, under the table's names."""
        if not self.spelled:
            return options
        new = self.spelled
        named: dict[str, Any] = {name: getattr(options, name) for name in ("key", "update_columns")}
        named = {name: tuple(new.get(one, one) for one in names) for name, names in named.items() if names is not None}
        by = None if options.order_by is None else new.get(options.order_by, options.order_by)
        return replace(options, order_by=by, **named)

    def warnings(self, prepared: Prepared, options: LoadOptions, *, is_made: bool) -> tuple[str, ...]:
        """What is to be known of columns that are taken for others or made text, and of the table."""
        pairs, table = self.spelled.items(), prepared.table.name
        taken = (f"the source's column {name!r} is taken for {meant!r} of {table}" for name, meant in pairs)
        return (*taken, *prepared.warnings, *_doubts(self.schema, options, is_made=is_made))

    def source_of(self, name: str) -> str:
        """The source's name of a column of the table."""
        return next((source for source, meant in self.spelled.items() if meant == name), name)


def offered_columns(
    info: SourceInfo, target: Target, found: TableSchema | None, known: TableSchema | None, backend: Backend
) -> Offered:
    """The columns to load; `known` is the table whose columns they are to be, None where it gets those of the source.

    Raises
    ------
    PlanError
        When there is none, or the database takes no column of such a name.
    SchemaMismatch
        When one may be meant for several of the table, or several for one.
    """
    backend.check_width(info.name, len(info.schema), found)
    offered = _without_reasons(info.schema, target, found)
    for name in offered.names:
        backend.check_name(name, "column name")
    backend.check_case(offered.names)
    if not offered.names:
        raise PlanError(f"{info.name} is without columns", hint="Pass a source with at least one column.")
    spelled = {} if known is None else spelled_as_in(known, offered.names)
    return Offered(pa.schema([one.with_name(spelled.get(one.name, one.name)) for one in offered]), spelled)


def spelled_as_in(table: TableSchema, names: Sequence[str]) -> dict[str, str]:
    """The source's columns that a table spells in another case, and its names of them.

    Raises
    ------
    SchemaMismatch
        When several are meant.
    """
    known = [column.name for column in table.columns]
    return {} if table.folds or set(names) <= set(known) else _spelled_otherwise(names, known, table.name)


def _spelled_otherwise(offered: Sequence[str], known: Sequence[str], table: object) -> dict[str, str]:
    free = [name for name in known if name not in offered]
    found: dict[str, str] = {}
    for name in offered:
        meant = [] if name in known else [one for one in free if one.casefold() == name.casefold()]
        if len(meant) > 1:
            what = f"the source's column {name!r} may be {_either(meant)} of {table}"
            raise SchemaMismatch(what, hint=f"Say which one: columns={{{name!r}: {meant[0]!r}, ...}}.")
        if meant:
            found[name] = meant[0]
    for one in free:
        if len(several := [name for name, meant in found.items() if meant == one]) > 1:
            what = f"the column {one!r} of {table} may be {_either(several)} of the source"
            raise SchemaMismatch(what, hint=f"Leave one of them out: columns=[{several[0]!r}, ...].")
    return found


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"


def column_plans(
    offered: Offered,
    prepared: Prepared,
    options: LoadOptions,
    merge: MergePlan | None,
    backend: Backend,
    *,
    is_made: bool,
) -> tuple[tuple[ColumnPlan, ...], tuple[str, ...]]:
    """Decide what happens to each column; and what is to be known of that, and of the table.

    Raises
    ------
    PlanError
        When the columns of the source and the table do not go together.
    """
    table, schema = prepared.table, offered.schema
    if merge is not None and merge.merge.action == "delete":
        schema = pa.schema([schema.field(name) for name in merge.merge.key])
    _check_columns(schema.names, prepared, inserts=merge is None or merge.merge.action == "insert")
    by_name = {table.key(column.name): column for column in table.columns}
    pairs = [(field, by_name[table.key(field.name)]) for field in schema]
    made = set(schema.names) - set(options.dtype or ()) if is_made else table.made
    shared = (options.casts, options.assume_timezone)
    plans = (
        column_plan(field, column.type, column.nullable, *shared, is_created=field.name in made)
        for field, column in pairs
    )
    taken = (one.taking_from(offered.source_of(one.name)) for one in plans) if offered.spelled else plans
    if prepared.definition is not None or backend.widening_obstacle is not None:
        return tuple(taken), offered.warnings(prepared, options, is_made=is_made)
    widened = (
        replace(one, widening=_widening(one, column, table, backend))
        for one, (_, column) in zip(taken, pairs, strict=True)
    )
    return tuple(widened), offered.warnings(prepared, options, is_made=is_made)


def _widening(plan: ColumnPlan, column: Column, table: TableSchema, backend: Backend) -> str:
    """What would give a column room for every value of the source's type, or at least for more."""
    if table.kind == "view" or not plan.can_refuse:
        return ""
    found = wider(column.type, numbered=column.counted)
    kind = type_for(column.type, plan.source, numbered=column.counted) or next(iter(found), column.type)
    return "" if kind == column.type else widening_sql(table.name, {column.name: kind}, backend)


def _doubts(offered: pa.Schema, options: LoadOptions, *, is_made: bool) -> tuple[str, ...]:
    """Why columns are made text that look like something else, or might have been something else."""
    told = {one.name: (one.metadata or {}).get(b"doubt", b"").decode() for one in offered}
    return tuple(
        f"column {name!r} is made text: {doubt}. dtype= gives it a type"
        for name, doubt in told.items()
        if is_made and doubt and name not in (options.dtype or {})
    )


def _without_reasons(schema: pa.Schema, target: Target, found: TableSchema | None) -> pa.Schema:
    """Rejects that come again bring the reasons of their refusal; those are not data, or the table has them."""
    if not set(REJECT_COLUMNS) <= set(schema.names):
        return schema
    table = found if target.definition is None else target.definition
    left_out = set(REJECT_COLUMNS) - {column.name for column in (() if table is None else table.columns)}
    return pa.schema([field for field in schema if field.name not in left_out])


def _check_columns(offered: list[str], prepared: Prepared, *, inserts: bool) -> None:
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


def _columns_hint(unknown: list[str], generated: list[str], prepared: Prepared) -> str:
    meant = [(closest(name, (column.name for column in prepared.table.columns)), name) for name in unknown]
    asked = [f"{close!r} instead of {name!r}" for close, name in meant if close]
    hints = [f"Did you mean {', '.join(asked)}?"] if asked else []
    if generated:
        hints.append(f"Drop {', '.join(map(repr, generated))} from the source: the database fills it in.")
    return " ".join(hints) or prepared.add_hint or "Rename, add or drop columns of the source so that they agree."


class AskedNumbers(Protocol):
    """What the caller says of such numbers: the options of a load with these names."""

    @property
    def override_identity(self) -> bool: ...
    @property
    def sync_sequence(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Numbered:
    """What is decided of the columns in which rows bring their own numbers.

    Attributes
    ----------
    sequences : tuple of str
        Those whose sequence is set past their largest number.
    overrides : bool
        Whether the database is told to take them.
    """

    sequences: tuple[str, ...] = ()
    overrides: bool = False
    warnings: tuple[str, ...] = ()


NOTHING = Numbered()


def numbered(table: TableSchema, loaded: Sequence[str], asked: AskedNumbers, merge: MergePlan | None) -> Numbered:
    """Decide what becomes of numbers that the rows bring.

    Raises
    ------
    SchemaMismatch
        When the database takes only its own, and nobody said otherwise.
    """
    if merge is not None and merge.merge.action != "insert":
        _check_updated(table, merge)
        return NOTHING
    brought = {table.key(name) for name in loaded}
    counted = [column for column in table.columns if column.counted and table.key(column.name) in brought]
    always = [column.name for column in counted if column.always]
    if always and not asked.override_identity:
        what = f"{table.name} numbers its rows itself in {_listed(always)}, and the source brings numbers of its own"
        hint = "Leave the column out (columns=), or pass override_identity=True to store the source's numbers."
        raise SchemaMismatch(what, hint=hint)
    if merge is not None:
        _check_updated(table, merge)
    names = tuple(column.name for column in counted)
    if asked.sync_sequence:
        return Numbered(names, bool(always))
    warning = (
        f"the sequence of {_listed(names)} does not count the numbers that the rows bring, and may give them again"
    )
    return Numbered((), bool(always), (f"{warning}: sync_sequence=True sets it past them",) if names else ())


def _check_updated(table: TableSchema, merge: MergePlan) -> None:
    always = [column.name for column in table.columns if column.always and column.name in merge.merge.updated]
    if always:
        what = f"{_listed(always)} of {table.name} is numbered by the database, which lets nobody update it"
        raise SchemaMismatch(what, hint="Leave it out of update_columns=, or make it the key.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
