"""The quick way for common tokens accepts nothing that PyJWT refuses, and is taken for the tokens that `sign` makes."""

from __future__ import annotations

import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.tokens import plain_claims
from support.token_forge import NOW, SECRET, claims, forge

PLAIN = {"alg": "HS256", "typ": "JWT"}
OPTIONS = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}


def by_pyjwt(token: str) -> dict[str, object] | None:
    try:
        return dict(jwt.decode(token, SECRET.encode(), algorithms=["HS256"], options=OPTIONS))  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None


@pytest.mark.parametrize("header", [PLAIN, {"alg": "HS256"}, {**PLAIN, "kid": "k1"}, {"alg": "HS256", "typ": "AT+JWT"}])
def test_common_tokens_are_read(header: dict[str, object]) -> None:
    """The claims are those that PyJWT reads."""
    token = forge(header, claims())

    assert plain_claims(token, SECRET.encode()) == by_pyjwt(token) == claims()


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "HS384"}, {"alg": "HS256", "crit": ["b64"], "b64": False}, {"alg": "HS256", "jwk": {}},
        {"alg": "HS256", "typ": "logout+jwt"}, {"alg": "HS256", "kid": 7}, {"alg": ["HS256"]}, {"typ": "JWT"},
    ],
)  # fmt: skip # a case a row
def test_other_headers_are_left_to_pyjwt(header: dict[str, object]) -> None:
    """Even where the signature is good."""
    assert plain_claims(forge(header, claims()), SECRET.encode()) is None


@pytest.mark.parametrize("change", ["signature", "payload", "header", "secret", "parts"])
def test_a_changed_token_is_left_to_pyjwt(change: str) -> None:
    """One character, or one part more, is enough."""
    header, payload, signature = forge(PLAIN, claims()).split(".")
    token = {
        "signature": f"{header}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "payload": f"{header}.{payload[:-1]}{'A' if payload[-1] != 'A' else 'Q'}.{signature}",
        "header": f"{forge({'alg': 'HS256'}, claims()).split('.')[0]}.{payload}.{signature}",
        "secret": forge(PLAIN, claims(), b"another secret of more than 32 bytes"),
        "parts": f"{header}.{payload}.{payload}.{signature}",
    }[change]

    assert plain_claims(token, SECRET.encode()) is None


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_a_payload_that_is_no_object_is_left_to_pyjwt(payload: object) -> None:
    """It may be signed well."""
    assert plain_claims(forge(PLAIN, payload), SECRET.encode()) is None  # type: ignore[arg-type]


@given(st.text(alphabet="AQgw.-_e", max_size=40))
def test_nothing_is_accepted_that_pyjwt_refuses(text: str) -> None:
    """Whatever stands in the parts."""
    if plain_claims(text, SECRET.encode()) is not None:
        assert by_pyjwt(text) is not None


def test_the_time_is_not_checked_here() -> None:
    """`read_principal` does so, for every token."""
    old = claims() | {"exp": NOW - 1_000_000}

    assert plain_claims(forge(PLAIN, old), SECRET.encode()) == json.loads(json.dumps(old))
