"""One PostgreSQL database for the whole folder, emptied after each test: a new one for each takes ten times as long."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from dataloader.database import embedded
from dataloader.database.engine import dispose_all, open_engine
from tests.conftest import connect_at_once, enterable_folder, execute, new_database

SECRET = "S3CRET"
PLANTED = "pl4nted!s3cret/@:%&?"
"""Of characters that a URL must have encoded."""
_EMPTY = (
    b"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()""",
    b"""DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('DROP SCHEMA %I CASCADE', name);
        END LOOP;
        EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
    END $$""",
    b"CREATE SCHEMA public",
)


@pytest.fixture(scope="session")
def shared_url(server: embedded.Server, admin: psycopg.Connection) -> Iterator[sa.URL]:
    with new_database(server, admin) as url:
        yield url


@pytest.fixture(scope="session")
def cleaner(shared_url: sa.URL) -> Iterator[psycopg.Connection]:
    with connect_at_once(shared_url) as connection:
        yield connection


@pytest.fixture
async def postgres_url(shared_url: sa.URL, cleaner: psycopg.Connection) -> AsyncIterator[sa.URL]:
    """The URL of an empty database."""
    yield shared_url
    await dispose_all()  # before the server ends their connections
    for statement in _EMPTY:
        cleaner.execute(statement)


@pytest.fixture
async def no_threads_left() -> AsyncIterator[None]:
    """aiosqlite's thread tells the loop that it has ended, and nobody waits for that where it could not connect."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def guarded_port() -> Iterator[int]:
    """The TCP port of a second server, which asks `ada` for `S3CRET-right` and `kim` for the planted password."""
    port = free_port()
    settings = embedded.FAST_AND_LOOSE | {"listen_addresses": "127.0.0.1", "port": str(port)}
    with enterable_folder() as folder:
        running = embedded.start(folder / "pg", embedded.find_binaries(), settings)
        asyncio.run(_ask_for_passwords(running, port))
        yield port


async def _ask_for_passwords(running: embedded.Server, port: int) -> None:
    (running.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    engine = open_engine(running.url.update_query_dict({"port": str(port)}))
    roles = {"ada": f"{SECRET}-right", "kim": PLANTED}
    await execute(engine, *(f"CREATE ROLE {name} LOGIN PASSWORD '{word}'" for name, word in roles.items()))
    await execute(engine, "GRANT CREATE ON SCHEMA public TO kim", "SELECT pg_reload_conf()")
    await engine.dispose()
