"""Where the bottleneck moves: one server, and more and more that loads into it.

    python benchmarks/scaling.py [--rows 2000000] [--rounds 3]

Four Parquet files are loaded into a heap without an index, chunk by chunk: by the workers of one process, and as shards
by several processes that have been started before; psql sends the same rows as they are stored, which is what the
server takes. What the rows cost it later, in WAL, space and a vacuum, comes below.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from facts import CREATE, make_facts
from peers import psql_copy, write_encoded
from rounds import Load, take_turns, timed
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded

FILES = 4


def load_shard(url: str, load_id: str, path: str, number: int) -> int:
    options = {"engine": url, "load_id": load_id, "shard": (number, FILES), "progress": "none", "workers": 1}
    return asyncio.run(dl.load_files(path, "facts", **options)).loaded


def ready(seconds: float) -> None:
    """Take a process, so that each is started and has imported everything."""
    time.sleep(seconds)


async def by_psql(server: embedded.Server, encoded: Sequence[Path], connections: int) -> None:
    free = asyncio.Semaphore(connections)

    async def send(path: Path) -> None:
        async with free:
            await psql_copy(server, path)

    await asyncio.gather(*map(send, encoded))


async def by_processes(
    pool: ProcessPoolExecutor, url: str, paths: Sequence[Path], load_ids: itertools.count[int]
) -> None:
    load_id, loop = f"facts {next(load_ids)}", asyncio.get_running_loop()
    shards = [
        loop.run_in_executor(pool, load_shard, url, load_id, str(path), number) for number, path in enumerate(paths, 1)
    ]
    await asyncio.gather(*shards)


async def scalar(engine: AsyncEngine, query: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(sa.text(query))).scalar_one())


async def autocommitted(engine: AsyncEngine, statement: str) -> float:
    """How many seconds a statement takes that cannot be in a transaction."""
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        before = time.perf_counter()
        await connection.execute(sa.text(statement))
        return time.perf_counter() - before


async def show_costs(engine: AsyncEngine, load: Load, rows: int) -> None:
    """What rows cost a server besides the time to load them."""
    before = await scalar(engine, "SELECT pg_current_wal_lsn() - '0/0'")
    await load()
    wal = await scalar(engine, "SELECT pg_current_wal_lsn() - '0/0'") - before
    checkpoint, vacuum = await autocommitted(engine, "CHECKPOINT"), await autocommitted(engine, "VACUUM ANALYZE facts")
    size = await scalar(engine, "SELECT pg_total_relation_size('facts')")
    chunks = await scalar(engine, "SELECT count(*) FROM dataloader_chunks")
    ledger = await scalar(engine, "SELECT pg_total_relation_size('dataloader_chunks')")
    sizes = f"of WAL {wal / rows:.0f} bytes a row, of the table {size / rows:.0f}"
    print(f"\n{sizes}, of the ledger {ledger / chunks:.0f} a chunk")
    print(f"a checkpoint after it {checkpoint:.2f} s, VACUUM ANALYZE of the table {vacuum:.2f} s")


async def measure(rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    url = server.url.render_as_string(hide_password=False)
    frame = make_facts(rows)
    parts = [frame.iloc[at * rows // FILES : (at + 1) * rows // FILES] for at in range(FILES)]
    paths, encoded = [], []
    for number, part in enumerate(parts):
        paths.append(folder / f"{number}.parquet")
        encoded.append(folder / f"{number}.bin")
        part.to_parquet(paths[-1], index=False)
        write_encoded(pd.DataFrame(part), encoded[-1])
    load_ids = itertools.count()

    async def reset() -> None:
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP TABLE IF EXISTS facts"))
            await connection.execute(sa.text(CREATE))
        await autocommitted(engine, "CHECKPOINT")

    async def by_workers(workers: int) -> None:
        options = {"commit": "chunk", "workers": workers, "load_id": f"facts {next(load_ids)}", "progress": "none"}
        assert (await dl.load_files(paths, "facts", engine=engine, **options)).loaded == rows

    with contextlib.ExitStack() as stack:
        sides: dict[str, Load] = {}
        for count in (1, 2, 4):
            sides[f"psql, {count} at once"] = functools.partial(by_psql, server, encoded, count)
            sides[f"one process, workers={count}"] = functools.partial(by_workers, count)
            pool = stack.enter_context(ProcessPoolExecutor(count, multiprocessing.get_context("spawn")))
            [*pool.map(ready, [2.0] * count)]
            sides[f"{count} processes, of a shard each"] = functools.partial(by_processes, pool, url, paths, load_ids)
        figures = await take_turns(sides, reset, rounds)
        print(f"{rows:,} rows, median of {rounds} rounds\n{'side':<34}{'seconds':>9}{'rows/s':>13}")
        for name in sorted(figures):
            median = statistics.median(figures[name])
            print(f"{name:<34}{median:>9.2f}{rows / median:>13,.0f}")
        await reset()
        await show_costs(engine, functools.partial(by_workers, 2), rows)
        await reset()
        heap = await timed(functools.partial(by_workers, 2))
        await reset()
        await autocommitted(engine, "ALTER TABLE facts ADD PRIMARY KEY (id)")
        print(f"with a primary key {await timed(functools.partial(by_workers, 2)) / heap:.2f} times as long")
    await engine.dispose()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Where the bottleneck moves.")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        await measure(arguments.rows, arguments.rounds, Path(name))


if __name__ == "__main__":
    asyncio.run(main())
