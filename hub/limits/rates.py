"""How often a user may do something: token buckets by rate class, doubling advice, a tenant's ceiling. Pure.

It decides for this node alone. `hub.limits.sharing` tells it what other nodes let through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Final

from hub.limits.buckets import Buckets
from hub.limits.rate_classes import DEFAULT_RATES, UNMETERED, RateClass, pace_of

TENANT_USERS: Final = 50
"""EVENTS 14: a tenant may do what 50 of its users may."""

LimitKey = tuple[Hashable, ...]
"""Whose bucket: `(tenant, user)`, longer where the class says so (`live`: and channel and type). The first item is the
tenant, and its ceiling applies to classes counted by user."""

Taken = dict[LimitKey, float]
"""Key → how much was let through."""

REFUSALS_MAX: Final = 20
REFUSAL_WINDOW_S: Final = 10.0


class RateLimiter:
    """All buckets of one node.

    Args:
        rates: class → rate; None switches every limit off.
        tenant_users: how many users' worth a tenant may do.
        is_shared: keep what was let through until `drain` is called, for the other nodes.
    """

    __slots__ = ("_origin", "_pace", "_taken", "_tenants", "_users")

    def __init__(
        self,
        rates: Mapping[str, RateClass] | None = DEFAULT_RATES,
        *,
        tenant_users: int = TENANT_USERS,
        is_shared: bool = False,
    ) -> None:
        self._taken: dict[str, Taken] = {}
        self._origin: float | None = None  # the first `now`: sums of small intervals stay exact near zero
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
        """Whether nothing is limited."""
        return self._users is None

    def take(self, key: LimitKey, class_: str, now: float, cost: float = 1.0) -> int | None:
        """Take `cost` from the key's bucket: None when there was enough, else in how many ms to come back.

        A refusal takes nothing. Waiting as told is always enough; the first advice is exact, each repeat that did not
        wait doubles it, up to 30 s. `now` is in seconds, of any clock that does not go back. Below 2 µs.
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
                return mine.advise(key, now, wait_s)
        refused = mine.take(key, now, cost)
        if refused is None:
            if ceiling is not None:
                ceiling.charge(key[0], now, cost)
            taken = self._taken.get(class_)
            if taken is not None:
                taken[key] = taken.get(key, 0.0) + cost
        return refused

    def is_in_pace(self, user: tuple[str, str], now: float) -> bool:
        """Count a frame of `(tenant, user)`, whatever it is; false, counting nothing, when they come faster than any use needs.

        It gives no advice: who is too fast is not answered but read more slowly. Below 0.5 µs.
        """
        if self._users is None:
            return True
        if self._origin is None:
            self._origin = now
        now -= self._origin
        if self._pace.wait_s(user, now, 1.0) > self._pace.slack_s:
            return False
        self._pace.charge(user, now, 1.0)
        return True

    def charge(self, key: LimitKey, class_: str, now: float, cost: float) -> None:
        """Count what another node let through: the bucket may fall below empty and then refuses until it is repaid."""
        if self._users is None or class_ not in self._users:
            return
        if self._origin is None:
            self._origin = now
        now -= self._origin
        self._users[class_].charge(key, now, cost)
        if class_ in self._tenants:
            self._tenants[class_].charge(key[0], now, cost)

    def drain(self) -> dict[str, Taken]:
        """What was let through since the last call, by class and key; classes without any are left out."""
        drained = {name: taken for name, taken in self._taken.items() if taken}
        self._taken = {name: {} for name in self._taken}
        return drained

    def bucket_count(self) -> int:
        """How many buckets are kept: a metric, and what shows that memory stays bounded."""
        return len(self._pace) + sum(map(len, (*(self._users or {}).values(), *self._tenants.values())))


class RefusalWindow:
    """Counts the rate refusals of one socket: 20 within 10 s close it with 4004 (PROTOCOL 4)."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=REFUSALS_MAX)

    def note(self, now: float) -> bool:
        """Count one refusal; True when the socket must be closed."""
        self._times.append(now)
        return len(self._times) == REFUSALS_MAX and now - self._times[0] <= REFUSAL_WINDOW_S
