"""The state of a running load, its views, and a view that fails."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pytest
from IPython.display import DisplayHandle

from dataloader.display import jupyter, progress
from dataloader.display import state as states
from dataloader.display.html import ProgressSnapshot
from dataloader.display.progress import LogView, Progress, TextView, choose_view
from dataloader.display.state import NoView, State


class Recorder:
    """A view that remembers what it was asked to show, and fails where it is told to."""

    interval = 0.0

    def __init__(self, fails_at: str = "") -> None:
        self.seen: list[str] = []
        self._fails_at = fails_at

    def _record(self, event: str) -> None:
        self.seen.append(event)
        if event == self._fails_at:
            raise RuntimeError("the display is gone")

    def open(self, state: State, cancel: Callable[[], None] | None) -> None:
        self.cancel = cancel
        self._record("open")

    def update(self, state: State) -> None:
        self._record("update")

    def close(self, state: State) -> None:
        self._record(f"close {state.phase}")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return use(monkeypatch, Recorder())


def use(monkeypatch: pytest.MonkeyPatch, view: Recorder) -> Recorder:
    monkeypatch.setattr(progress, "choose_view", lambda asked: view)
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.005)
    return view


def test_a_state_counts_rows_bytes_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "ETA_SECONDS", 0.0)
    state = State("DataFrame → orders", 200)
    state.advance(50, 1000)
    state.advance(50, 1500)
    assert (state.rows, state.nbytes, state.chunks, state.fraction) == (100, 2500, 2, 0.5)
    assert state.remaining is not None
    assert state.remaining > 0


def test_the_rate_of_a_running_load_is_the_recent_one_and_in_the_end_that_of_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(states.time, "perf_counter", lambda: clock[0])
    state = State("DataFrame", 10_000)
    state.resume_from(1_000)
    for _ in range(20):
        clock[0] += 1
        state.advance(10, 0)
    assert state.rate == pytest.approx(10, rel=0.3)
    for _ in range(10):
        clock[0] += 1
        state.advance(100, 0, rejected=1)
    assert state.rate == pytest.approx(100, rel=0.3)
    assert state.remaining == pytest.approx((10_000 - 2_200) / state.rate)
    state.finish("done")
    assert state.rate == pytest.approx(1_200 / 30)
    assert "2,200 of 10,000 rows, 10 rejected in 30.0 s" in str(state)


def test_a_state_of_unknown_length_has_no_fraction_and_no_remaining_time() -> None:
    state = State("stream", None)
    state.advance(50, 1000)
    assert (state.fraction, state.remaining) == (None, None)
    assert re.fullmatch(r"stream: planning 50 rows in 0\.0 s \([\d.]+( [kMG])? rows/s\)", str(state))


def test_a_source_that_gives_more_than_it_said_is_not_over_full() -> None:
    state = State("stream", 10)
    state.advance(15, 0)
    assert state.fraction == 1.0


def test_a_source_without_rows_has_no_fraction() -> None:
    assert State("empty", 0).fraction is None


def test_the_clock_of_a_state_stops_when_it_is_finished() -> None:
    state = State("DataFrame", 10)
    state.finish("failed", "the disk is full")
    seconds = state.seconds
    time.sleep(0.02)
    assert state.seconds == seconds
    assert str(state).endswith(" - the disk is full")


def test_a_state_prints_its_share_rows_and_phase() -> None:
    state = State("DataFrame → orders", 2000)
    state.phase = "loading"
    state.advance(500, 0)
    assert str(state).startswith("DataFrame → orders: loading 25% 500 of 2,000 rows in 0.0 s (")


def test_a_log_has_one_line_for_each_tenth_and_one_for_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    state, view = State("DataFrame", 1000), LogView()
    view.open(state, lambda: None)
    for _ in range(1000):
        state.advance(1, 1)
        view.update(state)
    state.finish("done")
    view.close(state)
    lines = capsys.readouterr().err.splitlines()
    assert [re.findall(r"\d+%", line)[0] for line in lines] == [f"{share}%" for share in range(10, 101, 10)]
    assert "done" in lines[-1]


def test_a_log_of_unknown_length_has_a_line_each_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.02)
    state, view = State("stream", None), LogView()
    view.open(state, lambda: None)
    view.update(state)
    assert capsys.readouterr().err == ""
    time.sleep(0.03)
    view.update(state)
    view.update(state)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_shows_a_bar_to_the_last_row(capsys: pytest.CaptureFixture[str]) -> None:
    state, view = State("DataFrame → orders", 1000), TextView()
    view.open(state, lambda: None)
    state.advance(400, 1)
    view.update(state)
    state.advance(600, 1)
    state.finish("done")
    view.close(state)
    shown = capsys.readouterr().err
    assert "DataFrame → orders: 100%" in shown
    assert "1,000 rows · " in shown
    assert "done" in shown


BAR = """
import sys
from dataloader.display.progress import TextView
from dataloader.display.state import State

state, view = State("stream of batches → " + "a" * 63 + "_end", int(sys.argv[1]) or None), TextView()
view.open(state, None)
state.phase = "loading"
state.advance(1_400_000, 1)
view.update(state)
state.phase = "committing"
view.close(state)
"""


@pytest.mark.parametrize("total", [0, 1_500_000], ids=["unknown", "known"])
def test_a_bar_is_one_line_of_a_terminal_with_all_its_numbers_however_long_its_label(total: int) -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run([sys.executable, "-c", BAR, str(total)], check=True, stdin=its, stdout=its, stderr=its)
    os.close(its)
    lines = [line.strip() for line in os.read(ours, 100_000).decode().split("\r")]
    os.close(ours)
    *_, last = filter(None, lines)
    assert max(map(len, lines)) < 80
    assert "_end: " in last
    assert "1,400,000 rows · " in last
    assert last.endswith("committing")


@pytest.mark.parametrize(("asked", "kind"), [("text", TextView), ("log", LogView), ("none", NoView)])
def test_the_view_that_is_asked_for_is_used(asked: str, kind: type[object]) -> None:
    assert type(choose_view(asked)) is kind


def test_auto_follows_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATALOADER_PROGRESS", "text")
    assert type(choose_view("auto")) is TextView
    assert type(choose_view("log")) is LogView


@pytest.mark.parametrize(("terminal", "kind"), [(True, TextView), (False, LogView)], ids=["terminal", "no terminal"])
def test_auto_outside_of_a_kernel_asks_whether_a_terminal_is_there(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type[object]
) -> None:
    monkeypatch.delenv("DATALOADER_PROGRESS")
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert type(choose_view("auto")) is kind


async def test_a_view_is_opened_updated_and_closed_with_the_end(recorder: Recorder) -> None:
    async with Progress("DataFrame", 10, "auto") as shown:
        shown.phase("loading")
        await asyncio.sleep(0.05)
    assert recorder.seen[0] == "open"
    assert "update" in recorder.seen
    assert recorder.seen[-1] == "close done"


async def test_a_view_is_not_updated_after_the_end(recorder: Recorder) -> None:
    async with Progress("DataFrame", 10, "auto"):
        pass
    await asyncio.sleep(0.03)
    assert recorder.seen == ["open", "close done"]


async def test_a_failed_load_is_shown_with_its_error(recorder: Recorder) -> None:
    shown = Progress("DataFrame", 10, "auto")
    with pytest.raises(ValueError, match="bad row"):
        async with shown:
            raise ValueError("bad row")
    assert recorder.seen == ["open", "close failed"]
    assert shown.state.error == "bad row"


async def test_a_cancelled_load_is_shown_as_such(recorder: Recorder) -> None:
    shown = Progress("DataFrame", 10, "auto")
    with pytest.raises(asyncio.CancelledError):
        async with shown:
            raise asyncio.CancelledError
    assert recorder.seen == ["open", "close cancelled"]
    assert shown.state.error == "Nothing was written"


async def test_an_interrupted_load_shows_what_it_says_is_committed(recorder: Recorder) -> None:
    shown, error = Progress("DataFrame", 10, "auto"), asyncio.CancelledError()
    error.add_note("5 rows are committed")
    with pytest.raises(asyncio.CancelledError):
        async with shown:
            raise error
    assert shown.state.error == "5 rows are committed"


async def test_a_view_cancels_the_task_that_shows_it_from_another_thread(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_receives_clicks", lambda: True)

    async def loading() -> None:
        async with Progress("DataFrame", 10, "auto"):
            await asyncio.Event().wait()

    task = asyncio.create_task(loading())
    await asyncio.sleep(0.01)
    await asyncio.to_thread(recorder.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 1)
    assert recorder.seen[-1] == "close cancelled"


@pytest.mark.parametrize("moment", ["open", "update", "close done"])
async def test_a_view_that_fails_is_dropped_and_the_load_goes_on(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    view = use(monkeypatch, Recorder(fails_at=moment))
    async with Progress("DataFrame", 10, "auto") as shown:
        await asyncio.sleep(0.05)
    assert shown.state.phase == "done"
    assert view.seen[-1] == moment
    assert view.seen.count(moment) == 1


async def test_a_view_that_cannot_be_chosen_does_not_stop_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(asked: str) -> NoView:
        raise ImportError(asked)

    monkeypatch.setattr(progress, "choose_view", broken)
    async with Progress("DataFrame", 10, "widget") as shown:
        pass
    assert shown.state.phase == "done"


async def test_a_view_is_updated_no_more_often_than_its_interval(recorder: Recorder) -> None:
    recorder.interval = 3600.0  # type: ignore[misc]
    async with Progress("DataFrame", 10, "auto"):
        await asyncio.sleep(0.05)
    assert recorder.seen == ["open", "close done"]


def test_mathjax_leaves_a_snapshot_alone() -> None:
    shown = ProgressSnapshot(State("$5 and $6", 10))._repr_html_()
    assert shown.startswith('<div class="mathjax_ignore tex2jax_ignore"')


def test_a_load_of_unknown_length_that_was_cancelled_does_not_look_complete() -> None:
    state = State("stream", None)
    state.advance(50, 304_000)
    assert "<progress " in ProgressSnapshot(state)._repr_html_()
    assert re.search(r"50 rows · .* rows/s · 304 kB · ", ProgressSnapshot(state)._repr_html_())
    state.keeps_rows = True
    state.finish("cancelled", "50 rows are committed")
    assert "width:0.0%" in ProgressSnapshot(state)._repr_html_()
    state.finish("done")
    assert "width:100.0%" in ProgressSnapshot(state)._repr_html_()


def test_a_load_that_was_rolled_back_says_that_nothing_of_it_is_in_the_table() -> None:
    state = State("DataFrame → orders", 9_000)
    state.advance(4_000, 1)
    state.end(ValueError("the disk is full"))
    shown = ProgressSnapshot(state)
    assert "0 of its rows are in the table" in shown._repr_html_()
    assert "0 of its rows are in the table" in repr(shown)
    assert "width:" not in shown._repr_html_()
    assert "the disk is full" not in shown._repr_html_()
    state.is_background = True
    assert "the disk is full" in ProgressSnapshot(state)._repr_html_()


def test_a_load_that_is_ended_while_it_commits_does_not_say_that_it_was_rolled_back() -> None:
    state = State("DataFrame → orders", 10)
    state.advance(10, 1)
    state.phase = "committing"
    state.end(ValueError("the connection is gone"))
    assert "the commit was under way" in ProgressSnapshot(state)._repr_html_()


def test_the_bytes_of_files_say_how_much_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(states.time, "perf_counter", lambda: clock[0])

    class Position:
        about_rows = 4_000.0

    state = State("orders.csv", None, Position())
    clock[0] = 2.0
    state.advance(1_000, 0)
    assert (state.fraction, state.remaining) == (0.25, 6.0)
    state.advance(4_000, 0)
    assert state.fraction == 0.99
    state.is_paused = True
    assert state.remaining is None
    state.finish("done")
    assert state.fraction == 1.0


def test_a_widget_ends_as_the_load_did_and_the_latest_twenty_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jupyter, "_display", lambda *_, **__: DisplayHandle())
    states = [State(f"frame {number}", 2) for number in range(21)]
    views = [jupyter.WidgetView() for _ in states]
    for state, view in zip(states, views, strict=True):
        view.open(state, None)
        state.finish("failed", "3.7 is <b>no</b> integer")
        view.close(state)
    assert all(">failed</b>" in view._picture.value for view in views)
    assert [view._box.comm is None for view in views] == [True] + [False] * 20
    assert views[0]._picture.comm is None


def test_the_first_row_that_was_rejected_is_shown_as_text_while_the_load_runs() -> None:
    state = State("frame", 10)
    assert "first rejected" not in ProgressSnapshot(state)._repr_html_()
    state.first_rejected = "row 3, column 'a': <b> does not fit integer"
    shown = ProgressSnapshot(state)._repr_html_()
    assert "first rejected: row 3, column &#x27;a&#x27;: &lt;b&gt; does not fit" in shown


def test_the_file_that_is_read_is_shown_while_the_load_runs() -> None:
    state = State("3 files", None, "file 2 of 3")
    assert "file 2 of 3 · 0 rows · " in ProgressSnapshot(state)._repr_html_()
    state.finish("done")
    assert "file 2" not in ProgressSnapshot(state)._repr_html_()


def test_a_read_that_gave_nothing_and_failed_is_one_line() -> None:
    state = State("SELECT * FROM nowhere")
    state.keeps_rows, state.outcome = True, "read"
    state.end(RuntimeError("there is no such table"))
    shown = ProgressSnapshot(state)._repr_html_()
    assert "0 rows read" in shown
    assert "dataloader-bar" not in shown
    assert "rows/s" not in shown
