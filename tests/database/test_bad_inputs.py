"""Every bad value of the catalogue and every constraint: one bad row among good ones, and what is said of it.

Every case is loaded three times: with the default, which refuses the whole; with `on_invalid="reject"`, which keeps the
bad row aside; and not at all, by `validate`. What is stored is read as text that the database made. In CI a case is
refused on one path and rejected on the next; with `DATALOADER_FAULTS=full` both on each.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import FULL, INTERNAL, execute, fetch
from tests.values import BAD_VALUES, LIST, MOMENT, NO_SUCH_TYPE, OBJECTS, UNNAMED, Bad, Column, No

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

ROWS, BAD = 7, 4
"""How many rows a case has, and which is bad: chunks of three put it inside the second. The last row brings NULL."""
PATHS = ("copy", "insert", "sqlite")


@dataclass(frozen=True, slots=True)
class Case:
    """A bad value in a column, and the reasons that may be given."""

    column: Column
    bad: Any
    reason: str

    @property
    def reasons(self) -> list[str]:
        return self.reason.split("|")

    def blamed(self, path: str) -> set[str | None]:
        """The columns that may be named: of an INSERT's casts PostgreSQL does not say which one failed."""
        nobody = {None} if path == "insert" and self.column.by != "value" else set()
        return {*self.column.blames, *nobody}

    def values(self, with_bad: bool) -> list[Any]:
        """The column's values, row by row."""
        good = list(itertools.islice(itertools.cycle(self.column.good), ROWS - 1))
        if self.column.nulls:
            good[-1] = None
        return [*good[:BAD], self.bad, *good[BAD:]] if with_bad else good

    def data(self, with_bad: bool = True) -> Any:
        """What is loaded; the ids are ten times the positions."""
        ids = [10 * row for row in range(ROWS) if with_bad or row != BAD]
        values = self.values(with_bad)
        if self.column.kind is OBJECTS:
            return pd.DataFrame({"id": ids, "v": pd.Series(values, dtype=object)})
        return pa.table({"id": pa.array(ids, pa.int32()), "v": self.column.array(values)})

    def shown(self, path: str) -> list[tuple[int, str | None]]:
        """The good rows as the database shows them."""
        texts = itertools.cycle(self.column.shown(path))
        absent = "NULL" if path == "sqlite" else None
        ids = [10 * row for row in range(ROWS) if row != BAD]
        return [
            (one, absent if value is None else next(texts)) for one, value in zip(ids, self.values(False), strict=True)
        ]


PARENTS = ("CREATE TABLE p (a integer PRIMARY KEY)", "INSERT INTO p VALUES (1), (2), (3)")
PAIRS = (
    "CREATE TABLE p (a integer, b integer, PRIMARY KEY (a, b))",
    f"INSERT INTO p VALUES {', '.join(f'({10 * row}, {row})' for row in range(ROWS) if row != BAD)}",
)
MAKE_TRIGGER = "CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()"


def raising(kind: str) -> str:
    return f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.v = 13 THEN RAISE EXCEPTION 'thirteen, <b>of all</b>' {kind}; END IF; RETURN NEW; END $$"""


CONSTRAINTS: dict[Column, Bad] = {
    # NULL
    Column("integer NOT NULL", "INTEGER NOT NULL", pa.int64(), [1, 2], nulls=False): {"NOT NULL": (None, "null")},
    Column("integer NOT NULL DEFAULT 7", "INTEGER NOT NULL DEFAULT 7", pa.int64(), [1, 2], nulls=False): {
        "NOT NULL with a default": (None, "null")
    },
    Column("double precision NOT NULL", "REAL NOT NULL", OBJECTS, [0.5, 0.25], nulls=False): {
        "NOT NULL of pandas' NaN": (math.nan, "null")
    },
    Column("timestamp NOT NULL", "DATETIME NOT NULL", OBJECTS, [pd.Timestamp(MOMENT)], nulls=False): {
        "NOT NULL of pandas' NaT": (pd.NaT, "null")
    },
    Column("text NOT NULL", "TEXT NOT NULL", pa.string(), ["", "a"], nulls=False): {"NOT NULL of text": (None, "null")},
    Column("integer[] NOT NULL", NO_SUCH_TYPE, LIST(pa.int64()), [[], [1]], nulls=False, stored=["{}", "{1}"]): {
        "NOT NULL of an array": (None, "null")
    },
    Column("integer PRIMARY KEY", "TEXT PRIMARY KEY NOT NULL", pa.string(), list("123456"), nulls=False): {
        "NULL in a primary key": (None, "null")
    },
    Column(
        "filled", NO_SUCH_TYPE, pa.int64(), [1, 2], nulls=False, setup=("CREATE DOMAIN filled AS integer NOT NULL",)
    ): {"domain that is NOT NULL": (None, "null")},
    Column(
        "integer CHECK (v IS NOT NULL)", "INTEGER CHECK (v IS NOT NULL)", pa.int64(), [1, 2], **UNNAMED, nulls=False
    ): {"CHECK that it is not NULL": (None, "check")},
    # constraints and triggers
    Column(
        "positive",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        **UNNAMED,
        setup=("CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",),
    ): {"domain's check": (-1, "check")},
    Column(
        "few",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        **UNNAMED,
        setup=(
            "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
            "CREATE DOMAIN few AS positive CHECK (VALUE < 10)",
        ),
    ): {"domain over a domain's check": (11, "check")},
    Column("word", NO_SUCH_TYPE, pa.string(), ["abc"], setup=("CREATE DOMAIN word AS varchar(3)",)): {
        "domain over a length": ("abcd", "length")
    },
    Column("integer CHECK (v > 0)", "INTEGER CHECK (v > 0)", pa.int64(), [1, 2], **UNNAMED): {"CHECK": (-1, "check")},
    Column("integer", "INTEGER", pa.int64(), [1, 2], **UNNAMED, also=", CHECK (v < id + 50)"): {
        "CHECK of two columns": (100, "check")
    },
    Column("text CHECK (v = lower(v))", "TEXT CHECK (v = lower(v))", pa.string(), ["a", "b"], **UNNAMED): {
        "CHECK that calls a function": ("C", "check")
    },
    Column("integer CHECK (100 / v > 0)", No("SQLite's division by zero is NULL"), pa.int64(), [1, 2], **UNNAMED): {
        "CHECK that divides by zero": (0, "refused|check")
    },
    Column(
        "integer UNIQUE",
        "INTEGER UNIQUE",
        pa.int64(),
        list(range(1, 7)),
        by="server",
        after=("INSERT INTO t VALUES (-1, 77)",),
        asked="exists",
    ): {"UNIQUE against the table": (77, "unique")},
    Column("integer UNIQUE", "INTEGER UNIQUE", pa.int64(), [1, 2, 3, 4, 5, 6], by="server", asked="duplicate"): {
        "UNIQUE inside a chunk": (4, "unique")
    },
    Column("text UNIQUE", "TEXT UNIQUE", pa.string(), list("abcdef"), by="server", asked="duplicate"): {
        "UNIQUE across chunks": ("a", "unique")
    },
    Column(
        "char(3) UNIQUE",
        No("SQLite's blanks count"),
        pa.string(),
        [f"{c}  " for c in "abcdef"],
        by="server",
        asked="duplicate",
        stored=list("abcdef"),
    ): {"UNIQUE of char, where blanks do not count": ("a", "unique")},
    Column(
        "numeric UNIQUE",
        "NUMERIC(12,4) UNIQUE",
        pa.string(),
        ["1.5", "2", "3", "4", "5", "6"],
        by="server",
        asked="duplicate",
        quoted=["1.5", "2", "3", "4", "5", "6"],
    ): {"UNIQUE of numeric, where zeros do not count": ("1.50", "unique")},
    Column(
        "integer PRIMARY KEY",
        "INTEGER PRIMARY KEY",
        pa.int64(),
        list(range(1, 7)),
        by="server",
        after=("INSERT INTO t VALUES (-1, 77)",),
        asked="exists",
        nulls=False,
    ): {"primary key against the table": (77, "unique")},
    Column(
        "text PRIMARY KEY",
        "TEXT PRIMARY KEY NOT NULL",
        pa.string(),
        list("abcdef"),
        by="server",
        asked="duplicate",
        nulls=False,
    ): {"primary key of text": ("c", "unique")},
    Column(
        "uuid PRIMARY KEY",
        No("SQLite keeps one spelling"),
        pa.string(),
        [f"{row}2345678-1234-5678-1234-567812345678" for row in range(6)],
        by="server",
        asked="duplicate",
        nulls=False,
    ): {"primary key of uuids in two spellings": ("{12345678123456781234567812345678}", "unique")},
    Column(
        "integer",
        "INTEGER",
        pa.int64(),
        [1, 2],
        by="server",
        after=(f"INSERT INTO t VALUES ({10 * BAD}, 9)",),
        also=", UNIQUE (id, v)",
        asked="exists",
        blames=("id, v",),
    ): {"key of two columns": (9, "unique")},
    Column(
        "text",
        "TEXT",
        pa.string(),
        list("abcdef"),
        by="server",
        after=("CREATE UNIQUE INDEX one ON t (v)",),
        asked="duplicate",
    ): {"unique index": ("b", "unique")},
    Column(
        "text", "TEXT", pa.string(), list("abcdef"), **UNNAMED, after=("CREATE UNIQUE INDEX one ON t (lower(v))",)
    ): {"unique index of an expression": ("B", "unique")},
    Column(
        "integer",
        "INTEGER",
        pa.int64(),
        [0, 0, 1, 0, 0, 0],
        **UNNAMED,
        after=("CREATE UNIQUE INDEX one ON t (v) WHERE v > 0",),
        nulls=False,
    ): {"unique index of some rows": (1, "unique")},
    Column(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [None, 1, 2, 3, 4, 5],
        by="server",
        also=", UNIQUE NULLS NOT DISTINCT (v)",
        nulls=False,
    ): {"unique key in which NULLs are equal": (None, "unique")},
    Column(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        **UNNAMED,
        nulls=False,
        after=(
            "DROP TABLE t",
            "CREATE TABLE t (id integer, v integer) PARTITION BY RANGE (v)",
            "CREATE TABLE part PARTITION OF t FOR VALUES FROM (0) TO (10)",
        ),
    ): {"partition that does not exist": (77, "check|refused")},
    Column(
        "integer REFERENCES p",
        "INTEGER REFERENCES p",
        pa.int64(),
        [1, 2, 3],
        **UNNAMED,
        setup=PARENTS,
        asked="foreign_key",
    ): {"foreign key": (4, "foreign_key")},
    Column(
        "integer REFERENCES p (a)",
        "INTEGER REFERENCES p (a)",
        pa.string(),
        ["1", "2", "3"],
        **UNNAMED,
        setup=PARENTS,
        asked="foreign_key",
        quoted=["1", "2", "3"],
    ): {"foreign key from text": ("04", "foreign_key")},
    Column(
        "integer",
        "INTEGER",
        pa.int64(),
        [0, 1, 2, 3, 5, 6],
        by="server",
        setup=PAIRS,
        also=", FOREIGN KEY (id, v) REFERENCES p (a, b)",
        asked="foreign_key",
        blames=("id, v", None),
        nulls=False,
    ): {"foreign key of two columns": (4, "foreign_key")},
    Column("integer", NO_SUCH_TYPE, pa.int64(), [1, 2], **UNNAMED, setup=(raising(""),), after=(MAKE_TRIGGER,)): {
        "trigger that raises": (13, "refused")
    },
    Column(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        **UNNAMED,
        setup=(raising("USING ERRCODE = 'SHOP1'"),),
        after=(MAKE_TRIGGER,),
    ): {"trigger that raises with a code of its own": (13, "refused")},
    Column(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        **UNNAMED,
        setup=(raising("USING ERRCODE = 'check_violation'"),),
        after=(MAKE_TRIGGER,),
    ): {"trigger that raises as a check would": (13, "check|refused")},
    Column(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        **UNNAMED,
        setup=(raising(""),),
        after=(MAKE_TRIGGER.replace("BEFORE", "AFTER"),),
    ): {"trigger that raises after the row": (13, "refused")},
    Column(
        NO_SUCH_TYPE,
        "INTEGER",
        pa.int64(),
        [1, 2],
        **UNNAMED,
        after=(
            "CREATE TRIGGER r BEFORE INSERT ON t WHEN NEW.v = 13 BEGIN SELECT RAISE(ABORT, '<b>thirteen</b>'); END",
        ),
    ): {"SQLite's trigger that aborts": (13, "refused")},
    Column(
        NO_SUCH_TYPE,
        "INTEGER",
        pa.int64(),
        [1, 2],
        **UNNAMED,
        after=("CREATE TRIGGER r AFTER INSERT ON t WHEN NEW.v = 13 BEGIN SELECT RAISE(FAIL, 'thirteen'); END",),
    ): {"SQLite's trigger that fails": (13, "refused")},
    Column(
        "int4range",
        NO_SUCH_TYPE,
        pa.string(),
        [f"[{row},{row + 1})" for row in range(6)],
        **UNNAMED,
        also=", EXCLUDE USING gist (v WITH &&)",
    ): {"exclusion constraint": ("[3,4)", "refused|unique")},
    Column(
        "integer",
        NO_SUCH_TYPE,
        pa.int64(),
        [1, 2],
        **UNNAMED,
        copy=No("COPY cannot write to a view"),
        nulls=False,
        after=("ALTER TABLE t RENAME TO base", "CREATE VIEW t AS SELECT * FROM base WHERE v > 0 WITH CHECK OPTION"),
    ): {"view's check": (-1, "refused|check")},
    Column("integer GENERATED ALWAYS AS (id + 1) STORED", "INTEGER AS (id + 1) STORED", pa.int64(), [1], by="plan"): {
        "generated column": (2, "type")
    },
}
CASES = {
    name: Case(column, *bad) for column, named in (BAD_VALUES | CONSTRAINTS).items() for name, bad in named.items()
}


@dataclass(frozen=True, slots=True)
class Place:
    """A database and the way into it."""

    engine: AsyncEngine
    path: str

    async def make(self, case: Case) -> None:
        table = f"CREATE TABLE t (id integer, v {case.column.on(self.path)}{case.column.also})"
        await execute(self.engine, *case.column.setup, table, *case.column.after)

    async def load(self, data: Any, **options: Any) -> dl.LoadReport:
        method = "insert" if self.path == "sqlite" else self.path
        report = await dl.load_dataframe(data, "t", engine=self.engine, method=method, chunk_rows=3, **options)
        assert report.method == method
        return report

    async def validate(self, data: Any, **options: Any) -> dl.ValidationReport:
        return await dl.validate(data, "t", engine=self.engine, chunk_rows=3, **options)

    async def rows(self) -> list[tuple[Any, ...]]:
        """The table as the database writes it."""
        if self.path == "sqlite":
            return await fetch(self.engine, "SELECT id, quote(v) FROM t ORDER BY id")
        async with self.engine.connect() as connection:
            await connection.execute(sa.text("SET LOCAL TIME ZONE 'UTC'"))
            found = await connection.execute(sa.text("SELECT id, CAST(v AS text) FROM t ORDER BY id"))
            return [tuple(row) for row in found]


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    engine: AsyncEngine = request.getfixturevalue("sqlite" if request.param == "sqlite" else "postgres")
    if request.param == "sqlite":
        sa.event.listen(engine.sync_engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys = ON"))
    return Place(engine, request.param)


def test_every_bad_value_has_a_name_of_its_own() -> None:
    assert len(CASES) == sum(map(len, [*BAD_VALUES.values(), *CONSTRAINTS.values()]))


PARAMS = [
    pytest.param(path, case, id=f"{name}-{path}")
    for name, case in CASES.items()
    for path in PATHS
    if not isinstance(case.column.on(path), No)
]
DATABASES = [param for param in PARAMS if param.values[0] != "copy"]
REFUSED, REJECTED = (PARAMS, PARAMS) if FULL else (PARAMS[::2], PARAMS[1::2])


def assert_is_named(error: dl.DataLoaderError, case: Case) -> None:
    """A refused load says which row and column it is about; the server does not always know the column."""
    if isinstance(error, dl.ValidationError):
        assert case.column.by in {"value", "either"}
        assert (error.row, error.column) == (BAD, "v")
        assert error.reason in case.reasons
        assert [(one.row, one.column) for one in error.violations] == [(BAD, "v")]
        assert error.counts == {("v", error.reason): 1}
        assert f"row {BAD}, column 'v'" in str(error)
        return
    assert isinstance(error, dl.WriteError)
    assert case.column.by in {"server", "either"}
    assert error.row == BAD
    assert error.column in {*case.column.blames, None}
    assert f"row {BAD}" in str(error)


@pytest.mark.parametrize(("place", "case"), REFUSED, indirect=["place"])
async def test_by_default_the_bad_row_is_named_and_nothing_is_written(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    with pytest.raises(dl.DataLoaderError) as caught:
        await place.load(case.data(), **case.column.options)
    assert await place.rows() == before
    assert not INTERNAL.search(str(caught.value))
    if case.column.by == "plan":
        assert isinstance(caught.value, dl.PlanError)
        assert "'v'" in str(caught.value)
        return
    assert_is_named(caught.value, case)
    assert (await place.load(case.data(with_bad=False), **case.column.options)).loaded == ROWS - 1
    assert sorted(await place.rows()) == sorted(before + case.shown(place.path))


@pytest.mark.parametrize(("place", "case"), REJECTED, indirect=["place"])
async def test_the_bad_row_is_kept_aside_and_the_good_ones_are_loaded(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    if case.column.by == "plan":
        with pytest.raises(dl.PlanError, match="'v'"):
            await place.load(case.data(), on_invalid="reject", **case.column.options)
        assert await place.rows() == before
        return
    report = await place.load(case.data(), on_invalid="reject", **case.column.options)
    assert sorted(await place.rows()) == sorted(before + case.shown(place.path))
    assert (report.read, report.loaded, report.rejected, report.skipped) == (ROWS, ROWS - 1, 1, 0)
    rejects = report.rejects
    assert rejects.index.tolist() == [BAD]
    assert rejects.columns.tolist() == ["reject_row", "reject_column", "reject_reason", "reject_problem", "id", "v"]
    assert (rejects["id"].tolist(), rejects["reject_row"].tolist()) == ([10 * BAD], [BAD])
    column, reason, problem = (rejects[f"reject_{name}"].iloc[0] for name in ("column", "reason", "problem"))
    assert (None if pd.isna(column) else column) in case.blamed(place.path)
    assert reason in case.reasons
    assert problem
    assert not INTERNAL.search(problem)
    assert_is_original(rejects["v"], case)
    assert f"{10 * BAD}" in rejects.to_string()


def assert_is_original(rejected: pd.Series[Any], case: Case) -> None:
    """The rejected value is the one that came; one of another type than its column may be shown as text."""
    if case.column.kind is not OBJECTS:
        returned, given = pa.array(rejected), decoded(case.column.array([case.bad]))
        if pa.types.is_temporal(given.type) and pa.types.is_string(returned.type):
            assert case.reason == "range"  # Python has no such date, so it is shown as text
            return
        assert decoded(returned).type == given.type
        assert decoded(returned).to_string() == given.to_string()
    elif case.bad is None or pd.api.types.is_scalar(case.bad):
        assert pd.isna(rejected.iloc[0]) == pd.isna(case.bad)
        assert str(rejected.iloc[0]) in {str(case.bad), printable(case.bad)} or pd.isna(case.bad)
    else:
        value = rejected.iloc[0]
        assert value == case.bad or value in {str(case.bad), repr(case.bad)} or json.loads(value) == case.bad


def printable(value: object) -> str:
    """A value as text that can be encoded."""
    text = value if isinstance(value, str) else repr(value)
    return text.encode(errors="backslashreplace").decode()


def decoded(values: pa.Array) -> pa.Array:
    """Without a dictionary, views or half floats, which pandas does not show."""
    if pa.types.is_dictionary(values.type):
        return values.cast(values.type.value_type)
    if pa.types.is_float16(values.type):
        return values.cast(pa.float32())
    return values.cast(pa.string()) if pa.types.is_string_view(values.type) else values


@pytest.mark.parametrize(("place", "case"), DATABASES, indirect=["place"])
async def test_validate_finds_the_bad_row_and_writes_nothing(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    if case.column.by == "plan":
        with pytest.raises(dl.PlanError, match="'v'"):
            await place.validate(case.data(), **case.column.options)
        assert await place.rows() == before
        return
    report = await place.validate(case.data(), **case.column.options)
    assert await place.rows() == before
    assert report.read == ROWS
    assert len(report.frame) == len(report.violations)
    assert str(report)
    found = [(one.row, one.column) for one in report.violations]
    assert found in {"value": [[(BAD, "v")]], "server": [[]], "either": [[(BAD, "v")], []]}[case.column.by]
    assert {one.reason for one in report.violations} <= set(case.reasons)
    assert report.ok == (not found)
    assert (await place.validate(case.data(with_bad=False), **case.column.options)).ok


ASKED = [param for param in DATABASES if param.values[1].column.asked is not None]


@pytest.mark.parametrize(("place", "case"), ASKED, indirect=["place"])
async def test_validate_finds_a_bad_key_when_it_is_asked_to_look(place: Place, case: Case) -> None:
    await place.make(case)
    before = await place.rows()
    report = await place.validate(case.data(), unique=True, foreign_keys=True, **case.column.options)
    assert [(one.row, one.reason) for one in report.violations] == [(BAD, case.column.asked)]
    assert report.violations[0].column in case.column.blames
    assert await place.rows() == before
    good = await place.validate(case.data(with_bad=False), unique=True, foreign_keys=True, **case.column.options)
    assert good.ok


@pytest.mark.parametrize("path", PATHS)
def test_the_catalogue_has_sixty_cases_on_each_path(path: str) -> None:
    assert sum(not isinstance(case.column.on(path), No) for case in CASES.values()) >= 60
