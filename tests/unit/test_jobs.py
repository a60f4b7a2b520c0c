"""Loads in the background without a kernel: awaited, paused, cancelled, failing, shown twice, several at once."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import dataloader as dl
from dataloader import jobs
from dataloader.display.state import State
from dataloader.jobs import Display

ROWS, CHUNK_ROWS = 20_000, 1_000


def slow(pause: float = 0.02) -> pa.RecordBatchReader:
    """A reader that rests before each of its batches."""

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, ROWS, CHUNK_ROWS):
            time.sleep(pause)
            yield pa.record_batch({"id": range(start, start + CHUNK_ROWS)})

    return pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), batches())


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., dl.LoadJob]:
    def start(data: object, table: str = "t", **options: Any) -> dl.LoadJob:
        given: Any = {"progress": "none", "commit": "chunk", "chunk_rows": CHUNK_ROWS, **options}
        return dl.start_load(data, table, engine=f"sqlite:///{tmp_path / table}.db", **given)

    return start


def stored(folder: Path, table: str = "t") -> int:
    with contextlib.closing(sqlite3.connect(folder / f"{table}.db")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - that is what it is for
            await asyncio.sleep(0.005)


def rows_of(job: dl.LoadJob) -> int:
    return 0 if job.progress is None else job.progress.rows


class Recorder:
    """A view that tells when two threads draw it at once, or when it is drawn after its end."""

    interval = 0.0
    fails = False

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._drawing = threading.Lock()

    def _record(self, event: str) -> None:
        assert self._drawing.acquire(blocking=False), "two threads draw at once"
        time.sleep(0.002)
        self.seen.append(event)
        self._drawing.release()
        if self.fails:
            raise RuntimeError("the display is gone")

    def open(self, _state: State, _cancel: object) -> None:
        time.sleep(0.01)
        self._record("open")

    def update(self, _state: State) -> None:
        self._record("update")

    def close(self, _state: State) -> None:
        self._record("close")


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    made: list[Recorder] = []

    def choose(_asked: str, in_other_thread: bool) -> Recorder:
        made.append(Recorder())
        return made[-1]

    monkeypatch.setattr(jobs, "choose_view", choose)
    return made


async def test_a_job_has_a_report_when_it_has_ended_and_not_before(start: Callable[..., dl.LoadJob]) -> None:
    job = start(slow())
    assert not job.done()
    assert job.report is None
    report = await job
    assert report is job.report is await job
    assert job.done()
    assert (report.loaded, rows_of(job)) == (ROWS, ROWS)


async def test_a_paused_job_stores_nothing_until_it_is_resumed(
    start: Callable[..., dl.LoadJob], tmp_path: Path
) -> None:
    job = start(slow())
    await until(lambda: rows_of(job) > 0)
    job.pause()
    assert job.progress is not None
    await asyncio.sleep(0.3)
    before = stored(tmp_path)
    await asyncio.sleep(0.3)
    assert (stored(tmp_path), job.progress.phase, job.done()) == (before, "paused", False)
    assert before < ROWS
    job.resume()
    assert (await job).loaded == stored(tmp_path) == ROWS


async def test_a_cancelled_job_says_what_is_committed_and_goes_on_exactly(
    start: Callable[..., dl.LoadJob], tmp_path: Path
) -> None:
    job = start(slow())
    await until(lambda: rows_of(job) > 0)
    job.cancel()
    with pytest.raises(dl.LoadCancelled) as raised:
        await asyncio.wait_for(job, 10)
    assert f"{stored(tmp_path):,} rows are committed" in str(raised.value)
    assert job.done()
    assert job.report is None
    again = await start(slow(0), resume=True)
    assert again.loaded + again.already_loaded == stored(tmp_path) == ROWS


async def test_a_job_that_is_cancelled_at_once_ends(start: Callable[..., dl.LoadJob]) -> None:
    """From another loop, and in the background loop itself, where the cancel comes before its first step."""

    async def cancelled() -> None:
        job = start(slow())
        job.cancel()
        with pytest.raises(dl.LoadCancelled):
            await job

    async with asyncio.timeout(10):
        await cancelled()
        await asyncio.to_thread(dl.run, cancelled())


async def test_a_paused_job_can_be_cancelled(start: Callable[..., dl.LoadJob]) -> None:
    job = start(slow())
    await until(lambda: rows_of(job) > 0)
    job.pause()
    job.cancel()
    with pytest.raises(dl.LoadCancelled):
        await asyncio.wait_for(job, 10)


async def test_a_wait_that_is_given_up_leaves_the_job_alone(start: Callable[..., dl.LoadJob]) -> None:
    job = start(slow())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job, 0.15)
    assert not job.done()
    assert (await job).loaded == ROWS


async def test_a_job_that_fails_raises_where_it_is_awaited(start: Callable[..., dl.LoadJob]) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"id": range(CHUNK_ROWS)})
        raise ValueError("the disk is gone")

    job = start(pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), broken()))
    with pytest.raises(Exception, match="the disk is gone"):
        await job
    assert job.done()
    assert job.report is None
    assert "failed" in repr(job)


async def test_wrong_options_are_refused_where_the_job_is_started(start: Callable[..., dl.LoadJob]) -> None:
    with pytest.raises(dl.PlanError, match="if_exists"):
        start({"id": [1]}, if_exists="overwrite")


async def test_an_unknown_option_is_refused_before_a_slow_source_is_opened() -> None:
    with pytest.raises(dl.PlanError, match="if_exist"):
        dl.start_load(Slow(threading.Event()), "t", if_exist="append")  # type: ignore[call-arg]


class Slow:
    """A query that takes as long as one likes to begin."""

    def __init__(self, ready: threading.Event, error: Exception | None = None) -> None:
        self._ready, self._error = ready, error

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        self._ready.wait(20)
        if self._error is not None:
            raise self._error
        return pa.table({"id": [1, 2]}).__arrow_c_stream__(requested_schema)


async def test_a_slow_source_is_opened_after_the_cell_has_returned(
    start: Callable[..., dl.LoadJob], views: list[Recorder]
) -> None:
    ready = threading.Event()
    job = start(Slow(ready))
    assert (job.progress.phase, job.done(), views[0].seen) == ("opening", False, ["open"])
    assert "Slow: opening" in repr(job)
    ready.set()
    assert (await job).loaded == 2
    assert (views[0].seen[0], views[0].seen.count("open"), views[0].seen[-1]) == ("open", 1, "close")
    assert "Slow → t: done" in repr(job)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_source_that_does_not_open_ends_its_display_and_is_told_where_the_job_is_awaited(
    start: Callable[..., dl.LoadJob], views: list[Recorder], how: str
) -> None:
    ready = threading.Event()
    job = start(Slow(ready, ValueError("the query is wrong")))
    job.cancel() if how == "is cancelled" else ready.set()
    with pytest.raises((ValueError, dl.LoadCancelled), match=r"wrong|cancelled"):
        await job
    ready.set()
    assert (job.progress.phase, views[0].seen[-1]) == ("failed" if how == "fails" else "cancelled", "close")


async def test_several_jobs_go_on_side_by_side(start: Callable[..., dl.LoadJob], tmp_path: Path) -> None:
    started = [start(slow(), f"t{number}") for number in range(3)]
    await until(lambda: all(rows_of(job) > 0 for job in started))
    assert not any(job.done() for job in started)
    reports = await asyncio.gather(*started)
    assert [report.loaded for report in reports] == [ROWS] * 3
    assert [stored(tmp_path, f"t{number}") for number in range(3)] == [ROWS] * 3


def test_a_view_that_is_added_while_the_load_ends_is_closed_once_and_last(views: list[Recorder]) -> None:
    for updates in (0, 1, 2) * 7:
        views.clear()
        state, display = State("frame", 1), Display("auto", lambda: None)
        display.open(state, None)
        adding = threading.Thread(target=display.again, args=(state,))
        adding.start()
        for _ in range(updates):
            display.update(state)
        display.close(state)
        adding.join()
        for view in views:
            assert (view.seen[0], view.seen[-1], view.seen.count("close")) == ("open", "close", 1)


def test_a_view_that_fails_does_not_take_the_others_along(views: list[Recorder]) -> None:
    state, display = State("frame", 1), Display("auto", lambda: None)
    display.open(state, None)
    display.again(state)
    views[0].fails = True
    display.update(state)
    display.update(state)
    display.close(state)
    assert views[0].seen == ["open", "update"]
    assert views[1].seen == ["open", "update", "update", "close"]
