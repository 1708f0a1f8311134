"""New channels: the first event or signal in a channel costs keys, so a user begins only so many in a time. Pure.

The log tells that a channel was new after it has stored what began it, so a beginning is paid for afterwards. Who is in debt
is asked before each further one, and only they: what goes to a channel that was written before is never held up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.rates import RateLimiter

CLASS: Final = "channel"
_DEBTORS_MAX: Final = 10_000
"""Debtors that are kept; with more, those whose debt is over are forgotten first, then those that were noted first."""


class NewChannels:
    """One node's debtors.

    Attributes:
        has_debtors: true while somebody may be in debt: everybody else's commands pass without a look.
    """

    def __init__(self, limiter: RateLimiter, monotonic: Callable[[], float]) -> None:
        self._limiter, self._monotonic = limiter, monotonic
        self._until: dict[tuple[str, str], float] = {}
        self.has_debtors = False

    def note(self, principal: Principal) -> None:
        """Charge a user for a channel that they began."""
        key, now = (principal.tenant, principal.user), self._monotonic()
        self._limiter.spend(key, CLASS, now, 1.0)
        debt_s = self._limiter.debt_s(key, CLASS, now)
        if debt_s > 0:
            if len(self._until) >= _DEBTORS_MAX:
                self._until = {key: until for key, until in self._until.items() if until > now}
                for oldest in list(self._until)[: len(self._until) - _DEBTORS_MAX + 1]:
                    del self._until[oldest]
            self._until[key] = now + debt_s
            self.has_debtors = True

    def owes(self, principal: Principal) -> bool:
        """True while this user may be in debt."""
        return (principal.tenant, principal.user) in self._until

    def forget_paid(self) -> None:
        """Forget debts that are over; call it every second or so."""
        now = self._monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        self.has_debtors = bool(self._until)

    def refusal(self, principal: Principal) -> HubError | None:
        """The error of a further new channel; None when the user may begin one."""
        key, now = (principal.tenant, principal.user), self._monotonic()
        until = self._until.get(key, 0.0)
        if until <= now:
            self._until.pop(key, None)
            self.has_debtors = bool(self._until)
            return None
        wait_ms = int((until - now) * 1000) + 1
        return HubError(4004, "too many new channels; use an existing one, or retry later", retry_after_ms=wait_ms)
