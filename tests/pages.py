"""The Python of the documents: blocks and calls, and how they are run."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import dataloader

ROOT = Path(__file__).parents[1]
PACKAGE = Path(dataloader.__file__).parent
"""Installed, it may be elsewhere than beside the tests."""


def python_blocks(path: Path) -> list[str]:
    """The blocks of a page that are marked as Python."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


async def run_block(block: str, names: dict[str, object], file: str = "page.md") -> None:
    """Execute a block as a notebook does: with `await` outside of functions."""
    result = eval(compile(block, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.iscoroutine(result):
        await result


async def run_call(call: str, names: dict[str, object]) -> object:
    """Execute a call, and return what it gives."""
    is_assignment = isinstance(ast.parse(call).body[0], ast.Assign)
    await run_block(call if is_assignment else f"_ = {call}", names)
    return names[call.partition(" = ")[0] if is_assignment else "_"]
