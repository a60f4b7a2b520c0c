"""Fixtures: a real PostgreSQL for the session, a database for each test, and one `database` for both kinds."""

from __future__ import annotations

import ast
import asyncio
import collections
import contextlib
import os
import random
import re
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import tenacity
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.database import embedded
from dataloader.database.engine import Default, dispose_all, open_engine

FULL = os.environ.get("DATALOADER_FAULTS") == "full"
"""CI runs some proofs in a short form."""
CASES = int(os.environ.get("DATALOADER_CASES", "0"))
"""How many cases of each test function are run, evenly spread over all; 0 for all."""
SERIAL, SLOW = "pytest.mark.serial", re.compile(r"^pytestmark = .*pytest\.mark\.slow", re.MULTILINE)
SERVER_VARIABLE = "DATALOADER_TEST_SERVER"
"""The folder of a running server that a test session uses instead of one of its own."""


INTERNAL = re.compile(
    r"Arrow(Invalid|NotImpl|Type|Exc)|In chunk|large_string|straddling|std::|Rescaling|inflate|0x[0-9a-f]{6}|magic"
)
"""What Arrow and C++ call things; no message of ours does."""


class Broken(Exception):
    """What a source raises in the middle of a load."""


def pytest_configure() -> None:
    """A run in the background of a shell ignores Ctrl-C, and so would the processes that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed stays in lines of any length: where they are broken is asked in tests of that alone."""
    monkeypatch.setattr("dataloader.formatting.terminal_columns", lambda: 10_000)


def pytest_report_header() -> str:
    binaries = embedded.find_binaries()
    return f"postgresql: {binaries}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of functions with more cases than ``DATALOADER_CASES``, others are run for another ``DATALOADER_CASES_SEED``."""
    cases = collections.defaultdict(list)
    for item in items:
        whole = item.nodeid.startswith(("tests/notebook/", "tests/contract/"))  # each case of which is of its own kind
        cases[item.nodeid if whole else item.nodeid.partition("[")[0]].append(item)
    kept = set()
    for function, every in cases.items():
        taken = min(CASES or len(every), len(every))
        first = random.Random(os.environ.get("DATALOADER_CASES_SEED", "") + function).random()
        kept |= {every[int((number + first) * len(every) / taken)] for number in range(taken)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _clocked(file: str, source: str) -> Iterator[str]:
    """What of a file holds a clock against what it tests: the file, or tests of it."""
    for node in ast.parse(source).body if SERIAL in source else ():
        if isinstance(node, ast.Assign) and SERIAL in ast.unparse(node):
            yield file
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (f"{file}::{node.name}" for one in node.decorator_list if SERIAL in ast.unparse(one))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``, tests that hold a clock against what they test are one file: never beside each other.

    That one is begun first, then the files of slow tests, then the others, the largest first: at the end no process is
    left alone with what takes minutes. ``--dist loadgroup`` would keep them apart as well, but the process that
    distributes the tests knows no marks, and pytest-xdist 3.8 does not hand them on with pytest 9.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    folder = Path(__file__).parent
    sources = {f"tests/{path.relative_to(folder)}": path.read_text() for path in folder.rglob("test_*.py")}
    clocked = {name for file, source in sources.items() for name in _clocked(file, source)}

    class LongestFirst(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "serial" if {file, nodeid.partition("[")[0]} & clocked else file

        def _assign_work_unit(self, node: Any) -> None:
            self.workqueue.move_to_end(max(self.workqueue, key=self._length), last=False)
            super()._assign_work_unit(node)

        def _length(self, scope: str) -> tuple[bool, bool, int]:
            return scope == "serial", bool(SLOW.search(sources.get(scope, ""))), len(self.workqueue[scope])

    return LongestFirst(config, log)


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
    """A throw-away PostgreSQL: no PostgreSQL is an error, never a skip. Another session may lend its own."""
    if running := os.environ.get(SERVER_VARIABLE):
        yield embedded.start(Path(running), embedded.find_binaries())
        return
    with enterable_folder() as folder:
        yield embedded.start(folder / "pg", embedded.find_binaries(), embedded.FAST_AND_LOOSE)


def connect_at_once(url: sa.URL) -> psycopg.Connection:
    """A connection that no loop owns, for what is done between tests: to open one takes longer than most of them."""
    return psycopg.connect(host=url.query["host"], user=url.username, dbname=url.database, autocommit=True)


@pytest.fixture(scope="session")
def admin(server: embedded.Server) -> Iterator[psycopg.Connection]:
    """Creates and drops databases."""
    with connect_at_once(server.url) as connection:
        yield connection


@contextlib.contextmanager
def new_database(server: embedded.Server, admin: psycopg.Connection) -> Iterator[sa.URL]:
    """The URL of a new, empty database, which is dropped afterwards."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    admin.execute(f"CREATE DATABASE {name}".encode())
    yield server.url.set(database=name)
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def dispose_opened() -> None:
    """Close what a test has opened in its loop: for URLs, and by `connect`, whose engine is its caller's to close."""
    await dispose_all()
    if Default.address and Default.address.engine:
        await Default.address.engine.dispose()


@pytest.fixture
async def postgres_url(server: embedded.Server, admin: psycopg.Connection) -> AsyncIterator[sa.URL]:
    """The URL of a new, empty database."""
    with new_database(server, admin) as url:
        yield url
        await dispose_opened()  # before the server ends their connections


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


@pytest.fixture
async def disposed() -> AsyncIterator[None]:
    """What a test's loop has opened is closed before that loop is."""
    yield
    await dispose_opened()
    for _ in range(2):  # a connection that was just given up is closed in the loop's next round, or never
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def no_default(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without a default engine, and with the default SQLite file out of the way."""
    if request.node.get_closest_marker("asyncio"):  # for the others there need not be a loop: that takes 2 ms
        request.getfixturevalue("disposed")
    monkeypatch.delenv("DATALOADER_URL", raising=False)
    monkeypatch.setenv("DATALOADER_PROGRESS", "none")
    monkeypatch.setattr(Default, "address", None)


async def fetch(engine: AsyncEngine, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, as tuples."""
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(sa.text(sql), parameters)]


def _is_deadlock(error: BaseException) -> bool:
    """With autovacuum, that is: what DROP OWNED changes in pg_class, an analysis of the table changes too."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == "40P01"


@tenacity.retry(retry=tenacity.retry_if_exception(_is_deadlock), stop=tenacity.stop_after_attempt(5), reraise=True)
async def execute(engine: AsyncEngine, *statements: str) -> None:
    """Carry out statements in one transaction, again if it was the victim of a deadlock."""
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))


@pytest.fixture
def long_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources whose rows are not counted are committed chunk by chunk from ten rows on, to be quick."""
    monkeypatch.setattr("dataloader.loading.chunks.ONE_TRANSACTION_ROWS", 9)
    monkeypatch.setattr("dataloader.sources.files.about_rows", lambda *_: None)
