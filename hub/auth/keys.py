"""Keys that verify tokens, checked for strength when the hub starts.

A key carries the only algorithms it may be used with, so that a public key can never serve as an HMAC secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SECRET_BYTES_MIN: Final = 32
"""RFC 7518 section 3.2: an HMAC key at least as long as the hash."""

RSA_BITS_MIN: Final = 2048
"""RFC 7518 section 3.3."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class StaticKey:
    """Key material and the algorithms, of one family, that it may verify."""

    material: bytes | PublicKey
    algorithms: tuple[str, ...]

    def __repr__(self) -> str:
        return f"StaticKey({self.algorithms})"


def static_key(secret: str | None, public_key: str | None) -> StaticKey:
    """The one key that was configured.

    Raises:
        ValueError: none or both were given, or the key is too weak or of a kind not supported.
    """
    if (secret is None) == (public_key is None):
        raise ValueError("set exactly one of HUB_JWT_SECRET, HUB_JWT_PUBLIC_KEY and HUB_JWKS_URL")
    return from_secret(secret) if secret is not None else from_pem(public_key or "")


def from_secret(secret: str) -> StaticKey:
    """HS256 by a shared secret.

    Raises:
        ValueError: shorter than 32 bytes, or a PEM, which is public.
    """
    material = secret.encode()
    if len(material) < SECRET_BYTES_MIN:
        raise ValueError(f"HUB_JWT_SECRET must be at least {SECRET_BYTES_MIN} bytes (openssl rand -base64 48)")
    if secret.lstrip().startswith(("-----BEGIN", "ssh-")):
        raise ValueError("HUB_JWT_SECRET must not be a PEM or SSH key; put a public key in HUB_JWT_PUBLIC_KEY")
    return StaticKey(material, ("HS256",))


def from_pem(pem: str) -> StaticKey:
    """RS256, ES256 or EdDSA by a public key in PEM.

    Raises:
        ValueError: not a public key in PEM, or too weak.
    """
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        raise ValueError("HUB_JWT_PUBLIC_KEY must be a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    return of_public_key(key)


def of_public_key(key: object) -> StaticKey:
    """The public key with the one algorithm its kind allows.

    Raises:
        ValueError: RSA below 2048 bits, a curve other than P-256, or another kind.
    """
    if isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        return StaticKey(key, ("RS256",))
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return StaticKey(key, ("ES256",))
    if isinstance(key, Ed25519PublicKey):
        return StaticKey(key, ("EdDSA",))
    raise ValueError(f"a key must be RSA of at least {RSA_BITS_MIN} bits, P-256 or Ed25519")
