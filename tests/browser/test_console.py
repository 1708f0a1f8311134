"""The console's events in a real browser against a real node: what a person does there, and what they must see."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import BrowserContext, Page, expect

from support.nodes import Node, token
from support.socket_client import client
from support.watched_page import WatchedPage

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

CHANNEL = "conversation:1"
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    '"><svg/onload=alert(3)>',
    "<iframe srcdoc='<script>parent.alert(4)</script>'></iframe>",
    "javascript:alert(5)",
    "</td></tr></table><style>body{display:none}</style>",
    "{{constructor.constructor('alert(6)')()}}",
)


class Console:
    """The page as a person uses it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.status = page.locator("#status")
        self.rows = page.locator("#events tr:not(.mark)")
        self.plug = page.get_by_role("button", name=re.compile("plug|Plug"))

    async def ready(self) -> None:
        """Until connected, and the channel followed."""
        await expect(self.status).to_have_text("connected")
        await expect(self.page.locator("#connection")).to_contain_text(re.compile(r"Epoch[0-9a-f]{8}"))

    async def send(self, text: str) -> None:
        """Write a message and wait until the hub has it."""
        await self.page.get_by_label("Message", exact=True).fill(text)
        await self.page.get_by_label("Message", exact=True).press("Enter")
        await expect(self.page.locator("#sent")).to_contain_text("stored as seq")

    async def unplug(self) -> None:
        """Cut the socket."""
        await self.plug.click()
        await expect(self.status).to_have_text("unplugged")

    async def plug_in(self) -> None:
        """Let it come back, until the receipt is there."""
        await self.plug.click()
        await self.receipt()

    async def receipt(self) -> tuple[str, ...]:
        """From, to, count and gap, once they stand there."""
        await expect(self.page.locator("#receipt")).not_to_have_attribute("data-verdict", "none")
        found = [self.page.locator(f"#receipt-{part}") for part in ("from", "to", "count", "gap")]
        return tuple([(await part.text_content()) or "" for part in found])

    async def seqs(self) -> list[int]:
        """The seq of every event shown."""
        return [int(text) for text in await self.page.locator("#events td.seq").all_text_contents()]

    async def texts(self) -> list[str]:
        """The payload of every event shown."""
        return await self.page.locator("#events td.payload").all_text_contents()


@contextlib.asynccontextmanager
async def console(context: BrowserContext, node: Node, bearer: str, *allowed: str) -> AsyncIterator[Console]:
    """A tab on the console, handed its token as `hub dev` does; at the end it must have had nothing to complain about."""
    watched = WatchedPage(await context.new_page(), node.url)
    await watched.page.goto(f"{node.url}/console#token={bearer}&channel={CHANNEL}&view=events")
    tab = Console(watched.page)
    await tab.ready()
    yield tab
    for words in allowed:
        watched.expected(words)
    assert watched.problems == []
    assert not any(bearer in url for url in watched.requests), "the token was sent in a URL"


async def test_a_token_is_pasted_and_the_page_works_without_a_complaint(
    node: Node, context: BrowserContext, tenant: str
) -> None:
    """A visitor without a token pastes one; no console error, no CSP violation, nothing loaded from elsewhere."""
    watched = WatchedPage(await context.new_page(), node.url)
    page, tab = watched.page, Console(watched.page)
    await page.goto(f"{node.url}/console")
    await page.get_by_label("Token").fill("nonsense")
    await page.get_by_role("button", name="Connect").click()
    await expect(page.locator("#token-note")).to_contain_text("This is not a token")
    await page.get_by_label("Token").fill(token("alice", tenant))
    await page.get_by_label("Token").press("Enter")
    await page.get_by_role("link", name="Events").click()
    await tab.ready()

    await expect(page.locator("#who")).to_have_text(f"alice of {tenant}")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Token")).to_be_focused()
    assert watched.problems == []
    assert {url.removeprefix(node.url) for url in watched.requests} >= {"/console", "/hub.js", "/hub/client.js"}


async def test_a_refused_token_is_explained_with_what_to_do(node: Node, context: BrowserContext, tenant: str) -> None:
    """A forged token ends at the sign-in card, with the code's advice and without another try."""
    watched = WatchedPage(await context.new_page(), node.url)
    head, _, _ = token("alice", tenant).rpartition(".")
    await watched.page.goto(f"{node.url}/console#token={head}.{'A' * 43}")

    await expect(watched.page.locator("#token-note")).to_contain_text("paste another token")
    await expect(watched.page.locator("#status")).to_have_text("closed")
    assert watched.problems == []


async def test_a_message_that_is_sent_appears(node: Node, context: BrowserContext, tenant: str) -> None:
    """A message written here comes back from the log with its seq and actor, and the fragment's token is gone from the URL."""
    async with console(context, node, token("alice", tenant)) as tab:
        await tab.send("hello from the console")

        await expect(tab.rows).to_have_count(1)
        await expect(tab.rows.first).to_contain_text("hello from the console")
        assert await tab.seqs() == [1]
        await expect(tab.rows.first.locator(".actor")).to_have_text("alice")
        await expect(tab.page.locator("#connection")).to_contain_text("Cursor seq1")
        assert tab.page.url == f"{node.url}/console#view=events&channel={CHANNEL}"


async def test_exactly_what_was_missed_is_replayed_when_the_plug_is_back(
    node: Node, context: BrowserContext, tenant: str
) -> None:
    """Twenty messages of somebody else while the plug is out: those twenty, once, in order, and a receipt without a gap."""
    async with (
        client(node.ws_url, token("bob", tenant)) as bob,
        console(context, node, token("alice", tenant)) as tab,
    ):
        await bob.say(CHANNEL, "seen")
        await expect(tab.rows).to_have_count(1)
        await tab.unplug()
        for number in range(20):
            await bob.say(CHANNEL, f"missed {number}")
        assert await tab.seqs() == [1]

        await tab.plug_in()
        await bob.say(CHANNEL, "live again")
        await expect(tab.rows).to_have_count(22)

        assert await tab.receipt() == ("2", "21", "20", "none")
        assert await tab.page.locator("#receipt").get_attribute("data-verdict") == "whole"
        assert await tab.seqs() == list(range(1, 23))
        assert await tab.texts() == ["seen", *(f"missed {number}" for number in range(20)), "live again"]
        assert await tab.page.locator("#events tr.replayed").count() == 20


async def test_a_message_written_while_unplugged_is_stored_once_afterwards(
    node: Node, context: BrowserContext, tenant: str
) -> None:
    """A message written without a socket waits, and is sent when there is one."""
    async with console(context, node, token("alice", tenant)) as tab:
        await tab.unplug()
        await tab.page.get_by_label("Message", exact=True).fill("kept")
        await tab.page.get_by_label("Message", exact=True).press("Enter")
        await expect(tab.page.locator("#sent")).to_contain_text("kept until you plug in again")
        await tab.plug_in()

        await expect(tab.rows).to_have_count(1)
        await expect(tab.page.locator("#sent")).to_contain_text("stored as seq 1")


async def test_the_second_writer_goes_on_while_the_plug_is_out(
    node: Node, context: BrowserContext, tenant: str
) -> None:
    """The page's own writer has another socket; what it wrote meanwhile is replayed, none missing."""
    async with (
        client(node.ws_url, token("bob", tenant)) as bob,
        console(context, node, token("alice", tenant)) as tab,
    ):
        await bob.subscribe(CHANNEL)
        await tab.page.get_by_role("button", name="Start a second writer").click()
        await expect(tab.rows.nth(1)).to_be_visible()
        await tab.unplug()
        shown = max(await tab.seqs())
        await bob.events(shown + 3)
        await tab.plug_in()
        await tab.page.get_by_role("button", name="Stop the second writer").click()

        first, last, count, gap = await tab.receipt()
        assert gap == "none"
        assert int(count) >= 3
        assert int(last) - int(first) + 1 == int(count)
        seqs = await tab.seqs()
        assert seqs == list(range(1, len(seqs) + 1))


async def test_hostile_text_is_text(node: Node, context: BrowserContext, tenant: str) -> None:
    """Markup and scripts in payloads and names are shown letter by letter, replayed and live, and do nothing."""
    async with client(node.ws_url, token("bob", tenant)) as bob:
        for text in HOSTILE:
            await bob.say(CHANNEL, text)
        async with console(context, node, token("alice", tenant)) as tab:
            for text in HOSTILE:
                await bob.say(CHANNEL, text)
            await expect(tab.rows).to_have_count(2 * len(HOSTILE))

            assert await tab.texts() == [*HOSTILE, *HOSTILE]
            made = tab.page.locator(":is(#events, #state) :is(img, script, svg, iframe, style, a)")
            assert await made.count() == 0
            assert HOSTILE[0] in ((await tab.page.locator("#state").text_content()) or "")


async def test_a_browser_that_was_offline_comes_back_by_itself(
    node: Node, context: BrowserContext, tenant: str
) -> None:
    """Without a network the half-open socket is given up; with it again, what was missed is replayed."""
    async with (
        client(node.ws_url, token("bob", tenant)) as bob,
        console(context, node, token("alice", tenant), "ERR_INTERNET_DISCONNECTED") as tab,
    ):
        await bob.say(CHANNEL, "before")
        await expect(tab.rows).to_have_count(1)
        await context.set_offline(True)
        await expect(tab.status).to_contain_text("reconnecting")
        await bob.say(CHANNEL, "missed")
        assert await tab.seqs() == [1]

        await context.set_offline(False)
        await expect(tab.rows).to_have_count(2)
        assert await tab.receipt() == ("2", "2", "1", "none")


async def test_two_tabs_see_the_same(node: Node, context: BrowserContext, tenant: str) -> None:
    """Two tabs of one profile, both writing at once, show the same events in the same order."""
    async with (
        console(context, node, token("alice", tenant)) as left,
        console(context, node, token("alice", tenant)) as right,
    ):

        async def write(tab: Console, name: str) -> None:
            for number in range(3):
                await tab.send(f"{name} {number}")

        await asyncio.gather(write(left, "left"), write(right, "right"))
        await expect(left.rows).to_have_count(6)
        await expect(right.rows).to_have_count(6)

        assert await left.page.locator("#events").inner_text() == await right.page.locator("#events").inner_text()
        assert await left.seqs() == list(range(1, 7))


async def test_a_refused_channel_and_a_refused_command_are_shown_with_advice(
    node: Node, context: BrowserContext, tenant: str
) -> None:
    """Errors stand there with their code, the hub's words and what to do; the connection goes on."""
    reader = token("alice", tenant, {"conversation:*": ["read"]})
    async with console(context, node, reader) as tab:
        await tab.page.get_by_label("Message", exact=True).fill("may not")
        await tab.page.get_by_role("button", name="Send").click()
        errors = tab.page.locator("#errors li")
        await expect(errors.first).to_contain_text("4003 permission_denied")
        await expect(errors.first).to_contain_text("Ask for one that does")
        await expect(tab.page.get_by_label("Message", exact=True)).to_have_value("may not")

        await tab.page.get_by_label("Channel").fill("nowhere")
        await tab.page.get_by_role("button", name="Follow").click()
        await expect(errors.first).to_contain_text("4006 channel_not_found")
        await expect(tab.page.locator("#events")).to_contain_text("This channel is not followed")
        await expect(tab.status).to_have_text("connected")


async def test_everything_can_be_done_with_the_keyboard(node: Node, context: BrowserContext, tenant: str) -> None:
    """Tab reaches the controls in reading order, each with a name, and keys press them."""
    async with console(context, node, token("alice", tenant)) as tab:
        page = tab.page
        named = await page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, [tabindex]")].filter((e) => e.offsetParent)
                .filter((e) => !(e.labels?.length || e.ariaLabel || e.getAttribute("aria-labelledby") || e.textContent.trim()))
                .map((e) => e.outerHTML)"""
        )
        assert named == []
        await page.get_by_label("Start with").focus()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await expect(tab.plug).to_be_focused()
        await page.keyboard.press("Space")
        await expect(tab.status).to_have_text("unplugged")
        await expect(tab.plug).to_have_accessible_name("Plug it in again")
        await page.keyboard.press("Enter")
        await expect(tab.status).to_have_text("connected")
