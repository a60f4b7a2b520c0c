"""The face, the layers and the laziness are what the documents say."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import dataloader as dl
from dataloader.cli import commands
from dataloader.conversion.types import TYPES
from dataloader.options import OF_A_FUNCTION, LoadOptions, Options
from tests.pages import PACKAGE, ROOT

OF_A_LOAD = (
    "asyncpg",
    "aiosqlite",
    "psycopg",
    "pandas",
    "ipywidgets",
    "IPython",
    "marimo",
    "pgpq",
    "tqdm",
    "nest_asyncio2",
)
LAZY = ("asyncio", "numpy", "pyarrow", "sqlalchemy", *OF_A_LOAD)
LOADERS = (dl.load_dataframe, dl.load_batches, dl.load_rows, dl.load_files, dl.start_load, dl.plan_load)
FILE_LINES, FUNCTION_LINES = 450, 30
HOOK = "load_ipython_extension"
"""IPython calls it, and nobody else."""


def promised_names() -> dict[str, str]:
    """What type checkers are told: each public name with the module that it comes from."""
    block = next(node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If))
    return {
        name.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names
    }


def test_all_is_what_can_be_imported_and_what_completion_shows() -> None:
    promised = promised_names()
    assert sorted(dl.__all__) == sorted(promised) == sorted(dir(dl))
    for name, module in promised.items():
        assert getattr(dl, name) is getattr(importlib.import_module(module), name)


def test_importing_the_package_imports_nothing_that_takes_time() -> None:
    code = f"import sys, dataloader; print([name for name in {LAZY!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_load_imports_only_the_driver_that_it_needs() -> None:
    names = f"[name for name in {OF_A_LOAD!r} if name in sys.modules]"
    code = f"import sys, dataloader; from dataloader import magics; dataloader.read_dataframe; print({names})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_first_load_imports_nothing_of_what_compares_and_copies_and_looks_for_no_garbage_meanwhile() -> None:
    unused = ("dataloader.comparing", "dataloader.copying", "dataloader.api.reads", "dataloader.wiretap", "psutil")
    code = f"""
import gc, sys, pyarrow, sqlalchemy, dataloader
looked = []
gc.callbacks.append(lambda *_: looked.append(1))
dataloader.load_dataframe
print(len(looked) <= 2, gc.isenabled(), [name for name in {unused!r} if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "True True []"


def test_the_options_of_the_type_checker_are_those_that_are_checked() -> None:
    assert set(Options.__annotations__) == set(LoadOptions.__dataclass_fields__) - set(OF_A_FUNCTION)


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
def test_help_and_completion_know_every_shared_option_with_its_default(loader: object) -> None:
    shown = {one.name: one.default for one in inspect.signature(loader).parameters.values()}  # type: ignore[arg-type]
    for option in fields(LoadOptions):
        if option.name not in {*OF_A_FUNCTION, "engine"}:
            assert shown[option.name] == option.default
    assert shown["engine"] is None


def test_a_call_that_was_not_awaited_says_so() -> None:
    call = dl.load_dataframe({"id": [1]}, "numbers", engine="sqlite:///:memory:", progress="none")
    assert repr(call) == "<load_dataframe() has not started: write await load_dataframe(...)>"
    with pytest.raises(AttributeError, match=r"was not awaited, so it has no 'loaded'"):
        call.loaded  # type: ignore[attr-defined]  # noqa: B018 - what a newcomer writes
    assert inspect.iscoroutinefunction(dl.load_dataframe) == (sys.version_info >= (3, 12))
    assert dl.run(call).loaded == 1


def test_the_command_line_has_the_commands_that_the_module_names() -> None:
    assert sorted(commands.main.commands) == [
        "check",
        "completion",
        "copy",
        "export",
        "forget",
        "grants",
        "history",
        "load",
        "plan",
        "resume",
        "validate",
    ]
    assert all(name in (commands.__doc__ or "") for name in commands.main.commands)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a file, and how many lines each has beside its docstring and its comments."""
    source = path.read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = node.body[0] if ast.get_docstring(node) else None
            docstring = range(documented.lineno, documented.end_lineno + 1) if documented else ()
            own = [number for number in range(node.lineno, node.end_lineno + 1) if number not in docstring]
            yield f"{path.stem}.{node.name}", sum(not lines[number - 1].lstrip().startswith("#") for number in own)


def test_no_file_or_function_has_outgrown_its_room() -> None:
    paths = list(PACKAGE.rglob("*.py"))
    assert [path.name for path in paths if len(path.read_text().splitlines()) > FILE_LINES] == []
    assert {name: lines for path in paths for name, lines in functions(path) if lines > FUNCTION_LINES} == {}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_dependency_has_an_oldest_version() -> None:
    """One that pip finds: CI runs the database tests on them."""
    every = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    others = [one for one in every if not one.startswith(PROJECT["name"])]
    assert [one for one in others if not re.match(r"[\w-]+(\[\w+\])?>=\d+(\.\d+)*(,|$)", one)] == []


DATABASES = ("postgresql", "sqlite", "mysql", "mariadb", "asyncpg", "psycopg", "aiosqlite")
"""Names of SQLAlchemy's dialects and of their drivers."""
QUESTIONS = {"name", "driver", "drivername", "get_backend_name", "get_driver_name"}


def is_named(node: ast.expr | None) -> bool:
    """Whether it is the name of a database or of a driver, or a list of some."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(map(is_named, node.elts))
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.strip("+:/") in DATABASES


def branches(source: str) -> Iterator[int]:
    """The lines in which code asks which database it is, in whichever way."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="dialect") | ast.Attribute(attr="dialect"), attr=attribute):
                asks = attribute in QUESTIONS
            case ast.Compare(left=left, comparators=others):
                asks = any(map(is_named, [left, *others]))
            case ast.Dict(keys=keys):
                asks = any(map(is_named, keys))
            case ast.Subscript(slice=key):
                asks = is_named(key)
            case ast.MatchValue(value=value):
                asks = is_named(value)
            case ast.Call(func=ast.Attribute(attr="startswith" | "endswith" | "get" | "with_variant"), args=arguments):
                asks = any(map(is_named, arguments))
            case _:
                asks = False
        if asks:
            yield node.lineno  # type: ignore[attr-defined]  # all of these have one


def test_only_backends_ask_which_database_it_is() -> None:
    files = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    others = {path: text for path, text in files.items() if not path.startswith("database/backends/")}
    assert len(others) < len(files)
    found = [f"{path}:{line}" for path, text in others.items() for line in branches(text)]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "if connection.dialect.name == 'postgresql': pass",
        "name = engine.dialect.driver",
        "now = {'postgresql': 1, 'sqlite': 2}[name]",
        "if backend in ('sqlite', 'mysql'): pass",
        "if url.drivername.startswith('sqlite+'): pass",
        "match name:\n    case 'sqlite': pass",
        "insert = inserts.get('sqlite')",
        "json = JSON().with_variant(JSONB(), 'postgresql')",
    ],
)
def test_a_question_which_database_it_is_would_be_found(planted: str) -> None:
    assert [*branches(planted)]


def test_every_dependency_is_justified() -> None:
    reasons = (ROOT / "CONTRIBUTING.md").read_text()
    names = [dependency.split(">")[0] for dependency in PROJECT["dependencies"]]
    assert [name for name in names if f"| {name} |" not in reasons] == []


def test_the_sample_data_is_what_its_script_makes(tmp_path: Path) -> None:
    kept = ROOT / "sample_data"
    (tmp_path / "make.py").write_text((kept / "make.py").read_text())
    subprocess.run([sys.executable, tmp_path / "make.py"], check=True)
    for name in ("orders.csv", "orders_messy.csv", "README.md"):
        assert (tmp_path / name).read_bytes() == (kept / name).read_bytes()


async def test_the_two_forms_of_the_sample_data_hold_the_same_orders(tmp_path: Path) -> None:
    import sqlalchemy as sa

    types = {"id": sa.BigInteger(), "customer_id": sa.Integer(), "amount": sa.Numeric(12, 4), "status": sa.String(32)}
    engine = dl.connect(f"sqlite:///{tmp_path / 'orders.db'}")
    rows = []
    for name in ("orders.csv", "orders.parquet"):
        await dl.load_files(ROOT / "sample_data" / name, "orders", if_exists="replace", dtype=types)
        async with engine.connect() as connection:
            rows.append((await connection.execute(sa.text("SELECT * FROM orders ORDER BY id"))).all())
    await engine.dispose()
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1000


def _asked_kinds(tree: ast.AST) -> Iterator[str]:
    """The kinds of column with which an attribute `kind` is compared."""
    for one in ast.walk(tree):
        if isinstance(one, ast.Compare) and isinstance(one.left, ast.Attribute) and one.left.attr == "kind":
            literals = [part.value for part in ast.walk(one) if isinstance(part, ast.Constant)]
            yield from (literal for literal in literals if literal in TYPES)


def test_what_is_particular_to_a_kind_of_column_is_asked_of_its_row() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "conversion"]
    asked = {path.name: list(_asked_kinds(ast.parse(path.read_text()))) for path in paths}
    assert {name: kinds for name, kinds in asked.items() if kinds} == {}
