"""Who may come in, and what they hold while they are here: connect limits, failed attempts, quotas, pages. Pure.

It counts; closing sockets and answering is done by whoever asked. Nothing here is asked per event but `charge`, and that
only where a tenant's publishing is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from hub.auth.origins import OriginPolicy
from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.connects import ConnectLimits
from hub.limits.quotas import Quota, Quotas
from streams.envelope import Appended, Draft, Lane
from streams.errors import StreamsError

AUTH_FAILURES: Final = frozenset({4001, 4002, 4019})
"""What counts against an address."""
_IPV6_KEPT_BITS: Final = 64
"""One customer has at least a /64 (RFC 6177): its addresses count as one."""


class Visitor(Protocol):
    """What the door keeps with each connection.

    Attributes:
        address: whom failures count against.
        is_pending: it is counted as one that has not said who it is.
        held_tenant: the tenant whose quota it uses; None before it said so.
    """

    address: str
    is_pending: bool
    held_tenant: str | None


class Door:
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

    def opened(self, visitor: Visitor, address: str) -> None:
        """A socket is open: from now on it is waited for.

        Raises:
            HubError: 4004 or 4010, too many of this address.
        """
        visitor.address = address
        self._connects.open(address, self._monotonic())
        visitor.is_pending = True

    def entered(self, visitor: Visitor, principal: Principal) -> None:
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

    def left(self, visitor: Visitor) -> None:
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

    def _settle(self, visitor: Visitor) -> None:
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
