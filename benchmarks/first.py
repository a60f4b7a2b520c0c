"""The first load of a fresh process: three rows into a new SQLite file, beside pandas' to_sql, imports included.

Run with ``python benchmarks/first.py [--rounds 20]``. The third process does only what no async load can leave out:
Arrow's functions, SQLAlchemy's asyncio, which imports its ORM, and two statements.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_FRAME = 'pandas.DataFrame({"id": [1, 2, 3], "name": ["a", "b", "c"], "amount": [1.5, 2.5, 3.5]})'
_OURS = f"""
import asyncio, pandas
import dataloader as dl
async def main():
    engine = dl.connect("sqlite:///FILE")
    await dl.load_dataframe({_FRAME}, "orders", engine=engine)
    await engine.dispose()
asyncio.run(main())
"""
_TO_SQL = f"""
import pandas, sqlalchemy
engine = sqlalchemy.create_engine("sqlite:///FILE")
{_FRAME}.to_sql("orders", engine, index=False)
engine.dispose()
"""
_FLOOR = f"""
import asyncio, pandas, pyarrow.compute, sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
async def main():
    engine = create_async_engine("sqlite+aiosqlite:///FILE")
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.text("CREATE TABLE orders (id INTEGER, name TEXT, amount REAL)"))
        insert = sqlalchemy.text("INSERT INTO orders VALUES (:id, :name, :amount)")
        await connection.execute(insert, {_FRAME}.to_dict("records"))
    await engine.dispose()
asyncio.run(main())
"""
PROCESSES = {"pandas to_sql": _TO_SQL, "what no async load can leave out": _FLOOR, "load_dataframe": _OURS}


def seconds_of(script: str, environment: dict[str, str]) -> float:
    """The seconds of one process, its start and its end included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", script.replace("FILE", str(Path(folder, "first.db")))]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    # An installed package is compiled: what says not to keep that would have it compiled in each process.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[float]] = {name: [] for name in PROCESSES}
    for number in range(rounds + 1):  # the first warms the disk and compiles
        for name, script in PROCESSES.items():
            seconds = seconds_of(script, environment)
            taken[name] += [seconds] if number else []
    base = taken["pandas to_sql"]
    for name, seconds in taken.items():
        middle, least = statistics.median(seconds), min(seconds)
        more = f"{middle - statistics.median(base):+.2f} s, at its least {least - min(base):+.2f} s"
        print(f"{name:34} {middle:.2f} s (least {least:.2f} s)  {more}")


if __name__ == "__main__":
    main()
