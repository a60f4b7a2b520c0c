"""Replacing: what if_exists="replace" makes of a table that is there, and what its readers see meanwhile.

A table whose columns the data has stays, with all its duties: it is *swapped* for one that was filled beside, or rows
that were filled beside are *moved* into it, or it is emptied and *refilled*. Else it is dropped and made *anew*.
"""

from __future__ import annotations

import collections
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import sqlalchemy as sa
import xxhash

from dataloader.conversion.rules import column_plan
from dataloader.database import definitions
from dataloader.database.backends.replacing import NEW, OLD
from dataloader.database.schema import TableName
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

    from dataloader.database.backends import Backend
    from dataloader.database.schema import Column, TableSchema

SWAP_SECONDS = 0.05
"""How long the swap waits at once for the table: everybody else waits behind it."""
WAYS = ("swap", "move")
"""Those in which rows are filled beside."""
STAYING = (*WAYS, "refill")
"""Those in which the table stays."""
_TRUNCATED = "finds it empty: TRUNCATE is no part of PostgreSQL's snapshots"
_OLDER = "a REPEATABLE READ transaction that began before, and reads the table for the first time afterwards,"


class Asked(definitions.AskedShape, Protocol):
    """What the caller says of the table: the options of a load with these names."""

    @property
    def casts(self) -> Any: ...
    @property
    def assume_timezone(self) -> str | None: ...
    @property
    def on_invalid(self) -> str: ...
    @property
    def on_conflict(self) -> str: ...
    @property
    def returning(self) -> Any: ...
    @property
    def load_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Replacement:
    """How the rows of a table that stays are replaced.

    Attributes
    ----------
    way : str
        ``swap``: a table is filled beside and takes its place. ``move``: rows that are filled beside are moved into
        it. ``refill``: it is emptied, and filled where it stands. ``anew``: it is dropped and created. ``truncate``:
        a refill that is asked for.
    reason : str or None
        Why it is not swapped.
    beside : TableName or None
        The table that is filled beside.
    by_chunk : bool
        Whether rows are committed beside, chunk by chunk.
    deletes : bool
        Whether the old rows are deleted, for want of the right to TRUNCATE.
    refilled : str
        What readers see of a refill.
    """

    way: str
    reason: str | None = None
    beside: TableName | None = None
    by_chunk: bool = False
    deletes: bool = False
    refilled: str = ""

    def in_own_words(self, text: str, target: TableName) -> str:
        """A text of the database's, in which the tables beside the target have its name."""
        names = () if self.beside is None else (self.beside.name, self.beside.name.replace(NEW, OLD))
        for name in names:
            text = text.replace(name, target.name)
        return text

    def named(self, target: TableName, load: str, *, by_chunk: bool) -> Replacement:
        """With the name of the table beside: one that another run of the same load finds, where that can continue."""
        if self.way not in WAYS:
            return self
        name = beside_name(target, load, self.way) if by_chunk else f"{NEW}{secrets.token_hex(8)}"
        beside = TableName(target.schema, name)
        return Replacement(self.way, self.reason, beside, by_chunk, self.deletes, self.refilled)

    def statements(self, table: TableSchema, columns: Sequence[str], backend: Backend) -> tuple[str, ...]:
        """The DDL with which the load begins."""
        if self.beside is None:
            return (empty_sql(table, backend, deletes=self.deletes),)
        making = backend.beside_sql(table, self.beside, columns if self.way == "move" else None)
        left = f"DROP TABLE IF EXISTS {backend.quote_table(self.beside)}"  # by a load whose ledger is gone
        return (*backend.replacing_lock_sql(table.name), *([left] if self.by_chunk else []), making)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What a plan says of it."""
        because = f", because {self.reason}" if self.reason else ""
        if self.way == "swap":
            how = f"filled as {self.beside}, which takes its place, name and duties in one short transaction"
            return [("replace", how), ("readers", self._swapped)]
        if self.way == "truncate":
            return [("readers", self.refilled)]
        if self.way == "anew":
            return [("replace", f"dropped and created anew{because}"), ("readers", self.refilled)]
        if self.way == "move":
            how = f"rows are filled into {self.beside} and moved in one transaction: the table stays the same{because}"
            return [("replace", how), ("readers", self._moved)]
        return [("replace", f"emptied and filled in one transaction{because}"), ("readers", self.refilled)]

    @property
    def _swapped(self) -> str:
        older = "those of the new rows that were committed before it began" if self.by_chunk else "it empty"
        return (
            "see the old rows until the swap, for which they wait some milliseconds, and then the new ones; the swap "
            f"waits for the end of transactions that have read the table; {_OLDER} finds {older}"
        )

    @property
    def _moved(self) -> str:
        if self.deletes:
            return "see the old rows until that is committed, then the new ones, and never wait"
        return (
            "see the old rows until the move, wait while it inserts the rows, and then see the new ones; "
            f"{_OLDER} {_TRUNCATED}"
        )


def beside_name(target: TableName, load: str, way: str) -> str:
    """The table beside `target` that a load fills which can be continued: the load by its name, or its source's."""
    return f"{NEW}{xxhash.xxh3_64_hexdigest('|'.join((target.spelled, load, way)).encode())}"


def empty_sql(table: TableSchema, backend: Backend, *, deletes: bool) -> str:
    """The statement that takes a table's rows away."""
    return backend.delete_rows_sql(table) if deletes else backend.empty_table_sql(table)


def replacement_of(table: TableSchema, options: Asked, backend: Backend) -> Replacement:
    """How the rows of a table that stays are replaced, but for the table beside."""
    known, why = table.replaceable, None
    way = "move" if known.stays else "swap"
    if known.beside_refused:
        why = known.beside_refused
    elif options.on_conflict != "error" or options.returning is not None:
        why = "rows are merged into it"
    elif options.on_invalid == "reject" and (way == "move" or known.is_constrained):
        why = "only there the database can tell which rows it refuses"
    if why is not None:
        return Replacement("refill", why, deletes=known.deletes, refilled=backend.refilled)
    return Replacement(way, known.stays, deletes=known.deletes)


def changes(  # noqa: PLR0917 - all that says what the table is to be
    offered: pa.Schema,
    found: TableSchema,
    types: Mapping[str, TypeEngine[Any]],
    options: Asked,
    backend: Backend,
    given: definitions.Definition | None,
) -> str | None:
    """Why the table does not stay as it is, None if it does.

    Parameters
    ----------
    given : Definition or None
        What the Table says that the caller passes.
    """
    columns = {found.key(one.name): one for one in found.columns}
    brought = {found.key(one.name) for one in offered}
    if given is not None and (why := _other_definition(given, found, backend)) is not None:
        return f"the Table that is passed says so: {why}"
    new = [one.name for one in offered if found.key(one.name) not in columns]
    filled = (key for key, one in columns.items() if one.has_default or one.generated or (given and one.nullable))
    gone = sorted(columns[key].name for key in columns.keys() - brought - set(filled))
    generated = [one.name for key, one in columns.items() if one.generated and key in brought]
    for names, what in ((new, "the table has no"), (gone, "the data has no"), (generated, "the database computes")):
        if names:
            return f"{what} {', '.join(map(repr, names))}"
    wanted = (_other_type(one, found, types, options, backend) for one in offered)
    return next((why for why in wanted if why), None) or _other_shape(found, columns, options)


def _other_definition(given: definitions.Definition, found: TableSchema, backend: Backend) -> str | None:
    """What a Table says of which the table that is there has something else, or nothing; it may have more."""
    made, table = given.schema_of(found.name, backend), given.table
    ours, theirs = ({found.key(one.name): one for one in one.columns} for one in (made, found))
    if other := sorted(ours.keys() ^ theirs.keys()):
        return f"only one of them has {', '.join(map(repr, other))}"
    for key, one in ours.items():
        if (why := _other_column(one, theirs[key])) is not None:
            return f"{one.name!r} {why}"
    if table.dialect_kwargs or bool(made.unwatched) is not bool(found.unwatched):
        return "it is of a special kind"
    return _other_keys(made, found) or _other_indexes(table, found) or _other_constraints(table, found)


def _other_column(ours: Column, theirs: Column) -> str | None:
    if ours.type.identity != theirs.type.identity:
        return f"is {theirs.type}, not {ours.type}"
    if ours.nullable is not theirs.nullable:
        return "takes NULL" if theirs.nullable else "takes no NULL"
    if (ours.generated, ours.always) != (theirs.generated, theirs.always):
        return "is computed or numbered in another way"
    return "has no default" if ours.has_default and not (theirs.has_default or theirs.generated) else None


def _other_keys(made: TableSchema, found: TableSchema) -> str | None:
    known = found.replaceable
    have = [sorted(map(found.key, one)) for one in known.uniques]
    for one in made.merge_target.keys:
        columns = [*map(found.key, one.columns)]
        if one.is_primary and columns != [*map(found.key, known.primary_key)]:
            return "its primary key is another one"
        if sorted(columns) not in have:
            return f"it has no unique key of {', '.join(one.columns)}"
    return None


def _other_indexes(table: sa.Table, found: TableSchema) -> str | None:
    """An index of expressions, or of some rows, is known by its name."""
    known = found.replaceable
    have, unique = ([tuple(map(found.key, one)) for one in some] for some in (known.indexes, known.uniques))
    for index in table.indexes:
        names = tuple(found.key(one.name) for one in index.expressions if isinstance(one, sa.Column))
        is_plain = len(names) == len(index.expressions) and not index.dialect_kwargs
        if is_plain:
            is_there = names in (unique if index.unique else have)
        else:
            is_there = index.name in found.losses.get("index", ())
        if not is_there:
            return f"it has no index {str(index.name)!r}"
    return None


def _other_constraints(table: sa.Table, found: TableSchema) -> str | None:
    """Foreign keys, checks and the like are counted: a database spells them in its own way."""
    kinds = {
        "foreign_key_constraint": "foreign key",
        "exclude_constraint": "exclusion",
        "table_or_column_check_constraint": "check",
    }
    asked_for = collections.Counter(kinds.get(one.__visit_name__) for one in table.constraints)
    for what in kinds.values():
        asked, have = asked_for[what], len(found.losses.get(what, ()))
        if asked > have:
            return f"it has {have or 'no'} {what}{'s' if asked > 1 else ''}, not {asked}"
    return None


def _other_type(
    field: pa.Field, found: TableSchema, types: Mapping[str, TypeEngine[Any]], options: Asked, backend: Backend
) -> str | None:
    """Why a column does not keep its type: another one is asked for, or it does not take the data.

    A table that has nothing to lose is made for the data.
    """
    asked, column = types.get(field.name), found.column(field.name)
    if asked is None and not found.losses:
        asked = definitions.created_type(field.name, field.type, backend)
    if asked is not None:
        wanted = backend.column_type(asked.compile(dialect=backend.dialect))
        return None if wanted.identity == column.type.identity else f"{field.name!r} is {column.type}, not {wanted}"
    try:
        column_plan(field, column.type, column.nullable, options.casts, options.assume_timezone)
    except PlanError as error:
        return error.what
    return None


def _other_shape(found: TableSchema, columns: Mapping[str, Column], options: Asked) -> str | None:
    """What primary_key=, not_null=, indexes= or key= asks for, and the table has not."""
    shape, known = definitions.Shape.of(options), found.replaceable
    have = [tuple(map(found.key, one)) for one in known.indexes]
    if options.primary_key and tuple(map(found.key, options.primary_key)) != tuple(map(found.key, known.primary_key)):
        return "its primary key is another one"
    unique = [sorted(map(found.key, one)) for one in known.uniques]
    if options.key and sorted(map(found.key, options.key)) not in unique:
        return "it has no unique index of the key"
    if any(tuple(map(found.key, one)) not in have for one in shape.indexes):
        return "it has not all the indexes that are asked for"
    return "it takes NULL" if any(columns[found.key(one)].nullable for one in shape.not_null) else None
