"""The buckets of one rate class: GCRA, one number a key. Pure.

Kept is the moment a key's bucket will be full again (the "theoretical arrival time" of GCRA, ITU-T I.371). A full
bucket holds no information, so it is forgotten: memory follows the keys active within one refill.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from heapq import nlargest
from typing import Final

from hub.limits.rate_classes import RateClass

ADVICE_MS_MAX: Final = 30_000
"""EVENTS 14: advice doubles up to here. A bucket deeper in debt than that still says the exact time."""

_SWEEP_AT: Final = 1024
"""Keys before the first sweep. A sweep costs about 50 ns a key and the threshold then doubles, so takes stay cheap."""

KEYS_MAX: Final = 262_144
"""Keys kept at most, about 40 MB. Beyond it the fullest buckets are forgotten first: those lose the least."""

_SLACK: Final = 0.01
"""Part of one event forgiven, since sums of many intervals round."""


class Buckets:
    """Token buckets of one class by key. Full at first; refilled at the class's rate, never above its burst.

    A cost above the burst counts as the burst: it needs a full bucket.
    """

    __slots__ = ("_advice", "_burst", "_full_at", "_interval_s", "_room_s", "_sweep_at", "slack_s")

    def __init__(self, rate: RateClass) -> None:
        self._burst = rate.burst
        self._interval_s = 1.0 / rate.per_s
        self._room_s = rate.burst * self._interval_s
        self.slack_s = _SLACK * self._interval_s
        """Waits up to this are rounding, not waits."""
        self._full_at: dict[Hashable, float] = {}
        self._advice: dict[Hashable, tuple[float, int]] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float, cost: float) -> int | None:
        """Take `cost`; None when there was enough, else the advice in ms and nothing is taken."""
        wait_s = self.wait_s(key, now, cost)
        if wait_s > self.slack_s:
            return self.advise(key, now, wait_s)
        self.charge(key, now, cost if cost < self._burst else self._burst)  # noqa: FURB136  # min() costs 80 ns
        return None

    def wait_s(self, key: Hashable, now: float, cost: float) -> float:
        """Seconds until `cost` could be taken; `slack_s` or less when it can be now."""
        full_at = self._full_at.get(key, now)
        ahead_s = full_at - now if full_at > now else 0.0
        return ahead_s + (cost if cost < self._burst else self._burst) * self._interval_s - self._room_s  # noqa: FURB136

    def charge(self, key: Hashable, now: float, cost: float) -> None:
        """Take `cost` whether or not there is enough: the bucket may fall below empty."""
        full_at = self._full_at.get(key, now)
        if len(self._full_at) >= self._sweep_at:
            self._sweep(now)
        self._full_at[key] = (full_at if full_at > now else now) + cost * self._interval_s  # noqa: FURB136

    def advise(self, key: Hashable, now: float, wait_s: float) -> int:
        """The advice in ms for a refusal: the wait itself first, doubled by each refusal that came before its time."""
        exact_ms = max(1, math.ceil(wait_s * 1000))
        until, last_ms = self._advice.get(key, (now, 0))
        advice_ms = exact_ms if now >= until else max(exact_ms, min(2 * last_ms, ADVICE_MS_MAX))
        if len(self._advice) >= self._sweep_at:
            self._sweep(now)
        self._advice[key] = (now + advice_ms / 1000, advice_ms)
        return advice_ms

    def _sweep(self, now: float) -> None:
        """Forget what is full again and advice that is over."""
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        self._advice = {key: advice for key, advice in self._advice.items() if advice[0] > now}
        if len(self._full_at) >= KEYS_MAX:
            self._full_at = dict(nlargest(KEYS_MAX // 2, self._full_at.items(), key=lambda item: item[1]))
        if len(self._advice) >= KEYS_MAX:
            self._advice.clear()
        self._sweep_at = min(KEYS_MAX, max(_SWEEP_AT, 2 * max(len(self._full_at), len(self._advice))))
