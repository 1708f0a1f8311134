"""Origins of requests: client addresses, the pages that may open sockets, and the host names of the hub. Pure.

The hub sets no cookies, so a foreign page gains nothing by opening a socket; the list of origins is a second defence.
Programs send no `Origin` and are not affected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network
LOOPBACK: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_IPV6_KEPT_BITS: Final = 64
"""An IPv6 customer has at least a /64 (RFC 6177), so all addresses of one /64 count as one."""
_ADDRESS_CHARS_MAX: Final = 64
"""Maximum characters of an address: 45, and the name of an interface."""
_PARSED_MAX: Final = 4_096
"""Maximum texts whose parsed address is cached, about 1 MB: parsing takes longer than all the rest of counting a connection."""


def address_of(
    client: tuple[str, int] | None, headers: Mapping[bytes, bytes], proxies: Sequence[Network] = LOOPBACK
) -> str:
    """Returns the client address that a request is counted under by the per-address limits.

    `X-Forwarded-For` is read from the right as long as the peer, or the proxy that wrote the entry, is trusted.
    The peer of a Unix socket runs on this machine and is trusted.
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
    """True if the host is an address in one of the networks; a name is in none."""
    address = _parse(host)
    return address is not None and any(address in network for network in networks)


def is_loopback(host: str) -> bool:
    """True for a host that only this machine reaches: `localhost` or an address of the loopback interface."""
    return host.lower() == "localhost" or is_within(host, LOOPBACK)


def is_address(host: str) -> bool:
    """True for an IP address, False for a name."""
    return _parse(host) is not None


def _parse(host: str) -> IPv4Address | IPv6Address | None:
    return _parse_short(host) if len(host) <= _ADDRESS_CHARS_MAX else None


@lru_cache(maxsize=_PARSED_MAX)
def _parse_short(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


ANY_ORIGIN: Final = "*"
"""As the only entry of the list: every page is allowed."""

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::\d{1,5})?")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def parse_origins(text: str) -> frozenset[str]:
    """Parses a comma-separated list of origins such as `https://app.example.com`; an empty text allows every page.

    Raises:
        ValueError: an entry is not scheme://host or scheme://host:port, or has a wildcard.
    """
    origins = {_normal(entry.strip()) for entry in text.split(",") if entry.strip()}
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("an origin is written https://host or https://host:port, without path or wildcard")
    return frozenset(origins)


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """The pages that may connect: the hub's own always, others when they are listed.

    Attributes:
        listed: normalised origins, or only `*`.
        public_host: host and port of the hub's public address, needed where a proxy rewrites `Host`.
    """

    listed: frozenset[str] = frozenset()
    public_host: str = ""

    @property
    def allows_all(self) -> bool:
        """True when every page is allowed."""
        return ANY_ORIGIN in self.listed

    def allows(self, origin: bytes | None, host: bytes | None) -> bool:
        """Checks a request by its `Origin` and `Host` headers. A request without `Origin` does not come from a page.

        A page cannot choose its `Host` header. The scheme is not compared, since TLS may end at a proxy.
        """
        if origin is None or self.allows_all:
            return True
        page = _normal(origin.decode("latin-1"))
        place = page.partition("://")[2]
        own = {_host(host.decode("latin-1")) if host else "", self.public_host} - {""}
        return place in own or page in self.listed


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """The host names that requests may be addressed to.

    A page whose own domain was pointed at the hub's address (DNS rebinding) has the same origin as the hub in the
    eyes of its browser; only `Host` gives it away. IP addresses and `localhost` cannot be pointed elsewhere.

    Attributes:
        names: allowed host names besides IP addresses and `localhost`.
        is_for_all: True checks every request, not only the console's.
    """

    names: frozenset[str] = frozenset()
    is_for_all: bool = False

    def allows(self, host: bytes | None) -> bool:
        """Checks a request by its `Host` header."""
        name = _host_name((host or b"").decode("latin-1"))
        return name in self.names or is_loopback(name) or name.endswith(".localhost") or is_address(name)


def host_policy(names: Iterable[str], urls: Iterable[str], *, is_for_all: bool) -> HostPolicy:
    """Builds the policy of a node known under these names and the hosts of these URLs."""
    known = {name.lower() for name in names} | {urlsplit(url).hostname or "" for url in urls}
    return HostPolicy(frozenset(known - {""}), is_for_all)


def _host_name(netloc: str) -> str:
    """Strips the port, and the brackets of an IPv6 address."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def origin_policy(listed: frozenset[str], public_url: str | None) -> OriginPolicy:
    """Builds the policy of a node reached under `public_url` (None: under the host of each request)."""
    return OriginPolicy(listed, _host(urlsplit(public_url).netloc) if public_url else "")


def _host(netloc: str) -> str:
    """Strips the default port, as browsers do in an origin."""
    return netloc.lower().removesuffix(":80").removesuffix(":443")


def _normal(origin: str) -> str:
    origin = origin.lower()
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], " "))
