"""The table that a load creates or empties: its definition, how the catalog will describe it, and the DDL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import quoted_name
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement, DropTable

from dataloader.errors import PlanError
from dataloader.options import LoadOptions, did_you_mean
from dataloader.schema import Column, TableName, TableSchema, created_type
from dataloader.types import parse_type

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.engine import Dialect


def definition(
    schema: pa.Schema,
    given: sa.Table | None,
    name: TableName,
    options: LoadOptions,
    dialect: Dialect,
) -> sa.Table:
    """The table to create; every name is quoted, because no list of a database's keywords is complete."""
    if given is not None:
        return given
    chosen = _chosen_types(options, schema)
    columns = [
        sa.Column(quoted_name(one.name, True), chosen.get(one.name) or created_type(one.name, one.type, dialect))
        for one in schema
    ]
    return _table(name, *columns)


def _table(name: TableName, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(quoted_name(name.name, True), sa.MetaData(), *columns, schema=name.schema)


def _chosen_types(options: LoadOptions, schema: pa.Schema) -> dict[str, sa.types.TypeEngine[Any]]:
    """The types of dtype=, each an object: a class is called."""
    types: dict[str, sa.types.TypeEngine[Any]] = {}
    for name, given in (options.dtype or {}).items():
        if name not in schema.names:
            hint = did_you_mean(name, schema.names)
            raise PlanError(f"dtype= names {name!r}, which the source does not have", hint=hint)
        chosen = given() if isinstance(given, type) else given
        if not isinstance(chosen, sa.types.TypeEngine):
            hint = "Pass a SQLAlchemy type, like sqlalchemy.Numeric(12, 4)."
            raise PlanError(f"dtype[{name!r}] is {given!r}", hint=hint)
        types[name] = chosen
    return types


def schema_of(table: sa.Table, name: TableName, dialect: Dialect) -> TableSchema:
    """How the catalog will describe a table that SQLAlchemy creates."""
    columns = tuple(
        Column(
            column.name,
            parse_type(column.type.compile(dialect=dialect), dialect.name),
            nullable=bool(column.nullable),
            has_default=column.server_default is not None
            or column.identity is not None
            or column is table.autoincrement_column,
            generated=column.computed is not None,
        )
        for column in table.columns
    )
    return TableSchema(name, columns)


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
        raise PlanError(what, hint=f"Empty it yourself, by DELETE FROM {found.name}, and load with if_exists='append'.")
    if verb == "replaced" and found.parent:
        hint = f"Choose if_exists='truncate', which keeps it in its place, or load into {found.parent}."
        raise PlanError(f"{found.name} cannot be replaced: it is a part of {found.parent}", hint=hint)
    if not found.insertable:
        hint = _INSTEAD.get(found.kind, "Its foreign data wrapper only reads: load another table.")
        raise PlanError(f"rows cannot be inserted into {found.name}: it is a {found.kind}", hint=hint)


_SHAPE = frozenset(
    "primary key,not null of,default of,identity of,generated column,unique,foreign key,check,exclusion,index".split(
        ","
    )
)
"""What a SQLAlchemy Table says of its columns: the caller has decided that."""
_SHOWN_NAMES = 5


def notices(found: TableSchema, table: TableSchema, given: sa.Table | None) -> tuple[str, ...]:
    """What the table that was found has, and the one that replaces it has not."""
    gone = [column.name for column in found.columns if column.name not in [one.name for one in table.columns]]
    every = {**found.losses, "columns": gone}
    lost = [
        f"{what} {_some(names)}".strip()
        for what, names in every.items()
        if names and not (given is not None and what in _SHAPE)
    ]
    return (f"replacing {found.name} loses its {'; '.join(lost)}",) if lost else ()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"{', '.join(names[:_SHOWN_NAMES])}{more}"


def statements(
    definition: sa.Table | None, name: TableName, found: TableSchema | None, options: LoadOptions, dialect: Dialect
) -> tuple[str, ...]:
    if definition is not None:
        indexes = sorted(definition.indexes, key=lambda index: str(index.name))
        elements: list[DDLElement] = [CreateTable(definition), *map(CreateIndex, indexes)]
        if found is not None:
            elements.insert(0, DropTable(_table(name)))
        moved: Any = {"schema_translate_map": {definition.schema: name.schema}, "render_schema_translate": True}
        where = moved if definition.schema != name.schema else {}
        return tuple(str(element.compile(dialect=dialect, **where)).strip() for element in elements)
    if options.if_exists == "truncate":
        if dialect.name != "postgresql":
            return (f"DELETE FROM {_quoted(name, dialect)}",)
        parts = found is not None and found.kind == "partitioned table"  # else they would be tables that inherit
        return (f"TRUNCATE TABLE {'' if parts else 'ONLY '}{_quoted(name, dialect)}",)
    if found is not None and found.kind == "foreign table":  # of which LOCK TABLE is refused: EXPLAIN locks it as well
        return (f"EXPLAIN INSERT INTO {_quoted(name, dialect)} DEFAULT VALUES",)
    return locking(name, dialect)


def locking(name: TableName, dialect: Dialect) -> tuple[str, ...]:
    """What keeps others from altering a table until the transaction ends."""
    return (f"LOCK TABLE {_quoted(name, dialect)} IN ROW EXCLUSIVE MODE",) if dialect.name == "postgresql" else ()


def _quoted(name: TableName, dialect: Dialect) -> str:
    quote = dialect.identifier_preparer.quote_identifier
    return ".".join(quote(part) for part in (name.schema, name.name) if part is not None)
