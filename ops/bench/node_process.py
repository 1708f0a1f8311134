"""`hub serve` as a child process on a fixed port, to be killed and started again."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.error
import urllib.request
from typing import Final

from ops.children import Child, hub
from ops.embedded_redis.probe import free_port

READY_TIMEOUT_S: Final = 120.0


class NodeProcess:
    """`hub serve` as a child."""

    def __init__(self, redis_url: str, secret: str, **env: str) -> None:
        self.port = free_port()  # no port of a connection of ours: clients go on trying while it is down
        self._env = os.environ | {
            "REDIS_URL": redis_url,
            "HUB_JWT_SECRET": secret,
            "HUB_RATE_LIMITS": "off",
            "HUB_DRAIN_SECONDS": "0",
            **env,
        }
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        if self._child is None:
            raise RuntimeError("the node does not run")
        return self._child.pid

    def start(self) -> None:
        """Start it; it listens a moment later."""
        self._child = Child("the node", hub("serve", "--host", "127.0.0.1", "--port", str(self.port)), self._env)

    async def ready(self) -> None:
        """Until it takes traffic.

        Raises:
            ChildFailed: it ended, or was not ready within 120 s.
        """
        if (child := self._child) is None:
            raise RuntimeError("the node does not run")
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not await asyncio.to_thread(self._is_ready):
            child.refuse_if_ended()
            if time.monotonic() > deadline:
                raise child.failure(f"was not ready after {READY_TIMEOUT_S:g} s")
            await asyncio.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:  # noqa: S310 - our own loopback URL
                return bool(answer.status == 200)  # noqa: PLR2004
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child = None
