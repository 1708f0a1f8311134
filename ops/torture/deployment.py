"""A running deployment as the target of a run, reached through URLs and a secret; its processes are not touched."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from ops.torture.cluster import is_ready
from ops.torture.proxy import Proxy
from ops.torture.resp import Resp
from ops.torture.schedule import CLIENT, JITTER, LINK, LOSS, REDIS

_NEEDS_PROCESS: Final = "it needs control of the deployment's processes"


class Target(Protocol):
    """The target of a run: a cluster started for it, or a deployment.

    Attributes:
        folder: the folder for the run's files.
        tenants: for each tenant, the marker contained in everything its people write.
        secret: signs the tokens; `claims` are added to each of them.
        agent: the agent to which questions are sent; "" for none.
    """

    folder: Path
    tenants: dict[str, str]
    secret: str
    claims: dict[str, str]
    agent: str

    @property
    def urls(self) -> dict[str, str]:
        """The URL for clients of each node."""
        ...

    @property
    def links(self) -> list[Proxy]:
        """The proxies whose links can be broken."""
        ...

    async def start(self) -> None:
        """Start everything, and wait until it is ready."""
        ...

    async def ready(self) -> None:
        """Wait until every node is ready."""
        ...

    async def stop(self) -> None:
        """Stop everything that the run has started."""
        ...

    def kill(self) -> None:
        """Kill every process that the run has started, without waiting for anything else."""
        ...

    def remove(self) -> None:
        """Delete the run's files on this machine."""
        ...

    async def redis_connection(self, key: str = "") -> Resp:
        """Connect to Redis, to the server that holds a key."""
        ...

    async def redis_connections(self) -> list[Resp]:
        """Connect to every server that holds keys of its own."""
        ...

    def why_not(self, fault: str) -> str:
        """The reason why a kind of fault is impossible here; "" if it is possible."""
        ...


class Deployment:
    """The nodes of a deployment, each behind a proxy of the run, and its Redis.

    Args:
        addresses: URLs of the nodes, or of a load balancer.
        redis_url: `redis://…`: the log is read from it at the end; faults are injected only if `breaks_redis`.
        breaks_redis: permit faults of Redis, which affect all users of the deployment.
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
        """Put a proxy in front of each node, and check the deployment.

        Raises:
            RuntimeError: a node is not ready, or the tenants have data of an earlier run.
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
        """Wait until every node is ready.

        Raises:
            RuntimeError: a node is not ready in time.
        """
        for address in self._addresses.values():
            try:
                async with asyncio.timeout(timeout_s):
                    while not await asyncio.to_thread(is_ready, address):  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0.2)
            except TimeoutError as error:
                raise RuntimeError(f"{address}/readyz does not say that the node accepts clients") from error

    async def _require_new_tenants(self) -> None:
        for tenant in self.tenants:
            if await find_key(self, f"hub:*:{tenant}:*"):
                raise RuntimeError(f"the tenant {tenant} has data of an earlier run; take another seed")

    async def stop(self) -> None:
        """Close the proxies."""
        await asyncio.gather(*(link.close() for link in self.links))

    def kill(self) -> None:
        """Does nothing: no process of the deployment belongs to the run."""

    def remove(self) -> None:
        """Delete the run's files on this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def redis_connection(self, key: str = "") -> Resp:
        """Connect to the deployment's Redis."""
        del key
        return await Resp.at(self._redis_url)

    async def redis_connections(self) -> list[Resp]:
        """Connect to the deployment's Redis."""
        return [await self.redis_connection()]

    def why_not(self, fault: str) -> str:
        """The reason why a kind of fault is impossible here; "" if it is possible."""
        if fault == "all flushed":
            return "it would destroy what others have there"
        if fault in {*REDIS, *LOSS} - {"redis loading"}:
            return "" if self._breaks_redis else "Redis is broken only with --redis-faults"
        if fault in {*LINK, *JITTER}:
            return "" if self.links else "no proxy of ours can stand before addresses of https"
        return "" if fault in CLIENT else _NEEDS_PROCESS


async def ask_redis(target: Target, *words: str | bytes | int, key: str = "") -> Any:
    """Run one command on a new connection to the server that holds a key; see `Resp.call`."""
    connection = await target.redis_connection(key)
    try:
        return await connection.call(*words)
    finally:
        connection.close()


async def find_key(target: Target, pattern: str) -> str | None:
    """A key that matches this pattern; None if there is none."""
    connections = await target.redis_connections()
    try:
        for connection in connections:
            if keys := await keys_of(connection, pattern):
                return keys[0]
        return None
    finally:
        for connection in connections:
            connection.close()


async def keys_of(connection: Resp, pattern: str) -> list[str]:
    """The keys of one server that match this pattern."""
    found: list[str] = []
    cursor = b"0"
    while True:
        cursor, keys = await connection.call("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000)
        found += [key.decode() for key in keys]
        if cursor == b"0":
            return found
