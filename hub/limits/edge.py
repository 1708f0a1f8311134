"""Synchronises a node's limits, quotas and deny-list with the other nodes.

About twice a second, one round reports the costs this node let through and reads the others' reports and new
revocations. No event waits for a round. It never blocks inside Redis, so a half-open socket costs one timeout.
Without Redis each node limits alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hub.auth.revocations import DenyList, Revocation, decode_revocation
from hub.limits.admission import ConnectLimits
from hub.limits.quotas import Quota, Quotas, TenantUsage
from hub.limits.rates import DEFAULT_RATES, RateClass, RateLimiter
from hub.limits.sharing import (
    RateReport,
    SessionClaim,
    SessionClaims,
    charge_report,
    decode_claims,
    decode_report,
    encode_claims,
    reports,
)
from streams.errors import LogUnavailable
from streams.loops import Loop, Loops
from streams.records.edge import EdgeNews, EdgeRecords, StampedReport
from streams.redis.calls import Calls
from streams.redis.keys import edge_keys

ROUND_S: Final = 0.4
"""Seconds between rounds. Reports reach a node within one round and one round trip, well within the promised second. A round
costs 0.2 ms of processor time, plus 1.5 ms per 1,000 users active in it on any node (measured)."""

REDIS_TIMEOUT_S: Final = 2.0

USAGE_ROUNDS: Final = 12
"""Rounds between two usage reports for quotas, so that three arrive before one expires; changes are reported at once."""

_log: Final = logging.getLogger(__name__)


class EdgeStore:
    """Synchronises one node's limiter, quotas and deny-list with the other nodes through Redis.

    Args:
        records: the records in Redis; used by this object alone, and closed with it.
        node: this node's unique name.
        limiter: this node's rate limits.
        quotas: this node's counts for quotas.
        deny: kept complete: loaded at start and again whenever the connection was lost.
        on_revoked: called with each revocation that is new here, including this node's own.
        loops: supervises the rounds.
        now: Unix seconds.
        monotonic: the limiter's clock.
    """

    def __init__(
        self,
        records: EdgeRecords,
        node: str,
        *,
        limiter: RateLimiter,
        quotas: Quotas,
        deny: DenyList,
        on_revoked: Callable[[Revocation], None] = lambda _revocation: None,
        loops: Loops | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._node = records, node
        self._limiter, self._quotas, self._deny = limiter, quotas, deny
        self._on_revoked = on_revoked
        self._now, self._monotonic = now, monotonic
        self.claims = SessionClaims(monotonic)
        """Sessions resumed on this node, still to be reported to the others."""
        self._on_claimed: Callable[[SessionClaim], None] = lambda _claim: None
        self._is_loaded = False
        self._round = 0
        self._told: Mapping[str, TenantUsage] = {}
        self._loops = loops or Loops()
        self._loop: Loop | None = None
        self._in_round = asyncio.Lock()
        self._over = asyncio.Event()
        """Set at the end of the current round; each round has its own event."""

    @classmethod
    def connect(
        cls,
        url: str,
        node: str,
        *,
        limiter: RateLimiter,
        quotas: Quotas,
        deny: DenyList,
        prefix: str = "hub",
        loops: Loops | None = None,
    ) -> EdgeStore:
        """Creates a store with its own connection to Redis. Nothing is sent before `start`."""
        records = EdgeRecords(Calls.at(url, f"hub-edge-{node}", REDIS_TIMEOUT_S, edge_keys(prefix).rates), prefix)
        return cls(records, node, limiter=limiter, quotas=quotas, deny=deny, loops=loops)

    def listen(self, on_revoked: Callable[[Revocation], None], on_claimed: Callable[[SessionClaim], None]) -> None:
        """Sets the callbacks for each revocation that is new here, and for each session resumed on another node."""
        self._on_revoked, self._on_claimed = on_revoked, on_claimed

    async def start(self) -> None:
        """Loads the revocations, then synchronises until `close`.

        Raises:
            LogUnavailable: they could not be loaded. Without them a node must not accept anybody.
        """
        try:
            await self._sync()
        except LogUnavailable as error:
            raise LogUnavailable(f"the revocations could not be loaded: {error}") from error
        self._loop = self._loops.every("edge", self._turn, ROUND_S, retry_max_s=ROUND_S)

    async def close(self) -> None:
        """Stops; costs since the last round are not reported."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * REDIS_TIMEOUT_S), self._in_round:
                pass  # the current round was cancelled
        if self._loop is not None:
            await self._loops.stop(self._loop)
        self._records.close()

    async def revoke(self, revocation: Revocation) -> None:
        """Revokes on every node.

        On return the revocation is stored and applied here; the other nodes apply it within a second.

        Raises:
            LogUnavailable: Redis is unreachable. The revocation may or may not be stored; the call may be repeated.
        """
        try:
            await self._records.revoke(revocation.field, revocation.encode())
        except LogUnavailable as error:
            raise LogUnavailable("the revocation could not be stored; send it again") from error
        self._learn([revocation])

    async def wait_round(self) -> None:
        """Waits for a round that starts after this call, so that this node has read all reports made before it."""
        seen = self._round
        while self._round < seen + 2:
            await self._over.wait()

    @property
    def error(self) -> str | None:
        """The error of the last round; None if it succeeded."""
        return None if self._loop is None else self._loop.error

    async def _turn(self) -> None:
        try:
            async with self._in_round:
                await self._sync()
        except Exception:
            self._limiter.drain()  # given up unreported: kept, they would grow for as long as Redis is unreachable
            self._is_loaded = False  # revocations may have been missed while we were disconnected
            raise
        finally:
            asyncio.get_running_loop().call_soon(self._round_over)

    def _round_over(self) -> None:
        """Wakes those that wait for the round; its result is in `error`."""
        self._round += 1
        over, self._over = self._over, asyncio.Event()
        over.set()

    async def _sync(self) -> None:
        """Runs one round. Cancelling it leaves a report unsent or unread, which only makes limits slightly wider."""
        if not self._is_loaded:
            await self._load()
        drained_bytes = self._quotas.drain_bytes()
        claimed, asked_at = self.claims.drain(), self._monotonic()
        try:
            news = await self._records.exchange(
                drained_bytes,
                (report.encode() for report in self._own_reports()),
                encode_claims(self._node, claimed) if claimed else None,
            )
        except BaseException:
            self._quotas.restore_bytes(drained_bytes)
            self.claims.restore(claimed)
            raise
        for tenant, total in news.totals.items():
            self._quotas.note_total(tenant, total)
        self.claims.set_clock(asked_at, self._monotonic(), news.redis_s)
        await self._read_news(news)
        self._is_loaded = news.revocation_count >= len(
            self._deny
        )  # fewer mean that Redis was flushed, or failed over to a replica that was behind

    def _own_reports(self) -> Iterable[RateReport]:
        yield from reports(self._node, self._limiter.drain())
        usage = self._quotas.usage()
        if usage != self._told or (usage and self._round % USAGE_ROUNDS == 0):
            self._told = usage
            yield RateReport(self._node, usage=usage)

    async def _read_news(self, news: EdgeNews) -> None:
        self._learn(_readable(news.revocations))
        for claim in (claim for data in news.claims for claim in decode_claims(data)):
            if claim.node != self._node:
                self._on_claimed(claim)
        for report in news.reports:
            self._charge(report, news.redis_s)
            await asyncio.sleep(0)  # as for writing

    def _charge(self, stamped: StampedReport, redis_s: float) -> None:
        try:
            report = decode_report(stamped.data)
        except ValueError:  # written by another version of the hub: without it limits are slightly wider
            return
        if report.node == self._node:
            return
        at = self._monotonic() - max(0.0, redis_s - stamped.at_ms / 1000)
        charge_report(self._limiter, report, at)
        if not report.taken:
            self._quotas.note_report(report.node, report.usage, at)

    async def _load(self) -> None:
        found, now = await self._records.load(), self._now()
        stored = {field: entry for field, data in found.items() for entry in _readable([data])}
        await self._tidy(stored, now)
        self._learn(entry for entry in stored.values() if entry.until > now)
        self._is_loaded = True

    async def _tidy(self, stored: dict[str, Revocation], now: float) -> None:
        """Drops expired entries, and writes back those that Redis lost: every node remembers all revocations."""
        self._deny.forget(now)
        dead = [field for field, entry in stored.items() if entry.until <= now]
        lost = {entry.field: entry.encode() for entry in self._deny if entry.field not in stored}
        await self._records.tidy(dead, lost)

    def _learn(self, revocations: Iterable[Revocation]) -> None:
        for revocation in revocations:
            if self._deny.add(revocation):
                self._on_revoked(revocation)


def _readable(entries: Iterable[bytes]) -> Iterator[Revocation]:
    for entry in entries:
        with contextlib.suppress(
            ValueError, TypeError
        ):  # written by another version of the hub, which applies it itself
            yield decode_revocation(entry)


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts of one node's edge. Call `store.start()` before the first socket, `store.close()` after the last."""

    node: str
    limiter: RateLimiter
    connects: ConnectLimits
    quotas: Quotas
    deny: DenyList
    store: EdgeStore


def make_edge(
    redis_url: str,
    node: str,
    *,
    rates: Mapping[str, RateClass] | None = DEFAULT_RATES,
    quota: Quota | None = None,
    loops: Loops | None = None,
) -> Edge:
    """Builds the edge of `node`, shared through the Redis at `redis_url`. Nothing is sent before `store.start()`.

    Args:
        redis_url: the Redis to share through.
        node: this node's unique name.
        rates: None switches rate limits off.
        quota: the quota of each tenant; None means unlimited.
        loops: supervises the rounds.
    """
    limiter = RateLimiter(rates, is_shared=True)
    quotas, deny = Quotas(quota), DenyList()
    store = EdgeStore.connect(redis_url, node, limiter=limiter, quotas=quotas, deny=deny, loops=loops)
    return Edge(node, limiter, ConnectLimits(limiter), quotas, deny, store)
