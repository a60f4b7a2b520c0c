"""connect(), the default engine, and what is said when a server cannot be reached; no password ever shows."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import Default, dispose_all, resolve
from tests.conftest import fetch
from tests.database.conftest import SECRET, free_port

FRAME = pd.DataFrame({"id": [1, 2]})

BARE = {
    "postgresql": ("postgresql://u@h/d", "postgresql+asyncpg"),
    "postgres": ("postgres://u@h/d", "postgresql+asyncpg"),
    "asyncpg": ("postgresql+asyncpg://u@h/d", "postgresql+asyncpg"),
    "psycopg": ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
    "sqlite": ("sqlite:///file.db", "sqlite+aiosqlite"),
    "sqlite in memory": ("sqlite://", "sqlite+aiosqlite"),
}


@pytest.mark.parametrize(("url", "driver"), BARE.values(), ids=BARE)
async def test_a_url_gets_an_async_driver(url: str, driver: str) -> None:
    assert dl.connect(url).url.drivername == driver


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql+psycopg2://u@h/d", r"postgresql\+asyncpg://"),
        ("sqlite+pysqlite:///file.db", r"sqlite\+aiosqlite://"),
        ("mysql+pymysql://u@h/d", r"mysql\+asyncmy://"),
    ],
    ids=["psycopg2", "pysqlite", "pymysql"],
)
def test_a_sync_driver_is_refused_with_the_async_one_named(url: str, advice: str) -> None:
    with pytest.raises(dl.PlanError, match=f"is not async.*{advice}"):
        dl.connect(url)


@pytest.mark.parametrize("url", ["", "orders", "://", "postgresql//u@h/d", "nosuchdb://h/d", "postgresql://h:port/d"])
def test_a_url_that_cannot_be_read_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if not url:
        assert dl.connect(url).url.database == "dataloader.db"
        return
    with pytest.raises(dl.PlanError):
        dl.connect(url)


async def test_a_sync_engine_is_refused_with_what_to_do() -> None:
    engine = sa.create_engine("sqlite://")
    with pytest.raises(dl.PlanError, match=r"It is a synchronous engine: pass its \.url to connect"):
        await dl.load_dataframe(FRAME, "t", engine=engine)  # type: ignore[typeddict-item]
    engine.dispose()


@pytest.mark.parametrize("mode", ["disable", "prefer", "allow"])
async def test_sslmode_is_understood(postgres_url: sa.URL, mode: str) -> None:
    engine = dl.connect(postgres_url.update_query_dict({"sslmode": mode}))
    assert (await dl.load_dataframe(FRAME, "t", engine=engine)).loaded == 2


async def test_sslmode_is_understood_over_tcp_and_require_is_kept(guarded_port: int) -> None:
    url = f"postgresql://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres"
    assert await fetch(resolve(f"{url}?sslmode=disable"), "SELECT 1") == [(1,)]
    with pytest.raises(dl.ConnectionFailed, match=r"by TLS: the server does not offer it"):
        await dl.load_dataframe(FRAME, "t", engine=f"{url}?sslmode=require")


async def test_the_default_is_what_connect_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATALOADER_URL", f"sqlite:///{tmp_path / 'variable.db'}")
    engine = dl.connect(f"sqlite:///{tmp_path / 'connected.db'}")
    await dl.load_dataframe(FRAME, "t")
    assert await fetch(engine, "SELECT count(*) FROM t") == [(2,)]
    assert not (tmp_path / "variable.db").exists()


async def test_the_default_is_the_variable_where_nothing_was_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATALOADER_URL", "sqlite:///variable.db")
    assert (await dl.load_dataframe(FRAME, "t")).database == "SQLite variable.db"
    assert (tmp_path / "variable.db").exists()


async def test_the_default_is_a_file_in_the_current_folder_where_nothing_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (await dl.load_dataframe(FRAME, "t")).database == "SQLite dataloader.db"
    assert (tmp_path / "dataloader.db").exists()


async def test_a_later_connect_replaces_the_default(tmp_path: Path) -> None:
    for name in ("one.db", "two.db"):
        dl.connect(f"sqlite:///{tmp_path / name}")
        assert (await dl.load_dataframe(FRAME, "t")).database.endswith(name)


async def _load_and_close() -> int:
    report = await dl.load_dataframe(FRAME, "t")
    await dispose_all()
    return report.loaded


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_every_event_loop_has_its_default_engine(
    server: embedded.Server, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else f"sqlite:///{tmp_path / 'loops.db'}"
    dl.connect(url)
    assert [asyncio.run(_load_and_close()) for _ in range(3)] == [2, 2, 2]
    assert [dl.run(_load_and_close()) for _ in range(2)] == [2, 2]

    async def in_a_cell() -> int:
        awaited = await _load_and_close()
        return awaited + dl.run(_load_and_close())

    assert asyncio.run(in_a_cell()) == 4
    assert asyncio.run(_count()) == 14


async def _count() -> int:
    found = await fetch(resolve(None), "SELECT count(*) FROM t")
    await dispose_all()
    return int(found[0][0])


async def test_the_engine_of_another_loop_is_named_as_the_problem(postgres_url: sa.URL) -> None:
    engine = create_async_engine(postgres_url)
    await dl.load_dataframe(FRAME, "t", engine=engine)
    loading = asyncio.to_thread(dl.run, dl.load_dataframe(FRAME, "t", engine=engine))
    with pytest.raises(dl.LoadError, match="belongs to another event loop"):
        await loading
    await engine.dispose()


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_loads_into_a_url_reuse_one_pool(
    request: pytest.FixtureRequest, database: AsyncEngine, kind: str
) -> None:
    url = database.url.render_as_string(hide_password=False)
    for _ in range(3):
        await dl.load_dataframe(FRAME, "t", engine=url)
    await dl.load_dataframe(FRAME, "t", engine=sa.make_url(url))
    assert resolve(url) is resolve(sa.make_url(url))
    assert resolve(url).sync_engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    assert await fetch(database, "SELECT count(*) FROM t") == [(8,)]


async def test_urls_that_differ_in_the_password_only_have_engines_of_their_own() -> None:
    one, two = (resolve(f"postgresql://ada:{secret}@h/d") for secret in ("a", "b"))
    assert one is not two


async def test_an_unreachable_port_is_named() -> None:
    port = free_port()
    with pytest.raises(dl.ConnectionLost, match=rf"cannot reach PostgreSQL 127\.0\.0\.1:{port}/shop.*host and port"):
        await dl.load_dataframe(FRAME, "t", engine=f"postgresql://ada:{SECRET}@127.0.0.1:{port}/shop")


async def test_an_unknown_host_is_named() -> None:
    with pytest.raises(dl.ConnectionLost, match=r"the host name nowhere.invalid is unknown"):
        await dl.load_dataframe(FRAME, "t", engine=f"postgresql://ada:{SECRET}@nowhere.invalid/shop")


async def test_a_missing_socket_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(dl.ConnectionLost, match="cannot reach PostgreSQL"):
        await dl.load_dataframe(FRAME, "t", engine=f"postgresql://ada@/shop?host={tmp_path}")


@pytest.mark.usefixtures("no_threads_left")
async def test_a_missing_folder_of_a_sqlite_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(dl.LoadError, match=r"cannot open SQLite .*/no/such\.db: the folder .*/no does not exist"):
        await dl.load_dataframe(FRAME, "t", engine=f"sqlite:///{tmp_path}/no/such.db")


async def test_a_file_that_is_no_sqlite_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("just some notes, and long enough to be looked at" * 50)
    with pytest.raises(dl.LoadError, match=r"not a SQLite database.*Correct the path"):
        await dl.load_dataframe(FRAME, "t", engine=f"sqlite:///{tmp_path}/notes.db")


async def test_the_right_password_opens_the_door(guarded_port: int) -> None:
    for url in (
        f"postgresql://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres",
        f"postgresql://ada@127.0.0.1:{guarded_port}/postgres?password={SECRET}-right",
        f"postgresql+psycopg://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres",
    ):
        assert await fetch(resolve(url), "SELECT current_user") == [("ada",)]


DRIVERS = ["asyncpg", "psycopg"]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_wrong_password_is_a_clear_error(guarded_port: int, driver: str) -> None:
    url = f"postgresql+{driver}://ada:{SECRET}@127.0.0.1:{guarded_port}/postgres"
    with pytest.raises(dl.ConnectionLost, match=r'cannot log in .*password authentication failed for user "ada"'):
        await dl.load_dataframe(FRAME, "t", engine=url)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_wrong_database_is_a_clear_error(guarded_port: int, driver: str) -> None:
    url = f"postgresql+{driver}://ada:{SECRET}-right@127.0.0.1:{guarded_port}/shop"
    with pytest.raises(dl.ConnectionLost, match=r'database "shop" does not exist.*create the database'):
        await dl.load_dataframe(FRAME, "t", engine=url)


async def test_an_unknown_user_is_a_clear_error(guarded_port: int) -> None:
    url = f"postgresql://eve:{SECRET}@127.0.0.1:{guarded_port}/postgres"
    with pytest.raises(dl.ConnectionLost, match="cannot log in"):
        await dl.load_dataframe(FRAME, "t", engine=url)


SECRET_URLS = {
    "in the user part": "postgresql://ada:S3CRET@127.0.0.1:{port}/shop",
    "as an option": "postgresql://ada@127.0.0.1:{port}/shop?password=S3CRET",
    "of the key": "postgresql://ada@127.0.0.1:{port}/shop?sslpassword=S3CRET",
    "through psycopg": "postgresql+psycopg://ada:S3CRET@127.0.0.1:{port}/shop",
    "as psycopg's option": "postgresql+psycopg://ada@127.0.0.1:{port}/shop?password=S3CRET",
}


@pytest.mark.parametrize("url", SECRET_URLS.values(), ids=SECRET_URLS)
def test_a_password_is_not_in_what_an_engine_shows(url: str) -> None:
    engine = dl.connect(url.format(port=5432))
    shown = [
        repr(engine),
        str(engine),
        repr(engine.url),
        str(engine.url),
        repr(engine.sync_engine),
        repr(Default.address),
    ]
    assert SECRET not in " ".join(shown)


def verbose(error: BaseException) -> str:
    """The error as it may be shown: by the interpreter, by a traceback with local variables, by IPython."""
    from IPython.core.ultratb import VerboseTB

    parts = [str(error), repr(error), *traceback.format_exception(error)]
    parts += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    parts.append(VerboseTB(include_vars=True).text(type(error), error, error.__traceback__))
    return "\n".join(map(str, parts))


async def caught(url: Any) -> BaseException:
    """The error of a load, without a frame of ours that holds the URL."""
    loading = dl.load_dataframe(FRAME, "t", engine=url)
    del url
    return (await asyncio.gather(loading, return_exceptions=True))[0]  # type: ignore[return-value]


@pytest.mark.parametrize("url", SECRET_URLS.values(), ids=SECRET_URLS)
@pytest.mark.parametrize("problem", ["unreachable", "refused login"])
async def test_a_password_is_in_no_traceback_of_a_failed_load(guarded_port: int, url: str, problem: str) -> None:
    error = await caught(url.format(port=guarded_port if problem == "refused login" else free_port()))
    assert isinstance(error, (dl.ConnectionLost, dl.PlanError)), repr(error)
    assert SECRET not in verbose(error)


@pytest.mark.parametrize("url", SECRET_URLS.values(), ids=SECRET_URLS)
async def test_a_password_is_in_no_traceback_of_a_load_into_a_url_object(guarded_port: int, url: str) -> None:
    error = await caught(sa.make_url(url.format(port=guarded_port)))
    assert isinstance(error, (dl.ConnectionLost, dl.PlanError)), repr(error)
    assert SECRET not in verbose(error)


@pytest.mark.parametrize("url", SECRET_URLS.values(), ids=SECRET_URLS)
async def test_a_password_is_in_no_traceback_of_the_default_engine(guarded_port: int, url: str) -> None:
    dl.connect(url.format(port=guarded_port))
    error = await caught(None)
    assert isinstance(error, (dl.ConnectionLost, dl.PlanError)), repr(error)
    assert SECRET not in verbose(error)


BAD_URLS = {
    "no number for a port": "postgresql://ada:S3CRET@host:port/shop",
    "no scheme": "ada:S3CRET@host/shop",
    "an unknown database": "nosuch://ada:S3CRET@host/shop",
    "a sync driver": "postgresql+psycopg2://ada:S3CRET@host/shop",
    "an unknown driver": "postgresql+nosuch://ada:S3CRET@host/shop",
    "an option": "postgresql+psycopg2://ada@host/shop?password=S3CRET",
}


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS)
async def test_a_password_is_in_no_traceback_of_a_url_that_cannot_be_used(url: str) -> None:
    given.append(url)
    for error in (_error_of_connect(), await caught(url)):
        assert isinstance(error, dl.PlanError)
        assert SECRET not in verbose(error)


given: list[str] = []


def _error_of_connect() -> BaseException | None:
    try:
        dl.connect(given.pop())
    except dl.PlanError as error:
        return error
    return None


async def test_a_password_is_not_in_a_plan_or_report(guarded_port: int) -> None:
    url = f"postgresql://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres"
    plan = await dl.plan_load(FRAME, "pg_temp.t", engine=url)
    assert SECRET not in f"{plan}{plan!r}{plan._repr_html_()}"


async def test_sqlite_is_opened_with_safe_settings(tmp_path: Path) -> None:
    engine = resolve(f"sqlite:///{tmp_path / 'safe.db'}")
    await dl.load_dataframe(FRAME, "t", engine=engine)
    assert await fetch(engine, "PRAGMA journal_mode") == [("wal",)]
    assert await fetch(engine, "PRAGMA synchronous") == [(2,)]


READINGS: dict[str, Any] = {
    "a plan": lambda url: dl.plan_load(FRAME, "t", engine=url),
    "a validation": lambda url: dl.validate(FRAME, "t", engine=url),
    "the history": dl.load_history,
}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
@pytest.mark.parametrize("kind", ["no file", "no such table", "a table"])
async def test_questions_neither_make_nor_change_a_sqlite_file(tmp_path: Path, kind: str, reading: Any) -> None:
    if kind != "no file":
        with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as other:
            other.execute("CREATE TABLE t (id integer)" if kind == "a table" else "CREATE TABLE u (id integer)")
    before = files_in(tmp_path)
    engine = dl.connect(f"sqlite:///{tmp_path}/shop.db")
    await reading(engine)
    assert files_in(tmp_path) == before
    await engine.dispose()
    assert files_in(tmp_path) == before


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
async def test_a_question_to_a_file_in_a_missing_folder_is_an_error(tmp_path: Path, reading: Any) -> None:
    with pytest.raises(dl.DataLoaderError, match=r"cannot open SQLite .*does not exist.*Create it"):
        await reading(f"sqlite:///{tmp_path}/no/such.db")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program in the middle of a query."""
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as other:
        other.executescript("CREATE TABLE t (id integer); INSERT INTO t VALUES (7), (8)")
        other.execute("BEGIN")
        assert other.execute("SELECT * FROM t").fetchone() == (7,)
        yield other


@pytest.mark.parametrize("question", READINGS.values(), ids=READINGS)
async def test_no_question_waits_for_another_programs_query(
    reader: sqlite3.Connection, tmp_path: Path, question: Any
) -> None:
    engine = dl.connect(f"sqlite:///{tmp_path}/shop.db")
    async with asyncio.timeout(20):
        await question(engine)
    await engine.dispose()
    assert reader.in_transaction  # and it was open all the time


async def test_a_load_waits_so_long_for_another_programs_query_and_says_what_it_waited_for(
    reader: sqlite3.Connection, tmp_path: Path
) -> None:
    engine = dl.connect(f"sqlite:///{tmp_path}/shop.db", connect_args={"timeout": 0.1})
    async with asyncio.timeout(20):
        with pytest.raises(dl.LoadError, match=r"database is locked.*Another program has the file open"):
            await dl.load_dataframe(FRAME, "t", engine=engine)
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (2,)
    reader.rollback()
    assert (await dl.load_dataframe(FRAME, "t", engine=engine)).loaded == len(FRAME)
    await engine.dispose()


async def test_postgresql_is_opened_with_safe_settings(postgres: AsyncEngine) -> None:
    assert await fetch(postgres, "SHOW application_name") == [("dataloader",)]


async def test_postgresql_is_asked_to_notice_a_client_that_is_gone(guarded_port: int) -> None:
    """In the session, not in the first message: a pooler refuses settings there that it does not know."""
    url = f"postgresql://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres"
    names = ("idle", "interval", "count")
    asking = f"SELECT {', '.join(f'current_setting($$tcp_keepalives_{name}$$)' for name in names)}"
    assert await fetch(resolve(url), asking) == [("30", "10", "3")]
    mine = {"server_settings": {"tcp_keepalives_idle": "20"}}
    assert await fetch(dl.connect(url, connect_args=mine), asking) == [("20", "10", "3")]
    await Default.address.engine.dispose()  # type: ignore[union-attr]


async def test_the_users_engine_options_override_ours(postgres_url: sa.URL) -> None:
    settings = {"server_settings": {"application_name": "mine"}}
    engine = dl.connect(postgres_url, pool_size=1, connect_args=settings)
    assert await fetch(engine, "SHOW application_name") == [("mine",)]
    assert engine.sync_engine.pool.size() == 1  # type: ignore[attr-defined]
    await engine.dispose()


def test_a_password_that_is_masked_is_refused() -> None:
    url = sa.make_url(f"postgresql://ada:{SECRET}@localhost/shop")
    with pytest.raises(dl.PlanError, match=r"the password in the database URL is \*\*\*.*engine\.url itself"):
        dl.connect(str(url))
    assert dl.connect(url).url.password == SECRET


async def test_a_schema_that_sqlite_has_not_is_explained(tmp_path: Path) -> None:
    with pytest.raises(dl.DataLoaderError, match=r"unknown database.*SQLite has the schemas main and temp"):
        await dl.load_dataframe(FRAME, "sales.t", engine=f"sqlite:///{tmp_path / 'shop.db'}")


SHOWN = {
    "postgresql://ada:S3CRET@db.example.com/shop": "<AsyncEngine: PostgreSQL db.example.com:5432/shop as ada>",
    "postgresql://ada:S3CRET@/shop?host=/run/postgresql": "<AsyncEngine: PostgreSQL local:5432/shop as ada>",
    "postgresql+psycopg://ada:S3CRET@h:1/shop": "<AsyncEngine: PostgreSQL h:1/shop as ada>",
    "sqlite:///shop.db": "<AsyncEngine: SQLite shop.db>",
}


@pytest.mark.parametrize(("url", "shown"), SHOWN.items())
def test_an_engine_says_what_it_connects_to_and_as_whom(url: str, shown: str) -> None:
    engine = dl.connect(url)
    assert repr(engine) == str(engine) == shown


def test_an_engine_without_a_user_in_its_url_names_the_one_who_will_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGUSER", raising=False)
    monkeypatch.setenv("LOGNAME", "grace")
    assert repr(dl.connect("postgresql://h/shop")) == "<AsyncEngine: PostgreSQL h:5432/shop as grace>"
    monkeypatch.setenv("PGUSER", "ada")
    assert repr(dl.connect("postgresql://h/shop")) == "<AsyncEngine: PostgreSQL h:5432/shop as ada>"


async def test_an_engine_that_says_where_it_connects_is_sqlalchemys_in_all_else() -> None:
    engine = dl.connect("sqlite://")
    assert isinstance(engine, AsyncEngine)
    async with engine.connect() as connection:
        assert connection.engine is engine
    assert hash(engine) == id(engine)
    twin = AsyncEngine(engine.sync_engine)
    assert engine == twin
    assert twin == engine
    assert not engine != twin
    assert engine != dl.connect("sqlite://")
    assert not repr(create_async_engine("sqlite+aiosqlite://")).startswith("<AsyncEngine: ")
    await engine.dispose()
