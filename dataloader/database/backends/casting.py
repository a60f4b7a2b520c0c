"""Casting: values that travel as text are read by the server, as the column's type and by no other function."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from dataloader.conversion.column_types import ColumnType


class _Spelled(sa.types.UserDefinedType[Any]):
    """A type that is only named, in a cast that the server carries out."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def get_col_spec(self, **_options: Any) -> str:
        return self.sql


def unnest(arrays: list[sa.BindParameter[Any]]) -> sa.sql.functions.Function[Any]:
    """PostgreSQL's unnest of arrays side by side.

    With several arrays it is grammar, and means pg_catalog's own, but only where no schema is written.
    """
    return sa.func.unnest(*arrays) if len(arrays) > 1 else sa.func.pg_catalog.unnest(*arrays)


def cast_from_text(text: sa.ColumnElement[Any], target: ColumnType) -> sa.ColumnElement[Any]:
    """Have the server read a text as a type."""
    if target.row.read_by_locale:  # by way of numeric, or the server's locale would read it
        text = sa.cast(text, sa.Numeric())
    return sa.cast(text, _Spelled(unlimited(target)))


_UNLIMITED = {"character varying": "varchar", "character": "bpchar", "bit varying": "varbit", "bit": '"bit"'}


def unlimited(target: ColumnType) -> str:
    """The type without its length: a cast cuts what is too long in silence, storing it in the column does not."""
    if target.labels:
        return target.sql
    name = re.sub(r"\(.*?\)", "", target.sql)
    base = name.removesuffix("[]")
    return _UNLIMITED.get(base, base) + name[len(base) :]
