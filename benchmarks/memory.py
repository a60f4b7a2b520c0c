"""How much the memory of a load grows: generated rows and a Parquet file, committed chunk by chunk by two workers.

    python benchmarks/memory.py [--rows 10000000]

Each load runs in a process of its own, after a small one that warms everything up; the growth is that of the
process's highest resident memory over what it had before the load.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet

import dataloader as dl
from dataloader.database import embedded

GOAL_MB = 64
BATCH_ROWS = 65_536


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """The columns of benchmarks/facts.py, made a batch at a time."""
    random = np.random.default_rng(7)
    status = pa.array(["new", "paid", "packed", "shipped", "returned"])
    for start in range(0, rows, BATCH_ROWS):
        size = min(BATCH_ROWS, rows - start)
        moments = pa.array(random.integers(1_700_000_000_000_000, 1_800_000_000_000_000, size))
        yield pa.record_batch(
            {
                "id": np.arange(start, start + size),
                "customer": random.integers(0, 100_000, size, dtype="int32"),
                "amount": random.random(size) * 1000,
                "status": status.take(pa.array(random.integers(0, len(status), size))),
                "created_at": moments.cast(pa.timestamp("us", "UTC")),
            }
        )


def write_parquet(path: Path, rows: int) -> None:
    parts = batches(rows)
    first = next(parts)
    with pa.parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_batch(first)
        for batch in parts:
            writer.write_batch(batch)


async def load(url: str, source: str, rows: int) -> None:
    """One load in this process; prints its growth in MB."""
    engine = dl.connect(url)
    options = {"if_exists": "append", "commit": "chunk", "workers": 2, "progress": "none", "resume": False}
    await dl.load_batches(batches(200_000), "warm_up", **options)
    before = psutil.Process().memory_info().rss
    loading = dl.load_batches(batches(rows), "facts", **options) if source == "rows" else None
    report = await (loading or dl.load_files(source, "facts", **options))
    assert report.loaded == rows
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{max(highest - before, 0) / 2**20:.0f} MB, {report.rows_per_second:,.0f} rows/s")
    await engine.dispose()


def measure(rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        server = embedded.start(Path(name) / "pg", embedded.find_binaries())
        parquet = Path(name) / "facts.parquet"
        write_parquet(parquet, rows)
        url = server.url.render_as_string(hide_password=False)
        for what, source, size in (
            ("a tenth from a generator", "rows", rows // 10),
            ("all from a generator", "rows", rows),
            ("all from Parquet", str(parquet), rows),
        ):
            command = [sys.executable, __file__, "--load", url, source, str(size)]
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(f"{what}: {size:,} rows, memory grew by {shown} (goal: {GOAL_MB} MB)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="How much the memory of a load grows.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--load", nargs=3, metavar=("URL", "SOURCE", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        url, source, rows = arguments.load
        asyncio.run(load(url, source, int(rows)))
    else:
        measure(arguments.rows)


if __name__ == "__main__":
    main()
