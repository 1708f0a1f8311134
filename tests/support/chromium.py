"""Debian's Chromium for the browser tests, shared by the whole test session."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from typing import Final

import pytest
from playwright.async_api import Browser, async_playwright

QUIET: Final = (
    # root cannot use the sandbox; the others stop background requests, which are slow without a network
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip # many arguments


def chromium_path() -> str:
    """The path of Chromium. If it is missing, the test is skipped, or, in CI, fails."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        reason = "needs Chromium: apt-get install chromium, or set CHROMIUM to its path"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@contextlib.asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """Start a headless browser with an empty profile."""
    path = chromium_path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(QUIET), timeout=120_000)
        try:
            yield browser
        finally:
            await browser.close()
