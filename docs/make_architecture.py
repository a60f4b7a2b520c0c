"""Draw docs/architecture.svg from the import graph, and list in CONTRIBUTING.md what every file says of itself:
python docs/make_architecture.py. A test keeps both up to date.

A row is a layer of the import contract in pyproject.toml, a box a module or package, an arrow "imports". Arrows that
follow from others are left out, so that what is drawn is what one has to read next.
"""

from __future__ import annotations

import ast
import html
import tomllib
from pathlib import Path

import grimp

import dataloader

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dataloader"
PICTURE = Path(__file__).with_name("architecture.svg")
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- files: python docs/make_architecture.py -->\n", "<!-- end of files -->\n"
ROW, BOX_HEIGHT, WIDTH, GAP = 64, 34, 860, 24
CHARACTER = 8.2
"""Width of a character of the font, in pixels."""


def layers() -> list[list[str]]:
    """The names in each layer of the contract, from top to bottom."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    contract = next(one for one in tool["importlinter"]["contracts"] if one["type"] == "layers")
    return [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in contract["layers"]]


def imports(names: list[str]) -> dict[str, set[str]]:
    """Which of the modules and packages each one imports, at run time or for its annotations."""
    graph = grimp.build_graph("dataloader")
    found: dict[str, set[str]] = {name: set() for name in names}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            one, other = (f"{name}.".split(".")[1] for name in (importer, imported))
            if one in found and other in found and one != other:
                found[one].add(other)
    return found


def reduced(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows without those that follow from others; two that import each other keep theirs."""

    def reached(start: str, without: str) -> set[str]:
        seen, waiting = set[str](), [one for one in arrows[start] if one != without]
        while waiting:
            if (one := waiting.pop()) not in seen:
                seen.add(one)
                waiting += arrows[one]
        return seen

    return sorted((one, other) for one in arrows for other in arrows[one] if other not in reached(one, other))


def draw() -> str:
    """The picture as SVG."""
    rows = layers()
    places: dict[str, tuple[float, float, float]] = {}
    for number, row in enumerate(rows):
        widths = [len(name) * CHARACTER + 28 for name in row]
        left = (WIDTH - sum(widths) - 6 * GAP * (len(row) - 1)) / 2
        for name, width in zip(row, widths, strict=True):
            places[name] = (left, number * ROW + 10, width)
            left += width + 6 * GAP
    arrows = [_arrow(places[one], places[other]) for one, other in reduced(imports([*places]))]
    boxes = [_box(name, *place) for name, place in places.items()]
    height = len(rows) * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="ui-monospace,monospace" '
        'font-size="13">\n<title>The packages of dataloader, and what each imports</title>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join([*arrows, *boxes]) + "\n</svg>\n"
    )


def _box(name: str, left: float, top: float, width: float) -> str:
    is_package = Path(dataloader.__file__).with_name(name).is_dir()
    fill = "#dce9f7" if is_package else "#f4f4f4"
    shown = html.escape(f"{name}/" if is_package else name)
    return (
        f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="5" fill="{fill}" stroke="#555"/>'
        f'<text x="{left + width / 2:.0f}" y="{top + 22}" text-anchor="middle">{shown}</text>'
    )


def _arrow(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    (left, top, width), (to_left, to_top, to_width) = start, end
    x, to_x = left + width / 2, to_left + to_width / 2
    if top == to_top:  # side by side
        x, to_x = (left + width, to_left) if left < to_left else (left, to_left + to_width)
        y = top + BOX_HEIGHT / 2
        return f'<path d="M{x:.0f} {y:.0f}L{to_x:.0f} {y:.0f}" stroke="#777" fill="none" marker-end="url(#tip)"/>'
    y, to_y = top + BOX_HEIGHT, to_top
    bend = (to_y - y) / 2
    curve = f"M{x:.0f} {y}C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} {to_x:.0f} {to_y}"
    return f'<path d="{curve}" stroke="#777" fill="none" marker-end="url(#tip)"/>'


def listed() -> str:
    """CONTRIBUTING.md with what every file says of itself, from the top of the picture to its bottom."""
    names = [name for layer in layers() for name in layer]
    modules = [PACKAGE / f"{name}.py" for name in names if (PACKAGE / f"{name}.py").exists()]
    packages = [PACKAGE / name for name in names if (PACKAGE / name).is_dir()]
    parts = ["**Files of their own**\n\n" + _table(modules)]
    for package in packages:
        for folder in (package, *sorted(path for path in package.iterdir() if (path / "__init__.py").exists())):
            told = _docstring(folder / "__init__.py")
            files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
            parts.append(f"**`{folder.relative_to(PACKAGE)}/`**: {' '.join(told)}\n\n{_table(files)}")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(parts) + "\n" + END + rest.partition(END)[2]


def _table(files: list[Path]) -> str:
    rows = [f"| `{path.stem}` | {_docstring(path)[0]} |\n" for path in files]
    return "| file | what lives there |\n|---|---|\n" + "".join(rows)


def _docstring(path: Path) -> list[str]:
    """Its paragraphs, each in one line."""
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return [" ".join(one.split()).replace("``", "`").replace("|", r"\|") for one in told.split("\n\n")]


if __name__ == "__main__":
    PICTURE.write_text(draw())
    PAGE.write_text(listed())
