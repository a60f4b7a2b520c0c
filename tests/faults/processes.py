"""Loads in processes of their own, which can be killed: a nursery imports dataloader once and forks one for each.

The nursery has neither an event loop nor an engine, so that what it forks is as good as a new interpreter, in
milliseconds. A test talks to a process over a socket of its own: its pid, then that it is loading, then how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

import dataloader as dl

IMPORTED_LATE = ("aiosqlite", "asyncpg", "pandas")
"""What a load imports when it needs it: once in the nursery, not in every process."""
LONGEST_SECONDS = 90.0
"""A load that takes longer hangs."""


@dataclass(frozen=True, slots=True)
class Order:
    """A load: the same order gives the same rows.

    Attributes
    ----------
    loader : str
        ``batches``, from a generator, or ``dataframe``, all rows in memory.
    pause : float
        How many seconds the generator rests before each batch.
    start : int
        The number of the first row, where it is a part of more.
    """

    url: str
    table: str
    rows: int
    chunk_rows: int
    loader: str = "batches"
    pause: float = 0.0
    start: int = 0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a load ended: ``loaded``, or the name of its error and what it says."""

    pid: int
    what: str
    text: str = ""
    loaded: int = 0
    already_loaded: int = 0


class LoaderProcess:
    """A load in a process of its own."""

    def __init__(self, pid: int, reader: asyncio.StreamReader) -> None:
        self.pid = pid
        self._process = psutil.Process(pid)  # which is never a later one of the same number
        self._reader = reader
        self._ending: Ending | None = None

    async def loading(self) -> None:
        """Wait until it begins to load."""
        await self._heard("loading")

    async def ended(self) -> Ending:
        """Wait until it has ended by itself, and its process is gone."""
        await self._heard("ended")
        await self._gone()
        assert self._ending is not None, "the process of the load died by itself"
        return self._ending

    async def has_ended_within(self, seconds: float) -> bool:
        """Let it work for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard("ended")
        return self._ending is not None

    async def kill(self) -> bool:
        """SIGKILL it, and tell whether that hit it before its end."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()
        await self._heard("ended")
        await self._gone()
        return self._ending is None

    async def freeze(self) -> None:
        """SIGSTOP it."""
        self._process.suspend()
        await until(lambda: self._status() == psutil.STATUS_STOPPED)

    def thaw(self) -> None:
        """SIGCONT it."""
        self._process.resume()

    async def _heard(self, word: str) -> None:
        """Read what it says up to a word, or to its last one."""
        with contextlib.suppress(ConnectionResetError):  # as above
            async with asyncio.timeout(LONGEST_SECONDS):
                await self._hear(word)

    async def _hear(self, word: str) -> None:
        while self._ending is None and (line := await self._reader.readline()):
            message = json.loads(line)
            if "ended" in message:
                self._ending = Ending(self.pid, *message["ended"])
            if word in message:
                return

    async def _gone(self) -> None:
        """Its sockets close a moment before it is gone from the list of processes, or waits there to be buried."""
        await until(lambda: self._status() in {None, psutil.STATUS_ZOMBIE})

    def _status(self) -> str | None:
        """What the kernel says of it, None if it is gone."""
        try:
            return self._process.status() if self._process.is_running() else None
        except psutil.NoSuchProcess:
            return None


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what no event tells of, and no longer than something hangs."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - that is what it is for
            await asyncio.sleep(0.001)


class Nursery:
    """Starts processes that load."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.asynccontextmanager
    async def loader(self, order: Order) -> AsyncIterator[LoaderProcess]:
        """A process that carries out an order; it is dead by the end of the block."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        process = LoaderProcess(json.loads(await reader.readline())["pid"], reader)
        writer.write(json.dumps(asdict(order)).encode() + b"\n")
        try:
            yield process
        finally:
            await process.kill()
            writer.close()
            with contextlib.suppress(ConnectionResetError):  # it was killed before it had read its order
                await writer.wait_closed()


@contextlib.contextmanager
def open_nursery(*, buries: bool = True) -> Iterator[Nursery]:
    """A nursery; it ends with the block, or with the process that opened it, and all that it has started with it.

    Parameters
    ----------
    buries : bool
        Whether it waits for what it has started, or leaves zombies, as many a container's first process does.
    """
    command = [sys.executable, "-m", __name__, "buries" if buries else "leaves zombies"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "DATALOADER_PROGRESS": "none"}
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="dlk-") as folder:
        path = Path(folder) / "socket"
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
        with subprocess.Popen([*command, path], cwd=root, env=environment, **pipes) as nursery:
            assert nursery.stdout is not None
            assert nursery.stdout.readline() == b"ready\n"
            yield Nursery(path)


def nurse(path: str, *, buries: bool) -> None:
    """Fork a process for each connection, until the standard input is closed."""
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN if buries else signal.SIG_DFL)  # ignored: the kernel buries them
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _serve(connection)
    os.killpg(0, signal.SIGKILL)  # those that are frozen too


def _serve(connection: socket.socket) -> None:
    """Carry out an order and end the process, whatever happens."""
    try:
        with connection, connection.makefile("rw") as stream:

            def tell(**message: Any) -> None:
                print(json.dumps(message), file=stream, flush=True)

            tell(pid=os.getpid())
            order = Order(**json.loads(stream.readline()))
            tell(ended=_ending(order, tell))
    finally:
        os._exit(0)


def _ending(order: Order, tell: Callable[..., None]) -> tuple[str, str, int, int]:
    try:
        report = asyncio.run(_load(order, tell))
    except dl.DataLoaderError as error:
        return type(error).__name__, str(error), 0, 0
    except BaseException as error:
        return type(error).__name__, traceback.format_exc(), 0, 0
    return "loaded", str(report.warnings), report.loaded, report.already_loaded


async def _load(order: Order, tell: Callable[..., None]) -> dl.LoadReport:
    options = {"engine": order.url, "commit": "chunk", "chunk_rows": order.chunk_rows, **order.options}
    if order.loader == "batches":
        return await dl.load_batches(batches(order, tell), order.table, **options)
    orders = pa.Table.from_batches(batches(order))
    tell(loading=True)
    return await dl.load_dataframe(orders, order.table, **options)


def batches(order: Order, tell: Callable[..., None] = lambda **_: None) -> Iterator[pa.RecordBatch]:
    """The rows of an order; the plan has been made by the time that the second batch is asked for."""
    for number, first in enumerate(range(0, order.rows, order.chunk_rows)):
        if number == 1:
            tell(loading=True)
        time.sleep(order.pause)
        yield _batch(order.start + first, order.start + min(first + order.chunk_rows, order.rows))


def _batch(first: int, end: int) -> pa.RecordBatch:
    ids = pa.array(np.arange(first, end))
    names = pc.binary_join_element_wise("order", pc.cast(ids, pa.string()), " ")
    every_seventh = pa.array(np.arange(first, end) % 7 == 0)
    notes = pc.if_else(every_seventh, pa.scalar(None, pa.string()), names)
    return pa.record_batch({"id": ids, "note": notes, "amount": pc.divide(pc.cast(ids, pa.float64()), 8.0)})


if __name__ == "__main__":
    nurse(sys.argv[2], buries=sys.argv[1] == "buries")
