"""The options of the command line and of the notebook's magic: the same words for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dataloader.options import CASTS, COMMITS, IF_EXISTS, METHODS

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
