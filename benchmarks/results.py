"""Contenders that take turns, and what came of it: as JSON, and as lines while one waits."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from measured import Figures, Load, timed


@dataclass(frozen=True)
class Form:
    """How much is measured."""

    name: str
    rounds: int


async def take_turns(
    loads: dict[str, Load], reset: Load, rounds: int, check: Callable[[str], Awaitable[object]]
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Each contender once as a warm-up, whose outcome is checked, then `rounds` times in turn.

    Returns
    -------
    tuple
        The figures of those that work, and the error of those that do not: they take no turn.
    """
    figures, failed = dict[str, Figures](), dict[str, str]()
    for name, load in loads.items():
        await reset()
        try:
            await load()
            await check(name)
            figures[name] = Figures()
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
            print(f"{name}: {failed[name]}", flush=True)
    for _ in range(rounds):
        for name, one in figures.items():
            await reset()
            one.seconds.append(await timed(loads[name]))
    return figures, failed


def result(
    title: str, rows: int, figures: dict[str, Figures], goals: dict[str, float], missing: dict[str, str]
) -> dict[str, Any]:
    """A case as JSON; the first contender is ours, and the ratios say how many times as fast it is."""
    own = next(iter(figures.values()))
    ratios = {
        name: statistics.median(their / ours for their, ours in zip(one.seconds, own.seconds, strict=True))
        for name, one in figures.items()
    }
    entries = {name: one.as_json() | {"ratio": ratios[name]} for name, one in figures.items()}
    show(title, rows, figures, ratios, goals)
    return {"title": title, "rows": rows, "contenders": entries, "goals": goals, "missing": missing}


def show(title: str, rows: int, figures: dict[str, Figures], ratios: dict[str, float], goals: dict[str, float]) -> None:
    print(f"\n{title}: {rows:,} rows", flush=True)
    print(f"{'':<28}{'seconds':>9}{'spread':>9}{'client':>8}{'server':>8}{'MB':>6}{'block':>7}{'ratio':>7}{'goal':>6}")
    for name, one in figures.items():
        spread = (max(one.seconds) - min(one.seconds)) / one.median
        block = "" if one.block is None else f"{one.block:.0f}"
        goal = f"{goals[name]:g}" if name in goals else ""
        print(
            f"{name:<28}{one.median:>9.3f}{spread:>9.0%}{one.client:>8.2f}{one.server:>8.2f}{one.peak:>6.0f}"
            f"{block:>7}{ratios[name]:>7.2f}{goal:>6}",
            flush=True,
        )
