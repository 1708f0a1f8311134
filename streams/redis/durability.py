"""Durability of acknowledgements: the level requested for each kind of channel, and the level that this Redis provides.

WAIT and WAITAOF count the writes of their own connection and do not block inside a script, so one such command (the barrier)
follows each script call on the append connection (redis.io/commands/waitaof). Its reply is checked: after a timeout the outcome is
unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streams.channel import Kind
from streams.envelope import Durability
from streams.errors import ConfigurationRefused

Barrier = tuple[bytes, ...]
BARRIER_TIMEOUT_MS: Final = 2_000
RANK: Final = {Durability.MEMORY: 0, Durability.FSYNC: 1, Durability.REPLICATED: 2}
"""The levels in ascending order."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server's version and configuration, from INFO and CONFIG.

    Attributes:
        used_bytes: memory in use, in bytes; `max_bytes` is the limit, 0 if there is none.
        mode: `standalone`, `cluster` or `sentinel`.
    """

    version: tuple[int, ...]
    run_id: str
    is_fsync_always: bool
    is_append_only: bool
    replicas: int
    maxmemory_policy: str
    is_rewriting: bool = False
    used_bytes: int = 0
    max_bytes: int = 0
    is_replica: bool = False
    mode: str = "standalone"


class DurabilityPolicy:
    """The durability level of each kind of channel, and the barrier command that achieves it.

    Raises:
        ConfigurationRefused: a kind requires a level that this server cannot provide.
    """

    def __init__(self, wanted: Mapping[Kind, Durability], server: ServerFacts) -> None:
        if server.replicas < 1 and Durability.REPLICATED in wanted.values():
            raise ConfigurationRefused("durability `replicated` needs a connected replica; INFO replication shows none")
        self._wanted = wanted
        self.rebase(server)

    def rebase(self, server: ServerFacts) -> None:
        """Recompute the levels after a reconnect. If a required replica is not connected yet, WAIT will fail, not this method.

        Raises:
            ConfigurationRefused: a kind requires a level that this server cannot provide.
        """
        given = Durability.FSYNC if server.is_fsync_always else Durability.MEMORY
        levels = {kind: max(self._wanted.get(kind, given), given, key=RANK.__getitem__) for kind in Kind}
        self._barriers = {kind: _barrier(level, server) for kind, level in levels.items() if level is not given}
        self._levels = levels

    def lowered(self, before: Mapping[Kind, Durability]) -> frozenset[Kind]:
        """The kinds whose level is now lower than it was in `before`."""
        return frozenset(kind for kind, level in self._levels.items() if RANK[level] < RANK[before[kind]])

    def level_of(self, kind: Kind) -> Durability:
        """The level named in acknowledgements for this kind of channel."""
        return self._levels[kind]

    @property
    def levels(self) -> Mapping[Kind, Durability]:
        """The level of every kind."""
        return self._levels

    @property
    def has_barriers(self) -> bool:
        """True if some kind needs a barrier after the script's reply."""
        return bool(self._barriers)

    def barrier_of(self, kind: Kind) -> Barrier | None:
        """The command that makes earlier writes durable for this kind; None if the script's reply is sufficient."""
        return self._barriers.get(kind)

    @staticmethod
    def reached(barrier: Barrier, counts: object) -> bool:
        """True if the barrier's reply has at least the required numbers."""
        if barrier[0] == b"WAITAOF":
            return isinstance(counts, list) and counts[0] >= int(barrier[1]) and counts[1] >= int(barrier[2])
        return isinstance(counts, int) and counts >= int(barrier[1])


def _barrier(level: Durability, server: ServerFacts) -> Barrier:
    timeout = str(BARRIER_TIMEOUT_MS).encode()
    if level is Durability.REPLICATED:
        return (b"WAIT", b"1", timeout)
    if server.version < (7, 2) or not server.is_append_only:
        raise ConfigurationRefused(
            "durability `fsync` needs `appendonly yes`, and `appendfsync always` or Redis 7.2 (WAITAOF)"
        )
    return (b"WAITAOF", b"1", b"0", timeout)
