"""Polls a node until it answers as expected, for facts that no event announces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request

from streams.channel import Channel
from streams.errors import LogUnavailable
from support.nodes import Node

AGAIN_S = 0.05
"""Seconds between two requests."""


def answer_at(url: str, path: str) -> tuple[int, str]:
    """Status and body of the answer at the URL; status 0 if no server answers."""
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def question(node: Node, path: str) -> tuple[int, str]:
    """Status and body of a node's answer."""
    return answer_at(node.url, path)


async def until_status(url: str, path: str, wanted: int) -> None:
    """Wait until the path answers with this status."""
    status = 0
    while status != wanted:
        await asyncio.sleep(AGAIN_S)
        status, _ = await asyncio.to_thread(answer_at, url, path)


async def until_ready(node: Node) -> None:
    """Wait until the node reports that it is ready."""
    status = 0
    while status != 200:
        await asyncio.sleep(AGAIN_S)
        status, _ = await asyncio.to_thread(question, node, "/readyz")


async def until_told(node: Node, word: str) -> list[str]:
    """Wait until the readiness check names a part; returns all parts that it names."""
    while True:
        status, body = await asyncio.to_thread(question, node, "/readyz")
        missing: list[str] = json.loads(body).get("missing", [])
        if status == 503 and any(word in text for text in missing):
            return missing
        await asyncio.sleep(AGAIN_S)


async def until_present(node: Node, channel: Channel, devices: dict[str, int]) -> None:
    """Wait until the node lists exactly these people in the channel, with these numbers of devices."""
    found: object = None
    while found != devices:
        await asyncio.sleep(AGAIN_S)
        with contextlib.suppress(LogUnavailable):
            people = await node.hub.presence.store.people(channel, 0)
            found = people if isinstance(people, int) else {one.user: one.devices for one in people}
