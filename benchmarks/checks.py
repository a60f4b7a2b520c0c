"""What the checks cost: a load with every check on against the same load with plain casts, in one run.

    python benchmarks/checks.py [--rows 1000000] [--rounds 9]

Two tables, both a heap without an index: `facts` of benchmarks/facts.py, whose columns have the types of the frame,
and `orders`, whose columns are narrower than the frame's, so that every value has to be looked at. The side without
checks casts by Arrow's unsafe casts, looks at nothing, and does not go through the frame before it sends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from facts import CREATE, make_facts
from rounds import Load, show, take_turns

import dataloader as dl
from dataloader.database import embedded

ORDERS = """CREATE TABLE orders (
    id bigint NOT NULL, customer_id integer, amount numeric(12,4), status varchar(32) NOT NULL, created_at timestamptz
)"""


def make_orders(rows: int) -> pd.DataFrame:
    """Orders as an analyst has them: int64, int64, float64, text, timestamp[ns] with a zone."""
    random = np.random.default_rng(7)
    facts = make_facts(rows)
    return pd.DataFrame(
        {
            "id": facts["id"],
            "customer_id": facts["customer"].astype("int64"),
            "amount": random.integers(0, 10_000_000, rows) / 10_000,
            "status": facts["status"],
            "created_at": facts["created_at"].astype("datetime64[ns, UTC]"),
        }
    )


def _plain_cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return values.cast(wanted, safe=False)


@contextlib.contextmanager
def without_checks() -> Iterator[None]:
    """Replace the checked casts by plain ones, and the checks by nothing."""

    async def look_at_nothing(*_: Any) -> None:
        return None

    with (
        mock.patch("dataloader.conversion.steps._cast_for", return_value=_plain_cast),
        mock.patch("dataloader.conversion.steps._checks", return_value=()),
        mock.patch("dataloader.loading.pipeline.check_in_memory", look_at_nothing),
    ):
        yield


async def compare(engine: sa.ext.asyncio.AsyncEngine, name: str, create: str, frame: pd.DataFrame, rounds: int) -> None:
    async def reset() -> None:
        async with engine.begin() as connection:
            await connection.execute(sa.text(f"DROP TABLE IF EXISTS {name}"))
            await connection.execute(sa.text(create))
        async with engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("CHECKPOINT"))

    async def checked() -> None:
        assert (await dl.load_dataframe(frame, name, engine=engine, progress="none")).loaded == len(frame)

    async def plain() -> None:
        with without_checks():
            await checked()

    sides: dict[str, Load] = {"dataloader": checked, "plain casts": plain}
    show(name, len(frame), await take_turns(sides, reset, rounds), {"plain casts": 0.95})


async def main() -> None:
    parser = argparse.ArgumentParser(description="What the checks cost, as a ratio.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlb-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        server = embedded.start(Path(folder) / "pg", embedded.find_binaries())
        engine = embedded.open_engine(server.url)
        await compare(engine, "facts", CREATE, make_facts(arguments.rows), arguments.rounds)
        await compare(engine, "orders", ORDERS, make_orders(arguments.rows), arguments.rounds)
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
