"""How often an address or a user may connect, fail to, or hang before the handshake. Pure.

A failed handshake counts against its address only, and only failures do: polite users behind the same address are let in
whatever a neighbour tries.
"""

from __future__ import annotations

from typing import Final

from hub.errors import HubError
from hub.limits.buckets import ADVICE_MS_MAX
from hub.limits.rates import RateLimiter

PENDING_PER_ADDRESS_MAX: Final = 8_000
"""Sockets of one address that have not authenticated: four fifths of what a node takes by default. Smaller hurts everybody
behind one proxy when a node restarts, since all upgrade before the first says who it is; with more, one address could take
the whole node for the 10 s a handshake may last."""

PENALTY_CONNECTS: Final = 1_000.0
"""What a socket that is closed for not listening costs its user: as many connects, one second's worth by default. After twenty
of them (the burst) such a user comes in once a second; with less a flood of reconnects would cost the node more than it refuses."""

_ANYBODY: Final = "@address"
"""Stands where a tenant stands in other keys; `@` is in no tenant's name."""


class ConnectLimits:
    """One node's limits on connecting. `now` is the limiter's clock.

    Raises, from every method that does: HubError 4004, or 4010 for sockets waiting to authenticate.
    """

    def __init__(self, limiter: RateLimiter, pending_per_address_max: int = PENDING_PER_ADDRESS_MAX) -> None:
        self._limiter = limiter
        self._pending_max = pending_per_address_max
        self._pending: dict[str, int] = {}

    def open(self, address: str, now: float) -> None:
        """A socket was accepted: refuse it, or count it as waiting until `settle`."""
        self._take(address, "address", now, "too many connections from your address; come back later")
        waiting = self._pending.get(address, 0)
        if not self._limiter.is_off and waiting >= self._pending_max:
            raise HubError(4010, "too many connections of your address wait to authenticate", retry_after_ms=1_000)
        self._pending[address] = waiting + 1

    def settle(self, address: str) -> None:
        """The socket authenticated, failed or went away before either. Once for each `open` that did not raise."""
        waiting = self._pending.get(address, 0) - 1
        if waiting > 0:
            self._pending[address] = waiting
        else:
            self._pending.pop(address, None)

    def admit(self, tenant: str, user: str, now: float) -> None:
        """The token is good: refuse a user who connects too often."""
        advice_ms = self._limiter.take((tenant, user), "connect", now)
        if advice_ms is not None:
            raise HubError(4004, "you connect too often; come back later", retry_after_ms=advice_ms, closes=True)

    def punish(self, tenant: str, user: str, now: float) -> None:
        """A socket of the user was closed because it did not listen: its next ones must wait, the longer the more often."""
        advice_ms = self._limiter.take((tenant, user), "connect", now)
        if advice_ms is None or advice_ms < ADVICE_MS_MAX:
            self._limiter.charge((tenant, user), "connect", now, PENALTY_CONNECTS)

    def fail(self, address: str, now: float) -> None:
        """A handshake or an HTTP call failed to authenticate: refuse by 4004 instead when that happens too often."""
        self._take(address, "auth", now, "too many failed attempts from your address; come back later")

    def pending_count(self) -> int:
        """Sockets that have not authenticated yet."""
        return sum(self._pending.values())

    def _take(self, address: str, class_: str, now: float, message: str) -> None:
        advice_ms = self._limiter.take((_ANYBODY, address), class_, now)
        if advice_ms is not None:
            raise HubError(4004, message, retry_after_ms=advice_ms, closes=True)
