"""What is copied: the query with its columns and key, and the table where it goes, before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dataloader.database import engine as engines
from dataloader.database.backends import backend_for
from dataloader.database.schema import TableName
from dataloader.database.session import Session
from dataloader.errors import PlanError
from dataloader.options import Target
from dataloader.reading.query import asked as asked_of
from dataloader.reading.query import is_table, statement_of, table_text
from dataloader.reading.stream import as_read_errors

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.database.backends import Backend
    from dataloader.database.backends.copying import ResultColumn
    from dataloader.database.backends.reading import Statement
    from dataloader.database.schema import TableSchema, UniqueKey
    from dataloader.reading.query import Params


@dataclass(frozen=True, slots=True)
class About:
    """How many rows there are about, for the bar."""

    about_rows: int | None

    def __str__(self) -> str:
        return "" if self.about_rows is None else f"of about {self.about_rows:,} rows"


@dataclass(frozen=True, slots=True)
class Original:
    """What is copied.

    Attributes
    ----------
    label : str
        What it is called.
    table : TableSchema or None
        As its catalog describes it; None for a query.
    keys : tuple of UniqueKey
        The unique keys of the table, the primary key first.
    columns : tuple of ResultColumn or None
        The columns of the query, where they are known before it is carried out.
    place : str or None
        What only its database is called.
    reads : frozenset of TableName or None
        The tables that are read, where they are known before the query is carried out.
    facts : tuple of (str, str)
        What is said of it in the plan.
    """

    engine: AsyncEngine
    statement: Statement
    label: str
    table: TableSchema | None = None
    keys: tuple[UniqueKey, ...] = ()
    columns: tuple[ResultColumn, ...] | None = None
    about: About = About(None)
    place: str | None = None
    reads: frozenset[TableName] | None = None
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def backend(self) -> Backend:
        return backend_for(self.engine.dialect)

    @property
    def name(self) -> str:
        """What reports and plans call it."""
        return f"{self.label} of {engines.describe_url(self.engine)}"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return next((one.columns for one in self.keys if one.is_primary), ())

    def in_order(self) -> Original:
        """The table with its rows in the order of the key, the same one at every time.

        Raises
        ------
        PlanError
            When there is no such order, and so no place at which to continue.
        """
        if not self.key:
            what = "the rows of a query have no order of their own"
            if self.table is not None:
                what = f"{self.label} has no primary key, so its rows have no order"
            hint = "Leave commit=, load_id= and resume= out: the copy is then one transaction, all or nothing."
            raise PlanError(f"a copy that is committed chunk by chunk is refused: {what}", hint=hint)
        key = ", ".join(map(self.backend.quote, self.key))
        return replace(self, statement=replace(self.statement, text=f"{self.statement.text} ORDER BY {key}"))


@dataclass(frozen=True, slots=True)
class Destination:
    """Where it goes.

    Attributes
    ----------
    found : TableSchema or None
        The table, if it is there.
    """

    engine: AsyncEngine
    found: TableSchema | None
    place: str | None

    @property
    def backend(self) -> Backend:
        return backend_for(self.engine.dialect)


async def find_original(
    engine: AsyncEngine,
    query: object,
    params: Params | None,
    columns: Sequence[str] | None,
    *,
    among: Sequence[str] | None = None,
) -> Original:
    """Find out what is copied.

    Parameters
    ----------
    columns : sequence of str or None
        The wanted columns.
    among : sequence of str or None
        Of a table, no other columns are wanted than these.

    Raises
    ------
    ReadError
        When the query is refused, or there is no such table.
    """
    backend = backend_for(engine.dialect)
    query = asked_of(query)
    statement, label = statement_of(query, params, backend, columns, None)
    name = Target.of(query, backend).name if is_table(query) else None  # type: ignore[arg-type]  # checked by statement_of

    async def find(session: Session) -> Original:
        asked = Original(engine, statement, label)
        if name is not None:
            async with session.reading() as connection:
                asked = await _described(asked, session, connection, name, columns or among)
        async with session.reading() as connection:
            place = await session.backend.place(connection)
        shape = await session.backend.describe_query(session.connection, asked.statement)
        asked = replace(asked, place=place)
        if shape is None:
            return asked
        return replace(asked, columns=shape.columns, about=About(shape.about_rows), reads=shape.reads)

    with as_read_errors():
        return await Session(engine, TableName(None, label), reads_only=True).run(find)


async def _described(
    asked: Original, session: Session, connection: AsyncConnection, name: TableName, among: Sequence[str] | None
) -> Original:
    table = await session.backend.describe(connection, name)
    if table is None:  # as a temporary table, which the query itself tells
        return asked
    wanted = {table.key(one) for one in among or ()}
    columns = [one.name for one in table.columns if table.key(one.name) in wanted]
    is_known = asked.statement.columns is None or {*asked.statement.columns} <= {*columns}  # else that is told later
    text = table_text(table.name, session.backend, columns if is_known else None)
    target = await session.backend.merge_target(connection, table)
    return replace(asked, table=table, keys=target.keys, statement=replace(asked.statement, text=text))


async def find_destination(engine: AsyncEngine, to: str | sa.Table, borrowed: AsyncConnection | None) -> Destination:
    """Find out where it goes."""
    schemas = engine.get_execution_options().get("schema_translate_map")
    target = Target.of(to, backend_for(engine.dialect)).within(schemas or {})

    async def find(session: Session) -> Destination:
        async with session.reading() as connection:
            found = await session.backend.describe(connection, target.name)
            return Destination(engine, found, await session.backend.place(connection))

    return await Session(engine, target.name, reads_only=True, borrowed=borrowed).run(find)
