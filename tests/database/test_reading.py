"""Reads: exact values, hostile parameters, streams that end however their loop does, and errors that say where."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import itertools
import math
import re
import uuid
import zoneinfo
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import watchdog
from dataloader.database.backends import asyncpg_reading, postgresql_arrow
from dataloader.display.state import State
from tests.conftest import execute, fetch
from tests.values import BAD_VALUES, OBJECTS

UTC = zoneinfo.ZoneInfo("UTC")
RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE 'COPY%' AND pid <> pg_backend_pid()"
)
ENDLESS = "SELECT n, repeat('x', 200) AS filler FROM (SELECT generate_series(1, 100000000) AS n) AS t"
"""Its rows come at once: as a table, generate_series would be made whole before the first."""


async def arrow(engine: AsyncEngine, query: str, *values: Any, **options: Any) -> pa.Table:
    return await dl.read_dataframe(query, values or None, engine=engine, as_="arrow", **options)


async def first(engine: AsyncEngine, query: str) -> Any:
    return (await arrow(engine, query)).column(0)[0].as_py()


POSTGRES: dict[str, tuple[str, pa.DataType, Any]] = {
    "smallint": ("CAST(-32768 AS smallint)", pa.int16(), -32768),
    "bigint": ("CAST(-9223372036854775808 AS bigint)", pa.int64(), -(2**63)),
    "boolean": ("true", pa.bool_(), True),
    "float": ("CAST(0.1 AS float8)", pa.float64(), 0.1),
    "infinite float": ("CAST('-Infinity' AS float8)", pa.float64(), -math.inf),
    "real": ("CAST(1.5 AS real)", pa.float32(), 1.5),
    "limited numeric": ("CAST(-1.5 AS numeric(10,2))", pa.decimal128(10, 2), Decimal("-1.50")),
    "long numeric": ("CAST('1' || repeat('0', 48) AS numeric(50,1))", pa.decimal256(50, 1), Decimal(f"1{48 * '0'}.0")),
    "numeric of thousands": ("CAST(12345 AS numeric(3,-3))", pa.decimal128(6, 0), Decimal(12000)),
    "numeric of thousandths": ("CAST(0.00012 AS numeric(2,5))", pa.decimal128(5, 5), Decimal("0.00012")),
    "numeric of any size": ("CAST(123.4500 AS numeric)", pa.decimal128(7, 4), Decimal("123.4500")),
    "numeric of any size that is NaN": ("CAST('NaN' AS numeric)", pa.string(), "NaN"),
    "numeric of a thousand digits": ("CAST(repeat('9', 1000) AS numeric)", pa.string(), "9" * 1000),
    "money": ("CAST(1234.5 AS money)", pa.decimal128(6, 2), Decimal("1234.50")),
    "date": ("date '9999-12-31'", pa.date32(), dt.date(9999, 12, 31)),
    "time": ("time '23:59:59.999999'", pa.time64("us"), dt.time(23, 59, 59, 999_999)),
    "timestamp": (
        "timestamp '9999-12-31 23:59:59.999999'",
        pa.timestamp("us"),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999_999),
    ),
    "old moment of a zone that had seconds": (
        "timestamptz '1880-01-01 00:00:00 UTC'",
        pa.timestamp("us", "UTC"),
        dt.datetime(1880, 1, 1, tzinfo=UTC),
    ),
    "interval": (
        "interval '-1 year 2 days -3.000001 seconds'",
        pa.month_day_nano_interval(),
        pa.MonthDayNano((-12, 2, -3_000_001_000)),
    ),
    "text": ("'ü, \"q\"' || chr(10) || '\\.'", pa.string(), 'ü, "q"\n\\.'),
    "empty text": ("''", pa.string(), ""),
    "NULL": ("CAST(NULL AS text)", pa.string(), None),
    "bytes": ("CAST('\\x00ff' AS bytea)", pa.binary(), b"\x00\xff"),
    "empty bytes": ("CAST('' AS bytea)", pa.binary(), b""),
    "uuid": (f"CAST('{uuid.UUID(int=1)}' AS uuid)", pa.string(), str(uuid.UUID(int=1))),
    "json": ("CAST('{\"a\":  1}' AS json)", pa.string(), '{"a":  1}'),
    "inet": ("inet '10.0.0.1/8'", pa.string(), "10.0.0.1/8"),
    "range": ("int4range(1, 5)", pa.string(), "[1,5)"),
    "composite": ("ROW(1, 'a b')", pa.string(), '(1,"a b")'),
    "integers": ("ARRAY[1, NULL, 3]", pa.list_(pa.int32()), [1, None, 3]),
    "no integers": ("CAST('{}' AS int[])", pa.list_(pa.int32()), []),
    "texts": ("ARRAY['NULL', NULL, '', '{', '\"']", pa.list_(pa.string()), ["NULL", None, "", "{", '"']),
    "floats": ("ARRAY[0.1::float8, 'NaN']", pa.list_(pa.float64()), [0.1, math.nan]),
    "moments": (
        "ARRAY[timestamptz '2024-02-29 12:00+05:30']",
        pa.list_(pa.timestamp("us", "UTC")),
        [dt.datetime(2024, 2, 29, 6, 30, tzinfo=UTC)],
    ),
    "times": ("ARRAY[time '12:00:00.5']", pa.list_(pa.time64("us")), [dt.time(12, 0, 0, 500_000)]),
    "array of bytes": ("ARRAY[CAST('\\x00ff' AS bytea)]", pa.list_(pa.binary()), [b"\x00\xff"]),
    "limited numerics": (
        "CAST(ARRAY[1.1, NULL] AS numeric(5,2)[])",
        pa.list_(pa.decimal128(5, 2)),
        [Decimal("1.10"), None],
    ),
    "numerics": ("ARRAY[1.10, 2]", pa.list_(pa.string()), ["1.10", "2"]),
    "old vector": ("CAST('1 2' AS int2vector)", pa.string(), "1 2"),
}


def shown(value: object) -> str:
    """With its type, and NaN as it is; pytz and zoneinfo show UTC each in a way of its own."""
    return re.sub(r"tzinfo=(<UTC>|zoneinfo.ZoneInfo\(key='UTC'\)|datetime.timezone.utc)", "tzinfo=UTC", repr(value))


async def test_each_type_of_postgresql_is_read_as_documented_whatever_the_session_shows(postgres: AsyncEngine) -> None:
    name = (await fetch(postgres, "SELECT current_database()"))[0][0]
    for setting in ("datestyle = 'German'", "timezone = 'Europe/Amsterdam'", "intervalstyle = 'sql_standard'"):
        await execute(postgres, f"ALTER DATABASE {name} SET {setting}")
    await postgres.dispose()
    selected = ", ".join(f"{sql} AS c{at}" for at, (sql, _, _) in enumerate(POSTGRES.values()))
    table = await arrow(postgres, f"SELECT {selected}")
    for column, (what, (_, kind, value)) in zip(table.columns, POSTGRES.items(), strict=True):
        assert column.type == kind, what
        assert shown(column[0].as_py()) == shown(value), what


async def test_enums_domains_and_their_arrays_are_read(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TYPE mood AS ENUM ('sad', 'so, so')",
        "CREATE DOMAIN money_d AS numeric(12,3)",
        "CREATE DOMAIN price AS money_d",
        "CREATE TABLE t (m mood, p price, ms mood[], ps price[])",
        "INSERT INTO t VALUES ('so, so', 1.5, '{sad,NULL}', '{1.250}'), (NULL, NULL, NULL, NULL)",
    )
    table = await arrow(postgres, "t")
    assert table.schema.types[:2] == [pa.dictionary(pa.int32(), pa.string(), ordered=True), pa.decimal128(12, 3)]
    assert table.to_pylist() == [
        {"m": "so, so", "p": Decimal("1.500"), "ms": ["sad", None], "ps": ["1.250"]},
        {"m": None, "p": None, "ms": None, "ps": None},
    ]
    frame = await dl.read_dataframe("t", engine=postgres)
    assert list(frame["m"].cat.categories) == ["sad", "so, so"]


REFUSED = {
    "infinite date": ("CAST('infinity' AS date)", "infinity"),
    "BC": ("date '0044-03-15 BC'", "0044-03-15 BC"),
    "year of five digits": ("timestamptz '12024-01-01 UTC'", "12024"),
    "24 o'clock": ("time '24:00'", "24:00:00"),
    "NaN in a limited numeric": ("CAST('NaN' AS numeric(5,2))", "NaN"),
    "NaN in a long numeric": ("CAST('NaN' AS numeric(50,2))", "NaN"),
    "matrix": ("ARRAY[[1,2],[3,4]]", "{{1,2},{3,4}}"),
    "array that begins at 0": ("CAST('[0:1]={1,2}' AS int[])", "[0:1]={1,2}"),
    "infinite date in an array": ("ARRAY[CAST('infinity' AS date)]", "infinity"),
    "end of a day in an array": ("ARRAY[CAST('24:00' AS time)]", "24:00:00"),
    "long interval": ("CAST('2562048 hours' AS interval)", "an interval"),
    "longest interval": ("CAST('-2562047788:00:54.775807' AS interval)", "an interval"),
}


@pytest.mark.parametrize(("sql", "shown"), REFUSED.values(), ids=REFUSED)
async def test_a_value_that_has_no_place_in_arrow_is_refused_by_row_column_and_value(
    postgres: AsyncEngine, sql: str, shown: str
) -> None:
    one = f"(SELECT 70000 AS at, {sql} AS v) AS one"
    rows = f"SELECT n, v FROM generate_series(0, 70100) AS n LEFT JOIN {one} ON n = at ORDER BY n"
    with pytest.raises(dl.ReadError, match=r"row 70,000, column 'v': .*CAST\(v AS text\)") as caught:
        await arrow(postgres, rows)
    assert (caught.value.column, caught.value.row) == ("v", 70_000)
    assert shown in str(caught.value.value)
    assert await first(postgres, f"SELECT CAST(v AS text) FROM (SELECT {sql} AS v) AS t") is not None


async def test_an_infinite_interval_is_refused_and_a_missing_one_is_not(postgres: AsyncEngine) -> None:
    if await fetch(postgres, "SELECT current_setting('server_version_num')::int < 170000") == [(True,)]:
        pytest.skip("PostgreSQL 17 has the first infinite intervals")
    for sign in ("", "-"):
        with pytest.raises(dl.ReadError, match=r"row 1, column 'column1': 'an interval' .* it is infinite"):
            await arrow(postgres, f"VALUES (NULL), (interval '{sign}infinity')")
    assert await first(postgres, "SELECT CAST(NULL AS interval)") is None


async def test_a_label_that_comes_while_a_query_is_carried_out_is_refused_and_not_null() -> None:
    column = postgresql_arrow.read_column(postgresql_arrow.Described("mood", "mood", labels=("well", "ill")))
    decoder = postgresql_arrow.Decoder([column])
    assert decoder.decode(b"ill\n\nwell\n").column(0).to_pylist() == ["ill", None, "well"]
    with pytest.raises(dl.ReadError, match="row 4, column 'mood': 'new' has no place"):
        decoder.decode(b"\nnew\n")


HOSTILE = [
    *(
        "",
        "'",
        "''",
        "\\",
        "\\'",
        "\\\\'",
        '"',
        "$1",
        "$2",
        ":a",
        "$$",
        "$a$",
        "$$;DROP TABLE t;--",
        "'; DROP TABLE t; --",
    ),
    *(
        "' OR '1'='1",
        "--",
        "/*",
        "*/",
        "/* $1 */",
        "E'\\''",
        "\n",
        "\r\n",
        "\t",
        "\\n",
        "\\.",
        "\n\\.\n",
        ",",
        '","',
        "NULL",
    ),
    *(
        "null",
        "\\N",
        "{}",
        "[]",
        "%",
        "%s",
        "%L",
        "%I",
        "{0}",
        "ü",
        "😀",
        "\u2028",
        "\ufeff",
        "\u202e",
        "İ",
        "ﬁ",
        "'" * 99,
    ),
    *(
        "U&'\\0041'",
        "B'1'",
        "0x27",
        "char(39)",
        "\x01",
        "\x7f",
        "\u0080",
        "a\u0300",
        "١",
        "x" * 100_000,
        ")",
        "(",
        "1) --",
    ),
    *(
        " ",
        "  a  ",
        "a ",
        "::text",
        "CAST(1 AS int)",
        "pg_sleep(9)",
        "`",
        "´",
        "\u02bc",
        "’",
        "%27",
        "&#39;",
        "\\x27",
        "\\u0027",
    ),
]


async def test_hostile_parameters_come_back_as_they_were(database: AsyncEngine) -> None:
    assert len(set(HOSTILE)) >= 60
    for value in HOSTILE:
        query = "SELECT CAST($1 AS text) AS a, '$1 :a' AS b, CAST($2 AS text) AS c -- $3 'x\n"
        table = await arrow(database, query, value, f"{value}!")
        assert table.to_pylist() == [{"a": value, "b": "$1 :a", "c": f"{value}!"}]
        query = "SELECT CAST(:a AS text) AS a /* :a ' */ WHERE CAST(:a AS text) = CAST(:ab AS text)"
        assert (await dl.read_dataframe(query, {"a": value, "ab": value}, engine=database, as_="arrow"))[0][
            0
        ].as_py() == value


async def test_parameters_keep_their_types(postgres: AsyncEngine) -> None:
    values = {
        "n": 2**62,
        "d": Decimal("1.10"),
        "f": 0.1,
        "b": b"\x00'",
        "t": dt.datetime(2024, 1, 1, 0, 0, 0, 1, UTC),
        "a": ["it's", None],
        "j": '{"a": "\'"}',
        "c": "a  ",
        "none": None,
    }
    query = """SELECT :n::bigint AS n, :d::numeric(5,2) AS d, :f::float8 AS f, :b::bytea AS b, :t::timestamptz AS t,
               :a::text[] AS a, :j::json AS j, :c::bpchar AS c, :none::int AS none"""
    found = (await dl.read_dataframe(query, values, engine=postgres, as_="arrow")).to_pylist()
    assert found == [values]


async def test_a_text_that_has_no_place_in_a_query_is_an_error_of_ours(postgres: AsyncEngine) -> None:
    for bad in ("a\0b", "\ud800"):
        with pytest.raises(dl.ReadError):
            await arrow(postgres, "SELECT CAST($1 AS text)", bad)


async def test_a_select_of_sqlalchemy_brings_its_own_parameters(database: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [1, 2, 3], "at": [dt.date(2024, 1, day) for day in (1, 2, 3)]}, "t", engine=database)
    t = sa.Table("t", sa.MetaData(), sa.Column("id", sa.BigInteger), sa.Column("at", sa.Date))
    query = sa.select(t.c.id).where(t.c.id.in_([1, 3]), t.c.at > dt.date(2024, 1, 1), sa.literal("it's $1") != "x")
    assert (await dl.read_dataframe(query, engine=database))["id"].tolist() == [3]
    assert (await dl.read_dataframe(t, engine=database, columns=["at"])).columns.tolist() == ["at"]


async def test_what_was_loaded_is_read_back_and_loads_again(database: AsyncEngine) -> None:
    data = pa.table(
        {
            "i": pa.array([1, None, -(2**63)], pa.int64()),
            "b": pa.array([True, None, False]),
            "f": pa.array([0.1, None, 1e300]),
            "n": pa.array([Decimal("1.50"), None, Decimal("-0.25")], pa.decimal128(10, 2)),
            "s": pa.array(["", None, "ü\n'"]),
            "y": pa.array([b"", None, b"\x00\xff"]),
            "d": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]),
            "t": pa.array([dt.time(0), None, dt.time(23, 59, 59, 999_999)], pa.time64("us")),
            "m": pa.array([dt.datetime(2024, 2, 29, 1, 2, 3, 4), None, dt.datetime(1969, 12, 31)], pa.timestamp("us")),
            "z": pa.array([dt.datetime(2024, 2, 29, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
        }
    )
    await dl.load_dataframe(data, "t", engine=database)
    found = await arrow(database, "t")
    assert found.equals(data)
    assert found.schema == data.schema
    await dl.load_dataframe(found, "again", engine=database)
    assert (await arrow(database, "again")).equals(data)


ONCE = {(column.on("copy"), column.on("sqlite"), str(column.kind)): column for column in BAD_VALUES}
"""One of the catalogue's columns for each type of both databases and of the source."""


@pytest.mark.slow
async def test_every_type_of_the_catalogue_is_stored_again_as_it_was_read(database: AsyncEngine) -> None:
    path = "copy" if database.dialect.name == "postgresql" else "sqlite"
    tried = 0
    for column in ONCE.values():
        ddl = column.on(path)
        if not isinstance(ddl, str) or column.kind is OBJECTS or column.by == "plan":
            continue
        if column.setup or column.after or column.also:
            continue
        await execute(
            database,
            *("DROP TABLE IF EXISTS t", "DROP TABLE IF EXISTS again"),
            *(f"CREATE TABLE {name} (v {ddl})" for name in ("t", "again")),
        )
        good = [*column.good, None] if column.nulls else column.good
        await dl.load_dataframe(pa.table({"v": column.array(good)}), "t", engine=database, **column.options)
        try:
            found = await arrow(database, "t")
        except dl.ReadError:
            assert ddl.endswith("[]")  # an array of several dimensions
            continue
        if path == "sqlite" and pa.types.is_decimal(found.schema.types[0]) and found.schema.types[0].precision > 15:
            continue  # SQLite keeps such a number as an integer, and is given none as a decimal
        await dl.load_dataframe(found, "again", engine=database)
        shown = {"sqlite": "quote(v)"}.get(path, "trim_scale(v)" if ddl == "numeric" else "CAST(v AS text)")
        rows = [await fetch(database, f"SELECT {shown} FROM {name}") for name in ("t", "again")]
        assert rows[0] == rows[1], (ddl, column.kind, found.schema)
        tried += 1
    assert tried > 20


async def test_frames_of_pandas_and_polars_keep_integers_beside_missing_ones(database: AsyncEngine) -> None:
    big = 2**53 + 1
    await dl.load_dataframe(pa.table({"k": ["a", "b"], "i": [big, None]}), "t", engine=database)
    plain = await dl.read_dataframe("t", engine=database, index="k")
    assert plain.index.tolist() == ["a", "b"]
    assert plain["i"].tolist() == [big, pd.NA]
    nullable = await dl.read_dataframe("t", engine=database, dtype_backend="numpy_nullable")
    assert str(nullable.dtypes["i"]) == "Int64"
    backed = await dl.read_dataframe("t", engine=database, dtype_backend="pyarrow")
    assert str(backed.dtypes["i"]) == "int64[pyarrow]"
    assert (await dl.read_dataframe("t", engine=database, as_="polars")).equals(
        pl.DataFrame({"k": ["a", "b"], "i": [big, None]})
    )


async def test_rows_of_one_null_and_no_rows_are_kept(database: AsyncEngine) -> None:
    assert (await arrow(database, "SELECT CAST(NULL AS text) AS v UNION ALL SELECT 'a' UNION ALL SELECT ''"))[
        "v"
    ].to_pylist() == [None, "a", ""]
    await execute(database, "CREATE TABLE t (a integer, b text)")
    table = await arrow(database, "t")
    assert (table.num_rows, table.schema.names) == (0, ["a", "b"])
    assert [batch.num_rows async for batch in dl.read_batches("t", engine=database)] == [0]


async def test_columns_of_one_name_and_a_choice_of_columns_and_rows(database: AsyncEngine) -> None:
    table = await arrow(database, "SELECT 1 AS a, 2 AS a;  ")
    assert (table.schema.names, [column[0].as_py() for column in table.columns]) == (["a", "a"], [1, 2])
    table = await arrow(
        database, "SELECT 1 AS a, 2 AS b UNION ALL SELECT 3, 4 ORDER BY 1 DESC -- end", columns=["b"], max_rows=1
    )
    assert table.to_pylist() == [{"b": 4}]
    with pytest.raises(dl.ReadError, match="no column 'c'"):
        await arrow(database, "SELECT 1 AS a", columns=["c"])


@pytest.mark.parametrize("end", [";", " ; -- it's all", ";\n/* the ; end */ ;", "-- ; x", "/*;*/", ";;"])
async def test_a_semicolon_and_comments_may_end_a_query(database: AsyncEngine, end: str) -> None:
    for query in ("SELECT '; --' AS a", "SELECT CAST($1 AS text) AS a"):
        values = ["; --"] if "$1" in query else []
        assert (await arrow(database, f"{query}{end}", *values))["a"].to_pylist() == ["; --"]


@pytest.mark.parametrize(("text", "what"), [("a\0b", "a NUL"), ("\ud800", "half of a")])
async def test_a_query_that_no_driver_can_send_is_refused_in_words(database: AsyncEngine, text: str, what: str) -> None:
    with pytest.raises(dl.PlanError, match=f"the query contains {what}"):
        await arrow(database, f"SELECT '{text}' AS a")


async def test_a_second_statement_is_refused(database: AsyncEngine) -> None:
    for query in ("SELECT 1 AS a; SELECT 2 AS a", "SELECT 1 AS a; x"):
        with pytest.raises(dl.ReadError):
            await arrow(database, query)


async def test_a_table_name_is_quoted_as_everywhere(database: AsyncEngine) -> None:
    name = '"odd "" name; DROP TABLE x"'
    await dl.load_dataframe({"a": [1]}, name, engine=database)
    assert (await dl.read_dataframe(name, engine=database))["a"].tolist() == [1]


async def test_errors_say_where_and_what_to_do(database: AsyncEngine) -> None:
    with pytest.raises(dl.ReadError, match="missing"):
        await dl.read_dataframe("missing", engine=database)
    with pytest.raises(dl.ReadError, match=r"(?i)syntax"):
        await dl.read_dataframe("SELECT FROM FROM", engine=database)
    with pytest.raises(dl.PlanError, match="no parameter 'b'"):
        await dl.read_dataframe("SELECT :a", {"a": 1, "b": 2}, engine=database)
    with pytest.raises(dl.PlanError, match=r"1 parameters were given, and the query has \$1, \$2"):
        await dl.read_dataframe("SELECT $1, $2", [1], engine=database)


async def test_a_query_cannot_write(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (a integer)")
    for query in ("INSERT INTO t VALUES (1) RETURNING a", "DELETE FROM t RETURNING a", "DROP TABLE t"):
        with pytest.raises(dl.ReadError):
            await dl.read_dataframe(query, engine=database)
    assert (await dl.read_dataframe("t", engine=database)).empty


async def test_a_function_that_writes_is_refused_by_the_server(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE SEQUENCE s")
    with pytest.raises(dl.ReadError, match="read-only transaction") as caught:
        await arrow(postgres, "SELECT nextval('s')")
    assert caught.value.sqlstate == "25006"


async def until(engine: AsyncEngine, *, runs: bool) -> None:
    """Wait until a COPY is under way, or none is."""
    while (await fetch(engine, RUNNING) != [(0,)]) != runs:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.02)


async def none_runs(engine: AsyncEngine) -> None:
    """No COPY is under way, as soon as the server has been told, and no connection is checked out."""
    async with asyncio.timeout(1):
        await until(engine, runs=False)
    assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def broken_off(batches: AsyncIterator[pa.RecordBatch]) -> None:
    async for _ in batches:
        break


async def failed(batches: AsyncIterator[pa.RecordBatch]) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async for _ in batches:
            raise ZeroDivisionError


async def cancelled(batches: AsyncIterator[pa.RecordBatch]) -> None:
    async def reading() -> None:
        async for _ in batches:
            await asyncio.sleep(0.01)

    task = asyncio.create_task(reading())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("end", [broken_off, failed, cancelled])
async def test_however_a_loop_over_batches_ends_the_servers_statement_has_ended(
    postgres: AsyncEngine, end: Any
) -> None:
    batches = dl.read_batches(ENDLESS, engine=postgres)
    await end(batches)
    began = asyncio.get_running_loop().time()
    del batches
    gc.collect()
    await until(postgres, runs=False)
    await asyncio.sleep(0.05)
    assert asyncio.get_running_loop().time() - began < 10
    await none_runs(postgres)


class Shown:
    """A view that notes what it shows."""

    interval = 0.0

    def __init__(self) -> None:
        self.phases: list[str] = []

    def open(self, state: Any, cancel: Any) -> None: ...

    def update(self, state: Any) -> None: ...

    def close(self, state: Any) -> None:
        self.phases.append(state.phase)


async def test_the_display_ends_with_the_loop_and_not_when_the_cell_has_ended(database: AsyncEngine) -> None:
    query = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 9000000) SELECT i FROM s"
    shown, held, whole = Shown(), Shown(), Shown()
    async for _ in dl.read_batches(query, engine=database, progress=shown):
        break
    assert shown.phases == ["stopped"]
    batches = dl.read_batches(query, engine=database, progress=held)
    async for _ in batches:
        break
    assert held.phases == []  # there may be another loop over them
    assert (await anext(batches)).num_rows
    await batches.aclose()
    assert held.phases == ["stopped"]
    with pytest.raises(StopAsyncIteration):
        await anext(batches)
    assert [b.num_rows async for b in dl.read_batches("SELECT 1", engine=database, progress=whole)] == [1]
    await asyncio.sleep(0.3)
    assert (shown.phases, held.phases, whole.phases) == (["stopped"], ["stopped"], ["done"])


async def test_batches_that_were_read_are_not_loaded_as_none(database: AsyncEngine) -> None:
    batches = dl.read_batches("SELECT 1 AS a", engine=database)
    assert (await dl.load_batches(batches, "t", engine=database)).loaded == 1
    with pytest.raises(dl.PlanError, match="been read already"):
        await dl.load_batches(batches, "t", engine=database)


@pytest.mark.parametrize("query", [ENDLESS, "SELECT pg_sleep(60)", f"SELECT max(n) FROM ({ENDLESS}) AS t"])
async def test_a_cancelled_read_has_ended_the_servers_statement_within_a_second(
    postgres: AsyncEngine, query: str
) -> None:
    task = asyncio.create_task(dl.read_dataframe(query, engine=postgres, as_="arrow"))
    await until(postgres, runs=True)
    began = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - began < 1.5
    await none_runs(postgres)


class Seen:
    """A view that keeps what it was shown, and presses Cancel after some updates."""

    interval = 0.01

    def __init__(self, presses: bool = False) -> None:
        self.shown: list[str] = []
        self.presses = presses

    def open(self, state: State, _cancel: Any) -> None:
        self.task = asyncio.current_task()

    def update(self, state: State) -> None:
        self.fraction, self.position = state.fraction, str(state.position)
        if self.presses and state.rows:
            self.task.cancel()  # type: ignore[union-attr]

    def close(self, state: State) -> None:
        self.last = str(state)


async def test_the_cancel_button_ends_a_read_with_an_error_that_says_so(postgres: AsyncEngine) -> None:
    view = Seen(presses=True)
    with pytest.raises(dl.ReadError, match="the read was cancelled"):
        await dl.read_dataframe(ENDLESS, engine=postgres, progress=view)
    assert "cancelled" in view.last
    assert "rows read" in view.last
    assert 0 < view.fraction < 0.5  # type: ignore[operator]
    assert view.position == "of about 100,000,000 rows"
    await none_runs(postgres)


async def test_a_backend_that_is_ended_is_a_read_error(postgres: AsyncEngine) -> None:
    task = asyncio.create_task(dl.read_dataframe("SELECT pg_sleep(60)", engine=postgres))
    await until(postgres, runs=True)
    await fetch(
        postgres,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid()",
    )
    with pytest.raises(dl.ReadError, match="lost"):
        await task


async def test_a_sqlite_query_that_thinks_is_interrupted(sqlite: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 30.0)  # by the read itself
    await execute(sqlite, "CREATE TABLE t (a integer)")
    query = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e9) SELECT max(i) FROM n"
    task = asyncio.create_task(dl.read_dataframe(query, engine=sqlite))
    await asyncio.sleep(0.3)
    began = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - began < 10
    await execute(sqlite, "INSERT INTO t VALUES (1)")  # not read-only, not locked
    assert (await dl.read_dataframe("t", engine=sqlite))["a"].tolist() == [1]


async def test_a_value_of_another_type_in_a_sqlite_column_is_refused_by_name(sqlite: AsyncEngine) -> None:
    await execute(sqlite, "CREATE TABLE t (a integer, b)", "INSERT INTO t VALUES ('x', 1), (2, 'y')")
    for rows, row in (("t", 0), ("(SELECT 7 AS a FROM rows UNION ALL SELECT a FROM t)", 70_000)):
        count = "WITH RECURSIVE rows (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM rows WHERE i < 70000)"
        with pytest.raises(dl.ReadError, match=f"row {row:,}, column 'a': 'x' has no place") as caught:
            await dl.read_dataframe(f"{count} SELECT a FROM {rows}", engine=sqlite)
        assert caught.value.row == row
    with pytest.raises(dl.ReadError, match="column 'b' has values of several types: int, str"):
        await dl.read_dataframe("SELECT b FROM t", engine=sqlite)
    assert (await dl.read_dataframe("SELECT CAST(b AS TEXT) AS b FROM t", engine=sqlite))["b"].tolist() == ["1", "y"]


@pytest.mark.parametrize("text", ["1_000", "١٢", "1 2", "x", "--1", "."])
@pytest.mark.parametrize("kind", ["NUMERIC", "NUMERIC(10, 2)"])
async def test_a_text_that_is_no_number_to_sqlite_is_none_when_it_is_read(
    sqlite: AsyncEngine, kind: str, text: str
) -> None:
    await execute(sqlite, f"CREATE TABLE t (a {kind})", f"INSERT INTO t VALUES ('{text}')")
    with pytest.raises(dl.ReadError, match=re.escape(f"column 'a': {text!r} has no place")):
        await dl.read_dataframe("t", engine=sqlite)
    assert (await dl.read_dataframe("SELECT CAST(a AS TEXT) AS a FROM t", engine=sqlite))["a"].tolist() == [text]


async def test_numbers_as_parameters_of_sqlite_stay_what_they_are(sqlite: AsyncEngine) -> None:
    digits = "12345678901234567890.123"
    await execute(sqlite, "CREATE TABLE t (a TEXT)", f"INSERT INTO t VALUES ('{digits}')")
    query = "SELECT count(*) AS n FROM t WHERE a = :a"
    for value, count in ((Decimal(digits), 1), (Decimal("12345678901234567000"), 0)):
        assert (await dl.read_dataframe(query, {"a": value}, engine=sqlite))["n"].tolist() == [count]
    row = await dl.read_dataframe("SELECT :a AS a, :b AS b", {"a": Decimal("0.1"), "b": Decimal("1e3")}, engine=sqlite)
    assert row.values.tolist() == [[0.1, 1000.0]]
    with pytest.raises(dl.ReadError, match="64 bits"):
        await dl.read_dataframe(query, {"a": 2**63}, engine=sqlite)


async def test_sqlite_reads_any_statement_with_max_rows_and_keeps_its_names(sqlite: AsyncEngine) -> None:
    assert (await arrow(sqlite, "SELECT 1 AS a, 2 AS a UNION SELECT 3, 4", max_rows=1)).schema.names == ["a", "a"]
    assert (await arrow(sqlite, "EXPLAIN SELECT 1", max_rows=2)).num_rows == 2
    await execute(sqlite, "CREATE TABLE t (a integer, b text)")
    assert (await arrow(sqlite, "PRAGMA table_info(t)", max_rows=1))["name"].to_pylist() == ["a"]
    assert (await arrow(sqlite, "SELECT 1 AS a", max_rows=0)).num_rows == 0


async def test_long_rows_of_sqlite_come_in_batches_of_some_megabytes(sqlite: AsyncEngine) -> None:
    rows = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 3000) SELECT i, {} AS t FROM s"
    long = rows.format("hex(zeroblob(10000))")
    sizes = [batch.nbytes async for batch in dl.read_batches(long, engine=sqlite, progress="none")]
    assert (sum(sizes) > 60_000_000, max(sizes) < 16 << 20) == (True, True)
    later = rows.format("CASE WHEN i > 2000 THEN hex(zeroblob(10000)) END")
    batches = [batch async for batch in dl.read_batches(later, engine=sqlite, progress="none")]
    assert max(batch.nbytes for batch in batches) < 24 << 20
    assert [i for batch in batches for i in batch["i"].to_pylist()] == [*range(1, 3001)]


async def test_many_blocks_are_read_whole_and_in_order(postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncpg_reading, "FIRST_BYTES", 100)
    monkeypatch.setattr(asyncpg_reading, "BLOCK_BYTES", 10_000)
    query = "SELECT n, repeat(E'a,\"\\n', n % 7) AS s FROM generate_series(1, 300000) AS n"
    batches = [batch async for batch in dl.read_batches(query, engine=postgres)]
    assert len(batches) > 2
    table = pa.Table.from_batches(batches)
    assert table["n"].to_pylist() == list(range(1, 300_001))
    assert table["s"].to_pylist() == ['a,"\n' * (n % 7) for n in range(1, 300_001)]


BINARY = """
SELECT CASE WHEN n % 3 > 0 THEN CAST(n AS bigint) END AS i8, CAST(n % 100 AS smallint) AS i2, n - 2000 AS i4,
       n % 2 = 0 AS b, CAST(n AS oid) AS o, CASE WHEN n % 5 > 0 THEN CAST(1.1 * n AS float8) END AS f8,
       CAST(n / 7.0 AS real) AS f4, date '0001-01-01' + n AS d, date '9999-12-31' - n AS last,
       CAST(n * interval '21.599999 s' AS time) AS t, timestamp '0001-01-01' + n * interval '1 us' AS first,
       CASE WHEN n % 7 > 0 THEN timestamptz '9999-12-31 23:59:59.999999 UTC' - n * interval '13 days' END AS z,
       n * interval '1 mon -1 day 3.000001 s' AS step, CAST(md5(CAST(n AS text)) AS uuid) AS u,
       CASE WHEN n % 4 > 0 THEN repeat(E'\u00e4,"', n % 6) END AS s, CAST('a' AS char(3)) AS c,
       CAST('[1,  2]' AS json) AS j,
       decode(md5(CAST(n AS text)), 'hex') AS bytes, CAST('v' AS varchar(7)) AS v, CAST('n' AS name) AS name
FROM generate_series(0, 3999) AS n ORDER BY n
"""


async def test_rows_are_the_same_in_binary_as_in_text(postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncpg_reading, "BLOCK_BYTES", 50_000)
    await execute(postgres, "CREATE TYPE mood AS ENUM ('sad', 'so, so')")
    query = f"SELECT *, CASE WHEN i2 > 9 THEN CAST('so, so' AS mood) END AS m FROM ({BINARY}) AS q"
    with monkeypatch.context() as patched:
        patched.setattr(asyncpg_reading, "Decoder", None)
        binary = await arrow(postgres, query)
    monkeypatch.setattr(asyncpg_reading, "gains", lambda _: False)
    text = await arrow(postgres, query)
    assert binary.schema.equals(text.schema, check_metadata=True)
    for name in text.schema.names:
        assert binary[name].to_pylist() == text[name].to_pylist(), name
    binary.validate(full=True)


async def test_texts_of_what_copy_quotes_or_escapes_are_read_as_they_are(postgres: AsyncEngine) -> None:
    some = ("\\", "N", "n", "t", "\n", "\t", "\r", "\b\f\v\1", ".", "", "\ufeff", '"', ",")
    texts: list[str | None] = ["".join(parts) for parts in itertools.product(some, repeat=3)]
    texts += [None, "", None, *texts[::-1]]
    one = await arrow(postgres, "SELECT * FROM unnest(CAST($1 AS text[]))", texts)
    assert one.column(0).to_pylist() == texts
    query = "SELECT CAST(n AS numeric(9)) AS n, t FROM unnest(CAST($1 AS text[])) WITH ORDINALITY AS u (t, n)"
    assert (await arrow(postgres, query, texts))["t"].to_pylist() == texts


async def test_a_query_of_a_type_that_only_the_server_knows_is_read_as_text(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE TABLE t (i bigint, p pair)",
        "INSERT INTO t VALUES (1, (2, 'c'))",
    )
    assert (await arrow(postgres, "t")).to_pylist() == [{"i": 1, "p": "(2,c)"}]


async def test_a_value_of_many_megabytes_is_read(postgres: AsyncEngine) -> None:
    values = "repeat('x', 20000000) AS a, CAST(repeat('y', 10000000) AS bytea) AS b"
    for query in (f"SELECT {values}", f"SELECT 1 AS n, {values}"):
        table = await arrow(postgres, query)
        assert (len(table["a"][0].as_py()), len(table["b"][0].as_py())) == (20_000_000, 10_000_000)


async def test_a_table_of_1600_columns_is_read(postgres: AsyncEngine) -> None:
    await execute(
        postgres,
        f"CREATE TABLE t ({', '.join(f'c{at} smallint' for at in range(1_600))})",
        "INSERT INTO t (c7) VALUES (7)",
    )
    row = (await arrow(postgres, "t")).to_pylist()[0]
    assert (len(row), {name for name, value in row.items() if value is not None}) == (1_600, {"c7"})
