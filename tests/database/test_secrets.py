"""A planted password is in nothing that a person or a file gets to see, however it was given and whatever fails."""

from __future__ import annotations

import asyncio
import gzip
import io
import logging
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pandas as pd
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.ultratb import VerboseTB
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dataloader as dl
from dataloader.cli import main
from dataloader.database.driver_errors import chain
from dataloader.database.engine import open_engine
from tests.conftest import execute, fetch
from tests.database.conftest import PLANTED, free_port

pytestmark = pytest.mark.any_version

PARTS = ("pl4nted", "s3cret")
"""The password is in a text, raw, encoded or cut at one of its odd characters, if one of these is."""
ENCODED = quote(PLANTED, safe="")
FRAME = pd.DataFrame({"id": [1, 2]})
BAD_FRAME = pd.DataFrame({"id": [1, "two"]})


def leaks(*shown: object) -> list[str]:
    """Where the password is, with what is around it."""
    text = "\n".join(map(str, shown))
    places = [text.find(part) for part in PARTS if part in text]
    return [text[max(0, place - 300) : place + 100] for place in places]


def everything_of(error: BaseException) -> Iterator[str]:
    """The error as it may be shown: by itself, by the interpreter, and by IPython with all local variables."""
    for one in chain(error):
        yield from (str(one), repr(one), *getattr(one, "__notes__", ()))
    yield from traceback.format_exception(error)
    yield from traceback.TracebackException.from_exception(error, capture_locals=True).format()
    yield from getattr(error, "_render_traceback_", list)()
    yield VerboseTB(include_vars=True).text(type(error), error, error.__traceback__)


given: list[Any] = []
"""Hands an engine over without a frame of the test's own that holds it."""


async def outcome(data: pd.DataFrame, **options: Any) -> Any:
    """The report or the error of a load into the given engine."""
    loading = dl.load_dataframe(data, "t", **({"engine": given.pop()} if given else {}), **options)
    return (await asyncio.gather(loading, return_exceptions=True))[0]


def _connected(url: str) -> None:
    dl.connect(url)


def _without_password(url: str) -> sa.URL:
    return sa.make_url(url.replace(f":{ENCODED}", ""))


def _connected_with_arguments(url: str) -> None:
    dl.connect(_without_password(url), connect_args={"password": PLANTED})


def _in_the_environment(url: str) -> None:
    os.environ["DATALOADER_URL"] = url


def _as_an_option(url: str) -> str:
    return _without_password(url).update_query_dict({"password": PLANTED}).render_as_string(hide_password=False)


def _own_engine_with_an_option(url: str) -> AsyncEngine:
    return _own_engine(_as_an_option(url))


def _own_engine(url: str) -> AsyncEngine:
    return create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"), echo="debug", echo_pool="debug")


WAYS: dict[str, Callable[[str], Any]] = {
    "a text": lambda url: url,
    "a URL": sa.make_url,
    "an option of the URL": _as_an_option,
    "an engine of connect": dl.connect,
    "the default": _connected,
    "the variable": _in_the_environment,
    "arguments of the driver": _connected_with_arguments,
    "an engine of SQLAlchemy's": _own_engine,
    "an engine of SQLAlchemy's with an option": _own_engine_with_an_option,
}
PROBLEMS = {
    "none": "kim:{word}@127.0.0.1:{port}/postgres",
    "a refused port": "kim:{word}@127.0.0.1:{closed}/postgres",
    "an unknown host": "kim:{word}@nowhere.invalid/postgres",
    "a wrong password": "ada:{word}@127.0.0.1:{port}/postgres",
    "an unknown database": "kim:{word}@127.0.0.1:{port}/nowhere",
    "an unknown option": "kim:{word}@127.0.0.1:{port}/postgres?nonsense=1",
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that is logged."""
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "sqlalchemy"):
        yield caplog


@pytest.fixture(autouse=True)
async def nothing_stays(guarded_port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("DATALOADER_URL", "")
    given.clear()
    yield
    admin = open_engine(kims(guarded_port))
    await execute(admin, "DROP TABLE IF EXISTS t, dataloader_loads, dataloader_chunks")
    await admin.dispose()


def kims(port: int) -> sa.URL:
    return sa.make_url(url_of("none", port)).set(drivername="postgresql+asyncpg")


def url_of(problem: str, port: int) -> str:
    return "postgresql://" + PROBLEMS[problem].format(word=ENCODED, port=port, closed=free_port())


CASES = [
    *((way, problem) for way in WAYS for problem in ("none", "a wrong password")),
    *(("a text", problem) for problem in PROBLEMS),
    ("an engine of SQLAlchemy's", "a refused port"),
]


@pytest.mark.parametrize(("way", "problem"), dict.fromkeys(CASES))
async def test_no_password_is_in_what_becomes_of_a_connection(
    guarded_port: int, logged: pytest.LogCaptureFixture, way: str, problem: str
) -> None:
    asyncio.get_running_loop().set_debug(True)
    engine = WAYS[way](url_of(problem, guarded_port))
    given.extend([] if engine is None else [engine])
    found = await outcome(FRAME)
    assert isinstance(found, dl.LoadReport if problem == "none" else dl.DataLoaderError), repr(found)
    shown = everything_of(found) if isinstance(found, dl.DataLoaderError) else everything_shown_of(found)
    assert leaks(*shown, logged.text) == []
    if isinstance(engine, AsyncEngine):
        await engine.dispose()


def everything_shown_of(report: Any) -> Iterator[str]:
    yield from (str(report), repr(report), report._repr_html_())


USES: dict[str, Callable[[Any], Any]] = {
    "a plan": lambda engine: dl.plan_load(FRAME, "t", engine=engine),
    "a query": lambda engine: fetch(engine, "SELECT 1"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("problem", ["a refused port", "a wrong password"])
async def test_no_password_is_in_what_an_engine_of_connect_raises(guarded_port: int, use: str, problem: str) -> None:
    using = USES[use](dl.connect(url_of(problem, guarded_port)))
    (error,) = await asyncio.gather(using, return_exceptions=True)
    assert isinstance(error, Exception)
    assert leaks(*everything_of(error)) == []


async def _cancelled(using: Any) -> BaseException | None:
    """The error with its traceback, which a task that is cancelled does not keep."""
    try:
        await using
    except asyncio.CancelledError as error:
        return error
    return None


@pytest.mark.parametrize("use", USES)
async def test_no_password_is_in_what_a_cancelled_connection_raises(use: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the driver waits for its answer to the login
        using = asyncio.create_task(_cancelled(USES[use](dl.connect(url_of("none", silent.getsockname()[1])))))
        await asyncio.sleep(0.1)
        using.cancel()
        error = await using
    assert error is not None
    assert leaks(*everything_of(error)) == []


REFUSED = {
    "a value that does not fit": ("CREATE TABLE t (id integer)", dl.ValidationError),
    "a row that is refused": ("CREATE TABLE t (id integer CHECK (id < 2))", dl.WriteError),
    "a connection that is lost": (
        """CREATE TABLE t (id integer CHECK (pg_terminate_backend(pg_backend_pid())))""",
        dl.ConnectionLost,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_no_password_is_in_the_error_of_rows(
    guarded_port: int, logged: pytest.LogCaptureFixture, case: str
) -> None:
    statement, kind = REFUSED[case]
    admin = open_engine(kims(guarded_port))
    await execute(admin, statement)
    given.append(engine := _own_engine(url_of("none", guarded_port)))
    found = await outcome(BAD_FRAME if kind is dl.ValidationError else FRAME)
    assert isinstance(found, kind), repr(found)
    assert leaks(*everything_of(found), logged.text) == []
    await admin.dispose()
    await engine.dispose()


async def test_no_password_is_in_what_a_load_leaves(
    guarded_port: int, tmp_path: Path, logged: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    url, file = url_of("none", guarded_port), tmp_path / "ids.csv"
    admin = open_engine(kims(guarded_port))
    await execute(admin, "CREATE TABLE t (id integer)")
    file.write_text("id\n1\ntwo\n")
    plan = await dl.plan_load(BAD_FRAME, "t", engine=url)
    validation = await dl.validate(BAD_FRAME, "t", engine=url)
    report = await dl.load_files(file, "t", engine=url, commit="chunk", on_invalid="reject", progress="log")
    job = dl.start_load(BAD_FRAME, "t", engine=url, commit="chunk", on_invalid="reject", progress="log")
    done = await job
    rejected = [tmp_path / f"rejects.{suffix}" for suffix in ("csv", "jsonl", "parquet")]
    for path in rejected:
        report.rejects_to(path)
    history = await dl.load_history(url)
    ledger = [await fetch(admin, f"SELECT * FROM {table}") for table in ("dataloader_loads", "dataloader_chunks")]
    assert [len(rows) for rows in ledger] == [2, 2]
    shown = [text for one in (plan, validation, report, job, done) for text in everything_shown_of(one)]
    written = list(map(Path.read_bytes, rejected))
    printed = capsys.readouterr()
    assert "rows/s" in printed.err
    assert leaks(*shown, history.to_string(), ledger, *written, printed.out, printed.err, logged.text) == []
    await admin.dispose()


UNUSABLE = {
    "not encoded": "postgresql://kim:pl4nted@s3cret@127.0.0.1:{closed}/shop",
    "not encoded, with slashes": "postgresql://kim:pl4nted!/s3cret/@127.0.0.1:{closed}/shop",
    "not encoded, with everything": f"postgresql://kim:{PLANTED}@127.0.0.1:{{closed}}/shop",
    "no number for a port": "postgresql://kim:pl4nted@host:port/shop",
    "an unknown database": "nosuch://kim:pl4nted@host/shop",
}


@pytest.mark.parametrize("url", UNUSABLE.values(), ids=UNUSABLE)
async def test_no_password_is_in_the_error_of_a_url_that_cannot_be_used(url: str) -> None:
    given.append(url.format(closed=free_port()))
    found = await outcome(FRAME)
    assert isinstance(found, (dl.PlanError, dl.ConnectionLost)), repr(found)
    assert leaks(*everything_of(found)) == []


def test_no_password_is_in_the_error_of_an_option_of_connect() -> None:
    given.append({"url": url_of("none", 1), "connect_args": {"password": PLANTED}, "nonsense": 1})
    with pytest.raises(dl.PlanError, match=r"Invalid argument.*nonsense.*create_async_engine") as caught:
        dl.connect(**given.pop())
    assert leaks(*everything_of(caught.value)) == []


@pytest.mark.parametrize("verb", [dl.load_dataframe, dl.plan_load, dl.validate])
async def test_a_url_in_the_place_of_the_table_is_not_repeated(
    verb: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = f"sqlite:///{tmp_path}/shop.db"
    with pytest.raises(dl.PlanError, match=r"the table's name is a URL.*engine=") as caught:
        await verb(FRAME, url_of("none", 1), engine=engine, progress="log")
    printed = capsys.readouterr()
    assert leaks(str(caught.value), *caught.value._render_traceback_(), printed.out, printed.err) == []


@pytest.mark.parametrize("url", ["postgresql://kim:{word}@host/shop.csv", "nosuch://kim:{word}@host/a*.csv"])
async def test_no_password_is_in_the_error_of_a_file_by_its_url(url: str) -> None:
    with pytest.raises(dl.PlanError, match=r"no filesystem is known for '.*://\*\*\*@host") as caught:
        await dl.load_files(url.format(word=ENCODED), "t")
    assert leaks(str(caught.value), *caught.value._render_traceback_(), *traceback.format_exception(caught.value)) == []


class SignedUrls(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A filesystem like fsspec's for HTTP: its paths are whole URLs, and its errors quote them."""

    protocol = "signed"
    broken = ""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def glob(self, path: str, **_options: Any) -> list[str]:
        return [path]

    def isfile(self, _path: str) -> bool:
        return True

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.content(path)), "type": "file"}

    def open(self, path: str, *_arguments: Any, **_options: Any) -> Any:
        return io.BytesIO(self.content(path))

    def content(self, path: str) -> bytes:
        if self.broken == "forbidden":
            raise RuntimeError(f"403, message='Forbidden', url={path!r}")
        if self.broken == "gone":
            raise FileNotFoundError(path)
        return {"": b"id\n1\ntwo\n", "no text": b"id\n\xc3\xa4\n\xff\n", "gzip": gzip.compress(b"id\n1\n3\n")}[
            self.broken
        ]


fsspec.register_implementation("signed", SignedUrls)
SIGNED = {
    "a token": "signed://host/ids.csv?X-Amz-Expires=9&X-Amz-Signature=pl4nted",
    "a token with odd characters": "signed://host/ids.csv?sv=2026&sig=pl4n's3cret' pl4nted\"s3cret%2F",
    "a fragment": "signed://host/ids.csv#token=pl4nted",
    "a user": "signed://kim:pl4nted@host/ids.csv?sig=s3cret",
}


@pytest.fixture
def a_table(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.mark.parametrize("broken", ["", "forbidden", "gone", "no text"])
@pytest.mark.parametrize("url", SIGNED.values(), ids=SIGNED)
async def test_no_token_of_a_signed_url_is_in_what_becomes_of_its_load(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture, a_table: str, url: str, broken: str, capsys: Any
) -> None:
    monkeypatch.setattr(SignedUrls, "broken", broken)
    loading = dl.load_files(url, "t", engine=a_table, on_invalid="reject", commit="chunk", progress="log")
    (found,) = await asyncio.gather(loading, return_exceptions=True)
    printed = capsys.readouterr()
    if broken:
        assert isinstance(found, dl.DataLoaderError), repr(found)
        assert "signed://" in str(found)
        shown = [str(found), repr(found), *found._render_traceback_(), *traceback.format_exception(found)]
    else:
        plan = await dl.plan_load(url, "t", engine=a_table)
        history = (await dl.load_history(a_table)).to_string()
        ledger = await fetch(engine := dl.connect(a_table), "SELECT * FROM dataloader_loads")
        await engine.dispose()
        shown = [*everything_shown_of(found), *everything_shown_of(plan), history, *map(str, ledger)]
        assert "ids.csv" in str(found)
    assert leaks(*shown, printed.out, printed.err, logged.text) == []


async def test_a_compressed_file_behind_a_signed_url_is_read(monkeypatch: pytest.MonkeyPatch, a_table: str) -> None:
    monkeypatch.setattr(SignedUrls, "broken", "gzip")
    assert (await dl.load_files("signed://host/ids.csv.gz?sig=1", "t", engine=a_table)).loaded == 2


@pytest.mark.parametrize("url", SIGNED.values(), ids=SIGNED)
async def test_no_token_is_in_the_error_of_a_url_whose_filesystem_is_unknown(url: str, a_table: str) -> None:
    for paths in (url.replace("signed:", "nosuch:"), url.encode()):
        with pytest.raises(dl.PlanError) as caught:
            await dl.load_files(paths, "t", engine=a_table)  # type: ignore[arg-type]
        shown = (str(caught.value), *caught.value._render_traceback_(), *traceback.format_exception(caught.value))
        assert leaks(*shown) == []


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "dataloader")
    shell.run_line_magic("xmode", "Verbose")
    shell.push({"df": FRAME, "dl": dl})
    yield shell
    shell.history_manager.end_session()


CELLS = [
    "%dataload df t --to {url}",
    "%dataload df {url}",
    "%dataload df t {url}",
    "%dataload df t --to {url} --nonsense",
    "%dataload df t --to '{url}",
    "dl.run(dl.load_dataframe(df, 't', engine='{url}'))",
    "dl.connect('{url}', nonsense=1)",
    "dl.run(dl.load_dataframe(df, 't', engine='{url}', nonsense=1))",
]


@pytest.mark.parametrize("cell", CELLS)
def test_no_password_is_in_a_notebooks_output(
    shell: InteractiveShell, guarded_port: int, capsys: pytest.CaptureFixture[str], cell: str
) -> None:
    for problem in ("a wrong password", "a refused port"):
        ran = shell.run_cell(cell.format(url=url_of(problem, guarded_port)))
        assert isinstance(ran.error_in_exec, dl.DataLoaderError)
        printed = capsys.readouterr()
        assert type(ran.error_in_exec).__name__ in printed.out + printed.err
        assert leaks(printed.out, printed.err) == []


@pytest.mark.parametrize("asked", ["%tb", "%tb Verbose", "import traceback; traceback.print_exception(sys.last_value)"])
def test_no_password_is_in_the_traceback_that_is_asked_for(
    shell: InteractiveShell, guarded_port: int, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    shell.push({"url": url_of("a wrong password", guarded_port), "sys": sys})
    shell.run_cell("dl.run(dl.load_dataframe(df, 't', engine=url))")
    shell.run_cell(asked)
    printed = capsys.readouterr()
    assert "ConnectionFailed: cannot log in" in printed.out + printed.err
    assert leaks(printed.out, printed.err) == []


COMMANDS = [
    ["load", "ids.csv", "t", "--to", "{url}"],
    ["load", "ids.csv", "{url}"],
    ["load", "ids.csv", "t", "{url}"],
    ["plan", "ids.csv", "t"],
    ["history"],
    ["load", "ids.csv", "t", "--nonsense", "--to", "{url}"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_password_is_in_what_a_command_prints(
    guarded_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATALOADER_PROGRESS", "log")
    monkeypatch.setenv("DATALOADER_URL", url := url_of("a wrong password", guarded_port))
    Path("ids.csv").write_text("id\n1\n")
    ran = CliRunner().invoke(main, [word.format(url=url) for word in command])
    assert ran.exit_code in {1, 2}
    assert ran.output
    assert leaks(ran.output) == []


def test_no_password_is_in_what_a_process_prints(guarded_port: int) -> None:
    environment = os.environ | {"DATALOADER_URL": url_of("a wrong password", guarded_port)}
    command = [sys.executable, "-X", "dev", "-m", "dataloader", "history"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "cannot log in" in ran.stderr
    assert leaks(ran.stdout, ran.stderr) == []
