"""Checks a view of the console as a person meets it: axe-core finds nothing in light and dark, wide and narrow; screens on request.

`HUB_TEST_SCREENS=screens make test` keeps a picture of each view in light, in dark and in the width of a phone.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from playwright.async_api import BrowserContext, Page

from support.nodes import Node
from support.watched_page import WatchedPage

SCREENS: Final = os.environ.get("HUB_TEST_SCREENS", "")
_WIDE: Final = (1280, 900)
_PHONE: Final = (390, 844)
_LOOKS: Final = (("light", "light", _WIDE), ("dark", "dark", _WIDE), ("phone", "dark", _PHONE))
_CHECKED: Final = frozenset({"light", "phone"})
"""The looks that axe-core examines: both themes and both widths."""


async def check_view(page: Page, name: str) -> None:
    """Fails if axe-core finds a violation, or if the page is wider than the phone; leaves the page wide and light."""
    problems: list[str] = []
    for look, scheme, (width, height) in _LOOKS:
        if look not in _CHECKED and not SCREENS:
            continue
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        await page.set_viewport_size({"width": width, "height": height})
        if SCREENS:
            await page.screenshot(path=Path(SCREENS) / f"{name}-{look}.png", full_page=True)
        if look in _CHECKED:
            problems += [f"{name}, {look}: {told}" for told in await _violations(page)]
        if look == "phone":
            excess = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            problems += [f"{name}: wider than a phone by {excess} px"] if excess > 0 else []
    await page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    await page.set_viewport_size({"width": _WIDE[0], "height": _WIDE[1]})
    assert problems == [], "\n".join(problems)


async def inspected(context: BrowserContext, node: Node, bearer: str, view: str) -> WatchedPage:
    """The inspect page at an address, in a tab where the token was pasted."""
    watched = WatchedPage(await context.new_page(), node.url)
    await watched.page.goto(f"{node.url}/console/inspect.html#{view}")
    await watched.page.get_by_label("Token", exact=True).fill(bearer)
    await watched.page.get_by_role("button", name="Connect").click()
    return watched


async def press(page: Page, first: str, then: str) -> None:
    """Press a button that asks, and the one that it becomes."""
    await page.get_by_role("button", name=first).click()
    await page.get_by_role("button", name=then, exact=True).click()


@cache
def _axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text()


async def _violations(page: Page) -> list[str]:
    await page.evaluate(f"window.axe || (() => {{ {_axe()} }})()")
    told: list[str] = await page.evaluate(
        """async () => (await axe.run()).violations.flatMap(({ id, nodes }) =>
            nodes.map((node) => `${id}: ${node.target} ${node.failureSummary}`))"""
    )
    return told
