"""Reading as a ratio: dataloader against psql, ADBC, DuckDB, connectorx and pandas, all in one run.

    python benchmarks/reading.py [--rows 1000000] [--items 600000] [--sqlite-rows 500000] [--rounds 5]

The sides take turns; a time is the median of the rounds, a ratio the median of the ratios within each round. Whoever is
not installed takes no part: DuckDB needs `duckdb` and, of the same version, `duckdb-extension-postgres-scanner`, the
line items `tpchgen-cli`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import pandas as pd
import pyarrow.parquet as pq
import sqlalchemy as sa
from contenders import DUCKDB, attached
from facts import CREATE, make_facts
from measured import Load, longest_block
from rounds import show, take_turns
from tables import tpchgen

import dataloader as dl
from dataloader.database import embedded

ITEMS = """CREATE TABLE items (l_orderkey bigint NOT NULL, l_partkey int NOT NULL, l_suppkey int NOT NULL,
l_linenumber int NOT NULL, l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL,
l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL,
l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL)"""
ITEMS_OF_A_SCALE = 6_000_000
GOALS = {
    "facts": {"ADBC": 1.0, "DuckDB": 0.85, "pandas.read_sql": 8.0},
    "items": {"ADBC": 1.8, "DuckDB": 1.1, "pandas.read_sql": 5.0},
}


def peers(server: embedded.Server, table: str) -> dict[str, Load]:
    """Who else reads the table."""
    url = f"postgresql://postgres@/postgres?host={server.sockets}"
    query = f"SELECT * FROM {table}"

    def psql() -> None:
        copy = f"\\copy ({query}) to /dev/null (format csv)"
        subprocess.run([str(embedded.find_binaries() / "psql"), url, "-q", "-c", copy], check=True)

    def adbc() -> None:
        with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            cursor.fetch_arrow_table()

    def pandas() -> None:
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        pd.read_sql(query, engine)
        engine.dispose()

    sides = {
        "psql \\copy csv to /dev/null": _threaded(psql),
        "ADBC": _threaded(adbc),
        "pandas.read_sql": _threaded(pandas),
    }
    return sides | duckdb_peer(url, table)


def duckdb_peer(url: str, table: str) -> dict[str, Load]:
    if any(importlib.util.find_spec(name) is None for name in DUCKDB.needs):
        return {}

    def read() -> None:
        with attached(url) as connection:
            connection.execute(f"SELECT * FROM target.public.{table}").to_arrow_table()

    return {"DuckDB": _threaded(read)}


def connectorx_peer(server: embedded.Server, table: str, into: str = "pandas") -> dict[str, Load]:
    if importlib.util.find_spec("connectorx") is None:
        return {}
    connectorx: Any = importlib.import_module("connectorx")
    host = str(server.sockets).replace("/", "%2F")  # it knows no other spelling of a Unix socket

    def read() -> None:
        url = f"postgresql://postgres@{host}/postgres"
        connectorx.read_sql(url, f"SELECT * FROM {table}", return_type=into)

    return {"connectorx": _threaded(read)}


def _threaded(read: Callable[[], None]) -> Load:
    async def load() -> None:
        await asyncio.to_thread(read)

    return load


async def nothing() -> None:
    """What is done between two of them."""


async def measure(rows: int, items: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    async with engine.begin() as connection:
        await connection.execute(sa.text(CREATE))
        await connection.execute(sa.text(ITEMS))
    await dl.load_dataframe(make_facts(rows), "facts", engine=engine, progress="none")
    tables = {"facts": rows}
    if items and tpchgen():
        await dl.load_dataframe(_make_items(items, folder), "items", engine=engine, progress="none")
        tables["items"] = items
    for table, count in tables.items():

        async def arrow(table: str = table) -> None:
            await dl.read_dataframe(table, engine=engine, as_="arrow", progress="none")

        async def frame(table: str = table) -> None:
            await dl.read_dataframe(table, engine=engine, dtype_backend="numpy_nullable", progress="none")

        sides = {"dataloader": arrow} | peers(server, table)
        show(f"{table}, PostgreSQL into Arrow", count, await take_turns(sides, nothing, rounds), GOALS[table])
        sides = {"dataloader": frame} | connectorx_peer(server, table)
        show(f"{table}, into pandas", count, await take_turns(sides, nothing, rounds), {"connectorx": 1.2})
        await _first_batch(engine, table)
    await engine.dispose()


async def _first_batch(engine: Any, table: str) -> None:
    """When the first batch is there, and for how long at most the event loop did nothing else."""
    first, began = 0.0, time.perf_counter()

    async def read() -> None:
        nonlocal first
        async for _ in dl.read_batches(table, engine=engine, progress="none"):
            first = first or time.perf_counter() - began

    block = await longest_block(read)
    print(f"first batch after {first:.3f} s (goal 0.3), the loop was held for {block:.0f} ms at most (goal 100)")


def _make_items(rows: int, folder: Path) -> Any:
    scale = f"{rows / ITEMS_OF_A_SCALE + 0.001:.4f}"
    command = [tpchgen() or "tpchgen-cli", "parquet", "-s", scale, "--tables=lineitem", f"--output-dir={folder}"]
    subprocess.run(command, check=True, capture_output=True)
    return pq.read_table(folder / "lineitem.parquet").slice(0, rows)


async def sqlite(rows: int, rounds: int, folder: Path) -> None:
    engine = dl.connect(f"sqlite:///{folder}/facts.db")
    await dl.load_dataframe(make_facts(rows), "facts", engine=engine, progress="none")

    async def arrow() -> None:
        await dl.read_dataframe("facts", engine=engine, as_="arrow", progress="none")

    async def frame() -> None:
        await dl.read_dataframe("facts", engine=engine, progress="none")

    def pandas() -> None:
        other = sa.create_engine(f"sqlite:///{folder}/facts.db")
        pd.read_sql("SELECT * FROM facts", other)
        other.dispose()

    sides = {"dataloader": arrow, "dataloader, into pandas": frame, "pandas.read_sql": _threaded(pandas)}
    show("SQLite into Arrow", rows, await take_turns(sides, nothing, rounds), {"pandas.read_sql": 2.5})
    await engine.dispose()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Reading against its peers, as ratios.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=600_000)
    parser.add_argument("--sqlite-rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        if arguments.rows:
            await measure(arguments.rows, arguments.items, arguments.rounds, Path(name))
        if arguments.sqlite_rows:
            await sqlite(arguments.sqlite_rows, arguments.rounds, Path(name))


if __name__ == "__main__":
    asyncio.run(main())
