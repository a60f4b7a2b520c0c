"""What the command line prints is in its own words: its help, its examples, and every message of the package."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dataloader.cli import commands, words
from tests.pages import PACKAGE

OPTIONS = commands.known_options()
PYTHON = re.compile(rf"(?<![\w?&;./-])({'|'.join([*OPTIONS, 'csv', 'on_invalid'])})=(?!=)")
CALL = re.compile(r"\b\w+\((?:[^()]|\([^()]*\))*\)")


def messages() -> Iterator[str]:
    """Every text of the package that is no docstring, with ``x`` for what is put in."""
    for path in sorted({*PACKAGE.rglob("*.py")} - {Path(words.__file__)}):
        tree = ast.parse(path.read_text())
        parts = {id(part) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr) for part in one.values}
        documents = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
        for one in ast.walk(tree):
            if isinstance(one, ast.JoinedStr):
                yield "".join(map(rendered, one.values))
            elif isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in parts | documents:
                yield one.value


def rendered(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return "'x'" if isinstance(part, ast.FormattedValue) and part.conversion == ord("r") else "7"


def spoken(message: str) -> str:
    return "\n".join(words.spoken(line, OPTIONS) for line in message.split("\n"))


def test_no_message_speaks_of_options_as_python_writes_them() -> None:
    found = sorted({one for one in messages() if not one.startswith("PRAGMA ") and PYTHON.search(CALL.sub("", one))})
    assert len(found) > 40
    said = [CALL.sub("", spoken(message)) for message in found]
    assert [one for one in said if PYTHON.search(one)] == []


SAID = {
    "Choose if_exists='append', 'truncate' or 'replace'.": "Choose --if-exists append, 'truncate' or 'replace'.",
    "Leave resume=True out.": "Leave --resume out.",
    "Start with resume=False.": "Start with --no-resume.",
    "Say it: csv={'header': False}.": "Say it: --csv-no-header.",
    "Say it: csv={'delimiter': ';', 'quote': ''}.": "Say it: --csv-delimiter ';' --csv-quote ''.",
    "0x96 (csv= decides: encoding)": "0x96 (--csv-encoding decides)",
    "pass load_id='a name' with resume=True": "pass --load-id 'a name' with --resume",
    "error: max_rejects requires on_invalid='reject'": "error: --max-rejects requires --rejects FILE",
    "2 in 'id' (syntax); see report.rejects": "2 in 'id' (syntax); see bad.csv",
    "  ... and 7 more, see .frame": "  ... and 7 more: --json shows them",
    "Correct the text, or set it to None.": "Correct the text, or leave the field empty.",
    "row 1, column 'note': 'key=1' does not fit": "row 1, column 'note': 'key=1' does not fit",
    "key=1 of x, \"it's method='copy'\"": "--key 1 of x, \"it's method='copy'\"",
    "cannot reach x?engine=1&key=2": "cannot reach x?engine=1&key=2",
    "Run load_rows(..., load_id='a', resume=True).": "Run load_rows(..., load_id='a', resume=True).",
    "9 rows are committed; continue with await load_files(..., 'orders', load_id='a.csv-1', resume=True), or: "
    "python -m dataloader resume a.csv-1. Correct it.": "9 rows are committed; continue with "
    "python -m dataloader resume a.csv-1 --to URL. Correct it.",
    "continue with await load_files(..., 'orders', load_id='may 1', resume=True, chunk_rows=5).": "continue with "
    "the same command with --resume --load-id 'may 1' --chunk-rows 5.",
    "Pass shard=(1, 16) to shard=(16, 16).": "Pass --shard 1/16 to --shard 16/16.",
    "PRAGMA foreign_keys=ON": "PRAGMA foreign_keys=ON",
}


@pytest.mark.parametrize(("message", "said"), SAID.items())
def test_options_are_translated_and_data_is_not(message: str, said: str) -> None:
    assert words.spoken(message, OPTIONS, rejects="bad.csv", to=" --to URL") == said


def examples() -> Iterator[tuple[str, str]]:
    for name, command in {"": commands.main, **commands.main.commands}.items():
        for line in (command.epilog or "").splitlines():
            if "dataloader " in line:
                yield name, line.strip()


EXAMPLES = [*examples()]


def test_every_command_has_examples() -> None:
    assert {name for name, _ in EXAMPLES} == {"", *commands.main.commands}


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_every_example_is_a_command_that_is_understood(name: str, example: str) -> None:
    found = re.search(r"dataloader ([^)>#]*)", example)
    assert found
    command, *arguments = shlex.split(found[1])
    assert not name or command == name
    commands.main.commands[command].make_context(command, arguments)


def test_the_list_of_commands_tells_what_each_does() -> None:
    context = click.Context(commands.main, terminal_width=100)
    for command in commands.main.commands.values():
        short = command.get_short_help_str(80)
        assert short.endswith(".")
        assert "..." not in short
        assert short in commands.main.get_help(context)


def test_every_option_says_what_it_is_for() -> None:
    options = [
        one for command in commands.main.commands.values() for one in command.params if isinstance(one, click.Option)
    ]
    assert [one.opts for one in options if not one.help] == []
