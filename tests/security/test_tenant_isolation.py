"""Two tenants: a marker in everything one stores is in no byte the other receives, whatever the other does."""

from __future__ import annotations

import json
import random
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams.events import CATALOGUE
from support.nodes import Node, running_node, token
from support.payloads import short_payload
from support.socket_client import SocketClient, client, raw_client

INBOUND = sorted(event.name for event in CATALOGUE.values() if event.is_inbound and event.is_served)
WITH_CHANNEL = [name for name in INBOUND if CATALOGUE[name].kinds]
KINDS = ("conversation", "team", "document", "agent", "user")
Json = dict[str, Any]


def plant(name: str, mark: str, said: str) -> list[Json]:
    """Payloads of a type about a message that is there, with the marker in its texts.

    Those that break a field's grammar, or name what is not there, are refused and harmless.
    """
    whole = {key: value for key, value in short_payload(CATALOGUE[name]).items() if key not in {"agents", "reply_to"}}
    if "message_id" in whole:
        whole["message_id"] = said
    texts = [key for key, value in whole.items() if isinstance(value, str)]
    return [whole, *(whole | {key: mark} for key in texts)]


async def fill(node: Node, tenant: str, mark: str) -> list[str]:
    """Store the marker by every command and path, also as name of user, client and channel; the ids that came of it."""
    ids: list[str] = []
    planted, refused = 0, Counter[str]()
    hello = {"client_id": mark, "client": {"name": mark, "version": "1"}}
    async with client(node.ws_url, token(f"u-{mark}", tenant, name=mark), **hello) as a:
        for kind in KINDS:
            names = [f"u-{mark}"] if kind == "user" else ["shared", mark]
            for channel in (f"{kind}:{name}" for name in names):
                await a.answer("channel.subscribe", {"channels": [{"channel": channel, "presence": True}]})
                said = "1-0"
                if kind == "conversation":
                    said = (await a.answer("chat.message", {"text": mark}, channel))["payload"]["id"]
                    ids.append(said)
                # An access list would shut everything that follows out, so it comes last; and a deleted message nothing is said of.
                for name in sorted(WITH_CHANNEL, key=["chat.delete", "channel.configure"].__contains__):
                    if kind not in {kind.value for kind in CATALOGUE[name].kinds}:
                        continue
                    for payload in plant(name, mark, said):
                        answer = await a.answer(name, payload, channel)
                        if answer["type"] == "connection.error":
                            refused[f"{name}: {answer['payload']['code']}"] += 1
                        else:
                            planted += 1
                        ids.extend(text for text in answer["payload"].values() if isinstance(text, str))
    assert planted > 50, refused  # those that name files are refused: none is ready there
    return ids


class Stranger:
    """A user of another tenant who may do everything there, and tries everything at random."""

    def __init__(self, node: Node, home: str, known_ids: list[str], seed: int) -> None:
        self.node, self.home, self.known_ids = node, home, known_ids
        self.random = random.Random(seed)
        self.received: list[bytes] = []

    def channel(self) -> str:
        """A channel of the same name as one of the other tenant's."""
        return f"{self.random.choice(KINDS)}:{self.random.choice(['shared', 'stranger'])}"

    def payload(self, name: str) -> Json:
        """A valid payload, with the other tenant's ids where they fit."""
        payload = short_payload(CATALOGUE[name])
        for key in payload:
            if key.endswith("_id") or key in {"up_to", "ids", "after", "before"}:
                stolen = self.random.choice(self.known_ids)
                payload[key] = [stolen] if isinstance(payload[key], list) else stolen
        return payload

    async def by_socket(self, count: int) -> None:
        """Commands, subscriptions and reconnects with the other's cursors."""
        cursors = {f"{kind}:shared": {"after": self.known_event(), "seq": 1} for kind in KINDS[:4]}
        hello = {"token": token("stranger", self.home), "versions": [1], "session_id": "s", "cursors": cursors}
        async with raw_client(self.node.ws_url) as b:
            await b.answer("connection.reconnect", hello)
            for kind in KINDS:
                wish = {"channel": f"{kind}:shared", "after": "0", "presence": True}
                await b.answer("channel.subscribe", {"channels": [wish]})
            for _ in range(count):
                name = self.random.choice(INBOUND)
                if name.startswith("connection."):
                    continue
                await self.ask(b, name)
        self.received.extend(text.encode() for text in b.raw)

    async def ask(self, b: SocketClient, name: str) -> None:
        """One command."""
        kinds = [kind.value for kind in CATALOGUE[name].kinds]
        channel = f"{self.random.choice(kinds)}:shared" if kinds else None
        await b.answer(name, self.payload(name), channel)

    def known_event(self) -> str:
        """An event's ID of the other tenant."""
        return next(text for text in reversed(self.known_ids) if text.replace("-", "").isdecimal())

    async def by_http(self, count: int) -> None:
        """Every call of docs/protocol.md#http, with the other's ids and cursors."""
        headers = {"Authorization": f"Bearer {token('stranger', self.home, {'*': ['*']})}"}
        async with httpx.AsyncClient(base_url=self.node.url, headers=headers, timeout=20) as http:
            for _ in range(count):
                path, query = self.random.choice(PATHS)(self)
                async with http.stream("GET", path, params=query) as answer:
                    self.received.append(json.dumps(dict(answer.headers)).encode())
                    if path.endswith("/stream"):
                        self.received.append(await anext(answer.aiter_bytes()))
                    else:
                        self.received.append(await answer.aread())
            for name in WITH_CHANNEL:
                kind = min(kind.value for kind in CATALOGUE[name].kinds)
                body = {"type": name, "payload": self.payload(name)}
                posted = await http.post(f"/v1/channels/{kind}:shared/events", json=body)
                self.received.append(posted.content)


def reading(path: str, *names: str) -> Callable[[Stranger], tuple[str, Json]]:
    """A call about a channel, with some of these parameters set to the other tenant's ids."""
    return lambda b: (
        f"/v1/channels/{b.channel()}/{path}",
        {name: b.known_event() for name in names if b.random.random() < 0.5},
    )


PATHS: list[Callable[[Stranger], tuple[str, Json]]] = [
    reading("events", "after"), reading("events", "before"), reading("stream", "after"), reading("state", "at"),
    reading("presence"),
    *(lambda _, path=path: (path, {}) for path in (
        "/metrics", "/readyz", "/healthz", "/openapi.json", "/asyncapi.json", "/console", "/v1/channels/team:shared/state")),
]  # fmt: skip # a table


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_of_one_tenant_reaches_another(redis_url: str, tenant: str, tmp_path: Path, seed: int) -> None:
    """Events, states, names, ids, errors, metrics, documents, headers: no byte has the marker."""
    mark = f"mark{secrets.token_hex(6)}"
    async with running_node(redis_url, data_dir=str(tmp_path)) as node:
        ids = await fill(node, tenant, mark)
        stranger = Stranger(node, f"{tenant}x", ids, seed)
        await stranger.by_socket(150)
        await stranger.by_http(60)
        async with client(node.ws_url, token("insider", tenant)) as insider:
            await insider.subscribe("conversation:shared", after="0")
            seen = await insider.event("chat.message")  # whoever may see it does

    assert seen["text"] == mark
    assert len(stranger.received) > 150
    assert not [received for received in stranger.received if mark.encode() in received]
