"""Merging: by which key rows find those that are there, and what is done to them. Decided before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dataloader.database.schema import Merge, MergeTarget, TableSchema
from dataloader.errors import PlanError, SchemaMismatch
from dataloader.formatting import did_you_mean

if TYPE_CHECKING:
    from dataloader.database.backends import Backend
    from dataloader.database.schema import UniqueKey

EVERY_ROW = "true"
"""The condition that holds for every row of a table."""
INSERTED = "inserted"
"""The column that says of a returned row whether it is new."""


class Asked(Protocol):
    """What the caller says of rows whose key is there: the options of a load with these names."""

    @property
    def on_conflict(self) -> str: ...
    @property
    def key(self) -> Sequence[str] | None: ...
    @property
    def update_columns(self) -> Sequence[str] | None: ...
    @property
    def duplicates(self) -> str: ...
    @property
    def order_by(self) -> str | None: ...
    @property
    def action(self) -> str: ...
    @property
    def returning(self) -> Sequence[str] | None: ...
    @property
    def override_identity(self) -> bool: ...
    @property
    def within(self) -> str | Mapping[str, Any] | None: ...
    @property
    def max_deletes(self) -> float: ...


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How rows find those that are there, and which of several with one key counts.

    Attributes
    ----------
    merge : Merge
        What the database does.
    duplicates : str
        What is done with rows of the source that have one key: ``error``, or which one counts: ``first``, ``last``.
    order_by : str or None
        The column whose greatest value says which one counts.
    within : int or None
        They are looked for in chunks of so many rows; None: in the whole source.
    others : str or None
        The SQL condition of the table's rows that are deleted if the source does not have them; None: they stay.
    max_deletes : float
        The largest share of them that may be deleted.
    """

    merge: Merge
    duplicates: str
    order_by: str | None
    within: int | None
    others: str | None = None
    max_deletes: float = 1.0

    @property
    def natural(self) -> str:
        """What ``duplicates`` may say of rows of different chunks."""
        return natural_of(self.merge)

    @property
    def is_an_error(self) -> bool:
        """Whether two rows of the source with one key are refused."""
        return bool(self.merge.key) and self.order_by is None and self.duplicates == "error"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """In words."""
        if not self.merge.key:
            return [("returned", f"{', '.join(self.merge.returning)} of each row, in the order of the source")]
        returned = [("returned", f"{', '.join(self.merge.returning)}, and whether the row is new")]
        key = ", ".join(self.merge.key)
        there, new = "left as it is", "inserted" if self.merge.action == "insert" else "counted as missing"
        if self.merge.action == "delete":
            there = "deleted"
        if self.merge.updated:
            there = f"updated in {', '.join(self.merge.updated)}, where something differs"
        counts = f"the {self.duplicates} one counts"
        if self.order_by is not None:
            counts = f"the one with the greatest {self.order_by} counts"
        elif self.is_an_error:
            counts = "an error"
        if self.within is not None:
            later = "the later one counts" if self.merge.updated else "the earlier one counts"
            counts += f" within a chunk of {self.within:,} rows; of different chunks {later}"
        facts = [
            (f"a row whose {key} is in the table", there),
            (f"a row whose {key} is new", new),
            (f"rows of the source with one {key}", counts),
        ]
        if self.others is not None:
            where = "" if self.others == EVERY_ROW else f" where {self.others}"
            most = f"no more than {self.max_deletes:.0%} of them"
            facts.append((f"rows of the table{where} that the source does not have", f"deleted, {most}"))
        return facts + (returned if self.merge.returning else [])


def natural_of(merge: Merge) -> str:
    """Which of rows with one key counts where they are merged one after another."""
    return "last" if merge.updated else "first"


def plan_merge(
    asked: Asked, table: TableSchema, offered: Sequence[str], chunk_rows: int, backend: Backend, *, in_memory: bool
) -> MergePlan:
    """Decide how the columns `offered` of a source are merged into a table.

    Raises
    ------
    PlanError
        When the table cannot take a merge, it is not clear by which key, or which of several rows counts.
    SchemaMismatch
        When the rows lack a column of the key.
    """
    merge = _decided(asked, table, offered, table.merge_target)
    natural = "error" if asked.action == "sync" else natural_of(merge)
    within = None if in_memory and not merge.is_loose else chunk_rows
    if within is not None and (asked.order_by is not None or asked.duplicates not in {"error", natural}):
        which = f"order_by={asked.order_by!r}" if asked.order_by else f"duplicates={asked.duplicates!r}"
        if in_memory:
            what = f"{which} cannot be kept: only the database knows which values of {', '.join(merge.key)} are equal"
            raise PlanError(what, hint=f"Drop the rows that do not count, or pass duplicates={natural!r}.")
        hint = f"Pass a DataFrame or an Arrow table, or duplicates={natural!r}, which holds for any source."
        raise PlanError(f"{which} needs the whole source in memory, and this one is read chunk by chunk", hint=hint)
    if asked.order_by is not None and asked.order_by not in offered:
        hint = did_you_mean(asked.order_by, offered)
        raise PlanError(f"order_by names {asked.order_by!r}, which the source does not have", hint=hint)
    others = None
    if asked.action == "sync":  # staged as a whole
        within, others = None, _others(asked.within, table, backend)
    return MergePlan(merge, asked.duplicates, asked.order_by, within, others, asked.max_deletes)


def _others(within: str | Mapping[str, Any] | None, table: TableSchema, backend: Backend) -> str:
    """The condition as SQL that no driver takes parameters out of."""
    if within is None:
        return EVERY_ROW
    if isinstance(within, str):
        backend.check_text(within, "within=", hint="Write it without.")
        return f"({backend.escaped(within)}\n)"  # which may end in a comment
    known = {table.key(column.name): column.type for column in table.columns}
    if unknown := [name for name in within if table.key(name) not in known]:
        hint = did_you_mean(unknown[0], [column.name for column in table.columns])
        raise PlanError(f"within names {unknown[0]!r}, which {table.name} does not have", hint=hint)
    equal = (
        f"{backend.quote(name)} {backend.literal(value, known[table.key(name)])}" for name, value in within.items()
    )
    return f"({' AND '.join(equal)})"


def _decided(asked: Asked, table: TableSchema, offered: Sequence[str], target: MergeTarget) -> Merge:
    _check_target(asked, table, target)
    returning = _returned(asked, table)
    overriding = asked.override_identity and any(column.always for column in table.columns)
    if asked.on_conflict == "error":
        return Merge(table.name, tuple(offered), (), (), returning=returning, overriding=overriding)
    spelled = {table.key(name): name for name in offered}
    chosen = _chosen(asked, table, target)
    missing = [name for name in chosen.columns if table.key(name) not in spelled]
    if missing:
        what = f"the source has no column {', '.join(map(repr, missing))}, which the key of {table.name} needs"
        raise SchemaMismatch(what, hint="Add it to the source, or name another key with key=.")
    key = tuple(spelled[table.key(name)] for name in chosen.columns)
    updated = _updated(asked, table, offered, key)
    action = {"load": "insert", "sync": "insert"}.get(asked.action, asked.action)
    return Merge(
        table.name,
        key if action == "delete" else tuple(offered),
        key,
        updated,
        action,
        looks_first=target.has_triggers or table.kind == "partitioned table",
        by=chosen,
        is_loose=_is_loose(chosen, table),
        returning=returning,
        overriding=overriding and action == "insert",
    )


def _is_loose(key: UniqueKey, table: TableSchema) -> bool:
    vague = any(not table.column(name).type.row.equal_by_text for name in key.columns)
    return vague or key.equates_nulls or key.equates_texts


def _check_target(asked: Asked, table: TableSchema, target: MergeTarget) -> None:
    """Refuse what would go wrong in silence, or PostgreSQL refuses in other words."""
    if target.refused is not None:
        hint = "Load into a table of its own, and merge it by SQL."
        if asked.on_conflict == "error":
            raise PlanError(f"{table.name} can return no values: {target.refused}", hint="Leave returning= out.")
        raise PlanError(f"rows cannot be merged into {table.name}: {target.refused}", hint=hint)
    inserts, deletes = asked.action in {"load", "sync"}, asked.action in {"delete", "sync"}
    if deletes and target.deletes_refused is not None:
        hint = "Drop the rules, or delete the rows by SQL."
        raise PlanError(f"rows cannot be deleted from {table.name}: {target.deletes_refused}", hint=hint)
    if inserts and asked.on_conflict != "error" and target.inserts_refused is not None:
        hint = "Load into the tables that have the rows, or use update_rows, which inserts none."
        raise PlanError(f"rows cannot be merged into {table.name}: {target.inserts_refused}", hint=hint)


def _returned(asked: Asked, table: TableSchema) -> tuple[str, ...]:
    known = {table.key(column.name): column.name for column in table.columns}
    names = asked.returning or ()
    for name in names:
        if table.key(name) not in known:
            hint = did_you_mean(name, [*known.values()])
            raise PlanError(f"returning names {name!r}, which {table.name} does not have", hint=hint)
        if asked.on_conflict != "error" and name == INSERTED:
            hint = "Ask for it by SQL, or leave it out."
            raise PlanError(f"returning= itself adds a column {INSERTED!r}, and {table.name} has one", hint=hint)
    return tuple(known[table.key(name)] for name in names)


def _chosen(asked: Asked, table: TableSchema, target: MergeTarget) -> UniqueKey:
    usable = [key for key in target.keys if key.refused is None]
    if asked.key is not None:
        wanted = {table.key(name) for name in asked.key}
        same = [key for key in target.keys if {table.key(name) for name in key.columns} == wanted]
        for key in [*(key for key in same if key.refused is None), *same]:
            if key.refused is None:
                return key
            what = f"the unique key {key.name!r} of {table.name} cannot decide what is updated: {key.refused}"
            raise PlanError(what, hint=_create_hint(asked.key, table))
        names = ", ".join(asked.key)
        raise PlanError(
            f"{table.name} has no unique key of ({names}): {_listed(target)}", hint=_create_hint(asked.key, table)
        )
    primary = [key for key in usable if key.is_primary]
    if primary or len(usable) == 1:
        return (primary or usable)[0]
    hint = (
        "Name the columns with key=." if usable else "Give the table a primary key, or a unique index, and load again."
    )
    raise PlanError(f"rows are merged by a key, and {table.name} {_has(target)}", hint=hint)


def _has(target: MergeTarget) -> str:
    return (
        "has none: " + _listed(target)
        if not target.keys or all(key.refused for key in target.keys)
        else ("has several: " + _listed(target))
    )


def _listed(target: MergeTarget) -> str:
    """The keys that there are, and why those that are of no use are not."""
    if not target.keys:
        return "it has no unique key"
    return "; ".join(
        f"{'primary key' if key.is_primary else key.name} ({', '.join(key.columns)})"
        + (f", but {key.refused}" if key.refused else "")
        for key in target.keys
    )


def _create_hint(names: Sequence[str], table: TableSchema) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f"Create one: CREATE UNIQUE INDEX ON {table.name} ({columns}), or name another key with key=."


def _updated(asked: Asked, table: TableSchema, offered: Sequence[str], key: Sequence[str]) -> tuple[str, ...]:
    if asked.on_conflict == "ignore" or asked.action == "delete":
        return ()
    others = [name for name in offered if name not in key]
    if asked.update_columns is None:
        return tuple(others)
    spelled = {table.key(name): name for name in others}
    for name in asked.update_columns:
        if table.key(name) not in spelled:
            what = (
                f"update_columns names {name!r}, which is {'part of the key' if name in key else 'not in the source'}"
            )
            raise PlanError(what, hint=did_you_mean(name, others))
    return tuple(spelled[table.key(name)] for name in asked.update_columns)
