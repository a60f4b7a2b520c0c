"""Reading: a whole table of PostgreSQL into Arrow, by who can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import contenders
import tables
from contenders import Place
from measured import Load, examine, postmaster_of
from reading import connectorx_peer, peers
from results import Form, result, take_turns
from tables import Rows

import dataloader as dl
from dataloader.database import embedded

QUERY = "SELECT * FROM facts"


def reading(make: Callable[[Path, int], Rows], title: str, rows: int, goals: dict[str, float]) -> Callable[..., Any]:
    async def measure(server: embedded.Server, folder: Path, form: Form) -> dict[str, Any]:
        engine = embedded.open_engine(server.url)
        place = Place(server, engine, make(folder, rows if form.name == "full" else 20_000), folder)
        await contenders.empty_table(place)
        await dl.load_dataframe(place.rows.frame, "facts", engine=engine, progress="none", resume=False)

        async def dataloader() -> object:
            return await dl.read_dataframe(QUERY, engine=engine, as_="arrow", progress="none")

        loads: dict[str, Load] = {"dataloader": dataloader}
        loads |= peers(server, "facts") | connectorx_peer(server, "facts", into="arrow")
        missing = {name: "not installed" for name in ("DuckDB", "connectorx") if name not in loads}
        figures, failed = await take_turns(loads, _nothing, form.rounds, _nothing)
        for name in figures:
            rest = await examine(loads[name], _nothing, postmaster_of(server.data), watches=name == "dataloader")
            rest.seconds = figures[name].seconds
            figures[name] = rest
        await engine.dispose()
        return result(title, len(place.rows), figures, goals, missing | failed)

    return measure


async def _nothing(*_: object) -> None: ...


CASES = {
    "reading_orders": reading(
        lambda _, rows: tables.orders(rows),
        "Orders from PostgreSQL into Arrow",
        1_000_000,
        {"ADBC": 1.0, "DuckDB": 0.85, "pandas.read_sql": 8},
    ),
    "reading_line_items": reading(
        tables.line_items,
        "Line items from PostgreSQL into Arrow",
        600_000,
        {"ADBC": 1.8, "DuckDB": 1.1, "pandas.read_sql": 5},
    ),
}
