"""Fetches and reads a JWKS document. Blocking: called in a thread, by `hub.auth.async_verifier` alone.

PyJWT's own client is not used: it follows redirects, reads documents of any size, and waits without a deadline.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import jwt

from hub.auth.keys import StaticKey, of_public_key

DOCUMENT_BYTES_MAX: Final = 262_144
"""A set of a hundred keys with certificate chains fits; a document without end does not."""

KEYS_MAX: Final = 100
_KINDS: Final = ("RSA", "EC", "OKP")  # a tuple: a document may hold what cannot be hashed
FETCH_TIMEOUT_S: Final = 3.0
"""For the whole fetch, not for each read: a server that drips bytes must not hold the thread."""

_UNREADABLE: Final = (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class JwksUnavailable(Exception):
    """The set could not be fetched or read; the text says what was wrong and quotes nothing of the document."""


@dataclass(frozen=True, slots=True)
class JwksUrl:
    """Where the keys are: https, or http on the loopback interface. Redirects are never followed."""

    is_tls: bool
    host: str
    port: int
    target: str


def parse_jwks_url(url: str) -> JwksUrl:
    """Read `HUB_JWKS_URL`.

    Raises:
        ValueError: not an https URL, nor http to a loopback address; or with credentials in it.
    """
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    if parts.hostname is None or not (is_tls or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        raise ValueError("HUB_JWKS_URL must be an https URL; plain http only to a loopback address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("HUB_JWKS_URL must not hold a user name or password")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("HUB_JWKS_URL must be percent-encoded ASCII")
    return JwksUrl(is_tls, parts.hostname, parts.port or (443 if is_tls else 80), target)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fetch_keys(url: JwksUrl, timeout_s: float = FETCH_TIMEOUT_S) -> Mapping[str, StaticKey]:
    """Fetch the set and read its keys. Blocks for at most about `timeout_s`, and as long again for a slow name server.

    Raises:
        JwksUnavailable: no 200 in time, too large, or not a key set.
    """
    try:
        return read_keys(_download(url, time.monotonic() + timeout_s, timeout_s))
    except (OSError, http.client.HTTPException) as error:
        raise JwksUnavailable(f"the key set could not be fetched: {type(error).__name__}") from error


def read_keys(document: bytes) -> Mapping[str, StaticKey]:
    """Key id → key, of the keys fit for signatures; others (`oct`, encryption, weak or unknown kinds) are passed over.

    Raises:
        JwksUnavailable: not JSON with a list `keys` of at most 100.
    """
    try:
        listed = json.loads(document)["keys"]
    except _UNREADABLE:
        raise JwksUnavailable("the key set is not JSON with a list of keys") from None
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise JwksUnavailable(f"the key set must be a list of at most {KEYS_MAX} keys")
    found = [(_kid(jwk), _read_key(jwk)) for jwk in listed]
    return {kid: key for kid, key in found if key is not None}


def _kid(jwk: object) -> str:
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    return kid if isinstance(kid, str) else ""


def _read_key(jwk: object) -> StaticKey | None:
    if not isinstance(jwk, dict) or jwk.get("kty") not in _KINDS or jwk.get("use", "sig") != "sig":
        return None
    try:
        key = of_public_key(jwt.PyJWK(jwk).key)
    except _UNREADABLE:
        return None
    # A key published for one algorithm must not verify another.
    return key if jwk.get("alg", key.algorithms[0]) in key.algorithms else None


def _download(url: JwksUrl, deadline: float, timeout_s: float) -> bytes:
    connection = _connect(url, timeout_s)
    try:
        connection.request("GET", url.target, headers={"Accept": "application/json", "User-Agent": "hub"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise JwksUnavailable(f"the key set's server answered {response.status}; redirects are not followed")
        return _read(response, deadline)
    finally:
        connection.close()


def _connect(url: JwksUrl, timeout_s: float) -> http.client.HTTPConnection:
    if url.is_tls:
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(url.host, url.port, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(url.host, url.port, timeout=timeout_s)


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > DOCUMENT_BYTES_MAX:
            raise JwksUnavailable(f"the key set is larger than {DOCUMENT_BYTES_MAX} bytes")
        if time.monotonic() > deadline:
            raise JwksUnavailable("the key set's server is too slow")
    return bytes(body)
