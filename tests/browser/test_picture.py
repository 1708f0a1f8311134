"""The picture of README: the plug is pulled in the middle of an answer, and the sentence goes on.

`make picture` writes it to `docs/images/plug.gif`, recorded from two real pages: on the left the plug is pulled, on the right
somebody else reads on.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Browser, Page, expect

from ops.cli.worker_process import running_worker
from support.nodes import Node, token
from support.run_rig import options
from support.watched_page import new_context

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "plug.gif"
BYTES_MAX = 1_500_000
PANE = (470, 690)
COLOURS = 256
FRAME_MS = 120
LAST_MS = 3_500
"""Duration of the last frame, before the picture begins again."""
PACE_S = 0.11
QUESTION = "What do I lose when my train enters a tunnel?"
TEXT = (
    "Nothing. I write into a stream, and your socket only reads it. When it dies, I go on writing, and your place in the "
    "stream waits. When you come back, any node continues from there: the words you missed arrive at once, none of them "
    "twice, and this very sentence goes on where it stood."
)
ASIDE = "Alice is in the tunnel now."
PULLED_AT, SAID_AT, PLUGGED_AT = "your socket only", "I go on", "come back, any node"
CHANNEL = "conversation:tunnel"


async def guide(ctx: Any, given: Any) -> Any:
    """Says the text at the pace of a model."""
    for word in TEXT.split(" "):
        yield word if TEXT.startswith(word) else f" {word}"
        await asyncio.sleep(PACE_S)


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def worker(node: Node) -> AsyncIterator[None]:
    """A worker beside the module's node."""
    url = node.hub.settings.redis_url
    assert url is not None
    async with running_worker(node.hub.settings, options(url, {"guide": guide}, lease_ms=15_000)):
        yield


class Film:
    """Pictures of two pages side by side, each shown until the next."""

    def __init__(self, pages: list[Page]) -> None:
        self._pages = pages
        self._frames: list[Image.Image] = []
        self._at_s: list[float] = []

    async def record(self) -> None:
        """Take pictures until cancelled."""
        while True:
            started_s = time.monotonic()
            shots = await asyncio.gather(*(page.screenshot(animations="allow") for page in self._pages))
            self._add(shots, started_s)
            await asyncio.sleep(max(0, FRAME_MS / 1000 - (time.monotonic() - started_s)))

    def _add(self, shots: list[bytes], at_s: float) -> None:
        frame = Image.new("RGB", (PANE[0] * len(shots) + 2, PANE[1]), "#888888")
        for number, shot in enumerate(shots):
            frame.paste(Image.open(io.BytesIO(shot)).convert("RGB"), (number * (PANE[0] + 2), 0))
        if not self._frames or frame.tobytes() != self._frames[-1].tobytes():
            self._frames.append(frame)
            self._at_s.append(at_s)

    def save(self, path: Path) -> None:
        """Write an endless GIF; all frames share their colours, so that only what changes is stored."""
        some = self._frames[:: max(1, len(self._frames) // 6)]
        sheet = Image.new("RGB", (some[0].width, some[0].height * len(some)))
        for number, frame in enumerate(some):
            sheet.paste(frame, (0, number * frame.height))
        colours = sheet.quantize(COLOURS)
        frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in self._frames]
        times_ms = [round(1000 * (after - at)) for at, after in zip(self._at_s, self._at_s[1:], strict=False)]
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=[*times_ms, LAST_MS], loop=0, optimize=True
        )


@contextlib.asynccontextmanager
async def filming(pages: list[Page]) -> AsyncIterator[Film]:
    """A film of what happens meanwhile."""
    film = Film(pages)
    recording = asyncio.create_task(film.record())
    try:
        yield film
    finally:
        recording.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await recording


async def opened(node: Node, page: Page, user: str, tenant: str) -> Page:
    """A narrow page on the conversation."""
    await page.set_viewport_size({"width": PANE[0], "height": PANE[1]})
    await page.goto(f"{node.url}/console#token={token(user, tenant)}&channel={CHANNEL}")
    await expect(page.locator("#status-word")).to_have_text("connected")
    await expect(page.locator('#agent option[value="guide"]')).to_have_count(1)
    return page


async def test_the_picture_of_the_plug(node: Node, browser: Browser, tenant: str, tmp_path: Path) -> None:
    """Both pages end with the whole text, and the picture is small enough for a README."""
    path = PICTURE if os.environ.get("UPDATE_PICTURE") == "1" else tmp_path / PICTURE.name
    async with new_context(browser) as left, new_context(browser) as right:
        alice = await opened(node, await left.new_page(), "alice", tenant)
        bob = await opened(node, await right.new_page(), "bob", tenant)
        answers = [page.locator("#messages > li:nth-child(2) .bubble") for page in (alice, bob)]
        read_by_alice, read_by_bob = (answer.locator("> .text") for answer in answers)
        async with filming([alice, bob]) as film:
            await alice.get_by_label("Ask").select_option("guide")
            await alice.get_by_label("Write here").press_sequentially(QUESTION, delay=25)
            await alice.get_by_label("Write here").press("Enter")
            await expect(read_by_alice).to_contain_text(PULLED_AT)
            await alice.locator("#plug").click()
            await expect(read_by_bob).to_contain_text(SAID_AT)
            await bob.get_by_label("Ask").select_option("")
            await bob.get_by_label("Write here").press_sequentially(ASIDE, delay=25)
            await bob.get_by_label("Write here").press("Enter")
            await expect(read_by_bob).to_contain_text(PLUGGED_AT)
            assert PLUGGED_AT not in (await read_by_alice.text_content() or "")
            await alice.locator("#plug").click()
            for answer in answers:
                await expect(answer).to_have_attribute("data-open", "false")
                await expect(answer.locator("> .text")).to_have_text(TEXT)
            await expect(alice.locator("#receipt")).to_have_attribute("data-verdict", "whole")
    film.save(path)

    assert path.stat().st_size < BYTES_MAX
