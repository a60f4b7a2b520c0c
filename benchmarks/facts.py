"""The table that the figures of the main job are about."""

from __future__ import annotations

import numpy as np
import pandas as pd

CREATE = "CREATE TABLE facts (id bigint, customer int, amount float8, status text, created_at timestamptz)"


def make_facts(rows: int) -> pd.DataFrame:
    """The table that every figure is about: int64, int32, float64, a short string, timestamptz."""
    random = np.random.default_rng(7)
    status = np.array(["new", "paid", "packed", "shipped", "returned"])
    start = np.datetime64("2024-01-01T00:00:00", "us")
    return pd.DataFrame(
        {
            "id": np.arange(rows, dtype="int64"),
            "customer": random.integers(0, 100_000, rows, dtype="int32"),
            "amount": random.random(rows) * 1000,
            "status": pd.Series(status[random.integers(0, len(status), rows)], dtype="str"),
            "created_at": pd.Series(start + random.integers(0, 10**12, rows)).dt.tz_localize("UTC"),
        }
    )
