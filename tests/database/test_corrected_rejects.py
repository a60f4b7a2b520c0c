"""What `rejects_to` wrote, corrected and loaded again, gives what the source would have given."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch
from tests.database.cases import CASES, MAKE_TYPES, Case

FOUR_DIGITS = re.compile(r"BC|\b\d{5,}-\d\d-\d\d")
"""Years that no text may have; Parquet has them."""
LACKING = {
    ".csv": {
        "int2 from bool": "a word is no number",
        "int8 from floats": "large floats are written with an exponent",
        "float4 from float64": "a float64 shows more digits than a float4",
        "float8 from float32": "a float32 shows fewer digits than a float8",
        "float8 from int64": "an integer may have more digits than a float8 shows",
        "numeric(76,38)": "Arrow reads no text of so many digits",
        "bytea": "no field may have a megabyte",
        "varchar(3)[]": "the server would cut what it reads",
        "numeric(10,2)[]": "the server would round what it reads",
        "numeric(10,2)[] from more digits": "the server would round what it reads",
        "numeric(10,2)[] from floats": "the server would round what it reads",
        "timestamp(0)[]": "the server would round what it reads",
    },
    ".jsonl": {
        "float8 from float32": "a float32 shows fewer digits than a float8",
        "numeric(76,38)": "Arrow reads no text of so many digits",
    },
    ".parquet": {},
}
"""What the texts of a kind of file do not bring into a column, and why."""


def column(case: Case, suffix: str, rows: int) -> pa.Array:
    """The edges, and NULL first and last."""
    edges = [one for one in case.edges if suffix == ".parquet" or not FOUR_DIGITS.search(case.text(one) or "")]
    return case.array([None, *edges, *[None] * (rows - len(edges) - 1)])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", LACKING)
async def test_a_file_of_rejects_gives_every_value_of_every_type_again(
    postgres: AsyncEngine, tmp_path: Path, suffix: str
) -> None:
    """All rows are rejected by a constraint that is then dropped; the source itself is loaded beside it."""
    cases = {name: case for name, case in CASES.items() if case.edges and name not in LACKING[suffix]}
    names = {name: f"c{number}" for number, name in enumerate(cases)}
    rows = 2 + max(len(case.edges) for case in cases.values())
    columns = ", ".join(f"{at} {cases[name].sql}" for name, at in names.items())
    await execute(
        postgres,
        *MAKE_TYPES.values(),
        f"CREATE TABLE t (id integer CONSTRAINT no CHECK (id < 0), {columns})",
        f"CREATE TABLE u (id integer, {columns})",
    )
    data = pa.table({"id": range(rows), **{at: column(cases[name], suffix, rows) for name, at in names.items()}})
    report = await dl.load_dataframe(data, "t", engine=postgres, on_invalid="reject")
    assert report.rejected == rows
    report.rejects_to(tmp_path / f"rejects{suffix}")
    await execute(postgres, "ALTER TABLE t DROP CONSTRAINT no")
    again = await dl.load_files(tmp_path / f"rejects{suffix}", "t", engine=postgres, on_invalid="reject")
    refused = {column for column, _ in again.rejected_rows.findings.counts}
    assert [name for name, at in names.items() if at in refused] == []
    await dl.load_dataframe(data, "u", engine=postgres)
    pairs = [f"t.{at}::text IS NOT DISTINCT FROM u.{at}::text" for at in names.values()]
    same = await fetch(postgres, f"SELECT {', '.join(pairs)} FROM t JOIN u USING (id)")
    assert len(same) == rows
    assert [name for name, *equal in zip(names, *same, strict=True) if not all(equal)] == []


async def test_a_value_that_was_corrected_beside_one_with_an_apostrophe_is_loaded(
    database: AsyncEngine, tmp_path: Path
) -> None:
    await execute(database, "CREATE TABLE t (id integer, handle text, code text)")
    handles = [
        "at 12:00:00.500000",
        "@home",
        "-dash",
        "+49 30 1234",
        "'@quoted",
        "it's",
        "'",
        "",
        None,
        "=1+1",
        "-5",
        "several\n@lines",
        "\t",
    ]
    data = {"id": ["x"] * len(handles), "handle": handles, "code": ["007"] * len(handles)}
    report = await dl.load_dataframe(data, "t", engine=database, on_invalid="reject")
    report.rejects_to(tmp_path / "rejects.csv")
    with (tmp_path / "rejects.csv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    assert rows[1][1] == "'@home"
    text = (tmp_path / "rejects.csv").read_bytes().decode()
    for number in range(len(handles)):
        text = text.replace('"x"', f'"{number}"', 1)
    (tmp_path / "corrected.csv").write_bytes(text.encode())
    assert (await dl.load_files(tmp_path / "corrected.csv", "t", engine=database)).loaded == len(handles)
    assert await fetch(database, "SELECT handle, code FROM t ORDER BY id") == [(one, "007") for one in handles]


async def test_an_apostrophe_of_another_file_stays(database: AsyncEngine, tmp_path: Path) -> None:
    await execute(database, "CREATE TABLE t (id integer, handle text)")
    (tmp_path / "a.csv").write_text("id,handle\n1,'@home\n")
    await dl.load_files(tmp_path / "a.csv", "t", engine=database)
    assert await fetch(database, "SELECT handle FROM t") == [("'@home",)]


@pytest.mark.parametrize("text", ["\\x0", "00ff", "\\xzz", "", "abc", "\\x00 ff"])
async def test_a_text_that_is_not_hexadecimal_is_no_bytes(postgres: AsyncEngine, text: str) -> None:
    await execute(postgres, "CREATE TABLE t (v bytea)")
    with pytest.raises(dl.ValidationError, match="hexadecimal"):
        await dl.load_dataframe({"v": [text]}, "t", engine=postgres)


ARRAYS: dict[str, tuple[str, str, str | None]] = {
    "JSON": ("integer[]", "[1, null, 3]", "{1,NULL,3}"),
    "a literal": ("integer[]", "{1,NULL,3}", "{1,NULL,3}"),
    "a literal with its bounds": ("integer[]", "[0:1]={1,2}", "[0:1]={1,2}"),
    "texts": ("text[]", '["a,b", "NULL", null, "q\\"\\\\", "é"]', '{"a,b","NULL",NULL,"q\\"\\\\",é}'),
    "two dimensions": ("integer[]", " [[1, 2], [3, 4]]", "{{1,2},{3,4}}"),
    "empty": ("integer[]", "[]", "{}"),
    "digits": ("numeric[]", "[0.10, 12345678901234567890.12345678901234567890]", None),
    "bytes": ("bytea[]", '["\\\\x00ff"]', '{"\\\\x00ff"}'),
    "booleans": ("boolean[]", "[true, false, null]", "{t,f,NULL}"),
}


@pytest.mark.parametrize(("kind", "text", "stored"), ARRAYS.values(), ids=ARRAYS)
async def test_a_text_of_an_array_is_json_or_postgresqls_own(
    postgres: AsyncEngine, kind: str, text: str, stored: str | None
) -> None:
    await execute(postgres, f"CREATE TABLE t (v {kind})")
    await dl.load_dataframe({"v": [text, None]}, "t", engine=postgres)
    expected = stored or "{0.10,12345678901234567890.12345678901234567890}"
    assert await fetch(postgres, "SELECT v::text FROM t WHERE v IS NOT NULL") == [(expected,)]


@pytest.mark.parametrize("text", ["[1", "[1, x]", '[{"a": 1}]', "[1.5]", "[99999999999]", '["x"]'])
async def test_json_that_the_array_does_not_take_names_its_row(postgres: AsyncEngine, text: str) -> None:
    await execute(postgres, "CREATE TABLE t (v integer[])")
    report = await dl.load_dataframe({"v": ["[1]", text, "{2}"]}, "t", engine=postgres, on_invalid="reject")
    assert report.rejects["reject_row"].tolist() == [1]
    assert await fetch(postgres, "SELECT v::text FROM t ORDER BY 1") == [("{1}",), ("{2}",)]
