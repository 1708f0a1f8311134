"""hub.js in Node 20, which has no WebSocket: over HTTP against a real hub."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.nodes import Node, running_node, token
from support.uploads import file_hub

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="no Node here")

CLIENT = Path(__file__).parents[2] / "hub/client_js/hub.js"
BEGIN = """
const { HubClient } = await import(process.argv[1]);
delete globalThis.WebSocket; // Node has one from version 22 on
const told = (value) => console.log(JSON.stringify(value));
const hub = new HubClient(process.argv[2], process.argv[3]);
hub.addEventListener("error", ({ detail }) => told({ error: [detail.error.code, detail.error.message, detail.willRetry] }));
"""


async def run_in_node(program: str, url: str, bearer: str) -> list[Any]:
    """Run a program in a Node of its own; what it told, as values."""
    arguments = ("node", "--input-type=module", "-e", BEGIN + program, str(CLIENT), url, bearer)
    node = await asyncio.create_subprocess_exec(*arguments, stdout=-1, stderr=-1)
    try:
        out, err = await asyncio.wait_for(node.communicate(), 60)
    except TimeoutError:
        node.kill()
        out, err = await node.communicate()
    assert not err, err.decode() + out.decode()
    return [json.loads(line) for line in out.decode().splitlines()]


@pytest.fixture
async def node(redis_url: str):
    async with running_node(redis_url) as node:
        yield node


async def test_streams_and_posts_carry_a_conversation(node: Node, tenant: str) -> None:
    """Sent, followed from the beginning, read back, and the state is there; nothing is missing and nothing comes twice."""
    told = await run_in_node(
        """
        const welcome = await hub.connect();
        const sent = await hub.send("conversation:1", "one");
        const items = [];
        for await (const item of hub.subscribe("conversation:1", { after: "0" })) {
            items.push([item.kind, item.event?.payload.text ?? item.count ?? item.state.count]);
            if (item.kind === "receipt") hub.send("conversation:1", "two");
            if (items.length === 4) break;
        }
        told([hub.transport, welcome.user, sent.type, sent.payload.seq, items]);
        const page = await hub.command("channel.history", "conversation:1", { types: ["chat.*"], limit: 1 });
        told([page.type, page.payload.events.length, page.payload.next !== null]);
        told((await hub.command("channel.state", "conversation:1")).payload.state.count);
        hub.close();
        """,
        node.url,
        token("alice", tenant),
    )
    items = [["subscribed", 1], ["event", "one"], ["receipt", 1], ["event", "two"]]

    assert told == [["http-stream", "alice", "message.received", 1, items], ["channel.history", 1, True], 2]


@pytest.mark.parametrize("way", ["http-stream", "http-poll"])
async def test_the_newest_events_and_more_channels_than_may_wait(node: Node, tenant: str, way: str) -> None:
    """HTTP has no rewind, and a browser no seventh connection: the client finds the place, and polls in turn."""
    told = await run_in_node(
        """
        const way = "WAY";
        const plain = fetch;
        if (way === "http-poll") hub.close();
        const held = () => Promise.reject(new TypeError("held back"));
        const refusing = (url, init) => (String(url).includes("/stream") ? held() : plain(url, init));
        const [url, token] = process.argv.slice(2);
        const client = way === "http-poll" ? new HubClient(url, token, { fetch: refusing }) : hub;
        await client.connect();
        for (let number = 1; number <= 4; number += 1) await client.send("conversation:1", `message ${number}`);
        const found = {};
        const follow = (channel, options, count) => new Promise((enough) => {
            found[channel] = [];
            client.subscribe(channel, { ...options, onItem: ({ kind, event, from_seq, to_seq, count: replayed }) => {
                if (kind === "event") found[channel].push(event.seq);
                if (kind === "receipt") found[channel].push([from_seq, to_seq, replayed]);
                if (found[channel].length === count) enough();
            } });
        });
        const first = follow("conversation:1", { rewind: 2 }, 3);
        const short = follow("conversation:2", { rewind: 2 }, 1);
        await Promise.all([first, short]);
        const more = Promise.all([3, 4, 5, 6].map((number) => follow(`conversation:${number}`, { after: "0" }, 2)));
        for (const number of [3, 4, 5, 6]) await client.send(`conversation:${number}`, "x");
        await more;
        told([client.transport, found]);
        client.close();
        """.replace("WAY", way),
        node.url,
        token("alice", tenant),
    )
    found = {"conversation:1": [3, 4, [3, 4, 2]], "conversation:2": [[None, None, 0]]}

    others = {f"conversation:{n}": [1] for n in (3, 4, 5, 6)}
    assert told[0][0] == way
    assert {name: items for name, items in told[0][1].items() if name in found} == found
    assert {
        name: [seq for seq in items if isinstance(seq, int)] for name, items in told[0][1].items() if name in others
    } == others


async def test_a_trace_goes_with_each_command(node: Node, tenant: str) -> None:
    """Over HTTP it is a header of the request."""
    context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    told = await run_in_node(
        """
        const given = ["CONTEXT", null];
        const traced = new HubClient(...process.argv.slice(2), { traceparent: () => given.shift() });
        await traced.connect();
        await traced.send("conversation:1", "one");
        await traced.send("conversation:1", "two");
        const { payload } = await traced.command("channel.history", "conversation:1");
        told(payload.events.map(({ meta }) => meta.traceparent ?? null));
        traced.close();
        """.replace("CONTEXT", context),
        node.url,
        token("alice", tenant),
    )

    assert told == [[context, None]]


async def test_refusals_are_the_hubs_own(node: Node, tenant: str) -> None:
    """A forged token ends the client; a forbidden channel its iteration; what only a socket takes is said to be so."""
    told = await run_in_node(
        """
        await hub.connect();
        const refusal = (error) => told([error.name, error.code]);
        await (async () => { for await (const item of hub.subscribe("team:1")) told(item.kind); })().catch(refusal);
        await hub.command("agent.list").catch(refusal);
        await hub.send("conversation:1", "").catch(refusal);
        hub.close();
        const forged = new HubClient(process.argv[2], process.argv[3] + "x");
        await forged.connect().catch(refusal);
        told(forged.state);
        """,
        node.url,
        token("alice", tenant, {"conversation:*": ["*"]}),
    )

    assert [one for one in told if "error" not in one] == [
        ["permission_denied", 4003], ["feature_disabled", 4024], ["invalid_message", 4005], ["invalid_token", 4001], "closed",
    ]  # fmt: skip # a refusal a place


UPLOAD = """
await hub.connect();
const seen = [];
const options = { filename: "hello.txt", mime: "text/plain", onProgress: (sent) => seen.push(sent) };
const file = await hub.upload("conversation:1", new Blob(["hello ".repeat(1000)]), options);
told([file.filename, file.size, file.ready.file_id === file.file_id, seen.at(-1)]);
hub.close();
"""


async def test_a_file_goes_up(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """One PUT, verified by the hub, also where there is no socket."""
    async with file_hub(redis_url, tenant, tmp_path / "data") as files:
        told = await run_in_node(UPLOAD, files.node.url, token("alice", tenant))

    assert told == [["hello.txt", 6000, True, 6000]]
