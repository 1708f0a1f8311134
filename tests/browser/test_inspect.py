"""The inspect page in a real browser, with an auditor's token: channels, events, and the state as of any event."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.async_api import BrowserContext, expect

from consumers.groups.handler import DONE, Effects, Outcome, Park, Source
from support.consumer_rig import Recorder, Rig, conversation, say
from support.nodes import Node, token
from support.socket_client import client
from support.views import check_view, inspected, press
from support.watched_page import WatchedPage

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

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
    await expect(page.get_by_role("link", name="conversation:demo")).to_be_visible()
    await check_view(page, "inspect-channels")
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
    await check_view(page, "inspect-events")
    await page.reload()
    await expect(page.locator("#detail-title")).to_have_text("chat.message · seq 2")
    assert watched.problems == []


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


async def test_parked_work_is_read_and_put_back(node: Node, context: BrowserContext, tenant: str) -> None:
    """A reader sees the reasons and no button; with `manage` on everything the handler tries again."""
    log, is_mended = node.hub.log, False

    def react(_source: Source, _effects: Effects) -> Outcome:
        return DONE if is_mended else Park(HOSTILE)

    handler = Recorder(react, tenant=tenant)
    async with Rig(log, handler):
        await say(log, conversation(tenant, "a"), "x")
        await handler.until(lambda: len(handler.seen) == 1)
        auditor = await inspected(context, node, token("eve", tenant, {}, scope="auditor"), "view=parked")
        while not await auditor.page.locator("#parked-body tbody tr").count():
            await auditor.page.reload()  # the handler returned; its parking is a round trip away
            await expect(auditor.page.locator("#parked-body :is(tbody tr, .empty)").first).to_be_visible()
        await expect(auditor.page.locator("#parked-body")).to_contain_text("<img src=x onerror=alert(1)>U+202Eevil")
        await expect(auditor.page.get_by_role("button", name="put")).to_have_count(0)
        await check_view(auditor.page, "inspect-parked")

        is_mended = True
        manager = token("mia", tenant, {"*": ["manage"]}, scope="operator")
        watched = await inspected(context, node, manager, "view=parked")
        await press(watched.page, "put chat.message", "Try again now")
        await expect(watched.page.get_by_role("status")).to_contain_text("again")
        await handler.until(lambda: len(handler.seen) == 2)
        await expect(watched.page.locator("#parked-body tbody tr")).to_have_count(0)
        assert auditor.problems + watched.problems == []


async def test_another_tenant_of_the_token_is_inspected(node: Node, context: BrowserContext, tenant: str) -> None:
    """The tenant is chosen in the page, stands in the address, and holds for every view; nothing can be changed there."""
    other = f"{tenant}-b"
    async with client(node.ws_url, token("bob", other)) as bob:
        await bob.answer("chat.message", {"text": "theirs"}, "conversation:theirs")
    operator = token("olga", tenant, {"*": ["*"]}, scope="operator", tenants=[other])
    watched = await inspected(context, node, operator, "view=channels")
    page = watched.page
    await page.get_by_label("Tenant").select_option(other)
    await page.get_by_role("link", name="conversation:theirs").click()
    await expect(page.locator("#count")).to_have_text("1 of 1 loaded events")
    assert f"tenant={other}" in page.url
    await page.get_by_role("link", name="Parked").click()
    await expect(page.locator("#parked-body")).to_contain_text("needs manage on *")
    assert f"tenant={other}" in page.url
    assert watched.problems == []


async def test_hostile_texts_in_every_field_are_texts(node: Node, context: BrowserContext, tenant: str) -> None:
    """Markup and overrides typed into each field, and in the address, are searched for and shown, never run."""
    watched = await inspected(context, node, token("olga", tenant, {"*": ["*"]}), "view=channels")
    page = watched.page
    for view in ("channels", "runs", "connections", f"channel&channel=conversation:1&type={quote(HOSTILE)}"):
        await page.goto(f"{node.url}/console/inspect.html#view={view}")
        fields = page.locator("main input:visible:not([type=range], [type=datetime-local])")
        await expect(fields.first).to_be_visible()
        for field in await fields.all():
            await field.fill(HOSTILE)
            await field.press("Enter")
        assert await page.locator("main :is(img, script, svg)").count() == 0
    await page.goto(f"{node.url}/console/inspect.html#view=runs&in={quote(HOSTILE)}&run={quote(HOSTILE)}")
    await expect(page.get_by_role("alert")).to_be_visible()
    watched.expected("Failed to load resource")  # what is no channel is refused
    assert watched.problems == []
