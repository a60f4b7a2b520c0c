"""The tables that the figures are about: their definition, their rows, and those rows as the peers take them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from facts import CREATE, make_facts

LINE_ITEMS = """CREATE TABLE facts (
    l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber integer, l_quantity numeric(15,2),
    l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2), l_returnflag text, l_linestatus text,
    l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct text, l_shipmode text, l_comment text)"""
NOTES = "CREATE TABLE facts (id bigint, title text, body text, author text, score double precision, seen timestamp)"


@dataclass(frozen=True)
class Rows:
    """Rows and the table that they go into, always called facts."""

    create: str
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def columns(self) -> list[str]:
        return list(self.frame.columns)


def orders(rows: int) -> Rows:
    """Five columns: int64, int32, float64, a short string, timestamptz."""
    return Rows(CREATE, make_facts(rows))


def keyed_orders(rows: int) -> Rows:
    """The same with a primary key, its values in no order."""
    shuffled = make_facts(rows).sample(frac=1, random_state=7, ignore_index=True)
    return Rows(CREATE.replace("id bigint", "id bigint PRIMARY KEY"), shuffled)


def object_orders(rows: int) -> Rows:
    """The same as pandas before 3 holds what it has read: strings, numbers and times as objects of Python."""
    frame = make_facts(rows)
    frame["status"] = frame["status"].astype(object)
    frame["customer"] = frame["customer"].astype(object)
    frame["created_at"] = frame["created_at"].astype(object)
    return Rows(CREATE.replace("customer int", "customer bigint"), frame)


def notes(rows: int) -> Rows:
    """Mostly text, of 20 to 400 characters, a fifth of it missing."""
    random = np.random.default_rng(7)
    words = np.array("a load is what an analyst does with rows before the coffee is cold and after it".split())

    def texts(most: int, missing: float) -> pd.Series:
        known = pd.Series([" ".join(random.choice(words, random.integers(4, most))) for _ in range(1_000)], dtype="str")
        return known[random.integers(0, 1_000, rows)].reset_index(drop=True).mask(random.random(rows) < missing)

    seen = pd.Series(np.datetime64("2024-01-01", "us") + random.integers(0, 10**12, rows))
    score = pd.Series(random.random(rows)).mask(random.random(rows) < 0.2)
    columns = {"title": texts(8, 0), "body": texts(90, 0.2), "author": texts(6, 0.2)}
    return Rows(NOTES, pd.DataFrame({"id": np.arange(rows), **columns, "score": score, "seen": seen}))


def wide(columns: int, rows: int) -> Rows:
    """Integers in so many columns."""
    random = np.random.default_rng(7)
    names = [f"c{number}" for number in range(columns)]
    create = f"CREATE TABLE facts ({', '.join(f'{name} integer' for name in names)})"
    return Rows(create, pd.DataFrame(random.integers(0, 1000, (rows, columns), dtype="int32"), columns=names))


def tpchgen() -> str | None:
    """The program, which may stand beside a Python whose environment is not activated; None: it is not installed."""
    return shutil.which("tpchgen-cli") or shutil.which("tpchgen-cli", path=Path(sys.executable).parent)


def line_items(folder: Path, rows: int) -> Rows:
    """Sixteen columns of TPC-H's line items, made by tpchgen."""
    scale = max(rows / 6_000_000, 0.001)
    command = [
        tpchgen() or "tpchgen-cli",
        "parquet",
        "-s",
        f"{scale:g}",
        "--tables",
        "lineitem",
        "--output-dir",
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True)
    table = pq.read_table(folder / "lineitem.parquet")
    plain = [pa.field(one.name, pa.string()) if pa.types.is_string_view(one.type) else one for one in table.schema]
    frame = table.cast(pa.schema(plain)).to_pandas(types_mapper=pd.ArrowDtype)
    return Rows(LINE_ITEMS, frame)
