"""The rows of the ledger: its tables, and what can be read in them, whoever has edited them."""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.conversion.violations import REJECT_COLUMNS
from dataloader.database.backends import backend_for
from dataloader.database.schema import Fingerprint
from dataloader.ledger.owners import read_owner

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LOADS, CHUNKS, REJECTS = TABLES = ("dataloader_loads", "dataloader_chunks", "dataloader_rejects")
"""The last one is there for loads that keep rejects."""
FILES = "dataloader_files"
"""The files that are loaded, where it is asked which ones are new."""
EVERY_TABLE = (*TABLES, FILES)
"""What must be trusted as far as it is there: a load that is forgotten is taken out of all of them."""
DIGESTED_ROWS = 1_000
"""A load that is not named is recognized by so many of its first rows."""
_OF_A_STREAM = re.compile(r"([0-9a-f]{32}) (\d+)")
TOTALS = ("chunks", "rows", "loaded", "rejected")


class Moment(sa.types.TypeDecorator[dt.datetime]):
    """A moment; None where SQLite, which takes any text, has what is none."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return backend_for(dialect).moment_type

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> dt.datetime | None:
        if isinstance(value, dt.datetime):
            return value
        try:
            return dt.datetime.fromisoformat(value)
        except (ValueError, TypeError):
            return None


@functools.lru_cache(64)
def ledger_tables(schema: str | None) -> tuple[sa.Table, sa.Table, sa.Table]:
    """The tables of the ledger in a schema."""
    metadata = sa.MetaData()
    named = ((LOADS, _load_columns()), (CHUNKS, _chunk_columns()), (REJECTS, _reject_columns()))
    loads, chunks, rejects = (sa.Table(name, metadata, *columns, schema=schema) for name, columns in named)
    return loads, chunks, rejects


@functools.lru_cache(64)
def files_table(schema: str | None) -> sa.Table:
    """The ledger's table of files."""
    return sa.Table(FILES, sa.MetaData(), *_file_columns(), schema=schema)


def _file_columns() -> list[sa.Column[Any]]:
    return [
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("target", "path")),
        sa.Column("size", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("digest", "table_id")),
        sa.Column("load_id", sa.Text),
        sa.Column("loaded_at", Moment(timezone=True), nullable=False, server_default=sa.func.current_timestamp()),
    ]


def _load_columns() -> list[sa.Column[Any]]:
    moment, now = Moment(timezone=True), sa.func.current_timestamp()
    return [
        sa.Column("load_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("target", "source", "source_digest")),
        sa.Column("chunk_rows", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("fingerprint", "options")),
        sa.Column("owner", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in TOTALS),
        *(sa.Column(name, moment, nullable=False, server_default=now) for name in ("started_at", "last_commit_at")),
    ]


def _chunk_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("load_id", sa.Text, primary_key=True),
        sa.Column("chunk", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("first_row", "rows", "loaded", "rejected")),
        sa.Column("digest", sa.Text, nullable=False),
    ]


def _reject_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("load_id", sa.Text, primary_key=True),
        sa.Column("reject_row", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("chunk", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text) for name in REJECT_COLUMNS[1:]),
        sa.Column("reject_values", sa.Text, nullable=False),
    ]


def needed(*, keeps_rejects: bool) -> tuple[str, ...]:
    """The names of the tables that a load uses."""
    return TABLES if keeps_rejects else TABLES[:2]


def select_loads(loads: sa.Table) -> sa.Select[Any]:
    """The loads of a ledger with the database's time, the newest first."""
    return sa.select(loads, sa.func.current_timestamp().label("now")).order_by(loads.c.started_at.desc())


def unreadable(found: Any) -> str | None:
    """Which column of a load's row holds what no load has written there, None if all can be read."""
    for name in ("chunk_rows", *TOTALS):
        if not isinstance(getattr(found, name), int):
            return name
    for name in ("started_at", "last_commit_at"):
        if getattr(found, name) is None:
            return name
    try:
        Fingerprint(**json.loads(found.fingerprint))
    except (ValueError, TypeError):
        return "fingerprint"
    return None


def is_shard(row: Any) -> bool:
    """Whether a row of the ledger is that of a shard: its digest is then the name of the whole load."""
    return str(row.load_id).startswith(f"{row.source_digest} [")


def digest_of_stream(digest: str, rows: int) -> str:
    """What a stream is recognized by: the digest of its first chunk, and the rows of that, which time may have cut."""
    return f"{digest} {rows}"


def beginning(found: Any) -> tuple[str, int] | None:
    """The digest by which an unnamed load is recognized, and how many rows its first chunk had; None of others."""
    if found.source_digest == found.load_id or is_shard(found):
        return None
    of_a_stream = _OF_A_STREAM.fullmatch(found.source_digest)
    if of_a_stream is None:
        return found.source_digest, min(DIGESTED_ROWS, found.chunk_rows)
    return of_a_stream[1], int(of_a_stream[2])


def is_same_beginning(one: str, other: str) -> bool:
    """Whether two loads that are not named begin with the same rows, as far as their digests tell."""
    first, second = (_OF_A_STREAM.fullmatch(digest) for digest in (one, other))
    return (first[1] if first else one) == (second[1] if second else other)


async def forget_load(connection: AsyncConnection, schema: str | None, load_id: str) -> None:
    """Take a load out of a schema's ledger, with its shards; its rows stay in the table."""
    loads = ledger_tables(schema)[0]
    parts = await connection.execute(sa.select(loads).where(loads.c.source_digest == load_id))
    names = [load_id, *(row.load_id for row in parts if is_shard(row))]
    for table in (*ledger_tables(schema), files_table(schema)):
        if table.name not in {REJECTS, FILES} or await exists(connection, table):
            await connection.execute(sa.delete(table).where(table.c.load_id.in_(names)))


async def exists(connection: AsyncConnection, table: sa.Table) -> bool:
    """Whether a table of the ledger is there."""
    return await connection.run_sync(lambda sync: sa.inspect(sync).has_table(table.name, table.schema))


def is_running(found: Any) -> bool:
    """Whether a living process owns the load of a ledger's row."""
    owner = read_owner(found.owner) if found.state == "unfinished" else None
    if owner is None:
        return False
    seen = found.last_commit_at
    return owner.is_alive(math.inf if seen is None else (aware(found.now) - aware(seen)).total_seconds())


def aware(moment: dt.datetime) -> dt.datetime:
    """SQLite gives no zone, and means UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


MADE = "made"
"""By this name a load's options say which columns it has made: who continues it has to check its values alike."""


def made_by(found: Any) -> frozenset[str]:
    """The columns that a load has made."""
    try:
        names = json.loads(found.options).get(MADE, ())
    except (ValueError, TypeError, AttributeError):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
