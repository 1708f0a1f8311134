"""The client on real sockets, against a model of the hub: what it does when they break, stall, refuse or drain."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from hub.client import (
    ChannelClosed,
    ConnectionRefused,
    Cursor,
    Event,
    Gap,
    GapError,
    HubClient,
    HubClosed,
    HubError,
    HubUnreachable,
    MemoryCursors,
    OutboxFull,
    Receipt,
    Signal,
    Subscribed,
)
from hub.client.driver import http_base, socket_url
from support.model_hub import ModelHub, counted_ids
from support.model_hub_server import ModelHubServer, serving

CHANNEL = "conversation:42"


@pytest.fixture
async def server() -> AsyncIterator[ModelHubServer]:
    async with serving(ModelHub()) as running:
        yield running


@asynccontextmanager
async def connected(server: ModelHubServer, **options) -> AsyncIterator[HubClient]:
    async with HubClient(server.url, options.pop("token", "t"), jitter=lambda: 0.5, **options) as hub:
        yield hub


async def take(subscription, count: int) -> list:
    return [await anext(subscription) for _ in range(count)]


def seqs(items: list) -> list[int]:
    return [item.seq for item in items]


async def test_events_of_before_and_now_arrive_in_order(server):
    """A reader from the beginning gets what was there and what comes."""
    await server.append(CHANNEL, count=250)
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        past = await take(reader, 250)
        await server.append(CHANNEL, "now", count=3)
        now = await take(reader, 3)

    assert seqs(past + now) == list(range(1, 254))
    assert [event.payload["text"] for event in now] == ["now"] * 3


async def test_a_cut_is_invisible_to_the_reader(server):
    """After a TCP reset all channels are resumed by one first frame, from their cursors, and nothing is missing."""
    async with connected(server) as hub:
        a, b = hub.subscribe(CHANNEL, after="0"), hub.subscribe("team:blue", after="0")
        await server.append(CHANNEL, count=2)
        await server.append("team:blue")
        await take(a, 2)
        await take(b, 1)
        hub.cut()
        await server.append(CHANNEL, count=3)
        after = await take(a, 3)
        await server.append("team:blue")
        await take(b, 1)
        first = server.sessions[-1].seen[0]

    assert seqs(after) == [3, 4, 5]
    assert first["type"] == "connection.reconnect"
    assert {channel: cursor["seq"] for channel, cursor in first["payload"]["cursors"].items()} == {
        CHANNEL: 2,
        "team:blue": 1,
    }
    assert all(cursor["epoch"] for cursor in first["payload"]["cursors"].values())
    assert first["payload"]["session_id"] == "s1"


async def test_a_cut_is_a_reset_and_not_a_close(server):
    """`cut` sends no close frame: the hub sees the connection break."""
    async with connected(server) as hub:
        hub.cut()
        await server.until_seen("connection.reconnect")

        assert server.sockets[0].close_code == 1006


async def test_unanswered_commands_are_sent_again_in_order(server):
    """Commands whose answer was lost go out again under their ids after the resume, and are stored once."""
    async with connected(server, new_id=counted_ids()) as hub:
        server.deaf = True
        answers = [hub.submit("chat.message", CHANNEL, {"text": str(n)}, command_id=f"m{n}") for n in range(5)]
        async with server.arrived:
            await server.arrived.wait()
        server.deaf = False
        hub.cut()
        stored = [answer.stored for answer in await asyncio.gather(*answers)]
        again = await hub.command("chat.message", CHANNEL, {"text": "0"}, command_id="m0")

    assert seqs(stored) == [1, 2, 3, 4, 5]
    assert again.stored.duplicate
    assert again.stored.seq == 1


async def test_a_refusal_for_now_is_repeated_in_the_order_given(server):
    """4013 is followed by the same command again; later ones of that channel wait, other channels do not."""
    server.hub.later["m0"] = 2
    async with connected(server) as hub:
        first = hub.submit("chat.message", CHANNEL, {"text": "0"}, command_id="m0")
        await server.until_seen("chat.message")
        await hub.command("agent.list")  # answered behind the refusal
        second = hub.submit("chat.message", CHANNEL, {"text": "1"})
        other = await hub.send("team:blue", "x")
        receipts = [(await answer).stored for answer in (first, second)]

    assert other.seq == 1
    assert seqs(receipts) == [1, 2]


async def test_a_refused_command_raises_what_the_hub_said(server):
    """An error with `retry: no` is raised to the caller, and the connection stays."""
    server.hub.refusals["bad"] = {"code": 4003, "retry": "no", "details": [{"field": "channel", "problem": "no"}]}
    async with connected(server) as hub:
        with pytest.raises(HubError) as refused:
            await hub.send(CHANNEL, "bad")
        stored = await hub.send(CHANNEL, "good")

    assert (refused.value.code, refused.value.details[0]["field"]) == (4003, "channel")
    assert stored.seq == 1


async def test_a_gap_is_raised_where_the_events_would_have_come(server):
    """Events trimmed while the reader was away end the iterator, with the state to go on from."""
    await server.append(CHANNEL, count=9)
    server.hub.trim(CHANNEL, 2)
    async with connected(server) as hub:
        with pytest.raises(GapError) as missing:
            await anext(hub.subscribe(CHANNEL, after=Cursor("3-0", 3)))
        reader = hub.subscribe(CHANNEL, after=missing.value.head)
        await server.append(CHANNEL)
        event = await anext(reader)

    assert (missing.value.reason, missing.value.from_seq, missing.value.to_seq) == ("trimmed", 4, 7)
    assert missing.value.state == {"count": 9}
    assert event.seq == 10


async def test_a_gap_can_be_reported_and_passed(server):
    """With on_gap="report" the gap stands between the events, also when the log breaks under a live reader."""
    await server.append(CHANNEL, count=2)
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0", on_gap="report", with_receipts=True)
        before = await take(reader, 4)
        server.hub.flush(CHANNEL)
        await server.append(CHANNEL)
        after = await take(reader, 3)

    assert [type(item) for item in before] == [Subscribed, Event, Event, Receipt]
    assert [type(item) for item in after] == [Subscribed, Gap, Event]
    assert after[1].reason == "epoch_changed"
    assert after[2].seq == 1


async def test_the_cursor_is_saved_when_the_next_event_is_asked_for(server):
    """An event that was handed out and not followed by another request counts as not taken."""
    store = MemoryCursors()
    await server.append(CHANNEL, count=3)
    async with connected(server, cursors=store) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await take(reader, 2)
        saved = store.load(CHANNEL)
        reader.commit()
        committed = store.load(CHANNEL)
    async with connected(server, cursors=store) as hub:
        again = await anext(hub.subscribe(CHANNEL))

    assert (saved.seq, committed.seq, again.seq) == (1, 2, 3)


async def test_who_only_listened_has_a_cursor_too(server):
    """A reader at the live end that got nothing resumes from where it listened, not from a later end."""
    store = MemoryCursors()
    await server.append(CHANNEL, count=3)
    async with connected(server, cursors=store) as hub, hub.subscribe(CHANNEL) as reader:
        waiting = asyncio.create_task(anext(reader))
        await reader.ready()
        await hub.command("agent.list")  # answered when the reader is asleep again
        waiting.cancel()
    await server.append(CHANNEL)
    async with connected(server, cursors=store) as hub:
        event = await anext(hub.subscribe(CHANNEL))

    assert event.seq == 4


async def test_a_slow_reader_leaves_the_rest_in_the_hub(server):
    """The buffer of a reader that takes nothing stays bounded, and later it gets everything."""
    async with connected(server, buffer=10) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await reader.ready()
        for _ in range(30):
            await server.append(CHANNEL, count=100)
            held = len(reader._feed.items)
            assert held <= reader._feed.spill
        events = await take(reader, 3000)

    assert seqs(events) == list(range(1, 3001))


async def test_a_full_reader_does_not_hold_up_commands(server):
    """Answers are read although a reader is behind; its own events come later and complete."""
    async with connected(server, buffer=10) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        for n in range(20):
            await server.append(CHANNEL, count=50)
            assert (await hub.send("team:blue", str(n))).seq == n + 1
            assert len(reader._feed.items) <= reader._feed.spill + 2
        events = await take(reader, 1000)

    assert seqs(events) == list(range(1, 1001))


async def test_signals_come_only_to_those_who_asked(server):
    """A signal, which is not stored, is handed out on demand, and is never taken for an event."""
    typing = '{"channel":"conversation:42","type":"chat.typing","v":1,"payload":{"state":"start","user":"bob"}}'
    async with connected(server) as hub, connected(server) as deaf:
        reader, other = hub.subscribe(CHANNEL, signals=True), deaf.subscribe(CHANNEL)
        await reader.ready()
        await other.ready()
        for session in server.sessions:
            session.out.append(typing)
        await server.append(CHANNEL)
        heard, unheard = await take(reader, 2), await anext(other)

    assert isinstance(heard[0], Signal)
    assert heard[0].raw.decode() == typing
    assert (heard[1].seq, unheard.seq) == (1, 1)


async def test_a_first_refusal_is_raised_at_once(server):
    """`async with` fails with the hub's words when the token is no good."""
    server.hub.refusals["bad"] = {"code": 4001, "retry": "no"}

    with pytest.raises(ConnectionRefused) as refused:
        async with HubClient(server.url, "bad"):
            pass

    assert refused.value.code == 4001


async def test_a_later_refusal_ends_readers_and_commands(server):
    """A client that the hub will not have back says so in every place that waits."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL)
        await reader.ready()
        server.deaf = True
        answer = hub.submit("chat.message", CHANNEL, {"text": "x"})
        server.sessions[0].error(4019, "no")
        await server.push()
        await server.sockets[0].close(4019)

        for waiting in (anext(reader), answer, hub.command("agent.list")):
            with pytest.raises(ConnectionRefused):
                await waiting


async def test_an_expired_token_is_replaced(server):
    """4002 asks the token provider, plain or async, and the connection is made again."""
    server.hub.refusals["old"] = {"code": 4002, "retry": "refresh"}
    tokens = iter(["old", "new"])

    async def provider() -> str:
        return next(tokens)

    async with connected(server, token=provider) as hub:
        assert hub.welcome["user"] == "alice"


async def test_an_expired_text_token_is_the_end(server):
    """Without a provider nothing can be done about 4002."""
    server.hub.refusals["old"] = {"code": 4002, "retry": "refresh"}

    with pytest.raises(ConnectionRefused, match="4002"):
        await HubClient(server.url, "old").connect()


async def test_expiry_is_met_before_it_comes(server):
    """`connection.expiring` fetches a token and refreshes on the open socket."""
    tokens = iter(["first", "second"])
    async with connected(server, token=lambda: next(tokens)):
        server.sessions[0].send({"type": "connection.expiring", "payload": {"in_ms": 60_000}})
        await server.push()
        (frame,) = await server.until_seen("connection.refresh")

    assert frame["payload"] == {"token": "second"}
    assert len(server.sessions) == 1


async def test_the_hub_unreachable_is_said_after_the_time_given():
    """No hub at all is an error of its own, with the reason."""
    with pytest.raises(HubUnreachable, match=r"OSError|Connect call failed"):
        async with HubClient("http://127.0.0.1:1", "t", connect_timeout_s=0.5, jitter=lambda: 0.01):
            pass


async def test_the_next_address_is_tried(server):
    """With several addresses a dead one costs one attempt."""
    async with connected(server) as hub:
        assert hub.welcome["node"] == "n1"
    async with HubClient(["http://127.0.0.1:1", server.url], "t", jitter=lambda: 0.0) as hub:
        assert hub.welcome["node"] == "n1"


async def test_an_upgrade_refused_for_good_is_raised(server):
    """HTTP 404 will not become better by waiting; 503 does."""
    server.upgrade_status = 404
    with pytest.raises(ConnectionRefused, match="404"):
        await HubClient(server.url, "t").connect()
    server.upgrade_status = 503
    with pytest.raises(HubUnreachable):
        await HubClient(server.url, "t", connect_timeout_s=0.5, jitter=lambda: 0.01).connect()


async def test_a_silent_hub_is_left(server):
    """A half-open connection is dropped after two heartbeat intervals without a frame."""
    server.hub.ack = {"heartbeat_interval_ms": 20}
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await reader.ready()
        server.deaf = True
        while len(server.sessions) < 2:
            async with server.arrived:
                await server.arrived.wait()
        server.deaf = False
        hub.cut()
        await server.append(CHANNEL)

        assert (await anext(reader)).seq == 1
    beats = [frame for frame in server.sessions[0].seen if frame["type"] == "connection.heartbeat"]
    assert server.sessions[0].seen[0]["type"] == "connection.init"
    assert beats == [] or all("id" not in beat for beat in beats)


async def test_a_draining_hub_is_left_and_met_again(server):
    """After `connection.drain` and close 1012 the client is back after the time told, and misses nothing."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await reader.ready()
        server.sessions[0].send({"type": "connection.drain", "payload": {"reconnect_after_ms": 1}})
        await server.push()
        await server.sockets[0].close(1012)
        await server.append(CHANNEL)

        assert (await anext(reader)).seq == 1
    assert len(server.sessions) == 2


async def test_too_far_behind_reconnects_at_once(server):
    """4012 says that the cursor still works: it is used."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await server.append(CHANNEL)
        await anext(reader)
        server.sessions[0].error(4012, "now")
        await server.push()
        await server.sockets[0].close(4012)
        await server.append(CHANNEL)

        assert (await anext(reader)).seq == 2


async def test_a_message_that_is_no_message_breaks_the_socket_only(server):
    """A message that cannot be read is not guessed at: the client reconnects from its cursor."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await reader.ready()
        server.sessions[0].out.append('{"type": "chat.message", "seq": 1')
        await server.push()
        await server.until_seen("connection.reconnect")
        await server.append(CHANNEL)

        assert (await anext(reader)).seq == 1


async def test_a_channel_refused_for_good_ends_its_reader_only(server):
    """4003 for one channel leaves the others alone."""
    server.hub.refusals["team:secret"] = {"code": 4003, "retry": "no"}
    async with connected(server) as hub:
        refused, good = hub.subscribe("team:secret", after="0"), hub.subscribe(CHANNEL, after="0")
        with pytest.raises(HubError, match="4003"):
            await anext(refused)
        with pytest.raises(StopAsyncIteration):
            await anext(refused)
        await server.append(CHANNEL)

        assert (await anext(good)).seq == 1


async def test_a_channel_refused_for_now_is_asked_for_again(server):
    """A refusal with back-off is repeated until the hub gives in."""
    server.hub.refusals[CHANNEL] = {"code": 4013, "retry": "backoff", "retry_after_ms": 1}
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await server.until_seen("channel.subscribe", 3)
        server.hub.refusals.clear()
        await server.append(CHANNEL)

        assert (await anext(reader)).seq == 1


async def test_a_subscription_taken_away_says_why(server):
    """`channel.unsubscribed` that nobody asked for is raised, after what was delivered before it."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await server.append(CHANNEL)
        await reader.ready()
        server.sessions[0].send(
            {"type": "channel.unsubscribed", "channel": CHANNEL, "payload": {"reason": "permission_denied"}}
        )
        await server.push()

        assert (await anext(reader)).seq == 1
        with pytest.raises(ChannelClosed, match="permission_denied"):
            await anext(reader)


async def test_leaving_the_loop_unsubscribes(server):
    """An iterator that is dropped is unsubscribed without being asked, and the channel can be followed anew."""
    await server.append(CHANNEL, count=3)
    async with connected(server) as hub:
        async for event in hub.subscribe(CHANNEL, after="0"):
            assert event.seq == 1
            break
        gc.collect()
        (frame,) = await server.until_seen("channel.unsubscribe")
        again = await anext(hub.subscribe(CHANNEL, after="0"))

    assert frame["payload"] == {"channels": [CHANNEL]}
    assert again.seq == 1


async def test_one_channel_has_one_reader(server):
    """A second subscription of a channel on one client is a mistake and is called one."""
    async with connected(server) as hub:
        first = hub.subscribe(CHANNEL)
        with pytest.raises(ValueError, match="already followed"):
            hub.subscribe(CHANNEL)
        await first.aclose()
        async with hub.subscribe(CHANNEL) as second:
            await second.ready()


async def test_closing_ends_everything_cleanly(server):
    """`aclose` sends 1000, ends iterators quietly, fails open commands, and leaves no task behind."""
    before = asyncio.all_tasks()
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL)
        await reader.ready()
        server.deaf = True
        answer = hub.submit("chat.message", CHANNEL, {"text": "x"})
        waiting = asyncio.create_task(anext(reader, None))
        await asyncio.sleep(0)

    assert await waiting is None
    with pytest.raises(HubClosed):
        await answer
    await server.sockets[0].wait_closed()
    assert server.sockets[0].close_code == 1000
    handlers = {task for task in asyncio.all_tasks() - before if "conn_handler" in repr(task)}
    assert asyncio.all_tasks() - before - handlers == set()
    with pytest.raises(HubClosed):
        await hub.send(CHANNEL, "too late")


async def test_a_cancelled_wait_loses_nothing(server):
    """Cancelling a read gives the event to the next read; cancelling a command forgets it."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await reader.ready()
        waiting = asyncio.create_task(anext(reader))
        await asyncio.sleep(0)
        waiting.cancel()
        await server.append(CHANNEL)
        server.deaf = True
        asking = asyncio.create_task(hub.send(CHANNEL, "x"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        await asyncio.sleep(0)

        assert (await anext(reader)).seq == 1
        assert len(hub._core.outbox) == 0


async def test_the_outbox_is_bounded(server):
    """A sender that never waits is told so."""
    async with connected(server, max_pending=2) as hub:
        server.deaf = True
        answers = [hub.submit("chat.message", CHANNEL, {"text": str(n)}) for n in range(2)]
        with pytest.raises(OutboxFull):
            hub.submit("chat.message", CHANNEL, {"text": "2"})
        for answer in answers:
            answer.cancel()


async def test_presence_and_other_wishes_reach_the_hub(server):
    """Options that a cursor cannot hold are asked for by a subscription object, also when resuming."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0", presence=True, state=False)
        await server.append(CHANNEL)
        await anext(reader)
        hub.cut()
        frame = (await server.until_seen("connection.reconnect"))[-1]

    (wanted,) = frame["payload"]["channels"]
    assert (wanted["presence"], wanted["state"], wanted["seq"]) == (True, False, 1)


async def test_a_frame_without_id_is_sent_once_or_not_at_all(server):
    """`publish_nowait` says whether there was a connection to hand it to."""
    async with connected(server) as hub:
        assert hub.publish_nowait("chat.typing", CHANNEL, {"state": "start"})
        (frame,) = await server.until_seen("chat.typing")

        assert "id" not in frame
    assert not hub.publish_nowait("chat.typing", CHANNEL, {"state": "stop"})


async def test_rewind_begins_with_the_newest(server):
    """`rewind` replays the last so many, and a cut afterwards goes on from the cursor."""
    await server.append(CHANNEL, count=9)
    async with connected(server) as hub, aclosing(hub.subscribe(CHANNEL, rewind=2)) as reader:
        last = await take(reader, 2)
        hub.cut()
        await server.append(CHANNEL)

        assert seqs(last) == [8, 9]
        assert (await anext(reader)).seq == 10


async def test_closing_with_a_backlog_is_a_clean_close(server):
    """A client whose reader is far behind still closes with 1000: what the hub sent meanwhile is passed over."""
    await server.append(CHANNEL, "x" * 2000, count=3000)
    async with connected(server, buffer=10) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await take(reader, 1)
    await server.sockets[0].wait_closed()

    assert server.sockets[0].close_code == 1000


async def test_history_keeps_the_bytes_and_state_its_seq(server):
    """The events of a page compare equal, to the byte, with the live ones."""
    async with connected(server) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        await server.append(CHANNEL, "grüße", count=3)
        live = await take(reader, 3)
        page = await hub.history(CHANNEL, limit=2)
        state = await hub.state(CHANNEL)

    assert list(page.events) == live[:2]
    assert [event.raw for event in page.events] == [event.raw for event in live[:2]]
    assert (page.next, page.gap) == (live[1].id, None)
    assert (state.state, state.state_at) == ({"count": 3}, 3)


async def test_a_reply_without_a_receipt_is_not_taken_for_one(server):
    """Asking a command that stores nothing for its receipt is a mistake that is named."""
    async with connected(server) as hub:
        reply = await hub.command("agent.list")

    with pytest.raises(ValueError, match="stores nothing"):
        _ = reply.stored


async def test_a_token_provider_that_fails_is_tried_again(server):
    """The issuer's trouble is a network trouble like others: said when connecting takes too long, survived otherwise."""
    answers = iter([OSError("issuer away"), "t"])

    def provider() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with connected(server, token=provider) as hub:
        assert hub.welcome["user"] == "alice"

    def never() -> str:
        raise OSError("issuer away")

    with pytest.raises(HubUnreachable, match="issuer away"):
        await HubClient(server.url, never, connect_timeout_s=0.5, jitter=lambda: 0.01).connect()


async def test_what_a_client_must_not_do_is_named(server):
    """Wrong addresses, oversized commands, two readers of one iterator, use before connecting."""
    with pytest.raises(ValueError, match="url must look like"):
        HubClient("ftp://host", "t")
    with pytest.raises(RuntimeError, match="not connected"):
        _ = HubClient(server.url, "t").welcome
    server.hub.ack = {"message_size_limit_bytes": 100}
    async with connected(server) as hub:
        with pytest.raises(HubError, match="4011"):
            await hub.send(CHANNEL, "x" * 100)
        reader = hub.subscribe(CHANNEL)
        first = asyncio.create_task(anext(reader))
        await reader.ready()
        with pytest.raises(RuntimeError, match="another task"):
            await anext(reader)
        first.cancel()


async def test_a_command_too_large_for_the_next_hub_fails(server):
    """A smaller limit after a reconnect settles what can no longer be sent, instead of breaking the socket for ever."""
    async with connected(server) as hub:
        server.deaf = True
        answer = hub.submit("chat.message", CHANNEL, {"text": "x" * 500})
        async with server.arrived:
            await server.arrived.wait()
        server.hub.ack = {"message_size_limit_bytes": 300}
        server.deaf = False
        hub.cut()

        with pytest.raises(HubError, match="4011"):
            await answer


@pytest.mark.parametrize(
    ("given", "socket", "http"),
    [
        ("http://h:8000", "ws://h:8000/ws", "http://h:8000"),
        ("https://h/rt/", "wss://h/rt/ws", "https://h/rt"),
        ("wss://h/rt/ws", "wss://h/rt/ws", "https://h/rt"),
        ("ws://h/rt", "ws://h/rt/ws", "http://h/rt"),
    ],
)
def test_a_hub_under_a_prefix_has_its_socket_there(given: str, socket: str, http: str) -> None:
    """Whichever way the address is given: a guess that is wrong by a path would go over HTTP for ever."""
    assert (socket_url(given), http_base(socket_url(given))) == (socket, http)


async def test_control_c_ends_without_a_word_of_complaint(server):
    """SIGINT in the middle of a loop: the interrupt, no pending tasks, no unraisable errors; code 1000 for the hub."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-W", "error", "-c", INTERRUPTED, server.url,
        cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip # many arguments
    await server.until_seen("chat.message")
    process.send_signal(signal.SIGINT)
    _, complaints = await process.communicate()

    assert complaints.decode().splitlines()[-1:] == ["KeyboardInterrupt"]
    assert not any(word in complaints for word in (b"never", b"pending", b"destroyed", b"Warning", b"ignored"))
    assert server.sockets[0].close_code == 1000


INTERRUPTED = """
import asyncio, sys
from hub.client import HubClient

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a slow machine is no complaint
    async with HubClient(sys.argv[1], "t") as hub:
        reader = hub.subscribe("conversation:42", after="0")
        await hub.send("conversation:42", "ready")
        async for event in reader:
            pass

asyncio.run(main())
"""
