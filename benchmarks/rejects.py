"""What rejects cost: orders with planted bad rows against the same orders without, in one run.

    python benchmarks/rejects.py [--rows 1000000] [--bad 1000] [--rounds 5]

The table has a primary key, a foreign key, a CHECK and NOT NULL columns; the bad rows are of eight kinds, three of
which only the database can refuse. Every round checks that the rejected rows are the planted ones, each with the
reason that it was planted with, and that the table has the others.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from rounds import Load, show, take_turns

import dataloader as dl
from dataloader.database import embedded

SETUP = (
    "DROP TABLE IF EXISTS orders, customers",
    "CREATE TABLE customers (id integer PRIMARY KEY)",
    "INSERT INTO customers SELECT generate_series(1, 10000)",
    """CREATE TABLE orders (
        id bigint PRIMARY KEY, customer_id integer NOT NULL REFERENCES customers, amount numeric(12,4),
        quantity integer CHECK (quantity > 0), status varchar(8) NOT NULL, created_at timestamp
    )""",
)
BAD: tuple[tuple[str, str, Any], ...] = (
    ("customer_id", "foreign_key", 99_999),
    ("id", "unique", 1),
    ("quantity", "check", 0),
    ("amount", "digits", 0.12345),
    ("amount", "range", 1e9),
    ("status", "length", "much too long"),
    ("status", "null", None),
    ("created_at", "nanoseconds", pd.Timestamp("2024-01-01 00:00:00.000000001")),
)
"""Column, the reason that is expected, and the value that is planted."""


def make_orders(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(7)
    start = np.datetime64("2024-01-01T00:00:00", "ns")
    return pd.DataFrame(
        {
            "id": np.arange(1, rows + 1),
            "customer_id": random.integers(1, 10_001, rows),
            "amount": random.integers(0, 10_000_000, rows) / 10_000,
            "quantity": random.integers(1, 100, rows),
            "status": pd.Series(np.array(["new", "paid", "sent"])[random.integers(0, 3, rows)], dtype="str"),
            "created_at": pd.Series(start + random.integers(0, 10**9, rows) * 1_000_000),
        }
    )


def plant(frame: pd.DataFrame, bad: int) -> tuple[pd.DataFrame, dict[int, str]]:
    """The frame with bad rows, and the reason of each by its position. Row 0, whose key some repeat, stays."""
    positions = np.random.default_rng(8).choice(np.arange(1, len(frame)), bad, replace=False)
    planted = frame.copy()
    reasons = {}
    for number, position in enumerate(positions.tolist()):
        column, reason, value = BAD[number % len(BAD)]
        planted.iloc[position, planted.columns.get_loc(column)] = value
        reasons[position] = reason
    return planted, reasons


async def prepare(engine: sa.ext.asyncio.AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in SETUP:
            await connection.execute(sa.text(statement))
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("CHECKPOINT"))


async def load_rejecting(engine: sa.ext.asyncio.AsyncEngine, frame: pd.DataFrame, reasons: dict[int, str]) -> None:
    """Load, and check that what is rejected is what was planted."""
    report = await dl.load_dataframe(frame, "orders", engine=engine, on_invalid="reject", progress="none")
    assert report.loaded == len(frame) - len(reasons), report
    rejects = report.rejects
    found = dict(zip(rejects["reject_row"], rejects["reject_reason"], strict=True))
    assert found == reasons, set(found.items()) ^ set(reasons.items())


async def main() -> None:
    parser = argparse.ArgumentParser(description="What rejects cost, as a ratio.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bad", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    clean = make_orders(arguments.rows)
    planted, reasons = plant(clean, arguments.bad)
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        server = embedded.start(Path(folder) / "pg", embedded.find_binaries())
        engine = embedded.open_engine(server.url)

        async def reset() -> None:
            await prepare(engine)

        async def bad() -> None:
            await load_rejecting(engine, planted, reasons)

        async def good() -> None:
            report = await dl.load_dataframe(clean, "orders", engine=engine, progress="none")
            assert report.loaded == len(clean)

        sides: dict[str, Load] = {"dataloader": bad, "clean load": good}
        title = f"orders with {arguments.bad:,} planted bad rows"
        show(title, len(clean), await take_turns(sides, reset, arguments.rounds), {"clean load": 1 / 3})
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
