"""The command line: ``python -m dataloader load FILE... TABLE``, and ``plan`` and ``validate`` with the same words.

Of loads that were committed chunk by chunk: ``history``, ``resume`` and ``forget``. ``grants`` is for administrators.

Exit codes: 0 done, 1 the load failed or the data is not valid, 2 the command was wrong, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import functools
import os
import select
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import click
import sqlalchemy as sa

from dataloader import api
from dataloader import cli_csv as csv_options
from dataloader.database.backends import backend_for
from dataloader.database.engine import describe_url, dispose_all, resolve
from dataloader.database.schema import parse_table_name
from dataloader.errors import CheckpointError, DataLoaderError
from dataloader.formatting import printable
from dataloader.ledger import history as ledgers
from dataloader.options import CASTS, COMMITS, DUPLICATES, FORMATS, IF_EXISTS, METHODS, ON_CONFLICT, Target
from dataloader.rejects import check_suffix
from dataloader.report import LoadReport, history_frame

SHOWN_ROWS = 5
POLL_SECONDS = 0.1


def names(_context: click.Context, _option: click.Parameter, given: str | None) -> list[str] | None:
    """The columns in an option, with commas between them."""
    return None if given is None else [name.strip() for name in given.split(",")]


def selection(context: click.Context, option: click.Parameter, given: str | None) -> dict[str, str] | None:
    """Columns of the files, each with its name in the table where that is another one."""
    if given is None:
        return None
    pairs = [name.rpartition("=")[::2] if "=" in name else (name, name) for name in names(context, option, given) or ()]
    if len({source for source, _ in pairs}) < len(pairs):
        raise click.BadParameter("a column is named twice", context, option)
    return {source.strip(): target.strip() for source, target in pairs}


def opened(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> list[Any]:
    """The files; ``-`` is the standard input."""
    return [StandardInput() if path == "-" else path for path in given]


class StandardInput:
    """The standard input, read as it comes; Ctrl-C ends a load that waits for it.

    A thread that waited in a read would keep the process until somebody writes, or closes the other end.
    """

    name = "stdin"
    is_over = threading.Event()

    def read(self, count: int) -> bytes:
        """So many bytes or fewer, none at the end."""
        number = sys.stdin.fileno()
        while os.name != "nt" and not select.select([number], [], [], POLL_SECONDS)[0]:
            if self.is_over.is_set():
                raise InterruptedError("the load was stopped")
        return os.read(number, count)


FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...", callback=opened)
SOURCES = click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
TABLE = click.argument("table")
TO = click.option("--to", "engine", metavar="URL", help="The database; default $DATALOADER_URL, else dataloader.db.")
LOADING = (
    click.option("--if-exists", type=click.Choice(IF_EXISTS), default="append", show_default=True),
    click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True),
    click.option("--chunk-rows", type=click.IntRange(min=1), help="Rows converted and sent at once."),
    click.option("--casts", type=click.Choice(CASTS), default="exact", show_default=True),
    click.option("--assume-timezone", metavar="NAME", help="What a time without a zone means, like Europe/Berlin."),
    click.option(
        "--on-conflict",
        type=click.Choice(ON_CONFLICT),
        default="error",
        show_default=True,
        help="What to do with a row whose key is in the table.",
    ),
    click.option("--key", metavar="COLUMNS", callback=names, help="The key, if not the primary key: a name, or a,b."),
    click.option("--update-columns", metavar="COLUMNS", callback=names, help="What --on-conflict update changes: a,b."),
    click.option(
        "--duplicates",
        type=click.Choice(DUPLICATES),
        default="error",
        show_default=True,
        help="Which of several rows of the files with one key counts.",
    ),
    click.option("--override-identity", is_flag=True, help="Store the files' numbers in a column ALWAYS AS IDENTITY."),
    click.option("--sync-sequence", is_flag=True, help="Set sequences past the numbers that the files bring."),
    click.option("--order-by", metavar="COLUMN", help="The one with the greatest value here counts."),
    click.option(
        "--columns",
        metavar="COLUMNS",
        callback=selection,
        help="Which columns are loaded: a,b, or SOURCE=TARGET for a new name.",
    ),
    *csv_options.OPTIONS,
    click.option("--format", type=click.Choice(FORMATS), help="What the files are, where their names do not say it."),
    click.option("--sheet", metavar="NAME", help="The sheet of a spreadsheet, if it has several."),
    click.option("--cells", metavar="RANGE", help="The range of a sheet, with the names in its first row: B3:F100."),
    click.option("--filename", is_flag=True, help="A column `filename` with the path of each row's file."),
)
COMMITTING = (
    click.option("--commit", type=click.Choice(COMMITS), default="auto", show_default=True),
    click.option("--workers", type=click.IntRange(min=1), help="Connections that commit chunks at once."),
    click.option("--resume/--no-resume", default=None, help="Continue an unfinished load, or start anew."),
    click.option("--load-id", metavar="NAME", help="The name of a load that can be resumed."),
    click.option("--dry-run", is_flag=True, help="Roll everything back, and say what would have been."),
)
REJECTING = (
    click.option("--rejects", metavar="FILE", help="Keep rows that do not fit in FILE (.csv, .jsonl, .parquet)."),
    click.option("--max-rejects", type=click.IntRange(min=0), help="The most rows that may be rejected."),
)


def with_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with options, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def prints(command: Callable[..., Awaitable[str]]) -> Callable[..., None]:
    """Run a command that is a coroutine, and print what it returns or what went wrong."""

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        try:
            _show(asyncio.run(_closing(command(**arguments))))
        except NotValid as found:
            _show(str(found))
            sys.exit(1)
        except DataLoaderError as error:
            _show(f"error: {error.what}\n{error.hint}", err=True)
            sys.exit(1)
        except KeyboardInterrupt as stopped:
            _show(f"stopped: {_left_behind(stopped)}", err=True)
            sys.exit(130)

    return run


class NotValid(Exception):
    """The files do not fit; carries what is shown."""


def _show(text: str, *, err: bool = False) -> None:
    click.echo(printable(text), err=err)


def _left_behind(stopped: KeyboardInterrupt) -> str:
    """What the cancelled load says of itself; asyncio keeps its CancelledError behind the KeyboardInterrupt."""
    notes: list[str] = getattr(stopped.__context__, "__notes__", [])
    return "; ".join(notes) or "nothing was written"


async def _closing(answer: Awaitable[str]) -> str:
    try:
        return await answer
    finally:
        StandardInput.is_over.set()
        await dispose_all()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="notebook-dataloader")
def main() -> None:
    """Load files into a database table: no row is lost, and none is there twice."""


@main.command()
@with_options(FILES, TABLE, TO, *LOADING, *COMMITTING, *REJECTING)
@prints
async def load(files: list[Any], table: str, rejects: str | None, **options: Any) -> str:
    """Load FILE... (csv, parquet, json, xlsx, ...; folders and globs too) into TABLE, and show its first rows.

    FILE may be -, the standard input: what it is, is found out by its beginning, or said by --format.
    """
    csv_options.gather(options)
    report = await load_keeping_rejects(api.load_files, files, table, rejects, options)
    return f"{report}\n\n{await _first_rows(table, options['engine'])}"


async def load_keeping_rejects(
    loader: Callable[..., Awaitable[LoadReport]], data: object, table: str, rejects: str | None, options: dict[str, Any]
) -> LoadReport:
    """Load, and write the rows that do not fit to the file `rejects`, if there is one."""
    if rejects is None:
        return await loader(data, table, **options)
    check_suffix(rejects)
    report = await loader(data, table, **options, on_invalid="reject")
    if report.rejected:
        await asyncio.to_thread(report.rejects_to, rejects)
    return report


@main.command()
@with_options(FILES, TABLE, TO, *LOADING, *COMMITTING)
@prints
async def plan(files: list[Any], table: str, **options: Any) -> str:
    """Show what `load` would do, and write nothing."""
    csv_options.gather(options)
    return str(await api.plan_load(files, table, **options))


@main.command()
@with_options(FILES, TABLE, TO, *LOADING)
@click.option("--unique", is_flag=True, help="Check the keys too, in the files and against the table.")
@click.option("--foreign-keys", is_flag=True, help="Check that the rows that are referred to exist.")
@prints
async def validate(files: list[Any], table: str, **options: Any) -> str:
    """Show every value of FILE... that does not fit TABLE, and write nothing."""
    csv_options.gather(options)
    report = await api.validate(files, table, **options)
    if not report.ok:
        raise NotValid(str(report))
    return str(report)


SCHEMA = click.option("--schema", help="The schema whose ledger is meant, whoever it belongs to.")


@main.command()
@with_options(TO, SCHEMA)
@prints
async def history(engine: str | None, schema: str | None) -> str:
    """Show the loads of the database's ledgers, the newest first."""
    found = await ledgers.read_history(resolve(engine), schema)
    frame = history_frame([record.shown for record in found.records], [*ledgers.SHOWN, "running"])
    shown = "no load was committed chunk by chunk" if frame.empty else frame.to_string(index=False)
    return "\n".join([shown, *(f"not read: {why}; --schema reads it" for why in found.passed_over)])


@main.command()
@click.argument("load_id")
@with_options(TO, SCHEMA)
@click.option("--yes", is_flag=True, help="Read the files that the ledger names without asking.")
@prints
async def resume(load_id: str, engine: str | None, schema: str | None, yes: bool) -> str:
    """Continue the unfinished load LOAD_ID of files, with the options that it began with."""
    record = await ledgers.find_record(resolve(engine), load_id, schema)
    if record.shown["state"] == "finished":
        return f"the load {load_id!r} is finished: {record.loaded} rows are in {record.shown['target']}"
    loader, paths, options = record.began_with()
    if not paths:
        hint = f"Run it again where its data is: {loader}(..., load_id={load_id!r}, resume=True)."
        raise CheckpointError(
            f"the load {load_id!r} came from {record.shown['source']}, not from local files", hint=hint
        )
    if not (yes or _confirmed(record, paths, describe_url(resolve(engine)))):
        raise CheckpointError(f"the load {load_id!r} is not resumed", hint="Nothing was read. Answer y, or pass --yes.")
    options |= {"engine": engine, "load_id": load_id, "resume": True, "chunk_rows": record.shown["chunk_rows"]}
    return str(await api.load_files(paths, record.shown["target"], **options))


def _confirmed(record: ledgers.LoadRecord, paths: list[str], database: str) -> bool:
    """Whether the files that the ledger names are to be read: whoever may write into it could name any."""
    asked = [
        f"The ledger of schema {record.schema} names these files of this machine for the load {record.load_id!r}:",
        *(f"  {path!r}" for path in paths),
        f"They go into {record.shown['target']} of {database}. Read them?",
    ]
    try:
        return click.confirm(printable("\n".join(asked)), err=True)
    except click.Abort:
        return False


@main.command()
@click.argument("load_id")
@with_options(TO, SCHEMA)
@prints
async def forget(load_id: str, engine: str | None, schema: str | None) -> str:
    """Take the load LOAD_ID out of the ledger; its rows stay in the table."""
    record = await ledgers.forget(resolve(engine), load_id, schema)
    return f"forgotten: {record.loaded} rows of it stay in {record.shown['target']}"


@main.command()
@click.argument("table")
@click.argument("role")
@prints
async def grants(table: str, role: str) -> str:
    """Print the SQL that lets ROLE load into TABLE of PostgreSQL, and resume; an administrator runs it."""
    return ledgers.grants(parse_table_name(table), role).rstrip("\n")


async def _first_rows(table: str, url: str | None) -> str:
    engine = resolve(url)
    name = Target.of(table, backend_for(engine.dialect)).name
    query = sa.select(sa.text("*")).select_from(sa.table(name.name, schema=name.schema)).limit(SHOWN_ROWS)
    async with engine.connect() as connection:
        result = await connection.execute(query)
        lines = [tuple(result.keys()), *(tuple(map(_cell, row)) for row in result)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in shown)


def _cell(value: object) -> str:
    text = "NULL" if value is None else str(value)
    return text if text.isprintable() and len(text) <= 40 else repr(text)[:40]
