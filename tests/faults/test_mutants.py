"""The gate: a copy of the project is broken in one place of the protocol, and a test must fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 110


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is replaced in which file, and the test that has to notice."""

    file: str
    sound: str
    broken: str
    test: str


CLAIM = "            known = await ledger.claim(connection, run, claimed)\n"
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
        f"{KILLED}::test_a_load_that_is_killed_and_resumed_until_it_is_done_is_exact[postgresql-0]",
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
        "ledger/ledger.py",
        "        if [len(chunks), *sums] != [found.chunks, found.rows, found.loaded, found.rejected]:\n",
        "        if False:\n",
        f"{REFUSED}::test_an_edited_ledger_is_refused",
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("dataloader", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_test(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run a test with the package that lies in the folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_protocol_makes_a_test_fail(copy: Path, name: str) -> None:
    mutant = MUTANTS[name]
    path = copy / "dataloader" / mutant.file
    sound = path.read_text()
    assert sound.count(mutant.sound) == 1, "the code has changed: break it anew"
    path.write_text(sound.replace(mutant.sound, mutant.broken))
    try:
        ran = run_test(copy, mutant.test)
    finally:
        path.write_text(sound)
    assert ran.returncode == 1, ran.stdout
    assert "1 failed" in ran.stdout
    assert "SyntaxError" not in ran.stdout
