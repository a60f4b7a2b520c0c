"""The one module where a driver's error becomes ours, or a row's refusal.

Errors are recognised by SQLSTATE and by class name, so that no driver is imported to recognise one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dataloader.database import situations, sqlstates
from dataloader.database.connection_errors import failure
from dataloader.errors import (
    IN_DOUBT,
    ConnectionLost,
    DataLoaderError,
    LoadError,
    PlanError,
    SourceFailed,
    WriteError,
)

_DETAIL = re.compile(r"\nDETAIL:.*?(?=\nHINT:|\Z)", re.DOTALL)
_MESSAGE_CHARACTERS = 1_000
"""A message may quote a value, which may be a whole book."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
LITERAL = re.compile(r"'(?:[^']|'')*(?:'|$)|\$(\w*)\$.*?(?:\$\1\$|$)", re.DOTALL)
"""A text that is written into a statement."""
_CONNECTING = "dataloader_connecting"
_AGAIN = "load again"
_CORRECT = "Correct what the message names, and load again."
_DRIVERS = {"asyncpg", "aiosqlite", "sqlite3", "psycopg", "sqlalchemy"}
_DRIVERS_WORDS = ("different loop", "connect() got an unexpected keyword argument")


@contextlib.contextmanager
def translated(database: str, *, first_row: int = 0, in_doubt: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn what the driver raises into our errors; the parameters are those of `translate`."""
    try:
        yield
    except DataLoaderError:
        raise
    except SourceFailed as carrying:
        raise carrying.error from carrying.error.__cause__
    except Exception as error:
        if not _is_drivers(error):
            raise
        raise translate(error, database, first_row=first_row, in_doubt=in_doubt()) from error


def _is_drivers(error: Exception) -> bool:
    """An error of SQLAlchemy, of a driver or of the network; any other is a bug and stays what it is."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & _DRIVERS) or any(word in str(error) for word in _DRIVERS_WORDS)


def translate(
    error: Exception, database: str, *, first_row: int = 0, row: int | None = None, in_doubt: bool = False
) -> DataLoaderError:
    """Turn a driver's error into ours.

    Parameters
    ----------
    error : Exception
        What the driver or SQLAlchemy raised.
    database : str
        The database as it may be shown: without a password.
    first_row : int
        The position in the source of the first row that was sent.
    row : int or None
        The refused row's position in the source, if the error is known to be about one row.
    in_doubt : bool
        Whether the commit was under way: a lost connection then leaves its outcome unknown.
    """
    sqlstate = sqlstate_of(error)
    text = _message(error)
    errors, is_lost = [*chain(error)], _is_closed(error)
    if _has_run_out(errors):
        what = f"{database} did not answer within the driver's command_timeout, and was left"
        hint = IN_DOUBT if in_doubt else "Raise command_timeout, or load fewer rows at once (chunk_rows=)."
        return ConnectionLost(what, hint=hint, committed_rows=None if in_doubt else 0)
    is_cut = is_lost and any(getattr(one, _CONNECTING, False) for one in errors)
    failed = None if is_lost and not is_cut else failure(errors, sqlstate, text, database, is_cut=is_cut)
    if failed is not None:
        return failed
    if sqlstate is not None and sqlstates.kind_of(sqlstate) not in {"lost", "busy"}:
        return _refused(error, sqlstate, text, database, first_row, row)
    return _lost(error, sqlstate, text, database, in_doubt) or _refused_without_state(error, text, database, row)


def _lost(error: Exception, sqlstate: str | None, text: str, database: str, in_doubt: bool) -> DataLoaderError | None:
    if sqlstate is not None or _is_closed(error):
        hint, rows = (IN_DOUBT, None) if in_doubt else ("Load again when the server answers.", 0)
        return ConnectionLost(f"the connection to {database} was lost: {text}", hint=hint, committed_rows=rows)
    if named := re.search(r"unexpected keyword argument (\S+)", text):
        hint = "Remove it from connect_args=, or from the URL."
        return PlanError(f"the driver for {database} has no option {named[1]}", hint=hint)
    if "different loop" in text:
        return of_another_loop(database)
    return None


def mark_connecting(error: Any) -> None:
    """Note that the error came while a connection was being made: what ends it then was no use from the start."""
    setattr(error, _CONNECTING, True)


def of_another_loop(database: str) -> LoadError:
    """An engine's connections belong to the loop that opened them."""
    hint = "Pass an engine of connect(url), or the URL, or stay in its loop: await, or run(..., nested=True), there."
    return LoadError(f"the engine for {database} belongs to another event loop", hint=hint)


def _refused(  # noqa: PLR0917 - what the server said, and where that is about
    error: Exception, sqlstate: str, text: str, database: str, first_row: int, row: int | None
) -> WriteError:
    named, column = _position(error, first_row)
    row = named if row is None else row
    detail = shown_text(_first(error, "detail") or "")
    facts = f"{text} ({detail.rstrip('.')})" if detail else text
    if is_taken := sqlstate == "23505" and is_name_taken(error):  # at the same moment: an index tells first
        facts, sqlstate = "something of the same name is being created", "42P07"
    hint = sqlstates.remedy_of(sqlstate, _AGAIN) or _CORRECT
    refused = WriteError(
        f"{_where(row, column)}{database} refused it: {facts}",
        hint=hint,
        committed_rows=0,
        sqlstate=sqlstate,
        row=row,
        column=column,
        constraint=_first(error, "constraint_name"),
    )
    refused.is_transient = is_taken or sqlstates.kind_of(sqlstate) == "transient"
    return refused


def _refused_without_state(error: Exception, text: str, database: str, row: int | None) -> WriteError:
    hint = situations.remedy_of(text, _AGAIN) or _CORRECT
    refusal = _sqlite_refusal(error, text)
    column = None if refusal is None else refusal.column
    what = f"{_where(row, column)}{database} refused it: {text}"
    refused = WriteError(what, hint=hint, committed_rows=0, row=row, column=column)
    refused.is_transient = situations.is_transient(text)
    return refused


def _where(row: int | None, column: str | None) -> str:
    return ("" if row is None else f"row {row}: ") + ("" if column is None else f"column {column!r}: ")


def _position(error: Exception, first_row: int) -> tuple[int | None, str | None]:
    """Read the row and the column out of PostgreSQL's 'COPY orders, line 6, column amount'.

    It says so too of what is not about that row; and rows are stored many at a time, so that one that exceeds a limit
    is not the one that was read last.
    """
    sqlstate = _first(error, "sqlstate") or ""
    context = (_first(error, "context") or "") if _is_about_a_row(sqlstate, _message(error)) else ""
    line = None if sqlstate.startswith(_TOO_LARGE) else re.search(r"^COPY .*, line (\d+)", context, re.MULTILINE)
    column = re.search(r", column ([^:\n]+)", context)
    name = column.group(1).strip('"') if column else _first(error, "column_name")
    return (first_row + int(line.group(1)) - 1 if line else None), name


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the database refused a row.

    Attributes
    ----------
    reason : str
        ``unique``, ``foreign_key``, ``check``, ``null`` or ``refused``.
    column : str or None
        The column, or the columns of a key, where the database said it.
    constraint : str
        What refused the row: a constraint's name, or the database.
    problem : str
        The database's own words.
    at : int or None
        The row's position in what was sent, where the database said it.
    key : str or None
        The values of a key's columns, where the database said them.
    """

    reason: str
    column: str | None
    constraint: str
    problem: str
    at: int | None
    key: str | None = None


_NOT_ABOUT_A_ROW = (
    *("08", "0A", "24", "25", "26", "28", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55", "57", "58"),
    *("F0", "HV", "XX"),
)
"""Classes of SQLSTATE: the connection, its statements and cursors, rights, names, resources. Triggers may raise any
other."""
_TOO_LARGE = "54"
_REASONS = {"23505": "unique", "23503": "foreign_key", "23514": "check", "23502": "null"}
_SQLITE_REASONS = {"UNIQUE": "unique", "FOREIGN KEY": "foreign_key", "CHECK": "check", "NOT NULL": "null"}
_SQLITE_FAILED = re.compile(r"^(UNIQUE|FOREIGN KEY|CHECK|NOT NULL) constraint failed(?:: (.*))?$")


def refusal_of(error: Exception) -> Refusal | None:
    """What a driver's error says about a single row, None if it is not about one."""
    sqlstate = sqlstate_of(error)
    text = _message(error)
    if sqlstate is None:
        return _sqlite_refusal(error, text)
    if not _is_about_a_row(sqlstate, text):
        return None
    at, column = _position(error, 0)
    detail = shown_text(_first(error, "detail") or "")
    key = re.match(r"Key \(([^)]*)\)=\((.*)\)", detail)
    problem = f"{text} ({detail.rstrip('.')})" if detail else text
    constraint = _first(error, "constraint_name") or "the table"
    columns, values = (column, None) if key is None else (column or key[1], key[2])
    return Refusal(_REASONS.get(sqlstate, "refused"), columns or None, constraint, problem, at, values)


def _is_about_a_row(sqlstate: str, text: str) -> bool:
    reads_text = sqlstate == "42601"  # tsquery and others call what they cannot read a syntax error
    return reads_text or "violates row-level security" in text or not sqlstate.startswith(_NOT_ABOUT_A_ROW)


def _sqlite_refusal(error: Exception, text: str) -> Refusal | None:
    if not any(type(one).__name__ in {"IntegrityError", "DataError"} for one in chain(error)):
        return None
    failed = _SQLITE_FAILED.match(text)
    if failed is None:
        return Refusal("refused", None, "the table", text, None)
    kind, what = failed.groups()
    is_columns = kind in {"UNIQUE", "NOT NULL"} and what is not None and not what.startswith("index ")
    columns = ", ".join(name.rpartition(".")[2] for name in what.split(", ")) if is_columns else None
    return Refusal(_SQLITE_REASONS[kind], columns, f"{kind} {what or ''}".strip(), text, None)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and everything behind it, nearest first."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            yield one
            together = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            waiting += [getattr(one, "orig", None), one.__cause__, *together, one.__context__]


def _first(error: BaseException, attribute: str) -> str | None:
    values = (getattr(one, attribute, None) for one in chain(error))
    return next((value for value in values if isinstance(value, str) and value), None)


def sqlstate_of(error: BaseException) -> str | None:
    """PostgreSQL's code of an error, whoever has wrapped it."""
    return _first(error, "sqlstate")


def is_name_taken(error: Exception) -> bool:
    """Whether another session has created what DDL was to create, or is about to: then a catalog's index says so.

    A table comes with a type of its name, and is looked for first: one committed in between is a type that is there.
    """
    sqlstate = sqlstate_of(error)
    return sqlstate in {"42P07", "42710"} or (sqlstate == "23505" and 'constraint "pg_' in _message(error))


def _is_closed(error: Exception) -> bool:
    """Whether the connection has ended; asyncpg may have read the server's last words and not yet the end itself."""
    if any(getattr(one, "connection_invalidated", False) for one in chain(error)):
        return True
    names, text = {type(one).__name__ for one in chain(error)}, _message(error)
    lost = {"ConnectionDoesNotExistError", "ConnectionResetError", "BrokenPipeError", "InternalClientError"}
    return bool(names & lost) or ("InterfaceError" in names and ("closed" in text or "another operation" in text))


def _has_run_out(errors: Sequence[BaseException]) -> bool:
    """Whether asyncpg has given up a statement. The network's own timeout has a number, a login's was noted."""
    is_timeout = any(isinstance(one, TimeoutError) and one.errno is None for one in errors)
    return is_timeout and not any(getattr(one, _CONNECTING, False) for one in errors)


def _message(error: Exception) -> str:
    """The innermost message in one line: the driver's own words, without SQLAlchemy's wrapping."""
    innermost = getattr(error, "orig", None) or error
    text = shown_text(_DETAIL.sub("", str(innermost))) or type(innermost).__name__
    return re.sub(r"^<class '[^']+'>: ", "", text).rstrip(".")


def shown_text(text: str) -> str:
    """In one line, without what a terminal obeys: a trigger may quote the data in its message."""
    line = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], " ".join(text.split()))
    return line if len(line) <= _MESSAGE_CHARACTERS else f"{line[: _MESSAGE_CHARACTERS - 1]}…"
