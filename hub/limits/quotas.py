"""Quotas of tenants: connections, channels, publish rate, bytes stored. Pure.

Counts of this node are exact; those of other nodes are as old as their last report, about half a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hub.errors import HubError
from hub.limits.rates import Buckets, RateClass

TENANTS_MAX: Final = 65_536
"""Maximum tenants whose stored bytes are cached, about 10 MB. Beyond it tenants with nothing unreported are dropped; their
totals are known again half a second after their next event."""
EVENT_BYTES: Final = 200
"""Bytes that Redis needs for an event besides its payload: its entry, the actor, the id of its command."""
CHANNEL_BYTES: Final = 4_700
"""Bytes that Redis needs for a channel with its first event (measured: 4,694)."""
REPORT_LIFE_S: Final = 15.0
"""Seconds without a report after which a node counts as dead and its counts are dropped."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota of one tenant; None means unlimited.

    Attributes:
        connections: maximum open sockets, over all nodes.
        channels: maximum channels subscribed to at once; a channel open on two nodes counts twice.
        publishes_per_s: stored events per second, with a burst of ten seconds' worth.
        bytes_stored: maximum bytes of events, including Redis's overhead, and of files and uploads in progress.
    """

    connections: int | None = None
    channels: int | None = None
    publishes_per_s: float | None = None
    bytes_stored: int | None = None


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """A node's current counts for one tenant."""

    connections: int = 0
    channels: int = 0


class Quotas:
    """The counts of one node.

    Args:
        quota: the quota of every tenant; unlimited by default.
    """

    def __init__(self, quota: Quota | None = None) -> None:
        self.quota = quota or Quota()
        self._connections: Counter[str] = Counter()
        self._channels: Counter[str] = Counter()
        per_s = self.quota.publishes_per_s
        self._publishes = None if per_s is None else Buckets(RateClass(per_s, max(1.0, per_s * 10)))
        self._bytes_stored: Counter[str] = Counter()
        self._bytes_unreported: Counter[str] = Counter()
        self._part_bytes: int | None = None
        self._from_reserve: Counter[str] = Counter()
        self._remote: dict[str, tuple[float, Mapping[str, TenantUsage]]] = {}

    def open_connection(self, tenant: str) -> None:
        """Counts a connection.

        Raises:
            HubError: 4010: the tenant is at its limit; nothing was counted.
        """
        allowed = self.quota.connections
        if allowed is not None and self._connections[tenant] + self._elsewhere(tenant).connections >= allowed:
            raise HubError(4010, "your organisation has reached its limit of connections; try again later")
        self._connections[tenant] += 1

    def close_connection(self, tenant: str) -> None:
        """Stop counting a connection."""
        _lower(self._connections, tenant)

    def open_channel(self, tenant: str) -> None:
        """Counts a channel that got its first local subscriber.

        Raises:
            HubError: 4015: the tenant is at its limit; nothing was counted.
        """
        allowed = self.quota.channels
        if allowed is not None and self._channels[tenant] + self._elsewhere(tenant).channels >= allowed:
            raise HubError(
                4015, "your organisation has reached its limit of followed channels; unsubscribe from some first"
            )
        self._channels[tenant] += 1

    def close_channel(self, tenant: str) -> None:
        """Stop counting a channel that lost its last local subscriber."""
        _lower(self._channels, tenant)

    def publish(self, tenant: str, size_bytes: int, now: float) -> None:
        """Counts one event about to be stored. `now` is in seconds of a monotonic clock.

        Raises:
            HubError: 4004: over the publish rate; 4011: the tenant's storage is full, or it has used its share of the reserve.
        """
        part = self._part_bytes
        if part is not None and self._from_reserve[tenant] + size_bytes > part:
            raise HubError(
                4011,
                "the hub's storage is nearly full, and your organisation has used its share of what is left; tell its operator",
            )
        allowed = self.quota.bytes_stored
        if allowed is not None and self._bytes_stored[tenant] + size_bytes > allowed:
            self._bytes_unreported[tenant] += (
                0  # requests a new total with the next report: something may have been removed
            )
            raise HubError(
                4011, "your organisation has reached its storage limit; cancel uploads, or request a larger quota"
            )
        if self._publishes is not None and (advice_ms := self._publishes.take(tenant, now, 1.0)) is not None:
            raise HubError(
                4004,
                "your organisation stores more events per second than its quota allows; try again later",
                retry_after_ms=advice_ms,
            )
        self._count(tenant, size_bytes)

    def take_back(self, tenant: str, size_bytes: int) -> None:
        """Refunds the bytes of an event that was not stored."""
        self._count(tenant, -size_bytes)

    def begin_channel(self, tenant: str) -> None:
        """Count the keys of a channel that got its first event."""
        self._count(tenant, CHANNEL_BYTES)

    def _count(self, tenant: str, size_bytes: int) -> None:
        if self._part_bytes is not None:
            self._from_reserve[tenant] += size_bytes
        if self.quota.bytes_stored is not None:
            self.note_stored(tenant, size_bytes)

    def open_reserve(self, part_bytes: int) -> None:
        """Treats Redis's free memory as a reserve, of which each tenant may use `part_bytes` through this node."""
        if self._part_bytes is None:
            self._from_reserve.clear()
        self._part_bytes = part_bytes

    def close_reserve(self) -> None:
        """Ends the reserve: Redis has enough room again."""
        self._part_bytes = None

    @property
    def is_reserve_open(self) -> bool:
        """True while Redis's free memory is treated as a reserve."""
        return self._part_bytes is not None

    def note_stored(self, tenant: str, size_bytes: int) -> None:
        """Counts bytes that were stored (or, if negative, removed) without a check: finished uploads, deleted channels."""
        self._bytes_stored[tenant] += size_bytes
        self._bytes_unreported[tenant] += size_bytes

    def is_full(self, tenant: str) -> bool:
        """True if the tenant stores more than its quota allows."""
        allowed = self.quota.bytes_stored
        return allowed is not None and self._bytes_stored[tenant] > allowed

    def usage(self) -> dict[str, TenantUsage]:
        """Returns this node's counts per tenant, for its report; empty if no count is limited."""
        if self.quota.connections is None and self.quota.channels is None:
            return {}
        tenants = self._connections.keys() | self._channels.keys()
        return {name: TenantUsage(self._connections[name], self._channels[name]) for name in tenants}

    def drain_bytes(self) -> dict[str, int]:
        """Takes the bytes stored since the last call, by tenant, for the shared totals."""
        drained, self._bytes_unreported = dict(self._bytes_unreported), Counter()
        return drained

    def restore_bytes(self, drained: Mapping[str, int]) -> None:
        """Puts back bytes whose report did not arrive."""
        self._bytes_unreported.update(drained)

    def note_total(self, tenant: str, bytes_stored: int) -> None:
        """Records a tenant's shared total, which includes what this node has reported."""
        if len(self._bytes_stored) >= TENANTS_MAX:
            self._bytes_stored = Counter({name: self._bytes_stored[name] for name in self._bytes_unreported})
        self._bytes_stored[tenant] = bytes_stored + self._bytes_unreported[tenant]

    def note_report(self, node: str, usage: Mapping[str, TenantUsage], now: float) -> None:
        """Records another node's counts."""
        self._remote[node] = (now, usage)
        self._remote = {name: told for name, told in self._remote.items() if now - told[0] <= REPORT_LIFE_S}

    def _elsewhere(self, tenant: str) -> TenantUsage:
        held = [usage[tenant] for _, usage in self._remote.values() if tenant in usage]
        return TenantUsage(sum(one.connections for one in held), sum(one.channels for one in held))


def _lower(counts: Counter[str], tenant: str) -> None:
    counts[tenant] -= 1
    if counts[tenant] <= 0:
        del counts[tenant]
