"""Keys that verify tokens: one configured key, or those of a JWKS, fetched and cached by key id.

A key names the only algorithms it may be used with, so that a public key can never serve as an HMAC secret. PyJWT's
own JWKS client is not used (ops/decisions/0012-jwks.md): it reads documents of any size, sets no deadline, and blocks
the loop.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from hub.auth.origins import is_loopback

SECRET_BYTES_MIN: Final = 32
"""RFC 7518 section 3.2: an HMAC key at least as long as the hash."""

RSA_BITS_MIN: Final = 2048
"""RFC 7518 section 3.3."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key with the algorithms, all of one family, that it may verify."""

    material: bytes | PublicKey
    algorithms: tuple[str, ...]

    def __repr__(self) -> str:
        return f"VerifyingKey({self.algorithms})"


def static_key(secret: str | None, public_key: str | None) -> VerifyingKey:
    """Builds the one configured key.

    Raises:
        ValueError: none or both were given, or the key is too weak or of an unsupported kind.
    """
    if (secret is None) == (public_key is None):
        raise ValueError("set exactly one of HUB_JWT_SECRET, HUB_JWT_PUBLIC_KEY and HUB_JWKS_URL")
    return from_secret(secret) if secret is not None else from_pem(public_key or "")


def from_secret(secret: str) -> VerifyingKey:
    """Builds an HS256 key from a shared secret.

    Raises:
        ValueError: it is shorter than 32 bytes, or the text of another kind of key, which may be public.
    """
    material = secret.encode()
    if len(material) < SECRET_BYTES_MIN:
        raise ValueError(f"HUB_JWT_SECRET must be at least {SECRET_BYTES_MIN} bytes (openssl rand -base64 48)")
    if secret.lstrip().startswith(("-----BEGIN", "ssh-")):
        raise ValueError("HUB_JWT_SECRET must not be a PEM or SSH key; put a public key in HUB_JWT_PUBLIC_KEY")
    try:
        checked = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(material)
    except jwt.InvalidKeyError:
        raise ValueError("HUB_JWT_SECRET must not be a certificate, a JWK or another key's encoding") from None
    return VerifyingKey(checked, ("HS256",))


def from_pem(pem: str) -> VerifyingKey:
    """Builds a key for RS256, ES256 or EdDSA from a public key in PEM.

    Raises:
        ValueError: not a public key in PEM, or too weak.
    """
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        raise ValueError("HUB_JWT_PUBLIC_KEY must be a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    return of_public_key(key)


def of_public_key(key: object) -> VerifyingKey:
    """Pairs a public key with the only algorithm that its type allows.

    Raises:
        ValueError: RSA below 2048 bits, a curve other than P-256, or another type.
    """
    if isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        return VerifyingKey(key, ("RS256",))
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return VerifyingKey(key, ("ES256",))
    if isinstance(key, Ed25519PublicKey):
        return VerifyingKey(key, ("EdDSA",))
    raise ValueError(f"a key must be RSA of at least {RSA_BITS_MIN} bits, P-256 or Ed25519")


LIFESPAN_S: Final = 300.0
"""Seconds for which a fetched set is trusted: a removed key keeps working for at most this long."""

COOLDOWN_S: Final = 5.0
"""Minimum seconds between two fetch attempts: a newly rotated key may be refused for this long."""

BACKOFF_MAX_S: Final = 30.0
"""Maximum cooldown in seconds; each failed fetch doubles it up to this."""


@dataclass(frozen=True, slots=True)
class MustFetch:
    """Look-up result: the set is too old or the key id unknown, and a fetch is allowed now."""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """Look-up result: the key id is unknown, and it is too early for another fetch."""

    retry_after_s: float


KeyLookup = VerifyingKey | MustFetch | UnknownKey


class KeyRing:
    """The keys of one JWKS by key id. `now` is in seconds, always of the same clock.

    Keys are dropped when their set is too old, so that a key the issuer removed stops working. Unknown key ids
    cause at most one fetch per cooldown, so that forged ids cannot make the hub flood its issuer.
    """

    def __init__(self, lifespan_s: float = LIFESPAN_S, cooldown_s: float = COOLDOWN_S) -> None:
        self._lifespan_s = lifespan_s
        self._cooldown_s = cooldown_s
        self._keys: Mapping[str, VerifyingKey] = {}
        self._good_until = 0.0
        self._next_fetch_at = 0.0
        self._failures = 0

    def find(self, kid: str | None, now: float) -> KeyLookup:
        """Looks up the key for a token. A token without a key id finds one only in a set of a single key."""
        if now < self._good_until:
            key = self._pick(kid)
            if key is not None:
                return key
        if now >= self._next_fetch_at:
            return MustFetch()
        return UnknownKey(self._next_fetch_at - now)

    def accept(self, keys: Mapping[str, VerifyingKey], now: float) -> None:
        """Replaces the set with a newly fetched one."""
        self._keys = keys
        self._failures = 0
        self._good_until = now + self._lifespan_s
        self._next_fetch_at = now + self._cooldown_s

    def note_failure(self, now: float) -> None:
        """Records a failed fetch: the cached keys serve until they are too old, and each further attempt waits longer."""
        self._failures += 1
        self._next_fetch_at = now + min(BACKOFF_MAX_S, self._cooldown_s * 2.0 ** min(self._failures - 1, 10))

    def is_good(self, now: float) -> bool:
        """True while the newest set may be used."""
        return now < self._good_until

    def may_fetch(self, now: float) -> bool:
        """False during the cooldown after a fetch attempt."""
        return now >= self._next_fetch_at

    @property
    def is_set(self) -> bool:
        """True once a set was fetched."""
        return bool(self._good_until)

    def publishes(self, key: VerifyingKey) -> bool:
        """True if the newest set contains this key under any id. A failed fetch removes no key."""
        return key in self._keys.values()

    def _pick(self, kid: str | None) -> VerifyingKey | None:
        if kid is not None:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None


DOCUMENT_BYTES_MAX: Final = 262_144
"""Maximum size of a key set: enough for a hundred keys with certificate chains."""

KEYS_MAX: Final = 100
_KINDS: Final = ("RSA", "EC", "OKP")  # a tuple, not a set: a value from the document may be unhashable
FETCH_TIMEOUT_S: Final = 3.0
"""Seconds for the whole fetch, not for each read: a server that sends byte by byte must not hold the thread."""

_UNREADABLE: Final = (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class JwksUnavailable(Exception):
    """The key set could not be fetched or parsed. The text names the fault and quotes nothing from the document."""


@dataclass(frozen=True, slots=True)
class JwksUrl:
    """The address of a JWKS: https, or http on the loopback interface. Redirects are never followed."""

    is_tls: bool
    host: str
    port: int
    target: str


def parse_jwks_url(url: str) -> JwksUrl:
    """Parses `HUB_JWKS_URL`.

    Raises:
        ValueError: it is neither an https URL nor an http URL of a loopback address, or it contains credentials.
    """
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    if parts.hostname is None or not (is_tls or (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise ValueError("HUB_JWKS_URL must be an https URL; plain http only to a loopback address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("HUB_JWKS_URL must not contain a user name or password")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("HUB_JWKS_URL must be percent-encoded ASCII")
    return JwksUrl(is_tls, parts.hostname, parts.port or (443 if is_tls else 80), target)


def fetch_keys(url: JwksUrl, timeout_s: float = FETCH_TIMEOUT_S) -> Mapping[str, VerifyingKey]:
    """Fetches the set and parses its keys. Blocks for at most about `timeout_s`, and as long again for a slow name server.

    Raises:
        JwksUnavailable: there was no 200 answer in time, or it was too large or not a key set.
    """
    try:
        return read_keys(_download(url, time.monotonic() + timeout_s, timeout_s))
    except (OSError, http.client.HTTPException) as error:
        raise JwksUnavailable(f"the key set could not be fetched: {type(error).__name__}") from error


def read_keys(document: bytes) -> Mapping[str, VerifyingKey]:
    """Parses the signature keys of a set, by key id. Others (`oct`, encryption, weak or unknown types) are skipped.

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


def _read_key(jwk: object) -> VerifyingKey | None:
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
