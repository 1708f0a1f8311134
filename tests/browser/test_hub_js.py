"""hub.js in a real browser against a hub that does, on demand, what broken networks and hubs do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from support.js_client import JsClient
from support.model_hub import ModelHub
from support.model_hub_server import ModelHubServer, serving
from support.nodes import Node, running_node, token

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

CHANNEL = "conversation:1"
REPLAY_EVENTS = 10_500  # more than a reader may leave waiting


@pytest_asyncio.fixture(loop_scope="session")
async def hub() -> AsyncIterator[ModelHubServer]:
    async with serving(ModelHub()) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def page(node: Node, browser: Browser) -> AsyncIterator[Page]:
    """A tab of the console's origin, without its policy: the hubs of these tests are of other origins."""
    page = await browser.new_page(bypass_csp=True)
    await page.goto(f"{node.url}/console")
    yield page
    await page.close()


@pytest_asyncio.fixture(loop_scope="session")
async def js(page: Page) -> JsClient:
    return JsClient(page)


def greetings(hub: ModelHubServer) -> list[Any]:
    """The payload of each handshake, oldest first."""
    return [session.greeted["payload"] for session in hub.sessions if session.greeted]


def cut(hub: ModelHubServer) -> None:
    """TCP reset of the newest socket, no close frame."""
    hub.sockets[-1].transport.abort()


def lose_next(hub: ModelHubServer) -> None:
    """The hub handles the next message, but its answer is lost with the socket."""
    push = hub.push

    async def lose() -> None:
        hub.push = push  # type: ignore[method-assign]  # once
        hub.sessions[-1].out.clear()
        cut(hub)

    hub.push = lose  # type: ignore[method-assign]


async def test_every_channel_is_resumed_with_its_cursor_in_one_message(hub: ModelHubServer, js: JsClient) -> None:
    """After a reset the first frame of the next socket carries session, client and all cursors, and only what was missed comes."""
    await js.start(hub.url)
    await js.follow(CHANNEL, after="0")
    await js.follow("conversation:2", state=False)
    await js.items("subscribed", 2)
    await hub.append(CHANNEL, "one")
    await js.texts(1)
    cut(hub)
    hub.hub.append(CHANNEL, "two")
    hub.hub.append("conversation:2", "three")

    assert sorted(await js.texts(3)) == ["one", "three", "two"]
    first, second = greetings(hub)
    assert second["session_id"] == "s1"
    assert (first["capabilities"], first["cursors"]) == (["batch", "live_state"], {})
    assert second["cursors"] == {CHANNEL: {"after": "1-0", "seq": 1, "epoch": "e1"}}
    assert second["channels"] == [{"channel": "conversation:2", "after": "0", "seq": 0, "epoch": "e2", "state": False}]
    assert [frame["type"] for frame in hub.sessions[-1].seen][:1] == ["connection.reconnect"]


async def test_a_hole_is_never_handed_out(hub: ModelHubServer, js: JsClient) -> None:
    """An event left out without a gap ends the socket; the events come in order from the cursor."""
    await js.start(hub.url)
    await js.follow(CHANNEL, after="0")
    await js.items("subscribed", 1)
    hub.hub.append(CHANNEL, "one")
    hub.hub.append(CHANNEL, "left out")
    hub.sessions[0].out.pop()
    await hub.append(CHANNEL, "three")

    assert await js.texts(3) == ["one", "left out", "three"]
    assert len(greetings(hub)) == 2
    assert (await js.errors(1))[0]["name"] == "connection_lost"


async def test_duplicates_are_dropped(hub: ModelHubServer, js: JsClient) -> None:
    """The same seq again, in an array or alone, is handed out once."""
    await js.start(hub.url)
    await js.follow(CHANNEL, after="0")
    await js.items("subscribed", 1)
    hub.hub.append(CHANNEL, "one")
    (wire,) = hub.sessions[0].out
    hub.sessions[0].out = [f"[{wire},{wire}]", wire]
    await hub.append(CHANNEL, "two")

    assert await js.texts(2) == ["one", "two"]
    assert len(hub.sockets) == 1


async def test_a_hub_that_keeps_leaving_out_is_given_up(hub: ModelHubServer, js: JsClient) -> None:
    """After a few holes from one cursor the subscription ends with an error instead of asking for ever."""
    for number in range(3):
        hub.hub.append(CHANNEL, str(number))
    del hub.hub.logs[CHANNEL].events[1]
    await js.start(hub.url)
    await js.begin(
        """async (channel) => { for await (const item of lab.client.subscribe(channel, { after: "0" })); }""", CHANNEL
    )

    assert "repeatedly left out the events after seq 1" in (await js.outcome())["error"]


async def test_a_gap_is_told_before_what_follows_it(hub: ModelHubServer, js: JsClient) -> None:
    """Events trimmed away meanwhile are an item of its own, with the state; then live events follow."""
    await js.start(hub.url)
    await js.follow(CHANNEL, after="0")
    await js.items("subscribed", 1)
    await hub.append(CHANNEL, "one")
    await js.texts(1)
    cut(hub)
    for _ in range(4):
        hub.hub.append(CHANNEL, "gone")
    hub.hub.trim(CHANNEL, keep=1)
    (gap,) = await js.items("gap", 1)
    await hub.append(CHANNEL, "six")

    assert await js.texts(2) == ["one", "six"]
    assert (gap["reason"], gap["from_seq"], gap["to_seq"], gap["state"]) == ("trimmed", 2, 4, {"count": 5})
    assert gap["cursor"] == {"after": "5-0", "seq": 5, "epoch": "e1"}


async def test_a_vanished_stream_is_a_gap(hub: ModelHubServer, js: JsClient) -> None:
    """A log that broke under a live subscription is told, and the new life's first event is taken."""
    await js.start(hub.url)
    await js.follow(CHANNEL)
    await js.items("subscribed", 1)
    await hub.append(CHANNEL, "old")
    await js.texts(1)
    hub.hub.flush(CHANNEL)
    await hub.append(CHANNEL, "new")

    assert await js.texts(2) == ["old", "new"]
    assert [gap["reason"] for gap in await js.items("gap", 1)] == ["epoch_changed"]


async def test_an_unanswered_command_is_sent_again_under_its_id(hub: ModelHubServer, js: JsClient) -> None:
    """Stored, but the answer was lost with the socket: the repetition is the same frame and is stored once."""
    await js.start(hub.url)
    lose_next(hub)
    await js.begin("(channel) => lab.client.send(channel, 'once')", CHANNEL)
    reply = await js.outcome()

    first, second = await hub.until_seen("chat.message", 2)
    assert first == second
    assert reply["type"] == "message.received"
    assert reply["payload"]["duplicate"] is True
    assert len(hub.hub.logs[CHANNEL].events) == 1


async def test_a_command_that_is_put_off_is_repeated_and_later_ones_wait(hub: ModelHubServer, js: JsClient) -> None:
    """ "Later" to a command holds its channel's commands back, so that they are stored in the order given."""
    hub.hub.later["c1"] = 2
    await js.start(hub.url)
    await js.begin(
        """async (channel) => {
            const first = lab.client.command("chat.message", channel, { text: "first" }, "c1");
            await lab.until(() => lab.errors.length === 1);
            await Promise.all([first, lab.client.send(channel, "second")]);
        }""",
        CHANNEL,
    )
    await js.outcome()

    assert [wire.count('"first"') for _, _, wire in hub.hub.logs[CHANNEL].events] == [1, 0]
    assert [error["willRetry"] for error in await js.errors(2)] == [True, True]


async def test_a_refused_command_fails_with_its_code(hub: ModelHubServer, js: JsClient) -> None:
    """A final refusal settles the promise; the connection goes on."""
    hub.hub.refusals["bad"] = {"code": 4003, "retry": "no"}
    await js.start(hub.url)
    await js.begin("(channel) => lab.client.send(channel, 'bad')", CHANNEL)

    assert await js.outcome() == {"error": 4003}
    assert await js.read("lab.client.state") == "ready"


async def test_a_message_over_the_hubs_limit_is_refused_here(hub: ModelHubServer, js: JsClient) -> None:
    """A message that would cost the socket (1009) is not sent at all; the limit counts bytes, not letters."""
    hub.hub.ack = {"message_size_limit_bytes": 1_000}
    await js.start(hub.url)
    await js.begin("(channel) => lab.client.send(channel, 'é'.repeat(480))", CHANNEL)

    assert await js.outcome() == {"error": 4011}
    assert CHANNEL not in hub.hub.logs


async def test_an_expired_token_is_replaced_by_the_provider(hub: ModelHubServer, js: JsClient) -> None:
    """4002 asks the provider for another token and comes back at once."""
    hub.hub.refusals["old"] = {"code": 4002, "retry": "refresh"}
    await js.start(hub.url, ["old", "new"])
    await js.until_state("ready")

    assert await js.read("lab.asked") == 2
    assert await js.errors(1) == [{"code": 4002, "name": "some_name", "willRetry": True}]


async def test_a_token_that_is_refused_for_good_ends_everything(hub: ModelHubServer, js: JsClient) -> None:
    """4001 is final: `connect` and the iteration fail with it, and no other socket is opened."""
    hub.hub.refusals["forged"] = {"code": 4001, "retry": "no"}
    await js.make(hub.url, "forged")
    await js.begin("""async () => { for await (const item of lab.client.subscribe("conversation:1")); }""")
    await js.connect()

    assert await js.outcome() == {"error": 4001}
    await js.begin("() => lab.client.connect()")
    assert await js.outcome() == {"error": 4001}
    assert await js.read("lab.client.state") == "closed"
    assert len(hub.sockets) == 1


async def test_a_fresh_token_is_handed_in_before_the_old_one_expires(hub: ModelHubServer, js: JsClient) -> None:
    """`connection.expiring` is answered by `connection.refresh` on the same socket."""
    await js.start(hub.url, ["first", "second"])
    hub.sessions[0].send({"type": "connection.expiring", "payload": {"in_ms": 60_000}})
    await hub.push()
    (refresh,) = await hub.until_seen("connection.refresh")

    assert refresh["payload"] == {"token": "second"}
    assert len(hub.sockets) == 1


async def test_a_half_open_socket_is_noticed(hub: ModelHubServer, js: JsClient) -> None:
    """Two signs of life that nothing answers, and the client comes back over another socket."""
    await js.stop_time()
    await js.start(hub.url)
    for beat in (1, 2, 3):
        await js.pass_time(15_000)
        await hub.until_seen("connection.heartbeat", beat)
        await js.heard(1 + beat)  # after the `connection.ack`
    assert len(hub.sockets) == 1
    hub.sessions[0].receive = lambda message: None  # type: ignore[method-assign]  # this socket answers nothing more
    await js.pass_time(45_000)
    (error,) = await js.errors(1)
    await js.go_on()
    await js.until_state("ready")

    assert (error["name"], error["willRetry"]) == ("connection_lost", True)
    assert len(hub.sockets) == 2


async def test_cursors_outlive_the_page(hub: ModelHubServer, js: JsClient, page: Page) -> None:
    """With a cursor store, a page that is loaded anew gets what it has not seen, and nothing else."""
    await js.start(hub.url, is_kept=True)
    await js.follow(CHANNEL)
    await js.items("subscribed", 1)
    await hub.append(CHANNEL, "seen")
    await js.texts(1)
    await page.reload()
    hub.hub.append(CHANNEL, "missed")
    await js.start(hub.url, is_kept=True)
    await js.follow(CHANNEL)

    assert await js.texts(1) == ["missed"]
    (receipt,) = await js.items("receipt", 1)
    assert (receipt["from_seq"], receipt["to_seq"], receipt["count"], receipt["gap"]) == (2, 2, 1, None)


async def test_a_reader_that_falls_behind_leaves_the_rest_in_the_log(hub: ModelHubServer, js: JsClient) -> None:
    """An iteration that is not read holds a bounded number of items, and still gets every event."""
    for number in range(REPLAY_EVENTS):
        hub.hub.append(CHANNEL, str(number))
    await js.start(hub.url)
    await js.begin(
        """async (channel) => {
            const subscription = lab.client.subscribe(channel, { after: "0", state: false });
            await lab.until(() => lab.goOn);
            const seqs = [];
            for await (const item of subscription) {
                if (item.kind === "event") seqs.push(item.event.seq);
                if (seqs.at(-1) === 10500) break;
            }
            return [seqs.length, seqs.every((seq, index) => seq === index + 1), subscription.cursor.seq];
        }""",
        CHANNEL,
    )
    await hub.until_seen("channel.unsubscribe")
    await js.read("lab.goOn = true, lab.told()")

    assert await js.outcome() == [REPLAY_EVENTS, True, REPLAY_EVENTS]


async def test_a_store_that_fails_does_not_cost_the_connection(hub: ModelHubServer, js: JsClient, page: Page) -> None:
    """A browser that refuses to keep cursors costs no event, and the page is told."""
    await js.start(hub.url, is_kept=True)
    await js.read("Storage.prototype.setItem = () => { throw new Error('no room'); }")
    async with page.expect_event("pageerror") as fault:
        await js.follow(CHANNEL, after="0")
        await hub.until_seen("channel.subscribe")
        await hub.append(CHANNEL, "one")
        await hub.append(CHANNEL, "two")

    assert await js.texts(2) == ["one", "two"]
    assert len(hub.sockets) == 1
    assert "no room" in str(await fault.value)


async def test_a_draining_hub_is_left_alone_for_as_long_as_it_says(hub: ModelHubServer, js: JsClient) -> None:
    """`connection.drain` spreads clients; the next socket comes when it told, and no earlier."""
    await js.stop_time()
    await js.start(hub.url)
    hub.sessions[0].send({"type": "connection.drain", "payload": {"reconnect_after_ms": 300}})
    hub.sessions[0].closed = 1012
    await hub.push()
    await hub.sockets[0].close(1012)
    await js.until_state("waiting")
    await js.pass_time(299)
    assert await js.read("lab.client.state") == "waiting"
    await js.pass_time(2)
    await js.until_state("ready")

    assert len(hub.sockets) == 2


async def test_a_suspended_client_stays_away_until_it_is_connected_again(hub: ModelHubServer, js: JsClient) -> None:
    """The plug: no socket, no try, commands are kept; `connect` resumes and sends them."""
    await js.start(hub.url)
    await js.follow(CHANNEL, after="0")
    await js.items("subscribed", 1)
    await js.read("lab.client.suspend()")
    await js.begin("(channel) => lab.client.send(channel, 'kept')", CHANNEL)
    hub.hub.append(CHANNEL, "meanwhile")
    assert await js.read("lab.client.state") == "offline"
    assert len(hub.sockets) == 1

    await js.read("void lab.client.connect()")
    assert await js.texts(2) == ["meanwhile", "kept"]
    assert (await js.outcome())["type"] == "message.received"


async def test_a_closed_client_says_so(hub: ModelHubServer, js: JsClient) -> None:
    """After `close` iterations end quietly, what is begun later fails, and the hub's socket is closed."""
    await js.start(hub.url)
    await js.begin(
        """async () => { for await (const item of lab.client.subscribe("conversation:1")); return "ended"; }"""
    )
    await js.read("lab.client.close()")

    assert await js.outcome() == "ended"
    for late in (
        "lab.client.send('conversation:1', 'late')",
        "lab.client.subscribe('conversation:1')[Symbol.asyncIterator]().next()",
    ):
        await js.begin(f"() => {late}")
        assert await js.outcome() == {"error": "the client is closed"}
    await hub.sockets[0].wait_closed()


async def test_a_page_that_is_not_allowed_is_told_and_gives_up(redis_url: str, js: JsClient) -> None:
    """It tried for ever: a browser keeps the status of a refused upgrade to itself."""
    async with running_node(redis_url) as elsewhere:
        await js.start(elsewhere.ws_url)
        await js.until_state("closed")
        (error,) = await js.errors(1)

    assert (error["code"], error["name"], error["willRetry"]) == (4003, "permission_denied", False)


async def test_an_address_that_is_none_is_given_up_at_once(js: JsClient, page: Page) -> None:
    """Another try is of no use."""
    await js.make("ftp://127.0.0.1/")
    failure = await page.evaluate("() => lab.client.connect().catch((error) => [error.name, error.message])")
    await js.until_state("closed")

    assert failure[0] == "cannot_connect"
    assert "begins with https: or wss:" in failure[1]


async def test_a_trace_goes_with_each_command(node: Node, page: Page) -> None:
    """On a socket it is in the command's `meta`."""
    context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    told = await page.evaluate(
        """async ([token, context]) => {
            const { HubClient } = await import("/hub.js");
            const hub = new HubClient(location.origin, token, { traceparent: context });
            await hub.connect();
            await hub.send("conversation:traced", "one");
            const { payload } = await hub.command("channel.history", "conversation:traced");
            const found = [hub.transport, payload.events.map(({ meta }) => meta.traceparent)];
            hub.close();
            return found;
        }""",
        [token("alice", "traced"), context],
    )

    assert told == ["websocket", [context]]
