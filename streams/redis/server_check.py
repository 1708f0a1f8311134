"""Checks of a Redis server before events are entrusted to it, and the configuration that is fixed at its first start."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from streams.errors import CommandRefused, ConfigurationRefused, RightMissing
from streams.redis.calls import Calls
from streams.redis.durability import ServerFacts
from streams.redis.keys import CONFIG, MOVING, Keys, spread_tags
from streams.redis.scripts import load
from streams.redis.wire import Argument

OLDEST_VERSION: Final = (6, 2)
"""The oldest supported version: 6.2 introduced XRANGE with an exclusive start, XAUTOCLAIM and XTRIM MINID."""

_NEEDED: Final = (
    "EVALSHA x 1 {k}", "EVAL x 1 {k}", "XADD {k} * f v", "XRANGE {k} - +", "XREVRANGE {k} + -", "XREAD STREAMS {k} 0", "XLEN {k}",
    "XTRIM {k} MAXLEN 1", "XDEL {k} 0-1", "XINFO STREAM {k}", "XGROUP CREATE {k} g 0", "XREADGROUP GROUP g c STREAMS {k} >",
    "XACK {k} g 0-1", "XCLAIM {k} g c 0 0-1", "XPENDING {k} g", "HSET {k} f v", "HSETNX {k} f v", "HGET {k} f", "HMGET {k} f",
    "HGETALL {k}", "HDEL {k} f", "HEXISTS {k} f", "HLEN {k}", "HKEYS {k}", "HSCAN {k} 0", "HINCRBY {k} f 1", "ZADD {k} 1 m",
    "ZREM {k} m", "ZRANGE {k} 0 1", "ZRANGEBYSCORE {k} 0 1", "ZRANGEBYLEX {k} - +", "ZREMRANGEBYSCORE {k} 0 1", "ZSCORE {k} m",
    "ZCARD {k}", "ZCOUNT {k} 0 1", "SADD {k} m", "SISMEMBER {k} m", "SMEMBERS {k}", "SET {k} v", "GET {k}", "INCRBY {k} 1",
    "DECRBY {k} 1", "DEL {k}", "EXISTS {k}", "EXPIRE {k} 1", "PEXPIRE {k} 1", "PERSIST {k}", "RENAME {k} {k}", "SCAN 0", "TIME",
    "MEMORY USAGE {k}", "INFO", "CLIENT SETNAME x", "WAIT 0 1",
)  # fmt: skip # a table
"""The commands that the hub's processes send, each with arguments that Redis would accept; a script's commands count as well."""
OF_WORKERS: Final = frozenset({"xreadgroup", "xack", "xclaim"})
"""Those of them that only workers send."""

_BEGIN: Final = load("begin")


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
    is_replica = info.get("role") == "slave"
    memory = _memory_in(info)
    return ServerFacts(
        version,
        run_id,
        is_fsync_always,
        is_append_only,
        replicas,
        policy,
        is_rewriting,
        *memory,
        is_replica,
        _mode_in(info),
    )


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


async def missing_rights(calls: Calls, key: str = CONFIG) -> list[str]:
    """The commands that the hub needs and the user may not run on the hub's keys, as names for ACL rules.

    Nothing is run: after MULTI, Redis refuses a forbidden command at once; DISCARD forgets the others. The server must hold
    `key`.

    Raises:
        LogUnavailable: Redis is unreachable, or MULTI is forbidden.
        CommandRefused: Redis does not know one of the commands.
    """
    await calls.call("MULTI")
    missing: list[str] = []
    try:
        for line in _NEEDED:
            command: list[Argument] = [key if word == "{k}" else word for word in line.split(" ")]
            try:
                await calls.call(*command)
            except RightMissing:
                missing.append(line.split(" ")[0].lower())
    finally:
        await calls.call("DISCARD")
    return missing


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


def check_mode(facts: ServerFacts, *, is_cluster: bool) -> None:
    """Refuse a server that is of another kind than REDIS_URL says.

    Raises:
        ConfigurationRefused: the server belongs to a Cluster, or is a Sentinel.
    """
    if facts.mode == "sentinel":
        raise ConfigurationRefused(
            "this is a Sentinel: write redis+sentinel://host:26379,host:26379/name, with the name that it watches"
        )
    if facts.mode == "cluster" and not is_cluster:
        raise ConfigurationRefused("this Redis belongs to a Cluster: write redis+cluster://host:6379,host:6379")


async def kept_keys(calls: Calls) -> Keys | None:
    """The keys of the existing log; None if there is no log yet.

    Raises:
        ConfigurationRefused: an older version began the log, with keys of another form, or a repartition was cut off.
    """
    if await calls.call("HEXISTS", CONFIG, MOVING):
        raise ConfigurationRefused(
            "the log is being moved to another number of partitions; if that was cut off, run `hub repartition` again"
        )
    return await kept_partitions(calls)


async def kept_partitions(calls: Calls) -> Keys | None:
    """The keys of the existing log, also while it is moved to others; None if there is no log yet.

    Raises:
        ConfigurationRefused: an older version began the log, with keys of another form.
    """
    partitions, tags = await calls.call("HMGET", CONFIG, "partitions", "tags")
    return _keys_of(partitions, tags) if partitions else None


async def kept_life(calls: Calls, key: str | bytes = CONFIG) -> str:
    """The identity of the existing log, or in a Cluster of a partition's data; "" if none is recorded."""
    life = await calls.call("HGET", key, "life")
    return life.decode() if life else ""


async def fix_keys(calls: Calls, partitions: int) -> FixedLog:
    """Write partitions, hash tags and identity at the first start; later starts must request the same number of partitions.

    Raises:
        ConfigurationRefused: as `fix_partitions`.
    """
    return FixedLog(await fix_partitions(calls, partitions), await fix_life(calls, CONFIG))


async def fix_partitions(calls: Calls, partitions: int) -> Keys:
    """Write partitions and hash tags at the first start. `calls` lead to `CONFIG`.

    Raises:
        ConfigurationRefused: the log was created with another number of partitions, which would hide every channel, or by an
            older version, whose keys have another form.
    """
    keys = await kept_keys(calls)
    if keys is None:
        keys = _keys_of(*await calls.run(_BEGIN, (CONFIG,), partitions, " ".join(spread_tags(partitions))))
    if partitions != keys.partitions:
        raise ConfigurationRefused(
            f"HUB_PARTITIONS is {partitions}, but this log was begun with {keys.partitions}; set it to that"
        )
    return keys


async def fix_life(calls: Calls, key: str | bytes) -> str:
    """The identity of the data beside `key`, made at the first start and after a flush."""
    await calls.call("HSETNX", key, "life", secrets.token_hex(8))
    life: bytes = await calls.call("HGET", key, "life")
    return life.decode()


def _keys_of(partitions: bytes, tags: bytes | None) -> Keys:
    if tags is None:
        raise ConfigurationRefused(
            "an older version began the log in this Redis, with keys that this version does not read: go on with that version, "
            "or name an empty Redis in REDIS_URL (or another data folder)"
        )
    return Keys(int(partitions), tags.decode().split())


def _memory_in(info: Mapping[str, str]) -> tuple[int, int]:
    return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))


def _mode_in(info: Mapping[str, str]) -> str:
    if info.get("cluster_enabled") == "1":
        return "cluster"
    return "sentinel" if "sentinel" in {info.get("redis_mode"), info.get("server_mode")} else "standalone"


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
