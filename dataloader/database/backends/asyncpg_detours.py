"""Where asyncpg, and what speaks as libpq does, would connect to: asyncpg reads both."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from asyncpg import connect_utils
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from dataloader.database.backends import libpq
from dataloader.database.backends.detours import Login, Server

_read: Callable[..., tuple[Any, Any]] = vars(connect_utils)["_parse_connect_dsn_and_args"]
_READ = inspect.signature(_read).parameters
"""The arguments of asyncpg.connect() that say where to; some are of later versions."""
_ENCRYPTED = ("require", "verify_ca", "verify_full")


def login_of(arguments: dict[str, Any]) -> Login:
    """What arguments of asyncpg.connect() mean, with those of the environment."""
    addresses, found = _read(**{name: arguments.get(name) for name in _READ})
    direct = getattr(found, "ssl_negotiation", None)
    is_direct = direct is not None and direct.name == "direct"
    encryption = (found.ssl or None, found.sslmode.name in _ENCRYPTED, is_direct)
    servers = [Server(one, None) if isinstance(one, str) else Server(one[0], one[1], *encryption) for one in addresses]
    others = {name: getattr(found, name) for name in ("server_settings", "krbsrvname", "gsslib")}
    others["target_session_attrs"] = found.target_session_attrs.value
    return Login(servers, found.user, found.database, found.password, others)


def login_of_libpq(parameters: dict[str, Any]) -> Login:
    """What parameters of libpq mean, with those of its services and of the environment.

    Raises
    ------
    PlanError
        When one of them asks for what asyncpg cannot do.
    """
    given = {name: str(value) for name, value in parameters.items() if value is not None and libpq.is_known(name)}
    secrets: dict[str, Any] = {
        name: given.pop(name) for name in ("password", "sslpassword", "passfile") if name in given
    }
    url, arguments = libpq.asyncpg_arguments(
        libpq.completed(sa.URL.create("postgresql+asyncpg", query=given)),
        secrets,
    )
    _, placed = PGDialect_asyncpg().create_connect_args(url)  # type: ignore[no-untyped-call]
    login = login_of({**placed, **arguments})
    if "password" in secrets or "PGPASSWORD" in os.environ or not isinstance(login.password, str):
        return login
    return replace(login, password=re.sub(r"\\(.)", r"\1", login.password))  # of .pgpass, as it is written there
