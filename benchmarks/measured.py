"""What a contender took: time, the processor's time of client and server, memory, and the loop's longest block."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

Load = Callable[[], Awaitable[object]]
REAPED_SECONDS = 0.3
"""A backend ends a moment after its client, and only then counts among those of the postmaster that have ended."""


@dataclass
class Figures:
    """Of one contender: of each round the seconds; of one more round by itself the rest.

    Attributes
    ----------
    client, server : float
        Seconds of the processor: this process with the programs that it ran, and PostgreSQL's processes.
    peak : float
        By how many MB the process' memory grew at most; a program that it runs (psql) is not in it.
    block : float or None
        For how many milliseconds the event loop was blocked at most; None: it is not asynchronous.
    """

    seconds: list[float] = field(default_factory=list)
    client: float = 0.0
    server: float = 0.0
    peak: float = 0.0
    block: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def timed(load: Load) -> float:
    before = time.perf_counter()
    await load()
    return time.perf_counter() - before


async def longest_block(load: Load) -> float:
    """For how long the loop did not answer while `load` ran, in milliseconds.

    What the contenders before have left is no garbage of this one: to look through it took 0.1 s, once in a while.
    """
    gc.collect()
    gc.freeze()
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)

    watching = asyncio.create_task(watch())
    await load()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    gc.unfreeze()
    return longest * 1000


async def examine(load: Load, reset: Load, postmaster: int | None, *, watches: bool) -> Figures:
    """Run a contender once more, and note all but its time."""
    figures = Figures()
    await reset()
    client, server = client_seconds(), server_seconds(postmaster)
    forget_peak()
    before = memory("VmRSS")
    if watches:
        figures.block = await longest_block(load)
    else:
        await load()
    figures.peak = memory("VmHWM") - before
    await asyncio.sleep(REAPED_SECONDS)
    figures.client, figures.server = client_seconds() - client, server_seconds(postmaster) - server
    return figures


def client_seconds() -> float:
    """Of this process and of the programs that have ended."""
    programs = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + programs.ru_utime + programs.ru_stime


def server_seconds(postmaster: int | None) -> float:
    """Of PostgreSQL: its postmaster, the backends that are there, and those that have ended."""
    if postmaster is None:
        return 0.0
    process = psutil.Process(postmaster)
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def postmaster_of(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def forget_peak() -> None:
    """From here on Linux counts the largest memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> float:
    """This process' memory in MB: `VmRSS` now, `VmHWM` at most."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processors": os.cpu_count(),
        "model": names[0] if names else "unknown",
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
    }
