"""The processes of one measurement: a new Redis, the nodes of a server, and the load generator, each on its own cores."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hub.auth.signing import sign
from ops.bench.generator import Generator, GeneratorFailed, LoadReport, Seen
from ops.bench.peers.peer import BenchNode, Peer, Place
from ops.bench.processes import Cores, Used, pin, used_by
from ops.embedded_redis.probe import free_port
from ops.embedded_redis.server import EmbeddedRedis
from streams.redis.calls import Calls
from streams.redis.server_check import count_commands, read_facts

_GRANTS: Final = {"*": ["*"]}
_USERS_MAX: Final = 20_000


@dataclass(slots=True)
class Spent:
    """The time, CPU time and memory used in a measured period.

    Attributes:
        cpu_s: CPU time by part: `nodes`, `redis`, `generator`.
        rss_bytes: memory of each part at the end.
        commands: number of Redis commands by name, including those called by scripts.
    """

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    rss_bytes: dict[str, int] = field(default_factory=dict)
    commands: dict[str, int] = field(default_factory=dict)
    redis_bytes: int = 0

    def cpu_us(self, part: str, count: float) -> float:
        """A part's CPU time in microseconds, divided by `count`."""
        return self.cpu_s.get(part, 0.0) / max(count, 1) * 1e6


@dataclass(frozen=True, slots=True)
class BenchServers:
    """A running Redis and the running nodes of one server.

    Attributes:
        folder: the data folder of the nodes.
    """

    peer: Peer
    nodes: list[BenchNode]
    redis: EmbeddedRedis
    secret: str
    cores: Cores
    folder: Path


class Setup:
    """The running processes of one scenario: the servers, and a load generator with its own tenant."""

    def __init__(self, servers: BenchServers, calls: Calls, generator: Generator, tenant: str) -> None:
        self.servers, self.peer, self.nodes = servers, servers.peer, servers.nodes
        self.generator, self.tenant = generator, tenant
        self._calls = calls
        self._ended: dict[int, Used] = {}
        self.problems: list[str] = []

    async def open(
        self, group: str, count: int, join: str, *, nodes: tuple[int, ...] = (0,), **options: object
    ) -> Seen:
        """Connect and subscribe a group of clients.

        `join` lists channels and how many clients share each: `own/1,team/10,all/0`.

        Raises:
            GeneratorFailed: not all of them could connect.
        """
        named = ",".join(self.peer.channel(one) for one in join.split(","))
        answer = await self.ask("group", group=group, count=count, join=named, ports=self.ports(*nodes), **options)
        seen = answer.groups[group]
        if seen.live < count:
            raise GeneratorFailed(
                f"{seen.live} of {count} clients of {group} connected: {answer.problem or 'the others are still waiting'}"
            )
        return seen

    def ports(self, *nodes: int) -> str:
        """The ports of these nodes, in the generator's format."""
        return ",".join(str(self.nodes[number].port) for number in nodes)

    async def ask(self, verb: str, **options: object) -> LoadReport:
        """Send one command to the generator; a problem that it reports is recorded."""
        answer = await self.generator.command(verb, **options)
        if answer.problem:
            self.problems.append(f"{verb}: {answer.problem}")
        return answer

    def kill(self, number: int) -> None:
        """Kill one node with SIGKILL; its CPU time is still counted."""
        self._ended[number] = used_by(self.nodes[number].pid)
        self.nodes[number].kill()

    async def usage(self) -> Spent:
        """The resources used so far."""
        nodes = [
            self._ended[number] if number in self._ended else used_by(node.pid)
            for number, node in enumerate(self.nodes)
        ]
        parts = {"redis": used_by(self.servers.redis.pid), "generator": used_by(self.generator.pid)}
        return Spent(
            time.monotonic(),
            {"nodes": sum(one.cpu_s for one in nodes)} | {name: one.cpu_s for name, one in parts.items()},
            {"nodes": sum(one.rss_bytes for one in nodes)} | {name: one.rss_bytes for name, one in parts.items()},
            await count_commands(self._calls),
            (await read_facts(self._calls)).used_bytes,
        )

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[Spent]:
        """Yields the resources used by the block, filled in at its end. The generator's counters are reset at its start."""
        await self.ask("reset")
        before, spent = await self.usage(), Spent()
        yield spent
        after = await self.usage()
        spent.seconds = after.seconds - before.seconds
        spent.cpu_s = {name: after.cpu_s[name] - before.cpu_s[name] for name in after.cpu_s}
        spent.rss_bytes, spent.redis_bytes = after.rss_bytes, after.redis_bytes
        made = {name: count - before.commands.get(name, 0) for name, count in after.commands.items()}
        spent.commands = {name: count for name, count in made.items() if count and name not in {"info", "config|get"}}


def write_tokens(path: Path, secret: str, tenant: str, count: int) -> None:
    """Write the tokens of `count` different users of a tenant, one per line."""
    now = time.time()
    path.write_text("\n".join(sign(secret, f"u{number}", tenant, _GRANTS, 86_400, now) for number in range(count)))


@contextlib.asynccontextmanager
async def started(
    peer: Peer,
    tools: Path,
    *,
    nodes: int = 1,
    workers: int = 1,
    is_pinned: bool = True,
    is_persistent: bool = True,
    has_limits: bool = False,
    has_archive: bool = False,
) -> AsyncIterator[BenchServers]:
    """Start a Redis and the nodes, and stop them in any case.

    The nodes share the first core; Redis and the generator have the others. If they are not pinned, all processes share all cores.
    """
    cores, secret = Cores.split() if is_pinned else Cores.shared(), secrets.token_hex(24)
    async with contextlib.AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        redis = EmbeddedRedis(
            folder / "redis",
            port=free_port(),
            is_guarded=False,
            is_persistent=is_persistent,
            has_own_session=False,  # otherwise attackers, which run with the lowest priority, would share its core equally
        )
        running.callback(redis.stop)
        redis.start()
        pin(redis.pid, cores.others)
        (folder / "node").mkdir()
        place = Place(tools, folder / "node", redis.url, secret, len(cores.servers), workers, has_limits, has_archive)
        made = [peer.node(place) for _ in range(nodes)]
        for node in made:
            running.callback(node.kill)
            node.start()
            pin(node.pid, cores.servers)
            await node.ready()
            pin(node.pid, cores.servers)
        await peer.prepare(made[0])
        yield BenchServers(peer, made, redis, secret, cores, place.folder)


@contextlib.asynccontextmanager
async def loaded(servers: BenchServers, users: int, tell: Callable[[str], None]) -> AsyncIterator[Setup]:
    """Start a load generator for running servers, with the tokens of `users` users of a new tenant."""
    tenant = f"bench-{secrets.token_hex(4)}"
    async with contextlib.AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        calls = Calls.at(servers.redis.url, "hub-bench")
        running.callback(calls.close)
        tokens = folder / "tokens"
        await asyncio.to_thread(write_tokens, tokens, servers.secret, tenant, min(users, _USERS_MAX))
        generator = await Generator.start(servers.peer.dialect, tokens, tell)
        running.push_async_callback(generator.stop)
        pin(generator.pid, servers.cores.others)
        yield Setup(servers, calls, generator, tenant)
