"""What the command line prints with --plan, --quiet, --json and --progress, and its completion scripts."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dataloader import cli

pytestmark = pytest.mark.any_version

TO = ("--to", "sqlite:///shop.db")


class Answer(NamedTuple):
    code: int
    output: str
    errors: str

    @property
    def said(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.output)


class Command:
    """The command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Answer:
        code = 0
        try:
            cli.main([*arguments], standalone_mode=False)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Answer(code, *self._capsys.readouterr())


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATALOADER_URL", raising=False)
    monkeypatch.delenv("DATALOADER_PROGRESS", raising=False)
    (tmp_path / "good.csv").write_text("id,amount\n9007199254740993,1.10\n2,20.5\n")
    (tmp_path / "bad.csv").write_text("id,amount\n7,1.5\nx,2.5\n8.5,3\n")
    return Command(capsys)


def rows() -> int:
    with sqlite3.connect("shop.db") as connection:
        found = int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])
    connection.close()
    return found


def test_a_quiet_load_prints_nothing(command: Command) -> None:
    assert command("load", "good.csv", "orders", *TO, "--quiet") == (0, "", "")
    assert rows() == 2


def test_a_quiet_load_that_fails_says_why_and_what_is_committed(command: Command) -> None:
    command("load", "good.csv", "orders", *TO, "-q")
    failed = command("load", "bad.csv", "orders", *TO, "-q")
    assert (failed.code, failed.output) == (1, "")
    why, *_, left = failed.errors.splitlines()
    assert why.startswith("error: ")
    assert "row 1, column 'id': 'x'" in failed.errors
    assert left.startswith("Nothing was written.")


def test_a_quiet_validation_prints_what_does_not_fit(command: Command) -> None:
    command("load", "good.csv", "orders", *TO, "-q")
    assert command("validate", "good.csv", "orders", *TO, "-q") == (0, "", "")
    found = command("validate", "bad.csv", "orders", *TO, "-q")
    assert found.code == 1
    assert "2 of 3 rows of bad.csv do not fit" in found.output


def test_the_report_is_one_json_object_with_exact_numbers(command: Command) -> None:
    done = command("load", "good.csv", "orders", *TO, "--json", "--progress", "none")
    assert (done.code, done.errors) == (0, "")
    said = done.said
    assert (said["status"], said["read"], said["loaded"], said["inserted"], said["rejected"]) == ("done", 2, 2, 2, 0)
    assert [one["name"] for one in said["columns"]] == ["id", "amount"]
    assert isinstance(said["seconds"], float)
    assert said["created"] is True


def test_rejected_rows_are_counted_in_json_and_kept_in_the_file(command: Command) -> None:
    command("load", "good.csv", "orders", *TO, "-q")
    said = command("load", "bad.csv", "orders", *TO, "--json", "--rejects", "r.csv").said
    assert (said["loaded"], said["rejected"], said["rejects_file"]) == (1, 2, "r.csv")
    assert said["reasons"] == [
        {"column": "id", "reason": "syntax", "count": 1},
        {"column": "id", "reason": "fraction", "count": 1},
    ]
    assert Path("r.csv").exists()


@pytest.mark.parametrize("words", [("load", "--plan"), ("plan",)], ids=" ".join)
def test_a_plan_writes_nothing_and_is_json_too(command: Command, words: tuple[str, ...]) -> None:
    name, *more = words
    said = command(name, "good.csv", "orders", *TO, *more, "--json").said
    assert (said["status"], said["table"], said["creates_table"], said["commit"]) == ("planned", "orders", True, "load")
    assert said["columns"][0] == {
        "name": "id",
        "source": "int64",
        "type": "BIGINT",
        "verdict": "exact",
        "checks": "",
    }
    assert "CREATE TABLE" in said["statements"][0]
    assert not Path("shop.db").exists()


def test_a_plan_with_rejects_says_where_they_go(command: Command) -> None:
    shown = command("load", "good.csv", "orders", *TO, "--plan", "--rejects", "r.csv")
    assert "kept in r.csv" in shown.output
    assert not Path("r.csv").exists()


def test_every_violation_is_in_the_json_of_a_validation(command: Command) -> None:
    command("load", "good.csv", "orders", *TO, "-q")
    found = command("validate", "bad.csv", "orders", *TO, "--json")
    said = found.said
    assert (found.code, said["status"], said["invalid_rows"]) == (1, "invalid", 2)
    assert [(one["row"], one["column"], one["value"]) for one in said["violations"]] == [
        (1, "id", "'x'"),
        (2, "id", "'8.5'"),
    ]
    assert "None" not in said["violations"][0]["suggestion"]


def test_an_error_is_json_in_the_words_of_the_command_line(command: Command) -> None:
    command("load", "good.csv", "orders", *TO, "-q")
    failed = command("load", "bad.csv", "orders", *TO, "--json", "-q")
    assert (failed.code, failed.errors) == (1, "")
    error = failed.said["error"]
    assert (error["type"], error["row"], error["column"], error["committed_rows"]) == ("ValidationError", 1, "id", 0)
    wrong = command("load", "good.csv", "orders", *TO, "--json", "--max-rejects", "3").said["error"]
    assert wrong["what"] == "--max-rejects requires --rejects FILE"


@pytest.mark.parametrize("how", [("--json",), ("--quiet",), ()], ids=" ".join)
def test_no_password_is_printed(command: Command, how: tuple[str, ...]) -> None:
    failed = command("load", "good.csv", "orders", "--to", "postgresql://me:S3CRET@127.0.0.1:1/shop", *how)
    assert failed.code == 1
    assert "S3CRET" not in failed.output + failed.errors
    assert "127.0.0.1:1" in failed.output + failed.errors


def test_the_log_of_a_failed_load_speaks_of_options_of_the_command(command: Command) -> None:
    (Path.cwd() / "two.csv").write_text("id,amount\n1,1\nx,2\n")
    command("load", "good.csv", "orders", *TO, "-q")
    failed = command("load", "two.csv", "orders", *TO, "--progress", "log")
    assert "two.csv → orders: failed" in failed.errors
    assert "None" not in failed.errors


def test_progress_is_shown_as_asked(command: Command) -> None:
    assert command("load", "good.csv", "orders", *TO, "--progress", "none").errors == ""
    assert "done 100% 2 rows" in command("load", "good.csv", "orders", *TO, "--progress", "log").errors
    assert "done 100% 2 rows" in command("load", "good.csv", "orders", *TO, "--quiet", "--progress", "log").errors


def test_the_first_rows_shown_are_those_that_were_loaded(command: Command) -> None:
    (Path.cwd() / "other.csv").write_text("id,amount\n5,6\n")
    command("load", "good.csv", "orders", *TO, "-q")
    assert command("load", "other.csv", "orders", *TO).output.splitlines()[-1].split() == ["5", "6"]


def test_a_dry_run_into_a_new_table_shows_what_would_be_there(command: Command) -> None:
    shown = command("load", "good.csv", "orders", *TO, "--dry-run")
    assert shown.code == 0
    assert shown.output.startswith("dry run, rolled back: 2 rows")
    assert "9007199254740993" in shown.output


def test_the_history_is_json(command: Command) -> None:
    command("load", "good.csv", "orders", *TO, "-q", "--commit", "chunk", "--load-id", "may")
    assert "may" in command("history", *TO).output
    said = command("history", *TO, "--json").said
    assert [(one["load_id"], one["state"], one["loaded"]) for one in said["loads"]] == [("may", "finished", 2)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_given_its_script(command: Command, shell: str) -> None:
    script = command("completion", shell).output
    assert "_DATALOADER_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ("dataloader lo", "plain,load"),
        ("dataloader load --if-ex", "plain,--if-exists"),
        ("dataloader load --casts l", "plain,lossy"),
        ("dataloader load or", "file,or"),
    ],
)
def test_commands_options_choices_and_files_are_completed(words: str, known: str) -> None:
    count = str(len(words.split()) - 1)
    asked = {"_DATALOADER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    code = "from dataloader.cli import main; main(prog_name='dataloader')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert known in done.stdout.splitlines()
