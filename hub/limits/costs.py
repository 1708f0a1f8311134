"""Costs that are known only afterwards: charged to the user, who waits for them instead of being refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from hub.auth.tokens import Principal
from hub.limits.rates import RateLimiter

DELAY_S_MAX: Final = 5.0
"""Longest wait for a debt. A handshake that waited longer would be taken for dead by its client, and come again."""


class Costs:
    """Charges users of one node, and delays those in debt.

    Args:
        monotonic: the limiter's clock, in seconds.
    """

    def __init__(self, limiter: RateLimiter, monotonic: Callable[[], float]) -> None:
        self._limiter, self._monotonic = limiter, monotonic

    def charge(self, principal: Principal, class_: str, cost: float) -> None:
        """Charge what was not known before: the user's next ones of this class wait for it."""
        if cost > 0:
            self._limiter.spend((principal.tenant, principal.user), class_, self._monotonic(), cost)

    async def delay(self, principal: Principal, class_: str) -> None:
        """Wait until the user is out of debt in this class, at most 5 s."""
        debt_s = self._limiter.debt_s((principal.tenant, principal.user), class_, self._monotonic())
        if debt_s > 0:
            await asyncio.sleep(min(debt_s, DELAY_S_MAX))
