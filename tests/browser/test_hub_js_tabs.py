"""hub.js in the tabs of one browser before a real hub: over HTTP and back, places of several tabs, commands of closed pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from support.nodes import Node, token

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

WAIT_S = 30.0
BEGIN = """async ([token, options]) => {
    const { HubClient, LocalCursors, IndexedDbOutbox } = await import("/hub.js");
    window.refuses = options.refuses;
    const Plain = WebSocket;
    const Doubtful = class extends Plain { constructor(url) { super(window.refuses ? "ws://127.0.0.1:1/" : url); } };
    const outbox = options.outbox && new IndexedDbOutbox(options.outbox);
    const stores = { cursors: options.cursors && new LocalCursors("t:"), outbox };
    const hub = (window.hub = new HubClient(location.origin, token, { ...stores, WebSocket: Doubtful, webSocketRetryMs: 500 }));
    window.seen = [];
    window.settled = [];
    hub.addEventListener("settled", ({ detail: { id, reply, error } }) => settled.push([id, reply?.payload.seq ?? error.name]));
    if (options.connects) await hub.connect();
}"""
FOLLOW = """([channel, options]) => {
    const onItem = (item) => item.kind === "event" && seen.push([item.event.seq, hub.transport]);
    window.subscription = hub.subscribe(channel, { ...options, onItem });
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A profile whose pages may try sockets elsewhere."""
    context = await browser.new_context(bypass_csp=True)
    yield context
    await context.close()


async def open_tab(tabs: BrowserContext, node: Node, bearer: str, **options: Any) -> Page:
    """A tab with a client."""
    page = await tabs.new_page()
    await page.goto(f"{node.url}/console")
    await page.evaluate(BEGIN, [bearer, {"connects": True} | options])
    return page


async def until(page: Page, condition: str) -> Any:
    """Waits until an expression is true in the page; its value."""
    async with asyncio.timeout(WAIT_S):
        return await (await page.wait_for_function(condition, timeout=WAIT_S * 1000)).json_value()


async def test_a_browser_goes_over_http_and_back(node: Node, tabs: BrowserContext, tenant: str) -> None:
    """While sockets are refused, events come by a stream, each once; afterwards by a socket again."""
    page = await open_tab(tabs, node, token("alice", tenant), refuses=True)
    assert await page.evaluate("hub.transport") == "http-stream"
    await page.evaluate(FOLLOW, ["conversation:1", {"after": "0"}])
    await page.evaluate("hub.send('conversation:1', 'one')")
    await until(page, "seen.length === 1")
    await page.evaluate("window.refuses = false")
    await until(page, "hub.transport === 'websocket'")
    await page.evaluate("hub.send('conversation:1', 'two')")
    await until(page, "seen.length === 2")

    assert await page.evaluate("seen") == [[1, "http-stream"], [2, "websocket"]]


async def test_each_tab_goes_on_from_its_own_place(node: Node, tabs: BrowserContext, tenant: str) -> None:
    """A tab that is behind moves nobody back; loaded anew it misses nothing, and a new tab begins with the furthest."""
    bearer = token("alice", tenant)
    ahead = await open_tab(tabs, node, bearer, cursors=True)
    behind = await open_tab(tabs, node, bearer, cursors=True)
    await ahead.evaluate("hub.send('conversation:1', 'one')")
    for page in (ahead, behind):
        await page.evaluate(FOLLOW, ["conversation:1", {"after": "0"}])
        await until(page, "seen.length === 1")
    await behind.evaluate("hub.suspend()")
    await ahead.evaluate("hub.send('conversation:1', 'two')")
    await until(ahead, "seen.length === 2")
    await behind.reload()
    await behind.evaluate(BEGIN, [bearer, {"connects": True, "cursors": True}])
    await behind.evaluate(FOLLOW, ["conversation:1", {}])
    await until(behind, "seen.length === 1")
    newest = await open_tab(tabs, node, bearer, cursors=True)
    await newest.evaluate(FOLLOW, ["conversation:1", {}])
    await ahead.evaluate("hub.send('conversation:1', 'three')")
    for page in (ahead, behind, newest):
        await until(page, "seen.at(-1)?.[0] === 3")

    assert [[seq for seq, _ in await page.evaluate("seen")] for page in (ahead, behind, newest)] == [
        [1, 2, 3],
        [2, 3],
        [3],
    ]


async def test_commands_outlive_their_page_and_are_stored_once(node: Node, tabs: BrowserContext, tenant: str) -> None:
    """The next page sends the commands that a closed one could not send, in order; those of a living tab stay its own."""
    bearer = token("alice", tenant)
    options = {"outbox": f"outbox-{tenant}"}
    gone = await open_tab(tabs, node, bearer, connects=False, **options)
    alive = await open_tab(tabs, node, bearer, connects=False, **options)
    write = """(texts) => texts.forEach((text) => {
        hub.command("chat.message", "conversation:1", { text }, `id-${text}`).catch(() => {}); // told by `settled`
    })"""
    await gone.evaluate(write, ["one", "two"])
    await alive.evaluate(write, ["mine"])
    kept = """(name) => new Promise((done) => {
        const opening = indexedDB.open(name);
        opening.onsuccess = () => {
            const all = opening.result.transaction("commands").objectStore("commands").getAll();
            all.onsuccess = () => { opening.result.close(); done(all.result.length); };
        };
    })"""
    await alive.wait_for_function(f"async (name) => (await ({kept})(name)) === 3", arg=options["outbox"])
    await gone.close()
    heir = await open_tab(tabs, node, bearer, **options)
    await until(heir, "settled.length === 2")
    await alive.evaluate("void hub.connect()")
    await heir.evaluate(FOLLOW, ["conversation:1", {"after": "0"}])
    await until(heir, "seen.length === 3")

    assert await heir.evaluate("settled") == [["id-one", 1], ["id-two", 2]]
    page = (await heir.evaluate("hub.command('channel.history', 'conversation:1')"))["payload"]
    assert [event["payload"]["text"] for event in page["events"]] == ["one", "two", "mine"]
    assert await heir.evaluate(kept, options["outbox"]) == 0
