"""A table and a dict: whatever is done to both, they stay equal.

Loads, upserts, updates, deletes, synchronizations, replacements and cancels follow each other as hypothesis likes.
Short in CI; with `DATALOADER_FAULTS=full` 500 runs on each database, in which processes are killed as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import FULL, new_database

RUNS, STEPS = (500, 20) if FULL else (12, 12)
ROOT = Path(__file__).parents[2]
Rows = dict[int, tuple[int | None, str | None]]
"""The values of `number` and `note`, by the key."""

keys = st.integers(0, 14)
values = st.tuples(st.none() | st.integers(-3, 3), st.none() | st.sampled_from(["", "a", "ä'\"\\", "1.0"]))
wide_values = st.sampled_from([(40_000, "a"), (1 << 40, None), (None, "more than 4"), (-70_000, "more than 4")])
rows_of_keys = st.dictionaries(keys, values, min_size=1, max_size=8)
commits: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"commit": "chunk", "chunk_rows": 2}, {"commit": "chunk", "chunk_rows": 3, "workers": 2}]
)
KILLED = """
import asyncio, json, sys
import dataloader as dl

async def slowly(rows):
    for row in rows:
        yield row
        await asyncio.sleep(0.03)

url, load_id, rows = json.loads(sys.stdin.read())
options = dict(load_id=load_id, commit="chunk", chunk_rows=1, on_conflict="update", progress="none")
asyncio.run(dl.load_rows(slowly(rows), "t", engine=url, **options))
"""


def columns_of(rows: Rows) -> dict[str, list[Any]]:
    return {"id": [*rows], "number": [row[0] for row in rows.values()], "note": [row[1] for row in rows.values()]}


def dicts_of(rows: Rows) -> list[dict[str, Any]]:
    return [{"id": key, "number": number, "note": note} for key, (number, note) in rows.items()]


async def slowly(rows: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for row in rows:
        yield row
        await asyncio.sleep(0.002)


class Tables(RuleBasedStateMachine):
    """A table of a database, and what it should have."""

    url: sa.URL
    number = 0

    @initialize(rows=rows_of_keys)
    def create(self, rows: Rows) -> None:
        self.runner = asyncio.Runner()
        self.engine: AsyncEngine = open_engine(self.url)
        self.has_more = False
        self.loads = 0
        self.model: Rows = dict(rows)
        Tables.number += 1
        self.run_load(if_exists="replace", primary_key="id", dtype=TYPES, rows=rows)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await work

        return self.runner.run(bounded())

    def run_load(self, *, rows: Rows, **options: Any) -> dl.LoadReport:
        report = self.run(dl.load_dataframe(columns_of(rows), "t", engine=self.engine, progress="none", **options))
        assert isinstance(report, dl.LoadReport)
        return report

    @rule(rows=rows_of_keys, commit=commits)
    def append(self, rows: Rows, commit: dict[str, Any]) -> None:
        there = rows.keys() & self.model.keys()
        if there and commit:
            return  # the chunks before the one that is refused stay: nobody would load like that
        if there:
            with pytest.raises(dl.WriteError):
                self.run_load(rows=rows)
        else:
            assert self.run_load(rows=rows, resume=False, **commit).loaded == len(rows)
            self.model |= rows

    @rule(rows=rows_of_keys, commit=commits)
    def upsert(self, rows: Rows, commit: dict[str, Any]) -> None:
        report = self.run_load(rows=rows, on_conflict="update", resume=False, **commit)
        new = rows.keys() - self.model.keys()
        same = sum(self.model.get(key) == row for key, row in rows.items() if key not in new)
        assert (report.inserted, report.unchanged, report.updated) == (len(new), same, len(rows) - len(new) - same)
        self.model |= rows

    @rule(rows=rows_of_keys)
    def upsert_and_return(self, rows: Rows) -> None:
        report = self.run_load(rows=rows, on_conflict="update", returning=["id", "note"])
        new = [key not in self.model for key in rows]
        self.model |= rows
        found = list(report.returned[["id", "inserted"]].itertuples(index=False, name=None))
        assert found == list(zip(rows, new, strict=True))

    @rule(rows=rows_of_keys, commit=commits)
    def ignore(self, rows: Rows, commit: dict[str, Any]) -> None:
        report = self.run_load(rows=rows, on_conflict="ignore", resume=False, **commit)
        new = {key: row for key, row in rows.items() if key not in self.model}
        assert (report.loaded, report.ignored) == (len(new), len(rows) - len(new))
        self.model |= new

    @rule(rows=rows_of_keys)
    def update(self, rows: Rows) -> None:
        report = self.run(dl.update_rows(columns_of(rows), "t", engine=self.engine, progress="none"))
        there = {key: row for key, row in rows.items() if key in self.model}
        changed = sum(self.model[key] != row for key, row in there.items())
        assert (report.updated, report.missing) == (changed, len(rows) - len(there))
        self.model |= there

    @rule(gone=st.sets(keys, min_size=1, max_size=6))
    def delete(self, gone: set[int]) -> None:
        report = self.run(dl.delete_rows({"id": sorted(gone)}, "t", engine=self.engine, progress="none"))
        there = gone & self.model.keys()
        assert (report.deleted, report.missing) == (len(there), len(gone) - len(there))
        for key in there:
            del self.model[key]

    @rule(rows=rows_of_keys, share=st.sampled_from([0.3, 1.0]))
    def synchronize(self, rows: Rows, share: float) -> None:
        gone = self.model.keys() - rows.keys()
        load = dl.sync_table(columns_of(rows), "t", engine=self.engine, progress="none", max_deletes=share)
        if len(gone) > share * len(self.model):
            with pytest.raises(dl.PlanError, match="would be deleted"):
                self.run(load)
            return
        assert self.run(load).deleted == len(gone)
        self.model = dict(rows)

    @rule(rows=rows_of_keys, how=st.sampled_from(["truncate", "replace"]))
    def start_anew(self, rows: Rows, how: str) -> None:
        self.run_load(rows=rows, if_exists=how, primary_key="id", dtype=TYPES)
        self.has_more = self.has_more and how == "truncate"
        self.model = dict(rows)

    @rule(rows=rows_of_keys)
    def rehearse(self, rows: Rows) -> None:
        assert self.run_load(rows=rows, on_conflict="update", dry_run=True).dry_run

    @precondition(lambda self: not self.has_more)
    @rule()
    def add_a_column(self) -> None:
        data = {**columns_of(self.model), "more": [0] * len(self.model)}
        if self.model:
            self.run(
                dl.load_dataframe(data, "t", engine=self.engine, progress="none", on_conflict="ignore", evolve="add")
            )
            self.has_more = True

    @property
    def has_room(self) -> bool:
        """Whether the table takes any of the wide values."""

        async def kinds() -> list[str]:
            async with self.engine.connect() as connection:
                columns = await connection.run_sync(lambda sync: sa.inspect(sync).get_columns("t"))
                return [str(one["type"]) for one in columns if one["name"] in TYPES]

        return self.run(kinds()) == ["BIGINT", "TEXT"]

    @precondition(lambda self: self.url.get_backend_name() == "postgresql")
    @rule(rows=rows_of_keys, key=keys, wide=wide_values, commit=commits)
    def widen(self, rows: Rows, key: int, wide: tuple[Any, Any], commit: dict[str, Any]) -> None:
        rows |= {key: wide}
        if not (self.has_room or commit):
            self.refuse_or_take(rows)
        self.run_load(rows=rows, on_conflict="update", evolve="widen", resume=False, **commit)
        self.model |= rows

    def refuse_or_take(self, rows: Rows) -> None:
        """Without being asked, a load widens nothing."""
        refused = ""
        try:
            self.run_load(rows=rows, on_conflict="update")
        except dl.DataLoaderError as error:
            refused = str(error)
        assert not refused or "ALTER TABLE" in refused, refused
        self.model |= {} if refused else rows

    @precondition(lambda self: self.url.get_backend_name() == "postgresql")
    @rule(rows=rows_of_keys, key=keys, wide=wide_values, seconds=st.floats(0, 0.1))
    def widen_and_resume(self, rows: Rows, key: int, wide: tuple[Any, Any], seconds: float) -> None:
        self.loads += 1
        rows |= {key: wide}
        name = f"{self.number} {self.loads}"
        options: Any = {"load_id": name, "commit": "chunk", "chunk_rows": 1, "on_conflict": "update"}

        async def interrupted() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await dl.load_dataframe(
                        columns_of(rows), "t", engine=self.engine, evolve="widen", progress="none", **options
                    )

        self.run(interrupted())
        self.run_load(rows=rows, evolve="widen", resume=True, **options)
        self.model |= rows

    @rule(rows=rows_of_keys, seconds=st.floats(0, 0.08))
    def cancel_and_resume(self, rows: Rows, seconds: float) -> None:
        self.loads += 1
        options: Any = {"load_id": f"{self.number} {self.loads}", "commit": "chunk", "chunk_rows": 1}

        def load(resume: bool | None) -> Coroutine[Any, Any, dl.LoadReport]:
            data = slowly(dicts_of(rows))
            return dl.load_rows(
                data, "t", engine=self.engine, on_conflict="update", resume=resume, progress="none", **options
            )

        async def interrupted() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await load(None)

        self.run(interrupted())
        self.run(load(resume=True))
        self.model |= rows

    @precondition(lambda _: FULL)
    @rule(rows=rows_of_keys, seconds=st.floats(0.5, 1.5))
    def kill_and_resume(self, rows: Rows, seconds: float) -> None:
        self.loads += 1
        name = f"{self.number} {self.loads}"
        told = json.dumps([self.url.render_as_string(hide_password=False), name, dicts_of(rows)])
        command = [sys.executable, "-c", KILLED]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(told.encode(), timeout=seconds)
        process.kill()  # if it has not ended by itself
        process.wait()
        data = slowly(dicts_of(rows))
        options: Any = {"commit": "chunk", "chunk_rows": 1, "on_conflict": "update", "progress": "none"}
        self.run(dl.load_rows(data, "t", engine=self.engine, load_id=name, resume=True, **options))
        self.model |= rows

    @invariant()
    def the_table_is_as_the_model(self) -> None:
        if not hasattr(self, "engine"):
            return

        async def found() -> Rows:
            async with self.engine.connect() as connection:
                rows = await connection.execute(sa.text("SELECT id, number, note FROM t"))
                return {key: (number, note) for key, number, note in rows}

        assert self.run(found()) == self.model

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.run(self.engine.dispose())
            self.runner.close()


TYPES = {"number": sa.SmallInteger(), "note": sa.String(4)}


def check(url: sa.URL) -> None:
    machine = type("Machine", (Tables,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.generate],  # a cancel comes when it comes, so that nothing shrinks
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(7200 if FULL else 300)
def test_a_table_of_sqlite_is_as_the_model(tmp_path: Path) -> None:
    check(sa.make_url(f"sqlite+aiosqlite:///{tmp_path}/model.db"))


@pytest.mark.slow
@pytest.mark.timeout(7200 if FULL else 300)
def test_a_table_of_postgresql_is_as_the_model(server: embedded.Server, admin: psycopg.Connection) -> None:
    with new_database(server, admin) as url:
        check(url)
