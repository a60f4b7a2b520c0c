"""How much of files is done while they are read: by their sizes, as their rows are counted at the end only."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

import dataloader as dl
from dataloader.display import progress
from dataloader.display.state import State
from dataloader.sources.files import open_files

ROWS = 60_000


def csv_text(rows: int) -> str:
    """The lines of the second half are five times as long as those of the first."""
    return "id,note\n" + "".join(f"{number},{'x' * (20 if number < rows / 2 else 100)}\n" for number in range(rows))


class Seen:
    """Notes how much is done, whenever a view is drawn."""

    interval = 0.0

    def __init__(self) -> None:
        self.states: list[tuple[int, float | None, float | None]] = []

    def open(self, state: State, _cancel: Any) -> None: ...

    def update(self, state: State) -> None:
        self.states.append((state.rows, state.fraction, state.remaining))

    def close(self, state: State) -> None:
        self.update(state)


def test_rows_are_expected_by_samples_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text(csv_text(ROWS))
    position: Any = open_files([tmp_path / "1.csv", tmp_path / "1.csv"]).position
    assert position.about_rows == pytest.approx(2 * ROWS, rel=0.1)


async def test_the_share_of_csv_files_that_is_done_is_that_of_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.005)  # however fast the machine is, several are seen
    for name in ("1.csv", "2.csv"):
        (tmp_path / name).write_text(csv_text(ROWS))
    seen = Seen()
    options: Any = {"engine": f"sqlite:///{tmp_path}/t.db", "chunk_rows": 2_000, "commit": "chunk", "progress": seen}
    report = await dl.load_files(tmp_path / "*.csv", "t", **options)
    shares = [(rows / report.read, share) for rows, share, _ in seen.states if share is not None]
    assert len(shares) > 3
    assert all(abs(done - share) < 0.12 for done, share in shares), shares
    assert seen.states[-1][1:] == (1.0, None)


def test_a_compressed_file_tells_more_the_more_is_read_of_it(tmp_path: Path) -> None:
    path = tmp_path / "1.csv.gz"
    path.write_bytes(gzip.compress(csv_text(ROWS).encode()))
    source = open_files(path)
    position: Any = source.position
    assert position.about_rows is None
    expected = [position.about_rows for _ in source.batches(2_000)]
    assert all(rows is not None and 0 < rows <= ROWS for rows in expected)
    assert expected[-1] == ROWS


@pytest.mark.parametrize(
    ("text", "rows"),
    [("id\n1\n2\n", 2), ("id\n1\n2", 2), ("id\n", 0), ("Report\n\nid;v\n1;2\n2;3\n", 2), ("id,v\n" + "1,2\n" * 99, 99)],
)
def test_the_rows_that_are_expected_of_a_csv_do_not_count_what_stands_above_them(
    tmp_path: Path, text: str, rows: int
) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert open_files(tmp_path / "a.csv").about == rows
