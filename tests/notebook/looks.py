"""What a reader would dislike of a cell, whichever page it is on: found by the browser, and kept as a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from playwright.async_api import Locator

FULL = os.environ.get("DATALOADER_GALLERY") == "full"
"""Whether there is time for every page."""
WIDE, NARROW = 1280, 520
"""Pages, in pixels."""
LEAST_CONTRAST = 4.0
"""Of small print and of colored text: 4.5 is what WCAG asks of text, 3 of large text."""
_LOOKED_AT = """cell => {
    const luminance = color => color.map(one => one / 255)
        .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const drawn = colors => {  // one above the other
        for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const backgrounds = one => one ? [...backgrounds(one.parentElement), getComputedStyle(one).backgroundColor] : [];
    const contrast = one => {
        const [paper, ink] = [drawn(backgrounds(one)), drawn([...backgrounds(one), getComputedStyle(one).color])];
        const [dark, light] = [luminance(paper), luminance(ink)].sort((a, b) => a - b);
        return (light + 0.05) / (dark + 0.05);
    };
    const ours = [...cell.querySelectorAll('[class~=mathjax_ignore]')];
    const inside = ours.flatMap(one => [...one.querySelectorAll('*')]);
    const isScrolled = one => one.parentElement.closest('div[style*="overflow-x"]') !== null;
    const page = document.documentElement.clientWidth;
    const isWide = one => !isScrolled(one) && one.getBoundingClientRect().right > page + 1;
    const scrolls = one => ['auto', 'scroll'].includes(getComputedStyle(one).overflowX);
    const areScrolled = one => scrolls(one) || (one !== cell && areScrolled(one.parentElement));
    const areSpilled = one => {  // the lines of a text
        const range = document.createRange();
        range.selectNodeContents(one);
        return !areScrolled(one) && range.getBoundingClientRect().right > cell.getBoundingClientRect().right + 1;
    };
    const pieces = (text, start, end) => {
        const range = document.createRange();
        range.setStart(text, start);
        range.setEnd(text, end);
        return [...range.getClientRects()];
    };
    const lines = (text, word) =>
        new Set(pieces(text, word.index, word.index + word[0].length).map(one => Math.round(one.top))).size;
    const hasRoom = (text, word) => {  // with what clings to it, in a line as wide as the whole block
        const start = text.data.slice(0, word.index).search(/\\S*$/);
        const end = word.index + text.data.slice(word.index).search(/\\s|$/);
        const width = pieces(text, start, end).reduce((sum, one) => sum + one.width, 0);
        return width <= text.parentElement.closest('[class~=mathjax_ignore]').clientWidth;
    };
    const broken = one => [...one.childNodes].filter(text => text.nodeType === Node.TEXT_NODE).flatMap(text =>
        [...text.data.matchAll(/\\w+/g)].filter(word => lines(text, word) > 1 && hasRoom(text, word))
            .map(word => word[0]));
    const texts = inside.filter(one => one.matches('b, td, th, div, code, summary'));
    return {
        blocks: ours.length,
        wide: [...ours, ...inside].filter(isWide).map(one => one.outerHTML.slice(0, 200)),
        spilled: [...cell.querySelectorAll('pre')].filter(areSpilled).map(one => one.innerText.slice(0, 200)),
        beyond: document.documentElement.scrollWidth - page,
        broken: inside.filter(one => !one.matches('code')).flatMap(broken),
        pale: texts.filter(one => one.innerText && !one.children.length)
            .map(one => [one.innerText, contrast(one)]).filter(([, found]) => found < LEAST_CONTRAST),
    };
}""".replace("LEAST_CONTRAST", str(LEAST_CONTRAST))


def as_page(notebook: Path, theme: str = "light") -> Path:
    """A notebook without what was typed, as nbconvert writes it beside the notebook."""
    path = notebook.with_name(f"{theme}.html")
    if not path.exists():
        command = [sys.executable, "-m", "nbconvert", "--to", "html", "--no-input", "--theme", theme]
        subprocess.run([*command, f"--output={path}", str(notebook)], check=True, capture_output=True)
    return path


def kept(place: str, name: str) -> Path | None:
    """Where the picture of a cell goes, if pictures are kept."""
    folder = os.environ.get("DATALOADER_ARTIFACTS")
    return Path(folder) / "gallery" / place / f"{name}.png" if folder else None


async def assert_readable(cell: Locator, name: str, place: str, *, blocks: int = 1) -> None:
    """Nothing of ours is wider than the page, too pale, or there twice, and no word is broken.

    Lines of a text, as of an error, are broken or scrolled within the cell, as the page likes. A name in the headline
    that is longer than the whole line has to be broken.
    """
    if path := kept(place, name):
        await cell.screenshot(path=path)
    found = await cell.evaluate(_LOOKED_AT)
    shown = found.pop("blocks")
    assert shown <= blocks, (name, shown)
    faults = {fault: where for fault, where in found.items() if where}
    assert faults == {}, (name, faults)
