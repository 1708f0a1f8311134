"""One Chromium for the whole session, one node for a module; every test has a profile and a tenant of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect

from support.chromium import chromium_path, running_chromium
from support.nodes import Node, running_node
from support.watched_page import PATIENCE_MS, new_context

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The session's Chromium."""
    async with running_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def node(request) -> AsyncIterator[Node]:
    """The module's node: between two modules the loop may stand still for longer than a node's connections bear."""
    chromium_path()  # no node and no Redis where there is no browser
    async with running_node(request.getfixturevalue("redis_url")) as node:
        yield node


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """This test's browser profile."""
    async with new_context(browser) as context:
        yield context
