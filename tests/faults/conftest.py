"""What is interrupted here has several chunks, and few rows."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _commits_each_chunk(long_sources: None) -> None:
    """Sources whose rows are not counted are committed chunk by chunk."""
