"""Reading as a ratio: dataloader against psql, ADBC, connectorx where it is installed, and pandas, all in one run.

    python benchmarks/reading.py [--rows 1000000] [--sqlite-rows 500000] [--rounds 5]

The sides take turns; a time is the median of the rounds, a ratio the median of the ratios within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import adbc_driver_postgresql.dbapi
import pandas as pd
import sqlalchemy as sa
from facts import CREATE, make_facts
from rounds import Load, show, take_turns

import dataloader as dl
from dataloader.database import embedded

QUERY = "SELECT * FROM facts"


def peers(server: embedded.Server) -> dict[str, Load]:
    """Who else reads the table."""
    url = f"postgresql://postgres@/postgres?host={server.sockets}"

    async def psql() -> None:
        command = [
            str(embedded.find_binaries() / "psql"),
            url,
            "-q",
            "-c",
            f"\\copy ({QUERY}) to /dev/null (format csv)",
        ]
        await asyncio.to_thread(subprocess.run, command, check=True)

    async def adbc() -> None:
        with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(QUERY)
            cursor.fetch_arrow_table()

    async def pandas() -> None:
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        pd.read_sql(QUERY, engine)
        engine.dispose()

    async def connectorx() -> None:
        import connectorx  # noqa: PLC0415 - it may be missing

        connectorx.read_sql(url, QUERY, return_type="arrow")

    sides: dict[str, Load] = {"psql \\copy csv to /dev/null": psql, "ADBC": adbc, "pandas.read_sql": pandas}
    return sides | ({"connectorx": connectorx} if importlib.util.find_spec("connectorx") else {})


async def measure(rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    async with engine.begin() as connection:
        await connection.execute(sa.text(CREATE))
    await dl.load_dataframe(make_facts(rows), "facts", engine=engine, progress="none")

    async def arrow() -> None:
        await dl.read_dataframe(QUERY, engine=engine, as_="arrow", progress="none")

    async def frame() -> None:
        await dl.read_dataframe(QUERY, engine=engine, progress="none")

    async def nothing() -> None: ...

    sides = {"dataloader": arrow, "dataloader, into pandas": frame} | peers(server)
    goals = {"ADBC": 1.0, "pandas.read_sql": 8.0}
    show("PostgreSQL into Arrow", rows, await take_turns(sides, nothing, rounds), goals)
    await engine.dispose()


async def sqlite(rows: int, rounds: int, folder: Path) -> None:
    engine = dl.connect(f"sqlite:///{folder}/facts.db")
    await dl.load_dataframe(make_facts(rows), "facts", engine=engine, progress="none")

    async def arrow() -> None:
        await dl.read_dataframe(QUERY, engine=engine, as_="arrow", progress="none")

    async def frame() -> None:
        await dl.read_dataframe(QUERY, engine=engine, progress="none")

    async def pandas() -> None:
        other = sa.create_engine(f"sqlite:///{folder}/facts.db")
        pd.read_sql(QUERY, other)
        other.dispose()

    async def nothing() -> None: ...

    sides = {"dataloader": arrow, "dataloader, into pandas": frame, "pandas.read_sql": pandas}
    show("SQLite into Arrow", rows, await take_turns(sides, nothing, rounds), {"pandas.read_sql": 2.5})
    await engine.dispose()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Reading against its peers, as ratios.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sqlite-rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        if arguments.rows:
            await measure(arguments.rows, arguments.rounds, Path(name))
        if arguments.sqlite_rows:
            await sqlite(arguments.sqlite_rows, arguments.rounds, Path(name))


if __name__ == "__main__":
    asyncio.run(main())
