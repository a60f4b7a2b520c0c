"""`wire` shows exactly what goes over the wire, by each way of writing rows, and nothing secret."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import capabilities
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import dataloader as dl
from dataloader.wiretap import Wire
from dataloader.wiretap.counts import Step
from dataloader.wiretap.link import HIGH_WATER
from tests.conftest import execute, fetch
from tests.database.conftest import PLANTED, SECRET, free_port
from tests.database.test_servers import PASSWORD, Guarded, guarded  # noqa: F401 - a fixture
from tests.unit.test_wire import everything

ROWS = [{"customer": number, "status": "paid"} for number in range(1000)]
FRAME = pd.DataFrame(ROWS)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[int]
    status: Mapped[str] = mapped_column(sa.String(32))


ORDERS = Order.__table__
LIBPQ_17 = pytest.mark.skipif(not capabilities.has_cancel_safe(), reason="psycopg's libpq is older than 17")
DRIVERS = pytest.mark.parametrize("driver", ["asyncpg", pytest.param("psycopg", marks=LIBPQ_17)])


@pytest.fixture
async def plain(postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine as the guide makes it, and the table."""
    engine = create_async_engine(postgres.url)
    await make_tables(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
async def psycopg_engine(postgres: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres.url.set(drivername="postgresql+psycopg"))
    await make_tables(engine)
    yield engine
    await engine.dispose()


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def one_by_one(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for row in ROWS:
            await connection.execute(sa.insert(ORDERS).inline(), row)


async def executemany(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(ORDERS), ROWS)


async def in_chunks(engine: AsyncEngine) -> None:
    """As the guide's first example, by 200 rows."""
    async with engine.begin() as connection:
        for at in range(0, len(ROWS), 200):
            await connection.execute(sa.insert(ORDERS), ROWS[at : at + 200])


async def insertmanyvalues(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(ORDERS).returning(ORDERS.c.id), [*ROWS, *ROWS, *ROWS[:500]])


async def add_all(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Order(**row) for row in ROWS])
        await session.commit()


async def copy_records(engine: AsyncEngine) -> None:
    records = [(number, *row.values()) for number, row in enumerate(ROWS)]
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.copy_records_to_table("orders", records=records, columns=["id", "customer", "status"])


async def our_load(engine: AsyncEngine) -> None:
    await dl.load_dataframe(FRAME, "orders", engine=engine)


async def our_chunks(engine: AsyncEngine) -> None:
    await dl.load_dataframe(FRAME, "orders", engine=engine, chunk_rows=100, workers=2, load_id="wired", commit="chunk")


async def our_read(engine: AsyncEngine) -> None:
    found = await dl.read_dataframe("SELECT g FROM generate_series(1, 5000) AS g", engine=engine)
    assert len(found) == 5000


@dataclass(frozen=True)
class Expected:
    """Of one statement: what the client sends, what comes back, and how often the client waits."""

    way: Callable[[AsyncEngine], Awaitable[None]]
    statement: str
    sent: Mapping[str, int]
    rows: int
    round_trips: int

    def check(self, wired: Wire) -> None:
        (step,) = (one for one in wired.steps if one.statement.startswith(self.statement))
        assert {kind: one.count for kind, one in step.sent.items()} == self.sent
        assert (step.rows, step.round_trips) == (self.rows, self.round_trips)
        assert 0 < step.seconds < 60


INSERT = "INSERT INTO orders (customer, status) VALUES (…)"
PREPARED = {"Parse": 1, "Describe": 1, "Flush": 1}
"""What asyncpg prepares a statement with: a round trip of its own, once for a connection."""
ASYNCPG = {
    "one by one": Expected(
        one_by_one, INSERT, {**PREPARED, "Bind": 1000, "Execute": 1000, "Sync": 1000}, rows=0, round_trips=1001
    ),
    "executemany": Expected(
        executemany, INSERT, {**PREPARED, "Bind": 1000, "Execute": 1000, "Sync": 1}, rows=0, round_trips=2
    ),
    "executemany in chunks": Expected(
        in_chunks, INSERT, {**PREPARED, "Bind": 1000, "Execute": 1000, "Sync": 5}, rows=0, round_trips=6
    ),
    "insertmanyvalues": Expected(  # pages of 1,000, 1,000 and 500 rows: two statements of the same words
        insertmanyvalues,
        "INSERT INTO orders (customer, status) VALUES (…), … RETURNING orders.id",
        {"Parse": 2, "Describe": 2, "Flush": 2, "Bind": 3, "Execute": 3, "Sync": 3},
        rows=2500,
        round_trips=5,
    ),
    "add_all": Expected(
        add_all,
        "INSERT INTO orders (customer, status) SELECT",
        {**PREPARED, "Bind": 1, "Execute": 1, "Sync": 1},
        rows=1000,
        round_trips=2,
    ),
    "copy_records_to_table": Expected(
        copy_records,
        'COPY "orders"("id", "customer", "status") FROM STDIN',
        {"Query": 1, "CopyData": 1, "CopyDone": 1},
        rows=0,
        round_trips=1,
    ),
    "our load": Expected(
        our_load,
        'COPY "public"."orders"("customer", "status") FROM STDIN',
        {"Query": 1, "CopyData": 2, "CopyDone": 1},
        rows=0,
        round_trips=1,
    ),
    "our load by chunks": Expected(
        our_chunks,
        'COPY "public"."orders"("customer", "status") FROM STDIN',
        {"Query": 10, "CopyData": 20, "CopyDone": 10},
        rows=0,
        round_trips=10,
    ),
    "our read": Expected(our_read, "COPY (SELECT q.c0", {"Query": 1}, rows=5001, round_trips=1),  # and their end
}


@pytest.mark.parametrize("expected", ASYNCPG.values(), ids=ASYNCPG)
async def test_asyncpg_sends_exactly_this(plain: AsyncEngine, expected: Expected) -> None:
    async with dl.wire(plain) as wired:
        await expected.way(wired.engine)
    expected.check(wired)


async def test_an_engine_of_connect_prepares_each_statement_anew(postgres: AsyncEngine) -> None:
    """No statement has a name, so that a pooler may give each transaction another session."""
    await make_tables(postgres)
    async with dl.wire(postgres) as wired:
        await executemany(wired.engine)
    sent = {"Parse": 2, "Describe": 1, "Flush": 1, "Bind": 1000, "Execute": 1000, "Sync": 1}
    Expected(executemany, INSERT, sent, rows=0, round_trips=2).check(wired)


@LIBPQ_17
async def test_psycopg_sends_many_rows_in_one_round_trip_and_describes_each(psycopg_engine: AsyncEngine) -> None:
    async with dl.wire(psycopg_engine) as wired:
        await executemany(wired.engine)
    (step,) = (one for one in wired.steps if one.statement == INSERT)
    assert {kind: step.count(kind) for kind in ("Bind", "Describe", "Execute")} == {
        "Bind": 1000,
        "Describe": 1000,
        "Execute": 1000,
    }
    assert step.count("Parse") == 1
    assert step.count("Sync") == 1
    assert 1 <= step.round_trips <= 3  # what is answered while it still sends depends on the moment


async def test_a_transaction_of_executemany_is_five_round_trips_however_many_rows(plain: AsyncEngine) -> None:
    """Logging in, BEGIN, to prepare, all rows, COMMIT; SQLAlchemy 2.0 also looks two types up for each connection."""
    async with dl.wire(plain) as wired:
        await executemany(wired.engine)
    assert wired.round_trips in {5, 11}
    assert [one.round_trips for one in wired.steps if "pg_type" not in one.statement] == [1, 1, 2, 1]
    assert wired.messages["bytes"].sum() > 1000 * 40
    assert list(wired.messages.columns) == ["statement", "sender", "message", "count", "bytes"]


async def test_the_bytes_are_those_that_the_server_got(plain: AsyncEngine) -> None:
    """A COPY's rows come to a known size: its header and trailer, and for each row its fields."""
    async with dl.wire(plain) as wired:
        await copy_records(wired.engine)
    (step,) = (one for one in wired.steps if one.statement.startswith("COPY"))
    row = 2 + (4 + 4) + (4 + 4) + (4 + len("paid"))
    assert step.sent["CopyData"].nbytes == 5 + 19 + 1000 * row + 2


async def test_a_load_by_several_workers_is_whole_and_opens_as_many_connections(plain: AsyncEngine) -> None:
    async with dl.wire(plain) as wired:
        await our_chunks(wired.engine)
    assert (await fetch(plain, "SELECT count(*), count(DISTINCT customer) FROM orders")) == [(1000, 1000)]
    assert wired.steps[0].count("Startup") == 2
    assert wired.steps[0].count("Terminate") == 2


OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
RUNNING = f"{OTHERS} AND query LIKE '%asleep%' AND state = 'active'"
SLEEPING = f"{RUNNING} AND wait_event = 'PgSleep'"
"""A cancel that comes before is not heard: parsed, the statement waits for its parameters, and is active already."""


async def until(engine: AsyncEngine, query: str) -> None:
    while (await fetch(engine, query)) != [(True,)]:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)


@DRIVERS
async def test_a_cancel_goes_through(postgres: AsyncEngine, driver: str) -> None:
    engine = create_async_engine(postgres.url.set(drivername=f"postgresql+{driver}"))
    async with dl.wire(engine) as wired:

        async def sleep() -> None:
            async with wired.engine.connect() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(600), 'asleep'"))

        sleeping = asyncio.create_task(sleep())
        await until(postgres, f"SELECT count(*) = 1 {SLEEPING}")
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        await until(postgres, f"SELECT count(*) = 0 {RUNNING}")
    assert wired.steps[0].count("CancelRequest") == 1
    await engine.dispose()


async def test_the_engine_that_was_given_goes_the_way_that_it_went(plain: AsyncEngine) -> None:
    own = "SELECT inet_client_port() IS NULL"  # of a Unix socket
    async with dl.wire(plain) as wired:
        await fetch(plain, own)
        seen = wired.steps
        await fetch(wired.engine, own)
    assert seen == ()
    assert wired.steps[0].count("Startup") == 1
    await fetch(plain, own)
    before = wired.steps
    await plain.dispose()
    await fetch(plain, own)
    assert wired.steps == before


async def test_without_async_the_block_ends_as_well(plain: AsyncEngine) -> None:
    threads = threading.active_count()
    with dl.wire(plain) as wired:
        ((pid,),) = await fetch(wired.engine, "SELECT pg_backend_pid()")
        async with wired.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
        with pytest.raises(dl.DataLoaderError, match="has been used"):
            wired.__enter__()
    assert threading.active_count() == threads
    assert driver.is_closed()
    assert "connect" not in vars(plain.dialect)
    await until(plain, f"SELECT count(*) = 0 {OTHERS} AND pid = {pid}")
    with pytest.raises(dl.PlanError, match=r"the block of dl.wire\(\) to which this engine belongs has ended"):
        await fetch(wired.engine, "SELECT 1")
    assert wired.steps[0].count("Startup") == 1


@LIBPQ_17
async def test_a_synchronous_engine_is_shown_too(postgres: AsyncEngine) -> None:
    await make_tables(postgres)
    engine = sa.create_engine(postgres.url.set(drivername="postgresql+psycopg"))
    with dl.wire(engine) as wired, wired.engine.begin() as connection:
        connection.execute(sa.insert(ORDERS), ROWS)
    engine.dispose()
    assert next(one for one in wired.steps if one.statement == INSERT).count("Bind") == 1000


@LIBPQ_17
def test_a_synchronous_engine_is_shown_where_there_is_no_loop(postgres_url: sa.URL) -> None:
    engine = sa.create_engine(postgres_url.set(drivername="postgresql+psycopg"))
    with dl.wire(engine) as shown, shown.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 42 AS answer")).scalar_one() == 42
    engine.dispose()
    assert "SELECT … AS answer" in [one.statement for one in shown.steps]


async def test_one_engine_is_shown_twice_and_goes_its_own_way_meanwhile(postgres: AsyncEngine) -> None:
    with dl.wire(postgres) as one, dl.wire(postgres) as other:
        for name, engine in {"first": one.engine, "second": other.engine, "own": postgres}.items():
            assert await fetch(engine, f"SELECT 1 AS {name}") == [(1,)]
    for name, shown in {"first": one, "second": other}.items():
        asked = [one.statement for one in shown.steps if one.statement.startswith("SELECT …")]  # and no driver's own
        assert asked == [f"SELECT … AS {name}"]


async def test_another_loop_may_use_the_engine(postgres: AsyncEngine) -> None:
    with dl.wire(postgres) as wired:
        await dl.read_dataframe("SELECT 1", engine=wired.engine)
        report = await asyncio.to_thread(lambda: dl.run(dl.load_dataframe(FRAME, "t", engine=wired.engine)))
    assert report.loaded == 1000
    assert wired.steps[0].count("Startup") == 2


async def test_a_url_and_the_default_are_engines(postgres_url: sa.URL) -> None:
    async with dl.wire(postgres_url) as wired:
        await fetch(wired.engine, "SELECT 1 AS by_url")
    dl.connect(postgres_url)
    async with dl.wire() as by_default:
        await fetch(by_default.engine, "SELECT 2 AS by_default")
    assert "AS by_url" in str(wired)
    assert "AS by_default" in str(by_default)


async def test_sqlite_is_refused_in_words(sqlite: AsyncEngine) -> None:
    with pytest.raises(dl.PlanError, match="SQLite is no server: it runs inside this process"):
        dl.wire(sqlite)
    with pytest.raises(dl.PlanError, match=r"it runs inside this process.*Pass an engine of PostgreSQL"):
        dl.wire("sqlite:///:memory:")


async def test_a_psycopg_that_would_never_end_a_cancel_is_refused(
    postgres_url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PQcancel() of libpq 16 waits for the proxy and keeps its thread from running meanwhile."""
    monkeypatch.setattr(capabilities, "has_cancel_safe", lambda: False)
    engine = sa.create_engine(postgres_url.set(drivername="postgresql+psycopg"))
    with dl.wire(engine) as wired, pytest.raises(dl.PlanError, match=r"its libpq is older than 17. Update it"):
        wired.engine.connect()


async def test_an_engine_that_connects_by_a_function_is_refused(postgres: AsyncEngine) -> None:
    def connect() -> Any:
        return psycopg.connect(host=postgres.url.query["host"], user="postgres", dbname=postgres.url.database)

    engine = sa.create_engine("postgresql+psycopg://", creator=connect)
    with dl.wire(engine) as wired, pytest.raises(dl.PlanError, match="the engine has creator="):
        wired.engine.connect()
    engine.dispose()


async def test_so_is_one_that_connects_by_an_async_function(postgres: AsyncEngine) -> None:
    async def connect() -> Any:
        return await asyncpg.connect(host=postgres.url.query["host"], user="postgres", database=postgres.url.database)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
    async with dl.wire(engine) as wired:
        with pytest.raises(dl.PlanError, match="the engine has creator="):
            await fetch(wired.engine, "SELECT 1")


# What is secret


async def test_no_value_and_no_password_is_kept(guarded_port: int) -> None:
    engine = create_async_engine(f"postgresql+asyncpg://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres")
    async with dl.wire(engine) as wired:
        assert await fetch(wired.engine, f"SELECT '{SECRET}' AS a, :b", b=SECRET) == [(SECRET, SECRET)]
        assert SECRET not in everything([wired._counts, wired._proxy], depth=12)
    shown = [str(wired), repr(wired), wired._repr_html_(), wired.messages.to_csv(), repr(wired.steps)]
    assert [text for text in shown if SECRET in text or "SCRAM" in text] == []
    assert wired.steps[0].count("Password") == 2
    assert "SELECT … AS a, …" in str(wired)
    await engine.dispose()


def port_of(wired: Wire) -> int:
    assert wired._proxy is not None
    (port,) = wired._proxy._ports.values()
    return port


async def test_another_program_is_not_let_through(postgres: AsyncEngine) -> None:
    """The server trusts whoever reaches its socket; the port of the proxy is open to all users of the machine."""
    async with dl.wire(postgres) as wired:
        await fetch(wired.engine, "SELECT 1")
        before = wired.steps
        name = postgres.url.database
        for database in (name, f"{'0' * 32}/{name}"):
            with pytest.raises(psycopg.OperationalError, match="belongs to dl"):
                await asyncio.to_thread(
                    psycopg.connect, host="127.0.0.1", port=port_of(wired), user="postgres", dbname=database
                )
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08\0\x03\0\0", b"\0\0\0\x09\0\x03\0\0\0", b"\0"):
            with socket.create_connection(("127.0.0.1", port_of(wired)), timeout=10) as raw:
                raw.sendall(nonsense)
                raw.shutdown(socket.SHUT_WR)
                assert b"S\0" not in await asyncio.to_thread(raw.recv, 1000)
        assert wired.steps == before


# TLS, several servers, servers that are not there


QUERIES = {
    "asyncpg, verified": ("asyncpg", "ssl=verify-full"),
    "asyncpg, as it is": ("asyncpg", ""),
    "psycopg, required": ("psycopg", "sslmode=require"),
    "psycopg, as it is": ("psycopg", ""),
    "psycopg, bound": ("psycopg", "sslmode=verify-full&sslrootcert={folder}/ca.crt&channel_binding=require"),
}


@pytest.mark.any_version
@pytest.mark.parametrize(
    ("driver", "query"),
    [pytest.param(*one, marks=[LIBPQ_17] * (one[0] == "psycopg"), id=name) for name, one in QUERIES.items()],
)
async def test_the_server_is_reached_over_tls(
    guarded: Guarded,  # noqa: F811
    driver: str,
    query: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(guarded.folder / "ca.crt"))
    engine = create_async_engine(guarded.url(query).replace("postgresql:", f"postgresql+{driver}:"))
    async with dl.wire(engine) as wired:
        assert await fetch(wired.engine, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
        report = await dl.load_dataframe(FRAME, "t", engine=wired.engine, if_exists="replace")
    assert report.loaded == 1000
    asked = [step for step in wired.steps if "pg_stat_ssl" in step.statement]
    assert [step.count("Bind") + step.count("Query") for step in asked] == [1]
    assert PASSWORD not in str(wired)
    await engine.dispose()


@pytest.mark.any_version
async def test_a_connection_of_connect_is_the_same_over_tls(guarded: Guarded) -> None:  # noqa: F811
    engine = dl.connect(guarded.url("sslmode=verify-full&sslrootcert={folder}/ca.crt"))
    async with dl.wire(engine) as wired:
        assert await fetch(wired.engine, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
    await engine.dispose()


@pytest.mark.any_version
@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_a_server_that_is_not_trusted_gets_no_password(guarded: Guarded, mode: str) -> None:  # noqa: F811
    engine = dl.connect(guarded.url(f"sslmode={mode}&sslrootcert={{folder}}/other.crt"))
    async with dl.wire(engine) as wired:
        with pytest.raises(dl.LoadError, match="CERTIFICATE_VERIFY_FAILED"):
            await dl.load_dataframe(FRAME, "t", engine=wired.engine)
    assert [*wired.steps[0].sent] == ["Startup"]
    await engine.dispose()


@pytest.mark.any_version
async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(guarded_port: int) -> None:
    engine = dl.connect(f"postgresql://ada:{SECRET}-right@127.0.0.1:{guarded_port}/postgres?sslmode=require")
    async with dl.wire(engine) as wired:
        with pytest.raises(dl.LoadError, match="the server does not encrypt"):
            await dl.load_dataframe(FRAME, "t", engine=wired.engine)
    assert [*wired.steps[0].sent] == ["Startup"]
    await engine.dispose()


@pytest.mark.any_version
@DRIVERS
async def test_several_servers_are_tried_until_one_answers(guarded_port: int, driver: str) -> None:
    where = f"host=127.0.0.1:{free_port()}&host=127.0.0.1:{guarded_port}"
    engine = create_async_engine(f"postgresql+{driver}://ada:{SECRET}-right@/postgres?{where}")
    async with dl.wire(engine) as wired:
        assert await fetch(wired.engine, "SELECT inet_server_port()") == [(guarded_port,)]
    await engine.dispose()


@pytest.mark.any_version
async def test_a_password_is_found_in_the_file_of_the_server_that_is_meant(
    guarded_port: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pgpass"
    planted = PLANTED.replace(":", "\\:")  # as libpq reads it; asyncpg does not
    file.write_text(f"127.0.0.1:{guarded_port}:*:ada:{SECRET}-right\n127.0.0.1:{guarded_port}:*:kim:{planted}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    for driver, user in {"asyncpg": "ada", **({"psycopg": "kim"} if capabilities.has_cancel_safe() else {})}.items():
        engine = create_async_engine(f"postgresql+{driver}://{user}@127.0.0.1:{guarded_port}/postgres")
        async with dl.wire(engine) as wired:
            assert await fetch(wired.engine, "SELECT current_user") == [(user,)]
        await engine.dispose()


async def test_a_server_that_is_not_there_is_told_in_words() -> None:
    engine = dl.connect(f"postgresql://kim@127.0.0.1:{free_port()}/shop")
    async with dl.wire(engine) as wired:
        with pytest.raises(dl.LoadError, match="Connect call failed") as refused:
            await dl.load_dataframe(FRAME, "t", engine=wired.engine)
    assert "dl.wire() could not connect to 127.0.0.1" in str(refused.value)
    await engine.dispose()


# Large amounts


async def test_rows_that_the_server_does_not_take_wait_at_the_client(postgres: AsyncEngine) -> None:
    """The proxy holds no more of them than two pieces, however many there are."""
    await execute(postgres, "CREATE TABLE t (v text)")
    most = 0
    async with dl.wire(postgres) as wired:
        async with postgres.connect() as other:
            await other.execute(sa.text("LOCK TABLE t"))
            loading = asyncio.create_task(copy_text(wired.engine, pieces=40))
            for _ in range(40):
                await asyncio.sleep(0.02)
                most = max(most, waiting(wired))
            assert not loading.done()
            await other.rollback()
        await loading
    assert 0 < most <= 2 * HIGH_WATER
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(40_000,)]


async def copy_text(engine: AsyncEngine, pieces: int) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield (b"x" * 999 + b"\n") * 1000

    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.copy_to_table("t", source=source())


def waiting(wired: Wire) -> int:
    assert wired._proxy is not None
    transports = [side._transport for link in wired._proxy._links for side in (link.client, link._server)]
    return sum(one.get_write_buffer_size() for one in transports if one is not None)


async def test_forty_megabytes_come_through_in_both_directions_as_they_are(postgres: AsyncEngine) -> None:
    data = pd.DataFrame({"id": range(40_000), "v": [f"{number:x}" * 200 for number in range(40_000)]})
    async with dl.wire(postgres) as wired:
        await dl.load_dataframe(data, "t", engine=wired.engine)
        found = await dl.read_dataframe("SELECT * FROM t ORDER BY id", engine=wired.engine)
    assert found["v"].tolist() == data["v"].tolist()
    step: Step = next(one for one in wired.steps if one.statement.startswith("COPY (SELECT"))
    assert step.received["CopyData"].count == 40_001  # and their end
    assert step.received["CopyData"].nbytes > data["v"].str.len().sum()


async def test_the_loop_is_not_blocked_when_the_block_begins_and_ends(plain: AsyncEngine) -> None:
    late = 0.0

    async def tick() -> None:
        nonlocal late
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            late = max(late, loop.time() - before)

    ticking = asyncio.create_task(tick())
    for _ in range(5):
        with dl.wire(plain) as wired:
            await fetch(wired.engine, "SELECT 1")
        await asyncio.sleep(0.02)
    ticking.cancel()
    assert late < 1.0


# The page

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"


def test_the_table_of_the_page_is_what_the_tests_pin() -> None:
    lines = re.findall(r"^\| (.+?) \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    told = {
        name: [int(cell.replace(",", "") or 0) for cell in re.sub(" ", "", cells).split("|")]
        for name, cells in lines
        if re.fullmatch(r"[\d, |]+", cells)
    }
    kinds = ("Parse", "Bind", "Execute", "Sync", "CopyData")
    ways = [
        expected for name, expected in ASYNCPG.items() if not name.startswith(("insertmany", "our load by", "our read"))
    ]
    pinned = [[*(expected.sent.get(kind, 0) for kind in kinds), expected.round_trips] for expected in ways]
    told.pop("`insert(t).returning(t.c.id)`")  # of 1,000 rows, one page
    assert [*told.values()] == pinned
