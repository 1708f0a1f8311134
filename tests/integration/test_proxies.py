"""Two nodes behind HAProxy, nginx and Caddy, with the files that operators are given (ops/proxies)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from hub.client import HubClient, Subscribed
from hub.config import declarations
from ops.embedded_redis.probe import free_port
from streams.redis.log import Log
from support.certificate import Certificate, self_signed
from support.nodes import NodeProcess, running_node, token
from support.proxied_users import LEAST, ProxiedUser, rolling_restart
from support.proxies import NAMES, Proxy, program, variables
from support.uploads import sha256_of

pytestmark = pytest.mark.slow

INSTALLED = [name for name in NAMES if program(name)]
ROOM = "conversation:1"
UNDER_A_PATH = "sticky, under a path"
NO_WEBSOCKET = "without WebSocket"
BUFFERING = "nginx, buffering"
CASES = [*(f"{name}, {kind}" for name in NAMES for kind in ("as it is", UNDER_A_PATH, NO_WEBSOCKET)), BUFFERING]


def needed(name: str) -> None:
    """Skip where the program is missing."""
    if name not in INSTALLED:
        pytest.skip(f"{name} is not installed")


@dataclass
class Rig:
    """Two nodes and the proxies in front of them, with the users who were there while both nodes were restarted.

    Attributes:
        problems: by case, what a user of this proxy lost or was told.
    """

    nodes: tuple[NodeProcess, NodeProcess]
    certificate: Certificate
    folder: Path
    redis_url: str
    proxies: dict[str, Proxy]
    users: dict[str, ProxiedUser]
    problems: dict[str, list[str]]
    public_port: int

    def proxy(self, name: str, kind: str, **changes: Any) -> Proxy:
        """A proxy in front of the two nodes, not started."""
        ports = (self.nodes[0].port, self.nodes[1].port)
        return Proxy(name, self.folder / f"{name}-{kind}", self.certificate, **({"nodes": ports} | changes))

    async def addresses(self, tenant: str) -> list[str]:
        """The addresses of the tenant's clients, as the nodes see them."""
        headers = {"Authorization": f"Bearer {token('op', tenant, {'*': ['*']})}"}
        found = []
        async with httpx.AsyncClient(headers=headers) as http:
            for node in self.nodes:
                shown = (await http.get(f"{node.url}/v1/connections")).json()
                found += [one["address"] for one in shown["connections"]]
        return found


def _add_proxies(rig: Rig) -> None:
    for name in INSTALLED:
        rig.proxies[f"{name}, as it is"] = rig.proxy(name, "plain")
        options = ("sticky",) if name == "nginx" else ("sticky", "prefix")
        edits = (("location / {", "location /realtime/ {"),) if name == "nginx" else ()
        rig.proxies[f"{name}, {UNDER_A_PATH}"] = rig.proxy(name, "sticky", options=options, edits=edits)
        rig.proxies[f"{name}, {NO_WEBSOCKET}"] = rig.proxy(name, "http", refuses_upgrades=True)
    if "nginx" in INSTALLED:
        edits = (("proxy_buffering off;", "proxy_ignore_headers X-Accel-Buffering;"),)
        rig.proxies[BUFFERING] = rig.proxy("nginx", "buffering", refuses_upgrades=True, edits=edits)
        rig.proxies[f"nginx, {UNDER_A_PATH}"].port = rig.public_port


async def _restart_nodes(rig: Rig) -> None:
    await asyncio.gather(*(node.wait_ready() for node in rig.nodes))
    for proxy in rig.proxies.values():
        proxy.start()  # not before: HAProxy would take the nodes for down, and see a second later that they are not
    await asyncio.gather(*(proxy.ready() for proxy in rig.proxies.values()))
    for number, (case, proxy) in enumerate(rig.proxies.items()):
        path = "/realtime/ws" if UNDER_A_PATH in case else "/ws"
        rig.users[case] = ProxiedUser(f"u{number}", f"wss://{proxy.host}{path}", "proxied")
    quick = [user for case, user in rig.users.items() if case != BUFFERING]
    await rolling_restart(rig.nodes, quick, [user for case, user in rig.users.items() if case == BUFFERING])
    log = await Log.open(rig.redis_url)
    try:
        for case, user in rig.users.items():
            rig.problems[case] = await user.check(log)
    finally:
        await log.close()


@pytest.fixture(scope="module")
def rig(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """All proxies are there at once, because each restart of a node takes seconds."""
    folder = tmp_path_factory.mktemp("proxies")
    certificate, public_port = self_signed(folder), free_port()
    env = {"HUB_DRAIN_SECONDS": "0.5", "WEBSOCKET_URL": f"wss://127.0.0.1:{public_port}/realtime/ws"}
    nodes = (NodeProcess(redis_url, **env), NodeProcess(redis_url, **env))
    rig = Rig(nodes, certificate, folder, redis_url, {}, {}, {}, public_port)
    _add_proxies(rig)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as ending:
        patch.setenv("SSL_CERT_FILE", str(certificate.certificate))
        for part in (*nodes, *rig.proxies.values()):
            ending.callback(part.close)
        asyncio.run(_restart_nodes(rig))
        yield rig


@contextlib.asynccontextmanager
async def running(*proxies: Proxy) -> AsyncIterator[None]:
    """Run further proxies for a test."""
    try:
        for proxy in proxies:
            proxy.start()
        await asyncio.gather(*(proxy.ready() for proxy in proxies))
        yield
    finally:
        for proxy in proxies:
            proxy.close()


@pytest.mark.parametrize("case", CASES)
def test_users_lose_nothing_and_see_no_error_while_the_nodes_are_restarted(case: str, rig: Rig) -> None:
    """Everything acknowledged is stored once and read once, in order, and the client takes HTTP where it must."""
    name, _, kind = case.partition(", ")
    needed(name)
    user = rig.users[case]

    assert rig.problems[case] == []
    assert len(user.sent) >= LEAST
    assert user.starts >= (1 if case == BUFFERING else 2)
    ways = {"buffering": {"http-poll"}, NO_WEBSOCKET: {"http-stream"}}
    used = user.transports - {"None"}
    if kind == NO_WEBSOCKET:  # it polls where a stopping node ends its stream before the first byte
        used.discard("http-poll")
    assert used == ways.get(kind, {"websocket"})


@pytest.mark.parametrize("name", NAMES)
async def test_a_cookie_keeps_a_browser_on_one_node(name: str, rig: Rig, tenant: str) -> None:
    """With its cookie it stays on one node, and without it there are both."""
    needed(name)
    proxy = rig.proxies[f"{name}, {UNDER_A_PATH}"]
    headers = {"Authorization": f"Bearer {token('op', tenant, {'*': ['*']})}"}
    kept, others = set(), set()
    async with httpx.AsyncClient(base_url=f"https://{proxy.host}/realtime", headers=headers) as http:
        async with asyncio.timeout(20):  # a second until the proxy has seen that the node is there again
            while len(others) < 2:
                others.add((await http.get("/v1/connections")).json()["node"])
                http.cookies.clear()
        for _ in range(12):
            kept.add((await http.get("/v1/connections")).json()["node"])

    assert len(kept) == 1


@contextlib.asynccontextmanager
async def far_client(host: str, tenant: str) -> AsyncIterator[None]:
    """A socket from 127.0.0.9, which claims to come from somewhere else."""
    claimed = {"X-Forwarded-For": "192.0.2.7"}
    async with connect(f"wss://{host}/ws", additional_headers=claimed, local_addr=("127.0.0.9", 0)) as socket:
        opening = {"token": token("a", tenant), "versions": [1]}
        await socket.send(json.dumps({"type": "connection.init", "id": "1", "payload": opening}))
        assert json.loads(await socket.recv())["type"] == "connection.ack"
        yield


@pytest.mark.parametrize("name", NAMES)
async def test_the_nodes_see_the_address_of_the_client_and_not_what_it_claims(name: str, rig: Rig, tenant: str) -> None:
    """`X-Forwarded-For` is the proxy's own; nothing else than the metrics is kept from clients."""
    needed(name)
    host = rig.proxies[f"{name}, as it is"].host
    async with far_client(host, tenant), httpx.AsyncClient(base_url=f"https://{host}") as http:
        addresses = await rig.addresses(tenant)
        refused = [
            (await http.get(path)).status_code for path in ("/metrics", "/realtime/metrics", "/console", "/readyz")
        ]

    assert addresses == ["127.0.0.9"]
    assert refused == [403, 403, 200, 200]


L4 = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen balancer
    bind 127.0.0.1:%d
    server proxy 127.0.0.1:%d send-proxy-v2
"""


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
async def test_the_proxy_protocol_ends_at_the_proxy(name: str, rig: Rig, tenant: str) -> None:
    """Behind a balancer of TCP the proxy takes the client's address from the protocol and gives it to the node as a header."""
    needed("haproxy")
    needed(name)
    proxy = rig.proxy(
        name, "behind", options=("proxy-protocol",), edits=(("10.0.0.0/8", "127.0.0.1"),) if name == "nginx" else ()
    )
    balancer = rig.proxy("haproxy", f"in-front-of-{name}", file=L4)
    balancer.file = L4 % (balancer.port, proxy.port)
    async with running(balancer, proxy), far_client(balancer.host, tenant):
        addresses = await rig.addresses(tenant)

    assert addresses == ["127.0.0.9"]


async def test_a_node_does_not_understand_the_proxy_protocol(rig: Rig) -> None:
    """It answers 400, so that a balancer that was set up so is noticed at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.nodes[0].port)
    writer.write(b"PROXY TCP4 127.0.0.9 127.0.0.1 5000 8000\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    status = await reader.readline()
    writer.close()

    assert status.startswith(b"HTTP/1.1 400 ")


IDLE = {
    "haproxy": (("timeout tunnel 75s", "timeout tunnel 1s"),),
    "nginx": (("proxy_read_timeout 75s", "proxy_read_timeout 1s"), ("proxy_send_timeout 75s", "proxy_send_timeout 1s")),
}


@pytest.mark.parametrize("name", IDLE)
async def test_an_idle_timeout_below_the_heartbeats_costs_connections_but_no_events(
    name: str, rig: Rig, redis_url: str, tenant: str
) -> None:
    """A client that is cut each second resumes; one whose heartbeats come in time is not cut."""
    needed(name)
    async with running_node(redis_url, heartbeat_interval_s=0.6) as lively:
        short = rig.proxy(name, "idle", edits=IDLE[name])
        kept = rig.proxy(name, "kept", edits=IDLE[name], nodes=(lively.port, lively.port))
        async with (
            running(short, kept),
            HubClient(f"https://{short.host}", token("a", tenant)) as a,
            HubClient(f"https://{kept.host}", token("b", tenant)) as b,
            HubClient(rig.nodes[0].url, token("c", tenant)) as c,
        ):
            begun = dict.fromkeys("ab", 0)
            seen: dict[str, list[int]] = {"a": [], "b": []}

            async def follow(name: str, hub: HubClient) -> None:
                async for item in hub.subscribe(ROOM, after="0", with_receipts=True):
                    if isinstance(item, Subscribed):
                        begun[name] += 1
                        if name == "a" and begun[name] <= 3:
                            await c.send(ROOM, "while it was away or just after")
                    elif hasattr(item, "seq"):
                        seen[name].append(item.seq)
                        if item.seq == 3:
                            return

            async with asyncio.timeout(60):
                await asyncio.gather(follow("a", a), follow("b", b))

    assert seen == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert begun["a"] == 3
    assert begun["b"] < 3  # once, but for each time that the machine stands still for longer than the proxy waits
    assert (a.hub_faults, b.hub_faults) == ((0, 0), (0, 0))


async def test_a_file_goes_up_through_nginx_under_a_path(rig: Rig, tenant: str) -> None:
    """The addresses that clients are given are those of the proxy, with its path."""
    needed("nginx")
    base = f"https://127.0.0.1:{rig.public_port}/realtime/"
    data = bytes(range(256)) * 12_000
    wanted = {"filename": "a.bin", "size": len(data), "mime": "application/octet-stream", "strategy": "single"}
    async with (
        HubClient(f"wss{base.removeprefix('https')}ws", token("a", tenant)) as hub,
        httpx.AsyncClient() as http,
    ):
        signed = (await hub.command("file.upload.request", ROOM, {**wanted, "sha256": sha256_of(data)})).payload[
            "single"
        ]
        stored = await http.put(signed["url"], headers=signed["headers"], content=data)

    assert signed["url"].startswith(base)
    assert stored.status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_the_files_name_settings_that_exist(name: str) -> None:
    """Operators copy what a comment says."""
    named = variables(name)

    assert named
    assert named <= {setting.env for setting in declarations().values()}
