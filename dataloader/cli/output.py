"""What the command line prints: text or one JSON object on stdout, errors on stderr."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import click

from dataloader.cli import words
from dataloader.conversion.violations import Violation
from dataloader.display.progress import LogView, choose_view
from dataloader.display.state import State, View
from dataloader.errors import DataLoaderError, ValidationError
from dataloader.formatting import fitted, printable, quantity, terminal_columns
from dataloader.plan import LoadPlan
from dataloader.report import CheckReport, ExportReport, LoadReport, ValidationReport


@dataclass(frozen=True, slots=True)
class Listing:
    """A text, and what it tells as data."""

    text: str
    members: dict[str, Any]


Result = LoadReport | CheckReport | ExportReport | LoadPlan | ValidationReport | Listing | str
"""What a command returns."""

OPTIONS = (
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the result, or the error."),
)

_OF_A_REPORT = tuple(
    one.name
    for one in dataclasses.fields(LoadReport)
    if one.name not in {"rejected_rows", "returned_rows", "first_rows", "pace", "columns"}
)
_OF_A_PLAN = (
    *("source", "rows", "about", "database", "statements", "method", "reason", "chunk_rows", "commit", "commit_reason"),
    *("workers", "creates_table", "clears_table", "keeps_rejects", "on_invalid", "dry_run", "notes", "warnings"),
)
_OF_AN_ERROR = ("committed_rows", "row", "column", "value", "reason", "sqlstate", "constraint", "load_id", "chunk")
_IN_WORDS = frozenset(
    {"what", "hint", "reason", "commit_reason", "on_invalid", "notes", "warnings", "facts", "problem", "suggestion"}
)
"""The members that are sentences, in the words of the command line; the others are exact."""


@dataclass(frozen=True, slots=True)
class Output:
    """How a command answers."""

    options: words.Options
    quiet: bool = False
    as_json: bool = False
    rejects: str | None = None
    engine: str | None = None

    def succeed(self, result: Result) -> None:
        """Print a result; one that is bad news is printed in any case."""
        if self.as_json:
            self._write(self._exact(result), getattr(result, "violations", None))
        elif not self.quiet or (isinstance(result, ValidationReport | CheckReport) and not result.ok):
            click.echo(self._shown(result))

    def fail(self, error: DataLoaderError) -> None:
        """Print an error: what happened, then what is committed and what to do."""
        if self.as_json:
            self._write({"status": "failed", "error": self._in_words(_error(error))})
        else:
            click.echo(self.spoken(f"error: {error.what}\n{error.hint}"), err=True)

    def stop(self, left: str) -> None:
        """Print what a load that was interrupted has left."""
        if self.as_json:
            self._write({"status": "stopped", "error": self._in_words({"type": "KeyboardInterrupt", "what": left})})
        else:
            click.echo(self.spoken(f"stopped: {left}"), err=True)

    def spoken(self, text: str) -> str:
        """A message in the words of the command line, as a terminal may show it."""
        return printable("\n".join(map(self._sentence, text.split("\n"))))

    def _shown(self, result: Result) -> str:
        """A result in lines that fit the terminal; but statements, and what a shell is to run, are as they are."""
        if isinstance(result, Listing | str):
            return self.spoken(result.text if isinstance(result, Listing) else result)
        return fitted(self.spoken(result._text)) + (_first_rows(result) if isinstance(result, LoadReport) else "")

    def view(self, asked: str | None) -> View | str:
        """The display of a load: asked for, or as quiet as the rest."""
        view = choose_view(asked or ("none" if self.quiet else "auto"))
        return SpokenLog(self) if isinstance(view, LogView) else view

    def _exact(self, result: Result) -> dict[str, Any]:
        if isinstance(result, str):
            return {"status": "done", "message": result}
        if isinstance(result, Listing):
            return {"status": "done", **result.members}
        if isinstance(result, CheckReport):
            findings = [one._asdict() for one in result.findings]
            return {"status": "ok" if result.ok else "problems", "database": result.database, "findings": findings}
        if isinstance(result, ExportReport):
            columns = [{"name": name, "type": kind} for name, kind in result.columns]
            return {"status": "done", **dataclasses.asdict(result), "columns": columns}
        if isinstance(result, LoadReport):
            return self._in_words(_report(result)) | {"rejects_file": self.rejects if result.rejected_rows else None}
        return self._in_words(_plan(result)) if isinstance(result, LoadPlan) else _validation(result)

    def _write(self, members: dict[str, Any], violations: Iterable[Violation] | None = None) -> None:
        """Print an object; violations may be millions, which wait on disk and are written one by one."""
        text = _json(members)
        if violations is not None:
            sys.stdout.write(f'{text[:-1]}, "violations": [')
            for number, one in enumerate(violations):
                sys.stdout.write((", " if number else "") + _json(self._in_words(one._asdict())))
            text = "]}"
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def _in_words(self, members: dict[str, Any]) -> dict[str, Any]:
        said = {name: self._sentence(value) for name, value in members.items() if name in _IN_WORDS}
        if "violations" in members:
            said["violations"] = [self._in_words(one) for one in members["violations"]]
        return members | said

    def _sentence(self, said: Any) -> Any:
        if isinstance(said, dict):
            return {name: self._sentence(one) for name, one in said.items()}
        if isinstance(said, (tuple, list)):
            return [self._sentence(one) for one in said]
        to = "" if self.engine is None else " --to URL"
        return words.spoken(said, self.options, rejects=self.rejects, to=to) if isinstance(said, str) else said


class SpokenLog(LogView):
    """The log of a load in the words of the command line."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def close(self, state: State) -> None:
        click.echo(self._output.spoken(str(state)), err=True)


def _first_rows(report: LoadReport) -> str:
    """The first rows that were loaded, below the names of their columns: those that there is room for."""
    if not report.first_rows:
        return ""
    lines = [tuple(name for name, _ in report.columns), *(tuple(map(_cell, row)) for row in report.first_rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ends = accumulate(width + 2 for width in widths)
    room = max(1, sum(end - 2 <= terminal_columns() for end in ends))
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths[:room], strict=False)) for line in lines]
    more = [f"... and {quantity(len(widths) - room, 'more column')}"] if room < len(widths) else []
    return "\n\n" + printable("\n".join([*(line.rstrip() for line in shown), *more]))


def _cell(text: str) -> str:
    return text if text.isprintable() and len(text) <= 40 else repr(text)[:40]


def _report(report: LoadReport) -> dict[str, Any]:
    return {
        "status": "done",
        **{name: getattr(report, name) for name in _OF_A_REPORT},
        "inserted": report.inserted,
        "columns": [{"name": name, "type": kind} for name, kind in report.columns],
        "reasons": _counted(report.rejected_rows.findings.counts),
    }


def _plan(plan: LoadPlan) -> dict[str, Any]:
    columns = [
        {"name": one.name, "source": str(one.source), "type": str(one.target), "verdict": one.verdict}
        | {"checks": one.all_checks}
        for one in plan.columns
    ]
    members = {name: getattr(plan, name) for name in _OF_A_PLAN}
    facts = dict([*plan.source_facts, *(plan.merge.facts if plan.merge is not None else [])])
    return {"status": "planned", **members, "table": str(plan.table.name), "columns": columns, "facts": facts}


def _validation(report: ValidationReport) -> dict[str, Any]:
    return {
        "status": "valid" if report.ok else "invalid",
        **{name: getattr(report, name) for name in ("source", "table", "database", "read", "invalid_rows")},
        "reasons": _counted(report.counts),
    }


def _error(error: DataLoaderError) -> dict[str, Any]:
    members = {name: getattr(error, name) for name in _OF_AN_ERROR if getattr(error, name, None) is not None}
    what = {"type": type(error).__name__, "what": error.what, "hint": error.hint}
    if isinstance(error, ValidationError):
        members["reasons"] = _counted(error.counts)
        members["violations"] = [one._asdict() for one in error.violations]
    return what | members


def _counted(counts: dict[Any, int]) -> list[dict[str, Any]]:
    return [{"column": column, "reason": reason, "count": count} for (column, reason), count in counts.items()]


def _json(members: dict[str, Any]) -> str:
    return json.dumps(members, default=_plain)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, (dt.datetime, dt.date)) else str(value)
