"""Markup in names, values, files and the database's own words stays text, wherever a notebook shows it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.conversion.violations import SHOWN_CHARACTERS, cut
from dataloader.database.schema import TableName
from dataloader.display import jupyter
from dataloader.display.html import ProgressSnapshot
from dataloader.display.jupyter import HtmlView, WidgetView
from dataloader.display.state import State
from dataloader.formatting import printable

pytestmark = pytest.mark.any_version

HARMLESS = "harmless"
PAYLOADS = {
    "a script": "<script>alert(1)</script>",
    "a script in mixed case": "<ScRiPt>alert(1)</sCrIpT>",
    "a script in half": "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "a script from elsewhere": "<script src=//evil.example/x.js>",
    "a script with slashes": "<script/x>alert(1)</script/x>",
    "a module": "<script type=module>import'//e.example'</script>",
    "an image that fails": "<img src=x onerror=alert(1)>",
    "an image without blanks": "<img/src=x/onerror=alert`1`>",
    "a picture that loads": "<svg onload=alert(1)>",
    "a script in a picture": "<svg><script>alert&#40;1)</script></svg>",
    "details": "<details open ontoggle=alert(1)>",
    "a field with focus": "<input autofocus onfocus=alert(1)>",
    "a frame": "<iframe srcdoc='<script>alert(1)</script>'>",
    "an object": "<object data=javascript:alert(1)>",
    "an embedded file": "<embed src=javascript:alert(1)>",
    "a form": "<form action=javascript:alert(1)><button>",
    "a base": "<base href=//evil.example/>",
    "a refresh": "<meta http-equiv=refresh content=0;//e.example>",
    "a style sheet": "<link rel=stylesheet href=//e.example>",
    "a style": "<style>*{display:none}</style>",
    "a style with an expression": "<b style=width:expression(alert(1))>",
    "a link": "<a href=javascript:alert(1)>click</a>",
    "a marquee": "<marquee onstart=alert(1)>",
    "the end of a style": "</style><b>",
    "the end of code": "</code><u>",
    "the end of a table": "</td></tr></table><h1>",
    "the end of everything": "</div></body></html>",
    "the end of a double quote": '" onmouseover="alert(1)',
    "the end of a single quote": "' onmouseover='alert(1)",
    "the end of both quotes": "'\"><i>",
    "a comment": "<!-- hidden -->",
    "an open comment": "<!--",
    "a comment of old browsers": "<!--[if IE]><b><![endif]-->",
    "CDATA": "<![CDATA[<b>]]>",
    "an instruction": "<?xml version='1.0'?>",
    "a document type": "<!DOCTYPE html>",
    "an unclosed tag": "<b title=",
    "a lone bracket": "a<b>c & d",
    "an entity": "&lt;script&gt;",
    "an entity twice": "&amp;lt;b&amp;gt;",
    "an entity by number": "&#60;b&#x3e;&#0;",
    "an entity without its end": "&ltb&gt &copy",
    "a template": "{{constructor.constructor('alert(1)')()}}",
    "another template": "${alert(1)} #{1} <%= 1 %>",
    "a format": "{0.__class__} %s %(a)s {x!r}",
    "a link of markdown": "[click](javascript:alert(1))",
    "an image of markdown": "![x](//evil.example/x.png)",
    "code of markdown": "```<b>```",
    "mathematics": "$$\\href{javascript:alert(1)}{x}$$",
    "mathematics in a line": "\\(\\style{color:red}{x}\\) $x$",
    "colours of a terminal": "\x1b[31m<b>red\x1b[0m",
    "a title of a terminal": "\x1b]0;<b>title\x07",
    "a text that turns": "\u202e<b>\u202c",
    "brackets of full width": "\uff1cscript\uff1e<b>",
    "letters without width": "<\u200bscript><b\u200b>",
    "a mark of byte order": "\ufeff<b>",
    "a long s": "<\u017fcript>",
    "a NUL": "<b>\x00<i>",
}
TOGETHER = 6
"""So many go through one set of loads: each is a value of its own, and all of them are one name."""
GROUPS = [list(PAYLOADS.values())[start : start + TOGETHER] for start in range(0, len(PAYLOADS), TOGETHER)]


class Page(HTMLParser):
    """What a browser sees: the marks, in their order, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.marks: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.marks.append((tag, *(f"{name}={value}" for name, value in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.marks.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.marks.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.marks.append(("declaration", decl))

    def handle_pi(self, data: str) -> None:
        self.marks.append(("instruction", data))

    def unknown_decl(self, data: str) -> None:
        self.marks.append(("unknown", data))


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A display, and the texts that must be read in it."""

    html: str
    texts: list[str]


class Screen:
    """Takes the place of a notebook's output."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, thing: Any, **_: Any) -> Screen:
        self.update(thing)
        return self

    def update(self, thing: Any) -> None:
        if isinstance(thing, ProgressSnapshot):
            self.shown.append(thing._repr_html_())


class Watched(WidgetView):
    """The live view, whose widgets are read before they go."""

    def close(self, state: State) -> None:
        super().close(state)
        self.html = self._picture.value


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(jupyter, "_display", screen)
    return screen


def quoted(name: str, quote: str = '"') -> str:
    return quote + name.replace(quote, quote * 2) + quote


async def make(engine: AsyncEngine, name: str, words: str) -> None:
    """A table whose name, column and constraint are `name`, and whose trigger speaks `words`."""
    table = column = quoted(name)
    creating = f"CREATE TABLE {table} (note text, {column} integer CONSTRAINT {quoted(name)} CHECK ({column} < 100))"
    said = quoted(words, "'")
    function = f"""CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $body$ BEGIN RAISE EXCEPTION USING MESSAGE = {said}; END $body$"""
    postgresql = f"""CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN (NEW.{column} = 7)
        EXECUTE FUNCTION refuse()"""
    sqlite = f"""CREATE TRIGGER {quoted(name + "_t")} BEFORE INSERT ON {table} WHEN NEW.{column} = 7
        BEGIN SELECT RAISE(ABORT, {said}); END"""
    statements = [creating, sqlite] if engine.dialect.name == "sqlite" else [creating, function, postgresql]
    async with engine.begin() as connection:
        for statement in (f"DROP TABLE IF EXISTS {table}", *statements):
            await connection.exec_driver_sql(statement)


def frame(name: str, values: list[str]) -> pd.DataFrame:
    """Rows of which the first fits, some are no numbers, and two are refused by a constraint and a trigger."""
    column = [1, *values, 500, 7]
    labels = [HARMLESS, *values, *values[:2]]
    return pd.DataFrame({"note": "a note", name: column}, index=labels, dtype=object)


def csv_file(folder: Path, name: str, column: str) -> Path:
    path = folder / f"{name.replace('/', '∕')}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["note", column], ["a note", 1], ["a note", name]])
    return path


async def displays(engine: AsyncEngine, folder: Path, screen: Screen, values: list[str]) -> dict[str, Shown]:
    """Everything that a notebook shows of loads in which the values are wherever they can be."""
    words = "".join(values).replace("\0", "")
    name = words if engine.dialect.name == "sqlite" else values[0]
    await make(engine, name, words)
    table, new = TableName(None, name).spelled, TableName(None, f"{name}2").spelled
    data, seen = frame(name, values), [cut(repr(value)) for value in values]
    labels = [value[: SHOWN_CHARACTERS - 1] for value in values]
    watched, path = Watched(), csv_file(folder, words, name)
    options: Any = {"engine": engine, "on_invalid": "reject"}
    report = await dl.load_dataframe(data, table, load_id=words, progress=watched, **options)  # type: ignore[arg-type]
    of_files = await dl.load_files(path, table, **options)
    validation = await dl.validate(data, table, engine=engine)
    history = await dl.load_history(engine)
    return {
        "the plan": Shown((await dl.plan_load(data, table, engine=engine))._repr_html_(), [name]),
        "a plan of a new table": Shown((await dl.plan_load(data, new, engine=engine))._repr_html_(), [f"{name}2"]),
        "the report": Shown(report._repr_html_(), [name, words]),
        "a notice": Shown(dataclasses.replace(report, warnings=tuple(values))._repr_html_(), values),
        "the rejects": Shown(report.rejects.to_html(), [name, *values]),
        "the validation": Shown(validation._repr_html_(), [name, *labels, *seen]),
        "the violations": Shown(validation.frame.to_html(), [name, *values, *seen]),
        "the history": Shown(history[history["load_id"] == words].to_html(), [table, words]),
        "a report of files": Shown(of_files._repr_html_(), [name, path.name]),
        "the widget": Shown(watched.html, [name]),
        "the widget's picture": Shown(screen.shown[-1], [name]),
        **await failures(engine, screen, data.iloc[-1:], table, [name, spoken(words)]),
    }


async def failures(
    engine: AsyncEngine, screen: Screen, data: pd.DataFrame, table: str, texts: list[str]
) -> dict[str, Shown]:
    """What is shown of loads that the database has refused in its own words."""
    watched = Watched()
    for view in (HtmlView(), watched):
        with pytest.raises(dl.WriteError) as caught:
            await dl.load_dataframe(data, table, engine=engine, progress=view)  # type: ignore[arg-type]
    lines = caught.value._render_traceback_()
    assert " ".join(texts[-1].split()) in " ".join(lines[0].split())  # it is broken into lines between words
    job = dl.start_load(data, table, engine=engine.url, progress="none")
    with contextlib.suppress(dl.WriteError):
        await job
    job_html = job._repr_html_()
    assert job_html is not None
    return {
        "a failed picture": Shown(screen.shown[-2], texts[:1]),  # the error stands below, in the cell's own words
        "a failed widget": Shown(screen.shown[-1] + watched.html, texts[:1]),
        "a failed job": Shown(job_html, texts),
    }


def spoken(words: str) -> str:
    """As an error tells what the database said: a terminal obeys nothing of it."""
    return "".join(ascii(one)[1:-1] if one in "\x1b\x07" else one for one in " ".join(words.split()))


harmless: dict[tuple[str, int], dict[str, list[tuple[str, ...]]]] = {}
"""The marks of each display where nothing is done to them, by the database and the number of values."""


async def harmless_marks(
    engine: AsyncEngine, folder: Path, screen: Screen, values: int
) -> dict[str, list[tuple[str, ...]]]:
    key = engine.dialect.name, values
    if key not in harmless:
        shown = await displays(engine, folder, screen, [f"{HARMLESS}{number}" for number in range(values)])
        harmless[key] = {where: Page(one.html).marks for where, one in shown.items()}
    return harmless[key]


@pytest.fixture(autouse=True)
def whole_cells() -> Iterator[None]:
    """Frames of pandas with all of their text."""
    with pd.option_context("display.max_colwidth", None):
        yield


@pytest.mark.parametrize("values", GROUPS, ids=map(str, range(len(GROUPS))))
async def test_markup_is_shown_as_the_text_that_it_is(
    database: AsyncEngine, tmp_path: Path, screen: Screen, values: list[str]
) -> None:
    expected = await harmless_marks(database, tmp_path, screen, len(values))
    for where, one in (await displays(database, tmp_path, screen, values)).items():
        page = Page(one.html)
        assert page.marks == expected[where], where
        missing = [text for text in one.texts if text not in page.text and printable(text) not in page.text]
        assert missing == [], f"{where}: {page.text}"


def test_there_are_enough_of_them() -> None:
    assert len(set(PAYLOADS.values())) >= 30
