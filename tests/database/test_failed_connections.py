"""A connection that cannot be made: one line with the cause, the place and what to do, from real servers."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

import dataloader as dl
from dataloader.database.engine import dispose_all
from tests.database.conftest import SECRET, free_port

pytestmark = pytest.mark.any_version

DRIVERS = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
LOGIN = f"ada:{SECRET}-right"
SERVER: dict[str, tuple[str, str]] = {
    "an unknown host": (
        f"{LOGIN}@nowhere.invalid/postgres",
        "the host name nowhere.invalid is unknown. Nothing was written. Check the host in the URL, and that this "
        "machine has a network.",
    ),
    "a closed port": (
        f"{LOGIN}@127.0.0.1:{{closed}}/postgres",
        "cannot reach PostgreSQL 127.0.0.1:{closed}/postgres: the connection was refused. Nothing was written. Check "
        "that the server runs, and the host and port in the URL.",
    ),
    "a wrong password": (
        f"ada:{SECRET}@127.0.0.1:{{port}}/postgres",
        'cannot log in to PostgreSQL 127.0.0.1:{port}/postgres: password authentication failed for user "ada". '
        "Nothing was written. Check the user and the password; where it is a token that expires, pass "
        "connect(password=) a function.",
    ),
    "no such database": (
        f"{LOGIN}@127.0.0.1:{{port}}/shop",
        'cannot log in to PostgreSQL 127.0.0.1:{port}/shop: database "shop" does not exist. Nothing was written. '
        "Check the database's name at the end of the URL, or create the database.",
    ),
    "no TLS": (
        f"{LOGIN}@127.0.0.1:{{port}}/postgres?sslmode=require",
        "cannot connect to PostgreSQL 127.0.0.1:{port}/postgres by TLS: the server does not offer it, or is no "
        "PostgreSQL. Nothing was written. Check the port; turn TLS on in the server, or, in a network that is "
        "trusted, write sslmode=prefer.",
    ),
    "no socket": (
        "ada@/postgres?host={folder}",
        "cannot reach PostgreSQL local:5432/postgres: there is no socket of a server. Nothing was written. Check "
        "that the server runs, and the folder of its socket in the URL.",
    ),
}


@DRIVERS
@pytest.mark.parametrize(("url", "expected"), SERVER.values(), ids=SERVER)
async def test_a_server_that_cannot_be_used_is_told_in_one_line(
    guarded_port: int, tmp_path: Path, driver: str, url: str, expected: str
) -> None:
    places = {"port": guarded_port, "closed": free_port(), "folder": tmp_path}
    with pytest.raises(dl.ConnectionFailed) as caught:
        await dl.plan_load({"id": [1]}, "t", engine=f"postgresql+{driver}://{url.format(**places)}")
    assert str(caught.value) == expected.format(**places)


async def test_what_answers_and_is_no_postgresql_is_told_in_one_line() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port := free_port()):
        with pytest.raises(dl.ConnectionFailed, match=r"what answers there is no PostgreSQL.*host and port in the URL"):
            await dl.plan_load({"id": [1]}, "t", engine=f"postgresql://ada@127.0.0.1:{port}/postgres?sslmode=disable")


FILES: dict[str, tuple[str, str]] = {
    "in a missing folder": (
        "sqlite:///{folder}/no/shop.db",
        "cannot open SQLite {folder}/no/shop.db: the folder {folder}/no does not exist. Nothing was written. Create "
        "it, or correct the path in the URL.",
    ),
    "a folder": (
        "sqlite:///{folder}",
        "cannot open SQLite {folder}: it is a folder. Nothing was written. Name a file in it.",
    ),
    "another file": (
        "sqlite:///{folder}/notes.db",
        "cannot open SQLite {folder}/notes.db: the file is not a SQLite database. Nothing was written. Correct the "
        "path in the URL.",
    ),
    "one to read": (
        "sqlite:///file:{folder}/shop.db?mode=ro&uri=true",
        "SQLite file:{folder}/shop.db refused it: attempt to write a readonly database. Nothing was written. Make the "
        "file and its folder writable, and leave mode=ro out of the URL.",
    ),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "notes.db").write_text("just some notes, and long enough to be looked at" * 50)
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER)")
    connection.close()
    return tmp_path


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize(("url", "expected"), FILES.values(), ids=FILES)
async def test_a_file_that_cannot_be_used_is_told_in_one_line(files: Path, url: str, expected: str) -> None:
    with pytest.raises(dl.LoadError) as caught:
        await dl.load_dataframe({"id": [1]}, "t", engine=url.format(folder=files))
    assert str(caught.value) == expected.format(folder=files)
    assert isinstance(caught.value, dl.ConnectionFailed) == ("mode=ro" not in url)
    await dispose_all()
