"""Make docs/servers.md again from the backends: python docs/make_servers.py. A test keeps the page up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.mysql.asyncmy import dialect as mysql
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg
from sqlalchemy.dialects.postgresql.psycopg import dialect_async as psycopg
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as aiosqlite

from dataloader.database.backends import Backend, backend_for

PAGE = Path(__file__).with_name("servers.md")
BEGIN, END = "<!-- made by docs/make_servers.py -->", "<!-- until here -->"
DIALECTS: dict[str, Callable[[], sa.Dialect]] = {
    "PostgreSQL, asyncpg": asyncpg,
    "PostgreSQL, psycopg": psycopg,
    "SQLite, aiosqlite": aiosqlite,
    "another async driver": mysql,
}
INSERTS = {"arrays": "INSERT from arrays", "values": "INSERT, many rows to a statement", "core": "INSERT, executemany"}
NO = "no"


def bulk(backend: Backend) -> str:
    return "COPY, binary or as text" if backend.copy_obstacle is None else INSERTS[backend.inserts]


def workers(backend: Backend) -> str:
    return NO if backend.one_writer or backend.ledger_obstacle else "yes, 2 by default"


def yes_unless(obstacle: object) -> str:
    return NO if obstacle else "yes"


CAPABILITIES: dict[str, Callable[[Backend], str]] = {
    "met by the tests on a real server": lambda backend: NO if backend.experimental else "yes",
    "how rows are sent in bulk": bulk,
    "all rows or none, in one transaction": lambda backend: "yes",
    "a created table is rolled back too": lambda backend: yes_unless(not backend.creates_in_transaction),
    "checkpoints: commit by chunk, `resume`, `load_id`": lambda backend: yes_unless(backend.ledger_obstacle),
    "several connections at once (`workers`)": workers,
    "values are checked before they are sent": lambda backend: "yes",
    "rejects: of values, and of what the database refuses": lambda backend: "yes",
    "rejects kept in a table (`load_rejects`)": lambda backend: yes_unless(backend.ledger_obstacle),
    "`on_conflict`, `update_rows`, `delete_rows`, `sync_table`": lambda backend: yes_unless(backend.merge_obstacle),
    "`returning`: generated keys and defaults": lambda backend: yes_unless(backend.merge_obstacle),
    "`evolve`: columns that the table lacks are added": lambda backend: "yes",
    "`evolve`: columns that are too narrow are widened": lambda backend: yes_unless(backend.widening_obstacle),
    "`sync_sequence` (SQLite sees to it by itself)": lambda backend: yes_unless(
        type(backend).advance_sequences is Backend.advance_sequences
    ),
    "Cancel: the transaction is rolled back": lambda backend: "yes",
    "the same rows again are told of": lambda backend: yes_unless(backend.ledger_obstacle),
}


def matrix() -> str:
    """A line for each capability, a column for each backend."""
    backends = [backend_for(make()) for make in DIALECTS.values()]
    lines = [f"| | {' | '.join(DIALECTS)} |", "|---" * (len(DIALECTS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(map(of, backends))} |" for name, of in CAPABILITIES.items()]
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the matrix of today."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{matrix()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
