"""Build the site into build/site: python docs/make_site.py. A warning is an error; nothing is fetched or executed.

Its pages are those of docs/, the notebooks with the outputs that they hold, and the changelog. Beside each lies its
Markdown, and llms.txt lists them all.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dataloader as dl

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "site"
SOURCE, HTML = SITE / "source", SITE / "html"
FETCHED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["'](?:https?:)?//[^"']*""")
"""What a browser would load from elsewhere."""


def gather() -> None:
    """Lay out what Sphinx reads: the pages of docs/ at the top, notebooks in their folder."""
    shutil.rmtree(SITE, ignore_errors=True)
    (SOURCE / "notebooks").mkdir(parents=True)
    for path in (ROOT / "docs").iterdir():
        if path.suffix in {".png", ".svg"}:
            shutil.copy(path, SOURCE)
    for path in [*(ROOT / "docs").glob("*.md"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        (SOURCE / path.name).write_text(linked(path.read_text()))
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, SOURCE / "notebooks")


def linked(text: str) -> str:
    """A page whose links to files of the repository lead to the site's pages."""
    return re.sub(
        r"\]\((?:\.\./)?(?:docs/)?((?:notebooks/)?[\w.]+?\.(?:md|ipynb|png|svg)(?:#[\w-]+)?)\)", r"](\1)", text
    )


def build() -> None:
    """Let Sphinx build it; a warning ends this with an error."""
    options = ["-b", "html", "-W", "--keep-going", "-q", "-j", "2", "-c", str(ROOT / "docs" / "site")]
    subprocess.run([sys.executable, "-m", "sphinx", *options, str(SOURCE), str(HTML)], check=True)
    fetched = {path.name: found for path in HTML.rglob("*.html") if (found := FETCHED.findall(path.read_text()))}
    if fetched:
        raise SystemExit(f"the pages would load what is elsewhere: {fetched}")


def markdown(path: Path) -> str:
    """A page as Markdown: a notebook by its cells, the reference by its docstrings."""
    if path.suffix == ".ipynb":
        return "\n\n".join(map(_cell, json.loads(path.read_text())["cells"])) + "\n"
    return re.sub(r"^```\{eval-rst\}\n(.*?)^```$", _documented, path.read_text(), flags=re.MULTILINE | re.DOTALL)


def _cell(cell: dict[str, object]) -> str:
    source = "".join(cell["source"])  # type: ignore[arg-type]  # a notebook's lines
    if cell["cell_type"] != "code":
        return source
    shown = "".join(map(_output, cell["outputs"])).strip()  # type: ignore[arg-type]  # dicts
    return f"```python\n{source}\n```" + (f"\n\n```text\n{shown}\n```" if shown else "")


def _output(output: dict[str, object]) -> str:
    data: dict[str, list[str]] = output.get("data", {})  # type: ignore[assignment]  # by its media type
    text = output.get("text") or data.get("text/plain") or output.get("evalue") or ""
    return "".join(text) + "\n"  # type: ignore[arg-type]  # a line, or lines


def _documented(block: re.Match[str]) -> str:
    names = re.findall(r"^\.\. auto\w+:: dataloader\.(\w+)", block[1], re.MULTILINE)
    return "\n".join(f"### {name}{_signature(name)}\n\n{inspect.getdoc(getattr(dl, name))}\n" for name in names)


def _signature(name: str) -> str:
    value = getattr(dl, name)
    return "" if inspect.isclass(value) else str(inspect.signature(value))


def title(text: str) -> str:
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]  # type: ignore[index]  # every page has one


def summary(text: str) -> str:
    """The first sentence of a page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    paragraphs = [part for part in prose.split("\n\n") if re.match(r"\s*[A-Z`*]", part)]
    return re.split(r"(?<=[^.][.?]) ", " ".join(paragraphs[0].split()))[0].rstrip(":") if paragraphs else ""


def write_twins() -> None:
    """Beside each page its Markdown, and llms.txt, which lists them: https://llmstxt.org."""
    lines = ["# dataloader", "", f"> {inspect.getdoc(dl).splitlines()[0]}", "", "## Pages", ""]  # type: ignore[union-attr]
    for path in sorted(SOURCE.rglob("*")):
        if path.suffix not in {".md", ".ipynb"}:
            continue
        text, twin = markdown(path), path.relative_to(SOURCE).with_suffix(".md")
        (HTML / twin).write_text(text)
        lines.append(f"- [{title(text)}]({twin.as_posix()}): {summary(text)}")
    (HTML / "llms.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    gather()
    build()
    write_twins()
    print(f"{len([*HTML.rglob('*.html')])} pages in {HTML.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
