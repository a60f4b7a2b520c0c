"""README's blocks run as they are written."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from pathlib import Path

import pytest

import dataloader as dl

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


async def run_block(block: str, names: dict[str, object]) -> None:
    code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.iscoroutine(result):
        await result


async def test_the_python_blocks_run_in_order(
    tmp_path: Path, server_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATALOADER_PG_FOLDER", str(server_folder))
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    names: dict[str, object] = {}
    exec("import sqlalchemy", names)
    for block in BLOCKS:
        if "localhost" in block:
            assert dl.connect("postgresql://me:secret@localhost:5432/shop").url.host == "localhost"
            continue
        await run_block(block, names)
    printed = capsys.readouterr().out
    assert "1000 rows in" in printed
    assert "row 1, column 'qty': 3.7 does not fit INTEGER: it has a fractional part. Nothing was" in printed
    assert "row 1, column 'qty': 'many' does not fit" in printed
    assert "orders_new" in printed
    assert "1000 rows in the background" in printed
    assert "0 new rows, 3 were there" in printed


def test_ci_runs_the_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert len(COMMANDS) == 2
    assert "readme_command 1" in script
    assert "readme_command 2" in script


def test_every_link_leads_to_a_file() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not target.startswith("http") and not (ROOT / target).exists()] == []
