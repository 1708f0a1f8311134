"""What nodes share about their edge: rates, quotas and revocations. The only file of `hub` that speaks to Redis.

One round about twice a second, each one pipeline: report what was let through, read what others report and revoke. No
event waits for it. It never blocks in Redis, so a half-open socket costs one timeout. Without Redis each node limits alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from hub.auth.revocations import DenyList, Revocation
from hub.auth.session_claims import SessionClaim, SessionClaims, decode_claims, encode_claims
from hub.limits.edge_keys import ms_of, order_of, readable
from hub.limits.quotas import Quotas, TenantUsage
from hub.limits.rates import RateLimiter
from hub.limits.sharing import RateReport, decode_report, merge, reports
from streams.errors import LogUnavailable
from streams.redis.keys import edge_keys

ROUND_S: Final = 0.4
"""News is at most one round and one round trip old, well inside the second that is promised. Each round costs a node
0.2 ms of processor time, and 1.5 ms more for each 1,000 users active in it, here or elsewhere (measured)."""

REDIS_TIMEOUT_S: Final = 2.0
LOOK_BACK_S: Final = 60.0
"""How far back a node that starts reads: as long as the slowest bucket (10 failures a minute) takes to fill."""

USAGE_ROUNDS: Final = 12
"""Usage for quotas is reported every so many rounds, three times within the life of a report, and when it changed."""

_BELL_MAX: Final = 10_000
_CLAIMS_MAX: Final = 1_000
"""Entries of claimed sessions that are kept; a node reads them within a round or two."""
_PAGE: Final = 1_000

_log: Final = logging.getLogger(__name__)
Pairs = list[tuple[bytes, dict[bytes, bytes]]]


class EdgeStore:
    """Keeps one node's limiter, quotas and deny-list in step with the other nodes'.

    Args:
        client: used by this object alone; closed with it.
        node: this node's name, unlike any other's.
        deny: kept complete: loaded at start and whenever the connection broke.
        on_revoked: told of each revocation that is new here, this node's own included.
        monotonic: the limiter's clock.
    """

    def __init__(
        self, client: Redis, node: str, *, limiter: RateLimiter, quotas: Quotas, deny: DenyList,
        on_revoked: Callable[[Revocation], None] = lambda _revocation: None,
        now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic, prefix: str = "hub",
    ) -> None:  # fmt: skip
        self._redis, self._node, self._keys = client, node, edge_keys(prefix)
        self._limiter, self._quotas, self._deny = limiter, quotas, deny
        self._on_revoked = on_revoked
        self._now, self._monotonic = now, monotonic
        self.claims = SessionClaims(monotonic)
        """Sessions taken over on this node, and how the others are told of them."""
        self._on_claimed: Callable[[SessionClaim], None] = lambda _claim: None
        self._rates_after: bytes | None = None
        self._bell_after = b"0-0"
        self._sessions_after: bytes | None = None
        self._is_loaded = False
        self._round = 0
        self._told: Mapping[str, TenantUsage] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_closing = asyncio.Event()
        self._finished = asyncio.Condition()
        self.error: str | None = None
        """Why the last round failed, for readiness and metrics; None when it worked."""

    @classmethod
    def connect(
        cls, url: str, node: str, *, limiter: RateLimiter, quotas: Quotas, deny: DenyList, prefix: str = "hub"
    ) -> EdgeStore:
        """A store with a client of its own. `rediss://` verifies certificates. Nothing is sent before `start`."""
        client = Redis.from_url(
            url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S,
            max_connections=4, client_name=f"hub-edge-{node}",
        )  # fmt: skip
        return cls(client, node, limiter=limiter, quotas=quotas, deny=deny, prefix=prefix)

    def listen(self, on_revoked: Callable[[Revocation], None], on_claimed: Callable[[SessionClaim], None]) -> None:
        """Tell of each revocation that is new here, and of each session that was taken over on another node."""
        self._on_revoked, self._on_claimed = on_revoked, on_claimed

    async def start(self) -> None:
        """Load the revocations, then keep in step until `close`.

        Raises:
            LogUnavailable: they could not be loaded. A node that cannot know who is revoked must not let anybody in.
        """
        try:
            await self._sync()
        except (RedisError, OSError, TimeoutError) as error:
            raise LogUnavailable(f"the revocations could not be loaded: {type(error).__name__}") from error
        self._task = asyncio.create_task(self._run(), name="edge-store")

    async def close(self) -> None:
        """Stop; what was let through since the last round is not reported."""
        self._is_closing.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=2 * REDIS_TIMEOUT_S)
            self._task.cancel()  # a Redis that hangs; redis-py 5.3 may swallow a cancellation, so it is not the first means
            await asyncio.wait({self._task}, timeout=REDIS_TIMEOUT_S)
        await self._redis.aclose()

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke on every node. When it returns it is stored and holds on this node; on the others within a second.

        Raises:
            LogUnavailable: Redis is away; the outcome is open and the call may be repeated.
        """
        entry = revocation.encode()
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(self._keys.revocations, revocation.field, cast("Any", entry))
                pipe.xadd(self._keys.bell, {"r": entry}, maxlen=_BELL_MAX, approximate=True)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise LogUnavailable("the revocation could not be stored; send it again") from error
        self._learn([revocation])

    async def wait_round(self) -> None:
        """Until a round that begins after this call has ended: what was reported before it has been read here."""
        async with self._finished:
            seen = self._round
            await self._finished.wait_for(lambda: self._round >= seen + 2)

    async def _run(self) -> None:
        while not self._is_closing.is_set():
            try:
                await self._sync()
                self.error = None
            except (RedisError, OSError, TimeoutError) as error:
                self._note_failure(error)
            except Exception as error:  # revocations must go on arriving whatever one round met
                self._note_failure(error)
                _log.exception("a round of sharing limits and revocations failed")
            async with self._finished:
                self._round += 1
                self._finished.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_S):
                    await self._is_closing.wait()

    def _note_failure(self, error: Exception) -> None:
        self.error = type(error).__name__
        self._limiter.drain()  # nobody is told of it any more; kept, it would grow for as long as Redis is away
        self._is_loaded = False  # history may have changed while we were away

    async def _sync(self) -> None:
        """One round. Cancelled halfway it leaves a report unsent or unread, which only makes limits a little wider."""
        if not self._is_loaded:
            await self._load()
        drained_bytes = self._quotas.drain_bytes()
        claimed, asked_at = self.claims.drain(), self._monotonic()
        try:
            answers = await self._exchange(drained_bytes, claimed)
        except BaseException:
            self._quotas.restore_bytes(drained_bytes)
            self.claims.restore(claimed)
            raise
        for tenant, total in zip(drained_bytes, answers, strict=False):
            self._quotas.note_total(tenant, int(total))
        seconds, microseconds = answers[-1]
        self.claims.set_clock(asked_at, self._monotonic(), seconds + microseconds / 1e6)
        await self._read_news(answers[-3], seconds + microseconds / 1e6)
        self._is_loaded = answers[-2] >= len(self._deny)  # fewer: flushed, or a replica that was behind

    async def _exchange(self, stored: dict[str, int], claimed: list[SessionClaim]) -> list[Any]:
        """Send one pipeline: totals first, this round's reports, then everybody's news, the count of revocations, the time."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for tenant, count in stored.items():
                pipe.hincrby(self._keys.bytes_stored, tenant, count)
            for report in self._own_reports():
                await asyncio.sleep(0)  # writing many reports must not hold up the sockets
                pipe.xadd(self._keys.rates, {"r": report.encode()}, minid=self._oldest_kept(), approximate=True)
            if claimed:
                entry = encode_claims(self._node, claimed)
                pipe.xadd(self._keys.sessions, {"s": entry}, maxlen=_CLAIMS_MAX, approximate=True)
            pipe.xread(
                {
                    self._keys.rates: self._rates_after or b"0-0", self._keys.bell: self._bell_after,
                    self._keys.sessions: self._sessions_after or b"0-0",
                },
                count=_PAGE,
            )  # fmt: skip
            pipe.hlen(self._keys.revocations)
            pipe.time()
            return list(await pipe.execute())

    def _own_reports(self) -> Iterable[RateReport]:
        yield from reports(self._node, self._limiter.drain())
        usage = self._quotas.usage()
        if usage != self._told or (usage and self._round % USAGE_ROUNDS == 0):
            self._told = usage
            yield RateReport(self._node, usage=usage)

    def _oldest_kept(self) -> str:
        return str(max(0, ms_of(self._rates_after or b"0-0") - int(LOOK_BACK_S * 2000)))

    async def _read_news(self, news: list[tuple[bytes, Pairs]] | None, redis_now: float) -> None:
        for key, entries in news or []:
            if key == self._keys.bell.encode():
                self._bell_after = entries[-1][0]
                self._learn(readable(fields[b"r"] for _, fields in entries))
            elif key == self._keys.sessions.encode():
                self._sessions_after = entries[-1][0]
                self._tell_claims(entries)
            else:
                self._rates_after = entries[-1][0]
                await self._charge(entries, redis_now)

    async def _charge(self, entries: Pairs, redis_now: float) -> None:
        for entry_id, fields in entries:
            try:
                report = decode_report(fields[b"r"])
            except ValueError:  # written by another version of the hub: limits are wider, no more
                continue
            if report.node == self._node:
                continue
            age_s, now = max(0.0, redis_now - ms_of(entry_id) / 1000), self._monotonic()
            merge(self._limiter, self._node, [(report, age_s)], now)
            if not report.taken:
                self._quotas.note_report(report.node, report.usage, now - age_s)
            await asyncio.sleep(0)  # as for writing

    def _tell_claims(self, entries: Pairs) -> None:
        for _, fields in entries:
            for claim in decode_claims(fields[b"s"]):
                if claim.node != self._node:
                    self._on_claimed(claim)

    async def _load(self) -> None:
        """All revocations, and where their news begins: the place is noted first, so that nothing falls between."""
        self._bell_after = await self._last(self._keys.bell)
        self._sessions_after = await self._last(self._keys.sessions)
        if self._rates_after is None:
            seconds, _ = await self._redis.time()
            self._rates_after = f"{int((seconds - LOOK_BACK_S) * 1000)}-0".encode()
        else:  # a promoted replica may be behind what was read: go on from its end
            self._rates_after = min(self._rates_after, await self._last(self._keys.rates), key=order_of)
        stored, now = await self._read_stored(), self._now()
        await self._tidy(stored, now)
        self._learn(entry for entry in stored.values() if entry.until > now)
        self._is_loaded = True

    async def _last(self, key: str) -> bytes:
        found = await self._redis.xrevrange(key, count=1)
        return cast("bytes", found[0][0]) if found else b"0-0"

    async def _read_stored(self) -> dict[str, Revocation]:
        found: dict[str, Revocation] = {}
        async for field, entry in self._redis.hscan_iter(self._keys.revocations, count=_PAGE):
            for revocation in readable([entry]):
                found[field.decode()] = revocation
        return found

    async def _tidy(self, stored: dict[str, Revocation], now: float) -> None:
        """Drop what has run out, and put back what Redis lost: a node that remembers a revocation restores it."""
        self._deny.forget(now)
        dead = [field for field, entry in stored.items() if entry.until <= now]
        lost = {entry.field: cast("Any", entry.encode()) for entry in self._deny if entry.field not in stored}
        if dead:
            await cast("Awaitable[int]", self._redis.hdel(self._keys.revocations, *dead))
        if lost:
            await cast("Awaitable[int]", self._redis.hset(self._keys.revocations, mapping=lost))

    def _learn(self, revocations: Iterable[Revocation]) -> None:
        for revocation in revocations:
            if self._deny.add(revocation):
                self._on_revoked(revocation)
