"""The loop goes on while a million rows are loaded: nothing that takes long runs in it."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.conversion.text import to_text
from dataloader.reading.lines import csv_lines, json_lines
from dataloader.sources.tables import open_dataframe
from tests.conftest import fetch

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.any_version]

ROWS = 1_000_000
LONGEST_SECONDS = 0.1
TRIES = 3
"""On a busy machine a callback may be kept waiting for the processor; one that blocks does so every time."""


class Stalls:
    """Watches every callback of the loop: the longest, by the clock and by what it cost the loop's own thread."""

    def __init__(self) -> None:
        self.seconds = self.work = 0.0
        self.who = ""

    def watched(self, call: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
        def watching(handle: asyncio.Handle) -> None:
            began, worked = time.perf_counter(), time.thread_time()
            call(handle)
            seconds = time.perf_counter() - began
            self.work = max(self.work, time.thread_time() - worked)
            if seconds > self.seconds:
                self.seconds, self.who = seconds, repr(handle)

        return watching


@pytest.fixture
def a_heap_of_its_own() -> Iterator[None]:
    """What the tests before have left takes the garbage collector half a second, in whichever thread it is due."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, a_heap_of_its_own: None) -> Callable[[], Stalls]:
    run = asyncio.events.Handle._run  # type: ignore[attr-defined]

    def begin() -> Stalls:
        stalls = Stalls()
        monkeypatch.setattr(asyncio.events.Handle, "_run", stalls.watched(run))
        return stalls

    return begin


async def assert_never_stalls(watch: Callable[[], Stalls], load: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    for _ in range(TRIES):
        stalls = watch()
        await asyncio.create_task(load())  # whose last callback has been watched when this one goes on
        assert stalls.work < LONGEST_SECONDS, stalls.who
        if stalls.seconds < LONGEST_SECONDS:
            return
    pytest.fail(f"the loop was blocked for {stalls.seconds:.3f} s by {stalls.who}")


def frame() -> pd.DataFrame:
    numbers = np.arange(ROWS)
    return pd.DataFrame(
        {
            "id": numbers,
            "amount": pd.Series(numbers / 4, dtype="float64"),
            "status": pd.Categorical.from_codes(numbers % 3, ["new", "paid", "sent"]),
            "note": pd.array(pa.array(numbers).cast(pa.string()), dtype="string"),
            "at": pd.Timestamp("2024-05-17", tz="UTC") + pd.to_timedelta(numbers, unit="s"),
        }
    )


def dicts() -> Iterator[dict[str, Any]]:
    return ({"id": number, "amount": Decimal(number) / 4} for number in range(ROWS // 4))


async def test_a_frame_of_a_million_rows_never_blocks_the_loop(
    database: AsyncEngine, watch: Callable[[], Stalls]
) -> None:
    data = frame()
    await assert_never_stalls(watch, lambda: dl.load_dataframe(data, "t", engine=database, if_exists="replace"))
    assert await fetch(database, "SELECT count(*), count(DISTINCT id) FROM t") == [(ROWS, ROWS)]


async def test_a_million_rows_of_which_some_are_rejected_never_block_the_loop(
    postgres: AsyncEngine, watch: Callable[[], Stalls]
) -> None:
    data = frame().drop(columns=["note", "at"])
    data.loc[::1000, "amount"] = 0.123
    dtype = {"amount": sa.Numeric(12, 2)}
    options: Any = {"engine": postgres, "if_exists": "replace", "on_invalid": "reject", "dtype": dtype}
    await assert_never_stalls(watch, lambda: dl.load_dataframe(data, "t", **options))
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(ROWS - ROWS // 1000,)]


async def test_a_file_of_a_million_rows_never_blocks_the_loop(
    postgres: AsyncEngine, tmp_path: Path, watch: Callable[[], Stalls]
) -> None:
    frame().to_parquet(tmp_path / "orders.parquet")
    options: Any = {"engine": postgres, "if_exists": "replace", "commit": "load"}
    await assert_never_stalls(watch, lambda: dl.load_files(tmp_path / "orders.parquet", "t", **options))
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(ROWS,)]


async def test_a_stream_of_dicts_never_blocks_the_loop(postgres: AsyncEngine, watch: Callable[[], Stalls]) -> None:
    options: Any = {"engine": postgres, "if_exists": "replace", "commit": "load"}
    await assert_never_stalls(watch, lambda: dl.load_rows(dicts(), "t", **options))
    assert await fetch(postgres, "SELECT count(*) FROM t") == [(ROWS // 4,)]


async def longest_wait(work: Callable[[], object]) -> float:
    """How long the loop waits at most for its turn while a thread works."""
    longest, last = 0.0, time.perf_counter()
    working = asyncio.create_task(asyncio.to_thread(work))
    while not working.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


@pytest.mark.parametrize("spell", [csv_lines, json_lines])
async def test_lists_are_spelled_in_steps_between_which_the_loop_has_its_turn(
    spell: Callable[[pa.RecordBatch], bytes], a_heap_of_its_own: None
) -> None:
    batch = pa.record_batch({"a": [[number, number + 1, None] for number in range(200_000)]})
    for _ in range(TRIES):
        wait = await longest_wait(lambda: spell(batch))
        if wait < 2 * LONGEST_SECONDS:  # as one list of objects 0.4 s and more
            return
    pytest.fail(f"the loop waited for {wait:.3f} s")


async def test_bytes_of_many_megabytes_are_spelled_while_the_loop_has_its_turn(a_heap_of_its_own: None) -> None:
    values = pa.array([bytes(100_000_000)])
    for _ in range(TRIES):
        wait = await longest_wait(lambda: to_text(values))
        if wait < 2 * LONGEST_SECONDS:  # by Python half a second and more
            return
    pytest.fail(f"the loop waited for {wait:.3f} s")


OBJECTS: dict[str, Callable[[int], object]] = {
    "decimals": lambda number: Decimal(number) / 4,
    "datetimes": lambda number: dt.datetime(2024, 5, 17) + dt.timedelta(seconds=number),
    "lists": lambda number: [number, None],
}


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
async def test_objects_become_arrow_in_steps_between_which_the_loop_has_its_turn(
    make: Callable[[int], object], a_heap_of_its_own: None
) -> None:
    data = pd.DataFrame({"c": pd.Series(map(make, range(ROWS)), dtype=object)})
    for _ in range(TRIES):
        wait = await longest_wait(lambda: open_dataframe(data))
        if wait < 2 * LONGEST_SECONDS:  # at once, decimals take 2 s, datetimes 0.3 and lists 0.4
            return
    pytest.fail(f"the loop waited for {wait:.3f} s")


def sleeps() -> None:
    time.sleep(0.15)


def computes() -> None:
    end = time.thread_time() + 0.15
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("block", [sleeps, computes])
async def test_the_watch_sees_what_blocks_the_loop(block: Callable[[], None], watch: Callable[[], Stalls]) -> None:
    async def load() -> None:
        await asyncio.sleep(0)
        block()

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await assert_never_stalls(watch, load)
