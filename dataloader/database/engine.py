"""Engines: URLs, settings that are safe for loading, and which engine is the default.

The only file that knows the drivers' settings; transactions, the writers and the guard alone touch their connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import math
import os
import sys
import traceback
import weakref
from collections import ChainMap
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from dataloader.database.addresses import (
    Address,
    Secret,
    connect_in_secret,
    cut_off_frames,
    hide_passwords,
    hide_url,
    parse_url,
)
from dataloader.database.backends import backend_for, base
from dataloader.database.driver_errors import chain, mark_connecting, of_another_loop
from dataloader.errors import PlanError
from dataloader.formatting import one_line
from dataloader.sync import finish_despite_cancel, finish_under_way, start_task, under_way

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DEFAULT_URL = "sqlite+aiosqlite:///dataloader.db"
URL_VARIABLE = "DATALOADER_URL"
OPENING_SECONDS = 0.3
"""How long a cancelled caller waits for the connection that is being opened for it."""
CUT_SECONDS = 0.05  # and for so long after each further cancel
FINISHING_SECONDS = 5.0
"""How long the closing of a pool waits for those that still use it."""


class _Connected(AsyncEngine):
    """SQLAlchemy's, with a repr that says what it connects to."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:  # SQLAlchemy's asks for one of this very class
        return isinstance(other, AsyncEngine) and self.sync_engine == other.sync_engine

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = AsyncEngine.__hash__

    def __repr__(self) -> str:
        return f"<{AsyncEngine.__name__}: {backend_for(self.dialect).describe_engine(self)}>"

    async def dispose(self, close: bool = True) -> None:
        """Close the pool once a load that failed has told its ledger: its connection would be left open else."""
        if under_way:
            await finish_under_way(FINISHING_SECONDS)
        await super().dispose(close)


_Connected.__name__ = _Connected.__qualname__ = AsyncEngine.__name__  # errors name the type of what was passed


class Default:
    """What `connect` last set."""

    address: Address | None = None


def connect(
    url: str | URL | None = None,
    *,
    password: str | Callable[[], str | Awaitable[str]] | None = None,
    **engine_options: Any,
) -> AsyncEngine:
    """Make an engine with settings that are safe for loading, and make it the default of later calls.

    The last call counts; the engine of an earlier one is disposed of when it is not in use. Nothing is sent to the
    server yet. The pool tests a connection before it gives it out; PostgreSQL gets TCP keepalives and a connect
    timeout of 10 s, and may be behind pgbouncer in session or transaction mode; SQLite gets ``synchronous=FULL``,
    checks foreign keys, waits 30 s for another program's transaction, and becomes WAL by its first load. A password
    in the URL is never shown, neither by ``repr`` nor by a traceback that prints variables.

    Parameters
    ----------
    url : str or sqlalchemy.URL, optional
        ``postgresql://user:password@host:5432/database``, as a console of a hosted PostgreSQL shows it;
        ``service=shop``; ``sqlite:///file.db``; or, as an experiment, the URL of another async SQLAlchemy driver.
        None: ``$DATALOADER_URL``, else the file ``dataloader.db`` in the current folder. libpq's parameters, services,
        ``.pgpass`` and variables (``PGHOST``, ``PGSSLMODE``) mean what they mean to psql: see `docs/servers.md`.
    password : str or callable, optional
        The password, instead of one in the URL. A function, also an async one, is called for each connection
        that is opened: give one that fetches a token where tokens expire within a long load. One that is not
        async runs in a thread.
    **engine_options
        Passed on to `sqlalchemy.ext.asyncio.create_async_engine`; they override the settings above.

    Returns
    -------
    sqlalchemy.ext.asyncio.AsyncEngine
        Its repr says what it connects to and as whom, and, once it has connected, whether through a pooler.

    Raises
    ------
    PlanError
        When the URL cannot be read, or names a driver that is not async, or an option is unknown; and when
        the driver cannot do what a parameter of the URL asks for.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> async def token():
    ...     return "what the cloud's identity service gives"
    >>> engine = dl.connect("postgresql://me@db.example.com/shop?sslmode=require", password=token)
    >>> engine
    <AsyncEngine: PostgreSQL db.example.com:5432/shop as me>
    >>> asyncio.run(engine.dispose())
    """
    url = hide_url(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
    password = Secret(password) if isinstance(password, str) else password
    if "connect_args" in engine_options:
        engine_options["connect_args"] = hide_passwords(engine_options["connect_args"])
    if password is not None:
        engine_options["connect_args"] = {**engine_options.get("connect_args", {}), "password": password}
    address = parse_url(url)
    engine = _open(address, engine_options)
    Default.address = replace(address, engine=engine)
    return engine


def open_engine(url: URL | Address, options: dict[str, Any] | None = None) -> AsyncEngine:
    """An engine with the settings of `connect` that does not become the default."""
    return _open(url if isinstance(url, Address) else Address.of(url), options or {})


def made_of(engine: AsyncEngine) -> tuple[Address, dict[str, Any]] | None:
    """Of what another process can make an engine like this one; None if it was not made here."""
    return _ours.get(engine.sync_engine)


def parse_engine(engine: object) -> AsyncEngine | Address:
    """What ``engine=`` means.

    Raises
    ------
    PlanError
        When it is neither an AsyncEngine nor a URL that can be used.
    """
    if engine is None:
        engine = Default.address or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    engine = hide_url(engine)
    if isinstance(engine, AsyncEngine):
        return engine
    if isinstance(engine, (str, Address)):
        return parse_url(engine)
    hint = "Pass an AsyncEngine (connect(url) makes one) or a URL."
    if isinstance(engine, sa.Engine):
        hint = "It is a synchronous engine: pass its .url to connect(), not str() of it, which hides the password."
    raise PlanError(f"engine= must be an AsyncEngine or a URL, got {type(engine).__name__}", hint=hint)


def resolve(engine: object) -> AsyncEngine:
    """The engine to use in the running loop: the one given, the one for this URL, or the default.

    Raises
    ------
    PlanError
        When it is neither an AsyncEngine nor a URL that can be used.
    LoadError
        When the connections of an engine that was not made here are in use in another event loop.
    """
    known = parse_engine(engine)
    return _in_this_loop(known) if isinstance(known, AsyncEngine) else _for_this_loop(known)


def _in_this_loop(engine: AsyncEngine) -> AsyncEngine:
    """The engine, or one like it where another loop uses it and it is known how its connections are made.

    Two loops that run inside one connection of asyncpg's, which is C, can bring the interpreter down.
    """
    running = asyncio.get_running_loop()
    first = _loops.setdefault(engine.sync_engine.pool, running)
    is_ours = engine.sync_engine in _ours
    if first is not running and backend_for(engine.dialect).needs_one_loop:
        if is_ours and first.is_closed():
            _forget(engine)
        elif not is_ours and first.is_running():
            raise of_another_loop(describe_url(engine))
    if is_ours:
        return _opened_in(running).like(engine)
    _loops[engine.sync_engine.pool] = running
    return engine


_ours: weakref.WeakKeyDictionary[sa.Engine, tuple[Address, dict[str, Any]]] = weakref.WeakKeyDictionary()
"""The engines that were made here, and of what: it is known how they connect."""
_loops: weakref.WeakKeyDictionary[sa.Pool, asyncio.AbstractEventLoop] = weakref.WeakKeyDictionary()
"""The loop in which each pool is used; an engine that is disposed of gets a new pool."""


class _Opened:
    """The engines that are kept for one event loop, by the URL or the engine of `connect` that they stand for.

    They are closed when it ends: asyncio.run() and its like close the asynchronous generators that are left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.engines: dict[object, AsyncEngine] = {}
        self.defaults: set[AsyncEngine] = set()
        self._ending = self._until_the_end(loop)
        with contextlib.suppress(StopIteration):
            self._ending.__anext__().send(None)

    async def _until_the_end(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            _opened.pop(loop, None)
            for key, engine in [*self.engines.items()]:
                if isinstance(key, tuple) or _can_end(engine):  # what a URL stands for nobody else holds
                    await engine.dispose()

    def like(self, engine: AsyncEngine) -> AsyncEngine:
        """The engine, or the one that stands for it in this loop."""
        if engine not in self.engines:
            self.engines[engine] = _usable(engine)
        return self.engines[engine]

    async def close(self) -> None:
        await self._ending.aclose()

    async def dispose_of(self, key: AsyncEngine) -> None:
        """Close an engine that a later connect() has replaced."""
        await self.engines[key].dispose()
        self.engines.pop(key, None)
        self.defaults.discard(key)


_opened: dict[asyncio.AbstractEventLoop, _Opened] = {}


def _for_this_loop(address: Address) -> AsyncEngine:
    """The engine that `connect` returned, unless another loop is using it: then, as for a URL, one of its own."""
    opened = _opened_in(asyncio.get_running_loop())
    key = address.engine or (address.url, *address.arguments.items())
    if address.engine is not None:
        opened.like(address.engine)
        opened.defaults.add(address.engine)
    elif key not in opened.engines:
        opened.engines[key] = _open(address, {})
    if address is Default.address:
        for former in [*opened.defaults]:
            if former is not key and _is_idle(opened.engines[former]):
                start_task(opened.dispose_of(former))
    return opened.engines[key]


def _opened_in(loop: asyncio.AbstractEventLoop) -> _Opened:
    for ended in [one for one in [*_opened] if one.is_closed()]:
        for engine in _opened.pop(ended).engines.values():
            _forget(engine)
    return _opened.get(loop) or _opened.setdefault(loop, _Opened(loop))


def _usable(engine: AsyncEngine) -> AsyncEngine:
    """The engine, or one like it, with its listeners, whose pool belongs to the running loop."""
    pool, running = engine.sync_engine.pool, asyncio.get_running_loop()
    first = _loops.setdefault(pool, running)
    if first is running or first.is_closed() or not _can_end(engine):
        _loops[pool] = running
        return engine
    twin = copy.copy(engine.sync_engine)
    twin.pool = pool.recreate()
    return AsyncEngine(twin)


def remember(engine: sa.Engine, made: tuple[Address, dict[str, Any]]) -> None:
    """Note of what an engine is made."""
    _ours[engine] = made


def _is_idle(engine: AsyncEngine) -> bool:
    pool = engine.sync_engine.pool
    return isinstance(pool, sa.QueuePool) and pool.checkedout() == 0


def _can_end(engine: AsyncEngine) -> bool:
    """A database in memory ends with its connection, which works in any loop."""
    return not backend_for(engine.dialect).is_in_memory(engine)


def _forget(engine: AsyncEngine) -> None:
    """Leave connections alone whose loop is closed: in it nothing can be sent any more."""
    if _can_end(engine):
        engine.sync_engine.dispose(close=False)


async def dispose_all() -> None:
    """Close the pools of the engines that were opened for this event loop."""
    if opened := _opened.get(asyncio.get_running_loop()):
        await opened.close()


def _open(address: Address, options: dict[str, Any]) -> AsyncEngine:
    settings: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": True} | options
    backend = backend_for(address.url.get_dialect()())
    url, arguments = backend.driver_arguments(address.url, address.arguments)
    settings["connect_args"] = _merged(backend.connect_arguments, arguments, settings.get("connect_args", {}))
    try:
        engine = create_async_engine(url, **settings)
    except ImportError as error:
        what = f"the driver of {address.url.drivername} is not installed"
        raise PlanError(what, hint=f"Install it: pip install {error.name}.") from error
    except (TypeError, sa.exc.ArgumentError) as error:
        hint = "Pass connect() what sqlalchemy.ext.asyncio.create_async_engine takes."
        raise PlanError(f"could not create the engine: {one_line(error)}", hint=hint) from error
    engine.__class__ = _Connected  # another object beside it would take its place in SQLAlchemy's registry of proxies
    engine.sync_engine.url = address.url  # with what the driver takes as arguments: another engine can be made of it
    _ours[engine.sync_engine] = address, options
    sa.event.listen(engine.sync_engine, "do_connect", connect_in_secret)
    backend.configure_engine(engine, settings["connect_args"], address.url)
    return engine


def _merged(*arguments: dict[str, Any]) -> dict[str, Any]:
    """The driver's arguments, later ones first; the server's settings are merged one by one."""
    server = [found for one in arguments for found in [one.get("server_settings")] if found is not None]
    merged = dict(ChainMap(*reversed(arguments)))
    return merged | ({"server_settings": dict(ChainMap(*reversed(server)))} if server else {})


def describe_url(engine: AsyncEngine) -> str:
    """The database as it may be shown: its kind, host and port, without user or password; a socket is local."""
    return backend_for(engine.dialect).describe_url(engine.url)


def connections_of(engine: AsyncEngine) -> float:
    """How many connections the engine's pool gives out at once; a pool that shares a single one has but that one."""
    pool = engine.sync_engine.pool
    if isinstance(pool, sa.QueuePool):
        return math.inf if pool.size() == 0 or pool._max_overflow < 0 else pool.size() + pool._max_overflow
    return math.inf if isinstance(pool, sa.NullPool) else 1


async def reach(
    engine: object, connection: AsyncConnection | AsyncSession | None
) -> tuple[AsyncEngine, AsyncConnection | None]:
    """The engine to use in the running loop, and the caller's own connection where everything is done in that."""
    if connection is None:
        return resolve(engine), None
    borrowed = await connection.connection() if isinstance(connection, AsyncSession) else connection
    _loops.setdefault(borrowed.engine.sync_engine.pool, asyncio.get_running_loop())  # the caller may be its first user
    return borrowed.engine, borrowed


async def open_connection(engine: AsyncEngine, *, reads_only: bool = False) -> AsyncConnection:
    """A connection of the engine's pool; if the caller is cancelled meanwhile, it goes back when it is there.

    A moment is waited for that: some versions of SQLAlchemy lose the connection that a cancelled task is opening.

    Parameters
    ----------
    reads_only : bool
        Whether it is for questions only: SQLite would make a file that is not there, so an empty database answers.
    """
    if reads_only and backend_for(engine.dialect).is_missing(engine.url):
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=sa.NullPool)
    opening = asyncio.ensure_future(_started(engine))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await finish_despite_cancel(_given_up(opening), 2 * OPENING_SECONDS)
        raise


async def _started(engine: AsyncEngine) -> AsyncConnection:
    try:
        while await is_lost(connection := await engine.connect()):  # a pool that does not test what it gives out
            await close(connection)
        if "schema_translate_map" in engine.get_execution_options():  # names are final, and not translated again
            await connection.execution_options(schema_translate_map=None)
    except Exception as error:  # the caller's own engine connects without our connector
        cut_off_frames(error)
        mark_connecting(error)
        raise
    backend_for(engine.dialect).prepare_connection(connection)
    return connection


async def _given_up(opening: asyncio.Future[AsyncConnection]) -> None:
    """Close a connection when it is there; one that is not there in time is cut.

    The first cancel ends the wait for the server; SQLAlchemy then says goodbye to it, until another cancel.
    """
    await asyncio.wait({opening}, timeout=OPENING_SECONDS)
    while not opening.done():
        opening.cancel()
        await asyncio.wait({opening}, timeout=CUT_SECONDS)
    if not opening.cancelled() and opening.exception() is None:
        await close(opening.result())


async def close(connection: AsyncConnection) -> bool:
    """Give a connection back to its pool, which forgets one that is lost, and tell whether it was.

    SQLAlchemy counts a connection as checked out for ever whose reset was cancelled, so a cancel waits for a moment.
    """
    clears = backend_for(connection.dialect).cursors_hold_locks
    for error in chain(sys.exception()) if clears else ():
        if isinstance(error, asyncio.CancelledError):
            traceback.clear_frames(error.__traceback__)  # SQLAlchemy 2.0 leaves a cursor in them, and so SQLite's lock
    closing = start_task(_closed(connection))
    try:
        return await asyncio.shield(closing)
    except asyncio.CancelledError:
        await finish_despite_cancel(asyncio.wait({closing}), 2 * OPENING_SECONDS)
        raise


async def _closed(connection: AsyncConnection) -> bool:
    lost = True
    try:
        lost = await is_lost(connection)
        if lost:
            await connection.invalidate()
    finally:
        await connection.close()
    return lost


async def is_lost(connection: AsyncConnection) -> bool:
    """Whether the driver's connection has ended."""
    if connection.invalidated:
        return True
    driver = await base.driver_of(connection)
    return bool(hasattr(driver, "is_closed") and driver.is_closed())
