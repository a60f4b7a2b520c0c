"""What a row costs as the rows, the columns, the workers and the chunks become more: flat, or it is told here."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import tables
from contenders import Place, empty_table
from measured import timed
from results import Form
from tables import Rows

import dataloader as dl
from dataloader.database import embedded


def curve(
    title: str, unit: str, points: Callable[[Form], Iterable[tuple[int, Rows, dict[str, Any]]]], per: str = "row"
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Load by dataloader alone, for each point some rows by some options."""

    async def measure(server: embedded.Server, folder: Path, form: Form) -> dict[str, Any]:
        engine = embedded.open_engine(server.url)
        print(f"\n{title}", flush=True)
        found = []
        for at, rows, options in points(form):
            place = Place(server, engine, rows, folder)

            async def load(rows: Rows = rows, options: dict[str, Any] = options) -> object:
                return await dl.load_dataframe(
                    rows.frame, "facts", engine=engine, progress="none", resume=False, **options
                )

            seconds = []
            for number in range(min(form.rounds, 3) + 1):
                await empty_table(place)
                taken = await timed(load)
                if number:
                    seconds.append(taken)
            amount = len(rows) * (len(rows.columns) if per == "value" else 1)
            found.append({"at": at, "seconds": seconds, "microseconds": statistics.median(seconds) / amount * 1e6})
            print(f"  {at:>10,} {unit:<10}{found[-1]['microseconds']:>10.3f} µs a {per}", flush=True)
        await engine.dispose()
        return {"title": title, "unit": unit, "per": per, "points": found}

    return measure


def _sizes(form: Form) -> Iterable[tuple[int, Rows, dict[str, Any]]]:
    for rows in (100, 10_000, 1_000_000, 10_000_000) if form.name == "full" else (100, 10_000):
        yield rows, tables.orders(rows), {}


def _columns(form: Form) -> Iterable[tuple[int, Rows, dict[str, Any]]]:
    values = 8_000_000 if form.name == "full" else 200_000
    for columns in (1, 4, 16, 64, 256, 1_600):
        yield columns, tables.wide(columns, values // columns), {"commit": "load"}


def _workers(form: Form) -> Iterable[tuple[int, Rows, dict[str, Any]]]:
    rows = tables.orders(2_000_000 if form.name == "full" else 50_000)
    for workers in (1, 2, 4):
        yield workers, rows, {"commit": "chunk", "workers": workers}


def _chunks(form: Form) -> Iterable[tuple[int, Rows, dict[str, Any]]]:
    rows = tables.orders(1_000_000 if form.name == "full" else 50_000)
    for chunk in (1_000, 10_000, 50_000, 200_000):
        yield chunk, rows, {"commit": "chunk", "chunk_rows": chunk}


CASES = {
    "sizes": curve("What a row costs, by the number of rows", "rows", _sizes),
    "columns": curve("What a value costs, by the number of columns", "columns", _columns, per="value"),
    "workers": curve("What a row costs, by the number of workers", "workers", _workers),
    "chunks": curve("What a row costs, by the rows of a chunk", "rows", _chunks),
}
