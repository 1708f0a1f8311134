"""One rude client beside others: nonsense at full speed, questions whose answers are never read, big messages behind a slow one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hub.limits.rates import PACE_FLOOR
from hub.node.connection import BACKLOG_BYTES_MAX, BACKLOG_MAX, JOIN_BYTES_MAX, Connection
from support.client_frames import client_frame
from support.nodes import Node, running_node, token
from support.socket_client import SocketClient, client, raw_client
from support.until import until

CHANNEL = "conversation:1"


def the_connection(node: Node) -> Connection:
    """The only one there is."""
    (found,) = node.hub.connections
    return found


def buffered(connection: Connection) -> int:
    """Bytes the node holds for a client that does not read."""
    wire: Any = connection._transport
    size: int = wire._transport.get_write_buffer_size()
    return size


def flood(a: SocketClient, messages: list[str]) -> None:
    """All at once, as a client of bare sockets can."""
    a.socket.transport.write(b"".join(client_frame(0x1, message.encode()) for message in messages))


async def test_nonsense_at_full_speed_waits_and_others_are_served(redis_url: str, tenant: str) -> None:
    """Frames of no use are taken at a pace; the rest waits unread, so that a polite client is answered in between."""
    async with (
        running_node(redis_url, rate_limits={}) as node,
        client(node.ws_url, token("rude", tenant)) as rude,
    ):
        connection = the_connection(node)
        flood(rude, ['{"type":"nonsense","id":"n"}'] * (int(PACE_FLOOR.burst) + 20_000))
        await until(lambda: bool(connection._backlog))
        async with client(node.ws_url, token("polite", tenant)) as polite:
            served = await polite.say(CHANNEL, "hi")
        is_waiting = bool(connection._backlog)
        rude.reset()

    assert served["type"] == "message.received"
    assert is_waiting


async def test_who_is_slowed_down_is_still_answered_in_order(redis_url: str, tenant: str) -> None:
    """The pace loses nothing: each id is answered once, in the order sent, in arrays or not."""
    ids = [f"n{number}" for number in range(int(PACE_FLOOR.burst) + 500)]
    async with running_node(redis_url, rate_limits={}) as node, client(node.ws_url, token("rude", tenant)) as rude:
        frames = [{"type": "nonsense", "id": id_} for id_ in ids]
        flood(rude, [json.dumps(frame) for frame in frames[:3_000]])
        flood(rude, [json.dumps(frames[at : at + 100]) for at in range(3_000, len(frames), 100)])
        answered = [(await rude.expect("connection.error"))["re"] for _ in ids]

    assert answered == ids


async def test_a_thousand_answers_of_one_tick_are_written_in_small_pieces(redis_url: str, tenant: str) -> None:
    """Joining them all would copy every answer once for each that follows: 1.4 ms a frame, measured."""
    pieces: list[int] = []
    async with (
        running_node(redis_url, rate_limits=None) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        connection = the_connection(node)
        wire: Any = connection._transport
        write = wire.write

        def noted(frames: bytes) -> None:
            pieces.append(len(frames))
            write(frames)

        wire.write = noted
        for _ in range(2_000):
            connection.push(b"\x81\x7d" + b"x" * 125)
        connection.flush()
        await until(lambda: sum(pieces) >= 2_000 * 127)
        a.reset()

    assert max(pieces) <= JOIN_BYTES_MAX + 127
    assert sum(pieces) == 2_000 * 127


async def many_kilobytes(a: SocketClient, count: int) -> None:
    """Fill the channel with events of 30 KB."""
    for number in range(count):
        assert (await a.say(CHANNEL, f"{number} " + "x" * 30_000))["type"] == "message.received"


async def test_who_reads_no_answers_is_asked_for_no_more_questions(redis_url: str, tenant: str) -> None:
    """Answers of megabytes: the node holds two of them at most, not one for each question."""
    async with (
        running_node(redis_url, rate_limits={"history": (1_000, 1_000)}) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        await many_kilobytes(a, 100)
        page = await a.answer("channel.history", {"limit": 1000}, CHANNEL)
        size = len(json.dumps(page))
        connection = the_connection(node)
        a.socket.transport.pause_reading()
        ids = [await a.send("channel.history", {"limit": 1000}, CHANNEL) for _ in range(30)]
        async with client(
            node.ws_url, token("b", tenant)
        ) as b:  # its questions are the clock: as long as all of theirs take
            for _ in ids:
                await b.answer("channel.history", {"limit": 1000}, CHANNEL)
        held = buffered(connection)
        a.socket.transport.resume_reading()
        answers = [await a.expect("channel.history", re=id_) for id_ in ids]

    assert held < 3 * size
    assert [len(answer["payload"]["events"]) for answer in answers] == [100] * 30


async def test_big_messages_behind_a_slow_command_are_not_read(redis_url: str, tenant: str) -> None:
    """Waiting messages are bounded in bytes, not only in number, and are carried out all the same."""
    big = json.dumps({"type": "nonsense", "id": "big", "payload": {"text": "x" * 900_000}})
    async with (
        running_node(redis_url, rate_limits={}) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        connection = the_connection(node)
        connection._is_busy = True  # a command that takes its time
        sending = asyncio.create_task(asyncio.wait_for(_send_all(a, [big] * 20), 30))
        await until(lambda: connection._backlog_bytes >= BACKLOG_BYTES_MAX)
        for _ in range(1_000):  # whatever is still on its way arrives meanwhile
            await asyncio.sleep(0)
        waiting, held = len(connection._backlog or ()), connection._backlog_bytes
        connection._rested()
        answers = [await a.expect("connection.error") for _ in range(20)]
        await sending

    assert waiting < BACKLOG_MAX
    assert held <= BACKLOG_BYTES_MAX + 1_100_000
    assert [answer["re"] for answer in answers] == ["big"] * 20


async def _send_all(a: SocketClient, messages: list[str]) -> None:
    for message in messages:
        await a.send_raw(message)


async def test_a_stranger_is_not_read_while_keys_are_fetched(redis_url: str, tenant: str) -> None:
    """Messages behind a handshake wait unread until it is known who sends them; then they are carried out in order."""
    async with running_node(redis_url) as node, raw_client(node.ws_url) as a:
        may_go = asyncio.Event()
        verify = node.hub.verifier.verify

        async def slow(text: str, now: float, request: Any) -> Any:
            await may_go.wait()
            return await verify(text, now, request)

        node.hub.verifier.verify = slow  # type: ignore[method-assign]  # a key server that takes its time
        await a.send("connection.init", {"token": token("a", tenant), "versions": [1]})
        message = json.dumps({"type": "nonsense", "id": "later", "payload": {"text": "x" * 200_000}})
        sending = asyncio.create_task(_send_all(a, [message] * 100))
        connection = the_connection(node)
        await until(lambda: connection._backlog is not None)
        for _ in range(1_000):
            await asyncio.sleep(0)
        held = sum(len(waiting) for waiting in connection._backlog or () if isinstance(waiting, bytes))
        may_go.set()
        await a.expect("connection.ack")
        answers = [await a.expect("connection.error") for _ in range(100)]
        await sending

    assert held <= 600_000
    assert {answer["re"] for answer in answers} == {"later"}
