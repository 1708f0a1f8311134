"""Admission of connections: connect limits, failed attempts, and what each connection holds of its tenant's quota. Pure.

It counts; the caller closes sockets and answers. `charge` alone is called per event, and only where publishing is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from hub.auth.origins import OriginPolicy
from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.quotas import Quota, Quotas
from hub.limits.rates import ADVICE_MS_MAX, RateLimiter
from streams.envelope import Appended, Draft, Lane
from streams.errors import StreamsError

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


AUTH_FAILURES: Final = frozenset({4001, 4002, 4019})
"""What counts against an address."""
_IPV6_KEPT_BITS: Final = 64
"""One customer has at least a /64 (RFC 6177): its addresses count as one."""


class CountedConnection(Protocol):
    """What the door keeps with each connection.

    Attributes:
        address: whom failures count against.
        is_pending: it is counted as one that has not said who it is.
        held_tenant: the tenant whose quota it uses; None before it said so.
    """

    address: str
    is_pending: bool
    held_tenant: str | None


class Admission:
    """One node's door.

    Args:
        connects: limits on connecting and failing.
        quotas: what tenants hold.
        quota: the quota of every tenant; what is without bound is not counted per event.
        origins: which pages may open sockets.
        monotonic: the limiter's clock.
    """

    def __init__(
        self, connects: ConnectLimits, quotas: Quotas, quota: Quota, origins: OriginPolicy,
        monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._connects, self._quotas, self.origins, self._monotonic = connects, quotas, origins, monotonic
        self.is_metered = quota.publishes_per_s is not None or quota.bytes_stored is not None
        self._is_weighed = quota.bytes_stored is not None

    def opened(self, visitor: CountedConnection, address: str) -> None:
        """A socket is open: from now on it is waited for.

        Raises:
            HubError: 4004 or 4010, too many of this address.
        """
        visitor.address = address
        self._connects.open(address, self._monotonic())
        visitor.is_pending = True

    def entered(self, visitor: CountedConnection, principal: Principal) -> None:
        """The token is good: count the connection, unless there are too many.

        Raises:
            HubError: 4004 or 4010.
        """
        self._connects.admit(principal.tenant, principal.user, self._monotonic())
        self._quotas.open_connection(principal.tenant)
        visitor.held_tenant = principal.tenant
        self._settle(visitor)

    def punish(self, principal: Principal) -> None:
        """A connection of theirs is closed for not listening to refusals: the next ones have to wait."""
        self._connects.punish(principal.tenant, principal.user, self._monotonic())

    def left(self, visitor: CountedConnection) -> None:
        """The connection is gone, however far it came."""
        self._settle(visitor)
        if visitor.held_tenant is not None:
            self._quotas.close_connection(visitor.held_tenant)
            visitor.held_tenant = None

    def refusal(self, address: str, error: HubError) -> HubError:
        """What to answer to somebody whose token was refused: `error`, or 4004 when that happens too often."""
        if error.row.code not in AUTH_FAILURES:
            return error
        try:
            self._connects.fail(address, self._monotonic())
        except HubError as limited:
            return limited
        return error

    def follow(self, tenant: str) -> None:
        """A channel gets its first subscriber here.

        Raises:
            HubError: 4015.
        """
        self._quotas.open_channel(tenant)

    def unfollow(self, tenant: str) -> None:
        """A channel lost its last subscriber here."""
        self._quotas.close_channel(tenant)

    def charge(self, draft: Draft) -> None:
        """An event is about to be stored; asked only while `is_metered`.

        Raises:
            HubError: 4004 or 4011.
        """
        if draft.lane is Lane.EVENTS:
            self._quotas.publish(draft.channel.tenant, len(draft.data), self._monotonic())

    def settle(self, draft: Draft, result: Appended | StreamsError | None) -> None:
        """What was charged was appended, or not: what was not stored, or had been before, is given back."""
        is_new = isinstance(result, Appended) and not result.is_duplicate
        if self._is_weighed and draft.lane is Lane.EVENTS and not is_new:
            self._quotas.note_stored(draft.channel.tenant, -len(draft.data))

    def _settle(self, visitor: CountedConnection) -> None:
        if visitor.is_pending:
            visitor.is_pending = False
            self._connects.settle(visitor.address)


def address_of(client: tuple[str, int] | None, headers: Mapping[bytes, bytes]) -> str:
    """Whom a request's failures count against.

    A proxy on this machine is believed in `X-Forwarded-For`, by its last entry, which is the one it wrote itself.
    """
    host = client[0] if client else ""
    forwarded = headers.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip().decode("latin-1")
    if forwarded and (not host or _is_here(host)):
        host = forwarded
    try:
        parsed = ip_address(host)
    except ValueError:
        return host[:64]
    if not isinstance(parsed, IPv6Address):
        return host
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _IPV6_KEPT_BITS << _IPV6_KEPT_BITS))


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
