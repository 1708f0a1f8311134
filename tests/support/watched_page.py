"""A browser tab whose every complaint is kept: errors in its console, exceptions, CSP violations, requests elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

PATIENCE_MS: Final = 30_000
"""The longest any single step may take on a loaded machine; nothing waits this long when all is well."""


class WatchedPage:
    """`problems` holds what went wrong in words; a test that expects some says so with `expected`."""

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
        """Problems with these words are what the test is about."""
        self.problems = [problem for problem in self.problems if words not in problem]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:  # CSP violations are errors here
            self.problems.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith(self._origin):
            self.problems.append(f"a request elsewhere: {request.url}")


@contextlib.asynccontextmanager
async def new_context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser profile of one test."""
    context = await browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield context
    finally:
        await context.close()
