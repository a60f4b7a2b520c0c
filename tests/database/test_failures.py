"""The failures of the bulk-loading guides, each provoked on a real server: what `explain` says of the plain driver's
error, and that a load prevents it or says the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database import embedded, explanations
from dataloader.database.backends.base import driver_of
from dataloader.database.engine import open_engine
from tests.conftest import connect_at_once, enterable_folder, execute, fetch
from tests.database.conftest import SECRET
from tests.database.test_servers import PASSWORD, Guarded, guarded  # noqa: F401 - a fixture

pytestmark = pytest.mark.any_version

INSERT = sa.text("INSERT INTO orders (id, status) VALUES (:id, :status)")
TABLE = (
    "CREATE TABLE orders (id integer PRIMARY KEY, status varchar(8) NOT NULL, parent integer REFERENCES orders (id))"
)
HIDDEN = "hunter2"
"""A value of every row that is sent: an explanation shows it only where the server itself quotes it."""
DRIVERS = ["asyncpg", "psycopg"]


@pytest.fixture(params=DRIVERS)
async def plain(request: pytest.FixtureRequest, postgres_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    """SQLAlchemy's own engine, as the guides make it, to a table of orders."""
    engine = create_async_engine(postgres_url.set(drivername=f"postgresql+{request.param}"))
    await execute(engine, TABLE)
    yield engine
    await engine.dispose()


async def failure(work: Awaitable[object]) -> dl.Explanation:
    """What is said of the error that it raises."""
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - whatever it is
        await work
    return dl.explain(raised.value)


def assert_said(
    said: dl.Explanation, *, code: str | None = None, cause: str, left: str, remedy: str, place: str = ""
) -> None:
    assert said.sqlstate == code
    assert cause in said.cause
    assert said.left == explanations.LEFT[left]
    assert remedy in said.remedy
    assert place in said.place
    assert all(part in str(said) for part in (said.cause, said.left, said.remedy))
    assert HIDDEN not in f"{said.place}{said.cause}{said.remedy}"


async def insert(engine: AsyncEngine, *rows: dict[str, Any]) -> None:
    async with engine.begin() as connection:
        await connection.execute(INSERT, [*rows])


REFUSED: dict[str, tuple[list[dict[str, Any]], tuple[str, str, str, str]]] = {
    "a value too long": ([{"id": 1, "status": HIDDEN * 2}], ("22001", "longer than its column", "evolve='widen'", "")),
    "a key twice": (
        [{"id": 7, "status": HIDDEN}] * 2,
        ("23505", "in the table already", "on_conflict=", "table orders, constraint orders_pkey"),
    ),
    "no value": ([{"id": 1, "status": None}], ("23502", "NOT NULL", "DEFAULT", "table orders, column status")),
}


@pytest.mark.parametrize(("rows", "expected"), REFUSED.values(), ids=REFUSED)
async def test_rows_that_the_table_refuses(
    plain: AsyncEngine, rows: list[dict[str, Any]], expected: tuple[str, str, str, str]
) -> None:
    code, cause, remedy, place = expected
    said = await failure(insert(plain, {"id": 0, "status": "first"}, *rows))
    assert_said(said, code=code, cause=cause, left="statement", remedy=remedy, place=place)
    assert await fetch(plain, "SELECT count(*) FROM orders") == [(0,)], "nothing of it is stored, as is said"
    with pytest.raises((dl.WriteError, dl.ValidationError)) as ours:
        await dl.load_rows([{"id": 0, "status": "first"}, *rows], "orders", engine=plain)
    assert "row " in str(ours.value), "a load names the row"
    assert "Nothing was written" in str(ours.value)
    assert dl.explain(ours.value).left == "Nothing was written."


async def test_a_row_that_refers_to_none(plain: AsyncEngine) -> None:
    said = await failure(execute(plain, "INSERT INTO orders VALUES (1, 'new', 99)"))
    place = "table orders, constraint orders_parent_fkey"
    assert_said(said, code="23503", cause="foreign key", left="statement", remedy="referred to first", place=place)
    rows = {"id": [1], "status": ["new"], "parent": [99]}
    said = dl.explain(await raised(dl.load_dataframe(rows, "orders", engine=plain)))
    assert (said.error, said.sqlstate, said.left) == ("WriteError", "23503", "Nothing was written.")


async def raised(work: Awaitable[object]) -> BaseException:
    with pytest.raises(dl.DataLoaderError) as error:
        await work
    return error.value


async def test_what_is_missing_or_not_allowed(plain: AsyncEngine) -> None:
    said = await failure(fetch(plain, "SELECT * FROM nowhere"))
    assert_said(said, code="42P01", cause="no table", left="statement", remedy="check the name", place="FROM nowhere")
    missing = await raised(dl.read_dataframe("nowhere", engine=plain))
    assert "nowhere" in str(missing)
    await dl.load_dataframe({"id": [1]}, "nowhere", engine=plain)  # a load creates the table
    await execute(plain, "DROP ROLE IF EXISTS nobody", "CREATE ROLE nobody", "GRANT USAGE ON SCHEMA public TO nobody")
    said = await failure(execute(plain, "SET LOCAL ROLE nobody", "INSERT INTO orders VALUES (1, 'new')"))
    assert_said(said, code="42501", cause="privilege", left="statement", remedy="GRANT")
    await execute(plain, "DROP OWNED BY nobody", "DROP ROLE nobody")


async def test_a_python_type_that_is_not_the_columns(plain: AsyncEngine) -> None:
    """asyncpg converts nothing, and keeps no row of the executemany; what came before in the transaction stays."""
    rows = [{"id": number, "status": "new"} for number in range(500)]
    async with plain.connect() as connection:
        await connection.execute(INSERT, {"id": -1, "status": "before"})
        wrong = connection.execute(INSERT, [*rows, {"id": f"'{HIDDEN}' (x)", "status": "x"}])
        said = await failure(wrong)
        if plain.dialect.driver == "asyncpg":
            assert_said(said, cause="another Python type", left="client", remedy="int(row['id'])", place="INSERT INTO")
            assert said.message.startswith("invalid input for parameter $1 of row 500, counted from 0")
            assert HIDDEN not in str(said)
            assert (await connection.execute(sa.text("SELECT count(*) FROM orders"))).scalar_one() == 1, "as is said"
        else:
            assert_said(said, code="22P02", cause="cannot be read", left="statement", remedy="Correct the value")
            after = await failure(connection.execute(sa.text("SELECT 1")))
            assert after.sqlstate == "25P02"
    report = await dl.load_rows([{"id": "7", "status": "text"}], "orders", engine=plain)  # texts are converted
    assert report.loaded == 1
    error = await raised(dl.load_rows([*rows, {"id": "x7", "status": "x"}], "orders", engine=plain))
    assert isinstance(error, dl.ValidationError)
    assert (error.row, error.column) == (500, "id")


async def test_a_result_that_is_read_after_its_transaction(plain: AsyncEngine) -> None:
    async def streamed() -> None:
        async with plain.connect() as connection:
            result = await connection.stream(sa.text("SELECT generate_series(1, 10000)"))
            await result.fetchone()
            await connection.commit()
            await result.fetchall()

    said = await failure(streamed())
    code = {"asyncpg": "25P01", "psycopg": "34000"}[plain.dialect.driver]
    assert_said(said, code=code, cause="transaction has ended", left="statement", remedy="inside the block")
    async with plain.connect() as connection:
        result = await connection.execute(sa.text("INSERT INTO orders VALUES (5, 'new')"))
    with pytest.raises(sa.exc.ResourceClosedError) as closed:
        result.all()
    assert_said(dl.explain(closed.value), cause="result", left="read", remedy="inside the block")
    frame = await dl.read_dataframe("SELECT generate_series(1, 10000) AS n", engine=plain)
    assert len(frame) == 10_000


async def own_backend(connection: AsyncConnection) -> int:
    return int((await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one())


async def test_a_connection_that_the_server_has_ended(plain: AsyncEngine) -> None:
    async with plain.connect() as connection:
        pid = await own_backend(connection)
        await execute(plain, f"SELECT pg_terminate_backend({pid})")
        await until_gone(plain, pid)
        said = await failure(connection.execute(sa.text("SELECT 1")))
    code = known_to(plain, said)
    cause, remedy = ("administrator", "when the server answers") if code else ("has ended", "pool_pre_ping")
    assert_said(said, code=code and "57P01", cause=cause, left="connection", remedy=remedy)
    assert "count the rows" in said.left


def known_to(engine: AsyncEngine, said: dl.Explanation) -> str | None:
    """The code with which the server ended the session: asyncpg keeps it to itself, and so do older psycopg."""
    return said.sqlstate if engine.dialect.driver == "psycopg" else None


async def until_gone(engine: AsyncEngine, pid: int) -> None:
    for _ in range(500):
        if not await fetch(engine, "SELECT 1 FROM pg_stat_activity WHERE pid = :pid", pid=pid):
            await asyncio.sleep(0.05)  # until the driver has read it
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the backend does not end")


async def test_a_load_after_the_connections_of_its_pool_have_ended(postgres_url: sa.URL, plain: AsyncEngine) -> None:
    """As by a restart of the server between two loads: the pool tests what it gives out."""
    engine = open_engine(postgres_url)
    await dl.load_dataframe({"id": [1], "status": ["new"]}, "orders", engine=engine)
    [(pid,)] = await fetch(engine, "SELECT pg_backend_pid()")
    await execute(plain, f"SELECT pg_terminate_backend({pid})")
    await until_gone(plain, pid)
    report = await dl.load_dataframe({"id": [2], "status": ["new"]}, "orders", engine=engine)
    assert report.loaded == 1
    await engine.dispose()


async def test_a_transaction_that_was_left_idle(plain: AsyncEngine) -> None:
    async with plain.connect() as connection:
        pid = await own_backend(connection)
        await connection.execute(sa.text("SET idle_in_transaction_session_timeout = 50"))
        await until_gone(plain, pid)
        said = await failure(connection.execute(sa.text("SELECT 1")))
    known = known_to(plain, said)
    assert_said(
        said,
        code=known and "25P03",
        cause="idle_in_transaction_session_timeout",
        left="connection",
        remedy="server_settings" if known else "leave no transaction idle",
    )


async def test_a_slow_source_leaves_no_transaction_idle_when_it_is_committed_by_chunks(plain: AsyncEngine) -> None:
    await execute(plain, "ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = 150")
    try:
        engine = open_engine(plain.url.set(drivername="postgresql+asyncpg"))

        async def slowly() -> AsyncIterator[dict[str, Any]]:
            for number in range(3):
                yield {"id": number, "status": "new"}
                await asyncio.sleep(0.3)

        report = await dl.load_rows(slowly(), "orders", engine=engine, commit="chunk", chunk_rows=1)
        assert report.loaded == 3
        await engine.dispose()
    finally:
        await execute(plain, "ALTER ROLE CURRENT_USER RESET idle_in_transaction_session_timeout")


async def test_limits_of_time(plain: AsyncEngine) -> None:
    said = await failure(execute(plain, "SET LOCAL statement_timeout = 20", "SELECT pg_sleep(5)"))
    assert_said(said, code="57014", cause="statement_timeout", left="statement", remedy="raise statement_timeout")
    async with plain.begin() as holding:
        await holding.execute(sa.text("LOCK TABLE orders"))
        said = await failure(execute(plain, "SET LOCAL lock_timeout = 20", "INSERT INTO orders VALUES (1, 'new')"))
    assert_said(said, code="55P03", cause="lock_timeout", left="statement", remedy="pg_terminate_backend")


async def test_a_deadlock(plain: AsyncEngine) -> None:
    await insert(plain, {"id": 1, "status": "new"}, {"id": 2, "status": "new"})
    both = asyncio.Barrier(2)

    async def change(first: int, second: int) -> None:
        async with plain.begin() as connection:
            for number in (first, second):
                await connection.execute(sa.text(f"UPDATE orders SET status = 'x' WHERE id = {number}"))
                if number == first:
                    await both.wait()

    done = await asyncio.gather(change(1, 2), change(2, 1), return_exceptions=True)
    [error] = [one for one in done if one is not None]
    assert isinstance(error, BaseException)
    said = dl.explain(error)
    assert_said(said, code="40P01", cause="waited for each other", left="statement", remedy="sorted by the key")


async def test_two_transactions_that_cannot_both_be(plain: AsyncEngine) -> None:
    await insert(plain, {"id": 1, "status": "new"})
    serial = plain.execution_options(isolation_level="SERIALIZABLE")
    async with serial.connect() as one, serial.connect() as other:
        for connection in (one, other):
            await connection.execute(sa.text("SELECT * FROM orders"))
        await one.execute(sa.text("UPDATE orders SET status = 'one'"))
        await one.commit()
        said = await failure(other.execute(sa.text("UPDATE orders SET status = 'other'")))
    assert_said(said, code="40001", cause="changed the same rows", left="statement", remedy="whole transaction")


async def test_more_tasks_than_the_pool_has_connections(postgres_url: sa.URL, plain: AsyncEngine) -> None:
    url = postgres_url.set(drivername=f"postgresql+{plain.dialect.driver}")
    small = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    async with small.connect():
        said = await failure(fetch(small, "SELECT 1"))
    assert_said(said, cause="pool is in use", left="no connection", remedy="pool_size=")
    rows = {"id": range(40), "status": ["new"] * 40}
    report = await dl.load_dataframe(rows, "orders", engine=small, commit="chunk", chunk_rows=10, workers=8)
    assert report.loaded == 40, "never more workers than the pool has connections"
    await small.dispose()


async def test_an_engine_in_another_loop(postgres_url: sa.URL) -> None:
    engine = create_async_engine(postgres_url.set(drivername="postgresql+asyncpg"))

    def elsewhere() -> BaseException:
        # By turns, in one thread: with both loops running on one connection at once, one run of the tests in many
        # ended in a segmentation fault.
        with asyncio.Runner() as one, asyncio.Runner() as other:
            assert one.run(fetch(engine, "SELECT 1")) == [(1,)]
            with pytest.raises(BaseException) as error:  # noqa: PT011 - whatever it is
                other.run(fetch(engine, "SELECT 1"))
            one.run(engine.dispose())
        return error.value

    said = dl.explain(await asyncio.to_thread(elsewhere))
    assert_said(said, cause="another event loop", left="nothing sent", remedy="engine.dispose()")
    assert (await asyncio.to_thread(dl.run, dl.load_dataframe({"id": [1]}, "t", engine=postgres_url))).loaded == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_a_synchronous_call(sqlite: AsyncEngine) -> None:
    async def touched() -> None:
        async with sqlite.connect() as connection:
            assert connection.sync_connection is not None
            connection.sync_connection.execute(sa.text("SELECT 1"))

    said = await failure(touched())
    gc.collect()  # the coroutine that SQLAlchemy could not await
    assert_said(said, cause="synchronous call", left="nothing sent", remedy="run_sync")


async def test_a_password_that_is_wrong(guarded_port: int) -> None:
    for driver in DRIVERS:
        engine = create_async_engine(f"postgresql+{driver}://ada:{SECRET}@127.0.0.1:{guarded_port}/postgres")
        said = await failure(fetch(engine, "SELECT 1"))
        assert SECRET not in f"{said}{said._repr_html_()}"
        assert "password" in f"{said.cause}"
        assert said.left == explanations.LEFT["no connection"]
        assert "Check the user and the password" in said.remedy


async def test_a_server_that_asks_for_tls(guarded: Guarded) -> None:  # noqa: F811 - the fixture
    for driver, name in (("asyncpg", "ssl"), ("psycopg", "sslmode")):
        engine = create_async_engine(guarded.url(f"{name}=disable").replace("postgresql", f"postgresql+{driver}", 1))
        said = await failure(fetch(engine, "SELECT 1"))
        assert PASSWORD not in str(said)
        assert said.left == explanations.LEFT["no connection"]
        assert "sslmode=require" in said.remedy


@dataclass(frozen=True)
class Small:
    """A server that takes few connections and has little of everything else."""

    url: sa.URL


@pytest.fixture(scope="module")
def small_server() -> Iterator[Small]:
    settings = embedded.FAST_AND_LOOSE | {
        "max_connections": "5",
        "superuser_reserved_connections": "1",
        "max_locks_per_transaction": "10",
        "max_pred_locks_per_transaction": "10",
    }
    with enterable_folder() as folder:
        server = embedded.start(folder / "pg", embedded.find_binaries(), settings)
        with connect_at_once(server.url) as admin:
            admin.execute("CREATE ROLE analyst LOGIN")
            admin.execute("GRANT CREATE ON SCHEMA public TO analyst")
        yield Small(server.url.set(username="analyst"))


@contextlib.asynccontextmanager
async def disposed(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """The engine, whose connections are closed before the next test needs them."""
    yield engine
    await engine.dispose()


async def all_of(works: Iterable[Awaitable[object]]) -> None:
    for work in works:
        await work


async def test_more_connections_than_the_server_takes(small_server: Small) -> None:
    for driver in DRIVERS:
        url = small_server.url.set(drivername=f"postgresql+{driver}")
        async with disposed(create_async_engine(url, pool_size=10)) as engine, contextlib.AsyncExitStack() as stack:
            said = await failure(all_of(stack.enter_async_context(engine.connect()) for _ in range(10)))
        assert said.left == explanations.LEFT["no connection"]
        assert "connections" in said.cause
        assert "max_connections" in said.remedy


async def test_a_load_with_more_workers_than_the_server_takes(small_server: Small) -> None:
    async with disposed(open_engine(small_server.url, {"pool_size": 10})) as engine:
        rows = {"id": range(4_000)}
        report = await dl.load_dataframe(rows, "few", engine=engine, commit="chunk", chunk_rows=10, workers=8)
    assert report.loaded == 4_000
    assert any("instead of 8" in one for one in report.warnings), "it says that it runs with fewer"


async def test_a_server_without_memory_for_more_locks(small_server: Small) -> None:
    """The memory of the lock table is the one that a setting can make small: 53200 is raised as by any other."""
    async with disposed(create_async_engine(small_server.url.set(drivername="postgresql+asyncpg"))) as engine:
        statements = (f"CREATE TABLE lots_{number} (id int PRIMARY KEY)" for number in range(4_000))
        said = await failure(execute(engine, *statements))
    assert_said(said, code="53200", cause="no memory left", left="statement", remedy="max_locks_per_transaction")


async def test_rows_that_are_more_than_fits_in_memory_are_loaded_from_a_generator(sqlite: AsyncEngine) -> None:
    assert "load_rows takes a generator" in dl.explain(MemoryError()).remedy
    report = await dl.load_rows(({"id": number} for number in range(20_000)), "orders", engine=sqlite, chunk_rows=1_000)
    assert report.loaded == 20_000


async def test_sqlite_has_one_writer(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"
    plain = create_async_engine(url, connect_args={"timeout": 0.05})
    await execute(plain, "CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL)")
    async with plain.connect() as writing:
        await writing.execute(INSERT, {"id": 1, "status": "new"})
        said = await failure(insert(plain, {"id": 2, "status": HIDDEN}))
        assert_said(said, cause="one writer", left="row", remedy="timeout", place="INSERT INTO orders")
        loading = asyncio.create_task(dl.load_dataframe({"id": [3], "status": ["new"]}, "orders", engine=url))
        await asyncio.sleep(0.2)
        assert not loading.done(), "a load waits for the other's transaction"
        await writing.commit()
    assert (await loading).loaded == 1
    await plain.dispose()


async def test_sqlite_keeps_the_rows_before_the_one_that_it_refuses(tmp_path: Path) -> None:
    """A commit after the error would store them: that is said, and no load does it."""
    plain = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    await execute(plain, "CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL)")
    rows = [{"id": number % 15, "status": "new"} for number in range(20)]
    async with plain.connect() as connection:
        said = await failure(connection.execute(INSERT, rows))
        assert_said(said, cause="key of a row", left="row", remedy="on_conflict", place="table orders, column id")
        assert (await connection.execute(sa.text("SELECT count(*) FROM orders"))).scalar_one() == 15, "as is said"
    error = await raised(dl.load_rows(rows, "orders", engine=plain))
    assert "Nothing was written" in str(error)
    assert await fetch(plain, "SELECT count(*) FROM orders") == [(0,)]
    await plain.dispose()


WRONG_FOR_SQLITE: dict[str, tuple[Any, str, str]] = {
    "a list": ([1], "Python type that SQLite has not", "json.dumps"),
    "an integer of more than 64 bits": (2**70, "64 bits", "sqlalchemy.Text"),
}


@pytest.mark.parametrize(("value", "cause", "remedy"), WRONG_FOR_SQLITE.values(), ids=WRONG_FOR_SQLITE)
async def test_values_that_sqlite_has_not(sqlite: AsyncEngine, value: object, cause: str, remedy: str) -> None:
    await execute(sqlite, "CREATE TABLE orders (id integer PRIMARY KEY, status text)")
    said = await failure(insert(sqlite, {"id": 1, "status": value}))
    assert_said(said, cause=cause, left="row", remedy=remedy)


async def test_two_tasks_on_one_connection(postgres: AsyncEngine) -> None:
    """Of asyncpg itself: SQLAlchemy and psycopg make them wait for each other."""
    async with postgres.connect() as connection:
        driver = await driver_of(connection)
        work = [driver.execute("SELECT pg_sleep(0.1)") for _ in range(2)]
        [error] = [one for one in await asyncio.gather(*work, return_exceptions=True) if isinstance(one, BaseException)]
    assert_said(dl.explain(error), cause="two tasks use one connection", left="unknown", remedy="inside the task")


async def test_it_explains_a_load_whose_commits_are_known(plain: AsyncEngine) -> None:
    engine = open_engine(plain.url.set(drivername="postgresql+asyncpg"))

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(30):
            yield {"id": number, "status": "new" if number < 25 else "much too long"}

    error = await raised(
        dl.load_rows(rows(), "orders", engine=engine, commit="chunk", chunk_rows=10, load_id="orders of May")
    )
    [(committed,)] = await fetch(plain, "SELECT count(*) FROM orders")
    assert dl.explain(error).left.startswith(f"{committed} rows are committed; continue with await load_rows(")
    await engine.dispose()
