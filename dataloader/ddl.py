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
    quote = dialect.identifier_preparer.quote_identifier
    quoted = ".".join(quote(part) for part in (name.schema, name.name) if part is not None)
    if options.if_exists == "truncate":
        return (f"TRUNCATE TABLE {quoted}" if dialect.name == "postgresql" else f"DELETE FROM {quoted}",)
    return (f"LOCK TABLE {quoted} IN ROW EXCLUSIVE MODE",) if dialect.name == "postgresql" else ()
