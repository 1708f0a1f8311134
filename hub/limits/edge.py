"""What stands between a node and whoever connects: limits, quotas, the deny-list, and the store that shares them.

Made once by the composition root. It holds parts and no rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hub.auth.revocations import DenyList
from hub.limits.admission import ConnectLimits
from hub.limits.edge_store import EdgeStore
from hub.limits.quotas import Quota, Quotas
from hub.limits.rates import DEFAULT_RATES, RateClass, RateLimiter


@dataclass(frozen=True, slots=True)
class Edge:
    """One node's edge. `store.start()` before the first socket, `store.close()` after the last."""

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
) -> Edge:
    """The edge of `node`, sharing through the Redis at `redis_url`. Nothing is sent before `store.start()`.

    Args:
        redis_url: which Redis.
        node: a name no other node has.
        rates: None switches rate limits off.
        quota: what each tenant may use; None is without bound.
    """
    limiter = RateLimiter(rates, is_shared=True)
    quotas, deny = Quotas(quota), DenyList()
    store = EdgeStore.connect(redis_url, node, limiter=limiter, quotas=quotas, deny=deny)
    return Edge(node, limiter, ConnectLimits(limiter), quotas, deny, store)
