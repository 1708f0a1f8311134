"""A page whose own name was pointed at the hub (DNS rebinding) reads nothing: `Host` must be a name of the hub's."""

from __future__ import annotations

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hub.config import DEV_SECRET
from support.nodes import Node, running_node

REBOUND = "rebind.example"


async def statuses(node: Node, host: str) -> dict[str, int]:
    """The answers to requests that are addressed to this host name."""
    headers = {"Host": f"{host}:{node.port}"}
    paths = ("/console", "/console/console.js", "/hub.js", "/v1/channels/team:1/events", "/asyncapi.json", "/healthz")
    async with httpx.AsyncClient(base_url=node.url, headers=headers) as http:
        found = {path: (await http.get(path)).status_code for path in paths}
    try:
        async with connect(f"ws://{host}:{node.port}/ws", host="127.0.0.1", origin=f"http://{host}:{node.port}"):  # type: ignore[arg-type]  # a NewType of str
            found["/ws"] = 101
    except InvalidStatus as refused:
        found["/ws"] = refused.response.status_code
    return found


OPEN = {
    "/console": 200, "/console/console.js": 200, "/hub.js": 200, "/v1/channels/team:1/events": 401, "/asyncapi.json": 200,
    "/healthz": 200, "/ws": 101,
}  # fmt: skip # a table
CLOSED = dict.fromkeys(OPEN, 403) | {"/healthz": 200}


@pytest.mark.parametrize(("host", "expected"), [
    (REBOUND, CLOSED), (f"localhost.{REBOUND}", CLOSED), ("127.0.0.1.example", CLOSED), ("localhost", OPEN), ("127.0.0.1", OPEN),
])  # fmt: skip # a case a row
async def test_with_the_dev_secret_every_route_asks_for_a_name_of_the_hub(
    redis_url: str, host: str, expected: dict[str, int]
) -> None:
    """A rebound page could sign its own token: it gets nothing, by HTTP or socket."""
    async with running_node(redis_url, jwt_secret=DEV_SECRET) as node:
        assert await statuses(node, host) == expected


async def test_without_it_the_console_alone_asks(redis_url: str) -> None:
    """The API reads a token, which a foreign page does not have; a public name opens the console."""
    async with running_node(redis_url) as node:
        by_default = await statuses(node, REBOUND)
    async with running_node(redis_url, websocket_url=f"wss://{REBOUND}/ws") as node:
        public = await statuses(node, REBOUND)

    assert by_default == OPEN | {"/console": 403, "/console/console.js": 403}
    assert public == OPEN


async def test_a_list_of_names_holds_for_every_route(redis_url: str) -> None:
    """Whoever lists names means them; the listed one is served."""
    async with running_node(redis_url, allowed_hosts=frozenset({"hub.example"})) as node:
        listed, other = await statuses(node, "hub.example"), await statuses(node, REBOUND)

    assert (listed, other) == (OPEN, CLOSED)
