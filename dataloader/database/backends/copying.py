"""The seam of copying: which columns a query has, which database it is, rows from server to server or read back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.backends.reading import Receiver, Statement
    from dataloader.database.schema import TableName

Pieces = AsyncIterator[bytes | memoryview]


class Taker(Protocol):
    """Takes the bytes of rows."""

    def begun(self, session: object) -> None:
        """Another connection may ask whether this session works on the query."""

    async def put(self, data: bytes) -> None:
        """Take the next bytes, and wait while there is no room for more."""


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of a query's result.

    Attributes
    ----------
    is_portable : bool
        Whether the binary form of its values means the same to every server.
    """

    name: str
    type: ColumnType
    is_portable: bool


@dataclass(frozen=True, slots=True)
class QueryShape:
    """What is known of a query's result before it is carried out.

    Attributes
    ----------
    about_rows : int or None
        How many rows the planner expects.
    reads : frozenset of TableName
        The tables and views that are read, and those of which one is a part.
    """

    columns: tuple[ResultColumn, ...]
    about_rows: int | None
    reads: frozenset[TableName]


class Copying:
    """What a backend does where rows go from one database into another."""

    pipes: ClassVar[bool] = False
    """Whether a server's rows can be handed to another one as they are."""

    verify_obstacle: ClassVar[str | None] = "only PostgreSQL through asyncpg, and SQLite, give back what they store"
    """Why rows cannot be read back before they are committed, None if they can."""
    own_rows: ClassVar[str | None] = None
    """The condition of the rows that the open transaction has written; None where nobody else writes meanwhile."""

    async def read_back(self, connection: AsyncConnection, statement: Statement, receiver: Receiver) -> None:
        """Hand on the rows of a query, in the open transaction."""
        raise NotImplementedError

    async def as_written(
        self, connection: AsyncConnection, texts: list[pa.Array], types: Mapping[int, ColumnType], *, inside: bool
    ) -> list[pa.Array]:
        """Columns of texts, some of them as the database writes what it reads in them.

        Parameters
        ----------
        types : dict of int to ColumnType
            Which columns, and as what they are read.
        inside : bool
            Whether that is done in the open transaction, and not in one of its own.
        """
        return texts

    async def place(self, connection: AsyncConnection) -> str | None:
        """What only this database is called, by whatever address it is reached; None where that is unknown."""
        return None

    async def describe_query(self, connection: AsyncConnection, statement: Statement) -> QueryShape | None:
        """What a query's result will be; None where only its rows tell."""
        return None

    async def send_rows(
        self,
        connection: AsyncConnection,
        statement: Statement,
        columns: Sequence[str],
        taker: Taker,
        *,
        lock_seconds: float,
    ) -> int:
        """Hand on the columns of a query as bytes, in a transaction that can only read, and return how many rows.

        Parameters
        ----------
        lock_seconds : float
            How long it waits for a lock: a function in it may read the very table that the other side has emptied.
        """
        raise NotImplementedError

    async def receive_rows(
        self, connection: AsyncConnection, name: TableName, columns: Sequence[str], pieces: Pieces
    ) -> int:
        """Store rows that another server has sent, in the open transaction, and return how many were stored."""
        raise NotImplementedError
