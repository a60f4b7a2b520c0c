"""Alterations: what a table that is there gets, so that the rows find room in it. Decided before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dataloader.conversion.widening import is_rewriting
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.backends import Backend
    from dataloader.database.schema import TableName, TableSchema

_ALTERED = {"table", "partitioned table", "foreign table"}


@dataclass(frozen=True, slots=True)
class Alteration:
    """What is altered in a table.

    Attributes
    ----------
    before : TableSchema
        The table as it was found.
    widened : mapping of str to ColumnType
        The types that columns get.
    adds : bool
        Whether it gets columns.
    """

    before: TableSchema
    widened: Mapping[str, ColumnType]
    adds: bool = False

    @property
    def after(self) -> TableSchema:
        """The table with the columns that are there, in their new types."""
        columns = (replace(one, type=self.widened.get(one.name, one.type)) for one in self.before.columns)
        return replace(self.before, columns=tuple(columns))

    def statements(self, backend: Backend) -> tuple[str, ...]:
        """The statements that change types; the first one locks the table."""
        table = backend.quote_table(self.before.name)
        return (f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", widening_sql(self.before.name, self.widened, backend))

    def waiting(self, until: str) -> str:
        """Who has to wait for it."""
        types = {name: (self.before.column(name).type, kind) for name, kind in self.widened.items()}
        rewriting = [name for name, (before, after) in types.items() if is_rewriting(before, after)]
        begins = " and ".join(
            [*(["gets columns"] if self.adds else []), *(["gives columns other types"] if self.widened else [])]
        )
        waiting = f"others wait for {self.before.name} from when it {begins} until {until} is committed"
        if rewriting:
            return f"{waiting}; all its rows and indexes are written anew for {', '.join(rewriting)}"
        return f"{waiting}; no row is written anew" if self.widened else waiting


def widening_sql(table: TableName, widened: Mapping[str, ColumnType], backend: Backend) -> str:
    """The statement that gives columns other types; one for all, so that rows are written anew once."""
    changes = ", ".join(f"ALTER COLUMN {backend.quote(name)} TYPE {kind}" for name, kind in widened.items())
    return f"ALTER TABLE {backend.quote_table(table)} {changes}"


def plan_widening(found: TableSchema, needed: Mapping[str, ColumnType], backend: Backend) -> Alteration:
    """Decide which types columns get.

    Raises
    ------
    PlanError
        When the type of a column cannot be changed: naming what is in the way.
    """
    for name, kind in needed.items():
        column = found.column(name)
        obstacle = backend.widening_obstacle or found.fixed.get(name)
        if found.kind not in _ALTERED:
            obstacle = f"{found.name} is a {found.kind}"
        if obstacle is not None:
            what = f"column {name!r} of {found.name} is {column.type}, the data need {kind}"
            hint = "Change the table yourself, correct the source, or keep what does not fit with on_invalid='reject'."
            raise PlanError(f"{what}, and its type cannot be changed: {obstacle}", hint=hint)
    return Alteration(found, dict(needed))
