"""A query's rows from SQLite: the declared types of its columns, and a cursor in the driver's thread."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from dataloader.conversion.column_types import parse_type
from dataloader.database.backends.cursor_reading import CursorReading
from dataloader.database.backends.reading import Statement, replaced
from dataloader.errors import ReadError

if TYPE_CHECKING:
    from dataloader.conversion.column_types import ColumnType
    from dataloader.database.backends.reading import Receiver

_INTEGERS = 1 << 63
_numbers = itertools.count()
_OF_EXPRESSIONS = {"NUM", "BLOB", ""}
"""What SQLite says of an expression's column, which may hold anything."""


async def read(driver: Any, statement: Statement, receiver: Receiver) -> None:
    """Hand on the rows of a query.

    Parameters
    ----------
    driver : aiosqlite.Connection
        One on which nothing else is done meanwhile.
    """
    text = statement.text.rstrip().rstrip(";")
    declared = await _declared(driver, text)
    async with _reading_only(driver):
        cursor = None
        try:  # even to its first row a query may think for hours
            cursor = await driver.execute(replaced(text, _numbered), [_plain(value) for value in statement.values])
            names = [column[0] for column in cursor.description or ()]
            types = declared or [None] * len(names)
            rows = itertools.islice(cursor._cursor, statement.max_rows)  # LIMIT would rename columns of one name
            await CursorReading(names, types, statement.columns).hand_on_from(rows, driver._execute, receiver)
        except BaseException:
            await driver.interrupt()  # the driver's thread would go on with the statement
            raise
        finally:
            if cursor is not None:
                await cursor.close()


def _plain(value: Any) -> Any:
    """A parameter as loads store its like."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "microseconds")
    if isinstance(value, dt.time):
        return value.isoformat("microseconds")
    if isinstance(value, (dt.date, uuid.UUID)):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return _number(value)
    if isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS:
        what = f"the parameter {value} does not fit an integer of SQLite, which has 64 bits"
        raise ReadError(what, hint="Pass it as text, and compare it with a column of texts.")
    return value


def _number(value: decimal.Decimal) -> int | float | str:
    """As SQLite holds it: what neither an integer nor a float says exactly is a text."""
    if value.is_finite() and value == value.to_integral_value() and -_INTEGERS <= value < _INTEGERS:
        return int(value)
    nearest = float(value)
    return nearest if not value.is_finite() or decimal.Decimal(repr(nearest)) == value else str(value)


def _numbered(key: str) -> str | None:
    return f"?{key}" if key.isdigit() else None


async def _declared(driver: Any, text: str) -> list[ColumnType | None]:
    """The types of a query's columns, as a view of it has them; none where it can be no view."""
    name = f"dataloader_read_{next(_numbers)}"
    without = replaced(text, lambda key: "NULL" if key.isdigit() else None)
    try:
        await driver.execute(f"CREATE TEMP VIEW {name} AS\n{without}")
    except Exception:  # the query itself says what is wrong with it
        return []
    try:
        cursor = await driver.execute(f"PRAGMA temp.table_info({name})")
        found = [row[2] for row in await cursor.fetchall()]
    finally:
        await driver.execute(f"DROP VIEW temp.{name}")
    return [None if one.upper() in _OF_EXPRESSIONS else parse_type(one, "sqlite") for one in found]


@contextlib.asynccontextmanager
async def _reading_only(driver: Any) -> AsyncIterator[None]:
    await driver.execute("PRAGMA query_only = ON")
    try:
        yield
    finally:
        await driver.execute("PRAGMA query_only = OFF")
