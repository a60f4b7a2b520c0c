"""Drivers: which one a database's URL means or should name, and what it calls the options of libpq."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_MEANT = {"postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
"""What a URL without a driver means."""
_ASYNC = _MEANT | {
    "mysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
    "oracle": "oracle+oracledb_async",
    "mssql": "mssql+aioodbc",
}


def with_driver(url: URL) -> URL:
    """The URL as its driver understands it."""
    url = url.set(drivername=_MEANT.get(url.drivername, url.drivername))
    if "sslmode" in url.query and url.drivername.endswith("+asyncpg"):
        query = dict(url.query)
        query["ssl"] = query.pop("sslmode")
        url = url.set(query=query)
    return url


def async_driver(url: URL) -> str | None:
    """The name of a driver for the URL's database that is async, if one is known."""
    return _ASYNC.get(url.drivername.partition("+")[0])
