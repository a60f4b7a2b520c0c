"""Copying as a ratio: dataloader against `psql \\copy to` piped into `psql \\copy from`, both in one run.

    python benchmarks/copying.py [--rows 1000000] [--rounds 5]

The sides take turns; a time is the median of the rounds, a ratio the median of the ratios within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import sqlalchemy as sa
from facts import CREATE, make_facts
from rounds import show, take_turns

import dataloader as dl
from dataloader.database import embedded


async def measure(rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    source = embedded.open_engine(server.url)
    async with source.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text("CREATE DATABASE copies"))
    target = embedded.open_engine(server.url.set(database="copies"))
    for engine in (source, target):
        async with engine.begin() as connection:
            await connection.execute(sa.text(CREATE))
    await dl.load_dataframe(make_facts(rows), "facts", engine=source, progress="none")
    psql = str(embedded.find_binaries() / "psql")
    urls = [f"postgresql://postgres@/{name}?host={server.sockets}" for name in ("postgres", "copies")]

    async def truncate() -> None:
        async with target.begin() as connection:
            await connection.execute(sa.text("TRUNCATE facts"))

    async def own() -> None:
        await dl.copy_table("facts", "facts", source=source, engine=target, progress="none")

    async def decoded() -> None:
        await dl.copy_table("facts", "facts", source=source, engine=target, progress="none", dtype={})

    async def piped(options: str) -> None:
        await asyncio.to_thread(_pipe, psql, urls, options)

    sides = {
        "dataloader": own,
        "dataloader, read and loaded": decoded,
        "psql | psql": lambda: piped(""),
        "psql | psql, binary": lambda: piped("with (format binary)"),
    }
    goals = {"psql | psql": 0.9}
    show("PostgreSQL to PostgreSQL", rows, await take_turns(sides, truncate, rounds), goals)
    await source.dispose()
    await target.dispose()


def _pipe(psql: str, urls: list[str], options: str) -> None:
    commands = [
        [psql, url, "-q", "-c", f"\\copy facts {way} {options}"]
        for url, way in zip(urls, ("to stdout", "from stdin"), strict=True)
    ]
    with subprocess.Popen(commands[0], stdout=subprocess.PIPE) as sending:
        subprocess.run(commands[1], stdin=sending.stdout, check=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Copying against psql, as ratios.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        await measure(arguments.rows, arguments.rounds, Path(name))


if __name__ == "__main__":
    asyncio.run(main())
