"""The rate classes of EVENTS 14 as a table, and how `HUB_RATE_LIMITS` overrides it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class RateClass:
    """One class.

    Attributes:
        per_s: refill per second.
        burst: what a full bucket holds.
        has_tenant_ceiling: counted by user, so that a tenant's ceiling applies; not for sockets and addresses.
    """

    per_s: float
    burst: float
    has_tenant_ceiling: bool = True

    def times(self, count: int) -> RateClass:
        """The rate of `count` such buckets together."""
        return RateClass(self.per_s * count, self.burst * count, self.has_tenant_ceiling)


DEFAULT_RATES: Final[Mapping[str, RateClass]] = MappingProxyType(
    {
        "control": RateClass(2, 10, has_tenant_ceiling=False),  # by socket
        "auth": RateClass(10 / 60, 10, has_tenant_ceiling=False),  # failures, by address
        "subscribe": RateClass(50, 500),  # cost: channels named
        "history": RateClass(10, 50),
        "chat": RateClass(50, 500),
        "command": RateClass(20, 100),
        "agent": RateClass(1, 20),
        "live": RateClass(2, 10, has_tenant_ceiling=False),  # by user, channel and type
        "document": RateClass(50, 200),
        "cursor": RateClass(20, 20),
        "upload": RateClass(5, 20),
    }
)

UNMETERED: Final = frozenset({"chunk"})
"""Classes bounded by something else: chunks by the window of their upload (`window` times `chunk_size`)."""

OFF: Final = "off"
_FORM: Final = "HUB_RATE_LIMITS is `off`, or a list of class=rate/burst such as chat=200/2000,agent=2/40"


def parse_rate_limits(text: str) -> Mapping[str, RateClass] | None:
    """Read `HUB_RATE_LIMITS` over the defaults; None means no limits at all.

    Raises:
        ValueError: an unknown class, or a rate or burst that is not a positive number. The text says what is allowed.
    """
    if text.strip() == OFF:
        return None
    rates = dict(DEFAULT_RATES)
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = item.partition("=")
        if not equals or name.strip() not in rates:
            raise ValueError(f"{_FORM}; classes are " + ", ".join(rates))
        rates[name.strip()] = _parse_rate(value, rates[name.strip()])
    return MappingProxyType(rates)


def _parse_rate(text: str, default: RateClass) -> RateClass:
    per_s, slash, burst = text.partition("/")
    numbers = (_positive(per_s), _positive(burst if slash else per_s))
    return RateClass(numbers[0], max(1.0, numbers[1]), default.has_tenant_ceiling)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{_FORM}; rate (per second) and burst must be positive numbers")
    return value
