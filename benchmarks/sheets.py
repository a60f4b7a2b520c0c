"""An Excel sheet into a table: how long the load takes beside the reader alone.

Usage: python benchmarks/sheets.py [ROWS]
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import openpyxl
import python_calamine

import dataloader as dl

ROUNDS = 5


def write(path: Path, rows: int) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet, choose = book.create_sheet("orders"), random.Random(1)
    sheet.append(["id", "customer", "amount", "status", "placed"])
    for number in range(rows):
        placed = dt.datetime(2024, 1, 1) + dt.timedelta(minutes=number)
        sheet.append([number, number % 1_000, choose.randint(0, 10**6) / 100, choose.choice(["paid", "open"]), placed])
    book.save(path)


async def main(rows: int) -> None:
    engine = dl.embedded_postgres()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.xlsx"
        write(path, rows)
        times: dict[str, list[float]] = {"the reader alone": [], "loaded": []}
        for _ in range(ROUNDS):
            began = time.perf_counter()
            python_calamine.CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
            times["the reader alone"].append(time.perf_counter() - began)
            began = time.perf_counter()
            await dl.load_files(path, "bench_sheet", engine=engine, if_exists="replace", progress="none")
            times["loaded"].append(time.perf_counter() - began)
    alone, loaded = (statistics.median(one) for one in times.values())
    print(f"{rows:,} rows: the reader alone {alone:.2f} s, loaded {loaded:.2f} s: {alone / loaded:.0%} of its speed")


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
