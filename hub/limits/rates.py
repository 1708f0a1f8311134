"""Rate limits: the classes, their token buckets, back-off advice that doubles, and the ceiling per tenant. Pure.

A bucket is GCRA: one number per key (ops/decisions/0011-rate-limits.md). This node decides alone;
`hub.limits.sharing` adds the costs that other nodes let through, and `hub.readers` parses `HUB_RATE_LIMITS`.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from heapq import nlargest
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class RateClass:
    """A class of actions that share one rate.

    Attributes:
        per_s: refill per second.
        burst: capacity of the bucket.
        has_tenant_ceiling: True for classes counted per user, which the tenant's ceiling covers; False for those per socket
            or address.
        is_shared: True if nodes report the costs to each other. False where a bucket belongs to one socket, and for `live`,
            which has many keys and loses nothing of value.
    """

    per_s: float
    burst: float
    has_tenant_ceiling: bool = True
    is_shared: bool = True

    def times(self, count: int) -> RateClass:
        """Returns the rate of `count` such buckets together."""
        return RateClass(self.per_s * count, self.burst * count, self.has_tenant_ceiling, self.is_shared)


DEFAULT_RATES: Final[Mapping[str, RateClass]] = MappingProxyType(
    {
        "control": RateClass(2, 10, has_tenant_ceiling=False, is_shared=False),  # by socket
        "auth": RateClass(10 / 60, 10, has_tenant_ceiling=False),  # failures, by address
        "subscribe": RateClass(50, 500),  # cost: number of channels
        "history": RateClass(10, 50),
        "replay": RateClass(100, 1_000),  # beyond the protocol: pages of 500 events or 256 KiB read for subscriptions
        "channel": RateClass(2, 500),  # beyond the protocol: new channels, about 5 KB in Redis each
        "chat": RateClass(50, 500),
        "command": RateClass(20, 100),
        "operator": RateClass(10, 100),  # uses of a token with a scope, each an event
        "agent": RateClass(1, 20),
        "live": RateClass(2, 10, has_tenant_ceiling=False, is_shared=False),  # by user, channel and type
        "document": RateClass(50, 200),
        "cursor": RateClass(20, 20),
        "upload": RateClass(5, 20),
        # Beyond the protocol: all `live` messages of a user, in all channels together.
        "signals": RateClass(200, 1_000, is_shared=False),  # by user
        # Beyond the protocol: high enough for all clients of a node to reconnect at once through one proxy.
        "connect": RateClass(1_000, 20_000, has_tenant_ceiling=False),  # by user
        "address": RateClass(2_000, 40_000, has_tenant_ceiling=False),  # connects by address
        # Beyond the protocol: requests without a token, by address. The console's page needs about twenty, a probe one a second.
        "open": RateClass(50, 400, has_tenant_ceiling=False, is_shared=False),
    }
)

PACE_FLOOR: Final = RateClass(1_000, 5_000, has_tenant_ceiling=False, is_shared=False)
"""Minimum rate at which a node reads messages of one user, including refused and malformed ones. A refusal costs about 15 µs,
so this is 1.5 % of a core; all classes together let through less than half of it."""
_NOT_MESSAGES: Final = frozenset({"auth", "connect", "address", "replay", "open", "channel"})

UNMETERED: Final = frozenset({"chunk"})
"""Classes limited in another way: chunks by the window of their upload (`window` times `chunk_size`)."""


def pace_of(rates: Mapping[str, RateClass]) -> RateClass:
    """Returns the rate at which a user's messages are read: the minimum, or twice the sum of the classes if that is more."""
    classes = [rate for name, rate in rates.items() if name not in _NOT_MESSAGES]
    return replace(
        PACE_FLOOR,
        per_s=max(PACE_FLOOR.per_s, 2 * sum((rate.per_s for rate in classes), 0.0)),
        burst=max(PACE_FLOOR.burst, 2 * sum((rate.burst for rate in classes), 0.0)),
    )


def over_defaults(overrides: Mapping[str, tuple[float, float]] | None) -> Mapping[str, RateClass] | None:
    """Applies overrides `class: (per second, burst)` to the defaults; None, for `off`, stays None.

    Raises:
        ValueError: an unknown class, or a number that is not positive. The text says what is allowed.
    """
    if overrides is None:
        return None
    rates = dict(DEFAULT_RATES)
    for name, (per_s, burst) in overrides.items():
        if name in UNMETERED:
            continue
        if name not in rates or not 0 < per_s < math.inf or not 1 <= burst < math.inf:
            raise ValueError(
                "HUB_RATE_LIMITS is `off` or class=rate/burst,… with a rate above 0 per second and a burst of at least 1; "
                "classes are " + ", ".join(rates)
            )
        rates[name] = replace(rates[name], per_s=per_s, burst=burst)
    return MappingProxyType(rates)


ADVICE_MS_MAX: Final = 30_000
"""Maximum of the doubled advice (docs/protocol.md#rates). If a bucket needs longer than that, the advice is the exact time."""

_SWEEP_AT: Final = 1024
"""Keys before the first sweep. A sweep costs about 50 ns per key, and the threshold then doubles, so `take` stays cheap."""

KEYS_MAX: Final = 262_144
"""Maximum keys, about 40 MB. Beyond it the fullest buckets are dropped first, because that loses the least."""

_SLACK: Final = 0.01
"""Fraction of one event that is tolerated, because sums of many intervals are rounded."""


class Buckets:
    """The token buckets of one class, by key: full at first, refilled at the class's rate up to its burst.

    For each key it stores when the bucket will be full again (the "theoretical arrival time" of GCRA, ITU-T
    I.371). A full bucket carries no information and is dropped, so memory is bounded by the keys active within
    one refill.

    A cost above the burst counts as the burst: it needs a full bucket.
    """

    __slots__ = ("_advice", "_burst", "_full_at", "_interval_s", "_room_s", "_sweep_at", "slack_s")

    def __init__(self, rate: RateClass) -> None:
        self._burst = rate.burst
        self._interval_s = 1.0 / rate.per_s
        self._room_s = rate.burst * self._interval_s
        self.slack_s = _SLACK * self._interval_s
        """Waits of up to this many seconds are rounding errors."""
        self._full_at: dict[Hashable, float] = {}
        self._advice: dict[Hashable, tuple[float, int]] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float, cost: float) -> int | None:
        """Takes `cost` and returns None or, if there is not enough, takes nothing and returns the advised wait in ms."""
        wait_s = self.wait_s(key, now, cost)
        if wait_s > self.slack_s:
            return self.advise(key, now, wait_s)
        self.charge(key, now, cost if cost < self._burst else self._burst)  # noqa: FURB136  # min() costs 80 ns
        return None

    def wait_s(self, key: Hashable, now: float, cost: float) -> float:
        """Returns the seconds until `cost` can be taken; `slack_s` or less if it can be taken now."""
        full_at = self._full_at.get(key, now)
        ahead_s = full_at - now if full_at > now else 0.0
        return ahead_s + (cost if cost < self._burst else self._burst) * self._interval_s - self._room_s  # noqa: FURB136

    def charge(self, key: Hashable, now: float, cost: float) -> None:
        """Takes `cost` even if there is not enough, so that the bucket may become negative."""
        full_at = self._full_at.get(key, now)
        if len(self._full_at) >= self._sweep_at:
            self._sweep(now)
        self._full_at[key] = (full_at if full_at > now else now) + cost * self._interval_s  # noqa: FURB136

    def advise(self, key: Hashable, now: float, wait_s: float) -> int:
        """Returns the advised wait in ms for a refusal: the exact wait first, doubled by each attempt that comes too early."""
        exact_ms = max(1, math.ceil(wait_s * 1000))
        until, last_ms = self._advice.get(key, (now, 0))
        advice_ms = exact_ms if now >= until else max(exact_ms, min(2 * last_ms, ADVICE_MS_MAX))
        if len(self._advice) >= self._sweep_at:
            self._sweep(now)
        self._advice[key] = (now + advice_ms / 1000, advice_ms)
        return advice_ms

    def _sweep(self, now: float) -> None:
        """Drops full buckets and expired advice."""
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        self._advice = {key: advice for key, advice in self._advice.items() if advice[0] > now}
        if len(self._full_at) >= KEYS_MAX:
            self._full_at = dict(nlargest(KEYS_MAX // 2, self._full_at.items(), key=lambda item: item[1]))
        if len(self._advice) >= KEYS_MAX:
            self._advice.clear()
        self._sweep_at = min(KEYS_MAX, max(_SWEEP_AT, 2 * max(len(self._full_at), len(self._advice))))


TENANT_USERS: Final = 50
"""The ceiling of a tenant, as a multiple of one user's rate (docs/protocol.md#rates)."""

LimitKey = tuple[Hashable, ...]
"""The key of a bucket: `(tenant, user)`, followed by channel and type for `live`. The first item names the tenant whose ceiling
applies."""

Taken = dict[LimitKey, float]
"""Key → total cost that was let through."""

REFUSALS_MAX: Final = 20
REFUSAL_WINDOW_S: Final = 10.0


class RateLimiter:
    """All buckets of one node.

    Args:
        rates: class → rate; None switches every limit off.
        tenant_users: the ceiling of a tenant, as a multiple of one user's rate.
        is_shared: True keeps the costs let through until `drain` takes them for the other nodes.

    Attributes:
        met: refusals by class; `pace` counts sockets that were read more slowly.
    """

    __slots__ = ("_origin", "_pace", "_taken", "_tenants", "_users", "met")

    def __init__(
        self,
        rates: Mapping[str, RateClass] | None = DEFAULT_RATES,
        *,
        tenant_users: int = TENANT_USERS,
        is_shared: bool = False,
    ) -> None:
        self._taken: dict[str, Taken] = {}
        self.met: Counter[str] = Counter(dict.fromkeys((*(rates or {}), "pace"), 0))
        self._origin: float | None = (
            None  # the first `now`; times are relative to it, since sums of small intervals are most exact near zero
        )
        self._users: dict[str, Buckets] | None = None
        self._tenants: dict[str, Buckets] = {}
        self._pace = Buckets(pace_of(rates or {}))
        if rates is None:
            return
        self._users = {name: Buckets(rate) for name, rate in rates.items()}
        self._taken = {name: {} for name, rate in rates.items() if is_shared and rate.is_shared}
        self._tenants = {
            name: Buckets(rate.times(tenant_users)) for name, rate in rates.items() if rate.has_tenant_ceiling
        }

    @property
    def is_off(self) -> bool:
        """True if nothing is limited."""
        return self._users is None

    def take(self, key: LimitKey, class_: str, now: float, cost: float = 1.0) -> int | None:
        """Takes `cost` from the key's bucket and returns None, or takes nothing and returns the advised wait in ms.

        Waiting as advised is always enough. The first advice is exact; each attempt that comes too early
        doubles it, up to 30 s. `now` is in seconds of a monotonic clock. Takes less than 2 µs.
        """
        if self._users is None or class_ in UNMETERED:
            return None
        if self._origin is None:
            self._origin = now
        now -= self._origin
        mine = self._users[class_]
        ceiling = self._tenants.get(class_)
        if ceiling is not None:
            wait_s = ceiling.wait_s(key[0], now, cost)
            if wait_s > ceiling.slack_s:
                self.met[class_] += 1
                return mine.advise(key, now, wait_s)
        refused = mine.take(key, now, cost)
        if refused is None:
            if ceiling is not None:
                ceiling.charge(key[0], now, cost)
            taken = self._taken.get(class_)
            if taken is not None:
                taken[key] = taken.get(key, 0.0) + cost
        else:
            self.met[class_] += 1
        return refused

    def is_in_pace(self, user: tuple[str, str], now: float) -> bool:
        """Counts a message of `(tenant, user)`; returns False, counting nothing, if messages come faster than any use needs.

        It gives no advice, since such a sender is not answered but read more slowly. Takes less than 0.5 µs.
        """
        if self._users is None:
            return True
        if self._origin is None:
            self._origin = now
        now -= self._origin
        if self._pace.wait_s(user, now, 1.0) > self._pace.slack_s:
            self.met["pace"] += 1
            return False
        self._pace.charge(user, now, 1.0)
        return True

    def charge(self, key: LimitKey, class_: str, now: float, cost: float) -> None:
        """Counts a cost that another node let through.

        The bucket may become negative, and then refuses until it has refilled.
        """
        if self._users is None or class_ not in self._users:
            return
        if self._origin is None:
            self._origin = now
        now -= self._origin
        self._users[class_].charge(key, now, cost)
        if class_ in self._tenants:
            self._tenants[class_].charge(key[0], now, cost)

    def spend(self, key: LimitKey, class_: str, now: float, cost: float) -> None:
        """Counts a cost known only afterwards, here and for the other nodes. The bucket may become negative."""
        self.charge(key, class_, now, cost)
        if (taken := self._taken.get(class_)) is not None:
            taken[key] = taken.get(key, 0.0) + cost

    def debt_s(self, key: LimitKey, class_: str, now: float) -> float:
        """Returns the seconds until the key's bucket is no longer negative; 0 or less if it is not."""
        if self._users is None or class_ not in self._users or self._origin is None:
            return 0.0
        return self._users[class_].wait_s(key, now - self._origin, 0.0)

    def drain(self) -> dict[str, Taken]:
        """Takes the costs let through since the last call, by class and key, without empty classes."""
        drained = {name: taken for name, taken in self._taken.items() if taken}
        self._taken = {name: {} for name in self._taken}
        return drained

    def bucket_count(self) -> int:
        """The number of buckets held; shows that memory stays bounded."""
        return len(self._pace) + sum(map(len, (*(self._users or {}).values(), *self._tenants.values())))


class RefusalWindow:
    """Counts the rate refusals of one socket: 20 within 10 s close it with 4004 (docs/protocol.md#errors)."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=REFUSALS_MAX)

    def note(self, now: float) -> bool:
        """Counts one refusal; returns True if the socket must be closed."""
        self._times.append(now)
        return len(self._times) == REFUSALS_MAX and now - self._times[0] <= REFUSAL_WINDOW_S
