"""How fast a load went: few marks whatever its size, and a picture that anybody's notebook can show."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from dataloader.display.pace import MARKS, Pace, drawn, rates
from dataloader.report import LoadReport


def steady(chunks: int, rows: int = 100, seconds: float = 0.5) -> Pace:
    pace = Pace(0.0, 0)
    for number in range(1, chunks + 1):
        pace.add(number * seconds, number * rows)
    return pace


@pytest.mark.parametrize("chunks", [0, 1, 2, 119, 120, 121, 122, 5_000])
def test_the_marks_stay_few_and_reach_from_the_first_to_the_last_chunk(chunks: int) -> None:
    marks = steady(chunks).marks
    assert marks[0] == (0.0, 0)
    assert marks[-1] == (chunks * 0.5, chunks * 100)
    assert min(chunks + 1, MARKS // 2) <= len(marks) <= MARKS + 1
    assert list(marks) == sorted(set(marks))


@pytest.mark.parametrize("chunks", [2, 120, 5_000])
def test_a_steady_load_has_one_rate(chunks: int) -> None:
    assert rates(steady(chunks).marks) == pytest.approx([200.0] * (len(steady(chunks).marks) - 1))


def test_two_workers_that_commit_at_once_make_no_peak() -> None:
    marks = [(0.0, 0), (1.0, 100), (1.0, 200), (2.0, 300), (2.0, 400), (3.0, 500), (3.0, 600)]
    assert max(rates(marks)) <= 300
    assert sum(rates(marks)) * 0.5 == pytest.approx(600)


def test_a_slow_half_is_drawn_lower_than_a_fast_one() -> None:
    marks = [(0.0, 0), (1.0, 400), (2.0, 800), (3.0, 900), (4.0, 1000)]
    assert rates(marks) == pytest.approx([400, 400, 100, 100])
    path = ElementTree.fromstring(drawn(rates(marks))).find("path")
    assert path is not None
    assert path.get("d") == "M0 32V0.0H60.0V0.0H120.0V24.0H180.0V24.0H240.0V32Z"


@pytest.mark.parametrize("marks", [(), ((0.0, 0),), ((0.0, 0), (1.0, 5)), ((1.0, 0), (1.0, 5), (1.0, 9))], ids=len)
def test_what_has_no_course_has_no_picture(marks: tuple[tuple[float, int], ...]) -> None:
    assert rates(marks) == []
    assert "<svg" not in LoadReport("rows", "t", "here", 0, 0, 0, 0, 0, 0, 1.0, "copy", "", pace=marks)._repr_html_()


def test_a_load_that_stored_nothing_is_drawn_flat() -> None:
    assert "NaN" not in drawn(rates([(0.0, 0), (1.0, 0), (2.0, 0)]))
