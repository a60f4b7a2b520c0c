"""The DDL with which a load begins: the table is created, replaced, emptied or locked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.schema import DropTable

from dataloader.database.definitions import Definition, bare_table
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from dataloader.database.backends import Backend
    from dataloader.database.schema import TableName, TableSchema


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


def warnings(found: TableSchema | None, table: TableSchema, *, is_defined: bool) -> tuple[str, ...]:
    """What the table that was found has, and the one that replaces it has not."""
    if found is None:
        return ()
    gone = [column.name for column in found.columns if column.name not in [one.name for one in table.columns]]
    every = {**found.losses, "columns": gone}
    lost = [
        f"{what} {_some(names)}".strip()
        for what, names in every.items()
        if names and not (is_defined and what in _SHAPE)
    ]
    return (f"replacing {found.name} loses its {'; '.join(lost)}",) if lost else ()


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
