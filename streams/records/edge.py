"""Data that nodes share, as bytes: rate reports, total bytes stored per tenant, revoked tokens, claimed sessions.

One round trip writes this node's data and reads what is new from all nodes; `hub.limits` interprets the bytes. The keys lie in
one cluster slot. The streams are trimmed to the part that nodes still read, and each node that loads the revocations deletes
the expired ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from streams.cursor import START, id_order, ms_of_id
from streams.redis.calls import Calls, pairs
from streams.redis.keys import edge_keys
from streams.redis.wire import Argument, Reply

LOOK_BACK_S: Final = 60
"""Maximum age of the reports that a node reads when it starts: the time in which the slowest bucket (10 failures a minute) refills.
"""
_REVOCATIONS_MAX: Final = 10_000
_CLAIMS_MAX: Final = 1_000
"""Maximum number of session claims kept; a node reads each within one or two rounds."""
_PAGE: Final = 1_000


class StampedReport(NamedTuple):
    """A rate report, and the time at which Redis received it, in milliseconds since 1970."""

    at_ms: int
    data: bytes


class EdgeNews(NamedTuple):
    """The data read in one exchange round.

    Attributes:
        totals: bytes stored by each tenant that this node has reported on.
        revocation_count: number of revocations stored in Redis; if a node knows more than that, Redis has lost some.
        redis_s: Redis's clock, in seconds since 1970.
    """

    totals: Mapping[str, int]
    reports: list[StampedReport]
    revocations: list[bytes]
    claims: list[bytes]
    revocation_count: int
    redis_s: float


class EdgeRecords:
    """The shared data as one node reads it, from a position in each stream that `load` sets.

    Args:
        prefix: separates deployments that share a Redis.
    """

    def __init__(self, calls: Calls, prefix: str = "hub") -> None:
        self._calls = calls
        self._keys = edge_keys(prefix)
        self._rates_after: str | None = None
        self._revoked_after = self._claimed_after = START

    async def load(self) -> dict[str, bytes]:
        """Reads all revocations, by field. The stream's position is read first, so that no later revocation is missed.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        keys = self._keys
        self._revoked_after = await self._last(keys.bell)
        self._claimed_after = await self._last(keys.sessions)
        if self._rates_after is None:
            seconds, _ = await self._calls.call("TIME")
            self._rates_after = f"{(int(seconds) - LOOK_BACK_S) * 1000}-0"
        else:  # a promoted replica may be behind the position already read: continue from its end
            self._rates_after = min(self._rates_after, await self._last(keys.rates), key=id_order)
        found: dict[str, bytes] = {}
        at: bytes | None = None
        while at != b"0":
            at, raw = await self._calls.call("HSCAN", keys.revocations, at or b"0", "COUNT", _PAGE)
            found |= {field.decode(): entry for field, entry in pairs(raw).items()}
        return found

    async def exchange(self, stored: Mapping[str, int], reports: Iterable[bytes], claims: bytes | None) -> EdgeNews:
        """One round: add the bytes stored by tenant, write this node's reports and claims, and read those of all nodes.

        Raises:
            LogUnavailable: Redis is unreachable; part of the data may have been written.
        """
        keys = self._keys
        commands: list[list[Argument]] = [["HINCRBY", keys.bytes_stored, *added] for added in stored.items()]
        for report in reports:
            await asyncio.sleep(0)  # writing many reports must not delay the sockets
            commands.append(["XADD", keys.rates, "MINID", "~", self._oldest_kept_ms(), "*", "r", report])
        if claims is not None:
            commands.append(["XADD", keys.sessions, "MAXLEN", "~", _CLAIMS_MAX, "*", "s", claims])
        places = {
            keys.rates: self._rates_after or START,
            keys.bell: self._revoked_after,
            keys.sessions: self._claimed_after,
        }
        commands.append(["XREAD", "COUNT", _PAGE, "STREAMS", *places, *places.values()])
        commands += [["HLEN", keys.revocations], ["TIME"]]
        replies = await self._calls.pipeline(commands)
        (seconds, microseconds), count = replies[-1], replies[-2]
        totals = {tenant: int(total) for tenant, total in zip(stored, replies, strict=False)}
        return self._news(totals, replies[-3] or (), int(count), int(seconds) + int(microseconds) / 1e6)

    def _news(self, totals: Mapping[str, int], raw: Iterable[Reply], count: int, redis_s: float) -> EdgeNews:
        news = EdgeNews(totals, [], [], [], count, redis_s)
        for key, entries in raw:
            last = entries[-1][0].decode()
            if key.decode() == self._keys.rates:
                self._rates_after = last
                news.reports.extend(
                    StampedReport(ms_of_id(entry_id), fields[1]) for entry_id, fields in _named(b"r", entries)
                )
            elif key.decode() == self._keys.bell:
                self._revoked_after = last
                news.revocations.extend(fields[1] for _, fields in _named(b"r", entries))
            else:
                self._claimed_after = last
                news.claims.extend(fields[1] for _, fields in _named(b"s", entries))
        return news

    async def revoke(self, field: str, entry: bytes) -> None:
        """Store a revocation and announce it to every node, in one transaction.

        Raises:
            LogUnavailable: the outcome is unknown; the call may be repeated.
        """
        await self._calls.transaction(
            (
                ("HSET", self._keys.revocations, field, entry),
                ("XADD", self._keys.bell, "MAXLEN", "~", _REVOCATIONS_MAX, "*", "r", entry),
            )
        )

    async def tidy(self, dead: Collection[str], lost: Mapping[str, bytes]) -> None:
        """Delete expired revocations, and restore those that Redis has lost."""
        if dead:
            await self._calls.call("HDEL", self._keys.revocations, *dead)
        if lost:
            flat = [item for pair in lost.items() for item in pair]
            await self._calls.call("HSET", self._keys.revocations, *flat)

    def close(self) -> None:
        """Close the connection."""
        self._calls.close()

    def _oldest_kept_ms(self) -> int:
        return max(0, ms_of_id(self._rates_after or START) - LOOK_BACK_S * 2_000)

    async def _last(self, key: str) -> str:
        found = await self._calls.call("XREVRANGE", key, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else START


def _named(name: bytes, entries: Iterable[Reply]) -> Iterator[Reply]:
    """The entries with this field; others were added by hand."""
    return (entry for entry in entries if entry[1][0] == name)
