"""The command line: ``python -m dataloader load FILE... TABLE``, and ``plan`` and ``validate`` with the same words.

Of loads that were committed chunk by chunk: ``history``, ``resume`` and ``forget``. ``grants`` is for administrators.

Exit codes: 0 done, 1 the load failed or the data is not valid, 2 the command was wrong, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import click
import sqlalchemy as sa

from dataloader import api
from dataloader.database.backends import backend_for
from dataloader.database.engine import describe_url, dispose_all, resolve
from dataloader.database.schema import parse_table_name
from dataloader.errors import CheckpointError, DataLoaderError
from dataloader.formatting import printable
from dataloader.ledger import history as ledgers
from dataloader.options import CASTS, COMMITS, IF_EXISTS, METHODS, Target
from dataloader.rejects import check_suffix
from dataloader.report import history_frame

SHOWN_ROWS = 5

FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...")
SOURCES = click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
TABLE = click.argument("table")
TO = click.option("--to", "engine", metavar="URL", help="The database; default $DATALOADER_URL, else dataloader.db.")
LOADING = (
    click.option("--if-exists", type=click.Choice(IF_EXISTS), default="append", show_default=True),
    click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True),
    click.option("--chunk-rows", type=click.IntRange(min=1), help="Rows converted and sent at once."),
    click.option("--casts", type=click.Choice(CASTS), default="exact", show_default=True),
    click.option("--assume-timezone", metavar="NAME", help="What a time without a zone means, like Europe/Berlin."),
)
COMMITTING = (
    click.option("--commit", type=click.Choice(COMMITS), default="auto", show_default=True),
    click.option("--workers", type=click.IntRange(min=1), help="Connections that commit chunks at once."),
    click.option("--resume/--no-resume", default=None, help="Continue an unfinished load, or start anew."),
    click.option("--load-id", metavar="NAME", help="The name of a load that can be resumed."),
)
REJECTING = (
    click.option("--rejects", metavar="FILE", help="Keep rows that do not fit in FILE (.csv, .jsonl, .parquet)."),
    click.option("--max-rejects", type=click.IntRange(min=0), help="The most rows that may be rejected."),
)


def with_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with options, in their order."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="notebook-dataloader")
def main() -> None:
    """Load files into a database table: no row is lost, and none is there twice."""


@main.command()
@with_options(FILES, TABLE, TO, *LOADING, *COMMITTING, *REJECTING)
def load(files: tuple[str, ...], table: str, rejects: str | None, **options: Any) -> None:
    """Load FILE... (csv, parquet, arrow, jsonl; globs too) into TABLE, and show its first rows."""
    options["on_invalid"] = "raise" if rejects is None else "reject"
    _run(_load(list(files), table, rejects, options))


@main.command()
@with_options(FILES, TABLE, TO, *LOADING, *COMMITTING)
def plan(files: tuple[str, ...], table: str, **options: Any) -> None:
    """Show what `load` would do, and write nothing."""
    _run(_plan(list(files), table, options))


@main.command()
@with_options(FILES, TABLE, TO, *LOADING)
@click.option("--unique", is_flag=True, help="Look at the keys too, in the files and against the table.")
@click.option("--foreign-keys", is_flag=True, help="Look for the rows that are referred to.")
def validate(files: tuple[str, ...], table: str, **options: Any) -> None:
    """Show every value of FILE... that does not fit TABLE, and write nothing."""
    _run(_validate(list(files), table, options))


SCHEMA = click.option("--schema", help="The schema whose ledger is meant, whoever it belongs to.")


@main.command()
@with_options(TO, SCHEMA)
def history(engine: str | None, schema: str | None) -> None:
    """Show the loads of the database's ledgers, the newest first."""
    _run(_history(engine, schema))


@main.command()
@click.argument("load_id")
@with_options(TO, SCHEMA)
@click.option("--yes", is_flag=True, help="Read the files that the ledger names without asking.")
def resume(load_id: str, engine: str | None, schema: str | None, yes: bool) -> None:
    """Continue the unfinished load LOAD_ID of files, with the options that it began with."""
    _run(_resume(load_id, engine, schema, yes))


@main.command()
@click.argument("load_id")
@with_options(TO, SCHEMA)
def forget(load_id: str, engine: str | None, schema: str | None) -> None:
    """Take the load LOAD_ID out of the ledger; its rows stay in the table."""
    _run(_forget(load_id, engine, schema))


@main.command()
@click.argument("table")
@click.argument("role")
def grants(table: str, role: str) -> None:
    """Print the SQL that lets ROLE load into TABLE of PostgreSQL, and resume; an administrator runs it."""
    try:
        click.echo(ledgers.grants(parse_table_name(table), role), nl=False)
    except DataLoaderError as error:
        _fail(error)


async def _history(url: str | None, schema: str | None) -> str:
    found = await ledgers.read_history(resolve(url), schema)
    frame = history_frame([entry.shown for entry in found.entries], [*ledgers.SHOWN, "running"])
    shown = "no load was committed chunk by chunk" if frame.empty else frame.to_string(index=False)
    return "\n".join([shown, *(f"not read: {why}; --schema reads it" for why in found.passed_over)])


async def _resume(load_id: str, url: str | None, schema: str | None, yes: bool) -> str:
    entry = await ledgers.entry_of(resolve(url), load_id, schema)
    if entry.shown["state"] == "finished":
        return f"the load {load_id!r} is finished: {entry.loaded} rows are in {entry.shown['target']}"
    loader, paths, options = entry.began_with()
    if not paths:
        hint = f"Run it again where its data is: {loader}(..., load_id={load_id!r}, resume=True)."
        raise CheckpointError(
            f"the load {load_id!r} came from {entry.shown['source']}, not from local files", hint=hint
        )
    if not (yes or _confirmed(entry, paths, describe_url(resolve(url)))):
        raise CheckpointError(f"the load {load_id!r} is not resumed", hint="Nothing was read. Answer y, or pass --yes.")
    options |= {"engine": url, "load_id": load_id, "resume": True, "chunk_rows": entry.shown["chunk_rows"]}
    return str(await api.load_files(paths, entry.shown["target"], **options))


def _confirmed(entry: ledgers.Entry, paths: list[str], place: str) -> bool:
    """Whether the files that the ledger names are to be read: whoever may write into it could name any."""
    asked = [
        f"The ledger of schema {entry.schema} names these files of this machine for the load {entry.load_id!r}:",
        *(f"  {path!r}" for path in paths),
        f"They go into {entry.shown['target']} of {place}. Read them?",
    ]
    try:
        return click.confirm(printable("\n".join(asked)), err=True)
    except click.Abort:
        return False


async def _forget(load_id: str, url: str | None, schema: str | None) -> str:
    entry = await ledgers.forget(resolve(url), load_id, schema)
    return f"forgotten: {entry.loaded} rows of it stay in {entry.shown['target']}"


async def _load(files: list[str], table: str, rejects: str | None, options: dict[str, Any]) -> str:
    if rejects is not None:
        check_suffix(rejects)
    report = await api.load_files(files, table, **options)
    if rejects is not None and report.rejected:
        report.rejects_to(rejects)
    return f"{report}\n\n{await _first_rows(table, options['engine'])}"


async def _validate(files: list[str], table: str, options: dict[str, Any]) -> str:
    report = await api.validate(files, table, **options)
    if not report.ok:
        raise NotValid(str(report))
    return str(report)


async def _plan(files: list[str], table: str, options: dict[str, Any]) -> str:
    return str(await api.plan_load(files, table, **options))


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


class NotValid(Exception):
    """The files do not fit; carries what is shown."""


def _run(answer: Awaitable[str]) -> None:
    try:
        click.echo(printable(asyncio.run(_closing(answer))))
    except NotValid as found:
        click.echo(printable(str(found)))
        sys.exit(1)
    except DataLoaderError as error:
        _fail(error)
    except KeyboardInterrupt as stopped:
        click.echo(printable(f"stopped: {_left_behind(stopped)}"), err=True)
        sys.exit(130)


def _fail(error: DataLoaderError) -> NoReturn:
    click.echo(printable(f"error: {error.what}\n{error.hint}"), err=True)
    sys.exit(1)


def _left_behind(stopped: KeyboardInterrupt) -> str:
    """What the cancelled load says of itself; asyncio keeps its CancelledError behind the KeyboardInterrupt."""
    notes: list[str] = getattr(stopped.__context__, "__notes__", [])
    return "; ".join(notes) or "nothing was written"


async def _closing(answer: Awaitable[str]) -> str:
    try:
        return await answer
    finally:
        await dispose_all()
