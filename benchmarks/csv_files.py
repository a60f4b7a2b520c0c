"""CSV as a ratio: dataloader against psql's \\copy of the same file, and what finding out how it is written costs.

    python benchmarks/csv_files.py [--rows 1000000] [--megabytes 1000] [--rounds 5]

The file has orders: a number, a customer, a price, a day and a note with commas in it. Both sides load it into the
same heap without an index, dataloader chunk by chunk with two workers. The second figure is of a file that is only
read: opening it, which finds out its dialect and its types, against reading every row of it as text.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from rounds import Load, show, take_turns

import dataloader as dl
from dataloader.database import embedded
from dataloader.sources.files import open_files

CREATE = "CREATE TABLE orders (id bigint, customer text, price numeric(12, 2), day date, note text)"


def write_orders(path: Path, rows: int) -> None:
    random = np.random.default_rng(7)
    numbers = np.arange(rows)
    table = pa.table(
        {
            "id": numbers,
            "customer": [f"customer {number}" for number in random.integers(0, 5_000, rows)],
            "price": [f"{cents / 100:.2f}" for cents in random.integers(0, 1_000_000, rows)],
            "day": np.datetime64("2024-01-01") + numbers % 365,
            "note": [f"note, number {number}" for number in numbers],
        }
    )
    pa.csv.write_csv(table, path)


async def postgres(path: Path, rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)

    async def reset() -> None:
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP TABLE IF EXISTS orders"))
            await connection.execute(sa.text(CREATE))
        async with engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("CHECKPOINT"))

    async def dataloader() -> None:
        report = await dl.load_files(
            path, "orders", engine=engine, commit="chunk", workers=2, resume=False, progress="none"
        )
        assert report.loaded == rows

    async def psql() -> None:
        command = f"\\copy orders from '{path}' (format csv, header)"
        where = ["-h", str(server.sockets), "-U", "postgres", "-d", "postgres"]
        program = str(embedded.find_binaries() / "psql")
        await asyncio.to_thread(subprocess.run, [program, *where, "-q", "-c", command], check=True)

    sides: dict[str, Load] = {"dataloader": dataloader, "psql \\copy csv": psql}
    show("CSV into PostgreSQL", rows, await take_turns(sides, reset, rounds), {"psql \\copy csv": 1.8})
    await engine.dispose()


def sniffing(part: Path, megabytes: int, path: Path) -> None:
    """What is found out of a large file, against reading it."""
    header, _, body = part.read_bytes().partition(b"\n")
    with path.open("wb") as file:
        file.write(header + b"\n")
        while file.tell() < megabytes << 20:
            file.write(body)
    before = time.perf_counter()
    source = open_files(path)
    found = time.perf_counter() - before
    before = time.perf_counter()
    rows = sum(batch.num_rows for batch in source.batches(50_000))
    read = time.perf_counter() - before
    print(f"\n{path.stat().st_size >> 20:,} MB, {rows:,} rows: found out in {found:.2f} s, read in {read:.2f} s")
    print(f"finding out adds {found / read:.1%} (goal: 10 %)")


async def main() -> None:
    parser = argparse.ArgumentParser(description="CSV files, as ratios.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        folder = Path(name)
        write_orders(folder / "orders.csv", arguments.rows)
        await postgres(folder / "orders.csv", arguments.rows, arguments.rounds, folder)
        sniffing(folder / "orders.csv", arguments.megabytes, folder / "large.csv")


if __name__ == "__main__":
    asyncio.run(main())
