"""What is decided about values is the same whatever PYTHONHASHSEED is, which orders every set anew.

Pairs and triples of kinds in one column. Four seeds in CI; with `DATALOADER_FAULTS=full` twenty.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SEEDS = range(20 if os.environ.get("DATALOADER_FAULTS") == "full" else 4)
AT_ONCE = 4
DECISIONS = """
import asyncio, datetime, itertools, uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa

from dataloader.conversion.converter import Converter
from dataloader.errors import DataLoaderError
from dataloader.conversion.inference import inferred
from dataloader.plan import ColumnPlan
from dataloader.sources.rows import open_rows
from dataloader.conversion.column_types import parse_type, arrow_type

NOON = datetime.datetime(2024, 5, 17, 12)
VALUES = [
    float("nan"), 5, NOON.date(), "x", NOON, 0.5, Decimal("1.5"), True, {"a": 1, "b": "x"}, [1], {"a", "b", "c"},
    None, pd.NaT, 2**70, b"x", NOON.replace(tzinfo=datetime.UTC), NOON - NOON, np.int8(5), np.float32(0.5),
    np.datetime64("2024-05-17"), (0.5, "x"), uuid.UUID(int=5), 1j,
]
TARGETS = [parse_type(sql, "postgresql") for sql in ("bigint", "text", "jsonb")]


def inferred_as(values):
    array = inferred("c", values)
    kinds = getattr(array.type, "kinds", array.type)
    return [str(kinds), (array.storage if isinstance(array, pa.ExtensionArray) else array).to_pylist()]


def converted_as(values):
    array = inferred("c", values)
    found = inferred_as(values)
    for target in TARGETS:
        plan = ColumnPlan("c", array.type, target, arrow_type(target, array.type) or pa.string(), False, "checked")
        converted = Converter((plan,))(pa.record_batch([array], names=["c"]), 0)
        found += [converted.batch.to_pylist(), converted.violations]
    return found


def opened(rows):
    return asyncio.run(open_rows(rows, list("abcdefgh")))


def shown(function, values):
    try:
        print([type(one).__name__ for one in values], function(values))
    except DataLoaderError as error:
        print([type(one).__name__ for one in values], type(error).__name__, error)


for values in itertools.combinations(VALUES, 2):
    shown(converted_as, list(values))
for values in itertools.combinations(VALUES[:11], 3):
    shown(inferred_as, list(values))
shown(opened, [{"a": 1, "y": 2, "z": 3}])
"""


def decisions(seed: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", DECISIONS], env=environment, stdout=subprocess.PIPE, text=True)


def test_what_becomes_of_a_column_of_several_kinds_is_the_same_for_every_hash_seed() -> None:
    expected: list[str] = []
    for first in range(0, len(SEEDS), AT_ONCE):
        running = [decisions(seed) for seed in SEEDS[first : first + AT_ONCE]]
        printed = [process.communicate()[0].splitlines() for process in running]
        assert [process.returncode for process in running] == [0] * len(running)
        expected = expected or printed[0]
        for lines in printed:
            assert [(one, other) for one, other in zip(expected, lines, strict=True) if one != other][:3] == []
