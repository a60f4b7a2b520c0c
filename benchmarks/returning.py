"""Generated keys as a ratio: `returning=` against Core's insertmanyvalues, in one run on one machine.

    python benchmarks/returning.py [--rows 200000] [--rounds 5]

The table numbers its rows itself; both sides give back each row's key in the order of the frame, in one transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa
from rounds import Load, show, take_turns

import dataloader as dl
from dataloader.database import embedded

CREATE = "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, amount double precision)"


def make_rows(rows: int) -> pd.DataFrame:
    numbers = np.arange(rows)
    return pd.DataFrame({"name": [f"name {number}" for number in numbers], "amount": numbers / 8})


async def measure(rows: int, rounds: int, folder: Path) -> None:
    server = embedded.start(folder / "pg", embedded.find_binaries())
    engine = embedded.open_engine(server.url)
    frame = make_rows(rows)
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("amount", sa.Double),
    )

    async def reset() -> None:
        async with engine.begin() as connection:
            for statement in ("DROP TABLE IF EXISTS t", CREATE):
                await connection.execute(sa.text(statement))

    async def dataloader() -> None:
        report = await dl.load_dataframe(frame, "t", engine=engine, returning="id", progress="none")
        assert report.returned["id"].is_monotonic_increasing
        assert len(report.returned) == rows

    async def core() -> None:
        async with engine.begin() as connection:
            statement = sa.insert(table).returning(table.c.id, sort_by_parameter_order=True)
            found = (await connection.execute(statement, frame.to_dict("records"))).scalars().all()
        keys = pd.Series(found, index=frame.index, name="id")
        assert len(keys) == rows

    sides: dict[str, Load] = {"dataloader": dataloader, "Core insertmanyvalues": core}
    figures = await take_turns(sides, reset, rounds)
    show("generated keys of new rows", rows, figures, {"Core insertmanyvalues": 2.5})
    await engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        asyncio.run(measure(chosen.rows, chosen.rounds, folder))


if __name__ == "__main__":
    main()
