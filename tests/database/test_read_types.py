"""Every base type of the server is read and loaded again as it was, alone and in arrays; and who may read what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.copying.pipe import REASON
from dataloader.database import engine as engines
from tests.conftest import FULL, execute, fetch

VALUES = {
    "bool": "true",
    "bytea": r"E'\\x00ff'",
    "char": "'a'",
    "name": "'n'",
    "int8": "9223372036854775807",
    "int2": "-1",
    "int4": "7",
    "text": "'it''s'",
    "oid": "4294967295",
    "json": "'{\"a\":  1}'",
    "jsonb": "'{\"a\": 1}'",
    "point": "'(1,2)'",
    "lseg": "'[(1,2),(3,4)]'",
    "path": "'((1,2),(3,4))'",
    "box": "'(3,4),(1,2)'",
    "polygon": "'((1,2),(3,4))'",
    "line": "'{1,2,3}'",
    "float4": "0.1",
    "float8": "0.1",
    "money": "1234.5::numeric",
    "circle": "'<(1,2),3>'",
    "macaddr": "'08:00:2b:01:02:03'",
    "macaddr8": "'08:00:2b:01:02:03:04:05'",
    "inet": "'10.0.0.1/8'",
    "cidr": "'10.0.0.0/8'",
    "bpchar": "'a  '",
    "varchar": "'v '",
    "date": "'9999-12-31'",
    "time": "'23:59:59.999999'",
    "timestamp": "'2024-02-29 01:02:03.000004'",
    "timestamptz": "'2024-02-29 01:02:03.000004+05:30'",
    "interval": "'1 mon -2 days 3.000001 s'",
    "timetz": "'12:00:00.5+05:30'",
    "bit": "'1'",
    "varbit": "'101'",
    "numeric": "123.4500",
    "uuid": "'00000000-0000-0000-0000-000000000001'",
    "pg_lsn": "'16/B374D848'",
    "tsvector": "'a:1 b:2'",
    "tsquery": "'a & b'",
    "txid_snapshot": "'1:2:'",
    "pg_snapshot": "'1:2:'",
    "xid": "'7'",
    "xid8": "'7'",
    "cid": "'7'",
    "tid": "'(0,1)'",
    "regclass": "'pg_class'",
    "regtype": "'int4'",
    "regproc": "'now'",
    "regnamespace": "'pg_catalog'",
    "regrole": "'postgres'",
    "jsonpath": "'$.a'",
    "int2vector": "'1 2'",
    "oidvector": "'1 2'",
    "int4range": "'[1,5)'",
    "int8range": "'[1,5)'",
    "numrange": "'[1.5,2]'",
    "tsrange": "'[2024-01-01,2024-02-01)'",
    "tstzrange": "'[2024-01-01 00:00+00,2024-02-01 00:00+00)'",
    "daterange": "'[2024-01-01,2024-02-01)'",
    "int4multirange": "'{[1,5)}'",
    "nummultirange": "'{[1.5,2]}'",
}
KNOWN = "SELECT typname FROM pg_type WHERE typnamespace = CAST('pg_catalog' AS regnamespace)"


@pytest.mark.parametrize("are_arrays", [False, True], ids=["alone", "in arrays"])
async def test_every_base_type_is_loaded_again_as_it_was_read(postgres: AsyncEngine, are_arrays: bool) -> None:
    known = {name for (name,) in await fetch(postgres, KNOWN)}
    names = [name for name in VALUES if name in known]
    casts = [f'CAST({VALUES[name]} AS "{name}")' for name in names]
    values = [f"ARRAY[{cast}, NULL]" for cast in casts] if are_arrays else casts
    kinds = [f'"{name}"{"[]" if are_arrays else ""}' for name in names]
    await execute(
        postgres,
        f"CREATE TABLE t ({', '.join(f'c{at} {kind}' for at, kind in enumerate(kinds))})",
        f"INSERT INTO t VALUES ({', '.join(values)})".replace(":", r"\:"),
        f"INSERT INTO t VALUES ({', '.join('NULL' for _ in names)})",
        "CREATE TABLE again (LIKE t)",
    )
    await dl.load_dataframe(await dl.read_dataframe("t", engine=postgres, as_="arrow"), "again", engine=postgres)
    shown = ", ".join(f"CAST(c{at} AS text)" for at in range(len(names)))
    before, after = [
        await fetch(postgres, f"SELECT {shown} FROM {table} ORDER BY c4 IS NULL") for table in ("t", "again")
    ]
    assert len(names) > 50
    for name, one, other in zip([*names, *names], [*before[0], *before[1]], [*after[0], *after[1]], strict=True):
        assert one == other, name


@pytest.mark.parametrize("method", ["copy", "insert"])
async def test_boxes_in_arrays_of_arrays_have_semicolons_between_them(postgres: AsyncEngine, method: str) -> None:
    await execute(postgres, "CREATE TABLE t (a box[])")
    rows: dict[str, Any] = {"a": [[["(3,4),(1,2)", None], ["(1,1),(0,0)", "(2,2),(1,1)"]], []]}
    await dl.load_dataframe(rows, "t", engine=postgres, method=method)
    shown = [("{{(3,4),(1,2);NULL};{(1,1),(0,0);(2,2),(1,1)}}",), ("{}",)]
    assert await fetch(postgres, "SELECT CAST(a AS text) FROM t") == shown


async def test_a_query_without_columns_is_refused_and_a_table_without_rows_is_not(database: AsyncEngine) -> None:
    await execute(database, "CREATE TABLE t (a integer, b date)")
    table = await dl.read_dataframe("SELECT a AS x, b AS x FROM t", engine=database, as_="arrow")
    assert (table.num_rows, table.schema.names) == (0, ["x", "x"])
    if database.dialect.name == "postgresql":
        await execute(database, "CREATE TABLE nothing ()", "INSERT INTO nothing DEFAULT VALUES")
        for query in ("nothing", "SELECT FROM t"):
            with pytest.raises(dl.ReadError, match="no columns"):
                await dl.read_dataframe(query, engine=database)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_value_of_200_mb_is_read(postgres: AsyncEngine) -> None:
    size = 200_000_000 if FULL else 20_000_000
    table = await dl.read_dataframe(f"SELECT 1 AS n, repeat('x', {size}) AS a", engine=postgres, as_="arrow")
    assert pa.compute.binary_length(table["a"]).to_pylist() == [size]


async def test_a_role_reads_what_it_may(
    postgres: AsyncEngine, postgres_url: sa.URL, sqlite: AsyncEngine, tmp_path: Path
) -> None:
    role = f"reader_{postgres_url.database}"
    await execute(
        postgres,
        f"CREATE ROLE {role} LOGIN",
        "CREATE TABLE t (a integer, secret text, owner text)",
        f"INSERT INTO t VALUES (1, 'x', '{role}'), (2, 'y', 'other')",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT (a, owner) ON t TO {role}",
    )
    engine = engines.open_engine(postgres_url.set(username=role))
    try:
        query = "SELECT a FROM t ORDER BY a"
        assert (await dl.read_dataframe(query, engine=engine))["a"].tolist() == [1, 2]
        chosen: dict[str, Any] = {"columns": ["owner", "a"]}
        assert (await dl.read_dataframe("t", engine=engine, **chosen))["a"].tolist() == [1, 2]
        assert (await dl.export("t", tmp_path / "t.csv", engine=engine, **chosen)).rows == 2
        assert (await dl.copy_table("t", "copy", source=engine, engine=sqlite, **chosen)).loaded == 2
        assert (await dl.copy_table("t", "copy", source=engine, engine=postgres, **chosen)).reason == REASON
        assert (await dl.compare({"a": [1, 2], "owner": [role, "other"]}, "t", key="a", engine=engine)).equal
        for work in (
            dl.read_dataframe("t", engine=engine),
            dl.export("t", tmp_path / "all.csv", engine=engine),
            dl.copy_table("t", "all", source=engine, engine=sqlite),
            dl.compare({"a": [1], "secret": ["x"]}, "t", key="a", engine=engine),
        ):
            with pytest.raises(dl.ReadError, match="permission denied") as caught:
                await work
            assert (caught.value.sqlstate, "privilege SELECT" in caught.value.hint) == ("42501", True)
        assert not (tmp_path / "all.csv").exists()
        await execute(
            postgres,
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON t USING (owner = current_user)",
        )
        assert (await dl.read_dataframe(query, engine=engine))["a"].tolist() == [1]
        assert [batch.num_rows async for batch in dl.read_batches(query, engine=engine)] == [1]
        assert (await dl.export("t", tmp_path / "own.csv", engine=engine, **chosen)).rows == 1
        for target in (sqlite, postgres):
            assert (await dl.copy_table("t", "own", source=engine, engine=target, **chosen)).loaded == 1
        found = await dl.compare({"a": [1, 2]}, "t", key="a", engine=engine)
        assert (found.same, found.count_only_here) == (1, 1)  # as for the role there is no other
    finally:
        await engine.dispose()
        await execute(postgres, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
