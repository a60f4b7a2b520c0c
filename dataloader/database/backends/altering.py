"""The seam of altering: a table that is there gets columns, and columns get types with more room."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName


class Altering:
    """What a backend alters in a table."""

    adds_where_missing: ClassVar[bool] = False
    """Whether a column can be added where another session has not added it meanwhile."""
    widening_obstacle: ClassVar[str | None] = "only PostgreSQL changes the types of columns here"
    """Why the type of a column cannot be changed, None if it can."""

    async def fixed_columns(self, connection: AsyncConnection, name: TableName) -> dict[str, str]:
        """The columns whose types cannot be changed, and why."""
        return {}
