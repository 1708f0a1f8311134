"""Drives hub.js in a real browser tab; the page keeps every item and error that hub.js reports."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from playwright.async_api import Page

WAIT_S: Final = 30.0
_MAKE: Final = """async ([url, tokens, isKept]) => {
    const { HubClient, LocalCursors } = await import("/hub.js");
    const provide = () => tokens[Math.min((lab.asked += 1), tokens.length) - 1];
    const token = Array.isArray(tokens) ? provide : tokens;
    const client = new HubClient(url, token, { cursors: isKept ? new LocalCursors("test:") : undefined });
    const lab = { client, asked: 0, heard: 0, items: [], errors: [], waiting: new Set() };
    lab.told = () => lab.waiting.forEach((look) => look());
    lab.until = (test) => new Promise((resolve) => {
        const look = () => test() && (lab.waiting.delete(look), resolve());
        lab.waiting.add(look);
        look();
    });
    client.addEventListener("state", () => lab.told());
    client.addEventListener("error", ({ detail }) => {
        lab.errors.push({ code: detail.error.code, name: detail.error.name, willRetry: detail.willRetry });
        lab.told();
    });
    window.lab = lab;
}"""
_CONNECT: Final = """async () => {
    lab.client.connect();
    await lab.until(() => !["offline", "connecting"].includes(lab.client.state));
}"""
_LISTEN: Final = """() => {
    const Plain = window.WebSocket;
    window.WebSocket = class extends Plain {
        constructor(url) {
            super(url);
            this.addEventListener("message", () => { lab.heard += 1; lab.told(); });
        }
    };
}"""
"""Counts the messages on each socket before hub.js handles them, because hub.js reports no event for the answer to a heartbeat."""


class JsClient:
    """A `HubClient` of hub.js. All waits end with a TimeoutError; none is a fixed delay."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def start(self, url: str, tokens: str | list[str] = "t", *, is_kept: bool = False) -> None:
        """Create the client and connect."""
        await self.make(url, tokens, is_kept=is_kept)
        await self.connect()

    async def make(self, url: str, tokens: str | list[str] = "t", *, is_kept: bool = False) -> None:
        """Create the client.

        Args:
            url: the URL of the hub.
            tokens: a token, or a list for a token provider that returns one after the other.
            is_kept: use a cursor store that outlives the page.
        """
        await self._run(_MAKE, [url, tokens, is_kept])

    async def connect(self) -> None:
        """Connect; returns once the first attempt is over, successful or not.

        So later requests use that socket rather than being part of the handshake.
        """
        await self._run(_CONNECT)

    async def stop_time(self) -> None:
        """Stop the page's timers and clocks, which then advance only by `pass_time`. To be called before `start`."""
        await self._page.clock.install(time=0)
        await self._page.clock.pause_at(1)
        await self._run(_LISTEN)

    async def pass_time(self, milliseconds: int) -> None:
        """Advance the page's time; timers fire in order."""
        await self._page.clock.run_for(milliseconds)

    async def go_on(self) -> None:
        """Let the page's time run again."""
        await self._page.clock.resume()

    async def heard(self, count: int) -> None:
        """Wait until the page has received this many messages, over all sockets. Only after `stop_time`."""
        await self._run("(count) => lab.until(() => lab.heard >= count)", count)

    async def follow(self, channel: str, **wish: Any) -> None:
        """Subscribe with a callback."""
        code = """([channel, wish]) => {
            lab.subscription = lab.client.subscribe(channel, { ...wish, onItem: (item) => (lab.items.push(item), lab.told()) });
        }"""
        await self._run(code, [channel, wish])

    async def items(self, kind: str, count: int) -> list[dict[str, Any]]:
        """Wait for this many items of a kind; returns them."""
        code = """async ([kind, count]) => {
            const found = () => lab.items.filter((item) => item.kind === kind);
            await lab.until(() => found().length >= count);
            return found();
        }"""
        found: list[dict[str, Any]] = await self._run(code, [kind, count])
        return found

    async def texts(self, count: int) -> list[str]:
        """Wait for this many events; returns their texts."""
        return [item["event"]["payload"]["text"] for item in await self.items("event", count)]

    async def until_state(self, state: str) -> None:
        """Wait until the connection is in this state."""
        await self._run("(state) => lab.until(() => lab.client.state === state)", state)

    async def errors(self, count: int) -> list[dict[str, Any]]:
        """Wait for this many errors; returns them."""
        code = "async (count) => { await lab.until(() => lab.errors.length >= count); return lab.errors; }"
        found: list[dict[str, Any]] = await self._run(code, count)
        return found

    async def begin(self, code: str, argument: Any = None) -> None:
        """Start code in the page; `outcome` waits for its promise."""
        await self._run(
            f"(argument) => {{ lab.outcome = ({code})(argument); lab.outcome.catch(() => {{}}); }}", argument
        )

    async def outcome(self) -> Any:
        """The result of the started code: its value, or `{"error": code or text}`."""
        return await self._run("() => lab.outcome.catch((error) => ({ error: error.code ?? error.message }))")

    async def read(self, code: str) -> Any:
        """The value of an expression in the page."""
        return await self._run(f"() => ({code})")

    async def _run(self, code: str, argument: Any = None) -> Any:
        async with asyncio.timeout(WAIT_S):
            return await self._page.evaluate(code, argument)
