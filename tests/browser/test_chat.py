"""The console's first screen in a real browser: a conversation with people and agents, over a real node and worker."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import re
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Locator, Page, expect

from consumers.agents import Question, ToolCall
from consumers.agents.agent import Reasoning
from ops.cli.worker_process import running_worker
from support.nodes import Node, token
from support.run_rig import options
from support.socket_client import SocketClient, client
from support.views import check_view
from support.watched_page import WatchedPage

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

CHANNEL = "conversation:1"
WORDS = ("plain ", "naïve ", "a😀b ", "日本 ", "e\N{COMBINING ACUTE ACCENT}\n")
"""Offsets count code points: what is one to a person may be two of them, and one of them two to JavaScript."""
PACE_S = 0.02
"""Between the words of a story."""
STORY = "".join(f"{number} {WORDS[number % len(WORDS)]}" for number in range(80))
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    '"><svg/onload=alert(3)>',
    "javascript:alert(4)",
    "</p></li></ol><style>body{display:none}</style>",
)
OVERRIDE = "safe\u202egnp.exe"


async def storyteller(ctx: Any, given: Any) -> Any:
    """Thinks, then tells a story of 80 words in a good second."""
    yield Reasoning("A story is wanted. ")
    for number in range(80):
        yield f"{number} {WORDS[number % len(WORDS)]}"
        await asyncio.sleep(PACE_S)


async def careful(ctx: Any, given: Any) -> Any:
    """Asks before it acts, on arguments that may be changed."""

    async def act(args: Any, tool: Any) -> Any:
        return args

    yield "I would do that. "
    found = yield ToolCall(
        "act", {"n": 1}, act, title="Act", approval=Question("Act on 1?", "approval", allow_edit=True)
    )
    yield f"acted on {found.output}" if found.is_ok else "left alone"


async def hostile(ctx: Any, given: Any) -> Any:
    """Says and names what would be markup anywhere else."""

    async def look(args: Any, tool: Any) -> Any:
        return {"found": HOSTILE[0]}

    yield HOSTILE[1]
    yield ToolCall("look", {"q": HOSTILE[2]}, look, title=HOSTILE[0])
    yield OVERRIDE


async def obedient(ctx: Any, given: Any) -> Any:
    """Works until it is told how to go on."""
    yield "I begin. "
    while not (told := await ctx.steering()):  # noqa: ASYNC110 - an agent is told when it asks
        await asyncio.sleep(PACE_S)
    yield f"As told: {told[0]}"


AGENTS = {"storyteller": storyteller, "careful": careful, "hostile": hostile, "obedient": obedient}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def worker(node: Node) -> AsyncIterator[None]:
    """A worker beside the module's node."""
    url = node.hub.settings.redis_url
    assert url is not None
    async with running_worker(node.hub.settings, options(url, AGENTS, lease_ms=15_000)):
        yield


class Talk:
    """The page as a person uses it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.status = page.locator("#status-word")
        self.field = page.get_by_label("Write here")
        self.messages = page.locator("#messages > li:not(.draft)")
        self.drafts = page.locator("#messages > li.draft")
        self.plug = page.get_by_role("button", name=re.compile("plug|Plug"))

    async def write(self, text: str, agent: str = "") -> None:
        """Write a message to an agent, or to everybody."""
        await self.page.get_by_label("Ask").select_option(agent)
        await self.field.fill(text)
        await self.field.press("Enter")

    def message(self, number: int) -> Locator:
        """One of the messages, from the first; -1 is the last."""
        return self.messages.nth(number)

    async def words(self, message: Locator) -> str:
        """The text of a message."""
        return await message.locator(".bubble > .text").text_content() or ""

    async def unplug(self) -> None:
        """Cut the socket."""
        await self.plug.click()
        await expect(self.status).to_have_text("unplugged")

    async def plug_in(self) -> None:
        """Let it come back."""
        await self.plug.click()
        await expect(self.status).to_have_text("connected")


@contextlib.asynccontextmanager
async def talk(context: BrowserContext, node: Node, bearer: str) -> AsyncIterator[Talk]:
    """A tab on the conversation; at the end it must have had nothing to complain about."""
    watched = WatchedPage(await context.new_page(), node.url)
    await watched.page.goto(f"{node.url}/console#token={bearer}&channel={CHANNEL}")
    tab = Talk(watched.page)
    await expect(tab.status).to_have_text("connected")
    for agent in AGENTS:  # a worker of another module may still be listed beside them
        await expect(tab.page.locator(f'#agent option[value="{agent}"]')).to_have_count(1)
    yield tab
    assert watched.problems == []
    assert not any(bearer in url for url in watched.requests), "the token was sent in a URL"


async def test_people_talk_and_see_each_other(node: Node, context: BrowserContext, tenant: str) -> None:
    """Messages of two tabs appear in both, one's own on its side; who is here and who types is told."""
    async with (
        talk(context, node, token("alice", tenant)) as alice,
        talk(context, node, token("bob", tenant)) as bob,
    ):
        await expect(alice.page.locator("#people li")).to_have_count(2)
        await bob.field.press_sequentially("hel")
        await expect(alice.page.locator(".typing")).to_have_text("bob is typing")
        await bob.write("hello alice")
        await expect(alice.messages).to_have_count(1)
        await alice.write("hello bob")
        await expect(bob.messages).to_have_count(2)

        assert [await alice.words(alice.message(n)) for n in (0, 1)] == ["hello alice", "hello bob"]
        assert await alice.message(0).get_attribute("data-kind") == "person"
        assert await alice.message(1).get_attribute("data-kind") == "mine"
        await expect(alice.page.locator(".typing")).to_have_count(0)
        await expect(alice.page.locator("#announce")).to_have_text("bob: hello alice")


async def written(reader: SocketClient, length: int) -> None:
    """Until the answer is so long, or over."""
    while not any(
        frame["type"] == "assistant.message.end"
        or (frame["type"] == "assistant.message.delta" and frame["payload"]["end"] >= length)
        for frame in reader.seen
    ):
        await reader.next()


@pytest.mark.parametrize("turn", [*range(2), *(pytest.param(turn, marks=pytest.mark.long) for turn in range(2, 20))])
async def test_the_plug_is_pulled_in_the_middle_of_an_answer_and_the_sentence_goes_on(
    node: Node, context: BrowserContext, tenant: str, turn: int
) -> None:
    """At random moments and for random times: in the end the page shows the text of `assistant.message.end`."""
    seed = int(os.environ.get("PLUG_SEED", random.randrange(1 << 32))) + turn
    print(f"PLUG_SEED={seed - turn}")
    chance = random.Random(seed)
    async with (
        client(node.ws_url, token("bob", tenant)) as bob,
        talk(context, node, token("alice", tenant)) as tab,
    ):
        await bob.subscribe(CHANNEL)
        await tab.write("a story", "storyteller")
        answer = tab.message(1).locator(".bubble > .text")
        for cut in sorted(chance.sample(range(75), chance.randint(1, 3))):
            with contextlib.suppress(AssertionError):  # it may be over before: then the plug is pulled afterwards
                await expect(answer).to_contain_text(f"{cut} ", timeout=3_000)
            await tab.unplug()
            before = await answer.text_content() or ""
            assert STORY.startswith(before)
            await written(bob, chance.randint(0, len(STORY)))
            await tab.plug_in()

        await expect(tab.message(1).locator(".bubble")).to_have_attribute("data-open", "false")
        assert await answer.text_content() == STORY
        assert (await bob.event("assistant.message.end"))["text"] == STORY
        await expect(tab.page.locator("#receipt")).to_have_attribute("data-verdict", "whole")
        await expect(tab.message(1).locator(".reasoning")).to_contain_text("A story is wanted.")


@pytest.mark.long
async def test_an_open_answer_is_shown_from_where_it_stands(node: Node, context: BrowserContext, tenant: str) -> None:
    """A page that is opened in mid-answer shows a beginning of it at every moment, and its end."""
    async with client(node.ws_url, token("alice", tenant)) as asker:
        await asker.answer("chat.message", {"text": "a story", "agent": "storyteller"}, CHANNEL)
        async with talk(context, node, token("alice", tenant)) as tab:
            await expect(tab.messages).to_have_count(2)
            while await tab.message(1).locator(".bubble").get_attribute("data-open") == "true":
                assert STORY.startswith(await tab.words(tab.message(1)))
            assert await tab.words(tab.message(1)) == STORY


async def test_what_could_not_be_sent_stands_there_as_pending(node: Node, context: BrowserContext, tenant: str) -> None:
    """Messages written without a socket are kept in the list, and stored once, in order, when it is back."""
    async with talk(context, node, token("alice", tenant)) as tab:
        await tab.unplug()
        await tab.write("first")
        await tab.write("second")
        await expect(tab.drafts).to_have_count(2)
        await expect(tab.drafts.first).to_contain_text("pending")
        await expect(tab.page.locator("#status-left")).to_contain_text("next try in")
        await tab.plug_in()

        await expect(tab.messages).to_have_count(2)
        await expect(tab.drafts).to_have_count(0)
        assert [await tab.words(tab.message(n)) for n in (0, 1)] == ["first", "second"]


async def test_a_refused_message_is_marked_and_may_be_sent_again(
    node: Node, context: BrowserContext, tenant: str
) -> None:
    """A person without the right to write is told so at the message, which is not lost."""
    async with talk(context, node, token("alice", tenant, {"conversation:*": ["read", "invoke"]})) as tab:
        await tab.write("may not")
        await expect(tab.drafts.first).to_contain_text("failed")
        await tab.drafts.first.get_by_role("button", name="Try again").click()
        await expect(tab.drafts.first).to_contain_text("failed")
        await tab.drafts.first.get_by_role("button", name="Discard").click()
        await expect(tab.drafts).to_have_count(0)


@pytest.mark.parametrize(
    ("decision", "outcome"), [("Approve", "acted on {'n': 1}"), ("Edit", "acted on {'n': 5}"), ("Deny", "left alone")]
)
async def test_an_agent_that_asks_is_answered_on_the_card(
    node: Node, context: BrowserContext, tenant: str, decision: str, outcome: str
) -> None:
    """The card shows what is to be done; it is approved, approved with other arguments, or denied, and says who did it."""
    async with talk(context, node, token("alice", tenant)) as tab:
        await tab.write("do it", "careful")
        card = tab.page.locator(".tool")
        await expect(card).to_contain_text("Act on 1?")
        await card.get_by_role("button", name=decision, exact=True).click()
        if decision == "Edit":
            await card.get_by_label("Arguments (JSON)").fill("not JSON")
            await card.get_by_role("button", name="Approve as edited").click()
            await expect(card.get_by_role("alert")).to_contain_text("not JSON")
            await card.get_by_label("Arguments (JSON)").fill('{"n": 5}')
            await card.get_by_role("button", name="Approve as edited").click()

        await expect(tab.messages).to_have_count(3)
        await expect(tab.message(2).locator(".bubble > .text")).to_have_text(outcome)
        await expect(card).to_contain_text("by alice")
        await expect(card.get_by_role("button")).to_have_count(0)
        await expect(tab.page.locator("#activity .run")).to_have_count(0)


async def test_an_answer_is_stopped_and_given_again(node: Node, context: BrowserContext, tenant: str) -> None:
    """Stop ends it where it is; Regenerate puts another answer beside it, and both can be looked at."""
    async with talk(context, node, token("alice", tenant)) as tab:
        await tab.write("a story", "storyteller")
        await expect(tab.message(1).locator(".bubble > .text")).to_contain_text("3 日本")
        await tab.page.get_by_role("button", name="stop storyteller").click()
        await expect(tab.message(1)).to_contain_text("stopped")
        stopped = await tab.words(tab.message(1))
        assert STORY.startswith(stopped)
        assert stopped != STORY

        await tab.message(1).hover()
        await tab.message(1).get_by_role("button", name="Regenerate").click()
        await expect(tab.message(1).locator(".branches")).to_contain_text("2/2")
        await expect(tab.message(1).locator(".bubble")).to_have_attribute("data-open", "false")
        assert await tab.words(tab.message(1)) == STORY
        await tab.message(1).get_by_role("button", name="earlier version").click()
        await expect(tab.message(1).locator(".branches")).to_contain_text("1/2")
        assert await tab.words(tab.message(1)) == stopped


@pytest.mark.long
async def test_a_run_in_progress_is_steered(node: Node, context: BrowserContext, tenant: str) -> None:
    """While an agent works the text may go to it, also after a cut; the conversation shows who steered, and that it was read."""
    async with talk(context, node, token("alice", tenant)) as tab:
        await expect(tab.page.get_by_role("button", name="steer")).to_have_count(0)
        await tab.write("work", "obedient")
        await tab.field.fill(HOSTILE[0])
        cursor = tab.message(1).locator(".bubble[data-open=true] > .text")
        blinks = "e => getComputedStyle(e, '::after').animationName"
        assert await cursor.evaluate(blinks) == "blink"
        await tab.page.emulate_media(reduced_motion="reduce")
        assert await cursor.evaluate(blinks) == "none"
        await tab.unplug()
        await tab.plug_in()
        await expect(tab.page.locator("#verdict")).to_contain_text("and the answer goes on")
        await tab.page.get_by_role("button", name="steer obedient").click()
        await expect(tab.message(1).locator(".bubble > .text")).to_have_text(f"I begin. As told: {HOSTILE[0]}")
        await expect(tab.message(1).locator(".steer")).to_have_text(f"alice steered: {HOSTILE[0]} (applied)")
        await expect(tab.page.get_by_role("button", name="steer")).to_have_count(0)
        await expect(tab.field).to_have_value("")


@pytest.mark.long
async def test_people_see_how_far_others_have_read(node: Node, context: BrowserContext, tenant: str) -> None:
    """The mark stands below the newest message that somebody has read, moves on, and is there after a reload."""
    async with talk(context, node, token("alice", tenant)) as alice:
        await alice.write("one")
        await expect(alice.messages).to_have_count(1)
        async with talk(context, node, token("bob", tenant)) as bob:
            await expect(alice.message(0).locator(".readers")).to_have_text("Read by bob")
            await alice.write("two")
            await expect(alice.message(1).locator(".readers")).to_have_text("Read by bob")
            await expect(alice.message(0).locator(".readers")).to_be_empty()
            await expect(bob.page.locator(".readers", has_text="bob")).to_have_count(0)
        await alice.page.reload()
        await expect(alice.message(1).locator(".readers")).to_have_text("Read by bob")


async def test_messages_are_edited_deleted_and_reacted_to(node: Node, context: BrowserContext, tenant: str) -> None:
    """One's own message gets another text, a reaction, and goes; everybody sees it, also who comes later."""
    async with talk(context, node, token("alice", tenant)) as tab:
        await tab.write("frist")
        await tab.write("gone soon")
        await expect(tab.messages).to_have_count(2)
        await tab.message(0).hover()
        await tab.message(0).get_by_role("button", name="Edit").click()
        await tab.message(0).get_by_label("Edit your message").fill("first")
        await tab.page.keyboard.press("Enter")
        await expect(tab.message(0)).to_contain_text("edited")
        await tab.message(0).get_by_role("button", name="React").click()
        await tab.message(0).get_by_role("button", name="react with 👍").click()
        await expect(tab.message(0).locator(".chip")).to_have_text("👍 1")
        await tab.message(1).get_by_role("button", name="Delete").click()
        await tab.message(1).get_by_role("button", name="Delete for everybody").click()
        await expect(tab.message(1)).to_contain_text("This message was deleted.")

        async with talk(context, node, token("bob", tenant)) as later:
            await expect(later.messages).to_have_count(2)
            assert await later.words(later.message(0)) == "first"
            await later.message(0).locator(".chip").click()
            await expect(tab.message(0).locator(".chip")).to_have_text("👍 2")
            await tab.message(0).locator(".chip").click()
            await expect(later.message(0).locator(".chip")).to_have_text("👍 1")
            await expect(later.message(1)).to_contain_text("This message was deleted.")


async def test_a_file_is_sent_and_read_by_another(node: Node, context: BrowserContext, tenant: str) -> None:
    """A file goes to the store by its signed address, stands with its name and size, and comes back byte for byte."""
    body = b"line\n" * 1_000
    async with (
        talk(context, node, token("alice", tenant)) as alice,
        talk(context, node, token("bob", tenant)) as bob,
    ):
        name = "<img src=x onerror=alert(7)>.txt"
        await alice.page.locator("#picker").set_input_files({"name": name, "mimeType": "text/plain", "buffer": body})
        await expect(alice.page.locator("#attachments")).to_contain_text("ready")
        await alice.write("see this")
        file = bob.page.locator("button.file")
        await expect(file).to_contain_text(name)
        await expect(file).to_contain_text("4.9 KB")
        async with bob.page.expect_download() as download:
            await file.click()
        got = await (await download.value).path()
        assert got.read_bytes() == body


def png(red: int) -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head, pixel = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0), zlib.compress(bytes([0, red, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


@pytest.mark.long
async def test_a_picture_is_shown_before_and_after_it_is_sent(node: Node, context: BrowserContext, tenant: str) -> None:
    """A dropped picture has a preview; another person shows it in the conversation. A file that only claims to be one has none."""
    async with (
        talk(context, node, token("alice", tenant)) as alice,
        talk(context, node, token("bob", tenant)) as bob,
    ):
        await alice.page.locator("#picker").set_input_files([
            {"name": "red.png", "mimeType": "image/png", "buffer": png(255)},
            {"name": "claim.png", "mimeType": "image/png", "buffer": b"no picture"},
        ])  # fmt: skip # two files
        await expect(alice.page.locator("#attachments li").first).to_contain_text("ready")
        await expect(alice.page.get_by_role("img", name="picture red.png")).to_be_visible()
        await expect(alice.page.get_by_role("img", name="picture claim.png")).to_have_count(0)
        await alice.page.get_by_role("button", name="remove claim.png").click()
        await check_view(alice.page, "conversation-file")
        await alice.write("see this")
        await bob.page.get_by_role("button", name="show red.png").click()
        await expect(bob.page.get_by_role("img", name="picture red.png")).to_be_visible()


async def test_a_refusal_stands_with_the_button_that_helps(node: Node, context: BrowserContext, tenant: str) -> None:
    """A person who may not write is offered to use another token, beside the sentence that says so."""
    async with talk(context, node, token("alice", tenant)) as alice:
        await alice.write("keep")
        await expect(alice.messages).to_have_count(1)
        async with talk(context, node, token("rita", tenant, {"conversation:*": ["read", "invoke"]})) as rita:
            await rita.message(0).get_by_role("button", name="React").click()
            await rita.message(0).get_by_role("button", name="react with 👍").click()
            await expect(rita.page.locator("#chat-error")).to_contain_text("Ask for one that does.")
            await check_view(rita.page, "conversation-refused")
            await rita.page.get_by_role("button", name="Use another token").click()
            await expect(rita.page.get_by_label("Token")).to_be_focused()
            await check_view(rita.page, "sign-in")


async def test_axe_finds_nothing_in_the_conversation(node: Node, context: BrowserContext, tenant: str) -> None:
    """People, an agent's question, an edit and the unplugged page, in both directions of writing: no violation in any look."""
    async with (
        client(node.ws_url, token("noa", tenant)) as noa,
        talk(context, node, token("alice", tenant)) as tab,
    ):
        await noa.say(CHANNEL, "שלום, 1 < 2 abc")
        await tab.write("do it", "careful")
        await expect(tab.page.locator(".tool .buttons")).to_be_visible()
        assert await tab.message(0).locator(".bubble > .text").evaluate("e => getComputedStyle(e).direction") == "rtl"
        await check_view(tab.page, "conversation")
        await tab.unplug()
        await tab.write("later")
        await expect(tab.drafts).to_have_count(1)
        await check_view(tab.page, "conversation-unplugged")
        await tab.plug_in()
        await expect(tab.drafts).to_have_count(0)
        await tab.page.get_by_role("link", name="Events").click()
        await expect(tab.page.locator("#events")).to_contain_text("later")
        await check_view(tab.page, "events")


@pytest.mark.long
async def test_the_first_view_takes_less_than_a_second(node: Node, context: BrowserContext, tenant: str) -> None:
    """From the address to the messages, nothing cached: the best of ten times, because others may be busy."""
    async with client(node.ws_url, token("alice", tenant)) as alice:
        for number in range(30):
            await alice.say(CHANNEL, f"message {number}")
    took_s = [math.inf]
    while min(took_s) >= 1.0 and len(took_s) <= 10:
        page = await context.new_page()
        began = asyncio.get_running_loop().time()
        await page.goto(f"{node.url}/console#token={token('alice', tenant)}&channel={CHANNEL}")
        await page.locator("#messages > li").last.wait_for()
        took_s.append(asyncio.get_running_loop().time() - began)
        await page.close()
    print(f"first view, seconds: {took_s[1:]}")
    if min(took_s) >= 1.0 and os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip(f"nothing can be measured at a load of {os.getloadavg()[0]:.0f}: {min(took_s):.2f} s at best")

    assert min(took_s) < 1.0


async def test_hostile_texts_are_texts(node: Node, context: BrowserContext, tenant: str) -> None:
    """Markup in messages, tools and names is shown letter by letter, live and after a reload; overrides are made visible."""
    name = "x|~+@alert.1"
    async with (
        client(node.ws_url, token(name, tenant)) as eve,
        talk(context, node, token("alice", tenant)) as tab,
    ):
        for text in (*HOSTILE, OVERRIDE):
            await eve.say(CHANNEL, text)
        await tab.write("look", "hostile")
        for _ in range(2):
            await expect(tab.messages).to_have_count(len(HOSTILE) + 4)
            assert [await tab.words(tab.message(n)) for n in range(len(HOSTILE))] == list(HOSTILE)
            assert await tab.words(tab.message(len(HOSTILE))) == "safeU+202Egnp.exe"
            assert await tab.words(tab.message(len(HOSTILE) + 2)) == HOSTILE[1]
            await expect(tab.page.locator(".tool-title")).to_have_text(HOSTILE[0])
            await expect(tab.message(0).locator(".name")).to_have_text(name)
            made = tab.page.locator(":is(#chat, #people) :is(img, script, svg, iframe, style, a)")
            assert await made.count() == 0
            assert (
                await tab.message(0).locator(".bubble > .text").evaluate("e => getComputedStyle(e).unicodeBidi")
                != "normal"
            )
            await tab.page.reload()
            await expect(tab.status).to_have_text("connected")


async def test_everything_has_a_name_and_keys_suffice(node: Node, context: BrowserContext, tenant: str) -> None:
    """Every control has a name; a line is broken with Shift+Enter; Escape closes; the views are links with addresses."""
    async with talk(context, node, token("alice", tenant)) as tab:
        await tab.page.get_by_label("Ask").select_option("")
        await tab.field.fill("one")
        await tab.field.press("Shift+Enter")
        await tab.field.press_sequentially("two")
        await tab.field.press("Enter")
        await expect(tab.messages).to_have_count(1)
        assert await tab.words(tab.message(0)) == "one\ntwo"
        await tab.message(0).get_by_role("button", name="React").focus()
        await tab.page.keyboard.press("Enter")
        await expect(tab.message(0).get_by_role("button", name="react with 🎉")).to_be_visible()
        await tab.page.keyboard.press("Escape")
        await expect(tab.message(0).get_by_role("button", name="react with 🎉")).to_be_hidden()
        named = await tab.page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, [tabindex='0']")].filter((e) => e.offsetParent)
                .filter((e) => !(e.labels?.length || e.ariaLabel || e.getAttribute("aria-labelledby") || e.textContent.trim()))
                .map((e) => e.outerHTML)"""
        )
        assert named == []
        await tab.page.get_by_role("link", name="Events").click()
        await expect(tab.page.locator("#events")).to_contain_text("one")
        await expect(tab.field).to_be_hidden()
        await tab.page.go_back()
        await expect(tab.field).to_be_visible()


async def test_the_bare_address_leads_to_the_console(node: Node, context: BrowserContext, tenant: str) -> None:
    """`GET /` goes to the console, and the fragment with the token goes along."""
    page = await context.new_page()
    await page.goto(f"{node.url}/#token={token('alice', tenant)}&channel={CHANNEL}")
    await expect(page.locator("#status-word")).to_have_text("connected")
    assert page.url.startswith(f"{node.url}/console#view=chat")
