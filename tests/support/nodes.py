"""Hub nodes for tests: in the test's event loop, or as processes if they are to be killed."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import httpx
import uvicorn

from hub.auth.signing import sign
from hub.config import Settings
from hub.node.hub import Hub
from hub.server import make_server
from ops.embedded_redis.probe import free_port
from support.until import until

SECRET = "a-secret-for-tests-of-more-than-32-bytes"
ALL = {f"{kind}:*": ["*"] for kind in ("conversation", "team", "document", "agent", "user")}


def token(
    user: str, tenant: str, grants: Mapping[str, list[str]] | None = None, *, ttl_s: float = 3600, **claims: Any
) -> str:
    """Sign a token; by default it permits everything in every channel."""
    return sign(SECRET, user, tenant, dict(ALL if grants is None else grants), ttl_s, time.time(), **claims)


@cache
def data_folder() -> str:
    """The data folder of this process's nodes, which share it as nodes on one Redis do. It is deleted when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="hub-nodes-")
    atexit.register(folder.cleanup)
    return folder.name


def settings(redis_url: str, **changes: Any) -> Settings:
    """A node's settings: no limits, any free port, files outside the checkout."""
    given: dict[str, Any] = {"redis_url": redis_url, "jwt_secret": SECRET, "rate_limits": None, "drain_s": 0.2}
    return Settings(**({"data_dir": data_folder()} | given | changes))


def free_socket() -> socket.socket:
    """A socket bound to a free port of this machine, not yet listening."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


@dataclass(slots=True)
class Node:
    """A running node in the test's event loop."""

    hub: Hub
    server: uvicorn.Server
    port: int

    @property
    def url(self) -> str:
        """Its HTTP URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Its WebSocket URL."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def http(self, text: str = "") -> httpx.AsyncClient:
        """An HTTP client for this node, with a token if one is given."""
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)


@contextlib.asynccontextmanager
async def running_node(redis_url: str, **changes: Any) -> AsyncIterator[Node]:
    """Run a node on real sockets in the test's event loop."""
    bound = free_socket()
    port = bound.getsockname()[1]
    server = make_server(replace(settings(redis_url, **changes), port=port))
    started = asyncio.Event()
    task = asyncio.create_task(_serve(server, bound, started))
    try:
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            await task
        yield Node(await _opened(server), server, port)
    finally:
        server.should_exit = True
        await task
        bound.close()


async def _opened(server: uvicorn.Server) -> Hub:
    """The hub, which opens later where Redis does not answer within two seconds, as on a machine that stands still."""
    state: Any = server.config.app.state  # type: ignore[union-attr]  # an application, not its name
    try:
        await until(lambda: state.hub is not None)
    except TimeoutError:
        raise AssertionError(f"the node has no hub: {state.waits_for}") from None
    hub: Hub = state.hub
    return hub


async def _serve(server: uvicorn.Server, bound: socket.socket, started: asyncio.Event) -> None:
    start = server.startup

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await start(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]  # told when it listens, instead of polling
    with contextlib.suppress(asyncio.CancelledError):
        await server._serve([bound])  # `serve` would replace this process's signal handlers


class NodeProcess:
    """A node in a process of its own, which can be killed and restarted on the same port. The caller waits until it is ready."""

    def __init__(self, redis_url: str, **env: str) -> None:
        self.port = free_port()  # outside the range of client ports, because clients keep reconnecting while it is down
        self._env = os.environ | {
            "REDIS_URL": redis_url, "HUB_JWT_SECRET": SECRET, "HUB_PORT": str(self.port), "HUB_RATE_LIMITS": "off",
            "HUB_DRAIN_SECONDS": "0", "HUB_DATA": data_folder(), "PYTHONPATH": os.getcwd(),
        } | env  # fmt: skip # a table
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its HTTP URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Its WebSocket URL."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def start(self) -> None:
        """Start the process; `wait_ready` waits until it is ready."""
        command = "import asyncio,os,uvloop; from hub.config import Settings; from hub.server import serve; "
        command += "uvloop.run(serve(Settings.from_env(os.environ)))"
        self._process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", command], env=self._env)

    async def wait_ready(self, timeout_s: float = 120) -> None:
        """Wait until the node reports that it is ready."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if await asyncio.to_thread(self._is_ready):
                return
            await asyncio.sleep(0.02)  # a process gives no event to wait for
        raise TimeoutError("the node did not become ready")

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
            return answer.status == 200
        return False

    def kill(self) -> None:
        """Kill the node with SIGKILL, without any close handshake."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM: the node drains and stops."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stop the node if it is running."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
