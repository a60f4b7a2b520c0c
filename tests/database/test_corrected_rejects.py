"""What `rejects_to` wrote, corrected and loaded again, gives what the source would have given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch
from tests.database.cases import CASES, MAKE_TYPES, Case

NAMES = {name: f"c{number}" for number, name in enumerate(CASES)}
"""The column of each case."""
ROWS = max(len(case.edges) for case in CASES.values()) + 1


def column(case: Case) -> pa.Array:
    values = [None, *case.edges]
    return case.array(values + [None] * (ROWS - len(values)))


async def differing(postgres: AsyncEngine) -> dict[str, list[Any]]:
    """The cases whose columns differ between the two tables, with what differs."""
    found: dict[str, list[Any]] = {}
    for name, at in NAMES.items():
        both = f"SELECT t.{at}::text AS a, u.{at}::text AS b FROM t JOIN u USING (id)"
        pairs = await fetch(postgres, f"SELECT a, b FROM ({both}) both_of_them WHERE a IS DISTINCT FROM b")
        if pairs:
            found[name] = [tuple(str(one)[:60] for one in pair) for pair in pairs[:3]]
    return found


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
async def test_a_file_of_rejects_gives_every_value_of_every_type_again(
    postgres: AsyncEngine, tmp_path: Path, suffix: str
) -> None:
    """All rows are rejected by a constraint that is then dropped; the source itself is loaded beside it."""
    columns = ", ".join(f"{at} {CASES[name].sql}" for name, at in NAMES.items())
    await execute(
        postgres,
        *MAKE_TYPES.values(),
        f"CREATE TABLE t (id integer CONSTRAINT no CHECK (id < 0), {columns})",
        f"CREATE TABLE u (id integer, {columns})",
    )
    data = pa.table({"id": range(ROWS), **{at: column(CASES[name]) for name, at in NAMES.items()}})
    report = await dl.load_dataframe(data, "t", engine=postgres, on_invalid="reject")
    assert report.rejected == ROWS
    report.rejects_to(tmp_path / f"rejects{suffix}")
    await execute(postgres, "ALTER TABLE t DROP CONSTRAINT no")
    again = await dl.load_files(tmp_path / f"rejects{suffix}", "t", engine=postgres, on_invalid="reject")
    print(again)
    print(again.rejects[["reject_column", "reject_reason"]].to_string() if again.rejected else "")
    assert again.loaded == ROWS
    await dl.load_dataframe(data, "u", engine=postgres)
    assert await differing(postgres) == {}
