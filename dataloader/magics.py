"""The magics ``%dataload SOURCE... TABLE``, with the options of the command line, and ``%%query NAME``."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import click

from dataloader.api import checks, loads, reads
from dataloader.cli import csv as csv_options
from dataloader.cli.commands import load_keeping_rejects
from dataloader.cli.options import (
    COMMITTING,
    LOADING,
    PLAN,
    PROGRESS,
    QUERYING,
    REJECTING,
    SOURCES,
    TABLE,
    TO,
    with_options,
)
from dataloader.database.backends.reading import replaced
from dataloader.errors import PlanError
from dataloader.formatting import closest
from dataloader.plan import LoadPlan
from dataloader.report import LoadReport
from dataloader.sync import run

NAME = "dataload"
_USAGE = "Write: %dataload SOURCE... TABLE [options], where SOURCE is a variable or files; %dataload --help shows them."


QUERY = "query"
_QUERY_USAGE = "Write: %%query NAME [options], and the query below; or frame = %query SELECT ..."


@click.command(QUERY, options_metavar="[options]")
@with_options(click.argument("name", required=False), *QUERYING, PROGRESS)
def _query_command(**_: Any) -> None:
    """Read the query below into the variable NAME; without a name the frame is shown.

    Where the query says :least, the variable least is meant.
    """


@click.command(NAME, options_metavar="[options]")
@with_options(SOURCES, TABLE, TO, *LOADING, *COMMITTING, *REJECTING, PLAN, PROGRESS)
def _command(**_: Any) -> None:
    """Load a variable (a DataFrame, an Arrow table, a dict of columns) or files into TABLE."""


def register(shell: Any) -> None:
    """Give a shell of IPython the magic, and its completions."""

    def dataload(line: str, cell: str | None = None) -> LoadReport | LoadPlan | None:
        return _dataload(f"{line}\n{cell or ''}", shell.user_ns)

    def query(line: str, cell: str | None = None) -> Any:
        return _query(line, cell, shell.user_ns)

    dataload.__doc__, query.__doc__ = _help(_command), _help(_query_command)
    shell.register_magic_function(dataload, "line_cell", NAME)
    shell.register_magic_function(query, "line_cell", QUERY)
    for prefix in ("%", "%%"):
        shell.set_hook("complete_command", _completions, str_key=f"{prefix}{NAME}")


def _dataload(text: str, variables: Mapping[str, Any]) -> LoadReport | LoadPlan | None:
    """Carry out the magic; a cell's lines are one line, in which ``#`` begins a comment."""
    options = _parse(text, _command, _USAGE)
    if options is None:
        return None
    csv_options.gather(options)
    data, table, rejects = _data(options.pop("sources"), variables), options.pop("table"), options.pop("rejects")
    options["engine"] = variables.get(options["engine"], options["engine"])
    options["progress"] = options["progress"] or "auto"
    if options.pop("plans"):
        return run(checks.plan_load(data, table, **options, on_invalid="raise" if rejects is None else "reject"))
    loader: Any = loads.load_files if isinstance(data, list) else loads.load_dataframe
    return run(load_keeping_rejects(loader, data, table, rejects, options))


def _query(line: str, cell: str | None, variables: MutableMapping[str, Any]) -> Any:
    """Carry out the magic: above a query its options, or on one line the query alone."""
    asks_for_help = line.strip() in {"-h", "--help"}
    options = _parse(line if asks_for_help or cell is not None else "", _query_command, _QUERY_USAGE)
    if options is None:
        return None
    name, text = options.pop("name"), line if cell is None else cell
    if not text.strip():
        raise PlanError("%query: there is no query", hint=_QUERY_USAGE)
    if name is not None and not name.isidentifier():
        raise PlanError(f"%query: {name!r} cannot be the name of a variable", hint=_QUERY_USAGE)
    options["engine"] = variables.get(options["engine"], options["engine"])
    options["progress"] = options["progress"] or "auto"
    frame = run(reads.read_dataframe(text, _named_in(text, variables), **options))
    if name is None:
        return frame
    variables[name] = frame
    return None


def _named_in(text: str, variables: Mapping[str, Any]) -> dict[str, Any] | None:
    """The variables that the query names as parameters."""
    names: list[str] = []
    replaced(text, names.append)  # which replaces nothing
    names = [name for name in dict.fromkeys(names) if not name.isdigit()]
    if missing := [name for name in names if name not in variables]:
        raise PlanError(
            f"%query: there is no variable {missing[0]!r} for :{missing[0]}", hint="Set it before the query."
        )
    return {name: variables[name] for name in names} or None


def _parse(text: str, command: click.Command, usage: str) -> dict[str, Any] | None:
    """The options by name; None when they asked for help, which is printed then."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise PlanError(f"%{command.name} cannot be read: {str(error).lower()}", hint=usage) from None
    if "--help" in words or "-h" in words:
        print(_help(command))
        return None
    try:
        return command.make_context(f"%{command.name}", words).params
    except click.UsageError as error:
        what = error.format_message().rstrip(".")
        raise PlanError(f"%{command.name}: {what[:1].lower()}{what[1:]}", hint=usage) from None


def _help(command: click.Command) -> str:
    return command.get_help(click.Context(command, info_name=f"%{command.name}"))


def _data(sources: tuple[str, ...], variables: Mapping[str, Any]) -> Any:
    """The variable that is meant, or a list of files."""
    if len(sources) == 1 and sources[0] in variables:
        return variables[sources[0]]
    for source in sources:
        if source.isidentifier() and not Path(source).exists():
            close = closest(source, _loadable(variables))
            hint = f"Did you mean {close!r}?" if close else "Pass the name of a variable, or files."
            raise PlanError(f"there is neither a variable nor a file {source!r}", hint=hint)
    return list(sources)


def _loadable(variables: Mapping[str, Any]) -> list[str]:
    """The names of variables that hold a table, as far as can be seen without touching them."""
    marks = ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
    return [
        name
        for name, value in variables.items()
        if not name.startswith("_") and (isinstance(value, dict) or any(hasattr(type(value), one) for one in marks))
    ]


def _completions(shell: Any, event: Any) -> list[str]:
    """Options after a dash, what an option may be after its name, else variables and files."""
    options = {name: option for option in _command.params for name in option.opts if name.startswith("--")}
    before = event.line[: len(event.line) - len(event.symbol)].split()
    if event.symbol.startswith("-"):
        return sorted([*options, "--help"])
    if before and isinstance(getattr(options.get(before[-1]), "type", None), click.Choice):
        return list(options[before[-1]].type.choices)  # type: ignore[attr-defined]  # it is a Choice
    return [*_loadable(shell.user_ns), *sorted(glob.glob(f"{event.symbol}*"))]
