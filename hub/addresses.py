"""Addresses: the one a request came from, as far as proxies are trusted, and those of this machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network
LOOPBACK: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_IPV6_KEPT_BITS: Final = 64
"""One customer has at least a /64 (RFC 6177): its addresses count as one."""


def address_of(
    client: tuple[str, int] | None, headers: Mapping[bytes, bytes], proxies: Sequence[Network] = LOOPBACK
) -> str:
    """The address a request counts against.

    `X-Forwarded-For` is read from the right for as long as the peer, or whoever wrote the entry, is a trusted proxy. A Unix
    socket's peer is on this machine and trusted.
    """
    host = client[0] if client else ""
    entries = headers.get(b"x-forwarded-for", b"").split(b",")
    while entries and (not host or is_within(host, proxies)):
        forwarded = entries.pop().strip().decode("latin-1")
        if not forwarded:
            break
        host = forwarded
    address = _parse(host)
    if address is None:
        return host[:64]
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> _IPV6_KEPT_BITS << _IPV6_KEPT_BITS))
    return str(address)


def is_within(host: str, networks: Sequence[Network]) -> bool:
    """True if the address is in one of the networks; a name is in none."""
    address = _parse(host)
    return address is not None and any(address in network for network in networks)


def is_loopback(host: str) -> bool:
    """True for a host that only this machine reaches: `localhost` or an address of the loopback interface."""
    return host.lower() == "localhost" or is_within(host, LOOPBACK)


def is_address(host: str) -> bool:
    """True for an IP address, false for a name."""
    return _parse(host) is not None


def _parse(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
