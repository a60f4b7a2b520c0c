"""A slow stream is committed as time goes by, and one that is continued is stored once all the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import FULL, execute, fetch

pytestmark = pytest.mark.any_version

CHUNK, LOOK = 0.05, 0.01
ROWS = 60
ROUNDS = 20 if FULL else 1
SEED = int(os.environ.get("DATALOADER_SEED", "6"))
MADE = "CREATE TABLE t (id bigint, note text)"
CHUNKS = "SELECT first_row, rows FROM dataloader_chunks ORDER BY first_row"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of slow streams are shorter here."""
    monkeypatch.setattr("dataloader.transactions.CHUNK_SECONDS", CHUNK)
    monkeypatch.setattr("dataloader.sources.rows.PEEKED_SECONDS", CHUNK)
    monkeypatch.setattr("dataloader.sources.cuts.LOOK_SECONDS", LOOK)
    for module in ("chunks", "cutting"):
        monkeypatch.setattr(f"dataloader.loading.{module}.BUFFER_SECONDS", 2 * CHUNK)


def note(number: int) -> Any:
    """Text, mostly; sometimes only numbers come for a while, and are inferred as such."""
    return [f"n{number}", None, number, number + 0.5][number // 7 % 4]


def wait(rng: random.Random) -> float:
    return rng.choice([0.0, 0.0, 0.001, 0.01, 0.08])


class Endless:
    """Some rows that come slowly, at random; then nothing, as of a queue that somebody may fill yet."""

    def __init__(self, rows: int = ROWS, seed: int | None = None, bad: frozenset[int] = frozenset()) -> None:
        self._rows, self._random, self._bad = rows, random.Random(seed), bad
        self.is_over = threading.Event()

    def dicts(self) -> Iterator[dict[str, Any]]:
        for number in range(self._rows):
            time.sleep(wait(self._random))
            yield self._row(number)
        self.is_over.wait()

    async def async_dicts(self) -> AsyncIterator[dict[str, Any]]:
        for number in range(self._rows):
            await asyncio.sleep(wait(self._random))
            yield self._row(number)
        while not self.is_over.is_set():  # noqa: ASYNC110 - other kinds wait in a thread
            await asyncio.sleep(0.01)

    def _row(self, number: int) -> dict[str, Any]:
        return {"id": "x" if number in self._bad else number, "note": note(number)}

    def batches(self) -> Iterator[pa.RecordBatch]:
        for row in self.dicts():
            yield batch_of(row)

    async def async_batches(self) -> AsyncIterator[pa.RecordBatch]:
        async for row in self.async_dicts():
            yield batch_of(row)

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(batch_of({"id": 0, "note": ""}).schema, self.batches())


def batch_of(row: dict[str, Any]) -> pa.RecordBatch:
    value = row["note"]
    return pa.record_batch(
        {"id": pa.array([row["id"]], pa.int64()), "note": [None if value is None else str(value)]}
    ).cast(pa.schema([("id", pa.int64()), ("note", pa.string())]))


KINDS: dict[str, tuple[Any, Callable[[Endless], Any]]] = {
    "rows": (dl.load_rows, Endless.dicts),
    "async rows": (dl.load_rows, Endless.async_dicts),
    "batches": (dl.load_batches, Endless.batches),
    "async batches": (dl.load_batches, Endless.async_batches),
    "reader": (dl.load_dataframe, Endless.reader),
}


async def until_stored(database: AsyncEngine, rows: int) -> None:
    async with asyncio.timeout(10):
        while await fetch(database, "SELECT count(*) FROM t") != [(rows,)]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in KINDS), ("rows", {"load_id": "slow"})], ids=[*KINDS, "named"]
)
async def test_what_has_come_of_a_stream_is_committed_though_nothing_comes_any_more(
    database: AsyncEngine, kind: str, options: dict[str, Any]
) -> None:
    await execute(database, MADE)
    loader, make = KINDS[kind]
    stream = Endless(9)
    loading = asyncio.create_task(loader(make(stream), "t", engine=database, **options))
    await until_stored(database, 9)
    assert not loading.done()
    stream.is_over.set()
    assert (await loading).loaded == 9


def expected(bad: frozenset[int]) -> list[tuple[int, Any]]:
    numbers = [number for number in range(ROWS) if number not in bad]
    return [(number, None if note(number) is None else str(note(number))) for number in numbers]


async def stopped(loading: asyncio.Task[dl.LoadReport], seconds: float) -> dl.LoadReport | None:
    """Cancel a load after a while; its report if it had ended by itself."""
    await asyncio.wait({loading}, timeout=seconds)
    if loading.done():
        return loading.result()
    loading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loading
    return None


NAMED = [*itertools.product(KINDS, ["slow", None])] if FULL else [("rows", "slow"), ("batches", None)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), NAMED)
async def test_a_slow_stream_that_is_cancelled_anywhere_is_stored_once(
    database: AsyncEngine, kind: str, name: str | None
) -> None:
    rng = random.Random(f"{SEED} {kind} {name}")
    loader, make = KINDS[kind]
    bad = frozenset(range(5, ROWS, 11)) if loader is dl.load_rows else frozenset[int]()
    borders = set()
    for round_ in range(ROUNDS):
        await execute(database, "DROP TABLE IF EXISTS t", MADE)
        options: dict[str, Any] = {
            "engine": database,
            "load_id": name and f"{name} {round_}",
            "chunk_rows": rng.choice([5, 1_000]),
            "workers": rng.choice([1, 2, 3]),
            "commit": "chunk",
            "on_invalid": "reject",
        }
        runs, report = 0, None
        while report is None:
            runs += 1
            stream = Endless(seed=rng.randrange(1_000), bad=bad)
            if runs > 2:
                stream.is_over.set()
            loading = asyncio.create_task(loader(make(stream), "t", resume=True, **options))
            report = await stopped(loading, rng.uniform(0.1, 1.2) if runs < 3 else 60)
            stream.is_over.set()
        assert await fetch(database, "SELECT id, note FROM t ORDER BY id") == expected(bad), (SEED, round_)
        assert (report.read + report.already_loaded, len(report.rejects)) == (ROWS, len(bad))
        borders.add(tuple(await fetch(database, CHUNKS)))
        await execute(database, "DELETE FROM dataloader_loads", "DELETE FROM dataloader_chunks")
    assert len(borders) > 1 or not FULL  # it was time that has cut them


@pytest.mark.slow
async def test_a_stream_whose_load_was_not_finished_is_recognized_however_slowly_it_comes(
    database: AsyncEngine,
) -> None:
    await execute(database, MADE)
    begun = Endless(9)
    loading = asyncio.create_task(dl.load_rows(begun.dicts(), "t", engine=database))
    await until_stored(database, 9)
    await stopped(loading, 0)
    begun.is_over.set()
    again = Endless(20)
    again.is_over.set()
    with pytest.raises(dl.UnfinishedLoad, match="9 rows committed"):
        await dl.load_rows(again.dicts(), "t", engine=database)
    report = await dl.load_rows(again.dicts(), "t", engine=database, resume=True)
    assert (report.loaded, report.already_loaded) == (11, 9)
    report = await dl.load_rows(again.dicts(), "t", engine=database, resume=True)
    assert (report.loaded, report.already_loaded) == (0, 20)
    assert await fetch(database, "SELECT count(*) FROM t") == [(20,)]


async def test_a_slow_stream_that_has_changed_is_refused(database: AsyncEngine) -> None:
    await execute(database, MADE)
    begun = Endless(9)
    loading = asyncio.create_task(dl.load_rows(begun.dicts(), "t", engine=database, load_id="slow"))
    await until_stored(database, 9)
    await stopped(loading, 0)
    begun.is_over.set()
    other = [{"id": number, "note": "other" if number == 8 else note(number)} for number in range(9)]
    with pytest.raises(dl.SourceChanged):
        await dl.load_rows(iter(other), "t", engine=database, load_id="slow", resume=True)
    with pytest.raises(dl.SourceChanged):
        await dl.load_rows(iter(other[:5]), "t", engine=database, load_id="slow", resume=True)
    assert await fetch(database, "SELECT count(*) FROM t") == [(9,)]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("error", "however slowly they come (duplicates='last' has them committed"),
        ("last", "or what has come in 0.05 s"),
    ],
)
async def test_time_does_not_decide_which_rows_with_one_key_are_refused(
    database: AsyncEngine, how: Any, says: str
) -> None:
    await execute(database, "CREATE TABLE t (id bigint PRIMARY KEY, note text)")
    options: dict[str, Any] = {"on_conflict": "update", "duplicates": how, "load_id": "keys"}
    stream = Endless(2)
    stream.is_over.set()
    plan = await dl.plan_load(stream.reader(), "t", engine=database, **options)
    assert says in str(plan)
