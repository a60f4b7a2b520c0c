"""Fixtures: a real PostgreSQL for the session, a database for each test, and one `database` for both kinds."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database import embedded
from dataloader.database.engine import Default, dispose_all, open_engine


def pytest_report_header() -> str:
    binaries = embedded.find_binaries()
    return f"postgresql: {binaries}"


@contextlib.contextmanager
def enterable_folder() -> Iterator[Path]:
    """A folder that the server's user can enter, as pytest's own are not; servers in it are stopped."""
    with tempfile.TemporaryDirectory(prefix="dlt-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for pid_file in folder.glob("**/postmaster.pid"):
            pid = int(pid_file.read_text().split()[0])
            os.kill(pid, signal.SIGINT)
            while pid_file.exists():
                time.sleep(0.01)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for a server of a test's own."""
    with enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.Server]:
    """A throw-away PostgreSQL: no PostgreSQL is an error, never a skip."""
    with enterable_folder() as folder:
        yield embedded.start(folder / "pg", embedded.find_binaries(), embedded.FAST_AND_LOOSE)


@pytest.fixture
async def postgres_url(server: embedded.Server) -> AsyncIterator[sa.URL]:
    """The URL of a new, empty database."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    admin = open_engine(server.url)
    async with admin.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield server.url.set(database=name)
    async with admin.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    await admin.dispose()


@pytest.fixture
async def postgres(postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """An engine for a new, empty PostgreSQL database."""
    engine = open_engine(postgres_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine for a new SQLite file."""
    engine = open_engine(sa.make_url(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"))
    yield engine
    await engine.dispose()


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest) -> AsyncEngine:
    """The engine of each kind of database: one test body for all."""
    engine: AsyncEngine = request.getfixturevalue({"postgresql": "postgres"}.get(request.param, request.param))
    return engine


@pytest.fixture(autouse=True)
async def no_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[None]:
    """Each test starts without a default engine, and with the default SQLite file out of the way."""
    monkeypatch.delenv("DATALOADER_URL", raising=False)
    monkeypatch.setenv("DATALOADER_PROGRESS", "none")
    monkeypatch.setattr(Default, "address", None)
    yield
    await dispose_all()


async def fetch(engine: AsyncEngine, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, as tuples."""
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(sa.text(sql), parameters)]


async def execute(engine: AsyncEngine, *statements: str) -> None:
    """Carry out statements in one transaction."""
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))
