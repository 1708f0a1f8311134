"""Checks of a Redis server before events are entrusted to it, and the configuration that is fixed at its first start."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from streams.errors import CommandRefused, ConfigurationRefused, RightMissing
from streams.redis.calls import Calls
from streams.redis.durability import ServerFacts
from streams.redis.keys import CONFIG, Keys, spread_tags

OLDEST_VERSION: Final = (6, 2)
"""The oldest supported version: 6.2 introduced XRANGE with an exclusive start, XAUTOCLAIM and XTRIM MINID."""


class FixedLog(NamedTuple):
    """The configuration fixed at a log's first start.

    Attributes:
        life: the identity of the server's data; it changes when the data is flushed.
    """

    keys: Keys
    life: str


async def read_facts(calls: Calls) -> ServerFacts:
    """Read the facts from INFO and CONFIG, as far as the server allows (managed servers may hide CONFIG)."""
    info = _parse_info(await calls.call("INFO"))
    config = await _config(calls)
    version = tuple(int(part) for part in info.get("redis_version", "0").split("."))
    is_append_only = info.get("aof_enabled") == "1"
    is_fsync_always = (
        is_append_only
        and config.get("appendfsync") == "always"
        and config.get("no-appendfsync-on-rewrite") == "no"  # otherwise nothing is synced while the file is rewritten
    )
    policy = config.get("maxmemory-policy", info.get("maxmemory_policy", "unknown"))
    replicas = int(info.get("connected_slaves", 0))
    is_rewriting = "1" in {info.get("aof_rewrite_in_progress"), info.get("aof_rewrite_scheduled")}
    run_id = info.get("run_id", "")
    memory = _memory_in(info)
    return ServerFacts(version, run_id, is_fsync_always, is_append_only, replicas, policy, is_rewriting, *memory)


async def read_clock(calls: Calls) -> int:
    """Redis's clock, in milliseconds since 1970."""
    seconds, micros = await calls.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def read_greeting(connected: socket.socket, password: str = "") -> dict[str, str] | None:
    """Read the server's INFO over a blocking socket; None while it is still loading its data. Closes the connection.

    For a caller that has just started a server and has no event loop yet.

    Raises:
        OSError: the server does not answer.
    """
    log_in = f"AUTH {password}\r\n" if password else ""
    connected.sendall(f"{log_in}PING\r\nINFO server\r\nQUIT\r\n".encode())
    answer = b""
    while part := connected.recv(65_536):
        answer += part
    return _parse_info(answer) if answer.removeprefix(b"+OK\r\n").startswith(b"+PONG") else None  # otherwise -LOADING


async def read_memory(calls: Calls) -> tuple[int, int]:
    """Bytes in use, and the limit (0: none)."""
    return _memory_in(_parse_info(await calls.call("INFO", "memory")))


async def count_commands(calls: Calls) -> dict[str, int]:
    """The number of calls of each command since the server started, including those from scripts, by lower-case name."""
    stats = _parse_info(await calls.call("INFO", "commandstats"))
    return {name.removeprefix("cmdstat_"): int(row.partition("=")[2].partition(",")[0]) for name, row in stats.items()}


def check_facts(facts: ServerFacts) -> None:
    """Refuse a server that may lose acknowledged events.

    Raises:
        ConfigurationRefused: the server is too old, or is allowed to evict keys.
    """
    if facts.version < OLDEST_VERSION:
        raise ConfigurationRefused("Redis 6.2 or newer is needed")
    if facts.maxmemory_policy != "noeviction":
        raise ConfigurationRefused(
            f"maxmemory-policy is {facts.maxmemory_policy}, which may evict streams: CONFIG SET maxmemory-policy noeviction"
        )


async def kept_keys(calls: Calls) -> Keys | None:
    """The keys of the existing log; None if there is no log yet."""
    partitions, tags = await calls.call("HMGET", CONFIG, "partitions", "tags")
    return Keys(int(partitions), tags.decode().split()) if partitions and tags else None


async def kept_life(calls: Calls, key: str | bytes = CONFIG) -> str:
    """The identity of the existing log, or in a Cluster of a partition's data; "" if none is recorded."""
    life = await calls.call("HGET", key, "life")
    return life.decode() if life else ""


async def fix_keys(calls: Calls, partitions: int) -> FixedLog:
    """Write partitions, hash tags and identity at the first start; later starts must request the same number of partitions.

    Raises:
        ConfigurationRefused: the log was created with another number; changing it would hide every channel.
    """
    await calls.call("HSETNX", CONFIG, "partitions", partitions)
    await calls.call("HSETNX", CONFIG, "life", secrets.token_hex(8))
    begun_with, tags, life = await calls.call("HMGET", CONFIG, "partitions", "tags", "life")
    _refuse_other_number(partitions, int(begun_with))
    if tags is None:
        await calls.call("HSETNX", CONFIG, "tags", " ".join(spread_tags(partitions)))
        tags = await calls.call("HGET", CONFIG, "tags")
    return FixedLog(Keys(partitions, tags.decode().split()), life.decode())


async def fix_partitions(calls: Calls, partitions: int) -> Keys:
    """Write partitions and hash tags of a log in a Cluster at the first start, as `fix_keys` does. `calls` lead to `CONFIG`.

    Raises:
        ConfigurationRefused: the log was created with another number of partitions.
    """
    begun_with, tags = await calls.call("HMGET", CONFIG, "partitions", "tags")
    if begun_with is None or tags is None:
        await calls.call("HSETNX", CONFIG, "partitions", partitions)
        await calls.call("HSETNX", CONFIG, "tags", " ".join(spread_tags(int(begun_with or partitions))))
        begun_with, tags = await calls.call("HMGET", CONFIG, "partitions", "tags")
    _refuse_other_number(partitions, int(begun_with))
    return Keys(partitions, tags.decode().split())


async def fix_life(calls: Calls, key: bytes) -> str:
    """The identity of the data beside `key`, made at the first start and after a flush."""
    await calls.call("HSETNX", key, "life", secrets.token_hex(8))
    life: bytes = await calls.call("HGET", key, "life")
    return life.decode()


def _refuse_other_number(wanted: int, begun_with: int) -> None:
    if wanted != begun_with:
        raise ConfigurationRefused(
            f"HUB_PARTITIONS is {wanted}, but this log was begun with {begun_with}; set it to that"
        )


def _memory_in(info: Mapping[str, str]) -> tuple[int, int]:
    return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))


def _parse_info(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


async def _config(calls: Calls) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("maxmemory-policy", "appendfsync", "no-appendfsync-on-rewrite"):
        try:
            reply = await calls.call("CONFIG", "GET", name)
        except (CommandRefused, RightMissing):  # a managed server without CONFIG: INFO has the policy
            return found
        if reply:
            found[reply[0].decode()] = reply[1].decode()
    return found
