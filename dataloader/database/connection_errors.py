"""Why no connection could be made, in words: the cause, the place and what to do."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from dataloader.database.situations import TOO_MANY
from dataloader.database.sqlstates import kind_of, remedy_of
from dataloader.errors import ConnectionFailed

_AGAIN = "load again"
_LOGIN_TEXTS = (
    ("no encryption", "The server asks for TLS: add sslmode=require to the URL."),
    ("password authentication failed", remedy_of("28P01", _AGAIN)),
    (r'role ".*" does not exist', "Check the user in the URL, or create the role."),
    (r'database ".*" does not exist', remedy_of("3D000", _AGAIN)),
    ("pg_hba", remedy_of("28000", _AGAIN)),
)
_NO_TLS = ("rejected SSL upgrade", "does not support SSL")
_CAUSES = (
    (r"Errno 111\]|Errno 61\]|[Rr]efused", "the connection was refused", "Check that the server runs, and {where}."),
    (r"[Tt]imed? ?out|TimeoutError", "it did not answer in time", "Check {where}, and that no firewall is in between."),
    (r"Errno 2\]|No such file", "there is no socket of a server", "Check that the server runs, and {where}."),
    (
        r"unexpected connection_lost|invalid response|received invalid",
        "what answers there is no PostgreSQL, or ended the connection at once",
        "Check {where}.",
    ),
    (r"Errno 13\]|Permission denied", "its socket may not be used", "Ask for the right to use it, and check {where}."),
    (r"unreachable|No route", "there is no way to it in the network", "Check {where}, and this machine's network."),
)
_PSYCOPG = re.compile(
    r"connection failed: |connection (?:to server )?[^:]*? failed: |FATAL: +| Is the server running.*"
)
_PREFIXES = ("connection failed", "connection is bad")
_UNREACHABLE = (ConnectionError, TimeoutError, OSError)


def failure(
    errors: Sequence[BaseException], sqlstate: str | None, text: str, database: str, *, is_cut: bool = False
) -> ConnectionFailed | None:
    """What is to be said where no connection could be made; None where that is not what happened.

    Parameters
    ----------
    errors : sequence of BaseException
        The driver's error and everything behind it.
    sqlstate : str or None
        PostgreSQL's code, if it has given one.
    text : str
        The driver's message, in one line.
    database : str
        The database as it may be shown.
    is_cut : bool
        Whether the connection ended while it was being made.
    """
    said = _PSYCOPG.sub("", text).strip()
    if is_cut:
        return _unreached("unexpected connection_lost", said, database)
    if sqlstate is not None:
        return _login(sqlstate, said, database) or _busy(sqlstate, said, database)
    if text.startswith(_PREFIXES) and (refused := _login(None, said, database) or _busy(None, said, database)):
        return refused
    return (
        _unopened(text, database)
        or _unknown_host(errors, text, database)
        or _untrusted(errors, text, database)
        or (_unreached(text, said, database) if _is_unreachable(errors, text) else None)
    )


def _failed(what: str, hint: str, *, is_transient: bool = False) -> ConnectionFailed:
    error = ConnectionFailed(what, hint=hint, committed_rows=0)
    error.is_transient = is_transient
    return error


def _login(sqlstate: str | None, said: str, database: str) -> ConnectionFailed | None:
    if sqlstate is not None and kind_of(sqlstate) != "login":
        return None
    of_state = None if sqlstate is None else remedy_of(sqlstate, _AGAIN)
    hint = next((hint for pattern, hint in _LOGIN_TEXTS if re.search(pattern, said)), of_state)
    return None if hint is None else _failed(f"cannot log in to {database}: {said}", hint)


def _busy(sqlstate: str | None, said: str, database: str) -> ConnectionFailed | None:
    if not (kind_of(sqlstate) == "busy" if sqlstate is not None else re.search(TOO_MANY, said)):
        return None
    hint = "Load again in a while, or have connections closed that nobody needs."
    return _failed(f"{database} takes no connection: {said}", hint, is_transient=True)


def _unopened(text: str, database: str) -> ConnectionFailed | None:
    """SQLite says of every file alike that it cannot open it."""
    path = Path(database.removeprefix("SQLite ").removeprefix("file:"))
    if "file is not a database" in text:
        return _failed(f"cannot open {database}: the file is not a SQLite database", "Correct the path in the URL.")
    if "unable to open database file" not in text:
        return None
    if path.is_dir():
        why, hint = "it is a folder", "Name a file in it."
    elif not path.parent.exists():
        why, hint = f"the folder {path.parent} does not exist", "Create it, or correct the path in the URL."
    else:
        why, hint = (
            "this user may not open it, or create it",
            "Have its rights and its folder's changed, or correct the path.",
        )
    return _failed(f"cannot open {database}: {why}", hint)


def _unknown_host(errors: Sequence[BaseException], text: str, database: str) -> ConnectionFailed | None:
    """What the resolver says: it may have no network just now, so that a load under way asks again."""
    if not any(isinstance(one, socket.gaierror) for one in errors) and "failed to resolve host" not in text:
        return None
    host = re.sub(r":\d*$", "", database.partition(" ")[2].partition("/")[0]) or database
    hint = "Check the host in the URL, and that this machine has a network."
    return _failed(f"the host name {host} is unknown", hint, is_transient=True)


def _untrusted(errors: Sequence[BaseException], text: str, database: str) -> ConnectionFailed | None:
    if any(refusal in text for refusal in _NO_TLS):
        hint = "Check the port; turn TLS on in the server, or, in a network that is trusted, write sslmode=prefer."
        return _failed(f"cannot connect to {database} by TLS: the server does not offer it, or is no PostgreSQL", hint)
    if not any(isinstance(one, ssl.SSLError) for one in errors) and "certificate verify failed" not in text:
        return None
    reason = next((one.verify_message for one in errors if isinstance(one, ssl.SSLCertVerificationError)), text)
    hint = "Write the host as in the certificate, and name who signed it: sslrootcert=file, or sslrootcert=system."
    return _failed(f"cannot trust {database}: {reason.rstrip('.')}", hint)


def _is_unreachable(errors: Sequence[BaseException], text: str) -> bool:
    return text.startswith(_PREFIXES) or any(isinstance(one, _UNREACHABLE) for one in errors)


def _unreached(text: str, said: str, database: str) -> ConnectionFailed:
    where = "the folder of its socket in the URL" if " local:" in database else "the host and port in the URL"
    for pattern, cause, hint in _CAUSES:
        if re.search(pattern, text):
            return _failed(f"cannot reach {database}: {cause}", hint.format(where=where), is_transient=True)
    hint = f"Check that the server runs, and {where}."
    return _failed(f"cannot reach {database}: {said}", hint, is_transient=True)
