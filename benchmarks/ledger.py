"""What a ledger costs that has grown: a chunk, a shard's start, a resume and the history, by the number of its chunks.

    python benchmarks/ledger.py [--shards 0 10 100 1000] [--chunks 1000] [--resumed 1000 10000 100000]

The chunks of other shards are copied into the ledger by the server; what is timed are real loads beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded

SMALL = 50
"""So many chunks has a load that is timed by them."""
LOADS = """
    INSERT INTO dataloader_loads SELECT 'big [' || n || '/1000000]', target, source, 'big', chunk_rows, fingerprint,
        options, NULL, 'finished', :chunks, 10 * :chunks, 10 * :chunks, 0, started_at, last_commit_at
    FROM dataloader_loads, generate_series(:first, :last) AS n WHERE load_id = 'first'"""
CHUNKS = """
    INSERT INTO dataloader_chunks SELECT 'big [' || n || '/1000000]', c, 10 * c, 10, 10, 0, digest
    FROM (SELECT digest FROM dataloader_chunks WHERE load_id = 'first' LIMIT 1) AS one,
        generate_series(:first, :last) AS n, generate_series(0, :chunks - 1) AS c"""

SIZE = "SELECT pg_total_relation_size('dataloader_loads') + pg_total_relation_size('dataloader_chunks')"


async def load(engine: AsyncEngine, name: str, chunks: int, **options: Any) -> dl.LoadReport:
    rows = {"n": range(10 * chunks)}
    return await dl.load_dataframe(
        rows, "numbers", engine=engine, load_id=name, chunk_rows=10, progress="none", **options
    )


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """How many seconds it takes, and for how many of them at once the loop was blocked."""
    blocked, is_over = 0.0, False

    async def watch() -> None:
        nonlocal blocked
        while not is_over:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            blocked = max(blocked, time.perf_counter() - before - 0.001)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    before = time.perf_counter()
    await work()
    seconds, is_over = time.perf_counter() - before, True
    await watching
    return seconds, blocked


async def grow(engine: AsyncEngine, before: int, shards: int, chunks: int) -> None:
    async with engine.begin() as connection:
        given = {"first": before + 1, "last": shards, "chunks": chunks}
        typed = [sa.bindparam(name, value, sa.BigInteger) for name, value in given.items()]
        for statement in (LOADS, CHUNKS):
            await connection.execute(sa.text(statement).bindparams(*typed))
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(sa.text("VACUUM ANALYZE"))


async def beside_others(engine: AsyncEngine, sizes: list[int], chunks: int) -> None:
    print(f"{'chunks in the ledger':>22}{'a chunk':>12}{'a shard':>12}{'a resume':>12}{'the history':>14}{'size':>10}")
    before = 0
    for shards in sizes:
        if shards:
            await grow(engine, before, shards, chunks)
        before = shards
        small, _ = await timed(functools.partial(load, engine, f"small {shards}", SMALL))
        shard, _ = await timed(functools.partial(load, engine, f"shards {shards}", 1, shard=(1, 2)))
        resumed, _ = await timed(functools.partial(load, engine, f"small {shards}", SMALL, resume=True))
        history, _ = await timed(lambda: dl.load_history(engine=engine))
        async with engine.connect() as connection:
            nbytes = (await connection.execute(sa.text(SIZE))).scalar_one()
        shown = f"{small / SMALL * 1e3:>9.2f} ms{shard * 1e3:>9.0f} ms{resumed * 1e3:>9.0f} ms{history * 1e3:>11.0f} ms"
        print(f"{shards * chunks:>22,}{shown}{nbytes / 2**20:>7.0f} MB")


async def of_one_load(engine: AsyncEngine, sizes: list[int]) -> None:
    """A load that is taken up reads its own chunks."""
    print(f"\n{'chunks of the load':>22}{'a resume':>12}{'loop blocked':>14}{'memory':>10}")
    for chunks in sizes:
        await load(engine, f"own {chunks}", chunks, workers=2)
        before = psutil.Process().memory_info().rss
        seconds, blocked = await timed(functools.partial(load, engine, f"own {chunks}", chunks, resume=True))
        grown = psutil.Process().memory_info().rss - before
        print(f"{chunks:>22,}{seconds:>10.2f} s{blocked * 1e3:>11.0f} ms{grown / 2**20:>7.0f} MB")


async def main() -> None:
    parser = argparse.ArgumentParser(description="What a ledger costs that has grown.")
    parser.add_argument("--shards", type=int, nargs="+", default=[0, 10, 100, 1_000])
    parser.add_argument("--chunks", type=int, default=1_000, help="of each shard")
    parser.add_argument("--resumed", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        server = embedded.start(Path(name) / "pg", embedded.find_binaries())
        engine = embedded.open_engine(server.url)
        await load(engine, "first", SMALL)
        await beside_others(engine, arguments.shards, arguments.chunks)
        await of_one_load(engine, arguments.resumed)
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
