"""A load with a name in one transaction, in a process that is killed at a chosen moment of it.

`test_killed_processes` kills at random moments, and finds the two outcomes; here each of them is brought about.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from tests.conftest import execute, fetch

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

ROWS, CHUNK_ROWS = 60, 10
FRAME = pd.DataFrame({"id": range(ROWS)})
LOADER = """
import asyncio, os, signal, sys
import pandas as pd
import sqlalchemy as sa
import dataloader as dl
from dataloader.ledger.ledger import Ledger

moment, path, url, *options = sys.argv[1:]
reached = []
claim, finish = Ledger.claim, Ledger.finish

def reach(passed):
    reached.append(passed)
    if passed == moment:
        os.kill(os.getpid(), signal.SIGKILL)

async def claiming(ledger, connection, load, chunk):
    if chunk.chunk == 2:
        reach("halfway")
    return await claim(ledger, connection, load, chunk)

async def finishing(*given):
    await finish(*given)
    reach("finished")

def returned(*_):
    if "finished" in reached:  # its transaction has ended
        reach("committed")

async def main():
    Ledger.claim, Ledger.finish = claiming, finishing
    engine = dl.connect(url)
    sa.event.listen(engine.sync_engine, "checkin", returned)
    told = {"engine": engine, "load_id": "May", "chunk_rows": 10, **({"commit": options[0]} if options else {})}
    if path == "frame":
        await dl.load_dataframe(pd.DataFrame({"id": range(60)}), "t", **told)
    else:
        await dl.load_files(path, "t", **told)

asyncio.run(main())
"""


def given(kind: str, folder: Path) -> str:
    """What the loader is told to load."""
    path = folder / f"rows.{kind}"
    if kind == "csv":
        FRAME.to_csv(path, index=False)
    elif kind == "parquet":
        FRAME.to_parquet(path)
    return "frame" if kind == "frame" else str(path)


def load(database: AsyncEngine, what: str, **options: Any) -> Any:
    known: dict[str, Any] = {"engine": database, "load_id": "May", "chunk_rows": CHUNK_ROWS, **options}
    return dl.load_dataframe(FRAME, "t", **known) if what == "frame" else dl.load_files(what, "t", **known)


async def killed(database: AsyncEngine, moment: str, what: str, *options: str) -> None:
    url = database.url.render_as_string(hide_password=False)
    loader = await asyncio.create_subprocess_exec(sys.executable, "-c", LOADER, moment, what, url, *options)
    assert await loader.wait() == -9


async def left(database: AsyncEngine) -> list[tuple[Any, ...]]:
    """Rows, different ones, and what the ledger says."""
    counted = "SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM dataloader_chunks), "
    return await fetch(database, f"{counted} (SELECT max(state) FROM dataloader_loads) FROM t")


KINDS = pytest.mark.parametrize("kind", ["frame", "csv", "parquet"])
WHOLE = [(ROWS, ROWS, ROWS // CHUNK_ROWS, "finished")]


@KINDS
@pytest.mark.parametrize("moment", ["halfway", "finished"])
async def test_killed_before_the_commit_it_has_left_nothing_and_begins_anew(
    database: AsyncEngine, tmp_path: Path, kind: str, moment: str
) -> None:
    await execute(database, "CREATE TABLE t (id bigint)")
    what = given(kind, tmp_path)
    await killed(database, moment, what)
    assert await left(database) == [(0, 0, 0, None)]
    report = await load(database, what, resume=True)
    assert (report.loaded, report.already_loaded) == (ROWS, 0)
    assert await left(database) == WHOLE


@KINDS
async def test_killed_after_the_commit_it_is_known_as_finished(
    database: AsyncEngine, tmp_path: Path, kind: str
) -> None:
    await execute(database, "CREATE TABLE t (id bigint)")
    what = given(kind, tmp_path)
    await killed(database, "committed", what)
    assert await left(database) == WHOLE
    report = await load(database, what, resume=True)
    assert (report.loaded, report.already_loaded) == (0, ROWS)
    with pytest.raises(dl.CheckpointError, match=r"the load 'May' into .* is finished, with 60 "):
        await load(database, what)
    assert await left(database) == WHOLE


async def test_by_chunks_it_keeps_those_that_were_committed(database: AsyncEngine) -> None:
    """The same kill of a load that asks for chunks: so the moments above are those of one transaction."""
    await execute(database, "CREATE TABLE t (id bigint)")
    await killed(database, "halfway", "frame", "chunk")
    ((rows, different, chunks, state),) = await left(database)
    assert (rows, different, state) == (chunks * CHUNK_ROWS, rows, "unfinished")
    assert 0 < chunks < ROWS // CHUNK_ROWS
    report = await load(database, "frame", resume=True)
    assert (report.loaded, report.already_loaded) == (ROWS - rows, rows)
    assert await left(database) == WHOLE
