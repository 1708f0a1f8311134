"""The checks of the Redis server, or of the servers of a Cluster: read-only, each with the operator's next step.

`hub serve` and `hub worker` make those that keep them from starting; `hub doctor` also those that would lose data later.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from hub.config import Settings
from ops.cli.findings import Finding, Level
from streams.channel import Channel
from streams.errors import CommandRefused, ConfigurationRefused, LogUnavailable, RightMissing, StreamsError
from streams.records.deletions import unfinished_deletions
from streams.redis.calls import Calls
from streams.redis.durability import DurabilityPolicy, ServerFacts
from streams.redis.keys import CONFIG, Keys, key_between
from streams.redis.locate import Locator, SlotMap
from streams.redis.log import memory_trouble
from streams.redis.server import without_password
from streams.redis.server_check import (
    OF_WORKERS,
    check_facts,
    check_mode,
    kept_keys,
    missing_rights,
    read_clock,
    read_facts,
    read_memory,
)

OF_SETTINGS: Final = frozenset({"settings", "partitions", "durability", "jobs"})
"""Findings that changing a setting would fix; the others concern the server."""
_MIB: Final = 1_048_576
AWAY: Final = "redis away"
"""The finding that Redis is unreachable, or cannot serve yet, which may pass."""
SKEW_MAX_MS: Final = 2_000
"""Largest difference of two clocks. Leases of 6 s are compared by the clocks of servers, tokens by those of nodes."""

_NAMED_MAX: Final = 8
_ALL_RULES: Final = "+@read +@write +@stream +@scripting +@transaction +@connection +info +time +wait +waitaof"


class _Server(NamedTuple):
    """A server under examination; `key` is one that it holds."""

    calls: Calls
    facts: ServerFacts
    key: str


async def check_redis(url: str, settings: Settings | None) -> list[Finding]:
    """The checks without which a node or worker does not start: reachable, version and configuration, partitions, durability."""
    async with _closing() as opened:
        return (await _check(url, settings, opened))[0]


async def check_redis_fully(url: str, settings: Settings | None) -> list[Finding]:
    """Every check of the servers, and of the place for job queues."""
    async with _closing() as opened:
        found, servers = await _check(url, settings, opened)
        if not any(finding.level is Level.FAIL for finding in found):
            # before the rights: where DISCARD is forbidden, the connection is left in MULTI
            found += await _check_clocks({where: server.calls for where, server in servers.items()})
            cut_off: set[Channel] = set()
            for where, (calls, facts, key) in servers.items():
                cut_off.update(await unfinished_deletions(calls))
                if not facts.is_append_only:
                    text = f"{where}no append-only file, so a restart loses events: set `appendonly yes`"
                    found.append(Finding(Level.FAIL, "aof", text))
                found.append(_of_memory(*await read_memory(calls), where))
                found += await _check_rights(calls, where, key)
            found += _of_deletions(sorted(cut_off))
        found += await _check_jobs(url, settings)
    return found


def _of_deletions(cut_off: Sequence[Channel]) -> Iterator[Finding]:
    if cut_off:
        commands = [f"`hub delete {one.wire} --tenant {one.tenant}`" for one in cut_off[:_NAMED_MAX]]
        more = f" and {len(cut_off) - _NAMED_MAX} more" if cut_off[_NAMED_MAX:] else ""
        text = f"under way, or cut off, and completed by {', '.join(commands)}{more}"
        yield Finding(Level.WARN, "deletions", text)


@asynccontextmanager
async def _closing() -> AsyncIterator[list[Calls]]:
    """A list of calls that are closed at the end of the block."""
    opened: list[Calls] = []
    try:
        yield opened
    finally:
        for calls in opened:
            calls.close()


async def _check(url: str, settings: Settings | None, opened: list[Calls]) -> tuple[list[Finding], dict[str, _Server]]:
    servers: dict[str, _Server] = {}
    found: list[Finding] = []
    try:
        locator = Locator(url)
        places = {"": (url, CONFIG)}
        if locator.is_cluster:
            slots = await locator.read_map()
            found += _of_map(slots)
            places = {
                f"{without_password(held.url)}: ": (held.url, key_between(held.first, held.last))
                for held in slots.ranges
            }
        for where, (place, key) in places.items():
            opened.append(Calls.at(place, "hub-doctor"))
            servers[where] = _Server(opened[-1], await read_facts(opened[-1]), key)
            check_mode(servers[where].facts, is_cluster=locator.is_cluster)
        opened.append(Calls.at(url, "hub-doctor"))
        keys = await kept_keys(opened[-1])
    except ConfigurationRefused as refused:
        return [Finding(Level.FAIL, "settings", str(refused))], servers
    except StreamsError as away:
        return [Finding(Level.FAIL, AWAY, str(away))], servers
    except CommandRefused as refused:
        return [Finding(Level.FAIL, "settings", f"REDIS_URL must name a Redis server: {refused}")], servers
    for where, server in servers.items():
        found += _of_facts(server.facts, where)
        found += _of_durability(server.facts, where, settings)
    if settings:
        found.append(_of_partitions(keys, settings))
    return found, servers


def _of_map(slots: SlotMap) -> Iterator[Finding]:
    if slots.missing:
        text = f"{slots.missing} slots are served by nobody: `redis-cli --cluster check`, then `--cluster fix`"
        yield Finding(Level.FAIL, AWAY, text)
    alone = sorted({without_password(held.url) for held in slots.ranges if not held.replicas})
    if alone:
        text = f"{', '.join(alone)} without a replica: while one is lost, its channels are refused; add replicas"
        yield Finding(Level.WARN, "cluster", text)
    if not slots.is_ok:
        yield Finding(Level.FAIL, AWAY, "the Cluster does not work as a whole: see CLUSTER INFO and CLUSTER NODES")


def _of_facts(facts: ServerFacts, where: str) -> Iterator[Finding]:
    version = ".".join(map(str, facts.version))
    if facts.is_replica:
        text = f"{where}a replica, which refuses writes: point REDIS_URL at its master, or at Sentinels that know it"
        yield Finding(Level.FAIL, AWAY, text)
        return
    try:
        check_facts(facts)
    except ConfigurationRefused as refused:
        yield Finding(Level.FAIL, "redis", f"{where}{refused}")
    else:
        yield Finding(Level.OK, "redis", f"{where}{version}, {facts.maxmemory_policy}, {facts.replicas} replicas")


def _of_partitions(keys: Keys | None, settings: Settings) -> Finding:
    if keys is not None and keys.partitions != settings.partitions:
        text = f"HUB_PARTITIONS must be {keys.partitions}: the log was started with that number"
        return Finding(Level.FAIL, "partitions", text)
    return Finding(Level.OK, "partitions", str(settings.partitions))


def _of_durability(facts: ServerFacts, where: str, settings: Settings | None) -> Iterator[Finding]:
    if settings is None:
        return
    try:
        policy = DurabilityPolicy(settings.durability, facts)
    except ConfigurationRefused as refused:
        yield Finding(Level.FAIL, "durability", f"{where}{refused}")
    else:
        levels = {kind: policy.level_of(kind) for kind in settings.durability}
        yield Finding(Level.OK, "durability", where + ", ".join(f"{kind}={level}" for kind, level in levels.items()))


def _of_memory(used_bytes: int, max_bytes: int, where: str) -> Finding:
    if (told := memory_trouble(used_bytes, max_bytes)) is not None:
        return Finding(Level.WARN, "memory", where + told)
    limit = f"of {max_bytes / _MIB:.0f} MB" if max_bytes else "without a limit (maxmemory)"
    return Finding(Level.OK, "memory", f"{where}{used_bytes / _MIB:.0f} MB {limit}")


async def _check_rights(calls: Calls, where: str, key: str) -> Iterable[Finding]:
    try:
        missing = await missing_rights(calls, key)
    except (StreamsError, CommandRefused) as refused:
        return [Finding(Level.FAIL, "acl", f"{where}the rights could not be checked: {refused}")]
    if not missing:
        return [Finding(Level.OK, "acl", f"{where}the user has the rights that the hub needs")]
    if OF_WORKERS.issuperset(missing):
        text = f"{where}the user has the rights that a node needs, and not those of a worker"
        return [Finding(Level.OK, "acl", text)]
    rules = " ".join(f"+{name}" for name in missing) if len(missing) <= _NAMED_MAX else _ALL_RULES
    text = f"{where}the user lacks rights: ACL SETUSER <user> ~hub:* ~arq:* {rules}"
    return [Finding(Level.FAIL, "acl", text)]


async def _check_clocks(servers: Mapping[str, Calls]) -> Iterable[Finding]:
    ahead_ms: dict[str, int] = {}
    for where, calls in servers.items():
        asked_s = time.time()
        redis_ms = await read_clock(calls)
        ahead_ms[where] = round(redis_ms - (asked_s + time.time()) * 500)
    return [clock_finding(ahead_ms)]


def clock_finding(ahead_ms: Mapping[str, int]) -> Finding:
    """The finding about the clocks of servers, by how far each is ahead of this machine's."""
    latest, earliest = max(0, *ahead_ms.values()), min(0, *ahead_ms.values())
    if latest - earliest > SKEW_MAX_MS:
        worst = max(ahead_ms, key=lambda where: abs(ahead_ms[where]))
        told = (
            f"{worst}the clocks of the servers and of this machine differ by up to {(latest - earliest) / 1000:.1f} s"
        )
        return Finding(Level.FAIL, "clock", f"{told}: synchronise them (NTP)")
    return Finding(Level.OK, "clock", f"within {latest - earliest} ms")


async def _check_jobs(url: str, settings: Settings | None) -> Sequence[Finding]:
    jobs = settings.jobs_redis_url if settings else None
    if jobs is None and not Locator(url).is_cluster:
        return ()
    if jobs is None or Locator(jobs).is_cluster:
        text = "workers cannot keep job queues in a Cluster: set HUB_JOBS_REDIS_URL to a single Redis"
        return (Finding(Level.FAIL, "jobs", text),)
    calls = Calls.at(jobs, "hub-doctor")
    try:
        facts = await read_facts(calls)
        check_mode(facts, is_cluster=False)
        check_facts(facts)
    except (LogUnavailable, RightMissing, ConfigurationRefused) as refused:
        return (Finding(Level.FAIL, "jobs", f"HUB_JOBS_REDIS_URL: {refused}"),)
    finally:
        calls.close()
    if facts.is_replica:
        return (Finding(Level.FAIL, "jobs", "HUB_JOBS_REDIS_URL: a replica, which refuses writes: use its master"),)
    return (Finding(Level.OK, "jobs", "HUB_JOBS_REDIS_URL answers"),)
