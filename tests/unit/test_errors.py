"""The tree of errors, and what becomes of a driver's error."""

from __future__ import annotations

import ast
import copy
import pickle
import re

import pytest
import sqlalchemy.exc

import dataloader
from dataloader import Violation, errors
from dataloader.database.driver_errors import mark_connecting, translate
from dataloader.errors import (
    ConnectionFailed,
    ConnectionLost,
    DataLoaderError,
    LoadError,
    PlanError,
    SchemaMismatch,
    UnsafeCast,
    UnsupportedType,
    ValidationError,
    WriteError,
)

PLACE = "PostgreSQL shop at db.example"
LINE = re.compile(r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: \((?P<also>\w+)\))?(?:\s{2,}(?P<meaning>\S.*))?$")


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Each error of the drawing: its parent there, and the built-in error in parentheses."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match:
            depth = len(match["branch"]) // 4
            above = above[:depth]
            tree[match["name"]] = (above[-1] if above else None, match["also"])
            above.append(match["name"])
    return tree


def real() -> dict[str, tuple[str | None, str | None]]:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, DataLoaderError)]
    tree: dict[str, tuple[str | None, str | None]] = {}
    for one in classes:
        ours = [base.__name__ for base in one.__bases__ if issubclass(base, DataLoaderError)]
        others = [base.__name__ for base in one.__bases__ if not issubclass(base, DataLoaderError)]
        also = others[0] if others and others != ["Exception"] else None
        tree[one.__name__] = (ours[0] if ours else None, also)
    return tree


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    assert drawn() == real()


def test_every_error_is_exported() -> None:
    assert set(real()) == set(errors.__all__)
    for name in real():
        assert getattr(dataloader, name) is getattr(errors, name)
        assert name in dataloader.__all__


@pytest.mark.parametrize("name", sorted(real()))
def test_every_error_says_what_it_means(name: str) -> None:
    assert getattr(errors, name).__doc__


BAD = Violation(3, "c", "amount", "'x'", "numeric", "syntax", "it cannot be read", "Correct it.")
ONE_OF_EACH = [
    *(
        kind("it happened", hint="Do this.")
        for kind in (DataLoaderError, PlanError, SchemaMismatch, UnsupportedType, UnsafeCast, LoadError, ConnectionLost)
    ),
    ValidationError("it happened", hint="Do this.", violations=[BAD], counts={("amount", "syntax"): 1}),
    WriteError("it happened", hint="Do this.", sqlstate="23505", row=3, column="amount"),
]


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_an_error_ends_with_what_to_do(error: DataLoaderError) -> None:
    assert str(error) == "it happened. Do this."


@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy], ids=["pickle", "copy"])
@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_to_another_process(error: DataLoaderError, again: object) -> None:
    assert callable(again)
    back = again(error)
    assert type(back) is type(error)
    assert (str(back), vars(back)) == (str(error), vars(error))


class DriverError(Exception):
    """Carries what a PostgreSQL driver's error carries."""

    def __init__(self, message: str, sqlstate: str | None = None, **facts: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        for name, value in facts.items():
            setattr(self, name, value)


def wrapped(error: Exception) -> sqlalchemy.exc.DBAPIError:
    """The driver's error as SQLAlchemy hands it on."""
    return sqlalchemy.exc.DBAPIError("INSERT INTO orders ...", None, error)


@pytest.mark.parametrize(
    ("sqlstate", "hint"),
    [("28P01", "password"), ("28000", "pg_hba.conf"), ("3D000", "create the database")],
)
def test_a_refused_login_says_what_to_correct(sqlstate: str, hint: str) -> None:
    error = translate(DriverError("no entry", sqlstate), PLACE)
    assert isinstance(error, ConnectionLost)
    assert str(error).startswith(f"cannot log in to {PLACE}: no entry. ")
    assert hint in error.hint


@pytest.mark.parametrize("sqlstate", ["53300", "57P03"])
def test_a_server_that_takes_no_connection_just_now_is_asked_again(sqlstate: str) -> None:
    error = translate(wrapped(DriverError("sorry, too many clients already", sqlstate)), PLACE)
    assert isinstance(error, ConnectionFailed)
    assert error.is_transient
    assert error.what == f"{PLACE} takes no connection: sorry, too many clients already"


@pytest.mark.parametrize("sqlstate", ["08006", "08001", "57P01", "57P02", "25P03", "25P04"])
def test_a_connection_that_the_server_ended_is_lost(sqlstate: str) -> None:
    error = translate(wrapped(DriverError("terminating connection", sqlstate)), PLACE)
    assert isinstance(error, ConnectionLost)
    assert "was lost" in error.what
    assert "Nothing was written" in error.hint


@pytest.mark.parametrize(
    ("sqlstate", "hint"),
    [
        ("22003", "Correct the value"),
        ("23505", "Correct the rows"),
        ("42501", "Ask for the missing privilege"),
        ("42P01", "Create the table"),
        ("42P07", "created the table meanwhile: load again"),
        ("2BP01", "if_exists='truncate'"),
        ("3F000", "CREATE SCHEMA"),
        ("53100", "disk is full"),
        ("55P03", "Wait for who holds it"),
        ("57014", "statement_timeout"),
        ("25006", "read-only"),
        ("XX000", "See the server's log"),
        ("ZZ000", "Correct what the message names"),
    ],
)
def test_a_refusal_of_the_database_says_what_to_do(sqlstate: str, hint: str) -> None:
    error = translate(wrapped(DriverError("no.", sqlstate)), PLACE)
    assert isinstance(error, WriteError)
    assert error.sqlstate == sqlstate
    assert str(error).startswith(f"{PLACE} refused it: no. Nothing was written. ")
    assert hint in error.hint


def test_a_row_that_copy_refused_is_named_by_its_position_in_the_source() -> None:
    context = 'COPY orders, line 6, column amount: "1e999"'
    error = translate(DriverError("out of range", "22003", context=context), PLACE, first_row=50_000)
    assert isinstance(error, WriteError)
    assert (error.row, error.column) == (50_005, "amount")
    assert str(error).startswith("row 50005: column 'amount': PostgreSQL shop")


def test_the_first_line_of_copy_is_the_first_row() -> None:
    error = translate(DriverError("no", "23502", context="COPY orders, line 1"), PLACE)
    assert isinstance(error, WriteError)
    assert (error.row, error.column) == (0, None)


def test_a_trigger_inside_of_copy_does_not_hide_the_row() -> None:
    context = "PL/pgSQL function check_it() line 3 at RAISE\nCOPY sales.orders, line 2"
    error = translate(DriverError("no", "P0001", context=context), PLACE)
    assert isinstance(error, WriteError)
    assert error.row == 1


def test_a_column_that_the_server_names_is_named_without_a_row() -> None:
    error = translate(wrapped(DriverError("null value", "23502", column_name="amount")), PLACE)
    assert isinstance(error, WriteError)
    assert (error.row, error.column) == (None, "amount")


def test_the_detail_of_the_server_is_shown() -> None:
    error = translate(DriverError("duplicate key", "23505", detail="Key (id)=(1) already exists."), PLACE)
    assert "duplicate key (Key (id)=(1) already exists). Nothing was written." in str(error)


def test_the_state_is_found_behind_other_errors() -> None:
    cause = DriverError("privilege", "42501")
    outer = RuntimeError("outer")
    outer.__cause__ = wrapped(cause)
    found = translate(outer, PLACE)
    assert isinstance(found, WriteError)
    assert found.sqlstate == "42501"


def test_errors_that_refer_to_each_other_are_translated() -> None:
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__context__, two.__context__ = two, one
    assert isinstance(translate(one, PLACE), WriteError)


def while_connecting(error: Exception) -> Exception:
    mark_connecting(error)
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        while_connecting(TimeoutError()),
        OSError("no route"),
        wrapped(OSError("no such host")),
    ],
    ids=["refused", "timeout", "no route", "wrapped"],
)
def test_a_server_that_cannot_be_reached_says_so(error: Exception) -> None:
    found = translate(error, PLACE)
    assert isinstance(found, ConnectionFailed)
    assert "cannot reach" in found.what
    assert "host and port" in found.hint


class ConnectionDoesNotExistError(Exception):
    """Named like the one of asyncpg."""


class InterfaceError(Exception):
    """Named like the one of asyncpg."""


@pytest.mark.parametrize(
    "error",
    [
        ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        InterfaceError("connection is closed"),
        wrapped(InterfaceError("the underlying connection is closed")),
        sqlalchemy.exc.DBAPIError("SELECT 1", None, Exception("gone"), connection_invalidated=True),
    ],
    ids=["does not exist", "closed", "wrapped", "invalidated"],
)
def test_a_connection_that_is_closed_is_lost(error: Exception) -> None:
    found = translate(error, PLACE)
    assert isinstance(found, ConnectionLost)
    assert "was lost" in found.what


def test_another_interface_error_is_no_lost_connection() -> None:
    assert isinstance(translate(InterfaceError("cannot perform operation"), PLACE), WriteError)


def test_an_engine_of_another_loop_says_what_to_do() -> None:
    found = translate(RuntimeError("got Future attached to a different loop"), PLACE)
    assert type(found) is LoadError
    assert "Pass an engine of connect(url), or the URL" in found.hint
    assert "nested=True" in found.hint


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("database is locked", "Another program"),
        ("attempt to write a readonly database", "writable"),
        ("database or disk is full", "Make room"),
        ("UNIQUE constraint failed: orders.id", "Correct the rows"),
        ("something else", "Correct what the message names"),
    ],
)
def test_an_error_of_sqlite_says_what_to_do(message: str, hint: str) -> None:
    found = translate(wrapped(Exception(message)), PLACE)
    assert isinstance(found, WriteError)
    assert found.sqlstate is None
    assert hint in found.hint
    assert message in found.what


def test_a_message_is_one_line_without_the_class_of_the_driver() -> None:
    text = "<class 'asyncpg.exceptions.DataError'>: invalid\n  input."
    found = translate(wrapped(Exception(text)), PLACE)
    assert found.what == f"{PLACE} refused it: invalid input"


def test_an_error_without_a_message_is_named_by_its_class() -> None:
    assert "InterfaceError" in translate(InterfaceError(), PLACE).what
    assert "did not answer in time" in translate(while_connecting(TimeoutError()), PLACE).what


@pytest.mark.parametrize(("in_doubt", "rows"), [(False, 0), (True, None)])
def test_a_statement_that_the_driver_gives_up_is_no_connection_that_failed(in_doubt: bool, rows: int | None) -> None:
    found = translate(TimeoutError(), PLACE, in_doubt=in_doubt)
    assert type(found) is ConnectionLost
    assert "command_timeout" in found.what
    assert found.committed_rows == rows


def test_a_message_is_told_without_what_a_terminal_obeys() -> None:
    error = DriverError("\x1b]0;title\x07 \x1b[31mred\x9b", sqlstate="P0001", detail="\x1b[2J of it")
    told = str(translate(error, PLACE))
    assert r"\x1b]0;title\x07 \x1b[31mred\x9b (\x1b[2J of it)" in told
    assert not set(told) & set("\x1b\x07\x9b")


def test_a_message_that_quotes_a_long_value_is_cut() -> None:
    told = str(translate(DriverError("x" * 5_000, sqlstate="22P02"), PLACE))
    assert f"{'x' * 999}…" in told
    assert len(told) < 1_200


def test_a_detail_that_the_driver_adds_to_its_message_is_told_once() -> None:
    error = DriverError(
        "duplicate key\nDETAIL:  Key (id)=(1) already exists.\nHINT:  Look.",
        "23505",
        detail="Key (id)=(1) already exists.",
    )
    assert "duplicate key HINT: Look (Key (id)=(1) already exists)." in str(translate(error, PLACE))


def test_an_error_is_shown_in_lines_of_a_terminal_and_its_call_can_be_copied() -> None:
    call = "await load_batches(..., 'a table', load_id='the data of the month of May', resume=True, chunk_rows=1000)"
    error = LoadError(f"it failed {'again ' * 20}", hint=f"7 rows are committed; continue with {call}")
    lines = "\n".join(error._render_traceback_()).split("\n")
    assert max(map(len, lines)) <= 80
    _, _, copied = "\n".join(lines).partition("continue with")
    ast.parse(f"async def f():\n  return ({copied.strip()})")
    assert "'the data of the month of May'" in copied


def test_a_call_of_one_long_text_is_not_broken_in_it() -> None:
    text = "x" * 100
    assert errors.wrapped(f"do {text} then") == f"do\n{text}\nthen"
