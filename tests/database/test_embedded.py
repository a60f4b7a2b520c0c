"""The private server starts again after every end, and follows nobody else's links."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import enterable_folder, fetch

pytestmark = pytest.mark.slow

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
NOBODY = 65534


def start(folder: Path) -> embedded.Server:
    return embedded.start(folder, embedded.find_binaries(), embedded.FAST_AND_LOOSE)


async def answers(server: embedded.Server) -> bool:
    engine = open_engine(server.url)
    try:
        return await fetch(engine, "SELECT 1") == [(1,)]
    finally:
        await engine.dispose()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The folder of a server that the tests start again and again."""
    with enterable_folder() as folder:
        yield folder / "pg"


@pytest.fixture
def killed(home: Path) -> embedded.Server:
    """A server of which nothing is left but its files."""
    server = start(home)
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)
    return server


@pytest.fixture
def stranger(killed: embedded.Server) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the server's user that has nothing to do with it."""
    process = subprocess.Popen(["/bin/sleep", "60"], cwd="/", **killed.account)
    yield process
    process.kill()
    process.wait()


def is_there(_stranger: subprocess.Popen[bytes]) -> None:
    """It lives on."""


def is_a_zombie(stranger: subprocess.Popen[bytes]) -> None:
    """As in a container whose first process does not wait for others."""
    stranger.kill()
    while psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE:
        pass


@pytest.mark.parametrize("fate", [is_there, is_a_zombie])
async def test_a_killed_server_whose_pid_another_process_has_starts_again(
    killed: embedded.Server, stranger: subprocess.Popen[bytes], fate: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    fate(stranger)
    for file in (killed.data / "postmaster.pid", *killed.sockets.glob(".s.PGSQL.*.lock")):
        _, _, rest = file.read_text().partition("\n")
        file.write_text(f"{stranger.pid}\n{rest}")
    assert await answers(start(killed.data.parent))
    assert psutil.pid_exists(stranger.pid)


async def test_a_running_server_is_found_and_not_started_again(home: Path, tmp_path: Path) -> None:
    first = start(home)
    pid_file = first.data / "postmaster.pid"
    before = pid_file.read_text()
    (tmp_path / "link").symlink_to(home)
    assert [start(path).data for path in (home, tmp_path / "link")] == [first.data] * 2
    assert pid_file.read_text() == before


@AS_ROOT
@pytest.mark.parametrize("name", ["link", "link/below", "own/below"])
def test_a_link_of_another_user_is_not_followed(server_folder: Path, name: str) -> None:
    precious = server_folder / "precious"
    precious.mkdir(mode=0o755)
    (server_folder / "link").symlink_to(precious)
    os.chown(server_folder / "link", NOBODY, NOBODY, follow_symlinks=False)
    (server_folder / "own").symlink_to("link")
    with pytest.raises(dl.PlanError, match=r"lies behind .*/link, a link of another user.*folder of your own"):
        start(server_folder / name)
    assert (precious.stat().st_uid, precious.stat().st_mode & 0o777) == (0, 0o755)
    assert list(precious.iterdir()) == []


@AS_ROOT
def test_a_folder_of_another_user_is_refused(server_folder: Path) -> None:
    folder = server_folder / "pg"
    folder.mkdir(mode=0o755)
    os.chown(folder, 1234, 1234)
    with pytest.raises(dl.PlanError, match=r"belongs to another user.*folder of your own"):
        start(folder)
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (1234, 0o755)


@AS_ROOT
@pytest.mark.parametrize("name", ["start.lock", "users.lock"])
def test_a_link_that_the_servers_user_planted_is_not_followed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start(home)
    monkeypatch.setattr(embedded, "_users", set())
    (tmp_path / "precious").write_text("precious")
    (home / name).unlink()
    (home / name).symlink_to(tmp_path / "precious")
    with pytest.raises(dl.PlanError, match=rf"cannot be used: .*links \(.*/{name}\)"):
        start(home)
    assert (tmp_path / "precious").read_text() == "precious"
    (home / name).unlink()


@AS_ROOT
def test_no_link_that_the_servers_user_planted_is_followed_by_a_copy_of_the_binaries(server_folder: Path) -> None:
    precious = server_folder / "precious"
    precious.mkdir(mode=0o755)
    (server_folder / "pg").mkdir()
    (server_folder / "pg" / "binaries").symlink_to(precious)
    with pytest.raises(NotADirectoryError):
        embedded._copied(embedded.find_binaries(), server_folder / "pg" / "binaries", embedded._account())
    assert (precious.stat().st_uid, list(precious.iterdir())) == (0, [])
