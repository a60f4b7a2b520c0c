"""What a database's URL says. Its passwords are hidden: a traceback that prints local variables calls repr()."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from dataloader.database.backends.drivers import async_driver, with_driver
from dataloader.errors import PlanError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_SECRET_OPTIONS = ("password", "sslpassword", "passfile")


class Secret(str):
    """A password, or a URL with one, that repr() does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return self  # SQLAlchemy gives the driver str() of a URL's password

    def reveal(self) -> str:
        """The plain string: asyncpg takes no other."""
        return str.__str__(self)


@dataclass(frozen=True, slots=True)
class Address:
    """A database's URL, and the driver's arguments that it names and does not hide.

    Attributes
    ----------
    engine : AsyncEngine or None
        What `connect` made of it: it is used as it is, with the caller's listeners.
    """

    url: URL
    arguments: dict[str, Secret]
    engine: AsyncEngine | None = None

    @classmethod
    def of(cls, url: URL) -> Address:
        url = with_driver(url)
        query = dict(url.query)
        secrets = hide_passwords({name: query.pop(name) for name in _SECRET_OPTIONS if name in query})
        password = secrets.pop("password", None if url.password is None else Secret(url.password))
        return cls(url.set(password=password, query=query), secrets)


def hide_passwords(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A driver's arguments; a password may also be a function that makes it."""
    return {
        name: Secret(value) if name in _SECRET_OPTIONS and isinstance(value, str) else value
        for name, value in arguments.items()
    }


def hide_url(engine: Any) -> Any:
    """A URL in a form that shows no password, anything else as it is.

    It raises nothing: its caller, which puts the result in the URL's place, would show it.
    """
    if isinstance(engine, URL):
        return Address.of(engine)
    return Secret(engine) if isinstance(engine, str) else engine


def parse_url(url: str | URL | Address) -> Address:
    """Read a URL and check its driver.

    Raises
    ------
    PlanError
        When it cannot be read, or names a driver that is unknown or not async.
    """
    url = hide_url(url)
    address = url if isinstance(url, Address) else _read(Secret(url))
    name = address.url.drivername
    known = async_driver(address.url)
    hint = f"Write {known}://..." if known else "Use postgresql+asyncpg:// or sqlite+aiosqlite://."
    try:
        dialect = address.url.get_dialect(_is_async=True)
    except sa.exc.NoSuchModuleError:
        raise PlanError(f"SQLAlchemy knows no database driver {name!r}", hint=hint) from None
    if not dialect.is_async:
        raise PlanError(f"the driver {name!r} is not async", hint=hint)
    return address


def _read(text: Secret) -> Address:
    url = None
    with contextlib.suppress(sa.exc.ArgumentError, ValueError):
        url = make_url(text)
    if url is None:
        hint = "Write postgresql://user:password@host:5432/database or sqlite:///file.db."
        raise PlanError("the database URL cannot be read", hint=hint)
    if "@" in (url.host or ""):
        del url  # in its host is what follows the first @ of the password
        hint = "Write %40 for an @ in the password: urllib.parse.quote(password, safe='') does."
        raise PlanError("the database URL has more than one @", hint=hint)
    return Address.of(url)
