"""Make the tables of docs/troubleshooting.md again: python docs/make_troubleshooting.py. A test keeps them right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataloader.database import situations, sqlstates
from dataloader.database.explanations import LEFT

PAGE = Path(__file__).with_name("troubleshooting.md")
BEGIN, END = "<!-- made by docs/make_troubleshooting.py: {} -->", "<!-- until here: {} -->"
AGAIN = "run it again"
WITHOUT_CODE = {
    "`connection is closed`, `server closed the connection unexpectedly`": (
        "asyncpg.InterfaceError",
        "connection is closed",
    ),
    "`QueuePool limit of size 5 overflow 10 reached`": ("sqlalchemy.TimeoutError", "QueuePool limit"),
    "`invalid input for query argument $1: ... (expected str, got int)`": (
        "asyncpg.DataError",
        "invalid input for query argument",
    ),
    "`another operation is in progress`": ("asyncpg.InterfaceError", "another operation"),
    "`... attached to a different loop`, `Event loop is closed`": ("builtins.RuntimeError", "different loop"),
    "`asyncio.run() cannot be called from a running event loop`": ("builtins.RuntimeError", "cannot be called from"),
    "`greenlet_spawn has not been called`": ("sqlalchemy.MissingGreenlet", ""),
    "`This result object is closed`": ("sqlalchemy.ResourceClosedError", "closed"),
    "`Can't reconnect until invalid transaction is rolled back`": ("sqlalchemy.PendingRollbackError", ""),
    "`MemoryError`": ("builtins.MemoryError", ""),
    "`connect() got an unexpected keyword argument 'sslmode'`": (
        "builtins.TypeError",
        "connect() got an unexpected keyword",
    ),
    "SQLite: `database is locked`": ("sqlite3.Error", "database is locked"),
    "SQLite: `attempt to write a readonly database`": ("sqlite3.Error", "readonly database"),
    "SQLite: `UNIQUE constraint failed`": ("sqlite3.Error", "UNIQUE constraint failed"),
    "SQLite: `type 'list' is not supported`": ("sqlite3.Error", "type 'list' is not supported"),
}
"""What people see, with the row that it has: its class, and words that the row's pattern finds."""


def found(key: str, text: str) -> situations.Situation:
    """The row of a class that is meant by a text."""
    return next(row for row in situations.SITUATIONS[key] if situations.says(row, text))


def without_code() -> Iterator[str]:
    yield "| it says | what it means | what to do |"
    yield "|---|---|---|"
    for shown, (key, text) in WITHOUT_CODE.items():
        row = found(key, text)
        yield f"| {shown} | {row.meaning} | {sqlstates.spoken(row.remedy, AGAIN)} |"


def codes() -> Iterator[str]:
    yield "| code | what it means | what to do |"
    yield "|---|---|---|"
    for code, own in sqlstates.STATES.items():
        name = f"`{code}`" if len(code) == 5 else f"`{code}...`"
        remedy = "" if own.remedy is None else sqlstates.spoken(own.remedy, AGAIN)
        yield f"| {name} | {own.meaning} | {remedy} |"


def left() -> Iterator[str]:
    yield "| after | what is left |"
    yield "|---|---|"
    names = {
        "statement": "the server refused a statement",
        "client": "asyncpg refused a value",
        "row": "SQLite refused a row",
        "connection": "the connection ended",
        "no connection": "no connection was had",
    }
    for key, name in names.items():
        yield f"| {name} | {LEFT[key]} |"


TABLES = {"without a code": without_code, "what is left": left, "codes": codes}


def page(text: str) -> str:
    """The page with the tables of today."""
    for name, lines in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n" + "\n".join(lines()) + f"\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
