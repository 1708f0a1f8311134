"""A deployment that runs already, as the place of a run: reached by addresses and a secret; no process of it is touched."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from ops.torture.cluster import is_ready
from ops.torture.proxy import Proxy
from ops.torture.resp import Resp
from ops.torture.schedule import CLIENT, LINK, LOSS, REDIS

_NEEDS_PROCESS: Final = "it needs control of the deployment's processes"


class Target(Protocol):
    """The place of a run: a cluster of our own, or a deployment.

    Attributes:
        folder: where the run writes.
        tenants: each with the mark that stands in everything it writes.
        secret: signs tokens; `claims` are in each of them.
        agent: the one people ask; empty when nobody does.
    """

    folder: Path
    tenants: dict[str, str]
    secret: str
    claims: dict[str, str]
    agent: str

    @property
    def urls(self) -> dict[str, str]:
        """Node → its address for clients."""
        ...

    @property
    def links(self) -> list[Proxy]:
        """The proxies whose links can be broken."""
        ...

    async def start(self) -> None:
        """Everything there and ready."""
        ...

    async def ready(self) -> None:
        """Until every node takes traffic."""
        ...

    async def stop(self) -> None:
        """Everything of ours gone."""
        ...

    def kill(self) -> None:
        """Every process of ours gone, without waiting for anything else."""
        ...

    def remove(self) -> None:
        """Delete what the run wrote on this machine."""
        ...

    async def redis_connection(self) -> Resp:
        """A connection to Redis."""
        ...

    def why_not(self, fault: str) -> str:
        """The reason why a kind of fault cannot be done here; empty when it can."""
        ...


class Deployment:
    """Nodes at addresses of theirs, each behind a proxy of ours, and their Redis.

    Args:
        addresses: of nodes, or of what stands before them.
        redis_url: `redis://…`: the log is read there at the end, and broken only if `breaks_redis`.
        breaks_redis: faults of Redis may be done, which everybody who uses the deployment feels.
    """

    def __init__(
        self,
        folder: Path,
        addresses: list[str],
        redis_url: str,
        secret: str,
        seed: int,
        *,
        agent: str = "",
        claims: dict[str, str] | None = None,
        breaks_redis: bool = False,
    ) -> None:
        self.folder = folder
        self.tenants = {f"torture-{seed}-{name}": f"⟦{name}{seed}⟧" for name in ("a", "b")}
        self.secret, self.claims, self.agent = secret, claims or {}, agent
        self._redis_url, self._breaks_redis = redis_url, breaks_redis
        self._addresses = {f"n{number}": address.rstrip("/") for number, address in enumerate(addresses)}
        self.urls = dict(self._addresses)
        self.links: list[Proxy] = []

    async def start(self) -> None:
        """Put a proxy before each node, and look at what is there.

        Raises:
            RuntimeError: a node takes no traffic, or there is something of an earlier run.
            OSError, TimeoutError, RedisRefused: Redis does not answer.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.ready(timeout_s=5)
        await self._require_new_tenants()
        for name, address in self._addresses.items():
            parts = urlsplit(address)
            if parts.scheme == "http":
                link = Proxy(name, parts.port or 80, parts.hostname or "")
                await link.start()
                self.links.append(link)
                self.urls[name] = f"http://127.0.0.1:{link.port}{parts.path}"

    async def ready(self, timeout_s: float = 120.0) -> None:
        """Until every node takes traffic.

        Raises:
            RuntimeError: not in time.
        """
        for address in self._addresses.values():
            try:
                async with asyncio.timeout(timeout_s):
                    while not await asyncio.to_thread(is_ready, address):  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0.2)
            except TimeoutError as error:
                raise RuntimeError(f"{address}/readyz does not say that the node takes traffic") from error

    async def _require_new_tenants(self) -> None:
        for tenant in self.tenants:
            if await find_key(self, f"hub:*:{tenant}:*"):
                raise RuntimeError(f"the tenant {tenant} has something of an earlier run in it; take another seed")

    async def stop(self) -> None:
        """Close the proxies."""
        await asyncio.gather(*(link.close() for link in self.links))

    def kill(self) -> None:
        """Does nothing: no process of the deployment is ours."""

    def remove(self) -> None:
        """Delete what the run wrote on this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def redis_connection(self) -> Resp:
        """A connection to the deployment's Redis."""
        return await Resp.at(self._redis_url)

    def why_not(self, fault: str) -> str:
        """The reason why a kind of fault cannot be done here; empty when it can."""
        if fault == "all flushed":
            return "it would destroy what others have there"
        if fault in {*REDIS, *LOSS} - {"redis loading"}:
            return "" if self._breaks_redis else "Redis is broken only with --redis-faults"
        if fault in LINK:
            return "" if self.links else "no proxy of ours can stand before addresses of https"
        return "" if fault in CLIENT else _NEEDS_PROCESS


async def ask_redis(target: Target, *words: str | bytes | int) -> Any:
    """One command on a connection of its own; see `Resp.call`."""
    connection = await target.redis_connection()
    try:
        return await connection.call(*words)
    finally:
        connection.close()


async def find_key(target: Target, pattern: str) -> str | None:
    """A key of this pattern; None when there is none."""
    connection = await target.redis_connection()
    try:
        cursor = b"0"
        while True:
            cursor, keys = await connection.call("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000)
            if keys:
                return str(keys[0].decode())
            if cursor == b"0":
                return None
    finally:
        connection.close()
