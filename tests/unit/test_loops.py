"""Async code from synchronous code: from a script, a running loop, threads, a fork; interrupted and misused."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import subprocess
import sys
import textwrap
import threading

import pytest

from dataloader.sync import background_loop, run

pytestmark = pytest.mark.slow


async def answer(value: object = 42) -> object:
    await asyncio.sleep(0)
    return value


async def where() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    return asyncio.get_running_loop(), threading.current_thread()


def script(code: str) -> str:
    """Run code in a process of its own, where hanging and patching harm nobody; its output."""
    lines = "import asyncio, os, signal, sys, threading, time\nfrom dataloader.sync import run\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", lines + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_script_gets_the_result() -> None:
    assert run(answer()) == 42
    assert run(answer(None)) is None


def test_an_exception_passes_through_as_it_is() -> None:
    problem = ValueError("no")

    async def failing() -> None:
        raise problem

    with pytest.raises(ValueError, match="no") as raised:
        run(failing())
    assert raised.value is problem


def test_a_coroutine_that_was_cancelled_says_so() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(cancelled())


async def test_it_works_inside_of_a_running_loop_on_another_one() -> None:
    loop, thread = run(where())
    assert loop is not asyncio.get_running_loop()
    assert thread is not threading.current_thread()


def test_the_process_has_one_loop_in_one_thread_for_all_calls() -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = [found.result() for found in [threads.submit(lambda: run(where())) for _ in range(8)]]
    assert {id(loop) for loop, _ in found} == {id(background_loop())}
    assert len({thread for _, thread in found}) == 1
    assert [one.name for one in threading.enumerate()].count("dataloader") == 1
    assert found[0][1].daemon


def test_calls_from_two_threads_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=5)

    async def meet() -> int:
        return await asyncio.to_thread(meeting.wait)

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        results = [one.result() for one in [threads.submit(lambda: run(meet())) for _ in range(2)]]
    assert sorted(results) == [0, 1]


def test_it_refuses_to_wait_for_itself() -> None:
    async def nested() -> object:
        return run(answer())

    with pytest.raises(RuntimeError, match="await the coroutine instead"):
        run(nested())
    assert run(answer()) == 42


def test_the_first_calls_of_many_threads_start_one_loop() -> None:
    assert (
        script(
            """
        from dataloader.sync import background_loop
        found = []
        threads = [threading.Thread(target=lambda: found.append(background_loop())) for _ in range(20)]
        [one.start() for one in threads]
        [one.join() for one in threads]
        print(len(set(map(id, found))), [one.name for one in threading.enumerate()].count("dataloader"))
        """
        )
        == "1 1"
    )


def test_ctrl_c_cancels_and_waits_for_the_clean_up() -> None:
    assert script(
        """
        async def work():
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)
                print("rolled back", flush=True)

        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        try:
            run(work())
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - started < 3)

        async def answer():
            return 42
        print(run(answer()))
        """
    ).splitlines() == ["rolled back", "interrupted True", "42"]


def test_a_forked_process_starts_a_loop_of_its_own() -> None:
    assert (
        script(
            """
        async def answer():
            return os.getpid()

        assert run(answer()) == os.getpid()
        child = os.fork()
        if child == 0:
            own = run(answer()) == os.getpid()
            os._exit(0 if own else 1)
        print(os.waitpid(child, 0)[1])
        """
        )
        == "0"
    )


def test_nested_runs_on_the_loop_of_the_caller() -> None:
    assert (
        script(
            """
        async def where():
            await asyncio.sleep(0.01)
            return asyncio.get_running_loop()

        async def main():
            return run(where(), nested=True) is asyncio.get_running_loop()

        print(asyncio.run(main()))
        """
        )
        == "True"
    )


def test_nested_without_a_running_loop_uses_the_loop_of_the_process() -> None:
    assert (
        script(
            """
        from dataloader.sync import background_loop

        async def where():
            return asyncio.get_running_loop()

        print(run(where(), nested=True) is background_loop(), "nest_asyncio2" in sys.modules)
        """
        )
        == "True False"
    )


def test_what_is_no_coroutine_is_refused_and_not_waited_for() -> None:
    assert (
        script(
            """
        async def answer():
            return 42

        try:
            run(answer)
        except TypeError:
            print("refused")
        """
        )
        == "refused"
    )


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt()"])
def test_a_coroutine_that_ends_the_process_does_not_leave_its_caller_waiting(error: str) -> None:
    assert script(
        f"""
        async def leave():
            raise {error}

        try:
            run(leave())
        except BaseException as raised:
            print(type(raised).__name__)

        async def answer():
            return 42
        print(run(answer()))
        """
    ).splitlines() == [error.partition("(")[0], "42"]


def test_the_callers_thread_keeps_its_own_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")

    async def change() -> None:
        variable.set("inside")

    run(change())
    assert variable.get() == "outside"
