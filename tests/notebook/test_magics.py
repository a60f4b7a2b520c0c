"""The magic %dataload, in a real IPython shell."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import dataloader as dl
from dataloader import magics
from dataloader.database import engine as engines


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell in an empty folder, with a frame and two files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("DATALOADER_URL", f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.setattr(engines.Default, "address", None)
    for number in range(2):
        Path(f"part{number}.csv").write_text(f"id,name\n{number},a\n{number + 10},\n")
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "dataloader")
    shell.push({"df": pd.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"]}), "number": 7})
    yield shell
    dl.run(engines.dispose_all())  # the file of the same name in the next test is another one
    shell.history_manager.end_session()


def result_of(shell: InteractiveShell, code: str) -> Any:
    ran = shell.run_cell(code)
    ran.raise_error()
    return ran.result


def error_of(shell: InteractiveShell, code: str) -> BaseException:
    ran = shell.run_cell(code)
    assert ran.error_in_exec is not None, f"no error, but {ran.result}"
    return ran.error_in_exec


def stored(table: str = "orders", file: str = "shop.db") -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
    finally:
        connection.close()


def test_a_frame_is_loaded_by_its_name(shell: InteractiveShell) -> None:
    assert result_of(shell, "%dataload df orders").loaded == 3
    assert stored() == [(1, "a"), (2, None), (3, "c")]


def test_options_are_those_of_the_command_line(shell: InteractiveShell) -> None:
    result_of(shell, "%dataload df orders")
    result_of(shell, "%dataload df orders --if-exists replace --chunk-rows 2 --to sqlite:///other.db")
    assert stored(file="other.db") == [(1, "a"), (2, None), (3, "c")]
    result_of(shell, "%dataload df orders --if-exists truncate")
    assert len(stored()) == 3


def test_files_are_loaded_by_pattern_and_by_name(shell: InteractiveShell) -> None:
    assert result_of(shell, "%dataload 'part*.csv' orders").loaded == 4
    assert result_of(shell, "%dataload part0.csv part1.csv orders").loaded == 4
    assert len(stored()) == 8


def test_a_cell_takes_the_same_words_over_several_lines(shell: InteractiveShell) -> None:
    report = result_of(shell, "%%dataload df orders\n--if-exists replace   # anew\n--chunk-rows 2\n")
    assert report.loaded == 3


def test_a_plan_is_shown_and_nothing_is_written(shell: InteractiveShell) -> None:
    plan = result_of(shell, "%dataload df orders --plan")
    assert isinstance(plan, dl.LoadPlan)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        stored()


def test_rejects_are_kept_in_a_file(shell: InteractiveShell) -> None:
    result_of(shell, "%dataload df orders")
    shell.push({"bad": pd.DataFrame({"id": ["4", "x"], "name": ["d", "e"]})})
    report = result_of(shell, "%dataload bad orders --rejects rejects.csv")
    assert (report.loaded, report.rejected) == (1, 1)
    assert "x" in Path("rejects.csv").read_text()


def test_an_engine_is_named_by_its_variable(shell: InteractiveShell) -> None:
    shell.push({"mine": engines.open_engine(sa.make_url("sqlite+aiosqlite:///mine.db"))})
    result_of(shell, "%dataload df orders --to mine")
    assert len(stored(file="mine.db")) == 3
    dl.run(shell.user_ns["mine"].dispose())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "missing argument 'SOURCE...'"),
        ("df", "missing argument 'SOURCE...'"),
        ("dff orders", "there is neither a variable nor a file 'dff'. Did you mean 'df'?"),
        ("zzz orders", "Pass the name of a variable, or files."),
        ("df orders --if-exist replace", "no such option"),
        ("df orders --if-exists destroy", "'destroy' is not one of"),
        ("df orders --chunk-rows many", "'many' is not a valid integer range"),
        ("'df orders", "cannot be read: no closing quotation"),
        ("number orders", "expected a table, got int"),
        ("nothing.csv orders", "nothing.csv"),
    ],
)
def test_a_wrong_line_is_a_clear_error(shell: InteractiveShell, line: str, said: str) -> None:
    error = error_of(shell, f"%dataload {line}")
    assert isinstance(error, (dl.DataLoaderError, TypeError))
    assert said in str(error)


def test_an_error_of_ours_is_shown_without_a_traceback(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    error_of(shell, "%dataload dff orders")
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert "PlanError: there is neither a variable nor a file 'dff'" in shown.out + shown.err


def test_help_shows_every_option(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    assert result_of(shell, "%dataload --help") is None
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("%dataload", "SOURCE...", "--if-exists", "--resume", "--plan"))
    assert result_of(shell, "%query --help") is None
    assert {"%query", "[NAME]", "--as", "--index"} <= {*capsys.readouterr().out.split()}


class Event:
    def __init__(self, line: str) -> None:
        self.line, self.symbol = line, line.rpartition(" ")[2]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%dataload d", "df"),
        ("%dataload p", "part0.csv"),
        ("%dataload df orders --", "--if-exists"),
        ("%dataload df orders --if-exists ", "replace"),
    ],
)
def test_completions(shell: InteractiveShell, line: str, offered: str) -> None:
    assert offered in magics._completions(shell, Event(line))
    assert "number" not in magics._completions(shell, Event(line))
    with provisionalcompleter():
        shown = [one.text for one in shell.Completer.completions(line, len(line))]
    assert offered in shown


def test_a_query_is_read_into_a_variable_with_the_variables_that_it_names(shell: InteractiveShell) -> None:
    result_of(shell, "%dataload df orders")
    shell.push({"least": 2, "who": "it's"})
    text = "SELECT id, :who AS who, ':number' AS n\nFROM orders -- :nobody\nWHERE id >= :least ORDER BY id"
    assert result_of(shell, f"%%query found --index id\n{text}") is None
    found = shell.user_ns["found"]
    assert (found.index.tolist(), found["who"].tolist(), found["n"].tolist()) == ([2, 3], ["it's"] * 2, [":number"] * 2)
    result_of(shell, "%%query table --as arrow --columns name --max-rows 1\nSELECT * FROM orders")
    assert shell.user_ns["table"].to_pylist() == [{"name": "a"}]


def test_a_query_without_a_name_is_the_result_of_its_cell_or_line(shell: InteractiveShell) -> None:
    result_of(shell, "%dataload df orders --to sqlite:///other.db")
    shell.push({"mine": engines.open_engine(sa.make_url("sqlite+aiosqlite:///other.db"))})
    assert result_of(shell, "%%query --from mine\nSELECT count(*) AS n FROM orders")["n"].tolist() == [3]
    dl.run(shell.user_ns["mine"].dispose())
    result_of(shell, "%dataload df orders")
    assert result_of(shell, "found = %query SELECT id FROM orders WHERE id = :number - 6\nfound")["id"].tolist() == [1]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%query\n ", "there is no query"),
        ("%%query a-b\nSELECT 1", "'a-b' cannot be the name of a variable"),
        ("%%query a --as excel\nSELECT 1", "'excel' is not one of"),
        ("%%query a\nSELECT :nothing", "there is no variable 'nothing' for :nothing"),
        ("%%query a\nSELECT FROM", "syntax error"),
    ],
)
def test_a_wrong_query_is_a_clear_error(shell: InteractiveShell, cell: str, said: str) -> None:
    assert said in str(error_of(shell, cell))
    assert "a" not in shell.user_ns
