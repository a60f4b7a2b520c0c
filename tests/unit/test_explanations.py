"""`explain` knows every class of the drivers and every code of PostgreSQL, and shows no secret."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiosqlite
import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
import sqlalchemy.exc

import dataloader as dl
from dataloader import errors
from dataloader.database import embedded, explanations, situations, sqlstates
from tests.unit.test_errors import BAD, DriverError

SECRET = "hunter2"


def classes(*modules: ModuleType) -> list[type[BaseException]]:
    found = {
        one: None
        for module in modules
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, BaseException)
    }
    return sorted(found, key=lambda one: (one.__module__, one.__name__))


DRIVERS = classes(sqlalchemy.exc, asyncpg.exceptions, psycopg.errors, sqlite3, aiosqlite)
OF_DRIVERS = {code for one in DRIVERS if (code := getattr(one, "sqlstate", None)) is not None}
OURS = classes(errors)


def made(kind: type[BaseException], message: str = "it says so") -> BaseException:
    """An error of a class, whatever its constructor wants."""
    if issubclass(kind, sa.exc.DBAPIError):
        return kind("SELECT 1", None, Exception(message))
    if issubclass(kind, sa.exc.StatementError):
        return kind(message, "SELECT 1", None, Exception(message))
    try:
        return kind(message)
    except TypeError:  # of SQLAlchemy's, which takes what is ambiguous
        return kind.__new__(kind, message)


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda one: f"{one.__module__}.{one.__qualname__}")
def test_every_class_of_the_drivers_is_explained(kind: type[BaseException]) -> None:
    assert len(DRIVERS) > 550
    said = dl.explain(made(kind))
    unknown = dl.explain(ValueError("it says so"))
    assert said.cause != unknown.cause
    assert said.remedy != unknown.remedy
    assert said.left in explanations.LEFT.values()
    assert not re.search(r"[{}]again", str(said))


@pytest.mark.parametrize("kind", OURS, ids=lambda one: one.__name__)
def test_an_error_of_ours_is_explained_by_itself(kind: type[BaseException]) -> None:
    facts = {"violations": [BAD], "counts": {}} if kind is dl.ValidationError else {}
    facts |= {"load_id": "x"} if kind is dl.UnfinishedLoad else {"chunk": 1} if kind is dl.SourceChanged else {}
    if kind is errors.SourceFailed:
        pytest.skip("it is never seen: it carries the source's own error")
    said = dl.explain(kind("it happened", hint="Do this.", **facts))  # type: ignore[call-arg]
    assert (said.error, said.cause, said.remedy) == (kind.__name__, "it happened", "Do this.")
    assert said.left


def codes() -> Iterator[str]:
    """The codes of PostgreSQL's own list, which comes with its binaries."""
    installed = embedded.find_binaries().parent
    listed = [installed / "share" / "errcodes.txt", Path("/usr/share/postgresql") / installed.name / "errcodes.txt"]
    path = next(one for one in listed if one.exists())
    yield from re.findall(r"^(\w{5}) +[EWS] ", path.read_text(), re.MULTILINE)


def test_every_code_of_postgresql_is_explained() -> None:
    listed = [*codes()]
    assert len(listed) > 240
    for code in {*listed, *OF_DRIVERS}:
        row = sqlstates.row_of(code)
        assert row is not None, code
        assert row.meaning
        assert sqlstates.remedy_of(code, "run it again"), code
        assert "{" not in row.meaning


def test_no_row_is_about_a_code_that_there_is_not() -> None:
    """A typing error in a code would leave the right one to its class."""
    known = {*codes(), *OF_DRIVERS}
    known |= {one[:2] for one in known}
    assert [code for code in sqlstates.STATES if code not in known] == []


def test_no_row_is_about_a_class_that_there_is_not() -> None:
    known = {f"{one.__module__.partition('.')[0]}.{one.__name__}" for one in [*DRIVERS, *classes(asyncio.exceptions)]}
    known |= {f"builtins.{name}" for name in vars(__import__("builtins"))} | {"sqlalchemy.DatabaseError"}
    known |= {"asyncio.CancelledError"}
    assert [name for name in situations.SITUATIONS if name not in known] == []


def test_a_rows_words_can_be_shown() -> None:
    remedies = [row.remedy for row in sqlstates.STATES.values() if row.remedy is not None]
    remedies += [row.remedy for rows in situations.SITUATIONS.values() for row in rows]
    for remedy in remedies:
        spoken = sqlstates.spoken(remedy, "run it again")
        assert spoken.endswith((".", "...")), remedy
        assert "{again" not in spoken
    meanings = [*(row.meaning for row in sqlstates.STATES.values())]
    meanings += [row.meaning for rows in situations.SITUATIONS.values() for row in rows]
    assert [one for one in meanings if one.endswith(".")] == []


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def test_the_driver_behind_sqlalchemy_is_what_is_explained() -> None:
    behind = DriverError("duplicate key value", "23505", severity="ERROR", table_name="orders", constraint_name="pk")
    behind.detail = "Key (id)=(1) already exists."  # type: ignore[attr-defined]
    error = sa.exc.IntegrityError(f"INSERT INTO orders VALUES ($1, '{SECRET}')\nRETURNING id", {"a": SECRET}, behind)
    said = dl.explain(chained(RuntimeError("the job failed"), error))
    assert said.sqlstate == "23505"
    assert "on_conflict" in said.remedy
    assert said.message == "duplicate key value (Key (id)=(1) already exists)"
    assert said.place == "table orders, constraint pk, statement INSERT INTO orders VALUES ($1, '***')"


def test_the_first_error_counts_and_not_what_followed_from_it() -> None:
    first = DriverError("no such column", "42703", severity="ERROR")
    before = sa.exc.DBAPIError("SELECT nothing", None, first)
    behind = DriverError("current transaction is aborted", "25P02", severity="ERROR")
    then = sa.exc.DBAPIError("SELECT 1", None, behind)
    then.__context__ = before
    said = dl.explain(then)
    assert (said.sqlstate, said.place) == ("42703", "statement SELECT nothing")
    pending = sa.exc.PendingRollbackError("can't reconnect")
    assert "rolled back" in dl.explain(pending).cause
    pending.__context__ = first
    assert dl.explain(pending).sqlstate == "42703"


def test_a_group_is_explained_by_its_first_and_names_the_others() -> None:
    members = [DriverError(text, code, severity="ERROR") for text, code in (("late", "40P01"), ("no", "42501"))]
    said = dl.explain(ExceptionGroup("two workers", members))
    assert said.sqlstate == "40P01"
    assert said.others == ("DriverError: this role lacks a privilege",)
    assert "Beside it" in str(said)


SECRETS: dict[str, BaseException] = {
    "asyncpg's argument": asyncpg.DataError(
        f"invalid input for query argument $2 in element #7 of executemany() sequence: '{SECRET} (x)' "
        f"(invalid UUID '{SECRET}': length must be between 32..36 characters)"
    ),
    "a URL": sa.exc.ArgumentError(f"Could not parse SQLAlchemy URL from string 'postgresql//ada:{SECRET}@db/shop'"),
    "a URL with an @ in the password": ValueError(f"bad URL postgresql://ada:{SECRET}@{SECRET}@db/shop"),
    "libpq's words": psycopg.OperationalError(f"invalid connection option in host=db password={SECRET} user=ada"),
    "a statement's text": sa.exc.ProgrammingError(
        f"ALTER ROLE ada\nPASSWORD '{SECRET}'", None, DriverError("no", "42601", severity="ERROR")
    ),
    "parameters": sa.exc.DBAPIError("SELECT $1", {"x": SECRET}, DriverError("odd", "22023", severity="ERROR")),
    "an enum of SQLAlchemy's": sa.exc.StatementError(
        "(builtins.LookupError)", "INSERT", {}, LookupError(f"'{SECRET}' is not among the defined enum values")
    ),
    "COPY's context": DriverError(
        "bad", "22P02", severity="ERROR", context=f'COPY orders, line 3, column amount: "{SECRET}"'
    ),
    "psycopg's context": psycopg.errors.InvalidTextRepresentation(
        f"invalid input\nCONTEXT:  unnamed portal parameter $1 = '{SECRET}'"
    ),
}


@pytest.mark.parametrize("error", SECRETS.values(), ids=SECRETS)
def test_no_secret_and_no_value_is_shown(error: BaseException) -> None:
    said = dl.explain(error)
    assert SECRET not in f"{said}{said!r}{said._repr_html_()}"
    assert said.cause


def test_what_asyncpg_says_of_a_value_is_said_without_it() -> None:
    error = asyncpg.DataError(
        "invalid input for query argument $1 in element #3 of executemany() sequence: 'x (y)' (expected int, got str)"
    )
    assert dl.explain(error).message == "invalid input for parameter $1 of row 3, counted from 0: expected int, got str"


def test_copys_line_is_the_place() -> None:
    context = 'COPY orders, line 3, column amount: "x"'
    said = dl.explain(DriverError("bad", "22P02", severity="ERROR", context=context))
    assert said.place == "table orders, line 3, column amount"


@pytest.mark.parametrize(
    ("error", "cause", "left"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "the connection was refused", "no connection"),
        (socket.gaierror(-2, "Name or service not known"), "is unknown", "no connection"),
        (DriverError("x", "25P03", severity="FATAL"), "idle inside a transaction", "connection"),
        (DriverError("x", "0A000", severity="FATAL"), "cannot do that", "connection"),
        (RuntimeError("got Future attached to a different loop"), "another event loop", "nothing sent"),
        (MemoryError(), "no memory left", "unknown"),
        (sqlite3.OperationalError("database is locked"), "one writer", "row"),
        (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), "two tasks", "unknown"),
        (OverflowError("Python int too large to convert to SQLite INTEGER"), "64 bits", "row"),
        (ValueError("nothing of ours"), "nothing of ours", "unknown"),
        (asyncio.CancelledError(), "interrupted", "unknown"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else "",
)
def test_other_errors(error: BaseException, cause: str, left: str) -> None:
    said = dl.explain(error)
    assert cause in said.cause
    assert said.left == explanations.LEFT[left]


def test_a_load_says_what_is_committed() -> None:
    error = dl.WriteError("row 3: refused", hint="Correct it.", committed_rows=0, sqlstate="23505", row=3)
    errors.say_committed(error, 2_000, "await load_dataframe(...)", in_doubt=False, where="committed")
    error.__cause__ = DriverError("no", "23505", severity="ERROR", table_name="orders", constraint_name="orders_pkey")
    said = dl.explain(error)
    assert said.left == "2,000 rows are committed; continue with await load_dataframe(...)."
    assert said.remedy == "Correct it."
    assert said.place == "table orders, constraint orders_pkey, row 3"


def test_without_an_argument_the_last_exception_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("last_exc", "last_value"):
        monkeypatch.delattr(sys, name, raising=False)
    with pytest.raises(dl.PlanError, match="there is no exception"):
        dl.explain()
    monkeypatch.setattr(sys, "last_value", MemoryError(), raising=False)
    assert dl.explain().error == "MemoryError"
    try:
        raise KeyError("x")
    except KeyError:
        assert dl.explain().error == "KeyError"
    wrong: Any = "42P01"
    with pytest.raises(dl.PlanError, match="str is no exception"):
        dl.explain(wrong)


def test_the_picture_escapes_what_the_server_says() -> None:
    said = dl.explain(DriverError("<script>", "22P02", severity="ERROR", table_name="<b>"))
    assert "<script>" not in said._repr_html_()
    assert "&lt;b&gt;" in said._repr_html_()


def test_the_table_is_where_the_errors_of_loads_come_from(tmp_path: Path) -> None:
    """One fact, one row: what `explain` says of a driver's error is what a load's own error ends with."""
    from dataloader.database.driver_errors import translate

    for code in ("22003", "23505", "40001", "42501", "53100", "57014"):
        error = DriverError("no", code, severity="ERROR")
        assert translate(error, "x").hint.endswith(str(sqlstates.remedy_of(code, "load again")))
    locked = sqlite3.OperationalError("database is locked")
    assert "Another program has the file open" in translate(locked, "x").hint
    assert "Another program has the file open" in dl.explain(locked).remedy
