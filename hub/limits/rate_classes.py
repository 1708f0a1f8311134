"""The rate classes of EVENTS 14 as a table, and how `HUB_RATE_LIMITS` overrides it. Pure.

The text of the variable is read by `hub.setting`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class RateClass:
    """One class.

    Attributes:
        per_s: refill per second.
        burst: what a full bucket holds.
        has_tenant_ceiling: counted by user, so that a tenant's ceiling applies; not for sockets and addresses.
        is_shared: nodes tell each other what they let through. Not where a bucket belongs to one socket, nor for `live`:
            what is over it is dropped without harm, and its keys are many.
    """

    per_s: float
    burst: float
    has_tenant_ceiling: bool = True
    is_shared: bool = True

    def times(self, count: int) -> RateClass:
        """The rate of `count` such buckets together."""
        return RateClass(self.per_s * count, self.burst * count, self.has_tenant_ceiling, self.is_shared)


DEFAULT_RATES: Final[Mapping[str, RateClass]] = MappingProxyType(
    {
        "control": RateClass(2, 10, has_tenant_ceiling=False, is_shared=False),  # by socket
        "auth": RateClass(10 / 60, 10, has_tenant_ceiling=False),  # failures, by address
        "subscribe": RateClass(50, 500),  # cost: channels named
        "history": RateClass(10, 50),
        "chat": RateClass(50, 500),
        "command": RateClass(20, 100),
        "agent": RateClass(1, 20),
        "live": RateClass(2, 10, has_tenant_ceiling=False, is_shared=False),  # by user, channel and type
        "document": RateClass(50, 200),
        "cursor": RateClass(20, 20),
        "upload": RateClass(5, 20),
        # Beside EVENTS 14. All `live` frames of a user together, whatever their channels.
        "signals": RateClass(200, 1_000, is_shared=False),  # by user
        # Beside EVENTS 14. High enough for a node's every client to come back at once through one proxy.
        "connect": RateClass(1_000, 20_000, has_tenant_ceiling=False),  # by user
        "address": RateClass(2_000, 40_000, has_tenant_ceiling=False),  # connects by address
    }
)

PACE_FLOOR: Final = RateClass(1_000, 5_000, has_tenant_ceiling=False, is_shared=False)
"""How fast frames of one user may come to one node at least, refused ones and nonsense included. A refusal costs some 15 µs, so
this is 1.5 % of a node's core; all classes together let through less than half of it."""
_NOT_FRAMES: Final = frozenset({"auth", "connect", "address"})

UNMETERED: Final = frozenset({"chunk"})
"""Classes bounded by something else: chunks by the window of their upload (`window` times `chunk_size`)."""


def pace_of(rates: Mapping[str, RateClass]) -> RateClass:
    """How fast a user's frames are taken: the floor, or twice what the classes together let through where that is more."""
    classes = [rate for name, rate in rates.items() if name not in _NOT_FRAMES]
    return replace(
        PACE_FLOOR,
        per_s=max(PACE_FLOOR.per_s, 2 * sum(rate.per_s for rate in classes)),
        burst=max(PACE_FLOOR.burst, 2 * sum(rate.burst for rate in classes)),
    )


def over_defaults(overrides: Mapping[str, tuple[float, float]] | None) -> Mapping[str, RateClass] | None:
    """The defaults with `class: (per second, burst)` put over them; None, for `off`, stays None.

    Raises:
        ValueError: an unknown class, or a figure that is not positive. The text says what is allowed.
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
