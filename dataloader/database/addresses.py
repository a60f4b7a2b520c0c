"""What a database's URL says, and its password on the way to the driver.

Passwords are hidden: a traceback that prints local variables calls repr().
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.util import await_only

from dataloader.database.backends.drivers import async_driver, read_url, with_driver, with_parameters
from dataloader.database.driver_errors import chain
from dataloader.errors import ConnectionFailed, PlanError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_MASKED = "***"
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

    def completed(self) -> Address:
        """With what libpq's services and variables say beside the URL, for a driver that is not libpq.

        Raises
        ------
        PlanError
            When the driver cannot do what a parameter asks for.
        """
        url = self.url if self.engine is not None else with_parameters(self.url)
        if url is self.url:
            return self
        found = Address.of(url)
        given = self.url.password or found.url.password
        return Address(found.url.set(password=given), found.arguments | self.arguments)


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
    if address.url.password == _MASKED:
        hint = "Pass engine.url itself, or engine.url.render_as_string(hide_password=False)."
        raise PlanError(f"the password in the database URL is {_MASKED}, as str(engine.url) shows it", hint=hint)
    return address.completed()


def _read(text: Secret) -> Address:
    url = None
    with contextlib.suppress(sa.exc.ArgumentError, ValueError):
        url = read_url(text)
    if url is None:
        hint = "Write postgresql://user:password@host:5432/database or sqlite:///file.db."
        raise PlanError("the database URL cannot be read", hint=hint)
    if "@" in (url.host or ""):
        del url  # in its host is what follows the first @ of the password
        hint = "Write %40 for an @ in the password: urllib.parse.quote(password, safe='') does."
        raise PlanError("the database URL has more than one @", hint=hint)
    return Address.of(url)


def connect_in_secret(dialect: Any, _record: object, arguments: Any, parameters: dict[str, Any]) -> Any:
    """Connect with the plain passwords, if there are any, and cut the driver's frames off an error: they show them."""
    ask = parameters.get("password")
    secrets = {name: value for name, value in parameters.items() if isinstance(value, Secret)}
    if not secrets and not callable(ask):
        return None  # SQLAlchemy connects
    try:
        if callable(ask):
            secrets["password"] = await_only(_asked(ask))
        return dialect.connect(*arguments, **parameters | {name: one.reveal() for name, one in secrets.items()})
    except BaseException as error:
        cut_off_frames(error)
        raise


async def _asked(ask: Callable[[], Any]) -> Secret:
    """What the caller's function says is the password now."""
    try:
        found = ask() if inspect.iscoroutinefunction(ask) else await asyncio.to_thread(ask)
        found = await found if inspect.isawaitable(found) else found
    except Exception as error:
        hint = "It is called for each connection that is opened: see what it needs."
        raise ConnectionFailed(f"the function password= raised {type(error).__name__}: {error}", hint=hint) from error
    if not isinstance(found, str) or not found:
        raise PlanError("the function password= returned no password", hint="Return it as a string.")
    return Secret(found)


def cut_off_frames(error: BaseException) -> None:
    """Of the driver and of SQLAlchemy: their local variables hold the password."""
    for one in chain(error):
        one.__traceback__ = None
