"""How a query is carried out on any database: a cursor of SQLAlchemy's, in a transaction that is rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa

from dataloader.database.backends.cursor_reading import CursorReading, limited
from dataloader.database.backends.reading import replaced
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dataloader.database.backends.reading import Receiver, Statement


class Querying:
    """What a backend does with a query."""

    if TYPE_CHECKING:
        name: str
        title: ClassVar[str | None]

    async def read(self, connection: AsyncConnection, statement: Statement, receiver: Receiver) -> None:
        """Hand on the rows of a query, in a transaction of its own, which can write nothing."""
        opening = self.limit_sql(statement.timeout)
        text = replaced(statement.text.replace("\\", "\\\\"), lambda key: f":p{key}" if key.isdigit() else None)
        values = {f"p{at}": value for at, value in enumerate(statement.values, start=1)}
        begin = connection.begin_nested if connection.in_transaction() else connection.begin
        async with begin() as begun:
            for sql in opening:
                await connection.exec_driver_sql(sql)
            receiver.begun(None)
            async with connection.stream(sa.text(text), values) as result:
                names = list(result.keys())
                reading = CursorReading(names, [None] * len(names), statement.columns)
                await reading.hand_on(limited(result.fetchmany, statement.max_rows), receiver)
            await begun.rollback()

    def limit_sql(self, seconds: float | None) -> tuple[str, ...]:
        """What has the transaction's statements end after some time.

        Raises
        ------
        PlanError
            When the database cannot.
        """
        if seconds is None:
            return ()
        hint = "Leave it out, and write async with asyncio.timeout(seconds) around the call."
        raise PlanError(f"statement_timeout= is for PostgreSQL, and this is {self.title or self.name}", hint=hint)

    async def is_working(self, connection: AsyncConnection, session: Any) -> bool:
        """Whether a session works on something; where that cannot be found out, whether the database answers."""
        await connection.execute(sa.select(1))
        return True
