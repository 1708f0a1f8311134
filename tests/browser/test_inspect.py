"""The inspect page in a real browser, with an auditor's token: channels, events, and the state as of any event."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from support.nodes import Node, token
from support.socket_client import client
from support.watched_page import WatchedPage

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

SCREENS = Path(os.environ.get("HUB_TEST_SCREENS", "/tmp/hub-test-screens"))
HOSTILE = "<img src=x onerror=alert(1)>\u202eevil"


async def test_channels_events_and_the_state_as_of_each(node: Node, context: BrowserContext, tenant: str) -> None:
    """An auditor pastes a token, finds a channel, filters, and sees what an event changed; the address leads there again."""
    async with client(node.ws_url, token("alice", tenant)) as alice:
        for text in ("first", HOSTILE, "third"):
            await alice.answer("chat.message", {"text": text}, "conversation:demo")
    watched = WatchedPage(await context.new_page(), node.url)
    page = watched.page
    await page.goto(f"{node.url}/console/inspect.html")
    await page.get_by_label("Token").fill(token("eve", tenant, {}, scope="auditor"))
    await page.get_by_role("button", name="Connect").click()
    await shots(page, "channels", page.get_by_role("link", name="conversation:demo"))
    await page.get_by_label("Name begins with").fill("de")
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("link", name="conversation:demo").click()
    await expect(page.locator("#count")).to_have_text("3 of 3 loaded events")
    await page.get_by_label("Text").fill("third")
    await expect(page.locator("#count")).to_have_text("1 of 3 loaded events")
    await page.get_by_label("Text").fill("")
    await page.locator("#list").focus()
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")

    await expect(page.locator("#detail-title")).to_have_text("chat.message · seq 2")
    await expect(page.locator("#difference")).to_contain_text("+ messages.1")
    await expect(page.locator("#difference")).to_contain_text("- count: 1")
    await shots(page, "events", page.locator("#state"))
    await page.reload()
    await expect(page.locator("#detail-title")).to_have_text("chat.message · seq 2")
    assert watched.problems == []


async def shots(page: Page, name: str, shown: object) -> None:
    """Keep the view in light, in dark and in the width of a phone."""
    await expect(shown).to_be_visible()  # type: ignore[arg-type]
    for look, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 390)):
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        await page.set_viewport_size({"width": width, "height": 900})
        await page.screenshot(path=SCREENS / f"inspect-{name}-{look}.png", full_page=True)
    await page.set_viewport_size({"width": 1280, "height": 900})


async def test_a_list_of_100_000_events_draws_only_what_is_seen(node: Node, context: BrowserContext) -> None:
    """The last row is reached by one key, with fewer than a hundred rows in the document."""
    page = await context.new_page()
    await page.goto(f"{node.url}/console/inspect.html")
    rows = await page.evaluate("""async () => {
        const { EventList } = await import("./inspect_events.js");
        document.getElementById("channel").hidden = false;
        const events = Array.from({ length: 100_000 }, (_, at) => (
            { seq: at + 1, actor: { id: "alice" }, type: "chat.message", payload: { text: `message ${at}` } }));
        const region = document.getElementById("list");
        const list = new EventList(region, document.getElementById("space"), (index) => list.choose(index));
        list.show(events, 0);
        region.dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
        return document.querySelectorAll("#space [role=option]").length;
    }""")

    await expect(page.locator("#space [aria-selected=true]")).to_contain_text("100000")
    assert 0 < rows < 100
