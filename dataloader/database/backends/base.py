"""The seam: what a backend declares of its database, and what it is asked to do.

What is written here holds for any database that SQLAlchemy knows; a backend overrides what differs.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa

from dataloader.conversion.column_types import ColumnType, parse_type
from dataloader.database.backends.altering import Altering
from dataloader.database.backends.borrowing import Borrowing
from dataloader.database.backends.checking import Checking
from dataloader.database.backends.copying import Copying
from dataloader.database.backends.detours import Detouring
from dataloader.database.backends.merging import Merging
from dataloader.database.backends.naming import Naming
from dataloader.database.backends.querying import Querying
from dataloader.database.backends.replacing import Replacing
from dataloader.database.schema import ForeignKey, TableName
from dataloader.errors import LoadError, PlanError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.types import TypeEngine

    from dataloader.database.schema import Fingerprint, TableRights, TableSchema


DRY_RUN = "dataloader_dry_run"
"""The execution option of a connection on which everything is rolled back."""


class Backend(Altering, Borrowing, Checking, Copying, Detouring, Merging, Naming, Querying, Replacing, abc.ABC):
    """One database, through one driver."""

    # What it declares

    port: ClassVar[str] = ""
    """Where it listens if the URL does not say."""
    connect_arguments: ClassVar[dict[str, Any]] = {}
    """What the driver is given for an engine of ours, unless the caller gives it something else."""
    needs_one_loop: ClassVar[bool] = False
    """Whether a second event loop that runs inside a connection can bring the interpreter down."""
    settings: ClassVar[tuple[str, ...]] = ()
    """The statements by which the open transaction reads and describes values as we mean them."""

    folds_unquoted: ClassVar[bool] = False
    """Whether a name that is not quoted loses its case."""

    row_number: ClassVar[str | None] = None
    """The type that makes a primary key of one column the number of its row, which the database gives."""
    has_named_types: ClassVar[bool] = False
    """Whether an enum or a domain is a type of its own, with a name."""
    json_type: ClassVar[TypeEngine[Any]] = sa.JSON()
    """What a column is created as for lists, structs and documents."""
    unsigned_type: ClassVar[TypeEngine[Any]] = sa.Numeric(20, 0)
    """What a column is created as for integers of 64 bits without a sign."""
    exact_digits: ClassVar[int | None] = None
    """How many digits of a decimal are kept exactly, where that is limited."""
    untyped: ClassVar[frozenset[str]] = frozenset()
    """The families of source types for which no type keeps their values."""

    experimental: ClassVar[str | None] = "its loads are tested on no real server"
    """What is to be known of a database before it is trusted with data, None if the tests meet it."""
    creates_in_transaction: ClassVar[bool] = False
    """Whether a table that a load creates is rolled back with it."""
    inserts: ClassVar[str] = "core"
    """How INSERT sends a chunk: ``core``, ``arrays`` of the columns, or ``values``, many rows to a statement."""
    one_writer: ClassVar[str | None] = None
    """Why no more than one connection can write, None if more can."""
    cursors_hold_locks: ClassVar[bool] = False
    """Whether a lock lives as long as the cursor of a cancelled statement, though its connection is closed."""
    checks_keys_late: ClassVar[bool] = False
    """Whether foreign keys are checked after all rows of a statement, so that the one that is refused is not named."""
    ledger_obstacle: ClassVar[str | None] = "only PostgreSQL and SQLite can hold the ledger"
    """Why the database cannot hold a ledger, None if it can."""
    now: ClassVar[sa.ColumnElement[Any]] = sa.func.current_timestamp()
    """The moment, also within a transaction."""
    moment_type: ClassVar[TypeEngine[Any]] = sa.DateTime(timezone=True)
    """What a moment of the ledger is stored as."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.name = dialect.name

    def quote(self, name: str) -> str:
        """The name as an identifier, whatever it contains."""
        return self.dialect.identifier_preparer.quote_identifier(name)

    def quote_table(self, name: TableName) -> str:
        """A table's name, with its schema's."""
        return ".".join(self.quote(part) for part in (name.schema, name.name) if part is not None)

    def column_type(self, sql: str, labels: tuple[str, ...] = ()) -> ColumnType:
        """A column's type by its spelling; `labels` are an enum's values."""
        return parse_type(sql, self.name, labels)

    @property
    def copy_obstacle(self) -> str | None:
        """Why COPY cannot be used, None if it can."""
        return "only PostgreSQL has COPY"

    # Engines and connections

    def describe_url(self, url: URL) -> str:
        """The database as it may be shown: its kind, host and port, without user or password; a socket is local."""
        hosts = url.host or ",".join(url.normalized_query.get("host", ["localhost" if self.port else ""]))
        ports = str(url.port or ",".join(url.normalized_query.get("port", [self.port])))
        pairs = itertools.zip_longest(hosts.split(","), ports.split(","), fillvalue=ports)
        places = (f"{'local' if host.startswith('/') else host}{port and ':'}{port}" for host, port in pairs)
        known = "/".join(filter(None, (",".join(places), url.database)))
        return f"{self.title or url.get_backend_name()} {known}".rstrip()

    def describe_engine(self, engine: AsyncEngine) -> str:
        """What an engine connects to and as whom, without a password."""
        user = self.user(engine.url)
        return f"{self.describe_url(engine.url)}{'' if user is None else f' as {user}'}"

    def user(self, url: URL) -> str | None:
        """Who logs in; None where there is no login."""
        return url.username

    def notes(self, connection: AsyncConnection) -> tuple[str, ...]:
        """What a plan says of the connection itself."""
        if self.experimental is None:
            return ()
        kept = "" if self.creates_in_transaction else ", and a table that is created may stay after a load that failed"
        return (f"experimental: {self.experimental}{kept}",)

    def is_missing(self, url: URL) -> bool:
        """Whether to connect would make a database that is not there."""
        return False

    def is_in_memory(self, engine: AsyncEngine) -> bool:
        """Whether the database ends with the engine's connection, which then works in any loop."""
        return False

    async def take_turn(self, engine: AsyncEngine) -> Callable[[], None] | None:
        """Wait until nobody else uses the connection that all users of an engine share; returns what ends the turn.

        Raises
        ------
        LoadError
            When it does not come.
        """
        return None

    def driver_arguments(self, url: URL, secrets: dict[str, Any]) -> tuple[URL, dict[str, Any]]:
        """What a database's URL says to the driver: a URL as its dialect reads it, and arguments beside that.

        Raises
        ------
        PlanError
            When the driver cannot do what the URL asks for.
        """
        return url, secrets

    def configure_engine(self, engine: AsyncEngine, arguments: dict[str, Any], url: URL) -> None:
        """Have every new connection of an engine of ours set up.

        Parameters
        ----------
        arguments : dict
            Those of its driver.
        url : sqlalchemy.URL
            What was asked for, of which the engine's own has only what the driver takes.
        """
        return None

    def prepare_connection(self, connection: AsyncConnection) -> None:
        """Take note of a connection, ours or the caller's, before something is sent on it."""
        return None

    # Transactions

    @contextlib.asynccontextmanager
    async def transaction(self, connection: AsyncConnection, *opening: str) -> AsyncIterator[None]:
        """A transaction that includes what goes past SQLAlchemy: raw COPY, and SQLite's DDL.

        Parameters
        ----------
        *opening : str
            Statements without parameters to begin with.

        Raises
        ------
        LoadError
            When the engine commits every statement at once, or its pool gives out an open transaction.
        """
        async with connection.begin():
            await self.begin(connection)
            await self.execute_all(connection, opening)
            yield

    async def execute_all(self, connection: AsyncConnection, statements: Sequence[str]) -> None:
        """Carry out statements that return nothing, in the open transaction."""
        for statement in statements:
            await connection.exec_driver_sql(statement)

    async def begin(self, connection: AsyncConnection) -> None:
        """Make sure that what SQLAlchemy has begun is a transaction."""
        await self.check_transactional(connection)

    async def check_transactional(self, connection: AsyncConnection) -> None:
        """Refuse a connection that commits every statement.

        Raises
        ------
        LoadError
            When it does.
        """
        if await connection.run_sync(_commits_at_once):
            hint = "Use an engine without isolation_level='AUTOCOMMIT': connect(url) makes one."
            raise LoadError("the engine commits every statement at once", hint=hint)

    async def configure_transaction(self, connection: AsyncConnection, lock_seconds: float) -> None:
        """Have the open transaction wait for no lock for longer, and speak UTF-8."""
        return None

    async def check_deferred(self, connection: AsyncConnection) -> None:
        """Have checked now what would be checked at the commit, whose waits for locks no cancel would reach."""
        return None

    async def has_ended(self, connection: AsyncConnection) -> bool:
        """Whether the database itself has ended the transaction."""
        return False

    def prepare(self, statement: sa.Executable) -> PreparedStatement:
        """A statement that is carried out for every chunk."""
        return PreparedStatement(statement)

    # Tables

    @abc.abstractmethod
    async def describe(self, connection: AsyncConnection, name: TableName) -> TableSchema | None:
        """Read a table from the catalog, None if there is none of that name."""

    async def qualify(self, connection: AsyncConnection, name: TableName) -> TableName:
        """The name with the schema in which a table of that name would be created."""
        return name

    async def losses(self, connection: AsyncConnection, name: TableName) -> dict[str, list[str]]:
        """What a table would lose by being replaced: names, by what they are."""
        return {}

    async def sequences(self, connection: AsyncConnection, name: TableName, columns: Sequence[str]) -> dict[str, str]:
        """The sequences that number the rows of a table in some of its columns, by column."""
        return {}

    async def advance_sequences(self, connection: AsyncConnection, name: TableName, columns: Sequence[str]) -> None:
        """Set the sequences of columns past their largest numbers, where they are not yet."""

    def fingerprints(self, name: TableName, columns: Sequence[str]) -> Fingerprints:
        """What takes a table's fingerprint; `columns` are the names of those that are loaded."""
        raise NotImplementedError

    async def has_row_count(self, connection: AsyncConnection, name: TableName, rows: int) -> bool:
        """Whether a table of which the fingerprint does not tell has that many rows."""
        raise NotImplementedError

    def empty_table_sql(self, table: TableSchema) -> str:
        """The statement that takes a table's rows away."""
        return self.delete_rows_sql(table)

    def delete_rows_sql(self, table: TableSchema) -> str:
        """The same for a role that may delete rows and not truncate the table."""
        return f"DELETE FROM {self.quote_table(table.name)}"

    def lock_table_sql(self, name: TableName, kind: str = "table") -> tuple[str, ...]:
        """What keeps others from altering a table until the transaction ends."""
        return ()

    def lock_timeout_sql(self, lock_seconds: float) -> tuple[str, ...]:
        """What has the open transaction wait for no lock for longer."""
        return ()

    def opening_sql(self, lock_seconds: float, *locked: TableName) -> list[str]:
        """What a transaction begins with that the ledger vouches for.

        It is on the disk when it has committed, waits for no lock for long, and nobody alters the tables `locked`.
        """
        locks = [statement for name in locked for statement in self.lock_table_sql(name)]
        return [*self.settings, *self.lock_timeout_sql(lock_seconds), *locks]

    async def execute_ddl(self, connection: AsyncConnection, statements: Sequence[str], lock_seconds: float) -> None:
        """Carry out DDL in the open transaction; after it has failed by a lock it can be tried again."""
        await self.execute_all(connection, statements)

    # Keys

    async def unique_keys(self, connection: AsyncConnection, name: TableName) -> list[tuple[str, ...]]:
        """The columns of the primary key and of every unique constraint and index that holds for all rows."""
        raise self._keys_are_not_asked()

    async def foreign_keys(self, connection: AsyncConnection, name: TableName) -> list[ForeignKey]:
        """The table's foreign keys, also those to itself."""
        return await connection.run_sync(_foreign_keys, name)

    def existing_keys_query(
        self, values: list[list[Any]], types: Sequence[ColumnType], parent: sa.TableClause
    ) -> tuple[sa.Select[Any], dict[str, Any]]:
        """The query, and its parameters, for the positions of those keys that a table has.

        Parameters
        ----------
        values : list of list
            The parts of the keys as texts, one list for each column.
        types : sequence of ColumnType
            The columns' types.
        parent : sqlalchemy.TableClause
            The table, with the key's columns.

        Raises
        ------
        PlanError
            When the database is neither PostgreSQL nor SQLite.
        """
        raise self._keys_are_not_asked()

    def _keys_are_not_asked(self) -> PlanError:
        hint = "Leave unique= and foreign_keys= out: the database checks them when the rows are loaded."
        return PlanError(f"keys cannot be looked up in {self.name}", hint=hint)

    async def check_keys_immediately(self, connection: AsyncConnection, name: TableName) -> None:
        """Have keys checked at every statement that would be checked at the commit.

        What may depend on later rows stays deferred: foreign keys to the table itself, and constraint triggers.
        """
        return None

    # The ledger

    async def table_rights(
        self, connection: AsyncConnection, names: Sequence[str], schema: str | None = None, target: str | None = None
    ) -> list[TableRights]:
        """Those of the tables of these names that are there, in one schema or in all, and whose they are.

        Parameters
        ----------
        target : str or None
            The table of the schema whose owner is one of us.
        """
        return []

    def pin_table_sql(self, name: TableName) -> tuple[str, ...]:
        """What keeps others from replacing a table until the transaction ends."""
        return ()

    async def advisory_lock(self, connection: AsyncConnection, key: int) -> None:
        """Wait until no other open transaction is past this with the same key."""
        return None

    async def half_of_connections(self, connection: AsyncConnection) -> int | None:
        """Half of the connections that the role can have at once, None if they are not limited."""
        return None

    def insert_or_skip(self, table: sa.Table) -> Any:
        """An INSERT that does nothing where a row with the same key is there."""
        raise NotImplementedError

    def insert_rows_query(
        self, table: sa.Table, fixed: dict[str, Any], columns: dict[str, list[Any]]
    ) -> tuple[sa.Insert, Any]:
        """A statement that inserts rows, and its parameters.

        Parameters
        ----------
        fixed : dict
            The columns that have the same value in every row.
        columns : dict of str to list
            The values of the others.
        """
        rows = zip(*columns.values(), strict=True)
        return sa.insert(table), [fixed | dict(zip(columns, row, strict=True)) for row in rows]


def _foreign_keys(connection: sa.Connection, name: TableName) -> list[ForeignKey]:
    return [
        ForeignKey(
            tuple(one["constrained_columns"]),
            TableName(one["referred_schema"] or name.schema, one["referred_table"]),
            tuple(one["referred_columns"]),
        )
        for one in sa.inspect(connection).get_foreign_keys(name.name, schema=name.schema)
    ]


class Fingerprints(abc.ABC):
    """Takes the fingerprint of a table, for every chunk anew.

    Attributes
    ----------
    column : sqlalchemy.ColumnElement
        It as a column of another statement's result, to save a round trip; NULL where only `take` can tell.
    """

    column: sa.ColumnElement[Any] = sa.null()

    @abc.abstractmethod
    async def take(self, connection: AsyncConnection) -> Fingerprint | None:
        """The fingerprint as it is now, None if there is no such table."""


class PreparedStatement:
    """A statement that is carried out again and again, with other values."""

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement

    async def fetch(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """Its rows."""
        return (await connection.execute(self._statement, values)).all()


async def driver_of(connection: AsyncConnection) -> Any:
    """The driver's own connection: asyncpg's, aiosqlite's, ..."""
    held = connection.sync_connection
    if held is not None and not held.closed and not held.invalidated:
        return held.connection.driver_connection  # without the greenlet, of which a chunk would take seven
    return (await connection.get_raw_connection()).driver_connection


def raise_as_sqlalchemys(connection: AsyncConnection, error: Exception, statement: str) -> None:
    """Raise what SQLAlchemy would for a driver's error, by whose class callers know it; return for any other error."""
    held, adapted = connection.sync_connection, error
    if held is None or held.closed or held.invalidated:
        return
    try:
        held.connection.dbapi_connection._handle_exception(error)  # type: ignore[union-attr]  # of the async adapters
    except Exception as translated:
        adapted = translated
    kind = connection.dialect.loaded_dbapi.Error
    if isinstance(adapted, kind):
        raise sa.exc.DBAPIError.instance(statement, None, adapted, kind, dialect=connection.dialect) from error


def _commits_at_once(connection: sa.Connection) -> bool:
    raw: Any = connection.connection.dbapi_connection
    try:
        return bool(connection.dialect.detect_autocommit_setting(raw))
    except NotImplementedError:  # a dialect that cannot tell
        return False
