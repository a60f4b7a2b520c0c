"""Spark: the recipe of the docs, run as it is written. Spark and Java are too large for the extra `test`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.conftest import fetch

pytest.importorskip("pyspark", reason="Spark is too large for the extra test: pip install pyspark")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.any_version,
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java: apt-get install default-jre-headless"),
]

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


async def test_the_recipe_loads_each_row_once_however_often_it_is_run(
    postgres_url: sa.URL, postgres: AsyncEngine, tmp_path: Path
) -> None:
    (recipe,) = (one for one in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "pyspark" in one)
    (tmp_path / "recipe.py").write_text(recipe)
    url = postgres_url.render_as_string(hide_password=False)
    environment = os.environ | {"DATALOADER_URL": url, "PYTHONPATH": str(PAGE.parents[1])}
    environment["PYSPARK_PYTHON"] = sys.executable
    for _ in range(2):
        ran = subprocess.run(  # noqa: ASYNC221 - nothing else runs
            [sys.executable, "recipe.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "100000 rows loaded" in ran.stdout
        assert await fetch(postgres, "SELECT count(*), count(DISTINCT id) FROM orders") == [(100_000, 100_000)]
    assert await fetch(postgres, "SELECT count(*) FROM dataloader_loads WHERE state = 'finished'") == [(9,)]
