"""What a public name takes, gives and holds is in its docstring, by the names that its signature has."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

import pytest

import dataloader as dl

MADE_BY_US = "made by `"
"""A class whose docstring says so is not called by users, so that its constructor's parameters are not theirs."""
Function = Callable[..., Any]


def sections(thing: object) -> dict[str, str]:
    """What each section of a docstring says, by its title; what comes before them has none."""
    head, *parts = re.split(r"^([A-Z]\w+)\n-{3,}$", inspect.getdoc(thing) or "", flags=re.M)
    return {"": head.strip()} | dict(zip(parts[::2], parts[1::2], strict=True))


def entries(thing: object, *titles: str) -> set[str]:
    """The names that sections are about: ``table, **options : str`` is about both."""
    written = sections(thing)
    heads = re.findall(r"^\S.*", "\n".join(written.get(title, "") for title in titles), flags=re.M)
    return {name.strip().lstrip("*") for head in heads for name in head.split(" : ")[0].split(",")}


def missing_examples(name: str, thing: object) -> Iterator[str]:
    """An example counts if it is carried out, calls the function, and leaves no engine behind."""
    text = inspect.getdoc(thing) or ""
    examples = doctest.DocTestParser().get_examples(text)
    called = inspect.isclass(thing) or any(f"{name}(" in one.source for one in examples)
    if not (examples and called) or any(one.options.get(doctest.SKIP) for one in examples):
        yield f"{name}: Examples, one that runs"
    if any("dl.connect(" in one.source for one in examples) and ".dispose()" not in text:
        yield f"{name}: Examples, whose engine is disposed of"


def parameters(function: Function) -> tuple[set[str], set[str]]:
    """Those of its own, ``options`` for ``**options`` among them; and all that its signature shows in its place."""
    code = inspect.unwrap(function).__code__
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    own = set(code.co_varnames[:count]) - {"self", "cls"}
    return own, set(inspect.signature(function).parameters) - {"self", "cls"}


def function_faults(name: str, function: Function) -> Iterator[str]:
    """What a function's docstring lacks, or has too much."""
    written, (own, shown) = entries(function, "Parameters"), parameters(function)
    wanted = own if own - shown <= written else shown
    yield from (f"{name}: Parameters, {one}" for one in sorted(wanted - written))
    yield from (f"{name}: Parameters, {one}, which does not exist" for one in sorted(written - own - shown))
    if not sections(function)[""]:
        yield f"{name}: a summary"
    gives = inspect.signature(function).return_annotation not in {"None", None}
    if gives and not {"Returns", "Yields"} & set(sections(function)):
        yield f"{name}: Returns"


def family(kind: type) -> list[type]:
    """The class and its bases, without those that are not of this package."""
    return [one for one in kind.__mro__ if one.__module__ == __name__ or one.__module__.startswith("dataloader.")]


def public(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def members(kind: type) -> dict[str, tuple[type, Function | property]]:
    """The public methods and properties, each with the class that defines it."""
    found: dict[str, tuple[type, Function | property]] = {}
    for one in reversed(family(kind)):
        for name in public(vars(one)):
            value = inspect.getattr_static(one, name)
            value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if inspect.isfunction(value) or isinstance(value, property):
                found[name] = (one, value)
    return found


def assigned(kind: type) -> set[str]:
    """The attributes that a constructor sets which is written out."""
    if is_dataclass(kind) or not inspect.isfunction(vars(kind).get("__init__")):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(vars(kind)["__init__"])))
    return {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store)}


def attributes(kind: type) -> set[str]:
    """What an instance has beside methods and properties."""
    names = {name for one in family(kind) for name in (*vars(one), *inspect.get_annotations(one), *assigned(one))}
    return public(names) - set(members(kind))


def class_faults(name: str, kind: type) -> Iterator[str]:
    """What a class's docstring lacks or has too much, and those of its methods and properties."""
    written = set().union(*(entries(one, "Parameters", "Attributes") for one in family(kind)))
    taken = set(inspect.signature(kind).parameters)
    taken = set() if MADE_BY_US in (kind.__doc__ or "") else taken
    yield from (f"{name}: Attributes, {one}" for one in sorted(attributes(kind) - written))
    yield from (f"{name}: Parameters, {one}" for one in sorted(taken - attributes(kind) - written))
    unknown = entries(kind, "Attributes") - attributes(kind) - set(members(kind))
    yield from (f"{name}: Attributes, {one}, which does not exist" for one in sorted(unknown))
    unknown = entries(kind, "Parameters") - taken
    yield from (f"{name}: Parameters, {one}, which does not exist" for one in sorted(unknown))
    for member, (definer, value) in members(kind).items():
        if not isinstance(value, property):
            yield from function_faults(f"{definer.__name__}.{member}", value)
        elif not sections(value)[""]:
            yield f"{definer.__name__}.{member}: a summary"


def faults(name: str, thing: Any) -> list[str]:
    """Everything that a public name's docstring lacks: ``load_rows: Returns``."""
    if inspect.isclass(thing):
        found = [] if thing.__doc__ and sections(thing)[""] else [f"{name}: a summary"]
        found += class_faults(name, thing)
    else:
        found = [*function_faults(name, thing), *([] if "Raises" in sections(thing) else [f"{name}: Raises"])]
    return [*found, *missing_examples(name, thing)]


@pytest.mark.parametrize("name", dl.__all__)
def test_a_public_name_says_what_it_takes_gives_and_holds(name: str) -> None:
    assert faults(name, getattr(dl, name)) == []


COUNT = """Count the rows.

Parameters
----------
rows : list of int
    The rows.
limit, **options : int
    The most.

Returns
-------
int
    How many.

Raises
------
PlanError
    When there is none.

Examples
--------
>>> count([1])
1
"""


@pytest.mark.parametrize(
    ("gone", "instead", "fault"),
    [
        ("", "", None),
        ("Count the rows.", "", "count: a summary"),
        ("rows : list of int\n    The rows.\n", "", "count: Parameters, rows"),
        ("limit, **options", "limit", "count: Parameters, options"),
        ("limit, **", "limit, many, **", "count: Parameters, many, which does not exist"),
        ("Returns\n-------\nint\n    How many.\n", "", "count: Returns"),
        ("Raises\n------\nPlanError\n    When there is none.\n", "", "count: Raises"),
        (">>> count([1])\n1", "", "count: Examples, one that runs"),
        (">>> count([1])", ">>> 1", "count: Examples, one that runs"),
        ("count([1])", "count([1])  # doctest: +SKIP", "count: Examples, one that runs"),
        ("count([1])", "count([1], dl.connect())", "count: Examples, whose engine is disposed of"),
    ],
)
def test_what_a_function_does_not_say_would_be_found(gone: str, instead: str, fault: str | None) -> None:
    def count(rows: list[int], limit: int = 10, **options: int) -> int:
        return min(len(rows), limit, *options.values())

    count.__doc__ = COUNT.replace(gone, instead)
    assert faults("count", count) == ([] if fault is None else [fault])


BOX = """What `pack` makes.

Attributes
----------
size : int
    In bytes.
broken : bool
    Whether it is.

Examples
--------
>>> len([1])
1
"""
WEIGH = """Weigh it.

Returns
-------
float
    In grams.
"""


@pytest.mark.parametrize(
    ("gone", "instead", "weigh", "fault"),
    [
        ("", "", WEIGH, None),
        ("What `pack` makes.", "", WEIGH, "Box: a summary"),
        ("size : int\n    In bytes.\n", "", WEIGH, "Box: Attributes, size"),
        ("broken : bool\n    Whether it is.\n", "", WEIGH, "Box: Attributes, broken"),
        ("size : int", "size, age : int", WEIGH, "Box: Attributes, age, which does not exist"),
        ("Attributes", "Parameters\n----------\nage : int\n    In days.\n\nAttributes", WEIGH,
         "Box: Parameters, age, which does not exist"),
        (">>> len([1])\n1", "", WEIGH, "Box: Examples, one that runs"),
        ("", "", "Weigh it.", "Box.weigh: Returns"),
        ("", "", None, "Box.label: a summary"),
    ],
)  # fmt: skip
def test_what_a_class_does_not_say_would_be_found(
    gone: str, instead: str, weigh: str | None, fault: str | None
) -> None:
    @dataclass
    class Box:
        size: int
        broken = False

        @property
        def label(self) -> str:
            return str(self.size)

        def weigh(self) -> float:
            return float(self.size)

    Box.__doc__ = BOX.replace(gone, instead)
    Box.weigh.__doc__ = weigh or WEIGH
    Box.label.__doc__ = None if weigh is None else "What is on it."
    assert faults("Box", Box) == ([] if fault is None else [fault])


def test_what_a_constructor_takes_and_sets_has_to_be_named() -> None:
    class Broken(Exception):
        """It broke.

        Examples
        --------
        >>> len([1])
        1
        """

        def __init__(self, what: str) -> None:
            self.row, self._where = len(what), what

    assert faults("Broken", Broken) == ["Broken: Attributes, row", "Broken: Parameters, what"]
