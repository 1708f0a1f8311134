"""Signed requests to the local store: what SigV4 query signing does, in the smallest form. Pure.

The signature covers the method, the key, every query parameter and the named headers, so none of them can be changed,
left out or added by who holds the URL.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlencode

PATH: Final = "/_store/"
"""Where the hub serves the local store."""
SIGNATURE: Final = "signature"
EXPIRES: Final = "expires"
SIGNED_HEADERS: Final = "headers"


class SignatureRefused(Exception):
    """The request is not the one that was signed, or came too late. The client is told 403 and nothing more."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request as it was signed, or as it arrived.

    Attributes:
        query: parameters by name, without the signature.
        headers: the signed headers by lower-case name.
    """

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    def canonical(self) -> bytes:
        """The text that is signed: names sorted, values escaped, so that no two requests have one text."""
        query = urlencode(sorted(self.query.items()))
        headers = urlencode(sorted(self.headers.items()))
        return "\n".join((self.method, quote(self.key), query, headers)).encode()


def sign(secret: bytes, method: str, key: str, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """The path and query of a signed request; `query` must hold `expires` (Unix seconds)."""
    full = dict(query)
    if headers:
        full[SIGNED_HEADERS] = ";".join(sorted(headers))
    ticket = Ticket(method, key, full, headers)
    signature = hmac.digest(secret, ticket.canonical(), sha256).hex()
    return f"{PATH}{quote(key)}?{urlencode([*sorted(full.items()), (SIGNATURE, signature)])}"


def check(secret: bytes, arrived: Ticket, now: float) -> Ticket:
    """The ticket of a request that arrived, with the headers that were signed and no others.

    Args:
        secret: the store's signing key.
        arrived: the request with all its headers and its whole query, signature included.
        now: Unix seconds.

    Raises:
        SignatureRefused: the signature is another one, or is missing, or the request has expired.
    """
    rest = {name: value for name, value in arrived.query.items() if name != SIGNATURE}
    names = [name for name in rest.get(SIGNED_HEADERS, "").split(";") if name]
    ticket = Ticket(arrived.method, arrived.key, rest, {name: arrived.headers.get(name, "") for name in names})
    expected = hmac.digest(secret, ticket.canonical(), sha256).hex()
    if not hmac.compare_digest(expected.encode(), arrived.query.get(SIGNATURE, "").encode()):
        raise SignatureRefused("this request is not the one that was signed")
    if not rest.get(EXPIRES, "").isdigit() or now > int(rest[EXPIRES]):
        raise SignatureRefused("this request has expired; ask for a new address")
    return ticket
