"""Results become frames of pandas as Arrow makes them, with fewer objects."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dataloader.reading.frames import frame_of

SOME = [Decimal("1.10"), None, Decimal("-20.00"), Decimal("0.00"), Decimal("999.99")]
COLUMNS = {
    "few": SOME * 4_000,
    "many": [None if n % 7 == 3 else Decimal(n) / 100 for n in range(20_000)],
    "few, then many": [Decimal(max(n - 9_000, 0)) / 100 for n in range(20_000)],
    "none": [None] * 20_000,
    "no rows": [],
}


@pytest.mark.parametrize("dtype_backend", [None, "numpy_nullable"])
@pytest.mark.parametrize("kind", [pa.decimal128(12, 2), pa.decimal256(50, 2)], ids=str)
@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_decimals_are_those_that_arrow_makes(values: list[Any], kind: pa.DataType, dtype_backend: str | None) -> None:
    whole = pa.array(values, kind)
    batches = [
        pa.RecordBatch.from_arrays([part, part.is_valid(), part], names=["a", "b", "a"])
        for part in (whole.slice(0, 1), whole.slice(1, 7_000), whole.slice(7_001))
    ]
    frame = frame_of(batches, "pandas", dtype_backend, None)
    assert (list(frame.columns), [str(frame.iloc[:, at].dtype) for at in (0, 2)]) == (["a", "b", "a"], ["object"] * 2)
    assert [frame.iloc[:, at].tolist() for at in (0, 1, 2)] == [values, [one is not None for one in values], values]


def test_a_decimal_that_repeats_is_one_object() -> None:
    column = frame_of([pa.record_batch([pa.array(SOME * 100, pa.decimal128(5, 2))], ["a"])], "pandas", None, None)["a"]
    assert len(set(map(id, column))) == len(SOME)
