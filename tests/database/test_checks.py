"""`check` on real servers and files: what it finds is there, and what it says a load would meet, a load meets."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import connect_at_once, enterable_folder, execute
from tests.database.conftest import SECRET, free_port
from tests.database.test_servers import PASSWORD, Guarded, guarded  # noqa: F401 - a fixture

pytestmark = pytest.mark.any_version


def said_of(report: dl.CheckReport, topic: str) -> tuple[str, str, str]:
    """The worst that was found of a topic: its level, what it says, and the remedy."""
    levels = ("problem", "note", "ok")
    found = sorted((one for one in report.findings if one.topic == topic), key=lambda one: levels.index(one.level))
    return found[0].level, found[0].says, found[0].remedy


@pytest.fixture
async def analyst(postgres: AsyncEngine) -> AsyncIterator[sa.URL]:
    """The URL of a role that may log in, and nothing else."""
    name = f"analyst_{uuid.uuid4().hex[:8]}"
    await execute(postgres, f"CREATE ROLE {name} LOGIN", "CREATE TABLE orders (id int)")
    await execute(postgres, f"GRANT USAGE ON SCHEMA public TO {name}")
    yield postgres.url.set(username=name)
    await execute(postgres, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_a_database_that_is_ready(database: AsyncEngine) -> None:
    await dl.load_dataframe({"id": [1]}, "orders", engine=database)
    report = await dl.check(database, "orders")
    assert report.ok
    assert [one for one in report.findings if one.level == "note"] == []
    assert "ready" in report._repr_html_()
    text = str(report)
    assert text.splitlines()[0].endswith("0 problems, 0 notes")
    assert all(one.says in text for one in report.findings)


async def test_a_role_that_may_do_nothing(analyst: sa.URL, postgres: AsyncEngine) -> None:
    report = await dl.check(analyst, "orders")
    level, says, remedy = said_of(report, "rights")
    assert (level, remedy) == ("problem", f"GRANT INSERT ON orders TO {analyst.username}.")
    assert not report.ok
    with pytest.raises(dl.DataLoaderError, match="permission denied"):
        await dl.load_dataframe({"id": [1]}, "orders", engine=analyst)
    await execute(postgres, remedy.rstrip("."))
    granted = await dl.check(analyst, "orders")
    assert granted.ok, str(granted)
    assert said_of(granted, "rights")[1].startswith(f"{analyst.username} lacks SELECT on orders")
    level, says, _ = said_of(granted, "ledger")
    assert level == "note"
    assert f"python -m dataloader grants public.TABLE {analyst.username}" in says
    assert (await dl.load_dataframe({"id": [1]}, "orders", engine=analyst)).loaded == 1


async def test_a_role_that_may_create_no_table(analyst: sa.URL, postgres: AsyncEngine) -> None:
    report = await dl.check(analyst, "fresh")
    level, says, remedy = said_of(report, "rights")
    assert (level, says) == ("problem", f"{analyst.username} may not create tables in the schema public")
    with pytest.raises(dl.DataLoaderError, match="permission denied"):
        await dl.load_dataframe({"id": [1]}, "fresh", engine=analyst)
    await execute(postgres, remedy.partition(",")[0])
    assert (await dl.check(analyst, "fresh")).ok
    assert said_of(await dl.check(analyst, "nowhere.fresh"), "rights")[1] == "there is no schema nowhere"
    await execute(postgres, f"REVOKE ALL ON SCHEMA public FROM {analyst.username}, PUBLIC")
    for table, says in (("fresh", "may use no schema of its search_path"), ("public.fresh", "use the schema public")):
        level, found, remedy = said_of(await dl.check(analyst, table), "rights")
        assert level == "problem"
        assert says in found
        assert "GRANT USAGE" in remedy


async def freshly(url: sa.URL) -> dl.CheckReport:
    """A check by new connections, which have what was set for the role meanwhile."""
    engine = open_engine(url)
    report = await dl.check(engine)
    await engine.dispose()
    return report


async def test_limits_of_time_that_may_cut_a_load(analyst: sa.URL, postgres: AsyncEngine) -> None:
    role = analyst.username
    assert said_of(await freshly(analyst), "time limits")[0] == "ok"
    await execute(postgres, f"ALTER ROLE {role} SET statement_timeout = '5s'")
    level, says, remedy = said_of(await freshly(analyst), "time limits")
    assert (level, says) == ("problem", "statement_timeout is 5 s: it ends a statement, like that of one chunk")
    assert "Raise it" in remedy
    await execute(
        postgres,
        f"ALTER ROLE {role} SET statement_timeout = 0",
        f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '2min'",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
    )
    report = await freshly(analyst)
    assert "commit='chunk'" in said_of(report, "time limits")[2]
    assert said_of(report, "state")[0] == "problem"


async def test_the_pool_against_the_workers_and_the_server(analyst: sa.URL, postgres: AsyncEngine) -> None:
    small = open_engine(analyst, {"pool_size": 2, "max_overflow": 0})
    level, says, remedy = said_of(await dl.check(small, workers=8), "pool")
    assert (level, remedy) == ("note", "Make it larger: connect(url, pool_size=8).")
    assert "up to 2 connections, 8 workers need as many" in says
    assert said_of(await dl.check(small, workers=2), "pool")[0] == "ok"
    await small.dispose()
    await execute(postgres, f"ALTER ROLE {analyst.username} CONNECTION LIMIT 3")
    engine = open_engine(analyst)
    level, says, remedy = said_of(await dl.check(engine, workers=8), "pool")
    assert (level, remedy.partition(",")[0]) == ("problem", "Use workers=3")
    assert "has 2 free of" in says, "beside the one that asks"
    assert said_of(await dl.check(engine, workers=3), "pool")[0] == "note", "its pool would take more than there are"
    await engine.dispose()
    with pytest.raises(dl.PlanError, match="workers must be a count"):
        await dl.check(postgres, workers=0)
    with pytest.raises(dl.PlanError, match="workers must be a count"):
        await dl.check(postgres, workers=True)


async def test_a_server_with_few_connections() -> None:
    settings = embedded.FAST_AND_LOOSE | {"max_connections": "5", "superuser_reserved_connections": "2"}
    with enterable_folder() as folder:
        server = embedded.start(folder / "pg", embedded.find_binaries(), settings)
        with connect_at_once(server.url) as admin:
            admin.execute("CREATE ROLE analyst LOGIN")
            engine = open_engine(server.url.set(username="analyst"))
            _, says, _ = said_of(await dl.check(engine), "pool")
            assert "has 1 free of 5" in says, "of three, one is the administrator's and one this one"
            with connect_at_once(server.url.set(username="analyst")):
                assert said_of(await dl.check(engine), "pool")[0] == "problem"
            await engine.dispose()


@pytest.mark.usefixtures("no_threads_left")
async def test_what_cannot_be_reached_is_a_problem_and_no_error(guarded_port: int, tmp_path: Path) -> None:
    for url, says in (
        (f"postgresql://ada:{SECRET}@127.0.0.1:{free_port()}/shop", "the connection was refused"),
        (f"postgresql://ada:{SECRET}@127.0.0.1:{guarded_port}/postgres", "password authentication failed"),
        (f"sqlite:///{tmp_path}/nowhere/shop.db", "does not exist"),
    ):
        report = await dl.check(url)
        assert not report.ok
        level, said, remedy = said_of(report, "connection")
        assert (level, says in said) == ("problem", True)
        assert remedy
        assert SECRET not in f"{report}{report!r}{report._repr_html_()}"


async def test_encryption(guarded: Guarded, guarded_port: int) -> None:  # noqa: F811 - the fixture
    report = await dl.check(guarded.url("sslmode=require"))
    assert said_of(report, "encryption")[1].startswith("encrypted by TLS")
    assert PASSWORD not in str(report)
    plain = await dl.check(f"postgresql://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres")
    assert said_of(plain, "encryption")[1] == "not encrypted, and it does not leave the machine"


@pytest.fixture(scope="module")
def replica() -> Iterator[sa.URL]:
    """A server that has been told to wait for the primary's changes."""
    with enterable_folder() as folder:
        server = embedded.start(folder / "pg", embedded.find_binaries(), embedded.FAST_AND_LOOSE)
        pid_file = server.data / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)
        while pid_file.exists():
            time.sleep(0.01)
        (server.data / "standby.signal").touch()
        command = [server.binaries / "postgres", "-D", server.data, "-k", server.url.query["host"], "-h", ""]
        with subprocess.Popen(command, cwd=server.data, stderr=subprocess.DEVNULL, **server.account) as running:
            is_ready = False
            for _ in range(1_000):
                if is_ready := pid_file.exists() and "ready" in pid_file.read_text():
                    break
                time.sleep(0.01)
            assert is_ready
            yield server.url
            running.send_signal(signal.SIGINT)


@pytest.mark.slow
async def test_a_replica(replica: sa.URL) -> None:
    level, says, remedy = said_of(await dl.check(replica), "state")
    assert (level, says) == ("problem", "the server is a replica, in recovery: nothing can be written")
    assert "target_session_attrs" in remedy


async def test_a_file_that_is_locked_or_none(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    assert said_of(await dl.check(f"sqlite:///{path}"), "file")[1].endswith("is not there yet: the first load makes it")
    assert not path.exists(), "nothing is written"
    holding = sqlite3.connect(path, isolation_level=None)
    holding.execute("CREATE TABLE orders (id)")
    report = await dl.check(f"sqlite:///{path}")
    assert report.ok
    assert said_of(report, "journal")[0] == "note"
    holding.execute("BEGIN IMMEDIATE")
    level, says, remedy = said_of(await dl.check(f"sqlite:///{path}"), "lock")
    assert (level, says) == ("problem", "database is locked")
    assert "end it there" in remedy
    holding.close()
    other = tmp_path / "notes.txt"
    other.write_text("no database at all, but long enough to be looked at" * 20)
    assert not (await dl.check(f"sqlite:///{other}")).ok


async def test_a_file_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shop.db"
    sqlite3.connect(path).close()
    path.write_bytes(b"")
    path.chmod(0o400)
    if os.access(path, os.W_OK):  # as root, who may write to everything
        monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert said_of(await dl.check(f"sqlite:///{path}"), "file")[:2] == ("problem", f"{path} may not be written to")


@pytest.mark.parametrize(("locked", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_says_whether_it_is_ready(tmp_path: Path, locked: bool, code: int) -> None:
    path = tmp_path / "shop.db"
    holding = sqlite3.connect(path, isolation_level=None)
    holding.execute("PRAGMA journal_mode = WAL")
    if locked:
        holding.execute("BEGIN IMMEDIATE")
    command = [sys.executable, "-m", "dataloader", "check", "--to", f"sqlite:///{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert f"{int(locked)} problem" in done.stdout
    assert ("database is locked" in done.stdout) == locked
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False).stdout
    assert f'"status": "{"problems" if locked else "ok"}"' in as_json
    holding.close()
