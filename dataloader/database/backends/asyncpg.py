"""PostgreSQL through asyncpg: its sessions, transactions that hold for a raw COPY, and statements prepared once."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa

from dataloader.database.backends import asyncpg_copying as copying
from dataloader.database.backends import asyncpg_detours as detours
from dataloader.database.backends import asyncpg_reading as reading
from dataloader.database.backends import libpq
from dataloader.database.backends.base import PreparedStatement, driver_of, raise_as_sqlalchemys
from dataloader.database.backends.borrowing import BORROWED
from dataloader.database.backends.detours import LOOPBACK
from dataloader.database.backends.operators import pinned
from dataloader.database.backends.postgresql import OWN_ROWS, SPEAKING, PostgreSQL
from dataloader.errors import LoadError

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.engine import URL, Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.backends.copying import Pieces, QueryShape, Taker
    from dataloader.database.backends.detours import Login
    from dataloader.database.backends.reading import Receiver, Statement
    from dataloader.database.schema import TableName

CONNECT_SECONDS = 10
KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""PostgreSQL's settings by which it notices within a minute that a client is gone, and gives up the locks."""
_OF_A_SERVER = ("dsn", "direct_tls", "passfile", "service", "servicefile")
"""The arguments that say where to connect to, beside those that say where to go instead."""
_OWN_SESSION = "dataloader_own_session"
_UTF_8 = ("UTF8", "UTF-8", "UNICODE")


class Asyncpg(PostgreSQL):
    """PostgreSQL through the driver that sends the bytes of a binary COPY."""

    needs_one_loop = True
    pipes = True
    verify_obstacle = None
    own_rows = OWN_ROWS
    connect_arguments: ClassVar[dict[str, Any]] = {
        "timeout": CONNECT_SECONDS,
        "server_settings": {"application_name": "dataloader"},
        # A pooler gives each transaction another session, in which no statement of an earlier one is known by name;
        # and a table that is replaced would make prepared queries fail.
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
    }

    @property
    def copy_obstacle(self) -> str | None:
        return None

    def driver_arguments(self, url: URL, secrets: dict[str, Any]) -> tuple[URL, dict[str, Any]]:
        return libpq.asyncpg_arguments(url, secrets)

    def configure_engine(self, engine: AsyncEngine, arguments: dict[str, Any], url: URL) -> None:
        chosen = arguments.get("server_settings", {})
        sa.event.listen(engine.sync_engine, "connect", _settings_but(chosen))
        sa.event.listen(engine.sync_engine, "connect", _noting_poolers(weakref.ref(engine.sync_engine)))
        if options := libpq.socket_options(url):
            sa.event.listen(engine.sync_engine, "connect", _setting_on_sockets(options))

    def describe_engine(self, engine: AsyncEngine) -> str:
        known = super().describe_engine(engine)
        return f"{known}, through a pooler" if engine.sync_engine in _pooled else known

    def user(self, url: URL) -> str | None:
        with contextlib.suppress(OSError, KeyError):  # a process whose user has no name
            return url.username or getpass.getuser()
        return None

    def notes(self, connection: AsyncConnection) -> tuple[str, ...]:
        notes = []
        if _is_pooled(connection):
            notes.append("through a pooler: no session of the server is kept, no statement prepared, no keepalive set")
        if libpq.replaces_channel_binding(connection.engine.url):
            notes.append("asyncpg has no channel binding: the server's certificate and host name are verified instead")
        return tuple(notes)

    @contextlib.asynccontextmanager
    async def transaction(self, connection: AsyncConnection, *opening: str) -> AsyncIterator[None]:
        """A transaction that is begun by ourselves, in one round trip with its opening.

        SQLAlchemy opens one in its first statement only, so that a COPY before it would be committed at once. It is
        READ COMMITTED whatever the database's default is: to claim a chunk is to see what others have committed.
        """
        async with self._transaction(connection, "COMMIT", *opening):
            yield

    @contextlib.asynccontextmanager
    async def _transaction(self, connection: AsyncConnection, ending: str, *opening: str) -> AsyncIterator[None]:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        reads_only = connection.engine.get_execution_options().get("postgresql_readonly")
        beginning = f"BEGIN ISOLATION LEVEL READ COMMITTED{' READ ONLY' if reads_only else ''}"
        async with _begun(await driver_of(connection), beginning, ending, *opening):
            yield
        if connection.in_transaction():
            await connection.rollback()  # SQLAlchemy's own, of which the server knows nothing

    async def execute_all(self, connection: AsyncConnection, statements: Sequence[str]) -> None:
        """All in one round trip; SQLAlchemy prepares each by itself, which takes three of them."""
        driver = await driver_of(connection)
        if not statements or not driver.is_in_transaction():  # SQLAlchemy begins one with its first statement
            await super().execute_all(connection, statements)
            return
        script = "; ".join(statements)
        try:
            await driver.execute(script)
        except Exception as error:
            raise_as_sqlalchemys(connection, error, script)
            raise

    async def read(self, connection: AsyncConnection, statement: Statement, receiver: Receiver) -> None:
        async with self._reading(connection, *reading.SETTINGS, *self.limit_sql(statement.timeout), *self.settings):
            await reading.read(await driver_of(connection), statement, receiver)

    async def read_back(self, connection: AsyncConnection, statement: Statement, receiver: Receiver) -> None:
        async with connection.begin_nested() as nested:
            await (await driver_of(connection)).execute("; ".join([SPEAKING, *reading.SETTINGS, *self.settings]))
            await reading.read(await driver_of(connection), statement, receiver)
            await nested.rollback()  # which takes back what was set

    async def as_written(
        self, connection: AsyncConnection, texts: list[pa.Array], types: Mapping[int, ColumnType], *, inside: bool
    ) -> list[pa.Array]:
        if not types:
            return texts
        opening = (*reading.SETTINGS, *self.settings)
        async with contextlib.AsyncExitStack() as stack:
            if inside:
                nested = await stack.enter_async_context(connection.begin_nested())
                await (await driver_of(connection)).execute("; ".join(opening))
            else:
                await stack.enter_async_context(self.transaction(connection, *opening))
            driver = await driver_of(connection)
            written = {at: await copying.as_written(driver, texts[at], kind) for at, kind in types.items()}
            if inside:
                await nested.rollback()
        return [written.get(at, column) for at, column in enumerate(texts)]

    async def describe_query(self, connection: AsyncConnection, statement: Statement) -> QueryShape:
        async with self.transaction(connection, *reading.SETTINGS, *self.settings):
            return await copying.describe(await driver_of(connection), statement)

    async def send_rows(
        self,
        connection: AsyncConnection,
        statement: Statement,
        columns: Sequence[str],
        taker: Taker,
        *,
        lock_seconds: float,
    ) -> int:
        opening = (*reading.SETTINGS, *self.settings, *self.lock_timeout_sql(lock_seconds))
        async with self.transaction(connection, *opening):
            return await copying.send(await driver_of(connection), statement, columns, taker)

    async def receive_rows(
        self, connection: AsyncConnection, name: TableName, columns: Sequence[str], pieces: Pieces
    ) -> int:
        return await copying.receive(await driver_of(connection), name, columns, pieces)

    @contextlib.asynccontextmanager
    async def _reading(self, connection: AsyncConnection, *opening: str) -> AsyncIterator[None]:
        """A transaction, or a savepoint in the caller's own, which takes what is set with it when it is rolled back."""
        assert connection.sync_connection is not None
        if BORROWED not in connection.sync_connection.info:
            # READ ONLY does not keep EXPLAIN ANALYZE CREATE TABLE AS from creating a table.
            async with self._transaction(connection, "ROLLBACK", *opening):
                yield
            return
        await self.check_transactional(connection)
        async with connection.begin_nested() as nested:
            await (await driver_of(connection)).execute("; ".join([SPEAKING, *opening]))
            yield
            await nested.rollback()

    def login(self, arguments: dict[str, Any]) -> Login:
        return detours.login_of(arguments)

    def redirected(self, arguments: dict[str, Any], login: Login, ports: Sequence[int]) -> dict[str, Any]:
        given = {name: value for name, value in arguments.items() if name not in _OF_A_SERVER}
        if given.get("password") is None:
            given["password"] = login.password
        where = {"host": [LOOPBACK] * len(ports), "port": [*ports], "ssl": False}
        return given | login.others | where | {"user": login.user, "database": login.database}

    def cut(self, driver: Any) -> None:
        driver.terminate()

    def prepare(self, statement: sa.Executable) -> PreparedStatement:
        return _Prepared(statement, self.dialect)


def _settings_but(chosen: Container[str]) -> Callable[[Any, Any], None]:
    """What makes our settings, except the ones that the caller chose, in a new connection's session.

    Where there is a pooler nothing is set: it gives the session to others. It shows by the backend's pid, which is not
    the one that the connection was told.
    """
    settings = {name: value for name, value in KEEPALIVES.items() if name not in chosen}
    setting = [f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in settings.items()]

    def set_up(connection: Any, record: Any) -> None:
        pid = connection.driver_connection.get_server_pid()
        same = f"pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {pid}"
        sql = f"SELECT {', '.join(setting) or 1} WHERE {same}"
        record.info[_OWN_SESSION] = connection.run_async(lambda driver: driver.execute(sql)) == "SELECT 1"

    return set_up


_pooled: weakref.WeakSet[sa.Engine] = weakref.WeakSet()
"""The engines in whose last new connection a pooler was seen."""


def _noting_poolers(engine: weakref.ref[sa.Engine]) -> Callable[[Any, Any], None]:
    def note(_connection: Any, record: Any) -> None:
        if (known := engine()) is not None:
            (_pooled.discard if record.info[_OWN_SESSION] else _pooled.add)(known)

    return note


def _setting_on_sockets(options: Sequence[tuple[int, int, int]]) -> Callable[[Any, Any], None]:
    def set_up(connection: Any, _record: Any) -> None:
        opened = connection.driver_connection._transport.get_extra_info("socket")
        for level, option, value in options if opened.family != socket.AF_UNIX else ():
            opened.setsockopt(level, option, value)

    return set_up


def _has_own_session(connection: AsyncConnection) -> bool:
    """Whether the connection is known to have the same session of the server in each of its transactions."""
    held = connection.sync_connection
    return held is not None and bool(held.connection.info.get(_OWN_SESSION))


def _is_pooled(connection: AsyncConnection) -> bool:
    """Whether a pooler was seen; of an engine that was not made here it is unknown."""
    held = connection.sync_connection
    return held is not None and held.connection.info.get(_OWN_SESSION) is False


@contextlib.asynccontextmanager
async def _begun(driver: Any, begin: str, ending: str, *opening: str) -> AsyncIterator[None]:
    if driver.is_in_transaction():  # sqlalchemy#13381: what is committed would only be a savepoint of it
        hint = "Dispose of the engine: await engine.dispose(), then load again."
        raise LoadError("the pool gave out a connection with an open transaction", hint=hint)
    try:
        if driver.get_settings().client_encoding.upper() not in _UTF_8:
            await driver.execute(f"{begin}; {SPEAKING}")  # a round trip before the names that it is about
            begin = "SELECT"
        await driver.execute("; ".join([begin, *opening]))
        yield
        await driver.execute(ending)
    except BaseException:
        await _roll_back(driver)
        raise


async def _roll_back(driver: Any) -> None:
    """End the transaction, or the connection: the pool must not give one out to the next who asks.

    A cancelled BEGIN may have taken place though the driver has not heard of it, so nobody is asked.
    """
    if driver.is_closed():
        return
    try:
        await driver.execute("ROLLBACK")
    except BaseException:
        driver.terminate()
        raise


_numbers = itertools.count()
"""Of prepared statements: where its own cache is off asyncpg names none, and an unnamed one is parsed each time."""


class _Prepared(PreparedStatement):
    """A statement that is compiled once, and prepared once for each connection.

    SQLAlchemy with asyncpg compiles and prepares it each time, which takes as long as to encode the chunk.
    """

    def __init__(self, statement: sa.Executable, dialect: Dialect) -> None:
        super().__init__(statement)
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every statement has it
        self._sql = pinned(str(compiled))
        self._names: list[str] = compiled.positiontup or []
        self._fixed: dict[str, Any] = compiled.params
        self._prepared: dict[Any, Any] = {}

    async def fetch(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        driver, known = await driver_of(connection), {**self._fixed, **values}
        parameters = [known[name] for name in self._names]
        if not _has_own_session(connection):
            rows: Sequence[Any] = await driver.fetch(self._sql, *parameters)
            return rows
        if driver not in self._prepared:
            self._prepared[driver] = await driver.prepare(self._sql, name=f"dataloader_{next(_numbers)}")
        rows = await self._prepared[driver].fetch(*parameters)
        return rows
