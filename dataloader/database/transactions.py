"""Transactions that are ones, whatever goes past SQLAlchemy, and statements that are prepared once."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
import tenacity
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from dataloader.database import sqlite
from dataloader.database.engine import SQLITE_BUSY_SECONDS, driver_of
from dataloader.database.operators import pinned
from dataloader.database.sessions import has_own_session
from dataloader.errors import LoadError

_SPEAKING = "SET LOCAL client_encoding = 'UTF8'"
"""COPY's bytes are UTF-8, and asyncpg's statements, whatever the session's encoding is."""
_UTF_8 = ("UTF8", "UTF-8", "UNICODE")


@contextlib.asynccontextmanager
async def transaction(connection: AsyncConnection, *opening: str) -> AsyncIterator[None]:
    """A transaction that includes what goes past SQLAlchemy: raw COPY, and SQLite's DDL.

    SQLAlchemy opens PostgreSQL's transaction in its first statement only, so that a COPY before it would be
    committed at once; and the sqlite3 module opens none before DDL. On asyncpg it is begun by ourselves, and
    READ COMMITTED whatever the database's default is: to claim a chunk is to see what others have committed.

    Parameters
    ----------
    *opening : str
        Statements without parameters to begin with, on asyncpg in the same round trip.

    Raises
    ------
    LoadError
        When the engine commits every statement at once, or its pool gives out an open transaction.
    """
    if connection.dialect.driver == "asyncpg":
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        reads_only = connection.engine.get_execution_options().get("postgresql_readonly")
        beginning = f"BEGIN ISOLATION LEVEL READ COMMITTED{' READ ONLY' if reads_only else ''}"
        async with _begun_on_asyncpg(await driver_of(connection), beginning, *opening):
            yield
        if connection.in_transaction():
            await connection.rollback()  # SQLAlchemy's own, of which the server knows nothing
        return
    async with connection.begin():
        if connection.dialect.name == "sqlite":
            await _begin_immediate(connection, await driver_of(connection))
        elif await connection.run_sync(_commits_at_once):
            hint = "Use an engine without isolation_level='AUTOCOMMIT': connect(url) makes one."
            raise LoadError("the engine commits every statement at once", hint=hint)
        speaking = [_SPEAKING] if connection.dialect.name == "postgresql" else []
        for statement in (*speaking, *opening):
            await connection.exec_driver_sql(statement)
        yield


@contextlib.asynccontextmanager
async def _begun_on_asyncpg(driver: Any, begin: str, *opening: str) -> AsyncIterator[None]:
    if driver.is_in_transaction():  # sqlalchemy#13381: what is committed would only be a savepoint of it
        hint = "Dispose of the engine: await engine.dispose(), then load again."
        raise LoadError("the pool gave out a connection with an open transaction", hint=hint)
    try:
        if driver.get_settings().client_encoding.upper() not in _UTF_8:
            await driver.execute(f"{begin}; {_SPEAKING}")  # a round trip before the names that it is about
            begin = "SELECT"
        await driver.execute("; ".join([begin, *opening]))
        yield
        await driver.execute("COMMIT")
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


def _commits_at_once(connection: sa.Connection) -> bool:
    raw: Any = connection.connection.dbapi_connection
    try:
        return bool(connection.dialect.detect_autocommit_setting(raw))
    except NotImplementedError:  # a dialect that cannot tell
        return False


def _roll_back_before_closing(connection: Any, _record: object, _error: object) -> None:
    """SQLAlchemy closes a connection whose statement was cancelled, and SQLite's lock would outlive that."""
    connection.rollback()


async def _begin_immediate(connection: AsyncConnection, driver: Any) -> None:
    """Wait for another writer on the loop, not in the driver's thread, where no cancel would reach the wait."""
    if driver.in_transaction:
        return
    pool = connection.engine.pool
    if not sa.event.contains(pool, "invalidate", _roll_back_before_closing):
        sa.event.listen(pool, "invalidate", _roll_back_before_closing)
    patience = (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar_one()
    await connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        await sqlite.write_ahead(connection)
        await _begin_when_free(connection)
    finally:
        await connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience}")


def _is_locked(error: BaseException) -> bool:
    return "database is locked" in str(error)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_locked),
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(SQLITE_BUSY_SECONDS),
    reraise=True,
)
async def _begin_when_free(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("BEGIN IMMEDIATE")


async def settle(connection: AsyncConnection, lock_seconds: float) -> None:
    """Have PostgreSQL's open transaction wait for no lock for longer, and speak UTF-8."""
    if connection.dialect.name == "postgresql":
        settings = {"lock_timeout": f"{lock_seconds * 1000:.0f}", "client_encoding": "UTF8"}
        calls = (sa.func.pg_catalog.set_config(name, value, True) for name, value in settings.items())
        await connection.execute(sa.select(*calls))


async def check_deferred(connection: AsyncConnection) -> None:
    """Have PostgreSQL check now what it would check at the commit, whose waits for locks no cancel would reach."""
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")


async def has_ended(connection: AsyncConnection) -> bool:
    """Whether the database itself has ended the transaction, as SQLite's RAISE(ROLLBACK) does."""
    return getattr(await driver_of(connection), "in_transaction", True) is False


_numbers = itertools.count()
"""Of prepared statements: where its own cache is off asyncpg names none, and an unnamed one is parsed each time."""


class Prepared:
    """A statement that is carried out for every chunk: compiled once, and prepared once for each connection.

    SQLAlchemy with asyncpg compiles and prepares it each time, which takes as long as to encode the chunk.
    """

    def __init__(self, statement: sa.Executable, dialect: Dialect) -> None:
        self._statement = statement
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every statement has it
        self._sql = pinned(str(compiled))
        self._names: list[str] = compiled.positiontup or []
        self._fixed: dict[str, Any] = compiled.params
        self._prepared: dict[Any, Any] = {}

    async def fetch(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """Its rows."""
        if connection.dialect.driver == "asyncpg":
            driver, known = await driver_of(connection), {**self._fixed, **values}
            parameters = [known[name] for name in self._names]
            if not has_own_session(connection):
                rows: Sequence[Any] = await driver.fetch(self._sql, *parameters)
                return rows
            if driver not in self._prepared:
                self._prepared[driver] = await driver.prepare(self._sql, name=f"dataloader_{next(_numbers)}")
            rows = await self._prepared[driver].fetch(*parameters)
            return rows
        return (await connection.execute(self._statement, values)).all()
