"""An engine like another one whose connections go through something in between."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database.backends import backend_for
from dataloader.database.backends.detours import Server
from dataloader.database.engine import made_of, remember
from dataloader.errors import PlanError

_connecting: ContextVar[Detour | None] = ContextVar("dataloader_detour", default=None)
"""The detour whose connection is being opened: its engine shares the dialect with the original."""
_detoured: weakref.WeakKeyDictionary[sa.Dialect, int] = weakref.WeakKeyDictionary()
"""How many detours there are of a dialect's engines."""


class Detour:
    """Opens the connections of an engine like the one given, until it is closed.

    Parameters
    ----------
    engine : AsyncEngine or sqlalchemy.Engine
        It is left alone: its own connections go the way that they went.
    ports : callable
        Given the servers, the ports of this machine that lead to them.
    secret : str
        Stands before the database's name: who does not know it is not let through.

    Attributes
    ----------
    engine : AsyncEngine or sqlalchemy.Engine
        The other engine, with a pool of its own.
    """

    def __init__(
        self, engine: AsyncEngine | sa.Engine, ports: Callable[[Sequence[Server]], Sequence[int]], secret: str
    ) -> None:
        original = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self._ports = ports
        self._secret = secret
        self._dialect = original.dialect
        self._backend = backend_for(original.dialect)
        self._opened: weakref.WeakKeyDictionary[Any, asyncio.AbstractEventLoop | None] = weakref.WeakKeyDictionary()
        self._is_closed = False
        pool = original.pool.recreate()
        pool._creator = self._opener(pool._invoke_creator)
        self.engine = _stand_in(engine, pool)
        _install(self._dialect)

    def _opener(self, open_original: Callable[[Any], Any]) -> Callable[..., Any]:
        def connect(connection_record: Any = None) -> Any:
            if self._is_closed:
                hint = "Use the engine that was given to it, or begin another block."
                raise PlanError("the block of dl.wire() to which this engine belongs has ended", hint=hint)
            _connecting.set(self)
            try:
                connection = open_original(connection_record)
            finally:
                was_asked = _connecting.get() is None
                _connecting.set(None)
            if not was_asked:
                connection.close()
                hint = "Pass an engine that is made of a URL."
                raise PlanError("the engine has creator=, so it is not known where it connects to", hint=hint)
            self._opened[getattr(connection, "driver_connection", connection)] = _running_loop()
            return connection

        return connect

    def redirected(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """A driver's arguments by which it connects to what is in between."""
        login = self._backend.login(parameters)
        login = replace(login, database=self._secret + login.database)
        return self._backend.redirected(parameters, login, self._ports(login.servers))

    async def release(self) -> None:
        """Say goodbye to the server on the connections that nobody uses."""
        if isinstance(self.engine, AsyncEngine):
            await self.engine.dispose()

    def close(self) -> None:
        """End every connection, also those that are in use, each in its loop."""
        self._is_closed = True
        _uninstall(self._dialect)
        if isinstance(self.engine, sa.Engine):
            self.engine.dispose()
            return
        opened = [*self._opened.items()]
        for driver, loop in opened:
            if loop is _running_loop():
                self._backend.cut(driver)
            elif loop is not None:
                with contextlib.suppress(RuntimeError):  # that loop is closed
                    loop.call_soon_threadsafe(self._backend.cut, driver)
        self.engine.sync_engine.dispose(close=False)


def _install(dialect: sa.Dialect) -> None:
    """Have a dialect connect another way while a detour's connection is opened: past every listener of do_connect."""
    _detoured[dialect] = _detoured.get(dialect, 0) + 1
    if "connect" in vars(dialect):
        return
    original = dialect.connect

    def connect(*arguments: Any, **parameters: Any) -> Any:
        detour = _connecting.get()
        if detour is None:
            return original(*arguments, **parameters)
        _connecting.set(None)
        return original(*arguments, **detour.redirected(parameters))

    dialect.connect = connect  # type: ignore[method-assign]


def _uninstall(dialect: sa.Dialect) -> None:
    _detoured[dialect] -= 1
    if not _detoured[dialect]:
        del dialect.connect


def _stand_in(engine: AsyncEngine | sa.Engine, pool: sa.Pool) -> AsyncEngine | sa.Engine:
    """An engine with the settings and listeners of another, and a pool of its own; one of ours works in any loop."""
    other = copy.copy(engine.sync_engine if isinstance(engine, AsyncEngine) else engine)
    other.pool = pool
    if isinstance(engine, sa.Engine):
        return other
    found = AsyncEngine(other)
    found.__class__ = engine.__class__
    if made := made_of(engine):
        remember(found.sync_engine, made)
    return found


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
