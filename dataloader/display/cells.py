"""Cells of IPython: which one is executed, and what is shown in it already. IPython is never imported to find out."""

from __future__ import annotations

import sys
import traceback
import weakref
from pathlib import Path
from typing import Any

from dataloader.errors import WHOLE_TRACEBACK
from dataloader.formatting import wrapped

PACKAGE = str(Path(__file__).parents[1])

_shown: weakref.WeakValueDictionary[tuple[int | None, int], Any] = weakref.WeakValueDictionary()


def ipython_shell() -> Any:
    """The shell of IPython, None outside of it."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def current_cell() -> int | None:
    """The number of the cell that is executed, None outside of IPython."""
    shell = ipython_shell()
    return None if shell is None else int(shell.execution_count)


def note_shown(result: object, cell: int | None) -> None:
    """A report took the place of its bar in a cell: as the cell's result it would stand there twice."""
    _shown[cell, id(result)] = result


def show_unless_shown(result: object) -> None:
    """What IPython calls to show a report.

    Raises
    ------
    NotImplementedError
        When the report is not in the cell yet: IPython then shows it as it shows anything.
    """
    if _shown.get((current_cell(), id(result))) is not result:
        raise NotImplementedError


def show_own_frames(error: BaseException) -> None:
    """Have IPython show where a source has failed in the caller's code, without the frames of this package."""
    error._render_traceback_ = lambda: _own_frames(error)  # type: ignore[attr-defined]


def _own_frames(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    ours = max((at for at, frame in enumerate(frames) if frame.filename.startswith(PACKAGE)), default=-1)
    lines = [
        f"  {_code_name(frame.filename)}, line {frame.lineno}, in {frame.name}\n    {frame.line}"
        for frame in frames[ours + 1 :]
    ]
    what = "".join(traceback.format_exception_only(error)).rstrip()  # with its notes: what is committed
    head, _, notes = what.partition("\n")
    return [wrapped(head), *lines, *([wrapped(notes)] if notes else []), WHOLE_TRACEBACK]


def _code_name(filename: str) -> str:
    """A file, or a cell as IPython calls it."""
    name = getattr(getattr(ipython_shell(), "compile", None), "format_code_name", lambda _: None)(filename)
    return " ".join(name) if name else filename
