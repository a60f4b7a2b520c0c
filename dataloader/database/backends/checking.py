"""The seam of checks: whether a database, as a role and a pool reach it, is ready for loads. Nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.database.schema import TableName

Level = Literal["ok", "note", "problem"]


class Finding(NamedTuple):
    """One line of a check.

    Attributes
    ----------
    level : str
        ``ok``; ``note``, which is good to know; or ``problem``, which makes loads fail.
    topic : str
        What was looked at, in a word or two.
    says : str
        What was found.
    remedy : str
        What to do about it, where there is something to do.
    """

    level: Level
    topic: str
    says: str
    remedy: str = ""


class Checking:
    """What a backend looks at."""

    async def check(
        self, connection: AsyncConnection, engine: AsyncEngine, table: TableName | None, *, is_ours: bool
    ) -> list[Finding]:
        """What is to be known before a load, about the connection, the server, its limits and the role's rights.

        Parameters
        ----------
        table : TableName or None
            The table that is to be loaded into.
        is_ours : bool
            Whether the engine has our settings.
        """
        return [Finding("ok", "connection", f"connected by {connection.dialect.driver}")]

    async def free_connections(self, connection: AsyncConnection) -> tuple[int, int] | None:
        """How many connections this role could still open, and how many there can be; None if that is not limited."""
        return None
