"""SQLAlchemy's definitions: the table that a load creates, by a Table, by dtype= or by the source's own types.

What SQLAlchemy's INSERT would do in Python, a load does not: it is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import quoted_name
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateSequence, CreateTable, DDLElement

from dataloader.conversion.column_types import ColumnType, family, plain
from dataloader.conversion.mixed import MixedType
from dataloader.conversion.types import FAMILIES
from dataloader.database.schema import Column, MergeTarget, TableName, TableSchema, UniqueKey
from dataloader.errors import PlanError, SchemaMismatch, UnsupportedType
from dataloader.formatting import did_you_mean, one_line

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

    from dataloader.database.backends import Backend

_BINDING = ("process_bind_param", "bind_processor", "bind_expression")
"""The methods by which a type changes a value on its way into an INSERT."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A table to create.

    Attributes
    ----------
    schemas : mapping
        What the schemas in the definition mean in the database.
    """

    table: sa.Table
    schemas: Mapping[str | None, str | None]

    def schema_of(self, name: TableName, backend: Backend) -> TableSchema:
        """How the catalog will describe it."""
        columns = tuple(self._column(column, backend) for column in self.table.columns)
        is_logged = "UNLOGGED" not in self._compiled(CreateTable(self.table), backend).partition("TABLE")[0]
        unwatched = None if is_logged else f"{name.name} is UNLOGGED"
        target = MergeTarget(tuple(self._keys()), backend.merge_obstacle)
        return TableSchema(name, columns, unwatched=unwatched, folds=backend.folds_case, merge_target=target)

    def _keys(self) -> Iterator[UniqueKey]:
        """The unique keys that it will have, the primary key first."""
        constraints = sorted(self.table.constraints, key=lambda one: not isinstance(one, sa.PrimaryKeyConstraint))
        for one in constraints:
            if isinstance(one, (sa.PrimaryKeyConstraint, sa.UniqueConstraint)) and one.columns:
                refused = "it is deferrable" if one.deferrable else None
                primary = isinstance(one, sa.PrimaryKeyConstraint)
                yield UniqueKey(tuple(one.columns.keys()), primary, str(one.name or "a constraint"), refused)

    def _column(self, column: sa.Column[Any], backend: Backend) -> Column:
        counts = column is column.table.autoincrement_column and _sequence(column, backend) is None
        domains = [one for one in _named(column.type, backend) if _is_domain(one)]
        kind = _column_type(column.name, column.type, self.schemas, backend)
        is_number = column.primary_key and len(column.table.primary_key) == 1 and kind.sql.upper() == backend.row_number
        counted = counts and (is_number or backend.row_number is None)  # SQLite numbers nothing else
        return Column(
            column.name,
            kind,
            nullable=is_number or (bool(column.nullable) and not any(one.not_null for one in domains)),
            has_default=is_number or column.server_default is not None or column.identity is not None or counted,
            generated=column.computed is not None,
            counted=backend.dialect.supports_sequences and (column.identity is not None or counted),
            always=backend.dialect.supports_sequences
            and column.identity is not None
            and column.identity.always is True,
        )

    def creating(self, backend: Backend) -> list[str]:
        """The statements that make it, and what it needs: types and sequences, where they are missing."""
        indexes = sorted(self.table.indexes, key=lambda index: str(index.name))
        sequences = [sequence for column in self.table.columns if (sequence := _sequence(column, backend)) is not None]
        elements: list[DDLElement] = [CreateSequence(sequence, if_not_exists=True) for sequence in sequences]
        elements += [CreateTable(self.table), *map(CreateIndex, indexes)]
        return [*self._types(backend), *(self._compiled(element, backend) for element in elements)]

    def adding(self, backend: Backend) -> list[str]:
        """The statements that give its columns to a table of its name that is there, and what they need."""
        is_new = "IF NOT EXISTS " if backend.adds_where_missing else ""
        head = f"ALTER TABLE {backend.quote_table(TableName(self.schemas[None], self.table.name))} ADD COLUMN {is_new}"
        return [
            *self._types(backend),
            *(f"{head}{self._compiled(CreateColumn(column), backend)}" for column in self.table.columns),
        ]

    def _types(self, backend: Backend) -> list[str]:
        statements: dict[str, str] = {}
        for column in self.table.columns:
            for one in _named(column.type, backend):
                if one.create_type:
                    spelled = _spelled(one, self.schemas, backend)
                    statements[spelled] = _where_missing(spelled, self._compiled(_creating(one), backend))
        return list(statements.values())

    def _compiled(self, element: sa.ClauseElement, backend: Backend) -> str:
        moved = {old: new for old, new in self.schemas.items() if new not in {old, None}}
        translated: dict[str, Any] = {"schema_translate_map": moved, "render_schema_translate": True} if moved else {}
        return str(element.compile(dialect=backend.dialect, **translated)).strip()


def _creating(named: Any) -> DDLElement:
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 0.03 s, only where there are named types

    return (postgresql.CreateDomainType if _is_domain(named) else postgresql.CreateEnumType)(named)


def _where_missing(spelled: str, statement: str) -> str:
    """PostgreSQL has no IF NOT EXISTS for types; another session may make it at the same moment."""
    name = spelled.replace("'", "''")
    return (
        f"DO $create$ BEGIN IF pg_catalog.to_regtype('{name}') IS NULL THEN {statement}; END IF; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $create$"
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a table that is created gets beside its columns.

    Attributes
    ----------
    primary_key, not_null : sequence of str
        The columns of its primary key, and those that take no NULL.
    indexes : sequence of sequence of str
        The columns of each of its indexes.
    """

    primary_key: Sequence[str] = ()
    not_null: Sequence[str] = ()
    indexes: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, options: AskedShape) -> Shape:
        """What the caller's options say; a table into which rows are merged gets their key."""
        named = {"primary_key": options.primary_key or options.key or (), "not_null": options.not_null or ()}
        return cls(**named, indexes=options.indexes or ())

    def check(self, names: Sequence[str]) -> None:
        """Refuse columns that the source does not have."""
        asked = {"primary_key": self.primary_key, "not_null": self.not_null, "indexes": chain(*self.indexes)}
        for option, columns in asked.items():
            for one in columns:
                if one not in names:
                    hint = did_you_mean(one, names)
                    raise PlanError(f"{option} names {one!r}, which the source does not have", hint=hint)


class AskedShape(Protocol):
    """The options that say it."""

    @property
    def key(self) -> Sequence[str] | None: ...
    @property
    def primary_key(self) -> Sequence[str] | None: ...
    @property
    def not_null(self) -> Sequence[str] | None: ...
    @property
    def indexes(self) -> Sequence[Sequence[str]] | None: ...


def definition(
    schema: pa.Schema,
    given: Definition | None,
    name: TableName,
    types: Mapping[str, TypeEngine[Any]],
    backend: Backend,
    *,
    shape: Shape,
) -> Definition:
    """The table to create; every name is quoted, because no list of a database's keywords is complete."""
    if given is not None:
        return Definition(given.table, {**given.schemas, given.table.schema: name.schema})
    shape.check(schema.names)
    columns = {
        one.name: sa.Column(
            quoted_name(one.name, True),
            types.get(one.name) or created_type(one.name, one.type, backend),
            nullable=one.name not in {*shape.not_null, *shape.primary_key},
        )
        for one in schema
    }
    key = [sa.PrimaryKeyConstraint(*(columns[one] for one in shape.primary_key))] if shape.primary_key else []
    table = bare_table(name, *columns.values(), *key)
    for column in table.primary_key.columns:
        column.autoincrement = False  # it brings its values
    for names in shape.indexes:
        sa.Index(quoted_name(_index_name(name, names, backend), True), *(columns[one] for one in names))
    return Definition(table, {None: name.schema})


def _index_name(table: TableName, columns: Sequence[str], backend: Backend) -> str:
    """As PostgreSQL would call it, cut to what the database takes."""
    name = f"{table.name}_{'_'.join(columns)}"
    return f"{name.encode()[: (backend.name_bytes or len(name.encode()) + 4) - 4].decode(errors='ignore')}_idx"


def additions(
    schema: pa.Schema, found: TableSchema, types: Mapping[str, TypeEngine[Any]], backend: Backend
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """The columns that a table lacks, as the catalog will describe them, and the statements that add them."""
    known = {found.key(column.name) for column in found.columns}
    new = pa.schema([one for one in schema if found.key(one.name) not in known])
    if not len(new):
        return (), ()
    adding = definition(new, None, found.name, types, backend, shape=Shape())
    return adding.schema_of(found.name, backend).columns, tuple(adding.adding(backend))


def created_type(name: str, source: pa.DataType, backend: Backend) -> TypeEngine[Any]:
    """The SQLAlchemy type of a column that is created for `source`.

    Raises
    ------
    UnsupportedType
        When the database has no type that keeps the values.
    """
    source = source.whole if isinstance(source, MixedType) else source
    if isinstance(source, pa.JsonType):
        return backend.json_type
    source = plain(source)
    kind = family(source)
    if kind == "int":
        return _created_integer(source, backend)
    if kind == "float":
        return sa.Double() if source.equals(pa.float64()) else sa.REAL()
    if kind == "decimal":
        return _created_decimal(source, backend)
    if kind is None or kind in backend.untyped:
        seconds = "a number of seconds or to " if kind == "duration" else ""
        hint = f"Convert the column first, for example to {seconds}text."
        raise UnsupportedType(f"column {name!r}: {backend.name} has no type for Arrow's {source}", hint=hint)
    return FAMILIES[kind].created or backend.json_type


def _created_integer(source: pa.DataType, backend: Backend) -> TypeEngine[Any]:
    if source.equals(pa.uint64()):
        return backend.unsigned_type
    bits = source.bit_width + (1 if pa.types.is_unsigned_integer(source) else 0)
    return sa.SmallInteger() if bits <= 16 else sa.Integer() if bits <= 32 else sa.BigInteger()


def _created_decimal(source: pa.DataType, backend: Backend) -> TypeEngine[Any]:
    precision = max(source.precision - min(source.scale, 0), source.scale)
    if backend.exact_digits is not None and precision > backend.exact_digits:
        return sa.Text()
    return sa.Numeric(precision, max(source.scale, 0))


def bare_table(name: TableName, *columns: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(quoted_name(name.name, True), sa.MetaData(), *columns, schema=name.schema)


def given_types(
    schema: pa.Schema, given: sa.Table | None, dtype: Mapping[str, Any] | None, backend: Backend
) -> dict[str, TypeEngine[Any]]:
    """The types that the caller's Table or dtype= gives to the source's columns.

    Raises
    ------
    PlanError
        When dtype= names a column that the source lacks, or gives it something else.
    UnsupportedType
        When a type changes values in Python.
    SchemaMismatch
        When a column that the source lacks has a default that only SQLAlchemy's INSERT computes.
    """
    if given is not None:
        _check_case(given, backend)
        _check_defaults(given, schema.names, backend)
        types = {column.name: column.type for column in given.columns if column.name in schema.names}
    else:
        types = {name: _type_object(name, one, schema) for name, one in (dtype or {}).items()}
    for name, one in types.items():
        changing = _changes_values(one, backend)
        if changing is not None:
            what = f"column {name!r}: the type {changing} changes values in Python, and a load sends them past it"
            hint = "Convert the values in the source, and pass the table by its name, or another type."
            raise UnsupportedType(what, hint=hint)
    return types


def _type_object(name: str, given: Any, schema: pa.Schema) -> TypeEngine[Any]:
    """A class is called."""
    if name not in schema.names:
        hint = did_you_mean(name, schema.names)
        raise PlanError(f"dtype= names {name!r}, which the source does not have", hint=hint)
    chosen = given() if isinstance(given, type) else given
    if not isinstance(chosen, sa.types.TypeEngine):
        hint = "Pass a SQLAlchemy type, like sqlalchemy.Numeric(12, 4)."
        raise PlanError(f"dtype[{name!r}] is {given!r}", hint=hint)
    return chosen


def _check_case(given: sa.Table, backend: Backend) -> None:
    names = [given.name, given.schema or "", *(column.name for column in given.columns)]
    for name in names:
        if backend.folds_unquoted and getattr(name, "quote", None) is False and name != name.lower():
            hint = "Leave quote= out, or write the name in lower case."
            raise PlanError(f"the name {str(name)!r} has quote=False: {backend.title} would fold its case", hint=hint)


def _check_defaults(given: sa.Table, offered: list[str], backend: Backend) -> None:
    for column in given.columns:
        is_rowid = column is given.autoincrement_column and not backend.dialect.supports_sequences
        if column.default is None or column.server_default is not None or column.name in offered or is_rowid:
            continue
        what = f"the source has no column {column.name!r}, and its default= is computed by SQLAlchemy's INSERT only"
        raise SchemaMismatch(what, hint="Add the column to the source, or give it a server_default.")


def _changes_values(kind: TypeEngine[Any], backend: Backend) -> str | None:
    """The name of the type, or of its elements' or its variant's, that changes values in Python."""
    if isinstance(kind, sa.ARRAY):
        return _changes_values(kind.item_type, backend)
    for one in _implementations(kind, backend):
        for method in _BINDING:
            owner = next((base for base in type(one).__mro__ if method in vars(base)), object)
            if isinstance(one, sa.PickleType) or not owner.__module__.startswith(("sqlalchemy.", "builtins")):
                return type(one).__name__
    return None


def _implementations(kind: TypeEngine[Any], backend: Backend) -> Iterator[TypeEngine[Any]]:
    """The type as the dialect has it, and what it decorates."""
    one = kind.dialect_impl(backend.dialect)
    yield one
    while isinstance(one, sa.types.TypeDecorator):
        one = one.impl_instance
        yield one


def _named(kind: TypeEngine[Any], backend: Backend) -> Iterator[Any]:
    """The enum or domain that a column is of, after those that it is made of."""
    if isinstance(kind, sa.ARRAY):
        yield from _named(kind.item_type, backend)
    named: Any
    *_, named = _implementations(kind, backend)
    if _is_domain(named):
        yield from _named(named.data_type, backend)
    if backend.has_named_types and (_is_domain(named) or getattr(named, "native_enum", False)):
        yield named


def _is_domain(kind: Any) -> bool:
    # Not by its class: PostgreSQL's dialect takes 0.03 s to import, in a first load into SQLite as well.
    return bool(kind.__visit_name__ == "DOMAIN")


def _sequence(column: sa.Column[Any], backend: Backend) -> sa.Sequence | None:
    return column.default if isinstance(column.default, sa.Sequence) and backend.dialect.supports_sequences else None


def _spelled(named: Any, schemas: Mapping[str | None, str | None], backend: Backend) -> str:
    quote = backend.quote
    parts = (schemas.get(named.schema, named.schema), named.name)
    return ".".join(quote(part) for part in parts if part is not None)


def _column_type(
    name: str, kind: TypeEngine[Any], schemas: Mapping[str | None, str | None], backend: Backend
) -> ColumnType:
    try:
        spelled = kind.compile(dialect=backend.dialect)
    except sa.exc.CompileError as error:
        hint = (
            "Name it: sqlalchemy.Enum(..., name='status')." if "requires a name" in str(error) else "Pass another type."
        )
        raise UnsupportedType(f"column {name!r}: {one_line(error)}", hint=hint) from error
    *_, named = [None, *_named(kind, backend)]
    if isinstance(kind, sa.ARRAY) or named is None:
        return backend.column_type(spelled)
    if _is_domain(named):
        return _column_type(name, named.data_type, schemas, backend)
    return backend.column_type(_spelled(named, schemas, backend), tuple(named.enums))


def differences(
    found: TableSchema,
    types: Mapping[str, TypeEngine[Any]],
    schemas: Mapping[str | None, str | None],
    backend: Backend,
) -> tuple[str, ...]:
    """What is to be known of a table that is there, and what the caller's types say otherwise than it."""
    columns = {column.name: column.type for column in found.columns}
    asked = {name: _column_type(name, one, schemas, backend) for name, one in types.items() if name in columns}
    return found.warnings + tuple(
        f"column {name!r} is {columns[name]}, not {one}: {found.name} is there already, and stays as it is"
        for name, one in asked.items()
        if one.identity != columns[name].identity
    )


def several_kinds(offered: pa.Schema, table: TableSchema) -> tuple[str, ...]:
    """What is to be known of columns that are made for values of several kinds."""
    mixed = [field for field in offered if isinstance(field.type, MixedType)]
    types = {one.name: one.type for one in table.columns}
    what = "it has values of several kinds"
    return tuple(f"column {one.name!r} is made {types[one.name]}: {what}, {one.type}" for one in mixed)
