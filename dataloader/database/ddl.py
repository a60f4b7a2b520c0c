"""The DDL with which a load begins: the table is created, replaced, emptied or locked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.schema import DropTable

from dataloader.database import definitions, replacing
from dataloader.database.definitions import Definition, Shape, bare_table
from dataloader.errors import PlanError, UnsupportedType

if TYPE_CHECKING:
    from dataloader.database.backends import Backend
    from dataloader.database.schema import Column, TableName, TableSchema


class Asked(replacing.Asked, Protocol):
    """What the caller says of the table: the options of a load with these names."""

    @property
    def if_exists(self) -> str: ...
    @property
    def dtype(self) -> Mapping[str, Any] | None: ...
    @property
    def evolve(self) -> Sequence[str]: ...


class Target(Protocol):
    """The table as the caller names it."""

    @property
    def name(self) -> TableName: ...
    @property
    def definition(self) -> sa.Table | None: ...
    @property
    def schemas(self) -> Mapping[str | None, str | None]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """The table that is loaded into, and how it comes to be so.

    Attributes
    ----------
    statements : tuple of str
        The DDL.
    definition : Definition or None
        What is created, None for nothing.
    lacks : tuple of str
        The DDL that would give it the columns that it lacks.
    adds : bool
        Whether it gets them.
    replacement : Replacement or None
        How the rows of a table that stays are replaced.
    """

    table: TableSchema
    statements: tuple[str, ...]
    warnings: tuple[str, ...]
    definition: Definition | None = None
    lacks: tuple[str, ...] = ()
    adds: bool = False
    replacement: replacing.Replacement | None = None

    @property
    def add_hint(self) -> str | None:
        """How the columns that it lacks could be added, None where they cannot."""
        if not self.lacks or self.table.kind not in _ALTERED:
            return None
        return f"Leave them out (columns=), or add them to the table, as evolve='add' does: {'; '.join(self.lacks)}"


def prepare(
    offered: pa.Schema, target: Target, found: TableSchema | None, options: Asked, backend: Backend
) -> Prepared:
    """Decide on the table: the one that is there, with columns added where that is asked for, or one that is created.

    Raises
    ------
    PlanError
        When the caller's types, names or columns do not go together with the source or the table.
    """
    types = definitions.given_types(offered, target.definition, options.dtype, backend)
    if found is not None and options.if_exists != "replace":
        doing = statements(None, found.name, found, options.if_exists, backend)
        there = Prepared(found, doing, definitions.differences(found, types, target.schemas, backend))
        if options.if_exists == "truncate":
            how = replacing.Replacement("truncate", refilled=backend.refilled)
            there = replace(there, warnings=(*there.warnings, *_staying(found)), replacement=how)
        return _with_added(there, *_additions(offered, found, types, backend), adds="add" in options.evolve)
    why: str | None = None
    given = None if target.definition is None else Definition(target.definition, target.schemas)
    if found is not None and found.replaceable.keeps:
        why = replacing.changes(offered, found, types, options, backend, given)
        if why is None:
            how = replacing.replacement_of(found, options, backend)
            return Prepared(found, (), (*found.warnings, *_staying(found)), replacement=how)
    if found is not None:
        check_anew(found)
    name = target.name if found is None else found.name
    definition = definitions.definition(offered, given, name, types, backend, shape=Shape.of(options))
    table = definition.schema_of(name, backend)
    lost = warnings(found, table, why, is_defined=given is not None)
    doing = statements(definition, name, found, options.if_exists, backend)
    made = None if found is None else replacing.Replacement("anew", why, refilled=backend.refilled)
    return Prepared(table, doing, (*lost, *definitions.several_kinds(offered, table)), definition, replacement=made)


def _additions(
    offered: pa.Schema, found: TableSchema, types: Mapping[str, Any], backend: Backend
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    try:
        return definitions.additions(offered, found, types, backend)
    except UnsupportedType:  # no type keeps such a column: that the table lacks it is said first
        return (), ()


def _with_added(there: Prepared, added: tuple[Column, ...], lacks: tuple[str, ...], *, adds: bool) -> Prepared:
    if not (added and adds):
        return replace(there, lacks=lacks)
    name = there.table.name
    if there.table.kind not in _ALTERED:
        what = f"{name} is a {there.table.kind}, and no column can be added to it"
        raise PlanError(what, hint="Add the columns to what it stands on, and load again.")
    table = replace(there.table, columns=(*there.table.columns, *added))
    return replace(there, table=table, statements=(*lacks, *there.statements), adds=True)


_ALTERED = {"table", "partitioned table"}
"""The kinds of table that get columns."""


_INSTEAD = {
    "materialized view": "Load the tables that it is made from, then REFRESH it.",
    "view": "Give it an INSTEAD OF INSERT trigger, or load the table behind it.",
}


def check(found: TableSchema, if_exists: str) -> None:
    """Refuse what cannot be done to a target of its kind.

    Raises
    ------
    PlanError
        Naming what it is, and a way out.
    """
    verb = {"truncate": "emptied", "replace": "replaced"}.get(if_exists)
    droppable = found.kind in {"table", "partitioned table"}
    if verb and not (droppable or (found.kind == "foreign table" and verb == "emptied")):
        hint = "Choose if_exists='append', or name the table that holds its rows."
        raise PlanError(f"{found.name} is a {found.kind}, not a table: it cannot be {verb}", hint=hint)
    if verb and found.referrers:
        what = f"{found.name} cannot be {verb}: {found.referrers} refers to it by a foreign key"
        raise PlanError(what, hint=_REFERRED.format(name=found.name))
    if not found.insertable:
        hint = _INSTEAD.get(found.kind, "Its foreign data wrapper only reads: load another table.")
        raise PlanError(f"rows cannot be inserted into {found.name}: it is a {found.kind}", hint=hint)


def check_anew(found: TableSchema) -> None:
    """Refuse to drop a part of another table.

    Raises
    ------
    PlanError
        Naming that, and a way out.
    """
    if found.parent:
        hint = f"Choose if_exists='truncate', which keeps it in its place, or load into {found.parent}."
        raise PlanError(f"{found.name} cannot be made anew: it is a part of {found.parent}", hint=hint)


_REFERRED = (
    "Have its rows updated in place: sync_table(data, table) makes it hold the same rows, on_conflict='update' leaves "
    "those that the data has not. Or empty it yourself, by DELETE FROM {name}, and load with if_exists='append'."
)

_SHAPE = frozenset(
    "primary key,not null of,default of,identity of,generated column,unique,foreign key,check,exclusion,index".split(
        ","
    )
)
"""What a SQLAlchemy Table says of its columns: the caller has decided that."""
_SHOWN_NAMES = 5


def warnings(
    found: TableSchema | None, table: TableSchema, why: str | None = None, *, is_defined: bool
) -> tuple[str, ...]:
    """What the table that was found has, and the one that replaces it has not; `why` it is not kept."""
    if found is None:
        return ()
    gone = [column.name for column in found.columns if column.name not in [one.name for one in table.columns]]
    every = {**found.losses, "columns": gone}
    lost = [
        f"{what} {_some(names)}".strip()
        for what, names in every.items()
        if names and not (is_defined and what in _SHAPE)
    ]
    reason = f" (it is made anew, because {why})" if why else ""
    return (f"replacing {found.name} loses its {'; '.join(lost)}{reason}",) if lost else ()


def _staying(found: TableSchema) -> tuple[str, ...]:
    if found.heirs is None:
        return ()
    return (f"the rows of {found.heirs} stay, and are found in {found.name}, from which it inherits",)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"{', '.join(names[:_SHOWN_NAMES])}{more}"


def statements(
    definition: Definition | None, name: TableName, found: TableSchema | None, if_exists: str, backend: Backend
) -> tuple[str, ...]:
    if definition is not None:
        dropping = [] if found is None else [str(DropTable(bare_table(name)).compile(dialect=backend.dialect)).strip()]
        return (*dropping, *definition.creating(backend))
    if found is not None and if_exists == "truncate":
        return (backend.empty_table_sql(found),)
    return backend.lock_table_sql(name, "table" if found is None else found.kind)
