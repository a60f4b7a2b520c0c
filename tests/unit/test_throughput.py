"""How fast a load went: few samples whatever its size, and a sparkline that anybody's notebook can show."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from dataloader.display.html import sparkline
from dataloader.display.state import SAMPLES, Throughput, rates
from tests.unit.test_report import report


def steady(chunks: int, rows: int = 100, seconds: float = 0.5) -> Throughput:
    throughput = Throughput(0.0, 0)
    for number in range(1, chunks + 1):
        throughput.add(number * seconds, number * rows)
    return throughput


@pytest.mark.parametrize("chunks", [0, 1, 2, 119, 120, 121, 122, 5_000])
def test_the_samples_stay_few_and_reach_from_the_first_to_the_last_chunk(chunks: int) -> None:
    samples = steady(chunks).samples
    assert samples[0] == (0.0, 0)
    assert samples[-1] == (chunks * 0.5, chunks * 100)
    assert min(chunks + 1, SAMPLES // 2) <= len(samples) <= SAMPLES + 1
    assert list(samples) == sorted(set(samples))


@pytest.mark.parametrize("chunks", [2, 120, 5_000])
def test_a_steady_load_has_one_rate(chunks: int) -> None:
    assert rates(steady(chunks).samples) == pytest.approx([200.0] * (len(steady(chunks).samples) - 1))


def test_two_workers_that_commit_at_once_make_no_peak() -> None:
    samples = [(0.0, 0), (1.0, 100), (1.0, 200), (2.0, 300), (2.0, 400), (3.0, 500), (3.0, 600)]
    assert max(rates(samples)) <= 300
    assert sum(rates(samples)) * 0.5 == pytest.approx(600)


def test_a_slow_half_is_drawn_lower_than_a_fast_one() -> None:
    samples = [(0.0, 0), (1.0, 400), (2.0, 800), (3.0, 900), (4.0, 1000)]
    assert rates(samples) == pytest.approx([400, 400, 100, 100])
    path = ElementTree.fromstring(sparkline(rates(samples))).find("path")
    assert path is not None
    assert path.get("d") == "M0 32V0.0H60.0V0.0H120.0V24.0H180.0V24.0H240.0V32Z"


@pytest.mark.parametrize("samples", [(), ((0.0, 0),), ((0.0, 0), (1.0, 5)), ((1.0, 0), (1.0, 5), (1.0, 9))], ids=len)
def test_what_has_no_course_has_no_picture(samples: tuple[tuple[float, int], ...]) -> None:
    assert rates(samples) == []
    assert "<svg" not in report(pace=samples)._repr_html_()


def test_a_load_that_stored_nothing_is_drawn_flat() -> None:
    assert "NaN" not in sparkline(rates([(0.0, 0), (1.0, 0), (2.0, 0)]))
