"""What the guide says, and what a real server does: `docs/guide_map.md` has an entry for each of these tests.

The line of an entry with which this package does the same is run by one of its tests, as it is written on the page.
"""

from __future__ import annotations

import asyncio
import collections
import csv
import re
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.ext.asyncio.exc import AsyncMethodRequired
from sqlalchemy.orm import DeclarativeBase

import dataloader as dl
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch
from tests.faults.proxy import Message, Proxy
from tests.guide import entries
from tests.pages import run_call

Rows = list[dict[str, Any]]
Ours = Callable[..., Awaitable[Any]]
DAY = "2026-05-01"
FRAME = {"customer_id": [1], "amount": [Decimal("1.5")], "status": ["new"]}


class Base(DeclarativeBase):
    pass


class Order(Base):
    """The guide's table."""

    __table__ = sa.Table(
        "orders",
        Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer, nullable=False),
        sa.Column("amount", sa.Numeric(12, 4), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
    )


orders = Base.metadata.tables["orders"]
insert = sa.insert(orders)
LINES = {test: entry.lines[0] for entry in entries() for test in entry.tests}


def make(count: int, first: int = 0, **others: Any) -> Rows:
    """Rows of the guide's table, without ids."""
    return [{"customer_id": first + i, "amount": Decimal("1.5"), "status": "new"} | others for i in range(count)]


def keyed(count: int, **others: Any) -> Rows:
    return [{"id": i} | row for i, row in enumerate(make(count, **others), 1)]


@pytest.fixture
def ours(request: pytest.FixtureRequest) -> Iterator[Ours]:
    """Runs the page's line for this test, with the names that it is given."""
    line, given = LINES[request.function.__name__], []

    async def run(**names: object) -> object:
        given.append(names)
        return await run_call(line, {"dl": dl, "sa": sa, "Order": Order, "day": DAY, **names})

    yield run
    assert given, f"the page's line was not run: {line}"


async def fill(engine: AsyncEngine, rows: Rows) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert, rows)


async def create(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


@pytest.fixture
async def engine(postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """An engine as the guide makes it, for a database that has its table."""
    made = create_async_engine(postgres_url)
    await create(made)
    yield made
    await made.dispose()


async def count(engine: AsyncEngine, where: str = "true") -> int:
    return int((await fetch(engine, f"SELECT count(*) FROM orders WHERE {where}"))[0][0])


class Wire:
    """What one connection says to the server."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.said: list[Message] = []

    def hear(self, message: Message) -> bool:
        self.said.append(message)
        return False

    def kinds(self) -> collections.Counter[str]:
        return collections.Counter(message.kind for message in self.said)

    def sql(self, kinds: str = "PQ") -> list[str]:
        return [message.sql for message in self.said if message.kind in kinds]

    async def run(self, statement: Any, rows: Rows) -> collections.Counter[str]:
        """The messages of a transaction that executes it."""
        self.said.clear()
        async with self.engine.begin() as connection:
            await connection.execute(statement, rows)
        return self.kinds()


@asynccontextmanager
async def wire_to(url: sa.URL, **options: Any) -> AsyncIterator[Wire]:
    """A wire to a server; the connection is made, and the dialect has asked what it asks at first."""
    async with Proxy.before(url) as proxy:
        wire = Wire(create_async_engine(proxy.url(url), pool_size=1, **options))
        proxy.at(wire.hear, "reset")
        async with wire.engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))
        wire.said.clear()
        yield wire
        await wire.engine.dispose()


@pytest.fixture
async def wire(engine: AsyncEngine, postgres_url: sa.URL) -> AsyncIterator[Wire]:
    async with wire_to(postgres_url) as wire:
        yield wire


# The guide: batch inserting millions of rows


async def test_chunks_inside_of_one_block_are_one_transaction(engine: AsyncEngine, wire: Wire, ours: Ours) -> None:
    rows = iter(make(5_000))
    async with wire.engine.begin() as connection:
        while chunk := list(islice(rows, 2_000)):
            await connection.execute(insert, chunk)
    assert wire.sql("Q") == ["BEGIN;", "COMMIT;"]
    assert await count(engine) == 5_000

    report = await ours(rows=make(5_000), engine=engine)
    assert (report.loaded, await count(engine)) == (5_000, 10_000)
    assert await fetch(engine, "SELECT count(DISTINCT xmin::text) FROM orders WHERE id > 5000") == [(1,)]


async def test_bulk_insert_mappings_was_not_removed(engine: AsyncEngine, ours: Ours) -> None:
    async with AsyncSession(engine) as session:
        await session.run_sync(lambda it: it.bulk_insert_mappings(sa.inspect(Order), make(3)))
        await session.commit()
    assert await count(engine) == 3
    await ours(rows=make(3), engine=engine)
    assert await count(engine) == 6


async def test_executemany_is_one_parse_and_a_bind_and_an_execute_for_each_row(wire: Wire, ours: Ours) -> None:
    first, second = await wire.run(insert, make(2_000)), await wire.run(insert, make(2_000))
    assert (first["P"], first["B"], first["E"], first["S"]) == (1, 2_000, 2_000, 1)
    assert (second["P"], second["B"], second["E"], second["S"]) == (0, 2_000, 2_000, 1)

    wire.said.clear()
    await ours(rows=make(2_000), engine=wire.engine)
    said = wire.kinds()
    assert said["d"] == 2  # CopyData: the rows, and the end of them
    assert said["B"] < 60  # what is asked of the catalog; no row is among them


async def test_a_generator_is_pulled_no_further_than_the_chunks_under_way(engine: AsyncEngine, ours: Ours) -> None:
    pulled: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for row in make(50_000):
            pulled.append(1)
            yield row

    async with engine.connect() as other:
        await other.execute(sa.text("LOCK TABLE orders IN SHARE MODE"))
        loading = asyncio.ensure_future(ours(rows=rows(), engine=engine))
        before = -1
        while before < len(pulled) or not pulled:
            before = len(pulled)
            await asyncio.sleep(0.3)
        assert 1_000 <= len(pulled) <= 12_000
        await other.rollback()
    assert (await loading).loaded == 50_000 == await count(engine)


def read_orders(path: Path) -> Rows:
    """The guide's."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {"customer_id": int(row["customer_id"]), "amount": row["amount"], "status": row.get("status", "pending")}
            for row in csv.DictReader(file)
        ]


@pytest.fixture
def orders_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("orders.csv")
    path.write_text("customer_id,amount,status\n1,2.5,\n2,0.12345,new\n")
    return path


async def test_an_empty_field_gets_no_default_and_a_spare_digit_is_rounded(
    engine: AsyncEngine, orders_csv: Path, ours: Ours
) -> None:
    await fill(engine, read_orders(orders_csv))
    found = await fetch(engine, "SELECT amount, status FROM orders ORDER BY id")
    assert found == [(Decimal("2.5"), ""), (Decimal("0.1235"), "new")]

    report = await ours(engine=engine)
    assert report.loaded == 0
    assert [*report.rejects["reject_column"]] == ["status", "amount"]


async def _log_position(engine: AsyncEngine) -> int:
    return int((await fetch(engine, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))[0][0])


async def test_commits_in_between_write_no_less_log(engine: AsyncEngine, ours: Ours) -> None:
    await execute(engine, "CHECKPOINT")
    written = []
    for size in (20_000, 1_000):
        await execute(engine, "TRUNCATE orders")
        begun = await _log_position(engine)
        rows = iter(make(20_000))
        while chunk := list(islice(rows, size)):
            await fill(engine, chunk)
        written.append(await _log_position(engine) - begun)
    assert written[1] >= written[0] * 0.98

    report = await ours(rows=make(20_000), engine=engine)
    assert (report.loaded, await count(engine)) == (20_000, 40_000)


async def test_the_log_is_recycled_while_a_long_transaction_is_open(engine: AsyncEngine) -> None:
    segment = "SELECT pg_walfile_name(pg_current_wal_lsn())"
    async with engine.connect() as connection:
        await connection.execute(insert, make(1_000))
        begun = (await fetch(engine, segment))[0][0]
        for _ in range(3):
            await fetch(engine, "SELECT pg_switch_wal()")
            await connection.execute(insert, make(1_000))
        for _ in range(2):
            await execute(engine, "CHECKPOINT")
        kept = {name for (name,) in await fetch(engine, "SELECT name FROM pg_ls_waldir()")}
        assert begun not in kept
        await connection.commit()
    assert await count(engine) == 4_000


async def test_rows_are_flushed_before_their_commit(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        begun = await _log_position(engine)
        await connection.execute(insert, make(20_000))
        flushed = "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn"
        for _ in range(100):
            await asyncio.sleep(0.1)
            if (await fetch(engine, flushed))[0][0] > begun + 1_000_000:  # the WAL writer, every 200 ms
                break
        else:
            pytest.fail("nothing was flushed")
        await connection.rollback()
    assert await count(engine) == 0


async def test_inserts_leave_no_dead_rows_but_for_those_rolled_back(engine: AsyncEngine, ours: Ours) -> None:
    await execute(engine, "ALTER TABLE orders SET (autovacuum_enabled = false)")
    dead = "SELECT n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'orders'"

    async def statistics(end: str) -> tuple[Any, ...]:
        async with engine.connect() as connection:
            await connection.execute(insert, make(3_000))
            await getattr(connection, end)()
            await connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
            await connection.commit()
        return (await fetch(engine, dead))[0]

    assert await statistics("commit") == (3_000, 0)
    assert await statistics("rollback") == (3_000, 3_000)
    await ours(rows=make(3_000), engine=engine)
    assert (await statistics("commit"))[1] == 3_000


async def resumable(engine: AsyncEngine, rows: Iterator[dict[str, Any]], start: int = 0) -> int:
    """The guide's: it returns how many rows are committed, from which the next call is to go on."""
    total, rest = 0, islice(rows, start, None)
    while chunk := list(islice(rest, 5_000)):
        async with engine.begin() as connection:
            await connection.execute(insert, chunk)
        total += len(chunk)
    return total


def breaking(rows: Rows, after: int) -> Iterator[dict[str, Any]]:
    yield from rows[:after]
    raise ConnectionError("the API is away")


async def test_the_offset_is_lost_with_the_error_that_needs_it(engine: AsyncEngine, ours: Ours) -> None:
    with pytest.raises(ConnectionError):
        offset = await resumable(engine, breaking(make(30_000), after=25_000))
    assert "offset" not in locals()
    await resumable(engine, iter(make(30_000)))
    assert (await count(engine), await count(engine, "customer_id < 25000")) == (55_000, 50_000)

    await execute(engine, "TRUNCATE orders")
    with pytest.raises(ConnectionError):
        await ours(rows=breaking(make(30_000), after=25_000), engine=engine)
    report = await ours(rows=iter(make(30_000)), engine=engine)
    assert report.already_loaded >= 5_000
    assert await fetch(engine, "SELECT count(*), count(DISTINCT customer_id) FROM orders") == [(30_000, 30_000)]


async def parallel(engine: AsyncEngine, chunks: list[Rows], most: int) -> None:
    """The guide's."""
    semaphore = asyncio.Semaphore(most)

    async def one(chunk: Rows) -> None:
        async with semaphore, engine.begin() as connection:
            await connection.execute(insert, chunk)

    await asyncio.gather(*[one(chunk) for chunk in chunks])


async def test_gather_goes_on_committing_after_it_has_failed(engine: AsyncEngine, ours: Ours) -> None:
    rows = [*make(1_000), *make(1, first=1_000, status=None), *make(9_999, first=1_001)]
    chunks = [rows[i : i + 1_000] for i in range(0, len(rows), 1_000)]
    with pytest.raises(sa.exc.IntegrityError):
        await parallel(engine, chunks, most=2)
    told = await count(engine)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others)
    assert told < await count(engine) == 10_000  # nobody has said so

    await execute(engine, "TRUNCATE orders")
    with pytest.raises(dl.ValidationError, match=r"column 'status'.*Nothing was"):
        await ours(rows=rows, engine=engine)
    assert await count(engine) == 0


async def test_client_read_is_a_client_that_does_nothing(engine: AsyncEngine, postgres_url: sa.URL, ours: Ours) -> None:
    one = create_async_engine(postgres_url, pool_size=1, max_overflow=0)
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    async with one.connect() as connection:
        pid = (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
        before = await fetch(engine, connected)
        waiting = [asyncio.ensure_future(fetch(one, "SELECT 1")) for _ in range(5)]  # the pool's queue
        await asyncio.sleep(0.1)
        seen = await fetch(engine, "SELECT wait_event FROM pg_stat_activity WHERE pid = :pid", pid=pid)
        assert seen == [("ClientRead",)]  # between two statements; as much with an empty queue
        assert await fetch(engine, connected) == before  # who queues is not connected: the server sees none of them
    await asyncio.gather(*waiting)
    await one.dispose()
    assert (await ours(rows=make(10), engine=engine)).loaded == 10


async def test_a_semaphore_holds_no_chunk_back(engine: AsyncEngine, ours: Ours) -> None:
    made = 0

    def chunks() -> Iterator[Rows]:
        nonlocal made
        for i in range(200):
            made += 1
            yield make(10, first=i * 10)

    loading = asyncio.ensure_future(parallel(engine, list(chunks()), most=2))
    await asyncio.sleep(0)
    assert made == 200  # all of the data, before the first row is sent
    assert len(asyncio.all_tasks()) >= 200
    await loading

    report = await ours(rows=iter(make(2_000, first=2_000)), engine=engine)
    assert (report.loaded, await count(engine)) == (2_000, 4_000)


async def test_the_log_is_not_written_by_the_background_writer(engine: AsyncEngine, ours: Ours) -> None:
    await ours(rows=make(10), engine=engine)
    if (await fetch(engine, "SHOW server_version_num"))[0][0] < "180000":
        pytest.skip("pg_stat_io knows the log since PostgreSQL 18")
    await fill(engine, make(5_000))
    await fetch(engine, "SELECT pg_stat_force_next_flush()")
    writers = """SELECT backend_type FROM pg_stat_io WHERE object = 'wal' AND context = 'normal' AND writes > 0"""
    found = {name for (name,) in await fetch(engine, writers)}
    assert "client backend" in found
    assert "background writer" not in found


# Its warnings


@pytest.fixture
def end_connections(admin: psycopg.Connection, cleaner: psycopg.Connection, shared_url: sa.URL) -> Callable[[], None]:
    """Ends every connection to the database but the fixtures' own."""
    kept, name = cleaner.info.backend_pid, shared_url.database

    def end() -> None:
        ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s"
        admin.execute(ending, (name, kept))

    return end


async def test_a_ping_before_the_checkout_does_not_help_after_it(
    engine: AsyncEngine, postgres_url: sa.URL, end_connections: Callable[[], None], ours: Ours
) -> None:
    pinging = create_async_engine(postgres_url, pool_pre_ping=True)

    async def cut_off() -> None:
        async with pinging.begin() as connection:
            await connection.execute(insert, make(100))
            end_connections()
            await connection.execute(insert, make(100))

    with pytest.raises(sa.exc.DBAPIError):
        await cut_off()
    await pinging.dispose()
    await engine.dispose()
    assert await count(engine) == 0

    used = open_engine(postgres_url)
    ended = asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for i, row in enumerate(make(1_000)):
            if i == 650:
                await asyncio.to_thread(end_connections)
                ended.set()
            yield row

    report = await ours(rows=rows(), engine=used)
    await used.dispose()
    await engine.dispose()
    assert ended.is_set()
    assert report.loaded == 1_000
    assert await fetch(engine, "SELECT count(*), count(DISTINCT customer_id) FROM orders") == [(1_000, 1_000)]


async def test_a_result_outlives_its_transaction(engine: AsyncEngine, ours: Ours) -> None:
    async with engine.begin() as connection:
        result = await connection.execute(insert.returning(orders.c.id), make(3))
    assert [id for (id,) in result.fetchall()] == [1, 2, 3]

    async with engine.begin() as connection:
        streamed = await connection.stream(sa.select(orders))
    with pytest.raises(Exception, match=r"cursor cannot be created outside of a transaction|closed"):
        await streamed.fetchall()

    async with engine.begin() as connection:
        no_rows = await connection.execute(insert, make(3))
        with pytest.raises(sa.exc.ResourceClosedError, match="does not return rows"):
            no_rows.fetchall()  # inside of the block, as the guide advises

    report = await ours(rows=make(3), engine=engine)
    assert [*report.returned["id"]] == [7, 8, 9]


async def hold(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.text("SELECT pg_sleep(0.3)"))


async def crowd(engine: AsyncEngine) -> collections.Counter[str]:
    """What becomes of six coroutines that each want a connection, in the words of their errors."""
    ends = await asyncio.gather(*[hold(engine) for _ in range(6)], return_exceptions=True)
    await engine.dispose()
    return collections.Counter("" if end is None else f"{end}".partition("\n")[0] for end in ends)


@pytest.fixture
def role(cleaner: psycopg.Connection, postgres_url: sa.URL) -> Iterator[str]:
    """A role that the server gives two connections."""
    name = "guide_role"
    cleaner.execute(b"CREATE ROLE guide_role LOGIN CONNECTION LIMIT 2")
    yield name
    cleaner.execute(b"DROP OWNED BY guide_role CASCADE")
    cleaner.execute(b"DROP ROLE guide_role")


async def test_too_many_connections_are_counted_by_the_server_and_not_by_the_pool(
    engine: AsyncEngine, postgres_url: sa.URL, role: str, ours: Ours
) -> None:
    await execute(engine, f"GRANT ALL ON SCHEMA public TO {role}", f"GRANT ALL ON orders, orders_id_seq TO {role}")
    url = postgres_url.set(username=role)
    small = await crowd(create_async_engine(url, pool_size=1, max_overflow=0))
    assert small == {"": 6}  # they queue
    impatient = await crowd(create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.1))
    assert any("QueuePool limit of size 1" in text for text in impatient)
    raised = await crowd(create_async_engine(url, pool_size=6, max_overflow=0))  # the guide's remedy
    assert sum(n for text, n in raised.items() if "too many connections for role" in text) == 4

    used = open_engine(url)
    report = await ours(rows=make(2_000), engine=used)
    await used.dispose()
    assert report.loaded == 2_000 == await count(engine)


async def test_text_is_refused_by_the_driver_and_a_fraction_is_cut_without_a_word(
    engine: AsyncEngine, ours: Ours
) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"invalid input for query argument \$1 in element #0"):
        await fill(engine, make(2, customer_id="123"))
    await fill(engine, make(2, customer_id=3.7))
    assert await fetch(engine, "SELECT DISTINCT customer_id FROM orders") == [(3,)]

    assert (await ours(rows=make(2, customer_id="123"), engine=engine)).loaded == 2
    with pytest.raises(dl.ValidationError, match=r"row 0, column 'customer_id': 3\.7 does not fit integer"):
        await ours(rows=make(2, customer_id=3.7), engine=engine)


async def peak(work: Awaitable[object]) -> int:
    """The most that Python's objects took meanwhile, in bytes."""
    tracemalloc.start()
    try:
        await work
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_memory_does_not_grow_with_the_rows_of_a_generator(engine: AsyncEngine, ours: Ours) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for i in range(40_000):
            yield {"customer_id": i, "amount": Decimal(i), "status": f"the status of row {i}"}

    async def as_a_list() -> None:
        await fill(engine, list(rows()))

    theirs = await peak(as_a_list())
    assert await peak(ours(rows=rows(), engine=engine)) < theirs / 2
    assert await count(engine) == 80_000


async def test_a_transaction_that_works_is_not_idle(engine: AsyncEngine, postgres_url: sa.URL, ours: Ours) -> None:
    setting = {"idle_in_transaction_session_timeout": "300"}
    strict = create_async_engine(postgres_url, connect_args={"server_settings": setting})
    async with strict.begin() as connection:
        await connection.execute(sa.text("SELECT pg_sleep(0.7)"))  # longer than the timeout
        await connection.execute(insert, make(1))

    async def pausing() -> None:
        async with strict.begin() as connection:
            await connection.execute(insert, make(1))
            await asyncio.sleep(0.7)  # as while the next chunk is fetched from an API
            await connection.execute(insert, make(1))

    with pytest.raises(sa.exc.DBAPIError):
        await pausing()
    assert await count(engine) == 1

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for i, row in enumerate(make(300)):
            if i % 100 == 50:
                await asyncio.sleep(0.7)
            yield row

    report = await ours(rows=rows(), engine=strict)
    await strict.dispose()
    assert report.loaded == 300


async def test_a_text_that_is_too_long_is_named(engine: AsyncEngine, ours: Ours) -> None:
    long = [*make(5), *make(1, status="x" * 40)]
    with pytest.raises(sa.exc.DBAPIError, match="value too long") as caught:
        await fill(engine, long)
    assert "element" not in f"{caught.value.orig}"  # which row it is, nobody says
    report = await ours(rows=long, engine=engine)
    assert report.loaded == 5
    assert [*report.rejects["reject_row"]] == [5]
    assert [*report.rejects["reject_column"]] == ["status"]


# Advanced


async def test_pages_of_insertmanyvalues_are_made_with_returning_only(wire: Wire) -> None:
    option = {"insertmanyvalues_page_size": 500}
    returning = await wire.run(insert.returning(orders.c.id), make(2_000))
    assert (returning["E"], returning["S"]) == (2, 2)
    smaller = await wire.run(insert.returning(orders.c.id).execution_options(**option), make(2_000))
    assert (smaller["E"], smaller["S"]) == (4, 4)
    without = await wire.run(insert.execution_options(**option), make(2_000))
    assert (without["E"], without["S"]) == (2_000, 1)  # not a round trip for each row: one, and no page


async def test_a_wide_page_ends_at_the_most_parameters(wire: Wire) -> None:
    wide = sa.Table("wide", sa.MetaData(), *[sa.Column(f"c{i}", sa.Integer) for i in range(100)])
    async with wire.engine.begin() as connection:
        await connection.run_sync(wide.create)
    rows = [dict.fromkeys(wide.c.keys(), 1)] * 1_000
    said = await wire.run(sa.insert(wide).returning(wide.c.c0), rows)
    assert said["E"] == 4  # 327 rows to a statement: 32,700 parameters


async def test_returned_keys_come_in_the_order_of_the_rows(engine: AsyncEngine, ours: Ours) -> None:
    rows = make(2_500)
    report = await ours(rows=rows, engine=engine)
    found = await fetch(engine, "SELECT id FROM orders ORDER BY customer_id")
    assert [*report.returned["id"]] == [id for (id,) in found]


async def copy(connection: AsyncConnection, records: list[tuple[Any, ...]]) -> None:
    driver = (await connection.get_raw_connection()).driver_connection
    await driver.copy_records_to_table("orders", records=records, columns=["customer_id", "amount", "status"])


async def test_the_raw_connection_has_no_copy_of_its_own(engine: AsyncEngine, ours: Ours) -> None:
    async with engine.connect() as connection:
        raw: Any = await connection.get_raw_connection()
        with pytest.raises(AttributeError, match="copy_records_to_table"):
            await raw.copy_records_to_table("orders", records=[])
    report = await ours(rows=make(3), engine=engine)
    assert (report.loaded, await count(engine)) == (3, 3)


async def test_a_copy_before_any_statement_is_not_rolled_back(engine: AsyncEngine, ours: Ours) -> None:
    async with engine.connect() as connection:
        await copy(connection, [(1, Decimal(1), "copied")])
        await connection.rollback()
    assert await count(engine) == 1
    async with engine.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))  # the dialect begins the transaction with the first statement
        await copy(connection, [(1, Decimal(1), "copied")])
        await connection.rollback()
    assert await count(engine) == 1

    async with engine.connect() as connection:
        report = await ours(rows=make(3), connection=connection)
        await connection.rollback()
    assert (report.loaded, await count(engine)) == (3, 1)


async def test_copy_checks_constraints_before_the_commit(engine: AsyncEngine, ours: Ours) -> None:
    await execute(engine, "ALTER TABLE orders ADD CHECK (customer_id > 0)")
    async with engine.connect() as connection:
        with pytest.raises(Exception, match="violates check constraint"):
            await copy(connection, [(i, Decimal(1), "new") for i in (1, 0)])
    report = await ours(rows=make(10), engine=engine)
    assert report.loaded == 9
    assert [*report.rejects["reject_row"]] == [0]


async def test_copy_of_records_changes_numbers_without_a_word(engine: AsyncEngine, ours: Ours) -> None:
    await execute(engine, "CREATE TABLE measured (amount numeric, qty integer)")
    async with engine.begin() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        await driver.copy_records_to_table("measured", records=[(0.1, 3.7)])  # type: ignore[union-attr]
    amount, qty = (await fetch(engine, "SELECT amount, qty FROM measured"))[0]
    assert f"{amount}".startswith("0.1000000000000000055")
    assert qty == 3

    report = await ours(df={"amount": [0.1, 0.2], "qty": [3.7, 4.0]}, engine=engine)
    assert [*report.rejects["reject_column"]] == ["qty"]
    assert await fetch(engine, "SELECT amount, qty FROM measured WHERE qty > 3") == [(Decimal("0.2"), 4)]


def validate_rows(table: sa.Table, rows: Rows) -> Rows:
    """The guide's."""
    known, errors = {column.name for column in table.c}, []
    needed = [column.name for column in table.c if not column.nullable and column.name != "id"]
    for i, row in enumerate(rows):
        if unknown := set(row) - known:
            errors.append(f"Row {i}: unknown keys {unknown}")
        errors += [f"Row {i}: NULL in NOT NULL column '{name}'" for name in needed if row.get(name) is None]
    if errors:
        raise ValueError("\n".join(errors))
    return rows


async def test_a_check_of_keys_and_nulls_says_nothing_of_types(engine: AsyncEngine, ours: Ours) -> None:
    bad = [*make(1), *make(1, customer_id="many"), *make(1, status="x" * 40), *make(1, amount=Decimal("1e9"))]
    assert validate_rows(orders, bad) == bad
    found = await ours(df={name: [row[name] for row in bad] for name in bad[0]}, engine=engine)
    assert [(one.row, one.column) for one in found.violations] == [(1, "customer_id"), (2, "status"), (3, "amount")]
    assert await count(engine) == 0


async def test_a_key_that_the_first_row_lacks_is_dropped_without_a_word(engine: AsyncEngine, ours: Ours) -> None:
    await execute(engine, "ALTER TABLE orders ALTER status SET DEFAULT 'pending'")
    short, whole = {"customer_id": 1, "amount": Decimal(1)}, {"customer_id": 2, "amount": Decimal(1), "status": "paid"}
    await fill(engine, [short, whole])
    assert await fetch(engine, "SELECT status FROM orders") == [("pending",), ("pending",)]
    with pytest.raises(sa.exc.StatementError, match="A value is required for bind parameter 'status'"):
        await fill(engine, [whole, short])
    with pytest.raises(dl.DataLoaderError, match="status"):
        await ours(rows=[short, whole], engine=engine)


# Its questions


async def test_a_block_for_each_chunk_is_a_commit_for_each(engine: AsyncEngine, wire: Wire, ours: Ours) -> None:
    for _ in range(3):
        async with wire.engine.begin() as connection:
            await connection.execute(insert, make(100))
    assert wire.sql("Q") == ["BEGIN;", "COMMIT;"] * 3

    await execute(engine, "TRUNCATE orders")
    await ours(rows=make(3_000), engine=engine)
    assert await fetch(engine, "SELECT count(DISTINCT xmin::text) FROM orders") == [(3,)]


async def test_rows_that_are_ignored_are_counted(engine: AsyncEngine, ours: Ours) -> None:
    assert not hasattr(insert, "on_conflict_do_nothing")  # only the dialect's own insert has it
    await fill(engine, keyed(10))
    async with engine.begin() as connection:
        result = await connection.execute(postgresql_insert(orders).on_conflict_do_nothing(), keyed(12))
        assert result.rowcount == -1
    report = await ours(rows=keyed(15), engine=engine)
    assert (report.inserted, report.ignored) == (3, 12)


async def test_two_rows_of_one_key_in_a_page_fail_with_insertmanyvalues_only(engine: AsyncEngine, ours: Ours) -> None:
    upsert = postgresql_insert(orders)
    upsert = upsert.on_conflict_do_update(index_elements=["id"], set_={"status": upsert.excluded.status})
    twice = [*keyed(1, status="first"), *keyed(1, status="last")]
    async with engine.begin() as connection:
        await connection.execute(upsert, twice)
    with pytest.raises(sa.exc.DBAPIError, match="cannot affect row a second time"):
        async with engine.begin() as connection:
            await connection.execute(upsert.returning(orders.c.id), twice)
    await ours(rows=twice, engine=engine)
    assert await fetch(engine, "SELECT status FROM orders") == [("last",)]


async def test_writers_of_sqlite_wait_for_each_other(tmp_path: Path, ours: Ours) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")  # no check_same_thread
    await create(engine)
    await asyncio.gather(*[fill(engine, make(1_000)) for _ in range(4)])
    impatient = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}", connect_args={"timeout": 0.1})
    async with engine.begin() as connection:
        await connection.execute(insert, make(1))
        with pytest.raises(sa.exc.OperationalError, match="database is locked"):
            await fill(impatient, make(1))
    loads = [ours(rows=make(1_000), engine=engine) for _ in range(4)]
    assert [report.loaded for report in await asyncio.gather(*loads)] == [1_000] * 4
    assert await count(engine) == 8_001
    for one in (engine, impatient):
        await one.dispose()


TWO_LOOPS = """
import asyncio, sys
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

async def work():
    async with engine.begin() as connection:
        await connection.execute(sa.text("SELECT 1"))

engine = create_async_engine(sys.argv[1])
asyncio.run(work())
print("the first has ended", flush=True)
asyncio.run(work())
"""


async def test_an_engine_is_shared_by_tasks_but_not_by_loops(
    engine: AsyncEngine, postgres_url: sa.URL, ours: Ours
) -> None:
    await asyncio.gather(*[fill(engine, make(10)) for _ in range(10)])
    assert await count(engine) == 100

    # In a process of its own: a connection that two loops have in hand may take the process with it.
    script = [sys.executable, "-c", TWO_LOOPS, postgres_url.render_as_string(hide_password=False)]
    ran = await asyncio.to_thread(subprocess.run, script, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "the first has ended\n")
    assert re.search("different loop|Event loop is closed", ran.stderr)

    used = dl.connect(postgres_url)
    assert (await ours(rows=make(10), engine=used)).loaded == 10

    def ours_elsewhere() -> object:
        return asyncio.run(ours(rows=make(10), engine=used))  # type: ignore[arg-type]

    report: Any = await asyncio.to_thread(ours_elsewhere)
    await used.dispose()
    assert (report.loaded, await count(engine, "customer_id = 0")) == (10, 12)


class Killed(BaseException):
    """The process, between two transactions."""


async def test_a_status_table_in_its_own_transaction_stores_a_chunk_twice(engine: AsyncEngine, ours: Ours) -> None:
    await execute(engine, "CREATE TABLE progress (done integer)", "INSERT INTO progress VALUES (0)")

    async def pipeline(kill_at: int | None = None) -> None:
        done = (await fetch(engine, "SELECT done FROM progress"))[0][0]
        for start in range(done, 1_000, 100):
            await fill(engine, make(100, first=start))
            if start == kill_at:
                raise Killed
            await execute(engine, f"UPDATE progress SET done = {start + 100}")

    with pytest.raises(Killed):
        await pipeline(kill_at=500)
    await pipeline()
    assert await fetch(engine, "SELECT count(*), count(DISTINCT customer_id) FROM orders") == [(1_100, 1_000)]

    await execute(engine, "TRUNCATE orders")

    def killed() -> Iterator[dict[str, Any]]:
        yield from make(25_000)
        raise Killed

    with pytest.raises(Killed):
        await ours(rows=killed(), engine=engine)
    report = await ours(rows=iter(make(30_000)), engine=engine)
    assert report.already_loaded >= 5_000
    assert await fetch(engine, "SELECT count(*), count(DISTINCT customer_id) FROM orders") == [(30_000, 30_000)]


# High-performance bulk inserts and updates


async def test_all_rows_as_one_statement_end_at_the_most_parameters(engine: AsyncEngine, ours: Ours) -> None:
    async with engine.connect() as connection:
        with pytest.raises(sa.exc.DBAPIError, match="cannot exceed 32767"):
            await connection.execute(insert.values(make(11_000)))
    assert (await ours(rows=make(11_000), engine=engine)).loaded == 11_000


async def test_a_bulk_update_is_an_execute_for_each_row(engine: AsyncEngine, wire: Wire, ours: Ours) -> None:
    await fill(engine, make(1_000))
    update = sa.update(orders).where(orders.c.id == sa.bindparam("key")).values(status=sa.bindparam("value"))
    said = await wire.run(update, [{"key": i, "value": "sent"} for i in range(1, 1_001)])
    assert (said["B"], said["E"]) == (1_000, 1_000)

    wire.said.clear()
    df = {"id": range(1, 1_003), "status": ["paid"] * 1_002}
    report = await ours(df=pd.DataFrame(df), engine=wire.engine)
    assert wire.kinds()["B"] < 80
    assert (report.updated, await count(engine, "status = 'paid'")) == (1_000, 1_000)


async def test_synchronize_session_is_of_no_use_to_rows_in_a_frame(engine: AsyncEngine, ours: Ours) -> None:
    await fill(engine, make(5))
    async with AsyncSession(engine, expire_on_commit=False) as session:
        held = (await session.scalars(sa.select(Order).order_by(Order.id))).all()
        statement = sa.delete(Order).where(Order.id.in_([1, 2]))
        await session.execute(statement, execution_options={"synchronize_session": False})
        assert len([one for one in held if one in session]) == 5  # gone from the table, and still held
        await session.rollback()
    report = await ours(df=pd.DataFrame({"id": [1, 2, 77]}), engine=engine)
    assert (report.deleted, await count(engine)) == (2, 3)


async def test_an_upsert_writes_unchanged_rows_again(engine: AsyncEngine, ours: Ours) -> None:
    await fill(engine, keyed(10))
    versions = "SELECT count(DISTINCT xmin::text) FROM orders"
    upsert = postgresql_insert(orders)
    upsert = upsert.on_conflict_do_update(index_elements=["id"], set_={"status": upsert.excluded.status})
    before = await fetch(engine, "SELECT id, xmin::text FROM orders ORDER BY id")
    async with engine.begin() as connection:
        await connection.execute(upsert, keyed(10))
    after = await fetch(engine, "SELECT id, xmin::text FROM orders ORDER BY id")
    assert not set(before) & set(after)
    report = await ours(rows=[*keyed(9), {**keyed(10)[9], "status": "paid"}], engine=engine)
    assert (report.updated, report.unchanged) == (1, 9)
    assert await fetch(engine, versions) == [(2,)]


# Benchmarking


async def test_executemany_mode_is_no_word_of_asyncpg(engine: AsyncEngine, ours: Ours) -> None:
    assert (await ours(df=FRAME, engine=engine)).method == "copy"
    for option in ({"executemany_mode": "values_only"}, {"dialect_options": {"asyncpg": {}}}):
        with pytest.raises(TypeError, match="Invalid argument"):
            create_async_engine("postgresql+asyncpg://nowhere/none", **option)


async def test_explain_shows_no_executemany_and_inserts_its_row(engine: AsyncEngine, ours: Ours) -> None:
    explained = "EXPLAIN (ANALYZE, BUFFERS) INSERT INTO orders (customer_id, amount, status) VALUES (1, 1, 'x')"
    async with engine.begin() as connection:
        shown = "\n".join(line for (line,) in await connection.execute(sa.text(explained)))
    assert "Insert on orders" in shown
    assert await count(engine) == 1  # ANALYZE carries it out
    with pytest.raises(sa.exc.DBAPIError, match="syntax error"):
        await fetch(engine, "EXPLAIN COPY orders FROM STDIN")
    plan = await ours(df=FRAME, engine=engine)
    assert plan.method == "copy"
    assert await count(engine) == 1


async def test_the_first_call_is_not_like_the_others(wire: Wire, ours: Ours) -> None:
    first, second = await wire.run(insert, make(10)), await wire.run(insert, make(10))
    assert first - second == {"P": 1, "D": 1, "H": 1}  # measured with them, a first call seems slower than it is
    said = []
    for _ in range(2):
        wire.said.clear()
        await ours(rows=make(10), engine=wire.engine)
        said.append(wire.kinds()["P"])
    assert said[0] > said[1] == 0


# Engines and pools


async def test_an_engine_needs_no_loop(postgres_url: sa.URL, ours: Ours) -> None:
    made = await asyncio.to_thread(create_async_engine, postgres_url)  # a thread without a loop
    assert await fetch(made, "SELECT 1") == [(1,)]
    await made.dispose()
    made = await ours(url=postgres_url)
    assert await fetch(made, "SELECT 1") == [(1,)]
    await made.dispose()


async def test_a_ping_is_an_empty_statement(
    postgres_url: sa.URL, end_connections: Callable[[], None], ours: Ours
) -> None:
    async with wire_to(postgres_url, pool_pre_ping=True) as wire:
        await fetch(wire.engine, "SELECT 2")
        assert wire.sql("P") == [";", "SELECT 2"]  # and not SELECT 1
    made = await ours(url=postgres_url)
    assert await fetch(made, "SELECT 1") == [(1,)]
    end_connections()
    assert await fetch(made, "SELECT 1") == [(1,)]
    await made.dispose()


async def _named_statements(wire: Wire, used: AsyncEngine) -> list[str]:
    wire.said.clear()
    async with used.begin() as connection:
        await connection.execute(insert, make(2))
        await copy(connection, [(1, Decimal(1), "copied")])
    return [message.sql for message in wire.said if message.kind == "P" and message.name]


async def test_settings_for_a_pooler_are_enough_for_statements_and_not_for_every_copy(
    engine: AsyncEngine, postgres_url: sa.URL, ours: Ours
) -> None:
    async with wire_to(postgres_url) as wire:
        assert len(await _named_statements(wire, wire.engine)) == 2
    settings = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    async with wire_to(postgres_url, connect_args=settings) as wire:
        named = await _named_statements(wire, wire.engine)
        assert not [sql for sql in named if sql.startswith("INSERT")]
        if version("asyncpg").startswith("0.30."):
            assert "LIMIT 1" in named[0]  # copy_records_to_table asks for the types by it
        elif version("asyncpg") >= "0.32":
            assert named == []

        made = await ours(url=wire.engine.url)
        wire.said.clear()
        assert await fetch(made, "SELECT count(*) FROM orders WHERE id < :most", most=0) == [(0,)]
        assert [message.name for message in wire.said if message.kind == "P"] == [""] * wire.kinds()["P"]
        assert wire.kinds()["P"] > 0
        await made.dispose()


# Streaming


async def test_yield_per_fetches_through_a_portal_and_not_by_fetch(wire: Wire, ours: Ours) -> None:
    await fill(wire.engine, make(2_500))
    wire.said.clear()
    async with wire.engine.connect() as connection:
        result = await connection.stream(sa.select(orders).execution_options(yield_per=1_000))
        sizes = [len(part) async for part in result.partitions()]
    assert sizes == [1_000, 1_000, 500]
    assert not [sql for sql in wire.sql() if "FETCH" in sql.upper()]
    assert wire.kinds()["B"] == 1
    assert 3 <= wire.kinds()["E"] <= 8  # one portal, taken up again and again

    wire.said.clear()
    read = await ours(engine=wire.engine)
    assert sum(read) == 2_500
    assert wire.kinds()["E"] < 40


async def test_yield_per_is_refused_by_execute_of_an_async_session(engine: AsyncEngine, ours: Ours) -> None:
    await fill(engine, make(20))
    async with AsyncSession(engine) as session:
        with pytest.raises(AsyncMethodRequired, match="stream"):
            await session.execute(sa.select(Order).execution_options(yield_per=10))
    assert len(await ours(engine=engine)) == 20


async def test_a_stream_ends_with_the_commit_of_its_session(engine: AsyncEngine, ours: Ours) -> None:
    await fill(engine, make(3_000))

    async def commit_each(session: AsyncSession, result: Any) -> None:
        async for _ in result.partitions():
            await session.commit()  # what has been worked off so far

    async with AsyncSession(engine) as session:
        result = await session.stream(sa.select(orders).execution_options(yield_per=1_000))
        with pytest.raises(Exception, match=r"transaction|closed|does not exist"):
            await commit_each(session, result)

    async def work(batch: Any) -> int:
        await execute(engine, "UPDATE orders SET status = 'seen' WHERE id = 1")
        return int(batch.num_rows)

    assert sum(await ours(engine=engine, work=work)) == 3_000
