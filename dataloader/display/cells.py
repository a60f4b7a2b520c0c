"""Cells of IPython: which one is executed, and what is shown in it already. IPython is never imported to find out."""

from __future__ import annotations

import sys
import weakref
from typing import Any

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
