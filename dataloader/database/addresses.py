"""Addresses: what a database's URL says, with its secrets apart. Errors are returned: no traceback shows the URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dataloader.errors import PlanError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

_ASYNC_DRIVERS = {
    "postgresql": "asyncpg",
    "postgres": "asyncpg",
    "sqlite": "aiosqlite",
    "mysql": "asyncmy",
    "mariadb": "asyncmy",
    "oracle": "oracledb_async",
    "mssql": "aioodbc",
}
_CHOSEN_DRIVERS = ("postgresql", "postgres", "sqlite")
"""Databases whose bare URL, without a driver, means the driver in the table above."""
_SECRET_OPTIONS = ("password", "sslpassword", "passfile")


class Secret(str):
    """A password that repr() does not show: tracebacks that print local variables call repr()."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True)
class Address:
    """A database's URL without its secrets, and the secrets apart."""

    url: URL
    secrets: dict[str, Secret]
    options: dict[str, Any]
    engine: AsyncEngine | None = None
    """What `connect` made of it: it is used as it is, with the caller's listeners."""


def parsed(url: str | URL, options: dict[str, Any]) -> Address | PlanError:
    """Read a URL. An error is returned, not raised: no frame that holds the password is in its traceback."""
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        hint = "Write postgresql://user:password@host:5432/database or sqlite:///file.db."
        return PlanError("the database URL cannot be read", hint=hint)
    if "@" in (parsed.host or ""):
        hint = "Write %40 for an @ in the password: urllib.parse.quote(password, safe='') does."
        return PlanError("the database URL has more than one @", hint=hint)
    backend, _, driver = parsed.drivername.partition("+")
    if not driver and backend in _CHOSEN_DRIVERS:
        driver = _ASYNC_DRIVERS[backend]
        parsed = parsed.set(drivername=f"{'sqlite' if backend == 'sqlite' else 'postgresql'}+{driver}")
    problem = _driver_problem(parsed)
    return problem or without_secrets(parsed, options)


def _driver_problem(url: URL) -> PlanError | None:
    backend = url.drivername.partition("+")[0]
    known = _ASYNC_DRIVERS.get(backend)
    advice = f"Write {backend}+{known}://..." if known else "Use postgresql+asyncpg:// or sqlite+aiosqlite://."
    try:
        dialect = url.get_dialect(_is_async=True)
    except sa.exc.NoSuchModuleError:
        return PlanError(f"SQLAlchemy knows no database driver {url.drivername!r}", hint=advice)
    if not dialect.is_async:
        return PlanError(f"the driver {url.drivername!r} is not async", hint=advice)
    return None


def without_secrets(url: URL, options: dict[str, Any]) -> Address:
    query = dict(url.query)
    secrets = {name: Secret(query.pop(name)) for name in _SECRET_OPTIONS if name in query}
    if url.password is not None:
        secrets["password"] = Secret(url.password)
    if "connect_args" in options:
        arguments = dict(options["connect_args"])
        secrets |= {name: Secret(arguments.pop(name)) for name in _SECRET_OPTIONS if _is_text(arguments.get(name))}
        options = options | {"connect_args": arguments}
    if "sslmode" in query and url.drivername.endswith("+asyncpg"):
        query["ssl"] = query.pop("sslmode")
    bare = sa.URL.create(
        url.drivername,
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query=query,
    )
    return Address(bare, secrets, options)


def _is_text(value: object) -> bool:
    """asyncpg takes a function as well, which makes the password."""
    return isinstance(value, str)
