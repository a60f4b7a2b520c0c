"""Of which types, and with which key, a table is made that is a copy of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.types import UserDefinedType

from dataloader.database.schema import parse_table_name
from dataloader.sources.selection import renaming

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

    from dataloader.conversion.column_types import ColumnType
    from dataloader.copying.survey import Destination, Original
    from dataloader.database.backends import Backend
    from dataloader.options import LoadOptions


class Spelled(UserDefinedType[Any]):
    """A type by the words of its own database."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def get_col_spec(self, **_: Any) -> str:
        return self.sql


def with_definition(options: LoadOptions, original: Original, destination: Destination) -> LoadOptions:
    """The options with the types, NOT NULL and primary key of the original, where the caller has not said otherwise."""
    if destination.found is not None and options.if_exists != "replace":
        return options
    names = _names(options, original)
    types = _types(original, destination.backend)
    given = {names[name]: kind for name, kind in types.items() if name in names}
    options = replace(options, dtype=given | dict(options.dtype or {}))
    if original.table is None:
        return options
    required = [names[one.name] for one in original.table.columns if not one.nullable and one.name in names]
    key = [names[name] for name in original.key if name in names]
    is_whole = bool(key) and len(key) == len(original.key) and not (options.primary_key or options.key)
    return replace(
        options,
        primary_key=tuple(key) if is_whole else options.primary_key,
        not_null=options.not_null or tuple(required) or None,
    )


def _names(options: LoadOptions, original: Original) -> dict[str, str]:
    """The columns that are copied, each with its name in the copy."""
    if options.columns is not None:
        return {str(name): target for name, target in renaming(options.columns).items()}
    return {name: name for name in (*column_types(original),)}


def column_types(original: Original) -> dict[str, ColumnType]:
    """The type of each column, as far as the catalog or the described query tell."""
    columns: Sequence[Any] = original.columns or ()
    if original.table is not None:
        columns = original.table.columns
    return {one.name: one.type for one in columns}


def _types(original: Original, target: Backend) -> Mapping[str, TypeEngine[Any]]:
    spelled = _same if original.backend.name == target.name else _other
    found = {name: spelled(kind, target) for name, kind in column_types(original).items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def _same(kind: ColumnType, target: Backend) -> TypeEngine[Any] | None:
    """In a database of the same kind: the same type. An enum is created where it is missing."""
    if kind.labels:
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - only there are enums

        name = parse_table_name(kind.sql)
        return postgresql.ENUM(*kind.labels, name=name.name, schema=name.schema)
    return (
        Spelled(kind.sql) if target.column_type(kind.sql).kind == kind.kind else None
    )  # what has no type cannot be spelled


def _other(kind: ColumnType, target: Backend) -> TypeEngine[Any] | None:
    """In another kind of database: what keeps more than the values alone tell."""
    made = kind.row.elsewhere
    if isinstance(made, sa.Numeric) and (target.exact_digits is not None or kind.precision is not None):
        return None  # as its digits ask for, or text
    return sa.String(kind.length) if isinstance(made, sa.String) else made
