"""hub.js inside a real browser tab, driven from Python: every item and error it hands out is kept in the page."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from playwright.async_api import Page

WAIT_S: Final = 15.0
_START: Final = """async ([url, tokens, isKept]) => {
    const { HubClient, LocalCursors } = await import("/console/hub.js");
    const provide = () => tokens[Math.min((lab.asked += 1), tokens.length) - 1];
    const token = Array.isArray(tokens) ? provide : tokens;
    const client = new HubClient(url, token, { cursors: isKept ? new LocalCursors("test:") : undefined });
    const lab = { client, asked: 0, items: [], errors: [], states: [], waiting: new Set() };
    lab.told = () => lab.waiting.forEach((look) => look());
    lab.until = (test) => new Promise((resolve) => {
        const look = () => test() && (lab.waiting.delete(look), resolve());
        lab.waiting.add(look);
        look();
    });
    client.addEventListener("state", (event) => (lab.states.push(event.detail.state), lab.told()));
    client.addEventListener("error", ({ detail }) => {
        lab.errors.push({ code: detail.error.code, name: detail.error.name, willRetry: detail.willRetry });
        lab.told();
    });
    window.lab = lab;
}"""


class JsClient:
    """One `HubClient` of hub.js. Waits end with a TimeoutError, never with a sleep."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def start(self, url: str, tokens: str | list[str] = "t", *, is_kept: bool = False) -> None:
        """Make the client and connect. A list of tokens is a provider that hands out one after another."""
        await self._run(_START, [url, tokens, is_kept])
        await self._run("() => { lab.client.connect(); }")

    async def follow(self, channel: str, **wish: Any) -> None:
        """Subscribe, by callback."""
        code = """([channel, wish]) => {
            lab.subscription = lab.client.subscribe(channel, { ...wish, onItem: (item) => (lab.items.push(item), lab.told()) });
        }"""
        await self._run(code, [channel, wish])

    async def items(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The items of a kind once there are so many."""
        code = """async ([kind, count]) => {
            const found = () => lab.items.filter((item) => item.kind === kind);
            await lab.until(() => found().length >= count);
            return found();
        }"""
        found: list[dict[str, Any]] = await self._run(code, [kind, count])
        return found

    async def texts(self, count: int) -> list[str]:
        """The texts of the events handed out, once there are so many."""
        return [item["event"]["payload"]["text"] for item in await self.items("event", count)]

    async def until_state(self, state: str) -> None:
        """Until the connection is in a state."""
        await self._run("(state) => lab.until(() => lab.client.state === state)", state)

    async def errors(self, count: int) -> list[dict[str, Any]]:
        """The errors fired, once there are so many."""
        code = "async (count) => { await lab.until(() => lab.errors.length >= count); return lab.errors; }"
        found: list[dict[str, Any]] = await self._run(code, count)
        return found

    async def begin(self, code: str, argument: Any = None) -> None:
        """Begin something in the page whose promise `outcome` awaits."""
        await self._run(
            f"(argument) => {{ lab.outcome = ({code})(argument); lab.outcome.catch(() => {{}}); }}", argument
        )

    async def outcome(self) -> Any:
        """What came of it: its value, or `{"error": code or text}`."""
        return await self._run("() => lab.outcome.catch((error) => ({ error: error.code ?? error.message }))")

    async def read(self, code: str) -> Any:
        """The value of an expression in the page."""
        return await self._run(f"() => ({code})")

    async def _run(self, code: str, argument: Any = None) -> Any:
        async with asyncio.timeout(WAIT_S):
            return await self._page.evaluate(code, argument)
