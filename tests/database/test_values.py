"""What a value is after the load: JSON, columns of several kinds, infinities, and objects of the standard library."""

from __future__ import annotations

import datetime
import enum
import ipaddress
import json
import re
import uuid
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.conversion import documents, steps
from tests.conftest import execute, fetch

NOON = datetime.datetime(2024, 5, 17, 12)


def objects(*values: Any) -> pd.DataFrame:
    return pd.DataFrame({"v": pd.Series(values, dtype=object)})


async def texts(engine: AsyncEngine) -> list[str | None]:
    return [row[0] for row in await fetch(engine, "SELECT v::text FROM t")]


WORDS: dict[str, tuple[list[Any], list[str]]] = {
    "a code among numbers": ([12345, 90210, "01234"], ["12345", "90210", "01234"]),
    "one number among codes": (["00123", 5], ["00123", "5"]),
    "hexadecimal": ([1, "0x10"], ["1", "0x10"]),
    "a word that is a number to some": ([1.5, "nan"], ["1.5", "nan"]),
    "three kinds": ([1, "x", True], ["1", "x", "true"]),
}


@pytest.mark.parametrize(("values", "kept"), WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("kind", ["frame", "rows"])
async def test_a_text_among_other_values_makes_the_column_text_and_keeps_its_spelling(
    database: AsyncEngine, kind: str, values: list[Any], kept: list[str]
) -> None:
    if kind == "frame":
        report = await dl.load_dataframe(objects(*values), "t", engine=database)
    else:
        report = await dl.load_rows([{"v": value} for value in values], "t", engine=database)
    assert [row[0] for row in await fetch(database, "SELECT v FROM t")] == kept
    assert [notice for notice in report.warnings if "'v'" in notice and "values of several kinds" in notice] != []
    assert "several kinds" in str(report)


@pytest.mark.parametrize("bad", ["01234", "+5", "0x10", " 5"])
async def test_a_text_among_numbers_that_is_not_how_its_number_is_written_is_refused_by_a_column_of_numbers(
    database: AsyncEngine, bad: str
) -> None:
    await execute(database, "CREATE TABLE t (v double precision)")
    with pytest.raises(dl.ValidationError, match="row 2, column 'v'"):
        await dl.load_dataframe(objects(1, "2.5", bad), "t", engine=database)


@pytest.mark.parametrize("values", [[True, True, 1], [3, 4, True], [True, 0]])
async def test_booleans_and_numbers_do_not_become_each_other(database: AsyncEngine, values: list[Any]) -> None:
    with pytest.raises(dl.ValidationError, match=r"column 'v'.*its type does not match"):
        await dl.load_dataframe(objects(*values), "t", engine=database)


LINES: dict[str, list[str]] = {
    "texts that look like documents": ['"123"', '"null"', '"true"', '"{}"', '"x"'],
    "digits that no float shows": ['{"x": 0.12345678901234567890123}', '{"x": 1.10}', '{"x": [1e400, 1e-400]}'],
    "integers and fractions": ["[1, 2.5]", "[0.5]", "[1, 2]"],
    "lists of several kinds": ['[1, "a"]', "[1, [2]]", "[true, 1]", '[{"a": 1}, 5]', "[1180591620717411303424]"],
    "several kinds": ['{"a": 1}', '"x"', "5", "[1]", "true", "1.5"],
    "a text and a number": ['"123"', "5"],
}


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
@pytest.mark.parametrize("kind", ["json", "jsonb", "created"])
async def test_the_values_of_a_json_file_are_stored_as_they_are_written(
    postgres: AsyncEngine, tmp_path: Path, kind: str, lines: list[str]
) -> None:
    if kind != "created":
        await execute(postgres, f"CREATE TABLE t (v {kind})")
    elif not any("[" in line or "{" in line for line in lines[:1]):
        return  # a column of texts, or of texts and numbers, is text
    path = tmp_path / "values.jsonl"
    path.write_text("".join(f'{{"v": {line}}}\n' for line in lines))
    await dl.load_files(path, "t", engine=postgres)
    for line in lines:
        assert await fetch(postgres, f"SELECT count(*) FROM t WHERE v::jsonb::text = '{line}'::jsonb::text") == [(1,)]


async def test_python_values_of_several_kinds_are_stored_as_their_json(postgres: AsyncEngine) -> None:
    values = [{"x": Decimal("1.50")}, "123", [1, 2.5], (1, "a"), 5, {"n": np.array([1, 2]), "i": np.int8(5)}, {1: "a"}]
    await dl.load_rows([{"v": value} for value in values], "t", engine=postgres, chunk_rows=2)
    kept = ['{"x": 1.50}', '"123"', "[1, 2.5]", '[1, "a"]', "5", '{"i": 5, "n": [1, 2]}', '{"1": "a"}']
    assert await texts(postgres) == kept


async def test_lists_of_several_kinds_of_numbers_are_exact_in_an_array_too(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE TABLE t (v numeric(30,2)[])")
    values = [[1, 2.5], [Decimal("12345678901234567890.25"), 1], None, [None, 7]]
    await dl.load_rows([{"v": value} for value in values], "t", engine=postgres)
    assert await texts(postgres) == ["{1.00,2.50}", "{12345678901234567890.25,1.00}", None, "{NULL,7.00}"]
    with pytest.raises(dl.ValidationError, match="row 1, column 'v'"):
        await dl.load_rows([{"v": [1, 2.5]}, {"v": [1, 2.555]}], "t", engine=postgres)


NO_JSON: dict[str, Any] = {
    "two keys that become one": {1: "a", "1": "b"},
    "two such keys further inside": {"a": [{"b": {None: 1, "null": 2}}]},
    "a key that is a tuple": {(1, 2): "a"},
    "NaT": {"x": pd.NaT},
    "NA": {"x": [pd.NA]},
    "NaN": [1.0, float("nan")],
    "an infinite decimal": {"x": Decimal("-Infinity")},
    "bytes": [b"x", 1],
    "a set": {"x": {1}},
}


@pytest.mark.parametrize("value", NO_JSON.values(), ids=NO_JSON)
async def test_what_json_does_not_hold_is_refused_by_row(postgres: AsyncEngine, value: Any) -> None:
    await execute(postgres, "CREATE TABLE t (v jsonb)")
    with pytest.raises(dl.ValidationError, match="row 1, column 'v'"):
        await dl.load_rows([{"v": {"fine": 1}}, {"v": value}, {"v": [1.5]}], "t", engine=postgres)
    assert await texts(postgres) == []


async def test_a_key_that_occurs_twice_is_refused_where_one_of_the_values_would_vanish(
    postgres: AsyncEngine, tmp_path: Path
) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text('{"v": {"a": {"k": 1, "k": 2}}}\n')
    with pytest.raises(dl.DataLoaderError, match="'k' occurs twice"):
        await dl.load_files(path, "t", engine=postgres)
    await execute(postgres, "CREATE TABLE t (v jsonb)")
    with pytest.raises(dl.ValidationError, match=r"row 1, column 'v'.*occurs twice"):
        await dl.load_dataframe({"v": ["{}", '{"k": 1, "k": 2}']}, "t", engine=postgres)


INFINITE: dict[str, tuple[list[Any], list[str]]] = {
    "double precision": ([float("inf"), Decimal("-Infinity")], ["Infinity", "-Infinity"]),
    "real": ([np.float32("-inf"), 1], ["-Infinity", "1"]),
    "numeric": ([Decimal("Infinity"), Decimal("1.5")], ["Infinity", "1.5"]),
}


@pytest.mark.parametrize(("kind", "values", "kept"), [(kind, *case) for kind, case in INFINITE.items()], ids=INFINITE)
async def test_an_infinity_is_one_where_the_column_has_it(
    postgres: AsyncEngine, kind: str, values: list[Any], kept: list[str]
) -> None:
    await execute(postgres, f"CREATE TABLE t (v {kind})")
    await dl.load_dataframe(objects(*values), "t", engine=postgres)
    assert await texts(postgres) == kept


FINITE_ONLY: dict[str, tuple[str, Any]] = {
    "numeric(10,2)": ("numeric(10,2)", objects(Decimal("1.5"), Decimal("Infinity"))),
    "bigint": ("bigint", objects(1, Decimal("-Infinity"))),
    "bigint of a float": ("bigint", {"v": [1.0, float("inf")]}),
    "jsonb": ("jsonb", objects([1.5], [float("inf")])),
    "timestamp of DuckDB": ("timestamp", "TIMESTAMP"),
    "timestamp(0) of DuckDB": ("timestamp(0)", "TIMESTAMP"),
    "timestamptz of DuckDB": ("timestamptz", "TIMESTAMPTZ"),
    "date of DuckDB": ("date", "DATE"),
    "timestamp of text": ("timestamp", {"v": ["2024-01-01", "infinity"]}),
    "date of text": ("date", {"v": ["2024-01-01", "-infinity"]}),
}


@pytest.mark.parametrize("casts", ["exact", "lossy"])
@pytest.mark.parametrize(("kind", "data"), FINITE_ONLY.values(), ids=FINITE_ONLY)
async def test_an_infinity_that_the_column_or_its_way_does_not_have_is_refused_by_row(
    postgres: AsyncEngine, kind: str, data: Any, casts: Any
) -> None:
    await execute(postgres, f"CREATE TABLE t (v {kind})")
    for sign in ("", "-") if isinstance(data, str) else ("",):
        query = f"SELECT {data} '2024-01-01' AS v UNION ALL SELECT {data} '{sign}infinity'"
        given = duckdb.sql(query).to_arrow_table() if isinstance(data, str) else data
        with pytest.raises(dl.ValidationError, match="row 1, column 'v'"):
            await dl.load_dataframe(given, "t", engine=postgres, casts=casts)


class Color(enum.Enum):
    RED = 1


class Size(enum.StrEnum):
    SMALL = "s"


class Level(enum.IntEnum):
    HIGH = 3


TAKEN: dict[str, tuple[Any, str]] = {
    "a path": (objects(PurePosixPath("/a/b"), None), "/a/b"),
    "an address": (objects(ipaddress.ip_address("::1"), None), "::1"),
    "a network": (objects(ipaddress.ip_network("10.0.0.0/8")), "10.0.0.0/8"),
    "a UUID": (objects(uuid.UUID(int=5)), str(uuid.UUID(int=5))),
    "an enum of texts": (objects(Size.SMALL), "s"),
    "an enum of integers": (objects(Level.HIGH), "3"),
    "hours of NumPy": ({"v": np.array(["2024-01-01T10", "NaT"], "datetime64[h]")}, "2024-01-01 10:00:00"),
    "a time of NumPy's hours": ({"v": np.array([36], "timedelta64[h]")}, "1 day 12:00:00"),
    "sparse floats": (pd.DataFrame({"v": pd.arrays.SparseArray([0.5, np.nan])}), "0.5"),
    "a categorical": (pd.DataFrame({"v": pd.Categorical(["a", None])}), "a"),
    "an enum of polars": (pl.DataFrame({"v": pl.Series(["a"], dtype=pl.Enum(["a", "b"]))}), "a"),
}


@pytest.mark.parametrize(("data", "first"), TAKEN.values(), ids=TAKEN)
async def test_an_object_that_is_a_text_a_number_or_a_time_is_stored_as_one(
    postgres: AsyncEngine, data: Any, first: str
) -> None:
    await dl.load_dataframe(data, "t", engine=postgres)
    found = await texts(postgres)
    assert (found[0].replace("36:00:00", "1 day 12:00:00") if found[0] else "") == first
    assert found[1:] in ([], [None])


REFUSED: dict[str, tuple[Any, str]] = {
    "an enum": (objects(Color.RED), "an Enum has a name and a value"),
    "complex numbers": ({"v": np.array([1j])}, "a complex number is two numbers"),
    "complex objects": (objects(1j), "a complex number is two numbers"),
    "a long double": ({"v": np.array([1], "longdouble")}, "a long double has more digits"),
    "periods": (pd.DataFrame({"v": pd.period_range("2024-01", periods=2, freq="M")}), "a Period is a span of time"),
    "period objects": (objects(pd.Period("2024-01")), "a Period is a span of time"),
    "intervals": (pd.DataFrame({"v": pd.cut(pd.Series([1, 2, 3]), 2)}), "an Interval is two values"),
    "a set": (objects({1, 2}), "a set has no order"),
    "sets in lists": (objects([{1, 2}]), "set"),
    "an object of polars": (pl.DataFrame({"v": pl.Series([object()], dtype=pl.Object)}), "no Object of polars"),
    "a struct with an object": (objects(object()), "object"),
}


@pytest.mark.parametrize(("data", "words"), REFUSED.values(), ids=REFUSED)
async def test_an_object_that_no_column_keeps_is_refused_by_what_it_is(
    sqlite: AsyncEngine, data: Any, words: str
) -> None:
    with pytest.raises(dl.UnsupportedType, match=f"column 'v'.*{words}"):
        await dl.load_dataframe(data, "t", engine=sqlite)


@pytest.mark.skipif(not hasattr(pl, "Int128"), reason="older polars has no Int128")
async def test_polars_integers_of_128_bits_are_refused_by_name_and_load_as_rows(postgres: AsyncEngine) -> None:
    frame = pl.DataFrame({"v": pl.Series([2**70], dtype=pl.Int128), "Int128": [1]})
    with pytest.raises(dl.UnsupportedType, match=r"column 'v'.*no Int128 of polars\. .*iter_rows"):
        await dl.load_dataframe(frame, "t", engine=postgres)
    await dl.load_rows(frame.iter_rows(named=True), "t", engine=postgres)
    assert await texts(postgres) == [str(2**70)]


@pytest.mark.parametrize("error", [TypeError("to_pylist() got an unexpected keyword"), AttributeError("no function x")])
async def test_a_defect_of_the_program_is_never_shown_as_a_fault_of_the_data(
    postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    await execute(postgres, "CREATE TABLE t (v numeric(5,2))")
    monkeypatch.setattr(steps, "_cast_for", lambda *_: broken)
    with pytest.raises(type(error), match=re.escape(str(error))):
        await dl.load_dataframe({"v": [1.5]}, "t", engine=postgres, on_invalid="reject")
    monkeypatch.undo()
    monkeypatch.setattr("dataloader.conversion.inference._with_room", broken)
    with pytest.raises(type(error)):
        await dl.load_rows([{"v": 1.5}], "t", engine=postgres)


def test_json_text_keeps_digits_and_is_what_python_writes_otherwise() -> None:
    value = {"a": [1, 2.0, None, True, "ä\n"], "b": {"c": "x"}}
    assert documents.to_json(value) == json.dumps(value, ensure_ascii=False)
    assert documents.to_json([Decimal("1.10"), Decimal("1E+400")]) == "[1.10, 1E+400]"
    assert pa.array([documents.to_json(NOON)]).to_pylist() == [f'"{NOON.isoformat()}"']
