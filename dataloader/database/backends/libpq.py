"""The connection parameters of libpq, which every console and every guide of PostgreSQL writes, for asyncpg.

They come from the URL, from a service of pg_service.conf and from the environment, in this order. Each of them is
carried out, or refused by its name: one that is dropped may be the one that made the connection safe.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Mapping
from configparser import Error as ConfigError
from configparser import RawConfigParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

import sqlalchemy as sa

from dataloader.errors import PlanError
from dataloader.formatting import closest

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_TLS = ("sslmode", *_FILES, "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version")
"""What asyncpg reads from its own URL."""
_ARGUMENTS = ("passfile", "target_session_attrs", "krbsrvname", "gsslib")
"""What asyncpg takes as an argument of the same name."""
_DRIVERS_OWN = {
    "command_timeout": float,
    "timeout": float,
    "statement_cache_size": int,
    "max_cached_statement_lifetime": int,
    "max_cacheable_statement_size": int,
    "prepared_statement_cache_size": int,
}
"""What SQLAlchemy's URLs may say to asyncpg beside the parameters of libpq."""
_KEEPALIVES = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
_TCP = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
_HANDLED = {
    *_TLS,
    *_ARGUMENTS,
    *_DRIVERS_OWN,
    *_KEEPALIVES,
    *("host", "port", "dbname", "user", "password", "sslnegotiation", "connect_timeout"),
    *("application_name", "fallback_application_name", "options"),
}
_NO = {"0", "false", "off", "no", ""}
_HARMLESS = {
    "channel_binding": {"disable", "prefer", "require"},  # see _mode
    "client_encoding": {"auto", "utf8", "utf-8", "unicode"},
    "gssencmode": {"disable", "prefer"},
    "gssdelegation": _NO,
    "load_balance_hosts": {"disable"},
    "max_protocol_version": {"3.0", "latest"},
    "min_protocol_version": {"3.0"},
    "replication": _NO,
    "sslcertmode": {"allow"},
    "sslcompression": _NO,
    "sslsni": {"1"},
}
"""Parameters that asyncpg has not, with the values that ask for nothing but what it does."""
_IMPOSSIBLE = {
    *("hostaddr", "oauth_client_id", "oauth_client_secret", "oauth_issuer", "oauth_scope", "require_auth"),
    *("requirepeer", "scram_client_key", "scram_server_key", "sslcrldir", "sslkeylogfile"),
}
_VARIABLES = {
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
    "PGUSER": "user",
    "PGREQUIREAUTH": "require_auth",
    "PGCHANNELBINDING": "channel_binding",
    "PGAPPNAME": "application_name",
    "PGOPTIONS": "options",
    "PGCONNECT_TIMEOUT": "connect_timeout",
    "PGSSLMODE": "sslmode",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCRL": "sslcrl",
    "PGSSLCRLDIR": "sslcrldir",
    "PGSSLCERTMODE": "sslcertmode",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGREQUIREPEER": "requirepeer",
    "PGGSSENCMODE": "gssencmode",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGLOADBALANCEHOSTS": "load_balance_hosts",
}
"""PGPASSWORD and PGPASSFILE are left to the driver: what is read there stays there."""
_PAIRS = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.DOTALL)
_HOSTS = re.compile(r"^(postgres(?:ql)?(?:\+\w+)?://(?:[^@/?#]*@)?)([^/?#@]*,[^/?#@]*)", re.IGNORECASE)


def read_conninfo(text: str) -> URL | None:
    """A URL for libpq's other form, ``host=... dbname=...``; None if the text is not of this form."""
    pairs, end = {}, 0
    while found := _PAIRS.match(text, end):
        value = found[2] if found[2] is not None else found[3]
        pairs[found[1]], end = re.sub(r"\\(.)", r"\1", value), found.end()
    return sa.URL.create("postgresql", query=pairs) if pairs and not text[end:].strip() else None


def without_hosts(text: str) -> tuple[str, dict[str, str]]:
    """The text of a URL without its several hosts, which SQLAlchemy cannot read, and they as parameters."""
    found = _HOSTS.match(text)
    if found is None or "@" in text[found.end() :]:  # a password that is not encoded is no host
        return text, {}
    pairs = [one.rpartition(":") if re.search(r":\d*$", one) else (one, "", "") for one in found[2].split(",")]
    query = {"host": ",".join(unquote(host).strip("[]") for host, _, _ in pairs)}
    if any(port for _, _, port in pairs):
        query["port"] = ",".join(port or "5432" for _, _, port in pairs)
    return found[1] + text[found.end() :], query


def completed(url: URL) -> URL:
    """The URL with the parameters of its service and of the environment, each of them checked.

    Raises
    ------
    PlanError
        When there is no such service or file, or asyncpg cannot do what a parameter asks for.
    """
    given = _plain({name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()})
    fields = {"host": url.host, "port": url.port, "dbname": url.database, "user": url.username}
    given |= {name: str(value) for name, value in fields.items() if value}
    service = _service(given.pop("service", None) or os.environ.get("PGSERVICE"), given.pop("servicefile", None))
    variables = {name: os.environ[variable] for variable, name in _VARIABLES.items() if variable in os.environ}
    found: dict[str, str] = {}
    for where, parameters in {"the URL": given, "the service": service, "the environment": variables}.items():
        for name, value in parameters.items():
            if value and name not in found:
                _check(name, value, where)
                found[name] = value
    _mode(found)
    return _placed(url, found)


def _plain(given: dict[str, str]) -> dict[str, str]:
    """Other spellings, which libpq and SQLAlchemy accept, in the one that is used here."""
    for old, new in (("ssl", "sslmode"), ("database", "dbname")):
        if old in given:
            given.setdefault(new, given.pop(old))
    if given.get("sslmode", "").lower() in {"true", "1"}:  # as in the URLs of JDBC
        given["sslmode"] = "require"
    if given.pop("requiressl", "0") == "1":
        given.setdefault("sslmode", "require")
    return given


def _check(name: str, value: str, where: str) -> None:
    if name in _IMPOSSIBLE or (name in _HARMLESS and value.lower() not in _HARMLESS[name]):
        what = f"{name}={value}" if name in _HARMLESS else name  # its value may be a secret
        hint = f"Remove it from {where}, or use libpq: pip install 'psycopg[binary]', and postgresql+psycopg://..."
        raise PlanError(f"the driver asyncpg cannot do {what}", hint=hint)
    if name not in _HANDLED and name not in _HARMLESS:
        near = closest(name, [*_HANDLED, *_HARMLESS])
        hint = f"Did you mean {near!r}?" if near else f"Remove it from {where}."
        raise PlanError(f"PostgreSQL has no connection parameter {name!r}", hint=hint)
    if name.startswith("ssl_m") and value not in _VERSIONS:
        raise PlanError(f"{name} must be one of {', '.join(_VERSIONS)}, got {value!r}", hint=f"Correct it in {where}.")
    if name in _FILES and value != "system" and not Path(value).is_file():
        raise PlanError(f"the file of {name} is not there: {value}", hint=f"Correct its path in {where}.")
    wanted = _DRIVERS_OWN.get(name) or (int if name in {"connect_timeout", *_KEEPALIVES} else None)
    if wanted is not None:
        _check_number(name, value, where, wanted)


def _check_number(name: str, value: str, where: str, kind: type[int] | type[float]) -> None:
    try:
        kind(value)
    except ValueError:
        raise PlanError(f"{name} must be a number, got {value!r}", hint=f"Correct it in {where}.") from None


def _mode(given: dict[str, str]) -> None:
    """Decide `sslmode`.

    Channel binding proves that the server at the other end of the encryption is the one that knows the password.
    asyncpg has none; where it is required the server's certificate is verified, which proves no less.
    """
    mode, roots = given.get("sslmode"), given.get("sslrootcert")
    if mode is not None and mode not in MODES:
        raise PlanError(f"sslmode must be one of {', '.join(MODES)}, got {mode!r}", hint="Correct it.")
    if given.get("channel_binding") == "require":
        if mode == "disable":
            hint = "Remove one of them."
            raise PlanError("channel_binding=require and sslmode=disable exclude each other", hint=hint)
        given["sslmode"] = mode = "verify-full"
        roots = given.setdefault("sslrootcert", "system")
    if roots == "system" and mode not in {None, "verify-full"}:
        hint = "Use sslmode=verify-full."
        raise PlanError(f"sslmode={mode} is too weak for sslrootcert=system", hint=hint)
    if roots == "system":
        given["sslmode"] = "verify-full"


def _placed(url: URL, given: dict[str, str]) -> URL:
    """The URL, its fields filled in from parameters where they are those of one host."""
    hosts, ports = given.get("host", ""), given.get("port", "")
    _check_ports(hosts, ports)
    fields: dict[str, Any] = {"username": given.pop("user", None), "database": given.pop("dbname", None)}
    if hosts and "," not in hosts and not hosts.startswith("/"):
        fields |= {"host": given.pop("host"), "port": int(given.pop("port")) if ports else None}
    elif "," in hosts and "," not in ports:  # SQLAlchemy wants a port for each
        given["port"] = ",".join([ports or "5432"] * (hosts.count(",") + 1))
    if "host" in given:
        fields |= {"host": None, "port": None}
    elif not hosts and ports:
        fields["port"] = int(given.pop("port"))
    return url.set(query=given, **fields)


def _check_ports(hosts: str, ports: str) -> None:
    if not all(re.fullmatch(r"\d{1,5}", port) for port in ports.split(",") if port):
        raise PlanError("a port of the database URL is not a number", hint="Correct it.")
    if "," in ports and ports.count(",") != hosts.count(","):
        raise PlanError(f"{hosts.count(',') + 1} hosts and {ports.count(',') + 1} ports", hint="Give one for each.")


def _service(name: str | None, file: str | None) -> dict[str, str]:
    if name is None:
        return {}
    file = file or os.environ.get("PGSERVICEFILE")
    places = [Path(file).expanduser()] if file else [Path.home() / ".pg_service.conf"]
    system = os.environ.get("PGSYSCONFDIR", "/etc/postgresql-common")
    for place in [*places, Path(system) / "pg_service.conf"]:
        services = RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=False, default_section="")
        try:
            services.read(place, "utf-8")
        except ConfigError:  # it quotes the line, which may hold a password
            raise PlanError(f"{place} cannot be read", hint="Write one parameter=value to a line.") from None
        if services.has_section(name):
            return _plain(dict(services.items(name)))
    hint = f"Write a section [{name}] there, or set PGSERVICEFILE."
    raise PlanError(f"there is no service {name!r} in {places[0]}", hint=hint)


def is_known(name: str) -> bool:
    """Whether libpq has a parameter of this name; its drivers have arguments of their own beside those."""
    return name in _HANDLED or name in _HARMLESS or name in _IMPOSSIBLE or name in {"service", "servicefile"}


def asyncpg_arguments(url: URL, secrets: Mapping[str, Any]) -> tuple[URL, dict[str, Any]]:
    """What a URL that `completed` has checked says to asyncpg: its URL, and arguments beside those of the URL."""
    given = {name: value for name, value in url.query.items() if isinstance(value, str)}
    arguments: dict[str, Any] = {name: value for name, value in secrets.items() if name != "sslpassword"}
    arguments |= {name: given[name] for name in _ARGUMENTS if name in given}
    arguments |= {name: kind(given[name]) for name, kind in _DRIVERS_OWN.items() if name in given}
    if "connect_timeout" in given:
        arguments["timeout"] = max(0, int(given["connect_timeout"])) or None  # 0 and less is no limit
    if given.get("sslnegotiation") == "direct":
        arguments["direct_tls"] = True
    arguments |= _tls(given, secrets.get("sslpassword"))
    server = {name: given[name] for name in ("application_name", "options") if name in given}
    if "fallback_application_name" in given:
        server.setdefault("application_name", given["fallback_application_name"])
    if server:
        arguments["server_settings"] = server
    return url.set(query={name: given[name] for name in ("host", "port") if name in given}), arguments


def _tls(given: Mapping[str, str], password: Any) -> dict[str, Any]:
    """asyncpg reads certificates from a URL of its own only, and knows no roots of the system."""
    if given.get("sslrootcert") == "system":
        return {"ssl": _trusting_the_system(given, password)}
    query = {name: given[name] for name in _TLS if name in given}
    if password is not None:
        query["sslpassword"] = password
    if not query:
        return {}
    dsn = "postgresql:///?" + urlencode(query, quote_via=quote)
    return {"dsn": dsn if password is None else type(password)(dsn)}


def _trusting_the_system(given: Mapping[str, str], password: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])  # PostgreSQL 17 wants it for direct TLS
    if low := given.get("ssl_min_protocol_version"):
        context.minimum_version = ssl.TLSVersion[low.replace(".", "_")]
    if high := given.get("ssl_max_protocol_version"):
        context.maximum_version = ssl.TLSVersion[high.replace(".", "_")]
    if "sslcrl" in given:
        context.load_verify_locations(cafile=given["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if "sslcert" in given:
        context.load_cert_chain(given["sslcert"], given.get("sslkey"), password=lambda: str(password or ""))
    return context


def replaces_channel_binding(url: URL) -> bool:
    """Whether the URL asks for channel binding, in whose place the certificate is verified."""
    return url.query.get("channel_binding") == "require"


def socket_options(url: URL) -> list[tuple[int, int, int]]:
    """What the URL says of TCP's keepalives, in the system's terms: level, option, value."""
    given = {name: int(str(url.query[name])) for name in _KEEPALIVES if name in url.query}
    if not given or given.get("keepalives") == 0:
        return []
    found = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, option in _TCP.items():
        if given.get(name) and hasattr(socket, option):
            found.append((socket.IPPROTO_TCP, getattr(socket, option), given[name]))
    return found
