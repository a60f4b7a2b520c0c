"""What is loaded is what was given: later changes of a frame or a dict in place do not reach the load."""

from __future__ import annotations

import array
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dataloader as dl
from dataloader.sources.tables import open_dataframe, snapshot

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

ROWS = 100
SHARES = pd.__version__ >= "3"
"""Whether pandas copies values that frames share before it changes them."""
VALUES = list(range(ROWS))


def frame() -> pd.DataFrame:
    return pd.DataFrame({"id": VALUES, "text": [str(value) for value in VALUES]})


def grow(data: pd.DataFrame) -> None:
    data.loc[ROWS] = [ROWS, "new"]


def assign(data: pd.DataFrame) -> None:
    data.loc[:, "id"] = -1


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "rows dropped": (frame, lambda data: data.drop(data.index[5:], inplace=True)),
    "a row added": (frame, grow),
    "a column added": (frame, lambda data: data.insert(0, "other", 1)),
    "a column dropped": (frame, lambda data: data.pop("id")),
    "columns renamed": (frame, lambda data: data.rename(columns={"id": "other"}, inplace=True)),
    "sorted": (frame, lambda data: data.sort_values("id", ascending=False, inplace=True)),
    "a value assigned": (frame, assign),
    "a list": (lambda: {"id": VALUES.copy()}, lambda data: data["id"].clear()),
    "a NumPy array": (lambda: {"id": np.arange(ROWS)}, lambda data: data["id"].fill(-1)),
    "a NumPy array in strides": (lambda: {"id": np.arange(2 * ROWS)[::2] // 2}, lambda data: data["id"].fill(-1)),
    "an array": (lambda: {"id": array.array("q", VALUES)}, lambda data: data["id"].pop()),
    "a Series": (lambda: {"id": pd.Series(VALUES)}, lambda data: data["id"].__setitem__(slice(None), -1)),
    "a polars Series": (lambda: {"id": pl.Series(VALUES)}, lambda data: data["id"].__setitem__(0, -1)),
    "a key": (lambda: {"id": VALUES}, lambda data: data.clear()),
    "polars": (lambda: pl.DataFrame({"id": VALUES}), lambda data: data.extend(data)),
    "polars columns": (
        lambda: pl.DataFrame({"id": VALUES}),
        lambda data: data.insert_column(0, pl.Series("b", VALUES)),
    ),
}


def ids(source: Any) -> list[Any]:
    return pa.Table.from_batches(source.batches(7))["id"].to_pylist()


@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES)
def test_what_was_opened_is_read_as_it_was(make: Callable[[], Any], change: Callable[[Any], object]) -> None:
    if change is assign and not SHARES:
        pytest.skip("before pandas 3, values that are assigned reach a load that is awaited")
    data = make()
    source = open_dataframe(data)
    change(data)
    assert ids(source) == VALUES


@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES)
def test_what_was_given_to_a_load_in_the_background_is_opened_as_it_was(
    make: Callable[[], Any], change: Callable[[Any], object]
) -> None:
    data = make()
    given = snapshot(data)
    change(data)
    assert ids(open_dataframe(given)) == VALUES


def test_a_change_while_a_source_is_read_does_not_reach_it() -> None:
    data = {"id": np.arange(ROWS)}
    batches = open_dataframe(data).batches(10)
    first = next(batches)
    data["id"].fill(-1)
    assert [first["id"].to_pylist(), *(batch["id"].to_pylist() for batch in batches)] == [
        VALUES[start : start + 10] for start in range(0, ROWS, 10)
    ]


@pytest.mark.parametrize("kind", ["frame", "dict"])
async def test_a_cell_that_changes_what_it_has_just_given_to_a_load_loads_what_it_gave(
    tmp_path: Path, kind: str
) -> None:
    data: Any = {"id": np.arange(50_000)} if kind == "dict" else pd.DataFrame({"id": range(50_000)})
    job = dl.start_load(data, "t", engine=f"sqlite:///{tmp_path}/x.db", progress="none", chunk_rows=500)
    data["id"].fill(-1) if kind == "dict" else data.drop(data.index[100:], inplace=True)
    assert (await job).loaded == 50_000
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("SELECT count(DISTINCT id), min(id), max(id) FROM t").fetchall() == [
            (50_000, 0, 49_999)
        ]


def test_a_frame_shares_its_values_with_what_is_loaded() -> None:
    data = pd.DataFrame({"id": np.arange(ROWS)})
    assert np.shares_memory(snapshot(data)["id"].to_numpy(), data["id"].to_numpy()) == SHARES


def test_the_columns_of_a_dict_are_copied_once() -> None:
    given = snapshot({"id": np.arange(ROWS)})
    assert snapshot(given) is given
