"""What exactly-once costs: loads that are committed chunk by chunk, against the floor and against bare COPY.

    python benchmarks/safety.py [--rows 2000000] [--rounds 7]

The floor is one transaction of `psql \\copy` with a pre-encoded file. Bare COPY is the same plan, checks,
conversion and encoding with as many connections, each chunk in a transaction of asyncpg's: no claim, no fingerprint, no
digest, no guard, no totals, no ledger at all. The table is a heap without an index, made anew before every load.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from facts import CREATE, make_facts
from peers import psql_copy, write_encoded
from rounds import Load, show, take_turns

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.backends import backend_for
from dataloader.database.engine import driver_of
from dataloader.loading.chunks import Chunk, SharedIterator, prefetch, read_chunks
from dataloader.loading.validation import check_in_memory
from dataloader.sources.tables import open_dataframe
from dataloader.writers import writer_for
from dataloader.writers.copy import PIECE_BYTES

SMALL_CHUNK = 20_000


async def copy_bare(engine: sa.ext.asyncio.AsyncEngine, chunks: SharedIterator[Chunk]) -> None:
    async with engine.connect() as connection:
        driver = await driver_of(connection)
        while (chunk := await chunks.take()) is not None:

            async def pieces(parts: list[bytes] = chunk.encoded) -> object:
                for part in parts:
                    for start in range(0, len(part), PIECE_BYTES):
                        yield memoryview(part)[start : start + PIECE_BYTES]

            async with driver.transaction():
                await driver.copy_to_table("facts", columns=chunk.batch.schema.names, source=pieces(), format="binary")


async def compare(rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    frame = make_facts(rows)
    encoded = folder / "facts.bin"
    write_encoded(frame, encoded)

    async def reset() -> None:
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP TABLE IF EXISTS facts, dataloader_loads, dataloader_chunks"))
            await connection.execute(sa.text(CREATE))
        async with engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("CHECKPOINT"))

    async def loaded(chunk_rows: int | None) -> None:
        report = await dl.load_dataframe(
            frame, "facts", engine=engine, commit="chunk", chunk_rows=chunk_rows, workers=2, progress="none"
        )
        assert report.loaded == rows

    async def bare() -> None:
        plan = await dl.plan_load(frame, "facts", engine=engine, commit="chunk", chunk_rows=SMALL_CHUNK, workers=2)
        source = open_dataframe(frame)
        await check_in_memory(source, plan)
        writer = writer_for(plan, backend_for(engine.dialect))
        reading = read_chunks(source, replace(plan, commit="load"), writer)  # no digests
        chunks = SharedIterator(prefetch(reading))
        await asyncio.gather(*(copy_bare(engine, chunks) for _ in range(plan.workers)))

    async def psql() -> None:
        await psql_copy(server, encoded)

    floor: dict[str, Load] = {"dataloader": lambda: loaded(None), "psql \\copy, pre-encoded": psql}
    figures = await take_turns(floor, reset, rounds)
    show("Chunk by chunk, 2 workers", rows, figures, {"psql \\copy, pre-encoded": 1.0})
    sides: dict[str, Load] = {"dataloader": lambda: loaded(SMALL_CHUNK), "bare COPY by chunks": bare}
    figures = await take_turns(sides, reset, rounds)
    show(f"Chunks of {SMALL_CHUNK:,} rows, 2 workers", rows, figures, {"bare COPY by chunks": 0.9})
    await engine.dispose()


async def main() -> None:
    parser = argparse.ArgumentParser(description="What exactly-once costs, as ratios.")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        await compare(arguments.rows, arguments.rounds, Path(name))


if __name__ == "__main__":
    asyncio.run(main())
