"""Verifying tokens: keys checked at start, what is taken, revocation and recheck."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub.auth.revocations import DenyList, revoke_token
from hub.auth.signing import parse_grant, parse_grants, sign
from hub.auth.tokens import TokenPolicy
from hub.auth.verifier import open_verifier
from hub.errors import HubError
from support.token_forge import NOW, SECRET, good, public_pem, signed


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_keys_verify_by_the_algorithm_of_their_kind(algorithm: str) -> None:
    """RSA, P-256 and Ed25519 keys each verify their own algorithm."""
    principal = open_verifier(public_key=public_pem(algorithm)).verify_nowait(signed(algorithm), NOW)

    assert (principal.user, principal.tenant) == ("alice", "acme")


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, "é" * 15])
def test_short_secret_is_refused_at_start(secret: str) -> None:
    """A guessable secret is found when the hub starts, not when somebody has guessed it. Bytes count, not characters."""
    with pytest.raises(ValueError, match="HUB_JWT_SECRET must be at least 32 bytes") as refused:
        open_verifier(secret=secret)

    assert not secret or secret not in str(refused.value)


def test_a_secret_in_the_form_of_another_key_is_refused() -> None:
    """A JWK holds its secret in a field; its text would be guessed from the field's."""
    with pytest.raises(ValueError, match="HUB_JWT_SECRET must not be a certificate, a JWK"):
        open_verifier(secret='{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}')


def test_secret_of_32_bytes_is_enough() -> None:
    """RFC 7518 asks for 256 bits."""
    assert open_verifier(secret="é" * 16)


def test_a_pem_is_no_secret() -> None:
    """A public key put into HUB_JWT_SECRET would let everybody sign."""
    with pytest.raises(ValueError, match="HUB_JWT_PUBLIC_KEY"):
        open_verifier(secret=public_pem("RS256"))


@pytest.mark.parametrize("keys", [{}, {"secret": SECRET, "public_key": "x"}])
def test_exactly_one_source_of_keys(keys: dict[str, str]) -> None:
    """Two kinds of keys at once would let a token choose."""
    with pytest.raises(ValueError, match="exactly one of"):
        open_verifier(**keys)  # type: ignore[arg-type]  # a dict of some of the keywords


def test_weak_or_foreign_public_keys_are_refused_at_start() -> None:
    """Short RSA keys, other curves and texts that are no key."""
    for pem in (
        pem_of(rsa.generate_private_key(public_exponent=65_537, key_size=1024)),
        pem_of(ec.generate_private_key(ec.SECP384R1())),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "no pem",
    ):
        with pytest.raises(ValueError, match=r"must be"):
            open_verifier(public_key=pem)


def test_signed_tokens_are_taken_and_hold_what_was_asked_for() -> None:
    """`hub token` and the verifier agree."""
    token = sign(SECRET, "alice", "acme", {"team:blue": ["*"]}, 60, NOW, jti="j1", name="Alice", issuer="me")
    principal = open_verifier(TokenPolicy(issuer="me"), secret=SECRET).verify_nowait(token, NOW)

    assert (principal.expires_at, principal.issued_at, principal.jti, principal.name) == (NOW + 60, NOW, "j1", "Alice")
    assert principal.grants.allows("team:blue", "manage")


def test_grants_are_read_from_the_command_line() -> None:
    """PATTERN=ACTION,… ; the same pattern twice adds up; nonsense is refused."""
    assert parse_grant("conversation:*=read, write") == ("conversation:*", ["read", "write"])
    assert parse_grants(["a:*=read", "b:c=*", "a:*=write"]) == {"a:*": ["read", "write"], "b:c": ["*"]}
    for text in ("conversation:*", "conversation:*=fly", "a b=read"):
        with pytest.raises(ValueError, match=r"grant"):
            parse_grant(text)


def test_revoked_token_is_4019() -> None:
    """A good signature does not outlive its revocation."""
    deny = DenyList()
    verifier = open_verifier(TokenPolicy(is_revoked=deny.is_revoked), secret=SECRET)
    token = good(jti="j1")
    principal = verifier.verify_nowait(token, NOW)

    deny.add(revoke_token("acme", "j1", NOW))

    with pytest.raises(HubError) as refused:
        verifier.verify_nowait(token, NOW)
    assert (refused.value.row.code, refused.value.retry, refused.value.closes) == (4019, "no", True)
    with pytest.raises(HubError) as rechecked:
        verifier.recheck(principal, NOW)
    assert rechecked.value.row.code == 4019


def test_recheck_ends_a_live_connection_at_its_expiry() -> None:
    """Expiry ends live sockets, not only handshakes."""
    verifier = open_verifier(secret=SECRET)
    principal = replace(verifier.verify_nowait(good(), NOW), expires_at=NOW + 5)

    verifier.recheck(principal, NOW + 4.9)
    with pytest.raises(HubError) as refused:
        verifier.recheck(principal, NOW + 5)
    assert refused.value.row.code == 4002
