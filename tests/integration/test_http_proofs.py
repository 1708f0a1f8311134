"""Leaves in acknowledgements, proofs and tiles over HTTP: each compared with the archive, and checked with keys alone."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from hub.storage.archive import StoreArchive
from hub.storage.local import LocalStore
from streams.archive.heads import Head
from streams.archive.merkle import root_of, split_hashes, unpack_entries
from streams.archive.notes import PublicKey, open_checkpoint
from streams.channel import Channel, parse_channel
from streams.redis.append import checksum
from support.archive_rig import SIGNER, keeper, write
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import client

CommandLine = Callable[..., tuple[int, str, str]]
EVENTS = 300
KEY = ("--key", str(SIGNER.public))


class Place(NamedTuple):
    """A node with an archive, and a channel of 300 events in it."""

    node: Node
    channel: Channel
    data: Path

    async def archive(self) -> None:
        """A keeper's turn."""
        await keeper(self.node.hub.log, self.data / "archive", f"{self.channel.tenant}/*=hot_count:50").turn()

    def http(self, scope: str | None = None, grants: dict[str, list[str]] | None = None) -> httpx.AsyncClient:
        """A client with a token; by default a user's who may read conversations."""
        granted = {} if scope else {"conversation:*": ["read", "write"], "user:*": ["*"]} if grants is None else grants
        given = token("alice", self.channel.tenant, granted, **({"scope": scope} if scope else {}))
        return httpx.AsyncClient(base_url=self.node.url, headers={"Authorization": f"Bearer {given}"})


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    return module_redis.url


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of this file's Redis: one archive for all its tenants."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "archive").mkdir()
    return folder


@pytest.fixture
async def place(redis_url: str, tenant: str, data: Path) -> AsyncIterator[Place]:
    channel = parse_channel(tenant, "conversation:a")
    async with running_node(redis_url, data_dir=str(data)) as node:
        await write(node.hub.log, channel, EVENTS)
        found = Place(node, channel, data)
        await found.archive()
        yield found


async def test_the_leaf_of_an_acknowledgement_is_the_one_that_the_archive_records(place: Place, tenant: str) -> None:
    """Over a socket and HTTP, for who asks; a duplicate has none."""
    wire, url = place.channel.wire, f"/v1/channels/{place.channel.wire}/events"
    acked: list[str] = []
    async with client(place.node.ws_url, token("bob", tenant), client_id="tab", capabilities=["leaf"]) as socket:
        said = [await socket.say(wire, text) for text in ("hello", 'ünï\u2028 "quoted" \n\U0001f600')]
        said.append(await socket.answer("custom.noted", {"a": [1, None]}, wire))
        acked += [one["payload"]["leaf"] for one in said]
    async with place.http() as http, client(place.node.ws_url, token("bob", tenant)) as plain:
        say = {"type": "chat.message", "payload": {"text": "over HTTP"}}
        trace = {"Idempotency-Key": "k", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        stored = await http.post(url, params={"leaf": "true"}, json=say, headers=trace)
        again = await http.post(url, params={"leaf": "true"}, json=say, headers=trace)
        acked.append(stored.json()["leaf"])
        await place.archive()
        tiles = [
            (await http.get(f"/v1/channels/{wire}/tile/0/{tile}")).content
            for tile in ("000", f"001.p/{EVENTS + len(acked) - 256}")
        ]
        assert "leaf" not in again.json()
        assert "leaf" not in (await http.post(url, json=say)).json()
        assert "leaf" not in (await plain.say(wire, "without"))["payload"]
    recorded = split_hashes(b"".join(tiles))
    assert [leaf.hex() for leaf in recorded[EVENTS:]] == acked


async def test_a_forgery_before_the_first_checkpoint_shows_to_who_kept_the_leaf(place: Place) -> None:
    """Payload and checksum are rewritten under the event's id, so the audit finds nothing; the recorded leaf is another one."""
    channel = parse_channel(place.channel.tenant, "conversation:forged")
    path, log = f"/v1/channels/{channel.wire}", place.node.hub.log
    async with place.http() as http:
        say = {"type": "chat.message", "payload": {"text": "We pay 100"}}
        acked = (await http.post(f"{path}/events", params={"leaf": "true"}, json=say)).json()
        stream, calls = log.keys.of(channel).stream, log.calls_of(channel)
        ((event_id, fields),) = await calls.call("XRANGE", stream, "-", "+")
        fields[9] = b'{"text":"We pay 10"}'
        fields[13] = checksum(channel.path.encode(), fields[3], fields[5], fields[7], fields[9], fields[11])
        await calls.call("DEL", stream)
        await calls.call("XADD", stream, event_id, *fields)
        await place.archive()
        audit = (await http.get(f"{path}/audit")).json()
        recorded = (await http.get(f"{path}/tile/0/000.p/1")).content.hex()
    assert audit["whole"] is True
    assert recorded != acked["leaf"]


async def test_proofs_are_checked_offline_and_small(place: Place, command_line: CommandLine, tmp_path: Path) -> None:
    """Of an event in the archive and of one in Redis; and that a checkpoint continues the one that was kept."""
    wire = place.channel.wire
    proof, event, kept = tmp_path / "proof", tmp_path / "event", tmp_path / "kept"
    async with place.http() as http:
        kept.write_bytes((await http.get("/v1/log/checkpoint")).content)
        await write(place.node.hub.log, place.channel, 20)
        await place.archive()
        page = (await http.get(f"/v1/channels/{wire}/events", params={"limit": 1000})).json()["events"]
        for one in (page[0], page[100], page[-1]):
            answer = await http.get(f"/v1/channels/{wire}/events/{one['id']}/proof")
            assert (answer.status_code, len(answer.content) <= 2_048) == (200, True)
            proof.write_bytes(answer.content)
            event.write_text(json.dumps(one, separators=(",", ":"), ensure_ascii=False) + "\n")
            code, out, _ = command_line("audit", "check", str(proof), "--event", str(event), *KEY)
            assert (code, out.startswith(f"event {one['seq']} of {place.channel.path}")) == (0, True)
        consistent = await http.get("/v1/log/consistency", params={"old": 1})
        first = await http.get("/v1/log/checkpoint/1")
        missing = [await http.get(f"/v1/channels/{wire}/events/{one}/proof") for one in ("1-1", "x")]
        beyond = await http.get("/v1/log/consistency", params={"old": 9})
    assert first.content == kept.read_bytes()
    assert (consistent.status_code, len(consistent.content) <= 2_048) == (200, True)
    proof.write_bytes(consistent.content)
    code, out, _ = command_line("audit", "check", str(proof), "--known", str(kept), *KEY)
    assert (code, "with 2 heads continues the one with 1" in out) == (0, True)
    code, out, _ = command_line("audit", "check", str(kept), *KEY)
    assert (code, "with 1 heads, signed by hub.test" in out) == (0, True)
    kept_as_told = kept.read_bytes()
    kept.write_bytes(kept_as_told.replace(b"\n1\n", b"\n2\n"))
    assert command_line("audit", "check", str(kept), *KEY)[0] == 1
    kept.write_bytes(kept_as_told)
    proof.write_bytes(consistent.content.replace(b'"path":"', b'"path":"' + b64encode(bytes(33)).strip(b"=")))
    assert command_line("audit", "check", str(proof), "--known", str(kept), *KEY)[0] == 1
    assert [answer.status_code for answer in (*missing, beyond)] == [404, 422, 404]


async def test_a_proof_is_of_the_life_of_the_channel_that_has_the_event(
    place: Place, command_line: CommandLine, tmp_path: Path
) -> None:
    """The archive has two events with this seq, recorded within seconds of each other."""
    log, names = place.node.hub.log, place.node.hub.log.keys.of(place.channel)
    await log.calls_of(place.channel).call("DEL", names.stream, names.meta)
    await write(log, place.channel, 20, "once more")
    await place.archive()
    proof, event, wire = tmp_path / "proof", tmp_path / "event", place.channel.wire
    async with place.http() as http:
        one = (await http.get(f"/v1/channels/{wire}/events", params={"limit": 1000})).json()["events"][2]
        proof.write_bytes((await http.get(f"/v1/channels/{wire}/events/{one['id']}/proof")).content)
    event.write_text(json.dumps(one, separators=(",", ":"), ensure_ascii=False) + "\n")

    code, out, err = command_line("audit", "check", str(proof), "--event", str(event), *KEY)

    assert (code, out.startswith(f"event {one['seq']} of {place.channel.path}")) == (0, True), err


async def test_the_log_is_read_in_the_layout_of_tlog_tiles(place: Place) -> None:
    """An auditor's own tool computes the roots from tiles and entries; who may not read all channels gets no entries."""
    async with place.http("auditor") as http, place.http() as user:
        note = open_checkpoint((await http.get("/v1/log/checkpoint")).content, [PublicKey.parse(KEY[1])]).checkpoint
        tile = await http.get(f"/v1/log/tile/0/000.p/{note.size}")
        entries = await http.get(f"/v1/log/tile/entries/000.p/{note.size}")
        assert root_of(split_hashes(tile.content)) == note.root
        (head,) = map(Head.parse, unpack_entries(entries.content))
        path = f"/v1/channels/{place.channel.wire}/tile"
        leaves = [(await http.get(f"{path}/0/{name}")).content for name in ("000", f"001.p/{head.size - 256}")]
        assert (head.channel, root_of(split_hashes(b"".join(leaves)))) == (place.channel.path, head.root)
        refused = [await user.get(f"/v1/log/tile/{name}") for name in ("0/000.p/1", "entries/000.p/1")]
        wrong = [
            await http.get(f"/v1/log/tile/{name}") for name in ("0/001", "0/../../x", "99/000", "0/0", "0/000.p/300")
        ]
        others_of_one = ("00/000", "0/x000/000", "0/00\u0660", "\u0660/000", "0/000%0a")
        wrong += [await http.get(f"/v1/log/tile/{name}.p/{note.size}") for name in others_of_one]
        wrong += [await http.get(f"{path}/0/000.p/{width}") for width in ("256", "01", "1%0a")]
        others = await user.get("/v1/channels/team:secret/tile/0/000")
        assert [answer.status_code for answer in (*refused, others)] == [403] * 3
        assert {answer.status_code for answer in wrong} == {404}


async def test_a_damaged_checkpoint_is_told_as_such(place: Place) -> None:
    """Not as an error of the hub's own: 4018, with the words that the audit has about it."""
    path = f"/v1/channels/{place.channel.wire}"
    objects = StoreArchive(LocalStore(place.data / "archive", time.time))
    key = f"{place.channel.tenant}/log/checkpoint/{1:012}"
    note = await objects.read(key) or b""
    await objects.delete(key)
    await objects.put(key, note[:40])
    async with place.http() as http:
        newest = (await http.get(f"{path}/events", params={"limit": 1})).json()["events"][0]["id"]
        asked = (f"{path}/events/{newest}/proof", "/v1/log/consistency?old=1")
        answers = [await http.get(one) for one in asked]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, 4018)] * 2
    assert all("damaged" in answer.json()["detail"] for answer in answers)


async def test_an_audit_is_bounded_by_bytes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of events in Redis and in the archive; the refusal names the command that has no bound, and costs ten reads."""
    path, url = f"/v1/channels/{place.channel.wire}/audit", str(place.node.hub.settings.redis_url)
    async with place.http() as http:
        whole = await http.get(path)
        monkeypatch.setattr(
            "hub.audits.BYTES_MAX", 20_000
        )  # the stream has fewer, with the archived events there are more
        async with running_node(url, data_dir=str(place.data), rate_limits={"history": (0.01, 8.0)}) as node:
            async with place._replace(node=node).http() as limited:
                refused, late = await limited.get(path), await limited.get(path)
    assert whole.json()["whole"] is True
    assert (refused.status_code, refused.json()["code"]) == (413, 4011)
    assert "bytes are too many" in refused.json()["detail"]
    assert f"hub audit verify {place.channel.wire}" in refused.json()["detail"]
    assert late.json()["code"] == 4004


async def test_a_hub_without_an_archive_says_so(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """4018, with the setting."""
    headers = {"Authorization": f"Bearer {token('alice', tenant)}"}
    async with (
        running_node(redis_url, data_dir=str(tmp_path)) as node,
        httpx.AsyncClient(base_url=node.url, headers=headers) as http,
    ):
        answer = await http.get("/v1/log/checkpoint")
    assert (answer.status_code, answer.json()["code"], "HUB_RETENTION" in answer.json()["detail"]) == (404, 4018, True)


async def test_a_search_and_an_audit_reach_into_the_archive_and_are_charged(place: Place, data: Path) -> None:
    """A search goes on from page to page; an audit costs ten reads and one for each page of events."""
    path = f"/v1/channels/{place.channel.wire}"
    async with place.http() as http:
        pages, before = [], "9999999999999-0"
        while before:
            asked = {"text": "HELLO 2", "actor": "LIC", "before": before, "limit": 50}
            page = (await http.get(f"{path}/events", params=asked)).json()
            pages.append([one["payload"]["text"] for one in page["events"]])
            before = page["next"]
        nobody = (await http.get(f"{path}/events", params={"actor": "bob"})).json()
        forwards = (await http.get(f"{path}/events", params={"text": "hello 29", "after": "0"})).json()
    wanted = [f"hello {number}" for number in range(EVENTS) if f"hello {number}".startswith("hello 2")]
    assert [text for page in reversed(pages) for text in page] == wanted
    assert (len(pages), nobody["events"]) == (3, [])
    assert [one["payload"]["text"] for one in forwards["events"]] == [
        "hello 29",
        *(f"hello 29{at}" for at in range(10)),
    ]
    url, limits = place.node.hub.settings.redis_url, {"history": (0.01, 8.0)}
    async with running_node(str(url), data_dir=str(data), rate_limits=limits) as node:
        async with place._replace(node=node).http() as http:
            found, refused = await http.get(f"{path}/audit"), await http.get(f"{path}/audit")
    assert (found.json()["whole"], found.json()["told"].startswith("Intact: events 1 to 300")) == (True, True)
    assert (refused.status_code, refused.json()["code"]) == (429, 4004)
