"""What `check` finds where few databases are so: names, encodings, policies, disks and files that are replaced."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database.backends import postgresql_check, sqlite_check
from dataloader.database.engine import open_engine
from tests.conftest import execute
from tests.database.test_checks import analyst, said_of  # noqa: F401 - a fixture

pytestmark = pytest.mark.any_version


@pytest.mark.parametrize("name", ["a#b.db", "100%25 sales.db", "ümlaut.db"])
async def test_a_file_is_looked_at_whatever_its_name(tmp_path: Path, name: str) -> None:
    engine = open_engine(sa.make_url(f"sqlite+aiosqlite:///{tmp_path / name}"))
    await execute(engine, "CREATE TABLE t (id bigint)")
    before = sorted(os.listdir(tmp_path))
    report = await dl.check(engine)
    assert (report.ok, said_of(report, "lock")[1]) == (True, "nobody is writing to it")
    assert sorted(os.listdir(tmp_path)) == before, "nothing is made"
    await engine.dispose()


async def test_a_file_that_another_has_taken_the_place_of(tmp_path: Path) -> None:
    engine = open_engine(sa.make_url(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"))
    await execute(engine, "CREATE TABLE t (id bigint)")
    (tmp_path / "notes.txt").write_text("no database at all, but long enough to be looked at" * 20)
    os.replace(tmp_path / "notes.txt", tmp_path / "shop.db")
    level, says, remedy = said_of(await dl.check(engine), "file")
    assert (level, says) == ("problem", "file is not a database")
    assert "from a backup" in remedy
    await engine.dispose()


async def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_check, "LEAST_BYTES", 1 << 62)
    level, says, remedy = said_of(await dl.check(f"sqlite:///{tmp_path / 'shop.db'}"), "disk")
    assert (level, says.endswith("are free for shop.db"), remedy) == (
        "problem",
        True,
        "Make room before the next load.",
    )


async def test_a_folder_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite3.connect(tmp_path / "shop.db").close()
    os.chmod(tmp_path, 0o500)
    if os.access(tmp_path, os.W_OK):  # as root, who may write to everything
        monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    level, says, remedy = said_of(await dl.check(f"sqlite:///{tmp_path / 'shop.db'}"), "file")
    os.chmod(tmp_path, 0o700)
    assert (level, says) == ("problem", f"the folder {tmp_path} may not be written to")
    assert "journal beside the file" in remedy


async def test_a_database_that_lacks_characters(admin: psycopg.Connection, postgres_url: sa.URL) -> None:
    admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    engine = open_engine(postgres_url.set(database="latin"))
    level, says, remedy = said_of(await dl.check(engine), "encoding")
    await engine.dispose()
    admin.execute("DROP DATABASE latin")
    assert (level, says.startswith("the database stores texts as LATIN1")) == ("note", True)
    assert "ENCODING 'UTF8'" in remedy


async def test_a_table_with_policies(analyst: sa.URL, postgres: AsyncEngine) -> None:  # noqa: F811
    await execute(
        postgres,
        f"GRANT ALL ON orders TO {analyst.username}",
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY everything ON orders USING (true)",
    )
    for url, method in ((analyst, "insert"), (postgres.url, "copy")):  # a superuser is above all policies
        found = [one.says for one in (await dl.check(url, "orders")).findings]
        assert ("orders has row-level security: rows go in by INSERT" in found) == (method == "insert")
        assert (await dl.plan_load({"id": [1]}, "orders", engine=url)).method == method


@pytest.mark.parametrize(
    ("address", "level", "says"),
    [
        ("10.0.0.5", "note", "not encrypted: password and rows can be read on their way"),
        ("127.0.0.1", "ok", "not encrypted, and it does not leave the machine"),
    ],
    ids=["another machine", "this machine"],
)
def test_a_way_that_is_not_encrypted(address: str, level: str, says: str) -> None:
    found = postgresql_check._encryption(SimpleNamespace(is_socket=False, tls=None, address=address))
    assert (found.level, found.says) == (level, says)
    assert ("sslmode=require" in found.remedy) == (level == "note")
