"""A row is named where the server's line number means it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from tests.conftest import execute, fetch

RAISING = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.id = 5 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '{}'; END IF; RETURN NEW; END $$"""
NUMBERS = {"id": list(range(50))}


async def refuses(postgres: AsyncEngine, sqlstate: str) -> None:
    """A table whose trigger raises at the sixth row."""
    await execute(
        postgres,
        "CREATE TABLE t (id integer)",
        RAISING.format(sqlstate),
        "CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("on_invalid", ["raise", "reject"])
@pytest.mark.parametrize("sqlstate", ["53100", "53200", "57014", "55P03", "40001", "58030", "XX000", "26000", "3B001"])
async def test_what_is_not_about_a_row_names_none_and_rejects_none(
    postgres: AsyncEngine, sqlstate: str, on_invalid: Any, method: Any
) -> None:
    await refuses(postgres, sqlstate)
    with pytest.raises(dl.WriteError, match="not this one") as caught:
        await dl.load_dataframe(NUMBERS, "t", engine=postgres, method=method, on_invalid=on_invalid, commit="load")
    assert (caught.value.row, caught.value.sqlstate) == (None, sqlstate)
    assert "row 5" not in str(caught.value)
    assert await fetch(postgres, "SELECT * FROM t") == []


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("sqlstate", ["22003", "23514", "P0001", "54000", "MY001", "42601"])
async def test_what_a_trigger_has_against_a_row_names_it(postgres: AsyncEngine, sqlstate: str, method: Any) -> None:
    await refuses(postgres, sqlstate)
    options: Any = {"engine": postgres, "method": method}
    with pytest.raises(dl.WriteError) as caught:
        await dl.load_dataframe(NUMBERS, "t", **options)
    assert caught.value.row == 5
    report = await dl.load_dataframe(NUMBERS, "t", on_invalid="reject", **options)
    assert report.rejects["reject_row"].tolist() == [5]


@pytest.mark.parametrize("commit", ["load", "chunk"])
async def test_a_row_that_is_too_big_is_named_though_the_server_names_the_last_one(
    postgres: AsyncEngine, commit: Any
) -> None:
    """Rows are stored many at a time, when the line that is read is long another one."""
    await execute(postgres, "CREATE TABLE t (id integer, v text)", "ALTER TABLE t ALTER v SET STORAGE PLAIN")
    data = {"id": list(range(50)), "v": ["x" * 10_000 if row == 5 else "x" for row in range(50)]}
    options: Any = {"engine": postgres, "method": "copy", "commit": commit}
    with pytest.raises(dl.WriteError, match="row is too big") as caught:
        await dl.load_dataframe(data, "t", **options)
    assert caught.value.row == 5
    assert await fetch(postgres, "SELECT * FROM t") == []
    report = await dl.load_dataframe(data, "t", on_invalid="reject", resume=commit == "chunk" or None, **options)
    assert report.rejects["reject_row"].tolist() == [5]
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(49,)]


@pytest.mark.parametrize("on_invalid", ["raise", "reject"])
async def test_a_statement_that_takes_too_long_blames_no_row(postgres: AsyncEngine, on_invalid: Any) -> None:
    await execute(
        postgres,
        "CREATE TABLE t (id integer)",
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(5); RETURN NEW; END$$",
        "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION slow()",
    )
    engine = create_async_engine(postgres.url, connect_args={"server_settings": {"statement_timeout": "300"}})
    with pytest.raises(dl.WriteError, match="statement timeout") as caught:
        await dl.load_dataframe(NUMBERS, "t", engine=engine, on_invalid=on_invalid, commit="load")
    await engine.dispose()
    assert caught.value.row is None
    assert "row 3" not in str(caught.value)


LINES = ["one", "two\nlines", "\n\n\n", "carriage\r\nreturn", "four", "-"]


@pytest.mark.parametrize("on_invalid", ["raise", "reject"])
@pytest.mark.parametrize("kind", ["text[]", "citext"])
async def test_texts_of_several_lines_do_not_shift_the_row_that_is_named(
    postgres: AsyncEngine, kind: str, on_invalid: Any
) -> None:
    """The server counts lines of CSV, and a text may have many."""
    value = {"text[]": '{{"{}"}}', "citext": "{}"}[kind]
    await execute(
        postgres,
        *(["CREATE EXTENSION IF NOT EXISTS citext"] if kind == "citext" else []),
        f"CREATE TABLE t (id integer CHECK (id <> 4), v {kind})",
    )
    data = {"id": list(range(6)), "v": [value.format(line) for line in LINES]}
    options: Any = {"engine": postgres, "method": "copy", "on_invalid": on_invalid}
    if on_invalid == "raise":
        with pytest.raises(dl.WriteError) as caught:
            await dl.load_dataframe(data, "t", **options)
        assert caught.value.row == 4
    else:
        assert (await dl.load_dataframe(data, "t", **options)).rejects["reject_row"].tolist() == [4]
