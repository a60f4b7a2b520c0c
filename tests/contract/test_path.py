"""How far one row travels: the files of the package that a load enters, and how often it passes from one to another."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pandas as pd
import pytest

import dataloader as dl

PACKAGE = str(Path(dl.__file__).parent)
LONGEST = {"load": (53, 425), "chunk": (57, 625)}
"""For each way to commit the most files and changes of file, ten for the heartbeat among them. They only shrink."""


def entered(load: Callable[[], Any]) -> list[list[str]]:
    """For each thread the files of the package in the order in which its functions are called there.

    Two threads run at once: in a common order the changes of file would depend on how the machine mixes them.
    """
    frames: dict[FrameType, str] = {}  # one that goes on after an await, or a yield, is called again: it counts once
    threads: dict[int, list[str]] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            if frame not in frames:
                frames[frame] = frame.f_code.co_filename
                threads.setdefault(threading.get_ident(), []).append(frames[frame])

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        load()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return list(threads.values())


@pytest.mark.parametrize("commit", LONGEST)
def test_one_row_enters_few_files(commit: Literal["load", "chunk"], tmp_path: Path) -> None:
    async def load() -> None:
        frame = pd.DataFrame({"id": [1], "note": ["a"]})
        url = f"sqlite:///{tmp_path / 'one.db'}"
        report = await dl.load_dataframe(frame, "one", engine=url, commit=commit, resume=False, progress="none")
        assert report.loaded == 1

    asyncio.run(load())
    threads = entered(lambda: asyncio.run(load()))
    files = {file for thread in threads for file in thread}
    changes = sum(one != other for thread in threads for one, other in itertools.pairwise(thread))
    print(f"commit={commit}: {len(files)} files, {changes} changes of file, {sum(map(len, threads))} calls")
    most_files, most_changes = LONGEST[commit]
    assert len(files) <= most_files, sorted(files)
    assert changes <= most_changes
