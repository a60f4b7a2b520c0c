"""Drivers: which one a database's URL means or should name, and URLs as they understand them."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url

_MEANT = {"postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
"""What a URL without a driver means."""
_ASYNC = _MEANT | {
    "mysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
    "oracle": "oracle+oracledb_async",
    "mssql": "mssql+aioodbc",
}


def with_driver(url: URL) -> URL:
    """The URL with the driver that it means."""
    return url.set(drivername=_MEANT.get(url.drivername, url.drivername))


def read_url(text: str) -> URL:
    """A URL from its text, which may have several hosts, or be ``host=... dbname=...``.

    Raises
    ------
    sqlalchemy.exc.ArgumentError, ValueError
        When it cannot be read.
    """
    if "://" in text and "," not in text:
        return make_url(text)
    from dataloader.database.backends import libpq  # noqa: PLC0415 - only for PostgreSQL

    if "://" not in text and (url := libpq.read_conninfo(text)) is not None:
        return url
    if "," not in text:
        return make_url(text)
    text, hosts = libpq.without_hosts(text)
    return make_url(text).update_query_dict(hosts)


def with_parameters(url: URL) -> URL:
    """The URL with what libpq's services and variables say beside it; as it is where the driver is libpq, or another's.

    Raises
    ------
    PlanError
        When the driver cannot do what a parameter asks for.
    """
    if url.drivername != "postgresql+asyncpg":
        return url
    from dataloader.database.backends import libpq  # noqa: PLC0415 - only for PostgreSQL

    return libpq.completed(url)


def async_driver(url: URL) -> str | None:
    """The name of a driver for the URL's database that is async, if one is known."""
    return _ASYNC.get(url.drivername.partition("+")[0])
