"""Rejects: refused rows as they came, with their reasons, the limit of them, and the files that keep them."""

from __future__ import annotations

import csv
import datetime
import json
import math
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from dataloader.conversion.inference import mixed_array
from dataloader.conversion.violations import REASONS, REJECT_COLUMNS, Violation
from dataloader.errors import PlanError, ValidationError
from dataloader.rejects import Findings, Rejects, columns_of, first_rows
from tests.unit.test_report import report


def violation(row: int, reason: str = "digits", column: str | None = "v", label: object = None) -> Violation:
    return Violation(row, label, column, "0.12345", "numeric(12,4)", reason, *REASONS[reason])


def found(*violations: Violation) -> Findings:
    findings = Findings()
    findings.add(violations)
    return findings


def rejected(values: Any, *rows: int, first_row: int = 0, **options: Any) -> Rejects:
    """The rejects of a column `v`; `rows` are positions in the source."""
    rejects = Rejects(**options)
    array = values if isinstance(values, pa.Array) else pa.array(values)
    rejects.add(pa.record_batch({"v": array}), first_row, [violation(row) for row in rows])
    return rejects


def frame_of(rejects: Rejects) -> pd.DataFrame:
    count = len(rejects)
    return report(read=count, loaded=0, rejected=count, rejected_rows=rejects).rejects


def test_the_first_ten_violations_are_kept_and_all_are_counted() -> None:
    findings = Findings()
    for start in range(0, 40, 8):
        findings.add(violation(row, "digits" if row % 4 else "range") for row in range(start, start + 8))
    assert [one.row for one in findings.first] == list(range(10))
    assert findings.counts == {("v", "range"): 10, ("v", "digits"): 30}
    assert findings.total == 40


def test_findings_of_later_rows_come_after_those_before_them() -> None:
    findings, later = found(*map(violation, range(7))), found(*(violation(row, "range") for row in range(7, 19)))
    findings.join(later)
    assert [one.row for one in findings.first] == list(range(10))
    assert findings.counts == {("v", "digits"): 7, ("v", "range"): 12}
    assert len(later.first) == 10


def test_a_single_violation_is_an_error_of_one_line_with_its_own_suggestion() -> None:
    error = found(violation(3)).error()
    assert str(error) == (
        "row 3, column 'v': 0.12345 does not fit numeric(12,4): it has more digits than the column keeps. "
        f"Nothing was written. {REASONS['digits'][1]}"
    )
    assert (error.row, error.column, error.value, error.reason) == (3, "v", "0.12345", "digits")


def test_several_violations_are_listed_under_their_counts() -> None:
    error = found(violation(3), violation(5, "null", "id")).error()
    headline, first, second = error.what.split("\n")
    assert headline == "2 values do not fit: 1 in 'v' (digits), 1 in 'id' (null)"
    assert (first, second) == tuple(f"  {one}" for one in error.violations)
    assert error.hint == "Nothing was written. Correct the source, or load the rest with on_invalid='reject'."
    assert error.counts == {("v", "digits"): 1, ("id", "null"): 1}


@pytest.mark.parametrize(("number", "more"), [(10, None), (11, "  ... and 1 more"), (1234, "  ... and 1,224 more")])
def test_ten_violations_are_shown_and_the_others_are_counted(number: int, more: str | None) -> None:
    error = found(*map(violation, range(number))).error()
    lines = error.what.split("\n")
    assert len(error.violations) == 10
    assert lines[0] == f"{number:,} values do not fit: {number:,} in 'v' (digits)"
    assert lines[11:] == ([] if more is None else [more])


def test_rows_that_are_refused_are_kept_with_their_values_and_reasons() -> None:
    rejects = Rejects()
    batch = pa.record_batch({"id": [10, 11, 12, 13], "v": ["a", "b", None, "d"]})
    assert rejects.add(batch, 100, [violation(101), violation(103, "null", "id")]) == 2
    assert {name: values.to_pylist() for name, values in columns_of(list(rejects.parts())).items()} == {  # type: ignore[union-attr]
        "id": [11, 13],
        "v": ["b", "d"],
        "reject_row": [101, 103],
        "reject_column": ["v", "id"],
        "reject_reason": ["digits", "null"],
        "reject_problem": [REASONS["digits"][0], REASONS["null"][0]],
    }
    assert len(rejects) == 2


def test_a_row_with_several_violations_is_kept_once_with_all_its_reasons() -> None:
    rejects = Rejects()
    batch = pa.record_batch({"id": [1, 2], "v": [3, 4]})
    several = [violation(1, "null", "id"), violation(1), violation(1, "refused", None)]
    assert rejects.add(batch, 0, several) == 1
    row = {name: values[0].as_py() for name, values in columns_of(list(rejects.parts())).items()}  # type: ignore[union-attr]
    assert (row["reject_column"], row["reject_reason"]) == ("id; v", "null; digits; refused")
    assert row["reject_problem"] == "; ".join(one.problem for one in several)
    assert rejects.findings.total == 3


def test_violations_in_any_order_are_kept_by_row() -> None:
    rejects = Rejects()
    batch = pa.record_batch({"v": list(range(5))})
    rejects.add(batch, 0, [violation(4), violation(0, "null"), violation(4, "range"), violation(2)])
    assert columns_of(list(rejects.parts()))["v"].to_pylist() == [0, 2, 4]  # type: ignore[union-attr]
    assert columns_of(list(rejects.parts()))["reject_reason"].to_pylist() == ["null", "digits", "digits; range"]  # type: ignore[union-attr]


def test_no_violations_keep_nothing() -> None:
    rejects = Rejects()
    assert rejects.add(pa.record_batch({"v": [1]}), 0, []) == 0
    assert (len(rejects), columns_of(list(rejects.parts())), rejects.findings.total) == (0, {}, 0)


def test_the_rejects_of_rejects_have_the_new_reasons() -> None:
    rejects = Rejects()
    old = {"v": [1], "reject_row": [70], "reject_column": ["x"], "reject_reason": ["old"], "reject_problem": ["old"]}
    rejects.add(pa.record_batch(old), 0, [violation(0)])
    columns = {name: values.to_pylist() for name, values in columns_of(list(rejects.parts())).items()}  # type: ignore[union-attr]
    assert list(columns) == ["v", *REJECT_COLUMNS]
    assert columns["reject_row"] == [0]
    assert columns["reject_reason"] == ["digits"]


@pytest.mark.parametrize(
    ("limit", "read", "rejects", "fits"),
    [
        (None, 100, 100, True),
        (0, 100, 0, True),
        (0, 100, 1, False),
        (3, 100, 3, True),
        (3, 100, 4, False),
        (3, None, 3, True),
        (3, None, 4, False),
        (0.1, 100, 10, True),
        (0.1, 100, 11, False),
        (0.1, None, 100, True),
        (0.5, 3, 1, True),
        (0.5, 3, 2, False),
    ],
)
def test_more_rejects_than_allowed_are_an_error(
    limit: float | None, read: int | None, rejects: int, fits: bool
) -> None:
    kept = rejected(list(range(100)), *range(rejects), limit=limit)
    if fits:
        kept.check(read)
        return
    with pytest.raises(ValidationError) as refused:
        kept.check(read)
    noun = "row does" if rejects == 1 else "rows do"
    assert refused.value.counts == {("v", "digits"): rejects}
    assert refused.value.row == 0
    assert f"max_rejects={limit}" in str(refused.value)
    assert str(rejects) in str(refused.value).split(noun[:3])[0]
    assert "Nothing was written. Correct the source, or allow more rejects." in str(refused.value)


@pytest.mark.parametrize(("limit", "most"), [(None, math.inf), (0.5, math.inf), (5, 3), (2, 0), (0, -2)])
def test_how_many_more_may_come_is_known_for_a_count(limit: float | None, most: float) -> None:
    assert rejected([1, 2, 3], 0, 2, limit=limit).most() == most


def test_rejects_of_chunks_that_differ_in_type_are_python_values() -> None:
    rejects = Rejects()
    rejects.add(pa.record_batch({"v": [1, 2]}), 0, [violation(1)])
    rejects.add(pa.record_batch({"v": ["x", None]}), 2, [violation(2), violation(3)])
    rejects.add(pa.record_batch({"v": mixed_array([0.5, "y"])}), 4, [violation(4), violation(5)])
    assert columns_of(list(rejects.parts()))["v"] == [2, "x", None, 0.5, "y"]
    assert columns_of(list(rejects.parts()))["reject_row"].to_pylist() == [1, 2, 3, 4, 5]  # type: ignore[union-attr]


def test_the_frame_has_the_labels_of_the_source_as_its_index() -> None:
    rejects = Rejects()
    rejects.add(pa.record_batch({"v": [1, 2, 3]}), 0, [violation(2, label="c"), violation(0, label="a")])
    frame = frame_of(rejects)
    assert frame.index.tolist() == ["a", "c"]
    assert frame["v"].tolist() == [1, 3]
    assert frame["reject_row"].tolist() == [0, 2]


def test_the_frame_of_a_source_without_labels_has_the_rows_positions_as_its_index() -> None:
    assert frame_of(rejected([1, 2, 3], 11, 12, first_row=10)).index.tolist() == [11, 12]


def test_the_frame_without_rejects_is_empty_and_has_the_four_columns() -> None:
    frame = frame_of(Rejects())
    assert (len(frame), frame.columns.tolist()) == (0, list(REJECT_COLUMNS))


MOMENT = datetime.datetime(2024, 5, 17, 10, 30, 15, 123456)
KEPT: dict[str, pa.Array] = {
    "an integer beyond 2**53 beside NULL": pa.array([2**53 + 1, None]),
    "unsigned": pa.array([2**64 - 1, None], pa.uint64()),
    "decimal": pa.array([Decimal("0.10"), None]),
    "nanoseconds": pa.array([1, None], pa.timestamp("ns")),
    "aware": pa.array([MOMENT.replace(tzinfo=datetime.UTC), None], pa.timestamp("us", "UTC")),
    "date": pa.array([datetime.date(1, 1, 1), None]),
    "text": pa.array(["a\0b", None]),
    "binary": pa.array([b"\0\xff", None]),
    "bool": pa.array([True, None]),
    "list": pa.array([[1, None], None]),
    "list of a fixed size": pa.array([None, [1, None], None], pa.list_(pa.int8(), 2)).slice(1),
    "dictionary": pa.array(["a", None]).dictionary_encode(),
}


@pytest.mark.parametrize("values", KEPT.values(), ids=KEPT)
def test_the_frame_keeps_every_value_to_the_last_digit(values: pa.Array) -> None:
    frame = frame_of(rejected(values, 0, 1))
    again = pa.array(frame["v"], from_pandas=True)
    assert again.cast(values.type).to_pylist() == values.to_pylist()


@pytest.mark.parametrize("values", KEPT.values(), ids=KEPT)
def test_parquet_keeps_every_value_and_its_type(tmp_path: Path, values: pa.Array) -> None:
    path = tmp_path / "rejects.parquet"
    rejected(values, 0, 1).write(path)
    again = pa.parquet.read_table(path)
    assert again["v"].to_pylist() == values.to_pylist()
    assert again["reject_row"].to_pylist() == [0, 1]
    assert again["reject_reason"].to_pylist() == ["digits", "digits"]


JSON_VALUES: dict[str, tuple[pa.Array, Any]] = {
    "large integer": (pa.array([2**53 + 1]), 2**53 + 1),
    "float": (pa.array([0.1]), 0.1),
    "NaN": (pa.array([math.nan]), "nan"),
    "infinity": (pa.array([-math.inf]), "-inf"),
    "decimal": (pa.array([Decimal("0.10")]), "0.10"),
    "text": (pa.array(['a"\n\0ü😀']), 'a"\n\0ü😀'),
    "null": (pa.array([None], pa.string()), None),
    "bool": (pa.array([True]), True),
    "date": (pa.array([datetime.date(2024, 1, 2)]), "2024-01-02"),
    "moment": (pa.array([MOMENT]), "2024-05-17 10:30:15.123456"),
    "aware": (pa.array([MOMENT], pa.timestamp("us", "UTC")), "2024-05-17 10:30:15.123456+00:00"),
    "nanoseconds": (pa.array([1], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
    "dictionary": (pa.array(["a"]).dictionary_encode(), "a"),
    "list": (pa.array([[1, None]]), [1, None]),
    "mixed": (mixed_array([1, "x"])[1:], "x"),
    "the fitting ones of mixed": (mixed_array([1, "x"])[:1], 1),
}


@pytest.mark.parametrize(("values", "kept"), JSON_VALUES.values(), ids=JSON_VALUES)
def test_a_line_of_json_keeps_a_value(tmp_path: Path, values: pa.Array, kept: Any) -> None:
    path = tmp_path / "rejects.jsonl"
    rejected(values, 0).write(path)
    (line,) = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert row["v"] == kept
    assert type(row["v"]) is type(kept)
    assert (row["reject_row"], row["reject_column"], row["reject_reason"]) == (0, "v", "digits")


CSV_VALUES: dict[str, tuple[pa.Array, str]] = {
    "formula": (pa.array(["=1+1"]), "'=1+1"),
    "formula after apostrophes": (pa.array(["''=1+1"]), "'''=1+1"),
    "plus": (pa.array(["+cmd|' /C calc'!A0"]), "'+cmd|' /C calc'!A0"),
    "minus": (pa.array(["-2+3"]), "'-2+3"),
    "at": (pa.array(["@SUM(A1)"]), "'@SUM(A1)"),
    "tab": (pa.array(["\t=1"]), "'\t=1"),
    "negative number as text": (pa.array(["-1.5"]), "-1.5"),
    "negative number": (pa.array([-1.5]), "-1.5"),
    "exponent": (pa.array(["+1e-5"]), "+1e-5"),
    "apostrophe": (pa.array(["it's"]), "it's"),
    "quotes and lines": (pa.array(['a"b,\nc']), 'a"b,\nc'),
    "decimal": (pa.array([Decimal("0.10")]), "0.10"),
    "large integer": (pa.array([2**53 + 1]), str(2**53 + 1)),
    "bool": (pa.array([True]), "true"),
    "moment": (pa.array([MOMENT]), "2024-05-17 10:30:15.123456"),
    "binary": (pa.array([b"\0\xff"]), "\\x00ff"),
    "struct": (pa.array([{"a": 1}]), '{"a": 1}'),
    "mixed": (mixed_array([1, "=x"])[1:], "'=x"),
}


@pytest.mark.parametrize(("values", "kept"), CSV_VALUES.values(), ids=CSV_VALUES)
def test_a_spreadsheet_gets_a_value_as_text_and_no_formula(tmp_path: Path, values: pa.Array, kept: str) -> None:
    path = tmp_path / "rejects.csv"
    rejected(values, 0).write(path)
    with path.open(encoding="utf-8", newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert row["v"] == kept
    assert (row["reject_row"], row["reject_reason"]) == ("0", "digits")


def test_null_and_empty_text_differ_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    rejected([None, ""], 0, 1).write(path)
    lines = path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["", '""']


@pytest.mark.parametrize("name", ["rejects.CSV", "rejects.JsonL", "rejects.PARQUET"])
def test_the_suffix_may_be_in_capitals(tmp_path: Path, name: str) -> None:
    rejected([1], 0).write(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("name", ["rejects.xlsx", "rejects", "rejects.csv.gz", "csv"])
def test_a_suffix_that_nobody_knows_is_refused_and_writes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        PlanError, match=rf"rejects cannot be written as '{name}'. End the path in one of: .csv, .jsonl"
    ):
        rejected([1], 0).write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_no_rejects_are_a_file_without_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rejects{suffix}"
    Rejects().write(path)
    if suffix == ".parquet":
        assert pa.parquet.read_table(path).num_rows == 0
    else:
        assert len(path.read_text().splitlines()) <= 1


def test_many_rejects_of_many_chunks_stay_in_the_order_of_the_source() -> None:
    rejects = Rejects()
    numbers = np.arange(10_000)
    for start in range(0, 10_000, 1000):
        part = numbers[start : start + 1000]
        rejects.add(pa.record_batch({"v": part}), start, [violation(int(row)) for row in part[::7]])
    columns = columns_of(list(rejects.parts()))
    assert columns["v"].to_pylist() == columns["reject_row"].to_pylist()  # type: ignore[union-attr]
    assert columns["v"].to_pylist() == sorted(columns["v"].to_pylist())  # type: ignore[union-attr]
    assert len(rejects) == sum(len(range(0, 1000, 7)) for _ in range(10))


def test_the_first_rows_of_large_values_are_cut_before_they_are_spelled() -> None:
    """Spelled as a whole they would hold up the event loop."""
    large = {"a": ["x" * 5_000_000], "b": [bytes(5_000_000)], "c": pa.array(["ä" * 5_000_000], pa.large_string())}
    batch = pa.record_batch(large)
    tracemalloc.start()
    rows = first_rows(batch, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == (("x" * 39 + "…", "\\x" + "0" * 37 + "…", "ä" * 39 + "…"),)
    assert peak < 500_000
