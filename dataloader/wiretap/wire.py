"""`wire`: an engine whose connections go through a proxy, and what that has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database.backends import backend_for
from dataloader.database.detours import Detour
from dataloader.database.engine import open_engine, parse_engine
from dataloader.errors import DataLoaderError, PlanError
from dataloader.wiretap.counts import Counts, Step
from dataloader.wiretap.proxy import Proxy
from dataloader.wiretap.tables import as_frame, as_html, as_text

if TYPE_CHECKING:
    import pandas as pd


def wire(engine: AsyncEngine | sa.Engine | str | sa.URL | None = None) -> Wire:
    """Show what goes over the wire to PostgreSQL: every message, for each statement, in both directions.

    In the block, ``w.engine`` is an engine like the one given whose connections go through a proxy on this
    machine's loopback, which counts and passes everything on. The engine given is left alone: what other
    code does with it meanwhile is not seen. Statements are shown without their values; passwords are counted,
    and never kept. The proxy runs in a thread of its own; a COPY through it is about as fast as without.

    Parameters
    ----------
    engine : AsyncEngine, sqlalchemy.Engine or URL, optional
        Of PostgreSQL, with the driver asyncpg or psycopg; None: the default, as for a load. The server may be
        reached over TLS or a Unix socket: the proxy connects as the engine does, and the way to the proxy is plain.
        A login by Kerberos cannot go through it.

    Returns
    -------
    Wire
        Use it in ``with`` or ``async with``. At the end of the block the connections of ``w.engine`` are closed.

    Raises
    ------
    PlanError
        When the database is not PostgreSQL, the driver is another one, or the engine has a ``creator=``.

    Examples
    --------
    >>> import dataloader as dl
    >>> async def load(engine):
    ...     async with dl.wire(engine) as w:
    ...         await dl.load_dataframe({"id": [1, 2]}, "numbers", engine=w.engine)
    ...     return w
    >>> with dl.wire("postgresql://me@localhost/shop") as w:  # it connects when it is used
    ...     w.engine
    <AsyncEngine: PostgreSQL localhost:5432/shop as me>
    >>> w.round_trips
    0
    """
    known = engine if isinstance(engine, sa.Engine) else parse_engine(engine)
    if not isinstance(known, (AsyncEngine, sa.Engine)):
        known = known.engine or open_engine(known)
    backend = backend_for(known.dialect)
    if backend.wire_obstacle is not None:
        raise PlanError(f"the wire cannot be shown: {backend.wire_obstacle}", hint="Pass an engine of PostgreSQL.")
    return Wire(known, backend.describe_url(known.url))


class Wire:
    """What went over the wire in the block of `wire`. Printed as text; shown as a table in a notebook.

    Attributes
    ----------
    engine : AsyncEngine or sqlalchemy.Engine
        In the block, the engine to use.
    """

    def __init__(self, engine: AsyncEngine | sa.Engine, database: str) -> None:
        self._original = engine
        self._database = database
        self._counts = Counts()
        self._proxy: Proxy | None = None
        self._detour: Detour | None = None

    @property
    def engine(self) -> Any:
        if self._detour is None:
            hint = "Write: with dl.wire(engine) as w: ... w.engine ..."
            raise DataLoaderError("dl.wire() has not begun", hint=hint)
        return self._detour.engine

    @property
    def steps(self) -> tuple[Step, ...]:
        """What each statement sent and received, in the order in which they first came."""
        return self._counts.steps()

    @property
    def messages(self) -> pd.DataFrame:
        """A row for each kind of message of each statement: statement, sender, message, count, bytes."""
        return as_frame(self.steps)

    @property
    def round_trips(self) -> int:
        """How often the client had to wait for an answer; those of logging in included."""
        return sum(one.round_trips for one in self.steps)

    def __enter__(self) -> Self:
        if self._proxy is not None:
            raise DataLoaderError("this dl.wire() has been used", hint="Call dl.wire() again.")
        self._proxy = Proxy(self._counts)
        self._detour = Detour(self._original, self._proxy.ports, self._proxy.secret)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._detour is not None
        assert self._proxy is not None
        self._detour.close()
        self._proxy.stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        assert self._detour is not None
        await self._detour.release()
        self.__exit__()

    def __str__(self) -> str:
        return as_text(self._database, self.steps)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self._database, self.steps)
