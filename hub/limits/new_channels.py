"""Limits how many new channels a user may start at a time, since the first event or signal of a channel creates keys. Pure.

The log reports that a channel was new only after storing its first event, so the charge comes afterwards and may put
the user into debt. Only users in debt are checked before each further new channel; writing to an existing channel is
never delayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.rates import RateLimiter

CLASS: Final = "channel"
_DEBTORS_MAX: Final = 10_000
"""Maximum debtors remembered; beyond it those whose debt is paid are dropped first, then the oldest."""


class NewChannels:
    """The users of one node who have exceeded the rate of new channels.

    Attributes:
        has_debtors: True while any user may be in debt; otherwise commands pass without a check.
    """

    def __init__(self, limiter: RateLimiter, monotonic: Callable[[], float]) -> None:
        self._limiter, self._monotonic = limiter, monotonic
        self._until: dict[tuple[str, str], float] = {}
        self.has_debtors = False

    def note(self, principal: Principal) -> None:
        """Charges a user for a channel that they started."""
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
        """Drops users whose debt is paid; call it about once a second."""
        now = self._monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        self.has_debtors = bool(self._until)

    def refusal(self, principal: Principal) -> HubError | None:
        """Returns the error for a further new channel, or None if the user may start one."""
        key, now = (principal.tenant, principal.user), self._monotonic()
        until = self._until.get(key, 0.0)
        if until <= now:
            self._until.pop(key, None)
            self.has_debtors = bool(self._until)
            return None
        wait_ms = int((until - now) * 1000) + 1
        return HubError(4004, "too many new channels; use an existing one, or retry later", retry_after_ms=wait_ms)
