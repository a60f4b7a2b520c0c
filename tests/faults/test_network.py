"""The network between the loader and the server freezes or breaks: no row is lost or there twice, and nothing hangs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.database import engine as engines
from dataloader.database import watchdog
from dataloader.loading import workers as pool
from dataloader.writers import copy
from tests.conftest import FULL, execute, fetch
from tests.faults import proxy as network
from tests.faults.loads import CHUNK_ROWS, ROWS, assert_exact, by_workers, load, orders, seeded, start_anew
from tests.faults.proxy import Act, Proxy, Trap

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

FREEZES = 5 if FULL else 1
"""For each place and number of workers."""
RESETS = 25 if FULL else 3
LOST_COMMITS = 100 if FULL else 10
STALL_SECONDS = 1.5
BUSY_TRIES = 3
PLACES = {"claim": network.claim, "copy": network.copy_data, "commit": network.commit}
IDLE_WORKERS = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle' AND query LIKE 'COMMIT%'"""

at_each_place = pytest.mark.parametrize("place", list(PLACES))


@dataclass(frozen=True, slots=True)
class Net:
    """A proxy, an engine behind it, and one that goes past it."""

    proxy: Proxy
    engine: AsyncEngine
    direct: AsyncEngine


@pytest.fixture
async def net(postgres_url: sa.URL, postgres: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Net]:
    """A network, and an empty table behind it; COPY is sent in pieces small enough to have a middle."""
    monkeypatch.setattr(copy, "PIECE_BYTES", 64 * 1024)
    await start_anew(postgres)
    async with Proxy.before(postgres_url) as proxy:
        engine = engines.open_engine(proxy.url(postgres_url))
        yield Net(proxy, engine, postgres)
        proxy.thaw()
        await engine.dispose()


def nth_of(place: str, moments: random.Random) -> int:
    """Which of the messages of a load, that sends so many of them at least."""
    return moments.randint(2, {"claim": 8, "copy": 300, "commit": 9}[place])


async def sprung(trap: Trap) -> None:
    await asyncio.wait_for(trap.sprung.wait(), 20)


async def frozen_load(net: Net, workers: int, place: Any, act: Act, nth: int) -> asyncio.Task[dl.LoadReport]:
    """A load whose network has just been frozen.

    A machine that is so busy that nothing is accepted within the limit ends a load before: then it is begun anew.
    """
    for _ in range(BUSY_TRIES):
        trap = net.proxy.at(place, act, nth=nth)
        loading = asyncio.create_task(load(net.engine, workers))
        springing = asyncio.create_task(trap.sprung.wait())
        await asyncio.wait({springing, loading}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        springing.cancel()
        if trap.sprung.is_set():
            return loading
        assert loading.done(), "neither the trap nor the load came to an end"
        assert isinstance(loading.exception(), dl.ConnectionLost)
        await assert_goes_on(net, workers)
    raise AssertionError("the machine is too busy")


async def settled(loading: asyncio.Task[dl.LoadReport]) -> float:
    """Wait for the end of a load, and return how long that took."""
    before = time.perf_counter()
    done, _ = await asyncio.wait({loading}, timeout=20)
    assert done, "the load hangs"
    return time.perf_counter() - before


async def assert_goes_on(net: Net, workers: int) -> None:
    """The network is mended, the load goes on, and the next one begins with an empty table."""
    assert net.engine.pool.checkedout() == 0
    net.proxy.thaw()
    await assert_exact(net.direct, await load(net.engine, workers, resume=True))
    await start_anew(net.direct)


@by_workers
@at_each_place
async def test_a_frozen_network_ends_the_load_within_the_limit(
    place: str, workers: int, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the message still arrives and its reply does not, or neither does."""
    moments = seeded()
    for number in range(FREEZES):
        act: Act = "freeze the reply" if (number + workers) % 2 else "freeze"
        with monkeypatch.context() as patch:  # the load that goes on has a busy machine's time
            patch.setattr(watchdog, "STALL_SECONDS", STALL_SECONDS)
            patch.setattr(pool, "RETRY_SECONDS", 0)
            loading = await frozen_load(net, workers, PLACES[place], act, nth_of(place, moments))
            seconds = await settled(loading)
        assert isinstance(loading.exception(), dl.ConnectionLost)
        assert STALL_SECONDS - 0.2 < seconds < STALL_SECONDS + 5  # a busy machine takes its time for the rest
        await assert_goes_on(net, workers)


@by_workers
@at_each_place
async def test_a_cancel_during_the_freeze_settles_within_a_second(place: str, workers: int, net: Net) -> None:
    moments = seeded()
    for _ in range(FREEZES):
        trap = net.proxy.at(PLACES[place], "freeze", nth=nth_of(place, moments))
        loading = asyncio.create_task(load(net.engine, workers))
        await sprung(trap)
        await asyncio.sleep(moments.random() * 0.3)
        loading.cancel()
        assert await settled(loading) < 1
        assert loading.cancelled()
        if place == "commit" or workers == 1:  # the other one of two workers may be committing
            assert said_at_least(loading) == (place == "commit")
        await assert_goes_on(net, workers)


OPENING = {
    "a new connection": lambda message: message.kind == "Startup",
    "a pooled one is tested": lambda message: message.kind == "P" and message.sql == ";",
}


@pytest.mark.parametrize("place", list(OPENING))
async def test_a_connection_that_is_being_opened_when_the_network_freezes_leaves_the_pool(
    place: str, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one is the second worker's: the rows of the first one end the load meanwhile."""
    trap = net.proxy.at(OPENING[place], "freeze", nth=2)
    with monkeypatch.context() as patch:
        patch.setattr(watchdog, "STALL_SECONDS", 1)
        patch.setattr(pool, "RETRY_SECONDS", 0)
        loading = asyncio.create_task(load(net.engine, 2))
        await sprung(trap)
        await settled(loading)
    assert isinstance(loading.exception(), dl.ConnectionLost)
    await assert_goes_on(net, 2)


def said_at_least(loading: asyncio.Task[object]) -> bool:
    """Whether a cancelled load says that one chunk more than it counts may be committed."""
    with pytest.raises(asyncio.CancelledError) as raised:
        loading.result()
    return any("at least" in note for note in getattr(raised.value, "__notes__", []))


@by_workers
@at_each_place
async def test_a_load_goes_on_by_itself_when_the_network_thaws(
    place: str, workers: int, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the network had kept arrives late: a commit that the load has long given up on, for one."""
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.7)
    trap = net.proxy.at(PLACES[place], "freeze", nth=nth_of(place, seeded()))
    loading = asyncio.create_task(load(net.engine, workers))
    await sprung(trap)
    await asyncio.sleep(1.5)
    assert not loading.done()
    net.proxy.thaw()
    await settled(loading)
    await assert_exact(net.direct, loading.result())
    assert net.engine.pool.checkedout() == 0


async def assert_unharmed(net: Net, workers: int, trap: Trap) -> None:
    """A load whose connection breaks once is exact without the user."""
    report = await asyncio.wait_for(load(net.engine, workers), 30)
    assert trap.sprung.is_set()
    assert net.engine.pool.checkedout() == 0
    await assert_exact(net.direct, report)
    await start_anew(net.direct)


@by_workers
async def test_a_reset_in_the_middle_of_a_copy_is_tried_again(workers: int, net: Net) -> None:
    moments = seeded()
    for _ in range(RESETS):
        trap = net.proxy.at(network.copy_data, "reset", nth=moments.randint(1, 300))
        await assert_unharmed(net, workers, trap)


@by_workers
async def test_a_commit_whose_outcome_is_unknown_is_settled_by_the_ledger(workers: int, net: Net) -> None:
    """Half of them were committed and half of them not; the first commit enters the load, the last one its end."""
    moments = seeded()
    for number in range(LOST_COMMITS // 2):
        act: Act = "lose the reply" if number % 2 else "reset"
        trap = net.proxy.at(network.commit, act, nth=moments.randint(1, ROWS // CHUNK_ROWS + 2))
        await assert_unharmed(net, workers, trap)


async def load_slowly(engine: AsyncEngine, workers: int) -> dl.LoadReport:
    """Load from a source that keeps the workers waiting between two chunks."""

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        for batch in orders().to_batches(max_chunksize=CHUNK_ROWS):
            await asyncio.sleep(0.1)
            yield batch

    given = {"engine": engine, "commit": "chunk", "chunk_rows": CHUNK_ROWS, "workers": workers}
    return await dl.load_batches(batches(), "orders", **given)


@by_workers
async def test_a_backend_that_is_terminated_between_two_chunks_is_replaced(workers: int, net: Net) -> None:
    """The server's farewell is there already, the end of the connection is not: the next statement finds it so."""
    net.proxy.linger = 0.3
    loading = asyncio.create_task(load_slowly(net.engine, workers))
    for _ in range(4):
        await asyncio.sleep(0.2)
        await fetch(net.direct, IDLE_WORKERS)
    await settled(loading)
    await assert_exact(net.direct, loading.result())
    assert net.engine.pool.checkedout() == 0


@pytest.mark.parametrize("act", ["reset", "lose the reply"])
async def test_rejects_of_a_chunk_whose_commit_is_in_doubt_are_kept_once(net: Net, act: Act) -> None:
    """The first commit enters the load, the second one is that of the first chunk."""
    await execute(net.direct, "ALTER TABLE orders ADD CHECK (id NOT IN (5, 2500))")
    for nth in (2, 3):
        trap = net.proxy.at(network.commit, act, nth=nth)
        report = await load(net.engine, 1, on_invalid="reject", load_id=f"load {nth}")
        assert trap.sprung.is_set()
        assert report.rejects["reject_row"].tolist() == [5, 2500]
        assert (report.loaded, report.rejected) == (ROWS - 2, 2)
    kept = "SELECT load_id, reject_row FROM dataloader_rejects ORDER BY 1, 2"
    assert await fetch(net.direct, kept) == [(f"load {nth}", row) for nth in (2, 3) for row in (5, 2500)]
    assert await fetch(net.direct, "SELECT count(*), count(DISTINCT id) FROM orders") == [(2 * ROWS - 4, ROWS - 2)]


@pytest.mark.parametrize("named", [{}, {"load_id": "may"}], ids=["without a name", "with a name"])
async def test_a_commit_that_the_driver_gives_up_is_in_doubt(
    net: Net, postgres_url: sa.URL, monkeypatch: pytest.MonkeyPatch, named: dict[str, str]
) -> None:
    """The server commits, and its reply takes longer than the driver's command_timeout."""
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 60)
    engine = create_async_engine(net.proxy.url(postgres_url), connect_args={"command_timeout": 0.5})
    net.proxy.at(network.commit, "freeze the reply", nth=2 if named else 1)
    given: Any = {"engine": engine, "progress": "none", "commit": "load", **named}
    with pytest.raises(dl.ConnectionLost, match="did not answer within the driver's command_timeout") as caught:
        await dl.load_dataframe({"id": [1]}, "few", **given)
    net.proxy.thaw()
    await engine.dispose()
    assert (caught.value.committed_rows, "Nothing was written" in str(caught.value)) == (None, False)
    assert (caught.value.resume_call is not None) == bool(named)
    assert await fetch(net.direct, "SELECT id FROM few") == [(1,)]


async def test_a_shard_whose_entry_is_committed_without_a_reply_is_entered_once(net: Net) -> None:
    """The first commit makes the ledger's tables and the table, and enters the shard."""
    trap = net.proxy.at(network.commit, "lose the reply")
    given: Any = {"engine": net.engine, "load_id": "june", "shard": (1, 1), "progress": "none"}
    report = await dl.load_dataframe({"id": [1, 2]}, "few", **given)
    assert trap.sprung.is_set()
    assert (report.loaded, report.already_loaded) == (2, 0)
    assert await fetch(net.direct, "SELECT id FROM few ORDER BY id") == [(1,), (2,)]
    entered = "SELECT load_id, state, loaded FROM dataloader_loads ORDER BY load_id"
    assert await fetch(net.direct, entered) == [("june", "finished", 2), ("june [1/1]", "finished", 2)]
