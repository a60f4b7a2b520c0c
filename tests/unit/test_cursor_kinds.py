"""Numbers of a cursor become the decimals that they are spelled as, whichever way is the quick one."""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataloader.conversion.column_types import parse_type
from dataloader.database.backends.cursor_reading import kind_of

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.decimals(-10_000, 10_000, places=2).map(float), st.none()
)


def one_by_one(values: list[Any], kind: pa.DataType) -> pa.Array | None:
    """What each is by its own spelling; None where one has no place in the type."""
    try:
        return pa.array([None if value is None else decimal.Decimal(repr(value)) for value in values], kind)
    except pa.ArrowInvalid:
        return None


@settings(deadline=None)
@given(st.lists(NUMBERS, max_size=4), st.sampled_from([(12, 2), (15, 0), (15, 10), (5, 5)]))
@example([1e-05, 0.1, None, -0.0], (15, 10))
@example([1e16, 2**53 + 1], (15, 0))
def test_numbers_are_decimals_by_their_shortest_spelling_or_refused(values: list[Any], size: tuple[int, int]) -> None:
    kind = kind_of(parse_type(f"NUMERIC({size[0]}, {size[1]})", "sqlite"), values, "n")
    expected = one_by_one(values, kind.arrow)
    if expected is not None:
        assert kind.array(values).equals(expected)
        return
    with pytest.raises((ValueError, TypeError)):
        kind.array(values)


@settings(deadline=None)
@given(st.lists(NUMBERS, max_size=4))
@example([1e-05, 1e22, 1.5, 7, -0.0, None])
@example([float("nan"), float("-inf")])
def test_numbers_without_a_limit_are_spelled_without_an_exponent(values: list[Any]) -> None:
    kind = kind_of(parse_type("NUMERIC", "sqlite"), values, "n")
    expected = [None if value is None else format(decimal.Decimal(repr(value)), "f") for value in values]
    assert kind.array(values).to_pylist() == expected


def test_a_text_that_is_no_number_is_refused_beside_any_number() -> None:
    kind = kind_of(parse_type("NUMERIC(12, 2)", "sqlite"), [], "n")
    assert kind.array([1.5, "2.25", None]).to_pylist() == [decimal.Decimal("1.50"), decimal.Decimal("2.25"), None]
    for wrong in ("1_000", " 1", "٣"):
        with pytest.raises(ValueError, match="no number"):
            kind.array([1.5, wrong])


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("TEXT", ["a", b"b"]),
        ("TEXT", [b"a", b"b"]),
        ("BLOB", [b"a", "b"]),
        ("BIGINT", [1, 1.0]),
        ("BIGINT", [1.0, None]),
        ("DOUBLE", [1.0, "1.5"]),
        ("DATE", ["2024-01-01", b"2024-01-01"]),
    ],
)
def test_a_value_of_another_type_is_refused_though_arrow_would_take_it(sql: str, values: list[Any]) -> None:
    kind = kind_of(parse_type(sql, "sqlite"), [], "c")
    with pytest.raises((TypeError, ValueError)):
        kind.array(values)
    assert kind.array([None, None]).type == kind.arrow
