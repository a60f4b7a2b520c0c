"""Who runs a load: a process, which may be alive or dead by the time another one asks."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import platform
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

LIVING_SECONDS = 60.0
"""A process of another host counts as alive for so long after its last commit: nothing else is known of it."""
CLOCK_SECONDS = 2.0
"""How far the start times of one process may differ when they are asked for: the clock is set now and then."""

_running: set[str] = set()
"""The tokens of the loads that run in this process."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that runs a load: `token` tells its loads apart, `started_at` a process from a later one of its pid.

    Containers may have one host name, and each has pids of its own: `pids` tells them apart, and a host's reboots.
    """

    host: str
    pid: int
    started_at: float
    token: str
    pids: str = ""

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @property
    def _is_this_process(self) -> bool:
        return self.pid == os.getpid() and self._started_then()

    def is_alive(self, seconds_since: float) -> bool:
        """Whether it still runs, as far as this host can tell."""
        if (self.host, self.pids) != (platform.node(), _pids()):
            return abs(seconds_since) < LIVING_SECONDS  # a server's clock may have been set back
        if self._is_this_process:
            return self.token in _running
        return self._started_then() and not self._has_left_word()

    def _has_left_word(self) -> bool:
        """Whether its process lives on and has said that the load has ended; nobody else's word counts."""
        import psutil  # noqa: PLC0415 - only a ledger asks for processes

        with contextlib.suppress(OSError, psutil.Error, AttributeError):  # Windows knows no users by number
            return _word(self.token).lstat().st_uid == psutil.Process(self.pid).uids().effective
        return False

    def _started_then(self) -> bool:
        started_at = _start_time(self.pid)
        return started_at is not None and abs(started_at - self.started_at) < CLOCK_SECONDS


@functools.cache
def _pids() -> str:
    """Where this process has its pid: the kernel's start, and the namespace in it; nothing where there are none."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> float | None:
    """When a process was started, None if there is none of that number, or a zombie."""
    import psutil  # noqa: PLC0415 - as above

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


@contextlib.contextmanager
def claim_ownership() -> Iterator[Owner]:
    """Own a load while the block runs."""
    owner = Owner(platform.node(), os.getpid(), _start_time(os.getpid()) or 0.0, uuid.uuid4().hex, _pids())
    _running.add(owner.token)
    try:
        yield owner
    except BaseException:
        if owner.token in _running:  # the ledger goes on to name it
            _leave_word(owner.token)
        raise
    finally:
        _running.discard(owner.token)


def let_go(owner: Owner) -> None:
    """Note that the ledger no longer names it."""
    _running.discard(owner.token)


def _leave_word(token: str) -> None:
    """Tell the processes of this host that a load has ended whose ledger could not be told so: its server was slow,
    or gone. Else they would wait for as long as this process lives, which may be a worker of a cluster."""
    word = _word(token)
    with contextlib.suppress(OSError):
        word.touch(mode=0o644, exist_ok=False)
        atexit.register(word.unlink, missing_ok=True)


def _word(token: str) -> Path:
    return Path(tempfile.gettempdir(), f"dataloader-{token}.ended")


def read_owner(text: str | None) -> Owner | None:
    """The owner that a ledger names, None if it names nobody, or in words that are not ours."""
    try:
        return Owner(**json.loads(text or "null"))
    except (ValueError, TypeError):
        return None


def shown_owner(text: str | None) -> str:
    """The owner that a ledger names, in words."""
    owner = read_owner(text)
    return "nobody" if owner is None else f"process {owner.pid} on {owner.host}"
