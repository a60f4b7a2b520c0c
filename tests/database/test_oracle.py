"""A differential oracle: four ways into four tables must store the same values.

Ours are COPY, COPY beside a column that only text can carry, and INSERT. The fourth is PostgreSQL's text COPY, whose
bytes come from an encoder that shares nothing with the package. The server compares what it stored, as text.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import asyncpg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch
from tests.database.cases import CASES, DEPENDS_ON_SETTINGS, MAKE_TYPES, TEXT_ONLY, Case, copy_bytes

pytestmark = pytest.mark.slow

MISSING = 20
WAYS = ("copy", "text", "insert")
FORMATS = (
    "TimeZone = 'UTC'",
    "DateStyle = 'ISO, MDY'",
    "IntervalStyle = 'postgres'",
    "bytea_output = 'hex'",
    "extra_float_digits = 1",
    "array_nulls = on",
)
STRANGE_FORMATS = (
    "TimeZone = 'America/New_York'",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "standard_conforming_strings = off",
    "array_nulls = off",
)


# The shapes that an Arrow array can have.


def plain(case: Case, values: list[Any]) -> pa.Array:
    return case.array(values)


def sliced(case: Case, values: list[Any]) -> pa.Array:
    return case.array([case.edges[0], None, *values, case.edges[0]]).slice(2, len(values))


def chunked(case: Case, values: list[Any]) -> pa.ChunkedArray:
    whole, third = case.array(values), len(values) // 3
    return pa.chunked_array([whole[:third], whole[third:third], whole[third:]])


def in_a_dictionary(case: Case, values: list[Any]) -> pa.Array:
    """The dictionary is in another order, has values that nothing refers to, and nulls; the index has nulls too."""
    words = case.array([*case.edges[:2], *reversed(values), None])
    last = len(words) - 2
    indices = [None if value is None and row % 2 else last - row for row, value in enumerate(values)]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), words)


def in_runs(case: Case, values: list[Any]) -> pa.Array:
    """Runs of equal values, from the third value on."""
    before = case.edges[0]
    runs = [list(run) for _, run in itertools.groupby([before, before, *values], id)]
    ends = pa.array(itertools.accumulate(map(len, runs)), pa.int32())
    return pa.RunEndEncodedArray.from_arrays(ends, case.array([run[0] for run in runs])).slice(2)


def with_garbage_under_nulls(case: Case, values: list[Any]) -> pa.Array:
    missing = [value is None for value in values]
    return spoiled(case.array([case.edges[0] if value is None else value for value in values]), missing)


def spoiled(array: pa.Array, missing: list[bool]) -> pa.Array:
    """The array with null where a value is missing, and below the nulls bytes that mean nothing, or another value."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, spoiled(array.storage, missing))
    validity = pa.array([not one for one in missing], pa.bool_()).buffers()[1]
    if kind in BYTES:
        raw = [
            b"\xff\x00" if one else text for one, text in zip(missing, array.cast(BYTES[kind]).to_pylist(), strict=True)
        ]
        buffers = pa.array(raw, BYTES[kind]).buffers()[1:]
    elif kind.num_fields or pa.types.is_boolean(kind):
        buffers = array.buffers()[1 : kind.num_buffers]
    else:
        buffers = [overwritten(array.buffers()[1], missing, kind.bit_width // 8)]
    return pa.Array.from_buffers(kind, len(array), [validity, *buffers], children=children(array))


BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
    **{kind: kind for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
}
"""Types of texts and bytes, and those of the bytes in them."""


def overwritten(buffer: pa.Buffer, missing: list[bool], width: int) -> pa.Buffer:
    raw = bytearray(buffer)
    for row in itertools.compress(range(len(missing)), missing):
        raw[row * width : (row + 1) * width] = b"\xa5" * width
    return pa.py_buffer(bytes(raw))


def children(array: pa.Array) -> list[pa.Array]:
    kind = array.type
    if pa.types.is_map(kind):
        return [pa.StructArray.from_arrays([array.keys, array.items], fields=[kind.key_field, kind.item_field])]
    if pa.types.is_struct(kind):
        return [array.field(position) for position in range(kind.num_fields)]
    return [array.values] if kind.num_fields else []


Shape = Callable[[Case, list[Any]], pa.Array]
SHAPES: dict[str, Shape] = {
    shape.__name__: shape for shape in (plain, sliced, chunked, in_a_dictionary, in_runs, with_garbage_under_nulls)
}


# The four ways, and what the server says of the tables.


def table_of(case: Case, values: list[Any], shapes: dict[str, Shape] = SHAPES, first: int = 0) -> pa.Table:
    """A column for each shape, all of the same values."""
    ids = pa.array(range(first, first + len(values)), pa.int32())
    return pa.table({"id": ids, **{name: shape(case, values) for name, shape in shapes.items()}})


async def make_tables(postgres: AsyncEngine, sql: str) -> None:
    columns = ", ".join(f"{name} {sql}" for name in SHAPES)
    ours = [f"CREATE TABLE by_{way} (id integer PRIMARY KEY, {columns})" for way in WAYS]
    theirs = f"CREATE TABLE by_psql (id integer PRIMARY KEY, v {sql})"
    needed = [statement for name, statement in MAKE_TYPES.items() if name in sql]
    await execute(postgres, *needed, *ours, theirs, "ALTER TABLE by_text ADD COLUMN only_as_text inet")


async def load(postgres: AsyncEngine, way: str, table: pa.Table, **options: Any) -> dl.LoadReport:
    """Load by COPY, by a COPY of which one column can only travel as text, or by INSERT."""
    if way == "text":
        table = table.append_column("only_as_text", pa.array(["10.0.0.1"] * len(table), pa.string()))
    method: Any = "insert" if way == "insert" else "copy"
    return await dl.load_dataframe(table, f"by_{way}", engine=postgres, method=method, **options)


async def load_as_psql_does(postgres: AsyncEngine, case: Case, values: list[Any], first: int = 0) -> None:
    """Text COPY of the values, in a session whose formats are the usual ones."""
    rows = [(str(row), case.text(value)) for row, value in enumerate(values, first)]

    async def source() -> AsyncIterator[bytes]:
        yield copy_bytes(rows)

    async with postgres.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("".join(f"SET {setting};" for setting in FORMATS))
        await driver.copy_to_table("by_psql", source=source(), format="text")
        await driver.execute("RESET ALL")


async def differences(postgres: AsyncEngine, way: str, shapes: Iterable[str], join: str = "FULL") -> list[str]:
    """The first five values that differ: what is stored our way and what theirs. A RIGHT join takes only our rows."""
    columns = ", ".join(f"('{name}', CASE WHEN o.id IS NULL THEN 'no row' ELSE o.{name}::text END)" for name in shapes)
    query = f"""SELECT shape, id, left(ours, 100) AS ours, left(theirs, 100) AS theirs FROM (
        SELECT id, shape, ours, CASE WHEN p.id IS NULL THEN 'no row' ELSE v::text END AS theirs
        FROM by_psql p {join} JOIN by_{way} o USING (id) CROSS JOIN LATERAL (VALUES {columns}) AS s(shape, ours)
    ) AS pairs WHERE ours IS DISTINCT FROM theirs ORDER BY id LIMIT 5"""
    async with postgres.connect() as connection:
        for setting in FORMATS:
            await connection.execute(sa.text(f"SET LOCAL {setting}"))
        rows = await connection.exec_driver_sql(query)
        return [f"{way} of {row.shape}, row {row.id}: {row.ours!r}, not {row.theirs!r}" for row in rows]


async def compared(
    postgres: AsyncEngine, way: str, case: Case, values: list[Any], shapes: dict[str, Shape]
) -> list[str]:
    """Load by one way, in three chunks of which the last is all null, and no rows at all; then compare.

    Where not even a load succeeds, each shape is tried by itself, to name the guilty.
    """
    whole = table_of(case, [*values, *[None] * MISSING], shapes)
    try:
        await load(postgres, way, whole, chunk_rows=len(values) // 2)
        if way == "copy":
            await load(postgres, way, table_of(case, [], shapes))
    except Exception as error:
        await execute(postgres, f"TRUNCATE by_{way}")
        alone = [{name: shapes[name]} for name in shapes if len(shapes) > 1]
        guilty = [one for shape in alone for one in await compared(postgres, way, case, values, shape)]
        return guilty or [f"{way} of {' and '.join(shapes)}: {type(error).__name__}: {error}"[:300]]
    found = await differences(postgres, way, shapes)
    await execute(postgres, f"TRUNCATE by_{way}")
    return found


async def compared_alone(postgres: AsyncEngine, case: Case, values: list[Any]) -> list[str]:
    """Load by COPY into a table of one column: there an empty text could be taken for a row without a value."""
    await execute(postgres, f"CREATE TABLE alone (v {case.sql})")
    try:
        await dl.load_dataframe({"v": case.array(values)}, "alone", engine=postgres, method="copy")
    except Exception as error:
        return [f"alone: {type(error).__name__}: {error}"[:300]]
    theirs = f"SELECT v::text FROM by_psql WHERE id < {len(values)}"
    ours = "SELECT v::text FROM alone"
    query = f"(({ours}) EXCEPT ALL ({theirs})) UNION ALL (({theirs}) EXCEPT ALL ({ours}))"
    return [f"alone: {text!r:.100}" for (text,) in await fetch(postgres, query)]


def ways_of(case: Case) -> tuple[str, ...]:
    """COPY carries most types as text anyway; money never, because the server's locale decides how it is read."""
    return ("copy", "insert") if case in TEXT_ONLY else WAYS


def cases(chosen: Callable[[Case], Any]) -> Any:
    found = {name: case for name, case in CASES.items() if chosen(case)}
    return pytest.mark.parametrize("case", found.values(), ids=found)


@cases(lambda case: case.edges)
async def test_every_way_stores_what_text_copy_stores(postgres: AsyncEngine, case: Case) -> None:
    values = case.values()
    await make_tables(postgres, case.sql)
    await load_as_psql_does(postgres, case, [*values, *[None] * MISSING])
    found = [one for way in ways_of(case) for one in await compared(postgres, way, case, values, SHAPES)]
    found += await compared_alone(postgres, case, values)
    assert not found, "\n".join(found)


@cases(lambda case: case.edges and case in DEPENDS_ON_SETTINGS)
async def test_strange_settings_of_the_database_change_nothing(postgres: AsyncEngine, case: Case) -> None:
    values = case.values()
    await make_tables(postgres, case.sql)
    await load_as_psql_does(postgres, case, [*values, *[None] * MISSING])
    await execute(postgres, *(f"ALTER DATABASE {postgres.url.database} SET {setting}" for setting in STRANGE_FORMATS))
    await postgres.dispose()
    found = [one for way in ways_of(case) for one in await compared(postgres, way, case, values, {"plain": plain})]
    assert not found, "\n".join(found)


@cases(lambda case: case.refused)
async def test_values_that_would_change_are_refused_by_row_and_column(postgres: AsyncEngine, case: Case) -> None:
    await make_tables(postgres, case.sql)
    found = [one for way in ways_of(case) for one in await not_refused(postgres, way, case, case.refused)]
    assert not found, "\n".join(found)


async def not_refused(postgres: AsyncEngine, way: str, case: Case, bad: list[Any]) -> list[str]:
    """What is wrong with the refusal of bad values between good ones, which are null."""
    values = [value for one in bad for value in (None, one)]
    table = table_of(case, [*values, None], {"plain": plain})
    try:
        await load(postgres, way, table)
        found = [f"{way}: nothing is refused"]
    except (dl.ValidationError, dl.WriteError) as error:
        right = (error.row is None or error.row % 2) and error.column in {"plain", None}
        found = [] if right else [f"{way}: not a bad row, but {error}"]
    except Exception as error:
        found = [f"{way}: {type(error).__name__}: {error}"[:300]]
    return found + await not_rejected(postgres, way, table, values)


async def not_rejected(postgres: AsyncEngine, way: str, table: pa.Table, values: list[Any]) -> list[str]:
    await execute(postgres, f"TRUNCATE by_{way}")
    try:
        report = await load(postgres, way, table, on_invalid="reject")
    except Exception as error:
        return [f"{way}, rejecting: {type(error).__name__}: {error}"[:300]]
    stored = await fetch(postgres, f"SELECT id, left(plain::text, 100) FROM by_{way}")
    found = [f"{way}: {values[row]!r:.100} is stored as {text!r}" for row, text in stored if row % 2]
    good = [row for row in report.rejects["reject_row"] if row % 2 == 0]
    return found + [f"{way}: row {row} is rejected, but it is NULL" for row in good]


@cases(lambda case: case.doubtful)
async def test_doubtful_values_are_refused_or_stored_as_text_copy_stores_them(
    postgres: AsyncEngine, case: Case
) -> None:
    await make_tables(postgres, case.sql)
    for row, value in enumerate(case.doubtful):
        with contextlib.suppress(asyncpg.PostgresError):
            await load_as_psql_does(postgres, case, [value], row)
    found = []
    for way in ways_of(case):
        with contextlib.suppress(dl.PlanError):
            await load(postgres, way, table_of(case, case.doubtful, {"plain": plain}), on_invalid="reject")
        found += await differences(postgres, way, ["plain"], "RIGHT")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("UPDATE by_{way} SET sliced = 'b' WHERE id = 1", "{way} of sliced, row 1: 'b', not 'a'"),
        ("UPDATE by_{way} SET plain = '' WHERE id = 2", "{way} of plain, row 2: '', not None"),
        ("UPDATE by_{way} SET in_runs = NULL WHERE id = 0", "{way} of in_runs, row 0: None, not ''"),
        ("DELETE FROM by_{way} WHERE id = 2", "{way} of chunked, row 2: 'no row', not None"),
        ("INSERT INTO by_{way} VALUES (3)", "{way} of chunked, row 3: None, not 'no row'"),
    ],
    ids=["another value", "empty for NULL", "NULL for empty", "a row too few", "a row too many"],
)
async def test_the_comparison_sees_a_single_difference(postgres: AsyncEngine, way: str, change: str, seen: str) -> None:
    case = CASES["text"]
    await make_tables(postgres, case.sql)
    await load_as_psql_does(postgres, case, ["", "a", None])
    await load(postgres, way, table_of(case, ["", "a", None]))
    assert await differences(postgres, way, SHAPES) == []
    await execute(postgres, change.format(way=way))
    found = await differences(postgres, way, ["plain", "sliced", "chunked", "in_runs"])
    assert seen.format(way=way) in found
