"""The seam of replacing: how the rows of a table give way to others while the table stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dataloader.database.schema import Replaceable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.schema import TableName, TableSchema

NEW, OLD = "dataloader_new_", "dataloader_old_"
"""What the names of tables begin with that are filled beside others, and of those whose place they take."""


class Replacing:
    """Unless a backend says otherwise, a table is dropped and created anew."""

    refilled: ClassVar[str] = ""
    """What readers see of a table that is emptied and filled in one transaction."""

    async def replaceable(self, connection: AsyncConnection, table: TableSchema) -> Replaceable:
        """What is to be known of a table before its rows are replaced."""
        return Replaceable()

    def replacing_lock_sql(self, name: TableName) -> tuple[str, ...]:
        """What keeps others from replacing or altering a table until the transaction ends, and nobody from its rows.

        Two that both read its definition would wait for each other when the first one wants the table alone.
        """
        return ()

    def beside_sql(self, table: TableSchema, beside: TableName, columns: Sequence[str] | None) -> str:
        """The statement that makes a table beside another one.

        Parameters
        ----------
        columns : sequence of str or None
            Those of a table from which rows are moved; None: the new table takes the old one's place.
        """
        raise NotImplementedError

    async def hide(self, connection: AsyncConnection, name: TableName, beside: TableName) -> None:
        """Leave nobody else a right to a new table."""
        raise NotImplementedError

    async def dress(self, connection: AsyncConnection, name: TableName, beside: TableName) -> None:
        """Give an empty table what decides how its rows are stored and numbered."""
        raise NotImplementedError

    async def altered(self, connection: AsyncConnection, name: TableName, beside: TableName) -> list[str]:
        """In which columns, defaults and checks a table differs from the one that was made like it."""
        raise NotImplementedError

    async def complete(
        self, connection: AsyncConnection, name: TableName, beside: TableName, renamed: dict[str, str]
    ) -> None:
        """Give a filled table the indexes and statistics of another one.

        Parameters
        ----------
        renamed : dict of str to str
            Takes in the indexes' names by those that they are given for the time being.
        """
        raise NotImplementedError

    async def lock_alone(self, connection: AsyncConnection, name: TableName, seconds: float) -> None:
        """Lock a table against everybody until the transaction ends; can be tried again."""
        raise NotImplementedError

    async def swap(
        self, connection: AsyncConnection, name: TableName, beside: TableName, renamed: dict[str, str]
    ) -> None:
        """Put a complete table in the place of one that is locked, with all its duties, and drop that."""
        raise NotImplementedError

    async def move(
        self, connection: AsyncConnection, table: TableSchema, beside: TableName, columns: Sequence[str], how: str
    ) -> int:
        """Insert the rows of the table beside, and drop that; how many were inserted.

        Parameters
        ----------
        how : str
            What stands between the columns and the query.
        """
        raise NotImplementedError

    async def drop(self, connection: AsyncConnection, names: Sequence[TableName]) -> None:
        """Drop tables, where they are there."""
