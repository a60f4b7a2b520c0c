"""Make docs/performance.md and its plots from the figures that bench.py has written.

    python benchmarks/page.py [build/performance.json]

The figures are kept beside the page, in docs/performance.json; without an argument the page is made from those again.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

DOCS = Path(__file__).parent.parent / "docs"
CURVES = ("sizes", "columns", "workers", "chunks")
PLOTTED = "one_transaction"
OURS, THEIRS = "#1f6feb", "#b8c0cc"

HEAD = """# Performance

Made by `python benchmarks/page.py` from what `make bench` has measured; `make bench FORM=--quick` tells within minutes
whether it works on your machine. Every contender of a table loads the same rows into the same empty table of one
PostgreSQL with its usual settings, on the same machine, in turn. Read the ratios, not the seconds: those carry over
to another machine.

* **seconds**: the median of {rounds} rounds; **spread**: between the quickest and the slowest of them, by the median.
* **client**, **server**: the processor's seconds, of the Python process and the programs that it ran, of PostgreSQL.
* **MB**: by how much the process' memory grew at most (what `psql` takes is not in it). **block**: for how many
  milliseconds the event loop was blocked at most.
* **dataloader is**: how many times as fast dataloader is, the median of the ratios within each round. Below 1 the
  other is faster. **goal**: what we want it to be.

`psql \\copy` is the floor: it sends a file that is already in the server's own binary form, and checks, converts and
remembers nothing.

Measured on {measured}, {processors} processors ({model}), {memory_gb} GB of memory; Python packages: {versions}.
"""


def page(found: dict[str, Any]) -> str:
    """The page in Markdown."""
    machine, versions = found["machine"], ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    head = HEAD.format(rounds=found["rounds"], measured=found["measured"], versions=versions, **machine)
    parts = [head, f"![{found['cases'][PLOTTED]['title']}](performance.svg)\n"]
    parts += [table(case) for name, case in found["cases"].items() if name not in CURVES]
    parts += [points(found["cases"][name]) for name in CURVES if name in found["cases"]]
    return "\n".join(parts)


def table(case: dict[str, Any]) -> str:
    lines = [
        f"## {case['title']}\n",
        f"{case['rows']:,} rows.\n",
        "| | seconds | spread | client | server | MB | block | dataloader is | goal |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, one in case["contenders"].items():
        median = statistics.median(one["seconds"])
        spread = (max(one["seconds"]) - min(one["seconds"])) / median
        block = "" if one["block"] is None else f"{one['block']:.0f}"
        ratio = "" if name == "dataloader" else f"{one['ratio']:.2f}"
        goal = f"{case['goals'][name]:g}" if name in case["goals"] else ""
        figures = f"{median:.3f} | {spread:.0%} | {one['client']:.2f} | {one['server']:.2f} | {max(one['peak'], 0):.0f}"
        lines.append(f"| {name} | {figures} | {block} | {ratio} | {goal} |")
    lines += [f"\nNot measured: {name} ({why})." for name, why in case["missing"].items()]
    return "\n".join(lines) + "\n"


def points(case: dict[str, Any]) -> str:
    """A curve as a table: it is read, and compared, more easily than a plot of four points."""
    lines = [f"## {case['title']}\n", f"| {case['unit']} | µs a {case['per']} |", "|--:|--:|"]
    lines += [f"| {one['at']:,} | {one['microseconds']:.3f} |" for one in case["points"]]
    return "\n".join(lines) + "\n"


def plot(case: dict[str, Any], path: Path) -> None:
    """Rows per second of each contender, the fastest above."""
    speeds = {name: case["rows"] / statistics.median(one["seconds"]) for name, one in case["contenders"].items()}
    names = sorted(speeds, key=speeds.__getitem__)
    plt.rcParams["svg.hashsalt"] = "dataloader"  # the same figures make the same file
    figure, axes = plt.subplots(figsize=(7, 0.45 * len(names) + 0.9))
    bars = axes.barh(names, [speeds[name] / 1e6 for name in names])
    for bar, name in zip(bars, names, strict=True):
        bar.set_color(OURS if name == "dataloader" else THEIRS)
        axes.annotate(f" {speeds[name] / 1e6:.2f}", (bar.get_width(), bar.get_y() + bar.get_height() / 2), va="center")
    axes.set_title(case["title"], loc="left")
    axes.set_xlabel("million rows a second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    kept = DOCS / "performance.json"
    if len(sys.argv) > 1:
        shutil.copyfile(sys.argv[1], kept)
    found = json.loads(kept.read_text())
    (DOCS / "performance.md").write_text(page(found))
    plot(found["cases"][PLOTTED], DOCS / "performance.svg")


if __name__ == "__main__":
    main()
