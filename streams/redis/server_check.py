"""What a Redis server must be like before facts are trusted to it, and what is fixed at its first start."""

from __future__ import annotations

import secrets
from typing import Final

import hiredis

from streams.errors import ConfigurationRefused
from streams.redis.durability import ServerFacts
from streams.redis.keys import CONFIG
from streams.redis.wire import Wire

OLDEST_VERSION: Final = (6, 2)
"""XRANGE with an exclusive start and XTRIM MINID came with 6.2."""


async def read_facts(wire: Wire) -> ServerFacts:
    """INFO and CONFIG, as far as the server lets us read them (managed servers may hide CONFIG)."""
    info = _parse_info(await wire.call("INFO"))
    config = await _config(wire)
    version = tuple(int(part) for part in info.get("redis_version", "0").split("."))
    is_append_only = info.get("aof_enabled") == "1"
    is_fsync_always = is_append_only and config.get("appendfsync") == "always"
    policy = config.get("maxmemory-policy", info.get("maxmemory_policy", "unknown"))
    replicas = int(info.get("connected_slaves", 0))
    return ServerFacts(version, info.get("run_id", ""), is_fsync_always, is_append_only, replicas, policy)


def check_facts(facts: ServerFacts) -> None:
    """Refuse a server that may lose what it acknowledged.

    Raises:
        ConfigurationRefused: too old, or allowed to evict keys.
    """
    if facts.version < OLDEST_VERSION:
        raise ConfigurationRefused("Redis 6.2 or newer is needed")
    if facts.maxmemory_policy != "noeviction":
        raise ConfigurationRefused(
            f"maxmemory-policy is {facts.maxmemory_policy}, which may evict streams: CONFIG SET maxmemory-policy noeviction"
        )


async def fix_partitions(wire: Wire, partitions: int) -> None:
    """Write the number of partitions at the first start, and hold every later start to it.

    Raises:
        ConfigurationRefused: the log was begun with another number; changing it would hide every channel.
    """
    await wire.call("HSETNX", CONFIG, "partitions", partitions)
    await wire.call("HSETNX", CONFIG, "life", secrets.token_hex(8))
    begun_with = int(await wire.call("HGET", CONFIG, "partitions"))
    if begun_with != partitions:
        raise ConfigurationRefused(
            f"HUB_PARTITIONS is {partitions}, but this log was begun with {begun_with}; set it to that"
        )


def _parse_info(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode().splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


async def _config(wire: Wire) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("maxmemory-policy", "appendfsync"):
        try:
            reply = await wire.call("CONFIG", "GET", name)
        except hiredis.ReplyError:  # a managed server without CONFIG: INFO tells the policy
            return found
        if reply:
            found[reply[0].decode()] = reply[1].decode()
    return found
