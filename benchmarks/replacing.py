"""Replacing a table as a ratio: if_exists="replace" against `psql \\copy` into the same table, in one run.

    python benchmarks/replacing.py [--rows 1000000] [--rounds 5]

The table has a primary key, and as many rows as come. dataloader keeps them until the new ones take their place; psql
is given a file that needs no more work, and an empty table with its primary key in place, or one to truncate first.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import tempfile
from pathlib import Path

import sqlalchemy as sa
from facts import CREATE, make_facts
from peers import write_encoded
from rounds import Load, show, take_turns

import dataloader as dl
from dataloader.database import embedded


async def measure(rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    frame = make_facts(rows)
    encoded = folder / "facts.bin"
    write_encoded(frame, encoded)
    where = ["-h", str(server.sockets), "-U", "postgres", "-d", "postgres"]

    async def psql(*before: str) -> None:
        command = [str(embedded.find_binaries() / "psql"), *where, "-q", "-1"]
        copy = f"\\copy facts from '{encoded}' (format binary)"
        parts = [part for statement in (*before, copy) for part in ("-c", statement)]
        await asyncio.to_thread(subprocess.run, [*command, *parts], check=True)

    async def execute(*statements: str) -> None:
        async with engine.connect() as connection:
            committing = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in statements:
                await committing.execute(sa.text(statement))

    async def full() -> None:
        await execute("DROP TABLE IF EXISTS facts", CREATE, "ALTER TABLE facts ADD PRIMARY KEY (id)")
        await psql()
        await execute("CHECKPOINT")

    async def replace(commit: str) -> None:
        options = {"if_exists": "replace", "commit": commit, "progress": "none"}
        report = await dl.load_dataframe(frame, "facts", engine=engine, **options)  # type: ignore[arg-type]
        assert (report.loaded, report.warnings) == (rows, ())

    sides: dict[str, Load] = {
        "dataloader": lambda: replace("load"),
        "dataloader, by chunks": lambda: replace("chunk"),
        "psql \\copy, empty table": psql,
        "psql truncate, \\copy": lambda: psql("TRUNCATE facts"),
    }
    turns = itertools.cycle(sides)

    async def reset() -> None:
        await full()
        if next(turns) == "psql \\copy, empty table":
            await execute("TRUNCATE facts", "CHECKPOINT")

    figures = await take_turns(sides, reset, rounds)
    show("replace of a table with a primary key", rows, figures, dict.fromkeys([*sides][2:], 1.0))
    await engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        asyncio.run(measure(chosen.rows, chosen.rounds, folder))


if __name__ == "__main__":
    main()
