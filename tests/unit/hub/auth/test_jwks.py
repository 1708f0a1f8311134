"""Keys from a JWKS: reading documents, fetching them from a real server, rotation, back-off, attacks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from hub.auth.keys import (
    COOLDOWN_S,
    DOCUMENT_BYTES_MAX,
    KEYS_MAX,
    LIFESPAN_S,
    JwksUnavailable,
    KeyRing,
    fetch_keys,
    parse_jwks_url,
    read_keys,
)
from hub.auth.verifier import TokenVerifier, open_verifier
from hub.errors import HubError, RetryAdvice
from support.key_server import Issuer, document
from support.token_forge import NOW, SECRET, b64, claims, forge, jwk, private_key, signed

ALGORITHMS = ["RS256", "ES256", "EdDSA"]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    yield server
    server.close()


async def refusal(verifier: TokenVerifier, token: str, now: float = NOW) -> HubError:
    with pytest.raises(HubError) as caught:
        await verifier.verify(token, now)
    return caught.value


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_published_keys_verify(issuer: Issuer, algorithm: str) -> None:
    """A token is verified by the key its `kid` names; the second needs no fetch and no await."""
    issuer.publish(*(jwk(name) for name in ALGORITHMS))
    verifier = issuer.verifier()
    token = signed(algorithm, kid=f"{algorithm}-0")

    assert verifier.verify_nowait(token, NOW) is None
    assert (await verifier.verify(token, NOW)).user == "alice"
    known = verifier.verify_nowait(token, NOW + 1)
    assert known is not None
    assert known.user == "alice"
    assert issuer.paths == ["/jwks.json?v=1"]


async def test_token_without_kid_is_verified_only_by_a_set_of_one(issuer: Issuer) -> None:
    """With several keys nobody guesses which."""
    issuer.publish(jwk("ES256"))
    assert (await issuer.verifier().verify(signed("ES256"), NOW)).user == "alice"

    issuer.publish(jwk("ES256"), jwk("RS256"))
    assert (await refusal(issuer.verifier(), signed("ES256"))).row.code == 4001


async def test_many_handshakes_cause_one_fetch(issuer: Issuer) -> None:
    """Everybody who comes back at once waits for the same fetch."""
    issuer.publish(jwk("ES256"))
    verifier = issuer.verifier()
    token = signed("ES256", kid="ES256-0")

    principals = await asyncio.gather(*(verifier.verify(token, NOW) for _ in range(200)))

    assert {principal.user for principal in principals} == {"alice"}
    assert len(issuer.paths) == 1


async def test_a_rotated_key_is_found_after_the_cooldown(issuer: Issuer) -> None:
    """A new key id is fetched at once, but not twice within the cooldown; until then the advice is to come back."""
    issuer.publish(jwk("ES256"))
    verifier = issuer.verifier()
    await verifier.verify(signed("ES256", kid="ES256-0"), NOW)
    issuer.publish(jwk("ES256"), jwk("ES256", 1))
    rotated = signed("ES256", 1, kid="ES256-1")

    refused = await refusal(verifier, rotated, NOW + 1)
    assert (refused.row.code, refused.retry, refused.retry_after_ms) == (4001, RetryAdvice.BACKOFF, 4000)
    assert len(issuer.paths) == 1
    assert (await verifier.verify(rotated, NOW + COOLDOWN_S)).user == "alice"


async def test_forged_key_ids_do_not_hammer_the_issuer(issuer: Issuer) -> None:
    """A flood of unknown key ids costs the issuer one request per cooldown."""
    issuer.publish(jwk("ES256"))
    verifier = issuer.verifier()
    await verifier.verify(signed("ES256", kid="ES256-0"), NOW)

    for number in range(200):
        refused = await refusal(verifier, forge({"alg": "ES256", "kid": f"no-{number}"}, claims()), NOW + number * 0.05)
        assert refused.row.code == 4001

    assert len(issuer.paths) == 2


async def test_a_removed_key_stops_working_when_the_set_ages_out(issuer: Issuer) -> None:
    """An expired key serves no longer than the lifespan of the set that held it."""
    issuer.publish(jwk("ES256"), jwk("ES256", 1))
    verifier = issuer.verifier()
    removed = signed("ES256", kid="ES256-0")
    await verifier.verify(removed, NOW)
    issuer.publish(jwk("ES256", 1))

    assert (await verifier.verify(removed, NOW + LIFESPAN_S - 1)).user == "alice"
    assert (await refusal(verifier, removed, NOW + LIFESPAN_S)).row.code == 4001


async def test_an_issuer_that_is_away_means_come_back_later(issuer: Issuer) -> None:
    """Keys held go on serving; unknown ones are refused with back-off; readiness can tell why; it heals by itself."""
    issuer.publish(jwk("ES256"))
    verifier = issuer.verifier()
    await verifier.verify(signed("ES256", kid="ES256-0"), NOW)
    issuer.send(b"", status=503)

    refused = await refusal(verifier, signed("ES256", 1, kid="ES256-1"), NOW + 10)
    assert refused.retry is RetryAdvice.BACKOFF
    assert verifier.fetch_error == "the key set's server answered 503; redirects are not followed"
    assert (await verifier.verify(signed("ES256", kid="ES256-0"), NOW + 11)).user == "alice"

    issuer.publish(jwk("ES256", 1))
    assert (await verifier.verify(signed("ES256", 1, kid="ES256-1"), NOW + 16)).user == "alice"
    assert verifier.fetch_error is None


def test_failed_fetches_are_spaced_out_up_to_half_a_minute() -> None:
    """Back-off doubles from the cooldown and ends at 30 s; a good fetch resets it."""
    ring, waits = KeyRing(), []
    for _ in range(6):
        ring.note_failure(0.0)
        found = ring.find("a", 0.0)
        waits.append(getattr(found, "retry_after_s", None))
    ring.accept({}, 0.0)

    assert waits == [5, 10, 20, 30, 30, 30]
    assert getattr(ring.find("a", 0.0), "retry_after_s", None) == 5


@pytest.mark.parametrize(
    "kid", ["../keys", "' OR 1=1 --", "http://127.0.0.1:9/", "k" * 256, "\x00", "ES256-0/../ES256-1"]
)
async def test_kid_is_compared_never_followed(issuer: Issuer, kid: str) -> None:
    """Paths, SQL and addresses in `kid` are names nobody has; the only address asked is the configured one."""
    issuer.publish(jwk("ES256"))

    assert (await refusal(issuer.verifier(), signed("ES256", kid=kid))).row.code == 4001
    assert set(issuer.paths) <= {"/jwks.json?v=1"}


async def test_jku_and_x5u_are_never_followed(issuer: Issuer) -> None:
    """A header that names another key server makes no request there."""
    issuer.publish(jwk("ES256"))
    elsewhere = issuer.url.replace("/jwks.json?v=1", "/evil.json")
    import jwt as pyjwt

    for name in ("jku", "x5u"):
        headers = {name: elsewhere, "kid": "ES256-1"}
        token = pyjwt.encode(claims(), private_key("ES256", 1), algorithm="ES256", headers=headers)
        assert (await refusal(issuer.verifier(), token)).row.code == 4001

    assert set(issuer.paths) == {"/jwks.json?v=1"}


async def test_public_key_of_a_set_is_never_an_hmac_secret(issuer: Issuer) -> None:
    """The swap of families fails with published keys too, and so does a published symmetric key."""
    oct_key = {"kty": "oct", "kid": "shared", "k": b64(SECRET.encode()), "alg": "HS256", "use": "sig"}
    issuer.publish(jwk("RS256"), oct_key)
    verifier = issuer.verifier()
    public = json.dumps(jwk("RS256")).encode()

    for kid, secret in (("RS256-0", public), ("RS256-0", b""), ("shared", SECRET.encode())):
        token = forge({"alg": "HS256", "kid": kid}, claims(), secret)
        assert (await refusal(verifier, token)).row.code == 4001


def test_keys_that_must_not_sign_are_passed_over() -> None:
    """Symmetric, encryption, mislabelled, weak and broken keys are not in the ring; good ones beside them are."""
    keys = read_keys(
        document(
            {"kty": "oct", "kid": "a", "k": "AAAA"}, jwk("RS256", kid="b", use="enc"), jwk("RS256", kid="c", alg="RS512"),
            jwk("ES256", kid="d", x="!!!"), jwk("ES256", kid="e", crv="P-384"),
            {"kty": "RSA", "kid": "f", "n": "AQAB", "e": "AQAB"},
            {"kid": "g"}, None, 7, [], jwk("EdDSA", kid="h", alg=...), jwk("RS256", kid=["i"]), {"kty": ["RSA"]}, {"kty": {}},
        )
    )  # fmt: skip # many arguments

    assert {kid: key.algorithms for kid, key in keys.items()} == {"h": ("EdDSA",), "": ("RS256",)}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"keys":{}}', b'{"keys":null}', b"<html>", b"\xff",
        b"[" * 100_000, b'{"keys":' + b"[" * 100_000,
        document(*[{}] * (KEYS_MAX + 1)),
    ],
)  # fmt: skip # a case a row
def test_what_is_no_key_set_is_refused_whole(body: bytes) -> None:
    """No document, however odd, raises anything else."""
    with pytest.raises(JwksUnavailable):
        read_keys(body)


def test_huge_document_is_cut_off(issuer: Issuer) -> None:
    """A key server that sends without end is cut off at the limit, long before memory matters."""
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent < 1_000_000_000:
                handler.wfile.write(b" " * 65_536)
                sent += 65_536
        except OSError:
            return

    issuer.answer = endless

    with pytest.raises(JwksUnavailable, match=f"larger than {DOCUMENT_BYTES_MAX}"):
        fetch_keys(parse_jwks_url(issuer.url))
    assert sent < 50_000_000  # what fits in socket buffers, not what was offered


def test_server_that_drips_is_given_up(issuer: Issuer) -> None:
    """The deadline holds for the whole fetch, though every single read is quick."""
    stopped = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not stopped.wait(0.02):
                handler.wfile.write(b" ")
        except OSError:
            return

    issuer.answer = drip
    with pytest.raises(JwksUnavailable, match="too slow"):  # nothing else would end it
        fetch_keys(parse_jwks_url(issuer.url), timeout_s=0.2)
    stopped.set()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(issuer: Issuer, status: int) -> None:
    """SSRF by redirect: the address in `Location` is never asked."""
    issuer.send(b"", status=status, Location=issuer.url.replace("/jwks.json?v=1", "/internal"))

    with pytest.raises(JwksUnavailable, match="redirects are not followed"):
        fetch_keys(parse_jwks_url(issuer.url))
    assert issuer.paths == ["/jwks.json?v=1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/jwks", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/jwks", "http://0.0.0.0/jwks",
        "http://localhost.example.com/", "http://127.0.0.1.nip.io/", "http://[::ffff:10.0.0.1]/", "file:///etc/passwd",
        "ftp://example.com/jwks", "gopher://127.0.0.1:6379/_FLUSHALL", "redis://127.0.0.1", "jwks.json", "", "https://",
        "https://user:secret@example.com/jwks", "https://example.com/a b", "https://example.com/\r\nX: y", "https://example.com/ü",
        "http://2130706433/", "http://127.1/",
    ],
)  # fmt: skip # a case a row
def test_urls_that_reach_where_they_should_not_are_refused_at_start(url: str) -> None:
    """SSRF by setting: https, or plain http to a literal loopback address; no other scheme, no credentials."""
    with pytest.raises(ValueError, match="HUB_JWKS_URL"):
        parse_jwks_url(url)


@pytest.mark.parametrize(
    "url", ["https://id.example/keys", "http://127.0.0.1:8000/k", "http://localhost/k", "http://[::1]:1/k"]
)
def test_urls_that_are_allowed(url: str) -> None:
    """Addresses that operators and tests use."""
    assert parse_jwks_url(url).target.startswith("/k")


def test_nobody_answers() -> None:
    """A refused connection is an error of the set, not of the token."""
    with pytest.raises(JwksUnavailable, match="could not be fetched"):
        fetch_keys(parse_jwks_url("http://127.0.0.1:1/jwks"))


def test_one_source_of_keys_only() -> None:
    """A JWKS beside a secret would let a token choose its family."""
    with pytest.raises(ValueError, match="exactly one of"):
        open_verifier(secret=SECRET, jwks_url="https://id.example/keys")
    assert open_verifier(secret=SECRET).verify_nowait(forge({"alg": "HS256"}, claims()), NOW)
