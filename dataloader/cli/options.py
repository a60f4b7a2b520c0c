"""The arguments and options of the commands, as click declares them; what a command does with them is in `cli`."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Any, get_args

import click

from dataloader.cli import csv as csv_options
from dataloader.options import (
    CASTS,
    COMMITS,
    DUPLICATES,
    EVOLVE,
    FORMATS,
    IF_EXISTS,
    METHODS,
    ON_CONFLICT,
    ProgressName,
)
from dataloader.reading.formats import FORMATS as WRITTEN

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


def part(context: click.Context, option: click.Parameter, given: str | None) -> tuple[int, int] | None:
    """A shard, like 3/16."""
    number, _, count = (given or "").partition("/")
    if given is None:
        return None
    if not (number.isdecimal() and count.isdecimal()):
        raise click.BadParameter("it is not like 3/16", context, option)
    return int(number), int(count)


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


FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(), callback=opened)
SOURCES = click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
TABLE = click.argument("table")
TO = click.option("--to", "engine", metavar="URL", help="The database; default $DATALOADER_URL, else dataloader.db.")
SOURCE = click.option("--from", "source", metavar="URL", help="The database that is read; default as for --to.")
WRITING = (
    click.option(
        "--if-exists",
        type=click.Choice(IF_EXISTS),
        default="append",
        show_default=True,
        help="What to do with a table that exists.",
    ),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        default="auto",
        show_default=True,
        help="How rows are written.",
    ),
    click.option("--chunk-rows", type=click.IntRange(min=1), help="Rows converted and sent at once."),
    click.option("--max-rows-per-second", type=click.IntRange(min=1), help="How fast rows are sent at most."),
    click.option(
        "--casts",
        type=click.Choice(CASTS),
        default="exact",
        show_default=True,
        help="Whether values may be rounded to fit.",
    ),
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
    click.option(
        "--primary-key", metavar="COLUMNS", callback=names, help="Of a table that is created: a name, or a,b."
    ),
    click.option("--not-null", metavar="COLUMNS", callback=names, help="Of a created table: a,b."),
    click.option(
        "--evolve",
        type=click.Choice(EVOLVE),
        multiple=True,
        help="Add the columns that the table lacks, widen those that are too narrow.",
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
)
LOADING = (
    *WRITING,
    *csv_options.OPTIONS,
    click.option("--format", type=click.Choice(FORMATS), help="What the files are, where their names do not say it."),
    click.option("--sheet", metavar="NAME", help="The sheet of a spreadsheet, if it has several."),
    click.option("--cells", metavar="RANGE", help="The range of a sheet, with the names in its first row: B3:F100."),
    click.option("--filename", is_flag=True, help="A column `filename` with the path of each row's file."),
)
CHECKPOINTS = (
    click.option(
        "--commit",
        type=click.Choice(COMMITS),
        default="auto",
        show_default=True,
        help="One transaction for the load, or one for each chunk.",
    ),
    click.option("--workers", type=click.IntRange(min=1), help="Connections that commit chunks at once."),
    click.option("--resume/--no-resume", default=None, help="Continue an unfinished load, or start anew."),
    click.option("--load-id", metavar="NAME", help="The name of a load that can be resumed."),
    click.option("--shard", metavar="I/N", callback=part, help="Which part of the load this is, from 1/N to N/N."),
    click.option("--max-connections", type=click.IntRange(min=1), help="The most that all shards have at once."),
    click.option("--verify", is_flag=True, help="Read the rows back before they are committed."),
    click.option("--dry-run", is_flag=True, help="Roll everything back, and say what would have been."),
)
COMMITTING = (
    *CHECKPOINTS,
    click.option("--only-new", is_flag=True, help="Pass over files that are in the table already."),
)
PLAN = click.option("--plan", "plans", is_flag=True, help="Show what would be done, and write nothing.")
PROGRESS = click.option(
    "--progress", type=click.Choice(get_args(ProgressName)), help="How progress is shown on stderr; default auto."
)
REJECTING = (
    click.option(
        "--rejects",
        metavar="FILE",
        type=click.Path(),
        help="Keep what does not fit in FILE (.csv, .jsonl, .parquet).",
    ),
    click.option("--max-rejects", type=click.IntRange(min=0), help="The most rows that may be rejected."),
)
_SELECTING = (
    click.option("--from", "engine", metavar="URL", help="The database; default $DATALOADER_URL, else dataloader.db."),
    click.option("--columns", metavar="COLUMNS", callback=names, help="Which columns are wanted: a,b."),
    click.option("--max-rows", type=click.IntRange(min=0), help="The most rows that are read."),
    click.option("--statement-timeout", type=float, metavar="SECONDS", help="When PostgreSQL ends the query."),
)
READING = (
    *_SELECTING,
    click.option("--format", type=click.Choice(WRITTEN), help="What the file is, where its name does not say it."),
    click.option(
        "--if-exists",
        type=click.Choice(["fail", "replace"]),
        default="fail",
        show_default=True,
        help="Whether a file that exists is replaced.",
    ),
)
QUERYING = (
    *_SELECTING,
    click.option(
        "--as",
        "as_",
        type=click.Choice(["pandas", "polars", "arrow"]),
        default="pandas",
        show_default=True,
        help="What the result becomes.",
    ),
    click.option("--dtype-backend", type=click.Choice(["numpy_nullable", "pyarrow"]), help="As in pandas."),
    click.option("--index", metavar="COLUMNS", callback=names, help="The columns of the frame's index: a,b."),
)
SCHEMA = click.option("--schema", help="The schema whose ledger is meant, whoever it belongs to.")


def with_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with options, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
