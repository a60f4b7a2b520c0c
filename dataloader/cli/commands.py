"""The command line: ``python -m dataloader load FILE... TABLE``, and ``plan`` and ``validate`` with the same words;
``export QUERY FILE`` is the way back.

``check`` looks whether a database is ready. ``copy`` takes rows from one database to another. Of loads that the ledger
knows: ``history``, ``resume`` and ``forget``. ``grants`` is for administrators, ``completion`` for
the shell. What is printed is made in `output`.

Exit codes: 0 done, 1 the load failed, the data is not valid, or the database not ready, 2 the command was wrong, 130
stopped by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click
from click.shell_completion import get_completion_class

from dataloader.api import checks, copies, loads, reads
from dataloader.cli import csv as csv_options
from dataloader.cli import output as printing
from dataloader.cli import words
from dataloader.cli.options import (
    CHECKPOINTS,
    COMMITTING,
    FILES,
    LOADING,
    PLAN,
    PROGRESS,
    READING,
    REJECTING,
    SCHEMA,
    SOURCE,
    TABLE,
    TO,
    WRITING,
    StandardInput,
    with_options,
)
from dataloader.cli.output import Output, Result
from dataloader.database.engine import describe_url, dispose_all, resolve
from dataloader.database.schema import parse_table_name
from dataloader.errors import CheckpointError, DataLoaderError
from dataloader.formatting import printable
from dataloader.ledger import history as ledgers
from dataloader.plan import LoadPlan
from dataloader.rejects import check_suffix
from dataloader.report import CheckReport, ExportReport, LoadReport, ValidationReport, history_frame


def prints(command: Callable[..., Awaitable[Result]]) -> Callable[..., None]:
    """Run a command that is a coroutine, and print what it returns or what went wrong."""

    @functools.wraps(command)
    def run(quiet: bool = False, as_json: bool = False, **arguments: Any) -> None:
        output = Output(known_options(), quiet, as_json, arguments.get("rejects"), arguments.get("engine"))
        if "progress" in arguments:
            arguments["progress"] = output.view(arguments["progress"])
        try:
            result = asyncio.run(_closing(command(**arguments)))
        except DataLoaderError as error:
            output.fail(error)
            sys.exit(1)
        except KeyboardInterrupt as stopped:
            output.stop(_left_behind(stopped))
            sys.exit(130)
        output.succeed(result)
        if isinstance(result, ValidationReport | CheckReport) and not result.ok:
            sys.exit(1)

    return run


def known_options() -> words.Options:
    """The options of all commands, by the names that they have in Python."""
    options = [one for command in (load, validate) for one in command.params if isinstance(one, click.Option)]
    return {str(one.name): one for one in options}


def examples(*commands: str) -> str:
    """The end of a command's help."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


def _left_behind(stopped: KeyboardInterrupt) -> str:
    """What the cancelled load says of itself; asyncio keeps its CancelledError behind the KeyboardInterrupt."""
    notes: list[str] = getattr(stopped.__context__, "__notes__", [])
    return "; ".join(notes) or "nothing was written"


async def _closing(answer: Awaitable[Result]) -> Result:
    try:
        return await answer
    finally:
        StandardInput.is_over.set()
        await dispose_all()


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "dataloader load orders.csv orders --to sqlite:///shop.db",
        "dataloader load orders.csv orders --plan",
        "dataloader validate orders.csv orders",
    ),
)
@click.version_option(package_name="notebook-dataloader")
def main() -> None:
    """Load files into a database table: no row is lost, and none is there twice."""


@main.command(
    short_help="Load files into a table.",
    epilog=examples(
        "dataloader load orders.csv orders --to postgresql://me@localhost/shop",
        "dataloader load 'may/*.parquet' sales.orders --if-exists truncate",
        "dataloader load orders.csv orders --csv-delimiter ';' --dtype zip=text",
        "dataloader load orders.csv orders --on-conflict update --key id",
        "dataloader load orders.csv orders --rejects rejects.csv --max-rejects 100",
        "dataloader load orders.csv orders --load-id 'sales 2024-05-17' --resume",
        "curl -s https://example.com/orders.csv | dataloader load - orders --format csv",
        "dataloader load orders.csv orders --quiet --json",
    ),
)
@with_options(FILES, TABLE, TO, *LOADING, *COMMITTING, *REJECTING, PLAN, PROGRESS, *printing.OPTIONS)
@prints
async def load(files: list[Any], table: str, rejects: str | None, plans: bool, **options: Any) -> LoadReport | LoadPlan:
    """Load FILE... (csv, parquet, json, xlsx, ...; folders and globs too) into TABLE, and show the first rows.

    FILE may be -, the standard input: what it is, is found out by its beginning, or said by --format.
    """
    csv_options.gather(options)
    if plans:
        return await checks.plan_load(files, table, **options, on_invalid="raise" if rejects is None else "reject")
    return await load_keeping_rejects(loads.load_files, files, table, rejects, options)


@main.command(
    short_help="Copy a table or a query from one database to another.",
    epilog=examples(
        "dataloader copy orders orders --from postgresql://me@prod/shop --to postgresql://me@localhost/shop",
        "dataloader copy 'SELECT * FROM orders LIMIT 9' orders --from sqlite:///shop.db --if-exists truncate",
        "dataloader copy sales.orders orders --commit chunk --load-id 'orders of May' --resume",
    ),
)
@click.argument("query_or_table", metavar="QUERY_OR_TABLE")
@with_options(TABLE, SOURCE, TO, *WRITING, *CHECKPOINTS, *REJECTING, PROGRESS, *printing.OPTIONS)
@prints
async def copy(query_or_table: str, table: str, rejects: str | None, **options: Any) -> LoadReport:
    """Copy QUERY_OR_TABLE of the database --from into TABLE of the database --to.

    All in one transaction, unless --commit chunk is asked for. TABLE is created like the original if it is missing.
    """
    return await load_keeping_rejects(copies.copy_table, query_or_table, table, rejects, options)


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


@main.command(
    short_help="Show what a load would do.",
    epilog=examples(
        "dataloader plan orders.csv orders --to sqlite:///shop.db",
        "dataloader plan orders.csv orders --json",
    ),
)
@with_options(FILES, TABLE, TO, *LOADING, *COMMITTING, *printing.OPTIONS)
@prints
async def plan(files: list[Any], table: str, **options: Any) -> LoadPlan:
    """Show what `load` would do, and write nothing."""
    csv_options.gather(options)
    return await checks.plan_load(files, table, **options)


@main.command(
    short_help="Show every value that does not fit.",
    epilog=examples(
        "dataloader validate orders.csv orders --to sqlite:///shop.db",
        "dataloader validate orders.csv orders --unique --foreign-keys",
        "dataloader validate orders.csv orders --json",
    ),
)
@with_options(FILES, TABLE, TO, *LOADING)
@click.option("--unique", is_flag=True, help="Check the keys too, in the files and against the table.")
@click.option("--foreign-keys", is_flag=True, help="Check that the rows that are referred to exist.")
@with_options(PROGRESS, *printing.OPTIONS)
@prints
async def validate(files: list[Any], table: str, **options: Any) -> ValidationReport:
    """Show every value of FILE... that does not fit TABLE, and write nothing."""
    csv_options.gather(options)
    return await checks.validate(files, table, **options)


@main.command(
    short_help="Show whether a database is ready for loads.",
    epilog=examples(
        "dataloader check --to postgresql://me@localhost/shop",
        "dataloader check --to sqlite:///shop.db --quiet",
        "dataloader check --table sales.orders --workers 8 --json",
    ),
)
@with_options(TO)
@click.option("--table", metavar="TABLE", help="The table that is to be loaded into.")
@click.option("--workers", type=click.IntRange(min=1), help="How many connections the load is to have; default 2.")
@with_options(*printing.OPTIONS)
@prints
async def check(engine: str | None, table: str | None, workers: int | None) -> CheckReport:
    """Show whether the database is ready for loads, a line for each finding with its remedy; exit code 1 if not."""
    return await checks.check(engine, table, workers=workers)


@main.command(
    short_help="Write a table or a query's result to a file.",
    epilog=examples(
        "dataloader export orders orders.parquet --from postgresql://me@localhost/shop",
        "dataloader export 'SELECT * FROM orders WHERE amount < 9' orders.csv.gz",
        "dataloader export sales.orders orders.jsonl --if-exists replace --quiet",
    ),
)
@click.argument("query", metavar="QUERY_OR_TABLE")
@click.argument("path", metavar="FILE", type=click.Path())
@with_options(*READING, PROGRESS, *printing.OPTIONS)
@prints
async def export(query: str, path: str, **options: Any) -> ExportReport:
    """Write a table, or the result of a query, to FILE (.csv, .parquet, .arrow, .jsonl; .csv.gz, .csv.zst)."""
    return await reads.export(query, path, **options)


@main.command(
    short_help="List the loads that were committed in chunks, or have a name.",
    epilog=examples("dataloader history --to postgresql://me@localhost/shop", "dataloader history --json"),
)
@with_options(TO, SCHEMA, *printing.OPTIONS)
@prints
async def history(engine: str | None, schema: str | None) -> Result:
    """Show the loads of the database's ledgers, the newest first."""
    found = await ledgers.read_history(resolve(engine), schema)
    known = [record.shown for record in found.records]
    frame = history_frame(known, [*ledgers.SHOWN, "running"])
    shown = "no load was committed chunk by chunk, or has a name" if frame.empty else frame.to_string(index=False)
    text = "\n".join([shown, *(f"not read: {why}; --schema reads it" for why in found.passed_over)])
    return printing.Listing(text, {"loads": known, "not_read": found.passed_over})


@main.command(
    short_help="Continue an unfinished load.",
    epilog=examples(
        "dataloader resume 'sales 2024-05-17' --to postgresql://me@localhost/shop",
        "dataloader resume 'sales 2024-05-17' --yes --quiet",
    ),
)
@click.argument("load_id")
@with_options(TO, SCHEMA)
@click.option("--yes", is_flag=True, help="Read the files that the ledger names without asking.")
@with_options(PROGRESS, *printing.OPTIONS)
@prints
async def resume(load_id: str, engine: str | None, schema: str | None, yes: bool, progress: Any) -> Result:
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
    load_id = record.whole or load_id
    options |= {"engine": engine, "load_id": load_id, "resume": True, "chunk_rows": record.shown["chunk_rows"]}
    return await loads.load_files(paths, record.shown["target"], **options, progress=progress)


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


@main.command(
    short_help="Take a load out of the ledger.",
    epilog=examples("dataloader forget 'sales 2024-05-17' --to postgresql://me@localhost/shop"),
)
@click.argument("load_id")
@with_options(TO, SCHEMA)
@prints
async def forget(load_id: str, engine: str | None, schema: str | None) -> str:
    """Take the load LOAD_ID out of the ledger; its rows stay in the table."""
    record = await ledgers.forget(resolve(engine), load_id, schema)
    return f"forgotten: {record.loaded} rows of it stay in {record.shown['target']}"


@main.command(
    short_help="Print the SQL that lets a role load.", epilog=examples("dataloader grants sales.orders nightly")
)
@click.argument("table")
@click.argument("role")
@prints
async def grants(table: str, role: str) -> str:
    """Print the SQL that lets ROLE load into TABLE of PostgreSQL, and resume; an administrator runs it."""
    return ledgers.grants(parse_table_name(table), role).rstrip("\n")


PROGRAM = "dataloader"


@main.command(
    short_help="Print the completion script of a shell.",
    epilog=examples(
        'eval "$(dataloader completion bash)"  # in ~/.bashrc',
        'eval "$(dataloader completion zsh)"  # in ~/.zshrc',
        "dataloader completion fish > ~/.config/fish/completions/dataloader.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, their choices and files in SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
