"""Makes tokens that a proper library would refuse to make, and keys for signing valid ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = 1_800_000_000.0
SECRET = "test-secret-of-at-least-32-bytes!!"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def claims(**changes: object) -> dict[str, Any]:
    """The claims of a valid token of alice; `...` omits one."""
    whole: dict[str, Any] = {
        "sub": "alice", "tenant": "acme", "aud": "hub", "exp": NOW + 600, "iat": NOW, "grants": {"conversation:*": ["read"]},
    }  # fmt: skip # a table
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: object, payload: object, secret: bytes | None = SECRET.encode()) -> str:
    """A token with any header and payload (bytes are used unchanged), signed with HMAC-SHA256 whatever the header says."""
    parts = [b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload)]
    signed = ".".join(parts).encode()
    signature = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return f"{signed.decode()}.{b64(signature)}"


def good(**changes: object) -> str:
    """A valid token of alice, signed with SECRET."""
    return forge({"alg": "HS256", "typ": "JWT"}, claims(**changes))


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """A private key for the algorithm; cached by number."""
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_pem(algorithm: str, number: int = 0) -> str:
    """The public key, as PEM."""
    return (
        private_key(algorithm, number)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def signed(algorithm: str, number: int = 0, *, kid: str | None = None, **changes: object) -> str:
    """A token of alice, signed with that private key."""
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), private_key(algorithm, number), algorithm=algorithm, headers=headers)


def jwk(algorithm: str, number: int = 0, **changes: object) -> dict[str, Any]:
    """The public key as a JWK with `kid`, `use` and `alg`."""
    key: Any = private_key(algorithm, number).public_key()
    written: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)  # type: ignore[call-overload]
    whole = written | {"kid": f"{algorithm}-{number}", "use": "sig", "alg": algorithm} | changes
    return {name: value for name, value in whole.items() if value is not ...}
