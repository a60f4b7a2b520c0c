"""Speed as a ratio: dataloader against the floor and the best peers, all in one run on one machine.

    python benchmarks/peers.py [--rows 1000000] [--sqlite-rows 500000] [--rounds 9]

PostgreSQL is the embedded one with its usual settings; the table is a heap without an index, emptied before every
load, which is one transaction. The sides take turns; a time is the median of the rounds, a ratio the median of the
ratios within each round. The loop's longest block is measured apart, by a task that wakes every millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
import statistics
import subprocess
import tempfile
from pathlib import Path

import adbc_driver_postgresql.dbapi
import pandas as pd
import pgpq
import pyarrow as pa
import sqlalchemy as sa
from facts import CREATE, make_facts
from measured import Load, longest_block
from rounds import show, take_turns

import dataloader as dl
from dataloader.database import embedded


async def measure_blocks(load: Load, reset: Load, seconds: float) -> str:
    """The loop's longest block in each of three loads, and in an idle loop: what the machine itself does."""
    blocks = []
    for _ in range(3):
        await reset()
        blocks.append(await longest_block(load))
    idle = await longest_block(lambda: asyncio.sleep(seconds))
    loads = ", ".join(f"{block:.0f}" for block in blocks)
    return f"longest block of the loop in three loads: {loads} ms (goal: 100 ms); in an idle loop: {idle:.0f} ms"


def write_encoded(frame: pd.DataFrame, path: Path) -> None:
    """The frame as the bytes of a binary COPY."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    batches = table.combine_chunks().to_batches()
    path.write_bytes(encoder.write_header() + b"".join(map(encoder.write_batch, batches)) + encoder.finish())


async def psql_copy(server: embedded.Server, encoded: Path) -> None:
    """The floor: psql sends a file that needs no more work, in one transaction."""
    command = f"\\copy facts from '{encoded}' (format binary)"
    where = ["-h", str(server.sockets), "-U", "postgres", "-d", "postgres"]
    program = str(embedded.find_binaries() / "psql")
    await asyncio.to_thread(subprocess.run, [program, *where, "-q", "-c", command], check=True)


async def postgres(rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    frame = make_facts(rows)
    encoded = folder / "facts.bin"
    write_encoded(frame, encoded)

    async def reset() -> None:
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP TABLE IF EXISTS facts"))
            await connection.execute(sa.text(CREATE))
        async with engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("CHECKPOINT"))

    async def dataloader() -> None:
        report = await dl.load_dataframe(frame, "facts", engine=engine, commit="load", progress="none")
        assert (report.loaded, report.method) == (rows, "copy")

    async def psql() -> None:
        await psql_copy(server, encoded)

    async def adbc() -> None:
        uri = f"postgresql://postgres@/postgres?host={server.sockets}"

        def ingest() -> None:
            with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
                cursor.adbc_ingest("facts", pa.Table.from_pandas(frame, preserve_index=False), mode="append")
                connection.commit()

        await asyncio.to_thread(ingest)

    sides: dict[str, Load] = {"dataloader": dataloader, "psql \\copy, pre-encoded": psql, "ADBC adbc_ingest": adbc}
    figures = await take_turns(sides, reset, rounds)
    show("PostgreSQL, heap without index", rows, figures, {"psql \\copy, pre-encoded": 0.9, "ADBC adbc_ingest": 1.6})
    print(await measure_blocks(dataloader, reset, statistics.median(figures["dataloader"])))
    await engine.dispose()


async def sqlite(rows: int, rounds: int, folder: Path) -> None:
    frame = make_facts(rows)
    path = folder / "facts.db"

    async def reset() -> None:
        for name in (path, f"{path}-wal", f"{path}-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)

    async def dataloader() -> None:
        engine = dl.connect(f"sqlite:///{path}")
        report = await dl.load_dataframe(frame, "facts", engine=engine, commit="load", progress="none")
        await engine.dispose()
        assert report.loaded == rows

    async def pandas() -> None:
        def to_sql() -> None:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                frame.to_sql("facts", connection, index=False)
                connection.commit()

        await asyncio.to_thread(to_sql)

    sides: dict[str, Load] = {"dataloader": dataloader, "pandas to_sql": pandas}
    figures = await take_turns(sides, reset, rounds)
    show("SQLite file", rows, figures, {"pandas to_sql": 2.5})
    print(await measure_blocks(dataloader, reset, statistics.median(figures["dataloader"])))


async def main() -> None:
    parser = argparse.ArgumentParser(description="dataloader against its peers, as ratios.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sqlite-rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        folder = Path(name)
        await postgres(arguments.rows, arguments.rounds, folder)
        await sqlite(arguments.sqlite_rows, arguments.rounds, folder)


if __name__ == "__main__":
    asyncio.run(main())
