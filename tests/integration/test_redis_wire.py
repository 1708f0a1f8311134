"""The pipelined wire to Redis: replies in order, whole or in part, and every waiting caller told when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import hiredis
import pytest

from streams.channel import parse_channel
from streams.errors import CommandRefused, LogUnavailable
from streams.redis.calls import Calls
from streams.redis.scripts import load
from streams.redis.wire import Wire, open_wire
from streams.redis.wire_set import WireSet
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import client

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server_that(answers: Answer) -> AsyncIterator[str]:
    """A server whose every connection is `answers`' business; its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await answers(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def test_replies_come_in_the_order_of_the_commands(redis_url: str) -> None:
    """A thousand commands in one write, each answered to its own caller."""
    wire = await open_wire(redis_url, "t")

    replies = await asyncio.gather(*(wire.call("ECHO", str(n)) for n in range(1_000)))
    wire.abort()

    assert replies == [str(n).encode() for n in range(1_000)]


async def test_every_form_of_reply_is_told(redis_url: str, tenant: str) -> None:
    """Integers, nothing, lists, large binaries, and errors as errors."""
    wire = await open_wire(redis_url, "t")
    big = bytes(range(256)) * 8_192

    stored = await wire.call("SET", tenant, big)
    found = [await wire.call("GET", tenant), await wire.call("GET", tenant + "x"), await wire.call("STRLEN", tenant)]
    several = await wire.call("MGET", tenant + "x", tenant + "y")
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        await wire.call("HGET", tenant, "x")
    wire.abort()

    assert stored == b"OK"
    assert found == [big, None, len(big)]
    assert several == [None, None]


async def test_a_name_a_database_and_a_password_are_used(own_redis: RedisServer) -> None:
    """The URL's options hold: logged in, in that database, under a name that CLIENT LIST shows."""
    admin = await open_wire(own_redis.url, "admin")
    await admin.call("CONFIG", "SET", "requirepass", "s3cret")
    path = own_redis.url.removeprefix("unix://").partition("?")[0]

    wire = await open_wire(f"unix://:s3cret@{path}?db=3", "mine")
    listed = (await wire.call("CLIENT", "LIST")).decode()
    with pytest.raises(LogUnavailable, match="could not be reached"):
        await open_wire(f"unix://:wrong@{path}?db=3", "mine")
    with pytest.raises(LogUnavailable, match="NOAUTH"):
        await open_wire(f"unix://{path}?db=3", "mine")
    wire.abort()
    admin.abort()

    assert [line for line in listed.splitlines() if "name=mine" in line and "db=3" in line]


async def test_a_lost_connection_tells_everybody_once() -> None:
    """Waiting callers, later callers and the owner all learn of it."""
    asked = asyncio.Event()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SETNAME\r\n$1\r\nt\r\n")
        writer.write(b"+OK\r\n")
        await reader.readuntil(b"second\r\n")
        writer.write(b"+one\r\n")
        await writer.drain()
        asked.set()

    async with server_that(answers) as url:
        wire = await open_wire(url, "t")
        told: list[object] = []
        lost = asyncio.Event()
        wire.on_lost = lost.set
        wire.send(told.append, "ECHO", "first")
        wire.send(told.append, "ECHO", "second")
        await asked.wait()
        while not told:  # noqa: ASYNC110 - the reply is on its way
            await asyncio.sleep(0)
        wire.abort()
        await lost.wait()
        wire.send(told.append, "ECHO", "third")
        with pytest.raises(LogUnavailable):
            await wire.call("PING")

    assert told[0] == b"one"
    assert [type(reply) for reply in told[1:]] == [LogUnavailable, LogUnavailable]
    assert not wire.is_open


async def test_a_reply_in_pieces_is_told_whole() -> None:
    """However the network cuts it."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SETNAME\r\n$1\r\nt\r\n")
        writer.write(b"+OK\r\n")
        await reader.readuntil(b"x\r\n")
        for byte in b"*2\r\n$5\r\nhello\r\n:42\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with server_that(answers) as url:
        wire = await open_wire(url, "t")
        reply = await wire.call("ECHO", "x")
        wire.abort()

    assert reply == [b"hello", 42]


async def test_silence_is_unavailable_and_leaves_no_answer_for_the_next() -> None:
    """A call that outlives its time closes the wire: its late reply could be taken for another's."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SETNAME\r\n$1\r\nt\r\n")
        writer.write(b"+OK\r\n")

    async with server_that(answers) as url:
        wire = await open_wire(url, "t")
        lost = asyncio.Event()
        wire.on_lost = lost.set
        with pytest.raises(LogUnavailable, match="did not answer"):
            await wire.call("PING", timeout_s=0.05)
        await lost.wait()

    assert not wire.is_open


async def test_a_reply_that_came_while_this_process_stood_still_counts(redis_url: str, tenant: str) -> None:
    """A blocked loop is no silence of Redis: the reply lies in the socket when the time is found to be over."""
    wire = await open_wire(redis_url, "t")
    asyncio.get_running_loop().call_later(0.15, time.sleep, 1.5)

    assert await wire.call("BLPOP", f"{tenant}:nothing", "0.25", timeout_s=0.2) is None
    assert wire.is_open
    wire.abort()


async def test_a_machine_that_stood_still_as_a_whole_costs_no_connection(lone_redis: RedisServer) -> None:
    """Redis goes on a moment after this process, and so cannot have answered: both get the rest of the time."""
    wire = await open_wire(lone_redis.url, "t")
    for at_s, happens in ((0.1, lone_redis.stop), (0.11, partial(time.sleep, 1.5)), (0.3, lone_redis.resume)):
        asyncio.get_running_loop().call_later(at_s, happens)

    assert await wire.call("BLPOP", "nothing", "0.15", timeout_s=1.0) is None
    assert wire.is_open
    wire.abort()


async def test_a_server_that_never_greets_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting has a time limit of its own, log-in included."""
    monkeypatch.setattr("streams.redis.wire.CONNECT_TIMEOUT_S", 0.1)

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server_that(answers) as url:
        with pytest.raises(LogUnavailable, match="could not be reached"):
            await open_wire(url, "t")


async def test_a_script_that_redis_forgot_is_sent_whole(own_redis: RedisServer) -> None:
    """EVALSHA, and EVAL on NOSCRIPT; another error stays that error."""
    calls = Calls.at(own_redis.url, "t")
    look, keys = load("look"), ("b", "s", "m", "l", "d")

    first = await calls.run(look, keys, "seed", 10, "", "a:team:1", "1", "life", 0)
    known = await calls.call("SCRIPT", "EXISTS", look.digest)
    again = await calls.run(look, keys, "seed", 10, "", "a:team:1", "1", "life", 0)
    with pytest.raises(CommandRefused):
        await calls.run(look, keys, "seed", 10, "no id", "a:team:1", "1", "life", 0)
    calls.close()

    assert (first, known) == (again, [1])


async def test_calls_come_back_by_themselves(own_redis: RedisServer) -> None:
    """The next call finds a new connection after each loss, and calls at once share one."""
    calls = Calls.at(own_redis.url, "t")
    await asyncio.gather(calls.call("PING"), calls.call("PING"))
    listed = await calls.call("CLIENT", "LIST")
    with own_redis.killed():
        with pytest.raises(LogUnavailable):
            await calls.call("PING")
    again = None
    while again is None:
        with contextlib.suppress(LogUnavailable):  # it may still be loading
            again = await calls.call("PING")
    with pytest.raises(CommandRefused) as refused:
        await calls.call("NOSUCH")
    calls.close()

    assert listed.count(b"name=t ") == 1
    assert again == b"PONG"
    assert refused.value.code == "ERR"


async def test_several_commands_in_one_write(redis_url: str, tenant: str) -> None:
    """All replies in order; the first refusal is raised although what follows it was carried out; none asked, none answered."""
    calls = Calls.at(redis_url, "t")
    replies = await calls.pipeline([("SET", tenant, 1), ("INCR", tenant), ("GET", tenant)])
    with pytest.raises(CommandRefused) as refused:
        await calls.pipeline([("HGET", tenant, "x"), ("INCR", tenant)])
    nothing, after = await calls.pipeline([]), await calls.call("GET", tenant)
    calls.close()

    assert replies == [b"OK", 2, b"2"]
    assert (refused.value.code, nothing, after) == ("WRONGTYPE", [], b"3")


async def test_a_transaction_is_carried_out_whole_or_not_at_all(redis_url: str, tenant: str) -> None:
    """A command that Redis does not take leaves the others undone."""
    calls = Calls.at(redis_url, "t")
    both = await calls.transaction([("SET", tenant, 1), ("INCR", tenant)])
    with pytest.raises(CommandRefused):
        await calls.transaction([("INCR", tenant), ("NOSUCH",)])
    after = await calls.call("GET", tenant)
    calls.close()

    assert (both, after) == ([b"OK", 2], b"2")


async def test_silence_is_counted_only_while_an_answer_is_due() -> None:
    """An idle wire is well; one that waits is counted silent check by check; a piece of an answer begins the count anew."""
    said, more = asyncio.Event(), asyncio.Event()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SETNAME\r\n")
        writer.write(b"+OK\r\n")
        await reader.readuntil(b"GET\r\n")
        await said.wait()
        writer.write(b"$8\r\nhalf")
        await more.wait()
        writer.write(b"half\r\n")

    async with server_that(answers) as url:
        wire = await open_wire(url.removesuffix("/0"), "t")
        idle = [wire.check() for _ in range(3)]
        answer = asyncio.ensure_future(wire.call("GET", "x"))
        await asyncio.sleep(0)
        waiting = [wire.check() for _ in range(3)]
        said.set()
        while wire.check():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
        after_a_piece = [wire.check() for _ in range(2)]
        more.set()
        found = await answer
        answered = [wire.check() for _ in range(2)]
        wire.abort()

    assert (idle, waiting, after_a_piece, answered) == ([0, 0, 0], [1, 2, 3], [1, 2], [0, 0])
    assert found == b"halfhalf"


async def test_foreign_data_under_a_key_is_a_fault_that_tells_nothing_of_redis(redis_url: str, tenant: str) -> None:
    """A client gets an internal error, and nothing of Redis's reply; the channel goes on where the key is not needed."""
    channel = parse_channel(tenant, "conversation:1")
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.say("conversation:1", "hello")
        log = node.hub.log
        await log.redis.set(log.keys.guard(channel, f"marks:{channel.wire}"), "not a hash")
        refused = await a.answer("channel.state", {}, "conversation:1")
        again = await a.say("conversation:1", "again")

    assert refused["payload"]["code"] == 4030
    assert "WRONGTYPE" not in str(refused)
    assert again["payload"]["seq"] == 2


async def test_wires_that_are_open_are_closed_when_the_next_one_fails() -> None:
    """Otherwise each attempt at a server that is just starting would leave sockets open."""
    ended = asyncio.Event()
    count = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count > 1:
            writer.close()
            return
        writer.write(b"+OK\r\n")  # to the name of the connection
        while await reader.read(1024):
            pass
        ended.set()

    async def unused(_: Sequence[Wire]) -> None:
        raise AssertionError("they are never all there")

    async with server_that(answer) as url:

        async def here() -> str:
            return url

        with pytest.raises(LogUnavailable):
            await WireSet(("append", "query"), url, here, unused, lambda: None).connect()
        async with asyncio.timeout(60):
            await ended.wait()

    assert count == 2
