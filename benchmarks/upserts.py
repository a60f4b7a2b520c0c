"""Upserts as a ratio: dataloader against Core's executemany and pgcopyinsert, all in one run on one machine.

    python benchmarks/upserts.py [--rows 200000] [--table-rows 1000000] [--rounds 5]

Half of the rows are in the table, with other values. One transaction; the table has a primary key and is filled anew
before every side.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa
from pgcopyinsert.asynchronous.pd import copyinsert_dataframe
from pgcopyinsert.insert import insert_from_table_stmt_ocdu
from rounds import Load, show, take_turns
from sqlalchemy.dialects import postgresql

import dataloader as dl
from dataloader.database import embedded

CREATE = "CREATE TABLE t (id bigint PRIMARY KEY, name text, amount double precision, at timestamptz)"
FILL = "INSERT INTO t SELECT g, 'name ' || g, g / 4.0, '2024-05-17' FROM generate_series(0, {}) g"


def make_rows(rows: int, table_rows: int) -> pd.DataFrame:
    numbers = np.arange(rows) + table_rows - rows // 2
    return pd.DataFrame(
        {
            "id": np.random.default_rng(1).permutation(numbers),
            "name": [f"changed {number}" for number in numbers],
            "amount": numbers / 8,
            "at": pd.Timestamp("2024-06-01", tz="UTC") + pd.to_timedelta(numbers, unit="s"),
        }
    )


async def measure(rows: int, table_rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    frame = make_rows(rows, table_rows)
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger),
        sa.Column("name", sa.Text),
        sa.Column("amount", sa.Double),
        sa.Column("at", sa.DateTime(timezone=True)),
    )

    async def reset() -> None:
        async with engine.begin() as connection:
            for statement in ("DROP TABLE IF EXISTS t", CREATE, FILL.format(table_rows - 1)):
                await connection.execute(sa.text(statement))
        async with engine.connect() as connection:
            at_once = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in ("VACUUM ANALYZE t", "CHECKPOINT"):
                await at_once.execute(sa.text(statement))

    async def dataloader() -> None:
        report = await dl.load_dataframe(
            frame, "t", engine=engine, on_conflict="update", commit="load", progress="none"
        )
        assert (report.inserted, report.updated) == (rows - rows // 2, rows // 2), report

    async def core() -> None:
        async with engine.begin() as connection:
            statement = postgresql.insert(table)
            changed = {name: statement.excluded[name] for name in frame.columns[1:]}
            statement = statement.on_conflict_do_update(index_elements=["id"], set_=changed)
            await connection.execute(statement, frame.to_dict("records"))

    async def pgcopyinsert() -> None:
        async with engine.begin() as connection:
            await copyinsert_dataframe(
                frame, "t", "staged", connection, insert_function=insert_from_table_stmt_ocdu, constraint="t_pkey"
            )

    sides: dict[str, Load] = {"dataloader": dataloader, "pgcopyinsert": pgcopyinsert, "Core executemany": core}
    figures = await take_turns(sides, reset, rounds)
    show(
        f"upsert into {table_rows:,} rows, half of them there",
        rows,
        figures,
        {"Core executemany": 3, "pgcopyinsert": 1},
    )
    await engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--table-rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        asyncio.run(measure(chosen.rows, chosen.table_rows, chosen.rounds, folder))


if __name__ == "__main__":
    main()
