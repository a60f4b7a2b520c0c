"""Objects that become Arrow part by part become what the whole would."""

from __future__ import annotations

import datetime
import itertools
import sys
import uuid
from collections import deque
from collections.abc import Callable, Collection
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dataloader.conversion import object_arrays
from dataloader.conversion.inference import inferred
from dataloader.conversion.mixed import mixed_objects
from dataloader.errors import UnsupportedType
from dataloader.sources.tables import open_dataframe

NOON = datetime.datetime(2024, 5, 17, 12)
STAMP = pd.Timestamp("2024-05-17 12:00:00.123456")
ONES = {
    "missing": None,
    "NaN": float("nan"),
    "NaT": pd.NaT,
    "NA": pd.NA,
    "integer": 5,
    "wide integer": 2**70,
    "int8": np.int8(5),
    "float": 0.5,
    "boolean": True,
    "text": "x",
    "long text": "ü" * 300,
    "no Unicode": "\udc80",
    "path": Path("x"),
    "bytes": b"x",
    "decimal": Decimal("1.50"),
    "longer decimal": Decimal("-1234567890.123"),
    "tiny decimal": Decimal("1E-20"),
    "huge decimal": Decimal("1E+30"),
    "endless decimal": Decimal("Infinity"),
    "no decimal": Decimal("NaN"),
    "date": NOON.date(),
    "datetime": NOON,
    "datetime of a zone": NOON.replace(tzinfo=ZoneInfo("Europe/Berlin")),
    "Timestamp": STAMP,
    "Timestamp of a zone": STAMP.tz_localize("Asia/Tokyo"),
    "Timestamp of an offset": STAMP.tz_localize(datetime.timezone(datetime.timedelta(hours=2))),
    "Timestamp of nanoseconds": pd.Timestamp("1677-09-22 00:00:00.000000001"),
    "late Timestamp": pd.Timestamp("9999-12-31"),
    "time": NOON.time(),
    "duration": NOON - datetime.datetime(2024, 5, 16),
    "dict": {"a": 1},
    "list": [1, None],
    "list of nothing": [],
    "list of texts": ["x"],
    "uuid": uuid.UUID(int=5),
    "set": {1},
}
PATTERNS = {"halves": "aaabbb", "by turns": "ababab", "after nothing": "---aab", "one": "aaaaab", "missing": "a--b-a"}


@pytest.fixture
def part_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda rows: monkeypatch.setattr(object_arrays, "PART_ROWS", rows)


def found(values: list[Any]) -> object:
    try:
        array = inferred("c", values)
    except UnsupportedType as error:
        return str(error)
    kinds = getattr(array.type, "kinds", array.type)
    return str(kinds), (array.storage if isinstance(array, pa.ExtensionArray) else array).to_pylist()


@pytest.mark.parametrize("name", ONES)
def test_parts_become_what_the_whole_becomes(name: str, part_rows: Callable[[int], None]) -> None:
    for other, pattern in itertools.product(ONES, PATTERNS.values()):
        values = [{"a": ONES[name], "b": ONES[other]}.get(one) for one in pattern]
        part_rows(sys.maxsize)
        whole = found(values)
        for rows in (2, 3):
            part_rows(rows)
            assert found(values) == whole, (other, pattern, rows)


@pytest.mark.parametrize("name", [name for name in ONES if "Timestamp" in name])
@pytest.mark.parametrize("missing", [None, pd.NaT, pd.NA], ids=str)
def test_timestamps_become_what_arrow_makes_of_them(name: str, missing: object) -> None:
    values = [missing, ONES[name], ONES[name].ceil("D"), missing]
    array = inferred("c", values)
    assert array.equals(pa.array(values, array.type, from_pandas=True))
    assert array.type == pa.timestamp("ns" if "nano" in name else "us", pa.array([ONES[name]]).type.tz)


def test_a_long_text_is_not_joined_to_more_than_an_array_holds(
    monkeypatch: pytest.MonkeyPatch, part_rows: Callable[[int], None]
) -> None:
    part_rows(2)
    monkeypatch.setattr(object_arrays, "_MOST_BYTES", 50)
    values = ["x" * 40, None, "y" * 40, "z"]
    array = inferred("c", values)
    assert (array.num_chunks, array.type, array.to_pylist()) == (2, pa.string(), values)


@pytest.mark.parametrize("values", [deque([1, 2, None]), {1: 1, 2: 2, None: None}.keys()], ids=["deque", "keys"])
def test_a_column_of_any_collection_is_taken(values: Collection[Any]) -> None:
    assert open_dataframe({"c": values}).schema == pa.schema({"c": pa.int64()})


def test_a_sparse_column_of_objects_is_taken() -> None:
    values = pd.arrays.SparseArray(["a", None, "b"], dtype=pd.SparseDtype(object))
    (batch,) = open_dataframe(pd.DataFrame({"c": values})).batches(3)
    assert (batch.schema.field("c").type, batch.column(0).to_pylist()) == (pa.string(), ["a", None, "b"])


def stored(column: pd.Series[Any]) -> object:
    """The values that a column of a frame has, or why it is refused."""
    try:
        (batch,) = open_dataframe(column.to_frame("c")).batches(100)
    except UnsupportedType as error:
        return str(error)
    values = batch.column(0)
    return mixed_objects(values.dictionary_decode() if pa.types.is_dictionary(values.type) else values)


@pytest.mark.parametrize("name", ONES)
def test_categories_are_stored_as_the_objects_that_they_are(name: str) -> None:
    """Arrow made days of 1970 of the numbers among the dates of a categorical, without a word."""
    differing = []
    for other, value in ONES.items():
        values = pd.Series([ONES[name], value, None, ONES[name]], dtype=object)
        try:
            categories = values.astype("category")
        except (TypeError, UnicodeEncodeError):  # what pandas cannot look up, or make a text of
            continue
        if stored(categories) != stored(categories.astype(object)):
            differing.append((other, stored(categories), stored(categories.astype(object))))
    assert differing == []


@pytest.mark.parametrize("is_category", [False, True])
def test_a_text_that_is_no_unicode_is_told_in_a_column_of_texts_too(is_category: bool) -> None:
    texts = pd.Series(pd.array(["x", "\udc80", None], dtype=pd.StringDtype("python")))
    assert stored(texts.astype("category") if is_category else texts) == stored(texts.astype(object))
