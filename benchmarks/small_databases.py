"""SQLite: a file that is made anew for each load."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from facts import make_facts
from measured import Load, examine
from results import Form, result, take_turns

import dataloader as dl
from dataloader.database import embedded


async def sqlite(_: embedded.Server, folder: Path, form: Form) -> dict[str, Any]:
    """Half a million orders."""
    frame = make_facts(500_000 if form.name == "full" else 20_000)
    path = folder / "facts.db"

    async def reset() -> None:
        for name in (path, f"{path}-wal", f"{path}-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)

    async def check(name: str) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (stored,) = connection.execute("SELECT count(*) FROM facts").fetchone()
        if stored != len(frame):
            raise RuntimeError(f"{name} stored {stored:,} rows of {len(frame):,}")

    loads, missing = sides(frame, path)
    figures, failed = await take_turns(loads, reset, form.rounds, check)
    for name in figures:
        rest = await examine(loads[name], reset, None, watches=name == "dataloader")
        rest.seconds = figures[name].seconds
        figures[name] = rest
    goals = {"pandas to_sql": 2.7, "ADBC": 1.0}
    return result("Orders into a new SQLite file, in one transaction", len(frame), figures, goals, missing | failed)


def sides(frame: pd.DataFrame, path: Path) -> tuple[dict[str, Load], dict[str, str]]:
    """Who loads, and who is left out for want of which package."""

    async def dataloader() -> None:
        engine = dl.connect(f"sqlite:///{path}")
        await dl.load_dataframe(frame, "facts", engine=engine, commit="load", progress="none", resume=False)
        await engine.dispose()

    def to_sql() -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            frame.to_sql("facts", connection, index=False)
            connection.commit()

    def adbc() -> None:
        from adbc_driver_sqlite import dbapi  # noqa: PLC0415 - it may be missing

        table = pa.Table.from_pandas(frame, preserve_index=False)
        with dbapi.connect(str(path)) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("facts", table)
            connection.commit()

    def utils() -> None:
        import sqlite_utils  # noqa: PLC0415 - it may be missing

        texts = frame.assign(created_at=frame["created_at"].astype(str))
        database = sqlite_utils.Database(path)
        database["facts"].insert_all(texts.to_dict("records"))
        database.close()

    others = {"pandas to_sql": (to_sql, "pandas"), "ADBC": (adbc, "adbc_driver_sqlite")}
    others["sqlite-utils"] = (utils, "sqlite_utils")
    loads: dict[str, Load] = {"dataloader": dataloader}
    missing = {}
    for name, (work, package) in others.items():
        if importlib.util.find_spec(package) is None:
            missing[name] = f"not installed: {package}"
        else:
            loads[name] = lambda work=work: asyncio.to_thread(work)
    return loads, missing


CASES = {"sqlite": sqlite}
