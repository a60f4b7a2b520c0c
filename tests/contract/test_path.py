"""How far one row travels: the files of the package that a load enters, and how often it passes from one to another."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pandas as pd
import pytest

import dataloader as dl
from dataloader.display import progress

PACKAGE = str(Path(dl.__file__).parent)
LONGEST = {"load": (53, 366), "chunk": (57, 531)}
"""For each way to commit the most files, and the most calls of another file. They only shrink."""


def calls(load: Callable[[], Any]) -> list[tuple[str, str]]:
    """Every call of the package's functions: the file that calls, directly or not, and the one that is called.

    They are not counted by their order: several threads and tasks run at once, as the machine mixes them.
    """
    frames: dict[FrameType, tuple[str, str]] = {}  # one that goes on after an await, or a yield, counts once

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE) and frame not in frames:
            caller = frame.f_back
            while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
                caller = caller.f_back
            frames[frame] = ("" if caller is None else caller.f_code.co_filename, frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        load()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return list(frames.values())


@pytest.mark.parametrize("commit", LONGEST)
def test_one_row_enters_few_files(
    commit: Literal["load", "chunk"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "TICK_SECONDS", 3600.0)  # the slower the machine is, the more often it would beat

    async def load() -> None:
        frame = pd.DataFrame({"id": [1], "note": ["a"]})
        url = f"sqlite:///{tmp_path / 'one.db'}"
        report = await dl.load_dataframe(frame, "one", engine=url, commit=commit, resume=False, progress="none")
        assert report.loaded == 1

    asyncio.run(load())
    made = calls(lambda: asyncio.run(load()))
    files = {called for _, called in made}
    changes = sum(caller != called for caller, called in made)
    print(f"commit={commit}: {len(files)} files, {changes} calls of another file, {len(made)} calls")
    most_files, most_changes = LONGEST[commit]
    assert len(files) <= most_files, sorted(files)
    assert changes <= most_changes
