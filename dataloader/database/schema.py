"""Tables and columns as a catalog describes them, and the names by which people call them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from dataloader.conversion.column_types import ColumnType
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


SQLITE_SCHEMA = "main"
"""SQLite's name for the file itself, as against temporary tables and attached files."""
_PLAIN = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table as its catalog describes it.

    Attributes
    ----------
    generated : bool
        Whether the database computes it, and takes no other value.
    binary : bool
        Whether PostgreSQL reads its type's binary form; a binary COPY asks that of every column, loaded or not.
    counted : bool
        Whether a sequence numbers its rows, and does not know of numbers that rows bring.
    always : bool
        Whether the database takes such numbers only where that is asked for: GENERATED ALWAYS AS IDENTITY.
    """

    name: str
    type: ColumnType
    nullable: bool = True
    has_default: bool = False
    generated: bool = False
    binary: bool = True
    counted: bool = False
    always: bool = False

    @property
    def required(self) -> bool:
        """Whether every row must bring a value."""
        return not (self.nullable or self.has_default or self.generated)


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's schema, None for the default one, and name."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema not in {None, SQLITE_SCHEMA} else self.name

    @property
    def spelled(self) -> str:
        """As `parse_table_name` reads it, whatever it contains."""
        parts = [part for part in (self.schema, self.name) if part is not None and part != SQLITE_SCHEMA]
        return ".".join(part if _PLAIN.fullmatch(part) else _quoted(part) for part in parts)


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """Columns of which no two rows of a table have the same values.

    Attributes
    ----------
    columns : tuple of str
        Their names; an expression's are not among them.
    is_primary : bool
        Whether it is the primary key.
    name : str
        The name of its index or constraint.
    refused : str or None
        Why ON CONFLICT cannot be about it.
    operators : tuple of str
        The operator that finds values of each column equal; none: ``=``.
    collations : tuple of str
        What follows each column where it is not compared by its own collation; none: nothing.
    equates_nulls : bool
        Whether NULL equals NULL.
    equates_texts : bool
        Whether a collation of its finds texts equal that differ.
    """

    columns: tuple[str, ...]
    is_primary: bool
    name: str
    refused: str | None = None
    operators: tuple[str, ...] = ()
    collations: tuple[str, ...] = ()
    equates_nulls: bool = False
    equates_texts: bool = False


@dataclass(frozen=True, slots=True)
class MergeTarget:
    """What is to be known of a table before rows are merged into it.

    Attributes
    ----------
    keys : tuple of UniqueKey
        Its unique keys, the primary key first.
    refused : str or None
        Why rows cannot be merged into it.
    has_triggers : bool
        Whether a trigger may change a row, or drop it, before it is stored or deleted.
    inserts_refused : str or None
        Why rows whose key is new cannot be told from those that are there.
    deletes_refused : str or None
        Why rows cannot be deleted from it.
    """

    keys: tuple[UniqueKey, ...] = ()
    refused: str | None = None
    has_triggers: bool = False
    inserts_refused: str | None = None
    deletes_refused: str | None = None


@dataclass(frozen=True, slots=True)
class Replaceable:
    """What is to be known of a table before its rows are replaced.

    Attributes
    ----------
    keeps : bool
        Whether the database can have the table stay, with its duties.
    stays : str or None
        Why it must stay the very same table: what depends on it.
    beside_refused : str or None
        Why no rows can be filled beside it.
    is_constrained : bool
        Whether an index may refuse rows, which is made when they are filled beside, or a check.
    published : str or None
        Why rows that are filled beside cannot be committed before it.
    deletes : bool
        Whether its rows can only be deleted, for want of the right to TRUNCATE.
    primary_key, indexes, uniques : tuple
        The columns of its primary key, and of each index, and of each one that is unique.
    load : str or None
        What the load is known by that is continued, and has left rows beside the table.
    """

    keeps: bool = False
    stays: str | None = None
    beside_refused: str | None = None
    is_constrained: bool = False
    published: str | None = None
    deletes: bool = False
    primary_key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    load: str | None = None


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table: its qualified name and its columns.

    Attributes
    ----------
    kind : str
        ``table``, ``partitioned table``, ``view``, ``materialized view`` or ``foreign table``.
    insertable : bool
        Whether it takes rows at all.
    copy_refused : str or None
        Why COPY cannot write to it, though INSERT can.
    unwatched : str or None
        Where its rows, or some, are stored so that the ledger would not notice their loss: in an UNLOGGED table,
        which a crash of the server empties, on another server, behind a view or a rule.
    parent : str or None
        The table of which it is a partition, or from which it inherits.
    referrers : str or None
        The other tables whose foreign keys refer to it.
    heirs : str or None
        The tables that inherit from it.
    folds : bool
        Whether names that differ by case only are one, as on SQLite.
    warnings : tuple of str
        What who loads into it should know.
    losses : mapping of str to list of str
        What it has that it would lose by being replaced, where that was asked.
    merge_target : MergeTarget
        What is to be known of it before rows are merged into it, where that was asked.
    replaceable : Replaceable
        What is to be known of it before its rows are replaced, where that was asked.
    made : frozenset of str
        The columns that the load which is continued has made, by the types of what it read first.
    fixed : mapping of str to str
        The columns whose types cannot be changed, and why, where that was asked.
    """

    name: TableName
    columns: tuple[Column, ...]
    kind: str = "table"
    insertable: bool = True
    copy_refused: str | None = None
    unwatched: str | None = None
    parent: str | None = None
    referrers: str | None = None
    heirs: str | None = None
    folds: bool = False
    warnings: tuple[str, ...] = field(default=(), compare=False)
    losses: Mapping[str, list[str]] = field(default_factory=dict, compare=False)
    merge_target: MergeTarget = field(default=MergeTarget(), compare=False)
    replaceable: Replaceable = field(default=Replaceable(), compare=False)
    fixed: Mapping[str, str] = field(default_factory=dict, compare=False)
    made: frozenset[str] = field(default=frozenset(), compare=False)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if self.key(column.name) == self.key(name))

    def key(self, name: str) -> str:
        """What two names have in common that are one to the database."""
        return folded(name) if self.folds else name


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to a row of another table.

    Attributes
    ----------
    readable : bool
        Whether this role may ask for the rows of the parent.
    """

    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Merge:
    """How rows are merged into a table, by way of a temporary one.

    Attributes
    ----------
    columns : tuple of str
        Those that the rows bring.
    key : tuple of str
        Those of the key, by which a row is found.
    updated : tuple of str
        Those that a row which is there takes over; none: it stays as it is.
    action : str
        ``insert``: rows that are there are updated or stay, the others are inserted. ``update``: the others are left
        out. ``delete``: rows that are there are deleted.
    looks_first : bool
        Whether the rows that change nothing are left out before the INSERT: it fires the triggers of all that it is
        given, and PostgreSQL does not tell of a partitioned table which rows were there.
    by : UniqueKey
        The table's key, which has the columns of `key`.
    is_loose : bool
        Whether only the database knows which rows have one key: it finds values equal that are written differently.
    returning : tuple of str
        The columns whose values are wanted of each row that was given, in the order of the rows.
    overriding : bool
        Whether the rows bring numbers that the database would give.
    """

    table: TableName
    columns: tuple[str, ...]
    key: tuple[str, ...]
    updated: tuple[str, ...]
    action: str = "insert"
    looks_first: bool = False
    by: UniqueKey = UniqueKey((), False, "")
    is_loose: bool = False
    returning: tuple[str, ...] = ()
    overriding: bool = False


class Merged(NamedTuple):
    """What a merge has done.

    Attributes
    ----------
    inserted, updated, deleted : int
        Rows of the table.
    left : int
        Rows that it found there, and left as they were.
    missing : int
        Rows that it did not find there, where it inserts none.
    """

    inserted: int = 0
    updated: int = 0
    left: int = 0
    deleted: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True)
class TableRights:
    """Whose a table is, and what this role may do with it; the name None stands for a schema without such a table.

    Attributes
    ----------
    may_create : bool
        Whether the role may create tables in the schema.
    usable : bool
        Whether it may read, insert and update.
    is_ours : bool
        Whether it belongs to the role, to the target's owner or to a superuser.
    foreign_owners : sequence of str
        The others whose triggers it has.
    columns : sequence of str
        The names of its columns.
    """

    schema: str
    name: str | None
    role: str = ""
    owner: str | None = None
    is_table: bool = True
    is_unlogged: bool = False
    may_create: bool = True
    may_read: bool = True
    usable: bool = True
    is_ours: bool = True
    has_policies: bool = False
    has_rules: bool = False
    foreign_owners: Sequence[str] = ()
    columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes a table the very one that a load began with.

    Attributes
    ----------
    table : str
        PostgreSQL's oid; SQLite's root page.
    files : str
        ``oid:file`` for the table and each of its parts; a TRUNCATE gives it a new file.
    persistence : str
        ``p`` permanent, ``u`` where it or a part is unlogged, ``x`` where one is foreign.
    columns : str
        The loaded columns with their types.
    beside : str
        The table's name, where it is filled to take another one's place.
    """

    table: str
    files: str
    persistence: str
    columns: str
    beside: str = ""

    def changes(self, now: Fingerprint) -> str | None:
        """What happened to the table since, None if it is the same; new partitions are welcome."""
        if now.table != self.table:
            return "was dropped and created again"
        if now.persistence != self.persistence:
            return _PERSISTENCE[now.persistence]
        if now.columns != self.columns:
            return f"has other columns: {now.columns} instead of {self.columns}"
        if not set(self.files.split()) <= set(now.files.split()):
            return "was truncated, or written anew as a whole (VACUUM FULL, CLUSTER)"
        return None


_PERSISTENCE = {
    "p": "was made logged",
    "u": "was made unlogged, or got a part that is",
    "x": "got a part that is a foreign table",
}


def folded(name: str) -> str:
    """A name as SQLite compares it: without the case of A to Z."""
    return re.sub("[A-Z]+", lambda found: found[0].lower(), name)


_NAME = re.compile(r'^(?:(?P<q1>"(?:[^"]|"")+")|(?P<n1>[^".]*))(?:\.(?:(?P<q2>"(?:[^"]|"")+")|(?P<n2>[^".]*)))?$')

_URL = re.compile(r"\w+(\+\w+)?://")


def _quoted(part: str) -> str:
    doubled = part.replace('"', '""')
    return f'"{doubled}"'


def parse_table_name(table: object) -> TableName:
    """Split ``"orders"``, ``"sales.orders"`` or ``'sales."odd.name"'`` into schema and name.

    Raises
    ------
    PlanError
        When the text is empty, has more than one dot outside double quotes, or is a URL, which is not shown.
    """
    if not isinstance(table, str):
        hint = "Pass its name, like 'orders' or 'sales.orders', or a sqlalchemy.Table."
        if hasattr(table, "__table__") and isinstance(table, type):
            hint = f"Pass its table: {table.__name__}.__table__."
        raise PlanError(f"table must be a name or a SQLAlchemy Table, got {type(table).__name__}", hint=hint)
    if _URL.match(table):
        hint = "Pass the URL as engine=, on the command line as --to, and the table's name as the table."
        raise PlanError("the table's name is a URL", hint=hint)
    match = _NAME.match(table)
    if match is None:
        hint = 'Write "schema.table", and put a name that contains a dot or a quote in double quotes.'
        raise PlanError(f"the table name {table!r} cannot be read", hint=hint)
    parts = [_unquoted(match[quoted], match[bare]) for quoted, bare in (("q1", "n1"), ("q2", "n2"))]
    first, second = parts
    if not first or second == "":
        raise PlanError(f"the table name {table!r} is empty", hint="Pass a name, like 'orders'.")
    return TableName(None, first) if second is None else TableName(first, second)


def _unquoted(quoted: str | None, bare: str | None) -> str | None:
    return bare if quoted is None else quoted[1:-1].replace('""', '"')


def rows_of(table: TableName, columns: Sequence[str]) -> sa.TableClause:
    """A table in a query of ours, with some of its columns; every name is quoted."""
    schema = None if table.schema in {None, SQLITE_SCHEMA} else sa.quoted_name(table.schema, True)
    quoted: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, True)) for name in columns]
    return sa.table(sa.quoted_name(table.name, True), *quoted, schema=schema)


def grouped(rows: Iterable[Any]) -> dict[str, list[str]]:
    """Names by what they are, both in order."""
    found = sorted((row.what, row.name) for row in rows)
    return {what: [name for _, name in group] for what, group in itertools.groupby(found, key=lambda row: row[0])}
