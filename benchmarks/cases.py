"""What is measured: for each case its rows, who loads them, and the ratio to each that is the goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import contenders as by
import tables
from tables import Rows


@dataclass(frozen=True)
class Case:
    """A comparison: all contenders load the same rows into the same table, in turn.

    Attributes
    ----------
    rows : callable
        Given a folder for files and the number of rows, makes them.
    goals : mapping of str to float
        How many times as fast as which contender the first one is meant to be.
    full : int
        The number of rows in the full form; `quick` in the quick one.
    """

    name: str
    title: str
    rows: Callable[[Path, int], Rows]
    contenders: tuple[by.Contender, ...]
    goals: dict[str, float] = field(default_factory=dict)
    full: int = 1_000_000
    quick: int = 20_000


def _simple(make: Callable[[int], Rows]) -> Callable[[Path, int], Rows]:
    return lambda _, rows: make(rows)


orders, keyed, objects, notes = map(_simple, (tables.orders, tables.keyed_orders, tables.object_orders, tables.notes))
FAST = (by.PSQL, by.PSQL_2, by.DUCKDB, by.ADBC)
OWN_CHUNKS = by.Contender("dataloader", by.dataloader(commit="chunk", chunk_rows=20_000, workers=1), watches=True)

CASES = [
    Case(
        "one_transaction",
        "Orders, in one transaction",
        orders,
        (by.ONE_TRANSACTION, by.PSQL, by.DUCKDB, by.ADBC, by.POLARS),
        {"psql \\copy, 1 connection": 0.95, "DuckDB": 1.05},
    ),
    Case(
        "by_chunks",
        "Orders, chunk by chunk, exactly once, two workers",
        orders,
        (by.BY_CHUNKS, *FAST),
        {"psql \\copy, 1 connection": 1.25, "psql \\copy, 2 connections": 0.9, "DuckDB": 1.3, "ADBC": 2.0},
    ),
    Case(
        "line_items",
        "Line items (16 columns, decimals and dates), chunk by chunk, exactly once, two workers",
        tables.line_items,
        (by.BY_CHUNKS, *FAST),
        {"psql \\copy, 1 connection": 1.2, "psql \\copy, 2 connections": 0.8, "DuckDB": 1.25, "ADBC": 1.8},
        full=600_000,
    ),
    Case(
        "small_chunks",
        "Exactly once in chunks of 20,000 rows, one worker, against COPY without a ledger",
        orders,
        (OWN_CHUNKS, by.BARE),
        {"bare COPY, commit per chunk": 0.9},
    ),
    Case(
        "primary_key",
        "A table with a primary key, in one transaction",
        keyed,
        (by.ONE_TRANSACTION, by.PSQL, by.DUCKDB, by.ADBC),
        {"psql \\copy, 1 connection": 0.97},
    ),
    Case(
        "objects",
        "A frame whose columns are objects of Python, in one transaction",
        objects,
        (by.ONE_TRANSACTION, by.ADBC, by.DUCKDB),
        {"ADBC": 1.4, "DuckDB": 1.2},
    ),
    Case(
        "notes",
        "Text with gaps, in one transaction",
        notes,
        (by.ONE_TRANSACTION, by.PSQL, by.DUCKDB, by.ADBC),
        full=500_000,
    ),
    Case(
        "every_way",
        "Every way to load 100,000 rows into a table with a primary key",
        keyed,
        (
            by.ONE_TRANSACTION,
            by.PSQL,
            by.DUCKDB,
            by.ADBC,
            by.POLARS,
            by.PSYCOPG,
            by.ASYNCPG,
            by.INSERTMANYVALUES,
            by.PANDAS_MULTI,
            by.EXECUTEMANY,
            by.PANDAS,
            by.PANGRES,
        ),
        full=100_000,
        quick=2_000,
    ),
    Case(
        "hundred_rows",
        "A hundred rows, by an engine that is connected already",
        orders,
        (by.ONE_TRANSACTION, by.PANDAS, by.EXECUTEMANY),
        {"pandas to_sql": 1.0},
        full=100,
        quick=100,
    ),
]
