"""A browser tab that records every problem: console errors, exceptions, CSP violations, requests to other hosts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

PATIENCE_MS: Final = 30_000
"""Maximum duration of a single step on a loaded machine; normally no step takes this long."""


class WatchedPage:
    """A page whose problems are collected in `problems`; a test that expects some calls `expected`."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._origin = origin
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("request", self._on_request)
        page.on("dialog", lambda dialog: self.problems.append(f"a dialog opened: {dialog.message}"))

    def expected(self, words: str) -> None:
        """Ignore problems that contain these words, because the test expects them."""
        self.problems = [problem for problem in self.problems if words not in problem]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:  # CSP violations are reported as errors
            self.problems.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith(self._origin):
            self.problems.append(f"a request elsewhere: {request.url}")


@contextlib.asynccontextmanager
async def new_context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A separate browser profile for one test."""
    context = await browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield context
    finally:
        await context.close()
