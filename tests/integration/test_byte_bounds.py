"""Reads and writes are bounded in bytes as well as events: states, replays, arrays, pages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hub.node.connection import Connection
from hub.node.fanout import encode_events
from hub.ports import Encoding
from hub.websocket.codec import split_frames
from streams.channel import Channel, Kind
from streams.envelope import Actor, Draft
from streams.json_bytes import to_json
from streams.redis.log import Log
from support.nodes import Node, token
from support.socket_client import client
from support.until import until

KIB = 1024


async def fill(log: Log, tenant: str, count: int, size_bytes: int) -> Channel:
    """A conversation of so many messages, each of so many bytes."""
    channel = Channel(tenant, Kind.CONVERSATION, "large")
    data = to_json({"text": "x" * size_bytes})
    for _ in range(count):
        await log.append(Draft(channel, "chat.message", data, Actor("user", "alice")))
    return channel


def waiting_bytes(connection: Connection) -> int:
    """Bytes written for a socket that the kernel has not taken."""
    protocol: Any = connection._transport
    size: int = protocol._transport.get_write_buffer_size()
    return size


async def test_the_state_of_fifty_large_answers_is_one_small_message(node: Node, log: Log, tenant: str) -> None:
    """It was one message of 26 MB. What is left out is read by history before the ID told."""
    channel = Channel(tenant, Kind.CONVERSATION, "answers")
    agent, text = Actor("agent", "demo"), "x" * (512 * KIB - 1_000)
    for n in range(50):
        head = {"message_id": f"r{n}.0", "run_id": f"r{n}", "attempt": 1}
        for kind, more in (
            ("assistant.message.start", {"agent": "demo"}),
            ("assistant.message.end", {"finish_reason": "stop", "text": text}),
        ):
            await log.append(Draft(channel, kind, to_json({**head, **more}), agent))

    async with client(node.ws_url, token("alice", tenant)) as alice:
        told = await alice.subscribe(channel.wire)
        size_bytes = max(map(len, alice.raw))
        before = told["state"]["truncated"]["messages"]["before"]
        page = await alice.answer("channel.history", {"before": before, "limit": 1}, channel.wire)

    assert size_bytes < 256 * KIB
    assert [event["payload"]["message_id"] for event in page["payload"]["events"]] == ["r49.0"]


async def test_arrays_of_replayed_events_end_at_256_kib_and_split_no_event(node: Node, log: Log, tenant: str) -> None:
    """A client that announced `batch` gets as many arrays as it needs; an event that is larger alone goes alone."""
    channel = await fill(log, tenant, 12, 100 * KIB)

    async with client(node.ws_url, token("alice", tenant), capabilities=["batch"]) as alice:
        slices = node.hub.slices
        slices._activity = lambda: slices._seen_activity  # beside live messages pages are shorter
        await until(lambda: slices.page().size_bytes > 200 * KIB)
        await alice.subscribe(channel.wire, after="0", state=False)
        events = await alice.events(12)
        arrays = [json.loads(text) for text in alice.raw if text.startswith("[")]

    assert [event["seq"] for event in events] == list(range(1, 13))
    assert {len(array) for array in arrays} == {2}


def test_an_event_larger_than_an_array_is_sent_whole() -> None:
    """One event is never split, and leaves its neighbours in arrays of their own."""
    wires = [b'{"n":1}', b'{"n":"' + b"x" * 300 * KIB + b'"}', b'{"n":3}', b'{"n":4}']

    sent = [json.loads(payload) for _, payload in split_frames(encode_events(wires, Encoding.BATCH))]

    assert list(map(len, sent)) == [1, 1, 2]


async def test_a_page_of_the_log_ends_at_256_kib(log: Log, tenant: str) -> None:
    """Forward and back alike; one event that is larger alone is a page, and a page that follows another has no hole."""
    channel = await fill(log, tenant, 6, 100 * KIB)
    await log.append(Draft(channel, "chat.message", to_json({"text": "x" * 400 * KIB}), Actor("user", "alice")))

    forward: list[list[int]] = []
    after = "0"
    while page := await log.page(channel, after):
        forward.append([entry.seq for entry in page])
        after = page[-1].id.decode()
    back = [entry.seq for entry in await log.replay.page_back(channel, after)]

    assert forward == [[1, 2], [3, 4], [5, 6], [7]]
    assert back == [6, 5]


async def test_a_socket_that_does_not_read_holds_a_page(node: Node, log: Log, tenant: str) -> None:
    """Replays of 100 KB events held 500 of them for each such socket; now what waits is one page beyond a write buffer."""
    channel = await fill(log, tenant, 250, 100 * KIB)

    async with client(node.ws_url, token("alice", tenant)) as alice:
        (connection,) = node.hub.connections
        alice.socket.transport.pause_reading()
        await alice.send("channel.subscribe", {"channels": [{"channel": channel.wire, "after": "0", "state": False}]})
        await until(lambda: channel.wire in connection.subscriptions and not connection.is_writable)

        assert connection.subscriptions[channel.wire].seq < 250
        assert waiting_bytes(connection) < 2 * 256 * KIB
        alice.socket.transport.resume_reading()
        assert [event["seq"] for event in await alice.events(250)] == list(range(1, 251))


async def test_live_events_of_a_burst_are_written_page_by_page(node: Node, log: Log, tenant: str) -> None:
    """A socket that does not read gets a page of what the tail reads at once; the rest it reads from the log."""
    channel = await fill(log, tenant, 1, KIB)
    async with client(node.ws_url, token("alice", tenant)) as alice:
        await alice.subscribe(channel.wire)
        (connection,) = node.hub.connections
        alice.socket.transport.pause_reading()
        data = to_json({"text": "x" * 100 * KIB})
        drafts = [Draft(channel, "chat.message", data, Actor("user", "bob")) for _ in range(250)]
        await asyncio.gather(*map(log.append, drafts))
        await until(lambda: not connection.is_writable)

        assert waiting_bytes(connection) < 2 * 256 * KIB
        alice.socket.transport.resume_reading()
        assert [event["seq"] for event in await alice.events(250)] == list(range(2, 252))
