"""Hostile requests to every call of the OpenAPI document: never a 500, always a problem document, and the node goes on.

Run beside it from outside, schemathesis (in an environment of its own) finds calls by itself:
`st run http://127.0.0.1:8000/openapi.json -H "Authorization: Bearer $HUB_TOKEN" -c not_a_server_error`.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from fuzz.agents import EveryAgent
from fuzz.frames import BAD_CHANNELS, CHANNELS, JUNK, RAW, FrameSource
from support.nodes import Node, running_node, token

WAITS_MAX_MS = 50
"""A long poll may wait; here it is the shapes that vary."""


WRITES_WEIGH = 4
"""Writes are asked for so much more often than reads: most of them are refused before anything is written."""


class RequestSource:
    """An endless stream of requests from a seed, near enough to what is valid to get far."""

    def __init__(self, seed: int, document: dict[str, Any]) -> None:
        self._random = random.Random(seed)
        self._frames = FrameSource(seed)
        self._calls = [
            (path, method, call.get("parameters", []))
            for path, methods in document["paths"].items()
            for method, call in methods.items()
            for _ in range(WRITES_WEIGH if method == "post" else 1)
            if not path.endswith("/stream")
        ]

    def request(self) -> tuple[str, str, dict[str, Any]]:
        """Method, path, and what else httpx sends."""
        path, method, parameters = self._random.choice(self._calls)
        channel = self._random.choice(
            CHANNELS if self._random.random() < 0.8 else [*BAD_CHANNELS, "\r\n", "%2e%2e", "ü"]
        )
        body, channel = self._body(channel)
        path = path.replace("{channel}", quoted(channel)).replace("{user}", quoted(channel.rpartition(":")[2] or "-"))
        more: dict[str, Any] = {
            "params": {p["name"]: self._value(p) for p in parameters if p["in"] == "query" and self._coin()}
        }
        if method == "post":
            more["content"] = body
            if self._coin():
                more["headers"] = {"Idempotency-Key": self._random.choice(["k1", "k2", "", "a b", "x" * 65])}
        return method.upper(), path, more

    def _coin(self) -> bool:
        return self._random.random() < 0.4

    def _value(self, parameter: dict[str, Any]) -> str:
        if parameter["name"] == "wait_ms":
            return str(self._random.choice([0, WAITS_MAX_MS, -1, "x"]))
        if parameter.get("schema", {}).get("type") == "boolean" and self._random.random() < 0.9:
            return self._random.choice(["true", "false"])
        good = ["0", "1-0", "0-0", "999999999999999-1", "2027-01-01T00:00:00.000Z", "chat.*,team.activity", "5", "$"]
        junk = [str(value).encode("utf-8", "replace").decode() for value in JUNK]
        return self._random.choice(good if self._random.random() < 0.7 else junk)

    def _body(self, channel: str) -> tuple[bytes, str]:
        """A body, and a channel it may be sent to where it has one."""
        if self._random.random() < 0.1:
            return self._random.choice(RAW), channel
        message = self._frames.message().data
        try:
            frame = json.loads(message)
        except ValueError:
            return message, channel
        if not isinstance(frame, dict):
            return message, channel
        place = frame.get("channel")
        body = json.dumps({key: value for key, value in frame.items() if key in {"type", "payload"}}).encode()
        return body, place if isinstance(place, str) and place else channel


def quoted(text: str) -> str:
    """One segment of a path."""
    return (
        "".join(letter if letter.isalnum() else "".join(f"%{byte:02X}" for byte in letter.encode()) for letter in text)
        or "-"
    )


async def document_of(node: Node) -> dict[str, Any]:
    """The node's own figures."""
    async with node.http() as http:
        found: dict[str, Any] = (await http.get("/openapi.json")).json()
        return found


@pytest.mark.parametrize("seed", range(2))
async def test_hostile_requests_meet_documented_answers(redis_url: str, tenant: str, tmp_path: Path, seed: int) -> None:
    """Whatever is asked: no 500, and every refusal of ours is a problem document with its code."""
    headers = {"Authorization": f"Bearer {token('fuzz', tenant, {'*': ['*']})}"}
    async with running_node(redis_url, data_dir=str(tmp_path)) as node:
        node.hub.agents = EveryAgent()
        source = RequestSource(seed, await document_of(node))
        async with httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as http:
            met: dict[int, int] = {}
            for _ in range(1_000):
                method, path, more = source.request()
                answer = await http.request(method, path, **more)
                met[answer.status_code] = met.get(answer.status_code, 0) + 1
                assert answer.status_code < 500, (method, path, more, answer.text)
                if answer.status_code >= 400:
                    assert answer.headers["content-type"] == "application/problem+json", (method, path, more)
            alive = await http.get("/readyz")

    assert alive.status_code == 200
    assert {200, 201, 404, 422} <= met.keys()
