"""Attacks on tokens: each must end in 4001, with nothing of the token in the refusal."""

from __future__ import annotations

import json
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.tokens import TOKEN_CHARS_MAX, TokenPolicy
from hub.auth.verifier import TokenVerifier, open_verifier
from hub.errors import HubError
from support.token_forge import NOW, SECRET, b64, claims, forge, good, private_key, public_pem, signed

HEADER = {"alg": "HS256", "typ": "JWT"}
BY_SECRET = open_verifier(secret=SECRET)


def refusal(token: object, verifier: TokenVerifier = BY_SECRET) -> HubError:
    with pytest.raises(HubError) as caught:
        verifier.verify_nowait(token, NOW)  # type: ignore[arg-type]  # on purpose: JSON holds anything
    return caught.value


def test_the_forge_makes_tokens_that_are_taken_when_they_are_good() -> None:
    """Else every attack below would be refused for the wrong reason."""
    assert BY_SECRET.verify_nowait(good(), NOW).user == "alice"


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", None, "HS384", "HS512", "RS256", "hs256", "HS256 ", ["HS256"], {}, 256]
)
@pytest.mark.parametrize("secret", [None, SECRET.encode(), b""])
def test_any_other_algorithm_is_refused(alg: object, secret: bytes | None) -> None:
    """`none` in any spelling, other HMACs and other families: the header chooses nothing."""
    assert refusal(forge({"alg": alg, "typ": "JWT"}, claims(), secret)).row.code == 4001


def test_a_header_without_algorithm_is_refused() -> None:
    """Absence is no default."""
    assert refusal(forge({"typ": "JWT"}, claims())).row.code == 4001


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_key_is_never_an_hmac_secret(algorithm: str) -> None:
    """RS/HS swap: signing by HMAC with the public key, which everybody knows, gets nobody in."""
    pem = public_pem(algorithm)
    verifier = open_verifier(public_key=pem)

    assert verifier.verify_nowait(signed(algorithm), NOW).user == "alice"
    for secret in (pem.encode(), pem.strip().encode(), b""):
        assert refusal(forge(HEADER, claims(), secret), verifier).row.code == 4001
        assert refusal(forge({"alg": algorithm}, claims(), secret), verifier).row.code == 4001


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_another_key_of_the_same_kind_is_refused(algorithm: str) -> None:
    """A good signature by somebody else is a bad one."""
    assert refusal(signed(algorithm, 1), open_verifier(public_key=public_pem(algorithm))).row.code == 4001


def test_other_paddings_and_hashes_of_the_same_rsa_key_are_refused() -> None:
    """The algorithm is pinned even where the key could do others."""
    verifier = open_verifier(public_key=public_pem("RS256"))

    for alg in ("RS384", "RS512", "PS256"):
        assert refusal(jwt.encode(claims(), private_key("RS256"), algorithm=alg), verifier).row.code == 4001


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null", "/dev/null", "/proc/self/environ", "' OR '1'='1", "x' UNION SELECT 'secret';--", "$(id)",
        "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "\x00", "a\nb", "k" * 4000, "", [], {}, 7, None,
    ],
)  # fmt: skip # a case a row
@pytest.mark.parametrize("secret", [b"", b"\x00", b"secret", None])
def test_kid_is_no_path_no_query_and_no_key(kid: object, secret: bytes | None) -> None:
    """With a static key `kid` is not looked at; nothing it points to becomes a key."""
    assert refusal(forge(HEADER | {"kid": kid}, claims(), secret)).row.code == 4001


@pytest.mark.parametrize("name", ["jku", "x5u", "x5c", "jwk", "x5t"])
def test_keys_offered_by_the_header_are_never_used(name: str) -> None:
    """A token cannot bring its own key: signed by a key in its own header, or at an address in it, it is refused."""
    public = jwt.get_algorithm_by_name("RS256").to_jwk(private_key("RS256", 1).public_key(), as_dict=True)
    offers = {"jwk": public, "x5c": ["MIIB"], "x5t": "abc"}
    token = jwt.encode(
        claims(),
        private_key("RS256", 1),
        algorithm="RS256",
        headers={name: offers.get(name, "http://127.0.0.1:9/keys")},
    )

    assert refusal(token, open_verifier(public_key=public_pem("RS256"))).row.code == 4001


@pytest.mark.parametrize("typ", ["logout+jwt", "secevent+jwt", "dpop+jwt", "JWE", "", 7, [], {}])
def test_other_kinds_of_token_of_the_same_issuer_are_refused(typ: object) -> None:
    """A token signed for another purpose opens no socket; the usual names of access tokens do."""
    assert refusal(forge(HEADER | {"typ": typ}, claims())).row.code == 4001
    for usual in ("JWT", "jwt", "at+jwt"):
        assert BY_SECRET.verify_nowait(forge(HEADER | {"typ": usual}, claims()), NOW).user == "alice"


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], "b64", [1], ["\x00"]])
def test_critical_extensions_are_refused(crit: object) -> None:
    """An unknown extension that the header calls critical is refused (RFC 7515 section 4.1.11)."""
    assert refusal(forge(HEADER | {"crit": crit}, claims())).row.code == 4001


def test_unencoded_payload_is_refused() -> None:
    """`b64: false` (RFC 7797) would sign other bytes than are read."""
    header, _, signature = forge(HEADER | {"b64": False, "crit": ["b64"]}, claims()).split(".")

    assert refusal(f"{header}..{signature}").row.code == 4001
    assert refusal(forge(HEADER | {"b64": False, "crit": ["b64"]}, claims())).row.code == 4001


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d.e", "eyJ", good()[:-1], good() + "=", good() + ".", good()[5:],
        good().replace(".", ""), "Bearer " + good(), good() + "\n", " " + good(), good() + "\x00", "Ünïcödé.a.b", "\ud800.a.b",
    ],
)  # fmt: skip # a case a row
def test_what_is_no_token_is_4001(token: str) -> None:
    """Any other text."""
    assert refusal(token).row.code == 4001


@pytest.mark.interpreted  # compiled code takes no other type: a TypeError
@pytest.mark.parametrize("token", [None, 7, [], {}, True, b"bytes"])
def test_what_is_no_text_is_4001(token: object) -> None:
    """Any other type."""
    assert refusal(token).row.code == 4001


def test_token_of_the_greatest_length_is_taken_and_one_more_is_not() -> None:
    """8,192 characters are the limit; beyond it nothing is decoded."""
    filler = (TOKEN_CHARS_MAX - len(good(filler=""))) * 3 // 4
    longest = next(found for more in range(4) if len(found := good(filler="x" * (filler + more))) >= TOKEN_CHARS_MAX)

    assert BY_SECRET.verify_nowait(longest[:TOKEN_CHARS_MAX], NOW).user == "alice"
    assert refusal("a" * (TOKEN_CHARS_MAX + 1)).row.code == 4001


@pytest.mark.parametrize("where", ["header", "payload"])
def test_json_nested_a_thousand_deep_is_4001(where: str) -> None:
    """A parser that recurses must not take the node with it."""
    deep = b"[" * 2900 + b"]" * 2900
    token = forge(deep, claims()) if where == "header" else forge(HEADER, deep)

    assert refusal(token).row.code == 4001


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b'"x"', b"7", b"{", b"\xff\xfe", b'{"sub":"alice"', json.dumps([claims()]).encode()],
)
def test_payload_that_is_no_object_is_4001(payload: bytes) -> None:
    """Signed, yet not claims."""
    assert refusal(forge(HEADER, payload)).row.code == 4001


@pytest.mark.parametrize("aud", [..., "other", "", None, ["hub"], ["hub", "other"], {"hub": 1}, "HUB", "hub "])
def test_audience_must_be_ours_alone(aud: object) -> None:
    """A token for several audiences, or for another, was not meant for us."""
    refused = refusal(good(aud=aud))

    assert refused.row.code == 4001
    assert refused.details[0].field == "aud"


@pytest.mark.parametrize("iss", [..., "https://evil.example", "", None, ["https://id.example"], "https://id.example/"])
def test_issuer_must_be_the_configured_one(iss: object) -> None:
    """A configured issuer is the only one that will do."""
    verifier = open_verifier(TokenPolicy(issuer="https://id.example"), secret=SECRET)

    assert verifier.verify_nowait(good(iss="https://id.example"), NOW).user == "alice"
    assert refusal(good(iss=iss), verifier).details[0].field == "iss"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_character_anywhere_is_refused(part: int) -> None:
    """Tampering with header, claims or signature is found."""
    for at in range(0, len(good().split(".")[part]), 7):
        parts = good().split(".")
        parts[part] = parts[part][:at] + ("A" if parts[part][at] != "A" else "B") + parts[part][at + 1 :]
        assert refusal(".".join(parts)).row.code == 4001


def test_claims_of_one_token_under_the_signature_of_another_are_refused() -> None:
    """Splicing two good tokens makes a bad one."""
    head, _, tail = good().split(".")

    assert refusal(f"{head}.{b64(json.dumps(claims(sub='bob')).encode())}.{tail}").row.code == 4001


def test_expired_key_material_does_not_outlive_a_change_of_secret() -> None:
    """After the secret was changed, tokens of the old one are refused."""
    assert refusal(good(), open_verifier(secret="another-secret-of-at-least-32-bytes")).row.code == 4001


@pytest.mark.parametrize(
    "token",
    [
        forge(HEADER, claims(sub="canary 7f3a")), forge(HEADER, claims(grants={"canary 7f3a": []})),
        forge(HEADER, claims(aud="canary 7f3a")), forge({"alg": "canary 7f3a"}, claims()), "canary.7f3a.canary",
        forge(HEADER, claims(jti="canary\n7f3a")),
    ],
)  # fmt: skip # a case a row
def test_refusals_never_quote_the_token(token: str) -> None:
    """Neither in what the client is told nor in the exceptions behind it."""
    refused = refusal(token)
    chain = f"{refused.to_payload()} {refused!r} {refused.__cause__!r}"

    assert "canary" not in chain
    assert "7f3a" not in chain
    assert token not in chain


@given(
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "zip", "enc"]), st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("HS256"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)),
    changes=st.dictionaries(
        st.sampled_from(["sub", "tenant", "aud", "exp", "iat", "nbf", "grants", "jti", "name", "iss"]), st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("alice"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)),
)  # fmt: skip # many arguments
def test_signed_nonsense_is_taken_or_refused_and_never_raises_anything_else(
    header: dict[str, object], changes: dict[str, object]
) -> None:
    """Even who knows the secret can only be let in by good claims or refused by a documented code."""
    outcome: int | str
    try:
        outcome = BY_SECRET.verify_nowait(forge(header, claims(**changes)), NOW).user
    except HubError as refused:
        outcome = refused.row.code

    assert outcome in {4001, 4002} or header["alg"] == "HS256"


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda data: f"{b64(data)}.{b64(data)}.{b64(data)}"))
def test_any_text_is_refused_by_4001(token: str) -> None:
    """Nobody is let in by chance and nothing breaks."""
    assert refusal(token).row.code == 4001


def test_refusing_costs_no_more_than_accepting() -> None:
    """No refusal is a lever: the longest token costs below 20 ms of processor time."""
    tokens = ["a" * TOKEN_CHARS_MAX, "." * TOKEN_CHARS_MAX, forge(b"[" * 2900, b"["), "=" * TOKEN_CHARS_MAX]
    began = time.process_time()
    for token in tokens * 5:
        refusal(token)

    assert (time.process_time() - began) / 20 < 0.02
