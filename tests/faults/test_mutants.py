"""The gate: a copy of the project is broken in one place of the protocol, and a test must fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataloader.database import embedded
from tests.conftest import SERVER_VARIABLE
from tests.pages import PACKAGE, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.any_version]

SECONDS = 110


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is replaced in which file, and the test that has to notice."""

    file: str
    sound: str
    broken: str
    test: str


CLAIM = "            known = await ledger.claim(connection, load, claimed)\n"
STORING = "            store = ChunkStore(connection, execution, names_rows=names_rows)\n"
EARLY = (
    "            early = ChunkStore(connection, execution, names_rows=names_rows)\n"
    "            self._written = await early.store(chunk, session.watchdog)\n"
)
KILLED = "tests/faults/test_killed_processes.py"
REFUSED = "tests/database/test_wrong_resumes.py"
MUTANTS = {
    "rows before the claim": Mutant(
        "loading/workers.py", CLAIM, EARLY + CLAIM, f"{KILLED}::test_a_commit_that_outlives_its_process_counts_once"
    ),
    "checkpoint in a transaction of its own": Mutant(
        "loading/workers.py",
        STORING,
        "        async with session.transaction(*opening, is_last=False) as connection:\n" + STORING,
        # Kills at random moments may all miss the one between the two transactions: seen once.
        "tests/database/test_resume.py::test_a_load_that_was_interrupted_in_any_chunk_is_resumed_exactly[postgresql-pandas]",
    ),
    "no guard": Mutant(
        "database/watchdog.py",
        "    watchdog = Watchdog()\n    loop",
        "    return await work(Watchdog())\n    watchdog = Watchdog()\n    loop",
        "tests/faults/test_lost_connections.py::test_a_terminated_backend_is_reported_within_a_second[copy]",
    ),
    "no comparison of fingerprints": Mutant(
        "ledger/ledger.py",
        "        if change is not None:\n",
        "        if False:\n",
        f"{REFUSED}::test_a_table_that_is_not_the_one_of_the_load_is_refused_by_what_happened_to_it",
    ),
    "no comparison of digests": Mutant(
        "ledger/checkpoint.py",
        "        if (chunk.digest, chunk.rows, chunk.first_row) != (self.digest, self.rows, self.first_row):\n",
        "        if False:\n",
        f"{REFUSED}::test_a_source_that_changed_where_it_is_committed_is_refused_by_its_chunk",
    ),
    "no count of what is committed": Mutant(
        "ledger/lookup.py",
        "    if any(totals[name] != getattr(found, name) for name in TOTALS):\n",
        "    if False:\n",
        f"{REFUSED}::test_an_edited_ledger_is_refused",
    ),
}


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, server: embedded.Server
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """For each mutant its test, all at once: each in a copy of the project, with a database of the server's."""
    started = {name: start_test(tmp_path_factory.mktemp("mutant"), mutant, server) for name, mutant in MUTANTS.items()}
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def start_test(folder: Path, mutant: Mutant, server: embedded.Server) -> subprocess.Popen[str]:
    """Break a copy of the project and run the test with it."""
    for copied in (PACKAGE, ROOT / "tests"):
        shutil.copytree(copied, folder / copied.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    path = folder / "dataloader" / mutant.file
    sound = path.read_text()
    assert sound.count(mutant.sound) == 1, f"{mutant.file} has changed: break it anew"
    path.write_text(sound.replace(mutant.sound, mutant.broken))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
    own = {"PYTHONPATH": str(folder), "PYTEST_ADDOPTS": "", SERVER_VARIABLE: str(server.data.parent)}
    own |= {"DATALOADER_CASES": "0"}  # some are found by one case of many
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=folder, env=os.environ | own, text=True, **pipes)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_protocol_makes_a_test_fail(running: dict[str, subprocess.Popen[str]], name: str) -> None:
    printed, _ = running[name].communicate(timeout=SECONDS)
    assert running[name].returncode == 1, printed
    assert "1 failed" in printed
    assert "SyntaxError" not in printed
