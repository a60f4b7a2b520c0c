"""Every figure of docs/performance.md, in one run on this machine: a PostgreSQL of its own, data of its own.

    python benchmarks/bench.py --quick            # a few minutes: whether it works
    python benchmarks/bench.py --full             # about an hour: what is published
    python benchmarks/bench.py --only one_transaction --rounds 9

The contenders of a case take turns; a time is the median of the rounds, a ratio the median of the ratios within each
round. The result is written as JSON; `python benchmarks/page.py` makes the page and its plots from it.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import curves
import reads
import small_databases
import sqlalchemy as sa
from cases import CASES, Case
from contenders import Place, empty_table
from measured import examine, machine, postmaster_of
from results import Form, result, take_turns

import dataloader as dl
from dataloader.database import embedded

PACKAGES = ("sqlalchemy", "asyncpg", "pandas", "pyarrow", "polars", "psycopg", "duckdb", "adbc-driver-postgresql")
OTHERS = ("connectorx", "pangres", "sqlite-utils")


FORMS = {"quick": Form("quick", 2), "full": Form("full", 7)}


async def run_case(case: Case, server: embedded.Server, folder: Path, form: Form) -> dict[str, Any]:
    """Load the rows of a case by each of its contenders in turn."""
    engine = embedded.open_engine(server.url)
    rows = case.rows(folder, case.full if form.name == "full" else case.quick)
    place = Place(server, engine, rows, folder)

    async def reset() -> None:
        await empty_table(place)

    await reset()
    await dl.load_dataframe(rows.frame, "facts", engine=engine, progress="none", resume=False)
    present = [one for one in case.contenders if not one.missing]
    loads = {one.name: one.prepare(place) for one in present}
    figures, failed = await take_turns(loads, reset, form.rounds, partial(check_rows, place))
    for one in present:
        if one.name in failed:
            continue
        rest = await examine(loads[one.name], reset, postmaster_of(server.data), watches=one.watches)
        rest.seconds = figures[one.name].seconds
        figures[one.name] = rest
    await engine.dispose()
    missing = {one.name: "not installed: " + ", ".join(one.missing) for one in case.contenders if one.missing}
    return result(case.title, len(rows), figures, case.goals, missing | failed)


async def check_rows(place: Place, name: str) -> None:
    """A contender that has not stored every row has not been measured."""
    async with place.engine.connect() as connection:
        stored = (await connection.execute(sa.text("SELECT count(*) FROM facts"))).scalar_one()
    if stored != len(place.rows):
        raise RuntimeError(f"{name} stored {stored:,} rows of {len(place.rows):,}")


def versions() -> dict[str, str]:
    found = {}
    for name in (*PACKAGES, *OTHERS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


async def run(form: Form, only: list[str], folder: Path, out: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    try:
        loads = {case.name: partial(run_case, case) for case in CASES}
        measures: dict[str, Callable[..., Any]] = loads | small_databases.CASES | reads.CASES | curves.CASES
        cases: dict[str, Any] = {}
        head = {"measured": dt.date.today().isoformat(), "form": form.name, "rounds": form.rounds}
        found = head | {"machine": machine(), "versions": versions(), "cases": cases}
        for name in only or measures:
            place = Path(tempfile.mkdtemp(prefix=name, dir=folder))
            cases[name] = await measures[name](server, place, form)
            keep(found, out)
    finally:
        server.stop()


def keep(found: dict[str, Any], path: Path) -> None:
    """What is measured stays, if the rest is interrupted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="dataloader against the floor and its peers.")
    parser.add_argument("--quick", dest="form", action="store_const", const="quick", default="quick")
    parser.add_argument("--full", dest="form", action="store_const", const="full")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", action="append", default=[], metavar="CASE")
    parser.add_argument("--out", type=Path, default=Path("build/performance.json"))
    arguments = parser.parse_args()
    form = FORMS[arguments.form]
    form = Form(form.name, arguments.rounds or form.rounds)
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        asyncio.run(run(form, arguments.only, Path(name), arguments.out))
    print(f"\nwritten: {arguments.out}")


if __name__ == "__main__":
    main()
