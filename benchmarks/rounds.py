"""Sides that take turns, and the ratios within each round: what every benchmark shows."""

from __future__ import annotations

import statistics

from measured import Load, timed


async def take_turns(sides: dict[str, Load], reset: Load, rounds: int) -> dict[str, list[float]]:
    """Run every side once as a warm-up, then `rounds` times in turn."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            await reset()
            seconds = await timed(side)
            if number:
                figures[name].append(seconds)
    return figures


def show(title: str, rows: int, figures: dict[str, list[float]], goals: dict[str, float]) -> None:
    print(f"\n{title}: {rows:,} rows, median of {len(figures['dataloader'])} rounds")
    print(f"{'side':<28}{'seconds':>9}{'rows/s':>13}{'dataloader is':>15}{'goal':>8}")
    for name, seconds in figures.items():
        median = statistics.median(seconds)
        ratio = statistics.median(other / own for other, own in zip(seconds, figures["dataloader"], strict=True))
        goal = f"{goals[name]:g} x" if name in goals else ""
        print(f"{name:<28}{median:>9.3f}{rows / median:>13,.0f}{ratio:>13.2f} x{goal:>8}")
