"""The browser in which pages are looked at."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.notebook.lab import ARGUMENTS, find_chromium

NO_CHROMIUM = "the tests of pages need Chromium: apt-get install chromium"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Chromium's program; without one CI fails, and a newcomer's tests go on without these."""
    found = find_chromium()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NO_CHROMIUM)
    return found


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()
