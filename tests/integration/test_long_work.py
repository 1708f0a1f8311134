"""Long work beside live messages: folds and replays go in slices, so that no iteration of the loop has more than one."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from itertools import pairwise
from urllib.parse import SplitResult, urlsplit

import pytest

from hub.limits.slices import FOLD_EVENTS, SERVING_S, SHORT_PAGE_EVENTS, Slices
from hub.metrics import NodeMetrics
from hub.node.connection import MESSAGES_AT_ONCE
from hub.node.fanout import Fanout, Sub
from hub.node.pages import SharedPages
from hub.node.states import StateReader
from hub.websocket.codec import TEXT
from projections.own import OwnProjections, projects
from projections.recorded import Recorded
from streams.channel import Channel, Kind, parse_channel
from streams.envelope import Actor, Draft
from streams.json_bytes import JsonObject
from streams.redis.log import Log
from streams.redis.replay import PAGE_EVENTS
from support.client_frames import client_frame
from support.nodes import Node, running_node, token
from support.socket_client import client
from support.until import until

EVENTS = 1_000
READERS = 4
SOCKETS = 20
WITHIN_S = 60.0


class Nobody:
    """Watches a fan-out without subscribers."""

    def note_behind(self, sub: Sub) -> None:
        """Is never called."""

    def note_configured(self, fanout: Fanout) -> None:
        """Is never called."""

    def note_broken(self, fanout: Fanout) -> None:
        """Is called for a read that fails when the log is closed."""


def upgrade_request(place: SplitResult) -> bytes:
    head = (
        f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return head.encode()


def serve(node: Node) -> None:
    """From here on the node serves live messages all the time."""
    node.hub.slices._activity = itertools.count().__next__


async def fill(log: Log, channel: Channel) -> None:
    drafts = [Draft(channel, "chat.message", b'{"text":"old"}', Actor("user", "a")) for _ in range(EVENTS)]
    await asyncio.gather(*map(log.append, drafts))


async def test_a_cold_fold_leaves_the_loop_after_a_few_events(log: Log, tenant: str) -> None:
    """Four channels are folded at the same time: each iteration of the loop folds a part of one of them."""
    channels = [Channel(tenant, Kind.CONVERSATION, f"c{number}") for number in range(READERS)]
    await asyncio.gather(*(fill(log, channel) for channel in channels))
    iteration, folded = 0, Counter[int]()

    def passed() -> None:
        nonlocal iteration, timer
        iteration += 1
        timer = loop.call_soon(passed)

    @projects("chat.message")
    def tally(state: JsonObject, _: Recorded) -> JsonObject:
        folded[iteration] += 1
        return state

    loop = asyncio.get_running_loop()
    timer = loop.call_soon(passed)
    states = StateReader(log, Slices(), OwnProjections({"tally": tally}))
    await asyncio.gather(*[states.read(channel, await log.look(channel)) for channel in channels])
    timer.cancel()

    assert folded.total() == READERS * EVENTS
    assert max(folded.values()) <= FOLD_EVENTS


class Chased(Slices):
    """While a part waits for its slice, more events are written than the part has."""

    def __init__(self, log: Log, channel: Channel, times: int) -> None:
        super().__init__()
        self._log, self._channel = log, channel
        self.left = times

    async def turn(self) -> None:
        """Waits for a slice."""
        await super().turn()
        if self.left:
            self.left -= 1
            draft = Draft(self._channel, "chat.message", b'{"text":"new"}', Actor("user", "a"))
            await asyncio.gather(*(self._log.append(draft) for _ in range(2 * FOLD_EVENTS)))


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_fold_does_not_run_after_a_head_that_moves_faster(log: Log, tenant: str, *, is_broken: bool) -> None:
    """It ends with the events that were there when the state was asked for, or a page later; also one that starts over."""
    channel = parse_channel(tenant, "conversation:busy")
    await fill(log, channel)
    if is_broken:
        (_, second, *_) = await log.page(channel)
        await log.calls_of(channel).call("XDEL", log.keys.of(channel).stream, second.id)
    slices = Chased(log, channel, 2 * EVENTS // FOLD_EVENTS)
    look = await log.look(channel)

    state = await StateReader(log, slices).read(channel, look)

    assert look.head.seq <= state.position.seq <= look.head.seq + PAGE_EVENTS
    assert slices.left


async def test_pages_are_short_beside_live_messages(log: Log, tenant: str) -> None:
    """A page holds up Redis and the loop, so a long one is read only while nobody else is served."""
    channel, served, now = parse_channel(tenant, "conversation:long"), 0, 0.0
    await fill(log, channel)
    look = await log.look(channel)
    slices = Slices(lambda: served, lambda: now)
    pages = SharedPages(log, slices)
    fanout = Fanout(channel, look, log.tail_of(channel), NodeMetrics(), Nobody())

    assert len((await pages.read(fanout, "0", look.head.id)).events.lines) == SHORT_PAGE_EVENTS
    now += SERVING_S
    assert len((await pages.read(fanout, "0", look.head.id)).events.lines) == PAGE_EVENTS
    served += 1
    assert len((await pages.read(fanout, "0", look.head.id)).events.lines) == SHORT_PAGE_EVENTS
    fanout.close()


async def test_each_page_of_a_replay_has_a_slice(redis_url: str, tenant: str) -> None:
    """A client that comes back costs the slices of a subscription, and one for each page."""
    async with running_node(redis_url) as node:
        serve(node)
        await fill(node.hub.log, parse_channel(tenant, "conversation:long"))
        async with client(node.ws_url, token("r", tenant), capabilities=["batch"]) as reader:
            before = node.hub.slices.granted_count
            await reader.subscribe("conversation:short", state=False)
            between = node.hub.slices.granted_count
            await reader.subscribe("conversation:long", after="0", state=False)
            await reader.expect("channel.resumed", channel="conversation:long")
            after = node.hub.slices.granted_count
            long = [frame for frame in reader.seen if frame.get("channel") == "conversation:long"]

    assert [frame["seq"] for frame in long if "seq" in frame] == list(range(1, EVENTS + 1))
    assert after - between >= (between - before) + EVENTS / PAGE_EVENTS


@pytest.mark.parametrize("is_array", [True, False])
async def test_a_socket_that_sends_much_at_once_is_served_in_parts(
    redis_url: str, tenant: str, *, is_array: bool
) -> None:
    """A hundred messages in one read, as an array or as frames: each iteration of the loop handles a few, and all are stored."""
    messages = [
        json.dumps({"type": "chat.message", "id": f"m{n}", "channel": "conversation:1", "payload": {"text": str(n)}})
        for n in range(100)
    ]
    texts = [f"[{','.join(messages)}]"] if is_array else messages
    loop, handled = asyncio.get_running_loop(), [0]
    async with running_node(redis_url) as node, client(node.ws_url, token("w", tenant)) as writer:
        await writer.subscribe("conversation:1", state=False)  # from here on a message needs no other read

        def passed() -> None:
            nonlocal timer
            handled.append(node.hub.metrics.commands_in.total())
            timer = loop.call_soon(passed)

        timer = loop.call_soon(passed)
        writer.socket.transport.write(b"".join(client_frame(TEXT, text.encode()) for text in texts))
        found = await writer.events(100)
        timer.cancel()

    assert [event["payload"]["text"] for event in found] == [str(n) for n in range(100)]
    assert max(after - before for before, after in pairwise(handled[1:])) <= MESSAGES_AT_ONCE


async def test_sockets_that_come_together_are_opened_one_after_the_other(redis_url: str) -> None:
    """After an outage the upgrades of all clients arrive at once; the loop goes round between them."""
    async with running_node(redis_url) as node:
        serve(node)
        place = urlsplit(node.ws_url)
        pairs = [await asyncio.open_connection(place.hostname, place.port) for _ in range(SOCKETS)]
        loop, opened, all_are_open = asyncio.get_running_loop(), [0], asyncio.Event()

        def passed() -> None:
            nonlocal timer
            opened.append(len(node.hub.connections))
            if opened[-1] == SOCKETS:
                all_are_open.set()
            timer = loop.call_soon(passed)

        timer = loop.call_soon(passed)
        for _, writer in pairs:
            writer.write(upgrade_request(place))
        await asyncio.wait_for(all_are_open.wait(), WITHIN_S)
        timer.cancel()
        answers = [await asyncio.wait_for(reader.readline(), WITHIN_S) for reader, _ in pairs]
        for _, writer in pairs:
            writer.close()

    assert answers == [b"HTTP/1.1 101 Switching Protocols\r\n"] * SOCKETS
    assert max(after - before for before, after in pairwise(opened)) == 1


async def test_a_socket_that_leaves_before_it_is_opened_is_forgotten(redis_url: str, tenant: str) -> None:
    """Its turn comes and passes; the node goes on, and counts nobody."""
    async with running_node(redis_url) as node:
        serve(node)
        place = urlsplit(node.ws_url)
        for _ in range(SOCKETS):
            _, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(upgrade_request(place))
            writer.transport.abort()
        async with client(node.ws_url, token("r", tenant)) as last:
            await last.subscribe("conversation:1", state=False)
            await until(lambda: len(node.hub.connections) == 1)
